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
    MG_EISA = 4       /* this processor has no such table */
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
};
int mg_gemm(const struct mg_gemm *g);

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
};
int mg_conv2d(const struct mg_conv *c, const void *x, const void *w, const void *bias, void *y);
int mg_conv2d_input_grad(const struct mg_conv *c, const void *g, const void *w, void *x);
int mg_conv2d_weight_grad(const struct mg_conv *c, const void *x, const void *g, void *w);

/* --- pooling in two dimensions ------------------------------------------------------------------------------- */
/* n planes of h x w (batch times channels), and of oh x ow. Every window must begin inside the image or its first border;
 * what it covers beyond does not count (maximum) or counts as zero (mean). Of mg_max_pool2d's results, y and index (places
 * in the flattened plane), either may be NULL. divisor 0: by the size of the window. See conv/pool2d.h. */
struct mg_pool2d {
    int type, count_include_pad;
    int64_t n, h, w, kh, kw, oh, ow, divisor;
    int64_t stride[2], dilation[2], pad[2];
};
int mg_max_pool2d(const struct mg_pool2d *p, const void *x, void *y, int64_t *index);
int mg_max_pool2d_grad(const struct mg_pool2d *p, const void *g, const int64_t *index, void *x);
int mg_avg_pool2d(const struct mg_pool2d *p, const void *x, void *y);
int mg_avg_pool2d_grad(const struct mg_pool2d *p, const void *g, void *x);

/* --- Philox4x32-10 counter-based random numbers -------------------------------------------------------------- */
/* n values starting with the first word of block `block`; see random/philox.h for the layout. */
int mg_random_bits(uint64_t key, uint64_t block, int64_t n, uint32_t *out);
int mg_random_uniform_f32(uint64_t key, uint64_t block, int64_t n, float *out);    /* one word each, in [0, 1) */
int mg_random_uniform_f64(uint64_t key, uint64_t block, int64_t n, double *out);   /* two words each, in [0, 1) */

/* --- what this machine can do, for the benchmarks ------------------------------------------------------------ */
double mg_probe_fma(int type, double seconds);                           /* FLOP/s on all threads, registers only */
double mg_probe_copy(void *dst, const void *src, int64_t bytes, int repeat);   /* bytes/s, read plus written */

#endif
