"""Sparse matrices: products with dense ones, and sums, maxima and softmax over neighbours.

What a graph network computes is a sparse matrix times a dense one: row r of A holds the neighbours
of node r, and (A x)[r] adds up what they send.  With the pattern P of A (see `backends.pattern`; it is
a static attribute) and one value a nonzero,

    spmm    y = A x                  gx = A^T g           ga[k] = <g[row k], x[column k]> = sddmm(g, x)
    sddmm   v[k] = <l[row k], r[column k]>      gl = G r,  gr = G^T l,   G having the values g

are each other's derivatives, so gradients of any order are made of these two.  The values of A^T are
those of A in another order; `spmm` takes them as `turned`, which its forward never looks at, so that a
matrix whose values do not change is put into that order once and not at every step.

A matrix of ones needs no values: `spsum` adds up the rows of x that a row of P names.  If each row
names just one, it picks them.  So sums over edges, and picking the two ends of each edge, are one operation
and its transpose.  The other two:

    spmax             y[r] = max of x[k] over the nonzeros of r         ties share the gradient
    segment_softmax   y[e] = exp(x[e]) / sum over the row of e          gx = y (g - sum of g y over the row)

    >>> import minigrad as mg
    >>> from minigrad.ops.sparse import Pattern, spsum
    >>> edges = Pattern([0, 2, 3], [0, 2, 1], columns=3)
    >>> spsum(mg.tensor([[1.0], [2.0], [4.0]]), edges)
    tensor([[5.],
            [2.]])

Values may have several heads: (nonzeros, heads) with x of (columns, heads, features), as attention uses
them.  The sum of no neighbours is 0, and so is the maximum, as in PyTorch Geometric.

References: Gustavson 1978 (ACM TOMS 4); Canny & Zhao 2013 (sampled dense-dense products); Fey & Lenssen
2019 (arXiv 1903.02428).  Left out: products of two sparse matrices, which graph networks do without.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends.pattern import Pattern
from ..bind import primitive
from ..errors import DTypeError, Refusal
from ..ir import Spec, is_float
from ..tensor import Tensor
from .elementwise import cast

__all__ = ["Pattern", "neighbour_sampler", "sddmm", "segment_softmax", "spmax", "spmm", "spsum", "turned"]


def _refuse_dtype(*specs: Spec) -> None:
    dtypes = {s.dtype for s in specs}
    if len(dtypes) > 1 or not is_float(specs[0].dtype):
        names = " and ".join(sorted(d.name for d in dtypes))
        raise Refusal(
            f"is defined for floating point of one dtype, not {names}", "convert with .float()", DTypeError
        )


def _refuse_rows(spec: Spec, count: int, what: str) -> None:
    if not spec.shape or spec.shape[0] != count:
        raise Refusal(
            f"an input of shape {spec.shape} where the matrix has {count} {what}",
            f"its first size must be the number of {what}",
        )


def _add_rows(terms: Any, starts: Any) -> Any:
    """The sums of consecutive rows of `terms`, from each start to the next."""
    y = np.zeros((len(starts) - 1, *terms.shape[1:]), terms.dtype)
    full = starts[1:] > starts[:-1]
    if full.any():
        y[full] = np.add.reduceat(terms, starts[:-1][full], axis=0)
    return y


# -- samples -----------------------------------------------------------------------------------------------


def _patterns(rng: Any) -> list[Pattern]:
    """Rows without nonzeros, a place that occurs twice, columns that are not used; no nonzeros; no rows."""
    return [
        Pattern([0, 2, 2, 5, 6], [1, 4, 0, 1, 1, 2], columns=5),
        Pattern([0, 0, 0], [], columns=3),
        Pattern([0], [], columns=2),
        Pattern.of_places(rng.integers(0, 6, 20), rng.integers(0, 4, 20), (6, 4))[0],
    ]


def _product_samples(rng: Any) -> list[Any]:
    samples = []
    for p in _patterns(rng):
        for heads, features in (((), 3), ((2,), 2)):
            values = rng.normal(size=(p.nonzeros, *heads))
            samples.append(((values, values[p.order], rng.normal(size=(p.shape[1], *heads, features))), (p,)))
    return samples


def _sampled_samples(rng: Any) -> list[Any]:
    return [
        ((rng.normal(size=(p.shape[0], *heads)), rng.normal(size=(p.shape[1], *heads))), (p,))
        for p in _patterns(rng)
        for heads in ((3,), (2, 3))
    ]


def _sum_samples(rng: Any) -> list[Any]:
    patterns = [*_patterns(rng), _patterns(rng)[0].by_row.T, _patterns(rng)[0].turn]
    return [((rng.normal(size=(p.shape[1], *rest)),), (p,)) for p in patterns for rest in ((3,), (), (2, 2))]


def _softmax_samples(rng: Any) -> list[Any]:
    rows = rng.integers(0, 4, 11)
    mixed = Pattern.of_places(rows, np.arange(11), (5, 11))[0]  # in another order than that of the rows
    patterns = [p.by_row for p in _patterns(rng)] + [mixed]
    return [((rng.normal(size=(p.nonzeros, *rest)),), (p,)) for p in patterns for rest in ((), (3,))]


def _max_samples(rng: Any) -> list[Any]:
    """Values that differ, so that the maximum has a derivative."""
    return [
        ((rng.permutation(p.shape[1] * math.prod(rest)).reshape(p.shape[1], *rest) / 4.0 - 1.0,), (p,))
        for p in (_patterns(rng)[0].by_row, *_patterns(rng)[1:3])
        for rest in ((), (3,), (2, 2))
    ]


def neighbour_sampler(pattern: Pattern) -> Any:
    """What samples neighbourhoods of a graph: (seeds, fanouts, seed) -> `backends.sampling.Sample`."""
    from ..backends.sampling import Sampler

    return Sampler(pattern)


# -- products ------------------------------------------------------------------------------------------------


def _heads(values: Spec, x: Spec, what: str) -> None:
    """Values (nonzeros,) go with x (n, features), and (nonzeros, heads) with (n, heads, features)."""
    if len(x.shape) != len(values.shape) + 1 or len(values.shape) > 2 or x.shape[1:-1] != values.shape[1:]:
        raise Refusal(
            f"values of shape {values.shape} with {what} of shape {x.shape}",
            "use (nonzeros,) with (n, features), or (nonzeros, heads) with (n, heads, features)",
        )


def _spmm_shape(values: Spec, turned: Spec, input: Spec, pattern: Pattern) -> Spec:
    _refuse_dtype(values, turned, input)
    _refuse_rows(values, pattern.nonzeros, "nonzeros")
    _refuse_rows(input, pattern.shape[1], "columns")
    _heads(values, input, "an input")
    if turned != values:
        raise Refusal(f"values {values} and turned values {turned} differ", "use `turned(values, pattern)`")
    return Spec((pattern.shape[0], *input.shape[1:]), input.dtype)


def _spmm_kernel(values: Any, turned: Any, input: Any, pattern: Pattern) -> Any:
    return _add_rows(values[..., None] * input[pattern.index], pattern.starts)


spmm = primitive(
    "spmm",
    kind="contraction",
    inputs=("values", "turned", "input"),
    attrs=("pattern",),
    kernel=_spmm_kernel,
    shape=_spmm_shape,
    vjp=(
        lambda g, input, pattern: sddmm(g, input, pattern),
        None,
        lambda g, values, turned, pattern: spmm(turned, values, g, pattern.T),
    ),
    traits={
        "flops": lambda values, turned, input, spec, pattern: 2 * math.prod(values.shape) * input.shape[-1]
    },
    samples=_product_samples,
    doc="a sparse matrix times a dense one: y[r] = sum of values[k] * input[column k] over the nonzeros of r",
)


def _sddmm_shape(left: Spec, right: Spec, pattern: Pattern) -> Spec:
    _refuse_dtype(left, right)
    _refuse_rows(left, pattern.shape[0], "rows")
    _refuse_rows(right, pattern.shape[1], "columns")
    if left.shape[1:] != right.shape[1:] or len(left.shape) not in (2, 3):
        raise Refusal(
            f"factors of shapes {left.shape} and {right.shape}",
            "both must be (n, features), or (n, heads, features), with the same features",
        )
    return Spec((pattern.nonzeros, *left.shape[1:-1]), left.dtype)


sddmm = primitive(
    "sddmm",
    kind="contraction",
    inputs=("left", "right"),
    attrs=("pattern",),
    kernel=lambda left, right, pattern: (left[pattern.rows] * right[pattern.index]).sum(-1),
    shape=_sddmm_shape,
    vjp=(
        lambda g, right, pattern: spmm(g, turned(g, pattern), right, pattern),
        lambda g, left, pattern: spmm(turned(g, pattern), g, left, pattern.T),
    ),
    traits={"flops": lambda left, right, spec, pattern: 2 * math.prod(spec.shape) * left.shape[-1]},
    samples=_sampled_samples,
    doc="a dense product where a sparse matrix has its nonzeros: y[k] = <left[row k], right[column k]>",
)


def turned(values: Tensor, pattern: Pattern) -> Tensor:
    """Values in the order of the transposed pattern."""
    return spsum(values, pattern.turn)


# -- sums, maxima, softmax ----------------------------------------------------------------------------------


def _over_neighbours(input: Spec, pattern: Pattern) -> Spec:
    _refuse_dtype(input)
    _refuse_rows(input, pattern.shape[1], "columns")
    return Spec((pattern.shape[0], *input.shape[1:]), input.dtype)


spsum = primitive(
    "spsum",
    kind="contraction",
    inputs=("input",),
    attrs=("pattern",),
    kernel=lambda input, pattern: _add_rows(input[pattern.index], pattern.starts),
    shape=_over_neighbours,
    vjp=(lambda g, pattern: spsum(g, pattern.T),),
    samples=_sum_samples,
    doc="the sum of the rows that a row of a pattern names: y[r] = sum of input[column k]",
)


def _spmax_kernel(input: Any, pattern: Pattern) -> Any:
    y = np.zeros((pattern.shape[0], *input.shape[1:]), input.dtype)
    full = pattern.starts[1:] > pattern.starts[:-1]
    if full.any():
        y[full] = np.maximum.reduceat(input[pattern.index], pattern.starts[:-1][full], axis=0)
    return y


def _spmax_rule(g: Tensor, y: Tensor, input: Tensor, pattern: Pattern) -> Tensor:
    """The gradient is shared equally by all neighbours that attain the maximum."""
    rows, columns = pattern.by_row, pattern.by_column
    hits = cast(spsum(input, columns.T) == spsum(y, rows.T), g.dtype)
    return spsum(hits * spsum(g, rows.T) / spsum(spsum(hits, rows), rows.T), columns)


spmax = primitive(
    "spmax",
    kind="reduction",
    inputs=("input",),
    attrs=("pattern",),
    kernel=_spmax_kernel,
    shape=_over_neighbours,
    vjp=(lambda g, y, input, pattern: _spmax_rule(g, y, input, pattern),),
    samples=_max_samples,
    doc="the largest of the rows that a row of a pattern names, 0 where it names none",
    error=0.0,
)


def _softmax_shape(input: Spec, pattern: Pattern) -> Spec:
    _refuse_dtype(input)
    _refuse_rows(input, pattern.shape[1], "columns")
    if pattern.nonzeros != pattern.shape[1]:
        raise Refusal(
            f"a pattern of {pattern.nonzeros} nonzeros in {pattern.shape[1]} columns",
            "each element must belong to just one row",
        )
    return input


def _softmax_kernel(input: Any, pattern: Pattern) -> Any:
    x = input[pattern.index]
    rows = pattern.rows
    e = np.exp(x - _spmax_kernel(input, pattern)[rows])
    y = np.empty_like(input, order="C")
    y[pattern.index] = e / _add_rows(e, pattern.starts)[rows]
    return y


segment_softmax = primitive(
    "segment_softmax",
    kind="reduction",
    inputs=("input",),
    attrs=("pattern",),
    kernel=_softmax_kernel,
    shape=_softmax_shape,
    vjp=(lambda g, y, pattern: y * (g - spsum(spsum(g * y, pattern), pattern.T)),),
    samples=_softmax_samples,
    doc="the softmax over the elements of each row of a pattern, which has every element once",
)
