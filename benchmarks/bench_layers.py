"""Recurrent layers and a transformer encoder layer, forward and backward, eagerly and captured.

    python benchmarks/bench_layers.py               at 1 and 2 threads

Both libraries have the same weights and the same input; the gradients of the input are compared before
anything is timed.  "minigrad" runs eagerly, "captured" the same inside `mg.compile`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

CASES: list[harness.Case] = [
    {"label": "LSTM 50x32, 32 -> 64", "name": "LSTM", "shape": (50, 32, 32), "args": (32, 64)},
    {"label": "GRU 50x32, 32 -> 64", "name": "GRU", "shape": (50, 32, 32), "args": (32, 64)},
    {"label": "RNN 50x32, 32 -> 64", "name": "RNN", "shape": (50, 32, 32), "args": (32, 64)},
    {"label": "LSTM 35x20, 200 -> 200", "name": "LSTM", "shape": (35, 20, 200), "args": (200, 200)},
    {
        "label": "encoder layer d128 h4 s64 b16",
        "name": "TransformerEncoderLayer",
        "shape": (64, 16, 128),
        "args": (128, 4, 512, 0.0),
    },
]


def values(case: harness.Case, parameters: list[tuple[str, Any]]) -> tuple[Any, dict[str, Any]]:
    """The input, and small weights by name: the same for everybody."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(case["shape"], dtype=np.float32)
    return x, {n: rng.standard_normal(tuple(p.shape), dtype=np.float32) * 0.1 for n, p in parameters}


def step(library: Any, case: harness.Case, wrap: Any) -> harness.Call:
    """Forward and backward as a call that gives the gradient of the input."""
    layer = getattr(library.nn, case["name"])(*case["args"])
    data, state = values(case, list(layer.named_parameters()))
    layer.load_state_dict({n: library.tensor(v) for n, v in state.items()})
    given = library.tensor(data)

    def run(x: Any) -> Any:
        x = x.detach().requires_grad_()
        y = layer(x)
        loss = (y[0] if isinstance(y, tuple) else y).square().sum()
        gx, *_ = library.autograd.grad(loss, [x, *layer.parameters()])
        return gx

    call = wrap(run)
    return lambda: call(given).numpy()


class Torch(harness.Torch):
    def start(self, threads: int) -> None:
        super().start(threads)
        self.torch.set_grad_enabled(True)

    def prepare(self, case: harness.Case) -> harness.Call:
        return step(self.torch, case, lambda f: f)


class Minigrad(harness.Minigrad):
    def start(self, threads: int) -> None:
        super().start(threads)
        sys.path.insert(0, str(Path(__file__).parent.parent))
        self.mg = importlib.import_module("minigrad")

    def prepare(self, case: harness.Case) -> harness.Call:
        return step(self.mg, case, lambda f: f)


class Captured(Minigrad):
    name = "captured"

    def prepare(self, case: harness.Case) -> harness.Call:
        return step(self.mg, case, self.mg.compile)


if __name__ == "__main__":
    harness.main(__file__, [Minigrad(), Captured(), Torch()], CASES, tolerance=1e-3)
