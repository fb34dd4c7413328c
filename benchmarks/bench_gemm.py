"""Matrix multiplication against numpy (OpenBLAS) and torch (MKL): squares, and the shapes of real layers.

    python benchmarks/bench_gemm.py                 float32, at 1 and 2 threads
    python benchmarks/bench_gemm.py --dtype float64
    python benchmarks/bench_gemm.py --eager         through the Python wrapper instead of a prepared call
    python benchmarks/bench_gemm.py --crossover     where the wrapper begins to beat np.matmul
    python benchmarks/bench_gemm.py --ladder        the teaching ladder, step by step
    python benchmarks/bench_gemm.py --more          attention, bias and relu, adding to C, a packed B

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


#: With --more. Attention: batch, heads, sequence, width of a head.
MORE: list[harness.Case] = [
    *(
        {"label": f"attention {what} {'x'.join(map(str, shape))}", "more": what, "shape": shape}
        for shape in ((16, 4, 64, 32), (8, 8, 128, 64))
        for what in ("scores", "values")
    ),
    *(
        {"label": f"{what} {m}x{n}x{k}", "more": what, "shape": (m, n, k)}
        for what, m, n, k in (
            ("bias+relu", 128, 512, 784),
            ("bias+relu", 128, 256, 512),
            ("bias+relu", 1024, 64, 100),
            ("add to C", 784, 512, 128),
            ("add to C", 100, 64, 1024),
            ("packed B", 1, 512, 784),
            ("packed B", 32, 512, 784),
            ("packed B", 256, 1024, 1024),
        )
    ),
]
LITTLE = 1e-3  # of the product is added to C, so that many calls do not make it large


def more_operands(case: harness.Case) -> tuple[Any, Any, Any, Any]:
    """A, B, C and a bias. The heads of attention lie side by side in a row, as the projections make them."""
    rng, what, shape = np.random.default_rng(0), case["more"], case["shape"]

    def normal(*dims: int) -> Any:
        return rng.standard_normal(dims, dtype=np.float32)

    if len(shape) == 4:
        b, h, s, d = shape
        if what == "scores":
            q, k = (normal(b, s, h, d).transpose(0, 2, 1, 3) for _ in range(2))
            return q, k.swapaxes(-1, -2), np.zeros((b, h, s, s), np.float32), None
        v, out = normal(b, s, h, d), np.zeros((b, s, h, d), np.float32)
        return normal(b, h, s, s), v.transpose(0, 2, 1, 3), out.transpose(0, 2, 1, 3), None
    m, n, k = shape
    return normal(m, k), normal(k, n), np.zeros((m, n), np.float32), normal(n)


def more_flops(case: harness.Case) -> float:
    a, _, c, _ = more_operands(case)
    return 2.0 * c.size * a.shape[-1]


class Numpy(harness.Numpy):
    def prepare(self, case: harness.Case) -> harness.Call:
        if "more" in case:
            a, b, c, bias = more_operands(case)
            if case["more"] == "add to C":
                return lambda: np.add(c, LITTLE * (a @ b), out=c)
            if case["more"] == "bias+relu":
                return lambda: np.maximum(np.add(np.matmul(a, b, out=c), bias, out=c), 0, out=c)
            return lambda: np.matmul(a, b, out=c)
        a, b, c = operands(case)
        return lambda: np.matmul(a, b, out=c)


class NumpyAVX512(harness.NumpyAVX512):
    prepare = Numpy.prepare


class Torch(harness.Torch):
    def prepare(self, case: harness.Case) -> harness.Call:
        torch = self.torch
        if "more" in case:
            *most, bias = more_operands(case)
            a, b, c = (torch.from_numpy(x) for x in most)
            if case["more"] == "add to C":
                return lambda: c.addmm_(a, b, alpha=LITTLE)
            if case["more"] == "bias+relu":
                bias = torch.from_numpy(bias)
                return lambda: torch.addmm(bias, a, b, out=c).relu_()
            return lambda: torch.matmul(a, b, out=c)
        a, b, c = (torch.from_numpy(x) for x in operands(case))
        return lambda: torch.mm(a, b, out=c)


class Minigrad(harness.Minigrad):
    def more(self, case: harness.Case) -> harness.Call:
        """By the full descriptor, as a captured program fills it."""
        lib, ffi = self.c.lib, self.c.ffi
        a, b, c, bias = more_operands(case)
        pa, pb, pc = (ffi.cast("char *", x.ctypes.data) for x in (a, b, c))
        (m, n), k = c.shape[-2:], a.shape[-1]
        g = ffi.new("struct mg_gemm *", {"m": m, "n": n, "k": k, "alpha": 1.0, "a": pa, "b": pb, "c": pc})
        (g.rsa, g.csa), (g.rsb, g.csb), (g.rsc, g.csc) = ([s // 4 for s in x.strides[-2:]] for x in (a, b, c))
        packed = None
        if case["more"] == "bias+relu":
            g.bias, g.act = ffi.cast("char *", bias.ctypes.data), lib.MG_RELU
        elif case["more"] == "add to C":
            g.alpha, g.beta = LITTLE, 1.0
        elif case["more"] == "packed B":
            packed = np.zeros(lib.mg_gemm_pack_bytes(0, k, n) + 64, np.uint8)
            start = packed.ctypes.data + -packed.ctypes.data % 64
            g.b, g.packed_b = ffi.cast("char *", start), 1
            if lib.mg_gemm_pack_b(0, k, n, pb, n, 1, g.b):
                raise MemoryError
        g.batch_rank = c.ndim - 2
        for d in range(c.ndim - 2):
            g.batch[d], g.batch_a[d] = c.shape[d], a.strides[d] // 4
            g.batch_b[d], g.batch_c[d] = b.strides[d] // 4, c.strides[d] // 4
        multiply, keep = lib.mg_gemm, (a, b, bias, packed)

        def call() -> Any:
            if multiply(g):
                raise MemoryError(keep)
            return c

        return call

    def prepare(self, case: harness.Case) -> harness.Call:
        if "more" in case:
            return self.more(case)
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
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--crossover", action="store_true")
    parser.add_argument("--ladder", action="store_true")
    parser.add_argument("--more", action="store_true")
    options = harness.early(parser)
    if options.crossover or options.ladder:
        harness.alone(parser)
        print(harness.header())
        return crossover() if options.crossover else ladder()
    ours = MinigradEager() if options.eager else Minigrad()
    harness.main(
        __file__,
        [ours, Numpy(), NumpyAVX512(), Torch()],
        MORE if options.more else all_cases(options.dtype),
        parser=parser,
        tolerance=1e-4 if options.dtype == "float32" else 1e-10,
        flops=more_flops if options.more else lambda case: 2.0 * case["m"] * case["n"] * case["k"],
    )


if __name__ == "__main__":
    main()
