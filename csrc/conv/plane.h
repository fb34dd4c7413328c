/* Three by three taps on one channel at stride 1, straight from the image: depthwise convolution and images of one channel.
 *
 *   plane       y[i][j]  = sum_uv w[u][v] x[i + u - top][j + v - left]
 *   plane_dots  w[u][v] += sum_ij g[i][j] x[i + u - top][j + v - left]
 *
 * Nothing is copied and nothing is rearranged: a vector that reaches past the border is loaded with those lanes zero, and a
 * row outside of the image is a row of zeros (so an infinite weight gives a NaN there, as the sum over a bordered image does).
 *
 * Contract.   Exactly the lanes that exist are read and written. An element of y is summed by fused multiply-adds in the order
 *             of the taps' rows; `plane_dots` keeps VL partial sums of each tap, which go down the rows of a strip, strip after
 *             strip. Error: |result - exact| <= (steps + 2) u sum |a||b|, as of every direct sum.
 * Budget.     A strip of VL columns, from above to below. A row that is loaded, three vectors, takes part in three rows of the
 *             result: two of them wait in registers, the nine weights stay there. 9 multiply-adds for 3 loads and a store; in
 *             `plane_dots`, nine sums and the last three rows of g, and 9 multiply-adds for 4 loads. 85 % of the peak while
 *             the planes are in L1; from memory, at the speed of a copy and a half.
 *             A small plane, such as 7 x 7, fills its strips badly: if y is as large as x, its pixels are taken as one run, whose
 *             vectors lie across rows. Which lanes of a tap exist is found once for all planes (conv.c).
 * Left out.   5 x 5 and 7 x 7, whose weights do not fit the registers, and stride 2: columns.h does them. */

/* The lanes from <= i < to; the others are zero, and their memory is not touched. */
#if defined(MG_AVX512) && REAL_IS_FLOAT
ALWAYS_INLINE FN(vec) FN(load_between)(const REAL *p, int from, int to) {
    return _mm512_maskz_loadu_ps((__mmask16)(((1u << to) - 1) & (~0u << from)), p);
}
#elif defined(MG_AVX512)
ALWAYS_INLINE FN(vec) FN(load_between)(const REAL *p, int from, int to) {
    return _mm512_maskz_loadu_pd((__mmask8)(((1u << to) - 1) & (~0u << from)), p);
}
#elif defined(MG_AVX2) && REAL_IS_FLOAT
ALWAYS_INLINE FN(vec) FN(load_between)(const REAL *p, int from, int to) {
    return _mm256_maskload_ps(p, _mm256_andnot_si256(FN(first)(from), FN(first)(to)));
}
#elif defined(MG_AVX2)
ALWAYS_INLINE FN(vec) FN(load_between)(const REAL *p, int from, int to) {
    return _mm256_maskload_pd(p, _mm256_andnot_si256(FN(first)(from), FN(first)(to)));
}
#else
ALWAYS_INLINE FN(vec) FN(load_between)(const REAL *p, int from, int to) {
    FN(vec) v = {0};
    for (int i = 0; i < VL; i++)
        if (i >= from && i < to) v[i] = p[i];
    return v;
}
#endif

/* The lanes whose bit is set, likewise. */
#if defined(MG_AVX512) && REAL_IS_FLOAT
ALWAYS_INLINE FN(vec) FN(load_lanes)(const REAL *p, unsigned bits) { return _mm512_maskz_loadu_ps((__mmask16)bits, p); }
#elif defined(MG_AVX512)
ALWAYS_INLINE FN(vec) FN(load_lanes)(const REAL *p, unsigned bits) { return _mm512_maskz_loadu_pd((__mmask8)bits, p); }
#elif defined(MG_AVX2) && REAL_IS_FLOAT
ALWAYS_INLINE FN(vec) FN(load_lanes)(const REAL *p, unsigned bits) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_maskload_ps(p, _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), lane), lane));
}
#elif defined(MG_AVX2)
ALWAYS_INLINE FN(vec) FN(load_lanes)(const REAL *p, unsigned bits) {
    const __m256i lane = _mm256_setr_epi64x(1, 2, 4, 8);
    return _mm256_maskload_pd(p, _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x((int)bits), lane), lane));
}
#else
ALWAYS_INLINE FN(vec) FN(load_lanes)(const REAL *p, unsigned bits) {
    FN(vec) v = {0};
    for (int i = 0; i < VL; i++)
        if (bits >> i & 1) v[i] = p[i];
    return v;
}
#endif

/* A small plane as one run of n pixels, of which the kernel meets vector after vector, with the one before and the one after. A
 * tap's vector is put together from two of them: to load it, nearly always across two cache lines, takes twice as long. */
struct FN(run) {
    FN(vec) before, here, after;
#if defined(MG_AVX512)
    __m512i which[9];
#endif
};
ALWAYS_INLINE FN(vec) FN(run_tap)(const struct FN(run) *r, const int t, const REAL *x, int64_t width, unsigned lanes) {
#if defined(MG_AVX512) && REAL_IS_FLOAT
    (void)x, (void)width;
    return (FN(vec))(t < 4 ? _mm512_maskz_permutex2var_ps((__mmask16)lanes, (__m512)r->before, r->which[t], (__m512)r->here)
           : t > 4 ? _mm512_maskz_permutex2var_ps((__mmask16)lanes, (__m512)r->here, r->which[t], (__m512)r->after)
                   : (__m512)r->here);
#elif defined(MG_AVX512)
    (void)x, (void)width;
    return (FN(vec))(t < 4 ? _mm512_maskz_permutex2var_pd((__mmask8)lanes, (__m512d)r->before, r->which[t], (__m512d)r->here)
           : t > 4 ? _mm512_maskz_permutex2var_pd((__mmask8)lanes, (__m512d)r->here, r->which[t], (__m512d)r->after)
                   : (__m512d)r->here);
#else
    (void)r;
    return FN(load_lanes)(x + (t / 3 - 1) * width + t % 3 - 1, lanes);
#endif
}
ALWAYS_INLINE void FN(run_begin)(struct FN(run) *r, int64_t n, const REAL *x, int64_t width) {
    r->before = r->here = (FN(vec)){0};
    r->after = FN(load_most)(x, n);
#if defined(MG_AVX512)
    UNROLL for (int t = 0; t < 9; t++) {
        const int64_t shift = (t / 3 - 1) * width + t % 3 - 1 + (t < 4 ? VL : 0);
#if REAL_IS_FLOAT
        r->which[t] = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32((int)shift));
#else
        r->which[t] = _mm512_add_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_set1_epi64(shift));
#endif
    }
#else
    (void)width;
#endif
}
ALWAYS_INLINE void FN(run_next)(struct FN(run) *r, int64_t n, const REAL *x, int64_t at) {
    r->before = r->here, r->here = r->after;
    r->after = FN(load_most)(x + at + VL, n - at - VL);
}

static void FN(plane_run)(const struct mg_plane *p) {
    const REAL *given = p->w, *x = p->x;
    const int64_t n = p->rows * p->columns, width = p->width;
    REAL w[9], *out = p->y;
    UNROLL for (int t = 0; t < 9; t++) w[t] = given[p->turned ? 8 - t : t];
    const REAL bias = p->bias ? *(const REAL *)p->bias : 0;
    const uint16_t *lanes = p->lanes;
    struct FN(run) r;
    FN(run_begin)(&r, n, x, width);
    for (int64_t at = 0; at < n; at += VL, lanes += 9) {
        FN(run_next)(&r, n, x, at);
        __builtin_prefetch(x + at + 4 * n), __builtin_prefetch(out + at + 4 * n, 1);   /* a plane takes no time: one further on */
        FN(vec) y = {0};
        UNROLL for (int t = 0; t < 9; t++) y += w[t] * FN(run_tap)(&r, t, x + at, width, lanes[t]);
        if (p->bias) y += bias;
        if (p->accumulate) y += FN(load_most)(out + at, n - at);
        if (p->act == MG_RELU) y = (FN(vec))((FN(bits))y & ~(y < (FN(vec)){0}));   /* a NaN stays */
        FN(store_most)(out + at, y, n - at);
    }
}
static void FN(dots_run)(const struct mg_plane *p) {
    const REAL *x = p->x, *g = p->y;
    const int64_t n = p->rows * p->columns, width = p->width;
    REAL *to = p->sums;
    FN(vec) sums[9];
    UNROLL for (int t = 0; t < 9; t++) sums[t] = FN(load)(to + t * VL);
    const uint16_t *lanes = p->lanes;
    struct FN(run) r;
    FN(run_begin)(&r, n, x, width);
    for (int64_t at = 0; at < n; at += VL, lanes += 9) {
        FN(run_next)(&r, n, x, at);
        const FN(vec) h = FN(load_most)(g + at, n - at);
        __builtin_prefetch(x + at + 4 * n), __builtin_prefetch(g + at + 4 * n);
        UNROLL for (int t = 0; t < 9; t++) sums[t] += h * FN(run_tap)(&r, t, x + at, width, lanes[t]);
    }
    UNROLL for (int t = 0; t < 9; t++) FN(store)(to + t * VL, sums[t]);
}

/* Which lanes of a strip's vectors are pixels of the image, for each of the three columns of taps. */
struct FN(reach) { int from[3], to[3]; };
static int64_t FN(within)(int64_t x, int64_t most) { return x < 0 ? 0 : x < most ? x : most; }
ALWAYS_INLINE int FN(reach_of)(const struct mg_plane *p, int64_t column, int lanes, struct FN(reach) *r) {
    int whole = lanes == VL;
    for (int v = 0; v < 3; v++) {
        const int64_t at = column + v - p->left;
        r->from[v] = (int)FN(within)(-at, lanes);
        r->to[v] = (int)FN(within)(p->width - at, lanes);
        if (r->to[v] < r->from[v]) r->to[v] = r->from[v];
        whole &= r->from[v] == 0 && r->to[v] == VL;
    }
    return whole;
}

/* Row i of the image at the three columns of taps. No branch decides whether it is inside: at the border of every plane it
 * would be foretold wrongly, and what waits in memory would wait again. */
struct FN(rows) { const REAL *x; int64_t height, width; struct FN(reach) reach; };
static const REAL FN(nothing)[VL + 2];
ALWAYS_INLINE void FN(plane_row)(const int whole, const struct FN(rows) *r, int64_t i, FN(vec) *x) {
    const REAL *at = (uint64_t)i < (uint64_t)r->height ? r->x + i * r->width : FN(nothing);
    UNROLL for (int v = 0; v < 3; v++) x[v] = whole ? FN(load)(at + v) : FN(load_between)(at + v, r->reach.from[v], r->reach.to[v]);
}

/* A strip fetches its part of what follows in memory, likely the next plane, a vector for each row: planes are short, and a
 * processor foresees only what lies in one page. */
ALWAYS_INLINE const char *FN(ahead)(const struct mg_plane *p, const void *from, int64_t first, int64_t column) {
    return (const char *)from + (first + p->rows * (column + p->columns)) * (int64_t)sizeof(REAL);
}

ALWAYS_INLINE void FN(plane_strip)(const int whole, const int plain, const struct mg_plane *p, const struct FN(rows) *r,
                                   int64_t column, int lanes) {
    const REAL *given = p->w;
    REAL w[9];
    UNROLL for (int t = 0; t < 9; t++) w[t] = given[p->turned ? 8 - t : t];
    const REAL bias = p->bias ? *(const REAL *)p->bias : 0;
    const int64_t first = p->first, columns = p->columns, end = p->first + p->rows + 2;
    const int accumulate = p->accumulate, act = p->act;
    REAL *out = (REAL *)p->y + column;
    const char *x_ahead = FN(ahead)(p, p->x, p->first * p->width, column), *y_ahead = FN(ahead)(p, p->y, 0, column);
    FN(vec) x[3], upper = {0}, lower = {0};   /* two rows of the result, of which one and two rows of taps were read */
    FN(plane_row)(whole, r, first, x);
    UNROLL for (int v = 0; v < 3; v++) upper += w[v] * x[v];
    FN(plane_row)(whole, r, first + 1, x);
    UNROLL for (int v = 0; v < 3; v++) upper += w[3 + v] * x[v];
    UNROLL for (int v = 0; v < 3; v++) lower += w[v] * x[v];
    _Pragma("GCC unroll 1") for (int64_t i = first + 2; i < end; i++, out += columns) {
        FN(plane_row)(whole, r, i, x);
        __builtin_prefetch(x_ahead), x_ahead += sizeof x[0];
        __builtin_prefetch(y_ahead, 1), y_ahead += sizeof x[0];
        FN(vec) y = upper;
        UNROLL for (int v = 0; v < 3; v++) y += w[6 + v] * x[v];
        if (!plain) {
            y += bias;
            if (accumulate) y += lanes == VL ? FN(load)(out) : FN(load_first)(out, lanes);
            if (act == MG_RELU) y = (FN(vec))((FN(bits))y & ~(y < (FN(vec)){0}));   /* a NaN stays */
        }
        if (whole) FN(store)(out, y);
        else FN(store_first)(out, y, lanes);
        upper = lower;
        UNROLL for (int v = 0; v < 3; v++) upper += w[3 + v] * x[v];
        lower = (FN(vec)){0};
        UNROLL for (int v = 0; v < 3; v++) lower += w[v] * x[v];
    }
}
ALWAYS_INLINE int FN(next_strip)(const struct mg_plane *p, int64_t column, int lanes, struct FN(rows) *r) {
    *r = (struct FN(rows)){.x = (const REAL *)p->x + column - p->left, .height = p->height, .width = p->width};
    return FN(reach_of)(p, column, lanes, &r->reach);
}
static void FN(plane)(const struct mg_plane *p) {
    if (p->lanes) {
        FN(plane_run)(p);
        return;
    }
    const int plain = p->bias == NULL && !p->accumulate && p->act == MG_LINEAR;
    for (int64_t j = 0; j < p->columns; j += VL) {
        const int lanes = p->columns - j < VL ? (int)(p->columns - j) : VL;
        struct FN(rows) r;
        const int whole = FN(next_strip)(p, j, lanes, &r);
        if (whole && plain) FN(plane_strip)(1, 1, p, &r, j, VL);
        else if (whole) FN(plane_strip)(1, 0, p, &r, j, VL);
        else if (plain) FN(plane_strip)(0, 1, p, &r, j, lanes);
        else FN(plane_strip)(0, 0, p, &r, j, lanes);
    }
}

/* Row i of taps against the rows i - u of g, u0 <= u <= u1, that exist: zeros in place of the others would not do, times Inf
 * they are NaN. g[u] is row i - u. */
ALWAYS_INLINE void FN(dots_row)(const int u0, const int u1, const FN(vec) *g, const FN(vec) *x, FN(vec) *sums) {
    UNROLL for (int u = u0; u <= u1; u++)
        UNROLL for (int v = 0; v < 3; v++) sums[3 * u + v] += g[u] * x[v];
}
ALWAYS_INLINE void FN(dots_strip)(const int whole, const struct mg_plane *p, const struct FN(rows) *r, int64_t column, int lanes,
                                  FN(vec) *sums) {
    const int64_t first = p->first, rows = p->rows, columns = p->columns;
    const REAL *at = (const REAL *)p->y + column;
    const char *x_ahead = FN(ahead)(p, p->x, p->first * p->width, column), *g_ahead = FN(ahead)(p, p->y, 0, column);
    FN(vec) x[3], g[3];
    FN(plane_row)(whole, r, first, x);
    g[0] = whole ? FN(load)(at) : FN(load_first)(at, lanes);
    FN(dots_row)(0, 0, g, x, sums);
    FN(plane_row)(whole, r, first + 1, x);
    g[1] = g[0];
    if (rows == 1) {
        FN(dots_row)(1, 1, g, x, sums);
        g[2] = g[1];
    } else {
        g[0] = whole ? FN(load)(at + columns) : FN(load_first)(at + columns, lanes);
        FN(dots_row)(0, 1, g, x, sums);
        _Pragma("GCC unroll 1") for (int64_t i = 2; i < rows; i++) {
            g[2] = g[1], g[1] = g[0];
            FN(plane_row)(whole, r, first + i, x);
            __builtin_prefetch(x_ahead), x_ahead += sizeof x[0];
            __builtin_prefetch(g_ahead), g_ahead += sizeof x[0];
            g[0] = whole ? FN(load)(at + i * columns) : FN(load_first)(at + i * columns, lanes);
            FN(dots_row)(0, 2, g, x, sums);
        }
        g[2] = g[1], g[1] = g[0];
        FN(plane_row)(whole, r, first + rows, x);
        FN(dots_row)(1, 2, g, x, sums);
        g[2] = g[1];
    }
    FN(plane_row)(whole, r, first + rows + 1, x);
    FN(dots_row)(2, 2, g, x, sums);
}
/* Adds to the VL sums of each of the nine taps that p->sums holds, [9][VL]. */
static void FN(plane_dots)(const struct mg_plane *p) {
    if (p->lanes) {
        FN(dots_run)(p);
        return;
    }
    REAL *to = p->sums;
    FN(vec) sums[9];
    UNROLL for (int t = 0; t < 9; t++) sums[t] = FN(load)(to + t * VL);
    for (int64_t j = 0; j < p->columns; j += VL) {
        const int lanes = p->columns - j < VL ? (int)(p->columns - j) : VL;
        struct FN(rows) r;
        if (FN(next_strip)(p, j, lanes, &r)) FN(dots_strip)(1, p, &r, j, VL, sums);
        else FN(dots_strip)(0, p, &r, j, lanes, sums);
    }
    UNROLL for (int t = 0; t < 9; t++) FN(store)(to + t * VL, sums[t]);
}
