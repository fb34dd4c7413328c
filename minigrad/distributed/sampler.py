"""Which examples a rank sees: every rank-th of one order that all ranks know.

    >>> sampler = DistributedSampler(range(5), num_replicas=2, rank=1, shuffle=False)
    >>> list(sampler)
    [1, 3, 0]

The order of an epoch is drawn from `seed` and the number of the epoch, not from a generator that could be
in another state on another rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..ops.creation import randperm
from ..random import Generator
from .group import get_rank, get_world_size


class DistributedSampler:
    """Indices of a data set for one rank, as many for each; PyTorch's class.

    dataset: anything with a length.  num_replicas, rank: those of the group, unless given.  shuffle: a new
    order for every epoch, which `set_epoch` tells.  drop_last: leave out what cannot be dealt out evenly;
    otherwise the first examples are dealt out a second time.  Raises ArgumentError for a rank that is none.
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.num_replicas = get_world_size() if num_replicas is None else num_replicas
        self.rank = get_rank() if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ArgumentError(
                "DistributedSampler",
                f"rank {self.rank} of {self.num_replicas}",
                fix=f"ranks are 0 to {self.num_replicas - 1}",
            )
        self.dataset = dataset
        self.shuffle, self.seed, self.drop_last = bool(shuffle), int(seed), bool(drop_last)
        self.epoch = 0

    @property
    def num_samples(self) -> int:
        """Examples of each rank."""
        count = len(self.dataset)
        return count // self.num_replicas if self.drop_last else -(-count // self.num_replicas)

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        order = np.arange(count)
        if self.shuffle:
            generator = Generator(self.seed)
            generator.set_state((self.seed, self.epoch << 40))
            order = randperm(count, generator=generator).numpy()
        total = self.num_samples * self.num_replicas
        order = order[:total] if total <= count else np.resize(order, total)
        return iter(order[self.rank : total : self.num_replicas].tolist())

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins: its order is another one."""
        self.epoch = int(epoch)
