"""What models are fed with: arrays in memory, or batches that come from somewhere.

`Data` are the arrays of all inputs, labels and weights, cut into batches.  `Stream` is anything that gives
batches (x, y) or (x, y, sample_weight): a `minigrad.data.DataLoader`, a `PyDataset`, a generator.

    >>> import numpy as np
    >>> data = Data((np.arange(5.0),), (np.arange(5.0),), ())
    >>> [len(batch) for batch in data.batches(2, None)]
    [2, 2, 1]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..tensor import Tensor, wrap
from .losses import Array


class Data:
    """Examples, labels and weights of all inputs and outputs, ready for the loss; weights may be ()."""

    __slots__ = ("weights", "x", "y")

    def __init__(self, x: tuple[Array, ...], y: tuple[Array, ...], weights: tuple[Array, ...]) -> None:
        self.x, self.y, self.weights = x, y, weights

    def __len__(self) -> int:
        return len(self.x[0])

    def steps(self, size: int) -> int | None:
        """How many batches there are."""
        return -(-len(self) // size)

    def tensors(self) -> tuple[Tensor, ...]:
        """The same as tensors: inputs, labels, and weights if there are any."""
        return tuple([wrap(a) for a in (*self.x, *self.y, *self.weights)])

    def rows(self, index: Any) -> Data:
        """Some of the examples."""
        if isinstance(index, slice):
            return Data(*(tuple([a[index] for a in part]) for part in (self.x, self.y, self.weights)))
        # `take` is several times faster than indexing by an array, where rows lie in order
        return Data(*(tuple([a.take(index, 0) for a in part]) for part in (self.x, self.y, self.weights)))

    def batches(self, size: int, order: Array | None) -> Iterator[Data]:
        """Consecutive batches, of the examples as they are or in an order."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size) if order is None else order[start : start + size])

    def cut(self, share: float) -> tuple[Data, Data]:
        """All but the last share of the examples, and those."""
        if not 0.0 < share < 1.0:
            raise ArgumentError("fit", f"validation_split is {share!r}", fix="choose it above 0 and below 1")
        at = math.floor(len(self) * (1.0 - share))
        if not 0 < at < len(self):
            raise ArgumentError(
                "fit",
                f"validation_split {share} of {len(self)} examples leaves a part empty",
                fix="use another share, or pass validation_data",
            )
        return self.rows(slice(0, at)), self.rows(slice(at, None))


class Stream:
    """Batches that come from somewhere; each is checked as it comes.

    check: makes `Data` of (x, y, sample_weight).  limit: batches an epoch; a generator goes on in the next
    epoch where it was, anything else begins again.
    """

    def __init__(self, source: Any, check: Callable[[Any, Any, Any], Data], limit: int | None) -> None:
        self.source, self.check, self.limit = source, check, limit
        self._once = hasattr(source, "__next__")
        self._ended = False

    def steps(self, size: int) -> int | None:
        """How many batches there are, if that is known."""
        known = len(self.source) if hasattr(self.source, "__len__") else None
        return known if self.limit is None else self.limit

    def _items(self) -> Iterator[Any]:
        if hasattr(self.source, "__iter__"):
            return iter(self.source)
        return (self.source[i] for i in range(len(self.source)))

    def batches(self, size: int, order: Array | None) -> Iterator[Data]:
        """The batches of an epoch."""
        items, given = self._items(), 0
        while self.limit is None or given < self.limit:
            item = next(items, None)
            if item is None:
                break
            given += 1
            if not isinstance(item, (tuple, list)) or not 1 <= len(item) <= 3:
                raise DTypeError(
                    "fit",
                    f"the data gives a {type(item).__name__} where a batch is needed",
                    fix="let it give tuples (x, y) or (x, y, sample_weight)",
                )
            yield self.check(*item, *(None,) * (3 - len(item)))
        if not given or (self.limit is not None and given < self.limit):
            raise ArgumentError(
                "fit",
                f"the data ended after {given} batches" + (" of an epoch" if given or self._once else ""),
                fix="let generators go on for ever (while True) and pass steps_per_epoch"
                if self._once
                else "check how the data is loaded, and steps_per_epoch",
            )
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()


def is_stream(x: Any) -> bool:
    """Whether x gives batches rather than being data itself."""
    if isinstance(x, (np.ndarray, Tensor, list, tuple, dict, str)) or hasattr(x, "__array__"):
        return False
    return hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


__all__ = ["Data", "Stream", "is_stream"]
