/* Pooling of quantized images, channels last: a window is a few runs of bytes, and the channels are the lanes. */
#include "gemm.h"

#include "../pool.h"

#include <string.h>

enum { PARALLEL_BYTES = 1 << 18, CHUNKS_PER_THREAD = 4 };

struct job {
    const struct mg_quantized_pool *p;
    const struct mg_quantized_kernels *kernels;
    const uint8_t *x;
    uint8_t *y;
    int mean;
};

/* Places first, first + step, ... of a window of `size` that lie in 0 .. n - 1: the first one, and how many. */
static void inside(int64_t at, int64_t size, int64_t step, int64_t n, int64_t *first, int64_t *count) {
    *first = at, *count = size;
    if (at >= 0 && at + (size - 1) * step < n) return;
    const int64_t before = at < 0 ? (-at + step - 1) / step : 0;
    int64_t end = n > at ? (n - at + step - 1) / step : 0;
    if (end > size) end = size;
    *first = at + before * step;
    *count = end > before ? end - before : 0;
}
/* How many places of a window count: those up to the border. */
static int64_t counted(int64_t at, int64_t size, int64_t n, int64_t pad) {
    return at + size > n + pad ? n + pad - at : size;
}

static void chunk(void *arg, int i, int chunks) {
    const struct job *job = arg;
    const struct mg_quantized_pool *p = job->p;
    const int64_t rows = p->n * p->oh;
    for (int64_t r = rows * i / chunks; r < rows * (i + 1) / chunks; r++) {
        const uint8_t *image = job->x + r / p->oh * p->h * p->w * p->c;
        const int64_t top = r % p->oh * p->stride[0] - p->pad[0];
        int64_t row, down, column, right;
        inside(top, p->kh, p->dilation[0], p->h, &row, &down);
        const int64_t below = p->dilation[0] * p->w * p->c, beside = p->dilation[1] * p->c, step = p->stride[1] * p->c;
        const int64_t whole = (p->w - 1 - (p->kw - 1) * p->dilation[1] + p->pad[1]) / p->stride[1];   /* the last inside */
        for (int64_t o = 0, n; o < p->ow; o += n) {
            const int64_t left = o * p->stride[1] - p->pad[1];
            inside(left, p->kw, p->dilation[1], p->w, &column, &right);
            n = !job->mean && right == p->kw && o <= whole ? (whole < p->ow ? whole + 1 : p->ow) - o : 1;
            const int none = down == 0 || right == 0;
            const uint8_t *x = none ? image : image + (row * p->w + column) * p->c;
            uint8_t *y = job->y + (r * p->ow + o) * p->c;
            if (!job->mean) job->kernels->max_windows(n, step, p->c, none ? 0 : down, right, x, below, beside, y);
            else {
                const int64_t area = p->count_include_pad ? counted(top, p->kh, p->h, p->pad[0]) * counted(left, p->kw, p->w, p->pad[1])
                                                          : down * right;
                const float count = (float)(p->divisor ? p->divisor : area);
                job->kernels->mean_window(p->c, none ? 0 : down, right, x, below, beside, p->zero, 1.0f / count, y);
            }
        }
    }
}

static int run(struct job *job) {
    const struct mg_quantized_pool *p = job->p;
    if (p->n < 0 || p->c < 0 || p->oh < 0 || p->ow < 0) return MG_ESIZE;
    job->kernels = mg_quantized();
    const int64_t rows = p->n * p->oh, most = (int64_t)mg_num_threads() * CHUNKS_PER_THREAD;
    const int few = mg_num_threads() == 1 || (double)p->n * (double)p->h * (double)p->w * (double)p->c < PARALLEL_BYTES;
    if (rows > 0) mg_parallel(chunk, job, few ? 1 : (int)(rows < most ? rows : most));
    return MG_OK;
}

int mg_quantized_max_pool2d(const struct mg_quantized_pool *p, const uint8_t *x, uint8_t *y) {
    return run(&(struct job){.p = p, .x = x, .y = y});
}
int mg_quantized_avg_pool2d(const struct mg_quantized_pool *p, const uint8_t *x, uint8_t *y) {
    return run(&(struct job){.p = p, .x = x, .y = y, .mean = 1});
}
