"""Normalisation: activations to mean 0 and variance 1, over different dimensions.

With x of shape (n, channels, ...),

    BatchNorm      each channel, over the batch and space         running averages for afterwards
    SyncBatchNorm  the same, over the parts of all processes
    LayerNorm      each example (or position), over the last dimensions
    GroupNorm      each example, over groups of channels and space
    InstanceNorm   each channel of each example, over space
    RMSNorm        as LayerNorm, without subtracting the mean

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.LayerNorm(3)(mg.tensor([[1.0, 2.0, 3.0]])).detach()
    tensor([[-1.2247,  0.    ,  1.2247]])

References: Ioffe & Szegedy 2015 (arXiv 1502.03167), batch norm; Ba et al. 2016 (1607.06450), layer norm; Wu &
He 2018 (1803.08494), group norm; Ulyanov et al. 2016 (1607.08022), instance norm; Zhang & Sennrich 2019
(1910.07467), RMS norm.
"""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, ShapeError
from ..ops.creation import ones, zeros
from ..ops.elementwise import cast, rsqrt
from ..tensor import Tensor
from . import functional as F
from . import init
from .layers import positive
from .module import Module, Parameter, factory


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
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        dtype = factory(type(self).__name__, device, dtype)
        positive(type(self).__name__, num_features=num_features)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(ones(num_features, dtype=dtype)) if affine else None
        self.bias = Parameter(zeros(num_features, dtype=dtype)) if affine and bias else None
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
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            self.num_batches_tracked.assign(0)

    def reset_parameters(self) -> None:
        """Forget everything."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
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
        momentum: Any = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.assign(self.num_batches_tracked + 1)
            if momentum is None:  # a tensor: in a captured program it is another number each time
                momentum = 1.0 / cast(self.num_batches_tracked, input.dtype)
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if momentum is None else momentum,
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


class BatchNorm3d(_BatchNorm):
    """Batch norm of volumes (n, channels, depth, h, w): each channel to mean 0 and variance 1."""

    dims = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch norm by the statistics of the whole batch, of which each process of a group has a part.

    process_group: the processes (`distributed.new_group`); None: all of them.  Any number of dimensions
    from 2 on.  With one process, and in eval mode, it is `BatchNorm1d` and its like.  Parts may be of
    different sizes: mean and variance are weighted by them, and so are gradients, for a loss that is a mean
    over each part (as `distributed.DistributedDataParallel` expects it).
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.process_group = process_group

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """`module` with every batch norm inside replaced by this one, with its weights and state; a module
        that is itself a batch norm is returned as a new one."""
        if isinstance(module, _BatchNorm) and not isinstance(module, (SyncBatchNorm, _InstanceNorm)):
            made = cls.__new__(cls)
            made.__dict__.update(module.__dict__)
            made.process_group = process_group
            return made
        for name, child in list(module.named_children()):
            new = cls.convert_sync_batchnorm(child, process_group)
            if new is not child:
                setattr(module, name, new)
        return module

    def forward(self, input: Tensor) -> Tensor:
        """Apply it to this process's part."""
        from ..distributed.group import of
        from ..distributed.parallel import sync_moments

        self.dims = (max(input.ndim, 2),)  # any
        group = of(self.process_group)
        learning = self.training or self.running_mean is None
        if group.size == 1 or not learning:
            return super().forward(input)
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ShapeError(
                "SyncBatchNorm",
                f"an input of shape {input.shape}",
                fix=f"pass one with {self.num_features} channels in dimension 1",
            )
        shape = (1, -1, *(1,) * (input.ndim - 2))
        dims = (0, *range(2, input.ndim))
        mean, variance, count = sync_moments(input, dims, group)
        if self.training and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.assign(self.num_batches_tracked + 1)
            share: Any = self.momentum
            if share is None:
                share = 1.0 / cast(self.num_batches_tracked, input.dtype)
            unbiased = variance.detach() * (count / (count - 1.0))
            for running, now in ((self.running_mean, mean.detach()), (self.running_var, unbiased)):
                running.assign(running * (1.0 - share) + now * share)
        y = (input - mean.reshape(shape)) * rsqrt(variance + self.eps).reshape(shape)
        if self.weight is not None:
            y = y * self.weight.reshape(shape)
        return y if self.bias is None else y + self.bias.reshape(shape)


class _InstanceNorm(_BatchNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias, per channel of each example.

    track_running_stats: keep running averages, and use these after training.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it, also without a batch.  Raises ShapeError for the wrong dimensions or channels."""
        least = self.dims[0]
        if input.ndim not in (least - 1, least) or input.shape[-(least - 1)] != self.num_features:
            raise ShapeError(
                type(self).__name__,
                f"an input of shape {input.shape}",
                fix=f"pass {least} dimensions, or {least - 1} without batch, of {self.num_features} channels",
            )
        y = F.instance_norm(
            input if input.ndim == least else input.unsqueeze(0),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return y if input.ndim == least else y.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """Instance norm of sequences (n, channels, length)."""

    dims = (3,)


class InstanceNorm2d(_InstanceNorm):
    """Instance norm of images (n, channels, h, w) (Ulyanov et al. 2016, arXiv 1607.08022)."""

    dims = (4,)


class InstanceNorm3d(_InstanceNorm):
    """Instance norm of volumes (n, channels, depth, h, w)."""

    dims = (5,)


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
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = factory("LayerNorm", device, dtype)
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        positive("LayerNorm", **{f"normalized_shape[{i}]": s for i, s in enumerate(shape)})
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(ones(shape, dtype=dtype)) if elementwise_affine else None
        self.bias = Parameter(zeros(shape, dtype=dtype)) if elementwise_affine and bias else None

    def reset_parameters(self) -> None:
        """Forget everything."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(Module):
    """x / sqrt(mean of x^2 + eps) * weight, over the last dimensions; eps None: that of the dtype."""

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...] | list[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = factory("RMSNorm", device, dtype)
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        positive("RMSNorm", **{f"normalized_shape[{i}]": s for i, s in enumerate(shape)})
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(ones(shape, dtype=dtype)) if elementwise_affine else None

    def reset_parameters(self) -> None:
        """Forget everything."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Each of num_groups groups of channels of each example standardised; then an affine map a channel."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        dtype = factory("GroupNorm", device, dtype)
        positive("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ArgumentError(
                "GroupNorm",
                f"{num_channels} channels in {num_groups} groups",
                fix="use a number that divides",
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.weight = Parameter(ones(num_channels, dtype=dtype)) if affine else None
        self.bias = Parameter(zeros(num_channels, dtype=dtype)) if affine and bias else None

    def reset_parameters(self) -> None:
        """Forget everything."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"
