/* Sums and extremes over one dimension, and the places of extremes. */
#include "check.h"

struct job {
    int type;
    int64_t outer, n, inner;
    const void *x;
    void *y, *first;
    int64_t *at, *first_at;
};

static void over(const void *arg) {
    const struct job *j = arg;
    const int64_t count = j->outer * j->inner;
    const size_t bytes = (size_t)count * size_of(j->type);
    for (int op = MG_SUM; op <= MG_MIN; op++) {
        FOR_EACH_SETTING {
            blank(j->y, bytes), blank(j->at, (size_t)count * 8);
            CHECK(mg_reduce(j->type, op, j->outer, j->n, j->inner, j->x, j->y) == MG_OK, "status");
            same_bits(j->first, j->y, bytes, "reduction");
            const int places = op != MG_SUM && j->n > 0;
            if (places) {
                CHECK(mg_arg(j->type, op, j->outer, j->n, j->inner, j->x, j->at) == MG_OK, "status");
                same_bits(j->first_at, j->at, (size_t)count * 8, "places");
            }
            for (int64_t i = 0; i < count; i++) {
                double want = op == MG_SUM ? 0 : op == MG_MAX ? -INFINITY : INFINITY, size = 0;
                int64_t where = 0;
                for (int64_t k = 0; k < j->n; k++) {
                    const double x = get(j->type, j->x, (i / j->inner * j->n + k) * j->inner + i % j->inner);
                    if (op == MG_SUM) want += x, size += fabs(x);
                    else if (!isnan(want) && (isnan(x) || (op == MG_MAX ? x > want : x < want))) want = x, where = k;
                }
                CHECK(near(j->type, get(j->type, j->y, i), want, 8 * epsilon(j->type) * (size + fabs(want)) * (op == MG_SUM)),
                      "op %d type %d (%ld, %ld, %ld) [%ld]: %g, not %g", op, j->type, (long)j->outer, (long)j->n, (long)j->inner, (long)i,
                      get(j->type, j->y, i), want);
                CHECK(!places || j->at[i] == where, "place: op %d type %d (%ld, %ld, %ld) [%ld]: %ld, not %ld", op, j->type, (long)j->outer,
                      (long)j->n, (long)j->inner, (long)i, (long)j->at[i], (long)where);
            }
        }
    }
}

static void reduce(int64_t outer, int64_t n, int64_t inner) {
    for (int type = MG_F32; type <= MG_F64; type++) {
        const int64_t count = outer * n * inner;
        void *x = fresh(type, count);
        if (count > 0)
            for (int64_t i = pick(0, 3); i > 0; i--) put(type, x, pick(0, count - 1), i == 1 ? NAN : i == 2 ? INFINITY : 9);
        struct job j = {type, outer, n, inner, x, numbers(type, outer * inner), numbers(type, outer * inner),
                        space((size_t)(outer * inner) * 8), space((size_t)(outer * inner) * 8)};
        alone(over, &j);
        drop(x), drop(j.y), drop(j.first), drop(j.at), drop(j.first_at);
    }
}

void check_reduce(void) {
    static const int64_t outers[] = {0, 1, 3}, ns[] = {0, 1, 3, 7, 16, 17, 63, 65, 511, 513, 1023, 1025};
    static const int64_t inners[] = {0, 1, 2, 3, 4, 15, 17, 31, 33, 63, 65, 129};
    for (int o = 0; o < COUNT(outers) && !RACES; o++)
        for (int n = 0; n < COUNT(ns); n++)
            for (int i = 0; i < COUNT(inners); i++)
                if (outers[o] * ns[n] * inners[i] < 8000) reduce(outers[o], ns[n], inners[i]);
    reduce(1, 140001, 1);      /* pieces */
    reduce(1, 3000, 50);
    reduce(3, 130, 2049);      /* strips */
    reduce(70, 1100, 1);
    CHECK(mg_reduce(MG_F32, 9, 1, 1, 1, NULL, NULL) == MG_EARG && mg_reduce(MG_F32, MG_SUM, -1, 1, 1, NULL, NULL) == MG_ESIZE &&
          mg_arg(MG_F32, MG_MAX, 1, 0, 1, NULL, NULL) == MG_ESIZE, "status");
}
