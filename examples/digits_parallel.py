"""Handwritten digits on two processes: data parallel training, step by step.

    python examples/digits_parallel.py [--ranks 2] [--epochs 20]
    mpirun -n 2 python examples/digits_parallel.py

Each rank has the whole model and every other example; gradients are averaged while they are computed, so
all ranks make the same steps. Prints the accuracy on 359 digits that were not trained on, and how long an
epoch took."""

from __future__ import annotations

import argparse
import time

import numpy as np

import minigrad as mg
from minigrad import distributed, nn, optim


def pixels(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 64) of mean 0 and deviation 1 over the training set, and labels (n,)."""
    images, labels = mg.data.load_digits(part)
    train, _ = mg.data.load_digits("train")
    scaled = (images.reshape(-1, 64) - train.mean()) / train.std()
    return scaled.astype(np.float32), labels


def train(epochs: int, batch: int) -> tuple[float, float]:
    """What each rank does: train on its examples; accuracy and seconds an epoch."""
    x, y = pixels("train")
    model = distributed.DistributedDataParallel(
        nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    )
    optimizer = optim.AdamW(model.parameters(), lr=2e-3)
    sampler = distributed.DistributedSampler(x, seed=1)
    size = batch // distributed.get_world_size()  # of the global batch, this rank's part

    @mg.compile
    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    begin = time.perf_counter()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        mine = np.fromiter(sampler, np.int64)
        for start in range(0, len(mine), size):
            chosen = mine[start : start + size]
            step(mg.tensor(x[chosen]), mg.tensor(y[chosen]))
    seconds = (time.perf_counter() - begin) / epochs
    x, y = pixels("test")
    with mg.no_grad():
        right = model.eval()(mg.tensor(x)).argmax(1).numpy() == y
    return float(right.mean()), seconds


def main() -> None:
    """Start the ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64, help="of all ranks together")
    options = parser.parse_args()
    results = distributed.run(train, options.ranks, (options.epochs, options.batch), seed=0)
    accuracy, seconds = results[0]
    if distributed.get_rank() == 0:  # under mpirun all ranks come here
        print(f"{len(results)} ranks: accuracy {accuracy:.1%}, {1e3 * seconds:.1f} ms an epoch")
    assert len({a for a, _ in results}) == 1, "all ranks have the same model"


if __name__ == "__main__":
    main()
