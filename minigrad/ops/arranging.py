"""Shapes and places: tiling, rolling, stacking, scattering, windows, and sets of values.

Most of these are programs of a few operations that exist already, so their gradients come for free.
Two are operations: `scatter` (values replaced at places; where a place is named twice the last one
stays, and only that one has a gradient) and `scatter_extreme` and `scatter_prod` for `scatter_reduce`.

    >>> import minigrad as mg
    >>> mg.tensor([[1.0, 2.0]]).tile(2, 2)
    tensor([[1., 2., 1., 2.],
            [1., 2., 1., 2.]])
    >>> mg.zeros(3).scatter(0, mg.tensor([2]), 5.0)
    tensor([0., 0., 5.])

`unique` and `bincount` give results whose shape depends on values, so they cannot be traced; they
say so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..bind import in_place, method, primitive, promoted
from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir import Shape, Spec, int32, int64, is_float
from ..ir import broadcast_shapes as common_shape
from ..random import Generator
from ..tensor import Symbol, Tensor, wrap
from .creation import randn, zeros
from .elementwise import cast, check_device, masked_fill, maximum, where
from .indexing import (
    _check_range,
    _flat,
    _gather,
    _index_put,
    _index_select,
    _integers,
    _parse,
    _scatter_add,
    _scatter_shape,
    _src_grad,
    gather,
    getitem,
    nonzero,
)
from .indexing import diagonal as _diagonal
from .movement import (
    _reshape,
    as_shape,
    broadcast_to,
    cat,
    flip,
    movedim,
    one_dim,
    pad_dim,
    slice_dim,
    split,
    stack,
    swapaxes,
    unsqueeze,
)
from .reduction import cumsum

__all__ = [
    "argwhere",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "bincount",
    "block_diag",
    "broadcast_shapes",
    "broadcast_tensors",
    "bucketize",
    "cartesian_prod",
    "column_stack",
    "combinations",
    "diag",
    "diag_embed",
    "diagflat",
    "dstack",
    "fliplr",
    "flipud",
    "hstack",
    "index_copy",
    "index_fill",
    "index_put",
    "isin",
    "masked_scatter",
    "meshgrid",
    "moveaxis",
    "narrow",
    "normal",
    "ravel",
    "repeat_interleave",
    "roll",
    "rot90",
    "scatter",
    "scatter_reduce",
    "searchsorted",
    "select",
    "take",
    "take_along_dim",
    "tensor_split",
    "tile",
    "tril_indices",
    "triu_indices",
    "unfold",
    "unique",
    "unique_consecutive",
    "unravel_index",
    "vstack",
]

# -- repeating and rolling ------------------------------------------------------------------------------


@method("repeat")
def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """The tensor tiled: repeats[d] times along dimension d; further leading dimensions are added.

    Raises ArgumentError for fewer numbers than dimensions.
    """
    counts = as_shape("repeat", repeats)
    if len(counts) < input.ndim or any(c < 0 for c in counts):
        raise ArgumentError(
            "repeat",
            f"repeats {counts} for shape {input.shape}",
            fix="give one number of at least 0 a dimension",
        )
    shape = (1,) * (len(counts) - input.ndim) + input.shape
    spread = tuple(s for pair in zip(counts, shape, strict=True) for s in pair)
    x = _reshape(input, tuple(s for size in shape for s in (1, size)))
    return _reshape(broadcast_to(x, spread), tuple(c * s for c, s in zip(counts, shape, strict=True)))


@method("tile")
def tile(input: Tensor, *dims: Any) -> Tensor:
    """`repeat`, with missing leading numbers taken as 1, as numpy's tile."""
    counts = as_shape("tile", dims)
    return repeat(input, *(1,) * (input.ndim - len(counts)), *counts)


@method("repeat_interleave")
def repeat_interleave(input: Tensor, repeats: int | Tensor, dim: int | None = None) -> Tensor:
    """Each element (each slice along `dim`) repeated in place: [a, b] by 2 is [a, a, b, b].

    `repeats` is a number, or a vector with one for each slice.  Without `dim` the input is flattened.
    """
    if dim is None:
        input, dim = _reshape(input, (input.numel(),)), 0
    at = one_dim("repeat_interleave", dim, input.ndim)
    counts = np.asarray(repeats._concrete("repeat_interleave") if isinstance(repeats, Tensor) else repeats)
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or (counts < 0).any():
        raise ArgumentError("repeat_interleave", f"repeats {repeats!r}", fix="give integers of at least 0")
    if counts.ndim and len(counts) not in (1, input.shape[at]):
        raise ShapeError(
            "repeat_interleave",
            f"{len(counts)} repeats for {input.shape[at]} slices of dim {dim}",
            fix="give one for each slice",
        )
    index = np.repeat(np.arange(input.shape[at]), counts)
    return _index_select(input, wrap(index), at)


@method("roll")
def roll(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """Elements moved along dimensions, those that fall off coming in again at the other end.

    Without `dims` the flattened tensor is rolled.
    """
    if dims is None:
        if not isinstance(shifts, int):
            raise ArgumentError(
                "roll", f"shifts {shifts!r} without dims", fix="pass dims, one for each shift"
            )
        return _reshape(roll(_reshape(input, (input.numel(),)), shifts, 0), input.shape)
    by = [shifts] if isinstance(shifts, int) else list(shifts)
    along = [dims] if isinstance(dims, int) else list(dims)
    if len(by) != len(along):
        raise ArgumentError("roll", f"{len(by)} shifts for {len(along)} dims", fix="give one shift a dim")
    for shift, dim in zip(by, along, strict=True):
        at = one_dim("roll", dim, input.ndim)
        n = input.shape[at]
        k = shift % n if n else 0
        if k:
            input = cat([slice_dim(input, at, n - k, n), slice_dim(input, at, 0, n - k)], at)
    return input


@method("fliplr")
def fliplr(input: Tensor) -> Tensor:
    """The second dimension in reverse."""
    one_dim("fliplr", 1, input.ndim)
    return flip(input, 1)


@method("flipud")
def flipud(input: Tensor) -> Tensor:
    """The first dimension in reverse."""
    one_dim("flipud", 0, input.ndim)
    return flip(input, 0)


@method("rot90")
def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Rotated k times by 90 degrees, from the first of two dimensions towards the second."""
    a, b = (one_dim("rot90", d, input.ndim) for d in dims)
    if a == b:
        raise ArgumentError("rot90", f"dims {tuple(dims)}", fix="name two different dimensions")
    k %= 4
    if k == 2:
        return flip(input, a, b)
    if k == 1:
        return swapaxes(flip(input, b), a, b)
    return flip(swapaxes(input, a, b), b) if k else input


# -- joining and cutting -----------------------------------------------------------------------------------


def _at_least(x: Tensor, dims: int) -> Tensor:
    if x.ndim == 0:
        return _reshape(x, (1,) * dims)
    if x.ndim == 1 and dims > 1:
        x = unsqueeze(x, 0)
    return unsqueeze(x, -1) if x.ndim == 2 and dims > 2 else x


def atleast_1d(input: Tensor) -> Tensor:
    """The tensor with at least one dimension."""
    return _at_least(input, 1)


def atleast_2d(input: Tensor) -> Tensor:
    """The tensor with at least two dimensions; a vector becomes a row."""
    return _at_least(input, 2)


def atleast_3d(input: Tensor) -> Tensor:
    """The tensor with at least three dimensions; a vector of n becomes (1, n, 1)."""
    return _at_least(input, 3)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined side by side: along the second dimension, vectors along the first."""
    parts = [_at_least(t, 1) for t in tensors]
    return cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined on top of each other: along the first dimension, vectors being rows."""
    return cat([_at_least(t, 2) for t in tensors], 0)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined in depth: along the third dimension."""
    return cat([_at_least(t, 3) for t in tensors], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined side by side, vectors being columns."""
    return cat([_reshape(t, (t.numel(), 1)) if t.ndim < 2 else t for t in tensors], 1)


@method("tensor_split")
def tensor_split(input: Tensor, indices_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of parts of a dimension: so many of nearly equal size, or cut before the given places."""
    at = one_dim("tensor_split", dim, input.ndim)
    if not input.ndim:
        raise ShapeError(
            "tensor_split", "a 0-d tensor cannot be split", fix="add a dimension with unsqueeze(0)"
        )
    n = input.shape[at]
    if isinstance(indices_or_sections, int):
        count = indices_or_sections
        if count <= 0:
            raise ArgumentError("tensor_split", f"{count} sections", fix="use a positive number")
        sizes = [n // count + (i < n % count) for i in range(count)]
        return split(input, sizes, at)
    cuts = [range(n)[slice(i, None)].start for i in indices_or_sections]
    starts, stops = [0, *cuts], [*cuts, n]
    return tuple(slice_dim(input, at, a, max(a, b)) for a, b in zip(starts, stops, strict=True))


@method("narrow")
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A view of `length` places of a dimension from `start` on."""
    at = one_dim("narrow", dim, input.ndim)
    n = input.shape[at] if input.ndim else 0
    begin = start + n if start < 0 else start
    if not 0 <= begin <= n or length < 0 or begin + length > n:
        raise ArgumentError(
            "narrow",
            f"places {start} to {start + length} of a dimension of size {n}",
            fix="stay within the size",
        )
    return slice_dim(input, at, begin, begin + length)


@method("select")
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice at one place of a dimension, without the dimension: a view."""
    at = one_dim("select", dim, input.ndim)
    return getitem(input, (slice(None),) * at + (index,))


@method("ravel")
def ravel(input: Tensor) -> Tensor:
    """The elements in one dimension."""
    return _reshape(input, (input.numel(),))


@method("unfold")
def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of `size` along a dimension, `step` apart, in a new last dimension (a copy)."""
    at = one_dim("unfold", dimension, input.ndim)
    n = input.shape[at] if input.ndim else 1
    if not 0 <= size <= n or step <= 0:
        raise ArgumentError(
            "unfold",
            f"windows of {size}, {step} apart, of a size of {n}",
            fix="use a size that fits, a step above 0",
        )
    x = input if input.ndim else _reshape(input, (1,))
    windows = np.arange(0, n - size + 1, step)[:, None] + np.arange(size)
    return movedim(_index_select(x, wrap(windows), at), at + 1, -1) if input.ndim else _reshape(x, (size,))


def broadcast_shapes(*shapes: Any) -> Shape:
    """The shape that tensors of these shapes broadcast to.  Raises ShapeError if they do not."""
    try:
        return common_shape(*(as_shape("broadcast_shapes", (s,)) for s in shapes))
    except ValueError as error:
        raise ShapeError(
            "broadcast_shapes", f"shapes {shapes}: {error}", fix="make the sizes equal, or 1"
        ) from None


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as views of their common shape."""
    try:
        shape = common_shape(*[t.shape for t in tensors])
    except ValueError as error:
        shapes = " and ".join(str(t.shape) for t in tensors)
        raise ShapeError(
            "broadcast_tensors",
            f"shapes {shapes} do not broadcast: {error}",
            fix="make the sizes equal, or 1",
        ) from None
    return tuple(broadcast_to(t, shape) for t in tensors)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of a grid from those of its axes (vectors); "xy" exchanges the first two dimensions."""
    axes = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    if indexing not in ("ij", "xy"):
        raise ArgumentError("meshgrid", f"indexing {indexing!r}", fix="use 'ij' or 'xy'")
    if any(t.ndim > 1 for t in axes):
        raise ShapeError("meshgrid", f"shapes {[t.shape for t in axes]}", fix="pass vectors")
    shape = tuple(t.numel() for t in axes)
    grids = [
        broadcast_to(_reshape(t, tuple(t.numel() if i == j else 1 for j in range(len(axes)))), shape)
        for i, t in enumerate(axes)
    ]
    if indexing == "xy" and len(axes) > 1:
        grids = [swapaxes(grid, 0, 1) for grid in grids]
    return tuple(grids)


# -- diagonals --------------------------------------------------------------------------------------------


@method("diag_embed")
def diag_embed(input: Tensor, offset: int = 0) -> Tensor:
    """Matrices (..., n, n) with the last dimension of the input on a diagonal."""
    n = input.shape[-1] + abs(offset)
    place = wrap(np.arange(input.shape[-1]) * (n + 1) + max(offset, 0) + max(-offset, 0) * n)
    flat = input.new_zeros((*input.shape[:-1], n * n)).index_add(-1, place, input)
    return _reshape(flat, (*input.shape[:-1], n, n))


@method("diag")
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The matrix with a vector on a diagonal, or the diagonal of a matrix."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim != 2:
        raise ShapeError("diag", f"shape {input.shape}", fix="pass a vector or a matrix")
    return _diagonal(input, diagonal)


@method("trace")
def trace_of_matrix(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix.  (`minigrad.trace` records a graph; this is a method.)"""
    if input.ndim != 2:
        raise ShapeError("trace", f"shape {input.shape} is not that of a matrix", fix="pass (n, m)")
    return _diagonal(input).sum()


def block_diag(*tensors: Tensor) -> Tensor:
    """A matrix with the given matrices along its diagonal; vectors are rows."""
    blocks = [_at_least(t, 2) for t in tensors]
    if any(b.ndim != 2 for b in blocks):
        raise ShapeError("block_diag", f"shapes {[b.shape for b in blocks]}", fix="pass matrices or vectors")
    if not blocks:
        return zeros(1, 0)
    width = sum(b.shape[1] for b in blocks)
    rows, left = [], 0
    for b in blocks:
        rows.append(pad_dim(b, 1, left, width - left - b.shape[1]))
        left += b.shape[1]
    return cat(rows, 0)


# -- places by index --------------------------------------------------------------------------------------


def _checked(input: Any, index: Any, src: Any, dim: int) -> None:
    x, i, s = (Spec(a.shape, a.dtype) for a in (input, index, src))
    _scatter_shape(x, i, s, dim)


def _scatter_kernel(input: Any, index: Any, src: Any, dim: int) -> Any:
    _checked(input, index, src, dim)
    y = input.copy(order="C")
    part = src[tuple(slice(n) for n in index.shape)]
    if not y.ndim:
        _check_range(index, 1)
        return np.asarray(part.reshape(-1)[-1] if part.size else y)
    _check_range(index, y.shape[dim])
    y.reshape(-1)[_flat(index, y.shape, dim)] = part
    return y


def _positions(shape: Shape) -> Tensor:
    return wrap(np.arange(math.prod(shape)).reshape(shape))


def _scatter_src_rule(g: Tensor, index: Tensor, x_shape: Shape, dim: int) -> Tensor:
    """The cotangent where a value stayed: of several at one place, the last."""
    number = _positions(index.shape)
    held = _gather(_scatter(wrap(np.full(g.shape, -1)), index, number, dim), index, dim) == number
    mask = cast(held, g.dtype)
    for d, (n, m) in enumerate(zip(mask.shape, x_shape, strict=True)):
        if n != m:
            mask = pad_dim(mask, d, 0, m - n)
    return _src_grad(g, index, x_shape, dim) * mask


_scatter = primitive(
    "scatter",
    kind="index",
    inputs=("input", "index", "src"),
    attrs=("dim",),
    kernel=_scatter_kernel,
    shape=_scatter_shape,
    vjp=(
        lambda g, index, dim: _scatter(g, index, zeros(index.shape, dtype=g.dtype), dim),
        None,
        lambda g, index, x_shape, dim: _scatter_src_rule(g, index, x_shape, dim),
    ),
    traits={"batched": True},
    samples=lambda rng: [
        ((rng.normal(size=(3, 4)), rng.integers(0, 4, (3, 5)), rng.normal(size=(3, 5))), (1,)),
        ((rng.normal(size=(3, 4)), rng.integers(0, 3, (2, 3)), rng.normal(size=(2, 4))), (0,)),
        ((rng.normal(size=(3,)), np.zeros(0, np.int64), rng.normal(size=(2,))), (0,)),
    ],
    doc="values replaced at places along one dimension: y[index[i][j]][j] = src[i][j] for dim 0",
    error=0.0,
)


@method("scatter", inplace=True)
def scatter(
    input: Tensor, dim: int, index: Tensor, src: Tensor | float, *, reduce: str | None = None
) -> Tensor:
    """`input` with elements replaced by those of `src` (or by a number) at the places of `index` along `dim`.

    Of several values for one place the last stays (PyTorch leaves it open), and it alone has a gradient.
    reduce "add" or "multiply" combines with what is there instead.
    """
    at = one_dim("scatter", dim, input.ndim)
    index = _integers("scatter", index)
    values = src if isinstance(src, Tensor) else zeros(index.shape, dtype=input.dtype) + src
    if reduce == "add":
        return _scatter_add(input, index, values, at)
    if reduce == "multiply":
        return scatter_reduce(input, dim, index, values, "prod")
    if reduce is not None:
        raise ArgumentError("scatter", f"reduce {reduce!r}", fix="use 'add', 'multiply' or None")
    return _scatter(input, index, cast(values, input.dtype), at)


def _scattered(combine: Any) -> Any:
    def kernel(input: Any, index: Any, src: Any, dim: int, *attrs: Any) -> Any:
        _checked(input, index, src, dim)
        _check_range(index, input.shape[dim])
        y = input.copy(order="C")
        part = src[tuple(slice(n) for n in index.shape)]
        combine(attrs).at(y.reshape(-1), _flat(index, y.shape, dim), part)
        return y

    return kernel


def _extreme_share(g: Tensor, y: Tensor, input: Tensor, index: Tensor, src: Tensor, dim: int) -> Tensor:
    """The cotangent of each place divided by how many values reach its extreme."""
    part = _first_part(src, index)
    reached = cast(part == _gather(y, index, dim), g.dtype)
    return g / maximum(_scatter_add(cast(input == y, g.dtype), index, reached, dim), 1.0)


def _first_part(src: Tensor, index: Tensor) -> Tensor:
    for d, n in enumerate(index.shape):
        if n != src.shape[d]:
            src = slice_dim(src, d, 0, n)
    return src


def _padded(part: Tensor, shape: Shape) -> Tensor:
    for d, (n, m) in enumerate(zip(part.shape, shape, strict=True)):
        if n != m:
            part = pad_dim(part, d, 0, m - n)
    return part


def _extreme_src_rule(g: Tensor, y: Tensor, input: Tensor, index: Tensor, src: Tensor, dim: int) -> Tensor:
    reached = cast(_first_part(src, index) == _gather(y, index, dim), g.dtype)
    return _padded(_gather(_extreme_share(g, y, input, index, src, dim), index, dim) * reached, src.shape)


_reduce_samples = [((3, 4), (3, 5), 1), ((3, 4), (2, 4), 0)]

_scatter_extreme = primitive(
    "scatter_extreme",
    kind="index",
    inputs=("input", "index", "src"),
    attrs=("dim", "smallest"),
    kernel=_scattered(lambda attrs: np.minimum if attrs[0] else np.maximum),
    shape=lambda input, index, src, dim, smallest: _scatter_shape(input, index, src, dim),
    vjp=(
        lambda g, y, input, index, src, dim: (
            _extreme_share(g, y, input, index, src, dim) * cast(input == y, g.dtype)
        ),
        None,
        lambda g, y, input, index, src, dim: _extreme_src_rule(g, y, input, index, src, dim),
    ),
    traits={"batched": True},
    samples=lambda rng: [
        (
            (
                rng.permutation(math.prod(x)).reshape(x) / 5.0,
                rng.integers(0, x[dim], s),
                rng.permutation(math.prod(s)).reshape(s) / 7.0 + 0.03,
            ),
            (dim, smallest),
        )
        for x, s, dim in _reduce_samples
        for smallest in (False, True)
    ],
    doc="the largest (smallest) of what is at a place and of all values for it",
    error=0.0,
)


def _others(part: Tensor, groups: Tensor, index: Tensor, dim: int, zero: Tensor) -> Tensor:
    """For each value, the product of everything else at its place."""
    none = part == 0.0
    ones = where(none, 1.0, part)
    # `groups`: products of what is not zero; `zero`: how many zeros.
    total, zeros_there = _gather(groups, index, dim), _gather(zero, index, dim)
    alone = where(zeros_there == 1.0, total, 0.0)
    return where(none, alone, where(zeros_there == 0.0, total / ones, 0.0))


def _groups(input: Tensor, index: Tensor, src: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    part = _first_part(src, index)
    zero = _scatter_add(cast(input == 0.0, input.dtype), index, cast(part == 0.0, input.dtype), dim)
    product = _scatter_prod(where(input == 0.0, 1.0, input), index, where(part == 0.0, 1.0, part), dim)
    return product, zero


def _prod_input_rule(g: Tensor, input: Tensor, index: Tensor, src: Tensor, dim: int) -> Tensor:
    product, zero = _groups(input.ones_like(), index, src, dim)
    return g * where(zero == 0.0, product, 0.0)


def _prod_src_rule(g: Tensor, input: Tensor, index: Tensor, src: Tensor, dim: int) -> Tensor:
    product, zero = _groups(input, index, src, dim)
    rest = _others(_first_part(src, index), product, index, dim, zero)
    return _padded(_gather(g, index, dim) * rest, src.shape)


_scatter_prod = primitive(
    "scatter_prod",
    kind="index",
    inputs=("input", "index", "src"),
    attrs=("dim",),
    kernel=_scattered(lambda attrs: np.multiply),
    shape=_scatter_shape,
    vjp=(
        lambda g, input, index, src, dim: _prod_input_rule(g, input, index, src, dim),
        None,
        lambda g, input, index, src, dim: _prod_src_rule(g, input, index, src, dim),
    ),
    traits={"batched": True},
    samples=lambda rng: [
        ((rng.uniform(0.5, 2.0, x), rng.integers(0, x[dim], s), rng.uniform(0.5, 2.0, s)), (dim,))
        for x, s, dim in _reduce_samples
    ],
    doc="what is at a place times all values for it; second derivatives are those without zeros",
)


@method("scatter_reduce", inplace=True)
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Values of `src` combined at the places of `index` along `dim`: "sum", "prod", "mean", "amax" or "amin".

    What is there already takes part if `include_self`; without it only places that get no value keep theirs.
    The gradient of an extreme is shared by all that reach it.
    """
    at = one_dim("scatter_reduce", dim, input.ndim)
    index = _integers("scatter_reduce", index)
    start = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": -math.inf, "amin": math.inf}
    if reduce not in start:
        raise ArgumentError("scatter_reduce", f"reduce {reduce!r}", fix=f"use one of {', '.join(start)}")
    if not include_self:
        value: float = start[reduce]
        if math.isinf(value) and not is_float(input.dtype):
            limits = np.iinfo(input.dtype)
            value = limits.min if value < 0 else limits.max
        input = _scatter(input, index, zeros(index.shape, dtype=input.dtype) + value, at)
    if reduce == "sum":
        return _scatter_add(input, index, src, at)
    if reduce == "prod":
        return _scatter_prod(input, index, src, at)
    if reduce == "mean":
        ones = zeros(index.shape, dtype=input.dtype) + 1
        own = input.ones_like()
        if not include_self:
            own = _scatter(own, index, zeros(index.shape, dtype=input.dtype), at)
        total, count = _scatter_add(input, index, src, at), _scatter_add(own, index, ones, at)
        return total / count if is_float(input.dtype) else total.div(count, rounding_mode="floor")
    return _scatter_extreme(input, index, src, at, reduce == "amin")


@method("index_fill", inplace=True)
def index_fill(input: Tensor, dim: int, index: Tensor, value: float | Tensor) -> Tensor:
    """`input` with one value in the slices that a 1-d index names along `dim`."""
    return _written("index_fill", input, dim, index, value)


@method("index_copy", inplace=True)
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`input` with the slices of `source` at the places of a 1-d index along `dim`."""
    at = one_dim("index_copy", dim, input.ndim)
    expected = (*input.shape[:at], *index.shape, *input.shape[at + 1 :])
    if source.shape != expected:
        raise ShapeError(
            "index_copy",
            f"a source of shape {source.shape} where {expected} is needed",
            fix="give it the shape of the part that it replaces",
        )
    return _written("index_copy", input, dim, index, source)


def _written(op: str, input: Tensor, dim: int, index: Tensor, value: float | Tensor) -> Tensor:
    at = one_dim(op, dim, input.ndim)
    place = _integers(op, index)
    if place.ndim > 1:
        raise ShapeError(op, f"an index of shape {place.shape}", fix="use a 1-d index")
    key = (slice(None),) * at + (place,)
    return index_put_at(op, input, key, value, False)


def index_put_at(op: str, input: Tensor, key: Any, value: float | Tensor, accumulate: bool) -> Tensor:
    """`input` with a value written, or added, where a key of `x[key]` points."""
    template, arrays = _parse(op, input, key)
    return _index_put([input, promoted(op, input, value)[1], *arrays], template, accumulate)


@method("index_put", inplace=True)
def index_put(input: Tensor, indices: Sequence[Tensor], values: Tensor, accumulate: bool = False) -> Tensor:
    """`input` with values at the places of index tensors (as x[indices] = values), or added there."""
    return index_put_at("index_put", input, tuple(indices), values, bool(accumulate))


@method("take")
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened tensor, in the shape of `index`; negative ones count from the end."""
    flat = ravel(input)
    place = _integers("take", index)
    return getitem(flat, place)


@method("take_along_dim")
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` where input and indices broadcast outside of `dim`; without `dim`, of the flattened tensor."""
    if dim is None:
        return gather(ravel(input), 0, ravel(indices))
    at = one_dim("take_along_dim", dim, input.ndim)
    if indices.ndim != input.ndim:
        raise ShapeError(
            "take_along_dim", f"shapes {input.shape} and {indices.shape}", fix="both need as many dimensions"
        )

    def common(own: Shape) -> Shape:
        sides = ((*s[:at], 1, *s[at + 1 :]) for s in (input.shape, indices.shape))
        shape = common_shape(*sides)
        return (*shape[:at], own[at], *shape[at + 1 :])

    try:
        x, index = broadcast_to(input, common(input.shape)), broadcast_to(indices, common(indices.shape))
    except ValueError as error:
        raise ShapeError(
            "take_along_dim",
            f"shapes {input.shape} and {indices.shape}: {error}",
            fix="make the sizes equal, or 1",
        ) from None
    return gather(x, at, index)


# -- sets and bins ------------------------------------------------------------------------------------------


@method("unique")
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different values (slices along `dim`), in order, and if asked for which one each element is, and
    how often each occurs.  Without a gradient; not inside a trace, as the shape depends on values.
    """
    array = input._concrete("unique")
    axis = None if dim is None else one_dim("unique", dim, input.ndim)
    values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, axis=axis)
    results = [wrap(values)]
    if return_inverse:
        shape = array.shape if axis is None else (array.shape[axis],)
        results.append(wrap(inverse.reshape(shape).astype(np.int64)))
    if return_counts:
        results.append(wrap(counts.astype(np.int64)))
    return tuple(results) if len(results) > 1 else results[0]


def _search(sequence: Any, values: Any, right: bool) -> Any:
    side: Any = "right" if right else "left"
    if sequence.ndim == 1:
        return np.asarray(np.searchsorted(sequence, values, side)).astype(np.int64)
    rows, wanted = sequence.reshape(-1, sequence.shape[-1]), values.reshape(-1, values.shape[-1])
    found = [np.searchsorted(row, v, side) for row, v in zip(rows, wanted, strict=True)]
    return np.array(found, np.int64).reshape(values.shape)


_searchsorted = primitive(
    "searchsorted",
    kind="index",
    inputs=("sequence", "values"),
    attrs=("right",),
    kernel=_search,
    shape=lambda sequence, values, right: Spec(values.shape, int64),
    vjp=(None, None),
    samples=lambda rng: (
        [((np.sort(rng.normal(size=5)), rng.normal(size=(2, 3))), (right,)) for right in (False, True)]
        + [((np.sort(rng.normal(size=(2, 5))), rng.normal(size=(2, 3))), (False,))]
    ),
    doc="where values would have to be inserted to keep a sequence in order",
    error=0.0,
)


def searchsorted(
    sorted_sequence: Tensor,
    input: Tensor | float,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
) -> Tensor:
    """The places (int64) at which values would be inserted into a sorted sequence: the first possible, or
    the last if `right` (or side="right").  A sequence of several dimensions is one of many rows, each
    searched for the values of the same row.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ArgumentError("searchsorted", f"side {side!r} with right={right}", fix="use one of them")
    sequence, values = promoted("searchsorted", sorted_sequence, input)
    if sequence.ndim > 1 and values.shape[:-1] != sequence.shape[:-1]:
        raise ShapeError(
            "searchsorted",
            f"values of shape {values.shape} in sequences of shape {sequence.shape}",
            fix="all dimensions but the last must be equal",
        )
    places = _searchsorted(sequence, values, bool(right) or side == "right")
    return cast(places, int32) if out_int32 else places


def bucketize(
    input: Tensor | float, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The number of the bucket between sorted boundaries: `searchsorted` with the arguments exchanged."""
    if boundaries.ndim != 1:
        raise ShapeError("bucketize", f"boundaries of shape {boundaries.shape}", fix="pass a vector")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@method("bincount")
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, ... occurs in a vector of integers, or the sum of its weights.

    Not inside a trace, as the shape depends on values; there, use scatter_add.
    """
    array = _integers("bincount", input)._concrete("bincount")
    if array.ndim != 1 or (array.size and array.min() < 0):
        raise ArgumentError(
            "bincount",
            f"shape {array.shape}, smallest {array.min(initial=0)}",
            fix="pass a vector of integers >= 0",
        )
    size = max(int(array.max(initial=-1)) + 1, minlength)
    if weights is None:
        return wrap(np.bincount(array, minlength=size).astype(np.int64))
    if weights.shape != input.shape:
        raise ShapeError(
            "bincount", f"weights of shape {weights.shape} for shape {input.shape}", fix="give one an element"
        )
    if not is_float(weights.dtype):
        raise DTypeError("bincount", f"weights of dtype {weights.dtype}", fix="convert with .float()")
    return zeros(size, dtype=weights.dtype).scatter_add(0, cast(input, int64), weights)


def normal(
    mean: Tensor | float, std: Tensor | float = 1.0, size: Any = None, *, generator: Generator | None = None
) -> Tensor:
    """Normal random numbers of given means and deviations: tensors that broadcast, or numbers and a size."""
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        if size is not None:
            raise ArgumentError(
                "normal", "a size beside tensors", fix="leave it out: the tensors give the shape"
            )
        m, s = promoted("normal", mean, std)
        shape, dtype = common_shape(m.shape, s.shape), m.dtype
    elif size is None:
        raise ArgumentError("normal", "numbers without a size", fix="pass size=(...)")
    else:
        shape, dtype = as_shape("normal", (size,)), None
    if not isinstance(std, Tensor) and std < 0:
        raise ArgumentError("normal", f"a standard deviation of {std}", fix="use one of at least 0")
    return mean + std * randn(shape, generator=generator, dtype=dtype)


# -- places as numbers -----------------------------------------------------------------------------------


moveaxis = method("moveaxis")(movedim)


@method("argwhere")
def argwhere(input: Tensor) -> Tensor:
    """`nonzero`: the positions of nonzero elements, one a row."""
    places: Tensor = nonzero(input)
    return places


def _triangle(op: str, places: Any, row: int, col: int, offset: int, dtype: Any) -> Tensor:
    if row < 0 or col < 0:
        raise ArgumentError(op, f"{row} rows and {col} columns", fix="sizes are at least 0")
    return Tensor(np.stack(places(row, offset, col)), dtype or int64)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Rows and columns (2, n) of the elements on and below a diagonal of a (row, col) matrix."""
    check_device("tril_indices", device)
    return _triangle("tril_indices", np.tril_indices, row, col, offset, dtype)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Rows and columns (2, n) of the elements on and above a diagonal of a (row, col) matrix."""
    check_device("triu_indices", device)
    return _triangle("triu_indices", np.triu_indices, row, col, offset, dtype)


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Places in a flattened tensor as coordinates in its shape, one tensor a dimension."""
    sizes = as_shape("unravel_index", (shape,))
    place = _integers("unravel_index", indices)
    found: list[Tensor] = []
    for size in reversed(sizes):
        found.append(place % size)
        place = place // size
    return tuple(reversed(found))


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of one element of each vector, a row each, the last varying fastest."""
    if len(tensors) == 1:
        return tensors[0]
    return stack([ravel(t) for t in meshgrid(*tensors, indexing="ij")], -1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of r elements of a vector, a row each, in order."""
    if input.ndim != 1:
        raise ShapeError("combinations", f"shape {input.shape}", fix="pass a vector")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input.shape[0]), r))
    chosen: Tensor = getitem(input, wrap(np.array(rows, np.int64).reshape(len(rows), r)))
    return chosen


@method("diagflat")
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with the flattened elements on a diagonal."""
    return diag_embed(ravel(input), offset)


_masked_fill_ = in_place(masked_fill, "masked_fill_")


@method("fill_diagonal_")
def fill_diagonal_(self: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    """Write one value on the diagonal (of a tall matrix again and again, if `wrap`); returns the tensor."""
    if self.ndim < 2 or (self.ndim > 2 and len(set(self.shape)) > 1):
        raise ShapeError("fill_diagonal_", f"shape {self.shape}", fix="pass a matrix, or a cube")
    rows, columns = self.shape[0], self.shape[1]
    step = sum(math.prod(self.shape[d + 1 :]) for d in range(self.ndim))
    end = self.numel() if self.ndim > 2 or (wrap and rows > columns) else min(rows, columns) * columns
    mask = np.zeros(self.numel(), bool)
    mask[:end:step] = True
    _masked_fill_(self, Tensor(mask.reshape(self.shape)), fill_value)
    return self


@method("masked_scatter", inplace=True)
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`input` with the elements of `source`, one after the other, where `mask` (which broadcasts) is True.

    Raises ShapeError for a source with too few elements (in a trace, where the mask is not known, with fewer
    than the input), DTypeError for a mask that is not bool.
    """
    if mask.dtype.kind != "b":
        raise DTypeError("masked_scatter", f"a mask of dtype {mask.dtype}", fix="write a comparison")
    x = broadcast_to(input, common_shape(input.shape, mask.shape))
    mask = broadcast_to(mask, x.shape)
    traced = isinstance(mask._array, Symbol)
    needed = x.numel() if traced else int(mask._array.sum())
    flat = ravel(source)
    if flat.shape[0] < needed:
        raise ShapeError(
            "masked_scatter", f"a source of {flat.shape[0]} elements for {needed} places", fix="pass more"
        )
    if not needed:
        return x
    which = (cumsum(cast(ravel(mask), int64), 0) - 1).clamp(0, flat.shape[0] - 1)
    return where(mask, cast(_reshape(getitem(flat, which), x.shape), x.dtype), x)


def isin(
    elements: Tensor | float,
    test_elements: Tensor | float,
    *,
    assume_unique: bool = False,
    invert: bool = False,
) -> Tensor:
    """Whether each element is one of the test elements, as bools.

    assume_unique says that none occurs twice, which is not needed to be known here.
    """
    x, tests = promoted("isin", elements, test_elements)
    tests = ravel(tests).sort()[0]
    if not tests.numel():
        found = x != x
    else:
        place = _searchsorted(tests, x, False).clamp(max=tests.numel() - 1)
        found = getitem(tests, place) == x
    return found.logical_not() if invert else found


@method("unique_consecutive")
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The values (slices along `dim`) without those that equal the one before; and, if asked for, which one
    each element went to and how many went to each.  Not in a trace, as the shape depends on values.
    """
    array = input.detach()._concrete("unique_consecutive")
    axis = 0 if dim is None else one_dim("unique_consecutive", dim, input.ndim)
    flat = array.reshape(-1) if dim is None else np.moveaxis(array, axis, 0)
    rows = flat.reshape(len(flat), -1)
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(1)
    results = [wrap(np.ascontiguousarray(np.moveaxis(flat[new], 0, axis)))]
    if return_inverse:
        inverse = np.cumsum(new) - 1
        results.append(wrap((inverse.reshape(array.shape) if dim is None else inverse).astype(np.int64)))
    if return_counts:
        results.append(wrap(np.diff(np.append(np.flatnonzero(new), len(rows))).astype(np.int64)))
    return tuple(results) if len(results) > 1 else results[0]
