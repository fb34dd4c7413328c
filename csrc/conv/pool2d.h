/* The microkernels of pooling: one row of windows, the pixels of a row side by side, left to the compiler to vectorise.
 *
 * Contract.   max    the largest element of each window and its place in the image, row * width + column; of equal ones the
 *                    first; a NaN is the largest, and of several the last; padding never wins.
 *             mean   rows are added from the top, then columns from the left, then one multiplication by 1 / count:
 *                    |error| <= (kh + kw + 1) u * sum |x| / count.
 *             spread the transpose of mean: adds g[j] * factor to the columns of window j; a column that several windows
 *                    cover is the sum from the left window to the right.
 * Budget.     The rows of a window and the row of results stay in L1. */

/* One tap of a row of windows: columns j0 .. j1 of the output, x[j] at x[j * step], at place `place` + j * step. */
ALWAYS_INLINE void FN(max_tap)(const int64_t step, int64_t j0, int64_t j1, const REAL *x, int32_t place, REAL *best, int32_t *where) {
    for (int64_t j = j0; j < j1; j++) {
        const REAL v = x[j * step];
        const int wins = (v > best[j]) | (v != v);
        best[j] = wins ? v : best[j];
        where[j] = wins ? place + (int32_t)(j * step) : where[j];
    }
}
static void FN(max_row)(int64_t step, int64_t j0, int64_t j1, const void *x, int32_t place, void *best, int32_t *where) {
    if (step == 1) FN(max_tap)(1, j0, j1, x, place, best, where);
    else if (step == 2) FN(max_tap)(2, j0, j1, x, place, best, where);
    else FN(max_tap)(step, j0, j1, x, place, best, where);
}
static void FN(max_start)(int64_t n, void *best) {
    for (int64_t j = 0; j < n; j++) ((REAL *)best)[j] = -(REAL)__builtin_inf();
}

/* y[j] += x[j * step], or x[j] += y[j] where `back`. */
static void FN(add_row)(int64_t step, int64_t j0, int64_t j1, const void *from, void *to) {
    const REAL *x = from;
    REAL *y = to;
    if (step == 1) for (int64_t j = j0; j < j1; j++) y[j] += x[j];
    else if (step == 2) for (int64_t j = j0; j < j1; j++) y[j] += x[2 * j];
    else for (int64_t j = j0; j < j1; j++) y[j] += x[j * step];
}
static void FN(spread_row)(int64_t step, int64_t j0, int64_t j1, const void *from, void *to) {
    const REAL *g = from;
    REAL *x = to;
    if (step == 1) for (int64_t j = j0; j < j1; j++) x[j] += g[j];
    else if (step == 2) for (int64_t j = j0; j < j1; j++) x[2 * j] += g[j];
    else for (int64_t j = j0; j < j1; j++) x[j * step] += g[j];
}
/* y[j] = x[j] * f[j] */
static void FN(times_row)(int64_t n, const void *x, const void *f, void *y) {
    for (int64_t j = 0; j < n; j++) ((REAL *)y)[j] = ((const REAL *)x)[j] * ((const REAL *)f)[j];
}
