"""Initial values of weights, under the names of `torch.nn.init`.

A layer y = W x with independent weights of variance v multiplies the variance of a signal by
fan_in * v on the way forward, and that of a gradient by fan_out * v on the way back.  To keep both
near 1 through many layers,

    xavier     v = gain^2 * 2 / (fan_in + fan_out)        (Glorot & Bengio 2010)
    kaiming    v = gain^2 / fan                           (He et al. 2015, arXiv 1502.01852)

where the gain makes up for what the activation takes away: sqrt 2 for relu, which halves the mean
square.  A uniform distribution on [-a, a] has variance a^2 / 3, hence a = sqrt(3 v).

    >>> import minigrad as mg
    >>> w = mg.empty(64, 128)
    >>> _ = xavier_uniform_(w)
    >>> bool(w.abs().max() <= (6 / (64 + 128)) ** 0.5)
    True

All functions write into the tensor, outside of its history, and return it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..mode import no_grad
from ..ops.creation import rand, randn
from ..random import Generator
from ..tensor import Tensor, wrap

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_LINEAR = ("linear", "identity", "sigmoid", *(f"conv{d}d" for d in (1, 2, 3)))
_LINEAR += tuple(f"conv_transpose{d}d" for d in (1, 2, 3))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that makes up for what an activation does to the variance.

    param: the negative slope of "leaky_relu", 0.01 by default.  Raises ArgumentError for an unknown name.
    """
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if not isinstance(slope, (int, float)) or isinstance(slope, bool):
            raise ArgumentError("calculate_gain", f"the negative slope is {param!r}", fix="pass a number")
        return math.sqrt(2.0 / (1.0 + slope * slope))
    if nonlinearity == "selu":
        return 0.75
    known = "linear, conv1d, conv2d, sigmoid, tanh, relu, leaky_relu, selu"
    raise ArgumentError("calculate_gain", f"nonlinearity is {nonlinearity!r}", fix=f"use one of {known}")


def _fans(op: str, tensor: Tensor) -> tuple[int, int]:
    """How many inputs each output has, and how many outputs each input."""
    if tensor.ndim < 2:
        raise ShapeError(
            op, f"a tensor of shape {tensor.shape} has no fan in and out", fix="use 2 dimensions or more"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(op: str, tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(op, f"mode is {mode!r}", fix="use 'fan_in' or 'fan_out'")
    return _fans(op, tensor)[mode == "fan_out"]


def _filled(tensor: Tensor, values: Tensor) -> Tensor:
    """Write values of the tensor's shape into it."""
    with no_grad():
        return tensor.assign(values.to(tensor.dtype))


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform numbers in [a, b)."""
    with no_grad():
        return _filled(tensor, rand(tensor.shape, dtype=tensor.dtype, generator=generator) * (b - a) + a)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal numbers.  Raises ArgumentError for a negative std."""
    if std < 0:
        raise ArgumentError("normal_", f"std is {std}", fix="it must not be negative")
    with no_grad():
        return _filled(tensor, randn(tensor.shape, dtype=tensor.dtype, generator=generator) * std + mean)


def _cdf(x: float) -> float:
    """The normal distribution function."""
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers, those outside of [a, b] drawn again until they are inside.

    Where [a, b] holds little of the distribution, candidates are uniform on [a, b] and kept in
    proportion to the density (von Neumann 1951).  Raises ArgumentError unless a < b and std > 0.
    """
    if not (a < b and std > 0):
        raise ArgumentError(
            "trunc_normal_", f"a={a}, b={b}, std={std}", fix="a must be below b, std positive"
        )
    likely = _cdf((b - mean) / std) - _cdf((a - mean) / std) > 0.3
    peak = (min(max(mean, a), b) - mean) / std
    count = tensor.numel()
    y = np.empty(count, tensor.dtype)
    missing = np.arange(count)
    low, high = tensor.dtype.type(a), tensor.dtype.type(b)
    with no_grad():
        while missing.size:
            n = missing.size
            if likely:
                drawn = randn(n, dtype=tensor.dtype, generator=generator).numpy() * std + mean
                good = (drawn >= low) & (drawn <= high)
            else:
                drawn = rand(n, dtype=tensor.dtype, generator=generator).numpy() * (b - a) + a
                z = (drawn.astype(np.float64) - mean) / std
                chance = np.exp(0.5 * (peak * peak - z * z))
                good = rand(n, dtype="float64", generator=generator).numpy() < chance
            y[missing[good]] = drawn[good]
            missing = missing[~good]
    return _filled(tensor, wrap(y.reshape(tensor.shape)))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value everywhere."""
    return _filled(tensor, wrap(np.full(tensor.shape, val, tensor.dtype)))


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix.  Raises ShapeError unless the tensor is a matrix."""
    if tensor.ndim != 2:
        raise ShapeError("eye_", f"a tensor of shape {tensor.shape} is no matrix", fix="use two dimensions")
    return _filled(tensor, wrap(np.eye(*tensor.shape, dtype=tensor.dtype)))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The kernel of a convolution that changes nothing: channel i to channel i, as far as there are both.

    Raises ShapeError unless the tensor has 3 to 5 dimensions, ArgumentError if groups do not divide the
    output channels.
    """
    if tensor.ndim not in (3, 4, 5):
        raise ShapeError("dirac_", f"a tensor of shape {tensor.shape}", fix="use the weight of a convolution")
    if groups < 1 or tensor.shape[0] % groups:
        raise ArgumentError(
            "dirac_", f"{tensor.shape[0]} channels in {groups} groups", fix="they must divide"
        )
    y = np.zeros(tensor.shape, tensor.dtype)
    out = tensor.shape[0] // groups
    centre = tuple(size // 2 for size in tensor.shape[2:])
    for group in range(groups):
        for i in range(min(out, tensor.shape[1])):
            y[(group * out + i, i, *centre)] = 1
    return _filled(tensor, wrap(y))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal numbers in a matrix, of which a fraction `sparsity` of each column is 0 (Martens 2010)."""
    if tensor.ndim != 2:
        raise ShapeError(
            "sparse_", f"a tensor of shape {tensor.shape} is no matrix", fix="use two dimensions"
        )
    if not 0.0 <= sparsity <= 1.0:
        raise ArgumentError("sparse_", f"sparsity is {sparsity}", fix="pass a fraction from 0 to 1")
    rows, columns = tensor.shape
    with no_grad():
        drawn: Any = randn(rows, columns, dtype=tensor.dtype, generator=generator).numpy() * std
        order: Any = np.argsort(rand(rows, columns, dtype="float64", generator=generator).numpy(), axis=0)
    drawn[order[: math.ceil(sparsity * rows)], np.arange(columns)] = 0
    return _filled(tensor, wrap(drawn))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform numbers of variance gain^2 * 2 / (fan_in + fan_out)."""
    bound = gain * math.sqrt(6.0 / max(sum(_fans("xavier_uniform_", tensor)), 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal numbers of variance gain^2 * 2 / (fan_in + fan_out)."""
    std = gain * math.sqrt(2.0 / max(sum(_fans("xavier_normal_", tensor)), 1))
    return normal_(tensor, 0.0, std, generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform numbers of variance gain^2 / fan; a is the negative slope of leaky_relu."""
    fan = _fan("kaiming_uniform_", tensor, mode)
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / max(fan, 1))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers of variance gain^2 / fan; a is the negative slope of leaky_relu."""
    fan = _fan("kaiming_normal_", tensor, mode)
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1)), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times gain (arXiv 1312.6120).

    Dimensions after the first are taken together.  It is the Q of a normal matrix, its columns signed
    so that R has a positive diagonal: then Q is uniform over all such matrices (Mezzadri 2007).
    """
    rows, columns = _matrix_sizes(tensor)
    tall, short = max(rows, columns), min(rows, columns)
    with no_grad():
        drawn: Any = randn(tall, short, dtype="float64", generator=generator).numpy()
    q, r = np.linalg.qr(drawn)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    if rows < columns:
        q = q.T
    return _filled(tensor, wrap((q * gain).reshape(tensor.shape)))


def _matrix_sizes(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ShapeError("orthogonal_", f"a tensor of shape {tensor.shape}", fix="use 2 dimensions or more")
    return tensor.shape[0], math.prod(tensor.shape[1:])
