"""Images made larger, padded, cut into patches; channels made pixels.

>>> import minigrad as mg
>>> from minigrad import nn
>>> nn.Upsample(scale_factor=2)(mg.tensor([[[1.0, 2.0]]]))
tensor([[[1., 1., 2., 2.]]])
>>> nn.ReflectionPad1d(1)(mg.tensor([[[1.0, 2.0, 3.0]]]))
tensor([[[2., 1., 2., 3., 2.]]])
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import ShapeError
from ..tensor import Tensor
from . import functional as F
from .conv import sizes
from .module import Module


class Upsample(Module):
    """The input (n, channels, ...) resampled to `size`, or to its size times `scale_factor`.

    mode: "nearest", "linear", "bilinear", "bicubic" or "trilinear"; see `functional.interpolate`.
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = (
            tuple(float(f) for f in scale_factor)
            if isinstance(scale_factor, (tuple, list))
            else (float(scale_factor) if scale_factor else None)
        )
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        """Settings."""
        what = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{what}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """`Upsample` of images by their nearest pixels."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """`Upsample` of images, bilinear, the corners staying where they are."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(Module):
    """(..., c r r, h, w) to (..., c, h r, w r)."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        """Settings."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(..., c, h r, w r) to (..., c r r, h, w)."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        """Settings."""
        return f"downscale_factor={self.downscale_factor}"


class Unfold(Module):
    """The patches of images (n, c, h, w) as columns (n, c kh kw, places)."""

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """Settings."""
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """Columns (n, c kh kw, places) added up into images (n, c, h, w)."""

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """Settings."""
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )


class _Pad(Module):
    dims: ClassVar[int]
    mode: ClassVar[str] = "constant"
    value: float = 0.0

    def __init__(self, padding: Any) -> None:
        super().__init__()
        layer = type(self).__name__
        self.padding = sizes(layer, "padding", padding, -(1 << 62), 2 * self.dims)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        if self.mode != "constant" and input.ndim not in (self.dims + 1, self.dims + 2):
            raise ShapeError(
                type(self).__name__,
                f"an input of shape {input.shape}",
                fix=f"it must have {self.dims + 2} dimensions, or {self.dims + 1} without the batch",
            )
        return F.pad(input, self.padding, self.mode, self.value if self.mode == "constant" else None)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        """Settings."""
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """`value` around sequences: padding (left, right) or one number."""

    dims = 1


class ConstantPad2d(_ConstantPad):
    """`value` around images: padding (left, right, top, bottom) or one number."""

    dims = 2


class ZeroPad1d(_Pad):
    """Zeros around sequences."""

    dims = 1


class ZeroPad2d(_Pad):
    """Zeros around images."""

    dims = 2


class ReflectionPad1d(_Pad):
    """Sequences mirrored at their ends."""

    dims, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Images mirrored at their borders."""

    dims, mode = 2, "reflect"


class ReplicationPad1d(_Pad):
    """Sequences whose ends are repeated."""

    dims, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Images whose border is repeated."""

    dims, mode = 2, "replicate"


class CircularPad1d(_Pad):
    """Sequences that begin again after their end."""

    dims, mode = 1, "circular"


class CircularPad2d(_Pad):
    """Images that begin again after their border."""

    dims, mode = 2, "circular"


class CosineSimilarity(Module):
    """The cosine of the angle between vectors along dim."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Apply it."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """The p-norm of x1 - x2 + eps over the last dimension."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Apply it."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
