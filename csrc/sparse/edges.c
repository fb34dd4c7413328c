/* Kernels on the edges of a graph, and the grouping that makes a sparse matrix of a list of edges.
 *
 * Contract.   As in minigrad.h; the arithmetic is in sparse/edges.h. Matrices are trusted: mg_csr_check them once.
 * Source.     Grouping by key is a counting sort, which is stable and takes time in proportion to n + bound.
 * Budget.     Rows are shared out by the number of nonzeros, as a few nodes of a graph have most of the edges. */
#include "isa.h"
#include "pool.h"

#include <string.h>

enum { CHUNK = 32768, MAX_CHUNKS = 256 };

struct edges {
    const struct mg_edge_kernels *k;
    int what;
    int64_t rows, heads, features;
    const int32_t *starts, *columns;
    const void *a, *b;
    void *y;
};
enum { SPMM, SDDMM, MAXIMUM, SOFTMAX };

/* The first row such that the nonzeros and rows before it are at least `share`. */
static int64_t bisect(const struct edges *p, int64_t share) {
    int64_t low = 0, high = p->rows;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (p->starts[middle] + middle < share) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void chunk(void *arg, int c, int chunks) {
    const struct edges *p = arg;
    const int64_t all = p->starts[p->rows] + p->rows;
    const int64_t begin = c == 0 ? 0 : bisect(p, all / chunks * c), end = c == chunks - 1 ? p->rows : bisect(p, all / chunks * (c + 1));
    if (begin >= end) return;
    if (p->what == SPMM) p->k->spmm(begin, end, p->starts, p->columns, p->a, p->b, p->heads, p->features, p->y);
    else if (p->what == SDDMM) p->k->sddmm(begin, end, p->starts, p->columns, p->a, p->b, p->heads, p->features, p->y);
    else if (p->what == MAXIMUM) p->k->max(begin, end, p->starts, p->columns, p->a, p->features, p->y);
    else p->k->softmax(begin, end, p->starts, p->columns, p->a, p->features, p->y);
}

static int run(int type, int what, int64_t rows, int64_t heads, int64_t features, const int32_t *starts, const int32_t *columns,
               const void *a, const void *b, void *y) {
    if (type != MG_F32 && type != MG_F64) return MG_EARG;
    if (rows < 0 || heads < 0 || features < 0) return MG_ESIZE;
    if (rows == 0 || heads == 0 || (features == 0 && what != SDDMM)) return MG_OK;
    struct edges p = {&mg_table()->edges[type], what, rows, heads, features, starts, columns, a, b, y};
    const int64_t work = (starts[rows] + rows) * heads * (features + 1) / CHUNK + 1;
    mg_parallel(chunk, &p, (int)(work < MAX_CHUNKS ? work : MAX_CHUNKS));
    return MG_OK;
}

int mg_spmm_heads(int type, int64_t rows, int64_t heads, int64_t features, const int32_t *starts, const int32_t *columns,
                  const void *values, const void *x, void *y) {
    return run(type, SPMM, rows, heads, features, starts, columns, values, x, y);
}

int mg_sddmm(int type, int64_t rows, int64_t heads, int64_t features, const int32_t *starts, const int32_t *columns,
             const void *left, const void *right, void *values) {
    return run(type, SDDMM, rows, heads, features, starts, columns, left, right, values);
}

int mg_segment_max(int type, int64_t rows, int64_t features, const int32_t *starts, const int32_t *columns, const void *x, void *y) {
    return run(type, MAXIMUM, rows, 1, features, starts, columns, x, NULL, y);
}

int mg_segment_softmax(int type, int64_t rows, int64_t width, const int32_t *starts, const int32_t *places, const void *x, void *y) {
    return run(type, SOFTMAX, rows, 1, width, starts, places, x, NULL, y);
}

struct taken {
    int64_t n, bytes;
    const int32_t *index;
    const char *x;
    char *y;
};

static void take(void *arg, int c, int chunks) {
    const struct taken *p = arg;
    const int64_t begin = p->n * c / chunks, end = p->n * (c + 1) / chunks;
    if (p->bytes == 4)
        for (int64_t i = begin; i < end; i++) ((int32_t *)p->y)[i] = ((const int32_t *)p->x)[p->index[i]];
    else
        for (int64_t i = begin; i < end; i++) memcpy(p->y + i * p->bytes, p->x + p->index[i] * p->bytes, (size_t)p->bytes);
}

int mg_take_rows(int64_t n, int64_t bytes, const int32_t *index, const void *x, void *y) {
    if (n < 0 || bytes < 0) return MG_ESIZE;
    struct taken p = {n, bytes, index, x, y};
    const int64_t work = n * (bytes + 16) / (4 * CHUNK) + 1;
    mg_parallel(take, &p, (int)(work < MAX_CHUNKS ? work : MAX_CHUNKS));
    return MG_OK;
}

int mg_group(int64_t n, int64_t bound, const int32_t *keys, int32_t *starts, int32_t *order) {
    if (n < 0 || bound < 0 || n > INT32_MAX || bound >= INT32_MAX) return MG_ESIZE;
    memset(starts, 0, ((size_t)bound + 1) * sizeof *starts);
    for (int64_t i = 0; i < n; i++) {
        if (keys[i] < 0 || keys[i] >= bound) return MG_EARG;
        starts[keys[i] + 1]++;
    }
    for (int64_t b = 0; b < bound; b++) starts[b + 1] += starts[b];
    for (int64_t i = 0; i < n; i++) order[starts[keys[i]]++] = (int32_t)i;   /* each becomes the end of its group */
    for (int64_t b = bound; b > 0; b--) starts[b] = starts[b - 1];
    starts[0] = 0;
    return MG_OK;
}
