"""Instructions on the edges of graphs: sparse products, sums, maxima and softmax over neighbours.

The pattern of a matrix is an attribute of its operation and never changes, so its addresses go right into the
descriptor of the instruction; the program keeps the pattern alive.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import c as _c
from ..backends.pattern import Pattern
from ..backends.tile import Unsupported
from ..ir import Graph, Node
from ..plan import size_of
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


@rule("spmm")
def _spmm(asm: Assembler, node: Node, value: int, *_: Any) -> None:
    (pattern,) = node.attrs
    values, x, y = asm.dense(node.inputs[0]), asm.place(node.inputs[2]), asm.place(value)
    if not x.dense:  # a transposed weight, beside sparse features
        if not _room(asm.graph, node):
            raise Unsupported("a factor with gaps")
        laid = Place(asm.arena, asm.workspace(asm.nodes.start), x.shape, row_major(x.shape), x.dtype)
        asm.copy(x, laid)
        x = laid
    if len(y.shape) == 3:
        n = y.shape[1:]
        asm.add("spmm_heads", x, y, values, attributes=_pattern(asm, pattern), type=_type(node), n=n)
    else:
        asm.add("spmm", x, y, values, attributes=_pattern(asm, pattern), type=_type(node), n=(y.shape[1],))


def _room(graph: Graph, node: Node) -> int:
    """Space for a copy of the dense factor, if it is a view, which may have gaps."""
    maker = node.inputs[2] - graph.first_node
    return size_of(graph, node.inputs[2]) if maker >= 0 and graph.nodes[maker].op.view else 0


WORKSPACE["spmm"] = _room


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
