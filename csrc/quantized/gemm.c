/* Integer matrix multiplication, uint8 x int8 with sums in 32 bits: the loops above the microkernel.
 *
 * Contract.   See struct mg_quantized_gemm in minigrad.h. Sums of integers are exact and nothing else is added up, so the bits
 *             of a result depend on nothing but the operands.
 * Source.     Jacob et al. 2018; the loops are those of Goto & van de Geijn 2008, of which little is left:
 *               for a block of columns                        W[k, nc] stays in L2
 *                 for mr rows: A[mr, k] stays in L1, read where it lies
 *                   for a tile of columns                      (tile.h)
 *             k is not cut: for each step of four, a tile reads 4 mr + 128 bytes and multiplies for mr cycles or more, so
 *             that L2 keeps up with it. Nothing is packed at run time: the weights were, and a row of bytes is read four at
 *             a time wherever it lies.
 * Threads.    C is cut into chunks of rows or of columns (never k). */
#include "gemm.h"

#include "../pool.h"

#include <string.h>

enum {
    BLOCK_BYTES = 512 << 10,   /* of W, half of a typical L2 */
    CHUNKS_PER_THREAD = 2,     /* so that a thread that is held up can be helped */
    WIDE_TILES = 4             /* tiles of columns that make a chunk of columns worth reading A again */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* --- packing ------------------------------------------------------------------------------------------------------- */

int64_t mg_quantized_pack_bytes(int64_t k, int64_t n) {
    int64_t bytes;
    if (k < 0 || n < 0 || k > INT64_MAX - 2 * MG_QUAD || n > INT64_MAX - MG_PANEL) return 0;
    if (__builtin_mul_overflow(1 + ceil_div(k, MG_QUAD), MG_PANEL_ROW, &bytes) ||
        __builtin_mul_overflow(ceil_div(n, MG_PANEL), bytes, &bytes))
        return 0;
    return bytes;
}

int mg_quantized_pack(int64_t k, int64_t n, const int8_t *w, int64_t rsw, int64_t csw, int8_t *panels) {
    const int64_t bytes = mg_quantized_pack_bytes(k, n), panel = (1 + ceil_div(k, MG_QUAD)) * MG_PANEL_ROW;
    if (bytes == 0 && n > 0) return MG_ESIZE;
    memset(panels, 0, (size_t)bytes);
    for (int64_t j = 0; j < n; j++) {
        int8_t *to = panels + j / MG_PANEL * panel + j % MG_PANEL * MG_QUAD;
        int32_t sum = 0;
        for (int64_t p = 0; p < k; p++) {
            const int8_t v = w[p * rsw + j * csw];
            to[(1 + p / MG_QUAD) * MG_PANEL_ROW + p % MG_QUAD] = v;
            sum += v;
        }
        memcpy(to, &sum, sizeof sum);
    }
    return MG_OK;
}

/* --- the product --------------------------------------------------------------------------------------------------- */

/* The tile at (i, j) from the first one. */
static void move(struct mg_quantized_tile *t, const struct mg_quantized_tile *first, int64_t i, int64_t j) {
    const int size = t->then.to_float ? (int)sizeof(float) : 1;
    t->a = first->a + i * t->rsa;
    t->b = first->b + j / MG_PANEL * t->panel + j % MG_PANEL * MG_QUAD;
    t->c = (char *)first->c + (i * t->rsc + j) * size;
    t->bias = first->bias ? first->bias + j : NULL;
    t->then.scale = first->then.scale + j;
    t->then.offset = first->then.offset ? first->then.offset + j : NULL;
}

void mg_quantized_block(const struct mg_quantized_kernels *kn, const struct mg_quantized_tile *first, int64_t rows,
                        int64_t columns) {
    struct mg_quantized_tile t = *first;
    if (rows == 1) {
        t.columns = (int)columns;
        kn->row(&t);
        return;
    }
    const int nr = kn->nv * kn->vl;
    const int64_t tiles = ceil_div(rows, kn->mr);
    const int64_t block = most(BLOCK_BYTES / most(t.panel / MG_PANEL, 1) / nr, 1) * nr;
    for (int64_t j0 = 0; j0 < columns; j0 += block)
        for (int64_t tile = 0; tile < tiles; tile++) {   /* rows split evenly: 32 on mr = 14 are 10 + 11 + 11 */
            const int64_t i = rows * tile / tiles, n = rows * (tile + 1) / tiles - i;
            for (int64_t j = j0; j < least(columns, j0 + block); j += nr) {
                move(&t, first, i, j);
                t.columns = (int)least(nr, columns - j);
                kn->tile[(n - 1) * kn->nv + ceil_div(t.columns, kn->vl) - 1](&t);
            }
        }
}

struct job {
    const struct mg_quantized_kernels *kernels;
    struct mg_quantized_tile first;
    int64_t m, n, unit;      /* unit: of rows or columns that are not cut */
    int by_rows;
};

static void chunk(void *arg, int c, int chunks) {
    const struct job *job = arg;
    const int64_t n = job->by_rows ? job->m : job->n, units = ceil_div(n, job->unit);
    const int64_t begin = units * c / chunks * job->unit, end = least(n, units * (c + 1) / chunks * job->unit);
    struct mg_quantized_tile t = job->first;
    if (begin >= end) return;
    move(&t, &job->first, job->by_rows ? begin : 0, job->by_rows ? 0 : begin);
    mg_quantized_block(job->kernels, &t, job->by_rows ? end - begin : job->m, job->by_rows ? job->n : end - begin);
}

int mg_quantized_gemm(const struct mg_quantized_gemm *g) {
    if (g->m < 0 || g->n < 0 || g->k < 0 || mg_quantized_pack_bytes(g->k, g->n) == 0) return g->n == 0 ? MG_OK : MG_ESIZE;
    if (g->n > INT32_MAX) return MG_ESIZE;
    if (g->m == 0 || g->n == 0) return MG_OK;
    const struct mg_quantized_kernels *kn = mg_quantized();
    const int64_t panel = (1 + ceil_div(g->k, MG_QUAD)) * MG_PANEL_ROW;
    struct job job = {.kernels = kn, .m = g->m, .n = g->n, .first = {
        .k = g->k, .a = g->x, .rsa = g->rsx, .b = g->w, .panel = panel, .bias = g->bias, .zero = g->zero, .headers = g->headers,
        .c = g->y, .rsc = g->rsy, .then = g->then}};
    const double operations = 2.0 * (double)g->m * (double)g->n * (double)g->k;
    const int threads = operations < MG_QUANTIZED_PARALLEL ? 1 : mg_num_threads();
    const int64_t chunks = threads == 1 ? 1 : (int64_t)threads * CHUNKS_PER_THREAD;
    const int64_t nr = kn->nv * kn->vl;
    job.by_rows = g->m > kn->mr && (g->m >= g->n || g->n < chunks * WIDE_TILES * nr);
    job.unit = job.by_rows ? kn->mr : most(nr, MG_PANEL);
    mg_parallel(chunk, &job, (int)least(chunks, ceil_div(job.by_rows ? g->m : g->n, job.unit)));
    return MG_OK;
}
