"""Schedules of all-reduce, the simulator and the projection; timelines."""

from __future__ import annotations

import itertools
import json
import math

import distributed_workers as work
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import distributed as dist
from minigrad import nn
from minigrad.distributed.schedules import ALGORITHMS, schedule

shared = pytest.mark.skipif(not dist.is_available(), reason="the C kernels are not built")


def carried_out(rounds, x):
    """What p ranks have at the end, who have x (p, n) at first; each sends and receives once a round."""
    x = x.copy()
    for r in rounds:
        assert len(set(r.source)) == len(r.source)
        assert len(set(r.target)) == len(r.target)
        messages = [x[s, a:b].copy() for s, a, b in zip(r.source, r.start, r.stop, strict=True)]
        for message, t, a, b in zip(messages, r.target, r.start, r.stop, strict=True):
            x[t, a:b] = x[t, a:b] + message if r.add else message
    return x


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALGORITHMS), st.integers(1, 5), st.integers(1, 5), st.integers(1, 40))
def test_every_schedule_gives_all_ranks_the_sum(algorithm, hosts, per_host, n):
    x = np.random.default_rng(n).integers(0, 100, (hosts * per_host, n))
    y = carried_out(schedule(algorithm, hosts * per_host, n, per_host), x)
    assert (y == x.sum(0)).all()


@shared
@pytest.mark.parametrize("size", [3, 4])
def test_schedules_are_performed_by_an_engine(size):
    for found in dist.run(work.perform_all, size):
        assert all(found.values()), found


@pytest.mark.parametrize("p", [2, 8, 64])
def test_the_simulator_agrees_with_closed_forms(p):
    """Thakur, Rabenseifner & Gropp 2005, table of costs."""
    a, b, g, n, lg = 3e-5, 1e-9, 2e-10, 64 * 4096, math.log2(p)
    expected = {
        "ring": 2 * (p - 1) * a + 2 * (p - 1) / p * n * b + (p - 1) / p * n * g,
        "tree": 2 * lg * (a + n * b) + lg * n * g,
        "doubling": lg * (a + n * (b + g)),
        "halving": 2 * lg * a + 2 * (p - 1) / p * n * b + (p - 1) / p * n * g,
    }
    options = {"latency": a, "bandwidth": 1 / b, "adding": 1 / g}
    for row in dist.simulate([p], n, algorithms=list(expected), **options).rows:
        assert row.reduce == pytest.approx(expected[row.how], rel=1e-9), row.how


def test_ranks_of_a_host_share_its_cable():
    """Recursive doubling sends everything of all ranks out of a host; hierarchical only its parts."""
    inside = {"local_latency": 0.0, "local_bandwidth": 1e15, "adding": 1e15}
    plan = dist.simulate([16], 1e6, per_host=8, latency=0.0, bandwidth=1e9, **inside)
    found = {row.how: row.reduce for row in plan.rows}
    assert found["doubling"] == pytest.approx(8e-3, rel=1e-3)
    assert found["hierarchical"] == pytest.approx(1e-3, rel=1e-2)
    assert plan.best.how in ("hierarchical", "ring", "tree")


def test_what_a_plan_says():
    plan = dist.simulate([1, 2, 4], 0, compute=1.0, latency=0.0, algorithms=["halving"])
    assert [round(row.speedup, 6) for row in plan.rows] == [1, 2, 4]
    assert plan.best.ranks == 4
    split = dist.simulate([1, 1000], 1e6, compute=1e-3, split=True, algorithms=["ring"])
    assert split.best.ranks == 1
    assert split.rows[1].compute == pytest.approx(1e-6)
    assert "<- best" in str(split).splitlines()[2]
    empty = dist.simulate([64], 4e3)
    assert empty.best == min(empty.rows, key=lambda row: row.step)
    slowest = dist.simulate([64], 0, compute=1.0, jitter=0.1, latency=0.0, algorithms=["ring"]).rows[0]
    assert 1.1 < slowest.step < 1.5  # the slowest of 64 is two or three deviations late
    hidden = dist.simulate([2], 1e6, compute=1.0, buckets=4, overlap=0.5, algorithms=["ring"]).rows[0]
    plain = dist.simulate([2], 1e6, compute=1.0, buckets=4, algorithms=["ring"]).rows[0]
    assert hidden.reduce == pytest.approx(plain.reduce / 4, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: dist.simulate([0], 1.0), "ranks is 0"),
        (lambda: dist.simulate([2], 1.0, bandwidth=0), "bandwidth of 0"),
        (lambda: dist.simulate([2], 1.0, algorithms=["butterfly"]), "no algorithm 'butterfly'"),
        (lambda: dist.simulate([2], -1.0), "size is -1"),
        (lambda: list(schedule("hierarchical", 3, 4, 2)), "3 ranks on hosts of 2"),
        (lambda: dist.project(len, model=nn.Linear(2, 2)), "no batch to share out"),
        (lambda: dist.project(len, mg.ones(2), model=nn.Linear(2, 2), ranks=[0]), "ranks are"),
    ],
)
def test_wrong_calls_say_so(call, match):
    with pytest.raises(mg.Error, match=match):
        call()


@shared
def test_a_projection_measures_and_changes_nothing():
    model = nn.Linear(20, 10)
    optimizer = mg.optim.Adam(model.parameters(), lr=0.1)

    @mg.compile
    def step(x):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    x = mg.randn(9, 20)
    step(x)
    before = model.weight.detach().numpy().copy()
    plan = dist.project(step, x, model=model, ranks=[1, 2], repeats=3)
    assert (model.weight.detach().numpy() == before).all()
    one, two = plan.rows
    assert (one.ranks, one.reduce, one.speedup) == (1, 0.0, 1.0)
    assert two.reduce > 0
    assert two.step == pytest.approx(two.compute + two.reduce)
    assert two.how.endswith("batch 5")
    assert "minigrad" not in str(plan)


# -- timelines -----------------------------------------------------------------------------------------------


@shared
def test_a_timeline_says_who_is_late(tmp_path):
    """Rank 1 sleeps before every second reduction, and rank 0 waits for it; also in a compiled step."""
    for compiled in (False, True):
        first, second = dist.run(work.late, 2, (compiled, str(tmp_path / "trace.json")))
        assert first == second
        (slow, busy, slow_collectives), (wait, late_wait, collectives) = first
        assert collectives == slow_collectives == 6
        assert wait > 0.8 * 3 * 0.03
        assert late_wait < 0.5 * wait
        assert busy > 0.8 * 3 * 0.03
        assert slow < 1.0
    trace = json.loads((tmp_path / "trace.json").read_text())
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert {e["tid"] for e in spans} == {0, 1}
    assert {"compute", "wait", "all_reduce"} <= {e["name"] for e in spans}
    for rank in (0, 1):  # one after the other
        own = sorted((e["ts"], e["ts"] + e["dur"]) for e in spans if e["tid"] == rank)
        assert all(a[1] <= b[0] + 1e-6 for a, b in itertools.pairwise(own))
    assert "efficiency" in (tmp_path / "trace.txt").read_text()


def test_a_timeline_alone():
    with dist.timeline() as seen:
        sum(range(10_000))
    assert seen.efficiency == 1.0
    assert seen.ranks[0].collectives == 0
    assert "1 rank, " in str(seen)
