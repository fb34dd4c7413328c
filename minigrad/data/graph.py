"""Graphs: nodes with features, edges between them, and several graphs as one.

    >>> import minigrad as mg
    >>> from minigrad.data import Graph, GraphBatch
    >>> path = Graph(x=mg.ones(3, 2), edge_index=mg.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    >>> path
    Graph(x=[3, 2], edge_index=[2, 4])
    >>> path.is_undirected(), path.adj_t @ path.x[:, 0]
    (True, tensor([1., 2., 1.]))

Graphs of a batch are put side by side as one graph without edges between them; its matrix is block
diagonal, and every layer works as it is (Fey & Lenssen 2019, arXiv 1903.02428):

    >>> batch = GraphBatch.from_graphs([path, path])
    >>> batch.edge_index.tolist(), batch.batch.tolist()
    ([[0, 1, 1, 2, 3, 4, 4, 5], [1, 0, 2, 1, 4, 3, 5, 4]], [0, 0, 0, 1, 1, 1])

Attribute names are PyTorch Geometric's: x (nodes, features), which may be a sparse `CSR`; edge_index (2,
edges) of sources and targets; edge_weight (edges,); edge_attr (edges, features); y; masks; and whatever
else is assigned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ..ops.movement import cat
from ..random import Generator
from ..sparse import CSR, Pattern, edge_array, from_edge_index, known
from ..tensor import Tensor, as_array, wrap
from .loader import DataLoader

Array = Any


def _tensor(value: Any) -> Any:
    """Arrays as tensors that share their memory; everything else as it is."""
    return wrap(as_array(value)) if isinstance(value, np.ndarray) else value


class Graph:
    """A graph and what is known of its nodes and edges; see the module for names.

    num_nodes: needed where neither x nor y nor a mask says how many there are and not all have edges.
    Raises ShapeError for an edge_index that is not (2, edges) or attributes of another number of edges,
    OutOfRangeError for edges of nodes that are not there.
    """

    x: Any
    edge_index: Any
    edge_weight: Any
    edge_attr: Any
    y: Any

    def __init__(
        self,
        x: Any = None,
        edge_index: Any = None,
        edge_attr: Any = None,
        y: Any = None,
        *,
        edge_weight: Any = None,
        num_nodes: int | None = None,
        **attributes: Any,
    ) -> None:
        if edge_index is None or (isinstance(edge_index, (list, tuple)) and not np.size(edge_index)):
            edge_index = np.zeros((2, 0), np.int64)
        if num_nodes is not None and (
            isinstance(num_nodes, bool) or not hasattr(num_nodes, "__index__") or num_nodes < 0
        ):
            raise ArgumentError("Graph", f"num_nodes is {num_nodes!r}", fix="pass how many nodes there are")
        named = {"x": x, "edge_index": edge_index, "edge_weight": edge_weight, "edge_attr": edge_attr, "y": y}
        for name, value in {**named, **attributes}.items():
            row_each = name in named or name.endswith("_mask")
            setattr(self, name, as_array(value) if row_each and isinstance(value, (list, tuple)) else value)
        self._num_nodes = num_nodes
        self.validate()

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, _tensor(value))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a graph has no attribute {name!r}; it has {', '.join(self.keys())}")

    def keys(self) -> list[str]:
        """Names of the attributes that are there."""
        return [k for k, v in self.__dict__.items() if v is not None and not k.startswith("_")]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and values of the attributes that are there."""
        return ((k, self.__dict__[k]) for k in self.keys())

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def validate(self) -> None:
        """Raise if the parts do not fit each other."""
        edges = edge_array("Graph", self.edge_index)
        n = self.num_nodes
        if edges.size and not 0 <= edges.min() <= edges.max() < n:
            bad = int(edges.max() if edges.max() >= n else edges.min())
            raise OutOfRangeError(
                "Graph", f"an edge of node {bad}, but there are {n}", fix="count nodes from 0"
            )
        for name in ("edge_weight", "edge_attr"):
            value = getattr(self, name)
            if value is not None and (not value.shape or value.shape[0] != edges.shape[1]):
                raise ShapeError(
                    "Graph",
                    f"{name} of shape {tuple(value.shape)} for {edges.shape[1]} edges",
                    fix="give it a row for each edge",
                )
        if self.x is not None and rows_of(self.x) != n:
            raise ShapeError(
                "Graph",
                f"x of shape {tuple(getattr(self.x, 'shape', ()))} for {n} nodes",
                fix="give x a row for each node",
            )
        for name, value in self.items():
            if name.endswith("_mask") and tuple(getattr(value, "shape", ())) != (n,):
                raise ShapeError(
                    "Graph",
                    f"{name} of shape {tuple(getattr(value, 'shape', ()))} for {n} nodes",
                    fix=f"use ({n},)",
                )

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def num_nodes(self) -> int:
        """How many nodes there are: as given, or as x has rows, or up to the largest one with an edge."""
        if self._num_nodes is not None:
            return int(self._num_nodes)
        if self.x is not None:
            return rows_of(self.x)
        for name, value in self.items():
            if name.endswith("_mask") or name in ("pos", "batch"):
                return int(value.shape[0])
        edges = edge_array("Graph", self.edge_index)
        largest = int(edges.max()) + 1 if edges.size else 0
        y = self.__dict__.get("y")
        if y is not None and y.shape and y.shape[0] >= largest > 0:
            return int(y.shape[0])
        return largest

    @property
    def num_edges(self) -> int:
        """How many edges there are; both directions of one count as two."""
        return int(self.edge_index.shape[1])

    @property
    def num_node_features(self) -> int:
        """Features of a node."""
        return 0 if self.x is None else 1 if len(self.x.shape) == 1 else int(self.x.shape[1])

    num_features = num_node_features

    @property
    def num_classes(self) -> int:
        """The largest label plus one."""
        return 0 if self.y is None or not self.y.numel() else int(self.y.max().item()) + 1

    @property
    def adj_t(self) -> CSR:
        """The matrix of message passing, a row for each target; made once for an edge_index."""
        n = self.num_nodes
        weight = self.edge_weight

        def make() -> CSR:
            return from_edge_index(self.edge_index, None, n).T

        if weight is not None:
            return from_edge_index(self.edge_index, weight, n).T
        made: CSR = known.get(self.edge_index, ("adj_t", n), make)
        return made

    def degree(self) -> Tensor:
        """How many edges each node receives, int64 (nodes,)."""
        edges = edge_array("degree", self.edge_index)
        return wrap(np.bincount(edges[1], minlength=self.num_nodes).astype(np.int64))

    def is_undirected(self) -> bool:
        """Whether every edge is there in both directions (with the same weight)."""
        return from_edge_index(self.edge_index, self.edge_weight, self.num_nodes).is_symmetric()

    def has_self_loops(self) -> bool:
        """Whether an edge leads to its own source."""
        edges = edge_array("has_self_loops", self.edge_index)
        return bool((edges[0] == edges[1]).any())

    def has_isolated_nodes(self) -> bool:
        """Whether a node has no edge to or from another one."""
        edges = edge_array("has_isolated_nodes", self.edge_index)
        other = edges[:, edges[0] != edges[1]]
        return len(np.unique(other)) < self.num_nodes

    def __repr__(self) -> str:
        parts = [f"{k}={list(v.shape) if hasattr(v, 'shape') else v}" for k, v in self.items() if k[0] != "_"]
        return f"{type(self).__name__}({', '.join(parts)})"

    # -- other graphs -------------------------------------------------------------------------------

    def copy(self, **changes: Any) -> Graph:
        """The same graph with some attributes replaced; tensors are shared."""
        attributes = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        return Graph(**{"num_nodes": self._num_nodes, **attributes, **changes})

    def to_undirected(self) -> Graph:
        """Every edge in both directions, once.

        Weights of edges that occur several times are added up; of two directions that differ, the larger
        counts.
        """
        edges = edge_array("to_undirected", self.edge_index)
        if self.edge_attr is not None:
            raise ArgumentError("to_undirected", "edges have attributes", fix="set edge_attr to None first")
        there = from_edge_index(edges, self.edge_weight, self.num_nodes).coalesce()
        p = there.pattern
        back = there.T.coalesce()
        rows = np.concatenate([p.rows, back.pattern.rows])
        columns = np.concatenate([p.index, back.pattern.index])
        pattern, order = Pattern.of_places(rows, columns, p.shape)
        both = CSR.of(pattern, wrap(np.ones(pattern.nonzeros, np.float32))).coalesce()
        index, _ = both.to_edge_index()
        weight = None
        if self.edge_weight is not None:  # where both directions have one, the larger
            values: Any = np.concatenate(
                [there.full_values().detach().numpy(), back.full_values().detach().numpy()]
            )[order]
            first = np.lexsort((-values, pattern.index, pattern.rows))
            keys = pattern.rows[first].astype(np.int64) * max(p.shape[1], 1) + pattern.index[first]
            weight = wrap(values[first][np.unique(keys, return_index=True)[1]])
        return self.copy(edge_index=index, edge_weight=weight, num_nodes=self.num_nodes)

    def subgraph(self, nodes: Any) -> Graph:
        """The graph of some nodes (integers or a mask) and the edges among them; attributes follow."""
        n = self.num_nodes
        chosen = chosen_nodes("subgraph", nodes, n)
        edges = edge_array("subgraph", self.edge_index)
        new = np.full(n, -1, np.int64)
        new[chosen] = np.arange(len(chosen))
        ends = new[edges]
        inside = np.flatnonzero((ends >= 0).all(0))
        changes: dict[str, Any] = {"edge_index": wrap(ends[:, inside]), "num_nodes": len(chosen)}
        for name, value in self.items():
            if name in ("edge_weight", "edge_attr"):
                changes[name] = value[wrap(inside)]
            elif name != "edge_index" and rows_of(value) == n:
                changes[name] = value[wrap(chosen.astype(np.int64))]
        return self.copy(**changes)

    @staticmethod
    def collate(graphs: Sequence[Graph]) -> GraphBatch:
        """What `DataLoader` makes of examples that are graphs."""
        return GraphBatch.from_graphs(graphs)


class GraphBatch(Graph):
    """Several graphs as one, without edges between them.

    batch: (nodes,), the graph of each node; ptr: (graphs + 1,), where the nodes of each start.
    """

    batch: Tensor
    ptr: Tensor

    @classmethod
    def from_graphs(cls, graphs: Sequence[Graph]) -> GraphBatch:
        """Put graphs side by side.  Attributes are concatenated; edge_index counts on.

        Raises ArgumentError for no graphs, or graphs with different attributes.
        """
        if not graphs:
            raise ArgumentError("GraphBatch", "no graphs were given", fix="pass at least one")
        for i, g in enumerate(graphs):
            if not isinstance(g, Graph) or isinstance(g, GraphBatch):
                raise DTypeError(
                    "GraphBatch",
                    f"element {i} is a {type(g).__name__}",
                    fix="pass graphs (of a batch: its to_graphs())",
                )
        names = graphs[0].keys()
        for i, g in enumerate(graphs):
            if g.keys() != names:
                raise ArgumentError(
                    "GraphBatch",
                    f"graph {i} has {', '.join(g.keys())} where the first has {', '.join(names)}",
                    fix="give all graphs the same attributes",
                )
        sizes = [g.num_nodes for g in graphs]
        ptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        edge_counts = [g.num_edges for g in graphs]
        index = np.concatenate(
            [
                edge_array("GraphBatch", g.edge_index).astype(np.int64) + o
                for g, o in zip(graphs, ptr, strict=False)
            ],
            axis=1,
        )
        joined: dict[str, Any] = {"edge_index": wrap(index), "num_nodes": int(ptr[-1])}
        for name in names:
            if name != "edge_index":
                joined[name] = _joined(name, [getattr(g, name) for g in graphs])
        batch = wrap(np.repeat(np.arange(len(graphs), dtype=np.int64), sizes))
        self = cls(**joined, batch=batch, ptr=wrap(ptr))
        self._counts = (sizes, edge_counts)
        others = [name for name in names if name != "edge_index"]
        self._rows = {name: [max(rows_of(getattr(g, name)), 1) for g in graphs] for name in others}
        return self

    @property
    def num_graphs(self) -> int:
        """How many graphs there are."""
        return int(self.ptr.shape[0]) - 1

    def __len__(self) -> int:
        return self.num_graphs

    def __getitem__(self, i: int) -> Graph:
        """One of the graphs again."""
        if not -len(self) <= i < len(self):
            raise OutOfRangeError("GraphBatch", f"graph {i} of {len(self)}", fix="count from 0")
        i %= len(self)
        sizes, edge_counts = self._counts
        low = sum(edge_counts[:i])
        index: Any = self.edge_index._concrete("GraphBatch")[:, low : low + edge_counts[i]] - sum(sizes[:i])
        parts: dict[str, Any] = {"edge_index": index, "num_nodes": sizes[i]}
        for name, rows in self._rows.items():
            value = getattr(self, name)
            start = sum(rows[:i])
            part = value[start : start + rows[i]]
            parts[name] = part
        return Graph(**parts)

    def to_graphs(self) -> list[Graph]:
        """All of them again."""
        return [self[i] for i in range(len(self))]


def chosen_nodes(op: str, nodes: Any, count: int) -> Array:
    """Numbers of nodes, int64, from distinct integers or a mask of all `count`; raises for anything else."""
    chosen: Array = nodes._concrete(op) if isinstance(nodes, Tensor) else np.asarray(nodes)
    if chosen.dtype.kind == "b" and chosen.shape == (count,):
        chosen = np.flatnonzero(chosen)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise ArgumentError(
            op,
            f"nodes of dtype {chosen.dtype} and shape {chosen.shape}",
            fix=f"pass a list of integers, or a mask of shape ({count},)",
        )
    chosen = chosen.astype(np.int64)
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < count:
        raise OutOfRangeError(op, f"a node beyond the {count} that there are", fix="count nodes from 0")
    if len(np.unique(chosen)) < len(chosen):
        raise ArgumentError(op, "a node is named twice", fix="name each once")
    return chosen


def rows_of(value: Any) -> int:
    """How many rows a tensor or matrix has; -1 of what has none."""
    shape = getattr(value, "shape", None)
    return int(shape[0]) if shape else -1


def _joined(name: str, values: list[Any]) -> Any:
    """One attribute of all graphs: rows one below the other, numbers as a vector."""
    if isinstance(values[0], CSR):
        columns = {v.shape[1] for v in values}
        if len(columns) > 1:
            raise ShapeError("GraphBatch", f"{name} with {sorted(columns)} columns", fix="make them equal")
        starts, at = [np.zeros(1, np.int32)], 0
        for v in values:
            starts.append(v.pattern.starts[1:] + np.int32(at))
            at += v.nnz
        index = np.concatenate([v.pattern.index for v in values])
        pattern = Pattern.trusted(np.concatenate(starts).astype(np.int32), index, columns.pop())
        return CSR.of(pattern, cat([v.full_values() for v in values], 0))
    if isinstance(values[0], Tensor):
        tails = {v.shape[1:] for v in values}
        if len(tails) > 1:
            raise ShapeError(
                "GraphBatch",
                f"{name} of shapes {' and '.join(map(str, tails))}",
                fix="make all but the first equal",
            )
        return cat([v if v.ndim else v.reshape(1) for v in values], 0)
    if isinstance(values[0], (int, float)):
        return wrap(as_array(values))
    return list(values)


class GraphLoader(DataLoader):
    """Batches of graphs: `DataLoader` over a list of them, each batch a `GraphBatch`."""

    def __init__(
        self,
        graphs: Sequence[Graph],
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(list(graphs), batch_size, shuffle, drop_last=drop_last, generator=generator)
