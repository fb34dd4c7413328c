/* Instructions of programs that have no kernel elsewhere. See minigrad.h for what they take. */
#ifndef MG_PROGRAM_H
#define MG_PROGRAM_H
#include "../minigrad.h"

static inline void *mg_at(void *const *memory, const struct mg_operand *o) { return (char *)memory[o->base] + o->offset; }

int mg_do_lanes(const struct mg_lanes *l, const struct mg_operand *operand, void *const *memory);
int mg_do_mixed(const struct mg_mixed *m, const struct mg_operand *operand, void *const *memory);
int mg_do_copy(const struct mg_copy *c, const void *from, void *to);

#endif
