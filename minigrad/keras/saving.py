"""Saving: a model as one file that holds layers, weights, and how it was being trained.

    >>> import os, tempfile
    >>> from minigrad import keras
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    >>> model.compile("adam", "categorical_crossentropy")
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> model.save(path)
    >>> again = load_model(path)
    >>> x = [[1.0, 2.0, 3.0]]
    >>> bool((again(x) == model(x)).all())
    True

What a layer, an optimizer or a loss was made of (the arguments of its constructor) is stored as text, and
loading calls the constructor of this package of that name; no code comes from the file.  A function of
one's own (an activation, a loss) can therefore not be stored: name it, or use `save_weights`.

The file is a `minigrad.checkpoint`: atomic, with a checksum, readable by any safetensors reader.
"""

from __future__ import annotations

import os
from typing import Any

from .. import checkpoint
from ..checkpoint import CheckpointError
from ..errors import DTypeError
from . import (
    constraints,
    initializers,
    layers,
    losses,
    merging,
    metrics,
    ops,
    optimizers,
    regularizers,
    schedules,
)
from .base import Layer
from .models import Functional, Model, Sequential, _placed, _Slot
from .options import Checked
from .symbolic import KerasTensor, tensors_of

_FORMAT = "minigrad.keras 2"
_HOMES = (
    layers,
    merging,
    ops,
    optimizers,
    losses,
    metrics,
    schedules,
    regularizers,
    constraints,
    initializers,
)


def described(what: str, value: Any) -> Any:
    """Numbers, strings and objects of this package, as plain data."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        parts = [described(what, part) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, dict):
        return {"dict": [(key, described(what, part)) for key, part in value.items()]}
    if isinstance(value, Model):
        return {"model": _model_state(value)}
    if isinstance(value, _Slot):
        return {"slot": value.index}
    name = type(value).__name__
    if isinstance(value, Checked) and any(getattr(home, name, None) is type(value) for home in _HOMES):
        given = getattr(value, "_given", {})
        return {"class": name, "given": {key: described(f"{name}.{key}", v) for key, v in given.items()}}
    raise DTypeError(
        "save",
        f"{what} is {value!r}, which is code and cannot be stored",
        fix="use one of this package by its name, or save_weights",
    )


def made(state: Any) -> Any:
    """The objects of plain data."""
    if isinstance(state, (list, tuple)):
        return type(state)(made(part) for part in state)
    if not isinstance(state, dict):
        return state
    if "dict" in state:
        return {key: made(part) for key, part in state["dict"]}
    if "model" in state:
        return _model_of(state["model"])
    if "slot" in state:
        return _Slot(state["slot"])
    name, given = state["class"], state["given"]
    for home in _HOMES:
        kind = getattr(home, name, None)
        if isinstance(kind, type) and issubclass(kind, Checked):
            return kind(**{key: made(value) for key, value in given.items()})
    raise CheckpointError(
        "load_model", f"there is no {name} in this version", fix="use the version it was saved with"
    )


def _layer_state(layer: Layer) -> Any:
    state = described(layer.name or "a layer", layer)
    return state if "model" in state else {**state, "name": layer.name}


def _layer_of(state: Any) -> Layer:
    if "model" in state:
        return _model_of(state["model"])
    given = {k: v for k, v in state["given"].items() if k != "input_dim"}
    layer: Layer = made({"class": state["class"], "given": given})
    layer.name = state["name"]
    return layer


def _model_state(model: Model) -> dict[str, Any]:
    """What a model is made of, as plain data, without its weights."""
    common = {
        "name": model.name,
        "layers": [_layer_state(layer) for layer in model.layers],
        "trainable": [layer.trainable for layer in model.layers],
    }
    if isinstance(model, Sequential):
        return {**common, "input_shape": model.input_shape[1:], "input_name": model.input_names[0]}
    if not isinstance(model, Functional):
        raise DTypeError(
            "save",
            f"{type(model).__name__} is a class of your own, and cannot be stored",
            fix="use save_weights, and load_weights into a model that is made the same way",
        )
    order = model.layers
    place = {id(layer): i for i, layer in enumerate(order)}
    symbols = model.inputs
    return {
        **common,
        "inputs": [(t.size, name) for t, name in zip(symbols, model.input_names, strict=True)],
        "input_nest": described("inputs", model._input_nest.build([_Slot(i) for i in model._ins])),
        "output_nest": described("outputs", model._output_nest.build([_Slot(i) for i in model._outs])),
        "steps": [
            (place[id(layer)], described("a call", args), described("a call", kwargs), own)
            for layer, args, kwargs, own in model._steps
        ],
    }


def _model_of(state: dict[str, Any]) -> Model:
    """The model of `_model_state`, with new weights."""
    parts = [_layer_of(part) for part in state["layers"]]
    model: Model
    if "steps" not in state:
        model = Sequential(parts, name=state["name"])
        if not model.built:
            model.build(state["input_shape"])
        model.input_names = [state.get("input_name", "input")]
    else:
        values: dict[int, Any] = {
            i: KerasTensor(tuple(size), None, name) for i, (size, name) in enumerate(state["inputs"])
        }
        for place, args, kwargs, own in state["steps"]:
            given, named = (_placed(made(part), values) for part in (args, kwargs))
            found = tensors_of(parts[place](*given, **named))
            values |= dict(zip(own, found, strict=True))
        nests = [_placed(made(state[key]), values) for key in ("input_nest", "output_nest")]
        model = Functional(nests[0], nests[1], name=state["name"])
    for layer, trainable in zip(parts, state["trainable"], strict=True):
        if layer.trainable != trainable:
            layer.trainable = trainable
    return model


def cloned(model: Model) -> Model:
    """A model of the same layers, with new weights."""
    return _model_of(_model_state(model))


def save_model(model: Any, path: str | os.PathLike[str], compiled: Any) -> None:
    """Write a built model."""
    training = None
    if compiled is not None:
        training = {
            "optimizer": described("the optimizer", compiled.optimizer),
            "loss": described("the loss", compiled.shown_loss),
            "loss_weights": described("loss_weights", compiled.given_weights),
            "metrics": described("a metric", compiled.given_metrics),
            "state": None if compiled.rule is None else compiled.rule.state_dict(),
            "jit_compile": compiled.mode,
            # a step is captured once it has been called some times, and a captured one rounds otherwise:
            # a run that goes on with the same bits goes on with these counts
            "calls": {name: (step.warm, list(step._calls.items())) for name, step in compiled.steps.items()},
            "learning_rate": None if compiled.optimizer._schedule else compiled.optimizer.learning_rate,
        }
    checkpoint.save(
        path,
        {
            "format": _FORMAT,
            "model": _model_state(model),
            "weights": dict(model.state_dict()),
            "training": training,
        },
    )


def load_model(path: str | os.PathLike[str]) -> Any:
    """The model that `model.save` wrote, compiled as it was, ready to go on.

    Raises CheckpointError for a file that is damaged, or no saved model.
    """
    state = checkpoint.load(path)
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise CheckpointError(
            "load_model",
            f"{os.fspath(path)} is no saved model",
            fix="use model.load_weights for weights alone, and this version for its own files",
        )
    model = _model_of(state["model"])
    model.load_state_dict(state["weights"])
    training = state["training"]
    if training is not None:
        model.compile(
            made(training["optimizer"]),
            made(training["loss"]),
            made(training["metrics"]),
            jit_compile=training["jit_compile"],
            loss_weights=made(training["loss_weights"]),
        )
        compiled = model._need_compile("load_model")
        if training["learning_rate"] is not None:
            model.optimizer.learning_rate = training["learning_rate"]
        if training["state"] is not None:
            model._rule(compiled).load_state_dict(training["state"])
        for name, (warm, calls) in training["calls"].items():
            model._step_of(compiled, getattr(model, name), warm)._calls.update(calls)
    return model
