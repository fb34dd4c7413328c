"""Callbacks: functions of one's own, called while a model is trained.

    >>> class Print(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(epoch, sorted(logs))

`fit` returns its `History`, which is a callback too.  Set `self.model.stop_training = True` to end
after the epoch that is running.  `LearningRateScheduler` and `ReduceLROnPlateau` change the learning rate
from epoch to epoch; from step to step that is done by a schedule (`optimizers.schedules`).
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from typing import Any

from .. import checkpoint
from ..errors import ArgumentError, MissingExtraError
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


def _figure(name: str, monitor: str, logs: Logs) -> float:
    """The measure that is watched."""
    if monitor not in logs:
        raise ArgumentError(
            name,
            f"there is no measure {monitor!r}",
            fix=f"monitor one of {', '.join(logs)}"
            + ("; pass validation data for val_..." if monitor.startswith("val_") else ""),
        )
    return logs[monitor]


def _sign(name: str, mode: str, monitor: str) -> float:
    """1 where more of a measure is better, -1 where less is."""
    if mode not in ("auto", "min", "max"):
        raise ArgumentError(name, f"mode is {mode!r}", fix="use auto, min or max")
    better_up = ("acc", "auc", "precision", "recall", "f1", "r2")
    return 1.0 if mode == "max" or (mode == "auto" and any(w in monitor for w in better_up)) else -1.0


class EarlyStopping(Callback, Checked):
    """Ends training when `monitor` has not got better by more than min_delta for `patience` epochs.

    baseline: a value to be better than first.  restore_best_weights: go back to those of the best epoch
    at the end.  start_from_epoch: epochs before count for nothing.  mode: "min", "max" or "auto".
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        self.sign = _sign("EarlyStopping", mode, monitor)
        self.monitor, self.min_delta, self.patience = monitor, abs(min_delta), patience
        self.verbose, self.baseline = verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.stopped_epoch = 0
        self._begin()

    def _begin(self) -> None:
        self.wait, self.best_epoch = 0, 0
        self.best = -math.inf if self.baseline is None else self.sign * self.baseline
        self.best_weights: dict[str, Any] | None = None
        self._fresh = True

    def on_train_begin(self, logs: Logs) -> None:
        """Forget what was before, unless a state was loaded."""
        if not self._fresh:
            self._fresh = True
        else:
            self._begin()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Take note, and stop if it is time."""
        value = self.sign * _figure("EarlyStopping", self.monitor, logs)
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.restore_best_weights and self.best_weights is None:
            self._keep(epoch)
        if value > self.best + self.min_delta:
            self.best, self.wait = value, 0
            self._keep(epoch)
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _keep(self, epoch: int) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            self.best_weights = {k: v.numpy().copy() for k, v in self.model.state_dict().items()}

    def on_train_end(self, logs: Logs) -> None:
        """Go back to the best weights."""
        if self.verbose and self.stopped_epoch:
            print(f"Epoch {self.stopped_epoch + 1}: stopped early")
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on with."""
        names = ("wait", "best", "best_epoch", "best_weights", "stopped_epoch")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for name, value in state_dict.items():
            setattr(self, name, value)
        self._fresh = False


class ModelCheckpoint(Callback, Checked):
    """Saves the model after each epoch, atomically: what was there stays until the new file is whole.

    filepath: may hold {epoch} (from 1) and names of measures, "best-{epoch:02d}-{val_loss:.2f}.safetensors".
    save_best_only: only when `monitor` is better than ever.  save_weights_only: no optimizer and layers.
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        initial_value_threshold: float | None = None,
    ) -> None:
        self.sign = _sign("ModelCheckpoint", mode, monitor)
        self.filepath, self.monitor, self.verbose = os.fspath(filepath), monitor, verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.best = -math.inf if initial_value_threshold is None else self.sign * initial_value_threshold

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save"""
        if self.save_best_only:
            value = self.sign * _figure("ModelCheckpoint", self.monitor, logs)
            if not value > self.best:
                return
            self.best = value
        try:
            path = self.filepath.format(epoch=epoch + 1, **logs)
        except KeyError as error:
            raise ArgumentError(
                "ModelCheckpoint", f"filepath has {{{error.args[0]}}}", fix=f"use epoch, {', '.join(logs)}"
            ) from None
        if self.save_weights_only or not hasattr(self.model, "save"):
            checkpoint.save(path, dict(self.model.state_dict()))
        else:
            self.model.save(path)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved {path}")


class CSVLogger(Callback, Checked):
    """A line of a table for each epoch; append: go on with a table that is there."""

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        self.filename, self.separator, self.append = os.fspath(filename), separator, append
        self._columns: list[str] | None = None

    def on_train_begin(self, logs: Logs) -> None:
        """Begin the table, or read which columns it has."""
        self._columns = None
        if self.append and os.path.exists(self.filename):
            with open(self.filename, newline="") as file:
                self._columns = next(csv.reader(file, delimiter=self.separator), None)
        else:
            open(self.filename, "w").close()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write a line"""
        with open(self.filename, "a", newline="") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if self._columns is None:
                self._columns = ["epoch", *logs]
                writer.writerow(self._columns)
            row = {"epoch": epoch, **logs}
            writer.writerow([row.get(name, "NA") for name in self._columns])


class TerminateOnNaN(Callback):
    """Ends training quietly when the loss is NaN or Inf, where `fit` by itself raises AnomalyError."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Look at the loss"""
        if not math.isfinite(logs.get("loss", 0.0)):
            print(f"Batch {batch}: the loss is {logs['loss']}, training ends")
            self.model.stop_training = True


class TensorBoard(Callback, Checked):
    """Event files for TensorBoard, written by tensorboardX (`pip install 'minigrad[tensorboard]'`)."""

    def __init__(self, log_dir: Any = "logs") -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise MissingExtraError(
                "TensorBoard", "tensorboardX is not installed", fix="pip install 'minigrad[tensorboard]'"
            ) from None
        self.log_dir, self._make = os.fspath(log_dir), SummaryWriter
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the measures, training and validation as two runs of one chart."""
        for name, value in logs.items():
            part = "validation" if name.startswith("val_") else "train"
            if part not in self._writers:
                self._writers[part] = self._make(os.path.join(self.log_dir, part))
            self._writers[part].add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)

    def on_train_end(self, logs: Logs) -> None:
        """Close the files"""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


class LivePlot(Callback, Checked):
    """Curves of the measures, drawn anew in a notebook after every `every` epochs (matplotlib)."""

    def __init__(self, every: int = 1) -> None:
        try:
            import matplotlib.pyplot as plt
            from IPython.display import display as show
        except ImportError:
            raise MissingExtraError(
                "LivePlot", "matplotlib or IPython is not installed", fix="pip install 'minigrad[notebooks]'"
            ) from None
        self.every = every
        self._plt: Any = plt
        self._display: Any = show

    def on_train_begin(self, logs: Logs) -> None:
        """Begin an empty picture"""
        self._history: dict[str, list[float]] = {}
        self._handle: Any = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Draw"""
        for name, value in logs.items():
            self._history.setdefault(name, []).append(value)
        if (epoch + 1) % self.every:
            return
        names = [name for name in self._history if not name.startswith("val_")]
        figure, axes = self._plt.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False)
        for axis, name in zip(axes[0], names, strict=True):
            for label in (name, f"val_{name}"):
                if label in self._history:
                    axis.plot(range(1, len(self._history[label]) + 1), self._history[label], label=label)
            axis.set_xlabel("epoch")
            axis.legend()
        figure.tight_layout()
        if self._handle is None:
            self._handle = self._display(figure, display_id=True)
        else:
            self._handle.update(figure)
        self._plt.close(figure)
