"""`explain`: what the compiler does to a function, pass by pass, in numbers and pictures.

    explain(f, *args)            a table: nodes, steps, bytes, operations, memory, time after each pass
    explain(f, *args).save("step.html")       the same with pictures and the text of every graph

It is the observer of the pass runner (`minigrad.passes.run`): what it shows is what runs, and cannot
drift from it.  Times are measured, on copies of the state, so nothing changes; a pass that gained
nothing says so.

    >>> import minigrad as mg
    >>> report = explain(lambda x: (x * 1.0 + 0.5).exp().exp(), mg.ones(100), repeats=1)
    >>> for stage in report.stages:
    ...     print(stage.name, len(stage.graph.nodes), stage.steps, stage.bytes)
    trace 4 4 3208
    fold 4 4 3208
    simplify 3 3 2404
    cse 3 3 2404
    prune 3 3 2404
    fuse 3 1 804
"""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .compiled import Compiled
from .compiled import compile as compile_
from .drawing import Picture, _sketch_graph, _svg, input_names
from .errors import Error
from .ir import Graph
from .passes import run
from .passes.cost import bytes_moved, flops
from .plan import Plan, plan, size_text
from .profiling import operands, ready


class Stage(NamedTuple):
    """A graph after a pass, and what it costs."""

    name: str
    graph: Graph
    steps: int
    bytes: int
    flops: int
    plan: Plan
    seconds: float | None  # of a run with the chosen executor; None if it could not be run
    taken: float  # seconds that the pass itself took

    @property
    def cost(self) -> tuple[int, int, int, int]:
        """What a pass may lessen."""
        return len(self.graph.nodes), self.steps, self.bytes, self.plan.peak


class Report:
    """What `explain` returns: prints as a table, shows as HTML, `save` writes either."""

    def __init__(self, name: str, stages: Sequence[Stage], executor: str, names: dict[int, str]) -> None:
        self.name, self.stages, self.executor, self.names = name, tuple(stages), executor, names

    def verdict(self, number: int) -> str:
        """What a pass gained, in words."""
        if not number:
            return "as recorded"
        before, after = self.stages[number - 1], self.stages[number]
        if before.cost == after.cost:
            return "gained nothing"
        words = []
        for what, a, b in zip(("nodes", "steps", "bytes", "memory"), before.cost, after.cost, strict=True):
            if a != b:
                words.append(f"{what} {100 * (b - a) / max(a, 1):+.0f} %")
        if before.seconds and after.seconds:
            change = after.seconds / before.seconds - 1
            words.append("no faster here" if change > -0.03 else f"time {100 * change:+.0f} %")
        return ", ".join(words)

    def rows(self) -> list[tuple[str, ...]]:
        """The table, as text."""
        found: list[tuple[str, ...]] = []
        for i, s in enumerate(self.stages):
            seconds = "-" if s.seconds is None else f"{1e6 * s.seconds:.0f} us"
            found.append(
                (
                    s.name,
                    str(len(s.graph.nodes)),
                    str(s.steps),
                    size_text(s.bytes),
                    _count(s.flops),
                    size_text(s.plan.peak),
                    seconds,
                    f"{1e3 * s.taken:.1f} ms",
                    self.verdict(i),
                )
            )
        return found

    HEAD = ("after", "nodes", "steps", "moved", "flops", "arena", "a run", "the pass", "gain")

    def __str__(self) -> str:
        table = [self.HEAD, *self.rows()]
        widths = [max(len(row[k]) for row in table) for k in range(len(self.HEAD))]
        lines = []
        for row in table:
            cells = [
                c.ljust(w) if k in (0, len(row) - 1) else c.rjust(w)
                for k, (c, w) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        last = self.stages[-1]
        lines.append(f"memory: {last.plan}")
        lines.append(f"runs are measured with the executor {self.executor!r}")
        return "\n".join([f"{self.name}:", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(tag: str, texts: Sequence[str]) -> str:
            """Words at the left, numbers at the right."""
            sides = ["left" if k in (0, len(texts) - 1) else "right" for k in range(len(texts))]
            return "".join(
                f'<{tag} style="text-align:{side};white-space:nowrap">{html.escape(text)}</{tag}>'
                for side, text in zip(sides, texts, strict=True)
            )

        cells = line("th", self.HEAD)
        rows = []
        for row in self.rows():
            inner = line("td", row)
            idle = ' style="color:#888"' if row[-1] == "gained nothing" else ""
            rows.append(f"<tr{idle}>{inner}</tr>")
        parts = [
            f"<h2>{html.escape(self.name)}</h2>",
            f'<table style="border-collapse:collapse;font:12px monospace" cellpadding="5">'
            f'<tr style="border-bottom:1px solid #888">{cells}</tr>{"".join(rows)}</table>',
            f"<p>{html.escape(str(self.stages[-1].plan))}; runs are measured with the executor "
            f"<code>{html.escape(self.executor)}</code></p>",
        ]
        for i, stage in enumerate(self.stages):
            gain = self.verdict(i)
            title = f"after {stage.name}: {gain}" if i else "as recorded"
            if gain == "gained nothing":
                parts.append(f"<p>{html.escape(title)}</p>")
                continue
            shown = " open" if i == len(self.stages) - 1 else ""
            picture = _svg(_sketch_graph(stage.graph, self.names))
            parts.append(
                f"<details{shown}><summary>{html.escape(title)}</summary>"
                f'<div style="overflow:auto">{picture}</div>'
                f"<details><summary>text</summary><pre>{html.escape(str(stage.graph))}</pre></details></details>"
            )
        return "\n".join(parts)

    def picture(self, stage: str | None = None) -> Picture:
        """The drawing of a stage (by default the last)."""
        found = {s.name: s for s in self.stages}
        return Picture(_svg(_sketch_graph(found[stage or self.stages[-1].name].graph, self.names)))

    def save(self, path: Any) -> None:
        """Write the report: as a page of HTML if the name ends so, else as text."""
        text = str(self)
        if str(path).endswith((".html", ".htm")):
            text = f'<!doctype html><meta charset="utf-8"><title>{html.escape(self.name)}</title>\n'
            text += self._repr_html_()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def _count(number: float) -> str:
    for unit in ("", "k", "M", "G"):
        if number < 1000 or unit == "G":
            break
        number /= 1000
    return f"{number:.0f}" if not unit else f"{number:.1f} {unit}"


def explain(f: Any, *args: Any, repeats: int = 20, **kwargs: Any) -> Report:
    """What `compile` makes of `f` called with these arguments, pass by pass, measured.

    `f` may be compiled already: then its own passes and executor are used.  repeats: runs per stage, of
    which the median counts.  Neither the state nor the arguments are changed.
    """
    compiled = f if isinstance(f, Compiled) else compile_(f)
    captured = compiled.captured(*args, **kwargs)
    arrays = operands(captured, args, kwargs)
    execute = compiled._executor
    stages: list[Stage] = []
    clock = [time.perf_counter()]

    def look(name: str, before: Graph, after: Graph) -> None:
        taken = time.perf_counter() - clock[0]
        copies = [np.array(a) for a in arrays]
        seconds = _measure(execute(after), copies, repeats)
        stages.append(
            Stage(
                name, after, len(after.steps()), bytes_moved(after), flops(after), plan(after), seconds, taken
            )
        )
        clock[0] = time.perf_counter()

    look("trace", captured.graph, captured.graph)
    run(captured.graph, compiled.passes, look)
    names = input_names(compiled.function, captured)
    return Report(getattr(compiled, "__name__", "function"), stages, _name(execute), names)


def _measure(run_: Any, arrays: list[Any], repeats: int) -> float | None:
    times = []
    try:
        call = ready(run_, arrays)
        call()
        for _ in range(max(1, repeats)):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    except Error:
        return None
    return float(np.median(times))


def _name(execute: Any) -> str:
    return str(getattr(execute, "__name__", type(execute).__name__))


__all__ = ["Report", "Stage", "explain"]
