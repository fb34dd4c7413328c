/* Optimizer steps over a list of tensors, in one pass over memory and one call.
 *
 * Contract.   As mg_sgd and mg_adam in minigrad.h. All tensors together are cut into chunks, so that one large weight and a
 *             hundred small biases keep all threads equally busy.
 * Budget.     A chunk is CHUNK elements, 10 to 15 us of work; a quarter of that took a tenth longer, as the processor's
 *             prefetcher starts anew in each of the four arrays of a chunk. */
#include "isa.h"
#include "pool.h"
#include "scratch.h"

#include <math.h>

enum { CHUNK = 32768, LEAST = 8192 };

struct job {
    const struct mg_update_kernels *k;
    int size, count;
    const struct mg_parameter *t;
    const int64_t *first;          /* of each tensor: its first chunk; and the number of chunks at the end */
    int64_t per;                   /* elements per chunk */
    const struct mg_sgd *sgd;
    const struct mg_adam *adam;
    double step_size, root;
};

static char *at(void *p, int64_t bytes) { return p ? (char *)p + bytes : NULL; }

static void chunk(void *arg, int c, int chunks) {
    const struct job *j = arg;
    (void)chunks;
    int low = 0, high = j->count;      /* the last tensor that begins at or before chunk c */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (j->first[middle] <= c) low = middle;
        else high = middle;
    }
    const struct mg_parameter *t = &j->t[low];
    const int64_t begin = (c - j->first[low]) * j->per, n = t->n - begin < j->per ? t->n - begin : j->per;
    const int64_t offset = begin * j->size;
    void *p = at(t->p, offset), *m = at(t->m, offset);
    const void *g = (const char *)t->g + offset;
    if (j->sgd) j->k->sgd(n, p, g, m, j->sgd);
    else j->k->adam(n, p, g, m, at(t->v, offset), at(t->top, offset), j->adam, j->step_size, j->root);
}

static int run(struct job *j, int type) {
    if (type != MG_F32 && type != MG_F64) return MG_EARG;
    if (j->count < 0) return MG_ESIZE;
    if (j->count == 0) return MG_OK;
    int64_t *first = mg_scratch(((size_t)j->count + 1) * sizeof *first), total = 0;
    if (first == NULL) return MG_ENOMEM;
    for (int i = 0; i < j->count; i++) {
        if (j->t[i].n < 0 || __builtin_add_overflow(total, j->t[i].n, &total)) return MG_ESIZE;
    }
    j->per = total < 8 * CHUNK ? LEAST : CHUNK;
    while (total / j->per > 1 << 20) j->per *= 2;
    int64_t chunks = 0;
    for (int i = 0; i < j->count; i++) {   /* an empty tensor has no chunk: the search passes over it */
        first[i] = chunks;
        chunks += (j->t[i].n + j->per - 1) / j->per;
    }
    j->first = first;
    j->k = &mg_table()->update[type];
    j->size = type == MG_F32 ? 4 : 8;
    if (total <= j->per) for (int c = 0; c < chunks; c++) chunk(j, c, (int)chunks);   /* not worth waking anybody */
    else mg_parallel(chunk, j, (int)chunks);
    return MG_OK;
}

int mg_sgd(int type, int count, const struct mg_parameter *t, const struct mg_sgd *o) {
    struct job j = {.count = count, .t = t, .sgd = o};
    for (int i = 0; i < count; i++)
        if (o->momentum != 0 && t[i].m == NULL) return MG_EARG;
    return run(&j, type);
}

int mg_adam(int type, int count, const struct mg_parameter *t, const struct mg_adam *o) {
    if (o->step < 1) return MG_EARG;
    for (int i = 0; i < count; i++)
        if (t[i].m == NULL || t[i].v == NULL) return MG_EARG;
    struct job j = {.count = count, .t = t, .adam = o,
                    .step_size = o->lr / (1 - pow(o->beta1, (double)o->step)), .root = sqrt(1 - pow(o->beta2, (double)o->step))};
    return run(&j, type);
}
