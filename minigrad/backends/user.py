"""Users' own kernels: a faster function for an operation, or one to try out.

A kernel is any function `(*arrays, *attrs) -> array` of numpy arrays; often one that numba compiled.
Registered for an operation on a backend, it runs wherever that operation runs there: in a forward
pass, in a derivative rule, in a traced program.

    >>> import numpy as np
    >>> import minigrad as mg
    >>> def halves(x):                   # with numba: @numba.njit(parallel=True), and loops inside
    ...     return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1.0))
    >>> with register_kernel("sigmoid", halves):
    ...     mg.sigmoid(mg.tensor([0.0, 1.0]))
    tensor([0.5   , 0.7311])

A wrong kernel must not become a wrong number further on.  What it returns is compared with the
operation's shape rule, and may not share memory with an input; both are looked at when a
combination of shapes, dtypes and attributes is new, and shape and dtype again at every call, which
costs about a microsecond.

    >>> with register_kernel("sigmoid", lambda x: x.astype(np.float64)):
    ...     mg.sigmoid(mg.ones(3))
    Traceback (most recent call last):
        ...
    minigrad.errors.DTypeError: sigmoid: the kernel '<lambda>' registered for it returned float64[3] ...

What is not checked is whether the values are right: that is what `tests/laws` does for a backend.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, Error, Refusal, ShapeError
from ..ir import Spec
from ..mode import current
from ..record import OPS, Op
from . import Backend, Kernel, get_backend

_ndarray = np.ndarray

#: How many combinations a registered kernel remembers.
MEMORY = 1024


class Checked:
    """A user's kernel that is held to the shape rule of its operation."""

    def __init__(self, op: Op, kernel: Callable[..., Any]) -> None:
        self.op = op
        self.kernel = kernel
        self.name = getattr(kernel, "__name__", type(kernel).__name__)
        self.known: dict[Any, Spec] = {}

    def __call__(self, *args: Any) -> Any:
        # Arrays come first, whose shape and dtype matter; an attribute is its own key, with its
        # type, as 1 and 1.0 are equal.
        key = tuple((x.shape, x.dtype) if type(x) is _ndarray else (x, type(x)) for x in args)
        spec = self.known.get(key)
        if spec is None:
            return self._first(key, args)
        y = self.kernel(*args)
        if type(y) is not _ndarray or y.shape != spec.shape or y.dtype != spec.dtype:
            y = self._compare(y, spec, args)
        return y

    def _first(self, key: Any, args: tuple[Any, ...]) -> Any:
        """The first call with these shapes, dtypes and attributes: look at everything."""
        arrays = args[: len(args) - len(self.op.attrs)]
        spec = self.op.infer([Spec(x.shape, x.dtype) for x in arrays], args[len(arrays) :])
        try:
            y = self.kernel(*args)
        except (Error, Refusal):
            raise
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            raise ArgumentError(
                self.op.name,
                f"the kernel {self.name!r} registered for it failed on {self._given(arrays)}: "
                f"{type(error).__name__}: {reason}",
                fix="make it accept these arrays, or unregister it",
            ) from error
        y = self._compare(y, spec, args)
        if not self.op.view and any(np.may_share_memory(x, y) for x in arrays if x.size):
            raise ArgumentError(
                self.op.name,
                f"the kernel {self.name!r} registered for it returned memory of its input",
                fix="return a new array",
            )
        if len(self.known) >= MEMORY:
            self.known.clear()
        self.known[key] = spec
        return y

    def _compare(self, y: Any, spec: Spec, args: tuple[Any, ...]) -> Any:
        """What the kernel returned, as an array; raises if that is not what the shape rule says."""
        arrays = args[: len(args) - len(self.op.attrs)]
        if not isinstance(y, (np.ndarray, np.generic)):
            raise DTypeError(
                self.op.name,
                f"the kernel {self.name!r} registered for it returned a {type(y).__name__}",
                fix="return a numpy array",
            )
        y = np.asarray(y)
        got = Spec(y.shape, y.dtype)
        if got != spec:
            wrong = ShapeError if got.shape != spec.shape else DTypeError
            raise wrong(
                self.op.name,
                f"the kernel {self.name!r} registered for it returned {got} for {self._given(arrays)}",
                fix=f"it must return {spec}",
            )
        return y

    def _given(self, arrays: tuple[Any, ...]) -> str:
        return " and ".join(str(Spec(x.shape, x.dtype)) for x in arrays) or "no tensors"


class Registration:
    """A kernel in the table of a backend, until `unregister()` or the end of a `with` block."""

    def __init__(self, backend: Backend, op: Op, kernel: Kernel) -> None:
        self.backend, self.op, self.kernel = backend, op, Checked(op, kernel)
        _stack(self).append(self)
        backend[op] = self.kernel
        backend.generation += 1

    def unregister(self) -> None:
        """Give the operation back the kernel it had before; in any order, and twice is once."""
        stack = _stack(self)
        if self not in stack:
            return
        stack.remove(self)
        self.backend.generation += 1
        if stack:
            self.backend[self.op] = stack[-1].kernel
        else:
            self.backend.pop(self.op, None)  # found again when it is next needed

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *exc: object) -> None:
        self.unregister()

    def __repr__(self) -> str:
        return f"<kernel {self.kernel.name!r} for {self.op.name} on {self.backend.name}>"


#: What is registered, latest last.
_registered: dict[tuple[int, Op], list[Registration]] = {}


def _stack(registration: Registration) -> list[Registration]:
    return _registered.setdefault((id(registration.backend), registration.op), [])


def register_kernel(op_name: str, kernel: Callable[..., Any], backend: str | None = None) -> Registration:
    """Use `kernel` for an operation from now on, on a backend (the one in use here, if not given).

    kernel: `(*arrays, *attrs) -> array`, with the inputs and attributes in the order of the
    operation's record; it must neither change nor return an input.  With several threads in the
    program it may be called from all of them.

    Returns a handle: `.unregister()` undoes it, and so does the end of a `with` block.

        @numba.njit
        def relu(x):
            y = np.empty_like(x)
            for i in range(x.size):
                y.flat[i] = max(x.flat[i], 0)
            return y

        mg.register_kernel("relu", relu, backend="numba")

    Raises ArgumentError for an operation or a backend that does not exist.  A kernel that returns
    another shape or dtype than the operation's rule is an error in the call that ran it.
    """
    op = OPS.get(op_name) if isinstance(op_name, str) else None
    if op is None:
        near = difflib.get_close_matches(str(op_name), OPS, 1)
        fix = f"did you mean {near[0]!r}?" if near else "minigrad.ops.OPS has them all"
        raise ArgumentError("register_kernel", f"there is no operation {op_name!r}", fix=fix)
    if not callable(kernel):
        raise ArgumentError(
            "register_kernel", f"the kernel is a {type(kernel).__name__}", fix="pass a function of arrays"
        )
    return Registration(current().backend if backend is None else get_backend(backend), op, kernel)
