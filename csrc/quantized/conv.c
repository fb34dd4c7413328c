/* Convolution of quantized images, channels last: implicit GEMM, and depthwise.
 *
 * Contract.   See struct mg_quantized_conv in minigrad.h. Bits as in gemm.c: they depend on nothing but the operands.
 * Idea.       A patch of an image is kh runs of kw * ci bytes (dilation 1), so the rows of the matrix that a convolution is
 *             a product of are copied together run by run, some PATCH_BYTES of them at a time, into L1: a byte is copied once
 *             for every co multiplications. Runs of neighbouring pixels are copied in one go. A kernel of one place with stride 1 needs not even that: it is a product.
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
    CHUNKS_PER_THREAD = 4
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct job {
    const struct mg_quantized_conv *c;
    const struct mg_quantized_kernels *kernels;
    int64_t pixels, k, panel, last;   /* last: the last ox at which all columns of the kernel lie inside of the image */
    int depthwise;
    _Atomic int status;
};

/* Columns v of the kernel at ox whose place left + v * dilation lies inside of the image: low <= v < high. */
static void inside(const struct mg_quantized_conv *c, int64_t ox, int64_t *low, int64_t *high) {
    const int64_t left = ox * c->stride[1] - c->pad[2], dilation = c->dilation[1];
    *low = 0, *high = c->kw;
    if (left < 0) *low = least(c->kw, dilation == 1 ? -left : ceil_div(-left, dilation));
    if (left + (c->kw - 1) * dilation >= c->w)
        *high = most(*low, dilation == 1 ? c->w - left : ceil_div(c->w - left, dilation));
}

/* As memcpy and memset, which are called for a few bytes at the border of an image. */
static void copy_few(uint8_t *to, const uint8_t *from, int64_t n) {
    if (n > 16) memcpy(to, from, (size_t)n);
    else for (int64_t i = 0; i < n; i++) to[i] = from[i];
}
static void fill_few(uint8_t *to, int code, int64_t n) {
    if (n > 16) memset(to, code, (size_t)n);
    else for (int64_t i = 0; i < n; i++) to[i] = (uint8_t)code;
}

/* Row u of the kernel for `count` neighbouring output pixels from ox on, their patches `apart` bytes apart; x: the row of the
 * image, or NULL where it lies outside. A run of a patch is a row of the kernel if its bytes lie side by side in the image,
 * else one place of it. */
static void kernel_row(const struct job *job, const uint8_t *x, int64_t ox, int64_t count, int64_t each, uint8_t *to,
                       int64_t apart) {
    const struct mg_quantized_conv *c = job->c;
    const int64_t run = c->kw * each, step = c->stride[1] * c->ci;
    if (x == NULL) {
        for (int64_t i = 0; i < count; i++) fill_few(to + i * apart, c->zero, run);
        return;
    }
    const int together = c->dilation[1] == 1 && each == c->ci;
    int64_t i = 0, low, high;
    while (i < count) {
        inside(c, ox + i, &low, &high);
        if (low > 0 || high < c->kw) {   /* at the border */
            fill_few(to + i * apart, c->zero, run);
            for (int64_t v = low; v < high; v++)
                copy_few(to + i * apart + v * each, x + ((ox + i) * c->stride[1] - c->pad[2] + v * c->dilation[1]) * c->ci, each);
            i++;
            continue;
        }
        const int64_t n = least(count - i, job->last - (ox + i) + 1);
        const uint8_t *from = x + ((ox + i) * c->stride[1] - c->pad[2]) * c->ci;
        if (together) job->kernels->copy_runs(n, run, from, step, to + i * apart, apart);
        else for (int64_t v = 0; v < c->kw; v++)
            job->kernels->copy_runs(n, each, from + v * c->dilation[1] * c->ci, step, to + i * apart + v * each, apart);
        i += n;
    }
}

/* The patches of n output pixels from p on, channels first .. first + each - 1. */
static void gather(const struct job *job, int64_t p, int64_t n, int64_t first, int64_t each, uint8_t *to, int64_t apart) {
    const struct mg_quantized_conv *c = job->c;
    for (int64_t count; n > 0; p += count, n -= count, to += count * apart) {
        const int64_t image = p / (c->oh * c->ow), oy = p / c->ow % c->oh, ox = p % c->ow;
        count = least(n, c->ow - ox);
        for (int64_t u = 0; u < c->kh; u++) {
            const int64_t row = oy * c->stride[0] - c->pad[0] + u * c->dilation[0];
            const uint8_t *x = row < 0 || row >= c->h ? NULL : c->x + (image * c->h + row) * c->w * c->ci + first;
            kernel_row(job, x, ox, count, each, to + u * c->kw * each, apart);
        }
    }
}

static int patches(struct job *job, int64_t begin, int64_t end) {
    const struct mg_quantized_conv *c = job->c;
    const struct mg_quantized_kernels *kn = job->kernels;
    const int64_t each = c->ci / c->groups, out = c->co / c->groups, panels = ceil_div(out, MG_PANEL);
    const int64_t row = (int64_t)mg_round_up((size_t)job->k, MG_LINE);
    const int64_t room = panels * job->panel > MANY_WEIGHTS ? MANY_PATCH_BYTES : PATCH_BYTES;
    const int64_t rows = least(end - begin, most(room / most(row, 1) / kn->mr, 1) * kn->mr);
    uint8_t *a = mg_scratch((size_t)(rows * row));   /* what is behind a patch meets weights that are zero */
    if (a == NULL) return MG_ENOMEM;
    const int size = c->then.to_float ? (int)sizeof(float) : 1;
    for (int64_t p = begin, n; p < end; p += n) {
        n = least(rows, end - p);
        for (int64_t g = 0; g < c->groups; g++) {
            gather(job, p, n, g * each, each, a, row);
            struct mg_quantized_tile t = {
                .k = ceil_div(job->k, MG_QUAD) * MG_QUAD, .a = a, .rsa = row, .b = c->weights + g * panels * job->panel, .panel = job->panel,
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
    const size_t reach = (size_t)(((c->ow - 1) * c->stride[1] + 1) * c->ci);   /* of a tap over a row of pixels */
    char *room = mg_scratch(pointers + reach);
    if (room == NULL) return MG_ENOMEM;
    const uint8_t **tap = (const uint8_t **)(void *)room;
    uint8_t *border = (uint8_t *)room + pointers;   /* a row of places outside of the image */
    memset(border, c->zero, reach);
    const int size = c->then.to_float ? (int)sizeof(float) : 1;
    for (int64_t p = begin, count; p < end; p += count) {
        const int64_t image = p / (c->oh * c->ow), oy = p / c->ow % c->oh, ox = p % c->ow;
        int64_t low, high;
        inside(c, ox, &low, &high);
        count = low > 0 || high < c->kw ? 1 : least(least(end - p, c->ow - ox), job->last - ox + 1);
        for (int64_t u = 0; u < c->kh; u++)
            for (int64_t v = 0; v < c->kw; v++) {
                const int64_t row = oy * c->stride[0] - c->pad[0] + u * c->dilation[0];
                const int64_t column = ox * c->stride[1] - c->pad[2] + v * c->dilation[1];
                const int outside = row < 0 || row >= c->h || v < low || v >= high;
                tap[u * c->kw + v] = outside ? border : c->x + ((image * c->h + row) * c->w + column) * c->ci;
            }
        const struct mg_quantized_tile t = {.k = taps, .b = c->weights, .panel = job->panel, .bias = c->bias, .zero = c->zero,
                                            .c = (char *)c->y + p * c->co * size, .rsc = c->co, .columns = (int)c->co,
                                            .then = c->then};
        job->kernels->depthwise(&t, tap, count, c->stride[1] * c->ci);
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
    job.last = (c->w - 1 - (c->kw - 1) * c->dilation[1] + c->pad[2]) / c->stride[1];
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
