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

/* --- weight gradient: F(3x3, 4x4), the 3 x 3 sums of 4 x 4 cotangents over 6 x 6 inputs, at the same points ------------ */

/* One dimension: four cotangents to six. */
ALWAYS_INLINE void FN(winograd_h)(const FN(vec) *g, FN(vec) *y) {
    const REAL quarter = (REAL)(1.0 / 4), sixth = (REAL)(-1.0 / 6), a = (REAL)(1.0 / 24), b = (REAL)(1.0 / 12), c = (REAL)(1.0 / 6),
               d = (REAL)(1.0 / 3);
    const FN(vec) even = sixth * (g[0] + g[2]), odd = sixth * (g[1] + g[3]), far = a * g[0] + c * g[2], near = b * g[1] + d * g[3];
    y[0] = quarter * g[0];
    y[1] = even + odd;
    y[2] = even - odd;
    y[3] = far + near;
    y[4] = far - near;
    y[5] = g[3];
}

/* `tiles` tiles of 4 x 4 cotangents, laid out like the source and the destination of winograd_in. */
static void FN(winograd_grad_in)(int64_t tiles, const void *from, int64_t width, void *to, int64_t rsd, int64_t apart) {
    const REAL *src = from;
    REAL *dst = to;
    for (; tiles > 0; tiles--, src += 4 * VL, dst += rsd) {
        FN(vec) rows[6][4];
        UNROLL for (int j = 0; j < 4; j++) {
            FN(vec) x[4], y[6];
            UNROLL for (int i = 0; i < 4; i++) x[i] = FN(load)(src + (i * width + j) * VL);
            FN(winograd_h)(x, y);
            UNROLL for (int i = 0; i < 6; i++) rows[i][j] = y[i];
        }
        UNROLL for (int i = 0; i < 6; i++) {
            FN(vec) y[6];
            FN(winograd_h)(rows[i], y);
            UNROLL for (int j = 0; j < 6; j++) FN(store)(dst + (6 * i + j) * apart, y[j]);
        }
    }
}

/* One dimension: six sums of products to three weights. */
ALWAYS_INLINE void FN(winograd_s)(const FN(vec) *x, FN(vec) *y) {
    const REAL two = 2, four = 4;
    const FN(vec) p = x[1] + x[2], q = x[3] + x[4], m = x[1] - x[2], n = x[3] - x[4];
    y[0] = x[0] + p + q;
    y[1] = m + two * n;
    y[2] = p + four * q + x[5];
}

/* One vector of sums, element e at from[e * apart], to the nine weights to[t * VL]. Returns whether they are finite. */
static int FN(winograd_grad_out)(const void *from, int64_t apart, void *to) {
    const REAL *src = from, zero = 0;
    REAL *dst = to;
    FN(vec) rows[3][6], odd = {0};
    UNROLL for (int j = 0; j < 6; j++) {
        FN(vec) x[6], y[3];
        UNROLL for (int i = 0; i < 6; i++) x[i] = FN(load)(src + (6 * i + j) * apart);
        FN(winograd_s)(x, y);
        UNROLL for (int i = 0; i < 3; i++) rows[i][j] = y[i];
    }
    UNROLL for (int i = 0; i < 3; i++) {
        FN(vec) y[3];
        FN(winograd_s)(rows[i], y);
        UNROLL for (int j = 0; j < 3; j++) {
            odd += zero * y[j];
            FN(store)(dst + (3 * i + j) * VL, y[j]);
        }
    }
    return FN(sum_lanes)(odd) == 0;
}

/* --- turning: channel planes to pixels with VL channels side by side, and back ------------------------------------------ */

/* Rows of pixels that follow each other in each of `count` planes, `rss` apart, to dst[(r * width + j) * VL + channel]. Lanes
 * past the last channel repeat it.
 * Budget: a square of VL x VL at a time, in registers; sixteen streams are more than processors foresee, hence the prefetch. */
static void FN(turn_in)(int64_t rows, int64_t columns, int count, const void *from, int64_t rss, void *to, int64_t width) {
    const REAL *src = from, *row[VL];
    REAL *dst = to;
    const int64_t all = rows * columns, ahead = 4 * VL;
    UNROLL for (int i = 0; i < VL; i++) row[i] = src + (i < count ? i : count - 1) * rss;
    for (int64_t q = 0, j = 0; q < all; q += VL) {
        const int n = all - q < VL ? (int)(all - q) : VL;
        FN(vec) v[VL];
        if (n == VL) UNROLL for (int i = 0; i < VL; i++) v[i] = FN(load)(row[i] + q);
        else UNROLL for (int i = 0; i < VL; i++) v[i] = FN(load_first)(row[i] + q, n);
        UNROLL for (int i = 0; i < VL; i++) __builtin_prefetch(row[i] + q + ahead);
        FN(transpose_square)(v);
        if (j + VL <= columns) {
            UNROLL for (int i = 0; i < VL; i++) FN(store)(dst + i * VL, v[i]);
            dst += VL * VL, j += VL;
            if (j == columns) j = 0, dst += (width - columns) * VL;
        } else
            UNROLL for (int i = 0; i < VL; i++) {
                if (i < n) {
                    FN(store)(dst, v[i]);
                    dst += VL, j++;
                    if (j == columns) j = 0, dst += (width - columns) * VL;
                }
            }
    }
}
/* The way back: src[(r * width + j) * VL + channel] to rows of pixels in each plane. */
static void FN(turn_out)(int64_t rows, int64_t columns, int count, const void *from, int64_t width, void *to, int64_t rsd) {
    const REAL *src = from;
    REAL *dst = to;
    const int64_t all = rows * columns;
    for (int64_t q = 0, j = 0; q < all; q += VL) {
        const int n = all - q < VL ? (int)(all - q) : VL;
        FN(vec) v[VL];
        if (j + VL <= columns) {
            UNROLL for (int i = 0; i < VL; i++) v[i] = FN(load)(src + i * VL);
            src += VL * VL, j += VL;
            if (j == columns) j = 0, src += (width - columns) * VL;
        } else
            UNROLL for (int i = 0; i < VL; i++) {
                v[i] = i < n ? FN(load)(src) : (FN(vec)){0};
                if (i < n) {
                    src += VL, j++;
                    if (j == columns) j = 0, src += (width - columns) * VL;
                }
            }
        FN(transpose_square)(v);
        if (n == VL && count == VL) UNROLL for (int i = 0; i < VL; i++) FN(store)(dst + i * rsd + q, v[i]);
        else if (n == VL) UNROLL for (int i = 0; i < VL; i++) { if (i < count) FN(store)(dst + i * rsd + q, v[i]); }
        else UNROLL for (int i = 0; i < VL; i++) { if (i < count) FN(store_first)(dst + i * rsd + q, v[i], n); }
    }
}
