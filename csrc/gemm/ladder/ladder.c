/* The steps, by number. */
#include "ladder.h"
#include "minigrad.h"

#include <stddef.h>

static const struct {
    const char *name;
    ladder_fn *multiply;
} steps[] = {
    {"naive", ladder_naive},           {"reordered", ladder_reordered}, {"blocked", ladder_blocked},
    {"packed", ladder_packed},         {"vectorised", ladder_vectorised}, {"threaded", ladder_threaded},
};
enum { STEPS = sizeof steps / sizeof *steps };

const char *mg_ladder_name(int step) { return step >= 0 && step < STEPS ? steps[step].name : NULL; }

int mg_ladder(int step, int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c) {
    if (step < 0 || step >= STEPS) return MG_EARG;
    if (m < 0 || n < 0 || k < 0) return MG_ESIZE;
    return steps[step].multiply(m, n, k, a, b, c);
}
