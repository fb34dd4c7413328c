/* Edges of a graph: products with several heads, products sampled at the edges, maximum and softmax over neighbours.
 *
 * Contract.   See struct mg_edge_kernels. A row r has the nonzeros starts[r] .. starts[r+1]-1.
 *                 spmm      y[r][h][f] = sum_k values[k][h] * x[columns[k]][h][f]
 *                 sddmm     values[k][h] = sum_f left[r][h][f] * right[columns[k]][h][f]
 *                 max       y[r][f] = max_k x[columns[k]][f], 0 for a row without nonzeros; NaN wins
 *                 softmax   y[e][f] = exp(x[e][f] - m[r][f]) / s[r][f] for e = places[k], each place once
 *             Sums have a fixed order, and a row belongs to one thread: the same bits for any number of threads.
 * Source.     Sampled dense-dense products: Canny & Zhao, "Big data analytics with small footprint", KDD 2013.
 * Budget.     Up to 4 vectors of one head stay in registers for a whole row. Rows of x are far apart, hence the prefetch. */
#define V FN(vec)
#define PART(p, n) ((n) < VL ? FN(load_first)(p, (int)(n)) : FN(load)(p))

enum { FN(EDGES_AHEAD) = 8 };

ALWAYS_INLINE void FN(put_part)(REAL *p, V v, int64_t n) {
    if (n < VL) FN(store_first)(p, v, (int)n);
    else FN(store)(p, v);
}

/* `vectors` vectors of one head: y[v] = sum_k values[k * heads] * x[columns[k]][v]. */
ALWAYS_INLINE void FN(edges_sum)(const int vectors, int64_t k, int64_t stop, const int32_t *columns, const REAL *values,
                                 int64_t heads, const REAL *x, int64_t stride, int64_t features, REAL *y) {
    V acc[4];
    UNROLL for (int v = 0; v < vectors; v++) acc[v] = (V){0};
    for (; k < stop; k++) {
        const REAL *row = x + columns[k] * stride;
        const REAL value = values[k * heads];
        __builtin_prefetch(x + columns[k + FN(EDGES_AHEAD) < stop ? k + FN(EDGES_AHEAD) : stop - 1] * stride);
        UNROLL for (int v = 0; v < vectors; v++) acc[v] += value * PART(row + v * VL, features - v * VL);
    }
    UNROLL for (int v = 0; v < vectors; v++) FN(put_part)(y + v * VL, acc[v], features - v * VL);
}

/* `count` heads of at most one vector each, side by side: the columns of a row are read once for all of them. */
ALWAYS_INLINE void FN(edges_heads)(const int count, int64_t k, int64_t stop, const int32_t *columns, const REAL *values,
                                   int64_t heads, const REAL *x, int64_t stride, int64_t features, REAL *y) {
    V acc[8];
    UNROLL for (int h = 0; h < count; h++) acc[h] = (V){0};
    for (; k < stop; k++) {
        const REAL *row = x + columns[k] * stride, *value = values + k * heads;
        __builtin_prefetch(x + columns[k + FN(EDGES_AHEAD) < stop ? k + FN(EDGES_AHEAD) : stop - 1] * stride);
        UNROLL for (int h = 0; h < count; h++) acc[h] += value[h] * PART(row + h * features, features);
    }
    UNROLL for (int h = 0; h < count; h++) FN(put_part)(y + h * features, acc[h], features);
}

static void FN(edges_spmm)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *columns, const void *pvalues,
                           const void *px, int64_t heads, int64_t features, void *py) {
    const REAL *values = pvalues, *x = px;
    REAL *y = py;
    const int64_t stride = heads * features;
    for (int64_t r = begin; r < end; r++) {
        const int64_t k = starts[r], stop = starts[r + 1];
        int64_t h = 0;
        for (int count; features <= VL && h < heads; h += count) {
            const int64_t at = h * features;
            count = heads - h >= 8 ? 8 : heads - h >= 4 ? 4 : heads - h >= 2 ? 2 : 1;
            if (count == 8) FN(edges_heads)(8, k, stop, columns, values + h, heads, x + at, stride, features, y + r * stride + at);
            else if (count == 4) FN(edges_heads)(4, k, stop, columns, values + h, heads, x + at, stride, features, y + r * stride + at);
            else if (count == 2) FN(edges_heads)(2, k, stop, columns, values + h, heads, x + at, stride, features, y + r * stride + at);
            else FN(edges_heads)(1, k, stop, columns, values + h, heads, x + at, stride, features, y + r * stride + at);
        }
        for (; h < heads; h++)
            for (int64_t f = 0; f < features; f += 4 * VL) {
                const int64_t left = features - f, at = h * features + f, vectors = (left + VL - 1) / VL;
                const REAL *from = x + at, *value = values + h;
                REAL *to = y + r * stride + at;
                if (vectors >= 4) FN(edges_sum)(4, k, stop, columns, value, heads, from, stride, left, to);
                else if (vectors == 3) FN(edges_sum)(3, k, stop, columns, value, heads, from, stride, left, to);
                else if (vectors == 2) FN(edges_sum)(2, k, stop, columns, value, heads, from, stride, left, to);
                else FN(edges_sum)(1, k, stop, columns, value, heads, from, stride, left, to);
            }
    }
}

static void FN(edges_sddmm)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *columns, const void *pleft,
                            const void *pright, int64_t heads, int64_t features, void *pvalues) {
    const REAL *left = pleft, *right = pright;
    REAL *values = pvalues;
    const int64_t stride = heads * features;
    for (int64_t r = begin; r < end; r++)
        for (int64_t k = starts[r]; k < starts[r + 1]; k++) {
            const REAL *a = left + r * stride, *b = right + columns[k] * stride;
            for (int64_t h = 0; h < heads; h++, a += features, b += features) {
                V acc = {0};
                int64_t f = 0;
                for (; f + VL <= features; f += VL) acc += FN(load)(a + f) * FN(load)(b + f);
                if (f < features) acc += FN(load_first)(a + f, (int)(features - f)) * FN(load_first)(b + f, (int)(features - f));
                values[k * heads + h] = FN(sum_lanes)(acc);
            }
        }
}

static void FN(edges_max)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *columns, const void *px,
                          int64_t features, void *py) {
    const REAL *x = px;
    REAL *y = py;
    for (int64_t r = begin; r < end; r++)
        for (int64_t f = 0; f < features; f += VL) {
            const int64_t left = features - f;
            V top = {0};
            if (starts[r] < starts[r + 1]) top = PART(x + columns[starts[r]] * features + f, left);
            for (int64_t k = starts[r] + 1; k < starts[r + 1]; k++)
                top = FN(max)(top, PART(x + columns[k] * features + f, left));
            FN(put_part)(y + r * features + f, top, left);
        }
}

enum { FN(SOFTMAX_ROOM) = 2048, FN(SOFTMAX_RUN) = 16 };

/* What is added up in REAL, SOFTMAX_RUN terms at a time, is added up in double: 1 / the sums over the edges k .. stop-1, whose
 * values lie at y + at(k) * width, of up to VL elements. */
#define SOFTMAX_SCALE(at)                                                                                                    \
    double total[VL] = {0};                                                                                                  \
    for (int64_t k = first; k < stop;) {                                                                                     \
        V sum = {0};                                                                                                         \
        for (const int64_t run = stop - k < FN(SOFTMAX_RUN) ? stop : k + FN(SOFTMAX_RUN); k < run; k++)                      \
            sum += PART(from + (at) * width, left);                                                                          \
        for (int i = 0; i < VL; i++) total[i] += sum[i];                                                                     \
    }                                                                                                                        \
    V scale;                                                                                                                 \
    for (int i = 0; i < VL; i++) scale[i] = (REAL)(1 / total[i])

/* A row of more than SOFTMAX_ROOM elements. The exponentials are taken in y, in one sweep if its places follow each other. */
static void FN(softmax_long)(int64_t first, int64_t stop, const int32_t *places, const REAL *x, int64_t width, REAL *y) {
    int in_order = places[stop - 1] - places[first] == stop - 1 - first;
    for (int64_t k = first; in_order && k < stop; k++) in_order = places[k] == places[first] + (k - first);
    for (int64_t f = 0; f < width; f += VL) {
        const int64_t left = width - f;
        V top = PART(x + places[first] * width + f, left);
        for (int64_t k = first + 1; k < stop; k++) top = FN(max)(top, PART(x + places[k] * width + f, left));
        for (int64_t k = first; k < stop; k++)
            FN(put_part)(y + places[k] * width + f, PART(x + places[k] * width + f, left) - top, left);
    }
    const int64_t run = in_order ? (stop - first) * width : width;
    for (int64_t k = first; k < stop; k += in_order ? stop - first : 1)
        for (int64_t i = 0; i < run; i += VL) {
            REAL *at = y + places[k] * width + i;
            FN(put_part)(at, FN(exp)(PART(at, run - i)), run - i);
        }
    for (int64_t f = 0; f < width; f += VL) {
        const int64_t left = width - f;
        const REAL *from = y + f;
        SOFTMAX_SCALE(places[k]);
        for (int64_t k = first; k < stop; k++) {
            REAL *at = y + places[k] * width + f;
            FN(put_part)(at, PART(at, left) * scale, left);
        }
    }
}

/* One element an edge, rows first .. last - 1, whose exponentials fit into `room`: there they lie side by side, so that vectors
 * are full however short the rows are. */
static void FN(softmax_narrow)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *places, const REAL *x,
                               REAL *y, REAL *room) {
    const int64_t base = starts[begin], all = starts[end] - base;
    for (int64_t r = begin; r < end; r++) {
        const int64_t first = starts[r], stop = starts[r + 1];
        REAL top = first < stop ? x[places[first]] : 0;
        for (int64_t k = first; k < stop; k++) {
            const REAL a = room[k - base] = x[places[k]];
            top = a > top || a != a ? a : top;
        }
        for (int64_t k = first; k < stop; k++) room[k - base] -= top;
    }
    for (int64_t i = 0; i < all; i += VL) FN(store)(room + i, FN(exp)(FN(load)(room + i)));   /* room has a vector to spare */
    for (int64_t r = begin; r < end; r++) {
        const int64_t first = starts[r], stop = starts[r + 1];
        double total = 0;
        for (int64_t k = first; k < stop; k++) total += room[k - base];
        const REAL scale = (REAL)(1 / total);
        for (int64_t k = first; k < stop; k++) y[places[k]] = room[k - base] * scale;
    }
}

/* The same of several elements an edge. */
static void FN(softmax_short)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *places, const REAL *x,
                              int64_t width, REAL *y, REAL *room) {
    const int64_t base = starts[begin], all = (starts[end] - base) * width;
    for (int64_t r = begin; r < end; r++) {
        const int64_t first = starts[r], stop = starts[r + 1];
        for (int64_t f = 0; f < width && first < stop; f += VL) {
            const int64_t left = width - f;
            V top = PART(x + places[first] * width + f, left);
            for (int64_t k = first + 1; k < stop; k++) top = FN(max)(top, PART(x + places[k] * width + f, left));
            for (int64_t k = first; k < stop; k++)
                FN(put_part)(room + (k - base) * width + f, PART(x + places[k] * width + f, left) - top, left);
        }
    }
    for (int64_t i = 0; i < all; i += VL) FN(store)(room + i, FN(exp)(FN(load)(room + i)));
    for (int64_t r = begin; r < end; r++) {
        const int64_t first = starts[r], stop = starts[r + 1];
        for (int64_t f = 0; f < width && first < stop; f += VL) {
            const int64_t left = width - f;
            const REAL *from = room + f;
            SOFTMAX_SCALE(k - base);
            for (int64_t k = first; k < stop; k++)
                FN(put_part)(y + places[k] * width + f, PART(from + (k - base) * width, left) * scale, left);
        }
    }
}

/* As many rows at a time as have room, and long ones by themselves. */
static void FN(edges_softmax)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *places, const void *px,
                              int64_t width, void *py) {
    const REAL *x = px;
    REAL *y = py, room[FN(SOFTMAX_ROOM) + VL] = {0};
    for (int64_t r = begin; r < end;) {
        int64_t next = r;
        while (next < end && (starts[next + 1] - starts[r]) * width <= FN(SOFTMAX_ROOM)) next++;
        if (next == r) FN(softmax_long)(starts[r], starts[r + 1], places, x, width, y), next++;
        else if (width == 1) FN(softmax_narrow)(r, next, starts, places, x, y, room);
        else FN(softmax_short)(r, next, starts, places, x, width, y, room);
        r = next;
    }
}

#undef SOFTMAX_SCALE
#undef PART
#undef V
