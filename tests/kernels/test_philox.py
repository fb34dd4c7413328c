"""Philox4x32-10 in C: the published answers, and a plain Python version for everything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.backends import c

if not c.available:
    pytest.skip(c.reason, allow_module_level=True)
pytestmark = pytest.mark.usefixtures("isa")


def block(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds, as the paper has them."""
    x, (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = x[0] * 0xD2511F53, x[2] * 0xCD9E8D57
        x = (p1 >> 32 ^ x[1] ^ k0, p1 & 0xFFFFFFFF, p0 >> 32 ^ x[3] ^ k1, p0 & 0xFFFFFFFF)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return x


def stream(key: int, offset: int, n: int) -> np.ndarray:
    words: list[int] = []
    for i in range(offset, offset + (n + 3) // 4):
        i %= 2**64
        words += block((i & 0xFFFFFFFF, i >> 32, 0, 0), (key & 0xFFFFFFFF, key >> 32))
    return np.array(words[:n], np.uint32)


def test_published_answers() -> None:
    """kat_vectors of Random123: the reference gives them all, C those that its counters can reach."""
    assert block((0,) * 4, (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert block((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    assert c.random_bits(0, 0, 4).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 300))
def test_agrees_with_the_reference(key: int, offset: int, n: int) -> None:
    np.testing.assert_array_equal(c.random_bits(key, offset, n), stream(key, offset, n))


@pytest.mark.parametrize("offset", [2**32 - 3, 2**64 - 2])
def test_counter_carries(offset: int) -> None:
    np.testing.assert_array_equal(c.random_bits(5, offset, 300), stream(5, offset, 300))


def test_long_streams_are_the_same_on_any_number_of_threads() -> None:
    before = c.num_threads()
    n = 300_001
    results = []
    for threads in (1, 2, 5):
        c.set_num_threads(threads)
        results.append(
            (c.random_bits(1, 2, n), c.random_uniform(1, 2, n), c.random_uniform(1, 2, n, np.float64))
        )
    c.set_num_threads(before)
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    # A stream is the same wherever one enters it.
    np.testing.assert_array_equal(results[0][0][4 * 1000 :], c.random_bits(1, 1002, n - 4000))


def test_uniform() -> None:
    n = 10_001
    bits = c.random_bits(3, 4, 2 * n).astype(np.uint64)
    single = c.random_uniform(3, 4, n)
    np.testing.assert_array_equal(single, ((bits[:n] >> 8) * 2.0**-24).astype(np.float32))
    double = c.random_uniform(3, 4, n, np.float64)
    np.testing.assert_array_equal(double, ((bits[::2] >> 5) * 2.0**26 + (bits[1::2] >> 6)) * 2.0**-53)
    for u in (single, double):
        assert u.min() >= 0
        assert u.max() < 1
        assert abs(u.mean() - 0.5) < 0.02
    with pytest.raises(TypeError, match="float32 or float64"):
        c.random_uniform(0, 0, 3, np.int32)
