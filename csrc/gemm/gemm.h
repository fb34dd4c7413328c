/* What is done to the blocks of a product while they are in L1: an activation, a mask, an optimizer's step. */
#ifndef MG_GEMM_H
#define MG_GEMM_H
#include "../minigrad.h"

/* run(arg, at, rows, columns, c) is called for every block of C, by any thread, when it is complete (alpha, beta, bias and
 * activation done): `rows` rows of `columns` elements, from element `at` of the whole C (n columns, row by row); they lie at c,
 * without gaps. It takes no scratch. */
struct mg_then {
    void (*run)(const void *arg, int64_t at, int64_t rows, int64_t columns, const void *c);
    const void *arg;
};

/* mg_gemm with these operands, whatever g says. then: what to do in place of storing C, or NULL; c, rsc and csc are not looked at,
 * and a batch, a beta, and more than MG_SHALLOW bytes of k elements are MG_EARG. */
int mg_gemm_at(const struct mg_gemm *g, const void *a, const void *b, void *c, const void *bias, const struct mg_then *then);

#endif
