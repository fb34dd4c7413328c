/* The integer microkernel: a tile of C in registers.
 *
 * Contract.   C[i][j] = then(bias[j] + sum_p (A[i][p] - zero) * W[p][j]) for mr rows and up to nv vectors of columns, the sum
 *             taken modulo 2^32: exact for k up to 65,536 as |sum| <= 255 * 127 * 65,536 < 2^31, in any order, hence the
 *             same bits on every table. The sum of a column of W stands in its panel, so the zero point costs nothing:
 *             sum (a - zero) w = sum a w - zero sum w.
 * Source.     Jacob et al. 2018, section 2.3; the arrangement of bytes is that of the dot product instructions.
 * Budget.     mr * nv accumulators, nv of W (two each where a dot product is two multiplications), one or two of A. Per
 *             step of four k: mr broadcasts and nv loads for mr * nv dot products. */

/* What becomes of the sums of a tile, column by column: once for all tiles, as it would be most of their code. */
__attribute__((noinline)) static void FN(quantized_epilogue)(int mr, int nv, const FN(ints) *sums,
                                                             const struct mg_quantized_tile *t) {
    const struct FN(rule) rule = FN(rule_of)(&t->then);
    const int64_t rsc = t->rsc, rsa = t->rsa;
    const uint8_t *a = t->a;
    void *y = t->c;
    for (int j = 0; j < nv; j++, sums += mr) {
        const int n = j < nv - 1 ? VL : t->columns - j * VL;
        const struct FN(column) c = FN(column_of)(&t->then, j * VL, n);
        if (t->headers)
            for (int i = 0; i < mr; i++) FN(put)(rule, FN(own_scale)(c, a + i * rsa), sums[i], y, i * rsc + j * VL, n);
        else if (n == VL)
            for (int i = 0; i < mr; i++) FN(put)(rule, c, sums[i], y, i * rsc + j * VL, VL);
        else for (int i = 0; i < mr; i++) FN(put)(rule, c, sums[i], y, i * rsc + j * VL, n);
    }
}

ALWAYS_INLINE void FN(quantized_tile)(const int mr, const int nv, const struct mg_quantized_tile *t) {
    const int8_t *b[NV];
    FN(ints) x[MR][NV];
    UNROLL for (int j = 0; j < nv; j++) {
        const int first = j * VL, n = j < nv - 1 ? VL : t->columns - first;
        b[j] = t->b + first / MG_PANEL * t->panel + first % MG_PANEL * MG_QUAD;
        const FN(bits) sums = (FN(bits))FN(load_ints)(b[j]), start = t->bias ? (FN(bits))FN(load_first_ints)(t->bias + first, n)
                                                                            : (FN(bits)){0};
        b[j] += MG_PANEL_ROW;
        UNROLL for (int i = 0; i < mr; i++) x[i][j] = (FN(ints))(start - sums * ((uint32_t)t->zero - DOT_SHIFT));
        if (t->headers)
            UNROLL for (int i = 0; i < mr; i++) x[i][j] = (FN(ints))(start - sums * (FN(own_zero)(t->a + i * t->rsa) - DOT_SHIFT));
    }
    const int64_t rsa = t->rsa;
    const uint8_t *quad[(MR + 3) / 4];
    UNROLL for (int q = 0; q < (mr + 3) / 4; q++) quad[q] = t->a + 4 * q * rsa;
    _Pragma("GCC unroll 1") for (int64_t p = t->k / 4; p > 0; p--) {
        struct FN(four) w[NV];
        UNROLL for (int j = 0; j < nv; j++) {
            w[j] = FN(signed_four)(FN(load_ints)(b[j]));
            b[j] += MG_PANEL_ROW;
        }
        UNROLL for (int i = 0; i < mr; i++) {
            const struct FN(four) a = FN(unsigned_four)(FN(repeat_quad)(quad[i / 4] + i % 4 * rsa, 4));
            UNROLL for (int j = 0; j < nv; j++) x[i][j] = FN(dot)(x[i][j], a, w[j]);
        }
        UNROLL for (int q = 0; q < (mr + 3) / 4; q++) quad[q] += 4;
    }
    if (t->k % 4) {   /* the weights of the missing steps are zero, but the bytes may not be ours */
        const int n = (int)(t->k % 4);
        UNROLL for (int i = 0; i < mr; i++) {
            const struct FN(four) a = FN(unsigned_four)(FN(repeat_quad)(quad[i / 4] + i % 4 * rsa, n));
            UNROLL for (int j = 0; j < nv; j++) x[i][j] = FN(dot)(x[i][j], a, FN(signed_four)(FN(load_ints)(b[j])));
        }
    }
    FN(ints) sums[MR * NV];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++) sums[j * mr + i] = x[i][j];
    FN(quantized_epilogue)(mr, nv, sums, t);
}

#define TILE_FN(m, n) \
    static void PASTE(quantized_tile_##m##_##n, TYPE)(const struct mg_quantized_tile *t) { FN(quantized_tile)(m, n, t); }
#define TILE_FNS(m) TILE_FN(m, 1) TILE_FN(m, 2)
#define TILE_NAMES(m) PASTE(quantized_tile_##m##_1, TYPE), PASTE(quantized_tile_##m##_2, TYPE),
_Static_assert(NV == 2, "TILE_FNS lists tiles of one and two vectors");
FOR_EACH_ROW_COUNT(TILE_FNS)
static mg_quantized_tile_fn *const FN(quantized_tiles)[] = {FOR_EACH_ROW_COUNT(TILE_NAMES)};

/* One row: a panel after the other, as it lies in memory, since reading W is all that takes time. Chains: 8 accumulators. */
static void FN(quantized_row)(const struct mg_quantized_tile *t) {
    enum { PARTS = MG_PANEL / VL, CHAINS = 8 / PARTS };
    const int64_t quads = t->k / 4, rest = t->k % 4;
    const uint32_t zero = (t->headers ? FN(own_zero)(t->a) : (uint32_t)t->zero) - DOT_SHIFT;
    for (int64_t first = 0; first < t->columns; first += MG_PANEL) {
        const int8_t *b = t->b + first / MG_PANEL * t->panel;
        FN(ints) x[CHAINS][PARTS];
        UNROLL for (int j = 0; j < PARTS; j++) {
            x[0][j] = (FN(ints))((FN(bits))FN(load_ints)(b + j * VL * MG_QUAD) * (0u - zero));
            UNROLL for (int c = 1; c < CHAINS; c++) x[c][j] = (FN(ints)){0};
        }
        b += MG_PANEL_ROW;
        const uint8_t *a = t->a;
        int64_t p = 0;
        for (; p + CHAINS <= quads; p += CHAINS)
            UNROLL for (int c = 0; c < CHAINS; c++) {
                const struct FN(four) x4 = FN(unsigned_four)(FN(repeat_quad)(a, 4));
                UNROLL for (int j = 0; j < PARTS; j++)
                    x[c][j] = FN(dot)(x[c][j], x4, FN(signed_four)(FN(load_ints)(b + j * VL * MG_QUAD)));
                a += 4, b += MG_PANEL_ROW;
            }
        for (; p < quads + (rest > 0); p++) {
            const struct FN(four) x4 = FN(unsigned_four)(FN(repeat_quad)(a, p < quads ? 4 : (int)rest));
            UNROLL for (int j = 0; j < PARTS; j++)
                x[0][j] = FN(dot)(x[0][j], x4, FN(signed_four)(FN(load_ints)(b + j * VL * MG_QUAD)));
            a += 4, b += MG_PANEL_ROW;
        }
        UNROLL for (int j = 0; j < PARTS; j++) {
            const int64_t at = first + j * VL;
            const int n = t->columns - at < VL ? (int)(t->columns - at) : VL;
            if (n <= 0) break;
            FN(bits) sum = (FN(bits))x[0][j];
            UNROLL for (int c = 1; c < CHAINS; c++) sum += (FN(bits))x[c][j];
            if (t->bias) sum += (FN(bits))FN(load_first_ints)(t->bias + at, n);
            const struct FN(column) c = FN(column_of)(&t->then, at, n);
            FN(put)(FN(rule_of)(&t->then), t->headers ? FN(own_scale)(c, t->a) : c, (FN(ints))sum, t->c, at, n);
        }
    }
}
