/* The microkernels of pooling: a row of windows, VL of them side by side in one vector.
 *
 * Contract.   max    the largest element of each window and its place in the image, row * width + column; of equal ones the
 *                    first; a NaN is the largest, and of several the last; padding, which is -infinity here, never wins.
 *             sum    columns of a window are added from the top, then their sums from the left, then one multiplication by
 *                    1 / count: |error| <= (kh + kw + 1) u * sum |x| / count.
 *             planes the same for windows that are whole planes, VL partial sums first: |error| <= (n / VL + 6) u * sum |x|.
 * Budget.     One vector of results (and one of places) in registers for all taps; the rows of a window stay in L1. A stride
 *             of two is two loads and a shuffle. Whole vectors are read: up to 2 VL elements past the last must exist.
 * Left out.   Two-pass maxima over separable windows: larger windows than 3 x 3 are rare. */

#if VL == 16
#define EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#elif VL == 8
#define EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14
#elif VL == 4
#define EVEN_LANES 0, 2, 4, 6
#else
#define EVEN_LANES 0, 2
#endif
/* x[0], x[step], ... */
ALWAYS_INLINE FN(vec) FN(every)(const int64_t step, const REAL *x) {
    if (step == 1) return FN(load)(x);
    if (step == 2) {
        const FN(vec) a = FN(load)(x), b = FN(load)(x + VL);
#if defined(__clang__)
        return __builtin_shufflevector(a, b, EVEN_LANES);
#else
        return __builtin_shuffle(a, b, (FN(bits)){EVEN_LANES});
#endif
    }
    FN(vec) v;
    for (int i = 0; i < VL; i++) v[i] = x[i * step];
    return v;
}
#undef EVEN_LANES

#if REAL_IS_FLOAT
typedef int32_t FN(place);
#else
typedef int64_t FN(place);
#endif

ALWAYS_INLINE void FN(max_windows_of)(const int64_t step, const int with_index, const struct mg_pool_row *r) {
    const FN(place) *first = r->first, *columns = r->columns;
    for (int64_t j = 0; j < r->n; j += VL) {
        const REAL *x = (const REAL *)r->x + j * step;
        FN(vec) best = (FN(vec)){0} - (REAL)__builtin_inf();
        FN(bits) column = {0}, where = {0};
        if (with_index) {
            memcpy(&where, first + j, sizeof where);
            memcpy(&column, columns + j, sizeof column);
            where += (FN(place))r->top;
        }
        for (int64_t u = 0; u < r->kh; u++, x += r->down)
            for (int64_t v = 0; v < r->kw; v++) {
                const FN(vec) at = FN(every)(step, x + v * r->dx);
                const FN(bits) wins = (at > best) | (at != at);
                best = (FN(vec))(((FN(bits))at & wins) | ((FN(bits))best & ~wins));
                if (with_index) {
                    const FN(bits) here = column + (FN(place))(r->place + u * r->place_down + v * r->dx);
                    where = (here & wins) | (where & ~wins);
                }
            }
        const int n = r->n - j < VL ? (int)(r->n - j) : VL;
        if (r->y && n == VL) FN(store)((REAL *)r->y + j, best);
        else if (r->y) FN(store_first)((REAL *)r->y + j, best, n);
        if (with_index) {
            FN(place) all[VL];
            memcpy(all, &where, sizeof all);
            if (n == VL) for (int i = 0; i < VL; i++) r->index[j + i] = all[i];
            else for (int i = 0; i < n; i++) r->index[j + i] = all[i];
        }
    }
}
static void FN(max_windows)(const struct mg_pool_row *r) {
    if (r->index) {
        if (r->step == 1) FN(max_windows_of)(1, 1, r);
        else if (r->step == 2) FN(max_windows_of)(2, 1, r);
        else FN(max_windows_of)(r->step, 1, r);
    } else {
        if (r->step == 1) FN(max_windows_of)(1, 0, r);
        else if (r->step == 2) FN(max_windows_of)(2, 0, r);
        else FN(max_windows_of)(r->step, 0, r);
    }
}

/* All windows of a plane that are two by two and lie side by side, without their places: rows of n windows, in the order in
 * which the loop above looks at their elements. */
ALWAYS_INLINE FN(vec) FN(winner)(FN(vec) best, FN(vec) at) {
    const FN(bits) wins = (at > best) | (at != at);
    return (FN(vec))(((FN(bits))at & wins) | ((FN(bits))best & ~wins));
}
static void FN(max_squares)(int64_t rows, int64_t n, const void *from, int64_t width, void *to) {
    const REAL *x = from;
    REAL *y = to;
    for (int64_t i = 0; i < rows; i++, x += 2 * width, y += n)
        for (int64_t j = 0; j < n; j += VL) {
            const REAL *a = x + 2 * j, *b = a + width;
            const FN(vec) above = FN(winner)(FN(every)(2, a), FN(every)(2, a + 1));
            const FN(vec) best = FN(winner)(FN(winner)(above, FN(every)(2, b)), FN(every)(2, b + 1));
            if (n - j >= VL) FN(store)(y + j, best);
            else FN(store_first)(y + j, best, (int)(n - j));
        }
}

ALWAYS_INLINE void FN(sum_windows_of)(const int64_t step, const struct mg_pool_row *r) {
    for (int64_t j = 0; j < r->n; j += VL) {
        const REAL *x = (const REAL *)r->x + j * step;
        FN(vec) sum = {0};
        for (int64_t v = 0; v < r->kw; v++) {
            FN(vec) column = {0};
            for (int64_t u = 0; u < r->kh; u++) column += FN(every)(step, x + u * r->down + v * r->dx);
            sum += column;
        }
        if (r->factor) sum *= FN(load)((const REAL *)r->factor + j);
        const int n = r->n - j < VL ? (int)(r->n - j) : VL;
        if (n == VL) FN(store)((REAL *)r->y + j, sum);
        else FN(store_first)((REAL *)r->y + j, sum, n);
    }
}
static void FN(sum_windows)(const struct mg_pool_row *r) {
    if (r->step == 1) FN(sum_windows_of)(1, r);
    else if (r->step == 2) FN(sum_windows_of)(2, r);
    else FN(sum_windows_of)(r->step, r);
}

/* y[i] = factor * sum of the n elements of plane i, of at most VL planes. */
static void FN(sum_planes)(int planes, int64_t n, const void *from, double factor, void *to) {
    FN(vec) v[VL];
    for (int i = 0; i < planes; i++) {
        const REAL *x = (const REAL *)from + i * n;
        FN(vec) sum = {0};
        int64_t q = 0;
        for (; q + VL <= n; q += VL) sum += FN(load)(x + q);
        if (q < n) sum += FN(load_first)(x + q, (int)(n - q));
        v[i] = sum;
    }
    for (int i = planes; i < VL; i++) v[i] = (FN(vec)){0};
    FN(transpose_square)(v);
    UNROLL for (int half = VL / 2; half > 0; half /= 2)
        UNROLL for (int i = 0; i < half; i++) v[i] += v[i + half];
    v[0] *= (REAL)factor;
    if (planes == VL) FN(store)(to, v[0]);
    else FN(store_first)(to, v[0], planes);
}

/* y[j * step + v] = x[j] * f[j], v < step: windows side by side. */
static void FN(repeat)(int64_t step, int64_t n, const void *from, const void *factor, void *to) {
    const REAL *x = from, *f = factor;
    REAL *y = to;
    if (step == 2)
        for (int64_t j = 0; j < n; j++) {
            const REAL v = x[j] * f[j];
            y[2 * j] = v;
            y[2 * j + 1] = v;
        }
    else
        for (int64_t j = 0; j < n; j++, y += step) {
            const REAL v = x[j] * f[j];
            for (int64_t i = 0; i < step; i++) y[i] = v;
        }
}

/* y[j * step] = x[j]; y[j] = x[j] * f[j] */
static void FN(spread_row)(int64_t step, int64_t n, const void *from, void *to) {
    for (int64_t j = 0; j < n; j++) ((REAL *)to)[j * step] = ((const REAL *)from)[j];
}
static void FN(times_row)(int64_t n, const void *x, const void *f, void *y) {
    for (int64_t j = 0; j < n; j++) ((REAL *)y)[j] = ((const REAL *)x)[j] * ((const REAL *)f)[j];
}

/* x[index[i]] += g[i], in the order of i; where y is given, only if y[i] > 0. Returns whether all places are inside of x. */
static int FN(scatter)(int64_t n, const void *from, const void *above, const int64_t *index, int64_t pixels, void *to) {
    const REAL *g = from, *y = above;
    REAL *x = to;
    uint64_t far = 0;
    for (int64_t i = 0; i < n; i++) far = (uint64_t)index[i] > far ? (uint64_t)index[i] : far;
    if (n > 0 && far >= (uint64_t)pixels) return 0;
    if (y) for (int64_t i = 0; i < n; i++) x[index[i]] += y[i] > 0 ? g[i] : 0;
    else _Pragma("GCC unroll 4") for (int64_t i = 0; i < n; i++) x[index[i]] += g[i];
    return 1;
}
