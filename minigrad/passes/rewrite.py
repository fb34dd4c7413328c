"""What passes have in common: walking a graph in order and writing another one.

def my_pass(graph):
    new = Rewriter(graph)
    for node, inputs in new.walk():        # inputs: references into the new graph
        new.keep(node, inputs)             # or new.replace(reference), or anything else
    return new.done()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..ir import Builder, Graph, Group, Node


class Rewriter(Builder):
    """A `Builder` that knows what each value of the old graph has become."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.inputs)
        self.old = graph
        self.new: list[int] = list(range(len(graph.inputs)))
        self.new += [self.constant(c) for c in graph.constants]

    def walk(self) -> Iterator[tuple[Node, tuple[int, ...]]]:
        """The old nodes in order, with their inputs in the new graph.

        Before the next one, `keep` or `replace` must have said what the node becomes.
        """
        for node in self.old.nodes:
            yield node, tuple([self.new[v] for v in node.inputs])

    def keep(self, node: Node, inputs: Sequence[int]) -> int:
        """The node, on these inputs."""
        return self.replace(self.node(node.op, inputs, node.attrs, node.spec, node.where))

    def replace(self, reference: int) -> int:
        """The old node becomes this value of the new graph."""
        self.new.append(reference)
        return reference

    def value_of(self, reference: int) -> Any:
        """The array of a constant, None for anything else."""
        return self.constants[-1 - reference] if reference < 0 else None

    def done(self, groups: Sequence[Group] = ()) -> Graph:
        """The new graph.  Old groups are not kept: a pass that changes nodes comes before `fuse`."""
        graph = self.old
        return self.finish(
            [self.new[v] for v in graph.outputs],
            [(target, self.new[v]) for target, v in graph.updates],
            groups,
        )


def one_value(array: Any) -> Any:
    """The one value that all elements of a constant have, None if they differ or there are none."""
    if not array.size or (array.size > 1 and array.size > 4096 and any(array.strides)):
        return None
    first = array.reshape(-1)[:1] if any(array.strides) else array[(0,) * array.ndim]
    value = np.asarray(first).reshape(())
    if not any(array.strides) or array.size == 1:
        return value
    return value if bool((array == value).all()) else None


def attribute(node: Node, name: str) -> Any:
    """An attribute of a node, by its name in the record."""
    return node.attrs[node.op.attrs.index(name)]


__all__ = ["Rewriter", "attribute", "one_value"]
