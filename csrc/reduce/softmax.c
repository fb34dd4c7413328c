/* Softmax, log-softmax, logsumexp and softmax cross-entropy, forward and backward, over one dimension of (outer, n, inner).
 *
 * Contract.   As in minigrad.h. A row (or a strip of columns) is computed by one thread in one order: the same bits for any
 *             number of threads. The largest element is taken off first, so nothing overflows; a row with a NaN or with
 *             +inf gives NaN, as the formulas do.
 * Budget.     A row is read from memory once; its exponentials are written where the result will be, and scaled there while
 *             they are in L1. */
#include "isa.h"
#include "pool.h"

#include <math.h>

enum { CHUNK = 16384, MAX_CHUNKS = 4096 };

struct job {
    const struct mg_reduce_kernels *k;
    int type, what;
    int64_t outer, n, inner, strips;
    const char *g, *x;
    char *y;
    void *lse;
    const int64_t *target;
    int64_t ignore;
    double scale;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int size_of(int type) { return type == MG_F32 ? 4 : 8; }

static void put(int type, void *y, int64_t at, double value) {
    if (type == MG_F32) ((float *)y)[at] = (float)value;
    else ((double *)y)[at] = value;
}
static double get(int type, const void *x, int64_t at) {
    return type == MG_F32 ? (double)((const float *)x)[at] : ((const double *)x)[at];
}

static void forward(void *arg, int c, int chunks) {
    const struct job *j = arg;
    const int size = size_of(j->type);
    const int64_t units = j->outer * j->strips;
    for (int64_t u = units * c / chunks; u < units * (c + 1) / chunks; u++) {
        const int64_t o = u / j->strips, column = u % j->strips * MG_STRIP, at = o * j->n * j->inner + column;
        char *y = j->y ? j->y + at * size : NULL;
        if (j->inner == 1) {
            if (j->what == MG_SOFTMAX) j->k->softmax(j->n, j->x + at * size, y);
            else {
                const double lse = j->k->log_softmax(j->n, j->x + at * size, y);
                if (j->lse) put(j->type, j->lse, o, lse);
            }
        } else {
            void *lse = j->lse ? (char *)j->lse + (o * j->inner + column) * size : NULL;
            j->k->softmax_columns(j->what, j->n, least(MG_STRIP, j->inner - column), j->x + at * size, j->inner, y, lse);
        }
    }
}

static void backward(void *arg, int c, int chunks) {
    const struct job *j = arg;
    const int size = size_of(j->type);
    const int64_t units = j->outer * j->strips;
    for (int64_t u = units * c / chunks; u < units * (c + 1) / chunks; u++) {
        const int64_t o = u / j->strips, column = u % j->strips * MG_STRIP, at = (o * j->n * j->inner + column) * size;
        if (j->inner > 1)
            j->k->softmax_grad_columns(j->what, j->n, least(MG_STRIP, j->inner - column), j->g + at, j->x + at, j->inner,
                                       j->y + at);
        else if (j->what == MG_SOFTMAX) j->k->softmax_grad(j->n, j->g + at, j->x + at, j->y + at);
        else j->k->log_softmax_grad(j->n, j->g + at, j->x + at, j->y + at);
    }
}

static int prepare(struct job *j, int64_t *chunks) {
    if (j->type != MG_F32 && j->type != MG_F64) return MG_EARG;
    int64_t count;
    if (j->outer < 0 || j->n < 0 || j->inner < 0 || __builtin_mul_overflow(j->outer, j->inner, &count) ||
        (j->n > 0 && count > INT64_MAX / 16 / j->n))
        return MG_ESIZE;
    j->k = &mg_table()->reduce[j->type];
    j->strips = j->inner == 1 ? 1 : (j->inner + MG_STRIP - 1) / MG_STRIP;
    *chunks = least(least(j->outer * j->strips, count * j->n / CHUNK + 1), MAX_CHUNKS);
    return MG_OK;
}

int mg_softmax(int type, int what, int64_t outer, int64_t n, int64_t inner, const void *x, void *y, void *lse) {
    struct job j = {.type = type, .what = what, .outer = outer, .n = n, .inner = inner, .x = x, .y = y, .lse = lse};
    int64_t chunks;
    if (what < MG_SOFTMAX || what > MG_LOGSUMEXP || (what == MG_LOGSUMEXP ? lse == NULL || y != NULL : y == NULL)) return MG_EARG;
    const int status = prepare(&j, &chunks);
    if (status == MG_OK) mg_parallel(forward, &j, (int)chunks);
    return status;
}

int mg_softmax_grad(int type, int what, int64_t outer, int64_t n, int64_t inner, const void *g, const void *y, void *gx) {
    struct job j = {.type = type, .what = what, .outer = outer, .n = n, .inner = inner, .g = g, .x = y, .y = gx};
    int64_t chunks;
    if (what != MG_SOFTMAX && what != MG_LOG_SOFTMAX) return MG_EARG;
    const int status = prepare(&j, &chunks);
    if (status == MG_OK) mg_parallel(backward, &j, (int)chunks);
    return status;
}

/* --- cross-entropy ------------------------------------------------------------------------------------------------ */

static void entropy(void *arg, int c, int chunks) {
    const struct job *j = arg;
    const int size = size_of(j->type);
    for (int64_t i = j->outer * c / chunks; i < j->outer * (c + 1) / chunks; i++) {
        const char *x = j->x + i * j->n * size;
        char *gx = j->y ? j->y + i * j->n * size : NULL;
        const int64_t t = j->target[i];
        const int counts = t != j->ignore;
        double lse = 0, g = 0;
        if (j->g == NULL || gx == NULL) {
            lse = gx ? j->k->softmax(j->n, x, gx) : j->k->log_softmax(j->n, x, NULL);
            if (gx) {   /* the softmax lies in gx */
                g = j->scale;
                if (!counts) for (int64_t q = 0; q < j->n; q++) put(j->type, gx, q, 0);
                else {
                    j->k->scale(j->n, g, gx);
                    put(j->type, gx, t, get(j->type, gx, t) - g);
                }
            }
            /* lse - lse is 0, or NaN if the row has a +inf or nothing but -inf: as the formula has it */
            if (j->lse) put(j->type, j->lse, i, counts ? lse - get(j->type, x, t) + (lse - lse) : 0);
        } else {
            g = get(j->type, j->g, i) * j->scale;
            j->k->softmax(j->n, x, gx);
            if (!counts) for (int64_t q = 0; q < j->n; q++) put(j->type, gx, q, 0);   /* even where the row has a NaN */
            else {
                j->k->scale(j->n, g, gx);
                put(j->type, gx, t, get(j->type, gx, t) - g);
            }
        }
    }
}

static int cross_entropy(struct job *j) {
    int64_t chunks;
    const int status = prepare(j, &chunks);
    if (status != MG_OK) return status;
    if (j->n < 1 && j->outer > 0) return MG_ESIZE;
    for (int64_t i = 0; i < j->outer; i++)
        if (j->target[i] != j->ignore && (j->target[i] < 0 || j->target[i] >= j->n)) return MG_EARG;
    mg_parallel(entropy, j, (int)chunks);
    return MG_OK;
}

int mg_cross_entropy(int type, int64_t rows, int64_t n, const void *x, const int64_t *target, int64_t ignore, void *loss,
                     double scale, void *gx) {
    struct job j = {.type = type, .outer = rows, .n = n, .inner = 1, .x = x, .target = target, .ignore = ignore,
                    .lse = loss, .y = gx, .scale = scale};
    return cross_entropy(&j);
}

int mg_cross_entropy_grad(int type, int64_t rows, int64_t n, const void *g, const void *x, const int64_t *target,
                          int64_t ignore, void *gx) {
    struct job j = {.type = type, .outer = rows, .n = n, .inner = 1, .g = g, .x = x, .target = target, .ignore = ignore,
                    .y = gx, .scale = 1};
    return cross_entropy(&j);
}
