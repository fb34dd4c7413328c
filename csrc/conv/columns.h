/* One channel under any kernel: the microkernels of depthwise.c, on a copied band of rows (band.h).
 *
 *   columns       y[a][j]         = sum_t sum_u w[t][u] x_t[a + u][j]       t: a column of up to seven taps below each other
 *   columns_dots  sums[t][u]     += sum_aj y[a][j] x_t[a + u][j]
 *
 * x_t is the band from off[t] on. Columns of taps have `h` taps (the `tall` first ones) or h - 1; how any kernel, stride and
 * dilation becomes such columns is said in depthwise.c.
 *
 * Contract.   Reads whole vectors of the band, writes only the lanes that exist. Every element of y is summed by fused
 *             multiply-adds in the order of the columns, and in each from above to below; `columns_dots` keeps VL partial sums
 *             of each tap, which take the rows in order. Error: |result - exact| <= (steps + 2) u sum |a||b|.
 * Budget.     Seven rows of y wait in registers, with the weights of a column: rows + h - 1 vectors are loaded (most of them
 *             across a cache line, which counts twice) for rows * h multiply-adds, 9 for 21 at three taps, 13 for 49 at seven.
 *             In `columns_dots` seven rows of y and the sums of a column. Sixteen registers are enough for both. */

enum { FN(column_rows) = 7 };

ALWAYS_INLINE void FN(column)(const int h, const int rows, const REAL *x, int64_t rsx, const REAL *w, int64_t apart, FN(vec) *sum) {
    REAL k[MG_COLUMN_TAPS];
    UNROLL for (int u = 0; u < h; u++) k[u] = w[u * apart];
    UNROLL for (int i = 0; i < rows + h - 1; i++) {
        const FN(vec) in = FN(load)(x + i * rsx);
        UNROLL for (int u = 0; u < h; u++)
            if (i >= u && i - u < rows) sum[i - u] += k[u] * in;
    }
}
ALWAYS_INLINE void FN(columns_block)(const int h, const int rows, const struct mg_columns *s, const REAL *in, REAL *out, int lanes) {
    FN(vec) sum[FN(column_rows)];
    UNROLL for (int r = 0; r < rows; r++) {
        sum[r] = (FN(vec)){0};
        __builtin_prefetch(out + (s->rows + r) * s->rsy, 1);   /* likely the next plane */
    }
    const struct mg_column *t = s->column, *low = t + s->tall, *end = low + s->low;
    const REAL *w = s->w;
    _Pragma("GCC unroll 1") for (; t < low; t++) FN(column)(h, rows, in + t->off, s->rsx, w + t->weight, s->apart, sum);
    _Pragma("GCC unroll 1") for (; t < end; t++) FN(column)(h - 1, rows, in + t->off, s->rsx, w + t->weight, s->apart, sum);
    const REAL bias = s->bias ? *(const REAL *)s->bias : 0;
    UNROLL for (int r = 0; r < rows; r++, out += s->rsy) {
        FN(vec) v = sum[r];
        if (s->bias) v += bias;
        if (s->act == MG_RELU) v = (FN(vec))((FN(bits))v & ~(v < (FN(vec)){0}));   /* a NaN stays */
        if (lanes == VL) FN(store)(out, v);
        else FN(store_first)(out, v, lanes);
    }
}
/* Blocks of seven rows, of four, or single ones; the last block moves up instead of being a smaller one. */
ALWAYS_INLINE void FN(columns)(const int h, const struct mg_columns *s) {
    const int64_t n = s->rows, sevens = (n + 6) / 7 * 7, fours = (n + 3) / 4 * 4;
    for (int64_t j = 0; j < s->columns; j += VL) {
        const int lanes = s->columns - j < VL ? (int)(s->columns - j) : VL;
        const REAL *in = (const REAL *)s->x + j;
        REAL *out = (REAL *)s->y + j;
        if (n >= 7 && sevens <= fours)
            for (int64_t i = 0; i < n; i += 7) {
                const int64_t at = i < n - 7 ? i : n - 7;
                FN(columns_block)(h, 7, s, in + at * s->rsx, out + at * s->rsy, lanes);
            }
        else if (n >= 4)
            for (int64_t i = 0; i < n; i += 4) {
                const int64_t at = i < n - 4 ? i : n - 4;
                FN(columns_block)(h, 4, s, in + at * s->rsx, out + at * s->rsy, lanes);
            }
        else
            for (int64_t i = 0; i < n; i++) FN(columns_block)(h, 1, s, in + i * s->rsx, out + i * s->rsy, lanes);
    }
}

ALWAYS_INLINE void FN(taps_column)(const int h, const int rows, const int whole, const FN(vec) *y, const REAL *x, int64_t rsx,
                                   REAL *c, int64_t apart, int lanes) {
    FN(vec) sum[MG_COLUMN_TAPS];
    UNROLL for (int u = 0; u < h; u++) sum[u] = FN(load)(c + u * apart);
    UNROLL for (int i = 0; i < rows + h - 1; i++) {
        const FN(vec) in = whole ? FN(load)(x + i * rsx) : FN(load_first)(x + i * rsx, lanes);
        UNROLL for (int u = 0; u < h; u++)
            if (i >= u && i - u < rows) sum[u] += y[i - u] * in;
    }
    UNROLL for (int u = 0; u < h; u++) FN(store)(c + u * apart, sum[u]);
}
ALWAYS_INLINE void FN(taps_block)(const int h, const int rows, const int whole, const struct mg_columns *s, const REAL *in,
                                  const REAL *y, int lanes) {
    FN(vec) g[FN(column_rows)];
    UNROLL for (int r = 0; r < rows; r++) __builtin_prefetch(y + (s->rows + r) * s->rsy);
    UNROLL for (int r = 0; r < rows; r++) g[r] = whole ? FN(load)(y + r * s->rsy) : FN(load_first)(y + r * s->rsy, lanes);
    const struct mg_column *t = s->column, *low = t + s->tall, *end = low + s->low;
    REAL *c = s->sums;
    _Pragma("GCC unroll 1") for (; t < low; t++)
        FN(taps_column)(h, rows, whole, g, in + t->off, s->rsx, c + t->weight * VL, s->apart * VL, lanes);
    _Pragma("GCC unroll 1") for (; t < end; t++)
        FN(taps_column)(h - 1, rows, whole, g, in + t->off, s->rsx, c + t->weight * VL, s->apart * VL, lanes);
}
/* Zeros in place of rows that do not exist would not do: times Inf they are NaN. So the last rows are taken one by one. */
ALWAYS_INLINE void FN(taps_strip)(const int h, const int whole, const struct mg_columns *s, int64_t j, int lanes) {
    const REAL *in = (const REAL *)s->x + j, *y = (const REAL *)s->y + j;
    const int64_t n = s->rows;
    int64_t i = 0;
    if (n % 7 == 0 || n % 4)
        for (; i + 7 <= n; i += 7) FN(taps_block)(h, 7, whole, s, in + i * s->rsx, y + i * s->rsy, lanes);
    for (; i + 4 <= n; i += 4) FN(taps_block)(h, 4, whole, s, in + i * s->rsx, y + i * s->rsy, lanes);
    for (; i < n; i++) FN(taps_block)(h, 1, whole, s, in + i * s->rsx, y + i * s->rsy, lanes);
}
ALWAYS_INLINE void FN(columns_dots)(const int h, const struct mg_columns *s) {
    int64_t j = 0;
    for (; j + VL <= s->columns; j += VL) FN(taps_strip)(h, 1, s, j, VL);
    if (j < s->columns) FN(taps_strip)(h, 0, s, j, (int)(s->columns - j));
}

#define COLUMNS_FN(h) \
    static void PASTE(columns_##h, TYPE)(const struct mg_columns *s) { FN(columns)(h, s); } \
    static void PASTE(columns_dots_##h, TYPE)(const struct mg_columns *s) { FN(columns_dots)(h, s); }
#define COLUMNS_NAMES(h) PASTE(columns_##h, TYPE), PASTE(columns_dots_##h, TYPE),
#define FOR_EACH_COLUMN_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
_Static_assert(MG_COLUMN_TAPS == 7, "FOR_EACH_COLUMN_HEIGHT lists columns of one to seven taps");
FOR_EACH_COLUMN_HEIGHT(COLUMNS_FN)
static mg_columns_fn *const FN(columns_kernels)[] = {FOR_EACH_COLUMN_HEIGHT(COLUMNS_NAMES)};
