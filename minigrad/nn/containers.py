"""Containers: modules whose parts are numbered or named.

>>> from minigrad import nn
>>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
>>> net[0], len(net[:2])
(Linear(in_features=4, out_features=8, bias=True), 2)
>>> list(net.state_dict())
['0.weight', '0.bias', '2.weight', '2.bias']
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from ..errors import ArgumentError, DTypeError, OutOfRangeError
from ..tensor import Tensor
from .module import Module, Parameter

S = TypeVar("S", bound="_Numbered")


class _Numbered(Module):
    """Parts under the names "0", "1", ..., or names of their own, in order."""

    def _parts(self) -> dict[str, Module]:
        return {name: value for name, value in self.__dict__.items() if isinstance(value, Module)}

    def _refill(self, modules: Iterable[Module]) -> None:
        """Number the parts anew."""
        for name in self._parts():
            delattr(self, name)
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def _name_at(self, index: int) -> str:
        names = list(self._parts())
        try:
            return names[index]
        except IndexError:
            raise OutOfRangeError(
                type(self).__name__,
                f"index {index} of {len(names)} modules",
                fix=f"use 0 to {len(names) - 1}",
            ) from None

    @overload
    def __getitem__(self: S, index: slice) -> S: ...

    @overload
    def __getitem__(self, index: int) -> Any: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = type(self)()
            for name in list(self._parts())[index]:
                part.add_module(name if isinstance(self, Sequential) else str(len(part)), getattr(self, name))
            return part
        return getattr(self, self._name_at(index))

    def __setitem__(self, index: int, module: Module) -> None:
        if not isinstance(module, Module):
            raise DTypeError(
                type(self).__name__, f"a {type(module).__name__} is no Module", fix="assign an nn.Module"
            )
        setattr(self, self._name_at(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._parts())
        gone = names[index] if isinstance(index, slice) else [self._name_at(index)]
        for name in gone:
            delattr(self, name)
        if all(name.isdigit() for name in names):
            self._refill(list(self._parts().values()))

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._parts().values())

    def __contains__(self, module: object) -> bool:
        return any(module is part for part in self)

    def append(self: S, module: Module) -> S:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self: S, modules: Iterable[Module]) -> S:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def insert(self: S, index: int, module: Module) -> S:
        """Add a module before position `index`."""
        parts = list(self._parts().values())
        parts.insert(index, module)
        self._refill(parts)
        return self


class Sequential(_Numbered):
    """Modules called one after the other: `Sequential(a, b)(x)` is `b(a(x))`.

    Takes modules, or one mapping (such as an OrderedDict) from names to modules.
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
            return
        if len(modules) == 1 and isinstance(modules[0], (list, tuple)):
            raise DTypeError("Sequential", "the modules are in a list", fix="write Sequential(*modules)")
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def forward(self, input: Any) -> Any:
        """Apply the modules in order."""
        for value in self.__dict__.values():
            if isinstance(value, Module):
                input = value(input)
        return input


class ModuleList(_Numbered):
    """A list of modules that belong to their owner; it cannot be called."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Raises ArgumentError."""
        raise ArgumentError(
            "ModuleList", "a list of modules cannot be called", fix="loop over it, or use Sequential"
        )


class _Named(Module):
    """What dictionaries of modules and of parameters share: attributes of one kind, in order."""

    kind: type
    noun: str

    def _parts(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if isinstance(value, self.kind)}

    def __getitem__(self, key: str) -> Any:
        parts = self._parts()
        if key not in parts:
            known = ", ".join(parts) or "none"
            raise ArgumentError(
                type(self).__name__, f"there is no {self.noun} {key!r}", fix=f"it has: {known}"
            )
        return parts[key]

    @abstractmethod
    def __setitem__(self, key: str, value: Any) -> None:
        """Add a part, or replace the one of that name."""

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts())

    def __contains__(self, key: object) -> bool:
        return key in self._parts()

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parts().keys()

    def values(self) -> Iterable[Any]:
        """What the names stand for."""
        return self._parts().values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and what they stand for."""
        return self._parts().items()

    def pop(self, key: str) -> Any:
        """Take one out and return it."""
        value = self[key]
        delattr(self, key)
        return value

    def clear(self) -> None:
        """Take all out."""
        for key in list(self._parts()):
            delattr(self, key)

    def update(self, parts: Any) -> None:
        """Add from a mapping or from pairs."""
        for key, value in parts.items() if isinstance(parts, Mapping) else parts:
            self[key] = value

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Raises ArgumentError."""
        raise ArgumentError(
            type(self).__name__,
            f"a dictionary of {self.noun}s cannot be called",
            fix="call or use its values",
        )


class ModuleDict(_Named):
    """A dictionary of modules that belong to their owner; it cannot be called."""

    kind, noun = Module, "module"

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)


class ParameterList(Module):
    """A list of parameters that belong to their owner; tensors are made parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        if values is not None:
            self.extend(values)

    def _parts(self) -> list[Parameter]:
        return [value for value in self.__dict__.values() if isinstance(value, Parameter)]

    def _at(self, index: int) -> str:
        size = len(self)
        if not -size <= index < size:
            raise OutOfRangeError("ParameterList", f"index {index} of {size}", fix=f"use 0 to {size - 1}")
        return str(index % size)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ParameterList(self._parts()[index])
        return getattr(self, self._at(index))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._at(index), _parameter("ParameterList", value))

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parts())

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end."""
        self.register_parameter(str(len(self)), _parameter("ParameterList", value))
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add parameters at the end."""
        for value in values:
            self.append(value)
        return self

    def extra_repr(self) -> str:
        """Their shapes."""
        return ", ".join(f"({i}): {p.dtype}{list(p.shape)}" for i, p in enumerate(self))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Raises ArgumentError."""
        raise ArgumentError("ParameterList", "a list of parameters cannot be called", fix="loop over it")


class ParameterDict(_Named):
    """A dictionary of parameters that belong to their owner; tensors are made parameters."""

    kind, noun = Parameter, "parameter"

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        if parameters is not None:
            self.update(parameters)

    def __setitem__(self, key: str, value: Any) -> None:
        parameter = _parameter("ParameterDict", value)
        if key in self._parts():
            setattr(self, key, parameter)
        else:
            self.register_parameter(key, parameter)


def _parameter(owner: str, value: Any) -> Parameter:
    if isinstance(value, Parameter):
        return value
    if not isinstance(value, Tensor):
        raise DTypeError(owner, f"a {type(value).__name__} is no tensor", fix="wrap it in nn.Parameter")
    return Parameter(value.detach())
