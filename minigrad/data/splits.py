"""Splits of nodes and of edges, and edges that are not there.

    >>> import minigrad as mg
    >>> from minigrad.data import karate_club, random_node_split
    >>> g = random_node_split(karate_club(), num_train_per_class=4, num_val=6, num_test=12)
    >>> g.train_mask.sum().item(), g.val_mask.sum().item(), g.test_mask.sum().item()
    (16, 6, 12)

Predicting links is a split of edges: a model sees some of them (`edge_index`, for messages) and must tell
others from pairs that are no edges (`edge_label_index`, with `edge_label` 1 and 0).  In an undirected graph
both directions of an edge go together, or the answer would be among the messages.

Order comes from a `Generator` (or the default one, see `minigrad.manual_seed`).
References: Shchur et al. 2018 (arXiv 1811.05868), random node splits; Kipf & Welling 2016 (1611.07308),
links.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, OutOfRangeError
from ..ops.creation import randint, randperm
from ..random import Generator
from ..sparse import edge_array
from ..tensor import wrap
from .graph import Graph

Array = Any


def _count(op: str, name: str, amount: float, of: int) -> int:
    """A number, or a share in [0, 1), of `of`."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount < 0:
        raise ArgumentError(op, f"{name} is {amount!r}", fix="pass a count, or a share in [0, 1)")
    if isinstance(amount, float) and amount >= 1 and amount != int(amount):
        raise ArgumentError(op, f"{name} is {amount!r}", fix="pass a count, or a share in [0, 1)")
    count = round(amount * of) if isinstance(amount, float) and amount < 1 else int(amount)
    if count > of:
        raise ArgumentError(op, f"{name} is {amount} of {of}", fix="pass less")
    return count


def _permutation(n: int, generator: Generator | None) -> Array:
    return randperm(n, generator=generator)._array


def random_node_split(
    graph: Graph,
    num_train_per_class: int | None = None,
    num_val: float = 500,
    num_test: float = 1000,
    generator: Generator | None = None,
) -> Graph:
    """The graph with train_mask, val_mask and test_mask, drawn at random.

    num_train_per_class: training nodes of each class of y, or None for all that are neither validation nor
    test.
    num_val, num_test: counts, or shares in [0, 1).  Raises ArgumentError if there are not enough nodes.
    """
    n = graph.num_nodes
    order = _permutation(n, generator)
    masks = {name: np.zeros(n, bool) for name in ("train", "val", "test")}
    val, test = (
        _count("random_node_split", f"num_{k}", v, n) for k, v in (("val", num_val), ("test", num_test))
    )
    if num_train_per_class is not None:
        if graph.y is None:
            raise ArgumentError(
                "random_node_split", "the graph has no y", fix="leave num_train_per_class out"
            )
        y: Any = graph.y._concrete("random_node_split")
        for label in range(graph.num_classes):
            members = order[y[order] == label][:num_train_per_class]
            if len(members) < num_train_per_class:
                raise ArgumentError(
                    "random_node_split",
                    f"class {label} has {len(members)} nodes, not {num_train_per_class}",
                    fix="ask for fewer of each class",
                )
            masks["train"][members] = True
        order = order[~masks["train"][order]]
    if val + test > len(order):
        raise ArgumentError("random_node_split", f"{val} + {test} of {len(order)} nodes", fix="ask for fewer")
    masks["val"][order[:val]] = True
    masks["test"][order[val : val + test]] = True
    if num_train_per_class is None:
        masks["train"][order[val + test :]] = True
    return graph.copy(**{f"{k}_mask": wrap(m) for k, m in masks.items()})


def negative_sampling(
    edge_index: Any, num_nodes: int, num_neg_samples: int | None = None, generator: Generator | None = None
) -> Any:
    """Pairs of different nodes that are no edges, (2, at most num_neg_samples), each once.

    By default as many as there are edges; fewer where there are no more.
    """
    edges = edge_array("negative_sampling", edge_index)
    wanted = edges.shape[1] if num_neg_samples is None else num_neg_samples
    for name, value in (("num_nodes", num_nodes), ("num_neg_samples", wanted)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
            raise ArgumentError("negative_sampling", f"{name} is {value!r}", fix="pass a count")
    n = int(num_nodes)
    if edges.size and not 0 <= edges.min() <= edges.max() < n:
        raise OutOfRangeError(
            "negative_sampling", f"an edge of a node beyond the {n} that there are", fix="count nodes from 0"
        )
    taken = np.unique(edges[0].astype(np.int64) * n + edges[1])
    loops = np.arange(n, dtype=np.int64) * (n + 1)
    taken = np.union1d(taken, loops)
    wanted = min(wanted, n * n - len(taken))
    if n * n <= max(4 * (wanted + len(taken)), 65536):  # few pairs: list them
        free = np.setdiff1d(np.arange(n * n, dtype=np.int64), taken, assume_unique=True)
        chosen = free[_permutation(len(free), generator)[:wanted]]
    else:
        chosen = np.empty(0, np.int64)
        while len(chosen) < wanted:
            pairs: Any = randint(0, n, (2, 2 * (wanted - len(chosen)) + 16), generator=generator)._array
            fresh = pairs[0] * n + pairs[1]
            fresh = fresh[~np.isin(fresh, taken) & ~np.isin(fresh, chosen)]
            _, first = np.unique(fresh, return_index=True)
            chosen = np.concatenate([chosen, fresh[np.sort(first)]])[:wanted]
    return wrap(np.stack([chosen // max(n, 1), chosen % max(n, 1)]))


def random_link_split(
    graph: Graph,
    num_val: float = 0.1,
    num_test: float = 0.2,
    is_undirected: bool = False,
    neg_sampling_ratio: float = 1.0,
    add_negative_train_samples: bool = True,
    generator: Generator | None = None,
) -> tuple[Graph, Graph, Graph]:
    """Three graphs, to train, validate and test on: messages in edge_index, questions in edge_label_index.

    Training messages are the training edges, also for validation; at the test those of validation join them.
    neg_sampling_ratio: pairs that are no edges for each edge asked about.
    """
    edges = edge_array("random_link_split", graph.edge_index).astype(np.int64)
    if not neg_sampling_ratio >= 0:
        raise ArgumentError(
            "random_link_split", f"neg_sampling_ratio is {neg_sampling_ratio!r}", fix="pass 0 or more"
        )
    if is_undirected and not graph.is_undirected():
        raise ArgumentError(
            "random_link_split",
            "the graph has edges in one direction only",
            fix="use graph.to_undirected(), or is_undirected=False",
        )
    asked = np.flatnonzero(edges[0] <= edges[1]) if is_undirected else np.arange(edges.shape[1])
    order = asked[_permutation(len(asked), generator)]
    val, test = (
        _count("random_link_split", f"num_{k}", v, len(asked))
        for k, v in (("val", num_val), ("test", num_test))
    )
    if val + test >= len(asked):
        raise ArgumentError(
            "random_link_split", f"{val} + {test} of {len(asked)} edges", fix="leave some to train"
        )
    parts = [order[val + test :], order[:val], order[val : val + test]]
    counts = [int(len(p) * neg_sampling_ratio) for p in parts]
    if not add_negative_train_samples:
        counts[0] = 0
    negative: Any = negative_sampling(edges, graph.num_nodes, sum(counts), generator)._array
    ends = np.cumsum(counts)
    split = []
    for k, (part, messages) in enumerate(
        zip(parts, (parts[0], parts[0], np.concatenate(parts[:2])), strict=True)
    ):
        kept = edges[:, messages]
        which = messages
        if is_undirected:
            other = kept[0] != kept[1]
            which = np.concatenate([messages, messages[other]])
            kept = np.concatenate([kept, kept[::-1][:, other]], axis=1)
        none = negative[:, ends[k] - counts[k] : ends[k]]
        changes: dict[str, Any] = {
            "edge_index": wrap(kept),
            "edge_label_index": wrap(np.concatenate([edges[:, part], none], axis=1)),
            "edge_label": wrap(np.repeat(np.array([1, 0], np.float32), [len(part), none.shape[1]])),
            "num_nodes": graph.num_nodes,
        }
        for name in ("edge_weight", "edge_attr"):
            value = getattr(graph, name)
            changes[name] = None if value is None else value[wrap(which)]
        split.append(graph.copy(**changes))
    return split[0], split[1], split[2]


__all__ = ["negative_sampling", "random_link_split", "random_node_split"]
