"""Executors: a graph becomes something that runs.

An executor is a function `Graph -> run`, and `run(*arrays)` computes the outputs from the inputs and
then writes the graph's updates into the arrays it was given.  What it returns belongs to the caller.

`interpret` is the oracle: one node after the other, any backend, nothing clever.

    >>> import minigrad as mg
    >>> from minigrad.trace import trace
    >>> graph = trace(lambda x: x * 2.0 + 1.0, mg.Spec((2,), mg.float32))
    >>> interpret(graph)(mg.tensor([1.0, 2.0]).numpy())
    [array([3., 5.], dtype=float32)]

`EXECUTORS` has them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import numpy as np

from ..errors import ArgumentError, Error, Refusal, ShapeError
from ..ir import Graph, Node, Spec
from ..mode import current

Run = Callable[..., list[Any]]


def interpret(graph: Graph) -> Run:
    """A function of arrays that computes a graph node by node on the active backend.

    Raises ShapeError if the arrays are not of the graph's input specs, and nothing is written if any
    operation refuses.
    """
    copied = borrowed(graph)

    def run(*arrays: Any) -> list[Any]:
        given = tuple([Spec(a.shape, a.dtype) for a in arrays])
        if given != graph.inputs:
            raise ShapeError(
                "interpret",
                f"given {', '.join(map(str, given))} for a graph of {', '.join(map(str, graph.inputs))}",
                fix="pass arrays of those specs, or trace again",
            )
        backend = current().backend
        values = [*arrays, *graph.constants]
        for node in graph.nodes:
            try:
                y = backend[node.op](*[values[i] for i in node.inputs], *node.attrs)
            except (ValueError, TypeError, IndexError, OverflowError) as error:
                raise failure(node, error, [values[i] for i in node.inputs]) from None
            values.append(y if type(y) is np.ndarray else np.asarray(y))
        results = [values[v].copy() if c else values[v] for v, c in zip(graph.results, copied, strict=True)]
        count = len(graph.outputs)
        for (target, _), value in zip(graph.updates, results[count:], strict=True):
            arrays[target][...] = value
        return results[:count]

    return run


def roots(graph: Graph, copied: Container[int] = ()) -> list[int]:
    """For each value, the value in whose memory it may lie: itself, unless a view made it.

    copied: values of view operations that are stored by themselves all the same.
    """
    first = graph.first_node
    root = list(range(first))
    for v, node in enumerate(graph.nodes, first):
        root.append(root[node.inputs[0]] if node.op.view and v not in copied else v)
    return root


def borrowed(graph: Graph) -> list[bool]:
    """For each of `graph.results`, whether it must be copied to be a result of its own.

    That is what lies in the memory of an input, of a constant or of another output.
    """
    root = roots(graph)
    seen: set[int] = set()
    copied = []
    for v in graph.results:
        copied.append(root[v] < graph.first_node or root[v] in seen)
        seen.add(root[v])
    return copied


def failure(node: Node, error: Exception, inputs: list[Any]) -> Exception:
    """What a kernel raised while a graph ran, as the error that names the traced line."""
    if isinstance(error, Error):
        return error
    given = " and ".join(str(Spec(x.shape, x.dtype)) for x in inputs) or "no tensors"
    kind: type[Error] = ArgumentError
    problem, fix = str(error).rstrip("."), "check the arguments of that line"
    if isinstance(error, Refusal):
        kind, problem, fix = error.kind, error.problem, error.fix or fix
    place = f", traced at {node.where}" if node.where else ""
    return kind(node.op.name, f"{problem} (given {given}{place})", fix=fix)


def program(graph: Graph) -> Run:
    """The graph as a program in C, see `execute.program`; interpreted on another backend than C's."""
    if current().backend.name != "c":
        return interpret(graph)
    from .program import Program

    return Program(graph)


#: By name; the last is the fastest.
EXECUTORS: dict[str, Callable[[Graph], Run]] = {"interpret": interpret, "program": program}


def get_executor(name: str | Callable[[Graph], Run] | None) -> Callable[[Graph], Run]:
    """The executor of this name (None: the fastest there is), or the function itself.

    Raises ArgumentError with the valid names if there is none.
    """
    if callable(name):
        return name
    found = EXECUTORS.get(name or next(reversed(EXECUTORS)))
    if found is None:
        raise ArgumentError(
            "compile", f"there is no executor {name!r}", fix=f"use one of {', '.join(EXECUTORS)}"
        )
    return found
