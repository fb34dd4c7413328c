"""Reductions, softmax, losses and standardisation: every table against float64, at every edge."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.backends import c, reduce
from minigrad.backends.elementwise import CROSSOVER

pytestmark = pytest.mark.skipif(not c.available, reason=c.reason)


@pytest.fixture(autouse=True)
def always_in_c(monkeypatch):
    for name in CROSSOVER:
        monkeypatch.setitem(CROSSOVER, name, 1)


SHAPES = [
    ((1,), (0,)),
    ((17,), (0,)),
    ((1025,), (0,)),
    ((300000,), (0,)),
    ((3, 5), (1,)),
    ((3, 5), (0,)),
    ((3, 5), (0, 1)),
    ((100, 64), (1,)),
    ((100, 65), (0,)),
    ((70, 3, 129), (1,)),
    ((9, 4, 33), (0, 2)),
    ((2, 3, 4, 5), (0, 2, 3)),
    ((2, 1, 4, 5), (0, 2)),
    ((50000, 10), (0,)),
    ((40, 5000), (0,)),
    ((2, 3000, 2), (1,)),
    ((2, 3, 4, 5), (1, 3)),
    ((300, 1), (0,)),
]
DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dims"), SHAPES)
def test_sums_and_extremes(isa, dtype, shape, dims):
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    wide = x.astype(np.longdouble)
    eps = np.finfo(dtype).eps
    size = np.sum(np.abs(wide), axis=dims)
    for keepdim in (False, True):
        scale = np.sum(np.abs(wide), axis=dims, keepdims=keepdim)
        count = x.size / max(size.size, 1)
        got = reduce.sum(x, dims, keepdim)
        assert got.dtype == dtype
        assert got.shape == np.sum(x, axis=dims, keepdims=keepdim).shape
        assert np.all(np.abs(got - np.sum(wide, axis=dims, keepdims=keepdim)) <= 8 * eps * scale)
        mean = reduce.mean(x, dims, keepdim)
        assert np.all(np.abs(mean - np.mean(wide, axis=dims, keepdims=keepdim)) <= 8 * eps * scale / count)
        np.testing.assert_array_equal(reduce.amax(x, dims, keepdim), np.max(x, axis=dims, keepdims=keepdim))
        np.testing.assert_array_equal(reduce.amin(x, dims, keepdim), np.min(x, axis=dims, keepdims=keepdim))
    variance = reduce.var(x, dims, 0, False)
    np.testing.assert_allclose(variance, np.var(wide, axis=dims).astype(dtype), rtol=50 * eps, atol=1e-30)


def test_a_long_float32_sum_keeps_its_digits(isa, threads):
    x = np.random.default_rng(2).uniform(0, 1, 1 << 24).astype(np.float32)
    wanted = np.sum(x, dtype=np.float64)
    for n in (1, 2):
        threads(n)
        assert abs(float(reduce.sum(x, (0,), False)) / wanted - 1) < 1e-7
    columns = x.reshape(-1, 4)
    np.testing.assert_allclose(reduce.sum(columns, (0,), False), columns.sum(0, dtype=np.float64), rtol=1e-6)


def test_variance_of_a_large_mean():
    x = (np.random.default_rng(3).normal(size=(20, 5000)) + 1000).astype(np.float32)
    np.testing.assert_allclose(reduce.var(x, (1,), 1, False), x.astype(np.float64).var(1, ddof=1), rtol=1e-4)
    assert reduce.var(np.full((2, 100), 3.0, np.float32), (1,), 1, False).tolist() == [0.0, 0.0]
    assert (
        np.isinf(reduce.var(x[:, :1].copy(), (1,), 1, False)).all()
        or np.isnan(reduce.var(x[:, :1].copy(), (1,), 1, False)).all()
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity(isa, dtype):
    for n in (1, 5, 16, 33, 700, 70000):
        for bad in (np.nan, np.inf, -np.inf):
            for at in {0, n // 2, n - 1}:
                x = np.random.default_rng(n).normal(size=n).astype(dtype)
                x[at] = bad
                for kernel, function in ((reduce.sum, np.sum), (reduce.amax, np.max), (reduce.amin, np.min)):
                    got = kernel(x, (0,), False)
                    if np.isfinite(function(x)):
                        np.testing.assert_allclose(got, function(x), rtol=1e-6)
                    else:
                        np.testing.assert_array_equal(got, function(x))
                assert reduce.argmax(x, 0, False) == np.argmax(x)
                assert reduce.argmin(x, 0, False) == np.argmin(x)
                m = np.stack([x, np.zeros_like(x), x], axis=1)
                np.testing.assert_array_equal(reduce.amax(m, (0,), False), np.max(m, axis=0))
                np.testing.assert_array_equal(reduce.argmax(m, 0, False), np.argmax(m, axis=0))
                np.testing.assert_array_equal(reduce.argmin(m, 0, False), np.argmin(m, axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [(1,), (17,), (5000,), (100, 64), (3, 5), (7, 300), (70, 3, 129), (2, 9000), (300001,), (3000, 200)],
)
def test_positions(isa, dtype, shape):
    x = np.random.default_rng(4).integers(0, 50, size=shape).astype(dtype)  # many ties: the first wins
    for kernel, function in ((reduce.argmax, np.argmax), (reduce.argmin, np.argmin)):
        for dim in (None, *range(len(shape))):
            for keepdim in (False, True):
                got = kernel(x, dim, keepdim)
                assert got.dtype == np.int64
                np.testing.assert_array_equal(got, function(x, axis=dim, keepdims=keepdim))


@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_where_nothing_is_best(isa, dtype):
    for n in (1, 15, 16, 17, 65, 4097, 140000):
        low = np.full(n, -np.inf, dtype)
        assert reduce.argmax(low, 0, False) == reduce.argmin(-low, 0, False) == 0
        low[n - 1] = -5
        assert reduce.argmax(low, 0, False) == reduce.argmin(-low, 0, False) == n - 1
        columns = np.stack([low, low], axis=1)
        assert reduce.argmax(columns, 0, False).tolist() == [n - 1] * 2


def softmax64(x, dim):
    e = np.exp(x.astype(np.float64) - x.max(axis=dim, keepdims=True))
    return e / e.sum(axis=dim, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((1,), 0),
        ((5,), 0),
        ((33, 10), 1),
        ((10, 33), 0),
        ((4, 1000), 1),
        ((3, 1025), -1),
        ((3, 40, 7), 1),
        ((3, 40, 129), 1),
        ((2, 3000), 0),
    ],
)
def test_softmax_and_its_gradients(isa, dtype, shape, dim):
    rng = np.random.default_rng(5)
    x = (rng.normal(size=shape) * 5).astype(dtype)
    g = rng.normal(size=shape).astype(dtype)
    tolerance = {"rtol": 40 * np.finfo(dtype).eps, "atol": 20 * np.finfo(dtype).eps}
    p, g64 = softmax64(x, dim), g.astype(np.float64)
    y, ly = reduce.softmax(x, dim), reduce.log_softmax(x, dim)
    np.testing.assert_allclose(y, p, **tolerance)
    np.testing.assert_allclose(ly, np.log(p), **tolerance)
    np.testing.assert_allclose(
        reduce.logsumexp(x, (dim % x.ndim,), True),
        x.astype(np.float64) - np.log(p)
        if shape[dim] == 1
        else np.log(np.exp(x.astype(np.float64)).sum(axis=dim, keepdims=True)),
        **tolerance,
    )
    np.testing.assert_allclose(
        reduce.softmax_grad(g, y, dim), p * (g64 - (g64 * p).sum(axis=dim, keepdims=True)), **tolerance
    )
    loose = {k: v * 50 for k, v in tolerance.items()}
    np.testing.assert_allclose(
        reduce.log_softmax_grad(g, ly, dim), g64 - p * g64.sum(axis=dim, keepdims=True), **loose
    )


def test_softmax_of_extreme_rows(isa):
    inf, nan = np.inf, np.nan
    rows = np.array(
        [[1e30, 0, -1e30], [-inf, 0, 0], [nan, 0, 0], [inf, 0, 0], [-inf, -inf, -inf], [0, 0, nan]],
        np.float32,
    )
    with np.errstate(all="ignore"):
        for x, dim in ((rows, 1), (np.ascontiguousarray(rows.T), 0)):
            np.testing.assert_allclose(reduce.softmax(x, dim), reduce._numpy_softmax(x, dim), rtol=1e-6)
            np.testing.assert_allclose(
                reduce.log_softmax(x, dim), reduce._numpy_log_softmax(x, dim), rtol=1e-6
            )
            np.testing.assert_allclose(
                reduce.logsumexp(x, (dim,), False), reduce._numpy_logsumexp(x, (dim,), False), rtol=1e-6
            )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 10), (100, 17), (64, 1000), (5, 3000)])
def test_cross_entropy(isa, dtype, rows, n):
    rng = np.random.default_rng(6)
    x = (rng.normal(size=(rows, n)) * 3).astype(dtype)
    target = rng.integers(0, n, rows)
    target[-1] = -100
    g = rng.normal(size=rows).astype(dtype)
    p = softmax64(x, 1)
    counts = target != -100
    at = np.where(counts, target, 0)
    wanted = np.where(counts, -np.log(p[np.arange(rows), at]), 0)
    tolerance = {
        "rtol": 1e-5 if dtype == np.float32 else 1e-13,
        "atol": 2e-6 if dtype == np.float32 else 1e-13,
    }
    np.testing.assert_allclose(reduce.cross_entropy(x, target), wanted, **tolerance)
    gx = p.copy()
    gx[np.arange(rows), at] -= 1
    gx *= counts[:, None]
    loss, both = reduce.cross_entropy_both(x, target, 0.25)
    np.testing.assert_allclose(loss, wanted, **tolerance)
    np.testing.assert_allclose(both, gx * 0.25, **tolerance)
    np.testing.assert_allclose(reduce.cross_entropy_grad(g, x, target), gx * g[:, None], **tolerance)
    with pytest.raises(IndexError, match="class"):
        reduce.cross_entropy(x, np.full(rows, n))
    assert (
        c.lib.mg_cross_entropy(
            0,
            1,
            2,
            c.ffi.new("float[2]"),
            c.ffi.new("int64_t *", 2),
            -100,
            c.ffi.new("float *"),
            0,
            c.ffi.NULL,
        )
        == c.lib.MG_EARG
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "dims", "affine"),
    [
        ((4, 10), (1,), "element"),
        ((33, 768), (1,), "element"),
        ((5, 3, 20), (1, 2), "element"),
        ((3, 1500), (1,), None),
        ((4, 6, 5, 5), (0, 2, 3), "group"),
        ((8, 3, 70), (0, 2), "group"),
        ((4, 6, 5, 5), (2, 3), "none"),
        ((100, 7), (0,), "group"),
        ((6, 40), (0, 1), None),
        ((1, 3, 40), (0, 2), "group"),
    ],
)
def test_standardize(isa, dtype, shape, dims, affine):
    rng = np.random.default_rng(7)
    x, g = (rng.normal(size=shape) * 3 + 2).astype(dtype), rng.normal(size=shape).astype(dtype)
    kept = tuple(d for d in range(len(shape)) if d not in dims)
    inner = tuple(shape[d] for d in (dims if affine == "element" else kept))
    w = b = None
    if affine in ("element", "group"):
        w, b = rng.normal(size=inner).astype(dtype), rng.normal(size=inner).astype(dtype)
    spread = [shape[d] if (d in dims) == (affine == "element") else 1 for d in range(len(shape))]
    w64 = np.ones(spread) if w is None else w.astype(np.float64).reshape(spread)
    b64 = np.zeros(spread) if b is None else b.astype(np.float64).reshape(spread)
    x64, g64 = x.astype(np.float64), g.astype(np.float64)
    mean, variance = x64.mean(axis=dims, keepdims=True), x64.var(axis=dims, keepdims=True)
    r = 1 / np.sqrt(variance + 1e-5)
    xh = (x64 - mean) * r
    tolerance = {
        "rtol": 1e-4 if dtype == np.float32 else 1e-10,
        "atol": 2e-5 if dtype == np.float32 else 1e-11,
    }
    y, m, rstd = reduce.standardize(x, dims, 1e-5, w, b)
    np.testing.assert_allclose(y, xh * w64 + b64, **tolerance)
    np.testing.assert_allclose(m, mean, **tolerance)
    np.testing.assert_allclose(rstd, r, **tolerance)
    gx, gw, gb = reduce.standardize_grad(g, x, m, rstd, dims, w)
    h = g64 * w64
    np.testing.assert_allclose(
        gx,
        r * (h - h.mean(axis=dims, keepdims=True) - xh * (h * xh).mean(axis=dims, keepdims=True)),
        **tolerance,
    )
    axes = kept if affine == "element" else dims
    np.testing.assert_allclose(
        gw, (g64 * xh).sum(axis=axes), rtol=1e-4, atol=1e-3 if dtype == np.float32 else 1e-10
    )
    np.testing.assert_allclose(gb, g64.sum(axis=axes), rtol=1e-4, atol=1e-3 if dtype == np.float32 else 1e-10)


def test_bad_outputs_are_refused():
    x = np.ones((4, 100), np.float32)
    with pytest.raises(ValueError, match="overlaps"):
        reduce.standardize(x, (1,), 1e-5, out=x)
    with pytest.raises(ValueError, match="weight has shape"):
        reduce.standardize(x, (1,), 1e-5, np.ones(3, np.float32))
    frozen = np.empty_like(x)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        reduce.standardize(x, (1,), 1e-5, out=frozen)


def test_what_c_cannot_take_goes_to_numpy():
    x = np.arange(24).reshape(2, 3, 4)
    assert reduce.sum(x, (1,), False).dtype == x.dtype
    np.testing.assert_array_equal(reduce.sum(x.T.astype(np.float32), (0,), False), x.T.sum(0))
    assert reduce.sum(np.zeros((0, 3), np.float32), (0,), False).tolist() == [0, 0, 0]
    np.testing.assert_allclose(reduce.softmax(x.T.astype(np.float32), 0), softmax64(x.T, 0), rtol=1e-6)


def test_same_bits_for_any_number_of_threads(threads):
    rng = np.random.default_rng(8)
    x, g = rng.normal(size=(1000, 777)).astype(np.float32), rng.normal(size=(1000, 777)).astype(np.float32)
    w = rng.normal(size=777).astype(np.float32)
    target = rng.integers(0, 777, 1000)

    def everything():
        y, m, r = reduce.standardize(x, (1,), 1e-5, w, w)
        return [
            reduce.sum(x, (0,), False),
            reduce.sum(x, (1,), False),
            reduce.sum(x, (0, 1), False),
            reduce.amax(x, (0, 1), False),
            reduce.softmax(x, 0),
            reduce.softmax(x, 1),
            reduce.var(x, (0, 1), 1, False),
            y,
            *reduce.standardize_grad(g, x, m, r, (1,), w),
            *reduce.cross_entropy_both(x, target, 1.0),
            reduce.argmax(x, 0, False),
            reduce.logsumexp(x, (0,), False),
        ]

    threads(1)
    one = everything()
    threads(2)
    for a, b in zip(one, everything(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 7), (9, 130), (6, 3000)])
def test_a_nan_or_an_infinity_spoils_its_row_and_no_other(isa, dtype, shape):
    rng = np.random.default_rng(3)
    for bad in (np.nan, np.inf, -np.inf):
        x, g = rng.normal(size=(2, *shape)).astype(dtype)
        w = rng.normal(size=shape[1]).astype(dtype)
        x[2, shape[1] // 2] = bad
        t = np.arange(shape[0])
        rest = t != 2
        with np.errstate(all="ignore"):
            y, mean, rstd = reduce.standardize(x, (1,), 1e-5, w, w)
            gx, gw, _ = reduce.standardize_grad(g, x, mean, rstd, (1,), w)
            want = reduce._numpy_standardize(x, (1,), 1e-5, True, w, w)[0]
            p, lp = reduce.softmax(x, 1), reduce.log_softmax(x, 1)
            others = [reduce.softmax_grad(g, p, 1), reduce.log_softmax_grad(g, lp, 1)]
            loss, gl = reduce.cross_entropy_both(x, t, 1.0)
            ge = reduce.cross_entropy_grad(g[:, 0].copy(), x, t)
            np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
            np.testing.assert_array_equal(np.isnan(p), np.isnan(reduce._numpy_softmax(x, 1)))
            np.testing.assert_array_equal(np.isnan(lp), np.isnan(reduce._numpy_log_softmax(x, 1)))
        assert np.isnan(y[2]).all()
        assert np.isnan(gx[2]).all()
        assert np.isnan(gw).all()
        for array in (y, gx, p, lp, *others, gl, ge, loss[:, None]):
            assert np.isfinite(array[rest]).all()
        if bad != -np.inf:
            for array in (others[0], others[1], gl, ge, loss[:, None]):
                assert np.isnan(array[2]).any()
        ignored = reduce.cross_entropy_grad(g[:, 0].copy(), x, np.where(rest, t, -100))
        assert (ignored[2] == 0).all()


def test_what_is_written_past_the_caches_is_the_same(isa):
    """From 24 MB on results are streamed: rows must not differ from those of a small call."""
    rng = np.random.default_rng(4)
    x, g = rng.normal(size=(2, 2100, 1600)).astype(np.float32)
    w = rng.normal(size=1600).astype(np.float32)
    y, mean, rstd = reduce.standardize(x, (1,), 1e-5, w, w)
    gx = reduce.standardize_grad(g, x, mean, rstd, (1,), w)[0]
    for rows in (slice(0, 8), slice(2088, 2100)):
        part, m, r = reduce.standardize(x[rows], (1,), 1e-5, w, w)
        np.testing.assert_array_equal(y[rows], part)
        np.testing.assert_array_equal(gx[rows], reduce.standardize_grad(g[rows], x[rows], m, r, (1,), w)[0])


def test_bits_do_not_depend_on_where_a_result_lies(isa):
    rng = np.random.default_rng(5)
    for n in (3, 61, 200):
        x, g = rng.normal(size=(2, 9, n)).astype(np.float32)
        w = rng.normal(size=n).astype(np.float32)
        for weight in (w, None):
            found = []
            for shift in range(16):
                memory = np.empty((2, x.size + 32), np.float32)
                out, out_grad = (m[shift : shift + x.size].reshape(x.shape) for m in memory)
                y, m, r = reduce.standardize(x, (1,), 1e-5, weight, weight, out=out)
                found.append((y, *reduce.standardize_grad(g, x, m, r, (1,), weight, out=out_grad)))
            for other in found[1:]:
                for a, b in zip(found[0], other, strict=True):
                    np.testing.assert_array_equal(a, b)
