"""Law 4 for random programs: captured == eager, bit for bit as recorded, and after every pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.drawing import draw
from minigrad.execute import interpret
from minigrad.ir import check, float32, float64
from minigrad.passes import PIPELINE, run
from minigrad.passes.cost import bytes_moved, flops
from minigrad.passes.rewrite import Rewriter
from minigrad.plan import plan, verify

from .arena import run_in_arena
from .programs import Case, close, programs


@given(programs(), st.sampled_from([float32, float64]))
def test_every_pass_keeps_what_is_computed(program, dtype):
    case = Case(program, dtype)
    outputs, after = case.eager()
    captured = case.captured()
    stages = [("trace", captured.graph)]
    run(captured.graph, PIPELINE, lambda name, _, graph: stages.append((name, graph)))
    for name, graph in stages:
        check(graph)
        arrays = case.inputs(captured)
        before = [a.copy() for a in arrays]
        got = interpret(graph)(*arrays)
        for a, b in zip(got, outputs, strict=True):
            assert a.dtype == b.dtype
            if name == "trace":
                np.testing.assert_array_equal(a, b)
            else:
                close(a, b, dtype)
        written = {target for target, _ in graph.updates}
        for k, (a, b) in enumerate(zip(arrays, before, strict=True)):
            if k not in written:
                np.testing.assert_array_equal(a, b)
        tensors = [s.tensor() for s in captured.state]
        for tensor, wanted in zip((case.state, case.momentum), after, strict=True):
            if any(t is tensor for t in tensors):
                k = 2 + next(i for i, t in enumerate(tensors) if t is tensor)
                close(arrays[k], wanted, dtype)


def exchanged(graph):
    """A wrong pass: a - b becomes b - a."""
    nodes = [replace(n, inputs=n.inputs[::-1]) if n.op.name == "sub" else n for n in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def forgotten(graph):
    """A wrong pass: tanh is left out."""
    new = Rewriter(graph)
    for node, inputs in new.walk():
        if node.op.name == "tanh":
            new.replace(inputs[0])
        else:
            new.keep(node, inputs)
    return new.done()


def early(graph):
    """A wrong pass: the state is written before it was computed with."""
    (first, a), (second, b) = graph.updates
    return replace(graph, updates=((first, b), (second, a)))


@pytest.mark.parametrize("wrong", [exchanged, forgotten, early])
def test_wrong_passes_that_the_checker_cannot_see_give_other_numbers(wrong):
    case = Case(([("tanh", 0), ("sub", 3, 1)], (4,), False, True), float64)
    outputs, after = case.eager()
    captured = case.captured()
    for passes, same in ((PIPELINE, True), ((*PIPELINE[:-1], wrong), False)):
        arrays = case.inputs(captured)
        got = interpret(run(captured.graph, passes))(*arrays)
        tensors = [s.tensor() for s in captured.state]
        state = [
            arrays[2 + next(i for i, t in enumerate(tensors) if t is s)] for s in (case.state, case.momentum)
        ]
        pairs = zip((*got, *state), (*outputs, *after), strict=True)
        assert all(np.allclose(a, b) for a, b in pairs) == same


@given(programs())
def test_passes_are_idempotent_and_never_cost_more(program):
    graph = Case(program, float32).captured().graph
    once = run(graph)
    assert len(once.nodes) <= len(graph.nodes)
    assert bytes_moved(once) <= bytes_moved(graph)
    assert flops(once) <= flops(graph)
    again = run(once)
    assert len(again.nodes) <= len(once.nodes)
    assert len(again.steps()) <= len(once.steps()) + 2


@given(programs(), st.booleans())
def test_plans_are_right(program, fused):
    case = Case(program, float32)
    captured = case.captured()
    graph = run(captured.graph, PIPELINE if fused else PIPELINE[:-1])
    made = verify(graph, plan(graph))
    assert made.bound <= made.peak <= max(made.naive, made.bound)
    arrays, others = case.inputs(captured), case.inputs(captured)
    wanted = interpret(graph)(*arrays)
    got = run_in_arena(graph, made, others)
    for a, b in zip((*got, *others), (*wanted, *arrays), strict=True):
        close(a, b, float32)  # another layout in memory may be added up in another order


@given(programs())
def test_everything_can_be_drawn(program):
    graph = run(Case(program, float32).captured().graph)
    for language in ("svg", "dot", "mermaid"):
        assert draw(graph, format=language)
