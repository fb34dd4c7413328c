"""Prune: nodes that no output and no update depends on are dropped.

    >>> import minigrad as mg
    >>> graph = mg.trace(lambda x: (x.exp(), x.sin())[0], mg.Spec((3,), mg.float32))
    >>> [node.op.name for node in prune(graph).nodes]
    ['exp']

Inputs stay, as the caller goes on passing them.
"""

from __future__ import annotations

from ..ir import Graph
from .rewrite import Rewriter


def prune(graph: Graph) -> Graph:
    """The graph without dead nodes."""
    live = [False] * (graph.first_node + len(graph.nodes))
    for v in graph.results:
        live[v] = True
    for position in range(len(graph.nodes) - 1, -1, -1):
        if live[graph.first_node + position]:
            for v in graph.nodes[position].inputs:
                live[v] = True
    new = Rewriter(graph)
    for position, (node, inputs) in enumerate(new.walk()):
        if live[graph.first_node + position]:
            new.keep(node, inputs)
        else:
            new.replace(Rewriter.NODE)  # never looked at again
    return new.done()
