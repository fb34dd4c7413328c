"""What neural networks are made of: activations, softmax, normalisation, embeddings, dropout.

**Activations** are elementwise: one formula each, and g * f'(x) for its derivative.  Formulas are
written so that a large input gives the limit and neither overflow nor NaN:

    silu       x / (1 + exp(-x))              exp overflows to Inf, and x / Inf is 0
    softplus   log(1 + exp(min(x, 20)))       above 20 it is x to the last digit
    gelu       x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2

**Softmax** along a dimension, y = exp(x - max x) / sum exp(x - max x): the shift cancels, and the
largest exponent is 0.  With J = diag(y) - y y^T,

    softmax      gx = y * (g - sum(g y))
    log_softmax  gx = g - exp(y) * sum(g)

What a cross entropy takes from it, one element a row, is `pick`; its transpose is `place`.  The cross
entropy of logits and labels is an operation of its own, for its gradient needs no logarithm: with t the
row that is 1 at the label and 0 elsewhere,

    gx = g * (softmax(x) - t)

**Standardisation** is what layer, batch, instance and group normalisation have in common, and they
differ only in the dimensions over which mean and variance are taken.  With r = (var x + eps)^(-1/2)
and y = (x - mean x) r,

    gx = r * (g - mean(g) - y * mean(g y))                            (Ioffe & Szegedy 2015)

that is: g without its components along the two directions, 1 and y, which the result cannot move
in.  r is an operation of its own, with gr -> -gr r^2 y / n, so the rule can be differentiated again.

    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    >>> layer_norm(x, (3,))
    tensor([[-1.2247,  0.    ,  1.2247]], grad_fn=<standardize>)
    >>> softmax(x, dim=1).sum().backward()      # it is 1 whatever x is
    >>> bool(x.grad.abs().max() < 1e-6)
    True

Convolution and pooling have a lesson of their own in `minigrad.ops.convolution`.

References: Hendrycks & Gimpel 2016 (arXiv 1606.08415), gelu; Elfwing et al. 2017 (1702.03118), silu;
Ioffe & Szegedy 2015 (1502.03167); Ba, Kiros & Hinton 2016 (1607.06450); Wu & He 2018 (1803.08494);
Zhang & Sennrich 2019 (1910.07467); Srivastava et al. 2014, dropout.
Left out: sparse gradients of embeddings (a gradient here is a dense tensor), and softmax without a
dimension, which guesses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..bind import _elementwise_shape, _Samples, elementwise, floating, in_place, method, primitive
from ..errors import ArgumentError, DTypeError, OutOfRangeError, Refusal, ShapeError
from ..formula import Formula
from ..ir import DType, Shape, Spec, is_float
from ..mode import no_grad
from ..record import Rule
from ..tensor import Tensor
from .convolution import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    max_pool1d,
    max_pool2d,
)
from .creation import rand
from .elementwise import _where, cast, clamp, erf, exp, log, log1p, mul, rsqrt, sigmoid, square, where
from .indexing import _index_select, _integers
from .movement import _reshape, one_dim
from .reduction import _count, _mean, _sum, reduced, var

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elu",
    "embedding",
    "gelu",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "max_pool1d",
    "max_pool2d",
    "pick",
    "place",
    "relu",
    "rms_norm",
    "rstd",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softmin",
    "softplus",
    "standardize",
]

# -- activations -----------------------------------------------------------------------------------


def _relu_grad_rule(g: Tensor, output: Tensor) -> Tensor:
    return _relu_grad(g, output)


@elementwise(
    "where(output <= 0.0, 0.0, input)",
    vjp=(_relu_grad_rule, None),
    dtype="float",
    traits={"masks": True},
    away_from=(0.0,),
    error=0.0,
)
def _relu_grad(input: Tensor, output: Tensor) -> Tensor:
    """The cotangent of relu: 0 where its output is 0, also if the cotangent is Inf."""


@elementwise(
    "maximum(input, 0)",
    vjp=lambda g, y: _relu_grad(g, y),
    dtype="number",
    method="relu",
    inplace="relu_",
    traits={"idempotent": True},
    away_from=(0.0,),
    error=0.0,
)
def relu(input: Tensor) -> Tensor:
    """max(input, 0); NaN stays NaN.  The derivative at 0 is 0."""


def _activation(
    name: str,
    formula: str,
    *,
    attrs: tuple[str, ...] = (),
    values: Sequence[tuple[Any, ...]] = ((),),
    vjp: Rule,
    away_from: tuple[float, ...] = (),
    error: float = 8.0,
    doc: str,
) -> Callable[..., Tensor]:
    """The record of an activation; `values` are attributes to try it with."""
    parsed = Formula(formula)
    draw = _Samples(1, (-3.0, 3.0), away_from, False)
    return primitive(
        name,
        kind="elementwise",
        inputs=("input",),
        attrs=attrs,
        formula=formula,
        kernel=parsed.numpy(("input", *attrs)),
        shape=_elementwise_shape("float"),
        vjp=(vjp,),
        samples=lambda rng: [(x, value) for value in values for x, _ in draw(rng)],
        error=error,
        doc=doc,
    )


_leaky_relu = _activation(
    "leaky_relu",
    "where(input > 0.0, input, input * negative_slope)",
    attrs=("negative_slope",),
    values=[(0.01,), (0.3,), (0.0,)],
    vjp=lambda g, input, negative_slope: where(input > 0.0, g, g * negative_slope),
    away_from=(0.0,),
    error=0.5,
    doc="the input where it is positive, the input times negative_slope elsewhere",
)
_elu = _activation(
    "elu",
    "where(input > 0.0, input, alpha * expm1(minimum(input, 0.0)))",
    attrs=("alpha",),
    values=[(1.0,), (0.7,)],
    vjp=lambda g, y, input, alpha: where(input > 0.0, g, g * (y + alpha)),
    away_from=(0.0,),
    doc="the input where it is positive, alpha * (exp(input) - 1) elsewhere",
)

_HALF_SQRT = 1.0 / math.sqrt(2.0)
_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # of the normal distribution at 0
_TANH_SCALE = math.sqrt(2.0 / math.pi)

_gelu = _activation(
    "gelu",
    f"0.5 * input * (1.0 + erf(input * {_HALF_SQRT!r}))",
    vjp=lambda g, input: (
        g * (0.5 * (1.0 + erf(input * _HALF_SQRT)) + input * (exp(square(input) * -0.5) * _DENSITY))
    ),
    # 1 + erf(x / sqrt 2) is 0.0027 at x = -3: an ulp of erf, which may err by 1.5, is 256 of those
    error=400.0,
    doc="input * Phi(input), Phi being the normal distribution function",
)


#: 2 sqrt(2 / pi) and 0.044715 times that: the tanh form is x sigmoid(z), z = x (cube x^2 + line), as
#: (1 + tanh u) / 2 = sigmoid(2u).  Forward and backward have x^2, z and the sigmoid in common, written alike.
_GELU_LINE = 2.0 * math.sqrt(2.0 / math.pi)
_GELU_CUBE = 0.044715 * _GELU_LINE


_GELU_GATE = f"(1.0 / (1.0 + exp(-(input * (square(input) * {_GELU_CUBE!r} + {_GELU_LINE!r})))))"


def _gelu_tanh_curve(input: Tensor) -> Tensor:
    """The second derivative: with s = sigmoid(z), s (1 - s) (2 z' + x ((1 - 2 s) z'^2 + z''))."""
    # beyond 50 it is 0: limiting x there avoids 0 * Inf, in derivatives of any order
    x = clamp(input, -50.0, 50.0)
    s = sigmoid(x * (square(x) * _GELU_CUBE + _GELU_LINE))
    inner = square(x) * (3.0 * _GELU_CUBE) + _GELU_LINE
    bend = (1.0 - 2.0 * s) * square(inner) + x * (6.0 * _GELU_CUBE)
    return s * (1.0 - s) * (2.0 * inner + x * bend)


# x dz/dx; where it is large s (1 - s) is 0, and the limits avoid 0 * Inf
_GELU_SLOPE = f"input * (square(input) * {3.0 * _GELU_CUBE!r} + {_GELU_LINE!r})"
_GELU_SLOPE = f"where({_GELU_SLOPE} < -1048576.0, -1048576.0, {_GELU_SLOPE})"
_GELU_SLOPE = f"where({_GELU_SLOPE} > 1048576.0, 1048576.0, {_GELU_SLOPE})"


@elementwise(
    f"cotangent * ({_GELU_GATE} + {_GELU_GATE} * (1.0 - {_GELU_GATE}) * {_GELU_SLOPE})",
    vjp=(
        lambda g, input: _gelu_tanh_grad(g, input),
        lambda g, cotangent, input: g * cotangent * _gelu_tanh_curve(input),
    ),
    dtype="float",
    error=64.0,
)
def _gelu_tanh_grad(cotangent: Tensor, input: Tensor) -> Tensor:
    """The gradient of gelu's tanh approximation."""


_gelu_tanh = _activation(
    "gelu_tanh",
    f"input * {_GELU_GATE}",
    vjp=lambda g, input: _gelu_tanh_grad(g, input),
    error=64.0,
    doc="gelu with its tanh approximation",
)
_silu = _activation(
    "silu",
    "input / (1.0 + exp(-input))",
    vjp=lambda g, input: _silu_rule(g, input),
    doc="input * sigmoid(input)",
)


def _silu_rule(g: Tensor, input: Tensor) -> Tensor:
    s = sigmoid(input)
    return g * (s * (1.0 + input * (1.0 - s)))


_softplus = _activation(
    "softplus",
    "where(input * beta > threshold, input, log1p(exp(minimum(input * beta, threshold))) / beta)",
    attrs=("beta", "threshold"),
    values=[(1.0, 20.0), (2.5, 20.0)],
    vjp=lambda g, input, beta, threshold: where(input * beta > threshold, g, g * sigmoid(input * beta)),
    doc="log(1 + exp(beta * input)) / beta, and the input itself where beta * input is above threshold",
)
_logsigmoid = _activation(
    "logsigmoid",
    "minimum(input, 0.0) - log1p(exp(-abs(input)))",
    vjp=lambda g, input: g * sigmoid(-input),
    doc="log(sigmoid(input))",
)


def _number(op: str, name: str, value: Any) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise DTypeError(op, f"{name} is {value!r}", fix="pass a Python number")
    return float(value)


def placed(function: Callable[[Tensor], Tensor], input: Tensor, inplace: bool, name: str) -> Tensor:
    """`function(input)`, written into the input if that is wanted; a derivative then keeps the old value."""
    return in_place(function, name)(input) if inplace else function(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """The input where it is positive, the input times `negative_slope` elsewhere."""
    slope = _number("leaky_relu", "negative_slope", negative_slope)
    return placed(lambda x: _leaky_relu(floating(x), slope), input, inplace, "leaky_relu_")


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """The input where it is positive, alpha * (exp(input) - 1) elsewhere."""
    a = _number("elu", "alpha", alpha)
    return placed(lambda x: _elu(floating(x), a), input, inplace, "elu_")


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input * Phi(input), with the normal distribution function ("none") or its tanh approximation.

    Raises ArgumentError for another `approximate`.
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError("gelu", f"approximate is {approximate!r}", fix="use 'none' or 'tanh'")
    return (_gelu if approximate == "none" else _gelu_tanh)(floating(input))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input), also called swish."""
    return placed(lambda x: _silu(floating(x)), input, inplace, "silu_")


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta * input)) / beta; the input itself where beta * input is above `threshold`."""
    b = _number("softplus", "beta", beta)
    if not b:
        raise ArgumentError("softplus", "beta is 0", fix="pass a positive number")
    return _softplus(floating(input), b, _number("softplus", "threshold", threshold))


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(input)), without underflow."""
    return _logsigmoid(floating(input))


# -- softmax ---------------------------------------------------------------------------------------


def _softmax_kernel(input: Any, dim: int) -> Any:
    y = input - np.maximum.reduce(input, axis=dim, keepdims=True, initial=-np.inf)
    np.exp(y, out=y)
    y /= np.add.reduce(y, axis=dim, keepdims=True)
    return y


def _log_softmax_kernel(input: Any, dim: int) -> Any:
    y = input - np.maximum.reduce(input, axis=dim, keepdims=True, initial=-np.inf)
    y -= np.log(np.add.reduce(np.exp(y), axis=dim, keepdims=True))
    return y


def _softmax_shape(input: Spec, dim: int) -> Spec:
    if not is_float(input.dtype):
        raise Refusal(
            f"is defined for floating point, not {input.dtype}", "convert with .float()", DTypeError
        )
    if not 0 <= dim < len(input.shape):
        raise Refusal(f"dim {dim} of shape {input.shape} does not exist", "use one that does")
    return input


def _softmax_samples(rng: Any) -> list[Any]:
    return [
        ((rng.normal(size=(3, 4)),), (0,)),
        ((rng.normal(size=(3, 4)),), (1,)),
        ((rng.normal(size=(2, 3, 4)),), (1,)),
        ((rng.normal(size=(4, 6)).T[::2] * 30.0,), (1,)),
        ((np.zeros((0, 3)),), (1,)),
        ((np.zeros((2, 0)),), (1,)),
    ]


def _softmax_reference(input: Any, dim: int) -> Any:
    e = np.exp(input.astype(np.longdouble))
    return e / e.sum(axis=dim, keepdims=True)


_softmax = primitive(
    "softmax",
    kind="reduction",
    inputs=("input",),
    attrs=("dim",),
    kernel=_softmax_kernel,
    shape=_softmax_shape,
    vjp=(lambda g, y, dim: y * (g - _sum(g * y, (dim,), True)),),
    samples=_softmax_samples,
    reference=_softmax_reference,
    doc="exp(input) / sum(exp(input)) along a dimension",
)
_log_softmax = primitive(
    "log_softmax",
    kind="reduction",
    inputs=("input",),
    attrs=("dim",),
    kernel=_log_softmax_kernel,
    shape=_softmax_shape,
    vjp=(lambda g, y, dim: g - exp(y) * _sum(g, (dim,), True),),
    samples=_softmax_samples,
    reference=lambda input, dim: np.log(_softmax_reference(input, dim)),
    doc="log(softmax(input)) along a dimension",
)


def _along(op: str, record: Callable[..., Tensor], input: Tensor, dim: Any, dtype: Any) -> Tensor:
    if dim is None:
        raise ArgumentError(
            op,
            f"no dim is given for a tensor of shape {input.shape}",
            fix="pass the dimension of the classes, dim=-1",
        )
    at = one_dim(op, dim, input.ndim)
    x = floating(input) if dtype is None else cast(input, dtype)
    return record(x, at) if x.ndim else _reshape(record(_reshape(x, (1,)), 0), ())


@method("softmax")
def softmax(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """exp(input) / sum(exp(input)) along `dim`, which must be given; `dtype` converts first.

    Raises ArgumentError without a dimension.
    """
    return _along("softmax", _softmax, input, dim, dtype)


@method("log_softmax")
def log_softmax(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """log(softmax(input)) along `dim`, without underflow; `dtype` converts first.

    Raises ArgumentError without a dimension.
    """
    return _along("log_softmax", _log_softmax, input, dim, dtype)


def softmin(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """softmax of -input."""
    return _along("softmin", _softmax, -input, dim, dtype)


# -- the value of one class ------------------------------------------------------------------------


def _label_places(labels: Any, shape: Shape, dim: int) -> Any:
    """Positions, in a flattened array of `shape`, that labels along `dim` name.

    Raises Refusal for a label that is no class.
    """
    classes, after = shape[dim], math.prod(shape[dim + 1 :])
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        bad = labels[(labels < 0) | (labels >= classes)].flat[0]
        raise Refusal(
            f"the class label {bad} with an input of shape {shape}, which has {classes} classes",
            f"labels are 0 to {classes - 1}, or ignore_index",
            OutOfRangeError,
        )
    first = np.arange(math.prod(shape[:dim])) * (classes * after)
    if after == 1:
        return first + labels.reshape(-1)
    return (first[:, None] + labels.reshape(-1, after) * after + np.arange(after)).reshape(-1)


def _labels_shape(labels: Spec, shape: Shape, dim: int) -> None:
    if labels.dtype.kind not in "iu":
        raise Refusal(f"labels of dtype {labels.dtype}", "use integers, .long()", DTypeError)
    if labels.shape != (*shape[:dim], *shape[dim + 1 :]):
        raise Refusal(f"labels of shape {labels.shape} for dim {dim} of shape {shape}", "give one a place")


def _pick_shape(input: Spec, labels: Spec, dim: int) -> Spec:
    _labels_shape(labels, input.shape, dim)
    return Spec(labels.shape, input.dtype)


def _place_shape(input: Spec, labels: Spec, classes: int, dim: int) -> Spec:
    shape = (*input.shape[:dim], classes, *input.shape[dim:])
    _labels_shape(labels, shape, dim)
    return Spec(shape, input.dtype)


def _pick_kernel(input: Any, labels: Any, dim: int) -> Any:
    _labels_shape(Spec(labels.shape, labels.dtype), input.shape, dim)
    return input.reshape(-1).take(_label_places(labels, input.shape, dim)).reshape(labels.shape)


def _place_kernel(input: Any, labels: Any, classes: int, dim: int) -> Any:
    y = np.zeros((*input.shape[:dim], classes, *input.shape[dim:]), input.dtype)
    _labels_shape(Spec(labels.shape, labels.dtype), y.shape, dim)
    y.reshape(-1)[_label_places(labels, y.shape, dim)] = input.reshape(-1)
    return y


def _label_samples(rng: Any) -> list[tuple[Any, Any, int]]:
    shapes = [((3, 4), 1), ((4,), 0), ((2, 3, 2, 2), 1), ((0, 3), 1)]
    return [(rng.normal(size=s), rng.integers(0, s[d], (*s[:d], *s[d + 1 :])), d) for s, d in shapes]


pick: Callable[..., Tensor] = primitive(
    "pick",
    kind="index",
    inputs=("input", "labels"),
    attrs=("dim",),
    kernel=_pick_kernel,
    shape=_pick_shape,
    vjp=(lambda g, labels, x_shape, dim: place(g, labels, x_shape[dim], dim), None),
    traits={"batched": True},
    samples=lambda rng: [((x, t), (d,)) for x, t, d in _label_samples(rng)],
    reference=lambda input, labels, dim: np.take_along_axis(input, np.expand_dims(labels, dim), dim).squeeze(
        dim
    ),
    error=0.0,
    doc="the element of each row (along dim) that its label names",
)
place: Callable[..., Tensor] = primitive(
    "place",
    kind="index",
    inputs=("input", "labels"),
    attrs=("classes", "dim"),
    kernel=_place_kernel,
    shape=_place_shape,
    vjp=(lambda g, labels, dim: pick(g, labels, dim), None),
    traits={"batched": True},
    samples=lambda rng: [((x.sum(d), t), (x.shape[d], d)) for x, t, d in _label_samples(rng)],
    reference=lambda input, labels, classes, dim: (
        np.expand_dims(input, dim) * np.moveaxis(np.eye(classes)[labels], -1, dim)
    ),
    error=0.0,
    doc="rows of zeros with the input where labels say: the transpose of pick",
)


# -- cross entropy of logits and labels -------------------------------------------------------------


def _rows_shape(input: Spec, labels: Spec) -> Spec:
    _softmax_shape(input, 1)
    if len(input.shape) != 2:
        raise Refusal(f"logits of shape {input.shape}", "they must be (rows, classes)")
    _labels_shape(labels, input.shape, 1)
    return Spec(labels.shape, input.dtype)


def _rows_grad_shape(grad: Spec, input: Spec, labels: Spec) -> Spec:
    if grad != _rows_shape(input, labels):
        raise Refusal(f"{grad} where {_rows_shape(input, labels)} is needed", "give one number a row")
    return input


def _spec(array: Any) -> Spec:
    return Spec(array.shape, array.dtype)


def _softmax_cross_entropy_kernel(input: Any, labels: Any) -> Any:
    _rows_shape(_spec(input), _spec(labels))
    places = _label_places(labels, input.shape, 1)
    y = input - np.maximum.reduce(input, axis=1, keepdims=True, initial=-np.inf)
    picked = y.reshape(-1).take(places)
    np.exp(y, out=y)
    total: Any = y.sum(axis=1)
    return np.subtract(np.log(total, out=total), picked, out=total)


def _softmax_cross_entropy_grad_kernel(grad: Any, input: Any, labels: Any) -> Any:
    _rows_grad_shape(_spec(grad), _spec(input), _spec(labels))
    places = _label_places(labels, input.shape, 1)
    y = _softmax_kernel(np.ascontiguousarray(input), 1)
    y.reshape(-1)[places] -= 1.0
    y *= grad[:, None]
    return y


def _softmax_cross_entropy_grad_rule(g: Tensor, grad: Tensor, input: Tensor) -> Tensor:
    # t does not depend on x, so this is the rule of softmax, for the cotangent g * grad
    y = _softmax(input, 1)
    u = g * _reshape(grad, (grad.shape[0], 1))
    return y * (u - _sum(u * y, (1,), True))


def _cross_entropy_samples(rng: Any) -> list[Any]:
    return [
        (rng.normal(size=shape) * scale, rng.integers(0, shape[1], shape[0]))
        for shape, scale in (((3, 4), 1.0), ((5, 1), 1.0), ((2, 30), 8.0), ((40, 50), 2.0), ((0, 3), 1.0))
    ]


def _cross_entropy_reference(input: Any, labels: Any) -> Any:
    return -np.log(_softmax_reference(input, 1))[np.arange(len(labels)), labels]


softmax_cross_entropy: Callable[..., Tensor] = primitive(
    "softmax_cross_entropy",
    kind="index",
    inputs=("input", "labels"),
    kernel=_softmax_cross_entropy_kernel,
    shape=_rows_shape,
    vjp=(lambda g, input, labels: _softmax_cross_entropy_grad(g, input, labels), None),
    samples=lambda rng: [(sample, ()) for sample in _cross_entropy_samples(rng)],
    reference=_cross_entropy_reference,
    error=8.0,
    traits={"batched": "input labels", "refuses": True},
    doc="-log(softmax(input)) of each row at the class that its label names",
)
_softmax_cross_entropy_grad: Callable[..., Tensor] = primitive(
    "softmax_cross_entropy_grad",
    kind="index",
    inputs=("grad", "input", "labels"),
    kernel=_softmax_cross_entropy_grad_kernel,
    shape=_rows_grad_shape,
    vjp=(
        lambda g, input, labels: _sum(g * _softmax(input, 1), (1,), False) - pick(g, labels, 1),
        _softmax_cross_entropy_grad_rule,
        None,
    ),
    samples=lambda rng: [
        ((rng.normal(size=len(labels)), input, labels), ()) for input, labels in _cross_entropy_samples(rng)
    ],
    reference=lambda grad, input, labels: (
        grad[:, None] * (_softmax_reference(input, 1) - np.eye(input.shape[1])[labels])
    ),
    error=8.0,
    traits={"batched": "grad input labels", "refuses": True},
    doc="the gradient of softmax_cross_entropy: grad * (softmax(input) - the one-hot rows of the labels)",
)


# -- cross entropy of two outcomes -----------------------------------------------------------------


@elementwise(
    "-(target * maximum(log(input), -100.0) + (1.0 - target) * maximum(log1p(-input), -100.0))",
    vjp=(
        # the exact derivative is infinite at 0 and 1, where the loss is limited: so is the divisor
        lambda g, input, target: g * ((input - target) / clamp((1.0 - input) * input, min=1e-12)),
        lambda g, input: g * (clamp(log1p(-input), min=-100.0) - clamp(log(input), min=-100.0)),
    ),
    dtype="float",
    domain=(0.1, 0.9),
)
def _binary_cross_entropy(input: Tensor, target: Tensor) -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)), both logarithms at least -100."""


# -- standardisation -------------------------------------------------------------------------------


def _deviation(input: Any, dims: Shape, eps: float) -> tuple[Any, Any]:
    """x - mean and (var + eps)^(-1/2), in two passes so that a large mean costs no digits."""
    one_over_n = input.dtype.type(1.0 / max(_count(input.shape, dims), 1))
    centred = input - np.add.reduce(input, axis=dims, keepdims=True) * one_over_n
    variance = np.add.reduce(np.square(centred), axis=dims, keepdims=True) * one_over_n
    return centred, 1.0 / np.sqrt(variance + input.dtype.type(eps))


def _standardize_kernel(input: Any, dims: Shape, eps: float) -> Any:
    centred, r = _deviation(input, dims, eps)
    return np.multiply(centred, r, out=centred)


def _float_only(input: Spec, dims: Shape, eps: float) -> Spec:
    if not is_float(input.dtype):
        raise Refusal(
            f"is defined for floating point, not {input.dtype}", "convert with .float()", DTypeError
        )
    if any(not 0 <= d < len(input.shape) for d in dims):
        raise Refusal(f"dims {dims} of shape {input.shape} do not exist", "use those that do")
    return input


def _standardize_rule(g: Tensor, y: Tensor, input: Tensor, dims: Shape, eps: float) -> Tensor:
    return mul(_rstd(input, dims, eps), g - _mean(g, dims, True) - y * _mean(g * y, dims, True))


def _rstd_rule(g: Tensor, y: Tensor, input: Tensor, x_shape: Shape, dims: Shape, eps: float) -> Tensor:
    return mul(g * square(y) * (-1.0 / max(_count(x_shape, dims), 1)), _standardize(input, dims, eps))


def _standardize_samples(rng: Any) -> list[Any]:
    return [
        ((rng.normal(size=(3, 4)),), ((1,), 1e-5)),
        ((rng.normal(size=(4, 2, 3)),), ((0, 2), 1e-5)),
        ((rng.normal(size=(2, 3, 2, 2)) * 3.0 + 10.0,), ((2, 3), 1e-3)),
        ((rng.normal(size=(4, 6)).T[::2],), ((0,), 1e-5)),
        ((np.zeros((0, 3)),), ((1,), 1e-5)),
    ]


def _standardize_reference(input: Any, dims: Shape, eps: float) -> Any:
    x = input.astype(np.longdouble)
    return (x - x.mean(axis=dims, keepdims=True)) / np.sqrt(x.var(axis=dims, keepdims=True) + eps)


_standardize = primitive(
    "standardize",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "eps"),
    kernel=_standardize_kernel,
    shape=_float_only,
    vjp=(_standardize_rule,),
    samples=_standardize_samples,
    reference=_standardize_reference,
    error=64.0,
    doc="(input - mean) / sqrt(variance + eps), the statistics taken over dims",
)
_rstd = primitive(
    "rstd",
    kind="reduction",
    inputs=("input",),
    attrs=("dims", "eps"),
    kernel=lambda input, dims, eps: _deviation(input, dims, eps)[1],
    shape=lambda input, dims, eps: Spec(
        reduced(_float_only(input, dims, eps).shape, dims, True), input.dtype
    ),
    vjp=(_rstd_rule,),
    samples=_standardize_samples,
    reference=lambda input, dims, eps: (
        1.0 / np.sqrt(input.astype(np.longdouble).var(axis=dims, keepdims=True) + eps)
    ),
    error=64.0,
    doc="1 / sqrt(variance + eps), the variance taken over dims, which are kept as size 1",
)


def standardize(input: Tensor, dim: Any, eps: float = 1e-5) -> Tensor:
    """(input - mean) / sqrt(variance + eps), the statistics taken over the dimensions `dim`."""
    return _standardize(floating(input), _dims("standardize", dim, input), float(eps))


def rstd(input: Tensor, dim: Any, eps: float = 1e-5) -> Tensor:
    """1 / sqrt(variance + eps) over the dimensions `dim`, which are kept as size 1."""
    return _rstd(floating(input), _dims("rstd", dim, input), float(eps))


def _dims(op: str, dim: Any, input: Tensor) -> Shape:
    values = dim if isinstance(dim, (tuple, list)) else (dim,)
    return tuple(sorted({one_dim(op, d, input.ndim) for d in values}))


def _check_float(op: str, input: Tensor) -> None:
    if not is_float(input.dtype):
        raise DTypeError(op, f"the input has dtype {input.dtype}", fix="convert with .float()")


def _affine(
    op: str, y: Tensor, weight: Tensor | None, bias: Tensor | None, given: Shape, shape: Shape
) -> Tensor:
    """y * weight + bias, both of shape `given` and viewed as `shape`."""
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and t.shape != given:
            raise ShapeError(
                op, f"a {name} of shape {t.shape} where {given} is needed", fix="make it that shape"
            )
    if weight is not None:
        y = y * (weight if given == shape else _reshape(weight, shape))
    if bias is not None:
        y = y + (bias if given == shape else _reshape(bias, shape))
    return y


def _normalized(op: str, input: Tensor, normalized_shape: Any) -> tuple[Shape, Shape]:
    """The sizes that are normalised over, and the dimensions they are."""
    sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    _check_float(op, input)
    if not sizes or input.shape[-len(sizes) :] != sizes:
        raise ShapeError(
            op,
            f"normalized_shape {sizes} of an input of shape {input.shape}",
            fix=f"it must be the last sizes of the input, such as {input.shape[-max(len(sizes), 1) :]}",
        )
    return sizes, tuple(range(input.ndim - len(sizes), input.ndim))


def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Each example standardised over its last dimensions, then scaled and shifted elementwise.

    Raises ShapeError if `normalized_shape` is not how the input's shape ends.
    """
    sizes, dims = _normalized("layer_norm", input, normalized_shape)
    return _affine("layer_norm", _standardize(input, dims, float(eps)), weight, bias, sizes, sizes)


def rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """The input over the root of its mean square (plus eps) over the last dimensions, scaled by weight."""
    sizes, dims = _normalized("rms_norm", input, normalized_shape)
    least = float(np.finfo(input.dtype).eps) if eps is None else float(eps)
    y = input * rsqrt(_mean(square(input), dims, True) + least)
    return _affine("rms_norm", y, weight, None, sizes, sizes)


def _channels(op: str, input: Tensor, least: int) -> tuple[int, Shape]:
    """The number of channels, and a shape that broadcasts one number a channel over the input."""
    _check_float(op, input)
    if input.ndim < least:
        raise ShapeError(op, f"an input of shape {input.shape}", fix="it must be (batch, channels, ...)")
    c = input.shape[1]
    return c, (1, c, *(1,) * (input.ndim - 2))


def _update(running: Tensor, value: Tensor, momentum: float, op: str) -> None:
    """running <- (1 - momentum) * running + momentum * value, outside of the history."""
    if running.shape != value.shape:
        raise ShapeError(
            op,
            f"running statistics of shape {running.shape} for {value.shape[0]} channels",
            fix="make one entry a channel",
        )
    running.assign(cast(running.detach() * (1.0 - momentum) + value * momentum, running.dtype))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel standardised over batch and space, then scaled and shifted.

    training: by the statistics of this batch, with which the running ones, if given, are updated in
    place (the variance without bias).  Otherwise by the running ones, which must then be given.
    Raises ArgumentError for a batch with one value a channel, whose variance says nothing.
    """
    op = "batch_norm"
    c, shape = _channels(op, input, 2)
    if training:
        dims = (0, *range(2, input.ndim))
        n = _count(input.shape, dims)
        if n == 1:
            raise ArgumentError(
                op,
                f"an input of shape {input.shape} has one value a channel, whose variance is 0",
                fix="use a larger batch, or eval mode",
            )
        if running_mean is not None or running_var is not None:
            with no_grad():
                x = input.detach()
                if running_mean is not None:
                    _update(running_mean, _mean(x, dims, False), momentum, op)
                if running_var is not None:
                    _update(running_var, var(x, dims), momentum, op)
        y = _standardize(input, dims, float(eps))
    else:
        if running_mean is None or running_var is None:
            raise ArgumentError(op, "there are no running statistics", fix="pass them, or training=True")
        for t in (running_mean, running_var):
            if t.shape != (c,):
                raise ShapeError(
                    op,
                    f"running statistics of shape {t.shape} for {c} channels",
                    fix="make one entry a channel",
                )
        scale = rsqrt(_reshape(running_var, shape) + float(eps))
        y = mul(input - _reshape(running_mean, shape), scale)
    return _affine(op, y, weight, bias, (c,), shape)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of each example standardised over space, then scaled and shifted.

    Running statistics, if given, are updated with the means over the batch, and are what counts with
    use_input_stats=False.
    """
    op = "instance_norm"
    c, shape = _channels(op, input, 3)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    dims = tuple(range(2, input.ndim))
    if _count(input.shape, dims) == 1:
        raise ArgumentError(
            op,
            f"an input of shape {input.shape} has one value a channel, whose variance is 0",
            fix="use a larger image, or layer_norm",
        )
    if running_mean is not None or running_var is not None:
        with no_grad():
            x = input.detach()
            if running_mean is not None:
                _update(running_mean, _mean(x, (0, *dims), False), momentum, op)
            if running_var is not None:
                _update(running_var, _mean(var(x, dims), (0,), False), momentum, op)
    return _affine(op, _standardize(input, dims, float(eps)), weight, bias, (c,), shape)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Each group of channels of each example standardised, then scaled and shifted a channel.

    Raises ArgumentError if the channels cannot be divided into `num_groups`.
    """
    op = "group_norm"
    c, shape = _channels(op, input, 2)
    if not isinstance(num_groups, int) or num_groups < 1 or c % num_groups:
        raise ArgumentError(
            op,
            f"{c} channels cannot be divided into {num_groups!r} groups",
            fix="use a number of groups that divides them",
        )
    n = input.shape[0]
    rest = math.prod(input.shape[1:]) // num_groups
    y = _standardize(_reshape(input, (n, num_groups, rest)), (2,), float(eps))
    return _affine(op, _reshape(y, input.shape), weight, bias, (c,), shape)


# -- embedding and dropout -------------------------------------------------------------------------


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that integers name: the shape of `input` plus one dimension.

    The row `padding_idx` gets no gradient.  max_norm: rows that are used and longer than this are
    first shortened in place.  scale_grad_by_freq and sparse are refused.
    Raises OutOfRangeError for an index that is negative or too large.
    """
    op = "embedding"
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ShapeError(
            op, f"a weight of shape {getattr(weight, 'shape', None)}", fix="it must be (number, size)"
        )
    if scale_grad_by_freq or sparse:
        name = "sparse" if sparse else "scale_grad_by_freq"
        raise ArgumentError(op, f"{name}=True is not supported", fix=f"leave {name} out: gradients are dense")
    index = _integers(op, input)
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise ArgumentError(
                op, f"padding_idx {padding_idx} for {rows} rows", fix="use the number of a row"
            )
        padding_idx %= rows
    if max_norm is not None:
        _shorten(weight, index, float(max_norm), float(norm_type))
    y = _index_select(weight, index, 0)
    if padding_idx is not None and y.requires_grad:
        y = where(_reshape(index == padding_idx, (*index.shape, 1)), y.detach(), y)
    return y


def _shorten(weight: Tensor, index: Tensor, max_norm: float, norm_type: float) -> None:
    """Rescale the rows that are used to a norm of at most max_norm, in place."""
    with no_grad():
        used = np.unique(index._concrete("embedding with max_norm"))
        w = weight.detach()._concrete("embedding with max_norm").copy()
        if used.size and (used[0] < 0 or used[-1] >= w.shape[0]):
            return  # the look-up says so
        norms = np.linalg.norm(w[used], norm_type, axis=1)
        factor = np.where(norms > max_norm, max_norm / (norms + 1e-7), 1.0)
        w[used] *= factor[:, None].astype(w.dtype)
        weight.assign(w)


def _mask(shape: Shape, p: float, dtype: DType) -> Tensor:
    """1 / (1 - p) with probability 1 - p, else 0."""
    keep = 1.0 - p
    scale = Tensor(1.0 / keep if keep else 0.0, dtype)
    return _where(rand(shape) >= p, scale, Tensor(0.0, dtype))


def _dropped(op: str, input: Tensor, shape: Shape, p: Any, training: bool, inplace: bool) -> Tensor:
    p = _number(op, "p", p)
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(op, f"p is {p}", fix="pass a probability, from 0 to 1")
    if not training or p == 0.0:
        return input
    if not is_float(input.dtype):
        raise DTypeError(op, f"the input has dtype {input.dtype}", fix="convert with .float()")
    mask = _mask(shape, p, input.dtype)
    return placed(lambda x: mul(x, mask), input, inplace, op + "_")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element 0 with probability p, else divided by 1 - p, so that the mean stays.

    The input itself if not training.  Raises ArgumentError unless 0 <= p <= 1.
    """
    return _dropped("dropout", input, input.shape, p, training, inplace)


def _dropped_channels(op: str, dims: int, input: Tensor, p: Any, training: bool, inplace: bool) -> Tensor:
    if input.ndim not in (dims - 1, dims):
        raise ShapeError(
            op, f"an input of shape {input.shape}", fix=f"it must have {dims - 1} or {dims} dimensions"
        )
    kept = input.ndim - (dims - 2)
    return _dropped(op, input, (*input.shape[:kept], *(1,) * (dims - 2)), p, training, inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels: input (batch, channels, length) or (channels, length)."""
    return _dropped_channels("dropout1d", 3, input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels: input (batch, channels, height, width), or without the batch."""
    return _dropped_channels("dropout2d", 4, input, p, training, inplace)
