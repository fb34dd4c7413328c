/* Packing for GEMM: everything that rearranges a block before the microkernel reads it. */

/* Interleave two vectors: x0 y0 x1 y1 ... Both halves of the result together. */
#if VL == 16
#define LOW_LANES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_LANES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VL == 8
#define LOW_LANES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_LANES 4, 12, 5, 13, 6, 14, 7, 15
#elif VL == 4
#define LOW_LANES 0, 4, 1, 5
#define HIGH_LANES 2, 6, 3, 7
#else
#define LOW_LANES 0, 2
#define HIGH_LANES 1, 3
#endif
#if defined(__clang__)
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (FN(bits)){__VA_ARGS__})
#endif

/* Transpose VL x VL in registers. One round of interleaving row i with row i + VL/2 rotates the bits of
 * (row, column) left by one; after log2(VL) rounds, row and column have changed places. */
ALWAYS_INLINE void FN(transpose_square)(FN(vec) *v) {
    UNROLL for (int round = 1; round < VL; round *= 2) {
        FN(vec) w[VL];
        UNROLL for (int i = 0; i < VL / 2; i++) {
            w[2 * i] = SHUFFLE(v[i], v[i + VL / 2], LOW_LANES);
            w[2 * i + 1] = SHUFFLE(v[i], v[i + VL / 2], HIGH_LANES);
        }
        UNROLL for (int i = 0; i < VL; i++) v[i] = w[i];
    }
}

#if defined(MG_AVX512) && REAL_IS_FLOAT
/* Four columns of 16 rows as four rows of 16: the four pieces of a vector come from memory right into their places, so that
 * half of the shuffles above are loads, of which there are twice as many a cycle. */
ALWAYS_INLINE void transpose_four(const float *s, int64_t rss, float *d, int64_t rsd) {
    __m512 t[4];
    UNROLL for (int r = 0; r < 4; r++) {
        t[r] = _mm512_castps128_ps512(_mm_loadu_ps(s + r * rss));
        t[r] = _mm512_insertf32x4(t[r], _mm_loadu_ps(s + (r + 4) * rss), 1);
        t[r] = _mm512_insertf32x4(t[r], _mm_loadu_ps(s + (r + 8) * rss), 2);
        t[r] = _mm512_insertf32x4(t[r], _mm_loadu_ps(s + (r + 12) * rss), 3);
    }
    const __m512d low01 = (__m512d)_mm512_unpacklo_ps(t[0], t[1]), low23 = (__m512d)_mm512_unpacklo_ps(t[2], t[3]);
    const __m512d high01 = (__m512d)_mm512_unpackhi_ps(t[0], t[1]), high23 = (__m512d)_mm512_unpackhi_ps(t[2], t[3]);
    _mm512_storeu_pd(d, _mm512_unpacklo_pd(low01, low23));
    _mm512_storeu_pd(d + rsd, _mm512_unpackhi_pd(low01, low23));
    _mm512_storeu_pd(d + 2 * rsd, _mm512_unpacklo_pd(high01, high23));
    _mm512_storeu_pd(d + 3 * rsd, _mm512_unpackhi_pd(high01, high23));
}
#endif

/* dst[p * rsd + j] = src[j * rss + p] for p < k, j < n; nothing else is written.
 * Budget: VL loads, VL log2(VL) shuffles, VL stores per square; with four columns at a time, 4 VL loads and 2 VL shuffles. These
 * read a cache line four times, so rows must not fall into the same set of L1. */
static void FN(transpose)(int64_t k, int64_t n, const void *from, int64_t rss, void *to, int64_t rsd) {
    const REAL *src = from;
    REAL *dst = to;
    for (int64_t j = 0; j < n; j += VL) {
        int64_t first = 0;
#if defined(MG_AVX512) && REAL_IS_FLOAT
        if (n - j >= VL && rss % 1024 != 0)
            for (; first + 4 <= k; first += 4) transpose_four(src + j * rss + first, rss, dst + first * rsd + j, rsd);
#endif
        for (int64_t p = first; p < k; p += VL) {
            const int rows = n - j < VL ? (int)(n - j) : VL, columns = k - p < VL ? (int)(k - p) : VL;
            const REAL *s = src + j * rss + p;
            REAL *d = dst + p * rsd + j;
            FN(vec) v[VL];
            if (rows == VL && columns == VL) {
                UNROLL for (int i = 0; i < VL; i++) v[i] = FN(load)(s + i * rss);
                FN(transpose_square)(v);
                UNROLL for (int i = 0; i < VL; i++) FN(store)(d + i * rsd, v[i]);
            } else {
                for (int i = 0; i < VL; i++)
                    v[i] = i >= rows ? (FN(vec)){0} : columns == VL ? FN(load)(s + i * rss)
                                                                    : FN(load_first)(s + i * rss, columns);
                FN(transpose_square)(v);
                for (int i = 0; i < columns; i++) {
                    if (rows == VL) FN(store)(d + i * rsd, v[i]);
                    else FN(store_first)(d + i * rsd, v[i], rows);
                }
            }
        }
    }
}

/* Panels that lie side by side in `from`, the first `more` of n + 1 columns, the others of n: panel q is copied to
 * to + q * apart, its rows next to each other. Row by row over all of them, because rows that are pages apart are found
 * by no prefetcher. Rows are stored as full vectors, each overwriting the excess of the one before. */
static void FN(copy_panels)(int64_t k, int64_t panels, int64_t n, int64_t more, const void *from, int64_t rss, void *to,
                            int64_t apart) {
    enum { AHEAD = 8, LINE = 64 / sizeof(REAL) };
    const REAL *src = from;
    for (int64_t p = 0; p < k; p++, src += rss) {
        const REAL *s = src;
        for (int64_t j = 0; j < panels * n + more; j += LINE) __builtin_prefetch(s + AHEAD * rss + j);
        for (int64_t q = 0; q < panels; q++) {
            const int64_t columns = n + (q < more);
            REAL *d = (REAL *)to + q * apart + p * columns;
            int64_t j = 0;
            for (; j + VL <= columns; j += VL) FN(store)(d + j, FN(load)(s + j));
            if (j < columns) FN(store)(d + j, FN(load_first)(s + j, (int)(columns - j)));
            s += columns;
        }
    }
}

#undef LOW_LANES
#undef HIGH_LANES
#undef SHUFFLE
