/* Two-dimensional convolution: forward, input gradient, weight gradient; the loops above the microkernels of stencil.h.
 *
 * Contract.   See struct mg_conv in minigrad.h. Images are (n, channels, height, width), weights (out, in / groups, kh, kw).
 *             An element of the result is a sum in an order that depends on the shapes and the table alone, whichever thread
 *             computes it: the bits do not depend on the number of threads.
 * Idea.       Vectors run along the pixels of a row, so the images are used as they come, without a change of layout: a
 *             band of rows is copied once, with its border of zeros, and every tap of the kernel is a shifted view of it.
 *                 stride      pixels i * s + r with the same r are copied next to each other ("phases"): taps are again
 *                             shifted views with unit stride. Dilation is only a larger shift.
 *                 input grad  the pixels of x in one phase see the taps of that phase, shifted, with the channels' roles
 *                             exchanged: it is the same loop, once for each phase, and the results interleaved.
 *                 1x1         is a batch of plain products (gemm.c) when nothing is padded or skipped.
 *                 one channel in a group, 3x3 at stride 1: too little work for a copy, see plane.h.
 * Blocking.   for a band of rows of one image and group       the task of a thread; copied, it stays in L2
 *               for a block of channels                        weights[block] stay in L2, sums wait in the output
 *                 for a tile of pixel vectors                  its pixels stay in L1
 *                   for a panel of output channels             weights stream from L2
 *             Output rows that fill their vectors badly (7 pixels on 16 lanes) are computed as one run over the copied
 *             rows, borders included, and the runs are cut out afterwards.
 * Error.      |result - exact| <= (steps + 2) u * sum |a||b|, u = 2^-24 or 2^-53, steps the length of the sum; typically
 *             the square root of that.
 * Left out.   FFT convolution (kernels from about 11 x 11 on would gain). */
#include "../isa.h"
#include "band.h"
#include "depthwise.h"
#include "room.h"
#include "winograd.h"

#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_STEPS = 576,              /* taps * channels of a block: its pixels fit into L1 beside the passing weights */
    BLOCK_BYTES = 640 << 10,        /* and its weights into L2 */
    BAND_BYTES = 384 << 10,         /* a copied band of rows, beside them */
    PARALLEL_FLOPS = 500000,        /* below this, waking another thread costs more than it saves */
    TASKS = 16,                     /* bands into which a large image is cut when there are few images */
    DOTS_MOST = 64,                 /* weight gradient: taps * channels up to which vectors of pixels may be better */
    PIXELS = 512,                   /* weight gradient: pixels between two visits to the sums */
    WINOGRAD_CHANNELS = 16,         /* of a group, on both sides, from which Winograd's path is quicker */
    WINOGRAD_TILES = 8,             /* and tiles of the batch, and one for every so many channels: fewer do not repay the */
    CHANNELS_PER_TILE = 16,         /* transform of the weights */
    WINOGRAD_PIXELS = 7,            /* and the size of the image; below, a tile of four is mostly border */
    VECTOR_BYTES = 128 << 10,       /* weight gradient: sums by lanes of the groups of a task */
    PARTIALS = 8,                   /* weight gradient: parts of the batch with sums of their own */
    PLANE_BYTES = 32 << 10,         /* one channel at a time: rows that are read and written, to stay in L1 */
    PLANE_ROWS = 16                 /* but at least so many, as each band reads two more */
};

/* --- the copied band ---------------------------------------------------------------------------------------------- */

/* One tap as a view: output pixel (i, j) of its phase meets pixel (i + y, j + x) of the source's phase `phase`. */
struct tap {
    int64_t y, x, weight;    /* weight: kh * KW + kw */
    int phase;
};

/* --- the plan of forward and input gradient ----------------------------------------------------------------------- */

/* The output pixels of one phase, and the taps that they see. */
struct piece {
    int64_t at[2], rows, columns;
    int64_t first_tap, taps;
    int64_t steps;                  /* taps * channels */
    int64_t weights;                /* where its packed weights begin, in elements within a group */
    int64_t offsets;                /* where its offsets begin */
    int64_t block;                  /* channels of a block */
    int flat;
};

struct plan {
    const struct mg_conv_kernels *kernels;
    int size, vl, mr, act;
    int64_t images, groups, m;      /* m: output channels of a group */
    struct layout in;
    int64_t height, width;          /* of the output */
    int64_t out_stride[2];
    int64_t wm, wc, wg;             /* strides of the weights: output channel, input channel, group */
    const char *src, *w, *bias;
    char *dst;
    int pieces, taps;
    struct piece *piece;
    struct tap *tap;
    int32_t *offset;
    char *packed;                   /* weights: [group][piece][block][panel][step][row] */
    int64_t group_weights;
    int64_t bands, band_rows;
    int gaps;                       /* some pixels are reached by no tap, and are zero: all begin so */
    int64_t run;                    /* elements of a channel of the buffer of flat pieces */
    size_t band_bytes;
    struct mg_room room;
};

/* The lists of taps, phases and pieces lie at the beginning of the shared memory that the caller brings; else they are
 * allocated. */
static size_t list_bytes(const struct mg_conv *c) {
    const int64_t pieces = least(c->stride[0], most(1, c->h)) * least(c->stride[1], most(1, c->w));
    return mg_round_up((size_t)(c->kh * c->kw) * (sizeof(struct tap) + sizeof(int64_t[2])) + (size_t)pieces * sizeof(struct piece), MG_LINE);
}
static void *open_lists(const struct mg_conv *c, const size_t *need) {
    if (c->work == NULL || need) return malloc(list_bytes(c));
    if (c->work_bytes < (int64_t)(list_bytes(c) + MG_LINE)) return NULL;
    return (void *)mg_round_up((size_t)c->work, MG_LINE);
}
static void close_lists(const struct mg_conv *c, const size_t *need, void *lists) {
    if (c->work == NULL || need) free(lists);
}

/* Which part of the panels of m rows: all of nearly equal height. */
static int64_t panels(const struct plan *p) { return ceil_div(p->m, p->mr); }

static void pack_weights(void *arg, int chunk, int chunks) {
    const struct plan *p = arg;
    const int64_t count = panels(p), all = p->groups * count;
    for (int64_t u = share(all, chunk, chunks); u < share(all, chunk + 1, chunks); u++) {
        const int64_t g = u / count, m0 = share(p->m, u % count, count), rows = share(p->m, u % count + 1, count) - m0;
        for (int i = 0; i < p->pieces; i++) {
            const struct piece *e = &p->piece[i];
            if (e->steps == 0) continue;
            for (int64_t c0 = 0, channels; c0 < p->in.channels; c0 += channels) {
                channels = least(e->block, p->in.channels - c0);
                char *d = p->packed + (g * p->group_weights + e->weights + c0 * e->taps * p->m + m0 * channels * e->taps) * p->size;
                for (int64_t c = c0; c < c0 + channels; c++)
                    for (int64_t t = 0; t < e->taps; t++, d += rows * p->size) {
                        const char *s = p->w + (g * p->wg + m0 * p->wm + c * p->wc + p->tap[e->first_tap + t].weight) * p->size;
                        if (p->size == 4)
                            for (int64_t r = 0; r < rows; r++) ((float *)d)[r] = ((const float *)s)[r * p->wm];
                        else
                            for (int64_t r = 0; r < rows; r++) ((double *)d)[r] = ((const double *)s)[r * p->wm];
                    }
            }
        }
    }
}

/* One piece of a band: rows i0 .. i1 of its phase. `in` is the copied band, `out` the group's first output plane. */
static void run_piece(const struct plan *p, const struct piece *e, int64_t g, int64_t i0, int64_t i1, const char *in, char *out,
                      char *buffer) {
    const int size = p->size, vl = p->vl;
    const int64_t plane = p->height * p->width, columns = e->columns, stride = p->in.columns;
    const int64_t count = panels(p), tallest = ceil_div(p->m, count);
    const int64_t nv_most = least(MG_STENCIL_VECTORS, p->kernels->registers / tallest);
    const int64_t across = ceil_div(columns, vl);   /* vectors of a row, unless flat */
    const int64_t vectors = e->flat ? ceil_div((i1 - i0 - 1) * stride + columns, vl) : (i1 - i0) * across;
    char *const first = e->flat ? buffer : out + ((i0 + e->at[0]) * p->width + e->at[1]) * size;
    struct mg_stencil s = {.rsc = e->flat ? p->run : plane};

    for (int64_t c0 = 0, channels; c0 < p->in.channels; c0 += channels) {
        channels = least(e->block, p->in.channels - c0);
        const int last = c0 + channels == p->in.channels;
        const char *weights = p->packed + (g * p->group_weights + e->weights + c0 * e->taps * p->m) * size;
        s.k = channels * e->taps;
        s.off = p->offset + e->offsets;
        s.accumulate = c0 > 0;
        s.act = last ? p->act : MG_LINEAR;
        const char *bias = last && p->bias ? p->bias + g * p->m * size : NULL;
        const char *b = in + c0 * p->in.plane * size;

        if (p->m == 1 && !e->flat) {
            const struct mg_single one = {
                .k = s.k, .a = weights, .off = s.off, .b = b, .rsb = stride, .c = first, .rsc = p->width, .rows = i1 - i0,
                .columns = columns, .bias = bias, .accumulate = s.accumulate, .act = s.act};
            p->kernels->single(&one);
            continue;
        }
        for (int64_t v = 0, nv; v < vectors; v += nv) {
            nv = least(nv_most, vectors - v);
            int64_t to[MG_STENCIL_VECTORS];
            int whole = 1;
            for (int64_t j = 0; j < nv; j++) {
                if (e->flat) {
                    s.b[j] = b + (v + j) * vl * size;
                    to[j] = (v + j) * vl * size;
                    s.lanes[j] = vl;
                } else {
                    const int64_t row = (v + j) / across, x = (v + j) % across * vl;
                    s.b[j] = b + (row * stride + x) * size;
                    to[j] = (row * p->width + x) * size;
                    s.lanes[j] = (int)least(vl, columns - x);
                    whole &= s.lanes[j] == vl;
                }
            }
            s.plain = whole && !s.accumulate && bias == NULL && s.act == MG_LINEAR;
            for (int64_t u = 0, m0 = 0, m1; u < count; u++, m0 = m1) {
                m1 = share(p->m, u + 1, count);
                for (int64_t j = 0; j < nv; j++) s.c[j] = first + to[j] + m0 * s.rsc * size;
                s.a = weights + m0 * s.k * size;
                s.bias = bias ? bias + m0 * size : NULL;
                p->kernels->stencil[(m1 - m0 - 1) * MG_STENCIL_VECTORS + nv - 1](&s);
            }
        }
    }
    if (e->flat)
        for (int64_t m = 0; m < p->m; m++)
            p->kernels->place_rows(i1 - i0, columns, buffer + m * p->run * size, stride,
                                   out + (m * plane + (i0 * p->out_stride[0] + e->at[0]) * p->width + e->at[1]) * size,
                                   p->out_stride[0] * p->width, p->out_stride[1]);
}

/* Pixels that no tap reaches: the bias alone. */
static void fill_piece(const struct plan *p, const struct piece *e, int64_t g, int64_t i0, int64_t i1, char *out) {
    for (int64_t m = 0; m < p->m; m++) {
        double value = 0;
        if (p->bias)
            value = p->size == 4 ? ((const float *)p->bias)[g * p->m + m] : ((const double *)p->bias)[g * p->m + m];
        if (p->act == MG_RELU && value < 0) value = 0;
        for (int64_t i = i0; i < i1; i++) {
            const int64_t at = (m * p->height + i * p->out_stride[0] + e->at[0]) * p->width + e->at[1];
            for (int64_t j = 0; j < e->columns; j++) {
                if (p->size == 4) ((float *)out)[at + j * p->out_stride[1]] = (float)value;
                else ((double *)out)[at + j * p->out_stride[1]] = value;
            }
        }
    }
}

static void run_tasks(void *arg, int chunk, int chunks) {
    struct plan *p = arg;
    char *room = mg_room_of(&p->room, chunk);
    (void)chunks;
    struct mg_share mine = {0, 0};
    for (int64_t u; mg_room_take(&p->room, &mine, &u);) {
        const int64_t band = u % p->bands, g = u / p->bands % p->groups, n = u / p->bands / p->groups;
        const int64_t i0 = band * p->band_rows;
        copy_band(p->kernels, &p->in, p->size, p->src + (n * p->groups + g) * p->in.channels * p->in.height * p->in.width * p->size, i0, room);
        char *out = p->dst + (n * p->groups + g) * p->m * p->height * p->width * p->size;
        if (p->gaps) {
            const int64_t top = i0 * p->out_stride[0], end = least(top + p->band_rows * p->out_stride[0], p->height);
            for (int64_t m = 0; m < p->m && top < end; m++)
                memset(out + (m * p->height + top) * p->width * p->size, 0, (size_t)((end - top) * p->width * p->size));
        }
        for (int i = 0; i < p->pieces; i++) {
            const struct piece *e = &p->piece[i];
            const int64_t i1 = least(i0 + p->band_rows, e->rows);
            if (i0 >= i1 || e->columns == 0 || (e->steps == 0 && p->gaps)) continue;
            if (e->steps == 0) fill_piece(p, e, g, i0, i1, out);
            else run_piece(p, e, g, i0, i1, room, out, room + p->band_bytes);
        }
    }
}

/* Phases of the copy, layout, offsets and blocks, once the taps and pieces are known; then the work, or, if `need` is not
 * NULL, only how many bytes it needs. */
static int execute(struct plan *p, const struct mg_conv *c, size_t *need) {
    const int type = c->type;
    const struct mg_isa *isa = mg_table();
    p->kernels = &isa->conv[type];
    p->size = isa->gemm[type].size;
    p->vl = isa->gemm[type].vl;
    p->mr = isa->gemm[type].mr;

    int64_t high[2] = {INT64_MIN, INT64_MIN}, rows = 0, columns = 0;
    struct layout *in = &p->in;
    in->low[0] = in->low[1] = INT64_MAX;
    for (int t = 0; t < p->taps; t++) {
        in->low[0] = least(in->low[0], p->tap[t].y), high[0] = most(high[0], p->tap[t].y);
        in->low[1] = least(in->low[1], p->tap[t].x), high[1] = most(high[1], p->tap[t].x);
    }
    for (int i = 0; i < p->pieces; i++) rows = most(rows, p->piece[i].rows), columns = most(columns, p->piece[i].columns);
    in->columns = columns + high[1] - in->low[1];
    const int64_t above = high[0] - in->low[0];

    /* Bands: small enough to stay in L2, enough of them to keep threads busy. */
    const int64_t tasks = p->images * p->groups;
    double flops = 0;
    for (int i = 0; i < p->pieces; i++)
        flops += 2.0 * (double)tasks * (double)p->m * (double)p->piece[i].steps * (double)(p->piece[i].rows * p->piece[i].columns);
    const int threads = flops < PARALLEL_FLOPS ? 1 : mg_num_threads();
    const double row_bytes = (double)in->columns * (double)(in->phases * in->channels * p->size);
    const int64_t fitting = row_bytes * (double)(rows + above) <= BAND_BYTES ? rows
                            : most(least(rows, 4), (int64_t)(BAND_BYTES / row_bytes) - above);
    p->bands = ceil_div(rows, fitting);
    if (flops >= PARALLEL_FLOPS && tasks < TASKS / 2) p->bands = most(p->bands, least(rows, ceil_div(TASKS, tasks)));
    p->band_rows = ceil_div(rows, p->bands);
    p->bands = ceil_div(rows, p->band_rows);
    in->rows = p->band_rows + above;
    int64_t elements;
    if (__builtin_mul_overflow(in->rows, in->columns, &in->image) || __builtin_mul_overflow(in->image, in->phases, &elements) ||
        elements > INT32_MAX / 2)
        return MG_ESIZE;
    in->plane = spread(elements + p->vl, p->size);

    int64_t weights = 0, offsets = 0;
    p->run = 0;
    for (int i = 0; i < p->pieces; i++) {
        struct piece *e = &p->piece[i];
        e->steps = e->taps * in->channels;
        e->weights = weights;
        e->offsets = offsets;
        p->gaps |= e->steps == 0 && p->bias == NULL;
        if (e->steps == 0) continue;
        const int64_t most_steps = most(e->taps, least(BLOCK_STEPS, BLOCK_BYTES / (p->m * p->size)));
        const int64_t blocks = ceil_div(in->channels, most(1, most_steps / e->taps));
        e->block = ceil_div(in->channels, blocks);
        weights += e->steps * p->m;
        offsets += e->block * e->taps;
        if (e->block * in->plane > INT32_MAX) return MG_ESIZE;
        const double by_rows = (double)e->columns / (double)(ceil_div(e->columns, p->vl) * p->vl);
        const double by_run = (double)e->columns / (double)in->columns;
        e->flat = p->out_stride[1] > 1 || p->out_stride[0] > 1 || (e->steps >= 64 && p->m > 1 && by_run > 1.08 * by_rows);
        if (e->flat) p->run = mg_round_up((size_t)(p->band_rows * in->columns), (size_t)p->vl) + p->vl;
    }
    p->group_weights = weights;

    const size_t slack = (size_t)(2 * p->vl * p->size);
    size_t packed, buffer, shared;
    if (__builtin_mul_overflow((size_t)(in->plane * p->size), (size_t)in->channels, &p->band_bytes) ||
        __builtin_mul_overflow((size_t)(p->run * p->size), (size_t)p->m, &buffer) ||
        __builtin_mul_overflow((size_t)(weights * p->size), (size_t)p->groups, &packed))
        return MG_ESIZE;
    p->band_bytes = mg_round_up(p->band_bytes + slack, MG_LINE);
    packed = mg_round_up(packed, MG_LINE);
    if (__builtin_add_overflow(packed, (size_t)offsets * sizeof *p->offset + MG_LINE, &shared) ||
        __builtin_add_overflow(p->band_bytes, buffer + MG_LINE, &p->room.own_bytes))
        return MG_ESIZE;
    const size_t lists = list_bytes(c);
    p->room.own_bytes = mg_round_up(p->room.own_bytes, MG_LINE);
    p->room.shared_bytes = mg_round_up(shared + lists, MG_LINE);
    if (need) {
        *need = mg_room_bytes(&p->room, threads);
        return *need ? MG_OK : MG_ESIZE;
    }
    const int status = mg_room_open(&p->room, threads, c->work, c->work_bytes);
    if (status != MG_OK) return status;
    p->packed = p->room.shared + lists;
    p->offset = (int32_t *)(p->packed + packed);
    for (int i = 0; i < p->pieces; i++) {
        struct piece *e = &p->piece[i];
        int32_t *o = p->offset + e->offsets;
        if (e->steps == 0) continue;
        for (int64_t c = 0; c < e->block; c++)
            for (int64_t t = 0; t < e->taps; t++) {
                const struct tap *a = &p->tap[e->first_tap + t];
                *o++ = (int32_t)(c * in->plane + a->phase * in->image + (a->y - in->low[0]) * in->columns + a->x - in->low[1]);
            }
    }
    const int64_t units = p->groups * panels(p);
    mg_parallel(pack_weights, p, (int)(packed < 65536 ? 1 : least(units, threads)));
    mg_room_run(&p->room, run_tasks, p, tasks * p->bands);
    return MG_OK;
}

/* --- checks ------------------------------------------------------------------------------------------------------- */

static int64_t places(int64_t size, int64_t before, int64_t after, int64_t kernel, int64_t stride, int64_t dilation) {
    int64_t span, room;
    if (__builtin_mul_overflow(dilation, kernel - 1, &span) || __builtin_add_overflow(size, before, &room) ||
        __builtin_add_overflow(room, after, &room))
        return -1;
    return room <= span ? 0 : (room - span - 1) / stride + 1;
}

static int product_fits(int64_t a, int64_t b, int64_t c, int64_t d) {
    int64_t bytes = 16;
    const int64_t f[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        if (f[i] < 0) return 0;
    for (int i = 0; i < 4; i++)
        if (__builtin_mul_overflow(bytes, most(1, f[i]), &bytes)) return 0;
    return 1;
}

static int check(const struct mg_conv *c) {
    if (c->type != MG_F32 && c->type != MG_F64) return MG_EARG;
    if (c->act != MG_LINEAR && c->act != MG_RELU) return MG_EARG;
    if (c->groups < 1 || c->kh < 1 || c->kw < 1) return MG_EARG;
    for (int d = 0; d < 2; d++)
        if (c->stride[d] < 1 || c->dilation[d] < 1) return MG_EARG;
    for (int d = 0; d < 4; d++)
        if (c->pad[d] < 0 || c->pad[d] > INT32_MAX) return MG_ESIZE;
    if (!product_fits(c->n, c->ci, c->h, c->w) || !product_fits(c->n, c->co, c->oh, c->ow) ||
        !product_fits(c->co, c->ci / c->groups, c->kh, c->kw) || c->h > INT32_MAX || c->w > INT32_MAX ||
        c->kh * c->kw > INT32_MAX / 64)
        return MG_ESIZE;
    if (c->ci % c->groups || c->co % c->groups) return MG_EARG;
    if (c->oh != places(c->h, c->pad[0], c->pad[1], c->kh, c->stride[0], c->dilation[0]) ||
        c->ow != places(c->w, c->pad[2], c->pad[3], c->kw, c->stride[1], c->dilation[1]))
        return MG_EARG;
    return MG_OK;
}

static int is_product(const struct mg_conv *c) {
    return c->kh == 1 && c->kw == 1 && c->stride[0] == 1 && c->stride[1] == 1 &&
           !(c->pad[0] | c->pad[1] | c->pad[2] | c->pad[3]);
}

/* Winograd's path pays for three by three kernels with many channels on both sides, and enough tiles to fill its products. */
static int takes_winograd(const struct mg_conv *c) {
    if (c->algorithm == MG_CONV_DIRECT || c->kh != 3 || c->kw != 3 || c->stride[0] != 1 || c->stride[1] != 1 ||
        c->dilation[0] != 1 || c->dilation[1] != 1)
        return 0;
    if (c->algorithm == MG_CONV_WINOGRAD) return c->ci > 0;
    const int64_t tiles = least(ceil_div(c->oh, 4) * ceil_div(c->ow, 4), ceil_div(c->h, 4) * ceil_div(c->w, 4));
    const int64_t channels = least(c->ci, c->co) / c->groups;
    if (tiles < ceil_div(most(WINOGRAD_TILES, channels / CHANNELS_PER_TILE), c->n)) return 0;
    return channels >= WINOGRAD_CHANNELS && least(c->oh, c->ow) >= WINOGRAD_PIXELS &&
           least(c->h, c->w) >= WINOGRAD_PIXELS;
}

/* The forward direction by that path. */
static struct mg_winograd by_winograd(const struct mg_conv *c, const void *x, const void *w, const void *bias, void *y) {
    const int64_t ci = c->ci / c->groups, co = c->co / c->groups;
    return (struct mg_winograd){
        .type = c->type, .act = c->act, .images = c->n, .groups = c->groups, .channels = ci, .height = c->h, .width = c->w,
        .out_channels = co, .out_height = c->oh, .out_width = c->ow, .top = c->pad[0], .left = c->pad[2], .wo = 9 * ci, .wc = 9,
        .wg = 9 * ci * co, .x = x, .w = w, .bias = bias, .y = y, .work = c->work, .work_bytes = c->work_bytes};
}

/* --- weights that are transformed once ---------------------------------------------------------------------------- */

/* Before them stands this, which has to fit the convolution that uses them. */
struct packed {
    char table[24];
    int64_t type, groups, ci, co;
};
_Static_assert(sizeof(struct packed) <= MG_LINE, "the weights begin at the next cache line");

static struct packed label(const struct mg_conv *c) {
    struct packed p = {.type = c->type, .groups = c->groups, .ci = c->ci, .co = c->co};
    strncpy(p.table, mg_table()->name, sizeof p.table - 1);
    return p;
}

int64_t mg_conv2d_pack_bytes(const struct mg_conv *c) {
    if (check(c) != MG_OK || c->n == 0 || c->co == 0 || c->oh == 0 || c->ow == 0 || !takes_winograd(c)) return 0;
    const struct mg_winograd k = by_winograd(c, NULL, NULL, NULL, NULL);
    const size_t bytes = mg_winograd_weights_bytes(&k);
    return bytes == 0 || bytes > PTRDIFF_MAX - MG_LINE ? 0 : (int64_t)bytes + MG_LINE;
}

int mg_conv2d_pack(const struct mg_conv *c, const void *w, void *packed) {
    if (mg_conv2d_pack_bytes(c) == 0) return MG_EARG;
    const struct mg_winograd k = by_winograd(c, NULL, w, NULL, NULL);
    const struct packed head = label(c);
    memset(packed, 0, MG_LINE);
    memcpy(packed, &head, sizeof head);
    mg_winograd_weights(&k, (char *)packed + MG_LINE);
    return MG_OK;
}

/* --- one channel at a time ---------------------------------------------------------------------------------------- */

/* Groups of one input channel under three by three taps: the kernels of plane.h, which need no memory. */
static int takes_planes(const struct mg_conv *c) {
    return c->ci == c->groups && c->kh == 3 && c->kw == 3 && c->stride[0] == 1 && c->stride[1] == 1 && c->dilation[0] == 1 &&
           c->dilation[1] == 1 && c->algorithm != MG_CONV_WINOGRAD;
}

/* Plane r of the result reads `in` planes, from r / out * in on: `out` planes share them. One of the two is 1. */
struct planes {
    const struct mg_conv_kernels *kernels;
    int size;
    struct mg_plane shape;          /* what all planes share */
    const char *src, *w, *bias;
    char *dst;
    int64_t in, out, channels;      /* channels: of the result */
    int64_t height, top;            /* of the result; rows above the image */
    int64_t bands, band_rows;
    struct mg_room room;
};

static void run_planes(void *arg, int chunk, int chunks) {
    struct planes *k = arg;
    struct mg_plane p = k->shape;
    const int size = k->size;
    (void)chunk, (void)chunks;
    struct mg_share mine = {0, 0};
    for (int64_t u; mg_room_take(&k->room, &mine, &u);) {
        const int64_t r = u / k->bands, channel = r % k->channels, i0 = u % k->bands * k->band_rows;
        p.first = i0 - k->top;
        p.rows = least(k->band_rows, k->height - i0);
        p.y = k->dst + (r * k->height + i0) * p.columns * size;
        p.bias = k->bias ? k->bias + channel * size : NULL;
        for (int64_t s = 0; s < k->in; s++) {
            p.x = k->src + (r / k->out * k->in + s) * p.height * p.width * size;
            p.w = k->w + (channel * k->in + s) * 9 * size;
            p.accumulate = s > 0;
            k->kernels->plane(&p);
        }
    }
}

static int planes(struct planes *k, int type, int64_t images) {
    const int64_t row_bytes = (k->shape.width + k->shape.columns) * (type == MG_F32 ? 4 : 8);
    k->kernels = &mg_table()->conv[type];
    k->size = type == MG_F32 ? 4 : 8;
    k->bands = ceil_div(k->height, most(PLANE_ROWS, PLANE_BYTES / row_bytes));
    k->band_rows = ceil_div(k->height, k->bands);
    k->bands = ceil_div(k->height, k->band_rows);
    const int64_t all = images * k->channels;
    const double flops = 18.0 * (double)(all * k->in) * (double)(k->height * k->shape.columns);
    k->room.threads = flops < PARALLEL_FLOPS ? 1 : mg_num_threads();
    mg_room_run(&k->room, run_planes, k, all * k->bands);
    return MG_OK;
}

/* --- forward ------------------------------------------------------------------------------------------------------ */

static int forward(const struct mg_conv *c, const void *x, const void *w, const void *bias, void *y, size_t *need) {
    int status = check(c);
    if (status != MG_OK) return status;
    if (c->n == 0 || c->co == 0 || c->oh == 0 || c->ow == 0) return MG_OK;
    const int64_t ci = c->ci / c->groups, co = c->co / c->groups, pixels = c->oh * c->ow;
    if (is_product(c) && bias == NULL && ci > 0 && need == NULL) {   /* what is needed is enough for a bias as well */
        const struct mg_gemm g = {
            .type = c->type, .act = c->act, .m = co, .n = pixels, .k = ci, .a = w, .rsa = ci, .csa = 1, .b = x, .rsb = pixels,
            .csb = 1, .c = y, .rsc = pixels, .csc = 1, .alpha = 1, .batch_rank = 2, .batch = {c->n, c->groups},
            .batch_a = {0, co * ci}, .batch_b = {c->ci * pixels, ci * pixels}, .batch_c = {c->co * pixels, co * pixels}};
        return mg_gemm(&g);
    }
    if (takes_planes(c)) {
        if (need) return MG_OK;
        struct planes k = {.shape = {.height = c->h, .width = c->w, .left = c->pad[2], .columns = c->ow, .act = c->act}, .src = x,
                           .w = w, .bias = bias, .dst = y, .in = 1, .out = co, .channels = c->co, .height = c->oh, .top = c->pad[0]};
        return planes(&k, c->type, c->n);
    }
    if (!takes_winograd(c) && mg_takes_depthwise(c)) return mg_depthwise(c, x, w, bias, y, need);
    const int64_t taps = c->kh * c->kw;
    size_t winograd = 0;   /* what that path needs; the other one stands by for results that are not finite */
    if (takes_winograd(c)) {
        struct mg_winograd k = by_winograd(c, x, w, bias, y);
        const struct packed head = label(c);
        if (c->packed && memcmp(&head, c->packed, sizeof head) == 0) k.u = (const char *)c->packed + MG_LINE;
        status = mg_winograd(&k, need ? &winograd : NULL);
        if (status != MG_NOT_FINITE && !(need && status == MG_OK)) return status;
    }
    struct tap *tap = open_lists(c, need);
    if (tap == NULL) return MG_ENOMEM;
    struct piece piece = {.rows = c->oh, .columns = c->ow, .taps = taps};
    struct plan p = {
        .act = c->act, .images = c->n, .groups = c->groups, .m = co, .height = c->oh, .width = c->ow, .out_stride = {1, 1},
        .wm = ci * taps, .wc = taps, .wg = co * ci * taps, .src = x, .w = w, .bias = bias, .dst = y, .pieces = 1, .taps = (int)taps,
        .piece = &piece, .tap = tap,
        .in = {.channels = ci, .height = c->h, .width = c->w, .stride = {c->stride[0], c->stride[1]},
               .phase = (int64_t(*)[2])(tap + taps)}};
    piece.steps = taps * ci;
    for (int64_t t = 0; t < taps; t++) {
        const int64_t v = t / c->kw * c->dilation[0] - c->pad[0], u = t % c->kw * c->dilation[1] - c->pad[2];
        const int64_t qy = floor_div(v, c->stride[0]), qx = floor_div(u, c->stride[1]);
        tap[t] = (struct tap){qy, qx, t, find_phase(&p.in, v - qy * c->stride[0], u - qx * c->stride[1])};
    }
    status = execute(&p, c, need);
    if (need && *need < winograd) *need = winograd;
    close_lists(c, need, tap);
    return status;
}

/* --- input gradient ----------------------------------------------------------------------------------------------- */

static int input_grad(const struct mg_conv *c, const void *g, const void *w, void *x, size_t *need) {
    int status = check(c);
    if (status != MG_OK) return status;
    if (c->n == 0 || c->ci == 0 || c->h == 0 || c->w == 0) return MG_OK;
    const int64_t ci = c->ci / c->groups, co = c->co / c->groups, pixels = c->oh * c->ow, taps = c->kh * c->kw;
    if (c->co == 0 || pixels == 0) {
        if (need == NULL) memset(x, 0, (size_t)(c->n * c->ci * c->h * c->w) * (c->type == MG_F32 ? 4 : 8));
        return MG_OK;
    }
    if (is_product(c)) {
        if (need) return MG_OK;
        const struct mg_gemm p = {
            .type = c->type, .m = ci, .n = pixels, .k = co, .a = w, .rsa = 1, .csa = ci, .b = g, .rsb = pixels, .csb = 1, .c = x,
            .rsc = pixels, .csc = 1, .alpha = 1, .batch_rank = 2, .batch = {c->n, c->groups}, .batch_a = {0, co * ci},
            .batch_b = {c->co * pixels, co * pixels}, .batch_c = {c->ci * pixels, ci * pixels}};
        return mg_gemm(&p);
    }
    if (takes_planes(c)) {   /* at stride 1, the forward direction with the kernel turned round */
        if (need) return MG_OK;
        struct planes k = {.shape = {.height = c->oh, .width = c->ow, .left = 2 - c->pad[2], .columns = c->w, .turned = 1}, .src = g,
                           .w = w, .dst = x, .in = co, .out = 1, .channels = c->ci, .height = c->h, .top = 2 - c->pad[0]};
        return planes(&k, c->type, c->n);
    }
    if (!takes_winograd(c) && mg_takes_depthwise(c)) return mg_depthwise_input_grad(c, g, w, x, need);
    size_t winograd = 0;
    if (takes_winograd(c)) {   /* likewise */
        const struct mg_winograd k = {
            .type = c->type, .turned = 1, .images = c->n, .groups = c->groups, .channels = co, .height = c->oh, .width = c->ow,
            .out_channels = ci, .out_height = c->h, .out_width = c->w, .top = 2 - c->pad[0], .left = 2 - c->pad[2], .wo = 9,
            .wc = 9 * ci, .wg = 9 * ci * co, .x = g, .w = w, .y = x, .work = c->work, .work_bytes = c->work_bytes};
        status = mg_winograd(&k, need ? &winograd : NULL);
        if (status != MG_NOT_FINITE && !(need && status == MG_OK)) return status;
    }
    /* Pixels of x in phase (ry, rx) of the stride see the taps with (r + pad - k * dilation) a multiple of the stride. */
    const int64_t sy = c->stride[0], sx = c->stride[1], ny = least(sy, c->h), nx = least(sx, c->w);
    if (ny * nx > INT32_MAX / 64) return MG_ESIZE;
    struct piece *piece = open_lists(c, need);
    if (piece == NULL) return MG_ENOMEM;
    struct tap *tap = (struct tap *)(piece + ny * nx);
    int64_t whole[1][2] = {{0, 0}};
    struct plan p = {
        .images = c->n, .groups = c->groups, .m = ci, .height = c->h, .width = c->w, .out_stride = {sy, sx}, .wm = taps,
        .wc = ci * taps, .wg = co * ci * taps, .src = g, .w = w, .dst = x, .piece = piece, .tap = tap,
        .in = {.channels = co, .height = c->oh, .width = c->ow, .stride = {1, 1}, .phases = 1, .phase = whole}};
    for (int64_t ry = 0; ry < ny; ry++)
        for (int64_t rx = 0; rx < nx; rx++) {
            struct piece *e = &piece[p.pieces++];
            *e = (struct piece){.at = {ry, rx}, .rows = ceil_div(c->h - ry, sy), .columns = ceil_div(c->w - rx, sx), .first_tap = p.taps};
            for (int64_t t = taps - 1; t >= 0; t--) {   /* the last tap lies first in the image */
                const int64_t v = ry + c->pad[0] - t / c->kw * c->dilation[0], u = rx + c->pad[2] - t % c->kw * c->dilation[1];
                if (v % sy || u % sx) continue;
                tap[p.taps++] = (struct tap){v / sy, u / sx, t, 0};
            }
            e->taps = p.taps - e->first_tap;
            e->steps = e->taps * co;
        }
    if (p.taps > 0) status = execute(&p, c, need);
    else if (need) *need = list_bytes(c) + MG_LINE;
    else memset(x, 0, (size_t)(c->n * c->ci * c->h * c->w) * (c->type == MG_F32 ? 4 : 8));
    if (need && *need < winograd) *need = winograd;
    close_lists(c, need, piece);
    return status;
}

/* --- weight gradient ---------------------------------------------------------------------------------------------- */

/* The sums over the batch are made in `parts` equal shares of it, each with sums of its own, which are added up at the end
 * in the order of the parts; how many there are depends on the shapes alone. Within a part, threads share the outputs.
 *
 * for a run of rows, or a few small images                       copied as above, in L2
 *   for a panel of output channels                               its cotangents, channels innermost, in L1
 *     for 12 (tap, channel) pairs: `outer`, adding to the sums                                                         */
struct weight_plan {
    const struct mg_conv_kernels *kernels;
    const struct mg_gemm_kernels *gemm;
    int size, vl, dots, planes;             /* planes: dots without a copy, by the kernel of plane.h */
    int64_t images, groups, ci, co, oh, ow, taps, pairs;   /* of a group; pairs = ci * taps */
    struct layout in;
    const struct tap *tap;
    const char *x, *g;
    char *w;
    int64_t chunk_rows, chunk_images;
    int64_t width, panels;          /* output channels of a panel, panels of a group */
    int64_t parts, shares;          /* shares: of the panels */
    int64_t block;                  /* groups of a task: with dots, several, which lie next to each other in every image */
    int64_t sums;                   /* elements of the sums of one group in one part */
    char *partial;                  /* [part][group][panel][pair][width] or, with dots, [part][group][channel][pair] */
    size_t band_bytes, panel_bytes;
    struct mg_room room;
};

static const char *row_of(const struct weight_plan *p, const char *band, int64_t pair) {
    const struct tap *t = &p->tap[pair % p->taps];
    return band + (pair / p->taps * p->in.plane + t->phase * p->in.image + (t->y - p->in.low[0]) * p->in.columns + t->x -
                   p->in.low[1]) * p->size;
}

/* The images n0 .. n1 and rows i0 .. i1 for the panels j0 .. j1 of group g. */
static void outer_chunk(const struct weight_plan *p, int64_t g, int64_t n0, int64_t n1, int64_t i0, int64_t i1, int64_t j0,
                        int64_t j1, int first, char *band, char *turned, char *sums) {
    const int size = p->size;
    const int64_t pixels = p->oh * p->ow, run = (i1 - i0) * p->ow, blocks = ceil_div(p->pairs, p->kernels->outer_rows);
    struct mg_outer t = {.length = p->ow, .b = turned, .accumulate = !first, .segment = (int64_t *)(turned + p->panel_bytes)};
    for (int64_t j = j0; j < j1; j++) {
        const int64_t o0 = j * p->width, n_out = least(p->width, p->co - o0), nv = ceil_div(n_out, p->vl), wide = nv * p->vl;
        for (int64_t n = n0; n < n1; n++)
            p->gemm->transpose(run, n_out, p->g + (((n * p->groups + g) * p->co + o0) * pixels + i0 * p->ow) * size, pixels,
                               turned + (n - n0) * run * wide * size, wide);
        t.segments = (n1 - n0) * (i1 - i0);
        for (int64_t u = 0, r0 = 0, r1; u < blocks; u++, r0 = r1) {
            r1 = share(p->pairs, u + 1, blocks);
            for (int64_t r = r0; r < r1; r++) t.row[r - r0] = row_of(p, band, r);
            t.c = sums + (j * p->pairs * p->width + r0 * wide) * size;
            p->kernels->outer[(r1 - r0 - 1) * 2 + nv - 1](&t);
        }
    }
}

static void dots_chunk(const struct weight_plan *p, int64_t g, int64_t n, int64_t i0, int64_t j0, int64_t j1, int64_t rows,
                       const char *band, char *sums, int64_t *segment) {
    const int64_t pixels = p->oh * p->ow, blocks = ceil_div(p->pairs, MG_DOTS_ROWS);
    struct mg_outer t = {.length = p->ow, .segments = rows, .segment = segment, .rsb = pixels, .rsc = p->pairs * p->vl};
    for (int64_t o = j0, planes; o < j1; o += planes) {
        planes = least(2, j1 - o);
        t.b = p->g + (((n * p->groups + g) * p->co + o) * pixels + i0 * p->ow) * p->size;
        for (int64_t u = 0, r0 = 0, r1; u < blocks; u++, r0 = r1) {
            r1 = share(p->pairs, u + 1, blocks);
            for (int64_t r = r0; r < r1; r++) t.row[r - r0] = row_of(p, band, r);
            t.c = sums + ((o - j0) * p->pairs + r0) * p->vl * p->size;
            p->kernels->dots[(r1 - r0 - 1) * 2 + planes - 1](&t);
        }
    }
}

/* The same without a copied band. */
static void planes_chunk(const struct weight_plan *p, int64_t g, int64_t n, int64_t i0, int64_t rows, int64_t j0, int64_t j1, char *sums) {
    const int64_t image = n * p->groups + g;
    struct mg_plane t = {.x = p->x + image * p->in.height * p->in.width * p->size, .height = p->in.height, .width = p->in.width,
                         .first = i0 + p->in.low[0], .left = -p->in.low[1], .rows = rows, .columns = p->ow};
    for (int64_t o = j0; o < j1; o++) {
        t.y = (char *)p->g + ((image * p->co + o) * p->oh + i0) * p->ow * p->size;
        t.sums = sums + (o - j0) * p->pairs * p->vl * p->size;
        p->kernels->plane_dots(&t);
    }
}

static void run_weight_task(const struct weight_plan *p, int64_t g0, int64_t g1, int64_t part, int64_t j0, int64_t j1, char *room) {
    const int size = p->size;
    char *band = room, *turned = room + p->band_bytes;
    int64_t *segment = (int64_t *)(turned + p->panel_bytes);
    const int64_t span = (j1 - j0) * p->pairs;
    char *vectors = turned;   /* with dots: sums by lanes */
    if (p->dots) memset(vectors, 0, (size_t)((g1 - g0) * span * p->vl * size));
    const int64_t n_first = share(p->images, part, p->parts), n_end = share(p->images, part + 1, p->parts);
    int first = 1;
    for (int64_t n0 = n_first, n1; n0 < n_end; n0 = n1) {
        n1 = least(n0 + p->chunk_images, n_end);
        for (int64_t g = g0; g < g1; g++)
            for (int64_t i0 = 0, i1; i0 < p->oh; i0 = i1) {
                i1 = least(i0 + p->chunk_rows, p->oh);
                if (p->planes) {
                    planes_chunk(p, g, n0, i0, i1 - i0, j0, j1, vectors + (g - g0) * span * p->vl * size);
                    continue;
                }
                int64_t *s = segment;
                for (int64_t n = n0; n < n1; n++) {
                    const int64_t at = (n - n0) * p->in.plane * p->ci;
                    copy_band(p->kernels, &p->in, size, p->x + (n * p->groups + g) * p->ci * p->in.height * p->in.width * size, i0,
                              band + at * size);
                    for (int64_t i = 0; i < i1 - i0; i++) *s++ = at + i * p->in.columns;
                }
                if (p->dots) dots_chunk(p, g, n0, i0, j0, j1, i1 - i0, band, vectors + (g - g0) * span * p->vl * size, segment);
                else outer_chunk(p, g, n0, n1, i0, i1, j0, j1, first, band, turned, p->partial + (part * p->groups + g) * p->sums * size);
                first = 0;
            }
    }
    for (int64_t g = g0; g < g1; g++) {
        char *sums = p->partial + (part * p->groups + g) * p->sums * size;
        if (p->dots) p->kernels->sum_partials(span, vectors + (g - g0) * span * p->vl * size, sums + j0 * p->pairs * size);
        else if (first) memset(sums + j0 * p->pairs * p->width * size, 0, (size_t)(span * p->width * size));
    }
}

static void run_weight_tasks(void *arg, int chunk, int chunks) {
    struct weight_plan *p = arg;
    const int64_t units = p->dots ? p->co : p->panels;
    char *room = mg_room_of(&p->room, chunk);
    (void)chunks;
    struct mg_share mine = {0, 0};
    for (int64_t u; mg_room_take(&p->room, &mine, &u);) {
        const int64_t q = u % p->shares, part = u / p->shares % p->parts, g = u / p->shares / p->parts * p->block;
        const int64_t j0 = share(units, q, p->shares), j1 = share(units, q + 1, p->shares);
        if (j0 < j1) run_weight_task(p, g, least(g + p->block, p->groups), part, j0, j1, room);
    }
}

static void add(int size, int64_t n, char *to, const char *from) {
    if (size == 4) for (int64_t i = 0; i < n; i++) ((float *)to)[i] += ((const float *)from)[i];
    else for (int64_t i = 0; i < n; i++) ((double *)to)[i] += ((const double *)from)[i];
}

/* Add up the parts and turn the sums of a panel into rows of weights. */
static void gather_weights(void *arg, int chunk, int chunks) {
    const struct weight_plan *p = arg;
    const int size = p->size;
    const int64_t units = p->dots ? 1 : p->panels, all = p->groups * units;
    for (int64_t u = share(all, chunk, chunks); u < share(all, chunk + 1, chunks); u++) {
        const int64_t g = u / units, j = u % units, span = p->dots ? p->sums : p->pairs * p->width;
        char *sums = p->partial + (g * p->sums + j * span) * size;
        for (int64_t part = 1; part < p->parts; part++) add(size, span, sums, sums + part * p->groups * p->sums * size);
        const int64_t o0 = j * p->width, n_out = p->dots ? p->co : least(p->width, p->co - o0);
        char *w = p->w + (g * p->co + o0) * p->pairs * size;
        if (p->dots) {
            memcpy(w, sums, (size_t)(p->sums * size));
            continue;
        }
        const int64_t wide = ceil_div(n_out, p->vl) * p->vl, whole = p->pairs / p->vl * p->vl;
        p->gemm->transpose(n_out, whole, sums, wide, w, p->pairs);
        for (int64_t o = 0; o < n_out; o++)
            for (int64_t r = whole; r < p->pairs; r++) memcpy(w + (o * p->pairs + r) * size, sums + (r * wide + o) * size, (size_t)size);
    }
}

static int weight_grad(const struct mg_conv *c, const void *x, const void *g, void *w, size_t *need) {
    int status = check(c);
    if (status != MG_OK) return status;
    const int64_t ci = c->ci / c->groups, co = c->co / c->groups, taps = c->kh * c->kw, pairs = ci * taps;
    const int size = c->type == MG_F32 ? 4 : 8;
    if (c->co == 0 || ci == 0) return MG_OK;
    if (c->n == 0 || c->oh == 0 || c->ow == 0) {
        if (need == NULL) memset(w, 0, (size_t)(c->co * pairs * size));
        return MG_OK;
    }
    if (!takes_planes(c) && !takes_winograd(c) && mg_takes_depthwise(c)) return mg_depthwise_weight_grad(c, x, g, w, need);
    size_t winograd = 0;
    if (takes_winograd(c)) {
        const struct mg_winograd_weight k = {
            .type = c->type, .images = c->n, .groups = c->groups, .channels = ci, .height = c->h, .width = c->w, .out_channels = co,
            .out_height = c->oh, .out_width = c->ow, .top = c->pad[0], .left = c->pad[2], .x = x, .g = g, .w = w, .work = c->work,
            .work_bytes = c->work_bytes};
        status = mg_winograd_weight(&k, need ? &winograd : NULL);
        if (status != MG_NOT_FINITE && !(need && status == MG_OK)) return status;
    }
    struct tap *tap = open_lists(c, need);
    if (tap == NULL) return MG_ENOMEM;
    const struct mg_isa *isa = mg_table();
    struct weight_plan p = {
        .kernels = &isa->conv[c->type], .gemm = &isa->gemm[c->type], .size = size, .vl = isa->gemm[c->type].vl, .images = c->n,
        .groups = c->groups, .ci = ci, .co = co, .oh = c->oh, .ow = c->ow, .taps = taps, .pairs = pairs, .tap = tap, .x = x, .g = g,
        .w = w, .in = {.channels = ci, .height = c->h, .width = c->w, .stride = {c->stride[0], c->stride[1]},
                       .phase = (int64_t(*)[2])(tap + taps)}};
    struct layout *in = &p.in;
    int64_t high[2] = {INT64_MIN, INT64_MIN};
    in->low[0] = in->low[1] = INT64_MAX;
    for (int64_t t = 0; t < taps; t++) {
        const int64_t v = t / c->kw * c->dilation[0] - c->pad[0], u = t % c->kw * c->dilation[1] - c->pad[2];
        const int64_t qy = floor_div(v, c->stride[0]), qx = floor_div(u, c->stride[1]);
        tap[t] = (struct tap){qy, qx, t, find_phase(in, v - qy * c->stride[0], u - qx * c->stride[1])};
        in->low[0] = least(in->low[0], qy), high[0] = most(high[0], qy);
        in->low[1] = least(in->low[1], qx), high[1] = most(high[1], qx);
    }
    p.planes = takes_planes(c);
    p.dots = pairs <= DOTS_MOST && (pairs <= DOTS_MOST / 2 || co <= p.vl / 4);

    const int64_t pixels = c->oh * c->ow, aim = p.dots ? 8 * PIXELS : PIXELS;
    p.chunk_rows = least(c->oh, most(1, ceil_div(aim, c->ow)));
    p.chunk_rows = ceil_div(c->oh, ceil_div(c->oh, p.chunk_rows));
    p.chunk_images = p.dots ? 1 : least(c->n, most(1, aim / pixels));
    in->columns = c->ow + high[1] - in->low[1];
    in->rows = p.chunk_rows + high[0] - in->low[0];
    p.width = 2 * p.vl;
    p.panels = ceil_div(co, p.width);
    p.sums = p.dots ? co * pairs : p.panels * p.width * pairs;

    size_t partial, band;
    status = MG_ESIZE;
    if (__builtin_mul_overflow(in->rows, in->columns, &in->image) || !product_fits(in->image, in->phases, ci + 1, p.chunk_images) ||
        !product_fits(p.sums, c->groups, 1, 1))
        goto done;
    in->plane = spread(in->image * in->phases + p.vl, size);
    p.parts = most(1, least(least(PARTIALS, c->n), (6 << 20) / most(1, p.sums * c->groups * size)));
    if (c->groups >= 16) p.parts = 1;
    const double flops = 2.0 * (double)c->n * (double)pairs * (double)c->co * (double)pixels;
    const int threads = flops < PARALLEL_FLOPS ? 1 : mg_num_threads();
    p.shares = flops < PARALLEL_FLOPS ? 1 : least(p.dots ? ceil_div(co, 2) : p.panels, ceil_div(PARTIALS, p.parts * c->groups));
    band = p.planes ? 0 : mg_round_up((size_t)(in->plane * ci * p.chunk_images * size), MG_LINE);
    const int64_t longest = ceil_div(p.dots ? co : p.panels, p.shares) + 1;
    p.block = p.dots ? most(1, least(c->groups / PARTIALS, VECTOR_BYTES / (longest * pairs * p.vl * size))) : 1;
    p.panel_bytes = p.dots ? (size_t)(longest * p.block) * (size_t)(pairs * p.vl * size)
                           : (size_t)(p.chunk_images * p.chunk_rows * c->ow * p.width * size);
    p.panel_bytes = mg_round_up(p.panel_bytes, MG_LINE);
    p.band_bytes = band;
    p.room.own_bytes = mg_round_up(band + p.panel_bytes + (size_t)(p.chunk_images * p.chunk_rows) * sizeof(int64_t), MG_LINE);
    if (__builtin_mul_overflow((size_t)(p.sums * c->groups * size), (size_t)p.parts, &partial) ||
        __builtin_add_overflow(partial, list_bytes(c) + MG_LINE, &p.room.shared_bytes))
        goto done;
    p.room.shared_bytes = mg_round_up(p.room.shared_bytes, MG_LINE);
    if (need) {
        *need = mg_room_bytes(&p.room, threads);
        status = *need ? MG_OK : MG_ESIZE;
        if (*need < winograd) *need = winograd;
        goto done;
    }
    status = mg_room_open(&p.room, threads, c->work, c->work_bytes);
    if (status != MG_OK) goto done;
    p.partial = p.room.shared + list_bytes(c);
    mg_room_run(&p.room, run_weight_tasks, &p, ceil_div(c->groups, p.block) * p.parts * p.shares);
    mg_parallel(gather_weights, &p, (int)least(c->groups * (p.dots ? 1 : p.panels), threads));
done:
    close_lists(c, need, tap);
    return status;
}

/* --- the ABI ------------------------------------------------------------------------------------------------------ */

int mg_conv2d(const struct mg_conv *c, const void *x, const void *w, const void *bias, void *y) {
    return forward(c, x, w, bias, y, NULL);
}
int mg_conv2d_input_grad(const struct mg_conv *c, const void *g, const void *w, void *x) { return input_grad(c, g, w, x, NULL); }
int mg_conv2d_weight_grad(const struct mg_conv *c, const void *x, const void *g, void *w) { return weight_grad(c, x, g, w, NULL); }

int64_t mg_conv2d_workspace(const struct mg_conv *c, int direction) {
    size_t need = 0;
    const int status = direction == MG_CONV_FORWARD      ? forward(c, NULL, NULL, NULL, NULL, &need)
                       : direction == MG_CONV_INPUT_GRAD ? input_grad(c, NULL, NULL, NULL, &need)
                                                         : weight_grad(c, NULL, NULL, NULL, &need);
    return status == MG_OK ? (int64_t)need : -status;
}
