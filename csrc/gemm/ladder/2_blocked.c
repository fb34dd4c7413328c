/* Step 2, block: cut B into blocks of KC x NC that stay in the L2 cache, and use a block for all rows of A before
 * going on to the next. Memory traffic falls by the number of rows; the traffic with L1, one load and store of C
 * per multiply-add, stays. */
#include "ladder.h"

enum { KC = 256, NC = 512 };   /* 512 kB */

int ladder_blocked(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c) {
    for (int64_t i = 0; i < m * n; i++) c[i] = 0;
    for (int64_t j0 = 0; j0 < n; j0 += NC)
        for (int64_t p0 = 0; p0 < k; p0 += KC) {
            const int64_t j1 = j0 + NC < n ? j0 + NC : n, p1 = p0 + KC < k ? p0 + KC : k;
            for (int64_t i = 0; i < m; i++)
                for (int64_t p = p0; p < p1; p++) {
                    const float aip = a[i * k + p];
                    for (int64_t j = j0; j < j1; j++) c[i * n + j] += aip * b[p * n + j];
                }
        }
    return 0;
}
