/* One set of integer kernels, from VBYTES and what a file in tables/ defines: QUANTIZED_SET and QUANTIZED_NAME, whether it
 * is SUPPORTED, MG_VNNI where the dot product is an instruction, rows of a tile. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 16")
#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)

#define TYPE q8
#define FN(name) PASTE(name, q8)
#define VL (VBYTES / 4)
#define NV 2
#if defined(MG_VNNI) && VBYTES == 64
#define MR 14
#define FOR_EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#elif VBYTES == 64 || defined(MG_SDOT)
#define MR 12
#define FOR_EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#elif defined(MG_VNNI)
#define MR 6
#define FOR_EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define MR 4
#define FOR_EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4)
#endif
#include "dot.h"
#include "tile.h"
#include "rows.h"

static int FN(supported)(void) { return QUANTIZED_SUPPORTED; }

const struct mg_quantized_kernels QUANTIZED_SET = {
    .name = QUANTIZED_NAME, .supported = FN(supported), .vl = VL, .mr = MR, .nv = NV,
    .tile = FN(quantized_tiles), .row = FN(quantized_row), .quantize = FN(quantize), .dequantize = FN(dequantize),
    .signed_times = FN(signed_times), .range = FN(range), .add = FN(add), .max_windows = FN(max_windows),
    .mean_window = FN(mean_window), .copy_runs = FN(copy_runs), .depthwise = FN(depthwise), .weight_only = FN(weight_only),
};
