"""Training that outlives its processes: the last checkpoint, and another number of ranks.

    python -m minigrad.distributed.launch --nproc 3 --max-restarts 2 --min-nproc 1 \\
        examples/digits_elastic.py run --fail-at 45

In step 45 the last rank is killed. The launcher ends the others and starts again with one rank fewer; they
find the checkpoint of step 40 in the directory `run`, and go on. What makes the result the same to
rounding, whatever happened in between:

* a checkpoint has everything the next step depends on: parameters, moments of the optimizer, the step;
* which examples step k sees depends on k alone, and the ranks that are there share them out;
* the mean of gradients is weighted by examples, so any number of ranks will do.

One rank writes, by a rename (`minigrad.checkpoint`), so a file is whole or not there. All read it before
anything is done together."""

from __future__ import annotations

import argparse
import os
import signal

import numpy as np

import minigrad as mg
from minigrad import distributed, nn, optim
from minigrad.checkpoint import Checkpoints


def examples_of(step: int, batch: int, count: int) -> np.ndarray:
    """Which examples a step sees, on all ranks together: a part of the order of its epoch."""
    epoch, at = divmod(step * batch, count - count % batch)
    return np.random.default_rng([1, epoch]).permutation(count)[at : at + batch]


def train(directory: str, steps: int, batch: int = 64, every: int = 10, fail_at: int | None = None) -> float:
    """What each rank does; the accuracy on digits that were not trained on."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    images, labels = mg.data.load_digits("train")
    x = (images.reshape(-1, 64) / 16).astype(np.float32)
    mg.manual_seed(0)
    inner = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = optim.AdamW(inner.parameters(), lr=2e-3)

    checkpoints, first = Checkpoints(directory), 0
    state = checkpoints.latest()
    if state is not None:
        inner.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    if rank == 0:
        print(f"{size} ranks begin with step {first}", flush=True)
    model = distributed.DistributedDataParallel(inner)

    @mg.compile
    def update(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    for step in range(first, steps):
        if step == fail_at and rank == size - 1 and os.environ.get("RESTART_COUNT") == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        mine = examples_of(step, batch, len(x))[rank::size]
        update(mg.tensor(x[mine]), mg.tensor(labels[mine]))
        if rank == 0 and ((step + 1) % every == 0 or step + 1 == steps):
            parts = {"model": inner.state_dict(), "optimizer": optimizer.state_dict()}
            checkpoints.save(step + 1, {**parts, "step": step + 1})

    images, labels = mg.data.load_digits("test")
    with mg.no_grad():
        scores = inner.eval()(mg.tensor((images.reshape(-1, 64) / 16).astype(np.float32)))
    return float((scores.argmax(1).numpy() == labels).mean())


def main() -> None:
    """A rank, started by the launcher (or by mpirun, or alone)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--fail-at", type=int)
    options = parser.parse_args()
    distributed.init_process_group()
    accuracy = train(options.directory, options.steps, fail_at=options.fail_at)
    if distributed.get_rank() == 0:
        print(f"{distributed.get_world_size()} ranks: accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
