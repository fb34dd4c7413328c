"""A network that reads digits, made small in four stages: teacher -> distilled -> pruned -> int8.

    python examples/compress.py [--seeds 10] [--epochs 25]

The teacher is a CNN of 30,890 parameters. The student has 2,776, less than a tenth, and is trained twice on
the same images for the same number of steps: on the labels alone, and on what the teacher says of them
(temperature 4, alpha 0.9). The distilled one then loses a quarter of its channels and learns on from the
teacher, and is at last calibrated on the training images and run in eight bits. Each row is the mean over
seeds: accuracy on 359 digits that none of them has seen, with its deviation, parameters, bytes of
weights, and microseconds for one image in a compiled call.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import data, distillation, nn, quantization
from minigrad.data import augmentation as aug
from minigrad.overview import LARGE as TEACHER
from minigrad.overview import SMALL as STUDENT
from minigrad.overview import network
from minigrad.training import Trainer


def digits(part: str) -> data.TensorDataset:
    images, labels = data.load_digits(part)
    return data.TensorDataset((images[:, None] / 16.0).astype(np.float32), labels)


def train(
    model: nn.Sequential, seed: int, epochs: int, lr: float, teacher: nn.Module | None = None, **how: Any
) -> nn.Sequential:
    """Train on labels, or from a teacher; returns the average of the weights."""
    mg.manual_seed(1000 + seed)
    varied = aug.RandomAffine(degrees=12, translate=(0.1, 0.1), scale=(0.88, 1.12), shear=10)
    loader = data.DataLoader(
        data.Augmented(digits("train"), varied, seed=seed), 64, shuffle=True, drop_last=True
    )
    rule = mg.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.02)
    settings: dict[str, Any] = {
        "scheduler": mg.optim.lr_scheduler.OneCycleLR(rule, max_lr=lr, total_steps=epochs * len(loader)),
        "schedule_every": "step",
        "averaged": mg.optim.AveragedModel(
            model, avg_fn=mg.optim.swa_utils.get_ema_avg_fn(0.99), use_buffers=True
        ),
    }
    trainer: Trainer
    if teacher is None:
        trainer = Trainer(model, rule, nn.functional.cross_entropy, **settings)
    else:
        trainer = distillation.Distiller(teacher, model, rule, **how, **settings)
    trainer.fit(loader, epochs, verbose=0)
    averaged: nn.Sequential = settings["averaged"].module
    return averaged.eval()


def accuracy(model: Callable[[mg.Tensor], mg.Tensor]) -> float:
    """Percent of the test images that are read right."""
    x, y = digits("test").tensors
    with mg.no_grad():
        return 100.0 * (model(x).argmax(1) == y).float().mean().item()


def latency(model: nn.Module) -> float:
    """Microseconds of one image, median, in a compiled call."""
    run = model if isinstance(model, quantization.QuantizedModel) else mg.compile(model)
    x = digits("test").tensors[0][:1]
    taken = []
    with mg.no_grad():
        for _ in range(300):
            start = time.perf_counter()
            run(x)
            taken.append(time.perf_counter() - start)
    return 1e6 * float(np.median(taken[50:]))


def stages(seed: int, epochs: int) -> dict[str, nn.Module]:
    """All models of one seed."""
    mg.manual_seed(seed)
    teacher = train(network(TEACHER, 0.3), seed, 40, 0.006)
    mg.manual_seed(seed)
    alone = train(network(STUDENT), seed, epochs, 0.02)
    mg.manual_seed(seed)  # the same beginning
    distilled = train(network(STUDENT), seed, epochs, 0.02, teacher, temperature=4.0, alpha=0.9)
    thin = quantization.channels(distilled, 0.25).train()
    pruned = train(thin, seed, epochs, 0.01, teacher, temperature=4.0, alpha=0.9)
    x = digits("train").tensors[0]
    int8 = quantization.quantize_static(pruned, [x[i : i + 128] for i in range(0, 1024, 128)], measure=False)
    return {
        "teacher": teacher,
        "student alone": alone,
        "student distilled": distilled,
        "and pruned": pruned,
        "and int8": int8,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Digits: a network made small in four stages.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=25)
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for seed in range(args.seeds):
        start = time.perf_counter()
        for name, model in stages(seed, args.epochs).items():
            count = (
                sum(p.numel() for p in model.parameters())
                if name != "and int8"
                else found["and pruned"][-1][1]
            )
            found.setdefault(name, []).append(
                (accuracy(model), count, quantization.size(model), latency(model))
            )
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print(f"mean of {args.seeds} seeds: percent of 359 test images read right, and what it takes")
    print(f"{'':20}{'accuracy':>16}{'least':>8}{'parameters':>12}{'bytes':>9}{'us an image':>13}")
    for name, rows in found.items():
        right, count, size, taken = (np.array(column) for column in zip(*rows, strict=True))
        print(
            f"{name:20}{right.mean():9.2f} +- {right.std():.2f}{right.min():8.2f}{count.mean():12,.0f}"
            f"{size.mean():9,.0f}{np.median(taken):13.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
