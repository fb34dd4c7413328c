/* Which table: the best that this processor supports, or the one that the caller names. */
#include "isa.h"

#include <stdatomic.h>
#include <string.h>

static const struct mg_isa *const tables[] = {   /* best last */
    &mg_isa_generic,
#if defined(__x86_64__)
    &mg_isa_avx2,
    &mg_isa_avx512,
#elif defined(__aarch64__)
    &mg_isa_neon,
#endif
};
enum { TABLES = sizeof tables / sizeof *tables };

static _Atomic(const struct mg_isa *) chosen;
static _Atomic(const struct mg_quantized_kernels *) chosen_integers;   /* NULL: the best of the table */

const struct mg_isa *mg_table(void) {
    const struct mg_isa *t = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (t == NULL) {   /* two threads may both come here: they choose the same */
        for (int i = 0; i < TABLES; i++)
            if (tables[i]->supported()) t = tables[i];
        atomic_store(&chosen, t);
    }
    return t;
}

const char *mg_isa(void) { return mg_table()->name; }

const char *mg_isa_at(int i) {
    for (int t = 0; t < TABLES; t++)
        if (tables[t]->supported() && i-- == 0) return tables[t]->name;
    return NULL;
}

int mg_set_isa(const char *name) {
    for (int t = 0; t < TABLES; t++)
        if (strcmp(tables[t]->name, name) == 0 && tables[t]->supported()) {
            atomic_store(&chosen, tables[t]);
            atomic_store(&chosen_integers, NULL);
            return MG_OK;
        }
    return MG_EISA;
}

static const struct mg_quantized_kernels *integers_at(int i) {
    const struct mg_quantized_kernels *const *sets = mg_table()->quantized;
    for (int s = 0; s < 2; s++)
        if (sets[s] != NULL && sets[s]->supported() && i-- == 0) return sets[s];
    return NULL;
}

const struct mg_quantized_kernels *mg_quantized(void) {
    const struct mg_quantized_kernels *q = atomic_load_explicit(&chosen_integers, memory_order_relaxed);
    if (q != NULL) return q;
    q = integers_at(1);
    return q != NULL ? q : integers_at(0);
}

const char *mg_dot(void) { return mg_quantized()->name; }

const char *mg_dot_at(int i) {
    const struct mg_quantized_kernels *q = integers_at(i);
    return q != NULL ? q->name : NULL;
}

int mg_set_dot(const char *name) {
    const struct mg_quantized_kernels *q;
    for (int i = 0; (q = integers_at(i)) != NULL; i++)
        if (strcmp(q->name, name) == 0) {
            atomic_store(&chosen_integers, q);
            return MG_OK;
        }
    return MG_EISA;
}

int mg_block(int type, const char *which) {
    if (type != MG_F32 && type != MG_F64) return 0;
    const struct mg_gemm_kernels *g = &mg_table()->gemm[type];
    if (strcmp(which, "mr") == 0) return g->mr;
    if (strcmp(which, "nr") == 0) return g->nr;
    if (strcmp(which, "kc") == 0) return g->kc;
    if (strcmp(which, "nc") == 0) return g->nc;
    return 0;
}
