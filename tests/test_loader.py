"""Loaders: orders, samplers, workers, and where a run was."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import data
from minigrad.data.workers import WorkerError
from minigrad.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from minigrad.random import Generator

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Noisy(data.Dataset):
    """Draws from the default generator for every example."""

    def __init__(self, count: int = 23) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": mg.rand(3) + index, "index": index, "name": f"{index}", "raw": np.full(2, index)}


class Failing(Noisy):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def __getitem__(self, index: int) -> Any:
        if index == 7:
            if self.how == "raise":
                raise KeyError("no such example")
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "exit":
                os._exit(3)
            if self.how == "local":

                class OwnError(Exception):
                    pass

                raise OwnError("of a kind that cannot be sent")
            time.sleep(30)
        return index


def bits(batches: Any) -> list[Any]:
    return [(b["x"].numpy().tobytes(), b["index"].tolist(), b["name"], b["raw"].tolist()) for b in batches]


def children() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(int(path.parent.name))
    return found


@forks
def test_the_same_bits_whatever_the_number_of_workers() -> None:
    runs = []
    for workers, prefetch in ((0, None), (1, 1), (2, None), (5, 3)):
        mg.manual_seed(3)
        loader = data.DataLoader(Noisy(), 4, shuffle=True, num_workers=workers, prefetch_factor=prefetch)
        runs.append([*bits(loader), *bits(loader), mg.rand(1).item()])
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert runs[0][0] != runs[0][6]
    assert len({x for x, *_ in runs[0][:-1]}) == 12


@forks
def test_arrays_go_through_shared_memory_of_any_size() -> None:
    sets = data.TensorDataset(np.arange(40.0).reshape(20, 2), mg.arange(20), mg.ones(20, 300) > 0)
    grown = data.ConcatDataset([data.TensorDataset(mg.zeros(3, 1)), data.TensorDataset(mg.ones(2, 1))])
    for loader in (
        data.DataLoader(sets, 3, num_workers=2),
        data.DataLoader(data.Subset(sets, range(5, 19)), 3, num_workers=2, persistent_workers=True),
        data.DataLoader(grown, 2, num_workers=1),
        data.DataLoader(mg.zeros(0, 2), 2, num_workers=2),
        data.DataLoader(mg.zeros(3, 0), 2, num_workers=2),
    ):
        plain = data.DataLoader(loader.dataset, loader.batch_size)
        for _ in range(2):
            mine, theirs = list(loader), list(plain)
            assert len(mine) == len(theirs)
            for a, b in zip(mine, theirs, strict=True):
                for x, y in zip(a, b, strict=True):
                    assert x.dtype == y.dtype
                    np.testing.assert_array_equal(x.numpy(), y.numpy())
        loader.close()


@forks
def test_a_batch_is_the_user_s_own() -> None:
    loader = data.DataLoader(data.TensorDataset(np.arange(12.0)), 1, num_workers=1, prefetch_factor=1)
    kept = [x for (x,) in loader]
    assert [x.item() for x in kept] == list(range(12))


@forks
@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="looks into /proc")
def test_no_worker_is_left_behind() -> None:
    before, files = children(), len(os.listdir("/proc/self/fd"))
    loader = data.DataLoader(Noisy(40), 2, num_workers=2)
    list(loader)
    for _ in loader:
        break
    batches = iter(loader)
    next(batches)
    del batches
    kept = data.DataLoader(Noisy(), 2, num_workers=2, persistent_workers=True)
    list(kept)
    first = children()
    assert len(first - before) == 2
    list(kept)
    assert children() == first
    del kept
    gc.collect()
    for how in ("raise", "kill"):
        with pytest.raises((KeyError, WorkerError)):
            list(data.DataLoader(Failing(how), 4, num_workers=2))
    gc.collect()
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == files


@forks
def test_a_worker_that_dies_is_reported() -> None:
    start = time.perf_counter()
    for how, error, text in (
        ("kill", WorkerError, r"worker 1 ended while making batch 1 \(killed by SIGKILL\)"),
        ("exit", WorkerError, r"exit code 3"),
        ("local", WorkerError, r"OwnError: of a kind that cannot be sent"),
        ("raise", KeyError, "no such example"),
    ):
        with pytest.raises(error, match=text) as caught:
            list(data.DataLoader(Failing(how), 4, num_workers=2))
        if how == "raise":
            assert "in worker 1 of a DataLoader, making batch 1" in caught.value.__notes__[0]
            assert "__getitem__" in caught.value.__notes__[0]
    with pytest.raises(WorkerError, match=r"more than 0.2 s"):
        list(data.DataLoader(Failing("sleep"), 4, num_workers=2, timeout=0.2))

    def bad_start(worker: int) -> None:
        raise ValueError("cannot begin")

    with pytest.raises(ValueError, match="cannot begin"):
        list(data.DataLoader(Noisy(), 4, num_workers=2, worker_init_fn=bad_start))
    assert time.perf_counter() - start < 10


@forks
@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="looks into /proc")
def test_workers_end_with_a_program_that_is_killed() -> None:
    program = (
        "import os, signal, time\n"
        "from minigrad import data\n"
        "batches = iter(data.DataLoader(list(range(1000)), 2, num_workers=2))\n"
        "next(batches)\n"
        "import multiprocessing\n"
        "print(*[p.pid for p in multiprocessing.active_children()], flush=True)\n"
        "time.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(mg.__file__))}
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=env)
    assert running.stdout
    pids = [int(word) for word in running.stdout.readline().split()]
    assert len(pids) == 2
    running.kill()
    running.wait()
    running.stdout.close()

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


@forks
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("own", [False, True])
def test_it_continues_where_it_was(workers: int, own: bool) -> None:
    def made() -> data.DataLoader:
        return data.DataLoader(
            Noisy(), 4, shuffle=True, num_workers=workers, generator=Generator(5) if own else None
        )

    mg.manual_seed(9)
    loader = made()
    whole = [*bits(loader), *bits(loader), *bits(loader)]
    for stop in (0, 1, 5, 6, 9, 12):
        mg.manual_seed(9)
        first, seen = made(), []
        while len(seen) < stop:
            for batch in first:
                seen += bits([batch])
                if len(seen) == stop:
                    break
        state, rng = first.state_dict(), mg.get_rng_state()
        stream = first.generator.get_state() if first.generator else None
        mg.manual_seed(123)
        second = made()
        second.load_state_dict(state)
        mg.set_rng_state(rng)
        if stream and second.generator:
            second.generator.set_state(stream)
        assert second.state_dict() == state
        while len(seen) < 18:
            seen += bits(second)
        assert seen == whole, stop


def test_state_of_another_loader_is_refused() -> None:
    state = data.DataLoader(mg.zeros(10), 2).state_dict()
    with pytest.raises(ArgumentError, match="5 batches, this one has 4"):
        data.DataLoader(mg.zeros(10), 3).load_state_dict(state)
    with pytest.raises(ArgumentError, match="10 examples, this one has 9"):
        data.DataLoader(mg.zeros(9), 2).load_state_dict(state)
    with pytest.raises(ArgumentError, match="are needed"):
        data.DataLoader(mg.zeros(9), 2).load_state_dict({"epoch": 1})


# -- samplers ------------------------------------------------------------------------------------------


def test_weighted_sampling_follows_the_weights() -> None:
    weights = np.array([0.0, 1.0, 2.0, 0.0, 5.0, 0.0])
    drawn = np.array(list(data.WeightedRandomSampler(weights, 80_000, generator=Generator(1))))
    expected = weights / weights.sum()
    # five standard deviations of a share
    tolerance = 5 * np.sqrt(expected * (1 - expected) / len(drawn))
    assert (np.abs(np.bincount(drawn, minlength=6) / len(drawn) - expected) <= tolerance).all()
    without = [
        list(data.WeightedRandomSampler(weights, 2, replacement=False, generator=Generator(s)))
        for s in range(3000)
    ]
    assert all(len(set(pair)) == 2 and {*pair} <= {1, 2, 4} for pair in without)
    first = np.bincount([pair[0] for pair in without], minlength=6) / len(without)
    assert (np.abs(first - expected) <= 5 * np.sqrt(expected * (1 - expected) / len(without))).all()


def test_samplers() -> None:
    assert list(data.SequentialSampler(range(4))) == [0, 1, 2, 3]
    assert sorted(data.RandomSampler(range(6))) == list(range(6))
    twice = list(data.RandomSampler(range(6), num_samples=12))
    assert sorted(twice[:6]) == sorted(twice[6:]) == list(range(6))
    assert len(list(data.RandomSampler(range(3), replacement=True, num_samples=50))) == 50
    assert len(set(data.RandomSampler(range(3), replacement=True, num_samples=50))) == 3
    assert sorted(data.SubsetRandomSampler([5, 1, 3])) == [1, 3, 5]
    loader = data.DataLoader(np.arange(10), 4, sampler=data.SubsetRandomSampler([5, 1, 3, 7, 9]))
    assert len(loader) == 2
    assert sorted(np.concatenate([x.numpy() for (x,) in loader])) == [1, 3, 5, 7, 9]
    pairs = data.DataLoader(np.arange(10), batch_sampler=[[0, 9], [3], [4, 4, 4]])
    assert [x.tolist() for (x,) in pairs] == [[0, 9], [3], [4, 4, 4]]
    batches = data.BatchSampler(data.SequentialSampler(range(5)), 2, drop_last=True)
    assert [x.tolist() for (x,) in data.DataLoader(np.arange(5), batch_sampler=batches)] == [[0, 1], [2, 3]]
    assert [x.tolist() for (x,) in data.DataLoader(np.arange(3), sampler=[2, 0], batch_size=2)] == [[2, 0]]
    singles = data.DataLoader(np.arange(3.0), batch_size=None)
    assert [x.item() for (x,) in singles] == [0.0, 1.0, 2.0]
    both = data.DataLoader([1, 2, 3], 2, collate_fn=lambda examples: examples)
    assert list(both) == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("weights", "count", "replacement", "text"),
    [
        ([1.0, -1.0], 1, True, "non-negative"),
        ([0.0, 0.0], 1, True, "all are 0"),
        ([1.0, np.nan], 1, True, "finite"),
        ([1.0, 0.0], 2, False, "2 samples without replacement of 1"),
        ([[1.0]], 1, True, "shape"),
        ([1.0], 0, True, "num_samples"),
    ],
)
def test_weights_that_make_no_sense(weights: Any, count: int, replacement: bool, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        data.WeightedRandomSampler(weights, count, replacement)


# -- sets of sets ----------------------------------------------------------------------------------------


def test_subsets_and_chains() -> None:
    one = data.TensorDataset(np.arange(5), np.arange(5) * 2.0)
    two = data.TensorDataset(np.arange(5, 8), np.arange(5, 8) * 2.0)
    chain = one + two
    assert chain.batched
    assert [int(chain[i][0]) for i in range(-8, 8)] == list(range(8)) * 2
    x, y = chain[np.array([7, 0, 5, 4, 0])]
    assert x.tolist() == [7, 0, 5, 4, 0]
    assert y.tolist() == [14.0, 0.0, 10.0, 8.0, 0.0]
    assert chain[np.zeros(0, int)][0].shape == (0,)
    part = data.Subset(chain, [6, 2, -1])
    assert part[np.array([2, 0])][0].tolist() == [7, 6]
    assert part[1][0].item() == 2
    slow = data.ConcatDataset([[1, 2], [3]])
    assert not slow.batched
    assert [x.tolist() for x in data.DataLoader(slow, 2)] == [[1, 2], [3]]
    for problem in (lambda: data.Subset(one, [5]), lambda: chain[8]):
        with pytest.raises(OutOfRangeError, match=r"of . examples"):
            problem()
    with pytest.raises(DTypeError, match="list of integers"):
        data.Subset(one, [0.5])
    with pytest.raises(ArgumentError, match="no data sets"):
        data.ConcatDataset([])


def test_random_split() -> None:
    whole = data.TensorDataset(np.arange(10))
    parts = data.random_split(whole, [0.5, 0.25, 0.25], Generator(0))
    assert [len(p) for p in parts] == [6, 2, 2]
    assert sorted(np.concatenate([p.indices for p in parts])) == list(range(10))
    again = data.random_split(whole, [6, 2, 2], Generator(0))
    assert [p.indices.tolist() for p in parts] == [p.indices.tolist() for p in again]
    for bad in ([5, 4], [0.5, 0.4], [11, -1], [9.5, 0.5]):
        with pytest.raises(ArgumentError, match="add up"):
            data.random_split(whole, bad)
    with pytest.raises(DTypeError, match="integers"):
        data.random_split(whole, ["5", "5"])  # type: ignore[list-item]


# -- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prefetch_factor": 2}, "without workers"),
        ({"persistent_workers": True}, "without workers"),
        ({"timeout": 1.0}, "without workers"),
        ({"num_workers": -1}, "num_workers"),
        ({"num_workers": 1, "prefetch_factor": 0}, "prefetch_factor"),
        ({"num_workers": 1, "timeout": -1}, "timeout"),
        ({"sampler": [1], "shuffle": True}, "both given"),
        ({"batch_sampler": [[1]], "batch_size": 2}, "decides all of them"),
        ({"batch_size": None, "drop_last": True}, "drop_last"),
    ],
)
def test_options_that_contradict(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        data.DataLoader(mg.zeros(3), **options)


def test_ragged_batches() -> None:
    for examples, text in (
        ([np.zeros(2), np.zeros(3)], r"shapes \(2,\), \(3,\)"),
        ([(1, 2), (1,)], "several lengths"),
        ([{"a": 1}, {"b": 1}], "several sets of keys"),
    ):
        with pytest.raises(ShapeError, match=text):
            list(data.DataLoader(examples, 2))
    with pytest.raises(ArgumentError, match="use one of"):
        list(data.DataLoader([1], 1, num_workers=1, multiprocessing_context="thread"))
