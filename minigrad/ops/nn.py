from __future__ import annotations

from typing import Any

import numpy as np

from ..bind import elementwise, floating, method, primitive
from ..tensor import Tensor
from .elementwise import exp
from .movement import one_dim
from .reduction import _sum


@elementwise("maximum(input, 0)", vjp=lambda g, y: g * (y > 0.0), method="relu", inplace="relu_", away_from=(0.0,), error=0.0)
def relu(input: Tensor) -> Tensor:
    """max(input, 0)"""


def _softmax_kernel(input: Any, dim: int) -> Any:
    e = np.exp(input - np.maximum.reduce(input, axis=dim, keepdims=True, initial=-np.inf))
    return e / np.add.reduce(e, axis=dim, keepdims=True)


_softmax = primitive(
    "softmax", kind="reduction", inputs=("input",), attrs=("dim",), kernel=_softmax_kernel, shape=lambda input, dim: input,
    vjp=(lambda g, y, dim: y * (g - _sum(g * y, (dim,), True)),),
    samples=lambda rng: [((rng.normal(size=(3, 4)),), (d,)) for d in (0, 1)], doc="exp(x) / sum(exp(x))")


def _log_softmax_kernel(input: Any, dim: int) -> Any:
    z = input - np.maximum.reduce(input, axis=dim, keepdims=True, initial=-np.inf)
    return z - np.log(np.add.reduce(np.exp(z), axis=dim, keepdims=True))


_log_softmax = primitive(
    "log_softmax", kind="reduction", inputs=("input",), attrs=("dim",), kernel=_log_softmax_kernel, shape=lambda input, dim: input,
    vjp=(lambda g, y, dim: g - exp(y) * _sum(g, (dim,), True),),
    samples=lambda rng: [((rng.normal(size=(3, 4)),), (d,)) for d in (0, 1)], doc="x - log(sum(exp(x)))")


@method("softmax")
def softmax(input: Tensor, dim: int) -> Tensor:
    return _softmax(floating(input), one_dim("softmax", dim, input.ndim))


@method("log_softmax")
def log_softmax(input: Tensor, dim: int) -> Tensor:
    return _log_softmax(floating(input), one_dim("log_softmax", dim, input.ndim))
