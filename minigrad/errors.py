"""Errors that say what to do.

Every error of the library is one sentence with four parts: the operation, what was given (shapes
or values), the line of the *user's* program, and the likely fix.

    >>> raise ShapeError("add", "shapes (3,) and (4,) do not broadcast", fix="make the sizes equal")
    Traceback (most recent call last):
        ...
    minigrad.errors.ShapeError: add: shapes (3,) and (4,) do not broadcast (at ...); make the sizes equal

The classes derive from the built-in exceptions a Python programmer would expect, so that
`except ValueError` works as it does with numpy, and from `Error`, so that everything that comes
from here can be caught at once.

A frame belongs to the user when its module is not part of this package.  Frames themselves are
never kept, as that would keep every local variable alive: a location is a code object and an
instruction offset, turned into "file:line" only when somebody asks.
"""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType, FrameType

_ROOT = __name__.partition(".")[0]

#: A place in a program: code object and instruction offset.  Cheap to take, resolved on demand.
Where = tuple[CodeType, int]


class _Ours(dict[str | None, bool]):
    """package name -> whether it is part of this library; each name is judged once."""

    def __missing__(self, package: str | None) -> bool:
        ours = self[package] = package is not None and (package == _ROOT or package.startswith(_ROOT + "."))
        return ours


OURS = _Ours()


def user_frame(frame: FrameType | None) -> FrameType | None:
    """The nearest frame, outwards from `frame`, that is not this library's."""
    while frame is not None and OURS[frame.f_globals.get("__package__")]:
        frame = frame.f_back
    return frame


def here() -> Where | None:
    """The line of the user's program that is running now; None where only Python itself has called us."""
    frame = user_frame(sys._getframe(1))
    if frame is None or frame.f_code.co_filename.startswith("<frozen "):  # python -m minigrad...
        return None
    return (frame.f_code, frame.f_lasti)


def raised_at(error: BaseException) -> Where | None:
    """The innermost line of the user's program in the traceback of an error."""
    where, frames = None, error.__traceback__
    while frames is not None:
        code, package = frames.tb_frame.f_code, frames.tb_frame.f_globals.get("__package__")
        if not OURS[package] and not code.co_filename.startswith("<"):
            where = code, frames.tb_lasti
        frames = frames.tb_next
    return where


def line_of(where: Where | None) -> tuple[str, int]:
    """File name and line number of a place; ("?", 0) if it is not known."""
    if where is None:
        return "?", 0
    code, offset = where
    number = code.co_firstlineno
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            number = line
    return code.co_filename, number


def short_line(where: Where | None) -> str:
    """'train.py:12', or '' if the place is not known."""
    name, number = line_of(where)
    return f"{os.path.basename(name)}:{number}" if number else ""


def describe(where: Where | None) -> str:
    """'train.py:12 `y = x + w`', or 'an unknown line'."""
    name, number = line_of(where)
    if not number:
        return "an unknown line"
    source = linecache.getline(name, number).strip()
    if len(source) > 100:  # a message stays one sentence
        source = source[:97] + "..."
    return f"{short_line(where)} `{source}`" if source else short_line(where)


class Error(Exception):
    """Base of all errors of this library: `op: problem (at line); fix`."""

    def __init__(self, op: str, problem: str, *, fix: str = "", where: Where | None = None) -> None:
        self.op, self.problem, self.fix = op, problem, fix
        self.where = where or here()
        place = f" (at {describe(self.where)})" if self.where else ""
        super().__init__(f"{op}: {problem}{place}" + (f"; {fix}" if fix else ""))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.op, self.problem, self.fix, str(self))


def notice(op: str, problem: str, fix: str) -> None:
    """Warn of what is legal and hardly meant, in the form of an error; Python shows it once a line."""
    import warnings

    frame = user_frame(sys._getframe(1))
    where = None if frame is None else (frame.f_code, frame.f_lasti)
    name, number = line_of(where)
    place = f" (at {describe(where)})" if where else ""
    seen = None if frame is None else frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(f"{op}: {problem}{place}; {fix}", UserWarning, name, number, registry=seen)


def _rebuild(cls: type[Error], op: str, problem: str, fix: str, message: str) -> Error:
    """An error that crossed a process boundary: a place in a program does not, its text does."""
    error = cls.__new__(cls, message)
    error.op, error.problem, error.fix, error.where = op, problem, fix, None
    error.args = (message,)
    return error


class Refusal(ValueError):
    """Raised by a shape rule or a kernel, which do not know for which call they were asked.

    Whoever called turns it into the `Error` of class `kind` that names the op, the shapes and the
    user's line.
    """

    def __init__(self, problem: str, fix: str = "", kind: type[Error] | None = None) -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix
        self.kind: type[Error] = kind or ShapeError


class ShapeError(Error, ValueError):
    """Shapes that do not fit each other or the operation."""


class DTypeError(Error, TypeError):
    """Dtypes or Python types that the operation cannot take."""


class ArgumentError(Error, ValueError):
    """A value outside what the operation accepts."""


class OutOfRangeError(Error, IndexError):
    """An index or a dimension that does not exist."""


class GradientError(Error, RuntimeError):
    """A gradient that cannot be computed as asked."""


class TraceError(Error, RuntimeError):
    """A program that cannot be recorded as a graph."""


class AnomalyError(Error, ArithmeticError):
    """The first NaN or Inf, found by `autograd.detect_anomaly`."""


class MissingExtraError(Error, ImportError):
    """An optional library is needed and not installed; the message has the install line."""
