"""Elementwise operations: one formula each, with its derivative.

For y = f(x) applied to each element, the vector-Jacobian product is g * f'(x); all a rule says is
f'.  Where f' is cheap to get from y (exp, tanh, sigmoid, sqrt), the rule asks for `y` and the
input need not be kept.

    >>> import minigrad as mg
    >>> x = mg.tensor([0.0, 1.0], requires_grad=True)
    >>> mg.sigmoid(x).sum().backward()
    >>> x.grad                                  # s (1 - s)
    tensor([0.25  , 0.1966])

At points where f has no derivative the rules take what PyTorch takes: 0 for abs and relu at 0,
one half to each side for maximum and minimum of equal elements.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from ..bind import _elementwise_shape, _Samples, elementwise, floating, method, primitive, promoted
from ..errors import AnomalyError, ArgumentError, DTypeError, Refusal
from ..ir import DType, Spec, int64, is_float
from ..tape import hooks
from ..tensor import Tensor, as_dtype

Number = float | int | bool
Operand = Tensor | float | int

# -- arithmetic ------------------------------------------------------------------------------------


@elementwise(
    "input + other",
    vjp=(lambda g: g, lambda g: g),
    method="__add__",
    reflected="__radd__",
    inplace="__iadd__",
    traits={"commutative": True, "unit": -0.0},  # 0.0 would turn -0.0 into 0.0
    error=0.5,
)
def _add(input: Tensor, other: Operand) -> Tensor:
    """input + other"""


@elementwise(
    "input - other",
    vjp=(lambda g: g, lambda g: -g),
    dtype="number",
    method="__sub__",
    reflected="__rsub__",
    inplace="__isub__",
    traits={"unit": 0.0},
    error=0.5,
)
def _sub(input: Tensor, other: Operand) -> Tensor:
    """input - other"""


@elementwise(
    "input * other",
    vjp=(lambda g, other: g * other, lambda g, input: g * input),
    method=("__mul__", "mul", "multiply"),
    reflected="__rmul__",
    inplace=("__imul__", "mul_"),
    traits={"commutative": True, "unit": 1.0},
    error=0.5,
)
def mul(input: Tensor, other: Operand) -> Tensor:
    """input * other, elementwise."""


@elementwise(
    "input / other",
    vjp=(lambda g, other: g / other, lambda g, y, other: -g * y / other),
    dtype="float",
    method=("__truediv__", "true_divide"),
    reflected="__rtruediv__",
    inplace=("__itruediv__", "true_divide_"),
    traits={"unit": 1.0},
    domain=(0.5, 3.0),
    ufunc="divide",
)
def true_divide(input: Tensor, other: Operand) -> Tensor:
    """input / other, elementwise; integers become float32."""


def _check_alpha(name: str, alpha: Any, other: Any) -> Any:
    if isinstance(alpha, (int, float)) and not isinstance(alpha, builtins.bool):
        return mul(other, alpha) if isinstance(other, Tensor) else other * alpha
    raise DTypeError(name, f"alpha is a {type(alpha).__name__}", fix="pass a Python number")


@method("add", inplace=True)
def add(input: Tensor, other: Operand, *, alpha: Number = 1) -> Tensor:
    """input + alpha * other, elementwise with broadcasting."""
    return _add(input, other if alpha == 1 else _check_alpha("add", alpha, other))


@method("sub", "subtract", inplace=True)
def sub(input: Tensor, other: Operand, *, alpha: Number = 1) -> Tensor:
    """input - alpha * other, elementwise with broadcasting."""
    return _sub(input, other if alpha == 1 else _check_alpha("sub", alpha, other))


subtract = sub
multiply = mul


@method("div", "divide", inplace=True)
def div(input: Tensor, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """input / other; rounding_mode "trunc" rounds towards zero and "floor" down.

    With a rounding mode the dtype of integers is kept; the gradient is zero there.
    """
    if rounding_mode is None:
        return true_divide(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return _trunc_divide(input, other)
    raise ArgumentError("div", f"rounding_mode {rounding_mode!r}", fix="use None, 'trunc' or 'floor'")


divide = div


def _zero(g: Tensor) -> Tensor:
    return g.zeros_like()


def _checked_zero(kernel: Any) -> Any:
    """A division that refuses integer zeros (numpy would return 0 with a warning) and bools."""

    def checked(a: Any, b: Any) -> Any:
        if a.dtype.kind == "b":
            raise TypeError("not supported for the input types")
        if a.dtype.kind in "iu" and not np.all(b):
            raise Refusal(
                "an integer divided by zero", "mask the zeros, or convert with .float()", ArgumentError
            )
        return kernel(a, b)

    return checked


def _trunc_kernel(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return np.trunc(np.true_divide(a, b))
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "u":
        return quotient
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


_floor_divide_op = primitive(
    "floor_divide",
    kind="elementwise",
    inputs=("input", "other"),
    kernel=_checked_zero(np.floor_divide),
    shape=_elementwise_shape("number"),
    vjp=(_zero, _zero),
    traits={"refuses": True},  # an integer zero
    samples=_Samples(2, (0.5, 3.0), (), False),
    doc="floor(input / other)",
)
_trunc_divide_op = primitive(
    "trunc_divide",
    kind="elementwise",
    inputs=("input", "other"),
    kernel=_checked_zero(_trunc_kernel),
    shape=_elementwise_shape("number"),
    vjp=(_zero, _zero),
    traits={"refuses": True},  # an integer zero
    samples=_Samples(2, (0.5, 3.0), (), False),
    doc="trunc(input / other)",
)


@method("__floordiv__", "floor_divide", inplace=True)
def floor_divide(input: Tensor, other: Operand) -> Tensor:
    """floor(input / other), elementwise; the gradient is zero."""
    return _floor_divide_op(*promoted("floor_divide", input, other))


@method("__rfloordiv__")
def _rfloordiv(self: Tensor, other: Operand) -> Tensor:
    return floor_divide(other, self)  # type: ignore[arg-type]


def _trunc_divide(input: Tensor, other: Operand) -> Tensor:
    return _trunc_divide_op(*promoted("div", input, other))


_remainder_op = primitive(
    "remainder",
    kind="elementwise",
    inputs=("input", "other"),
    kernel=_checked_zero(np.remainder),
    shape=_elementwise_shape("number"),
    vjp=(lambda g: g, lambda g, input, other: -g * floor_divide(input, other)),
    traits={"refuses": True},  # an integer zero
    samples=_Samples(2, (0.6, 2.9), (), False),
    doc="input - floor(input / other) * other",
)


@method("__mod__", "remainder", inplace=True)
def remainder(input: Tensor, other: Operand) -> Tensor:
    """input - floor(input / other) * other: the remainder with the sign of the divisor."""
    return _remainder_op(*promoted("remainder", input, other))


@method("__rmod__")
def _rmod(self: Tensor, other: Operand) -> Tensor:
    return remainder(other, self)  # type: ignore[arg-type]


@elementwise(
    "pow(input, other)",
    vjp=(
        # At 0^0 the product 0 * inf must not become NaN.  Elsewhere p x^(p-1) is right as it is, also
        # where p = 0: its own derivative by p is 1/x there.
        lambda g, input, other: (
            g * (other * _pow(where((input == 0.0).logical_and(other == 0.0), 1.0, input), other - 1.0))
        ),
        # x^p log x tends to 0 as x does, for p > 0.
        lambda g, y, input, other: where(
            (input == 0.0).logical_and(other >= 0.0), (g * 0.0), g * y * log(where(input == 0.0, 1.0, input))
        ),
    ),
    dtype="number",
    traits={"unit": 1.0},
    domain=(0.3, 2.5),
    ufunc="power",
)
def _pow(input: Tensor, other: Operand) -> Tensor:
    """input ** other"""


@method("pow", "__pow__", inplace=True)
def pow(input: Tensor, exponent: Operand) -> Tensor:
    """input ** exponent, elementwise.

    Squares, roots and reciprocals take their own operations, which are faster and exact.
    Raises ArgumentError for an integer to a negative power.
    """
    if type(exponent) in (int, float) and isinstance(input, Tensor):
        if is_float(input.dtype):
            if exponent == 2:
                return square(input)
            if exponent == 1:
                return positive(input)
            if exponent == 0.5:
                return sqrt(input)
            if exponent == -1:
                return reciprocal(input)
            if exponent == -0.5:
                return rsqrt(input)
            if exponent == 3:
                return square(input) * input
            return _pow_number(input, float(exponent))
        if exponent < 0 and type(exponent) is int:
            raise ArgumentError("pow", f"{input.dtype} to the power {exponent}", fix="convert with .float()")
        if exponent == 2 and type(exponent) is int and input.dtype.kind != "b":
            return square(input)
    return _pow(input, exponent)


_pow_number_op = primitive(
    "pow_number",
    kind="elementwise",
    inputs=("input",),
    attrs=("exponent",),
    formula="pow(input, exponent)",
    kernel=np.power,
    shape=_elementwise_shape("float"),
    vjp=(
        lambda g, input, exponent: (
            (g * 0.0) if exponent == 0.0 else g * (exponent * pow(input, exponent - 1.0))
        ),
    ),
    samples=lambda rng: [((rng.uniform(0.3, 2.5, (3, 4)),), (p,)) for p in (1.7, -2.0, 3.0, 4.0)],
    doc="input ** exponent, for a number",
)


def _pow_number(input: Tensor, exponent: float) -> Tensor:
    return _pow_number_op(input, exponent)


@method("__rpow__")
def _rpow(self: Tensor, other: Operand) -> Tensor:
    return _pow(other, self)  # type: ignore[arg-type]


@elementwise(
    "-input",
    vjp=lambda g: -g,
    dtype="number",
    method=("__neg__", "neg", "negative"),
    inplace="neg_",
    traits={"involution": True},
    error=0.0,
)
def neg(input: Tensor) -> Tensor:
    """-input"""


negative = neg


@method("__pos__", "positive")
def positive(input: Tensor) -> Tensor:
    """The input itself."""
    return input


@elementwise(
    "maximum(input, other)",
    vjp=(
        lambda g, input, other: g * _share(input > other, input == other),
        lambda g, input, other: g * _share(other > input, input == other),
    ),
    method="maximum",
    traits={"commutative": True, "idempotent": True},
    away_from=(),
    error=0.0,
)
def maximum(input: Tensor, other: Operand) -> Tensor:
    """The larger of each pair; NaN if either is NaN.  Equal elements share the gradient."""


@elementwise(
    "minimum(input, other)",
    vjp=(
        lambda g, input, other: g * _share(input < other, input == other),
        lambda g, input, other: g * _share(other < input, input == other),
    ),
    method="minimum",
    traits={"commutative": True, "idempotent": True},
    error=0.0,
)
def minimum(input: Tensor, other: Operand) -> Tensor:
    """The smaller of each pair; NaN if either is NaN.  Equal elements share the gradient."""


def _share(wins: Tensor, ties: Tensor) -> Tensor:
    """1 where this side wins, 1/2 where both are equal, 0 elsewhere (float32; promotes weakly)."""
    return where(ties, 0.5, where(wins, 1.0, 0.0))


# -- functions of one value ---------------------------------------------------------------------------


@elementwise(
    "abs(input)",
    vjp=lambda g, input: g * sign(input),
    method=("abs", "__abs__", "absolute"),
    inplace="abs_",
    away_from=(0.0,),
    traits={"idempotent": True},
    error=0.0,
)
def abs(input: Tensor) -> Tensor:
    """The absolute value; its derivative at 0 is taken as 0."""


absolute = abs


@elementwise("exp(input)", vjp=lambda g, y: g * y, dtype="float", method="exp", inplace="exp_")
def exp(input: Tensor) -> Tensor:
    """e to the power of each element."""


@elementwise(
    "log(input)",
    vjp=lambda g, input: g / input,
    dtype="float",
    method="log",
    inplace="log_",
    domain=(0.2, 5.0),
)
def log(input: Tensor) -> Tensor:
    """The natural logarithm; -inf at 0 and NaN below."""


@elementwise(
    "log1p(input)", vjp=lambda g, input: g / (input + 1.0), dtype="float", method="log1p", domain=(-0.8, 4.0)
)
def log1p(input: Tensor) -> Tensor:
    """log(1 + input), accurate near 0."""


@elementwise("expm1(input)", vjp=lambda g, y: g * (y + 1.0), dtype="float", method="expm1")
def expm1(input: Tensor) -> Tensor:
    """exp(input) - 1, accurate near 0."""


@elementwise(
    "sqrt(input)",
    vjp=lambda g, y: g / (y + y),
    dtype="float",
    method="sqrt",
    inplace="sqrt_",
    domain=(0.2, 5.0),
)
def sqrt(input: Tensor) -> Tensor:
    """The square root; NaN for negative elements."""


@elementwise(
    "1.0 / sqrt(input)",
    vjp=lambda g, y: g * (y * y * y) * -0.5,
    dtype="float",
    method="rsqrt",
    inplace="rsqrt_",
    domain=(0.2, 5.0),
)
def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(input)."""


@elementwise(
    "square(input)",
    vjp=lambda g, input: g * (input + input),
    dtype="number",
    method="square",
    inplace="square_",
    error=0.5,
)
def square(input: Tensor) -> Tensor:
    """input * input.  Raises DTypeError for bools."""


@elementwise(
    "1.0 / input",
    vjp=lambda g, y: -g * y * y,
    dtype="float",
    method="reciprocal",
    inplace="reciprocal_",
    domain=(0.3, 3.0),
)
def reciprocal(input: Tensor) -> Tensor:
    """1 / input."""


@elementwise("sin(input)", vjp=lambda g, input: g * cos(input), dtype="float", method="sin", inplace="sin_")
def sin(input: Tensor) -> Tensor:
    """The sine, of radians."""


@elementwise("cos(input)", vjp=lambda g, input: -g * sin(input), dtype="float", method="cos", inplace="cos_")
def cos(input: Tensor) -> Tensor:
    """The cosine, of radians."""


@elementwise("tanh(input)", vjp=lambda g, y: g - g * (y * y), dtype="float", method="tanh", inplace="tanh_")
def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""


@elementwise(
    "1.0 / (1.0 + exp(-input))",
    vjp=lambda g, y: g * (y - y * y),
    dtype="float",
    method="sigmoid",
    inplace="sigmoid_",
)
def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-input)), the logistic function."""


@elementwise(
    "erf(input)",
    vjp=lambda g, input: g * (exp(-square(input)) * (2.0 / math.sqrt(math.pi))),
    dtype="float",
    method="erf",
    inplace="erf_",
    error=8.0,
)
def erf(input: Tensor) -> Tensor:
    """The error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to input."""


@elementwise(
    "floor(input)", vjp=_zero, method="floor", inplace="floor_", away_from=(-2, -1, 0, 1, 2), error=0.0
)
def floor(input: Tensor) -> Tensor:
    """The largest integer not above each element, in the same dtype; the gradient is zero."""


@elementwise("ceil(input)", vjp=_zero, method="ceil", inplace="ceil_", away_from=(-2, -1, 0, 1, 2), error=0.0)
def ceil(input: Tensor) -> Tensor:
    """The smallest integer not below each element, in the same dtype; the gradient is zero."""


@elementwise(
    "trunc(input)", vjp=_zero, method="trunc", inplace="trunc_", away_from=(-2, -1, 0, 1, 2), error=0.0
)
def trunc(input: Tensor) -> Tensor:
    """Each element without its fraction, in the same dtype; the gradient is zero."""


@elementwise("rint(input)", vjp=_zero, dtype="float", away_from=(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5), error=0.0)
def _round(input: Tensor) -> Tensor:
    """The nearest integer, halves to even; the gradient is zero."""


@method("round", inplace=True)
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest multiple of 10**-decimals, halves to even; the gradient is zero."""
    if not is_float(input.dtype):
        return input
    if decimals == 0:
        return _round(input)
    scale = 10.0**decimals
    return _round(input * scale) / scale


@elementwise(
    "sign(input)",
    vjp=_zero,
    dtype="number",
    method=("sign", "sgn"),
    inplace="sign_",
    away_from=(0.0,),
    error=0.0,
)
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1; the gradient is zero."""


# -- comparisons and logic ------------------------------------------------------------------------


@elementwise("input == other", vjp=(None, None), dtype="bool", method=("__eq__", "eq"), error=0.0)
def eq(input: Tensor, other: Operand) -> Tensor:
    """Elementwise input == other."""


@elementwise("input != other", vjp=(None, None), dtype="bool", method=("__ne__", "ne"), error=0.0)
def ne(input: Tensor, other: Operand) -> Tensor:
    """Elementwise input != other."""


@elementwise("input < other", vjp=(None, None), dtype="bool", method=("__lt__", "lt"), error=0.0)
def lt(input: Tensor, other: Operand) -> Tensor:
    """Elementwise input < other."""


@elementwise("input <= other", vjp=(None, None), dtype="bool", method=("__le__", "le"), error=0.0)
def le(input: Tensor, other: Operand) -> Tensor:
    """Elementwise input <= other."""


@elementwise("input > other", vjp=(None, None), dtype="bool", method=("__gt__", "gt"), error=0.0)
def gt(input: Tensor, other: Operand) -> Tensor:
    """Elementwise input > other."""


@elementwise("input >= other", vjp=(None, None), dtype="bool", method=("__ge__", "ge"), error=0.0)
def ge(input: Tensor, other: Operand) -> Tensor:
    """Elementwise input >= other."""


@elementwise("isnan(input)", dtype="bool", method="isnan", error=0.0)
def isnan(input: Tensor) -> Tensor:
    """Whether each element is NaN."""


@elementwise("isfinite(input)", dtype="bool", method="isfinite", error=0.0)
def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither NaN nor infinite."""


@elementwise("logical_not(input)", dtype="bool", method="logical_not", error=0.0)
def logical_not(input: Tensor) -> Tensor:
    """Whether each element is zero or False."""


@elementwise("logical_and(input, other)", vjp=(None, None), dtype="bool", method="logical_and", error=0.0)
def logical_and(input: Tensor, other: Operand) -> Tensor:
    """Whether both elements are nonzero."""


@elementwise("logical_or(input, other)", vjp=(None, None), dtype="bool", method="logical_or", error=0.0)
def logical_or(input: Tensor, other: Operand) -> Tensor:
    """Whether at least one of the elements is nonzero."""


# -- bits -----------------------------------------------------------------------------------------


def _bits(name: str, kernel: Any, symbol: str, shift: bool = False) -> Any:
    op = primitive(
        f"bitwise_{name}",
        kind="elementwise",
        inputs=("input", "other"),
        kernel=kernel,
        shape=_elementwise_shape("same"),
        vjp=(None, None),
        traits={} if shift else {"commutative": True},
        samples=lambda rng: [
            ((rng.integers(0, 5, s), rng.integers(0, 5, t)), ())
            for s, t in (((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2,)), ((0, 3), (1, 3)))
        ],
        doc=f"input {symbol} other, bit by bit",
        error=0.0,
    )

    def function(input: Tensor, other: Operand) -> Tensor:
        operands = promoted(f"bitwise_{name}", input, other)
        for x in operands:
            if is_float(x.dtype) or (shift and x.dtype.kind == "b"):
                kinds = "integers" if shift else "bools and integers"
                raise DTypeError(
                    symbol,
                    f"is defined for {kinds}, not {x.dtype}",
                    fix="compare first, e.g. (x > 0), or use .long()",
                )
        return op(*operands)

    function.__name__ = function.__qualname__ = f"bitwise_{name}"
    function.__doc__ = f"input {symbol} other, bit by bit, of integers{'' if shift else ' or bools'}."
    operator = {"left_shift": "lshift", "right_shift": "rshift"}.get(name, name)
    method(f"bitwise_{name}", f"__{operator}__")(function)

    def reflected(self: Tensor, other: Operand) -> Tensor:
        return function(other, self)  # type: ignore[arg-type]

    method(f"__r{operator}__")(reflected)
    return function


bitwise_and = _bits("and", np.bitwise_and, "&")
bitwise_or = _bits("or", np.bitwise_or, "|")
bitwise_xor = _bits("xor", np.bitwise_xor, "^")
bitwise_left_shift = _bits("left_shift", np.left_shift, "<<", shift=True)
bitwise_right_shift = _bits("right_shift", np.right_shift, ">>", shift=True)

_not_op = primitive(
    "bitwise_not",
    kind="elementwise",
    inputs=("input",),
    kernel=np.invert,
    shape=_elementwise_shape("same"),
    vjp=(None,),
    traits={"involution": True},
    samples=lambda rng: [((rng.integers(0, 9, (3, 4)),), ()), ((rng.uniform(size=3) < 0.5,), ())],
    doc="each bit turned over",
    error=0.0,
)


@method("bitwise_not", "__invert__")
def bitwise_not(input: Tensor) -> Tensor:
    """~input: each bit of integers, or bools, turned over."""
    if is_float(input.dtype):
        raise DTypeError(
            "~", f"is defined for bools and integers, not {input.dtype}", fix="compare first, e.g. (x > 0)"
        )
    return _not_op(input)


# -- selection -------------------------------------------------------------------------------------

_where = primitive(
    "where",
    kind="elementwise",
    inputs=("condition", "input", "other"),
    formula="where(condition, input, other)",
    kernel=np.where,
    shape=_elementwise_shape("select"),
    vjp=(
        None,
        lambda g, condition: where(condition, g, 0.0),
        lambda g, condition: where(condition, 0.0, g),
    ),
    samples=lambda rng: [
        ((rng.uniform(size=s) < 0.5, rng.normal(size=t), rng.normal(size=u)), ())
        for s, t, u in [((3, 4), (3, 4), (3, 4)), ((3, 1), (4,), ()), ((0, 3), (3,), (1, 3)), ((), (), ())]
    ],
    doc="input where the condition holds, other elsewhere",
    error=0.0,
)


def where(condition: Tensor, input: Operand | None = None, other: Operand | None = None) -> Tensor:
    """`input` where `condition` is True, `other` elsewhere; all three broadcast.

    Without the two, `nonzero(condition, as_tuple=True)`: the places where it is nonzero.
    Raises DTypeError if the condition is not bool.
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)  # type: ignore[no-any-return]
    if input is None or other is None:
        raise ArgumentError("where", "one of input and other is missing", fix="pass both, or none")
    x, w = promoted("where", input, other)
    if not isinstance(condition, Tensor):
        condition = Tensor(condition)
    if condition.dtype.kind != "b":
        raise DTypeError(
            "where", f"the condition has dtype {condition.dtype}", fix="write a comparison, e.g. x > 0"
        )
    return _where(condition, x, w)


@method("where")
def _where_method(self: Tensor, condition: Tensor, other: Operand) -> Tensor:
    """`self` where `condition` is True, `other` elsewhere."""
    return where(condition, self, other)


@method("masked_fill", inplace=True)
def masked_fill(input: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """`input` with `value` (a number or 0-d tensor) where `mask` is True."""
    if mask.dtype.kind != "b":
        raise DTypeError(
            "masked_fill", f"the mask has dtype {mask.dtype}", fix="write a comparison, e.g. x > 0"
        )
    if isinstance(value, Tensor):
        if value.ndim:
            raise ArgumentError(
                "masked_fill", f"the value has shape {value.shape}", fix="pass a number or a 0-d tensor"
            )
        return _where(mask, cast(value, input.dtype), input)
    if type(value) is float and not is_float(input.dtype):
        raise DTypeError(
            "masked_fill", f"the float {value} into a {input.dtype} tensor", fix="convert with .float()"
        )
    return _where(mask, Tensor(value, input.dtype), input)


_clamp_min = primitive(
    "clamp_min",
    kind="elementwise",
    inputs=("input",),
    attrs=("min",),
    formula="where(input < min, min, input)",
    kernel=lambda input, min: np.where(input < min, input.dtype.type(min), input),
    shape=_elementwise_shape("same"),
    vjp=(lambda g, input, min: where(input < min, 0.0, g),),
    samples=lambda rng: [((rng.choice([-1.5, -0.7, 0.4, 2.0], (3, 4)),), (m,)) for m in (-1.0, 0.0, 1.0)],
    doc="elements below min become min",
    error=0.0,
)
_clamp_max = primitive(
    "clamp_max",
    kind="elementwise",
    inputs=("input",),
    attrs=("max",),
    formula="where(input > max, max, input)",
    kernel=lambda input, max: np.where(input > max, input.dtype.type(max), input),
    shape=_elementwise_shape("same"),
    vjp=(lambda g, input, max: where(input > max, 0.0, g),),
    samples=lambda rng: [((rng.choice([-1.5, -0.7, 0.4, 2.0], (3, 4)),), (m,)) for m in (-1.0, 0.0, 1.0)],
    doc="elements above max become max",
    error=0.0,
)


@method("clamp", "clip", inplace=True)
def clamp(input: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """Elements limited to [min, max]; NaN stays NaN, and max wins if min > max.

    The gradient is 1 inside, bounds included, and 0 outside.  Raises ArgumentError without bounds.
    """
    if min is None and max is None:
        raise ArgumentError("clamp", "neither min nor max is given", fix="pass at least one of them")
    if not is_float(input.dtype) and (type(min) is float or type(max) is float):
        input = floating(input)
    elif input.dtype.kind == "b" and (type(min) is int or type(max) is int):
        input = cast(input, int64)
    if min is not None:
        input = maximum(input, min) if isinstance(min, Tensor) else _clamp_min(input, min)
    if max is not None:
        input = minimum(input, max) if isinstance(max, Tensor) else _clamp_max(input, max)
    return input


clip = clamp

# -- dtype -----------------------------------------------------------------------------------------

_cast = primitive(
    "cast",
    kind="elementwise",
    inputs=("input",),
    attrs=("dtype",),
    kernel=lambda input, dtype: input.astype(dtype),
    shape=lambda input, dtype: Spec(input.shape, dtype),
    vjp=(lambda g, x_dtype: cast(g, x_dtype),),
    samples=lambda rng: [((rng.normal(size=(3, 4)),), (d,)) for d in (np.dtype("float64"),)],
    traits={"identity": lambda x, dtype: True},
    doc="the elements in another dtype",
    error=0.0,
)


def cast(input: Tensor, dtype: Any) -> Tensor:
    """The elements in another dtype; the tensor itself if it has that dtype already."""
    wanted = as_dtype(dtype, "cast")
    return input if input.dtype == wanted else _cast(input, wanted)


hooks.cast = cast  # type: ignore[attr-defined]


@method("to")
def to(
    input: Tensor,
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    copy: bool = False,
    non_blocking: bool = False,
) -> Tensor:
    """The tensor with another dtype, as `x.to(mg.float64)`, `x.to("cpu")` or `x.to(other)`.

    non_blocking says that the caller need not wait for the transfer; there is none.
    Raises ArgumentError for a device other than "cpu".
    """
    for value in args:
        if isinstance(value, Tensor):
            dtype = value.dtype
        elif isinstance(value, str) and not _is_dtype_name(value):
            device = value
        else:
            dtype = value
    check_device("to", device)
    result = input if dtype is None else cast(input, dtype)
    return result.clone() if copy and result is input else result


@method("cpu")
def cpu(input: Tensor) -> Tensor:
    """The tensor itself: there is no other device."""
    return input


@method("cuda")
def cuda(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Raises ArgumentError: there is no such device."""
    check_device("cuda", "cuda")
    return input


def _is_dtype_name(name: str) -> bool:
    try:
        np.dtype(name)
    except TypeError:
        return False
    return True


def check_device(op: str, device: Any) -> None:
    """Raise ArgumentError for any device but the CPU."""
    if device is not None and str(device).partition(":")[0] != "cpu":
        raise ArgumentError(
            op, f"there is no device {str(device)!r}", fix="leave device out: minigrad runs on the CPU"
        )


def _caster(name: str, dtype: Any) -> None:
    def method_(self: Tensor) -> Tensor:
        return cast(self, dtype)

    method_.__name__ = method_.__qualname__ = name
    method_.__doc__ = f"The elements as {np.dtype(dtype).name}."
    method(name)(method_)


for _name, _dtype in (
    ("float", "float32"),
    ("double", "float64"),
    ("byte", "uint8"),
    ("short", "int16"),
    ("int", "int32"),
    ("long", "int64"),
    ("bool", "bool"),
):
    _caster(_name, _dtype)


@method("type")
def _type(self: Tensor, dtype: Any = None) -> Any:
    """The dtype, or the tensor in another one."""
    return self.dtype if dtype is None else cast(self, dtype)


@method("type_as")
def _type_as(self: Tensor, other: Tensor) -> Tensor:
    """The tensor in the dtype of another."""
    return cast(self, other.dtype)


_clone = primitive(
    "clone",
    kind="elementwise",
    inputs=("input",),
    kernel=lambda input: input.copy(),
    shape=lambda input: input,
    vjp=(lambda g: g,),
    samples=lambda rng: [((rng.normal(size=(3, 4)),), ())],
    traits={"identity": lambda x: True},
    doc="a copy in memory of its own",
    error=0.0,
)


@method("clone")
def clone(input: Tensor) -> Tensor:
    """A copy in memory of its own; gradients flow through it."""
    return _clone(input)


@method("contiguous")
def contiguous(input: Tensor) -> Tensor:
    """The tensor itself if its memory is row-major without gaps, else a copy that is."""
    return input if input.is_contiguous() else _contiguous(input)


_contiguous = primitive(
    "contiguous",
    kind="elementwise",
    inputs=("input",),
    kernel=lambda input: input.copy(order="C"),
    shape=lambda input: input,
    vjp=(lambda g: g,),
    samples=lambda rng: [((rng.normal(size=(3, 4)).T,), ())],
    traits={"identity": lambda x: True},
    doc="a row-major copy",
    error=0.0,
)


def _all_finite(input: Any) -> Any:
    if not np.isfinite(input).all():
        raise Refusal("a value is NaN or infinite", "look at what it was computed from", AnomalyError)
    return input.copy()


finite = primitive(
    "finite",
    kind="opaque",
    inputs=("input",),
    kernel=_all_finite,
    shape=lambda input: input,
    vjp=(lambda g: g,),
    samples=lambda rng: [((rng.normal(size=shape),), ()) for shape in ((3, 4), ())],
    reference=lambda input: input,
    traits={"refuses": True},
    doc="the input, which must be finite: how a captured step refuses to go on",
    error=0.0,
)


def result_type(*tensors: Any) -> DType:
    """The dtype that an operation on these tensors and numbers would give."""
    return promoted("result_type", *tensors)[0].dtype


for _name, _function in (
    ("floor_divide", floor_divide),
    ("remainder", remainder),
    ("bitwise_and", Tensor.__and__),
    ("bitwise_or", Tensor.__or__),
    ("bitwise_xor", Tensor.__xor__),
    ("invert", Tensor.__invert__),
    ("power", pow),
    ("positive", positive),
):
    hooks.ufuncs[_name] = _function

hooks.add = _add
