"""Callbacks: functions of one's own, called while a model is trained.

    >>> class Print(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(epoch, sorted(logs))

`fit` returns its `History`, which is a callback too.  Set `self.model.stop_training = True` to end
after the epoch that is running.  `LearningRateScheduler` and `ReduceLROnPlateau` change the learning rate
from epoch to epoch; from step to step that is done by a schedule (`optimizers.schedules`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from .options import Checked

Logs = dict[str, float]


class Callback:
    """Base of callbacks: every method may be overridden, and does nothing by default.

    self.model is the model, self.params has "epochs", "steps" and "verbose".
    """

    model: Any = None
    params: dict[str, Any]

    def on_train_begin(self, logs: Logs) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch, with its loss and metrics, those on validation data as `val_...`."""

    def on_train_batch_begin(self, batch: int, logs: Logs) -> None:
        """Before a step, counted from 0 in its epoch."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a step, with the means so far."""


class History(Callback):
    """What happened: `history[name][i]` is the loss or metric `name` of the epoch `epoch[i]`."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Remember."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs: {', '.join(self.history)}>"


class LambdaCallback(Callback):
    """A callback from functions, by the names of its methods: `LambdaCallback(on_epoch_end=f)`."""

    def __init__(self, **functions: Any) -> None:
        from .options import listed

        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name, function in functions.items():
            if name not in known:
                raise ArgumentError(
                    "LambdaCallback", f"there is no moment {name!r}", fix=f"it has {listed(known)}"
                )
            setattr(self, name, function)


class LearningRateScheduler(Callback, Checked):
    """Sets the learning rate before each epoch: `schedule(epoch, learning_rate)`, epochs from 0.

    verbose: 1 to print it.
    """

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise ArgumentError(
                "LearningRateScheduler",
                f"the schedule is a {type(schedule).__name__}",
                fix="pass a function of the epoch and the learning rate",
            )
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Set the learning rate."""
        rate = float(self.schedule(epoch, self.model.optimizer.learning_rate))
        self.model.optimizer.learning_rate = rate
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate is {rate:g}")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Note it in the history."""
        logs["learning_rate"] = self.model.optimizer.learning_rate


class ReduceLROnPlateau(Callback, Checked):
    """Multiplies the learning rate by factor when `monitor` has not got better for `patience` epochs.

    mode: "min", "max" or "auto" (max for accuracies).  min_delta: a smaller change is none.  cooldown:
    epochs to wait after a reduction.  verbose: 1 to print it.  Raises ArgumentError for a factor of 1 or
    more, and where there is no such measure.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        if not 0 < factor < 1:
            raise ArgumentError("ReduceLROnPlateau", f"factor is {factor!r}", fix="choose it below 1")
        if mode not in ("auto", "min", "max"):
            raise ArgumentError("ReduceLROnPlateau", f"mode is {mode!r}", fix="use auto, min or max")
        self.monitor, self.factor, self.patience, self.verbose = monitor, factor, patience, verbose
        upwards = mode == "max" or (mode == "auto" and "acc" in monitor)
        self.sign = 1.0 if upwards else -1.0
        self.min_delta, self.cooldown, self.min_lr = min_delta, cooldown, min_lr
        self._begin()

    def _begin(self) -> None:
        self.best, self.wait, self.cooldown_counter = -math.inf, 0, 0

    def on_train_begin(self, logs: Logs) -> None:
        """Forget what was before."""
        self._begin()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Take note, and reduce if it is time."""
        optimizer = self.model.optimizer
        logs["learning_rate"] = optimizer.learning_rate
        if self.monitor not in logs:
            raise ArgumentError(
                "ReduceLROnPlateau",
                f"there is no measure {self.monitor!r}",
                fix=f"monitor one of {', '.join(k for k in logs if k != 'learning_rate')}"
                + ("; pass validation data for val_..." if self.monitor.startswith("val_") else ""),
            )
        value = self.sign * logs[self.monitor]
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if value > self.best + self.min_delta:
            self.best, self.wait = value, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                self.wait, self.cooldown_counter = 0, self.cooldown
                if self.verbose:
                    print(f"Epoch {epoch + 1}: the learning rate is {optimizer.learning_rate:g} now")
