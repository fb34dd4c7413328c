"""The Numba backend against our C kernels and numpy: products, convolutions, elementwise, reductions.

    python benchmarks/bench_numba.py [--threads 1 2] [--only conv] [--json FILE]

Every engine is a backend of minigrad and gets the same arrays; outputs are allocated by all of them.
C is left out where it has no kernel (numpy would be measured twice). The ratio is the best other
engine's time over Numba's: above 1 Numba is faster. Compiling is not part of any time.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

if importlib.util.find_spec("minigrad") is None:
    sys.path.insert(0, str(Path(__file__).parent.parent))

SAME = ((1, 1), (1, 1, 1, 1), (1, 1))
CHAIN = "0.5 * (x * w + b) * (1.0 + erf((x * w + b) * 0.7071067811865476)) + x"


def case(label: str, op: str, shapes: list[tuple[int, ...]], attrs: Any = (), **more: Any) -> harness.Case:
    return {"label": label, "op": op, "shapes": shapes, "attrs": attrs, **more}


def products() -> list[harness.Case]:
    return [
        case(
            f"matmul {n} {kind}",
            "matmul",
            [(n, n), (n, n)],
            (kind[0] == "T", kind[1] == "T"),
            flops=2.0 * n**3,
        )
        for n in (128, 256, 512, 1024)
        for kind in ("NN", "NT", "TN")
    ]


def convolutions() -> list[harness.Case]:
    layers: list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[Any, ...]]] = [
        ("3x3 64", (16, 64, 32, 32), (64, 64, 3, 3), (*SAME, 1)),
        ("3x3 256", (16, 256, 14, 14), (256, 256, 3, 3), (*SAME, 1)),
        ("3x3 1-32", (64, 1, 28, 28), (32, 1, 3, 3), (*SAME, 1)),
        ("7x7/2", (4, 3, 112, 112), (64, 3, 7, 7), ((2, 2), (3, 3, 3, 3), (1, 1), 1)),
        ("1x1 64", (16, 64, 32, 32), (64, 64, 1, 1), ((1, 1), (0, 0, 0, 0), (1, 1), 1)),
        ("depthwise", (16, 64, 32, 32), (64, 1, 3, 3), (*SAME, 64)),
    ]
    cases = []
    for name, x, w, attrs in layers:
        (sh, sw), (top, bottom, left, right) = attrs[:2]
        places = (x[2] + top + bottom - w[2]) // sh + 1, (x[3] + left + right - w[3]) // sw + 1
        g = (x[0], w[0], *places)
        work = 2.0 * math.prod(g) * math.prod(w[1:])
        cases += [
            case(f"conv {name}", "conv2d", [x, w], attrs, flops=work),
            case(f"conv {name} gx", "conv2d_input_grad", [g, w], (x[2:], *attrs), flops=work),
            case(f"conv {name} gw", "conv2d_weight_grad", [x, g], (w[2:], *attrs), flops=work),
        ]
    return cases


def elementwise() -> list[harness.Case]:
    n = 1 << 20
    return [
        case("gelu(x*w+b)+x 1M", "chain", [(n,)] * 3),
        case("gelu(x*w+b)+x 16M", "chain", [(16 * n,)] * 3),
        case("gelu(x*w+b)+x rows", "chain", [(4096, 256), (256,), (256,)]),
        *(case(f"{op} 1M", op, [(n,)]) for op in ("exp", "tanh", "sigmoid", "gelu", "relu")),
        case("mul 1M", "mul", [(n,), (n,)]),
        case("add row 1M", "add", [(4096, 256), (256,)]),
    ]


def reductions() -> list[harness.Case]:
    x, images = (4096, 1000), (32, 64, 32, 32)
    return [
        case("sum rows", "sum", [x], ((1,), False)),
        case("sum columns", "sum", [x], ((0,), False)),
        case("sum all", "sum", [x], ((0, 1), False)),
        case("amax rows", "amax", [x], ((1,), False)),
        case("softmax rows", "softmax", [x], (1,)),
        case("log_softmax rows", "log_softmax", [x], (1,)),
        case("logsumexp rows", "logsumexp", [x], ((1,), False)),
        case("layer norm", "standardize", [(4096, 768)], ((1,), 1e-5)),
        case("batch norm", "standardize", [images], ((0, 2, 3), 1e-5)),
    ]


def operands(case: harness.Case) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in case["shapes"]]


def frozen(value: Any) -> Any:
    """Attributes are tuples, which a message in JSON turned into lists."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


class OnBackend(harness.Engine):
    """minigrad's operation, called with arrays, on one backend."""

    def start(self, threads: int) -> None:
        from minigrad import ops
        from minigrad.backends import get_backend, set_num_threads
        from minigrad.errors import Error

        self.ops = ops.OPS
        try:
            self.backend = get_backend(self.name)
        except Error as error:
            raise ImportError(str(error)) from None
        set_num_threads(threads)

    def prepare(self, case: harness.Case) -> harness.Call:
        arrays, attrs = operands(case), frozen(case["attrs"])
        kernel = self.chain() if case["op"] == "chain" else self.backend[self.ops[case["op"]]]
        return lambda: kernel(*arrays, *attrs)

    def chain(self) -> Any:
        from minigrad.formula import Formula

        return Formula(CHAIN).numpy(("x", "w", "b"))


class Numba(OnBackend):
    name = "numba"

    def start(self, threads: int) -> None:
        super().start(threads)
        if self.ours:
            self.c = harness.c_backend()
            self.c.set_num_threads(threads)

    def chain(self) -> Any:
        from minigrad.formula import Formula

        made = sys.modules["minigrad.backends.numba"]
        return made.Elementwise(Formula(CHAIN), ("x", "w", "b"))


class C(OnBackend):
    name = "c"

    def skips(self, case: harness.Case) -> bool:
        op = self.ops.get(case["op"])
        return op is None or self.backend[op] is op.kernel


class Numpy(OnBackend):
    name = "numpy"


def main() -> None:
    numba = Numba()
    try:
        harness.c_backend()
        numba.ours = True  # then it also measures the machine's limits, with our kernels
    except ImportError:
        numba.ours = False
    harness.main(
        __file__,
        [numba, C(), Numpy()],
        [*products(), *convolutions(), *elementwise(), *reductions()],
        tolerance=1e-3,
        flops=lambda case: case.get("flops", math.nan),
    )


if __name__ == "__main__":
    main()
