"""Networks as functions, under the names of `torch.nn.functional`.

The operations come from `minigrad.ops.nn` and `minigrad.ops.convolution`; what is here is composed
of them: linear maps, losses, distances, padding, attention.

**Losses.**  All reduce by "mean", "sum" or "none".  The cross entropy of classes is

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

Left out: sparse gradients, and softmax without a dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..bind import floating, promoted, write
from ..errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ..ir import Shape, broadcast_shapes, is_float
from ..mode import current
from ..ops import nn as ops
from ..ops.contraction import matmul, matmul_transposed
from ..ops.creation import ones
from ..ops.elementwise import (
    abs as abs_,
)
from ..ops.elementwise import (
    cast,
    clamp,
    exp,
    log,
    logical_not,
    pow,
    sigmoid,
    sqrt,
    square,
    tanh,
    where,
)
from ..ops.indexing import _index_select, one_hot
from ..ops.movement import (
    _reshape,
    broadcast_to,
    one_dim,
    pad_dim,
    slice_dim,
    split,
    squeeze,
    tril,
    unsqueeze,
)
from ..ops.nn import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
    batch_norm,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    dropout,
    dropout1d,
    dropout2d,
    elu,
    embedding,
    gelu,
    group_norm,
    instance_norm,
    layer_norm,
    leaky_relu,
    log_softmax,
    logsigmoid,
    max_pool1d,
    max_pool2d,
    rms_norm,
    silu,
    softmax,
    softmin,
    softplus,
)
from ..ops.reduction import amax, any_
from ..ops.reduction import mean as mean_
from ..ops.reduction import sum as sum_
from ..tensor import Tensor, wrap

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elu",
    "embedding",
    "gelu",
    "glu",
    "group_norm",
    "hardtanh",
    "huber_loss",
    "instance_norm",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "relu",
    "relu6",
    "rms_norm",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "tanh",
]

# -- activations -----------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0); NaN stays NaN.  The derivative at 0 is 0."""
    return write(input, ops.relu(input), "relu_") if inplace else ops.relu(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """The input limited to [min_val, max_val].  Raises ArgumentError if that is empty."""
    if min_val > max_val:
        raise ArgumentError("hardtanh", f"min_val {min_val} is above max_val {max_val}", fix="exchange them")
    y = clamp(input, min_val, max_val)
    return write(input, y, "hardtanh_") if inplace else y


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """The input limited to [0, 6]."""
    return hardtanh(input, 0.0, 6.0, inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale * elu(input, alpha), with the constants that keep mean 0 and variance 1 (arXiv 1706.02515)."""
    y = elu(input, 1.6732632423543772) * 1.0507009873554805
    return write(input, y, "selu_") if inplace else y


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * tanh(softplus(input)) (arXiv 1908.08681)."""
    y = input * tanh(softplus(input))
    return write(input, y, "mish_") if inplace else y


def softsign(input: Tensor) -> Tensor:
    """input / (1 + |input|)."""
    y: Tensor = input / (abs_(input) + 1.0)
    return y


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim` times the sigmoid of the second (arXiv 1612.08083)."""
    at = one_dim("glu", dim, input.ndim)
    size = input.shape[at] if input.ndim else 1
    if size % 2:
        raise ShapeError("glu", f"dim {dim} of shape {input.shape} cannot be halved", fix="use an even size")
    a, b = split(input, size // 2, at) if size else (input, input)
    y: Tensor = a * sigmoid(b)
    return y


# -- linear maps and attention ---------------------------------------------------------------------


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias, over the last dimension: weight (out, in), bias (out).

    Raises ShapeError if the last size of the input is not `in`.
    """
    if weight.ndim not in (1, 2):
        raise ShapeError("linear", f"a weight of shape {weight.shape}", fix="it must be (out, in)")
    if not input.ndim or input.shape[-1] != weight.shape[-1]:
        raise ShapeError(
            "linear",
            f"an input of shape {input.shape} and a weight of shape {weight.shape} do not fit",
            fix=f"the last size of the input must be {weight.shape[-1]}, the last size of the weight",
        )
    if bias is not None and bias.shape not in (weight.shape[:-1], ()):
        raise ShapeError(
            "linear",
            f"a bias of shape {bias.shape} where {weight.shape[:-1]} is needed",
            fix="make one bias an output",
        )
    if weight.ndim == 1:
        y = matmul(input, weight)
    elif input.ndim <= 2:
        y = matmul_transposed(input if input.ndim == 2 else unsqueeze(input, 0), weight)
        if input.ndim == 1:
            y = _reshape(y, weight.shape[:1])
    else:  # one large product instead of many small ones, also for the gradient of the weight
        flat = _reshape(input, (math.prod(input.shape[:-1]), input.shape[-1]))
        y = _reshape(matmul_transposed(flat, weight), (*input.shape[:-1], weight.shape[0]))
    if bias is not None:
        y = y + bias
    return y


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value, scale being 1 / sqrt(size) (Vaswani et al. 2017).

    query (..., L, E), key (..., S, E), value (..., S, F).  attn_mask: True where a query may look, or
    numbers to add; is_causal: only at earlier places.  A query that may look nowhere gives zeros.
    enable_gqa: fewer heads of key and value (dimension -3), each shared by several of the query.
    """
    op = "scaled_dot_product_attention"
    if min(query.ndim, key.ndim, value.ndim) < 2 or query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            op,
            f"query {query.shape}, key {key.shape} and value {value.shape} do not fit",
            fix="they are (..., length, size), with one size for query and key",
        )
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(op, f"{key.shape[-2]} keys and {value.shape[-2]} values", fix="give one value a key")
    if is_causal and attn_mask is not None:
        raise ArgumentError(op, "both attn_mask and is_causal are given", fix="pass one of them")
    if enable_gqa:
        key, value = _shared_heads(op, key, query), _shared_heads(op, value, query)
    scores = matmul_transposed(query, key) * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
    allowed = None
    if is_causal:
        allowed = tril(ones(scores.shape[-2:])) > 0.0
    elif attn_mask is not None and attn_mask.dtype.kind == "b":
        allowed = attn_mask
    elif attn_mask is not None:
        scores = scores + attn_mask
    if allowed is None:
        weights = softmax(scores, -1)
    else:  # a large negative number and not -Inf, for the sake of rows without any place
        weights = softmax(where(allowed, scores, -0.5 * float(np.finfo(scores.dtype).max)), -1)
        weights = where(any_(allowed, -1, True), weights, 0.0)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return matmul(weights, value)


def _shared_heads(op: str, x: Tensor, query: Tensor) -> Tensor:
    """Each head of key or value repeated for the heads of the query that share it."""
    if x.ndim < 3 or query.ndim < 3 or not x.shape[-3] or query.shape[-3] % x.shape[-3]:
        raise ShapeError(
            op,
            f"the heads of shape {query.shape} are no multiple of those of {x.shape}",
            fix="choose numbers of heads that divide",
        )
    *batch, heads, length, size = x.shape
    times = query.shape[-3] // heads
    y = broadcast_to(unsqueeze(x, -3), (*batch, heads, times, length, size))
    return _reshape(y, (*batch, heads * times, length, size))


# -- shapes, norms, distances ----------------------------------------------------------------------


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements added (or, if negative, removed) before and after dimensions, the last one first.

    pad: (left, right, top, bottom, ...).  mode: "constant" (of `value`, 0 by default), "reflect",
    "replicate" or "circular".  Raises ArgumentError for another mode or an odd number of sizes.
    """
    sizes = tuple(int(p) for p in pad)
    if len(sizes) % 2 or len(sizes) > 2 * input.ndim:
        raise ArgumentError(
            "pad",
            f"{len(sizes)} sizes for an input of shape {input.shape}",
            fix="give two for each dimension",
        )
    modes = {"constant": "", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode not in modes:
        raise ArgumentError("pad", f"mode is {mode!r}", fix=f"use one of {', '.join(modes)}")
    pairs = [(input.ndim - 1 - i // 2, sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)]
    for dim, before, after in pairs:
        if input.shape[dim] + min(before, 0) + min(after, 0) < 0:
            raise ArgumentError(
                "pad",
                f"sizes {(before, after)} remove more than dim {dim} of {input.shape} has",
                fix="remove less",
            )
    if mode != "constant":
        return _pad_by_index(input, pairs, mode, modes[mode])
    for dim, before, after in pairs:
        if before < 0 or after < 0:
            input = slice_dim(input, dim, max(-before, 0), input.shape[dim] - max(-after, 0))
    y = _pad_zeros(input, pairs)
    if not value:
        return y
    return where(cast(_pad_zeros(ones(input.shape), pairs), "bool"), y, Tensor(value, input.dtype))


def _pad_zeros(x: Tensor, pairs: list[tuple[int, int, int]]) -> Tensor:
    for dim, before, after in pairs:
        if before > 0 or after > 0:
            x = pad_dim(x, dim, max(before, 0), max(after, 0))
    return x


def _pad_by_index(x: Tensor, pairs: list[tuple[int, int, int]], mode: str, numpy_mode: Any) -> Tensor:
    """Padding by copies: the same look-up along each dimension."""
    for dim, before, after in pairs:
        size = x.shape[dim]
        limit = size - 1 if mode == "reflect" else size
        if size == 0 or (mode != "replicate" and max(before, after) > limit):
            raise ArgumentError(
                "pad",
                f"{mode} padding {(before, after)} of a size of {size}",
                fix=f"use at most {max(limit, 0)}",
            )
        places = np.pad(np.arange(size), (max(before, 0), max(after, 0)), numpy_mode)
        places = places[max(-before, 0) : len(places) - max(-after, 0)]
        x = _index_select(x, wrap(places.astype(np.int64)), dim)
    return x


def _limited_norm(x: Tensor, p: float, dim: Any, eps: float) -> Tensor:
    """max(eps, the p-norm over dim), with a gradient of 0 where the limit counts: also at zero."""
    if p == 2.0:
        return sqrt(clamp(sum_(square(x), dim, True), min=eps * eps))
    if p == 1.0:
        return clamp(sum_(abs_(x), dim, True), min=eps)
    if p == math.inf:
        return clamp(amax(abs_(x), dim, True), min=eps)
    if p <= 0.0:
        raise ArgumentError("normalize", f"p is {p}", fix="pass a positive number")
    least = max(eps**p, float(np.finfo(x.dtype).tiny))
    return clamp(pow(clamp(sum_(pow(abs_(x), p), dim, True), min=least), 1.0 / p), min=eps)


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    """The input divided by its p-norm along `dim`, or by eps where that is larger."""
    x = floating(input)
    y: Tensor = x / _limited_norm(x, float(p), dim, eps)
    return y


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along `dim`; norms count as at least eps."""
    a, b = (floating(x) for x in promoted("cosine_similarity", x1, x2))
    try:
        shape = broadcast_shapes(a.shape, b.shape)
    except ValueError as error:
        raise ShapeError(
            "cosine_similarity",
            f"shapes {a.shape} and {b.shape} do not broadcast: {error}",
            fix="make the sizes equal or 1",
        ) from None
    a, b = broadcast_to(a, shape), broadcast_to(b, shape)
    norms = _limited_norm(a, 2.0, dim, eps) * _limited_norm(b, 2.0, dim, eps)
    y: Tensor = sum_(a * b, dim) / squeeze(norms, dim)
    return y


# -- losses: shared --------------------------------------------------------------------------------


def _reduction(op: str, reduction: str, size_average: Any, reduce: Any, more: tuple[str, ...] = ()) -> str:
    """The reduction that is asked for, also in the words of old programs."""
    if size_average is not None or reduce is not None:
        if reduce is not None and not reduce:
            return "none"
        return "mean" if size_average is None or size_average else "sum"
    known = ("mean", "sum", "none", *more)
    if reduction not in known:
        raise ArgumentError(op, f"reduction is {reduction!r}", fix=f"use one of {', '.join(known)}")
    return reduction


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    return mean_(loss) if reduction == "mean" else sum_(loss) if reduction == "sum" else loss


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


def _weighted(op: str, loss: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """The reduction of losses with a weight for every element; the mean divides by their sum."""
    if weight is None:
        return _reduced(loss, reduction)
    _check_weight(op, weight, loss)
    total: Tensor = _reduced(loss * weight, "sum" if reduction == "mean" else reduction)
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
    how = _reduction("mse_loss", reduction, size_average, reduce)
    x, t = _matched("mse_loss", input, target)
    return _weighted("mse_loss", square(x - t), weight, how)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|, reduced.  Raises ShapeError unless the shapes are equal."""
    how = _reduction("l1_loss", reduction, size_average, reduce)
    x, t = _matched("l1_loss", input, target)
    return _weighted("l1_loss", abs_(x - t), weight, how)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where d = |input - target| is below beta, d - beta / 2 elsewhere (arXiv 1504.08083)."""
    how = _reduction("smooth_l1_loss", reduction, size_average, reduce)
    if beta < 0:
        raise ArgumentError("smooth_l1_loss", f"beta is {beta}", fix="it must not be negative")
    x, t = _matched("smooth_l1_loss", input, target)
    d = abs_(x - t)
    return _reduced(where(d < beta, square(d) * (0.5 / beta), d - 0.5 * beta) if beta else d, how)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 where d = |input - target| is at most delta, delta * (d - delta / 2) elsewhere (Huber 1964)."""
    how = _reduction("huber_loss", reduction, None, None)
    if delta <= 0:
        raise ArgumentError("huber_loss", f"delta is {delta}", fix="it must be positive")
    x, t = _matched("huber_loss", input, target)
    d = abs_(x - t)
    loss = where(d <= delta, square(d) * 0.5, (d - 0.5 * delta) * delta)
    if weight is not None:  # unlike the two above, the mean is over the elements
        _check_weight("huber_loss", weight, loss)
        loss = loss * weight
    return _reduced(loss, how)


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
        return total
    return _reduced(loss, how)


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
    how = _reduction(op, reduction, size_average, reduce)
    x = floating(input)
    dim = _class_dim(op, x)
    w = None if weight is None else _class_weight(op, weight, x, dim)
    return _nll(op, x, target, w, ignore_index, how, 0.0)


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
    how = _reduction(op, reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ArgumentError(op, f"label_smoothing is {label_smoothing}", fix="pass a number from 0 to 1")
    if not isinstance(target, Tensor):
        target = Tensor(target)
    x = floating(input)
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
    return _reduced(loss, how)


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
    how = _reduction(op, reduction, size_average, reduce)
    x, t = _matched(op, input, target)
    values = _known(x)
    if values is not None and values.size and (values.min() < 0 or values.max() > 1):
        bad = values[(values < 0) | (values > 1)].flat[0]
        raise ArgumentError(
            op,
            f"the input {bad:g} is no probability",
            fix="apply sigmoid first, or use binary_cross_entropy_with_logits",
        )
    return _reduced(_scaled(op, ops._binary_cross_entropy(x, t), weight), how)


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
    how = _reduction(op, reduction, size_average, reduce)
    x, t = _matched(op, input, target)
    log_p = logsigmoid(x)
    if pos_weight is None:
        loss = (1.0 - t) * x - log_p
    else:
        _check_broadcast(op, "pos_weight", pos_weight, x.shape)
        loss = (1.0 - t) * x - ((pos_weight - 1.0) * t + 1.0) * log_p
    return _reduced(_scaled(op, loss, weight), how)


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
    how = _reduction(op, reduction, size_average, reduce, ("batchmean",))
    x, t = _matched(op, input, target)
    if log_target:
        loss = exp(t) * (t - x)
    else:
        loss = t * log(where(t == 0.0, 1.0, t)) - t * x
    if how == "batchmean":
        total: Tensor = sum_(loss) / (x.shape[0] if x.ndim else 1)
        return total
    return _reduced(loss, how)
