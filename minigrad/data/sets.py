"""Data sets: something with a length, and an example for every index.

    >>> import numpy as np
    >>> pairs = TensorDataset(np.eye(3, dtype=np.float32), np.array([5, 6, 7]))
    >>> len(pairs), pairs[1]
    (3, (tensor([0., 1., 0.]), tensor(6)))
    >>> some, rest = random_split(pairs, [2, 1])
    >>> len(ConcatDataset([some, rest, pairs]))
    6

A data set whose `__getitem__` also takes an array of indices, as `TensorDataset` does, says so with
`batched = True`.  It is batched by one indexing operation a batch, which is as fast as numpy can be; any
other is batched example by example.  A part or a chain of batched sets is batched too.

A data set that has a method `set_epoch(epoch)` is told the number of the pass before each one: this is
how augmentation differs from pass to pass without drawing from a common stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ..ops.creation import randperm
from ..random import Generator
from ..tensor import Tensor, as_array, wrap
from ..tree import flatten
from .samplers import index_array


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

    def __add__(self, other: Dataset) -> ConcatDataset:
        """The examples of both."""
        return ConcatDataset([self, other])


def is_batched(dataset: Any) -> bool:
    """Whether a data set takes an array of indices."""
    return isinstance(dataset, Dataset) and dataset.batched


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
        if isinstance(index, np.ndarray) and index.dtype.kind == "i" and index.ndim == 1:
            # `take` copies whole rows, where fancy indexing goes element by element for narrow ones
            return tuple(
                t[index] if t.requires_grad else wrap(t._array.take(index, axis=0)) for t in self.tensors
            )
        return tuple(t[index] for t in self.tensors)


class _OfSets(Dataset):
    """A data set made of others."""

    parts: list[Any]

    def set_epoch(self, epoch: int) -> None:
        """Tell the parts which pass begins."""
        for part in self.parts:
            tell_epoch(part, epoch)


def tell_epoch(dataset: Any, epoch: int) -> None:
    """Tell a data set that wants to know which pass begins."""
    tell = getattr(dataset, "set_epoch", None)
    if tell is not None:
        tell(epoch)


class Subset(_OfSets):
    """The examples of `dataset` at `indices`.  Raises OutOfRangeError for one that it does not have."""

    def __init__(self, dataset: Any, indices: Sequence[int] | Any) -> None:
        self.dataset = dataset
        self.parts = [dataset]
        self.indices = index_array("Subset", indices)
        count = len(dataset)
        outside = self.indices[(self.indices < -count) | (self.indices >= count)]
        if outside.size:
            raise OutOfRangeError(
                "Subset", f"index {outside[0]} of {count} examples", fix=f"indices are below {count}"
            )
        self.batched = is_batched(dataset)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        chosen = self.indices[index]
        return self.dataset[chosen if self.batched and chosen.ndim else int(chosen)]


class ConcatDataset(_OfSets):
    """The examples of several data sets, one set after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = self.parts = list(datasets)
        if not self.datasets:
            raise ArgumentError("ConcatDataset", "there are no data sets", fix="pass at least one")
        self.cumulative_sizes: list[int] = np.cumsum([len(d) for d in self.datasets]).tolist()
        self.batched = all(is_batched(d) for d in self.datasets)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (slice, np.ndarray)):
            return self._gather(np.arange(len(self))[index])
        count = len(self)
        if not -count <= index < count:
            raise OutOfRangeError(
                "ConcatDataset", f"index {index} of {count} examples", fix=f"indices are below {count}"
            )
        index = int(index) % count
        which = int(np.searchsorted(self.cumulative_sizes, index, side="right"))
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]

    def _gather(self, index: Any) -> Any:
        """Examples of batched sets: those of each at once, put into the order that is asked for."""
        which = np.searchsorted(self.cumulative_sizes, index, side="right")
        starts = np.array([0, *self.cumulative_sizes[:-1]])
        order = np.argsort(which, kind="stable")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        # of no examples at all the first set still knows shapes and dtypes
        parts = [
            flatten(self.datasets[i][index[which == i] - starts[i]])
            for i in (np.unique(which) if len(index) else [0])
        ]
        joined = [
            wrap(
                np.concatenate(
                    [
                        as_array(leaf) if not isinstance(leaf, Tensor) else leaf.detach()._array
                        for leaf in leaves
                    ]
                ).take(back, axis=0)
            )
            for leaves in zip(*(leaves for leaves, _ in parts), strict=True)
        ]
        return parts[0][1].build(joined)


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Parts of the given lengths, or shares that add up to 1, of a random order of the examples.

    Of shares the parts are rounded down, and what is left goes to the first ones, one each, as in
    PyTorch.  Raises ArgumentError for lengths that do not add up.
    """
    count = len(dataset)
    given = list(lengths)
    if any(isinstance(v, bool) or not isinstance(v, (int, float, np.number)) for v in given):
        raise DTypeError("random_split", f"lengths are {given!r}", fix="pass integers, or shares of 1")
    if any(isinstance(v, (float, np.floating)) for v in given) and abs(sum(given) - 1.0) < 1e-9:
        sizes = [int(np.floor(count * v)) for v in given]
        for i in range(count - sum(sizes)):
            sizes[i % len(sizes)] += 1
    else:
        sizes = [int(v) if v == int(v) else -1 for v in given]
    if any(s < 0 for s in sizes) or sum(sizes) != count:
        raise ArgumentError(
            "random_split", f"lengths {given} of {count} examples", fix=f"they must add up to {count} or to 1"
        )
    order = randperm(count, generator=generator)._array
    edges = np.cumsum([0, *sizes])
    return [Subset(dataset, order[a:b]) for a, b in pairwise(edges)]
