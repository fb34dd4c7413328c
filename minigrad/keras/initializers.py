"""Initial weights, by Keras's names.

Kernels are stored as Keras stores them, (inputs, outputs) or (kh, kw, inputs, outputs), so with
r = kh * kw the fans are fan_in = r * inputs and fan_out = r * outputs.  Then

    glorot   variance 2 / (fan_in + fan_out)   Glorot & Bengio 2010
    he       variance 2 / fan_in               He et al. 2015 (arXiv 1502.01852)
    lecun    variance 1 / fan_in               LeCun et al. 1998

each as `_uniform`, in +-sqrt(3 variance), or as `_normal`, cut off at two deviations.

    >>> get("zeros")((2, 3)).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import ArgumentError
from ..nn.init import orthogonal_
from ..ops.creation import full, rand, randn
from ..ops.elementwise import abs as magnitude
from ..ops.elementwise import where
from ..tensor import Tensor, as_array, wrap
from .options import pick

Initializer = Callable[[tuple[int, ...]], Tensor]


def _fans(shape: tuple[int, ...]) -> tuple[float, float]:
    if len(shape) < 2:
        size = math.prod(shape)
        return float(size), float(size)
    field = math.prod(shape[:-2])
    return float(shape[-2] * field), float(shape[-1] * field)


def _uniform(shape: tuple[int, ...], limit: float) -> Tensor:
    return rand(shape) * (2.0 * limit) - limit


def _truncated(shape: tuple[int, ...], deviation: float) -> Tensor:
    """Normal numbers within two deviations, drawn again until they are."""
    x = randn(shape)
    while bool((outside := magnitude(x) > 2.0).any()):
        x = where(outside, randn(shape), x)
    return x * deviation


#: The standard deviation of a standard normal variable that is cut off at two.
_CUT = 0.87962566103423978


# Initializers are functions of modules, or made of them, so that a model can be sent to another process.


def _scaled(numerator: float, mode: str, normal: bool) -> Initializer:
    return partial(_draw_scaled, numerator, mode, normal)


def _draw_scaled(numerator: float, mode: str, normal: bool, shape: tuple[int, ...]) -> Tensor:
    fan_in, fan_out = _fans(shape)
    variance = numerator / max(1.0, fan_in if mode == "in" else fan_in + fan_out)
    if normal:
        return _truncated(shape, math.sqrt(variance) / _CUT)
    return _uniform(shape, math.sqrt(3.0 * variance))


def _small_uniform(shape: tuple[int, ...]) -> Tensor:
    return _uniform(shape, 0.05)


def _small_normal(shape: tuple[int, ...]) -> Tensor:
    return randn(shape) * 0.05


def _orthogonal(shape: tuple[int, ...]) -> Tensor:
    return orthogonal_(full(shape, 0.0))


def _constant(value: float, shape: tuple[int, ...]) -> Tensor:
    return full(shape, value)


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": _scaled(2.0, "both", False),
    "glorot_normal": _scaled(2.0, "both", True),
    "he_uniform": _scaled(2.0, "in", False),
    "he_normal": _scaled(2.0, "in", True),
    "lecun_uniform": _scaled(1.0, "in", False),
    "lecun_normal": _scaled(1.0, "in", True),
    "random_uniform": _small_uniform,
    "random_normal": _small_normal,
    "uniform": _small_uniform,
    "normal": _small_normal,
    "orthogonal": _orthogonal,
    "zeros": partial(_constant, 0.0),
    "ones": partial(_constant, 1.0),
}


def get(initializer: str | Callable[..., Any]) -> Initializer:
    """The initializer of this name, or a function from a shape to an array made into one."""
    if not callable(initializer):
        return pick("initializer", initializer, INITIALIZERS)
    return partial(_checked, initializer)


def _checked(function: Callable[..., Any], shape: tuple[int, ...]) -> Tensor:
    array = as_array(function(shape), "float32")
    if array.shape != shape:
        raise ArgumentError(
            "initializer",
            f"it gave shape {array.shape} where {shape} is needed",
            fix="return an array of the shape it is given",
        )
    return wrap(array)
