/* A whole captured program in one call: walk down a flat list of instructions.
 *
 * Contract.   mg_program_run executes the instructions first .. stop-1 of `code`, in order, each to its end before the next
 *             begins. It stops at the first one that fails, says which in *failed, and returns its code.
 * Idea.       Whatever can be decided before the program runs has been: which kernel, which sizes, where every value lies.
 *             An operand is a pair (base, offset): the base is one of a few pointers that may change from call to call, an
 *             argument, the memory of a parameter, the arena; the offset was planned. So an instruction costs, besides its
 *             kernel, an addition for each operand and a jump.
 * Memory.     Nothing is allocated here. Values lie in the arena, and what a kernel needs besides is the scratch block of
 *             its thread, which stays as large as it ever had to be.
 * Threads.    Each kernel spreads its own work over the pool, and keeps to itself when that is too little to share. */
#include "program.h"

#include "../gemm/gemm.h"

#include <string.h>
#include <time.h>

enum { MOST_OPERANDS = MG_MAX_INPUTS + MG_MAX_OUTPUTS };

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int gemm(const struct mg_gemm *g, void **p, int operands) {
    return mg_gemm_at(g, p[0], g->packed_b ? g->b : p[1], p[2], operands > 3 ? p[3] : NULL, NULL);
}

/* Operands: x, panels, scale, and what is added to a sum, as an integer or as a float, y. */
static int quantized_gemm(const struct mg_quantized_gemm *planned, void **p) {
    struct mg_quantized_gemm g = *planned;
    g.x = (const uint8_t *)p[0] + (g.headers ? 8 : 0);
    g.w = p[1];
    g.then.scale = p[2];
    if (g.then.to_float) g.then.offset = p[3];
    else g.bias = p[3];
    g.y = p[4];
    return mg_quantized_gemm(&g);
}

static int quantized_conv(const struct mg_quantized_conv *planned, void **p) {
    struct mg_quantized_conv c = *planned;
    c.x = p[0];
    c.weights = p[1];
    c.then.scale = p[2];
    if (c.then.to_float) c.then.offset = p[3];
    else c.bias = p[3];
    c.y = p[4];
    return mg_quantized_conv2d(&c);
}

static int weight_only(const struct mg_weight_only *planned, void **p) {
    struct mg_weight_only g = *planned;
    g.x = p[0], g.w = p[1], g.scale = p[2], g.bias = p[3], g.y = p[4];
    return mg_weight_only(&g);
}

static int loop(const struct mg_loop *l, void **p) {
    return mg_run(l->program, l->rank, l->shape, (const void *const *)p, l->strides, p + l->program->inputs, l->kept);
}

/* state: key and block of Philox. */
static int uniform(int type, int64_t n, const uint64_t *state, void *y) {
    return type == MG_F32 ? mg_random_uniform_f32(state[0], state[1], n, y) : mg_random_uniform_f64(state[0], state[1], n, y);
}

static int run(const struct mg_instruction *i, void *const *memory) {
    const int64_t *n = i->n;
    const void *a = i->attributes;
    const struct mg_pattern *m = a;   /* of instructions on edges */
    if (i->kernel == MG_DO_LANES) return mg_do_lanes(a, i->operand, memory);   /* these have any number of operands */
    if (i->kernel == MG_DO_PRODUCT) return mg_do_product(a, i->operand, memory);
    if (i->kernel == MG_DO_MIXED) return mg_do_mixed(a, i->operand, memory);

    void *p[MOST_OPERANDS];
    for (int o = 0; o < i->operands; o++) p[o] = mg_at(memory, &i->operand[o]);
    switch (i->kernel) {
    case MG_DO_GEMM: return gemm(a, p, i->operands);
    case MG_DO_LOOP: return loop(a, p);
    case MG_DO_COPY: return mg_do_copy(a, p[0], p[1]);
    case MG_DO_CONV: return mg_conv2d(a, p[0], p[1], i->operands > 3 ? p[3] : NULL, p[2]);
    case MG_DO_CONV_INPUT_GRAD: return mg_conv2d_input_grad(a, p[0], p[1], p[2]);
    case MG_DO_CONV_WEIGHT_GRAD: return mg_conv2d_weight_grad(a, p[0], p[1], p[2]);
    case MG_DO_MAX_POOL: return mg_max_pool2d(a, p[0], n[0] ? p[1] : NULL, n[1] ? p[i->operands - 1] : NULL);
    case MG_DO_MAX_POOL_GRAD: return mg_max_pool2d_grad(a, p[0], p[1], p[2]);
    case MG_DO_AVG_POOL: return mg_avg_pool2d(a, p[0], p[1]);
    case MG_DO_AVG_POOL_GRAD: return mg_avg_pool2d_grad(a, p[0], p[1]);
    case MG_DO_REDUCE: return mg_reduce(i->type, i->which, n[0], n[1], n[2], p[0], p[1]);
    case MG_DO_ARG: return mg_arg(i->type, i->which, n[0], n[1], n[2], p[0], p[1]);
    case MG_DO_SOFTMAX: return mg_softmax(i->type, i->which, n[0], n[1], n[2], p[0], p[1], NULL);
    case MG_DO_LOGSUMEXP: return mg_softmax(i->type, MG_LOGSUMEXP, n[0], n[1], n[2], p[0], NULL, p[1]);
    case MG_DO_SOFTMAX_GRAD: return mg_softmax_grad(i->type, i->which, n[0], n[1], n[2], p[0], p[1], p[2]);
    case MG_DO_CROSS_ENTROPY: return mg_cross_entropy(i->type, n[0], n[1], p[0], p[1], INT64_MIN, p[2], 0, NULL);
    case MG_DO_CROSS_ENTROPY_GRAD: return mg_cross_entropy_grad(i->type, n[0], n[1], p[0], p[1], p[2], INT64_MIN, p[3]);
    case MG_DO_CROSS_ENTROPY_BOTH: return mg_do_cross_entropy(i->type, n[0], n[1], p[0], p[1], p[2], p[3], p[4]);
    case MG_DO_STANDARDIZE:
        return mg_standardize(a, p[0], n[0] ? p[3] : NULL, n[0] ? p[4] : NULL, i->k, n[1] ? p[1] : NULL, NULL,
                              n[2] ? p[2] : NULL);
    case MG_DO_FINITE: return mg_do_finite(i->type, n[0], p[0], p[1]);
    case MG_DO_SQUARES: return mg_moments(a, p[0], NULL, p[1]);
    case MG_DO_SPMM:   /* without values, of ones */
        return mg_spmm(i->type, 0, m->rows, n[0], m->starts, m->index, i->operands > 2 ? p[2] : NULL, p[0], p[1]);
    case MG_DO_SPMM_HEADS: return mg_spmm_heads(i->type, m->rows, n[0], n[1], m->starts, m->index, p[2], p[0], p[1]);
    case MG_DO_SDDMM: return mg_sddmm(i->type, m->rows, n[0], n[1], m->starts, m->index, p[0], p[1], p[2]);
    case MG_DO_SEGMENT_MAX: return mg_segment_max(i->type, m->rows, n[0], m->starts, m->index, p[0], p[1]);
    case MG_DO_SEGMENT_SOFTMAX: return mg_segment_softmax(i->type, m->rows, n[0], m->starts, m->index, p[0], p[1]);
    case MG_DO_TAKE_ROWS: return mg_take_rows(m->rows, n[0], m->index, p[0], p[1]);
    case MG_DO_GATHER_ROWS: return mg_gather_rows(n[0], n[1], n[2], p[1], p[0], p[2]);
    case MG_DO_SCATTER_ADD_ROWS: return mg_scatter_add_rows(i->type, n[0], n[1], n[2], p[0], p[1], p[2]);
    case MG_DO_ALL_REDUCE:   /* attributes: the rank's own struct mg_member, which counts */
        return mg_group_all_reduce((struct mg_member *)a, i->type, i->which, n[0], p[0], p[1], i->k, (int)n[1]);
    case MG_DO_UNIFORM: return uniform(i->type, n[0], p[0], p[1]);
    case MG_DO_QUANTIZE: return mg_quantize(n[0], p[0], (float)i->k, i->which, p[1]);
    case MG_DO_DEQUANTIZE: return mg_dequantize(n[0], p[0], (float)i->k, i->which, p[1]);
    case MG_DO_QUANTIZE_ROWS: return mg_quantize_rows(n[0], n[1], p[0], p[1]);
    case MG_DO_QUANTIZED_GEMM: return quantized_gemm(a, p);
    case MG_DO_QUANTIZED_CONV: return quantized_conv(a, p);
    case MG_DO_QUANTIZED_ADD: return mg_quantized_add(a, n[0], p[0], p[1], p[2]);
    case MG_DO_QUANTIZED_LOOKUP: return mg_quantized_lookup(n[0], p[0], p[1], p[2]);
    case MG_DO_QUANTIZED_MAX_POOL: return mg_quantized_max_pool2d(a, p[0], p[1]);
    case MG_DO_QUANTIZED_AVG_POOL: return mg_quantized_avg_pool2d(a, p[0], p[1]);
    case MG_DO_QUANTIZED_EMBEDDING: return mg_quantized_embedding(n[0], n[1], n[2], p[0], p[1], p[2], p[3]);
    case MG_DO_WEIGHT_ONLY: return weight_only(a, p);
    }
    return MG_EARG;
}

int mg_program_run(const struct mg_code *code, int first, int stop, void *const *memory, int *failed, int64_t *nanoseconds) {
    int64_t before = nanoseconds ? now() : 0;
    for (int at = first; at < stop; at++) {
        const int status = run(&code->instructions[at], memory);
        if (status != MG_OK) {
            *failed = at;
            return status;
        }
        if (nanoseconds) {
            const int64_t after = now();
            nanoseconds[at] += after - before;
            before = after;
        }
    }
    return MG_OK;
}

int mg_program_call(const struct mg_code *code) {
    return mg_program_run(code, 0, code->count, code->memory, code->failed, NULL);
}
