"""Indexing: reading and writing parts of a tensor, with gradients.

Three kinds of index, as in numpy: *basic* (integers, slices, None, Ellipsis) gives a view;
*advanced* (integer arrays) copies; a boolean mask is turned into the integer arrays of its True
places.  Reading scatters the cotangent back,

    y = x[i]   =>   gx = zeros; gx[i] += g          (repeated indices add up)

and writing splits it:

    x[i] = v   =>   gx = g with zeros at i,   gv = g[i]

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x[[0, 0, 2]].sum().backward()
    >>> x.grad
    tensor([2., 0., 1.])

A negative index counts from the end in `x[...]`, as in numpy; in `gather`, `scatter_add`,
`index_select` and embeddings, where it is nearly always a bug, it is refused.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..bind import forbid_leaf, method, primitive, promoted, rebase, write
from ..errors import ArgumentError, DTypeError, OutOfRangeError, Refusal, ShapeError, TraceError, here
from ..ir import Shape, Spec, broadcast_shapes, int64, is_float
from ..mode import current
from ..tape import record
from ..tensor import Symbol, Tensor, as_array, as_value, wrap
from .elementwise import cast, where
from .movement import _permute, _reshape, broadcast_to, one_dim, slice_dim
from .reduction import ValuesIndices

# -- how an index is written down ------------------------------------------------------------------
# A static, hashable template: ints, None, Ellipsis, ("slice", start, stop, step), and ("array", k)
# for the k-th index array, which is an input of the operation.

Template = tuple[Any, ...]


_FULL = ("slice", None, None, None)


def _key(template: Template, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """The numpy index that a template stands for."""
    key: list[Any] = []
    for part in template:
        if isinstance(part, tuple):
            key.append(slice(*part[1:]) if part[0] == "slice" else arrays[part[1]])
        else:
            key.append(part)
    return tuple(key)


def _indexed_shape(op: str, shape: Shape, key: tuple[Any, ...]) -> Shape:
    """The shape of x[key], found by numpy itself on an array that takes no memory."""
    probe = np.broadcast_to(np.zeros((), np.bool_), shape)
    try:
        shape = probe[key].shape
    except IndexError as error:
        raise Refusal(
            f"{error} for shape {shape}", "count from 0, or from the end with -1", OutOfRangeError
        ) from None
    return shape


def _basic_samples(rng: Any) -> list[Any]:
    x = rng.normal(size=(3, 4, 5))
    return [
        ((x,), ((1,),)),
        ((x,), ((_FULL, ("slice", 1, None, 2)),)),
        ((x,), ((Ellipsis, ("slice", None, None, -1)),)),
        ((x,), ((None, 2, Ellipsis, -1),)),
        ((x,), ((("slice", 2, 2, None),),)),
        ((x,), ((1, 2, 3),)),
        ((rng.normal(size=()),), ((None,),)),
    ]


def _basic_kernel(input: Any, index: Template) -> Any:
    key = _key(index, ())
    y = input[key]
    # a single element comes out of numpy as a number; with an Ellipsis it stays a view of the array
    return y if type(y) is np.ndarray else input[(*key, Ellipsis)]


_basic = primitive(
    "basic_index",
    kind="index",
    inputs=("input",),
    attrs=("index",),
    kernel=_basic_kernel,
    shape=lambda input, index: Spec(_indexed_shape("index", input.shape, _key(index, ())), input.dtype),
    vjp=(lambda g, x_shape, index: _basic_grad(g, x_shape, index),),
    view=True,
    traits={"batched": lambda size, specs, index: ((_FULL, *index),)},
    samples=_basic_samples,
    doc="input[index] for integers, slices, None and Ellipsis",
    error=0.0,
)


def _basic_grad_kernel(input: Any, shape: Shape, index: Template) -> Any:
    y = np.zeros(shape, input.dtype)
    y[_key(index, ())] = input
    return y


_basic_grad = primitive(
    "basic_index_grad",
    kind="index",
    inputs=("input",),
    attrs=("shape", "index"),
    kernel=_basic_grad_kernel,
    shape=lambda input, shape, index: Spec(shape, input.dtype),
    vjp=(lambda g, index: _basic(g, index),),
    traits={"batched": lambda size, specs, shape, index: ((size, *shape), (_FULL, *index))},
    samples=lambda rng: [
        ((rng.normal(size=(2,)),), ((3, 2), (1,))),
        ((rng.normal(size=(3,)),), ((3, 2), (Ellipsis, 0))),
    ],
    doc="zeros of a shape, with the input at index: the transpose of basic_index",
    error=0.0,
)


def _advanced_shape(specs: Sequence[Spec], index: Template) -> Spec:
    probes = [np.broadcast_to(np.zeros((), np.int64), s.shape) for s in specs[1:]]
    # sizes only: an empty dimension may be indexed by nothing, which zeros would refuse
    shape = tuple(max(s, 1) for s in specs[0].shape)
    if any(s == 0 for s in specs[0].shape):
        shape = specs[0].shape if all(0 in s.shape for s in specs[1:]) else shape
    return Spec(_indexed_shape("index", shape, _key(index, probes)), specs[0].dtype)


def _advanced_samples(rng: Any) -> list[Any]:
    x = rng.normal(size=(3, 4, 5))
    i = np.array([0, 2, 2])
    full = ("slice", None, None, None)
    return [
        ((x, i), ((("array", 0),),)),
        ((x, i, np.array([1, 1, -1])), ((("array", 0), full, ("array", 1)),)),
        ((x, np.array([[0], [3]])), ((full, ("array", 0)),)),
        ((x, np.zeros(0, np.int64)), ((("array", 0),),)),
    ]


_advanced = primitive(
    "advanced_index",
    kind="index",
    inputs=("*tensors",),
    attrs=("index",),
    kernel=lambda input, *rest: input[_key(rest[-1], rest[:-1])],
    shape=_advanced_shape,
    vjp=(
        lambda g, indices, i, x_shape, index: (
            None if i else _advanced_grad([g, *indices[1:]], x_shape, index)
        ),
    ),
    samples=_advanced_samples,
    doc="input[index] with integer arrays",
    error=0.0,
)


def _advanced_grad_kernel(input: Any, *rest: Any) -> Any:
    arrays, shape, index = rest[:-2], rest[-2], rest[-1]
    y = np.zeros(shape, input.dtype)
    np.add.at(y, _key(index, arrays), input)
    return y


_advanced_grad = primitive(
    "advanced_index_grad",
    kind="index",
    inputs=("*tensors",),
    attrs=("shape", "index"),
    kernel=_advanced_grad_kernel,
    shape=lambda specs, shape, index: Spec(shape, specs[0].dtype),
    vjp=(lambda g, indices, i, index: None if i else _advanced([g, *indices[1:]], index),),
    samples=lambda rng: [((rng.normal(size=(3, 2)), np.array([0, 2, 2])), ((4, 2), (("array", 0),)))],
    doc="zeros of a shape, with the input added at index: the transpose of advanced_index",
)


def _parse(op: str, input: Tensor, index: Any) -> tuple[Template, list[Tensor]]:
    """A template and the index arrays, from what stands between the brackets."""
    parts = index if isinstance(index, tuple) else (index,)
    template: list[Any] = []
    arrays: list[Tensor] = []
    for part in parts:
        if part is None or part is Ellipsis:
            template.append(part)
        elif isinstance(part, slice):
            bounds = [None if b is None else operator.index(b) for b in (part.start, part.stop, part.step)]
            template.append(("slice", *bounds))
        elif _is_flag(part):
            raise DTypeError(
                op, "a single bool among other indices", fix="use it alone, or a mask of a dimension's size"
            )
        elif isinstance(part, (int, np.integer)):
            template.append(int(part))
        else:
            _parse_array(op, input, part, template, arrays)
    return tuple(template), arrays


def _parse_array(op: str, input: Tensor, part: Any, template: list[Any], arrays: list[Tensor]) -> None:
    if isinstance(part, (list, tuple, range)):
        part = list(part)
        t = Tensor(part) if part else Tensor(part, int64)
    else:
        t = part if isinstance(part, Tensor) else wrap(as_array(part))
    if t.dtype.kind == "b":
        if isinstance(t._array, Symbol):
            raise TraceError(
                op,
                "a boolean mask as an index has a result whose shape depends on values",
                fix="use minigrad.where(mask, x, 0)",
            )
        position = sum(1 for p in template if p is not None and p is not Ellipsis)
        covered = input.shape[position : position + t.ndim] if Ellipsis not in template else t.shape
        if t.shape != covered:
            raise OutOfRangeError(
                op,
                f"a mask of shape {t.shape} on a tensor of shape {input.shape}",
                fix="make the shapes equal",
            )
        for places in np.nonzero(t._concrete("index")):
            arrays.append(wrap(places))
            template.append(("array", len(arrays) - 1))
    elif t.dtype.kind in "iu":
        if not t.ndim and current().trace is None:
            template.append(int(t._array))
            return
        arrays.append(t)
        template.append(("array", len(arrays) - 1))
    else:
        raise DTypeError(op, f"an index of dtype {t.dtype}", fix="indices are integers or bools; use .long()")


def _is_flag(index: Any) -> bool:
    """Whether an index is one bool: all of the tensor or nothing of it, along a new dimension."""
    if isinstance(index, (Tensor, np.ndarray)):
        return index.ndim == 0 and index.dtype.kind == "b"
    return isinstance(index, (bool, np.bool_))


@method("__getitem__")
def getitem(self: Tensor, index: Any) -> Tensor:
    """The part of the tensor that an index names: a view for basic indices, a copy for arrays."""
    if _is_flag(index):
        every = _basic(self, (None,))
        return every if index else slice_dim(every, 0, 0, 0)
    template, arrays = _parse("index", self, index)
    return _advanced([self, *arrays], template) if arrays else _basic(self, template)


_index_put = primitive(
    "index_put",
    kind="index",
    inputs=("*tensors",),
    attrs=("index", "accumulate"),
    kernel=lambda input, value, *rest: _put(input.copy(), value, rest[:-2], rest[-2], rest[-1]),
    shape=lambda specs, index, accumulate: specs[0],
    vjp=(lambda g, indices, i, index, accumulate: _index_put_rule(g, indices, i, index, accumulate),),
    samples=lambda rng: [
        ((rng.normal(size=(4, 2)), rng.normal(size=(2, 2)), np.array([0, 3])), ((("array", 0),), accumulate))
        for accumulate in (False, True)
    ],
    doc="the input with a value written (or added) at index",
    error=0.0,
)


def _put(y: Any, value: Any, arrays: Sequence[Any], index: Template, accumulate: bool) -> Any:
    key = _key(index, arrays)
    if accumulate:
        np.add.at(y, key, value)
    else:
        y[key] = value
    return y


def _index_put_rule(g: Tensor, indices: Any, i: int, index: Template, accumulate: bool) -> Tensor | None:
    arrays = list(indices[2:])
    if i > 1:
        return None
    part = _advanced([g, *arrays], index) if arrays else _basic(g, index)
    if i == 1:
        return (
            part
            if accumulate or not arrays
            else where(_survives(part.shape, g.shape, arrays, index), part, 0.0)
        )
    return g if accumulate else _index_put([g, part.zeros_like(), *arrays], index, False)


def _survives(part: Shape, shape: Shape, arrays: list[Tensor], index: Template) -> Tensor:
    """Which of the values written at index are there afterwards: of several at one place, the last."""
    order = wrap(np.arange(math.prod(part)).reshape(part))
    last = _index_put([wrap(np.zeros(shape, np.int64)), order, *arrays], index, False)
    return _advanced([last, *arrays], index) == order


@method("__setitem__")
def setitem(self: Tensor, index: Any, value: Any) -> None:
    """Write a value, broadcast, into the part that an index names; gradients flow to both."""
    if _is_flag(index):
        if index:
            setitem(self, None, value)
        return
    if isinstance(index, Tensor) and index.dtype.kind == "b" and isinstance(index._array, Symbol):
        _set_where(self, index, value)
        return
    template, arrays = _parse("index assignment", self, index)
    if current().trace is not None:
        new = value if isinstance(value, Tensor) else wrap(as_value(value, self.dtype, "index assignment"))
        x = _index_put([self, promoted("index assignment", self, new)[1], *arrays], template, False)
        write(self, x, "index assignment")
        return
    new = value if isinstance(value, Tensor) else wrap(as_value(value, self.dtype, "index assignment"))
    if new.dtype != self.dtype:
        if is_float(new.dtype) and not is_float(self.dtype):
            raise DTypeError(
                "index assignment",
                f"{new.dtype} values into a {self.dtype} tensor",
                fix="convert one of them",
            )
        new = cast(new, self.dtype)
    if not arrays:
        part = _basic(self, template)
        while new.ndim > part.ndim and new.shape[0] == 1:
            new = _reshape(new, new.shape[1:])
        try:
            fits = broadcast_shapes(new.shape, part.shape) == part.shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                "index assignment",
                f"a value of shape {new.shape} into a part of shape {part.shape}",
                fix="make the value broadcast to the part",
            )
        write(part, broadcast_to(new, part.shape), "index assignment")
        return
    forbid_leaf(self, "index assignment")
    array = self._writable("index assignment")
    inputs = (self, new, *arrays)
    if isinstance(new._array, np.ndarray) and np.may_share_memory(new._array, array):
        new = wrap(new._array.copy(), new._node)
        inputs = (self, new, *arrays)
    commit = None
    if current().grad and (self._node is not None or new._node is not None):
        node = record(_index_put.op, inputs, (template, False), array, here())  # type: ignore[attr-defined]
        commit = rebase(self, wrap(array, node))
    try:
        array[_key(template, [a._array for a in arrays])] = new._array
    except IndexError as error:
        raise OutOfRangeError(
            "index assignment", f"{error} (shape {self.shape})", fix="count from 0, or from the end with -1"
        ) from None
    except ValueError as error:
        raise ShapeError(
            "index assignment", f"{error} (shape {self.shape})", fix="make the value broadcast to the part"
        ) from None
    self._touch()
    if commit is not None:
        commit()


def _set_where(self: Tensor, mask: Tensor, value: Any) -> None:
    """`self[mask] = value` where the mask is not known yet: a `where`, if each place gets the same value."""
    op = "index assignment"
    new = value if isinstance(value, Tensor) else wrap(as_value(value, self.dtype, op))
    if mask.shape != self.shape[: mask.ndim] or new.ndim > self.ndim - mask.ndim:
        _parse(op, self, mask)  # says why not
    wide = _reshape(mask, (*mask.shape, *(1,) * (self.ndim - mask.ndim)))
    write(self, where(wide, promoted(op, self, new)[1], self), op)


# -- gather and scatter ------------------------------------------------------------------------------


def _check_range(indices: Any, size: int) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        bad = indices[(indices < 0) | (indices >= size)].flat[0]
        raise Refusal(
            f"index {bad} is out of range for a dimension of size {size}",
            f"use 0 to {size - 1}",
            OutOfRangeError,
        )


def _flat(index: Any, shape: Shape, dim: int) -> Any:
    """Positions in the flattened array, for each element of `index`: its own place in every dimension
    but `dim`, where `index` says.  numpy takes and adds by one flat index several times faster than by
    a tuple of arrays."""
    index = index.astype(np.int64, copy=False)
    position: Any = 0
    step = 1
    for d in range(len(shape) - 1, -1, -1):
        if d == dim:
            position = position + index * step
        else:
            places = np.arange(index.shape[d]).reshape(-1, *(1,) * (index.ndim - 1 - d))
            position = position + places * step
        step *= shape[d]
    return position


def _gather_kernel(input: Any, index: Any, dim: int) -> Any:
    _gather_shape(Spec(input.shape, input.dtype), Spec(index.shape, index.dtype), dim)
    if not input.ndim:
        _check_range(index, 1)
        return np.broadcast_to(input, index.shape).copy()
    _check_range(index, input.shape[dim])
    return input.reshape(-1).take(_flat(index, input.shape, dim)) if index.ndim else input[index]


def _gather_shape(input: Spec, index: Spec, dim: int) -> Spec:
    if index.dtype.kind not in "iu":
        raise Refusal(f"the index has dtype {index.dtype}", "use integers, .long()", DTypeError)
    if input.shape and len(index.shape) != len(input.shape):
        raise Refusal(
            f"an index of shape {index.shape} for an input of shape {input.shape}",
            "both need as many dimensions",
        )
    for d, (n, m) in enumerate(zip(index.shape, input.shape, strict=False)):
        if d != dim and n > m:
            raise Refusal(
                f"an index of shape {index.shape} is larger than the input {input.shape} in dim {d}",
                "outside of dim, the index may not exceed the input",
            )
    return Spec(index.shape, input.dtype)


_gather = primitive(
    "gather",
    kind="index",
    inputs=("input", "index"),
    attrs=("dim",),
    kernel=_gather_kernel,
    shape=_gather_shape,
    vjp=(lambda g, index, x_shape, dim: _scatter_add(g.new_zeros(x_shape), index, g, dim), None),
    traits={"batched": True},
    samples=lambda rng: [
        ((rng.normal(size=(3, 4)), rng.integers(0, 4, (3, 2))), (1,)),
        ((rng.normal(size=(3, 4)), rng.integers(0, 3, (5, 4))), (0,)),
        ((rng.normal(size=(3, 4)), np.zeros((0, 4), np.int64)), (0,)),
    ],
    doc="elements picked along one dimension: y[i][j] = x[index[i][j]][j] for dim 0",
    error=0.0,
)


def _integers(op: str, index: Any) -> Tensor:
    tensor: Tensor = index if isinstance(index, Tensor) else wrap(as_array(index, None))
    if tensor.dtype.kind not in "iu":
        raise DTypeError(op, f"the index has dtype {tensor.dtype}", fix="use integers, .long()")
    return tensor


@method("gather")
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """Elements picked along `dim`: the result has the shape of `index`.

    Raises OutOfRangeError for an index that is negative or too large.
    """
    return _gather(input, _integers("gather", index), one_dim("gather", dim, input.ndim))


def _scatter_add_kernel(input: Any, index: Any, src: Any, dim: int) -> Any:
    specs = [Spec(a.shape, a.dtype) for a in (input, index, src)]
    _scatter_shape(specs[0], specs[1], specs[2], dim)
    y = input.copy()
    if not input.ndim:
        _check_range(index, 1)
        y += src.sum()
        return y
    _check_range(index, input.shape[dim])
    if not index.ndim:
        index, src = index.reshape(1), src.reshape(1)
    part = src[tuple(slice(s) for s in index.shape)]
    np.add.at(y.reshape(-1), _flat(index, y.shape, dim).reshape(-1), part.reshape(-1))
    return y


def _scatter_shape(input: Spec, index: Spec, src: Spec, dim: int) -> Spec:
    _gather_shape(src, index, -1)
    for d, (n, m) in enumerate(zip(index.shape, input.shape, strict=False)):
        if d != dim and n > m:
            raise Refusal(
                f"an index of shape {index.shape} is larger than the input {input.shape} in dim {d}",
                "outside of dim, the index may not exceed the input",
            )
    if input.dtype != src.dtype:
        raise Refusal(
            f"dtypes {input.dtype} and {src.dtype} differ", "convert one with .to(dtype)", DTypeError
        )
    return input


def _src_grad(g: Tensor, index: Tensor, x_shape: Shape, dim: int) -> Tensor:
    from .movement import pad_dim

    part = _gather(g, index, dim)
    for d, (n, m) in enumerate(zip(part.shape, x_shape, strict=True)):
        if n != m:
            part = pad_dim(part, d, 0, m - n)
    return part


_scatter_add = primitive(
    "scatter_add",
    kind="index",
    inputs=("input", "index", "src"),
    attrs=("dim",),
    kernel=_scatter_add_kernel,
    shape=_scatter_shape,
    vjp=(lambda g: g, None, lambda g, index, x_shape, dim: _src_grad(g, index, x_shape, dim)),
    traits={"batched": True, "spreads": "gather"},
    samples=lambda rng: [
        ((rng.normal(size=(3, 4)), rng.integers(0, 4, (3, 5)), rng.normal(size=(3, 5))), (1,)),
        ((rng.normal(size=(3, 4)), rng.integers(0, 3, (2, 3)), rng.normal(size=(2, 4))), (0,)),
    ],
    doc="values added at places along one dimension: y[index[i][j]][j] += src[i][j] for dim 0",
)


@method("scatter_add", inplace=True)
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with the elements of `src` added at the places that `index` names along `dim`.

    Repeated places add up.  Raises OutOfRangeError for an index that is negative or too large.
    """
    return _scatter_add(input, _integers("scatter_add", index), src, one_dim("scatter_add", dim, input.ndim))


def _take_kernel(input: Any, index: Any, dim: int) -> Any:
    _check_range(index, input.shape[dim])
    return np.take(input, index, axis=dim)


_index_select = primitive(
    "index_select",
    kind="index",
    inputs=("input", "index"),
    attrs=("dim",),
    kernel=_take_kernel,
    shape=lambda input, index, dim: Spec(
        (*input.shape[:dim], *index.shape, *input.shape[dim + 1 :]), input.dtype
    ),
    vjp=(lambda g, index, x_shape, dim: _index_add(g.new_zeros(x_shape), index, g, dim), None),
    samples=lambda rng: [
        ((rng.normal(size=(3, 4)), np.array([2, 0, 2])), (0,)),
        ((rng.normal(size=(3, 4)), np.array([[1, 3], [0, 0]])), (1,)),
        ((rng.normal(size=(3, 4)), np.zeros(0, np.int64)), (0,)),
    ],
    doc="slices picked along one dimension, by an index of any shape",
    error=0.0,
)


def _index_add_kernel(input: Any, index: Any, src: Any, dim: int) -> Any:
    _check_range(index, input.shape[dim])
    y = input.copy(order="C")
    before, after = y.shape[:dim], y.shape[dim + 1 :]
    inner = math.prod(after)
    flat = index.reshape(1, -1, 1).astype(np.int64, copy=False) * inner + np.arange(inner)
    flat = flat + np.arange(math.prod(before)).reshape(-1, 1, 1) * (y.shape[dim] * math.prod(after))
    np.add.at(y.reshape(-1), flat.reshape(-1), src.reshape(-1))
    return y


_index_add = primitive(
    "index_add",
    kind="index",
    inputs=("input", "index", "src"),
    attrs=("dim",),
    kernel=_index_add_kernel,
    shape=lambda input, index, src, dim: input,
    vjp=(lambda g: g, None, lambda g, index, dim: _index_select(g, index, dim)),
    samples=lambda rng: [
        ((rng.normal(size=(3, 4)), np.array([2, 0, 2]), rng.normal(size=(3, 4))), (0,)),
        ((rng.normal(size=(3, 4)), np.array([[1, 3], [0, 0]]), rng.normal(size=(3, 2, 2))), (1,)),
    ],
    doc="slices added at places along one dimension: the transpose of index_select",
)


@method("index_select")
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """Slices of `input` along `dim`, picked by a 1-d index.

    Raises OutOfRangeError for an index that is negative or too large.
    """
    index = _integers("index_select", index)
    if index.ndim > 1:
        raise ShapeError("index_select", f"an index of shape {index.shape}", fix="use a 1-d index")
    return _index_select(input, index, one_dim("index_select", dim, input.ndim))


@method("index_add", inplace=True)
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`input` with the slices of `source` added along `dim` at the places of a 1-d index."""
    at = one_dim("index_add", dim, input.ndim)
    index = _integers("index_add", index)
    expected = (*input.shape[:at], *index.shape, *input.shape[at + 1 :])
    if source.shape != expected:
        raise ShapeError(
            "index_add",
            f"a source of shape {source.shape} where {expected} is needed",
            fix="give it the shape of the part that it is added to",
        )
    return _index_add(input, index, source, at)


def _diagonal_rule(g: Tensor, x_shape: Shape, offset: int) -> Tensor:
    n = g.shape[-1]
    i = np.arange(n) + max(-offset, 0)
    j = np.arange(n) + max(offset, 0)
    flat = wrap(i * x_shape[-1] + j)
    zeros = g.new_zeros((*x_shape[:-2], x_shape[-2] * x_shape[-1]))
    return _reshape(_index_add(zeros, flat, g, len(x_shape) - 2), x_shape)


_diagonal = primitive(
    "diagonal",
    kind="index",
    inputs=("input",),
    attrs=("offset",),
    kernel=lambda input, offset: np.diagonal(input, offset, -2, -1).copy(),
    shape=lambda input, offset: Spec(
        (
            *input.shape[:-2],
            max(0, min(input.shape[-2] + min(offset, 0), input.shape[-1] - max(offset, 0))),
        ),
        input.dtype,
    ),
    vjp=(lambda g, x_shape, offset: _diagonal_rule(g, x_shape, offset),),
    traits={"batched": True},
    samples=lambda rng: [((rng.normal(size=(2, 3, 4)),), (o,)) for o in (-1, 0, 2)],
    doc="a diagonal of the last two dimensions",
    error=0.0,
)


@method("diagonal")
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A diagonal of two dimensions, which are replaced by a last dimension along it."""
    a, b = one_dim("diagonal", dim1, input.ndim), one_dim("diagonal", dim2, input.ndim)
    if a == b:
        raise ArgumentError("diagonal", f"dim1 and dim2 are both {a}", fix="name two dimensions")
    order = [d for d in range(input.ndim) if d not in (a, b)] + [a, b]
    return _diagonal(_permute(input, tuple(order)), int(offset))


def cumprod_exclusive(input: Tensor) -> Tensor:
    """Products of all earlier elements along the last dimension, as a recorded program.

    By doubling: after step k every element has the product of the 2^k before it, so log2(n)
    multiplications of whole tensors suffice and zeros need no special case.
    """
    n = input.shape[-1] if input.ndim else 1
    if not input.ndim or n <= 1:
        return input.ones_like()
    from .movement import cat

    last = input.ndim - 1
    one = slice_dim(input, last, 0, 1).ones_like()
    y = cat([one, slice_dim(input, last, 0, n - 1)], last)
    step = 1
    while step < n:
        head = broadcast_to(one, (*input.shape[:-1], step))
        y = y * cat([head, slice_dim(y, last, 0, n - step)], last)
        step *= 2
    return y


# -- sort ------------------------------------------------------------------------------------------------


def _argsort_kernel(input: Any, dim: int, descending: bool) -> Any:
    if not input.ndim:
        return np.zeros((), np.int64)
    if not descending:
        return np.argsort(input, axis=dim, kind="stable").astype(np.int64)
    reverse = np.flip(np.argsort(np.flip(input, dim), axis=dim, kind="stable"), dim)
    return (input.shape[dim] - 1 - reverse).astype(np.int64)


_argsort = primitive(
    "argsort",
    kind="index",
    inputs=("input",),
    attrs=("dim", "descending"),
    kernel=_argsort_kernel,
    shape=lambda input, dim, descending: Spec(input.shape, int64),
    vjp=(None,),
    traits={"batched": True},
    samples=lambda rng: [
        ((rng.permutation(12).reshape(3, 4) / 4.0,), (d, r)) for d in (0, 1) for r in (False, True)
    ],
    doc="the stable order of elements along a dimension",
    error=0.0,
)


@method("argsort")
def argsort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = True) -> Tensor:
    """Positions that would sort the elements along `dim`; equal ones keep their order."""
    return _argsort(input, one_dim("argsort", dim, input.ndim), bool(descending))


@method("sort")
def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = True) -> ValuesIndices:
    """The elements in order along `dim`, and their old positions; always stable."""
    at = one_dim("sort", dim, input.ndim)
    order = _argsort(input, at, bool(descending))
    return ValuesIndices(_gather(input, order, at), order)


@method("topk")
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """The k largest (or smallest) elements along `dim`, in order, and their positions."""
    at = one_dim("topk", dim, input.ndim)
    size = input.shape[at] if input.ndim else 1
    if not 0 <= k <= size:
        raise ArgumentError(
            "topk", f"k = {k} of {size} elements", fix="use a k from 0 to the size of the dimension"
        )
    order = _argsort(input, at, bool(largest))
    indices = slice_dim(order, at, 0, k) if input.ndim else order
    return ValuesIndices(_gather(input, indices, at), indices)


_one_hot = primitive(
    "one_hot",
    kind="index",
    inputs=("input",),
    attrs=("num_classes",),
    kernel=lambda input, num_classes: _one_hot_kernel(input, num_classes),
    shape=lambda input, num_classes: Spec((*input.shape, num_classes), int64),
    vjp=(None,),
    traits={"batched": True},
    samples=lambda rng: [((rng.integers(0, 4, (2, 3)),), (4,))],
    doc="a row of zeros with a one at each class",
    error=0.0,
)


def _one_hot_kernel(input: Any, num_classes: int) -> Any:
    _check_range(input, num_classes)
    return (input[..., None] == np.arange(num_classes)).astype(np.int64)


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Classes (integers) as rows of zeros with a one, int64; -1 takes the largest class plus one.

    Raises OutOfRangeError for a class that is negative or too large.
    """
    index = _integers("one_hot", input)
    if num_classes == -1:
        array = index._concrete("one_hot with num_classes=-1")
        if not array.size:
            raise ArgumentError(
                "one_hot", "the number of classes of no elements is unknown", fix="pass num_classes"
            )
        num_classes = int(array.max()) + 1
    return _one_hot(index, int(num_classes))


@method("nonzero")
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The positions of nonzero elements, one row each; as_tuple: one tensor a dimension, to index with.

    Not inside a trace: the shape depends on values.
    """
    array = input._concrete("nonzero")
    if as_tuple:
        return tuple(wrap(i.astype(np.int64)) for i in np.nonzero(np.atleast_1d(array)))
    return wrap(np.argwhere(array).astype(np.int64))


@method("masked_select")
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where `mask` is True, as a vector; input and mask broadcast."""
    shape = broadcast_shapes(input.shape, mask.shape)
    return getitem(broadcast_to(input, shape), broadcast_to(mask, shape))
