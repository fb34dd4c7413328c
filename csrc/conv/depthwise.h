/* Convolution of one input channel with a few outputs each, at any stride, dilation and kernel; see depthwise.c. */
#ifndef MG_DEPTHWISE_H
#define MG_DEPTHWISE_H
#include "../minigrad.h"

#include <stddef.h>

/* Whether this path is there for it, and quicker than the others; the sizes have been checked, and there is work to do. */
int mg_takes_depthwise(const struct mg_conv *c);

/* As the functions of the same direction in minigrad.h; or, if `need` is not NULL, only the bytes that it needs. */
int mg_depthwise(const struct mg_conv *c, const void *x, const void *w, const void *bias, void *y, size_t *need);
int mg_depthwise_input_grad(const struct mg_conv *c, const void *g, const void *w, void *x, size_t *need);
int mg_depthwise_weight_grad(const struct mg_conv *c, const void *x, const void *g, void *w, size_t *need);

#endif
