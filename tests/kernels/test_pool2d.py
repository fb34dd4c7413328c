"""Pooling kernels against the references of their records, on every table."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minigrad.backends import c, conv
from minigrad.record import OPS

pytestmark = pytest.mark.skipif(not c.available, reason="the extension is not built")


@st.composite
def cases(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = draw(st.tuples(st.integers(1, 20), st.integers(1, 40)))
    return (
        (2, 2, *size),
        kernel,
        stride,
        padding,
        draw(st.booleans()),
        draw(st.sampled_from([np.float32, np.float64])),
    )


def on(name, f):
    before = c.isa()
    c.set_isa(name)
    try:
        return f()
    finally:
        c.set_isa(before)


tables = st.sampled_from(c.isas() or ("none",))


@settings(max_examples=60)
@given(cases(), st.tuples(st.integers(1, 3), st.integers(1, 2)), st.integers(0, 3), tables)
def test_maximum(case, dilation, specials, table):
    shape, kernel, stride, padding, ceil_mode, dtype = case
    rng = np.random.default_rng(specials)
    x = rng.integers(-3, 3, shape).astype(dtype)  # many ties
    for value in (np.nan, np.inf, -np.inf)[:specials]:
        x[rng.random(shape) < 0.1] = value
    attrs = kernel, stride, padding, dilation, ceil_mode
    try:
        exact = OPS["max_pool2d_index"].reference(x, *attrs)
    except Exception:
        assume(False)
    index = on(table, lambda: conv.max_pool2d_index(x, *attrs))
    assert index.dtype == np.int64
    np.testing.assert_array_equal(index, exact)
    y, again = on(table, lambda: conv.max_pool2d(x, *attrs))
    np.testing.assert_array_equal(again, exact)
    flat = x.reshape(*x.shape[:2], -1)
    np.testing.assert_array_equal(
        y, np.take_along_axis(flat, exact.reshape(2, 2, -1), 2).reshape(exact.shape)
    )
    g = rng.normal(size=exact.shape).astype(dtype)
    gx = on(table, lambda: conv.max_pool2d_grad(g, exact, shape[2:]))
    want = np.zeros((4, shape[2] * shape[3]), dtype)
    for plane, (at, value) in enumerate(zip(exact.reshape(4, -1), g.reshape(4, -1), strict=True)):
        np.add.at(want[plane], at, value)
    np.testing.assert_array_equal(gx.reshape(4, -1), want)


@settings(max_examples=60)
@given(cases(), st.booleans(), st.sampled_from([None, None, 3, -2]), tables)
def test_mean(case, include, divisor, table):
    shape, kernel, stride, padding, ceil_mode, dtype = case
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(dtype)
    attrs = kernel, stride, padding, ceil_mode, include, divisor
    try:
        exact = OPS["avg_pool2d"].reference(x, *attrs)
    except Exception:
        assume(False)
    u = np.finfo(dtype).eps / 2
    y = on(table, lambda: conv.avg_pool2d(x, *attrs))
    assert y.dtype == dtype
    magnitude = abs(OPS["avg_pool2d"].reference(abs(x), *attrs))
    assert np.all(abs(y - exact) <= (sum(kernel) + 2) * u * magnitude + 1e-300)
    g = rng.normal(size=exact.shape).astype(dtype)
    gx = on(table, lambda: conv.avg_pool2d_grad(g, shape[2:], *attrs))
    numpys = OPS["avg_pool2d_grad"].kernel(g.astype(np.float64), shape[2:], *attrs)
    magnitude = abs(OPS["avg_pool2d_grad"].kernel(abs(g).astype(np.float64), shape[2:], *attrs))
    assert np.all(abs(gx - numpys) <= (sum(kernel) + 3) * u * magnitude + 1e-300)


def test_special_values(isa):
    x = np.array([[[[np.nan, 1, -np.inf, -np.inf], [np.nan, 2, -np.inf, -np.inf]]]], np.float32)
    y, index = conv.max_pool2d(x, (2, 2), (2, 2), (0, 0), (1, 1), False)
    assert np.isnan(y[0, 0, 0, 0])
    assert index.tolist() == [[[[4, 2]]]]  # of several NaN the last; of equal ones the first
    assert y[0, 0, 0, 1] == -np.inf
    mean = conv.avg_pool2d(x, (2, 2), (2, 2), (0, 0), False, True, None)
    assert np.isnan(mean[0, 0, 0, 0])
    assert mean[0, 0, 0, 1] == -np.inf


def test_threads_do_not_change_a_bit(isa):
    x = np.random.default_rng(0).normal(size=(9, 11, 30, 31)).astype(np.float32)
    before, results = c.num_threads(), []
    try:
        for threads in (1, 2, 3):
            c.set_num_threads(threads)
            y, index = conv.max_pool2d(x, (3, 3), (2, 2), (1, 1), (1, 1), False)
            mean = conv.avg_pool2d(x, (3, 3), (2, 2), (1, 1), False, True, None)
            results.append(
                [
                    a.tobytes()
                    for a in (
                        y,
                        index,
                        mean,
                        conv.max_pool2d_grad(y, index, (30, 31)),
                        conv.avg_pool2d_grad(mean, (30, 31), (3, 3), (2, 2), (1, 1), False, True, None),
                    )
                ]
            )
    finally:
        c.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_empty_and_views():
    x = np.random.default_rng(0).normal(size=(3, 2, 8, 9)).astype(np.float32)
    for a, b in itertools.pairwise((x, np.asfortranarray(x), np.flip(np.flip(x, 2).copy(), 2))):
        np.testing.assert_array_equal(
            conv.max_pool2d_index(a, (2, 2), (2, 2), (0, 0), (1, 1), False),
            conv.max_pool2d_index(b, (2, 2), (2, 2), (0, 0), (1, 1), False),
        )
    assert conv.max_pool2d_index(x[:0], (2, 2), (2, 2), (0, 0), (1, 1), False).shape == (0, 2, 4, 4)
    assert conv.avg_pool2d(x[:0], (2, 2), (2, 2), (0, 0), False, True, None).shape == (0, 2, 4, 4)


def test_bad_input():
    g, index = np.ones((1, 1, 1, 2), np.float32), np.array([[[[0, 4]]]])
    with pytest.raises(ValueError, match="outside an image"):
        conv.max_pool2d_grad(g, index, (2, 2))
    with pytest.raises(ValueError, match="must be the same"):
        conv.max_pool2d_grad(g[..., :1], index, (2, 2))
    p = c.ffi.new("struct mg_pool2d *")
    p.n = p.h = p.w = p.oh = p.ow = 2**40
    p.kh = p.kw = 1
    p.stride = p.dilation = (1, 1)
    assert c.lib.mg_avg_pool2d(p, c.ffi.NULL, c.ffi.NULL) == c.lib.MG_ESIZE
    p.n = p.h = p.w = 2
    p.oh = p.ow = 4
    assert c.lib.mg_avg_pool2d(p, c.ffi.NULL, c.ffi.NULL) == c.lib.MG_EARG
    with pytest.raises(Exception, match="does not fit"):
        conv.avg_pool2d(np.ones((1, 1, 2, 2), np.float32), (3, 3), (1, 1), (0, 0), False, True, None)


def test_gradient_through_a_relu():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 2, 9, 8)).astype(np.float32)
    y, index = conv.max_pool2d(x, (2, 3), (2, 2), (1, 1), (1, 1), True)
    g = rng.normal(size=y.shape).astype(np.float32)
    wanted = conv.max_pool2d_grad(np.where(y > 0, g, np.float32(0)), index, (9, 8))
    np.testing.assert_array_equal(conv.max_pool2d_grad(g, index, (9, 8), y), wanted)
    with pytest.raises(ValueError, match="differ"):
        conv.max_pool2d_grad(g, index, (9, 8), y[:1])
