/* Pooling in two dimensions: maximum with its place, mean, and their gradients. Planes (n * c of them) are independent:
 * threads share them, and the bits do not depend on how many there are. See pool2d.h for the rules of each. */
#include "../isa.h"
#include "../pool.h"
#include "../scratch.h"

#include <stdatomic.h>
#include <string.h>

enum { PARALLEL_ELEMENTS = 1 << 15, CHUNKS_PER_THREAD = 4 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

struct job {
    struct mg_pool2d p;
    const struct mg_pool_kernels *kernels;
    int size;
    const char *x;
    char *y;
    int64_t *index;
    const int64_t *from;
    _Atomic int status;
};

/* The windows j0 .. j1 whose tap at `shift` = v * dilation - pad lies inside a row of n pixels. */
static void inside(int64_t n, int64_t out, int64_t stride, int64_t shift, int64_t *j0, int64_t *j1) {
    *j0 = shift < 0 ? least(out, (-shift + stride - 1) / stride) : 0;
    *j1 = shift >= n ? *j0 : most(*j0, least(out, (n - 1 - shift) / stride + 1));
}

/* The first place of window i along a dimension that lies inside. */
static int64_t first_place(int64_t i, int64_t stride, int64_t pad, int64_t dilation) {
    const int64_t start = i * stride - pad;
    return start >= 0 ? start : start + (-start + dilation - 1) / dilation * dilation;
}

static void max_plane(const struct job *b, int64_t plane, char *room) {
    const struct mg_pool2d *p = &b->p;
    const char *x = b->x + plane * p->h * p->w * b->size;
    int32_t *where = (int32_t *)(room + mg_round_up((size_t)(p->ow * b->size), MG_LINE));
    for (int64_t i = 0; i < p->oh; i++) {
        const int64_t at = (plane * p->oh + i) * p->ow;
        char *best = b->y ? b->y + at * b->size : room;
        b->kernels->max_start(p->ow, best);
        const int64_t top = first_place(i, p->stride[0], p->pad[0], p->dilation[0]) * p->w;
        for (int64_t j = 0; j < p->ow; j++) where[j] = (int32_t)(top + first_place(j, p->stride[1], p->pad[1], p->dilation[1]));
        for (int64_t u = 0; u < p->kh; u++) {
            const int64_t row = i * p->stride[0] + u * p->dilation[0] - p->pad[0];
            if (row < 0 || row >= p->h) continue;
            for (int64_t v = 0; v < p->kw; v++) {
                const int64_t shift = v * p->dilation[1] - p->pad[1], place = row * p->w + shift;
                int64_t j0, j1;
                inside(p->w, p->ow, p->stride[1], shift, &j0, &j1);
                b->kernels->max_row(p->stride[1], j0, j1, x + place * b->size, (int32_t)place, best, where);
            }
        }
        if (b->index)
            for (int64_t j = 0; j < p->ow; j++) b->index[at + j] = where[j];
    }
}

/* How many elements of a dimension window i counts. */
static int64_t counted(int64_t i, int64_t n, int64_t kernel, int64_t stride, int64_t pad, int include) {
    int64_t start = i * stride - pad, end = least(start + kernel, n + pad);
    if (!include) start = most(start, 0), end = least(end, n);
    return end - start;
}

/* One over the count of each window of row i. */
static void factors(const struct job *b, int64_t i, char *f) {
    const struct mg_pool2d *p = &b->p;
    const int64_t high = counted(i, p->h, p->kh, p->stride[0], p->pad[0], p->count_include_pad);
    for (int64_t j = 0; j < p->ow; j++) {
        const int64_t wide = counted(j, p->w, p->kw, p->stride[1], p->pad[1], p->count_include_pad);
        const double value = 1.0 / (double)(p->divisor ? p->divisor : high * wide);
        if (b->size == 4) ((float *)f)[j] = (float)value;
        else ((double *)f)[j] = value;
    }
}

static void mean_plane(const struct job *b, int64_t plane, char *room) {
    const struct mg_pool2d *p = &b->p;
    const int size = b->size;
    const char *x = b->x + plane * p->h * p->w * size;
    char *f = room + mg_round_up((size_t)(p->w * size), MG_LINE);
    for (int64_t i = 0; i < p->oh; i++) {
        char *y = b->y + (plane * p->oh + i) * p->ow * size;
        memset(room, 0, (size_t)(p->w * size));
        for (int64_t u = 0; u < p->kh; u++) {
            const int64_t row = i * p->stride[0] + u - p->pad[0];
            if (row >= 0 && row < p->h) b->kernels->add_row(1, 0, p->w, x + row * p->w * size, room);
        }
        memset(y, 0, (size_t)(p->ow * size));
        for (int64_t v = 0; v < p->kw; v++) {
            int64_t j0, j1;
            inside(p->w, p->ow, p->stride[1], v - p->pad[1], &j0, &j1);
            b->kernels->add_row(p->stride[1], j0, j1, room + (v - p->pad[1]) * size, y);
        }
        factors(b, i, f);
        b->kernels->times_row(p->ow, y, f, y);
    }
}

static void mean_grad_plane(const struct job *b, int64_t plane, char *room) {
    const struct mg_pool2d *p = &b->p;
    const int size = b->size;
    char *x = b->y + plane * p->h * p->w * size, *wide = room;
    char *f = room + mg_round_up((size_t)(p->w * size), MG_LINE);
    memset(x, 0, (size_t)(p->h * p->w * size));
    for (int64_t i = 0; i < p->oh; i++) {
        factors(b, i, f);
        b->kernels->times_row(p->ow, b->x + (plane * p->oh + i) * p->ow * size, f, f);
        memset(wide, 0, (size_t)(p->w * size));
        for (int64_t v = 0; v < p->kw; v++) {
            int64_t j0, j1;
            inside(p->w, p->ow, p->stride[1], v - p->pad[1], &j0, &j1);
            b->kernels->spread_row(p->stride[1], j0, j1, f, wide + (v - p->pad[1]) * size);
        }
        for (int64_t u = 0; u < p->kh; u++) {
            const int64_t row = i * p->stride[0] + u - p->pad[0];
            if (row >= 0 && row < p->h) b->kernels->add_row(1, 0, p->w, wide, x + row * p->w * size);
        }
    }
}

static void max_grad_plane(const struct job *b, int64_t plane) {
    const struct mg_pool2d *p = &b->p;
    const int64_t out = p->oh * p->ow, pixels = p->h * p->w, *at = b->from + plane * out;
    char *x = b->y + plane * pixels * b->size;
    const char *g = b->x + plane * out * b->size;
    memset(x, 0, (size_t)(pixels * b->size));
    for (int64_t i = 0; i < out; i++) {
        if (at[i] < 0 || at[i] >= pixels) continue;
        if (b->size == 4) ((float *)x)[at[i]] += ((const float *)g)[i];
        else ((double *)x)[at[i]] += ((const double *)g)[i];
    }
}

#define PLANES(name, call)                                                                          \
    static void name(void *arg, int chunk, int chunks) {                                            \
        struct job *b = arg;                                                                        \
        const int64_t n = b->p.n;                                                                   \
        const size_t widest = (size_t)(most(b->p.w, b->p.ow) * b->size);                            \
        char *room = mg_scratch(2 * mg_round_up(widest, MG_LINE) + (size_t)b->p.ow * 4 + MG_LINE);  \
        if (room == NULL) {                                                                         \
            atomic_store(&b->status, MG_ENOMEM);                                                    \
            return;                                                                                 \
        }                                                                                           \
        const int64_t end = n / chunks * (chunk + 1) + n % chunks * (chunk + 1) / chunks;           \
        for (int64_t plane = n / chunks * chunk + n % chunks * chunk / chunks; plane < end; plane++) call; \
    }
PLANES(max_planes, max_plane(b, plane, room))
PLANES(mean_planes, mean_plane(b, plane, room))
PLANES(mean_grad_planes, mean_grad_plane(b, plane, room))
PLANES(max_grad_planes, ((void)room, max_grad_plane(b, plane)))

static int fits(int64_t a, int64_t b, int64_t c) {
    int64_t bytes;
    return a >= 0 && b >= 0 && c >= 0 && !__builtin_mul_overflow(most(a, 1), most(b, 1), &bytes) && bytes <= INT32_MAX &&
           !__builtin_mul_overflow(bytes, most(c, 1), &bytes) && !__builtin_mul_overflow(bytes, 16, &bytes);
}

static int start(struct job *b, mg_chunk_fn fn) {
    const struct mg_pool2d *p = &b->p;
    if (p->type != MG_F32 && p->type != MG_F64) return MG_EARG;
    if (!fits(p->h, p->w, p->n) || !fits(p->oh, p->ow, p->n)) return MG_ESIZE;
    if (p->kh < 1 || p->kw < 1 || p->divisor > INT32_MAX || p->divisor < -INT32_MAX) return MG_EARG;
    for (int d = 0; d < 2; d++)
        if (p->stride[d] < 1 || p->dilation[d] < 1 || p->pad[d] < 0) return MG_EARG;
    for (int d = 0; d < 2; d++) {   /* every window must begin inside the image or its first border */
        const int64_t n = d ? p->w : p->h, out = d ? p->ow : p->oh, k = d ? p->kw : p->kh;
        int64_t last, span;
        if (out == 0) continue;
        if (__builtin_mul_overflow(out - 1, p->stride[d], &last) || __builtin_mul_overflow(k, p->dilation[d], &span) ||
            p->pad[d] > INT32_MAX || span > INT32_MAX || last > INT32_MAX)
            return MG_ESIZE;
        if (last - p->pad[d] >= n || n == 0) return MG_EARG;
    }
    if (p->n == 0) return MG_OK;
    b->kernels = &mg_table()->pool[p->type];
    b->size = mg_table()->gemm[p->type].size;
    const int threads = p->n * (p->h * p->w + p->oh * p->ow) < PARALLEL_ELEMENTS ? 1 : mg_num_threads();
    mg_parallel(fn, b, (int)(threads == 1 ? 1 : least(p->n, CHUNKS_PER_THREAD * threads)));
    return b->status;
}

int mg_max_pool2d(const struct mg_pool2d *p, const void *x, void *y, int64_t *index) {
    struct job b = {.p = *p, .x = x, .y = y, .index = index};
    return start(&b, max_planes);
}
int mg_max_pool2d_grad(const struct mg_pool2d *p, const void *g, const int64_t *index, void *x) {
    struct job b = {.p = *p, .x = g, .y = x, .from = index};
    return start(&b, max_grad_planes);
}
int mg_avg_pool2d(const struct mg_pool2d *p, const void *x, void *y) {
    struct job b = {.p = *p, .x = x, .y = y};
    return start(&b, mean_planes);
}
int mg_avg_pool2d_grad(const struct mg_pool2d *p, const void *g, void *x) {
    struct job b = {.p = *p, .x = g, .y = x};
    return start(&b, mean_grad_planes);
}
