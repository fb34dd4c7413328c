/* General matrix multiplication: C = act(alpha * A B + beta * C + bias), the loops above the microkernel.
 *
 * Contract.   See struct mg_gemm in minigrad.h. Every element of C is a sum in the order of k, cut into blocks of kc
 *             that depend on k alone (one row of C, and narrow outputs, go other ways, chosen by shape and strides).
 *             So the bits of a result depend on shapes, strides and the table, never on the number of threads.
 * Source.     Goto & van de Geijn 2008; Van Zee & van de Geijn 2015 (BLIS).
 * Blocking.   for a block of kc steps                         (sums stay in C between blocks)
 *               for a block of nc columns                      B[kc, nc] is packed once, for L2 and L3
 *                 for mr rows: A[mr, kc] stays in L1
 *                   for a panel of nr columns: one tile         (tile.h)
 *             B is packed by the first row of tiles, as it computes: packing has no pass of its own. Rows are split
 *             evenly: 32 rows on mr = 14 are 11 + 11 + 10, not 14 + 14 + 4. A is packed only where its strides are bad
 *             for the cache, see find_sliver(). A block of several tiles of A for L2, as in BLIS, was 2 to 10 % slower
 *             from 1024 on, and no faster below. On a Zen 5 with 1 MB of L2, kc of 256 or 384 and nc of 256 to 2048
 *             gained nothing over 512 and 1024, nor did fetching C or B ahead in the tile.
 * No packing. A panel that only one tile reads is not packed, nor is A when its rows are near each other: that is the
 *             path of small matrices. One row of C takes wide tiles or dot products, see vector().
 * Then.       What else is to be done to a C that nobody wants itself is done to a few rows and columns at a time, right after
 *             their last tile: a block in L1 is all that is ever made of it. See gemm.h.
 * Packed B.   A caller may have B packed once, by blocks and panels as above, see mg_gemm_pack_b(); then nothing of it is
 *             packed here, and one row of C reads four panels side by side.
 * Threads.    C is cut into chunks of rows or of columns (never k); each thread packs for itself; no barrier. */
#include "gemm.h"

#include "isa.h"
#include "pool.h"
#include "scratch.h"

#include <stdatomic.h>
#include <string.h>

enum {
    PACK_A_PANELS = 3,          /* pack A when more panels than this read it, and its rows, or its steps if it is */
    PACK_A_ROWS = 4096,         /* k-major, are at least so many bytes apart: they fall into few sets of L1, and from */
    PACK_A_STEPS = 2048,        /* a page on, each needs a TLB entry of its own */
    PACK_A_GROUP = 8,           /* tiles whose k-major slivers are packed together, to read whole cache lines */
    THEN_COLUMNS = 128,         /* so many columns of a block that is worked on in L1, with other arrays of its size */
    STRIP_BYTES = 32 * 32 * 8,  /* nr * nr elements of any table */
    PARALLEL_FLOPS = 1000000,   /* below this, waking another thread costs more than it saves */
    LARGE_FLOPS = 1000000000,   /* from here on, a chunk per thread: packing again for each more costs 2 % */
    CHUNKS_PER_THREAD = 2,      /* in between, so that a thread that is held up can be helped */
    CHUNK_PANELS = 2            /* panels of columns that make a chunk worth its packing of A */
};

/* One product with its operands at hand; strides in elements as in struct mg_gemm, C has csc == 1. */
struct product {
    const struct mg_gemm_kernels *kernels;
    int64_t m, n, k;
    const char *a, *b, *bias;
    char *c;
    int64_t rsa, csa, rsb, csb, rsc;
    double alpha, beta;
    int act, packed;        /* packed: b is laid out by mg_gemm_pack_b */
    const struct mg_then *then;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Where part `i` of `parts` nearly equal ones begins, in [0, n]; multiples of `unit` except the end. */
static int64_t cut(int64_t n, int64_t unit, int64_t i, int64_t parts) {
    return least(n, ceil_div(n, unit) * i / parts * unit);
}

/* Copy by elements, for strides that no fast path knows: dst[i * rsd + j] = src[i * rss + j * css]. */
static void gather(int size, int64_t m, int64_t n, const char *src, int64_t rss, int64_t css, char *dst, int64_t rsd) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            if (size == 4) ((float *)dst)[i * rsd + j] = ((const float *)src)[i * rss + j * css];
            else ((double *)dst)[i * rsd + j] = ((const double *)src)[i * rss + j * css];
        }
}

/* --- a B that is packed for many products ------------------------------------------------------------------------ */

/* Before the blocks of kc steps stands this, which has to fit the product that uses them. */
struct packed {
    char table[24];
    int64_t type, k, n;
};
_Static_assert(sizeof(struct packed) <= MG_LINE, "the blocks begin at the next cache line");

static struct packed label(int type, int64_t k, int64_t n) {
    struct packed p = {.type = type, .k = k, .n = n};
    strncpy(p.table, mg_table()->name, sizeof p.table - 1);
    return p;
}

static int64_t count_k_blocks(const struct mg_gemm_kernels *kn, int64_t k) { return k > kn->kc ? ceil_div(k, kn->kc) : 1; }

int64_t mg_gemm_pack_bytes(int type, int64_t k, int64_t n) {
    if ((type != MG_F32 && type != MG_F64) || k < 0 || n < 0) return 0;
    const struct mg_gemm_kernels *kn = &mg_table()->gemm[type];
    int64_t bytes;
    if (n > INT64_MAX - kn->nr || __builtin_mul_overflow(ceil_div(n, kn->nr) * kn->nr, k, &bytes) ||
        __builtin_mul_overflow(bytes, kn->size, &bytes) || bytes > PTRDIFF_MAX - MG_LINE)
        return 0;
    return bytes + MG_LINE;
}

struct packing {
    const struct mg_gemm_kernels *kernels;
    int64_t k, n;
    const char *b;
    int64_t rsb, csb;
    char *to;
};

static void pack_panels(void *arg, int c, int chunks) {
    const struct packing *w = arg;
    const struct mg_gemm_kernels *kn = w->kernels;
    const int size = kn->size;
    const int64_t panels = ceil_div(w->n, kn->nr), k_blocks = count_k_blocks(kn, w->k);
    for (int64_t kb = 0, p = 0, kc; kb < k_blocks; kb++, p += kc) {
        kc = ceil_div(w->k - p, k_blocks - kb);
        for (int64_t i = cut(panels, 1, c, chunks); i < cut(panels, 1, c + 1, chunks); i++) {
            const int64_t j = i * kn->nr, columns = least(kn->nr, w->n - j);
            const char *from = w->b + (p * w->rsb + j * w->csb) * size;
            char *to = w->to + (p * panels * kn->nr + j * kc) * size;
            if (columns < kn->nr) memset(to, 0, (size_t)(kc * kn->nr * size));
            if (w->rsb == 1) kn->transpose(kc, columns, from, w->csb, to, kn->nr);
            else gather(size, kc, columns, from, w->rsb, w->csb, to, kn->nr);
        }
    }
}

int mg_gemm_pack_b(int type, int64_t k, int64_t n, const void *b, int64_t rsb, int64_t csb, void *packed) {
    if (type != MG_F32 && type != MG_F64) return MG_EARG;
    if (mg_gemm_pack_bytes(type, k, n) == 0) return MG_ESIZE;
    struct packing w = {.kernels = &mg_table()->gemm[type], .k = k, .n = n, .b = b, .rsb = rsb, .csb = csb,
                        .to = (char *)packed + MG_LINE};
    const struct packed head = label(type, k, n);
    memset(packed, 0, MG_LINE);
    memcpy(packed, &head, sizeof head);
    const int64_t panels = ceil_div(n, w.kernels->nr);
    const double elements = (double)k * (double)n;
    mg_parallel(pack_panels, &w, elements < PARALLEL_FLOPS ? 1 : (int)least(mg_num_threads(), panels));
    return MG_OK;
}

/* --- rows m0 .. m1, columns n0 .. n1 of C ---------------------------------------------------------------------- */

/* Row stride of a packed sliver of A: whole cache lines, and an odd number of them, so that the rows that a tile
 * reads side by side fall into different sets of the cache. */
static int64_t packed_stride(int64_t kc, int size) {
    return (int64_t)((mg_round_up((size_t)(kc * size), MG_LINE) / MG_LINE) | 1) * MG_LINE / size;
}

/* Elements of the room of a sliver of A, packed either way, with the excess of its last row. */
static int64_t packed_panel(const struct mg_gemm_kernels *kn, int64_t kc) {
    return kn->mr * packed_stride(kc, kn->size) + MG_LINE / kn->size;
}

/* The rows [first, end) of C, cut evenly into `tiles`, of which the first `more` have one more than the others. */
struct rows {
    int64_t first, each, more, tiles;
};
static struct rows cut_rows(const struct mg_gemm_kernels *kn, int64_t first, int64_t end) {
    const int64_t rows = end - first, tiles = rows <= kn->mr ? 1 : ceil_div(rows, kn->mr);   /* a division takes as long as */
    if (tiles == 1) return (struct rows){first, rows, 0, 1};                               /* ten multiply-adds */
    return (struct rows){first, rows / tiles, rows % tiles, tiles};
}
static int64_t tile_row(const struct rows *r, int64_t tile) { return r->first + tile * r->each + least(tile, r->more); }

/* The sliver of A that a row of tiles reads, steps p .. p + kc: where it lies, or copied to `room`. */
static void find_sliver(const struct product *g, const struct rows *cut, int64_t tile, int64_t p, int64_t kc, int reread,
                        char *room, struct mg_tile *t) {
    const int size = g->kernels->size;
    const int64_t i = tile_row(cut, tile), rows = tile_row(cut, tile + 1) - i;
    const char *a = g->a + (i * g->rsa + p * g->csa) * size;
    t->a = a;
    t->rsa = g->rsa;
    t->csa = g->csa;
    if (g->csa == 1 && reread && g->rsa * size >= PACK_A_ROWS) {
        t->a = room;
        t->rsa = packed_stride(kc, size);
        for (int64_t r = 0; r < rows; r++)
            memcpy(room + r * t->rsa * size, a + r * g->rsa * size, (size_t)(kc * size));
    } else if (g->csa != 1 && g->rsa == 1 && reread && g->csa * size >= PACK_A_STEPS) {
        const int64_t first = tile - tile % PACK_A_GROUP, panels = least(cut->tiles - first, PACK_A_GROUP);
        if (tile == first)
            g->kernels->copy_panels(kc, panels, cut->each, least(panels, most(0, cut->more - first)), a, g->csa, room,
                                    packed_panel(g->kernels, kc));
        t->a = room + (tile - first) * packed_panel(g->kernels, kc) * size;
        t->csa = rows;
    } else if (g->csa != 1 && g->rsa != 1 && reread) {
        t->a = room;
        t->rsa = packed_stride(kc, size);
        t->csa = 1;
        gather(size, rows, kc, a, g->rsa, g->csa, room, t->rsa);
    }
}

/* The panel of B that a tile reads: steps p .. p + kc, columns j .. j + columns, either where it lies or, if its
 * rows are not contiguous, copied to `room`. Returns where it is and sets the distance of its rows. */
static const char *find_panel(const struct product *g, int64_t p, int64_t kc, int64_t j, int64_t columns, char *room,
                              int64_t *rsb) {
    const struct mg_gemm_kernels *kn = g->kernels;
    const char *b = g->b + (p * g->rsb + j * g->csb) * kn->size;
    *rsb = g->csb == 1 ? g->rsb : kn->nr;
    if (g->csb == 1) return b;
    if (g->rsb == 1) kn->transpose(kc, columns, b, g->csb, room, kn->nr);
    else gather(kn->size, kc, columns, b, g->rsb, g->csb, room, kn->nr);
    return room;
}

/* The same where B is packed. */
static const char *packed_panel_of(const struct product *g, int64_t p, int64_t kc, int64_t j) {
    const struct mg_gemm_kernels *kn = g->kernels;
    return g->b + (p * ceil_div(g->n, kn->nr) * kn->nr + j * kc) * kn->size;
}

static int part(const struct product *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    const struct mg_gemm_kernels *kn = g->kernels;
    const int size = kn->size, nr = kn->nr;
    const struct rows cut_m = cut_rows(kn, m0, m1);
    const int64_t k_blocks = count_k_blocks(kn, g->k), kc_most = k_blocks == 1 ? g->k : ceil_div(g->k, k_blocks);
    const int64_t n_blocks = n1 - n0 <= kn->nc ? 1 : ceil_div(n1 - n0, kn->nc), nc_most = least(n1 - n0 + nr - 1, kn->nc);

    const size_t b_bytes = g->packed ? 0 : mg_round_up((size_t)(kc_most * nc_most * size), MG_LINE);
    const size_t a_bytes = (size_t)(PACK_A_GROUP * packed_panel(kn, kc_most) * size);
    const int64_t then_most = least(nc_most, ceil_div(THEN_COLUMNS, nr) * nr);
    const size_t c_bytes = g->then ? (size_t)(kn->mr * then_most * size) : 0;
    char *b_room = mg_scratch(b_bytes + a_bytes + c_bytes);
    if (b_room == NULL) return MG_ENOMEM;
    char *a_room = b_room + b_bytes, *c_room = a_room + a_bytes;

    for (int64_t kb = 0, p = 0, kc; kb < k_blocks; kb++, p += kc) {
        const int last = kb == k_blocks - 1;
        kc = last ? g->k - p : ceil_div(g->k - p, k_blocks - kb);
        struct mg_tile t = {
            .k = kc, .rsc = g->rsc, .alpha = g->alpha, .beta = kb == 0 ? g->beta : 1, .act = last ? g->act : MG_LINEAR};

        for (int64_t nb = 0, j0 = n0, j1; nb < n_blocks; nb++, j0 = j1) {
            j1 = nb == n_blocks - 1 ? n1 : n0 + cut(n1 - n0, nr, nb + 1, n_blocks);
            const int reread = j1 - j0 > PACK_A_PANELS * nr;

            for (int64_t tile = 0; tile < cut_m.tiles; tile++) {
                const int64_t i = tile_row(&cut_m, tile), rows = tile_row(&cut_m, tile + 1) - i;
                int64_t then0 = j0, then1 = j0;   /* columns of the block in c_room */
                find_sliver(g, &cut_m, tile, p, kc, reread, a_room, &t);

                for (int64_t j = j0; j < j1; j += nr) {
                    const int64_t columns = least(nr, j1 - j), vectors = columns == nr ? kn->nv : ceil_div(columns, kn->vl);
                    char *panel = b_room + (j - j0) * kc * size;
                    int variant = 0;
                    t.b = g->packed ? packed_panel_of(g, p, kc, j) : panel;
                    t.rsb = nr;
                    if (tile == 0 && !g->packed) {
                        t.b = find_panel(g, p, kc, j, columns, panel, &t.rsb);
                        if (t.b != panel && cut_m.tiles > 1) variant += MG_TILE_PACK;
                    }
                    t.pack = panel;
                    t.tail = columns == nr ? 0 : (int)(columns % kn->vl);
                    if (t.tail) variant += MG_TILE_TAIL;
                    t.bias = last && g->bias ? g->bias + j * size : NULL;
                    if (g->then && j == then1) {
                        then0 = j, then1 = least(j1, j + then_most);
                        t.rsc = then1 - then0;
                    }
                    t.c = g->then ? c_room + (j - then0) * size : g->c + (i * g->rsc + j) * size;
                    kn->tile[((rows - 1) * kn->nv + vectors - 1) * MG_TILE_VARIANTS + variant](&t);
                    if (g->then && j + columns == then1)
                        g->then->run(g->then->arg, i * g->n + then0, rows, then1 - then0, c_room);
                }
            }
        }
    }
    return MG_OK;
}

/* One row of C, columns n0 .. n1, of kc steps: `wide` vectors at once where there are so many. */
static void strips(const struct product *g, const struct mg_tile *steps, const char *b, int64_t n0, int64_t n1,
                   const char *bias) {
    const struct mg_gemm_kernels *kn = g->kernels;
    const int size = kn->size;
    struct mg_tile t = *steps;
    for (int64_t j = n0, columns; j < n1; j += columns) {
        const int wide = n1 - j >= kn->wide * kn->vl;
        columns = wide ? kn->wide * kn->vl : least(kn->nr, n1 - j);
        t.b = g->packed ? b + j * t.k * size : b + j * size;
        t.c = g->c + j * size;
        t.bias = bias ? bias + j * size : NULL;
        t.tail = (int)(columns % kn->vl);
        if (wide) kn->wide_tile(&t);
        else kn->tile[(ceil_div(columns, kn->vl) - 1) * MG_TILE_VARIANTS + (t.tail ? MG_TILE_TAIL : 0)](&t);
    }
}

/* One row of C, columns n0 .. n1: memory-bound, nothing is packed. */
static int vector(const struct product *g, int64_t n0, int64_t n1) {
    const struct mg_gemm_kernels *kn = g->kernels;
    const int size = kn->size;
    struct mg_tile t = {.k = g->k, .csa = g->csa, .rsc = g->rsc, .alpha = g->alpha, .beta = g->beta, .act = g->act};

    if (g->packed) {   /* block by block */
        const int64_t k_blocks = count_k_blocks(kn, g->k);
        t.rsb = kn->nr;
        for (int64_t kb = 0, p = 0; kb < k_blocks; kb++, p += t.k) {
            const int last = kb == k_blocks - 1;
            t.k = ceil_div(g->k - p, k_blocks - kb);
            t.panel = t.k * kn->nr;
            t.a = g->a + p * g->csa * size;
            t.beta = kb == 0 ? g->beta : 1;
            t.act = last ? g->act : MG_LINEAR;
            strips(g, &t, packed_panel_of(g, p, t.k, 0), n0, n1, last ? g->bias : NULL);
        }
        return MG_OK;
    }
    if (g->rsb == 1) {   /* columns of B are contiguous: dot products */
        const char *x = g->a;
        if (g->csa != 1 && g->k > 1) {
            char *room = mg_scratch((size_t)(g->k * size));
            if (room == NULL) return MG_ENOMEM;
            gather(size, 1, g->k, g->a, 0, g->csa, room, 0);
            x = room;
        }
        t.a = g->b + n0 * g->csb * size;
        t.rsa = g->csb;
        t.b = x;
        t.c = g->c + n0 * size;
        t.bias = g->bias ? g->bias + n0 * size : NULL;
        kn->rows_dot(n1 - n0, &t);
        return MG_OK;
    }
    if (g->csb != 1) return part(g, 0, 1, n0, n1);
    t.a = g->a;   /* rows of B are contiguous */
    t.rsb = g->rsb;
    t.panel = kn->nr;
    strips(g, &t, g->b, n0, n1, g->bias);
    return MG_OK;
}

/* Few columns that do not fill their vectors, and A k-major: rows m0 .. m1 of C as columns of C' = B' A', whose
 * vectors are full. A strip of C' is transposed into place. */
static void narrow(const struct product *g, int64_t m0, int64_t m1) {
    const struct mg_gemm_kernels *kn = g->kernels;
    const int size = kn->size;
    _Alignas(MG_LINE) char strip[STRIP_BYTES];
    struct mg_tile t = {.k = g->k, .rsa = g->csb, .csa = g->rsb, .rsb = g->csa, .rsc = kn->nr, .alpha = g->alpha};
    const struct rows cut_n = cut_rows(kn, 0, g->n);
    for (int64_t i = m0, rows; i < m1; i += rows) {
        rows = least(kn->nr, m1 - i);
        t.b = g->a + i * size;
        t.tail = (int)(rows % kn->vl);
        for (int64_t tile = 0; tile < cut_n.tiles; tile++) {
            const int64_t j = tile_row(&cut_n, tile), columns = tile_row(&cut_n, tile + 1) - j;
            t.a = g->b + j * g->csb * size;
            t.c = strip + j * kn->nr * size;
            kn->tile[((columns - 1) * kn->nv + ceil_div(rows, kn->vl) - 1) * MG_TILE_VARIANTS +
                     (t.tail ? MG_TILE_TAIL : 0)](&t);
        }
        kn->transpose(rows, g->n, strip, kn->nr, g->c + i * g->rsc * size, g->rsc);
    }
}

static int is_narrow(const struct product *g) {
    return !g->packed && g->rsa == 1 && g->csa != 1 && g->csb == 1 && g->n < g->kernels->nr && g->n % g->kernels->vl != 0 &&
           g->m >= g->kernels->vl && g->beta == 0 && g->bias == NULL && g->act == MG_LINEAR;
}

/* The columns after the last whole panel, if a k-major A makes it worth while to compute them as above: rows of C that fill
 * vectors, instead of a vector of a few columns for each row. */
static int64_t narrow_end(const struct product *g) {
    const int64_t end = g->n % g->kernels->nr;
    struct product last = *g;
    last.n = end;
    return end != 0 && end < g->n && end <= g->kernels->vl / 2 && is_narrow(&last) ? end : 0;
}

/* Rows m0 .. m1, the columns from n0 on to the last. */
static int to_the_end(const struct product *g, int64_t m0, int64_t m1, int64_t n0) {
    const int64_t end = narrow_end(g), first = g->n - end;
    if (end > 0) {
        struct product last = *g;
        last.n = end;
        last.b += first * g->csb * g->kernels->size;
        last.c += first * g->kernels->size;
        narrow(&last, m0, m1);
    }
    return n0 < first ? part(g, m0, m1, n0, first) : MG_OK;
}

static int compute(const struct product *g, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    if (g->then) return part(g, m0, m1, n0, n1);
    if (g->m == 1) return vector(g, n0, n1);
    if (n1 - n0 == g->n && is_narrow(g)) return narrow(g, m0, m1), MG_OK;
    if (n1 == g->n) return to_the_end(g, m0, m1, n0);
    return part(g, m0, m1, n0, n1);
}

/* --- batches and threads --------------------------------------------------------------------------------------- */

struct job {
    struct product product;
    const struct mg_gemm *g;
    int64_t batches, parts;   /* parts of each product */
    int by_rows;
    _Atomic int status;
};

static void run(struct job *job, int64_t batch, int64_t piece) {
    struct product p = job->product;
    const struct mg_gemm *g = job->g;
    int64_t a = 0, b = 0, c = 0;
    for (int d = g->batch_rank - 1; d >= 0; d--) {
        const int64_t at = batch % g->batch[d];
        batch /= g->batch[d];
        a += at * g->batch_a[d];
        b += at * g->batch_b[d];
        c += at * g->batch_c[d];
    }
    p.a += a * p.kernels->size;
    p.b += b * p.kernels->size;
    if (p.c) p.c += c * p.kernels->size;

    int64_t m0 = 0, m1 = p.m, n0 = 0, n1 = p.n;
    if (job->by_rows) {
        m0 = cut(p.m, p.kernels->mr, piece, job->parts);
        m1 = cut(p.m, p.kernels->mr, piece + 1, job->parts);
    } else {
        n0 = cut(p.n, p.kernels->nr, piece, job->parts);
        n1 = cut(p.n, p.kernels->nr, piece + 1, job->parts);
    }
    if (m0 == m1 || n0 == n1) return;
    const int status = compute(&p, m0, m1, n0, n1);
    if (status != MG_OK) atomic_store(&job->status, status);
}

static void chunk(void *arg, int c, int chunks) {
    struct job *job = arg;
    const int64_t all = job->batches * job->parts;
    for (int64_t i = cut(all, 1, c, chunks); i < cut(all, 1, c + 1, chunks); i++)
        run(job, i / job->parts, i % job->parts);
}

static int fits(int64_t m, int64_t n, int size) {
    int64_t bytes;
    return m >= 0 && n >= 0 && !__builtin_mul_overflow(m, n, &bytes) &&
           !__builtin_mul_overflow(bytes, 2 * size, &bytes);
}

int mg_gemm(const struct mg_gemm *g) { return mg_gemm_at(g, g->a, g->b, g->c, g->bias, NULL); }

int mg_gemm_at(const struct mg_gemm *given, const void *a, const void *b, void *c, const void *bias, const struct mg_then *then) {
    struct mg_gemm g;
    memcpy(&g, given, given->batch_rank ? sizeof g : offsetof(struct mg_gemm, batch));
    g.packed_b = given->packed_b;
    g.a = a, g.b = b, g.c = c, g.bias = bias;
    if ((g.type != MG_F32 && g.type != MG_F64) || (g.act != MG_LINEAR && g.act != MG_RELU)) return MG_EARG;
    if (g.batch_rank < 0 || g.batch_rank > MG_MAX_BATCH_RANK) return MG_EARG;
    struct job job = {.g = &g, .batches = 1};
    const struct mg_gemm_kernels *kn = &mg_table()->gemm[g.type];
    if (!fits(g.m, g.n, kn->size) || !fits(g.m, g.k, kn->size) || !fits(g.k, g.n, kn->size)) return MG_ESIZE;

    /* A batch that shares B and continues A and C is one tall product. */
    while (g.batch_rank > 0) {
        const int d = g.batch_rank - 1;
        int64_t rows;
        if (g.batch_b[d] != 0 || g.batch_a[d] != g.m * g.rsa || g.batch_c[d] != g.m * g.rsc || g.csc != 1) break;
        if (__builtin_mul_overflow(g.m, g.batch[d], &rows) || !fits(rows, g.n, kn->size)) return MG_ESIZE;
        g.m = rows;
        g.batch_rank--;
    }
    for (int d = 0; d < g.batch_rank; d++)
        if (g.batch[d] < 0 || __builtin_mul_overflow(job.batches, g.batch[d], &job.batches)) return MG_ESIZE;
    if (g.packed_b) {
        const struct packed head = label(g.type, g.k, g.n);
        if (g.b == NULL || memcmp(&head, g.b, sizeof head) != 0 || g.csc != 1) return MG_EARG;
        for (int d = 0; d < g.batch_rank; d++)
            if (g.batch_b[d] != 0) return MG_EARG;
        g.b = (const char *)g.b + MG_LINE;
        g.rsb = kn->nr, g.csb = 1;   /* as the panels have it; what follows looks at the strides */
    }
    if (then) {
        if (g.batch_rank > 0 || g.beta != 0 || count_k_blocks(kn, g.k) > 1) return MG_EARG;
        g.c = NULL, g.rsc = g.n, g.csc = 1;
    }
    if (g.m == 0 || g.n == 0 || job.batches == 0) return MG_OK;

    /* Rows of C must be contiguous. If it is the columns that are, compute C' = B' A'. So too for a single column,
     * which then takes the fast path of a single row. */
    if ((g.csc != 1 && g.n > 1) || (g.n == 1 && g.m > 1 && g.rsc == 1 && g.bias == NULL && !g.packed_b && !then)) {
        if ((g.rsc != 1 && g.m > 1) || g.bias != NULL) return MG_EARG;
        const struct mg_gemm s = g;
        g.m = s.n, g.a = s.b, g.rsa = s.csb, g.csa = s.rsb, g.rsc = s.csc;
        g.n = s.m, g.b = s.a, g.rsb = s.csa, g.csb = s.rsa, g.csc = s.rsc;
        for (int d = 0; d < g.batch_rank; d++) g.batch_a[d] = s.batch_b[d], g.batch_b[d] = s.batch_a[d];
    }
    if (g.n == 1 && g.rsb != 1) g.csb = 1;   /* strides along a dimension of one element mean nothing: */
    if (g.k <= 1 && g.csb != 1) g.rsb = 1;   /* choose those that have a fast path */

    job.product = (struct product){
        .kernels = kn, .m = g.m, .n = g.n, .k = g.k, .a = g.a, .b = g.b, .bias = g.bias, .c = g.c, .rsa = g.rsa,
        .csa = g.csa, .rsb = g.rsb, .csb = g.csb, .rsc = g.rsc, .alpha = g.alpha, .beta = g.beta, .act = g.act, .packed = g.packed_b,
        .then = then};

    const double flops = 2.0 * (double)g.m * (double)g.n * (double)g.k * (double)job.batches;
    const int threads = flops < PARALLEL_FLOPS ? 1 : mg_num_threads();
    if (threads == 1 && job.batches == 1 && g.batch_rank == 0) return compute(&job.product, 0, g.m, 0, g.n);
    const int spare = flops >= 5.0 * PARALLEL_FLOPS && flops < LARGE_FLOPS;
    const int64_t chunks = threads == 1 ? 1 : spare ? CHUNKS_PER_THREAD * threads : threads;
    /* Each chunk packs for itself. Cut so that what is costly to pack is packed once: a k-major A by rows, B otherwise. */
    const int wide_enough = g.n >= chunks * CHUNK_PANELS * kn->nr;
    job.by_rows = g.rsa == 1 && g.csa != 1 ? g.m >= g.n : g.m >= g.n && !wide_enough;
    job.parts = 1;
    if (job.batches < chunks) {
        const int64_t tiles = job.by_rows ? ceil_div(g.m, kn->mr) : ceil_div(g.n, kn->nr);
        job.parts = least(ceil_div(chunks, job.batches), tiles);
    }
    mg_parallel(chunk, &job, (int)least(chunks, job.batches * job.parts));
    return job.status;
}

int mg_matmul(int type, int64_t m, int64_t n, int64_t k, const void *a, int64_t rsa, int64_t csa, const void *b,
              int64_t rsb, int64_t csb, void *c) {
    const struct mg_gemm g = {.type = type, .m = m, .n = n, .k = k, .a = a, .rsa = rsa, .csa = csa, .b = b, .rsb = rsb,
                              .csb = csb, .c = c, .rsc = n, .csc = 1, .alpha = 1};
    return mg_gemm(&g);
}
