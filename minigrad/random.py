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

from .errors import ArgumentError, TraceError
from .mode import current
from .tape import hooks
from .tensor import Tensor, wrap

_BITS64 = (1 << 64) - 1


class Generator:
    """A stream of random numbers: a seed and how many blocks of it have been used.

    Both are one int64 tensor, so that a captured program reads and advances it like other state.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self._state = wrap(np.zeros(2, np.int64))
        self._words = self._state._array.view(np.uint64)  # the same memory, as the numbers are meant
        self.manual_seed(int.from_bytes(os.urandom(8), "little") if seed is None else seed)

    @property
    def seed(self) -> int:
        """The key of the stream."""
        return int(self._words[0])

    @property
    def offset(self) -> int:
        """How many blocks of four words have been used."""
        return int(self._words[1])

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of this seed from its beginning."""
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
            raise ArgumentError("manual_seed", f"the seed is {seed!r}", fix="pass an integer")
        self.set_state((int(seed), 0))
        return self

    def take(self, words: int) -> Tensor:
        """Reserve this many 32-bit words; returns the state [seed, offset] they start from."""
        blocks = -(-words // 4)
        trace = current().trace
        if trace is not None:
            before = wrap(trace.symbol(self._state))
            self._state.assign(hooks.add(before, wrap(np.array([0, blocks], np.int64))))
            return before
        with self._lock:
            before = wrap(self._state._array.copy())
            self._words[1] += np.uint64(blocks)
        return before

    def get_state(self) -> tuple[int, int]:
        """(seed, offset): all there is to save."""
        return self.seed, self.offset

    def set_state(self, state: tuple[int, int]) -> None:
        """Continue from a saved (seed, offset)."""
        if current().trace is not None:
            raise TraceError(
                "manual_seed", "a generator is seeded inside a trace", fix="seed it outside of the function"
            )
        self._words[0], self._words[1] = int(state[0]) & _BITS64, int(state[1]) & _BITS64

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
