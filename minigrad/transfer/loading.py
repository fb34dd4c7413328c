"""Weights of another model, as far as they fit, and what they are good for.

>>> import minigrad as mg
>>> from minigrad import nn
>>> old = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10))
>>> new = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
>>> print(load_partial(new, old.state_dict()))
2 matched: 0.weight, 0.bias
2 differ in shape, left as they were: 2.weight (3, 8) and (10, 8), 2.bias (3,) and (10,)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import checkpoint
from ..autograd import no_grad
from ..compiled import compile
from ..data import DataLoader
from ..errors import ArgumentError
from ..nn import Conv1d, Conv2d, Linear, Module
from ..nn.features import Features
from ..ops.movement import cat
from ..tensor import Tensor


@dataclass
class LoadReport:
    """What `load_partial` did.

    matched: loaded as they are.  reshaped: loaded, after dimensions of size 1 came or went.  differing:
    name -> (shape here, shape there), left as they were.  missing: here, but not there.  unexpected:
    there, but not here.
    """

    matched: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    differing: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shapes = [f"{name} {here} and {there}" for name, (here, there) in self.differing.items()]
        lines = (
            ("matched", self.matched),
            ("reshaped", self.reshaped),
            ("differ in shape, left as they were", shapes),
            ("missing there, left as they were", self.missing),
            ("not used", self.unexpected),
        )
        return "\n".join(f"{len(names)} {what}: {', '.join(names)}" for what, names in lines if names)


def load_partial(
    model: Module,
    state: Mapping[str, Any] | str | os.PathLike[str],
    *,
    rename: Callable[[str], str | None] | None = None,
) -> LoadReport:
    """Load what fits of a state (or of a checkpoint file, whose "model" it may be) and report the rest.

    rename: the name here of a name there, None to leave it out.
    Raises ArgumentError if nothing at all fits, as that is a mistake and not a transfer.
    """
    source: Any = state
    if isinstance(state, (str, os.PathLike)):
        source = checkpoint.load(state)
        source = source["model"] if isinstance(source.get("model"), Mapping) else source
    given = {}
    for name, value in source.items():
        renamed = name if rename is None else rename(name)
        if renamed is not None:
            given[renamed] = value
    report = LoadReport()
    mine = model.state_dict()
    fitting: dict[str, Any] = {}
    for name, tensor in mine.items():
        if name not in given:
            report.missing.append(name)
            continue
        value = given[name]
        shape = tuple(np.shape(value.detach().numpy() if isinstance(value, Tensor) else value))
        if shape == tensor.shape:
            report.matched.append(name)
            fitting[name] = value
        elif _core(shape) == _core(tensor.shape):
            report.reshaped.append(name)
            array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
            fitting[name] = array.reshape(tensor.shape)
        else:
            report.differing[name] = (tensor.shape, shape)
    report.unexpected = [name for name in given if name not in mine]
    if not fitting:
        here, there = (", ".join(list(names)[:4]) or "nothing" for names in (mine, given))
        raise ArgumentError(
            "load_partial",
            f"nothing fits: here are {here}, there {there}",
            fix="check the model, or map the names with rename=",
        )
    model.load_state_dict(fitting, strict=False)
    return report


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def replace_head(model: Module, outputs: int, name: str | None = None) -> Module:
    """Put a new last layer with `outputs` outputs, freshly drawn, into a model; returns that layer.

    name: which layer, None for the last Linear or convolution.
    Raises ArgumentError if there is none, or if the named module is something else.
    """
    kinds = (Linear, Conv1d, Conv2d)
    places = {n: m for n, m in model.named_modules() if isinstance(m, kinds)}
    if name is None and places:
        name = list(places)[-1]
    if not name or name not in places:
        raise ArgumentError(
            "replace_head",
            f"{name!r} is no Linear or convolution" if name else "the model has no Linear or convolution",
            fix=f"name one of {', '.join(places)}" if places else "add a layer of your own instead",
        )
    old: Any = places[name]
    bias = old.bias is not None
    new: Module
    if isinstance(old, Linear):
        new = Linear(old.in_features, outputs, bias, dtype=old.weight.dtype)
    else:
        new = type(old)(
            old.in_channels,
            outputs,
            old.kernel_size,
            stride=old.stride,
            padding=old.padding,
            dilation=old.dilation,
            bias=bias,
            dtype=old.weight.dtype,
        )
    replace_module(model, name, new)
    return new


def replace_module(model: Module, name: str, new: Module) -> None:
    """Put a module in the place of another one."""
    parent, _, last = name.rpartition(".")
    owner: Any = model.get_submodule(parent) if parent else model
    new.train(model.training)
    if last.isdigit() and hasattr(owner, "__setitem__"):
        owner[int(last)] = new
    else:
        setattr(owner, last, new)


def extract(model: Module, inputs: Any, name: str, *, batch_size: int = 256) -> Tensor:
    """What module `name` gives for all inputs (n, ...), in evaluation mode, without gradients.

    Features that stay as they are need to be computed only once: a head can then be trained on them in
    a fraction of the time.  Raises ArgumentError for a name that the model does not have.
    """
    training = model.training
    model.eval()
    found = []
    with Features(model, [name]) as inside, no_grad():

        def layer(x: Tensor) -> Tensor:
            inside(x)
            return inside[name]

        run = compile(layer)
        try:
            for batch in DataLoader(inputs, batch_size=batch_size):
                found.append(run(batch[0] if isinstance(batch, (tuple, list)) else batch).detach())
        finally:
            model.train(training)
    return cat(found, 0)
