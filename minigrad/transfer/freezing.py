"""Which parameters learn, and how fast: by patterns of their names.

    >>> from minigrad import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3))
    >>> freeze(model, "0", "1")
    ['0.weight', '0.bias', '1.weight', '1.bias']
    >>> frozen(model) == ['0.weight', '0.bias', '1.weight', '1.bias']
    True
    >>> unfreeze(model, "1.*")
    ['1.weight', '1.bias']

A pattern is a name of a parameter or of a module (then all that is in it), or a shell pattern of either
(`*.bias`, `block[12].*`).  One that matches nothing is an error: a typing mistake would otherwise freeze
nothing, silently.

A batch norm all of whose parameters are frozen also keeps its running statistics, and uses them in
training: else the frozen layer would drift with the new data.

**Rates by depth** (Howard & Ruder 2018, section 3.2): the last layer learns at `lr`, the one before at
lr * decay, and so on; their value for language models is decay = 1 / 2.6.  **Gradual unfreezing** (section
3.3) begins with the last layer alone and lets one more go every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ..errors import ArgumentError
from ..nn import BatchNorm1d, BatchNorm2d, BatchNorm3d, Module
from ..nn.module import Parameter

_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)


def _matches(name: str, pattern: str) -> bool:
    """Whether a parameter's name, or one of the modules around it, matches."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:n]), pattern) for n in range(1, len(parts) + 1))


def select(op: str, model: Module, patterns: tuple[str, ...]) -> dict[str, Parameter]:
    """Parameters by name that match any of the patterns; none given: all.

    Raises ArgumentError for a pattern that matches nothing.
    """
    named = dict(model.named_parameters())
    if not patterns:
        return named
    chosen: dict[str, Parameter] = {}
    for pattern in patterns:
        found = {n: p for n, p in named.items() if _matches(n, pattern)}
        if not found:
            shown = ", ".join(list(named)[:8]) + (", ..." if len(named) > 8 else "")
            raise ArgumentError(
                op, f"{pattern!r} matches no parameter of {type(model).__name__}", fix=f"it has {shown}"
            )
        chosen |= found
    return {n: p for n, p in named.items() if n in chosen}


def freeze(model: Module, *patterns: str) -> list[str]:
    """Keep the matching parameters (without patterns: all) as they are; returns their names.

    Raises ArgumentError for a pattern that matches nothing.
    """
    return _set("freeze", model, patterns, False)


def unfreeze(model: Module, *patterns: str) -> list[str]:
    """Let the matching parameters (without patterns: all) learn again; returns their names.

    Raises ArgumentError for a pattern that matches nothing.
    """
    return _set("unfreeze", model, patterns, True)


def _set(op: str, model: Module, patterns: tuple[str, ...], learn: bool) -> list[str]:
    chosen = select(op, model, patterns)
    for parameter in chosen.values():
        parameter.requires_grad_(learn)
    for module in model.modules():
        if isinstance(module, _NORMS):
            _hold(module, not any(p.requires_grad for p in module.parameters(recurse=False)))
    return list(chosen)


def _hold(norm: Any, hold: bool) -> None:
    """Keep a batch norm in evaluation mode whatever the model is in, or stop that."""
    held = norm.__dict__.get("_held")
    if hold and held is None:
        norm.__dict__["_held"] = norm.register_forward_pre_hook(_evaluate)
    elif not hold and held is not None:
        held.remove()
        del norm.__dict__["_held"]


def _evaluate(module: Any, args: Any) -> None:
    module.eval()


def frozen(model: Module) -> list[str]:
    """Names of the parameters that do not learn."""
    return [name for name, p in model.named_parameters() if not p.requires_grad]


def _layers(model: Module) -> Iterator[tuple[str, Module]]:
    """The parts with parameters, from input to output: children, or theirs where there is only one."""
    children = [(n, c) for n, c in model.named_children() if any(True for _ in c.parameters())]
    if len(children) == 1 and any(True for _ in children[0][1].named_children()):
        name, child = children[0]
        yield from ((f"{name}.{n}", c) for n, c in _layers(child))
    else:
        yield from children


def parameter_groups(
    model: Module, lr: float, decay: float = 1.0, *, rates: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Groups for an optimizer, each with its learning rate; frozen parameters are left out.

    decay: the rate of each layer (child of the model) over that of the next one.  rates: pattern -> rate
    instead, the first that matches counts; all other parameters have `lr`.
    Raises ArgumentError for a pattern that matches nothing, and for a decay outside (0, 1].
    """
    if not 0 < decay <= 1:
        raise ArgumentError("parameter_groups", f"decay is {decay!r}", fix="pass a number in (0, 1]")
    of: dict[str, float] = {}
    if rates:
        for pattern, rate in rates.items():
            for name in select("parameter_groups", model, (pattern,)):
                of.setdefault(name, rate)
    else:
        layers = list(_layers(model))
        for depth, (prefix, layer) in enumerate(layers):
            for name, _ in layer.named_parameters():
                of[f"{prefix}.{name}"] = lr * decay ** (len(layers) - 1 - depth)
    groups: dict[float, list[Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(of.get(name, lr), []).append(parameter)
    if not groups:
        raise ArgumentError("parameter_groups", "every parameter is frozen", fix="unfreeze some")
    return [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]


class GradualUnfreezing:
    """A callback of `Trainer` (and of Keras's `fit`): one more layer learns every `every` epochs.

    It freezes all layers but the last when the first epoch begins.  The optimizer needs all parameters
    from the start: those that are frozen have no gradients and stay where they are.
    """

    model: Any = None
    params: dict[str, Any]

    def __init__(self, every: int = 1) -> None:
        if isinstance(every, bool) or every < 1:
            raise ArgumentError("GradualUnfreezing", f"every is {every!r}", fix="pass at least 1")
        self.every = every

    def on_epoch_begin(self, epoch: int, logs: Any) -> None:
        """Let the layers of this epoch learn."""
        names = [name for name, _ in _layers(self.model)]
        learn = 1 + epoch // self.every
        freeze(self.model)
        unfreeze(self.model, *names[-learn:])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *args: None
        raise AttributeError(name)
