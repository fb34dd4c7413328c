/* Softmax cross-entropy and its gradient in one pass over the logits.
 *
 * Contract.   As mg_do_cross_entropy in program.h. A row is computed by one thread in one order: the same bits for any number
 *             of threads.
 * Idea.       In a training step the cotangent of each row's loss is known before the loss is: it is one over the size of the
 *             batch. So the exponentials, which cost the most, are computed once for both. */
#include "../isa.h"
#include "../pool.h"
#include "program.h"

enum { CHUNK = 16384, MOST_CHUNKS = 1024 };

struct job {
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

int mg_do_cross_entropy(int type, int64_t rows, int64_t n, const void *g, const void *x, const int64_t *target, void *loss,
                        void *gx) {
    for (int64_t i = 0; i < rows; i++)
        if (target[i] < 0 || target[i] >= n) return MG_EARG;
    struct job j = {&mg_table()->reduce[type], type, rows, n, g, x, target, loss, gx};
    int64_t chunks = rows * n / CHUNK + 1;
    if (chunks > rows) chunks = rows > 0 ? rows : 1;
    mg_parallel(some_rows, &j, chunks < MOST_CHUNKS ? (int)chunks : MOST_CHUNKS);
    return MG_OK;
}
