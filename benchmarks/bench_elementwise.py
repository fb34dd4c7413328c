"""Elementwise work in one pass: gelu(x * w + b) + x, forward, and forward with all gradients.

    python benchmarks/bench_elementwise.py                1M and 16M floats, at 1 and 2 threads
    python benchmarks/bench_elementwise.py --functions    exp, log, tanh, ... beside numpy and torch

x is (rows, 1024); w and b are rows that are broadcast. The gradient case computes y and, for a
given cotangent of y, the gradients of x, w and b. minigrad writes into outputs that exist and
begin on a cache line, as a captured program does; the other engines run with an allocator that keeps
its memory, so that none
of them pays for page faults (`KEEP_MEMORY`).
"""

from __future__ import annotations

import argparse
import importlib
import sys
import timeit
from functools import partial
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

WIDTH = 1024
C1, C2 = 0.7978845608028654, 0.044715

KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "68719476736",
    "MALLOC_TOP_PAD_": "268435456",
}


def cases() -> list[harness.Case]:
    return [
        {"label": f"gelu {name} {n >> 20}M", "backward": backward, "n": n}
        for backward, name in ((False, "forward"), (True, "both"))
        for n in (1 << 20, 1 << 24)
    ]


def operands(case: harness.Case) -> list[Any]:
    """x, w, b and the cotangent of y."""
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((case["n"] // WIDTH, WIDTH), dtype=np.float32) for _ in range(2))
    return [x, *rng.standard_normal((2, WIDTH), dtype=np.float32), g]


def planned(shape: Any, dtype: Any = np.float32) -> Any:
    """Zeros that begin on a cache line, as every value in the arena of a captured program does.

    `np.empty` asks for huge pages from 4 MB on, as the arena does; `np.zeros` would not.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    memory.fill(0)
    start = -memory.__array_interface__["data"][0] % 64
    return memory[start : start + size].view(dtype).reshape(shape)


class Results:
    """Several arrays, compared as one."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = arrays

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        parts = [np.asarray(a, np.float64).ravel() for a in self.arrays]
        return np.concatenate([p / np.sqrt(p.size) for p in parts])


def gelu(m: Any, x: Any, w: Any, b: Any) -> Any:
    """The formula, with `m.tanh`."""
    u = x * w + b
    return 0.5 * u * (1.0 + m.tanh(C1 * (u + C2 * u * u * u))) + x


def derivative(m: Any, u: Any) -> Any:
    t = m.tanh(C1 * (u + C2 * u * u * u))
    return 0.5 * (1.0 + t) + 0.5 * u * (1.0 - t * t) * C1 * (1.0 + 3.0 * C2 * u * u)


class Numpy(harness.Numpy):
    def environment(self, threads: int) -> dict[str, str]:
        return KEEP_MEMORY

    def skips(self, case: harness.Case) -> bool:
        return bool(case["n"] > 1 << 20)

    def prepare(self, case: harness.Case) -> harness.Call:
        x, w, b, g = operands(case)
        if not case["backward"]:
            return lambda: gelu(np, x, w, b)

        def both() -> Any:
            d = derivative(np, x * w + b) * g
            return Results(gelu(np, x, w, b), d * w + g, (d * x).sum(0), d.sum(0))

        return both


class Numexpr(harness.Engine):
    name = "numexpr"

    def start(self, threads: int) -> None:
        self.numexpr = importlib.import_module("numexpr")
        self.numexpr.set_num_threads(threads)

    def skips(self, case: harness.Case) -> bool:
        return bool(case["backward"])

    def prepare(self, case: harness.Case) -> harness.Call:
        x, w, b, _ = operands(case)
        half, one, c1, c2 = np.array([0.5, 1.0, C1, C2], np.float32)  # float literals would make it float64
        names = {"x": x, "w": w, "b": b, "half": half, "one": one, "c1": c1, "c2": c2}
        u, out = "(x * w + b)", np.zeros_like(x)
        text = f"half * {u} * (one + tanh(c1 * ({u} + c2 * {u} * {u} * {u}))) + x"
        return lambda: self.numexpr.evaluate(text, names, out=out)


class Numba(harness.Engine):
    name = "numba"

    def start(self, threads: int) -> None:
        self.numba = importlib.import_module("numba")
        self.numba.set_num_threads(threads)

    def skips(self, case: harness.Case) -> bool:
        return bool(case["backward"])

    def prepare(self, case: harness.Case) -> harness.Call:
        x, w, b, _ = operands(case)
        out = np.zeros_like(x)
        f = np.float32
        half, one, c1, c2 = f(0.5), f(1.0), f(C1), f(C2)
        prange = self.numba.prange

        @self.numba.njit(parallel=True, fastmath=True)  # type: ignore[untyped-decorator]
        def run(x: Any, w: Any, b: Any, out: Any) -> None:
            for i in prange(x.shape[0]):
                for j in range(x.shape[1]):
                    u = x[i, j] * w[j] + b[j]
                    out[i, j] = half * u * (one + np.tanh(c1 * (u + c2 * u * u * u))) + x[i, j]

        def call() -> Any:
            run(x, w, b, out)
            return out

        return call


class Torch(harness.Torch):
    def environment(self, threads: int) -> dict[str, str]:
        return KEEP_MEMORY

    def compile(self, function: Any) -> Any:
        return function

    def prepare(self, case: harness.Case) -> harness.Call:
        torch = self.torch
        x, w, b, g = (torch.from_numpy(a) for a in operands(case))
        f = self.compile(lambda x, w, b: torch.nn.functional.gelu(x * w + b, approximate="tanh") + x)
        if not case["backward"]:
            return lambda: f(x, w, b)
        for t in (x, w, b):
            t.requires_grad_()

        def both() -> Any:
            with torch.enable_grad():
                y = f(x, w, b)
                gradients = torch.autograd.grad(y, (x, w, b), g)
            return Results(y.detach(), *gradients)

        return both


class TorchCompile(Torch):
    name = "torch.compile"

    def compile(self, function: Any) -> Any:
        return self.torch.compile(function)


class Jax(harness.Engine):
    name = "jax"

    def environment(self, threads: int) -> dict[str, str]:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" if threads == 1 else ""
        return {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | KEEP_MEMORY

    def start(self, threads: int) -> None:
        import os

        if (
            hasattr(os, "sched_setaffinity") and threads == 1
        ):  # jax takes as many threads as there are processors
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
        self.jax = importlib.import_module("jax")

    def prepare(self, case: harness.Case) -> harness.Call:
        jax, jnp = self.jax, self.jax.numpy
        data = [jnp.asarray(a) for a in operands(case)]

        def f(x: Any, w: Any, b: Any) -> Any:
            return jax.nn.gelu(x * w + b, approximate=True) + x

        def both(x: Any, w: Any, b: Any, g: Any) -> Any:
            y, pull = jax.vjp(f, x, w, b)
            return y, *pull(g)

        if not case["backward"]:
            forward = jax.jit(f)
            return lambda: forward(*data[:3]).block_until_ready()
        step = jax.jit(both)
        return lambda: Results(*jax.block_until_ready(step(*data)))


class Minigrad(harness.Minigrad):
    def start(self, threads: int) -> None:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        backends = importlib.import_module("minigrad.backends")
        self.c, self.tile = backends._c, importlib.import_module("minigrad.backends.tile")
        self.c.set_num_threads(threads)

    def prepare(self, case: harness.Case) -> harness.Call:
        x, w, b, g = operands(case)
        program = forward_program(self.tile) if not case["backward"] else both_program(self.tile)
        arrays = [x, w, b] + ([g] if case["backward"] else [])
        out = [planned(a.shape) for a in ([x, x, w, b] if case["backward"] else [x])]
        run = program.bind(*arrays, out=out)
        result = Results(*out) if case["backward"] else out[0]

        def call() -> Any:
            run()
            return result

        return call


def forward_program(tile: Any) -> Any:
    u = "(x * w + b)"
    formula = tile.Formula(f"0.5 * {u} * (1.0 + tanh({C1} * ({u} + {C2} * ({u} * {u} * {u})))) + x")
    return tile.compile_formula(formula, np.float32, ("x", "w", "b"))


def both_program(tile: Any) -> Any:
    """y = u s + x, u = x w + b, s = sigmoid(z), z = 2 c1 (u + c2 u^3): gelu with its tanh written as a
    logistic function, which forward and backward share. dy/du = s + s (1 - s) u dz/du.

    The library's rule of gelu is written alike.
    """
    p = tile.Program(np.float32, 4)
    x, w, b, g = p.inputs
    u = p.step("ADD", p.step("MUL", x, w), b)
    square = p.step("SQUARE", u)
    s = p.step("SIGMOID", p.step("MUL", u, p.step("ADD", p.step("MUL", square, 2 * C1 * C2), 2 * C1)))
    rise = p.step("MUL", u, p.step("ADD", p.step("MUL", square, 6 * C1 * C2), 2 * C1))
    rise = p.step("MIN", p.step("MAX", rise, -(2.0**20)), 2.0**20)
    bell = p.step("MUL", s, p.step("SUB", 1.0, s))
    d = p.step("MUL", p.step("ADD", p.step("MUL", bell, rise), s), g)
    return p.build(
        p.step("ADD", p.step("MUL", u, s), x),
        p.step("ADD", p.step("MUL", d, w), g),
        p.step("MUL", d, x),
        d,
        sums={2: 1, 3: 1},
    )


def moved(case: harness.Case) -> float:
    """Bytes that must be read and written."""
    return float(case["n"] * 4 * (4 if case["backward"] else 2))


FUNCTIONS = ["exp", "expm1", "log", "log1p", "tanh", "erf", "sin", "cos", "sqrt", "rint", "abs"]


def functions() -> None:
    """Nanoseconds per float on one thread, 16k floats in cache; and the error in ulp that the tests allow."""
    backends = importlib.import_module("minigrad.backends")
    tile = importlib.import_module("minigrad.backends.tile")
    backends._c.set_num_threads(1)
    try:
        torch = importlib.import_module("torch")
        torch.set_num_threads(1)
    except ImportError:
        torch = None
    x = np.random.default_rng(0).uniform(0.1, 3.0, 16384).astype(np.float32)
    out = np.zeros_like(x)
    print(f"{'ns per float':<14}{'minigrad':>10}{'numpy':>10}{'torch':>10}")
    for name in FUNCTIONS:
        calls = [tile.compile_formula(tile.Formula(f"{name}(x)"), np.float32).bind(x, out=[out])]
        calls.append(partial(getattr(np, name), x, out=out) if hasattr(np, name) else None)
        t = None if torch is None else torch.from_numpy(x)
        calls.append(
            partial({"rint": torch.round}.get(name) or getattr(torch, name), t, out=torch.from_numpy(out))
            if torch
            else None
        )
        times = [
            min(timeit.repeat(c, number=100, repeat=9)) / 100 / x.size * 1e9 if c else float("nan")
            for c in calls
        ]
        print(f"{name:<14}" + "".join(f"{t:>10.3f}" for t in times))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False
    )
    parser.add_argument("--functions", action="store_true", help="single functions, nanoseconds an element")
    if harness.early(parser).functions:
        harness.alone(parser)
        print(harness.header())
        sys.path.insert(0, str(Path(__file__).parent.parent))
        functions()
    else:
        engines = [Minigrad(), Numpy(), Torch(), TorchCompile(), Jax(), Numexpr(), Numba()]
        harness.main(__file__, engines, cases(), moved=moved, tolerance=1e-3, parser=parser)
