/* What this machine can do: the denominators of the benchmarks. */
#include "isa.h"
#include "pool.h"

#include <string.h>
#include <time.h>

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct probe {
    const struct mg_gemm_kernels *kernels;
    int64_t steps;
    double flops[256];
};

static void fma_chunk(void *arg, int c, int chunks) {
    (void)chunks;
    struct probe *p = arg;
    p->flops[c] = p->kernels->probe(p->steps);
}

double mg_probe_fma(int type, double least_seconds) {
    const int threads = mg_num_threads();
    struct probe p = {.kernels = &mg_table()->gemm[type == MG_F64], .steps = 20000};
    double best = 0, begin = seconds();
    do {
        double t = seconds(), flops = 0;
        mg_parallel(fma_chunk, &p, threads);
        t = seconds() - t;
        for (int i = 0; i < threads; i++) flops += p.flops[i];
        if (flops / t > best) best = flops / t;
    } while (seconds() - begin < least_seconds);
    return best;
}

struct copy {
    char *dst;
    const char *src;
    int64_t bytes;
};

static void copy_chunk(void *arg, int c, int chunks) {
    const struct copy *p = arg;
    int64_t begin = p->bytes * c / chunks, end = p->bytes * (c + 1) / chunks;
    memcpy(p->dst + begin, p->src + begin, (size_t)(end - begin));
}

double mg_probe_copy(void *dst, const void *src, int64_t bytes, int repeat) {
    struct copy p = {dst, src, bytes};
    double best = 0;
    for (int r = 0; r < repeat; r++) {
        double t = seconds();
        mg_parallel(copy_chunk, &p, mg_num_threads());
        t = seconds() - t;
        if (2.0 * (double)bytes / t > best) best = 2.0 * (double)bytes / t;
    }
    return best;
}
