"""What `numpy.sum(tensor)` means: functions of numpy that were handed a tensor (NEP 18).

numpy asks the argument first (`__array_function__`).  A function that has an operation of the same
meaning is that operation, recorded and differentiable like any other; its arguments keep numpy's
names, order and defaults (`ddof=0`, flattening where `axis` is None), which are not always PyTorch's.

    >>> import numpy as np, minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> np.concatenate([x, np.ones((1, 2))]).shape
    (3, 2)
    >>> np.var(x, axis=0).sum().backward()
    >>> x.grad
    tensor([[-1., -1.],
            [ 1.,  1.]])

All other functions take the tensor for the array that it holds, and give arrays; where that would
lose a gradient, `Tensor` refuses.  Options that write elsewhere or leave elements out (`out`,
`where`, `initial`) are refused: there is nothing in an operation that could do it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..ir import Shape
from ..tensor import Tensor, as_array, wrap
from . import arranging, contraction, creation, elementwise, linalg, movement, reduction, statistics

Axis = int | Sequence[int] | None


def _tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return wrap(as_array(value))
    return type(value)(map(_tensors, value)) if type(value) in (tuple, list) else value


def call(function: Callable[..., Any], face: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The operation behind a function of numpy.  Raises DTypeError for options that it does not have."""
    code = face.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    for name, value in kwargs.items():
        if name not in known:
            if name in ("out", "where", "initial") and value is None:
                continue
            raise DTypeError(
                f"numpy.{function.__name__} with {name}",
                "there is no such option for tensors",
                fix="leave it out, or apply the function to tensor.detach().numpy()",
            )
    return face(*_tensors(args), **{name: _tensors(value) for name, value in kwargs.items() if name in known})


def _reduced(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def face(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
        return function(a, axis, keepdims)

    return face


def _added(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def face(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
        return function(a, axis, keepdims, dtype=dtype)

    return face


def _spread(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def face(a: Any, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
        return function(a, axis, keepdim=keepdims, correction=ddof)

    return face


def _scanned(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def face(a: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
        return function(a.flatten(), 0, dtype=dtype) if axis is None else function(a, axis, dtype=dtype)

    return face


def _flat(tensors: Sequence[Tensor], axis: int | None) -> tuple[list[Tensor], int]:
    """numpy's `axis=None` of functions that join."""
    everything = [t if isinstance(t, Tensor) else wrap(as_array(t)) for t in tensors]
    return ([t.flatten() for t in everything], 0) if axis is None else (everything, axis)


def _concatenate(arrays: Any, axis: int | None = 0) -> Tensor:
    return movement.cat(*_flat(arrays, axis))


def _stack(arrays: Any, axis: int = 0) -> Tensor:
    return movement.stack(*_flat(arrays, axis))


def _where(condition: Any, x: Any = None, y: Any = None) -> Tensor:
    if x is None or y is None:
        raise ArgumentError("numpy.where", "one argument", fix="use tensor.nonzero()")
    return elementwise.where(condition, x, y)


def _dot(a: Any, b: Any) -> Tensor:
    if not a.ndim or not b.ndim:
        return elementwise.mul(a, b)
    return contraction.matmul(a, b) if b.ndim <= 2 else contraction.tensordot(a, b, ([-1], [-2]))


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    if not isinstance(axes, int):
        axes = tuple([x] if isinstance(x, int) else list(x) for x in axes)
    return contraction.tensordot(a, b, axes)


def _transpose(a: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    return a.permute(*(range(a.ndim)[::-1] if axes is None else axes))


def _reshape(a: Tensor, shape: int | Shape | None = None, *, newshape: int | Shape | None = None) -> Tensor:
    wanted = newshape if shape is None else shape
    return a.reshape(wanted if isinstance(wanted, int) else tuple(wanted))  # type: ignore[arg-type]


def _expand_dims(a: Tensor, axis: int | Sequence[int]) -> Tensor:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    rank = a.ndim + len(axes)
    for at in sorted(x % rank if -rank <= x < rank else x for x in axes):
        a = a.unsqueeze(at)
    return a


def _repeat(a: Any, repeats: Any, axis: int | None = None) -> Tensor:
    return arranging.repeat_interleave(a, repeats, axis)


def _flip(m: Tensor, axis: Axis = None) -> Tensor:
    return m.flip(tuple(range(m.ndim)) if axis is None else axis)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    return elementwise.clamp(a, min if a_min is None else a_min, max if a_max is None else a_max)


def _sort(a: Tensor, axis: int | None = -1) -> Tensor:
    return (a.flatten().sort(0) if axis is None else a.sort(axis))[0]


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    return linalg.norm(x, ord, axis, keepdims)


def _like(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def face(a: Any, dtype: Any = None) -> Tensor:
        return function(a, dtype=dtype)

    return face


#: For each function of numpy the operation that it means.
FACES: dict[Callable[..., Any], Callable[..., Any]] = {
    np.sum: _added(reduction.sum),
    np.prod: _added(reduction.prod),
    np.mean: _added(reduction.mean),
    np.max: _reduced(reduction.amax),
    np.min: _reduced(reduction.amin),
    np.amax: _reduced(reduction.amax),
    np.amin: _reduced(reduction.amin),
    np.any: _reduced(reduction.any_),
    np.all: _reduced(reduction.all_),
    np.argmax: _reduced(reduction.argmax),
    np.argmin: _reduced(reduction.argmin),
    np.var: _spread(reduction.var),
    np.std: _spread(reduction.std),
    np.cumsum: _scanned(reduction.cumsum),
    np.cumprod: _scanned(statistics.cumprod),
    np.concatenate: _concatenate,
    np.stack: _stack,
    np.hstack: lambda tup: arranging.hstack(_flat(tup, 0)[0]),
    np.vstack: lambda tup: arranging.vstack(_flat(tup, 0)[0]),
    np.dstack: lambda tup: arranging.dstack(_flat(tup, 0)[0]),
    np.where: _where,
    np.dot: _dot,
    np.inner: lambda a, b: contraction.inner(a, b),
    np.outer: lambda a, b: contraction.outer(a.flatten(), b.flatten()),
    np.kron: lambda a, b: contraction.kron(a, b),
    np.tensordot: _tensordot,
    np.transpose: _transpose,
    np.swapaxes: lambda a, axis1, axis2: a.transpose(axis1, axis2),
    np.moveaxis: lambda a, source, destination: a.movedim(source, destination),
    np.reshape: _reshape,
    np.ravel: lambda a: a.flatten(),
    np.squeeze: lambda a, axis=None: a.squeeze(axis),
    np.expand_dims: _expand_dims,
    np.broadcast_to: lambda array, shape: movement.broadcast_to(array, shape),
    np.tile: lambda A, reps: arranging.tile(A, (reps,) if isinstance(reps, int) else tuple(reps)),
    np.repeat: _repeat,
    np.flip: _flip,
    np.roll: lambda a, shift, axis=None: arranging.roll(a, shift, axis),
    np.clip: _clip,
    np.sort: _sort,
    np.take_along_axis: lambda arr, indices, axis=-1: arranging.take_along_dim(arr, indices, axis),
    np.diag: lambda v, k=0: arranging.diag(v, k),
    np.diagonal: lambda a, offset=0, axis1=0, axis2=1: a.diagonal(offset, axis1, axis2),
    np.trace: lambda a: a.trace(),
    np.tril: lambda m, k=0: movement.tril(m, k),
    np.triu: lambda m, k=0: movement.triu(m, k),
    np.zeros_like: _like(creation.zeros_like),
    np.ones_like: _like(creation.ones_like),
    np.linalg.norm: _norm,
    np.linalg.inv: lambda a: linalg.inv(a),
    np.linalg.det: lambda a: linalg.det(a),
    np.linalg.solve: lambda a, b: linalg.solve(a, b),
    np.linalg.cholesky: lambda a: linalg.cholesky(a),
    np.linalg.pinv: lambda a: linalg.pinv(a),
}
