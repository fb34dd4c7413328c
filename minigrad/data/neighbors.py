"""Training on a graph that is too large for one step: batches of nodes with sampled neighbourhoods.

    >>> import minigrad as mg
    >>> from minigrad.data import NeighborLoader, karate_club
    >>> loader = NeighborLoader(karate_club(), num_neighbors=[3, 2], batch_size=8, seed=0)
    >>> batch = next(iter(loader))
    >>> batch.batch_size, batch.n_id[:8].tolist()
    (8, [0, 1, 2, 3, 4, 5, 6, 7])

A batch is a graph: first the nodes that are asked about, then their neighbours, then those of these; at most
`num_neighbors[h]` of each node are drawn in hop h, without replacement, by the C sampler.  A network with
as many layers as hops, applied to the batch, computes for the first `batch_size` nodes an estimate of what
it would compute on the whole graph (and exactly that if all neighbours are taken).

The same seed gives the same batches, whatever the number of threads.  Reference: Hamilton, Ying & Leskovec
2017 (arXiv 1706.02216).  Left out: sampling with replacement, by time, and in heterogeneous graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..ops.creation import randperm
from ..ops.sparse import neighbour_sampler
from ..random import Generator
from ..sparse import edge_array, grouped, known
from ..tensor import Tensor, wrap
from .graph import Graph, chosen_nodes, rows_of


def _whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


class NeighborLoader:
    """Iterate over batches of nodes with sampled neighbourhoods.

    graph: the whole graph.  num_neighbors: for each hop, how many neighbours of a node; -1: all.
    batch_size: nodes asked about at once.  input_nodes: which nodes those are (integers or a mask; default:
    all).  shuffle: a new order for every pass.  seed: of the sampling and the order.  Each batch is a Graph
    with, besides the attributes of its nodes and edges, n_id (their numbers in the whole graph), e_id (of
    its edges), batch_size, input_id.  Raises ArgumentError for settings out of range.
    """

    def __init__(
        self,
        graph: Graph,
        num_neighbors: Sequence[int],
        batch_size: int = 1,
        input_nodes: Any = None,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        seed: int = 0,
    ) -> None:
        fanouts = list(num_neighbors) if isinstance(num_neighbors, (list, tuple)) else []
        if not 1 <= len(fanouts) <= 4095 or not all(_whole(f) and f >= -1 for f in fanouts):
            raise ArgumentError(
                "NeighborLoader",
                f"num_neighbors is {num_neighbors!r}",
                fix="pass a list with a count for each hop, -1 for all",
            )
        if not isinstance(graph, Graph):
            raise DTypeError("NeighborLoader", f"the graph is a {type(graph).__name__}", fix="pass a Graph")
        if not _whole(batch_size) or batch_size < 1:
            raise ArgumentError("NeighborLoader", f"a batch size of {batch_size!r}", fix="pass at least 1")
        if not _whole(seed):
            raise ArgumentError("NeighborLoader", f"the seed is {seed!r}", fix="pass a whole number")
        self.graph, self.num_neighbors, self.batch_size = graph, fanouts, int(batch_size)
        self.shuffle, self.drop_last, self.seed = bool(shuffle), bool(drop_last), int(seed)
        n = graph.num_nodes
        everything = np.arange(n, dtype=np.int64)
        self.input_nodes: Any = (
            everything if input_nodes is None else chosen_nodes("NeighborLoader", input_nodes, n)
        )
        array = edge_array("NeighborLoader", graph.edge_index)
        pattern, self._order = grouped(graph.edge_index, array, (n, n))
        self._sample = neighbour_sampler(pattern)
        self._epoch = 0

    def __len__(self) -> int:
        """The number of batches of a pass."""
        count = len(self.input_nodes)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Graph]:
        epoch = self._epoch
        self._epoch += 1
        count, size = len(self.input_nodes), self.batch_size
        order = np.arange(count)
        if self.shuffle:
            order = randperm(count, generator=Generator(self.seed * 2 + epoch * 1_000_003))._array
        for i in range(len(self)):
            chosen = order[i * size : (i + 1) * size]
            yield self.collate(chosen, (self.seed << 32) ^ (epoch << 20) ^ i)

    def collate(self, chosen: Any, seed: int) -> Graph:
        """The batch of the input nodes with these positions, sampled by this seed."""
        found = self._sample(self.input_nodes[chosen], self.num_neighbors, seed)
        graph, n = self.graph, self.graph.num_nodes
        nodes = wrap(found.nodes.astype(np.int64))
        edges = wrap(self._order[found.edges].astype(np.int64))
        pattern = found.pattern
        edge_index = wrap(np.stack([pattern.index, pattern.rows]).astype(np.int64))
        parts: dict[str, Any] = {}
        for name, value in graph.items():
            if name in ("edge_weight", "edge_attr"):
                parts[name] = value[edges]
            elif name != "edge_index" and rows_of(value) == n:
                parts[name] = value[nodes] if not isinstance(value, Tensor) else value.index_select(0, nodes)
        places = np.arange(pattern.nonzeros, dtype=np.int32)  # the edges are grouped already
        known.get(edge_index, ("grouped", pattern.shape), lambda: (pattern, places))
        return Graph(
            edge_index=edge_index,
            num_nodes=len(found.nodes),
            n_id=nodes,
            e_id=edges,
            batch_size=len(chosen),
            input_id=wrap(np.asarray(chosen, np.int64)),
            **parts,
        )
