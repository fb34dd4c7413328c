/* Step 3, pack and keep sums in registers: B is copied into panels of NR columns, and A into slivers of MR rows, each
 * contiguous in the order in which it is read; then a tile of MR x NR sums is computed in local variables, and C is
 * touched once per KC multiply-adds instead of once per one. Panels and slivers are filled up with zeros, so that the
 * tile code has no edges; only its last lines do.
 *
 * A sliver (4 kB) stays in the L1 cache while all panels of B pass by. The tile is plain C. Unrolled, its sums become
 * registers, as wide as the baseline of this processor family has them (128 bits on x86-64); from here on arithmetic
 * of that width is the limit, not memory. */
#include "ladder.h"

#include <stdlib.h>

enum { MR = 4, NR = 8, KC = 256 };

static void tile(int64_t kc, int64_t rows, int64_t columns, const float *sliver, const float *panel, float *c, int64_t ldc) {
    float sum[MR][NR] = {{0}};
    for (int64_t p = 0; p < kc; p++) {
        _Pragma("GCC unroll 4") for (int i = 0; i < MR; i++)
            _Pragma("GCC unroll 8") for (int j = 0; j < NR; j++) sum[i][j] += sliver[p * MR + i] * panel[p * NR + j];
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) c[i * ldc + j] += sum[i][j];
}

int ladder_packed(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c) {
    const int64_t panels = (n + NR - 1) / NR;
    float *packed = malloc((size_t)(panels * NR + MR) * KC * sizeof *packed);
    if (packed == NULL) return 1;
    float *sliver = packed + panels * NR * KC;
    for (int64_t i = 0; i < m * n; i++) c[i] = 0;
    for (int64_t p0 = 0; p0 < k; p0 += KC) {
        const int64_t kc = KC < k - p0 ? KC : k - p0;
        for (int64_t j0 = 0; j0 < n; j0 += NR)
            for (int64_t p = 0; p < kc; p++)
                for (int64_t j = 0; j < NR; j++)
                    packed[j0 * KC + p * NR + j] = j0 + j < n ? b[(p0 + p) * n + j0 + j] : 0;
        for (int64_t i0 = 0; i0 < m; i0 += MR) {
            for (int64_t i = 0; i < MR; i++)
                for (int64_t p = 0; p < kc; p++) sliver[p * MR + i] = i0 + i < m ? a[(i0 + i) * k + p0 + p] : 0;
            for (int64_t j0 = 0; j0 < n; j0 += NR)
                tile(kc, MR < m - i0 ? MR : m - i0, NR < n - j0 ? NR : n - j0, sliver, packed + j0 * KC,
                     c + i0 * n + j0, n);
        }
    }
    free(packed);
    return 0;
}
