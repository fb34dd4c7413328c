"""Where the time goes: programs, interpreted graphs, and functions that are not compiled."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.backends import c
from minigrad.errors import ArgumentError, DTypeError
from minigrad.nn import functional as F
from minigrad.profiling import Peaks, Profile, Row

X, Y = mg.ones(16, 8), mg.zeros(16, 4)


def training():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return model, step


@pytest.mark.parametrize("executor", [None, "interpret"])
def test_a_compiled_step(executor):
    model, step = training()
    compiled = mg.compile(step, executor=executor)
    compiled(X, Y)
    before = [p.tolist() for p in model.parameters()], mg.get_rng_state()
    report = compiled.profile(X, Y, repeats=3)
    after = [p.tolist() for p in model.parameters()], mg.get_rng_state()
    assert before[0] == after[0]
    assert (np.asarray(before[1]) == np.asarray(after[1])).all()
    forward = 2 * 16 * (8 * 16 + 16 * 4)
    matmuls = [row for row in report.rows if "matmul" in row.what]
    assert len(matmuls) == 5
    products = forward + forward + 2 * 16 * 16 * 4  # and both gradients, but that of x
    assert products <= sum(row.flops for row in matmuls) < 1.2 * products
    assert all(row.seconds > 0 and row.bytes >= 0 for row in report.rows)
    assert report.inside > 0
    assert all(re.match(r"test_profile\.py:\d+", row.where) for row in matmuls)
    assert "outside of these" in str(report)
    assert str(mg.profile(compiled, X, Y, repeats=1)).startswith("step:")


def test_the_share_of_the_roofline():
    row = Row("gemm", "matmul", (4,), "a.py:1", 2.0, 100, 30)
    assert Peaks(100.0, 10.0, 1).least(row) == 3.0
    assert Peaks(10.0, 100.0, 1).least(row) == 10.0
    cells = Profile("f", [row], 4.0, Peaks(100.0, 30.0, 1), []).cells(row)
    assert cells[1] == "50%"
    assert cells[5] == "50%"
    assert Profile("f", [row], 4.0, None, []).cells(row)[5] == "-"
    report = mg.compile(lambda x: x @ x).profile(mg.ones(64, 64), repeats=2)
    assert (report.peaks is not None) == c.available
    assert "roofline" in report.limits()


def test_a_trace_and_a_page(tmp_path):
    _, step = training()
    report = mg.compile(step).profile(X, Y, repeats=2)
    report.save(tmp_path / "step.json")
    events = json.loads((tmp_path / "step.json").read_text())["traceEvents"]
    assert len(events) == len(report.rows)
    for a, b in pairwise(events):
        assert b["ts"] == pytest.approx(a["ts"] + a["dur"])
    assert all(e["ph"] == "X" and e["name"] for e in events)
    report.save(tmp_path / "step.html")
    page = (tmp_path / "step.html").read_text()
    assert page.count("<tr") == len(report.rows) + 1
    report.save(tmp_path / "step.txt")
    assert (tmp_path / "step.txt").read_text() == f"{report}\n"


def test_a_function_that_is_not_compiled():
    model, step = training()
    before = [p.tolist() for p in model.parameters()]
    report = mg.profile(step, X, Y)
    assert before != [p.tolist() for p in model.parameters()]  # it has run
    names = {row.what for row in report.rows}
    assert {"matmul", "relu", "relu_grad"} <= names
    assert sum(row.calls for row in report.rows if row.what == "matmul") == 5
    assert all("test_profile.py" in row.where for row in report.rows)
    assert report.inside < report.total
    starts = [e.start for e in report.events]
    assert starts == sorted(starts)
    assert sum(row.calls for row in report.rows) == len(report.events)


def test_a_block():
    with mg.profile() as seen:
        mg.ones(8, 8).exp()
    assert [(row.what, row.calls, row.shape) for row in seen.report().rows if row.what == "exp"] == [
        ("exp", 1, (8, 8))
    ]
    assert (mg.ones(2) + 1.0).tolist() == [2.0, 2.0]  # and nothing is watched any more
    with pytest.raises(ArgumentError, match="nothing has run"):
        mg.profile().report()
    with pytest.raises(DTypeError, match="cannot be called"):
        mg.profile(3)
    with pytest.raises(ArgumentError, match="repeats is 0"):
        mg.compile(lambda x: x + 1.0).profile(mg.ones(2), repeats=0)
