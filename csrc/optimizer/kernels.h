/* What a table holds for optimizers and sparse rows; the fields of one element type. */
#ifndef MG_OPTIMIZER_KERNELS_H
#define MG_OPTIMIZER_KERNELS_H
#include "minigrad.h"

struct mg_update_kernels {
    void (*sgd)(int64_t n, void *p, const void *g, void *m, const struct mg_sgd *o);
    /* step_size = lr / (1 - beta1^t), root = sqrt(1 - beta2^t) */
    void (*adam)(int64_t n, void *p, const void *g, void *m, void *v, void *top, const struct mg_adam *o, double step_size,
                 double root);
};

struct mg_sparse_kernels {
    /* rows begin .. end - 1 of y = A x; wide: the indices are int64 */
    void (*spmm)(int wide, int far, int64_t begin, int64_t end, const void *starts, const void *columns, const void *values,
                 const void *x, int64_t features, void *y);
    void (*add)(int64_t n, const void *x, void *y);   /* y += x */
};

#endif
