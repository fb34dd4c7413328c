"""Losses as functions, under the names of `torch.nn.functional`.

All reduce by "mean", "sum" or "none".  The cross entropy of classes is

    loss_i = -w[t_i] log softmax(x_i)[t_i],       mean = sum loss_i / sum w[t_i]

where rows with the target `ignore_index` have w = 0.  With label smoothing e, the target is
(1 - e) of its class and e / C of every class (Szegedy et al. 2016, arXiv 1512.00567).  Of two
outcomes, from a logit x, with log sigmoid(x) = min(x, 0) - log(1 + exp(-|x|)):

    loss = (1 - t) x - (1 + (p - 1) t) log sigmoid(x)

    >>> import minigrad as mg
    >>> logits = mg.tensor([[2.0, 0.0], [0.0, 1.0]], requires_grad=True)
    >>> loss = cross_entropy(logits, mg.tensor([0, 1]))
    >>> round(loss.item(), 4)
    0.2201

Input and target must have exactly the shapes that a loss asks for.  A prediction of shape (n, 1)
against a target of shape (n,) would broadcast to (n, n), compare everything with everything and
train to nothing; here it is an error that says how to reshape:

    >>> mse_loss(mg.zeros(3, 1), mg.zeros(3))
    Traceback (most recent call last):
        ...
    minigrad.errors.ShapeError: mse_loss: an input of shape (3, 1) and a target of shape (3,) ...

What is legal but hardly meant is a warning, once a place: a softmax before a cross entropy, which has
its own; logits where log-probabilities are expected; a loss that is NaN, and why.  Inside a trace there
are no values, so only what the tape knows (the softmax) is noticed there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...bind import floating, promoted
from ...errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, notice
from ...ir import Shape, broadcast_shapes, is_float
from ...mode import current
from ...ops import nn as ops
from ...ops.ctc import ctc
from ...ops.elementwise import abs as abs_
from ...ops.elementwise import cast, clamp, exp, log, logical_not, maximum, minimum, sqrt, square, where
from ...ops.indexing import _index_select, one_hot
from ...ops.movement import _reshape, unsqueeze
from ...ops.nn import log_softmax, logsigmoid
from ...ops.reduction import mean as mean_
from ...ops.reduction import sum as sum_
from ...tensor import Tensor, wrap
from .shapes import pairwise_distance

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


# -- losses: shared --------------------------------------------------------------------------------


def reduction_of(op: str, reduction: str, size_average: Any, reduce: Any, more: tuple[str, ...] = ()) -> str:
    """The reduction that is asked for, also in the words of old programs."""
    if size_average is not None or reduce is not None:
        if reduce is not None and not reduce:
            return "none"
        return "mean" if size_average is None or size_average else "sum"
    known = ("mean", "sum", "none", *more)
    if reduction not in known:
        raise ArgumentError(op, f"reduction is {reduction!r}", fix=f"use one of {', '.join(known)}")
    return reduction


def _reduced(op: str, loss: Tensor, reduction: str, *given: Tensor) -> Tensor:
    """The mean, the sum, or all of them.  A NaN that comes of it is warned of, once a place."""
    if reduction == "none":
        return loss
    return _noticed(op, mean_(loss) if reduction == "mean" else sum_(loss), *given)


def _noticed(op: str, y: Tensor, *given: Tensor) -> Tensor:
    """A scalar loss, looked at where it has a value (not in a trace)."""
    value = y._array
    if type(value) is np.ndarray and value != value:
        names = ("the input", "the target", "a weight")
        bad = [name for name, t in zip(names, given, strict=False) if np.isnan(_known(t)).any()]
        if bad:
            problem = f"the loss is NaN because {bad[0]} has a NaN"
            fix = "clean the data"
            if bad[0] == names[0]:
                fix = "lower the learning rate, or find its origin with autograd.detect_anomaly()"
        else:
            problem = "the loss is NaN"
            fix = "look for an infinity in its input, or for a batch in which nothing counts"
        notice(op, problem, fix)
    return y


def _matched(op: str, input: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Input and target in one floating dtype.  Raises ShapeError unless their shapes are equal."""
    x, t = promoted(op, input, target)
    if x.shape != t.shape:
        same = x.numel() == t.numel()
        raise ShapeError(
            op,
            f"an input of shape {x.shape} and a target of shape {t.shape}",
            fix=f"write target.reshape({', '.join(map(str, x.shape))})"
            if same
            else "give a target for every element of the input",
        )
    return floating(x), floating(t)


def _weighted(op: str, loss: Tensor, weight: Tensor | None, reduction: str, *given: Tensor) -> Tensor:
    """The reduction of losses with a weight for every element; the mean divides by their sum."""
    if weight is None:
        return _reduced(op, loss, reduction, *given)
    _check_weight(op, weight, loss)
    total: Tensor = _reduced(op, loss * weight, "sum" if reduction == "mean" else reduction, *given)
    return total / sum_(weight) if reduction == "mean" else total


def _check_weight(op: str, weight: Tensor, loss: Tensor) -> None:
    if weight.shape != loss.shape:
        raise ShapeError(
            op,
            f"a weight of shape {weight.shape} for an input of shape {loss.shape}",
            fix="give each element of the loss one weight",
        )


def _scaled(op: str, loss: Tensor, weight: Tensor | None) -> Tensor:
    """Losses times a weight that broadcasts to them."""
    if weight is None:
        return loss
    _check_broadcast(op, "weight", weight, loss.shape)
    y: Tensor = loss * weight
    return y


def _check_broadcast(op: str, name: str, weight: Tensor, shape: Shape) -> None:
    try:
        fits = broadcast_shapes(weight.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            op,
            f"a {name} of shape {weight.shape} does not broadcast to the input's {shape}",
            fix="make its sizes equal or 1",
        )


def _known(t: Tensor) -> Any:
    """The array, None inside a trace."""
    return None if current().trace is not None else t._array


# -- losses of numbers -----------------------------------------------------------------------------


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)^2, reduced.  Raises ShapeError unless the shapes are equal."""
    how = reduction_of("mse_loss", reduction, size_average, reduce)
    x, t = _matched("mse_loss", input, target)
    return _weighted("mse_loss", square(x - t), weight, how, x, t)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|, reduced.  Raises ShapeError unless the shapes are equal."""
    how = reduction_of("l1_loss", reduction, size_average, reduce)
    x, t = _matched("l1_loss", input, target)
    return _weighted("l1_loss", abs_(x - t), weight, how, x, t)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where d = |input - target| is below beta, d - beta / 2 elsewhere (arXiv 1504.08083)."""
    how = reduction_of("smooth_l1_loss", reduction, size_average, reduce)
    if beta < 0:
        raise ArgumentError("smooth_l1_loss", f"beta is {beta}", fix="it must not be negative")
    x, t = _matched("smooth_l1_loss", input, target)
    d = abs_(x - t)
    loss = where(d < beta, square(d) * (0.5 / beta), d - 0.5 * beta) if beta else d
    return _reduced("smooth_l1_loss", loss, how, x, t)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 where d = |input - target| is at most delta, delta * (d - delta / 2) elsewhere (Huber 1964)."""
    how = reduction_of("huber_loss", reduction, None, None)
    if delta <= 0:
        raise ArgumentError("huber_loss", f"delta is {delta}", fix="it must be positive")
    x, t = _matched("huber_loss", input, target)
    d = abs_(x - t)
    loss = where(d <= delta, square(d) * 0.5, (d - 0.5 * delta) * delta)
    if weight is not None:  # unlike the two above, the mean is over the elements
        _check_weight("huber_loss", weight, loss)
        loss = loss * weight
    return _reduced("huber_loss", loss, how, x, t)


# -- losses of classes -----------------------------------------------------------------------------


def _class_dim(op: str, x: Tensor) -> int:
    if not x.ndim:
        raise ShapeError(op, "an input of shape ()", fix="it must be (classes) or (batch, classes, ...)")
    return 0 if x.ndim == 1 else 1


def _check_labels(op: str, x: Tensor, target: Any, dim: int) -> Tensor:
    """Class labels as an integer tensor of the shape that fits the input."""
    expected = (*x.shape[:dim], *x.shape[dim + 1 :])
    labels: Tensor = target if isinstance(target, Tensor) else Tensor(target)
    if labels.dtype.kind not in "iu":
        raise DTypeError(
            op, f"class labels of dtype {labels.dtype} and shape {labels.shape}", fix="use .long()"
        )
    if labels.shape != expected:
        fix = f"there must be one label for each place, of shape {expected}"
        if math.prod(labels.shape) == math.prod(expected):
            fix = f"write target.reshape({', '.join(map(str, expected))})"
        raise ShapeError(op, f"an input of shape {x.shape} and class labels of shape {labels.shape}", fix=fix)
    return labels


def _class_weight(op: str, weight: Any, x: Tensor, dim: int) -> Tensor:
    if not isinstance(weight, Tensor) or weight.shape != (x.shape[dim],):
        shape = getattr(weight, "shape", type(weight).__name__)
        raise ShapeError(op, f"a weight of shape {shape} for {x.shape[dim]} classes", fix="give one a class")
    return cast(weight, x.dtype)


def _ignored(target: Tensor, ignore_index: int) -> Tensor | None:
    """Where the label is ignore_index; None if it is known to be nowhere."""
    labels = _known(target)
    if labels is not None and not (labels == ignore_index).any():
        return None
    mask: Tensor = target == int(ignore_index)
    return mask


def _each(op: str, logp: Tensor, labels: Tensor, dim: int, logits: bool) -> Tensor:
    """The loss of each label."""
    try:
        return ops.softmax_cross_entropy(logp, labels) if logits else -ops.pick(logp, labels, dim)
    except OutOfRangeError as error:  # named after what the user called
        raise OutOfRangeError(op, error.problem, fix=error.fix) from None


def _nll(
    op: str,
    logp: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    how: str,
    smooth: float,
    logits: bool = False,
) -> Tensor:
    """The negative log-likelihood of labels, mixed with that of all classes in the proportion `smooth`.

    logits: `logp` are logits (N, C) instead, and there is no smoothing.
    """
    dim = _class_dim(op, logp)
    labels = _check_labels(op, logp, target, dim)
    mask = _ignored(labels, ignore_index)
    if mask is not None:
        labels = where(mask, Tensor(0, labels.dtype), labels)
    loss = _each(op, logp, labels, dim, logits)
    if op == "nll_loss":
        values = _known(loss)
        if values is not None and values.size and values.min() < 0:
            notice(
                op,
                "the input is positive where log-probabilities, at most 0, are expected",
                "apply log_softmax first, or give the logits to cross_entropy",
            )
    counts = None  # what each place counts in the mean; None: all the same
    if weight is not None:
        counts = _reshape(_index_select(weight, labels, 0), labels.shape)
        loss = loss * counts
    if smooth:
        classes = logp.shape[dim]
        scaled = logp
        if weight is not None:
            scaled = logp * _reshape(weight, (classes, *(1,) * (logp.ndim - 1 - dim)))
        loss = loss * (1.0 - smooth) - sum_(scaled, dim) * (smooth / classes)
    if mask is not None:
        loss = where(mask, 0.0, loss)
        counts = where(mask, 0.0, counts) if counts is not None else cast(logical_not(mask), loss.dtype)
    if how == "mean" and counts is not None:
        total: Tensor = sum_(loss) / sum_(counts)
        return _noticed(op, total, logp)
    return _reduced(op, loss, how, logp)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input[target], for log-probabilities (N, C, ...) or (C) and labels (N, ...) or ().

    weight: one number a class; the mean is that over the weights.  Labels equal to ignore_index do
    not count.  Raises OutOfRangeError for any other label that is no class.
    """
    op = "nll_loss"
    how = reduction_of(op, reduction, size_average, reduce)
    x = floating(input)
    dim = _class_dim(op, x)
    w = None if weight is None else _class_weight(op, weight, x, dim)
    return _nll(op, x, target, w, ignore_index, how, 0.0)


def _no_softmax_before(op: str, x: Tensor) -> None:
    """Warn of logits that are the result of a softmax or a sigmoid: the loss has its own."""
    node = x._node
    while node is not None and node.inputs and node.op.view:
        node = node.inputs[0]
    if node is None or not node.inputs or node.op.name not in ("softmax", "sigmoid"):
        return
    notice(
        op,
        f"the input is the result of a {node.op.name}, but the loss applies "
        f"{'softmax' if op == 'cross_entropy' else 'sigmoid'} itself",
        f"give it the logits, leaving out the {node.op.name} at the end of the model",
    )


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The cross entropy of logits (N, C, ...) or (C) with class labels, or with probabilities.

    target: integers of shape (N, ...), or floats of the shape of the input, which are probabilities.
    weight, ignore_index: as in `nll_loss`.  label_smoothing: the part of the target that is spread
    over all classes.  Raises OutOfRangeError for a label that is no class, ShapeError and DTypeError
    for a target that is neither.
    """
    op = "cross_entropy"
    how = reduction_of(op, reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ArgumentError(op, f"label_smoothing is {label_smoothing}", fix="pass a number from 0 to 1")
    if not isinstance(target, Tensor):
        target = Tensor(target)
    x = floating(input)
    _no_softmax_before(op, x)
    dim = _class_dim(op, x)
    w = None if weight is None else _class_weight(op, weight, x, dim)
    if target.shape != x.shape:
        if is_float(target.dtype) and target.shape != (*x.shape[:dim], *x.shape[dim + 1 :]):
            raise ShapeError(
                op,
                f"an input of shape {x.shape} and a float target of shape {target.shape}",
                fix="probabilities have the shape of the input; labels are integers",
            )
        if x.ndim == 2 and not label_smoothing:
            return _nll(op, x, target, w, ignore_index, how, 0.0, logits=True)
        return _nll(op, log_softmax(x, dim), target, w, ignore_index, how, float(label_smoothing))
    if not is_float(target.dtype):
        raise DTypeError(
            op,
            f"a {target.dtype} target of shape {target.shape}, that of the input",
            fix="probabilities are floats, .float(); labels have no dimension of classes",
        )
    classes = x.shape[dim]
    t = cast(target, x.dtype)
    if label_smoothing:
        t = t * (1.0 - label_smoothing) + label_smoothing / classes
    if w is not None:
        t = t * _reshape(w, (classes, *(1,) * (x.ndim - 1 - dim)))
    loss = -sum_(log_softmax(x, dim) * t, dim)
    if how == "mean":  # over the places, whatever the weights
        return _noticed(op, sum_(loss) / max(math.prod(loss.shape), 1), x, t)
    return _reduced(op, loss, how, x, t)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)) for probabilities, logarithms at least -100.

    Raises ArgumentError for an input outside of [0, 1], ShapeError unless the shapes are equal.
    """
    op = "binary_cross_entropy"
    how = reduction_of(op, reduction, size_average, reduce)
    x, t = _matched(op, input, target)
    values = _known(x)
    if values is not None and values.size and (values.min() < 0 or values.max() > 1):
        bad = values[(values < 0) | (values > 1)].flat[0]
        raise ArgumentError(
            op,
            f"the input {bad:g} is no probability",
            fix="apply sigmoid first, or use binary_cross_entropy_with_logits",
        )
    return _reduced(op, _scaled(op, ops._binary_cross_entropy(x, t), weight), how, x, t)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), computed without overflow.

    pos_weight multiplies the loss of positive targets, weight that of all; both broadcast.
    Raises ShapeError unless input and target have one shape.
    """
    op = "binary_cross_entropy_with_logits"
    how = reduction_of(op, reduction, size_average, reduce)
    x, t = _matched(op, input, target)
    _no_softmax_before(op, x)
    log_p = logsigmoid(x)
    if pos_weight is None:
        loss = (1.0 - t) * x - log_p
    else:
        _check_broadcast(op, "pos_weight", pos_weight, x.shape)
        loss = (1.0 - t) * x - ((pos_weight - 1.0) * t + 1.0) * log_p
    return _reduced(op, _scaled(op, loss, weight), how, x, t)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target * (log(target) - input) for log-probabilities `input`; 0 where the target is 0.

    reduction "batchmean" divides the sum by the first size, which gives the divergence proper; "mean"
    divides by the number of elements.  log_target: the target is given as log-probabilities too.
    """
    op = "kl_div"
    how = reduction_of(op, reduction, size_average, reduce, ("batchmean",))
    x, t = _matched(op, input, target)
    values = _known(x)
    if values is not None and values.size and values.max() > 1e-3:
        notice(
            op,
            "the input is positive where log-probabilities, at most 0, are expected",
            "apply log_softmax first",
        )
    if log_target:
        loss = exp(t) * (t - x)
    else:
        loss = t * log(where(t == 0.0, 1.0, t)) - t * x
    if how == "batchmean":
        total: Tensor = sum_(loss) / (x.shape[0] if x.ndim else 1)
        return _noticed(op, total, x, t)
    return _reduced(op, loss, how, x, t)


# -- losses of distances and margins -----------------------------------------------------------------


def _signs(op: str, target: Tensor) -> None:
    """Raise ArgumentError if a target that must be 1 or -1 is anything else."""
    values = _known(target)
    if values is not None and values.size and not (np.abs(values) == 1).all():
        bad = values[np.abs(values) != 1].flat[0]
        raise ArgumentError(op, f"the target {bad:g} is neither 1 nor -1", fix="say 1 for alike, -1 for not")


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos for pairs that are alike (target 1), max(0, cos - margin) for those that are not (-1).

    Inputs (n, d) with targets (n), or (d) with a target ().  Raises ShapeError and ArgumentError otherwise.
    """
    op = "cosine_embedding_loss"
    how = reduction_of(op, reduction, size_average, reduce)
    a, b = _matched(op, input1, input2)
    if a.ndim not in (1, 2) or target.shape != a.shape[:-1]:
        raise ShapeError(
            op,
            f"inputs of shape {a.shape} and a target of shape {target.shape}",
            fix="they are (n, d) and (n), or (d) and ()",
        )
    _signs(op, target)
    tiny = 1e-12  # torch's guard against vectors of length 0
    cos = sum_(a * b, -1) / sqrt((sum_(square(a), -1) + tiny) * (sum_(square(b), -1) + tiny))
    return _reduced(op, where(target == 1, 1.0 - cos, clamp(cos - margin, min=0.0)), how, a, b)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The distance x itself where the target is 1, max(0, margin - x) where it is -1."""
    op = "hinge_embedding_loss"
    how = reduction_of(op, reduction, size_average, reduce)
    x, t = _matched(op, input, target)
    _signs(op, t)
    return _reduced(op, where(t == 1.0, x, clamp(margin - x, min=0.0)), how, x, t)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - target * (input1 - input2)): target 1 if the first shall rank higher, else -1."""
    op = "margin_ranking_loss"
    how = reduction_of(op, reduction, size_average, reduce)
    a, b = _matched(op, input1, input2)
    a, t = _matched(op, a, target)
    _signs(op, t)
    return _reduced(op, clamp(margin - t * (a - b), min=0.0), how, a, b)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)), d being the p-norm of the difference.

    swap: the negative's distance is the smaller of those from anchor and positive (Balntas et al. 2016).
    """
    how = reduction_of("triplet_margin_loss", reduction, size_average, reduce)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, float(p), eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, how)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with a distance of one's own, the Euclidean one by default."""
    op = "triplet_margin_with_distance_loss"
    how = reduction_of(op, reduction, None, None)
    return _triplet(op, anchor, positive, negative, distance_function or pairwise_distance, margin, swap, how)


def _triplet(
    op: str,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
    how: str,
) -> Tensor:
    if margin <= 0:
        raise ArgumentError(op, f"margin is {margin}", fix="it must be positive")
    a, b = _matched(op, anchor, positive)
    a, c = _matched(op, a, negative)
    far = distance(a, c)
    if swap:
        far = minimum(far, distance(b, c))
    return _reduced(op, clamp(distance(a, b) - far + margin, min=0.0), how, a, b)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-target * input)), for targets 1 and -1."""
    op = "soft_margin_loss"
    how = reduction_of(op, reduction, size_average, reduce)
    x, t = _matched(op, input, target)
    _signs(op, t)
    return _reduced(op, -logsigmoid(t * x), how, x, t)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`binary_cross_entropy_with_logits` averaged over the classes, the last dimension, first."""
    op = "multilabel_soft_margin_loss"
    how = reduction_of(op, reduction, size_average, reduce)
    x, t = _matched(op, input, target)
    loss = _scaled(op, -(t * logsigmoid(x) + (1.0 - t) * logsigmoid(-x)), weight)
    return _reduced(op, mean_(loss, -1), how, x, t)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum over the other classes j of w[t] * max(0, margin - x[t] + x[j])^p, divided by their number C."""
    op = "multi_margin_loss"
    how = reduction_of(op, reduction, size_average, reduce)
    if p not in (1, 2):
        raise ArgumentError(op, f"p is {p!r}", fix="use 1 or 2")
    x = floating(input)
    if x.ndim not in (1, 2):
        raise ShapeError(op, f"an input of shape {x.shape}", fix="it must be (classes) or (batch, classes)")
    single = x.ndim == 1
    x = unsqueeze(x, 0) if single else x
    labels = _check_labels(op, x, unsqueeze(target, 0) if single and target.ndim == 0 else target, 1)
    classes = x.shape[1]
    own = -_each(op, x, labels, 1, False)
    z = clamp(margin - unsqueeze(own, 1) + x, min=0.0)
    z = square(z) if p == 2 else z
    if weight is not None:
        counts = _index_select(_class_weight(op, weight, x, 1), labels, 0)
        z = z * unsqueeze(counts, 1)
    loss = sum_(where(one_hot(labels, classes) == 1, 0.0, z), 1) * (1.0 / classes)
    return _reduced(op, _reshape(loss, ()) if single else loss, how, x)


# -- losses of counts, of uncertain numbers, of sequences ---------------------------------------------


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(x) - t x for a count t whose expectation is exp(x); x - t log(x + eps) with log_input=False.

    full: with Stirling's t log t - t + log(2 pi t) / 2 for log t!, where t > 1.
    """
    op = "poisson_nll_loss"
    how = reduction_of(op, reduction, size_average, reduce)
    x, t = _matched(op, input, target)
    loss = exp(x) - t * x if log_input else x - t * log(x + eps)
    if full:
        safe = where(t > 1.0, t, 1.0)
        loss = loss + where(t > 1.0, t * log(safe) - t + 0.5 * log(safe * (2.0 * math.pi)), 0.0)
    return _reduced(op, loss, how, x, t)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log v + (input - target)^2 / v) / 2 with v = max(var, eps), a predicted variance.

    var: of the shape of the input, or with 1 as or without its last size, or a number.  As in torch the
    gradient passes through the limit.  full: with the constant log(2 pi) / 2.  Raises ArgumentError for a
    negative variance.
    """
    op = "gaussian_nll_loss"
    how = reduction_of(op, reduction, None, None)
    x, t = _matched(op, input, target)
    if eps <= 0:
        raise ArgumentError(op, f"eps is {eps}", fix="it must be positive")
    v: Tensor = var if isinstance(var, Tensor) else Tensor(float(var), x.dtype)
    if v.shape != x.shape and v.ndim:
        if v.shape == x.shape[:-1]:
            v = unsqueeze(v, -1)
        elif v.shape != (*x.shape[:-1], 1):
            raise ShapeError(
                op,
                f"a variance of shape {v.shape} for an input of {x.shape}",
                fix="give one an element or a row",
            )
    values = _known(v)
    if values is not None and (values < 0).any():
        raise ArgumentError(
            op, "a variance is negative", fix="predict its logarithm and use exp, or softplus"
        )
    v = v + (maximum(v.detach(), eps) - v.detach())
    loss = 0.5 * (log(v) + square(x - t) / v)
    if full:
        loss = loss + 0.5 * math.log(2.0 * math.pi)
    return _reduced(op, loss, how, x, t)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of a label sequence, whatever its alignment (see `minigrad.ops.ctc`).

    log_probs (time, batch, classes), or (time, classes) for one sequence; targets (batch, longest), or all
    of them end to end in one dimension; lengths: tensors or sequences of integers.  "mean" divides each
    loss by its target's length (at least 1) and averages.  A target that is too long for its input is
    impossible: its loss is Inf, or 0 and without gradient with zero_infinity.

    Raises ShapeError for sizes that do not fit, OutOfRangeError for labels that are no class,
    ArgumentError for lengths beyond the data.
    """
    op = "ctc_loss"
    how = reduction_of(op, reduction, None, None)
    x = floating(log_probs)
    if x.ndim not in (2, 3):
        raise ShapeError(op, f"log_probs of shape {x.shape}", fix="they are (time, batch, classes)")
    single = x.ndim == 2
    x = unsqueeze(x, 1) if single else x
    _, batch, classes = x.shape
    if not 0 <= blank < classes:
        raise OutOfRangeError(op, f"blank {blank} of {classes} classes", fix=f"use 0 to {classes - 1}")
    inputs = _lengths(op, "input_lengths", input_lengths, batch)
    lengths = _lengths(op, "target_lengths", target_lengths, batch)
    labels = targets if isinstance(targets, Tensor) else Tensor(targets)
    if labels.dtype.kind not in "iu":
        raise DTypeError(op, f"targets of dtype {labels.dtype}", fix="use integers, .long()")
    labels = cast(labels, "int64")
    if labels.ndim == 1:
        labels = unsqueeze(labels, 0) if single else _rows(op, labels, lengths, blank)
    if labels.ndim != 2 or labels.shape[0] != batch:
        raise ShapeError(
            op,
            f"targets of shape {labels.shape} for a batch of {batch}",
            fix="they are (batch, longest target), or all end to end in one dimension",
        )
    try:
        loss = ctc(x, labels, inputs, lengths, int(blank))
    except (OutOfRangeError, ArgumentError) as error:  # named after what the user called
        raise type(error)(op, error.problem, fix=error.fix) from None
    if zero_infinity:
        loss = where(loss == math.inf, 0.0, loss)
    if how == "mean":
        return _noticed(op, mean_(loss / cast(maximum(lengths, 1), x.dtype)), x)
    return _reduced(op, _reshape(loss, ()) if single and how == "none" else loss, how, x)


def _lengths(op: str, name: str, value: Any, batch: int) -> Tensor:
    t = value if isinstance(value, Tensor) else Tensor(value)
    if t.dtype.kind not in "iu" or t.numel() != batch:
        raise ShapeError(
            op,
            f"{name} of shape {t.shape} and dtype {t.dtype} for a batch of {batch}",
            fix="give one integer a sequence",
        )
    return _reshape(cast(t, "int64"), (batch,))


def _rows(op: str, labels: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """Targets that are given end to end, as rows."""
    flat, counts = labels._concrete("ctc_loss with targets end to end"), lengths._concrete("ctc_loss")
    if counts.min(initial=0) < 0 or counts.sum() != len(flat):
        raise ShapeError(
            op,
            f"{len(flat)} targets for target_lengths that sum to {counts.sum()}",
            fix="the lengths must add up to the targets",
        )
    rows = np.full((len(counts), int(counts.max(initial=0))), blank, np.int64)
    rows[np.arange(rows.shape[1]) < counts[:, None]] = flat
    return wrap(rows)
