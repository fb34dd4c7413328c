/* The kernels without Python, for the sanitizers: `make sanitize` builds this file and the rest of csrc/ with
 * them.
 *
 * Every table that this processor runs multiplies matrices of awkward sizes, in buffers of exactly the right
 * length (so that a read or write past an end is seen), with every transpose, bias, activation, alpha and beta,
 * and is compared with three loops in double. Then the pool: many small jobs, two callers at once, a fork while it
 * is running. */
#include "minigrad.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition, ...)                                              \
    do {                                                                   \
        if (!(condition)) {                                                \
            fprintf(stderr, "%s:%d: " #condition ": ", __FILE__, __LINE__); \
            fprintf(stderr, __VA_ARGS__);                                  \
            fputc('\n', stderr);                                           \
            exit(1);                                                       \
        }                                                                  \
    } while (0)

static double get(int type, const void *x, int64_t i) {
    return type == MG_F32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

static void put(int type, void *x, int64_t i, double v) {
    if (type == MG_F32) ((float *)x)[i] = (float)v;
    else ((double *)x)[i] = v;
}

static _Thread_local uint64_t state = 1;
static double draw(void) {   /* small numbers, enough for a check */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int)(state >> 40 & 1023) / 512 - 1;
}

static void *fresh(int type, int64_t n) {
    void *x = malloc((size_t)(n > 0 ? n : 1) * (type == MG_F32 ? 4 : 8));
    CHECK(x != NULL, "memory");
    for (int64_t i = 0; i < n; i++) put(type, x, i, draw());
    return x;
}

/* One product with A and B stored plainly, transposed, or with a gap (ta, tb: 0, 1, 2). */
static void multiply(int type, int64_t m, int64_t n, int64_t k, int ta, int tb, int extras) {
    struct mg_gemm g = {.type = type, .m = m, .n = n, .k = k, .rsc = n, .csc = 1, .alpha = 1};
    g.rsa = ta == 1 ? 1 : ta == 2 ? 2 * k : k, g.csa = ta == 1 ? m : ta == 2 ? 2 : 1;
    g.rsb = tb == 1 ? 1 : tb == 2 ? 2 * n : n, g.csb = tb == 1 ? k : tb == 2 ? 2 : 1;
    void *a = fresh(type, m > 0 && k > 0 ? (m - 1) * g.rsa + (k - 1) * g.csa + 1 : 0);
    void *b = fresh(type, k > 0 && n > 0 ? (k - 1) * g.rsb + (n - 1) * g.csb + 1 : 0);
    void *c = fresh(type, m * n), *was = fresh(type, m * n), *bias = fresh(type, n);
    for (int64_t i = 0; i < m * n; i++) put(type, was, i, get(type, c, i));
    if (extras) g.alpha = -0.5, g.beta = 2, g.bias = bias, g.act = MG_RELU;
    g.a = a, g.b = b, g.c = c;
    CHECK(mg_gemm(&g) == MG_OK, "status");
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0, size = 0;
            for (int64_t p = 0; p < k; p++) {
                double term = get(type, a, i * g.rsa + p * g.csa) * get(type, b, p * g.rsb + j * g.csb);
                sum += term, size += fabs(term);
            }
            double want = extras ? -0.5 * sum + 2 * get(type, was, i * n + j) + get(type, bias, j) : sum;
            if (extras && want < 0) want = 0;
            double error = fabs(get(type, c, i * n + j) - want);
            CHECK(error <= (size + 4) * (type == MG_F32 ? 1e-6 : 1e-14), "%s %d: %ldx%ldx%ld %d%d%d (%ld, %ld): %g",
                  mg_isa(), type, (long)m, (long)n, (long)k, ta, tb, extras, (long)i, (long)j, error);
        }
    free(a), free(b), free(c), free(was), free(bias);
}

static void gemm(void) {
    for (int type = MG_F32; type <= MG_F64; type++) {
        const int64_t mr = mg_block(type, "mr"), nr = mg_block(type, "nr"), kc = mg_block(type, "kc");
        const int64_t ms[] = {0, 1, mr - 1, mr, mr + 1, 3 * mr + 2}, ns[] = {0, 1, nr / 2, nr - 1, nr + 1, 4 * nr + 3};
        const int64_t ks[] = {0, 1, 7, 33};
        for (int i = 0; i < 6; i++)
            for (int j = 0; j < 6; j++)
                for (int p = 0; p < 4; p++)
                    for (int t = 0; t < 18; t++) multiply(type, ms[i], ns[j], ks[p], t % 3, t / 3 % 3, t / 9);
        for (int t = 0; t < 18; t++) multiply(type, mr + 1, 4 * nr + 5, kc + 1, t % 3, t / 3 % 3, t / 9);
        multiply(type, 2, mg_block(type, "nc") + 1, 5, 0, 1, 1);
        multiply(type, 150, 170, 60, 1, 1, 1);
    }
}

static void ladder(void) {
    float *a = fresh(MG_F32, 37 * 300), *b = fresh(MG_F32, 300 * 41), *c = fresh(MG_F32, 37 * 41);
    for (int step = 0; mg_ladder_name(step) != NULL; step++) {
        CHECK(mg_ladder(step, 37, 41, 300, a, b, c) == MG_OK, "status");
        for (int i = 0; i < 37 * 41; i++) {
            double sum = 0;
            for (int p = 0; p < 300; p++) sum += (double)a[i / 41 * 300 + p] * b[p * 41 + i % 41];
            CHECK(fabs(sum - c[i]) < 1e-4, "%s", mg_ladder_name(step));
        }
    }
    free(a), free(b), free(c);
}

static void philox(void) {
    static const uint32_t known[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    for (int64_t n = 0; n < 300; n++) {
        uint32_t *x = malloc((size_t)n * 4 + 1);
        double *u = malloc((size_t)n * 8 + 1);
        CHECK(x && u && mg_random_bits(0, 0, n, x) == MG_OK && mg_random_uniform_f64(7, 1, n, u) == MG_OK, "status");
        for (int64_t i = 0; i < n; i++)
            CHECK((i > 3 || x[i] == known[i]) && u[i] >= 0 && u[i] < 1, "word %ld", (long)i);
        free(x), free(u);
    }
}

static void *caller(void *result) {
    enum { N = 96 };
    float *a = fresh(MG_F32, N * N), *c = fresh(MG_F32, N * N), *first = fresh(MG_F32, N * N);
    mg_matmul(MG_F32, N, N, N, a, N, 1, a, 1, N, first);
    *(int *)result = 1;
    for (int i = 0; i < 200; i++) {
        mg_matmul(MG_F32, N, N, N, a, N, 1, a, 1, N, c);
        if (memcmp(c, first, N * N * sizeof *c) != 0) *(int *)result = 0;
    }
    free(a), free(c), free(first);
    return NULL;
}

static void pool(void) {
    int fine[3] = {0, 0, 0};
    pthread_t others[2];
    mg_set_num_threads(4);
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&others[i], NULL, caller, &fine[i]) == 0, "thread");
    caller(&fine[2]);
#if !defined(__SANITIZE_THREAD__)   /* a fork with threads is beyond ThreadSanitizer */
    pid_t child = fork();
    if (child == 0) {
        int ok = 0;
        caller(&ok);
        _exit(ok ? 0 : 1);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child of a fork");
#endif
    for (int i = 0; i < 2; i++) pthread_join(others[i], NULL);
    for (int i = 0; i < 3; i++) CHECK(fine[i], "caller %d", i);
}

int main(void) {
    const char *name;
    for (int i = 0; (name = mg_isa_at(i)) != NULL; i++) {
        CHECK(mg_set_isa(name) == MG_OK, "%s", name);
        mg_set_num_threads(1 + i % 3);
        gemm();
        ladder();
        philox();
        pool();
        printf("%s: fine\n", name);
    }
    CHECK(mg_set_isa("nonsense") == MG_EISA, "an unknown table");
    struct mg_gemm huge = {.type = MG_F32, .m = INT64_MAX / 2, .n = 4, .k = 1};
    CHECK(mg_gemm(&huge) == MG_ESIZE, "sizes beyond the address space");
    return 0;
}
