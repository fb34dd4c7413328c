/* Copies between strided places: what makes a view a value, concatenates, pads, repeats, fills. And a copy that refuses.
 *
 * Contract.   As struct mg_copy in minigrad.h. The places do not overlap; a stride of the source may be zero or negative.
 * Budget.     Bound by memory. Runs that lie side by side on both ends are one memcpy. A matrix that is turned goes by blocks of
 *             4 x 4 numbers in registers: element by element, each would touch a cache line for itself. */
#include "../pool.h"
#include "program.h"

#include <string.h>

#if defined(__clang__)
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (places){__VA_ARGS__})
#endif

enum { PARALLEL_BYTES = 1 << 19, CHUNKS = 8 };

struct job {
    const struct mg_copy *c;
    const char *from;
    char *to;
};

/* n elements, `sf` and `st` elements apart. */
static void line(int size, int64_t n, const char *from, int64_t sf, char *to, int64_t st) {
    if (sf == 1 && st == 1) memcpy(to, from, (size_t)(n * size));
    else if (size == 4) {
        const uint32_t *f = (const uint32_t *)from;
        uint32_t *t = (uint32_t *)to;
        if (sf == 0 && st == 1) for (int64_t i = 0; i < n; i++) t[i] = *f;
        else for (int64_t i = 0; i < n; i++) t[i * st] = f[i * sf];
    } else if (size == 8) {
        const uint64_t *f = (const uint64_t *)from;
        uint64_t *t = (uint64_t *)to;
        for (int64_t i = 0; i < n; i++) t[i * st] = f[i * sf];
    } else for (int64_t i = 0; i < n; i++) to[i * st] = from[i * sf];
}

/* to[i][j] = from[j][i]: rows of `to` are st numbers apart, those of `from` sf. */
static void turn(int64_t rows, int64_t columns, const float *from, int64_t sf, float *to, int64_t st) {
    typedef float four __attribute__((vector_size(16)));
    typedef int places __attribute__((vector_size(16)));
    const int64_t whole = rows - rows % 4;
    for (int64_t j = 0; j < columns; j += 4) {
        const int64_t deep = columns - j < 4 ? 0 : whole;
        for (int64_t i = 0; i < deep; i += 4) {
            const float *f = from + j * sf + i;
            float *t = to + i * st + j;
            four a, b, c, d;
            memcpy(&a, f, 16), memcpy(&b, f + sf, 16), memcpy(&c, f + 2 * sf, 16), memcpy(&d, f + 3 * sf, 16);
            const four ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5);
            const four AB = SHUFFLE(a, b, 2, 6, 3, 7), CD = SHUFFLE(c, d, 2, 6, 3, 7);
            a = SHUFFLE(ab, cd, 0, 1, 4, 5), b = SHUFFLE(ab, cd, 2, 3, 6, 7);
            c = SHUFFLE(AB, CD, 0, 1, 4, 5), d = SHUFFLE(AB, CD, 2, 3, 6, 7);
            memcpy(t, &a, 16), memcpy(t + st, &b, 16), memcpy(t + 2 * st, &c, 16), memcpy(t + 3 * st, &d, 16);
        }
        for (int64_t i = deep; i < rows; i++)
            for (int64_t k = j; k < j + 4 && k < columns; k++) to[i * st + k] = from[k * sf + i];
    }
}

static void box(const struct mg_copy *c, int d, const char *from, char *to) {
    if (d == c->rank - 2 && c->size == 4 && c->from[d] == 1 && c->to[d + 1] == 1 && c->from[d + 1] > 1) {
        turn(c->shape[d], c->shape[d + 1], (const float *)from, c->from[d + 1], (float *)to, c->to[d]);
        return;
    }
    if (d >= c->rank - 1) {
        line(c->size, c->rank ? c->shape[d] : 1, from, c->rank ? c->from[d] : 1, to, c->rank ? c->to[d] : 1);
        return;
    }
    for (int64_t i = 0; i < c->shape[d]; i++) box(c, d + 1, from + i * c->from[d] * c->size, to + i * c->to[d] * c->size);
}

static void chunk(void *arg, int k, int chunks) {   /* a part of the first dimension */
    const struct job *j = arg;
    struct mg_copy c = *j->c;
    const int64_t first = c.shape[0] * k / chunks, end = c.shape[0] * (k + 1) / chunks;
    c.shape[0] = end - first;
    box(&c, 0, j->from + first * c.from[0] * c.size, j->to + first * c.to[0] * c.size);
}

int mg_do_copy(const struct mg_copy *c, const void *from, void *to) {
    int64_t bytes = c->size;
    for (int d = 0; d < c->rank; d++) bytes *= c->shape[d];
    struct job j = {c, from, to};
    if (c->rank == 0 || bytes < PARALLEL_BYTES) box(c, 0, from, to);
    else mg_parallel(chunk, &j, c->shape[0] < CHUNKS ? (int)c->shape[0] : CHUNKS);
    return MG_OK;
}

/* n numbers side by side, MG_EARG if any is NaN or infinite: x - x is zero for all others. */
int mg_do_finite(int type, int64_t n, const void *from, void *to) {
    int all = 1;
    if (type == MG_F32) for (int64_t i = 0; i < n; i++) all &= ((const float *)from)[i] - ((const float *)from)[i] == 0;
    else for (int64_t i = 0; i < n; i++) all &= ((const double *)from)[i] - ((const double *)from)[i] == 0;
    if (!all) return MG_EARG;
    memcpy(to, from, (size_t)n * (type == MG_F32 ? sizeof(float) : sizeof(double)));
    return MG_OK;
}
