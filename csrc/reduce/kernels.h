/* What a table holds for reductions; the fields of one element type. Used by reduce/reduce.c, softmax.c and standardize.c.
 * Here n counts elements that lie side by side, `rows` counts rows that are `stride` elements apart. */
#ifndef MG_REDUCE_KERNELS_H
#define MG_REDUCE_KERNELS_H
#include "minigrad.h"

/* Elements summed before they go to double; columns that softmax walks together, and that a reduction does. */
enum { MG_ROW_BLOCK = 1024, MG_STRIP = 64, MG_COLUMNS = 2048 };

struct mg_reduce_kernels {
    /* the sum, max or min (op) of n elements; NaN if an extreme has one to choose from; n > 0 for those */
    double (*row)(int op, int64_t n, const void *x);
    void (*rows)(int op, int64_t rows, int64_t n, const void *x, void *y);       /* the same for rows that lie side by side */
    /* acc[j] = acc[j] + (or max, or min) of x[i * stride + j] over i < rows; n <= MG_COLUMNS */
    void (*columns)(int op, int64_t rows, int64_t n, const void *x, int64_t stride, double *acc);
    /* where in a row its extreme is: the first NaN, or else the first of equals; values (the extremes) may be NULL; n > 0 */
    void (*places)(int op, int64_t rows, int64_t n, const void *x, int64_t *places, double *values);
    /* best[j], places[j] = the extreme of best[j] and x[i * stride + j] over i < rows, and where it is: first + i */
    void (*column_places)(int op, int64_t rows, int64_t n, const void *x, int64_t stride, int64_t first, double *best,
                          int64_t *places);

    double (*softmax)(int64_t n, const void *x, void *y);        /* these two return log(sum(exp(x))); y may be NULL */
    double (*log_softmax)(int64_t n, const void *x, void *y);
    void (*softmax_grad)(int64_t n, const void *g, const void *y, void *gx);
    void (*log_softmax_grad)(int64_t n, const void *g, const void *y, void *gx);
    void (*scale)(int64_t n, double k, void *y);                 /* y *= k */
    /* the same down columns, n <= MG_STRIP of them; which: 0 softmax, 1 log_softmax, 2 only lse, which may be NULL else */
    void (*softmax_columns)(int which, int64_t rows, int64_t n, const void *x, int64_t stride, void *y, void *lse);
    /* with y = g softmax(x), log(sum(exp(x - max))) in place of lse, and x - max in place of x; n and g as there */
    void (*loss_columns)(int64_t classes, int64_t n, void *x, int64_t stride, const void *g, void *y, void *log);
    void (*softmax_grad_columns)(int which, int64_t rows, int64_t n, const void *g, const void *y, int64_t stride, void *gx);

    /* mean and sum of squared deviations of n elements, joined to those of `count` elements before */
    void (*moments)(int64_t n, const void *x, double *count, double *mean, double *m2);
    /* mean and m2 of up to 4 rows of at most MG_ROW_BLOCK elements, `stride` apart */
    void (*rows_moments)(int rows, int64_t n, int64_t stride, const void *x, double *mean, double *m2);
    /* y = (x - mean) * rstd, then * w + b. step 1: w and b are arrays; step 0: one number each. Either may be NULL. past: y is
     * written past the caches (see stream.h) */
    void (*normalize)(int64_t n, const void *x, double mean, double rstd, const void *w, const void *b, int step, int past,
                      void *y);
    /* adds to sums[0], sums[1] the sums of h and of h * xh, with h = g * w, xh = (x - mean) * rstd; w is an array or NULL */
    void (*normalize_sums)(int64_t n, const void *g, const void *x, double mean, double rstd, const void *w, double *sums);
    /* the same for up to 4 rows, `stride` apart */
    void (*rows_normalize_sums)(int rows, int64_t n, int64_t stride, const void *g, const void *x, const double *mean,
                                const double *rstd, const void *w, double *sums);
    /* gx = rstd * w1 * (h - sums[0] / count - xh * sums[1] / count), w1 a number, for up to 4 rows, `stride` apart, each
     * with its mean, rstd and two sums; gx may be NULL. If gw: gw[j] += g * xh, gb[j] += g. past: gx is written past the
     * caches; then `stride` is a multiple of a cache line */
    void (*normalize_grad)(int rows, int64_t n, int64_t stride, const void *g, const void *x, const double *mean,
                           const double *rstd, const void *w, double w1, const double *sums, double count, int past, void *gx,
                           void *gw, void *gb);
};

#endif
