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

ALWAYS_INLINE FN(bytes) FN(load_bytes)(const uint8_t *p, int n) {
    FN(bytes) v;
    if (n == VBYTES) memcpy(&v, p, VBYTES);
    else {
        memset(&v, 0, VBYTES);
        memcpy(&v, p, (size_t)n);
    }
    return v;
}

static void FN(max_window)(int64_t n, int64_t rows, int64_t columns, const uint8_t *x, int64_t down, int64_t right, uint8_t *y) {
    for (int64_t i = 0; i < n; i += VBYTES) {
        const int some = n - i < VBYTES ? (int)(n - i) : VBYTES;
        FN(bytes) v;
        memset(&v, 0, VBYTES);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++)
                v = FN(most_bytes)(v, FN(load_bytes)(x + i + r * down + c * right, some));
        if (some == VBYTES) memcpy(y + i, &v, VBYTES);
        else memcpy(y + i, &v, (size_t)some);
    }
}

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

/* One pixel of a depthwise convolution: column j of the tile is channel j, with bytes of its own: tap t at tap[t][j]. */
static void FN(depthwise)(const struct mg_quantized_tile *t, const uint8_t *const *tap) {
    for (int64_t at = 0; at < t->columns; at += VL) {
        const int some = FN(count)(t->columns, at);
        const int8_t *b = t->b + at / MG_PANEL * t->panel + at % MG_PANEL * MG_QUAD;
        FN(bits) start = (FN(bits)){0} - (FN(bits))FN(load_ints)(b) * (uint32_t)t->zero;
        if (t->bias) start += (FN(bits))FN(load_first_ints)(t->bias + at, some);
        FN(ints) sum = (FN(ints))start;
        for (int64_t k = 0; k < t->k; k += MG_QUAD) {
            FN(ints) four = FN(widen)(tap[k] + at, some);
            if (k + 1 < t->k) four |= FN(widen)(tap[k + 1] + at, some) << 8;
            if (k + 2 < t->k) four |= FN(widen)(tap[k + 2] + at, some) << 16;
            if (k + 3 < t->k) four |= (FN(ints))((FN(bits))FN(widen)(tap[k + 3] + at, some) << 24);
            b += MG_PANEL_ROW;
            sum = FN(dot)(sum, FN(unsigned_four)(four), FN(signed_four)(FN(load_ints)(b)));
        }
        FN(put)(&t->then, FN(column_of)(&t->then, at, some), sum, t->c, at, some);
    }
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
