/* Groups: three ranks, here threads of one process, do everything in sizes around those of buffers and parts; and a rank
 * that leaves. */
#include "check.h"

#include <pthread.h>

enum { RANKS = 3, SLOT = 32768, MOST = 5000, HEAP = 2 * MOST * 8 };

static void *other;                               /* memory of a group of some of the ranks */

static double value(int rank, int64_t i) { return (double)((i * 7 + rank * 3) % 11) - 5.0; }

static void *work(void *member) {
    struct mg_member *m = member;
    double *x = space(MOST * sizeof *x), *y = space(MOST * sizeof *y), *all = space(RANKS * MOST * sizeof *all);
    const int64_t sizes[] = {0, 1, 31, 1024, 1025, 2047, MOST};
    m->timeout = 30.0;
    for (int at = 0; at < COUNT(sizes); at++) {
        const int64_t n = sizes[at];
        for (int64_t i = 0; i < n; i++) x[i] = value(m->rank, i);
        CHECK(mg_group_all_reduce(m, MG_F64, MG_GROUP_SUM, n, x, y, 1.0, at) == MG_OK, "all_reduce");
        for (int64_t i = 0; i < n; i++) CHECK(y[i] == value(0, i) + value(1, i) + value(2, i), "sum of %d", (int)n);
        CHECK(mg_group_all_reduce(m, MG_F64, MG_GROUP_MEAN, n, x, y, 1.0 + m->rank, 0) == MG_OK, "all_reduce");
        for (int64_t i = 0; i < n; i++) {
            const double mean = (value(0, i) + 2 * value(1, i) + 3 * value(2, i)) / 6;
            CHECK(fabs(y[i] - mean) <= 1e-14, "mean of %d", (int)n);
        }
        int64_t bytes;
        double *shared = mg_group_heap(m, &bytes);      /* in place, and from there to elsewhere, on two ranks of three */
        CHECK(bytes >= 2 * n * (int64_t)sizeof *x, "heap");
        double *from = m->rank == 1 ? all : shared, *to = m->rank == 1 ? all : at % 2 ? shared + n : shared;
        for (int64_t i = 0; i < n; i++) from[i] = x[i];
        CHECK(mg_group_all_reduce(m, MG_F64, MG_GROUP_SUM, n, from, to, 1.0, at) == MG_OK, "all_reduce in heaps");
        for (int64_t i = 0; i < n; i++) CHECK(to[i] == value(0, i) + value(1, i) + value(2, i), "sum of %d in heaps", (int)n);
        CHECK(mg_group_all_gather(m, n * (int64_t)sizeof *x, x, all) == MG_OK, "all_gather");
        for (int r = 0; r < RANKS; r++)
            for (int64_t i = 0; i < n; i++) CHECK(all[r * n + i] == value(r, i), "gathered");
        CHECK(mg_group_reduce_scatter(m, MG_F64, MG_GROUP_MAX, n, all, y) == MG_OK, "reduce_scatter");
        for (int64_t i = 0; i < n; i++) CHECK(y[i] == value(m->rank, i), "scattered");
        CHECK(mg_group_broadcast(m, 1, n * (int64_t)sizeof *x, x) == MG_OK, "broadcast");
        for (int64_t i = 0; i < n; i++) CHECK(x[i] == value(1, i), "sent to all");
        for (int64_t i = 0; i < n; i++) y[i] = m->rank;
        const int next = (m->rank + 1) % RANKS, before = (m->rank + RANKS - 1) % RANKS;
        if (m->rank == 0) CHECK(mg_group_send(m, next, n * (int64_t)sizeof *y, y) == MG_OK, "send");
        CHECK(mg_group_recv(m, before, n * (int64_t)sizeof *x, x) == MG_OK, "recv");
        if (m->rank != 0) CHECK(mg_group_send(m, next, n * (int64_t)sizeof *y, y) == MG_OK, "send");
        for (int64_t i = 0; i < n; i++) CHECK(x[i] == before, "received");
        for (int64_t i = 0; i < n; i++) x[i] = -1;
        CHECK(mg_group_exchange(m, next, n * (int64_t)sizeof *y, y, before, n * (int64_t)sizeof *x, x) == MG_OK, "exchange");
        for (int64_t i = 0; i < n; i++) CHECK(x[i] == before, "exchanged");
    }
    CHECK(mg_group_barrier(m) == MG_OK, "barrier");
    if (m->rank > 0) {                            /* the last two form a group of their own */
        struct mg_member part;
        CHECK(mg_group_join_part(&part, other, m->rank - 1, m) == MG_OK && part.size == RANKS - 1, "join");
        for (int64_t i = 0; i < MOST; i++) x[i] = value(m->rank, i);
        CHECK(mg_group_all_reduce(&part, MG_F64, MG_GROUP_SUM, MOST, x, y, 1.0, 0) == MG_OK, "all_reduce");
        for (int64_t i = 0; i < MOST; i++) CHECK(y[i] == value(1, i) + value(2, i), "sum of a part");
    }
    CHECK(mg_group_barrier(m) == MG_OK, "barrier");
    if (m->rank == 0) mg_group_leave(m);
    else CHECK(mg_group_barrier(m) == MG_EPEER && mg_group_barrier(m) == MG_EPEER && m->other == 0, "a rank that has left");
    drop(x), drop(y), drop(all);
    return NULL;
}

void check_group(void) {
    const int64_t bytes = mg_group_bytes(RANKS, SLOT, 512, HEAP);
    void *memory = NULL;
    CHECK(posix_memalign(&memory, 4096, bytes) == 0, "memory");
    memset(memory, 0, bytes);
    CHECK(mg_group_create(memory, RANKS, SLOT, 512, HEAP) == MG_OK, "create");
    CHECK(posix_memalign(&other, 4096, mg_group_bytes(RANKS - 1, SLOT, 512, 0)) == 0, "memory");
    memset(other, 0, mg_group_bytes(RANKS - 1, SLOT, 512, 0));
    CHECK(mg_group_create(other, RANKS - 1, SLOT, 512, 0) == MG_OK, "create");
    struct mg_member members[RANKS];
    pthread_t threads[RANKS];
    for (int r = 0; r < RANKS; r++) CHECK(mg_group_join(&members[r], memory, r) == MG_OK, "join");
    CHECK(mg_group_join(&(struct mg_member){0}, memory, RANKS) == MG_EARG, "a rank too many");
    for (int r = 0; r < RANKS; r++) CHECK(pthread_create(&threads[r], NULL, work, &members[r]) == 0, "thread");
    for (int r = 0; r < RANKS; r++) pthread_join(threads[r], NULL);
    free(memory), free(other);
}
