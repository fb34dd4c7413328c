"""Worker processes that make batches ahead of the program that uses them.

    program    ── task: batch number, indices ──>   worker: fetches, stacks
               <── reply: where each array is ──    and copies arrays into a slot of shared memory

Batch k goes to worker k mod n and waits in one of that worker's slots until it is its turn, so batches
come in order whichever worker is faster, and at most n * prefetch of them exist at once.  A slot is a
file without a name in memory: nothing is left behind however a program ends.  The program copies a batch
out of its slot (a fraction of the time of any work that is worth a worker) and gives the slot back.

**No hangs.**  The program waits for a reply and for the end of the process at once, so a worker that was
killed is an error that names the signal.  A worker looks whether its parent is alive every second, and
closes what it inherited of the others' pipes, so it ends when the program does, even by SIGKILL.

**The same numbers.**  The default generator is seeded for each batch from the pass and the batch's
number, in a worker and without workers alike, so that an example that draws random numbers does not
depend on how many workers there are.  (In workers Python's and numpy's global generators are seeded too,
so that two workers never draw the same; only this package's agree with a run without workers.)

Workers start by fork where that exists, as it hands over the data set without copying it; elsewhere the
data set is sent to them and arrays come through the pipe.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, Error
from ..philox import philox
from ..random import default_generator
from ..tensor import Tensor, wrap
from ..tree import Structure, flatten
from .sets import tell_epoch

Array = np.ndarray[Any, Any]

#: What makes a batch of indices.
Fetch = Callable[[Any], Any]

_ALIGN = 64  # bytes: where an array begins in a slot
_POLL = 1.0  # seconds between looks whether the parent is alive


class WorkerError(Error, RuntimeError):
    """A loader's worker process ended, or did not answer in time."""


class Task(NamedTuple):
    """A batch to be made: its number in the pass, the pass, the key of its random numbers, its indices."""

    number: int
    epoch: int
    key: int
    indices: Any
    slot: int


class _Placed(NamedTuple):
    """Where an array is in a slot."""

    offset: int
    shape: tuple[int, ...]
    dtype: str
    tensor: bool


@contextlib.contextmanager
def seeded(key: int, epoch: int, number: int) -> Iterator[None]:
    """The default generator with the stream of one batch, and as it was afterwards."""
    words = philox(key, (epoch << 32) | number, 2)
    before = default_generator.get_state()
    default_generator.set_state((int(words[0]) << 32 | int(words[1]), 0))
    try:
        yield
    finally:
        default_generator.set_state(before)


# -- slots ---------------------------------------------------------------------------------------


class _Slot:
    """Shared memory of one batch: a file without a name, mapped by both sides, that grows as needed."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.file = os.memfd_create("minigrad-batch")
        else:
            with tempfile.TemporaryFile() as file:
                self.file = os.dup(file.fileno())
        self.size = 0
        self.memory: mmap.mmap | None = None

    def map(self, size: int) -> mmap.mmap:
        """The memory, of at least this many bytes."""
        if self.memory is None or self.size < size:
            if os.fstat(self.file).st_size < size:
                os.ftruncate(self.file, size)
            self.memory = mmap.mmap(self.file, size)
            self.size = size
        return self.memory

    def close(self) -> None:
        """Give the memory back."""
        self.memory = None
        os.close(self.file)


def _pack(batch: Any, slot: _Slot | None) -> tuple[Structure, list[Any], int]:
    """Leaves of a batch with its arrays moved into the slot (or left, to go through the pipe)."""
    leaves, structure = flatten(batch)
    placed: list[Any] = []
    arrays: list[tuple[int, Array]] = []
    end = 0
    for leaf in leaves:
        is_tensor = isinstance(leaf, Tensor)
        array = leaf.detach()._array if is_tensor else leaf
        if isinstance(array, np.ndarray) and array.dtype.kind in "fiubc":
            array = np.ascontiguousarray(array) if slot is not None else array
            placed.append(
                _Placed(end, array.shape, array.dtype.str, is_tensor)
                if slot is not None
                else (array, is_tensor)
            )
            arrays.append((end, array))
            end += -(-array.nbytes // _ALIGN) * _ALIGN
        else:
            placed.append((leaf, False))
    if slot is not None and end:
        memory = slot.map(end)
        for offset, array in arrays:
            np.frombuffer(memory, array.dtype, array.size, offset)[...] = array.reshape(-1)
    return structure, placed, end


def _unpack(structure: Structure, placed: list[Any], size: int, slot: _Slot | None) -> Any:
    leaves: list[Any] = []
    for leaf in placed:
        if isinstance(leaf, _Placed):
            count = int(np.prod(leaf.shape, dtype=np.int64))
            array: Any = np.empty(leaf.shape, leaf.dtype)
            if count and slot is not None:
                array.reshape(-1)[...] = np.frombuffer(slot.map(size), leaf.dtype, count, leaf.offset)
            leaves.append(wrap(array) if leaf.tensor else array)
        else:
            value, is_tensor = leaf
            leaves.append(wrap(value) if is_tensor else value)
    return structure.build(leaves)


# -- the worker ------------------------------------------------------------------------------------


def _work(
    conn: Connection,
    inherited: list[Any],
    slots: list[_Slot | None],
    dataset: Any,
    fetch: Fetch,
    init: Callable[[int], Any] | None,
    me: int,
    parent: int,
) -> None:
    """The life of a worker: tasks come, batches go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the program's to handle
    for other in inherited:
        other.close()
    try:
        if init is not None:
            init(me)
        while True:
            while not conn.poll(_POLL):
                if os.getppid() != parent:
                    return
            task = conn.recv()
            if task is None:
                return
            try:
                conn.send((task.number, *_made(task, dataset, fetch, slots[task.slot]), None, ""))
            except Exception as error:
                _send_error(conn, task.number, error)
    except (EOFError, OSError):
        return  # the program is gone
    except Exception as error:  # of `init`
        with contextlib.suppress(OSError):
            _send_error(conn, -1, error)


def _made(task: Task, dataset: Any, fetch: Fetch, slot: _Slot | None) -> tuple[Structure, list[Any], int]:
    tell_epoch(dataset, task.epoch)
    words = philox(task.key, (task.epoch << 32) | task.number, 4)
    random.seed(int(words[2]))
    np.random.seed(int(words[3]))  # noqa: NPY002 - for data sets that use it
    with seeded(task.key, task.epoch, task.number):
        return _pack(fetch(task.indices), slot)


def _send_error(conn: Connection, number: int, error: Exception) -> None:
    text = "".join(traceback.format_exception(error))
    try:
        conn.send((number, None, [], 0, error, text))
    except OSError:
        raise
    except Exception:  # an exception that cannot cross: its text does
        conn.send((number, None, [], 0, None, text))


# -- the program's side ------------------------------------------------------------------------------


class Workers:
    """A crew of worker processes.  Raises WorkerError when one ends or takes longer than `timeout`."""

    def __init__(
        self,
        count: int,
        prefetch: int,
        dataset: Any,
        fetch: Fetch,
        *,
        init: Callable[[int], Any] | None = None,
        timeout: float = 0.0,
        method: str | None = None,
    ) -> None:
        available = multiprocessing.get_all_start_methods()
        method = method or (
            "fork" if sys.platform.startswith("linux") else multiprocessing.get_start_method()
        )
        if method not in available:
            raise ArgumentError(
                "DataLoader",
                f"multiprocessing_context is {method!r}",
                fix=f"use one of {', '.join(available)}",
            )
        context: Any = multiprocessing.get_context(method)
        shared = method == "fork"
        self.prefetch, self.timeout = prefetch, timeout
        self.slots: list[list[_Slot | None]] = [
            [_Slot() if shared else None for _ in range(prefetch)] for _ in range(count)
        ]
        self.pipes: list[Connection] = []
        self.processes: list[Any] = []
        try:
            for me in range(count):
                mine, theirs = context.Pipe()
                self.pipes.append(mine)
                inherited = list(self.pipes) if shared else []
                process = context.Process(
                    target=_work,
                    args=(theirs, inherited, self.slots[me], dataset, fetch, init, me, os.getpid()),
                    daemon=True,
                    name=f"minigrad-loader-{me}",
                )
                with warnings.catch_warnings():
                    # the pool of the kernels has threads, and is made to be forked
                    warnings.simplefilter("ignore", DeprecationWarning)
                    process.start()
                theirs.close()
                self.processes.append(process)
        except BaseException:
            self.close()
            raise

    def run(self, batches: list[Any], epoch: int, key: int, first: int = 0) -> Iterator[Any]:
        """The batches of these lists of indices, from number `first` on, in order."""
        count, ahead = len(self.processes), len(self.processes) * self.prefetch
        sent, last = first, len(batches)
        for number in range(first, last):
            while sent < last and sent < number + ahead:
                self._send(sent % count, Task(sent, epoch, key, batches[sent], sent // count % self.prefetch))
                sent += 1
            which = number % count
            replied, structure, placed, size, error, text = self._reply(which, number)
            if structure is None:
                raise _raised(which, replied, error, text)
            yield _unpack(structure, placed, size, self.slots[which][number // count % self.prefetch])

    def _send(self, which: int, task: Task) -> None:
        try:
            self.pipes[which].send(task)
        except OSError:
            # it has said why it ends, or has ended: `_reply` tells when its turn comes
            if not self.pipes[which].poll() and self.processes[which].is_alive():
                self.processes[which].join(1.0)

    def _reply(self, which: int, number: int) -> Any:
        pipe, process = self.pipes[which], self.processes[which]
        ready = wait([pipe, process.sentinel], self.timeout or None)
        if not ready:
            raise WorkerError(
                "DataLoader",
                f"worker {which} took more than {self.timeout} s for batch {number}",
                fix="raise timeout=, or find out what it waits for with num_workers=0",
            )
        try:
            if pipe in ready or pipe.poll():
                return pipe.recv()
        except (EOFError, OSError):
            pass
        process.join(5.0)
        raise WorkerError(
            "DataLoader",
            f"worker {which} ended while making batch {number} ({_ending(process.exitcode)})",
            fix="run with num_workers=0 to see why; killed workers are often out of memory",
        )

    def close(self) -> None:
        """End all workers."""
        for pipe in self.pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        for process in self.processes:
            if process.is_alive():
                process.terminate()
        for process in self.processes:
            process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        for slots in self.slots:
            for slot in slots:
                if slot is not None:
                    slot.close()
        self.pipes, self.processes, self.slots = [], [], []


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def _raised(which: int, number: int, error: Exception | None, text: str) -> Exception:
    """The error of a worker, with the traceback that it had there."""
    if error is None:
        lines = text.strip().splitlines()
        error = WorkerError(
            "DataLoader", f"in worker {which}: {lines[-1] if lines else '?'}", fix="run with num_workers=0"
        )
    at = "its worker_init_fn" if number < 0 else f"batch {number}"
    error.add_note(f"in worker {which} of a DataLoader, making {at}:\n{text}")
    return error
