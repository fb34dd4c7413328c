/* What a table has for integers. One table may have two sets of these: one for every processor that runs the table, and
 * one for those that have a dot product instruction besides; see mg_quantized_kernels() in isa.c.
 *
 * Weights lie in panels, the same for every table, see minigrad.h: 16 columns, four steps of k in the 32 bits of a lane. */
#ifndef MG_QUANTIZED_KERNELS_H
#define MG_QUANTIZED_KERNELS_H
#include "../minigrad.h"

enum { MG_PANEL = 16, MG_QUAD = 4, MG_PANEL_ROW = MG_PANEL * MG_QUAD };   /* columns, steps of a lane, bytes */

struct mg_quantized_tile {
    int64_t k;
    const uint8_t *a;                /* rows, rsa bytes apart */
    int64_t rsa;
    const int8_t *b;                 /* the first panel, at the sums of its columns; a later one is `panel` bytes on */
    int64_t panel;
    const int32_t *bias;             /* by column, or NULL */
    int32_t zero;                    /* of a: what stands for 0 */
    int headers;                     /* no: each row has its own, and a scale, right before it */
    void *c;                         /* rows, rsc elements apart */
    int64_t rsc;
    int columns;                     /* that exist: at most vectors * vl, more than (vectors - 1) * vl */
    struct mg_requantize then;       /* its pointers at the first column */
};
typedef void mg_quantized_tile_fn(const struct mg_quantized_tile *t);

struct mg_quantized_kernels {
    const char *name;
    int (*supported)(void);
    int vl, mr, nv;                         /* lanes of 32 bits, rows and vectors of a tile; nv * vl divides or is a multiple of 16 */
    mg_quantized_tile_fn *const *tile;      /* [(rows - 1) * nv + vectors - 1] */
    mg_quantized_tile_fn *row;              /* one row, any number of columns: panels one after the other */
    /* see rows.h */
    void (*quantize)(int64_t n, const float *x, float reciprocal, int zero, uint8_t *y);
    void (*dequantize)(int64_t n, const uint8_t *x, float scale, int zero, float *y);
    void (*signed_times)(int64_t n, const int8_t *x, float scale, float *y);
    void (*range)(int64_t n, const float *x, float *low, float *high);
    void (*add)(int64_t n, const uint8_t *a, const uint8_t *b, const struct mg_quantized_add *q, uint8_t *y);
    void (*max_windows)(int64_t pixels, int64_t step, int64_t n, int64_t rows, int64_t columns, const uint8_t *x, int64_t down,
                        int64_t right, uint8_t *y);
    void (*mean_window)(int64_t n, int64_t rows, int64_t columns, const uint8_t *x, int64_t down, int64_t right, int zero,
                        float reciprocal, uint8_t *y);
    void (*copy_runs)(int64_t count, int64_t n, const uint8_t *from, int64_t step, uint8_t *to, int64_t apart);
    void (*depthwise)(const struct mg_quantized_tile *t, const uint8_t *const *tap, int64_t pixels, int64_t step);
    void (*weight_only)(const struct mg_weight_only *g, int64_t j0, int64_t j1);
};

const struct mg_quantized_kernels *mg_quantized(void);   /* the set in use */

extern const struct mg_quantized_kernels mg_quantized_generic;
#if defined(__x86_64__)
extern const struct mg_quantized_kernels mg_quantized_avx2, mg_quantized_avx_vnni, mg_quantized_avx512, mg_quantized_avx512_vnni;
#elif defined(__aarch64__)
extern const struct mg_quantized_kernels mg_quantized_neon_dot;
#endif

#endif
