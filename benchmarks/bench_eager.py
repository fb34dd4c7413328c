"""What an eager operation costs beside its arithmetic.

On 8 floats arithmetic takes nothing, so this measures the engine: the call, the node it leaves,
and the walk back.  PyTorch (one thread) and HIPS autograd run beside it where they are installed,
interleaved in one process; every engine's result is compared before anything is timed.

    python benchmarks/bench_eager.py [--rounds 15] [--json FILE]
    python benchmarks/bench_eager.py --sizes      single operations on 8 to 1M elements, beside torch

Memory: a chain of 200 operations that keep their 1 MB outputs leaves 200 MB on the tape; backward
must free it as it goes, so its peak may exceed what the forward pass left by a few arrays only.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import _harness as harness
import numpy as np

import minigrad as mg

LENGTH = 1000


def chain(x: Any, w: Any, tanh: Callable[[Any], Any]) -> Any:
    """1,000 small operations: multiply, add, tanh, subtract."""
    y = x
    for _ in range(LENGTH // 4):
        y = y * w
        y = y + x
        y = tanh(y)
        y = y - w
    return y


def contenders(
    values: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]
) -> dict[str, dict[str, Callable[[], Any]]]:
    """case -> engine -> function; the function returns something to compare."""
    cases: dict[str, dict[str, Callable[[], Any]]] = {
        "a + b": {},
        "chain forward": {},
        "chain forward+backward": {},
    }

    x = mg.tensor(values, requires_grad=True)
    w = mg.tensor(weights, requires_grad=True)

    def ours() -> Any:
        x.grad = w.grad = None
        chain(x, w, mg.tanh).sum().backward()
        return x.grad.numpy()

    cases["a + b"]["minigrad"] = lambda: x + w
    cases["chain forward"]["minigrad"] = lambda: chain(x, w, mg.tanh)
    cases["chain forward+backward"]["minigrad"] = ours

    try:
        import torch
    except ImportError:
        print("torch is not installed: pip install torch")
    else:
        torch.set_num_threads(1)
        tx, tw = torch.tensor(values, requires_grad=True), torch.tensor(weights, requires_grad=True)

        def theirs() -> Any:
            tx.grad = tw.grad = None
            chain(tx, tw, torch.tanh).sum().backward()
            return tx.grad.numpy()

        cases["a + b"]["torch"] = lambda: tx + tw
        cases["chain forward"]["torch"] = lambda: chain(tx, tw, torch.tanh)
        cases["chain forward+backward"]["torch"] = theirs

    try:
        import autograd
        import autograd.numpy as anp
    except ImportError:
        print("HIPS autograd is not installed: pip install autograd")
    else:
        gradient = autograd.grad(lambda a, b: anp.sum(chain(a, b, anp.tanh)), (0, 1))
        cases["chain forward+backward"]["autograd"] = lambda: gradient(values, weights)[0]
    return cases


def plain(result: Any) -> Any:
    """Whatever an engine returned, as numpy."""
    return np.asarray(result.detach().numpy() if hasattr(result, "detach") else result)


def measure(engines: dict[str, Callable[[], Any]], rounds: int, seconds: float = 0.02) -> dict[str, float]:
    """Median microseconds of each engine, taking turns of about so many seconds."""
    for function in engines.values():
        function()
    start = time.perf_counter()
    next(iter(engines.values()))()
    repeats = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, function in engines.items():
            if seconds > 0.01:
                gc.collect()
            start = time.perf_counter()
            for _ in range(repeats):
                function()
            times[name].append((time.perf_counter() - start) / repeats * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def memory() -> dict[str, float]:
    """Megabytes: what a forward chain leaves, and how much more backward needs at its peak."""
    megabyte = 1 << 20
    x = mg.ones(megabyte // 4, requires_grad=True)
    tracemalloc.start()
    y = x
    for _ in range(200):
        y = y.tanh()
    kept = tracemalloc.get_traced_memory()[0] / megabyte
    loss = y.sum()
    tracemalloc.reset_peak()
    loss.backward()
    after, peak = (value / megabyte for value in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    return {"kept by forward": kept, "peak of backward": peak, "after backward": after}


def long_chain(length: int = 100_000) -> float:
    """Seconds for a chain of this many operations, forward and backward."""
    x = mg.ones(8, requires_grad=True)
    start = time.perf_counter()
    y = x
    for _ in range(length):
        y = y * 1.00001
    y.sum().backward()
    assert x.grad is not None
    del y
    return time.perf_counter() - start


SIZES = [8, 128, 1024, 8192, 65536, 1 << 20]
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {  # of a module and a (rows, at most 256) array
    "x + x": lambda m, x: x + x,
    "x * 2.0": lambda m, x: x * 2.0,
    "x + row": lambda m, x: x + x[:1],
    "x.T + 1.0": lambda m, x: x.T + 1.0,
    "exp": lambda m, x: x.exp(),
    "tanh": lambda m, x: x.tanh(),
    "sigmoid": lambda m, x: x.sigmoid(),
    "relu": lambda m, x: x.relu(),
    "gelu": lambda m, x: m.nn.functional.gelu(x),
    "sum": lambda m, x: x.sum(),
    "sum(1)": lambda m, x: x.sum(1),
    "mean(0)": lambda m, x: x.mean(0),
    "amax(1)": lambda m, x: x.amax(1),
    "argmax(1)": lambda m, x: x.argmax(1),
    "softmax(1)": lambda m, x: x.softmax(1),
    "layer_norm": lambda m, x: m.nn.functional.layer_norm(x, x.shape[-1:]),
}


def sizes(rounds: int) -> dict[str, Any]:
    """torch's time over ours for single operations without gradients, both on one thread."""
    import torch

    torch.set_num_threads(1)
    mg.set_num_threads(1)
    report: dict[str, Any] = {}
    print(f"{'torch / minigrad (our us)':26}" + "".join(f"{n:>16}" for n in SIZES))
    with torch.no_grad(), mg.no_grad():
        for name, operation in OPERATIONS.items():
            line = []
            for n in SIZES:
                values = np.random.default_rng(0).uniform(0.5, 1.5, (-(-n // 256), min(n, 256)))
                values = values.astype(np.float32)
                x, tx = mg.tensor(values), torch.from_numpy(values)
                ours, theirs = partial(operation, mg, x), partial(operation, torch, tx)
                np.testing.assert_allclose(plain(ours()), plain(theirs()), rtol=1e-4, atol=1e-5)
                medians = measure({"minigrad": ours, "torch": theirs}, rounds, 0.002)
                line.append((medians["torch"] / medians["minigrad"], medians["minigrad"]))
            report[name] = line
            print(f"{name:26}" + "".join(f"{r:>7.2f} ({us:7.1f})" for r, us in line), flush=True)
    return report


def main() -> None:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=harness.positive, default=15)
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--sizes", action="store_true", help="single operations on 8 to 1M elements")
    options = parser.parse_args()
    print(harness.header())
    if options.sizes:
        table = sizes(options.rounds)
        if options.json:
            with open(options.json, "w") as file:
                json.dump(table, file, indent=2)
        return
    rng = np.random.default_rng(0)
    values, weights = (rng.uniform(0.5, 1.5, 8).astype(np.float32) for _ in range(2))
    report: dict[str, Any] = {}
    print(f"{'case':26}{'engine':10}{'us':>10}{'ratio to minigrad':>20}")
    for case, engines in contenders(values, weights).items():
        results = {name: plain(function()) for name, function in engines.items()}
        for name, result in results.items():
            np.testing.assert_allclose(result, results["minigrad"], rtol=1e-4, err_msg=f"{case}: {name}")
        medians = measure(engines, options.rounds)
        report[case] = medians
        for name, value in medians.items():
            print(f"{case:26}{name:10}{value:10.2f}{value / medians['minigrad']:20.2f}")
    report["memory"] = memory()
    print("\n200 tanh of a 1 MB array: " + ", ".join(f"{k} {v:.1f} MB" for k, v in report["memory"].items()))
    report["long chain"] = long_chain()
    print(f"100,000 operations forward and backward: {report['long chain']:.2f} s")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
