"""Convolution and pooling by the C kernels: the functions of `ops/convolution.py`, on arrays.

Same names, same attributes, same conventions as the records there: images (n, c, h, w), weights
(o, c / groups, kh, kw), padding of a convolution as (above, below, left, right), of a pooling as a pair. A
function here computes float32 and float64; for other types, and for sizes that do not fit together (which its
record words), it calls the record's own numpy kernel.

A convolution has two algorithms with errors of their own, see csrc/conv/conv.c and winograd.c: "direct", and
for 3 x 3 kernels at stride 1 "winograd", about ten times less exact and two to three times quicker. "auto"
takes the second from 16 channels on; `CONV_ALGORITHM` is what calls without an opinion get.

>>> import numpy as np
>>> x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
>>> conv2d(x, w, (1, 1), (0, 0, 0, 0), (1, 1), 1)
array([[[[4., 4.],
         [4., 4.]]]], dtype=float32)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..record import OPS
from .c import _check, available, ffi, lib

__all__ = [
    "ALGORITHMS",
    "CONV_ALGORITHM",
    "CONV_CROSSOVER",
    "KERNELS",
    "POOL_CROSSOVER",
    "avg_pool2d",
    "avg_pool2d_grad",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "max_pool2d",
    "max_pool2d_grad",
    "max_pool2d_index",
]

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]
Borders = tuple[int, int, int, int]

CONV_CROSSOVER = 0
"""Multiply-adds below which numpy is quicker than the call into C. There are none: a single one takes
numpy 8.3 us and C 6.1 (`python benchmarks/bench_conv.py --crossover`)."""

POOL_CROSSOVER = 0
"""Likewise for a pooling, in elements of its output."""

ALGORITHMS = {"auto": 0, "direct": 1, "winograd": 2}

CONV_ALGORITHM = "auto"
"""The algorithm of calls that name none."""

_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}


def _out(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def _dense(x: Array) -> Array:
    """The array as C reads it: contiguous, in the order of its dimensions."""
    return np.ascontiguousarray(x)


def _call(function: Any, geometry: Any, result: Array, *arrays: Array | None) -> Array:
    pointers = [ffi.NULL if a is None else ffi.from_buffer(a) for a in arrays]
    _check(function(geometry, *pointers, ffi.from_buffer(result, require_writable=True)))
    return result


def _geometry(
    x: tuple[int, ...],
    w: tuple[int, ...],
    y: tuple[int, ...],
    dtype: Any,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    algorithm: str | None,
) -> Any | None:
    """The descriptor of the ABI, or None where C has nothing to offer or the sizes do not fit together."""
    kind = _TYPES.get(dtype)
    if kind is None or not available or len(x) != 4 or len(w) != 4 or len(y) != 4:
        return None
    places = tuple(
        _out(x[2 + d], w[2 + d], stride[d], padding[2 * d], padding[2 * d + 1], dilation[d]) for d in (0, 1)
    )
    if (
        x[0] != y[0]
        or w[0] != y[1]
        or w[1] * groups != x[1]
        or w[0] % groups
        or y[2:] != places
        or min(places) < 1
        or min(w[2:]) < 1
        or math.prod(y) * math.prod(w[1:]) < CONV_CROSSOVER
    ):
        return None
    c = ffi.new("struct mg_conv *")
    c.type, c.algorithm = kind, ALGORITHMS[algorithm or CONV_ALGORITHM]
    c.n, c.ci, c.h, c.w = x
    c.co, _, c.kh, c.kw = w
    c.oh, c.ow = places
    c.groups = groups
    c.stride, c.dilation, c.pad = stride, dilation, padding
    return c


def conv2d(
    x: Array,
    w: Array,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    bias: Array | None = None,
    relu: bool = False,
    algorithm: str | None = None,
) -> Array:
    """The products of weights with every patch, summed; then, if wanted, a bias per channel and max(y, 0)."""
    c = None
    if x.dtype == w.dtype and len(x.shape) == len(w.shape) == 4:
        places = tuple(
            _out(x.shape[2 + d], w.shape[2 + d], stride[d], padding[2 * d], padding[2 * d + 1], dilation[d])
            for d in (0, 1)
        )
        shape = (x.shape[0], w.shape[0], *places)
        c = _geometry(x.shape, w.shape, shape, x.dtype, stride, padding, dilation, groups, algorithm)
    if c is None or (bias is not None and (bias.dtype != x.dtype or bias.shape != w.shape[:1])):
        y: Array = OPS["conv2d"].kernel(x, w, stride, padding, dilation, groups)
        if bias is not None:
            y = y + bias.reshape(-1, 1, 1)
        return np.maximum(y, 0) if relu else y
    c.act = 1 if relu else 0
    return _call(
        lib.mg_conv2d,
        c,
        np.empty(shape, x.dtype),
        _dense(x),
        _dense(w),
        None if bias is None else _dense(bias),
    )


def conv2d_input_grad(
    g: Array,
    w: Array,
    size: Pair,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    algorithm: str | None = None,
) -> Array:
    """The transpose of `conv2d` in its input, an image of `size`."""
    c = None
    if g.dtype == w.dtype and len(g.shape) == len(w.shape) == 4:
        shape = (g.shape[0], w.shape[1] * groups, *size)
        c = _geometry(shape, w.shape, g.shape, g.dtype, stride, padding, dilation, groups, algorithm)
    if c is None:
        y: Array = OPS["conv2d_input_grad"].kernel(g, w, size, stride, padding, dilation, groups)
        return y
    return _call(lib.mg_conv2d_input_grad, c, np.empty(shape, g.dtype), _dense(g), _dense(w))


def conv2d_weight_grad(
    x: Array,
    g: Array,
    kernel: Pair,
    stride: Pair,
    padding: Borders,
    dilation: Pair,
    groups: int,
    algorithm: str | None = None,
) -> Array:
    """The transpose of `conv2d` in its weight, a kernel of the given size."""
    c = None
    if x.dtype == g.dtype and len(x.shape) == len(g.shape) == 4 and x.shape[1] % groups == 0:
        shape = (g.shape[1], x.shape[1] // groups, *kernel)
        c = _geometry(x.shape, shape, g.shape, x.dtype, stride, padding, dilation, groups, algorithm)
    if c is None:
        y: Array = OPS["conv2d_weight_grad"].kernel(x, g, kernel, stride, padding, dilation, groups)
        return y
    return _call(lib.mg_conv2d_weight_grad, c, np.empty(shape, x.dtype), _dense(x), _dense(g))


# --- pooling ------------------------------------------------------------------------------------------


def _pooling(
    x: tuple[int, ...], dtype: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Any | None:
    """The descriptor of the ABI with the sizes that `ceil_mode` implies; None where numpy has to answer."""
    kind = _TYPES.get(dtype)
    if kind is None or not available or len(x) != 4:
        return None
    out = []
    for size, k, s, p, d in zip(x[2:], kernel, stride, padding, dilation, strict=True):
        room = size + 2 * p - d * (k - 1) - 1
        n = (room + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (n - 1) * s >= size + p:
            n -= 1
        if n < 1 or 2 * p > k or size < 1:
            return None
        # Every window needs an element of its own; those that begin outside the image may lack it.
        outside = (*range(min(n, -(-p // s))), n - 1)
        if any(not any(0 <= i * s - p + u * d < size for u in range(k)) for i in outside):
            return None
        out.append(n)
    if math.prod(x[:2]) * math.prod(out) < POOL_CROSSOVER:
        return None
    c = ffi.new("struct mg_pool2d *")
    c.type, c.n = kind, math.prod(x[:2])
    c.h, c.w = x[2:]
    c.kh, c.kw = kernel
    c.oh, c.ow = out
    c.stride, c.dilation, c.pad = stride, dilation, padding
    return c


def max_pool2d_index(
    x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Array:
    """Where the first largest element of each window is, as a position in the flattened image."""
    c = _pooling(x.shape, x.dtype, kernel, stride, padding, dilation, ceil_mode)
    if c is None:
        y: Array = OPS["max_pool2d_index"].kernel(x, kernel, stride, padding, dilation, ceil_mode)
        return y
    index = np.empty((*x.shape[:2], c.oh, c.ow), np.int64)
    x = _dense(x)
    _check(lib.mg_max_pool2d(c, ffi.from_buffer(x), ffi.NULL, ffi.from_buffer("int64_t[]", index)))
    return index


def max_pool2d(
    x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Values and positions in one pass: what a plan runs for max_pool2d_index and the gather after it."""
    c = _pooling(x.shape, x.dtype, kernel, stride, padding, dilation, ceil_mode)
    if c is None:
        index = OPS["max_pool2d_index"].kernel(x, kernel, stride, padding, dilation, ceil_mode)
        flat = np.reshape(x, (*x.shape[:2], -1))
        return np.take_along_axis(flat, index.reshape(*x.shape[:2], -1), 2).reshape(index.shape), index
    index = np.empty((*x.shape[:2], c.oh, c.ow), np.int64)
    y = np.empty(index.shape, x.dtype)
    x = _dense(x)
    _check(lib.mg_max_pool2d(c, ffi.from_buffer(x), ffi.from_buffer(y), ffi.from_buffer("int64_t[]", index)))
    return y, index


def max_pool2d_grad(g: Array, index: Array, size: Pair, above: Array | None = None) -> Array:
    """Every element of g added to the position it came from, in images of `size`.

    `above`, the result of the pooling, is for a relu before or behind it: g counts where above > 0.
    """
    if above is not None and (above.shape != g.shape or above.dtype != g.dtype):
        raise ValueError(f"max_pool2d_grad: shapes {g.shape} and {above.shape} or their types differ")
    if g.shape != index.shape or g.ndim != 4:
        raise ValueError(
            f"max_pool2d_grad: shapes {g.shape} and {index.shape} must be the same four-dimensional one"
        )
    pixels = size[0] * size[1]
    outside = ValueError(f"max_pool2d_grad: an index outside an image of {size[0]}x{size[1]}")
    kind = _TYPES.get(g.dtype)
    if kind is None or not available or g.size == 0 or pixels == 0:
        if index.size and not (int(index.min()) >= 0 and int(index.max()) < pixels):
            raise outside
        if above is not None:
            g = np.where(above > 0, g, g.dtype.type(0))
        x = np.zeros((*g.shape[:2], *size), g.dtype)
        planes = np.arange(math.prod(g.shape[:2])).reshape(*g.shape[:2], 1, 1)
        np.add.at(x.reshape(-1), index + planes * pixels, g)
        return x
    c = ffi.new("struct mg_pool2d *")
    c.type, c.n = kind, math.prod(g.shape[:2])
    c.h, c.w = size
    c.oh, c.ow = g.shape[2:]
    c.kh = c.kw = 1
    c.stride = c.dilation = (1, 1)
    # The geometry of the windows does not matter here, but must be one that exists.
    c.pad = (max(0, c.oh - c.h), max(0, c.ow - c.w))
    g, index = _dense(g), np.ascontiguousarray(index, np.int64)
    x = np.empty((*g.shape[:2], *size), g.dtype)
    places, result = ffi.from_buffer("int64_t[]", index), ffi.from_buffer(x)
    if above is None:
        status = lib.mg_max_pool2d_grad(c, ffi.from_buffer(g), places, result)
    else:
        above = _dense(above)
        status = lib.mg_max_pool2d_relu_grad(c, ffi.from_buffer(g), ffi.from_buffer(above), places, result)
    if status == lib.MG_EARG:  # the geometry is in order, so it is this
        raise outside
    _check(status)
    return x


def _averaging(
    x: tuple[int, ...],
    dtype: Any,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Any | None:
    c = _pooling(x, dtype, kernel, stride, padding, (1, 1), ceil_mode)
    if c is not None:
        c.count_include_pad, c.divisor = count_include_pad, divisor or 0
    return c


def avg_pool2d(x: Array, *windows: Any) -> Array:
    """The mean of every window; `windows` as in `_averaging`: kernel, stride, padding, ..."""
    c = _averaging(x.shape, x.dtype, *windows)
    if c is None:
        y: Array = OPS["avg_pool2d"].kernel(x, *windows)
        return y
    return _call(lib.mg_avg_pool2d, c, np.empty((*x.shape[:2], c.oh, c.ow), x.dtype), _dense(x))


def avg_pool2d_grad(g: Array, size: Pair, *windows: Any) -> Array:
    """The transpose of `avg_pool2d`, an image of `size`."""
    c = _averaging((*g.shape[:2], *size), g.dtype, *windows) if g.ndim == 4 else None
    if c is None or (c.oh, c.ow) != g.shape[2:]:
        y: Array = OPS["avg_pool2d_grad"].kernel(g, size, *windows)
        return y
    return _call(lib.mg_avg_pool2d_grad, c, np.empty((*g.shape[:2], *size), g.dtype), _dense(g))


KERNELS: dict[str, Callable[..., Array]] = (
    {
        f.__name__: f
        for f in (
            conv2d,
            conv2d_input_grad,
            conv2d_weight_grad,
            max_pool2d_index,
            avg_pool2d,
            avg_pool2d_grad,
        )
    }
    if available
    else {}
)
"""Op name -> function on arrays, to be merged into the table of the C backend."""
