"""Sparse matrices times dense ones, and rows picked or added by index, on the C kernels.

    >>> import numpy as np
    >>> a = CSR(np.array([0, 2, 3]), np.array([0, 2, 1]), np.array([1.0, 2.0, 3.0], np.float32), 3)
    >>> x = np.arange(6, dtype=np.float32).reshape(3, 2)
    >>> a.dot(x).tolist()
    [[8.0, 11.0], [6.0, 9.0]]
    >>> a.transpose().dot(np.ones((2, 1), np.float32)).ravel().tolist()
    [1.0, 3.0, 2.0]

The gradient of y = A x is gx = A^T gy: `transpose` is made once and kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from . import c as _c
from .elementwise import CROSSOVER

Array = Any

_TYPE = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}
_INT64 = np.dtype(np.int64)


class CSR:
    """A sparse matrix: row r has `values[k]` in column `index[k]`, starts[r] <= k < starts[r + 1].

    Indices may be int32 or int64; `values` None means ones.  Raises ValueError for a malformed matrix.
    """

    def __init__(
        self, starts: Array, index: Array, values: Array | None, columns: int, *, check: bool = True
    ) -> None:
        kind = np.int64 if _INT64 in (np.asarray(starts).dtype, np.asarray(index).dtype) else np.int32
        if kind is np.int64 and max(len(index), columns, len(starts)) < 2**31:
            kind = np.int32  # half the memory to read
        if check:
            for name, a in (("starts", starts), ("index", index)):
                if a.ndim != 1 or a.dtype.kind not in "iu" or (a.size and (a.max() > 2**62 or a.min() < 0)):
                    raise ValueError(f"CSR: {name} must be one-dimensional non-negative integers")
            if kind is np.int32 and any(a.size and a.max() >= 2**31 for a in (starts, index)):
                raise ValueError("CSR: an index is out of range")
        self.starts, self.index = np.ascontiguousarray(starts, kind), np.ascontiguousarray(index, kind)
        self.values: Any = None if values is None else np.ascontiguousarray(values)
        self.shape = (len(self.starts) - 1, columns)
        self.wide = kind is np.int64
        v = self.values
        if v is not None and (v.shape != self.index.shape or v.dtype not in _TYPE):
            raise ValueError("CSR: values must be float32 or float64, one for each index")
        if check and (len(self.starts) < 1 or self._malformed()):
            raise ValueError(
                f"CSR: starts must rise from 0 to {len(self.index)}, and indices be less than {columns}"
            )

    def _malformed(self) -> bool:
        if _c.available:
            rows, columns = self.shape
            return bool(
                _c.lib.mg_csr_check(self.wide, rows, columns, len(self.index), self._starts, self._index)
            )
        steps = np.diff(self.starts)
        seen: Any = self.index
        inside = not seen.size or (seen.min() >= 0 and seen.max() < self.shape[1])
        return bool(
            self.starts[0] != 0 or self.starts[-1] != len(self.index) or (steps < 0).any() or not inside
        )

    @cached_property
    def _starts(self) -> Any:
        return _c.from_buffer(self.starts)

    @cached_property
    def _index(self) -> Any:
        return _c.from_buffer(self.index)

    def _values(self, dtype: Any) -> Array | None:
        return None if self.values is None else self.values.astype(dtype, copy=False)

    def dot(self, x: Array, out: Array | None = None) -> Array:
        """The product with a dense matrix (columns, features), or with a vector."""
        rows, columns = self.shape
        if x.ndim not in (1, 2) or x.shape[0] != columns:
            raise ValueError(f"CSR: a matrix {self.shape} times an array of shape {x.shape}")
        shape = (rows, *x.shape[1:])
        values = self._values(x.dtype)
        if x.dtype not in _TYPE or not _c.available:
            y = np.zeros(shape, x.dtype)
            places = np.repeat(np.arange(rows), np.diff(self.starts))
            terms = (
                x[self.index] if values is None else x[self.index] * values.reshape(-1, *(1,) * (x.ndim - 1))
            )
            np.add.at(y, places, terms)
        else:
            x = np.ascontiguousarray(x)
            if out is None:
                y = np.empty(shape, x.dtype)
            elif (
                out.shape != shape
                or out.dtype != x.dtype
                or not out.flags.c_contiguous
                or not out.flags.writeable
            ):
                raise ValueError(f"CSR: out must be writable, contiguous, {x.dtype} and of shape {shape}")
            elif np.may_share_memory(out, x):
                raise ValueError("CSR: out overlaps x")
            else:
                y = out
            _c._check(
                _c.lib.mg_spmm(
                    _TYPE[x.dtype],
                    self.wide,
                    rows,
                    math.prod(shape[1:]),
                    self._starts,
                    self._index,
                    _c.ffi.NULL if values is None else _c.from_buffer(values),
                    _c.from_buffer(x),
                    _c.from_buffer(y),
                )
            )
            return y
        if out is not None:
            out[...] = y
            return out
        return y

    def transpose(self) -> CSR:
        """The transposed matrix, made at the first call."""
        return self._transposed

    @cached_property
    def _transposed(self) -> CSR:
        rows, columns = self.shape
        starts, index = np.empty(columns + 1, self.starts.dtype), np.empty_like(self.index)
        values = None if self.values is None else np.empty_like(self.values)
        if _c.available:
            null = _c.ffi.NULL
            kind = 0 if self.values is None else _TYPE[self.values.dtype]
            _c._check(
                _c.lib.mg_csr_transpose(
                    kind,
                    self.wide,
                    rows,
                    columns,
                    self._starts,
                    self._index,
                    null if self.values is None else _c.from_buffer(self.values),
                    _c.from_buffer(starts),
                    _c.from_buffer(index),
                    null if values is None else _c.from_buffer(values),
                )
            )
        else:
            order = np.argsort(self.index, kind="stable")
            index = np.repeat(np.arange(rows), np.diff(self.starts))[order]
            places: Any = self.index
            counts: Any = np.bincount(places, minlength=columns)
            starts = np.concatenate([[0], np.cumsum(counts)])
            values = None if self.values is None else self.values[order]
        result = CSR(starts, index, values, rows, check=False)
        result.__dict__["_transposed"] = self
        return result


# -- rows by index ---------------------------------------------------------------------------------------


def gather_rows(x: Array, index: Array) -> Array:
    """x[index] for rows of a contiguous array; IndexError for an index that is negative or too large."""
    at = np.ascontiguousarray(index, np.int64)
    y = np.empty((*index.shape, *x.shape[1:]), x.dtype)
    row = x.itemsize * math.prod(x.shape[1:])
    status = _c.lib.mg_gather_rows(
        at.size, x.shape[0], row, _c.ffi.from_buffer("int64_t[]", at), _c.from_buffer(x), _c.from_buffer(y)
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
        _c.from_buffer(x),
        _c.from_buffer(y),
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


#: Op name -> (the record's kernel) -> the kernel to use.
WRAPPERS: dict[str, Callable[[Callable[..., Array]], Callable[..., Array]]] = (
    {"index_select": index_select, "index_add": index_add} if _c.available else {}
)
