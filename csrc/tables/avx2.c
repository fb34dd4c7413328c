/* The table for x86-64-v3: 256-bit vectors and fused multiply-add. Sixteen registers: 6 x 2 accumulators, two vectors
 * of B, one broadcast of A, one spare. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include <immintrin.h>

#define MG_TABLE mg_isa_avx2
#define MG_TABLE_NAME "avx2"
#define MG_TABLE_SUPPORTED (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#define MG_AVX2 1
#define VBYTES 32
#define MR 6
#define NV 2
#define OUTER_ROWS 5
#define FOR_EACH_OUTER_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5)
#define FOR_EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define KC 256
#define NC 1024
#define MG_QUANTIZED &mg_quantized_avx2, &mg_quantized_avx_vnni
#include "../table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
