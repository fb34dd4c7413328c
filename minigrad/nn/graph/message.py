"""Message passing: the form that all graph layers share, for layers of one's own.

    y_i = update(x_i, aggregate over neighbours j of message(x_i, x_j, e_ij))        (Gilmer et al. 2017)

A subclass writes `message`; the names of its parameters say what it gets, as in PyTorch Geometric:

    x_j, x_i      rows of the `x` given to `propagate`, for the source and the target of each edge
    anything else what was given to `propagate` under that name
    index         the target of each edge;   dim_size  how many targets there are

The graph convolution of Kipf & Welling, without its normalisation, is

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> class Sum(nn.MessagePassing):
    ...     def forward(self, x, edge_index):
    ...         return self.propagate(edge_index, x=x)
    ...     def message(self, x_j):
    ...         return x_j
    >>> Sum()(mg.tensor([[1.0], [2.0], [4.0]]), mg.tensor([[0, 2, 1], [1, 1, 0]]))
    tensor([[2.],
            [5.],
            [0.]])

Every edge has a row in memory here, so a layer that is a product with a matrix is faster written as one
(as those of `minigrad.nn.graph.conv` are).  Gathering and adding up are each other's transposes
(`sparse.gather`), so gradients are as quick as the forward.

Reference: Gilmer, Schoenholz, Riley, Vinyals & Dahl 2017 (arXiv 1704.01212).
Left out: `message_and_aggregate` and explain hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import ArgumentError, DTypeError, ShapeError
from ...record import parameters
from ...sparse import (
    CSR,
    gather,
    integers,
    segment_max,
    segment_mean,
    segment_min,
    segment_softmax,
    segment_sum,
)
from ...tensor import Tensor, wrap
from ..module import Module
from .edges import edges

AGGREGATIONS: dict[str, Callable[..., Tensor]] = {
    "add": segment_sum,
    "sum": segment_sum,
    "mean": segment_mean,
    "max": segment_max,
    "min": segment_min,
}


def aggregation(op: str, aggr: str) -> str:
    """The name itself; ArgumentError with the valid ones if there is none."""
    if aggr not in AGGREGATIONS:
        raise ArgumentError(op, f"aggr is {aggr!r}", fix=f"use one of {', '.join(AGGREGATIONS)}")
    return aggr


class MessagePassing(Module):
    """Base of layers that pass messages along edges.

    aggr: "add", "mean", "max" or "min".  flow: "source_to_target" (from edge_index[0] to edge_index[1]) or
    "target_to_source".  Raises ArgumentError for others.
    """

    def __init__(self, aggr: str = "add", *, flow: str = "source_to_target") -> None:
        super().__init__()
        self.aggr = aggregation(type(self).__name__, aggr)
        if flow not in ("source_to_target", "target_to_source"):
            raise ArgumentError(
                type(self).__name__, f"flow is {flow!r}", fix="use source_to_target or target_to_source"
            )
        self.flow = flow

    def propagate(self, edge_index: Any, size: Any = None, **kwargs: Any) -> Any:
        """Messages along all edges, aggregated at their targets, and updated.

        size: (sources, targets), by default what the arguments have.  Tensors that `message` asks for with
        _i or _j may be pairs (of sources, of targets).
        """
        name = type(self).__name__
        wanted = parameters(type(self).message)[1:]
        sources, targets = self._sizes(name, size, kwargs, wanted)
        index, csr = self._ends(name, edge_index, sources, targets)
        j, i = (0, 1) if self.flow == "source_to_target" else (1, 0)
        counts = (sources, targets) if j == 0 else (targets, sources)
        given: dict[str, Any] = {
            "index": index[i],
            "dim_size": counts[i],
            "edge_index": edge_index,
            "edge_weight": csr.values if csr is not None else None,
            **kwargs,
        }
        lifted: dict[str, Any] = {}
        for want in wanted:
            base, _, end = want.rpartition("_")
            if end in ("i", "j") and base in kwargs:
                which = i if end == "i" else j
                value = kwargs[base]
                part = value[which] if isinstance(value, (tuple, list)) else value
                lifted[want] = None if part is None else gather(part, index[which])
            elif want in given:
                lifted[want] = given[want]
            else:
                raise ArgumentError(
                    name, f"message asks for {want!r}, which propagate was not given", fix=f"pass {want}=..."
                )
        messages = self.message(**lifted)
        if not isinstance(messages, Tensor) or not messages.ndim or messages.shape[0] != index[i].shape[0]:
            shape = getattr(messages, "shape", type(messages).__name__)
            raise ShapeError(
                name,
                f"messages of shape {shape} for {index[i].shape[0]} edges",
                fix="return a row for each edge",
            )
        y = self.aggregate(messages, index[i], counts[i])
        asked = parameters(type(self).update)[2:]
        return self.update(y, **{want: given[want] for want in asked if want in given})

    def _sizes(self, name: str, size: Any, kwargs: Any, wanted: tuple[str, ...]) -> tuple[int, int]:
        """How many sources and targets (in the sense of edge_index) there are."""
        found: list[int | None] = [None, None] if size is None else list(size)
        for want in wanted:
            base, _, end = want.rpartition("_")
            if end not in ("i", "j") or base not in kwargs:
                continue
            value = kwargs[base]
            pair = value if isinstance(value, (tuple, list)) else (value, value)
            for k, part in enumerate(pair):
                if part is None:
                    continue
                if not isinstance(part, Tensor) or not part.ndim:
                    raise DTypeError(
                        name, f"{base} is a {type(part).__name__}", fix="pass a tensor with a row a node"
                    )
                if found[k] is None:
                    found[k] = part.shape[0]
                elif found[k] != part.shape[0]:
                    raise ShapeError(
                        name,
                        f"{base} has {part.shape[0]} rows where there are {found[k]} nodes",
                        fix="give every node a row",
                    )
        if found[0] is None and found[1] is None:
            raise ArgumentError(name, "the number of nodes is not known", fix="pass size=(sources, targets)")
        sources = found[0] if found[0] is not None else found[1]
        targets = found[1] if found[1] is not None else found[0]
        return int(sources or 0), int(targets or 0)

    def _ends(
        self, name: str, edge_index: Any, sources: int, targets: int
    ) -> tuple[tuple[Tensor, Tensor], CSR | None]:
        """The sources and targets of edges, as tensors that stay the same for the same graph."""
        if isinstance(edge_index, CSR):
            e = edges(name, edge_index, sources, targets)
            made = e.pattern.made
            if "ends" not in made:
                made["ends"] = (wrap(e.pattern.index), wrap(e.pattern.rows))
            return made["ends"], edge_index
        e = edges(name, edge_index, sources, targets)  # checks, and is remembered
        if e.ends is None:
            array = integers(name, "edge_index", edge_index)
            e.ends = (wrap(array[0]), wrap(array[1]))
        return e.ends, None

    def message(self, x_j: Tensor) -> Tensor:
        """What goes along each edge, (edges, ...); by default the features of its source."""
        return x_j

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """The messages (edges, ...) to each target, by `aggr`."""
        return AGGREGATIONS[self.aggr](inputs, index, dim_size)

    def update(self, inputs: Tensor) -> Any:
        """What becomes of the aggregated messages; by default they are the result."""
        return inputs


def softmax(src: Tensor, index: Any, num_nodes: int | None = None) -> Tensor:
    """The softmax over the rows of `src` with the same index: attention over the edges of each node."""
    return segment_softmax(src, index, num_nodes)


__all__ = ["AGGREGATIONS", "MessagePassing", "aggregation", "softmax"]
