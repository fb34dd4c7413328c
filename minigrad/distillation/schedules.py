"""How temperature and weight change over a run: functions of the share of the run that is done, 0 to 1.

    >>> cooling = Linear(8.0, 1.0)
    >>> cooling(0.0), cooling(0.5), cooling(1.0)
    (8.0, 4.5, 1.0)

Any function of one number will do.  A `Distiller` writes the value into a 0-d tensor before each step, so
a captured step sees it without being recorded again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` in a straight line."""

    start: float
    end: float

    def __call__(self, done: float) -> float:
        return self.start + (self.end - self.start) * done


@dataclass(frozen=True)
class Cosine:
    """From `start` to `end` along half a cosine: slow at both ends."""

    start: float
    end: float

    def __call__(self, done: float) -> float:
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * done))
