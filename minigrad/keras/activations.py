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
from ..ops.elementwise import exp
from ..tensor import Tensor
from .options import pick

Activation = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    """x"""
    return x


def relu(x: Tensor) -> Tensor:
    """max(x, 0)"""
    return ops.relu(x)


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    """x where positive, negative_slope * x elsewhere; the slope is Keras's 0.2."""
    return F.leaky_relu(x, negative_slope)


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function of x"""
    return F.gelu(x)


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


def softmax(x: Tensor) -> Tensor:
    """exp(x) / sum(exp(x)) over the last dimension"""
    return ops.softmax(x, -1)


def log_softmax(x: Tensor) -> Tensor:
    """log(softmax(x)) over the last dimension"""
    return ops.log_softmax(x, -1)


ACTIVATIONS: dict[str, Activation] = {
    f.__name__: f
    for f in (
        linear,
        relu,
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
ACTIVATIONS["swish"] = silu


def get(activation: Any) -> Activation:
    """The activation of this name; None is `linear`, a function is itself."""
    if activation is None:
        return linear
    return activation if callable(activation) else pick("activation", activation, ACTIVATIONS)
