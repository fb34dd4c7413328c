/* Softmax cross-entropy and its gradient in one pass over the logits.
 *
 * Contract.   As mg_do_cross_entropy in program.h. A row is computed by one thread in one order: the same bits for any number
 *             of threads.
 * Idea.       In a training step the cotangent of each row's loss is known before the loss is: it is one over the size of the
 *             batch. So the exponentials, which cost the most, are computed once for both.
 *             A row of ten classes leaves most of a vector unused, and its maximum and sum go across lanes. Up to SHORT
 *             classes, MG_STRIP rows are turned on their side: then a vector has one class of many rows. 50 ns a row become 7. */
#include "../isa.h"
#include "../pool.h"
#include "program.h"

enum { SHORT = 32, TURN = 8, CHUNK = 16384, MOST_CHUNKS = 1024 };

struct job {
    const struct mg_isa *isa;
    const struct mg_reduce_kernels *k;
    int type;
    int64_t rows, n;
    const char *g, *x;
    const int64_t *target;
    char *loss, *gx;
};

static double get(int type, const void *x, int64_t at) {
    return type == MG_F32 ? (double)((const float *)x)[at] : ((const double *)x)[at];
}
static void put(int type, void *y, int64_t at, double value) {
    if (type == MG_F32) ((float *)y)[at] = (float)value;
    else ((double *)y)[at] = value;
}

static void some_rows(void *arg, int chunk, int chunks) {
    const struct job *j = arg;
    const int64_t bytes = j->n * (j->type == MG_F32 ? 4 : 8);
    for (int64_t i = j->rows * chunk / chunks; i < j->rows * (chunk + 1) / chunks; i++) {
        const char *x = j->x + i * bytes;
        char *gx = j->gx + i * bytes;
        const int64_t t = j->target[i];
        const double g = get(j->type, j->g, i), lse = j->k->softmax(j->n, x, gx);
        put(j->type, j->loss, i, lse - get(j->type, x, t) + (lse - lse));   /* NaN for a row with an infinity */
        j->k->scale(j->n, g, gx);
        put(j->type, gx, t, get(j->type, gx, t) - g);
    }
}

/* Rows first .. first + rows - 1, at most MG_STRIP, of at most SHORT classes. */
static void strip(const struct job *j, int64_t first, int64_t rows) {
    const int size = j->type == MG_F32 ? 4 : 8;
    const struct mg_gemm_kernels *gemm = &j->isa->gemm[j->type];
    _Alignas(64) char x[SHORT * MG_STRIP * 8], y[SHORT * MG_STRIP * 8], rest[MG_STRIP * 8];
    const char *g = j->g + first * size;
    gemm->transpose(j->n, rows, j->x + first * j->n * size, j->n, x, MG_STRIP);
    j->k->loss_columns(j->n, rows, x, MG_STRIP, g, y, rest);   /* x is now at most 0, so no digit is lost in the loss */
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = j->target[first + i] * MG_STRIP + i;
        const double l = get(j->type, rest, i);
        put(j->type, j->loss, first + i, l - get(j->type, x, at) + (l - l));   /* NaN for a row with an infinity */
        put(j->type, y, at, get(j->type, y, at) - get(j->type, g, i));
    }
    gemm->transpose(rows, j->n, y, MG_STRIP, j->gx + first * j->n * size, j->n);
}

static void strips(void *arg, int chunk, int chunks) {
    const struct job *j = arg;
    const int64_t all = (j->rows + MG_STRIP - 1) / MG_STRIP;
    for (int64_t i = all * chunk / chunks; i < all * (chunk + 1) / chunks; i++)
        strip(j, i * MG_STRIP, j->rows - i * MG_STRIP < MG_STRIP ? j->rows - i * MG_STRIP : MG_STRIP);
}

int mg_do_cross_entropy(int type, int64_t rows, int64_t n, const void *g, const void *x, const int64_t *target, void *loss,
                        void *gx) {
    int bad = 0;
    for (int64_t i = 0; i < rows; i++) bad |= (target[i] < 0) | (target[i] >= n);
    if (bad) return MG_EARG;
    struct job j = {mg_table(), &mg_table()->reduce[type], type, rows, n, g, x, target, loss, gx};
    const int turned = n <= SHORT && rows >= TURN;
    const int64_t units = turned ? (rows + MG_STRIP - 1) / MG_STRIP : rows;
    int64_t chunks = rows * n / CHUNK + 1;
    if (chunks > units) chunks = units > 0 ? units : 1;
    mg_parallel(turned ? strips : some_rows, &j, chunks < MOST_CHUNKS ? (int)chunks : MOST_CHUNKS);
    return MG_OK;
}
