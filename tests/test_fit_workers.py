"""`fit(..., workers=2)`: what two processes train is what one would have trained."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed_workers as work
import numpy as np
import pytest

import minigrad as mg
from minigrad import data, keras, nn, optim
from minigrad import distributed as dist
from minigrad.errors import AnomalyError, ShapeError
from minigrad.keras import layers
from minigrad.training import Trainer

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="the C kernels are not built")
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    listed = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    ).stdout
    assert "launching._child" not in listed
    assert not dist.is_initialized()


def examples(count=105):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 20)).astype("float32"), rng.integers(0, 3, count)


def network(optimizer="sgd", norm=False, loss="sparse_categorical_crossentropy", dropout=0.0):
    mg.manual_seed(1)
    model = keras.Sequential(
        [
            layers.Dense(32, "tanh", input_shape=(20,)),
            *([layers.BatchNormalization(synchronized=True)] if norm else []),
            *([layers.Dropout(dropout)] if dropout else []),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy", "f1_score"])
    mg.manual_seed(5)
    return model


def trained(workers, fit=None, **options):
    """A model after 4 epochs whose last batch has one example, tested on batches of 13, 13 and 1."""
    model = network(**options)
    x, y = examples()
    held = examples(27)
    settings = {"batch_size": 13, "epochs": 4, "verbose": 0, "validation_data": held, **(fit or {})}
    return model, model.fit(x, y, workers=workers, **settings).history


def same(one, two, limit=2e-5):
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=limit, atol=limit)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam"},
        {"norm": True},
        {
            "loss": keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
            "optimizer": keras.optimizers.SGD(1e-3),
        },
        {"fit": {"sample_weight": np.linspace(0, 2, 105), "shuffle": False}},
    ],
    ids=["adam", "batch norm", "sums", "weights"],
)
def test_two_workers_equal_one(options):
    (one, before), (two, after) = trained(1, **options), trained(2, **options)
    same(one, two)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5)


def test_the_same_bits_from_run_to_run():
    (first, _), (second, _) = trained(3, dropout=0.3), trained(3, dropout=0.3)
    same(first, second, 0.0)


def test_callbacks_are_here_and_rule():
    seen = []

    class Rates(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.1 / (epoch + 1)

        def on_epoch_end(self, epoch, logs=None):
            seen.append(epoch)
            if epoch == 1:
                self.model.layers[0].weights[0].assign(np.zeros((20, 32), np.float32))
            self.model.stop_training = epoch == 2

    (one, _), (two, history) = (trained(n, fit={"callbacks": [Rates()]}) for n in (1, 2))
    same(one, two)
    assert seen == [0, 1, 2] * 2
    assert len(history["loss"]) == 3


def test_the_model_goes_on_alone_afterwards():
    (one, _), (two, _) = trained(1), trained(2)
    x, y = examples()
    for model in (one, two):
        mg.manual_seed(9)
        model.fit(x, y, epochs=2, verbose=0)
    same(one, two)


def test_a_loss_that_is_not_finite_ends_all():
    model = network()
    x, y = examples()
    x[60, 3] = np.nan
    with pytest.raises(AnomalyError, match=r"x\[60, 3\] is nan"):
        model.fit(x, y, batch_size=20, shuffle=False, verbose=0, workers=2)


class Failing(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyError("planted")


def loss_that_fails(y, p):
    if dist.get_rank() == 1:
        raise ValueError("planted")
    return ((p.sum(-1) - y) ** 2).mean()


def test_faults():
    with pytest.raises(KeyError, match="planted"):
        trained(2, fit={"callbacks": [Failing()]})
    with pytest.raises(dist.DistributedError, match=r"(?s)rank 1 of 2 raised.*ValueError: planted"):
        trained(2, loss=loss_that_fails)
    with pytest.raises(mg.Error, match="cannot be sent to another process"):
        trained(2, loss=lambda y, p: ((p.sum(-1) - y) ** 2).mean())
    for workers in (0, 1.5, True):
        with pytest.raises(mg.Error, match="workers is"):
            trained(workers)
    dist.init_process_group()
    try:
        with pytest.raises(mg.Error, match="in a group already"):
            trained(2)
    finally:
        dist.destroy_process_group()


SCRIPT = """
import numpy as np, minigrad as mg
from minigrad import keras

class Twice(keras.layers.Layer):
    def forward(self, x):
        return x * 2.0

def total(y, p):
    return ((p - y) ** 2).mean()

print("begun", flush=True)
model = keras.Sequential([keras.layers.Dense(4, input_shape=(3,)), Twice(), keras.layers.Dense(1)])
model.compile("sgd", total)
model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0, workers=2)
print("done", mg.distributed.get_world_size(), flush=True)
"""


def test_the_guard_may_be_missing(tmp_path):
    """What a worker needs of the script is above the call, so it runs the script as far as that."""
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.split(), done.returncode) == (["begun", "begun", "done", "1"], 0), done.stderr
    assert 'put that under `if __name__ == "__main__":`' in done.stderr


WAITING = """
import time, numpy as np
from minigrad import distributed as dist, keras

def slow(y, p):
    if dist.get_rank() == 1:
        print("here", flush=True)
        time.sleep(60)
    return ((p - y) ** 2).mean()

if __name__ == "__main__":
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", slow)
    model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0, workers=2)
"""


def test_ctrl_c_ends_a_wait_for_a_worker(tmp_path):
    """The first process is in C, waiting; nothing of Python runs there."""
    path = tmp_path / "train.py"
    path.write_text(WAITING)
    process = subprocess.Popen(
        [sys.executable, path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
    assert time.monotonic() - began < 5
    assert listed.stdout.split()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in listed.stdout.split())


# -- Trainer ------------------------------------------------------------------------------------------------


def run(workers, norm=False, directory=None, epochs=4, **options):
    mg.manual_seed(3)
    norms = [nn.BatchNorm1d(32)] if norm else []
    model = nn.Sequential(nn.Linear(20, 32, bias=not norm), *norms, nn.Tanh(), nn.Linear(32, 3))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    sgd = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer = Trainer(
        model,
        sgd,
        nn.functional.cross_entropy,
        scheduler=optim.lr_scheduler.CyclicLR(sgd, 0.01, 0.1, 5),
        schedule_every="step",
        averaged=optim.AveragedModel(model),
        metrics={"hits": hits},
        clip=1.0,
        directory=directory,
    )
    x, y = examples(106 if norm else 105)
    loader = data.DataLoader(data.TensorDataset(x, y), batch_size=13, shuffle=True)
    tests = data.DataLoader(data.TensorDataset(*examples(27)), batch_size=13)
    return trainer, trainer.fit(loader, epochs, tests, verbose=0, workers=workers, **options)


def hits(output, target):
    return (output.argmax(1) == target).float().mean().item()


@pytest.mark.parametrize("norm", [False, True])
def test_trainers_equal_one(norm):
    (one, before), (two, after) = run(1, norm), run(2, norm)
    for part in ("model", "averaged"):
        a, b = (getattr(t, part).state_dict() for t in (one, two))
        for name in a:
            np.testing.assert_allclose(a[name].numpy(), b[name].numpy(), rtol=1e-4, atol=2e-5)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5)


def test_a_trainer_resumes_with_another_number_of_workers(tmp_path):
    run(2, directory=tmp_path / "a", epochs=2)
    resumed, _ = run(1, directory=tmp_path / "a", resume=True)
    straight, _ = run(1)
    for a, b in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=2e-5)


def test_ranks_write_once_and_resume_together(tmp_path, capfd):
    """Trainers on two ranks: one log, one line an epoch, one directory; a run that was killed within an epoch
    goes on with the same bits; and with another number of ranks."""
    folders = [tmp_path / name for name in ("straight", "killed")]
    for folder in folders:
        folder.mkdir()
    straight = dist.run(work.trainer, 2, (str(folders[0]), 3))
    assert capfd.readouterr().out.count("Epoch 3/3") == 1
    (history, mine, written, drawn), (other_history, theirs, nothing, other_drawn) = straight
    assert history == other_history
    assert len(history["hits"]) == 3
    assert (len(written), nothing) == (3, [])
    assert drawn != other_drawn  # dropout is another one on each rank
    assert all((mine[n] == theirs[n]).all() for n in mine)
    assert len((folders[0] / "log.csv").read_text().splitlines()) == 4
    with pytest.raises(dist.DistributedError, match="exit code 9"):
        dist.run(work.trainer, 2, (str(folders[1]), 3), {"fail": True})
    shutil.copytree(folders[1], tmp_path / "alone")
    again = dist.run(work.trainer, 2, (str(folders[1]), 3), {"resume": True})
    assert again[0][0] == again[1][0] == history
    assert all((again[0][1][n] == mine[n]).all() for n in mine)
    assert "loss" in work.trainer(str(tmp_path / "alone"), 3, resume=True)[0]
    names = mg.checkpoint.Checkpoints(folders[0] / "kept").latest()["model"]
    assert "0.weight" in names  # of the bare model


def test_batches_that_cannot_be_shared():
    trainer, _ = run(1, epochs=0)
    with pytest.raises(mg.Error, match="a loader that is a list"):
        trainer.fit([(mg.zeros(2, 20), mg.tensor([0, 1]))], 1, verbose=0, workers=2)


# -- pieces -------------------------------------------------------------------------------------------------


def test_a_loader_takes_a_distributed_sampler():
    x = np.arange(11)
    seen = []
    for rank in range(2):
        sampler = dist.DistributedSampler(x, 2, rank, seed=3)
        loader = data.DataLoader(data.TensorDataset(x), batch_size=4, sampler=sampler)
        assert len(loader) == 2
        first = [b[0].tolist() for b in loader]
        assert first == [b[0].tolist() for b in loader]
        sampler.set_epoch(1)
        assert first != [b[0].tolist() for b in loader]
        seen += [i for batch in first for i in batch]
    assert set(seen) == set(range(11))


def test_converting_batch_norms():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm1d(4)), nn.InstanceNorm2d(3))
    state = model.state_dict()
    made = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert [type(m).__name__ for m in made] == ["SyncBatchNorm", "Sequential", "InstanceNorm2d"]
    assert list(made.state_dict()) == list(state)
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm1d(2))) is nn.SyncBatchNorm
    x = mg.tensor(np.random.default_rng(0).normal(size=(4, 3, 5)).astype("float32"))
    one, other = nn.SyncBatchNorm(3), nn.BatchNorm1d(3)
    np.testing.assert_array_equal(one(x).detach().numpy(), other(x).detach().numpy())
    np.testing.assert_array_equal(one.eval()(x).detach().numpy(), other.eval()(x).detach().numpy())
    with pytest.raises(ShapeError, match="SyncBatchNorm"):
        one(mg.zeros(2, 4))
