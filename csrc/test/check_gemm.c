/* Matrix products: every transpose, bias, activation, alpha and beta; batches; the teaching ladder; the probes. */
#include "check.h"

/* One product with A and B stored plainly, transposed, or with a gap (ta, tb: 0, 1, 2). */
static void multiply(int type, int64_t m, int64_t n, int64_t k, int ta, int tb, int extras) {
    struct mg_gemm g = {.type = type, .m = m, .n = n, .k = k, .rsc = n, .csc = 1, .alpha = 1};
    g.rsa = ta == 1 ? 1 : ta == 2 ? 2 * k : k, g.csa = ta == 1 ? m : ta == 2 ? 2 : 1;
    g.rsb = tb == 1 ? 1 : tb == 2 ? 2 * n : n, g.csb = tb == 1 ? k : tb == 2 ? 2 : 1;
    void *a = fresh(type, m > 0 && k > 0 ? (m - 1) * g.rsa + (k - 1) * g.csa + 1 : 0);
    void *b = fresh(type, k > 0 && n > 0 ? (k - 1) * g.rsb + (n - 1) * g.csb + 1 : 0);
    void *c = numbers(type, m * n), *was = fresh(type, m * n), *bias = fresh(type, n);
    if (extras) {
        g.alpha = -0.5, g.beta = 2, g.bias = bias, g.act = MG_RELU;
        memcpy(c, was, (size_t)(m * n) * size_of(type));
    }
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
            CHECK(error <= (size + 4) * (type == MG_F32 ? 1e-6 : 1e-14), "%d: %ldx%ldx%ld %d%d%d (%ld, %ld): %g", type,
                  (long)m, (long)n, (long)k, ta, tb, extras, (long)i, (long)j, error);
        }
    drop(a), drop(b), drop(c), drop(was), drop(bias);
}

static void of_awkward_sizes(int type) {
    const int64_t mr = mg_block(type, "mr"), nr = mg_block(type, "nr"), kc = mg_block(type, "kc");
    const int64_t ms[] = {0, 1, mr - 1, mr, mr + 1, 3 * mr + 2}, ns[] = {0, 1, nr / 2, nr - 1, nr + 1, 4 * nr + 3};
    const int64_t ks[] = {0, 1, 7, 33};
    for (int i = 0; i < 6 && !RACES; i++)
        for (int j = 0; j < 6; j++)
            for (int p = 0; p < 4; p++)
                for (int t = 0; t < 18; t++) multiply(type, ms[i], ns[j], ks[p], t % 3, t / 3 % 3, t / 9);
    for (int t = 0; t < 18; t++) multiply(type, mr + 1, 4 * nr + 5, kc + 1, t % 3, t / 3 % 3, t / 9);
    multiply(type, 2, mg_block(type, "nc") + 1, 5, 0, 1, 1);
    multiply(type, 150, 170, 60, 1, 1, 1);
}

/* Batches, one operand repeated, C transposed. */
static void batches(int type) {
    enum { N = 5, M = 9, COLUMNS = 21, K = 13 };
    void *a = fresh(type, N * M * K), *b = fresh(type, K * COLUMNS), *c = numbers(type, N * M * COLUMNS);
    const struct mg_gemm g = {.type = type, .m = M, .n = COLUMNS, .k = K, .a = a, .b = b, .c = c, .rsa = K, .csa = 1,
                              .rsb = COLUMNS, .csb = 1, .rsc = 1, .csc = M, .alpha = 1, .batch_rank = 1, .batch = {N},
                              .batch_a = {M * K}, .batch_b = {0}, .batch_c = {M * COLUMNS}};
    CHECK(mg_gemm(&g) == MG_OK, "status");
    for (int i = 0; i < N * M * COLUMNS; i++) {
        double sum = 0;
        for (int p = 0; p < K; p++)
            sum += get(type, a, (i / (M * COLUMNS) * M + i % M) * K + p) * get(type, b, p * COLUMNS + i / M % COLUMNS);
        CHECK(near(type, get(type, c, i), sum, 64 * epsilon(type)), "element %d", i);
    }
    drop(a), drop(b), drop(c);
}

/* A packed B: the same as the plain product, for one row and for several tiles. */
static void packed(int type, int64_t m, int64_t k, int64_t n) {
    void *a = fresh(type, m * k), *b = fresh(type, k * n), *c = numbers(type, m * n), *want = numbers(type, m * n);
    void *room = space((size_t)mg_gemm_pack_bytes(type, k, n));
    CHECK(mg_gemm_pack_b(type, k, n, b, n, 1, room) == MG_OK, "status");
    struct mg_gemm g = {.type = type, .m = m, .n = n, .k = k, .a = a, .b = b, .c = want, .rsa = k, .csa = 1, .rsb = n,
                        .csb = 1, .rsc = n, .csc = 1, .alpha = 1};
    CHECK(mg_gemm(&g) == MG_OK, "status");
    g.b = room, g.c = c, g.packed_b = 1;
    CHECK(mg_gemm(&g) == MG_OK, "status");
    for (int64_t i = 0; i < m * n; i++)
        CHECK(fabs(get(type, c, i) - get(type, want, i)) <= 64 * epsilon(type) * sqrt((double)k + 1), "element %ld", (long)i);
    g.k++;
    CHECK(mg_gemm(&g) == MG_EARG, "another k");
    drop(a), drop(b), drop(c), drop(want), drop(room);
}

static void ladder(void) {
    float *a = fresh(MG_F32, 37 * 300), *b = fresh(MG_F32, 300 * 41), *c = numbers(MG_F32, 37 * 41);
    for (int step = 0; mg_ladder_name(step) != NULL; step++) {
        CHECK(mg_ladder(step, 37, 41, 300, a, b, c) == MG_OK, "status");
        for (int i = 0; i < 37 * 41; i++) {
            double sum = 0;
            for (int p = 0; p < 300; p++) sum += (double)a[i / 41 * 300 + p] * b[p * 41 + i % 41];
            CHECK(fabs(sum - c[i]) < 1e-4, "%s", mg_ladder_name(step));
        }
    }
    drop(a), drop(b), drop(c);
}

static void probes(void) {
    char *from = space(12345), *to = space(12345);
    CHECK(mg_probe_copy(to, from, 12345, 2) > 0 && memcmp(to, from, 12345) == 0, "copy");
    CHECK(mg_probe_fma(MG_F32, 0) > 0 && mg_probe_fma(MG_F64, 0) > 0, "fma");
    drop(from), drop(to);
}

void check_gemm(void) {
    FOR_EACH_SETTING {
        for (int type = MG_F32; type <= MG_F64; type++) {
            const int64_t nr = mg_block(type, "nr"), kc = mg_block(type, "kc");
            of_awkward_sizes(type), batches(type);
            packed(type, 1, 7, 9 * nr + 3), packed(type, 1, kc + 1, 4 * nr), packed(type, 40, kc + 3, 3 * nr - 1);
            packed(type, 3, 5, 1);
        }
        ladder();
        probes();
    }
    struct mg_gemm huge = {.type = MG_F32, .m = INT64_MAX / 2, .n = 4, .k = 1};
    CHECK(mg_gemm(&huge) == MG_ESIZE, "sizes beyond the address space");
}
