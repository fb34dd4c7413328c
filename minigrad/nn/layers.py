"""Layers: functions with learned constants, and a few without.

Shapes are PyTorch's: features last for `Linear`, `LayerNorm` and `Embedding`, channels first
(n, channels, height, width) for convolutions, pooling and batch norm, weights as (out, in, ...).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.Conv2d(3, 8, kernel_size=3, padding=1)(mg.zeros(2, 3, 5, 5)).shape
    (2, 8, 5, 5)

Weights start uniform in +-1/sqrt(fan_in), PyTorch's choice (He et al. 2015 with a = sqrt(5));
`minigrad.nn.init` has the others.  References: Ioffe & Szegedy 2015 (arXiv 1502.03167) for batch
norm, Ba et al. 2016 (1607.06450) for layer norm, Srivastava et al. 2014 for dropout.
"""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..ops.creation import ones, randn, zeros
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, Parameter


def _positive(layer: str, **sizes: Any) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
            raise ArgumentError(layer, f"{name} is {size!r}", fix="pass an integer of at least 1")


class Identity(Module):
    """x; takes and ignores any arguments, so that it can stand in for another module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """The input itself."""
        return input


class Flatten(Module):
    """Dimensions start_dim to end_dim as one; the batch dimension stays by default."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Settings."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """In training, zero each element with probability p and scale the others by 1 / (1 - p)."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ArgumentError("Dropout", f"a probability of {p}", fix="choose p between 0 and 1")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.dropout(input, self.p, self.training) if self.training and self.p else input

    def extra_repr(self) -> str:
        """Settings."""
        return f"p={self.p}"


class Linear(Module):
    """x W^T + b, from (..., in_features) to (..., out_features).

    weight: (out_features, in_features); bias: (out_features,) or None.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = None) -> None:
        super().__init__()
        _positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(zeros(out_features, in_features, dtype=dtype))
        self.bias = Parameter(zeros(out_features, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform in +-1/sqrt(in_features)."""
        _uniform_by_fan_in(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it.  Raises ShapeError if the last size is not in_features."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Settings."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


def _uniform_by_fan_in(weight: Parameter, bias: Parameter | None) -> None:
    init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1.0 / math.sqrt(weight.numel() // weight.shape[0])
        init.uniform_(bias, -bound, bound)


Size2 = int | tuple[int, int]


def _pair(layer: str, name: str, value: Any, least: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or any(isinstance(v, bool) or not hasattr(v, "__index__") or v < least for v in pair):
        raise ArgumentError(layer, f"{name} is {value!r}", fix=f"pass an integer of at least {least}, or two")
    return int(pair[0]), int(pair[1])


class Conv2d(Module):
    """Cross-correlation of images (n, in_channels, h, w) with learned kernels, plus a bias.

    weight: (out_channels, in_channels / groups, kh, kw); bias: (out_channels,) or None.  padding: zeros
    around the image, or "valid" (none) or "same" (the size stays, for stride 1).
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2,
        stride: Size2 = 1,
        padding: Size2 | str = 0,
        dilation: Size2 = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _positive("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                "Conv2d",
                f"{in_channels} input and {out_channels} output channels in {groups} groups",
                fix="both must be divisible by groups",
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride = _pair("Conv2d", "stride", stride, 1)
        if isinstance(padding, str) and padding not in ("valid", "same"):
            raise ArgumentError("Conv2d", f"padding is {padding!r}", fix="use 'valid', 'same' or integers")
        if padding == "same" and self.stride != (1, 1):
            raise ArgumentError("Conv2d", "padding 'same' with a stride", fix="pass the padding as integers")
        self.padding = padding if isinstance(padding, str) else _pair("Conv2d", "padding", padding, 0)
        self.dilation = _pair("Conv2d", "dilation", dilation, 1)
        self.groups = groups
        self.weight = Parameter(zeros(out_channels, in_channels // groups, *self.kernel_size, dtype=dtype))
        self.bias = Parameter(zeros(out_channels, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform in +-1/sqrt(fan_in)."""
        _uniform_by_fan_in(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Settings."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding not in ((0, 0), 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text + ("" if self.bias is not None else ", bias=False")


class MaxPool2d(Module):
    """The largest value of each window of images (n, channels, h, w); stride is kernel_size by default."""

    def __init__(
        self,
        kernel_size: Size2,
        stride: Size2 | None = None,
        padding: Size2 = 0,
        dilation: Size2 = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        y: Tensor = F.max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )
        return y

    def extra_repr(self) -> str:
        """Settings."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window of images (n, channels, h, w); stride is kernel_size by default."""

    def __init__(
        self,
        kernel_size: Size2,
        stride: Size2 | None = None,
        padding: Size2 = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        """Settings."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _BatchNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, per channel.

    In training the mean and variance are those of the batch, and running averages of them are kept
    (the variance unbiased); afterwards the running ones are used.  momentum None: plain averages.
    """

    dims: tuple[int, ...] = ()
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _positive(type(self).__name__, num_features=num_features)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(ones(num_features, dtype=dtype)) if affine else None
        self.bias = Parameter(zeros(num_features, dtype=dtype)) if affine else None
        track = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, dtype=dtype) if track else None)
        self.register_buffer("running_var", ones(num_features, dtype=dtype) if track else None)
        self.register_buffer("num_batches_tracked", zeros((), dtype="int64") if track else None)

    def reset_running_stats(self) -> None:
        """Forget the running averages."""
        if (
            self.running_mean is not None
            and self.running_var is not None
            and self.num_batches_tracked is not None
        ):
            self.running_mean.assign(zeros(self.num_features))
            self.running_var.assign(ones(self.num_features))
            self.num_batches_tracked.assign(0)

    def reset_parameters(self) -> None:
        """Forget everything."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it.  Raises ShapeError for the wrong number of dimensions or channels."""
        if input.ndim not in self.dims or input.shape[1] != self.num_features:
            dims = " or ".join(f"{d}-d" for d in self.dims)
            raise ShapeError(
                type(self).__name__,
                f"an input of shape {input.shape}",
                fix=f"pass a {dims} one with {self.num_features} channels in dimension 1",
            )
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.assign(self.num_batches_tracked + 1)
            if momentum is None:
                momentum = 1.0 / self.num_batches_tracked.item()
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            momentum or 0.0,
            self.eps,
        )

    def extra_repr(self) -> str:
        """Settings."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch norm of (n, features) or (n, channels, length): each channel to mean 0 and variance 1."""

    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch norm of images (n, channels, h, w): each channel to mean 0 and variance 1."""

    dims = (4,)


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last dimensions of each example."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...] | list[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        _positive("LayerNorm", **{f"normalized_shape[{i}]": s for i, s in enumerate(shape)})
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(ones(shape, dtype=dtype)) if elementwise_affine else None
        self.bias = Parameter(zeros(shape, dtype=dtype)) if elementwise_affine and bias else None

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class Embedding(Module):
    """A table of vectors, looked up by integers: (...) to (..., embedding_dim).

    padding_idx: an index whose vector starts as zeros and is not learned.
    """

    weight: Parameter

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, dtype: Any = None
    ) -> None:
        super().__init__()
        _positive("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(
                "Embedding",
                f"padding_idx {padding_idx} of {num_embeddings} embeddings",
                fix="use the number of a row",
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(randn(num_embeddings, embedding_dim, dtype=dtype))
        if self.padding_idx is not None:
            self.weight._array[self.padding_idx] = 0

    @classmethod
    def from_pretrained(
        cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None
    ) -> Embedding:
        """An embedding with these vectors (n, dim), not learned further if `freeze`."""
        if embeddings.ndim != 2:
            raise ShapeError(
                "Embedding", f"embeddings of shape {embeddings.shape}", fix="pass a (n, dim) tensor"
            )
        module = cls(embeddings.shape[0], embeddings.shape[1], padding_idx, dtype=embeddings.dtype)
        module.weight = Parameter(embeddings.detach(), requires_grad=not freeze)
        return module

    def forward(self, input: Tensor) -> Tensor:
        """Look the indices up.  Raises OutOfRangeError for one that does not exist."""
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Settings."""
        tail = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{tail}"
