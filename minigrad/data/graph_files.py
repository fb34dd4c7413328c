"""Graphs from files and from NetworkX.

    >>> import io
    >>> g, names = read_edge_list(io.StringIO("a,b\\nb,c\\n"))
    >>> names, g.edge_index.tolist()
    (['a', 'b', 'c'], [[0, 1], [1, 2]])

An edge list is a table with a line for each edge: source, target, and perhaps a weight.  Nodes are numbered
in the order in which they appear; or, where all are whole numbers and `names=False`, they are those
numbers.
"""

from __future__ import annotations

import csv
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, MissingExtraError, OutOfRangeError
from ..sparse import CSR, edge_array
from ..tensor import wrap
from .graph import Graph, chosen_nodes

Array = Any

#: A file that numbers its nodes itself may not go beyond this: most of them would not be there.
LARGEST = 100_000_000


def read_edge_list(
    file: Any,
    *,
    delimiter: str = ",",
    header: bool | None = None,
    names: bool = True,
    num_nodes: int | None = None,
) -> tuple[Graph, list[str]]:
    """The graph of an edge list, and what its nodes are called there.

    file: a path, or an open text file.  header: whether the first line is one (None: if its third column is
    no number, or it says source/target).  names: number nodes by appearance; False: the file has their
    numbers. A third column becomes edge_weight.  Raises ArgumentError with the line number where a line is
    no edge.
    """
    if isinstance(file, (str, os.PathLike)):
        text = Path(file).read_text(encoding="utf-8")
    else:
        text = file.read()
    lines = text.removeprefix("\ufeff").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if '"' in line:
            parts = [p.strip() for p in next(csv.reader([line], delimiter=delimiter))]
        else:
            parts = [p.strip() for p in line.split(delimiter if delimiter != " " else None)]
        if len(parts) not in (2, 3) or "" in parts:
            raise ArgumentError(
                "read_edge_list",
                f"line {number} is {line!r}",
                fix="write source, target and perhaps a weight",
            )
        rows.append((number, parts))
    if rows and (_looks_like_header(rows[0][1], names) if header is None else header):
        rows = rows[1:]
    widths = {len(parts) for _, parts in rows}
    if len(widths) > 1:
        at = next(n for n, parts in rows if len(parts) != len(rows[0][1]))
        raise ArgumentError(
            "read_edge_list", f"line {at} has another number of columns", fix="make them equal"
        )
    found: dict[str, int] = {}
    ends = np.empty((2, len(rows)), np.int64)
    weights = np.empty(len(rows), np.float32)
    beyond: tuple[int, int] | None = None
    for k, (number, parts) in enumerate(rows):
        try:
            for end in (0, 1):
                node = found.setdefault(parts[end], len(found)) if names else int(parts[end])
                beyond = beyond if 0 <= node <= LARGEST else (number, node)
                ends[end, k] = node if 0 <= node <= LARGEST else 0
            if len(parts) == 3:
                weights[k] = float(parts[2])
        except ValueError:
            raise ArgumentError(
                "read_edge_list",
                f"line {number} has {', '.join(parts)!r} for numbers",
                fix="correct the line",
            ) from None
    if beyond is not None:
        raise OutOfRangeError(
            "read_edge_list",
            f"line {beyond[0]} has the node {beyond[1]}",
            fix=f"with names=False, count nodes from 0 to at most {LARGEST}; or use names=True",
        )
    weighted = widths == {3}
    count = num_nodes if num_nodes is not None else len(found) if names else None
    graph = Graph(edge_index=wrap(ends), edge_weight=wrap(weights) if weighted else None, num_nodes=count)
    return graph, list(found) if names else [str(i) for i in range(graph.num_nodes)]


def _looks_like_header(parts: list[str], names: bool) -> bool:
    known = {"source", "target", "from", "to", "src", "dst", "node1", "node2", "u", "v"}
    if parts[0].lower() in known and parts[1].lower() in known:
        return True
    try:
        for p in parts[2:] if names else parts:
            float(p)
    except ValueError:
        return True
    return False


def from_networkx(graph: Any) -> tuple[Graph, list[Any]]:
    """A NetworkX graph, and its nodes in order; undirected edges in both directions, "weight" as edge_weight.

    An edge without a weight among others that have one has 1, as everywhere in NetworkX.  Numbers that all
    nodes have become attributes (nodes, ...), such as y.
    """
    if not hasattr(graph, "adjacency") or not hasattr(graph, "is_directed"):
        raise DTypeError(
            "from_networkx", f"a {type(graph).__name__} is no NetworkX graph", fix="pass a networkx.Graph"
        )
    nodes = list(graph.nodes())
    number = {v: i for i, v in enumerate(nodes)}
    edges = list(graph.edges(data=True))
    index = np.array([[number[u], number[v]] for u, v, _ in edges], np.int64).reshape(-1, 2).T
    weight = None
    if any("weight" in d for _, _, d in edges):
        try:
            weight = np.array([d.get("weight", 1.0) for _, _, d in edges], np.float32)
        except (TypeError, ValueError):
            raise DTypeError(
                "from_networkx", "an edge has a weight that is no number", fix="make them numbers"
            ) from None
    if not graph.is_directed():
        other = index[0] != index[1]
        index = np.concatenate([index, index[::-1][:, other]], axis=1)
        weight = None if weight is None else np.concatenate([weight, weight[other]])
    attributes: dict[str, Any] = {}
    shared = set.intersection(*[set(graph.nodes[v]) for v in nodes]) if nodes else set()
    for name in sorted(shared):
        try:
            values = np.asarray([graph.nodes[v][name] for v in nodes])
        except ValueError:  # of different lengths
            continue
        if values.dtype.kind in "biuf" and isinstance(name, str) and name.isidentifier():
            attributes[name] = values.astype(
                {"i": np.int64, "u": np.int64, "f": np.float32}.get(values.dtype.kind, bool)
            )
    return (
        Graph(
            edge_index=wrap(np.ascontiguousarray(index)),
            edge_weight=None if weight is None else wrap(weight),
            num_nodes=len(nodes),
            **{k: wrap(v) for k, v in attributes.items()},
        ),
        nodes,
    )


def to_networkx(graph: Graph, *, to_undirected: bool = False) -> Any:
    """The graph for NetworkX, nodes numbered from 0, edge_weight as "weight".

    Raises MissingExtraError without networkx.
    """
    try:
        import networkx as nx
    except ImportError:
        raise MissingExtraError(
            "to_networkx", "networkx is not installed", fix="pip install networkx"
        ) from None
    made = nx.Graph() if to_undirected else nx.DiGraph()
    made.add_nodes_from(range(graph.num_nodes))
    edges: Any = edge_array("to_networkx", graph.edge_index).T.tolist()
    if graph.edge_weight is None:
        made.add_edges_from(edges)
    else:
        made.add_weighted_edges_from(
            [(*e, w) for e, w in zip(edges, graph.edge_weight.detach().tolist(), strict=True)]
        )
    return made


def save_graph(path: str | os.PathLike[str], graph: Graph) -> None:
    """Write a graph as an .npz file of plain arrays; `load_graph` reads it."""
    if not isinstance(graph, Graph):
        raise DTypeError("save_graph", f"a {type(graph).__name__} is no graph", fix="pass a Graph")
    arrays: dict[str, Any] = {"num_nodes": np.int64(graph.num_nodes)}
    for name, value in graph.items():
        if isinstance(value, CSR):
            arrays |= {
                f"{name}_data": value.full_values().detach().numpy(),
                f"{name}_indices": value.pattern.index,
                f"{name}_indptr": value.pattern.starts,
                f"{name}_shape": np.array(value.shape),
            }
        else:
            arrays[name] = np.asarray(value.detach()._array if hasattr(value, "detach") else value)
    np.savez_compressed(path, **arrays)


def load_graph(path: str | os.PathLike[str]) -> Graph:
    """A graph from an .npz file: arrays by the names of attributes, a sparse matrix X as X_data, X_indices,
    X_indptr and X_shape.  `train`, `val` and `test`, lists of nodes, become masks.  Runs nothing of the
    file.  Raises ArgumentError for a file that is no such graph.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {k: stored[k] for k in stored.files}
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError):  # a pickle, or no .npz at all
        raise ArgumentError(
            "load_graph", f"{path} is not an .npz file of plain arrays", fix="write it with save_graph"
        ) from None
    given = arrays.pop("num_nodes", None)
    parts: dict[str, Any] = {}
    for name in [k.removesuffix("_indptr") for k in arrays if k.endswith("_indptr")]:
        if not all(f"{name}_{k}" in arrays for k in ("data", "indices", "shape")):
            raise ArgumentError(
                "load_graph",
                f"{path} has {name}_indptr but not all of {name}_data, _indices and _shape",
                fix="write it with save_graph",
            )
        data, indices, indptr, shape = (
            arrays.pop(f"{name}_{k}") for k in ("data", "indices", "indptr", "shape")
        )
        parts[name] = CSR(indptr, indices, data, (int(shape[0]), int(shape[1])))
    if "edge_index" not in arrays:
        raise ArgumentError("load_graph", f"{path} has no edge_index", fix="write it with save_graph")
    for name, value in arrays.items():
        if value.dtype.kind not in "biuf":
            continue
        wide = value.astype(np.int64) if value.dtype.kind in "iu" else value
        parts[name] = wide.astype(np.float32) if wide.dtype == np.float16 else wide
    graph = Graph(num_nodes=None if given is None else int(given), **_without_lists(parts))
    for name in ("train", "val", "test"):
        nodes = parts.get(name)
        if nodes is not None:
            mask = np.zeros(graph.num_nodes, bool)
            mask[chosen_nodes(f"load_graph: {name}", nodes, graph.num_nodes)] = True
            setattr(graph, f"{name}_mask", mask)
    return graph


def _without_lists(parts: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in parts.items() if k not in ("train", "val", "test")}
