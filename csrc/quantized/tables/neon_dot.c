/* The integer kernels of the table neon where the processor multiplies and adds four bytes in one instruction (Armv8.4, and
 * most since Armv8.2). */
#if defined(__aarch64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#define QUANTIZED_SET mg_quantized_neon_dot
#define QUANTIZED_NAME "dot"
#if defined(__linux__)
#define QUANTIZED_SUPPORTED ((getauxval(AT_HWCAP) & (1 << 20)) != 0)   /* HWCAP_ASIMDDP */
#elif defined(__APPLE__)
#define QUANTIZED_SUPPORTED 1
#else
#define QUANTIZED_SUPPORTED 0
#endif
#define MG_SDOT 1
#define VBYTES 16
#include "../table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
