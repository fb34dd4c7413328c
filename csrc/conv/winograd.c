/* Winograd convolution F(4x4, 3x3): the loops around the transforms of transform.h and the tiles of gemm/tile.h.
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
 *             is about ten times that of the direct sum: below 1.5e-5 of the largest output in float32. A result that is
 *             not finite is reported, not returned.
 * Left out.   F(2x2, 3x3): 2.25 times fewer multiplications, but its transforms eat the gain. Weight gradient. */
#include "winograd.h"
#include "room.h"

#include <string.h>

enum { ELEMENTS = 36, TILES = 32, STEPS = 384 };

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
    size_t in_bytes, out_bytes, line_bytes, v_bytes, m_bytes;
    char *u;                            /* [group][36][panel][channel][nr] */
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
        char *u = k->u + (g * ELEMENTS * k->u_apart + panel * nr * p->channels + o % nr) * k->size;
        memset(room, 0, sizeof room);   /* lanes without a channel: what they give must be finite, see winograd_out */
        for (int64_t c = 0; c < p->channels; c++) {
            k->gemm->transpose(9, least(k->vl, p->out_channels - o), w + c * p->wc * k->size, p->wo, room, k->vl);
            k->kernels->winograd_weights(room, p->turned, u + c * wide * k->size, k->u_apart);
        }
    }
}

/* Channels c0 .. of image n, rows of tiles from r0 on, transformed into V from tile t0 on. */
static void image_to_v(const struct work *k, int64_t n, int64_t g, int64_t c0, int64_t r0, int64_t rows, char *in, char *v) {
    const struct mg_winograd *p = k->p;
    const int64_t count = least(k->vl, p->channels - c0), plane = p->height * p->width;
    const char *x = (const char *)p->x + ((n * p->groups + g) * p->channels + c0) * plane * k->size;
    const int64_t from = most(0, -p->left), to = least(p->width, k->in_width - p->left);   /* columns that are seen */
    for (int64_t i = 0; i < 4 * rows + 2; i++) {
        const int64_t y = 4 * r0 + i - p->top;
        char *d = in + i * k->in_width * k->vl * k->size;
        if (y < 0 || y >= p->height || from >= to) memset(d, 0, (size_t)(k->in_width * k->vl * k->size));
        else
            k->gemm->transpose(to - from, count, x + (y * p->width + from) * k->size, plane, d + (from + p->left) * k->vl * k->size, k->vl);
    }
    for (int64_t r = 0; r < rows; r++)
        k->kernels->winograd_in(k->across, in + 4 * r * k->in_width * k->vl * k->size, k->in_width,
                                v + (r * k->across * k->cs + c0) * k->size, k->cs, k->v_apart);
}

static int m_to_image(const struct work *k, int64_t n, int64_t g, int64_t o0, int64_t r0, int64_t rows, const char *m, char *out,
                      char *line) {
    const struct mg_winograd *p = k->p;
    const int64_t count = least(k->vl, p->out_channels - o0), plane = p->out_height * p->out_width;
    char *y = (char *)p->y + ((n * p->groups + g) * p->out_channels + o0) * plane * k->size;
    int finite = 1;
    char bias[64] __attribute__((aligned(64))) = {0};
    if (p->bias) memcpy(bias, (const char *)p->bias + (g * p->out_channels + o0) * k->size, (size_t)(count * k->size));
    for (int64_t r = 0; r < rows; r++) {
        finite &= k->kernels->winograd_out(k->across, m + (r * k->across * k->os + o0) * k->size, k->os, k->m_apart,
                                           p->bias ? bias : NULL, p->act, out, k->out_width);
        for (int64_t i = 0; i < 4 && 4 * (r0 + r) + i < p->out_height; i++) {
            const char *s = out + i * k->out_width * k->vl * k->size;
            char *d = y + (4 * (r0 + r) + i) * p->out_width * k->size;
            if (p->out_width % k->vl == 0) k->gemm->transpose(count, p->out_width, s, k->vl, d, plane);
            else {
                const int64_t long_line = ceil_div(p->out_width, k->vl) * k->vl;
                k->gemm->transpose(count, p->out_width, s, k->vl, line, long_line);
                k->kernels->place_rows(count, p->out_width, line, long_line, d, plane, 1);
            }
        }
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
    const int64_t all = p->groups * k->image_tasks * k->row_tasks;
    char *in = mg_room_of(&k->room, chunk);
    (void)chunks;
    char *out = in + k->in_bytes, *line = out + k->out_bytes, *v = line + k->line_bytes, *m = v + k->v_bytes;
    memset(in, 0, k->in_bytes);   /* its borders stay zero */
    for (int64_t u; (u = mg_room_take(&k->room)) < all;) {
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
                finite &= m_to_image(k, n, g, o, r0, rows, m + (n - n0) * tiles * k->os * k->size, out, line);
        if (!finite) atomic_store(&k->status, MG_NOT_FINITE);
    }
}

int mg_winograd(const struct mg_winograd *p, size_t *need) {
    const struct mg_isa *isa = mg_table();
    struct work k = {.p = p, .kernels = &isa->conv[p->type], .gemm = &isa->gemm[p->type], .size = isa->gemm[p->type].size,
                     .vl = isa->gemm[p->type].vl};
    k.down = ceil_div(p->out_height, 4);
    k.across = ceil_div(p->out_width, 4);
    k.rows = most(1, least(k.down, TILES / k.across));
    k.rows = ceil_div(k.down, ceil_div(k.down, k.rows));
    k.images = k.rows == k.down ? most(1, least(p->images, TILES / (k.down * k.across))) : 1;
    k.row_tasks = ceil_div(k.down, k.rows);
    k.image_tasks = ceil_div(p->images, k.images);
    k.cs = ceil_div(p->channels, k.vl) * k.vl;
    k.os = ceil_div(p->out_channels, k.vl) * k.vl;
    k.in_width = 4 * k.across + 2;
    k.out_width = 4 * k.across;
    /* An odd number of vectors between the 36 matrices: the 36 stores of a tile fall into different sets of the cache. */
    const int64_t tiles = k.images * k.rows * k.across;
    k.v_apart = (tiles * k.cs / k.vl | 1) * k.vl;
    k.m_apart = (tiles * k.os / k.vl | 1) * k.vl;
    k.u_apart = (p->channels * k.os / k.vl | 1) * k.vl;

    size_t u_bytes;
    if (__builtin_mul_overflow((size_t)(k.u_apart * k.size * ELEMENTS), (size_t)p->groups, &u_bytes)) return MG_ESIZE;
    k.in_bytes = mg_round_up((size_t)((4 * k.rows + 2) * k.in_width * k.vl * k.size), MG_LINE);
    k.out_bytes = mg_round_up((size_t)(4 * k.out_width * k.vl * k.size), MG_LINE);
    k.line_bytes = mg_round_up((size_t)(k.vl * (k.out_width + k.vl) * k.size), MG_LINE);
    k.v_bytes = (size_t)(ELEMENTS * k.v_apart * k.size);
    k.m_bytes = (size_t)(ELEMENTS * k.m_apart * k.size);
    k.room.own_bytes = mg_round_up(k.in_bytes + k.out_bytes + k.line_bytes + k.v_bytes + k.m_bytes, MG_LINE);
    k.room.shared_bytes = mg_round_up(u_bytes, MG_LINE);
    const int threads = mg_num_threads();
    if (need) {
        *need = mg_room_bytes(&k.room, threads);
        return *need ? MG_OK : MG_ESIZE;
    }
    const int status = mg_room_open(&k.room, threads, p->work, p->work_bytes);
    if (status != MG_OK) return status;
    k.u = k.room.shared;
    mg_parallel(transform_weights, &k, (int)least(p->groups * ceil_div(p->out_channels, k.vl), threads));
    mg_room_run(&k.room, run, &k, p->groups * k.image_tasks * k.row_tasks);
    return k.status;
}
