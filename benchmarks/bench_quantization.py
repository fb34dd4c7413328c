"""Do eight bits pay? Ten models from tiny to wide, compiled in floats and as `quantize_static` decided.

    python benchmarks/bench_quantization.py [--threads 1] [--only WORDS] [--seconds 0.3]

For each model: microseconds in floats and of the quantized model, which take turns, their ratio, how many
layers run in eight bits, and whether the model said that it stays in floats. A ratio below 0.97 that is not
said would be a defect, and is marked. Other engines: bench_int8.py.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import _harness as harness

import minigrad as mg
from minigrad import nn, quantization
from minigrad.quantization import report


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with relu between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn(channels: int, size: int, deep: int = 2) -> nn.Sequential:
    """Convolutions with batch norm and relu, pooled, and a linear layer."""
    layers: list[nn.Module] = []
    last, side = 1, size
    for _ in range(deep):
        layers += [
            nn.Conv2d(last, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        last, channels, side = channels, channels * 2, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last * side * side, 10))


class Residual(nn.Module):
    """Blocks of two convolutions and a sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.convs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in range(4)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels) for _ in range(4)])
        self.last = nn.Linear(channels, 10)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        """Scores."""
        x = self.first(x).relu()
        for i in (0, 2):
            y = self.norms[i](self.convs[i](x)).relu()
            x = (self.norms[i + 1](self.convs[i + 1](y)) + x).relu()
        return self.last(x.mean((2, 3)))


class Mobile(nn.Module):
    """Depthwise and pointwise convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.depth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.point = nn.Conv2d(channels, 2 * channels, 1)
        self.last = nn.Linear(2 * channels, 10)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        """Scores."""
        x = nn.functional.relu6(self.first(x))
        x = nn.functional.relu6(self.point(nn.functional.relu6(self.depth(x))))
        return self.last(x.mean((2, 3)))


MODELS: list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = [
    ("mlp 4-8-2, batch 1", lambda: mlp(4, 8, 2), (1, 4)),
    ("mlp 100-64-10, batch 32", lambda: mlp(100, 64, 10), (32, 100)),
    ("mlp 784-512-256-10, batch 1", lambda: mlp(784, 512, 256, 10), (1, 784)),
    ("mlp 784-512-256-10, batch 256", lambda: mlp(784, 512, 256, 10), (256, 784)),
    ("mlp 1024-2048-2048-1024, batch 64", lambda: mlp(1024, 2048, 2048, 1024), (64, 1024)),
    ("linear 4096-4096, batch 1", lambda: mlp(4096, 4096), (1, 4096)),
    ("cnn 8x8, 8 channels, batch 1", lambda: cnn(8, 8), (1, 1, 8, 8)),
    ("cnn 28x28, 32 channels, batch 64", lambda: cnn(32, 28), (64, 1, 28, 28)),
    ("residual 32x32, 64 channels, batch 8", lambda: Residual(64), (8, 3, 32, 32)),
    ("depthwise 64x64, 32 channels, batch 4", lambda: Mobile(32), (4, 3, 64, 64)),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=harness.positive, default=1)
    parser.add_argument("--only", nargs="+", default=[""], help="models whose name contains one of these")
    parser.add_argument("--seconds", type=float, default=0.3, help="how long each pair takes turns")
    options = parser.parse_args()
    if not any(word in name for name, *_ in MODELS for word in options.only):
        parser.error(f"no model is called {' or '.join(options.only)}")
    print(harness.header())
    mg.set_num_threads(options.threads)
    print(f"{'model':40} {'float us':>9} {'int8 us':>9} {'ratio':>6}  layers  said")
    for name, make, shape in MODELS:
        if not any(word in name for word in options.only):
            continue
        mg.manual_seed(0)
        model, x = make().eval(), mg.randn(*shape)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            small = quantization.quantize_static(model, [x])
        quick = mg.compile(model)
        report.PATIENCE, patience = options.seconds, report.PATIENCE
        with mg.no_grad():
            before, after = map(statistics.median, report.turns(partial(quick, x), partial(small, x)))
        report.PATIENCE = patience
        rows = small.report().rows
        count = sum(r.decision == "static" for r in rows)
        slower = before / after < 0.97 and not said
        print(
            f"{name:40} {before:9.1f} {after:9.1f} {before / after:6.2f}  {count:2} / {len(rows):2}  "
            f"{'stays in floats' if said else ''}{'SLOWER, NOT SAID' if slower else ''}",
            flush=True,
        )


if __name__ == "__main__":
    main()
