/* Collectives of processes that share a segment of memory.
 *
 * Contract. A group of `size` processes ("ranks") has one segment, zeroed by whoever made it and prepared by
 * mg_group_create. Every rank calls the same collectives in the same order; each call returns when its result is there.
 * Each wait ends: with MG_ETIME after `timeout` seconds, with MG_EPEER when a rank has left, with MG_EDIFFER when another
 * rank called something else, with MG_EABORT when one of the world has failed. `member.other` then says which rank is meant
 * (of the world for MG_EABORT), and every later call fails likewise, as nobody knows any more how far the others are.
 *
 *      header | seats, one a rank | buffers, two a rank | mailboxes, one for each ordered pair | heaps, one a rank
 *
 * Fixed order. Each element of a sum is x_0 + x_1 + ... in the order of ranks, by whichever rank computes it: the same bits
 * on all ranks, in all runs, for all sizes of buffers.
 *
 *
 * Heaps. A rank may keep what it reduces in a part of the segment of its own (`heap`). Then nobody copies anything into a
 * buffer: others read its x where it is, and write their parts of the sum into its y. Whatever way memory is kept by each
 * rank, the sums are the same.
 *
 * Two ways to reduce. Small: everybody writes its x into its buffer, one synchronisation, everybody adds up all buffers.
 * Large: rank r adds up part r of all buffers, leaves it in place, and after a second synchronisation everybody copies the
 * parts together: the additions are split, and what others have computed is read once instead of size-1 times.
 *
 * Why two buffers. The collectives of a group take turns with them. A rank writes into a buffer that was used two
 * collectives ago. It has passed a synchronisation of the one in between, where all others had arrived, so all of them were
 * done with reading. No third synchronisation is needed.
 *
 * Waiting. A rank counts its arrivals in its own cache line and then looks at those of the others: first spinning, then
 * yielding its processor, then asleep on a futex of the one it waits for. As in pool.c, the sleeper counts itself and looks
 * again, the other one publishes and then looks for sleepers. Sleeps last at most NAP, so that an abort is always seen.
 *
 * Groups of some of the ranks have a segment of their own, and waits of theirs are seen in, and ended by, that of the world. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "minigrad.h"
#include "wait.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

#define LINE _Alignas(128)
enum { YIELD_NANOSECONDS = 200000, NAP = 20000000, SMALL = 16384, PIECE = 65536 };

struct call { int32_t kind, type, op, root; int64_t n; };

struct seat {
    LINE _Atomic uint32_t arrived;            /* synchronisations so far; a futex */
    _Atomic int sleepers;
    LINE struct call call[3];                 /* what it is doing, and its weight, in either buffer's collective; and last */
    double weight[2];
    int64_t at[2][2];                         /* where its x and y are in its heap, or -1, in either buffer's collective */
    int world_rank;
    LINE _Atomic int64_t beat, waiting_since; /* nanoseconds; 0: not waiting */
    _Atomic int left;
};

struct header {
    int64_t size, slot, mail, heap, seats_at, slots_at, mail_at, heap_at;
    LINE _Atomic int aborted;                 /* rank + 1 of the one that failed */
};

struct mailbox {                              /* a ring of bytes from one rank to another */
    LINE _Atomic uint64_t written;
    _Atomic uint32_t more; _Atomic int readers;
    LINE _Atomic uint64_t read;
    _Atomic uint32_t room; _Atomic int writers;
};

static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline struct header *head(const struct mg_member *m) { return m->memory; }
static inline struct seat *seat(const struct mg_member *m, int r) {
    return (struct seat *)((char *)m->memory + head(m)->seats_at) + r;
}
static inline struct seat *own(const struct mg_member *m) {   /* where whoever started this process looks */
    const struct header *h = m->world;
    return (struct seat *)((char *)m->world + h->seats_at) + m->world_rank;
}
static inline char *heap(const struct mg_member *m, int r) {  /* of rank r of this group */
    const struct header *h = m->world;
    return (char *)m->world + h->heap_at + seat(m, r)->world_rank * h->heap;
}
static inline int64_t in_heap(const struct mg_member *m, const char *x) {
    const char *mine = heap(m, m->rank);
    return x >= mine && x < mine + ((const struct header *)m->world)->heap ? x - mine : -1;
}
static inline char *slot(const struct mg_member *m, int r, int half) {
    return (char *)m->memory + head(m)->slots_at + (2 * (int64_t)r + half) * head(m)->slot;
}
static inline struct mailbox *box(const struct mg_member *m, int from, int to) {
    int64_t each = (int64_t)sizeof(struct mailbox) + head(m)->mail;
    return (struct mailbox *)((char *)m->memory + head(m)->mail_at + (from * head(m)->size + to) * each);
}

static void doze(_Atomic uint32_t *word, uint32_t value) {
    struct timespec nap = {0, NAP};
#if defined(__linux__)
    syscall(SYS_futex, word, FUTEX_WAIT, value, &nap, NULL, 0);
#else
    if (atomic_load(word) != value) return;
    nap.tv_nsec = 50000;
    nanosleep(&nap, NULL);
#endif
}

static void ring(_Atomic uint32_t *word, _Atomic int *sleepers) {
#if defined(__linux__)
    if (atomic_load(sleepers)) syscall(SYS_futex, word, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
#else
    (void)word, (void)sleepers;
#endif
}

/* --- making and watching a group -------------------------------------------------------------------------------- */

static int64_t mailboxes(int size, int64_t mail) {
    return round_up((int64_t)size * size * ((int64_t)sizeof(struct mailbox) + round_up(mail, 128)), 4096);
}

int64_t mg_group_bytes(int size, int64_t slot_bytes, int64_t mail, int64_t heap_bytes) {
    int64_t seats = round_up(sizeof(struct header), 4096) + round_up(size * (int64_t)sizeof(struct seat), 4096);
    return seats + 2 * size * round_up(slot_bytes, 4096) + mailboxes(size, mail) + size * round_up(heap_bytes, 4096);
}

int mg_group_create(void *memory, int size, int64_t slot_bytes, int64_t mail, int64_t heap_bytes) {
    struct header *h = memory;
    if (size < 1 || slot_bytes < 1 || mail < 1 || heap_bytes < 0) return MG_EARG;
    h->size = size;
    h->slot = round_up(slot_bytes, 4096);
    h->mail = round_up(mail, 128);
    h->seats_at = round_up(sizeof *h, 4096);
    h->slots_at = h->seats_at + round_up(size * (int64_t)sizeof(struct seat), 4096);
    h->mail_at = h->slots_at + 2 * size * h->slot;
    h->heap = round_up(heap_bytes, 4096);
    h->heap_at = h->mail_at + mailboxes(size, mail);
    return MG_OK;
}

int mg_group_join(struct mg_member *m, void *memory, int rank) {
    *m = (struct mg_member){.memory = memory, .world = memory, .rank = rank, .world_rank = rank, .timeout = 60.0, .other = -1};
    if (rank < 0 || rank >= head(m)->size) return MG_EARG;
    m->size = (int)head(m)->size;
    seat(m, rank)->world_rank = rank;
    mg_group_beat(m);
    return MG_OK;
}

void *mg_group_heap(const struct mg_member *m, int64_t *bytes) {
    *bytes = ((const struct header *)m->world)->heap;
    return heap(m, m->rank);
}

int mg_group_join_part(struct mg_member *m, void *memory, int rank, const struct mg_member *world) {
    int status = mg_group_join(m, memory, rank);
    m->world = world->world;
    m->world_rank = world->world_rank;
    if (!status) seat(m, rank)->world_rank = world->world_rank;
    m->timeout = world->timeout;
    m->spins = world->spins;
    m->log = world->log;
    return status;
}

void mg_group_beat(struct mg_member *m) { atomic_store(&seat(m, m->rank)->beat, now()); }

void mg_group_leave(struct mg_member *m) { atomic_store(&seat(m, m->rank)->left, 1); }

void mg_group_abort(void *memory, int rank) {
    int none = 0;
    atomic_compare_exchange_strong(&((struct header *)memory)->aborted, &none, rank + 1);
}

void mg_group_watch(void *memory, int rank, struct mg_watch *w) {
    struct mg_member m = {.memory = memory};
    struct seat *s = seat(&m, rank);
    int64_t t = now(), beat = atomic_load(&s->beat), since = atomic_load(&s->waiting_since);
    w->joined = beat != 0;
    w->left = atomic_load(&s->left);
    w->silent = beat ? (double)(t - beat) * 1e-9 : 0.0;
    w->waiting = since ? (double)(t - since) * 1e-9 : 0.0;
    w->turn = atomic_load(&s->arrived);
    struct call *c = &s->call[0];
    for (int h = 0; h < 3; h++, c++) {
        w->kind[h] = c->kind;
        w->type[h] = c->type;
        w->op[h] = c->op;
        w->root[h] = c->root;
        w->n[h] = c->n;
    }
}

/* --- a log of collectives ------------------------------------------------------------------------------------------ */

struct noted { struct mg_member *m; int64_t begin, waited, kind, bytes; };

static void note(struct noted *e) {
    struct mg_log *log = e->m->log;
    if (!log || !e->begin) return;
    if (log->count < log->most)
        log->events[log->count] = (struct mg_event){e->begin, now(), e->m->waited - e->waited, e->kind, e->bytes};
    log->count++;
}

/* From here to the end of the function around it is one event. */
#define NOTE(member, kind_, bytes_)                                                                                    \
    struct noted noted_ __attribute__((cleanup(note))) = {member, (member)->log ? now() : 0, (member)->waited, kind_, bytes_}

/* --- waiting ------------------------------------------------------------------------------------------------------- */

/* Wait for `ready`, which changes with *word; returns from the function around it if that does not come. */
#define WAIT(m, rank_waited_for, word, sleeping, ready) do {                                                        \
        int64_t begin_ = 0, give_up_ = 0, from_ = (m)->log ? now() : 0;   /* spinning counts if somebody looks */     \
        for (int spins_ = 0; !(ready); spins_++) {                                                                    \
            if (spins_ < (m)->spins) { relax(); continue; }                                                           \
            int64_t t_ = now();                                                                                       \
            if (!begin_) {                                                                                            \
                begin_ = t_;                                                                                          \
                give_up_ = begin_ + (int64_t)((m)->timeout * 1e9);                                                    \
                atomic_store(&own(m)->waiting_since, t_);                                                             \
            }                                                                                                         \
            int failed_ = atomic_load(&((struct header *)(m)->world)->aborted);                                       \
            int gone_ = atomic_load(&seat(m, rank_waited_for)->left);                                                 \
            if (failed_ || t_ > give_up_ || (gone_ && !(ready))) {                                                    \
                atomic_store(&own(m)->waiting_since, 0);                                                              \
                (m)->other = failed_ ? failed_ - 1 : (rank_waited_for);                                               \
                return (m)->failed = failed_ ? MG_EABORT : gone_ ? MG_EPEER : MG_ETIME;                               \
            }                                                                                                         \
            if ((m)->spins && t_ < begin_ + YIELD_NANOSECONDS) { sched_yield(); continue; }                                        \
            uint32_t seen_ = atomic_load(word);                                                                       \
            atomic_fetch_add(sleeping, 1);                                                                            \
            if (!(ready)) doze(word, seen_);                                                                          \
            atomic_fetch_sub(sleeping, 1);                                                                            \
        }                                                                                                             \
        if (from_) m->waited += now() - from_;                                                                        \
        else if (begin_) m->waited += now() - begin_;                                                                 \
        if (begin_) {                                                                                                 \
            atomic_store(&own(m)->waiting_since, 0);                                                                  \
        }                                                                                                             \
    } while (0)

/* Arrive, without waiting. */
static void arrive(struct mg_member *m) {
    struct seat *mine = seat(m, m->rank);
    m->turn++;
    atomic_store(&mine->arrived, m->turn);
    ring(&mine->arrived, &mine->sleepers);
}

static int wait_for_all(struct mg_member *m) {
    for (int k = 1; k < m->size; k++) {
        int r = (m->rank + k) % m->size;
        struct seat *s = seat(m, r);
        WAIT(m, r, &s->arrived, &s->sleepers, (int32_t)(atomic_load(&s->arrived) - m->turn) >= 0);
    }
    return MG_OK;
}

static int synchronise(struct mg_member *m) {
    arrive(m);
    return wait_for_all(m);
}

/* Begin a collective: take the next buffer and say what is done. */
static int begin(struct mg_member *m, int kind, int type, int op, int root, int64_t n, double weight) {
    m->half ^= 1;
    struct seat *mine = seat(m, m->rank);
    mine->call[m->half] = own(m)->call[2] = (struct call){kind, type, op, root, n};
    mine->weight[m->half] = weight;
    mine->at[m->half][0] = mine->at[m->half][1] = -1;
    return m->half;
}

/* The first synchronisation of a collective: all have arrived, and in the same one. */
static int meet(struct mg_member *m) {
    int status = synchronise(m);
    if (status) return status;
    const struct call *mine = &seat(m, m->rank)->call[m->half];
    for (int r = 0; r < m->size; r++) {
        if (memcmp(&seat(m, r)->call[m->half], mine, sizeof *mine)) {
            m->other = r;
            return m->failed = MG_EDIFFER;
        }
    }
    return MG_OK;
}

/* --- reductions ---------------------------------------------------------------------------------------------------- */

static int size_of(int type) {
    static const int sizes[] = {4, 8, 1, 1, 1, 4, 8, 2};
    return type >= 0 && type <= MG_T_I16 ? sizes[type] : 0;
}

/* y (op)= x, or y = weight * x for the first. A NaN stays one in MAX and MIN. */
#define FOLD(T, NAME)                                                                                                 \
    static void fold_##NAME(int op, int first, double weight, int64_t n, const T *restrict x, T *restrict y) {        \
        T w = (T)weight;                                                                                              \
        if (op == MG_GROUP_MEAN && weight != 1.0) {                                                                   \
            if (first) for (int64_t i = 0; i < n; i++) y[i] = w * x[i];                                               \
            else for (int64_t i = 0; i < n; i++) y[i] += w * x[i];                                                    \
        } else if (first) memcpy(y, x, n * sizeof *y);                                                                \
        else if (op == MG_GROUP_SUM || op == MG_GROUP_MEAN) for (int64_t i = 0; i < n; i++) y[i] += x[i];             \
        else if (op == MG_GROUP_PROD) for (int64_t i = 0; i < n; i++) y[i] *= x[i];                                   \
        else if (op == MG_GROUP_MAX) for (int64_t i = 0; i < n; i++) y[i] = y[i] >= x[i] || y[i] != y[i] ? y[i] : x[i]; \
        else for (int64_t i = 0; i < n; i++) y[i] = y[i] <= x[i] || y[i] != y[i] ? y[i] : x[i];                       \
    }
FOLD(float, f32)
FOLD(double, f64)
FOLD(uint8_t, u8)
FOLD(int8_t, i8)
FOLD(int16_t, i16)
FOLD(int32_t, i32)
FOLD(int64_t, i64)
#define TWO(T, NAME)                                                                                                  \
    static void two_##NAME(int64_t n, T by, const T *restrict a, const T *restrict b, T *restrict y) {                \
        for (int64_t i = 0; i < n; i++) y[i] = (a[i] + b[i]) * by;                                                    \
    }
TWO(float, f32)
TWO(double, f64)

static void fold(int type, int op, int first, double weight, int64_t n, const void *x, void *y) {
    switch (type) {
    case MG_T_F32: fold_f32(op, first, weight, n, x, y); break;
    case MG_T_F64: fold_f64(op, first, weight, n, x, y); break;
    case MG_T_I8: fold_i8(op, first, weight, n, x, y); break;
    case MG_T_I16: fold_i16(op, first, weight, n, x, y); break;
    case MG_T_I32: fold_i32(op, first, weight, n, x, y); break;
    case MG_T_I64: fold_i64(op, first, weight, n, x, y); break;
    case MG_T_BOOL: fold_u8(op == MG_GROUP_SUM ? MG_GROUP_MAX : op, first, weight, n, x, y); break;
    default: fold_u8(op, first, weight, n, x, y);
    }
}

static void scale(int type, double by, int64_t n, void *y) {
    if (type == MG_T_F32) for (int64_t i = 0; i < n; i++) ((float *)y)[i] *= (float)by;
    else for (int64_t i = 0; i < n; i++) ((double *)y)[i] *= by;
}

/* Where the elements of rank r's x are that it hands over in this collective. */
static const char *source(const struct mg_member *m, int r) {
    int64_t at = seat(m, r)->at[m->half][0];
    return at >= 0 ? heap(m, r) + at : slot(m, r, m->half);
}

/* Bytes of a result, `from` behind its beginning, for the others: into their y, or into one's own buffer for them. */
static void hand_out(struct mg_member *m, const char *x, int64_t from, int64_t bytes) {
    int buffer = 0;
    for (int k = 1; k < m->size; k++) {
        int r = (m->rank + k) % m->size;
        int64_t at = seat(m, r)->at[m->half][1];
        if (at >= 0) memcpy(heap(m, r) + at + from, x, bytes);
        else buffer = 1;
    }
    if (buffer) memcpy(slot(m, m->rank, m->half) + from, x, bytes);
}

/* y = the reduction of elements first .. first+n-1 of all ranks, in the order of ranks; one's own x is read where it is. y
 * may be x. Piece by piece, so that y is still in the cache when it is handed out to the others, if `spread`. */
static void combine(struct mg_member *m, int type, int op, int64_t first, int64_t n, const void *x, void *y, int spread) {
    int64_t bytes = size_of(type);
    char piece[PIECE] __attribute__((aligned(64)));
    double weights = 0.0, weight = seat(m, 0)->weight[m->half];
    int equal = 1;
    for (int r = 0; r < m->size; r++) {
        weights += seat(m, r)->weight[m->half];
        equal &= seat(m, r)->weight[m->half] == weight;
    }
    if (equal) weights = m->size;
    for (int64_t at = 0; at < n; at += PIECE / bytes) {
        int64_t count = n - at < PIECE / bytes ? n - at : PIECE / bytes;
        int64_t from = (first + at) * bytes;
        char *to = (char *)y + at * bytes;
        const char *result = piece;
        if (m->size == 2 && equal && type <= MG_T_F64 && (op == MG_GROUP_SUM || op == MG_GROUP_MEAN)) {
            double by = op == MG_GROUP_MEAN ? 0.5 : 1.0;
            const char *in[2];
            for (int r = 0; r < 2; r++) in[r] = r == m->rank ? (const char *)x + at * bytes : source(m, r) + from;
            void *out = to == in[m->rank] ? piece : to;
            if (type == MG_T_F32) two_f32(count, (float)by, (const float *)in[0], (const float *)in[1], out);
            else two_f64(count, by, (const double *)in[0], (const double *)in[1], out);
            result = out;
        } else {
            for (int r = 0; r < m->size; r++) {
                const char *part = r == m->rank ? (const char *)x + at * bytes : source(m, r) + from;
                fold(type, op, r == 0, equal ? 1.0 : seat(m, r)->weight[m->half], count, part, piece);
            }
            if (op == MG_GROUP_MEAN) scale(type, 1.0 / weights, count, piece);
        }
        if (result == piece) memcpy(to, piece, count * bytes);
        if (spread) hand_out(m, result, from, count * bytes);
    }
}

static int valid(int type, int op) {
    if (!size_of(type) || op < MG_GROUP_SUM || op > MG_GROUP_MIN) return 0;
    return op != MG_GROUP_MEAN || type == MG_T_F32 || type == MG_T_F64;
}

/* Part r of n elements, in cache lines. */
static int64_t part(int64_t n, int size, int r) {
    int64_t each = (n / size + 31) / 32 * 32;
    return r * each < n ? r * each : n;
}

/* One piece of at most a buffer. root < 0: everybody gets y, and it must be the same number for all. */
static int reduce_piece(struct mg_member *m, int kind, int type, int op, int root, int64_t n, const char *x, char *y,
                        double weight) {
    int64_t bytes = size_of(type);
    int half = begin(m, kind, type, op, root, n, weight);
    int64_t *at = seat(m, m->rank)->at[half];
    char *mine = slot(m, m->rank, half);
    if (n * bytes <= SMALL || root >= 0) {
        if (m->rank != root) memcpy(mine, x, n * bytes);
        int status = meet(m);
        if (status) return status;
        if (root < 0 || root == m->rank) combine(m, type, op, 0, n, x, y, 0);
        return MG_OK;
    }
    int64_t first = part(n, m->size, m->rank), stop = m->rank + 1 == m->size ? n : part(n, m->size, m->rank + 1);
    at[0] = in_heap(m, x), at[1] = in_heap(m, y);
    if (at[0] < 0) {
        memcpy(mine, x, first * bytes);
        memcpy(mine + stop * bytes, x + stop * bytes, (n - stop) * bytes);
    }
    int status = meet(m);
    if (status) return status;
    combine(m, type, op, first, stop - first, x + first * bytes, y + first * bytes, 1);
    status = synchronise(m);
    if (status) return status;
    for (int k = 1; at[1] < 0 && k < m->size; k++) {
        int r = (m->rank + k) % m->size;
        int64_t a = part(n, m->size, r), b = r + 1 == m->size ? n : part(n, m->size, r + 1);
        memcpy(y + a * bytes, slot(m, r, half) + a * bytes, (b - a) * bytes);
    }
    return MG_OK;
}

static int reduce(struct mg_member *m, int kind, int type, int op, int root, int64_t n, const void *x, void *y, double weight) {
    if (m->failed) return m->failed;
    if (!valid(type, op) || n < 0 || root >= m->size) return MG_EARG;
    int64_t bytes = size_of(type), most = head(m)->slot / bytes;
    if (m->size == 1) {
        if (x != y) memcpy(y, x, n * bytes);
        return MG_OK;
    }
    for (int64_t at = 0; at == 0 || at < n; at += most) {
        int64_t count = n - at < most ? n - at : most;
        char *to = y ? (char *)y + at * bytes : NULL;
        int status = reduce_piece(m, kind, type, op, root, count, (const char *)x + at * bytes, to, weight);
        if (status) return status;
    }
    return MG_OK;
}

int mg_group_all_reduce(struct mg_member *m, int type, int op, int64_t n, const void *x, void *y, double weight, int tag) {
    NOTE(m, MG_GROUP_ALL_REDUCE, n * size_of(type));
    return tag < 0 ? MG_EARG : reduce(m, MG_GROUP_ALL_REDUCE, type, op, -1 - tag, n, x, y, weight);
}

int mg_group_reduce(struct mg_member *m, int type, int op, int root, int64_t n, const void *x, void *y) {
    NOTE(m, MG_GROUP_REDUCE, n * size_of(type));
    return root < 0 ? MG_EARG : reduce(m, MG_GROUP_REDUCE, type, op, root, n, x, y, 1.0);
}

int mg_group_reduce_scatter(struct mg_member *m, int type, int op, int64_t n, const void *x, void *y) {
    NOTE(m, MG_GROUP_REDUCE_SCATTER, n * size_of(type) * m->size);
    if (m->failed) return m->failed;
    if (!valid(type, op) || n < 0) return MG_EARG;
    int64_t bytes = size_of(type), most = head(m)->slot / bytes / m->size;
    for (int64_t at = 0; at == 0 || at < n; at += most) {
        int64_t count = n - at < most ? n - at : most;
        int half = begin(m, MG_GROUP_REDUCE_SCATTER, type, op, -1, count, 1.0);
        char *mine = slot(m, m->rank, half);
        for (int r = 0; r < m->size; r++)
            if (r != m->rank) memcpy(mine + r * count * bytes, (const char *)x + (r * n + at) * bytes, count * bytes);
        int status = meet(m);
        if (status) return status;
        combine(m, type, op, m->rank * count, count, (const char *)x + (m->rank * n + at) * bytes, (char *)y + at * bytes, 0);
    }
    return MG_OK;
}

/* --- moving ---------------------------------------------------------------------------------------------------------- */

int mg_group_barrier(struct mg_member *m) {
    NOTE(m, MG_GROUP_BARRIER, 0);
    if (m->failed) return m->failed;
    begin(m, MG_GROUP_BARRIER, 0, 0, -1, 0, 0.0);
    return meet(m);
}

int mg_group_broadcast(struct mg_member *m, int root, int64_t bytes, void *x) {
    NOTE(m, MG_GROUP_BROADCAST, bytes);
    if (m->failed) return m->failed;
    int64_t most = head(m)->slot;
    if (root < 0 || root >= m->size || bytes < 0) return MG_EARG;
    for (int64_t at = 0; at == 0 || at < bytes; at += most) {
        int64_t count = bytes - at < most ? bytes - at : most;
        int half = begin(m, MG_GROUP_BROADCAST, 0, 0, root, count, 0.0);
        if (m->rank == root) memcpy(slot(m, root, half), (char *)x + at, count);
        int status = meet(m);
        if (status) return status;
        if (m->rank != root) memcpy((char *)x + at, slot(m, root, half), count);
    }
    return MG_OK;
}

int mg_group_all_gather(struct mg_member *m, int64_t bytes, const void *x, void *y) {
    NOTE(m, MG_GROUP_ALL_GATHER, bytes);
    if (m->failed) return m->failed;
    int64_t most = head(m)->slot;
    if (bytes < 0) return MG_EARG;
    for (int64_t at = 0; at == 0 || at < bytes; at += most) {
        int64_t count = bytes - at < most ? bytes - at : most;
        int half = begin(m, MG_GROUP_ALL_GATHER, 0, 0, -1, count, 0.0);
        memcpy(slot(m, m->rank, half), (const char *)x + at, count);
        int status = meet(m);
        if (status) return status;
        for (int r = 0; r < m->size; r++) memcpy((char *)y + r * bytes + at, slot(m, r, half), count);
    }
    return MG_OK;
}

/* A message is its length, then its bytes. `try_` moves what it can at once, and says how much that was. */
static int64_t try_put(struct mg_member *m, struct mailbox *b, int64_t bytes, const char *x) {
    uint64_t size = head(m)->mail, at = atomic_load(&b->written);
    uint64_t place = at % size, count = size - (at - atomic_load(&b->read));
    if (count > size - place) count = size - place;
    if (count > (uint64_t)bytes) count = bytes;
    if (!count) return 0;
    memcpy((char *)(b + 1) + place, x, count);
    atomic_store(&b->written, at + count);
    atomic_fetch_add(&b->more, 1);
    ring(&b->more, &b->readers);
    return count;
}

static int64_t try_take(struct mg_member *m, struct mailbox *b, int64_t bytes, char *x) {
    uint64_t size = head(m)->mail, at = atomic_load(&b->read);
    uint64_t place = at % size, count = atomic_load(&b->written) - at;
    if (count > size - place) count = size - place;
    if (count > (uint64_t)bytes) count = bytes;
    if (!count) return 0;
    memcpy(x, (const char *)(b + 1) + place, count);
    atomic_store(&b->read, at + count);
    atomic_fetch_add(&b->room, 1);
    ring(&b->room, &b->writers);
    return count;
}

#define FULL(b) (atomic_load(&(b)->written) - atomic_load(&(b)->read) >= (uint64_t)head(m)->mail)
#define EMPTY(b) (atomic_load(&(b)->written) == atomic_load(&(b)->read))

static int put(struct mg_member *m, int to, int64_t bytes, const char *x) {
    struct mailbox *b = box(m, m->rank, to);
    while (bytes) {
        int64_t count = try_put(m, b, bytes, x);
        x += count, bytes -= count;
        if (!count) WAIT(m, to, &b->room, &b->writers, !FULL(b));
    }
    return MG_OK;
}

static int take(struct mg_member *m, int from, int64_t bytes, char *x) {
    struct mailbox *b = box(m, from, m->rank);
    while (bytes) {
        int64_t count = try_take(m, b, bytes, x);
        x += count, bytes -= count;
        if (!count) WAIT(m, from, &b->more, &b->readers, !EMPTY(b));
    }
    return MG_OK;
}

static int peer(struct mg_member *m, int kind, int other, int64_t bytes) {
    if (m->failed) return m->failed;
    if (other < 0 || other >= m->size || other == m->rank || bytes < 0) return MG_EARG;
    own(m)->call[2] = (struct call){kind, 0, 0, other, bytes};
    return MG_OK;
}

static int take_length(struct mg_member *m, int from, int64_t bytes) {
    int status = take(m, from, sizeof m->sent, (char *)&m->sent);
    if (status || m->sent == bytes) return status;
    m->other = from;
    return MG_EDIFFER;
}

int mg_group_send(struct mg_member *m, int to, int64_t bytes, const void *x) {
    NOTE(m, MG_GROUP_SEND, bytes);
    int status = peer(m, MG_GROUP_SEND, to, bytes);
    if (!status) status = put(m, to, sizeof bytes, (const char *)&bytes);
    return status ? status : put(m, to, bytes, x);
}

int mg_group_recv(struct mg_member *m, int from, int64_t bytes, void *x) {
    NOTE(m, MG_GROUP_RECV, bytes);
    int status = peer(m, MG_GROUP_RECV, from, bytes);
    if (!status) status = take_length(m, from, bytes);
    return status ? status : take(m, from, bytes, x);
}

/* The two lengths go first, one after the other, as they fit into any mailbox. Whoever can move nothing waits for what is to
 * come, if there is something: the other one, if it is stuck, is stuck with its own data, for which there is room here. */
int mg_group_exchange(struct mg_member *m, int to, int64_t sent, const void *x, int from, int64_t taken, void *y) {
    NOTE(m, MG_GROUP_EXCHANGE, sent);
    int status = peer(m, MG_GROUP_EXCHANGE, to, sent);
    if (!status) status = peer(m, MG_GROUP_EXCHANGE, from, taken);
    if (!status) status = put(m, to, sizeof sent, (const char *)&sent);
    if (!status) status = take_length(m, from, taken);
    if (status) return status;
    struct mailbox *out = box(m, m->rank, to), *in = box(m, from, m->rank);
    const char *ahead = x;
    char *here = y;
    while (sent || taken) {
        int64_t given = sent ? try_put(m, out, sent, ahead) : 0, got = taken ? try_take(m, in, taken, here) : 0;
        ahead += given, sent -= given, here += got, taken -= got;
        if (given || got) continue;
        if (taken) WAIT(m, from, &in->more, &in->readers, !EMPTY(in) || (sent && !FULL(out)));
        else WAIT(m, to, &out->room, &out->writers, !FULL(out));
    }
    return MG_OK;
}
