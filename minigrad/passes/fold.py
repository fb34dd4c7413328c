"""Fold: what depends on constants alone is computed once, now.

    >>> import minigrad as mg
    >>> graph = mg.trace(lambda x: x * (mg.tensor(2.0).sqrt() + 1.0), mg.Spec((3,), mg.float32))
    >>> [node.op.name for node in graph.nodes], [node.op.name for node in fold(graph).nodes]
    (['sqrt', 'add', 'mul'], ['mul'])

The kernels are those of the active backend, so the constants have the bits that they would have at
run time.  A result that is much larger than what it is made of stays a node, unless all of its
elements are one value (ones, zeros): that takes the memory of one element, whatever its shape.
What a kernel refuses is left to fail when the program runs, where it would have failed.
"""

from __future__ import annotations

import numpy as np

from ..ir import Graph
from ..mode import current
from .rewrite import Rewriter, attribute

#: Bytes that a folded constant may have beyond those of the constants it was made of.
GROWTH = 1 << 16


def fold(graph: Graph) -> Graph:
    """The graph with its constant part computed."""
    new = Rewriter(graph)
    backend = current().backend
    for node, inputs in new.walk():
        arrays = [new.value_of(v) for v in inputs]
        if any(a is None for a in arrays) or node.op.kind == "opaque":
            new.keep(node, inputs)
            continue
        one = node.op.traits.get("filled")
        if one is not None:
            value = np.full((), attribute(node, one), node.spec.dtype)
            new.replace(new.constant(np.broadcast_to(value, node.spec.shape)))
            continue
        size = int(np.prod(node.spec.shape, dtype=np.int64)) * node.spec.dtype.itemsize
        if size > GROWTH + sum(a.nbytes for a in arrays):
            new.keep(node, inputs)
            continue
        try:
            y = np.asarray(backend[node.op](*arrays, *node.attrs))
        except (ValueError, TypeError, IndexError, OverflowError):
            new.keep(node, inputs)
            continue
        new.replace(new.constant(y))
    return new.done()
