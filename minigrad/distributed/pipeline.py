"""Pipeline parallel: each rank has some of the layers, and a batch comes in micro-batches.

With the layers of a model dealt out to S ranks (*stages*), a batch alone would keep one rank busy at a time.
Cut into m micro-batches, stage 0 takes up the second one while stage 1 is at the first (Huang et al. 2019,
GPipe, 1811.06965). Gradients of the micro-batches add up, so a step is that of the whole batch. Two orders:

    GPipe: all forward, all backward         1F1B: one forward, one backward, once the pipe is full
    stage 0   F0 F1 F2 F3 .. .. B0 B1 B2 B3            stage 0   F0 F1 .. B0 F2 B1 F3 B2 .. B3
    stage 1   .. F0 F1 F2 F3 B0 B1 B2 B3 ..            stage 1   .. F0 B0 F1 B1 F2 B2 F3 B3 ..

Both have the same gaps, (S-1)/(m+S-1) of the time; in 1F1B (Narayanan et al. 2019, PipeDream; Fan et al.
2021, DAPPLE, 2007.01045) a stage keeps the activations of at most S micro-batches instead of m. Both add
gradients in the order of micro-batches, so they give the same bits.

    stages = split_module(model, 2, example=x[:8])                   # or at=["4"]: by hand
    stage = PipelineStage(stages[rank], rank, 2)
    schedule = Schedule1F1B(stage, n_microbatches=4, loss_fn=nn.functional.cross_entropy)
    schedule.step(x) if rank == 0 else schedule.step(target=y, losses=losses)

Micro-batches may be of different sizes: a loss is weighted by its examples. With copies of the pipeline (data
parallel), pass `DistributedDataParallel(stages[k], process_group=mesh.get_group("data"))` as the module of a
stage: gradients are averaged after the last micro-batch.

    >>> from minigrad import nn
    >>> model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 2))
    >>> [list(stage.state_dict()) for stage in split_module(model, 2, costs=[3, 1, 9, 1])]
    [['0.weight', '0.bias'], ['2.weight', '2.bias', '3.weight', '3.bias']]

A stage is compiled: its forward and its backward pass are programs of their own, with messages between
them, and on the last stage, whose gradients come at once, one program (`minigrad.halves`). A stage whose
operations cannot be captured says so once, and runs eagerly.

The names are those of `torch.distributed.pipelining`. Left out: several stages on one rank (interleaved).
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import autograd
from ..autograd import no_grad
from ..compiled import compile as captured
from ..errors import ArgumentError, DTypeError, Error, ShapeError, TraceError, notice
from ..halves import Back, Halves, Whole
from ..mode import current
from ..nn.clip import clip_grads_with_norm_, get_total_norm
from ..nn.containers import Sequential
from ..nn.module import Module
from ..ops.collective import gather_from
from ..ops.movement import cat
from ..tensor import Tensor, wrap
from .engine import DTYPES, DistributedError, Engine
from .group import of
from .parallel import DistributedDataParallel, make_alike

#: Numbers that describe the tensors of a message: how many, then dtype, dimensions and sizes of each.
HEADER = 64
#: Kinds of micro-batches (shapes, mostly) that a stage is compiled for; with more of them it is not.
KINDS_MOST = 32


# -- splitting ---------------------------------------------------------------------------------------------


def split_module(
    model: Sequential,
    num_stages: int,
    *,
    at: Sequence[str | int] | None = None,
    costs: Sequence[float] | None = None,
    example: Any = None,
    group: Engine | None = None,
) -> list[Sequential]:
    """The layers of a `Sequential` as `num_stages` ones, whose costs are as even as possible.

    at: the layers with which stages 1, 2, ... begin, by name or position.  costs: of each layer, in any unit.
    example: an input, by which they are measured (forward and backward) on rank 0.  Without any of these
    a layer costs as much as it has parameters.  group: ranks that all get the weights of its rank 0, and
    its measurements.  Parts share the model's parameters, and keep their names.
    Raises ArgumentError for a model that is no Sequential, or has fewer layers than stages.
    """
    ranks = of(group)
    if not isinstance(model, Sequential):
        raise ArgumentError(
            "split_module",
            f"a {type(model).__name__} does not say in which order its parts are called",
            fix="put the parts into an nn.Sequential",
        )
    names = [name for name, _ in model.named_children()]
    if isinstance(num_stages, bool) or not isinstance(num_stages, int) or not 1 <= num_stages <= len(names):
        raise ArgumentError(
            "split_module",
            f"{len(names)} layers for {num_stages!r} stages",
            fix="choose at most as many stages as layers",
        )
    if sum(given is not None for given in (at, costs, example)) > 1:
        raise ArgumentError("split_module", "several of at, costs and example", fix="pass one of them")
    make_alike("split_module", model, ranks)
    if at is not None:
        starts = [0, *(_position(names, a) for a in at), len(names)]
        if len(at) != num_stages - 1 or any(b <= a for a, b in itertools.pairwise(starts)):
            raise ArgumentError(
                "split_module",
                f"at={list(at)!r} for {num_stages} stages of layers {', '.join(names)}",
                fix=f"name {num_stages - 1} layers in rising order, not the first",
            )
    else:
        if example is not None:
            found = np.array(_measured(model, example) if ranks.rank == 0 else [0.0] * len(names))
            ranks.broadcast(found, 0)
        elif costs is not None:
            found = np.array(costs, np.float64)
        else:
            found = np.array([1.0 + sum(p.numel() for p in layer.parameters()) for layer in model])
        if found.shape != (len(names),) or not np.isfinite(found).all() or (found < 0).any():
            raise ArgumentError(
                "split_module",
                f"costs {found.tolist()} for {len(names)} layers",
                fix="pass a number for each layer, none below 0",
            )
        starts = _balanced(found, num_stages)
    return [model[a:b] for a, b in itertools.pairwise(starts)]


def _position(names: list[str], at: str | int) -> int:
    if isinstance(at, str) and at in names:
        return names.index(at)
    if isinstance(at, int) and not isinstance(at, bool) and 0 <= at < len(names):
        return at
    raise ArgumentError("split_module", f"there is no layer {at!r}", fix=f"the layers are {', '.join(names)}")


def _measured(model: Sequential, example: Any) -> list[float]:
    """Seconds of each layer, forward and backward; the best of three, after one to warm up."""
    x = example if isinstance(example, Tensor) else wrap(np.asarray(example))
    seconds = []
    for layer in model:
        best = float("inf")
        for attempt in range(4):
            begin = time.perf_counter()
            given = x.detach()
            if given.dtype.kind == "f":
                given.requires_grad_()
            y = layer(given)
            if y.requires_grad:
                inputs = [p for p in (given, *layer.parameters()) if p.requires_grad]
                autograd.grad([y], inputs, [wrap(np.ones(y.shape, y.dtype))], allow_unused=True)
            if attempt:
                best = min(best, time.perf_counter() - begin)
        seconds.append(best)
        x = y.detach()
    return seconds


def _balanced(costs: Any, parts: int) -> list[int]:
    """Where to cut a row of costs so that the largest sum of a part is as small as possible, and then that of
    the squares: for each number of parts and each beginning, the best there is (dynamic programming)."""
    n = len(costs)
    total = np.concatenate([[0.0], np.cumsum(costs)])
    best = [(float(total[k]), float(total[k]) ** 2, [k]) for k in range(n + 1)]  # of the first k layers
    for p in range(1, parts):
        row = [(float("inf"), 0.0, [0])] * (n + 1)
        for k in range(p + 1, n + 1):
            row[k] = min(
                (
                    (max(most, last), squares + last**2, [*cuts, k])
                    for most, squares, cuts, last in (
                        (*best[j], float(total[k] - total[j])) for j in range(p, k)
                    )
                ),
                key=lambda found: found[:2],
            )
        best = row
    return [0, *best[n][2]]


# -- a stage -----------------------------------------------------------------------------------------------


class PipelineStage:
    """What one rank has of a pipeline, and its neighbours.

    submodule: the layers, from what the stage before gives to what the next one takes (tensors, or tuples of
    them).  group: the ranks of this pipeline, in the order of stages.  compiled: False runs the operations
    one by one, for layers that print, count or stop in a debugger.  Raises ArgumentError if the number of
    ranks is not num_stages, or stage_index is not this process's number among them.
    """

    def __init__(
        self,
        submodule: Module,
        stage_index: int,
        num_stages: int,
        group: Engine | None = None,
        *,
        compiled: bool = True,
    ) -> None:
        if not isinstance(submodule, Module):
            raise DTypeError(
                "PipelineStage", f"a {type(submodule).__name__} is no Module", fix="pass an nn.Module"
            )
        ranks = of(group)
        if ranks.size != num_stages:
            raise ArgumentError(
                "PipelineStage",
                f"{num_stages} stages on {ranks.size} ranks",
                fix="each rank takes one stage: split the model into as many parts as ranks",
            )
        if ranks.rank != stage_index:
            raise ArgumentError(
                "PipelineStage",
                f"stage {stage_index} on rank {ranks.rank} of its group",
                fix="stages follow the ranks of the group: pass get_rank(group)",
            )
        self.submodule, self.stage_index, self.num_stages = submodule, stage_index, num_stages
        self.group = ranks
        self.compiled = bool(compiled)
        self._halves = Halves(self._apply, submodule.parameters, pull=stage_index > 0)
        self._infer = captured(self._apply)

    def _apply(self, *given: Tensor) -> Any:
        """The layers, whatever `submodule` is at the moment."""
        return self.submodule(*given)

    def attempt(self, program: Any, *given: Tensor) -> Any:
        """What a compiled function gives; None if its operations are to be run one by one."""
        mode = current()
        unusual = mode.anomaly or mode.trace is not None or any(t.requires_grad for t in given)
        if not self.compiled or unusual or _watched(self.submodule):
            return None
        name = f"stage {self.stage_index} of {self.num_stages}"
        if program.traces > KINDS_MOST:
            self.compiled = False
            notice(
                "PipelineStage",
                f"{name} runs uncompiled, as its micro-batches come in more than {KINDS_MOST} kinds",
                fix="pad them to a few shapes, or pass compiled=False",
            )
            return None
        try:
            return program(*given)
        except DistributedError:
            raise
        except TraceError as error:
            self.compiled = False
            notice(
                "PipelineStage",
                f"{name} runs uncompiled, because it cannot be captured: {error}",
                fix="PipelineStage(..., compiled=False) does the same and says nothing",
            )
        except Error:
            pass  # nothing has changed, and the operations themselves say better what is wrong
        return None

    @property
    def is_first(self) -> bool:
        """Whether it takes the batch."""
        return self.stage_index == 0

    @property
    def is_last(self) -> bool:
        """Whether it computes the loss."""
        return self.stage_index == self.num_stages - 1

    def clip_grad_norm_(self, max_norm: float, norm_type: float = 2.0) -> Tensor:
        """`nn.clip_grad_norm_` of all stages together, which all must call: the norm is the model's."""
        parameters = list(self.submodule.parameters())
        own = get_total_norm([p.grad for p in parameters if p.grad is not None], norm_type)
        total = get_total_norm([gather_from(own.to("float64").reshape(1), self.group, 0)], norm_type)
        clip_grads_with_norm_(parameters, max_norm, total)
        return total

    # Messages: a header of fixed size, then all tensors end to end.

    def send(self, tensors: Sequence[Tensor], to: int) -> None:
        """Hand tensors to another stage."""
        header, data = _packed(tensors)
        self.group.send(header, to)
        self.group.send(data, to)

    def recv(self, source: int) -> list[Tensor]:
        """What another stage hands over."""
        header = np.empty(HEADER, np.int64)
        self.group.recv(header, source)
        data = np.empty(int(header[1]), np.uint8)
        self.group.recv(data, source)
        return _unpacked(header, data)

    def exchange(self, tensors: Sequence[Tensor], other: int) -> list[Tensor]:
        """Both at once: neighbours that hand each other more than a mailbox holds would wait for ever."""
        mine, data = _packed(tensors)
        header = np.empty(HEADER, np.int64)
        self.group.exchange(mine, other, header, other)
        got = np.empty(int(header[1]), np.uint8)
        self.group.exchange(data, other, got, other)
        return _unpacked(header, got)


def _watched(module: Module) -> bool:
    """Whether somebody wants to be called when a parameter has its gradient: a program could not do that."""
    ours = isinstance(module, DistributedDataParallel) and module.reducer.group.size > 1
    return any(p.requires_grad and len(hooks_of(p)) > ours for p in module.parameters())


def hooks_of(p: Tensor) -> dict[int, Any]:
    """What is called after the gradient of a parameter was accumulated."""
    node = p._node
    extra = None if node is None else node._extra
    return {} if extra is None else extra.get("post", {})


def _packed(tensors: Sequence[Tensor]) -> tuple[Any, Any]:
    numbers = [len(tensors), sum(t.nbytes for t in tensors)]
    for t in tensors:
        numbers += [DTYPES.index(t.dtype.name), t.ndim, *t.shape]
    if len(numbers) > HEADER:
        raise ArgumentError(
            "PipelineStage", f"{len(tensors)} tensors between two stages", fix="hand over fewer"
        )
    header = np.zeros(HEADER, np.int64)
    header[: len(numbers)] = numbers
    parts = [np.ascontiguousarray(t._array).reshape(-1).view(np.uint8) for t in tensors]
    return header, parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.uint8), *parts])


def _unpacked(header: Any, data: Any) -> list[Tensor]:
    found, at, start = [], 2, 0
    for _ in range(int(header[0])):
        dtype, ndim = np.dtype(DTYPES[header[at]]), int(header[at + 1])
        shape = tuple(int(n) for n in header[at + 2 : at + 2 + ndim])
        at += 2 + ndim
        stop = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        found.append(wrap(data[start:stop].view(dtype).reshape(shape)))
        start = stop
    return found


# -- schedules ---------------------------------------------------------------------------------------------


class _Schedule:
    """A stage's part of a training step.

    n_microbatches: into how many the batch is cut, as evenly as possible.  loss_fn: (output, target) -> loss,
    a mean over examples; on the last stage.  scale_grads: the gradients are those of the mean over the batch;
    False adds up those of the micro-batches' losses, for losses that are sums.
    """

    def __init__(
        self,
        stage: PipelineStage,
        n_microbatches: int,
        loss_fn: Callable[..., Tensor] | None = None,
        scale_grads: bool = True,
    ) -> None:
        if isinstance(n_microbatches, bool) or not isinstance(n_microbatches, int) or n_microbatches < 1:
            raise ArgumentError(
                type(self).__name__,
                f"n_microbatches is {n_microbatches!r}",
                fix="pass an integer of at least 1",
            )
        counts = stage.group.all_gather(np.array([n_microbatches]))[:, 0]
        if (counts != n_microbatches).any():
            raise ArgumentError(
                type(self).__name__,
                f"the stages have {counts.tolist()} micro-batches",
                fix="give all of them the same number",
            )
        self.stage, self.n_microbatches, self.loss_fn = stage, n_microbatches, loss_fn
        self.scale_grads = scale_grads
        self._prev, self._next = stage.stage_index - 1, stage.stage_index + 1
        self._whole = Whole(self._loss_and_output, stage.submodule.parameters, 1, stage.stage_index > 0)

    def _loss_and_output(self, target: Tensor, *given: Tensor) -> tuple[Tensor, Any]:
        """What the last stage computes of a micro-batch."""
        y = self.stage.submodule(*given)
        assert self.loss_fn is not None
        loss = self.loss_fn(y, target)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ShapeError(
                type(self).__name__, "the loss is no single number", fix="return a mean over examples"
            )
        return loss, y

    def step(self, *args: Any, target: Any = None, losses: list[Tensor] | None = None) -> Any:
        """One training step: gradients are added to those of the parameters; the optimizer is the caller's.

        args: the batch, on the first stage.  target: on the last one; `losses` gets the loss of each
        micro-batch.  Returns the output for the batch on the last stage, None on others.  Raises
        ArgumentError for a batch with fewer examples than micro-batches.
        """
        self._begin(args, target, training=True)
        module = self.stage.submodule
        with module.no_sync() if isinstance(module, DistributedDataParallel) else contextlib.nullcontext():
            self._run()
        if losses is not None:
            losses[:] = self._losses
        return self._result()

    def eval(self, *args: Any, target: Any = None, losses: list[Tensor] | None = None) -> Any:
        """The forward pass alone, without gradients; arguments and result are those of `step`."""
        self._begin(args, target, training=False)
        with no_grad():
            for k in range(self.n_microbatches):
                self._send_forward(self._forward(k, self._recv_forward()))
        if losses is not None:
            losses[:] = self._losses
        return self._result()

    def _run(self) -> None:
        raise TypeError("use ScheduleGPipe or Schedule1F1B")

    # -- one micro-batch -------------------------------------------------------------------------------------

    def _begin(self, args: tuple[Any, ...], target: Any, training: bool) -> None:
        name, stage = type(self).__name__, self.stage
        if bool(args) != stage.is_first:
            raise ArgumentError(
                name,
                f"stage {stage.stage_index} is given {len(args)} inputs",
                fix="pass the batch to the first stage, and nothing to the others",
            )
        problem = None
        if target is not None and not stage.is_last:
            problem = "a target"
        elif stage.is_last and self.loss_fn is None and (training or target is not None):
            problem = "no loss_fn"
        elif stage.is_last and training and target is None:
            problem = "no target"
        if problem:
            raise ArgumentError(
                name,
                f"stage {stage.stage_index} of {stage.num_stages} has {problem}",
                fix="the last stage, and no other, takes a loss_fn and a target",
            )
        self._inputs = [self._cut(name, a) for a in args]
        self._targets = None if target is None else self._cut(name, target)
        self._training = training
        self._kept: dict[int, tuple[list[Tensor], list[Tensor]]] = {}  # of eager micro-batches
        self._backs: dict[int, Back] = {}  # of captured ones
        self._grads: dict[int, list[Tensor | None]] = {}  # of captured ones on the last stage
        self._losses: list[Tensor] = []
        self._outputs: list[Any] = []
        self._examples = 0

    def _cut(self, name: str, x: Any) -> list[Tensor]:
        t = x if isinstance(x, Tensor) else wrap(np.asarray(x))
        m = self.n_microbatches
        if not t.ndim or t.shape[0] < m:
            raise ArgumentError(
                name,
                f"{m} micro-batches of a batch of shape {t.shape}",
                fix="choose at most as many as there are examples",
            )
        ends = [t.shape[0] * k // m for k in range(m + 1)]
        return [t[a:b] for a, b in itertools.pairwise(ends)]

    def _forward(self, k: int, received: list[Tensor]) -> list[Tensor]:
        """What the stage makes of micro-batch k; what its way back needs is kept."""
        stage = self.stage
        given = [parts[k] for parts in self._inputs] if stage.is_first else received
        self._examples += given[0].shape[0] if given and given[0].ndim else 1
        if not self._training:
            y = stage.attempt(stage._infer, *given)
            y = stage.submodule(*given) if y is None else y
            loss = None
            if stage.is_last and self._targets is not None and self.loss_fn is not None:
                loss = self.loss_fn(y, self._targets[k])
            return self._came_out(y, loss)
        if stage.is_last:
            return self._forward_last(k, given)
        found = stage.attempt(stage._halves, *given)
        if found is not None:
            y, self._backs[k] = found
            return self._came_out(y, None)
        points = self._points(given)
        y = stage.submodule(*points)
        outputs = self._came_out(y, None)
        self._kept[k] = (points, outputs)
        return outputs

    def _forward_last(self, k: int, given: list[Tensor]) -> list[Tensor]:
        """The loss of micro-batch k: where a program computes it, together with its gradients."""
        stage, target, share = self.stage, self._target(k), self._share(k)
        found = stage.attempt(self._whole, share, target, *given)
        if found is not None:
            (loss, y), self._grads[k] = found
            return self._came_out(y, loss)
        points = self._points(given)
        loss, y = self._loss_and_output(target, *points)
        self._kept[k] = (points, [loss])
        return self._came_out(y, loss)

    def _target(self, k: int) -> Tensor:
        assert self._targets is not None
        return self._targets[k]

    def _share(self, k: int) -> Tensor:
        """What the loss of micro-batch k counts in that of the batch, float64, 0-d."""
        assert self._targets is not None
        whole = sum(t.shape[0] for t in self._targets)
        return wrap(np.array(self._targets[k].shape[0] / whole if self.scale_grads else 1.0))

    def _points(self, given: list[Tensor]) -> list[Tensor]:
        """What came in, as points where a gradient is wanted."""
        if self.stage.is_first:
            return given
        on = autograd.is_grad_enabled()
        return [t.detach().requires_grad_(on) if t.dtype.kind == "f" else t for t in given]

    def _came_out(self, y: Any, loss: Tensor | None) -> list[Tensor]:
        """The tensors of a result; on the last stage that and the loss are noted."""
        outputs = list(y) if isinstance(y, (tuple, list)) else [y]
        for t in outputs:
            if not isinstance(t, Tensor):
                raise DTypeError(
                    type(self).__name__,
                    f"stage {self.stage.stage_index} gives a {type(t).__name__}",
                    fix="let stages return tensors, or tuples of them",
                )
        if self.stage.is_last:
            several = isinstance(y, (tuple, list))
            self._outputs.append(tuple([t.detach() for t in outputs]) if several else y.detach())
            if loss is not None:
                self._losses.append(loss.detach())
        return outputs

    def _backward(self, k: int, received: list[Tensor]) -> list[Tensor]:
        """The gradients of what micro-batch k came in as; those of parameters are added up."""
        module: Any = self.stage.submodule
        copies = isinstance(module, DistributedDataParallel) and k == self.n_microbatches - 1
        if k not in self._kept:
            if k in self._backs:
                back = self._backs.pop(k)
                found = back([g for g, wanted in zip(received, back.wanted, strict=True) if wanted])
            else:
                found = self._grads.pop(k)
            if copies:
                module.average_now(self._examples)
                module.reducer.reduce_all()
            return [g for g in found if g is not None]
        points, outputs = self._kept.pop(k)
        if self.stage.is_last:
            received = [self._share(k).to(outputs[0].dtype).expand(outputs[0].shape)]
        floats = [t for t in outputs if t.dtype.kind == "f"]
        pairs = [(t, g) for t, g in zip(floats, received, strict=True) if t.requires_grad]
        if copies:
            module.average_now(self._examples)
        autograd.backward([t for t, _ in pairs], [g for _, g in pairs])
        return [
            t.grad if t.grad is not None else wrap(np.zeros(t.shape, t.dtype))
            for t in (() if self.stage.is_first else points)
            if t.requires_grad
        ]

    def _result(self) -> Any:
        if not self._outputs:
            return None
        if isinstance(self._outputs[0], tuple):
            return tuple([cat(list(parts)) for parts in zip(*self._outputs, strict=True)])
        return cat(self._outputs)

    # -- messages --------------------------------------------------------------------------------------------

    def _recv_forward(self) -> list[Tensor]:
        return [] if self.stage.is_first else self.stage.recv(self._prev)

    def _send_forward(self, outputs: list[Tensor]) -> None:
        if not self.stage.is_last:
            self.stage.send(outputs, self._next)

    def _recv_backward(self) -> list[Tensor]:
        return [] if self.stage.is_last else self.stage.recv(self._next)

    def _send_backward(self, grads: list[Tensor]) -> None:
        if not self.stage.is_first:
            self.stage.send(grads, self._prev)


class ScheduleGPipe(_Schedule):
    __doc__ = (_Schedule.__doc__ or "").replace(
        "A stage's part of a training step.", "All micro-batches forward, then all of them backward."
    )

    def _run(self) -> None:
        m = self.n_microbatches
        for k in range(m):
            self._send_forward(self._forward(k, self._recv_forward()))
        for k in range(m):
            self._send_backward(self._backward(k, self._recv_backward()))


class Schedule1F1B(_Schedule):
    __doc__ = (_Schedule.__doc__ or "").replace(
        "A stage's part of a training step.",
        "One micro-batch forward, one backward, as soon as the pipe is full.",
    )

    def _run(self) -> None:
        m, stage = self.n_microbatches, self.stage
        ahead = min(m, stage.num_stages - 1 - stage.stage_index)  # until the first gradient is on its way
        for k in range(ahead):
            self._send_forward(self._forward(k, self._recv_forward()))
        if ahead < m:
            received = self._recv_forward()
        for k in range(m - ahead):
            outputs = self._forward(k + ahead, received)
            grads = [] if stage.is_last else stage.exchange(outputs, self._next)
            back = self._backward(k, grads)
            if k + ahead + 1 == m:
                self._send_backward(back)
            else:
                received = [] if stage.is_first else stage.exchange(back, self._prev)
        for k in range(m - ahead, m):
            self._send_backward(self._backward(k, self._recv_backward()))


__all__ = ["PipelineStage", "Schedule1F1B", "ScheduleGPipe", "split_module"]
