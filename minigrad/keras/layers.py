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
from ..nn.recurrent import walk_gru, walk_lstm, walk_rnn
from ..ops.creation import ones, randn, zeros
from ..ops.elementwise import rsqrt, square
from ..ops.movement import cat, flip, pad_dim
from ..ops.nn import standardize
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
    those.  As in Keras, the running variance is not corrected for the batch size.  synchronized: the
    batch is that of all workers of `fit(..., workers=n)`, not this one's part of it.
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
        synchronized: bool = False,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        self.momentum = momentum
        self.epsilon = epsilon
        self.synchronized = bool(synchronized)

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
            group = self._workers()
            if group is None:
                mean = x.mean(dims)
                centred = x - mean
                variance = square(centred).mean(dims)
            else:
                from ..distributed.parallel import sync_moments

                mean, variance, _ = sync_moments(x, dims, group)
                centred = x - mean
            for running, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                running.assign(running * self.momentum + now.detach() * (1.0 - self.momentum))
        else:
            centred, variance = x - self.moving_mean, self.moving_variance
        return centred * (rsqrt(variance + self.epsilon) * self.gamma) + self.beta

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
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        (self.input_dim,) = sizes("Embedding", "input_dim", (input_dim,))
        (self.output_dim,) = sizes("Embedding", "output_dim", (output_dim,))
        self._initializer = initializers.get(embeddings_initializer)

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
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        (self.filters,) = sizes("Conv1D", "filters", (filters,))
        (self.kernel_size,) = sizes("Conv1D", "kernel_size", kernel_size)
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
        self.kernel = self._weight(self._kernel_initializer, (self.kernel_size, shape[1], self.filters))
        self.bias = self._weight(self._bias_initializer, (self.filters,)) if self.use_bias else None
        self.built = True
        return ((length - 1) // self.strides + 1, self.filters)

    def pre(self, x: Tensor) -> Tensor:
        """Convolve, channels first inside."""
        y = pad_dim(x.permute(0, 2, 1), 2, *self._around(x.shape[1]))
        w = self.kernel.permute(2, 1, 0)
        return F.conv1d(y, w, self.bias, self.strides, 0, self.dilation_rate).permute(0, 2, 1)


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
    end.  The activations are Keras's defaults, tanh and sigmoid; others are not options here.
    """

    gates: int
    kernel: Parameter
    recurrent_kernel: Parameter
    bias: Parameter | None

    def __init__(
        self,
        units: int,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        return_sequences: bool = False,
        go_backwards: bool = False,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, input_shape, trainable)
        (self.units,) = sizes(type(self).__name__, "units", (units,))
        self.use_bias = bool(use_bias)
        self.return_sequences = bool(return_sequences)
        self.go_backwards = bool(go_backwards)
        self._kernel_initializer = initializers.get(kernel_initializer)
        self._recurrent_initializer = initializers.get(recurrent_initializer)
        self._bias_initializer = initializers.get(bias_initializer)

    def _bias_shape(self) -> Shape:
        return (self.gates * self.units,)

    def build(self, shape: Shape) -> Shape:
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
        return (shape[0], self.units) if self.return_sequences else (self.units,)

    def pre(self, x: Tensor) -> Tensor:
        """Walk through time, which comes first inside."""
        steps = x.permute(1, 0, 2)
        if self.go_backwards:
            steps = flip(steps, 0)
        h = zeros(x.shape[0], self.units, dtype=x.dtype)
        y = self._walk(steps, h)
        return y.permute(1, 0, 2) if self.return_sequences else y[y.shape[0] - 1]

    def _walk(self, x: Tensor, h: Tensor) -> Tensor:
        """(time, n, features) to (time, n, units)"""
        raise ArgumentError(type(self).__name__, "_walk is not defined", fix="use SimpleRNN, LSTM or GRU")

    def _into(self, x: Tensor) -> Tensor:
        y = x @ self.kernel
        return y if self.bias is None else y + self.bias


class SimpleRNN(_Recurrent):
    """h' = tanh(x kernel + h recurrent_kernel + bias)."""

    gates = 1

    def _walk(self, x: Tensor, h: Tensor) -> Tensor:
        return walk_rnn(self._into(x), h, self.recurrent_kernel.T)


class LSTM(_Recurrent):
    """Long short-term memory; gates in the order i, f, c, o.

    unit_forget_bias: the forget gate's bias starts at 1 (Jozefowicz et al. 2015).
    """

    gates = 4

    def __init__(
        self,
        units: int,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        return_sequences: bool = False,
        go_backwards: bool = False,
        input_shape: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(
            units,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            return_sequences,
            go_backwards,
            input_shape,
            name,
            trainable,
        )
        self.unit_forget_bias = bool(unit_forget_bias)

    def build(self, shape: Shape) -> Shape:
        """Make kernels and bias."""
        result = super().build(shape)
        if self.bias is not None and self.unit_forget_bias:
            start, u = self.bias.detach(), self.units
            self.bias.assign(cat([start[:u], ones(u), start[2 * u :]], 0))
        return result

    def _walk(self, x: Tensor, h: Tensor) -> Tensor:
        return walk_lstm(self._into(x), h, h, self.recurrent_kernel.T)[0]


class GRU(_Recurrent):
    """Gated recurrent unit, with reset_after; gates in the order z, r, h; bias (2, 3 units)."""

    gates = 3

    def _bias_shape(self) -> Shape:
        return (2, 3 * self.units)

    def _walk(self, x: Tensor, h: Tensor) -> Tensor:
        a = x @ self.kernel
        if self.bias is not None:
            a = a + self.bias[0]
        w = self._swapped(self.recurrent_kernel)
        b = None if self.bias is None else self._swapped(self.bias[1])
        return walk_gru(self._swapped(a), h, w.T, b)

    def _swapped(self, x: Tensor) -> Tensor:
        """Gates z, r, h in the order r, z, h of `minigrad.nn`."""
        u = self.units
        return cat([x[..., u : 2 * u], x[..., :u], x[..., 2 * u :]], -1)


__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv1D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPooling2D",
    "PReLU",
    "Permute",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "SimpleRNN",
    "Softmax",
    "SpatialDropout2D",
    "UpSampling2D",
    "ZeroPadding2D",
]
