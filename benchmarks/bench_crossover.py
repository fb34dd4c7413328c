"""From how many elements on compiled kernels beat numpy, to set `CROSSOVER` in backends/elementwise.py and
`SMALL` in backends/numba.py by.

    python benchmarks/bench_crossover.py                  every family of the C kernels, on one thread
    python benchmarks/bench_crossover.py --family softmax
    python benchmarks/bench_crossover.py --backend numba  those of the Numba kernels

For every operation of a family, numpy's kernel (the record's own) and the other run in turn on arrays
of growing size, called as eager code calls them. Printed is numpy's time divided by the other's, and the
first size from which on that is never slower by more than a twentieth. The crossover of a family belongs
near the median of its operations. A size counts elements, of a product of matrices multiply-adds.
"""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import _harness as harness
import numpy as np

import minigrad as mg
from minigrad.backends import _make_c
from minigrad.backends.elementwise import CROSSOVER
from minigrad.ops import OPS

SIZES = [16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536, 262144, 1 << 20]
WIDTH = 64  # of the rows that are reduced, where there are so many elements

Arguments = Callable[[Any, int], tuple[Any, ...]]


def vectors(count: int) -> Arguments:
    return lambda rng, n: tuple(rng.uniform(0.1, 1, n).astype(np.float32) for _ in range(count))


def rows(*attrs: Any) -> Arguments:
    """A matrix whose rows have WIDTH elements, and attributes."""
    return lambda rng, n: (
        rng.standard_normal((max(1, n // WIDTH), min(n, WIDTH)), dtype=np.float32),
        *attrs,
    )


def labelled(gradient: bool) -> Arguments:
    def make(rng: Any, n: int) -> tuple[Any, ...]:
        (x,) = rows()(rng, n)
        labels = rng.integers(0, x.shape[1], len(x))
        return (np.ones(len(x), np.float32), x, labels) if gradient else (x, labels)

    return make


def picked(rng: Any, n: int) -> tuple[Any, ...]:
    (x,) = rows()(rng, n)
    return x, rng.integers(0, len(x), len(x)), 0


def squares(rng: Any, n: int) -> tuple[Any, ...]:
    side = max(1, round(n ** (1 / 3)))
    return (*rng.standard_normal((2, side, side), dtype=np.float32), False, False)


FAMILIES: dict[str, dict[str, Arguments]] = {
    "arithmetic": {"add": vectors(2), "mul": vectors(2), "neg": vectors(1), "maximum": vectors(2)},
    "function": {"tanh": vectors(1), "log": vectors(1), "sin": vectors(1), "log1p": vectors(1)},
    "exp": {"exp": vectors(1)},
    "composed": {"relu": vectors(1), "reciprocal": vectors(1), "rsqrt": vectors(1)},
    "formula": {"sigmoid": vectors(1), "silu": vectors(1), "gelu_tanh": vectors(1)},
    "erf": {"gelu": vectors(1)},
    "sum": {
        "sum": rows((1,), False),
        "sum ": rows((0,), False),
        "sum  ": rows((0, 1), False),
        "mean": rows((1,), False),
        "sum_to": rows((WIDTH,)),
    },
    "extreme": {"amax": rows((1,), False), "amin": rows((0,), False)},
    "position": {"argmax": rows(1, False), "argmin": rows(0, False)},
    "softmax": {"softmax": rows(1), "log_softmax": rows(1), "logsumexp": rows((1,), False)},
    "cross_entropy": {"softmax_cross_entropy": labelled(False), "softmax_cross_entropy_grad": labelled(True)},
    "standardize": {
        "standardize": rows((1,), 1e-5),
        "standardize ": rows((0,), 1e-5),
        "rstd": rows((1,), 1e-5),
    },
    "rows": {"index_select": picked},
}
#: The families of the Numba kernels: those with one number in SMALL, together.
NUMBA: dict[str, dict[str, Arguments]] = {
    "elementwise": {
        name: arguments
        for family in ("arithmetic", "function", "exp", "composed", "formula")
        for name, arguments in FAMILIES[family].items()
    },
    "reduction": {
        name: arguments
        for family in ("sum", "extreme", "softmax", "standardize")
        for name, arguments in FAMILIES[family].items()
        if name != "sum_to"
    },
    "contraction": {"matmul": squares},
}


def seconds(call: Callable[[], Any], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count


def ratios(make: Any, name: str, arguments: Arguments, rounds: int) -> list[float]:
    """numpy's time over the other's at each size; NaN where the operation has no such size."""
    op = OPS[name.strip()]
    kernel = make(op)
    assert kernel is not None, name
    found = []
    for n in SIZES:
        args = arguments(np.random.default_rng(n), n)
        if name.strip() == "sum_to" and args[0].shape[1] != WIDTH:
            found.append(math.nan)
            continue
        np.testing.assert_allclose(kernel(*args), op.kernel(*args), rtol=1e-3, atol=1e-4)
        count = max(2, min(400, 400_000 // n))
        numpy_times, times = [], []
        for _ in range(rounds):
            numpy_times.append(seconds(partial(op.kernel, *args), count))
            times.append(seconds(partial(kernel, *args), count))
        found.append(min(numpy_times) / min(times))
    return found


def crossing(found: list[float]) -> float:
    """The first size from which on no ratio is below 0.95."""
    size = math.inf
    for n, ratio in zip(reversed(SIZES), reversed(found), strict=True):
        if ratio < 0.95:
            break
        if ratio == ratio:
            size = n
    return size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=[*FAMILIES, *NUMBA], default=None)
    parser.add_argument("--backend", choices=["c", "numba"], default="c")
    parser.add_argument("--rounds", type=harness.positive, default=5)
    options = parser.parse_args()
    if options.family not in (None, *(FAMILIES if options.backend == "c" else NUMBA)):
        parser.error(f"the {options.backend} backend has no family {options.family}")
    print(harness.header())
    mg.set_num_threads(1)
    make, limits, families = _make_c, CROSSOVER, FAMILIES
    if options.backend == "numba":
        kernels = importlib.import_module("minigrad.backends.numba")
        kernels.set_num_threads(1)
        make, limits, families = kernels.make, kernels.SMALL, NUMBA
    chosen = dict(limits)
    limits.update(dict.fromkeys(limits, 0))
    print(f"{'numpy / ' + options.backend:<28}" + "".join(f"{n:>8}" for n in SIZES) + f"{'from':>9}")
    for family, operations in families.items():
        if options.family not in (None, family):
            continue
        sizes = []
        for name, arguments in operations.items():
            found = ratios(make, name, arguments, options.rounds)
            sizes.append(crossing(found))
            print(f"{name:<28}" + "".join(f"{r:>8.2f}" for r in found) + f"{sizes[-1]:>9}", flush=True)
        print(f"{family}: median {statistics.median_low(sizes)}; set to {chosen[family]}\n")


if __name__ == "__main__":
    main()
