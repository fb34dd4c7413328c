/* The transforms of Winograd's minimal filtering F(4x4, 3x3): vectors run along channels.
 *
 *     Y = A' [ (G w G') * (B' x B) ] A        * : element by element, summed over input channels
 *
 * A tile of 4 x 4 outputs costs 36 multiplications instead of 144. What is between the transforms is 36 plain matrix
 * products, see winograd.c.
 *
 * Source.     Winograd, "Arithmetic Complexity of Computations", 1980; Lavin & Gray, "Fast Algorithms for Convolutional Neural
 *             Networks", 2016 (arXiv 1509.09308), whose points 0, 1, -1, 2, -2 and infinity these are.
 * Budget.     One row of six values, and its six results, at a time: 12 registers and the constants. 36 loads, 36 stores and
 *             144 additions or multiply-adds for a tile of one vector of channels. */

/* One dimension: six inputs to six products' operands. */
ALWAYS_INLINE void FN(winograd_b)(const FN(vec) *x, FN(vec) *y) {
    const REAL two = 2, four = 4, five = 5;
    const FN(vec) even = x[4] - four * x[2], odd = x[3] - four * x[1];
    const FN(vec) low = x[4] - x[2], step = two * (x[3] - x[1]);
    y[0] = four * x[0] - five * x[2] + x[4];
    y[1] = even + odd;
    y[2] = even - odd;
    y[3] = low + step;
    y[4] = low - step;
    y[5] = four * x[1] - five * x[3] + x[5];
}

/* One dimension: six sums of products to four outputs. */
ALWAYS_INLINE void FN(winograd_a)(const FN(vec) *x, FN(vec) *y) {
    const REAL two = 2, four = 4, eight = 8;
    const FN(vec) p = x[1] + x[2], q = x[3] + x[4], m = x[1] - x[2], n = x[3] - x[4];
    y[0] = x[0] + p + q;
    y[1] = m + two * n;
    y[2] = p + four * q;
    y[3] = m + eight * n + x[5];
}

/* One dimension: three weights to six. */
ALWAYS_INLINE void FN(winograd_g)(const FN(vec) *w, FN(vec) *y) {
    const REAL quarter = (REAL)(1.0 / 4), sixth = (REAL)(-1.0 / 6), a = (REAL)(1.0 / 24), b = (REAL)(1.0 / 12), c = (REAL)(1.0 / 6);
    const FN(vec) outer = sixth * (w[0] + w[2]), inner = sixth * w[1], far = a * w[0] + c * w[2], near = b * w[1];
    y[0] = quarter * w[0];
    y[1] = outer + inner;
    y[2] = outer - inner;
    y[3] = far + near;
    y[4] = far - near;
    y[5] = w[2];
}

/* `tiles` tiles side by side, four pixels apart: src[(i * width + j) * VL] is pixel (i, j) of VL channels; element (i, j) of
 * the transformed tile t goes to dst[(6 * i + j) * apart + t * rsd]. */
static void FN(winograd_in)(int64_t tiles, const void *from, int64_t width, void *to, int64_t rsd, int64_t apart) {
    const REAL *src = from;
    REAL *dst = to;
    for (; tiles > 0; tiles--, src += 4 * VL, dst += rsd) {
        FN(vec) rows[6][6];
        UNROLL for (int j = 0; j < 6; j++) {
            FN(vec) x[6], y[6];
            UNROLL for (int i = 0; i < 6; i++) x[i] = FN(load)(src + (i * width + j) * VL);
            FN(winograd_b)(x, y);
            UNROLL for (int i = 0; i < 6; i++) rows[i][j] = y[i];
        }
        UNROLL for (int i = 0; i < 6; i++) {
            FN(vec) y[6];
            FN(winograd_b)(rows[i], y);
            UNROLL for (int j = 0; j < 6; j++) FN(store)(dst + (6 * i + j) * apart, y[j]);
        }
    }
}

/* The way back: pixel (i, j) of tile t to dst[(i * width + 4 * t + j) * VL], with bias and activation. Returns whether every
 * value is finite. */
static int FN(winograd_out)(int64_t tiles, const void *from, int64_t rss, int64_t apart, const void *bias, int act, void *to,
                            int64_t width) {
    const REAL *src = from;
    REAL *dst = to;
    const REAL zero = 0;
    FN(vec) odd = {0};
    const FN(vec) b = bias ? FN(load)(bias) : (FN(vec)){0};
    for (; tiles > 0; tiles--, src += rss, dst += 4 * VL) {
        FN(vec) rows[4][6];
        UNROLL for (int j = 0; j < 6; j++) {
            FN(vec) x[6], y[4];
            UNROLL for (int i = 0; i < 6; i++) x[i] = FN(load)(src + (6 * i + j) * apart);
            FN(winograd_a)(x, y);
            UNROLL for (int i = 0; i < 4; i++) rows[i][j] = y[i];
        }
        UNROLL for (int i = 0; i < 4; i++) {
            FN(vec) y[4];
            FN(winograd_a)(rows[i], y);
            UNROLL for (int j = 0; j < 4; j++) {
                FN(vec) v = y[j] + b;
                odd += zero * v;   /* a NaN if v is not finite */
                if (act == MG_RELU) v = (FN(vec))((FN(bits))v & ~(v < (FN(vec)){0}));
                FN(store)(dst + (i * width + j) * VL, v);
            }
        }
    }
    return FN(sum_lanes)(odd) == 0;
}

/* Weights of VL output channels, src[t * VL], t = 3 * row + column (counted from the end if `turned`), to dst[e * apart]. */
static void FN(winograd_weights)(const void *from, int turned, void *to, int64_t apart) {
    const REAL *src = from;
    REAL *dst = to;
    FN(vec) rows[6][3];
    UNROLL for (int j = 0; j < 3; j++) {
        FN(vec) w[3], y[6];
        UNROLL for (int i = 0; i < 3; i++) w[i] = FN(load)(src + (turned ? 8 - (3 * i + j) : 3 * i + j) * VL);
        FN(winograd_g)(w, y);
        UNROLL for (int i = 0; i < 6; i++) rows[i][j] = y[i];
    }
    UNROLL for (int i = 0; i < 6; i++) {
        FN(vec) y[6];
        FN(winograd_g)(rows[i], y);
        UNROLL for (int j = 0; j < 6; j++) FN(store)(dst + (6 * i + j) * apart, y[j]);
    }
}
