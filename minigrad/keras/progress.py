"""Progress: a bar that moves on a terminal, one line an epoch anywhere else.

    Epoch 1/2
    32/32 ━━━━━━━━━━━━━━━━━━━━ 0s 1.2ms/step - accuracy: 0.6412 - loss: 1.2310

A log file or a notebook keeps one line an epoch, without control characters.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from ..errors import ArgumentError, MissingExtraError
from .callbacks import Logs

_WIDTH = 20
_INTERVAL = 0.05  # seconds between redraws


def duration(seconds: float) -> str:
    """A time a step, with a unit that suits it.

    >>> duration(0.00123), duration(0.25), duration(0.00005)
    ('1.2ms', '250ms', '50us')
    """
    if seconds >= 1.0:
        return f"{seconds:.1f}s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.{1 if seconds < 1e-2 else 0}f}ms"
    return f"{seconds * 1e6:.0f}us"


def figures(logs: Logs) -> str:
    """`accuracy: 0.9000 - loss: 0.3000`, those on validation data last, as Keras orders them."""
    ordered = sorted(logs.items(), key=lambda item: (item[0].startswith("val_"), item[0]))
    return " - ".join(
        f"{name}: {value:.4f}" if abs(value) > 1e-3 or not value else f"{name}: {value:.4e}"
        for name, value in ordered
    )


def _tqdm(steps: int, title: str) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise MissingExtraError(
            "verbose", "tqdm is not installed", fix="pip install 'minigrad[progress]'"
        ) from None
    return tqdm(total=steps, desc=title or None)


class Progress:
    """The display of one pass of `steps` steps."""

    def __init__(self, verbose: int | str, steps: int, title: str = "", epochs: int = 0) -> None:
        if verbose not in ("auto", "tqdm", 0, 1, 2):
            raise ArgumentError(
                "verbose",
                f"it is {verbose!r}",
                fix="use 0 (quiet), 1 (a bar), 2 (a line an epoch), 'tqdm' or 'auto'",
            )
        terminal = sys.stdout.isatty()
        self.shown = verbose != 0
        self.bar = self.shown and verbose != 2 and terminal
        self.steps = steps
        self.title = title
        self.start = self.drawn = time.perf_counter()
        self.tqdm = _tqdm(steps, title) if verbose == "tqdm" else None
        self.bar = self.bar or self.tqdm is not None
        if self.bar and title and self.tqdm is None:
            print(title)

    def _state(self, done: int, logs: Logs, taken: float) -> str:
        filled = _WIDTH * done // max(self.steps, done, 1)
        count = f"{done:>{len(str(self.steps))}}/{self.steps or '?'}"
        rate = duration(taken / max(done, 1))
        line = f"{count} {'━' * filled}{'─' * (_WIDTH - filled)} {taken:.0f}s {rate}/step"
        return f"{line} - {figures(logs)}" if logs else line

    def due(self) -> bool:
        """Whether the bar should be drawn again."""
        return self.bar and time.perf_counter() - self.drawn > _INTERVAL

    def draw(self, done: int, logs: Logs) -> None:
        """Draw the bar."""
        self.drawn = time.perf_counter()
        if self.tqdm is not None:
            self.tqdm.n = done
            self.tqdm.set_postfix_str(figures(logs))
            return
        sys.stdout.write("\r" + self._state(done, logs, self.drawn - self.start) + "\x1b[K")
        sys.stdout.flush()

    def lap(self, steps: int) -> None:
        """That many steps are done; what follows is not part of their time."""
        self.steps = steps
        self.taken = time.perf_counter() - self.start

    def end(self, logs: Logs) -> None:
        """Leave the final line."""
        if not self.shown:
            return
        if self.tqdm is not None:
            self.draw(self.steps, logs)
            self.tqdm.close()
        elif self.bar:
            print("\r" + self._state(self.steps, logs, self.taken) + "\x1b[K")
        else:
            head = [self.title] if self.title else []
            rate = duration(self.taken / max(self.steps, 1))
            parts = [
                *head,
                f"{self.steps} step{'s' if self.steps != 1 else ''}",
                f"{self.taken:.1f}s",
                f"{rate}/step",
                *([figures(logs)] if logs else []),
            ]
            print(" - ".join(parts), flush=True)
