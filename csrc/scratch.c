#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "scratch.h"

#include <pthread.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

struct block {
    void *memory;
    size_t bytes;
};

static _Thread_local struct block mine;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void release(void *memory) { free(memory); }
static void make_key(void) { pthread_key_create(&key, release); }

void *mg_scratch(size_t bytes) {
    enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };
    if (bytes == 0) bytes = 1;   /* NULL means that there is no memory */
    if (bytes <= mine.bytes) return mine.memory;
    if (bytes > SIZE_MAX / 2) return NULL;
    const size_t align = bytes >= HUGE_PAGE / 2 ? HUGE_PAGE : PAGE;
#if !defined(__SANITIZE_ADDRESS__)   /* there, the length is exact: what lies behind it is watched */
    bytes = mg_round_up(bytes, align);
#endif
    void *memory;
    if (posix_memalign(&memory, align, bytes) != 0) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (align == HUGE_PAGE) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    free(mine.memory);
    mine = (struct block){memory, bytes};
    pthread_once(&once, make_key);
    pthread_setspecific(key, memory);   /* so that `release` runs when this thread ends */
    return memory;
}
