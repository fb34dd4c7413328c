"""Loading data: epochs of batches beside plain numpy and torch's DataLoader, and augmentation.

    python benchmarks/bench_data.py              an epoch of 60000 x 784 float32, then augmentation
    python benchmarks/bench_data.py --rounds 9

Contenders take turns within each round, after a round that does not count; figures are medians, ratios
those of medians. Before timing, every contender's shuffled epoch must add up to the data set. One core.

"numpy" is the loop one would write: a permutation, and x[index], y[index] for each batch. torch is shown
twice: its DataLoader as it comes (example by example), and with a batch sampler (sampler=BatchSampler,
batch_size=None), where its TensorDataset is indexed by a list a batch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MINIGRAD_NUM_THREADS", "1")

import _harness as harness
import numpy as np

from minigrad import data
from minigrad.data import augmentation as aug

N, WIDTH = 60_000, 784
TARGET = 1.3

Epoch = Callable[[], Iterator[Any]]


def contenders(x: np.ndarray, y: np.ndarray, size: int) -> dict[str, Epoch]:
    rng = np.random.default_rng(0)

    def plain() -> Iterator[Any]:
        order = rng.permutation(len(x))
        for i in range(0, len(x), size):
            index = order[i : i + size]
            yield x[index], y[index]

    pairs = data.TensorDataset(x, y)
    found: dict[str, Epoch] = {
        "numpy": plain,
        "minigrad": lambda: iter(data.DataLoader(pairs, size, shuffle=True)),
        "minigrad, 2 workers": lambda: iter(data.DataLoader(pairs, size, shuffle=True, num_workers=2)),
    }
    try:
        import torch
        from torch.utils import data as theirs
    except ImportError:
        return found
    torch.set_num_threads(1)
    tensors = theirs.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    found["torch"] = lambda: iter(theirs.DataLoader(tensors, size, shuffle=True))
    found["torch, by batch"] = lambda: iter(
        theirs.DataLoader(
            tensors,
            batch_size=None,
            sampler=theirs.BatchSampler(theirs.RandomSampler(tensors), size, drop_last=False),
        )
    )
    return found


def run(epoch: Epoch) -> float:
    start = time.perf_counter()
    for _ in epoch():
        pass
    return time.perf_counter() - start


def epochs(rounds: int) -> float:
    rng = np.random.default_rng(1)
    x, y = rng.random((N, WIDTH), dtype=np.float32), rng.integers(0, 10, N)
    worst = 0.0
    for size in (32, 128, 1024):
        found = contenders(x, y, size)
        for name, epoch in found.items():
            total = sum(int(np.asarray(labels).sum()) for _, labels in epoch())
            if total != int(y.sum()):
                raise SystemExit(f"{name} does not give every example once")
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(rounds):
            for name, epoch in found.items():
                times[name].append(run(epoch))
        medians = {name: statistics.median(values) for name, values in times.items()}
        print(f"\nepoch of {N} x {WIDTH}, batches of {size}")
        for name, seconds in medians.items():
            print(f"  {name:22}{seconds * 1e3:9.1f} ms {seconds / medians['numpy']:7.2f} x numpy")
        worst = max(worst, medians["minigrad"] / medians["numpy"])
    print(f"\nminigrad is at most {worst:.2f} x numpy (target {TARGET})")
    return worst


def augmentation(rounds: int) -> None:
    images = np.random.default_rng(0).random((512, 1, 28, 28), dtype=np.float32)
    labels = np.arange(512) % 10
    cases: dict[str, aug.Transform] = {
        "flip": aug.RandomHorizontalFlip(),
        "crop, padded by 2": aug.RandomCrop(28, padding=2),
        "affine": aug.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), 10),
        "elastic": aug.ElasticTransform(),
        "noise": aug.GaussianNoise(0.1),
        "brightness": aug.RandomBrightness(),
        "cutout": aug.Cutout(8),
        "erasing": aug.RandomErasing(1.0),
        "mixup": aug.Mixup(0.4, num_classes=10),
        "cutmix": aug.CutMix(1.0, num_classes=10),
    }
    print("\naugmentation of 28 x 28 float32 images on one core")
    for name, transform in cases.items():
        times = []
        for epoch in range(rounds + 1):
            start = time.perf_counter()
            transform(images, labels, epoch=epoch)
            times.append(time.perf_counter() - start)
        print(f"  {name:22}{len(images) / statistics.median(times[1:]):12,.0f} images/s")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=harness.positive, default=7)
    args = parser.parse_args()
    print(harness.header())
    worst = epochs(args.rounds)
    augmentation(args.rounds)
    return int(worst > TARGET)


if __name__ == "__main__":
    sys.exit(main())
