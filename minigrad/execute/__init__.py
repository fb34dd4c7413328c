"""Executors: a graph becomes something that runs.

`interpret` is the oracle: twenty lines, any backend, nothing clever.

    >>> import minigrad as mg
    >>> from minigrad.trace import trace
    >>> graph = trace(lambda x: x * 2.0 + 1.0, mg.Spec((2,), mg.float32))
    >>> interpret(graph)(mg.tensor([1.0, 2.0]).numpy())
    [array([3., 5.], dtype=float32)]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ir import Graph, Spec
from ..mode import current


def interpret(graph: Graph) -> Callable[..., list[Any]]:
    """A function of arrays that computes a graph node by node on the active backend.

    Raises ShapeError if the arrays are not of the graph's input specs.
    """

    def run(*arrays: Any) -> list[Any]:
        given = tuple(Spec(a.shape, a.dtype) for a in arrays)
        if given != graph.inputs:
            raise ShapeError(
                "interpret",
                f"given {', '.join(map(str, given))} for a graph of {', '.join(map(str, graph.inputs))}",
                fix="pass arrays of those specs, or trace again",
            )
        backend = current().backend
        values = [*arrays, *graph.constants]
        for node in graph.nodes:
            values.append(np.asarray(backend[node.op](*(values[i] for i in node.inputs), *node.attrs)))
        return [values[i] for i in graph.outputs]

    return run
