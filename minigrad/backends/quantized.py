"""Arithmetic in eight bits by the C kernels: the functions of `ops/quantized.py`, on arrays.

Same names, same attributes and the same bits.  What the kernels take are float32 scales and dense arrays;
for float64 the record's own numpy kernel answers.  Whether sizes and dtypes fit together is asked of the
record's shape rule, which also words the error.

The descriptors of the ABI are made here, for calls of a single operation and for instructions of programs
(`execute.quantized`) alike.

>>> import numpy as np
>>> quantize(np.float32([-1.0, 0.0, 0.26, 900.0]), 0.5, 2)
array([  0,   2,   3, 255], dtype=uint8)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import Shape, Spec
from ..record import OPS
from .c import _check, available, ffi, lib

__all__ = [
    "KERNELS",
    "added",
    "convolution",
    "pooling",
    "product",
    "reciprocal",
]

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]

_FLOAT32 = np.dtype(np.float32)
_HEADER = 8  # bytes of a row of `quantize_rows` before its codes

# -- descriptors -------------------------------------------------------------------------------------


def _requantize(then: Any, zero_point: int | None, lo: float, hi: float) -> None:
    """What becomes of a sum; zero_point None: a float."""
    then.to_float = zero_point is None
    if zero_point is None:
        then.least, then.most = lo, hi
    else:
        then.zero, then.low, then.high = zero_point, lo, hi


def product(
    rows: int, n: int, k: int, zero_point: int, out_zero_point: int | None, lo: float, hi: float, header: int
) -> Any:
    """The descriptor of rows of k codes times panels of n outputs; header: bytes before a row's codes."""
    g = ffi.new("struct mg_quantized_gemm *")
    g.m, g.n, g.k, g.rsx, g.rsy = rows, n, k, k + header, n
    g.zero, g.headers = zero_point, header > 0
    _requantize(g.then, out_zero_point, lo, hi)
    return g


def convolution(
    x: Shape,
    y: Shape,
    kernel: Pair,
    stride: Pair,
    padding: tuple[int, int, int, int],
    dilation: Pair,
    groups: int,
    zero_point: int,
    *,
    then: tuple[int | None, float, float],
) -> Any:
    """The descriptor of a convolution of images (n, h, w, c)."""
    c = ffi.new("struct mg_quantized_conv *")
    c.n, c.h, c.w, c.ci = x
    _, c.oh, c.ow, c.co = y
    c.kh, c.kw = kernel
    c.groups, c.zero = groups, zero_point
    c.stride, c.dilation, c.pad = stride, dilation, padding
    _requantize(c.then, *then)
    return c


def pooling(
    x: Shape,
    y: Shape,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    count_include_pad: bool = False,
    divisor: int | None = None,
    zero_point: int = 0,
) -> Any:
    """The descriptor of a pooling of images (n, h, w, c)."""
    p = ffi.new("struct mg_quantized_pool *")
    p.n, p.h, p.w, p.c = x
    _, p.oh, p.ow, _ = y
    p.kh, p.kw = kernel
    p.stride, p.dilation, p.pad = stride, dilation, padding
    p.count_include_pad, p.divisor, p.zero = count_include_pad, divisor or 0, zero_point
    return p


def added(
    zero_point: int,
    multiplier: float,
    other_zero_point: int,
    other_multiplier: float,
    out_zero_point: int,
    lo: int,
    hi: int,
) -> Any:
    """The descriptor of a sum."""
    q = ffi.new("struct mg_quantized_add *")
    q.zero_a, q.scale_a, q.zero_b, q.scale_b = zero_point, multiplier, other_zero_point, other_multiplier
    q.zero, q.low, q.high = out_zero_point, lo, hi
    return q


def reciprocal(scale: float) -> float:
    """What a float is multiplied by to be quantized."""
    return float(np.float32(1.0) / np.float32(scale))


# -- operations --------------------------------------------------------------------------------------


def _result(name: str, arrays: tuple[Array, ...], attrs: tuple[Any, ...]) -> Array:
    """A new array for the result; raises what the record's shape rule does."""
    spec = OPS[name].shape(*[Spec(a.shape, a.dtype) for a in arrays], *attrs)
    return np.empty(spec.shape, spec.dtype)


def _floats(x: Array) -> Any:
    return ffi.cast("float *", ffi.from_buffer(x))


def _codes(x: Array) -> Any:
    return ffi.cast("uint8_t *", ffi.from_buffer(x))


def _weights(x: Array) -> Any:
    return ffi.cast("int8_t *", ffi.from_buffer(x))


def _dense(*arrays: Array) -> list[Array]:
    return [np.ascontiguousarray(a) for a in arrays]


def _single(*arrays: Array) -> bool:
    """Whether the arrays are what C computes with: float32, if they are floats at all."""
    return all(a.dtype.kind != "f" or a.dtype == _FLOAT32 for a in arrays)


def _numpy(name: str, *args: Any) -> Array:
    y: Array = OPS[name].kernel(*args)
    return y


def quantize(x: Array, scale: float, zero_point: int) -> Array:
    """Codes of floats."""
    if not _single(x):
        return _numpy("quantize", x, scale, zero_point)
    y = _result("quantize", (x,), (scale, zero_point))
    (x,) = _dense(x)
    _check(lib.mg_quantize(y.size, _floats(x), reciprocal(scale), zero_point, _codes(y)))
    return y


def dequantize(x: Array, scale: float, zero_point: int) -> Array:
    """The real numbers of codes."""
    y = _result("dequantize", (x,), (scale, zero_point))
    (x,) = _dense(x)
    _check(lib.mg_dequantize(y.size, _codes(x), scale, zero_point, _floats(y)))
    return y


def quantize_rows(x: Array) -> Array:
    """Each row as its scale, its zero point and its codes."""
    if not _single(x):
        return _numpy("quantize_rows", x)
    y = _result("quantize_rows", (x,), ())
    k = x.shape[-1]
    (x,) = _dense(x)
    _check(lib.mg_quantize_rows(math.prod(x.shape[:-1]), k, _floats(x), _codes(y)))
    return y


def _run_product(y: Array, g: Any, x: Array, panels: Array, scale: Array, added: Array) -> Array:
    held = _dense(x, panels, scale, added)
    g.x = _codes(held[0]) + (_HEADER if g.headers else 0)
    g.w, g.then.scale = _weights(held[1]), _floats(held[2])
    if g.then.to_float:
        g.then.offset = _floats(held[3])
    else:
        g.bias = ffi.cast("int32_t *", ffi.from_buffer(held[3]))
    g.y = ffi.from_buffer(y)
    _check(lib.mg_quantized_gemm(g))
    return y


def quantized_linear(
    x: Array, w: Array, m: Array, bias: Array, zero_point: int, out_zero_point: int, lo: int, hi: int
) -> Array:
    """Codes of a product, a bias and a clamp."""
    attrs = (zero_point, out_zero_point, lo, hi)
    if not _single(m):
        return _numpy("quantized_linear", x, w, m, bias, *attrs)
    y = _result("quantized_linear", (x, w, m, bias), attrs)
    return _run_product(y, product(_rows(x), len(m), x.shape[-1], *attrs, 0), x, w, m, bias)


def quantized_linear_float(
    x: Array, w: Array, m: Array, bias: Array, zero_point: int, lo: float, hi: float
) -> Array:
    """The same in floats."""
    if not _single(m, bias):
        return _numpy("quantized_linear_float", x, w, m, bias, zero_point, lo, hi)
    y = _result("quantized_linear_float", (x, w, m, bias), (zero_point, lo, hi))
    g = product(_rows(x), len(m), x.shape[-1], zero_point, None, lo, hi, 0)
    return _run_product(y, g, x, w, m, bias)


def quantized_rows_linear(rows: Array, w: Array, scale: Array, bias: Array, lo: float, hi: float) -> Array:
    """The same of rows that carry their own scale."""
    if not _single(scale, bias):
        return _numpy("quantized_rows_linear", rows, w, scale, bias, lo, hi)
    y = _result("quantized_rows_linear", (rows, w, scale, bias), (lo, hi))
    g = product(_rows(rows), len(scale), rows.shape[-1] - _HEADER, 0, None, lo, hi, _HEADER)
    return _run_product(y, g, rows, w, scale, bias)


def _rows(x: Array) -> int:
    return math.prod(x.shape[:-1])


def _run_convolution(y: Array, c: Any, x: Array, panels: Array, scale: Array, added: Array) -> Array:
    held = _dense(x, panels, scale, added)
    c.x, c.weights = _codes(held[0]), _weights(held[1])
    c.then.scale = _floats(held[2])
    if c.then.to_float:
        c.then.offset = _floats(held[3])
    else:
        c.bias = ffi.cast("int32_t *", ffi.from_buffer(held[3]))
    c.y = ffi.from_buffer(y)
    _check(lib.mg_quantized_conv2d(c))
    return y


def quantized_conv2d(x: Array, w: Array, m: Array, bias: Array, *attrs: Any) -> Array:
    """Codes of a convolution, a bias and a clamp."""
    if not _single(m):
        return _numpy("quantized_conv2d", x, w, m, bias, *attrs)
    y = _result("quantized_conv2d", (x, w, m, bias), attrs)
    *rest, out_zero_point, lo, hi = attrs
    c = convolution(x.shape, y.shape, *rest, then=(out_zero_point, lo, hi))
    return _run_convolution(y, c, x, w, m, bias)


def quantized_conv2d_float(x: Array, w: Array, m: Array, bias: Array, *attrs: Any) -> Array:
    """The same in floats."""
    if not _single(m, bias):
        return _numpy("quantized_conv2d_float", x, w, m, bias, *attrs)
    y = _result("quantized_conv2d_float", (x, w, m, bias), attrs)
    *rest, lo, hi = attrs
    c = convolution(x.shape, y.shape, *rest, then=(None, lo, hi))
    return _run_convolution(y, c, x, w, m, bias)


def quantized_add(a: Array, b: Array, *attrs: Any) -> Array:
    """Codes of a sum."""
    y = _result("quantized_add", (a, b), attrs)
    a, b = _dense(a, b)
    _check(lib.mg_quantized_add(added(*attrs), y.size, _codes(a), _codes(b), _codes(y)))
    return y


def quantized_lookup(x: Array, table: Array) -> Array:
    """A function of single codes."""
    y = _result("quantized_lookup", (x, table), ())
    x, table = _dense(x, table)
    _check(lib.mg_quantized_lookup(y.size, _codes(x), _codes(table), _codes(y)))
    return y


def quantized_max_pool2d(
    x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Array:
    """The largest code of every window."""
    y = _result("quantized_max_pool2d", (x,), (kernel, stride, padding, dilation, ceil_mode))
    (x,) = _dense(x)
    p = pooling(x.shape, y.shape, kernel, stride, padding, dilation)
    _check(lib.mg_quantized_max_pool2d(p, _codes(x), _codes(y)))
    return y


def quantized_avg_pool2d(
    x: Array,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    zero_point: int,
) -> Array:
    """The mean of every window."""
    rest = (count_include_pad, divisor, zero_point)
    y = _result("quantized_avg_pool2d", (x,), (kernel, stride, padding, ceil_mode, *rest))
    (x,) = _dense(x)
    p = pooling(x.shape, y.shape, kernel, stride, padding, (1, 1), *rest)
    _check(lib.mg_quantized_avg_pool2d(p, _codes(x), _codes(y)))
    return y


def quantized_embedding(index: Array, weight: Array, scale: Array) -> Array:
    """Rows of an int8 table times their scales."""
    if _single(scale):
        y = _result("quantized_embedding", (index, weight, scale), ())
        held = _dense(index.astype(np.int64), weight, scale)
        status = lib.mg_quantized_embedding(
            index.size,
            *weight.shape,
            ffi.cast("int64_t *", ffi.from_buffer(held[0])),
            _weights(held[1]),
            _floats(held[2]),
            _floats(y),
        )
        if status == lib.MG_OK:
            return y
    return _numpy("quantized_embedding", index, weight, scale)  # which words the error


def weight_only_linear(x: Array, w: Array, scale: Array, bias: Array) -> Array:
    """Floats times int8 weights."""
    if not _single(x, scale, bias):
        return _numpy("weight_only_linear", x, w, scale, bias)
    y = _result("weight_only_linear", (x, w, scale, bias), ())
    held = _dense(x, w, scale, bias)
    g = ffi.new("struct mg_weight_only *")
    g.m, (g.n, g.k) = _rows(x), w.shape
    g.x, g.w = _floats(held[0]), _weights(held[1])
    g.scale, g.bias, g.y = _floats(held[2]), _floats(held[3]), _floats(y)
    _check(lib.mg_weight_only(g))
    return y


KERNELS: dict[str, Callable[..., Array]] = (
    {
        f.__name__: f
        for f in (
            quantize,
            dequantize,
            quantize_rows,
            quantized_linear,
            quantized_linear_float,
            quantized_rows_linear,
            quantized_conv2d,
            quantized_conv2d_float,
            quantized_add,
            quantized_lookup,
            quantized_max_pool2d,
            quantized_avg_pool2d,
            quantized_embedding,
            weight_only_linear,
        )
    }
    if available
    else {}
)
"""Op name -> function on arrays, to be merged into the table of the C backend."""
