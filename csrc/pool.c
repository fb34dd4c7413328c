/* A claim pool.
 *
 * Contract. mg_parallel(fn, arg, n) returns when fn(arg, c, n) has run exactly once for every chunk c, on any thread,
 * in any order. Chunks must write disjoint outputs. A call made while another one is running (from a second Python
 * thread, or from inside a chunk) runs its own chunks itself, in a plain loop. So does a call on one thread.
 *
 * How it works. All the state of a job that threads compete for is one 64-bit word, the ticket:
 *
 *      generation (32 bits) | chunks not yet claimed (32 bits)
 *
 * To claim a chunk is to decrement the ticket by compare-and-swap. The caller claims like everybody else, so it never
 * waits for a worker that has not started: on a busy machine it simply does all the chunks. It waits only for chunks
 * that were claimed and are not finished yet. `fn` and `arg` are read after a successful claim, when they cannot
 * change: the next job is published only after this one's last chunk is done.
 *
 * Idle workers spin for SPIN_NANOSECONDS, which bridges the gap between the kernels of one training step, then give
 * their processor to whoever wants it for YIELD_NANOSECONDS, the gap between two steps that Python drives, and then
 * sleep in the kernel (futex on Linux, a condition variable elsewhere). A worker that is about to sleep first counts
 * itself in `sleepers` and then looks at the ticket once more; the caller first publishes the ticket and then looks at
 * `sleepers`. Both are sequentially consistent, so one of the two always sees the other (Dekker's argument).
 *
 * Where a worker runs. Linux likes to wake a thread on the processor of the one that wakes it, even while another one
 * idles: measured on two idle processors, 57 of 60 times. Then the worker does the caller's work in the caller's place
 * for 10 to 40 ms, until the scheduler balances its load, and two threads are as fast as one. So a caller that wakes workers
 * first forbids them its own processor, if they have another, and a worker that spins there (the caller may have moved)
 * does so itself.
 *
 * After a fork only the forking thread exists. The child's pool is reset, and its threads start again on first use.
 *
 * Measured and dropped: sleeping after 100 us of spinning (an idle virtual processor takes 10 to 130 us to wake, at times
 * milliseconds, so most calls of a program with pauses ran on one thread), condition variables alone (100 to 270 us to wake), libgomp (0.7 us per call, 3 us after idling,
 * and it collapses when a core is busy). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pool.h"
#include "minigrad.h"
#include "wait.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

enum { MAX_THREADS = 256, SPIN_NANOSECONDS = 100000, YIELD_NANOSECONDS = 1000000 };
#define CACHE_LINE _Alignas(128)   /* two lines: processors prefetch them in pairs */

static struct {
    CACHE_LINE _Atomic uint64_t ticket;
    CACHE_LINE _Atomic uint32_t done;        /* chunks finished in this generation */
    _Atomic uint32_t caller_sleeps;
    CACHE_LINE _Atomic uint32_t event;       /* changes whenever sleepers should look at the ticket again */
    _Atomic int sleepers;
    _Atomic int caller_runs_on;              /* the processor; -1: not known */
    CACHE_LINE mg_chunk_fn fn;               /* the job: written before the ticket, read after a claim */
    void *arg;
    uint32_t chunks;
    CACHE_LINE atomic_flag busy;             /* a job is running */
    _Atomic int limit;                       /* threads a job may use, the caller included; 0: not asked yet */
    int started;                             /* workers running; guarded by busy */
    pthread_once_t once;
} pool = {.caller_runs_on = -1, .busy = ATOMIC_FLAG_INIT, .once = PTHREAD_ONCE_INIT};

/* --- small portable pieces ----------------------------------------------------------------------------------- */

#if defined(__linux__)
static void wait_while(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}
static void wake(_Atomic uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}
#else
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t bell = PTHREAD_COND_INITIALIZER;
static void wait_while(_Atomic uint32_t *word, uint32_t value) {
    pthread_mutex_lock(&door);
    while (atomic_load(word) == value) pthread_cond_wait(&bell, &door);
    pthread_mutex_unlock(&door);
}
static void wake(_Atomic uint32_t *word, int count) {
    (void)word, (void)count;
    pthread_mutex_lock(&door);      /* the word has changed already: a waiter either saw it or is waiting now */
    pthread_cond_broadcast(&bell);
    pthread_mutex_unlock(&door);
}
#endif

/* Processors that this process may run on. */
static int allowed_processors(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

/* --- where workers run (Linux) -------------------------------------------------------------------------------- */

#if defined(__linux__)
static cpu_set_t home;                       /* processors that the workers may use; written before the first starts */
static struct {
    _Atomic int id, away_from;               /* of the kernel; the processor that it is kept away from, plus 1 */
} placement[MAX_THREADS];

/* Let worker `index` run on any of `home` but `here`, if that leaves one. A call that fails changes nothing. */
static void forbid(int index, int here) {
    cpu_set_t others = home;
    CPU_CLR(here, &others);
    atomic_store_explicit(&placement[index].away_from, here + 1, memory_order_relaxed);
    if (CPU_COUNT(&others) > 0) sched_setaffinity(placement[index].id, sizeof others, &others);
}

/* A worker that found itself on the caller's processor leaves, whatever it was told before. */
static void leave_caller(int index) {
    const int here = sched_getcpu();
    if (here >= 0 && here == atomic_load_explicit(&pool.caller_runs_on, memory_order_relaxed)) forbid(index, here);
}

static void settle(int index) { atomic_store(&placement[index].id, (int)syscall(SYS_gettid)); }

/* The caller is about to wake workers: not here. */
static void make_room(int workers) {
    const int here = sched_getcpu();
    atomic_store_explicit(&pool.caller_runs_on, here, memory_order_relaxed);
    if (here >= 0 && atomic_load(&pool.sleepers) > 0)
        for (int i = 1; i <= workers; i++)
            if (placement[i].id != 0 && placement[i].away_from != here + 1) forbid(i, here);
}

static void find_home(void) {
    if (sched_getaffinity(0, sizeof home, &home) != 0) CPU_ZERO(&home);
    memset(placement, 0, sizeof placement);
}
#else
static void leave_caller(int index) { (void)index; }
static void settle(int index) { (void)index; }
static void make_room(int workers) { (void)workers; }
static void find_home(void) {}
#endif

/* --- claiming ------------------------------------------------------------------------------------------------ */

static inline uint32_t unclaimed(uint64_t ticket) { return (uint32_t)ticket; }
static inline uint32_t generation(uint64_t ticket) { return (uint32_t)(ticket >> 32); }

/* Claim chunks and run them until none is left. */
static void work(void) {
    uint64_t ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
    while (unclaimed(ticket) > 0) {
        if (!atomic_compare_exchange_weak_explicit(&pool.ticket, &ticket, ticket - 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        uint32_t chunks = pool.chunks;
        pool.fn(pool.arg, (int)(chunks - unclaimed(ticket)), (int)chunks);
        if (atomic_fetch_add(&pool.done, 1) + 1 == chunks && atomic_load(&pool.caller_sleeps)) wake(&pool.done, 1);
        ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
    }
}

static void *worker(void *argument) {
    const int index = (int)(intptr_t)argument;
    uint32_t seen = 0;
    settle(index);
    for (;;) {
        int64_t idle_since = 0;
        for (int spins = 1; generation(atomic_load_explicit(&pool.ticket, memory_order_acquire)) == seen; spins++) {
            relax();
            if (spins % 32) continue;
            leave_caller(index);
            const int64_t t = now();
            if (idle_since == 0) idle_since = t;
            else if (t > idle_since + SPIN_NANOSECONDS + YIELD_NANOSECONDS) {
                uint32_t event = atomic_load(&pool.event);
                atomic_fetch_add(&pool.sleepers, 1);
                if (generation(atomic_load(&pool.ticket)) == seen) wait_while(&pool.event, event);
                atomic_fetch_sub(&pool.sleepers, 1);
                idle_since = 0;
            } else if (t > idle_since + SPIN_NANOSECONDS) sched_yield();
        }
        seen = generation(atomic_load(&pool.ticket));
        if (index >= atomic_load(&pool.limit)) continue;
        leave_caller(index);
        work();
    }
    return NULL;
}

/* Wait until every chunk that others claimed is finished. */
static void wait_done(uint32_t chunks) {
    int64_t deadline = 0;
    for (int spins = 1; atomic_load_explicit(&pool.done, memory_order_acquire) < chunks; spins++) {
        relax();
        if (spins % 32) continue;
        if (deadline == 0) deadline = now() + SPIN_NANOSECONDS;
        else if (now() > deadline) {
            atomic_store(&pool.caller_sleeps, 1);
            for (uint32_t done; (done = atomic_load(&pool.done)) < chunks;) wait_while(&pool.done, done);
            atomic_store(&pool.caller_sleeps, 0);
        }
    }
}

/* --- life cycle ---------------------------------------------------------------------------------------------- */

static void reset_in_child(void) {
    atomic_store(&pool.ticket, 0);
    atomic_store(&pool.done, 0);
    atomic_store(&pool.caller_sleeps, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.caller_runs_on, -1);
    pool.started = 0;
    atomic_flag_clear(&pool.busy);
#if !defined(__linux__)
    pthread_mutex_init(&door, NULL);
    pthread_cond_init(&bell, NULL);
#endif
}

static void init(void) { pthread_atfork(NULL, NULL, reset_in_child); }

/* Start workers until `want` are running. Fewer is not an error: the caller does the rest. Signals stay with the
 * threads that Python knows. */
static void start_workers(int want) {
    pthread_once(&pool.once, init);
    if (pool.started == 0) find_home();
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (; pool.started < want; pool.started++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, (void *)(intptr_t)(pool.started + 1)) != 0) break;
        pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int mg_num_threads(void) {
    int n = atomic_load_explicit(&pool.limit, memory_order_relaxed);
    if (n == 0) {
        mg_set_num_threads(0);
        n = atomic_load(&pool.limit);
    }
    return n;
}

int mg_set_num_threads(int n) {
    if (n <= 0) n = allowed_processors();
    atomic_store(&pool.limit, n < MAX_THREADS ? n : MAX_THREADS);
    return MG_OK;
}

void mg_parallel(mg_chunk_fn fn, void *arg, int chunks) {
    int threads = mg_num_threads();
    if (threads == 1 || chunks <= 1 || atomic_flag_test_and_set_explicit(&pool.busy, memory_order_acquire)) {
        for (int c = 0; c < chunks; c++) fn(arg, c, chunks);
        return;
    }
    if (pool.started < threads - 1) start_workers(threads - 1);

    pool.fn = fn;
    pool.arg = arg;
    pool.chunks = (uint32_t)chunks;
    make_room(pool.started);
    atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
    uint64_t next = generation(atomic_load_explicit(&pool.ticket, memory_order_relaxed)) + 1u;
    atomic_store(&pool.ticket, next << 32 | (uint32_t)chunks);
    if (atomic_load(&pool.sleepers) > 0) {
        atomic_fetch_add(&pool.event, 1);
        wake(&pool.event, threads - 1);
    }
    work();
    wait_done((uint32_t)chunks);
    atomic_flag_clear_explicit(&pool.busy, memory_order_release);
}
