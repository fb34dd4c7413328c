#ifndef MINIGRAD_H
#define MINIGRAD_H
#include <stddef.h>
#include <stdint.h>
/* The ABI between Python and the kernels.
 *
 * cffi reads this file (lines starting with a hash are dropped), so it is the only place where a kernel is declared.
 * Rules: every function returns one of the MG_ codes below unless it is a plain question; strides count elements, not
 * bytes, and may be zero or negative for inputs; nothing here keeps a pointer after it returns; every function may be
 * called from any thread, and after a fork. */

enum {
    MG_OK = 0,
    MG_ENOMEM = 1,    /* scratch memory could not be had; the output is undefined */
    MG_ESIZE = 2,     /* a size is negative, or a byte count does not fit in an address */
    MG_EARG = 3,      /* an unknown type or activation, or an output layout that is not supported */
    MG_EISA = 4,      /* this processor has no such table */
    MG_ETIME = 5,     /* a process that was waited for did not come in time */
    MG_EPEER = 6,     /* a process that was waited for has left */
    MG_EDIFFER = 7,   /* the processes of a group do different things */
    MG_EABORT = 8     /* one of the processes that were started together has failed */
};

enum { MG_F32 = 0, MG_F64 = 1 };              /* element types */
enum { MG_LINEAR = 0, MG_RELU = 1 };          /* activations */
enum { MG_MAX_BATCH_RANK = 6 };

/* --- which table of kernels, how many threads --------------------------------------------------------------- */
const char *mg_isa(void);                     /* name of the table in use */
const char *mg_isa_at(int i);                 /* i-th table this processor can run, best last; NULL past the end */
int mg_set_isa(const char *name);
int mg_num_threads(void);
int mg_set_num_threads(int n);                /* n <= 0: as many as this process may use */
int mg_block(int type, const char *which);    /* a block size of the table in use: mr nr kc nc; 0 if unknown */

/* --- C = act(alpha * A B + beta * C + bias) ----------------------------------------------------------------- */
/* A is m x k, B is k x n, C is m x n; element (i, j) of A is a[i * rsa + j * csa], and so on: a transpose is a
 * swap of strides. bias has n elements, or is NULL. C needs a unit stride in one direction and must not overlap A
 * or B. With beta == 0, C is written and never read. Batches are walked as by numpy: stride 0 repeats an operand. */
struct mg_gemm {
    int type, act;
    int64_t m, n, k;
    const void *a, *b, *bias;
    void *c;
    int64_t rsa, csa, rsb, csb, rsc, csc;
    double alpha, beta;
    int batch_rank;
    int64_t batch[6], batch_a[6], batch_b[6], batch_c[6];
    int packed_b;                  /* b is what mg_gemm_pack_b made; see there */
};
int mg_gemm(const struct mg_gemm *g);

/* For a B that many products share, as the weights of a program that only infers: lay it out once as the kernels read
 * it, in mg_gemm_pack_bytes(type, k, n) bytes (0: too large) that the caller owns, aligned to 64 for speed. A product
 * with packed_b = 1 then takes that for b, and ignores rsb and csb; any m, alpha, beta, bias, act and batch go with it
 * (batch_b all 0; C by rows, csc == 1). The layout belongs to the table of kernels in use: MG_EARG after another one
 * was chosen, and for another type, k or n. Sums may be taken in another order than those of the unpacked product. */
int64_t mg_gemm_pack_bytes(int type, int64_t k, int64_t n);
int mg_gemm_pack_b(int type, int64_t k, int64_t n, const void *b, int64_t rsb, int64_t csb, void *packed);

/* The common case, cheap to call: one product into a row-major C (row stride n). */
int mg_matmul(int type, int64_t m, int64_t n, int64_t k, const void *a, int64_t rsa, int64_t csa,
              const void *b, int64_t rsb, int64_t csb, void *c);

/* The teaching ladder: C = A B, all row-major float32, dense. step: 0 naive, 1 reordered loops, 2 blocked, 3 packed,
 * 4 vectorised, 5 threaded. mg_ladder_name(step) is NULL past the end. */
int mg_ladder(int step, int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c);
const char *mg_ladder_name(int step);

/* --- convolution in two dimensions --------------------------------------------------------------------------- */
/* x (n, ci, h, w), weights (co, ci / groups, kh, kw), y and g (n, co, oh, ow): all dense, in this order; see conv/conv.c.
 * oh and ow must be what h, w and the rest imply. Results must not overlap inputs, and are written whole. bias: one number
 * for each of co channels, or NULL; it and `act` belong to the forward direction only. */
enum { MG_CONV_AUTO = 0, MG_CONV_DIRECT = 1, MG_CONV_WINOGRAD = 2 };

struct mg_conv {
    int type, act, algorithm;
    int64_t n, ci, co, groups, h, w, kh, kw, oh, ow;
    int64_t stride[2], dilation[2], pad[4];      /* pad: above, below, left, right */
    void *work;                                  /* memory to work in, or NULL: then it is allocated, and kept for later */
    int64_t work_bytes;                          /* calls. Contents do not matter before nor after */
    const void *packed;                          /* what mg_conv2d_pack made of w, or NULL */
};
/* For weights that many convolutions share: transform them once, if this geometry does transform weights, into
 * mg_conv2d_pack_bytes(c) bytes (0: it does not) that the caller owns, aligned to 64. They are for the forward direction and any
 * batch that is treated alike; w is still needed, for what the transforms cannot represent and after another table was chosen. */
int64_t mg_conv2d_pack_bytes(const struct mg_conv *c);
int mg_conv2d_pack(const struct mg_conv *c, const void *w, void *packed);
int mg_conv2d(const struct mg_conv *c, const void *x, const void *w, const void *bias, void *y);
int mg_conv2d_input_grad(const struct mg_conv *c, const void *g, const void *w, void *x);
int mg_conv2d_weight_grad(const struct mg_conv *c, const void *x, const void *g, void *w);

/* Bytes of `work` that a direction wants, for as many threads as are set now; given less (because more are set since), it
 * runs on as many threads as find room, and with room for none is MG_ENOMEM. Negative: a code, negated. */
enum { MG_CONV_FORWARD = 0, MG_CONV_INPUT_GRAD = 1, MG_CONV_WEIGHT_GRAD = 2 };
int64_t mg_conv2d_workspace(const struct mg_conv *c, int direction);

/* --- pooling in two dimensions ------------------------------------------------------------------------------- */
/* n planes of h x w (batch times channels), and of oh x ow. Every window must begin inside the image or its first border;
 * what it covers beyond does not count (maximum) or counts as zero (mean). Of mg_max_pool2d's results, y and index (places
 * in the flattened plane), either may be NULL. divisor 0: by the size of the window. Borders are narrower than the window. See
 * conv/pool2d.h. */
struct mg_pool2d {
    int type, count_include_pad;
    int64_t n, h, w, kh, kw, oh, ow, divisor;
    int64_t stride[2], dilation[2], pad[2];
};
int mg_max_pool2d(const struct mg_pool2d *p, const void *x, void *y, int64_t *index);
int mg_max_pool2d_grad(const struct mg_pool2d *p, const void *g, const int64_t *index, void *x);   /* MG_EARG: a place outside */
/* Likewise through a relu before or behind the pooling, whose result was y: g counts where y > 0. */
int mg_max_pool2d_relu_grad(const struct mg_pool2d *p, const void *g, const void *y, const int64_t *index, void *x);
int mg_avg_pool2d(const struct mg_pool2d *p, const void *x, void *y);
int mg_avg_pool2d_grad(const struct mg_pool2d *p, const void *g, void *x);

/* --- Philox4x32-10 counter-based random numbers -------------------------------------------------------------- */
/* n values starting with the first word of block `block`; see random/philox.h for the layout. */
int mg_random_bits(uint64_t key, uint64_t block, int64_t n, uint32_t *out);
int mg_random_uniform_f32(uint64_t key, uint64_t block, int64_t n, float *out);    /* one word each, in [0, 1) */
int mg_random_uniform_f64(uint64_t key, uint64_t block, int64_t n, double *out);   /* two words each, in [0, 1) */

/* --- elementwise programs ------------------------------------------------------------------------------------ */
/* A program is a straight list of steps on values. Values 0 .. inputs-1 are the inputs, the next `outputs` values are the
 * outputs, the rest is temporary; a step may overwrite any of them but an input. An output may be read again after it
 * was written. Names: _K has the constant k for its last operand, R.._K for its first.
 *
 *     FMA a*b+c   FMS a*b-c   FNMA c-a*b   FMA_K a*k+b   FMS_K a*k-b   FMAK a*b+k   AFFINE a*k+k2   CUBIC a*(a*a*k+k2)
 *     WHERE a ? b : c   (the k of MAX_K and MIN_K is not NaN)
 *     SIGMOID 1/(1+exp(-a))   SILU a/(1+exp(-a))   GATE a/(1+exp(b))   RATIO a/(sqrt(b)+k)
 *     SLOPE a+a*(1-a)*q, q = b*(b*b*k+k2) limited to +-MG_SLOPE_LIMIT (a is finite)
 *
 * CONST steps at the head of a program run once, and their values must not be overwritten. */
enum {
    MG_OP_CONST, MG_OP_COPY, MG_OP_NEG, MG_OP_ABS, MG_OP_SIGN, MG_OP_SQUARE, MG_OP_SQRT, MG_OP_EXP, MG_OP_EXPM1,
    MG_OP_LOG, MG_OP_LOG1P, MG_OP_TANH, MG_OP_ERF, MG_OP_SIN, MG_OP_COS, MG_OP_FLOOR, MG_OP_CEIL, MG_OP_RINT,
    MG_OP_TRUNC, MG_OP_ISNAN, MG_OP_ISFINITE, MG_OP_NOT, MG_OP_SIGMOID, MG_OP_SILU, MG_OP_GATE, MG_OP_ADD, MG_OP_SUB,
    MG_OP_MUL, MG_OP_DIV, MG_OP_MAX, MG_OP_MIN, MG_OP_POW, MG_OP_LT, MG_OP_LE, MG_OP_EQ, MG_OP_NE, MG_OP_AND,
    MG_OP_OR, MG_OP_ADD_K, MG_OP_MUL_K, MG_OP_RSUB_K, MG_OP_DIV_K, MG_OP_RDIV_K, MG_OP_MAX_K, MG_OP_MIN_K,
    MG_OP_POW_K, MG_OP_LT_K, MG_OP_LE_K, MG_OP_GT_K, MG_OP_GE_K, MG_OP_EQ_K, MG_OP_NE_K, MG_OP_FMA, MG_OP_FMS,
    MG_OP_FNMA, MG_OP_FMA_K, MG_OP_FMS_K, MG_OP_FMAK, MG_OP_AFFINE, MG_OP_CUBIC, MG_OP_WHERE, MG_OP_RATIO,
    MG_OP_SLOPE, MG_OPS
};
enum { MG_MAX_RANK = 8, MG_MAX_INPUTS = 24, MG_MAX_OUTPUTS = 8, MG_MAX_VALUES = 64, MG_TILE_BYTES = 1024 };
enum { MG_SLOPE_LIMIT = 1 << 20 };
struct mg_step {
    int32_t op, dst, a, b, c;      /* operands that an op does not have are 0 */
    double k, k2;
};
struct mg_program {
    int type, inputs, outputs, values, steps;
    const struct mg_step *code;
    uint8_t is_bool[32];           /* for each input, then for each output: one byte an element instead of a number */
};
/* Run over arrays that broadcast to `shape`. strides: inputs x rank, 0 where an input is broadcast. The outputs are
 * row-major and must overlap nothing. kept may be NULL; else output o is summed over all but its last kept[o] dimensions,
 * unless kept[o] < 0. MG_EARG for a malformed program. */
int mg_run(const struct mg_program *p, int rank, const int64_t *shape, const void *const *in, const int64_t *strides,
           void *const *out, const int *kept);
/* The common case, cheap to call: at most three inputs and one output, all of n numbers that lie side by side. */
int mg_run_flat(const struct mg_program *p, int64_t n, const void *a, const void *b, const void *c, void *out);

/* --- reductions over one dimension of a row-major array (outer, n, inner) -------------------------------------- */
enum { MG_SUM = 0, MG_MAX = 1, MG_MIN = 2 };
int mg_reduce(int type, int op, int64_t outer, int64_t n, int64_t inner, const void *x, void *y);   /* y: (outer, inner) */
int mg_arg(int type, int op, int64_t outer, int64_t n, int64_t inner, const void *x, int64_t *y);   /* the first; n > 0 */

/* Softmax and log-softmax write y; MG_LOGSUMEXP writes lse (outer, inner) and wants y == NULL. The gradients take the
 * result y of the forward. No overlap of inputs and outputs. */
enum { MG_SOFTMAX = 0, MG_LOG_SOFTMAX = 1, MG_LOGSUMEXP = 2 };
int mg_softmax(int type, int what, int64_t outer, int64_t n, int64_t inner, const void *x, void *y, void *lse);
int mg_softmax_grad(int type, int what, int64_t outer, int64_t n, int64_t inner, const void *g, const void *y, void *gx);

/* loss[i] = logsumexp(x[i]) - x[i][target[i]], 0 where target[i] == ignore; and, unless gx is NULL, in the same pass
 * gx = scale * d(sum of loss)/dx. loss may be NULL. MG_EARG for a target out of range. The _grad takes a g per row. */
int mg_cross_entropy(int type, int64_t rows, int64_t n, const void *x, const int64_t *target, int64_t ignore, void *loss,
                     double scale, void *gx);
int mg_cross_entropy_grad(int type, int64_t rows, int64_t n, const void *g, const void *x, const int64_t *target,
                          int64_t ignore, void *gx);

/* Groups of elements that are standardised together: `segments` runs of `length` elements each. w and b (either may be
 * NULL) have `length` elements if per_element, which needs segments == 1, else one element a group. */
struct mg_groups {
    int type, per_element;
    int64_t groups, segments, length, group_stride, segment_stride;
};
/* y = (x - mean) * rstd * w + b with rstd = 1 / sqrt(var + eps), in y laid out like x; mean and rstd have one element a
 * group. Each of the three outputs may be NULL. */
int mg_standardize(const struct mg_groups *s, const void *x, const void *w, const void *b, double eps, void *y, void *mean,
                   void *rstd);
/* The mean of each group and the sum of squared deviations from it. */
int mg_moments(const struct mg_groups *s, const void *x, void *mean, void *m2);
int mg_standardize_grad(const struct mg_groups *s, const void *g, const void *x, const void *mean, const void *rstd,
                        const void *w, void *gx, void *gw, void *gb);

/* --- optimizers: one step for a list of tensors ----------------------------------------------------------------- */
struct mg_parameter {
    void *p;                       /* n parameters */
    const void *g;                 /* their gradient */
    void *m, *v, *top;             /* first moment (or momentum), second moment, its maximum; NULL where not used */
    int64_t n;
};
/* g += weight_decay p; m = first ? g : momentum m + (1 - dampening) g; p -= lr (nesterov ? g + momentum m : m), or
 * p -= lr g where m is NULL. maximize: of -g. */
struct mg_sgd {
    double lr, momentum, dampening, weight_decay;
    int nesterov, maximize, first;
};
int mg_sgd(int type, int count, const struct mg_parameter *t, const struct mg_sgd *o);
/* Adam with its bias corrections at step t = 1, 2, ...; decoupled: AdamW, p *= 1 - lr weight_decay, instead of adding
 * weight_decay p to g. With `top`, the largest v so far is used (AMSGrad). */
struct mg_adam {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t step;
    int decoupled, maximize;
};
int mg_adam(int type, int count, const struct mg_parameter *t, const struct mg_adam *o);

/* --- sparse matrices (CSR) and rows by index --------------------------------------------------------------------- */
/* Row r has the nonzeros starts[r] .. starts[r+1]-1; wide: indices are int64, else int32. mg_spmm trusts the matrix:
 * mg_csr_check it once (MG_EARG if it is malformed). values == NULL: all ones. x is (columns, features), y = A x. */
int mg_csr_check(int wide, int64_t rows, int64_t columns, int64_t nonzeros, const void *starts, const void *index);
int mg_spmm(int type, int wide, int64_t rows, int64_t features, const void *starts, const void *columns, const void *values,
            const void *x, void *y);
int mg_csr_transpose(int type, int wide, int64_t rows, int64_t columns, const void *starts, const void *index,
                     const void *values, void *t_starts, void *t_index, void *t_values);
/* y[i] = x[index[i]], rows of `bytes` bytes; y[index[i]] += x[i], in the order of i. MG_EARG if an index is not in
 * 0 .. rows-1; nothing was written then. */
int mg_gather_rows(int64_t n, int64_t rows, int64_t bytes, const int64_t *index, const void *x, void *y);
int mg_scatter_add_rows(int type, int64_t n, int64_t rows, int64_t width, const int64_t *index, const void *x, void *y);

/* --- edges of graphs: matrices with int32 indices, which are trusted; see sparse/edges.h ------------------------ */
/* Dense arrays are (nodes, heads, features), values (nonzeros, heads). Nothing may overlap the result. */
int mg_spmm_heads(int type, int64_t rows, int64_t heads, int64_t features, const int32_t *starts, const int32_t *columns,
                  const void *values, const void *x, void *y);
int mg_sddmm(int type, int64_t rows, int64_t heads, int64_t features, const int32_t *starts, const int32_t *columns,
             const void *left, const void *right, void *values);
/* y[r] = the maximum of x[columns[k]] over the nonzeros of row r, 0 where there are none. */
int mg_segment_max(int type, int64_t rows, int64_t features, const int32_t *starts, const int32_t *columns, const void *x, void *y);
/* y[e] = the softmax of x over the places e = places[k] of row r; each place belongs to one row. */
int mg_segment_softmax(int type, int64_t rows, int64_t width, const int32_t *starts, const int32_t *places, const void *x, void *y);
/* y[i] = x[index[i]], rows of `bytes` bytes. */
int mg_take_rows(int64_t n, int64_t bytes, const int32_t *index, const void *x, void *y);
/* Group 0 .. n-1 by keys in 0 .. bound-1: group b is order[starts[b]] .. order[starts[b+1]-1], in rising order. MG_EARG for
 * a key out of range. */
int mg_group(int64_t n, int64_t bound, const int32_t *keys, int32_t *starts, int32_t *order);

/* Neighbours of seeds, sampled in `hops` steps; see sparse/sampler.c. Rows of the graph (starts_of, index) are the targets of
 * edges. local: `rows` times -1, and so again afterwards. Results: nodes (the seeds first), and as a matrix over them
 * starts, sources, and which nonzero of the graph each edge is; nodes_after[h]: how many nodes there are after hop h.
 * MG_EARG for seeds out of range or given twice, MG_ENOMEM where there is no room. */
struct mg_sample {
    int64_t rows, seeds_given, nodes_room, edges_room, nodes_found, edges_found;
    int hops;
    uint64_t seed;
    const int32_t *starts_of, *index, *seeds;
    const int64_t *fanouts;
    int32_t *local, *nodes, *starts, *sources, *edges;
    int64_t *nodes_after;
};
int mg_sample_neighbors(struct mg_sample *b);

/* --- integers: products, convolution and pooling of quantized arrays ---------------------------------------------- */
/* Activations are uint8, scale_x (x - zero); weights int8, -127 .. 127, with a scale for each output. See ops/quantized.py for
 * the rule, which leaves no bit open. A sum of products becomes
 *     y = clamp(rint(float(sum) * scale[j]) + zero, low, high)      as uint8, rint half to even, or
 *     y = clamp(float(sum) * scale[j] + offset[j], least, most)     as float, by two operations; offset may be NULL. */
struct mg_requantize {
    const float *scale, *offset;
    int to_float, zero, low, high;
    float least, most;
};

/* Weights lie in panels of 16 columns, the same for every table of kernels: for panel j / 16, first the sums of its columns
 * (16 int32), then for every four steps p .. p+3 of k the bytes w[p..p+3][j] of column 0, those of column 1, and so on: int8
 * (panels, 1 + ceil(k / 4), 16, 4), with zeros where there are no columns or steps. mg_quantized_pack makes this of element
 * (p, j) at w[p * rsw + j * csw], and mg_quantized_pack_bytes says how long it is (0: too large). */
int64_t mg_quantized_pack_bytes(int64_t k, int64_t n);
int mg_quantized_pack(int64_t k, int64_t n, const int8_t *w, int64_t rsw, int64_t csw, int8_t *panels);

/* y[i][j] = then(bias[j] + sum_p (x[i][p] - zero) * w[p][j]), i < m, j < n, p < k, the sum in 32 bits: exact for k up to
 * 65,536. Rows of x and y are rsx and rsy elements apart. bias may be NULL. headers: the 8 bytes before each row of x are a
 * scale, float, and a zero point, int32, of its own; then the sum is multiplied by (that scale * scale[j]). */
struct mg_quantized_gemm {
    int64_t m, n, k, rsx, rsy;
    const uint8_t *x;
    const int8_t *w;               /* panels */
    const int32_t *bias;
    void *y;
    int zero, headers;
    struct mg_requantize then;
};
int mg_quantized_gemm(const struct mg_quantized_gemm *g);

/* y (n, oh, ow, co) = then(...) likewise, of images x (n, h, w, ci), channels last, with `zero` around them: product
 * p = (row * kw + column) * ci / groups + channel of a patch. w: the panels of each group, one after the other; or, where
 * groups == ci == co, the panels of one matrix of kh * kw steps and co columns. */
struct mg_quantized_conv {
    int64_t n, ci, co, groups, h, w, kh, kw, oh, ow;
    int64_t stride[2], dilation[2], pad[4];      /* pad: above, below, left, right */
    const uint8_t *x;
    const int8_t *weights;
    const int32_t *bias;
    void *y;
    int zero;
    struct mg_requantize then;
};
int mg_quantized_conv2d(const struct mg_quantized_conv *c);

/* Windows of channels-last images; places outside do not count for the maximum; for the mean they are `zero`, and count if
 * count_include_pad says so; divisor 0: the places that count. */
struct mg_quantized_pool {
    int64_t n, c, h, w, kh, kw, oh, ow, divisor;
    int64_t stride[2], dilation[2], pad[2];
    int zero, count_include_pad;
};
int mg_quantized_max_pool2d(const struct mg_quantized_pool *p, const uint8_t *x, uint8_t *y);
int mg_quantized_avg_pool2d(const struct mg_quantized_pool *p, const uint8_t *x, uint8_t *y);

/* Codes of floats: clamp(rint(x * reciprocal) + zero, 0, 255), 0 for NaN; and back: (x - zero) * scale. */
int mg_quantize(int64_t n, const float *x, float reciprocal, int zero, uint8_t *y);
int mg_dequantize(int64_t n, const uint8_t *x, float scale, int zero, float *y);
/* Rows of k floats become rows of 8 + k bytes: a header as above, and codes of the row's own range. */
int mg_quantize_rows(int64_t rows, int64_t k, const float *x, uint8_t *y);
/* clamp(rint((a - zero_a) * scale_a + (b - zero_b) * scale_b) + zero, low, high), each operation rounded. */
struct mg_quantized_add {
    float scale_a, scale_b;
    int zero_a, zero_b, zero, low, high;
};
int mg_quantized_add(const struct mg_quantized_add *q, int64_t n, const uint8_t *a, const uint8_t *b, uint8_t *y);
int mg_quantized_lookup(int64_t n, const uint8_t *x, const uint8_t *table, uint8_t *y);   /* a table of 256 */
/* y[i] = scale[index[i]] * w[index[i]], rows of an int8 table; MG_EARG for an index out of range, nothing was written then. */
int mg_quantized_embedding(int64_t n, int64_t rows, int64_t width, const int64_t *index, const int8_t *w, const float *scale,
                           float *y);
/* y (m, n) = (x w^T) * scale + bias in floats, w int8 (n, k), all dense. */
struct mg_weight_only {
    int64_t m, n, k;
    const float *x;
    const int8_t *w;
    const float *scale, *bias;
    float *y;
};
int mg_weight_only(const struct mg_weight_only *g);

/* The set of integer kernels within the table in use: the dot product it is made of, best last. mg_set_isa chooses the best. */
const char *mg_dot(void);
const char *mg_dot_at(int i);
int mg_set_dot(const char *name);

/* --- whole programs: see program/program.c ----------------------------------------------------------------------- */
enum {
    MG_DO_GEMM, MG_DO_PRODUCT, MG_DO_LOOP, MG_DO_LANES, MG_DO_MIXED, MG_DO_COPY, MG_DO_CONV, MG_DO_CONV_INPUT_GRAD, MG_DO_CONV_WEIGHT_GRAD,
    MG_DO_MAX_POOL, MG_DO_MAX_POOL_GRAD, MG_DO_AVG_POOL, MG_DO_AVG_POOL_GRAD, MG_DO_REDUCE, MG_DO_ARG, MG_DO_SOFTMAX,
    MG_DO_LOGSUMEXP, MG_DO_SOFTMAX_GRAD, MG_DO_CROSS_ENTROPY, MG_DO_CROSS_ENTROPY_GRAD, MG_DO_CROSS_ENTROPY_BOTH,
    MG_DO_STANDARDIZE, MG_DO_SQUARES, MG_DO_FINITE,
    MG_DO_SPMM, MG_DO_SPMM_HEADS, MG_DO_SDDMM, MG_DO_SEGMENT_MAX, MG_DO_SEGMENT_SOFTMAX, MG_DO_TAKE_ROWS,
    MG_DO_ALL_REDUCE, MG_DO_UNIFORM,
    MG_DO_QUANTIZE, MG_DO_DEQUANTIZE, MG_DO_QUANTIZE_ROWS, MG_DO_QUANTIZED_GEMM, MG_DO_QUANTIZED_CONV, MG_DO_QUANTIZED_ADD,
    MG_DO_QUANTIZED_LOOKUP, MG_DO_QUANTIZED_MAX_POOL, MG_DO_QUANTIZED_AVG_POOL, MG_DO_QUANTIZED_EMBEDDING, MG_DO_WEIGHT_ONLY,
    MG_DO_GATHER_ROWS, MG_DO_SCATTER_ADD_ROWS
};
/* Where an operand lies: `offset` bytes behind memory[base]. */
struct mg_operand {
    int64_t base, offset;
};
struct mg_instruction {
    int32_t kernel, operands;      /* an MG_DO_ */
    const struct mg_operand *operand;
    const void *attributes;        /* the descriptor of the kernel, where it takes one; below, what others take */
    int32_t type, which;
    int64_t n[3];
    double k;
};
struct mg_code {
    const struct mg_instruction *instructions;
    int count;
    void *const *memory;           /* these two for mg_program_call */
    int *failed;
};
/* Run instructions first .. stop-1. If one fails, its position is left in *failed. nanoseconds may be NULL, else the time
 * of each is added to its entry. The instructions are trusted: offsets and sizes are the compiler's business. */
int mg_program_call(const struct mg_code *code);   /* all of them, without times */
int mg_program_run(const struct mg_code *code, int first, int stop, void *const *memory, int *failed, int64_t *nanoseconds);

/* Attributes of MG_DO_LOOP: mg_run; the operands are its inputs, then its outputs. */
struct mg_loop {
    const struct mg_program *program;
    int rank;
    const int64_t *shape, *strides;
    const int *kept;
};
/* Attributes of MG_DO_LANES: one elementwise program over many tensors, such as an optimizer's step over all parameters.
 * Operands, for each lane: inputs, outputs, scalars. Inputs and outputs of a lane have n[lane] elements, side by side; an
 * output may be an input if the program does not read that again after having written it. A scalar is one number, which
 * takes the place of an immediate: patch (step, 0 for k or 1 for k2, scalar, sign). Types as in `program`. */
enum { MG_MAX_PATCHED = 64 };
struct mg_patch {
    int32_t step, second, scalar, sign;
};
struct mg_lanes {
    const struct mg_program *program;
    int lanes, scalars, patches;
    const struct mg_patch *patch;
    const int64_t *n, *first;      /* first[lane]: its first chunk of MG_LANE_CHUNK elements; first[lanes]: how many */
    int chain;                     /* what mg_lanes_chain says of the program, or 0 */
    int32_t array[8], immediate[8];
};
/* Whether a program is one of those that have a loop of their own: its number, or 0. Then array and immediate (8 of each) are
 * filled in: which input or output is which of the loop's, and the steps whose immediates it takes. */
int mg_lanes_chain(const struct mg_program *p, int32_t *array, int32_t *immediate);
enum { MG_LANE_CHUNK = 8192 };
/* Attributes of MG_DO_PRODUCT: a product that is an input, number `input`, of a program of one lane, and is nowhere else: block by
 * block it goes from the product's tiles to the program through L1. Operands: a, b, bias if there is one, then those of the lane,
 * where the one for that input is ignored. No batch, and k elements are at most MG_SHALLOW bytes, else MG_EARG. */
enum { MG_SHALLOW = 1024 };
struct mg_product {
    struct mg_gemm gemm;
    struct mg_lanes lanes;
    int input, has_bias;
};
/* Attributes of MG_DO_MIXED: the same for numbers of several types at once; slower, for labels, counters and single numbers.
 * Operands, for each lane: inputs, then outputs, each of `type` and with n elements, or (apart[i] == 0, inputs only) one. */
enum { MG_T_F32, MG_T_F64, MG_T_BOOL, MG_T_U8, MG_T_I8, MG_T_I32, MG_T_I64, MG_T_I16 };
struct mg_mixed_step {
    int32_t op, type, dst, a, b, c;   /* an MG_OP_; the type of the result; operands as in mg_step */
    double k;
    int64_t i;                        /* of a CONST of an integer type */
};
struct mg_mixed {
    int lanes, inputs, outputs, values, steps;
    const struct mg_mixed_step *code;
    const int32_t *type, *apart;      /* types of all values; apart: of inputs */
    int64_t n;
};
/* Attributes of instructions on edges: the pattern of a sparse matrix. */
struct mg_pattern {
    int64_t rows;
    const int32_t *starts, *index;
};
/* Attributes of MG_DO_COPY: elements of `size` bytes, both sides strided (in elements). Operands: from, to. */
struct mg_copy {
    int size, rank;
    int64_t shape[8], from[8], to[8];
};

/* --- groups of processes that share memory: see distributed/group.c -------------------------------------------------- */
enum { MG_GROUP_SUM, MG_GROUP_MEAN, MG_GROUP_PROD, MG_GROUP_MAX, MG_GROUP_MIN };
enum {
    MG_GROUP_BARRIER = 1, MG_GROUP_ALL_REDUCE, MG_GROUP_REDUCE, MG_GROUP_REDUCE_SCATTER, MG_GROUP_BROADCAST, MG_GROUP_ALL_GATHER,
    MG_GROUP_SEND, MG_GROUP_RECV, MG_GROUP_EXCHANGE
};
struct mg_event {                  /* a collective: when it began and ended, and how long it waited, nanoseconds */
    int64_t begin, end, waited, kind, bytes;
};
struct mg_log {
    int64_t most, count;           /* room, and how many there were, which may be more */
    struct mg_event *events;
};
struct mg_member {                 /* one rank's side of a group, its own; mg_group_join fills it in */
    void *memory, *world;          /* of the group, and of the one that all processes were started for */
    int world_rank;
    int rank, size, half, other, spins;
    int failed;                    /* MG_EPEER and the like, from the first failure on; the memory is not touched then */
    uint32_t turn;
    double timeout;                /* seconds that a wait may take */
    int64_t waited, sent;          /* nanoseconds of waiting so far; bytes of the last message */
    struct mg_log *log;            /* where collectives are noted, or NULL */
};
struct mg_watch {                  /* how a rank is, seconds; its last two collectives, and what it last did in any group */
    int joined, left, kind[3], type[3], op[3], root[3];
    uint32_t turn;
    double silent, waiting;
    int64_t n[3];
};
/* The segment of a group, zeroed: two buffers of `slot` bytes a rank, `mail` bytes a pair of ranks. */
int64_t mg_group_bytes(int size, int64_t slot, int64_t mail, int64_t heap);
int mg_group_create(void *memory, int size, int64_t slot, int64_t mail, int64_t heap);
/* This rank's heap, `bytes` of it: memory that all ranks of the world can reach, for what is reduced. */
void *mg_group_heap(const struct mg_member *m, int64_t *bytes);
int mg_group_join(struct mg_member *m, void *memory, int rank);
/* Join a group of some ranks, of the same processes as `world`, which is joined already: who aborts that, aborts this. */
int mg_group_join_part(struct mg_member *m, void *memory, int rank, const struct mg_member *world);
void mg_group_leave(struct mg_member *m);
void mg_group_beat(struct mg_member *m);
void mg_group_abort(void *memory, int rank);
void mg_group_watch(void *memory, int rank, struct mg_watch *w);
/* Types are MG_T_; the weights are for MG_GROUP_MEAN, which is for floating point. x may be y. tag >= 0: a number that all
 * ranks must give alike, so that two reductions of one size are not taken for each other. */
int mg_group_barrier(struct mg_member *m);
int mg_group_all_reduce(struct mg_member *m, int type, int op, int64_t n, const void *x, void *y, double weight, int tag);
int mg_group_reduce(struct mg_member *m, int type, int op, int root, int64_t n, const void *x, void *y);
int mg_group_reduce_scatter(struct mg_member *m, int type, int op, int64_t n, const void *x, void *y);
int mg_group_broadcast(struct mg_member *m, int root, int64_t bytes, void *x);
int mg_group_all_gather(struct mg_member *m, int64_t bytes, const void *x, void *y);
int mg_group_send(struct mg_member *m, int to, int64_t bytes, const void *x);
int mg_group_recv(struct mg_member *m, int from, int64_t bytes, void *x);
/* Both at once, so that two ranks can hand each other more than a mailbox holds. */
int mg_group_exchange(struct mg_member *m, int to, int64_t sent, const void *x, int from, int64_t taken, void *y);

/* --- what this machine can do, for the benchmarks ------------------------------------------------------------ */
double mg_probe_fma(int type, double seconds);                           /* FLOP/s on all threads, registers only */
double mg_probe_copy(void *dst, const void *src, int64_t bytes, int repeat);   /* bytes/s, read plus written */

#endif
