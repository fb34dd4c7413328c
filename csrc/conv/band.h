/* A band of rows of an image, copied with its border of zeros, so that every tap of a kernel is a shifted view of it.
 *
 * With a stride, the pixels i * stride + r with the same r ("phases") are copied next to each other: taps are shifted views with
 * unit stride again. */
#ifndef MG_BAND_H
#define MG_BAND_H
#include "../isa.h"
#include "../scratch.h"

#include <string.h>

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
static inline int64_t share(int64_t n, int64_t i, int64_t parts) { return n / parts * i + n % parts * i / parts; }

/* How a source image is copied: C channels, each as `phases` small images of `rows` x `width` pixels. */
struct layout {
    int64_t channels, height, width;         /* of the source */
    int64_t stride[2];
    int64_t low[2];                          /* coordinates of the first row and column of a copy, less the band's row */
    int64_t rows, columns;                   /* of a copy */
    int64_t image, plane;                    /* elements of one copy, of one channel */
    int phases;
    int64_t (*phase)[2];                     /* remainders */
};

/* The part of the image that lies in the copy of phase f of a band. */
struct cut { int64_t top, rows, columns, from, to; };   /* its first row in the copy; from, to: elements of image and copy before it */
static inline struct cut cut_of(const struct layout *l, int64_t first, int f) {
    /* rows and columns k of the copy with 0 <= (low + k) * stride + remainder < size of the image */
    const int64_t sy = l->stride[0], sx = l->stride[1];
    const int64_t y0 = (first + l->low[0]) * sy + l->phase[f][0], x0 = l->low[1] * sx + l->phase[f][1];
    const int64_t top = y0 < 0 ? least(l->rows, ceil_div(-y0, sy)) : 0, left = x0 < 0 ? least(l->columns, ceil_div(-x0, sx)) : 0;
    struct cut cut = {top, most(0, least(l->rows, floor_div(l->height - 1 - y0, sy) + 1) - top),
                      most(0, least(l->columns, floor_div(l->width - 1 - x0, sx) + 1) - left), 0, 0};
    if (cut.rows == 0 || cut.columns == 0) return (struct cut){l->rows, 0, 0, 0, 0};
    cut.from = (y0 + top * sy) * l->width + x0 + left * sx;
    cut.to = f * l->image + top * l->columns + left;
    return cut;
}
static inline void copy_cut(const struct mg_conv_kernels *kn, const struct layout *l, int size, const struct cut *cut, const char *src,
                            char *dst) {
    if (cut->rows)
        kn->copy_rows(cut->rows, cut->columns, src + cut->from * size, l->stride[0] * l->width, l->stride[1], dst + cut->to * size, l->columns);
}

/* Copy rows first + low .. of all channels; what lies outside the image is zero. A vector may be written past the end. */
static inline void copy_band(const struct mg_conv_kernels *kn, const struct layout *l, int size, const char *src, int64_t first, char *dst) {
    for (int f = 0; f < l->phases; f++) {
        const struct cut cut = cut_of(l, first, f);
        const int bordered = cut.rows < l->rows || cut.columns < l->columns;
        for (int64_t c = 0; c < l->channels; c++) {
            char *to = dst + c * l->plane * size;
            if (bordered) memset(to + f * l->image * size, 0, (size_t)(l->image * size));
            copy_cut(kn, l, size, &cut, src + c * l->height * l->width * size, to);
        }
    }
}

/* Channels lie an odd number of cache lines apart, so that the same pixel of different channels falls into different
 * sets of the cache. */
static inline int64_t spread(int64_t elements, int size) {
    return (int64_t)((mg_round_up((size_t)(elements * size), MG_LINE) / MG_LINE) | 1) * MG_LINE / size;
}

/* The number of the phase (y, x) among those that are copied; a new one is added. */
static inline int find_phase(struct layout *l, int64_t y, int64_t x) {
    for (int f = 0; f < l->phases; f++)
        if (l->phase[f][0] == y && l->phase[f][1] == x) return f;
    l->phase[l->phases][0] = y;
    l->phase[l->phases][1] = x;
    return l->phases++;
}

#endif
