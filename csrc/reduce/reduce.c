/* Sums and extremes over one dimension of (outer, n, inner).
 *
 * Contract.   As mg_reduce and mg_arg in minigrad.h. The work is cut into pieces by the shape alone, every piece leaves its
 *             result in double, and the pieces of one output are joined in order: the same bits for any number of threads.
 * Budget.     A piece is PIECE elements: long enough to hide the start of a chunk, short enough to share out. */
#include "isa.h"
#include "pool.h"
#include "scratch.h"

#include <math.h>

enum { PIECE = 65536, COLUMNS = 2048, MAX_CHUNKS = 4096 };

struct job {
    const struct mg_reduce_kernels *k;
    int type, op;
    int64_t outer, n, inner;
    const char *x;
    void *y;
    int64_t pieces, rows;          /* pieces of n, rows (or elements) in each */
    int64_t strips;                /* strips of inner */
    double *partial;               /* [outer][pieces][inner], if pieces > 1 */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int size_of(int type) { return type == MG_F32 ? 4 : 8; }

static double start_of(int op) { return op == MG_SUM ? 0 : op == MG_MAX ? -INFINITY : INFINITY; }

static double join(int op, double a, double b) {
    if (op == MG_SUM) return a + b;
    if (a != a || b != b) return NAN;
    return op == MG_MAX ? (a > b ? a : b) : (a < b ? a : b);
}

static void put(const struct job *j, int64_t at, double value) {
    if (j->type == MG_F32) ((float *)j->y)[at] = (float)value;
    else ((double *)j->y)[at] = value;
}

static double row(const struct job *j, int64_t n, const char *x) {
    return j->op == MG_SUM ? j->k->sum(n, x) : n == 0 ? start_of(j->op) : j->op == MG_MAX ? j->k->max(n, x) : j->k->min(n, x);
}

static void unit(const struct job *j, int64_t u) {
    const int64_t strip = u % j->strips, piece = u / j->strips % j->pieces, o = u / j->strips / j->pieces;
    const int64_t first = piece * j->rows, rows = least(j->rows, j->n - first);
    const char *x = j->x + (o * j->n + first) * j->inner * size_of(j->type);
    if (j->inner == 1) {
        const double r = row(j, rows, x);
        if (j->partial) j->partial[o * j->pieces + piece] = r;
        else put(j, o, r);
        return;
    }
    const int64_t column = strip * COLUMNS, n = least(COLUMNS, j->inner - column);
    double local[COLUMNS], *acc = j->partial ? j->partial + (o * j->pieces + piece) * j->inner + column : local;
    for (int64_t i = 0; i < n; i++) acc[i] = start_of(j->op);
    j->k->columns(j->op, rows, n, x + column * size_of(j->type), j->inner, acc);
    if (!j->partial)
        for (int64_t i = 0; i < n; i++) put(j, o * j->inner + column + i, acc[i]);
}

static void chunk(void *arg, int c, int chunks) {
    const struct job *j = arg;
    const int64_t units = j->outer * j->pieces * j->strips;
    for (int64_t u = units * c / chunks; u < units * (c + 1) / chunks; u++) unit(j, u);
}

int mg_reduce(int type, int op, int64_t outer, int64_t n, int64_t inner, const void *x, void *y) {
    if ((type != MG_F32 && type != MG_F64) || op < MG_SUM || op > MG_MIN) return MG_EARG;
    int64_t count;
    if (outer < 0 || n < 0 || inner < 0 || __builtin_mul_overflow(outer, inner, &count) || count > INT64_MAX / 16 ||
        (n > 0 && count > INT64_MAX / 16 / n))
        return MG_ESIZE;
    if (count == 0) return MG_OK;
    struct job j = {&mg_table()->reduce[type], type, op, outer, n, inner, x, y, 1, n, (inner + COLUMNS - 1) / COLUMNS, NULL};
    const int64_t wanted = inner == 1 ? PIECE : inner * 64 > PIECE ? 64 : PIECE / inner / 64 * 64;
    if (n > 2 * wanted) {
        j.rows = wanted;
        if (n / j.rows * count > 1 << 22) j.rows = n / 64 > wanted ? n / 64 : wanted;   /* bound the scratch */
        j.pieces = (n + j.rows - 1) / j.rows;
        j.partial = mg_scratch((size_t)(count * j.pieces) * sizeof(double));
        if (j.partial == NULL) return MG_ENOMEM;
    }
    const int64_t units = j.outer * j.pieces * j.strips, work = count * (n + 1);
    mg_parallel(chunk, &j, (int)least(least(units, work / 16384 + 1), MAX_CHUNKS));
    if (j.partial)
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i++) {
                double total = start_of(op);
                for (int64_t p = 0; p < j.pieces; p++) total = join(op, total, j.partial[(o * j.pieces + p) * inner + i]);
                put(&j, o * inner + i, total);
            }
    return MG_OK;
}

/* --- positions ---------------------------------------------------------------------------------------------------- */

static int64_t first_extreme(const struct job *j, const char *x) {   /* the best block so far, then the place in it */
    enum { BLOCK = 512 };
    const int size = size_of(j->type);
    double best = 0;
    int64_t where = 0;
    for (int64_t begin = 0; begin < j->n; begin += BLOCK) {
        const double r = row(j, least(BLOCK, j->n - begin), x + begin * size);
        if (begin == 0 || r != r || (j->op == MG_MAX ? r > best : r < best)) {
            best = r;
            where = begin;
            if (r != r) break;
        }
    }
    return where + j->k->find(least(BLOCK, j->n - where), x + where * size, best);
}

#define FIRST_EXTREMES(REAL)                                                                                       \
    static void first_extremes_##REAL(int op, int64_t rows, int64_t n, const REAL *x, int64_t stride, int64_t *y) {  \
        REAL best[MG_STRIP];                                                                                        \
        for (int64_t c = 0; c < n; c++) best[c] = x[c], y[c] = 0;                                                   \
        for (int64_t i = 1; i < rows; i++)                                                                          \
            for (int64_t c = 0; c < n; c++) {                                                                       \
                const REAL a = x[i * stride + c];                                                                   \
                const int wins = (op == MG_MAX ? a > best[c] : a < best[c]) | ((a != a) & (best[c] == best[c]));    \
                const int keeps = best[c] != best[c];                                                               \
                best[c] = (wins & !keeps) ? a : best[c];                                                            \
                y[c] = (wins & !keeps) ? i : y[c];                                                                  \
            }                                                                                                       \
    }
FIRST_EXTREMES(float)
FIRST_EXTREMES(double)

static void arg_chunk(void *arg, int c, int chunks) {
    const struct job *j = arg;
    int64_t *y = j->y;
    const int64_t units = j->outer * j->strips;
    for (int64_t u = units * c / chunks; u < units * (c + 1) / chunks; u++) {
        const int64_t o = u / j->strips, column = u % j->strips * MG_STRIP, at = o * j->n * j->inner + column;
        if (j->inner == 1) y[o] = first_extreme(j, j->x + at * size_of(j->type));
        else if (j->type == MG_F32)
            first_extremes_float(j->op, j->n, least(MG_STRIP, j->inner - column), (const float *)j->x + at, j->inner,
                                 y + o * j->inner + column);
        else
            first_extremes_double(j->op, j->n, least(MG_STRIP, j->inner - column), (const double *)j->x + at, j->inner,
                                  y + o * j->inner + column);
    }
}

int mg_arg(int type, int op, int64_t outer, int64_t n, int64_t inner, const void *x, int64_t *y) {
    if ((type != MG_F32 && type != MG_F64) || (op != MG_MAX && op != MG_MIN)) return MG_EARG;
    if (outer < 0 || n < 1 || inner < 0) return MG_ESIZE;
    if (outer == 0 || inner == 0) return MG_OK;
    struct job j = {&mg_table()->reduce[type], type, op, outer, n, inner, x, y, 1, n, (inner + MG_STRIP - 1) / MG_STRIP, NULL};
    mg_parallel(arg_chunk, &j, (int)least(least(j.outer * j.strips, outer * inner * n / 16384 + 1), MAX_CHUNKS));
    return MG_OK;
}
