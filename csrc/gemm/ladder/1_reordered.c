/* Step 1, reorder: the loop over j goes innermost. The same multiplications, but B and C are now read along their
 * rows, and the additions of one row do not wait for each other: the compiler turns the loop into vector
 * instructions.
 *
 * What is left: for one multiply-add it loads an element of B and loads and stores one of C, so it runs at the
 * speed of the caches. Once B outgrows them, at the speed of memory. */
#include "ladder.h"

int ladder_reordered(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c) {
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) c[i * n + j] = 0;
        for (int64_t p = 0; p < k; p++) {
            const float aip = a[i * k + p];
            for (int64_t j = 0; j < n; j++) c[i * n + j] += aip * b[p * n + j];
        }
    }
    return 0;
}
