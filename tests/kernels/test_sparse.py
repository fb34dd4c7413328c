"""CSR products, their transpose, and rows by index: every table against dense float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from minigrad.backends import c, get_backend
from minigrad.backends.pattern import Pattern
from minigrad.backends.sparse import gather_rows, product, scatter_add_rows
from minigrad.ops import OPS

pytestmark = pytest.mark.skipif(not c.available, reason=c.reason)


class Matrix(NamedTuple):
    pattern: Pattern
    values: np.ndarray | None

    def dot(self, x, out=None):
        return product(self.values, x, self.pattern, out)

    def transpose(self):
        return Matrix(self.pattern.T, None if self.values is None else self.values[self.pattern.order])


def matrix(rng, rows, columns, nonzeros, index=np.int32, dtype=np.float32, ones=False):
    """A random matrix, with empty rows and one heavy row, and the same as a dense array."""
    at = np.sort(
        np.concatenate([rng.integers(0, rows, nonzeros - nonzeros // 4), np.full(nonzeros // 4, rows // 2)])
    )
    starts = np.searchsorted(at, np.arange(rows + 1)).astype(index)
    places = rng.integers(0, columns, nonzeros).astype(index)
    values = np.ones(nonzeros, dtype) if ones else rng.normal(size=nonzeros).astype(dtype)
    dense = np.zeros((rows, columns))
    np.add.at(dense, (at, places), values.astype(np.float64))
    return Matrix(Pattern(starts, places, columns), None if ones else values), dense


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("features", [0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 48, 64, 65, 128, 130, 300])
def test_products(isa, dtype, index, features):
    rng = np.random.default_rng(features)
    for rows, columns, nonzeros, ones in [
        (50, 40, 400, False),
        (3, 200, 11, False),
        (400, 30, 900, True),
        (5, 5, 0, False),
        (1, 1, 1, True),
    ]:
        a, dense = matrix(rng, rows, columns, nonzeros, index, dtype, ones)
        x = rng.normal(size=(columns, features)).astype(dtype)
        g = rng.normal(size=(rows, features)).astype(dtype)
        tolerance = {"rtol": 0, "atol": 3000 * np.finfo(dtype).eps}
        np.testing.assert_allclose(a.dot(x), dense @ x, **tolerance)
        np.testing.assert_allclose(a.transpose().dot(g), dense.T @ g, **tolerance)
        assert a.pattern.T.T is a.pattern


def test_wide_indices_in_c(isa):
    """Small matrices are narrowed; the int64 kernels are called directly."""
    rng = np.random.default_rng(1)
    a, dense = matrix(rng, 30, 20, 200)
    starts, index = a.pattern.starts.astype(np.int64), a.pattern.index.astype(np.int64)
    for features in (16, 21, 64):
        x, y = rng.normal(size=(20, features)).astype(np.float32), np.empty((30, features), np.float32)
        b = c.from_buffer
        assert c.lib.mg_csr_check(1, 30, 20, 200, b(starts), b(index)) == 0
        assert c.lib.mg_spmm(0, 1, 30, features, b(starts), b(index), b(a.values), b(x), b(y)) == 0
        np.testing.assert_allclose(y, dense @ x, atol=1e-4)
    ts, ti, tv = np.empty(21, np.int64), np.empty(200, np.int64), np.empty(200, np.float32)
    assert c.lib.mg_csr_transpose(0, 1, 30, 20, b(starts), b(index), b(a.values), b(ts), b(ti), b(tv)) == 0
    np.testing.assert_array_equal(ts, a.pattern.T.starts)
    np.testing.assert_array_equal(ti, a.pattern.T.index)
    np.testing.assert_array_equal(tv, a.transpose().values)


def test_nan_and_infinity_stay_in_their_rows(isa):
    a = Matrix(Pattern(np.array([0, 1, 2, 3]), np.array([0, 1, 2]), 3), np.ones(3, np.float32))
    x = np.ones((3, 20), np.float32)
    x[1] = np.nan
    x[2, 4] = np.inf
    y = a.dot(x)
    np.testing.assert_array_equal(y, x)


def test_same_bits_for_any_number_of_threads(threads):
    rng = np.random.default_rng(2)
    a, _ = matrix(rng, 5000, 3000, 60000)
    x, g = rng.normal(size=(3000, 48)).astype(np.float32), rng.normal(size=(5000, 48)).astype(np.float32)
    index = rng.integers(0, 3000, 5000)
    results = []
    for n in (1, 2):
        threads(n)
        y = np.zeros_like(x)
        scatter_add_rows(y, index, g)
        results.append((a.dot(x), a.transpose().dot(g), y, gather_rows(x, index)))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_malformed_matrices_are_refused():
    good = (np.array([0, 1, 2]), np.array([0, 1]), 2)
    Pattern(*good)
    for i, wrong in [
        (0, np.array([0, 2, 1])),
        (0, np.array([1, 1, 2])),
        (0, np.array([0, 1, 3])),
        (0, np.array([], np.int64)),
        (1, np.array([0, 2])),
        (1, np.array([0, -1])),
        (1, np.array([[0, 1]])),
        (1, np.array([0.0, 1.0])),
        (2, 1),
        (2, -1),
        (2, 2**31),
    ]:
        with pytest.raises(ValueError, match=r"starts|index|too large"):
            Pattern(*good[:i], wrong, *good[i + 1 :])
    with pytest.raises(ValueError, match="row 3 is out of range"):
        Pattern.of_places(np.array([0, 3]), np.array([0, 0]), (3, 1))
    with pytest.raises(ValueError, match="column -1 is out of range"):
        Pattern.of_places(np.array([0, 1]), np.array([0, -1]), (3, 1))
    with pytest.raises(ValueError, match="read-only"):
        Pattern(*good).index[0] = 7


def test_kernels_refuse_what_they_would_read_beyond():
    backend = get_backend("c")
    p = Pattern([0, 1, 2], [0, 2], 3)
    x, v = np.ones((3, 4), np.float32), np.ones(2, np.float32)
    for name, arguments in [
        ("spsum", (x[:2], p)),
        ("spmm", (v[:1], v[:1], x, p)),
        ("spmm", (v, v, x[:2], p)),
        ("spmm", (v.astype(np.float64), v.astype(np.float64), x, p)),
        (
            "spmm",
            (np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), np.ones((3, 2, 4), np.float32), p),
        ),
        ("sddmm", (x, x, p)),
        ("sddmm", (x[:2], x[:, :3], p)),
        ("spmax", (x[:2], p)),
        ("segment_softmax", (x, p)),
    ]:
        with pytest.raises(ValueError, match=r"fit|shape"):
            backend[OPS[name]](*arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("features", [1, 3, 8, 16, 33, 64, 130])
def test_edges(isa, threads, dtype, features):
    """Heads, sampled products, maxima and softmax against numpy's kernels; the same bits on two threads."""
    rng = np.random.default_rng(features)
    c_backend, numpy = get_backend("c"), get_backend("numpy")
    p = matrix(rng, 300, 200, 3000)[0].pattern
    x = rng.normal(size=(200, 3, features)).astype(dtype)
    g = rng.normal(size=(300, 3, features)).astype(dtype)
    v = rng.normal(size=(3000, 3)).astype(dtype)
    mixed = Pattern.of_places(rng.integers(0, 50, 3000), np.arange(3000), (60, 3000))[0]
    for name, arguments in [
        ("spmm", (v, v[p.order], x, p)),
        ("sddmm", (g, x, p)),
        ("spmax", (x, p)),
        ("segment_softmax", (v, p.by_row)),
        ("segment_softmax", (np.repeat(v, features, 1), mixed)),
        ("spsum", (x, p)),
    ]:
        op = OPS[name]
        results = []
        for n in (1, 2):
            threads(n)
            results.append(c_backend[op](*arguments))
        np.testing.assert_array_equal(*results)
        np.testing.assert_allclose(
            results[0], numpy[op](*arguments), atol=3000 * np.finfo(dtype).eps, rtol=100 * np.finfo(dtype).eps
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 5, 16, 33, 64])
def test_rows_by_index(isa, dtype, width):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(100, width)).astype(dtype)
    index = rng.integers(0, 100, (700, 9))
    np.testing.assert_array_equal(gather_rows(x, index), x[index])
    g = rng.normal(size=(700, 9, width)).astype(dtype)
    y, wanted = x.copy(), x.astype(np.float64)
    scatter_add_rows(y, index, g)
    np.add.at(wanted, index, g.astype(np.float64))
    np.testing.assert_allclose(y, wanted, atol=200 * np.finfo(dtype).eps)
    for bad in (-1, 100):
        index[3, 3] = bad
        before = y.copy()
        with pytest.raises(IndexError, match="index"):
            gather_rows(x, index)
        with pytest.raises(IndexError, match="index"):
            scatter_add_rows(y, index, g)
        np.testing.assert_array_equal(y, before)
    with pytest.raises(ValueError, match="writable"):
        scatter_add_rows(y, index[:, 0], y[:1])


def test_records_use_them(isa):
    rng = np.random.default_rng(4)
    backend, numpy = get_backend("c"), get_backend("numpy")
    x, index = rng.normal(size=(100, 64)).astype(np.float32), rng.integers(0, 100, 500)
    g = rng.normal(size=(500, 64)).astype(np.float32)
    for name, arguments in (
        ("index_select", (x, index, 0)),
        ("index_add", (x, index, g, 0)),
        ("index_select", (x, index % 64, 1)),
    ):
        op = OPS[name]
        np.testing.assert_allclose(backend[op](*arguments), numpy[op](*arguments), rtol=1e-5, atol=1e-5)
