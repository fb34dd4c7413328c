/* Instructions of programs that have no kernel elsewhere. See minigrad.h for what they take. */
#ifndef MG_PROGRAM_H
#define MG_PROGRAM_H
#include "../minigrad.h"

static inline void *mg_at(void *const *memory, const struct mg_operand *o) { return (char *)memory[o->base] + o->offset; }

int mg_do_lanes(const struct mg_lanes *l, const struct mg_operand *operand, void *const *memory);
int mg_do_product(const struct mg_product *p, const struct mg_operand *operand, void *const *memory);
int mg_do_mixed(const struct mg_mixed *m, const struct mg_operand *operand, void *const *memory);
int mg_do_finite(int type, int64_t n, const void *from, void *to);
/* loss[i] = logsumexp(x[i]) - x[i][target[i]] and gx[i] = g[i] * d(loss[i])/dx[i], for rows of n; MG_EARG for a target that
 * is none. */
int mg_do_cross_entropy(int type, int64_t rows, int64_t n, const void *g, const void *x, const int64_t *target, void *loss,
                        void *gx);
int mg_do_copy(const struct mg_copy *c, const void *from, void *to);

#endif
