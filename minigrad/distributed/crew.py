"""Several processes that train one model, as `fit(..., workers=n)` does it.

Each has a copy of the model and of its optimizer, and for each batch takes its part of it:

    own part  ->  loss and gradients  ->  reduce gradients  ->  the same step on all

`Crew` is what all of them know; `Trainer` and `minigrad.keras` have the loops around it. The first process
is the one that `fit` was called in: it decides whether there is another epoch, and with which weights and
rates, so that callbacks need to be nowhere else.

`Ranks` is the part of that which a `Trainer` needs of a `DistributedDataParallel` model, whose ranks somebody
else has started, and whose gradients it averages itself: one rank decides, calls back and writes files, and
figures are those of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..nn.module import Module
from ..ops.collective import all_reduce
from ..random import get_rng_state, set_rng_state
from ..tensor import Tensor
from .engine import Engine
from .group import group
from .parallel import Reducer, idle, part_of, weight_of

Array = np.ndarray[Any, Any]

#: Tag of the reduction of losses, which no bucket of gradients has.
LOSS = 1 << 20


def data_of_first(engine: Engine, data: bytes) -> bytes:
    """The bytes that the first rank of a group has."""
    size = np.array([len(data)])
    engine.broadcast(size, 0)
    mine = np.frombuffer(data, np.uint8).copy() if engine.rank == 0 else np.empty(int(size[0]), np.uint8)
    engine.broadcast(mine, 0)
    return mine.tobytes()


class Ranks:
    """What one of several processes with copies of a model and its optimizer knows of all of them."""

    def __init__(self, model: Module, optimizer: Any, engine: Engine) -> None:
        self.model, self.optimizer, self.group = model, optimizer, engine
        self.same_chance()
        self.own_chance()

    @property
    def first(self) -> bool:
        """Whether this is the process that decides."""
        return self.group.rank == 0

    def close(self) -> None:
        """Training is over."""

    def _broadcast(self, array: Array) -> Array:
        self.group.broadcast(array, 0)
        return array

    # -- chance ----------------------------------------------------------------------------------------------

    def same_chance(self, *generators: Any) -> None:
        """Let all draw the numbers that the first process would draw."""
        state = self._broadcast(np.array(get_rng_state(), np.uint64))
        set_rng_state((int(state[0]), int(state[1])))
        for generator in generators:
            state = self._broadcast(np.array(generator.get_state(), np.uint64))
            generator.set_state((int(state[0]), int(state[1])))

    def own_chance(self) -> None:
        """Let each draw numbers of its own, which do not depend on how the processes are scheduled."""
        if not self.first:
            seed, offset = get_rng_state()
            set_rng_state((seed + self.group.rank, offset))

    # -- an epoch --------------------------------------------------------------------------------------------

    def go_on(self, another: bool = True) -> bool:
        """Whether there is another epoch, as the first process says; if so, with its weights and rates."""
        if not self._broadcast(np.array([another]))[0]:
            return False
        for t in (*self.model.parameters(), *self.model.buffers()):
            t.assign(self._broadcast(np.array(t._array, order="C")))
        for settings in self.optimizer.param_groups:
            names = sorted(k for k, v in settings.items() if isinstance(v, (int, float, bool)))
            values = self._broadcast(np.array([float(settings[k]) for k in names]))
            if not self.first:
                settings.update({k: type(settings[k])(v) for k, v in zip(names, values, strict=True)})
        return True

    def sums(self, values: list[float]) -> list[float]:
        """Sums over all processes."""
        summed: list[float] = self.group.all_reduce(np.array(values, np.float64), "sum", 1.0).tolist()
        return summed


class Crew(Ranks):
    """The same of processes that share batches.

    reduction: "mean" for losses that are means over examples, or "sum".
    Parts of a batch may be of different sizes: their losses and gradients count by their examples. A process
    that has none takes part with an example that counts nothing.
    """

    def __init__(self, model: Module, optimizer: Any, reduction: str = "mean") -> None:
        super().__init__(model, optimizer, group())
        self.reduction = reduction
        learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.reducer = Reducer(learned, self.group, reduction=reduction, find_unused=True)

    def close(self) -> None:
        """Training is over."""
        self.reducer.close()

    def order(self, order: Array | None, count: int) -> Array | None:
        """The order of the first process."""
        shuffled = self._broadcast(np.array([order is not None]))[0]
        if not shuffled:
            return None
        return self._broadcast(np.empty(count, np.int64) if order is None else order.astype(np.int64))

    # -- a batch ---------------------------------------------------------------------------------------------

    def rows(self, count: int) -> tuple[slice, bool]:
        """Own examples of a batch of `count`; one that counts nothing, if there are fewer than processes."""
        first, stop = part_of(count, self.group)
        return (slice(0, 1), True) if first == stop else (slice(first, stop), False)

    @contextmanager
    def counting(self, examples: int, nothing: bool) -> Iterator[None]:
        """Means over processes weigh this one by its examples inside."""
        with idle(nothing):
            self.reducer.weight = weight_of(examples)
            yield

    def loss(self, loss: Tensor) -> Tensor:
        """The loss of the whole batch, from those of the parts."""
        return all_reduce(loss.detach(), self.group, self.reduction, self.reducer.weight, LOSS)

    def predictions(self, p: Array, count: int) -> Array:
        """The predictions for the whole batch, from those for the parts."""
        size = self.group.size
        counts = [count * (r + 1) // size - count * r // size for r in range(size)]
        room = np.zeros((max(counts), *p.shape[1:]), p.dtype)
        room[: counts[self.group.rank]] = p[: counts[self.group.rank]]
        every = self.group.all_gather(room)
        whole: Array = np.concatenate([part[:n] for part, n in zip(every, counts, strict=True)])
        return whole


def checked_workers(workers: Any) -> int:
    """A number of processes."""
    if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)) or workers < 1:
        raise ArgumentError("fit", f"workers is {workers!r}", fix="pass a number of processes, at least 1")
    return int(workers)


__all__ = ["Crew", "Ranks", "checked_workers", "data_of_first"]
