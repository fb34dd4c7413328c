/* Sums and extremes over one dimension of (outer, n, inner).
 *
 * Contract.   As mg_reduce and mg_arg in minigrad.h. The work is cut into pieces by the shape alone, every piece leaves its
 *             result in double, and the pieces of one output are joined in order: the same bits for any number of threads.
 * Budget.     A piece is PIECE elements: long enough to hide the start of a chunk, short enough to share out. */
#include "isa.h"
#include "pool.h"
#include "scratch.h"

#include <math.h>

enum { PIECE = 65536, BAND = 262144, MAX_CHUNKS = 4096, GRAIN = 16384 };

struct job {
    const struct mg_reduce_kernels *k;
    int type, op;
    int64_t outer, n, inner;
    const char *x;
    void *y;                       /* the results, unless places are asked for */
    int64_t *places;
    int64_t pieces, rows;          /* pieces of n, rows (or elements) in each */
    int64_t strips;                /* strips of inner */
    double *partial;               /* [outer][pieces][inner], if pieces > 1 */
    int64_t *partial_places;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int size_of(int type) { return type == MG_F32 ? 4 : 8; }

static double start_of(int op) { return op == MG_SUM ? 0 : op == MG_MAX ? -INFINITY : INFINITY; }

/* Whether b takes the place of a: a NaN does, the first one stays. */
static int wins(int op, double b, double a) { return a == a && (b != b || (op == MG_MAX ? b > a : b < a)); }

static void put(const struct job *j, int64_t at, double value) {
    if (j->type == MG_F32) ((float *)j->y)[at] = (float)value;
    else ((double *)j->y)[at] = value;
}

/* One piece of a row. */
static void row(const struct job *j, int64_t u) {
    const int64_t o = u / j->pieces, first = u % j->pieces * j->rows, n = least(j->rows, j->n - first);
    const char *x = j->x + (o * j->n + first) * size_of(j->type);
    if (j->places) {
        j->k->places(j->op, 1, n, x, j->partial_places + u, j->partial + u);
        j->partial_places[u] += first;
    } else j->partial[u] = j->k->row(j->op, n, x);
}

/* One piece of a strip of columns. */
static void strip(const struct job *j, int64_t u) {
    const int64_t piece = u / j->strips % j->pieces, o = u / j->strips / j->pieces;
    const int64_t column = u % j->strips * MG_COLUMNS, n = least(MG_COLUMNS, j->inner - column);
    const int64_t first = piece * j->rows, rows = least(j->rows, j->n - first);
    const int64_t at = o * j->inner + column, partial = (o * j->pieces + piece) * j->inner + column;
    const char *x = j->x + ((o * j->n + first) * j->inner + column) * size_of(j->type);
    double local[MG_COLUMNS], *acc = j->partial ? j->partial + partial : local;
    for (int64_t i = 0; i < n; i++) acc[i] = start_of(j->op);
    if (j->places) {
        int64_t *places = j->partial ? j->partial_places + partial : j->places + at;
        for (int64_t i = 0; i < n; i++) places[i] = first;
        j->k->column_places(j->op, rows, n, x, j->inner, first, acc, places);
    } else {
        j->k->columns(j->op, rows, n, x, j->inner, acc);
        if (!j->partial)
            for (int64_t i = 0; i < n; i++) put(j, at + i, acc[i]);
    }
}

static void chunk(void *arg, int c, int chunks) {
    const struct job *j = arg;
    const int64_t units = j->outer * j->pieces * j->strips, first = units * c / chunks, end = units * (c + 1) / chunks;
    if (j->inner == 1 && j->pieces == 1) {
        const int size = size_of(j->type);
        const char *x = j->x + first * j->n * size;
        if (j->places) j->k->places(j->op, end - first, j->n, x, j->places + first, NULL);
        else j->k->rows(j->op, end - first, j->n, x, (char *)j->y + first * size);
        return;
    }
    for (int64_t u = first; u < end; u++)
        if (j->inner == 1) row(j, u);
        else strip(j, u);
}

/* Join the pieces of every output, in order: into the first of them, and from there to where the results belong. */
static void join(const struct job *j) {
    for (int64_t o = 0; o < j->outer; o++) {
        double *total = j->partial + o * j->pieces * j->inner;
        int64_t *place = j->places ? j->partial_places + o * j->pieces * j->inner : NULL;
        for (int64_t p = 1; p < j->pieces; p++)
            for (int64_t i = 0, at = p * j->inner; i < j->inner; i++, at++)
                if (j->op == MG_SUM) total[i] += total[at];
                else if (wins(j->op, total[at], total[i])) {
                    total[i] = total[at];
                    if (place) place[i] = place[at];
                }
        for (int64_t i = 0; i < j->inner; i++)
            if (place) j->places[o * j->inner + i] = place[i];
            else put(j, o * j->inner + i, total[i]);
    }
}

static int run(struct job *j) {
    int64_t count;
    if (j->outer < 0 || j->n < 0 || j->inner < 0 || __builtin_mul_overflow(j->outer, j->inner, &count) ||
        count > INT64_MAX / 16 || (j->n > 0 && count > INT64_MAX / 16 / j->n))
        return MG_ESIZE;
    if (count == 0) return MG_OK;
    if (j->n == 0) {               /* sums and extremes of nothing */
        for (int64_t i = 0; i < count; i++) put(j, i, start_of(j->op));
        return MG_OK;
    }
    j->k = &mg_table()->reduce[j->type];
    j->strips = (j->inner + MG_COLUMNS - 1) / MG_COLUMNS;
    j->pieces = 1;
    j->rows = j->n;
    const int64_t wanted = j->inner == 1 ? PIECE : j->inner * 64 > BAND ? 64 : BAND / j->inner / 64 * 64;
    if (j->n > 2 * wanted) {
        j->rows = wanted;
        if (j->n / j->rows * count > 1 << 22) j->rows = j->n / 64 > wanted ? j->n / 64 : wanted;   /* bound the scratch */
        j->pieces = (j->n + j->rows - 1) / j->rows;
        const size_t partials = (size_t)(count * j->pieces);
        j->partial = mg_scratch(partials * (sizeof(double) + (j->places ? sizeof(int64_t) : 0)));
        if (j->partial == NULL) return MG_ENOMEM;
        j->partial_places = (int64_t *)(j->partial + partials);
    }
    const int64_t units = j->outer * j->pieces * j->strips;
    mg_parallel(chunk, j, (int)least(least(units, count * j->n / GRAIN + 1), MAX_CHUNKS));
    if (j->partial) join(j);
    return MG_OK;
}

int mg_reduce(int type, int op, int64_t outer, int64_t n, int64_t inner, const void *x, void *y) {
    if ((type != MG_F32 && type != MG_F64) || op < MG_SUM || op > MG_MIN) return MG_EARG;
    struct job j = {.type = type, .op = op, .outer = outer, .n = n, .inner = inner, .x = x, .y = y};
    return run(&j);
}

int mg_arg(int type, int op, int64_t outer, int64_t n, int64_t inner, const void *x, int64_t *y) {
    if ((type != MG_F32 && type != MG_F64) || (op != MG_MAX && op != MG_MIN)) return MG_EARG;
    if (n < 1) return MG_ESIZE;
    struct job j = {.type = type, .op = op, .outer = outer, .n = n, .inner = inner, .x = x, .places = y};
    return run(&j);
}
