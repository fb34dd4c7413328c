"""Which layers run in eight bits: what they err, what they take, and what is best as a whole.

1. A layer is out if the user keeps it, if it cannot (no range was observed), or if the results would have an
   SQNR below a limit when it alone were quantized.
2. With a budget of accuracy, the most sensitive layers go back to floats until it holds.
3. Each of the rest is timed on its own, in floats and on codes.
4. Three models are timed against each other: all of the rest in eight bits; those that are faster on their
   own; none.  The quickest is taken.  It need not be the second: between two layers on codes, a slower one on
   codes saves two conversions.  "None" is compared as the user would have it, too, `minigrad.compile(model)`,
   and wins unless eight bits gain 5 %.

Times are the best of many turns: whatever else a machine does only ever adds to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..autograd import no_grad
from ..compiled import compile as compile_
from ..errors import ArgumentError, notice
from ..ir import is_float
from ..nn import Module
from ..quantizing import Network, Plan, Weights, arguments, demands
from ..tensor import Tensor
from ..tree import flatten
from .report import Row, interleaved
from .scheme import quantize_weights, sqnr

#: A whole model must need less than this part of the time in floats; less gain is not worth the error.
WORTH = 0.95


class Settings(NamedTuple):
    """What the user asked for; see `convert`.  trained: layer -> scales of its weights, from training."""

    keep: tuple[str, ...] = ()
    measure: bool = True
    min_sqnr: float = 10.0
    per_channel: bool = True
    search: bool = False
    trained: Mapping[str, Any] = {}
    evaluate: Callable[[Module], float] | None = None
    budget: float = 0.0


class Decision(NamedTuple):
    """What became of it."""

    rows: tuple[Row, ...]
    plan: Plan
    notes: tuple[str, ...]


def check_names(network: Network, keep: Iterable[str]) -> None:
    """Raise ArgumentError if a name in `keep` is neither a layer nor the beginning of one."""
    known = [layer.name for layer in network.weighted]
    for name in keep:
        if not any(_kept(layer, (name,)) for layer in known):
            raise ArgumentError(
                "quantization",
                f"keep names {name!r}, which is no layer",
                fix=f"the layers are {', '.join(known) or 'none'}",
            )


def _kept(name: str, keep: Iterable[str]) -> bool:
    return any(name == k or name.startswith(k + ".") for k in keep)


# -- weights and errors ------------------------------------------------------------------------------


def quantized(network: Network, names: Iterable[str], settings: Settings) -> dict[str, Weights]:
    """The int8 weights of layers."""
    chosen = set(names)
    found = {}
    for layer in network.weighted:
        if layer.name not in chosen:
            continue
        w, bias = network.folded(layer)
        scale = settings.trained.get(layer.name)
        if scale is not None:
            scale = scale * np.abs(network.factor(layer))
        codes, scale = quantize_weights(w, settings.per_channel, scale, settings.search)
        found[layer.name] = Weights(codes=codes, scale=scale, bias=bias)
    return found


def _results(y: Any) -> Any:
    """All floating point results in one row of float64."""
    parts = [t.numpy().reshape(-1) for t in flatten(y)[0] if isinstance(t, Tensor) and is_float(t.dtype)]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def sensitivities(
    network: Network,
    real: Plan,
    codes: Mapping[str, Weights],
    scales: Mapping[int, tuple[float, int]],
    modes: Mapping[str, str],
    args: tuple[Any, ...],
) -> dict[str, tuple[float, float]]:
    """For each layer, when it alone is quantized: SQNR of the results in dB, and their largest difference."""
    found = {}
    given = arguments(args)
    with no_grad():
        wanted = _results(network.run(given, real))
        for name, w in codes.items():
            got = _results(network.run(given, Plan({name: modes[name]}, {**real.weights, name: w}, scales)))
            found[name] = (sqnr(wanted, got), float(np.abs(wanted - got).max(initial=0.0)))
    return found


# -- times -------------------------------------------------------------------------------------------


def _in_floats(plan: Plan) -> Plan:
    """The same weights, in floats."""
    return Plan({}, {n: Weights(floats=w.real(), bias=w.bias) for n, w in plan.weights.items()}, {})


def timed(network: Network, plan: Plan, rows: Iterable[Row], args: tuple[Any, ...]) -> list[Row]:
    """The rows with the times of this moment: each layer of the plan in floats and on codes."""
    real = _in_floats(plan)
    layers = {layer.name: layer for layer in network.weighted}
    with no_grad():
        inputs = network.activations(arguments(args), real)
        _, coded = demands(network, plan)
        found = []
        for row in rows:
            layer = layers[row.name]
            x = inputs.get(layer.inputs[0])
            mode = plan.modes.get(row.name, "float")
            if x is None or mode in ("float", "expanded") or not x._array.size:
                found.append(row)
                continue
            f, g = compile_(network.alone(layer, real)), compile_(network.alone(layer, plan))
            form = network.form(layer, plan, x, layer.inputs[0] in coded)
            before, after = interleaved(partial(f, x), partial(g, form))
            found.append(row._replace(float_us=before, int8_us=after))
    return found


def whole(network: Network, plan: Plan, args: tuple[Any, ...]) -> tuple[float, float]:
    """Microseconds of the compiled network in floats and by the plan."""
    before, after = _contest(network, [_in_floats(plan), plan], args)
    return before, after


def _contest(
    network: Network, plans: Iterable[Plan], args: tuple[Any, ...], *others: Callable[..., Any]
) -> list[float]:
    """Microseconds of networks by these plans, and of other functions, which take turns."""
    given = arguments(args)
    contestants: list[Callable[[], Any]] = []
    for plan in plans:
        contestants.append(partial(compile_(_by(network, plan)), *given))
    contestants += [partial(f, *args) for f in others]
    with no_grad():
        return interleaved(*contestants)


def _by(network: Network, plan: Plan) -> Callable[..., Any]:
    return lambda *tensors: network.run(tensors, plan)


# -- deciding ----------------------------------------------------------------------------------------


def decide(
    network: Network,
    model: Module,
    mode: str,
    args: tuple[Any, ...],
    scales: Mapping[int, tuple[float, int]],
    settings: Settings,
    trial: Callable[[Plan], Module],
) -> Decision:
    """How every layer runs, with weights, figures and reasons.  trial(plan): the model that a plan gives."""
    check_names(network, settings.keep)
    real = network.in_float()
    layers = {layer.name: layer for layer in network.weighted}
    unable = {
        name: reason
        for name, layer in layers.items()
        if (reason := _unable(network, layer, mode, scales, settings))
    }
    able = [name for name in layers if name not in unable]
    codes = quantized(network, able, settings)
    modes = {n: _mode(layers[n].kind, mode) for n in able}
    errors = sensitivities(network, real, codes, scales, modes, args)
    rows = []
    for name, layer in layers.items():
        shape = tuple(real.weights[name].floats.shape)
        if name in unable:
            rows.append(Row(name, layer.kind, shape, None, None, math.nan, math.nan, "float", unable[name]))
            continue
        row = Row(name, layer.kind, shape, None, None, *errors[name], modes[name], "in eight bits")
        if row.sqnr < settings.min_sqnr:
            reason = f"its error is too large: {row.sqnr:.1f} dB < {settings.min_sqnr:g} dB"
            row = row._replace(decision="float", reason=reason)
        rows.append(row)

    def plan_of(rows: Iterable[Row]) -> Plan:
        modes = {r.name: r.decision for r in rows}
        return Plan(
            modes, {n: (real.weights if m == "float" else codes)[n] for n, m in modes.items()}, scales
        )

    notes = [
        f"{layer.name or 'the model'}: {layer.node.op.name} stays in floats"
        for layer in network.layers
        if layer.kind == "float"
    ]
    if settings.evaluate is not None:
        rows, note = _within(rows, plan_of, settings.evaluate, settings.budget, trial)
        notes.append(note)
    if settings.measure and any(r.decision in ("static", "dynamic", "weights") for r in rows):
        rows, said = _quickest(network, model, rows, plan_of, args)
        notes += said
    return Decision(tuple(rows), plan_of(rows), tuple(dict.fromkeys(notes)))


def _mode(kind: str, mode: str) -> str:
    """How a kind of layer runs in a mode: embeddings have no activations, convolutions no kernel for int8
    weights alone."""
    if kind == "embedding":
        return "weights"
    return "expanded" if kind == "conv" and mode == "weights" else mode


def _unable(
    network: Network, layer: Any, mode: str, scales: Mapping[int, tuple[float, int]], settings: Settings
) -> str:
    """Why a layer cannot be quantized, or nothing."""
    if _kept(layer.name, settings.keep):
        return "kept by the user"
    if layer.kind == "conv" and mode == "dynamic":
        return "dynamic quantization is for linear layers"
    if layer.kind != "embedding" and mode == "static" and network.group[layer.inputs[0]] not in scales:
        return "the range of its input was not observed"
    return ""


def _quickest(
    network: Network,
    model: Module,
    rows: list[Row],
    plan_of: Callable[[Iterable[Row]], Plan],
    args: tuple[Any, ...],
) -> tuple[list[Row], list[str]]:
    """The rows of the quickest of three models, and what is to be said about it."""
    every = timed(network, plan_of(rows), rows, args)
    alone = [_judged(row) for row in every]
    every = [own if row.decision == "weights" else row for row, own in zip(every, alone, strict=True)]
    if not any(row.decision in ("static", "dynamic") for row in every):
        return alone, []
    none = [
        r._replace(
            decision="float",
            reason=_judged(r).reason if _judged(r).decision == "float" else "the model is slower",
        )
        if r.decision in ("static", "dynamic")
        else r
        for r in every
    ]
    candidates = [every, alone] if every != alone else [every]
    original = compile_(lambda *args: model(*args))
    *times, floats, before = _contest(network, [*map(plan_of, candidates), plan_of(none)], args, original)
    best = min(range(len(times)), key=times.__getitem__)
    before = min(floats, before)
    if times[best] > WORTH * before:
        text = f"the whole model takes {times[best]:.1f} us in eight bits and {before:.1f} us in floats"
        small = "" if times[best] >= before else f" (a gain below {1 - WORTH:.0%} is not worth its error)"
        notice(
            "quantization", f"{text}, so it stays in floats{small}", "measure=False quantizes all the same"
        )
        return none, [f"{text}: it stays in floats"]
    chosen = []
    for row, own in zip(candidates[best], alone, strict=True):
        if row.decision in ("static", "dynamic"):
            slower = own.decision == "float"
            row = row._replace(
                reason="slower on its own, but not with its neighbours" if slower else own.reason
            )
        chosen.append(row)
    return chosen, []


def _judged(row: Row) -> Row:
    """The row with what its times say."""
    before, after = row.float_us, row.int8_us
    if row.decision in ("float", "expanded") or before is None or after is None:
        return row
    if after > before:
        if row.decision == "weights":
            return row._replace(decision="expanded", reason="slower in eight bits, so floats when compiled")
        return row._replace(decision="float", reason="slower in eight bits")
    return row._replace(reason=f"{before / after:.1f} times as fast")


def _within(
    rows: list[Row],
    plan_of: Callable[[Iterable[Row]], Plan],
    evaluate: Callable[[Module], float],
    budget: float,
    trial: Callable[[Plan], Module],
) -> tuple[list[Row], str]:
    """Give layers back to floats, the most sensitive first, until the loss of accuracy fits the budget."""
    wanted = float(evaluate(trial(plan_of(r._replace(decision="float") for r in rows))))
    order = sorted((r for r in rows if r.decision != "float"), key=lambda r: r.sqnr)
    rows = list(rows)
    while True:
        lost = wanted - float(evaluate(trial(plan_of(rows))))
        if lost <= budget or not order:
            note = f"accuracy {wanted:.4f} in floats, {wanted - lost:.4f} now (budget {budget:g})"
            return rows, note
        worst = order.pop(0)
        at = next(i for i, r in enumerate(rows) if r.name == worst.name)
        reason = f"over the budget: {lost:.4f} of accuracy were lost"
        rows[at] = rows[at]._replace(decision="float", reason=reason)


__all__ = [
    "Decision",
    "Settings",
    "check_names",
    "decide",
    "quantized",
    "sensitivities",
    "timed",
    "whole",
]
