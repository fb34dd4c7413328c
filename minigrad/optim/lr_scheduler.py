"""Schedules: how the learning rate changes from step to step.

A schedule writes `group["lr"]` of its optimizer (some also the momentum); that is all it does, so it acts
on a compiled step at once and costs no retrace.  Call `step()` after the optimizer's, once per epoch or
once per batch, as its numbers count.

    >>> import minigrad as mg
    >>> w = mg.ones(1, requires_grad=True)
    >>> optimizer = mg.optim.SGD([w], lr=0.1)
    >>> schedule = WarmupLR(optimizer, 2, after=CosineAnnealingLR(optimizer, T_max=4))
    >>> w.grad = mg.ones(1)
    >>> for _ in range(7):
    ...     print(f"{optimizer.param_groups[0]['lr']:.4f}", end=" ")
    ...     optimizer.step()
    ...     schedule.step()
    0.0500 0.0750 0.1000 0.0854 0.0500 0.0146 0.0000

**Two forms.**  With e the epoch and b the initial learning rate, most schedules can be said in two ways:

    at(b, e)        the learning rate itself, such as b gamma^e, and
    after(lr, b)    the next one from the present one, such as lr gamma.

Schedules that several change the same learning rate (`ChainedScheduler`) need the second, since each of
them multiplies what the others left; jumping to an epoch needs the first.  As in PyTorch, `step()` uses
the second.

References: Loshchilov & Hutter 2017 (arXiv 1608.03983, cosine, warm restarts); Smith 2017 (1506.01186,
cyclical), Smith & Topin 2018 (1708.07120, one cycle); Goyal et al. 2017 (1706.02677, warm-up); Izmailov et
al. 2018 (1803.05407, stochastic weight averaging).  Names and formulas are those of
`torch.optim.lr_scheduler`; `WarmupLR` is ours.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import ArgumentError, DTypeError
from ..tensor import Tensor
from .base import Group, Optimizer

Factor = Callable[[int], float]


class LRScheduler:
    """Base of schedules: a subclass defines `at` or `after`, or `get_lr` for all groups at once.

    last_epoch: -1 to begin; the last epoch before, to go on with an optimizer whose groups have their
    "initial_lr".  Raises DTypeError for what is no optimizer, ArgumentError for settings out of range.
    """

    #: Attributes that `state_dict` leaves out.
    _unsaved: tuple[str, ...] = ("optimizer",)
    _starting = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = self._checked(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            elif "initial_lr" not in group:
                raise ArgumentError(
                    self._name(),
                    f"last_epoch is {last_epoch}, but group {i} has no 'initial_lr'",
                    fix="load the optimizer's state first, or leave last_epoch out to begin",
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._start()

    def _name(self) -> str:
        return type(self).__name__

    def _checked(self, optimizer: Any) -> Optimizer:
        if not isinstance(optimizer, Optimizer):
            raise DTypeError(
                self._name(),
                f"the optimizer is a {type(optimizer).__name__}",
                fix="pass a minigrad.optim.Optimizer first",
            )
        return optimizer

    def _need(self, holds: bool, problem: str, fix: str) -> None:
        if not holds:
            raise ArgumentError(self._name(), problem, fix=fix)

    def _start(self) -> None:
        self._step_count = 0
        self._starting = True
        self.step()
        self._starting = False

    # -- what a schedule is -------------------------------------------------------------------------

    def at(self, base: float, epoch: int) -> float:
        """The learning rate of an epoch, given the initial one."""
        raise ArgumentError(self._name(), "it cannot jump to an epoch", fix="call step() without an argument")

    def after(self, lr: float, base: float) -> float:
        """The learning rate of `last_epoch`, given that of the epoch before."""
        return self.at(base, self.last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates of `last_epoch`, a group each, from those of the epoch before."""
        return [
            self.after(float(group["lr"]), base)
            for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True)
        ]

    # -- using it ---------------------------------------------------------------------------------

    def step(self, epoch: Any = None) -> None:
        """Go to the next epoch, or to a given one where the schedule has a closed form.

        Warns if the optimizer has made no step yet: then the first learning rate would never be used.
        """
        if self._step_count == 1 and not self.optimizer._stepped:
            warnings.warn(
                "lr_scheduler.step() is called before optimizer.step(), so the first learning rate of the "
                "schedule is skipped; call it after",
                stacklevel=2,
            )
        self._step_count += 1
        self._go(epoch)

    def _go(self, epoch: Any = None) -> None:
        if epoch is None:
            self.last_epoch += 1
            values = self.get_lr()
        else:
            self.last_epoch = epoch
            closed = type(self).at is not LRScheduler.at
            values = [self.at(base, epoch) for base in self.base_lrs] if closed else self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, values, strict=True):
            _put(group, lr)
        self._last_lr = _rates(self.optimizer)

    def _restart(self) -> None:
        """Begin anew, at epoch 0."""
        self._go(0)

    def get_last_lr(self) -> list[float]:
        """The learning rates as this schedule has left them, a group each."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions."""
        return {k: v for k, v in self.__dict__.items() if k not in self._unsaved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state.  Raises ArgumentError naming every key that does not fit."""
        self._fits(state_dict, set(self.state_dict()))
        self.__dict__.update(state_dict)

    def _fits(self, state_dict: Mapping[str, Any], wanted: set[str]) -> None:
        unknown, absent = sorted(set(state_dict) - wanted), sorted(wanted - set(state_dict))
        self._need(
            not unknown and not absent,
            f"the state has {unknown} too many and {absent} too few",
            f"it must come from a {self._name()}",
        )


def _put(group: Group, lr: float) -> None:
    """Set the learning rate, in place if it is a tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].assign(Tensor(lr, group["lr"].dtype))
    else:
        group["lr"] = lr


def _rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _each(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value a group."""
    count = len(optimizer.param_groups)
    if isinstance(value, (list, tuple)):
        if len(value) != count:
            raise ArgumentError(
                name, f"{len(value)} values for {count} groups", fix="pass one number, or one for each group"
            )
        return list(value)
    return [value] * count


# -- multiplied by a function ----------------------------------------------------------------------------


class LambdaLR(LRScheduler):
    """lr = base * lr_lambda(epoch); lr_lambda: a function, or a list of one for each group."""

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | list[Factor], last_epoch: int = -1) -> None:
        self.lr_lambdas: list[Factor] = _each(self._name(), self._checked(optimizer), lr_lambda)
        for f in self.lr_lambdas:
            self._need(
                callable(f), f"lr_lambda is a {type(f).__name__}", "pass a function of the epoch, or a list"
            )
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates of `last_epoch`."""
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(LambdaLR):
    """lr = lr * lr_lambda(epoch), from epoch 1 on."""

    def get_lr(self) -> list[float]:
        """The learning rates of `last_epoch`."""
        rates = _rates(self.optimizer)
        if self._starting:
            return rates
        return [lr * f(self.last_epoch) for lr, f in zip(rates, self.lr_lambdas, strict=True)]


# -- steps and decays ------------------------------------------------------------------------------------


class StepLR(LRScheduler):
    """lr times gamma every step_size epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self._need(step_size > 0, f"step_size is {step_size!r}", "choose a positive number of epochs")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def at(self, base: float, epoch: int) -> float:
        """base gamma^floor(epoch / step_size)"""
        return float(base * self.gamma ** (epoch // self.step_size))

    def after(self, lr: float, base: float) -> float:
        """lr gamma, when the time has come"""
        return lr * self.gamma if self.last_epoch and self.last_epoch % self.step_size == 0 else lr


class MultiStepLR(LRScheduler):
    """lr times gamma at each milestone."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def at(self, base: float, epoch: int) -> float:
        """base gamma^(milestones passed)"""
        return float(base * self.gamma ** bisect_right(self.milestones, epoch))

    def after(self, lr: float, base: float) -> float:
        """lr gamma, at a milestone (as often as it is listed)"""
        return float(lr * self.gamma ** self.milestones.count(self.last_epoch))


class ConstantLR(LRScheduler):
    """lr times factor, until total_iters."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        self._need(0 <= factor <= 1, f"factor is {factor!r}", "choose it between 0 and 1")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def at(self, base: float, epoch: int) -> float:
        """base factor, or base"""
        return base if epoch >= self.total_iters else base * self.factor

    def after(self, lr: float, base: float) -> float:
        """lr factor at first, lr / factor at the end"""
        if self.last_epoch == 0:
            return lr * self.factor
        if self.last_epoch != self.total_iters:
            return lr
        return lr * (1 / self.factor) if self.factor else base


class LinearLR(LRScheduler):
    """lr times a factor that goes from start_factor to end_factor in total_iters epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self._need(
            0 < start_factor <= 1, f"start_factor is {start_factor!r}", "choose it above 0 and at most 1"
        )
        self._need(0 <= end_factor <= 1, f"end_factor is {end_factor!r}", "choose it between 0 and 1")
        self._need(total_iters > 0, f"total_iters is {total_iters!r}", "choose a positive number of epochs")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def at(self, base: float, epoch: int) -> float:
        """base times the factor"""
        rise = (self.end_factor - self.start_factor) * min(self.total_iters, epoch) / self.total_iters
        return base * (self.start_factor + rise)

    def after(self, lr: float, base: float) -> float:
        """lr times the factor by which the factor grows"""
        if self.last_epoch == 0:
            return lr * self.start_factor
        if self._starting or self.last_epoch > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        return lr * (1 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise))


class ExponentialLR(LRScheduler):
    """lr times gamma at every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def at(self, base: float, epoch: int) -> float:
        """base gamma^epoch"""
        return float(base * self.gamma**epoch)

    def after(self, lr: float, base: float) -> float:
        """lr gamma"""
        return lr if self._starting else lr * self.gamma


class PolynomialLR(LRScheduler):
    """lr times (1 - epoch / total_iters)^power, down to zero."""

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self._need(total_iters > 0, f"total_iters is {total_iters!r}", "choose a positive number of epochs")
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def at(self, base: float, epoch: int) -> float:
        """base (1 - epoch / total_iters)^power"""
        return float(base * (1 - min(self.total_iters, epoch) / self.total_iters) ** self.power)

    def after(self, lr: float, base: float) -> float:
        """lr times the ratio of two such powers"""
        if self._starting or self.last_epoch > self.total_iters:
            return lr
        left = self.total_iters - self.last_epoch
        return float(lr * (left / (left + 1)) ** self.power)


# -- cosines ------------------------------------------------------------------------------------------


def _cosine(start: float, end: float, share: float) -> float:
    """From start to end, along half a wave."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _line(start: float, end: float, share: float) -> float:
    """From start to end, along a line."""
    return (end - start) * share + start


_ANNEAL = {"cos": _cosine, "linear": _line}


class CosineAnnealingLR(LRScheduler):
    """From the initial learning rate to eta_min in T_max epochs along half a cosine wave (and back)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self._need(T_max > 0, f"T_max is {T_max!r}", "choose a positive number of epochs")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def at(self, base: float, epoch: int) -> float:
        """The wave."""
        return _cosine(base, self.eta_min, epoch / self.T_max)

    def after(self, lr: float, base: float) -> float:
        """lr - eta_min times the ratio of two points of the wave"""
        if self._starting:
            return lr
        e = self.last_epoch
        if (e - 1 - self.T_max) % (2 * self.T_max) == 0:  # the last point was zero
            return lr + (base - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        now, before = (1 + math.cos(math.pi * t / self.T_max) for t in (e, e - 1))
        return now / before * (lr - self.eta_min) + self.eta_min


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine annealing again and again, each time T_mult times as long as before, at first T_0 epochs.

    `step(epoch)` takes fractions: after batch i of n, `step(epoch + i / n)`.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self._need(isinstance(T_0, int) and T_0 > 0, f"T_0 is {T_0!r}", "choose a positive integer")
        self._need(
            isinstance(T_mult, int) and T_mult >= 1,
            f"T_mult is {T_mult!r}",
            "choose an integer of at least 1",
        )
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def after(self, lr: float, base: float) -> float:
        """The wave at T_cur of T_i."""
        return _cosine(base, self.eta_min, self.T_cur / self.T_i)

    def step(self, epoch: Any = None) -> None:
        """Go to the next epoch, or to a given one, which may be a fraction."""
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        else:
            self._need(epoch >= 0, f"epoch {epoch!r}", "count from 0")
            self.T_cur, self.T_i = epoch, self.T_0
            if self.T_mult == 1:
                self.T_cur = epoch % self.T_0
            else:
                while self.T_cur >= self.T_i:
                    self.T_cur -= self.T_i
                    self.T_i *= self.T_mult
        self.last_epoch = math.floor(epoch)
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            _put(group, lr)
        self._last_lr = _rates(self.optimizer)


# -- cycles, with the momentum against the learning rate -----------------------------------------------------


class _WithMomentum(LRScheduler):
    """What moves the momentum (SGD's, or the first of betas) as well."""

    def _begin_momentum(
        self, optimizer: Optimizer, cycle: bool, base: Any, highest: Any, last_epoch: int
    ) -> None:
        self.cycle_momentum = cycle
        if not cycle:
            return
        self._need(
            "momentum" in optimizer.defaults or "betas" in optimizer.defaults,
            f"{optimizer._name} has no momentum to cycle",
            "pass cycle_momentum=False",
        )
        pairs = zip(
            _each("base_momentum", optimizer, base), _each("max_momentum", optimizer, highest), strict=True
        )
        if last_epoch == -1:
            for group, (low, high) in zip(optimizer.param_groups, pairs, strict=True):
                group["base_momentum"], group["max_momentum"] = low, high
                self._put_momentum(group, high)

    @staticmethod
    def _put_momentum(group: Group, value: float) -> None:
        if "betas" in group:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


def _power(base: float, start: float, at: float) -> float:
    return float(base ** (at - start))


class CyclicLR(_WithMomentum):
    """From base_lr up to max_lr in step_size_up steps, down again in step_size_down, and so on.

    mode: "triangular", "triangular2" (each cycle half as high as the last) or "exp_range" (gamma^step
    times as high); or scale_fn, a function of the cycle (from 1) or, with scale_mode "iterations", of the
    step.  cycle_momentum: the momentum goes from max_momentum down to base_momentum meanwhile.
    """

    _unsaved = ("optimizer", "_scale")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self._checked(optimizer)
        down = step_size_up if step_size_down is None else step_size_down
        self._need(
            step_size_up > 0 and down > 0,
            f"steps up and down are {step_size_up!r} and {down!r}",
            "choose positive numbers",
        )
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, _each("base_lr", optimizer, base_lr), strict=True):
                _put(group, lr)
        self.min_lrs, self.max_lrs = (
            _each(name, optimizer, value) for name, value in (("base_lr", base_lr), ("max_lr", max_lr))
        )
        self.total_size = float(step_size_up + down)
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma = mode, gamma
        self.scale_mode = scale_mode
        if scale_fn is None:
            named: dict[str, tuple[Callable[[float], float], str]] = {
                "triangular": (partial(_power, 1.0, 0.0), "cycle"),
                "triangular2": (partial(_power, 0.5, 1.0), "cycle"),
                "exp_range": (partial(_power, gamma, 0.0), "iterations"),
            }
            self._need(
                mode in named,
                f"there is no mode {mode!r}",
                f"use one of {', '.join(named)}, or pass scale_fn",
            )
            scale_fn, self.scale_mode = named[mode]
        self._need(
            self.scale_mode in ("cycle", "iterations"),
            f"there is no scale_mode {scale_mode!r}",
            "use cycle or iterations",
        )
        self._scale = scale_fn
        self._begin_momentum(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates of `last_epoch`; sets the momentum too."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self._scale(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                high = group["max_momentum"]
                self._put_momentum(group, high - (high - group["base_momentum"]) * height)
        return [low + (high - low) * height for low, high in zip(self.min_lrs, self.max_lrs, strict=True)]


class OneCycleLR(_WithMomentum):
    """One cycle for a whole training run: up from max_lr / div_factor to max_lr in the share pct_start of
    total_steps, then down to max_lr / (div_factor final_div_factor).

    total_steps, or epochs and steps_per_epoch: call `step()` after every batch.  anneal_strategy: "cos" or
    "linear".  cycle_momentum: the momentum goes the other way, between max_momentum and base_momentum.
    three_phase: down to where it began first, as long as it went up, and to the end after that.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self._checked(optimizer)
        if total_steps is None:
            self._need(
                epochs is not None and steps_per_epoch is not None,
                "it is not known how many steps there are",
                "pass total_steps, or epochs and steps_per_epoch",
            )
            total_steps = (epochs or 0) * (steps_per_epoch or 0)
        self._need(
            isinstance(total_steps, int) and total_steps > 0,
            f"the number of steps is {total_steps!r}",
            "choose a positive integer",
        )
        self._need(0 <= pct_start <= 1, f"pct_start is {pct_start!r}", "choose it between 0 and 1")
        self._need(
            anneal_strategy in _ANNEAL, f"there is no strategy {anneal_strategy!r}", "use cos or linear"
        )
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        up, end = pct_start * total_steps - 1, total_steps - 1
        #: (last step, learning rate at its ends, momentum at its ends) of each phase
        self.phases: list[tuple[float, str, str, str, str]] = [
            (up, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        ]
        if three_phase:
            self.phases += [
                (2 * pct_start * total_steps - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
                (end, "initial_lr", "min_lr", "max_momentum", "max_momentum"),
            ]
        else:
            self.phases.append((end, "max_lr", "min_lr", "base_momentum", "max_momentum"))
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, _each("max_lr", optimizer, max_lr), strict=True):
                group["initial_lr"], group["max_lr"] = high / div_factor, high
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self._begin_momentum(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates of `last_epoch`; sets the momentum too.  Raises ArgumentError after the end."""
        now = self.last_epoch
        self._need(
            now <= self.total_steps,
            f"step {now} of a schedule of {self.total_steps} steps",
            "make it for as many steps as there are",
        )
        phase = next((i for i, row in enumerate(self.phases) if now <= row[0]), len(self.phases) - 1)
        start = self.phases[phase - 1][0] if phase else 0.0
        end, lr0, lr1, momentum0, momentum1 = self.phases[phase]
        share = (now - start) / (end - start) if end != start else 1.0
        anneal = _ANNEAL[self.anneal_strategy]
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                self._put_momentum(group, anneal(group[momentum0], group[momentum1], share))
        return [anneal(group[lr0], group[lr1], share) for group in self.optimizer.param_groups]


class SWALR(LRScheduler):
    """From whatever the learning rate is to swa_lr in anneal_epochs, and then constant; see `averaging`."""

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        self._need(
            anneal_strategy in _ANNEAL, f"there is no strategy {anneal_strategy!r}", "use cos or linear"
        )
        self._need(
            isinstance(anneal_epochs, int) and anneal_epochs >= 0,
            f"anneal_epochs is {anneal_epochs!r}",
            "choose an integer of at least 0",
        )
        for group, lr in zip(
            self._checked(optimizer).param_groups, _each("swa_lr", optimizer, swa_lr), strict=True
        ):
            group["swa_lr"] = lr
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates of this step: what is left of the way is scaled to where they are now."""
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        anneal = _ANNEAL[self.anneal_strategy]
        before, now = (
            anneal(0.0, 1.0, min(1.0, max(0.0, t / max(1, self.anneal_epochs)))) for t in (step - 1, step)
        )
        rates = []
        for group in self.optimizer.param_groups:
            lr, last = float(group["lr"]), group["swa_lr"]
            began = last if before == 1 else (lr - before * last) / (1 - before)
            rates.append(last * now + began * (1 - now))
        return rates


# -- schedules of schedules ---------------------------------------------------------------------------------


class _Several(LRScheduler):
    """What is made of other schedules."""

    _unsaved = ("optimizer", "_schedulers")
    _schedulers: list[Any]

    def _same_optimizer(self, schedulers: Sequence[Any], optimizer: Any) -> Optimizer:
        self._need(len(schedulers) > 0, "there are no schedulers", "pass a list of them")
        for i, s in enumerate(schedulers):
            self._need(
                isinstance(s, LRScheduler) and not isinstance(s, ReduceLROnPlateau),
                f"scheduler {i} is a {type(s).__name__}, which needs more than to be stepped",
                "pass schedules of the number of steps alone",
            )
        found = schedulers[0].optimizer if optimizer is None else optimizer
        for i, s in enumerate(schedulers):
            self._need(
                s.optimizer is found,
                f"scheduler {i} belongs to another optimizer",
                "make all of them for one",
            )
        return self._checked(found)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, the parts included."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state.  Raises ArgumentError if it does not fit."""
        self._fits(state_dict, set(self.state_dict()))
        parts = state_dict["_schedulers"]
        self._need(
            len(parts) == len(self._schedulers),
            f"the state has {len(parts)} schedulers where {len(self._schedulers)} are needed",
            "make it as it was when saved",
        )
        for s, part in zip(self._schedulers, parts, strict=True):
            s.load_state_dict(part)
        self.__dict__.update({k: v for k, v in state_dict.items() if k != "_schedulers"})

    def _restart(self) -> None:
        for group in self.optimizer.param_groups:
            _put(group, group["initial_lr"])
        _undo(self, True)
        self._start()


class SequentialLR(_Several):
    """One schedule after the other; milestones: the epochs at which the second, third, ... begins."""

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self._need(
            len(milestones) == len(schedulers) - 1,
            f"{len(schedulers)} schedulers and {len(milestones)} milestones",
            "pass one milestone less than schedulers",
        )
        self.optimizer = self._same_optimizer(schedulers, optimizer)
        self._schedulers, self._milestones = list(schedulers), list(milestones)
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            _put(group, group["initial_lr"])
        _undo(self)  # the schedules have all made their first step, as if each were alone
        self._start()

    def _start(self) -> None:
        self.last_epoch = max(self.last_epoch, 0)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._start()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: Any = None) -> None:
        """Go to the next epoch."""
        self._need(epoch is None, "it cannot jump to an epoch", "call step() without an argument")
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        s = self._schedulers[i]
        if i and self._milestones[i - 1] == self.last_epoch:
            s._restart()
        else:
            s.step()
        self._last_lr = s.get_last_lr()


def _undo(schedule: LRScheduler, all_of_it: bool = False) -> None:
    """Take back the last step of a schedule and its parts, or all of them."""
    if isinstance(schedule, _Several):
        for s in schedule._schedulers:
            _undo(s, all_of_it)
        if all_of_it:
            schedule.last_epoch = -1
    else:
        schedule.last_epoch = -1 if all_of_it else schedule.last_epoch - 1


class ChainedScheduler(_Several):
    """Several schedules at once: each changes what the ones before it have left."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self.optimizer = self._same_optimizer(schedulers, optimizer)
        self._schedulers = list(schedulers)
        self._last_lr = _rates(self.optimizer)

    def _start(self) -> None:
        for s in self._schedulers:
            s._start()
        self._last_lr = _rates(self.optimizer)

    def step(self, epoch: Any = None) -> None:
        """Go to the next epoch."""
        self._need(epoch is None, "it cannot jump to an epoch", "call step() without an argument")
        for s in self._schedulers:
            s.step()
        self._last_lr = _rates(self.optimizer)


class WarmupLR(SequentialLR):
    """A learning rate that grows linearly for warmup_iters steps, and then follows another schedule.

    after: a schedule of the same optimizer, which begins when the warm-up ends; None for a constant
    learning rate.  start_factor: where it starts, as a share of the initial learning rate; by default
    1 / warmup_iters.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_iters: int,
        after: LRScheduler | None = None,
        start_factor: float | None = None,
    ) -> None:
        self._need(warmup_iters > 0, f"warmup_iters is {warmup_iters!r}", "choose a positive number of steps")
        then = ConstantLR(optimizer, 1.0, 0) if after is None else after
        warm = LinearLR(
            optimizer, 1 / warmup_iters if start_factor is None else start_factor, 1.0, warmup_iters
        )
        super().__init__(optimizer, [warm, then], [warmup_iters])


# -- by what happens -----------------------------------------------------------------------------------


class ReduceLROnPlateau(LRScheduler):
    """lr times factor when a measure, such as the validation loss, has stopped getting better.

    mode: "min" or "max", what is better.  patience: how many epochs without improvement are borne.
    threshold, threshold_mode: what counts as one: a share ("rel") or a difference ("abs").  cooldown:
    epochs to wait after a reduction.  min_lr: a number, or one for each group.  eps: a smaller change of
    the learning rate is not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        self.optimizer = self._checked(optimizer)
        self._need(0 <= factor < 1, f"factor is {factor!r}", "choose it below 1")
        self._need(mode in ("min", "max"), f"there is no mode {mode!r}", "use min or max")
        self._need(
            threshold_mode in ("rel", "abs"),
            f"there is no threshold_mode {threshold_mode!r}",
            "use rel or abs",
        )
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.min_lr = min_lr
        _each("min_lr", optimizer, min_lr)
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = _rates(optimizer)

    def _better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take note of a measure (a number or 0-d tensor), and lower the learning rate if it is time."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        value = float(metrics)
        self.num_bad_epochs += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.num_bad_epochs, self.cooldown_counter = 0, self.cooldown
            lowest = _each("min_lr", self.optimizer, self.min_lr)
            for group, least in zip(self.optimizer.param_groups, lowest, strict=True):
                old = float(group["lr"])
                new = max(old * self.factor, least)
                if old - new > self.eps:
                    _put(group, new)
        self._last_lr = _rates(self.optimizer)


__all__ = [
    "SWALR",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupLR",
]
