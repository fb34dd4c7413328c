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
from . import layers, losses, optimizers, schedules
from .options import Checked

_FORMAT = "minigrad.keras 1"
_HOMES = (layers, optimizers, losses, schedules)


def described(what: str, value: Any) -> Any:
    """Numbers, strings and objects of this package, as plain data."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        parts = [described(what, part) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
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
    name, given = state["class"], state["given"]
    for home in _HOMES:
        kind = getattr(home, name, None)
        if isinstance(kind, type) and issubclass(kind, Checked):
            return kind(**{key: made(value) for key, value in given.items()})
    raise CheckpointError(
        "load_model", f"there is no {name} in this version", fix="use the version it was saved with"
    )


def save_model(model: Any, path: str | os.PathLike[str], compiled: Any) -> None:
    """Write a built `Sequential`."""
    training = None
    if compiled is not None:
        metrics = [m if isinstance(m, str) else getattr(m, "name", None) for m in compiled.metrics]
        training = {
            "optimizer": described("the optimizer", compiled.optimizer),
            "loss": described("the loss", compiled.loss),
            "metrics": [described("a metric", m) for m in metrics],
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
            "name": model.name,
            "input_shape": model.input_shape[1:],
            "layers": [{**described(layer.name, layer), "name": layer.name} for layer in model.layers],
            "trainable": [layer.trainable for layer in model.layers],
            "weights": dict(model.state_dict()),
            "training": training,
        },
    )


def load_model(path: str | os.PathLike[str]) -> Any:
    """The model that `model.save` wrote, compiled as it was, ready to go on.

    Raises CheckpointError for a file that is damaged, or no saved model.
    """
    from .models import Sequential

    state = checkpoint.load(path)
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise CheckpointError(
            "load_model",
            f"{os.fspath(path)} is no saved model",
            fix="use model.load_weights for weights alone",
        )
    parts = []
    for layer in state["layers"]:
        given = {k: v for k, v in layer["given"].items() if k != "input_dim"}
        part = made({"class": layer["class"], "given": given})
        part.name = layer["name"]
        parts.append(part)
    model = Sequential(parts, name=state["name"])
    if not model.built:
        model.build(state["input_shape"])
    model.load_state_dict(state["weights"])
    for layer, trainable in zip(model.layers, state["trainable"], strict=True):
        layer.trainable = trainable
    training = state["training"]
    if training is not None:
        model.compile(
            made(training["optimizer"]),
            made(training["loss"]),
            training["metrics"],
            jit_compile=training["jit_compile"],
        )
        compiled = model._need_compile("load_model")
        if training["learning_rate"] is not None:
            model.optimizer.learning_rate = training["learning_rate"]
        if training["state"] is not None:
            model._rule(compiled).load_state_dict(training["state"])
        for name, (warm, calls) in training["calls"].items():
            model._step_of(compiled, getattr(model, name), warm)._calls.update(calls)
    return model
