/* Rows of a sparse matrix times a dense one.
 *
 * Contract.   See struct mg_sparse_kernels. y[r] = sum over the nonzeros k of row r, in order, of values[k] * x[columns[k]];
 *             values == NULL means ones. Of two or four running sums each takes every second or fourth nonzero, and they
 *             are added up as a tree at the end of the row: a fixed order.
 * Source.     Row-wise ("Gustavson") product; F. G. Gustavson, ACM TOMS 4 (1978).
 * Budget.     Up to 8 vectors of features stay in registers for a whole row. With few features one chain of additions would
 *             wait for itself, hence the running sums; and rows of x that are far apart (outside of the cache) are fetched
 *             AHEAD nonzeros early, which costs a third of the time where they are near. */
#define V FN(vec)

#ifndef MG_SPARSE_AHEAD
#define MG_SPARSE_AHEAD 16
#endif

#define SPMM(INDEX, NAME)                                                                                                    \
    ALWAYS_INLINE void FN(NAME##_block)(const int vectors, const int sums, const int tail, const int far, int64_t begin,     \
                                        int64_t end, const INDEX *starts, const INDEX *columns, const REAL *values,          \
                                        const REAL *x, int64_t features, REAL *y) {                                          \
        const int64_t last = (int64_t)starts[end] - 1;                                                                       \
        for (int64_t r = begin; r < end; r++) {                                                                              \
            V acc[8];                                                                                                        \
            UNROLL for (int a = 0; a < vectors * sums; a++) acc[a] = (V){0};                                                 \
            int64_t k = starts[r];                                                                                           \
            const int64_t stop = starts[r + 1];                                                                              \
            for (; k + sums <= stop; k += sums)                                                                              \
                UNROLL for (int s = 0; s < sums; s++) {                                                                      \
                    const REAL *row = x + (int64_t)columns[k + s] * features;                                                \
                    const REAL value = values ? values[k + s] : 1;                                                           \
                    if (far) {                                                                                               \
                        const int64_t ahead = k + s + MG_SPARSE_AHEAD < last ? k + s + MG_SPARSE_AHEAD : last;               \
                        const REAL *later = x + (int64_t)columns[ahead] * features;                                          \
                        UNROLL for (int v = 0; v < vectors; v++) __builtin_prefetch(later + v * VL);                         \
                    }                                                                                                        \
                    UNROLL for (int v = 0; v < vectors; v++)                                                                 \
                        acc[s * vectors + v] += value * (tail ? FN(load_first)(row, tail) : FN(load)(row + v * VL));         \
                }                                                                                                            \
            for (int s = 0; k < stop; k++, s++) {                                                                            \
                const REAL *row = x + (int64_t)columns[k] * features;                                                        \
                const REAL value = values ? values[k] : 1;                                                                   \
                UNROLL for (int v = 0; v < vectors; v++)                                                                     \
                    acc[v] += value * (tail ? FN(load_first)(row, tail) : FN(load)(row + v * VL));                           \
            }                                                                                                                \
            if (sums == 4)                                                                                                   \
                UNROLL for (int a = 0; a < 2 * vectors; a++) acc[a] += acc[a + 2 * vectors];                                 \
            if (sums >= 2)                                                                                                   \
                UNROLL for (int v = 0; v < vectors; v++) acc[v] += acc[v + vectors];                                         \
            UNROLL for (int v = 0; v < vectors; v++)                                                                         \
                if (tail) FN(store_first)(y + r * features, acc[v], tail);                                                   \
                else FN(store)(y + r * features + v * VL, acc[v]);                                                           \
        }                                                                                                                    \
    }                                                                                                                        \
    ALWAYS_INLINE void FN(NAME##_blocks)(const int far, int64_t begin, int64_t end, const INDEX *starts,                     \
                                         const INDEX *columns, const REAL *values, const REAL *x, int64_t features,          \
                                         REAL *y) {                                                                          \
        int64_t f = 0;                                                                                                       \
        for (; f + 8 * VL <= features; f += 8 * VL)                                                                          \
            FN(NAME##_block)(8, 1, 0, far, begin, end, starts, columns, values, x + f, features, y + f);                     \
        for (; f + 4 * VL <= features; f += 4 * VL)                                                                          \
            FN(NAME##_block)(4, 2, 0, far, begin, end, starts, columns, values, x + f, features, y + f);                     \
        for (; f + 2 * VL <= features; f += 2 * VL)                                                                          \
            FN(NAME##_block)(2, 4, 0, far, begin, end, starts, columns, values, x + f, features, y + f);                     \
        for (; f + VL <= features; f += VL)                                                                                  \
            FN(NAME##_block)(1, 4, 0, far, begin, end, starts, columns, values, x + f, features, y + f);                     \
        if (f < features)                                                                                                    \
            FN(NAME##_block)(1, 4, (int)(features - f), far, begin, end, starts, columns, values, x + f, features, y + f);   \
    }                                                                                                                        \
    static void FN(NAME)(int far, int64_t begin, int64_t end, const INDEX *starts, const INDEX *columns, const REAL *values, \
                         const REAL *x, int64_t features, REAL *y) {                                                         \
        if (far) FN(NAME##_blocks)(1, begin, end, starts, columns, values, x, features, y);                                  \
        else if (values) FN(NAME##_blocks)(0, begin, end, starts, columns, values, x, features, y);                          \
        else FN(NAME##_blocks)(0, begin, end, starts, columns, NULL, x, features, y);                                        \
    }
SPMM(int32_t, spmm_narrow)
SPMM(int64_t, spmm_wide)
#undef SPMM

static void FN(spmm)(int wide, int far, int64_t begin, int64_t end, const void *starts, const void *columns, const void *values,
                     const void *x, int64_t features, void *y) {
    if (wide) FN(spmm_wide)(far, begin, end, starts, columns, values, x, features, y);
    else FN(spmm_narrow)(far, begin, end, starts, columns, values, x, features, y);
}

static void FN(row_add)(int64_t n, const void *from, void *to) {
    const REAL *x = from;
    REAL *y = to;
    int64_t i = 0;
    for (; i + VL <= n; i += VL) FN(store)(y + i, FN(load)(y + i) + FN(load)(x + i));
    if (i < n) FN(store_first)(y + i, FN(load_first)(y + i, (int)(n - i)) + FN(load_first)(x + i, (int)(n - i)), (int)(n - i));
}

#undef V
