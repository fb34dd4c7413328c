"""All-reduce algorithms as schedules: who sends what to whom, round by round.

    >>> for r in schedule("ring", 2, 8):
    ...     print(r.source, "->", r.target, r.start, r.stop, "add" if r.add else "copy")
    [0 1] -> [1 0] [0 4] [4 8] add
    [0 1] -> [1 0] [4 0] [8 4] copy

A schedule is data. `perform` carries one out with the messages of any engine, `planning.simulate` says how
long it would take on a network that is not here, and the tests add up with it what p ranks have. In a round
each rank sends at most one message and receives at most one. With p ranks, n bytes, the time alpha + n beta
of a message of n bytes, and gamma for adding a byte, the costs are (Thakur, Rabenseifner & Gropp 2005; lg
is to base 2)

============  ==============================================================================================
ring          2 (p-1) alpha + 2 n (p-1)/p beta + n (p-1)/p gamma: parts go round, are added, then copied
tree          2 lg p (alpha + n beta) + lg p n gamma: all the way up a binomial tree, and down again
doubling      lg p (alpha + n beta + n gamma): everything to who is 1, 2, 4, ... ranks away
halving       2 lg p alpha + 2 n (p-1)/p beta + n (p-1)/p gamma: half, a quarter, ... of it; then back
hierarchical  a ring inside of each host, halving across hosts for each part, a ring inside
============  ==============================================================================================

The last two are due to Rabenseifner 2004. If p is no power of two, doubling and halving first let some
ranks hand everything to a neighbour, and give it back at the end.

What the engines here do is none of these: shared memory needs no messages, and over MPI parts go to all
ranks at once, as the order of a sum is to be that of ranks. Left out: pipelined trees, and several rings at
a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError
from .engine import Array, Engine


class Round(NamedTuple):
    """Messages at the same time: arrays of one length, and what the receivers do.

    Elements start to stop of `source` go to `target`, who adds them to its own, or puts them in their place.
    """

    source: Array
    target: Array
    start: Array
    stop: Array
    add: bool


def _round(source: Any, target: Any, start: Any, stop: Any, add: bool) -> Round:
    a, b, first, last = (row.ravel() for row in np.broadcast_arrays(source, target, start, stop))
    return Round(a, b, first, last, add)


# Each phase works on several groups of ranks at once: `ranks` is (groups, size), `low` and `high` are
# (groups, 1), the elements that a group has to do with.


def _ring(ranks: Array, low: Array, high: Array, add: bool) -> Iterator[Round]:
    """Parts go round: after adding, the i-th of a group has part i+1; copying begins there."""
    size = ranks.shape[1]
    here, to = np.arange(size), np.roll(ranks, -1, axis=1)
    for step in range(size - 1):
        k = (here - step + (0 if add else 1)) % size
        start = low + (high - low) * k // size
        yield _round(ranks, to, start, low + (high - low) * (k + 1) // size, add)


def _fold(ranks: Array, low: Array, high: Array) -> tuple[Array, list[Round], list[Round]]:
    """A power of two of ranks, and what happens before and after with the others."""
    size = ranks.shape[1]
    power = 1 << (size.bit_length() - 1)
    extra = size - power
    if not extra:
        return ranks, [], []
    odd, even = ranks[:, 1 : 2 * extra : 2], ranks[:, 0 : 2 * extra : 2]
    active = np.concatenate([even, ranks[:, 2 * extra :]], axis=1)
    return active, [_round(odd, even, low, high, True)], [_round(even, odd, low, high, False)]


def _halving(ranks: Array, low: Array, high: Array) -> Iterator[Round]:
    active, before, after = _fold(ranks, low, high)
    yield from before
    size = active.shape[1]
    number = np.arange(size)
    first, last = np.broadcast_to(low, active.shape), np.broadcast_to(high, active.shape)
    kept = []
    distance = size // 2
    while distance:
        middle = (first + last) // 2
        upper = (number & distance) > 0  # who keeps the upper half, and sends the lower one
        yield _round(
            active,
            active[:, number ^ distance],
            np.where(upper, first, middle),
            np.where(upper, middle, last),
            True,
        )
        kept.append((distance, first, last))
        first, last = np.where(upper, middle, first), np.where(upper, last, middle)
        distance //= 2
    for distance, wider_first, wider_last in reversed(kept):
        yield _round(active, active[:, number ^ distance], first, last, False)
        first, last = wider_first, wider_last
    yield from after


def _doubling(ranks: Array, low: Array, high: Array) -> Iterator[Round]:
    active, before, after = _fold(ranks, low, high)
    yield from before
    number, distance = np.arange(active.shape[1]), 1
    while distance < active.shape[1]:
        yield _round(active, active[:, number ^ distance], low, high, True)
        distance *= 2
    yield from after


def _tree(ranks: Array, low: Array, high: Array) -> Iterator[Round]:
    size = ranks.shape[1]
    distances = [1 << k for k in range((size - 1).bit_length())]
    for d in distances:
        child = ranks[:, d :: 2 * d]
        yield _round(child, ranks[:, 0 : size - d : 2 * d], low, high, True)
    for d in reversed(distances):
        yield _round(ranks[:, 0 : size - d : 2 * d], ranks[:, d :: 2 * d], low, high, False)


def _both_ways(ranks: Array, low: Array, high: Array) -> Iterator[Round]:
    yield from _ring(ranks, low, high, True)
    yield from _ring(ranks, low, high, False)


_FLAT: dict[str, Callable[[Array, Array, Array], Iterator[Round]]] = {
    "ring": _both_ways,
    "tree": _tree,
    "doubling": _doubling,
    "halving": _halving,
}
#: What `schedule` knows.
ALGORITHMS = (*_FLAT, "hierarchical")


def schedule(algorithm: str, ranks: int, n: int, per_host: int = 1) -> Iterator[Round]:
    """The rounds of an all-reduce of n elements over `ranks` ranks.

    per_host: how many of them, one after the other, share a host; only "hierarchical" looks at that.  Raises
    ArgumentError for an unknown algorithm, and if hosts are not full."""
    if algorithm not in ALGORITHMS:
        raise ArgumentError(
            "schedule", f"there is no algorithm {algorithm!r}", fix=f"use one of {', '.join(ALGORITHMS)}"
        )
    every, zero = np.arange(ranks)[None], np.zeros((1, 1), np.int64)
    if algorithm != "hierarchical":
        yield from _FLAT[algorithm](every, zero, zero + n)
        return
    if per_host < 1 or ranks % per_host:
        raise ArgumentError(
            "schedule",
            f"{ranks} ranks on hosts of {per_host}",
            fix="fill the hosts, or use another algorithm",
        )
    hosts = every.reshape(-1, per_host)
    zeros = np.zeros((len(hosts), 1), np.int64)
    yield from _ring(hosts, zeros, zeros + n, True)
    part = (np.arange(per_host)[:, None] + 1) % per_host  # what each of a host has now
    yield from _halving(hosts.T, n * part // per_host, n * (part + 1) // per_host)
    yield from _ring(hosts, zeros, zeros + n, False)


@functools.lru_cache(maxsize=64)
def _own(
    algorithm: str, ranks: int, rank: int, n: int, per_host: int
) -> list[tuple[int | None, slice, int | None, slice, bool]]:
    """What one rank does in each round: to whom it sends what, from whom it gets what; None is nobody."""
    nothing = slice(0, 0)
    rounds = []
    for r in schedule(algorithm, ranks, n, per_host):
        to, source, sent, got = None, None, nothing, nothing
        for k in np.flatnonzero(r.source == rank):
            to, sent = int(r.target[k]), slice(int(r.start[k]), int(r.stop[k]))
        for k in np.flatnonzero(r.target == rank):
            source, got = int(r.source[k]), slice(int(r.start[k]), int(r.stop[k]))
        rounds.append((to, sent, source, got, r.add))
    return rounds


def perform(
    algorithm: str, engine: Engine, x: Array, per_host: int = 1, scratch: Array | None = None
) -> Array:
    """Make x (n,) the sum of all x, by the messages of a schedule; returns it.

    scratch: memory for what comes, like x.  To see that a schedule is right, and how long it takes: the
    engine's own `all_reduce` is faster, and has a fixed order."""
    received = np.empty_like(x) if scratch is None else scratch
    for to, sent, source, got, add in _own(algorithm, engine.size, engine.rank, x.size, per_host):
        if to is not None and source is not None:
            engine.exchange(x[sent], to, received[got], source)
        elif to is not None:
            engine.send(x[sent], to)
        elif source is not None:
            engine.recv(received[got], source)
        if source is not None:
            np.add(x[got], received[got], out=x[got]) if add else np.copyto(x[got], received[got])
    return x


__all__ = ["ALGORITHMS", "Round", "perform", "schedule"]
