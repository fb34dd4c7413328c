/* Filling arrays with random numbers: split the stream over threads; each chunk knows where it starts, so the
 * numbers do not depend on how many threads there are. */
#include "isa.h"
#include "pool.h"

enum { BLOCKS_PER_CHUNK = 16384, BUFFER = 1024 };

struct fill {
    uint64_t key, block;
    int64_t n;
    void *out;
    const struct mg_isa *isa;
    int words;                 /* per value; 0: raw words, one per value */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void fill_bits(const struct fill *f, int64_t begin, int64_t end) {   /* begin is a multiple of 4 */
    uint32_t *out = (uint32_t *)f->out + begin, rest[4];
    int64_t blocks = (end - begin) / 4, left = (end - begin) % 4;
    uint64_t block = f->block + (uint64_t)(begin / 4);
    f->isa->philox(f->key, block, blocks, out);
    if (left > 0) {
        f->isa->philox(f->key, block + (uint64_t)blocks, 1, rest);
        for (int64_t i = 0; i < left; i++) out[4 * blocks + i] = rest[i];
    }
}

static void fill_uniform(const struct fill *f, int64_t begin, int64_t end) {
    uint32_t buffer[BUFFER];
    const int64_t step = BUFFER / f->words;
    for (int64_t i = begin; i < end; i += step) {
        int64_t n = least(step, end - i);
        f->isa->philox(f->key, f->block + (uint64_t)(i * f->words / 4), (n * f->words + 3) / 4, buffer);
        if (f->words == 1) f->isa->uniform_f32(n, buffer, (float *)f->out + i);
        else f->isa->uniform_f64(n, buffer, (double *)f->out + i);
    }
}

static void chunk(void *arg, int c, int chunks) {
    const struct fill *f = arg;
    const int64_t per_chunk = BLOCKS_PER_CHUNK * 4 / (f->words ? f->words : 1);
    /* Several units per chunk when there are more units than an int can count. */
    const int64_t units = (f->n + per_chunk - 1) / per_chunk;
    const int64_t begin = units * c / chunks * per_chunk, end = least(f->n, units * (c + 1) / chunks * per_chunk);
    if (f->words == 0) fill_bits(f, begin, end);
    else fill_uniform(f, begin, end);
}

static int fill(uint64_t key, uint64_t block, int64_t n, void *out, int words) {
    if (n < 0 || n > INT64_MAX / 64) return MG_ESIZE;
    struct fill f = {key, block, n, out, mg_table(), words};
    const int64_t per_chunk = BLOCKS_PER_CHUNK * 4 / (words ? words : 1);
    mg_parallel(chunk, &f, (int)least((n + per_chunk - 1) / per_chunk, 1024));
    return MG_OK;
}

int mg_random_bits(uint64_t key, uint64_t block, int64_t n, uint32_t *out) { return fill(key, block, n, out, 0); }
int mg_random_uniform_f32(uint64_t key, uint64_t block, int64_t n, float *out) { return fill(key, block, n, out, 1); }
int mg_random_uniform_f64(uint64_t key, uint64_t block, int64_t n, double *out) { return fill(key, block, n, out, 2); }
