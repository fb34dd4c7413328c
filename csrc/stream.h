/* Writing past the caches.
 *
 * An ordinary store to memory first reads the line that it writes to; a streaming store does not, and leaves the caches to
 * others. But whoever reads the result next then finds it in memory only. Measured with 32 MB of last-level cache: a call
 * that reads and writes 16 MB in all is half as fast if its result is streamed and read at once; from about 24 MB on the
 * start of the result is gone when the call ends, so streaming costs the reader nothing, and the call takes as little as
 * half the time. */
#ifndef MG_STREAM_H
#define MG_STREAM_H
#if defined(__SSE2__)
#include <emmintrin.h>
#define mg_stream_fence() _mm_sfence()   /* after the last streaming store of a chunk */
#else
#define mg_stream_fence() ((void)0)
#endif

enum { MG_STREAM_BYTES = 24 << 20 };     /* a call that reads and writes so much streams its results */

#endif
