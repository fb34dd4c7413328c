"""Handwritten digits with a small CNN: what augmentation, a schedule and averaged weights each add.

    python examples/digits_augmented.py [--seeds 5] [--epochs 40] [--only all]

Trains on the 1,259 images of the package's train part and reads the 359 of its test part.  The network and
all settings are the same in every row; only the three ingredients differ:

    augmentation   rotation, shear, scale and translation of each image, anew in every epoch
    schedule       one cycle of the learning rate (Smith & Topin 2018) instead of a constant one
    averaging      an exponential moving average of the weights, read instead of the last ones
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import minigrad as mg
from minigrad import data, nn
from minigrad.data import augmentation as aug
from minigrad.training import Trainer

ROWS = {
    "nothing": (),
    "augmentation": ("augmentation",),
    "schedule": ("schedule",),
    "averaging": ("averaging",),
    "all but augmentation": ("schedule", "averaging"),
    "all but schedule": ("augmentation", "averaging"),
    "all but averaging": ("augmentation", "schedule"),
    "all": ("augmentation", "schedule", "averaging"),
}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 2 * 2, 10),
    )


def augmentation() -> aug.Transform:
    return aug.RandomAffine(degrees=12, translate=(0.1, 0.1), scale=(0.88, 1.12), shear=10)


def run(ingredients: tuple[str, ...], seed: int, epochs: int) -> float:
    """The share of test images that are read right."""
    mg.manual_seed(seed)
    parts = {}
    for name in ("train", "test"):
        images, labels = data.load_digits(name)
        parts[name] = data.TensorDataset((images[:, None] / 16.0).astype(np.float32), labels)
    train = parts["train"]
    if "augmentation" in ingredients:
        train = data.Augmented(train, augmentation(), seed=seed)
    loader = data.DataLoader(train, 64, shuffle=True, drop_last=True)
    model = network()
    optimizer = mg.optim.AdamW(model.parameters(), lr=0.002, weight_decay=0.02)
    schedule = averaged = None
    if "schedule" in ingredients:
        schedule = mg.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.006, total_steps=epochs * len(loader))
    if "averaging" in ingredients:
        average = mg.optim.swa_utils.get_ema_avg_fn(0.99)
        averaged = mg.optim.AveragedModel(model, avg_fn=average, use_buffers=True)
    trainer = Trainer(
        model,
        optimizer,
        nn.functional.cross_entropy,
        scheduler=schedule,
        schedule_every="step",
        averaged=averaged,
        metrics={"accuracy": lambda p, y: (p.argmax(1) == y).to(mg.float32).mean()},
    )
    trainer.fit(loader, epochs, verbose=0)
    tested = trainer.test(data.DataLoader(parts["test"], 359), None if averaged is None else averaged.module)
    return tested["accuracy"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Digits: what each ingredient adds.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--only", choices=list(ROWS), help="one row")
    args = parser.parse_args()
    print(f"{args.seeds} seeds, {args.epochs} epochs: share of 359 test images read right")
    print(f"{'':22}{'mean':>8}{'least':>8}{'most':>8}   seconds a run")
    for name, ingredients in ROWS.items():
        if args.only in (None, name):
            start = time.perf_counter()
            found = [run(ingredients, seed, args.epochs) for seed in range(args.seeds)]
            taken = (time.perf_counter() - start) / args.seeds
            figures = "".join(f"{100 * f(found):7.2f}%" for f in (np.mean, np.min, np.max))
            print(f"{name:22}{figures}   {taken:.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
