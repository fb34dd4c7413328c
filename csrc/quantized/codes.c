/* Codes one by one: quantizing, adding, looking up; rows of tables; and float products with int8 weights. See rows.h. */
#include "gemm.h"

#include "../pool.h"

#include <math.h>
#include <string.h>

enum { PARALLEL_ELEMENTS = 1 << 17, CHUNK_ELEMENTS = 1 << 14 };

/* One job for all: elements first .. end - 1, or rows, of whatever it is. */
struct job {
    const struct mg_quantized_kernels *kernels;
    void (*some)(const struct job *job, int64_t first, int64_t end);
    int64_t n, width;
    const void *a, *b, *rule;
    void *y;
    float factor;
    int zero;
};

static void chunk(void *arg, int c, int chunks) {
    const struct job *job = arg;
    const int64_t first = job->n * c / chunks, end = job->n * (c + 1) / chunks;
    if (first < end) job->some(job, first, end);
}

static int run(struct job *job) {
    if (job->n < 0 || job->width < 0) return MG_ESIZE;
    job->kernels = mg_quantized();
    const double elements = (double)job->n * (double)(job->width ? job->width : 1);
    const int64_t most = elements < PARALLEL_ELEMENTS ? 1 : (int64_t)(elements / CHUNK_ELEMENTS);
    const int64_t chunks = most < 4 * mg_num_threads() ? most : 4 * mg_num_threads();
    mg_parallel(chunk, job, (int)(mg_num_threads() == 1 ? 1 : chunks));
    return MG_OK;
}

static void quantize(const struct job *j, int64_t first, int64_t end) {
    j->kernels->quantize(end - first, (const float *)j->a + first, j->factor, j->zero, (uint8_t *)j->y + first);
}
int mg_quantize(int64_t n, const float *x, float reciprocal, int zero, uint8_t *y) {
    return run(&(struct job){.some = quantize, .n = n, .a = x, .y = y, .factor = reciprocal, .zero = zero});
}

static void dequantize(const struct job *j, int64_t first, int64_t end) {
    j->kernels->dequantize(end - first, (const uint8_t *)j->a + first, j->factor, j->zero, (float *)j->y + first);
}
int mg_dequantize(int64_t n, const uint8_t *x, float scale, int zero, float *y) {
    return run(&(struct job){.some = dequantize, .n = n, .a = x, .y = y, .factor = scale, .zero = zero});
}

static void quantize_rows(const struct job *j, int64_t first, int64_t end) {
    for (int64_t i = first; i < end; i++) {
        const float *x = (const float *)j->a + i * j->width;
        uint8_t *y = (uint8_t *)j->y + i * (8 + j->width);
        float low, high;
        j->kernels->range(j->width, x, &low, &high);
        float scale = (high - low) * (float)(1.0 / 255.0), reciprocal = 1;
        int32_t zero = 0;
        const int bad = !isfinite(scale);
        if (scale == 0 || bad) scale = 1;
        reciprocal = 1.0f / scale;
        if (!isfinite(reciprocal)) scale = reciprocal = 1;   /* a range of denormals */
        if (!bad) {
            const float z = rintf(-low * reciprocal);
            zero = z < 255 ? (int32_t)z : 255;
            j->kernels->quantize(j->width, x, reciprocal, zero, y + 8);
        } else {
            scale = NAN;
            memset(y + 8, 0, (size_t)j->width);
        }
        memcpy(y, &scale, 4);
        memcpy(y + 4, &zero, 4);
    }
}
int mg_quantize_rows(int64_t rows, int64_t k, const float *x, uint8_t *y) {
    return run(&(struct job){.some = quantize_rows, .n = rows, .width = k, .a = x, .y = y});
}

static void add(const struct job *j, int64_t first, int64_t end) {
    j->kernels->add(end - first, (const uint8_t *)j->a + first, (const uint8_t *)j->b + first, j->rule, (uint8_t *)j->y + first);
}
int mg_quantized_add(const struct mg_quantized_add *q, int64_t n, const uint8_t *a, const uint8_t *b, uint8_t *y) {
    return run(&(struct job){.some = add, .n = n, .a = a, .b = b, .rule = q, .y = y});
}

static void lookup(const struct job *j, int64_t first, int64_t end) {
    const uint8_t *x = j->a, *table = j->b;
    uint8_t *y = j->y;
    for (int64_t i = first; i < end; i++) y[i] = table[x[i]];
}
int mg_quantized_lookup(int64_t n, const uint8_t *x, const uint8_t *table, uint8_t *y) {
    return run(&(struct job){.some = lookup, .n = n, .a = x, .b = table, .y = y});
}

/* --- with weights in eight bits ---------------------------------------------------------------------------------------- */

struct rows {
    const int64_t *index;
    const int8_t *w;
    const float *scale;
};
static void take(const struct job *j, int64_t first, int64_t end) {
    const struct rows *r = j->rule;
    for (int64_t i = first; i < end; i++)
        j->kernels->signed_times(j->width, r->w + r->index[i] * j->width, r->scale[r->index[i]], (float *)j->y + i * j->width);
}
int mg_quantized_embedding(int64_t n, int64_t rows, int64_t width, const int64_t *index, const int8_t *w, const float *scale,
                           float *y) {
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= rows) return MG_EARG;
    const struct rows r = {index, w, scale};
    return run(&(struct job){.some = take, .n = n, .width = width, .rule = &r, .y = y});
}

static void columns(const struct job *j, int64_t first, int64_t end) { j->kernels->weight_only(j->rule, first, end); }
int mg_weight_only(const struct mg_weight_only *g) {   /* cut by columns: each is read once for all rows */
    if (g->m < 0 || g->n < 0 || g->k < 0) return MG_ESIZE;
    return run(&(struct job){.some = columns, .n = g->n, .width = g->m * g->k, .rule = g});
}
