/* The microkernels of convolution, on images as they are: channel planes, pixels of a row side by side.
 *
 * Two of them do nearly all the work, and both keep a block of sums in registers.
 *
 *   stencil  c[i][q] = sum_p a[p][i] * b[off[p] + q]       i: output channels, q: a vector of neighbouring pixels
 *            Forward and input gradient. A step p is one tap of one input channel, and off[p] says how far from the
 *            output pixel it lies: no patch is ever laid out in memory ("implicit GEMM").
 *   outer    c[r][o] += sum_q row[r][q] * b[q][o]          r: (input channel, tap), o: a vector of output channels
 *            Weight gradient; b is the output's cotangent with its channels turned innermost.
 *   dots     c[o][r] += sum_q g[o][q] * row[r][q]          the same sum by vectors of pixels, summed up at the end:
 *            for outputs too few for `outer`, such as depthwise weights or one input channel.
 *
 * Contract.   Every sum runs in the order of p (of q), by fused multiply-adds where the processor has them; `dots` keeps
 *             VL partial sums. Reads whole vectors: up to VL - 1 elements past the last pixel must be addressable (their
 *             values are not used). Writes only the lanes that exist.
 * Source.     The register blocking of gemm/tile.h, with the image in the place of the packed panel. Indirection by an
 *             offset per step: Dukhan, "The Indirect Convolution Algorithm", 2019 (arXiv 1907.02129).
 * Budget.     stencil: rows * vectors accumulators (28 of 32 registers on AVX-512: 14 x 2 down to 3 x 8), broadcasts of a
 *             from memory. Per step rows + 2 * vectors loads (a vector that crosses a cache line counts twice) for
 *             rows * vectors multiply-adds: 18 for 28 at 14 x 2, below the two loads per cycle of current cores.
 *             outer: 12 x 2 accumulators and two pixels at a time, so that one load of a row's address serves both. */

enum { FN(stencil_vectors) = MG_STENCIL_VECTORS };

/* What follows the sums, except for the plain case, which the kernel itself stores: add, bias, activation, partial lanes. */
__attribute__((noinline)) static void FN(finish)(int rows, int nv, const REAL *sums, const struct mg_stencil *s) {
    const REAL *bias = s->bias;
    for (int j = 0; j < nv; j++) {
        const int lanes = s->lanes[j];
        for (int i = 0; i < rows; i++, sums += VL) {
            REAL *at = (REAL *)s->c[j] + i * s->rsc;
            FN(vec) v = FN(load)(sums);
            if (s->accumulate) v += lanes == VL ? FN(load)(at) : FN(load_first)(at, lanes);
            if (bias) v += bias[i];
            if (s->act == MG_RELU) v = (FN(vec))((FN(bits))v & ~(v < (FN(vec)){0}));   /* a NaN stays */
            if (lanes == VL) FN(store)(at, v);
            else FN(store_first)(at, v, lanes);
        }
    }
}

ALWAYS_INLINE void FN(stencil)(const int rows, const int nv, const struct mg_stencil *s) {
    FN(vec) x[MR][FN(stencil_vectors)];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < nv; j++) x[i][j] = (FN(vec)){0};

    const REAL *a = s->a, *b[FN(stencil_vectors)];
    UNROLL for (int j = 0; j < nv; j++) b[j] = s->b[j];
    const int32_t *off = s->off, *end = off + s->k;
    _Pragma("GCC unroll 1") for (; off < end; off++, a += rows) {
        const int64_t o = *off;
        FN(vec) in[FN(stencil_vectors)];
        UNROLL for (int j = 0; j < nv; j++) in[j] = FN(load)(b[j] + o);
        UNROLL for (int i = 0; i < rows; i++) {
            const REAL ai = a[i];
            UNROLL for (int j = 0; j < nv; j++) x[i][j] += ai * in[j];
        }
    }

    if (s->plain) {
        UNROLL for (int j = 0; j < nv; j++)
            UNROLL for (int i = 0; i < rows; i++) FN(store)((REAL *)s->c[j] + i * s->rsc, x[i][j]);
    } else {
        REAL sums[rows * nv * VL];
        UNROLL for (int j = 0; j < nv; j++)
            UNROLL for (int i = 0; i < rows; i++) FN(store)(sums + (j * rows + i) * VL, x[i][j]);
        FN(finish)(rows, nv, sums, s);
    }
}

/* One function per shape; shapes that do not fit the registers do not exist, and their place in the array is filled by a
 * copy of the one-vector kernel that is never called. */
#define FITS(m, n) ((m) * (n) <= MR * NV)
#define STENCIL_FN(m, n) \
    static void PASTE(stencil_##m##_##n, TYPE)(const struct mg_stencil *s) { FN(stencil)(m, FITS(m, n) ? n : 1, s); }
#define STENCIL_FNS(m) \
    STENCIL_FN(m, 1) STENCIL_FN(m, 2) STENCIL_FN(m, 3) STENCIL_FN(m, 4) \
    STENCIL_FN(m, 5) STENCIL_FN(m, 6) STENCIL_FN(m, 7) STENCIL_FN(m, 8)
#define STENCIL_NAME(m, n) PASTE(stencil_##m##_##n, TYPE)
#define STENCIL_NAMES(m) \
    STENCIL_NAME(m, 1), STENCIL_NAME(m, 2), STENCIL_NAME(m, 3), STENCIL_NAME(m, 4), \
    STENCIL_NAME(m, 5), STENCIL_NAME(m, 6), STENCIL_NAME(m, 7), STENCIL_NAME(m, 8),
_Static_assert(MG_STENCIL_VECTORS == 8, "STENCIL_FNS lists kernels of one to eight vectors");
FOR_EACH_ROW_COUNT(STENCIL_FNS)
static mg_stencil_fn *const FN(stencils)[] = {FOR_EACH_ROW_COUNT(STENCIL_NAMES)};

/* --- weight gradient -------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void FN(outer)(const int rows, const int nv, const struct mg_outer *t) {
    FN(vec) x[OUTER_ROWS][2];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < nv; j++) x[i][j] = (FN(vec)){0};

    const REAL *b = t->b, *const *row = (const REAL *const *)t->row;
    for (int64_t s = 0; s < t->segments; s++) {
        int64_t q = t->segment[s];
        const int64_t end = q + t->length;
        _Pragma("GCC unroll 1") for (; q + 2 <= end; q += 2, b += 2 * nv * VL) {
            FN(vec) even[2], odd[2];
            UNROLL for (int j = 0; j < nv; j++) {
                even[j] = FN(load)(b + j * VL);
                odd[j] = FN(load)(b + (nv + j) * VL);
            }
            UNROLL for (int i = 0; i < rows; i++) {
                const REAL *r = row[i] + q;
                const REAL r0 = r[0], r1 = r[1];
                UNROLL for (int j = 0; j < nv; j++) x[i][j] += r0 * even[j];
                UNROLL for (int j = 0; j < nv; j++) x[i][j] += r1 * odd[j];
            }
        }
        if (q < end) {
            UNROLL for (int i = 0; i < rows; i++) {
                const REAL r = row[i][q];
                UNROLL for (int j = 0; j < nv; j++) x[i][j] += r * FN(load)(b + j * VL);
            }
            b += nv * VL;
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < nv; j++) {
            REAL *at = (REAL *)t->c + (i * nv + j) * VL;
            FN(store)(at, t->accumulate ? x[i][j] + FN(load)(at) : x[i][j]);
        }
}
#define OUTER_FN(m, n) static void PASTE(outer_##m##_##n, TYPE)(const struct mg_outer *t) { FN(outer)(m, n, t); }
#define OUTER_FNS(m) OUTER_FN(m, 1) OUTER_FN(m, 2)
#define OUTER_NAMES(m) PASTE(outer_##m##_1, TYPE), PASTE(outer_##m##_2, TYPE),
FOR_EACH_OUTER_ROW_COUNT(OUTER_FNS)
static mg_outer_fn *const FN(outers)[] = {FOR_EACH_OUTER_ROW_COUNT(OUTER_NAMES)};

/* rows (at most MG_DOTS_ROWS) of shifted images against one or two planes of cotangents; c holds VL partial sums for each
 * pair, [planes][rows][VL]. */
ALWAYS_INLINE void FN(dots_of)(const int planes, const int rows, const struct mg_outer *t) {
    FN(vec) x[2][MG_DOTS_ROWS];
    REAL *c = t->c;
    UNROLL for (int o = 0; o < planes; o++)
        UNROLL for (int i = 0; i < rows; i++) x[o][i] = FN(load)(c + o * t->rsc + i * VL);
    const REAL *const *row = (const REAL *const *)t->row;
    const REAL *g[2] = {t->b, (const REAL *)t->b + t->rsb};
    for (int64_t s = 0; s < t->segments; s++) {
        const int64_t start = t->segment[s];
        int64_t q = 0;
        UNROLL for (int o = 0; o < planes; o++)
            for (int64_t p = 0; p < t->length; p += 64 / (int64_t)sizeof(REAL)) __builtin_prefetch(g[o] + t->segments * t->length + p);
        for (; q + VL <= t->length; q += VL) {
            FN(vec) h[2];
            UNROLL for (int o = 0; o < planes; o++) h[o] = FN(load)(g[o] + q);
            UNROLL for (int i = 0; i < rows; i++) {
                const FN(vec) in = FN(load)(row[i] + start + q);
                UNROLL for (int o = 0; o < planes; o++) x[o][i] += h[o] * in;
            }
        }
        if (q < t->length) {
            const int n = (int)(t->length - q);
            FN(vec) h[2];
            UNROLL for (int o = 0; o < planes; o++) h[o] = FN(load_first)(g[o] + q, n);
            UNROLL for (int i = 0; i < rows; i++) {
                const FN(vec) in = FN(load_first)(row[i] + start + q, n);
                UNROLL for (int o = 0; o < planes; o++) x[o][i] += h[o] * in;
            }
        }
        UNROLL for (int o = 0; o < planes; o++) g[o] += t->length;
    }
    UNROLL for (int o = 0; o < planes; o++)
        UNROLL for (int i = 0; i < rows; i++) FN(store)(c + o * t->rsc + i * VL, x[o][i]);
}
#define DOTS_FN(m) \
    static void PASTE(dots_1_##m, TYPE)(const struct mg_outer *t) { FN(dots_of)(1, m, t); } \
    static void PASTE(dots_2_##m, TYPE)(const struct mg_outer *t) { FN(dots_of)(2, m, t); }
#define DOTS_NAMES(m) PASTE(dots_1_##m, TYPE), PASTE(dots_2_##m, TYPE),
#define FOR_EACH_DOTS_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10)
FOR_EACH_DOTS_COUNT(DOTS_FN)
static mg_outer_fn *const FN(dots_kernels)[] = {FOR_EACH_DOTS_COUNT(DOTS_NAMES)};

/* y[i] = sum of the VL partial sums at c[i * VL]. */
static void FN(sum_partials)(int64_t n, const void *from, void *to) {
    const REAL *c = from;
    REAL *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = FN(sum_lanes)(FN(load)(c + i * VL));
}

/* --- one output channel ------------------------------------------------------------------------------------------- */

/* `stencil` for a single output channel, such as a depthwise one: blocks of `rows` vectors below each other. */
ALWAYS_INLINE void FN(single_of)(const int rows, const struct mg_single *s, int64_t y, int64_t x, int lanes) {
    enum { MOST = 8 };
    const REAL *in = (const REAL *)s->b + y * s->rsb + x, *a = s->a;
    REAL *out = (REAL *)s->c + y * s->rsc + x;
    FN(vec) sum[MOST];
    UNROLL for (int r = 0; r < rows; r++) sum[r] = (FN(vec)){0};
    for (int64_t p = 0; p < s->k; p++) {
        const REAL *at = in + s->off[p], w = a[p];
        UNROLL for (int r = 0; r < rows; r++) sum[r] += w * FN(load)(at + r * s->rsb);
    }
    UNROLL for (int r = 0; r < rows; r++) {
        REAL *at = out + r * s->rsc;
        __builtin_prefetch(at + s->rows * s->rsc, 1);   /* likely the next channel */
        FN(vec) v = sum[r];
        if (s->accumulate) v += lanes == VL ? FN(load)(at) : FN(load_first)(at, lanes);
        if (s->bias) v += *(const REAL *)s->bias;
        if (s->act == MG_RELU) v = (FN(vec))((FN(bits))v & ~(v < (FN(vec)){0}));
        if (lanes == VL) FN(store)(at, v);
        else FN(store_first)(at, v, lanes);
    }
}
static void FN(single)(const struct mg_single *s) {
    for (int64_t x = 0; x < s->columns; x += VL) {
        const int lanes = s->columns - x < VL ? (int)(s->columns - x) : VL;
        int64_t y = 0;
        for (; y + 7 <= s->rows; y += 7) FN(single_of)(7, s, y, x, lanes);
        for (; y + 4 <= s->rows; y += 4) FN(single_of)(4, s, y, x, lanes);
        for (; y < s->rows; y++) FN(single_of)(1, s, y, x, lanes);
    }
}

/* --- copying ------------------------------------------------------------------------------------------------------ */

/* dst[i * rsd + j] = src[i * rss + j * step], j < n. For steps 1 and 2 whole vectors are stored: up to VL - 1 elements after a
 * row become zero; rows are written in order, so a row may begin there. */
static void FN(copy_rows)(int64_t rows, int64_t n, const void *from, int64_t rss, int64_t step, void *to, int64_t rsd) {
    const REAL *src = from;
    REAL *dst = to;
    const int64_t next = rows * rss, line = 64 / (int64_t)sizeof(REAL);   /* likely the next thing to be copied */
    const int64_t whole = n / VL * VL, left = n - whole;
    for (; rows > 0; rows--, src += rss, dst += rsd) {
        int64_t j = 0;
        _Pragma("GCC unroll 1") for (int64_t q = 0; q < n * step; q += line) __builtin_prefetch(src + next + q);
        if (step == 1) {
            _Pragma("GCC unroll 1") for (; j < whole; j += VL) FN(store)(dst + j, FN(load)(src + j));
            if (left) FN(store)(dst + whole, FN(load_first)(src + whole, (int)left));
        } else if (step == 2) {
            for (; j + VL < n; j += VL) FN(store)(dst + j, FN(evens)(FN(load)(src + 2 * j), FN(load)(src + 2 * j + VL)));
            const int64_t rest = 2 * (n - j) - 1;   /* up to the last element that is wanted */
            FN(store)(dst + j, FN(evens)(FN(load_most)(src + 2 * j, rest), FN(load_most)(src + 2 * j + VL, rest - VL)));
        } else
            _Pragma("GCC unroll 4") for (; j < n; j++) dst[j] = src[j * step];
    }
}

/* Every second element of a row of n to `even`, the others to `odd`; whole vectors are stored, as above. */
static void FN(split_rows)(int64_t rows, int64_t n, const void *from, int64_t rss, void *even, void *odd, int64_t rsd) {
    const REAL *src = from;
    REAL *u = even, *v = odd;
    const int64_t next = rows * rss, line = 64 / (int64_t)sizeof(REAL), whole = n / (2 * VL) * (2 * VL), left = n - whole;
    for (; rows > 0; rows--, src += rss, u += rsd, v += rsd) {
        int64_t j = 0;
        _Pragma("GCC unroll 1") for (; j < whole; j += 2 * VL) {
            const FN(vec) a = FN(load)(src + j), b = FN(load)(src + j + VL);
            for (int64_t q = 0; q < 2 * VL; q += line) __builtin_prefetch(src + next + j + q);
            FN(store)(u + j / 2, FN(evens)(a, b));
            FN(store)(v + j / 2, FN(odds)(a, b));
        }
        if (left) {
            __builtin_prefetch(src + next + whole);
            FN(vec) a, b = {0};
            if (left < VL) a = FN(load_first)(src + whole, (int)left);
            else {
                a = FN(load)(src + whole);
                if (left > VL) b = FN(load_first)(src + whole + VL, (int)(left - VL));
            }
            FN(store)(u + whole / 2, FN(evens)(a, b));
            FN(store)(v + whole / 2, FN(odds)(a, b));
        }
    }
}

/* dst[i * rsd + 2 j] = even[i * rss + j], dst[i * rsd + 2 j + 1] = odd[i * rss + j], up to n elements in a row of dst. Reads whole
 * vectors. */
static void FN(zip_rows)(int64_t rows, int64_t n, const void *even, const void *odd, int64_t rss, void *to, int64_t rsd) {
    const REAL *a = even, *b = odd;
    REAL *dst = to;
    const int64_t rows_apart = rows * rsd;
    for (; rows > 0; rows--, a += rss, b += rss, dst += rsd)
        for (int64_t j = 0; j < n; j += 2 * VL) {
            const FN(vec) u = FN(load)(a + j / 2), v = FN(load)(b + j / 2);
            for (int q = 0; q < 2 * VL; q += 64 / (int)sizeof(REAL)) __builtin_prefetch(dst + rows_apart + j + q, 1);   /* the next image */
            FN(store_most)(dst + j, FN(zip_low)(u, v), n - j);
            FN(store_most)(dst + j + VL, FN(zip_high)(u, v), n - j - VL);
        }
}

/* dst[i * rsd + j * step] = src[i * rss + j], j < n. */
static void FN(place_rows)(int64_t rows, int64_t n, const void *from, int64_t rss, void *to, int64_t rsd, int64_t step) {
    const REAL *src = from;
    REAL *dst = to;
    for (; rows > 0; rows--, src += rss, dst += rsd) {
        int64_t j = 0;
        if (step == 1) {
            for (; j + VL <= n; j += VL) FN(store)(dst + j, FN(load)(src + j));
            if (j < n) FN(store_first)(dst + j, FN(load_first)(src + j, (int)(n - j)), (int)(n - j));
        } else if (step == 2)
            for (; j < n; j += VL) {   /* what lies between is written as it was */
                const int64_t all = 2 * (n - j) - 1;
                const FN(vec) v = FN(load_most)(src + j, n - j);
                const FN(vec) between = FN(odds)(FN(load_most)(dst + 2 * j, all), FN(load_most)(dst + 2 * j + VL, all - VL));
                FN(store_most)(dst + 2 * j, FN(zip_low)(v, between), all);
                FN(store_most)(dst + 2 * j + VL, FN(zip_high)(v, between), all - VL);
            }
        else
            for (; j < n; j++) dst[j * step] = src[j];
    }
}
