"""Learning rates that are functions of the step, by Keras's names and formulas.

With s the step (the number of updates made so far), n = decay_steps and a the initial learning rate:

    ExponentialDecay        a decay_rate^(s / n)
    InverseTimeDecay        a / (1 + decay_rate s / n)
    PolynomialDecay         (a - end) (1 - s / n)^power + end
    CosineDecay             a ((1 - alpha) (1 + cos(pi s / n)) / 2 + alpha)
    CosineDecayRestarts     the same again and again, each time t_mul as long and m_mul as high
    PiecewiseConstantDecay  values[i] between boundaries[i - 1] and boundaries[i]

    >>> from minigrad.keras import optimizers
    >>> schedule = ExponentialDecay(0.1, decay_steps=100, decay_rate=0.5)
    >>> schedule(0), schedule(100)
    (0.1, 0.05)
    >>> optimizers.Adam(schedule).learning_rate
    0.1

An optimizer reads its schedule at every step, in a compiled step too.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError
from .options import Checked


class LearningRateSchedule(Checked):
    """Base of schedules: a subclass defines `__call__(step)`."""

    def __call__(self, step: Any) -> float:
        """The learning rate after so many steps."""
        raise ArgumentError(type(self).__name__, "__call__ is not defined", fix="define __call__(self, step)")

    def _positive(self, **values: Any) -> None:
        for name, value in values.items():
            if not value > 0:
                raise ArgumentError(
                    type(self).__name__, f"{name} is {value!r}", fix="choose a number above 0"
                )

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self.__dict__.items() if k != "name")
        return f"{type(self).__name__}({settings})"


class ExponentialDecay(LearningRateSchedule):
    """Times decay_rate every decay_steps steps, smoothly, or at once with staircase."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self._positive(decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.decay_rate, self.staircase, self.name = decay_rate, staircase, name

    def share(self, step: Any) -> float:
        """Steps as a multiple of decay_steps."""
        p = float(step) / self.decay_steps
        return float(math.floor(p)) if self.staircase else p

    def __call__(self, step: Any) -> float:
        """The learning rate after so many steps."""
        return float(self.initial_learning_rate * self.decay_rate ** self.share(step))


class InverseTimeDecay(ExponentialDecay):
    """Divided by 1 + decay_rate steps / decay_steps, smoothly, or at once with staircase."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def __call__(self, step: Any) -> float:
        """The learning rate after so many steps."""
        return self.initial_learning_rate / (1 + self.decay_rate * self.share(step))


class PolynomialDecay(LearningRateSchedule):
    """Down to end_learning_rate in decay_steps steps; with cycle, up again each time it got there."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self._positive(decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.end_learning_rate, self.power, self.cycle, self.name = end_learning_rate, power, cycle, name

    def __call__(self, step: Any) -> float:
        """The learning rate after so many steps."""
        s, n = float(step), float(self.decay_steps)
        if self.cycle:
            n *= max(1, math.ceil(s / n))
        left = 1 - min(s, n) / n
        end = self.end_learning_rate
        return float((self.initial_learning_rate - end) * left**self.power + end)


class CosineDecay(LearningRateSchedule):
    """Half a cosine wave down to alpha initial_learning_rate, after a linear warm-up if one is wanted.

    warmup_target: where the warm-up of warmup_steps steps leads to, and the decay begins.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self._positive(decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.alpha, self.name = alpha, name
        self.warmup_target, self.warmup_steps = warmup_target, warmup_steps

    def __call__(self, step: Any) -> float:
        """The learning rate after so many steps."""
        s, top = float(step), self.initial_learning_rate
        if self.warmup_target is not None:
            if s < self.warmup_steps:
                return top + (self.warmup_target - top) * s / self.warmup_steps
            s, top = s - self.warmup_steps, self.warmup_target
        wave = (1 + math.cos(math.pi * min(s / self.decay_steps, 1.0))) / 2
        return top * ((1 - self.alpha) * wave + self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Half a cosine wave again and again."""

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self._positive(first_decay_steps=first_decay_steps)
        if t_mul < 1:
            raise ArgumentError("CosineDecayRestarts", f"t_mul is {t_mul!r}", fix="choose it at least 1")
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, first_decay_steps
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def __call__(self, step: Any) -> float:
        """The learning rate after so many steps."""
        s, n, height = float(step), float(self.first_decay_steps), 1.0
        if self.t_mul == 1:
            height, s = self.m_mul ** (s // n), s % n
        else:
            while s >= n:
                s, n, height = s - n, n * self.t_mul, height * self.m_mul
        wave = height * (1 + math.cos(math.pi * s / n)) / 2
        return self.initial_learning_rate * ((1 - self.alpha) * wave + self.alpha)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], and so on; one value more than boundaries."""

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"
    ) -> None:
        if len(values) != len(boundaries) + 1:
            raise ArgumentError(
                "PiecewiseConstantDecay",
                f"{len(boundaries)} boundaries and {len(values)} values",
                fix="pass one value more than boundaries",
            )
        self.boundaries, self.values, self.name = list(boundaries), list(values), name

    def __call__(self, step: Any) -> float:
        """The learning rate after so many steps."""
        return float(self.values[bisect_left(self.boundaries, float(step))])


__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
]
