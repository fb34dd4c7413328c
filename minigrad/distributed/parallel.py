"""DistributedDataParallel: a model whose gradients are those of the whole batch, on every rank.

Gradients are averaged while `backward` is still at work. Parameters are put into *buckets*, in the order in
which their gradients come; when the last gradient of a bucket is there, the bucket is reduced:

* a large gradient is a bucket of its own, and reduced where it lies;
* small ones are laid end to end first, as a collective costs some microseconds whatever it carries.

The mean is weighted by the number of examples that each rank has seen (the first size of the first argument
of the model), so a last batch that is smaller on some ranks is right.  A loss must be a mean over the
examples of its rank.

In a captured step (`minigrad.compile`) the reductions are operations of the program, between those that
compute gradients and those of the optimizer.  On shared memory nothing is copied there for a large gradient:
backward writes it where other ranks reach it, the mean takes its place, and the optimizer reads it.  Small
ones are copied once, as they are laid end to end.  Eagerly, and on MPI, the engine copies what it hands over.

References: Li et al. 2020 (PyTorch Distributed, VLDB 13; buckets and overlap); Goyal et al. 2017
(1706.02677, learning rates for large batches).  Left out: gradients in half precision."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import tape
from ..autograd import is_grad_enabled, no_grad
from ..errors import ArgumentError, DTypeError, GradientError
from ..mode import current
from ..nn.module import Module
from ..ops.collective import all_reduce
from ..ops.movement import cat
from ..tensor import Tensor, wrap
from .engine import DistributedError, Engine
from .group import of

#: A gradient of at least so many bytes is a bucket of its own.
LARGE = 1 << 16
#: Tags of reductions of statistics, which no bucket of gradients has.
STATISTICS = 1 << 21
#: Layers that wait for all ranks in their forward pass.
REDUCING = ("SyncBatchNorm", "ColumnParallelLinear", "RowParallelLinear", "ParallelMultiheadAttention")
#: How much small gradients are collected before they are reduced, in MB.
BUCKET_MB = 1.0


class DistributedDataParallel(Module):
    """`module`, the same on all ranks, with gradients averaged over ranks during `backward`.

    The parameters and buffers of rank 0 are copied to all ranks now.  bucket_cap_mb: how much small gradients
    are collected before they are reduced.  find_unused_parameters: a parameter that `backward` did not
    reach on this rank counts as one with a gradient of zero; without it, that is a GradientError.
    broadcast_buffers: after each forward pass in training, buffers of floating point (running means) become
    their means over ranks.  process_group: the ranks that have copies (`new_group`); None: the world.
    device_ids, output_device: None, as there are processors only.

    The wrapped model is `.module`; `state_dict()` has its names behind "module.", as in PyTorch.
    """

    def __init__(
        self,
        module: Module,
        *,
        bucket_cap_mb: float = BUCKET_MB,
        find_unused_parameters: bool = False,
        broadcast_buffers: bool = True,
        process_group: Engine | None = None,
        device_ids: None = None,
        output_device: None = None,
    ) -> None:
        super().__init__()
        op = "DistributedDataParallel"
        if device_ids is not None or output_device is not None:
            raise ArgumentError(
                op,
                f"device_ids={device_ids!r}, output_device={output_device!r}: there are processors only",
                fix="leave both out",
            )
        if not isinstance(module, Module):
            raise DTypeError(op, f"a {type(module).__name__} is no Module", fix="pass an nn.Module")
        learned = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        if not learned:
            raise ArgumentError(
                op,
                "the module has no parameter that requires grad",
                fix="use it as it is: there is nothing to average",
            )
        if not bucket_cap_mb > 0:
            raise ArgumentError(op, f"bucket_cap_mb is {bucket_cap_mb!r}", fix="pass megabytes, above 0")
        self.module = module
        self.broadcast_buffers = bool(broadcast_buffers)
        self._joining, self._must_be_even, self._steps = False, False, 0
        group = of(process_group)
        make_alike(op, module, group)
        self.reducer = Reducer(
            learned,
            group,
            cap=int(bucket_cap_mb * (1 << 20)),
            find_unused=bool(find_unused_parameters),
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes of this rank's examples."""
        first = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
        self.reducer.weight = weight_of(float(first.shape[0]) if first is not None and first.ndim else 1.0)
        if self._joining:
            self._announce()
        y = self.module(*args, **kwargs)
        if self.broadcast_buffers and self.training:
            self.reducer.average_buffers(self.module)
        return y

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients of this rank inside; the first `backward` outside averages their sum."""
        before, self.reducer.averaging = self.reducer.averaging, False
        try:
            yield
        finally:
            self.reducer.averaging = before

    @contextlib.contextmanager
    def join(self, enable: bool = True, throw_on_early_termination: bool = False) -> Iterator[None]:
        """Let ranks have different numbers of batches inside: one that has no more takes part in the
        reductions of the others, counting nothing, until all are done, and then has the model of the last.

        Forward passes must be followed by `backward`, and cost a small reduction more each.  enable: False
        does nothing.  throw_on_early_termination: raise on all ranks when the first one is done.
        Raises ArgumentError for a captured step, and for layers that reduce by themselves.
        """
        if not enable or self.reducer.group.size == 1:
            yield
            return
        for name, layer in self.module.named_modules():
            if type(layer).__name__ in REDUCING:
                raise ArgumentError(
                    "join",
                    f"layer {name!r} is a {type(layer).__name__}, which waits for all ranks",
                    fix="give all ranks as many batches, as DistributedSampler does",
                )
        self._joining, self._must_be_even, self._steps = True, bool(throw_on_early_termination), 0
        try:
            yield
        finally:
            self._joining = False
        self._stay()

    def _announce(self) -> None:
        """Say that this rank has another batch, and what it will reduce."""
        if current().trace is not None:
            raise ArgumentError(
                "join",
                "a captured step does the same reductions each time, and other ranks may have no batch",
                fix="call the step as it is, or give all ranks as many batches, as DistributedSampler does",
            )
        averages = self.reducer.averaging and is_grad_enabled()
        self._steps += 1
        busy = self._told([1.0, float(averages), float(self.broadcast_buffers and self.training)])[0]
        if self._must_be_even and busy < self.reducer.group.size:
            raise self._uneven()

    def _told(self, mine: list[float]) -> list[float]:
        summed: list[float] = self.reducer.group.all_reduce(np.array(mine), "sum", 1.0).tolist()
        return summed

    def _uneven(self) -> DistributedError:
        return DistributedError(
            "join",
            f"some ranks have no more batches, and this one has begun {self._steps}",
            fix="deal them out evenly, or pass throw_on_early_termination=False",
        )

    def _stay(self) -> None:
        """Take part in what others reduce, without examples, until they are done."""
        group, reducer = self.reducer.group, self.reducer
        while True:
            busy, averages, buffers = self._told([0.0, 0.0, 0.0])
            if not busy:
                break
            if self._must_be_even:
                raise self._uneven()
            reducer.weight = 0.0
            if buffers:
                reducer.average_buffers(self.module)
            if averages:
                reducer.reduce_nothing()
        steps = group.all_gather(np.array([self._steps]))[:, 0]
        copy_from(self.module, group, int(steps.argmax()))

    def average_now(self, examples: float) -> None:
        """Inside of `no_sync`: let the next `backward` average, on all ranks the sum of gradients so far.

        examples: of this rank, in all backward passes together, for the weights of the mean."""
        self.reducer.averaging, self.reducer.weight = True, float(examples)


class Reducer:
    """Averages the gradients of parameters over a group, while `backward` is still at work.

    parameters: with their names.  cap: bytes of small gradients that are collected.  reduction: "mean",
    weighted by `weight`, or "sum".  Ends with `close`.
    """

    def __init__(
        self,
        parameters: Sequence[tuple[str, Tensor]],
        group: Engine,
        *,
        cap: int = 1 << 20,
        find_unused: bool = False,
        reduction: str = "mean",
    ) -> None:
        self.group, self.reduction, self.find_unused = group, reduction, find_unused
        self.averaging = True
        self.weight = 1.0
        self._names = {id(p): name for name, p in parameters}
        self._buckets = buckets([p for _, p in parameters], cap)
        self._bucket_of = {id(p): k for k, bucket in enumerate(self._buckets) for p in bucket}
        self._missing: list[set[int]] = []
        self._next = 0
        self._running: Any = None  # what runs backward: a trace, or True
        alone = group.size == 1
        self._hooks = (
            [] if alone else [p.register_post_accumulate_grad_hook(self._arrived) for _, p in parameters]
        )

    def close(self) -> None:
        """Leave gradients alone from now on."""
        for hook in self._hooks:
            hook.remove()

    def reduce_all(self) -> None:
        """Average gradients that no hook has seen come, as those of a captured backward pass."""
        self._missing = [{id(q) for q in bucket if q.grad is None} for bucket in self._buckets]
        self._next = 0
        self._finish()

    def reduce_nothing(self) -> None:
        """Take part in the reductions of a backward pass that this rank does not have."""
        for k, bucket in enumerate(self._buckets):
            array = np.zeros(sum(p.numel() for p in bucket), bucket[0].dtype)
            self.group.all_reduce(array, self.reduction, 0.0, array, k)

    def average_buffers(self, module: Module) -> None:
        """Buffers of floating point become their means over ranks."""
        if self.group.size == 1:
            return
        buffers = [b for b in module.buffers() if b.dtype.kind == "f"]
        for dtype in sorted({b.dtype.name for b in buffers}):
            same = [b for b in buffers if b.dtype.name == dtype]
            with no_grad():
                flat = all_reduce(_flat(same), self.group, "mean", self.weight, len(self._buckets))
                for b, part in _parts(flat, same):
                    b.assign(part)

    # -- during backward ------------------------------------------------------------------------------------

    def _arrived(self, p: Tensor) -> None:
        """The gradient of a parameter is complete on this rank."""
        if not self.averaging:
            return
        trace = current().trace
        if self._running is not (trace or True):
            self._running = trace or True
            self._missing = [{id(q) for q in bucket} for bucket in self._buckets]
            self._next = 0
            tape.queue_callback(self._finish)
        self._missing[self._bucket_of[id(p)]].discard(id(p))
        while self._next < len(self._buckets) and not self._missing[self._next]:
            self._reduce(self._next)
            self._next += 1

    def _finish(self) -> None:
        """`backward` has ended: reduce what is left, if that is wanted."""
        self._running = None
        if self._next == len(self._buckets):
            return
        unused = [
            q
            for k in range(self._next, len(self._buckets))
            for q in self._buckets[k]
            if id(q) in self._missing[k]
        ]
        if unused and not self.find_unused:
            names = ", ".join(self._names[id(q)] for q in unused)
            raise GradientError(
                "DistributedDataParallel",
                f"backward did not reach {names}, so its bucket was not averaged",
                fix="use all parameters in the loss, or pass find_unused_parameters=True",
            )
        for q in unused:
            if q.grad is None:
                q.grad = q.detach() * 0.0
        while self._next < len(self._buckets):
            self._reduce(self._next)
            self._next += 1

    def _reduce(self, k: int) -> None:
        bucket = self._buckets[k]
        grads: list[Any] = [p.grad for p in bucket]
        trace = current().trace
        how = (self.group, self.reduction, self.weight, k)
        if trace is None and len(grads) == 1 and grads[0]._array.flags.c_contiguous:
            array = grads[0]._array
            self.group.all_reduce(array, self.reduction, self.weight, array, k)
            grads[0]._touch()
            return
        with no_grad():
            if len(grads) == 1:
                bucket[0].grad = all_reduce(grads[0].detach(), *how)
                return
            flat = all_reduce(_flat(grads), *how)
            for p, part in _parts(flat, bucket):
                p.grad = part if trace is not None else part.clone()


_idle = threading.local()


@contextlib.contextmanager
def idle(counts_nothing: bool = True) -> Iterator[None]:
    """What this rank computes inside counts nothing in means over ranks: it has no examples, and takes part
    so that the others are not left waiting."""
    before, _idle.now = getattr(_idle, "now", False), counts_nothing
    try:
        yield
    finally:
        _idle.now = before


def weight_of(examples: float) -> float:
    """What these examples count in a mean over ranks; nothing inside of `idle`."""
    return 0.0 if getattr(_idle, "now", False) else float(examples)


def sync_moments(x: Tensor, dims: tuple[int, ...], group: Engine) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of x over `dims` and over all ranks, each weighted by its elements; and how many
    these are, 0-d. Differentiable: the losses of the ranks count with the same weights."""
    n = weight_of(float(np.prod([x.shape[d] for d in dims])))
    mean = all_reduce(x.mean(dims), group, "mean", n, STATISTICS)
    centred = x - mean.reshape([1 if d in dims else s for d, s in enumerate(x.shape)])
    variance = all_reduce((centred * centred).mean(dims), group, "mean", n, STATISTICS + 1)
    count = all_reduce(wrap(np.array(n, x.dtype)), group, "sum", 1.0, STATISTICS + 2)
    return mean, variance, count


def part_of(count: int, group: Engine) -> tuple[int, int]:
    """Which of `count` examples are this rank's: from the first to before the second."""
    return count * group.rank // group.size, count * (group.rank + 1) // group.size


def make_alike(op: str, module: Module, group: Engine) -> None:
    """Give all ranks of a group the parameters and buffers of its rank 0.

    Raises ArgumentError, which names the first difference, if their models have not the same shapes."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    mine = "; ".join(f"{name} {t.dtype}{t.shape}" for name, t in tensors)
    text = np.frombuffer(mine.encode(), np.uint8)
    lengths = group.all_gather(np.array([text.size]))[:, 0]
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: text.size] = text
    for rank, other in enumerate(group.all_gather(padded)):
        theirs = other[: lengths[rank]].tobytes().decode()
        if theirs != mine:
            pairs = zip(mine.split("; "), theirs.split("; "), strict=False)
            counts = tuple([f"{t.count('; ') + 1} parameters and buffers" for t in (mine, theirs)])
            difference = next(((a, b) for a, b in pairs if a != b), counts)
            raise ArgumentError(
                op,
                f"rank {group.ranks[group.rank]} has {difference[0]} where rank {group.ranks[rank]} has "
                f"{difference[1]}",
                fix="build the same model on all ranks",
            )
    copy_from(module, group, 0)


def copy_from(module: Module, group: Engine, root: int) -> None:
    """Give all ranks of a group the parameters and buffers of one of them."""
    if group.size > 1:
        with no_grad():
            for t in (*module.parameters(), *module.buffers()):
                array = np.array(t._array, order="C")
                group.broadcast(array, root)
                t.assign(array)


def _flat(tensors: list[Tensor]) -> Tensor:
    return cat([t.detach().reshape(-1) for t in tensors])


def _parts(flat: Tensor, like: list[Any]) -> Iterator[tuple[Any, Tensor]]:
    start = 0
    for t in like:
        yield t, flat[start : start + t.numel()].reshape(t.shape)
        start += t.numel()


def buckets(parameters: list[Any], cap: int) -> list[list[Any]]:
    """Parameters in the order in which their gradients come (the last first): large ones apart, small ones
    together."""
    buckets: list[list[Any]] = []
    small: dict[str, list[Any]] = {}
    for p in reversed(parameters):
        if p._array.nbytes >= LARGE:
            buckets.append([p])
            continue
        together = small.setdefault(p.dtype.name, [])
        together.append(p)
        if sum(q._array.nbytes for q in together) >= cap:
            buckets.append(small.pop(p.dtype.name))
    return [*buckets, *small.values()]


__all__ = [
    "BUCKET_MB",
    "DistributedDataParallel",
    "Reducer",
    "buckets",
    "copy_from",
    "idle",
    "make_alike",
    "part_of",
    "sync_moments",
    "weight_of",
]
