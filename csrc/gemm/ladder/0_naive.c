/* Step 0, the definition: c[i][j] = sum over p of a[i][p] * b[p][j].
 *
 * The innermost loop walks down a column of B: every step is another cache line, of which it uses 4 bytes of 64.
 * And the sum is one chain of additions, each waiting for the one before. */
#include "ladder.h"

int ladder_naive(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = 0;
            for (int64_t p = 0; p < k; p++) sum += a[i * k + p] * b[p * n + j];
            c[i * n + j] = sum;
        }
    return 0;
}
