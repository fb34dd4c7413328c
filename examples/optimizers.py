"""What each optimizer reaches on the digits in the same number of steps: a table and a picture.

    python examples/optimizers.py [--steps 400] [--seeds 5] [--picture optimizers.svg]

One network (64-64-10), the same batches and the same start for all. The learning rate of each optimizer is
chosen among a few by the loss on the validation part, with a seed of its own; the table is of the test part.
Full-batch methods (GD, L-BFGS) see the whole training set at each step, so their steps cost more: the time is
in the table too.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import minigrad as mg
from minigrad import nn, optim

BATCH = 64

#: name -> (optimizer of parameters and learning rate, learning rates to try)
CANDIDATES: dict[str, tuple[Callable[..., optim.Optimizer], list[float]]] = {
    "GD (full batch)": (optim.GD, [0.3, 1.0, 3.0]),
    "SGD": (optim.SGD, [0.3, 1.0, 3.0]),
    "momentum": (lambda p, lr: optim.SGD(p, lr, momentum=0.9), [0.03, 0.1, 0.3]),
    "Nesterov": (lambda p, lr: optim.SGD(p, lr, momentum=0.9, nesterov=True), [0.03, 0.1, 0.3]),
    "Adagrad": (optim.Adagrad, [0.03, 0.1, 0.3]),
    "Adadelta": (optim.Adadelta, [1.0, 3.0, 10.0, 30.0]),
    "RMSprop": (optim.RMSprop, [0.003, 0.01, 0.03]),
    "Adam": (optim.Adam, [0.003, 0.01, 0.03, 0.1]),
    "AMSGrad": (lambda p, lr: optim.Adam(p, lr, amsgrad=True), [0.003, 0.01, 0.03, 0.1]),
    "AdamW": (optim.AdamW, [0.003, 0.01, 0.03, 0.1]),
    "Adamax": (optim.Adamax, [0.01, 0.03, 0.1]),
    "NAdam": (optim.NAdam, [0.003, 0.01, 0.03, 0.1]),
    "RAdam": (optim.RAdam, [0.01, 0.03, 0.1]),
    "Lion": (optim.Lion, [0.0003, 0.001, 0.003, 0.01]),
    "LAMB": (optim.LAMB, [0.01, 0.03, 0.1]),
    "L-BFGS (full batch)": (
        lambda p, lr: optim.LBFGS(p, lr, max_iter=1, max_eval=25, line_search_fn="strong_wolfe"),
        [1.0],
    ),
}


def digits(part: str) -> tuple[mg.Tensor, mg.Tensor]:
    """Pixels (n, 64) from 0 to 1, and labels (n,)."""
    images, labels = mg.data.load_digits(part)
    return mg.tensor(images).float().flatten(1) / 16, mg.tensor(labels)


class Run:
    """One training run: what it reached, the loss on the training set along the way, seconds."""

    def __init__(self, name: str, lr: float, steps: int, seed: int, every: int = 10) -> None:
        make = CANDIDATES[name][0]
        mg.manual_seed(seed)
        x, y = digits("train")
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = make(model.parameters(), lr)
        loss_of = nn.functional.cross_entropy

        @mg.compile
        def gradient(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            return loss.detach()

        @mg.compile
        def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
            loss = gradient(x, y)
            optimizer.step()
            return loss

        def whole() -> float:
            with mg.no_grad():
                return float(loss_of(model(x), y).item())

        self.losses = [whole()]
        self.seconds = 0.0
        order = mg.randperm(len(x))
        used = 0
        for k in range(1, steps + 1):
            if "full" in name:
                i = slice(None)
            else:
                if used + BATCH > len(x):
                    order, used = mg.randperm(len(x)), 0
                i, used = order[used : used + BATCH], used + BATCH
            bx, by = x[i], y[i]
            start = time.perf_counter()
            if isinstance(optimizer, optim.LBFGS):
                optimizer.step(lambda bx=bx, by=by: gradient(bx, by))
            else:
                step(bx, by)
            if k > 1:  # the first one is traced
                self.seconds += time.perf_counter() - start
            if k % every == 0:
                self.losses.append(whole())

        self.train_loss = whole()
        self.scores: dict[str, tuple[float, float]] = {}
        with mg.no_grad():
            for part in ("validation", "test"):
                x2, y2 = digits(part)
                scores = model(x2)
                right = (scores.argmax(dim=1) == y2).float().mean()
                self.scores[part] = (float(loss_of(scores, y2).item()), float(right.item()))


def compare(steps: int, seeds: int, names: list[str] | None = None) -> list[dict[str, Any]]:
    """A row for each optimizer, the best test accuracy first."""
    rows = []
    for name in names or list(CANDIDATES):
        rates = CANDIDATES[name][1]

        def validation(lr: float, name: str = name) -> float:
            loss = Run(name, lr, steps, seed=100).scores["validation"][0]
            return math.inf if math.isnan(loss) else loss

        lr = min(rates, key=validation) if len(rates) > 1 else rates[0]
        runs = [Run(name, lr, steps, seed) for seed in range(seeds)]
        rows.append(
            {
                "name": name,
                "lr": lr,
                "train": sum(r.train_loss for r in runs) / seeds,
                "test": sum(r.scores["test"][1] for r in runs) / seeds,
                "microseconds": min(r.seconds for r in runs) / (steps - 1) * 1e6,
                "losses": [sum(values) / seeds for values in zip(*(r.losses for r in runs), strict=True)],
            }
        )
    return sorted(rows, key=lambda row: (-row["test"], row["train"]))


def table(rows: list[dict[str, Any]], steps: int) -> str:
    """The rows as text."""
    lines = [
        f"{'after ' + str(steps) + ' steps':20} {'lr':>8} {'training loss':>14} {'test':>8} {'us/step':>9}"
    ]
    for row in rows:
        results = f"{row['train']:14.4f} {row['test']:8.2%} {row['microseconds']:9.0f}"
        lines.append(f"{row['name']:20} {row['lr']:8g} {results}")
    return "\n".join(lines)


def picture(rows: list[dict[str, Any]], steps: int) -> str:
    """The training losses (logarithmic) over the steps, as SVG."""
    width, height, left, top, right = 640, 400, 50, 20, 170
    values = [max(v, 1e-6) for row in rows for v in row["losses"] if math.isfinite(v)]
    low, high = math.floor(math.log10(min(values))), math.log10(max(values))

    def down(value: float) -> float:
        exponent = min(max(math.log10(max(value, 1e-30)), low), high)
        return top + (high - exponent) / (high - low) * (height - 2 * top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    for decade in range(low, math.floor(high) + 1):
        y = down(10.0**decade)
        parts.append(
            f'<path d="M{left},{y:.1f} H{width - right}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{y:.1f}" text-anchor="end">1e{decade}</text>'
        )
    parts.append(
        f'<text x="{left}" y="{height - 4}">step 0</text>'
        f'<text x="{width - right}" y="{height - 4}" text-anchor="end">{steps}</text>'
        f'<text x="{left}" y="{top - 6}">loss on the training set</text>'
    )
    for k, row in enumerate(rows):
        colour = f"hsl({k * 360 // len(rows)},70%,{35 if k % 2 else 50}%)"
        losses = [v for v in row["losses"] if math.isfinite(v)]
        across = (width - left - right) / max(len(row["losses"]) - 1, 1)
        path = " ".join(f"{left + i * across:.1f},{down(v):.1f}" for i, v in enumerate(losses))
        y = top + 8 + k * (height - 2 * top) / len(rows)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            f'<text x="{width - right + 12}" y="{y:.0f}" fill="{colour}">'
            f"{row['name']} {row['test']:.1%}</text>"
        )
    return "\n".join([*parts, "</svg>"])


def main() -> None:
    """Compare, print the table, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of optimizers (default: all)")
    parser.add_argument("--picture", default="optimizers.svg")
    args = parser.parse_args()
    rows = compare(args.steps, args.seeds, args.only)
    print(table(rows, args.steps))
    with open(args.picture, "w", encoding="utf-8") as file:
        file.write(picture(rows, args.steps))
    print(f"picture: {args.picture}")


if __name__ == "__main__":
    main()
