"""Data sets: something with a length, and an example for every index.

    >>> import numpy as np
    >>> pairs = TensorDataset(np.eye(3, dtype=np.float32), np.array([5, 6, 7]))
    >>> len(pairs), pairs[1]
    (3, (tensor([0., 1., 0.]), tensor(6)))

A data set whose `__getitem__` also takes an array of indices, as `TensorDataset` does, is batched
by one indexing operation a batch, which is as fast as numpy can be; any other is batched example
by example.
"""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, as_array, wrap


class Dataset:
    """Base of data sets: subclasses define `__len__` and `__getitem__(index)`."""

    #: Whether `__getitem__` takes an array of indices and returns the examples stacked.
    batched = False

    def __len__(self) -> int:
        raise ArgumentError(type(self).__name__, "the data set has no length", fix="define __len__(self)")

    def __getitem__(self, index: Any) -> Any:
        raise ArgumentError(
            type(self).__name__, "the data set has no examples", fix="define __getitem__(self, index)"
        )


class TensorDataset(Dataset):
    """Examples along the first dimension of one or more tensors (or numpy arrays, shared, not copied).

    Raises ShapeError if their first sizes differ.
    """

    batched = True

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise ArgumentError("TensorDataset", "no tensors were given", fix="pass at least one")
        self.tensors: tuple[Tensor, ...] = tuple(
            t if isinstance(t, Tensor) else wrap(as_array(t)) for t in tensors
        )
        for i, t in enumerate(self.tensors):
            if not t.ndim:
                raise ShapeError(
                    "TensorDataset", f"tensor {i} is 0-d and has no examples", fix="pass (n, ...) tensors"
                )
        sizes = [t.shape[0] for t in self.tensors]
        if len(set(sizes)) > 1:
            raise ShapeError(
                "TensorDataset",
                f"the tensors have {', '.join(map(str, sizes))} examples",
                fix="every tensor needs the same first size",
            )

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)
