/* Pooling in two dimensions: maximum with its place, mean, and their gradients. Planes (n * c of them) are independent:
 * threads share them, and the bits do not depend on how many there are. See pool2d.h for the rules of each.
 *
 * Idea.       Windows that reach over the border are made to lie inside: the plane is copied with a border of -infinity or
 *             zeros, which costs little, as it stays near. So are the last planes, since whole vectors are read.
 *             The gradient of the mean is a repetition where windows do not overlap, else a sum over windows again. */
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
    int size, vl;
    const char *x, *above;
    char *y;
    int64_t *index;
    const int64_t *from;
    int64_t top, left, high, wide;      /* the bordered image, and where pixel (0, 0) lies in it */
    int64_t step, slack;                /* from window to window; elements that are read past the end */
    size_t image_bytes, row_bytes, places_bytes;   /* of a thread's memory */
    _Atomic int status;
};

/* The first place of window i along a dimension that lies inside. */
static int64_t first_place(int64_t i, int64_t stride, int64_t pad, int64_t dilation) {
    const int64_t start = i * stride - pad;
    return start >= 0 ? start : start + (-start + dilation - 1) / dilation * dilation;
}

/* Whether the windows of a plane, and what is read past them, lie inside of x. */
static int reads_in_place(const struct job *b, int64_t plane) {
    return b->high == b->p.h && b->wide == b->p.w && (b->p.n - 1 - plane) * b->p.h * b->p.w >= b->slack;
}

/* The row of windows i of a plane, where it lies or copied into the border that was prepared: what is not there yet, from row
 * *copied of the image on. */
static const char *windows(const struct job *b, int64_t plane, int64_t i, int64_t rows, int64_t *copied, char *image) {
    const int64_t h = b->p.h, w = b->p.w, at = i * b->p.stride[0] * b->wide * b->size;
    const char *x = b->x + plane * h * w * b->size;
    if (reads_in_place(b, plane)) return x + at;
    for (const int64_t end = least(h, i * b->p.stride[0] + rows - b->top), row = w * b->size; *copied < end; ++*copied) {
        memcpy(image + ((b->top + *copied) * b->wide + b->left) * b->size, x + *copied * row, (size_t)row);
        for (int64_t q = 0; q < row; q += MG_LINE) __builtin_prefetch(x + (*copied + 4) * row + q);
    }
    return image + at;
}

static void max_planes_of(const struct job *b, int64_t begin, int64_t end, char *room) {
    const struct mg_pool2d *p = &b->p;
    char *first = room + b->image_bytes, *columns = first + b->places_bytes;
    const size_t elements = b->image_bytes / (size_t)b->size;
    for (size_t i = 0; i < elements; i++) {
        if (b->size == 4) ((float *)room)[i] = -__builtin_inff();
        else ((double *)room)[i] = -__builtin_inf();
    }
    for (int64_t j = 0; j < p->ow; j++) {
        const int64_t f = first_place(j, p->stride[1], p->pad[1], p->dilation[1]), c = j * p->stride[1];
        if (b->size == 4) ((int32_t *)first)[j] = (int32_t)f, ((int32_t *)columns)[j] = (int32_t)c;
        else ((int64_t *)first)[j] = f, ((int64_t *)columns)[j] = c;
    }
    struct mg_pool_row r = {.n = p->ow, .step = b->step, .kh = p->kh, .kw = p->kw, .down = p->dilation[0] * b->wide,
                            .dx = p->dilation[1], .first = first, .columns = columns, .place_down = p->dilation[0] * p->w};
    const int squares = b->index == NULL && b->step == 2 && p->kh == 2 && p->kw == 2 && p->stride[0] == 2 && p->dilation[0] == 1 &&
                        p->dilation[1] == 1;
    for (int64_t plane = begin; plane < end; plane++) {
        if (squares && reads_in_place(b, plane)) {
            b->kernels->max_squares(p->oh, p->ow, b->x + plane * p->h * p->w * b->size, p->w, b->y + plane * p->oh * p->ow * b->size);
            continue;
        }
        for (int64_t i = 0, copied = 0; i < p->oh; i++) {
            const int64_t at = (plane * p->oh + i) * p->ow;
            r.x = windows(b, plane, i, (p->kh - 1) * p->dilation[0] + 1, &copied, room);
            r.y = b->y ? b->y + at * b->size : NULL;
            r.index = b->index ? b->index + at : NULL;
            r.top = first_place(i, p->stride[0], p->pad[0], p->dilation[0]) * p->w;
            r.place = (i * p->stride[0] - p->pad[0]) * p->w - p->pad[1];
            b->kernels->max_windows(&r);
        }
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

/* The same, unless the row before counted as many. */
static void row_factors(const struct job *b, int64_t i, int64_t *last, char *f) {
    const struct mg_pool2d *p = &b->p;
    const int64_t high = counted(i, p->h, p->kh, p->stride[0], p->pad[0], p->count_include_pad);
    if (high != *last) factors(b, i, f);
    *last = high;
}

static void mean_planes_of(const struct job *b, int64_t begin, int64_t end, char *room) {
    const struct mg_pool2d *p = &b->p;
    const int size = b->size;
    char *f = room + b->image_bytes;
    int64_t last = -1;
    memset(room, 0, b->image_bytes + b->row_bytes);
    struct mg_pool_row r = {.n = p->ow, .step = b->step, .kh = p->kh, .kw = p->kw, .down = b->wide, .dx = 1, .factor = f};
    for (int64_t plane = begin; plane < end; plane++) {
        for (int64_t i = 0, copied = 0; i < p->oh; i++) {
            row_factors(b, i, &last, f);
            r.x = windows(b, plane, i, p->kh, &copied, room);
            r.y = b->y + (plane * p->oh + i) * p->ow * size;
            b->kernels->sum_windows(&r);
        }
    }
}

/* Windows that are whole planes. */
static void whole_planes_of(const struct job *b, int64_t begin, int64_t end) {
    const int64_t pixels = b->p.h * b->p.w;
    const double factor = 1.0 / (double)(b->p.divisor ? b->p.divisor : pixels);
    for (int64_t plane = begin; plane < end; plane += b->vl)
        b->kernels->sum_planes((int)least(b->vl, end - plane), pixels, b->x + plane * pixels * b->size, factor, b->y + plane * b->size);
}

/* Windows side by side: every row of windows is repeated. */
static void repeat_planes_of(const struct job *b, int64_t begin, int64_t end, char *room) {
    const struct mg_pool2d *p = &b->p;
    const int size = b->size;
    const int64_t row = p->w * size, covered = p->ow * p->kw * size;
    int64_t last = -1;
    for (int64_t plane = begin; plane < end; plane++) {
        char *x = b->y + plane * p->h * row;
        for (int64_t i = 0; i < p->oh; i++, x += p->kh * row) {
            row_factors(b, i, &last, room);
            if (p->kw == p->w) {   /* so are the rows of a window */
                b->kernels->repeat(p->kh * p->kw, 1, b->x + (plane * p->oh + i) * size, room, x);
                continue;
            }
            b->kernels->repeat(p->kw, p->ow, b->x + (plane * p->oh + i) * p->ow * size, room, x);
            if (covered < row) memset(x + covered, 0, (size_t)(row - covered));
            for (int64_t u = 1; u < p->kh; u++) memcpy(x + u * row, x, (size_t)row);
        }
        memset(x, 0, (size_t)((p->h - p->oh * p->kh) * row));
    }
}

/* Element (r, c) is the sum of the g of all windows that reach it: windows of the same size over an image of g, whose
 * element (i, j) lies at (i * stride + kh - 1 - pad, j * stride + kw - 1 - pad). */
static void mean_grad_planes_of(const struct job *b, int64_t begin, int64_t end, char *room) {
    const struct mg_pool2d *p = &b->p;
    const int size = b->size;
    char *f = room + b->image_bytes, *g = f + b->row_bytes;
    int64_t last = -1;
    memset(room, 0, b->image_bytes);
    struct mg_pool_row r = {.n = p->w, .step = 1, .kh = p->kh, .kw = p->kw, .down = b->wide, .dx = 1};
    for (int64_t plane = begin; plane < end; plane++) {
        for (int64_t i = 0; i < p->oh; i++) {
            char *to = room + ((b->top + i * p->stride[0]) * b->wide + b->left) * size;
            row_factors(b, i, &last, f);
            b->kernels->times_row(p->ow, b->x + (plane * p->oh + i) * p->ow * size, f, b->step == 1 ? to : g);
            if (b->step > 1) b->kernels->spread_row(b->step, p->ow, g, to);
        }
        for (int64_t i = 0; i < p->h; i++) {
            r.x = room + i * b->wide * size;
            r.y = b->y + (plane * p->h + i) * p->w * size;
            b->kernels->sum_windows(&r);
        }
    }
}

static void max_grad_planes_of(struct job *b, int64_t begin, int64_t end) {
    const int64_t out = b->p.oh * b->p.ow, pixels = b->p.h * b->p.w;
    for (int64_t plane = begin; plane < end; plane++) {
        char *x = b->y + plane * pixels * b->size;
        memset(x, 0, (size_t)(pixels * b->size));
        if (!b->kernels->scatter(out, b->x + plane * out * b->size, b->above ? b->above + plane * out * b->size : NULL,
                                 b->from + plane * out, pixels, x))
            atomic_store(&b->status, MG_EARG);
    }
}

#define PLANES(name, call)                                                                          \
    static void name(void *arg, int chunk, int chunks) {                                            \
        struct job *b = arg;                                                                        \
        const int64_t n = b->p.n;                                                                   \
        char *room = mg_scratch(b->image_bytes + 2 * b->row_bytes + 2 * b->places_bytes);            \
        if (room == NULL) {                                                                         \
            atomic_store(&b->status, MG_ENOMEM);                                                    \
            return;                                                                                 \
        }                                                                                           \
        const int64_t begin = n / chunks * chunk + n % chunks * chunk / chunks;                     \
        const int64_t end = n / chunks * (chunk + 1) + n % chunks * (chunk + 1) / chunks;           \
        call;                                                                                       \
    }
PLANES(max_planes, max_planes_of(b, begin, end, room))
PLANES(mean_planes, mean_planes_of(b, begin, end, room))
PLANES(whole_planes, ((void)room, whole_planes_of(b, begin, end)))
PLANES(repeat_planes, repeat_planes_of(b, begin, end, room))
PLANES(mean_grad_planes, mean_grad_planes_of(b, begin, end, room))
PLANES(max_grad_planes, ((void)room, max_grad_planes_of(b, begin, end)))

/* The bordered image of high x wide with pixel (0, 0) at (top, left), windows `step` apart, and the memory that this takes. */
static int lay_out(struct job *b, int64_t top, int64_t left, int64_t high, int64_t wide, int64_t step) {
    int64_t elements;
    b->top = top, b->left = left, b->high = high, b->wide = wide, b->step = step;
    b->slack = (step + 2) * b->vl;
    if (__builtin_mul_overflow(high, wide, &elements) || __builtin_add_overflow(elements, b->slack, &elements) || elements > INT64_MAX / 16)
        return MG_ESIZE;
    b->image_bytes = mg_round_up((size_t)(elements * b->size), MG_LINE);
    b->row_bytes = mg_round_up((size_t)((b->p.ow + b->vl) * b->size), MG_LINE);
    b->places_bytes = b->row_bytes;
    return MG_OK;
}

enum work { MAXIMUM, MAXIMUM_GRAD, MEAN, MEAN_GRAD };

/* How a work is done, and in what memory. */
static int choose(struct job *b, enum work what, mg_chunk_fn *fn) {
    const struct mg_pool2d *p = &b->p;
    const int64_t step = p->ow > 1 ? p->stride[1] : 1;   /* of a single window it does not matter */
    const int plain = p->pad[0] == 0 && p->pad[1] == 0;
    if (p->oh == 0 || p->ow == 0) b->p.oh = b->p.ow = 0;   /* no rows of nothing */
    if (what == MAXIMUM_GRAD || p->oh == 0) {
        *fn = what == MAXIMUM ? max_planes : what == MEAN ? mean_planes : what == MEAN_GRAD ? repeat_planes : max_grad_planes;
        return MG_OK;
    }
    if (what == MAXIMUM || what == MEAN) {
        *fn = what == MAXIMUM ? max_planes : mean_planes;
        if (what == MEAN && plain && p->oh * p->ow == 1 && p->kh == p->h && p->kw == p->w) *fn = whole_planes;
        const int64_t d0 = what == MAXIMUM ? p->dilation[0] : 1, d1 = what == MAXIMUM ? p->dilation[1] : 1;
        return lay_out(b, p->pad[0], p->pad[1], most((p->oh - 1) * p->stride[0] + (p->kh - 1) * d0 + 1, p->h + p->pad[0]),
                       most((p->ow - 1) * p->stride[1] + (p->kw - 1) * d1 + 1, p->w + p->pad[1]), step);
    }
    if (plain && (p->oh == 1 || p->stride[0] == p->kh) && (p->ow == 1 || p->stride[1] == p->kw) && p->oh * p->kh <= p->h && p->ow * p->kw <= p->w) {
        *fn = repeat_planes;
        return lay_out(b, 0, 0, 0, 0, 1);
    }
    *fn = mean_grad_planes;
    const int64_t top = p->kh - 1 - p->pad[0], left = p->kw - 1 - p->pad[1];
    if (top < 0 || left < 0) return MG_EARG;
    return lay_out(b, top, left, most(p->h + p->kh - 1, top + (p->oh - 1) * p->stride[0] + 1),
                   most(p->w + p->kw - 1, left + (p->ow - 1) * p->stride[1] + 1), step);
}

static int fits(int64_t a, int64_t b, int64_t c) {
    int64_t bytes;
    return a >= 0 && b >= 0 && c >= 0 && !__builtin_mul_overflow(most(a, 1), most(b, 1), &bytes) && bytes <= INT32_MAX &&
           !__builtin_mul_overflow(bytes, most(c, 1), &bytes) && !__builtin_mul_overflow(bytes, 16, &bytes);
}

static int start(struct job *b, enum work what) {
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
    b->vl = mg_table()->gemm[p->type].vl;
    mg_chunk_fn fn;
    const int status = choose(b, what, &fn);
    if (status != MG_OK) return status;
    const int threads = p->n * (p->h * p->w + p->oh * p->ow) < PARALLEL_ELEMENTS ? 1 : mg_num_threads();
    mg_parallel(fn, b, (int)(threads == 1 ? 1 : least(p->n, CHUNKS_PER_THREAD * threads)));
    return b->status;
}

int mg_max_pool2d(const struct mg_pool2d *p, const void *x, void *y, int64_t *index) {
    struct job b = {.p = *p, .x = x, .y = y, .index = index};
    return start(&b, MAXIMUM);
}
int mg_max_pool2d_grad(const struct mg_pool2d *p, const void *g, const int64_t *index, void *x) {
    struct job b = {.p = *p, .x = g, .y = x, .from = index};
    return start(&b, MAXIMUM_GRAD);
}
int mg_max_pool2d_relu_grad(const struct mg_pool2d *p, const void *g, const void *y, const int64_t *index, void *x) {
    struct job b = {.p = *p, .x = g, .above = y, .y = x, .from = index};
    return start(&b, MAXIMUM_GRAD);
}
int mg_avg_pool2d(const struct mg_pool2d *p, const void *x, void *y) {
    struct job b = {.p = *p, .x = x, .y = y};
    return start(&b, MEAN);
}
int mg_avg_pool2d_grad(const struct mg_pool2d *p, const void *g, void *x) {
    struct job b = {.p = *p, .x = g, .y = x};
    return start(&b, MEAN_GRAD);
}
