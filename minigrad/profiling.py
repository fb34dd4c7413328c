"""`profile`: where the time goes, instruction by instruction or operation by operation.

    profile(step, x, y)             a compiled function: a row for each instruction of its program
    step.profile(x, y)              the same
    profile(f, x)                   any other function: a row for each operation and line of yours
    with profile() as seen: ...     the same of a block

Every row has its time and what it should have cost.  With `flops` operations on `bytes` bytes, no
kernel can be faster than the *roofline* (Williams, Waterman & Patterson 2009),

    least time  =  max(flops / peak FLOP/s,  bytes / peak bytes/s),

whose two peaks are measured here and now: multiply-adds on registers, and copying as much memory as
the function touches.  The share of the roofline is least time / time: near 100 % a kernel is as good as
the machine; a small share of a large time is where work would pay.  (What one instruction leaves in a
small cache, the next may read faster than a copy does: shares above 100 % happen.)

    >>> import minigrad as mg
    >>> step = mg.compile(lambda x: (x @ x).relu().sum())
    >>> report = step.profile(mg.ones(64, 64), repeats=3)
    >>> sum(row.flops for row in report.rows), all(row.seconds > 0 for row in report.rows)
    (532480, True)

`report.save("step.json")` writes a trace for `chrome://tracing` or ui.perfetto.dev; with ".html" a
page, else text.  A compiled function runs on copies of its state, so nothing changes; a function that is
not compiled really runs, once.
"""

from __future__ import annotations

import functools
import html
import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .backends import Backend, get_num_threads
from .backends import c as _c
from .compiled import Compiled
from .errors import ArgumentError, DTypeError, Where, describe, here, short_line
from .flops import flops as op_flops
from .ir import Graph, Spec
from .mode import current, using
from .passes.cost import node_flops
from .record import Op
from .trace import Captured, arguments_of
from .tree import flatten


class Row(NamedTuple):
    """An instruction, or all calls of an operation from one line.

    kernel   what ran: the instruction of a program, else the backend
    what     the operations that it computes
    shape    of its result
    seconds  median over the repeats;  of a function that is not compiled: the sum of all calls
    """

    kernel: str
    what: str
    shape: tuple[int, ...]
    where: str
    seconds: float
    flops: int
    bytes: int
    calls: int = 1


class Peaks(NamedTuple):
    """What this machine can do, per second, on this many threads."""

    flops: float
    bytes: float
    threads: int

    def least(self, row: Row) -> float:
        """Seconds that the roofline leaves a row."""
        return max(row.flops / self.flops, row.bytes / self.bytes)


class Event(NamedTuple):
    """A call of a kernel: what, when (seconds from the start), for how long."""

    name: str
    start: float
    seconds: float
    where: str


class Profile:
    """What `profile` returns: prints as a table, shows as HTML; `save` writes either, or a trace.

    total: seconds of one run, all that is not in rows included.
    """

    def __init__(
        self, name: str, rows: Sequence[Row], total: float, peaks: Peaks | None, events: Sequence[Event]
    ) -> None:
        self.name, self.rows, self.total, self.peaks = name, tuple(rows), total, peaks
        self.events = tuple(events)

    HEAD = ("time", "share", "calls", "GFLOP/s", "GB/s", "roofline", "kernel", "operations", "result", "line")

    @property
    def inside(self) -> float:
        """Seconds in all rows."""
        return sum(row.seconds for row in self.rows)

    def cells(self, row: Row) -> tuple[str, ...]:
        """A row as text."""
        least = f"{self.peaks.least(row) / row.seconds:.0%}" if self.peaks and row.seconds else "-"
        rates = [f"{n / row.seconds / 1e9:.1f}" if n and row.seconds else "-" for n in (row.flops, row.bytes)]
        share = f"{row.seconds / max(self.total, 1e-12):.0%}"
        what = row.what if len(row.what) <= 44 else row.what[:41] + "..."
        shape = "x".join(map(str, row.shape)) or "()"
        return (_time(row.seconds), share, str(row.calls), *rates, least, row.kernel, what, shape, row.where)

    def outside(self) -> str:
        """What is not in rows, in words."""
        rest = max(self.total - self.inside, 0.0)
        return f"{_time(rest)} of {_time(self.total)} outside of these ({rest / max(self.total, 1e-12):.0%})"

    def limits(self) -> str:
        """The measured peaks, in words."""
        if self.peaks is None:
            return "no roofline: its peaks are measured by the compiled extension, which is not there"
        return (
            f"roofline: {self.peaks.flops / 1e9:.0f} GFLOP/s and {self.peaks.bytes / 1e9:.0f} GB/s "
            f"on {self.peaks.threads} thread{'s' if self.peaks.threads > 1 else ''}"
        )

    def __str__(self) -> str:
        table = [self.HEAD, *map(self.cells, self.rows)]
        widths = [max(len(line[k]) for line in table) for k in range(len(self.HEAD))]
        lines = [
            "  ".join(
                cell.rjust(width) if k < 6 else cell.ljust(width)
                for k, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        return "\n".join([f"{self.name}:", *lines, self.outside(), self.limits()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th style="text-align:{"right" if k < 6 else "left"};padding:4px 10px">{h}</th>'
            for k, h in enumerate(self.HEAD)
        )
        body = []
        for row in self.rows:
            share = min(row.seconds / max(self.total, 1e-12), 1.0)
            cells = self.cells(row)
            inner = []
            for k, cell in enumerate(cells):
                style = f"text-align:{'right' if k < 6 else 'left'};padding:3px 10px;white-space:nowrap"
                if k == 1:
                    style += f";background:linear-gradient(to left,#f4c27a {100 * share:.0f}%,transparent 0)"
                text = html.escape(cell)
                title = html.escape(row.what)
                inner.append(
                    f'<td style="{style}"' + (f' title="{title}"' if k == 7 else "") + f">{text}</td>"
                )
            body.append(f'<tr style="border-top:1px solid #ddd">{"".join(inner)}</tr>')
        return (
            f'<div style="font-family:sans-serif;overflow:auto"><h3>{html.escape(self.name)}</h3>'
            f'<table style="border-collapse:collapse;font:12px monospace"><tr>{head}</tr>'
            f"{''.join(body)}</table>"
            f'<p style="font-size:12px">{html.escape(f"{self.outside()}. {self.limits()}.")}</p></div>'
        )

    def chrome_trace(self) -> dict[str, Any]:
        """The events in the Trace Event Format, times in microseconds."""
        return {
            "displayTimeUnit": "ns",
            "traceEvents": [
                {
                    "name": e.name,
                    "ph": "X",
                    "ts": 1e6 * e.start,
                    "dur": 1e6 * e.seconds,
                    "pid": 0,
                    "tid": 0,
                    "args": {"line": e.where},
                }
                for e in self.events
            ],
        }

    def save(self, path: Any) -> None:
        """Write a trace if the name ends in .json, a page if in .html, else text."""
        name = str(path)
        if name.endswith(".json"):
            text = json.dumps(self.chrome_trace())
        elif name.endswith((".html", ".htm")):
            title = html.escape(self.name)
            text = f'<!doctype html><meta charset="utf-8"><title>{title}</title>\n{self._repr_html_()}'
        else:
            text = f"{self}\n"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.1f} us"


@functools.lru_cache(maxsize=32)
def _peaks(power: int, threads: int) -> Peaks:
    megabytes, repeat = 2.0**power / 2**20, 20 if power < 24 else 3
    flops = max(_c.peak_flops(seconds=0.01) for _ in range(3))  # the best: neighbours only make it less
    return Peaks(flops, max(_c.copy_bandwidth(megabytes, repeat) for _ in range(3)), threads)


def peaks(touched: int) -> Peaks | None:
    """The limits for work that touches so many bytes; None without the compiled extension."""
    if not _c.available:
        return None
    power = min(max(touched // 2, 1 << 14).bit_length(), 27)  # half is read, half written
    return _peaks(power, get_num_threads())


# -- compiled functions ----------------------------------------------------------------------------


def operands(captured: Captured, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The inputs of a captured graph for a call, as copies, so that a run changes nothing."""
    arrays = [t._array for t in arguments_of(flatten((args, kwargs))[0])]
    for state in captured.state:
        t = None if state.tensor is None else state.tensor()
        arrays.append(state.array if t is None else t._array)
    return [np.array(a) for a in arrays] + [np.array(n.read(), np.float64) for n in captured.live]


def ready(run: Any, arrays: list[Any]) -> Any:
    """`run` of these arrays as a call without arguments; of a program that is C throughout, nothing but C."""
    if not getattr(run, "whole", False):
        return functools.partial(run, *arrays)
    outputs = run.outputs()
    run.point(arrays)
    for k, y in enumerate(outputs):
        run.memory[run.first_output + k] = _c.ffi.cast("void *", y.__array_interface__["data"][0])
    kept = [*arrays, *outputs]  # as long as the program points to them
    return functools.partial(run.fast, kept[len(arrays) :])


def profile_compiled(
    compiled: Compiled, args: tuple[Any, ...], kwargs: dict[str, Any], repeats: int = 20
) -> Profile:
    """A row for each instruction of the program for these arguments; on copies of the state."""
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ArgumentError("profile", f"repeats is {repeats!r}", fix="pass at least 1")
    captured = compiled.captured(*args, **kwargs)
    graph = compiled.rewrite(captured.graph)
    arrays = operands(captured, args, kwargs)
    run: Any = compiled._executor(graph)
    timed = getattr(run, "timed_run", None)
    if timed is None:
        described, times = _interpreted(graph, arrays, repeats)
    else:
        timed(*arrays)
        described = run.described()
        times = [timed(*arrays)[1] for _ in range(repeats)]
    totals = []
    call = ready(run, arrays)
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        totals.append(time.perf_counter() - begin)
    rows = [
        Row(d.kernel, " ".join(d.ops), d.shape, ", ".join(d.where), float(seconds), d.flops, d.bytes)
        for d, seconds in zip(described, np.median(times, axis=0), strict=True)
    ]
    events, at = [], 0.0
    for row in rows:
        events.append(Event(row.what, at, row.seconds, row.where))
        at += row.seconds
    touched = sum(a.nbytes for a in arrays) + sum(c.nbytes for c in graph.constants)
    touched += getattr(run, "arena", np.empty(0)).nbytes
    name = getattr(compiled, "__name__", "function")
    return Profile(name, rows, float(np.median(totals)), peaks(touched), events)


class _Described(NamedTuple):
    """A node that was interpreted; as `execute.program.Described`."""

    kernel: str
    ops: tuple[str, ...]
    where: tuple[str, ...]
    shape: tuple[int, ...]
    flops: int
    bytes: int


def _interpreted(graph: Graph, arrays: list[Any], repeats: int) -> tuple[list[_Described], list[list[float]]]:
    """The nodes of a graph that are computed (views are not), and their times, run by run."""
    backend = current().backend
    chosen = [p for p, node in enumerate(graph.nodes) if not node.op.view]
    times = []
    values: list[Any] = []
    for _ in range(repeats + 1):
        values = [*arrays, *graph.constants]
        taken = []
        for node in graph.nodes:
            begin = time.perf_counter()
            y = backend[node.op](*[values[v] for v in node.inputs], *node.attrs)
            taken.append(time.perf_counter() - begin)
            values.append(np.asarray(y))
        times.append([taken[p] for p in chosen])
    described = []
    for p in chosen:
        node = graph.nodes[p]
        moved = {v: values[v].nbytes for v in node.inputs}
        described.append(
            _Described(
                backend.name,
                (node.op.name,),
                (node.where,) if node.where else (),
                node.spec.shape,
                node_flops(graph, node),
                sum(moved.values()) + values[graph.first_node + p].nbytes,
            )
        )
    return described, times[1:]


# -- everything else -------------------------------------------------------------------------------


class _Watched(Backend):
    """A backend whose kernels are timed."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner.name, {}, stepper=inner.stepper)
        self.inner = inner
        self.random_bits = inner.random_bits
        self.calls: list[tuple[Op, tuple[Any, ...], Any, Where | None, float, float]] = []

    def __missing__(self, op: Op) -> Any:
        kernel, calls, count = self.inner[op], self.calls, len(op.inputs)

        def timed(*args: Any) -> Any:
            begin = time.perf_counter()
            y = kernel(*args)
            taken = time.perf_counter() - begin
            inputs = args if op.variadic else args[:count]
            specs = tuple([Spec(x.shape, x.dtype) if isinstance(x, np.ndarray) else x for x in inputs])
            attrs = args[len(args) - len(op.attrs) :] if op.attrs else ()
            y_spec = Spec(np.shape(y), np.asarray(y).dtype)
            calls.append((op, (specs, attrs), y_spec, here(), begin, taken))
            return y

        self[op] = timed
        return timed


class Recorder:
    """Notes every kernel that runs in a block; `report()` afterwards."""

    def __init__(self, name: str = "block") -> None:
        self.name = name
        self._watched: _Watched | None = None
        self._seconds = 0.0

    def __enter__(self) -> Recorder:
        mode = current()
        self._watched = _Watched(mode.backend)
        self._switch = using(mode.but(backend=self._watched))
        self._switch.__enter__()
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._seconds = time.perf_counter() - self._begin
        self._switch.__exit__(*exc)

    def report(self) -> Profile:
        """What was seen, the most expensive first.  Raises ArgumentError before the block has run."""
        if self._watched is None:
            raise ArgumentError("profile", "nothing has run yet", fix="use it as `with profile() as seen:`")
        together: dict[Any, list[Any]] = {}
        events = []
        touched = 0
        for op, (specs, attrs), y, where, begin, taken in self._watched.calls:
            given = [s for s in specs if isinstance(s, Spec)]
            moved = sum(map(_bytes, (*given, y))) if not op.view else 0
            entry = together.setdefault((op.name, where), [0.0, 0, 0, 0, y.shape])
            entry[0] += taken
            entry[1] += op_flops(op, specs, y, attrs) if len(given) == len(specs) else 0
            entry[2] += moved
            entry[3] += 1
            touched = max(touched, moved)
            events.append(Event(op.name, begin - self._begin, taken, describe(where)))
        rows = [
            Row(self._watched.name, name, shape, short_line(where), seconds, count, moved, calls)
            for (name, where), (seconds, count, moved, calls, shape) in together.items()
        ]
        rows.sort(key=lambda row: -row.seconds)
        return Profile(self.name, rows, self._seconds, peaks(touched), events)

    def __str__(self) -> str:
        return str(self.report())

    def _repr_html_(self) -> str:
        return self.report()._repr_html_()


def _bytes(spec: Spec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64)) * spec.dtype.itemsize


def profile(f: Any = None, *args: Any, repeats: int = 20, **kwargs: Any) -> Any:
    """Where a call of `f` with these arguments spends its time: a Profile.

    A compiled function is run `repeats` times on copies of its state, and nothing changes; any other
    function is called once.  Without a function: a context manager that watches a block.
    Raises DTypeError if `f` cannot be called.
    """
    if f is None:
        return Recorder()
    if isinstance(f, Compiled):
        return profile_compiled(f, args, kwargs, repeats)
    if not callable(f):
        raise DTypeError("profile", f"a {type(f).__name__} cannot be called", fix="pass a function")
    with Recorder(getattr(f, "__name__", type(f).__name__)) as seen:
        f(*args, **kwargs)
    return seen.report()


__all__ = [
    "Event",
    "Peaks",
    "Profile",
    "Recorder",
    "Row",
    "operands",
    "peaks",
    "profile",
    "profile_compiled",
    "ready",
]
