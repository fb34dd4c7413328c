/* The table for 64-bit ARM: 128-bit vectors, multiply-adds, thirty-two registers: 12 x 2 accumulators, two vectors of B, one
 * broadcast of A. NEON belongs to every such processor, and the compilers map vector extensions to it by themselves. */
#if defined(__aarch64__)
#define MG_TABLE mg_isa_neon
#define MG_TABLE_NAME "neon"
#define MG_TABLE_SUPPORTED 1
#define VBYTES 16
#define MR 12
#define NV 2
#define OUTER_ROWS 12
#define FOR_EACH_OUTER_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define FOR_EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define KC 256
#define NC 512
#define MG_QUANTIZED &mg_quantized_generic, &mg_quantized_neon_dot
#include "../table.h"
#endif
