"""Observers: watch activations go by, and say which range their codes should cover.

A wide range wastes codes on rare values, a narrow one cuts them off.  From simple to thorough:

    MinMax          the smallest and largest value ever seen
    MovingAverage   the means of each batch's extremes, exponentially weighted: outliers of old batches fade
    Percentile      all but a share of the values on each side
    Entropy         the range whose codes change the distribution least, by KL divergence (Migacz 2017)
    MSE             the range with the least mean squared error

The last three keep a histogram of 2,048 bins.  When values come that lie outside, neighbouring bins are
merged and the width doubles, as often as needed: nothing has to be seen twice.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=100_000).astype(np.float32)
    >>> x[0] = 40.0                                            # an outlier takes nine tenths of the codes
    >>> for kind in (MinMax, Percentile, MSE):
    ...     observer = kind()
    ...     observer.observe(x)
    ...     print(kind.__name__, "%.1f %.1f" % observer.range())
    MinMax -4.5 40.0
    Percentile -3.8 3.8
    MSE -3.5 33.9

(The squared error of cutting a single 40 off is larger than that of rounding 100,000 values more coarsely;
which of the two matters is what `sensitivity` measures.)

NaN or Inf is an error with the layer's name; a model that makes them cannot be calibrated.

References: Migacz 2017 ("8-bit inference with TensorRT"); Krishnamoorthi 2018 (arXiv 1806.08342).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError

BINS = 2048
#: Parts of the range that `Entropy` and `MSE` try on each side.
PARTS = np.concatenate([[1.0], np.geomspace(1.0, 0.02, 48)[1:]])


class Observer:
    """Base: `observe(array)` as often as there are batches, then `range()`."""

    def __init__(self) -> None:
        self.batches = 0

    def observe(self, x: Any, name: str = "an activation") -> None:
        """Look at the values of one batch.  Raises ArgumentError if there is a NaN or Inf among them."""
        if not x.size:
            return
        lo, hi = float(x.min()), float(x.max())
        if not (np.isfinite(lo) and np.isfinite(hi)):
            count = int(x.size - np.isfinite(x).sum())
            raise ArgumentError(
                "quantization",
                f"{count} of {x.size} values of {name} are NaN or Inf",
                fix="look at the batches and the weights; autograd.detect_anomaly finds the first operation",
            )
        self.batches += 1
        self._observe(x, lo, hi)

    def range(self) -> tuple[float, float]:
        """The smallest and largest real number that codes should reach."""
        if not self.batches:
            raise ArgumentError(
                "quantization",
                "nothing was observed",
                fix="call the prepared model on some batches before convert",
            )
        return self._range()

    def _observe(self, x: Any, lo: float, hi: float) -> None:
        raise TypeError(f"{type(self).__name__} does not define _observe")

    def _range(self) -> tuple[float, float]:
        raise TypeError(f"{type(self).__name__} does not define _range")


class MinMax(Observer):
    """All that was ever seen."""

    def __init__(self) -> None:
        super().__init__()
        self.lo, self.hi = np.inf, -np.inf

    def _observe(self, x: Any, lo: float, hi: float) -> None:
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)

    def _range(self) -> tuple[float, float]:
        return self.lo, self.hi


class MovingAverage(Observer):
    """Exponentially weighted means of the extremes; a new batch counts `momentum`."""

    def __init__(self, momentum: float = 0.1) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ArgumentError("MovingAverage", f"momentum is {momentum}", fix="it must be in (0, 1]")
        self.momentum = momentum
        self.lo = self.hi = 0.0

    def _observe(self, x: Any, lo: float, hi: float) -> None:
        part = 1.0 if self.batches == 1 else self.momentum
        self.lo += part * (lo - self.lo)
        self.hi += part * (hi - self.hi)

    def _range(self) -> tuple[float, float]:
        return self.lo, self.hi


class Histogram(Observer):
    """Counts in equal bins over a range that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = np.zeros(BINS)
        self.start = self.width = 0.0
        self.lo, self.hi = np.inf, -np.inf

    def _observe(self, x: Any, lo: float, hi: float) -> None:
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        if not self.width:
            span = (hi - lo) or abs(hi) or 1.0
            self.start, self.width = lo - span / 16, span * 1.125 / BINS
        while self.start > lo or self.start + BINS * self.width <= hi:
            merged = self.counts[::2] + self.counts[1::2]
            self.counts = np.zeros(BINS)
            if self.start > lo:
                self.counts[BINS // 2 :] = merged
                self.start -= BINS * self.width
            else:
                self.counts[: BINS // 2] = merged
            self.width *= 2
        bins = ((x.reshape(-1) - self.start) / self.width).astype(np.int64)
        self.counts += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)

    @property
    def centres(self) -> Any:
        """The middle of each bin."""
        return self.start + (np.arange(BINS) + 0.5) * self.width

    def cost(self, lo: float, hi: float) -> float:
        """What a range costs, for the observers that search for the cheapest."""
        raise TypeError(f"{type(self).__name__} does not define cost")

    def _range(self) -> tuple[float, float]:
        """The cheapest pair of parts of the full range: first the upper end, then the lower, twice."""
        least, most = min(self.lo, 0.0), max(self.hi, 0.0)
        lo, hi = least, most
        for _ in range(2):
            if most > 0:
                hi = min((most * p for p in PARTS), key=lambda end: self.cost(lo, end))
            if least < 0:
                lo = min((least * p for p in PARTS), key=lambda end: self.cost(end, hi))
        return lo, hi


class Percentile(Histogram):
    """The range without the `1 - percentile / 100` smallest and largest values."""

    def __init__(self, percentile: float = 99.99) -> None:
        super().__init__()
        if not 50 < percentile <= 100:
            raise ArgumentError("Percentile", f"percentile is {percentile}", fix="it must be in (50, 100]")
        self.percentile = percentile

    def _range(self) -> tuple[float, float]:
        share = np.cumsum(self.counts) / self.counts.sum()
        out = 1 - self.percentile / 100
        first = int(np.searchsorted(share, out, "right"))
        last = int(np.searchsorted(share, 1 - out, "left"))
        lo = max(self.lo, self.start + first * self.width)
        return lo, max(lo, min(self.hi, self.start + (last + 1) * self.width))


class MSE(Histogram):
    """The range with the least mean squared error, rounding and cutting off together."""

    def cost(self, lo: float, hi: float) -> float:
        """The squared error over the histogram."""
        x = self.centres
        step = (hi - lo) / 255 or 1.0
        y = np.clip(np.rint((x - lo) / step), 0, 255) * step + lo
        inside = (x >= lo) & (x <= hi)
        # inside, bins are narrower than a step or not: rounding costs at least what it costs on average
        error = np.where(inside, np.maximum(np.square(y - x), step * step / 12), np.square(y - x))
        return float((self.counts * error).sum())


class Entropy(Histogram):
    """The range whose 256 codes, spread over the bins that they stand for, have the least KL divergence."""

    def cost(self, lo: float, hi: float) -> float:
        """KL(P || Q): P the histogram, what is cut off added to its ends, Q what is left of it in codes."""
        x, counts = self.centres, self.counts
        inside = (x >= lo) & (x <= hi)
        if not inside.any():
            return np.inf
        kept = counts[inside]
        p = kept.copy()
        p[0] += counts[x < lo].sum()
        p[-1] += counts[x > hi].sum()
        codes = np.clip(((x[inside] - lo) / max(hi - lo, 1e-300) * 256).astype(np.int64), 0, 255)
        filled = kept > 0
        mass = np.bincount(codes, kept, 256)
        places = np.bincount(codes, filled, 256)
        q = np.where(filled, mass[codes] / np.maximum(places[codes], 1), 0.0)
        p, q = p / p.sum(), q / max(q.sum(), 1e-300)
        there = p > 0
        return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-9))).sum())


#: By name, as `prepare` and `quantize_static` take them.
OBSERVERS: dict[str, type[Observer]] = {
    "minmax": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "entropy": Entropy,
    "mse": MSE,
}


def make_observer(kind: Any) -> Observer:
    """An observer, from a name or a function that makes one.  Raises ArgumentError for another name."""
    if callable(kind):
        made: Observer = kind()
        return made
    if kind not in OBSERVERS:
        raise ArgumentError(
            "quantization", f"there is no observer {kind!r}", fix=f"use one of {', '.join(OBSERVERS)}"
        )
    return OBSERVERS[kind]()


__all__ = [
    "MSE",
    "OBSERVERS",
    "Entropy",
    "MinMax",
    "MovingAverage",
    "Observer",
    "Percentile",
    "make_observer",
]
