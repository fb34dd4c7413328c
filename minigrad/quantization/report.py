"""What quantization did to each layer: time, error, decision and reason."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

#: Seconds that timing may take for each function, and how many turns there are at most.
PATIENCE, ROUNDS = 0.015, 300


class Row(NamedTuple):
    """One layer.

    float_us, int8_us   microseconds of the layer on its own, compiled; None where not measured
    sqnr, difference    of the model's results when this layer alone is in eight bits: decibels, largest
    decision            "static", "dynamic", "weights", "expanded" or "float", see `quantizing.Plan`
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    float_us: float | None
    int8_us: float | None
    sqnr: float
    difference: float
    decision: str
    reason: str


def turns(*functions: Callable[[], Any]) -> list[list[float]]:
    """Microseconds of functions at each of many turns, taken one after the other, after a warm-up."""
    for _ in range(3):
        for function in functions:
            function()
    begin = time.perf_counter()
    for function in functions:
        function()
    each = max(time.perf_counter() - begin, 1e-7)
    repeats = max(1, int(10e-6 * len(functions) / each))  # several calls a turn where the clock is too coarse
    count = min(ROUNDS, max(5, int(PATIENCE * len(functions) / (each * repeats))))
    taken: list[list[float]] = [[] for _ in functions]
    for _ in range(count):
        for function, times in zip(functions, taken, strict=True):
            begin = time.perf_counter()
            for _ in range(repeats):
                function()
            times.append(1e6 * (time.perf_counter() - begin) / repeats)
    return taken


def interleaved(*functions: Callable[[], Any]) -> list[float]:
    """The best turn of each function, in microseconds."""
    return [min(times) for times in turns(*functions)]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


class Report:
    """What `QuantizedModel.report` returns: prints as a table.

    rows: one for each layer with weights.  notes: what stays in floats beside them, and why the whole
    model does if it does.  whole: microseconds in floats and as decided, None where not measured.
    """

    HEAD = ("layer", "kind", "weights", "fp32 us", "int8 us", "SQNR dB", "difference", "runs", "because")

    def __init__(self, rows: Sequence[Row], notes: Sequence[str], whole: tuple[float, float] | None) -> None:
        self.rows, self.notes, self.whole = tuple(rows), tuple(notes), whole

    def __str__(self) -> str:
        table = [self.HEAD]
        for r in self.rows:
            table.append(
                (
                    r.name,
                    r.kind,
                    "x".join(map(str, r.shape)),
                    _number(r.float_us, ".1f"),
                    _number(r.int8_us, ".1f"),
                    _number(r.sqnr, ".1f"),
                    _number(r.difference, ".2g"),
                    "float" if r.decision == "float" else f"int8 {r.decision}",
                    r.reason,
                )
            )
        widths = [max(len(row[k]) for row in table) for k in range(len(self.HEAD))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]
        if self.whole is not None:
            before, after = self.whole
            lines.append(f"the whole model: {before:.1f} us in floats, {after:.1f} us as decided")
        return "\n".join([*lines, *self.notes])

    __repr__ = __str__


__all__ = ["Report", "Row", "interleaved", "turns"]
