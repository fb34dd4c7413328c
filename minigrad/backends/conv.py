"""Convolution and pooling by the C kernels: the functions of `ops/convolution.py`, on arrays.

Same names, same attributes, same conventions as the records there: images (n, c, h, w), weights (o, c / groups, kh, kw),
padding of a convolution as (above, below, left, right), of a pooling as a pair. A function here computes float32 and
float64; for other types, for sizes that do not fit together (which its record words) and for arrays so small that numpy
is quicker, it calls the record's own numpy kernel.

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
    "ALGORITHMS", "CONV_CROSSOVER", "KERNELS", "POOL_CROSSOVER", "avg_pool2d", "avg_pool2d_grad", "conv2d",
    "conv2d_input_grad", "conv2d_weight_grad", "max_pool2d_index",
]

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]
Borders = tuple[int, int, int, int]

CONV_CROSSOVER = 0
"""Multiply-adds below which numpy is quicker than the call into C."""

POOL_CROSSOVER = 0
"""Elements of the output of a pooling below which numpy is quicker than the call into C."""

ALGORITHMS = {"auto": 0, "direct": 1, "winograd": 2}

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
    x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], dtype: Any, stride: Pair, padding: Borders, dilation: Pair,
    groups: int, algorithm: str,
) -> Any | None:
    """The descriptor of the ABI, or None where C has nothing to offer or the sizes do not fit together."""
    kind = _TYPES.get(dtype)
    if kind is None or not available or len(x) != 4 or len(w) != 4 or len(y) != 4:
        return None
    places = tuple(
        _out(x[2 + d], w[2 + d], stride[d], padding[2 * d], padding[2 * d + 1], dilation[d]) for d in (0, 1)
    )
    if (x[0] != y[0] or w[0] != y[1] or w[1] * groups != x[1] or w[0] % groups or y[2:] != places or min(places) < 1
            or min(w[2:]) < 1 or math.prod(y) * math.prod(w[1:]) < CONV_CROSSOVER):
        return None
    c = ffi.new("struct mg_conv *")
    c.type, c.algorithm = kind, ALGORITHMS[algorithm]
    c.n, c.ci, c.h, c.w = x
    c.co, _, c.kh, c.kw = w
    c.oh, c.ow = places
    c.groups = groups
    c.stride, c.dilation, c.pad = stride, dilation, padding
    return c


def conv2d(
    x: Array, w: Array, stride: Pair, padding: Borders, dilation: Pair, groups: int,
    bias: Array | None = None, relu: bool = False, algorithm: str = "auto",
) -> Array:
    """The products of weights with every patch, summed; then, if wanted, a bias per channel and max(y, 0)."""
    c = None
    if x.dtype == w.dtype and len(x.shape) == len(w.shape) == 4:
        places = tuple(
            _out(x.shape[2 + d], w.shape[2 + d], stride[d], padding[2 * d], padding[2 * d + 1], dilation[d]) for d in (0, 1)
        )
        shape = (x.shape[0], w.shape[0], *places)
        c = _geometry(x.shape, w.shape, shape, x.dtype, stride, padding, dilation, groups, algorithm)
    if c is None or (bias is not None and (bias.dtype != x.dtype or bias.shape != w.shape[:1])):
        y: Array = OPS["conv2d"].kernel(x, w, stride, padding, dilation, groups)
        if bias is not None:
            y = y + bias.reshape(-1, 1, 1)
        return np.maximum(y, 0) if relu else y
    c.act = 1 if relu else 0
    return _call(lib.mg_conv2d, c, np.empty(shape, x.dtype), _dense(x), _dense(w), None if bias is None else _dense(bias))


def conv2d_input_grad(
    g: Array, w: Array, size: Pair, stride: Pair, padding: Borders, dilation: Pair, groups: int, algorithm: str = "auto"
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
    x: Array, g: Array, kernel: Pair, stride: Pair, padding: Borders, dilation: Pair, groups: int, algorithm: str = "auto"
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


KERNELS: dict[str, Callable[..., Array]] = (
    {"conv2d": conv2d, "conv2d_input_grad": conv2d_input_grad, "conv2d_weight_grad": conv2d_weight_grad} if available else {}
)
"""Op name -> function on arrays, to be merged into the table of the C backend."""
