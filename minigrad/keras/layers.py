"""Layers, by Keras's names: `Dense(64, activation="relu")`.

A Keras layer learns the shape of its input when it is built, and it has its activation inside.
Both are kept apart here: `pre` is the layer without its activation, so that a model can take the
logits of its last layer for a loss that is computed stably from them.

    >>> import minigrad as mg
    >>> layer = Dense(3, activation="relu")
    >>> layer.build((5,))                                # shapes are without the batch
    (3,)
    >>> layer(mg.zeros(2, 5)).shape, [p.shape for p in layer.parameters()]
    ((2, 3), [(5, 3), (3,)])

Images are channels last, (n, height, width, channels), and kernels are stored as Keras stores
them, so that `get_weights` and `set_weights` exchange arrays with it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ir import Shape
from ..nn import functional as F
from ..nn.module import Module, Parameter
from ..nn.recurrent import walk_gru, walk_lstm, walk_rnn
from ..ops.creation import ones, randn, zeros
from ..ops.elementwise import clamp, rsqrt, sqrt, square
from ..ops.movement import cat, flip, pad_dim, stack
from ..ops.nn import standardize
from ..tensor import Tensor, wrap
from . import activations, initializers, regularizers
from .base import Layer, sizes
from .losses import EPSILON, array_of, as_float
from .merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Lambda,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from .symbolic import KerasTensor

Pair = int | tuple[int, int]


def _two(layer: str, name: str, value: Any) -> tuple[int, int]:
    pair = sizes(layer, name, (value, value) if isinstance(value, int) else value)
    if len(pair) != 2:
        raise ArgumentError(layer, f"{name} is {value!r}", fix="pass one integer or two")
    return pair[0], pair[1]


class InputLayer(Layer):
    """Says what shape the examples have, in a `Sequential`."""

    def __init__(self, shape: Any, name: str | None = None) -> None:
        super().__init__(name, tuple(shape) if isinstance(shape, list) else shape)


def Input(
    shape: Any = None, name: str | None = None, dtype: Any = None, batch_shape: Any = None
) -> KerasTensor:
    """What a model is given: examples of this shape, without the batch, and a name.

    The first entry of a `Sequential`, or what `Model(inputs, outputs)` begins with.  dtype: any of numbers;
    a model takes what is given to it as float32.  batch_shape: instead of shape, beginning with None.
    """
    if batch_shape is not None:
        if shape is not None or batch_shape[0] is not None:
            raise ArgumentError("Input", f"batch_shape is {batch_shape!r}", fix="pass shape, or (None, ...)")
        shape = tuple(batch_shape[1:])
    if shape is None:
        raise ArgumentError(
            "Input", "there is no shape", fix="pass the shape of an example: Input((28, 28, 1))"
        )
    if dtype is not None and np.dtype(dtype).kind not in "biuf":
        raise ArgumentError("Input", f"dtype is {dtype!r}", fix="encode the data as numbers first")
    given = tuple(shape) if isinstance(shape, (list, tuple)) else shape
    return KerasTensor(() if given == () else sizes("Input", "shape", given), None, name)


class Dense(Layer):
    """activation(x kernel + bias), from (..., n) to (..., units); kernel (n, units), bias (units,)."""

    kernel: Parameter
    bias: Parameter | None

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        input_shape: Any = None,
        input_dim: int | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape if input_dim is None else (input_dim,), trainable)
        (self.units,) = sizes("Dense", "units", (units,))
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._kernel_initializer = initializers.get(kernel_initializer)
        self._bias_initializer = initializers.get(bias_initializer)
        self._rule_for("kernel", kernel_regularizer, kernel_constraint)
        self._rule_for("bias", bias_regularizer, bias_constraint)
        self._activity = regularizers.get(activity_regularizer)

    def build(self, shape: Shape) -> Shape:
        """Make kernel and bias."""
        if not shape:
            raise ShapeError("Dense", "the examples are single numbers", fix="reshape x to (n, 1)")
        self.kernel = self._weight(self._kernel_initializer, (shape[-1], self.units))
        self.bias = self._weight(self._bias_initializer, (self.units,)) if self.use_bias else None
        self.built = True
        return (*shape[:-1], self.units)

    def pre(self, x: Tensor) -> Tensor:
        """x kernel + bias"""
        y = x @ self.kernel
        return y if self.bias is None else y + self.bias


class Activation(Layer):
    """An activation as a layer of its own."""

    def __init__(self, activation: Any, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.activation = activations.get(activation)


class ReLU(Layer):
    """x from threshold to max_value, negative_slope * (x - threshold) below; by default max(x, 0)."""

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, input_shape)
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def pre(self, x: Tensor) -> Tensor:
        """Apply it."""
        return activations.relu(x, self.negative_slope, self.max_value, self.threshold)


class Softmax(Layer):
    """exp(x) / sum(exp(x)) over `axis`, the last dimension."""

    def __init__(self, axis: int = -1, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.axis = axis
        if axis == -1:
            self.activation = activations.softmax

    def pre(self, x: Tensor) -> Tensor:
        """Over another dimension than the last, which a loss cannot undo."""
        return x if self.axis == -1 else activations.softmax(x, self.axis)


class Flatten(Layer):
    """All dimensions of an example as one."""

    def __init__(self, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        self.built = True
        total = 1
        for size in shape:
            total *= size
        return (total,)

    def pre(self, x: Tensor) -> Tensor:
        """(n, ...) to (n, m)"""
        return x.reshape(x.shape[0], -1) if x.ndim > 1 else x.reshape(x.shape[0], 1)


class Dropout(Layer):
    """In training, zero each element with probability `rate` and scale the others by 1 / (1 - rate)."""

    def __init__(self, rate: float, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        if not 0.0 <= rate < 1.0:
            raise ArgumentError("Dropout", f"the rate is {rate!r}", fix="choose it from 0 to below 1")
        self.rate = rate

    def pre(self, x: Tensor) -> Tensor:
        """Drop."""
        return F.dropout(x, self.rate, True) if self.training and self.rate else x


def _image(layer: str, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ShapeError(
            layer,
            f"examples of shape {shape}",
            fix="pass images of shape (height, width, channels); x[..., None] adds one channel",
        )
    return shape


def _padding(layer: str, padding: str) -> str:
    if padding not in ("valid", "same"):
        raise ArgumentError(layer, f"padding is {padding!r}", fix="use 'valid' or 'same'")
    return padding


def _length(size: int, window: int, stride: int, padding: str) -> int:
    return -(-size // stride) if padding == "same" else (size - window) // stride + 1


def _margins(size: int, window: int, stride: int) -> tuple[int, int]:
    """Keras's "same": the smallest total, the odd one after."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _windows(layer: str, shape: Shape, window: Shape, stride: Shape, padding: str) -> tuple[int, int]:
    height, width = (_length(s, w, d, padding) for s, w, d in zip(shape, window, stride, strict=False))
    if height < 1 or width < 1:
        raise ShapeError(
            layer, f"a window of {window} does not fit into images of shape {shape}", fix="use a smaller one"
        )
    return height, width


def _padded(images: Tensor, window: Shape, strides: Shape, padding: str, value: float = 0.0) -> Tensor:
    """Images, channels first, with what "same" adds around them."""
    if padding == "same":
        for dim, size, stride in zip((2, 3), window, strides, strict=True):
            before, after = _margins(images.shape[dim], size, stride)
            if before or after:
                images = F.pad(images, (0, 0, before, after) if dim == 2 else (before, after), value=value)
    return images


def _grouped(layer: str, channels: int, filters: int, groups: int) -> int:
    """The channels that each group of filters sees."""
    if channels % groups or filters % groups:
        raise ArgumentError(
            layer,
            f"{groups} groups of {channels} channels and {filters} filters",
            fix="groups must divide both",
        )
    return channels // groups


class Conv2D(Layer):
    """activation(cross-correlation of x with learned kernels + bias), channels last.

    kernel (kh, kw, channels, filters), bias (filters,).
    """

    kernel: Parameter
    bias: Parameter | None

    def __init__(
        self,
        filters: int,
        kernel_size: Pair,
        strides: Pair = (1, 1),
        padding: str = "valid",
        dilation_rate: Pair = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        (self.filters,) = sizes("Conv2D", "filters", (filters,))
        self.kernel_size = _two("Conv2D", "kernel_size", kernel_size)
        self.strides = _two("Conv2D", "strides", strides)
        self.padding = _padding("Conv2D", padding)
        self.dilation_rate = _two("Conv2D", "dilation_rate", dilation_rate)
        (self.groups,) = sizes("Conv2D", "groups", groups)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError("Conv2D", "strides and dilation_rate above 1", fix="use one of them")
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._kernel_initializer = initializers.get(kernel_initializer)
        self._bias_initializer = initializers.get(bias_initializer)
        self._rule_for("kernel", kernel_regularizer, kernel_constraint)
        self._rule_for("bias", bias_regularizer, bias_constraint)
        self._activity = regularizers.get(activity_regularizer)

    def _reach(self) -> tuple[int, int]:
        """The size of the window, its holes included."""
        (h, w), (y, x) = self.kernel_size, self.dilation_rate
        return (h - 1) * y + 1, (w - 1) * x + 1

    def build(self, shape: Shape) -> Shape:
        """Make kernel and bias."""
        size = _windows("Conv2D", _image("Conv2D", shape), self._reach(), self.strides, self.padding)
        inputs = _grouped("Conv2D", shape[-1], self.filters, self.groups)
        self.kernel = self._weight(self._kernel_initializer, (*self.kernel_size, inputs, self.filters))
        self.bias = self._weight(self._bias_initializer, (self.filters,)) if self.use_bias else None
        self.built = True
        return (*size, self.filters)

    def pre(self, x: Tensor) -> Tensor:
        """Convolve, channels first inside."""
        images = _padded(x.permute(0, 3, 1, 2), self._reach(), self.strides, self.padding)
        w = self.kernel.permute(3, 2, 0, 1)
        y = F.conv2d(images, w, self.bias, self.strides, 0, self.dilation_rate, self.groups)
        return y.permute(0, 2, 3, 1)


class _Pooling(Layer):
    """One number of each window, channels last; strides are pool_size by default."""

    def __init__(
        self,
        pool_size: Pair = (2, 2),
        strides: Pair | None = None,
        padding: str = "valid",
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, input_shape)
        label = type(self).__name__
        self.pool_size = _two(label, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else _two(label, "strides", strides)
        self.padding = _padding(label, padding)

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        layer = type(self).__name__
        self.built = True
        size = _windows(layer, _image(layer, shape), self.pool_size, self.strides, self.padding)
        return (*size, shape[-1])

    def pre(self, x: Tensor) -> Tensor:
        """Pool, channels first inside."""
        return self._pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _pool(self, x: Tensor) -> Tensor:
        raise ArgumentError(type(self).__name__, "_pool is not defined", fix="use MaxPooling2D")


def _max_pool(x: Tensor, window: Shape, strides: Shape, padding: str) -> Tensor:
    y: Tensor = F.max_pool2d(_padded(x, window, strides, padding, -math.inf), window, strides)
    return y


def _mean_pool(x: Tensor, window: Shape, strides: Shape, padding: str) -> Tensor:
    """The mean of those elements of a window that are inside of the image."""
    y = F.avg_pool2d(_padded(x, window, strides, padding), window, strides)
    if padding == "valid":
        return y
    inside = _padded(ones(1, 1, *x.shape[2:], dtype=x.dtype), window, strides, padding)
    return y / F.avg_pool2d(inside, window, strides)


class MaxPooling2D(_Pooling):
    """The largest value of each window, channels last; strides are pool_size by default."""

    def _pool(self, x: Tensor) -> Tensor:
        return _max_pool(x, self.pool_size, self.strides, self.padding)


class AveragePooling2D(_Pooling):
    """The mean of each window (of what is in the image), channels last; strides are pool_size by default."""

    def _pool(self, x: Tensor) -> Tensor:
        return _mean_pool(x, self.pool_size, self.strides, self.padding)


class _Pooling1D(Layer):
    """One number of each window in time, (n, time, channels); strides are pool_size by default."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, input_shape)
        label = type(self).__name__
        (self.pool_size,) = sizes(label, "pool_size", pool_size)
        (self.strides,) = (self.pool_size,) if strides is None else sizes(label, "strides", strides)
        self.padding = _padding(label, padding)

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        label = type(self).__name__
        if len(shape) != 2:
            raise ShapeError(label, f"examples of shape {shape}", fix="pass (time, channels)")
        self.built = True
        size = _windows(label, (shape[0], 1), (self.pool_size, 1), (self.strides, 1), self.padding)
        return (size[0], shape[1])

    def pre(self, x: Tensor) -> Tensor:
        """Pool images that are one pixel wide."""
        images = x.permute(0, 2, 1).unsqueeze(-1)
        return self._pool(images, (self.pool_size, 1), (self.strides, 1)).squeeze(-1).permute(0, 2, 1)

    def _pool(self, x: Tensor, window: Shape, strides: Shape) -> Tensor:
        raise ArgumentError(type(self).__name__, "_pool is not defined", fix="use MaxPooling1D")


class MaxPooling1D(_Pooling1D):
    """The largest value of each window in time, (n, time, channels); strides are pool_size by default."""

    def _pool(self, x: Tensor, window: Shape, strides: Shape) -> Tensor:
        return _max_pool(x, window, strides, self.padding)


class AveragePooling1D(_Pooling1D):
    """The mean of each window in time, (n, time, channels); strides are pool_size by default."""

    def _pool(self, x: Tensor, window: Shape, strides: Shape) -> Tensor:
        return _mean_pool(x, window, strides, self.padding)


class BatchNormalization(Layer):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, per channel (along `axis`, the last dimension).

    In training with the statistics of the batch, keeping running averages of them; otherwise with
    those.  As in Keras, the running variance is not corrected for the batch size.  synchronized: the
    batch is that of all workers of `fit(..., workers=n)`, not this one's part of it.
    """

    gamma: Parameter | None
    beta: Parameter | None
    moving_mean: Tensor
    moving_variance: Tensor

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        synchronized: bool = False,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
            raise ArgumentError(
                "BatchNormalization", f"axis is {axis!r}", fix="name the dimension of channels"
            )
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.center, self.scale = bool(center), bool(scale)
        self.synchronized = bool(synchronized)
        self._initial = {
            "gamma": initializers.get(gamma_initializer),
            "beta": initializers.get(beta_initializer),
            "moving_mean": initializers.get(moving_mean_initializer),
            "moving_variance": initializers.get(moving_variance_initializer),
        }
        self._rule_for("gamma", gamma_regularizer, gamma_constraint)
        self._rule_for("beta", beta_regularizer, beta_constraint)

    def build(self, shape: Shape) -> Shape:
        """Make gamma, beta and the running averages."""
        ndim = len(shape) + 1
        if not -len(shape) <= self.axis < ndim:
            raise ArgumentError(
                "BatchNormalization", f"axis {self.axis} of examples {shape}", fix="use one that exists"
            )
        at = self.axis % ndim
        n = shape[at - 1]
        self._dims = tuple(d for d in range(ndim) if d != at)
        self._wide = () if at == ndim - 1 else (n, *(1,) * (ndim - 1 - at))
        self.gamma = self._weight(self._initial["gamma"], (n,)) if self.scale else None
        self.beta = self._weight(self._initial["beta"], (n,)) if self.center else None
        for name in ("moving_mean", "moving_variance"):
            self.register_buffer(name, self._initial[name]((n,)))
        self.built = True
        return shape

    def _across(self, v: Tensor) -> Tensor:
        """One number a channel, as it lies beside x."""
        return v.reshape(*self._wide) if self._wide else v

    def pre(self, x: Tensor) -> Tensor:
        """Normalise."""
        if self.training and self._trainable:
            group = self._workers()
            if group is None:
                mean = x.mean(self._dims)
                centred = x - self._across(mean)
                variance = square(centred).mean(self._dims)
            else:
                from ..distributed.parallel import sync_moments

                mean, variance, _ = sync_moments(x, self._dims, group)
                centred = x - self._across(mean)
            for running, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                running.assign(running * self.momentum + now.detach() * (1.0 - self.momentum))
        else:
            centred, variance = x - self._across(self.moving_mean), self.moving_variance
        factor = rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            factor = factor * self.gamma
        y = centred * self._across(factor)
        return y if self.beta is None else y + self._across(self.beta)

    def _workers(self) -> Any:
        """The processes that the batch is shared by, if there are any and their statistics count."""
        if not self.synchronized:
            return None
        from ..distributed.group import group

        return group() if group().size > 1 else None


class LeakyReLU(Layer):
    """x where positive, negative_slope * x elsewhere."""

    def __init__(self, negative_slope: float = 0.3, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.negative_slope = float(negative_slope)

    def pre(self, x: Tensor) -> Tensor:
        """Apply it."""
        return F.leaky_relu(x, self.negative_slope)


class ELU(Layer):
    """x where positive, alpha * (exp(x) - 1) elsewhere."""

    def __init__(self, alpha: float = 1.0, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.alpha = float(alpha)

    def pre(self, x: Tensor) -> Tensor:
        """Apply it."""
        return F.elu(x, self.alpha)


class PReLU(Layer):
    """x where positive, alpha * x elsewhere, with a learned alpha for each element of an example.

    shared_axes: axes (counted with the batch as 0) along which there is one alpha.
    """

    alpha: Parameter

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        shared_axes: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        self._alpha_initializer = initializers.get(alpha_initializer)
        self.shared_axes = sizes("PReLU", "shared_axes", shared_axes) if shared_axes is not None else ()

    def build(self, shape: Shape) -> Shape:
        """Make alpha."""
        alphas = tuple(1 if i + 1 in self.shared_axes else n for i, n in enumerate(shape))
        self.alpha = self._weight(self._alpha_initializer, alphas)
        self.built = True
        return shape

    def pre(self, x: Tensor) -> Tensor:
        """Apply it."""
        return F.relu(x) - self.alpha * F.relu(-x)


class Reshape(Layer):
    """Examples in another shape; one size may be -1."""

    def __init__(self, target_shape: Any, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.target_shape = (
            tuple(target_shape) if isinstance(target_shape, (tuple, list)) else (target_shape,)
        )

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        self.built = True
        return tuple(zeros(*shape).reshape(*self.target_shape).shape)

    def pre(self, x: Tensor) -> Tensor:
        """(n, ...) to (n, *target_shape)"""
        return x.reshape(x.shape[0], *self.build(x.shape[1:]))


class Permute(Layer):
    """Dimensions of the examples in another order, counted from 1."""

    def __init__(self, dims: Any, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.dims = sizes("Permute", "dims", dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ArgumentError("Permute", f"dims is {dims!r}", fix="use each of 1, 2, ... once")

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        if len(shape) != len(self.dims):
            raise ShapeError(
                "Permute", f"examples of shape {shape}", fix=f"they need {len(self.dims)} dimensions"
            )
        self.built = True
        return tuple(shape[d - 1] for d in self.dims)

    def pre(self, x: Tensor) -> Tensor:
        """Permute."""
        return x.permute(0, *self.dims)


class RepeatVector(Layer):
    """(n, features) to (n, times, features), the same at each time."""

    def __init__(self, n: int, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        (self.n,) = sizes("RepeatVector", "n", (n,))

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        if len(shape) != 1:
            raise ShapeError("RepeatVector", f"examples of shape {shape}", fix="they must be vectors")
        self.built = True
        return (self.n, *shape)

    def pre(self, x: Tensor) -> Tensor:
        """Repeat."""
        return x.unsqueeze(1).expand(x.shape[0], self.n, x.shape[1])


class Rescaling(Layer):
    """x * scale + offset: `Rescaling(1 / 255)` for pixels."""

    def __init__(
        self, scale: float, offset: float = 0.0, input_shape: Any = None, name: str | None = None
    ) -> None:
        super().__init__(name, input_shape)
        self.scale, self.offset = float(scale), float(offset)

    def pre(self, x: Tensor) -> Tensor:
        """Apply it."""
        y: Tensor = x * self.scale + self.offset
        return y


class GaussianNoise(Layer):
    """In training, add normal noise of this standard deviation."""

    def __init__(self, stddev: float, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        if stddev < 0:
            raise ArgumentError("GaussianNoise", f"stddev is {stddev!r}", fix="it must not be negative")
        self.stddev = float(stddev)

    def pre(self, x: Tensor) -> Tensor:
        """Add it."""
        return x + randn(*x.shape, dtype=x.dtype) * self.stddev if self.training and self.stddev else x


class SpatialDropout2D(Dropout):
    """`Dropout` of whole channels of images, channels last."""

    def pre(self, x: Tensor) -> Tensor:
        """Drop."""
        if not self.training or not self.rate:
            return x
        return F.dropout2d(x.permute(0, 3, 1, 2), self.rate, True).permute(0, 2, 3, 1)


class Embedding(Layer):
    """Class indices (n, ...) to vectors (n, ..., output_dim); embeddings (input_dim, output_dim)."""

    embeddings: Parameter

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        (self.input_dim,) = sizes("Embedding", "input_dim", (input_dim,))
        (self.output_dim,) = sizes("Embedding", "output_dim", (output_dim,))
        self._initializer = initializers.get(embeddings_initializer)
        self._rule_for("embeddings", embeddings_regularizer, embeddings_constraint)

    def build(self, shape: Shape) -> Shape:
        """Make the table."""
        self.embeddings = self._weight(self._initializer, (self.input_dim, self.output_dim))
        self.built = True
        return (*shape, self.output_dim)

    def pre(self, x: Tensor) -> Tensor:
        """Look up.  Raises OutOfRangeError for an index that does not exist."""
        return F.embedding(x.long(), self.embeddings)


class LayerNormalization(Layer):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over `axis`, of each example."""

    gamma: Parameter | None
    beta: Parameter | None

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        self.axis = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
        self.epsilon = float(epsilon)
        self.center, self.scale = bool(center), bool(scale)

    def build(self, shape: Shape) -> Shape:
        """Make gamma and beta."""
        ndim = len(shape) + 1
        if any(not -len(shape) <= a < ndim or a == 0 for a in self.axis):
            raise ArgumentError(
                "LayerNormalization", f"axis {self.axis} of examples {shape}", fix="use axes that exist"
            )
        at = sorted(a % ndim for a in self.axis)
        own = tuple(shape[a - 1] for a in at)
        self._dims = tuple(at)
        self._wide = tuple(shape[a - 1] if a in at else 1 for a in range(1, ndim))
        self.gamma = Parameter(ones(own), requires_grad=self._trainable) if self.scale else None
        self.beta = Parameter(zeros(own), requires_grad=self._trainable) if self.center else None
        self.built = True
        return shape

    def pre(self, x: Tensor) -> Tensor:
        """Normalise."""
        y = standardize(x, self._dims, self.epsilon)
        if self.gamma is not None:
            y = y * self.gamma.reshape(*self._wide)
        return y if self.beta is None else y + self.beta.reshape(*self._wide)


# -- more pooling and convolution -----------------------------------------------------------------------


class _Global(Layer):
    """One number a channel, over all of space, channels last."""

    dims: int

    def __init__(self, keepdims: bool = False, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.keepdims = bool(keepdims)

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        if len(shape) != self.dims + 1:
            raise ShapeError(
                type(self).__name__,
                f"examples of shape {shape}",
                fix=f"they need {self.dims} dimensions of space and the channels",
            )
        self.built = True
        return (*(1,) * self.dims, shape[-1]) if self.keepdims else (shape[-1],)

    def _space(self) -> tuple[int, ...]:
        return tuple(range(1, self.dims + 1))


class GlobalAveragePooling1D(_Global):
    """The mean over time: (n, time, channels) to (n, channels)."""

    dims = 1

    def pre(self, x: Tensor) -> Tensor:
        """Pool."""
        return x.mean(self._space(), self.keepdims)


class GlobalAveragePooling2D(GlobalAveragePooling1D):
    """The mean over an image: (n, height, width, channels) to (n, channels)."""

    dims = 2


class GlobalMaxPooling1D(_Global):
    """The largest over time: (n, time, channels) to (n, channels)."""

    dims = 1

    def pre(self, x: Tensor) -> Tensor:
        """Pool."""
        return x.amax(self._space(), self.keepdims)


class GlobalMaxPooling2D(GlobalMaxPooling1D):
    """The largest over an image: (n, height, width, channels) to (n, channels)."""

    dims = 2


class Conv1D(Layer):
    """activation(cross-correlation of x (n, time, channels) with learned kernels + bias).

    kernel (k, channels, filters), bias (filters,).  padding: "valid", "same" or "causal" (zeros before only).
    """

    kernel: Parameter
    bias: Parameter | None

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        (self.filters,) = sizes("Conv1D", "filters", (filters,))
        (self.kernel_size,) = sizes("Conv1D", "kernel_size", kernel_size)
        (self.groups,) = sizes("Conv1D", "groups", groups)
        (self.strides,) = sizes("Conv1D", "strides", strides)
        (self.dilation_rate,) = sizes("Conv1D", "dilation_rate", dilation_rate)
        if padding != "causal":
            _padding("Conv1D", padding)
        if self.strides > 1 and self.dilation_rate > 1:
            raise ArgumentError("Conv1D", "strides and dilation_rate above 1", fix="use one of them")
        self.padding = padding
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._kernel_initializer = initializers.get(kernel_initializer)
        self._bias_initializer = initializers.get(bias_initializer)
        self._rule_for("kernel", kernel_regularizer, kernel_constraint)
        self._rule_for("bias", bias_regularizer, bias_constraint)
        self._activity = regularizers.get(activity_regularizer)

    def _around(self, length: int) -> tuple[int, int]:
        window = (self.kernel_size - 1) * self.dilation_rate + 1
        if self.padding == "causal":
            return window - 1, 0
        return _margins(length, window, self.strides) if self.padding == "same" else (0, 0)

    def build(self, shape: Shape) -> Shape:
        """Make kernel and bias."""
        if len(shape) != 2:
            raise ShapeError("Conv1D", f"examples of shape {shape}", fix="pass (time, channels)")
        length = shape[0] + sum(self._around(shape[0])) - (self.kernel_size - 1) * self.dilation_rate
        if length < 1:
            raise ShapeError("Conv1D", f"a window that is longer than {shape[0]}", fix="use a smaller one")
        self.kernel = self._weight(
            self._kernel_initializer,
            (self.kernel_size, _grouped("Conv1D", shape[1], self.filters, self.groups), self.filters),
        )
        self.bias = self._weight(self._bias_initializer, (self.filters,)) if self.use_bias else None
        self.built = True
        return ((length - 1) // self.strides + 1, self.filters)

    def pre(self, x: Tensor) -> Tensor:
        """Convolve, channels first inside."""
        y = pad_dim(x.permute(0, 2, 1), 2, *self._around(x.shape[1]))
        w = self.kernel.permute(2, 1, 0)
        return F.conv1d(y, w, self.bias, self.strides, 0, self.dilation_rate, self.groups).permute(0, 2, 1)


class UpSampling2D(Layer):
    """Images made larger by whole factors: each pixel repeated ("nearest"), or "bilinear"."""

    def __init__(
        self,
        size: Pair = (2, 2),
        interpolation: str = "nearest",
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, input_shape)
        self.size = _two("UpSampling2D", "size", size)
        if interpolation not in ("nearest", "bilinear"):
            raise ArgumentError(
                "UpSampling2D", f"interpolation is {interpolation!r}", fix="use 'nearest' or 'bilinear'"
            )
        self.interpolation = interpolation

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        height, width, channels = _image("UpSampling2D", shape)
        self.built = True
        return (height * self.size[0], width * self.size[1], channels)

    def pre(self, x: Tensor) -> Tensor:
        """Resample, channels first inside."""
        y = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=self.size, mode=self.interpolation)
        return y.permute(0, 2, 3, 1)


class ZeroPadding2D(Layer):
    """Zeros around images: n, (rows, columns) or ((top, bottom), (left, right))."""

    def __init__(self, padding: Any = (1, 1), input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        pair = (padding, padding) if isinstance(padding, int) else tuple(padding)
        self.padding = tuple((p, p) if isinstance(p, int) else tuple(p) for p in pair)
        if len(self.padding) != 2 or any(len(p) != 2 or min(p) < 0 for p in self.padding):
            raise ArgumentError(
                "ZeroPadding2D",
                f"padding is {padding!r}",
                fix="pass n, (n, m) or ((top, bottom), (left, right))",
            )

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        height, width, channels = _image("ZeroPadding2D", shape)
        self.built = True
        return (height + sum(self.padding[0]), width + sum(self.padding[1]), channels)

    def pre(self, x: Tensor) -> Tensor:
        """Pad."""
        return pad_dim(pad_dim(x, 1, *self.padding[0]), 2, *self.padding[1])


# -- recurrence -----------------------------------------------------------------------------------------


class _Recurrent(Layer):
    """Sequences (n, time, features) to (n, units), or to (n, time, units) with return_sequences.

    kernel (features, gates units), recurrent_kernel (units, gates units), bias.  go_backwards: read from the
    end.  return_state: a list of the result and the last state (of an LSTM: both).  dropout and
    recurrent_dropout: in training, this share of the features, or of the state, is dropped all along.

    With Keras's defaults (tanh, sigmoid, no recurrent_dropout) time is walked in one operation; otherwise
    each step is several.
    """

    gates: int
    states = 1
    kernel: Parameter
    recurrent_kernel: Parameter
    bias: Parameter | None

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        label = type(self).__name__
        (self.units,) = sizes(label, "units", (units,))
        self._cell = activations.get(activation), activations.get(recurrent_activation)
        self.use_bias = bool(use_bias)
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        for what, share in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not 0.0 <= share < 1.0:
                raise ArgumentError(label, f"{what} is {share!r}", fix="choose it from 0 to below 1")
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.go_backwards = bool(go_backwards)
        self._kernel_initializer = initializers.get(kernel_initializer)
        self._recurrent_initializer = initializers.get(recurrent_initializer)
        self._bias_initializer = initializers.get(bias_initializer)
        self._rule_for("kernel", kernel_regularizer, kernel_constraint)
        self._rule_for("recurrent_kernel", recurrent_regularizer, recurrent_constraint)
        self._rule_for("bias", bias_regularizer, bias_constraint)
        self._activity = regularizers.get(activity_regularizer)

    def _bias_shape(self) -> Shape:
        return (self.gates * self.units,)

    def build(self, shape: Shape) -> Any:
        """Make kernels and bias."""
        if len(shape) != 2:
            raise ShapeError(
                type(self).__name__,
                f"examples of shape {shape}",
                fix="pass sequences (time, features); x[..., None] adds one feature",
            )
        wide = self.gates * self.units
        self.kernel = self._weight(self._kernel_initializer, (shape[1], wide))
        self.recurrent_kernel = self._weight(self._recurrent_initializer, (self.units, wide))
        self.bias = self._weight(self._bias_initializer, self._bias_shape()) if self.use_bias else None
        self.built = True
        result = (shape[0], self.units) if self.return_sequences else (self.units,)
        return [result, *[(self.units,)] * self.states] if self.return_state else result

    def pre(self, x: Tensor, initial_state: Any = None) -> Any:
        """Walk through time, which comes first inside."""
        steps = x.permute(1, 0, 2)
        if self.go_backwards:
            steps = flip(steps, 0)
        first = self._first(x, initial_state)
        if self.training and self.dropout:
            steps = steps * F.dropout(ones(1, *steps.shape[1:], dtype=x.dtype), self.dropout, True)
        usual = self._cell == (activations.tanh, activations.sigmoid)
        if usual and not (self.training and self.recurrent_dropout):
            y, last = self._walk(steps, first)
        else:
            y, last = self._stepped(steps, first)
        result = y.permute(1, 0, 2) if self.return_sequences else y[y.shape[0] - 1]
        return [result, *last] if self.return_state else result

    def _first(self, x: Tensor, given: Any) -> tuple[Tensor, ...]:
        if given is None:
            return (zeros(x.shape[0], self.units, dtype=x.dtype),) * self.states
        state = (given,) if isinstance(given, Tensor) else tuple(given)
        wanted = (x.shape[0], self.units)
        if len(state) != self.states or any(tuple(s.shape) != wanted for s in state):
            raise ShapeError(
                type(self).__name__,
                f"initial_state has shapes {[tuple(s.shape) for s in state]}",
                fix=f"pass {self.states} of shape {wanted}",
            )
        return state

    def _walk(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(time, n, features) to (time, n, units), and the last state, in one operation."""
        raise ArgumentError(type(self).__name__, "_walk is not defined", fix="use SimpleRNN, LSTM or GRU")

    def _step(self, a: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state after a time, from what the features gave and h, which may have gaps."""
        raise ArgumentError(type(self).__name__, "_step is not defined", fix="use SimpleRNN, LSTM or GRU")

    def _stepped(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same as `_walk`, step by step."""
        a, kept = self._into(x), None
        if self.training and self.recurrent_dropout:
            kept = F.dropout(ones(*state[0].shape, dtype=x.dtype), self.recurrent_dropout, True)
        found = []
        for t in range(x.shape[0]):
            state = self._step(a[t], state[0] if kept is None else state[0] * kept, state)
            found.append(state[0])
        return stack(found, 0), state

    def _into(self, x: Tensor) -> Tensor:
        y = x @ self.kernel
        return y if self.bias is None else y + self.bias

    def _gates(self, a: Tensor) -> list[Tensor]:
        return [a[..., i * self.units : (i + 1) * self.units] for i in range(self.gates)]


class SimpleRNN(_Recurrent):
    """h' = tanh(x kernel + h recurrent_kernel + bias)."""

    gates = 1

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(
            units,
            activation,
            "sigmoid",
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            kernel_regularizer,
            recurrent_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            recurrent_constraint,
            bias_constraint,
            dropout,
            recurrent_dropout,
            return_sequences,
            return_state,
            go_backwards,
            input_shape,
            name,
            trainable,
        )

    def _walk(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        y = walk_rnn(self._into(x), state[0], self.recurrent_kernel.T)
        return y, (y[y.shape[0] - 1],)

    def _step(self, a: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self._cell[0](a + h @ self.recurrent_kernel),)


class LSTM(_Recurrent):
    """Long short-term memory; gates in the order i, f, c, o.

    unit_forget_bias: the forget gate's bias starts at 1 (Jozefowicz et al. 2015).
    """

    gates = 4
    states = 2

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(
            units,
            activation,
            recurrent_activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            kernel_regularizer,
            recurrent_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            recurrent_constraint,
            bias_constraint,
            dropout,
            recurrent_dropout,
            return_sequences,
            return_state,
            go_backwards,
            input_shape,
            name,
            trainable,
        )
        self.unit_forget_bias = bool(unit_forget_bias)

    def build(self, shape: Shape) -> Any:
        """Make kernels and bias."""
        result = super().build(shape)
        if self.bias is not None and self.unit_forget_bias:
            start, u = self.bias.detach(), self.units
            self.bias.assign(cat([start[:u], ones(u), start[2 * u :]], 0))
        return result

    def _walk(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        y, h, c = walk_lstm(self._into(x), state[0], state[1], self.recurrent_kernel.T)
        return y, (h, c)

    def _step(self, a: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        value, gate = self._cell
        i, f, new, o = self._gates(a + h @ self.recurrent_kernel)
        c = gate(f) * state[1] + gate(i) * value(new)
        return gate(o) * value(c), c


class GRU(_Recurrent):
    """Gated recurrent unit, with reset_after; gates in the order z, r, h; bias (2, 3 units)."""

    gates = 3

    def _bias_shape(self) -> Shape:
        return (2, 3 * self.units)

    def _into(self, x: Tensor) -> Tensor:
        y = x @ self.kernel
        return y if self.bias is None else y + self.bias[0]

    def _walk(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        w = self._swapped(self.recurrent_kernel)
        b = None if self.bias is None else self._swapped(self.bias[1])
        y = walk_gru(self._swapped(self._into(x)), state[0], w.T, b)
        return y, (y[y.shape[0] - 1],)

    def _swapped(self, x: Tensor) -> Tensor:
        """Gates z, r, h in the order r, z, h of `minigrad.nn`."""
        u = self.units
        return cat([x[..., u : 2 * u], x[..., :u], x[..., 2 * u :]], -1)

    def _step(self, a: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        value, gate = self._cell
        inner = h @ self.recurrent_kernel
        inner = inner if self.bias is None else inner + self.bias[1]
        (z, r, new), (z_h, r_h, new_h) = self._gates(a), self._gates(inner)
        z = gate(z + z_h)
        return (z * state[0] + (1.0 - z) * value(new + gate(r + r_h) * new_h),)


# -- layers of layers -----------------------------------------------------------------------------------


class _Around(Layer):
    """A layer that has another one inside, as `layer`."""

    def __init__(self, layer: Layer, input_shape: Any = None, name: str | None = None) -> None:
        label = type(self).__name__
        if not isinstance(layer, Layer):
            raise ArgumentError(label, f"{layer!r} is no layer", fix="pass one of minigrad.keras.layers")
        super().__init__(name, layer._input_shape if input_shape is None else input_shape)
        self.layer = layer


class TimeDistributed(_Around):
    """The same layer at each time: (n, time, ...) to (n, time, ...)."""

    def build(self, shape: Shape) -> Shape:
        """Build the layer inside, for what there is at one time."""
        self.built = True
        return (shape[0], *self.layer._made(shape[1:]))

    def pre(self, x: Tensor) -> Tensor:
        """Times as further examples."""
        n, time = x.shape[:2]
        y: Tensor = Module.__call__(self.layer, x.reshape(n * time, *x.shape[2:]))
        return y.reshape(n, time, *y.shape[1:])


class Bidirectional(_Around):
    """A recurrent layer that reads forwards, and a copy of it that reads backwards, put together.

    merge_mode: "concat", "sum", "mul", "ave", or None for a list of both.
    """

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        backward_layer: Layer | None = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(layer, input_shape, name)
        if not isinstance(layer, _Recurrent):
            raise ArgumentError(
                "Bidirectional", f"{layer!r} is not recurrent", fix="pass an LSTM, GRU, SimpleRNN"
            )
        if layer.return_state:
            raise ArgumentError("Bidirectional", "return_state", fix="use two layers, one with go_backwards")
        if merge_mode not in ("concat", "sum", "mul", "ave", None):
            raise ArgumentError(
                "Bidirectional",
                f"merge_mode is {merge_mode!r}",
                fix="use 'concat', 'sum', 'mul', 'ave' or None",
            )
        self.merge_mode = merge_mode
        if backward_layer is None:
            backward_layer = type(layer)(
                **{**layer.__dict__["_given"], "go_backwards": not layer.go_backwards, "name": None}
            )
        if not isinstance(backward_layer, _Recurrent) or backward_layer.go_backwards == layer.go_backwards:
            raise ArgumentError(
                "Bidirectional", "the backward_layer reads the same way", fix="give it go_backwards=True"
            )
        self.backward_layer = backward_layer

    def build(self, shape: Shape) -> Any:
        """Build both."""
        result = self.layer._made(shape)
        self.backward_layer._made(shape)
        self.built = True
        if self.merge_mode is None:
            return [result, result]
        return (*result[:-1], 2 * result[-1]) if self.merge_mode == "concat" else result

    def pre(self, x: Tensor) -> Any:
        """Read twice."""
        one, other = Module.__call__(self.layer, x), Module.__call__(self.backward_layer, x)
        if self.backward_layer.return_sequences:
            other = flip(other, 1)
        if self.merge_mode is None:
            return [one, other]
        if self.merge_mode == "concat":
            return cat([one, other], -1)
        return (
            one * other
            if self.merge_mode == "mul"
            else (one + other) * (0.5 if self.merge_mode == "ave" else 1.0)
        )


# -- more convolution -------------------------------------------------------------------------------------


class DepthwiseConv2D(Layer):
    """Each channel with kernels of its own; kernel (kh, kw, channels, depth_multiplier)."""

    kernel: Parameter
    bias: Parameter | None

    def __init__(
        self,
        kernel_size: Pair,
        strides: Pair = (1, 1),
        padding: str = "valid",
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        label = type(self).__name__
        self.kernel_size = _two(label, "kernel_size", kernel_size)
        self.strides = _two(label, "strides", strides)
        self.padding = _padding(label, padding)
        (self.depth_multiplier,) = sizes(label, "depth_multiplier", depth_multiplier)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._kernel_initializer = initializers.get(depthwise_initializer)
        self._bias_initializer = initializers.get(bias_initializer)
        self._rule_for("kernel", depthwise_regularizer, None)
        self._rule_for("bias", bias_regularizer, None)

    def build(self, shape: Shape) -> Shape:
        """Make kernel and bias."""
        label = type(self).__name__
        size = _windows(label, _image(label, shape), self.kernel_size, self.strides, self.padding)
        channels = shape[-1]
        self.kernel = self._weight(
            self._kernel_initializer, (*self.kernel_size, channels, self.depth_multiplier)
        )
        wide = channels * self.depth_multiplier
        self.bias = self._weight(self._bias_initializer, (wide,)) if self.use_bias else None
        self.built = True
        return (*size, wide)

    def pre(self, x: Tensor) -> Tensor:
        """Convolve, channels first inside, as many groups as channels."""
        images = _padded(x.permute(0, 3, 1, 2), self.kernel_size, self.strides, self.padding)
        return self._deep(images, self.bias).permute(0, 2, 3, 1)

    def _deep(self, images: Tensor, bias: Tensor | None) -> Tensor:
        kh, kw, channels, depth = self.kernel.shape
        w = self.kernel.permute(2, 3, 0, 1).reshape(channels * depth, 1, kh, kw)
        return F.conv2d(images, w, bias, self.strides, 0, 1, channels)


class SeparableConv2D(DepthwiseConv2D):
    """`DepthwiseConv2D`, then a product over channels; pointwise_kernel (1, 1, channels depth, filters)."""

    pointwise_kernel: Parameter

    def __init__(
        self,
        filters: int,
        kernel_size: Pair,
        strides: Pair = (1, 1),
        padding: str = "valid",
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(
            kernel_size,
            strides,
            padding,
            depth_multiplier,
            activation,
            use_bias,
            depthwise_initializer,
            bias_initializer,
            depthwise_regularizer,
            bias_regularizer,
            input_shape,
            name,
            trainable,
        )
        (self.filters,) = sizes("SeparableConv2D", "filters", filters)
        self._pointwise_initializer = initializers.get(pointwise_initializer)
        self._rule_for("pointwise_kernel", pointwise_regularizer, None)

    def build(self, shape: Shape) -> Shape:
        """Make kernels and bias."""
        size = super().build(shape)
        self.pointwise_kernel = self._weight(self._pointwise_initializer, (1, 1, size[-1], self.filters))
        del self.bias
        self.bias = self._weight(self._bias_initializer, (self.filters,)) if self.use_bias else None
        return (*size[:-1], self.filters)

    def pre(self, x: Tensor) -> Tensor:
        """Convolve, then mix channels."""
        images = _padded(x.permute(0, 3, 1, 2), self.kernel_size, self.strides, self.padding)
        y = self._deep(images, None).permute(0, 2, 3, 1) @ self.pointwise_kernel[0, 0]
        return y if self.bias is None else y + self.bias


class Conv2DTranspose(Layer):
    """activation(the transpose of `Conv2D` + bias): larger images; kernel (kh, kw, filters, channels)."""

    kernel: Parameter
    bias: Parameter | None

    def __init__(
        self,
        filters: int,
        kernel_size: Pair,
        strides: Pair = (1, 1),
        padding: str = "valid",
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        (self.filters,) = sizes("Conv2DTranspose", "filters", filters)
        self.kernel_size = _two("Conv2DTranspose", "kernel_size", kernel_size)
        self.strides = _two("Conv2DTranspose", "strides", strides)
        self.padding = _padding("Conv2DTranspose", padding)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._kernel_initializer = initializers.get(kernel_initializer)
        self._bias_initializer = initializers.get(bias_initializer)
        self._rule_for("kernel", kernel_regularizer, None)
        self._rule_for("bias", bias_regularizer, None)

    def build(self, shape: Shape) -> Shape:
        """Make kernel and bias."""
        height, width, channels = _image("Conv2DTranspose", shape)
        self._size = tuple(
            n * s if self.padding == "same" else n * s + max(k - s, 0)
            for n, k, s in zip((height, width), self.kernel_size, self.strides, strict=True)
        )
        self.kernel = self._weight(self._kernel_initializer, (*self.kernel_size, self.filters, channels))
        self.bias = self._weight(self._bias_initializer, (self.filters,)) if self.use_bias else None
        self.built = True
        return (*self._size, self.filters)

    def pre(self, x: Tensor) -> Tensor:
        """All that is painted, cut or filled up to the size that "same" or "valid" asks for."""
        images = x.permute(0, 3, 1, 2)
        y = F.conv_transpose2d(images, self.kernel.permute(3, 2, 0, 1), None, self.strides)
        for dim, k, s in zip((2, 3), self.kernel_size, self.strides, strict=True):
            wanted = (
                images.shape[dim] * s if self.padding == "same" else images.shape[dim] * s + max(k - s, 0)
            )
            before = max(k - s, 0) // 2 if self.padding == "same" else 0
            cut = (-before, wanted - y.shape[dim] + before)
            y = F.pad(y, (0, 0, *cut) if dim == 2 else cut)
        y = y.permute(0, 2, 3, 1)
        return y if self.bias is None else y + self.bias


class Cropping2D(Layer):
    """Images without their edges: n, (rows, columns) or ((top, bottom), (left, right))."""

    def __init__(self, cropping: Any = (0, 0), input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        pair = (cropping, cropping) if isinstance(cropping, int) else tuple(cropping)
        self.cropping = tuple((p, p) if isinstance(p, int) else tuple(p) for p in pair)
        if len(self.cropping) != 2 or any(len(p) != 2 or min(p) < 0 for p in self.cropping):
            raise ArgumentError(
                "Cropping2D",
                f"cropping is {cropping!r}",
                fix="pass n, (n, m) or ((top, bottom), (left, right))",
            )

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        height, width, channels = _image("Cropping2D", shape)
        left = height - sum(self.cropping[0]), width - sum(self.cropping[1])
        if min(left) < 1:
            raise ShapeError("Cropping2D", f"nothing is left of images {shape}", fix="cut less")
        self.built = True
        return (*left, channels)

    def pre(self, x: Tensor) -> Tensor:
        """Cut."""
        (top, bottom), (left, right) = self.cropping
        return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


class UpSampling1D(Layer):
    """Each time `size` times: (n, time, channels) to (n, size time, channels)."""

    def __init__(self, size: int = 2, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        (self.size,) = sizes("UpSampling1D", "size", size)

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        if len(shape) != 2:
            raise ShapeError("UpSampling1D", f"examples of shape {shape}", fix="pass (time, channels)")
        self.built = True
        return (shape[0] * self.size, shape[1])

    def pre(self, x: Tensor) -> Tensor:
        """Repeat."""
        n, time, channels = x.shape
        return x.unsqueeze(2).expand(n, time, self.size, channels).reshape(n, time * self.size, channels)


class ZeroPadding1D(Layer):
    """Zeros before and after a sequence: n or (before, after)."""

    def __init__(self, padding: Any = 1, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.padding = (padding, padding) if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 2 or min(self.padding) < 0:
            raise ArgumentError("ZeroPadding1D", f"padding is {padding!r}", fix="pass n or (before, after)")

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        if len(shape) != 2:
            raise ShapeError("ZeroPadding1D", f"examples of shape {shape}", fix="pass (time, channels)")
        self.built = True
        return (shape[0] + sum(self.padding), shape[1])

    def pre(self, x: Tensor) -> Tensor:
        """Pad."""
        return pad_dim(x, 1, *self.padding)


class SpatialDropout1D(Dropout):
    """`Dropout` of whole channels of sequences (n, time, channels)."""

    def pre(self, x: Tensor) -> Tensor:
        """Drop."""
        if not self.training or not self.rate:
            return x
        return x * F.dropout(ones(x.shape[0], 1, x.shape[2], dtype=x.dtype), self.rate, True)


class ActivityRegularization(Layer):
    """What goes through it adds l1 sum |x| + l2 sum x^2, divided by the batch size, to the loss."""

    def __init__(
        self, l1: float = 0.0, l2: float = 0.0, input_shape: Any = None, name: str | None = None
    ) -> None:
        super().__init__(name, input_shape)
        self._activity = regularizers.L1L2(l1, l2)


class Normalization(Layer):
    """(x - mean) / sqrt(variance), per feature (`axis`), of data that `adapt` has seen, or as given."""

    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        axis: int | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, input_shape)
        if axis not in (-1, None):
            raise ArgumentError("Normalization", f"axis is {axis!r}", fix="use -1 (the last) or None (all)")
        if (mean is None) != (variance is None):
            raise ArgumentError("Normalization", "only one of mean and variance", fix="pass both, or adapt")
        self.axis, self.invert = axis, bool(invert)
        self._known = None if mean is None else (np.asarray(mean, "f4"), np.asarray(variance, "f4"))

    def adapt(self, data: Any) -> None:
        """Take mean and variance from an array."""
        array = np.asarray(as_float("adapt", "data", array_of(data)), np.float64)
        dims = tuple(range(array.ndim - (self.axis is not None)))
        self._known = array.mean(dims).astype("f4"), array.var(dims).astype("f4")
        if not self.built:
            self.build(array.shape[1:])
        for own, found in zip((self.mean, self.variance), self._known, strict=True):
            own.assign(found)

    def build(self, shape: Shape) -> Shape:
        """Make mean and variance."""
        own = () if self.axis is None else (shape[-1],)
        known = self._known or (np.zeros(own, "f4"), np.ones(own, "f4"))
        for name, value in zip(("mean", "variance"), known, strict=True):
            self.register_buffer(name, wrap(np.array(np.broadcast_to(value, own))))
        self.built = True
        return shape

    def pre(self, x: Tensor) -> Tensor:
        """Normalise; invert: undo it."""
        deviation = clamp(sqrt(self.variance), EPSILON)
        return self.mean + x * deviation if self.invert else (x - self.mean) / deviation


class MultiHeadAttention(Layer):
    """Each place of `query` looks at those of `value`: softmax(q k^T / sqrt(key_dim)) v, in several heads.

    layer(query, value, key=None, attention_mask=None, use_causal_mask=False): (n, T, features) and (n, S,
    features) to (n, T, features of query); attention_mask (n, T, S): True where a query may look.  Kernels
    are (features, heads, size) as Keras's.
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, None, trainable)
        (self.num_heads,) = sizes("MultiHeadAttention", "num_heads", num_heads)
        (self.key_dim,) = sizes("MultiHeadAttention", "key_dim", key_dim)
        (self.value_dim,) = sizes("MultiHeadAttention", "value_dim", value_dim or key_dim)
        self.dropout, self.use_bias = float(dropout), bool(use_bias)
        self._kernel_initializer = initializers.get(kernel_initializer)
        self._bias_initializer = initializers.get(bias_initializer)

    def build(self, query: Shape, value: Shape | None = None, key: Shape | None = None) -> Shape:
        """Make kernels and biases, in the order query, key, value, output."""
        value = query if value is None else value
        key = value if key is None else key
        heads = self.num_heads
        for part, features, size in (
            ("query", query[-1], self.key_dim),
            ("key", key[-1], self.key_dim),
            ("value", value[-1], self.value_dim),
        ):
            setattr(self, f"{part}_kernel", self._weight(self._kernel_initializer, (features, heads, size)))
            bias = self._weight(self._bias_initializer, (heads, size)) if self.use_bias else None
            setattr(self, f"{part}_bias", bias)
        self.output_kernel = self._weight(self._kernel_initializer, (heads, self.value_dim, query[-1]))
        self.output_bias = self._weight(self._bias_initializer, (query[-1],)) if self.use_bias else None
        self.built = True
        return query

    def _split(self, x: Tensor, part: str) -> Tensor:
        """(n, time, features) to (n, heads, time, size)"""
        kernel, bias = getattr(self, f"{part}_kernel"), getattr(self, f"{part}_bias")
        y = x @ kernel.reshape(kernel.shape[0], -1)
        y = y if bias is None else y + bias.reshape(-1)
        heads: Tensor = y.reshape(*x.shape[:2], self.num_heads, kernel.shape[2])
        return heads.permute(0, 2, 1, 3)

    def pre(
        self,
        query: Tensor,
        value: Tensor | None = None,
        key: Tensor | None = None,
        attention_mask: Any = None,
        use_causal_mask: bool = False,
    ) -> Tensor:
        """Look."""
        value = query if value is None else value
        key = value if key is None else key
        mask = None
        if attention_mask is not None:
            seen = attention_mask if isinstance(attention_mask, Tensor) else wrap(np.asarray(attention_mask))
            mask = (seen if str(seen.dtype) == "bool" else seen != 0.0).unsqueeze(-3)
        if use_causal_mask:
            t, s = query.shape[1], value.shape[1]
            earlier = wrap(np.tril(np.ones((t, s), bool)))
            mask = earlier if mask is None else mask & earlier
        q, k, v = self._split(query, "query"), self._split(key, "key"), self._split(value, "value")
        y = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        y = y.permute(0, 2, 1, 3).reshape(*query.shape[:2], -1)
        y = y @ self.output_kernel.reshape(-1, self.output_kernel.shape[2])
        result: Tensor = y if self.output_bias is None else y + self.output_bias
        return result


class Identity(Layer):
    """What goes in."""


# Keras's other names

MaxPool1D, MaxPool2D = MaxPooling1D, MaxPooling2D
AvgPool1D, AvgPool2D = AveragePooling1D, AveragePooling2D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalMaxPool1D, GlobalMaxPool2D = GlobalMaxPooling1D, GlobalMaxPooling2D
Convolution1D, Convolution2D = Conv1D, Conv2D


__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "Activation",
    "ActivityRegularization",
    "Add",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNormalization",
    "Bidirectional",
    "Concatenate",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Convolution1D",
    "Convolution2D",
    "Cropping2D",
    "Dense",
    "DepthwiseConv2D",
    "Dot",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "Identity",
    "Input",
    "InputLayer",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPooling1D",
    "MaxPooling2D",
    "Maximum",
    "Minimum",
    "MultiHeadAttention",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "SeparableConv2D",
    "SimpleRNN",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "Subtract",
    "TimeDistributed",
    "UpSampling1D",
    "UpSampling2D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "add",
    "average",
    "concatenate",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]
