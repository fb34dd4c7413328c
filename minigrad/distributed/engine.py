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

import importlib
import mmap
import os
import tempfile
import threading
from typing import Any, Protocol

import numpy as np

from ..errors import ArgumentError, DTypeError, Error

Array = np.ndarray[Any, Any]

#: What a reduction may be, in the order of `MG_GROUP_`.
REDUCTIONS = ("sum", "mean", "prod", "max", "min")
#: Dtypes in the order of `MG_T_`.
DTYPES = ("float32", "float64", "bool", "uint8", "int8", "int32", "int64", "int16")
#: Collectives by number, for messages.
KINDS = ("nothing yet", "barrier", "all_reduce", "reduce", "reduce_scatter", "broadcast", "all_gather")

#: Bytes of one buffer (a rank has two), and of the mailbox of a pair of ranks. Memory that is never used is
#: never taken.
SLOT, MAIL = 8 << 20, 1 << 18


class DistributedError(Error, RuntimeError):
    """A rank that failed, did not come in time, or did something else than the others.

    rank: which one, None if no single one is to blame.
    """

    rank: int | None = None


class Engine(Protocol):
    """What the rest of the package needs of a group. Arrays are C-contiguous."""

    rank: int
    size: int

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

    def close(self) -> None:
        """Leave the group."""


class Alone:
    """A group of one."""

    rank, size = 0, 1

    def __repr__(self) -> str:
        return "group of 1"

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

    def close(self) -> None:
        """Nothing to leave."""


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

    def __init__(self, fd: int, length: int) -> None:
        self.fd, self.length = fd, length
        self.map = mmap.mmap(fd, length)
        self.ffi, self.lib = _kernels()
        self._memory = self.ffi.from_buffer(self.map)
        self.pointer = self.ffi.cast("void *", self._memory)

    @classmethod
    def create(cls, size: int, slot: int = SLOT, mail: int = MAIL) -> Segment:
        """A new segment for `size` ranks."""
        _, lib = _kernels()
        length = lib.mg_group_bytes(size, slot, mail)
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("minigrad", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, length)
        segment = cls(fd, length)
        lib.mg_group_create(segment.pointer, size, slot, mail)
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
        if half is None:
            half = 0 if seen.turn == 0 or not seen.kind[1] else 1
        kind, n = KINDS[seen.kind[half]], seen.n[half]
        if kind in ("all_reduce", "reduce", "reduce_scatter"):
            root = f" to rank {seen.root[half]}" if kind == "reduce" else ""
            return f"{kind}({REDUCTIONS[seen.op[half]]}) of {n} {DTYPES[seen.type[half]]}{root}"
        if kind == "broadcast":
            return f"broadcast of {n} bytes from rank {seen.root[half]}"
        return f"{kind} of {n} bytes" if kind == "all_gather" else kind

    def close(self) -> None:
        """Give the memory and its descriptor back; the last user's goes to the system."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.ffi.release(self._memory)
            self.map.close()
            self.lib = _Closed()


class Shared:
    """A rank of a group of processes on this machine.

    timeout: seconds that a wait may take before it is an error.  Raises DistributedError from any call if
    another rank has failed, left or come to another collective."""

    def __init__(self, segment: Segment, rank: int, timeout: float) -> None:
        self.segment = segment
        self._ffi, self._lib = segment.ffi, segment.lib
        self._member = member = self._ffi.new("struct mg_member *")
        self._check("init_process_group", self._lib.mg_group_join(member, segment.pointer, rank))
        self.rank, self.size = rank, int(member.size)
        member.timeout = self.timeout = timeout
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        member.spins = 3000 if self.size <= processors else 0
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._live, name="minigrad heartbeat", daemon=True)
        self._heart.start()

    def _live(self) -> None:
        """Show that this process answers."""
        while not self._ended.wait(0.3):
            self._lib.mg_group_beat(self._member)

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
        other = int(member.other)
        if status == lib.MG_ETIME:
            problem = f"rank {member.rank} waited {self.timeout:g} s for rank {other}, which did not come"
            fix = "look at what that rank does, or pass a larger timeout"
        elif status == lib.MG_EPEER:
            gone = self.segment.watch(other).left
            what = "has left the group" if gone else "has failed"
            problem, fix = f"rank {other} {what}", "every rank must make the same calls"
        elif status == lib.MG_EDIFFER and op == "recv":
            problem = f"rank {other} sent {member.sent} bytes where {self._wanted} were expected"
            fix = "receive into a tensor of the shape and dtype that is sent"
        elif status == lib.MG_EDIFFER:
            mine = self.segment.doing(member.rank, member.half)
            theirs = self.segment.doing(other, member.half)
            problem = f"rank {member.rank} calls {mine} while rank {other} calls {theirs}"
            fix = "every rank must make the same calls in the same order, with the same shapes"
        else:
            raise ArgumentError(
                op, "arguments that the group does not support", fix="check ranks, dtypes and sizes"
            )
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

    def close(self) -> None:
        """Leave the group: whoever waits for this rank from now on gets an error at once."""
        self._ended.set()
        self._heart.join()
        self._lib.mg_group_leave(self._member)
        self._member.failed = self._lib.MG_EPEER  # for programs that still have it
        self._lib = _Closed()
        self.segment.close()


__all__ = ["DTYPES", "REDUCTIONS", "Alone", "DistributedError", "Engine", "Segment", "Shared"]
