"""Random numbers from a counter, so that they can be recorded, replayed and resumed.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3")
turns a counter and a key into four random 32-bit words (see `minigrad.philox`), so a generator is two
numbers: `seed`, the key, and `offset`, how many counters have been used.  Eager and captured programs
draw the same numbers, a resumed run continues the sequence, and any thread can compute any part of it.

    >>> import minigrad as mg
    >>> mg.manual_seed(0)
    <Generator seed=0 offset=0>
    >>> a = mg.rand(2)
    >>> _ = mg.manual_seed(0)
    >>> bool((mg.rand(2) == a).all())
    True
"""

from __future__ import annotations

import os
import threading

import numpy as np

from .errors import ArgumentError
from .tensor import Tensor, wrap

_BITS64 = (1 << 64) - 1


class Generator:
    """A stream of random numbers: a seed and how many blocks of it have been used."""

    def __init__(self, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self.seed = 0
        self.offset = 0
        self.manual_seed(int.from_bytes(os.urandom(8), "little") if seed is None else seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of this seed from its beginning."""
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
            raise ArgumentError("manual_seed", f"the seed is {seed!r}", fix="pass an integer")
        self.seed, self.offset = int(seed) & _BITS64, 0
        return self

    def take(self, words: int) -> Tensor:
        """Reserve this many 32-bit words; returns the state [seed, offset] they start from."""
        with self._lock:
            offset = self.offset
            self.offset += -(-words // 4)
        return wrap(np.array([self.seed, offset & _BITS64], np.uint64).view(np.int64))

    def get_state(self) -> tuple[int, int]:
        """(seed, offset): all there is to save."""
        return self.seed, self.offset

    def set_state(self, state: tuple[int, int]) -> None:
        """Continue from a saved (seed, offset)."""
        self.seed, self.offset = int(state[0]) & _BITS64, int(state[1])

    def __repr__(self) -> str:
        return f"<Generator seed={self.seed} offset={self.offset}>"


#: The generator that is used when none is given.
default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator: the same seed gives the same numbers."""
    return default_generator.manual_seed(seed)


def get_rng_state() -> tuple[int, int]:
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(state: tuple[int, int]) -> None:
    """Set the state of the default generator."""
    default_generator.set_state(state)
