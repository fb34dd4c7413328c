/* What is done to codes one by one, or tap by tap: n elements side by side, channels for convolution and pooling.
 *
 * Contract.   The rules of ops/quantized.py, operation by operation: each float operation rounds, nothing is contracted, half
 *             goes to even. Nothing outside of the n elements is read or written.
 * Budget.     Bound by memory, or by the four conversions between bytes and lanes: a vector of 32-bit lanes at a time. */

/* n <= VL bytes as lanes, others 0. */
ALWAYS_INLINE FN(ints) FN(widen)(const uint8_t *p, int n) {
    uint8_t some[VL];
    if (n < VL) {
        memset(some, 0, sizeof some);
        memcpy(some, p, (size_t)n);
        p = some;
    }
#if VBYTES == 64
    return (FN(ints))_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif VBYTES == 32
    return (FN(ints))_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#else
    return (FN(ints)){p[0], p[1], p[2], p[3]};
#endif
}
ALWAYS_INLINE FN(ints) FN(widen_signed)(const int8_t *p, int n) {   /* -128 + (p ^ 128) */
    return (FN(widen)((const uint8_t *)p, n) ^ 128) - 128;
}
ALWAYS_INLINE FN(vec) FN(floats)(FN(ints) v) { return __builtin_convertvector(v, FN(vec)); }
ALWAYS_INLINE FN(vec) FN(all)(float v) { return (FN(vec)){0} + v; }
ALWAYS_INLINE int FN(count)(int64_t n, int64_t at) { return n - at < VL ? (int)(n - at) : VL; }

/* clamp(rint(v) + zero, low, high); of a NaN, low. */
ALWAYS_INLINE void FN(put_code)(FN(vec) v, int zero, int low, int high, uint8_t *y, int n) {
    v = FN(least)(FN(most)(v, FN(all)((float)(low - zero))), FN(all)((float)(high - zero)));
    FN(store_bytes)(y, FN(rint)(v) + zero, n);
}

static void FN(quantize)(int64_t n, const float *x, float reciprocal, int zero, uint8_t *y) {
    for (int64_t i = 0; i < n; i += VL) {
        const int some = FN(count)(n, i);
        FN(put_code)(FN(load_first)(x + i, some) * reciprocal, zero, 0, 255, y + i, some);
    }
}

static void FN(dequantize)(int64_t n, const uint8_t *x, float scale, int zero, float *y) {
    for (int64_t i = 0; i < n; i += VL) {
        const int some = FN(count)(n, i);
        FN(store_first)(y + i, FN(floats)(FN(widen)(x + i, some) - zero) * scale, some);
    }
}

static void FN(signed_times)(int64_t n, const int8_t *x, float scale, float *y) {
    for (int64_t i = 0; i < n; i += VL) {
        const int some = FN(count)(n, i);
        FN(store_first)(y + i, FN(floats)(FN(widen_signed)(x + i, some)) * scale, some);
    }
}

/* The least and the most of n numbers and 0; both NaN if one is NaN. */
static void FN(range)(int64_t n, const float *x, float *low, float *high) {
    FN(vec) lo[4], hi[4];
    FN(ints) number[4];
    for (int c = 0; c < 4; c++) lo[c] = hi[c] = (FN(vec)){0}, number[c] = (FN(ints)){0} - 1;
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL)
        UNROLL for (int c = 0; c < 4; c++) {
            const FN(vec) v = FN(load)(x + i + c * VL);
            lo[c] = FN(least)(v, lo[c]), hi[c] = FN(most)(v, hi[c]);
            number[c] &= v == v;
        }
    for (; i < n; i += VL) {
        const FN(vec) v = FN(load_first)(x + i, FN(count)(n, i));
        lo[0] = FN(least)(v, lo[0]), hi[0] = FN(most)(v, hi[0]);
        number[0] &= v == v;
    }
    *low = *high = 0;
    int all = 1;
    for (int c = 0; c < 4; c++)
        for (int l = 0; l < VL; l++) {
            if (lo[c][l] < *low) *low = lo[c][l];
            if (hi[c][l] > *high) *high = hi[c][l];
            all &= number[c][l] != 0;
        }
    if (!all) *low = *high = NAN;
}

static void FN(add)(int64_t n, const uint8_t *a, const uint8_t *b, const struct mg_quantized_add *q, uint8_t *y) {
    for (int64_t i = 0; i < n; i += VL) {
        const int some = FN(count)(n, i);
        FN(vec) v = FN(floats)(FN(widen)(a + i, some) - q->zero_a) * q->scale_a;
        FN(vec) w = FN(floats)(FN(widen)(b + i, some) - q->zero_b) * q->scale_b;
        ROUNDED(v);
        ROUNDED(w);
        FN(put_code)(v + w, q->zero, q->low, q->high, y + i, some);
    }
}

/* --- windows: rows x columns places, each with n channels ---------------------------------------------------------------- */

#if defined(__SSE2__)
#if VBYTES == 64
typedef __m512i FN(bytes);
ALWAYS_INLINE FN(bytes) FN(most_bytes)(FN(bytes) a, FN(bytes) b) { return _mm512_max_epu8(a, b); }
#elif VBYTES == 32
typedef __m256i FN(bytes);
ALWAYS_INLINE FN(bytes) FN(most_bytes)(FN(bytes) a, FN(bytes) b) { return _mm256_max_epu8(a, b); }
#else
typedef __m128i FN(bytes);
ALWAYS_INLINE FN(bytes) FN(most_bytes)(FN(bytes) a, FN(bytes) b) { return _mm_max_epu8(a, b); }
#endif
#else
typedef uint8_t FN(bytes) __attribute__((vector_size(VBYTES)));
ALWAYS_INLINE FN(bytes) FN(most_bytes)(FN(bytes) a, FN(bytes) b) {
    const FN(bytes) which = (FN(bytes))(a > b);
    return (a & which) | (b & ~which);
}
#endif

/* The windows of a row: pixel i begins at x + i * step, and its result at y + i * n. */
ALWAYS_INLINE void FN(max_windows_of)(int64_t pixels, int64_t step, int64_t n, const int64_t rows, const int64_t columns,
                                      const uint8_t *x, int64_t down, int64_t right, uint8_t *y) {
    for (; pixels > 0; pixels--, x += step, y += n) {
        int64_t i = 0;
        for (; i + VBYTES <= n; i += VBYTES) {
            FN(bytes) v, w;
            memset(&v, 0, VBYTES);
            UNROLL for (int64_t r = 0; r < rows; r++)
                UNROLL for (int64_t c = 0; c < columns; c++) {
                    memcpy(&w, x + i + r * down + c * right, VBYTES);
                    v = FN(most_bytes)(v, w);
                }
            memcpy(y + i, &v, VBYTES);
        }
#if defined(MG_AVX512)
        if (i < n) {
            const __mmask64 some = ((__mmask64)1 << (n - i)) - 1;
            __m512i v = _mm512_setzero_si512();
            UNROLL for (int64_t r = 0; r < rows; r++)
                UNROLL for (int64_t c = 0; c < columns; c++)
                    v = _mm512_max_epu8(v, _mm512_maskz_loadu_epi8(some, x + i + r * down + c * right));
            _mm512_mask_storeu_epi8(y + i, some, v);
        }
#else
        for (; i < n; i++) {
            uint8_t v = 0;
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < columns; c++) {
                    const uint8_t w = x[i + r * down + c * right];
                    v = w > v ? w : v;
                }
            y[i] = v;
        }
#endif
    }
}
static void FN(max_windows)(int64_t pixels, int64_t step, int64_t n, int64_t rows, int64_t columns, const uint8_t *x,
                            int64_t down, int64_t right, uint8_t *y) {
    if (rows == 2 && columns == 2) FN(max_windows_of)(pixels, step, n, 2, 2, x, down, right, y);
    else if (rows == 3 && columns == 3) FN(max_windows_of)(pixels, step, n, 3, 3, x, down, right, y);
    else FN(max_windows_of)(pixels, step, n, rows, columns, x, down, right, y);
}

/* count runs of n bytes: to[i * apart] = from[i * step]. Two copies that overlap leave no rest. */
#define COPY_BY(size)                                                                                                \
    for (int64_t i = 0; i < count; i++, from += step, to += apart) {                                                 \
        memcpy(to, from, size);                                                                                      \
        memcpy(to + n - size, from + n - size, size);                                                                \
    }
static void FN(copy_runs)(int64_t count, int64_t n, const uint8_t *from, int64_t step, uint8_t *to, int64_t apart) {
    if (n > 64)
        for (int64_t i = 0; i < count; i++, from += step, to += apart) {
            _Pragma("GCC unroll 1") for (int64_t b = 0; b < n - 64; b += 64) memcpy(to + b, from + b, 64);
            memcpy(to + n - 64, from + n - 64, 64);
        }
    else if (n >= 32) COPY_BY(32)
    else if (n >= 16) COPY_BY(16)
    else if (n >= 8) COPY_BY(8)
    else if (n >= 4) COPY_BY(4)
    else if (n >= 2) COPY_BY(2)
    else for (int64_t i = 0; i < count; i++) to[i * apart] = from[i * step];
}
#undef COPY_BY

static void FN(mean_window)(int64_t n, int64_t rows, int64_t columns, const uint8_t *x, int64_t down, int64_t right, int zero,
                            float reciprocal, uint8_t *y) {
    const int32_t zeros = (int32_t)(rows * columns) * zero;
    for (int64_t i = 0; i < n; i += VL) {
        const int some = FN(count)(n, i);
        FN(ints) sum = (FN(ints)){0} - zeros;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++) sum += FN(widen)(x + i + r * down + c * right, some);
        FN(put_code)(FN(floats)(sum) * reciprocal, zero, 0, 255, y + i, some);
    }
}

/* Neighbouring pixels of a depthwise convolution: column j of a tile is channel j, with bytes of its own; those of tap k for
 * pixel i begin at tap[k] + i * step. Weights, bias and scale of a vector of channels stay in registers for all pixels, if
 * `taps` is a constant. */
ALWAYS_INLINE void FN(depthwise_block)(const int64_t taps, const int some, const struct mg_quantized_tile *t,
                                       const uint8_t *const *tap, int64_t at, int64_t pixels, int64_t step) {
    enum { KEPT = 3 };
    const int8_t *b = t->b + at / MG_PANEL * t->panel + at % MG_PANEL * MG_QUAD;
    const struct FN(column) c = FN(column_of)(&t->then, at, some);
    const struct FN(rule) rule = FN(rule_of)(&t->then);
    const int64_t rsc = t->rsc;
    void *y = t->c;
    FN(bits) start = (FN(bits)){0} - (FN(bits))FN(load_ints)(b) * ((uint32_t)t->zero - DOT_SHIFT);
    if (t->bias) start += (FN(bits))FN(load_first_ints)(t->bias + at, some);
    FN(ints) kept[KEPT];
    if (taps <= KEPT * MG_QUAD)
        for (int k = 0; k < (taps + 3) / 4; k++) kept[k] = FN(load_ints)(b + (1 + k) * MG_PANEL_ROW);
    for (int64_t i = 0; i < pixels; i++) {
        const int64_t from = i * step + at;
        FN(ints) sum = (FN(ints))start;
        _Pragma("GCC unroll 3") for (int64_t k = 0; k < taps; k += MG_QUAD) {
            FN(bits) four = (FN(bits))FN(widen)(tap[k] + from, some);
            if (k + 1 < taps) four |= (FN(bits))FN(widen)(tap[k + 1] + from, some) << 8;
            if (k + 2 < taps) four |= (FN(bits))FN(widen)(tap[k + 2] + from, some) << 16;
            if (k + 3 < taps) four |= (FN(bits))FN(widen)(tap[k + 3] + from, some) << 24;
            const FN(ints) w = taps <= KEPT * MG_QUAD ? kept[k / 4] : FN(load_ints)(b + (1 + k / 4) * MG_PANEL_ROW);
            sum = FN(dot)(sum, FN(unsigned_four)((FN(ints))four), FN(signed_four)(w));
        }
        FN(put)(rule, c, sum, y, i * rsc + at, some);
    }
}
ALWAYS_INLINE void FN(depthwise_taps)(const int64_t taps, const struct mg_quantized_tile *t, const uint8_t *const *tap,
                                      int64_t pixels, int64_t step) {
    int64_t at = 0;
    for (; at + VL <= t->columns; at += VL) FN(depthwise_block)(taps, VL, t, tap, at, pixels, step);
    if (at < t->columns) FN(depthwise_block)(taps, (int)(t->columns - at), t, tap, at, pixels, step);
}
static void FN(depthwise)(const struct mg_quantized_tile *t, const uint8_t *const *tap, int64_t pixels, int64_t step) {
    if (t->k == 9) FN(depthwise_taps)(9, t, tap, pixels, step);
    else FN(depthwise_taps)(t->k, t, tap, pixels, step);
}

/* --- float times int8 ----------------------------------------------------------------------------------------------------- */

/* y[r][j] = sum_p x[r][p] * w[j][p], times scale[j], plus bias[j]: `rows` x `columns` <= 4 x 4 dot products. */
ALWAYS_INLINE void FN(mixed_tile)(const int rows, const int columns, const struct mg_weight_only *g, int64_t i, int64_t j) {
    const float *x = g->x + i * g->k;
    const int8_t *w = g->w + j * g->k;
    FN(vec) sum[4][4];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++) sum[r][c] = (FN(vec)){0};
    for (int64_t p = 0; p < g->k; p += VL) {
        const int some = FN(count)(g->k, p);
        FN(vec) b[4];
        UNROLL for (int c = 0; c < columns; c++) b[c] = FN(floats)(FN(widen_signed)(w + c * g->k + p, some));
        UNROLL for (int r = 0; r < rows; r++) {
            const FN(vec) a = FN(load_first)(x + r * g->k + p, some);
            UNROLL for (int c = 0; c < columns; c++) sum[r][c] += a * b[c];
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++) {
            float total[VL];
            memcpy(total, &sum[r][c], sizeof total);
            for (int half = VL / 2; half > 0; half /= 2)
                for (int l = 0; l < half; l++) total[l] += total[l + half];
            g->y[(i + r) * g->n + j + c] = total[0] * g->scale[j + c] + g->bias[j + c];
        }
}

/* All rows, columns j0 .. j1. */
static void FN(weight_only)(const struct mg_weight_only *g, int64_t j0, int64_t j1) {
    int64_t i = 0;
    for (; i + 4 <= g->m; i += 4) {
        int64_t j = j0;
        for (; j + 4 <= j1; j += 4) FN(mixed_tile)(4, 4, g, i, j);
        for (; j < j1; j++) FN(mixed_tile)(4, 1, g, i, j);
    }
    for (; i < g->m; i++) {
        int64_t j = j0;
        for (; j + 4 <= j1; j += 4) FN(mixed_tile)(1, 4, g, i, j);
        for (; j < j1; j++) FN(mixed_tile)(1, 1, g, i, j);
    }
}
