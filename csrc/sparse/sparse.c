/* CSR times dense, its transpose, and rows picked or added by index.
 *
 * Contract.   As in minigrad.h. Every output row is computed by one thread, its terms in the order in which they are stored:
 *             the same bits for any number of threads, and no atomics. Indices are checked before they are used.
 * Source.     The transposed matrix is built by a counting sort, which is stable.
 * Budget.     Rows are shared out by the number of nonzeros, found by bisection, because a few nodes of a graph have most
 *             of the edges. A thread that adds rows by index reads the whole index, which is small beside the rows. */
#include "isa.h"
#include "pool.h"

#include <string.h>

enum { CHUNK = 32768, MAX_CHUNKS = 256, NEAR_BYTES = 1 << 22 };

struct product {
    const struct mg_sparse_kernels *k;
    int wide, far;
    int64_t rows, features;
    const void *starts, *columns, *values, *x;
    void *y;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t at(int wide, const void *index, int64_t i) {
    return wide ? ((const int64_t *)index)[i] : ((const int32_t *)index)[i];
}

/* The first row such that it and the rows before have at least `share` nonzeros and rows. */
static int64_t bisect(const struct product *p, int64_t share) {
    int64_t low = 0, high = p->rows;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (at(p->wide, p->starts, middle) + middle < share) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void chunk(void *arg, int c, int chunks) {
    const struct product *p = arg;
    const int64_t all = at(p->wide, p->starts, p->rows) + p->rows;
    const int64_t begin = c == 0 ? 0 : bisect(p, all / chunks * c), end = c == chunks - 1 ? p->rows : bisect(p, all / chunks * (c + 1));
    if (begin < end) p->k->spmm(p->wide, p->far, begin, end, p->starts, p->columns, p->values, p->x, p->features, p->y);
}

/* Whether starts rise from 0 and columns are in range. */
int mg_csr_check(int wide, int64_t rows, int64_t columns, int64_t nonzeros, const void *starts, const void *index) {
    if (rows < 0 || columns < 0 || nonzeros < 0) return MG_ESIZE;
    if (at(wide, starts, 0) != 0 || at(wide, starts, rows) != nonzeros) return MG_EARG;
    for (int64_t r = 0; r < rows; r++)
        if (at(wide, starts, r) > at(wide, starts, r + 1)) return MG_EARG;
    for (int64_t k = 0; k < nonzeros; k++)
        if (at(wide, index, k) < 0 || at(wide, index, k) >= columns) return MG_EARG;
    return MG_OK;
}

int mg_spmm(int type, int wide, int64_t rows, int64_t features, const void *starts, const void *columns, const void *values,
            const void *x, void *y) {
    if (type != MG_F32 && type != MG_F64) return MG_EARG;
    if (rows < 0 || features < 0) return MG_ESIZE;
    if (rows == 0 || features == 0) return MG_OK;
    struct product p = {&mg_table()->sparse[type], wide, 0, rows, features, starts, columns, values, x, y};
    const int64_t work = (at(wide, starts, rows) + rows) * features;
    p.far = work * (type == MG_F32 ? 4 : 8) > NEAR_BYTES;   /* not more than this is touched of x */
    mg_parallel(chunk, &p, (int)least(work / CHUNK + 1, MAX_CHUNKS));
    return MG_OK;
}

#define TRANSPOSE(INDEX)                                                                                            \
    static void transpose_##INDEX(int size, int64_t rows, int64_t columns, const INDEX *starts, const INDEX *index,   \
                                  const char *values, INDEX *t_starts, INDEX *t_index, char *t_values) {              \
        memset(t_starts, 0, ((size_t)columns + 1) * sizeof *t_starts);                                               \
        const int64_t nonzeros = starts[rows];                                                                       \
        for (int64_t k = 0; k < nonzeros; k++) t_starts[index[k] + 1]++;                                             \
        for (int64_t c = 0; c < columns; c++) t_starts[c + 1] += t_starts[c];                                        \
        for (int64_t r = 0; r < rows; r++)                                                                           \
            for (int64_t k = starts[r]; k < starts[r + 1]; k++) {                                                    \
                const int64_t to = t_starts[index[k]]++;    /* now the end of what is there */                       \
                t_index[to] = (INDEX)r;                                                                              \
                if (values) memcpy(t_values + to * size, values + k * size, (size_t)size);                           \
            }                                                                                                        \
        for (int64_t c = columns; c > 0; c--) t_starts[c] = t_starts[c - 1];                                         \
        t_starts[0] = 0;                                                                                             \
    }
TRANSPOSE(int32_t)
TRANSPOSE(int64_t)

int mg_csr_transpose(int type, int wide, int64_t rows, int64_t columns, const void *starts, const void *index,
                     const void *values, void *t_starts, void *t_index, void *t_values) {
    if (type != MG_F32 && type != MG_F64) return MG_EARG;
    if (rows < 0 || columns < 0) return MG_ESIZE;
    const int size = type == MG_F32 ? 4 : 8;
    if (wide) transpose_int64_t(size, rows, columns, starts, index, values, t_starts, t_index, t_values);
    else transpose_int32_t(size, rows, columns, starts, index, values, t_starts, t_index, t_values);
    return MG_OK;
}

/* --- rows by index ------------------------------------------------------------------------------------------------ */

struct picked {
    const struct mg_sparse_kernels *k;
    int64_t n, rows, bytes, width;
    const int64_t *index;
    const char *x;
    char *y;
};

static int in_range(int64_t n, int64_t rows, const int64_t *index) {
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= rows) return 0;
    return 1;
}

static void pick(void *arg, int c, int chunks) {
    const struct picked *p = arg;
    for (int64_t i = p->n * c / chunks; i < p->n * (c + 1) / chunks; i++)
        memcpy(p->y + i * p->bytes, p->x + p->index[i] * p->bytes, (size_t)p->bytes);
}

int mg_gather_rows(int64_t n, int64_t rows, int64_t bytes, const int64_t *index, const void *x, void *y) {
    if (n < 0 || rows < 0 || bytes < 0) return MG_ESIZE;
    if (!in_range(n, rows, index)) return MG_EARG;
    struct picked p = {.n = n, .rows = rows, .bytes = bytes, .index = index, .x = x, .y = y};
    mg_parallel(pick, &p, (int)least(n * bytes / (4 * CHUNK) + 1, MAX_CHUNKS));
    return MG_OK;
}

static void add(void *arg, int c, int chunks) {
    const struct picked *p = arg;
    const int64_t begin = p->rows * c / chunks, end = p->rows * (c + 1) / chunks;
    for (int64_t i = 0; i < p->n; i++)
        if (p->index[i] >= begin && p->index[i] < end) p->k->add(p->width, p->x + i * p->bytes, p->y + p->index[i] * p->bytes);
}

int mg_scatter_add_rows(int type, int64_t n, int64_t rows, int64_t width, const int64_t *index, const void *x, void *y) {
    if (type != MG_F32 && type != MG_F64) return MG_EARG;
    if (n < 0 || rows < 0 || width < 0) return MG_ESIZE;
    if (!in_range(n, rows, index)) return MG_EARG;
    struct picked p = {.k = &mg_table()->sparse[type], .n = n, .rows = rows, .width = width,
                       .bytes = width * (type == MG_F32 ? 4 : 8), .index = index, .x = x, .y = y};
    const int64_t useful = n * width / CHUNK + 1;
    mg_parallel(add, &p, (int)least(least(useful, rows), mg_num_threads()));
    return MG_OK;
}
