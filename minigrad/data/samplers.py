"""Samplers: in which order, and how often, the examples of a data set come.

A sampler is anything with a length that yields indices.  Those here draw from the package's own
counter-based generator, all indices of a pass at once, so that the order of a run depends on its seed
and on nothing else.

Drawing with weights w_i:

    with replacement      the index whose cumulative share of sum(w) holds a uniform number
    without replacement   the k largest of  log(u_i) / w_i,  u_i uniform  (Efraimidis & Spirakis 2006)

    >>> from minigrad.random import Generator
    >>> sampler = WeightedRandomSampler([0.0, 1.0, 3.0], 8, generator=Generator(0))
    >>> list(sampler)
    [2, 2, 2, 2, 1, 1, 2, 2]
    >>> list(BatchSampler(SequentialSampler(range(5)), 2, drop_last=True))
    [[0, 1], [2, 3]]

Names and arguments are those of `torch.utils.data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..ops.creation import rand, randint, randperm
from ..random import Generator
from ..tensor import Tensor

Array = np.ndarray[Any, Any]


def positive(op: str, name: str, value: Any, least: int = 1) -> int:
    """`value` as an int of at least `least`; ArgumentError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ArgumentError(op, f"{name} is {value!r}", fix=f"pass an integer of at least {least}")
    return int(value)


class Sampler:
    """Base of samplers: subclasses define `__len__` and `indices`, or `__iter__` itself.

    generator: where random numbers come from; None is the loader's, or else the default one.
    """

    def __init__(self, generator: Generator | None = None) -> None:
        self.generator = generator

    def __len__(self) -> int:
        raise ArgumentError(type(self).__name__, "the sampler has no length", fix="define __len__(self)")

    def indices(self, generator: Generator | None = None) -> Array:
        """All indices of a pass, (n,) int64, drawn from this generator or the default one."""
        raise ArgumentError(
            type(self).__name__, "the sampler draws nothing", fix="define indices(self, generator)"
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices(self.generator).tolist())


class SequentialSampler(Sampler):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Any) -> None:
        super().__init__()
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def indices(self, generator: Generator | None = None) -> Array:
        """In order"""
        return np.arange(len(self.data_source))


class RandomSampler(Sampler):
    """A permutation; or, with replacement, `num_samples` independent draws.

    num_samples: by default as many as there are examples; without replacement a larger number
    begins another permutation.
    """

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.data_source = data_source
        self.replacement = bool(replacement)
        self._count = (
            None if num_samples is None else positive("RandomSampler", "num_samples", num_samples, 0)
        )

    def __len__(self) -> int:
        return len(self.data_source) if self._count is None else self._count

    def indices(self, generator: Generator | None = None) -> Array:
        """At random"""
        n, count = len(self.data_source), len(self)
        if not n or not count:
            return np.zeros(0, np.int64)
        drawn: Array
        if self.replacement:
            drawn = randint(0, n, (count,), generator=generator)._array
        elif count <= n:
            drawn = randperm(n, generator=generator)._array[:count]
        else:
            drawn = np.concatenate([randperm(n, generator=generator)._array for _ in range(-(-count // n))])
        return drawn[:count]


class SubsetRandomSampler(Sampler):
    """The given indices in a random order."""

    def __init__(self, indices: Sequence[int] | Array, generator: Generator | None = None) -> None:
        super().__init__(generator)
        self._chosen = index_array("SubsetRandomSampler", indices)

    def __len__(self) -> int:
        return len(self._chosen)

    def indices(self, generator: Generator | None = None) -> Array:
        """At random"""
        drawn: Array = self._chosen[randperm(len(self._chosen), generator=generator)._array]
        return drawn


class WeightedRandomSampler(Sampler):
    """`num_samples` indices, each drawn with a probability in proportion to its weight.

    weights: (n,) non-negative, not all 0.  replacement: whether an index may come more than once.
    Raises ArgumentError for weights that are negative, not finite or all 0, and for more samples
    without replacement than there are positive weights.
    """

    def __init__(
        self,
        weights: Any,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        values = weights._array if isinstance(weights, Tensor) else np.asarray(weights)
        op = "WeightedRandomSampler"
        if values.ndim != 1 or values.dtype.kind not in "fiub":
            raise ArgumentError(
                op, f"weights of shape {values.shape} and dtype {values.dtype}", fix="pass n numbers"
            )
        self.weights: Array = values.astype(np.float64)
        if not np.isfinite(self.weights).all() or (self.weights < 0).any() or not self.weights.any():
            raise ArgumentError(
                op, "the weights are not all finite and non-negative, or all are 0", fix="check the weights"
            )
        self.num_samples = positive(op, "num_samples", num_samples)
        self.replacement = bool(replacement)
        possible = int(np.count_nonzero(self.weights))
        if not replacement and self.num_samples > possible:
            raise ArgumentError(
                op,
                f"{num_samples} samples without replacement of {possible} with a positive weight",
                fix="draw fewer, or with replacement=True",
            )

    def __len__(self) -> int:
        return self.num_samples

    def indices(self, generator: Generator | None = None) -> Array:
        """By weight"""
        count = self.num_samples if self.replacement else len(self.weights)
        u: Array = rand(count, generator=generator, dtype="float64")._array
        if self.replacement:
            edges = self.weights.cumsum()
            # `right` skips weights of 0, whose edge equals the one before
            found = np.searchsorted(edges, u * edges[-1], side="right")
            capped: Array = np.minimum(found, np.flatnonzero(self.weights)[-1])
            return capped
        with np.errstate(divide="ignore"):
            keys = np.where(self.weights > 0, np.log1p(-u) / self.weights, -np.inf)
        best: Array = np.argsort(-keys, kind="stable")[: self.num_samples]
        return best


class BatchSampler:
    """Lists of `batch_size` indices of another sampler; drop_last: without a smaller last one."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool = False) -> None:
        self.sampler: Any = sampler
        self.batch_size = positive("BatchSampler", "the batch size", batch_size)
        self.drop_last = bool(drop_last)

    def __len__(self) -> int:
        count = len(self.sampler)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in self.sampler:
            batch.append(int(index))
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch


def index_array(op: str, indices: Any) -> Array:
    """Indices as (n,) int64; DTypeError for anything else."""
    array = indices._array if isinstance(indices, Tensor) else np.asarray(indices)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DTypeError(
            op, f"indices of dtype {array.dtype} and shape {array.shape}", fix="pass a list of integers"
        )
    return array.astype(np.int64)
