"""Passes: a graph becomes a better graph that computes the same.

Each pass is a pure function Graph -> Graph in a file of its own, and none of them names an
operation: they read the `kind` and the algebraic `traits` of the records.

    fold       what depends on constants alone is computed now
    simplify   x * 1, -(-x), reshape of reshape, copies: by traits
    cse        the same operation on the same values is done once
    prune      what nobody uses is dropped (before fusion, as a dead user would hinder it)
    fuse       elementwise work joins its producers and consumers in one loop over memory

`run` applies them in order and lets the checker (`ir.check`) look at every result, so that a wrong
pass is found where it is wrong.  `observer(name, before, after)` is told of each: that is all that
`minigrad.explain` is.

    >>> import minigrad as mg
    >>> graph = mg.trace(lambda x: -(-(x * 1.0)) + 2.0, mg.Spec((2,), mg.float32))
    >>> seen = []
    >>> small = run(graph, observer=lambda name, before, after: seen.append((name, len(after.nodes))))
    >>> seen
    [('fold', 4), ('simplify', 2), ('cse', 2), ('prune', 1), ('fuse', 1)]

A user's own pass is any function of that kind: `run(graph, (*PIPELINE, mine))`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError
from ..ir import Graph, GraphError, check
from .cse import cse
from .fold import fold
from .fuse import fuse
from .prune import prune
from .simplify import simplify

Pass = Callable[[Graph], Graph]

#: The passes by name.
PASSES: dict[str, Pass] = {"fold": fold, "simplify": simplify, "cse": cse, "prune": prune, "fuse": fuse}
#: What runs unless something else is asked for.
PIPELINE: tuple[str, ...] = ("fold", "simplify", "cse", "prune", "fuse")


def resolve(passes: Sequence[Any], without: Sequence[str] = ()) -> tuple[Pass, ...]:
    """Names and functions as functions, without those of the names in `without`.

    Raises ArgumentError for a name that there is no pass of.
    """
    chosen = []
    for item in (*passes, *without):
        if not callable(item) and item not in PASSES:
            raise ArgumentError(
                "passes",
                f"there is no pass {item!r}",
                fix=f"use {', '.join(PASSES)}, or a function Graph -> Graph",
            )
    for item in passes:
        name = item if isinstance(item, str) else name_of(item)
        if name not in without:
            chosen.append(PASSES[item] if isinstance(item, str) else item)
    return tuple(chosen)


def name_of(item: Pass) -> str:
    """What a pass is called."""
    return str(getattr(item, "__name__", type(item).__name__))


def run(
    graph: Graph,
    passes: Sequence[Any] = PIPELINE,
    observer: Callable[[str, Graph, Graph], Any] | None = None,
) -> Graph:
    """The graph after these passes, each result checked.

    Raises GraphError, naming the pass, where one returns a graph that makes no sense or that has
    other inputs, or outputs of other specs, than before.
    """
    for item in resolve(passes):
        before = graph
        name = name_of(item)
        graph = item(before)
        try:
            check(graph)
            _same_face(before, graph)
        except GraphError as error:
            raise GraphError(f"after the pass {name!r}: {error}") from error
        if observer is not None:
            observer(name, before, graph)
    return graph


def _same_face(before: Graph, after: Graph) -> None:
    if before.inputs != after.inputs:
        raise GraphError("the inputs are others than before")
    if [before.spec(v) for v in before.outputs] != [after.spec(v) for v in after.outputs]:
        raise GraphError("the outputs have other specs than before")
    if sorted(t for t, _ in before.updates) != sorted(t for t, _ in after.updates):
        raise GraphError("other inputs are updated than before")


__all__ = ["PASSES", "PIPELINE", "cse", "fold", "fuse", "name_of", "prune", "resolve", "run", "simplify"]
