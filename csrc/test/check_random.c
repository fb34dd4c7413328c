/* Random numbers: known words, every length, and the same stream wherever it is cut. */
#include "check.h"

static void of_length(int64_t n, const uint32_t *words) {
    static const uint32_t known[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    uint32_t *x = space((size_t)n * 4);
    float *f = space((size_t)n * 4);
    double *d = space((size_t)n * 8);
    CHECK(mg_random_bits(0, 0, n, x) == MG_OK && mg_random_uniform_f32(0, 0, n, f) == MG_OK &&
          mg_random_uniform_f64(7, 1, n, d) == MG_OK, "status");
    for (int64_t i = 0; i < n; i++) {
        CHECK((i > 3 || x[i] == known[i]) && x[i] == words[i], "word %ld", (long)i);
        CHECK(f[i] >= 0 && f[i] < 1 && fabs(f[i] - x[i] * 0x1p-32) < 1e-7, "float %ld", (long)i);
        CHECK(d[i] >= 0 && d[i] < 1, "double %ld", (long)i);
    }
    drop(x), drop(f), drop(d);
}

void check_random(void) {
    enum { MOST = 3 * 65536 + 5 };
    uint32_t *words = space(MOST * 4);
    CHECK(mg_set_isa("generic") == MG_OK, "table");
    for (int64_t i = 0; i < MOST; i += 4096)   /* in pieces */
        CHECK(mg_random_bits(0, (uint64_t)i / 4, MOST - i < 4096 ? MOST - i : 4096, words + i) == MG_OK, "status");
    FOR_EACH_SETTING {
        for (int64_t n = 0; n < (RACES ? 0 : 140); n++) of_length(n, words);
        of_length(1025, words);
        of_length(MOST, words);
    }
    drop(words);
}
