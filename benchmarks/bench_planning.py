"""Whether plans come true: `distributed.simulate` and `distributed.project` beside what ranks of this
machine do.

`simulate` is given a latency, a bandwidth and a rate of adding, which pairs of ranks measure first, all
pairs at once, by exchanging 64 bytes and 4 MB, and by adding arrays. Then 2 and 4 ranks carry out each
algorithm with messages (`schedules.perform`), and its time stands beside the simulated one. All algorithms
take turns, round after round; the figures are the best of the rounds, as the model knows no neighbours.

`project` is asked before anything is started; then 1, 2 and 4 ranks really train, with the batch shared
out.

Four ranks on two processors take turns, and what changing from one process to another costs is in their
latency: they say how good the model is then, and nothing about four processors.

    python benchmarks/bench_planning.py                 # both
    python benchmarks/bench_planning.py --only simulate # or: project
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import minigrad as mg
from minigrad import distributed, nn
from minigrad.distributed.group import group
from minigrad.distributed.schedules import perform

SIZES = (4 << 10, 256 << 10, 4 << 20)
FLAT = ("ring", "tree", "doubling", "halving")
SHAPE, BATCH = (784, 512, 256, 10), 256


def timed(f: Callable[[], object], repeats: int, of: Callable[[list[float]], float] = min) -> float:
    """Seconds of f, after the others have come: the best of some."""
    times = []
    for k in range(repeats + 1):
        distributed.barrier()
        begin = time.perf_counter()
        f()
        if k:
            times.append(time.perf_counter() - begin)
    return of(times)


def constants() -> dict[str, float]:
    """What neighbours find, all pairs at the same time: latency and bandwidth of messages, rate of adding."""
    engine, found = group(), {}
    other = engine.rank ^ 1
    small, large = np.zeros(64, np.uint8), np.zeros(1 << 20, np.float32)
    got_small, got_large = small.copy(), large.copy()
    alpha = timed(lambda: [engine.exchange(small, other, got_small, other) for _ in range(50)], 40) / 50
    whole = timed(lambda: engine.exchange(large, other, got_large, other), 40)
    adding = timed(lambda: np.add(large, got_large, out=large), 40)
    found["local_latency"] = alpha
    found["local_bandwidth"] = large.nbytes / max(whole - alpha, 1e-9)
    found["adding"] = large.nbytes / adding
    return found


def performed(rounds: int) -> dict[tuple[str, int], float]:
    """Seconds of each algorithm and size; all are checked first."""
    engine = group()
    times: dict[tuple[str, int], list[float]] = {}
    for algorithm in FLAT:
        assert (perform(algorithm, engine, np.ones(1000, np.float32)) == engine.size).all()
    arrays = {size: (np.zeros(size // 4, np.float32), np.zeros(size // 4, np.float32)) for size in SIZES}
    for _ in range(rounds):
        for algorithm in FLAT:
            for size, (x, scratch) in arrays.items():
                repeats = 5 if size <= 1 << 18 else 1

                def several(name: str = algorithm, x: Any = x, free: Any = scratch, n: int = repeats) -> None:
                    for _ in range(n):
                        perform(name, engine, x, scratch=free)

                times.setdefault((algorithm, size), []).append(timed(several, 1) / repeats)
    return {key: min(t) for key, t in times.items()}


def simulated(rounds: int) -> None:
    """The first table."""
    found, known = {}, {}
    for ranks in (2, 4):  # the constants before and after: the best is what nobody disturbed
        seen = [distributed.run(constants, ranks, threads=1)[0]]
        found[ranks] = distributed.run(performed, ranks, (rounds,), threads=1)[0]
        seen.append(distributed.run(constants, ranks, threads=1)[0])
        known[ranks] = {k: (min if k == "local_latency" else max)(s[k] for s in seen) for k in seen[0]}
        print(
            f"{ranks} ranks: latency {1e6 * known[ranks]['local_latency']:.1f} us, "
            f"bandwidth {known[ranks]['local_bandwidth'] / 1e9:.2f} GB/s, "
            f"adding {known[ranks]['adding'] / 1e9:.2f} GB/s"
        )
    print()
    print(f"{'':22}" + "".join(f"{size >> 10:>7} KB: measured, planned us, ratio" for size in SIZES))
    for ranks, times in found.items():
        for algorithm in FLAT:
            cells = []
            for size in SIZES:
                plan = distributed.simulate(
                    [ranks], size, algorithms=[algorithm], per_host=ranks, **known[ranks]
                )
                t, planned = times[algorithm, size], plan.rows[0].reduce
                cells.append(f"{1e6 * t:>20.0f}{1e6 * planned:>12.0f}{t / planned:>9.2f}")
            print(f"{ranks} ranks, {algorithm:<12}{''.join(cells)}", flush=True)


def make(parallel: bool) -> tuple[Any, Any]:
    """A model and its compiled step."""
    mg.manual_seed(0)
    parts: list[Any] = []
    for a, b in itertools.pairwise(SHAPE):
        parts += [nn.Linear(a, b), nn.ReLU()]
    inner = nn.Sequential(*parts[:-1])
    model: Any = distributed.DistributedDataParallel(inner) if parallel else inner
    optimizer = mg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    @mg.compile
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return inner, step


def examples(count: int) -> tuple[Any, Any]:
    """A batch."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, SHAPE[0])).astype(np.float32)
    return mg.tensor(x), mg.tensor(rng.integers(0, 10, count))


def trained(rounds: int) -> tuple[float, float]:
    """What a rank does: seconds a step with its part of the batch, and the share of them that it computes."""
    _, step = make(True)
    x, y = examples(BATCH)
    mine = slice(distributed.get_rank(), None, distributed.get_world_size())
    x, y = mg.tensor(x.numpy()[mine]), mg.tensor(y.numpy()[mine])
    for _ in range(10):
        step(x, y)
    taken = timed(lambda: [step(x, y) for _ in range(20)], rounds, statistics.median) / 20
    with distributed.timeline() as seen:
        for _ in range(40):
            step(x, y)
    return taken, seen.efficiency


def projected(rounds: int) -> None:
    """The second table."""
    model, step = make(False)
    plan = distributed.project(step, *examples(BATCH), model=model, ranks=[1, 2, 4])
    head = ("planned ms", "measured ms", "ratio", "speedup", "computing")
    print(f"\n{plan}\n\n{'ranks':>6}{''.join(f'{h:>13}' for h in head)}")
    alone = 0.0
    for row in plan.rows:
        taken, share = distributed.run(trained, row.ranks, (rounds,))[0]
        alone = alone or taken
        cells = f"{1e3 * row.step:>13.3f}{1e3 * taken:>13.3f}{taken / row.step:>13.2f}"
        print(f"{row.ranks:>6}{cells}{alone / taken:>13.2f}{share:>13.0%}", flush=True)


def main() -> None:
    import _harness as harness

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["simulate", "project"])
    parser.add_argument("--rounds", type=harness.positive, default=9)
    options = parser.parse_args()
    print(harness.header())
    if options.only != "project":
        simulated(options.rounds)
    if options.only != "simulate":
        projected(options.rounds)


if __name__ == "__main__":
    main()
