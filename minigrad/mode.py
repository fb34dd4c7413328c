"""What the current thread is doing: tracing, on which backend, recording gradients or not.

These are the only mutable slots of the engine.  They live together in one immutable `Mode`, held
by a context variable, so that the hot path reads them with a single look-up, every thread starts
with the defaults, and a context manager restores exactly what it found:

    >>> with no_grad():
    ...     current().grad
    False
    >>> current().grad
    True

Each switch is a context manager and a decorator, as in PyTorch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Mode:
    """One combination of the switches; never changed after it was made."""

    __slots__ = ("anomaly", "backend", "grad", "inference", "plain", "trace")

    def __init__(
        self,
        backend: Any = None,
        trace: Any = None,
        grad: bool = True,
        inference: bool = False,
        anomaly: bool = False,
    ) -> None:
        self.backend = backend  # op -> kernel
        self.trace = trace  # the active trace or None
        self.grad = grad  # record the tape
        self.inference = inference
        self.anomaly = anomaly  # look for the first NaN or Inf
        self.plain = trace is None and not anomaly  # the fast path

    def but(self, **changes: Any) -> Mode:
        """This mode with some switches changed."""
        settings = {
            "backend": self.backend,
            "trace": self.trace,
            "grad": self.grad,
            "inference": self.inference,
            "anomaly": self.anomaly,
        }
        return Mode(**{**settings, **changes})

    def same(self, other: Mode) -> bool:
        """Whether all switches are as in another mode: each `with no_grad()` makes a mode of its own."""
        return (
            self.backend is other.backend
            and self.trace is other.trace
            and self.grad == other.grad
            and self.inference == other.inference
            and self.anomaly == other.anomaly
        )


_default = Mode()
_mode: ContextVar[Mode] = ContextVar("minigrad_mode", default=_default)

current = _mode.get


def set_default_backend(backend: Any) -> None:
    """The backend of every thread that has not chosen one."""
    _default.backend = backend


@contextmanager
def using(mode: Mode) -> Iterator[None]:
    """Run a block in this mode."""
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


class Switch:
    """A context manager and decorator that changes some switches; may be nested and reused."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self._tokens: list[Token[Mode]] = []

    def __enter__(self) -> Switch:
        self._tokens.append(_mode.set(_mode.get().but(**self._changes)))
        return self

    def __exit__(self, *exc: object) -> None:
        _mode.reset(self._tokens.pop())

    def __call__(self, function: F) -> F:
        changes = self._changes

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with Switch(**changes):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class no_grad(Switch):
    """Record nothing inside: results do not require grad."""

    def __new__(cls, function: Any = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        super().__init__(grad=False)


class enable_grad(Switch):
    """Record again, inside a `no_grad` block."""

    def __init__(self) -> None:
        super().__init__(grad=True, inference=False)


class Setter(Switch):
    """A switch that takes effect at once, as a statement; a `with` block restores what was before."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self._before = _mode.set(_mode.get().but(**changes))
        self._entered = False

    def __enter__(self) -> Setter:
        if self._entered:
            super().__enter__()
        else:
            self._entered = True
            self._tokens.append(self._before)
        return self

    def __call__(self, function: F) -> F:
        _mode.reset(self._before)  # only the function is to run like this
        return super().__call__(function)


class set_grad_enabled(Setter):
    """Record or not, by a flag: from here on, in a `with` block, or in a decorated function."""

    def __init__(self, mode: bool) -> None:
        super().__init__(grad=bool(mode))


class inference_mode(Switch):
    """`no_grad`, said of a block that will never need gradients of its results."""

    def __init__(self, mode: bool = True) -> None:
        if mode:
            super().__init__(grad=False, inference=True)
        else:
            super().__init__()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return current().grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return current().inference
