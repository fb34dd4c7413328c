"""Matrix multiplication against numpy (OpenBLAS) and torch (MKL): squares, and the shapes of real layers.

    python benchmarks/bench_gemm.py                 float32, at 1 and 2 threads
    python benchmarks/bench_gemm.py --dtype float64
    python benchmarks/bench_gemm.py --eager         through the Python wrapper instead of a prepared call
    python benchmarks/bench_gemm.py --crossover     where the wrapper begins to beat np.matmul
    python benchmarks/bench_gemm.py --ladder        the teaching ladder, step by step

All engines write into an output that exists already. minigrad's call is the one that a captured
program makes: pointers are at hand, one foreign call does the product. `--eager` includes what a
call from Python adds to it.

A layer of `i` inputs and `o` outputs on a batch of `b` is five products: forward with weights
stored (i, o) and with weights stored (o, i) as torch has them; the input's gradient; the weights'
gradient in either layout.
"""

from __future__ import annotations

import argparse
import timeit
from functools import partial
from typing import Any

import _harness as harness
import numpy as np

LAYERS = [
    (32, 100, 64),
    (32, 64, 10),
    (128, 784, 512),
    (128, 512, 256),
    (128, 256, 10),
    (1024, 100, 64),
    (1024, 64, 10),
    (1024, 128, 128),
    (1024, 128, 512),
]


def case(kind: str, m: int, n: int, k: int, dtype: str) -> harness.Case:
    return {"label": f"{kind} {m}x{n}x{k}", "kind": kind, "m": m, "n": n, "k": k, "dtype": dtype}


def all_cases(dtype: str) -> list[harness.Case]:
    squares = [
        case(kind, n, n, n, dtype) for n in (32, 64, 128, 256, 512, 1024, 2048) for kind in ("NN", "NT", "TN")
    ]
    layers = {
        (kind, m, n, k): case(kind, m, n, k, dtype)
        for b, i, o in LAYERS
        for kind, m, n, k in (
            ("NN", b, o, i),
            ("NT", b, o, i),
            ("NT", b, i, o),
            ("TN", i, o, b),
            ("TN", o, i, b),
        )
    }
    return squares + list(layers.values())


def operands(case: harness.Case) -> tuple[Any, Any, Any]:
    """A and B as views of the right shape, and room for C."""
    m, n, k, kind = case["m"], case["n"], case["k"], case["kind"]
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if kind[0] == "T" else (m, k)).astype(case["dtype"])
    b = rng.standard_normal((n, k) if kind[1] == "T" else (k, n)).astype(case["dtype"])
    return a.T if kind[0] == "T" else a, b.T if kind[1] == "T" else b, np.zeros((m, n), case["dtype"])


class Numpy(harness.Numpy):
    def prepare(self, case: harness.Case) -> harness.Call:
        a, b, c = operands(case)
        return lambda: np.matmul(a, b, out=c)


class NumpyAVX512(harness.NumpyAVX512):
    prepare = Numpy.prepare


class Torch(harness.Torch):
    def prepare(self, case: harness.Case) -> harness.Call:
        torch = self.torch
        a, b, c = (torch.from_numpy(x) for x in operands(case))
        return lambda: torch.mm(a, b, out=c)


class Minigrad(harness.Minigrad):
    def prepare(self, case: harness.Case) -> harness.Call:
        a, b, c = operands(case)
        size, kind = a.itemsize, int(case["dtype"] == "float64")
        pa, pb, pc = (self.c.ffi.cast("char *", x.ctypes.data) for x in (a, b, c))
        arguments = (
            kind,
            case["m"],
            case["n"],
            case["k"],
            pa,
            a.strides[0] // size,
            a.strides[1] // size,
            pb,
            b.strides[0] // size,
            b.strides[1] // size,
            pc,
        )
        multiply, keep = self.c.lib.mg_matmul, (a, b)

        def call() -> Any:
            if multiply(*arguments):
                raise MemoryError(keep)
            return c

        return call


class MinigradEager(harness.Minigrad):
    name = "minigrad-eager"

    def prepare(self, case: harness.Case) -> harness.Call:
        a, b, _ = operands(case)
        return lambda: self.c.matmul(a, b)


def crossover() -> None:
    """Time both routes from Python on small squares, one thread."""
    c = harness.c_backend()
    c.set_num_threads(1)
    c.MATMUL_CROSSOVER = 0
    print(f"{'n':>4}{'n^3':>10}{'numpy us':>10}{'C us':>10}")
    for n in (4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128):
        x, y = (np.random.default_rng(i).standard_normal((n, n)).astype(np.float32) for i in (0, 1))
        best = [
            min(timeit.repeat(partial(f, x, y), number=2000, repeat=9)) / 2000 * 1e6
            for f in (np.matmul, c.matmul)
        ]
        print(f"{n:>4}{n**3:>10}{best[0]:>10.2f}{best[1]:>10.2f}{'   <- C' if best[1] < best[0] else ''}")


def ladder(sizes: tuple[int, ...] = (128, 512, 1024)) -> None:
    """Every step of csrc/gemm/ladder and the kernel itself, in GFLOP/s."""
    c = harness.c_backend()
    print(f"{'GFLOP/s at n =':<16}" + "".join(f"{n:>9}" for n in sizes))
    for step in (*c.ladder_steps(), "the kernel"):
        rates = []
        for n in sizes:
            x, y = (np.random.default_rng(i).standard_normal((n, n)).astype(np.float32) for i in (0, 1))
            out = np.empty((n, n), np.float32)
            run = partial(c.matmul, x, y) if step == "the kernel" else partial(c.ladder, step, x, y, out)
            rates.append(2 * n**3 / min(timeit.repeat(run, number=1, repeat=5)) / 1e9)
        print(f"{step:<16}" + "".join(f"{r:>9.1f}" for r in rates), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--crossover", action="store_true")
    parser.add_argument("--ladder", action="store_true")
    options, _ = parser.parse_known_args()
    if options.crossover:
        return crossover()
    if options.ladder:
        return ladder()
    ours = MinigradEager() if options.eager else Minigrad()
    harness.main(
        __file__,
        [ours, Numpy(), NumpyAVX512(), Torch()],
        all_cases(options.dtype),
        parser=parser,
        tolerance=1e-4 if options.dtype == "float32" else 1e-10,
        flops=lambda case: 2.0 * case["m"] * case["n"] * case["k"],
    )


if __name__ == "__main__":
    main()
