/* Vectors of 32-bit lanes with four bytes each, and their dot product: acc[l] += sum_t a[l][t] * b[l][t], a unsigned, b
 * signed, exact. Nothing but this file names an instruction set.
 *
 * Where there is no instruction for it, bytes become pairs of 16-bit numbers, whose products are added up in 32 bits: t = 0 and
 * 2 together, 1 and 3. AVX2's own product of bytes (maddubs) adds in 16 bits, and saturates. */

typedef int32_t FN(ints) __attribute__((vector_size(VBYTES)));
typedef uint32_t FN(bits) __attribute__((vector_size(VBYTES)));
typedef float FN(vec) __attribute__((vector_size(VBYTES)));
typedef int32_t FN(loose_ints) __attribute__((vector_size(VBYTES), aligned(1), may_alias));
typedef float FN(loose) __attribute__((vector_size(VBYTES), aligned(1), may_alias));

ALWAYS_INLINE FN(ints) FN(load_ints)(const void *p) { return *(const FN(loose_ints) *)p; }
ALWAYS_INLINE FN(vec) FN(load)(const float *p) { return *(const FN(loose) *)p; }
ALWAYS_INLINE FN(vec) FN(load_first)(const float *p, int n) {   /* n lanes, others 0 */
    FN(vec) v = {0};
    if (n == VL) return FN(load)(p);
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}
ALWAYS_INLINE FN(ints) FN(load_first_ints)(const int32_t *p, int n) {
    FN(ints) v = {0};
    if (n == VL) return FN(load_ints)(p);
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}
/* v, and nothing that the compiler knows of how it came about: so that it does not join a product with a sum. */
#if defined(__x86_64__)
#define ROUNDED(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define ROUNDED(v) __asm__("" : "+w"(v))
#else
#define ROUNDED(v) __asm__("" : "+m"(v))
#endif

#if defined(MG_VNNI)
struct FN(four) { FN(ints) all; };
ALWAYS_INLINE struct FN(four) FN(signed_four)(FN(ints) v) { return (struct FN(four)){v}; }
ALWAYS_INLINE struct FN(four) FN(unsigned_four)(FN(ints) v) { return (struct FN(four)){v}; }
ALWAYS_INLINE FN(ints) FN(dot)(FN(ints) acc, struct FN(four) a, struct FN(four) b) {
#if VBYTES == 64
    return (FN(ints))_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a.all, (__m512i)b.all);
#else
    return (FN(ints))_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)a.all, (__m256i)b.all);
#endif
}
#elif defined(MG_SDOT)
/* Both signed: a - 128 instead of a, with the zero point as much less. */
#define DOT_SHIFT 128u
struct FN(four) { FN(ints) all; };
ALWAYS_INLINE struct FN(four) FN(signed_four)(FN(ints) v) { return (struct FN(four)){v}; }
ALWAYS_INLINE struct FN(four) FN(unsigned_four)(FN(ints) v) { return (struct FN(four)){v ^ (int32_t)0x80808080}; }
ALWAYS_INLINE FN(ints) FN(dot)(FN(ints) acc, struct FN(four) a, struct FN(four) b) {
    return (FN(ints))vdotq_s32((int32x4_t)acc, (int8x16_t)a.all, (int8x16_t)b.all);
}
#elif defined(__SSE2__)
#if VBYTES == 64
#define PAIRS(a, b) (FN(ints))_mm512_madd_epi16((__m512i)(a), (__m512i)(b))
#elif VBYTES == 32
#define PAIRS(a, b) (FN(ints))_mm256_madd_epi16((__m256i)(a), (__m256i)(b))
#else
#define PAIRS(a, b) (FN(ints))_mm_madd_epi16((__m128i)(a), (__m128i)(b))
#endif
typedef int16_t FN(shorts) __attribute__((vector_size(VBYTES)));
typedef uint16_t FN(unsigned_shorts) __attribute__((vector_size(VBYTES)));
struct FN(four) { FN(ints) even, odd; };
ALWAYS_INLINE struct FN(four) FN(signed_four)(FN(ints) v) {
    return (struct FN(four)){(FN(ints))((FN(shorts))((FN(unsigned_shorts))v << 8) >> 8), (FN(ints))((FN(shorts))v >> 8)};
}
ALWAYS_INLINE struct FN(four) FN(unsigned_four)(FN(ints) v) {
    return (struct FN(four)){v & 0x00ff00ff, (FN(ints))((FN(unsigned_shorts))v >> 8)};
}
ALWAYS_INLINE FN(ints) FN(dot)(FN(ints) acc, struct FN(four) a, struct FN(four) b) {
    return (FN(ints))((FN(bits))acc + (FN(bits))PAIRS(a.even, b.even) + (FN(bits))PAIRS(a.odd, b.odd));
}
#undef PAIRS
#else
struct FN(four) { FN(ints) t[4]; };
ALWAYS_INLINE struct FN(four) FN(signed_four)(FN(ints) v) {
    const FN(bits) u = (FN(bits))v;
    return (struct FN(four)){{(FN(ints))(u << 24) >> 24, (FN(ints))(u << 16) >> 24, (FN(ints))(u << 8) >> 24, v >> 24}};
}
ALWAYS_INLINE struct FN(four) FN(unsigned_four)(FN(ints) v) {
    const FN(bits) u = (FN(bits))v;
    return (struct FN(four)){{v & 255, (FN(ints))(u >> 8) & 255, (FN(ints))(u >> 16) & 255, (FN(ints))(u >> 24)}};
}
ALWAYS_INLINE FN(ints) FN(dot)(FN(ints) acc, struct FN(four) a, struct FN(four) b) {
    FN(bits) sum = (FN(bits))acc;
    UNROLL for (int i = 0; i < 4; i++) sum += (FN(bits))(a.t[i] * b.t[i]);
    return (FN(ints))sum;
}
#endif

#ifndef DOT_SHIFT
#define DOT_SHIFT 0u
#endif

/* The same four bytes in every lane; the first n of them, others 0. */
ALWAYS_INLINE FN(ints) FN(repeat_quad)(const uint8_t *p, int n) {
    int32_t quad = 0;
    if (n == 4) memcpy(&quad, p, 4);
    else for (int i = 0; i < n; i++) quad |= (int32_t)((uint32_t)p[i] << (8 * i));
    return (FN(ints)){0} + quad;
}

/* --- what leaves the lanes --------------------------------------------------------------------------------------------- */

/* Numbers from -2^21 to 2^21, rounded half to even: behind 1.5 * 2^23, a float has no binary places. */
ALWAYS_INLINE FN(ints) FN(rint)(FN(vec) v) { return (FN(ints))(v + 0x1.8p23f) - 0x4b400000; }

/* The low bytes of n lanes. */
ALWAYS_INLINE void FN(store_bytes)(uint8_t *p, FN(ints) v, int n) {
#if defined(MG_AVX512)
    const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)v);
    if (n == VL) _mm_storeu_si128((__m128i *)p, bytes);
    else _mm_mask_storeu_epi8(p, (__mmask16)((1u << n) - 1), bytes);
#else
#if VBYTES == 32
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)v, (__m256i)v), 0x88);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_castsi256_si128(words));
#else
    uint8_t bytes[VL];
    for (int i = 0; i < VL; i++) bytes[i] = (uint8_t)v[i];
#endif
    if (n == VL) memcpy(p, &bytes, VL);
    else memcpy(p, &bytes, (size_t)n);
#endif
}
ALWAYS_INLINE void FN(store_first)(float *p, FN(vec) v, int n) {
    if (n == VL) *(FN(loose) *)p = v;
    else memcpy(p, &v, (size_t)n * sizeof *p);
}
ALWAYS_INLINE FN(vec) FN(choose)(FN(ints) which, FN(vec) a, FN(vec) b) {
    return (FN(vec))(((FN(ints))a & which) | ((FN(ints))b & ~which));
}
#if defined(__SSE2__)
#if VBYTES == 64
#define X86(name) _mm512_##name##_ps
#elif VBYTES == 32
#define X86(name) _mm256_##name##_ps
#else
#define X86(name) _mm_##name##_ps
#endif
ALWAYS_INLINE FN(vec) FN(most)(FN(vec) a, FN(vec) b) { return (FN(vec))X86(max)(a, b); }
ALWAYS_INLINE FN(vec) FN(least)(FN(vec) a, FN(vec) b) { return (FN(vec))X86(min)(a, b); }
#undef X86
#else
ALWAYS_INLINE FN(vec) FN(most)(FN(vec) a, FN(vec) b) { return FN(choose)(a > b, a, b); }
ALWAYS_INLINE FN(vec) FN(least)(FN(vec) a, FN(vec) b) { return FN(choose)(a < b, a, b); }
#endif

/* What becomes of a vector of sums, see struct mg_requantize. */
struct FN(column) { FN(vec) scale, offset; };
ALWAYS_INLINE struct FN(column) FN(column_of)(const struct mg_requantize *q, int64_t j, int n) {
    struct FN(column) c = {FN(load_first)(q->scale + j, n), {0}};
    if (q->to_float && q->offset) c.offset = FN(load_first)(q->offset + j, n);
    return c;
}
/* The same for all columns, in registers: bytes that are stored could be anything, so what is behind a pointer is read again
 * after each store. */
struct FN(rule) {
    int to_float, zero;
    FN(vec) low, high;     /* of what is rounded, or of the float */
    int bounded;           /* the float is clamped: 1 below, 2 above */
};
ALWAYS_INLINE struct FN(rule) FN(rule_of)(const struct mg_requantize *q) {
    const float low = q->to_float ? q->least : (float)(q->low - q->zero), high = q->to_float ? q->most : (float)(q->high - q->zero);
    return (struct FN(rule)){.to_float = q->to_float, .zero = q->zero, .low = (FN(vec)){0} + low, .high = (FN(vec)){0} + high,
                             .bounded = (q->least > -INFINITY ? 1 : 0) + (q->most < INFINITY ? 2 : 0)};
}
ALWAYS_INLINE void FN(put)(struct FN(rule) q, struct FN(column) c, FN(ints) sums, void *y, int64_t at, int n) {
    FN(vec) v = __builtin_convertvector(sums, FN(vec)) * c.scale;
    if (q.to_float) {
        ROUNDED(v);
        v += c.offset;
        if (q.bounded & 1) v = FN(choose)(v <= q.low, q.low, v);   /* a NaN stays */
        if (q.bounded & 2) v = FN(choose)(v >= q.high, q.high, v);
        FN(store_first)((float *)y + at, v, n);
    } else {
        v = FN(least)(FN(most)(v, q.low), q.high);
        FN(store_bytes)((uint8_t *)y + at, FN(rint)(v) + q.zero, n);
    }
}

/* --- rows that carry their scale and zero point right before them ------------------------------------------------------- */
ALWAYS_INLINE uint32_t FN(own_zero)(const uint8_t *row) {
    uint32_t zero;
    memcpy(&zero, row - 4, 4);
    return zero;
}
ALWAYS_INLINE struct FN(column) FN(own_scale)(struct FN(column) c, const uint8_t *row) {
    float scale;
    memcpy(&scale, row - 8, 4);
    c.scale *= scale;
    return c;
}
