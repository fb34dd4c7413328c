"""Elementwise operations in C: any record with a formula, by the tile machine.

`kernel(record)` gives the function that the C backend uses for a record.  Small arrays stay on
numpy, as do integers and mixed dtypes: `CROSSOVER` says from how many elements on C pays, measured
with `python benchmarks/bench_crossover.py`.

    >>> import numpy as np
    >>> from minigrad.ops import OPS
    >>> y = kernel(OPS["sigmoid"])(np.zeros(100_000, np.float32))
    >>> float(y[0]), y.dtype
    (0.5, dtype('float32'))
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from ..record import Op
from . import c as _c
from .tile import Compiled, Unsupported, compile_formula

Array = Any

#: Elements below which numpy is quicker than the call into C; `benchmarks/bench_crossover.py` measures it.
CROSSOVER = {
    "arithmetic": 1 << 20,  # one quick step: numpy is as good until threads pay
    "composed": 4096,  # one or two quick steps, for which numpy has no function (relu)
    "function": 1 << 20,  # log, tanh and their like, which numpy has vectorised well
    "exp": 8192,
    "formula": 256,  # several steps: numpy goes over memory once for each
    "erf": 1,  # numpy has none
    "sum": 2048,
    "extreme": 512,
    "position": 1,
    "softmax": 1,
    "cross_entropy": 1,
    "standardize": 1,
    "rows": 1,  # elements picked by index
}

_QUICK = frozenset(
    [
        "NEG",
        "ABS",
        "SIGN",
        "SQUARE",
        "FLOOR",
        "CEIL",
        "RINT",
        "TRUNC",
        "ISNAN",
        "ISFINITE",
        "NOT",
        "ADD",
        "SUB",
        "MUL",
        "DIV",
        "MAX",
        "MIN",
        "LT",
        "LE",
        "EQ",
        "NE",
        "AND",
        "OR",
        "WHERE",
        "SQRT",
        "ADD_K",
        "MUL_K",
        "RSUB_K",
        "DIV_K",
        "RDIV_K",
        "MAX_K",
        "MIN_K",
        "LT_K",
        "LE_K",
        "GT_K",
        "GE_K",
        "EQ_K",
        "NE_K",
        "COPY",
        "CONST",
    ]
)
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_BOOL = np.dtype(np.bool_)


def _family(op: Op, program: Compiled) -> str:
    """The entry of `CROSSOVER` for an operation."""
    steps = {step[0] for step in program.code}
    if "ERF" in steps:
        return "erf"
    if len(program.code) <= 2 and steps <= _QUICK:
        return "composed" if isinstance(op.kernel, FunctionType) else "arithmetic"
    if isinstance(op.kernel, FunctionType):
        return "formula"
    return "exp" if steps == {"EXP"} else "function"


def kernel(op: Op) -> Callable[..., Array] | None:
    """The function `(*arrays, *attrs) -> array` for a record; None if the tile machine cannot run it."""
    if not _c.available or op.formula is None or op.kind != "elementwise":
        return None
    formula, names, attrs, fallback = op.formula, op.inputs, op.attrs, op.kernel
    bools = ("condition",) if op.name == "where" else ()
    try:
        sample = compile_formula(formula, _FLOATS[0], names, bools=bools, numbers=dict.fromkeys(attrs, 1.5))
    except Unsupported:
        return None
    crossover = CROSSOVER[_family(op, sample)]
    programs: dict[Any, Compiled] = {}
    flat: dict[Any, Compiled] = {}  # by dtype, without attributes and bools: for the short cut below
    last = len(names) - 1

    def general(arrays: tuple[Array, ...], values: tuple[Any, ...]) -> Array:
        """Large arrays: run the program for this dtype and these numbers."""
        dtype = arrays[last].dtype
        if dtype not in _FLOATS or any(type(v) not in (int, float) for v in values):
            return fallback(*arrays, *values)
        for name, x in zip(names, arrays, strict=True):
            if x.dtype != (_BOOL if name in bools else dtype):
                return fallback(*arrays, *values)
        key = (dtype, values)
        program = programs.get(key)
        if program is None:
            numbers = {name: float(v) for name, v in zip(attrs, values, strict=True)}
            program = compile_formula(formula, dtype, names, bools=bools, numbers=numbers)
            if len(programs) < 64:
                programs[key] = program
                if not (attrs or bools):
                    flat[dtype] = program
        return program(*arrays)

    def with_attrs(*args: Any) -> Array:
        if args[0].size < crossover:
            return fallback(*args)
        return general(args[: last + 1], args[last + 1 :])

    def unary(x: Array) -> Array:
        if x.size < crossover:
            return fallback(x)
        program = flat.get(x.dtype)
        if program is None or not x.flags.carray or not x.size:
            return general((x,), ())
        return program.flat(x)

    def binary(x: Array, y: Array) -> Array:
        if x.size < crossover and y.size < crossover:
            return fallback(x, y)
        program = flat.get(x.dtype)
        if (
            program is None
            or x.shape != y.shape
            or y.dtype != x.dtype
            or not (x.flags.carray and y.flags.carray and x.size)
        ):
            return general((x, y), ())
        return program.flat(x, y)

    def any_number(*args: Any) -> Array:
        return fallback(*args) if max(x.size for x in args) < crossover else general(args, ())

    if attrs:
        return with_attrs
    return (unary, binary)[last] if last < 2 else any_number
