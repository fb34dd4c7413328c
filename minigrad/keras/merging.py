"""Layers of several inputs: sums, products, concatenation; and functions as layers.

    >>> import numpy as np
    >>> a, b = np.ones((2, 3)), np.full((2, 3), 2.0)
    >>> Add()([a, b]).shape, concatenate([a, b]).shape, Average()([a, b])[0, 0].item()
    ((2, 3), (2, 6), 1.5)

`Lambda(f)` makes any function of tensors a layer; it is also what arithmetic on a `KerasTensor` becomes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..ir import Shape, broadcast_shapes
from ..ops import elementwise
from ..ops.movement import cat
from ..tensor import Tensor
from .base import Layer
from .symbolic import KerasTensor


class _Merge(Layer):
    """A layer of a list of inputs."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)

    def _several(self, shapes: Any) -> list[Shape]:
        if not isinstance(shapes, list) or len(shapes) < 2:
            raise ShapeError(
                type(self).__name__, "there is one input", fix=f"pass a list: {type(self).__name__}()([a, b])"
            )
        return shapes

    def build(self, shapes: Any) -> Shape:
        """No weights."""
        given = self._several(shapes)
        result: Shape = given[0]
        for shape in given[1:]:
            longer, shorter = (shape, result) if len(shape) > len(result) else (result, shape)
            try:
                result = tuple(broadcast_shapes((1, *shorter), (1, *longer))[1:])
            except (ValueError, ArgumentError, ShapeError):
                raise ShapeError(
                    type(self).__name__, f"inputs of shapes {given}", fix="make them the same shape"
                ) from None
        self.built = True
        return result

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """Two inputs as one."""
        raise ArgumentError(type(self).__name__, "pair is not defined", fix="use Add, Multiply, ...")

    def pre(self, x: Any) -> Tensor:
        """All inputs as one."""
        if not isinstance(x, (list, tuple)):
            self._several(x)
        result = x[0]
        for other in x[1:]:
            result = self.pair(result, other)
        done: Tensor = result
        return done


class Add(_Merge):
    """The sum."""

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """a + b"""
        return a + b


class Subtract(_Merge):
    """The first less the second."""

    def _several(self, shapes: Any) -> list[Shape]:
        if not isinstance(shapes, (list, tuple)) or len(shapes) != 2:
            raise ShapeError("Subtract", "it needs two inputs", fix="pass a list: Subtract()([a, b])")
        return list(shapes)

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """a - b"""
        return a - b


class Multiply(_Merge):
    """The product, element by element."""

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """a * b"""
        return a * b


class Average(_Merge):
    """The mean."""

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """a + b, to be divided by how many there are"""
        return a + b

    def pre(self, x: Any) -> Tensor:
        """All inputs as one."""
        return super().pre(x) / float(len(x))


class Maximum(_Merge):
    """The largest, element by element."""

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """max(a, b)"""
        return elementwise.maximum(a, b)


class Minimum(_Merge):
    """The smallest, element by element."""

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """min(a, b)"""
        return elementwise.minimum(a, b)


class Concatenate(_Merge):
    """One after the other, along `axis` (the last; the batch counts as 0)."""

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(name)
        if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
            raise ArgumentError("Concatenate", f"axis is {axis!r}", fix="use an axis of the examples, from 1")
        self.axis = axis

    def build(self, shapes: Any) -> Shape:
        """No weights."""
        given = self._several(shapes)
        first = given[0]
        at = (self.axis % (len(first) + 1)) - 1
        if at < 0 or any(
            len(s) != len(first) or s[:at] + s[at + 1 :] != first[:at] + first[at + 1 :] for s in given
        ):
            raise ShapeError(
                "Concatenate",
                f"inputs of shapes {given} along axis {self.axis}",
                fix="all other sizes must be the same",
            )
        self.built = True
        return (*first[:at], sum(s[at] for s in given), *first[at + 1 :])

    def pre(self, x: Any) -> Tensor:
        """Join."""
        return cat(list(x), self.axis)


class Dot(_Merge):
    """Products summed over one axis of each of two inputs; normalize: of vectors of length 1."""

    def __init__(self, axes: Any, normalize: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.axes = (axes, axes) if isinstance(axes, int) else tuple(axes)
        if len(self.axes) != 2 or 0 in self.axes:
            raise ArgumentError("Dot", f"axes is {axes!r}", fix="pass one axis, or one of each, from 1")
        self.normalize = bool(normalize)

    def build(self, shapes: Any) -> Shape:
        """No weights."""
        given = self._several(shapes)
        if len(given) != 2 or any(len(s) not in (1, 2) for s in given):
            raise ShapeError("Dot", f"inputs of shapes {given}", fix="pass two, vectors or matrices")
        rest = []
        summed = []
        for shape, axis in zip(given, self.axes, strict=True):
            at = axis % (len(shape) + 1) - 1
            summed.append(shape[at])
            rest += [n for i, n in enumerate(shape) if i != at]
        if summed[0] != summed[1]:
            raise ShapeError("Dot", f"axes {self.axes} of inputs {given}", fix="they must be of one length")
        self.built = True
        return tuple(rest) or (1,)

    def pre(self, x: Any) -> Tensor:
        """Matrices with what is summed inside."""
        sides = []
        for tensor, axis in zip(x, self.axes, strict=True):
            at = axis % tensor.ndim
            moved = tensor.transpose(at, tensor.ndim - 1)
            if self.normalize:
                moved = moved / elementwise.clamp(elementwise.sqrt((moved * moved).sum(-1, True)), 1e-6)
            sides.append(moved if moved.ndim == 3 else moved.unsqueeze(1))
        y = sides[0] @ sides[1].transpose(1, 2)
        kept = [n for n, tensor in zip(y.shape[1:], x, strict=True) if tensor.ndim == 3]
        result: Tensor = y.reshape(y.shape[0], *(kept or (1,)))
        return result


class Lambda(Layer):
    """A function of tensors as a layer; `arguments` are given to it by name.

    A function cannot be saved: `model.save` refuses it, `save_weights` does not mind.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        arguments: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not callable(function):
            raise ArgumentError("Lambda", f"{function!r} is no function", fix="pass a function of tensors")
        self.function, self.arguments = function, dict(arguments or {})
        self._output_shape = None if output_shape is None else tuple(output_shape)
        self.built = True

    def build(self, shape: Any) -> Any:
        """No weights; the shape is found by running the function."""
        return self._tried((KerasTensor(shape),), {}) if isinstance(shape, tuple) else shape

    def pre(self, *args: Any, **kwargs: Any) -> Any:
        """The function."""
        y = self.function(*args, **self.arguments, **kwargs)
        if self._output_shape is not None and tuple(y.shape[1:]) != self._output_shape:
            raise ShapeError(
                "Lambda", f"it gives {tuple(y.shape[1:])}", fix=f"output_shape is {self._output_shape}"
            )
        return y


class _Apply(Layer):
    """An operator between tensors, or a tensor and a number: what arithmetic of `KerasTensor`s becomes."""

    def __init__(self, function: str, name: str | None = None) -> None:
        super().__init__(name)
        self.function = function
        self.built = True

    def pre(self, *args: Any) -> Any:
        """Apply it."""
        return getattr(operator, self.function)(*args)


def _applied(function: str, *args: Any) -> KerasTensor:
    result: KerasTensor = _Apply(function)._recorded(args, {})
    return result


KerasTensor.applied = staticmethod(_applied)


def add(inputs: Any) -> Any:
    """`Add`, called."""
    return Add()(inputs)


def subtract(inputs: Any) -> Any:
    """`Subtract`, called."""
    return Subtract()(inputs)


def multiply(inputs: Any) -> Any:
    """`Multiply`, called."""
    return Multiply()(inputs)


def average(inputs: Any) -> Any:
    """`Average`, called."""
    return Average()(inputs)


def maximum(inputs: Any) -> Any:
    """`Maximum`, called."""
    return Maximum()(inputs)


def minimum(inputs: Any) -> Any:
    """`Minimum`, called."""
    return Minimum()(inputs)


def concatenate(inputs: Any, axis: int = -1) -> Any:
    """`Concatenate`, called."""
    return Concatenate(axis)(inputs)


def dot(inputs: Any, axes: Any = -1, normalize: bool = False) -> Any:
    """`Dot`, called."""
    return Dot(axes, normalize)(inputs)
