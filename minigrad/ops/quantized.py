"""Arithmetic in eight bits: the operations of a quantized network, each with its exact rule.

**Numbers.**  A real r is stored as a *code* q, an integer, by a scale s and a zero point z (Jacob et al.
2018, equation 1):

    r = s (q - z)            activations: uint8 codes, z in 0..255
    r = s q                  weights:     int8 codes in -127..127, z = 0, one s for every output channel

Zero has an exact code, so padding costs nothing.  With weights that are symmetric only one correction is
left in a product, and integers never overflow: |q - z| <= 255, |w| <= 127 and K <= 65,536 terms give a sum
below 2**31,

    acc[j] = sum over k of (x[k] - z_x) w[j, k]  +  bias[j]              exactly, in 32 bits

where the bias has the scale s_x s_w[j] of the sum (a sum with a bias that leaves 32 bits wraps around).

**Back to eight bits** (equation 4 there), with m[j] = s_x s_w[j] / s_y:

    y = clamp(rint(float32(acc[j]) m[j]) + z_y, lo, hi)

one conversion (round to nearest even), one float32 multiplication, `rint` with halves to even, and a clamp
to lo..hi within 0..255, which is also what a relu (lo = z_y) or relu6 costs: nothing.  Jacob et al. multiply
by a 32-bit fixed-point number, as their phones had slow floats.  Every CPU that runs this has float32
lanes; a float multiplication is as deterministic as an integer one, since IEEE 754 defines its every bit,
takes any positive m without a shift to normalise, and is a single instruction.  The rule has no sum of
floats, so no order and no fused multiply-add can change it: **numpy, generic C and every vector unit give
the same bits**, for any number of threads.  Where a layer's result is wanted in floats,

    y = float32(acc[j]) m[j] + bias[j],  then clamp to lo..hi (y <= lo ? lo : y;  y >= hi ? hi : y)

is two float32 operations, each rounded (no fused multiply-add), m[j] = s_x s_w[j], and a float bias.

    >>> import minigrad as mg
    >>> x = quantize(mg.tensor([-1.0, 0.0, 0.26, 900.0]), 0.5, 2)
    >>> x
    tensor([  0,   2,   3, 255], dtype=uint8)
    >>> dequantize(x, 0.5, 2)
    tensor([ -1. ,   0. ,   0.5, 126.5])

**Not a number.**  Codes have no NaN.  `quantize` makes NaN the code 0, the lowest: defined, the same
everywhere, and free.  Calibration refuses NaN (`minigrad.quantization`), and an activation whose range is
found at run time (`quantize_rows`) marks the whole row, so that its results are NaN.

**Images** are channels-last, (batch, height, width, channels): all channels of a pixel are one run of bytes,
which is what the dot-product instructions eat.  Weights are (out, height, width, in / groups), the same run.

**Panels.**  A product reads its weights over and over, so they are laid out once as the kernels want them:
`pack_panels` makes of a matrix (out, k) panels of 16 outputs, and in them, for every four steps of k, the
four bytes of each output next to each other, which is what fills the lanes of a dot-product instruction.
Before them stand the sums over k, 16 int32: with sum (x - z) w = sum x w - z sum w, the zero point costs
nothing.  The array is int8 (panels, 1 + k / 4, 16, 4), padded with zeros; it is the same for every CPU, so it
is data like any other, and nothing has to be packed when a program runs.

**At run time.**  `quantize_rows` finds the range of each row (not of the whole tensor: then the result of
an example would depend on its neighbours in the batch) and packs it before the codes, as block formats of
language models do:

    bytes 0..3: scale, a float32     bytes 4..7: zero point, an int32     bytes 8..: the codes

so that one value carries all of it and layers of one input share the work.

Concatenation, reshaping and transposing move codes and need no operations of their own: `cat` of uint8, if
its inputs have one scale.  An activation function of one 8-bit number has 256 values, which is a table.

References: Jacob et al. 2018 (arXiv 1712.05877); Krishnamoorthi 2018 (arXiv 1806.08342), for per-channel
weights.  Left out: int4 and lower, whose arithmetic no CPU here has; activations per channel, whose scales
do not leave the sum.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..bind import primitive
from ..errors import ArgumentError, DTypeError, OutOfRangeError, Refusal
from ..ir import Shape, Spec, float32, int8, int32, is_float, uint8
from ..memory import room
from ..tensor import Tensor
from .convolution import Borders, Pair, _places, _pool_places, _starts, _windows
from .creation import ones, zeros
from .elementwise import where
from .indexing import _index_select, index_add
from .movement import _reshape
from .reduction import _sum

#: The longest sum that cannot leave 32 bits: 255 * 127 * 65,536 < 2**31.
LONGEST = 65_536
#: Bytes before the codes of a row of `quantize_rows`.
HEADER = 8
#: Sums of this many products of codes are exact in float32: 255 * 127 * 512 < 2**24.
_EXACT = 512

# -- what all of them check ------------------------------------------------------------------------


def _dtype(name: str, spec: Spec, wanted: Any) -> None:
    if spec.dtype != wanted:
        raise Refusal(f"{name} has dtype {spec.dtype}, not {wanted}", "quantize it first", DTypeError)


def _float(name: str, spec: Spec) -> None:
    if not is_float(spec.dtype):
        raise Refusal(f"{name} has dtype {spec.dtype}", "it must be floating point", DTypeError)


def _code(name: str, *values: int) -> None:
    for value in values:
        if not 0 <= value <= 255:
            raise Refusal(f"{name} {value} is no code", "it must be in 0..255", ArgumentError)


def _scale(*values: float) -> None:
    for value in values:
        if not (value > 0 and math.isfinite(value)):
            raise Refusal(f"a scale of {value}", "it must be positive and finite", ArgumentError)


def _vector(name: str, spec: Spec, size: int) -> None:
    if spec.shape != (size,):
        raise Refusal(f"{name} has shape {spec.shape}", f"it must be ({size},), one for each output channel")


def _depth(count: int) -> None:
    if count > LONGEST:
        raise Refusal(f"{count} products for each output", f"at most {LONGEST} are sure to fit into 32 bits")


def _spec(array: Any) -> Spec:
    return Spec(array.shape, array.dtype)


# -- panels of weights -----------------------------------------------------------------------------

#: Outputs of a panel, and steps of k that are together.
PANEL, QUAD = 16, 4


def _is_depthwise(groups: int, out: int, each: int) -> bool:
    """Whether each output has an input of its own: then all are packed as one matrix (out, taps)."""
    return groups == out and each == 1


def _panels_shape(groups: int, out: int, taps: int, each: int) -> Shape:
    """The shape of the panels of weights (out, taps, each), out and each in `groups`."""
    if _is_depthwise(groups, out, each):
        groups = 1
    panels = groups * -(-(out // groups) // PANEL)
    return (panels, 1 + -(-(taps * each) // QUAD), PANEL, QUAD)


def pack_panels(weight: Any, groups: int = 1) -> Any:
    """The panels of int8 weights, an array (out, k) or (out, height, width, in / groups). See the module.

    groups: of a convolution; each has panels of its own, but a depthwise convolution (in / groups == 1 and
    groups == out) has those of the matrix (out, height * width).  The array begins at a cache line.
    """
    out, each = weight.shape[0], weight.shape[-1]
    k = math.prod(weight.shape[1:])
    shape = _panels_shape(groups, out, k // max(each, 1), each)
    if _is_depthwise(groups, out, each):
        groups = 1
    wide = np.zeros((groups, shape[0] // groups * PANEL, (shape[1] - 1) * QUAD), np.int8)
    wide[:, : out // groups, :k] = weight.reshape(groups, out // groups, k)
    panels = room(math.prod(shape)).view(np.int8).reshape(shape)
    panels[:, 0] = wide.sum(axis=2, dtype="<i4").view(np.int8).reshape(shape[0], PANEL, QUAD)
    panels[:, 1:] = wide.reshape(shape[0], PANEL, shape[1] - 1, QUAD).transpose(0, 2, 1, 3)
    return panels


def unpack_panels(panels: Any, out: int, k: int, groups: int = 1) -> Any:
    """The weights (out, k) that `pack_panels` was given; groups as there, 1 for a depthwise convolution."""
    count, steps = panels.shape[0] // groups * PANEL, (panels.shape[1] - 1) * QUAD
    wide = panels[:, 1:].transpose(0, 2, 1, 3).reshape(groups, count, steps)
    return wide[:, : out // groups, :k].reshape(out, k)


# -- the arithmetic --------------------------------------------------------------------------------


def _products(x: Any, w: Any, zero_point: int) -> Any:
    """sum over k of (x[..., k] - zero_point) w[..., j, k], exactly, as int32 (..., j).

    Integers up to 2**24 are exact in float32, so blocks of 512 products go through the fast float product.
    """
    acc = None
    for start in range(0, max(x.shape[-1], 1), _EXACT):
        part = slice(start, start + _EXACT)
        left = x[..., part].astype(np.float32) - np.float32(zero_point)
        right = np.swapaxes(w[..., part].astype(np.float32), -1, -2)
        product = np.matmul(left, right).astype(np.int32)
        acc = product if acc is None else acc + product
    return acc


def _requantized(acc: Any, m: Any, zero_point: int, lo: int, hi: int) -> Any:
    """clamp(rint(float(acc) m) + zero_point, lo, hi) as uint8."""
    y = np.rint(acc.astype(m.dtype) * m)
    y += m.dtype.type(zero_point)
    return np.clip(y, lo, hi).astype(np.uint8)


def _scaled(acc: Any, m: Any, bias: Any, lo: float, hi: float) -> Any:
    """float(acc) m + bias, clamped."""
    y = acc.astype(m.dtype) * m
    y += bias
    return _clamped(y, lo, hi)


def _clamped(y: Any, lo: float, hi: float) -> Any:
    """y <= lo ? lo : y, then y >= hi ? hi : y, in place; NaN stays, and lo = 0 gives no -0."""
    if lo != -math.inf:
        y[y <= lo] = lo
    if hi != math.inf:
        y[y >= hi] = hi
    return y


def _inside(y: Tensor, lo: float, hi: float, g: Tensor) -> Tensor:
    """The cotangent where the clamp lets it pass."""
    if lo != -math.inf:
        g = where(y > lo, g, 0.0)
    return g if hi == math.inf else where(y < hi, g, 0.0)


def _over_rows(t: Tensor) -> Tensor:
    """The sum over everything but the last dimension."""
    return _sum(t, tuple(range(t.ndim - 1)), False)


def _scales(rng: Any, *shape: int) -> Any:
    """Positive float32 numbers, held in float64."""
    return rng.uniform(0.001, 0.01, shape).astype(np.float32).astype(np.float64)


def _u8(rng: Any, *shape: int) -> Any:
    return rng.integers(0, 256, shape).astype(np.uint8)


def _s8(rng: Any, *shape: int) -> Any:
    return rng.integers(-127, 128, shape).astype(np.int8)


def _s32(rng: Any, *shape: int) -> Any:
    return rng.integers(-5000, 5000, shape).astype(np.int32)


def _round_slowly(value: float, zero_point: int, lo: int, hi: int) -> int:
    return min(max(round(value) + zero_point, lo), hi)  # Python's round takes halves to even


# -- floats to codes and back ----------------------------------------------------------------------


def _quantize_shape(input: Spec, scale: float, zero_point: int) -> Spec:
    _float("the input", input)
    _scale(scale)
    _code("zero point", zero_point)
    return Spec(input.shape, uint8)


def _quantize_kernel(x: Any, scale: float, zero_point: int) -> Any:
    _quantize_shape(_spec(x), scale, zero_point)
    real = x.dtype.type
    y = np.rint(x * (real(1.0) / real(scale)))
    y += real(zero_point)
    return np.where(y > 0, np.minimum(y, 255), 0).astype(np.uint8)


quantize = primitive(
    "quantize",
    kind="opaque",
    inputs=("input",),
    attrs=("scale", "zero_point"),
    kernel=_quantize_kernel,
    shape=_quantize_shape,
    vjp=(None,),
    samples=lambda rng: [
        ((rng.normal(size=(3, 5)),), (0.03125, 128)),
        ((rng.normal(size=(2, 3, 4, 5)) * 50,), (0.25, 0)),
        ((np.array([0.5, 1.5, -0.5, np.nan, np.inf, -np.inf, 1e30, -0.0]),), (1.0, 3)),
        ((rng.normal(size=(0, 3)),), (0.1, 255)),
        ((rng.normal(size=()),), (0.5, 7)),
    ],
    error=0.0,
    doc="codes: clamp(rint(input * r) + zero_point, 0, 255), r = 1 / scale rounded; NaN becomes 0",
)


def _dequantize_shape(input: Spec, scale: float, zero_point: int) -> Spec:
    _dtype("the input", input, uint8)
    _scale(scale)
    _code("zero point", zero_point)
    return Spec(input.shape, float32)


def _dequantize_kernel(x: Any, scale: float, zero_point: int) -> Any:
    _dequantize_shape(_spec(x), scale, zero_point)
    return (x.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


dequantize = primitive(
    "dequantize",
    kind="opaque",
    inputs=("input",),
    attrs=("scale", "zero_point"),
    kernel=_dequantize_kernel,
    shape=_dequantize_shape,
    vjp=(None,),
    samples=lambda rng: [
        ((_u8(rng, 3, 5),), (0.03125, 128)),
        ((_u8(rng, 2, 3, 4),), (0.3, 0)),
        ((_u8(rng, 0, 3),), (0.1, 255)),
        ((_u8(rng),), (0.1, 1)),
    ],
    reference=lambda x, scale, zero_point: (
        (x.astype(np.int64) - zero_point).astype(np.float32) * np.float32(scale)
    ),
    error=0.0,
    doc="the real numbers of codes, float32: (input - zero_point) * scale",
)

# -- linear ----------------------------------------------------------------------------------------


def _linear_check(input: Spec, weight: Spec, multiplier: Spec, zero_point: int) -> Shape:
    _dtype("the input", input, uint8)
    _dtype("the weight", weight, int8)
    _float("the multiplier", multiplier)
    _code("zero point", zero_point)
    if not input.shape or len(multiplier.shape) != 1:
        raise Refusal(
            f"an input of shape {input.shape} and a multiplier of shape {multiplier.shape}",
            "the input must be (..., in), the multiplier (out,)",
        )
    _depth(input.shape[-1])
    _panels(weight, 1, multiplier.shape[0], 1, input.shape[-1])
    return (*input.shape[:-1], multiplier.shape[0])


def _panels(weight: Spec, groups: int, out: int, taps: int, each: int) -> None:
    wanted = _panels_shape(groups, out, taps, each)
    if weight.shape != wanted:
        raise Refusal(
            f"a weight of shape {weight.shape} for {out} outputs of {taps * each} products",
            f"it must be packed by pack_panels, which gives {wanted}",
        )


def _bounds(zero_point: int, lo: int, hi: int) -> None:
    _code("zero point", zero_point)
    _code("lo", lo)
    _code("hi", hi)
    if lo > hi:
        raise Refusal(f"lo {lo} is above hi {hi}", "exchange them", ArgumentError)


def _linear_shape(
    input: Spec,
    weight: Spec,
    multiplier: Spec,
    bias: Spec,
    zero_point: int,
    out_zero_point: int,
    lo: int,
    hi: int,
) -> Spec:
    shape = _linear_check(input, weight, multiplier, zero_point)
    _dtype("the bias", bias, int32)
    _vector("the bias", bias, shape[-1])
    _bounds(out_zero_point, lo, hi)
    return Spec(shape, uint8)


def _linear_kernel(
    x: Any, w: Any, m: Any, bias: Any, zero_point: int, out_zero_point: int, lo: int, hi: int
) -> Any:
    _linear_shape(_spec(x), _spec(w), _spec(m), _spec(bias), zero_point, out_zero_point, lo, hi)
    w = unpack_panels(w, len(m), x.shape[-1])
    return _requantized(_products(x, w, zero_point) + bias, m, out_zero_point, lo, hi)


def _linear_reference(
    x: Any, w: Any, m: Any, bias: Any, zero_point: int, out_zero_point: int, lo: int, hi: int
) -> Any:
    y = np.zeros((*x.shape[:-1], len(m)), np.uint8)
    for place in np.ndindex(*y.shape):
        row, j = x[place[:-1]], place[-1]
        weights = [w[j // PANEL, 1 + k // QUAD, j % PANEL, k % QUAD] for k in range(len(row))]
        acc = int(bias[place[-1]])
        acc += sum((int(a) - zero_point) * int(b) for a, b in zip(row, weights, strict=True))
        y[place] = _round_slowly(acc * float(m[place[-1]]), out_zero_point, lo, hi)
    return y


#: (shape of x, outputs, zero point, zero point of y, lo, hi)
_LINEAR_CASES: list[tuple[Shape, int, int, int, int, int]] = [
    ((3, 8), 5, 128, 120, 0, 255),
    ((1, 17), 33, 0, 3, 3, 255),
    ((2, 3, 70), 4, 255, 0, 0, 200),
    ((6,), 2, 7, 255, 0, 255),
    ((0, 4), 3, 1, 1, 1, 255),
    ((2, 1100), 3, 3, 128, 0, 255),
]


def _linear_samples(rng: Any) -> list[Any]:
    return [
        ((_u8(rng, *x), pack_panels(_s8(rng, n, x[-1])), _scales(rng, n), _s32(rng, n)), tuple(attrs))
        for x, n, *attrs in _LINEAR_CASES
    ]


quantized_linear = primitive(
    "quantized_linear",
    kind="opaque",
    inputs=("input", "weight", "multiplier", "bias"),
    attrs=("zero_point", "out_zero_point", "lo", "hi"),
    kernel=_linear_kernel,
    shape=_linear_shape,
    vjp=(None, None, None, None),
    traits={"flops": lambda x, w, m, b, y, *_: 2 * math.prod(y.shape) * x.shape[-1]},
    samples=_linear_samples,
    reference=_linear_reference,
    error=0.0,
    doc="codes of act(x @ weight.T + bias): uint8 (..., in), panels, float32 and int32 (out,)",
)


def _linear_float_shape(
    input: Spec, weight: Spec, multiplier: Spec, bias: Spec, zero_point: int, lo: float, hi: float
) -> Spec:
    shape = _linear_check(input, weight, multiplier, zero_point)
    return _float_result(shape, multiplier, bias, lo, hi)


def _float_result(shape: Shape, multiplier: Spec, bias: Spec, lo: float, hi: float) -> Spec:
    _dtype("the bias", bias, multiplier.dtype)
    _vector("the bias", bias, shape[-1])
    if not lo <= hi:
        raise Refusal(f"lo {lo} is not below hi {hi}", "exchange them", ArgumentError)
    return Spec(shape, multiplier.dtype)


def _linear_float_kernel(x: Any, w: Any, m: Any, bias: Any, zero_point: int, lo: float, hi: float) -> Any:
    _linear_float_shape(_spec(x), _spec(w), _spec(m), _spec(bias), zero_point, lo, hi)
    return _scaled(_products(x, unpack_panels(w, len(m), x.shape[-1]), zero_point), m, bias, lo, hi)


def _linear_sums(x: Tensor, w: Tensor, like: Tensor, zero_point: int) -> Tensor:
    """The sums of products as floats."""
    n = like.shape[-1]
    one, nothing = ones(n, dtype=like.dtype), zeros(n, dtype=like.dtype)
    return quantized_linear_float(x, w, one, nothing, zero_point, -math.inf, math.inf)


quantized_linear_float = primitive(
    "quantized_linear_float",
    kind="opaque",
    inputs=("input", "weight", "multiplier", "bias"),
    attrs=("zero_point", "lo", "hi"),
    kernel=_linear_float_kernel,
    shape=_linear_float_shape,
    vjp=(
        None,
        None,
        lambda g, y, input, weight, zero_point, lo, hi: _over_rows(
            _inside(y, lo, hi, g) * _linear_sums(input, weight, g, zero_point)
        ),
        lambda g, y, lo, hi: _over_rows(_inside(y, lo, hi, g)),
    ),
    traits={"flops": lambda x, w, m, b, y, *_: 2 * math.prod(y.shape) * x.shape[-1]},
    samples=lambda rng: [
        (
            (_u8(rng, *x), pack_panels(_s8(rng, n, x[-1])), _scales(rng, n), rng.normal(size=n)),
            (zero_point, *bounds),
        )
        for (x, n, zero_point, *_), bounds in zip(
            _LINEAR_CASES,
            [(-math.inf, math.inf), (0.0, math.inf), (0.0, 6.0), (-1.0, 1.0)] + [(0.0, math.inf)] * 2,
            strict=True,
        )
    ],
    error=0.0,
    doc="act(x @ weight.T + bias) in floats, of codes: act clamps to lo..hi",
)

# -- linear, the range found at run time -----------------------------------------------------------


def _rows_shape(input: Spec) -> Spec:
    _float("the input", input)
    if not input.shape:
        raise Refusal("a 0-d input", "it must have a last dimension")
    return Spec((*input.shape[:-1], HEADER + input.shape[-1]), uint8)


def _rows_kernel(x: Any) -> Any:
    """The rule, in float32: lo = min(0, x...), hi = max(0, x...), s = (hi - lo) * float32(1 / 255), or 1
    where that is 0; r = 1 / s; z = min(rint(-lo * r), 255); q = clamp(rint(x * r) + z, 0, 255).

    A row with NaN or Inf, or whose s overflows, has s = NaN, z = 0 and the codes 0.
    """
    shape = _rows_shape(_spec(x)).shape
    x = x.astype(np.float32)
    lo, hi = (f(x, axis=-1, keepdims=True, initial=0.0) for f in (np.min, np.max))
    s = (hi - lo) * np.float32(1 / 255)
    bad = ~np.isfinite(s)
    s[(s == 0) | bad] = 1.0
    r = np.float32(1.0) / s
    over = ~np.isfinite(r) & ~bad  # a range of denormals: too small to divide by
    s[over], r[over] = 1.0, 1.0
    z = np.where(bad, 0, np.minimum(np.rint(-lo * r), 255)).astype(np.int32)
    q = np.rint(x * r)
    q += z
    y = np.empty(shape, np.uint8)
    s[bad] = np.nan
    y[..., :4] = s.view(np.uint8)
    y[..., 4:8] = z.view(np.uint8)
    y[..., 8:] = np.where(bad, 0, np.where(q > 0, np.minimum(q, 255), 0))
    return y


quantize_rows = primitive(
    "quantize_rows",
    kind="opaque",
    inputs=("input",),
    kernel=_rows_kernel,
    shape=_rows_shape,
    vjp=(None,),
    samples=lambda rng: [
        ((rng.normal(size=(3, 9)),), ()),
        ((rng.normal(size=(2, 3, 5)) * [[[1e-3], [100.0], [0.0]]],), ()),
        ((np.array([[0.5, np.nan, 1.0], [1.0, np.inf, 0.0], [3.0, 2.0, 1.0], [-3.0, -2.0, -1.0]]),), ()),
        ((rng.normal(size=(0, 4)),), ()),
        ((rng.normal(size=(6,)),), ()),
    ],
    error=0.0,
    doc="each row as its scale (4 bytes), its zero point (4 bytes) and its codes",
)


def unpacked_rows(rows: Any) -> tuple[Any, Any, Any]:
    """Of an array of `quantize_rows`: scale float32 (..., 1), zero point int32 (..., 1), codes (..., k)."""
    head = np.ascontiguousarray(rows[..., :HEADER])
    return head[..., :4].view(np.float32), head[..., 4:].view(np.int32), rows[..., HEADER:]


def _rows_linear_shape(input: Spec, weight: Spec, scale: Spec, bias: Spec, lo: float, hi: float) -> Spec:
    _dtype("the input", input, uint8)
    if not input.shape or input.shape[-1] < HEADER:
        raise Refusal(f"an input of shape {input.shape}", "it must be rows of quantize_rows")
    codes = Spec((*input.shape[:-1], input.shape[-1] - HEADER), uint8)
    return _float_result(_linear_check(codes, weight, scale, 0), scale, bias, lo, hi)


def _rows_linear_kernel(rows: Any, w: Any, scale: Any, bias: Any, lo: float, hi: float) -> Any:
    """The rule, in float32: float32(acc) * (s_row * scale[j]) + bias[j], then clamp."""
    _rows_linear_shape(_spec(rows), _spec(w), _spec(scale), _spec(bias), lo, hi)
    s, z, codes = unpacked_rows(rows)
    w = unpack_panels(w, len(scale), codes.shape[-1])
    total = w.sum(axis=1, dtype=np.int32)
    acc = _products(codes, w, 0) - z * total  # modulo 2**32, where the true value fits
    y = acc.astype(scale.dtype) * (s.astype(scale.dtype) * scale)
    y += bias
    return _clamped(y, lo, hi)


def _rows_samples(rng: Any) -> list[Any]:
    cases: list[tuple[Shape, int, float, float]] = [
        ((3, 8), 5, -math.inf, math.inf),
        ((1, 17), 33, 0.0, math.inf),
        ((2, 3, 70), 4, 0.0, 6.0),
        ((6,), 2, -math.inf, math.inf),
        ((0, 4), 3, -math.inf, math.inf),
    ]
    return [
        (
            (
                _rows_kernel(rng.normal(size=x)),
                pack_panels(_s8(rng, n, x[-1])),
                _scales(rng, n),
                rng.normal(size=n),
            ),
            (lo, hi),
        )
        for x, n, lo, hi in cases
    ]


def _rows_linear_sums(rows: Tensor, w: Tensor, like: Tensor) -> Tensor:
    n = like.shape[-1]
    one, nothing = ones(n, dtype=like.dtype), zeros(n, dtype=like.dtype)
    return quantized_rows_linear(rows, w, one, nothing, -math.inf, math.inf)


quantized_rows_linear = primitive(
    "quantized_rows_linear",
    kind="opaque",
    inputs=("input", "weight", "scale", "bias"),
    attrs=("lo", "hi"),
    kernel=_rows_linear_kernel,
    shape=_rows_linear_shape,
    vjp=(
        None,
        None,
        lambda g, y, input, weight, lo, hi: _over_rows(
            _inside(y, lo, hi, g) * _rows_linear_sums(input, weight, g)
        ),
        lambda g, y, lo, hi: _over_rows(_inside(y, lo, hi, g)),
    ),
    traits={"flops": lambda x, w, s, b, y, *_: 2 * math.prod(y.shape) * (x.shape[-1] - HEADER)},
    samples=_rows_samples,
    error=0.0,
    doc="act(x @ weight.T + bias) in floats, of rows that carry their own scale (quantize_rows)",
)


# -- linear, only the weights in eight bits ----------------------------------------------------------


def _weight_only_shape(input: Spec, weight: Spec, scale: Spec, bias: Spec) -> Spec:
    _float("the input", input)
    _dtype("the scale", scale, input.dtype)
    _dtype("the weight", weight, int8)
    if len(weight.shape) != 2 or not input.shape or input.shape[-1] != weight.shape[1]:
        raise Refusal(
            f"an input of shape {input.shape} and a weight of shape {weight.shape}",
            "the weight must be (out, in), and the last size of the input in",
        )
    _vector("the scale", scale, weight.shape[0])
    return _float_result((*input.shape[:-1], weight.shape[0]), scale, bias, -math.inf, math.inf)


def _weight_only_kernel(x: Any, w: Any, scale: Any, bias: Any) -> Any:
    _weight_only_shape(_spec(x), _spec(w), _spec(scale), _spec(bias))
    y = np.matmul(x, w.astype(x.dtype).T)
    y *= scale
    y += bias
    return y


weight_only_linear = primitive(
    "weight_only_linear",
    kind="opaque",
    inputs=("input", "weight", "scale", "bias"),
    kernel=_weight_only_kernel,
    shape=_weight_only_shape,
    vjp=(
        lambda g, weight, scale: (g * scale) @ weight.to(g.dtype),
        None,
        lambda g, input, weight: _over_rows(g * (input @ weight.to(g.dtype).mT)),
        lambda g: _over_rows(g),
    ),
    traits={"flops": lambda x, w, s, b, y, *_: 2 * math.prod(y.shape) * w.shape[1]},
    samples=lambda rng: [
        ((rng.normal(size=x), _s8(rng, n, x[-1]), _scales(rng, n), rng.normal(size=n)), ())
        for x, n in [((3, 8), 5), ((1, 17), 33), ((2, 3, 7), 4), ((6,), 2), ((0, 4), 3)]
    ],
    error=4096.0,  # sums of floats in any order: of 70 products up to 127 times larger than the result
    doc="(x @ weight.T) * scale + bias in floats, the weight int8 (out, in)",
)

# -- convolution -----------------------------------------------------------------------------------


def _conv_check(
    input: Spec,
    weight: Spec,
    multiplier: Spec,
    kernel: Pair,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    zero_point: int,
) -> Shape:
    _dtype("the input", input, uint8)
    _dtype("the weight", weight, int8)
    _float("the multiplier", multiplier)
    _code("zero point", zero_point)
    if len(input.shape) != 4 or len(multiplier.shape) != 1:
        raise Refusal(
            f"an input of shape {input.shape} and a multiplier of shape {multiplier.shape}",
            "they must be (batch, height, width, channels) and (out,)",
        )
    out, channels = multiplier.shape[0], input.shape[3]
    if groups < 1 or channels % groups or out % groups:
        raise Refusal(
            f"{channels} channels and {out} outputs in {groups} groups",
            "groups must divide both",
        )
    _depth(kernel[0] * kernel[1] * (channels // groups))
    _panels(weight, groups, out, kernel[0] * kernel[1], channels // groups)
    places = _places(input.shape[1:3], kernel, stride, padding, dilation)
    return (input.shape[0], *places, out)


def _conv_shape(
    input: Spec,
    weight: Spec,
    multiplier: Spec,
    bias: Spec,
    kernel: Pair,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    zero_point: int,
    out_zero_point: int,
    lo: int,
    hi: int,
) -> Spec:
    shape = _conv_check(input, weight, multiplier, kernel, stride, padding, dilation, groups, zero_point)
    _dtype("the bias", bias, int32)
    _vector("the bias", bias, shape[-1])
    _bounds(out_zero_point, lo, hi)
    return Spec(shape, uint8)


def _with_border(x: Any, padding: Borders, code: int) -> Any:
    """Channels-last images with a border of one code."""
    if not any(padding):
        return x
    top, bottom, left, right = padding
    n, h, w, c = x.shape
    y = np.full((n, h + top + bottom, w + left + right, c), code, x.dtype)
    y[:, top : top + h, left : left + w] = x
    return y


def _patches(x: Any, kernel: Pair, places: Pair, stride: Pair, dilation: Pair) -> Any:
    """All patches of channels-last images, without copying: (n, oh, ow, kh, kw, c)."""
    first = _windows(x.transpose(0, 3, 1, 2), kernel, places, stride, dilation)
    return first.transpose(0, 4, 5, 2, 3, 1)


def _conv_sums(
    x: Any,
    w: Any,
    out: int,
    kernel: Pair,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    zero_point: int,
) -> Any:
    """The exact sums, int32 (n, oh, ow, out)."""
    kh, kw = kernel
    each = x.shape[3] // groups
    places = _places(x.shape[1:3], kernel, stride, padding, dilation)
    x = _with_border(x, padding, zero_point)
    n = len(x)
    w = unpack_panels(w, out, kh * kw * each, 1 if _is_depthwise(groups, out, each) else groups)
    w = w.reshape(groups, out // groups, kh * kw * each)
    acc = np.empty((n, *places, groups, out // groups), np.int32)
    for i in range(n):  # an image at a time: its patches are kh * kw times as large as itself
        patches = _patches(x[i : i + 1], kernel, places, stride, dilation)[0]
        rows = patches.reshape(*places, kh * kw, groups, each).transpose(3, 0, 1, 2, 4)
        rows = rows.reshape(groups, places[0] * places[1], kh * kw * each)
        sums = _products(rows, w, zero_point)
        acc[i] = sums.transpose(1, 0, 2).reshape(*places, groups, out // groups)
    return acc.reshape(n, *places, out)


def _conv_kernel(
    x: Any,
    w: Any,
    m: Any,
    bias: Any,
    kernel: Pair,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    zero_point: int,
    out_zero_point: int,
    lo: int,
    hi: int,
) -> Any:
    rest = (kernel, stride, padding, dilation, groups, zero_point)
    _conv_shape(_spec(x), _spec(w), _spec(m), _spec(bias), *rest, out_zero_point, lo, hi)
    return _requantized(_conv_sums(x, w, len(m), *rest) + bias, m, out_zero_point, lo, hi)


def _conv_reference(
    x: Any,
    w: Any,
    m: Any,
    bias: Any,
    kernel: Pair,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    zero_point: int,
    out_zero_point: int,
    lo: int,
    hi: int,
) -> Any:
    """The definition, one output at a time, places outside of the image left out."""
    rest = (kernel, stride, padding, dilation, groups, zero_point)
    y = np.zeros(_conv_check(_spec(x), _spec(w), _spec(m), *rest), np.uint8)
    (kh, kw), each = kernel, x.shape[3] // groups
    depthwise = _is_depthwise(groups, len(m), each)
    own = len(m) // (1 if depthwise else groups)  # outputs that are packed together
    for n, i, j, o in np.ndindex(*y.shape):
        acc, first = int(bias[o]), o // (len(m) // groups) * each
        panel = o // own * -(-own // PANEL) + o % own // PANEL
        for u, v, c in np.ndindex(kh, kw, each):
            row = i * stride[0] + u * dilation[0] - padding[0]
            column = j * stride[1] + v * dilation[1] - padding[2]
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                k = (u * kw + v) * each + c
                weight = w[panel, 1 + k // QUAD, o % own % PANEL, k % QUAD]
                acc += int(weight) * (int(x[n, row, column, first + c]) - zero_point)
        y[n, i, j, o] = _round_slowly(acc * float(m[o]), out_zero_point, lo, hi)
    return y


def _conv_flops(x: Spec, w: Spec, m: Spec, b: Spec, y: Spec, kernel: Pair, *attrs: Any) -> int:
    groups: int = attrs[3]
    return 2 * math.prod(y.shape) * kernel[0] * kernel[1] * (x.shape[3] // groups)


_ONE: Pair = (1, 1)
_NONE: Borders = (0, 0, 0, 0)
#: (shape of x, shape of w, stride, padding, dilation, groups, zero point)
_CONV_CASES: list[tuple[Shape, Shape, Pair, Borders, Pair, int, int]] = [
    ((2, 5, 4, 3), (4, 3, 2, 3), _ONE, _NONE, _ONE, 1, 100),
    ((1, 6, 5, 2), (3, 3, 3, 2), (2, 1), (1, 1, 1, 1), _ONE, 1, 255),
    ((1, 5, 6, 2), (2, 2, 2, 2), (2, 3), (0, 1, 1, 0), (2, 1), 1, 0),
    ((1, 4, 4, 4), (6, 2, 2, 2), _ONE, (1, 0, 0, 1), _ONE, 2, 7),
    ((2, 4, 4, 3), (3, 3, 3, 1), _ONE, (1, 1, 1, 1), _ONE, 3, 128),
    ((1, 5, 5, 2), (4, 3, 3, 1), (2, 2), (1, 1, 1, 1), _ONE, 2, 128),
    ((2, 3, 4, 3), (4, 1, 1, 3), _ONE, _NONE, _ONE, 1, 3),
    ((1, 4, 4, 32), (20, 3, 3, 32), _ONE, (1, 1, 1, 1), _ONE, 1, 3),
    ((0, 3, 3, 2), (1, 2, 2, 2), _ONE, _NONE, _ONE, 1, 5),
]


quantized_conv2d = primitive(
    "quantized_conv2d",
    kind="opaque",
    inputs=("input", "weight", "multiplier", "bias"),
    attrs=("kernel", "stride", "padding", "dilation", "groups", "zero_point", "out_zero_point", "lo", "hi"),
    kernel=_conv_kernel,
    shape=_conv_shape,
    vjp=(None, None, None, None),
    traits={"flops": _conv_flops},
    samples=lambda rng: [
        (
            (_u8(rng, *x), pack_panels(_s8(rng, *w), groups), _scales(rng, w[0]), _s32(rng, w[0])),
            (w[1:3], *rest, groups, zero_point, 128, lo, 255),
        )
        for (x, w, *rest, groups, zero_point), lo in zip(
            _CONV_CASES, [0, 128, 0, 0, 128, 0, 50, 128, 0], strict=True
        )
    ],
    reference=_conv_reference,
    error=0.0,
    doc="codes of act(conv2d(x, weight) + bias), channels-last; padded with the zero point",
)


def _conv_float_shape(
    input: Spec,
    weight: Spec,
    multiplier: Spec,
    bias: Spec,
    kernel: Pair,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    zero_point: int,
    lo: float,
    hi: float,
) -> Spec:
    shape = _conv_check(input, weight, multiplier, kernel, stride, padding, dilation, groups, zero_point)
    return _float_result(shape, multiplier, bias, lo, hi)


def _conv_float_kernel(x: Any, w: Any, m: Any, bias: Any, *attrs: Any) -> Any:
    _conv_float_shape(_spec(x), _spec(w), _spec(m), _spec(bias), *attrs)
    *rest, lo, hi = attrs
    return _scaled(_conv_sums(x, w, len(m), *rest), m, bias, lo, hi)


def _conv_sums_of(x: Tensor, w: Tensor, like: Tensor, *attrs: Any) -> Tensor:
    n = like.shape[-1]
    one, nothing = ones(n, dtype=like.dtype), zeros(n, dtype=like.dtype)
    return quantized_conv2d_float(x, w, one, nothing, *attrs, -math.inf, math.inf)


quantized_conv2d_float = primitive(
    "quantized_conv2d_float",
    kind="opaque",
    inputs=("input", "weight", "multiplier", "bias"),
    attrs=("kernel", "stride", "padding", "dilation", "groups", "zero_point", "lo", "hi"),
    kernel=_conv_float_kernel,
    shape=_conv_float_shape,
    vjp=(
        None,
        None,
        lambda g, y, input, weight, kernel, stride, padding, dilation, groups, zero_point, lo, hi: _over_rows(
            _inside(y, lo, hi, g)
            * _conv_sums_of(input, weight, g, kernel, stride, padding, dilation, groups, zero_point)
        ),
        lambda g, y, lo, hi: _over_rows(_inside(y, lo, hi, g)),
    ),
    traits={"flops": _conv_flops},
    samples=lambda rng: [
        (
            (_u8(rng, *x), pack_panels(_s8(rng, *w), groups), _scales(rng, w[0]), rng.normal(size=w[0])),
            (w[1:3], *rest, groups, zero_point, *bounds),
        )
        for (x, w, *rest, groups, zero_point), bounds in zip(
            _CONV_CASES, [(-math.inf, math.inf), (0.0, math.inf), (0.0, 6.0)] * 3, strict=True
        )
    ],
    error=0.0,
    doc="act(conv2d(x, weight) + bias) in floats, of codes, channels-last: act clamps to lo..hi",
)

# -- everything else: sums, tables, windows, rows ----------------------------------------------------


def _add_shape(
    input: Spec,
    other: Spec,
    zero_point: int,
    multiplier: float,
    other_zero_point: int,
    other_multiplier: float,
    out_zero_point: int,
    lo: int,
    hi: int,
) -> Spec:
    _dtype("the input", input, uint8)
    _dtype("the other", other, uint8)
    if input.shape != other.shape:
        raise Refusal(f"shapes {input.shape} and {other.shape} differ", "expand one of them first")
    _code("zero point", zero_point, other_zero_point)
    _scale(multiplier, other_multiplier)
    _bounds(out_zero_point, lo, hi)
    return Spec(input.shape, uint8)


def _add_kernel(
    a: Any,
    b: Any,
    zero_point: int,
    multiplier: float,
    other_zero_point: int,
    other_multiplier: float,
    out_zero_point: int,
    lo: int,
    hi: int,
) -> Any:
    _add_shape(
        _spec(a),
        _spec(b),
        zero_point,
        multiplier,
        other_zero_point,
        other_multiplier,
        out_zero_point,
        lo,
        hi,
    )
    y = (a.astype(np.float32) - np.float32(zero_point)) * np.float32(multiplier)
    y += (b.astype(np.float32) - np.float32(other_zero_point)) * np.float32(other_multiplier)
    y = np.rint(y) + np.float32(out_zero_point)
    return np.clip(y, lo, hi).astype(np.uint8)


def _add_reference(a: Any, b: Any, za: int, ma: float, zb: int, mb: float, zy: int, lo: int, hi: int) -> Any:
    y = np.zeros(a.shape, np.uint8)
    for place in np.ndindex(*a.shape):
        value = (int(a[place]) - za) * ma + (int(b[place]) - zb) * mb
        y[place] = _round_slowly(value, zy, lo, hi)
    return y


quantized_add = primitive(
    "quantized_add",
    kind="opaque",
    inputs=("input", "other"),
    attrs=(
        "zero_point",
        "multiplier",
        "other_zero_point",
        "other_multiplier",
        "out_zero_point",
        "lo",
        "hi",
    ),
    kernel=_add_kernel,
    shape=_add_shape,
    vjp=(None, None),
    samples=lambda rng: [
        ((_u8(rng, 3, 5), _u8(rng, 3, 5)), (128, 0.71875, 3, 0.4375, 100, 0, 255)),
        ((_u8(rng, 2, 3, 4, 5), _u8(rng, 2, 3, 4, 5)), (0, 0.5, 255, 1.5, 128, 128, 255)),
        ((_u8(rng, 0, 3), _u8(rng, 0, 3)), (0, 1.0, 0, 1.0, 0, 0, 255)),
    ],
    reference=_add_reference,
    error=0.0,
    doc="codes of a + b: clamp(rint((a - za) ma + (b - zb) mb) + zy, lo, hi), ma = s_a / s_y, mb = s_b / s_y",
)


def _lookup_shape(input: Spec, table: Spec) -> Spec:
    _dtype("the input", input, uint8)
    _dtype("the table", table, uint8)
    if table.shape != (256,):
        raise Refusal(f"a table of shape {table.shape}", "it must have 256 elements, one for each code")
    return Spec(input.shape, uint8)


def _lookup_kernel(x: Any, table: Any) -> Any:
    _lookup_shape(_spec(x), _spec(table))
    return table[x]


quantized_lookup = primitive(
    "quantized_lookup",
    kind="opaque",
    inputs=("input", "table"),
    kernel=_lookup_kernel,
    shape=_lookup_shape,
    vjp=(None, None),
    samples=lambda rng: [
        ((_u8(rng, *shape), _u8(rng, 256)), ()) for shape in [(3, 5), (2, 3, 4, 5), (0, 3), ()]
    ],
    reference=lambda x, table: np.array([table[int(v)] for v in x.flat], np.uint8).reshape(x.shape),
    error=0.0,
    doc="table[input]: any function of one code, such as an activation between two scales",
)


def _last(input: Spec) -> Shape:
    """The shape of channels-last images as the rules for pooling know it: channels second."""
    _dtype("the input", input, uint8)
    if len(input.shape) != 4:
        raise Refusal(f"an input of shape {input.shape}", "it must be (batch, height, width, channels)")
    n, h, w, c = input.shape
    return n, c, h, w


def _max_pool_shape(
    input: Spec, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Spec:
    shape = _last(input)
    return Spec(
        (shape[0], *_pool_places(shape, kernel, stride, padding, dilation, ceil_mode), shape[1]), uint8
    )


def _max_pool_kernel(
    x: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Any:
    n, oh, ow, c = _max_pool_shape(_spec(x), kernel, stride, padding, dilation, ceil_mode).shape
    ends = [
        max(0, (o - 1) * s + d * (k - 1) + 1 - size - p)
        for size, o, k, s, p, d in zip(x.shape[1:3], (oh, ow), kernel, stride, padding, dilation, strict=True)
    ]
    x = _with_border(x, (padding[0], ends[0], padding[1], ends[1]), 0)
    y = np.zeros((n, oh, ow, c), np.uint8)
    for u, v in np.ndindex(*kernel):
        rows, columns = u * dilation[0], v * dilation[1]
        part = x[:, rows : rows + (oh - 1) * stride[0] + 1 : stride[0]]
        part = part[:, :, columns : columns + (ow - 1) * stride[1] + 1 : stride[1]]
        np.maximum(y, part, out=y)
    return y


quantized_max_pool2d = primitive(
    "quantized_max_pool2d",
    kind="opaque",
    inputs=("input",),
    attrs=("kernel", "stride", "padding", "dilation", "ceil_mode"),
    kernel=_max_pool_kernel,
    shape=_max_pool_shape,
    vjp=(None,),
    samples=lambda rng: [
        ((_u8(rng, 2, 4, 4, 2),), ((2, 2), (2, 2), (0, 0), _ONE, False)),
        ((_u8(rng, 1, 5, 6, 37),), ((3, 2), (2, 1), (1, 1), _ONE, False)),
        ((_u8(rng, 1, 6, 5, 1),), ((2, 3), (3, 2), (0, 1), _ONE, True)),
        ((_u8(rng, 1, 7, 7, 3),), ((2, 2), (1, 2), (1, 0), (2, 3), False)),
        ((_u8(rng, 0, 4, 4, 1),), ((2, 2), (2, 2), (0, 0), _ONE, False)),
    ],
    error=0.0,
    doc="the largest code of every window, channels-last; places outside of the image count as 0",
)


def _avg_pool_shape(
    input: Spec,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    zero_point: int,
) -> Spec:
    shape = _last(input)
    _code("zero point", zero_point)
    if divisor is not None and divisor < 1:
        raise Refusal(f"a divisor of {divisor}", "it must be positive", ArgumentError)
    _depth(kernel[0] * kernel[1])
    return Spec((shape[0], *_pool_places(shape, kernel, stride, padding, _ONE, ceil_mode), shape[1]), uint8)


def _counts(size: int, out: int, kernel: int, stride: int, pad: int, include: bool) -> tuple[Any, Any, Any]:
    """First and last + 1 place inside of the image of every window, and how many places it counts."""
    starts = _starts(out, stride, pad)
    ends = np.minimum(starts + kernel, size + pad)
    low, high = np.maximum(starts, 0), np.minimum(ends, size)
    return low, high, ends - starts if include else high - low


def _avg_pool_kernel(
    x: Any,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    zero_point: int,
) -> Any:
    """The rule: clamp(rint(float32(sum of (x - zero_point)) * r) + zero_point, 0, 255), r = 1 / count in
    float32, count the places of the window (or the divisor)."""
    shape = _avg_pool_shape(
        _spec(x), kernel, stride, padding, ceil_mode, count_include_pad, divisor, zero_point
    ).shape
    (top, bottom, high), (left, right, wide) = (
        _counts(n, o, k, s, p, count_include_pad)
        for n, o, k, s, p in zip(x.shape[1:3], shape[1:3], kernel, stride, padding, strict=True)
    )
    count = np.full(shape[1:3], divisor) if divisor is not None else high[:, None] * wide
    y = np.empty(shape, np.uint8)
    for i, j in np.ndindex(*shape[1:3]):
        window = x[:, top[i] : bottom[i], left[j] : right[j]].astype(np.int32) - zero_point
        total = window.sum(axis=(1, 2), dtype=np.int32).astype(np.float32)
        value = np.rint(total * (np.float32(1.0) / np.float32(count[i, j]))) + np.float32(zero_point)
        y[:, i, j] = np.clip(value, 0, 255)
    return y


quantized_avg_pool2d = primitive(
    "quantized_avg_pool2d",
    kind="opaque",
    inputs=("input",),
    attrs=("kernel", "stride", "padding", "ceil_mode", "count_include_pad", "divisor", "zero_point"),
    kernel=_avg_pool_kernel,
    shape=_avg_pool_shape,
    vjp=(None,),
    samples=lambda rng: [
        ((_u8(rng, 2, 4, 4, 2),), ((2, 2), (2, 2), (0, 0), False, True, None, 128)),
        ((_u8(rng, 1, 5, 6, 37),), ((3, 2), (2, 1), (1, 1), False, False, None, 0)),
        ((_u8(rng, 1, 6, 5, 1),), ((2, 3), (3, 2), (1, 1), True, True, None, 255)),
        ((_u8(rng, 1, 4, 4, 3),), ((3, 3), (2, 2), (1, 1), True, False, None, 7)),
        ((_u8(rng, 1, 4, 4, 16),), ((4, 4), (1, 1), (0, 0), False, True, None, 10)),
        ((_u8(rng, 1, 4, 4, 1),), ((2, 2), (1, 1), (0, 0), False, True, 3, 10)),
        ((_u8(rng, 0, 4, 4, 1),), ((2, 2), (2, 2), (0, 0), False, True, None, 1)),
    ],
    error=0.0,
    doc="the mean of every window in the scale of the input, channels-last",
)


def _embedding_shape(index: Spec, weight: Spec, scale: Spec) -> Spec:
    if index.dtype.kind not in "iu":
        raise Refusal(f"indices of {index.dtype}", "convert with .long()", DTypeError)
    _dtype("the weight", weight, int8)
    _float("the scale", scale)
    if len(weight.shape) != 2 or scale.shape != weight.shape[:1]:
        raise Refusal(
            f"a weight of shape {weight.shape} and scales of shape {scale.shape}",
            "they must be (number, size) and (number,)",
        )
    return Spec((*index.shape, weight.shape[1]), scale.dtype)


def _embedding_kernel(index: Any, weight: Any, scale: Any) -> Any:
    _embedding_shape(_spec(index), _spec(weight), _spec(scale))
    if index.size and not 0 <= index.min() <= index.max() < len(weight):
        wrong = index[(index < 0) | (index >= len(weight))].flat[0]
        raise Refusal(f"index {wrong} for {len(weight)} rows", "count from 0", OutOfRangeError)
    return weight[index].astype(scale.dtype) * scale[index][..., None]


def _embedding_scale_grad(g: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    sums = _sum(g * _index_select(weight.to(g.dtype), index, 0), (index.ndim,), False)
    flat = (math.prod(index.shape),)
    return index_add(zeros(weight.shape[0], dtype=g.dtype), 0, _reshape(index, flat), _reshape(sums, flat))


quantized_embedding = primitive(
    "quantized_embedding",
    kind="opaque",
    inputs=("index", "weight", "scale"),
    kernel=_embedding_kernel,
    shape=_embedding_shape,
    vjp=(None, None, lambda g, index, weight: _embedding_scale_grad(g, index, weight)),
    traits={"refuses": True},
    samples=lambda rng: [
        ((rng.integers(0, 7, shape), _s8(rng, 7, 5), _scales(rng, 7)), ()) for shape in [(4,), (2, 3), (1, 0)]
    ],
    error=0.0,
    doc="rows of an int8 table times their scales: weight (number, size), scale (number,)",
)

__all__ = [
    "HEADER",
    "LONGEST",
    "dequantize",
    "pack_panels",
    "quantize",
    "quantize_rows",
    "quantized_add",
    "quantized_avg_pool2d",
    "quantized_conv2d",
    "quantized_conv2d_float",
    "quantized_embedding",
    "quantized_linear",
    "quantized_linear_float",
    "quantized_lookup",
    "quantized_max_pool2d",
    "quantized_rows_linear",
    "unpack_panels",
    "unpacked_rows",
    "weight_only_linear",
]
