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

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..ir import Shape
from ..nn import functional as F
from ..nn.module import Module, Parameter
from ..ops.creation import ones, zeros
from ..ops.elementwise import rsqrt, square
from ..ops.movement import pad_dim
from ..tensor import Tensor
from . import activations, initializers
from .options import Checked

Pair = int | tuple[int, int]


class Layer(Module, Checked):
    """Base of layers: subclasses define `build` (shapes and weights) and `pre` (the computation)."""

    _input_shape: Shape | None = None
    built: bool = False
    name: str | None
    activation: Callable[[Tensor], Tensor]

    def __init__(self, name: str | None = None, input_shape: Any = None, trainable: bool = True) -> None:
        super().__init__()
        if name is not None and (not isinstance(name, str) or not name or "." in name):
            raise ArgumentError(type(self).__name__, f"the name is {name!r}", fix="use a string without dots")
        self.name = name
        self.activation = activations.linear
        self._trainable = bool(trainable)
        if input_shape is not None:
            self._input_shape = sizes(type(self).__name__, "input_shape", input_shape)

    def build(self, shape: Shape) -> Shape:
        """Make the weights for examples of this shape; returns the shape of the results."""
        self.built = True
        return shape

    def pre(self, x: Tensor) -> Tensor:
        """The layer without its activation."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The layer: its activation of `pre`."""
        return self.activation(self.pre(x))

    def _weight(self, initializer: initializers.Initializer, shape: Shape) -> Parameter:
        return Parameter(initializer(shape), requires_grad=self._trainable)

    @property
    def trainable(self) -> bool:
        """Whether the weights are learned."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for module in self.modules():
            if isinstance(module, Layer):
                object.__setattr__(module, "_trainable", bool(value))
        self.requires_grad_(bool(value))

    @property
    def weights(self) -> list[Tensor]:
        """Parameters, then state that is not learned, of this layer."""
        return [*self.parameters(), *self.buffers()]

    def get_weights(self) -> list[Any]:
        """Copies of the weights as arrays, in Keras's order and shapes."""
        return [w.detach().numpy().copy() for w in self.weights]

    def set_weights(self, weights: Any) -> None:
        """Write arrays into the weights.  Raises ArgumentError, writing nothing, if they do not fit."""
        mine, arrays = self.weights, [w if hasattr(w, "shape") else Tensor(w) for w in weights]
        wanted, given = [w.shape for w in mine], [tuple(w.shape) for w in arrays]
        if wanted != given:
            raise ArgumentError(
                "set_weights",
                f"{len(given)} arrays of shapes {given} where {len(wanted)} of shapes {wanted} are needed",
                fix="build the model it came from" if self.built else "build the layer first",
            )
        for w, array in zip(mine, arrays, strict=True):
            w.assign(array)

    def count_params(self) -> int:
        """The number of weights, learned or not.  Raises ArgumentError before the layer is built."""
        if not self.built:
            raise ArgumentError(
                "count_params",
                f"{self.name or type(self).__name__} is not built yet",
                fix="give an input_shape",
            )
        return sum(w.numel() for w in self.weights)

    def extra_repr(self) -> str:
        """Its name."""
        return self.name or ""


def sizes(layer: str, name: str, value: Any) -> Shape:
    """A tuple of sizes from an integer or a sequence."""
    shape = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(s, bool) or not hasattr(s, "__index__") or s < 1 for s in shape):
        raise ArgumentError(layer, f"{name} is {value!r}", fix="pass sizes of at least 1, without the batch")
    return tuple(int(s) for s in shape)


def _two(layer: str, name: str, value: Any) -> tuple[int, int]:
    pair = sizes(layer, name, (value, value) if isinstance(value, int) else value)
    if len(pair) != 2:
        raise ArgumentError(layer, f"{name} is {value!r}", fix="pass one integer or two")
    return pair[0], pair[1]


class InputLayer(Layer):
    """Says what shape the examples have."""

    def __init__(self, shape: Any, name: str | None = None) -> None:
        super().__init__(name, tuple(shape) if isinstance(shape, list) else shape)


def Input(shape: Any, name: str | None = None) -> InputLayer:
    """The first entry of a `Sequential`: the shape of an example, without the batch."""
    return InputLayer(shape, name)


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
    """max(x, 0)"""

    def __init__(self, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.activation = activations.relu


class Softmax(Layer):
    """exp(x) / sum(exp(x)) over the last dimension"""

    def __init__(self, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name, input_shape)
        self.activation = activations.softmax


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
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        (self.filters,) = sizes("Conv2D", "filters", (filters,))
        self.kernel_size = _two("Conv2D", "kernel_size", kernel_size)
        self.strides = _two("Conv2D", "strides", strides)
        self.padding = _padding("Conv2D", padding)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self._kernel_initializer = initializers.get(kernel_initializer)
        self._bias_initializer = initializers.get(bias_initializer)

    def build(self, shape: Shape) -> Shape:
        """Make kernel and bias."""
        size = _windows("Conv2D", _image("Conv2D", shape), self.kernel_size, self.strides, self.padding)
        self.kernel = self._weight(self._kernel_initializer, (*self.kernel_size, shape[-1], self.filters))
        self.bias = self._weight(self._bias_initializer, (self.filters,)) if self.use_bias else None
        self.built = True
        return (*size, self.filters)

    def pre(self, x: Tensor) -> Tensor:
        """Convolve, channels first inside."""
        images = x.permute(0, 3, 1, 2)
        if self.padding == "same":
            for dim, window, stride in zip((2, 3), self.kernel_size, self.strides, strict=True):
                before, after = _margins(images.shape[dim], window, stride)
                if before or after:
                    images = pad_dim(images, dim, before, after)
        y = F.conv2d(images, self.kernel.permute(3, 2, 0, 1), self.bias, self.strides)
        return y.permute(0, 2, 3, 1)


class MaxPooling2D(Layer):
    """The largest value of each window, channels last; strides are pool_size by default."""

    def __init__(
        self,
        pool_size: Pair = (2, 2),
        strides: Pair | None = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, input_shape)
        self.pool_size = _two(type(self).__name__, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else _two(type(self).__name__, "strides", strides)

    def build(self, shape: Shape) -> Shape:
        """No weights."""
        layer = type(self).__name__
        self.built = True
        return (*_windows(layer, _image(layer, shape), self.pool_size, self.strides, "valid"), shape[-1])

    def pre(self, x: Tensor) -> Tensor:
        """Pool, channels first inside."""
        return self._pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _pool(self, x: Tensor) -> Tensor:
        y: Tensor = F.max_pool2d(x, self.pool_size, self.strides)
        return y


class AveragePooling2D(MaxPooling2D):
    """The mean of each window, channels last; strides are pool_size by default."""

    def __init__(
        self,
        pool_size: Pair = (2, 2),
        strides: Pair | None = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(pool_size, strides, input_shape, name)

    def _pool(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.pool_size, self.strides)


class BatchNormalization(Layer):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, per channel (the last dimension).

    In training with the statistics of the batch, keeping running averages of them; otherwise with
    those.  As in Keras, the running variance is not corrected for the batch size.
    """

    gamma: Parameter
    beta: Parameter
    moving_mean: Tensor
    moving_variance: Tensor

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, shape: Shape) -> Shape:
        """Make gamma, beta and the running averages."""
        n = shape[-1]
        self.gamma = Parameter(ones(n), requires_grad=self._trainable)
        self.beta = Parameter(zeros(n), requires_grad=self._trainable)
        self.register_buffer("moving_mean", zeros(n))
        self.register_buffer("moving_variance", ones(n))
        self.built = True
        return shape

    def pre(self, x: Tensor) -> Tensor:
        """Normalise."""
        if self.training and self._trainable:
            dims = tuple(range(x.ndim - 1))
            mean = x.mean(dims)
            centred = x - mean
            variance = square(centred).mean(dims)
            for running, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                running.assign(running * self.momentum + now.detach() * (1.0 - self.momentum))
        else:
            centred, variance = x - self.moving_mean, self.moving_variance
        return centred * (rsqrt(variance + self.epsilon) * self.gamma) + self.beta


__all__ = [
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "Input",
    "InputLayer",
    "Layer",
    "MaxPooling2D",
    "ReLU",
    "Softmax",
]
