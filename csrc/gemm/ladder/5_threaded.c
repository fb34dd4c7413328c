/* Step 5, threads: bands of rows, one chunk each, taken by whichever thread is free (pool.c). No chunk writes what
 * another one reads, so there is nothing to wait for, and the sums are the same for any number of threads. */
#include "isa.h"
#include "ladder.h"
#include "pool.h"

#include <stdatomic.h>

struct job {
    int64_t m, n, k;
    const float *a, *b;
    float *c;
    _Atomic int status;
};

static void band(void *arg, int chunk, int chunks) {
    struct job *j = arg;
    const int64_t begin = j->m * chunk / chunks, end = j->m * (chunk + 1) / chunks;
    const int status = ladder_vectorised(end - begin, j->n, j->k, j->a + begin * j->k, j->b, j->c + begin * j->n);
    if (status != MG_OK) atomic_store(&j->status, status);
}

int ladder_threaded(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c) {
    struct job j = {.m = m, .n = n, .k = k, .a = a, .b = b, .c = c};
    mg_parallel(band, &j, mg_num_threads());
    return j.status;
}
