/* Standardisation in its layouts (layer, batch, group norm) and with every set of outputs; its gradients; moments. */
#include "check.h"

static int64_t at(const struct mg_groups *s, int64_t i, int64_t r, int64_t j) {
    return i * s->group_stride + r * s->segment_stride + j;
}

static void standardize(struct mg_groups s, int affine) {
    const int type = s.type;
    const int64_t count = s.groups * s.segments * s.length, wide = s.per_element ? s.length : s.groups;
    const size_t bytes = (size_t)count * size_of(type), group_bytes = (size_t)s.groups * size_of(type), wide_bytes = (size_t)wide * size_of(type);
    const double eps = epsilon(type), shift = 1e-3, size = (double)s.segments * (double)s.length;
    void *x = fresh(type, count), *g = fresh(type, count), *w = fresh(type, wide), *b = fresh(type, wide);
    if (s.groups > 0 && pick(0, 2) == 0) put(type, x, at(&s, pick(0, s.groups - 1), pick(0, s.segments - 1), pick(0, s.length - 1)), NAN);
    const void *pw = affine & 1 ? w : NULL, *pb = affine & 2 ? b : NULL;
    void *y = numbers(type, count), *gx = numbers(type, count), *mean = numbers(type, s.groups), *rstd = numbers(type, s.groups);
    void *mean2 = numbers(type, s.groups), *m2 = numbers(type, s.groups), *gw = numbers(type, wide), *gb = numbers(type, wide);
    void *first_y = numbers(type, count), *first_gx = numbers(type, count), *first_gw = numbers(type, wide), *first_gb = numbers(type, wide);
    FOR_EACH_SETTING {
        blank(y, bytes), blank(gx, bytes), blank(mean, group_bytes), blank(rstd, group_bytes), blank(m2, group_bytes);
        blank(gw, wide_bytes), blank(gb, wide_bytes);
        CHECK(mg_standardize(&s, x, pw, pb, shift, NULL, mean, rstd) == MG_OK && mg_standardize(&s, x, pw, pb, shift, y, NULL, NULL) == MG_OK &&
              mg_standardize(&s, x, pw, pb, shift, y, mean, rstd) == MG_OK, "status");
        CHECK(mg_moments(&s, x, mean2, m2) == MG_OK && memcmp(mean, mean2, group_bytes) == 0, "moments");
        CHECK(mg_standardize_grad(&s, g, x, mean, rstd, pw, NULL, gw, gb) == MG_OK && mg_standardize_grad(&s, g, x, mean, rstd, pw, gx, NULL, NULL) == MG_OK,
              "status");
        same_bits(first_y, y, bytes, "forward"), same_bits(first_gx, gx, bytes, "gradient");
        same_bits(first_gw, gw, wide_bytes, "weight gradient"), same_bits(first_gb, gb, wide_bytes, "bias gradient");
        double *sum_w = calloc((size_t)wide + 1, sizeof *sum_w), *sum_b = calloc((size_t)wide + 1, sizeof *sum_b);
        CHECK(sum_w && sum_b, "memory");
        for (int64_t i = 0; i < s.groups; i++) {
            long double sum = 0, squares = 0;
            double h = 0, hx = 0;
            for (int64_t r = 0; r < s.segments; r++)
                for (int64_t j = 0; j < s.length; j++) sum += get(type, x, at(&s, i, r, j));
            const double m = (double)(sum / size);
            for (int64_t r = 0; r < s.segments; r++)
                for (int64_t j = 0; j < s.length; j++) squares += (get(type, x, at(&s, i, r, j)) - m) * (get(type, x, at(&s, i, r, j)) - m);
            const double v = (double)squares;
            const double scale = 1 / sqrt(v / size + shift), loose = 60 * eps * scale;
            CHECK(near(type, get(type, mean, i), m, 4 * eps) && near(type, get(type, rstd, i), scale, loose) &&
                  near(type, get(type, m2, i), v, 20 * eps * (v + eps * size)), "group %ld of %ldx%ldx%ld, type %d: mean %g, not %g; rstd %g, not %g; m2 %g, not %g",
                  (long)i, (long)s.groups, (long)s.segments, (long)s.length, type, get(type, mean, i), m, get(type, rstd, i), scale,
                  get(type, m2, i), v);
            for (int pass = 0; pass < 2; pass++)
                for (int64_t r = 0; r < s.segments; r++)
                    for (int64_t j = 0; j < s.length; j++) {
                        const int64_t e = at(&s, i, r, j), k = s.per_element ? j : i;
                        const double xh = (get(type, x, e) - m) * scale, G = get(type, g, e), W = pw ? get(type, w, k) : 1;
                        if (pass == 0) {
                            CHECK(near(type, get(type, y, e), xh * W + (pb ? get(type, b, k) : 0), loose + 4 * eps), "y[%ld]", (long)e);
                            h += G * W / size, hx += G * W * xh / size;
                            sum_w[k] += G * xh, sum_b[k] += G;
                        } else CHECK(near(type, get(type, gx, e), scale * (G * W - h - xh * hx), 20 * loose), "gx[%ld]: %g, not %g", (long)e,
                                     get(type, gx, e), scale * (G * W - h - xh * hx));
                    }
        }
        for (int64_t k = 0; k < wide; k++) {
            const double terms = s.per_element ? (double)s.groups : size;
            CHECK(near(type, get(type, gw, k), sum_w[k], 100 * eps * (terms + 1) * 32) && near(type, get(type, gb, k), sum_b[k], 10 * eps * (terms + 1)),
                  "gw, gb[%ld]", (long)k);
        }
        free(sum_w), free(sum_b);
    }
    drop(x), drop(g), drop(w), drop(b), drop(y), drop(gx), drop(mean), drop(rstd), drop(mean2), drop(m2), drop(gw), drop(gb);
    drop(first_y), drop(first_gx), drop(first_gw), drop(first_gb);
}

static void rows(int type, int64_t groups, int64_t length, int per_element, int affine) {   /* layer norm, group norm */
    standardize((struct mg_groups){type, per_element, groups, 1, length, length, length * groups}, affine);
}
static void channels(int type, int64_t n, int64_t channels_, int64_t pixels, int affine) {   /* batch norm */
    standardize((struct mg_groups){type, 0, channels_, n, pixels, pixels, channels_ * pixels}, affine);
}

void check_standardize(void) {
    static const int64_t lengths[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63, 65, 127, 129, 1023, 1024, 1025, 2100};
    for (int type = MG_F32; type <= MG_F64; type++) {
        for (int i = 0; i < COUNT(lengths) && !RACES; i++)
            for (int affine = 0; affine < 4; affine++) {
                rows(type, (i + affine) % 7, lengths[i], 1, affine);
                rows(type, 1 + affine, lengths[i], 0, affine);
                if (lengths[i] < 200) channels(type, 1 + i % 4, 3, lengths[i], affine);
            }
        rows(type, 60, 1030, 1, 3);
        rows(type, 60, 1030, 0, 3);
        channels(type, 9, 11, 500, 3);
    }
    const struct mg_groups bad = {MG_F32, 1, 1, 2, 3, 3, 3};
    CHECK(mg_moments(&bad, NULL, NULL, NULL) == MG_EARG, "status");
}
