"""Activations, by Keras's names.

>>> import minigrad as mg
>>> get("relu")(mg.tensor([-1.0, 2.0]))
tensor([0., 2.])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..nn import functional as F
from ..ops import nn as ops
from ..ops.elementwise import clamp, exp, where
from ..tensor import Tensor
from .options import pick

Activation = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    """x"""
    return x


def relu(
    x: Tensor, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Tensor:
    """x from threshold to max_value, negative_slope * (x - threshold) below; by default max(x, 0)"""
    if not threshold:
        y: Tensor = F.leaky_relu(x, negative_slope) if negative_slope else ops.relu(x)
    else:
        y = where(x >= threshold, x, (x - threshold) * negative_slope)
    return y if max_value is None else clamp(y, None, max_value)


def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)"""
    return F.relu6(x)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (exp(x) - 1) elsewhere"""
    return F.elu(x, alpha)


def selu(x: Tensor) -> Tensor:
    """elu, scaled so that mean 0 and variance 1 stay (Klambauer et al. 2017)"""
    return F.selu(x)


def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere"""
    return F.celu(x, alpha)


def mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x))"""
    return F.mish(x)


def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)"""
    return F.softsign(x)


def hard_sigmoid(x: Tensor) -> Tensor:
    """x / 6 + 1/2, cut off at 0 and 1"""
    return F.hardsigmoid(x)


def hard_silu(x: Tensor) -> Tensor:
    """x * hard_sigmoid(x)"""
    return F.hardswish(x)


def log_sigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x))"""
    return F.logsigmoid(x)


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    """x where positive, negative_slope * x elsewhere; the slope is Keras's 0.2."""
    return F.leaky_relu(x, negative_slope)


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """x times the normal distribution function of x, or its approximation by tanh"""
    return F.gelu(x, approximate="tanh" if approximate else "none")


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)"""
    return F.silu(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x))"""
    return F.softplus(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))"""
    return x.sigmoid()


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent"""
    return x.tanh()


def exponential(x: Tensor) -> Tensor:
    """exp(x)"""
    return exp(x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) over `axis`, the last dimension"""
    return ops.softmax(x, axis)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """log(softmax(x)) over `axis`, the last dimension"""
    return ops.log_softmax(x, axis)


ACTIVATIONS: dict[str, Activation] = {
    f.__name__: f
    for f in (
        linear,
        relu,
        relu6,
        elu,
        selu,
        celu,
        mish,
        softsign,
        hard_sigmoid,
        hard_silu,
        log_sigmoid,
        leaky_relu,
        gelu,
        silu,
        softplus,
        sigmoid,
        tanh,
        exponential,
        softmax,
        log_softmax,
    )
}
swish, hard_swish = silu, hard_silu
ACTIVATIONS |= {"swish": silu, "hard_swish": hard_silu}


def get(activation: Any) -> Activation:
    """The activation of this name; None is `linear`, a function is itself."""
    if activation is None:
        return linear
    return activation if callable(activation) else pick("activation", activation, ACTIVATIONS)
