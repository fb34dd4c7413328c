"""Graph networks: training steps of a GCN, and batches of sampled neighbourhoods.

    python benchmarks/bench_gnn.py                       as large as Cora, 100k nodes, sampling
    python benchmarks/bench_gnn.py --only cora --threads 1
    python benchmarks/bench_gnn.py --only 100k --engine minigrad torch       two engines at a time
    python benchmarks/bench_gnn.py --only 100k --memory  what each process holds, at most
    python benchmarks/bench_gnn.py --data cora.npz       the real Cora (see data.load_graph)

A step is forward, backward and Adam, full batch, without dropout so that all engines compute the same;
they start from the same weights, and their losses after five steps are compared. `cora`: 2,708 nodes with
sparse features, 16 hidden units, 7 classes; `100k`: 100,000 nodes, 1,000,000 edges, 128-64-16, dense
features. Every engine has the normalised matrix made beforehand and, where it can use it, the transposed
one. scipy and torch are written by hand (scipy: with the derivatives, too), PyG is its GCNConv with
`cached=True`.

`sample`: one pass over 8 batches of 1,024 nodes with [10, 10] neighbours in the large graph, features
gathered. Engines draw differently, so only the numbers of features are compared. scipy is numpy by hand
there; PyG's loader needs pyg-lib or torch-sparse.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import itertools
import sys
import warnings
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
from bench_elementwise import KEEP_MEMORY

CASES: list[harness.Case] = [{"label": "cora"}, {"label": "100k"}, {"label": "sample"}]
LR, DECAY = 0.01, 5e-4
STEPS = 5
KEEP = {} if "--memory" in sys.argv else KEEP_MEMORY  # what is measured of memory is what anybody gets
BATCH, BATCHES, FANOUTS = 1024, 8, [10, 10]


def _option(name: str) -> str | None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(name)
    found: str | None = vars(parser.parse_known_args()[0])[name.lstrip("-")]
    return found


@functools.cache
def problem(label: str) -> dict[str, Any]:
    """Arrays of a case: features (dense, or indptr, indices, data), edges both ways, labels, weights."""
    rng = np.random.default_rng(0)
    path = _option("--data")
    if label == "cora" and path:
        with np.load(path) as stored:
            a = {k: stored[k] for k in stored.files}
        edges, labels = a["edge_index"].astype(np.int64), a["y"]
        x = (a["x_indptr"], a["x_indices"], a["x_data"])
        n, sizes, train = len(labels), (int(a["x_shape"][1]), 16, 7), a["train"]
    elif label == "cora":
        n, sizes, train = 2708, (1433, 16, 7), np.arange(140)
        pairs = rng.integers(0, n, (2, 5278))
        edges = np.concatenate([pairs, pairs[::-1]], 1)
        indices = np.sort(rng.integers(0, 1433, (n, 18)), 1).astype(np.int32)
        x = (
            np.arange(0, 18 * n + 1, 18, dtype=np.int32),
            indices.ravel(),
            np.full(18 * n, 1 / 18, np.float32),
        )
        labels = rng.integers(0, 7, n)
    else:
        n, sizes, train = 100_000, (128, 64, 16), np.arange(100_000)
        pairs = np.stack([(rng.random(500_000) ** 1.5 * n).astype(np.int64), rng.integers(0, n, 500_000)])
        edges = np.concatenate([pairs, pairs[::-1]], 1)
        x = rng.standard_normal((n, 128), dtype=np.float32)
        labels = rng.integers(0, 16, n)
    edges = edges[:, edges[0] != edges[1]]
    weights = [
        (rng.uniform(-1, 1, (a, b)) * (6 / (a + b)) ** 0.5).astype(np.float32)
        for a, b in itertools.pairwise(sizes)
    ]
    return {
        "n": n,
        "edges": edges,
        "x": x,
        "labels": labels,
        "train": train,
        "weights": weights,
        "sizes": sizes,
    }


def normalised(p: dict[str, Any]) -> tuple[Any, Any, Any]:
    """indptr, indices, values of D^-1/2 (A + I) D^-1/2."""
    n = p["n"]
    loops = np.arange(n)
    source, target = (np.concatenate([e, loops]) for e in p["edges"])
    order = np.argsort(target, kind="stable")
    source, target = source[order], target[order]
    root = np.bincount(target, minlength=n) ** -0.5
    starts = np.searchsorted(target, np.arange(n + 1))
    return starts.astype(np.int32), source.astype(np.int32), (root[source] * root[target]).astype(np.float32)


class Scipy(harness.Engine):
    """By hand: sparse products by scipy, the rest in numpy, everything in place that can be."""

    name = "scipy"

    def environment(self, threads: int) -> dict[str, str]:
        return KEEP

    def start(self, threads: int) -> None:
        self.sparse = importlib.import_module("scipy.sparse")

    def sampling(self, p: dict[str, Any]) -> harness.Call:
        """Neighbours without replacement: those with the smallest of random keys, of each node."""
        n, x = p["n"], p["x"]
        order = np.argsort(p["edges"][1], kind="stable")
        sources = p["edges"][0][order]
        starts = np.concatenate([[0], np.cumsum(np.bincount(p["edges"][1], minlength=n))])
        rng, place = np.random.default_rng(0), np.full(n, -1)

        def batch(seeds: Any) -> Any:
            nodes, new, edges = [seeds], seeds, []
            place[seeds] = np.arange(len(seeds))
            count = len(seeds)
            for fanout in FANOUTS:
                degree = starts[new + 1] - starts[new]
                ends = np.cumsum(degree)
                owner = np.repeat(np.arange(len(new)), degree)
                rank = np.arange(ends[-1]) - np.repeat(ends - degree, degree)
                found = starts[new][owner] + rank
                mixed = np.argsort(owner + rng.random(len(owner)))
                kept = mixed[rank < fanout]  # sorted by owner, so that ranks are those of the keys
                found, owner = found[kept], owner[kept]
                neighbours = sources[found]
                fresh = np.unique(neighbours[place[neighbours] < 0])
                place[fresh] = np.arange(count, count + len(fresh))
                count += len(fresh)
                edges.append(np.stack([place[neighbours], place[new][owner]]))
                nodes.append(fresh)
                new = fresh
            ids = np.concatenate(nodes)
            place[ids] = -1
            return np.concatenate(edges, 1), x[ids]

        return lambda: np.array(
            [batch(np.arange(i, i + BATCH))[1].shape[1] for i in range(0, BATCH * BATCHES, BATCH)]
        )

    def prepare(self, case: harness.Case) -> harness.Call:
        p = problem(case["label"])
        if case["label"] == "sample":
            return self.sampling(p)
        n, train, labels = p["n"], p["train"], p["labels"][p["train"]]
        starts, index, values = normalised(p)
        a = self.sparse.csr_matrix((values, index, starts), shape=(n, n))
        at = a.T.tocsr()
        x = p["x"]
        if isinstance(x, tuple):
            x = self.sparse.csr_matrix((x[2], x[1], x[0]), shape=(n, p["sizes"][0]))
        xt = x.T.tocsr() if isinstance(p["x"], tuple) else x.T
        w = [v.copy() for v in p["weights"]]
        m, v = [np.zeros_like(k) for k in w], [np.zeros_like(k) for k in w]
        count, rows = [0], np.arange(len(train))

        def step() -> Any:
            h = a @ (x @ w[0])
            r = np.maximum(h, 0)
            z = (a @ (r @ w[1]))[train]
            z -= z.max(1, keepdims=True)
            e = np.exp(z)
            total = e.sum(1, keepdims=True)
            loss = float((np.log(total[:, 0]) - z[rows, labels]).mean())
            e /= total
            e[rows, labels] -= 1
            e /= len(train)
            g = np.zeros((n, e.shape[1]), np.float32)
            g[train] = e
            g = at @ g
            grads = [np.empty(0), r.T @ g]
            gh = g @ w[1].T
            gh *= h > 0
            grads[0] = xt @ (at @ gh) + DECAY * w[0]
            count[0] += 1
            t = count[0]
            for k in range(2):
                m[k] *= 0.9
                m[k] += 0.1 * grads[k]
                v[k] *= 0.999
                v[k] += 0.001 * grads[k] ** 2
                w[k] -= LR / (1 - 0.9**t) * m[k] / (np.sqrt(v[k] / (1 - 0.999**t)) + 1e-8)
            return loss

        return _counted(step)


def _counted(step: Any) -> harness.Call:
    """The first call makes STEPS steps and returns their losses, what is compared; others make one."""
    seen: list[Any] = []

    def call() -> Any:
        if not seen:
            seen.append(np.array([float(step()) for _ in range(STEPS)]))
            return seen[0]
        return step()

    return call


class Torch(harness.Torch):
    """By hand on torch.sparse CSR matrices."""

    def environment(self, threads: int) -> dict[str, str]:
        return KEEP

    def start(self, threads: int) -> None:
        super().start(threads)
        self.torch.set_grad_enabled(True)
        warnings.simplefilter("ignore")

    def skips(self, case: harness.Case) -> bool:
        return bool(case["label"] == "sample")

    def parts(self, p: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        torch = self.torch
        n = p["n"]
        x = p["x"]
        if isinstance(x, tuple):
            x = torch.sparse_csr_tensor(*map(torch.from_numpy, x), (n, p["sizes"][0]))
        else:
            x = torch.from_numpy(x)
        w = [torch.from_numpy(v.copy()).requires_grad_() for v in p["weights"]]
        groups = [{"params": [w[0]], "weight_decay": DECAY}, {"params": [w[1]]}]
        optimizer = torch.optim.Adam(groups, lr=LR, fused=True)
        train = torch.from_numpy(np.asarray(p["train"]))
        return x, w, optimizer, train, torch.from_numpy(p["labels"][p["train"]])

    def prepare(self, case: harness.Case) -> harness.Call:
        torch, p = self.torch, problem(case["label"])
        n = p["n"]
        starts, index, values = (torch.from_numpy(k) for k in normalised(p))
        a = torch.sparse_csr_tensor(starts, index, values, (n, n))
        at = a.to_sparse_coo().t().coalesce().to_sparse_csr()

        class Product(torch.autograd.Function):  # type: ignore[misc,name-defined]
            @staticmethod
            def forward(ctx: Any, y: Any) -> Any:
                return a @ y

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                return at @ g

        x, w, optimizer, train, labels = self.parts(p)
        everything = len(train) == n
        xt = x.to_sparse_coo().t().coalesce().to_sparse_csr() if x.layout == torch.sparse_csr else None

        class First(torch.autograd.Function):  # type: ignore[misc,name-defined]
            @staticmethod
            def forward(ctx: Any, weight: Any) -> Any:
                return x @ weight

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                return xt @ g

        def step() -> Any:
            optimizer.zero_grad()
            h = torch.relu(Product.apply(First.apply(w[0]) if xt is not None else x @ w[0]))
            y = Product.apply(h @ w[1])
            loss = torch.nn.functional.cross_entropy(y if everything else y[train], labels)
            loss.backward()
            optimizer.step()
            return loss

        return _counted(step)


class PyG(Torch):
    """PyTorch Geometric's layers, and its loader."""

    name = "pyg"

    def start(self, threads: int) -> None:
        super().start(threads)
        self.pyg = importlib.import_module("torch_geometric")
        importlib.import_module("torch_geometric.nn")
        importlib.import_module("torch_geometric.loader")

    def skips(self, case: harness.Case) -> bool:
        if case["label"] != "sample":
            return False
        try:
            importlib.import_module("pyg_lib")
        except ImportError:
            return importlib.util.find_spec("torch_sparse") is None
        return False

    def prepare(self, case: harness.Case) -> harness.Call:
        torch, p = self.torch, problem(case["label"])
        edges = torch.from_numpy(p["edges"])
        if case["label"] == "sample":
            graph = self.pyg.data.Data(x=torch.from_numpy(p["x"]), edge_index=edges)
            loader = self.pyg.loader.NeighborLoader(
                graph, FANOUTS, batch_size=BATCH, input_nodes=torch.arange(BATCH * BATCHES), shuffle=False
            )
            return lambda: np.array([b.x.shape[1] for b in loader])
        x, w, optimizer, train, labels = self.parts(p)
        if x.layout == torch.sparse_csr:
            x = x.to_sparse_coo().coalesce()
        convs = [
            self.pyg.nn.GCNConv(a, b, cached=True, bias=False) for a, b in itertools.pairwise(p["sizes"])
        ]
        for conv, weight in zip(convs, w, strict=True):
            conv.lin.weight.data = weight.data.T.contiguous()
        groups = [{"params": [convs[0].lin.weight], "weight_decay": DECAY}, {"params": [convs[1].lin.weight]}]
        optimizer = torch.optim.Adam(groups, lr=LR, fused=True)

        def step() -> Any:
            optimizer.zero_grad()
            y = convs[1](torch.relu(convs[0](x, edges)), edges)
            loss = torch.nn.functional.cross_entropy(y[train], labels)
            loss.backward()
            optimizer.step()
            return loss

        return _counted(step)


class Jax(harness.Engine):
    """By hand: gather and segment_sum under jit, the whole step one program."""

    name = "jax"

    def start(self, threads: int) -> None:
        self.jax = importlib.import_module("jax")

    def skips(self, case: harness.Case) -> bool:
        return bool(case["label"] == "sample")

    def prepare(self, case: harness.Case) -> harness.Call:
        jax, jnp, p = self.jax, self.jax.numpy, problem(case["label"])
        n = p["n"]
        starts, index, values = normalised(p)
        rows = np.repeat(np.arange(n), np.diff(starts))

        def product(values: Any, index: Any, rows: Any, count: int, y: Any) -> Any:
            return jax.ops.segment_sum(
                values[:, None] * y[index], rows, num_segments=count, indices_are_sorted=True
            )

        x = p["x"]
        sparse = isinstance(x, tuple)
        x_rows = np.repeat(np.arange(n), np.diff(x[0])) if sparse else None

        def loss_of(w: Any) -> Any:
            first = product(x[2], x[1], x_rows, n, w[0]) if sparse else x @ w[0]
            h = jax.nn.relu(product(values, index, rows, n, first))
            y = jax.nn.log_softmax(product(values, index, rows, n, h @ w[1])[p["train"]])
            return -jnp.take_along_axis(y, p["labels"][p["train"]][:, None], 1).mean()

        def update(w: Any, m: Any, v: Any, t: Any) -> Any:
            loss, g = jax.value_and_grad(loss_of)(w)
            g = [g[0] + DECAY * w[0], g[1]]
            m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
            v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
            c1, c2 = 1 - 0.9**t, 1 - 0.999**t
            w = [a - LR / c1 * b / (jnp.sqrt(c / c2) + 1e-8) for a, b, c in zip(w, m, v, strict=True)]
            return w, m, v, loss

        jitted = jax.jit(update, donate_argnums=(0, 1, 2))
        w = [jnp.array(k) for k in p["weights"]]
        state = [w, [jnp.zeros_like(k) for k in w], [jnp.zeros_like(k) for k in w], 0]

        def step() -> Any:
            state[3] += 1
            state[0], state[1], state[2], loss = jitted(state[0], state[1], state[2], float(state[3]))
            return loss.block_until_ready()

        return _counted(step)


class Minigrad(harness.Minigrad):
    def start(self, threads: int) -> None:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        self.mg = importlib.import_module("minigrad")
        self.mg.set_num_threads(threads)
        self.c = importlib.import_module("minigrad.backends.c")

    def prepare(self, case: harness.Case) -> harness.Call:
        mg, p = self.mg, problem(case["label"])
        F = mg.nn.functional
        edges = mg.tensor(p["edges"])
        if case["label"] == "sample":
            graph = mg.data.Graph(x=mg.from_numpy(p["x"]), edge_index=edges)
            loader = mg.data.NeighborLoader(
                graph, FANOUTS, batch_size=BATCH, input_nodes=np.arange(BATCH * BATCHES)
            )
            return lambda: np.array([b.x.shape[1] for b in loader])
        x = p["x"]
        x = mg.sparse.CSR(*x, (p["n"], p["sizes"][0])) if isinstance(x, tuple) else mg.from_numpy(x)
        convs = [mg.nn.GCNConv(a, b, bias=False) for a, b in itertools.pairwise(p["sizes"])]
        for conv, weight in zip(convs, p["weights"], strict=True):
            conv.lin.weight.assign(weight.T)
        groups = [{"params": [convs[0].lin.weight], "weight_decay": DECAY}, {"params": [convs[1].lin.weight]}]
        optimizer = mg.optim.Adam(groups, lr=LR)
        train, labels = mg.tensor(p["train"]), mg.tensor(p["labels"][p["train"]])
        everything = len(train) == p["n"]

        @mg.compile
        def step() -> Any:
            optimizer.zero_grad()
            y = convs[1](F.relu(convs[0](x, edges)), edges)
            loss = F.cross_entropy(y if everything else mg.sparse.gather(y, train), labels)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return _counted(lambda: step().item())


def memory(engines: list[harness.Engine], labels: list[str], names: list[str], threads: int) -> None:
    """Print the most that each engine's process holds (libraries included), ever and in later steps."""
    print(f"\n{threads} thread(s), MB{'':<18}{'with preparation':>18}{'later steps':>14}")
    for case, engine in itertools.product(CASES, engines):
        if engine.name not in names or not any(words in case["label"] for words in labels):
            continue
        worker = harness.Worker(__file__, engine, threads)
        if not worker.missing and "skipped" not in worker.ask("prepare", case=case):
            peaks = [worker.ask("facts")["peak memory"] / 1e6]
            worker.ask("forget")
            worker.ask("run")
            peaks.append(worker.ask("facts")["peak memory"] / 1e6)
            print(f"{case['label']:<14}{engine.name:<14}{peaks[0]:>18.0f}{peaks[1]:>14.0f}", flush=True)
        worker.close()


def main() -> None:
    engines: list[harness.Engine] = [Minigrad(), Scipy(), Torch(), PyG(), Jax()]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="an .npz file with Cora")
    parser.add_argument("--memory", action="store_true", help="peak memory, not time")
    if "--memory" not in sys.argv or "--worker" in sys.argv:
        return harness.main(__file__, engines, CASES, tolerance=2e-3, parser=parser)
    parser.add_argument("--only", nargs="+", default=[""])
    parser.add_argument("--engine", nargs="+", default=[e.name for e in engines])
    parser.add_argument("--threads", type=harness.positive, nargs="+", default=[1, 2])
    options = parser.parse_args()
    print(harness.header())
    for threads in options.threads:
        memory(engines, options.only, options.engine, threads)


if __name__ == "__main__":
    main()
