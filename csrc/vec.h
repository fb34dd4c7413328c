/* Vectors of VL elements of type REAL, as GCC vector extensions: + * < work lane by lane, and an array index reads
 * one lane. Only the partial loads and stores below name an instruction set.
 *
 * `scalar * vector` becomes a broadcast; writing the broadcast out, `(vec){0} + scalar`, does not. */
typedef REAL FN(vec) __attribute__((vector_size(VBYTES)));
typedef REAL FN(unaligned) __attribute__((vector_size(VBYTES), aligned(sizeof(REAL)), may_alias));
#if REAL_IS_FLOAT
typedef int32_t FN(bits) __attribute__((vector_size(VBYTES)));
#else
typedef int64_t FN(bits) __attribute__((vector_size(VBYTES)));
#endif

ALWAYS_INLINE FN(vec) FN(load)(const REAL *p) { return *(const FN(unaligned) *)p; }
ALWAYS_INLINE void FN(store)(REAL *p, FN(vec) v) { *(FN(unaligned) *)p = v; }

/* The first n lanes, 0 < n < VL; the others read as zero, and their memory is not touched. */
#if defined(MG_AVX512) && REAL_IS_FLOAT
ALWAYS_INLINE FN(vec) FN(load_first)(const REAL *p, int n) { return _mm512_maskz_loadu_ps((1u << n) - 1, p); }
ALWAYS_INLINE void FN(store_first)(REAL *p, FN(vec) v, int n) { _mm512_mask_storeu_ps(p, (1u << n) - 1, v); }
#elif defined(MG_AVX512)
ALWAYS_INLINE FN(vec) FN(load_first)(const REAL *p, int n) { return _mm512_maskz_loadu_pd((1u << n) - 1, p); }
ALWAYS_INLINE void FN(store_first)(REAL *p, FN(vec) v, int n) { _mm512_mask_storeu_pd(p, (1u << n) - 1, v); }
#elif defined(MG_AVX2) && REAL_IS_FLOAT
ALWAYS_INLINE __m256i FN(first)(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
ALWAYS_INLINE FN(vec) FN(load_first)(const REAL *p, int n) { return _mm256_maskload_ps(p, FN(first)(n)); }
ALWAYS_INLINE void FN(store_first)(REAL *p, FN(vec) v, int n) { _mm256_maskstore_ps(p, FN(first)(n), v); }
#elif defined(MG_AVX2)
ALWAYS_INLINE __m256i FN(first)(int n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
ALWAYS_INLINE FN(vec) FN(load_first)(const REAL *p, int n) { return _mm256_maskload_pd(p, FN(first)(n)); }
ALWAYS_INLINE void FN(store_first)(REAL *p, FN(vec) v, int n) { _mm256_maskstore_pd(p, FN(first)(n), v); }
#else
ALWAYS_INLINE FN(vec) FN(load_first)(const REAL *p, int n) {
    FN(vec) v = {0};
    for (int i = 0; i < VL; i++)
        if (i < n) v[i] = p[i];
    return v;
}
ALWAYS_INLINE void FN(store_first)(REAL *p, FN(vec) v, int n) {
    for (int i = 0; i < VL; i++)
        if (i < n) p[i] = v[i];
}
#endif

/* The same for any n: none, some or all. */
ALWAYS_INLINE FN(vec) FN(load_most)(const REAL *p, int64_t n) {
    return n >= VL ? FN(load)(p) : n > 0 ? FN(load_first)(p, (int)n) : (FN(vec)){0};
}
ALWAYS_INLINE void FN(store_most)(REAL *p, FN(vec) v, int64_t n) {
    if (n >= VL) FN(store)(p, v);
    else if (n > 0) FN(store_first)(p, v, (int)n);
}

/* Lane i of the result is lane i + half of v; what is above lane half - 1 does not matter. The indices are written as a
 * constant, without which gcc would put them together at every call, and that takes ten times as long as a sum. */
ALWAYS_INLINE FN(vec) FN(upper)(FN(vec) v, const int half) {
#if defined(__clang__)
    FN(vec) other = v;
    UNROLL for (int i = 0; i < half; i++) other[i] = v[i + half];
    return other;
#else
#if VL == 16
    const FN(bits) lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif VL == 8
    const FN(bits) lane = {0, 1, 2, 3, 4, 5, 6, 7};
#elif VL == 4
    const FN(bits) lane = {0, 1, 2, 3};
#else
    const FN(bits) lane = {0, 1};
#endif
    return __builtin_shuffle(v, (lane + half) & (VL - 1));
#endif
}

/* Of two vectors that follow each other: every second lane, the others; and back, the lanes of two vectors in turn. */
#if VL == 16
#define LANES(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)
#elif VL == 8
#define LANES(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)
#elif VL == 4
#define LANES(f) f(0), f(1), f(2), f(3)
#else
#define LANES(f) f(0), f(1)
#endif
#define TWICE(i) (2 * (i))
#define TWICE_AND_ONE(i) (2 * (i) + 1)
#define IN_TURN(i) ((i) / 2 + (i) % 2 * VL)
#define IN_TURN_HIGH(i) (((i) + VL) / 2 + (i) % 2 * VL)
#if defined(__clang__)
#define SHUFFLE(a, b, f) __builtin_shufflevector(a, b, LANES(f))
#else
#define SHUFFLE(a, b, f) __builtin_shuffle(a, b, (FN(bits)){LANES(f)})
#endif
ALWAYS_INLINE FN(vec) FN(evens)(FN(vec) a, FN(vec) b) { return SHUFFLE(a, b, TWICE); }
ALWAYS_INLINE FN(vec) FN(odds)(FN(vec) a, FN(vec) b) { return SHUFFLE(a, b, TWICE_AND_ONE); }
ALWAYS_INLINE FN(vec) FN(zip_low)(FN(vec) a, FN(vec) b) { return SHUFFLE(a, b, IN_TURN); }
ALWAYS_INLINE FN(vec) FN(zip_high)(FN(vec) a, FN(vec) b) { return SHUFFLE(a, b, IN_TURN_HIGH); }
#undef SHUFFLE
#undef LANES
#undef TWICE
#undef TWICE_AND_ONE
#undef IN_TURN
#undef IN_TURN_HIGH

/* Sum of the lanes, as a balanced tree: the same order at every call. */
ALWAYS_INLINE REAL FN(sum_lanes)(FN(vec) v) {
    UNROLL for (int half = VL / 2; half > 0; half /= 2) v += FN(upper)(v, half);
    return v[0];
}

/* How many elements of p come before its first aligned vector, at most n. */
ALWAYS_INLINE int64_t FN(lead)(const void *p, int64_t n) {
    const int64_t lead = (int64_t)(-((uintptr_t)p / sizeof(REAL)) % VL);
    return lead < n ? lead : n;
}

/* Do something to n elements, vector by vector: to the `left` elements before the first aligned vector of p, to whole vectors
 * (left == VL), and to the rest, each time from element `at` on. numpy's large arrays all begin 16 bytes after a cache line:
 * done like this, no access to them straddles two lines, which would take up to twice as long. */
#undef ALIGNED
#define ALIGNED(n, p, ...)                                                                                          \
    do {                                                                                                            \
        const int64_t end_ = (n), lead_ = FN(lead)(p, end_);                                                        \
        int64_t at = 0;                                                                                             \
        if (lead_ > 0) {                                                                                            \
            const int64_t left = lead_;                                                                             \
            __VA_ARGS__;                                                                                            \
        }                                                                                                           \
        for (at = lead_; at + VL <= end_; at += VL) {                                                               \
            const int64_t left = VL;                                                                                \
            __VA_ARGS__;                                                                                            \
        }                                                                                                           \
        if (at < end_) {                                                                                            \
            const int64_t left = end_ - at;                                                                         \
            __VA_ARGS__;                                                                                            \
        }                                                                                                           \
    } while (0)
