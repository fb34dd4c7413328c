/* The thread pool: run fn(arg, chunk) for chunk = 0 .. chunks-1, on this thread and on whoever is free to help. */
#ifndef MG_POOL_H
#define MG_POOL_H

typedef void (*mg_chunk_fn)(void *arg, int chunk, int chunks);

void mg_parallel(mg_chunk_fn fn, void *arg, int chunks);
int mg_num_threads(void);

#endif
