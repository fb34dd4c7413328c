"""Optimizer steps on 5 million parameters in 100 tensors.

    python benchmarks/bench_optimizer.py               at 1 and 2 threads

torch runs its fused implementations, jax the same formulas in one jitted function with donated
buffers. Before timing, each engine takes the same steps from the same start and the parameters are
compared.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
from bench_elementwise import KEEP_MEMORY, Results
from bench_elementwise import Jax as JaxStart

SIZES = [100_000] * 45 + [10_000] * 45 + [5_000] * 10
CASES: list[harness.Case] = [
    {"label": "Adam 5M", "kind": "adam", "arrays": 7},
    {"label": "AdamW 5M", "kind": "adamw", "arrays": 7},
    {"label": "SGD momentum 5M", "kind": "momentum", "arrays": 5},
    {"label": "SGD 5M", "kind": "sgd", "arrays": 3},
]
LR = 1e-6  # small, so that the parameters that are compared do not depend on how often a call was made
DECAY = 0.01


def operands() -> tuple[list[Any], list[Any]]:
    """Parameters and gradients."""
    rng = np.random.default_rng(0)
    return tuple([rng.standard_normal(n, dtype=np.float32) for n in SIZES] for _ in range(2))  # type: ignore[return-value]


class Torch(harness.Torch):
    def environment(self, threads: int) -> dict[str, str]:
        return KEEP_MEMORY

    def prepare(self, case: harness.Case) -> harness.Call:
        torch = self.torch
        params, grads = operands()
        tensors = [torch.from_numpy(p).requires_grad_() for p in params]
        for t, g in zip(tensors, grads, strict=True):
            t.grad = torch.from_numpy(g)
        optimizer = {
            "adam": lambda: torch.optim.Adam(tensors, LR, fused=True),
            "adamw": lambda: torch.optim.AdamW(tensors, LR, weight_decay=DECAY, fused=True),
            "momentum": lambda: torch.optim.SGD(tensors, LR, momentum=0.9, fused=True),
            "sgd": lambda: torch.optim.SGD(tensors, LR, fused=True),
        }[case["kind"]]()
        result = Results(*params)

        def call() -> Any:
            optimizer.step()
            return result

        return call


class Jax(JaxStart):
    def prepare(self, case: harness.Case) -> harness.Call:
        jax, jnp, kind = self.jax, self.jax.numpy, case["kind"]
        params, grads = ([jnp.asarray(a) for a in arrays] for arrays in operands())
        zeros = [jnp.zeros_like(p) for p in params]
        state: list[Any] = [params, zeros, [z + 0 for z in zeros], 0]
        tree = jax.tree_util.tree_map

        def step(p: Any, m: Any, v: Any, g: Any, c1: Any, c2: Any) -> Any:
            if kind == "sgd":
                return tree(lambda p, g: p - LR * g, p, g), m, v
            if kind == "momentum":
                m = tree(lambda m, g: 0.9 * m + g, m, g)
                return tree(lambda p, m: p - LR * m, p, m), m, v
            m = tree(lambda m, g: m + (g - m) * 0.1, m, g)
            v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
            keep = 1 - LR * DECAY if kind == "adamw" else 1.0
            return tree(lambda p, m, v: p * keep - LR / c1 * m / (jnp.sqrt(v) / c2 + 1e-8), p, m, v), m, v

        run = jax.jit(step, donate_argnums=(0, 1, 2))

        def call() -> Any:
            state[3] += 1
            t = state[3]
            state[:3] = run(*state[:3], grads, np.float32(1 - 0.9**t), np.float32((1 - 0.999**t) ** 0.5))
            jax.block_until_ready(state[0])
            return Results(*state[0])

        return call


class Minigrad(harness.Minigrad):
    def start(self, threads: int) -> None:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        self.c = importlib.import_module("minigrad.backends.c")
        self.update = importlib.import_module("minigrad.backends.update")
        self.zeros_together = importlib.import_module("minigrad.optim.base").zeros_together
        self.c.set_num_threads(threads)

    def prepare(self, case: harness.Case) -> harness.Call:
        params, grads = operands()
        kind = case["kind"]
        state = [t.numpy() for t in self.zeros_together(params + params)]  # as optimizers make it
        m, v = state[: len(params)], state[len(params) :]
        update = self.update.Update(
            params, grads, None if kind == "sgd" else m, v if kind.startswith("adam") else None
        )
        result, step = Results(*params), [0]

        def call() -> Any:
            step[0] += 1
            if kind == "sgd":
                update.sgd(LR)
            elif kind == "momentum":
                update.sgd(LR, 0.9, first=step[0] == 1)
            else:
                update.adam(
                    step[0], LR, weight_decay=DECAY if kind == "adamw" else 0.0, decoupled=kind == "adamw"
                )
            return result

        return call


def moved(case: harness.Case) -> float:
    """Bytes that must be read and written."""
    return float(case["arrays"] * 4 * sum(SIZES))


if __name__ == "__main__":
    harness.main(__file__, [Minigrad(), Torch(), Jax()], CASES, moved=moved, tolerance=1e-3)
