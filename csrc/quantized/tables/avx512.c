/* The integer kernels of the table avx512 for every processor that runs it. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>

#define QUANTIZED_SET mg_quantized_avx512
#define QUANTIZED_NAME "plain"
#define QUANTIZED_SUPPORTED 1
#define MG_AVX512 1
#define VBYTES 64
#include "../table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
