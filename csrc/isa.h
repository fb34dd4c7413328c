/* A table of kernels for one instruction set, with the block sizes that go with them.
 *
 * Everything above the kernels (gemm/gemm.c and its like) reads this struct and knows no instruction set. Tables are
 * made by including table.h with a few constants defined; see tables/generic.c. */
#ifndef MG_ISA_H
#define MG_ISA_H
#include "minigrad.h"
#include "elementwise/kernels.h"
#include "optimizer/kernels.h"
#include "reduce/kernels.h"

/* One tile of C: t->k steps of rank-1 updates on mr x (nv vectors), then the epilogue. See gemm/tile.h. */
struct mg_tile {
    int64_t k;
    const void *a;          /* element (i, p) at a[i * rsa + p * csa] */
    int64_t rsa, csa;
    const void *b;          /* rows of the panel, rsb elements apart */
    int64_t rsb;
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
    /* dst[p * n + j] = src[p * rss + j]; may write up to vl - 1 elements past the end of dst. */
    void (*copy_panel)(int64_t k, int64_t n, const void *src, int64_t rss, void *dst);
    /* y[i] = epilogue(sum_p a[i * rsa + p] * x[p]), rows of A contiguous. Uses alpha, beta, bias, act, c, a, b of
     * t. */
    void (*rows_dot)(int64_t m, const struct mg_tile *t);
    double (*probe)(int64_t steps);   /* run `steps` rounds of register-only FMAs; returns FLOPs done */
};

struct mg_isa {
    const char *name;
    int (*supported)(void);
    struct mg_gemm_kernels gemm[2];   /* by MG_F32, MG_F64 */
    void (*philox)(uint64_t key, uint64_t block, int64_t blocks, uint32_t *out);
    void (*uniform_f32)(int64_t n, const uint32_t *bits, float *out);
    void (*uniform_f64)(int64_t n, const uint32_t *bits, double *out);
    struct mg_elementwise_kernels elementwise[2];
    struct mg_reduce_kernels reduce[2];
    struct mg_update_kernels update[2];
    struct mg_sparse_kernels sparse[2];
};

const struct mg_isa *mg_table(void);   /* the table in use */

extern const struct mg_isa mg_isa_generic;
#if defined(__x86_64__)
extern const struct mg_isa mg_isa_avx2, mg_isa_avx512;
#endif

#endif
