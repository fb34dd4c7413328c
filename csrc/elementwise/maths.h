/* The vocabulary of minigrad/formula.py on vectors.
 *
 * Contract.   Each function takes and returns whole vectors, lane by lane, and follows C's libm (and numpy) at NaN, the
 *             infinities, zeros and subnormal numbers. The largest error found, in units in the last place against the
 *             exact value; float32 over a dense sweep of all exponents, float64 over random ones (tests/kernels/test_elementwise.py
 *             repeats the sweep and fails if a bound is exceeded):
 *
 *                   exp expm1 log log1p tanh  erf  sin  cos  pow    + - * / sqrt rint floor ceil trunc min max
 *             f32     1   1.5   1   1.5  2.5  1.5  1.5  1.5  0.6   correctly rounded
 *             f64     1     2   1     1  2.5  1.5  2.5  2.5  0.6
 *
 * Source.     Argument reductions after Cody & Waite, "Software Manual for the Elementary Functions" (1980). The float64
 *             logarithm, sine and cosine use the coefficients of fdlibm (Sun Microsystems, 1993). All others are minimax
 *             fits made for this file: the function, divided by its leading terms, fitted at Chebyshev points with Lawson's
 *             weights in 50 digits.
 * Left out.   Sines and cosines of |x| > 4e5 are computed lane by lane by libm, as are pow in float64 and pow of negative,
 *             zero, infinite or NaN arguments in float32.
 * Budget.     Everything is inlined into loops over blocks; at most 14 live vectors, so that nothing spills with 16
 *             registers. With 512-bit vectors exp takes 0.10 ns per float, erf 0.13, tanh 0.17, log 0.26. The processor has only a few
 *             vectors in flight, so what counts is how long one takes: polynomials in float32 go up by the square of their
 *             argument, which halves the chain (Estrin). An estimate of the reciprocal with a Newton step in place of a
 *             division (sigmoid, tanh) took 1.7 times as long. */
#include <math.h>

typedef FN(vec) FN(V);      /* short names for this file */
typedef FN(bits) FN(M);
#if REAL_IS_FLOAT
typedef uint32_t FN(unsigned) __attribute__((vector_size(VBYTES)));
#define MANTISSA 23
#define BIAS 127
#define ROUNDER 12582912.0f              /* 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits */
#define INTEGER 8388608.0f               /* 2^23: from here on every number is an integer */
#define LOG2E 1.44269504f
#define LN2_HIGH 0.693359375f            /* few bits, so that the product with an exponent is exact */
#define LN2_LOW -2.12194440e-4f
#define SQRT_HALF 0x3f3504f3
#define SMALLEST_NORMAL 0x1p-126f
#else
typedef uint64_t FN(unsigned) __attribute__((vector_size(VBYTES)));
#define MANTISSA 52
#define BIAS 1023
#define ROUNDER 6755399441055744.0
#define INTEGER 4503599627370496.0
#define LOG2E 1.4426950408889634
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#define SQRT_HALF 0x3fe6a09e667f3bcd
#define SMALLEST_NORMAL 0x1p-1022
#endif
#define V FN(V)
#define M FN(M)
#define U FN(unsigned)                   /* bits again; its sums may wrap around */
#define REDUCIBLE ((REAL)4e5)            /* beyond, sin and cos need more bits of pi than the constants below have */

/* --- bits, choices ---------------------------------------------------------------------------------------------- */

ALWAYS_INLINE V FN(select)(M mask, V yes, V no) { return (V)(((M)yes & mask) | ((M)no & ~mask)); }
ALWAYS_INLINE V FN(splat)(REAL k) { return (V){0} + k; }

ALWAYS_INLINE M FN(sign_bit)(void) { return (M)(((U){0} + 1) << (8 * (int)sizeof(REAL) - 1)); }
ALWAYS_INLINE V FN(abs)(V x) { return (V)((M)x & ~FN(sign_bit)()); }
ALWAYS_INLINE V FN(copysign)(V size, V sign) { return (V)(((M)size & ~FN(sign_bit)()) | ((M)sign & FN(sign_bit)())); }

/* The larger and the smaller, b if either is NaN: what the instructions do. */
#if defined(MG_AVX512) && REAL_IS_FLOAT
ALWAYS_INLINE V FN(larger)(V a, V b) { return (V)_mm512_max_ps((__m512)a, (__m512)b); }
ALWAYS_INLINE V FN(smaller)(V a, V b) { return (V)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(MG_AVX512)
ALWAYS_INLINE V FN(larger)(V a, V b) { return (V)_mm512_max_pd((__m512d)a, (__m512d)b); }
ALWAYS_INLINE V FN(smaller)(V a, V b) { return (V)_mm512_min_pd((__m512d)a, (__m512d)b); }
#elif defined(MG_AVX2) && REAL_IS_FLOAT
ALWAYS_INLINE V FN(larger)(V a, V b) { return (V)_mm256_max_ps((__m256)a, (__m256)b); }
ALWAYS_INLINE V FN(smaller)(V a, V b) { return (V)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(MG_AVX2)
ALWAYS_INLINE V FN(larger)(V a, V b) { return (V)_mm256_max_pd((__m256d)a, (__m256d)b); }
ALWAYS_INLINE V FN(smaller)(V a, V b) { return (V)_mm256_min_pd((__m256d)a, (__m256d)b); }
#else
ALWAYS_INLINE V FN(larger)(V a, V b) { return FN(select)(a > b, a, b); }
ALWAYS_INLINE V FN(smaller)(V a, V b) { return FN(select)(a < b, a, b); }
#endif

/* The same; NaN if either is NaN, as in numpy. */
ALWAYS_INLINE V FN(max)(V a, V b) { return FN(select)(a != a, a, FN(larger)(a, b)); }
ALWAYS_INLINE V FN(min)(V a, V b) { return FN(select)(a != a, a, FN(smaller)(a, b)); }

/* x limited from one side; NaN stays. */
ALWAYS_INLINE V FN(at_most)(V x, REAL k) { return FN(smaller)(FN(splat)(k), x); }
ALWAYS_INLINE V FN(at_least)(V x, REAL k) { return FN(larger)(FN(splat)(k), x); }

/* 1 where the mask holds, else 0. */
ALWAYS_INLINE V FN(one_if)(M mask) { return (V)((M)FN(splat)(1) & mask); }

ALWAYS_INLINE int FN(any)(M mask) {
#if defined(MG_AVX512) && REAL_IS_FLOAT
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(MG_AVX512)
    return _mm512_movepi64_mask((__m512i)mask) != 0;
#elif defined(MG_AVX2)
    return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
    int any = 0;
    for (int i = 0; i < VL; i++) any |= mask[i] != 0;
    return any;
#endif
}

/* One bit for each lane in which a == b, or in which either is NaN. */
#if defined(MG_AVX512) && REAL_IS_FLOAT
#define COMPARED(predicate, portable) return _mm512_cmp_ps_mask((__m512)a, (__m512)b, predicate)
#elif defined(MG_AVX512)
#define COMPARED(predicate, portable) return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, predicate)
#elif defined(MG_AVX2) && REAL_IS_FLOAT
#define COMPARED(predicate, portable) return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, predicate))
#elif defined(MG_AVX2)
#define COMPARED(predicate, portable) return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, predicate))
#else
#define COMPARED(predicate, portable)                                                                               \
    const M yes = portable;                                                                                         \
    unsigned bits = 0;                                                                                              \
    UNROLL for (int i = 0; i < VL; i++) bits |= (unsigned)(yes[i] & 1) << i;                                        \
    return bits
#endif
ALWAYS_INLINE unsigned FN(equal)(V a, V b) { COMPARED(_CMP_EQ_OQ, a == b); }
ALWAYS_INLINE unsigned FN(unordered)(V a, V b) { COMPARED(_CMP_UNORD_Q, (a != a) | (b != b)); }
#undef COMPARED

/* 2^n for an integer n in the range of normal exponents. */
ALWAYS_INLINE V FN(power_of_two)(M n) { return (V)(((U)n + BIAS) << MANTISSA); }

/* p * 2^n, rounded once more where the result is subnormal; n is given both as integer and as number. */
ALWAYS_INLINE V FN(scale)(V p, V number, M n) {
#if defined(MG_AVX512) && REAL_IS_FLOAT
    (void)n;
    return (V)_mm512_scalef_ps((__m512)p, (__m512)number);
#elif defined(MG_AVX512)
    (void)n;
    return (V)_mm512_scalef_pd((__m512d)p, (__m512d)number);
#else
    (void)number;
    M half = n >> 1;
    return p * FN(power_of_two)(half) * FN(power_of_two)(n - half);
#endif
}

/* --- rounding ---------------------------------------------------------------------------------------------------- */

#if defined(MG_AVX512) && REAL_IS_FLOAT
#define ROUNDED(x, mode) (V)_mm512_roundscale_ps((__m512)(x), mode)
#elif defined(MG_AVX512)
#define ROUNDED(x, mode) (V)_mm512_roundscale_pd((__m512d)(x), mode)
#elif defined(MG_AVX2) && REAL_IS_FLOAT
#define ROUNDED(x, mode) (V)_mm256_round_ps((__m256)(x), mode)
#elif defined(MG_AVX2)
#define ROUNDED(x, mode) (V)_mm256_round_pd((__m256d)(x), mode)
#endif
#ifdef ROUNDED
ALWAYS_INLINE V FN(rint)(V x) { return ROUNDED(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ALWAYS_INLINE V FN(floor)(V x) { return ROUNDED(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
ALWAYS_INLINE V FN(ceil)(V x) { return ROUNDED(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
ALWAYS_INLINE V FN(trunc)(V x) { return ROUNDED(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#undef ROUNDED
#else
ALWAYS_INLINE V FN(rint)(V x) {
    V size = FN(abs)(x), whole = (size + INTEGER) - INTEGER;
    return FN(select)(size < INTEGER, FN(copysign)(whole, x), x);
}
ALWAYS_INLINE V FN(floor)(V x) {
    V near = FN(rint)(x);
    return FN(copysign)(near - FN(one_if)(near > x), x);
}
ALWAYS_INLINE V FN(ceil)(V x) { return -FN(floor)(-x); }
ALWAYS_INLINE V FN(trunc)(V x) { return FN(copysign)(FN(floor)(FN(abs)(x)), x); }
#endif

ALWAYS_INLINE V FN(sign)(V x) {
    V one = FN(one_if)(x > 0) - FN(one_if)(x < 0);
    return FN(select)(x == x, one, x);
}

ALWAYS_INLINE V FN(sqrt)(V x) {
#if defined(MG_AVX512) && REAL_IS_FLOAT
    return (V)_mm512_sqrt_ps((__m512)x);
#elif defined(MG_AVX512)
    return (V)_mm512_sqrt_pd((__m512d)x);
#elif defined(MG_AVX2) && REAL_IS_FLOAT
    return (V)_mm256_sqrt_ps((__m256)x);
#elif defined(MG_AVX2)
    return (V)_mm256_sqrt_pd((__m256d)x);
#else
    V y;
    UNROLL for (int i = 0; i < VL; i++) y[i] = REAL_IS_FLOAT ? (REAL)__builtin_sqrtf((float)x[i]) : (REAL)__builtin_sqrt(x[i]);
    return y;
#endif
}

/* --- exponentials ------------------------------------------------------------------------------------------------ */

/* x = n ln 2 + r with |r| <= ln(2)/2; returns e^r - 1 = r + r^2 P(r). A degree less is enough in
 * float32 where 1 is added to it. */
ALWAYS_INLINE V FN(reduced_expm1)(const int plus_one, V x, V *number, M *n) {
    V z = x * (REAL)LOG2E + ROUNDER;
    *n = (M)((U)z - (U)FN(splat)(ROUNDER));
    z -= ROUNDER;
    *number = z;
    V r = x - z * LN2_HIGH;
    r = r - z * LN2_LOW;
#if REAL_IS_FLOAT
    V square = r * r;
    V p = plus_one ? square * 0.00138637354f + (r * 0.00836760737f + 0.0416672416f)
                   : (r * 0.0001991288308f + 0.001394592587f) * square + (r * 0.00833327517f + 0.04166627266f);
    p = p * square + (plus_one ? r * 0.166665331f + 0.5f : r * 0.1666666681f + 0.5000000077f);
#else
    V square = r * r;
    V p = r * 1.6093353798651924e-10 + 2.0921672918057218e-9;
    p = p * r + 2.5052047770116899e-8;
    p = p * r + 2.7557251625714855e-7;
    p = p * r + 2.7557319277207864e-6;
    p = p * r + 2.4801587350410526e-5;
    p = p * r + 0.00019841269841245873;
    p = p * r + 0.0013888888888871745;
    p = p * r + 0.0083333333333333384;
    p = p * r + 0.041666666666666693;
    p = p * r + 0.16666666666666667;
    p = p * r + 0.5;
#endif
    (void)plus_one;
    return p * square + r;
}

ALWAYS_INLINE V FN(exp)(V x) {
    V number;
    M n;
    x = FN(at_least)(FN(at_most)(x, REAL_IS_FLOAT ? 89 : 710), REAL_IS_FLOAT ? -104 : -746);
    V p = FN(reduced_expm1)(1, x, &number, &n);
    return FN(scale)(p + 1, number, n);
}

/* e^x - 1 = 2^n (e^r - 1) + (2^n - 1), computed at half its size because 2^n alone may overflow. */
ALWAYS_INLINE V FN(expm1)(V x) {
    V number;
    M n;
    V p = FN(reduced_expm1)(0, FN(at_least)(FN(at_most)(x, REAL_IS_FLOAT ? 89 : 710), REAL_IS_FLOAT ? -18 : -40), &number, &n);
    V half = FN(power_of_two)((M)((U)n - 1));
    V y = (half * p + (half - (REAL)0.5)) * 2;
    return FN(select)(x == 0, x, FN(select)(n == 0, p, y));   /* -0 stays -0 */
}

/* tanh |x| = h / (h + 1) with h = (e^2|x| - 1) / 2, which is computed as in expm1; nothing overflows or is lost here. */
ALWAYS_INLINE V FN(tanh)(V x) {
    V number;
    M n;
    V p = FN(reduced_expm1)(0, FN(at_most)(FN(abs)(x), REAL_IS_FLOAT ? 10 : 20) * 2, &number, &n);
    V half = FN(power_of_two)((M)((U)n - 1)), h = half * p + (half - (REAL)0.5);
    return FN(copysign)(h / (h + 1), x);
}

ALWAYS_INLINE V FN(sigmoid)(V x) { return 1 / (1 + FN(exp)(-x)); }

/* --- logarithms -------------------------------------------------------------------------------------------------- */

/* log(2^e (1 + f)) for 1 + f between sqrt(1/2) and sqrt(2). */
ALWAYS_INLINE V FN(log_of)(V f, V e) {
#if REAL_IS_FLOAT
    V square = f * f;
    V p = square * 0.06910432688f + (0.1187444655f - f * 0.1178853573f);
    p = p * square + (0.1421843911f - f * 0.1238453224f);
    p = p * square + (0.2000224156f - f * 0.1666923827f);
    p = p * square + (0.3333331008f - f * 0.2499998711f);
    V y = p * f * square + e * LN2_LOW;
    return (y - square * 0.5f) + f + e * LN2_HIGH;
#else
    V s = f / (f + 2), z = s * s, w = z * z, half = f * f * 0.5;
    V odd = w * (w * (w * 1.531383769920937332e-01 + 2.222219843214978396e-01) + 3.999999999940941908e-01);
    V even = z * (w * (w * (w * 1.479819860511658591e-01 + 1.818357216161805012e-01) + 2.857142874366239149e-01)
                  + 6.666666666666735130e-01);
    return e * LN2_HIGH - ((half - (s * (half + (odd + even)) + e * LN2_LOW)) - f);
#endif
}

/* x = 2^e m with m between sqrt(1/2) and sqrt(2), for a normal x > 0; returns m. */
ALWAYS_INLINE V FN(split)(V x, M *e) {
    U shifted = ((U)x - SQRT_HALF) + (((U){0} + (BIAS + 1)) << MANTISSA);
    *e = (M)(shifted >> MANTISSA) - (BIAS + 1);
    return (V)((U)x - ((U)*e << MANTISSA));
}

ALWAYS_INLINE V FN(number_of)(M n) { return (V)((U)n + (U)FN(splat)(ROUNDER)) - ROUNDER; }   /* a small integer as a number */

/* y where x is positive and finite; what a logarithm is elsewhere. */
ALWAYS_INLINE V FN(log_edges)(V x, V y) {
    y = FN(select)(x < (REAL)INFINITY, y, x);
    return FN(select)(x > 0, y, FN(select)(x == 0, FN(splat)(-(REAL)INFINITY), FN(splat)((REAL)NAN)));
}

ALWAYS_INLINE V FN(log)(V x) {
    M e, tiny = x < SMALLEST_NORMAL;
    V m = FN(split)(FN(select)(tiny, x * (REAL)(INTEGER * 4), x), &e);
    e = e - (tiny & (MANTISSA + 2));
    return FN(log_edges)(x, FN(log_of)(m - 1, FN(number_of)(e)));
}

/* log(1 + x): what is lost in u = 1 + x is put back into the mantissa of u. */
ALWAYS_INLINE V FN(log1p)(V x) {
    M e;
    V u = x + 1, lost = FN(select)(x > 1, 1 - (u - x), x - (u - 1));
    V m = FN(split)(u, &e);
    M shift = ((M)(e < BIAS - 1) & e) | (~(M)(e < BIAS - 1) & (BIAS - 1));
    V f = (m - 1) + lost * FN(power_of_two)(-shift);
    return FN(select)(x == 0, x, FN(log_edges)(u, FN(log_of)(f, FN(number_of)(e))));
}

/* --- the error function ------------------------------------------------------------------------------------------ */

#if defined(MG_AVX512) && REAL_IS_FLOAT
/* One polynomial of degree five for each of sixteen intervals of |x|, around 0, 4/15, 8/15, ... 4, where erf is 1. An instruction
 * that permutes a vector looks the coefficients up: half the work of a polynomial and an exponential. */
static const float erf_coefficients[6][16] = {   /* from the constant one up */
    {0.0f, 0.293918282f, 0.54929924f, 0.742101014f, 0.868571997f, 0.940653563f, 0.9763484f, 0.991706133f,
     0.997447014f, 0.999311507f, 0.999837577f, 0.999966502f, 0.99999398f, 0.999999046f, 0.999999881f, 1.0f},
    {0.128379166f, 1.05092549f, 0.849028826f, 0.594985783f, 0.361679912f, 0.190711066f, 0.0872290358f, 0.034608271f,
     0.0119105661f, 0.00355564663f, 0.000920742983f, 0.000206819706f, 4.02975929e-05f, 6.81082793e-06f, 9.98514565e-07f, 5.65128948e-06f},
    {0.0f, -0.280243516f, -0.452808052f, -0.475995421f, -0.385792911f, -0.254280388f, -0.13957265f, -0.0646146387f,
     -0.0254105441f, -0.00854171533f, -0.00246272795f, -0.000601693813f, -0.000131337045f, -2.01886705e-05f, -8.08342975e-06f, 0.000327480171f},
    {-0.376122504f, -0.30051294f, -0.12202847f, 0.0555174202f, 0.15377982f, 0.162458748f, 0.119794957f, 0.0688582286f,
     0.0321676806f, 0.0124683976f, 0.00405797549f, 0.00111736776f, 0.000261632347f, 5.22862647e-05f, 8.94234836e-06f, 0.00685523683f},
    {0.0f, 0.132559344f, 0.182244837f, 0.136464998f, 0.0468258336f, -0.0232050251f, -0.0486931205f, -0.0419567563f,
     -0.0258018542f, -0.0117181493f, -0.004216264f, -0.00173057115f, -0.000248833559f, -0.000274955644f, 0.000226638498f, 0.0585742369f},
    {0.112163857f, 0.0769924298f, -0.00148437568f, -0.0592243671f, -0.0657041967f, -0.0362416618f, -0.00450582663f, 0.0111324005f,
     0.0123524377f, 0.0079004094f, 0.00369970454f, 0.00136276602f, 0.000407901825f, 0.000100919504f, 2.08764795e-05f, 0.17539005f},
};
ALWAYS_INLINE V FN(erf)(V x) {
    const V size = FN(at_most)(FN(abs)(x), 4), nearest = size * 3.75f + ROUNDER, t = size - (nearest - ROUNDER) * (4 / 15.0f);
#define COEFFICIENT(i) (V)_mm512_permutexvar_ps((__m512i)nearest, _mm512_loadu_ps(erf_coefficients[i]))
    V p = t * COEFFICIENT(5) + COEFFICIENT(4);
    p = p * t + COEFFICIENT(3);
    p = p * t + COEFFICIENT(2);
    p = p * t + COEFFICIENT(1);
    const __mmask16 small = _mm512_cmp_ps_mask((__m512)nearest, _mm512_set1_ps(ROUNDER), _CMP_EQ_OQ);   /* erf t = t + t P(t) */
    p = p * t + (V)_mm512_mask_mov_ps((__m512)(COEFFICIENT(0)), small, (__m512)t);
#undef COEFFICIENT
    return FN(copysign)(p, x);
}
#else
/* Below 1, x + x P(x^2); above, 1 - exp(-t Q(t)) in float32 and 1 - exp(-t^2) R((t - 2.5) / (t + 2.5)) in float64. */
ALWAYS_INLINE V FN(erf)(V x) {
    V size = FN(abs)(x), s = x * x;
#if REAL_IS_FLOAT
    V ss = s * s;
    V p = ss * 7.887244693e-5f + (0.005189469819f - s * 0.0008020269875f);
    p = p * ss + (0.1128359934f - s * 0.02685440981f);
    p = p * ss + (0.1283791659f - s * 0.3761262706f);
    V t = FN(at_most)(size, 4.1f), tt = t * t;
    V q = (t * 5.10576799e-6f - 4.767055694e-5f) * tt + (0.002899191754f - t * 3.867121919e-5f);
    q = q * tt + (0.1052124567f - t * 0.02262262695f);
    q = q * tt + (t * 0.635651879f + 1.128545846f);
    V large = 1 - FN(exp)(-(q * t));
#else
    V p = s * 5.960179313806093e-11 - 1.1374649934083136e-9;
    p = p * s + 1.466024781999099e-8;
    p = p * s - 1.6350383918617501e-7;
    p = p * s + 1.6461007290130798e-6;
    p = p * s - 1.4925595696391015e-5;
    p = p * s + 0.00012055331129726051;
    p = p * s - 0.00085483269813348269;
    p = p * s + 0.0052239776248268131;
    p = p * s - 0.026866170645077705;
    p = p * s + 0.11283791670954884;
    p = p * s - 0.37612638903183748;
    p = p * s + 0.12837916709551257;
    V t = FN(at_most)(size, 6), u = (t - 2.5) / (t + 2.5);
    V q = u * -9.3099610845222995e-7 - 9.4620116743966567e-7;
    q = q * u + 8.5089401709984079e-6;
    q = q * u + 1.8984695733364943e-5;
    q = q * u - 3.4111672851489436e-5;
    q = q * u - 0.00012887778828985756;
    q = q * u + 0.00022837700882852034;
    q = q * u + 0.00087591479051763205;
    q = q * u - 0.0026423659920054476;
    q = q * u - 0.0039937011588876177;
    q = q * u + 0.0399225390765356;
    q = q * u - 0.12503305237880835;
    q = q * u + 0.25171319321744682;
    q = q * u - 0.37173673394897346;
    q = q * u + 0.21080636406114358;
    V large = 1 - FN(exp)(-(t * t)) * q;
#endif
    return FN(select)(size < 1, x * p + x, FN(copysign)(large, x));
}
#endif

/* --- sine and cosine --------------------------------------------------------------------------------------------- */

/* sin(r + n pi/2) for |r| <= pi/4. */
ALWAYS_INLINE V FN(sin_of)(V r, M n) {
    V s = r * r;
#if REAL_IS_FLOAT
    V a = s * -0.0001951915882f + 0.008332195028f;
    a = a * s - 0.1666665529f;
    V b = s * 2.443787617e-5f - 0.001388736075f;
    b = b * s + 0.04166664669f;
#else
    V a = s * 1.58969099521155010221e-10 - 2.50507602534068634195e-08;
    a = a * s + 2.75573137070700676789e-06;
    a = a * s - 1.98412698298579493134e-04;
    a = a * s + 8.33333333332248946124e-03;
    a = a * s - 1.66666666666666324348e-01;
    V b = s * -1.13596475577881948265e-11 + 2.08757232129817482790e-09;
    b = b * s - 2.75573143513906633035e-07;
    b = b * s + 2.48015872894767294178e-05;
    b = b * s - 1.38888888888741095749e-03;
    b = b * s + 4.16666666666666019037e-02;
#endif
    V sine = a * s * r + r, half = s * (REAL)0.5, rest = 1 - half;
    V cosine = rest + ((1 - rest) - half + b * (s * s));
    V y = FN(select)((n & 1) == 0, sine, cosine);
    return (V)((U)y ^ (((U)n & 2) << (8 * (int)sizeof(REAL) - 2)));
}

static __attribute__((noinline)) void FN(sin_lanes)(REAL *y, const REAL *x, int quarter) {
    for (int i = 0; i < VL; i++)
        if (!(x[i] <= REDUCIBLE && x[i] >= -REDUCIBLE)) y[i] = (REAL)(quarter ? cos((double)x[i]) : sin((double)x[i]));
}

/* x - n pi/2, with n the nearest integer to x / (pi/2); pi/2 in three parts, the first two of 33 bits. */
#if REAL_IS_FLOAT
typedef float FN(half) __attribute__((vector_size(VBYTES / 2)));
typedef int32_t FN(half_bits) __attribute__((vector_size(VBYTES / 2)));
union FN(halves) { FN(half) half[2]; FN(half_bits) bits[2]; V whole; M whole_bits; };
#endif

ALWAYS_INLINE vec_f64 FN(reduce)(vec_f64 x, bits_f64 *n) {
    vec_f64 z = x * 6.36619772367581382433e-01 + 6755399441055744.0;
    *n = (bits_f64)z;
    z -= 6755399441055744.0;
    vec_f64 r = x - z * 1.57079632673412561417e+00;
    r = r - z * 6.07710050630396597660e-11;
    return r - z * 2.02226624879595063154e-21;
}

ALWAYS_INLINE V FN(sin_quarter)(V x, int quarter) {   /* sin(x + quarter pi/2) */
    V y;
#if REAL_IS_FLOAT && defined(MG_AVX512)   /* as below, but in registers */
    bits_f64 low, high;
    const __m512d first = _mm512_cvtps_pd(_mm512_castps512_ps256((__m512)x));
    const __m512d second = _mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)x, 1));
    const __m256 a = _mm512_cvtpd_ps((__m512d)FN(reduce)((vec_f64)first, &low));
    const __m256 b = _mm512_cvtpd_ps((__m512d)FN(reduce)((vec_f64)second, &high));
    const V r = (V)_mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1);
    const M n = (M)_mm512_inserti32x8(_mm512_castsi256_si512(_mm512_cvtepi64_epi32((__m512i)low)),
                                      _mm512_cvtepi64_epi32((__m512i)high), 1);
    y = FN(sin_of)(r, (M)((U)n + (unsigned)quarter));
#elif REAL_IS_FLOAT
    union FN(halves) whole = {.whole = x}, r, n;
    UNROLL for (int h = 0; h < 2; h++) {
        bits_f64 k;
        r.half[h] = __builtin_convertvector(FN(reduce)(__builtin_convertvector(whole.half[h], vec_f64), &k), FN(half));
        n.bits[h] = __builtin_convertvector(k, FN(half_bits));
    }
    y = FN(sin_of)(r.whole, (M)((U)n.whole_bits + (unsigned)quarter));
#else
    M n;
    V r = FN(reduce)(x, &n);
    y = FN(sin_of)(r, (M)((U)n + (unsigned)quarter));
#endif
    if (__builtin_expect(FN(any)(~(FN(abs)(x) <= REDUCIBLE)), 0)) {
        REAL in[VL], out[VL];
        FN(store)(in, x);
        FN(store)(out, y);
        FN(sin_lanes)(out, in, quarter);
        y = FN(load)(out);
    }
    return y;
}
ALWAYS_INLINE V FN(sin)(V x) { return FN(select)(x == 0, x, FN(sin_quarter)(x, 0)); }   /* sin(-0) is -0 */
ALWAYS_INLINE V FN(cos)(V x) { return FN(sin_quarter)(x, 1); }

/* --- powers ------------------------------------------------------------------------------------------------------ */

static __attribute__((noinline)) V FN(pow_lanes)(V x, V p) {
    REAL a[VL], b[VL];
    FN(store)(a, x);
    FN(store)(b, p);
    for (int i = 0; i < VL; i++) a[i] = REAL_IS_FLOAT ? (REAL)powf((float)a[i], (float)b[i]) : (REAL)pow(a[i], b[i]);
    return FN(load)(a);
}

ALWAYS_INLINE V FN(pow)(V x, V p) {
#if REAL_IS_FLOAT
    M easy = (x > 0) & (x < INFINITY) & (FN(abs)(p) < INFINITY);
    if (__builtin_expect(FN(any)(~easy), 0)) return FN(pow_lanes)(x, p);
    union FN(halves) a = {.whole = x}, b = {.whole = p}, y;
    UNROLL for (int h = 0; h < 2; h++) {
        vec_f64 log = log_f64(__builtin_convertvector(a.half[h], vec_f64));
        y.half[h] = __builtin_convertvector(exp_f64(log * __builtin_convertvector(b.half[h], vec_f64)), FN(half));
    }
    return y.whole;
#else
    return FN(pow_lanes)(x, p);
#endif
}

#undef V
#undef M
#undef U
#undef MANTISSA
#undef BIAS
#undef ROUNDER
#undef INTEGER
#undef LOG2E
#undef LN2_HIGH
#undef LN2_LOW
#undef SQRT_HALF
#undef SMALLEST_NORMAL
#undef REDUCIBLE
