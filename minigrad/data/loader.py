"""Batches: a pass over a data set in a given or a random order.

    >>> from minigrad.data import TensorDataset
    >>> from minigrad.random import Generator
    >>> import numpy as np
    >>> loader = DataLoader(TensorDataset(np.arange(5)), batch_size=2, shuffle=True, generator=Generator(0))
    >>> [batch.tolist() for (batch,) in loader]
    [[3, 4], [2, 1], [0]]

Every pass draws one permutation, from `generator` or from the default one, so `manual_seed` (or a
generator of one's own) makes the order of a whole training run reproducible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..ops.creation import randperm
from ..ops.movement import stack
from ..random import Generator
from ..tensor import Tensor, as_array, wrap
from .sets import Dataset, TensorDataset


class DataLoader:
    """Iterate over batches of a data set.

    dataset: a `Dataset`, or anything with a length and examples by index (a tensor or array stands
    for its `TensorDataset`).  batch_size: examples a batch.  shuffle: a new random order for every
    pass.  drop_last: leave out a last batch that is smaller.  generator: where the order comes
    from.  Raises ArgumentError for a batch size below 1.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ArgumentError(
                "DataLoader", f"a batch size of {batch_size!r}", fix="pass an integer of at least 1"
            )
        if isinstance(dataset, (Tensor, np.ndarray)):
            dataset = TensorDataset(dataset)
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DTypeError(
                "DataLoader",
                f"a {type(dataset).__name__} is no data set",
                fix="pass a TensorDataset, or an object with __len__ and __getitem__",
            )
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        self.generator = generator

    def __len__(self) -> int:
        """The number of batches of a pass."""
        count = len(self.dataset)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        count, size, dataset = len(self.dataset), self.batch_size, self.dataset
        order = randperm(count, generator=self.generator)._array if self.shuffle else None
        batched = isinstance(dataset, Dataset) and dataset.batched
        for start in range(0, len(self) * size, size):
            stop = min(start + size, count)
            if batched:
                yield dataset[start:stop] if order is None else dataset[order[start:stop]]
            else:
                indices = range(start, stop) if order is None else order[start:stop]
                yield collate([dataset[int(i)] for i in indices])


def collate(examples: Sequence[Any]) -> Any:
    """Examples stacked into a batch: tensors, arrays and numbers along a new first dimension,
    tuples, lists and dictionaries part by part."""
    first = examples[0]
    if isinstance(first, Tensor):
        return stack(list(examples))
    if hasattr(first, "collate"):  # it knows itself, as a Graph does
        return first.collate(examples)
    if isinstance(first, dict):
        return {key: collate([example[key] for example in examples]) for key in first}
    if isinstance(first, (tuple, list)):
        parts = [collate(part) for part in zip(*examples, strict=True)]
        return tuple(parts) if isinstance(first, tuple) else parts
    if isinstance(first, (np.ndarray, np.generic)):
        return wrap(as_array(np.stack(examples)))
    if isinstance(first, (int, float)):
        return wrap(as_array(list(examples)))
    raise DTypeError(
        "DataLoader",
        f"examples of type {type(first).__name__} cannot be stacked",
        fix="return tensors, arrays or numbers",
    )
