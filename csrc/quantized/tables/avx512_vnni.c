/* The integer kernels of the table avx512 where the processor multiplies and adds four bytes in one instruction. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>

#define QUANTIZED_SET mg_quantized_avx512_vnni
#define QUANTIZED_NAME "vnni"
#define QUANTIZED_SUPPORTED __builtin_cpu_supports("avx512vnni")
#define MG_AVX512 1
#define MG_VNNI 1
#define VBYTES 64
#include "../table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
