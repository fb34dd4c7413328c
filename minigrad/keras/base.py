"""`Layer`: what all layers and models have.

A layer of this package says in `build` which weights it has and what shape its results are, and in `pre` what
it computes before its activation.  A layer of one's own is written as in Keras, with `build` (where it needs
weights) and `call`:

    >>> import numpy as np
    >>> class Scale(Layer):
    ...     def build(self, input_shape):
    ...         self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones")
    ...     def call(self, x):
    ...         return x * self.gain
    >>> layer = Scale()
    >>> layer(np.ones((2, 3))).shape, [w.shape for w in layer.get_weights()]
    ((2, 3), [(3,)])

What shape its results have is found by running it on one example of zeros, unless it defines
`compute_output_shape`.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..autograd import no_grad
from ..errors import ArgumentError, DTypeError
from ..ir import Shape
from ..nn.module import Module, Parameter
from ..ops.creation import zeros
from ..tensor import Tensor, wrap
from ..tree import flatten
from . import activations, constraints, initializers, regularizers
from .losses import array_of, as_float
from .options import Checked
from .symbolic import Call, KerasTensor, filled, is_symbolic


class _Context(threading.local):
    """Whether this thread is inside of a model's call, whose mode then counts."""

    running = False


_CONTEXT = _Context()


@contextmanager
def running() -> Iterator[None]:
    """Inside, models that are called keep their mode."""
    before, _CONTEXT.running = _CONTEXT.running, True
    try:
        yield
    finally:
        _CONTEXT.running = before


class Layer(Module, Checked):
    """Base of layers: subclasses define `build` (shapes and weights) and `pre`, or `build` and `call`."""

    _input_shape: Shape | None = None
    built: bool = False
    name: str | None
    activation: Callable[[Tensor], Tensor]
    #: Whether it is written as in Keras, with `call`; and whether that wants to know the mode.
    by_call: ClassVar[bool] = False
    _takes_training: ClassVar[bool] = False

    def __init__(self, name: str | None = None, input_shape: Any = None, trainable: bool = True) -> None:
        super().__init__()
        self.training = False  # until it is trained, or called with training=True
        if name is not None and (not isinstance(name, str) or not name or "." in name):
            raise ArgumentError(type(self).__name__, f"the name is {name!r}", fix="use a string without dots")
        self.name = name
        self.activation = activations.linear
        self._trainable = bool(trainable)
        self._rules: list[_Rule] = []
        self._activity: Callable[[Tensor], Tensor] | None = None
        self._added: list[Tensor] = []  # what `add_loss` was given since the last step
        self._states: list[Tensor] = []  # made by `add_weight`, not learned
        if input_shape is not None:
            self._input_shape = sizes(type(self).__name__, "input_shape", input_shape)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "call" in cls.__dict__:
            cls.by_call = True
            cls._takes_training = "training" in inspect.signature(cls.__dict__["call"]).parameters
        elif "build" in cls.__dict__:
            cls.build = _any_shape(cls.__dict__["build"])  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, Tensor) and any(value is state for state in self.__dict__.get("_states", ())):
            self._buffers = {**(self._buffers or {}), name: True}

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This layer and all parts of parts, those in lists included, with their paths."""
        seen = set() if memo is None else memo
        if self in seen:
            return
        yield from super().named_modules(seen, prefix, remove_duplicate)
        for name, value in list(self.__dict__.items()):
            if isinstance(value, (list, tuple)) and name[0] != "_":
                for i, part in enumerate(value):
                    if isinstance(part, Module):
                        path = f"{prefix}.{name}.{i}" if prefix else f"{name}.{i}"
                        yield from part.named_modules(seen, path, remove_duplicate)

    # -- calling ------------------------------------------------------------------------------------

    def pre(self, x: Any) -> Any:
        """The layer without its activation."""
        return x

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The layer: its activation of `pre`.  To be overridden in layers of one's own."""
        return self.activation(self.pre(*args, **kwargs))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """`call`, told the mode if it wants to know it."""
        if not self.by_call:
            y = self.activation(self.pre(*args, **kwargs))
        elif self._takes_training and "training" not in kwargs:
            y = self.call(*args, **kwargs, training=self.training)
        else:
            y = self.call(*args, **kwargs)
        return y if self._activity is None else self._watched(y)

    def _watched(self, y: Tensor) -> Tensor:
        assert self._activity is not None
        self.add_loss(self._activity(y) / float(y.shape[0]))
        return y

    def __call__(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The results for arrays or tensors; for an `Input` and what was made of it, a `KerasTensor`.

        training: whether dropout and batch norm behave as in training; by default as the layer's mode is.
        """
        if is_symbolic(args) or (kwargs and is_symbolic(kwargs.values())):
            return self._recorded(args, kwargs if training is None else {**kwargs, "training": training})
        args = tuple([a if isinstance(a, Tensor) else self._values(a) for a in args])
        if not self.built:
            self._build_for(args)
        before = self.training
        if training is None or bool(training) == before:
            with running():
                return Module.__call__(self, *args, **kwargs)
        self.train(bool(training))
        try:
            with running():
                return Module.__call__(self, *args, **kwargs)
        finally:
            self.train(before)

    def _values(self, given: Any) -> Any:
        """Tensors of arrays, alone or in a list or a dictionary."""
        if isinstance(given, Tensor) or given is None or isinstance(given, (bool, str)):
            return given
        if isinstance(given, dict):
            return {key: self._values(value) for key, value in given.items()}
        if isinstance(given, (list, tuple)) and any(isinstance(v, (Tensor, np.ndarray)) for v in given):
            return type(given)(self._values(value) for value in given)
        return wrap(as_float(self.name or type(self).__name__, "x", array_of(given)))

    # -- shapes and weights -------------------------------------------------------------------------

    def build(self, shape: Any) -> Any:
        """Make the weights for examples of this shape; returns the shape of the results."""
        self.built = True
        return shape

    def _build_for(self, args: tuple[Any, ...]) -> None:
        """Make the weights, for these tensors, symbolic or not."""
        shapes = tuple(_sizes_of(a) for a in args if _sizes_of(a) is not None)
        if not self.by_call:
            self.build(*shapes)
            return
        self.built = True  # first, as a build may call that of its base
        self.build(_with_batch(shapes[0]) if shapes else None)
        self.built = True

    def _made(self, shape: Shape) -> Shape:
        """Build, for examples of this shape; the shape of the results."""
        if not self.by_call:
            result: Shape | None = self.build(shape)
            if result is not None:
                return result
        found: Shape = self._recorded((KerasTensor(shape),), {}).size
        return found

    def _recorded(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What it will give, for symbolic tensors."""
        call = Call(self, args, kwargs)
        if not self.built and not self.by_call and not isinstance(args[0], dict):
            results = self.build(*(_sizes_of(a) for a in args if _sizes_of(a) is not None))
        else:
            if not self.built:
                self._build_for(args)
            results = None
        if results is None:
            results = self._tried(args, kwargs)
        call.outputs = symbols(results, call)
        self._call = call
        return call.outputs

    @property
    def output(self) -> Any:
        """What it gives in the model that it is part of, for models that end here."""
        return self._known_call("output").outputs

    @property
    def input(self) -> Any:
        """What it is given in the model that it is part of."""
        args = self._known_call("input").args
        return args[0] if len(args) == 1 else list(args)

    def _known_call(self, what: str) -> Call:
        call: Call | None = self.__dict__.get("_call")
        if call is None:
            raise ArgumentError(
                what,
                f"{self.name or type(self).__name__} was not called on an Input",
                fix="make it part of a Sequential with an Input, or of keras.Model(inputs, outputs)",
            )
        return call

    def __getstate__(self) -> dict[str, Any]:
        """All but the graph that it was called in, for copies and other processes."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_call", "_symbols")}

    def _tried(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The shapes of the results, found by running it on one example of zeros."""
        known = getattr(self, "compute_output_shape", None)
        if known is not None and len(args) == 1:
            return tuple(known(_with_batch(_sizes_of(args[0]))))[1:]
        before = self.training
        self.train(False)
        try:
            with no_grad(), running():
                y = Module.__call__(
                    self,
                    *filled(args, lambda t: zeros(1, *t.size)),
                    **filled(
                        {k: v for k, v in kwargs.items() if k != "training"}, lambda t: zeros(1, *t.size)
                    ),
                )
        finally:
            self.train(before)
            self._forget_losses()
        leaves, structure = flatten(y)
        return structure.build([tuple(leaf.shape[1:]) for leaf in leaves])

    def add_weight(
        self,
        shape: Any = (),
        initializer: Any = None,
        trainable: bool = True,
        name: str | None = None,
        regularizer: Any = None,
        constraint: Any = None,
        dtype: Any = None,
    ) -> Any:
        """A weight of this layer, float32, to be kept as an attribute, whose name is the weight's.

        initializer: "glorot_uniform" by default, "zeros" for a single number.
        """
        if dtype not in (None, "float32", np.float32):
            raise DTypeError("add_weight", f"dtype {dtype}", fix="weights of this package are float32")
        wanted = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        if any(size is None for size in wanted):
            raise ArgumentError("add_weight", f"shape is {wanted}", fix="every size must be known")
        kind = ("glorot_uniform" if wanted else "zeros") if initializer is None else initializer
        value = initializers.get(kind)(wanted)
        if not trainable:
            self._states = [*self._states, value]
            return value
        weight = Parameter(value, requires_grad=self._trainable)
        self._rule_for(weight, regularizer, constraint)
        return weight

    def _weight(self, initializer: Callable[..., Tensor], shape: Shape) -> Parameter:
        return Parameter(initializer(shape), requires_grad=self._trainable)

    def _rule_for(self, weight: Parameter | str, regularizer: Any, constraint: Any) -> None:
        """What is known of a weight, or of the attribute of this name."""
        rule = _Rule(weight, regularizers.get(regularizer), constraints.get(constraint))
        if rule.regularizer is not None or rule.constraint is not None:
            self._rules = [*self._rules, rule]

    def _ruled(self) -> Iterator[tuple[Parameter, _Rule]]:
        for module in self.modules():
            if isinstance(module, Layer):
                for rule in module._rules:
                    weight = getattr(module, rule.weight) if isinstance(rule.weight, str) else rule.weight
                    if weight is not None:
                        yield weight, rule

    # -- losses of its own --------------------------------------------------------------------------

    @property
    def losses(self) -> list[Tensor]:
        """What its weights, its parts and its last call add to the loss."""
        mine = [rule.regularizer(weight) for weight, rule in self._ruled() if rule.regularizer is not None]
        for module in self.modules():
            if isinstance(module, Layer):
                mine += module._added
        return mine

    def add_loss(self, loss: Any) -> None:
        """Let `fit` add this to the loss of the batch; for `call` of layers of one's own."""
        self._added.append(loss if not getattr(loss, "ndim", 0) else loss.mean())

    def _forget_losses(self) -> None:
        for module in self.modules():
            if isinstance(module, Layer) and module._added:
                module._added.clear()

    def _constrain(self) -> None:
        """Make weights what their constraints say."""
        with no_grad():
            for weight, rule in self._ruled():
                if rule.constraint is not None and weight.requires_grad:
                    weight.assign(rule.constraint(weight.detach()))

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
        """Parameters, then state that is not learned, of this layer; then those of its parts."""
        found: dict[int, Tensor] = {}
        for module in self.modules():
            for what in ("parameters", "buffers"):
                found |= {id(w): w for _, w in module._own(what) if id(w) not in found}
        return list(found.values())

    @property
    def trainable_weights(self) -> list[Tensor]:
        """The weights that `fit` changes."""
        return [p for p in self.parameters() if p.requires_grad]

    @property
    def non_trainable_weights(self) -> list[Tensor]:
        """The weights that `fit` does not change, and state."""
        return [w for w in self.weights if not any(w is t for t in self.trainable_weights)]

    @property
    def variables(self) -> list[Tensor]:
        """`weights`."""
        return self.weights

    @property
    def trainable_variables(self) -> list[Tensor]:
        """`trainable_weights`."""
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Tensor]:
        """`non_trainable_weights`."""
        return self.non_trainable_weights

    def get_config(self) -> dict[str, Any]:
        """What it was made of, for `from_config`."""
        return {**self.__dict__.get("_given", {}), "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A layer like the one of this `get_config`, with weights of its own."""
        known = inspect.signature(cls.__init__).parameters
        open_ended = any(p.kind == p.VAR_KEYWORD for p in known.values())
        taken = {
            k: v for k, v in config.items() if open_ended or k in known or k not in ("name", "trainable")
        }
        layer: Layer = cls(**taken)
        layer.name = config.get("name", layer.name)
        if config.get("trainable", True) != layer.trainable:
            layer.trainable = config["trainable"]
        return layer

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


class _Rule(NamedTuple):
    """A weight, or the attribute that holds it, what it adds to the loss, and what it is made to be."""

    weight: Any
    regularizer: Callable[[Tensor], Tensor] | None
    constraint: Callable[[Tensor], Tensor] | None


def _any_shape(build: Callable[..., Any]) -> Callable[..., Any]:
    """A `build` that takes shapes of batches, too, as Keras writes them."""

    @functools.wraps(build)
    def call(self: Layer, *shapes: Any, **kwargs: Any) -> Any:
        return build(
            self, *(s[1:] if isinstance(s, tuple) and s[:1] == (None,) else s for s in shapes), **kwargs
        )

    return call


def _sizes_of(given: Any) -> Any:
    """The shapes of examples of a tensor or a nest of them; None for anything else."""
    if isinstance(given, KerasTensor):
        return given.size
    if isinstance(given, Tensor):
        return tuple(given.shape[1:])
    if isinstance(given, (list, tuple)):
        return [_sizes_of(part) for part in given]
    return {key: _sizes_of(part) for key, part in given.items()} if isinstance(given, dict) else None


def _with_batch(shape: Any) -> Any:
    """Shapes as Keras writes them, None for the batch."""
    if isinstance(shape, dict):
        return {key: _with_batch(part) for key, part in shape.items()}
    return [_with_batch(part) for part in shape] if isinstance(shape, list) else (None, *shape)


def symbols(shapes: Any, call: Call) -> Any:
    """A symbolic tensor for each shape of a nest."""
    if isinstance(shapes, dict):
        return {key: symbols(part, call) for key, part in shapes.items()}
    if isinstance(shapes, list) or (shapes and not isinstance(shapes[0], (int, np.integer))):
        return type(shapes)(symbols(part, call) for part in shapes)
    return KerasTensor(tuple(shapes), call)


__all__ = ["Layer", "running", "sizes", "symbols"]
