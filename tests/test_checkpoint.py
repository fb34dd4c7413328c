"""Checkpoints: bits, damage, full disks, and runs that are killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import checkpoint, data, nn
from minigrad.checkpoint import CheckpointError, Checkpoints
from minigrad.errors import AnomalyError, ArgumentError, DTypeError
from minigrad.training import Trainer

PROGRAM = Path(__file__).parent / "programs" / "killed_run.py"
ENV = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(mg.__file__))}
BOTH = pytest.mark.parametrize("name", ["a.safetensors", "a.npz"])


def state() -> dict[str, Any]:
    return {
        "model": {"w": mg.randn(3, 4), "empty": mg.zeros(0, 2), "count": mg.tensor(5)},
        "bool": np.array([True, False]),
        "half": np.arange(3, dtype=np.float16),
        "big": 2**63 - 1,
        0: {1: "ünï", None: None},
        "floats": [0.1, float("inf"), -0.0, 1e-310, np.float32(0.1)],
        "tuple": (1, (2.5, [True])),
    }


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (mg.Tensor, np.ndarray, np.generic)):
        x, y = (np.asarray(v.numpy() if isinstance(v, mg.Tensor) else v) for v in (a, b))
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
    return a == b and repr(a) == repr(b)


@BOTH
def test_every_bit_comes_back(name: str, tmp_path: Path) -> None:
    before = state()
    checkpoint.save(tmp_path / name, before)
    assert same(checkpoint.load(tmp_path / name), before)
    checkpoint.save(tmp_path / name, {})
    assert checkpoint.load(tmp_path / name) == {}
    assert os.listdir(tmp_path) == [name]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text(max_size=3) | st.integers(), inner) | st.tuples(inner)
        ),
        max_leaves=8,
    )
)
def test_any_nest(nest: Any) -> None:
    arrays: dict[str, Any] = {}
    text = json.dumps(checkpoint._take_apart(nest, "", arrays))
    assert same(checkpoint._put_together(json.loads(text), arrays), nest)


def test_safetensors_reads_ours_and_we_read_theirs(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    kinds = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
    arrays = {f"a.{k}": rng.normal(size=(3, 5)).astype(k) for k in kinds} | {
        "0d": np.array(2.0),
        "e": np.zeros(0),
    }
    checkpoint.save_file(arrays, tmp_path / "mine", {"who": "me"})
    safetensors.save_file(arrays, tmp_path / "theirs", {"who": "they"})
    for loaded in (safetensors.load_file(tmp_path / "mine"), checkpoint.load_file(tmp_path / "theirs")):
        assert set(loaded) == set(arrays)
        assert all(same(loaded[k], v) for k, v in arrays.items())
    assert checkpoint.read_metadata(tmp_path / "theirs") == {"who": "they"}
    with pytest.raises(CheckpointError, match="use load_file"):
        checkpoint.load(tmp_path / "theirs")
    checkpoint.save(tmp_path / "nest", state())
    assert "model.w" in safetensors.load_file(tmp_path / "nest")


def test_a_known_file_byte_for_byte(tmp_path: Path) -> None:
    header = b'{"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    header += b" " * (-len(header) % 8)
    (tmp_path / "f").write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f\x00\xc0")
    loaded = checkpoint.load_file(tmp_path / "f")["b"]
    assert loaded.tolist() == [1.0, -2.0]
    checkpoint.save_file({"x": np.array([1.0], ">f4")}, tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == (
        (56).to_bytes(8, "little")
        + b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  '
        + b"\0\0\x80\x3f"
    )


@pytest.mark.parametrize(
    "bad", [object(), {"x": {1, 2}}, [b"bytes"], {1.5: 2}, np.array(["a"]), np.array([1j])]
)
def test_what_cannot_be_stored(bad: Any, tmp_path: Path) -> None:
    with pytest.raises(DTypeError):
        checkpoint.save(tmp_path / "f", bad)
    assert not os.listdir(tmp_path)


# -- damage ----------------------------------------------------------------------------------------------


@BOTH
def test_each_damaged_byte_is_noticed(name: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / name, {"w": np.arange(6.0), "n": 3})
    good = (tmp_path / name).read_bytes()
    for at in range(0, len(good), 1 if name.endswith("tensors") else 3):
        bad = bytearray(good)
        bad[at] ^= 0x11
        (tmp_path / name).write_bytes(bad)
        try:
            found = checkpoint.load(tmp_path / name)
        except CheckpointError:
            continue
        # padding, and fields of a zip that say nothing about the contents
        assert same(found, {"w": np.arange(6.0), "n": 3}), at
    for stop in (0, 5, 8, len(good) // 2, len(good) - 1):
        (tmp_path / name).write_bytes(good[:stop])
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(tmp_path / name)


def test_files_that_lie(tmp_path: Path) -> None:
    for header in (
        b"[]",
        b'{"x":1}',
        b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
        b'{"x":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}',
        b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[4,0]}}',
        b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}',
        b'{"x":{"dtype":"F32","shape":"ab","data_offsets":[0,4]}}',
        b"{\xff",
    ):
        (tmp_path / "f").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(tmp_path / "f")
    (tmp_path / "f").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path / "f")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path / "none")
    np.savez(tmp_path / "p.npz", x=np.array([print], object))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path / "p.npz")


@BOTH
def test_a_file_is_replaced_and_never_written_over(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    checkpoint.save(path, {"w": np.zeros(1000)})
    old = path.read_bytes()
    with path.open("rb") as reader:
        checkpoint.save(path, {"w": np.ones(1000)})
        assert reader.read() == old  # whoever has it open keeps the whole old one


@BOTH
def test_a_full_disk_keeps_the_last_good_one(name: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / name
    checkpoint.save(path, {"w": np.zeros(10)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(CheckpointError, match="was not written: File too large"):
            checkpoint.save(path, {"w": np.ones(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same(checkpoint.load(path), {"w": np.zeros(10)})
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(CheckpointError, match="No such file or directory"):
        checkpoint.save(tmp_path / "none" / name, {})


def test_halves_of_the_dead_are_removed_and_of_the_living_kept(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    for pid in (done.pid, os.getppid()):
        (tmp_path / f".f.{pid}.partial").write_bytes(b"half")
    checkpoint.save(tmp_path / "f", {})
    assert sorted(os.listdir(tmp_path)) == sorted(["f", f".f.{os.getppid()}.partial"])


def test_the_newest_that_is_whole(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "run", keep=3)
    assert kept.latest() is None
    for step in (1, 2, 3, 4, 5):
        kept.save(step, {"step": step})
    assert kept.steps() == [3, 4, 5]
    path = Path(kept.path(5))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(RuntimeWarning, match=r"step-00000005.* is damaged"):
        assert kept.latest() == {"step": 4}
    for step in (3, 4):
        Path(kept.path(step)).write_bytes(b"")
    with pytest.warns(RuntimeWarning), pytest.raises(CheckpointError, match="all 3 in"):
        kept.latest()
    for bad in ({"keep": 0}, {"format": "pickle"}):
        with pytest.raises(ArgumentError):
            Checkpoints(tmp_path, **bad)  # type: ignore[arg-type]


# -- runs that are killed ----------------------------------------------------------------------------------


def run(directory: Path, *options: int) -> str:
    command = [sys.executable, str(PROGRAM), str(directory), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, check=True)
    return done.stdout.split("\n")[1]


def kill_often(directory: Path, times: int, seed: int, longest: float) -> tuple[str, int]:
    """Kill a run at random moments until `times` is reached or it is done; what it says at last, and how
    often it was killed before it was done."""
    rng, killed = random.Random(seed), 0
    while killed < times:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(directory)], stdout=subprocess.PIPE, text=True, env=ENV
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, longest))
        process.kill()
        rest = process.stdout.read()
        process.wait()
        process.stdout.close()
        if rest:
            break
        killed += 1
        steps = Checkpoints(directory).steps()
        for step in steps:  # never a half-written one
            checkpoint.load(Checkpoints(directory).path(step))
    return run(directory), killed


def test_a_run_that_is_killed_and_resumed_gives_the_same_bits(tmp_path: Path) -> None:
    expected = run(tmp_path / "whole")
    assert run(tmp_path / "rarely", 1000) == expected
    assert run(tmp_path / "workers", 5, 4, 2) == expected
    for attempt, longest in enumerate((0.1, 0.03, 0.01)):  # a quick machine may be done before
        found, killed = kill_often(tmp_path / f"killed{attempt}", 4, attempt, longest)
        assert found == expected
        if killed:
            return
    raise AssertionError("no run was killed")


@pytest.mark.skipif("MINIGRAD_LONG" not in os.environ, reason="long: make test-long")
def test_fifty_kills(tmp_path: Path) -> None:
    expected = run(tmp_path / "whole")
    killed = runs = 0
    while killed < 50:
        found, times = kill_often(tmp_path / f"killed{runs}", 50 - killed, runs, 0.25)
        assert found == expected
        killed += times
        runs += 1
    print(f"{killed} kills in {runs} runs, all resumed with the same bits")


# -- the trainer -------------------------------------------------------------------------------------------


def regression(directory: Path | None = None, **options: Any) -> tuple[Trainer, data.DataLoader]:
    mg.manual_seed(2)
    x = mg.randn(48, 3)
    y = x @ mg.tensor([[1.0], [-2.0], [0.5]])
    model = nn.Linear(3, 1)
    loader = data.DataLoader(data.TensorDataset(x, y), 8, shuffle=True)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Trainer(model, optimizer, nn.functional.mse_loss, directory=directory, **options), loader


def test_trainer_is_the_loop_one_writes_by_hand() -> None:
    trainer, loader = regression(capture=False)
    history = trainer.fit(loader, 3, verbose=0)
    mg.manual_seed(2)
    x = mg.randn(48, 3)
    y = x @ mg.tensor([[1.0], [-2.0], [0.5]])
    model = nn.Linear(3, 1)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(3):
        total = 0.0
        for a, b in data.DataLoader(data.TensorDataset(x, y), 8, shuffle=True):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(a), b)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(a)
        losses.append(total / 48)
    assert history["loss"] == losses
    assert (model.weight == trainer.model.weight).all()
    captured, loader = regression()
    # a fused program rounds sums in another order
    np.testing.assert_allclose(captured.fit(loader, 3, verbose=0)["loss"], losses, rtol=1e-5)


def test_trainer_clips_schedules_validates_and_calls_back(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    class Stops(mg.keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            seen.append(f"{epoch} {sorted(logs)}")
            if epoch == 1:
                self.model.stop_training = True

    trainer, loader = regression(
        clip=1e-6, callbacks=[Stops()], metrics={"mae": lambda p, y: (p - y).abs().mean()}
    )
    before = trainer.model.weight.detach().numpy().copy()
    trainer.scheduler = mg.optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, patience=0, threshold=0.5)
    history = trainer.fit(loader, 9, validation=loader)
    assert seen == [f"{e} ['loss', 'mae', 'val_loss', 'val_mae']" for e in (0, 1)]
    assert np.abs(trainer.model.weight.detach().numpy() - before).max() < 1e-4
    assert trainer.optimizer.param_groups[0]["lr"] < 0.05
    assert len(history["val_mae"]) == 2
    assert "Epoch 2/9" in capsys.readouterr().out


def test_trainer_says_what_is_wrong(tmp_path: Path) -> None:
    trainer, loader = regression()
    trainer.optimizer.param_groups[0]["lr"] = 1e30
    with pytest.raises(mg.Error, match="lower the learning rate"):
        trainer.fit(loader, 5, verbose=0)
    x = mg.randn(8, 3).numpy()
    x[5, 1] = np.nan
    holes = data.DataLoader(data.TensorDataset(x, mg.zeros(8, 1)), 8)
    with pytest.raises(AnomalyError, match=r"part 0 of the batch has nan at \[5, 1\].*SimpleImputer"):
        regression()[0].fit(holes, 1, verbose=0)
    with pytest.raises(ArgumentError, match="no batches"):
        regression()[0].fit(data.DataLoader(mg.zeros(0, 3), 2, shuffle=True), 1)
    for options, text in (
        ({"save_every": 1}, "a directory"),
        ({"schedule_every": "batch"}, "schedule_every"),
        ({"saved": {"scaler": 3}}, "without a state_dict"),
    ):
        with pytest.raises(mg.Error, match=text):
            regression(**options)
    with pytest.raises(ArgumentError, match="no batches"):
        regression()[0].fit([], 1)
    with pytest.raises(ArgumentError, match="where it is"):
        regression(tmp_path, save_every=1)[0].fit([(mg.zeros(1, 3), mg.zeros(1, 1))], 1)
    with pytest.raises(ArgumentError, match="no directory"):
        regression()[0].resume()
    trainer, loader = regression(tmp_path / "a")
    trainer.fit(loader, 1, verbose=0)
    other, _ = regression(tmp_path / "a", saved={"scaler": nn.Linear(1, 1)})
    with pytest.raises(CheckpointError, match=r"missing \['saved.scaler'\]"):
        other.resume(loader)
    other, _ = regression(tmp_path / "a")
    other.model = nn.Linear(3, 2)
    with pytest.raises(mg.Error, match=r"weight has shape \(1, 3\) where \(2, 3\)"):
        other.resume(loader)


def test_save_and_load_under_torch_names(tmp_path) -> None:
    model = mg.nn.Linear(2, 2)
    mg.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pt")
    state = mg.load(tmp_path / "checkpoint.pt", map_location=mg.device("cpu"), weights_only=True)
    assert state["epoch"] == 3
    assert repr(mg.nn.Linear(2, 2).load_state_dict(state["model"])) == "<All keys matched successfully>"
    with pytest.raises(mg.Error, match="no device"):
        mg.load(tmp_path / "checkpoint.pt", map_location="cuda:0")
    with pytest.raises(mg.Error):
        mg.save(model, tmp_path / "whole.pt")
