"""Constraints: what a weight is made to be after every step, by Keras's names.

    NonNeg        max(w, 0)
    MaxNorm       w min(1, max_value / |w|)
    UnitNorm      w / |w|
    MinMaxNorm    |w| moved towards [min_value, max_value], at the given rate

|w| is the norm along `axis` (0, so of the weights into each unit of a Dense layer).

    >>> import minigrad as mg
    >>> MaxNorm(1.0)(mg.tensor([[3.0, 0.0], [4.0, 0.5]]))
    tensor([[0.6, 0. ],
            [0.8, 0.5]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..ops.elementwise import clamp, sqrt, square
from ..tensor import Tensor
from .losses import EPSILON
from .options import Checked, rule


class Constraint(Checked):
    """Base of constraints: a subclass defines `__call__(w)`, the weight as it should be."""

    axis: Any = 0

    def __call__(self, w: Tensor) -> Tensor:
        """The weight as it should be."""
        raise ArgumentError(type(self).__name__, "__call__ is not defined", fix="define __call__(self, w)")

    def _norm(self, w: Tensor) -> Tensor:
        axis = tuple(self.axis) if isinstance(self.axis, (list, tuple)) else self.axis
        return sqrt(square(w).sum(axis, True))


class NonNeg(Constraint):
    """max(w, 0)."""

    def __call__(self, w: Tensor) -> Tensor:
        """The weight as it should be."""
        return clamp(w, 0.0)


class MaxNorm(Constraint):
    """No norm above max_value."""

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Tensor) -> Tensor:
        """The weight as it should be."""
        norm = self._norm(w)
        return w * (clamp(norm, 0.0, self.max_value) / (norm + EPSILON))


class UnitNorm(Constraint):
    """Every norm 1."""

    def __init__(self, axis: Any = 0) -> None:
        self.axis = axis

    def __call__(self, w: Tensor) -> Tensor:
        """The weight as it should be."""
        return w / (self._norm(w) + EPSILON)


class MinMaxNorm(Constraint):
    """Every norm from min_value to max_value; rate: how much of the way a step goes."""

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ) -> None:
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Tensor) -> Tensor:
        """The weight as it should be."""
        norm = self._norm(w)
        wanted = clamp(norm, self.min_value, self.max_value) * self.rate + norm * (1.0 - self.rate)
        return w * (wanted / (norm + EPSILON))


CONSTRAINTS: dict[str, type[Constraint]] = {
    "non_neg": NonNeg,
    "nonneg": NonNeg,
    "max_norm": MaxNorm,
    "maxnorm": MaxNorm,
    "unit_norm": UnitNorm,
    "unitnorm": UnitNorm,
    "min_max_norm": MinMaxNorm,
    "minmaxnorm": MinMaxNorm,
}

max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm


def get(constraint: Any) -> Callable[[Tensor], Tensor] | None:
    """The constraint of this name with its defaults, one that was given, a function, or None."""
    return rule("constraint", constraint, CONSTRAINTS)


__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "unit_norm",
]
