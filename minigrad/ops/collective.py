"""Reductions over a group of processes, as operations: they can be recorded, differentiated and captured.

**Data parallel.** All ranks compute y = x_0 + x_1 + ... (or the mean). If each of them goes on to a loss of
its own, and what is wanted is the gradient of the sum of these losses, then every rank's y contributes:

    y = sum over r of x_r          gx_r = sum over r of g_r
    y = mean over r of x_r         gx_r = mean over r of g_r

so the derivative of a reduction is the same reduction. In a mean with weights, what is differentiated is
the mean of the losses with these weights, and the same is true.

**Tensor parallel.** Here all ranks compute one and the same loss, from activations that are *whole* (the same
on all ranks) or *parts* (different ones). Between the two there are four ways, which come in pairs: the
derivative of one is the other (Shoeybi et al. 2019, Megatron-LM, 1909.08053, section 3, who call the first
two f and g):

=================  ==============  ====================  =================================
operation          input           output                backward
=================  ==============  ====================  =================================
`copy_to`          whole           the same              sum over ranks
`reduce_from`      summands        their sum, whole      the same
`scatter_to`       whole           own part along dim    parts of all ranks, side by side
`gather_from`      own part        whole                 own part
=================  ==============  ====================  =================================

`group` is an engine of `minigrad.distributed`; these records only know its `rank`, its `size`, and that it
has methods `all_reduce` and `all_gather`. In a group of one all of this is the identity:

    >>> import minigrad as mg
    >>> from minigrad.distributed.engine import Alone
    >>> all_reduce(mg.tensor([1.0, 2.0]), Alone(), "sum"), gather_from(mg.tensor([1.0, 2.0]), Alone())
    (tensor([1., 2.]), tensor([1., 2.]))

Left out: the gradients of max, min and prod, which nobody trains through.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bind import primitive
from ..errors import GradientError, Refusal
from ..ir import Spec, is_float
from ..tensor import Tensor
from .movement import one_dim

__all__ = ["all_reduce", "copy_to", "gather_from", "reduce_from", "scatter_to"]


def _kernel(x: Any, group: Any, reduction: str, weight: float, tag: int) -> Any:
    return group.all_reduce(
        x if x.flags.c_contiguous else np.ascontiguousarray(x), reduction, weight, None, tag
    )


def _shape(spec: Spec, group: Any, reduction: str, weight: float, tag: int) -> Spec:
    if reduction == "mean" and not is_float(spec.dtype):
        raise Refusal(f"the mean of {spec.dtype} is no {spec.dtype}", "convert with .float(), or use the sum")
    return spec


def _rule(g: Tensor, group: Any, reduction: str, weight: float, tag: int) -> Tensor:
    if reduction not in ("sum", "mean"):
        raise GradientError(
            "all_reduce",
            f"{reduction!r} over ranks has no gradient here",
            fix="reduce with 'sum' or 'mean', or detach first",
        )
    return all_reduce(g, group, reduction, weight, tag)


class _Alone:
    """A group of one, for samples."""

    rank, size = 0, 1

    def all_gather(self, x: Any) -> Any:
        return x[None].copy()

    def all_reduce(self, x: Any, reduction: str, weight: float, out: Any, tag: int) -> Any:
        return x.copy()

    def __repr__(self) -> str:
        return "group of 1"


def _samples(rng: Any) -> list[Any]:
    group = _Alone()
    return [
        ((rng.normal(size=shape),), (group, reduction, 1.0, 0))
        for shape in ((3, 4), (), (0, 3))
        for reduction in ("sum", "mean")
    ]


_all_reduce = primitive(
    "all_reduce",
    kind="opaque",
    inputs=("input",),
    attrs=("group", "reduction", "weight", "tag"),
    kernel=_kernel,
    shape=_shape,
    vjp=(_rule,),
    samples=_samples,
    reference=lambda x, group, reduction, weight, tag: x,
    doc="the sum (mean, prod, max, min) of what all processes of a group give",
)


def all_reduce(
    input: Tensor, group: Any, reduction: str = "sum", weight: float = 1.0, tag: int = 0
) -> Tensor:
    """The reduction of `input` over the ranks of `group`: "sum", "mean", "prod", "max" or "min".

    weight: of this rank, in a mean.  tag: a number that all ranks must give alike, by which they notice
    that they reduce different things.  Differentiable for "sum" and "mean"."""
    return _all_reduce(input, group, reduction, weight, tag)


def _whole_samples(rng: Any) -> list[Any]:
    return [((rng.normal(size=shape),), (_Alone(),)) for shape in ((3, 4), (), (0, 3))]


def _dim_samples(rng: Any) -> list[Any]:
    return [
        ((rng.normal(size=shape),), (_Alone(), dim))
        for shape, dim in (((3, 4), 1), ((5,), 0), ((2, 0, 3), 0))
    ]


_copy_to = primitive(
    "copy_to",
    kind="opaque",
    inputs=("input",),
    attrs=("group",),
    kernel=lambda x, group: x.copy(),
    shape=lambda spec, group: spec,
    vjp=(lambda g, group: reduce_from(g, group),),
    traits={"identity": lambda spec, group: True},
    samples=_whole_samples,
    reference=lambda x, group: x,
    doc="the same on all processes of a group, whose gradients are added up",
)


def copy_to(input: Tensor, group: Any) -> Tensor:
    """`input`, which all ranks of `group` have alike and go on to use differently: gradients are added up."""
    return _copy_to(input, group)


_reduce_from = primitive(
    "reduce_from",
    kind="opaque",
    inputs=("input",),
    attrs=("group",),
    kernel=lambda x, group: group.all_reduce(np.ascontiguousarray(x).reshape(x.shape), "sum", 1.0, None, 0),
    shape=lambda spec, group: spec,
    vjp=(lambda g, group: copy_to(g, group),),
    samples=_whole_samples,
    reference=lambda x, group: x,
    doc="the sum of what all processes of a group give, which go on to use it alike",
)


def reduce_from(input: Tensor, group: Any) -> Tensor:
    """The sum over the ranks of `group`, which they go on to use alike: each gets the gradient as it is."""
    return _reduce_from(input, group)


def _gather_kernel(x: Any, group: Any, dim: int) -> Any:
    return np.concatenate(group.all_gather(np.ascontiguousarray(x)), dim)


def _gather_shape(spec: Spec, group: Any, dim: int) -> Spec:
    return Spec((*spec.shape[:dim], spec.shape[dim] * group.size, *spec.shape[dim + 1 :]), spec.dtype)


def _scatter_kernel(x: Any, group: Any, dim: int) -> Any:
    each = x.shape[dim] // group.size
    return x[(slice(None),) * dim + (slice(group.rank * each, (group.rank + 1) * each),)].copy()


def _scatter_shape(spec: Spec, group: Any, dim: int) -> Spec:
    if spec.shape[dim] % group.size:
        raise Refusal(
            f"{spec.shape[dim]} elements along dimension {dim} for {group.size} ranks",
            "choose sizes that the number of ranks divides",
        )
    return Spec((*spec.shape[:dim], spec.shape[dim] // group.size, *spec.shape[dim + 1 :]), spec.dtype)


_gather_from = primitive(
    "gather_from",
    kind="opaque",
    inputs=("input",),
    attrs=("group", "dim"),
    kernel=_gather_kernel,
    shape=_gather_shape,
    vjp=(lambda g, group, dim: _scatter_to(g, group, dim),),
    samples=_dim_samples,
    reference=lambda x, group, dim: x,
    doc="the parts of all processes of a group side by side, which they go on to use alike",
)
_scatter_to = primitive(
    "scatter_to",
    kind="opaque",
    inputs=("input",),
    attrs=("group", "dim"),
    kernel=_scatter_kernel,
    shape=_scatter_shape,
    vjp=(lambda g, group, dim: _gather_from(g, group, dim),),
    samples=_dim_samples,
    reference=lambda x, group, dim: x,
    doc="of something that all processes of a group have alike, the part of this one",
)


def gather_from(input: Tensor, group: Any, dim: int = -1) -> Tensor:
    """The parts of all ranks of `group` side by side along `dim`, in the order of ranks."""
    return _gather_from(input, group, one_dim("gather_from", dim, input.ndim))


def scatter_to(input: Tensor, group: Any, dim: int = -1) -> Tensor:
    """Of `input`, which all ranks of `group` have alike, this rank's part along `dim`.

    Raises ShapeError if the size of the group does not divide that dimension."""
    return _scatter_to(input, group, one_dim("scatter_to", dim, input.ndim))
