/* One table of kernels, from the constants that a file in tables/ defines. No include guard: it is included once per
 * table, each time compiled for another instruction set. */
#include "isa.h"

#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 16")
#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)

#define REAL float
#define TYPE f32
#define FN(name) PASTE(name, f32)
#define REAL_IS_FLOAT 1
#define VL (VBYTES / 4)
#include "vec.h"
#include "gemm/tile.h"
#include "gemm/pack.h"
#include "conv/stencil.h"
#include "conv/plane.h"
#include "conv/columns.h"
#include "conv/pool2d.h"
#include "conv/transform.h"
#undef REAL
#undef TYPE
#undef FN
#undef REAL_IS_FLOAT
#undef VL

#define REAL double
#define TYPE f64
#define FN(name) PASTE(name, f64)
#define REAL_IS_FLOAT 0
#define VL (VBYTES / 8)
#include "vec.h"
#include "gemm/tile.h"
#include "gemm/pack.h"
#include "conv/stencil.h"
#include "conv/plane.h"
#include "conv/columns.h"
#include "conv/pool2d.h"
#include "conv/transform.h"
#undef REAL
#undef TYPE
#undef FN
#undef REAL_IS_FLOAT
#undef VL

#include "random/philox.h"

/* Elementwise maths, float64 first: some float32 functions pass through it. */
#define REAL double
#define TYPE f64
#define FN(name) PASTE(name, f64)
#define REAL_IS_FLOAT 0
#define VL (VBYTES / 8)
#include "elementwise/maths.h"
#include "elementwise/steps.h"
#include "reduce/rows.h"
#include "optimizer/updates.h"
#include "sparse/rows.h"
#include "sparse/edges.h"
#undef REAL
#undef TYPE
#undef FN
#undef REAL_IS_FLOAT
#undef VL

#define REAL float
#define TYPE f32
#define FN(name) PASTE(name, f32)
#define REAL_IS_FLOAT 1
#define VL (VBYTES / 4)
#include "elementwise/maths.h"
#include "elementwise/steps.h"
#include "reduce/rows.h"
#include "optimizer/updates.h"
#include "sparse/rows.h"
#include "sparse/edges.h"
#undef REAL
#undef TYPE
#undef FN
#undef REAL_IS_FLOAT
#undef VL

#define ELEMENTWISE_KERNELS(T)                                                                                     \
    {.steps = steps_##T, .chains = chains_##T, .from_bool = from_bool_##T, .to_bool = to_bool_##T, .stream = stream_##T}

#define REDUCE_KERNELS(T) {                                                                                        \
    .row = row_reduce_##T, .rows = rows_reduce_##T, .columns = columns_reduce_##T, .places = rows_places_##T,         \
    .column_places = columns_places_##T,                                                                             \
    .softmax = row_softmax_##T, .log_softmax = row_log_softmax_##T, .softmax_grad = row_softmax_grad_##T,             \
    .log_softmax_grad = row_log_softmax_grad_##T, .scale = row_scale_##T, .softmax_columns = softmax_columns_##T,     \
    .loss_columns = loss_columns_##T,                                                                                \
    .softmax_grad_columns = softmax_grad_columns_##T, .moments = row_moments_##T, .normalize = row_normalize_##T,     \
    .rows_moments = rows_moments_##T, .rows_normalize_sums = rows_normalize_sums_##T,                                 \
    .normalize_sums = row_normalize_sums_##T, .normalize_grad = row_normalize_grad_##T}

static int supported(void) { return MG_TABLE_SUPPORTED; }

#define GEMM_KERNELS(T, REAL) {                                                                                    \
    .size = sizeof(REAL), .vl = VBYTES / sizeof(REAL), .mr = MR, .nv = NV, .nr = NV * VBYTES / sizeof(REAL),          \
    .kc = KC * sizeof(float) / sizeof(REAL), .nc = NC, .wide = WIDE,                                                  \
    .tile = tiles_##T, .wide_tile = tile_1_8_0_##T,                                                                   \
    .transpose = transpose_##T, .copy_panels = copy_panels_##T, .rows_dot = rows_dot_##T, .probe = probe_##T}

#define CONV_KERNELS(T) {                                                                                          \
    .registers = MR * NV, .outer_rows = OUTER_ROWS, .stencil = stencils_##T, .outer = outers_##T,                    \
    .dots = dots_kernels_##T, .sum_partials = sum_partials_##T,                               \
    .single = single_##T, .plane = plane_##T, .plane_dots = plane_dots_##T, .columns = columns_kernels_##T,                    \
    .copy_rows = copy_rows_##T, .place_rows = place_rows_##T, .split_rows = split_rows_##T, .zip_rows = zip_rows_##T,                               \
    .winograd_in = winograd_in_##T, .winograd_out = winograd_out_##T, .winograd_weights = winograd_weights_##T,      \
    .winograd_grad_in = winograd_grad_in_##T, .winograd_grad_out = winograd_grad_out_##T, .turn_in = turn_in_##T,        \
    .turn_out = turn_out_##T}

#define POOL_KERNELS(T) {                                                                                          \
    .max_windows = max_windows_##T, .max_squares = max_squares_##T, .sum_windows = sum_windows_##T, .sum_planes = sum_planes_##T, .repeat = repeat_##T, \
    .spread_row = spread_row_##T, .times_row = times_row_##T, .scatter = scatter_##T}

#define EDGE_KERNELS(T)                                                                                            \
    {.spmm = edges_spmm_##T, .sddmm = edges_sddmm_##T, .max = edges_max_##T, .softmax = edges_softmax_##T}

const struct mg_isa MG_TABLE = {
    .name = MG_TABLE_NAME,
    .supported = supported,
    .gemm = {GEMM_KERNELS(f32, float), GEMM_KERNELS(f64, double)},
    .conv = {CONV_KERNELS(f32), CONV_KERNELS(f64)},
    .pool = {POOL_KERNELS(f32), POOL_KERNELS(f64)},
    .philox = philox,
    .uniform_f32 = uniform_f32,
    .uniform_f64 = uniform_f64,
    .elementwise = {ELEMENTWISE_KERNELS(f32), ELEMENTWISE_KERNELS(f64)},
    .reduce = {REDUCE_KERNELS(f32), REDUCE_KERNELS(f64)},
    .update = {{sgd_f32, adam_f32}, {sgd_f64, adam_f64}},
    .sparse = {{spmm_f32, row_add_f32}, {spmm_f64, row_add_f64}},
    .edges = {EDGE_KERNELS(f32), EDGE_KERNELS(f64)},
    .quantized = {MG_QUANTIZED},
};
