/* Convolution: three directions at named and at random geometries, against seven loops. */
#include "check.h"

struct exact {   /* what an array should be, and the sums of the sizes of the terms */
    double *value, *size;
};
static struct exact zeros(int64_t n) {
    struct exact e = {calloc((size_t)n + 1, sizeof(double)), calloc((size_t)n + 1, sizeof(double))};
    CHECK(e.value && e.size, "memory");
    return e;
}
static void add(struct exact *e, int64_t i, double term) { e->value[i] += term, e->size[i] += fabs(term); }

/* The case in words, for a message. */
static const char *words(const struct mg_conv *c) {
    static _Thread_local char text[300];
    snprintf(text, sizeof text, "type %d, algorithm %d, activation %d: %ld images, %ld -> %ld channels in %ld groups, %ldx%ld by %ldx%ld, "
             "stride %ld %ld, dilation %ld %ld, pad %ld %ld %ld %ld", c->type, c->algorithm, c->act, (long)c->n, (long)c->ci, (long)c->co,
             (long)c->groups, (long)c->h, (long)c->w, (long)c->kh, (long)c->kw, (long)c->stride[0], (long)c->stride[1],
             (long)c->dilation[0], (long)c->dilation[1], (long)c->pad[0], (long)c->pad[1], (long)c->pad[2], (long)c->pad[3]);
    return text;
}

static void compare(const struct mg_conv *c, const char *what, int64_t n, const void *got, const struct exact *e, double coarse) {
    for (int64_t i = 0; i < n; i++)
        CHECK(near(c->type, get(c->type, got, i), e->value[i], 40 * epsilon(c->type) * e->size[i] + coarse), "%s, %s: [%ld] %g, not %g",
              what, words(c), (long)i, get(c->type, got, i), e->value[i]);
}

struct arrays {
    struct mg_conv c;
    int with_bias;
    int64_t nx, nw, ny;
    void *x, *w, *bias, *g, *y, *gx, *gw, *first_y, *first_gx, *first_gw;
};

/* The three directions in memory of their own, or in what they ask for: exactly so much, for this number of threads. */
static void directions(const struct arrays *a, int brought) {
    struct mg_conv c = a->c;
    const size_t size = size_of(c.type);
    blank(a->y, (size_t)a->ny * size), blank(a->gx, (size_t)a->nx * size), blank(a->gw, (size_t)a->nw * size);
    for (int direction = MG_CONV_FORWARD; direction <= MG_CONV_WEIGHT_GRAD; direction++) {
        c.work_bytes = mg_conv2d_workspace(&c, direction);
        CHECK(c.work_bytes >= 0, "workspace");
        void *work = brought ? malloc((size_t)c.work_bytes + 1) : NULL;
        c.work = work ? (char *)work + 1 : NULL;
        CHECK((direction == MG_CONV_FORWARD      ? mg_conv2d(&c, a->x, a->w, a->with_bias ? a->bias : NULL, a->y)
               : direction == MG_CONV_INPUT_GRAD ? mg_conv2d_input_grad(&c, a->g, a->w, a->gx)
                                                 : mg_conv2d_weight_grad(&c, a->x, a->g, a->gw)) == MG_OK, "status");
        const int64_t bytes = direction == MG_CONV_FORWARD ? mg_conv2d_pack_bytes(&c) : 0;
        if (bytes > 0) {   /* with weights that were transformed before */
            same_bits(a->first_y, a->y, (size_t)a->ny * size, words(&a->c));
            blank(a->y, (size_t)a->ny * size);
            void *packed = space((size_t)bytes);
            CHECK(mg_conv2d_pack(&c, a->w, packed) == MG_OK, "packing");
            c.packed = packed;
            CHECK(mg_conv2d(&c, a->x, a->w, a->with_bias ? a->bias : NULL, a->y) == MG_OK, "status");
            c.packed = NULL;
            drop(packed);
        }
        free(work);
    }
    same_bits(a->first_y, a->y, (size_t)a->ny * size, words(&a->c));
    same_bits(a->first_gx, a->gx, (size_t)a->nx * size, words(&a->c));
    same_bits(a->first_gw, a->gw, (size_t)a->nw * size, words(&a->c));
}

static void run(const void *arg) {
    directions(arg, 0);
    directions(arg, 1);
}

static int64_t places(int64_t size, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) {
    const int64_t room = size + pads - dilation * (kernel - 1);
    return room < 1 ? 0 : (room - 1) / stride + 1;
}

/* oh, ow and type are filled in. */
static void convolve(struct mg_conv c, int with_bias) {
    c.oh = places(c.h, c.pad[0] + c.pad[1], c.kh, c.stride[0], c.dilation[0]);
    c.ow = places(c.w, c.pad[2] + c.pad[3], c.kw, c.stride[1], c.dilation[1]);
    const int64_t ci = c.ci / c.groups, co = c.co / c.groups;
    for (c.type = MG_F32; c.type <= MG_F64; c.type++) {
        struct arrays a = {.c = c, .with_bias = with_bias, .nx = c.n * c.ci * c.h * c.w, .nw = c.co * ci * c.kh * c.kw,
                           .ny = c.n * c.co * c.oh * c.ow};
        const int type = c.type;
        a.x = fresh(type, a.nx), a.w = fresh(type, a.nw), a.bias = fresh(type, c.co), a.g = fresh(type, a.ny);
        a.y = numbers(type, a.ny), a.gx = numbers(type, a.nx), a.gw = numbers(type, a.nw);
        a.first_y = numbers(type, a.ny), a.first_gx = numbers(type, a.nx), a.first_gw = numbers(type, a.nw);
        struct exact y = zeros(a.ny), gx = zeros(a.nx), gw = zeros(a.nw);
        for (int64_t n = 0; n < c.n; n++)
            for (int64_t o = 0; o < c.co; o++)
                for (int64_t i = 0; i < c.oh; i++)
                    for (int64_t j = 0; j < c.ow; j++) {
                        const int64_t at = ((n * c.co + o) * c.oh + i) * c.ow + j;
                        const double g = get(type, a.g, at);
                        if (with_bias) add(&y, at, get(type, a.bias, o));
                        for (int64_t q = 0; q < ci; q++)
                            for (int64_t u = 0; u < c.kh; u++)
                                for (int64_t v = 0; v < c.kw; v++) {
                                    const int64_t row = i * c.stride[0] + u * c.dilation[0] - c.pad[0];
                                    const int64_t column = j * c.stride[1] + v * c.dilation[1] - c.pad[2];
                                    if (row < 0 || row >= c.h || column < 0 || column >= c.w) continue;
                                    const int64_t xi = ((n * c.ci + o / co * ci + q) * c.h + row) * c.w + column;
                                    const int64_t wi = ((o * ci + q) * c.kh + u) * c.kw + v;
                                    const double x = get(type, a.x, xi), w = get(type, a.w, wi);
                                    add(&y, at, x * w), add(&gx, xi, g * w), add(&gw, wi, g * x);
                                }
                        if (c.act == MG_RELU && y.value[at] < 0) y.value[at] = 0;
                    }
        /* Winograd's error is that of the largest elements, see winograd.c */
        const int winograd = c.kh == 3 && c.kw == 3 && (c.algorithm == MG_CONV_WINOGRAD || (c.algorithm == MG_CONV_AUTO && ci >= 16));
        const double coarse = winograd ? 300 * epsilon(type) : 0;
        FOR_EACH_SETTING {
            alone(run, &a);
            compare(&c, "forward", a.ny, a.y, &y, coarse * (double)(ci + 20));
            compare(&c, "input gradient", a.nx, a.gx, &gx, coarse * (double)(co + 20));
            compare(&c, "weight gradient", a.nw, a.gw, &gw, coarse * sqrt((double)(c.n * c.oh * c.ow + 20)));
        }
        free(y.value), free(y.size), free(gx.value), free(gx.size), free(gw.value), free(gw.size);
        drop(a.x), drop(a.w), drop(a.bias), drop(a.g), drop(a.y), drop(a.gx), drop(a.gw);
        drop(a.first_y), drop(a.first_gx), drop(a.first_gw);
    }
}

/* n images, groups of ci -> co channels, h x w, kernel k, stride s, padding p on all sides, dilation d */
static struct mg_conv plain(int64_t n, int64_t groups, int64_t ci, int64_t co, int64_t h, int64_t w, int64_t k, int64_t s, int64_t p,
                            int64_t d) {
    return (struct mg_conv){.n = n, .ci = groups * ci, .co = groups * co, .groups = groups, .h = h, .w = w, .kh = k, .kw = k,
                            .stride = {s, s}, .dilation = {d, d}, .pad = {p, p, p, p}};
}

static void at_random(int few) {
    for (int i = 0; i < few; i++) {
        const int64_t groups = pick(0, 2) ? 1 : pick(1, 5), depthwise = pick(0, 4) == 0;
        struct mg_conv c = {.n = pick(0, 20) ? pick(1, 3) : 0, .groups = groups, .act = (int)pick(0, 1), .kh = pick(1, 4), .kw = pick(1, 4),
                            .h = pick(1, 14), .w = pick(1, pick(0, 3) ? 14 : 40), .algorithm = (int)pick(0, 2),
                            .stride = {pick(1, 3), pick(1, 3)}, .dilation = {pick(1, 2), pick(1, 3)},
                            .pad = {pick(0, 3), pick(0, 3), pick(0, 3), pick(0, 3)}};
        c.ci = groups * (depthwise ? 1 : pick(1, 9));
        c.co = groups * (depthwise ? pick(1, 2) : pick(1, pick(0, 3) ? 9 : 20));
        if (depthwise && pick(0, 1)) c.kh = pick(1, 9), c.kw = pick(1, 9), c.h = pick(1, 30);   /* columns of taps, cut and whole */
        if (pick(0, 2) == 0) c.kh = c.kw = 3, c.stride[0] = c.stride[1] = 1, c.dilation[0] = c.dilation[1] = 1;
        convolve(c, (int)pick(0, 1));
    }
}

void check_conv(void) {
    if (!RACES) {
        convolve(plain(0, 1, 2, 2, 5, 5, 3, 1, 1, 1), 1);       /* nothing, in every way */
        convolve(plain(1, 1, 0, 2, 5, 5, 3, 1, 1, 1), 1);
        convolve(plain(1, 1, 2, 0, 5, 5, 3, 1, 1, 1), 1);
        convolve(plain(1, 1, 2, 2, 0, 5, 3, 1, 2, 1), 1);
        convolve(plain(1, 1, 2, 2, 5, 5, 7, 1, 0, 1), 1);       /* the kernel is larger than the image */
        convolve(plain(1, 1, 2, 3, 1, 1, 3, 1, 4, 1), 1);       /* more border than image */
        convolve(plain(2, 1, 3, 5, 9, 9, 1, 1, 0, 1), 0);       /* a product */
        convolve(plain(2, 1, 3, 5, 9, 9, 1, 1, 0, 1), 1);
        convolve(plain(2, 2, 3, 5, 9, 9, 1, 2, 1, 1), 1);
        convolve(plain(1, 1, 3, 4, 23, 23, 11, 4, 2, 1), 1);
        convolve(plain(1, 1, 1, 1, 5, 70, 2, 5, 0, 1), 0);      /* pixels that no tap reaches */
        convolve(plain(9, 1, 2, 3, 6, 6, 3, 1, 1, 1), 1);       /* more images than parts */
        convolve(plain(1, 1, 100, 5, 6, 17, 3, 1, 1, 1), 1);    /* several blocks of channels */
        convolve(plain(2, 1, 16, 9, 7, 7, 3, 1, 1, 1), 1);      /* rows that fill vectors badly */
        for (int64_t w = 15; w <= 17; w++) convolve(plain(1, 3, 1, 1, 15, 2 * w, 3, 1, 1, 1), 1);   /* depthwise */
        for (int64_t size = 3; size <= 9; size++) {             /* tiles of four, whole and cut */
            struct mg_conv c = plain(2, size % 3 == 0 ? 2 : 1, 2 * size - 3, 3 * size - 7, size, 2 * size + 1, 3, 1, size % 4, 1);
            c.algorithm = MG_CONV_WINOGRAD;
            c.act = (int)size % 2;
            c.pad[3] = 3;
            convolve(c, size % 3 > 0);
        }
    }
    convolve(plain(2, 1, 33, 35, 14, 15, 3, 1, 1, 1), 1);       /* Winograd, unasked */
    convolve(plain(1, 1, 48, 2, 70, 60, 3, 1, 1, 1), 1);        /* bands */
    convolve(plain(3, 2, 8, 17, 20, 21, 3, 2, 1, 1), 1);        /* enough work for two threads */
    convolve(plain(2, 1, 40, 40, 13, 13, 1, 1, 0, 1), 1);
    convolve(plain(4, 40, 1, 1, 30, 33, 3, 1, 1, 1), 1);
    convolve(plain(1, 1, 1, 2, 450, 20, 3, 1, 1, 1), 1);        /* bands of one channel */
    for (int64_t w = 3; w <= 9; w++) convolve(plain(2, 25, 1, 2, 7, w, 3, 1, 1, 1), w % 2);   /* small planes */
    convolve(plain(2, 40, 1, 2, 33, 35, 3, 2, 1, 1), 1);        /* depthwise, with a stride */
    convolve(plain(1, 3, 1, 1, 150, 61, 5, 2, 2, 1), 1);
    convolve(plain(2, 20, 1, 1, 29, 30, 7, 1, 3, 2), 0);
    struct mg_conv row = plain(2, 30, 1, 1, 1, 205, 9, 1, 4, 1);
    row.kh = 1, row.pad[0] = row.pad[1] = 0;
    convolve(row, 1);
    at_random(RACES ? 10 : 1000);

    struct mg_conv bad = plain(1, 1, 2, 2, 5, 5, 3, 1, 1, 1);   /* oh and ow are missing */
    CHECK(mg_conv2d(&bad, NULL, NULL, NULL, NULL) == MG_EARG, "status");
    bad.n = INT64_MAX / 4;
    CHECK(mg_conv2d(&bad, NULL, NULL, NULL, NULL) == MG_ESIZE, "status");
}
