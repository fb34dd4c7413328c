"""How many ranks are worth it: `project`, from what is measured here, and `simulate`, for machines that are
not here.

A step of p ranks takes as long as the slowest of them computes, and then as long as the reduction of the
gradients:

    T(p) = c(p) + r(p)        speedup = T(1) / T(p), times p if every rank has a batch of its own

**project** measures both on this machine, before anything is started: c with the batch (or a p-th of it)
and the threads that a rank would have, r by p processes that reduce arrays of the sizes of your gradients.

**simulate** is told c, and finds r by carrying out an algorithm message by message (`schedules`) with a
clock for every rank. A message of n bytes takes

    alpha + n beta        alpha: latency, beta: 1 / bandwidth

(Hockney 1994; Thakur, Rabenseifner & Gropp 2005), its receiver then adds with 1/gamma bytes a second. Ranks
of one host share its network: k messages that leave or enter it at the same time take k times beta. On this
machine the closed forms of `schedules` come out when nobody shares anything and all start together:

    >>> plan = simulate([4], 4_000_000, algorithms=["ring"], latency=1e-5, bandwidth=1e9, adding=1e10)
    >>> round(1e3 * plan.rows[0].reduce, 4), round(1e3 * (2 * 3 * 1e-5 + 2 * 3 / 4 * 4e-3 + 3 / 4 * 4e-4), 4)
    (6.36, 6.36)

Left out: routes and switches (a network that is slower in its middle than at its ends), and losses of
packets."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..compiled import Compiled
from ..errors import ArgumentError
from ..nn.module import Module
from ..tensor import Tensor
from . import launching
from .engine import processors
from .group import group
from .parallel import BUCKET_MB
from .parallel import buckets as in_buckets
from .schedules import ALGORITHMS, schedule

#: Draws of uneven computing times that are averaged.
DRAWS = 5


class Row(NamedTuple):
    """A step of `ranks` ranks, in seconds.

    how         the algorithm, or the threads of a rank and its batch
    speedup     over one rank, in examples a second
    efficiency  speedup / ranks
    """

    ranks: int
    how: str
    compute: float
    reduce: float
    step: float
    speedup: float

    @property
    def efficiency(self) -> float:
        """Of what `ranks` times one rank would do."""
        return self.speedup / self.ranks


class Plan:
    """What `project` and `simulate` give: `rows`, and `best`, that of the most examples a second.

    Prints as a table.
    """

    def __init__(self, title: str, rows: Sequence[Row]) -> None:
        self.title, self.rows = title, tuple(rows)

    @property
    def best(self) -> Row:
        """The row of the highest speedup (within 1 %), with as few ranks and as little time as that takes."""
        top = max(row.speedup for row in self.rows)
        enough = [row for row in self.rows if row.speedup >= 0.99 * top]
        return min(enough, key=lambda row: (row.ranks, row.step))

    def __str__(self) -> str:
        width = max(len("how"), *(len(row.how) for row in self.rows))
        head = f"{'ranks':>6}  {'how':<{width}}{'compute ms':>12}{'reduce ms':>12}{'step ms':>11}"
        lines = [self.title, f"{head}{'speedup':>10}{'efficiency':>12}"]
        for row in self.rows:
            times = f"{1e3 * row.compute:>12.3f}{1e3 * row.reduce:>12.3f}{1e3 * row.step:>11.3f}"
            mark = "  <- best" if row is self.best else ""
            lines.append(
                f"{row.ranks:>6}  {row.how:<{width}}{times}{row.speedup:>10.2f}{row.efficiency:>12.0%}{mark}"
            )
        return "\n".join(lines)

    __repr__ = __str__


# -- machines that are not here -----------------------------------------------------------------------------


class Network(NamedTuple):
    """Seconds and bytes a second: between hosts, inside of a host, and of adding.  cores: of a host, if its
    ranks are to take turns."""

    latency: float = 50e-6
    bandwidth: float = 1.25e9
    per_host: int = 1
    local_latency: float = 2e-6
    local_bandwidth: float = 5e9
    adding: float = 5e9
    cores: int | None = None

    def reduce(self, algorithm: str, clocks: Any, size: float) -> Any:
        """When each rank has the sum of `size` bytes, if they begin at `clocks` (ranks,) seconds."""
        clock = np.array(clocks, np.float64)
        for r in schedule(algorithm, len(clock), max(int(size), 1), self.per_host):
            moved = (r.stop - r.start).astype(np.float64)
            a, b = r.source // self.per_host, r.target // self.per_host
            outside = a != b
            hosts = max(int(a.max()), int(b.max())) + 1
            leaving, entering = (np.bincount(h[outside], minlength=hosts) for h in (a, b))
            crowd = np.maximum(leaving[a], entering[b])  # who shares the cable
            busy = 1.0
            if self.cores is not None:
                busy = np.maximum(np.bincount(b, minlength=hosts)[b] / self.cores, 1.0)
            taken = np.where(
                outside,
                self.latency + moved * crowd / self.bandwidth,
                (self.local_latency + moved / self.local_bandwidth) * busy,
            )
            arrived = np.maximum(clock[r.source], clock[r.target]) + taken
            after = clock.copy()
            after[r.source] = np.maximum(after[r.source], arrived)
            added = moved / self.adding * busy if r.add else 0.0
            after[r.target] = np.maximum(after[r.target], arrived + added)
            clock = after
        return clock


def simulate(
    ranks: Iterable[int],
    size: float,
    *,
    compute: float = 0.0,
    algorithms: Sequence[str] | None = None,
    latency: float = 50e-6,
    bandwidth: float = 1.25e9,
    per_host: int = 1,
    local_latency: float = 2e-6,
    local_bandwidth: float = 5e9,
    adding: float = 5e9,
    cores: int | None = None,
    split: bool = False,
    jitter: float = 0.0,
    buckets: int = 1,
    overlap: float = 0.0,
    seed: int = 0,
) -> Plan:
    """How long a data parallel step would take on a network: a row for each number of ranks and algorithm.

    ranks: how many, in all.  size: bytes of the gradients.  compute: seconds of one rank's step without a
    reduction; with split=True of the whole batch, which is then shared out, else every rank has as much.
    algorithms: of `schedules.ALGORITHMS` ("hierarchical" only where there are several ranks on a host).
    latency, bandwidth: seconds and bytes a second between hosts (here 50 us and 10 Gbit/s); local_latency,
    local_bandwidth: between `per_host` ranks of one host; adding: bytes a second.  cores: of a host, if it
    has fewer than ranks.  jitter: standard deviation of a rank's computing time, as a share of it.
    buckets: in how many parts gradients are reduced; overlap: for which last share of the computing they come
    (0, as here: a rank computes or reduces).  Raises ArgumentError for what cannot be."""
    counts = [int(p) for p in ranks]
    for name, value, low in (
        ("ranks", min(counts, default=0), 1),
        ("buckets", buckets, 1),
        ("per_host", per_host, 1),
        ("size", size, 0),
        ("compute", compute, 0),
        ("latency", latency, 0),
        ("jitter", jitter, 0),
    ):
        if value < low:
            raise ArgumentError("simulate", f"{name} is {value!r}", fix=f"pass at least {low}")
    if min(bandwidth, local_bandwidth, adding) <= 0 or not 0 <= overlap <= 1:
        raise ArgumentError(
            "simulate", "a bandwidth of 0, or an overlap outside of 0 to 1", fix="pass bytes a second"
        )
    network = Network(latency, bandwidth, per_host, local_latency, local_bandwidth, adding, cores)
    chosen = (
        [a for a in ALGORITHMS if a != "hierarchical" or per_host > 1] if algorithms is None else algorithms
    )
    rows = []
    for p in counts:
        base = compute / p if split else compute
        for algorithm in chosen if p > 1 else ["alone"]:
            if algorithm == "hierarchical" and p % per_host:
                continue
            computed, done = [], []
            for draw in range(DRAWS if jitter and p > 1 else 1):
                noise = np.random.default_rng([seed, draw]).normal(size=p) * jitter
                own = base * np.maximum(1.0 + noise, 0.0)
                clock = np.zeros(p)
                for k in range(buckets if p > 1 else 0):
                    ready = own * (1.0 - overlap + overlap * (k + 1) / buckets)
                    clock = network.reduce(algorithm, np.maximum(clock, ready), size / buckets)
                computed.append(own.mean())
                done.append(max(own.max(), clock.max()))
            c, step = float(np.mean(computed)), float(np.mean(done))
            speedup = compute / step * (1 if split else p) if step else float(p)
            rows.append(Row(p, algorithm, c, step - c, step, speedup))
    link = f"{1e6 * latency:g} us, {bandwidth / 1e9:g} GB/s"
    inside = f", {per_host} ranks a host" if per_host > 1 else ""
    return Plan(f"{size / 1e6:g} MB of gradients over {link}{inside}", rows)


# -- this machine -------------------------------------------------------------------------------------------


def project(
    step: Callable[..., Any],
    *args: Any,
    model: Module,
    ranks: Sequence[int] | None = None,
    split: bool = True,
    repeats: int = 20,
) -> Plan:
    """How much faster data parallel training of `model` would be on this machine, and with how many ranks.

    step: a training step of one process, as it is, called as `step(*args)`; a compiled one runs on copies of
    its state, any other really trains for some steps.  args: a whole batch; with split=True it is shared
    out, each rank taking a p-th of its first dimension, else every rank has as much.  ranks: numbers to try
    (1, 2, 4, ... up to twice the processors).  repeats: of every measurement, whose median counts.

    The computing time is that of one process while the other processors are idle; where memory is the limit,
    several at once are slower than that.  Takes about a second for each number of ranks."""
    cores = processors()
    if ranks is None:
        counts = [1 << k for k in range((2 * cores).bit_length())]
    else:
        counts = [int(p) for p in ranks]
    batch = next((x.shape[0] for x in args if isinstance(x, Tensor) and x.ndim), None)
    if not counts or min(counts) < 1:
        raise ArgumentError("project", f"ranks are {ranks!r}", fix="pass numbers of at least 1")
    if split and batch is None:
        raise ArgumentError("project", "there is no batch to share out", fix="pass tensors, or split=False")
    learned = [p for p in model.parameters() if p.requires_grad]
    sizes = [
        (sum(p._array.size for p in bucket), bucket[0].dtype.name)
        for bucket in in_buckets(learned, int(BUCKET_MB * (1 << 20)))
    ]
    kernels = importlib.import_module("minigrad._kernels").lib
    before = kernels.mg_num_threads()
    rows: list[Row] = []
    try:
        for p in sorted(counts if 1 in counts else [1, *counts]):
            threads, part = max(1, cores // p), -(-(batch or 1) // p) if split else batch
            kernels.mg_set_num_threads(threads)
            mine = [
                x[:part] if split and isinstance(x, Tensor) and x.ndim and x.shape[0] == batch else x
                for x in args
            ]
            compute = _timed(step, mine, repeats) * max(1.0, p / cores)
            reduced = launching.run(_reductions, p, (sizes, repeats), threads=1)[0] if p > 1 else 0.0
            alone = rows[0].step if rows else compute
            taken = compute + reduced
            speedup = alone / taken * (1 if split else p)
            how = f"{threads} thread{'s' if threads > 1 else ''}" + (f", batch {part}" if batch else "")
            rows.append(Row(p, how, compute, reduced, taken, speedup))
    finally:
        kernels.mg_set_num_threads(before)
    megabytes = sum(p._array.nbytes for p in learned) / 1e6
    return Plan(
        f"{megabytes:.3g} MB of gradients in {len(sizes)} reductions, {cores} processors",
        [r for r in rows if r.ranks in counts],
    )


def _timed(step: Callable[..., Any], args: Sequence[Any], repeats: int) -> float:
    """Seconds of a step, the median."""
    if isinstance(step, Compiled):
        return float(step.profile(*args, repeats=repeats).total)
    times = []
    for k in range(repeats + 2):
        begin = time.perf_counter()
        step(*args)
        if k > 1:
            times.append(time.perf_counter() - begin)
    return float(np.median(times))


def _reductions(sizes: Sequence[tuple[int, str]], repeats: int) -> float:
    """What a rank does for `project`: seconds of all reductions of a step, the median."""
    arrays = [np.ones(n, dtype) for n, dtype in sizes]
    engine, times = group(), []
    for k in range(repeats + 2):
        engine.barrier()
        begin = time.perf_counter()
        for number, x in enumerate(arrays):
            engine.all_reduce(x, "mean", 1.0, x, number)
        if k > 1:
            times.append(time.perf_counter() - begin)
    return float(np.median(times))


__all__ = ["Network", "Plan", "Row", "project", "simulate"]
