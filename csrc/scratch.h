/* Scratch memory of a thread: one block that grows, is reused by every kernel and is freed when the thread ends. */
#ifndef MG_SCRATCH_H
#define MG_SCRATCH_H
#include <stddef.h>
#include <stdint.h>

enum { MG_LINE = 64 };   /* bytes of a cache line: every part of the scratch starts on one */

/* At least `bytes` bytes, aligned to a page; contents undefined. NULL when there is no memory. Valid until the
 * next call on this thread; a call that asks for no more is given the same block, contents and all (conv/ relies on it). */
void *mg_scratch(size_t bytes);

static inline size_t mg_round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

#endif
