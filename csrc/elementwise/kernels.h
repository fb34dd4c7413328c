/* What a table holds for elementwise work; the fields of one element type. Used by elementwise/program.c. */
#ifndef MG_ELEMENTWISE_KERNELS_H
#define MG_ELEMENTWISE_KERNELS_H
#include "minigrad.h"

/* Every MG_OP_ of minigrad.h, to build the table of steps. */
#define MG_FOR_EACH_OP(X)                                                                                          \
    X(CONST) X(COPY) X(NEG) X(ABS) X(SIGN) X(SQUARE) X(SQRT) X(EXP) X(EXPM1) X(LOG) X(LOG1P) X(TANH) X(ERF) X(SIN)   \
    X(COS) X(FLOOR) X(CEIL) X(RINT) X(TRUNC) X(ISNAN) X(ISFINITE) X(NOT) X(SIGMOID) X(SILU) X(GATE)                  \
    X(ADD) X(SUB) X(MUL) X(DIV) X(MAX) X(MIN) X(POW) X(LT) X(LE) X(EQ) X(NE) X(AND) X(OR)                            \
    X(ADD_K) X(MUL_K) X(RSUB_K) X(DIV_K) X(RDIV_K) X(MAX_K) X(MIN_K) X(POW_K)                                        \
    X(LT_K) X(LE_K) X(GT_K) X(GE_K) X(EQ_K) X(NE_K)                                                                  \
    X(FMA) X(FMS) X(FNMA) X(FMA_K) X(FMS_K) X(FMAK) X(AFFINE) X(CUBIC) X(WHERE)    \
    X(RATIO) X(SLOPE)

typedef void mg_step_fn(int n, void *d, const void *a, const void *b, const void *c, double k, double k2);

/* Programs that have a loop of their own, see program/lanes.c. */
enum {
    MG_CHAIN_NONE, MG_CHAIN_ADAM, MG_CHAIN_ADAMW, MG_CHAIN_MASK,
    MG_CHAIN_MOMENTUM, MG_CHAIN_DECAY = 1, MG_CHAIN_NESTEROV = 2, MG_CHAINS = MG_CHAIN_MOMENTUM + 4   /* added up */
};
/* Adam: x is g, m, v, p and the results m, v, p; k: the factors of m and g in m, of v and g^2 in v, eps, the rate, the factor of p.
 * Mask, the gradient of relu: g, y and the result. Momentum: g, m, p and the results m, p; the factors of m in m, of the step
 * in p, of p in the gradient (decay), and of m in the step (Nesterov). */
typedef void mg_chain_fn(int64_t n, void *const *x, const double *k);

struct mg_elementwise_kernels {
    mg_step_fn *const *steps;                                     /* by MG_OP_ */
    mg_chain_fn *const *chains;                                   /* by MG_CHAIN_ */
    void (*from_bool)(int64_t n, const uint8_t *src, void *dst);
    void (*to_bool)(int64_t n, const void *src, uint8_t *dst);
    void (*stream)(int64_t n, const void *src, void *dst);        /* copy past the caches */
};

#endif
