"""Convolutions: layers whose weights slide over their input.

The input is (n, channels, ...) with one, two or three dimensions of space, or without the batch; the weight
is (out_channels, in_channels / groups, ...), and for the transposed layers, which paint their kernel onto a
larger image, (in_channels, out_channels / groups, ...).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.Conv2d(3, 8, kernel_size=3, padding=1)(mg.zeros(2, 3, 5, 5)).shape
    (2, 8, 5, 5)

padding_mode says what lies beyond the border: "zeros", the image mirrored ("reflect"), its edge repeated
("replicate") or its other side ("circular").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import ArgumentError, ShapeError
from ..ops.creation import zeros
from ..tensor import Tensor
from . import functional as F
from .layers import positive, uniform_by_fan_in
from .module import Module, Parameter, factory

Size = int | tuple[int, ...]
_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def sizes(layer: str, name: str, value: Any, least: int, dims: int) -> tuple[int, ...]:
    """`dims` integers of at least `least`, from one integer or as many.  Raises ArgumentError otherwise."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    if len(values) != dims or any(
        isinstance(v, bool) or not hasattr(v, "__index__") or v < least for v in values
    ):
        raise ArgumentError(
            layer, f"{name} is {value!r}", fix=f"pass an integer of at least {least}, or {dims} of them"
        )
    return tuple(int(v) for v in values)


class _Conv(Module):
    dims: ClassVar[int]
    function: ClassVar[Callable[..., Tensor]]
    transposed: ClassVar[bool] = False
    weight: Parameter
    bias: Parameter | None

    def _build(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size | str,
        dilation: Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
        output_padding: Size = 0,
    ) -> None:
        layer = type(self).__name__
        dtype = factory(layer, device, dtype)
        positive(layer, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                layer,
                f"{in_channels} input and {out_channels} output channels in {groups} groups",
                fix="both must be divisible by groups",
            )
        if padding_mode not in _MODES or (self.transposed and padding_mode != "zeros"):
            known = "zeros" if self.transposed else ", ".join(_MODES)
            raise ArgumentError(layer, f"padding_mode is {padding_mode!r}", fix=f"use one of {known}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = sizes(layer, "kernel_size", kernel_size, 1, self.dims)
        self.stride = sizes(layer, "stride", stride, 1, self.dims)
        if isinstance(padding, str) and (self.transposed or padding not in ("valid", "same")):
            raise ArgumentError(layer, f"padding is {padding!r}", fix="use 'valid', 'same' or integers")
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ArgumentError(layer, "padding 'same' with a stride", fix="pass the padding as integers")
        self.padding = padding if isinstance(padding, str) else sizes(layer, "padding", padding, 0, self.dims)
        self.dilation = sizes(layer, "dilation", dilation, 1, self.dims)
        self.output_padding = sizes(layer, "output_padding", output_padding, 0, self.dims)
        self.groups = groups
        self.padding_mode = padding_mode
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = Parameter(zeros(first, second // groups, *self.kernel_size, dtype=dtype))
        self.bias = Parameter(zeros(out_channels, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform in +-1/sqrt(fan_in)."""
        uniform_by_fan_in(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it.  Raises ShapeError if channels disagree or the kernel does not fit."""
        padding = self.padding
        if self.padding_mode != "zeros":
            around = []
            for i in reversed(range(self.dims)):
                if isinstance(padding, str):
                    total = self.dilation[i] * (self.kernel_size[i] - 1) if padding == "same" else 0
                    around += [total // 2, total - total // 2]
                else:
                    around += [padding[i], padding[i]]
            input, padding = F.pad(input, around, _MODES[self.padding_mode]), (0,) * self.dims
        return type(self).function(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        """Settings, those that are not the defaults."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding not in ((0,) * self.dims, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.dims:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self.dims:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")


class _Forward(_Conv):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._build(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class Conv1d(_Forward):
    """Cross-correlation of sequences (n, in_channels, length) with learned kernels, plus a bias.

    weight: (out_channels, in_channels / groups, k); bias: (out_channels,) or None.
    """

    dims = 1
    function = staticmethod(F.conv1d)


class Conv2d(_Forward):
    """Cross-correlation of images (n, in_channels, h, w) with learned kernels, plus a bias.

    weight: (out_channels, in_channels / groups, kh, kw); bias: (out_channels,) or None.  padding: what
    padding_mode says around the image, or "valid" (none) or "same" (the size stays, for stride 1).
    """

    dims = 2
    function = staticmethod(F.conv2d)


class Conv3d(_Forward):
    """Cross-correlation of volumes (n, in_channels, depth, h, w) with learned kernels, plus a bias."""

    dims = 3
    function = staticmethod(F.conv3d)


class _Transposed(_Conv):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._build(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            output_padding,
        )

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """Apply it.  output_size: the sizes wanted, among those that `output_padding` could choose."""
        extra = self.output_padding
        if output_size is not None:
            wanted = tuple(output_size)[-self.dims :]
            assert not isinstance(self.padding, str)
            least = [
                (n - 1) * s - 2 * p + d * (k - 1) + 1
                for n, s, p, d, k in zip(
                    input.shape[-self.dims :],
                    self.stride,
                    self.padding,
                    self.dilation,
                    self.kernel_size,
                    strict=True,
                )
            ]
            extra = tuple(w - n for w, n in zip(wanted, least, strict=True))
            if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, self.stride, self.dilation, strict=True)):
                most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
                raise ShapeError(
                    type(self).__name__, f"output_size {wanted}", fix=f"use sizes from {least} to {most}"
                )
        return type(self).function(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )


class ConvTranspose1d(_Transposed):
    """The transpose of `Conv1d`: weight (in_channels, out_channels / groups, k)."""

    dims = 1
    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_Transposed):
    """The transpose of `Conv2d`: weight (in_channels, out_channels / groups, kh, kw)."""

    dims = 2
    function = staticmethod(F.conv_transpose2d)
