/* A table of kernels for one instruction set, with the block sizes that go with them.
 *
 * Everything above the kernels (gemm/gemm.c and its like) reads this struct and knows no instruction set. Tables are
 * made by including table.h with a few constants defined; see tables/generic.c. */
#ifndef MG_ISA_H
#define MG_ISA_H
#include "minigrad.h"
#include "elementwise/kernels.h"
#include "optimizer/kernels.h"
#include "quantized/kernels.h"
#include "reduce/kernels.h"
#include "sparse/kernels.h"

/* One tile of C: t->k steps of rank-1 updates on mr x (nv vectors), then the epilogue. See gemm/tile.h. */
struct mg_tile {
    int64_t k;
    const void *a;          /* element (i, p) at a[i * rsa + p * csa] */
    int64_t rsa, csa;
    const void *b;          /* rows of the panel, rsb elements apart */
    int64_t rsb;
    int64_t panel;          /* wide_tile only: elements from one panel of nv vectors to the next */
    void *c;                /* rows of C, rsc elements apart */
    int64_t rsc;
    const void *bias;       /* or NULL */
    void *pack;             /* where the packing variant leaves its copy of the panel */
    double alpha, beta;
    int act;
    int tail;               /* lanes of the last vector that exist; 0: all of them */
};

typedef void mg_tile_fn(const struct mg_tile *t);

enum { MG_TILE_TAIL = 1, MG_TILE_PACK = 2, MG_TILE_VARIANTS = 4 };   /* variants of a tile kernel, added up */

struct mg_gemm_kernels {
    int size;               /* bytes per element */
    int vl;                 /* lanes of a vector */
    int mr, nv, nr;         /* a tile: mr rows by nr = nv * vl columns */
    int kc;                 /* depth of a block: mr * kc of A stay in L1, kc * nr of B stream from L2 */
    int nc;                 /* columns of a block: kc * nc of B, packed; a multiple of nr */
    int wide;               /* vectors in a tile of one row */
    mg_tile_fn *const *tile;          /* [((rows - 1) * nv + vectors - 1) * MG_TILE_VARIANTS + variant] */
    mg_tile_fn *wide_tile;            /* one row, `wide` vectors */
    /* dst[p * rsd + j] = src[j * rss + p], p < k, j < n. */
    void (*transpose)(int64_t k, int64_t n, const void *src, int64_t rss, void *dst, int64_t rsd);
    /* Panels side by side in src, the first `more` with n + 1 columns, the others with n. In panel q:
     * dst[q * apart + p * columns + j] = src[p * rss + j]; may write up to vl - 1 elements past the end of a panel. */
    void (*copy_panels)(int64_t k, int64_t panels, int64_t n, int64_t more, const void *src, int64_t rss, void *dst,
                        int64_t apart);
    /* y[i] = epilogue(sum_p a[i * rsa + p] * x[p]), rows of A contiguous. Uses alpha, beta, bias, act, c, a, b of
     * t. */
    void (*rows_dot)(int64_t m, const struct mg_tile *t);
    double (*probe)(int64_t steps);   /* run `steps` rounds of register-only FMAs; returns FLOPs done */
};

/* --- convolution: see conv/stencil.h ------------------------------------------------------------------------- */

enum { MG_STENCIL_VECTORS = 8, MG_DOTS_ROWS = 10, MG_OUTER_ROWS = 16 };

struct mg_stencil {
    int64_t k;                            /* steps: taps of input channels */
    const void *a;                        /* weights, [k][rows] */
    const int32_t *off;                   /* where each step reads, in elements from b */
    const void *b[MG_STENCIL_VECTORS];    /* the image at each vector of output pixels */
    void *c[MG_STENCIL_VECTORS];          /* where each vector goes in the first row */
    int lanes[MG_STENCIL_VECTORS];        /* how many pixels of it exist, 1 .. VL */
    int64_t rsc;                          /* elements between rows (output channels) */
    const void *bias;                     /* one number a row, or NULL */
    int accumulate;                       /* add to c */
    int act;
    int plain;                            /* all lanes exist, and nothing is to be done but to store */
};
typedef void mg_stencil_fn(const struct mg_stencil *s);

struct mg_outer {
    const void *row[MG_OUTER_ROWS];       /* shifted images */
    const int64_t *segment;               /* where runs of pixels start in them */
    int64_t segments, length;             /* how many runs, how many pixels in each */
    const void *b;                        /* cotangents: `outer` [pixels][nv * vl], `dots` [planes][pixels] */
    int64_t rsb;                          /* `dots`: elements between planes */
    void *c;                              /* `outer` [rows][nv * vl], `dots` [planes][rows][vl] */
    int64_t rsc;                          /* `dots`: elements between planes of sums */
    int accumulate;                       /* `outer`: add to c (`dots` always does) */
};
typedef void mg_outer_fn(const struct mg_outer *t);

struct mg_single {
    int64_t k;                            /* as in mg_stencil, with one row of weights */
    const void *a;
    const int32_t *off;
    const void *b;                        /* the image at the first output pixel, rows rsb apart */
    int64_t rsb;
    void *c;
    int64_t rsc, rows, columns;
    const void *bias;
    int accumulate, act;
};

struct mg_plane {                         /* see conv/plane.h */
    const void *x;                        /* the image: height rows of width pixels */
    int64_t height, width, first, left;   /* the first row of taps of the first row of y; columns before the first pixel */
    void *y;                              /* or, for plane_dots, the cotangent */
    int64_t rows, columns;                /* of y, without a gap */
    const void *w;
    int turned;                           /* the taps in reverse order */
    const void *bias;                     /* one number, or NULL */
    int accumulate, act;
    void *sums;                           /* plane_dots: [9][vl], added to */
    const uint16_t *lanes;                /* of a small plane: [vectors][9], a bit for each pixel that exists; else NULL */
};

enum { MG_COLUMN_TAPS = 7 };
struct mg_column { int32_t off, weight; };   /* where its view of the copy begins, its first weight; in elements */
struct mg_columns {                       /* see conv/columns.h */
    const void *x;                        /* the copy of the image, for the first output */
    int64_t rsx;                          /* elements from the view of one row of outputs to the next, and from tap to tap */
    const struct mg_column *column;
    int tall, low;                        /* columns of as many taps as the kernel is for, and of one less */
    const void *w;
    int64_t apart;                        /* elements between the weights of a column */
    void *y;                              /* or, for the sums, the cotangent */
    int64_t rsy, rows, columns;
    const void *bias;                     /* one number, or NULL */
    int act;
    void *sums;                           /* columns_dots: [taps][vl], added to */
};
typedef void mg_columns_fn(const struct mg_columns *s);

struct mg_conv_kernels {
    int registers;                         /* accumulators: rows * vectors of a stencil must not be more */
    int outer_rows;
    mg_stencil_fn *const *stencil;         /* [(rows - 1) * MG_STENCIL_VECTORS + vectors - 1] */
    mg_outer_fn *const *outer;             /* [(rows - 1) * 2 + vectors - 1] */
    mg_outer_fn *const *dots;              /* [(rows - 1) * 2 + planes - 1] */
    void (*sum_partials)(int64_t n, const void *c, void *y);
    void (*single)(const struct mg_single *s);
    void (*plane)(const struct mg_plane *p);
    void (*plane_dots)(const struct mg_plane *p);
    mg_columns_fn *const *columns;         /* [(taps - 1) * 2], and one further `columns_dots` */
    void (*copy_rows)(int64_t rows, int64_t n, const void *src, int64_t rss, int64_t step, void *dst, int64_t rsd);
    void (*place_rows)(int64_t rows, int64_t n, const void *src, int64_t rss, void *dst, int64_t rsd, int64_t step);
    void (*split_rows)(int64_t rows, int64_t n, const void *src, int64_t rss, void *even, void *odd, int64_t rsd);
    void (*zip_rows)(int64_t rows, int64_t n, const void *even, const void *odd, int64_t rss, void *dst, int64_t rsd);
    /* see conv/transform.h */
    void (*winograd_in)(int64_t tiles, const void *src, int64_t width, void *dst, int64_t rsd, int64_t apart);
    int (*winograd_out)(int64_t tiles, const void *src, int64_t rss, int64_t apart, const void *bias, int act, void *dst,
                        int64_t width);
    void (*winograd_weights)(const void *src, int turned, void *dst, int64_t apart);
    void (*winograd_grad_in)(int64_t tiles, const void *src, int64_t width, void *dst, int64_t rsd, int64_t apart);
    int (*winograd_grad_out)(const void *src, int64_t apart, void *dst);
    void (*turn_in)(int64_t rows, int64_t columns, int count, const void *src, int64_t rss, void *dst, int64_t width);
    void (*turn_out)(int64_t rows, int64_t columns, int count, const void *src, int64_t width, void *dst, int64_t rsd);
};

struct mg_pool_row {                       /* a row of n windows that lie inside of x; see conv/pool2d.h */
    const void *x;                         /* the first element of the first one */
    int64_t n, step, kh, kw, down, dx;     /* windows, from one to the next, elements of one, from row to row, from tap to tap */
    const void *factor;                    /* n, in whole vectors, or NULL */
    void *y;
    int64_t *index;
    const void *first, *columns;           /* by window, as int32 or int64: column of its first place in the image, of its first */
    int64_t top, place, place_down;        /* row * width of that first place; place of the first tap, from row to row */
};

struct mg_pool_kernels {
    void (*max_windows)(const struct mg_pool_row *r);
    void (*max_squares)(int64_t rows, int64_t n, const void *x, int64_t width, void *y);
    void (*sum_windows)(const struct mg_pool_row *r);
    void (*sum_planes)(int planes, int64_t n, const void *x, double factor, void *y);
    void (*repeat)(int64_t step, int64_t n, const void *x, const void *factor, void *y);
    void (*spread_row)(int64_t step, int64_t n, const void *x, void *y);
    void (*times_row)(int64_t n, const void *x, const void *f, void *y);
    int (*scatter)(int64_t n, const void *g, const void *y, const int64_t *index, int64_t pixels, void *x);
};

struct mg_isa {
    const char *name;
    int (*supported)(void);
    struct mg_gemm_kernels gemm[2];   /* by MG_F32, MG_F64 */
    struct mg_conv_kernels conv[2];   /* likewise */
    struct mg_pool_kernels pool[2];
    void (*philox)(uint64_t key, uint64_t block, int64_t blocks, uint32_t *out);
    void (*uniform_f32)(int64_t n, const uint32_t *bits, float *out);
    void (*uniform_f64)(int64_t n, const uint32_t *bits, double *out);
    struct mg_elementwise_kernels elementwise[2];
    struct mg_reduce_kernels reduce[2];
    struct mg_update_kernels update[2];
    struct mg_sparse_kernels sparse[2];
    struct mg_edge_kernels edges[2];
    const struct mg_quantized_kernels *quantized[2];   /* best last; the second may be NULL, or not be supported */
};

const struct mg_isa *mg_table(void);   /* the table in use */

extern const struct mg_isa mg_isa_generic;
#if defined(__x86_64__)
extern const struct mg_isa mg_isa_avx2, mg_isa_avx512;
#elif defined(__aarch64__)
extern const struct mg_isa mg_isa_neon;
#endif

#endif
