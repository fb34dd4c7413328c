"""What the processes of notebook 9 do: small functions that a rank can import.

    python examples/parallel_steps.py [--ranks 2] [--pause 0.001]

trains for a moment and prints what each rank did with its time."""

from __future__ import annotations

import argparse
import time

import numpy as np

import minigrad as mg
from minigrad import distributed, nn, optim


def squares() -> tuple[int, float]:
    """The rank, and the sum of all squares of ranks."""
    rank = distributed.get_rank()
    total = distributed.all_reduce(mg.tensor([float(rank**2)]))
    return rank, total.item()


def train(pause: float = 0.0) -> tuple[np.ndarray, distributed.Timeline]:
    """Steps on this rank's part of each batch; the weights at the end, and the timeline of the last 20."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    mg.manual_seed(0)
    model = distributed.DistributedDataParallel(
        nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
    )
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    x, y = mg.randn(512, 256), mg.randint(0, 10, (512,))
    x, y = x[rank::size], y[rank::size]

    @mg.compile
    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(5):
        step(x, y)
    with distributed.timeline() as seen:
        for _ in range(20):
            if rank == 1:
                time.sleep(pause)
            step(x, y)
    return model.module[0].weight.detach().numpy(), seen


def fail() -> None:
    """Rank 1 has an accident, and rank 0 would wait for it."""
    if distributed.get_rank() == 1:
        raise MemoryError("planted")
    distributed.barrier()


def main() -> None:
    """Start the ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.0, help="of rank 1 in each step, seconds")
    options = parser.parse_args()
    results = distributed.run(train, options.ranks, (options.pause,), threads=1)
    if distributed.get_rank() == 0:
        print(results[0][1])


if __name__ == "__main__":
    main()
