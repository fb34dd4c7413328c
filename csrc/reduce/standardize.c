/* Standardisation: y = (x - mean) / sqrt(var + eps), the core of layer, batch, instance and group norm; and its gradient.
 *
 * Contract.   As mg_standardize and mg_standardize_grad in minigrad.h. Group i consists of `segments` runs of `length` elements,
 *             x[i * group_stride + s * segment_stride + j]: layer norm has one segment, batch norm of (N, C, H, W) has N
 *             segments of H W elements. A group is computed by one thread in one order, and weight gradients are summed over a
 *             number of parts that depends on the shape alone: the same bits for any number of threads.
 * Source.     With xh = (x - mean) rstd, h = g w and means over the group, gx = rstd (h - mean(h) - xh mean(h xh)): Ioffe,
 *             Szegedy, "Batch Normalization" (2015).
 * Budget.     A group up to the size of L2 is read from memory once forward, and g and x once backward. What is
 *             too large for the caches is written past them (stream.h). Rows of a layer norm go four at a time: their sums
 *             hide each other's latency, and while one pass finds them in L1 it asks for the next four, without which
 *             memory rests during the other passes (forward 1.6 times as long at (4096, 768), backward 1.3). */
#include "isa.h"
#include "pool.h"
#include "scratch.h"
#include "stream.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 16384, MAX_CHUNKS = 4096, PARTS = 16 };

struct job {
    const struct mg_reduce_kernels *k;
    const struct mg_groups *s;
    int size, past;
    const char *g, *x, *w, *b;
    char *y;
    double eps;
    char *mean, *rstd, *m2;
    char *gw, *gb;      /* per group */
    char *parts;        /* [PARTS][2][length], per element */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void put(const struct job *j, char *y, int64_t at, double value) {
    if (y == NULL) return;
    if (j->size == 4) ((float *)y)[at] = (float)value;
    else ((double *)y)[at] = value;
}
static double get(const struct job *j, const char *x, int64_t at) {
    return j->size == 4 ? (double)((const float *)x)[at] : ((const double *)x)[at];
}
static const char *at(const char *p, int64_t elements, int size) { return p ? p + elements * size : NULL; }

static void forward(void *arg, int c, int chunks) {
    const struct job *j = arg;
    const struct mg_groups *s = j->s;
    const int short_rows = s->segments == 1 && s->length <= MG_ROW_BLOCK;
    const int64_t end = s->groups * (c + 1) / chunks;
    for (int64_t first = s->groups * c / chunks, many; first < end; first += many) {
        double mean[4] = {0}, m2[4] = {0};
        many = short_rows ? least(4, end - first) : 1;
        if (short_rows)
            j->k->rows_moments((int)many, s->length, s->group_stride, at(j->x, first * s->group_stride, j->size), mean, m2);
        else {
            double count = 0;
            for (int64_t r = 0; r < s->segments; r++)
                j->k->moments(s->length, at(j->x, first * s->group_stride + r * s->segment_stride, j->size), &count, mean, m2);
        }
        for (int64_t k = 0; k < many; k++) {
            const int64_t i = first + k;
            const double rstd = 1 / sqrt(m2[k] / ((double)s->segments * (double)s->length) + j->eps);
            put(j, j->mean, i, mean[k]);
            put(j, j->m2, i, m2[k]);
            put(j, j->rstd, i, rstd);
            if (j->y == NULL) continue;
            const int64_t shift = s->per_element ? 0 : i;
            for (int64_t r = 0; r < s->segments; r++) {
                const int64_t offset = i * s->group_stride + r * s->segment_stride;
                j->k->normalize(s->length, at(j->x, offset, j->size), mean[k], rstd, at(j->w, shift, j->size),
                                at(j->b, shift, j->size), s->per_element, j->past, j->y + offset * j->size);
            }
        }
    }
    if (j->past) mg_stream_fence();
}

static void backward(void *arg, int c, int chunks) {
    const struct job *j = arg;
    const struct mg_groups *s = j->s;
    char *gw = NULL, *gb = NULL;
    if (j->parts) {
        gw = j->parts + 2 * c * s->length * j->size;
        gb = gw + s->length * j->size;
        memset(gw, 0, (size_t)(2 * s->length * j->size));
    }
    const char *w = s->per_element ? j->w : NULL;
    const double n = (double)s->segments * (double)s->length;
    const int64_t end = s->groups * (c + 1) / chunks;
    for (int64_t i = s->groups * c / chunks, many; i < end; i += many) {
        many = s->per_element ? least(4, end - i) : 1;      /* rows of a layer norm go four at a time */
        double mean[4], rstd[4], sums[8] = {0};
        for (int64_t k = 0; k < many; k++) {
            mean[k] = get(j, j->mean, i + k);
            rstd[k] = get(j, j->rstd, i + k);
        }
        if (s->per_element)
            j->k->rows_normalize_sums((int)many, s->length, s->group_stride, at(j->g, i * s->group_stride, j->size),
                                      at(j->x, i * s->group_stride, j->size), mean, rstd, w, sums);
        else
            for (int64_t r = 0; r < s->segments; r++) {
                const int64_t offset = i * s->group_stride + r * s->segment_stride;
                j->k->normalize_sums(s->length, at(j->g, offset, j->size), at(j->x, offset, j->size), mean[0], rstd[0], w, sums);
            }
        for (int64_t k = 0; k < many; k++) {
            put(j, j->gw, i + k, sums[2 * k + 1]);
            put(j, j->gb, i + k, sums[2 * k]);
        }
        const double w1 = j->w && !s->per_element ? get(j, j->w, i) : 1;
        for (int64_t r = 0; r < s->segments && (j->y || gw); r++) {
            const int64_t offset = i * s->group_stride + r * s->segment_stride;
            j->k->normalize_grad((int)many, s->length, s->group_stride, at(j->g, offset, j->size), at(j->x, offset, j->size),
                                 mean, rstd, w, w1, sums, n, j->past, j->y ? j->y + offset * j->size : NULL, gw, gb);
        }
    }
    if (j->past) mg_stream_fence();
}

static int valid(const struct mg_groups *s) {
    int64_t n;
    if (s->type != MG_F32 && s->type != MG_F64) return MG_EARG;
    if (s->groups < 0 || s->segments < 1 || s->length < 1) return MG_ESIZE;
    if (s->per_element && s->segments != 1) return MG_EARG;
    if (__builtin_mul_overflow(s->groups, s->segments, &n) || n > INT64_MAX / 16 / s->length) return MG_ESIZE;
    return MG_OK;
}

/* Whether a call that reads and writes `arrays` of them writes its result past the caches. */
static int past(const struct mg_groups *s, int size, int arrays) {
    return s->groups * s->segments * s->length >= MG_STREAM_BYTES / (arrays * size) &&
           s->group_stride % (MG_LINE / size) == 0 && s->length >= 8 * MG_LINE / size;
}

static int chunks_of(const struct mg_groups *s) {
    return (int)least(least(s->groups, s->groups * s->segments * s->length / CHUNK + 1), MAX_CHUNKS);
}

int mg_standardize(const struct mg_groups *s, const void *x, const void *w, const void *b, double eps, void *y, void *mean,
                   void *rstd) {
    const int status = valid(s);
    if (status != MG_OK) return status;
    struct job j = {.k = &mg_table()->reduce[s->type], .s = s, .size = s->type == MG_F32 ? 4 : 8, .x = x, .w = w, .b = b,
                    .y = y, .eps = eps, .mean = mean, .rstd = rstd};
    j.past = y != NULL && past(s, j.size, 2);
    mg_parallel(forward, &j, chunks_of(s));
    return MG_OK;
}

int mg_moments(const struct mg_groups *s, const void *x, void *mean, void *m2) {
    const int status = valid(s);
    if (status != MG_OK) return status;
    struct job j = {.k = &mg_table()->reduce[s->type], .s = s, .size = s->type == MG_F32 ? 4 : 8, .x = x, .mean = mean, .m2 = m2};
    mg_parallel(forward, &j, chunks_of(s));
    return MG_OK;
}

int mg_standardize_grad(const struct mg_groups *s, const void *g, const void *x, const void *mean, const void *rstd,
                        const void *w, void *gx, void *gw, void *gb) {
    const int status = valid(s);
    if (status != MG_OK) return status;
    struct job j = {.k = &mg_table()->reduce[s->type], .s = s, .size = s->type == MG_F32 ? 4 : 8, .g = g, .x = x, .w = w,
                    .y = gx, .mean = (char *)mean, .rstd = (char *)rstd};
    j.past = gx != NULL && past(s, j.size, 3);
    int chunks = chunks_of(s);
    if (s->per_element && (gw || gb)) {
        chunks = (int)least(chunks, PARTS);
        j.parts = mg_scratch((size_t)chunks * 2 * (size_t)s->length * (size_t)j.size);
        if (j.parts == NULL) return MG_ENOMEM;
    } else {
        j.gw = gw;
        j.gb = gb;
    }
    mg_parallel(backward, &j, chunks);
    if (j.parts)
        for (int which = 0; which < 2; which++)
            for (int64_t e = 0; e < s->length; e++) {
                double total = 0;
                for (int c = 0; c < chunks; c++) total += get(&j, j.parts, (2 * c + which) * s->length + e);
                put(&j, which ? gb : gw, e, total);
            }
    return MG_OK;
}
