"""Metrics, by Keras's names: numbers for people, of the examples seen so far.

Each keeps counts or sums, never the examples, so a pass over any amount of data needs the same memory.

"accuracy" means what the shapes say: labels and predictions with one output are compared after
rounding, class indices with the largest of several outputs, one-hot rows by their largest.

    >>> metric = CategoricalAccuracy()
    >>> metric.update_state([[0, 1], [1, 0]], [[0.3, 0.7], [0.1, 0.9]])
    >>> metric.result()
    0.5
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ir import Shape
from ..tensor import Tensor
from . import losses
from .losses import array_of
from .options import Checked, pick

Array = np.ndarray[Any, Any]


class State(Tensor):
    """A number that a metric keeps: `Metric.add_weight`."""

    __slots__ = ()

    def assign_add(self, value: Any) -> Any:
        """Make it larger."""
        return self.assign(self + np.asarray(array_of(value), np.float32))

    def assign_sub(self, value: Any) -> Any:
        """Make it smaller."""
        return self.assign(self - np.asarray(array_of(value), np.float32))


class Metric(Checked, ABC):
    """Base of metrics: what has been seen so far, and a number of it.

    One of one's own defines `result`, `reset_state` and `add`; or, as in Keras, `update_state(y_true, y_pred,
    sample_weight=None)` and `result`, and keeps numbers of `add_weight`.
    """

    #: Whether only the order of the outputs matters, so that logits do as well as probabilities.
    by_order = False

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: list[State] = []
        if type(self).update_state is Metric.update_state:
            self.reset_state()

    def add_weight(
        self, name: str | None = None, shape: Any = (), initializer: Any = "zeros", dtype: Any = None
    ) -> State:
        """A number, or an array of them, that the metric keeps; `reset_state` makes it zero."""
        if initializer not in ("zeros", None):
            raise ArgumentError(self.name, f"initializer {initializer!r}", fix="a metric begins with zeros")
        wanted = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        self._kept.append(State(np.zeros(wanted, "float32" if dtype is None else dtype)))
        return self._kept[-1]

    def reset_state(self) -> None:
        """Forget all examples."""
        for state in self._kept:
            state.assign(np.zeros_like(state._array))

    def add(self, y: Array, p: Array) -> None:
        """See a batch of labels and predictions, unchecked."""
        if type(self).update_state is Metric.update_state:
            raise ArgumentError(
                type(self).__name__, "add is not defined", fix="define update_state(y_true, y_pred)"
            )
        self.update_state(y, p)

    @abstractmethod
    def result(self) -> Any:
        """The number so far; 0 of nothing."""

    def update_state(self, y_true: Any, y_pred: Any) -> None:
        """See a batch.  Raises ShapeError if labels and predictions are not of one length."""
        y, p = array_of(y_true), array_of(y_pred)
        if len(y) != len(p):
            raise ShapeError(
                self.name, f"{len(y)} labels for {len(p)} predictions", fix="give each example one label"
            )
        self.add(y, p)

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """See a batch; the number so far."""
        self.update_state(y_true, y_pred)
        return self.result()


class MeanMetric(Metric):
    """A mean over examples of what `each` gives."""

    @abstractmethod
    def each(self, y: Array, p: Array) -> Array:
        """One value an example (or output), of labels and predictions."""

    def reset_state(self) -> None:
        """Forget all examples."""
        self._total, self._count = 0.0, 0

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


class CategoricalAccuracy(MeanMetric):
    """How often the largest output is that of the one-hot label."""

    by_order = True

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(name)

    def each(self, y: Array, p: Array) -> Array:
        """Hits"""
        hits: Array = y.argmax(-1) == p.argmax(-1)
        return hits


class SparseCategoricalAccuracy(MeanMetric):
    """How often the largest output is that of the class index."""

    by_order = True

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(name)

    def each(self, y: Array, p: Array) -> Array:
        """Hits"""
        hits: Array = (y[..., 0] if y.ndim == p.ndim else y) == p.argmax(-1)
        return hits


class BinaryAccuracy(MeanMetric):
    """How often an output is on the label's side of the threshold."""

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = threshold

    def each(self, y: Array, p: Array) -> Array:
        """Hits, an output each"""
        hits: Array = y.reshape(p.shape) == (p > self.threshold)
        return hits


class MeanSquaredError(MeanMetric):
    """The mean of (y - p)^2."""

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(name)

    def each(self, y: Array, p: Array) -> Array:
        """Squares"""
        squares: Array = np.square(y.reshape(p.shape) - p)
        return squares


class MeanAbsoluteError(MeanMetric):
    """The mean of |y - p|."""

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(name)

    def each(self, y: Array, p: Array) -> Array:
        """Distances"""
        distances: Array = np.abs(y.reshape(p.shape) - p)
        return distances


class FunctionMetric(MeanMetric):
    """A metric from a function `f(y_true, y_pred)` of arrays, giving one value an example."""

    def __init__(self, function: Callable[[Array, Array], Any]) -> None:
        super().__init__(getattr(function, "__name__", "metric"))
        self.function = function

    def each(self, y: Array, p: Array) -> Array:
        """The function"""
        values = np.asarray(array_of(self.function(y, p)))
        return values if values.ndim else np.full(len(p), values)


def _classes(y: Array, p: Array) -> tuple[Array, Array]:
    """True and predicted class indices, whatever the labels and the outputs look like."""
    if p.shape[-1:] in ((), (1,)) or p.ndim == 1:
        return y.reshape(-1).astype(np.int64), (p.reshape(-1) > 0.5).astype(np.int64)
    predicted = p.argmax(-1).reshape(-1)
    labels = y.argmax(-1) if y.shape == p.shape else y
    return labels.reshape(-1).astype(np.int64), predicted.astype(np.int64)


class TopKCategoricalAccuracy(MeanMetric):
    """How often the label is among the k largest outputs; labels are indices or one-hot rows."""

    by_order = True

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy") -> None:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ArgumentError("TopKCategoricalAccuracy", f"k is {k!r}", fix="pass an integer of at least 1")
        super().__init__(name)
        self.k = int(k)

    def each(self, y: Array, p: Array) -> Array:
        """Hits: fewer than k outputs are larger than that of the label"""
        labels = (y.argmax(-1) if y.shape == p.shape else y).reshape(p.shape[:-1]).astype(np.int64)
        own = np.take_along_axis(p, labels[..., None], axis=-1)
        hits: Array = (p > own).sum(-1) < self.k
        return hits


class ConfusionMatrix(Metric):
    """counts[i, j]: how often class i was taken for class j, (classes, classes) int64.

    With one output a class is whether it is above 1/2.  num_classes: by default as many as come.
    """

    by_order = False

    def __init__(self, num_classes: int | None = None, name: str = "confusion_matrix") -> None:
        self.num_classes = num_classes
        super().__init__(name)

    def reset_state(self) -> None:
        """Forget all examples."""
        size = self.num_classes or 0
        self.counts: Array = np.zeros((size, size), np.int64)

    def add(self, y: Array, p: Array) -> None:
        """Count"""
        labels, predicted = _classes(y, p)
        size = max(
            self.counts.shape[0],
            *((p.shape[-1],) if p.ndim > 1 and p.shape[-1] > 1 else (2,)),
            int(labels.max(initial=0)) + 1,
        )
        if self.num_classes is not None and size > self.num_classes:
            raise ArgumentError(
                self.name, f"class {size - 1} appears", fix=f"num_classes is {self.num_classes}"
            )
        if size > len(self.counts):
            self.counts = np.pad(self.counts, (0, size - len(self.counts)))
        self.counts += np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)

    def result(self) -> Any:
        """The counts"""
        return self.counts.copy()


class _OfCounts(ConfusionMatrix):
    """A figure of the confusion matrix: of class 1 where there are two classes (one output), and the mean
    over classes ("macro"), or of all decisions ("micro"), or of one class elsewhere."""

    def __init__(self, average: str = "macro", class_id: int | None = None, name: str | None = None) -> None:
        if average not in ("macro", "micro"):
            raise ArgumentError(type(self).__name__, f"average is {average!r}", fix="use 'macro' or 'micro'")
        self.average, self.class_id = average, class_id
        self._one = False
        super().__init__(None, type(self).__name__.lower() if name is None else name)

    def add(self, y: Array, p: Array) -> None:
        """Count"""
        self._one = p.ndim == 1 or p.shape[-1] == 1
        super().add(y, p)

    def figure(self, hits: Array, predicted: Array, actual: Array) -> Array:
        """The figure of each class."""
        return _ratio(hits, predicted)

    def result(self) -> float:
        """The figure so far"""
        counts = self.counts
        if not counts.size:
            return 0.0
        hits, predicted, actual = counts.diagonal(), counts.sum(0), counts.sum(1)
        one = 1 if self._one and self.class_id is None else self.class_id
        if one is not None:
            if not 0 <= one < len(counts):
                raise ArgumentError(self.name, f"class_id is {one}", fix=f"there are {len(counts)} classes")
            chosen = slice(one, one + 1)
            return float(self.figure(hits[chosen], predicted[chosen], actual[chosen])[0])
        if self.average == "micro":
            sums = (np.array([v.sum()]) for v in (hits, predicted, actual))
            return float(self.figure(*sums)[0])
        seen = (predicted + actual) > 0
        return float(self.figure(hits, predicted, actual)[seen].mean())


def _ratio(a: Array, b: Array) -> Array:
    out: Array = np.divide(a, b, out=np.zeros(len(a)), where=b > 0)
    return out


class _Decisions(Metric):
    """Counts of decisions that are right and wrong: an output is a yes where it is above a threshold.

    thresholds: 1/2, or where it is put; top_k: only the k largest outputs of an example are a yes.  class_id:
    of this output alone.  average: "macro" or "micro", for labels that are class indices, too: an example is
    of the class of its largest output, and the figure the mean of those of the classes, or that of all
    decisions (Keras has no such option, and refuses class indices).
    """

    def __init__(
        self,
        thresholds: float | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        average: str | None = None,
    ) -> None:
        label = type(self).__name__
        if thresholds is not None and (
            isinstance(thresholds, bool)
            or not isinstance(thresholds, (int, float))
            or not 0 <= thresholds <= 1
        ):
            raise ArgumentError(label, f"thresholds is {thresholds!r}", fix="pass a number from 0 to 1")
        if average is not None and (thresholds is not None or top_k is not None):
            raise ArgumentError(label, "average with thresholds or top_k", fix="use one of them")
        self.thresholds, self.top_k, self.class_id, self.average = thresholds, top_k, class_id, average
        self._counts = None if average is None else _OfCounts(average, class_id, label)
        if self._counts is not None:
            self._counts.figure = self._of_counts  # type: ignore[method-assign]
        super().__init__(_snake(label) if name is None else name)

    @staticmethod
    def _of_counts(hits: Array, predicted: Array, actual: Array) -> Array:
        """The figure of each class, for `average`."""
        return _ratio(hits, predicted)

    def reset_state(self) -> None:
        """Forget all examples."""
        self.right_yes = self.wrong_yes = self.wrong_no = self.right_no = 0
        if self._counts is not None:
            self._counts.reset_state()

    def add(self, y: Array, p: Array) -> None:
        """Count"""
        if self._counts is not None:
            self._counts.add(y, p)
            return
        if y.size != p.size:
            raise ShapeError(
                self.name,
                f"labels {y.shape} for outputs {p.shape}",
                fix="use one-hot labels, or average='macro' for class indices",
            )
        truth, yes = y.reshape(p.shape) > 0.5, p > (0.5 if self.thresholds is None else self.thresholds)
        if self.top_k is not None:
            kth = -np.sort(-p, axis=-1)[..., min(self.top_k, p.shape[-1]) - 1]
            yes = p >= kth[..., None] if self.thresholds is None else yes & (p >= kth[..., None])
        if self.class_id is not None:
            if not 0 <= self.class_id < p.shape[-1]:
                raise ArgumentError(
                    self.name, f"class_id is {self.class_id}", fix=f"there are {p.shape[-1]} outputs"
                )
            truth, yes = truth[..., self.class_id], yes[..., self.class_id]
        self.right_yes += int(np.count_nonzero(truth & yes))
        self.wrong_yes += int(np.count_nonzero(~truth & yes))
        self.wrong_no += int(np.count_nonzero(truth & ~yes))
        self.right_no += int(np.count_nonzero(~truth & ~yes))

    def figure(self) -> float:
        """The figure of what was counted."""
        return _share(self.right_yes, self.wrong_yes)

    def result(self) -> float:
        """The figure so far"""
        return self.figure() if self._counts is None else self._counts.result()


def _share(part: int, other: int) -> float:
    return part / (part + other) if part + other else 0.0


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Precision(_Decisions):
    """Of the outputs that are a yes, the share that should be."""


class Recall(_Decisions):
    """Of the outputs that should be a yes, the share that is."""

    @staticmethod
    def _of_counts(hits: Array, predicted: Array, actual: Array) -> Array:
        return _ratio(hits, actual)

    def figure(self) -> float:
        """right yes / (right yes + wrong no)"""
        return _share(self.right_yes, self.wrong_no)


class _Count(_Decisions):
    """A count of decisions."""

    def __init__(self, thresholds: float | None = None, name: str | None = None) -> None:
        super().__init__(thresholds, None, None, name)


class TruePositives(_Count):
    """How many outputs are a yes, rightly."""

    def figure(self) -> float:
        """The count"""
        return float(self.right_yes)


class FalsePositives(_Count):
    """How many outputs are a yes, wrongly."""

    def figure(self) -> float:
        """The count"""
        return float(self.wrong_yes)


class FalseNegatives(_Count):
    """How many outputs are a no, wrongly."""

    def figure(self) -> float:
        """The count"""
        return float(self.wrong_no)


class TrueNegatives(_Count):
    """How many outputs are a no, rightly."""

    def figure(self) -> float:
        """The count"""
        return float(self.right_no)


class F1Score(_OfCounts):
    """2 / (1 / precision + 1 / recall)."""

    def __init__(self, average: str = "macro", class_id: int | None = None, name: str = "f1_score") -> None:
        super().__init__(average, class_id, name)

    def figure(self, hits: Array, predicted: Array, actual: Array) -> Array:
        """2 hits / (predicted + actual)"""
        return _ratio(2 * hits, predicted + actual)


class AUC(Metric):
    """The area under the ROC curve: how likely an example of class 1 scores above one of class 0.

    Scores in 0 to 1 are counted in `num_thresholds` - 1 bins, so memory does not grow; a tie within a bin
    counts a half.
    """

    def __init__(self, num_thresholds: int = 200, name: str = "auc") -> None:
        if num_thresholds < 2:
            raise ArgumentError("AUC", f"num_thresholds is {num_thresholds!r}", fix="pass at least 2")
        self.num_thresholds = int(num_thresholds)
        super().__init__(name)

    def reset_state(self) -> None:
        """Forget all examples."""
        self._bins = np.zeros((2, self.num_thresholds - 1), np.int64)

    def add(self, y: Array, p: Array) -> None:
        """Count scores by class"""
        if y.size != p.size:
            raise ShapeError(
                self.name, f"labels {y.shape} for outputs {p.shape}", fix="use one output, or one-hot labels"
            )
        scores, labels = p.reshape(-1), y.reshape(-1) > 0.5
        if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
            raise ArgumentError(
                self.name,
                f"scores from {scores.min():g} to {scores.max():g}",
                fix="end the model in a sigmoid",
            )
        count = self.num_thresholds - 1
        place = np.minimum((scores * count).astype(np.int64), count - 1)
        for label in (0, 1):
            self._bins[label] += np.bincount(place[labels == label], minlength=count)

    def result(self) -> float:
        """The area; 0 if a class has not been seen"""
        negative, positive = self._bins.astype(np.float64)
        pairs = negative.sum() * positive.sum()
        below = np.cumsum(negative) - negative / 2
        return float((positive * below).sum() / pairs) if pairs else 0.0


class R2Score(Metric):
    """1 - sum (y - p)^2 / sum (y - mean y)^2 of each output, and the mean of that over outputs."""

    def __init__(self, name: str = "r2_score") -> None:
        super().__init__(name)

    def reset_state(self) -> None:
        """Forget all examples."""
        self._count = 0
        self._mean: Any = 0.0
        self._spread: Any = 0.0
        self._errors: Any = 0.0

    def add(self, y: Array, p: Array) -> None:
        """Merge means and sums of squares (Chan et al. 1979), which does not cancel"""
        values = y.astype(np.float64).reshape(len(y), -1)
        if not values.size:
            return
        self._errors = self._errors + np.square(values - p.reshape(len(p), -1)).sum(0)
        mean, total = values.mean(0), self._count + len(values)
        step = mean - self._mean
        spread = np.square(values - mean).sum(0) + step**2 * self._count * len(values) / total
        self._spread = self._spread + spread
        self._mean = self._mean + step * len(values) / total
        self._count = total

    def result(self) -> float:
        """The score; 0 of nothing"""
        if not self._count:
            return 0.0
        known = self._spread > 0
        shares = np.divide(self._errors, self._spread, out=np.where(self._errors > 0, 1.0, 0.0), where=known)
        return float(np.mean(1.0 - shares))


class Mean(Metric):
    """The mean of the numbers it is shown: `update_state(values)`."""

    def __init__(self, name: str = "mean") -> None:
        super().__init__(name)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all numbers."""
        self.total, self.count = 0.0, 0.0

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """See numbers, as often as their weights say."""
        numbers = np.asarray(array_of(values), np.float64)
        weights = np.ones_like(numbers) if sample_weight is None else np.asarray(array_of(sample_weight))
        weights = np.broadcast_to(weights, numbers.shape)
        self.total += float((numbers * weights).sum())
        self.count += float(weights.sum())

    def __call__(self, values: Any, sample_weight: Any = None) -> Any:
        """See numbers; the result so far."""
        self.update_state(values, sample_weight)
        return self.result()

    def add(self, y: Array, p: Array) -> None:
        """Not of labels and predictions."""
        raise ArgumentError(self.name, "it is of numbers, not of labels", fix="use it in a loop of your own")

    def result(self) -> float:
        """The mean so far; 0 of nothing."""
        return self.total / self.count if self.count else 0.0


class Sum(Mean):
    """The sum of the numbers it is shown."""

    def __init__(self, name: str = "sum") -> None:
        super().__init__(name)

    def result(self) -> float:
        """The sum so far."""
        return self.total


class RootMeanSquaredError(MeanSquaredError):
    """The root of the mean of (y - p)^2."""

    def __init__(self, name: str = "root_mean_squared_error") -> None:
        super().__init__(name)

    def result(self) -> float:
        """The root so far."""
        return float(np.sqrt(super().result()))


class _OfLoss(MeanMetric):
    """The mean of a loss."""

    def __init__(self, name: str | None = None) -> None:
        self.loss: losses.Loss = getattr(losses, self._kind())(reduction="none")
        super().__init__(_snake(type(self).__name__) if name is None else name)

    def _kind(self) -> str:
        return type(self).__name__

    def each(self, y: Array, p: Array) -> Array:
        """The loss of each example"""
        values: Array = self.loss(y, p)._array
        return values


class CategoricalCrossentropy(_OfLoss):
    """The mean of -sum(y log p), for one-hot labels."""


class SparseCategoricalCrossentropy(_OfLoss):
    """The mean of -log p[y], for class indices."""


class BinaryCrossentropy(_OfLoss):
    """The mean of -(y log p + (1 - y) log(1 - p))."""


class KLDivergence(_OfLoss):
    """The mean of sum y log(y / p)."""

    def _kind(self) -> str:
        return "KLDivergence"

    def __init__(self, name: str = "kl_divergence") -> None:
        super().__init__(name)


class Poisson(_OfLoss):
    """The mean of p - y log p."""


class MeanAbsolutePercentageError(_OfLoss):
    """The mean of 100 |y - p| / |y|."""


class MeanSquaredLogarithmicError(_OfLoss):
    """The mean of (log(1 + y) - log(1 + p))^2."""


class Hinge(_OfLoss):
    """The mean of max(0, 1 - y p)."""


class SquaredHinge(_OfLoss):
    """The mean of max(0, 1 - y p)^2."""


class CategoricalHinge(_OfLoss):
    """The mean of max(0, 1 + the largest wrong score - the right one)."""


class LogCoshError(_OfLoss):
    """The mean of log cosh(p - y)."""

    def __init__(self, name: str = "logcosh") -> None:
        super().__init__(name)

    def _kind(self) -> str:
        return "LogCosh"


class CosineSimilarity(_OfLoss):
    """The mean cosine of the angle between y and p: 1 is best."""

    def each(self, y: Array, p: Array) -> Array:
        """The cosine of each vector"""
        return -super().each(y, p)


class SparseTopKCategoricalAccuracy(TopKCategoricalAccuracy):
    """How often the class index is among the k largest outputs."""

    def __init__(self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy") -> None:
        super().__init__(k, name)


METRICS: dict[str, type[Metric]] = {
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "binary_accuracy": BinaryAccuracy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "root_mean_squared_error": RootMeanSquaredError,
    "mean_absolute_percentage_error": MeanAbsolutePercentageError,
    "mape": MeanAbsolutePercentageError,
    "mean_squared_logarithmic_error": MeanSquaredLogarithmicError,
    "msle": MeanSquaredLogarithmicError,
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "kl_divergence": KLDivergence,
    "poisson": Poisson,
    "log_cosh": LogCoshError,
    "logcosh": LogCoshError,
    "hinge": Hinge,
    "squared_hinge": SquaredHinge,
    "categorical_hinge": CategoricalHinge,
    "cosine_similarity": CosineSimilarity,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
    "true_positives": TruePositives,
    "false_positives": FalsePositives,
    "false_negatives": FalseNegatives,
    "true_negatives": TrueNegatives,
    "precision": Precision,
    "recall": Recall,
    "f1_score": F1Score,
    "auc": AUC,
    "r2_score": R2Score,
}
#: By the names of their classes, too, in any case: "AUC", "RootMeanSquaredError".
METRICS |= {kind.__name__.lower(): kind for kind in METRICS.values()}
_ACCURACY = ("accuracy", "acc")


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """`CategoricalAccuracy` of each example, as 0 or 1."""
    return CategoricalAccuracy().each(array_of(y_true), array_of(y_pred)).astype(np.float32)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """`SparseCategoricalAccuracy` of each example, as 0 or 1."""
    return SparseCategoricalAccuracy().each(array_of(y_true), array_of(y_pred)).astype(np.float32)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """`BinaryAccuracy` of each example: the share of its outputs that are right."""
    hits = BinaryAccuracy(threshold=threshold).each(array_of(y_true), array_of(y_pred)).astype(np.float32)
    return hits.mean(-1) if hits.ndim > 1 else hits


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
    found: Any = pick("metric", metric, {**METRICS, **dict.fromkeys(_ACCURACY, Metric)})
    if found is Metric:
        found = accuracy_for(labels, outputs)
    if found in (Precision, Recall) and outputs[-1:] > (1,) and len(labels) < len(outputs):
        return found(name=metric, average="macro")  # type: ignore[no-any-return]
    chosen: Metric = found(name=metric)
    return chosen
