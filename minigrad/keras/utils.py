"""Small helpers, by Keras's names.

>>> to_categorical([0, 2], num_classes=3).tolist()
[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..random import manual_seed
from .losses import Array, array_of, class_indices


def to_categorical(x: Any, num_classes: int | None = None) -> Array:
    """Class indices (...) as one-hot rows (..., num_classes) of float32; by default as many as needed.

    Raises ArgumentError for an index outside of 0 to num_classes - 1.
    """
    labels = array_of(x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if num_classes is None:
        if not labels.size:
            raise ArgumentError("to_categorical", "there are no labels", fix="pass num_classes")
        num_classes = int(labels.max()) + 1
    rows: Array = np.eye(num_classes, dtype=np.float32)[class_indices("to_categorical", labels, num_classes)]
    return rows


def normalize(x: Any, axis: int = -1, order: int = 2) -> Array:
    """x divided by its norm of this order along an axis; what is zero stays zero."""
    array = np.asarray(array_of(x), np.float64)
    norm = np.linalg.norm(array, order, axis, keepdims=True)
    return array / np.where(norm == 0.0, 1.0, norm)


def pad_sequences(
    sequences: Any,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float = 0.0,
) -> Array:
    """Sequences of different length as rows of one array, (n, maxlen); by default as long as the longest.

    padding, truncating: "pre" or "post", where `value` is put before or after, and where long ones are cut.
    """
    for what, where in (("padding", padding), ("truncating", truncating)):
        if where not in ("pre", "post"):
            raise ArgumentError("pad_sequences", f"{what} is {where!r}", fix="use 'pre' or 'post'")
    rows = [np.asarray(array_of(sequence)) for sequence in sequences]
    size = max((len(row) for row in rows), default=0) if maxlen is None else maxlen
    inner = next((row.shape[1:] for row in rows if len(row)), ())
    result: Array = np.full((len(rows), size, *inner), value, dtype)
    for i, row in enumerate(rows):
        part = row[len(row) - size :] if truncating == "pre" and len(row) > size else row[:size]
        if len(part):
            place = slice(None, len(part)) if padding == "post" else slice(size - len(part), None)
            result[i, place] = part
    return result


class PyDataset:
    """Base of data that gives batches by number: define `__len__` and `__getitem__(i)`, (x, y) of batch i.

    `on_epoch_end` is called after each epoch.  Batches are made one after the other by the process itself.
    """

    def __len__(self) -> int:
        """The number of batches."""
        raise ArgumentError(type(self).__name__, "__len__ is not defined", fix="define __len__(self)")

    def __getitem__(self, index: int) -> Any:
        """(x, y), or (x, y, sample_weight), of a batch."""
        raise ArgumentError(
            type(self).__name__, "__getitem__ is not defined", fix="define __getitem__(self, i)"
        )

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def on_epoch_end(self) -> None:
        """After each epoch."""


Sequence = PyDataset


def set_random_seed(seed: int) -> None:
    """Seed minigrad's generator, and Python's and numpy's: the same seed gives the same run."""
    manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % (1 << 32))  # noqa: NPY002 - for programs that use it
