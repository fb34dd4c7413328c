/* Step 3, pack and keep sums in registers: B is copied once into panels of NR columns, each contiguous in the
 * order in which it is read; then a tile of MR x NR sums is computed in local variables, and C is touched once per
 * KC multiply-adds instead of once per one. Panels are filled up with zeros, so that the tile code has no edges;
 * only its last lines do.
 *
 * The tile is plain C. The compiler sees the constant sizes and vectorises the loop over j with what the baseline
 * of this processor family has (128 bits on x86-64). */
#include "ladder.h"

#include <stdlib.h>

enum { MR = 4, NR = 8, KC = 256 };

static void tile(int64_t kc, int64_t rows, int64_t columns, const float *a, int64_t lda, const float *panel, float *c,
                 int64_t ldc) {
    float sum[MR][NR] = {{0}};
    for (int64_t p = 0; p < kc; p++)
        for (int64_t i = 0; i < MR; i++) {
            const float aip = a[(i < rows ? i : 0) * lda + p];   /* a row that does not exist repeats the first */
            for (int64_t j = 0; j < NR; j++) sum[i][j] += aip * panel[p * NR + j];
        }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) c[i * ldc + j] += sum[i][j];
}

int ladder_packed(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c) {
    float *panel = malloc(KC * NR * sizeof *panel);
    if (panel == NULL) return 1;
    for (int64_t i = 0; i < m * n; i++) c[i] = 0;
    for (int64_t p0 = 0; p0 < k; p0 += KC)
        for (int64_t j0 = 0; j0 < n; j0 += NR) {
            const int64_t kc = KC < k - p0 ? KC : k - p0, columns = NR < n - j0 ? NR : n - j0;
            for (int64_t p = 0; p < kc; p++)
                for (int64_t j = 0; j < NR; j++) panel[p * NR + j] = j < columns ? b[(p0 + p) * n + j0 + j] : 0;
            for (int64_t i0 = 0; i0 < m; i0 += MR)
                tile(kc, MR < m - i0 ? MR : m - i0, columns, a + i0 * k + p0, k, panel, c + i0 * n + j0, n);
        }
    free(panel);
    return 0;
}
