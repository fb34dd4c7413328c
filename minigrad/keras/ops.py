"""Functions of tensors by Keras's names, `keras.ops`, for layers and losses of one's own.

Each takes tensors, arrays and numbers; of a `KerasTensor` it makes another, so that it can stand in a graph.

    >>> mean([[1.0, 3.0], [5.0, 7.0]], axis=1)
    tensor([2., 6.])
    >>> from minigrad.keras import Input
    >>> concatenate([Input((2,)), Input((3,))], axis=-1).shape
    (None, 5)

Left out: what is not needed for models, and whatever `minigrad` has by the same name and is not listed here.
"""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..nn import functional as F
from ..ops import creation, elementwise, movement
from ..ops import nn as nn_ops
from ..tensor import Tensor, as_array, wrap
from .base import Layer
from .losses import array_of
from .symbolic import is_symbolic

Function = TypeVar("Function", bound=Callable[..., Any])
Axis = int | tuple[int, ...] | None


class Operation(Layer):
    """A function of this module as a layer: what calling it on a `KerasTensor` becomes."""

    def __init__(self, function: str, name: str | None = None) -> None:
        super().__init__(name)
        self.function = function
        self.built = True

    def pre(self, *args: Any, **kwargs: Any) -> Any:
        """Apply it."""
        return getattr(sys.modules[__name__], self.function)(*args, **kwargs)


def _operation(function: Function) -> Function:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_symbolic(args) or is_symbolic(kwargs.values()):
            return Operation(function.__name__)._recorded(args, kwargs)
        return function(*args, **kwargs)

    return typing.cast(Function, call)


def convert_to_tensor(x: Any, dtype: Any = None) -> Tensor:
    """A tensor; float32 from Python's floats and from float64 arrays, as in models."""
    if isinstance(x, Tensor):
        return x if dtype is None else x.to(dtype)
    array = np.asarray(x)
    return wrap(as_array(x, "float32" if dtype is None and array.dtype == np.float64 else dtype))


_t = convert_to_tensor


def convert_to_numpy(x: Any) -> Any:
    """An array."""
    return array_of(x)


def stop_gradient(x: Any) -> Tensor:
    """x, through which no gradient goes."""
    return _t(x).detach()


def shape(x: Any) -> tuple[int | None, ...]:
    """The shape; None where it is not known."""
    found: tuple[int | None, ...] = tuple(x.shape)
    return found


# -- one by one ---------------------------------------------------------------------------------------------


@_operation
def abs(x: Any) -> Tensor:
    """|x|"""
    return _t(x).abs()


@_operation
def absolute(x: Any) -> Tensor:
    """|x|"""
    return _t(x).abs()


@_operation
def exp(x: Any) -> Tensor:
    """exp(x)"""
    return elementwise.exp(_t(x))


@_operation
def log(x: Any) -> Tensor:
    """log(x)"""
    return elementwise.log(_t(x))


@_operation
def log1p(x: Any) -> Tensor:
    """log(1 + x)"""
    return elementwise.log1p(_t(x))


@_operation
def sqrt(x: Any) -> Tensor:
    """The square root"""
    return elementwise.sqrt(_t(x))


@_operation
def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x)"""
    return elementwise.rsqrt(_t(x))


@_operation
def square(x: Any) -> Tensor:
    """x^2"""
    return elementwise.square(_t(x))


@_operation
def sign(x: Any) -> Tensor:
    """-1, 0 or 1"""
    return elementwise.sign(_t(x))


@_operation
def sin(x: Any) -> Tensor:
    """The sine"""
    return elementwise.sin(_t(x))


@_operation
def cos(x: Any) -> Tensor:
    """The cosine"""
    return elementwise.cos(_t(x))


@_operation
def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent"""
    return _t(x).tanh()


@_operation
def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x))"""
    return _t(x).sigmoid()


@_operation
def relu(x: Any) -> Tensor:
    """max(x, 0)"""
    return F.relu(_t(x))


@_operation
def softplus(x: Any) -> Tensor:
    """log(1 + exp(x))"""
    return F.softplus(_t(x))


@_operation
def silu(x: Any) -> Tensor:
    """x sigmoid(x)"""
    return F.silu(_t(x))


@_operation
def negative(x: Any) -> Tensor:
    """-x"""
    return -_t(x)


@_operation
def isnan(x: Any) -> Tensor:
    """Where x is NaN"""
    return elementwise.isnan(_t(x))


@_operation
def logical_not(x: Any) -> Tensor:
    """Where x is not true"""
    return elementwise.logical_not(_t(x))


@_operation
def zeros_like(x: Any) -> Tensor:
    """Zeros of the same shape"""
    return creation.zeros_like(_t(x))


@_operation
def ones_like(x: Any) -> Tensor:
    """Ones of the same shape"""
    return creation.ones_like(_t(x))


@_operation
def cast(x: Any, dtype: Any) -> Tensor:
    """x with another dtype"""
    return _t(x).to(dtype)


@_operation
def clip(x: Any, x_min: Any, x_max: Any) -> Tensor:
    """x, cut off"""
    return elementwise.clamp(_t(x), x_min, x_max)


@_operation
def add(x1: Any, x2: Any) -> Tensor:
    """x1 + x2"""
    result: Tensor = _t(x1) + _t(x2)
    return result


@_operation
def subtract(x1: Any, x2: Any) -> Tensor:
    """x1 - x2"""
    result: Tensor = _t(x1) - _t(x2)
    return result


@_operation
def multiply(x1: Any, x2: Any) -> Tensor:
    """x1 x2"""
    result: Tensor = _t(x1) * _t(x2)
    return result


@_operation
def divide(x1: Any, x2: Any) -> Tensor:
    """x1 / x2"""
    result: Tensor = _t(x1) / _t(x2)
    return result


@_operation
def power(x1: Any, x2: Any) -> Tensor:
    """x1^x2"""
    result: Tensor = _t(x1) ** x2
    return result


@_operation
def matmul(x1: Any, x2: Any) -> Tensor:
    """The product of matrices"""
    result: Tensor = _t(x1) @ _t(x2)
    return result


@_operation
def maximum(x1: Any, x2: Any) -> Tensor:
    """The larger"""
    result: Tensor = elementwise.maximum(_t(x1), _t(x2))
    return result


@_operation
def minimum(x1: Any, x2: Any) -> Tensor:
    """The smaller"""
    result: Tensor = elementwise.minimum(_t(x1), _t(x2))
    return result


@_operation
def equal(x1: Any, x2: Any) -> Tensor:
    """Where they are equal"""
    result: Tensor = _t(x1) == _t(x2)
    return result


@_operation
def not_equal(x1: Any, x2: Any) -> Tensor:
    """Where they are not equal"""
    result: Tensor = _t(x1) != _t(x2)
    return result


@_operation
def greater(x1: Any, x2: Any) -> Tensor:
    """Where x1 > x2"""
    result: Tensor = _t(x1) > _t(x2)
    return result


@_operation
def greater_equal(x1: Any, x2: Any) -> Tensor:
    """Where x1 >= x2"""
    result: Tensor = _t(x1) >= _t(x2)
    return result


@_operation
def less(x1: Any, x2: Any) -> Tensor:
    """Where x1 < x2"""
    result: Tensor = _t(x1) < _t(x2)
    return result


@_operation
def less_equal(x1: Any, x2: Any) -> Tensor:
    """Where x1 <= x2"""
    result: Tensor = _t(x1) <= _t(x2)
    return result


@_operation
def where(condition: Any, x1: Any, x2: Any) -> Tensor:
    """x1 where the condition holds, x2 elsewhere"""
    return elementwise.where(_t(condition), _t(x1), _t(x2))


# -- over axes ----------------------------------------------------------------------------------------------


@_operation
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum"""
    result: Tensor = _t(x).sum(axis, keepdims)
    return result


@_operation
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean"""
    result: Tensor = _t(x).mean(axis, keepdims)
    return result


@_operation
def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest"""
    result: Tensor = _t(x).amax(axis if axis is not None else tuple(range(_t(x).ndim)), keepdims)
    return result


@_operation
def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest"""
    result: Tensor = _t(x).amin(axis if axis is not None else tuple(range(_t(x).ndim)), keepdims)
    return result


@_operation
def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product"""
    result: Tensor = _t(x).prod(axis, keepdims) if axis is not None else _t(x).prod()
    return result


@_operation
def var(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The variance, of all (not n - 1)"""
    result: Tensor = _t(x).var(axis, correction=0, keepdim=keepdims)
    return result


@_operation
def std(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The standard deviation, of all (not n - 1)"""
    result: Tensor = _t(x).std(axis, correction=0, keepdim=keepdims)
    return result


@_operation
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))), without overflow"""
    result: Tensor = _t(x).logsumexp(axis if axis is not None else tuple(range(_t(x).ndim)), keepdims)
    return result


@_operation
def argmax(x: Any, axis: int | None = None) -> Tensor:
    """The place of the largest"""
    return _t(x).argmax(axis)


@_operation
def argmin(x: Any, axis: int | None = None) -> Tensor:
    """The place of the smallest"""
    return _t(x).argmin(axis)


@_operation
def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x))"""
    return nn_ops.softmax(_t(x), axis)


@_operation
def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x))"""
    return nn_ops.log_softmax(_t(x), axis)


@_operation
def one_hot(x: Any, num_classes: int) -> Tensor:
    """Indices (...) as rows (..., num_classes) of float32"""
    return F.one_hot(_t(x).long(), num_classes).float()


# -- shapes -------------------------------------------------------------------------------------------------


@_operation
def reshape(x: Any, newshape: Any) -> Tensor:
    """x in another shape, the batch included"""
    return _t(x).reshape(*((newshape,) if isinstance(newshape, int) else newshape))


@_operation
def transpose(x: Any, axes: Any = None) -> Tensor:
    """Axes in another order; by default the other way round"""
    tensor = _t(x)
    return tensor.permute(*(range(tensor.ndim)[::-1] if axes is None else axes))


@_operation
def expand_dims(x: Any, axis: int) -> Tensor:
    """One axis of size 1 more"""
    return _t(x).unsqueeze(axis)


@_operation
def squeeze(x: Any, axis: int | None = None) -> Tensor:
    """Without an axis of size 1, or without all of them"""
    return _t(x).squeeze() if axis is None else _t(x).squeeze(axis)


@_operation
def concatenate(xs: Any, axis: int = 0) -> Tensor:
    """One after the other"""
    return movement.cat([_t(x) for x in xs], axis)


@_operation
def stack(x: Any, axis: int = 0) -> Tensor:
    """Beside each other, along a new axis"""
    return movement.stack([_t(part) for part in x], axis)


def zeros(shape: Any, dtype: Any = None) -> Tensor:
    """Zeros"""
    return creation.zeros(*((shape,) if isinstance(shape, int) else shape), dtype=dtype)


def ones(shape: Any, dtype: Any = None) -> Tensor:
    """Ones"""
    return creation.ones(*((shape,) if isinstance(shape, int) else shape), dtype=dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """Numbers from start to below stop"""
    first, last = (0, start) if stop is None else (start, stop)
    return creation.arange(first, last, step, dtype=dtype)
