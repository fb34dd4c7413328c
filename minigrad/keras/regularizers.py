"""Regularizers: what a weight adds to the loss, by Keras's names.

    L1          l1 sum |w|
    L2          l2 sum w^2          (no half, so its gradient is 2 l2 w)
    L1L2        both

    >>> import minigrad as mg
    >>> L2(0.5)(mg.tensor([1.0, 2.0])).item(), get("l1_l2").l1
    (2.5, 0.01)

`fit` and `evaluate` show them as part of "loss", as Keras does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..ops.elementwise import square
from ..tensor import Tensor
from .options import Checked, rule


class Regularizer(Checked):
    """Base of regularizers: a subclass defines `__call__(x)`, a scalar of a weight."""

    def __call__(self, x: Tensor) -> Tensor:
        """What the weight adds to the loss."""
        raise ArgumentError(type(self).__name__, "__call__ is not defined", fix="define __call__(self, x)")

    def _strength(self, name: str, value: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < float("inf"):
            raise ArgumentError(
                type(self).__name__, f"{name} is {value!r}", fix="pass a number of at least 0"
            )
        return float(value)


class L1L2(Regularizer):
    """l1 sum |w| + l2 sum w^2."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = self._strength("l1", l1), self._strength("l2", l2)

    def __call__(self, x: Tensor) -> Tensor:
        """The sum."""
        if self.l1 and self.l2:
            return x.abs().sum() * self.l1 + square(x).sum() * self.l2
        return x.abs().sum() * self.l1 if self.l1 else square(x).sum() * self.l2


class L1(L1L2):
    """l1 sum |w|."""

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1, 0.0)


class L2(L1L2):
    """l2 sum w^2."""

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(0.0, l2)


def _l1_l2() -> L1L2:
    return L1L2(0.01, 0.01)


REGULARIZERS: dict[str, Callable[[], Regularizer]] = {"l1": L1, "l2": L2, "l1_l2": _l1_l2, "l1l2": L1L2}

l1, l2, l1_l2 = L1, L2, L1L2


def get(regularizer: Any) -> Callable[[Tensor], Tensor] | None:
    """The regularizer of this name with its defaults, one that was given, a function, or None."""
    return rule("regularizer", regularizer, REGULARIZERS)


__all__ = ["L1", "L1L2", "L2", "Regularizer", "get", "l1", "l1_l2", "l2"]
