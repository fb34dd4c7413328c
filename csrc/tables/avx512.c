/* The table for x86-64-v4: 512-bit vectors with masks. Thirty-two registers: 14 x 2 accumulators, two vectors of
 * B, one broadcast of A, one spare. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>

#define MG_TABLE mg_isa_avx512
#define MG_TABLE_NAME "avx512"
#define MG_TABLE_SUPPORTED (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && \
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
#define MG_AVX512 1
#define VBYTES 64
#define MR 14
#define NV 2
#define OUTER_ROWS 12
#define FOR_EACH_OUTER_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define FOR_EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define KC 512
#define NC 1024
#define MG_QUANTIZED &mg_quantized_avx512, &mg_quantized_avx512_vnni
#include "../table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
