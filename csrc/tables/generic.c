/* The table for any processor: 128-bit vectors, which gcc and clang map to SSE2, NEON or plain scalars. */
#define MG_TABLE mg_isa_generic
#define MG_TABLE_NAME "generic"
#define MG_TABLE_SUPPORTED 1
#define VBYTES 16
#define MR 4
#define NV 2
#define OUTER_ROWS 4
#define FOR_EACH_OUTER_ROW_COUNT(X) X(1) X(2) X(3) X(4)
#define FOR_EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4)
#define KC 256
#define NC 512
#define MG_QUANTIZED &mg_quantized_generic
#include "../table.h"
