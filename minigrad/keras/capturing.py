"""Capturing: a model's step is replayed as one program where that is possible.

A step of `fit` does the same for every batch, so it is compiled (`minigrad.compile`) unless the model
was told `run_eagerly=True`.  Three things make that safe to do without being asked:

- A step runs as it is until it has been called `WARM` times with arguments of the same shapes; only
  then is it traced.  What happens once (the last, smaller batch of a single epoch, `predict` on a few
  examples) is never compiled, what happens often is compiled once.
- A step that cannot be recorded, say because a loss of one's own takes a decision on its values, runs
  as it is from then on, with one warning that names the line.
- A program that refuses (a NaN, a label that is none) has changed nothing, and the step is run again
  as it is: errors are the same, with or without.

    >>> import minigrad as mg
    >>> double = Step(lambda x: x * 2.0)
    >>> [double(mg.ones(2)).tolist() for _ in range(3)][-1], double.captured
    ([2.0, 2.0], True)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..compiled import Compiled
from ..errors import Error, TraceError
from ..tensor import Tensor

#: How often a step runs as it is before it is compiled, for each kind of arguments: steps of training,
#: which come by the hundred; and those of `evaluate` and `predict`, which may be few and cost little.
WARM, WARM_TESTS = 2, 10


class Step:
    """A function of tensors that is captured once it has been called often enough.

    mode: "auto", True (a step that cannot be captured is an error) or False (it never is).
    """

    def __init__(self, function: Callable[..., Any], mode: bool | str = "auto", warm: int = WARM) -> None:
        self.function, self.mode, self.warm = function, mode, warm
        self.compiled: Compiled | None = None if mode is False else Compiled(function)
        self._calls: dict[Any, int] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Step, (self.function, self.mode, self.warm)  # copies capture for themselves

    @property
    def captured(self) -> bool:
        """Whether there is a program."""
        return self.compiled is not None and self.compiled.cached > 0

    def __call__(self, *args: Tensor) -> Any:
        """What the function gives."""
        compiled = self.compiled
        if compiled is None:
            return self.function(*args)
        key = tuple([t._array.shape for t in args])
        calls = self._calls.get(key, 0)
        if calls < self.warm and self.mode is not True:
            self._calls[key] = calls + 1
            return self.function(*args)
        try:
            return compiled(*args)
        except TraceError as error:
            if self.mode is True:
                raise
            self.compiled = None
            warnings.warn(
                f"this model trains uncompiled, because its step cannot be recorded: {error} "
                "(model.compile(..., run_eagerly=True) says the same and nothing more)",
                stacklevel=3,
            )
        except Error:
            pass  # nothing has changed, and the function itself says better what is wrong
        return self.function(*args)
