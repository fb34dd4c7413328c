"""The dtype of a result beside PyTorch's: functions of two operands, every pair of dtypes, numbers too."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad.ir import DTYPES

torch = pytest.importorskip("torch")

FUNCTIONS = {
    name: lambda m, x, y, name=name: getattr(m, name)(x, y)
    for name in [
        "add",
        "sub",
        "mul",
        "div",
        "floor_divide",
        "remainder",
        "fmod",
        "pow",
        "maximum",
        "minimum",
        "atan2",
        "hypot",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "xlogy",
        "logical_and",
        "logical_or",
        "logical_xor",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "logaddexp",
    ]
} | {
    "where": lambda m, x, y: m.where(m.tensor([True, False]), x, y),
    "lerp": lambda m, x, y: m.lerp(x, y, 0.5),
    "true_divide": lambda m, x, y: x / y,
    "floor": lambda m, x, y: m.div(x, y, rounding_mode="floor"),
    "trunc": lambda m, x, y: m.div(x, y, rounding_mode="trunc"),
    "clamp": lambda m, x, y: m.clamp(x, y),
}

#: Where PyTorch gives an error and minigrad a result.
MORE = {
    "sub": "bools count as 0 and 1 beside numbers",
    "lerp": "operands of several dtypes are promoted",
    "hypot": "integers become float32",
    "logaddexp": "integers become float32",
    "clamp": "a bool beside bools",
} | dict.fromkeys(
    ["maximum", "minimum", "atan2", "logical_and", "logical_or", "logical_xor"], "numbers are operands, too"
)
#: The other way round: bools have no power.
LESS = {("pow", "bool", True)}


def dtype_of(call):
    try:
        return str(call().dtype).removeprefix("torch.")
    except (TypeError, RuntimeError, ValueError, NotImplementedError):
        return "refused"


def operands(m, a, b, shape):
    make = mg.tensor if m is mg else torch.tensor
    return make(np.ones(2, a)), b if shape is None else make(np.ones(shape, b))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_pair(name):
    differences, computed = [], 0
    for a, b in itertools.product(DTYPES, [*DTYPES, 2, 2.0, True]):
        for shape in ((2,), ()) if isinstance(b, str) else (None,):
            got, wanted = (
                dtype_of(functools.partial(FUNCTIONS[name], m, *operands(m, a, b, shape)))
                for m in (mg, torch)
            )
            computed += got != "refused" != wanted
            if got != wanted and not (wanted == "refused" and name in MORE) and (name, a, b) not in LESS:
                differences.append((a, b, shape, got, wanted))
    assert not differences
    assert computed  # a misspelt call would be refused by both
