/* Winograd convolution F(4x4, 3x3), and F(3x3, 4x4) for the weights: the loops around the transforms of transform.h and the tiles of gemm/tile.h.
 *
 * Idea.       A tile of 4 x 4 outputs comes from 6 x 6 inputs. Transformed, each of the 36 elements is a product of its own,
 *                 M[e] (tiles x out channels) = V[e] (tiles x channels) * U[e] (channels x out channels)
 *             with a quarter of the multiplications of the direct sum. The transforms cost as much as tens of channels do,
 *             hence this path is for many channels.
 * Blocking.   for a run of tiles: rows of tiles of an image, or several small images           the task of a thread
 *               for a vector of channels: turn the image so that channels are innermost, transform to V
 *               for 36 elements, for a panel of output channels: tiles of the product              U[panel] in L1, V in L2
 *               for a vector of output channels: transform back, turn, store
 * Error.      The transforms cancel. At the worst |result - exact| <= 2304 (channels + 20) u * max |x| * max |w|, u = 2^-24 or
 *             2^-53 (2304 = 48^2, the largest row of |A'| |G| |B'| in one dimension, squared). On normal numbers the error
 *             is about ten times that of the direct sum: below 1.5e-5 of the largest output in float32, for the gradient of
 *             the weights too, whose error stays below 64 u sqrt(n) max |x| max |g|, n the places of the batch. A result
 *             that is not finite is reported, not returned.
 * Left out.   F(2x2, 3x3): 2.25 times fewer multiplications, but its transforms eat the gain. */
#include "winograd.h"
#include "room.h"

#include <string.h>

enum {
    ELEMENTS = 36, TILES = 32, STEPS = 384,
    CHUNK = 64, LONG_CHUNK = 128,            /* weight gradient: tiles of a chunk, */
    SMALL_SUMS = 64 * 64                     /* the long one if its sums are so few: elements of one of the 36 matrices */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t share(int64_t n, int64_t i, int64_t parts) { return n / parts * i + n % parts * i / parts; }

struct work {
    const struct mg_winograd *p;
    const struct mg_conv_kernels *kernels;
    const struct mg_gemm_kernels *gemm;
    int size, vl;
    int64_t down, across;               /* tiles of an image */
    int64_t rows, images;               /* rows of tiles, images of a task */
    int64_t row_tasks, image_tasks;
    int64_t cs, os;                     /* channels, output channels, rounded up to vectors */
    int64_t v_apart, m_apart, u_apart;  /* elements between the 36 matrices */
    int64_t in_width, out_width;        /* pixels in a row of the turned images */
    size_t in_bytes, out_bytes, v_bytes, m_bytes;
    const char *u;                      /* [group][36][panel][channel][nr] */
    char *to;                           /* u, while it is made */
    struct mg_room room;
    _Atomic int status;
};

static void transform_weights(void *arg, int chunk, int chunks) {
    struct work *k = arg;
    const struct mg_winograd *p = k->p;
    const int64_t blocks = ceil_div(p->out_channels, k->vl), all = p->groups * blocks, nr = 2 * k->vl;
    char room[9 * 64] __attribute__((aligned(64)));
    for (int64_t i = share(all, chunk, chunks); i < share(all, chunk + 1, chunks); i++) {
        const int64_t g = i / blocks, o = i % blocks * k->vl, panel = o / nr;
        const int64_t wide = least(nr, k->os - panel * nr);
        const char *w = (const char *)p->w + (g * p->wg + o * p->wo) * k->size;
        char *u = k->to + (g * ELEMENTS * k->u_apart + panel * nr * p->channels + o % nr) * k->size;
        memset(room, 0, sizeof room);   /* lanes without a channel: what they give must be finite, see winograd_out */
        for (int64_t c = 0; c < p->channels; c++) {
            k->gemm->transpose(9, least(k->vl, p->out_channels - o), w + c * p->wc * k->size, p->wo, room, k->vl);
            k->kernels->winograd_weights(room, p->turned, u + c * wide * k->size, k->u_apart);
        }
    }
}

/* The image n of VL channels from c0 on, turned: `in` is (rows, width) pixels, of which (0, 0) is (y0, x0) of the image. Columns
 * outside of it are zero already. */
static void turn(const struct work *k, const char *plane0, int64_t plane, int64_t height, int64_t width, int64_t count, int64_t y0,
                 int64_t x0, int64_t rows, int64_t across, char *in) {
    const int64_t line = across * k->vl * k->size;
    const int64_t left = most(0, -x0), columns = most(0, least(width, x0 + across) - most(0, x0));
    const int64_t top = columns ? least(rows, most(0, -y0)) : rows, seen = most(0, least(height, y0 + rows) - (y0 + top));
    if (top) memset(in, 0, (size_t)(top * line));
    if (top + seen < rows) memset(in + (top + seen) * line, 0, (size_t)((rows - top - seen) * line));
    const char *s = plane0 + ((y0 + top) * width + most(0, x0)) * k->size;
    char *d = in + top * line + left * k->vl * k->size;
    const int lanes = (int)least(k->vl, count);
    if (seen == 0) return;
    if (columns == width) k->kernels->turn_in(seen, columns, lanes, s, plane, d, across);
    else
        for (int64_t i = 0; i < seen; i++) k->kernels->turn_in(1, columns, lanes, s + i * width * k->size, plane, d + i * line, across);
}

/* Channels c0 .. of image n, rows of tiles from r0 on, transformed into V from tile t0 on. */
static void image_to_v(const struct work *k, int64_t n, int64_t g, int64_t c0, int64_t r0, int64_t rows, char *in, char *v) {
    const struct mg_winograd *p = k->p;
    const int64_t plane = p->height * p->width;
    turn(k, (const char *)p->x + ((n * p->groups + g) * p->channels + c0) * plane * k->size, plane, p->height, p->width,
         p->channels - c0, 4 * r0 - p->top, -p->left, 4 * rows + 2, k->in_width, in);
    for (int64_t r = 0; r < rows; r++)
        k->kernels->winograd_in(k->across, in + 4 * r * k->in_width * k->vl * k->size, k->in_width,
                                v + (r * k->across * k->cs + c0) * k->size, k->cs, k->v_apart);
}

static int m_to_image(const struct work *k, int64_t n, int64_t g, int64_t o0, int64_t r0, int64_t rows, const char *m, char *out) {
    const struct mg_winograd *p = k->p;
    const int64_t count = least(k->vl, p->out_channels - o0), plane = p->out_height * p->out_width;
    char *y = (char *)p->y + ((n * p->groups + g) * p->out_channels + o0) * plane * k->size;
    int finite = 1;
    char bias[64] __attribute__((aligned(64))) = {0};
    if (p->bias) memcpy(bias, (const char *)p->bias + (g * p->out_channels + o0) * k->size, (size_t)(count * k->size));
    for (int64_t r = 0; r < rows; r++) {
        const int64_t i = 4 * (r0 + r);
        finite &= k->kernels->winograd_out(k->across, m + (r * k->across * k->os + o0) * k->size, k->os, k->m_apart,
                                           p->bias ? bias : NULL, p->act, out, k->out_width);
        k->kernels->turn_out(least(4, p->out_height - i), p->out_width, (int)count, out, k->out_width, y + i * p->out_width * k->size, plane);
    }
    return finite;
}

static void products(const struct work *k, int64_t g, int64_t tiles, const char *v, char *m) {
    const struct mg_gemm_kernels *kn = k->gemm;
    const int size = k->size;
    const int64_t nr = 2 * k->vl, c = k->p->channels, rows_of = ceil_div(tiles, kn->mr), k_blocks = ceil_div(c, STEPS);
    for (int64_t e = 0; e < ELEMENTS; e++)
        for (int64_t b = 0; b < k_blocks; b++) {
            const int64_t p0 = share(c, b, k_blocks), p1 = share(c, b + 1, k_blocks);
            struct mg_tile t = {.k = p1 - p0, .rsa = k->cs, .csa = 1, .rsc = k->os, .alpha = 1, .beta = b > 0};
            for (int64_t j = 0; j < k->os; j += nr) {
                const int64_t wide = least(nr, k->os - j), nv = wide / k->vl;
                t.rsb = wide;
                t.b = k->u + ((g * ELEMENTS + e) * k->u_apart + j * c + p0 * wide) * size;
                for (int64_t i = 0, t0 = 0, t1; i < rows_of; i++, t0 = t1) {
                    t1 = share(tiles, i + 1, rows_of);
                    t.a = v + (e * k->v_apart + t0 * k->cs + p0) * size;
                    t.c = m + (e * k->m_apart + t0 * k->os + j) * size;
                    kn->tile[((t1 - t0 - 1) * kn->nv + nv - 1) * MG_TILE_VARIANTS](&t);
                }
            }
        }
}

static void run(void *arg, int chunk, int chunks) {
    struct work *k = arg;
    const struct mg_winograd *p = k->p;
    char *in = mg_room_of(&k->room, chunk);
    (void)chunks;
    char *out = in + k->in_bytes, *v = out + k->out_bytes, *m = v + k->v_bytes;
    memset(in, 0, k->in_bytes);   /* its borders stay zero */
    struct mg_share mine = {0, 0};
    for (int64_t u; mg_room_take(&k->room, &mine, &u);) {
        if (atomic_load_explicit(&k->status, memory_order_relaxed) != MG_OK) return;
        const int64_t r0 = u % k->row_tasks * k->rows, rows = least(k->rows, k->down - r0);
        const int64_t n0 = u / k->row_tasks % k->image_tasks * k->images, n1 = least(n0 + k->images, p->images);
        const int64_t g = u / k->row_tasks / k->image_tasks, tiles = rows * k->across;
        for (int64_t n = n0; n < n1; n++)
            for (int64_t c = 0; c < p->channels; c += k->vl)
                image_to_v(k, n, g, c, r0, rows, in, v + (n - n0) * tiles * k->cs * k->size);
        products(k, g, (n1 - n0) * tiles, v, m);
        int finite = 1;
        for (int64_t n = n0; n < n1; n++)
            for (int64_t o = 0; o < p->out_channels; o += k->vl)
                finite &= m_to_image(k, n, g, o, r0, rows, m + (n - n0) * tiles * k->os * k->size, out);
        if (!finite) atomic_store(&k->status, MG_NOT_FINITE);
    }
}

/* What does not depend on the images; 0 if u would be too large. */
static size_t lay_out_weights(struct work *k, const struct mg_winograd *p) {
    const struct mg_isa *isa = mg_table();
    size_t bytes;
    *k = (struct work){.p = p, .kernels = &isa->conv[p->type], .gemm = &isa->gemm[p->type], .size = isa->gemm[p->type].size,
                       .vl = isa->gemm[p->type].vl};
    k->cs = ceil_div(p->channels, k->vl) * k->vl;
    k->os = ceil_div(p->out_channels, k->vl) * k->vl;
    /* An odd number of vectors between the 36 matrices: the 36 stores of a tile fall into different sets of the cache. */
    k->u_apart = (p->channels * k->os / k->vl | 1) * k->vl;
    return __builtin_mul_overflow((size_t)(k->u_apart * k->size * ELEMENTS), (size_t)p->groups, &bytes) ? 0 : bytes;
}

static void make_weights(struct work *k, char *u) {
    k->u = k->to = u;
    mg_parallel(transform_weights, k, (int)least(k->p->groups * ceil_div(k->p->out_channels, k->vl), mg_num_threads()));
}

size_t mg_winograd_weights_bytes(const struct mg_winograd *p) {
    struct work k;
    return lay_out_weights(&k, p);
}

void mg_winograd_weights(const struct mg_winograd *p, void *u) {
    struct work k;
    lay_out_weights(&k, p);
    make_weights(&k, u);
}

int mg_winograd(const struct mg_winograd *p, size_t *need) {
    struct work k;
    const size_t u_bytes = lay_out_weights(&k, p);
    if (u_bytes == 0) return MG_ESIZE;
    k.down = ceil_div(p->out_height, 4);
    k.across = ceil_div(p->out_width, 4);
    k.rows = most(1, least(k.down, TILES / k.across));
    k.rows = ceil_div(k.down, ceil_div(k.down, k.rows));
    k.images = k.rows == k.down ? most(1, least(p->images, TILES / (k.down * k.across))) : 1;
    k.row_tasks = ceil_div(k.down, k.rows);
    k.image_tasks = ceil_div(p->images, k.images);
    k.in_width = 4 * k.across + 2;
    k.out_width = 4 * k.across;
    const int64_t tiles = k.images * k.rows * k.across;
    k.v_apart = (tiles * k.cs / k.vl | 1) * k.vl;
    k.m_apart = (tiles * k.os / k.vl | 1) * k.vl;
    k.in_bytes = mg_round_up((size_t)((4 * k.rows + 2) * k.in_width * k.vl * k.size), MG_LINE);
    k.out_bytes = mg_round_up((size_t)(4 * k.out_width * k.vl * k.size), MG_LINE);
    k.v_bytes = (size_t)(ELEMENTS * k.v_apart * k.size);
    k.m_bytes = (size_t)(ELEMENTS * k.m_apart * k.size);
    k.room.own_bytes = mg_round_up(k.in_bytes + k.out_bytes + k.v_bytes + k.m_bytes, MG_LINE);
    k.room.shared_bytes = p->u ? 0 : mg_round_up(u_bytes, MG_LINE);
    const int threads = mg_num_threads();
    if (need) {
        *need = mg_room_bytes(&k.room, threads);
        return *need ? MG_OK : MG_ESIZE;
    }
    const int status = mg_room_open(&k.room, threads, p->work, p->work_bytes);
    if (status != MG_OK) return status;
    k.u = p->u;
    if (!p->u) make_weights(&k, k.room.shared);
    mg_room_run(&k.room, run, &k, p->groups * k.image_tasks * k.row_tasks);
    return k.status;
}

/* --- weight gradient ---------------------------------------------------------------------------------------------- */

/* The tiles of the batch are summed chunk after chunk; for each,
 *     x and g of its tiles: turned, transformed to V and H                     threads share images and channels
 *     S[e] (out channels x channels) += H[e]' * V[e]                           threads share the 36 elements
 * and at last S is transformed to weights. Every sum runs over the tiles in one order. */
struct weight_work {
    const struct mg_winograd_weight *p;
    const struct mg_conv_kernels *kernels;
    const struct mg_gemm_kernels *gemm;
    int size, vl;
    int64_t across, down, rows;          /* tiles of an image; rows of tiles of a run */
    int64_t runs, run_tiles;             /* runs of an image; tiles of a whole one */
    int64_t chunk_runs;
    int64_t cs, os;                      /* elements from one tile to the next, in V and in H */
    int64_t v_apart, h_apart, s_apart;
    int64_t g, run0, run1;               /* what is done now */
    int64_t x_blocks, blocks;            /* vectors of channels: of x, of both */
    size_t x_bytes;
    char *v, *h, *s;
    struct mg_room room;
    _Atomic int status;
};

static void weight_transform(void *arg, int chunk, int chunks) {
    struct weight_work *k = arg;
    const struct mg_winograd_weight *p = k->p;
    char *in = mg_room_of(&k->room, chunk);
    const int64_t x_width = 4 * k->across + 2, g_width = 4 * k->across;
    const struct work t = {.kernels = k->kernels, .size = k->size, .vl = k->vl};
    (void)chunks;
    struct mg_share mine = {0, 0};
    for (int64_t u; mg_room_take(&k->room, &mine, &u);) {
        const int64_t run = k->run0 + u / k->blocks, block = u % k->blocks, n = run / k->runs, r0 = run % k->runs * k->rows;
        const int64_t rows = least(k->rows, k->down - r0), tile = (run - k->run0) * k->run_tiles;
        const int is_x = block < k->x_blocks;
        const int64_t c0 = (is_x ? block : block - k->x_blocks) * k->vl;
        if (is_x) {
            const int64_t plane = p->height * p->width;
            turn(&t, (const char *)p->x + ((n * p->groups + k->g) * p->channels + c0) * plane * k->size, plane, p->height, p->width,
                 p->channels - c0, 4 * r0 - p->top, -p->left, 4 * rows + 2, x_width, in);
            for (int64_t r = 0; r < rows; r++)
                k->kernels->winograd_in(k->across, in + 4 * r * x_width * k->vl * k->size, x_width,
                                        k->v + ((tile + r * k->across) * k->cs + c0) * k->size, k->cs, k->v_apart);
        } else {
            const int64_t plane = p->out_height * p->out_width;
            char *const at = in + k->x_bytes;
            turn(&t, (const char *)p->g + ((n * p->groups + k->g) * p->out_channels + c0) * plane * k->size, plane, p->out_height,
                 p->out_width, p->out_channels - c0, 4 * r0, 0, 4 * rows, g_width, at);
            for (int64_t r = 0; r < rows; r++)
                k->kernels->winograd_grad_in(k->across, at + 4 * r * g_width * k->vl * k->size, g_width,
                                             k->h + ((tile + r * k->across) * k->os + c0) * k->size, k->os, k->h_apart);
        }
        /* A run that is cut short ends with tiles of nothing. */
        char *const end = is_x ? k->v + ((tile + rows * k->across) * k->cs + c0) * k->size : k->h + ((tile + rows * k->across) * k->os + c0) * k->size;
        for (int64_t i = 0; i < (k->rows - rows) * k->across; i++)
            for (int64_t e = 0; e < ELEMENTS; e++)
                memset(end + (i * (is_x ? k->cs : k->os) + e * (is_x ? k->v_apart : k->h_apart)) * k->size, 0, (size_t)(k->vl * k->size));
    }
}

static void weight_products(void *arg, int chunk, int chunks) {
    struct weight_work *k = arg;
    const struct mg_gemm_kernels *kn = k->gemm;
    const int size = k->size;
    const int64_t o = k->p->out_channels, wide = ceil_div(k->p->channels, k->vl) * k->vl, nr = 2 * k->vl, blocks = ceil_div(o, kn->mr);
    (void)chunk, (void)chunks;
    struct mg_share mine = {0, 0};
    for (int64_t e; mg_room_take(&k->room, &mine, &e);) {
        struct mg_tile t = {.k = (k->run1 - k->run0) * k->run_tiles, .rsa = 1, .csa = k->os, .rsb = k->cs, .rsc = wide, .alpha = 1,
                            .beta = k->run0 > 0};
        for (int64_t j = 0; j < wide; j += nr) {
            const int64_t nv = least(nr, wide - j) / k->vl;
            t.b = k->v + (e * k->v_apart + j) * size;
            for (int64_t i = 0, o0 = 0, o1; i < blocks; i++, o0 = o1) {
                o1 = share(o, i + 1, blocks);
                t.a = k->h + (e * k->h_apart + o0) * size;
                t.c = k->s + (e * k->s_apart + o0 * wide + j) * size;
                kn->tile[((o1 - o0 - 1) * kn->nv + nv - 1) * MG_TILE_VARIANTS](&t);
            }
        }
    }
}

static void weight_back(void *arg, int chunk, int chunks) {
    struct weight_work *k = arg;
    const struct mg_winograd_weight *p = k->p;
    const int64_t wide = ceil_div(p->channels, k->vl) * k->vl;
    char nine[9 * 64] __attribute__((aligned(64)));
    int finite = 1;
    for (int64_t o = share(p->out_channels, chunk, chunks); o < share(p->out_channels, chunk + 1, chunks); o++)
        for (int64_t c = 0; c < p->channels; c += k->vl) {
            finite &= k->kernels->winograd_grad_out(k->s + (o * wide + c) * k->size, k->s_apart, nine);
            k->gemm->transpose(least(k->vl, p->channels - c), 9, nine, k->vl,
                               (char *)p->w + ((k->g * p->out_channels + o) * p->channels + c) * 9 * k->size, 9);
        }
    if (!finite) atomic_store(&k->status, MG_NOT_FINITE);
}

int mg_winograd_weight(const struct mg_winograd_weight *p, size_t *need) {
    const struct mg_isa *isa = mg_table();
    struct weight_work k = {.p = p, .kernels = &isa->conv[p->type], .gemm = &isa->gemm[p->type], .size = isa->gemm[p->type].size,
                            .vl = isa->gemm[p->type].vl};
    k.down = ceil_div(p->out_height, 4);
    k.across = ceil_div(p->out_width, 4);
    k.rows = most(1, least(k.down, TILES / k.across));
    k.rows = ceil_div(k.down, ceil_div(k.down, k.rows));
    k.runs = ceil_div(k.down, k.rows);
    k.run_tiles = k.rows * k.across;
    const int64_t wide = ceil_div(p->channels, k.vl) * k.vl, high = ceil_div(p->out_channels, k.vl) * k.vl;
    k.x_blocks = wide / k.vl;
    k.blocks = k.x_blocks + high / k.vl;
    /* V and H of a chunk should stay in L2, and S as well if it fits. */
    const int64_t all_runs = p->images * k.runs, tiles = wide * high > SMALL_SUMS ? CHUNK : LONG_CHUNK;
    k.chunk_runs = least(all_runs, ceil_div(tiles, k.run_tiles));
    k.chunk_runs = ceil_div(all_runs, ceil_div(all_runs, k.chunk_runs));
    /* An odd number of cache lines from tile to tile and from element to element. */
    k.cs = wide / k.vl % 2 ? wide : wide + k.vl;
    k.os = high / k.vl % 2 ? high : high + k.vl;
    const int64_t in_chunk = k.chunk_runs * k.run_tiles;
    k.v_apart = (in_chunk * k.cs / k.vl | 1) * k.vl;
    k.h_apart = (in_chunk * k.os / k.vl | 1) * k.vl;
    k.s_apart = (p->out_channels * wide / k.vl | 1) * k.vl;

    const size_t v_bytes = (size_t)(ELEMENTS * k.v_apart * k.size), h_bytes = (size_t)(ELEMENTS * k.h_apart * k.size);
    k.x_bytes = mg_round_up((size_t)((4 * k.rows + 2) * (4 * k.across + 2) * k.vl * k.size), MG_LINE);
    k.room.own_bytes = k.x_bytes + mg_round_up((size_t)(16 * k.run_tiles * k.vl * k.size), MG_LINE);
    k.room.shared_bytes = mg_round_up(v_bytes + h_bytes + (size_t)(ELEMENTS * k.s_apart * k.size), MG_LINE);
    const int threads = mg_num_threads();
    if (need) {
        *need = mg_room_bytes(&k.room, threads);
        return *need ? MG_OK : MG_ESIZE;
    }
    const int status = mg_room_open(&k.room, threads, p->work, p->work_bytes);
    if (status != MG_OK) return status;
    k.v = k.room.shared;
    k.h = k.v + v_bytes;
    k.s = k.h + h_bytes;
    for (int i = 0; i < k.room.threads; i++) memset(mg_room_of(&k.room, i), 0, k.room.own_bytes);   /* borders stay zero */
    for (k.g = 0; k.g < p->groups; k.g++) {
        for (k.run0 = 0; k.run0 < all_runs; k.run0 = k.run1) {
            k.run1 = least(all_runs, k.run0 + k.chunk_runs);
            mg_room_run(&k.room, weight_transform, &k, (k.run1 - k.run0) * k.blocks);
            mg_room_run(&k.room, weight_products, &k, ELEMENTS);
        }
        mg_parallel(weight_back, &k, (int)least(p->out_channels, k.room.threads));
    }
    return k.status;
}
