"""What a group of processes can do: the interface of an engine, and the two that are here.

An engine moves arrays between ranks. `Alone` is a group of one, where every collective is a copy; `Shared` is
processes of one machine around a segment of memory (`csrc/distributed/group.c`). All collectives are called
by all ranks, in the same order, with arrays of the same shape and dtype; calling something else is an error
that names both calls, not a hang.

    >>> import numpy as np
    >>> group = Alone()
    >>> group.all_reduce(np.arange(3.0), "mean", 1.0)
    array([0., 1., 2.])

Left out: a segment without the C kernels. Python has no atomic operations, and a wait without them is a
guess."""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import tempfile
import threading
import weakref
from typing import Any, Protocol, cast

import numpy as np

from ..errors import ArgumentError, DTypeError, Error

Array = np.ndarray[Any, Any]

#: What a reduction may be, in the order of `MG_GROUP_`.
REDUCTIONS = ("sum", "mean", "prod", "max", "min")
#: Dtypes in the order of `MG_T_`.
DTYPES = ("float32", "float64", "bool", "uint8", "int8", "int32", "int64", "int16")
#: Collectives by number, for messages.
KINDS = (
    "nothing yet",
    "barrier",
    "all_reduce",
    "reduce",
    "reduce_scatter",
    "broadcast",
    "all_gather",
    "send",
    "recv",
    "exchange",
)

#: Bytes of one buffer (a rank has two), and of the mailbox of a pair of ranks. Memory that is never used is
#: never taken.
SLOT, MAIL = 8 << 20, 1 << 18
#: Bytes that a rank's programs may have of memory that all ranks reach; what does not fit is copied instead.
HEAP = 256 << 20
#: Seconds without a heartbeat after which a rank counts as hung.
SILENT = 3.0
#: Collectives that a log has room for.
LOGGED = 100_000


class DistributedError(Error, RuntimeError):
    """A rank that failed, did not come in time, or did something else than the others.

    rank: which one, None if no single one is to blame.  lost: whether its process is gone or does not
    answer, rather than having raised.
    """

    rank: int | None = None
    lost: bool = False


class Engine(Protocol):
    """What the rest of the package needs of a group. Arrays are C-contiguous; ranks are those of the group.

    rank, size: the own number, and how many there are.  ranks: the numbers of all in the world, the group
    of all processes that were started together.
    """

    rank: int
    size: int
    ranks: tuple[int, ...]

    def new_group(self, ranks: tuple[int, ...]) -> Engine:
        """A group of some ranks of the world, in rising order, which all of the world must ask for; an
        `Outside` for those who are not in it.  Of the world only."""

    def set_timeout(self, seconds: float) -> None:
        """Wait so long for other ranks, and no longer."""

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def broadcast(self, x: Array, root: int) -> None:
        """Overwrite x with that of rank `root`."""

    def all_reduce(self, x: Array, op: str, weight: float, out: Array | None = None, tag: int = 0) -> Array:
        """The reduction of all x, in the order of ranks; "mean" weighs each rank with its `weight`.

        tag: a number that all ranks must give alike.
        """

    def reduce(self, x: Array, op: str, root: int, out: Array | None = None) -> Array | None:
        """The same for rank `root` alone; None for others."""

    def reduce_scatter(self, x: Array, op: str) -> Array:
        """x is (size, ...): part `rank` of the reduction."""

    def all_gather(self, x: Array) -> Array:
        """All x, stacked along a new first dimension."""

    def send(self, x: Array, to: int) -> None:
        """Hand x to rank `to`, which receives it."""

    def recv(self, x: Array, source: int) -> None:
        """Fill x with what rank `source` sends."""

    def exchange(self, x: Array, to: int, y: Array, source: int) -> None:
        """Hand x to rank `to`, and fill y with what rank `source` sends, both of any size."""

    def start_log(self) -> None:
        """Note every collective from now on, of groups that are part of this one as well."""

    def stop_log(self) -> Array:
        """What was noted: (events, 5) int64, begin, end, waiting (nanoseconds), index in `KINDS`, bytes."""

    def close(self) -> None:
        """Leave the group."""


class Alone:
    """A group of one."""

    rank, size = 0, 1
    ranks: tuple[int, ...] = (0,)

    def new_group(self, ranks: tuple[int, ...]) -> Engine:
        """Another one."""
        return Alone()

    def __repr__(self) -> str:
        return "group of 1"

    def set_timeout(self, seconds: float) -> None:
        """Nobody to wait for."""

    def barrier(self) -> None:
        """Nobody to wait for."""

    def broadcast(self, x: Array, root: int) -> None:
        """x is that of rank 0 already."""

    def all_reduce(self, x: Array, op: str, weight: float, out: Array | None = None, tag: int = 0) -> Array:
        """x, copied."""
        if out is None:
            return x.copy()
        out[...] = x
        return out

    def reduce(self, x: Array, op: str, root: int, out: Array | None = None) -> Array | None:
        """x, copied."""
        return self.all_reduce(x, op, 1.0, out)

    def reduce_scatter(self, x: Array, op: str) -> Array:
        """The only part."""
        part: Array = x[0].copy()
        return part

    def all_gather(self, x: Array) -> Array:
        """x alone."""
        return x[None].copy()

    def send(self, x: Array, to: int) -> None:
        """Refused: there is nobody else."""
        raise ArgumentError(
            "send", f"rank {to} of a group of one", fix="start several: minigrad.distributed.run"
        )

    def recv(self, x: Array, source: int) -> None:
        """Refused: there is nobody else."""
        raise ArgumentError(
            "recv", f"rank {source} of a group of one", fix="start several: minigrad.distributed.run"
        )

    def exchange(self, x: Array, to: int, y: Array, source: int) -> None:
        """Refused: there is nobody else."""
        self.send(x, to)

    def start_log(self) -> None:
        """There is nothing to note."""

    def stop_log(self) -> Array:
        """Nothing was noted."""
        return np.zeros((0, 5), np.int64)

    def close(self) -> None:
        """Nothing to leave."""


class Outside:
    """What a process has of a group that it is not in: its ranks; everything else is refused."""

    rank = size = -1
    ranks: tuple[int, ...]

    def __init__(self, ranks: tuple[int, ...]) -> None:
        self.ranks = ranks

    def __repr__(self) -> str:
        return f"group of ranks {self.ranks}, without this one"

    def close(self) -> None:
        """Nothing to leave."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DistributedError(
            name,
            f"this process is none of the ranks {self.ranks} of the group",
            fix="ask minigrad.distributed.get_rank(group) first, which is -1 outside of a group",
        )


def _kernels() -> tuple[Any, Any]:
    try:
        found = importlib.import_module("minigrad._kernels")
    except ImportError:
        raise DistributedError(
            "distributed",
            "processes share memory through the C kernels, which are not built",
            fix="install a C compiler and reinstall minigrad, or train in one process",
        ) from None
    return found.ffi, found.lib


def describe_call(kind: int, dtype: int, op: int, root: int, n: int) -> str:
    """A collective in words; the numbers are indices of `KINDS`, `DTYPES` and `REDUCTIONS`.

    >>> describe_call(2, 0, 1, -1, 300)
    'all_reduce(mean) of 300 float32'
    """
    name = KINDS[kind]
    if name in ("all_reduce", "reduce", "reduce_scatter"):
        to = f" to rank {root}" if name == "reduce" else ""
        return f"{name}({REDUCTIONS[op]}) of {n} {DTYPES[dtype]}{to}"
    if name == "broadcast":
        return f"broadcast of {n} bytes from rank {root}"
    if name in ("send", "recv", "exchange"):
        way = {"send": "to", "recv": "from", "exchange": "with"}[name]
        return f"{name} of {n} bytes {way} rank {root} of its group"
    return f"{name} of {n} bytes" if name == "all_gather" else name


def agree(world: Engine, ranks: tuple[int, ...]) -> None:
    """Raise ArgumentError unless all ranks of the world ask for a group of the same ranks."""
    mine = np.zeros(world.size, np.uint8)
    mine[list(ranks)] = 1
    for rank, theirs in enumerate(world.all_gather(mine)):
        if (theirs != mine).any():
            others = tuple(int(r) for r in theirs.nonzero()[0])
            raise ArgumentError(
                "new_group",
                f"rank {world.rank} asks for a group of ranks {ranks} where rank {rank} asks for {others}",
                fix="all ranks must ask for all groups, in the same order, in them or not",
            )


def share_processors(ranks: int) -> None:
    """Use as many threads as each of `ranks` processes can have, unless somebody has said how many."""
    allowed = processors()
    if "MINIGRAD_NUM_THREADS" in os.environ or allowed < (os.cpu_count() or 1):  # or bound to some by mpirun
        return
    with contextlib.suppress(ImportError):
        importlib.import_module("minigrad._kernels").lib.mg_set_num_threads(max(1, allowed // ranks))


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Closed:
    """What a group calls when it has been left."""

    def __getattr__(self, name: str) -> Any:
        raise DistributedError(
            "distributed",
            "the group was left by destroy_process_group()",
            fix="leave it when all work is done",
        )


class Segment:
    """The memory of a group: made by whoever starts the ranks, mapped by each of them.

    It has no name anywhere (a memory file, or a temporary file that is unlinked at once), only a
    descriptor, so whatever way the processes end, nothing is left behind."""

    def __init__(self, fd: int, length: int, start: int = 0) -> None:
        self.fd, self.length = fd, length
        self.map = mmap.mmap(fd, length, offset=start)
        self.ffi, self.lib = _kernels()
        self._memory = self.ffi.from_buffer(self.map)
        self.pointer = self.ffi.cast("void *", self._memory)

    @classmethod
    def create(cls, size: int, slot: int = SLOT, mail: int = MAIL) -> Segment:
        """A new segment for `size` ranks."""
        _, lib = _kernels()
        length = lib.mg_group_bytes(size, slot, mail, HEAP)
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("minigrad", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, length)
        segment = cls(fd, length)
        lib.mg_group_create(segment.pointer, size, slot, mail, HEAP)
        return segment

    def abort(self, rank: int) -> None:
        """Let every wait of the group end: rank `rank` has failed."""
        self.lib.mg_group_abort(self.pointer, rank)

    def watch(self, rank: int) -> Any:
        """How a rank is: a `struct mg_watch`."""
        seen = self.ffi.new("struct mg_watch *")
        self.lib.mg_group_watch(self.pointer, rank, seen)
        return seen

    def doing(self, rank: int, half: int | None = None) -> str:
        """The last collective of a rank, in words."""
        seen = self.watch(rank)
        half = 2 if half is None else half
        return describe_call(seen.kind[half], seen.type[half], seen.op[half], seen.root[half], seen.n[half])

    def add(self, start: int, size: int, create: bool) -> Segment:
        """Further memory of the same file, from byte `start` on, for a group of `size` ranks."""
        length = self.lib.mg_group_bytes(size, SLOT, MAIL, 0)
        if create:
            os.ftruncate(self.fd, start + length)
        segment = Segment(os.dup(self.fd), length, start)
        if create:
            self.lib.mg_group_create(segment.pointer, size, SLOT, MAIL, 0)
        return segment

    def close(self) -> None:
        """Give the memory and its descriptor back; the last user's goes to the system."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.ffi.release(self._memory)
            with contextlib.suppress(BufferError):  # a program that has a part of it is its last user
                self.map.close()
            self.lib = _Closed()


class Shared:
    """A rank of a group of processes on this machine.

    timeout: seconds that a wait may take before it is an error.  world, ranks: for a group of some of the
    ranks, the world, and the numbers there.  watching: nobody else looks whether all ranks live.
    Raises DistributedError from any call if another rank has failed, left or come to another collective."""

    def __init__(
        self,
        segment: Segment,
        rank: int,
        timeout: float,
        *,
        world: Shared | None = None,
        ranks: tuple[int, ...] | None = None,
        watching: bool = False,
    ) -> None:
        self.segment, self._watching = segment, watching
        self._ffi, self._lib = segment.ffi, segment.lib
        self._member = member = self._ffi.new("struct mg_member *")
        if world is None:
            status = self._lib.mg_group_join(member, segment.pointer, rank)
        else:
            status = self._lib.mg_group_join_part(member, segment.pointer, rank, world._member)
        self._check("init_process_group", status)
        self.rank, self.size = rank, int(member.size)
        self.ranks = tuple(range(self.size)) if ranks is None else ranks
        self._world = world
        self._lent: list[tuple[Any, int, int]] = []  # of the heap: whose it is, where, and how much
        self._parts: list[Shared] = []  # groups of some of the ranks
        self._end = segment.length  # of the file, with all groups
        self._heart: threading.Thread | None = None
        member.timeout = self.timeout = timeout
        if world is not None:
            return
        member.spins = 3000 if self.size <= processors() else 0
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._live, name="minigrad heartbeat", daemon=True)
        self._heart.start()

    def new_group(self, ranks: tuple[int, ...]) -> Engine:
        """A group of these ranks; it has memory of its own, in the same file."""
        agree(self, ranks)
        start = self._end = -(-self._end // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        first = self.segment.add(start, len(ranks), True) if self.rank == ranks[0] else None
        self.barrier()
        self._end += int(self._lib.mg_group_bytes(len(ranks), SLOT, MAIL, 0))
        if self.rank not in ranks:
            return cast(Engine, Outside(ranks))
        segment = first or self.segment.add(start, len(ranks), False)
        group = Shared(segment, ranks.index(self.rank), self.timeout, world=self, ranks=ranks)
        self._parts.append(group)
        return group

    def _live(self) -> None:
        """Show that this process answers."""
        while not self._ended.wait(0.3):
            self._lib.mg_group_beat(self._member)
            for r in range(self.size) if self._watching else ():
                seen = self.segment.watch(r)
                if seen.joined and not seen.left and seen.silent > SILENT:
                    self.segment.abort(r)

    def __repr__(self) -> str:
        return f"group of {self.size}"

    def set_timeout(self, seconds: float) -> None:
        """Wait so long for other ranks, and no longer."""
        self._member.timeout = self.timeout = float(seconds)

    @property
    def waited(self) -> float:
        """Seconds spent waiting for other ranks so far."""
        return float(self._member.waited) * 1e-9

    def _check(self, op: str, status: int) -> None:
        if not status:
            return
        member, lib = self._member, self._lib
        at = int(member.other)
        if status == lib.MG_EARG:
            raise ArgumentError(
                op, "arguments that the group does not support", fix="check ranks, dtypes and sizes"
            )
        me, other = self.ranks[self.rank], at if status == lib.MG_EABORT else self.ranks[at]
        if status == lib.MG_ETIME:
            problem = f"rank {me} waited {self.timeout:g} s for rank {other}, which did not come"
            fix = "look at what that rank does, or pass a larger timeout"
        elif status in (lib.MG_EPEER, lib.MG_EABORT):
            what = "has left the group" if status == lib.MG_EPEER else "has failed"
            problem, fix = f"rank {other} {what}", "every rank must make the same calls"
        elif op in ("recv", "exchange"):
            problem = f"rank {other} sent {member.sent} bytes where {self._wanted} were expected"
            fix = "receive into a tensor of the shape and dtype that is sent"
        else:
            mine = self.segment.doing(self.rank, member.half)
            theirs = self.segment.doing(at, member.half)
            problem = f"rank {me} calls {mine} while rank {other} calls {theirs}"
            fix = "every rank must make the same calls in the same order, with the same shapes"
        error = DistributedError(op, problem, fix=fix)
        error.rank = other
        raise error

    def _pointer(self, x: Array) -> Any:
        return self._ffi.cast("void *", x.__array_interface__["data"][0])

    def _type(self, op: str, x: Array) -> int:
        if x.dtype.name not in DTYPES:
            raise DTypeError(op, f"{x.dtype} cannot be reduced", fix=f"use one of {', '.join(DTYPES)}")
        return DTYPES.index(x.dtype.name)

    def instruction(self, dtype: Any, reduction: str) -> tuple[Any, int, int]:
        """What a captured program needs to call `all_reduce` in C: this rank, and both numbers."""
        return self._member, DTYPES.index(dtype.name), REDUCTIONS.index(reduction)

    def shared(self, size: int) -> Array | None:
        """Memory for what a program reduces, where other ranks reach it; None if there is no more.

        It begins at a cache line, and is this rank's again when the array is gone."""
        if self._world is not None:
            return self._world.shared(size)
        self._lent = [(ref, at, length) for ref, at, length in self._lent if ref() is not None]
        total = self._ffi.new("int64_t *")
        start = self._lib.mg_group_heap(self._member, total)
        at, room = 0, -(-size // 4096) * 4096
        for _, taken, length in sorted(self._lent, key=lambda lent: lent[1]):
            if at + room <= taken:
                break
            at = taken + length
        if at + room > total[0]:
            return None
        first = int(self._ffi.cast("char *", start) - self._ffi.cast("char *", self.segment.pointer))
        array = np.frombuffer(self.segment.map, np.uint8, size, first + at)
        self._lent.append((weakref.ref(array), at, room))
        return array

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self._check("barrier", self._lib.mg_group_barrier(self._member))

    def broadcast(self, x: Array, root: int) -> None:
        """Overwrite x with that of rank `root`."""
        status = self._lib.mg_group_broadcast(self._member, root, x.nbytes, self._pointer(x))
        self._check("broadcast", status)

    def all_reduce(self, x: Array, op: str, weight: float, out: Array | None = None, tag: int = 0) -> Array:
        """The reduction of all x; out may be x."""
        y = np.empty_like(x) if out is None else out
        status = self._lib.mg_group_all_reduce(
            self._member,
            self._type("all_reduce", x),
            REDUCTIONS.index(op),
            x.size,
            self._pointer(x),
            self._pointer(y),
            weight,
            tag,
        )
        self._check("all_reduce", status)
        return y

    def reduce(self, x: Array, op: str, root: int, out: Array | None = None) -> Array | None:
        """The reduction of all x, for rank `root`."""
        y = None if self.rank != root else np.empty_like(x) if out is None else out
        pointer = self._ffi.NULL if y is None else self._pointer(y)
        status = self._lib.mg_group_reduce(
            self._member,
            self._type("reduce", x),
            REDUCTIONS.index(op),
            root,
            x.size,
            self._pointer(x),
            pointer,
        )
        self._check("reduce", status)
        return y

    def reduce_scatter(self, x: Array, op: str) -> Array:
        """Part `rank` of the reduction of all x, which are (size, ...)."""
        y = np.empty(x.shape[1:], x.dtype)
        status = self._lib.mg_group_reduce_scatter(
            self._member,
            self._type("reduce_scatter", x),
            REDUCTIONS.index(op),
            y.size,
            self._pointer(x),
            self._pointer(y),
        )
        self._check("reduce_scatter", status)
        return y

    def all_gather(self, x: Array) -> Array:
        """All x, stacked."""
        y = np.empty((self.size, *x.shape), x.dtype)
        status = self._lib.mg_group_all_gather(self._member, x.nbytes, self._pointer(x), self._pointer(y))
        self._check("all_gather", status)
        return y

    def send(self, x: Array, to: int) -> None:
        """Hand x to rank `to`; returns when it is in its mailbox."""
        self._check("send", self._lib.mg_group_send(self._member, to, x.nbytes, self._pointer(x)))

    def recv(self, x: Array, source: int) -> None:
        """Fill x with the next message of rank `source`."""
        self._wanted = x.nbytes
        self._check("recv", self._lib.mg_group_recv(self._member, source, x.nbytes, self._pointer(x)))

    def exchange(self, x: Array, to: int, y: Array, source: int) -> None:
        """Hand x to rank `to` while y is filled by rank `source`."""
        self._wanted = y.nbytes
        status = self._lib.mg_group_exchange(
            self._member, to, x.nbytes, self._pointer(x), source, y.nbytes, self._pointer(y)
        )
        self._check("exchange", status)

    def start_log(self) -> None:
        """Note every collective from now on."""
        self._events = np.zeros((LOGGED, 5), np.int64)
        self._log = self._ffi.new("struct mg_log *")
        self._log.most = LOGGED
        self._log.events = self._ffi.cast("struct mg_event *", self._pointer(self._events))
        for group in (self, *self._parts):
            group._member.log = self._log

    def stop_log(self) -> Array:
        """What was noted."""
        for group in (self, *self._parts):
            group._member.log = self._ffi.NULL
        return self._events[: min(int(self._log.count), LOGGED)].copy()

    def close(self) -> None:
        """Leave the group, and all that are part of it: whoever waits for this rank from now on gets an
        error at once."""
        if isinstance(self._lib, _Closed):
            return
        for part in self._parts:
            part.close()
        if self._heart is not None:
            self._ended.set()
            self._heart.join()
        self._lib.mg_group_leave(self._member)
        self._member.failed = self._lib.MG_EPEER  # for programs that still have it
        self._lib = _Closed()
        self.segment.close()


__all__ = ["DTYPES", "REDUCTIONS", "Alone", "DistributedError", "Engine", "Outside", "Segment", "Shared"]
