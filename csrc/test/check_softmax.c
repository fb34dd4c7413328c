/* Softmax, log-softmax and logsumexp over one dimension, with gradients; cross-entropy. */
#include "check.h"

static void softmax(int type, int64_t outer, int64_t n, int64_t inner) {
    const int64_t count = outer * n * inner, rows = outer * inner;
    const size_t bytes = (size_t)count * size_of(type), row_bytes = (size_t)rows * size_of(type);
    const double eps = epsilon(type);
    void *x = fresh(type, count), *g = fresh(type, count);
    for (int64_t i = 0; i < count; i++) put(type, x, i, 6 * get(type, x, i));
    if (count > 0 && pick(0, 3) == 0) put(type, x, pick(0, count - 1), NAN);
    void *y = numbers(type, count), *ly = numbers(type, count), *gx = numbers(type, count), *lgx = numbers(type, count);
    void *lse = numbers(type, rows), *first[5] = {numbers(type, count), numbers(type, count), numbers(type, count),
                                                  numbers(type, count), numbers(type, rows)};
    FOR_EACH_SETTING {
        blank(y, bytes), blank(ly, bytes), blank(gx, bytes), blank(lgx, bytes), blank(lse, row_bytes);
        CHECK(mg_softmax(type, MG_SOFTMAX, outer, n, inner, x, y, NULL) == MG_OK, "status");
        CHECK(mg_softmax(type, MG_LOG_SOFTMAX, outer, n, inner, x, ly, NULL) == MG_OK, "status");
        CHECK(mg_softmax(type, MG_LOGSUMEXP, outer, n, inner, x, NULL, lse) == MG_OK, "status");
        CHECK(mg_softmax_grad(type, MG_SOFTMAX, outer, n, inner, g, y, gx) == MG_OK, "status");
        CHECK(mg_softmax_grad(type, MG_LOG_SOFTMAX, outer, n, inner, g, ly, lgx) == MG_OK, "status");
        same_bits(first[0], y, bytes, "softmax"), same_bits(first[1], ly, bytes, "log-softmax");
        same_bits(first[2], gx, bytes, "gradient"), same_bits(first[3], lgx, bytes, "gradient");
        same_bits(first[4], lse, row_bytes, "logsumexp");
        for (int64_t r = 0; r < rows; r++) {
            const int64_t at = r / inner * n * inner + r % inner;
            double sum = 0, dot = 0, sum_g = 0, size = 0;
            for (int64_t k = 0; k < n; k++) sum += exp(get(type, x, at + k * inner));
            for (int64_t k = 0; k < n; k++) {
                const double gk = get(type, g, at + k * inner), p = exp(get(type, x, at + k * inner)) / sum;
                dot += gk * p, sum_g += gk, size += fabs(gk);
            }
            CHECK(near(type, get(type, lse, r), log(sum), 40 * eps), "lse[%ld] of (%ld, %ld, %ld)", (long)r, (long)outer, (long)n, (long)inner);
            for (int64_t k = 0; k < n; k++) {
                const int64_t i = at + k * inner;
                const double lp = get(type, x, i) - log(sum), p = exp(lp), gk = get(type, g, i);
                CHECK(near(type, get(type, y, i), p, 60 * eps * p), "softmax (%ld, %ld, %ld) [%ld]", (long)outer, (long)n, (long)inner, (long)i);
                CHECK(near(type, get(type, ly, i), lp, 60 * eps), "log-softmax [%ld]", (long)i);
                CHECK(near(type, get(type, gx, i), p * (gk - dot), 100 * eps * p), "gradient [%ld]", (long)i);
                CHECK(near(type, get(type, lgx, i), gk - p * sum_g, 60 * eps * (1 + p * size)), "log gradient [%ld]", (long)i);
            }
        }
    }
    drop(x), drop(g), drop(y), drop(ly), drop(gx), drop(lgx), drop(lse);
    for (int i = 0; i < 5; i++) drop(first[i]);
}

static void cross_entropy(int type, int64_t rows, int64_t n) {
    const int64_t count = rows * n;
    const size_t bytes = (size_t)count * size_of(type), row_bytes = (size_t)rows * size_of(type);
    const double eps = epsilon(type), scale = 0.25;
    void *x = fresh(type, count), *g = fresh(type, rows), *loss = numbers(type, rows), *only = numbers(type, rows);
    void *gx = numbers(type, count), *gx2 = numbers(type, count), *gx3 = numbers(type, count);
    void *first[3] = {numbers(type, rows), numbers(type, count), numbers(type, count)};
    if (count > 0 && pick(0, 2) == 0) put(type, x, pick(0, count - 1), NAN);
    int64_t *target = space((size_t)rows * 8);
    for (int64_t i = 0; i < rows; i++) target[i] = i % 5 == 4 ? -100 : pick(0, n - 1);
    FOR_EACH_SETTING {
        blank(loss, row_bytes), blank(only, row_bytes), blank(gx, bytes), blank(gx2, bytes), blank(gx3, bytes);
        CHECK(mg_cross_entropy(type, rows, n, x, target, -100, loss, scale, gx) == MG_OK, "status");
        CHECK(mg_cross_entropy(type, rows, n, x, target, -100, only, 0, NULL) == MG_OK, "status");
        CHECK(mg_cross_entropy(type, rows, n, x, target, -100, NULL, scale, gx2) == MG_OK, "status");
        CHECK(memcmp(gx, gx2, bytes) == 0, "without the loss");
        CHECK(mg_cross_entropy_grad(type, rows, n, g, x, target, -100, gx3) == MG_OK, "status");
        same_bits(first[0], loss, row_bytes, "loss"), same_bits(first[1], gx, bytes, "gradient"), same_bits(first[2], gx3, bytes, "gradient");
        for (int64_t r = 0; r < rows; r++) {
            const int counts = target[r] != -100;
            double sum = 0;
            for (int64_t k = 0; k < n; k++) sum += exp(get(type, x, r * n + k));
            const double want = counts ? log(sum) - get(type, x, r * n + target[r]) : 0;
            CHECK(near(type, get(type, loss, r), want, 40 * eps) && near(type, get(type, only, r), want, 40 * eps), "loss[%ld]", (long)r);
            for (int64_t k = 0; k < n; k++) {
                const double d = counts ? exp(get(type, x, r * n + k)) / sum - (k == target[r]) : 0;
                CHECK(near(type, get(type, gx, r * n + k), scale * d, 40 * eps), "gradient [%ld][%ld]", (long)r, (long)k);
                CHECK(near(type, get(type, gx3, r * n + k), get(type, g, r) * d, 40 * eps), "gradient [%ld][%ld]", (long)r, (long)k);
            }
        }
        if (rows > 0) {
            const int64_t was = target[0];
            target[0] = n;
            CHECK(mg_cross_entropy(type, rows, n, x, target, -100, only, 0, NULL) == MG_EARG, "a target out of range");
            target[0] = was;
        }
    }
    drop(x), drop(g), drop(loss), drop(only), drop(gx), drop(gx2), drop(gx3), drop(target);
    for (int i = 0; i < 3; i++) drop(first[i]);
}

void check_softmax(void) {
    static const int64_t ns[] = {0, 1, 3, 8, 15, 16, 17, 33, 65, 1023, 1025}, inners[] = {0, 1, 2, 15, 16, 17, 63, 65};
    for (int type = MG_F32; type <= MG_F64; type++) {
        for (int n = 0; n < COUNT(ns) && !RACES; n++) {
            for (int i = 0; i < COUNT(inners); i++)
                if (ns[n] * inners[i] < 5000) softmax(type, n % 4, ns[n], inners[i]);
            if (ns[n] > 0) cross_entropy(type, 0, ns[n]), cross_entropy(type, 1, ns[n]), cross_entropy(type, 9, ns[n]);
        }
        softmax(type, 40, 1100, 1);
        softmax(type, 2, 130, 150);
        cross_entropy(type, 50, 1000);
    }
    CHECK(mg_softmax(MG_F32, MG_LOGSUMEXP, 1, 1, 1, NULL, NULL, NULL) == MG_EARG, "status");
}
