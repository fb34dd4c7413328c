/* What the product and the convolution of quantized arrays share. */
#ifndef MG_QUANTIZED_GEMM_H
#define MG_QUANTIZED_GEMM_H
#include "kernels.h"

enum { MG_QUANTIZED_PARALLEL = 4000000 };   /* operations below which waking another thread costs more than it saves */

/* rows x columns of C, from the tile at the first of both (its c, bias and what follows included). */
void mg_quantized_block(const struct mg_quantized_kernels *kn, const struct mg_quantized_tile *first, int64_t rows,
                        int64_t columns);

#endif
