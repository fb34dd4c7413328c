/* The memory of one convolution: a part that every thread reads, and behind it a part for each thread.
 *
 * The caller of a convolution may bring it (a plan does, so that nothing is allocated when it runs), else it is this thread's
 * scratch. Threads take the tasks of a job from it, some that follow each other at a time: neighbours in memory stay with one
 * thread. Chunk c of the job owns the part `mg_room_of(r, c)`. */
#ifndef MG_ROOM_H
#define MG_ROOM_H
#include "../pool.h"
#include "../scratch.h"

#include <stdatomic.h>

struct mg_room {
    size_t shared_bytes, own_bytes;    /* multiples of MG_LINE */
    char *shared, *own;
    int threads;                       /* that may take part */
    int64_t tasks, shares;             /* of a job; shares are what is taken */
    _Atomic int64_t next;              /* share */
};
struct mg_share { int64_t next, end; };   /* the tasks that a thread has taken */
enum { MG_SHARES_PER_THREAD = 4 };

/* All in all, in bytes, a line for the alignment included; 0 if that does not fit in an address. */
static inline size_t mg_room_bytes(const struct mg_room *r, int threads) {
    size_t bytes;
    if (__builtin_mul_overflow(r->own_bytes, (size_t)threads, &bytes) || __builtin_add_overflow(bytes, r->shared_bytes + MG_LINE, &bytes))
        return 0;
    return bytes;
}

/* Find the room: in `work`, if that is not NULL, for as many of the `threads` as fit. A code of minigrad.h. */
static inline int mg_room_open(struct mg_room *r, int threads, void *work, int64_t work_bytes) {
    const size_t bytes = mg_room_bytes(r, threads);
    if (bytes == 0) return MG_ESIZE;
    r->threads = threads;
    if (work == NULL) work = mg_scratch(bytes);
    else if ((size_t)work_bytes < bytes) {
        if (work_bytes < 0 || (size_t)work_bytes < mg_room_bytes(r, 1)) return MG_ENOMEM;
        if (r->own_bytes) r->threads = (int)(((size_t)work_bytes - r->shared_bytes - MG_LINE) / r->own_bytes);
    }
    if (work == NULL) return MG_ENOMEM;
    r->shared = (char *)mg_round_up((size_t)work, MG_LINE);
    r->own = r->shared + r->shared_bytes;
    return MG_OK;
}

static inline char *mg_room_of(const struct mg_room *r, int chunk) { return r->own + (size_t)chunk * r->own_bytes; }

/* Run fn on the threads of the room, which together take the tasks 0 .. tasks-1. */
static inline void mg_room_run(struct mg_room *r, mg_chunk_fn fn, void *arg, int64_t tasks) {
    const int64_t most = r->threads == 1 ? 1 : MG_SHARES_PER_THREAD * (int64_t)r->threads;
    r->tasks = tasks;
    r->shares = tasks < most ? tasks : most;
    atomic_store_explicit(&r->next, 0, memory_order_relaxed);
    mg_parallel(fn, arg, (int)(tasks < r->threads ? tasks : r->threads));
}
/* The next task for the thread with this share, which begins empty. 0: there is none. */
static inline int mg_room_take(struct mg_room *r, struct mg_share *mine, int64_t *task) {
    if (mine->next == mine->end) {
        const int64_t i = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed), n = r->shares;
        if (i >= n) return 0;
        mine->next = r->tasks / n * i + r->tasks % n * i / n;
        mine->end = r->tasks / n * (i + 1) + r->tasks % n * (i + 1) / n;
    }
    *task = mine->next++;
    return 1;
}

#endif
