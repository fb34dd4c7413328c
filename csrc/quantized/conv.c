/* Convolution of quantized images, channels last: implicit GEMM, and depthwise.
 *
 * Contract.   See struct mg_quantized_conv in minigrad.h. Bits as in gemm.c: they depend on nothing but the operands.
 * Idea.       A patch of an image is kh runs of kw * ci bytes (dilation 1), so the rows of the matrix that a convolution is
 *             a product of are copied together run by run, some PATCH_BYTES of them at a time, into L1: a byte is copied once
 *             for every co multiplications. A kernel of one place with stride 1 needs not even that: it is a product.
 *             Where the image ends, the code of zero is copied instead, and contributes nothing.
 *             Depthwise: nothing is shared between channels, so channels are the lanes, and the four steps of a lane four
 *             taps: their bytes are put together as they are read.
 * Source.     Chellapilla et al. 2006 for im2col; Jacob et al. 2018.
 * Threads.    Over output pixels. */
#include "gemm.h"

#include "../pool.h"
#include "../scratch.h"

#include <stdatomic.h>
#include <string.h>

enum {
    PATCH_BYTES = 32 << 10,      /* of patches at a time, */
    MANY_PATCH_BYTES = 160 << 10,    /* and where the weights do not stay in L2 */
    MANY_WEIGHTS = 384 << 10,
    SLACK = 64,
    CHUNKS_PER_THREAD = 4
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct job {
    const struct mg_quantized_conv *c;
    const struct mg_quantized_kernels *kernels;
    int64_t pixels, k, panel;
    int depthwise;
    _Atomic int status;
};

static void copy(uint8_t *to, const uint8_t *from, int64_t n) {
    if (n >= 16) memcpy(to, from, (size_t)n);
    else for (int64_t i = 0; i < n; i++) to[i] = from[i];
}
static void fill(uint8_t *to, int code, int64_t n) {
    if (n > 0) memset(to, code, (size_t)n);
}

/* The patch of output pixel (image, oy, ox), channels first .. first + each - 1, to `to`. */
static void patch(const struct mg_quantized_conv *c, int64_t image, int64_t oy, int64_t ox, int64_t first, int64_t each,
                  uint8_t *to) {
    const int64_t top = oy * c->stride[0] - c->pad[0], left = ox * c->stride[1] - c->pad[2];
    const uint8_t *x = c->x + image * c->h * c->w * c->ci + first;
    const int64_t run = c->kw * each;
    /* columns of the kernel that lie inside of the image: low .. high - 1 */
    const int64_t dilation = c->dilation[1];
    const int64_t low = left >= 0 ? 0 : least(c->kw, ceil_div(-left, dilation));
    const int64_t high = most(low, left + (c->kw - 1) * dilation < c->w ? c->kw : ceil_div(c->w - left, dilation));
    for (int64_t u = 0; u < c->kh; u++, to += run) {
        const int64_t row = top + u * c->dilation[0];
        if (row < 0 || row >= c->h) {
            fill(to, c->zero, run);
            continue;
        }
        fill(to, c->zero, low * each);
        const uint8_t *from = x + (row * c->w + left + low * dilation) * c->ci;
        if (dilation == 1 && each == c->ci) copy(to + low * each, from, (high - low) * each);
        else for (int64_t v = low; v < high; v++, from += dilation * c->ci) copy(to + v * each, from, each);
        fill(to + high * each, c->zero, (c->kw - high) * each);
    }
}

static int patches(struct job *job, int64_t begin, int64_t end) {
    const struct mg_quantized_conv *c = job->c;
    const struct mg_quantized_kernels *kn = job->kernels;
    const int64_t each = c->ci / c->groups, out = c->co / c->groups, panels = ceil_div(out, MG_PANEL);
    const int64_t row = (int64_t)mg_round_up((size_t)job->k, MG_LINE);
    const int64_t room = panels * job->panel > MANY_WEIGHTS ? MANY_PATCH_BYTES : PATCH_BYTES;
    const int64_t rows = least(end - begin, most(room / most(row, 1) / kn->mr, 1) * kn->mr);
    uint8_t *a = mg_scratch((size_t)(rows * row + SLACK));
    if (a == NULL) return MG_ENOMEM;
    const int size = c->then.to_float ? (int)sizeof(float) : 1;
    for (int64_t p = begin, n; p < end; p += n) {
        n = least(rows, end - p);
        for (int64_t g = 0; g < c->groups; g++) {
            int64_t image = p / (c->oh * c->ow), oy = p / c->ow % c->oh, ox = p % c->ow;
            for (int64_t i = 0; i < n; i++) {
                patch(c, image, oy, ox, g * each, each, a + i * row);
                if (++ox == c->ow) {
                    ox = 0;
                    if (++oy == c->oh) oy = 0, image++;
                }
            }
            struct mg_quantized_tile t = {
                .k = job->k, .a = a, .rsa = row, .b = c->weights + g * panels * job->panel, .panel = job->panel,
                .bias = c->bias ? c->bias + g * out : NULL, .zero = c->zero, .c = (char *)c->y + (p * c->co + g * out) * size,
                .rsc = c->co, .then = c->then};
            t.then.scale += g * out;
            if (t.then.offset) t.then.offset += g * out;
            mg_quantized_block(kn, &t, n, out);
        }
    }
    return MG_OK;
}

static int depthwise(struct job *job, int64_t begin, int64_t end) {
    const struct mg_quantized_conv *c = job->c;
    const int64_t taps = c->kh * c->kw;
    const size_t pointers = mg_round_up((size_t)taps * sizeof(uint8_t *), MG_LINE);
    char *room = mg_scratch(pointers + (size_t)c->ci);
    if (room == NULL) return MG_ENOMEM;
    const uint8_t **tap = (const uint8_t **)(void *)room;
    uint8_t *border = (uint8_t *)room + pointers;   /* a place outside of the image */
    memset(border, c->zero, (size_t)c->ci);
    const int size = c->then.to_float ? (int)sizeof(float) : 1;
    for (int64_t p = begin; p < end; p++) {
        const uint8_t *x = c->x + p / (c->oh * c->ow) * c->h * c->w * c->ci;
        const int64_t top = p / c->ow % c->oh * c->stride[0] - c->pad[0], left = p % c->ow * c->stride[1] - c->pad[2];
        for (int64_t u = 0; u < c->kh; u++)
            for (int64_t v = 0; v < c->kw; v++) {
                const int64_t row = top + u * c->dilation[0], column = left + v * c->dilation[1];
                const int inside = row >= 0 && row < c->h && column >= 0 && column < c->w;
                tap[u * c->kw + v] = inside ? x + (row * c->w + column) * c->ci : border;
            }
        const struct mg_quantized_tile t = {.k = taps, .b = c->weights, .panel = job->panel, .bias = c->bias, .zero = c->zero,
                                            .c = (char *)c->y + p * c->co * size, .columns = (int)c->co, .then = c->then};
        job->kernels->depthwise(&t, tap);
    }
    return MG_OK;
}

static void chunk(void *arg, int i, int chunks) {
    struct job *job = arg;
    const int64_t begin = job->pixels * i / chunks, end = job->pixels * (i + 1) / chunks;
    if (begin >= end) return;
    const int status = job->depthwise ? depthwise(job, begin, end) : patches(job, begin, end);
    if (status != MG_OK) atomic_store(&job->status, status);
}

int mg_quantized_conv2d(const struct mg_quantized_conv *c) {
    if (c->groups < 1 || c->ci % c->groups || c->co % c->groups || c->kh < 1 || c->kw < 1) return MG_EARG;
    if (c->n < 0 || c->oh < 0 || c->ow < 0 || c->co > INT32_MAX) return MG_ESIZE;
    struct job job = {.c = c, .kernels = mg_quantized(), .depthwise = c->groups == c->ci && c->groups == c->co && c->groups > 1};
    job.pixels = c->n * c->oh * c->ow;
    job.k = c->kh * c->kw * (job.depthwise ? 1 : c->ci / c->groups);
    job.panel = (1 + ceil_div(job.k, MG_QUAD)) * MG_PANEL_ROW;
    if (job.pixels == 0 || c->co == 0) return MG_OK;
    const int whole = c->kh == 1 && c->kw == 1 && c->stride[0] == 1 && c->stride[1] == 1 && c->groups == 1 &&
                      (c->pad[0] | c->pad[1] | c->pad[2] | c->pad[3]) == 0;
    if (whole) {
        const struct mg_quantized_gemm g = {.m = job.pixels, .n = c->co, .k = c->ci, .rsx = c->ci, .rsy = c->co, .x = c->x,
                                            .w = c->weights, .bias = c->bias, .y = c->y, .zero = c->zero, .then = c->then};
        return mg_quantized_gemm(&g);
    }
    const double operations = 2.0 * (double)job.pixels * (double)c->co * (double)job.k * (job.depthwise ? 16 : 1);
    const int threads = operations < MG_QUANTIZED_PARALLEL ? 1 : mg_num_threads();
    const int64_t chunks = threads == 1 ? 1 : (int64_t)threads * CHUNKS_PER_THREAD;
    mg_parallel(chunk, &job, (int)least(chunks, job.depthwise ? job.pixels : ceil_div(job.pixels, job.kernels->mr)));
    return job.status;
}
