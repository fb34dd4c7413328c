/* Depthwise convolution: groups of one input channel with a few outputs each; the loops above the microkernels of columns.h.
 *
 * Idea.       One channel at a time is copied into L1 with its border of zeros (band.h; with a stride, even and odd columns
 *             apart), and every output that can be computed from it is. Nothing is shared between channels, so the work is
 *             loading: taps below each other are taken together, because neighbouring rows of outputs load the same rows.
 *                 Output row a, tap k reads row a S + k D + const of the copy: S the stride and D the dilation or, in the input
 *                 gradient, the shares of them that are left within one phase of the stride. With g = gcd(S, D), e = D / g,
 *                 f = S / g, and a = e b + r, k = f i + t:
 *                     a S + k D = f D (b + i) + r S + t D
 *                 so each class of rows r < e with each class of taps t < f is a convolution with stride and dilation 1 over
 *                 every (f D)-th row: a column of taps for each t and each column of the kernel, cut where it is longer than 7.
 *             The gradient of the weights runs over the same columns, and of the input over those of each phase, whose rows of
 *             results are then interleaved.
 * Blocking.   for an image and a channel, for a band of its rows    the task of a thread; the copy stays in L1
 *               for the channel's outputs, for a class of rows      one call of the microkernel
 * Error.      As of every direct sum, see conv.c.
 * Budget.     What counts is loads that lie across two cache lines, two cycles each: rows of the copy are whole vectors. Few
 *             multiply-adds are done for each number that is read: 3 x 3 at stride 2 reaches 14 % of the peak in one thread with
 *             AVX-512, 5 x 5 at 14 x 14 39 %, 7 x 7 at 56 x 56 53 %. Calls for each plane cost a third of the time at 28 x 28.
 * Left out.   Planes of a few pixels fill their vectors badly, 7 columns of 16 lanes: channels would have to be turned innermost.
 *             3 x 3 at stride 1 needs no copy: see plane.h. */
#include "depthwise.h"
#include "band.h"
#include "room.h"

enum {
    STRIDES = 4, CLASSES = 16, OUTPUTS = 8,      /* more than these are left to conv.c */
    BAND_BYTES = 12 << 10,                       /* a copy; two of them stay in L1 beside what is written */
    TASKS = 16,                                  /* as in conv.c */
    PARALLEL_FLOPS = 500000,
    VECTOR_BYTES = 64 << 10,                     /* weight gradient: sums by lanes of a task */
    PARTIALS = 8                                 /* and parts of the batch, if there are few channels */
};

/* The outputs of one phase of the stride and one class of rows. */
struct piece {
    int64_t at[2], rows, columns;    /* of the phase: its first output, its size */
    int64_t class, first;            /* its first column of taps */
    int tall, low, height;
    int64_t apart;
};

struct plan {
    const struct mg_conv_kernels *kernels;
    int size, vl, act;
    struct layout in;
    int64_t phase[STRIDES][2];
    int64_t images, channels, sources, results;   /* of each channel: planes that are read, that are written */
    int64_t height, width, out_stride[2];         /* of the output */
    int64_t classes, rows_apart, stride;          /* e, f D, S */
    int64_t taps, pieces;
    struct piece *piece;
    struct mg_column *column;
    int64_t rows, bands, band_rows, run;          /* rows: of the largest phase; run: elements of a row of the buffers */
    size_t copy_bytes, buffer_bytes, list_bytes;
    const char *src, *w, *bias;
    char *dst;
    /* weight gradient */
    int64_t block, parts;
    char *sums;
    struct mg_room room;
};

static int64_t gcd(int64_t a, int64_t b) {
    while (b) {
        const int64_t r = a % b;
        a = b, b = r;
    }
    return a;
}

int mg_takes_depthwise(const struct mg_conv *c) {
    if (c->ci != c->groups || c->co > OUTPUTS * c->groups || (c->kh == 1 && c->kw == 1)) return 0;
    for (int d = 0; d < 2; d++)
        if (c->stride[d] > STRIDES || c->dilation[d] / gcd(c->stride[d], c->dilation[d]) > CLASSES) return 0;
    return 1;
}

/* Where tap v of one dimension reads: output b of phase r at b * S + `at`, which is a place of the image, or, if it sees the
 * phase at all, of the cotangent. */
static int sees(const struct mg_conv *c, int d, int backward, int64_t r, int64_t v, int64_t *at) {
    const int64_t shift = v * c->dilation[d] - c->pad[2 * d];
    if (!backward) {
        *at = shift;
        return 1;
    }
    *at = floor_div(r - shift, c->stride[d]);
    return *at * c->stride[d] == r - shift;
}

/* The columns of taps of a piece: first the tall ones. */
static void list_columns(struct plan *p, const struct mg_conv *c, int backward, struct piece *e, int64_t *count) {
    const int64_t step = c->stride[0] / gcd(c->stride[0], c->dilation[0]);   /* from tap to tap that see the same phase */
    const int64_t f = backward ? 1 : step, dilation = backward ? p->classes : c->dilation[0];
    int64_t taps = 0, from = 0, weight = 0;      /* of a phase; the first of them, in the order of the rows they read */
    for (int64_t u = 0, at; u < c->kh; u++)
        if (sees(c, 0, backward, e->at[0], u, &at)) {
            if (taps == 0 || at < from) from = at, weight = u;
            taps++;
        }
    const int64_t each = (backward ? -step : 1) * c->kw, longest = ceil_div(taps, f), cuts = ceil_div(longest, MG_COLUMN_TAPS);
    e->first = *count;
    e->height = taps ? (int)ceil_div(longest, cuts) : 1;
    e->apart = f * each;
    for (int low = 0; low < 2; low++) {
        for (int64_t o = 0; o < p->sources; o++)
            for (int64_t t = 0; t < least(f, taps); t++)
                for (int64_t q = 0; q < cuts; q++) {
                    const int64_t length = ceil_div(taps - t, f), i = share(length, q, cuts);
                    if (share(length, q + 1, cuts) - i != e->height - low) continue;
                    for (int64_t v = 0, at; v < c->kw; v++) {
                        if (!sees(c, 1, backward, e->at[1], v, &at)) continue;
                        const int64_t sx = p->in.stride[1], x = floor_div(at, sx), row = from + e->class * p->stride + (t + f * i) * dilation;
                        p->column[(*count)++] = (struct mg_column){
                            (int32_t)(o * p->in.plane + find_phase(&p->in, 0, at - x * sx) * p->in.image +
                                      (row - p->in.low[0]) * p->in.columns + x - p->in.low[1]),
                            (int32_t)(o * p->taps + weight * c->kw + (t + f * i) * each + v)};
                    }
                }
        if (low == 0) e->tall = (int)(*count - e->first);
    }
    e->low = (int)(*count - e->first) - e->tall;
}

/* Everything but the lists, which need memory. */
static int lay_out(struct plan *p, const struct mg_conv *c, int backward) {
    const struct mg_isa *isa = mg_table();
    p->kernels = &isa->conv[c->type];
    p->size = isa->gemm[c->type].size;
    p->vl = isa->gemm[c->type].vl;
    p->act = backward ? MG_LINEAR : c->act;
    p->images = c->n, p->channels = c->groups, p->taps = c->kh * c->kw;
    p->sources = backward ? c->co / c->groups : 1, p->results = backward ? 1 : c->co / c->groups;
    p->height = backward ? c->h : c->oh, p->width = backward ? c->w : c->ow;
    const int64_t g = gcd(c->stride[0], c->dilation[0]), sx = backward ? 1 : c->stride[1];
    p->classes = c->dilation[0] / g;
    p->stride = backward ? 1 : c->stride[0];
    p->rows_apart = backward ? p->classes : p->stride * p->classes;
    struct layout *in = &p->in;
    *in = (struct layout){.channels = p->sources, .height = backward ? c->oh : c->h, .width = backward ? c->ow : c->w,
                          .stride = {1, sx}, .low = {INT64_MAX, INT64_MAX}, .phase = p->phase};
    int64_t high[2] = {INT64_MIN, INT64_MIN}, most_of[2], phases[2];
    for (int d = 0; d < 2; d++) {
        const int64_t size = d ? p->width : p->height, kernel = d ? c->kw : c->kh, apart = d ? sx : 1;
        p->out_stride[d] = backward ? c->stride[d] : 1;
        phases[d] = least(p->out_stride[d], size);
        most_of[d] = ceil_div(size, p->out_stride[d]);
        for (int64_t r = 0; r < phases[d]; r++)
            for (int64_t v = 0, at; v < kernel; v++) {
                if (!sees(c, d, backward, r, v, &at)) continue;
                const int64_t place = floor_div(at, apart);
                in->low[d] = least(in->low[d], place), high[d] = most(high[d], place);
                if (d) find_phase(in, 0, at - place * apart);
            }
        if (high[d] < in->low[d]) in->low[d] = high[d] = 0;   /* no tap is seen */
    }
    if (in->phases == 0) find_phase(in, 0, 0);
    p->pieces = phases[0] * phases[1] * p->classes;
    p->rows = most_of[0];
    /* Rows of the copy are whole vectors, and the image begins with one: most loads and stores then stay within a cache line. */
    in->low[1] = floor_div(in->low[1], p->vl) * p->vl;
    in->columns = (int64_t)mg_round_up((size_t)(most_of[1] + high[1] - in->low[1]), (size_t)p->vl);

    const int64_t above = high[0] - in->low[0], row_elements = in->columns * in->phases;
    int64_t fitting = BAND_BYTES / (row_elements * p->sources * p->size) - above;
    fitting = most(MG_COLUMN_TAPS, fitting / p->stride / MG_COLUMN_TAPS * MG_COLUMN_TAPS);
    p->bands = ceil_div(p->rows, fitting);
    const int64_t planes = p->images * p->channels;
    if (planes < TASKS / 2) p->bands = most(p->bands, least(ceil_div(p->rows, MG_COLUMN_TAPS), ceil_div(TASKS, planes)));
    p->band_rows = ceil_div(ceil_div(p->rows, p->bands), p->classes) * p->classes;   /* a band begins with the first class */
    p->bands = ceil_div(p->rows, p->band_rows);
    in->rows = (p->band_rows - 1) * p->stride + above + 1;
    int64_t elements;
    if (__builtin_mul_overflow(in->rows, in->columns, &in->image) || __builtin_add_overflow(in->image, p->vl, &in->image) ||
        __builtin_mul_overflow(in->image, in->phases, &elements) ||
        __builtin_mul_overflow(elements, p->sources, &elements) || elements > INT32_MAX / 2)
        return MG_ESIZE;
    in->plane = spread(in->image * in->phases + p->vl, p->size);
    p->copy_bytes = mg_round_up((size_t)((in->plane * p->sources + p->vl) * p->size), MG_LINE);
    p->run = (int64_t)mg_round_up((size_t)most_of[1], (size_t)p->vl);
    p->buffer_bytes = p->out_stride[1] == 1 ? 0 : (size_t)(p->band_rows * p->run * p->size);
    p->list_bytes = mg_round_up((size_t)p->pieces * sizeof(struct piece), MG_LINE) +
                    mg_round_up((size_t)(p->classes * p->taps * p->sources) * sizeof(struct mg_column), MG_LINE);
    return MG_OK;
}

static void make_lists(struct plan *p, const struct mg_conv *c, int backward, char *memory) {
    p->piece = (struct piece *)memory;
    p->column = (struct mg_column *)(memory + mg_round_up((size_t)p->pieces * sizeof(struct piece), MG_LINE));
    struct piece *e = p->piece;
    int64_t count = 0;
    for (int64_t ry = 0; ry < least(p->out_stride[0], p->height); ry++)
        for (int64_t r = 0; r < p->classes; r++)
            for (int64_t rx = 0; rx < least(p->out_stride[1], p->width); rx++, e++) {
                *e = (struct piece){.at = {ry, rx}, .class = r, .rows = ceil_div(p->height - ry, p->out_stride[0]),
                                    .columns = ceil_div(p->width - rx, p->out_stride[1])};
                list_columns(p, c, backward, e, &count);
            }
}

/* A place for the copy of a band, and what it was used for last. Its border is written when that changes, and it is of other rows;
 * the columns of the border are zero from the beginning. */
struct copy {
    char *to;
    int64_t band;
    int cuts;
    struct cut cut[STRIDES];
    int64_t odd;                     /* if even and odd columns are copied at once: from the ones to the others, in elements */
};
static void copy_planes(const struct plan *p, struct copy *k, int64_t band, const char *src) {
    const struct layout *l = &p->in;
    const int size = p->size;
    if (k->band != band) {
        if (k->band < 0) memset(k->to, 0, p->copy_bytes);
        k->cuts = l->phases, k->odd = 0;
        for (int f = 0; f < l->phases; f++) {
            const struct cut cut = k->cut[f] = cut_of(l, band * p->band_rows * p->stride, f);
            for (int64_t o = 0; o < p->sources && k->band >= 0; o++) {
                char *image = k->to + (o * l->plane + f * l->image) * size, *below = image + (cut.top + cut.rows) * l->columns * size;
                memset(image, 0, (size_t)(cut.top * l->columns * size));
                memset(below, 0, (size_t)((l->rows - cut.top - cut.rows) * l->columns * size));
            }
        }
        k->band = band;
        if (l->stride[1] == 2 && l->phases == 2) {
            const int even = l->phase[1][1] == 0;
            struct cut *cut = &k->cut[0];
            *cut = k->cut[even];
            cut->columns = least(l->width, 2 * (l->columns + l->low[1]));
            k->cuts = 1, k->odd = even ? -l->image : l->image;
        }
    }
    char *to = k->to;
    for (int64_t o = 0; o < p->sources; o++, src += l->height * l->width * size, to += l->plane * size)
        for (int f = 0; f < k->cuts; f++) {
            const struct cut *cut = &k->cut[f];
            if (k->odd && cut->rows)
                p->kernels->split_rows(cut->rows, cut->columns, src + cut->from * size, l->width, to + cut->to * size,
                                       to + (cut->to + k->odd) * size, l->columns);
            else copy_cut(p->kernels, l, size, cut, src, to);
        }
}

static int threads_for(const struct mg_conv *c) {
    const double flops = 2.0 * (double)(c->n * c->co) * (double)(c->oh * c->ow) * (double)(c->kh * c->kw);
    return flops < PARALLEL_FLOPS ? 1 : mg_num_threads();
}

/* How many rows of a piece begin in the band from row i0 of its phase on. */
static int64_t rows_of(const struct plan *p, const struct piece *e, int64_t i0) {
    const int64_t rows = least(p->band_rows, e->rows - i0) - e->class;
    return p->classes == 1 ? most(0, rows) : most(0, ceil_div(rows, p->classes));
}

/* A single row is cut into vectors that count as rows, if no tap is below another: in s, which is used up. */
static void call(const struct plan *p, const struct piece *e, int dots, struct mg_columns *s) {
    mg_columns_fn *const kernel = p->kernels->columns[(e->height - 1) * 2 + dots];
    if (s->rows == 1 && e->height == 1 && s->columns > p->vl) {
        const int64_t left = s->columns % p->vl, whole = s->columns - left;
        s->rows = whole / p->vl, s->columns = s->rsx = s->rsy = p->vl;
        kernel(s);
        if (left == 0) return;
        s->rows = 1, s->columns = left;
        s->x = (const char *)s->x + whole * p->size, s->y = (char *)s->y + whole * p->size;
    }
    kernel(s);
}

static struct mg_columns view(const struct plan *p, const struct piece *e, const char *copy) {
    return (struct mg_columns){.x = copy, .rsx = p->rows_apart * p->in.columns, .column = p->column + e->first, .tall = e->tall,
                               .low = e->low, .apart = e->apart, .columns = e->columns};
}

/* The rows of a piece were computed into buffers, one for each phase of the columns; the last phase puts them together. */
static void interleave(const struct plan *p, const struct piece *e, int64_t rows, const char *buffer, char *out, int64_t apart) {
    const int64_t phases = least(p->out_stride[1], p->width);
    if (e->at[1] + 1 < phases) return;
    if (p->out_stride[1] == 2 && phases == 2)
        p->kernels->zip_rows(rows, p->width, buffer, buffer + p->buffer_bytes, p->run, out, apart);
    else
        for (int64_t x = 0; x < phases; x++)
            p->kernels->place_rows(rows, e[x + 1 - phases].columns, buffer + (size_t)x * p->buffer_bytes, p->run, out + x * p->size, apart,
                                   p->out_stride[1]);
}

/* The results of a copied band. */
static void run_band(const struct plan *p, int64_t u, const char *copy, char *buffer) {
    const int size = p->size;
    const int64_t band = u % p->bands, plane = u / p->bands, channel = plane % p->channels, i0 = band * p->band_rows;
    for (int64_t o = 0; o < p->results; o++) {
        char *out = p->dst + (plane * p->results + o) * p->height * p->width * size;
        for (int64_t i = 0; i < p->pieces; i++) {
            const struct piece *e = &p->piece[i];
            struct mg_columns s = view(p, e, copy);
            const int64_t rows = s.rows = rows_of(p, e, i0);
            if (rows == 0) continue;
            char *first = out + (e->at[0] + p->out_stride[0] * (i0 + e->class)) * p->width * size;
            const int64_t apart = p->out_stride[0] * p->classes * p->width;
            const int direct = p->out_stride[1] == 1;
            s.y = direct ? first : buffer + (size_t)e->at[1] * p->buffer_bytes;
            s.rsy = direct ? apart : p->run;
            s.w = p->w + (channel * p->results + o) * p->sources * p->taps * size;
            s.bias = p->bias ? p->bias + (channel * p->results + o) * size : NULL;
            s.act = p->act;
            call(p, e, 0, &s);
            if (!direct) interleave(p, e, rows, buffer, first, apart);
        }
    }
}

static void copy_task(const struct plan *p, int64_t u, struct copy *k) {
    copy_planes(p, k, u % p->bands, p->src + u / p->bands * p->sources * p->in.height * p->in.width * p->size);
}

/* The next band is copied before the last one is used: what was stored a moment ago cannot be loaded at once, as the loads lie
 * across the stores. */
static void run_bands(void *arg, int chunk, int chunks) {
    struct plan *p = arg;
    char *room = mg_room_of(&p->room, chunk), *buffer = room + 2 * p->copy_bytes;
    (void)chunks;
    struct copy copy[2] = {{.to = room, .band = -1}, {.to = room + p->copy_bytes, .band = -1}};
    struct mg_share mine = {0, 0};
    int64_t u, next;
    int more = mg_room_take(&p->room, &mine, &u);
    if (more) copy_task(p, u, &copy[0]);
    for (int now = 0; more; now = !now, u = next) {
        more = mg_room_take(&p->room, &mine, &next);
        if (more) copy_task(p, next, &copy[!now]);
        run_band(p, u, copy[now].to, buffer);
    }
}

static int convolve(const struct mg_conv *c, int backward, const void *src, const void *w, const void *bias, void *dst, size_t *need) {
    struct plan p = {.src = src, .w = w, .bias = bias, .dst = dst};
    int status = lay_out(&p, c, backward);
    if (status != MG_OK) return status;
    p.room.own_bytes = 2 * p.copy_bytes + mg_round_up(p.buffer_bytes * (size_t)p.out_stride[1], MG_LINE) + MG_LINE;
    p.room.shared_bytes = p.list_bytes;
    const int threads = threads_for(c);
    if (need) {
        *need = mg_room_bytes(&p.room, threads);
        return *need ? MG_OK : MG_ESIZE;
    }
    status = mg_room_open(&p.room, threads, c->work, c->work_bytes);
    if (status != MG_OK) return status;
    make_lists(&p, c, backward, p.room.shared);
    mg_room_run(&p.room, run_bands, &p, p.images * p.channels * p.bands);
    return MG_OK;
}

int mg_depthwise(const struct mg_conv *c, const void *x, const void *w, const void *bias, void *y, size_t *need) {
    return convolve(c, 0, x, w, bias, y, need);
}
int mg_depthwise_input_grad(const struct mg_conv *c, const void *g, const void *w, void *x, size_t *need) {
    return convolve(c, 1, g, w, NULL, x, need);
}

/* --- weight gradient ---------------------------------------------------------------------------------------------- */

/* Image, channel and band, bands innermost, of step i of a task; images outermost, so that they are read in order. */
struct step { int64_t plane, channel, band; };
static struct step step_of(const struct plan *p, int64_t i, int64_t n0, int64_t c0, int64_t channels) {
    const int64_t plane = i / p->bands, channel = c0 + plane % channels;
    return (struct step){(n0 + plane / channels) * p->channels + channel, channel, i % p->bands};
}
static void sum_band(const struct plan *p, struct step t, const char *copy, char *sums) {
    const int64_t i0 = t.band * p->band_rows;
    for (int64_t o = 0; o < p->results; o++)
        for (int64_t i = 0; i < p->pieces; i++) {
            const struct piece *e = &p->piece[i];
            struct mg_columns s = view(p, e, copy);
            s.rows = rows_of(p, e, i0);
            if (s.rows == 0) continue;
            s.y = p->dst + ((t.plane * p->results + o) * p->height + i0 + e->class) * p->width * p->size;
            s.rsy = p->classes * p->width;
            s.sums = sums + o * p->taps * p->vl * p->size;
            call(p, e, 1, &s);
        }
}

/* A task is a block of channels in a part of the batch, whose sums by lanes wait in the cache. */
static void run_sums(void *arg, int chunk, int chunks) {
    struct plan *p = arg;
    const int size = p->size;
    const int64_t outputs = p->results * p->taps, blocks = ceil_div(p->channels, p->block), image = p->in.height * p->in.width * size;
    char *room = mg_room_of(&p->room, chunk), *sums = room + 2 * p->copy_bytes;
    (void)chunks;
    struct copy copy[2] = {{.to = room, .band = -1}, {.to = room + p->copy_bytes, .band = -1}};
    struct mg_share mine = {0, 0};
    for (int64_t u; mg_room_take(&p->room, &mine, &u);) {
        const int64_t part = u / blocks, c0 = u % blocks * p->block, channels = least(p->block, p->channels - c0);
        const int64_t n0 = share(p->images, part, p->parts), steps = (share(p->images, part + 1, p->parts) - n0) * channels * p->bands;
        memset(sums, 0, (size_t)(channels * outputs * p->vl * size));
        struct step now = step_of(p, 0, n0, c0, channels), next = now;
        copy_planes(p, &copy[0], now.band, p->src + now.plane * image);
        for (int64_t i = 0; i < steps; i++, now = next) {
            if (i + 1 < steps) {
                next = step_of(p, i + 1, n0, c0, channels);
                copy_planes(p, &copy[(i + 1) % 2], next.band, p->src + next.plane * image);
            }
            sum_band(p, now, copy[i % 2].to, sums + (now.channel - c0) * outputs * p->vl * size);
        }
        p->kernels->sum_partials(channels * outputs, sums, p->sums + (part * p->channels + c0) * outputs * size);
    }
}

int mg_depthwise_weight_grad(const struct mg_conv *c, const void *x, const void *g, void *w, size_t *need) {
    struct plan p = {.src = x, .dst = (char *)g};
    int status = lay_out(&p, c, 0);
    if (status != MG_OK) return status;
    const int64_t outputs = p.results * p.taps;
    p.parts = c->groups >= 2 * PARTIALS ? 1 : least(PARTIALS, c->n);
    p.block = most(1, least(c->groups / PARTIALS, VECTOR_BYTES / (outputs * p.vl * p.size)));
    p.room.own_bytes = 2 * p.copy_bytes + mg_round_up((size_t)(p.block * outputs * p.vl * p.size), MG_LINE);
    p.room.shared_bytes = p.list_bytes + mg_round_up((size_t)(p.parts > 1 ? p.parts * c->groups * outputs * p.size : 0), MG_LINE);
    const int threads = threads_for(c);
    if (need) {
        *need = mg_room_bytes(&p.room, threads);
        return *need ? MG_OK : MG_ESIZE;
    }
    status = mg_room_open(&p.room, threads, c->work, c->work_bytes);
    if (status != MG_OK) return status;
    make_lists(&p, c, 0, p.room.shared);
    p.sums = p.parts > 1 ? p.room.shared + p.list_bytes : w;
    mg_room_run(&p.room, run_sums, &p, ceil_div(c->groups, p.block) * p.parts);
    const int64_t all = c->groups * outputs;
    if (p.parts > 1)
        for (int64_t i = 0; i < all; i++) {
            double d = 0;
            float f = 0;
            for (int64_t part = 0; part < p.parts; part++)
                if (p.size == 4) f += ((const float *)p.sums)[part * all + i];
                else d += ((const double *)p.sums)[part * all + i];
            if (p.size == 4) ((float *)w)[i] = f;
            else ((double *)w)[i] = d;
        }
    return MG_OK;
}
