"""What a second process is worth: weak scaling of whole training steps, and all_reduce, against torch DDP
on gloo.

Weak scaling: each rank has one thread and a batch of its own, so n ranks do n times the work of one.
Throughput is examples of all ranks a second; the gain is that of 2 ranks over that of 1, and 2.0 would be
perfect.

How it is measured: the ranks of an engine are started once, and take turns, round after round: first rank 0
steps alone, a plain model without any group, while the others sleep; then all do so at once, but apart from
each other, which shows what the machine itself gives for a second process; then all step together. So all
see the same machine in the same second. Before that the losses of both engines are compared over 20 steps.

Pipeline: one model of 12 layers on 2 ranks, 1F1B, a batch of 512 in micro-batches; our stages compiled, and
one operation at a time, beside torch.distributed.pipelining, and beside one rank with the whole model.

    python benchmarks/bench_parallel.py                       # everything
    python benchmarks/bench_parallel.py --case mlp            # or: cnn, all_reduce, pipeline
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import minigrad as mg
from minigrad import distributed, nn

CASES: dict[str, dict[str, Any]] = {
    "mlp": {"label": "MLP 784-512-256-10, SGD momentum", "batch": 128, "shape": (784,), "target": 1.75},
    "cnn": {"label": "CNN 1x28x28, Adam", "batch": 64, "shape": (1, 28, 28), "target": 1.85},
}
BATCHES = 20
SIZES = (1 << 10, 1 << 20, 64 << 20)


def layers(framework: Any, case: str) -> Any:
    """The model, by the layers that both frameworks have under one name."""
    if case == "mlp":
        sizes = (784, 512, 256, 10)
        parts: list[Any] = []
        for a, b in itertools.pairwise(sizes):
            parts += [framework.Linear(a, b), framework.ReLU()]
        return framework.Sequential(*parts[:-1])
    return framework.Sequential(
        *(framework.Conv2d(1, 32, 3, padding=1), framework.ReLU(), framework.MaxPool2d(2)),
        *(framework.Conv2d(32, 64, 3, padding=1), framework.ReLU(), framework.MaxPool2d(2)),
        *(
            framework.Flatten(),
            framework.Linear(64 * 7 * 7, 128),
            framework.ReLU(),
            framework.Linear(128, 10),
        ),
    )


def weights(case: str) -> dict[str, Any]:
    """Parameters that all engines start from."""
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(
            0, (2 / max(p.shape[-1] if p.ndim == 1 else np.prod(p.shape[1:]), 1)) ** 0.5, p.shape
        ).astype(np.float32)
        for name, p in layers(nn, case).state_dict().items()
    }


def batches(case: str, rank: int) -> list[tuple[Any, Any]]:
    """Inputs and labels of a rank."""
    rng = np.random.default_rng([1, rank])
    n, shape = CASES[case]["batch"], CASES[case]["shape"]
    return [(rng.normal(size=(n, *shape)).astype(np.float32), rng.integers(0, 10, n)) for _ in range(BATCHES)]


def ours(case: str, together: bool) -> Callable[[Any, Any], Any]:
    """A compiled step, of a group or alone."""
    model = layers(nn, case)
    model.load_state_dict({k: mg.tensor(v) for k, v in weights(case).items()})
    if together:
        model = distributed.DistributedDataParallel(model)
    make = (
        mg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        if case == "mlp"
        else mg.optim.Adam(model.parameters(), lr=1e-3)
    )

    @mg.compile
    def step(x: Any, y: Any) -> Any:
        make.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        make.step()
        return loss.detach()

    return step


def theirs(case: str, together: bool) -> Callable[[Any, Any], Any]:
    """The same by torch."""
    torch = importlib.import_module("torch")
    model = layers(torch.nn, case)
    model.load_state_dict({k: torch.tensor(v) for k, v in weights(case).items()})
    if together:
        model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    make = (
        torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        if case == "mlp"
        else torch.optim.Adam(model.parameters(), lr=1e-3)
    )

    def step(x: Any, y: Any) -> Any:
        make.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        make.step()
        return loss.detach()

    return step


def start_torch(store: str) -> Any:
    """Join torch's group; returns its barrier."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    rank, size = distributed.get_rank(), distributed.get_world_size()
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    return torch


def scaling(engine: str, case: str, rounds: int, seconds: float, store: str) -> Any:
    """What a rank does: seconds a step, alone and together, in each round; and the first losses."""
    rank = distributed.get_rank()
    if engine == "torch":
        torch = start_torch(store)
        tensor, make = torch.from_numpy, theirs
    else:
        tensor, make = mg.tensor, ours
    data = [(tensor(x), tensor(y)) for x, y in batches(case, rank)]
    steps = {"alone": make(case, False), "together": make(case, True)}
    losses = [float(steps["together"](*data[k])) for k in range(BATCHES)]
    for k in range(BATCHES):
        steps["alone"](*data[k])

    def run(which: str, count: int) -> float:
        begin = time.perf_counter()
        for k in range(count):
            steps[which](*data[k % BATCHES])
        return (time.perf_counter() - begin) / count

    distributed.barrier()
    once = mg.tensor([run("alone", BATCHES) if rank == 0 else 0.0])
    count = max(BATCHES, int(seconds / distributed.broadcast(once, 0).item()))
    times: dict[str, list[float]] = {"alone": [], "apart": [], "together": []}
    for _ in range(rounds):
        distributed.barrier()
        if rank == 0:
            times["alone"].append(run("alone", count))
        distributed.barrier()
        times["apart"].append(run("alone", count))
        distributed.barrier()
        times["together"].append(run("together", count))
    return times, losses


#: Of the pipeline: layers, their width, examples of a batch, micro-batches.
DEEP, WIDE, LOT, MICRO = 12, 256, 512, 8


def deep(framework: Any) -> list[Any]:
    """The layers of the model of the pipeline, with the weights that all engines start from."""
    rng, parts = np.random.default_rng(0), []
    for _ in range(DEEP):
        layer = framework.Linear(WIDE, WIDE)
        w = rng.normal(0, (2 / WIDE) ** 0.5, (WIDE, WIDE)).astype(np.float32)
        if framework is nn:
            layer.load_state_dict({"weight": mg.tensor(w), "bias": mg.zeros(WIDE)})
        else:
            torch = importlib.import_module("torch")
            layer.load_state_dict({"weight": torch.tensor(w), "bias": torch.zeros(WIDE)})
        parts += [layer, framework.ReLU()]
    return parts[:-1]


def pipeline(engine: str, rounds: int, store: str) -> Any:
    """What a rank does: seconds a step in each round, by name; and the losses of the first steps."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(LOT, WIDE)).astype(np.float32) for _ in range(2))
    steps: dict[str, Callable[[], list[float]]] = {}
    if engine == "torch":
        torch = start_torch(store)
        pipelining = importlib.import_module("torch.distributed.pipelining")
        layers_ = deep(torch.nn)
        cut = len(layers_) * rank // size, len(layers_) * (rank + 1) // size
        module = torch.nn.Sequential(*layers_[slice(*cut)])
        stage = pipelining.PipelineStage(module, rank, size, torch.device("cpu"))
        schedule = pipelining.Schedule1F1B(stage, MICRO, torch.nn.functional.mse_loss)
        sgd = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
        given = (torch.from_numpy(x),) if rank == 0 else ()
        target = torch.from_numpy(y) if rank == size - 1 else None

        def step() -> list[float]:
            losses: list[Any] = []
            sgd.zero_grad()
            schedule.step(*given, target=target, losses=losses)
            sgd.step()
            return [loss.item() for loss in losses]

        steps["torch"] = step
    else:
        data = mg.tensor(x), mg.tensor(y)
        for name in ("compiled", "op by op"):
            steps[name] = _stage(nn.Sequential(*deep(nn)), rank, size, name == "compiled", *data)
        alone = nn.Sequential(*deep(nn))
        sgd_alone = mg.optim.SGD(alone.parameters(), lr=0.01, momentum=0.9)

        @mg.compile
        def whole(x: Any, y: Any) -> Any:
            sgd_alone.zero_grad()
            loss = nn.functional.mse_loss(alone(x), y)
            loss.backward()
            sgd_alone.step()
            return loss.detach()

        if rank == 0:
            steps["one rank"] = lambda: [float(whole(*data))]
    names = ["torch"] if engine == "torch" else ["one rank", "compiled", "op by op"]
    first = {n: [sum(steps[n]()) if n in steps else 0.0 for _ in range(5)] for n in names}
    times: dict[str, list[float]] = {n: [] for n in names}
    for _ in range(rounds):
        for n in names:
            distributed.barrier()
            if n in steps:
                begin = time.perf_counter()
                for _ in range(10):
                    steps[n]()
                distributed.barrier() if n != "one rank" else None
                times[n].append((time.perf_counter() - begin) / 10)
    return times, first


def _stage(model: Any, rank: int, size: int, compiled: bool, x: Any, y: Any) -> Callable[[], list[float]]:
    """A step of one of our stages."""
    at = [len(model) * k // size for k in range(1, size)]
    module = distributed.split_module(model, size, at=at)[rank]
    stage = distributed.PipelineStage(module, rank, size, compiled=compiled)
    schedule = distributed.Schedule1F1B(stage, MICRO, nn.functional.mse_loss)
    sgd = mg.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)

    def step() -> list[float]:
        losses: list[Any] = []
        sgd.zero_grad()
        given = (x,) if stage.is_first else ()
        schedule.step(*given, target=y if stage.is_last else None, losses=losses)
        sgd.step()
        return [loss.item() for loss in losses]

    return step


def reducing(engine: str, rounds: int, store: str) -> dict[int, list[float]]:
    """What a rank does: seconds of an all_reduce of each size, in each round."""
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    torch = start_torch(store) if engine == "torch" else None
    group = importlib.import_module("minigrad.distributed.group").group()
    for size in SIZES:
        array = np.ones(size // 4, np.float32)
        tensor = None if torch is None else torch.from_numpy(array)
        count = max(3, min(500, (32 << 20) // size))
        for _ in range(rounds):
            distributed.barrier()
            for k in range(count + 1):
                if k == 1:
                    begin = time.perf_counter()
                if torch is None:
                    group.all_reduce(array, "max", 1.0, array)
                else:
                    torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
            found[size].append((time.perf_counter() - begin) / count)
    return found


def copying() -> dict[int, float]:
    """Seconds of a memcpy of each size, by one process."""
    found = {}
    for size in SIZES:
        a, b = np.ones(size, np.uint8), np.empty(size, np.uint8)
        count = max(3, min(500, (64 << 20) // size))
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            for _ in range(count):
                np.copyto(b, a)
            times.append((time.perf_counter() - begin) / count)
        found[size] = statistics.median(times)
    return found


def engines() -> list[str]:
    """Ours, and torch if it is there."""
    return ["minigrad", "torch"] if importlib.util.find_spec("torch") else ["minigrad"]


def main() -> None:
    import _harness as harness

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*CASES, "all_reduce", "pipeline"]
    parser.add_argument("--case", nargs="+", default=every, choices=every)
    parser.add_argument("--ranks", type=harness.positive, default=2)
    parser.add_argument("--rounds", type=harness.positive, default=11)
    parser.add_argument("--seconds", type=float, default=0.15, help="of stepping in a round (%(default)g)")
    options = parser.parse_args()
    print(harness.header())

    def start(function: Any, *args: Any) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder:
            return distributed.run(function, options.ranks, (*args, f"{folder}/store"), threads=1)

    for case in (c for c in options.case if c in CASES):
        about, truth = CASES[case], None
        print(f"\n{about['label']}, batch {about['batch']} a rank, {options.ranks} ranks of one thread")
        print(
            f"{'':<12}{'1 rank us':>12}{'apart us':>11}{'together us':>13}{'ceiling':>9}{'gain':>7}"
            f"{'target':>8}{'examples/s':>12}"
        )
        for engine in engines():
            ranks = start(scaling, engine, case, options.rounds, options.seconds)
            losses = np.mean([r[1] for r in ranks], axis=0)
            truth = losses if truth is None else truth
            assert np.allclose(losses, truth, rtol=2e-3), (engine, losses, truth)
            alone = statistics.median(ranks[0][0]["alone"])
            apart = max(statistics.median(r[0]["apart"]) for r in ranks)
            together = statistics.median(ranks[0][0]["together"])
            gain = options.ranks * alone / together
            print(
                f"{engine:<12}{1e6 * alone:>12.0f}{1e6 * apart:>11.0f}{1e6 * together:>13.0f}"
                f"{options.ranks * alone / apart:>9.2f}{gain:>7.2f}"
                f"{about['target'] if engine == 'minigrad' else '':>8}"
                f"{options.ranks * about['batch'] / together:>12.0f}",
                flush=True,
            )
    if "pipeline" in options.case:
        print(
            f"\npipeline of {options.ranks} ranks of one thread, {DEEP} layers of {WIDE}, {LOT} examples in "
            f"{MICRO} micro-batches, ms a step"
        )
        taken: dict[str, float] = {}
        truth = None
        for engine in engines():
            ranks = start(pipeline, engine, options.rounds)
            for name in ranks[0][0]:
                alone = name == "one rank"
                losses = np.array(ranks[0 if alone else -1][1][name]) / (1 if alone else MICRO)
                truth = losses if truth is None else truth
                assert np.allclose(losses, truth, rtol=1e-3), (name, losses, truth)
                taken[name] = statistics.median(ranks[0][0][name])
        for name, seconds in taken.items():
            print(f"{name:<12}{1e3 * seconds:>10.2f}{taken['one rank'] / seconds:>8.2f}x")
    if "all_reduce" in options.case:
        copied = copying()
        times = {engine: start(reducing, engine, options.rounds)[0] for engine in engines()}
        print(
            f"\nall_reduce (max, float32) of {options.ranks} ranks, us; GB/s of the tensor; and of a memcpy"
        )
        for size in SIZES:
            text = f"{size >> 10:>8} KB   memcpy {1e6 * copied[size]:>9.1f} ({size / copied[size] / 1e9:.1f})"
            for engine, found in times.items():
                t = statistics.median(found[size])
                text += f"   {engine} {1e6 * t:>9.1f} ({size / t / 1e9:.2f})"
            print(text)


if __name__ == "__main__":
    main()
