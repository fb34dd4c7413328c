"""Losses, norms and reductions: softmax cross-entropy, layer norm, batch norm, sums, softmax.

    python benchmarks/bench_reductions.py              at 1 and 2 threads
    python benchmarks/bench_reductions.py --only norm

"both" is forward and backward: for a given cotangent, the gradients of the input and, for norms, of
weight and bias; the gradient of a mean loss for cross-entropy. minigrad writes into outputs that
exist and begin on a cache line, as a captured program does; the other engines run with an allocator
that keeps its memory.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
from bench_elementwise import KEEP_MEMORY, Results, planned
from bench_elementwise import Jax as JaxStart

CASES: list[harness.Case] = [
    {"label": "cross-entropy both", "kind": "xent", "shape": (4096, 1000)},
    {"label": "layer norm both", "kind": "ln", "shape": (4096, 768)},
    {"label": "batch norm both", "kind": "bn", "shape": (32, 64, 32, 32)},
    {"label": "softmax", "kind": "softmax", "shape": (4096, 1000)},
    {"label": "sum all 16M", "kind": "sum", "shape": (1 << 24,), "axis": 0},
    {"label": "sum rows", "kind": "sum", "shape": (4096, 1000), "axis": 1},
    {"label": "sum columns", "kind": "sum", "shape": (4096, 1000), "axis": 0},
    {"label": "max rows", "kind": "max", "shape": (4096, 1000), "axis": 1},
    {"label": "argmax rows", "kind": "argmax", "shape": (4096, 1000), "axis": 1},
]
EPS = 1e-5


def operands(case: harness.Case) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shape = case["shape"]
    data: dict[str, Any] = {"x": rng.standard_normal(shape, dtype=np.float32)}
    if case["kind"] == "xent":
        data["t"] = rng.integers(0, shape[1], shape[0])
    if case["kind"] in ("ln", "bn"):
        data["g"] = rng.standard_normal(shape, dtype=np.float32)
        data["w"], data["b"] = rng.standard_normal(
            (2, shape[-1 if case["kind"] == "ln" else 1]), dtype=np.float32
        )
    return data


class Numpy(harness.Numpy):
    def environment(self, threads: int) -> dict[str, str]:
        return KEEP_MEMORY

    def skips(self, case: harness.Case) -> bool:
        return case["kind"] in ("ln", "bn")

    def prepare(self, case: harness.Case) -> harness.Call:
        d = operands(case)
        x, rows = d["x"], np.arange(len(d["x"]))
        if case["kind"] == "xent":

            def xent() -> Any:
                e = np.exp(x - x.max(1, keepdims=True))
                e /= e.sum(1, keepdims=True)
                loss = -np.log(e[rows, d["t"]]).mean()
                e[rows, d["t"]] -= 1
                e /= len(x)
                return Results(loss, e)

            return xent
        if case["kind"] == "softmax":

            def softmax() -> Any:
                e = np.exp(x - x.max(1, keepdims=True))
                e /= e.sum(1, keepdims=True)
                return e

            return softmax
        return lambda: getattr(np, case["kind"])(x, axis=case["axis"])


class Torch(harness.Torch):
    def environment(self, threads: int) -> dict[str, str]:
        return KEEP_MEMORY

    def compile(self, function: Any) -> Any:
        return function

    def prepare(self, case: harness.Case) -> harness.Call:
        torch, kind = self.torch, case["kind"]
        d = {name: torch.from_numpy(a) for name, a in operands(case).items()}
        x, F = d["x"], torch.nn.functional
        if kind in ("sum", "max", "argmax", "softmax"):
            f = {
                "sum": lambda x: x.sum(case.get("axis")),
                "max": lambda x: x.amax(case.get("axis")),
                "argmax": lambda x: x.argmax(case.get("axis")),
                "softmax": lambda x: torch.softmax(x, 1),
            }[kind]
            f = self.compile(f)
            return lambda: f(x)
        inputs = [d[n] for n in ("x", "w", "b") if n in d]
        for a in inputs:
            a.requires_grad_()
        forward = {
            "xent": lambda x: F.cross_entropy(x, d["t"]),
            "ln": lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b, EPS),
            "bn": lambda x, w, b: F.batch_norm(x, None, None, w, b, True, 0.1, EPS),
        }[kind]
        f = self.compile(forward)

        def both() -> Any:
            with torch.enable_grad():
                y = f(*inputs)
                gradients = torch.autograd.grad(y, inputs, d.get("g"))
            return Results(y.detach(), *gradients)

        return both


class TorchCompile(Torch):
    name = "torch.compile"

    def compile(self, function: Any) -> Any:
        return self.torch.compile(function)


class Jax(JaxStart):
    def prepare(self, case: harness.Case) -> harness.Call:
        jax, jnp, kind = self.jax, self.jax.numpy, case["kind"]
        d = {name: jnp.asarray(a) for name, a in operands(case).items()}
        x = d["x"]
        if kind in ("sum", "max", "argmax", "softmax"):
            f = jax.jit(
                jax.nn.softmax if kind == "softmax" else lambda x: getattr(jnp, kind)(x, axis=case["axis"])
            )
            return lambda: f(x).block_until_ready()
        if kind == "xent":

            def loss(x: Any) -> Any:
                return -jnp.take_along_axis(jax.nn.log_softmax(x), d["t"][:, None], 1).mean()

            step = jax.jit(jax.value_and_grad(loss))
            return lambda: Results(*jax.block_until_ready(step(x)))
        axes = (1,) if kind == "ln" else (0, 2, 3)
        spread = (1, -1) if kind == "ln" else (1, -1, 1, 1)

        def norm(x: Any, w: Any, b: Any) -> Any:
            c = x - x.mean(axes, keepdims=True)
            r = jax.lax.rsqrt((c * c).mean(axes, keepdims=True) + EPS)
            return c * r * w.reshape(spread) + b.reshape(spread)

        def both(x: Any, w: Any, b: Any, g: Any) -> Any:
            y, pull = jax.vjp(norm, x, w, b)
            return y, *pull(g)

        run = jax.jit(both)
        return lambda: Results(*jax.block_until_ready(run(x, d["w"], d["b"], d["g"])))


class Minigrad(harness.Minigrad):
    def start(self, threads: int) -> None:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        self.c = importlib.import_module("minigrad.backends.c")
        self.reduce = importlib.import_module("minigrad.backends.reduce")
        self.c.set_num_threads(threads)

    def prepare(self, case: harness.Case) -> harness.Call:
        lib, ffi, kind = self.c.lib, self.c.ffi, case["kind"]
        d = operands(case)
        x = d["x"]
        p = {name: ffi.cast("char *", a.ctypes.data) for name, a in d.items()}
        room: dict[str, Any] = {}

        def make(name: str, shape: Any, dtype: Any = np.float32) -> Any:
            room[name] = planned(shape, dtype)
            return ffi.cast("int64_t *" if dtype == np.int64 else "char *", room[name].ctypes.data)

        keep = (d, room)
        if kind in ("sum", "max", "argmax", "softmax"):
            shape = x.shape
            if kind == "softmax":
                out = make("y", shape)
                call = lambda: lib.mg_softmax(0, lib.MG_SOFTMAX, shape[0], shape[1], 1, p["x"], out, ffi.NULL)  # noqa: E731
            else:
                three = self.reduce._three(shape, case["axis"], case["axis"])
                left = tuple(s for i, s in enumerate(shape) if i != case["axis"])
                if kind == "argmax":
                    out = make("y", left, np.int64)
                    call = lambda: lib.mg_arg(0, lib.MG_MAX, *three, p["x"], out)  # noqa: E731
                else:
                    out, op = make("y", left), lib.MG_SUM if kind == "sum" else lib.MG_MAX
                    call = lambda: lib.mg_reduce(0, op, *three, p["x"], out)  # noqa: E731

            def one() -> Any:
                if call():
                    raise MemoryError(keep)
                return room["y"]

            return one
        if kind == "xent":
            rows, n = x.shape
            loss, gx = make("loss", rows), make("gx", x.shape)
            t = ffi.cast("int64_t *", d["t"].ctypes.data)

            def xent() -> Any:
                if lib.mg_cross_entropy(0, rows, n, p["x"], t, -100, loss, 1 / rows, gx):
                    raise MemoryError(keep)
                return Results(room["loss"].mean(), room["gx"])

            return xent
        s = self.reduce._groups(x, (1,) if kind == "ln" else (0, 2, 3), kind == "ln")
        y, gx = make("y", x.shape), make("gx", x.shape)
        mean, rstd = make("mean", s.groups), make("rstd", s.groups)
        gw, gb = make("gw", d["w"].shape), make("gb", d["w"].shape)
        result = Results(*(room[n] for n in ("y", "gx", "gw", "gb")))

        def both() -> Any:
            if lib.mg_standardize(s, p["x"], p["w"], p["b"], EPS, y, mean, rstd) or lib.mg_standardize_grad(
                s, p["g"], p["x"], mean, rstd, p["w"], gx, gw, gb
            ):
                raise MemoryError(keep)
            return result

        return both


def moved(case: harness.Case) -> float:
    """Bytes that must be read and written."""
    passes = {"xent": 2, "ln": 5, "bn": 5, "softmax": 2}.get(case["kind"], 1)
    return float(passes * 4 * np.prod(case["shape"]))


if __name__ == "__main__":
    harness.main(
        __file__, [Minigrad(), Numpy(), Torch(), TorchCompile(), Jax()], CASES, moved=moved, tolerance=2e-3
    )
