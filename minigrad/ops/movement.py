"""Movement: operations that rearrange elements and compute nothing.

All are linear, so each rule is the transposed rearrangement, and none keeps anything.  The two at
the root of everything are a pair: `broadcast_to` repeats a value along new or stretched
dimensions, `sum_to` adds up what was repeated, and each is the other's derivative:

    y = broadcast_to(x, S)   =>   gx = sum_to(g, shape of x)
    y = sum_to(x, S)         =>   gx = broadcast_to(g, shape of x)

The walker of the tape applies `sum_to` wherever an operation broadcast its input; that is why no
other rule ever has to think about broadcasting.

    >>> import minigrad as mg
    >>> x = mg.ones(3, requires_grad=True)
    >>> (x + mg.zeros(2, 3)).sum().backward()
    >>> x.grad
    tensor([2., 2., 2.])

Where numpy gives a view, so do these; memory is shared with the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..bind import method, primitive, promoted
from ..errors import ArgumentError, DTypeError, OutOfRangeError, Refusal, ShapeError
from ..ir import Shape, Spec, broadcast_shapes
from ..tape import hooks
from ..tensor import Tensor


def one_dim(op: str, dim: Any, ndim: int, *, extra: int = 0) -> int:
    """A dimension as a number in [0, ndim + extra); OutOfRangeError if there is none such."""
    limit = ndim + extra
    if isinstance(dim, Tensor):
        dim = int(dim)
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool):
        raise DTypeError(op, f"dim is a {type(dim).__name__}", fix="pass an integer")
    if not -max(limit, 1) <= dim < max(limit, 1):
        raise OutOfRangeError(
            op,
            f"dim {dim} of a tensor with {ndim} dimensions",
            fix=f"use a dim from {-max(limit, 1)} to {max(limit, 1) - 1}",
        )
    return int(dim) % max(limit, 1)


def pick_dim(op: str, dim: Any, axis: Any) -> Any:
    """`dim`, or numpy's word for it; ArgumentError if both are given."""
    if axis is None:
        return dim
    if dim is not None:
        raise ArgumentError(op, "both dim and axis are given", fix="pass one of them")
    return axis


def as_shape(op: str, sizes: tuple[Any, ...]) -> Shape:
    """Sizes given as f(2, 3), f((2, 3)) or f([2, 3])."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    result = []
    for size in sizes:
        if isinstance(size, Tensor):
            size = size.item()
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool):
            raise DTypeError(op, f"a size is {size!r}", fix="pass integers")
        result.append(int(size))
    return tuple(result)


def _fits(shape: Shape, target: Shape) -> bool:
    try:
        return broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def _broadcast_shape(input: Spec, shape: Shape) -> Spec:
    if not _fits(input.shape, shape):
        raise Refusal(
            f"shape {input.shape} does not broadcast to {shape}", "sizes must be equal or 1, from the right"
        )
    return Spec(shape, input.dtype)


_broadcast_to = primitive(
    "broadcast_to",
    kind="movement",
    inputs=("input",),
    attrs=("shape",),
    kernel=lambda input, shape: np.broadcast_to(input, shape),
    shape=_broadcast_shape,
    vjp=(lambda g, x_shape: sum_to(g, x_shape),),
    view=True,
    samples=lambda rng: [
        ((rng.normal(size=s),), (t,))
        for s, t in [((3,), (2, 3)), ((2, 1), (2, 4)), ((), (2,)), ((1, 0), (3, 0))]
    ],
    traits={
        "broadcast": lambda x, shape: True,
        "identity": lambda x, shape: True,
        "compose": lambda inner, outer: outer,
    },
    doc="the input repeated along dimensions of size 1 and new leading ones",
)


def _sum_to_kernel(input: Any, shape: Shape) -> Any:
    lead = input.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        i for i, size in enumerate(shape, lead) if size == 1 and input.shape[i] != 1
    )
    if not axes:
        return input.reshape(shape).copy()
    add: Any = np.add  # numpy's stubs of `reduce` differ between versions
    return add.reduce(input, axis=axes, dtype=input.dtype).reshape(shape)


def _sum_to_shape(input: Spec, shape: Shape) -> Spec:
    if not _fits(shape, input.shape):
        raise Refusal(
            f"shape {input.shape} is no broadcast of {shape}", "sizes must be equal or 1, from the right"
        )
    return Spec(shape, input.dtype)


_sum_to = primitive(
    "sum_to",
    kind="reduction",
    inputs=("input",),
    attrs=("shape",),
    kernel=_sum_to_kernel,
    shape=_sum_to_shape,
    vjp=(lambda g, x_shape: broadcast_to(g, x_shape),),
    samples=lambda rng: [
        ((rng.normal(size=s),), (t,))
        for s, t in [((2, 3), (3,)), ((2, 4), (2, 1)), ((2,), ()), ((3, 0), (1, 0))]
    ],
    traits={
        "batched": lambda size, specs, shape: ((size, *(1,) * (len(specs[0].shape) - len(shape)), *shape),),
        "identity": lambda x, shape: True,
    },
    doc="the sum over everything that broadcasting `shape` to the input's shape would repeat",
)


def sum_to(input: Tensor, shape: Shape) -> Tensor:
    """Add up what broadcasting from `shape` repeated: the transpose of `broadcast_to`."""
    return input if input.shape == shape else _sum_to(input, shape)


hooks.sum_to = sum_to


@method("broadcast_to")
def broadcast_to(input: Tensor, shape: Sequence[int]) -> Tensor:
    """The input as a view of this shape, repeated along dimensions of size 1 and new leading ones."""
    target = as_shape("broadcast_to", (tuple(shape),))
    return input if input.shape == target else _broadcast_to(input, target)


@method("expand")
def expand(input: Tensor, *sizes: Any) -> Tensor:
    """`broadcast_to` where -1 keeps a size: `x.expand(-1, 4)`."""
    target = as_shape("expand", sizes)
    lead = len(target) - input.ndim
    if lead < 0:
        raise ShapeError(
            "expand",
            f"shape {input.shape} has more dimensions than {target}",
            fix="name a size for each dimension",
        )
    if any(size == -1 for size in target[:lead]):
        raise ShapeError("expand", f"-1 in a new leading dimension of {target}", fix="write its size")
    return broadcast_to(input, [s if s != -1 else input.shape[i - lead] for i, s in enumerate(target)])


@method("expand_as")
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """`expand` to the shape of another tensor."""
    return broadcast_to(input, other.shape)


# -- reshape ---------------------------------------------------------------------------------------


def _reshape_shape(input: Spec, shape: Shape) -> Spec:
    if math.prod(shape) != math.prod(input.shape):
        raise Refusal(
            f"shape {input.shape} with {math.prod(input.shape)} elements cannot become {shape} "
            f"with {math.prod(shape)}",
            "one size may be -1 to be worked out",
        )
    return Spec(shape, input.dtype)


_reshape = primitive(
    "reshape",
    kind="movement",
    inputs=("input",),
    attrs=("shape",),
    kernel=lambda input, shape: input.reshape(shape),
    shape=_reshape_shape,
    vjp=(lambda g, x_shape: _reshape(g, x_shape),),
    view=True,
    samples=lambda rng: [
        ((rng.normal(size=s),), (t,))
        for s, t in [((2, 6), (3, 4)), ((), (1, 1)), ((0, 3), (3, 0)), ((4,), (2, 2))]
    ],
    traits={
        "identity": lambda x, shape: True,
        "compose": lambda inner, outer: outer,
        "flat": True,
        "may_copy": True,
    },
    doc="the same elements in row-major order under another shape",
)


def infer_shape(op: str, input: Tensor, shape: Shape) -> Shape:
    """`shape` with its -1, if it has one, replaced by what fits the input."""
    if shape.count(-1) > 1 or any(s < -1 for s in shape):
        raise ShapeError(
            op, f"shape {shape} for a tensor of shape {input.shape}", fix="at most one size may be -1"
        )
    if -1 in shape:
        known = math.prod(s for s in shape if s != -1)
        if known == 0 or input.numel() % known:
            raise ShapeError(
                op,
                f"a tensor of shape {input.shape} cannot be divided into {shape}",
                fix="the known sizes must divide the number of elements",
            )
        shape = tuple(input.numel() // known if s == -1 else s for s in shape)
    return shape


@method("reshape")
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in row-major order under another shape; a view where memory allows it.

    One size may be -1.  Raises ShapeError if the numbers of elements differ.
    """
    return _reshape(input, infer_shape("reshape", input, as_shape("reshape", shape)))


@method("view")
def view(input: Tensor, *shape: Any) -> Tensor:
    """`reshape` that never copies; ShapeError if it would have to.  A dtype casts bits: not supported."""
    result = reshape(input, *shape)
    if (
        input.numel()
        and isinstance(result._array, np.ndarray)
        and not np.may_share_memory(result._array, input._array)
    ):
        raise ShapeError(
            "view", f"a tensor of shape {input.shape} is not contiguous", fix="use .reshape(...)"
        )
    return result


@method("view_as")
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """`view` under the shape of another tensor."""
    return view(input, other.shape)


@method("reshape_as")
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """`reshape` to the shape of another tensor."""
    return reshape(input, other.shape)


@method("flatten")
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim..end_dim, both included, made into one."""
    if not input.ndim:
        return reshape(input, 1)
    start, end = one_dim("flatten", start_dim, input.ndim), one_dim("flatten", end_dim, input.ndim)
    if start > end:
        raise ArgumentError(
            "flatten", f"start_dim {start_dim} lies after end_dim {end_dim}", fix="exchange them"
        )
    shape = input.shape
    return _reshape(input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


@method("unflatten")
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension made into several."""
    at = one_dim("unflatten", dim, input.ndim)
    return reshape(input, (*input.shape[:at], *sizes, *input.shape[at + 1 :]))


@method("squeeze")
def squeeze(input: Tensor, dim: int | Sequence[int] | None = None, *, axis: Any = None) -> Tensor:
    """The tensor without its dimensions of size 1, or without `dim` if its size is 1."""
    dim = pick_dim("squeeze", dim, axis)
    if dim is None:
        return _reshape(input, tuple(s for s in input.shape if s != 1))
    dims = {one_dim("squeeze", d, input.ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))}
    return _reshape(input, tuple(s for i, s in enumerate(input.shape) if not (i in dims and s == 1)))


@method("unsqueeze")
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """The tensor with a dimension of size 1 inserted at `dim`."""
    at = one_dim("unsqueeze", dim, input.ndim, extra=1)
    return _reshape(input, (*input.shape[:at], 1, *input.shape[at:]))


# -- permute ---------------------------------------------------------------------------------------


def _inverse(dims: Shape) -> Shape:
    return tuple(sorted(range(len(dims)), key=dims.__getitem__))


def _stays(dims: Shape) -> bool:
    return dims == tuple(range(len(dims)))


_permute = primitive(
    "permute",
    kind="movement",
    inputs=("input",),
    attrs=("dims",),
    kernel=lambda input, dims: input.transpose(dims),
    shape=lambda input, dims: Spec(tuple(input.shape[d] for d in dims), input.dtype),
    vjp=(lambda g, dims: _permute(g, _inverse(dims)),),
    view=True,
    samples=lambda rng: [
        ((rng.normal(size=s),), (d,)) for s, d in [((2, 3), (1, 0)), ((2, 3, 4), (2, 0, 1)), ((), ())]
    ],
    traits={
        "batched": lambda size, specs, dims: ((0, *(d + 1 for d in dims)),),
        "identity": lambda x, dims: dims == tuple(range(len(dims))),
        "compose": lambda inner, outer: (tuple(inner[0][d] for d in outer[0]),),
        "transposition": lambda x, dims: dims[-2:] == (len(dims) - 1, len(dims) - 2) and _stays(dims[:-2]),
    },
    doc="the dimensions in another order",
)


@method("permute")
def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in another order, as a view.  Raises ArgumentError if one is missing."""
    order = as_shape("permute", dims)
    wanted = tuple(one_dim("permute", d, input.ndim) for d in order)
    if sorted(wanted) != list(range(input.ndim)):
        raise ArgumentError(
            "permute", f"dims {order} of a tensor with {input.ndim} dimensions", fix="name each dim once"
        )
    return _permute(input, wanted)


@method("transpose", "swapaxes")
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged, as a view."""
    a, b = one_dim("transpose", dim0, input.ndim), one_dim("transpose", dim1, input.ndim)
    order = list(range(input.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return _permute(input, tuple(order))


swapaxes = transpose


@method("t")
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; tensors of fewer dimensions as they are."""
    if input.ndim > 2:
        raise ShapeError(
            "t", f"a tensor of shape {input.shape} is no matrix", fix="use .transpose(dim0, dim1)"
        )
    return input if input.ndim < 2 else _permute(input, (1, 0))


# Properties are installed with setattr, which the type checker leaves alone.
for _name, _get, _doc in (
    ("T", lambda self: _permute(self, tuple(range(self.ndim))[::-1]), "The dimensions reversed."),
    ("mT", lambda self: transpose(self, -2, -1), "The last two dimensions exchanged."),
):
    setattr(Tensor, _name, property(_get, doc=_doc))


@method("movedim")
def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Dimensions moved to other places; the rest keep their order."""
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    if len(sources) != len(targets):
        raise ArgumentError(
            "movedim", f"{len(sources)} sources and {len(targets)} destinations", fix="give as many of both"
        )
    from_ = [one_dim("movedim", d, input.ndim) for d in sources]
    to = [one_dim("movedim", d, input.ndim) for d in targets]
    order = [d for d in range(input.ndim) if d not in from_]
    for place, dim in sorted(zip(to, from_, strict=True)):
        order.insert(place, dim)
    return permute(input, order)


# -- joining and splitting ----------------------------------------------------------------------------


def _cat_shape(specs: Sequence[Spec], dim: int) -> Spec:
    first = specs[0]
    total = 0
    for s in specs:
        if len(s.shape) != len(first.shape) or any(
            a != b for i, (a, b) in enumerate(zip(s.shape, first.shape, strict=True)) if i != dim
        ):
            raise Refusal(
                f"shapes {first.shape} and {s.shape} differ outside of dim {dim}",
                "all other sizes must be equal",
            )
        total += s.shape[dim]
    return Spec((*first.shape[:dim], total, *first.shape[dim + 1 :]), first.dtype)


def _cat_rule(g: Tensor, i: int, sizes: Shape, dim: int) -> Tensor:
    return slice_dim(g, dim, sum(sizes[:i]), sum(sizes[: i + 1]))


_cat = primitive(
    "cat",
    kind="movement",
    inputs=("*tensors",),
    attrs=("dim", "sizes"),
    kernel=lambda *args: np.concatenate(args[:-2], axis=args[-2]),
    shape=lambda specs, dim, sizes: _cat_shape(specs, dim),
    vjp=(lambda g, i, sizes, dim: _cat_rule(g, i, sizes, dim),),
    samples=lambda rng: [
        ((rng.normal(size=(2, 3)), rng.normal(size=(4, 3))), (0, (2, 4))),
        ((rng.normal(size=(2, 3)), rng.normal(size=(2, 0)), rng.normal(size=(2, 1))), (1, (3, 0, 1))),
    ],
    doc="tensors joined along a dimension",
)


def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: Any = None) -> Tensor:
    """Tensors joined along an existing dimension; all other sizes must be equal.

    Raises ArgumentError for an empty list, ShapeError where sizes differ.
    """
    if not isinstance(tensors, (tuple, list)) or not tensors:
        raise ArgumentError("cat", "there are no tensors to join", fix="pass a non-empty list of tensors")
    parts = promoted("cat", *tensors)
    if not parts[0].ndim:
        raise ShapeError("cat", "0-d tensors cannot be joined", fix="use stack")
    at = one_dim("cat", dim if axis is None else axis, parts[0].ndim)
    if any(p.ndim != parts[0].ndim for p in parts):
        raise ShapeError(
            "cat",
            f"shapes {', '.join(str(p.shape) for p in parts)} have different numbers of dimensions",
            fix="add dimensions with unsqueeze, or use stack",
        )
    return _cat(parts, at, tuple(p.shape[at] for p in parts))


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0, *, axis: Any = None) -> Tensor:
    """Tensors of one shape joined along a new dimension.  Raises ShapeError where shapes differ."""
    if not isinstance(tensors, (tuple, list)) or not tensors:
        raise ArgumentError("stack", "there are no tensors to join", fix="pass a non-empty list of tensors")
    parts = promoted("stack", *tensors)
    for p in parts:
        if p.shape != parts[0].shape:
            raise ShapeError(
                "stack", f"shapes {parts[0].shape} and {p.shape} differ", fix="use cat for unequal sizes"
            )
    at = one_dim("stack", dim if axis is None else axis, parts[0].ndim, extra=1)
    return cat([unsqueeze(p, at) for p in parts], at)


def _slice_key(ndim: int, dim: int, start: int, stop: int) -> tuple[slice, ...]:
    return (slice(None),) * dim + (slice(start, stop),)


_slice_dim = primitive(
    "slice",
    kind="movement",
    inputs=("input",),
    attrs=("dim", "start", "stop"),
    kernel=lambda input, dim, start, stop: input[_slice_key(input.ndim, dim, start, stop)],
    shape=lambda input, dim, start, stop: Spec(
        (*input.shape[:dim], stop - start, *input.shape[dim + 1 :]), input.dtype
    ),
    vjp=(lambda g, x_shape, dim, start, stop: pad_dim(g, dim, start, x_shape[dim] - stop),),
    view=True,
    samples=lambda rng: [((rng.normal(size=(3, 5)),), (1, 1, 4)), ((rng.normal(size=(3, 5)),), (0, 0, 0))],
    traits={"identity": lambda x, dim, start, stop: True},
    doc="a range of one dimension",
)


def slice_dim(input: Tensor, dim: int, start: int, stop: int) -> Tensor:
    """Elements start..stop of one dimension (already normalised), as a view."""
    return _slice_dim(input, dim, start, stop)


def _pad_kernel(input: Any, dim: int, before: int, after: int) -> Any:
    shape = list(input.shape)
    size = shape[dim]
    shape[dim] += before + after
    y = np.zeros(shape, input.dtype)
    y[_slice_key(input.ndim, dim, before, before + size)] = input
    return y


_pad_dim = primitive(
    "pad_dim",
    kind="movement",
    inputs=("input",),
    attrs=("dim", "before", "after"),
    kernel=_pad_kernel,
    shape=lambda input, dim, before, after: Spec(
        (*input.shape[:dim], input.shape[dim] + before + after, *input.shape[dim + 1 :]), input.dtype
    ),
    vjp=(lambda g, x_shape, dim, before: slice_dim(g, dim, before, before + x_shape[dim]),),
    samples=lambda rng: [((rng.normal(size=(3, 5)),), (1, 1, 2)), ((rng.normal(size=(3, 0)),), (1, 0, 2))],
    traits={"identity": lambda x, dim, before, after: True},
    doc="zeros added before and after one dimension",
)


def pad_dim(input: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Zeros before and after the elements of one dimension: the transpose of `slice_dim`."""
    return _pad_dim(input, dim, before, after)


@method("split")
def split(input: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive parts of one dimension, of one size (the last may be smaller) or of given sizes.

    Raises ArgumentError if given sizes do not add up.
    """
    at = one_dim("split", dim, input.ndim)
    total = input.shape[at] if input.ndim else 0
    if not input.ndim:
        raise ShapeError("split", "a 0-d tensor cannot be split", fix="add a dimension with unsqueeze(0)")
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size <= 0:
            raise ArgumentError("split", f"a split size of {size}", fix="use a positive size")
        sizes = [size] * (total // size) + ([total % size] if total % size else [])
        sizes = sizes or [0]
    else:
        sizes = list(split_size_or_sections)
        if sum(sizes) != total or any(s < 0 for s in sizes):
            raise ArgumentError(
                "split",
                f"sizes {sizes} do not add up to {total}, the size of dim {dim}",
                fix="make the sizes add up",
            )
    parts, start = [], 0
    for size in sizes:
        parts.append(slice_dim(input, at, start, start + size))
        start += size
    return tuple(parts)


@method("chunk")
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`split` into at most this many parts of equal size (the last may be smaller)."""
    if chunks <= 0:
        raise ArgumentError("chunk", f"{chunks} chunks", fix="use a positive number")
    at = one_dim("chunk", dim, input.ndim)
    return split(input, max(1, -(-input.shape[at] // chunks)), at)


@method("unbind")
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along one dimension, without it."""
    at = one_dim("unbind", dim, input.ndim)
    return tuple(squeeze(part, at) for part in split(input, 1, at)) if input.shape[at] else ()


# -- flip and triangles -------------------------------------------------------------------------------

_flip = primitive(
    "flip",
    kind="movement",
    inputs=("input",),
    attrs=("dims",),
    kernel=lambda input, dims: np.flip(input, dims).copy(),
    shape=lambda input, dims: input,
    vjp=(lambda g, dims: _flip(g, dims),),
    samples=lambda rng: [((rng.normal(size=(2, 3)),), (d,)) for d in ((0,), (0, 1))],
    traits={"involution": True},
    doc="dimensions in reverse",
)


@method("flip")
def flip(input: Tensor, *dims: Any) -> Tensor:
    """The elements of these dimensions in reverse order, copied."""
    return _flip(input, tuple(sorted({one_dim("flip", d, input.ndim) for d in as_shape("flip", dims)})))


def _matrix(input: Spec, diagonal: int) -> Spec:
    if len(input.shape) < 2:
        raise Refusal(f"shape {input.shape} is no matrix", "at least two dimensions are needed")
    return input


_tril = primitive(
    "tril",
    kind="movement",
    inputs=("input",),
    attrs=("diagonal",),
    kernel=np.tril,
    shape=_matrix,
    vjp=(lambda g, diagonal: _tril(g, diagonal),),
    samples=lambda rng: [((rng.normal(size=(3, 4)),), (d,)) for d in (-1, 0, 2)],
    traits={"batched": True, "idempotent": True},
    doc="the lower triangle, zeros above",
)
_triu = primitive(
    "triu",
    kind="movement",
    inputs=("input",),
    attrs=("diagonal",),
    kernel=np.triu,
    shape=_matrix,
    vjp=(lambda g, diagonal: _triu(g, diagonal),),
    samples=lambda rng: [((rng.normal(size=(3, 4)),), (d,)) for d in (-1, 0, 2)],
    traits={"batched": True, "idempotent": True},
    doc="the upper triangle, zeros below",
)


@method("tril")
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The elements on and below a diagonal of the last two dimensions, zeros above."""
    _matrix_face("tril", input)
    return _tril(input, diagonal)


@method("triu")
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The elements on and above a diagonal of the last two dimensions, zeros below."""
    _matrix_face("triu", input)
    return _triu(input, diagonal)


def _matrix_face(op: str, input: Tensor) -> None:
    if input.ndim < 2:
        raise ShapeError(
            op, f"a tensor of shape {input.shape} is no matrix", fix="at least two dimensions are needed"
        )


# -- in-place changes of views ---------------------------------------------------------------------------


def _view_update(input: Any, value: Any, viewed_by: Any, attrs: Any) -> Any:
    y = input.copy()
    viewed_by.kernel(y, *attrs)[...] = value
    return y


primitive(
    "view_update",
    kind="movement",
    inputs=("input", "value"),
    attrs=("viewed_by", "view_attrs"),
    kernel=_view_update,
    shape=lambda input, value, viewed_by, view_attrs: input,
    vjp=(
        lambda g, viewed_by, view_attrs: _update(
            g, _view(g, viewed_by, view_attrs).zeros_like(), viewed_by, view_attrs
        ),
        lambda g, viewed_by, view_attrs: _view(g, viewed_by, view_attrs),
    ),
    samples=lambda rng: [((rng.normal(size=(3, 5)), rng.normal(size=(3, 2))), (_slice_dim.op, (1, 1, 3)))],  # type: ignore[attr-defined]
    doc="the input with the part that a view operation shows replaced",
)


def _view(g: Tensor, viewed_by: Any, attrs: Any) -> Tensor:
    from ..bind import apply

    return apply(viewed_by, (g,), attrs)


def _update(g: Tensor, value: Tensor, viewed_by: Any, attrs: Any) -> Tensor:
    from ..bind import apply
    from ..record import OPS

    return apply(OPS["view_update"], (g, value), (viewed_by, attrs))


def _install_view_update() -> None:
    from ..record import OPS

    hooks.view_update = OPS["view_update"]  # type: ignore[attr-defined]


_install_view_update()
