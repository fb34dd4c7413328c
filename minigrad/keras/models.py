"""Models made of layers: `Sequential`, one after the other, and `Functional`, any graph of calls.

    >>> import numpy as np
    >>> from minigrad import keras
    >>> from minigrad.keras import Input, layers
    >>> model = Sequential([Input((4,)), layers.Dense(8, "relu"), layers.Dense(3, "softmax")])
    >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> x, y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 0])
    >>> sorted(model.fit(x, y, epochs=2, verbose=0).history)
    ['accuracy', 'loss']
    >>> model.predict(x, verbose=0).shape, model.count_params()
    ((4, 3), 67)

Several inputs and outputs, layers that are shared or skipped:

    >>> a, b = Input((4,), name="a"), Input((2,), name="b")
    >>> h = layers.Dense(4, "relu")(a)
    >>> h = layers.concatenate([layers.add([h, a]), b])
    >>> outputs = [layers.Dense(1, name="size")(h), layers.Dense(3, "softmax", name="kind")(h)]
    >>> model = keras.Model([a, b], outputs)
    >>> model.compile("adam", {"size": "mse", "kind": "sparse_categorical_crossentropy"})
    >>> labels = {"size": np.ones(4), "kind": y}
    >>> sorted(model.fit({"a": x, "b": x[:, :2]}, labels, verbose=0).history)
    ['kind_loss', 'loss', 'size_loss']

How they train is told in `training`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir import Shape
from ..nn.module import Module
from ..tensor import Tensor
from ..tree import LEAF, flatten
from . import activations
from .base import Layer, running, symbols
from .layers import InputLayer
from .symbolic import Call, KerasTensor, filled, ordered, tensors_of
from .training import Model, _snake


def _end_of(layer: Layer) -> Callable[[Tensor], Tensor]:
    """The last thing that a layer does, if that is an activation that `pre` leaves out."""
    if isinstance(layer, Model):
        ends = layer._ends()
        return ends[0] if len(ends) == 1 else activations.linear
    return activations.linear if layer.by_call or layer._activity is not None else layer.activation


class Sequential(Model):
    """Layers applied one after the other, with a training loop.

    The first layer may say what the examples look like (`input_shape=` or an `Input`); otherwise
    the model is built when it first sees data.
    """

    def __init__(
        self,
        layers: Iterable[Layer | KerasTensor] | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__("sequential" if name is None else name, trainable)
        self._order: list[str] = []
        self._shapes: list[Shape] = []  # of the results of each layer
        self.input_names, self.output_names = ["input"], ["output"]
        self._input_nest = self._output_nest = LEAF
        for layer in layers or ():
            self.add(layer)

    # -- layers -----------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers in order."""
        return [getattr(self, name) for name in self._order]

    def add(self, layer: Layer | KerasTensor) -> None:
        """Append a layer.  Raises DTypeError for anything else, ArgumentError for a name that is taken."""
        if isinstance(layer, KerasTensor):
            if layer.call is not None:
                raise DTypeError(
                    "Sequential", "the result of a layer is no layer", fix="use keras.Model(inputs, outputs)"
                )
            layer = InputLayer(layer.size, layer.name)
        if isinstance(layer, type):
            raise DTypeError(
                "Sequential", f"the class {layer.__name__} is no layer", fix=f"call it: {layer.__name__}(...)"
            )
        if not isinstance(layer, Layer):
            raise DTypeError(
                "Sequential",
                f"a {type(layer).__name__} is no layer",
                fix="use those of minigrad.keras.layers",
            )
        if isinstance(layer, InputLayer):
            if self._order or self._input_shape is not None:
                raise ArgumentError("Sequential", "an Input that is not first", fix="put it at the beginning")
            self._input_shape = layer._input_shape
            if layer.name is not None:
                self.input_names = [layer.name]
            return
        if any(layer is other for other in self.layers):
            raise ArgumentError(
                "Sequential", f"the layer {layer.name!r} is in the model already", fix="make another"
            )
        if layer.name is None:
            layer.name = self._free_name(_snake(type(layer).__name__))
        elif isinstance(layer, Model) and any(layer.name == other.name for other in self.layers):
            layer.name = self._free_name(layer.name)
        elif any(layer.name == other.name for other in self.layers):
            raise ArgumentError(
                "Sequential", f"two layers are named {layer.name!r}", fix="give each its own name"
            )
        if not self._order and self._input_shape is None:
            self._input_shape = layer._input_shape
        self._order.append(_put(self, layer))
        if self.built:
            self._append(layer)
        elif self._input_shape is not None:
            self.build(self._input_shape)
        self._forget_optimizer()

    def _append(self, layer: Layer) -> None:
        """Build a layer for what comes before it, and take note of both."""
        before = self._shapes[-1] if self._shapes else self._require_shape()
        if not layer.built or (not layer.by_call and not layer.weights and not isinstance(layer, Model)):
            after = layer._made(before)
        else:
            after = _built_shape(layer, before)
        if not isinstance(after, tuple):
            raise ArgumentError(
                self._label,
                f"{layer.name} gives {len(after)} results",
                fix="use keras.Model(inputs, outputs), where each can go somewhere",
            )
        self._shapes.append(after)
        call = Call(layer, (self._symbols[1],), {})
        call.outputs = symbols(after, call)
        layer._call = call
        self._symbols = (self._symbols[0], call.outputs)
        self._output_sizes, self.output_names = [after], [str(layer.name)]

    def pop(self) -> Layer:
        """Take the last layer out and return it."""
        if not self._order:
            raise ArgumentError("pop", "the model has no layers", fix="add a layer first")
        layer: Layer = getattr(self, self._order[-1])
        delattr(self, self._order.pop())
        self._shapes = []
        if self.built and self._order:
            self.build(self._require_shape())
        self._forget_optimizer()
        return layer

    def _free_name(self, base: str) -> str:
        return _free_name([str(layer.name) for layer in self.layers], base)

    def _require_shape(self) -> Shape:
        if self._input_shape is None:
            raise ArgumentError(
                self._label,
                "the model does not know the shape of its input",
                fix="give the first layer input_shape=",
            )
        return self._input_shape

    def build(self, shape: Any = None) -> Shape:
        """Make all weights, for examples of this shape (without the batch; a leading None is left out)."""
        given = tuple(shape) if shape is not None else self._require_shape()
        current: Shape = given[1:] if given[:1] == (None,) else given
        self._input_shape = current
        self._input_sizes = [current]
        self._shapes = []
        first = KerasTensor(current, None, self.input_names[0])
        self._symbols = (first, first)
        self._output_sizes = [current]
        for layer in self.layers:
            self._append(layer)
        self.built = True
        self._forget_optimizer()
        return self._outputs

    @property
    def inputs(self) -> list[KerasTensor]:
        """What it is given, symbolically: `keras.Model(model.inputs, model.layers[1].output)`."""
        self._require_built("inputs")
        return [self._graph()[0]]

    @property
    def outputs(self) -> list[KerasTensor]:
        """What it gives, symbolically."""
        self._require_built("outputs")
        return [self._graph()[1]]

    def _graph(self) -> tuple[KerasTensor, KerasTensor]:
        if "_symbols" not in self.__dict__:  # of a copy
            self.build(self._require_shape())
        found: tuple[KerasTensor, KerasTensor] = self._symbols
        return found

    def _rows(self) -> list[tuple[Layer, str, str]]:
        shapes = [str((None, *shape)) for shape in self._shapes] if self.built else ["?"] * len(self._order)
        return [(layer, shape, "") for layer, shape in zip(self.layers, shapes, strict=True)]

    # -- running ----------------------------------------------------------------------------------

    def pre(self, x: Tensor) -> Tensor:
        """All layers but the activation of the last one."""
        order = self._order
        for name in order[:-1]:
            x = self.__dict__[name].forward(x)
        if not order:
            return x
        last = self.__dict__[order[-1]]
        y: Tensor = last.forward(x) if _end_of(last) is activations.linear else last.pre(x)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """All layers."""
        for name in self._order:
            x = Module.__call__(self.__dict__[name], x)
        return x

    def _run(self, xs: tuple[Tensor, ...], before: Sequence[bool] = ()) -> tuple[Tensor, ...]:
        with running():
            return (self.pre(xs[0]) if before and before[0] else self.forward(xs[0]),)

    def _build_on(self, x: Any, arrays: list[Any]) -> None:
        if not self._order:
            raise ArgumentError(self._label, "the model has no layers", fix="add some")
        self.build(tuple(arrays[0].shape[1:]))

    def _made(self, shape: Shape) -> Shape:
        result: Shape = self.build(shape)
        return result

    def _last_activation(self) -> Callable[[Tensor], Tensor]:
        """The activation of the last layer (of the last layer, if that is a model)."""
        return _end_of(self.layers[-1]) if self._order else activations.linear

    def _ends(self) -> list[Callable[[Tensor], Tensor]]:
        return [self._last_activation()]


class Functional(Model):
    """The model between symbolic inputs and outputs: `keras.Model(inputs, outputs)`.

    Either is one tensor, a list, or a dictionary of them; data and results then are, too.  An output is named
    after the layer that gives it (in a dictionary: by its key), an input as `Input` says.

    Raises ArgumentError if an output needs an input that is not listed.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, trainable: bool = True) -> None:
        super().__init__("functional" if name is None else name, trainable)
        flat_in, self._input_nest = flatten(inputs)
        flat_out, self._output_nest = flatten(outputs)
        for what, tensors in (("inputs", flat_in), ("outputs", flat_out)):
            for tensor in tensors:
                if not isinstance(tensor, KerasTensor):
                    raise DTypeError(
                        "Model",
                        f"{what} has a {type(tensor).__name__}",
                        fix="pass Inputs, and results of layers",
                    )
        calls = ordered(flat_in, flat_out)
        slots = {id(t): i for i, t in enumerate(flat_in)}
        self._steps: list[tuple[Layer, Any, Any, list[int]]] = []
        places: list[tuple[str, list[str]]] = []  # of each call: shape, sources
        names = {id(t): t.name or f"input_{i}" for i, t in enumerate(flat_in)}
        self._order: list[str] = []
        for call in calls:
            layer = call.layer
            if not any(layer is other for other, *_ in self._steps):
                if layer.name is None:
                    layer.name = _free_name(
                        [str(o.name) for o, *_ in self._steps], _snake(type(layer).__name__).strip("_")
                    )
                elif any(layer.name == other.name for other, *_ in self._steps):
                    raise ArgumentError(
                        "Model", f"two layers are named {layer.name!r}", fix="give each its own name"
                    )
                self._order.append(_put(self, layer))
            found = tensors_of(call.outputs)
            for tensor in found:
                slots[id(tensor)] = len(slots)
                names[id(tensor)] = str(layer.name)
            template = filled((call.args, call.kwargs), lambda t: _Slot(slots[id(t)]))
            self._steps.append((layer, *template, [slots[id(t)] for t in found]))
            places.append(
                (
                    str([t.shape for t in found] if len(found) > 1 else found[0].shape),
                    [names[id(t)] for t in call.sources],
                )
            )
        self._places = places
        self._count = len(slots)
        self._ins = list(range(len(flat_in)))
        self._outs = [slots[id(t)] for t in flat_out]
        self._input_sizes = [t.size for t in flat_in]
        self._output_sizes = [t.size for t in flat_out]
        self.input_names = _own_names(self._input_nest.keys, [names[id(t)] for t in flat_in])
        self.output_names = _own_names(self._output_nest.keys, [names[id(t)] for t in flat_out])
        self._symbols = (flat_in, flat_out)
        # outputs that end in an activation, of calls that no one else needs
        by_slot = {slot: (i, layer) for i, (layer, _, _, own) in enumerate(self._steps) for slot in own}
        used = {
            slot.index for _, a, k, _ in self._steps for slot in flatten((a, k))[0] if isinstance(slot, _Slot)
        }
        self._last: list[tuple[int, Layer] | None] = [
            by_slot[slot]
            if slot in by_slot
            and slot not in used
            and self._outs.count(slot) == 1
            and len(self._steps[by_slot[slot][0]][3]) == 1
            else None
            for slot in self._outs
        ]
        self.built = True

    @property
    def layers(self) -> list[Layer]:
        """The layers, in the order of their first calls."""
        return [getattr(self, name) for name in self._order]

    @property
    def inputs(self) -> list[KerasTensor]:
        """What it is given, symbolically."""
        return list(self._graph()[0])

    @property
    def outputs(self) -> list[KerasTensor]:
        """What it gives, symbolically."""
        return list(self._graph()[1])

    @property
    def input(self) -> Any:
        """What it is given, symbolically, in the nest in which it is given."""
        return self._input_nest.build(self._graph()[0])

    @property
    def output(self) -> Any:
        """What it gives, symbolically, in the nest in which it gives it."""
        return self._output_nest.build(self._graph()[1])

    def _graph(self) -> tuple[list[KerasTensor], list[KerasTensor]]:
        if "_symbols" not in self.__dict__:
            raise ArgumentError(
                self._label, "a copy of a model has no symbolic tensors", fix="take them of the original"
            )
        found: tuple[list[KerasTensor], list[KerasTensor]] = self._symbols
        return found

    def build(self, shape: Any = None) -> Any:
        """Nothing: its layers were built when they were called.  The shape of the results."""
        return self._output_nest.build(self._output_sizes)

    def _made(self, shape: Shape) -> Shape:
        if [shape] != self._input_sizes:
            raise ShapeError(
                self._label, f"it takes {self._input_sizes} and is given {shape}", fix="make another model"
            )
        result: Shape = self.build()
        return result

    def _rows(self) -> list[tuple[Layer, str, str]]:
        rows: list[tuple[Layer, str, str]] = []
        for (layer, *_), (shape, sources) in zip(self._steps, self._places, strict=True):
            rows.append((layer, shape, ", ".join(sources)))
        return rows

    # -- running ----------------------------------------------------------------------------------

    def forward(self, *args: Any) -> Any:
        """All calls, in order."""
        xs = flatten(args[0] if len(args) == 1 else list(args))[0]
        return self._output_nest.build(self._walk(tuple(xs), ()))

    def pre(self, *args: Any) -> Any:
        """All calls, without the activation of the last one."""
        xs = flatten(args[0] if len(args) == 1 else list(args))[0]
        return self._walk(tuple(xs), tuple(end is not activations.linear for end in self._ends()))[0]

    def _run(self, xs: tuple[Tensor, ...], before: Sequence[bool] = ()) -> tuple[Tensor, ...]:
        with running():
            return self._walk(xs, before)

    def _walk(self, xs: tuple[Tensor, ...], before: Sequence[bool]) -> tuple[Tensor, ...]:
        values: list[Any] = [*xs, *[None] * (self._count - len(xs))]
        inside = {
            last[0] for last, wanted in zip(self._last, before, strict=False) if wanted and last is not None
        }
        for i, (layer, args, kwargs, own) in enumerate(self._steps):
            given, named = _placed(args, values), _placed(kwargs, values) if kwargs else {}
            training = named.pop("training", None)
            if i in inside:
                y = layer.pre(*given, **named)
            elif training is None:
                y = Module.__call__(layer, *given, **named)
            else:
                y = layer(*given, training=training, **named)
            if len(own) == 1:
                values[own[0]] = y if isinstance(y, Tensor) else flatten(y)[0][0]
            else:
                for slot, value in zip(own, flatten(y)[0], strict=True):
                    values[slot] = value
        return tuple([values[slot] for slot in self._outs])

    def _ends(self) -> list[Callable[[Tensor], Tensor]]:
        return [activations.linear if last is None else _end_of(last[1]) for last in self._last]


class _Slot:
    """The place of a value."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


def _placed(nest: Any, values: Any) -> Any:
    """The nest with values for slots."""
    if isinstance(nest, _Slot):
        return values[nest.index]
    if isinstance(nest, (tuple, list)):
        return type(nest)([_placed(part, values) for part in nest])
    return {k: _placed(part, values) for k, part in nest.items()} if isinstance(nest, dict) else nest


def _own_names(keys: Sequence[Any], names: list[str]) -> list[str]:
    """Names of inputs or outputs, each its own; the keys of a dictionary, if it was one."""
    if keys:
        return [str(key) for key in keys]
    found: list[str] = []
    for name in names:
        found.append(_free_name(found, name))
    return found


def _free_name(taken: Sequence[str], base: str) -> str:
    name, number = base, 0
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def _put(model: Model, layer: Layer) -> str:
    """Make a layer a part of a model, as an attribute of its name, or one like it; returns which."""
    attribute = str(layer.name)
    while hasattr(model, attribute):
        attribute += "_"
    model.add_module(attribute, layer)
    return attribute


def load_model(filepath: Any) -> Any:
    """The model that `Model.save` wrote (see `saving`)."""
    from .saving import load_model

    return load_model(filepath)


def clone_model(model: Model) -> Model:
    """A model of the same layers, with new weights.  Raises DTypeError for a class of one's own."""
    from .saving import cloned

    return cloned(model)


def _built_shape(layer: Layer, shape: Shape) -> Any:
    """The output shape of a layer that has its weights already, which must fit."""
    if isinstance(layer, Model):
        if layer._input_sizes != [shape]:
            raise ShapeError(
                layer._label,
                f"it was built for {layer.input_shape} and is given {(None, *shape)}",
                fix="make a new layer for the new shape",
            )
        return layer._outputs
    try:
        return layer._tried((KerasTensor(shape),), {})
    except (ShapeError, ArgumentError):
        raise ShapeError(
            layer.name or "layer", f"it was built for another shape than {shape}", fix="make a new layer"
        ) from None


__all__ = ["Functional", "Model", "Sequential", "clone_model", "load_model"]
