"""Reductions, softmax, losses and standardisation on the C kernels: numpy arrays in, numpy arrays out.

Every kernel works on a row-major array seen as (outer, n, inner) and reduces n.  Dimensions that
lie side by side are one dimension; dimensions that do not (as the 0, 2 and 3 of a batch norm) are
reduced one group after the other.  What the kernels do not take, integers, other layouts, empty
arrays, sizes below the crossover, numpy computes.

    >>> import numpy as np
    >>> x = np.ones((3, 1000, 2), np.float32)
    >>> sum(x, (1,), False).tolist()
    [[1000.0, 1000.0], [1000.0, 1000.0], [1000.0, 1000.0]]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from . import c as _c
from .elementwise import CROSSOVER

Array = Any
Dims = tuple[int, ...]

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)
_TYPE = {_F32: 0, _F64: 1}
_SUM, _MAX, _MIN = 0, 1, 2
_SOFTMAX, _LOG_SOFTMAX, _LOGSUMEXP = 0, 1, 2


def _usable(x: Array, crossover: str) -> bool:
    return x.size >= CROSSOVER[crossover] and x.dtype in _TYPE and x.flags.c_contiguous and x.flags.aligned


def _three(shape: Dims, first: int, last: int) -> tuple[int, int, int]:
    """(outer, n, inner) where n are the dimensions first .. last."""
    return math.prod(shape[:first]), math.prod(shape[first : last + 1]), math.prod(shape[last + 1 :])


def _left(shape: Dims, dims: Dims, keepdim: bool) -> Dims:
    if keepdim:
        return tuple(1 if d in dims else s for d, s in enumerate(shape))
    return tuple(s for d, s in enumerate(shape) if d not in dims)


@lru_cache(maxsize=4096)
def _plan(shape: Dims, dims: Dims, keepdim: bool) -> tuple[tuple[int, int, int, Dims], ...]:
    """(outer, n, inner) and the result's shape, for each group of dimensions side by side, the last first."""
    result_shape = _left(shape, dims, keepdim)
    plan: list[tuple[int, int, int, Dims]] = []
    todo = sorted(d for d in dims if shape[d] != 1)
    while todo:
        last = first = todo.pop()
        while todo and all(shape[d] == 1 for d in range(todo[-1] + 1, first)):
            first = todo.pop()
        three = _three(shape, first, last)
        shape = tuple(1 if first <= d <= last else s for d, s in enumerate(shape))
        plan.append((*three, shape if todo else result_shape))
    return tuple(plan)


def _reduce(op: int, x: Array, plan: tuple[tuple[int, int, int, Dims], ...]) -> Array:
    """Reduce an array that is contiguous."""
    kind = _TYPE[x.dtype]
    for outer, n, inner, shape in plan:
        y = np.empty(shape, x.dtype)
        _c._check(_c.lib.mg_reduce(kind, op, outer, n, inner, _c.from_buffer(x), _c.from_buffer(y)))
        x = y
    return x


def sum(input: Array, dims: Dims, keepdim: bool) -> Array:
    """The sum over dimensions."""
    if _usable(input, "sum") and (plan := _plan(input.shape, dims, keepdim)):
        return _reduce(_SUM, input, plan)
    return np.add.reduce(input, axis=dims, keepdims=keepdim, dtype=input.dtype)  # type: ignore[call-overload]


def amax(input: Array, dims: Dims, keepdim: bool) -> Array:
    """The largest element over dimensions; NaN if there is one."""
    if _usable(input, "extreme") and (plan := _plan(input.shape, dims, keepdim)):
        return _reduce(_MAX, input, plan)
    return np.maximum.reduce(input, axis=dims, keepdims=keepdim)  # type: ignore[call-overload]


def amin(input: Array, dims: Dims, keepdim: bool) -> Array:
    """The smallest element over dimensions; NaN if there is one."""
    if _usable(input, "extreme") and (plan := _plan(input.shape, dims, keepdim)):
        return _reduce(_MIN, input, plan)
    return np.minimum.reduce(input, axis=dims, keepdims=keepdim)  # type: ignore[call-overload]


def mean(input: Array, dims: Dims, keepdim: bool) -> Array:
    """The mean over dimensions."""
    count = input.dtype.type(math.prod(input.shape[d] for d in dims))
    if _usable(input, "sum") and (plan := _plan(input.shape, dims, keepdim)):
        y = _reduce(_SUM, input, plan)
        return np.divide(y, count, out=y)
    return np.add.reduce(input, axis=dims, keepdims=keepdim) / count  # type: ignore[call-overload]


def var(input: Array, dims: Dims, correction: float, keepdim: bool) -> Array:
    """The variance over dimensions, sum((x - mean)^2) / (n - correction), in one pass over memory."""
    groups = _groups(input, dims) if _usable(input, "standardize") else None
    if groups is None:
        m2 = np.asarray(sum(np.square(input - mean(input, dims, True)), dims, keepdim))
    else:
        m2 = np.empty(_left(input.shape, dims, keepdim), input.dtype)
        _c._check(_c.lib.mg_moments(groups, _c.from_buffer(input), _c.ffi.NULL, _c.from_buffer(m2)))
    count = math.prod(input.shape[d] for d in dims) - correction
    with np.errstate(all="ignore"):
        return np.divide(m2, input.dtype.type(max(count, 0)), out=m2)


def _position(op: int, function: Any, x: Array, dim: int | None, keepdim: bool) -> Array:
    if not x.ndim:
        return np.zeros((), np.int64)
    if not _usable(x, "position"):
        return function(x, axis=dim, keepdims=keepdim).astype(np.int64)
    dims = tuple(range(x.ndim)) if dim is None else (dim,)
    plan = _plan(x.shape, dims, keepdim)
    if not plan:
        return np.zeros(_left(x.shape, dims, keepdim), np.int64)
    ((outer, n, inner, shape),) = plan
    y = np.empty(shape, np.int64)
    places = _c.ffi.from_buffer("int64_t[]", y)
    _c._check(_c.lib.mg_arg(_TYPE[x.dtype], op, outer, n, inner, _c.from_buffer(x), places))
    return y


def argmax(input: Array, dim: int | None, keepdim: bool) -> Array:
    """The position of the first largest element."""
    return _position(_MAX, np.argmax, input, dim, keepdim)


def argmin(input: Array, dim: int | None, keepdim: bool) -> Array:
    """The position of the first smallest element."""
    return _position(_MIN, np.argmin, input, dim, keepdim)


# -- softmax and its like ------------------------------------------------------------------------------


def _numpy_logsumexp(x: Array, dims: Dims, keepdim: bool) -> Array:
    if any(x.shape[d] == 0 for d in dims):
        return np.full(_left(x.shape, dims, keepdim), -np.inf, x.dtype)
    top = np.maximum.reduce(x, axis=dims, keepdims=True)
    top = np.where(np.isfinite(top), top, x.dtype.type(0))
    total = np.log(np.add.reduce(np.exp(x - top), axis=dims, keepdims=True)) + top
    return total.reshape(_left(x.shape, dims, keepdim))


def logsumexp(input: Array, dims: Dims, keepdim: bool) -> Array:
    """log(sum(exp(input))) over dimensions."""
    if _usable(input, "softmax") and dims and dims == tuple(range(dims[0], dims[-1] + 1)):
        y = np.empty(_left(input.shape, dims, keepdim), input.dtype)
        outer, n, inner = _three(input.shape, dims[0], dims[-1])
        null = _c.ffi.NULL
        _c._check(
            _c.lib.mg_softmax(
                _TYPE[input.dtype],
                _LOGSUMEXP,
                outer,
                n,
                inner,
                _c.from_buffer(input),
                null,
                _c.from_buffer(y),
            )
        )
        return y
    return _numpy_logsumexp(input, dims, keepdim)


def _numpy_softmax(x: Array, dim: int) -> Array:
    e = np.exp(x - np.maximum.reduce(x, axis=dim, keepdims=True, initial=-np.inf))
    return e / np.add.reduce(e, axis=dim, keepdims=True)


def _numpy_log_softmax(x: Array, dim: int) -> Array:
    z = x - np.maximum.reduce(x, axis=dim, keepdims=True, initial=-np.inf)
    return z - np.log(np.add.reduce(np.exp(z), axis=dim, keepdims=True))


def _softmax(what: int, x: Array, dim: int) -> Array:
    dim %= x.ndim
    y = np.empty(x.shape, x.dtype)
    shape = _three(x.shape, dim, dim)
    _c._check(
        _c.lib.mg_softmax(_TYPE[x.dtype], what, *shape, _c.from_buffer(x), _c.from_buffer(y), _c.ffi.NULL)
    )
    return y


def softmax(input: Array, dim: int) -> Array:
    """exp(input) / sum(exp(input)) along a dimension."""
    if not input.ndim or not _usable(input, "softmax"):
        return _numpy_softmax(input, dim)
    return _softmax(_SOFTMAX, input, dim)


def log_softmax(input: Array, dim: int) -> Array:
    """log(softmax(input)) along a dimension."""
    if not input.ndim or not _usable(input, "softmax"):
        return _numpy_log_softmax(input, dim)
    return _softmax(_LOG_SOFTMAX, input, dim)


def _softmax_grad(what: int, g: Array, y: Array, dim: int) -> Array | None:
    if (
        not y.ndim
        or g.shape != y.shape
        or g.dtype != y.dtype
        or not (_usable(g, "softmax") and _usable(y, "softmax"))
    ):
        return None
    dim %= y.ndim
    gx = np.empty(y.shape, y.dtype)
    buffers = (_c.from_buffer(g), _c.from_buffer(y), _c.from_buffer(gx))
    _c._check(_c.lib.mg_softmax_grad(_TYPE[y.dtype], what, *_three(y.shape, dim, dim), *buffers))
    return gx


def softmax_grad(g: Array, y: Array, dim: int) -> Array:
    """The gradient of softmax, from the cotangent of its result and the result."""
    gx = _softmax_grad(_SOFTMAX, g, y, dim)
    return y * (g - np.add.reduce(g * y, axis=dim, keepdims=True)) if gx is None else gx


def log_softmax_grad(g: Array, y: Array, dim: int) -> Array:
    """The gradient of log_softmax, from the cotangent of its result and the result."""
    gx = _softmax_grad(_LOG_SOFTMAX, g, y, dim)
    return g - np.exp(y) * np.add.reduce(g, axis=dim, keepdims=True) if gx is None else gx


# -- cross-entropy over class indices ---------------------------------------------------------------------


def _classes(x: Array, target: Array, ignore_index: int) -> Array:
    if x.ndim != 2 or target.shape != x.shape[:1]:
        raise ValueError(
            f"cross_entropy: logits (rows, classes) and targets (rows,), not {x.shape} and {target.shape}"
        )
    t = np.ascontiguousarray(target, np.int64)
    wrong = (t != ignore_index) & ((t < 0) | (t >= x.shape[1]))
    if wrong.any():
        raise IndexError(f"cross_entropy: class {t[wrong][0]} of {x.shape[1]}")
    return t


def cross_entropy(input: Array, target: Array, ignore_index: int = -100) -> Array:
    """The loss of each row: logsumexp(row) - row[target], 0 where the target is `ignore_index`."""
    return _cross_entropy(input, target, ignore_index, None)[0]


def cross_entropy_both(
    input: Array, target: Array, scale: float, ignore_index: int = -100
) -> tuple[Array, Array]:
    """The losses, and `scale` times the gradient of their sum, in one pass over the logits."""
    return _cross_entropy(input, target, ignore_index, scale)


def _cross_entropy(x: Array, target: Array, ignore_index: int, scale: float | None) -> tuple[Array, Array]:
    t = _classes(x, target, ignore_index)
    rows, n = x.shape
    if x.dtype in _TYPE and n > 0 and _c.available:
        x = np.ascontiguousarray(x)
        loss = np.empty(rows, x.dtype)
        gx = None if scale is None else np.empty(x.shape, x.dtype)
        _c._check(
            _c.lib.mg_cross_entropy(
                _TYPE[x.dtype],
                rows,
                n,
                _c.from_buffer(x),
                _c.ffi.from_buffer("int64_t[]", t),
                ignore_index,
                _c.from_buffer(loss),
                scale or 0.0,
                _c.ffi.NULL if gx is None else _c.from_buffer(gx),
            )
        )
        return loss, gx
    counts = t != ignore_index
    at = np.where(counts, t, 0)
    logs = _numpy_log_softmax(x, 1)
    loss = np.where(counts, -logs[np.arange(rows), at], 0).astype(x.dtype)
    if scale is None:
        return loss, None
    gx = np.exp(logs)
    gx[np.arange(rows), at] -= 1
    return loss, (gx * (scale * counts[:, None])).astype(x.dtype)


def cross_entropy_grad(g: Array, input: Array, target: Array, ignore_index: int = -100) -> Array:
    """The gradient of the logits, for the cotangent `g` of each row's loss."""
    t = _classes(input, target, ignore_index)
    rows, n = input.shape
    if input.dtype in _TYPE and g.dtype == input.dtype and n > 0 and _c.available:
        x, g = np.ascontiguousarray(input), np.ascontiguousarray(g)
        gx = np.empty(x.shape, x.dtype)
        _c._check(
            _c.lib.mg_cross_entropy_grad(
                _TYPE[x.dtype],
                rows,
                n,
                _c.from_buffer(g),
                _c.from_buffer(x),
                _c.ffi.from_buffer("int64_t[]", t),
                ignore_index,
                _c.from_buffer(gx),
            )
        )
        return gx
    gx = _cross_entropy(input.astype(np.float64), t, ignore_index, 1.0)[1]
    return (gx * g[:, None]).astype(input.dtype)


# -- standardisation: the core of layer norm, batch norm and their family -----------------------------------


def _groups(x: Array, dims: Dims, per_element: bool = False) -> Any:
    """How the elements that are standardised together lie in memory; None if the kernel cannot follow.

    Over trailing dimensions a group is a run; over (0, 2, 3) of (N, C, H, W) it is N runs of H * W.
    """
    shape = x.shape
    reduced = [d for d in range(x.ndim) if d in dims or shape[d] == 1]
    kept = [d for d in range(x.ndim) if d not in reduced]
    if not reduced or x.size == 0:
        return None
    first = kept[0] if kept else 0
    last = kept[-1] if kept else -1
    if kept and (kept != list(range(first, last + 1))):
        return None
    segments, groups, length = (
        math.prod(shape[:first]),
        math.prod(shape[d] for d in kept),
        math.prod(shape[last + 1 :]),
    )
    if segments > 1 and length < 16:  # runs this short: numpy, column by column
        return None
    s = _c.ffi.new("struct mg_groups *")
    s.type, s.per_element = _TYPE[x.dtype], per_element
    s.groups, s.segments, s.length = groups, segments, length
    s.group_stride, s.segment_stride = length, groups * length
    return s


def standardize(
    input: Array, dims: Dims, eps: float, weight: Array = None, bias: Array = None, out: Array = None
) -> tuple[Array, Array, Array]:
    """(input - mean) / sqrt(var + eps) over dimensions, times weight plus bias; returns (y, mean, rstd).

    weight and bias have the shape of the reduced dimensions (layer norm) or of the others (batch
    norm); mean and rstd keep the reduced dimensions with size 1.
    """
    per_element, weight, bias = _affine(input, dims, weight, bias)
    groups = _groups(input, dims, per_element) if _usable(input, "standardize") else None
    if groups is None or (per_element and groups.segments != 1):
        return _numpy_standardize(input, dims, eps, per_element, weight, bias)
    y = np.empty(input.shape, input.dtype) if out is None else _writable(out, input)
    mean = np.empty(_left(input.shape, dims, True), input.dtype)
    rstd = np.empty_like(mean)
    null = _c.ffi.NULL
    _c._check(
        _c.lib.mg_standardize(
            groups,
            _c.from_buffer(input),
            null if weight is None else _c.from_buffer(weight),
            null if bias is None else _c.from_buffer(bias),
            eps,
            _c.from_buffer(y),
            _c.from_buffer(mean),
            _c.from_buffer(rstd),
        )
    )
    return y, mean, rstd


def standardize_grad(
    g: Array, input: Array, mean: Array, rstd: Array, dims: Dims, weight: Array = None, out: Array = None
) -> tuple[Array, Array, Array]:
    """The gradients of input, weight and bias, from what `standardize` returned.

    Without a weight, those of weight and bias are given as if there were one with an element per group.
    """
    per_element, weight, _ = _affine(input, dims, weight, None)
    groups = None
    if _usable(input, "standardize") and g.dtype == input.dtype and g.flags.c_contiguous and g.flags.aligned:
        groups = _groups(input, dims, per_element)
    kept = tuple(d for d in range(input.ndim) if d not in dims)
    shape = tuple(input.shape[d] for d in (sorted(dims) if per_element else kept))
    if groups is None or (per_element and groups.segments != 1):
        axes = kept if per_element else dims
        xh = (input - mean) * rstd
        gw, gb = np.sum(g * xh, axis=axes, dtype=input.dtype), np.sum(g, axis=axes, dtype=input.dtype)
        if weight is not None:
            g = g * _spread(weight, input.ndim, dims, per_element)
        gx = rstd * (
            g - np.mean(g, axis=dims, keepdims=True) - xh * np.mean(g * xh, axis=dims, keepdims=True)
        )
        return gx, gw.reshape(shape), gb.reshape(shape)
    gx = np.empty(input.shape, input.dtype) if out is None else _writable(out, g, input)
    gw, gb = np.empty(shape, input.dtype), np.empty(shape, input.dtype)
    mean, rstd = np.ascontiguousarray(mean), np.ascontiguousarray(rstd)
    null = _c.ffi.NULL
    _c._check(
        _c.lib.mg_standardize_grad(
            groups,
            _c.from_buffer(g),
            _c.from_buffer(input),
            _c.from_buffer(mean),
            _c.from_buffer(rstd),
            null if weight is None else _c.from_buffer(weight),
            _c.from_buffer(gx),
            _c.from_buffer(gw),
            _c.from_buffer(gb),
        )
    )
    return gx, gw, gb


def _writable(out: Array, *inputs: Array) -> Array:
    x = inputs[0]
    if out.shape != x.shape or out.dtype != x.dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"out must be writable, contiguous, {x.dtype} and of shape {x.shape}")
    if any(np.may_share_memory(out, i) for i in inputs):
        raise ValueError("out overlaps an input")
    return out


def _affine(x: Array, dims: Dims, weight: Array, bias: Array) -> tuple[bool, Array, Array]:
    """Whether weight and bias have an element for each place in a group, and both as contiguous arrays."""
    inside = tuple(x.shape[d] for d in sorted(dims))
    across = tuple(s for d, s in enumerate(x.shape) if d not in dims)
    given = weight if weight is not None else bias
    per_element = given is not None and given.shape == inside
    for name, v in (("weight", weight), ("bias", bias)):
        if v is not None and v.shape != (inside if per_element else across):
            raise ValueError(f"standardize: {name} has shape {v.shape}, not {inside} or {across}")
    return (
        per_element,
        None if weight is None else np.ascontiguousarray(weight, x.dtype),
        None if bias is None else np.ascontiguousarray(bias, x.dtype),
    )


def _spread(v: Array, ndim: int, dims: Dims, per_element: bool) -> Array:
    shape = iter(v.shape)
    return v.reshape([next(shape) if (d in dims) == per_element else 1 for d in range(ndim)])


def _numpy_standardize(
    x: Array, dims: Dims, eps: float, per_element: bool, weight: Array, bias: Array
) -> tuple[Array, Array, Array]:
    m = mean(x, dims, True)
    y = x - m
    rstd = 1 / np.sqrt(mean(np.square(y), dims, True) + x.dtype.type(eps))
    y *= rstd
    if weight is not None:
        y *= _spread(weight, x.ndim, dims, per_element)
    if bias is not None:
        y += _spread(bias, x.ndim, dims, per_element)
    return y, m, rstd


def _wrap_standardize(fallback: Callable[..., Array]) -> Callable[..., Array]:
    def kernel(input: Array, dims: Dims, eps: float) -> Array:
        groups = _groups(input, dims) if _usable(input, "standardize") else None
        if groups is None:
            return fallback(input, dims, eps)
        y, null = np.empty(input.shape, input.dtype), _c.ffi.NULL
        _c._check(
            _c.lib.mg_standardize(
                groups, _c.from_buffer(input), null, null, eps, _c.from_buffer(y), null, null
            )
        )
        return y

    return kernel


def _wrap_rstd(fallback: Callable[..., Array]) -> Callable[..., Array]:
    def kernel(input: Array, dims: Dims, eps: float) -> Array:
        groups = _groups(input, dims) if _usable(input, "standardize") else None
        if groups is None:
            return fallback(input, dims, eps)
        y, null = np.empty(_left(input.shape, dims, True), input.dtype), _c.ffi.NULL
        _c._check(
            _c.lib.mg_standardize(
                groups, _c.from_buffer(input), null, null, eps, null, null, _c.from_buffer(y)
            )
        )
        return y

    return kernel


def _wrap_sum_to(fallback: Callable[..., Array]) -> Callable[..., Array]:
    def kernel(input: Array, shape: Dims) -> Array:
        if not _usable(input, "sum"):
            return fallback(input, shape)
        new = input.ndim - len(shape)
        dims = tuple(d for d in range(input.ndim) if d < new or (shape[d - new] == 1 and input.shape[d] != 1))
        plan = _plan(input.shape, dims, True)
        return _reduce(_SUM, input, plan).reshape(shape) if plan else fallback(input, shape)

    return kernel


def _labels(x: Array, labels: Array) -> Array:
    """Labels as the kernels take them; None if they, or the logits, are not for the kernels."""
    if x.ndim != 2 or labels.shape != x.shape[:1] or not _usable(x, "cross_entropy"):
        return None
    if labels.dtype.kind not in "iu":
        return None
    t = np.ascontiguousarray(labels, np.int64)
    # as unsigned numbers, negative labels are huge: one comparison finds all that are no class
    unsigned: Any = t.view(np.uint64)
    return t if unsigned.max() < x.shape[1] else None


def _wrap_cross_entropy(fallback: Callable[..., Array]) -> Callable[..., Array]:
    def kernel(input: Array, labels: Array) -> Array:
        t = _labels(input, labels)
        if t is None:
            return fallback(input, labels)
        loss, null = np.empty(t.shape, input.dtype), _c.ffi.NULL
        _c._check(
            _c.lib.mg_cross_entropy(
                _TYPE[input.dtype],
                *input.shape,
                _c.from_buffer(input),
                _c.from_buffer("int64_t[]", t),
                -1,  # no label is: they were all looked at
                _c.from_buffer(loss),
                0.0,
                null,
            )
        )
        return loss

    return kernel


def _wrap_cross_entropy_grad(fallback: Callable[..., Array]) -> Callable[..., Array]:
    def kernel(grad: Array, input: Array, labels: Array) -> Array:
        t = _labels(input, labels)
        if t is None or grad.shape != t.shape or grad.dtype != input.dtype:
            return fallback(grad, input, labels)
        g, gx = np.ascontiguousarray(grad), np.empty(input.shape, input.dtype)
        _c._check(
            _c.lib.mg_cross_entropy_grad(
                _TYPE[input.dtype],
                *input.shape,
                _c.from_buffer(g),
                _c.from_buffer(input),
                _c.from_buffer("int64_t[]", t),
                -1,
                _c.from_buffer(gx),
            )
        )
        return gx

    return kernel


#: Op name -> (the record's kernel) -> the kernel to use: where small arrays are best left to the record.
WRAPPERS: dict[str, Callable[[Callable[..., Array]], Callable[..., Array]]] = (
    {
        "standardize": _wrap_standardize,
        "rstd": _wrap_rstd,
        "sum_to": _wrap_sum_to,
        "softmax_cross_entropy": _wrap_cross_entropy,
        "softmax_cross_entropy_grad": _wrap_cross_entropy_grad,
    }
    if _c.available
    else {}
)

KERNELS: dict[str, Callable[..., Array]] = (
    {
        "sum": sum,
        "mean": mean,
        "amax": amax,
        "amin": amin,
        "argmax": argmax,
        "argmin": argmin,
        "logsumexp": logsumexp,
        "softmax": softmax,
        "log_softmax": log_softmax,
    }
    if _c.available
    else {}
)
"""Op name -> function on arrays, with the arguments of the record."""
