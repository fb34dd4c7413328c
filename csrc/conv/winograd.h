/* Convolution by Winograd's minimal filtering, for three by three kernels at stride 1; see winograd.c. */
#ifndef MG_WINOGRAD_H
#define MG_WINOGRAD_H
#include "../isa.h"

/* y[n, g, o] = act(bias + sum over c, i, j of w[g, o, c, i, j] * x[n, g, c, . + i - top, . + j - left]), sizes of a group. With
 * `turned`, the kernel is read backwards. */
struct mg_winograd {
    int type, act, turned;
    int64_t images, groups, channels, height, width;       /* x */
    int64_t out_channels, out_height, out_width;            /* y */
    int64_t top, left;
    int64_t wo, wc, wg;                                     /* strides of w: output channel, input channel, group */
    const void *x, *w, *bias;
    void *y, *work;                                         /* work: see struct mg_conv */
    int64_t work_bytes;
    const void *u;                                          /* what mg_winograd_weights made, or NULL */
};
/* The weights, transformed, in mg_winograd_weights_bytes bytes (0: too many). */
size_t mg_winograd_weights_bytes(const struct mg_winograd *p);
void mg_winograd_weights(const struct mg_winograd *p, void *u);

enum { MG_NOT_FINITE = -1 };

/* MG_OK, a code, or MG_NOT_FINITE: somewhere a NaN or an infinity came out, and y must be computed in another way, as the
 * transforms carry it to places where it does not belong. If `need` is not NULL, only the bytes of work memory are told. */
int mg_winograd(const struct mg_winograd *p, size_t *need);

/* The gradient of the weights: w[g, o, c, i, j] = sum over n, y, x of g[n, g, o, y, x] * x[n, g, c, y + i - top, x + j - left]. */
struct mg_winograd_weight {
    int type;
    int64_t images, groups, channels, height, width;       /* x */
    int64_t out_channels, out_height, out_width;            /* g */
    int64_t top, left;
    const void *x, *g;
    void *w, *work;
    int64_t work_bytes;
};
int mg_winograd_weight(const struct mg_winograd_weight *p, size_t *need);

#endif
