"""Instructions on the edges of graphs: sparse products, sums, maxima and softmax over neighbours.

The pattern of a matrix is an attribute of its operation and never changes, so its addresses go right into the
descriptor of the instruction; the program keeps the pattern alive.

The kernels pick whole rows of x, so a transposed x (the weight of a linear map, when its input is sparse) is
first copied row by row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import c as _c
from ..backends.pattern import Pattern
from ..backends.tile import Unsupported
from ..ir import Graph, Node
from .lower import WORKSPACE, Assembler, rule
from .places import Place, row_major

_TYPE = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}


def _pattern(asm: Assembler, p: Pattern) -> Any:
    """The descriptor of a pattern; its arrays live as long as the program."""
    made = asm.new("struct mg_pattern *")
    made.rows = p.shape[0]
    for name, array in (("starts", p.starts), ("index", p.index)):
        pointer = _c.ffi.from_buffer("int32_t[]", array)
        asm.keep.append((pointer, p))
        setattr(made, name, pointer)
    return made


def _type(node: Node) -> int:
    kind = _TYPE.get(node.spec.dtype)
    if kind is None:
        raise Unsupported(f"values of {node.spec.dtype}")
    return kind


def _room_for_rows(graph: Graph, node: Node) -> int:
    """Bytes of a copy of x, which is needed only where x is a view of something else."""
    v = node.inputs[2] - graph.first_node
    spec = graph.spec(node.inputs[2])
    return math.prod(spec.shape) * spec.dtype.itemsize if v >= 0 and graph.nodes[v].op.view else 0


WORKSPACE["spmm"] = _room_for_rows


@rule("spmm")
def _spmm(asm: Assembler, node: Node, value: int, *_: Any) -> None:
    (pattern,) = node.attrs
    values, x, y = asm.dense(node.inputs[0]), asm.place(node.inputs[2]), asm.place(value)
    if not x.dense:
        if not _room_for_rows(asm.graph, node):
            raise Unsupported("an operand with gaps")
        rows = Place(asm.arena, asm.workspace(asm.nodes.start), x.shape, row_major(x.shape), x.dtype)
        asm.copy(x, rows)
        x = rows
    if len(y.shape) == 3:
        n = y.shape[1:]
        asm.add("spmm_heads", x, y, values, attributes=_pattern(asm, pattern), type=_type(node), n=n)
    else:
        asm.add("spmm", x, y, values, attributes=_pattern(asm, pattern), type=_type(node), n=(y.shape[1],))


@rule("sddmm")
def _sddmm(asm: Assembler, node: Node, value: int, *_: Any) -> None:
    left, right, y = asm.dense(node.inputs[0]), asm.dense(node.inputs[1]), asm.place(value)
    n = (math.prod(left.shape[1:-1]), left.shape[-1])
    asm.add("sddmm", left, right, y, attributes=_pattern(asm, node.attrs[0]), type=_type(node), n=n)


@rule("spsum", "spmax", "segment_softmax")
def _over_neighbours(asm: Assembler, node: Node, value: int, *_: Any) -> None:
    (pattern,) = node.attrs
    x, y = asm.dense(node.inputs[0]), asm.place(value)
    width = math.prod(y.shape[1:])
    if node.op.name == "spsum" and pattern.single:
        asm.add("take_rows", x, y, attributes=_pattern(asm, pattern), n=(width * y.dtype.itemsize,))
        return
    kernel = {"spsum": "spmm", "spmax": "segment_max", "segment_softmax": "segment_softmax"}[node.op.name]
    asm.add(kernel, x, y, attributes=_pattern(asm, pattern), type=_type(node), n=(width,))


__all__: list[str] = []
