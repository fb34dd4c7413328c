"""Backends: tables of kernels, with numpy as the fallback.

A backend maps an operation's record to the function that computes it on arrays.  What a table
lacks it takes from the record's own numpy kernel, once, so a look-up is a single dictionary
access and a new operation works on every backend the moment its record exists.

    >>> import minigrad as mg
    >>> with mg.backend("numpy"):
    ...     mg.tensor([1.0, 2.0]) + 1.0
    tensor([2., 3.])

The default is "c" where the compiled extension is present and "numpy" otherwise;
`MINIGRAD_BACKEND` chooses another.  "numba" is imported when it is first chosen.  A user's own
kernel enters the table of a backend through `register_kernel`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ArgumentError, MissingExtraError
from ..mode import Switch, set_default_backend
from ..philox import philox
from ..record import Op
from . import c as _c

Kernel = Callable[..., Any]


class Backend(dict[Op, Kernel]):
    """record -> kernel; what is missing comes from the record.

    make: given a record, a kernel of this backend for it or None; asked where the table has none.
    stepper: given arrays of parameters and of their optimizer's state, lists of one length, what steps
    them all in one call, or None where it cannot (see `backends.update.prepare`).
    """

    def __init__(
        self,
        name: str,
        kernels: Mapping[str, Kernel],
        make: Callable[[Op], Kernel | None] = lambda op: None,
        stepper: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.make = make
        self.stepper = stepper
        self.kernels = dict(kernels)  # by name, as records may be registered later
        #: How often a user's kernel, or a default, changed: programs of another generation are compiled anew.
        self.generation = 0
        #: (seed, offset, count) -> uint32 words; what all random operations draw from
        self.random_bits: Kernel = self.kernels.get("random_bits", philox)

    def __missing__(self, op: Op) -> Kernel:
        kernel = self[op] = self.kernels.get(op.name) or self.make(op) or op.kernel
        return kernel


_BACKENDS: dict[str, Backend] = {"numpy": Backend("numpy", {})}


def forget_programs() -> None:
    """Make every compiled function trace anew: something that programs have as a constant has changed."""
    for known in _BACKENDS.values():
        known.generation += 1


#: Why a backend that exists in principle cannot be used here.
_UNAVAILABLE: dict[str, str] = {}


def _make_c(op: Op) -> Kernel | None:
    """The C kernel of an operation: one of its own, its numpy kernel with C for what is large, or its
    formula on the tile machine.  The modules are imported when the first operation runs."""
    from . import conv, elementwise, quantized, reduce, sparse

    for kernels in (reduce.KERNELS, conv.KERNELS, sparse.KERNELS, quantized.KERNELS):
        if op.name in kernels:
            return kernels[op.name]
    wrapper = reduce.WRAPPERS.get(op.name) or sparse.WRAPPERS.get(op.name)
    return wrapper(op.kernel) if wrapper else elementwise.kernel(op)


def _stepper_c(*arrays: Any) -> Any:
    """`backends.update.prepare`; the module is imported when the first optimizer steps."""
    from . import update

    return update.prepare(*arrays)


if _c.available:
    _BACKENDS["c"] = Backend("c", _c.KERNELS, _make_c, _stepper_c)
else:
    _UNAVAILABLE["c"] = _c.reason

#: The Numba backend's module, once it has been chosen.
_numba: Any = None


def _load_numba() -> Backend:
    """The Numba backend; this is where numba is imported."""
    global _numba
    try:
        _numba = importlib.import_module(".numba", __name__)
    except ImportError as error:
        why = "numba is not installed" if error.name == "numba" else f"numba cannot be imported: {error}"
        raise MissingExtraError("backend", why, fix="pip install minigrad[numba]") from None
    if _c.available:
        _numba.set_num_threads(_c.num_threads())
    return Backend("numba", {}, _numba.make)


#: Backends that are imported when they are first chosen: name -> (loader, the library they need).
_LAZY: dict[str, tuple[Callable[[], Backend], str]] = {"numba": (_load_numba, "numba")}


def backends() -> tuple[str, ...]:
    """Names of the backends that can be used here; this imports none of them."""
    lazy = (name for name, (_, needs) in _LAZY.items() if importlib.util.find_spec(needs) is not None)
    return tuple(dict.fromkeys((*_BACKENDS, *lazy)))


def get_backend(name: str) -> Backend:
    """The backend of this name; ArgumentError with the valid names if there is none.

    Raises MissingExtraError, with the line that installs it, if it needs a library that is missing.
    """
    found = _BACKENDS.get(name)
    if found is None and name in _LAZY:
        found = _BACKENDS[name] = _LAZY[name][0]()
    if found is None:
        why = f" ({_UNAVAILABLE[name]})" if name in _UNAVAILABLE else ""
        raise ArgumentError(
            "backend", f"{name!r} is not available{why}", fix=f"use one of {', '.join(backends())}"
        )
    return found


def backend(name: str) -> Switch:
    """Context manager and decorator: run on this backend, in this thread."""
    return Switch(backend=get_backend(name))


def _choose() -> tuple[Backend, str]:
    wanted = os.environ.get("MINIGRAD_BACKEND", "").strip()
    if wanted:
        return get_backend(wanted), "MINIGRAD_BACKEND"
    if "c" in _BACKENDS:
        return _BACKENDS["c"], "the compiled extension is present"
    return _BACKENDS["numpy"], _UNAVAILABLE["c"]


def config() -> dict[str, str]:
    """What `show_config` prints: each choice and its reason."""
    facts = {"backend": f"{_chosen.name} ({_why})", "backends": ", ".join(backends())}
    if _c.available:
        facts["isa"] = f"{_c.isa()} (of {', '.join(_c.isas())}; MINIGRAD_ISA overrides)"
        facts["int8"] = f"{_c.dot()} (of {', '.join(_c.dots())}; MINIGRAD_ISA={_c.isa()}:plain overrides)"
        facts["threads"] = f"{_c.num_threads()} (MINIGRAD_NUM_THREADS overrides)"
    else:
        facts["isa"] = f"none ({_c.reason})"
        facts["threads"] = "numpy's own"
    return facts


def set_num_threads(count: int) -> None:
    """How many threads the C and Numba kernels may use.  Raises ArgumentError unless it is at least 1."""
    if not isinstance(count, int) or count < 1:
        raise ArgumentError("set_num_threads", f"{count!r} threads", fix="pass an integer of at least 1")
    if _c.available:
        _c.set_num_threads(count)
    if _numba is not None:
        _numba.set_num_threads(count)


def get_num_threads() -> int:
    """How many threads the C and Numba kernels may use; 1 without them."""
    if _c.available:
        return _c.num_threads()
    return int(_numba.num_threads()) if _numba is not None else 1


_chosen, _why = _choose()
set_default_backend(_chosen)
