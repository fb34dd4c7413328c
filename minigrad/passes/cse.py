"""Common subexpressions: the same operation on the same values is done once.

    >>> import minigrad as mg
    >>> graph = mg.trace(lambda x: x.exp() * x.exp(), mg.Spec((3,), mg.float32))
    >>> [node.op.name for node in cse(graph).nodes]
    ['exp', 'mul']

"The same" means the same bits: attributes are compared with their types (1, 1.0 and True are three
things, and so are 0.0 and -0.0), and operands may be exchanged where the record says `commutative`.
Random operations need no exception: what they draw is a function of their input, the state of a
generator.
"""

from __future__ import annotations

from typing import Any

from ..ir import Graph
from .rewrite import Rewriter


def cse(graph: Graph) -> Graph:
    """The graph with every repeated node replaced by its first occurrence."""
    new = Rewriter(graph)
    known: dict[Any, int] = {}
    for node, inputs in new.walk():
        operands = tuple(sorted(inputs)) if node.op.traits.get("commutative") else inputs
        key = (node.op, operands, tuple([_key(a) for a in node.attrs]))
        found = known.get(key)
        if found is None:
            known[key] = new.keep(node, inputs)
        else:
            new.replace(found)
    return new.done()


def _key(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple([_key(v) for v in value])
    return (type(value), value.hex() if type(value) is float else value)
