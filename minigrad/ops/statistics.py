"""Scans and statistics: running products and maxima, medians, quantiles, differences.

A scan is a recurrence along a dimension.  The linear one,

    y_k = b_k + a_k y_(k-1)

is an operation here because the gradients of the others are made of it.  Its own gradient is the
same recurrence backwards: u_k = g_k + a_(k+1) u_(k+1) gives gb = u and ga_k = u_k y_(k-1).  With it,
for the running product y_k = x_k y_(k-1),

    gx_k = (x_0 ... x_(k-1)) s_k,        s_k = g_k + x_(k+1) s_(k+1)

holds with zeros among the x as well, where the usual g y / x does not.

    >>> import minigrad as mg
    >>> x = mg.tensor([2.0, 0.0, 3.0], requires_grad=True)
    >>> mg.cumprod(x, 0).sum().backward()
    >>> x.grad                                  # d (x0 + x0 x1 + x0 x1 x2)
    tensor([1., 8., 0.])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..bind import floating, method, primitive
from ..errors import ArgumentError, DTypeError, Refusal
from ..ir import Shape, Spec, int64, is_float
from ..tensor import Tensor, wrap
from .elementwise import cast, exp, maximum, where
from .indexing import _argsort, _gather
from .movement import cat, movedim, one_dim, pad_dim, pick_dim, slice_dim, squeeze, unsqueeze
from .reduction import (
    Dims,
    ValuesIndices,
    _counts,
    _keep_float,
    _no_dtype,
    _sum,
    all_dims,
    amax,
    amin,
    argmax,
    mean,
    std,
    var,
)
from .reduction import sum as sum_

__all__ = [
    "aminmax",
    "corrcoef",
    "count_nonzero",
    "cov",
    "cummax",
    "cummin",
    "cumprod",
    "cumulative_trapezoid",
    "diff",
    "histc",
    "histogram",
    "kthvalue",
    "logcumsumexp",
    "median",
    "mode",
    "msort",
    "nanmean",
    "nanmedian",
    "nansum",
    "quantile",
    "std_mean",
    "trapezoid",
    "trapz",
    "var_mean",
]

# -- recurrences -----------------------------------------------------------------------------------


def _recur(a: Any, b: Any, dim: int, reverse: bool) -> Any:
    a, b = np.moveaxis(a, dim, 0), np.moveaxis(b, dim, 0)
    y = np.array(b)
    steps = range(len(y) - 2, -1, -1) if reverse else range(1, len(y))
    before = 1 if reverse else -1
    for k in steps:
        y[k] += a[k] * y[k + before]
    return np.ascontiguousarray(np.moveaxis(y, 0, dim))


def _recur_shape(a: Spec, b: Spec, dim: int, reverse: bool) -> Spec:
    if a != b:
        raise Refusal(f"{a} and {b} differ", "give both the same shape and dtype")
    return b


def _shifted(x: Tensor, dim: int, forward: bool) -> Tensor:
    """x_(k-1) at k if `forward`, else x_(k+1); 0 where there is none."""
    n = x.shape[dim]
    if not n:
        return x
    if forward:
        return pad_dim(slice_dim(x, dim, 0, n - 1), dim, 1, 0)
    return pad_dim(slice_dim(x, dim, 1, n), dim, 0, 1)


_recurrence = primitive(
    "linear_recurrence",
    kind="scan",
    inputs=("a", "b"),
    attrs=("dim", "reverse"),
    kernel=_recur,
    shape=_recur_shape,
    vjp=(
        lambda g, y, a, dim, reverse: (
            _recurrence(_shifted(a, dim, reverse), g, dim, not reverse) * _shifted(y, dim, not reverse)
        ),
        lambda g, a, dim, reverse: _recurrence(_shifted(a, dim, reverse), g, dim, not reverse),
    ),
    samples=lambda rng: [
        ((rng.normal(size=s), rng.normal(size=s)), (dim, reverse))
        for s, dim in (((3, 4), 1), ((4, 2, 2), 0), ((0, 2), 0), ((1, 2), 0))
        for reverse in (False, True)
    ],
    doc="y_k = b_k + a_k y_(k-1) along a dimension (y_(k+1) in reverse)",
)


def _cumprod_rule(g: Tensor, input: Tensor, dim: int) -> Tensor:
    if not input.ndim or not input.shape[dim]:
        return g
    before = slice_dim(input, dim, 0, input.shape[dim] - 1)
    earlier = cat([slice_dim(input, dim, 0, 1).ones_like(), _cumprod(before, dim)], dim)
    return earlier * _recurrence(_shifted(input, dim, False), g, dim, True)


_cumprod = primitive(
    "cumprod",
    kind="scan",
    inputs=("input",),
    attrs=("dim",),
    kernel=lambda x, dim: np.cumprod(x, axis=dim, dtype=x.dtype) if x.ndim else x.copy(),
    shape=lambda input, dim: input,
    vjp=(_cumprod_rule,),
    samples=lambda rng: [
        ((rng.normal(size=(3, 4)),), (0,)),
        ((rng.normal(size=(3, 4)) * (rng.uniform(size=(3, 4)) < 0.6),), (1,)),
        ((rng.normal(size=()),), (0,)),
        ((np.zeros((0, 2)),), (0,)),
    ],
    doc="running products along a dimension",
)


@method("cumprod", inplace=True)
def cumprod(input: Tensor, dim: int | None = None, *, dtype: Any = None, axis: Any = None) -> Tensor:
    """Running products along a dimension; bools and integers give int64."""
    dim = pick_dim("cumprod", dim, axis)
    if dim is None:
        raise ArgumentError("cumprod", "no dimension is given", fix="pass dim")
    input = _counts(_no_dtype("cumprod", dtype, input))
    return _cumprod(input, one_dim("cumprod", dim, input.ndim))


def _logcumsumexp_rule(g: Tensor, y: Tensor, input: Tensor, dim: int) -> Tensor:
    # gx_k = exp(x_k - y_k) u_k with u_k = g_k + exp(y_k - y_(k+1)) u_(k+1): no exponent is positive.
    if not input.ndim or not input.shape[dim]:
        return g
    n = input.shape[dim]
    growth = exp(slice_dim(y, dim, 0, n - 1) - slice_dim(y, dim, 1, n))
    return exp(input - y) * _recurrence(pad_dim(growth, dim, 0, 1), g, dim, True)


_logcumsumexp = primitive(
    "logcumsumexp",
    kind="scan",
    inputs=("input",),
    attrs=("dim",),
    kernel=lambda x, dim: np.logaddexp.accumulate(x, axis=dim) if x.ndim else x.copy(),
    shape=lambda input, dim: _keep_float(input, (), True),
    vjp=(_logcumsumexp_rule,),
    samples=lambda rng: (
        [((rng.normal(size=(3, 4)) * 3,), (d,)) for d in (0, 1)] + [((np.zeros((0, 2)),), (0,))]
    ),
    doc="logarithms of running sums of exponentials",
)


@method("logcumsumexp")
def logcumsumexp(input: Tensor, dim: int, *, axis: Any = None) -> Tensor:
    """log of the running sums of exp(input) along a dimension, without overflow."""
    x = floating(input)
    return _logcumsumexp(x, one_dim("logcumsumexp", pick_dim("logcumsumexp", dim, axis), x.ndim))


def _record_kernel(x: Any, dim: int, smallest: bool) -> Any:
    if not x.ndim:
        return np.zeros((), np.int64)
    best = (np.minimum if smallest else np.maximum).accumulate(x, axis=dim)
    places = np.arange(x.shape[dim]).reshape((-1,) + (1,) * (x.ndim - 1 - dim))
    held = x == best
    if x.dtype.kind == "f":
        held |= np.isnan(x)
    return np.maximum.accumulate(np.where(held, places, 0), axis=dim)


_record_index = primitive(
    "running_extreme_index",
    kind="scan",
    inputs=("input",),
    attrs=("dim", "smallest"),
    kernel=_record_kernel,
    shape=lambda input, dim, smallest: Spec(input.shape, int64),
    vjp=(None,),
    samples=lambda rng: [
        ((rng.permutation(12).reshape(3, 4) / 4.0,), (d, s)) for d in (0, 1) for s in (False, True)
    ],
    doc="the position of the largest (smallest) element so far; of equal ones, the last",
    error=0.0,
)


def _running(op: str, input: Tensor, dim: int, smallest: bool) -> ValuesIndices:
    at = one_dim(op, dim, input.ndim)
    indices = _record_index(input, at, smallest)
    return ValuesIndices(_gather(input, indices, at), indices)


@method("cummax")
def cummax(input: Tensor, dim: int) -> ValuesIndices:
    """The largest element so far along a dimension, and its position (of equal ones, the last)."""
    return _running("cummax", input, dim, False)


@method("cummin")
def cummin(input: Tensor, dim: int) -> ValuesIndices:
    """The smallest element so far along a dimension, and its position (of equal ones, the last)."""
    return _running("cummin", input, dim, True)


@method("diff")
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """Differences of neighbours along a dimension, n times over; of bools, whether they differ."""
    at = one_dim("diff", dim, input.ndim)
    if not input.ndim:
        raise ArgumentError("diff", "a 0-d tensor has no neighbours", fix="pass at least one dimension")
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ArgumentError("diff", f"n {n!r}", fix="give an integer of at least 0")
    x = cat([t for t in (prepend, input, append) if t is not None], at)
    for _ in range(n):
        size = x.shape[at]
        if not size:
            break
        after, before = slice_dim(x, at, 1, size), slice_dim(x, at, 0, size - 1)
        x = after.logical_xor(before) if x.dtype.kind == "b" else after - before
    return x


# -- statistics ------------------------------------------------------------------------------------


class VarMean(NamedTuple):
    """Variance and mean."""

    var: Tensor
    mean: Tensor


class StdMean(NamedTuple):
    """Standard deviation and mean."""

    std: Tensor
    mean: Tensor


def var_mean(input: Tensor, dim: Dims = None, *, correction: Any = 1, keepdim: bool = False) -> VarMean:
    """`var` and `mean` over the same dimensions; the divisor of the variance is n - correction."""
    return VarMean(var(input, dim, correction=correction, keepdim=keepdim), mean(input, dim, keepdim=keepdim))


def std_mean(input: Tensor, dim: Dims = None, *, correction: Any = 1, keepdim: bool = False) -> StdMean:
    """`std` and `mean` over the same dimensions; the divisor of the variance is n - correction."""
    return StdMean(std(input, dim, correction=correction, keepdim=keepdim), mean(input, dim, keepdim=keepdim))


@method("count_nonzero")
def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """How many elements are not 0, over all dimensions or those of `dim`, as int64."""
    return _sum(cast(input != 0, int64), all_dims("count_nonzero", dim, input.ndim), False)


def _middle(input: Tensor, at: int, ignore_nan: bool) -> Tensor:
    """The position of the lower median along a dimension, kept as size 1."""
    n = input.shape[at] if input.ndim else 1
    if not n:
        raise ArgumentError(
            "median",
            f"there is no element to choose from in shape {input.shape}",
            fix="check for empty input",
        )
    order = _argsort(input, at, False)
    if not input.ndim:
        return order
    middle = slice_dim(order, at, (n - 1) // 2, (n - 1) // 2 + 1)
    if not is_float(input.dtype):
        return middle
    missing = input.isnan()  # sorted to the end
    if ignore_nan:
        known = n - _sum(cast(missing, int64), (at,), True)
        return _gather(order, maximum((known - 1).div(2, rounding_mode="floor"), 0), at)
    return where(missing.any(at, keepdim=True), argmax(cast(missing, int64), at, keepdim=True), middle)


def _median(op: str, input: Tensor, dim: int | None, keepdim: bool, ignore_nan: bool) -> Any:
    if dim is None:
        flat = input.reshape(-1)
        value = _gather(flat, _middle(flat, 0, ignore_nan), 0).reshape(())
        if input._node is None:
            return value
        # The gradient is shared by all elements that are the median.
        value, same = value.detach(), flat == value.detach()
        return value + where(same, flat - value, 0.0).sum() / cast(same, input.dtype).sum()
    at = one_dim(op, dim, input.ndim)
    indices = _middle(input, at, ignore_nan)
    values = _gather(input, indices, at)
    if not keepdim and input.ndim:
        values, indices = squeeze(values, at), squeeze(indices, at)
    return ValuesIndices(values, indices)


@method("median")
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median (of an even number the lower one); along `dim` with its position.  NaN if one is there.

    Returns a Tensor without `dim`, and (values, indices) with it.
    """
    return _median("median", input, dim, keepdim, False)


@method("nanmedian")
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """`median` of the elements that are not NaN; NaN if there are none."""
    return _median("nanmedian", input, dim, keepdim, True)


@method("quantile")
def quantile(
    input: Tensor,
    q: float | Sequence[float] | Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """The q-quantiles (q in [0, 1], number or vector) of all elements or along `dim`; NaN if one is there.

    The quantile lies at place q (n - 1) of the sorted elements; between two places `interpolation`
    decides: "linear", "lower", "higher", "nearest" or "midpoint".  A vector of q gives a first dimension.
    """
    if not is_float(input.dtype):
        raise DTypeError("quantile", f"is defined for floating point, not {input.dtype}", fix="use .float()")
    if interpolation not in ("linear", "lower", "higher", "nearest", "midpoint"):
        raise ArgumentError(
            "quantile",
            f"interpolation {interpolation!r}",
            fix="use 'linear', 'lower', 'higher', 'nearest' or 'midpoint'",
        )
    qs = np.asarray(q._concrete("quantile") if isinstance(q, Tensor) else q, np.float64)
    if qs.ndim > 1 or not ((qs >= 0) & (qs <= 1)).all():
        raise ArgumentError("quantile", f"q {q!r}", fix="give a number or a vector of numbers from 0 to 1")
    shape: Shape = input.shape
    if dim is None:
        x, at = input.reshape(-1), 0
    else:
        at = one_dim("quantile", dim, input.ndim)
        x = movedim(input, at, -1) if input.ndim else input.reshape(1)
    n = x.shape[-1]
    if not n:
        raise ArgumentError("quantile", f"there is no element in shape {shape}", fix="check for empty input")
    last = x.ndim - 1
    order = _argsort(x, last, False)
    bad = x.isnan()
    # A NaN anywhere makes the slice NaN: every place of the order becomes its own.
    order = where(bad.any(-1, keepdim=True), argmax(cast(bad, int64), -1, keepdim=True), order)
    ordered = _gather(x, order, last)
    place = qs.reshape(-1) * (n - 1)
    if interpolation == "nearest":
        place = np.rint(place)
    low, high = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
    below, above = (ordered.index_select(last, wrap(i)) for i in (low, high))
    if interpolation in ("lower", "nearest"):
        y = below
    elif interpolation == "higher":
        y = above
    else:
        weight = np.where(low == high, 0.0, 0.5) if interpolation == "midpoint" else place - low
        y = below.lerp(above, wrap(weight.astype(x.dtype)))
    y = movedim(y, -1, 0)
    if keepdim:
        if dim is None:
            y = y.reshape(len(place), *(1,) * len(shape))
        elif input.ndim:
            y = unsqueeze(y, at + 1)
    return y if qs.ndim else squeeze(y, 0)


@method("nansum")
def nansum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`sum` of the elements that are not NaN."""
    return sum_(
        where(input.isnan(), 0.0, input) if is_float(input.dtype) else input, dim, keepdim, dtype=dtype
    )


@method("nanmean")
def nanmean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`mean` of the elements that are not NaN; NaN if there are none."""
    x = input if dtype is None else cast(input, dtype)
    dims = all_dims("nanmean", dim, x.ndim)
    return nansum(x, dim, keepdim) / _sum(cast(x == x, x.dtype), dims, keepdim)


@method("kthvalue")
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The k-th smallest element along a dimension (k counts from 1), and its position."""
    at = one_dim("kthvalue", dim, input.ndim)
    n = input.shape[at] if input.ndim else 1
    if not 1 <= k <= n:
        raise ArgumentError("kthvalue", f"k {k} of {n} elements", fix="k counts from 1")
    if not input.ndim:
        return ValuesIndices(input, wrap(np.zeros((), np.int64)))
    place = slice_dim(_argsort(input, at, False), at, k - 1, k)
    values = _gather(input, place, at)
    return ValuesIndices(values, place) if keepdim else ValuesIndices(squeeze(values, at), squeeze(place, at))


@method("mode")
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The most frequent element along a dimension (of several the smallest), and its last place."""
    at = one_dim("mode", dim, input.ndim)
    if not input.ndim:
        return ValuesIndices(input, wrap(np.zeros((), np.int64)))
    x = movedim(input, at, -1)
    last = x.ndim - 1
    often = _sum(cast(unsqueeze(x, -1) == unsqueeze(x, -2), int64), (last + 1,), False)
    if is_float(x.dtype):
        x_or_top = where(often == often.amax(-1, keepdim=True), x, float("inf"))
    else:
        x_or_top = where(often == often.amax(-1, keepdim=True), x, x.amax(-1, keepdim=True))
    value = x_or_top.amin(-1, keepdim=True)
    found = cast(x == value, int64) * wrap(np.arange(1, x.shape[-1] + 1))
    place = argmax(found, -1, keepdim=True)
    values, place = movedim(_gather(x, place, last), -1, at), movedim(place, -1, at)
    return ValuesIndices(values, place) if keepdim else ValuesIndices(squeeze(values, at), squeeze(place, at))


class MinMax(NamedTuple):
    """Smallest and largest element."""

    min: Tensor
    max: Tensor


@method("aminmax")
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """`amin` and `amax` of all elements, or along a dimension."""
    return MinMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


@method("msort")
def msort(input: Tensor) -> Tensor:
    """The elements in order along the first dimension."""
    return _gather(input, _argsort(input, 0, False), 0)


@method("cov")
def cov(
    input: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """The covariances of variables in rows and observations in columns: (k, n) -> (k, k); (n,) -> ().

    fweights: how often each observation was made (integers); aweights: how much each counts.  The divisor is
    the sum of weights w - correction, or w - correction sum(w aweights) / w with aweights.
    """
    if input.ndim > 2:
        raise ArgumentError(
            "cov", f"shape {input.shape}", fix="pass variables in rows, observations in columns"
        )
    x = floating(input)
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    w = wrap(np.ones(rows.shape[1], x.dtype)) if fweights is None else cast(fweights, x.dtype)
    if aweights is not None:
        w = w * cast(aweights, x.dtype)
    total = w.sum()
    centred = rows - (rows * w).sum(1, keepdim=True) / total
    lost = correction if aweights is None else correction * (w * cast(aweights, x.dtype)).sum() / total
    divisor = total - lost
    y = (centred * w) @ centred.mT / where(divisor > 0, divisor, 0.0)
    return y if x.ndim == 2 else y.reshape(())


@method("corrcoef")
def corrcoef(input: Tensor) -> Tensor:
    """The correlations of variables in rows and observations in columns: (k, n) -> (k, k), within [-1, 1]."""
    c = cov(input)
    if not c.ndim:
        return c / c
    deviation = c.diagonal().sqrt()
    return (c / deviation.unsqueeze(1) / deviation).clamp(-1.0, 1.0)


def _edges(low: float, high: float, bins: int, array: Any) -> Any:
    if low == high == 0 and array.size:
        low, high = float(array.min()), float(array.max())
    if low == high:
        low, high = low - 1.0, high + 1.0
    return np.linspace(low, high, bins + 1)


@method("histc")
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` equal parts of [min, max], in the input's dtype.

    The last part includes its end; elements outside are not counted.  If both are 0 the smallest and the
    largest element are taken.  Without a gradient; not in a trace.
    """
    if bins < 1 or min > max:
        raise ArgumentError("histc", f"{bins} bins from {min} to {max}", fix="use at least 1, and min <= max")
    array = input.detach()._concrete("histc")
    counts = np.histogram(array, _edges(min, max, bins, array))[0]
    return wrap(counts.astype(input.dtype))


class Histogram(NamedTuple):
    """Counts (or densities), and the edges of the bins."""

    hist: Tensor
    bin_edges: Tensor


@method("histogram")
def histogram(
    input: Tensor,
    bins: int | Tensor,
    *,
    range: tuple[float, float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Histogram:
    """Counts (sums of weights; densities) of the elements in bins, and the bins' edges.

    bins: how many equal ones of `range` (of the smallest to the largest element unless given), or the edges.
    """
    array = input.detach()._concrete("histogram")
    if isinstance(bins, Tensor):
        edges = bins.detach()._concrete("histogram")
    else:
        edges = _edges(*((0.0, 0.0) if range is None else range), bins, array)
    weights = None if weight is None else weight.detach()._concrete("histogram")
    counts, edges = np.histogram(array, edges, weights=weights, density=density)
    return Histogram(wrap(counts.astype(input.dtype)), wrap(edges.astype(input.dtype)))


def _areas(op: str, y: Tensor, x: Tensor | None, dx: float, dim: int) -> tuple[Tensor, int]:
    at = one_dim(op, dim, y.ndim)
    n = y.shape[at]
    sides = slice_dim(y, at, 1, n) + slice_dim(y, at, 0, n - 1)
    if x is None:
        return sides * (0.5 * dx), at
    widths = diff(x, dim=-1 if x.ndim == 1 else dim)
    if x.ndim == 1:
        widths = widths.reshape(*(-1 if d == at else 1 for d in range(y.ndim)))
    return sides * widths * 0.5, at


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1.0, dim: int = -1) -> Tensor:
    """The integral of samples y along a dimension by the trapezoidal rule, at places x, or dx apart."""
    areas, at = _areas("trapezoid", y, x, dx, dim)
    return areas.sum(at)


trapz = trapezoid


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1.0, dim: int = -1) -> Tensor:
    """The running integrals of `trapezoid`: one less than there are samples."""
    areas, at = _areas("cumulative_trapezoid", y, x, dx, dim)
    return areas.cumsum(at)
