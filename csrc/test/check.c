/* The kernels without Python, for the sanitizers.
 *
 * Every function of minigrad.h runs on every table that this processor has, in float32 and float64, on one thread and on
 * two, at awkward sizes, in buffers of exactly the right length, and is compared with plain loops in double. The results of
 * one and of two threads must agree bit by bit. Then the pool: see check_threads.c. */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

/* --- memory ------------------------------------------------------------------------------------------------------------ */

struct stretch {   /* lies before the bytes that are handed out */
    char *base;
    size_t length;
};

void *space(size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t room = (bytes + sizeof(struct stretch) + page - 1) / page * page;
    char *base = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(base != MAP_FAILED && mprotect(base + room, page, PROT_NONE) == 0, "memory");
    char *p = base + room - bytes;
    const struct stretch s = {base, room + page};
    memcpy(p - sizeof s, &s, sizeof s);
    ASAN_POISON_MEMORY_REGION(base, room - bytes);
    blank(p, bytes);
    return p;
}

void drop(void *p) {
    struct stretch s;
    ASAN_UNPOISON_MEMORY_REGION((char *)p - sizeof s, sizeof s);
    memcpy(&s, (char *)p - sizeof s, sizeof s);
    ASAN_UNPOISON_MEMORY_REGION(s.base, s.length);
    munmap(s.base, s.length);
}

/* --- numbers ----------------------------------------------------------------------------------------------------------- */

static uint64_t next(void) {
    static _Thread_local uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 40;
}

double draw(void) { return (double)(int)(next() & 1023) / 512 - 1; }
int64_t pick(int64_t low, int64_t high) { return low + (int64_t)(next() % (uint64_t)(high - low + 1)); }

void *fresh(int type, int64_t n) {
    void *x = numbers(type, n);
    for (int64_t i = 0; i < n; i++) put(type, x, i, draw());
    return x;
}

void *copy_of(int type, int64_t n, const void *x) {
    void *y = numbers(type, n);
    memcpy(y, x, (size_t)n * size_of(type));
    return y;
}

int near(int type, double x, double y, double tolerance) {
    if (type == MG_F32) y = (double)(float)y;
    if (isnan(y)) return isnan(x);
    if (isinf(y)) return x == y;
    return fabs(x - y) <= tolerance;
}

/* --- settings ---------------------------------------------------------------------------------------------------------- */

int setting(int r) {
    const int ways = RACES ? 1 : 2;
    const char *name = mg_isa_at(r / ways);
    if (name == NULL) return 0;
    CHECK(mg_set_isa(name) == MG_OK, "%s", name);
    mg_set_num_threads(RACES ? 2 : 1 + r % 2);
    return 1;
}

void same_bits(void *first, const void *y, size_t bytes, const char *what) {
    if (mg_num_threads() == 1) memcpy(first, y, bytes);
    else if (!RACES) CHECK(memcmp(first, y, bytes) == 0, "%s: not the bits of one thread", what);
}

struct lonely {
    void (*f)(const void *arg);
    const void *arg;
};
static void *begin(void *p) {
    const struct lonely *l = p;
    l->f(l->arg);
    return NULL;
}
void alone(void (*f)(const void *arg), const void *arg) {
    struct lonely l = {f, arg};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, begin, &l) == 0 && pthread_join(thread, NULL) == 0, "a thread");
}

int main(int argc, char **argv) {   /* all checks, or those that are named */
    static const struct {
        const char *name;
        void (*check)(void);
    } all[] = {{"gemm", check_gemm},         {"random", check_random},         {"conv", check_conv},
               {"pool2d", check_pool2d},     {"elementwise", check_elementwise}, {"reduce", check_reduce},
               {"softmax", check_softmax},   {"standardize", check_standardize}, {"optimizer", check_optimizer},
               {"sparse", check_sparse},     {"edges", check_edges},           {"program", check_program},
               {"group", check_group},       {"quantized", check_quantized},     {"threads", check_threads}};
    printf("tables:");
    for (int i = 0; mg_isa_at(i) != NULL; i++) printf(" %s", mg_isa_at(i));
    printf("\n");
    for (int i = 0; i < COUNT(all); i++) {
        int wanted = argc == 1;
        for (int a = 1; a < argc; a++) wanted |= strcmp(argv[a], all[i].name) == 0;
        if (!wanted) continue;
        struct timespec t0, t1;
        clock_gettime(CLOCK_MONOTONIC, &t0);
        all[i].check();
        clock_gettime(CLOCK_MONOTONIC, &t1);
        printf("%-12s fine  %5.1f s\n", all[i].name, (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec));
        fflush(stdout);
    }
    CHECK(mg_set_isa("nonsense") == MG_EISA, "an unknown table");
    return 0;
}
