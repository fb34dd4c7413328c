/* What a table holds for reductions; the fields of one element type. Used by reduce/reduce.c, softmax.c and standardize.c.
 * Here n counts elements that lie side by side, `rows` counts rows that are `stride` elements apart. */
#ifndef MG_REDUCE_KERNELS_H
#define MG_REDUCE_KERNELS_H
#include "minigrad.h"

enum { MG_ROW_BLOCK = 1024, MG_STRIP = 64 };   /* elements summed before going to double; columns walked together */

struct mg_reduce_kernels {
    double (*sum)(int64_t n, const void *x);
    double (*max)(int64_t n, const void *x);                     /* NaN if there is one; n > 0 */
    double (*min)(int64_t n, const void *x);
    int64_t (*find)(int64_t n, const void *x, double value);     /* the first element equal to value, or n; NaN finds NaN */
    /* acc[j] = acc[j] + (or max, or min) of x[i * stride + j] over i < rows; op is an MG_ reduction */
    void (*columns)(int op, int64_t rows, int64_t n, const void *x, int64_t stride, double *acc);

    double (*softmax)(int64_t n, const void *x, void *y);        /* these two return log(sum(exp(x))); y may be NULL */
    double (*log_softmax)(int64_t n, const void *x, void *y);
    void (*softmax_grad)(int64_t n, const void *g, const void *y, void *gx);
    void (*log_softmax_grad)(int64_t n, const void *g, const void *y, void *gx);
    void (*scale)(int64_t n, double k, void *y);                 /* y *= k */
    /* the same down columns, n <= MG_STRIP of them; which: 0 softmax, 1 log_softmax, 2 only lse, which may be NULL else */
    void (*softmax_columns)(int which, int64_t rows, int64_t n, const void *x, int64_t stride, void *y, void *lse);
    void (*softmax_grad_columns)(int which, int64_t rows, int64_t n, const void *g, const void *y, int64_t stride, void *gx);

    /* mean and sum of squared deviations of n elements, joined to those of `count` elements before */
    void (*moments)(int64_t n, const void *x, double *count, double *mean, double *m2);
    /* y = (x - mean) * rstd, then * w + b. step 1: w and b are arrays; step 0: one number each. Either may be NULL. past: y is
     * written past the caches (see stream.h) */
    void (*normalize)(int64_t n, const void *x, double mean, double rstd, const void *w, const void *b, int step, int past,
                      void *y);
    /* adds to sums[0], sums[1] the sums of h and of h * xh, with h = g * w, xh = (x - mean) * rstd; w is an array or NULL */
    void (*normalize_sums)(int64_t n, const void *g, const void *x, double mean, double rstd, const void *w, double *sums);
    /* gx = rstd * w1 * (h - sums[0] / count - xh * sums[1] / count), w1 a number, for up to 4 rows, `stride` apart, each
     * with its mean, rstd and two sums; gx may be NULL. If gw: gw[j] += g * xh, gb[j] += g. past: gx is written past the
     * caches; then `stride` is a multiple of a cache line */
    void (*normalize_grad)(int rows, int64_t n, int64_t stride, const void *g, const void *x, const double *mean,
                           const double *rstd, const void *w, double w1, const double *sums, double count, int past, void *gx,
                           void *gw, void *gb);
};

#endif
