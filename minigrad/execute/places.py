"""Places: where the values of a graph lie, and with which strides.

A value of a graph is stored row by row, unless it is a view of another one: then it has no memory of its own,
only an offset and strides.  What a view operation does to them is found by doing it, on an array whose
elements nobody looks at.

    >>> import minigrad as mg
    >>> graph = mg.trace(lambda x: x.T[1:], mg.Spec((2, 3), mg.float32))
    >>> layouts(graph)[2]
    Layout(offset=4, strides=(1, 3))
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..ir import DType, Graph, Shape


class Layout(NamedTuple):
    """How a value lies in the memory of its root: bytes from its beginning, and strides in elements."""

    offset: int
    strides: tuple[int, ...]


class Place(NamedTuple):
    """Where a value is when the program runs: `offset` bytes behind a pointer of the memory table."""

    base: int
    offset: int
    shape: Shape
    strides: tuple[int, ...]
    dtype: DType

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def dense(self) -> bool:
        """Whether it lies row by row, without gaps."""
        return is_dense(self.shape, self.strides)


def row_major(shape: Shape) -> tuple[int, ...]:
    """The strides of an array that lies row by row."""
    strides = []
    below = 1
    for n in reversed(shape):
        strides.append(below)
        below *= n
    return tuple(reversed(strides))


def is_dense(shape: Shape, strides: tuple[int, ...]) -> bool:
    """Whether these are the strides of an array that lies row by row (along a single element, any)."""
    below = 1
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1:
            if s != below:
                return False
            below *= n
    return True


def layouts(graph: Graph) -> list[Layout | None]:
    """How each value lies; None for a view operation that has to copy after all.

    Such a value is stored like those of other operations.
    """
    first = graph.first_node
    specs = [graph.spec(v) for v in range(first + len(graph.nodes))]
    largest = max((math.prod(s.shape) * s.dtype.itemsize for s in specs), default=0)
    room = np.empty(largest + 64, np.uint8)  # never touched, so the system does not even provide it
    start = room.__array_interface__["data"][0]
    found: list[Layout | None] = []
    arrays: list[Any] = []

    inputs = len(graph.inputs)
    for v, spec in enumerate(specs):
        layout: Layout | None = Layout(0, row_major(spec.shape))
        array: Any = None
        if inputs <= v < first:
            constant = graph.constants[v - inputs]
            layout = Layout(0, tuple([s // spec.dtype.itemsize for s in constant.strides]))
        elif v >= first:
            node = graph.nodes[v - first]
            if node.op.view:
                x = node.inputs[0]
                if arrays[x] is None:
                    source = found[x] or Layout(0, row_major(specs[x].shape))
                    arrays[x] = np.ndarray(
                        specs[x].shape,
                        specs[x].dtype,
                        room,
                        0,
                        tuple([s * specs[x].dtype.itemsize for s in source.strides]),
                    )
                array = np.asarray(node.op.kernel(arrays[x], *node.attrs))
                if not array.size or not np.may_share_memory(array, room):
                    layout, array = None, None
                else:
                    offset = array.__array_interface__["data"][0] - start
                    layout = Layout(offset, tuple([s // spec.dtype.itemsize for s in array.strides]))
        found.append(layout)
        arrays.append(array)
    return found


__all__ = ["Layout", "Place", "is_dense", "layouts", "row_major"]
