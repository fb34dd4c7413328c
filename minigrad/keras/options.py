"""Options: a word that is not known is an error that names the ones that are.

Keras has more options than this face of it, and two generations of names (`lr`, `learning_rate`).
An option that were silently ignored would give a wrong result with nothing to see, so every public
callable here refuses what it does not know.

    >>> @checked
    ... def adam(learning_rate=0.001, beta_1=0.9): ...
    >>> adam(lr=0.1)
    Traceback (most recent call last):
        ...
    minigrad.errors.ArgumentError: adam: there is no option 'lr' (at ...); it has: learning_rate, beta_1
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from ..errors import ArgumentError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def checked(function: F) -> F:
    """Decorator: unknown keyword arguments raise ArgumentError with the valid names."""
    parameters = inspect.signature(function).parameters
    names = [n for n, p in parameters.items() if n != "self" and p.kind != p.VAR_KEYWORD]
    if any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        return function
    known = frozenset(names)
    is_init = function.__name__ == "__init__"

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in known:
                label = type(args[0]).__name__ if is_init else function.__name__
                raise ArgumentError(label, f"there is no option {name!r}", fix=f"it has: {', '.join(names)}")
        if is_init and type(args[0]).__init__ is call:
            # what the object was made of, for those who make it again from a file
            given = dict(zip([n for n in parameters if n != "self"], args[1:], strict=False))
            object.__setattr__(args[0], "_given", {**given, **kwargs})
        return function(*args, **kwargs)

    return cast(F, call)


class Checked:
    """Base of classes whose constructors are `checked`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = checked(cls.__dict__["__init__"])  # type: ignore[method-assign]


def pick(what: str, name: Any, table: Mapping[str, T]) -> T:
    """The entry of this name (any case); ArgumentError with the valid names if there is none."""
    found = table.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        raise ArgumentError(what, f"there is no {what} {name!r}", fix=f"use one of {listed(table)}")
    return found


def rule(what: str, given: Any, table: Mapping[str, Callable[[], T]]) -> T | None:
    """What was given, or the entry of this name with its defaults; None stays None. A class is no rule."""
    if given is None:
        return None
    if isinstance(given, type):
        raise ArgumentError(what, f"it is the class {given.__name__}", fix=f"call it: {given.__name__}()")
    return given if callable(given) else pick(what, given, table)()


def listed(names: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(map(repr, names))
