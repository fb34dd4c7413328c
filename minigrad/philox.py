"""Philox4x32-10: random words from a counter (Salmon, Moraes, Dror, Shaw 2011, section 3.3).

Ten rounds of multiply and xor turn a 128-bit counter and a 64-bit key into four random 32-bit
words; there is no state to update between words.  Block i of a stream is

    philox(counter = (lo(offset + i), hi(offset + i), 0, 0), key = (lo(seed), hi(seed)))

This is the numpy reference; the C kernel gives the same words.

    >>> [hex(word) for word in philox(0, 0, 4)]      # a known answer of the authors' Random123
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
"""

from __future__ import annotations

from typing import Any

import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(seed: int, offset: int, count: int) -> Any:
    """`count` random 32-bit words (uint32) of the stream `seed` from block `offset` on."""
    blocks = -(-count // 4)
    index = np.arange(blocks, dtype=np.uint64) + np.uint64(offset & 0xFFFFFFFFFFFFFFFF)
    zero = np.zeros_like(index)
    words = rounds(index & _MASK, index >> _32, zero, zero, seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    return words.astype(np.uint32).reshape(-1)[:count]


def rounds(c0: Any, c1: Any, c2: Any, c3: Any, k0: int, k1: int) -> Any:
    """The four words of each counter (c0, c1, c2, c3) under one key, (..., 4) uint64.

    Counters are uint64 arrays of one shape that hold 32-bit words.
    """
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            (p1 >> _32) ^ c1 ^ np.uint64(k0),
            p1 & _MASK,
            (p0 >> _32) ^ c3 ^ np.uint64(k1),
            p0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1)
