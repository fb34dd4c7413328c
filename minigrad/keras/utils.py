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


def set_random_seed(seed: int) -> None:
    """Seed minigrad's generator, and Python's and numpy's: the same seed gives the same run."""
    manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % (1 << 32))  # noqa: NPY002 - for programs that use it
