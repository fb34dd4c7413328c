"""Sampling the neighbourhood of some nodes, hop by hop, in C or (the same nodes, slower) in Python.

    >>> import numpy as np
    >>> from minigrad.backends.pattern import Pattern
    >>> ring = Pattern(np.arange(0, 9, 2), [3, 1, 0, 2, 1, 3, 2, 0], columns=4)     # a ring
    >>> s = sample(ring, np.array([0]), [2, 1], seed=0)
    >>> s.nodes.tolist(), s.after.tolist()
    ([0, 3, 1, 2], [3, 4])

Of every node of a hop at most `fanout` neighbours are drawn, without replacement, by Floyd's algorithm
(CACM 30, 1987): for j in d - n .. d - 1 take t = random in 0 .. j, or j itself where t is taken already.
What is drawn depends on seed, hop and node alone, so batches can be made in any order and by any backend.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..philox import philox
from . import c as _c
from .pattern import Pattern

Array = Any

#: Words of the Philox stream that are drawn at once.
WORDS = 64


class Sample(NamedTuple):
    """Sampled neighbourhoods.

    nodes     the nodes of the batch, seeds first, then hop by hop
    pattern   (nodes x nodes), in the numbers of the batch: a row for each target
    edges     which nonzero of the graph each edge is
    after     how many nodes there are after each hop
    """

    nodes: Array
    pattern: Pattern
    edges: Array
    after: Array


class Sampler:
    """What is kept from batch to batch: the graph, and a table of the size of its nodes."""

    def __init__(self, graph: Pattern) -> None:
        self.graph = graph
        self.local = np.full(graph.shape[0], -1, np.int32)
        self._room = 1024

    def __call__(self, seeds: Array, fanouts: list[int], seed: int) -> Sample:
        """The neighbourhood of distinct `seeds`; a fanout of -1 takes all neighbours.

        Raises ValueError for seeds that are out of range or given twice.
        """
        seeds = np.ascontiguousarray(seeds, np.int32)
        if not _c.available:
            return _python(self.graph, seeds, fanouts, seed)
        graph, ffi = self.graph, _c.ffi
        most = graph.nonzeros
        while True:
            room = min(self._room, most)
            nodes_room = min(room, graph.shape[0]) + len(seeds)
            nodes, starts = np.empty(nodes_room + room, np.int32), np.empty(nodes_room + room + 1, np.int32)
            sources, edges = np.empty(max(room, 1), np.int32), np.empty(max(room, 1), np.int32)
            after = np.zeros(max(len(fanouts), 1), np.int64)
            counts = np.array(fanouts or [0], np.int64)
            b = ffi.new("struct mg_sample *")
            b.rows, b.seeds_given, b.hops, b.seed = graph.shape[0], len(seeds), len(fanouts), seed % 2**64
            b.nodes_room, b.edges_room = len(nodes), room
            keep = []
            for name, array, kind in (
                ("starts_of", graph.starts, "int32_t[]"),
                ("index", graph.index, "int32_t[]"),
                ("seeds", seeds, "int32_t[]"),
                ("fanouts", counts, "int64_t[]"),
                ("local", self.local, "int32_t[]"),
                ("nodes", nodes, "int32_t[]"),
                ("starts", starts, "int32_t[]"),
                ("sources", sources, "int32_t[]"),
                ("edges", edges, "int32_t[]"),
                ("nodes_after", after, "int64_t[]"),
            ):
                keep.append(ffi.from_buffer(kind, array))
                setattr(b, name, keep[-1])
            status = _c.lib.mg_sample_neighbors(b)
            if status == _c.lib.MG_ENOMEM and room < most:
                self._room *= 4
                continue
            break
        if status == _c.lib.MG_EARG:
            raise ValueError(f"seeds must be distinct and in 0 .. {graph.shape[0] - 1}")
        _c._check(status)
        n, e = b.nodes_found, b.edges_found
        pattern = Pattern.trusted(starts[: n + 1].copy(), sources[:e].copy(), n)
        return Sample(nodes[:n].copy(), pattern, edges[:e].copy(), after[: len(fanouts)])


def sample(graph: Pattern, seeds: Array, fanouts: list[int], seed: int) -> Sample:
    """One neighbourhood; see `Sampler`."""
    return Sampler(graph)(seeds, fanouts, seed)


class _Stream:
    """Whole numbers below a bound, from the block of the stream that belongs to (hop, node)."""

    def __init__(self, seed: int, hop: int, node: int) -> None:
        self.seed, self.block, self.words = seed % 2**64, hop << 52 | node << 20, np.empty(0, np.uint32)

    def below(self, n: int) -> int:
        """By Lemire's multiplication (arXiv 1805.10941)."""
        while True:
            if not self.words.size:
                self.words = philox(self.seed, self.block, WORDS)
                self.block += WORDS // 4
            product = int(self.words[0]) * n
            self.words = self.words[1:]
            low = product % 2**32
            if low >= n or low >= (2**32 - n) % n:
                return product >> 32


def _python(graph: Pattern, seeds: Array, fanouts: list[int], seed: int) -> Sample:
    """What the kernel does."""
    starts_of, index = graph.starts, graph.index
    if seeds.size and not (0 <= seeds.min() <= seeds.max() < graph.shape[0]):
        raise ValueError(f"seeds must be distinct and in 0 .. {graph.shape[0] - 1}")
    nodes: list[int] = seeds.tolist()
    place = {v: i for i, v in enumerate(nodes)}
    if len(place) < len(nodes):
        raise ValueError(f"seeds must be distinct and in 0 .. {graph.shape[0] - 1}")
    starts, sources, edges, after, begin = [0], list[int](), list[int](), list[int](), 0
    for hop, fanout in enumerate(fanouts):
        end = len(nodes)
        for v in nodes[begin:end]:
            first, degree = int(starts_of[v]), int(starts_of[v + 1] - starts_of[v])
            chosen: list[int] = []
            if fanout < 0 or fanout >= degree:
                chosen = list(range(degree))
            else:
                stream = _Stream(seed, hop, v)
                for j in range(degree - fanout, degree):
                    t = stream.below(j + 1)
                    chosen.append(j if t in chosen else t)
            for k in chosen:
                u = int(index[first + k])
                if u not in place:
                    place[u] = len(nodes)
                    nodes.append(u)
                edges.append(first + k)
                sources.append(place[u])
            starts.append(len(edges))
        begin = end
        after.append(len(nodes))
    starts += [len(edges)] * (len(nodes) + 1 - len(starts))
    pattern = Pattern(np.array(starts), np.array(sources, np.int64), len(nodes))
    return Sample(np.array(nodes, np.int32), pattern, np.array(edges, np.int32), np.array(after, np.int64))
