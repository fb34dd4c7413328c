/* The steps of the tile machine: each reads blocks of numbers that lie in L1 and writes one.
 *
 * Contract.   step(n, d, a, b, c, k, k2): d[i] = f(a[i], b[i], c[i]; k, k2) for i < n, n a multiple of 4 VL; the blocks may be equal
 *             but must not overlap otherwise. Truth values are the numbers 1 and 0, and any nonzero number (NaN too) is true.
 * Budget.     Two loads and a store per vector; the constants stay in registers. Beside that, the call of a step costs about
 *             as much as 10 vectors of a quick one. */
#define V FN(vec)
#define STEP_BY(many, name, expression)                                                                             \
    static void FN(step_##name)(int n, void *d, const void *a, const void *b, const void *c, double k, double k2) {            \
        (void)b, (void)c;                                                                                           \
        const REAL K = (REAL)k, K2 = (REAL)k2;                                                                      \
        (void)K, (void)K2;                                                                                          \
        for (int i = 0; i < n; i += (many) * VL)                                                                    \
            UNROLL for (int at = i; at < i + (many) * VL; at += VL) {                                               \
                const V A = FN(load)((const REAL *)a + at);                                                         \
                FN(store)((REAL *)d + at, (expression));                                                            \
            }                                                                                                       \
    }
#define STEP(name, expression) STEP_BY(1, name, expression)
#define QUICK(name, expression) STEP_BY(4, name, expression)      /* a few instructions: the loop itself counts */
#define B FN(load)((const REAL *)b + at)
#define C FN(load)((const REAL *)c + at)
#define KV FN(splat)(K)
#define LIMIT ((REAL)MG_SLOPE_LIMIT)

QUICK(COPY, A)
QUICK(NEG, -A)
QUICK(ABS, FN(abs)(A))
STEP(SIGN, FN(sign)(A))
QUICK(SQUARE, A *A)
QUICK(SQRT, FN(sqrt)(A))
STEP(EXP, FN(exp)(A))
STEP(EXPM1, FN(expm1)(A))
STEP(LOG, FN(log)(A))
STEP(LOG1P, FN(log1p)(A))
STEP(TANH, FN(tanh)(A))
STEP(ERF, FN(erf)(A))
STEP(SIN, FN(sin)(A))
STEP(COS, FN(cos)(A))
STEP(FLOOR, FN(floor)(A))
STEP(CEIL, FN(ceil)(A))
STEP(RINT, FN(rint)(A))
STEP(TRUNC, FN(trunc)(A))
QUICK(ISNAN, FN(one_if)(A != A))
QUICK(ISFINITE, FN(one_if)(FN(abs)(A) < (REAL)INFINITY))
QUICK(NOT, FN(one_if)(A == 0))
STEP(SIGMOID, FN(sigmoid)(A))
STEP(SILU, A / (1 + FN(exp)(-A)))
STEP(GATE, A / (1 + FN(exp)(B)))

QUICK(ADD, A + B)
QUICK(SUB, A - B)
QUICK(MUL, A * B)
QUICK(DIV, A / B)
QUICK(MAX, FN(max)(A, B))
QUICK(MIN, FN(min)(A, B))
STEP(POW, FN(pow)(A, B))
QUICK(LT, FN(one_if)(A < B))
QUICK(LE, FN(one_if)(A <= B))
QUICK(EQ, FN(one_if)(A == B))
QUICK(NE, FN(one_if)(A != B))
QUICK(AND, FN(one_if)((A != 0) & (B != 0)))
QUICK(OR, FN(one_if)((A != 0) | (B != 0)))

QUICK(ADD_K, A + K)
QUICK(MUL_K, A * K)
QUICK(RSUB_K, K - A)
QUICK(DIV_K, A / K)
QUICK(RDIV_K, K / A)
QUICK(MAX_K, FN(at_least)(A, K))
QUICK(MIN_K, FN(at_most)(A, K))
STEP(POW_K, FN(pow)(A, KV))
QUICK(LT_K, FN(one_if)(A < K))
QUICK(LE_K, FN(one_if)(A <= K))
QUICK(GT_K, FN(one_if)(A > K))
QUICK(GE_K, FN(one_if)(A >= K))
QUICK(EQ_K, FN(one_if)(A == K))
QUICK(NE_K, FN(one_if)(A != K))

QUICK(FMA, A *B + C)
QUICK(FMS, A *B - C)
QUICK(FNMA, C - A * B)
QUICK(FMA_K, A *K + B)
QUICK(FMS_K, A *K - B)
QUICK(FMAK, A *B + K)
QUICK(AFFINE, A *K + K2)
QUICK(CUBIC, A *(A * A * K + K2))
QUICK(WHERE, FN(select)(A != 0, B, C))

/* The derivative of u s, s the logistic function of a cubic, is s + s (1 - s) q with a cubic q of u: gelu in its tanh form. Far
 * out, where s (1 - s) is 0, the limit keeps q finite. (A step for s itself gained nothing: it has enough to compute.) */
QUICK(SLOPE, A *(1 - A) * FN(at_least)(FN(at_most)(B *(B *B *K + K2), LIMIT), -LIMIT) + A)

/* a / (sqrt(b) + k): a step of Adam. Intel's square root and division take 34 cycles a vector; estimates that are corrected by a
 * Newton step each (and the quotient by its remainder) take 10 and are as good as rounding twice. They need a k that is not tiny.
 * AMD's take 7, the estimates 9 to 11. */
ALWAYS_INLINE int FN(estimates)(REAL k) {
#if defined(MG_AVX512) && REAL_IS_FLOAT
    return k >= 1e-11f && !__builtin_cpu_is("amd");
#else
    (void)k;
    return 0;
#endif
}

ALWAYS_INLINE V FN(ratio)(const int estimate, V a, V b, REAL k) {
#if defined(MG_AVX512) && REAL_IS_FLOAT
    if (estimate) {   /* a root below 1e-19 need not be exact */
        const __m512 A_ = (__m512)a, B_ = (__m512)b, r = _mm512_rsqrt14_ps(_mm512_max_ps(B_, _mm512_set1_ps(0x1p-126f)));
        __m512 root = _mm512_mul_ps(B_, r);
        root = _mm512_fmadd_ps(_mm512_fnmadd_ps(root, root, B_), _mm512_mul_ps(r, _mm512_set1_ps(0.5f)), root);
        const __m512 d = _mm512_add_ps(root, _mm512_set1_ps(k));
        __m512 q = _mm512_rcp14_ps(d);
        q = _mm512_fmadd_ps(q, _mm512_fnmadd_ps(d, q, _mm512_set1_ps(1)), q);
        __m512 y = _mm512_mul_ps(A_, q);
        y = _mm512_fmadd_ps(q, _mm512_fnmadd_ps(y, d, A_), y);
        const __mmask16 finite = _mm512_cmp_ps_mask(_mm512_abs_ps(y), _mm512_set1_ps(3.4e38f), _CMP_LE_OQ);
        if (__builtin_expect(finite == 0xffff, 1)) return (V)y;
    }
#else
    (void)estimate;
#endif
    return a / (FN(sqrt)(b) + k);
}

STEP(RATIO, FN(ratio)(FN(estimates)((REAL)k), A, B, K))

static void FN(step_CONST)(int n, void *d, const void *a, const void *b, const void *c, double k, double k2) {
    (void)a, (void)b, (void)c, (void)k2;
    for (int i = 0; i < n; i += VL) FN(store)((REAL *)d + i, FN(splat)((REAL)k));
}

/* Adam's programs in one loop: the operations of the steps without a round trip to L1 between them. A tail is masked. The arrays of a result may be those of an operand: a vector is read before it is written.
 * Budget: 4 loads and 3 stores a vector, from L2 where a model is small, hide the 17 instructions between them. */
#define LOAD(p) (left == VL ? FN(load)((p) + at) : FN(load_first)((p) + at, left))
#define STORE(p, v) (left == VL ? FN(store)((p) + at, v) : FN(store_first)((p) + at, v, left))
/* Do something to whole vectors, for which `left` is known to be VL, and to the rest. */
#define VECTORS(n, ...)                                                                                             \
    do {                                                                                                            \
        int64_t at = 0;                                                                                             \
        for (; at + VL <= (n); at += VL) {                                                                          \
            const int left = VL;                                                                                    \
            __VA_ARGS__;                                                                                            \
        }                                                                                                           \
        if (at < (n)) {                                                                                             \
            const int left = (int)((n) - at);                                                                       \
            __VA_ARGS__;                                                                                            \
        }                                                                                                           \
    } while (0)

ALWAYS_INLINE void FN(adam_chain)(const int decoupled, const int estimate, int64_t n, void *const *x, const double *k) {
    const REAL *pg = x[0], *pm = x[1], *pv = x[2], *pp = x[3];
    REAL *to_m = x[4], *to_v = x[5], *to_p = x[6];
    const REAL old1 = (REAL)k[0], new1 = (REAL)k[1], old2 = (REAL)k[2], new2 = (REAL)k[3], eps = (REAL)k[4], rate = (REAL)k[5];
    const REAL keep = (REAL)k[6];
    VECTORS(n, {
        const V g = LOAD(pg); const V p = LOAD(pp); const V m = LOAD(pm) * old1 + g * new1; const V v = LOAD(pv) * old2 + g * g * new2;
        const V ratio = FN(ratio)(estimate, m, v, eps);
        const V y = decoupled ? p * keep - ratio * rate : ratio * rate + p;
        STORE(to_m, m);
        STORE(to_v, v);
        STORE(to_p, y);
    });
}
static void FN(chain_adam)(int64_t n, void *const *x, const double *k) {
    if (FN(estimates)((REAL)k[4])) FN(adam_chain)(0, 1, n, x, k);
    else FN(adam_chain)(0, 0, n, x, k);
}
static void FN(chain_adamw)(int64_t n, void *const *x, const double *k) {
    if (FN(estimates)((REAL)k[4])) FN(adam_chain)(1, 1, n, x, k);
    else FN(adam_chain)(1, 0, n, x, k);
}

static void FN(chain_mask)(int64_t n, void *const *x, const double *k) {
    const REAL *g = x[0], *y = x[1];
    REAL *to = x[2];
    (void)k;
    VECTORS(n, STORE(to, FN(select)(LOAD(y) <= (V){0}, (V){0}, LOAD(g))));
}

ALWAYS_INLINE void FN(momentum_chain)(const int what, int64_t n, void *const *x, const double *k) {
    const REAL *pg = x[0], *pm = x[1], *pp = x[2];
    REAL *to_m = x[3], *to_p = x[4];
    const REAL keep = (REAL)k[0], rate = (REAL)k[1], decay = (REAL)k[2], ahead = (REAL)k[3];
    VECTORS(n, {
        const V p = LOAD(pp); const V g = what & MG_CHAIN_DECAY ? p * decay + LOAD(pg) : LOAD(pg); const V m = LOAD(pm) * keep + g;
        STORE(to_m, m);
        STORE(to_p, (what & MG_CHAIN_NESTEROV ? m * ahead + g : m) * rate + p);
    });
}
#undef VECTORS
#undef STORE
#undef LOAD

#define MOMENTUM(what) \
    static void PASTE(chain_momentum_##what, TYPE)(int64_t n, void *const *x, const double *k) { FN(momentum_chain)(what, n, x, k); }
MOMENTUM(0) MOMENTUM(1) MOMENTUM(2) MOMENTUM(3)
#undef MOMENTUM

static mg_chain_fn *const FN(chains)[MG_CHAINS] = {
    [MG_CHAIN_ADAM] = FN(chain_adam), [MG_CHAIN_ADAMW] = FN(chain_adamw), [MG_CHAIN_MASK] = FN(chain_mask),
    [MG_CHAIN_MOMENTUM] = FN(chain_momentum_0), FN(chain_momentum_1), FN(chain_momentum_2), FN(chain_momentum_3)};

/* Bytes to numbers and back; any nonzero byte is true. */
static void FN(from_bool)(int64_t n, const uint8_t *src, void *dst) {
    for (int64_t i = 0; i < n; i++) ((REAL *)dst)[i] = src[i] != 0;
}
static void FN(to_bool)(int64_t n, const void *src, uint8_t *dst) {
    for (int64_t i = 0; i < n; i++) dst[i] = ((const REAL *)src)[i] != 0;
}

/* Store a vector past the caches; p is aligned to a vector. Followed by mg_stream_fence(). */
ALWAYS_INLINE void FN(store_past)(REAL *p, V v) {
#if defined(MG_AVX512)
    _mm512_stream_si512((__m512i *)p, (__m512i)v);
#elif defined(MG_AVX2)
    _mm256_stream_si256((__m256i *)p, (__m256i)v);
#else
    FN(store)(p, v);
#endif
}

/* Copy n numbers, a multiple of VL, past the caches. */
static void FN(stream)(int64_t n, const void *from, void *to) {
    for (int64_t i = 0; i < n; i += VL) FN(store_past)((REAL *)to + i, FN(load)((const REAL *)from + i));
}

static mg_step_fn *const FN(steps)[MG_OPS] = {
#define ENTRY(name) [MG_OP_##name] = FN(step_##name),
    MG_FOR_EACH_OP(ENTRY)
#undef ENTRY
};

#undef STEP_BY
#undef STEP
#undef QUICK
#undef V
#undef B
#undef C
#undef KV
#undef LIMIT
