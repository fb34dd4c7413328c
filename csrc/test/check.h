/* What the checks of kernels share. `make sanitize` builds csrc/test/ and the rest of csrc/ with the sanitizers, without
 * Python: see check.c. */
#ifndef MG_CHECK_H
#define MG_CHECK_H
#include "../minigrad.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__)   /* races only: fewer cases, those that threads share */
enum { RACES = 1 };
#else
enum { RACES = 0 };
#endif

#define CHECK(condition, ...)                                                                                           \
    do {                                                                                                                \
        if (!(condition)) {                                                                                             \
            fprintf(stderr, "%s:%d: %s, %d threads: " #condition ": ", __FILE__, __LINE__, mg_isa(), mg_num_threads()); \
            fprintf(stderr, __VA_ARGS__);                                                                               \
            fputc('\n', stderr);                                                                                        \
            exit(1);                                                                                                    \
        }                                                                                                               \
    } while (0)
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* --- memory: exactly `bytes` bytes, the page behind them closed, so that the processor itself stops a vector that reaches
 * past the end (masked loads and stores, which the sanitizers do not see, included); filled with NaN, or -1 ------------- */
void *space(size_t bytes);
void drop(void *p);

static inline size_t size_of(int type) { return type == MG_F32 ? 4 : 8; }
static inline double epsilon(int type) { return type == MG_F32 ? 0x1p-23 : 0x1p-52; }
static inline double get(int type, const void *x, int64_t i) {
    return type == MG_F32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}
static inline void put(int type, void *x, int64_t i, double v) {
    if (type == MG_F32) ((float *)x)[i] = (float)v;
    else ((double *)x)[i] = v;
}
static inline void *numbers(int type, int64_t n) { return space((size_t)n * size_of(type)); }   /* all NaN */
void *fresh(int type, int64_t n);                                       /* random numbers in [-1, 1), exact in float32 */
void *copy_of(int type, int64_t n, const void *x);
static inline void blank(void *x, size_t bytes) { memset(x, 255, bytes); }

/* --- random choices, the same in every run --------------------------------------------------------------------------- */
double draw(void);                                                      /* in [-1, 1) */
int64_t pick(int64_t low, int64_t high);                                /* low <= . <= high */

/* --- settings: the kernels run on every table, on one thread and on two ----------------------------------------------- */
int setting(int r);              /* choose the r-th setting; 0 past the last */
#define FOR_EACH_SETTING for (int r_ = 0; setting(r_); r_++)
/* The result on one thread is kept in `first`; on two threads, it must have the same bits. */
void same_bits(void *first, const void *y, size_t bytes, const char *what);
/* Whether x is y within `tolerance`; of values that are not finite, only the same. */
int near(int type, double x, double y, double tolerance);
/* f(arg) on a thread of its own, whose scratch memory is new. */
void alone(void (*f)(const void *arg), const void *arg);

void check_gemm(void);
void check_random(void);
void check_conv(void);
void check_pool2d(void);
void check_elementwise(void);
void check_reduce(void);
void check_softmax(void);
void check_standardize(void);
void check_optimizer(void);
void check_sparse(void);
void check_edges(void);
void check_program(void);
void check_quantized(void);
void check_group(void);
void check_threads(void);

#endif
