/* Pooling in two dimensions, with gradients. */
#include "check.h"

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

struct job {
    struct mg_pool2d p;
    int mean;
    int64_t nx, ny;
    void *x, *g, *y, *gx, *first_y, *first_gx;
    int64_t *index, *first_index;
};

static void run(const void *arg) {
    const struct job *j = arg;
    const size_t size = size_of(j->p.type);
    blank(j->y, (size_t)j->ny * size), blank(j->gx, (size_t)j->nx * size), blank(j->index, (size_t)j->ny * 8);
    if (j->mean) {
        CHECK(mg_avg_pool2d(&j->p, j->x, j->y) == MG_OK, "status");
        CHECK(mg_avg_pool2d_grad(&j->p, j->g, j->gx) == MG_OK, "status");
    } else {
        CHECK(mg_max_pool2d(&j->p, j->x, NULL, j->index) == MG_OK && mg_max_pool2d(&j->p, j->x, j->y, NULL) == MG_OK, "status");
        CHECK(mg_max_pool2d(&j->p, j->x, j->y, j->index) == MG_OK, "status");
        void *masked = copy_of(j->p.type, j->ny, j->g), *gx = numbers(j->p.type, j->nx);
        for (int64_t i = 0; i < j->ny; i++)
            if (!(get(j->p.type, j->y, i) > 0)) put(j->p.type, masked, i, 0);
        CHECK(mg_max_pool2d_grad(&j->p, masked, j->index, gx) == MG_OK, "status");
        CHECK(mg_max_pool2d_relu_grad(&j->p, j->g, j->y, j->index, j->gx) == MG_OK, "status");
        CHECK(memcmp(gx, j->gx, (size_t)j->nx * size) == 0, "through a relu");
        drop(masked), drop(gx);
        CHECK(mg_max_pool2d_grad(&j->p, j->g, j->index, j->gx) == MG_OK, "status");
    }
    same_bits(j->first_y, j->y, (size_t)j->ny * size, "forward");
    same_bits(j->first_gx, j->gx, (size_t)j->nx * size, "gradient");
    same_bits(j->first_index, j->index, (size_t)j->ny * 8, "index");
}

/* Window i of a dimension: its inside, and the number of places that count. */
static int64_t counted(const struct mg_pool2d *p, int d, int64_t i) {
    const int64_t n = d ? p->w : p->h, k = d ? p->kw : p->kh, start = i * p->stride[d] - p->pad[d];
    return p->count_include_pad ? least(start + k, n + p->pad[d]) - start : least(start + k, n) - most(start, 0);
}

static void pool(struct mg_pool2d p, int mean) {
    for (p.type = MG_F32; p.type <= MG_F64; p.type++) {
        const int type = p.type;
        struct job j = {.p = p, .mean = mean, .nx = p.n * p.h * p.w, .ny = p.n * p.oh * p.ow};
        j.x = fresh(type, j.nx), j.g = fresh(type, j.ny), j.y = numbers(type, j.ny), j.gx = numbers(type, j.nx);
        j.first_y = numbers(type, j.ny), j.first_gx = numbers(type, j.nx);
        j.index = space((size_t)j.ny * 8), j.first_index = space((size_t)j.ny * 8);
        double *y = calloc((size_t)j.ny + 1, sizeof *y), *gx = calloc((size_t)j.nx + 1, sizeof *gx);
        int64_t *index = calloc((size_t)j.ny + 1, sizeof *index);
        CHECK(y && gx && index, "memory");
        for (int64_t at = 0; at < j.ny; at++) {
            const int64_t plane = at / (p.oh * p.ow), i = at / p.ow % p.oh, k = at % p.ow;
            const double factor = 1.0 / (double)(p.divisor ? p.divisor : mean ? counted(&p, 0, i) * counted(&p, 1, k) : 1);
            const double g = get(type, j.g, at);
            if (!mean) y[at] = -INFINITY;
            for (int64_t u = 0; u < p.kh; u++)
                for (int64_t v = 0; v < p.kw; v++) {
                    const int64_t row = i * p.stride[0] + u * p.dilation[0] - p.pad[0];
                    const int64_t column = k * p.stride[1] + v * p.dilation[1] - p.pad[1];
                    if (row < 0 || row >= p.h || column < 0 || column >= p.w) continue;
                    const int64_t from = row * p.w + column;
                    const double x = get(type, j.x, plane * p.h * p.w + from);
                    if (mean) y[at] += x * factor, gx[plane * p.h * p.w + from] += g * factor;
                    else if (x > y[at]) y[at] = x, index[at] = from;
                }
            if (!mean) gx[plane * p.h * p.w + index[at]] += g;
        }
        FOR_EACH_SETTING {
            alone(run, &j);
            for (int64_t i = 0; i < j.ny; i++) {
                CHECK(near(type, get(type, j.y, i), y[i], 60 * epsilon(type)), "y[%ld]", (long)i);
                CHECK(mean || j.index[i] == index[i], "index[%ld]", (long)i);
            }
            for (int64_t i = 0; i < j.nx; i++) CHECK(near(type, get(type, j.gx, i), gx[i], 100 * epsilon(type)), "gx[%ld]", (long)i);
        }
        drop(j.x), drop(j.g), drop(j.y), drop(j.gx), drop(j.first_y), drop(j.first_gx), drop(j.index), drop(j.first_index);
        free(y), free(gx), free(index);
    }
}

void check_pool2d(void) {
    for (int i = 0; i < (RACES ? 12 : 600); i++) {
        const int mean = i % 2, large = RACES || i < 4;
        struct mg_pool2d p = {.n = large ? 30 : pick(0, 3), .h = large ? 40 : pick(1, 12), .w = large ? pick(30, 40) : pick(1, 36), .kh = pick(1, 4), .kw = pick(1, 4),
                              .stride = {pick(1, 3), pick(1, 3)}, .dilation = {mean ? 1 : pick(1, 3), mean ? 1 : pick(1, 3)},
                              .count_include_pad = (int)pick(0, 1), .divisor = mean && pick(0, 3) == 0 ? pick(1, 5) : 0};
        for (int d = 0; d < 2; d++) {
            const int64_t k = d ? p.kw : p.kh, n = d ? p.w : p.h, span = p.dilation[d] * (k - 1);
            p.pad[d] = pick(0, k / 2);
            const int64_t slack = pick(0, 1) ? p.stride[d] - 1 : 0, room = n + 2 * p.pad[d] - span - 1 + slack;   /* rounding up */
            int64_t out = room < 0 ? 0 : room / p.stride[d] + 1;
            while (out > 0 && (out - 1) * p.stride[d] - p.pad[d] >= n) out--;
            if (!mean && n <= p.pad[d] * p.dilation[d]) out = 0;   /* a window might miss the image */
            for (int64_t o = 0; o < out; o++) {                    /* and so might the gaps of a dilated one */
                int hits = 0;
                for (int64_t v = 0; v < k; v++) {
                    const int64_t at = o * p.stride[d] + v * p.dilation[d] - p.pad[d];
                    hits |= at >= 0 && at < n;
                }
                if (!hits) out = o;
            }
            *(d ? &p.ow : &p.oh) = out;
        }
        pool(p, mean);
    }
}
