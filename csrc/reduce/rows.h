/* Kernels on rows and on strips of columns.
 *
 * Contract.   See struct mg_reduce_kernels. Every sum has one fixed order: lanes side by side over a block of MG_ROW_BLOCK
 *             elements, the block's lanes as a balanced tree, then the blocks one after the other in double. So the error
 *             of a float32 sum is that of 64 additions at most, whatever n is: about 1e-6 of the sum of absolute values.
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

static double FN(row_sum)(int64_t n, const void *x) {
    double total;
    SUM_BLOCKS(total, n, x, x, A);
    return total;
}

/* --- extremes ----------------------------------------------------------------------------------------------------- */

#define EXTREME(name, better)                                                                                       \
    static double FN(row_##name)(int64_t n, const void *p) {                                                         \
        const REAL *x = p;                                                                                           \
        V best[4], nan = {0};                                                                                        \
        UNROLL for (int u = 0; u < 4; u++) best[u] = FN(splat)(x[0]);                                                \
        int64_t i = 0;                                                                                               \
        for (; i + 4 * VL <= n; i += 4 * VL)                                                                         \
            UNROLL for (int u = 0; u < 4; u++) {                                                                     \
                V a = FN(load)(x + i + u * VL);                                                                      \
                best[u] = FN(select)(a better best[u], a, best[u]);                                                  \
                nan = FN(select)(a == a, nan, a);                                                                    \
            }                                                                                                        \
        for (; i < n; i += VL) {                                                                                     \
            V a = n - i >= VL ? FN(load)(x + i)                                                                      \
                              : FN(select)(FN(lanes)((int)(n - i)), FN(load_first)(x + i, (int)(n - i)), best[0]);   \
            best[0] = FN(select)(a better best[0], a, best[0]);                                                      \
            nan = FN(select)(a == a, nan, a);                                                                        \
        }                                                                                                            \
        if (FN(any)(nan != nan)) return NAN;                                                                         \
        UNROLL for (int u = 1; u < 4; u++) best[0] = FN(select)(best[u] better best[0], best[u], best[0]);           \
        REAL r = best[0][0];                                                                                         \
        if (r != r) r = best[0][1];                                                                                  \
        UNROLL for (int l = 0; l < VL; l++) r = best[0][l] better r ? best[0][l] : r;                                \
        return r;                                                                                                    \
    }
EXTREME(max, >)
EXTREME(min, <)
#undef EXTREME

static int64_t FN(row_find)(int64_t n, const void *p, double value) {
    const REAL *x = p, wanted = (REAL)value;
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        V a = FN(load)(x + i);
        if (FN(any)(wanted == wanted ? a == FN(splat)(wanted) : a != a)) break;
    }
    for (; i < n; i++)
        if (x[i] == wanted || (x[i] != x[i] && wanted != wanted)) return i;
    return n;
}

/* --- columns ------------------------------------------------------------------------------------------------------ */

/* Down a strip of up to 4 vectors, 64 rows in REAL before they go to double. */
#define STRIP_LOAD(p) (v < vectors - 1 || tail == VL ? FN(load)(p) : FN(load_first)(p, tail))
ALWAYS_INLINE void FN(strip)(int op, const int vectors, int64_t rows, int64_t n, const REAL *x, int64_t stride, double *acc) {
    enum { DEPTH = 64 };
    const int tail = (int)(n - (vectors - 1) * VL);
    for (int64_t begin = 0; begin < rows; begin += DEPTH) {
        const int64_t end = begin + DEPTH < rows ? begin + DEPTH : rows;
        V a[4];
        UNROLL for (int v = 0; v < vectors; v++) a[v] = STRIP_LOAD(x + begin * stride + v * VL);
        for (int64_t i = begin + 1; i < end; i++)
            UNROLL for (int v = 0; v < vectors; v++) {
                const V b = STRIP_LOAD(x + i * stride + v * VL);
                if (op == MG_SUM) a[v] += b;
                else if (op == MG_MAX) a[v] = FN(max)(a[v], b);
                else a[v] = FN(min)(a[v], b);
            }
        REAL block[4 * VL];
        UNROLL for (int v = 0; v < vectors; v++) FN(store)(block + v * VL, a[v]);
        for (int64_t j = 0; j < n; j++) {
            const double b = (double)block[j];
            if (op == MG_SUM) acc[j] += b;
            else if (op == MG_MAX) acc[j] = acc[j] > b || acc[j] != acc[j] ? acc[j] : b;
            else acc[j] = acc[j] < b || acc[j] != acc[j] ? acc[j] : b;
        }
    }
}

static void FN(row_columns)(int op, int64_t rows, int64_t n, const void *p, int64_t stride, double *acc) {
    const REAL *x = p;
#define EACH(OP)                                                                                                    \
    for (int64_t j = 0; j < n; j += 4 * VL) {                                                                        \
        const int64_t left = n - j;                                                                                  \
        if (left >= 4 * VL) FN(strip)(OP, 4, rows, 4 * VL, x + j, stride, acc + j);                                  \
        else if (left > 3 * VL) FN(strip)(OP, 4, rows, left, x + j, stride, acc + j);                                \
        else if (left > 2 * VL) FN(strip)(OP, 3, rows, left, x + j, stride, acc + j);                                \
        else if (left > VL) FN(strip)(OP, 2, rows, left, x + j, stride, acc + j);                                    \
        else FN(strip)(OP, 1, rows, left, x + j, stride, acc + j);                                                   \
    }
    if (op == MG_SUM) EACH(MG_SUM)
    else if (op == MG_MAX) EACH(MG_MAX)
    else EACH(MG_MIN)
#undef EACH
}

/* --- softmax ------------------------------------------------------------------------------------------------------ */

/* The largest element that is not NaN (a NaN shows up in the sum), or 0 if that is infinite and `finite` is asked for. */
ALWAYS_INLINE REAL FN(top)(int64_t n, const REAL *x) {
    V best[4];
    UNROLL for (int u = 0; u < 4; u++) best[u] = FN(splat)(-(REAL)INFINITY);
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL)
        UNROLL for (int u = 0; u < 4; u++) {
            V a = FN(load)(x + i + u * VL);
            best[u] = FN(select)(a > best[u], a, best[u]);
        }
    for (; i < n; i += VL) {
        V a = n - i >= VL ? FN(load)(x + i) : FN(select)(FN(lanes)((int)(n - i)), FN(load_first)(x + i, (int)(n - i)), best[0]);
        best[0] = FN(select)(a > best[0], a, best[0]);
    }
    best[0] = FN(select)(best[1] > best[0], best[1], best[0]);
    best[2] = FN(select)(best[3] > best[2], best[3], best[2]);
    best[0] = FN(select)(best[2] > best[0], best[2], best[0]);
    REAL lane[VL], r = -(REAL)INFINITY;
    FN(store)(lane, best[0]);
    for (int l = 0; l < VL; l++) r = lane[l] > r ? lane[l] : r;
    return r;
}

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
    const REAL top = FN(top)(n, x);
    const double total = FN(exp_sum)(n, x, top, y);
    const REAL scale = (REAL)(1 / total);
    ALIGNED(n, y, STORE(y, LOAD(y) * scale));
    return (double)top + log(total);
}

static double FN(row_log_softmax)(int64_t n, const void *x, void *y) {
    REAL top = FN(top)(n, x);
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
            top = FN(select)(a > top, a, top);
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
#undef STRIP_LOAD
#undef SUM_BLOCKS
