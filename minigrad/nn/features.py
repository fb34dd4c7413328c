"""Layers inside a model: what they gave in the last call, by name.

    >>> from minigrad import nn
    >>> import minigrad as mg
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> inside = Features(model, ["1"])
    >>> scores = inside(mg.ones(5, 3))
    >>> inside["1"].shape
    (5, 4)

Hooks read them as they pass, so any module with a name can be looked at and the model stays as it is;
`close` (or the end of a `with` block) takes the hooks off again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import ArgumentError, DTypeError
from ..tensor import Tensor
from .module import Module


class Features:
    """Call `model` and keep the outputs of its modules `names`.

    Raises ArgumentError for a name that the model does not have, with those that it has.
    """

    def __init__(self, model: Module, names: Iterable[str]) -> None:
        self.model = model
        self.names = tuple(dict.fromkeys(names))
        self._found: dict[str, Tensor] = {}
        modules = dict(model.named_modules())
        for name in self.names:
            if name not in modules:
                has = ", ".join(repr(n) for n in list(modules)[1:13])
                raise ArgumentError(
                    "Features",
                    f"{type(model).__name__} has no module {name!r}",
                    fix=f"it has {has}{', ...' if len(modules) > 13 else ''}",
                )
        self._hooks = [modules[name].register_forward_hook(self._reader(name)) for name in self.names]

    def _reader(self, name: str) -> Any:
        def read(module: Module, args: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise DTypeError(
                    "Features",
                    f"module {name!r} gives a {type(output).__name__}",
                    fix="choose one that gives a tensor",
                )
            self._found[name] = output

        return read

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The output of the model; its layers are then in `self[name]`."""
        self._found.clear()
        return self.model(*args, **kwargs)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._found:
            raise ArgumentError(
                "Features",
                f"{name!r} gave nothing in the last call",
                fix=f"names are {', '.join(self.names)}",
            )
        return self._found[name]

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> Features:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
