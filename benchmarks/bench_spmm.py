"""Sparse times dense, the core of a graph network: a graph of the size of Cora, and 100k nodes with 1M edges.

    python benchmarks/bench_spmm.py                    at 1 and 2 threads

The transposed product is the one of the backward pass; every engine may store the transposed matrix
beforehand. scipy has one thread.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
from bench_elementwise import KEEP_MEMORY

GRAPHS = {"cora": (2708, 13264), "100k": (100_000, 1_000_000)}
CASES: list[harness.Case] = [
    {
        "label": f"{graph} {features}{' transposed' if t else ''}",
        "graph": graph,
        "features": features,
        "transposed": t,
    }
    for graph in GRAPHS
    for t in (False, True)
    for features in (16, 64, 128)
]


def operands(case: harness.Case) -> tuple[Any, Any, Any, Any]:
    """starts, index and values of a random graph with a few heavy nodes; and the dense matrix."""
    nodes, edges = GRAPHS[case["graph"]]
    rng = np.random.default_rng(0)
    rows = np.sort((rng.random(edges) ** 1.5 * nodes).astype(np.int64))
    starts = np.searchsorted(rows, np.arange(nodes + 1)).astype(np.int32)
    index = rng.integers(0, nodes, edges, dtype=np.int32)
    values = rng.random(edges, dtype=np.float32)
    return starts, index, values, rng.standard_normal((nodes, case["features"]), dtype=np.float32)


class Scipy(harness.Engine):
    name = "scipy"

    def environment(self, threads: int) -> dict[str, str]:
        return KEEP_MEMORY

    def start(self, threads: int) -> None:
        self.sparse = importlib.import_module("scipy.sparse")

    def prepare(self, case: harness.Case) -> harness.Call:
        starts, index, values, x = operands(case)
        a = self.sparse.csr_matrix((values, index, starts), shape=(len(x), len(x)))
        if case["transposed"]:
            a = a.T.tocsr()
        return lambda: a @ x


class Torch(harness.Torch):
    def environment(self, threads: int) -> dict[str, str]:
        return KEEP_MEMORY

    def prepare(self, case: harness.Case) -> harness.Call:
        torch = self.torch
        warnings.simplefilter("ignore")
        starts, index, values, x = (torch.from_numpy(a) for a in operands(case))
        a = torch.sparse_csr_tensor(starts, index, values, (len(x), len(x)))
        if case["transposed"]:
            a = a.to_sparse_coo().t().coalesce().to_sparse_csr()
        return lambda: a @ x


class Minigrad(harness.Minigrad):
    def start(self, threads: int) -> None:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        self.c = importlib.import_module("minigrad.backends.c")
        self.sparse = importlib.import_module("minigrad.backends.sparse")
        self.pattern = importlib.import_module("minigrad.backends.pattern")
        self.c.set_num_threads(threads)

    def prepare(self, case: harness.Case) -> harness.Call:
        starts, index, values, x = operands(case)
        a = self.pattern.Pattern(starts, index, len(x))
        if case["transposed"]:
            a, values = a.T, values[a.order]
        out = np.zeros((a.shape[0], x.shape[1]), np.float32)
        return lambda: self.sparse.product(values, x, a, out=out)


def flops(case: harness.Case) -> float:
    return 2.0 * GRAPHS[case["graph"]][1] * case["features"]


if __name__ == "__main__":
    harness.main(__file__, [Minigrad(), Scipy(), Torch()], CASES, flops=flops)
