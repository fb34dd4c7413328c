"""Calls that have not been made yet: the graph that `keras.Model(inputs, outputs)` is made of.

Calling a layer on an `Input` computes nothing.  It says what would be computed, as a `KerasTensor`, which
knows the shape of an example and the call that it comes from:

    >>> from minigrad.keras import Input, layers
    >>> a, b = Input((4,)), Input((3,))
    >>> h = layers.Concatenate()([layers.Dense(5)(a), b])
    >>> h.shape, h.call.layer.__class__.__name__
    ((None, 8), 'Concatenate')
    >>> (h * 2.0 + h).shape
    (None, 8)

A model is then the list of calls between its inputs and its outputs, each after those that it needs.

Left out: sizes that are not known before there is data, but for that of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from ..errors import ArgumentError
from ..ir import Shape
from ..tree import flatten


class KerasTensor:
    """What a call will give: the shape of an example, without the batch, is `size`."""

    __slots__ = ("call", "name", "size")
    __array_ufunc__ = None  # `array + tensor` is ours
    #: A function of the module `operator` as a layer, called (see `merging`).
    applied: ClassVar[Callable[..., KerasTensor]]

    def __init__(self, size: Shape, call: Call | None = None, name: str | None = None) -> None:
        self.size, self.call, self.name = size, call, name

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of a batch, None for its size."""
        return (None, *self.size)

    @property
    def ndim(self) -> int:
        """Dimensions, the batch included."""
        return len(self.size) + 1

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}{'' if self.name is None else f' name={self.name}'}>"

    def __add__(self, other: Any) -> KerasTensor:
        return self.applied("add", self, other)

    def __radd__(self, other: Any) -> KerasTensor:
        return self.applied("add", other, self)

    def __sub__(self, other: Any) -> KerasTensor:
        return self.applied("sub", self, other)

    def __rsub__(self, other: Any) -> KerasTensor:
        return self.applied("sub", other, self)

    def __mul__(self, other: Any) -> KerasTensor:
        return self.applied("mul", self, other)

    def __rmul__(self, other: Any) -> KerasTensor:
        return self.applied("mul", other, self)

    def __truediv__(self, other: Any) -> KerasTensor:
        return self.applied("truediv", self, other)

    def __rtruediv__(self, other: Any) -> KerasTensor:
        return self.applied("truediv", other, self)

    def __pow__(self, other: Any) -> KerasTensor:
        return self.applied("pow", self, other)

    def __rpow__(self, other: Any) -> KerasTensor:
        return self.applied("pow", other, self)

    def __matmul__(self, other: Any) -> KerasTensor:
        return self.applied("matmul", self, other)

    def __rmatmul__(self, other: Any) -> KerasTensor:
        return self.applied("matmul", other, self)

    def __neg__(self) -> KerasTensor:
        return self.applied("neg", self)

    def __abs__(self) -> KerasTensor:
        return self.applied("abs", self)

    def __getitem__(self, index: Any) -> KerasTensor:
        return self.applied("getitem", self, index)

    def __bool__(self) -> bool:
        raise ArgumentError(
            "KerasTensor", "its values are not known yet", fix="take decisions in a layer, or on arrays"
        )

    def __iter__(self) -> Any:
        raise ArgumentError("KerasTensor", "it cannot be iterated", fix="index it, or use a layer")


class Call:
    """A layer and what it is called with: a nest in which `KerasTensor`s stand for values."""

    __slots__ = ("args", "kwargs", "layer", "outputs")

    def __init__(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.layer, self.args, self.kwargs = layer, args, kwargs
        self.outputs: Any = None

    @property
    def sources(self) -> list[KerasTensor]:
        """The tensors that it needs."""
        return tensors_of((self.args, self.kwargs))


def tensors_of(nest: Any) -> list[KerasTensor]:
    """The symbolic tensors of a nest, in order."""
    return [leaf for leaf in flatten(nest)[0] if isinstance(leaf, KerasTensor)]


def is_symbolic(args: Iterable[Any]) -> bool:
    """Whether any argument, or what it holds, is symbolic."""
    return any(
        isinstance(a, KerasTensor) or (isinstance(a, (list, tuple, dict)) and tensors_of(a)) for a in args
    )


def filled(nest: Any, value: Callable[[KerasTensor], Any]) -> Any:
    """The nest with the value of each symbolic tensor in its place."""
    leaves, structure = flatten(nest)
    return structure.build([value(leaf) if isinstance(leaf, KerasTensor) else leaf for leaf in leaves])


def ordered(inputs: list[KerasTensor], outputs: list[KerasTensor]) -> list[Call]:
    """The calls that lead from inputs to outputs, each after those it needs.

    Raises ArgumentError if an output needs an input that is not listed."""
    known, done = {id(t) for t in inputs}, set[int]()
    found: list[Call] = []
    stack = [(t, False) for t in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        if id(tensor) in known:
            continue
        call = tensor.call
        if call is None:
            raise ArgumentError(
                "Model",
                f"an output needs the input {tensor.name or tensor!r}, which is not among the inputs",
                fix="list every Input that is used: Model(inputs=[...], outputs=...)",
            )
        if id(call) in done:
            continue
        if ready:
            done.add(id(call))
            found.append(call)
        else:
            stack.append((tensor, True))
            stack.extend((t, False) for t in reversed(call.sources))
    return found


__all__ = ["Call", "KerasTensor", "filled", "is_symbolic", "ordered", "tensors_of"]
