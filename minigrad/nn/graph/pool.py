"""From nodes to graphs: sums over the nodes of each graph, choosing nodes, and joining layers.

Several graphs are one large graph without edges between them (`minigrad.data.GraphBatch`); `batch` (nodes,)
says which graph each node belongs to.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> x, batch = mg.tensor([[1.0], [2.0], [6.0]]), mg.tensor([0, 0, 1])
    >>> nn.global_mean_pool(x, batch)
    tensor([[1.5],
            [6. ]])

References: Li et al. 2016 (arXiv 1511.05493), attention; Gao & Ji 2019 (1905.05178) and Cangea et al. 2018
(1811.01287), top-k pooling; Xu et al. 2018 (1806.03536), jumping knowledge; Rong et al. 2020 (1907.10903),
DropEdge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, OutOfRangeError, ShapeError
from ...ops.creation import rand, zeros
from ...ops.elementwise import maximum
from ...ops.movement import cat, stack
from ...sparse import CSR, edge_array, integers, segment_max, segment_mean, segment_softmax, segment_sum
from ...tensor import Tensor, as_array, wrap
from .. import functional as F
from .. import init
from ..layers import Linear, positive
from ..module import Module, Parameter
from ..recurrent import LSTM
from .edges import features, nodes


def _batch(op: str, x: Tensor, batch: Any) -> Any:
    """The graph of each node; of all, graph 0, where there is just one."""
    return wrap(np.zeros(x.shape[0], np.int64)) if batch is None else batch


def _graphs(batch: Any, size: int | None) -> int | None:
    return 1 if batch is None and size is None else size


def global_add_pool(x: Tensor, batch: Any = None, size: int | None = None) -> Tensor:
    """The sum of the nodes of each graph, (graphs, features); size: how many graphs there are."""
    return segment_sum(x, _batch("global_add_pool", x, batch), _graphs(batch, size))


def global_mean_pool(x: Tensor, batch: Any = None, size: int | None = None) -> Tensor:
    """The mean of the nodes of each graph, (graphs, features); 0 for a graph without nodes."""
    return segment_mean(x, _batch("global_mean_pool", x, batch), _graphs(batch, size))


def global_max_pool(x: Tensor, batch: Any = None, size: int | None = None) -> Tensor:
    """The maximum over the nodes of each graph, (graphs, features); 0 for a graph without nodes."""
    return segment_max(x, _batch("global_max_pool", x, batch), _graphs(batch, size))


class AttentionalAggregation(Module):
    """The sum of f(x_i) over the nodes of a graph, weighted by a softmax of g(x_i).

    gate_nn: the module g, to (nodes, 1) or as many features as f gives.  nn: the module f, or None for x
    itself.
    """

    def __init__(self, gate_nn: Callable[..., Any], nn: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.gate_nn = gate_nn
        self.nn = nn

    def forward(self, x: Tensor, index: Any = None, dim_size: int | None = None) -> Tensor:
        """(nodes, features) to (graphs, features); index: the graph of each node."""
        batch = _batch("AttentionalAggregation", x, index)
        size = _graphs(index, dim_size)
        values = x if self.nn is None else self.nn(x)
        return segment_sum(segment_softmax(self.gate_nn(x), batch, size) * values, batch, size)


#: The name of older scripts.
GlobalAttention = AttentionalAggregation


class _Direction(Module):
    """What TopKPooling learns, under the name that it has in PyTorch Geometric."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.weight = Parameter(zeros(1, in_channels))


class TopKPooling(Module):
    """Keep the nodes of each graph with the largest score x.p / |p|, and scale them by tanh of it.

    ratio: the share that is kept of each graph, or (an integer) how many.  min_score: instead, all nodes
    with a softmax score above this.  Parameter: select.weight (1, in_channels).
    """

    def __init__(
        self,
        in_channels: int,
        ratio: float | int = 0.5,
        min_score: float | None = None,
        multiplier: float = 1.0,
        nonlinearity: str | Callable[..., Any] = "tanh",
    ) -> None:
        super().__init__()
        positive("TopKPooling", in_channels=in_channels)
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not ratio > 0:
            raise ArgumentError(
                "TopKPooling", f"ratio is {ratio!r}", fix="pass a share in (0, 1], or a count"
            )
        if isinstance(nonlinearity, str) and nonlinearity not in ("tanh", "sigmoid", "relu"):
            raise ArgumentError(
                "TopKPooling",
                f"nonlinearity is {nonlinearity!r}",
                fix="use tanh, sigmoid, relu or a function",
            )
        self.in_channels, self.ratio, self.min_score = in_channels, ratio, min_score
        self.multiplier, self.nonlinearity = multiplier, nonlinearity
        self.select = _Direction(in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the direction anew."""
        bound = 1.0 / self.in_channels**0.5
        init.uniform_(self.select.weight, -bound, bound)

    def _scores(self, x: Tensor, batch: Any) -> Tensor:
        weight = self.select.weight
        score = (x * weight).sum(-1)
        if self.min_score is not None:
            return segment_softmax(score, batch)
        score = score / F.normalize(weight, dim=-1).mul(weight).sum()  # w.w / |w| = |w|
        act = self.nonlinearity if callable(self.nonlinearity) else getattr(F, self.nonlinearity)
        y: Tensor = act(score)
        return y

    def forward(
        self, x: Tensor, edge_index: Any, edge_attr: Any = None, batch: Any = None
    ) -> tuple[Any, ...]:
        """(x, edge_index, edge_attr, batch, perm, score) of the nodes that are kept.

        Which they are depends on values, so this works outside of captured functions only.
        """
        nodes("TopKPooling", x, dense=True)
        features("TopKPooling", x, self.in_channels)
        batch = _batch("TopKPooling", x, batch)
        graph = integers("TopKPooling", "batch", batch)
        if graph.shape != (x.shape[0],):
            raise ShapeError(
                "TopKPooling",
                f"batch of shape {graph.shape} for {x.shape[0]} nodes",
                fix="pass the graph of each node",
            )
        score = self._scores(x, batch)
        values: Any = score.detach()._concrete("TopKPooling")
        count = int(graph.max()) + 1 if graph.size else 0
        if self.min_score is not None:
            top = np.full(count, -np.inf)
            np.maximum.at(top, graph, values)
            perm = np.flatnonzero(values > np.minimum(top - 1e-7, self.min_score)[graph])
        else:
            sizes = np.bincount(graph, minlength=count)
            keep = (
                np.minimum(self.ratio, sizes) if isinstance(self.ratio, int) else np.ceil(self.ratio * sizes)
            )
            order = np.lexsort((-values, graph))
            rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            perm = order[rank < keep[graph[order]]]
        kept = wrap(perm.astype(np.int64))
        y = x.index_select(0, kept) * score.index_select(0, kept).unsqueeze(1)
        if self.multiplier != 1:
            y = y * self.multiplier
        edge_index, edge_attr = _among("TopKPooling", edge_index, edge_attr, perm, x.shape[0])
        which = wrap(graph[perm].astype(np.int64))
        return y, edge_index, edge_attr, which, kept, score.index_select(0, kept)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.in_channels}, ratio={self.ratio}"


def _among(op: str, edge_index: Any, edge_attr: Any, kept: Any, count: int) -> tuple[Tensor, Any]:
    """The edges between chosen nodes, which are numbered anew."""
    array = edge_array(op, edge_index)
    if array.size and not 0 <= array.min() <= array.max() < count:
        bad = int(array.max() if array.max() >= count else array.min())
        raise OutOfRangeError(
            op, f"an edge of node {bad}, but there are {count} nodes with features", fix="count nodes from 0"
        )
    if edge_attr is not None and (not np.ndim(edge_attr) or len(edge_attr) != array.shape[1]):
        raise ShapeError(
            op,
            f"edge_attr of shape {tuple(np.shape(edge_attr))} for {array.shape[1]} edges",
            fix="give it a row for each edge",
        )
    new = np.full(count, -1, np.int64)
    new[kept] = np.arange(len(kept))
    ends = new[array]
    inside = (ends >= 0).all(0)
    attr = edge_attr if edge_attr is None or isinstance(edge_attr, Tensor) else wrap(as_array(edge_attr))
    attr = None if attr is None else attr.index_select(0, wrap(np.flatnonzero(inside)))
    return wrap(ends[:, inside]), attr


class JumpingKnowledge(Module):
    """Join what all layers made of a node.

    mode: side by side ("cat"), the maximum ("max"), or ("lstm") a sum weighted for each node by attention
    over the layers, whose scores a bidirectional LSTM gives that reads them in turn.  channels: features of
    a node, num_layers: how many layers; both for "lstm" only.  Parameters of "lstm": lstm (hidden size
    num_layers * channels // 2), att (1, 2 * hidden size).
    Reference: Xu et al. 2018 (arXiv 1806.03536).
    """

    def __init__(self, mode: str, channels: int | None = None, num_layers: int | None = None) -> None:
        super().__init__()
        if mode not in ("cat", "max", "lstm"):
            raise ArgumentError("JumpingKnowledge", f"mode is {mode!r}", fix="use 'cat', 'max' or 'lstm'")
        self.mode, self.channels, self.num_layers = mode, channels, num_layers
        if mode == "lstm":
            if channels is None or num_layers is None:
                raise ArgumentError(
                    "JumpingKnowledge",
                    f"mode 'lstm' with channels={channels} and num_layers={num_layers}",
                    fix="pass both",
                )
            positive("JumpingKnowledge", channels=channels, num_layers=num_layers)
            hidden = num_layers * channels // 2
            positive("JumpingKnowledge", hidden_size=hidden)
            self.lstm = LSTM(channels, hidden, bidirectional=True, batch_first=True)
            self.att = Linear(2 * hidden, 1)

    def reset_parameters(self) -> None:
        """Draw the weights of "lstm" anew."""
        if self.mode == "lstm":
            self.lstm.reset_parameters()
            self.att.reset_parameters()

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """(nodes, features) of each layer to (nodes, layers * features) or (nodes, features)."""
        if isinstance(xs, Tensor) or not len(xs):
            raise ArgumentError(
                "JumpingKnowledge", "no layers were given", fix="pass their results in a list"
            )
        shapes = {x.shape for x in xs}
        if len(shapes) > 1 and (self.mode != "cat" or len({s[:-1] for s in shapes}) > 1):
            raise ShapeError(
                "JumpingKnowledge",
                f"layers of shapes {' and '.join(map(str, sorted(shapes)))}",
                fix="pass results with the same nodes (and the same features, unless mode='cat')",
            )
        if self.mode == "cat":
            return cat(list(xs), -1)
        if self.mode == "lstm":
            x = stack(list(xs), 1)
            score, _ = self.lstm(x)
            weight: Tensor = F.softmax(self.att(score), dim=1)
            return (x * weight).sum(1)
        y = xs[0]
        for x in xs[1:]:
            y = maximum(y, x)
        return y

    def extra_repr(self) -> str:
        """Settings."""
        if self.mode != "lstm":
            return self.mode
        return f"{self.mode}, channels={self.channels}, num_layers={self.num_layers}"


class DropEdge(Module):
    """In training, leave each edge out with probability p, by giving it the weight 0.

    Layers with edge weights then compute what they would without these edges (GCNConv normalises what is
    left), the graph keeps its shape, and a captured step draws anew each time.  `dropout_edge` removes
    edges, for layers without weights.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ArgumentError("DropEdge", f"a probability of {p}", fix="choose p between 0 and 1")
        self.p = p

    def forward(self, edge_index: Any, edge_weight: Tensor | None = None) -> tuple[Any, Tensor | None]:
        """(edge_index, edge_weight) with some weights 0; as given when not training."""
        if not self.training or not self.p:
            return edge_index, edge_weight
        if isinstance(edge_index, CSR):
            count = edge_index.nnz
            edge_weight = edge_index.values if edge_weight is None else edge_weight
        else:
            count = edge_array("DropEdge", edge_index).shape[1]
        if edge_weight is None:
            return edge_index, (rand(count) >= self.p).to("float32")
        if not edge_weight.ndim or edge_weight.shape[0] != count:
            raise ShapeError(
                "DropEdge",
                f"edge_weight of shape {edge_weight.shape} for {count} edges",
                fix="pass one number for each edge",
            )
        kept = (rand(count) >= self.p).to(edge_weight.dtype)
        return edge_index, edge_weight * kept.reshape(-1, *(1,) * (edge_weight.ndim - 1))

    def extra_repr(self) -> str:
        """Settings."""
        return f"p={self.p}"


def dropout_edge(
    edge_index: Any, p: float = 0.5, force_undirected: bool = False, training: bool = True
) -> tuple[Tensor, Tensor]:
    """The edges that are left when each is left out with probability p, and which of the old they are.

    force_undirected: decide for the edges from lower to higher nodes, and keep both directions or none.
    """
    if not 0.0 <= p <= 1.0:
        raise ArgumentError("dropout_edge", f"a probability of {p}", fix="choose p between 0 and 1")
    array = edge_array("dropout_edge", edge_index)
    if not training or p == 0.0:
        places = np.arange(array.shape[1])
    else:
        kept: Any = rand(array.shape[1])._concrete("dropout_edge") >= p
        if force_undirected:
            kept = kept & (array[0] <= array[1])
        places = np.flatnonzero(kept)
        if force_undirected:
            loops = array[0][places] == array[1][places]
            both = np.concatenate([array[:, places], array[::-1][:, places[~loops]]], 1)
            return wrap(both), wrap(np.concatenate([places, places[~loops]]))
    return wrap(np.ascontiguousarray(array[:, places])), wrap(places)
