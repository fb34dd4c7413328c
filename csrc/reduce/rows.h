/* Kernels on rows and on strips of columns.
 *
 * Contract.   See struct mg_reduce_kernels. Every sum has one fixed order: lanes side by side over a block of MG_ROW_BLOCK
 *             elements, the block's lanes as a balanced tree, then the blocks one after the other in double. So the error
 *             of a float32 sum is that of 64 additions at most (128 in the generic table), whatever n is: about 1e-6 of the
 *             sum of absolute values.
 * Source.     Blocked summation: Higham, "The Accuracy of Floating Point Summation", SIAM J. Sci. Comput. 14 (1993).
 *             Moments of blocks are joined as in Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for
 *             Computing Sample Variances" (1979): one pass over memory, two over the block in L1.
 * Budget.     Four accumulators hide the latency of an addition. A row is read from memory once; the second pass of softmax
 *             and its like finds it in L1 or L2. */
#define V FN(vec)
#define M FN(bits)

/* The mask of the first n lanes. */
ALWAYS_INLINE M FN(lanes)(int n) {
    M lane;
    UNROLL for (int i = 0; i < VL; i++) lane[i] = i;
    return lane < n;
}

/* Vectors of a row: `at` goes over whole vectors, then once over the rest; LOAD, STORE work in either part, and in ALIGNED. */
#define LOAD(p) (left >= VL ? FN(load)((const REAL *)(p) + at) : FN(load_first)((const REAL *)(p) + at, (int)left))
#define STORE(p, v)                                                                                                 \
    do {                                                                                                            \
        if (left >= VL) FN(store)((REAL *)(p) + at, v);                                                             \
        else FN(store_first)((REAL *)(p) + at, v, (int)left);                                                       \
    } while (0)
#define VECTORS(n) (int64_t at = 0, left = (n); left > 0; at += VL, left -= VL)

/* Ask for what is read soon; an address that is none does no harm. */
#define ASK(p) __builtin_prefetch(p)

/* STORE, past the caches if `past`. */
#define FLUSH(p, v)                                                                                                 \
    do {                                                                                                            \
        if (past && left >= VL) FN(store_past)((REAL *)(p) + at, v);                                                \
        else STORE(p, v);                                                                                           \
    } while (0)

/* Sum of f over a row: f sees vectors a and b; lanes that do not exist must give 0 when a and b are 0. */
#define SUM_BLOCKS(result, n, a, b, f)                                                                               \
    do {                                                                                                             \
        const REAL *pa = (a), *pb = (b);                                                                             \
        double total_ = 0;                                                                                           \
        for (int64_t begin = 0; begin < (n); begin += MG_ROW_BLOCK) {                                                \
            const int64_t end = begin + MG_ROW_BLOCK < (n) ? begin + MG_ROW_BLOCK : (n);                             \
            V acc[4] = {{0}, {0}, {0}, {0}};                                                                         \
            int64_t i = begin;                                                                                       \
            for (; i + 4 * VL <= end; i += 4 * VL)                                                                   \
                UNROLL for (int u = 0; u < 4; u++) {                                                                 \
                    const V A = FN(load)(pa + i + u * VL), B = FN(load)(pb + i + u * VL);                            \
                    (void)B;                                                                                         \
                    acc[u] += (f);                                                                                   \
                }                                                                                                    \
            for (; i + VL <= end; i += VL) {                                                                         \
                const V A = FN(load)(pa + i), B = FN(load)(pb + i);                                                  \
                (void)B;                                                                                             \
                acc[0] += (f);                                                                                       \
            }                                                                                                        \
            if (i < end) {                                                                                           \
                const V A = FN(load_first)(pa + i, (int)(end - i)), B = FN(load_first)(pb + i, (int)(end - i));      \
                (void)B;                                                                                             \
                acc[1] += FN(select)(FN(lanes)((int)(end - i)), (f), (V){0});                                        \
            }                                                                                                        \
            total_ += (double)FN(sum_lanes)((acc[0] + acc[1]) + (acc[2] + acc[3]));                                  \
        }                                                                                                            \
        result = total_;                                                                                             \
    } while (0)

/* Sums of `rows` rows side by side, n <= MG_ROW_BLOCK elements each: their chains of additions hide each other's latency. */
ALWAYS_INLINE void FN(sum_side_by_side)(const int rows, int64_t n, int64_t stride, const REAL *x, REAL *sums) {
    V acc[4][2];
    UNROLL for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = (V){0};
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL)
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int u = 0; u < 2; u++) acc[r][u] += FN(load)(x + r * stride + i + u * VL);
    if (i + VL <= n) {
        UNROLL for (int r = 0; r < rows; r++) acc[r][0] += FN(load)(x + r * stride + i);
        i += VL;
    }
    if (i < n) UNROLL for (int r = 0; r < rows; r++) acc[r][1] += FN(load_first)(x + r * stride + i, (int)(n - i));
    UNROLL for (int r = 0; r < rows; r++) sums[r] = FN(sum_lanes)(acc[r][0] + acc[r][1]);
}

/* A long row: four blocks side by side, which is also kinder to memory than one stream. */
static double FN(row_sum)(int64_t n, const REAL *x) {
    double total = 0, rest;
    REAL sums[4];
    int64_t i = 0;
    for (; i + 4 * MG_ROW_BLOCK <= n; i += 4 * MG_ROW_BLOCK) {
        FN(sum_side_by_side)(4, MG_ROW_BLOCK, MG_ROW_BLOCK, x + i, sums);
        for (int b = 0; b < 4; b++) total += (double)sums[b];
    }
    SUM_BLOCKS(rest, n - i, x + i, x + i, A);
    return total + rest;
}

static void FN(sum_rows)(int64_t rows, int64_t n, const REAL *x, REAL *y) {
    enum { SHORT = 256 };
    int64_t r = 0;
    if (n < SHORT) {
        for (; r + 4 <= rows; r += 4) FN(sum_side_by_side)(4, n, n, x + r * n, y + r);
        for (; r < rows; r++) FN(sum_side_by_side)(1, n, n, x + r * n, y + r);
    } else
        for (; r < rows; r++) y[r] = (REAL)FN(row_sum)(n, x + r * n);
}

/* --- extremes ----------------------------------------------------------------------------------------------------- */

#define WORST(op) ((op) == MG_MAX ? -(REAL)INFINITY : (REAL)INFINITY)
#define BETTER(op, a, b) ((op) == MG_MAX ? (a) > (b) : (a) < (b))

/* The better of a and b, b if a is NaN. */
ALWAYS_INLINE V FN(better)(const int op, V a, V b) { return op == MG_MAX ? FN(larger)(a, b) : FN(smaller)(a, b); }

ALWAYS_INLINE REAL FN(better_lane)(const int op, V v) {
    UNROLL for (int half = VL / 2; half > 0; half /= 2) v = FN(better)(op, FN(upper)(v, half), v);
    return v[0];
}

/* The best of a row that is not NaN, and whether there is a NaN. The last vector may overlap the one before. */
ALWAYS_INLINE REAL FN(extreme)(const int op, int64_t n, const REAL *x, int *nan) {
    enum { AHEAD = 1024 };   /* where places are looked for, a wrong guess holds up the next row */
    V best[4];
    unsigned unordered = 0;
    if (n < VL) {
        best[0] = FN(select)(FN(lanes)((int)n), FN(load_first)(x, (int)n), FN(splat)(WORST(op)));
        *nan = FN(unordered)(best[0], best[0]) != 0;
        return FN(better_lane)(op, FN(better)(op, best[0], FN(splat)(WORST(op))));
    }
    UNROLL for (int u = 0; u < 4; u++) best[u] = FN(splat)(WORST(op));
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL)
        UNROLL for (int u = 0; u < 4; u += 2) {
            const V a = FN(load)(x + i + u * VL), b = FN(load)(x + i + (u + 1) * VL);
            __builtin_prefetch(x + i + u * VL + AHEAD), __builtin_prefetch(x + i + (u + 1) * VL + AHEAD);
            best[u] = FN(better)(op, a, best[u]);
            best[u + 1] = FN(better)(op, b, best[u + 1]);
            unordered |= FN(unordered)(a, b);
        }
    for (; i < n; i += VL) {
        const V a = FN(load)(x + (i + VL <= n ? i : n - VL));
        best[0] = FN(better)(op, a, best[0]);
        unordered |= FN(unordered)(a, a);
    }
    *nan = unordered != 0;
    return FN(better_lane)(op, FN(better)(op, FN(better)(op, best[0], best[1]), FN(better)(op, best[2], best[3])));
}

static double FN(row_extreme)(const int op, int64_t n, const REAL *x) {
    int nan;
    const REAL best = op == MG_MAX ? FN(extreme)(MG_MAX, n, x, &nan) : FN(extreme)(MG_MIN, n, x, &nan);
    return nan ? NAN : (double)best;
}

static double FN(row_reduce)(int op, int64_t n, const void *x) {
    return op == MG_SUM ? FN(row_sum)(n, x) : FN(row_extreme)(op, n, x);
}

static void FN(rows_reduce)(int op, int64_t rows, int64_t n, const void *px, void *py) {
    const REAL *x = px;
    REAL *y = py;
    if (op == MG_SUM) FN(sum_rows)(rows, n, x, y);
    else if (op == MG_MAX) for (int64_t r = 0; r < rows; r++) y[r] = (REAL)FN(row_extreme)(MG_MAX, n, x + r * n);
    else for (int64_t r = 0; r < rows; r++) y[r] = (REAL)FN(row_extreme)(MG_MIN, n, x + r * n);
}

/* --- places of extremes --------------------------------------------------------------------------------------------- */

/* The place of the first element that is equal to value, which is there. */
ALWAYS_INLINE int64_t FN(find)(int64_t n, const REAL *x, REAL value) {
    const V wanted = FN(splat)(value);
    if (n < VL) return __builtin_ctz(FN(equal)(FN(load_first)(x, (int)n), wanted) | 1u << (n - 1));
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        uint64_t here = 0;
        UNROLL for (int u = 0; u < 4; u++) here |= (uint64_t)FN(equal)(FN(load)(x + i + u * VL), wanted) << (u * VL);
        if (here) return i + __builtin_ctzll(here);
    }
    for (; i + VL < n; i += VL) {
        const unsigned here = FN(equal)(FN(load)(x + i), wanted);
        if (here) return i + __builtin_ctz(here);
    }
    return n - VL + __builtin_ctz(FN(equal)(FN(load)(x + n - VL), wanted) | 1u << (VL - 1));
}

static __attribute__((noinline)) int64_t FN(find_nan)(int64_t n, const REAL *x) {
    int64_t i = 0;
    while (i < n - 1 && x[i] == x[i]) i++;
    return i;
}

/* Block by block, so that the elements of the best one so far are looked at twice while they are in L1. */
ALWAYS_INLINE int64_t FN(place_in_row)(const int op, int64_t n, const REAL *x, double *value) {
    enum { BLOCK = 4096 };
    int64_t where = 0;
    REAL best = WORST(op);
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        const int64_t size = n - begin < BLOCK ? n - begin : BLOCK;
        int nan;
        const REAL here = FN(extreme)(op, size, x + begin, &nan);
        if (__builtin_expect(nan, 0)) {
            *value = NAN;
            return begin + FN(find_nan)(size, x + begin);
        }
        if (begin == 0 || BETTER(op, here, best)) best = here, where = begin;
    }
    *value = (double)best;
    return where + FN(find)(n - where < BLOCK ? n - where : BLOCK, x + where, best);
}

/* values may be NULL */
static void FN(rows_places)(int op, int64_t rows, int64_t n, const void *px, int64_t *places, double *values) {
    const REAL *x = px;
    for (int64_t r = 0; r < rows; r++) {
        double value;
        places[r] = op == MG_MAX ? FN(place_in_row)(MG_MAX, n, x + r * n, &value) : FN(place_in_row)(MG_MIN, n, x + r * n, &value);
        if (values) values[r] = value;
    }
}

/* --- columns ------------------------------------------------------------------------------------------------------ */

/* DEPTH rows in REAL before they go to double, GROUP of them at a time: as many streams are read from memory. */
enum { FN(DEPTH) = 64, FN(GROUP) = 8 };

ALWAYS_INLINE V FN(joined)(const int op, V a, V b) {
    return op == MG_SUM ? a + b : op == MG_MAX ? FN(max)(a, b) : FN(min)(a, b);
}

/* y = x[0] and x[stride] and ..., or y and those, `rows` in all. */
ALWAYS_INLINE void FN(join_rows)(const int op, const int rows, const int fresh, int64_t n, const REAL *x, int64_t stride, REAL *y) {
    for VECTORS(n) {
        V a = LOAD(x);
        UNROLL for (int i = 1; i < rows; i++) a = FN(joined)(op, a, LOAD(x + i * stride));
        if (!fresh) a = FN(joined)(op, LOAD(y), a);
        STORE(y, a);
    }
}

ALWAYS_INLINE void FN(join_columns)(const int op, int64_t rows, int64_t n, const REAL *x, int64_t stride, double *acc) {
    REAL block[MG_COLUMNS];
    for (int64_t begin = 0; begin < rows; begin += FN(DEPTH)) {
        const int64_t end = begin + FN(DEPTH) < rows ? begin + FN(DEPTH) : rows;
        int64_t i = begin;
        for (; i + FN(GROUP) <= end; i += FN(GROUP))
            if (i == begin) FN(join_rows)(op, FN(GROUP), 1, n, x + i * stride, stride, block);
            else FN(join_rows)(op, FN(GROUP), 0, n, x + i * stride, stride, block);
        for (; i < end; i++)
            if (i == begin) FN(join_rows)(op, 1, 1, n, x + i * stride, stride, block);
            else FN(join_rows)(op, 1, 0, n, x + i * stride, stride, block);
        for (int64_t j = 0; j < n; j++) {
            const double b = (double)block[j];
            if (op == MG_SUM) acc[j] += b;
            else acc[j] = acc[j] != acc[j] || BETTER(op, acc[j], b) ? acc[j] : b;
        }
    }
}

static void FN(columns_reduce)(int op, int64_t rows, int64_t n, const void *x, int64_t stride, double *acc) {
    if (op == MG_SUM) FN(join_columns)(MG_SUM, rows, n, x, stride, acc);
    else if (op == MG_MAX) FN(join_columns)(MG_MAX, rows, n, x, stride, acc);
    else FN(join_columns)(MG_MIN, rows, n, x, stride, acc);
}

/* The same for places: top = the best of itself and `rows` rows, place = the row where it was, the first of which is `row`. Returns
 * whether there was a NaN. */
ALWAYS_INLINE unsigned FN(place_group)(const int op, const int rows, int row, int64_t n, const REAL *x, int64_t stride, REAL *top,
                                       REAL *place) {
    unsigned unordered = 0;
    for VECTORS(n) {
        V best = LOAD(top), where = LOAD(place);
        UNROLL for (int i = 0; i < rows; i++) {
            const V a = LOAD(x + i * stride);
            where = FN(select)(BETTER(op, a, best), FN(splat)((REAL)(row + i)), where);
            best = FN(better)(op, a, best);
            unordered |= FN(unordered)(a, a);
        }
        STORE(top, best);
        STORE(place, where);
    }
    return unordered;
}

ALWAYS_INLINE void FN(place_columns)(const int op, int64_t rows, int64_t n, const REAL *x, int64_t stride, int64_t first,
                                     double *best, int64_t *places) {
    REAL top[MG_COLUMNS], at[MG_COLUMNS];
    for (int64_t begin = 0; begin < rows; begin += FN(DEPTH)) {
        const int many = (int)(rows - begin < FN(DEPTH) ? rows - begin : FN(DEPTH));
        const REAL *from = x + begin * stride;
        memcpy(top, from, (size_t)n * sizeof(REAL));
        memset(at, 0, (size_t)n * sizeof(REAL));
        unsigned unordered = 0;
        int i = 0;
        for (; i + FN(GROUP) <= many; i += FN(GROUP))
            unordered |= FN(place_group)(op, FN(GROUP), i, n, from + i * stride, stride, top, at);
        for (; i < many; i++) unordered |= FN(place_group)(op, 1, i, n, from + i * stride, stride, top, at);
        for (int64_t j = 0; j < n; j++) {
            if (__builtin_expect(unordered != 0, 0)) {      /* again, element by element */
                top[j] = from[j];
                at[j] = 0;
                for (i = 1; i < many; i++) {
                    const REAL a = from[i * stride + j];
                    if (top[j] == top[j] && (a != a || BETTER(op, a, top[j]))) top[j] = a, at[j] = (REAL)i;
                }
            }
            const double b = (double)top[j];
            if (best[j] == best[j] && (b != b || BETTER(op, b, best[j]))) best[j] = b, places[j] = first + begin + (int64_t)at[j];
        }
    }
}

static void FN(columns_places)(int op, int64_t rows, int64_t n, const void *x, int64_t stride, int64_t first, double *best,
                               int64_t *places) {
    if (op == MG_MAX) FN(place_columns)(MG_MAX, rows, n, x, stride, first, best, places);
    else FN(place_columns)(MG_MIN, rows, n, x, stride, first, best, places);
}

/* --- softmax ------------------------------------------------------------------------------------------------------ */

/* y = exp(x - top), if asked for; returns the sum. */
ALWAYS_INLINE double FN(exp_sum)(int64_t n, const REAL *x, REAL top, REAL *y) {
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += MG_ROW_BLOCK) {
        const int64_t end = begin + MG_ROW_BLOCK < n ? begin + MG_ROW_BLOCK : n;
        V s = {0}, s2 = {0};
        int64_t i = begin;
        for (; i + 2 * VL <= end; i += 2 * VL) {
            V e = FN(exp)(FN(load)(x + i) - top), e2 = FN(exp)(FN(load)(x + i + VL) - top);
            s += e;
            s2 += e2;
            if (y) {
                FN(store)(y + i, e);
                FN(store)(y + i + VL, e2);
            }
        }
        for (; i + VL <= end; i += VL) {
            V e = FN(exp)(FN(load)(x + i) - top);
            s += e;
            if (y) FN(store)(y + i, e);
        }
        if (i < end) {
            const int tail = (int)(end - i);
            V e = FN(exp)(FN(load_first)(x + i, tail) - top);
            s2 += FN(select)(FN(lanes)(tail), e, (V){0});
            if (y) FN(store_first)(y + i, e, tail);
        }
        total += (double)FN(sum_lanes)(s + s2);
    }
    return total;
}

static double FN(row_softmax)(int64_t n, const void *x, void *y) {
    int nan;                                        /* a NaN shows up in the sum */
    const REAL top = FN(extreme)(MG_MAX, n, x, &nan);
    const double total = FN(exp_sum)(n, x, top, y);
    const REAL scale = (REAL)(1 / total);
    ALIGNED(n, y, STORE(y, LOAD(y) * scale));
    return (double)top + log(total);
}

static double FN(row_log_softmax)(int64_t n, const void *x, void *y) {
    int nan;
    REAL top = FN(extreme)(MG_MAX, n, x, &nan);
    if (y == NULL && !(top - top == 0)) top = 0;   /* logsumexp of infinities is an infinity, not NaN */
    const double total = FN(exp_sum)(n, x, top, NULL), rest = log(total);
    if (y) ALIGNED(n, (REAL *)y, STORE(y, (LOAD(x) - top) - (REAL)rest));
    return (double)top + rest;
}

static void FN(row_softmax_grad)(int64_t n, const void *g, const void *y, void *gx) {
    double dot;
    SUM_BLOCKS(dot, n, g, y, A * B);
    ALIGNED(n, gx, STORE(gx, LOAD(y) * (LOAD(g) - (REAL)dot)));
}

static void FN(row_log_softmax_grad)(int64_t n, const void *g, const void *y, void *gx) {
    double total;
    SUM_BLOCKS(total, n, g, g, A);
    ALIGNED(n, gx, STORE(gx, LOAD(g) - FN(exp)(LOAD(y)) * (REAL)total));
}

static void FN(row_scale)(int64_t n, double k, void *y) {
    ALIGNED(n, y, STORE(y, LOAD(y) * (REAL)k));
}

/* The same down columns: all state is one vector per VL columns, a row of the strip is a row of vectors. */
static void FN(softmax_columns)(int which, int64_t rows, int64_t n, const void *px, int64_t stride, void *py, void *plse) {
    const REAL *x = px;
    REAL *y = py;
    for VECTORS(n) {
        V top = FN(splat)(-(REAL)INFINITY), sum = {0};
        for (int64_t i = 0; i < rows; i++) {
            V a = LOAD(x + i * stride);
            top = FN(larger)(a, top);
        }
        if (which == 2) top = FN(select)(top - top == 0, top, (V){0});
        for (int64_t begin = 0; begin < rows; begin += 64) {   /* blocks, so that the error does not grow with rows */
            V part = {0};
            for (int64_t i = begin; i < rows && i < begin + 64; i++) {
                V e = FN(exp)(LOAD(x + i * stride) - top);
                part += e;
                if (which == 0) STORE(y + i * stride, e);
            }
            sum += part;
        }
        const V rest = FN(log)(sum), scale = 1 / sum;
        if (which == 0)
            for (int64_t i = 0; i < rows; i++) STORE(y + i * stride, LOAD(y + i * stride) * scale);
        if (which == 1)
            for (int64_t i = 0; i < rows; i++) STORE(y + i * stride, (LOAD(x + i * stride) - top) - rest);
        if (plse) STORE(plse, top + rest);
    }
}

/* Rows on their side again, of `classes` classes: x becomes x - max, y = g softmax(x), and what is left of the logarithm of
 * the sum of exponentials, log(sum(exp(x - max))). At most 64 classes. */
static void FN(loss_columns)(int64_t classes, int64_t n, void *px, int64_t stride, const void *pg, void *py, void *plog) {
    REAL *x = px, *y = py;
    const REAL *g = pg;
    for VECTORS(n) {
        V top = FN(splat)(-(REAL)INFINITY), sum = {0};
        for (int64_t i = 0; i < classes; i++) {
            V a = LOAD(x + i * stride);
            top = FN(larger)(a, top);
        }
        for (int64_t i = 0; i < classes; i++) {
            const V d = LOAD(x + i * stride) - top, e = FN(exp)(d);
            sum += e;
            STORE(x + i * stride, d);
            STORE(y + i * stride, e);
        }
        const V scale = 1 / sum, G = LOAD(g);
        for (int64_t i = 0; i < classes; i++) STORE(y + i * stride, LOAD(y + i * stride) * scale * G);
        STORE((REAL *)plog, FN(log)(sum));
    }
}

static void FN(softmax_grad_columns)(int which, int64_t rows, int64_t n, const void *pg, const void *py, int64_t stride,
                                     void *pgx) {
    const REAL *g = pg, *y = py;
    REAL *gx = pgx;
    for VECTORS(n) {
        V sum = {0};
        for (int64_t begin = 0; begin < rows; begin += 64) {
            V part = {0};
            for (int64_t i = begin; i < rows && i < begin + 64; i++)
                part += which == 0 ? LOAD(g + i * stride) * LOAD(y + i * stride) : LOAD(g + i * stride);
            sum += part;
        }
        for (int64_t i = 0; i < rows; i++) {
            V G = LOAD(g + i * stride), Y = LOAD(y + i * stride);
            V r = which == 0 ? Y * (G - sum) : G - FN(exp)(Y) * sum;
            STORE(gx + i * stride, r);
        }
    }
}

/* --- mean, variance, normalisation --------------------------------------------------------------------------------- */

static void FN(row_moments)(int64_t n, const void *p, double *count, double *mean, double *m2) {
    const REAL *x = p;
    for (int64_t begin = 0; begin < n; begin += MG_ROW_BLOCK) {
        const int64_t size = n - begin < MG_ROW_BLOCK ? n - begin : MG_ROW_BLOCK;
        double sum, squares;
        SUM_BLOCKS(sum, size, x + begin, x + begin, A);
        const double here = sum / (double)size;
        const REAL center = (REAL)here;
        SUM_BLOCKS(squares, size, x + begin, x + begin, (A - center) * (A - center));
        const double off = here - (double)center;      /* the deviations were from the rounded mean */
        squares -= (double)size * off * off;
        const double delta = here - *mean, all = *count + (double)size;
        *m2 += squares + delta * delta * (*count * (double)size / all);
        *mean += delta * ((double)size / all);
        *count = all;
    }
}

/* The same for `rows` rows side by side, n <= MG_ROW_BLOCK elements each, while the next four are asked for. */
ALWAYS_INLINE void FN(moments_side_by_side)(const int rows, int64_t n, int64_t stride, const REAL *x, double *mean, double *m2) {
    V acc[4][2];
    REAL sums[4], center[4];
    FN(sum_side_by_side)(rows, n, stride, x, sums);
    UNROLL for (int r = 0; r < rows; r++) {
        mean[r] = (double)sums[r] / (double)n;
        center[r] = (REAL)mean[r];
        acc[r][0] = acc[r][1] = (V){0};
    }
#define SQUARED(p) ((p) - center[r]) * ((p) - center[r])
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL)
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int u = 0; u < 2; u++) {
                const V A = FN(load)(x + r * stride + i + u * VL);
                acc[r][u] += SQUARED(A);
                ASK(x + (r + 4) * stride + i + u * VL);
            }
    if (i + VL <= n) {
        UNROLL for (int r = 0; r < rows; r++) {
            const V A = FN(load)(x + r * stride + i);
            acc[r][0] += SQUARED(A);
        }
        i += VL;
    }
    if (i < n)
        UNROLL for (int r = 0; r < rows; r++) {
            const V A = FN(load_first)(x + r * stride + i, (int)(n - i));
            acc[r][1] += FN(select)(FN(lanes)((int)(n - i)), SQUARED(A), (V){0});
        }
#undef SQUARED
    UNROLL for (int r = 0; r < rows; r++) {
        const double off = mean[r] - (double)center[r];
        m2[r] = (double)FN(sum_lanes)(acc[r][0] + acc[r][1]) - (double)n * off * off;
    }
}

static void FN(rows_moments)(int rows, int64_t n, int64_t stride, const void *p, double *mean, double *m2) {
    const REAL *x = p;
    if (rows == 4) FN(moments_side_by_side)(4, n, stride, x, mean, m2);
    else for (int r = 0; r < rows; r++) FN(moments_side_by_side)(1, n, stride, x + r * stride, mean + r, m2 + r);
}

ALWAYS_INLINE void FN(normalize_row)(const int past, int64_t n, const REAL *x, double mean, double rstd, const REAL *w,
                                     const REAL *b, int step, REAL *y) {
    const REAL m = (REAL)mean;
    if (step) {
        const REAL r = (REAL)rstd;
        if (w && b) ALIGNED(n, y, FLUSH(y, (LOAD(x) - m) * r * LOAD(w) + LOAD(b)));
        else if (w) ALIGNED(n, y, FLUSH(y, (LOAD(x) - m) * r * LOAD(w)));
        else if (b) ALIGNED(n, y, FLUSH(y, (LOAD(x) - m) * r + LOAD(b)));
        else ALIGNED(n, y, FLUSH(y, (LOAD(x) - m) * r));
    } else {
        const REAL r = (REAL)(rstd * (w ? (double)*w : 1)), shift = b ? *b : 0;
        ALIGNED(n, y, FLUSH(y, (LOAD(x) - m) * r + shift));
    }
}

static void FN(row_normalize)(int64_t n, const void *x, double mean, double rstd, const void *w, const void *b, int step,
                              int past, void *y) {
    if (past) FN(normalize_row)(1, n, x, mean, rstd, w, b, step, y);
    else FN(normalize_row)(0, n, x, mean, rstd, w, b, step, y);
}

static void FN(row_normalize_sums)(int64_t n, const void *g, const void *x, double mean, double rstd, const void *w,
                                   double *sums) {
    const REAL m = (REAL)mean, r = (REAL)rstd;
    for (int64_t begin = 0; begin < n; begin += MG_ROW_BLOCK) {
        const int64_t size = n - begin < MG_ROW_BLOCK ? n - begin : MG_ROW_BLOCK;
        V s[4] = {{0}, {0}, {0}, {0}}, t[4] = {{0}, {0}, {0}, {0}};
        for (int64_t at = begin, left = size; left > 0;) {
            const int many = left >= 4 * VL ? 4 : 1;
            if (many == 4) {
                UNROLL for (int u = 0; u < 4; u++) {
                    V h = FN(load)((const REAL *)g + at + u * VL);
                    if (w) h *= FN(load)((const REAL *)w + at + u * VL);
                    s[u] += h;
                    t[u] += h * ((FN(load)((const REAL *)x + at + u * VL) - m) * r);
                }
            } else {
                V h = w ? LOAD(g) * LOAD(w) : LOAD(g);      /* 0 in lanes that do not exist */
                s[0] += h;
                t[0] += h * ((LOAD(x) - m) * r);
            }
            at += many * VL;
            left -= many * VL;
        }
        sums[0] += (double)FN(sum_lanes)((s[0] + s[1]) + (s[2] + s[3]));
        sums[1] += (double)FN(sum_lanes)((t[0] + t[1]) + (t[2] + t[3]));
    }
}

/* The same for `rows` rows side by side, each with its mean, rstd and two sums. */
ALWAYS_INLINE void FN(normalize_sums_side_by_side)(const int rows, int64_t n, int64_t stride, const REAL *g, const REAL *x,
                                                   const double *mean, const double *rstd, const REAL *w, double *sums) {
    for (int64_t begin = 0; begin < n; begin += MG_ROW_BLOCK) {
        const int64_t end = n - begin < MG_ROW_BLOCK ? n : begin + MG_ROW_BLOCK;
        V s[4][2], t[4][2];
        UNROLL for (int r = 0; r < rows; r++) s[r][0] = s[r][1] = t[r][0] = t[r][1] = (V){0};
#define ADD_TO(u)                                                                                                   \
    do {                                                                                                            \
        const V weight = w ? LOAD(w) : FN(splat)(1);                                                                \
        UNROLL for (int r = 0; r < rows; r++) {                                                                     \
            const V h = LOAD(g + r * stride) * weight;      /* 0 in lanes that do not exist */                      \
            s[r][u] += h;                                                                                           \
            t[r][u] += h * ((LOAD(x + r * stride) - (REAL)mean[r]) * (REAL)rstd[r]);                                 \
        }                                                                                                           \
    } while (0)
        int64_t i = begin;
        for (; i + 2 * VL <= end; i += 2 * VL)
            UNROLL for (int u = 0; u < 2; u++) {
                const int64_t at = i + u * VL, left = VL;
                ADD_TO(u);
            }
        for (; i < end; i += VL) {
            const int64_t at = i, left = end - i;
            ADD_TO(0);
        }
#undef ADD_TO
        UNROLL for (int r = 0; r < rows; r++) {
            sums[2 * r] += (double)FN(sum_lanes)(s[r][0] + s[r][1]);
            sums[2 * r + 1] += (double)FN(sum_lanes)(t[r][0] + t[r][1]);
        }
    }
}

static void FN(rows_normalize_sums)(int rows, int64_t n, int64_t stride, const void *pg, const void *px, const double *mean,
                                    const double *rstd, const void *w, double *sums) {
    const REAL *g = pg, *x = px;
    if (rows == 4) FN(normalize_sums_side_by_side)(4, n, stride, g, x, mean, rstd, w, sums);
    else
        for (int r = 0; r < rows; r++)
            FN(normalize_sums_side_by_side)(1, n, stride, g + r * stride, x + r * stride, mean + r, rstd + r, w, sums + 2 * r);
}

struct FN(grad_terms) {
    REAL mean[4], rstd[4], scale[4], a[4], c[4];
};

ALWAYS_INLINE void FN(normalize_grad_at)(const int rows, const int past, int64_t at, int64_t left, int64_t stride, const REAL *g,
                                         const REAL *x, const REAL *w, const struct FN(grad_terms) *o, REAL *gx, REAL *gw,
                                         REAL *gb) {
    /* Written so that the same products are fused, whatever the compiler knows of the pointers: bits do not depend on where
     * in a vector an element lies. No weight is a weight of 1, and each result is one expression without branches. */
    const V weight = w ? LOAD(w) : FN(splat)(1);
    V gweight = {0}, gbias = {0};
    UNROLL for (int i = 0; i < rows; i++) {
        const V G = LOAD(g + i * stride), xh = (LOAD(x + i * stride) - o->mean[i]) * o->rstd[i];
        gweight += G * xh;
        gbias += G;
        if (rows == 4) ASK(g + (i + 4) * stride + at), ASK(x + (i + 4) * stride + at);   /* the next four rows */
        if (gx) FLUSH(gx + i * stride, (G * weight - o->a[i] - xh * o->c[i]) * o->scale[i]);
    }
    if (gw) {
        STORE(gw, LOAD(gw) + gweight);
        STORE(gb, LOAD(gb) + gbias);
    }
}

/* Four rows at once, so that gw and gb are read and written once for all of them. */
ALWAYS_INLINE void FN(normalize_grad_rows)(const int rows, const int past, int64_t n, int64_t stride, const REAL *g,
                                           const REAL *x, const double *mean, const double *rstd, const REAL *w, double w1,
                                           const double *sums, double count, REAL *gx, REAL *gw, REAL *gb) {
    struct FN(grad_terms) o;
    for (int i = 0; i < rows; i++) {
        o.mean[i] = (REAL)mean[i];
        o.rstd[i] = (REAL)rstd[i];
        o.scale[i] = (REAL)(rstd[i] * w1);
        o.a[i] = (REAL)(sums[2 * i] / count);
        o.c[i] = (REAL)(sums[2 * i + 1] / count);
    }
    ALIGNED(n, gx ? gx : g, FN(normalize_grad_at)(rows, past, at, left, stride, g, x, w, &o, gx, gw, gb));
}

static void FN(row_normalize_grad)(int rows, int64_t n, int64_t stride, const void *pg, const void *px, const double *mean,
                                   const double *rstd, const void *w, double w1, const double *sums, double count, int past,
                                   void *pgx, void *gw, void *gb) {
    const REAL *g = pg, *x = px;
    REAL *gx = pgx;
    if (rows == 4 && past)
        FN(normalize_grad_rows)(4, 1, n, stride, g, x, mean, rstd, w, w1, sums, count, gx, gw, gb);
    else if (rows == 4)
        FN(normalize_grad_rows)(4, 0, n, stride, g, x, mean, rstd, w, w1, sums, count, gx, gw, gb);
    else
        for (int i = 0; i < rows; i++, g += stride, x += stride, gx = gx ? gx + stride : NULL) {
            if (past) FN(normalize_grad_rows)(1, 1, n, 0, g, x, mean + i, rstd + i, w, w1, sums + 2 * i, count, gx, gw, gb);
            else FN(normalize_grad_rows)(1, 0, n, 0, g, x, mean + i, rstd + i, w, w1, sums + 2 * i, count, gx, gw, gb);
        }
}

#undef V
#undef M
#undef LOAD
#undef STORE
#undef VECTORS
#undef FLUSH
#undef ASK
#undef SUM_BLOCKS
#undef WORST
#undef BETTER
