"""A learning-rate finder: train for a moment while the learning rate grows, and watch the loss.

    lr_i  =  start_lr (end_lr / start_lr)^(i / (steps - 1))

While it is too small the loss hardly moves; then it falls; then it explodes.  The rate at which it falls
fastest is a good choice.  Losses of single batches are noisy, so they are smoothed as Adam's averages are.

    >>> import minigrad as mg
    >>> w = mg.tensor([5.0], requires_grad=True)
    >>> optimizer = mg.optim.SGD([w], lr=1.0)
    >>> def step(x):
    ...     optimizer.zero_grad()
    ...     loss = ((w - x) ** 2).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> found = find_lr(step, optimizer, [(mg.zeros(1),)], steps=60, start_lr=1e-4, end_lr=10.0)
    >>> 0.01 < found.suggestion < 1.0, w.item(), optimizer.param_groups[0]["lr"]
    (True, 5.0, 1.0)

Everything is put back afterwards.  References: Smith 2017 (arXiv 1506.01186, section 3.3); the rule for
stopping and the smoothing follow S. Gugger's description, "How do you find a good learning rate" (2018).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..errors import ArgumentError
from ..random import get_rng_state, set_rng_state
from ..tensor import Tensor
from .base import Optimizer
from .lr_scheduler import _put, _rates


class Finding(NamedTuple):
    """What `find_lr` saw: learning rates, the smoothed losses at them, and the rate it would choose."""

    lrs: list[float]
    losses: list[float]
    suggestion: float


def find_lr(
    step: Callable[..., Any],
    optimizer: Optimizer,
    batches: Iterable[Any],
    *,
    model: Any = None,
    start_lr: float = 1e-6,
    end_lr: float = 10.0,
    steps: int = 100,
    smooth: float = 0.9,
    diverged: float = 4.0,
) -> Finding:
    """Call `step(*batch)` with growing learning rates, and put everything back.

    step: one training step (it may be compiled), which returns the loss.  batches: used again from the
    start as often as needed.  model: whose buffers (running statistics) to put back too, besides the
    parameters and state of the optimizer and the random numbers.  smooth: how much of the average is kept.
    diverged: stop when the smoothed loss is so many times the best.  Groups keep the ratios of their
    learning rates; `lrs` are those of the first.  Raises ArgumentError for settings out of range, and if
    the loss was never finite.
    """
    if not 0 < start_lr < end_lr or steps < 3 or not 0 <= smooth < 1 or not diverged > 1:
        raise ArgumentError(
            "find_lr",
            f"from {start_lr!r} to {end_lr!r} in {steps!r} steps, smooth {smooth!r}, diverged {diverged!r}",
            fix="choose 0 < start_lr < end_lr, at least 3 steps, 0 <= smooth < 1, diverged > 1",
        )
    kept = [p for group in optimizer.param_groups for p in group["params"]]
    if model is not None:
        kept += [*model.buffers(), *model.parameters()]
    values = [t.detach().clone() for t in kept]
    state, random = copy.deepcopy(optimizer.state_dict()), get_rng_state()
    rates = _rates(optimizer)
    ratios = [rate / rates[0] if rates[0] else 1.0 for rate in rates]
    pool = list(batches)
    if not pool:
        raise ArgumentError("find_lr", "there are no batches", fix="an iterator can be used up only once")
    lrs: list[float] = []
    losses: list[float] = []
    average, best = 0.0, math.inf
    try:
        for i, batch in zip(range(steps), itertools.cycle(pool), strict=False):
            lr = start_lr * (end_lr / start_lr) ** (i / (steps - 1))
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                _put(group, lr * ratio)
            result = step(*batch) if isinstance(batch, (tuple, list)) else step(batch)
            loss = result.item() if isinstance(result, Tensor) else float(result)
            average = smooth * average + (1 - smooth) * loss
            value = average / (1 - smooth ** (i + 1))
            if not math.isfinite(value) or value > diverged * best > 0:
                break
            best = min(best, value)
            lrs.append(lr)
            losses.append(value)
    finally:
        for t, value in zip(kept, values, strict=True):
            t.assign(value)
        optimizer.zero_grad()
        optimizer.load_state_dict(state)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            _put(group, rate)
        set_rng_state(random)
    if len(lrs) < 3:
        raise ArgumentError(
            "find_lr",
            f"the loss is not finite or explodes at a learning rate of {start_lr}",
            fix="start lower",
        )
    slopes = [losses[i + 1] - losses[i - 1] for i in range(1, len(losses) - 1)]
    return Finding(lrs, losses, lrs[1 + min(range(len(slopes)), key=slopes.__getitem__)])


__all__ = ["Finding", "find_lr"]
