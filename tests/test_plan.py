"""The memory plan: right on real programs, and mistakes in one are found."""

from __future__ import annotations

import numpy as np
import pytest
from passes.arena import run_in_arena

import minigrad as mg
from minigrad import nn, optim
from minigrad.execute import interpret
from minigrad.ir import Graph, Spec, float32
from minigrad.nn import functional as F
from minigrad.passes import PIPELINE, run
from minigrad.plan import Plan, PlanError, plan, size_text, verify
from minigrad.trace import trace

SPEC = Spec((64, 64), float32)


def chain(x):
    return ((x @ x).sin() @ x).cos() @ x


def test_places_are_shared():
    graph = trace(chain, SPEC)
    made = verify(graph, plan(graph))
    one = 64 * 64 * 4
    assert made.naive == 4 * one
    assert made.bound == made.peak == 2 * one
    assert len(made.outputs) == 1


def test_in_place():
    graph = trace(lambda x: (x * 2.0).exp().sin().sum(), SPEC)
    made = verify(graph, plan(graph))
    assert made.peak == 64 * 64 * 4
    (block,) = made.blocks
    assert len(block.values) == 3


def test_not_in_place_where_it_is_read_again():
    def f(x):
        y = x * 2.0
        z = y.exp()
        return (y @ z).sum()

    graph = trace(f, SPEC)
    made = verify(graph, plan(graph))
    assert len({made.offset[v] for v in list(made.offset)[:2]}) == 2


def test_groups_need_memory_for_their_outputs_only():
    graph = run(trace(lambda x: (x * 2.0).exp().sin().sum(), SPEC), PIPELINE)
    made = verify(graph, plan(graph))
    assert made.peak == 0


def test_views_have_no_place():
    graph = trace(lambda x: ((x * 2.0).reshape(4096)[::2] + 1.0).sum(), SPEC)
    made = verify(graph, plan(graph))
    assert len(made.views) == 2


def test_updates_go_right_into_the_state():
    w, m = mg.zeros(64, 64), mg.zeros(64, 64)

    @mg.compile
    def f(x):
        m.assign(m * 0.9 + x)
        w.assign(w - 0.1 * m)

    graph = f.graph(mg.ones(64, 64))
    made = verify(graph, plan(graph))
    assert sorted(made.direct.values()) == [target for target, _ in sorted(graph.updates)]
    assert made.peak == 0


def test_updates_wait_where_they_must():
    w, labels = mg.zeros(4, 4), mg.zeros(4, dtype="int64")

    @mg.compile
    def later_read(x):
        old = w * 1.0
        w.assign(w + x)
        return (old @ x) @ w, w

    @mg.compile
    def later_refusal(x):
        w.assign(w + x)
        return F.one_hot(labels, 3)

    @mg.compile
    def product(x):
        w.assign(w @ x)

    for f in (later_refusal, product):
        graph = f.graph(mg.ones(4, 4))
        assert not verify(graph, plan(graph)).direct
    graph = later_read.graph(mg.ones(4, 4))
    verify(graph, plan(graph))


def model_step():
    mg.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 16, 10),
    )  # fmt: skip
    optimizer = optim.Adam(model.parameters())

    @mg.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, (mg.randn(8, 1, 16, 16), mg.randint(10, (8,)))


def test_a_convolutional_step():
    step, args = model_step()
    captured = step.captured(*args)
    for passes in ((), PIPELINE[:-1], PIPELINE):
        graph = run(captured.graph, passes)
        made = verify(graph, plan(graph))
        assert made.peak <= 0.6 * plan(captured.graph).naive
        assert made.peak <= 1.25 * made.bound
        arrays = [t._array.copy() for t in args]
        arrays += [s.tensor()._array.copy() for s in captured.state]
        arrays += [np.array(n.read(), np.float64) for n in captured.live]
        others = [a.copy() for a in arrays]
        wanted = interpret(graph)(*arrays)
        got = run_in_arena(graph, made, others)
        for a, b in zip((*got, *others), (*wanted, *arrays), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


def test_text():
    assert size_text(10) == "10 B"
    assert size_text(2048) == "2.0 KB"
    assert "lower bound" in str(plan(trace(chain, SPEC)))
    assert plan(Graph((SPEC,), (), (), (0,))).peak == 0


# -- planted mistakes ------------------------------------------------------------------------------------


def planned():
    def f(x):
        y = x @ x
        return (y @ y.sin() + y).sum()

    graph = trace(f, SPEC)
    return graph, plan(graph)


def test_overlapping_values_are_found():
    graph, made = planned()
    verify(graph, made)
    shifted = {v: 64 * i for i, v in enumerate(made.offset)}
    with pytest.raises(PlanError, match=r"still needed|overwritten"):
        verify(graph, made._replace(offset=shifted, peak=1 << 20))


def test_one_place_for_everything_is_found():
    graph, made = planned()
    with pytest.raises(PlanError):
        verify(graph, made._replace(offset=dict.fromkeys(made.offset, 0)))


def test_a_small_arena_is_found():
    graph, made = planned()
    with pytest.raises(PlanError, match="beyond the arena"):
        verify(graph, made._replace(peak=made.peak - 64))


def test_a_missing_place_is_found():
    graph, made = planned()
    first = next(iter(made.offset))
    with pytest.raises(PlanError, match="has no place"):
        verify(graph, made._replace(offset={v: o for v, o in made.offset.items() if v != first}))


def test_a_hasty_update_is_found():
    w = mg.zeros(8, 8)

    @mg.compile
    def f(x):
        w.assign(w @ x)

    graph = f.graph(mg.ones(8, 8))
    made: Plan = plan(graph)
    ((target, value),) = graph.updates
    with pytest.raises(PlanError, match="still read"):
        verify(graph, made._replace(direct={value: target}, offset={}))
