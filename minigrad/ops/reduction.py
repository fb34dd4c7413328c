"""Reductions: many elements become one.

    sum    gx = g repeated                    mean   gx = g / n repeated
    prod   gx_i = g * product of the others   amax   gx = g shared by the largest elements

Statistics are separate operations with one output each: max is `amax` and `argmax`, var is built
on `mean`.  `dim` may be one dimension, several, or None for all; `axis` and `keepdims` are
accepted as in numpy.

    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> x.mean(dim=0)
    tensor([2., 3.], grad_fn=<mean>)
    >>> x.max(dim=1).indices
    tensor([1, 1])

numpy sums pairwise along the fast axis: the error grows with log n, not n (Higham 1993).
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..bind import floating, method, primitive
from ..errors import ArgumentError, DTypeError, Refusal
from ..ir import Shape, Spec, bool_, int64, is_float
from ..tensor import Tensor
from .elementwise import cast, exp, sqrt, square, where
from .movement import _reshape, one_dim, pick_dim, squeeze

Dims = int | Sequence[int] | None


class ValuesIndices(NamedTuple):
    """What max, min, sort and topk along a dimension return."""

    values: Tensor
    indices: Tensor


def all_dims(op: str, dim: Any, ndim: int) -> Shape:
    """Dimensions as a sorted tuple without repeats; None and () mean all."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    if not isinstance(dim, (tuple, list)):
        return (one_dim(op, dim, ndim),) if ndim else _scalar_dim(op, dim)
    dims = [one_dim(op, d, ndim) for d in dim]
    if len(set(dims)) != len(dims):
        raise ArgumentError(op, f"dim {tuple(dim)} names a dimension twice", fix="name each dimension once")
    return tuple(sorted(dims)) if ndim else ()


def _scalar_dim(op: str, dim: Any) -> Shape:
    one_dim(op, dim, 0)
    return ()


def reduced(shape: Shape, dims: Shape, keepdim: bool) -> Shape:
    """The shape that is left."""
    if keepdim:
        return tuple(1 if i in dims else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i not in dims)


def _spread_kernel(input: Any, shape: Shape, dims: Shape) -> Any:
    kept = input.reshape(reduced(shape, dims, True))
    if math.prod(shape) > _SPREAD_COPIES:
        return np.broadcast_to(kept, shape)
    y = np.empty(shape, input.dtype)
    y[...] = kept
    return y


#: Up to this many elements a copy costs less than numpy's broadcast_to (4 us).
_SPREAD_COPIES = 4096

_spread: Callable[..., Tensor] = primitive(
    "spread",
    kind="movement",
    inputs=("input",),
    attrs=("shape", "dims"),
    kernel=_spread_kernel,
    shape=lambda input, shape, dims: Spec(shape, input.dtype),
    vjp=(lambda g, x_shape, dims: _reshape(_sum(g, dims, False), x_shape),),
    samples=lambda rng: [
        ((rng.normal(size=(3,)),), ((3, 4), (1,))),
        ((rng.normal(size=(1, 3, 1)),), ((2, 3, 4), (0, 2))),
        ((rng.normal(size=()),), ((2, 3), (0, 1))),
        ((rng.normal(size=(0,)),), ((0, 3), (1,))),
    ],
    traits={
        "broadcast": lambda x, shape, dims: (
            x.shape == reduced(shape, dims, True) or dims == tuple(range(len(shape) - len(x.shape)))
        )
    },
    doc="a value reduced over some dimensions of a shape, repeated over that shape: the transpose of sum",
    error=0.0,
)


def spread(g: Tensor, x_shape: Shape, dims: Shape) -> Tensor:
    """A reduced value repeated back over the shape it came from."""
    return _spread(g, x_shape, dims)


def unreduced(y: Tensor, x_shape: Shape, dims: Shape) -> Tensor:
    """A reduced value with its reduced dimensions kept as size 1."""
    return _reshape(y, reduced(x_shape, dims, True))


def _keep(input: Spec, dims: Shape, keepdim: bool) -> Spec:
    return Spec(reduced(input.shape, dims, keepdim), input.dtype)


def _keep_float(input: Spec, dims: Shape, keepdim: bool) -> Spec:
    if not is_float(input.dtype):
        raise Refusal(
            f"is defined for floating point, not {input.dtype}", "convert with .float()", DTypeError
        )
    return _keep(input, dims, keepdim)


def _bools(input: Spec, dims: Shape, keepdim: bool) -> Spec:
    return Spec(reduced(input.shape, dims, keepdim), bool_)


def _some(input: Spec, dims: Shape, keepdim: bool) -> Spec:
    if any(input.shape[d] == 0 for d in dims):
        raise Refusal(
            f"there is no element to choose from in shape {input.shape}", "check for empty input first"
        )
    return _keep(input, dims, keepdim)


def _samples(rng: Any) -> list[Any]:
    return [
        ((rng.permutation(12).reshape(3, 4) / 4.0 - 1.3,), ((1,), False)),
        ((rng.permutation(24).reshape(2, 3, 4) / 8.0 - 1.3,), ((0, 2), True)),
        ((rng.normal(size=(2, 3)),), ((0, 1), False)),
        ((rng.normal(size=()),), ((), False)),
        ((rng.normal(size=(4, 6)).T[::2],), ((0,), False)),
    ]


def _samples_with_empty(rng: Any) -> list[Any]:
    return [*_samples(rng), ((np.zeros((0, 3)),), ((0,), False))]


_sum = primitive(
    "sum",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "keepdim"),
    kernel=lambda input, dims, keepdim: np.add.reduce(input, axis=dims, keepdims=keepdim, dtype=input.dtype),
    shape=_keep,
    vjp=(lambda g, x_shape, dims: spread(g, x_shape, dims),),
    samples=_samples_with_empty,
    reference=lambda input, dims, keepdim: np.einsum(
        input, list(range(input.ndim)), [i for i in range(input.ndim) if i not in dims]
    ).reshape(reduced(input.shape, dims, keepdim)),
    doc="the sum over dimensions",
)


def _no_dtype(op: str, dtype: Any, input: Tensor) -> Tensor:
    return input if dtype is None else cast(input, dtype)


def _counts(input: Tensor) -> Tensor:
    """Integers and bools are summed as int64, so that they do not wrap."""
    return input if is_float(input.dtype) else cast(input, int64)


@method("sum")
def sum(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Tensor:
    """The sum over dimensions (all by default); bools and integers give int64."""
    dim = pick_dim("sum", dim, axis)
    input = _counts(_no_dtype("sum", dtype, input))
    return _sum(input, all_dims("sum", dim, input.ndim), bool(keepdim or keepdims))


def _count(shape: Shape, dims: Shape) -> int:
    return math.prod(shape[d] for d in dims)


_mean = primitive(
    "mean",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "keepdim"),
    kernel=lambda input, dims, keepdim: (
        np.add.reduce(input, axis=dims, keepdims=keepdim) / input.dtype.type(_count(input.shape, dims))
    ),
    shape=_keep_float,
    vjp=(lambda g, x_shape, dims: spread(g * (1.0 / max(_count(x_shape, dims), 1)), x_shape, dims),),
    samples=_samples,
    reference=lambda input, dims, keepdim: np.mean(input.astype(np.float64), axis=dims, keepdims=keepdim),
    doc="the mean over dimensions",
)


@method("mean")
def mean(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Tensor:
    """The mean over dimensions (all by default); NaN of nothing.  Raises DTypeError for integers."""
    dim = pick_dim("mean", dim, axis)
    input = _no_dtype("mean", dtype, input)
    if not is_float(input.dtype):
        raise DTypeError(
            "mean", f"the mean of {input.dtype} is no {input.dtype}", fix="write x.float().mean()"
        )
    return _mean(input, all_dims("mean", dim, input.ndim), bool(keepdim or keepdims))


def _prod_rule(g: Tensor, input: Tensor, x_shape: Shape, dims: Shape) -> Tensor:
    """Product of the others, correct where elements are zero: products from the left times from the right."""
    from .indexing import cumprod_exclusive

    rest = tuple(d for d in range(len(x_shape)) if d not in dims)
    flat = _reshape(input.permute(rest + dims), (*(x_shape[d] for d in rest), _count(x_shape, dims)))
    left = cumprod_exclusive(flat)
    right = cumprod_exclusive(flat.flip(-1)).flip(-1)
    others = _reshape(left * right, tuple(x_shape[d] for d in rest + dims))
    order = rest + dims
    others = others.permute(tuple(order.index(d) for d in range(len(order))))
    return spread(g, x_shape, dims) * others


_prod = primitive(
    "prod",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "keepdim"),
    kernel=lambda input, dims, keepdim: (
        np.multiply.reduce(input, axis=dims, keepdims=keepdim, dtype=input.dtype)
        if len(dims) < 2 or input.dtype.kind == "f"
        else np.prod(input, axis=dims, keepdims=keepdim, dtype=input.dtype)
    ),
    shape=_keep,
    vjp=(lambda g, input, x_shape, dims: _prod_rule(g, input, x_shape, dims),),
    samples=lambda rng: [
        *_samples_with_empty(rng),
        ((np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 2.0]]),), ((1,), False)),
    ],
    doc="the product over dimensions",
)


@method("prod")
def prod(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool = False,
) -> Tensor:
    """The product over dimensions (all by default); its gradient is right where elements are zero."""
    dim = pick_dim("prod", dim, axis)
    input = _counts(_no_dtype("prod", dtype, input))
    return _prod(input, all_dims("prod", dim, input.ndim), bool(keepdim or keepdims))


def _extreme_rule(g: Tensor, y: Tensor, input: Tensor, x_shape: Shape, dims: Shape) -> Tensor:
    """The gradient is shared equally by all elements that attain the extreme."""
    hits = cast(input == unreduced(y, x_shape, dims), g.dtype)
    return hits / _sum(hits, dims, True) * unreduced(g, x_shape, dims)


_amax = primitive(
    "amax",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "keepdim"),
    kernel=lambda input, dims, keepdim: np.maximum.reduce(input, axis=dims, keepdims=keepdim),
    shape=_some,
    vjp=(lambda g, y, input, x_shape, dims: _extreme_rule(g, y, input, x_shape, dims),),
    samples=_samples,
    doc="the largest element over dimensions",
    error=0.0,
)
_amin = primitive(
    "amin",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "keepdim"),
    kernel=lambda input, dims, keepdim: np.minimum.reduce(input, axis=dims, keepdims=keepdim),
    shape=_some,
    vjp=(lambda g, y, input, x_shape, dims: _extreme_rule(g, y, input, x_shape, dims),),
    samples=_samples,
    doc="the smallest element over dimensions",
    error=0.0,
)


@method("amax")
def amax(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Tensor:
    """The largest element over dimensions; equal ones share the gradient."""
    dim = pick_dim("amax", dim, axis)
    return _amax(input, all_dims("amax", dim, input.ndim), bool(keepdim or keepdims))


@method("amin")
def amin(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Tensor:
    """The smallest element over dimensions; equal ones share the gradient."""
    dim = pick_dim("amin", dim, axis)
    return _amin(input, all_dims("amin", dim, input.ndim), bool(keepdim or keepdims))


def _norm_kernel(input: Any, ord: float, dims: Shape, keepdim: bool) -> Any:
    size = np.abs(input)
    if ord == 2.0:
        y = np.sqrt(np.sum(input * input, axis=dims, keepdims=keepdim))
    elif ord == 1.0:
        y = np.sum(size, axis=dims, keepdims=keepdim)
    elif math.isinf(ord):
        y = (np.max if ord > 0 else np.min)(size, axis=dims, keepdims=keepdim)
    elif ord == 0.0:
        y = np.sum(input != 0, axis=dims, keepdims=keepdim)
    else:
        y = np.power(np.sum(np.power(size, ord), axis=dims, keepdims=keepdim), 1.0 / ord)
    return np.asarray(y, input.dtype)


def _norm_shape(input: Spec, ord: float, dims: Shape, keepdim: bool) -> Spec:
    _keep_float(input, dims, keepdim)
    return _some(input, dims, keepdim) if math.isinf(ord) or ord < 0 else _keep(input, dims, keepdim)


def _norm_rule(g: Tensor, y: Tensor, input: Tensor, x_shape: Shape, ord: float, dims: Shape) -> Tensor:
    # d y / d x = sign(x) (|x| / y)^(p - 1).  Where it does not exist (x = 0) it is taken to be 0.
    if ord == 0.0:
        return input * 0.0
    if ord == 1.0:
        return input.sign() * _spread(g, x_shape, dims)
    if math.isinf(ord):
        hit = (input.abs() == _spread(y, x_shape, dims)).to(input.dtype)
        share = unreduced(g, x_shape, dims) / _sum(hit, dims, True)
        return input.sign() * hit * share
    zero = y == 0.0
    safe = where(zero, 1.0, y)
    if ord == 2.0:
        return input * _spread(where(zero, 0.0, g / safe), x_shape, dims)
    factor = _spread(where(zero, 0.0, g * safe ** (1.0 - ord)), x_shape, dims)
    nothing = input == 0.0
    size = where(nothing, 1.0, input.abs())
    return where(nothing, 0.0, input.sign() * size ** (ord - 1.0) * factor)


_vector_norm = primitive(
    "vector_norm",
    kind="reduction",
    inputs=("input",),
    attrs=("ord", "dims", "keepdim"),
    kernel=_norm_kernel,
    shape=_norm_shape,
    vjp=(_norm_rule,),
    samples=lambda rng: (
        [
            ((_away_from_zero(rng, shape),), (p, dims, keep))
            for p in (2.0, 1.0, 3.0, math.inf, -math.inf, 0.5, 0.0)
            for shape, dims, keep in (((3, 4), (0, 1), False), ((2, 3, 2), (1,), True))
        ]
        + [((np.zeros((0, 3)),), (2.0, (0,), False)), ((np.float64(-2.0),), (2.0, (), False))]
    ),
    doc="sum(|x|^ord)^(1/ord) over some dimensions; for inf the largest |x|, for 0 the count of non-zeros",
)


def _away_from_zero(rng: Any, shape: Shape) -> Any:
    values = rng.permutation(math.prod(shape)).reshape(shape) / 8.0 + 0.25
    return values * rng.choice([-1.0, 1.0], shape)


def vector_norm(
    x: Tensor, ord: float = 2, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> Tensor:
    """(sum |x|^ord)^(1/ord) over all dimensions or those of `dim`; inf and -inf: largest and smallest |x|.

    0 counts the elements that are not 0 (without a gradient).  At x = 0, where a norm has no derivative,
    the gradient is 0, as in PyTorch.  Raises DTypeError for integers.
    """
    if isinstance(ord, bool) or not isinstance(ord, (int, float)) or math.isnan(ord):
        raise ArgumentError("vector_norm", f"ord {ord!r}", fix="give a number, inf or -inf")
    return _vector_norm(x, builtins.float(ord), all_dims("vector_norm", dim, x.ndim), bool(keepdim))


@method("norm")
def norm(
    input: Tensor,
    p: float | str | None = "fro",
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
) -> Tensor:
    """The p-norm of all elements, or along `dim`; "fro" and None are 2, "nuc" sums singular values.

    Raises DTypeError for integers, ArgumentError for another p.
    """
    if p in ("fro", None):
        p = 2.0
    if p == "nuc":
        from .linalg import matrix_norm

        return matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim)  # type: ignore[arg-type]
    if isinstance(p, str):
        raise ArgumentError("norm", f"p {p!r}", fix="use a number, inf, -inf, 'fro' or 'nuc'")
    return vector_norm(input, 2.0 if p is None else p, dim, keepdim)


def _index_shape(input: Spec, dim: int | None, keepdim: bool) -> Spec:
    dims = tuple(range(len(input.shape))) if dim is None else (dim,) if input.shape else ()
    spec = _some(input, dims, keepdim)
    return Spec(spec.shape, int64)


def _arg(function: Any) -> Any:
    def kernel(input: Any, dim: int | None, keepdim: bool) -> Any:
        if not input.ndim:
            return np.zeros((), np.int64)
        return function(input, axis=dim, keepdims=keepdim).astype(np.int64)

    return kernel


def _arg_samples(rng: Any) -> list[Any]:
    x = rng.permutation(12).reshape(3, 4) / 4.0
    return [((x,), (1, False)), ((x,), (0, True)), ((x,), (None, False)), ((np.float64(1.0),), (0, False))]


_argmax = primitive(
    "argmax",
    kind="reduction",
    inputs=("input",),
    attrs=("dim", "keepdim"),
    kernel=_arg(np.argmax),
    shape=_index_shape,
    vjp=(None,),
    samples=_arg_samples,
    doc="the position of the first largest element",
    error=0.0,
)
_argmin = primitive(
    "argmin",
    kind="reduction",
    inputs=("input",),
    attrs=("dim", "keepdim"),
    kernel=_arg(np.argmin),
    shape=_index_shape,
    vjp=(None,),
    samples=_arg_samples,
    doc="the position of the first smallest element",
    error=0.0,
)


def _one_or_none(op: str, dim: Any, input: Tensor) -> int | None:
    return None if dim is None else one_dim(op, dim, input.ndim)


@method("argmax")
def argmax(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Tensor:
    """The position (int64) of the first largest element, in the flattened tensor or along `dim`."""
    return _argmax(
        input, _one_or_none("argmax", pick_dim("argmax", dim, axis), input), bool(keepdim or keepdims)
    )


@method("argmin")
def argmin(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Tensor:
    """The position (int64) of the first smallest element, in the flattened tensor or along `dim`."""
    return _argmin(
        input, _one_or_none("argmin", pick_dim("argmin", dim, axis), input), bool(keepdim or keepdims)
    )


def _extreme(
    op: str,
    full: Any,
    arg: Any,
    pairwise: Any,
    input: Tensor,
    dim: Any,
    keepdim: bool,
    axis: Any,
    keepdims: bool,
) -> Any:
    if isinstance(dim, Tensor):
        return pairwise(input, dim)
    dim = pick_dim(op, dim, axis)
    if dim is None:
        return full(input, tuple(range(input.ndim)), False)
    from .indexing import gather

    at = one_dim(op, dim, input.ndim)
    keep = bool(keepdim or keepdims)
    indices = arg(input, at, True)
    values = gather(input, at, indices)
    if not keep and input.ndim:
        values, indices = squeeze(values, at), squeeze(indices, at)
    return ValuesIndices(values, indices)


@method("max")
def max_(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Any:
    """The largest element; with `dim` a (values, indices) pair, with a tensor the elementwise maximum.

    Along a dimension the gradient goes to the first largest element alone.
    """
    from .elementwise import maximum

    return _extreme("max", _amax, _argmax, maximum, input, dim, keepdim, axis, keepdims)


@method("min")
def min_(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Any:
    """The smallest element; with `dim` a (values, indices) pair, with a tensor the elementwise minimum.

    Along a dimension the gradient goes to the first smallest element alone.
    """
    from .elementwise import minimum

    return _extreme("min", _amin, _argmin, minimum, input, dim, keepdim, axis, keepdims)


_any = primitive(
    "any",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "keepdim"),
    kernel=lambda input, dims, keepdim: np.logical_or.reduce(input, axis=dims, keepdims=keepdim),
    shape=_bools,
    vjp=(None,),
    samples=_samples_with_empty,
    doc="whether at least one element is nonzero",
    error=0.0,
)
_all = primitive(
    "all",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "keepdim"),
    kernel=lambda input, dims, keepdim: np.logical_and.reduce(input, axis=dims, keepdims=keepdim),
    shape=_bools,
    vjp=(None,),
    samples=_samples_with_empty,
    doc="whether all elements are nonzero",
    error=0.0,
)


@method("any")
def any_(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Tensor:
    """Whether at least one element is nonzero, over dimensions (all by default)."""
    dim = pick_dim("any", dim, axis)
    return _any(input, all_dims("any", dim, input.ndim), bool(keepdim or keepdims))


@method("all")
def all_(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Tensor:
    """Whether all elements are nonzero, over dimensions (all by default)."""
    dim = pick_dim("all", dim, axis)
    return _all(input, all_dims("all", dim, input.ndim), bool(keepdim or keepdims))


def _correction(op: str, correction: Any, unbiased: Any, ddof: Any) -> float:
    if unbiased is not None:
        return 1.0 if unbiased else 0.0
    return float(correction if ddof is None else ddof)


@method("var")
def var(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float = 1,
    axis: Any = None,
    keepdims: bool = False,
    ddof: float | None = None,
) -> Tensor:
    """The variance over dimensions, sum((x - mean)^2) / (n - correction), correction 1 by default.

    Two passes, so that a large mean does not cancel the digits.  Raises DTypeError for integers.
    """
    if isinstance(dim, bool):  # torch's var(unbiased)
        dim, unbiased = None, dim
    dim = pick_dim("var", dim, axis)
    if not is_float(input.dtype):
        raise DTypeError("var", f"the variance of {input.dtype}", fix="write x.float().var()")
    dims = all_dims("var", dim, input.ndim)
    count = _count(input.shape, dims) - _correction("var", correction, unbiased, ddof)
    squares = square(input - _mean(input, dims, True))
    return _sum(squares, dims, bool(keepdim or keepdims)) / (count if count > 0 else 0.0)


@method("std")
def std(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float = 1,
    axis: Any = None,
    keepdims: bool = False,
    ddof: float | None = None,
) -> Tensor:
    """The standard deviation, sqrt of `var` with the same arguments; where it is 0, so is its gradient."""
    variance = var(
        input, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims, ddof=ddof
    )
    if variance._node is None:
        return sqrt(variance)
    none = variance == 0.0  # where the derivative of the root is infinite
    return where(none, 0.0, sqrt(where(none, 1.0, variance)))


def _logsumexp_kernel(input: Any, dims: Shape, keepdim: bool) -> Any:
    if any(input.shape[d] == 0 for d in dims):
        return np.full(reduced(input.shape, dims, keepdim), -np.inf, input.dtype)
    top = np.maximum.reduce(input, axis=dims, keepdims=True)
    top = np.where(np.isfinite(top), top, input.dtype.type(0))
    total = np.log(np.add.reduce(np.exp(input - top), axis=dims, keepdims=True)) + top
    return total.reshape(reduced(input.shape, dims, keepdim))


_logsumexp = primitive(
    "logsumexp",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "keepdim"),
    kernel=_logsumexp_kernel,
    shape=_keep_float,
    vjp=(
        lambda g, y, input, x_shape, dims: (
            unreduced(g, x_shape, dims) * exp(input - unreduced(where(y.isfinite(), y, 0.0), x_shape, dims))
        ),
    ),
    samples=_samples_with_empty,
    reference=lambda input, dims, keepdim: np.log(
        np.sum(np.exp(input.astype(np.longdouble)), axis=dims, keepdims=keepdim)
    ),
    doc="log(sum(exp(input))) without overflow",
)


@method("logsumexp")
def logsumexp(
    input: Tensor, dim: Dims, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False
) -> Tensor:
    """log(sum(exp(input))) over dimensions, computed without overflow; -inf of nothing."""
    input = floating(input)
    return _logsumexp(
        input, all_dims("logsumexp", dim if axis is None else axis, input.ndim), bool(keepdim or keepdims)
    )


_cumsum = primitive(
    "cumsum",
    kind="scan",
    inputs=("input",),
    attrs=("dim",),
    kernel=lambda input, dim: np.cumsum(input, axis=dim, dtype=input.dtype) if input.ndim else input.copy(),
    shape=lambda input, dim: input,
    vjp=(lambda g, dim: _cumsum(g.flip(dim), dim).flip(dim) if g.ndim else g,),
    samples=lambda rng: (
        [((rng.normal(size=(3, 4)),), (d,)) for d in (0, 1)]
        + [((rng.normal(size=()),), (0,)), ((np.zeros((0, 2)),), (0,))]
    ),
    doc="running sums along a dimension",
)


@method("cumsum")
def cumsum(input: Tensor, dim: int | None = None, *, dtype: Any = None, axis: Any = None) -> Tensor:
    """Running sums along a dimension; bools and integers give int64."""
    dim = pick_dim("cumsum", dim, axis)
    if dim is None:
        raise ArgumentError("cumsum", "no dimension is given", fix="pass dim")
    input = _counts(_no_dtype("cumsum", dtype, input))
    return _cumsum(input, one_dim("cumsum", dim, input.ndim))
