"""Callbacks: functions of one's own, called while a model is trained.

    >>> class Print(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(epoch, sorted(logs))

`fit` returns its `History`, which is a callback too.  Set `self.model.stop_training = True` to end
after the epoch that is running.
"""

from __future__ import annotations

from typing import Any

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
        from ..errors import ArgumentError
        from .options import listed

        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name, function in functions.items():
            if name not in known:
                raise ArgumentError(
                    "LambdaCallback", f"there is no moment {name!r}", fix=f"it has {listed(known)}"
                )
            setattr(self, name, function)
