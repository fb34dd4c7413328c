"""Initial weights, by Keras's names.

Kernels are stored as Keras stores them, (inputs, outputs) or (kh, kw, inputs, outputs), so with
r = kh * kw the fans are fan_in = r * inputs and fan_out = r * outputs.  Then

    glorot   variance 2 / (fan_in + fan_out)   Glorot & Bengio 2010
    he       variance 2 / fan_in               He et al. 2015 (arXiv 1502.01852)
    lecun    variance 1 / fan_in               LeCun et al. 1998

each as `_uniform`, in +-sqrt(3 variance), or as `_normal`, cut off at two deviations.  An initializer is
given by its name, or as an object (`HeNormal(seed=0)`); one with a seed draws the same numbers each time.

    >>> get("zeros")((2, 3)).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..nn.init import orthogonal_
from ..ops.creation import full, rand, randn
from ..ops.elementwise import abs as magnitude
from ..ops.elementwise import where
from ..random import get_rng_state, manual_seed, set_rng_state
from ..tensor import Tensor, as_array, wrap
from .options import Checked, pick


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


class Initializer(Checked):
    """Base of initializers: a subclass defines `__call__(shape)`, a tensor of this shape."""

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        raise ArgumentError(
            type(self).__name__, "__call__ is not defined", fix="define __call__(self, shape)"
        )

    def _drawn(self, seed: int | None, draw: Callable[[], Tensor]) -> Tensor:
        """Of the generator of the process; the same numbers each time where there is a seed."""
        if seed is None:
            return draw()
        state = get_rng_state()
        manual_seed(seed)
        try:
            return draw()
        finally:
            set_rng_state(state)


class VarianceScaling(Initializer):
    """Variance scale / n, n the fan_in, the fan_out or (fan_avg) the mean of both.

    distribution: "truncated_normal" (cut off at two deviations), "untruncated_normal" or "uniform".
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        if not scale > 0.0:
            raise ArgumentError("VarianceScaling", f"scale is {scale!r}", fix="pass a positive number")
        modes = ("fan_in", "fan_out", "fan_avg")
        kinds = ("truncated_normal", "untruncated_normal", "uniform")
        if mode not in modes or distribution not in kinds:
            raise ArgumentError(
                "VarianceScaling",
                f"mode is {mode!r}, distribution {distribution!r}",
                fix=f"use modes {', '.join(modes)} and distributions {', '.join(kinds)}",
            )
        self.scale, self.mode, self.distribution, self.seed = scale, mode, distribution, seed

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        fan_in, fan_out = _fans(shape)
        count = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[self.mode]
        variance = self.scale / max(1.0, count)
        if self.distribution == "uniform":
            return self._drawn(self.seed, lambda: _uniform(shape, math.sqrt(3.0 * variance)))
        if self.distribution == "untruncated_normal":
            return self._drawn(self.seed, lambda: randn(shape) * math.sqrt(variance))
        return self._drawn(self.seed, lambda: _truncated(shape, math.sqrt(variance) / _CUT))


class GlorotUniform(VarianceScaling):
    """Uniform, variance 2 / (fan_in + fan_out)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    """Normal, cut off, variance 2 / (fan_in + fan_out)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    """Uniform, variance 2 / fan_in."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    """Normal, cut off, variance 2 / fan_in."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    """Uniform, variance 1 / fan_in."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(VarianceScaling):
    """Normal, cut off, variance 1 / fan_in."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class RandomUniform(Initializer):
    """Uniform from minval to maxval."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        self.minval, self.maxval, self.seed = minval, maxval, seed

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        return self._drawn(self.seed, lambda: rand(shape) * (self.maxval - self.minval) + self.minval)


class RandomNormal(Initializer):
    """Normal."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        return self._drawn(self.seed, lambda: randn(shape) * self.stddev + self.mean)


class TruncatedNormal(RandomNormal):
    """Normal numbers within two deviations of the mean."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(mean, stddev, seed)

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        return self._drawn(self.seed, lambda: _truncated(shape, self.stddev) + self.mean)


class Orthogonal(Initializer):
    """gain times a matrix with orthonormal rows or columns (Saxe et al. 2014)."""

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        self.gain, self.seed = gain, seed

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        if len(shape) < 2:
            raise ArgumentError("Orthogonal", f"the weight has shape {shape}", fix="use it for matrices")
        flat = (math.prod(shape[:-1]), shape[-1])
        return self._drawn(self.seed, lambda: orthogonal_(full(flat, 0.0), self.gain)).reshape(shape)


class Constant(Initializer):
    """One number everywhere."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = float(value)

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        return full(shape, self.value)


class Zeros(Initializer):
    """0 everywhere."""

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        return full(shape, 0.0)


class Ones(Initializer):
    """1 everywhere."""

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        return full(shape, 1.0)


class Identity(Initializer):
    """gain times the identity matrix."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of this shape."""
        if len(shape) != 2:
            raise ArgumentError("Identity", f"the weight has shape {shape}", fix="use it for matrices")
        return wrap(np.eye(*shape, dtype=np.float32) * np.float32(self.gain))


INITIALIZERS: dict[str, type[Initializer]] = {
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "random_uniform": RandomUniform,
    "random_normal": RandomNormal,
    "truncated_normal": TruncatedNormal,
    "uniform": RandomUniform,
    "normal": RandomNormal,
    "orthogonal": Orthogonal,
    "identity": Identity,
    "constant": Constant,
    "zeros": Zeros,
    "ones": Ones,
}


def get(initializer: Any) -> Callable[[tuple[int, ...]], Tensor]:
    """The initializer of this name, one that was given, or a function from a shape to an array as one."""
    if isinstance(initializer, type) and issubclass(initializer, Initializer):
        return initializer()
    if isinstance(initializer, Initializer):
        return initializer
    if not callable(initializer):
        return pick("initializer", initializer, INITIALIZERS)()
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
