"""The thread pool: any number of callers, forks, and settings that change under way."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from minigrad.backends import c

if not c.available:
    pytest.skip(c.reason, allow_module_level=True)

N = 160


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = c.num_threads()
    c.set_num_threads(4)
    yield
    c.set_num_threads(before)


def product() -> bytes:
    x = np.random.default_rng(0).standard_normal((N, N)).astype(np.float32)
    return c.matmul(x, x.T).tobytes()


def test_default_is_what_affinity_allows() -> None:
    c.lib.mg_set_num_threads(0)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert c.num_threads() == allowed


def test_many_small_jobs_with_pauses() -> None:
    want = product()
    for i in range(600):
        assert product() == want
        if i % 100 == 0:
            time.sleep(0.002)  # longer than the workers spin: they must be woken


def test_number_of_threads_changes_between_jobs() -> None:
    want = product()
    for threads in (1, 5, 2, 9, 1, 3, 300):
        c.set_num_threads(threads)
        assert all(product() == want for _ in range(30))


def test_two_callers_at_once() -> None:
    want = product()
    failures: list[int] = []

    def caller(index: int) -> None:
        for _ in range(200):
            if product() != want:
                failures.append(index)

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_while_the_pool_is_running() -> None:
    want = product()
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            product()

    other = threading.Thread(target=busy)
    other.start()
    try:
        for _ in range(5):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
                child = os.fork()
            if child == 0:
                signal.alarm(20)  # a deadlock ends the child
                os._exit(0 if all(product() == want for _ in range(20)) else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert product() == want
    finally:
        stop.set()
        other.join()


def test_a_busy_machine_does_not_hang() -> None:
    """More threads than cores, all of them wanted by somebody else too."""
    want = product()
    stop = threading.Event()
    bits = c.ffi.new("uint32_t[]", 1 << 16)

    def hog() -> None:
        while not stop.is_set():
            c.lib.mg_random_bits(0, 0, 1 << 16, bits)  # releases the GIL

    hogs = [threading.Thread(target=hog) for _ in range(3)]
    for thread in hogs:
        thread.start()
    c.set_num_threads(8)
    begin = time.monotonic()
    assert all(product() == want for _ in range(50))
    stop.set()
    for thread in hogs:
        thread.join()
    assert time.monotonic() - begin < 30
