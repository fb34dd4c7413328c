"""Small and random graphs: Zachary's karate club, stochastic block models, Erdos-Renyi, Barabasi-Albert.

    >>> from minigrad.data import karate_club, stochastic_block_model
    >>> g = karate_club()
    >>> g.num_nodes, g.num_edges, g.num_classes, g.is_undirected()
    (34, 156, 4, True)
    >>> sbm = stochastic_block_model([50, 50], [[0.2, 0.02], [0.02, 0.2]], seed=0)
    >>> sbm.num_nodes, sbm.is_undirected(), sbm.has_self_loops()
    (100, True, False)

The karate club is W. W. Zachary's (1977, "An information flow model for conflict and fission in small
groups",
Journal of Anthropological Research 33): who of 34 members met outside of the club, before it split in two.
Its four communities are those of modularity (Brandes et al. 2008), which Kipf & Welling 2017 train on, one
label each; `club` says whom a member followed, the instructor (0) or the president (1).

References: Holland, Laskey & Leinhardt 1983, block models; Erdos & Renyi 1959; Barabasi & Albert 1999.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..ops.creation import rand
from ..random import Generator
from ..sparse import eye
from ..tensor import wrap
from .graph import Graph

Array = Any

#: For each member, those with a higher number that it met; counted from 0.
_FRIENDS = {
    0: [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 17, 19, 21, 31],
    1: [2, 3, 7, 13, 17, 19, 21, 30],
    2: [3, 7, 8, 9, 13, 27, 28, 32],
    3: [7, 12, 13],
    4: [6, 10],
    5: [6, 10, 16],
    6: [16],
    8: [30, 32, 33],
    9: [33],
    13: [33],
    14: [32, 33],
    15: [32, 33],
    18: [32, 33],
    19: [33],
    20: [32, 33],
    22: [32, 33],
    23: [25, 27, 29, 32, 33],
    24: [25, 27, 31],
    25: [31],
    26: [29, 33],
    27: [33],
    28: [31, 33],
    29: [32, 33],
    30: [32, 33],
    31: [32, 33],
    32: [33],
}
_COMMUNITY = [
    1,
    1,
    1,
    1,
    3,
    3,
    3,
    1,
    0,
    1,
    3,
    1,
    1,
    1,
    0,
    0,
    3,
    1,
    0,
    1,
    0,
    1,
    0,
    0,
    2,
    2,
    0,
    0,
    2,
    0,
    0,
    2,
    0,
    0,
]
_FOLLOWED_PRESIDENT = [9, 14, 15, 18, 20, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33]


def karate_club() -> Graph:
    """Zachary's karate club: 34 members, 78 friendships (both directions), the identity for features.

    y: four communities; club: the two it split into; train_mask: one member of each community.
    """
    pairs = np.array([(i, j) for i, others in _FRIENDS.items() for j in others]).T
    y = np.array(_COMMUNITY, np.int64)
    club = np.zeros(34, np.int64)
    club[_FOLLOWED_PRESIDENT] = 1
    train = np.zeros(34, bool)
    train[[int(np.flatnonzero(y == c)[0]) for c in range(4)]] = True
    return Graph(
        x=eye(34).to_dense(),
        edge_index=wrap(_both(pairs)),
        y=wrap(y),
        club=wrap(club),
        train_mask=wrap(train),
    )


def _both(pairs: Array) -> Array:
    """Each pair in both directions, sorted."""
    both = np.concatenate([pairs, pairs[::-1]], axis=1)
    return np.ascontiguousarray(both[:, np.lexsort(both[::-1])]).astype(np.int64)


def _chosen(total: int, p: float, generator: Generator) -> Array:
    """Which of `total` things happen, each with probability p: by the gaps between them (Batagelj & Brandes
    2005).
    """
    if p <= 0 or not total:
        return np.empty(0, np.int64)
    if p >= 1:
        return np.arange(total, dtype=np.int64)
    chosen, last = [np.empty(0, np.int64)], -1
    expected = int(total * p * 1.1) + 64
    while last < total:
        u: Any = rand(expected, dtype="float64", generator=generator)._array
        gaps = 1 + np.floor(np.log1p(-u) / np.log1p(-p))
        places = last + np.cumsum(np.minimum(gaps, total + 1.0)).astype(np.int64)
        chosen.append(places)
        last = int(places[-1])
    every = np.concatenate(chosen)
    return every[every < total]


def _pairs_below(k: Array, n: int) -> Array:
    """The k-th pair (i, j), i < j < n, in the order (0, 1), (0, 2), (1, 2), (0, 3), ..."""
    j = np.floor((1.0 + np.sqrt(1.0 + 8.0 * k)) / 2.0).astype(np.int64)
    j -= j * (j - 1) // 2 > k
    j += (j + 1) * j // 2 <= k
    return np.stack([k - j * (j - 1) // 2, j])


def stochastic_block_model(
    block_sizes: Any, edge_probs: Any, seed: int = 0, *, is_undirected: bool = True
) -> Graph:
    """Nodes in blocks; an edge between nodes of blocks a and b has the probability edge_probs[a][b].

    y: the block of each node.  No self loops.  Raises ArgumentError for probabilities outside [0, 1], of
    another number, or (undirected) not symmetric.
    """
    return _blocks("stochastic_block_model", block_sizes, edge_probs, seed, is_undirected)


def _blocks(op: str, block_sizes: Any, edge_probs: Any, seed: int, is_undirected: bool) -> Graph:
    sizes = np.asarray(block_sizes)
    if sizes.ndim != 1 or not sizes.size or sizes.dtype.kind not in "iu" or (sizes < 0).any():
        raise ArgumentError(
            op, f"block sizes of {block_sizes!r}", fix="pass how many nodes each block has, whole numbers"
        )
    probs = np.asarray(edge_probs, np.float64)
    blocks = len(sizes)
    if probs.shape != (blocks, blocks):
        raise ArgumentError(
            op, f"edge_probs of shape {probs.shape} for {blocks} blocks", fix="pass a square table"
        )
    if not ((probs >= 0) & (probs <= 1)).all():
        bad = probs[~((probs >= 0) & (probs <= 1))][0]
        raise ArgumentError(op, f"a probability of {bad:g}", fix="use numbers between 0 and 1")
    if is_undirected and not np.array_equal(probs, probs.T):
        raise ArgumentError(op, "edge_probs is not symmetric", fix="is_undirected=False")
    generator = Generator(seed)
    begin = np.concatenate([[0], np.cumsum(sizes)])
    found = [np.empty((2, 0), np.int64)]
    for a in range(blocks):
        for b in range(a if is_undirected else 0, blocks):
            if a == b and is_undirected:
                k = _chosen(int(sizes[a] * (sizes[a] - 1) // 2), probs[a, a], generator)
                found.append(_pairs_below(k, int(sizes[a])) + begin[a])
            elif a == b:
                k = _chosen(int(sizes[a] * max(sizes[a] - 1, 0)), probs[a, a], generator)
                i, j = k // max(sizes[a] - 1, 1), k % max(sizes[a] - 1, 1)
                found.append(np.stack([i, j + (j >= i)]) + begin[a])
            else:
                k = _chosen(int(sizes[a] * sizes[b]), probs[a, b], generator)
                found.append(np.stack([k // max(sizes[b], 1) + begin[a], k % max(sizes[b], 1) + begin[b]]))
    pairs = np.concatenate(found, axis=1)
    index = _both(pairs) if is_undirected else pairs[:, np.lexsort(pairs[::-1])]
    return Graph(
        edge_index=wrap(np.ascontiguousarray(index)),
        y=wrap(np.repeat(np.arange(blocks, dtype=np.int64), sizes)),
        num_nodes=int(begin[-1]),
    )


def erdos_renyi(num_nodes: int, edge_prob: float, seed: int = 0, *, is_undirected: bool = True) -> Graph:
    """Every pair of different nodes has an edge with the same probability."""
    graph = _blocks("erdos_renyi", [num_nodes], [[edge_prob]], seed, is_undirected)
    graph.y = None
    return graph


def barabasi_albert(num_nodes: int, num_edges: int, seed: int = 0) -> Graph:
    """Nodes come one after the other and attach to `num_edges` others, in proportion to their degree."""
    whole = hasattr(num_nodes, "__index__") and hasattr(num_edges, "__index__")
    if not whole or not 1 <= num_edges < num_nodes:
        raise ArgumentError(
            "barabasi_albert",
            f"{num_edges} edges a node of {num_nodes}",
            fix="use 1 <= num_edges < num_nodes",
        )
    u: Any = rand((num_nodes, 4 * num_edges + 8), dtype="float64", generator=Generator(seed))._array
    ends: list[int] = []  # every node as often as it has edges
    pairs = []
    for v in range(num_edges, num_nodes):
        targets: list[int] = list(range(num_edges)) if v == num_edges else []
        for r in u[v]:
            if len(targets) == num_edges:
                break
            t = ends[int(r * len(ends))]
            if t not in targets:
                targets.append(t)
        while len(targets) < num_edges:  # unlucky: take the first that are free
            targets.append(next(t for t in range(v) if t not in targets))
        for t in targets:
            pairs.append((t, v))
            ends += (t, v)
    return Graph(edge_index=wrap(_both(np.array(pairs).T)), num_nodes=num_nodes)
