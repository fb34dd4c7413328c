"""Convolution and pooling: the same small computation at every place of an image.

**Convolution** of images x (n, c, h, w) with weights w (o, c, kh, kw), stride s, dilation d, padding p:

    y[n, o, i, j] = sum over c, u, v of   w[o, c, u, v] * x[n, c, i s + u d - p, j s + v d - p]

It is linear in x and in w, and so are its two transposes, which makes a closed family of three
operations: with `<a, b>` the sum of products,

    <h, conv2d(x, w)>  =  <conv2d_input_grad(h, w), x>  =  <conv2d_weight_grad(x, h), w>

is one and the same trilinear form in (h, x, w).  Differentiating any of the three by any of its
inputs therefore gives another of the three, and gradients of any order exist without another line.
`conv2d_input_grad` is also what is called a transposed convolution.

    >>> import minigrad as mg
    >>> image = mg.arange(9).float().reshape(1, 1, 3, 3)
    >>> conv2d(image, mg.ones(1, 1, 2, 2))
    tensor([[[[ 8., 12.],
              [20., 24.]]]])

The numpy kernels lay the patches of an image out as the columns of a matrix (Chellapilla, Puri and
Simard 2006, "im2col") and leave the rest to matmul: kh * kw times the memory of x, which is why
they go through the batch in blocks of a few megabytes.

**Pooling.**  The maximum is an *index*, found once, and a `gather`: values and positions are two
operations, the gradient goes where the index points, and second derivatives are those of gather.
The average is linear, and comes with its transpose.

    >>> max_pool2d(image, 2, stride=1)
    tensor([[[[4., 5.],
              [7., 8.]]]])

Everything in one dimension is the two-dimensional operation on images one pixel high.

References: Dumoulin & Visin 2016 (arXiv 1603.07285), for the arithmetic of sizes.
Left out: three dimensions; an `output_padding` that is not smaller than the stride (the result would
contain places that no output came from); fractional and power-average pooling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..bind import primitive
from ..errors import ArgumentError, DTypeError, Refusal, ShapeError
from ..ir import DType, Shape, Spec, int64, is_float
from ..tensor import Tensor, wrap
from .contraction import matmul
from .indexing import gather
from .movement import _reshape, squeeze, transpose, unsqueeze
from .reduction import mean

Pair = tuple[int, int]
#: Zeros added above, below, left and right of an image.
Borders = tuple[int, int, int, int]

#: How many bytes of patches the numpy kernels lay out at a time.
BLOCK = 4 << 20

# -- arguments -------------------------------------------------------------------------------------


def _pair(op: str, name: str, value: Any, least: int) -> Pair:
    """An argument given as one integer or two, none below `least`."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) == 1:
        values = values * 2
    if len(values) != 2 or not all(
        isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values
    ):
        raise ArgumentError(op, f"{name} is {value!r}", fix="pass an integer or a pair of them")
    if min(values) < least:
        raise ArgumentError(op, f"{name} is {value!r}", fix=f"it must be at least {least}")
    return int(values[0]), int(values[1])


def _single(op: str, name: str, value: Any) -> Any:
    """A one-dimensional argument, which may come as a list of one."""
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise ArgumentError(op, f"{name} is {value!r}", fix="pass one integer")
        return value[0]
    return value


def _borders(op: str, padding: Any, stride: Pair, dilation: Pair, kernel: Pair) -> Borders:
    """Padding as four numbers, from an integer, a pair, "valid" or "same"."""
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0, 0, 0)
        if padding != "same":
            raise ArgumentError(
                op, f"padding is {padding!r}", fix="use 'same', 'valid', an integer or a pair"
            )
        if stride != (1, 1):
            raise ArgumentError(
                op, f"padding 'same' with stride {stride}", fix="use stride 1, or give numbers"
            )
        high, wide = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        return high // 2, high - high // 2, wide // 2, wide - wide // 2
    ph, pw = _pair(op, "padding", padding, 0)
    return ph, ph, pw, pw


def _batched(op: str, input: Any, ndim: int) -> tuple[Tensor, bool]:
    """The input with a batch dimension, and whether it had one."""
    if not isinstance(input, Tensor):
        raise DTypeError(op, f"the input is a {type(input).__name__}", fix="pass a tensor")
    if input.ndim == ndim:
        return input, True
    if input.ndim == ndim - 1:
        return unsqueeze(input, 0), False
    sizes = "(batch, channels, length)" if ndim == 3 else "(batch, channels, height, width)"
    raise ShapeError(
        op, f"an input of shape {input.shape}", fix=f"it must be {sizes}, or the same without the batch"
    )


def _unbatched(y: Tensor, batched: bool) -> Tensor:
    return y if batched else squeeze(y, 0)


# -- convolution: sizes ----------------------------------------------------------------------------


def _out(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """How many places a kernel has along a dimension; 0 or less if it does not fit."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def _places(size: Any, kernel: Any, stride: Pair, padding: Borders, dilation: Pair) -> Pair:
    """The size of the output.  Raises Refusal where the kernel does not fit."""
    top, bottom, left, right = padding
    oh = _out(size[0], kernel[0], stride[0], top, bottom, dilation[0])
    ow = _out(size[1], kernel[1], stride[1], left, right, dilation[1])
    if oh < 1 or ow < 1:
        spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        padded = (size[0] + top + bottom, size[1] + left + right)
        raise Refusal(
            f"a kernel that spans {spans[0]}x{spans[1]} does not fit into a padded image of "
            f"{padded[0]}x{padded[1]}",
            "use a smaller kernel or dilation, or more padding",
        )
    return oh, ow


def _same_dtypes(a: Spec, b: Spec) -> None:
    if a.dtype != b.dtype:
        raise Refusal(f"dtypes {a.dtype} and {b.dtype} differ", "convert one with .to(dtype)", DTypeError)


def _four(name: str, spec: Spec, meaning: str) -> None:
    if len(spec.shape) != 4:
        raise Refusal(f"{name} has shape {spec.shape}", f"it must have four dimensions, {meaning}")


def _conv2d_shape(
    input: Spec, weight: Spec, stride: Pair, padding: Borders, dilation: Pair, groups: int
) -> Spec:
    _four("the input", input, "(batch, channels, height, width)")
    _four("the weight", weight, "(out_channels, in_channels / groups, height, width)")
    _same_dtypes(input, weight)
    channels, (out, each) = input.shape[1], weight.shape[:2]
    if channels != each * groups:
        raise Refusal(
            f"an input with {channels} channels and a weight of shape {weight.shape} with groups={groups}, "
            f"which takes {each * groups}",
            "in_channels of the weight times groups must be the channels of the input",
        )
    if out % groups:
        raise Refusal(
            f"{out} output channels cannot be divided into {groups} groups",
            "make groups divide the output channels",
        )
    return Spec(
        (input.shape[0], out, *_places(input.shape[2:], weight.shape[2:], stride, padding, dilation)),
        input.dtype,
    )


def _input_grad_shape(
    input: Spec, weight: Spec, size: Pair, stride: Pair, padding: Borders, dilation: Pair, groups: int
) -> Spec:
    _four("the input", input, "(batch, channels, height, width)")
    _four("the weight", weight, "(in_channels, out_channels / groups, height, width)")
    _same_dtypes(input, weight)
    if input.shape[1] != weight.shape[0] or weight.shape[0] % groups:
        raise Refusal(
            f"an input with {input.shape[1]} channels, a weight of shape {weight.shape} and groups={groups}",
            "the first size of the weight must be the channels of the input, and a multiple of groups",
        )
    places = _places(size, weight.shape[2:], stride, padding, dilation)
    if places != input.shape[2:]:
        raise Refusal(
            f"an image of {size[0]}x{size[1]} has {places} places for the kernel, not {input.shape[2:]}",
            "give the cotangent the shape of the output",
        )
    return Spec((input.shape[0], weight.shape[1] * groups, *size), input.dtype)


def _weight_grad_shape(
    input: Spec, other: Spec, kernel: Pair, stride: Pair, padding: Borders, dilation: Pair, groups: int
) -> Spec:
    _four("the input", input, "(batch, channels, height, width)")
    _four("the other", other, "(batch, channels, height, width)")
    _same_dtypes(input, other)
    if input.shape[0] != other.shape[0] or input.shape[1] % groups or other.shape[1] % groups:
        raise Refusal(
            f"shapes {input.shape} and {other.shape} with groups={groups} do not fit",
            "the input's channels divided by groups must be the weight's second size",
        )
    places = _places(input.shape[2:], kernel, stride, padding, dilation)
    if places != other.shape[2:]:
        raise Refusal(
            f"the kernel {kernel} has {places} places in shape {input.shape}, not {other.shape[2:]}",
            "give the cotangent the shape of the output",
        )
    return Spec((other.shape[1], input.shape[1] // groups, *kernel), input.dtype)


# -- convolution: kernels --------------------------------------------------------------------------


def _spec(array: Any) -> Spec:
    return Spec(array.shape, array.dtype)


def _padded(x: Any, padding: Borders, value: Any = 0) -> Any:
    """Images with a border of one value."""
    if not any(padding):
        return x
    top, bottom, left, right = padding
    n, c, h, w = x.shape
    y = np.full((n, c, h + top + bottom, w + left + right), value, x.dtype)
    y[:, :, top : top + h, left : left + w] = x
    return y


def _windows(x: Any, kernel: Pair, out: Pair, stride: Pair, dilation: Pair) -> Any:
    """All patches of padded images without copying: (n, c, kh, kw, oh, ow)."""
    sn, sc, sh, sw = x.strides
    strides = (sn, sc, sh * dilation[0], sw * dilation[1], sh * stride[0], sw * stride[1])
    return as_strided(x, (*x.shape[:2], *kernel, *out), strides, writeable=False)


def _blocks(n: int, row: int) -> Iterator[slice]:
    """The batch in blocks whose patches, `row` bytes an image, fill about BLOCK bytes."""
    step = max(1, BLOCK // max(row, 1))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _offsets(
    kernel: Pair, out: Pair, stride: Pair, dilation: Pair
) -> Iterator[tuple[int, int, slice, slice]]:
    """For every position (u, v) of the kernel, the rows and columns of a padded image that it meets."""
    for u in range(kernel[0]):
        top = u * dilation[0]
        rows = slice(top, top + stride[0] * (out[0] - 1) + 1, stride[0])
        for v in range(kernel[1]):
            left = v * dilation[1]
            yield u, v, rows, slice(left, left + stride[1] * (out[1] - 1) + 1, stride[1])


def _conv2d_kernel(x: Any, w: Any, stride: Pair, padding: Borders, dilation: Pair, groups: int) -> Any:
    shape, dtype = _conv2d_shape(_spec(x), _spec(w), stride, padding, dilation, groups)
    n, o, oh, ow = shape
    depth, places = math.prod(w.shape[1:]), oh * ow
    y = np.empty((n, groups, o // groups, places), dtype)
    patches = _windows(_padded(x, padding), w.shape[2:], (oh, ow), stride, dilation)
    w = w.reshape(groups, o // groups, depth)
    for block in _blocks(n, groups * depth * places * dtype.itemsize):
        np.matmul(w, patches[block].reshape(-1, groups, depth, places), out=y[block])
    return y.reshape(shape)


def _input_grad_kernel(
    g: Any, w: Any, size: Pair, stride: Pair, padding: Borders, dilation: Pair, groups: int
) -> Any:
    shape, dtype = _input_grad_shape(_spec(g), _spec(w), size, stride, padding, dilation, groups)
    n, c = shape[:2]
    o, _, kh, kw = w.shape
    oh, ow = g.shape[2:]
    depth, places = math.prod(w.shape[1:]), oh * ow
    top, bottom, left, right = padding
    x = np.zeros((n, c, size[0] + top + bottom, size[1] + left + right), dtype)
    w = w.reshape(groups, o // groups, depth).swapaxes(1, 2)
    g = g.reshape(n, groups, o // groups, places)
    for block in _blocks(n, groups * depth * places * dtype.itemsize):
        patches = np.matmul(w, g[block]).reshape(-1, c, kh, kw, oh, ow)
        for u, v, rows, columns in _offsets((kh, kw), (oh, ow), stride, dilation):
            x[block, :, rows, columns] += patches[:, :, u, v]
    return x[:, :, top : top + size[0], left : left + size[1]]


def _weight_grad_kernel(
    x: Any, g: Any, kernel: Pair, stride: Pair, padding: Borders, dilation: Pair, groups: int
) -> Any:
    shape, dtype = _weight_grad_shape(_spec(x), _spec(g), kernel, stride, padding, dilation, groups)
    n, o, oh, ow = g.shape
    depth, places = math.prod(shape[1:]), oh * ow
    patches = _windows(_padded(x, padding), kernel, (oh, ow), stride, dilation).transpose(1, 2, 3, 0, 4, 5)
    g = g.transpose(1, 0, 2, 3)
    y = np.zeros((groups, o // groups, depth), dtype)
    for block in _blocks(n, groups * depth * places * dtype.itemsize):
        left = g[:, block].reshape(groups, o // groups, -1)
        y += np.matmul(left, patches[:, :, :, block].reshape(groups, depth, -1).swapaxes(1, 2))
    return y.reshape(shape)


def _conv2d_reference(x: Any, w: Any, stride: Pair, padding: Borders, dilation: Pair, groups: int) -> Any:
    """The definition, one output element at a time."""
    o, each, kh, kw = w.shape
    y = np.zeros(_conv2d_shape(_spec(x), _spec(w), stride, padding, dilation, groups).shape)
    for n, k, i, j in np.ndindex(*y.shape):
        first = k // (o // groups) * each
        for c, u, v in np.ndindex(each, kh, kw):
            row = i * stride[0] + u * dilation[0] - padding[0]
            column = j * stride[1] + v * dilation[1] - padding[2]
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                y[n, k, i, j] += float(w[k, c, u, v]) * float(x[n, first + c, row, column])
    return y


def _basis(shape: Shape, dtype: DType) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Every array of a shape that is 1 at one place and 0 elsewhere."""
    for place in np.ndindex(*shape):
        unit = np.zeros(shape, dtype)
        unit[place] = 1.0
        yield place, unit


def _input_grad_reference(g: Any, w: Any, size: Pair, *rest: Any) -> Any:
    """<g, conv2d(e, w)> for every unit image e: the transpose by its definition."""
    shape = _input_grad_shape(_spec(g), _spec(w), size, *rest).shape
    y = np.zeros(shape)
    for place, unit in _basis(shape, g.dtype):
        y[place] = np.sum(g * _conv2d_reference(unit, w, *rest))
    return y


def _weight_grad_reference(x: Any, g: Any, kernel: Pair, *rest: Any) -> Any:
    """<g, conv2d(x, e)> for every unit weight e."""
    shape = _weight_grad_shape(_spec(x), _spec(g), kernel, *rest).shape
    y = np.zeros(shape)
    for place, unit in _basis(shape, g.dtype):
        y[place] = np.sum(g * _conv2d_reference(x, unit, *rest))
    return y


# -- convolution: records --------------------------------------------------------------------------

_ONE: Pair = (1, 1)
_NONE: Borders = (0, 0, 0, 0)
#: (shape of x, shape of w, stride, padding, dilation, groups)
_CASES: list[tuple[Shape, Shape, Pair, Borders, Pair, int]] = [
    ((2, 3, 5, 4), (2, 3, 3, 2), _ONE, _NONE, _ONE, 1),
    ((1, 2, 6, 5), (3, 2, 3, 3), (2, 1), (1, 1, 1, 1), _ONE, 1),
    ((1, 2, 5, 6), (2, 2, 2, 2), (2, 3), (0, 1, 1, 0), (2, 1), 1),
    ((1, 4, 4, 4), (6, 2, 2, 2), _ONE, (1, 0, 0, 1), _ONE, 2),
    ((2, 3, 4, 4), (3, 1, 3, 3), _ONE, (1, 1, 1, 1), _ONE, 3),
    ((2, 3, 3, 4), (4, 3, 1, 1), _ONE, _NONE, _ONE, 1),
    ((0, 2, 3, 3), (1, 2, 2, 2), _ONE, _NONE, _ONE, 1),
]


def _places_of(case: Any) -> Shape:
    x, w, *rest = case
    return _conv2d_shape(Spec(x, np.dtype(float)), Spec(w, np.dtype(float)), *rest).shape


def _conv_samples(first: str, second: str, size: str | None = None) -> Callable[[Any], list[Any]]:
    """Two of x, w and y for every case; then, if the result is the third, the size of its images."""
    shapes: dict[str, Callable[[Any], Shape]] = {
        "x": lambda case: case[0],
        "w": lambda case: case[1],
        "y": _places_of,
    }
    return lambda rng: [
        (
            (rng.normal(size=shapes[first](case)), rng.normal(size=shapes[second](case))),
            (*((shapes[size](case)[2:],) if size else ()), *case[2:]),
        )
        for case in _CASES
    ]


_conv2d = primitive(
    "conv2d",
    kind="contraction",
    inputs=("input", "weight"),
    attrs=("stride", "padding", "dilation", "groups"),
    kernel=_conv2d_kernel,
    traits={"batched": "input", "flops": lambda a, b, y, *_: 2 * math.prod(y.shape) * math.prod(b.shape[1:])},
    shape=_conv2d_shape,
    vjp=(
        lambda g, weight, x_shape, stride, padding, dilation, groups: _conv2d_input_grad(
            g, weight, x_shape[2:], stride, padding, dilation, groups
        ),
        lambda g, input, x_shape, stride, padding, dilation, groups: _conv2d_weight_grad(
            input, g, x_shape[2:], stride, padding, dilation, groups
        ),
    ),
    samples=_conv_samples("x", "w"),
    reference=_conv2d_reference,
    error=64.0,
    doc="the sum of products of weights with every patch of an image",
)
_conv2d_input_grad: Callable[..., Tensor] = primitive(
    "conv2d_input_grad",
    kind="contraction",
    inputs=("input", "weight"),
    attrs=("size", "stride", "padding", "dilation", "groups"),
    kernel=_input_grad_kernel,
    traits={"batched": "input", "flops": lambda a, b, y, *_: 2 * math.prod(a.shape) * math.prod(b.shape[1:])},
    shape=_input_grad_shape,
    vjp=(
        lambda g, weight, stride, padding, dilation, groups: _conv2d(
            g, weight, stride, padding, dilation, groups
        ),
        lambda g, input, x_shape, stride, padding, dilation, groups: _conv2d_weight_grad(
            g, input, x_shape[2:], stride, padding, dilation, groups
        ),
    ),
    samples=_conv_samples("y", "w", "x"),
    reference=_input_grad_reference,
    error=64.0,
    doc="the transpose of conv2d in its input: every element paints the kernel, scaled, onto an image",
)
_conv2d_weight_grad: Callable[..., Tensor] = primitive(
    "conv2d_weight_grad",
    kind="contraction",
    inputs=("input", "other"),
    attrs=("kernel", "stride", "padding", "dilation", "groups"),
    kernel=_weight_grad_kernel,
    traits={"flops": lambda a, b, y, *_: 2 * math.prod(b.shape) * math.prod(y.shape[1:])},
    shape=_weight_grad_shape,
    vjp=(
        lambda g, other, x_shape, stride, padding, dilation, groups: _conv2d_input_grad(
            other, g, x_shape[2:], stride, padding, dilation, groups
        ),
        lambda g, input, stride, padding, dilation, groups: _conv2d(
            input, g, stride, padding, dilation, groups
        ),
    ),
    samples=_conv_samples("x", "y", "w"),
    reference=_weight_grad_reference,
    error=256.0,
    doc="the transpose of conv2d in its weight: each patch of the input times the element at its place",
)


# -- convolution: faces ----------------------------------------------------------------------------


def _operands(op: str, input: Any, weight: Any, groups: Any, dims: int) -> tuple[Tensor, bool]:
    x, batched = _batched(op, input, dims)
    if not isinstance(weight, Tensor):
        raise DTypeError(op, f"the weight is a {type(weight).__name__}", fix="pass a tensor")
    if weight.ndim != dims:
        raise ShapeError(op, f"a weight of shape {weight.shape}", fix=f"it must have {dims} dimensions")
    if not isinstance(groups, int) or groups < 1:
        raise ArgumentError(op, f"groups is {groups!r}", fix="pass an integer of at least 1")
    return x, batched


def _biased(op: str, y: Tensor, bias: Tensor | None) -> Tensor:
    """y with one number a channel added."""
    if bias is None:
        return y
    if bias.shape != (y.shape[1],):
        raise ShapeError(
            op, f"a bias of shape {bias.shape} for {y.shape[1]} output channels", fix="pass one number each"
        )
    result: Tensor = y + _reshape(bias, (1, y.shape[1], 1, 1))
    return result


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The products of weights with every patch of an image, summed over channels and kernel.

    input (batch, in_channels, height, width), or without the batch; weight (out_channels,
    in_channels / groups, kh, kw); bias (out_channels).  padding: an integer, a pair, 'valid' or
    'same'.  Raises ShapeError if channels disagree or the kernel does not fit.
    """
    x, batched = _operands("conv2d", input, weight, groups, 4)
    s, d = _pair("conv2d", "stride", stride, 1), _pair("conv2d", "dilation", dilation, 1)
    borders = _borders("conv2d", padding, s, d, weight.shape[2:])  # type: ignore[arg-type]
    return _unbatched(_biased("conv2d", _conv2d(x, weight, s, borders, d, groups), bias), batched)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """`conv2d` in one dimension: input (batch, in_channels, length), weight (out, in / groups, k)."""
    x, batched = _operands("conv1d", input, weight, groups, 3)
    s = _pair("conv1d", "stride", (1, _single("conv1d", "stride", stride)), 1)
    d = _pair("conv1d", "dilation", (1, _single("conv1d", "dilation", dilation)), 1)
    if not isinstance(padding, str):
        padding = (0, _single("conv1d", "padding", padding))
    borders = _borders("conv1d", padding, s, d, (1, weight.shape[2]))
    y = _conv2d(unsqueeze(x, 2), unsqueeze(weight, 2), s, borders, d, groups)
    return _unbatched(squeeze(_biased("conv1d", y, bias), 2), batched)


def _transposed(
    op: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    s: Pair,
    p: Pair,
    extra: Pair,
    d: Pair,
    groups: int,
) -> Tensor:
    if any(e >= step for e, step in zip(extra, s, strict=True)):
        raise ArgumentError(
            op, f"output_padding {extra} with stride {s}", fix="it must be smaller than the stride"
        )
    size = tuple(
        (n - 1) * step - 2 * pad + dil * (k - 1) + e + 1
        for n, step, pad, dil, k, e in zip(x.shape[2:], s, p, d, weight.shape[2:], extra, strict=True)
    )
    if min(size) < 1:
        raise ShapeError(op, f"padding {p} leaves an output of {size[0]}x{size[1]}", fix="use less padding")
    y = _conv2d_input_grad(x, weight, size, s, (p[0], p[0], p[1], p[1]), d, groups)
    return _biased(op, y, bias)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of `conv2d`: every element paints the kernel, scaled, onto a larger image.

    weight (in_channels, out_channels / groups, kh, kw).  `output_padding` chooses among the sizes
    that `conv2d` with this stride would map to the input's; it must be smaller than the stride.
    """
    op = "conv_transpose2d"
    x, batched = _operands(op, input, weight, groups, 4)
    s, d = _pair(op, "stride", stride, 1), _pair(op, "dilation", dilation, 1)
    p, extra = _pair(op, "padding", padding, 0), _pair(op, "output_padding", output_padding, 0)
    return _unbatched(_transposed(op, x, weight, bias, s, p, extra, d, groups), batched)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """`conv_transpose2d` in one dimension: weight (in_channels, out_channels / groups, k)."""
    op = "conv_transpose1d"
    x, batched = _operands(op, input, weight, groups, 3)
    s = _pair(op, "stride", (1, _single(op, "stride", stride)), 1)
    d = _pair(op, "dilation", (1, _single(op, "dilation", dilation)), 1)
    p = _pair(op, "padding", (0, _single(op, "padding", padding)), 0)
    extra = _pair(op, "output_padding", (0, _single(op, "output_padding", output_padding)), 0)
    y = _transposed(op, unsqueeze(x, 2), unsqueeze(weight, 2), bias, s, p, extra, d, groups)
    return _unbatched(squeeze(y, 2), batched)


# -- pooling: sizes --------------------------------------------------------------------------------


def _pool_out(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    room = size + 2 * pad - dilation * (kernel - 1) - 1
    out = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (out - 1) * stride >= size + pad:
        out -= 1  # a window must start inside the image or its left border
    return out


def _pool_places(
    shape: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Pair:
    """The size of the output of a pooling.  Raises Refusal where the window does not fit."""
    if len(shape) != 4:
        raise Refusal(f"the input has shape {shape}", "it must be (batch, channels, height, width)")
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise Refusal(
            f"padding {padding} is more than half of the kernel {kernel}", "use less padding", ArgumentError
        )
    out = tuple(
        _pool_out(n, k, s, p, d, ceil_mode)
        for n, k, s, p, d in zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    )
    if min(out) < 1:
        raise Refusal(
            f"a window of {kernel[0]}x{kernel[1]} does not fit into an image of {shape[2]}x{shape[3]}",
            "use a smaller kernel or dilation, or more padding",
        )
    return out[0], out[1]


def _pool_borders(
    shape: Shape, out: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Borders:
    """What to add on each side so that every window, also the last of ceil_mode, is complete."""
    ends = [
        max(0, (o - 1) * s + d * (k - 1) + 1 - n - p)
        for n, o, k, s, p, d in zip(shape[2:], out, kernel, stride, padding, dilation, strict=True)
    ]
    return padding[0], ends[0], padding[1], ends[1]


def _starts(out: int, stride: int, pad: int) -> Any:
    """Where each window starts, in the coordinates of the image."""
    return np.arange(out) * stride - pad


# -- max pooling -----------------------------------------------------------------------------------


def _first_inside(starts: Any, kernel: int, dilation: int, size: int) -> Any:
    """For each window, the number of its first element that lies in the image.

    Raises Refusal if some window has none.
    """
    skip = np.where(starts < 0, -(starts // dilation), 0)
    if np.any(starts + skip * dilation >= size) or np.any(skip >= kernel):
        raise Refusal("a window would see nothing but padding", "use less padding or dilation", ArgumentError)
    return skip


def _max_index_shape(
    input: Spec, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Spec:
    if input.dtype.kind == "b":
        raise Refusal("is not defined for bool", "convert with .float()", DTypeError)
    out = _pool_places(input.shape, kernel, stride, padding, dilation, ceil_mode)
    for size, o, k, s, p, d in zip(input.shape[2:], out, kernel, stride, padding, dilation, strict=True):
        _first_inside(_starts(o, s, p), k, d, size)
    return Spec((*input.shape[:2], *out), int64)


def _max_index_kernel(
    x: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Any:
    shape, _ = _max_index_shape(_spec(x), kernel, stride, padding, dilation, ceil_mode)
    out: Pair = shape[2:]  # type: ignore[assignment]
    rows, columns = (_starts(o, s, p) for o, s, p in zip(out, stride, padding, strict=True))
    first_row = _first_inside(rows, kernel[0], dilation[0], x.shape[2])
    first_column = _first_inside(columns, kernel[1], dilation[1], x.shape[3])
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    width = x.shape[3]
    x = _padded(x, _pool_borders(x.shape, out, kernel, stride, padding, dilation), lowest)
    # A later element wins only if it is greater, so the winner is the largest number that ever won.
    small = np.uint8 if kernel[0] * kernel[1] <= 256 else np.int64
    winner = np.empty(shape, small)
    winner[...] = (first_row * kernel[1])[:, None] + first_column
    best = np.full(shape, lowest, x.dtype)
    for u, v, r, c in _offsets(kernel, out, stride, dilation):
        candidate = x[:, :, r, c]
        wins = (candidate > best).view(np.uint8)
        np.maximum(winner, wins * small(u * kernel[1] + v), out=winner)
        np.maximum(best, candidate, out=best)
    nan = best != best
    if nan.any():  # NaN is the maximum of its window; of several, the last
        for u, v, r, c in _offsets(kernel, out, stride, dilation):
            candidate = x[:, :, r, c]
            winner[nan & (candidate != candidate)] = u * kernel[1] + v
    down, right = np.divmod(np.arange(kernel[0] * kernel[1]), kernel[1])
    offset = down * dilation[0] * width + right * dilation[1]
    return (rows * width)[:, None] + columns + offset.take(winner)


def _max_index_reference(
    x: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Any:
    y = np.zeros(_max_index_shape(_spec(x), kernel, stride, padding, dilation, ceil_mode).shape, np.int64)
    for n, c, i, j in np.ndindex(*y.shape):
        best = None
        for u, v in np.ndindex(*kernel):
            row, column = (
                i * stride[0] + u * dilation[0] - padding[0],
                j * stride[1] + v * dilation[1] - padding[1],
            )
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                value = x[n, c, row, column]
                if best is None or value > best or value != value:
                    best, y[n, c, i, j] = value, row * x.shape[3] + column
    return y


def _pool_samples(rng: Any) -> list[Any]:
    def images(*shape: int) -> Any:
        return rng.permutation(math.prod(shape)).reshape(shape) / 7.0 - 2.0

    return [
        ((images(2, 2, 4, 4),), ((2, 2), (2, 2), (0, 0), _ONE, False)),
        ((images(1, 2, 5, 6),), ((3, 2), (2, 1), (1, 1), _ONE, False)),
        ((images(1, 1, 6, 5),), ((2, 3), (3, 2), (0, 1), _ONE, True)),
        ((images(1, 1, 7, 7),), ((2, 2), (1, 2), (1, 0), (2, 3), False)),
        ((images(0, 1, 4, 4),), ((2, 2), (2, 2), (0, 0), _ONE, False)),
    ]


_max_pool2d_index = primitive(
    "max_pool2d_index",
    kind="index",
    inputs=("input",),
    attrs=("kernel", "stride", "padding", "dilation", "ceil_mode"),
    kernel=_max_index_kernel,
    shape=_max_index_shape,
    vjp=(None,),
    traits={"batched": "input"},
    samples=_pool_samples,
    reference=_max_index_reference,
    error=0.0,
    doc="where the first largest element of each window is, as a position in the flattened image",
)


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of every window; `stride` is the kernel size if it is not given.

    With return_indices a pair (values, positions in the flattened image).  The gradient goes to the
    first largest element of a window; a window with a NaN gives NaN.
    """
    op = "max_pool2d"
    x, batched = _batched(op, input, 4)
    kernel = _pair(op, "kernel_size", kernel_size, 1)
    step = kernel if stride is None or stride == [] else _pair(op, "stride", stride, 1)
    index = _max_pool2d_index(
        x, kernel, step, _pair(op, "padding", padding, 0), _pair(op, "dilation", dilation, 1), bool(ceil_mode)
    )
    n, c, oh, ow = index.shape
    flat = _reshape(x, (n, c, x.shape[2] * x.shape[3]))
    values = _reshape(gather(flat, 2, _reshape(index, (n, c, oh * ow))), index.shape)
    if return_indices:
        return _unbatched(values, batched), _unbatched(index, batched)
    return _unbatched(values, batched)


def _wide(op: str, name: str, value: Any, other: int) -> tuple[int, Any]:
    """A one-dimensional argument as a pair for images one pixel high."""
    return other, _single(op, name, value)


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """`max_pool2d` in one dimension."""
    op = "max_pool1d"
    x, batched = _batched(op, input, 3)
    result = max_pool2d(
        unsqueeze(x, 2),
        _wide(op, "kernel_size", kernel_size, 1),
        None if stride is None or stride == [] else _wide(op, "stride", stride, 1),
        _wide(op, "padding", padding, 0),
        _wide(op, "dilation", dilation, 1),
        ceil_mode,
        return_indices,
    )
    if return_indices:
        return tuple(_unbatched(squeeze(t, 2), batched) for t in result)
    return _unbatched(squeeze(result, 2), batched)


# -- average pooling -------------------------------------------------------------------------------


def _avg_shape(
    input: Spec,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Spec:
    if input.dtype.kind != "f":
        raise Refusal(
            f"is defined for floating point, not {input.dtype}", "convert with .float()", DTypeError
        )
    return Spec(
        (*input.shape[:2], *_pool_places(input.shape, kernel, stride, padding, _ONE, ceil_mode)), input.dtype
    )


def _counted(size: int, out: int, kernel: int, stride: int, pad: int, count_include_pad: bool) -> Any:
    """How many elements of a dimension each window counts."""
    starts = _starts(out, stride, pad)
    ends = np.minimum(starts + kernel, size + pad)
    if not count_include_pad:
        starts, ends = np.maximum(starts, 0), np.minimum(ends, size)
    return ends - starts


def _factor(
    size: Shape,
    out: Shape,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    include: bool,
    divisor: int | None,
    dtype: Any,
) -> Any:
    """One over what the sum of each window is divided by, as (oh, ow) or a single number."""
    if divisor is not None:
        return dtype.type(1.0 / divisor)
    high, wide = (
        _counted(n, o, k, s, p, include)
        for n, o, k, s, p in zip(size, out, kernel, stride, padding, strict=True)
    )
    return (1.0 / (high[:, None] * wide)).astype(dtype)


def _avg_kernel(
    x: Any,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Any:
    spec = _spec(x)
    shape, dtype = _avg_shape(spec, kernel, stride, padding, ceil_mode, count_include_pad, divisor)
    out: Pair = shape[2:]  # type: ignore[assignment]
    x = _padded(x, _pool_borders(x.shape, out, kernel, stride, padding, _ONE))
    # The sum over a window is a sum over rows of sums over columns: kh + kw passes, not kh * kw.
    high = np.zeros((*x.shape[:2], out[0], x.shape[3]), dtype)
    for u in range(kernel[0]):
        high += x[:, :, u : u + stride[0] * (out[0] - 1) + 1 : stride[0]]
    y = np.zeros(shape, dtype)
    for v in range(kernel[1]):
        y += high[:, :, :, v : v + stride[1] * (out[1] - 1) + 1 : stride[1]]
    y *= _factor(spec.shape[2:], out, kernel, stride, padding, count_include_pad, divisor, dtype)
    return y


def _avg_grad_shape(input: Spec, size: Pair, *rest: Any) -> Spec:
    image = Spec((*input.shape[:2], *size), input.dtype)
    if _avg_shape(image, *rest).shape != input.shape:
        raise Refusal(
            f"an image of {size[0]}x{size[1]} has no {input.shape[2:]} windows",
            "give the cotangent the shape of the output",
        )
    return image


def _avg_grad_kernel(
    g: Any,
    size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Any:
    shape, dtype = _avg_grad_shape(
        _spec(g), size, kernel, stride, padding, ceil_mode, count_include_pad, divisor
    )
    out: Pair = g.shape[2:]
    top, bottom, left, right = _pool_borders(shape, out, kernel, stride, padding, _ONE)
    g = g * _factor(size, out, kernel, stride, padding, count_include_pad, divisor, dtype)
    wide = np.zeros((*shape[:2], out[0], size[1] + left + right), dtype)
    for v in range(kernel[1]):
        wide[:, :, :, v : v + stride[1] * (out[1] - 1) + 1 : stride[1]] += g
    x = np.zeros((*shape[:2], size[0] + top + bottom, size[1] + left + right), dtype)
    for u in range(kernel[0]):
        x[:, :, u : u + stride[0] * (out[0] - 1) + 1 : stride[0]] += wide
    return x[:, :, top : top + size[0], left : left + size[1]]


def _avg_reference(
    x: Any, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool, include: bool, divisor: int | None
) -> Any:
    y = np.zeros(_avg_shape(_spec(x), kernel, stride, padding, ceil_mode, include, divisor).shape)
    limits = [n + p if include else n for n, p in zip(x.shape[2:], padding, strict=True)]
    least = [-p if include else 0 for p in padding]
    for n, c, i, j in np.ndindex(*y.shape):
        count, total = 0, 0.0
        for u, v in np.ndindex(*kernel):
            row, column = i * stride[0] + u - padding[0], j * stride[1] + v - padding[1]
            count += least[0] <= row < limits[0] and least[1] <= column < limits[1]
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                total += float(x[n, c, row, column])
        y[n, c, i, j] = total / (divisor or count)
    return y


def _avg_grad_reference(g: Any, size: Pair, *rest: Any) -> Any:
    shape = _avg_grad_shape(_spec(g), size, *rest).shape
    y = np.zeros(shape)
    for place, unit in _basis(shape, g.dtype):
        y[place] = np.sum(g * _avg_reference(unit, *rest))
    return y


_AVG_CASES: list[tuple[Shape, tuple[Any, ...]]] = [
    ((2, 2, 4, 4), ((2, 2), (2, 2), (0, 0), False, True, None)),
    ((1, 2, 5, 6), ((3, 2), (2, 1), (1, 1), False, False, None)),
    ((1, 1, 6, 5), ((2, 3), (3, 2), (1, 1), True, True, None)),
    ((1, 1, 4, 4), ((3, 3), (2, 2), (1, 1), True, False, None)),
    ((1, 1, 4, 4), ((2, 2), (1, 1), (0, 0), False, True, 3)),
    ((0, 1, 4, 4), ((2, 2), (2, 2), (0, 0), False, True, None)),
]

_avg_pool2d = primitive(
    "avg_pool2d",
    kind="reduction",
    inputs=("input",),
    attrs=("kernel", "stride", "padding", "ceil_mode", "count_include_pad", "divisor"),
    kernel=_avg_kernel,
    shape=_avg_shape,
    vjp=(
        lambda g, x_shape, kernel, stride, padding, ceil_mode, count_include_pad, divisor: _avg_pool2d_grad(
            g, x_shape[2:], kernel, stride, padding, ceil_mode, count_include_pad, divisor
        ),
    ),
    traits={"batched": "input"},
    samples=lambda rng: [((rng.normal(size=shape),), attrs) for shape, attrs in _AVG_CASES],
    reference=_avg_reference,
    doc="the mean of every window",
)
_avg_pool2d_grad: Callable[..., Tensor] = primitive(
    "avg_pool2d_grad",
    kind="opaque",
    inputs=("input",),
    attrs=("size", "kernel", "stride", "padding", "ceil_mode", "count_include_pad", "divisor"),
    kernel=_avg_grad_kernel,
    shape=_avg_grad_shape,
    vjp=(
        lambda g, kernel, stride, padding, ceil_mode, count_include_pad, divisor: _avg_pool2d(
            g, kernel, stride, padding, ceil_mode, count_include_pad, divisor
        ),
    ),
    traits={"batched": "input"},
    samples=lambda rng: [
        ((rng.normal(size=_avg_shape(Spec(shape, np.dtype(float)), *attrs).shape),), (shape[2:], *attrs))
        for shape, attrs in _AVG_CASES
    ],
    reference=_avg_grad_reference,
    doc="the transpose of avg_pool2d: every element spread evenly over its window, in an image of size",
)


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of every window; `stride` is the kernel size if it is not given.

    count_include_pad: whether zeros of the padding count.  divisor_override: divide by this instead.
    """
    op = "avg_pool2d"
    x, batched = _batched(op, input, 4)
    kernel = _pair(op, "kernel_size", kernel_size, 1)
    step = kernel if stride is None or stride == [] else _pair(op, "stride", stride, 1)
    if divisor_override is not None and (not isinstance(divisor_override, int) or divisor_override == 0):
        raise ArgumentError(
            op, f"divisor_override is {divisor_override!r}", fix="pass an integer other than 0"
        )
    pad = _pair(op, "padding", padding, 0)
    y = _avg_pool2d(x, kernel, step, pad, bool(ceil_mode), bool(count_include_pad), divisor_override)
    return _unbatched(y, batched)


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """`avg_pool2d` in one dimension."""
    op = "avg_pool1d"
    x, batched = _batched(op, input, 3)
    y = avg_pool2d(
        unsqueeze(x, 2),
        _wide(op, "kernel_size", kernel_size, 1),
        None if stride is None or stride == [] else _wide(op, "stride", stride, 1),
        _wide(op, "padding", padding, 0),
        ceil_mode,
        count_include_pad,
    )
    return _unbatched(squeeze(y, 2), batched)


def _averages(size: int, out: int, like: Tensor) -> Tensor:
    """The (size, out) matrix whose column i averages elements floor(i n / m) .. ceil((i + 1) n / m)."""
    matrix = np.zeros((size, out), like.dtype)
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        matrix[start:stop, i] = 1.0 / (stop - start)
    return wrap(matrix)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Means over as many windows of about equal size as are wanted: `output_size` n, (n, m) or (n, None).

    A window of rows and a window of columns are each a matrix product with constant averages.
    """
    op = "adaptive_avg_pool2d"
    x, batched = _batched(op, input, 4)
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    sizes = tuple(n if wanted is None else wanted for wanted, n in zip(sizes, x.shape[2:], strict=True))
    oh, ow = _pair(op, "output_size", sizes, 1)
    if min(x.shape[2:]) < 1:
        raise ShapeError(op, f"an image of shape {x.shape}", fix="it must not be empty")
    if (oh, ow) == (1, 1) and is_float(x.dtype):
        return _unbatched(mean(x, (2, 3), True), batched)
    y = matmul(x, _averages(x.shape[3], ow, x))
    y = transpose(matmul(transpose(y, 2, 3), _averages(x.shape[2], oh, x)), 2, 3)
    return _unbatched(y, batched)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """`adaptive_avg_pool2d` in one dimension."""
    x, batched = _batched("adaptive_avg_pool1d", input, 3)
    y = adaptive_avg_pool2d(unsqueeze(x, 2), (1, _single("adaptive_avg_pool1d", "output_size", output_size)))
    return _unbatched(squeeze(y, 2), batched)
