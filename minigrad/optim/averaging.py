"""Averages of weights: what a walk around a valley encloses is often better than where it ends.

    SWA   avg  <-  avg + (p - avg) / (n + 1)          the plain mean of n + 1 models
    EMA   avg  <-  decay avg + (1 - decay) p          an exponential moving average

`AveragedModel` keeps a copy of a model whose parameters are such an average; call `update_parameters`
after each step (EMA) or epoch (SWA), also inside of a compiled step.  The running statistics of batch
norms do not belong to averaged weights: measure them with `update_bn`.  `SWALR` keeps the learning rate
up meanwhile, so that there is something to average.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> model = nn.Linear(1, 1, bias=False)
    >>> averaged = AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     model.weight.assign([[value]]) is model.weight and averaged.update_parameters(model)
    >>> averaged.module.weight.detach()
    tensor([[3.]])

References: Polyak & Juditsky 1992; Izmailov et al. 2018 (arXiv 1803.05407).  Names and behaviour are those
of `torch.optim.swa_utils`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..autograd import no_grad
from ..errors import ArgumentError, DTypeError
from ..ir import is_float
from ..mode import current
from ..nn.module import Module
from ..ops.elementwise import where
from ..tensor import Tensor
from .lr_scheduler import SWALR

#: (average, parameter, how many models it is the average of) -> the new average
Average = Callable[[Tensor, Tensor, Any], Tensor]
#: The same for lists, writing into the averages.
Averages = Callable[[list[Tensor], list[Tensor], Any], None]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """decay * average + (1 - decay) * parameter."""
    if not 0.0 <= decay <= 1.0:
        raise ArgumentError("get_ema_avg_fn", f"decay is {decay!r}", fix="choose it between 0 and 1")
    return partial(_ema, decay)


# Functions of the module, and not of functions, can be sent to other processes with what has them.


def _ema(decay: float, average: Tensor, parameter: Tensor, count: Any) -> Tensor:
    return average * decay + parameter * (1.0 - decay)


def get_swa_avg_fn() -> Average:
    """average + (parameter - average) / (count + 1)."""
    return _swa


def _swa(average: Tensor, parameter: Tensor, count: Any) -> Tensor:
    more = (count + 1).to(average.dtype) if isinstance(count, Tensor) else count + 1
    return average + (parameter - average) / more


def _for_lists(average: Average) -> Averages:
    return partial(_update_lists, average)


def _update_lists(average: Average, averages: list[Tensor], parameters: list[Tensor], count: Any) -> None:
    with no_grad():
        for a, p in zip(averages, parameters, strict=True):
            a.assign(average(a.detach(), p.detach(), count))


def get_ema_multi_avg_fn(decay: float = 0.999) -> Averages:
    """`get_ema_avg_fn` for lists of tensors, writing into the first."""
    return _for_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Averages:
    """`get_swa_avg_fn` for lists of tensors, writing into the first."""
    return _for_lists(get_swa_avg_fn())


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of those of the model.

    avg_fn: how one parameter is averaged (by default the plain mean, SWA); multi_avg_fn: how all are, in
    place.  use_buffers: average floating-point buffers too, rather than copying them when updated.
    `n_averaged` counts the updates.  Raises ArgumentError if both functions are given.
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: Averages | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, Module):
            raise DTypeError("AveragedModel", f"the model is a {type(model).__name__}", fix="pass a Module")
        if avg_fn is not None and multi_avg_fn is not None:
            raise ArgumentError("AveragedModel", "avg_fn and multi_avg_fn are both given", fix="pass one")
        if device not in (None, "cpu"):
            raise ArgumentError("AveragedModel", f"device is {device!r}", fix="there is only cpu")
        self.module = copy.deepcopy(model)
        self.n_averaged: Tensor
        self.register_buffer("n_averaged", Tensor(0, "int64"))
        self.multi_avg_fn = _for_lists(avg_fn or get_swa_avg_fn()) if multi_avg_fn is None else multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model computes."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the parameters of `model` into the average; the first time they are the average."""
        mine: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(model.parameters())
        buffers = list(zip(self.module.buffers(), model.buffers(), strict=False))
        if [p.shape for p in mine] != [p.shape for p in theirs]:
            raise ArgumentError(
                "AveragedModel",
                f"the model has parameters of shapes {[p.shape for p in theirs]}, "
                f"the average {[p.shape for p in mine]}",
                fix="pass the model that it was made of",
            )
        if self.use_buffers:
            averaged = [(a, b) for a, b in buffers if is_float(a.dtype)]
            buffers = [(a, b) for a, b in buffers if not is_float(a.dtype)]
            mine += [a for a, _ in averaged]
            theirs += [b for _, b in averaged]
        count: Tensor = self.n_averaged
        with no_grad():
            if current().trace is not None:  # whether it is the first time is not known
                first = count == 0
                self.multi_avg_fn(mine, theirs, count)
                for a, p in zip(mine, theirs, strict=True):
                    a.assign(where(first, p.detach(), a.detach()))
            elif count.item() == 0:
                for a, p in zip(mine, theirs, strict=True):
                    a.assign(p.detach())
            else:
                self.multi_avg_fn(mine, theirs, count)
            for old, new in buffers:
                old.assign(new.detach())
            count.assign(count + 1)


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Measure the running statistics of all batch norms of `model` anew, as means over a pass over data.

    loader: batches; of a tuple or list the first element is the input.
    """
    norms: list[Any] = [m for m in model.modules() if getattr(m, "running_mean", None) is not None]
    if not norms:
        return
    training, momenta = model.training, [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    model.train()
    try:
        with no_grad():
            for batch in loader:
                model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
        model.train(training)


__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]
