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
