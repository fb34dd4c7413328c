/* The ladder: one multiplication, C[m, n] = A[m, k] B[k, n], dense row-major float32, written six times. Each step
 * is one file, changes one thing, and says what it gained. Read them in order; gemm/tile.h and gemm/gemm.c are
 * what comes after the last step. */
#ifndef MG_LADDER_H
#define MG_LADDER_H
#include <stdint.h>

typedef int ladder_fn(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c);

ladder_fn ladder_naive, ladder_reordered, ladder_blocked, ladder_packed, ladder_vectorised, ladder_threaded;

#endif
