/* Step 4, vectorise: the same loops around the microkernel of the table in use (gemm/tile.h), which spells the
 * tile out in vectors: on AVX-512, 14 x 32 sums in 28 of the 32 registers, 28 multiply-adds for 16 loads. The
 * processor is now busy multiplying; this is most of the way.
 *
 * What the real one adds (gemm/gemm.c): packing A where its rows collide in the cache, packing B while computing,
 * even tiles, transposes, batches, epilogues. */
#include "isa.h"
#include "ladder.h"
#include "scratch.h"

#include <string.h>

int ladder_vectorised(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c) {
    const struct mg_gemm_kernels *kn = &mg_table()->gemm[MG_F32];
    const int64_t kc_most = kn->kc, nr = kn->nr, mr = kn->mr;
    float *panel = mg_scratch((size_t)(kc_most * nr) * sizeof *panel);
    if (panel == NULL) return MG_ENOMEM;
    if (k == 0) memset(c, 0, (size_t)(m * n) * sizeof *c);
    for (int64_t p0 = 0; p0 < k; p0 += kc_most)
        for (int64_t j0 = 0; j0 < n; j0 += nr) {
            const int64_t kc = kc_most < k - p0 ? kc_most : k - p0, columns = nr < n - j0 ? nr : n - j0;
            memset(panel, 0, (size_t)(kc * nr) * sizeof *panel);
            for (int64_t p = 0; p < kc; p++)
                memcpy(panel + p * nr, b + (p0 + p) * n + j0, (size_t)columns * sizeof *panel);
            const int64_t vectors = (columns + kn->vl - 1) / kn->vl;
            for (int64_t i0 = 0; i0 < m; i0 += mr) {
                const int64_t rows = mr < m - i0 ? mr : m - i0;
                const struct mg_tile t = {.k = kc, .a = a + i0 * k + p0, .rsa = k, .csa = 1, .b = panel, .rsb = nr,
                                          .c = c + i0 * n + j0, .rsc = n, .alpha = 1, .beta = p0 > 0,
                                          .tail = (int)(columns % kn->vl)};
                kn->tile[((rows - 1) * kn->nv + vectors - 1) * MG_TILE_VARIANTS + (t.tail ? MG_TILE_TAIL : 0)](&t);
            }
        }
    return MG_OK;
}
