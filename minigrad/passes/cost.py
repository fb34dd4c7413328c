"""What a graph costs: bytes that move, and floating point operations.

Every step (a group, or a node on its own) reads each value that comes from outside once and writes
each value that is used outside once; what only lives inside of a group costs nothing, and neither
does a view.  That is a model: caches make it cheaper, bad strides dearer.

    >>> import minigrad as mg
    >>> from minigrad.passes import fuse
    >>> graph = mg.trace(lambda x: (x * 2.0 + 1.0).exp(), mg.Spec((1000,), mg.float32))
    >>> bytes_moved(graph), bytes_moved(fuse(graph)), flops(graph)
    (24008, 8008, 3000)

How operations are counted says `minigrad.flops`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..flops import flops as op_flops
from ..ir import Graph, Group, Node, Spec
from .fuse import stored, stored_by


def _bytes(spec: Spec) -> int:
    return math.prod(spec.shape) * spec.dtype.itemsize


def step_bytes(graph: Graph, group: Group, outputs: Sequence[int] | None = None) -> int:
    """Bytes that a step reads and writes; outputs: what is stored of it, if that is known."""
    first = graph.first_node
    inside = range(first + group.start, first + group.stop)
    nodes = graph.nodes[group.start : group.stop]
    if len(nodes) == 1 and nodes[0].op.view:
        return 0
    read = {v for node in nodes for v in node.inputs if v not in inside}
    written = stored(graph, group) if outputs is None else outputs
    return sum(_bytes(graph.spec(v)) for v in (*read, *written))


def bytes_moved(graph: Graph) -> int:
    """Bytes that all steps read and write, and that updates and outputs copy."""
    steps = graph.steps()
    return sum(map(step_bytes, [graph] * len(steps), steps, stored_by(graph, steps)))


def node_flops(graph: Graph, node: Node) -> int:
    """Floating point operations of a node."""
    return op_flops(node.op, [graph.spec(v) for v in node.inputs], node.spec, node.attrs)


def flops(graph: Graph) -> int:
    """Floating point operations of all nodes."""
    return sum(node_flops(graph, node) for node in graph.nodes)
