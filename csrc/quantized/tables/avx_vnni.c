/* The integer kernels of the table avx2 where the processor multiplies and adds four bytes in one instruction. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avxvnni")
#endif
#include <immintrin.h>

#define QUANTIZED_SET mg_quantized_avx_vnni
#define QUANTIZED_NAME "vnni"
#define QUANTIZED_SUPPORTED __builtin_cpu_supports("avxvnni")
#define MG_AVX2 1
#define MG_VNNI 1
#define VBYTES 32
#include "../table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
