"""Reductions over a group of processes, as operations: they can be recorded, differentiated and captured.

All ranks compute y = x_0 + x_1 + ... (or the mean). If each of them goes on to a loss of its own, and what is
wanted is the gradient of the sum of these losses, then every rank's y contributes:

    y = sum over r of x_r        gx_r = sum over r of g_r
    y = mean over r of x_r       gx_r = mean over r of g_r

so the derivative of a reduction is the same reduction. `group` is an engine of `minigrad.distributed`; these
records only know that it has a method `all_reduce`. In a group of one all of this is the identity:

    >>> import minigrad as mg
    >>> from minigrad.distributed.engine import Alone
    >>> all_reduce(mg.tensor([1.0, 2.0]), Alone(), "sum")
    tensor([1., 2.])

Reference: Baydin et al. 2018 for the rule; the convention of the sum of losses is PyTorch's. Left out: the
gradients of max, min and prod, which nobody trains through.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bind import primitive
from ..errors import GradientError, Refusal
from ..ir import Spec, is_float
from ..tensor import Tensor

__all__ = ["all_reduce"]


def _kernel(x: Any, group: Any, reduction: str, weight: float, tag: int) -> Any:
    return group.all_reduce(
        x if x.flags.c_contiguous else np.ascontiguousarray(x), reduction, weight, None, tag
    )


def _shape(spec: Spec, group: Any, reduction: str, weight: float, tag: int) -> Spec:
    if reduction == "mean" and not is_float(spec.dtype):
        raise Refusal(f"the mean of {spec.dtype} is no {spec.dtype}", "convert with .float(), or use the sum")
    return spec


def _rule(g: Tensor, group: Any, reduction: str, weight: float, tag: int) -> Tensor:
    if reduction not in ("sum", "mean") or weight != 1.0:
        raise GradientError(
            "all_reduce",
            f"{'a weighted mean' if weight != 1.0 else repr(reduction)} over ranks has no gradient here",
            fix="reduce with 'sum' or 'mean', or detach first",
        )
    return all_reduce(g, group, reduction, weight, tag)


class _Alone:
    """A group of one, for samples."""

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
    that they reduce different things.  Differentiable for "sum" and "mean" without weights."""
    return _all_reduce(input, group, reduction, weight, tag)
