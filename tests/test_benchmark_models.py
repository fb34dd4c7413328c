"""The models of the benchmarks, small: a captured step is the eager one, after every pass, step by step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends import c
from minigrad.passes import PIPELINE

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
import _models  # noqa: E402

STEPS, BATCH = 50, 6
OPTIMIZERS = {
    "mlp": lambda p: mg.optim.Adam(p, 1e-2),
    "mlp784": lambda p: mg.optim.SGD(p, 0.05, momentum=0.9),
    "cnn": lambda p: mg.optim.Adam(p, 1e-3),
    "resnet": lambda p: mg.optim.SGD(p, 0.01, momentum=0.9),
    "transformer": lambda p: mg.optim.AdamW(p, 1e-3),
}


def run(name: str, wrap: Any, steps: int = STEPS) -> tuple[list[float], list[Any], Any]:
    """Losses, weights and running statistics after some steps, and the step."""
    model = _models.SMALL[name]
    weights = {k: mg.nn.Parameter(mg.tensor(w)) for k, w in model.weights().items()}
    buffers = {k: mg.tensor(b) for k, b in model.buffers().items()}
    layers = _models.Minigrad(weights, buffers, True)
    optimizer = OPTIMIZERS[name](weights.values())

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = layers.loss(model.forward(layers, x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    wrapped = wrap(step)
    xs, ys = ([mg.tensor(a) for a in part] for part in model.data(5, BATCH))
    losses = [wrapped(xs[k % 5], ys[k % 5]).item() for k in range(steps)]
    learned = {k: t.detach().numpy() for k, t in {**weights, **buffers}.items()}
    if "qkv.bias" in learned:
        # A key's bias adds the same to all scores of a query, so its gradient is nothing but rounding, of
        # which Adam makes whole steps.
        query, _, value = np.split(learned["qkv.bias"], 3)
        learned["qkv.bias"] = np.concatenate([query, value])
    return losses, list(learned.values()), wrapped


def same(one: Any, other: Any) -> None:
    """Equal but for what rounding becomes in fifty steps."""
    np.testing.assert_allclose(one[0], other[0], rtol=2e-3, atol=2e-4)
    for a, b in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3 * np.abs(b).max())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_is_eager_is_interpreted(name: str) -> None:
    eager = run(name, lambda step: step)
    assert eager[0][-1] < eager[0][0]
    captured = run(name, mg.compile)
    same(captured, eager)
    assert captured[2].traces == 1
    for count in range(len(PIPELINE) + 1):
        same(run(name, lambda f, n=count: mg.compile(f, passes=PIPELINE[:n], executor="interpret")), eager)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_bits_on_one_thread_and_two(name: str) -> None:
    before, results = mg.get_num_threads(), []
    try:
        for threads in (1, 2):
            mg.set_num_threads(threads)
            results.append(run(name, mg.compile, 20))
    finally:
        mg.set_num_threads(before)
    assert results[0][0] == results[1][0]
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_inference_is_eager_too(name: str) -> None:
    model = _models.SMALL[name]
    parts = [{k: mg.tensor(v) for k, v in part.items()} for part in (model.weights(), model.buffers())]
    layers = _models.Minigrad(*parts, False)
    compiled = mg.compile(lambda x: model.forward(layers, x))
    for batch in (1, BATCH):
        x = mg.tensor(model.data(1, batch)[0][0])
        wanted = model.forward(layers, x).numpy()
        np.testing.assert_allclose(compiled(x).numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert compiled.traces == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_child_goes_on_by_itself() -> None:
    losses, _, step = run("mlp", mg.compile, 3)
    x, y = (mg.tensor(part[3 % 5]) for part in _models.SMALL["mlp"].data(5, BATCH))
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, step(x, y).numpy().tobytes())
        finally:
            os._exit(0)
    os.close(write)
    assert os.waitpid(pid, 0)[1] == 0
    with os.fdopen(read, "rb") as answer:
        child = np.frombuffer(answer.read(), np.float32)[0]
    assert step(x, y).item() == child  # what the child did has not changed the parent
    assert len(losses) == 3


def test_replay_leaves_no_objects_behind() -> None:
    _, _, step = run("mlp", mg.compile, 5)
    x, y = (mg.tensor(part[0]) for part in _models.SMALL["mlp"].data(5, BATCH))
    for _ in range(10):
        step(x, y)
    before = sys.getallocatedblocks()
    for _ in range(1000):
        step(x, y)
    assert sys.getallocatedblocks() - before < 50


# -- the scripts' options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("bench_spmm.py", ["--resume"], "--resume needs --json"),
        ("bench_spmm.py", ["--only", "zzz"], "no case is called zzz"),
        ("bench_spmm.py", ["--part", "0/3"], "counts from 1"),
        ("bench_spmm.py", ["--rounds", "0"], "0 is below 1"),
        ("bench_spmm.py", ["--show", "nowhere.json"], "nowhere.json cannot be read"),
        ("bench_gemm.py", ["--crossover", "--rounds", "3"], "unrecognized arguments"),
        ("bench_train_step.py", ["--only", "zzz"], "no case is called zzz"),
        ("bench_import.py", ["nowhere.whl"], "there is no file nowhere.whl"),
    ],
)
def test_a_mistake_gets_one_sentence(script: str, options: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.splitlines()[-1]


@pytest.mark.skipif(not c.available, reason="the harness measures the machine by C kernels")
def test_figures_name_their_machine_and_are_shown_again(tmp_path: Any) -> None:
    """Measured, gone on with, shown and drawn, by a script with no peers."""
    script, report, drawing = BENCHMARKS / "bench_spmm.py", tmp_path / "report.json", tmp_path / "ratios.svg"
    first = [
        "--only",
        "cora 16 t",
        "--engine",
        "minigrad",
        "--threads",
        "1",
        "--rounds",
        "1",
        "--json",
        str(report),
    ]
    said = []
    for options in (first, [*first, "--resume"], ["--show", str(report), "--plot", str(drawing)]):
        command = [sys.executable, str(script), *options]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said[0].splitlines()[0] == said[2].splitlines()[0]
    for fact in (f"numpy {np.__version__}", f"minigrad {mg.__version__}"):
        assert fact in said[0].splitlines()[0]
    kept = json.loads(report.read_text())
    assert [row["case"]["label"] for row in kept["runs"][0]["rows"]] == ["cora 16 transposed"]
    assert "cora 16" in said[2]
    assert drawing.read_text().startswith("<svg")
