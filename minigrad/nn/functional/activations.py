"""Activations as functions; the operations are in `minigrad.ops.nn` and `minigrad.ops.activation`."""

from __future__ import annotations

import numpy as np

from ...bind import floating
from ...errors import ArgumentError, ShapeError
from ...ir import is_float
from ...ops import nn as ops
from ...ops.activation import (
    celu,
    hardshrink,
    hardsigmoid,
    hardswish,
    mish,
    prelu_elementwise,
    selu,
    softshrink,
    softsign,
)
from ...ops.activation import hardtanh as limited
from ...ops.creation import rand
from ...ops.elementwise import clamp, log, sigmoid, tanh, where
from ...ops.indexing import one_hot
from ...ops.movement import _reshape, movedim, one_dim, split
from ...ops.nn import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    logsigmoid,
    silu,
    softmax,
    softmin,
    softplus,
)
from ...tensor import Tensor

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0); NaN stays NaN.  The derivative at 0 is 0."""
    return ops.placed(ops.relu, input, inplace, "relu_")


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """The input limited to [min_val, max_val], with no gradient at the bounds and beyond.

    Raises ArgumentError if there is nothing between them.
    """
    if min_val > max_val:
        raise ArgumentError("hardtanh", f"min_val {min_val} is above max_val {max_val}", fix="exchange them")
    low, high = float(min_val), float(max_val)
    if not is_float(input.dtype):
        return ops.placed(lambda x: clamp(x, min_val, max_val), input, inplace, "hardtanh_")
    return ops.placed(lambda x: limited(x, low, high), input, inplace, "hardtanh_")


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """The input limited to [0, 6]."""
    return hardtanh(input, 0.0, 6.0, inplace)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """The input where it is above `threshold`, `value` elsewhere."""
    other = Tensor(value, input.dtype)
    return ops.placed(lambda x: where(x > threshold, x, other), input, inplace, "threshold_")


def tanhshrink(input: Tensor) -> Tensor:
    """input - tanh(input)."""
    y: Tensor = input - tanh(input)
    return y


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """The input where positive, the input times a learned slope elsewhere (arXiv 1502.01852).

    weight: one number, or one for each channel (dimension 1).  Raises ShapeError for any other shape.
    """
    if weight.numel() == 1:
        w = _reshape(weight, ())
    else:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.shape != (channels,):
            raise ShapeError(
                "prelu",
                f"a weight of shape {weight.shape} for an input of shape {input.shape}",
                fix=f"give one slope in all, or {channels}, one a channel",
            )
        w = _reshape(weight, (channels, *(1,) * (input.ndim - 2)))
    return prelu_elementwise(input, w)


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Leaky relu whose slope is random, uniform in [lower, upper], for each element (arXiv 1505.00853).

    Without `training` the slope is the mean.  Raises ArgumentError unless lower <= upper.
    """
    if lower > upper:
        raise ArgumentError("rrelu", f"lower {lower} is above upper {upper}", fix="exchange them")
    if not training:
        return leaky_relu(input, 0.5 * (lower + upper), inplace)
    slope = rand(input.shape, dtype=input.dtype) * (upper - lower) + lower
    return ops.placed(lambda x: where(x >= 0.0, x, x * slope), input, inplace, "rrelu_")


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim` times the sigmoid of the second (arXiv 1612.08083)."""
    at = one_dim("glu", dim, input.ndim)
    size = input.shape[at] if input.ndim else 1
    if size % 2:
        raise ShapeError("glu", f"dim {dim} of shape {input.shape} cannot be halved", fix="use an even size")
    a, b = split(input, size // 2, at) if size else (input, input)
    y: Tensor = a * sigmoid(b)
    return y


def gumbel_softmax(
    logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A random draw of a class, differentiable: softmax((logits + Gumbel noise) / tau) (arXiv 1611.01144).

    hard: one-hot, with the gradient of the soft draw.  `eps` has no effect, as in torch.
    """
    if tau <= 0:
        raise ArgumentError("gumbel_softmax", f"tau is {tau}", fix="pass a positive temperature")
    x = floating(logits)
    noise = -log(-log(clamp(rand(x.shape, dtype=x.dtype), min=float(np.finfo(x.dtype).tiny))))
    soft = softmax((x + noise) / tau, dim)
    if not hard:
        return soft
    at = one_dim("gumbel_softmax", dim, x.ndim)
    drawn = movedim(one_hot(soft.argmax(at), x.shape[at]), -1, at).to(x.dtype)
    y: Tensor = drawn - soft.detach() + soft
    return y
