"""Losses, by Keras's names.

Cross-entropy of a softmax must not be computed as it is written.  With logits z and probabilities
p = softmax(z),

    -log p_k  =  log(sum_j exp(z_j)) - z_k

and the right side never takes the logarithm of a rounded zero.  So when the last layer of a model
has the activation that a loss expects (softmax, or sigmoid for the binary one), `fit` hands the
loss the logits; a loss that is given probabilities cuts them off at 1e-7, as Keras does.

    >>> import minigrad as mg
    >>> CategoricalCrossentropy()(mg.tensor([[0.0, 1.0]]), mg.tensor([[0.2, 0.8]]))
    tensor(0.2231)
    >>> SparseCategoricalCrossentropy(from_logits=True)([1], mg.tensor([[0.0, 1000.0]])).item()
    0.0

Labels are looked at before training starts: their shape, and their range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir import Shape
from ..nn import functional as F
from ..ops.elementwise import clamp, exp, log, square
from ..ops.indexing import gather
from ..ops.nn import log_softmax
from ..tensor import Tensor, as_array, wrap
from . import activations
from .options import Checked, pick

EPSILON = 1e-7
Array = np.ndarray[Any, Any]

_REDUCTIONS = ("sum_over_batch_size", "sum", "none", None)


class Loss(Checked):
    """Base of losses: subclasses define `labels` and `each`; or, as in Keras, `call(y_true, y_pred)`.

    `loss(y_true, y_pred, sample_weight=None)` is a scalar tensor, or one value an example with
    reduction "none".
    """

    #: The activation whose output the loss takes, and whose input it takes if `from_logits`.
    activation: Callable[[Tensor], Tensor] | None = None
    from_logits = False

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        if reduction not in _REDUCTIONS:
            raise ArgumentError(
                type(self).__name__,
                f"there is no reduction {reduction!r}",
                fix=f"use one of {', '.join(map(repr, _REDUCTIONS))}",
            )
        self.reduction = reduction
        self.name = name

    def labels(self, op: str, y: Array, shape: Shape) -> Array:
        """Labels checked against predictions of this shape (without the batch), as `each` needs them."""
        if hasattr(self, "call"):
            return y if y.dtype.kind in "iub" else as_float(op, "y", y)
        return _same_shape(op, as_float(op, "y", y), shape)

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """One loss an example (and position) from labels and predictions or logits."""
        if hasattr(self, "call"):
            found: Tensor = self.call(y, p)
            return found
        raise ArgumentError(
            type(self).__name__, "each is not defined", fix="define each(self, y, p, from_logits)"
        )

    def value(self, y: Tensor, p: Tensor, from_logits: bool, weights: Tensor | None) -> Tensor:
        """The loss of a batch, of labels that are checked."""
        return self.reduce(self.each(y, p, from_logits), weights)

    def reduce(self, each: Tensor, weights: Tensor | None) -> Tensor:
        """The losses weighted and reduced."""
        if weights is not None:
            each = each * weights.reshape(-1, *(1,) * (each.ndim - 1))
        if self.reduction == "sum_over_batch_size":
            return each.mean()
        return each.sum() if self.reduction == "sum" else each

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        name = type(self).__name__
        p = y_pred if isinstance(y_pred, Tensor) else wrap(as_array(y_pred, "float32"))
        y = self.labels(name, array_of(y_true), p.shape[1:])
        if len(y) != len(p):
            raise ShapeError(
                name, f"{len(y)} labels for {len(p)} predictions", fix="give each example one label"
            )
        if not self.from_logits:
            self.check(name, p._array)
        weights = None if sample_weight is None else wrap(as_array(sample_weight, p.dtype))
        labels = wrap(y) if y.dtype.kind != "f" else wrap(y).to(p.dtype)
        return self.value(labels, p, self.from_logits, weights)

    def check(self, op: str, p: Array) -> None:
        """Raise ArgumentError if predictions cannot be what the loss expects."""
        if self.activation is None or not p.size:
            return
        low, high = float(p.min()), float(p.max())
        if low < 0.0 or high > 1.0 + 1e-5:
            kind = self.activation.__name__
            raise ArgumentError(
                op,
                f"{type(self).__name__} takes probabilities, predictions run from {low:.4g} to {high:.4g}",
                fix=f"give the last layer activation={kind!r}, or pass from_logits=True to the loss",
            )


def array_of(values: Any) -> Array:
    """An array from labels, data or weights of any kind."""
    if isinstance(values, Tensor):
        array: Array = values.detach().numpy()
        return array
    return np.asarray(values)


def as_float(op: str, what: str, values: Array) -> Array:
    """float32 numbers; DTypeError for text or objects."""
    if values.dtype.kind not in "biuf":
        raise DTypeError(op, f"{what} has dtype {values.dtype}", fix="encode it as numbers first")
    return values.astype(np.float32, copy=False)


def _same_shape(op: str, y: Array, shape: Shape) -> Array:
    """y with the shape of the predictions, given or taken away a last dimension of size 1."""
    if y.shape[1:] == shape:
        return y
    if (*y.shape[1:], 1) == shape or y.shape[1:] == (*shape, 1):
        return y.reshape(len(y), *shape)
    raise ShapeError(
        op,
        f"labels have shape {y.shape[1:]} an example, predictions {shape}",
        fix="make the last layer as wide as the labels",
    )


def _classes(op: str, loss: str, shape: Shape) -> int:
    if not shape:
        raise ShapeError(
            op,
            f"{loss} needs a score for each class, predictions are single numbers",
            fix="end the model in one unit a class",
        )
    if shape[-1] == 1:
        raise ShapeError(
            op,
            f"{loss} over one class is constant",
            fix="use one unit a class, or activation='sigmoid' with BinaryCrossentropy",
        )
    return shape[-1]


class CategoricalCrossentropy(Loss):
    """-sum(y log p) for one-hot (or soft) labels y.

    label_smoothing: this share of each label is spread over all classes.
    """

    activation = staticmethod(activations.softmax)

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_crossentropy",
    ) -> None:
        super().__init__(reduction, name)
        self.from_logits = bool(from_logits)
        self.label_smoothing = _share(type(self).__name__, label_smoothing)

    def labels(self, op: str, y: Array, shape: Shape) -> Array:
        """Rows of `classes` numbers of at least 0."""
        classes = _classes(op, "CategoricalCrossentropy", shape)
        if y.shape[1:] != shape:
            class_indices = y.dtype.kind in "iu" and y.size == len(y) * int(np.prod(shape[:-1]))
            raise ShapeError(
                op,
                f"labels have shape {y.shape[1:]} an example where one-hot rows of {classes} are needed",
                fix=f"use SparseCategoricalCrossentropy, or y = keras.utils.to_categorical(y, {classes})"
                if class_indices
                else "make the last layer as wide as the labels",
            )
        y = as_float(op, "y", y)
        if y.size and not y.min() >= 0.0:
            at = np.argwhere(~(y >= 0.0))[0].tolist()
            raise ArgumentError(
                op, f"label {at} is {y[tuple(at)]}", fix="labels are probabilities, at least 0"
            )
        if self.label_smoothing:
            y = y * np.float32(1.0 - self.label_smoothing) + np.float32(self.label_smoothing / classes)
        return y

    def value(self, y: Tensor, p: Tensor, from_logits: bool, weights: Tensor | None) -> Tensor:
        """The loss of a batch; the usual mean by one sum instead of two."""
        if weights is None and self.reduction == "sum_over_batch_size" and p.numel():
            rows = p.numel() // p.shape[-1]
            return (y * self._log(p, from_logits)).sum() * (-1.0 / rows)
        return super().value(y, p, from_logits, weights)

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """-sum(y log p)"""
        return -(y * self._log(p, from_logits)).sum(-1)

    @staticmethod
    def _log(p: Tensor, from_logits: bool) -> Tensor:
        if from_logits:
            return log_softmax(p, -1)
        return log(clamp(p / p.sum(-1, True), EPSILON, 1.0 - EPSILON))


class SparseCategoricalCrossentropy(Loss):
    """-log p[y] for class indices y."""

    activation = staticmethod(activations.softmax)

    def __init__(
        self,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "sparse_categorical_crossentropy",
    ) -> None:
        super().__init__(reduction, name)
        self.from_logits = bool(from_logits)

    def labels(self, op: str, y: Array, shape: Shape) -> Array:
        """Integers from 0 to classes - 1."""
        classes = _classes(op, "SparseCategoricalCrossentropy", shape)
        if y.shape[1:] == (*shape[:-1], 1):
            y = y[..., 0]
        if y.shape[1:] != shape[:-1]:
            raise ShapeError(
                op,
                f"labels have shape {y.shape[1:]} an example, not {shape[:-1]} as class indices have",
                fix="use CategoricalCrossentropy for one-hot labels"
                if y.shape[1:] == shape
                else "pass one integer an example",
            )
        return class_indices(op, y, classes)

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """-log p[y]"""
        log_p = log_softmax(p if from_logits else log(clamp(p, EPSILON, 1.0 - EPSILON)), -1)
        return -gather(log_p, log_p.ndim - 1, y.unsqueeze(-1)).squeeze(-1)


def class_indices(op: str, y: Array, classes: int) -> Array:
    """Labels as int64, each at least 0 and below `classes`; ArgumentError naming the first that is not."""
    if y.dtype.kind not in "iuf" or (y.dtype.kind == "f" and not (y == np.floor(y)).all()):
        raise DTypeError(op, f"labels of dtype {y.dtype} are no class indices", fix="pass integers")
    wrong = (y < 0) | (y >= classes)
    if wrong.any():
        at = np.argwhere(wrong)[0].tolist()
        raise ArgumentError(
            op,
            f"label {y[tuple(at)]} of example {at[0]} is outside of 0 to {classes - 1}",
            fix=f"the model has {classes} outputs: count classes from 0, or make the last layer wider",
        )
    return y.astype(np.int64, copy=False)


class BinaryCrossentropy(Loss):
    """-(y log p + (1 - y) log(1 - p)), averaged over the outputs of an example."""

    activation = staticmethod(activations.sigmoid)

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_crossentropy",
    ) -> None:
        super().__init__(reduction, name)
        self.from_logits = bool(from_logits)
        self.label_smoothing = _share(type(self).__name__, label_smoothing)

    def labels(self, op: str, y: Array, shape: Shape) -> Array:
        """Numbers from 0 to 1 in the shape of the predictions."""
        y = _same_shape(op, as_float(op, "y", y), shape)
        wrong = ~((y >= 0.0) & (y <= 1.0))
        if wrong.any():
            at = np.argwhere(wrong)[0].tolist()
            raise ArgumentError(
                op,
                f"label {y[tuple(at)]} of example {at[0]} is outside of 0 to 1",
                fix="use SparseCategoricalCrossentropy for more than two classes",
            )
        if self.label_smoothing:
            y = y * np.float32(1.0 - self.label_smoothing) + np.float32(0.5 * self.label_smoothing)
        return y

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """The mean over outputs"""
        if from_logits:
            each = F.binary_cross_entropy_with_logits(p, y, reduction="none")
        else:
            p = clamp(p, EPSILON, 1.0 - EPSILON)
            each = -(y * log(p) + (1.0 - y) * log(1.0 - p))
        return each.mean(-1) if each.ndim > 1 else each


class MeanSquaredError(Loss):
    """(y - p)^2, averaged over the outputs of an example."""

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = "mean_squared_error"
    ) -> None:
        super().__init__(reduction, name)

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """The mean over outputs"""
        each = square(y - p)
        return each.mean(-1) if each.ndim > 1 else each


class MeanAbsoluteError(Loss):
    """|y - p|, averaged over the outputs of an example."""

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = "mean_absolute_error"
    ) -> None:
        super().__init__(reduction, name)

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """The mean over outputs"""
        each = (y - p).abs()
        return each.mean(-1) if each.ndim > 1 else each


class _Simple(Loss):
    """A loss of numbers whose `each` is the mean over the outputs of `error`."""

    default = ""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        super().__init__(reduction, self.default if name is None else name)

    def error(self, y: Tensor, p: Tensor) -> Tensor:
        """The loss of each output."""
        raise ArgumentError(type(self).__name__, "error is not defined", fix="define error(self, y, p)")

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """The mean over outputs"""
        each = self.error(y, p)
        return each.mean(-1) if each.ndim > 1 else each


class MeanAbsolutePercentageError(_Simple):
    """100 |y - p| / max(|y|, 1e-7)."""

    default = "mean_absolute_percentage_error"

    def error(self, y: Tensor, p: Tensor) -> Tensor:
        """Of each output"""
        return ((y - p) / clamp(y.abs(), EPSILON)).abs() * 100.0


class MeanSquaredLogarithmicError(_Simple):
    """(log(1 + y) - log(1 + p))^2; numbers below 1e-7 count as 1e-7."""

    default = "mean_squared_logarithmic_error"

    def error(self, y: Tensor, p: Tensor) -> Tensor:
        """Of each output"""
        return square(log(clamp(y, EPSILON) + 1.0) - log(clamp(p, EPSILON) + 1.0))


class LogCosh(_Simple):
    """log cosh(p - y), which is x + log(1 + exp(-2 x)) - log 2: no overflow."""

    default = "log_cosh"

    def error(self, y: Tensor, p: Tensor) -> Tensor:
        """Of each output"""
        x = p - y
        return x + F.softplus(x * -2.0) - float(np.log(2.0))


class Poisson(_Simple):
    """p - y log(p + 1e-7), for counts y whose expectation is p."""

    default = "poisson"

    def error(self, y: Tensor, p: Tensor) -> Tensor:
        """Of each output"""
        return p - y * log(p + EPSILON)


class Huber(_Simple):
    """d^2 / 2 where d = |y - p| is at most delta, delta (d - delta / 2) elsewhere."""

    default = "huber_loss"

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "huber_loss",
    ) -> None:
        super().__init__(reduction, name)
        if delta <= 0:
            raise ArgumentError("Huber", f"delta is {delta!r}", fix="it must be positive")
        self.delta = float(delta)

    def error(self, y: Tensor, p: Tensor) -> Tensor:
        """Of each output"""
        return F.huber_loss(p, y, reduction="none", delta=self.delta)


class _Signed(_Simple):
    """Losses of labels -1 and 1; labels 0 and 1 are made these."""

    def labels(self, op: str, y: Array, shape: Shape) -> Array:
        """-1 or 1 in the shape of the predictions."""
        y = super().labels(op, y, shape)
        known = (y == -1.0) | (y == 0.0) | (y == 1.0)
        if not known.all():
            raise ArgumentError(op, f"the label {y[~known].flat[0]:g}", fix="labels are -1 and 1, or 0 and 1")
        return y if (y == -1.0).any() else 2.0 * y - 1.0


class Hinge(_Signed):
    """max(0, 1 - y p), for labels -1 and 1 (or 0 and 1)."""

    default = "hinge"

    def error(self, y: Tensor, p: Tensor) -> Tensor:
        """Of each output"""
        return F.relu(1.0 - y * p)


class SquaredHinge(_Signed):
    """max(0, 1 - y p)^2, for labels -1 and 1 (or 0 and 1)."""

    default = "squared_hinge"

    def error(self, y: Tensor, p: Tensor) -> Tensor:
        """Of each output"""
        return square(F.relu(1.0 - y * p))


class CategoricalHinge(_Simple):
    """max(0, 1 + the largest score of a wrong class - the score of the right one), for one-hot y."""

    default = "categorical_hinge"

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """Of each example"""
        return F.relu(((1.0 - y) * p).amax(-1) - (y * p).sum(-1) + 1.0)


class KLDivergence(_Simple):
    """sum y log(y / p) for probabilities, both limited to [1e-7, 1]."""

    default = "kl_divergence"
    activation = staticmethod(activations.softmax)

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """Of each example; from logits, where `fit` has them, without rounding"""
        y = clamp(y, EPSILON, 1.0)
        log_p = log_softmax(p, -1) if from_logits else log(clamp(p, EPSILON, 1.0))
        return (y * (log(y) - log_p)).sum(-1)


class CosineSimilarity(Loss):
    """-(the cosine of the angle between y and p), along `axis`: -1 is best."""

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "cosine_similarity",
    ) -> None:
        super().__init__(reduction, name)
        self.axis = axis

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """Of each vector"""
        return -(F.normalize(y, dim=self.axis, eps=1e-6) * F.normalize(p, dim=self.axis, eps=1e-6)).sum(
            self.axis
        )


class BinaryFocalCrossentropy(BinaryCrossentropy):
    """Binary cross-entropy times (1 - the probability of what is true)^gamma (Lin et al. 2017).

    apply_class_balancing: times alpha for labels 1 and 1 - alpha for labels 0, too.
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_focal_crossentropy",
    ) -> None:
        super().__init__(from_logits, label_smoothing, reduction, name)
        self.apply_class_balancing, self.alpha, self.gamma = bool(apply_class_balancing), alpha, gamma

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """The mean over outputs"""
        if from_logits:
            each, p = F.binary_cross_entropy_with_logits(p, y, reduction="none"), p.sigmoid()
        else:
            p = clamp(p, EPSILON, 1.0 - EPSILON)
            each = -(y * log(p) + (1.0 - y) * log(1.0 - p))
        each = each * (1.0 - (y * p + (1.0 - y) * (1.0 - p))) ** self.gamma
        if self.apply_class_balancing:
            each = each * (y * self.alpha + (1.0 - y) * (1.0 - self.alpha))
        return each.mean(-1) if each.ndim > 1 else each


class CategoricalFocalCrossentropy(CategoricalCrossentropy):
    """-sum(alpha (1 - p)^gamma y log p) (Lin et al. 2017)."""

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_focal_crossentropy",
    ) -> None:
        super().__init__(from_logits, label_smoothing, reduction, name)
        self.alpha, self.gamma = alpha, gamma

    def value(self, y: Tensor, p: Tensor, from_logits: bool, weights: Tensor | None) -> Tensor:
        """The loss of a batch."""
        return self.reduce(self.each(y, p, from_logits), weights)

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """Of each example"""
        log_p = self._log(p, from_logits)
        return -(y * log_p * (1.0 - exp(log_p)) ** self.gamma).sum(-1) * self.alpha


class Dice(Loss):
    """1 - 2 sum(y p) / (sum y + sum p), over all elements of the batch together."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "dice") -> None:
        super().__init__(reduction, name)

    def value(self, y: Tensor, p: Tensor, from_logits: bool, weights: Tensor | None) -> Tensor:
        """The loss of a batch.  Raises ArgumentError for weights, which have no place in it."""
        if weights is not None:
            raise ArgumentError("Dice", "weights of examples", fix="leave sample_weight and class_weight out")
        return 1.0 - ((y * p).sum() * 2.0 + EPSILON) / (y.sum() + p.sum() + EPSILON)


class FunctionLoss(Loss):
    """A loss from a function `f(y_true, y_pred)` of tensors, giving one value an example or a scalar."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(name=getattr(function, "__name__", "loss"))
        self.function = function

    def labels(self, op: str, y: Array, shape: Shape) -> Array:
        """Whatever the function takes."""
        return y if y.dtype.kind in "iub" else as_float(op, "y", y)

    def each(self, y: Tensor, p: Tensor, from_logits: bool) -> Tensor:
        """The function"""
        return self.function(y, p)


def _share(loss: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ArgumentError(loss, f"label_smoothing is {value!r}", fix="choose it from 0 to 1")
    return float(value)


LOSSES: dict[str, type[Loss]] = {
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "mean_absolute_percentage_error": MeanAbsolutePercentageError,
    "mape": MeanAbsolutePercentageError,
    "mean_squared_logarithmic_error": MeanSquaredLogarithmicError,
    "msle": MeanSquaredLogarithmicError,
    "huber": Huber,
    "huber_loss": Huber,
    "log_cosh": LogCosh,
    "logcosh": LogCosh,
    "poisson": Poisson,
    "hinge": Hinge,
    "squared_hinge": SquaredHinge,
    "categorical_hinge": CategoricalHinge,
    "kl_divergence": KLDivergence,
    "kld": KLDivergence,
    "cosine_similarity": CosineSimilarity,
    "binary_focal_crossentropy": BinaryFocalCrossentropy,
    "categorical_focal_crossentropy": CategoricalFocalCrossentropy,
    "dice": Dice,
}
#: By the names of their classes, too, in any case: "MeanSquaredError".
LOSSES |= {kind.__name__.lower(): kind for kind in LOSSES.values()}


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0
) -> Tensor:
    """`CategoricalCrossentropy` of each example."""
    return CategoricalCrossentropy(from_logits, label_smoothing, "none")(y_true, y_pred)


def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Tensor:
    """`SparseCategoricalCrossentropy` of each example."""
    return SparseCategoricalCrossentropy(from_logits, "none")(y_true, y_pred)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0
) -> Tensor:
    """`BinaryCrossentropy` of each example."""
    return BinaryCrossentropy(from_logits, label_smoothing, "none")(y_true, y_pred)


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """`MeanSquaredError` of each example."""
    return MeanSquaredError("none")(y_true, y_pred)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """`MeanAbsoluteError` of each example."""
    return MeanAbsoluteError("none")(y_true, y_pred)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """`MeanAbsolutePercentageError` of each example."""
    return MeanAbsolutePercentageError("none")(y_true, y_pred)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Tensor:
    """`MeanSquaredLogarithmicError` of each example."""
    return MeanSquaredLogarithmicError("none")(y_true, y_pred)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """`Huber` of each example."""
    return Huber(delta, "none")(y_true, y_pred)


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """`KLDivergence` of each example."""
    return KLDivergence("none")(y_true, y_pred)


def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """`LogCosh` of each example."""
    return LogCosh("none")(y_true, y_pred)


def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """`Poisson` of each example."""
    return Poisson("none")(y_true, y_pred)


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """`Hinge` of each example."""
    return Hinge("none")(y_true, y_pred)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """`CosineSimilarity` of each vector."""
    return CosineSimilarity(axis, "none")(y_true, y_pred)


def get(loss: Any) -> Loss:
    """The loss of this name with its defaults, the one that was given, or one made from a function."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type):
        raise ArgumentError(
            "compile", f"the loss is the class {loss.__name__}", fix=f"call it: {loss.__name__}()"
        )
    return FunctionLoss(loss) if callable(loss) else pick("loss", loss, LOSSES)()
