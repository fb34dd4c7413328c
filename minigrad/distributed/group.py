"""The group that this process belongs to, and what its ranks do together.

The functions are those of `torch.distributed`: they change tensors in place, and all ranks must call them,
in the same order. Without a group a process is one of one, so a script runs unchanged by itself:

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0])
    >>> all_reduce(x), get_rank(), get_world_size()
    (tensor([1., 2.]), 0, 1)

Inside of a captured step `all_reduce` becomes part of the program. Sums are taken in the order of ranks, so
the bits are the same on all ranks and in all runs.

**Groups of some of the ranks.** `new_group` makes one; all collectives take it as `group`, and everybody in
it must call them. Ranks in arguments (`src`, `dst`) are numbers in the world, the group of all, as in
PyTorch. `init_device_mesh` (`mesh`) arranges the world as a table and makes a group for each of its rows.

`async_op=True` does the work at once, and returns a `Work` that is done. Further collectives, and objects:
`collectives`."""

from __future__ import annotations

import atexit
import datetime
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..mode import current
from ..ops import collective
from ..tensor import Symbol, Tensor, wrap
from . import mpi, rendezvous
from .engine import REDUCTIONS, Alone, Engine, Segment, Shared

#: Seconds that a rank waits for another one before that is an error.
TIMEOUT = 300.0

_alone = Alone()
_group: Engine | None = None


class ReduceOp:
    """Names of reductions, as in PyTorch; the strings themselves do as well."""

    SUM = "sum"
    AVG = "mean"
    PRODUCT = "prod"
    MAX = "max"
    MIN = "min"


def group() -> Engine:
    """The engine of the world, the group of all processes; a group of one, if this one has joined none."""
    return _group or _alone


def of(given: Engine | None) -> Engine:
    """What an argument `group` stands for: None is the world."""
    return (_group or _alone) if given is None else given


def join(engine: Engine) -> None:
    """Make this the group of the process."""
    global _group
    if _group is not None:
        raise ArgumentError(
            "init_process_group",
            "this process is in a group already",
            fix="call destroy_process_group() first",
        )
    _group = engine


def is_available() -> bool:
    """Whether processes can be joined here: whether the C kernels are built, and this is a Unix."""
    try:
        import minigrad._kernels  # noqa: F401
    except ImportError:
        return False
    return os.name == "posix"


def is_initialized() -> bool:
    """Whether this process has joined a group."""
    return _group is not None


#: Names that say: however this process was started.
_EITHER = (None, "gloo")


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: float | datetime.timedelta | None = None,
    world_size: int = -1,
    rank: int = -1,
) -> None:
    """Join the group that this process was started for.

    backend: "shm", the shared memory of one machine, for processes started by `minigrad.distributed.run` or
    `python -m minigrad.distributed.launch`; "mpi" for those that mpirun has started (`minigrad[mpi]`); None
    (or "gloo", as ported scripts say): what the process was started by, and a group of one if by neither.
    init_method: None or "env://": RANK and WORLD_SIZE in the environment, as torchrun sets them, make this
    one of several processes of this machine (`rendezvous`), and so do rank and world_size.
    timeout: seconds that a wait for another rank may take (300, or what the launcher was told).
    Inside of `run` the group has been joined already, and nothing happens.
    Raises ArgumentError for another backend than the process was started for, or numbers that are not its
    own, DistributedError if mpi4py is not here, or others do not come.
    """
    if init_method not in (None, "env://"):
        raise ArgumentError(
            "init_process_group",
            f"init_method is {init_method!r}",
            fix="use env://, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment",
        )
    if isinstance(timeout, datetime.timedelta):
        timeout = timeout.total_seconds()
    if timeout is not None and not timeout > 0:
        raise ArgumentError("init_process_group", f"a timeout of {timeout!r}", fix="pass seconds, above 0")
    if backend not in (*_EITHER, "shm", "mpi"):
        raise ArgumentError(
            "init_process_group",
            f"there is no backend {backend!r}",
            fix="use 'shm' (shared memory), 'mpi', or none",
        )
    fd = os.environ.get("MINIGRAD_GROUP_FD")
    given = rank >= 0 or world_size > 1
    began = "mpi" if fd is None and mpi.started() else "shm" if fd or given or rendezvous.asked() else None
    if backend not in _EITHER and began not in (backend, None):
        raise ArgumentError(
            "init_process_group",
            f"backend {backend!r} in a process that was started for {began!r}",
            fix="leave the backend out, or start it with mpirun (mpi) or minigrad.distributed.launch (shm)",
        )
    wanted = float(os.environ.get("MINIGRAD_GROUP_TIMEOUT", TIMEOUT)) if timeout is None else timeout
    if _group is not None:
        if timeout is not None:
            _group.set_timeout(float(timeout))
    elif fd is not None:
        segment = Segment(int(fd), os.fstat(int(fd)).st_size)
        join(Shared(segment, int(os.environ["RANK"]), wanted))
    elif "mpi" in (began, backend):
        join(mpi.join(wanted))
    elif began == "shm":
        join(rendezvous.join(wanted, rank if rank >= 0 else None, world_size if world_size > 0 else None))
        atexit.register(destroy_process_group)
    else:
        join(Alone())
    for name, asked, found in (("rank", rank, group().rank), ("world_size", world_size, group().size)):
        if asked not in (-1, found):
            raise ArgumentError(
                "init_process_group",
                f"{name}={asked} in a process that is rank {group().rank} of {group().size}",
                fix="leave rank and world_size out: whoever has started the process has numbered it",
            )


class Work:
    """What a collective with `async_op=True` returns: it is done."""

    def wait(self, timeout: Any = None) -> bool:
        """True, at once."""
        return True

    def is_completed(self) -> bool:
        """True."""
        return True

    is_success = is_completed


def finished(async_op: bool) -> Work | None:
    """What a collective returns."""
    return Work() if async_op else None


def get_backend(group: Engine | None = None) -> str:
    """ "shm", "mpi", or "alone" for a group of one."""
    engine = of(group)
    return "mpi" if isinstance(engine, mpi.MPI) else "alone" if isinstance(engine, Alone) else "shm"


def new_group(ranks: Sequence[int] | None = None) -> Engine:
    """A group of some ranks of the world (all of them, if None), to be passed as `group`.

    All processes of the world must call it, those in it and all others, in the same order; the others get
    a group whose `get_rank` is -1, and which refuses everything else.  Raises ArgumentError for ranks
    that do not exist, come twice, or are others than those that another rank asks for.
    """
    mine = group()
    wanted = range(mine.size) if ranks is None else ranks
    for rank in wanted:
        _check_rank("new_group", rank, mine)
    numbers = tuple(sorted(int(r) for r in wanted))
    if not numbers or len(set(numbers)) < len(numbers):
        raise ArgumentError("new_group", f"ranks {list(wanted)!r}", fix="name each rank once, at least one")
    return mine.new_group(numbers)


def destroy_process_group(group: Engine | None = None) -> None:
    """Leave a group; with the world, all groups."""
    global _group
    if group is not None and group is not _group:
        group.close()
    elif _group is not None:
        _group.close()
        _group = None


def get_rank(group: Engine | None = None) -> int:
    """The number of this process in a group, from 0; -1 if it is not in it."""
    return of(group).rank


def get_world_size(group: Engine | None = None) -> int:
    """How many processes a group has; -1 if this one is not in it."""
    return of(group).size


def get_process_group_ranks(group: Engine | None = None) -> list[int]:
    """The numbers that the processes of a group have in the world."""
    return list(of(group).ranks)


def get_group_rank(group: Engine, global_rank: int) -> int:
    """The number in a group of the process that is `global_rank` in the world."""
    return _number("get_group_rank", global_rank, group)


def get_global_rank(group: Engine, group_rank: int) -> int:
    """The number in the world of the process that is `group_rank` in a group."""
    _check_rank("get_global_rank", group_rank, group)
    return group.ranks[group_rank]


def barrier(group: Engine | None = None, async_op: bool = False) -> Work | None:
    """Wait until all ranks are here."""
    of(group).barrier()
    return finished(async_op)


def monitored_barrier(group: Engine | None = None, timeout: float | datetime.timedelta | None = None) -> None:
    """Wait until all ranks are here, at most `timeout` seconds; DistributedError names one that is not."""
    mine = of(group)
    if timeout is None:
        mine.barrier()
        return
    before = float(getattr(mine, "timeout", TIMEOUT))
    mine.set_timeout(timeout.total_seconds() if isinstance(timeout, datetime.timedelta) else timeout)
    try:
        mine.barrier()
    finally:
        mine.set_timeout(before)


def _check_op(op: str, reduction: str, tensor: Tensor) -> None:
    if reduction not in REDUCTIONS:
        raise ArgumentError(
            op, f"there is no reduction {reduction!r}", fix=f"use one of {', '.join(REDUCTIONS)}"
        )
    if not isinstance(tensor, Tensor):
        raise DTypeError(op, f"a {type(tensor).__name__} is no tensor", fix="pass minigrad.tensor(value)")
    if reduction == "mean" and tensor.dtype.kind != "f":
        raise DTypeError(op, f"the mean of {tensor.dtype} is no {tensor.dtype}", fix="convert with .float()")


def _check_rank(op: str, rank: int, group: Engine) -> None:
    size = len(group.ranks)
    if isinstance(rank, bool) or not isinstance(rank, (int, np.integer)) or not 0 <= rank < size:
        raise ArgumentError(op, f"rank {rank!r} of a group of {size}", fix=f"ranks are 0 to {size - 1}")


def _number(op: str, rank: int, group: Engine) -> int:
    """The number in a group of rank `rank` of the world."""
    if group.ranks == (*range(len(group.ranks)),):
        _check_rank(op, rank, group)
    elif isinstance(rank, bool) or rank not in group.ranks:
        raise ArgumentError(
            op,
            f"rank {rank!r} of the world is not in the group of ranks {group.ranks}",
            fix="ranks are counted in the world, not in the group",
        )
    return group.ranks.index(rank)


def _array(op: str, tensor: Tensor) -> Any:
    """The contiguous values of a tensor."""
    if not isinstance(tensor, Tensor):
        raise DTypeError(op, f"a {type(tensor).__name__} is no tensor", fix="pass minigrad.tensor(value)")
    return np.ascontiguousarray(tensor._concrete(op)).reshape(tensor.shape)


def all_reduce(
    tensor: Tensor, op: str = ReduceOp.SUM, group: Engine | None = None, async_op: bool = False
) -> Any:
    """Replace a tensor by its reduction over all ranks, outside of the history; returns it (or a `Work`).

    Same shape and dtype on all ranks.  Raises ArgumentError for an unknown reduction, DistributedError if
    another rank fails or calls something else.  With gradients: `minigrad.ops.collective`."""
    _check_op("all_reduce", op, tensor)
    mine = of(group)
    array = tensor._array
    if current().trace is None and not isinstance(array, Symbol):
        tensor._writable("all_reduce")
        if array.flags.c_contiguous:
            mine.all_reduce(array, op, 1.0, array)
        else:
            array[...] = mine.all_reduce(np.ascontiguousarray(array), op, 1.0)
        tensor._touch()
    else:
        tensor.assign(collective.all_reduce(tensor.detach(), mine, op))
    return finished(async_op) or tensor


def reduce(
    tensor: Tensor, dst: int, op: str = ReduceOp.SUM, group: Engine | None = None, async_op: bool = False
) -> Any:
    """Replace the tensor of rank `dst` by the reduction over all ranks; those of the others stay."""
    _check_op("reduce", op, tensor)
    mine = of(group)
    y = mine.reduce(_array("reduce", tensor), op, _number("reduce", dst, mine))
    if y is not None:
        tensor.assign(wrap(y))
    return finished(async_op) or tensor


def broadcast(tensor: Tensor, src: int, group: Engine | None = None, async_op: bool = False) -> Any:
    """Replace a tensor by that of rank `src`; returns it (or a `Work`)."""
    mine = of(group)
    root = _number("broadcast", src, mine)
    array = _array("broadcast", tensor)
    tensor._writable("broadcast")
    mine.broadcast(array, root)
    if array is tensor._array or np.shares_memory(array, tensor._array):
        tensor._touch()
    else:
        tensor.assign(wrap(array))
    return finished(async_op) or tensor


def all_gather(
    tensor_list: Sequence[Tensor], tensor: Tensor, group: Engine | None = None, async_op: bool = False
) -> Work | None:
    """Write the tensors of all ranks into `tensor_list`, in the order of ranks.

    Raises ShapeError if there are not as many as ranks, or one has another shape or dtype.
    """
    mine = of(group)
    _check_list("all_gather", tensor_list, tensor, mine)
    for target, value in zip(tensor_list, mine.all_gather(_array("all_gather", tensor)), strict=True):
        target.assign(wrap(value))
    return finished(async_op)


def reduce_scatter(
    output: Tensor,
    input_list: Sequence[Tensor],
    op: str = ReduceOp.SUM,
    group: Engine | None = None,
    async_op: bool = False,
) -> Any:
    """Write into `output` the reduction over all ranks of `input_list[rank]`; returns it."""
    _check_op("reduce_scatter", op, output)
    mine = of(group)
    _check_list("reduce_scatter", input_list, output, mine)
    parts = np.stack([_array("reduce_scatter", t) for t in input_list])
    output.assign(wrap(mine.reduce_scatter(parts, op)))
    return finished(async_op) or output


def _check_list(op: str, tensors: Sequence[Tensor], like: Tensor, group: Engine) -> None:
    size = group.size
    if len(tensors) != size:
        raise ShapeError(
            op, f"{len(tensors)} tensors for a group of {size}", fix="pass one tensor for each rank"
        )
    for k, t in enumerate(tensors):
        if t.shape != like.shape or t.dtype != like.dtype:
            raise ShapeError(
                op,
                f"tensor {k} is {t.dtype}{t.shape} beside one of {like.dtype}{like.shape}",
                fix="make all of them alike",
            )


def send(tensor: Tensor, dst: int, group: Engine | None = None) -> None:
    """Hand a tensor to rank `dst`, which must call `recv`; returns when it may be changed again."""
    mine = of(group)
    mine.send(_array("send", tensor), _number("send", dst, mine))


def recv(tensor: Tensor, src: int, group: Engine | None = None) -> Tensor:
    """Fill a tensor with what rank `src` sends, of the same shape and dtype; returns it."""
    mine = of(group)
    number = _number("recv", src, mine)
    tensor._writable("recv")
    array = np.empty(tensor.shape, tensor.dtype)
    mine.recv(array, number)
    return tensor.assign(wrap(array))


def average(value: Any, weight: float = 1.0, group: Engine | None = None) -> float:
    """The mean over ranks of a number, such as a metric, each rank counting with its weight (its
    examples)."""
    pair = np.array([float(value) * weight, weight], np.float64)
    total, weights = of(group).all_reduce(pair, "sum", 1.0)
    return float(total / weights)


__all__ = [
    "ReduceOp",
    "Work",
    "all_gather",
    "all_reduce",
    "average",
    "barrier",
    "broadcast",
    "destroy_process_group",
    "get_backend",
    "get_global_rank",
    "get_group_rank",
    "get_process_group_ranks",
    "get_rank",
    "get_world_size",
    "init_process_group",
    "is_available",
    "is_initialized",
    "monitored_barrier",
    "new_group",
    "recv",
    "reduce",
    "reduce_scatter",
    "send",
]
