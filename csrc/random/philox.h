/* Philox4x32-10: a counter-based generator, random(key, i) for any i without a state to carry.
 *
 * Contract.   philox writes the blocks block .. block + blocks - 1 of the stream of `key`, four words each. Block i is
 *             the cipher of the counter (low word of i, high word of i, 0, 0) under the key (low word, high word); its
 *             words are out[0..3] in order. The counter wraps after 2^64 blocks.
 * Source.     Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011; the constants and the
 *             known answers in the tests are those of the paper's library, Random123.
 * Budget.     Each of the four words of a block lives in a 64-bit lane, so VBYTES / 8 blocks run side by side, and
 *             GROUPS of them hide the latency of the multiply. Only the low halves of the lanes count until the end:
 *             the widening multiply ignores the high ones. */
enum { PHILOX_ROUNDS = 10, LANES = VBYTES / 8, GROUPS = 4 };

typedef uint64_t words __attribute__((vector_size(VBYTES)));

/* The product of the low halves, lane by lane. */
#if defined(MG_AVX512)
ALWAYS_INLINE words multiply_low(words x, words y) { return (words)_mm512_mul_epu32((__m512i)x, (__m512i)y); }
#elif defined(MG_AVX2)
ALWAYS_INLINE words multiply_low(words x, words y) { return (words)_mm256_mul_epu32((__m256i)x, (__m256i)y); }
#else
ALWAYS_INLINE words multiply_low(words x, words y) { return (x & 0xffffffffu) * (y & 0xffffffffu); }
#endif

/* The next GROUPS * LANES blocks. */
ALWAYS_INLINE void philox_step(uint64_t key, uint64_t block, uint32_t *out) {
    words x[GROUPS][4];
    const words m0 = (words){0} + 0xD2511F53u, m1 = (words){0} + 0xCD9E8D57u;
    UNROLL for (int g = 0; g < GROUPS; g++) {
        words lane = {0};
        UNROLL for (int i = 0; i < LANES; i++) lane[i] = (uint64_t)(g * LANES + i);
        x[g][0] = lane + block;
        x[g][1] = x[g][0] >> 32;
        x[g][2] = x[g][3] = (words){0};
    }
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        UNROLL for (int g = 0; g < GROUPS; g++) {
            words p0 = multiply_low(x[g][0], m0), p1 = multiply_low(x[g][2], m1);
            x[g][0] = (p1 >> 32) ^ x[g][1] ^ k0;
            x[g][1] = p1;
            x[g][2] = (p0 >> 32) ^ x[g][3] ^ k1;
            x[g][3] = p0;
        }
    UNROLL for (int g = 0; g < GROUPS; g++) {
        words first = (x[g][0] & 0xffffffffu) | x[g][1] << 32, second = (x[g][2] & 0xffffffffu) | x[g][3] << 32;
        UNROLL for (int i = 0; i < LANES; i++) {
            const uint64_t pair[2] = {first[i], second[i]};   /* little-endian: word 0 comes first in memory */
            __builtin_memcpy(out + 4 * (g * LANES + i), pair, sizeof pair);
        }
    }
}

static void philox(uint64_t key, uint64_t block, int64_t blocks, uint32_t *out) {
    enum { STEP = GROUPS * LANES };
    for (; blocks >= STEP; blocks -= STEP, block += STEP, out += 4 * STEP) philox_step(key, block, out);
    if (blocks > 0) {
        uint32_t rest[4 * STEP];
        philox_step(key, block, rest);
        __builtin_memcpy(out, rest, (size_t)blocks * 16);
    }
}

/* 24 random bits as a float in [0, 1): every value is exact. */
static void uniform_f32(int64_t n, const uint32_t *bits, float *out) {
    for (int64_t i = 0; i < n; i++) out[i] = (float)(int32_t)(bits[i] >> 8) * 0x1p-24f;
}

/* 53 random bits from two words as a double in [0, 1). */
static void uniform_f64(int64_t n, const uint32_t *bits, double *out) {
    for (int64_t i = 0; i < n; i++)
        out[i] = ((double)(int32_t)(bits[2 * i] >> 5) * 0x1p26 + (double)(int32_t)(bits[2 * i + 1] >> 6)) * 0x1p-53;
}
