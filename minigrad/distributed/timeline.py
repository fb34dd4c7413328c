"""`timeline`: what each rank does with its time, as a table, as a picture, and as a trace.

    with mg.distributed.timeline() as seen:
        for x, y in batches:
            step(x, y)
    if mg.distributed.get_rank() == 0:
        print(seen)
        seen.save("steps.json")          # for ui.perfetto.dev

The time of a rank is of three kinds. In a collective it *waits* until others are there, and *reduces*: copies
and adds, or moves data. Everything else is counted as computing. When a rank waits, another one is
late: the one that waits least is who the others wait for.

The share of time that ranks compute is the *efficiency*: p ranks do the work of p * efficiency ranks that
never meet. Those who share a machine are slower each, as they share its memory and its clock; that is
in the computing time, and `project` (which see) compares it with that of one rank by itself.

    >>> with timeline() as seen:
    ...     total = sum(range(1000))
    >>> seen.efficiency, len(seen.ranks)
    (1.0, 1)

Clocks are set to zero when all ranks leave a barrier, which is some microseconds apart on one machine, and
about the latency of the network on several."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from .engine import KINDS, Array
from .group import group

#: Characters of a bar, and collectives that it shows at most.
WIDTH, SHOWN = 72, 12


class Rank(NamedTuple):
    """The time of a rank, in seconds.

    seconds      from the first moment to the last
    compute      of these, outside of collectives
    wait         waiting for other ranks
    reduce       inside of collectives, otherwise
    collectives  how many there were
    bytes        handed to them
    events       (collectives, 5) int64: begin, end and waiting in nanoseconds, index in `engine.KINDS`, bytes
    """

    seconds: float
    compute: float
    wait: float
    reduce: float
    collectives: int
    bytes: int
    events: Array


class Timeline:
    """What `timeline` gives: `ranks` after the block, the same on all ranks.

    Prints as a table and a bar for each rank; `save` writes a trace or the text."""

    def __init__(self) -> None:
        self.ranks: tuple[Rank, ...] = ()
        self._begin = 0

    def __enter__(self) -> Timeline:
        engine = group()
        engine.barrier()
        self._begin = time.monotonic_ns()
        engine.start_log()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, where: TracebackType | None) -> None:
        engine = group()
        events = engine.stop_log()
        end = time.monotonic_ns()
        if kind is not None:  # others may never come
            return
        events[:, :2] -= self._begin
        counts = engine.all_gather(np.array([len(events), end - self._begin], np.int64))
        padded = np.zeros((int(counts[:, 0].max()), 5), np.int64)
        padded[: len(events)] = events
        every = engine.all_gather(padded)
        self.ranks = tuple(
            _rank(events[:n], int(total)) for events, (n, total) in zip(every, counts, strict=True)
        )

    @property
    def seconds(self) -> float:
        """Of the slowest rank."""
        return max((r.seconds for r in self.ranks), default=0.0)

    @property
    def efficiency(self) -> float:
        """The share of the time that ranks compute, on average."""
        return sum(r.compute for r in self.ranks) / max(self.seconds * len(self.ranks), 1e-12)

    def __str__(self) -> str:
        if not self.ranks:
            return "timeline: nothing yet"
        lines = [
            f"{len(self.ranks)} rank{'s' if len(self.ranks) > 1 else ''}, {_time(self.seconds)}: "
            f"efficiency {self.efficiency:.0%}",
            f"{'rank':>4}{'compute':>18}{'wait':>18}{'reduce':>18}{'collectives':>13}{'MB':>10}",
        ]
        for number, r in enumerate(self.ranks):
            cells = "".join(
                f"{_time(part):>12}{part / max(r.seconds, 1e-12):>6.0%}"
                for part in (r.compute, r.wait, r.reduce)
            )
            lines.append(f"{number:>4}{cells}{r.collectives:>13}{r.bytes / 1e6:>10.2f}")
        return "\n".join([*lines, *self._bars()])

    __repr__ = __str__

    def _bars(self) -> list[str]:
        """A character for each moment at the end: # compute, . wait, + reduce."""
        if not any(len(r.events) for r in self.ranks):
            return []
        first = min(int(r.events[-SHOWN:][0, 0]) for r in self.ranks if len(r.events))
        last = max(int(r.events[-1, 1]) for r in self.ranks if len(r.events))
        first = max(first - (last - first) // 8, 0)
        each = max((last - first) / WIDTH, 1.0)
        lines = ["", f"the last {_time((last - first) / 1e9)}:  # compute  . wait  + reduce"]
        edges = first + each * np.arange(WIDTH + 1)
        for number, r in enumerate(self.ranks):
            begin, end, waited = r.events[:, 0], r.events[:, 1], r.events[:, 2]
            share = np.stack(
                [
                    np.full(WIDTH, each),
                    _inside(edges, begin, begin + waited),
                    _inside(edges, begin + waited, end),
                ]
            )
            share[0] -= share[1] + share[2]
            lines.append(f"{number:>4} {''.join('#.+'[k] for k in share.argmax(0))}")
        return lines

    def chrome_trace(self) -> dict[str, Any]:
        """The Trace Event Format: a row for each rank, times in microseconds."""
        events: list[dict[str, Any]] = []
        for number, r in enumerate(self.ranks):
            events.append(
                {
                    "name": "thread_name",
                    "ph": "M",
                    "pid": 0,
                    "tid": number,
                    "args": {"name": f"rank {number}"},
                }
            )
            at = 0
            rows = [*r.events.tolist(), [int(1e9 * r.seconds), 0, 0, -1, 0]]
            for begin, end, waited, kind, size in rows:
                spans = [("compute", at, begin)]
                if kind >= 0:
                    spans += [("wait", begin, begin + waited), (KINDS[kind], begin + waited, end)]
                for name, a, b in spans:
                    if b > a:
                        args = {} if name == "compute" else {"collective": KINDS[kind], "bytes": size}
                        events.append(
                            {
                                "name": name,
                                "ph": "X",
                                "ts": a / 1e3,
                                "dur": (b - a) / 1e3,
                                "pid": 0,
                                "tid": number,
                                "args": args,
                            }
                        )
                at = end
        return {"displayTimeUnit": "ns", "traceEvents": events}

    def save(self, path: Any) -> None:
        """Write a trace if the name ends in .json, else the text.  One rank is enough."""
        text = json.dumps(self.chrome_trace()) if str(path).endswith(".json") else f"{self}\n"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def timeline() -> Timeline:
    """A block in which every rank notes its collectives: `with timeline() as seen`.  All ranks must use it.

    Notes at most 100,000 collectives, what comes after them counts as computing; one costs some tens of
    nanoseconds more.
    """
    return Timeline()


def _rank(events: Array, total: int) -> Rank:
    inside, wait = int((events[:, 1] - events[:, 0]).sum()), int(events[:, 2].sum())
    return Rank(
        total / 1e9,
        (total - inside) / 1e9,
        wait / 1e9,
        (inside - wait) / 1e9,
        len(events),
        int(events[:, 4].sum()),
        events,
    )


def _inside(edges: Array, begin: Array, end: Array) -> Array:
    """How much of each cell between edges lies in one of the (disjoint, rising) spans.

    >>> _inside(np.array([0.0, 10.0, 20.0]), np.array([5, 12]), np.array([11, 14]))
    array([5., 3.])
    """
    starts = np.concatenate([[0], np.cumsum(end - begin)])

    def until(t: Any) -> Any:
        k = np.searchsorted(begin, t)
        before = np.where(k > 0, k - 1, 0)
        return np.where(k > 0, starts[before] + np.clip(t - begin[before], 0, (end - begin)[before]), 0.0)

    covered = until(edges)
    inside: Array = covered[1:] - covered[:-1]
    return inside


def _time(seconds: float) -> str:
    """
    >>> _time(0.00123), _time(2.5)
    ('1.23 ms', '2.50 s')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1.0 or unit == "us":
            return f"{seconds * scale:.2f} {unit}"
    return ""


__all__ = ["Rank", "Timeline", "timeline"]
