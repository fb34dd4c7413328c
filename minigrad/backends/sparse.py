"""Sparse matrices times dense ones, and rows picked or added by index, on the C kernels.

    >>> import numpy as np
    >>> from minigrad.backends.pattern import Pattern
    >>> a = Pattern([0, 2, 3], [0, 2, 1], columns=3)
    >>> values = np.array([1.0, 2.0, 3.0], np.float32)
    >>> x = np.arange(6, dtype=np.float32).reshape(3, 2)
    >>> product(values, x, a).tolist()
    [[8.0, 11.0], [6.0, 9.0]]
    >>> product(values[a.order], np.ones((2, 1), np.float32), a.T).ravel().tolist()
    [1.0, 3.0, 2.0]

A pattern is checked when it is made, so nothing is checked here but sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import c as _c
from .c import from_buffer
from .elementwise import CROSSOVER
from .pattern import Pattern

Array = Any

_TYPE = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}


# -- products and reductions over the nonzeros of a pattern ------------------------------------------------


def _int32(array: Array) -> Any:
    return _c.ffi.from_buffer("int32_t[]", array)


def product(values: Array | None, x: Array, pattern: Pattern, out: Array | None = None) -> Array:
    """y[r] = sum of values[k] * x[column k] over the nonzeros of row r; values None means ones.

    x: (columns, ...); `out`, if given, a contiguous array of the result's shape and dtype elsewhere.
    """
    rows = pattern.shape[0]
    y = np.empty((rows, *x.shape[1:]), x.dtype) if out is None else out
    x = np.ascontiguousarray(x)
    _c._check(
        _c.lib.mg_spmm(
            _TYPE[x.dtype],
            0,
            rows,
            math.prod(x.shape[1:]),
            from_buffer(pattern.starts),
            from_buffer(pattern.index),
            _c.ffi.NULL if values is None else from_buffer(np.ascontiguousarray(values)),
            from_buffer(x),
            from_buffer(y),
        )
    )
    return y


def spmm(values: Array, turned: Array, input: Array, pattern: Pattern) -> Array:
    """The kernel of the record of this name."""
    if values.ndim == 1:
        _fits(pattern, input, pattern.shape[1])
        _fits(pattern, values, pattern.nonzeros, input.dtype)
        return product(values, input, pattern)
    values, input = np.ascontiguousarray(values), np.ascontiguousarray(input)
    _fits(pattern, input, pattern.shape[1])
    _fits(pattern, values, pattern.nonzeros, input.dtype)
    if input.ndim != 3 or values.shape[1] != input.shape[1]:
        raise ValueError(f"values of shape {values.shape} with an input of shape {input.shape}")
    y = np.empty((pattern.shape[0], *input.shape[1:]), input.dtype)
    rows, heads, features = y.shape
    _c._check(
        _c.lib.mg_spmm_heads(
            _TYPE[input.dtype],
            rows,
            heads,
            features,
            _int32(pattern.starts),
            _int32(pattern.index),
            from_buffer(values),
            from_buffer(input),
            from_buffer(y),
        )
    )
    return y


def _fits(pattern: Pattern, x: Array, count: int, dtype: Any = None) -> None:
    """Refuse what a kernel would read beyond its end; the shape rule words the error."""
    if not x.ndim or x.shape[0] != count or x.dtype not in _TYPE or (dtype is not None and x.dtype != dtype):
        raise ValueError(f"{x.dtype} of shape {x.shape} does not fit {pattern}")


def sddmm(left: Array, right: Array, pattern: Pattern) -> Array:
    """The kernel of the record of this name."""
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
    _fits(pattern, left, pattern.shape[0])
    _fits(pattern, right, pattern.shape[1], left.dtype)
    if left.shape[1:] != right.shape[1:] or left.ndim not in (2, 3):
        raise ValueError(f"factors of shapes {left.shape} and {right.shape}")
    y = np.empty((pattern.nonzeros, *left.shape[1:-1]), left.dtype)
    _c._check(
        _c.lib.mg_sddmm(
            _TYPE[left.dtype],
            pattern.shape[0],
            math.prod(y.shape[1:]),
            left.shape[-1],
            _int32(pattern.starts),
            _int32(pattern.index),
            from_buffer(left),
            from_buffer(right),
            from_buffer(y),
        )
    )
    return y


def spsum(input: Array, pattern: Pattern) -> Array:
    """The kernel of the record of this name; where each row has one nonzero, rows are picked."""
    _fits(pattern, input, pattern.shape[1])
    if pattern.single:
        return input.take(pattern.index, 0)
    return product(None, input, pattern)


def spmax(input: Array, pattern: Pattern) -> Array:
    """The kernel of the record of this name."""
    _fits(pattern, input, pattern.shape[1])
    input = np.ascontiguousarray(input)
    y = np.empty((pattern.shape[0], *input.shape[1:]), input.dtype)
    _c._check(
        _c.lib.mg_segment_max(
            _TYPE[input.dtype],
            pattern.shape[0],
            math.prod(y.shape[1:]),
            _int32(pattern.starts),
            _int32(pattern.index),
            from_buffer(input),
            from_buffer(y),
        )
    )
    return y


def segment_softmax(input: Array, pattern: Pattern) -> Array:
    """The kernel of the record of this name."""
    _fits(pattern, input, pattern.nonzeros)
    input = np.ascontiguousarray(input)
    y = np.empty_like(input)
    _c._check(
        _c.lib.mg_segment_softmax(
            _TYPE[input.dtype],
            pattern.shape[0],
            math.prod(y.shape[1:]),
            _int32(pattern.starts),
            _int32(pattern.index),
            from_buffer(input),
            from_buffer(y),
        )
    )
    return y


# -- rows by index ---------------------------------------------------------------------------------------


def gather_rows(x: Array, index: Array) -> Array:
    """x[index] for rows of a contiguous array; IndexError for an index that is negative or too large."""
    at = np.ascontiguousarray(index, np.int64)
    y = np.empty((*index.shape, *x.shape[1:]), x.dtype)
    row = x.itemsize * math.prod(x.shape[1:])
    status = _c.lib.mg_gather_rows(
        at.size, x.shape[0], row, _c.ffi.from_buffer("int64_t[]", at), from_buffer(x), from_buffer(y)
    )
    _range(status, x.shape[0])
    return y


def scatter_add_rows(y: Array, index: Array, x: Array) -> None:
    """y[index[i]] += x[i] for rows of contiguous arrays, in the order of i; IndexError as above."""
    at = np.ascontiguousarray(index, np.int64)
    if not y.flags.writeable or not y.flags.c_contiguous or np.may_share_memory(x, y):
        raise ValueError("scatter_add_rows: y must be writable, contiguous and not overlap x")
    if x.shape != (*index.shape, *y.shape[1:]) or x.dtype != y.dtype or x.dtype not in _TYPE:
        raise ValueError(
            f"scatter_add_rows: {x.dtype} {x.shape} onto {y.dtype} {y.shape} by an index {index.shape}"
        )
    x = np.ascontiguousarray(x)
    status = _c.lib.mg_scatter_add_rows(
        _TYPE[y.dtype],
        at.size,
        y.shape[0],
        math.prod(y.shape[1:]),
        _c.ffi.from_buffer("int64_t[]", at),
        from_buffer(x),
        from_buffer(y),
    )
    _range(status, y.shape[0])


def _range(status: int, rows: int) -> None:
    if status == _c.lib.MG_EARG:
        raise IndexError(f"an index is not in 0 .. {rows - 1}")
    _c._check(status)


def index_select(fallback: Callable[..., Array]) -> Callable[..., Array]:
    """The kernel of the record of this name: large rows of a contiguous array go through C."""

    def kernel(input: Array, index: Array, dim: int) -> Array:
        if (
            dim == 0
            and input.ndim > 1
            and index.size * input.shape[-1] >= CROSSOVER["rows"]
            and input.flags.c_contiguous
        ):
            try:
                return gather_rows(input, index)
            except IndexError:
                pass  # the record's kernel words the error
        return fallback(input, index, dim)

    return kernel


def index_add(fallback: Callable[..., Array]) -> Callable[..., Array]:
    """The kernel of the record of this name: np.add.at is slow, so rows of any size go through C."""

    def kernel(input: Array, index: Array, src: Array, dim: int) -> Array:
        usable = dim == 0 and input.dtype in _TYPE and src.dtype == input.dtype and index.size
        if usable and src.shape == (*index.shape, *input.shape[1:]):
            y = input.copy(order="C")
            try:
                scatter_add_rows(y, index, src)
                return y
            except IndexError:
                pass  # the record's kernel words the error
        return fallback(input, index, src, dim)

    return kernel


#: Op name -> kernel.
KERNELS: dict[str, Callable[..., Array]] = (
    {
        "sddmm": sddmm,
        "segment_softmax": segment_softmax,
        "spmax": spmax,
        "spmm": spmm,
        "spsum": spsum,
    }
    if _c.available
    else {}
)

#: Op name -> (the record's kernel) -> the kernel to use.
WRAPPERS: dict[str, Callable[[Callable[..., Array]], Callable[..., Array]]] = (
    {"index_select": index_select, "index_add": index_add} if _c.available else {}
)
