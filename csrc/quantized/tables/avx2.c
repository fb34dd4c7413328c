/* The integer kernels of the table avx2 for every processor that runs it. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include <immintrin.h>

#define QUANTIZED_SET mg_quantized_avx2
#define QUANTIZED_NAME "plain"
#define QUANTIZED_SUPPORTED 1
#define MG_AVX2 1
#define VBYTES 32
#include "../table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
