"""Metrics, by Keras's names: numbers for people, averaged over the examples seen so far.

"accuracy" means what the shapes say: labels and predictions with one output are compared after
rounding, class indices with the largest of several outputs, one-hot rows by their largest.

    >>> metric = CategoricalAccuracy()
    >>> metric.update_state([[0, 1], [1, 0]], [[0.3, 0.7], [0.1, 0.9]])
    >>> metric.result()
    0.5
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ir import Shape
from .losses import array_of
from .options import Checked, pick

Array = np.ndarray[Any, Any]


class Metric(Checked):
    """Base of metrics: a mean over examples of what `each` gives."""

    #: Whether only the order of the outputs matters, so that logits do as well as probabilities.
    by_order = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset_state()

    def each(self, y: Array, p: Array) -> Array:
        """One value an example (or output), of labels and predictions."""
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forget all examples."""
        self._total, self._count = 0.0, 0

    def update_state(self, y_true: Any, y_pred: Any) -> None:
        """See a batch.  Raises ShapeError if labels and predictions are not of one length."""
        y, p = array_of(y_true), array_of(y_pred)
        if len(y) != len(p):
            raise ShapeError(
                self.name, f"{len(y)} labels for {len(p)} predictions", fix="give each example one label"
            )
        self.add(y, p)

    def add(self, y: Array, p: Array) -> None:
        """See a batch, unchecked."""
        values = self.each(y, p)
        if values.dtype == np.bool_:
            self._total += int(np.count_nonzero(values))
        else:
            self._total += float(values.sum())
        self._count += values.size

    def result(self) -> float:
        """The mean so far; 0 of nothing."""
        return self._total / self._count if self._count else 0.0


class CategoricalAccuracy(Metric):
    """How often the largest output is that of the one-hot label."""

    by_order = True

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(name)

    def each(self, y: Array, p: Array) -> Array:
        """Hits"""
        hits: Array = y.argmax(-1) == p.argmax(-1)
        return hits


class SparseCategoricalAccuracy(Metric):
    """How often the largest output is that of the class index."""

    by_order = True

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(name)

    def each(self, y: Array, p: Array) -> Array:
        """Hits"""
        hits: Array = (y[..., 0] if y.ndim == p.ndim else y) == p.argmax(-1)
        return hits


class BinaryAccuracy(Metric):
    """How often an output is on the label's side of the threshold."""

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = threshold

    def each(self, y: Array, p: Array) -> Array:
        """Hits, an output each"""
        hits: Array = y.reshape(p.shape) == (p > self.threshold)
        return hits


class MeanSquaredError(Metric):
    """The mean of (y - p)^2."""

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(name)

    def each(self, y: Array, p: Array) -> Array:
        """Squares"""
        squares: Array = np.square(y.reshape(p.shape) - p)
        return squares


class MeanAbsoluteError(Metric):
    """The mean of |y - p|."""

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(name)

    def each(self, y: Array, p: Array) -> Array:
        """Distances"""
        distances: Array = np.abs(y.reshape(p.shape) - p)
        return distances


class FunctionMetric(Metric):
    """A metric from a function `f(y_true, y_pred)` of arrays, giving one value an example."""

    def __init__(self, function: Callable[[Array, Array], Any]) -> None:
        super().__init__(getattr(function, "__name__", "metric"))
        self.function = function

    def each(self, y: Array, p: Array) -> Array:
        """The function"""
        values = np.asarray(array_of(self.function(y, p)))
        return values if values.ndim else np.full(len(p), values)


METRICS: dict[str, type[Metric]] = {
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "binary_accuracy": BinaryAccuracy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
}
_ACCURACY = ("accuracy", "acc")


def accuracy_for(labels: Shape, outputs: Shape) -> type[Metric]:
    """Which accuracy labels and outputs of these shapes (without the batch) ask for."""
    if outputs[-1:] in ((), (1,)):
        return BinaryAccuracy
    if len(labels) < len(outputs) or labels[-1] == 1:
        return SparseCategoricalAccuracy
    return CategoricalAccuracy


def get(metric: Any, labels: Shape, outputs: Shape) -> Metric:
    """The metric of this name (named so in the history), for labels and outputs of these shapes."""
    if isinstance(metric, Metric):
        return metric
    if callable(metric) and not isinstance(metric, type):
        return FunctionMetric(metric)
    found: type[Metric] = pick("metric", metric, {**METRICS, **dict.fromkeys(_ACCURACY, Metric)})
    if found is Metric:
        found = accuracy_for(labels, outputs)
    return found(name=metric)
