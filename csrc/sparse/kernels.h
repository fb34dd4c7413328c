/* What a table holds for the edges of a graph; the fields of one element type. See sparse/edges.h. */
#ifndef MG_SPARSE_KERNELS_H
#define MG_SPARSE_KERNELS_H
#include <stdint.h>

struct mg_edge_kernels {
    /* rows begin .. end - 1; all arrays are row-major, (nonzeros or nodes, heads, features) */
    void (*spmm)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *columns, const void *values, const void *x,
                 int64_t heads, int64_t features, void *y);
    void (*sddmm)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *columns, const void *left,
                  const void *right, int64_t heads, int64_t features, void *values);
    void (*max)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *columns, const void *x, int64_t features,
                void *y);
    void (*softmax)(int64_t begin, int64_t end, const int32_t *starts, const int32_t *places, const void *x, int64_t width,
                    void *y);
};

#endif
