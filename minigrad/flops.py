"""How many floating point operations an operation takes: read from its record.

A formula counts each of its steps once for every element of the result; a record may say it itself (the
trait `flops`); a reduction takes one for each element that it reads; what only moves takes none.

    >>> from minigrad.ops import OPS
    >>> from minigrad.ir import Spec, float32
    >>> x = Spec((10,), float32)
    >>> flops(OPS["silu"], [x], x, ())                     # 1 + exp(-x), and a division: 4 steps
    40
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Sequence
from typing import Any

from .formula import Formula
from .ir import Spec
from .record import Op


@functools.cache
def _steps(formula: Formula) -> int:
    counted = (ast.BinOp, ast.Compare, ast.Call, ast.UnaryOp)
    return sum(isinstance(node, counted) for node in ast.walk(formula.tree))


def flops(op: Op, specs: Sequence[Spec], spec: Spec, attrs: Sequence[Any]) -> int:
    """Floating point operations of `op` on inputs of these specs, with a result of `spec`."""
    count = op.traits.get("flops")
    if count is not None:
        return int(count(*specs, spec, *attrs))
    if op.kind == "elementwise":
        each = 1 if op.formula is None else _steps(op.formula)
        return each * math.prod(spec.shape) if spec.dtype.kind == "f" else 0
    if op.kind in ("reduction", "scan") and specs:
        return math.prod(specs[0].shape)
    return 0
