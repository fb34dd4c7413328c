/* What a thread that waits for another one needs: a pause that leaves the core to its neighbour, and a clock. */
#ifndef MG_WAIT_H
#define MG_WAIT_H

#include <stdint.h>
#include <time.h>

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline int64_t now(void) { /* nanoseconds */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
