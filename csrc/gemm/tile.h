/* The microkernel: one tile of C in registers.
 *
 * Contract.   C[mr, n] = act(alpha * A[mr, k] B[k, n] + beta * C + bias), n = nv vectors, of which the last has
 *             `tail` lanes if the TAIL variant is called. With beta == 0, C is not read. The PACK variant also leaves
 *             the rows of B that it read in t->pack, nr elements apart: packing costs no pass of its own. Every
 *             element is summed in the order p = 0 .. k-1 by fused multiply-adds (multiply, then add where the
 *             processor has none), so the result does not depend on where a tile begins or who computes it.
 *             Error: |c - exact| <= (k + 3) eps (|A| |B|), and about sqrt(k) eps in practice.
 * Source.     Goto & van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008; Van Zee & van de Geijn,
 *             "BLIS", 2015: outer products on a register block.
 * Budget.     mr * nv accumulators + nv of B + 1 broadcast of A must fit in the registers: 28 + 2 + 1 of 32 for
 *             14 x 2 (AVX-512), 12 + 2 + 1 of 16 for 6 x 2 (AVX2), 8 + 2 + 1 of 16 for 4 x 2 (SSE2). Per step: mr + nv
 *             loads for mr * nv multiply-adds. A panel of B (kc * nr) stays in L1 while rows of A stream from L2.
 *             The PACK variant, which alone meets B where it lies, fetches 8 rows ahead, and the same row of the next panel:
 *             rows that are a page apart are foreseen by no prefetcher (2 to 7 % of a product with few rows).
 * Left out.   Prefetching C gained nothing.
 *
 * mr and nv are constants wherever tile() is inlined, so the loops over them disappear and x[][] lives in registers. */

enum { FN(max_rows) = MR, FN(max_vectors) = NV > 8 ? NV : 8 };

ALWAYS_INLINE FN(vec) FN(relu)(FN(vec) v) { return (FN(vec))((FN(bits))v & ~(v < (FN(vec)){0})); }   /* a NaN stays */

/* C = act(alpha * sums + beta * C + bias) for a tile, whatever alpha and beta are; where they are 0 or 1, the tile stores C. */
__attribute__((noinline)) static void FN(epilogue)(int mr, int nv, int tail, const REAL *sums,
                                                   const struct mg_tile *t) {
    const REAL alpha = (REAL)t->alpha, beta = (REAL)t->beta, *bias = t->bias;
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nv; j++) {
            const int part = tail && j == nv - 1;
            REAL *at = (REAL *)t->c + i * t->rsc + j * VL;
            FN(vec) v = alpha * FN(load)(sums + (i * nv + j) * VL);
            if (beta != 0) v += beta * (part ? FN(load_first)(at, tail) : FN(load)(at));
            if (bias) v += part ? FN(load_first)(bias + j * VL, tail) : FN(load)(bias + j * VL);
            if (t->act == MG_RELU) v = FN(relu)(v);
            if (part) FN(store_first)(at, v, tail);
            else FN(store)(at, v);
        }
}

ALWAYS_INLINE void FN(tile)(const int mr, const int nv, const int variant, const struct mg_tile *t) {
    const int tail = variant & MG_TILE_TAIL ? t->tail : 0;
    const int pack = variant & MG_TILE_PACK;
    const REAL *a = t->a, *b = t->b;
    REAL *packed = t->pack, *c = t->c;
    const int64_t rsa = t->rsa, csa = t->csa, rsb = t->rsb, rsc = t->rsc, panel = t->panel;

    FN(vec) x[FN(max_rows)][FN(max_vectors)];
    UNROLL for (int i = 0; i < mr; i++)
        UNROLL for (int j = 0; j < nv; j++) x[i][j] = (FN(vec)){0};

    const REAL *quad[(MR + 3) / 4];
    UNROLL for (int q = 0; q < (mr + 3) / 4; q++) quad[q] = a + 4 * q * rsa;

    _Pragma("GCC unroll 1") for (int64_t p = t->k; p > 0; p--) {
        FN(vec) row[FN(max_vectors)];
        UNROLL for (int j = 0; j < nv; j++) {
            const REAL *at = j < NV ? b + j * VL : b + j / NV * panel + j % NV * VL;
            row[j] = tail && j == nv - 1 ? FN(load_first)(at, tail) : FN(load)(at);
            if (pack) {
                FN(store)(packed + j * VL, row[j]);
                __builtin_prefetch(b + 8 * rsb + j * VL);
                __builtin_prefetch(b + (NV + j) * VL, 0, 2);
            }
        }
        UNROLL for (int i = 0; i < mr; i++) {
            REAL ai = quad[i / 4][(i % 4) * rsa];
            UNROLL for (int j = 0; j < nv; j++) x[i][j] += ai * row[j];
        }
        UNROLL for (int q = 0; q < (mr + 3) / 4; q++) quad[q] += csa;
        b += rsb;
        if (pack) packed += NV * VL;
    }

    if (t->alpha == 1 && (t->beta == 0 || t->beta == 1)) {
        const REAL *bias = t->bias;
        if (t->beta == 1)
            UNROLL for (int i = 0; i < mr; i++)
                UNROLL for (int j = 0; j < nv; j++) {
                    const REAL *at = c + i * rsc + j * VL;
                    x[i][j] += tail && j == nv - 1 ? FN(load_first)(at, tail) : FN(load)(at);
                }
        if (bias)
            UNROLL for (int j = 0; j < nv; j++) {
                const FN(vec) v = tail && j == nv - 1 ? FN(load_first)(bias + j * VL, tail) : FN(load)(bias + j * VL);
                UNROLL for (int i = 0; i < mr; i++) x[i][j] += v;
            }
        if (t->act == MG_RELU)
            UNROLL for (int i = 0; i < mr; i++)
                UNROLL for (int j = 0; j < nv; j++) x[i][j] = FN(relu)(x[i][j]);
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) {
                REAL *at = c + i * rsc + j * VL;
                if (tail && j == nv - 1) FN(store_first)(at, x[i][j], tail);
                else FN(store)(at, x[i][j]);
            }
    } else {
        REAL sums[mr * nv * VL];
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) FN(store)(sums + (i * nv + j) * VL, x[i][j]);
        FN(epilogue)(mr, nv, tail, sums, t);
    }
}

/* One function per tile shape and variant, and the array that finds it. */
#define TILE_FN(m, n, variant) \
    static void PASTE(tile_##m##_##n##_##variant, TYPE)(const struct mg_tile *t) { FN(tile)(m, n, variant, t); }
#define TILE_FNS(m) \
    TILE_FN(m, 1, 0) TILE_FN(m, 1, 1) TILE_FN(m, 1, 2) TILE_FN(m, 1, 3) \
    TILE_FN(m, 2, 0) TILE_FN(m, 2, 1) TILE_FN(m, 2, 2) TILE_FN(m, 2, 3)
#define TILE_NAME(m, n, variant) PASTE(tile_##m##_##n##_##variant, TYPE)
#define TILE_NAMES(m) \
    TILE_NAME(m, 1, 0), TILE_NAME(m, 1, 1), TILE_NAME(m, 1, 2), TILE_NAME(m, 1, 3), \
    TILE_NAME(m, 2, 0), TILE_NAME(m, 2, 1), TILE_NAME(m, 2, 2), TILE_NAME(m, 2, 3),
_Static_assert(NV == 2, "TILE_FNS lists tiles of one and two vectors");

FOR_EACH_ROW_COUNT(TILE_FNS)
static mg_tile_fn *const FN(tiles)[] = {FOR_EACH_ROW_COUNT(TILE_NAMES)};

/* One row, eight vectors: enough accumulators to hide the latency of the multiply-add in a vector-matrix product. */
#define WIDE 8
TILE_FN(1, 8, 0)

/* y[i] = act(alpha * dot(a_i, x) + beta * y[i] + bias[i]), i < m, with rows of A rsa apart and contiguous.
 * Four rows share the loads of x; two accumulators each make the eight chains that hide the latency. */
ALWAYS_INLINE void FN(dots)(const int rows, const struct mg_tile *t, int64_t i0) {
    const REAL *a = (const REAL *)t->a + i0 * t->rsa, *x = t->b, *bias = t->bias;
    REAL *y = (REAL *)t->c + i0;
    FN(vec) s[4][2];
    UNROLL for (int r = 0; r < rows; r++) s[r][0] = s[r][1] = (FN(vec)){0};
    int64_t p = 0;
    for (; p + 2 * VL <= t->k; p += 2 * VL)
        UNROLL for (int r = 0; r < rows; r++) {
            s[r][0] += FN(load)(a + r * t->rsa + p) * FN(load)(x + p);
            s[r][1] += FN(load)(a + r * t->rsa + p + VL) * FN(load)(x + p + VL);
        }
    for (; p < t->k; p += VL) {
        const int n = t->k - p < VL ? (int)(t->k - p) : VL;
        UNROLL for (int r = 0; r < rows; r++)
            s[r][0] += n == VL ? FN(load)(a + r * t->rsa + p) * FN(load)(x + p)
                               : FN(load_first)(a + r * t->rsa + p, n) * FN(load_first)(x + p, n);
    }
    const REAL alpha = (REAL)t->alpha, beta = (REAL)t->beta;
    UNROLL for (int r = 0; r < rows; r++) {
        REAL v = alpha * FN(sum_lanes)(s[r][0] + s[r][1]);
        if (beta != 0) v += beta * y[r];
        if (bias) v += bias[i0 + r];
        if (t->act == MG_RELU) v = v < 0 ? 0 : v;
        y[r] = v;
    }
}
static void FN(rows_dot)(int64_t m, const struct mg_tile *t) {
    int64_t i = 0;
    for (; i + 4 <= m; i += 4) FN(dots)(4, t, i);
    for (; i < m; i++) FN(dots)(1, t, i);
}

/* Multiply-adds on registers only: the most that one core can do, for the benchmarks to divide by. */
static double FN(probe)(int64_t steps) {
    enum { CHAINS = VBYTES == 64 ? 24 : 12 };
    volatile REAL factor = (REAL)0.999, term = (REAL)0.001;   /* volatile: nothing may be computed beforehand */
    const REAL f = factor, g = term;
    FN(vec) x[CHAINS];
    for (int i = 0; i < CHAINS; i++) x[i] = (FN(vec)){0};
    for (int64_t s = 0; s < steps; s++)
        _Pragma("GCC unroll 24") for (int i = 0; i < CHAINS; i++) x[i] = f * x[i] + g;
    for (int i = 1; i < CHAINS; i++) x[0] += x[i];
    volatile REAL sink = FN(sum_lanes)(x[0]);
    (void)sink;
    return 2.0 * VL * CHAINS * steps;
}
