"""More that ranks do together: gather and scatter, all-to-all, collectives of one long tensor, and objects.

All of it is made of what an engine can do (`engine.Engine`), so it runs on shared memory and on MPI alike.
Where only some ranks send or receive, all tell each other first, in a few bytes, what they are about to
do: ranks that call different things get an error that names both, and not a wait without an end.

    >>> import minigrad as mg
    >>> found = [None]
    >>> all_gather_object(found, {"loss": 0.5, "best": mg.ones(2)})
    >>> found
    [{'loss': 0.5, 'best': tensor([1., 1.])}]

**Objects** are nests of dicts, lists and tuples with tensors, arrays, numbers, strings and None: what
`minigrad.checkpoint` stores, in the same bytes. PyTorch pickles them, and so runs whatever another rank
sends; here nothing is run, and other objects are refused. Send their `state_dict()`.

**`async_op=True`** does the work at once, and returns a `Work` that is done: a rank has one processor, and
nobody would do the work in the meantime. Left out for the same reason: `isend` and `irecv`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..checkpoint import dumps, loads
from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Tensor, wrap
from .engine import Array, Engine
from .group import ReduceOp, Work, _array, _check_list, _check_op, _number, finished, of

#: What these calls are known by when ranks compare them.
_CALLS = ("gather", "scatter", "all_to_all", "all_to_all_single")


def _same(op: str, group: Engine, *numbers: int) -> None:
    """Raise ArgumentError unless all ranks are about to do the same, with the same numbers."""
    mine = np.array([_CALLS.index(op), *numbers, *([0] * (4 - len(numbers)))], np.int64)
    for rank, theirs in enumerate(group.all_gather(mine)):
        if (theirs != mine).any():
            other = _CALLS[int(theirs[0])]
            raise ArgumentError(
                op,
                f"rank {group.ranks[group.rank]} calls {op} (root, bytes: {mine[1:3].tolist()}) while rank "
                f"{group.ranks[rank]} calls {other} (root, bytes: {theirs[1:3].tolist()})",
                fix="every rank must make the same calls in the same order, with the same shapes",
            )


def _writable(op: str, tensor: Any, shape: tuple[int, ...], dtype: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise DTypeError(op, f"a {type(tensor).__name__} is no tensor", fix="pass minigrad.zeros(...)")
    if tensor.shape != shape or tensor.dtype != dtype:
        raise ShapeError(
            op,
            f"an output of {tensor.dtype}{tensor.shape} for {dtype}{shape}",
            fix="make it of the shape and dtype that come out",
        )
    return tensor


def all_gather_into_tensor(
    output_tensor: Tensor, input_tensor: Tensor, group: Engine | None = None, async_op: bool = False
) -> Work | None:
    """Write the tensors of all ranks into one, (ranks, ...) or joined along the first dimension."""
    mine = of(group)
    x = _array("all_gather_into_tensor", input_tensor)
    joined = (mine.size * x.shape[0], *x.shape[1:]) if x.ndim else (mine.size,)
    wanted = (mine.size, *x.shape) if output_tensor.ndim == x.ndim + 1 else joined
    y = _writable("all_gather_into_tensor", output_tensor, wanted, x.dtype)
    y.assign(wrap(mine.all_gather(x).reshape(wanted)))
    return finished(async_op)


def reduce_scatter_tensor(
    output: Tensor,
    input: Tensor,
    op: str = ReduceOp.SUM,
    group: Engine | None = None,
    async_op: bool = False,
) -> Work | None:
    """Write into `output` this rank's part of the reduction of `input`: (ranks, ...), or parts that are
    joined along the first dimension."""
    _check_op("reduce_scatter_tensor", op, output)
    mine = of(group)
    x = _array("reduce_scatter_tensor", input)
    joined = (mine.size * output.shape[0], *output.shape[1:]) if output.ndim else (mine.size,)
    wanted = (mine.size, *output.shape) if x.ndim == output.ndim + 1 else joined
    if x.shape != wanted or x.dtype != output.dtype:
        raise ShapeError(
            "reduce_scatter_tensor",
            f"an input of {x.dtype}{x.shape} for an output of {output.dtype}{output.shape}",
            fix=f"pass {output.dtype}{wanted} on {mine.size} ranks",
        )
    output.assign(wrap(mine.reduce_scatter(x.reshape(mine.size, *output.shape), op)))
    return finished(async_op)


def gather(
    tensor: Tensor,
    gather_list: Sequence[Tensor] | None = None,
    dst: int = 0,
    group: Engine | None = None,
    async_op: bool = False,
) -> Work | None:
    """Write the tensors of all ranks into `gather_list` of rank `dst`; others pass none.

    Raises ArgumentError if a list is missing there, or given elsewhere.
    """
    mine = of(group)
    root, x = _number("gather", dst, mine), _array("gather", tensor)
    if (gather_list is not None) != (mine.rank == root):
        what = "no gather_list" if gather_list is None else "a gather_list"
        raise ArgumentError("gather", f"{what} on rank {mine.rank} with dst={dst}", fix="pass it on rank dst")
    if gather_list is not None:
        _check_list("gather", gather_list, tensor, mine)
    _same("gather", mine, root, x.nbytes)
    if gather_list is None:
        mine.send(x, root)
    else:
        for rank, target in enumerate(gather_list):
            y = x if rank == root else np.empty_like(x)
            if rank != root:
                mine.recv(y, rank)
            target.assign(wrap(y))
    return finished(async_op)


def scatter(
    tensor: Tensor,
    scatter_list: Sequence[Tensor] | None = None,
    src: int = 0,
    group: Engine | None = None,
    async_op: bool = False,
) -> Work | None:
    """Fill `tensor` with this rank's element of `scatter_list` of rank `src`; others pass none.

    Raises ArgumentError if a list is missing there, or given elsewhere.
    """
    mine = of(group)
    root = _number("scatter", src, mine)
    like = _array("scatter", tensor)
    if (scatter_list is not None) != (mine.rank == root):
        what = "no scatter_list" if scatter_list is None else "a scatter_list"
        raise ArgumentError(
            "scatter", f"{what} on rank {mine.rank} with src={src}", fix="pass it on rank src"
        )
    if scatter_list is not None:
        _check_list("scatter", scatter_list, tensor, mine)
    _same("scatter", mine, root, like.nbytes)
    if scatter_list is None:
        y = np.empty_like(like)
        mine.recv(y, root)
    else:
        for rank, part in enumerate(scatter_list):
            if rank != root:
                mine.send(_array("scatter", part), rank)
        y = _array("scatter", scatter_list[root])
    tensor.assign(wrap(y))
    return finished(async_op)


def all_to_all(
    output_tensor_list: Sequence[Tensor],
    input_tensor_list: Sequence[Tensor],
    group: Engine | None = None,
    async_op: bool = False,
) -> Work | None:
    """Hand element r of the input to rank r, and get element `rank` of each one's; parts may differ in shape.

    Raises ShapeError if there are not as many as ranks, DistributedError if a part does not fit.
    """
    mine = of(group)
    for given in (output_tensor_list, input_tensor_list):
        if len(given) != mine.size:
            raise ShapeError(
                "all_to_all", f"{len(given)} tensors for {mine.size} ranks", fix="pass one for each rank"
            )
    _same("all_to_all", mine)
    sent = [_array("all_to_all", t) for t in input_tensor_list]
    got = [np.empty(t.shape, t.dtype) for t in output_tensor_list]
    _shift(mine, sent, got)
    for target, y in zip(output_tensor_list, got, strict=True):
        target.assign(wrap(y))
    return finished(async_op)


def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: Engine | None = None,
    async_op: bool = False,
) -> Work | None:
    """The same with parts along the first dimension of one tensor, equal ones unless their sizes are given.

    Raises ShapeError for sizes that are not those of the tensor.
    """
    mine = of(group)
    parts: list[list[Array]] = []
    y = np.empty(output.shape, output.dtype)
    for name, x, sizes in (
        ("output", y, output_split_sizes),
        ("input", _array("all_to_all_single", input), input_split_sizes),
    ):
        rows = x.shape[0] if x.ndim else 0
        split = [rows // mine.size] * mine.size if sizes is None else [int(n) for n in sizes]
        if len(split) != mine.size or sum(split) != rows or min(split) < 0:
            raise ShapeError(
                "all_to_all_single",
                f"an {name} of {rows} rows in parts of {split} for {mine.size} ranks",
                fix=f"pass {name}_split_sizes: one for each rank, {rows} in all",
            )
        ends = np.cumsum([0, *split])
        parts.append([x[a:b] for a, b in itertools.pairwise(ends)])
    _same("all_to_all_single", mine)
    _shift(mine, parts[1], parts[0])
    output.assign(wrap(y))
    return finished(async_op)


def _shift(group: Engine, sent: Sequence[Array], got: Sequence[Array]) -> None:
    """Round k: to the rank k further on, from the one k before; in each round all ranks are busy."""
    if sent[group.rank].shape != got[group.rank].shape:
        raise ShapeError(
            "all_to_all",
            f"the part for oneself is {sent[group.rank].shape}, its place {got[group.rank].shape}",
            fix="make them alike",
        )
    got[group.rank][...] = sent[group.rank]
    for k in range(1, group.size):
        to, source = (group.rank + k) % group.size, (group.rank - k) % group.size
        group.exchange(sent[to], to, got[source], source)


# -- objects -------------------------------------------------------------------------------------------------


def _packed(op: str, value: Any) -> Array:
    try:
        return np.frombuffer(dumps([value]), np.uint8).copy()
    except DTypeError as error:
        raise DTypeError(
            op,
            f"{error.problem} (objects are sent as checkpoints are stored)",
            fix="send tensors, arrays, numbers, strings, and lists, tuples and dicts of them: a state_dict()",
        ) from None


def _unpacked(data: Array) -> Any:
    return loads(data.tobytes())[0]


def _gathered(data: Array, group: Engine) -> list[Any]:
    """The bytes of all ranks."""
    sizes = group.all_gather(np.array([data.size], np.int64))[:, 0]
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    return [row[:n] for row, n in zip(group.all_gather(padded), sizes, strict=True)]


def _check_objects(op: str, values: Any, group: Engine) -> None:
    if not isinstance(values, list) or len(values) != group.size:
        what = f"{len(values)} places" if isinstance(values, list) else f"a {type(values).__name__}"
        raise ArgumentError(
            op, f"{what} for {group.size} ranks", fix="pass a list with a place for each rank"
        )


def all_gather_object(object_list: list[Any], obj: Any, group: Engine | None = None) -> None:
    """Put the objects of all ranks into `object_list`, which has a place for each rank."""
    mine = of(group)
    _check_objects("all_gather_object", object_list, mine)
    object_list[:] = [_unpacked(data) for data in _gathered(_packed("all_gather_object", obj), mine)]


def gather_object(
    obj: Any, object_gather_list: list[Any] | None = None, dst: int = 0, group: Engine | None = None
) -> None:
    """Put the objects of all ranks into `object_gather_list` of rank `dst`; others pass none."""
    mine = of(group)
    root = _number("gather_object", dst, mine)
    if mine.rank == root:
        _check_objects("gather_object", object_gather_list, mine)
    every = _gathered(_packed("gather_object", obj), mine)
    if mine.rank == root and object_gather_list is not None:
        object_gather_list[:] = [_unpacked(data) for data in every]


def broadcast_object_list(object_list: list[Any], src: int = 0, group: Engine | None = None) -> None:
    """Replace the objects of a list, as long on all ranks, by those of rank `src`."""
    mine = of(group)
    root = _number("broadcast_object_list", src, mine)
    object_list[:] = _from_root(mine, root, lambda: _packed("broadcast_object_list", list(object_list)))


def scatter_object_list(
    scatter_object_output_list: list[Any],
    scatter_object_input_list: list[Any] | None = None,
    src: int = 0,
    group: Engine | None = None,
) -> None:
    """Make this rank's object of the input list of rank `src` the first one of the output list."""
    mine = of(group)
    root = _number("scatter_object_list", src, mine)
    if mine.rank == root:
        _check_objects("scatter_object_list", scatter_object_input_list, mine)
    every = _from_root(mine, root, lambda: _packed("scatter_object_list", scatter_object_input_list))
    scatter_object_output_list[:1] = [every[mine.rank]]


def _from_root(group: Engine, root: int, pack: Callable[[], Array]) -> Any:
    data = pack() if group.rank == root else np.empty(0, np.uint8)
    size = np.array([data.size])
    group.broadcast(size, root)
    if group.rank != root:
        data = np.empty(int(size[0]), np.uint8)
    group.broadcast(data, root)
    return _unpacked(data)


__all__ = [
    "all_gather_into_tensor",
    "all_gather_object",
    "all_to_all",
    "all_to_all_single",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "reduce_scatter_tensor",
    "scatter",
    "scatter_object_list",
]
