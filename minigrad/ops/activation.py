"""Activations beyond the common ones: each a formula and its derivative.

The common ones (relu, gelu, silu, ...) are in `minigrad.ops.nn`; these are declared when `minigrad.nn` is
first used.  All are written so that a large input gives the limit, and none overflows:

    mish          x tanh(log(1 + exp x))                  above x = 20 the tanh is 1 to the last digit
    hardswish     x clamp(x + 3, 0, 6) / 6
    hardsigmoid   clamp(x + 3, 0, 6) / 6
    selu          s x, s a (exp x - 1) below 0            mean 0 and variance 1 are its fixed point
    softshrink    x moved towards 0 by l, 0 within l
    hardshrink    x, 0 within l

    >>> import minigrad as mg
    >>> hardswish(mg.tensor([0.0, 1.0, 5.0]))
    tensor([0.    , 0.6667, 5.    ])

At a corner the derivative is the one that torch takes: for `prelu`, `hardsigmoid` and `hardswish` that of
the piece towards minus infinity where they are not smooth, for the shrinkages 0.

References: Misra 2019 (arXiv 1908.08681), mish; Howard et al. 2019 (1905.02244), hardswish; Klambauer et al.
2017 (1706.02515), selu; Barron 2017 (1704.07483), celu; He et al. 2015 (1502.01852), prelu.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..bind import _elementwise_shape, elementwise, floating, primitive
from ..errors import ArgumentError
from ..tensor import Tensor
from .elementwise import exp, sigmoid, square, tanh, where
from .nn import _activation, _number, placed, softplus

__all__ = [
    "celu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "mish",
    "prelu_elementwise",
    "selu",
    "softshrink",
    "softsign",
]

_SCALE = 1.0507009873554805
_ALPHA = 1.6732632423543772


def _mish_rule(g: Tensor, input: Tensor) -> Tensor:
    t = tanh(softplus(input))
    return g * (t + input * sigmoid(input) * (1.0 - square(t)))


_mish = _activation(
    "mish",
    "input * tanh(where(input > 20.0, input, log1p(exp(minimum(input, 20.0)))))",
    vjp=_mish_rule,
    error=64.0,
    doc="input * tanh(log(1 + exp(input)))",
)
_selu = _activation(
    "selu",
    f"where(input > 0.0, {_SCALE!r} * input, {_SCALE * _ALPHA!r} * expm1(minimum(input, 0.0)))",
    vjp=lambda g, y, input: g * where(input > 0.0, _SCALE, y + _SCALE * _ALPHA),
    away_from=(0.0,),
    doc="the input where it is positive, alpha * (exp(input) - 1) elsewhere, both scaled to keep variance 1",
)
_celu = _activation(
    "celu",
    "where(input > 0.0, input, alpha * expm1(minimum(input, 0.0) / alpha))",
    attrs=("alpha",),
    values=[(1.0,), (0.7,)],
    vjp=lambda g, input, alpha: where(input > 0.0, g, g * exp(input / alpha)),
    doc="the input where it is positive, alpha * (exp(input / alpha) - 1) elsewhere",
)
_hardsigmoid = _activation(
    "hardsigmoid",
    "minimum(maximum(input + 3.0, 0.0), 6.0) / 6.0",
    vjp=lambda g, input: where((input > -3.0) & (input < 3.0), g * (1.0 / 6.0), 0.0),
    away_from=(-3.0, 3.0),
    doc="(input + 3) / 6, limited to [0, 1]",
)
_hardswish = _activation(
    "hardswish",
    "input * minimum(maximum(input + 3.0, 0.0), 6.0) / 6.0",
    vjp=lambda g, input: g * where(input <= -3.0, 0.0, where(input < 3.0, input * (1.0 / 3.0) + 0.5, 1.0)),
    away_from=(-3.0, 3.0),
    doc="input * hardsigmoid(input)",
)
_softsign = _activation(
    "softsign",
    "input / (1.0 + abs(input))",
    vjp=lambda g, input: g / square(1.0 + abs(input)),
    away_from=(0.0,),
    doc="input / (1 + |input|)",
)
_softshrink = _activation(
    "softshrink",
    "where(input > lambd, input - lambd, where(input < -lambd, input + lambd, input * 0.0))",
    attrs=("lambd",),
    values=[(0.5,), (1.2,)],
    vjp=lambda g, input, lambd: where(abs(input) > lambd, g, 0.0),
    away_from=(-0.5, 0.5, -1.2, 1.2),
    error=1.0,
    doc="the input moved towards 0 by lambd, 0 within lambd of it",
)
_hardshrink = _activation(
    "hardshrink",
    "where(abs(input) <= lambd, 0.0, input)",
    attrs=("lambd",),
    values=[(0.5,), (1.2,)],
    vjp=lambda g, input, lambd: where(abs(input) <= lambd, 0.0, g),
    away_from=(-0.5, 0.5, -1.2, 1.2),
    error=0.0,
    doc="the input, 0 within lambd of it",
)


@elementwise(
    "where(input > 0.0, input, weight * input)",
    vjp=(
        lambda g, input, weight: where(input > 0.0, g, g * weight),
        lambda g, input: where(input > 0.0, 0.0, g * input),
    ),
    dtype="float",
    away_from=(0.0,),
    error=1.0,
)
def prelu_elementwise(input: Tensor, weight: Tensor) -> Tensor:
    """The input where it is positive, the input times a learned slope, which broadcasts, elsewhere."""


def _plain(record: Callable[..., Tensor], name: str, doc: str) -> Callable[..., Tensor]:
    def call(input: Tensor, inplace: bool = False) -> Tensor:
        return placed(lambda x: record(floating(x)), input, inplace, name + "_")

    call.__name__ = call.__qualname__ = name
    call.__doc__ = doc
    return call


hardtanh = primitive(
    "hardtanh",
    kind="elementwise",
    inputs=("input",),
    attrs=("min", "max"),
    formula="where(input < min, min, where(input > max, max, input))",
    kernel=lambda x, min, max: np.where(x < min, x.dtype.type(min), np.where(x > max, x.dtype.type(max), x)),
    shape=_elementwise_shape("same"),
    vjp=(lambda g, input, min, max: where((input > min).logical_and(input < max), g, 0.0),),
    samples=lambda rng: [((rng.choice([-1.5, -0.7, 0.4, 2.0], (3, 4)),), (-1.0, m)) for m in (0.5, 1.0)],
    doc="the input limited to [min, max]; unlike clamp, without a gradient at the bounds",
    error=0.0,
)
mish = _plain(_mish, "mish", "input * tanh(softplus(input)) (arXiv 1908.08681).")
selu = _plain(
    _selu, "selu", "scale * elu(input, alpha) with fixed point mean 0, variance 1 (arXiv 1706.02515)."
)
hardsigmoid = _plain(_hardsigmoid, "hardsigmoid", "(input + 3) / 6, limited to [0, 1].")
hardswish = _plain(_hardswish, "hardswish", "input * hardsigmoid(input) (arXiv 1905.02244).")


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """The input where positive, alpha * (exp(input / alpha) - 1) elsewhere: smooth for every alpha.

    Raises ArgumentError if alpha is 0.
    """
    a = _number("celu", "alpha", alpha)
    if not a:
        raise ArgumentError("celu", "alpha is 0", fix="pass another number")
    return placed(lambda x: _celu(floating(x), a), input, inplace, "celu_")


def softsign(input: Tensor) -> Tensor:
    """input / (1 + |input|)."""
    return _softsign(floating(input))


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """The input moved towards 0 by `lambd`, 0 within `lambd` of it.  Raises ArgumentError if negative."""
    return _softshrink(floating(input), _lambd("softshrink", lambd))


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """The input, 0 within `lambd` of it.  Raises ArgumentError for a negative one."""
    return _hardshrink(floating(input), _lambd("hardshrink", lambd))


def _lambd(op: str, value: float) -> float:
    lambd = _number(op, "lambd", value)
    if lambd < 0:
        raise ArgumentError(op, f"lambd is {lambd}", fix="it must not be negative")
    return lambd
