"""More functions of one or two numbers: other bases, inverse and hyperbolic, gamma and error functions.

Each is a numpy ufunc (or, where numpy has none, a function of `minigrad.special`) and a derivative:

    tan' = 1 + tan^2        asin' = 1 / sqrt(1 - x^2)       erfc' = -2/sqrt(pi) exp(-x^2)
    lgamma' = digamma       polygamma(n)' = polygamma(n + 1)

    >>> import minigrad as mg
    >>> x = mg.tensor([0.0, 0.5], requires_grad=True)
    >>> mg.atanh(x).sum().backward()
    >>> x.grad                                  # 1 / (1 - x^2)
    tensor([1.    , 1.3333])

They have no formula for the tile machine, so a compiled graph runs them as steps of their own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import special
from ..bind import _elementwise_shape, elementwise, floating, method, primitive, promoted
from ..errors import ArgumentError, DTypeError
from ..ir import is_float
from ..tensor import Tensor
from .elementwise import (
    Number,
    Operand,
    _checked_zero,
    cast,
    clamp,
    cos,
    exp,
    log,
    maximum,
    minimum,
    sigmoid,
    sqrt,
    trunc,
    where,
)
from .reduction import vector_norm

__all__ = [
    "acos",
    "acosh",
    "addcdiv",
    "addcmul",
    "allclose",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "clamp_max",
    "clamp_min",
    "copysign",
    "cosh",
    "deg2rad",
    "digamma",
    "dist",
    "equal",
    "erfc",
    "erfinv",
    "exp2",
    "float_power",
    "fmax",
    "fmin",
    "fmod",
    "frac",
    "heaviside",
    "hypot",
    "isclose",
    "isinf",
    "lerp",
    "lgamma",
    "log2",
    "log10",
    "logaddexp",
    "logical_xor",
    "logit",
    "nan_to_num",
    "polygamma",
    "rad2deg",
    "signbit",
    "sinc",
    "sinh",
    "tan",
    "xlogy",
]

# -- powers and logarithms of other bases ----------------------------------------------------------


@elementwise(
    kernel=np.exp2, vjp=lambda g, y: g * (y * math.log(2.0)), dtype="float", method="exp2", inplace="exp2_"
)
def exp2(input: Tensor) -> Tensor:
    """2 to the power of each element."""


@elementwise(
    kernel=np.log2,
    vjp=lambda g, input: g / (input * math.log(2.0)),
    dtype="float",
    method="log2",
    inplace="log2_",
    domain=(0.3, 3.0),
)
def log2(input: Tensor) -> Tensor:
    """The logarithm to base 2."""


@elementwise(
    kernel=np.log10,
    vjp=lambda g, input: g / (input * math.log(10.0)),
    dtype="float",
    method="log10",
    inplace="log10_",
    domain=(0.3, 3.0),
)
def log10(input: Tensor) -> Tensor:
    """The logarithm to base 10."""


@elementwise(
    kernel=np.logaddexp,
    vjp=(
        lambda g, input, other: g * sigmoid(input - other),
        lambda g, input, other: g * sigmoid(other - input),
    ),
    dtype="float",
    method="logaddexp",
    traits={"commutative": True},
)
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)) without overflow."""


def _xlogy_kernel(x: Any, y: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        product = x * np.log(y)
    return np.where((x == 0.0) & ~np.isnan(y), x.dtype.type(0.0), product)


@elementwise(
    kernel=_xlogy_kernel,
    vjp=(
        lambda g, input, other: where((input == 0.0).logical_and(other <= 0.0), 0.0, g * log(other)),
        lambda g, input, other: g * input / other,
    ),
    dtype="float",
    method="xlogy",
    inplace="xlogy_",
    domain=(0.3, 3.0),
)
def xlogy(input: Operand, other: Operand) -> Tensor:
    """input * log(other), and 0 where input is 0, whatever the logarithm is there."""


@method("logit", inplace=True)
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), the inverse of sigmoid, of x limited to [eps, 1 - eps] if eps is given.

    Without eps, values outside [0, 1] become NaN.
    """
    x = floating(input)
    if eps is not None:
        if not 0 <= eps <= 0.5:
            raise ArgumentError("logit", f"eps {eps}", fix="give a number from 0 to 0.5")
        x = clamp(x, eps, 1.0 - eps)
    return log(x / (1.0 - x))


# -- circular and hyperbolic functions -------------------------------------------------------------


@elementwise(
    kernel=np.tan,
    vjp=lambda g, y: g * (1.0 + y * y),
    dtype="float",
    method="tan",
    inplace="tan_",
    domain=(-1.2, 1.2),
)
def tan(input: Tensor) -> Tensor:
    """The tangent, of radians."""


@elementwise(
    kernel=np.arcsin,
    vjp=lambda g, input: g / sqrt(1.0 - input * input),
    dtype="float",
    method=("asin", "arcsin"),
    inplace="asin_",
    domain=(-0.9, 0.9),
)
def asin(input: Tensor) -> Tensor:
    """The inverse sine, in radians; NaN outside [-1, 1]."""


@elementwise(
    kernel=np.arccos,
    vjp=lambda g, input: -g / sqrt(1.0 - input * input),
    dtype="float",
    method=("acos", "arccos"),
    inplace="acos_",
    domain=(-0.9, 0.9),
)
def acos(input: Tensor) -> Tensor:
    """The inverse cosine, in radians; NaN outside [-1, 1]."""


@elementwise(
    kernel=np.arctan,
    vjp=lambda g, input: g / (1.0 + input * input),
    dtype="float",
    method=("atan", "arctan"),
    inplace="atan_",
)
def atan(input: Tensor) -> Tensor:
    """The inverse tangent, in radians."""


def _over_square(g: Tensor, factor: Tensor, input: Tensor, other: Tensor) -> Tensor:
    """g * factor / (input^2 + other^2), 0 where both are 0."""
    squares = input * input + other * other
    nothing = squares == 0.0
    return where(nothing, 0.0, g * factor / where(nothing, 1.0, squares))


@elementwise(
    kernel=np.arctan2,
    vjp=(
        lambda g, input, other: _over_square(g, other, input, other),
        lambda g, input, other: _over_square(g, -input, input, other),
    ),
    dtype="float",
    method=("atan2", "arctan2"),
    inplace="atan2_",
    domain=(0.3, 3.0),
)
def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle (-pi, pi] of the point at (other, input); its gradient is 0 at (0, 0)."""


@elementwise(
    kernel=np.hypot,
    vjp=(
        lambda g, y, input: where(y == 0.0, 0.0, g * input / where(y == 0.0, 1.0, y)),
        lambda g, y, other: where(y == 0.0, 0.0, g * other / where(y == 0.0, 1.0, y)),
    ),
    dtype="float",
    method="hypot",
    inplace="hypot_",
    domain=(0.3, 3.0),
    traits={"commutative": True},
)
def hypot(input: Tensor, other: Tensor) -> Tensor:
    """sqrt(input^2 + other^2) without overflow; its gradient is 0 at (0, 0)."""


@elementwise(
    kernel=np.sinh, vjp=lambda g, input: g * cosh(input), dtype="float", method="sinh", inplace="sinh_"
)
def sinh(input: Tensor) -> Tensor:
    """The hyperbolic sine."""


@elementwise(
    kernel=np.cosh, vjp=lambda g, input: g * sinh(input), dtype="float", method="cosh", inplace="cosh_"
)
def cosh(input: Tensor) -> Tensor:
    """The hyperbolic cosine."""


@elementwise(
    kernel=np.arcsinh,
    vjp=lambda g, input: g / sqrt(1.0 + input * input),
    dtype="float",
    method=("asinh", "arcsinh"),
    inplace="asinh_",
)
def asinh(input: Tensor) -> Tensor:
    """The inverse hyperbolic sine."""


@elementwise(
    kernel=np.arccosh,
    vjp=lambda g, input: g / sqrt(input * input - 1.0),
    dtype="float",
    method=("acosh", "arccosh"),
    inplace="acosh_",
    domain=(1.2, 4.0),
)
def acosh(input: Tensor) -> Tensor:
    """The inverse hyperbolic cosine; NaN below 1."""


@elementwise(
    kernel=np.arctanh,
    vjp=lambda g, input: g / (1.0 - input * input),
    dtype="float",
    method=("atanh", "arctanh"),
    inplace="atanh_",
    domain=(-0.9, 0.9),
)
def atanh(input: Tensor) -> Tensor:
    """The inverse hyperbolic tangent; NaN outside [-1, 1]."""


arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
arcsinh, arccosh, arctanh = asinh, acosh, atanh


@elementwise(
    kernel=np.sinc,
    vjp=lambda g, y, input: where(
        input == 0.0,
        0.0,
        g * (cos(input * math.pi) - y) / where(input == 0.0, 1.0, input),
    ),
    dtype="float",
    method="sinc",
    domain=(0.2, 2.8),
)
def sinc(input: Tensor) -> Tensor:
    """sin(pi x) / (pi x), and 1 at 0."""


# -- error and gamma functions ---------------------------------------------------------------------


@elementwise(
    kernel=special.erfc,
    vjp=lambda g, input: g * (-2.0 / math.sqrt(math.pi)) * exp(-input * input),
    dtype="float",
    method="erfc",
    inplace="erfc_",
)
def erfc(input: Tensor) -> Tensor:
    """1 - erf(x), exact where erf(x) is close to 1."""


@elementwise(
    kernel=special.erfinv,
    vjp=lambda g, y: g * (math.sqrt(math.pi) / 2.0) * exp(y * y),
    dtype="float",
    method="erfinv",
    inplace="erfinv_",
    domain=(-0.9, 0.9),
)
def erfinv(input: Tensor) -> Tensor:
    """The inverse of erf; Inf at 1, NaN outside [-1, 1]."""


@elementwise(
    kernel=special.lgamma,
    vjp=lambda g, input: g * digamma(input),
    dtype="float",
    method="lgamma",
    inplace="lgamma_",
    domain=(0.3, 4.0),
)
def lgamma(input: Tensor) -> Tensor:
    """The logarithm of the absolute value of the gamma function."""


@elementwise(
    kernel=special.digamma,
    vjp=lambda g, input: g * _polygamma(input, 1),
    dtype="float",
    method="digamma",
    inplace="digamma_",
    domain=(0.5, 4.0),
)
def digamma(input: Tensor) -> Tensor:
    """psi, the derivative of lgamma."""


_polygamma = primitive(
    "polygamma",
    kind="elementwise",
    inputs=("input",),
    attrs=("n",),
    kernel=lambda x, n: special.polygamma(n, x),
    shape=_elementwise_shape("float"),
    vjp=(lambda g, input, n: g * _polygamma(input, n + 1),),
    samples=lambda rng: [((rng.uniform(0.8, 4.0, (3, 4)),), (n,)) for n in (1, 2)],
    doc="the n-th derivative of psi",
)


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of psi (digamma is n = 0); for negative x only n = 0 and 1 are defined."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ArgumentError("polygamma", f"n {n!r}", fix="give an integer of at least 0")
    return digamma(input) if n == 0 else _polygamma(floating(input), n)


# -- remainders and truth  -------------------------------------------------------------------------

_fmod_op = primitive(
    "fmod",
    kind="elementwise",
    inputs=("input", "other"),
    kernel=_checked_zero(np.fmod),
    shape=_elementwise_shape("number"),
    vjp=(lambda g: g, lambda g, input, other: -g * trunc(input / other)),
    traits={"refuses": True},  # an integer zero
    samples=lambda rng: [
        ((rng.uniform(0.6, 2.9, s) * rng.choice([-1, 1], s), rng.uniform(3.0, 5.0, t)), ())
        for s, t in (((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2,)), ((0, 3), (1, 3)))
    ],
    doc="input - trunc(input / other) * other",
)


@method("fmod", inplace=True)
def fmod(input: Tensor, other: Operand) -> Tensor:
    """The remainder with the sign of the dividend, as C's fmod; `remainder` has that of the divisor."""
    return _fmod_op(*promoted("fmod", input, other))


@elementwise(
    "logical_not(input) != logical_not(other)",
    vjp=(None, None),
    dtype="bool",
    method="logical_xor",
    error=0.0,
)
def logical_xor(input: Tensor, other: Operand) -> Tensor:
    """Whether exactly one of the elements is nonzero."""


# -- which numbers ---------------------------------------------------------------------------------


@elementwise(
    "logical_and(logical_not(isfinite(input)), logical_not(isnan(input)))",
    dtype="bool",
    method="isinf",
    error=0.0,
)
def isinf(input: Tensor) -> Tensor:
    """Whether each element is infinite."""


_nan_to_num = primitive(
    "nan_to_num",
    kind="elementwise",
    inputs=("input",),
    attrs=("nan", "posinf", "neginf"),
    kernel=lambda x, nan, posinf, neginf: np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf),
    shape=_elementwise_shape("float"),
    vjp=(lambda g, input: where(input.isfinite(), g, 0.0),),
    samples=lambda rng: [
        ((rng.normal(size=(3, 4)),), (0.0, None, None)),
        ((rng.normal(size=()),), (1.0, 2.0, -2.0)),
    ],
    doc="NaN and Inf replaced by numbers",
    error=0.0,
)


@method("nan_to_num", inplace=True)
def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """NaN becomes `nan`, Inf `posinf` and -Inf `neginf` (the largest and smallest finite number if None)."""
    return _nan_to_num(input, nan, posinf, neginf) if is_float(input.dtype) else input


@method("isclose")
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """Whether |input - other| <= atol + rtol |other|; Inf is close to itself, and NaN if `equal_nan`."""
    if min(rtol, atol) < 0:
        raise ArgumentError("isclose", f"rtol {rtol}, atol {atol}", fix="give numbers of at least 0")
    x, y = promoted("isclose", input, other)
    close = x == y
    if is_float(x.dtype):
        near = ((x - y).abs() <= atol + rtol * y.abs()).logical_and(x.isfinite()).logical_and(y.isfinite())
        close = close.logical_or(near)
        if equal_nan:
            close = close.logical_or(x.isnan().logical_and(y.isnan()))
    elif rtol or atol:
        x, y = cast(x, "float64"), cast(y, "float64")
        close = (x - y).abs() <= atol + rtol * y.abs()
    return close


@method("allclose")
def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether `isclose` holds for all elements, as a Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all().item())


@method("equal")
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are the same, as a Python bool; NaN equals nothing."""
    return input.shape == other.shape and bool((input == other).all().item())


# -- combinations ----------------------------------------------------------------------------------


@method("clamp_min", inplace=True)
def clamp_min(input: Tensor, min: Operand) -> Tensor:
    """Elements below `min` become `min`."""
    return maximum(input, min) if isinstance(min, Tensor) else clamp(input, min=min)


@method("clamp_max", inplace=True)
def clamp_max(input: Tensor, max: Operand) -> Tensor:
    """Elements above `max` become `max`."""
    return minimum(input, max) if isinstance(max, Tensor) else clamp(input, max=max)


@method("lerp", inplace=True)
def lerp(input: Tensor, end: Tensor, weight: Operand) -> Tensor:
    """input + weight * (end - input): from input (weight 0) to end (weight 1), exact at both."""
    step = end - input
    if isinstance(weight, Tensor):
        return where(weight.abs() < 0.5, input + weight * step, end - step * (1.0 - weight))
    return input + weight * step if abs(weight) < 0.5 else end - step * (1.0 - weight)


@method("addcmul", inplace=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    product = tensor1 * tensor2
    return input + (product if value == 1 else product * value)


@method("addcdiv", inplace=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """input + value * tensor1 / tensor2.  Raises DTypeError for two integer tensors, as PyTorch does."""
    if not is_float(tensor1.dtype) and not is_float(tensor2.dtype):
        raise DTypeError(
            "addcdiv", f"{tensor1.dtype} divided by {tensor2.dtype}", fix="convert one with .float()"
        )
    quotient = tensor1 / tensor2
    return input + (quotient if value == 1 else quotient * value)


# -- signs, parts, degrees ---------------------------------------------------------------------------


@elementwise(kernel=np.signbit, dtype="bool", method="signbit", away_from=(0.0,), error=0.0)
def signbit(input: Tensor) -> Tensor:
    """Whether the sign bit is set: of negative numbers, and of -0.0."""


@method("copysign", inplace=True)
def copysign(input: Tensor, other: Operand) -> Tensor:
    """|input| with the sign of other, of zeros too."""
    x, sign = promoted("copysign", input, other)
    x, sign = floating(x), floating(sign)
    return where(signbit(sign) == signbit(x), x, -x)


@method("frac", inplace=True)
def frac(input: Tensor) -> Tensor:
    """The fraction input - trunc(input), with the sign of the input."""
    return input - trunc(input)


@method("heaviside", inplace=True)
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 where the input is negative, 1 where it is positive, `values` where it is 0."""
    x, v = promoted("heaviside", input, values)
    return where(x == 0, v, cast(x > 0, x.dtype)).detach()


@method("fmax")
def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two elements; of NaN and a number, the number."""
    x, y = promoted("fmax", input, other)
    return where((x >= y).logical_or(y.isnan()), x, y)


@method("fmin")
def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two elements; of NaN and a number, the number."""
    x, y = promoted("fmin", input, other)
    return where((x <= y).logical_or(y.isnan()), x, y)


@method("deg2rad", inplace=True)
def deg2rad(input: Tensor) -> Tensor:
    """Degrees as radians."""
    return floating(input) * (math.pi / 180.0)


@method("rad2deg", inplace=True)
def rad2deg(input: Tensor) -> Tensor:
    """Radians as degrees."""
    return floating(input) * (180.0 / math.pi)


@method("float_power")
def float_power(input: Operand, exponent: Operand) -> Tensor:
    """`pow` in float64, whatever the dtypes."""
    x = input if isinstance(input, Tensor) else Tensor(float(input))
    y = cast(exponent, "float64") if isinstance(exponent, Tensor) else exponent
    return cast(x, "float64") ** y


@method("dist")
def dist(input: Tensor, other: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm of the difference."""
    return vector_norm(input - other, p)
