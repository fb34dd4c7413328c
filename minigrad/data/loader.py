"""Batches: a pass over a data set in a given or a random order.

    >>> from minigrad.data import TensorDataset
    >>> from minigrad.random import Generator
    >>> import numpy as np
    >>> loader = DataLoader(TensorDataset(np.arange(5)), batch_size=2, shuffle=True, generator=Generator(0))
    >>> [batch.tolist() for (batch,) in loader]
    [[3, 4], [2, 1], [0]]

Every pass draws one permutation, from `generator` or from the default one, so `manual_seed` (or a
generator of one's own) makes the order of a whole training run reproducible: the order is drawn in the
program, never in a worker, and so does not depend on how many of them there are (see `workers`).

A loader knows where it is.  `state_dict()` within or after a pass holds the pass, the batches that were
handed out and the state of the generator when the pass began; a loader that was given it continues with
the next batch of the same order:

    >>> batches = iter(loader)
    >>> first, state = next(batches), loader.state_dict()
    >>> rest = [batch.tolist() for (batch,) in batches]
    >>> again = DataLoader(TensorDataset(np.arange(5)), batch_size=2, shuffle=True, generator=Generator(7))
    >>> again.load_state_dict(state)
    >>> [batch.tolist() for (batch,) in again] == rest
    True

Left out: data sets without a length, and pinned memory, which a CPU has no use for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ops.movement import stack
from ..random import Generator, default_generator
from ..tensor import Tensor, as_array, wrap
from .samplers import BatchSampler, RandomSampler, Sampler, SequentialSampler, positive
from .sets import TensorDataset, is_batched, tell_epoch

Array = np.ndarray[Any, Any]


class DataLoader:
    """Iterate over batches of a data set.

    dataset: a `Dataset`, or anything with a length and examples by index (a tensor or array stands for
    its `TensorDataset`).  batch_size: examples a batch; None hands out single examples.  shuffle: a new
    random order for every pass.  sampler: the order instead (indices, see `samplers`); batch_sampler:
    lists of indices instead.  num_workers: processes that make batches ahead, `prefetch_factor` (2) each;
    0 makes them here.  collate_fn: makes a batch of a list of examples.  drop_last: leave out a last batch
    that is smaller.  timeout: seconds to wait for a worker, 0 for ever.  worker_init_fn: called in each
    worker with its number.  persistent_workers: keep them from pass to pass.  multiprocessing_context: how
    they start ("fork", "spawn", "forkserver").  generator: where the order comes from.  pin_memory is for the
    transfer to another device; there is none, so it changes nothing, as in PyTorch without one.

    Raises ArgumentError for options that contradict each other, and while iterating `WorkerError` when a
    worker ends or is late, ShapeError for examples that cannot be stacked, and whatever the data set
    raises, with the traceback of the worker as a note.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        *,
        timeout: float = 0.0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: str | None = None,
        generator: Generator | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ) -> None:
        if isinstance(dataset, (Tensor, np.ndarray)):
            dataset = TensorDataset(dataset)
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DTypeError(
                "DataLoader",
                f"a {type(dataset).__name__} is no data set",
                fix="pass a TensorDataset, or an object with __len__ and __getitem__",
            )
        self.dataset = dataset
        self.num_workers = positive("DataLoader", "num_workers", num_workers, 0)
        self.timeout = float(timeout)
        if self.timeout < 0:
            raise ArgumentError("DataLoader", f"timeout is {timeout!r}", fix="pass seconds, or 0 for none")
        if not num_workers:
            given = {
                "prefetch_factor": prefetch_factor is not None,
                "persistent_workers": persistent_workers,
                "timeout": self.timeout > 0,
                "worker_init_fn": worker_init_fn is not None,
                "multiprocessing_context": multiprocessing_context is not None,
            }
            for name, is_given in given.items():
                if is_given:
                    raise ArgumentError(
                        "DataLoader", f"{name} without workers", fix="set num_workers, or leave it out"
                    )
        self.prefetch_factor = positive(
            "DataLoader", "prefetch_factor", 2 if prefetch_factor is None else prefetch_factor
        )
        self.persistent_workers = bool(persistent_workers)
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.collate_fn = collate_fn
        self.generator = generator
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ArgumentError(
                    "DataLoader",
                    "batch_sampler with batch_size, shuffle, sampler or drop_last",
                    fix="it decides all of them: leave them out",
                )
            if isinstance(batch_sampler, BatchSampler):
                sampler, batch_size = batch_sampler.sampler, batch_sampler.batch_size
                drop_last, batch_sampler = batch_sampler.drop_last, None
        elif sampler is not None and shuffle:
            raise ArgumentError(
                "DataLoader", "sampler and shuffle=True are both given", fix="pass one of them"
            )
        if batch_size is None and drop_last:
            raise ArgumentError("DataLoader", "drop_last without batches", fix="pass a batch_size")
        self.batch_size = None if batch_size is None else positive("DataLoader", "the batch size", batch_size)
        self.batch_sampler = batch_sampler
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        default = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        self.sampler: Any = default if sampler is None else sampler
        self._epoch = 0  # passes begun
        self._start: tuple[int, int] | None = None  # of the generator, when the pass began
        self._given = 0  # batches handed out in this pass
        self._resume: tuple[tuple[int, int] | None, int] | None = None
        self._crew: Any = None
        #: (rank, size): only so much of each batch, see `Trainer.fit`; and which batches are an example that
        #: counts nothing, because the batch has fewer than there are ranks.
        self.share: tuple[int, int] | None = None
        self.counts_nothing: list[bool] = []

    def __len__(self) -> int:
        """The number of batches of a pass."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        count = len(self.sampler)
        size = self.batch_size or 1
        return count // size if self.drop_last else -(-count // size)

    # -- a pass -------------------------------------------------------------------------------------

    def _stream(self) -> Generator:
        own = getattr(self.sampler if self.batch_sampler is None else self.batch_sampler, "generator", None)
        return own or self.generator or default_generator

    def _draw(self) -> list[Any]:
        """The indices of each batch of a pass: slices where the order is the natural one."""
        if self.batch_sampler is not None:
            return [np.asarray(batch, np.int64) for batch in self.batch_sampler]
        size = self.batch_size or 1
        if isinstance(self.sampler, SequentialSampler) and self.sampler.data_source is self.dataset:
            count = len(self.dataset)
            return [slice(i * size, min((i + 1) * size, count)) for i in range(len(self))]
        if isinstance(self.sampler, Sampler) and type(self.sampler).__iter__ is Sampler.__iter__:
            order = self.sampler.indices(self._stream())
        else:
            order = np.fromiter(self.sampler, np.int64)
        stop = len(order) // size * size if self.drop_last else len(order)
        return [order[i : min(i + size, stop)] for i in range(0, stop, size)]

    def __iter__(self) -> Iterator[Any]:
        stream = self._stream()
        if self._resume is None:
            self._start, self._given = stream.get_state(), 0
            batches = self._draw()
            self._epoch += 1
        else:
            (start, self._given), self._resume = self._resume, None
            now = stream.get_state()
            if start is not None:
                stream.set_state(start)
            self._start, batches = stream.get_state(), self._draw()
            stream.set_state(now)
        if self.share is not None:
            batches = self._shared(batches, *self.share)
        return self._pass(batches, self._epoch, self._given)

    def _shared(self, batches: list[Any], rank: int, size: int) -> list[Any]:
        """One rank's part of each batch."""
        parts = []
        self.counts_nothing = []
        for batch in batches:
            rows = np.arange(batch.start, batch.stop) if isinstance(batch, slice) else batch
            part = rows[len(rows) * rank // size : len(rows) * (rank + 1) // size]
            self.counts_nothing.append(not len(part))
            parts.append(part if len(part) else rows[:1])
        return parts

    def _pass(self, batches: list[Any], epoch: int, first: int) -> Iterator[Any]:
        key = self._start[0] if self._start else 0
        tell_epoch(self.dataset, epoch)
        if self.num_workers and len(batches) > first:
            source: Iterator[Any] = self._by_workers(batches, epoch, key, first)
        else:
            source = self._here(batches, epoch, key, first)
        for given, batch in enumerate(source, first + 1):
            self._given = given
            yield batch

    def _here(self, batches: list[Any], epoch: int, key: int, first: int) -> Iterator[Any]:
        if type(self.dataset) is TensorDataset and self.collate_fn is None:  # it draws nothing
            for indices in batches[first:]:
                yield self._fetch(indices)
            return
        from .workers import seeded

        for number in range(first, len(batches)):
            with seeded(key, epoch, number):
                batch = self._fetch(batches[number])
            yield batch

    def _by_workers(self, batches: list[Any], epoch: int, key: int, first: int) -> Iterator[Any]:
        from .workers import Workers

        crew, self._crew = self._crew, None
        done = False
        try:
            if crew is None:
                crew = Workers(
                    min(self.num_workers, len(batches)),
                    self.prefetch_factor,
                    self.dataset,
                    self._fetch,
                    init=self.worker_init_fn,
                    timeout=self.timeout,
                    method=self.multiprocessing_context,
                )
            yield from crew.run(batches, epoch, key, first)
            done = True
        finally:
            if crew is not None:
                if done and self.persistent_workers and self._crew is None:
                    self._crew = crew
                else:
                    crew.close()

    def _fetch(self, indices: Any) -> Any:
        """The batch of these indices."""
        if is_batched(self.dataset) and self.collate_fn is None:
            if self.batch_size is None:
                return self.dataset[indices.start if isinstance(indices, slice) else int(indices[0])]
            return self.dataset[indices]
        each = range(indices.start, indices.stop) if isinstance(indices, slice) else indices.tolist()
        examples = [self.dataset[i] for i in each]
        if self.batch_size is None:
            return examples[0] if self.collate_fn is None else self.collate_fn(examples[0])
        return collate(examples) if self.collate_fn is None else self.collate_fn(examples)

    def close(self) -> None:
        """End workers that were kept."""
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.close()

    def __del__(self) -> None:
        if getattr(self, "_crew", None) is not None:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_crew": None}  # a worker that is sent the loader needs no crew of its own

    # -- where it is ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The pass, the batches handed out in it, the generator's state when it began, and what the data
        set is made of (so that another one is refused)."""
        if self._resume is not None:
            start, given = self._resume
        else:
            start, given = self._start, self._given
        return {
            "epoch": self._epoch,
            "batch": given,
            "start": None if start is None else list(start),
            "batches": len(self),
            "examples": len(self.dataset),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue after the batch where the state was taken.

        Raises ArgumentError if it is of a loader with other examples or batches.
        """
        wanted = {"epoch", "batch", "start", "batches", "examples"}
        if not isinstance(state_dict, Mapping) or set(state_dict) != wanted:
            raise ArgumentError(
                "DataLoader.load_state_dict",
                f"the state has {sorted(state_dict)} where {sorted(wanted)} are needed",
                fix="pass what loader.state_dict() returned",
            )
        for name, mine in (("batches", len(self)), ("examples", len(self.dataset))):
            if state_dict[name] != mine:
                raise ArgumentError(
                    "DataLoader.load_state_dict",
                    f"the state is of a loader with {state_dict[name]} {name}, this one has {mine}",
                    fix="use the data set and the batch size it was saved with",
                )
        self._epoch = int(state_dict["epoch"])
        start, given = state_dict["start"], int(state_dict["batch"])
        self._start, self._given = None if start is None else (int(start[0]), int(start[1])), given
        # after the last batch, or before the first pass, the next pass is a new one
        self._resume = None if start is None or given >= len(self) else (self._start, given)


def collate(examples: Sequence[Any]) -> Any:
    """Examples stacked into a batch: tensors, arrays and numbers along a new first dimension,
    tuples, lists and dictionaries part by part; strings stay a list.

    Raises ShapeError for examples of several shapes or lengths, DTypeError for what cannot be stacked.
    """
    first = examples[0]
    if hasattr(first, "collate"):  # it knows itself, as a Graph does
        return first.collate(examples)
    if isinstance(first, (Tensor, np.ndarray, np.generic)):
        shapes = {tuple(e.shape) if hasattr(e, "shape") else () for e in examples}
        if len(shapes) > 1:
            raise ShapeError(
                "DataLoader",
                f"the examples of a batch have shapes {', '.join(map(str, sorted(shapes)))}",
                fix="pad or crop them to one shape, or pass a collate_fn",
            )
        if isinstance(first, Tensor):
            return stack(list(examples))
        return wrap(as_array(np.stack(examples)))
    if isinstance(first, dict):
        if any(not isinstance(e, dict) or set(e) != set(first) for e in examples):
            raise ShapeError(
                "DataLoader", "the examples of a batch have several sets of keys", fix="give all the same"
            )
        return {key: collate([example[key] for example in examples]) for key in first}
    if isinstance(first, (tuple, list)):
        lengths = {len(e) if isinstance(e, (tuple, list)) else -1 for e in examples}
        if len(lengths) > 1:
            raise ShapeError(
                "DataLoader",
                "the examples of a batch are sequences of several lengths",
                fix="pad them to one length, or pass a collate_fn",
            )
        parts = [collate(part) for part in zip(*examples, strict=True)]
        if isinstance(first, list):
            return parts
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    if isinstance(first, (int, float)):
        return wrap(as_array(list(examples)))
    if isinstance(first, str):
        return list(examples)
    raise DTypeError(
        "DataLoader",
        f"examples of type {type(first).__name__} cannot be stacked",
        fix="return tensors, arrays, numbers or strings, or pass a collate_fn",
    )
