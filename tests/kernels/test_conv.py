"""Convolution kernels against the definition in float64: every table, every path, every awkward size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.backends import c, conv

pytestmark = pytest.mark.skipif(not c.available, reason="the extension is not built")

UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}


def taps(shape, kernel, out, stride, padding, dilation):
    """For each tap, which part of the output sees which part of an unpadded image."""
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            pieces = []
            for n, o, s, p, shift in (
                (shape[0], out[0], stride[0], padding[0], u * dilation[0]),
                (shape[1], out[1], stride[1], padding[2], v * dilation[1]),
            ):
                places = np.arange(o) * s + shift - p
                seen = np.flatnonzero((places >= 0) & (places < n))
                pieces.append((seen, places[seen]))
            yield u, v, np.ix_(*(a for a, _ in pieces)), np.ix_(*(b for _, b in pieces))


def grouped(x, groups):
    return x.reshape(x.shape[0], groups, -1, *x.shape[2:])


def naive(x, w, stride, padding, dilation, groups):
    """The definition in float64; what lies outside the image does not take part."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    out = tuple(
        conv._out(x.shape[2 + d], w.shape[2 + d], stride[d], padding[2 * d], padding[2 * d + 1], dilation[d])
        for d in (0, 1)
    )
    y = np.zeros((x.shape[0], groups, w.shape[0] // groups, *out))
    xg, wg = grouped(x, groups), w.reshape(groups, -1, *w.shape[1:])
    for u, v, to, at in taps(x.shape[2:], w.shape[2:], out, stride, padding, dilation):
        y[(..., *to)] += np.einsum("ngchw,goc->ngohw", xg[(..., *at)], wg[..., u, v])
    return y.reshape(x.shape[0], w.shape[0], *out)


def naive_input_grad(g, w, size, stride, padding, dilation, groups):
    g, w = g.astype(np.float64), w.astype(np.float64)
    x = np.zeros((g.shape[0], groups, w.shape[1], *size))
    gg, wg = grouped(g, groups), w.reshape(groups, -1, *w.shape[1:])
    for u, v, to, at in taps(size, w.shape[2:], g.shape[2:], stride, padding, dilation):
        x[(..., *at)] += np.einsum("ngohw,goc->ngchw", gg[(..., *to)], wg[..., u, v])
    return x.reshape(g.shape[0], -1, *size)


def naive_weight_grad(x, g, kernel, stride, padding, dilation, groups):
    x, g = x.astype(np.float64), g.astype(np.float64)
    w = np.zeros((groups, g.shape[1] // groups, x.shape[1] // groups, *kernel))
    xg, gg = grouped(x, groups), grouped(g, groups)
    for u, v, to, at in taps(x.shape[2:], kernel, g.shape[2:], stride, padding, dilation):
        w[..., u, v] = np.einsum("ngchw,ngohw->goc", xg[(..., *at)], gg[(..., *to)])
    return w.reshape(g.shape[1], -1, *kernel)


def check(x, w, *attrs, algorithm="direct", seed=0):
    """All three directions against the definition, within the error stated in conv.c."""
    dtype, u = x.dtype, UNIT[x.dtype]
    y = naive(x, w, *attrs)
    g = np.random.default_rng(seed).normal(size=y.shape).astype(dtype)
    size, kernel = x.shape[2:], w.shape[2:]
    a = [abs(v).astype(np.float64) for v in (x, w, g)]
    steps = w[0].size, w.shape[0] * kernel[0] * kernel[1], g.shape[0] * g.shape[2] * g.shape[3]
    results = (
        (conv.conv2d(x, w, *attrs, algorithm=algorithm), y, naive(a[0], a[1], *attrs)),
        (
            conv.conv2d_input_grad(g, w, size, *attrs, algorithm=algorithm),
            naive_input_grad(g, w, size, *attrs),
            naive_input_grad(a[2], a[1], size, *attrs),
        ),
        (
            conv.conv2d_weight_grad(x, g, kernel, *attrs, algorithm=algorithm),
            naive_weight_grad(x, g, kernel, *attrs),
            naive_weight_grad(a[0], a[2], kernel, *attrs),
        ),
    )
    for direction, ((result, exact, magnitude), n) in enumerate(zip(results, steps, strict=True)):
        assert result.dtype == dtype
        assert result.shape == exact.shape
        bound = (n + 16) * u * magnitude
        if algorithm == "winograd" and direction == 2:
            bound = 64 * u * (steps[2] + 20) ** 0.5 * a[0].max(initial=0) * a[2].max(initial=0)
        elif algorithm == "winograd":
            channels = w.shape[1] if direction == 0 else w.shape[0]
            bound = (
                2304
                * (channels + 20)
                * u
                * a[0 if direction == 0 else 2].max(initial=0)
                * a[1].max(initial=0)
            )
        assert np.all(abs(result - exact) <= bound + 1e-300), (direction, abs(result - exact).max())


@st.composite
def cases(draw):
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    each_in, each_out = draw(st.integers(1, 7)), draw(st.sampled_from([1, 2, 3, 5, 13, 15, 17, 33]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride, dilation = (
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
    )
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    size = tuple(
        draw(st.integers(max(1, (k - 1) * d + 1 - p - q), 36))
        for k, d, p, q in zip(kernel, dilation, padding[::2], padding[1::2], strict=True)
    )
    n = draw(st.integers(1, 3))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return (
        (n, groups * each_in, *size),
        (groups * each_out, each_in, *kernel),
        stride,
        padding,
        dilation,
        groups,
        dtype,
    )


def arrays(x, w, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=x).astype(dtype), rng.normal(size=w).astype(dtype)


@settings(max_examples=80)
@given(cases(), st.sampled_from(c.isas() or ("none",)))
def test_any_geometry(case, name):
    x, w, *attrs, dtype = case
    before = c.isa()
    c.set_isa(name)
    try:
        check(*arrays(x, w, dtype), *attrs)
    finally:
        c.set_isa(before)


ONE = (1, 1)
NAMED = {
    "one input channel": ((3, 1, 28, 28), (32, 1, 3, 3), ONE, (1, 1, 1, 1), ONE, 1),
    "one output channel": ((2, 20, 17, 9), (1, 20, 3, 3), ONE, (1, 1, 1, 1), ONE, 1),
    "depthwise": ((2, 19, 14, 15), (19, 1, 3, 3), ONE, (1, 1, 1, 1), ONE, 19),
    "depthwise, stride 2": ((2, 6, 15, 14), (12, 1, 3, 3), (2, 2), (1, 1, 1, 1), ONE, 6),
    "stride 2, seven by seven": ((2, 3, 37, 35), (20, 3, 7, 7), (2, 2), (3, 3, 3, 3), ONE, 1),
    "one by one": ((2, 21, 9, 11), (34, 21, 1, 1), ONE, (0, 0, 0, 0), ONE, 1),
    "one by one, stride 3": ((2, 5, 10, 8), (7, 5, 1, 1), (3, 3), (0, 0, 0, 0), ONE, 1),
    "stride beyond the kernel": ((2, 3, 20, 20), (4, 3, 2, 2), (5, 4), (0, 1, 2, 0), ONE, 1),
    "narrow rows": ((5, 40, 7, 7), (36, 40, 3, 3), ONE, (1, 1, 1, 1), ONE, 1),
    "several blocks of channels": ((1, 150, 9, 20), (70, 150, 3, 3), ONE, (1, 1, 1, 1), ONE, 1),
    "several bands of rows": ((1, 33, 90, 70), (5, 33, 3, 3), ONE, (1, 1, 1, 1), ONE, 1),
    "padding wider than the kernel": ((1, 2, 3, 4), (3, 2, 2, 2), ONE, (5, 6, 7, 4), ONE, 1),
    "a row": ((2, 4, 1, 50), (6, 4, 1, 5), (1, 2), (0, 0, 2, 2), (1, 2), 1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMED)
def test_paths(name, dtype, isa):
    x, w, *attrs = NAMED[name]
    check(*arrays(x, w, dtype), *attrs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x", "w", "padding", "groups"),
    [
        ((3, 40, 14, 14), (35, 40, 3, 3), (1, 1, 1, 1), 1),
        ((1, 64, 30, 33), (64, 64, 3, 3), (0, 0, 0, 0), 1),
        ((9, 16, 4, 5), (48, 8, 3, 3), (2, 1, 0, 3), 2),
        ((2, 1, 3, 3), (1, 1, 3, 3), (4, 4, 4, 4), 1),
        ((1, 500, 6, 6), (3, 500, 3, 3), (1, 1, 1, 1), 1),
    ],
)
def test_winograd(x, w, padding, groups, dtype, isa):
    check(*arrays(x, w, dtype), ONE, padding, ONE, groups, algorithm="winograd")


def test_winograd_on_normal_numbers(isa):
    """The typical error, stated in winograd.c: 1.5e-5 of the largest output."""
    x, w = arrays((2, 64, 32, 32), (64, 64, 3, 3), np.float32)
    attrs = ONE, (1, 1, 1, 1), ONE, 1
    y = naive(x, w, *attrs)
    assert abs(conv.conv2d(x, w, *attrs, algorithm="winograd") - y).max() < 1.5e-5 * abs(y).max()
    assert abs(conv.conv2d(x, w, *attrs, algorithm="direct") - y).max() < 2e-6 * abs(y).max()
    g = arrays(y.shape, (1,), np.float32, 1)[0]
    dw = naive_weight_grad(x, g, (3, 3), *attrs)
    for algorithm, error in (("winograd", 1.5e-5), ("direct", 2e-6)):
        result = conv.conv2d_weight_grad(x, g, (3, 3), *attrs, algorithm=algorithm)
        assert abs(result - dw).max() < error * abs(dw).max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_where_it_belongs(value, isa):
    for channels in (3, 40):  # direct and Winograd
        x, w = arrays((8, channels, 13, 12), (40, channels, 3, 3), np.float32)
        attrs = ONE, (1, 1, 1, 1), ONE, 1
        x[0, 1, 6, 5] = value
        with np.errstate(invalid="ignore"):
            y = naive(x, w, *attrs)
            result = conv.conv2d(x, w, *attrs)
            np.testing.assert_array_equal(np.isfinite(result), np.isfinite(y))
            np.testing.assert_array_equal(result[~np.isfinite(y)], y[~np.isfinite(y)].astype(np.float32))
            g = np.ascontiguousarray(arrays(y.shape, (1,), np.float32)[0])
            g[0, 2, 7, 3] = value
            x = conv.conv2d_input_grad(g, w, (13, 12), *attrs)
            np.testing.assert_array_equal(
                np.isfinite(x), np.isfinite(naive_input_grad(g, w, (13, 12), *attrs))
            )
            x[...] = 1
            dw = conv.conv2d_weight_grad(x, g, (3, 3), *attrs)
            np.testing.assert_array_equal(
                np.isfinite(dw), np.isfinite(naive_weight_grad(x, g, (3, 3), *attrs))
            )


@pytest.mark.parametrize("name", [*NAMED, "winograd"])
def test_memory_that_the_caller_brings(name, isa):
    """As much as was asked for, or as a single thread asks for, gives the same bits; less is refused."""
    x, w, *attrs = NAMED.get(name, ((6, 40, 20, 20), (40, 40, 3, 3), ONE, (1, 1, 1, 1), ONE, 1))
    x, w = arrays((4 * x[0], *x[1:]), w, np.float32)
    bias = np.linspace(-1, 1, w.shape[0], dtype=np.float32)
    y = conv.conv2d(x, w, *attrs)
    wanted = (
        conv.conv2d(x, w, *attrs, bias),
        conv.conv2d_input_grad(y, w, x.shape[2:], *attrs),
        conv.conv2d_weight_grad(x, y, w.shape[2:], *attrs),
    )
    g = conv._geometry(x.shape, w.shape, y.shape, x.dtype, *attrs, None)
    kernels = c.lib.mg_conv2d, c.lib.mg_conv2d_input_grad, c.lib.mg_conv2d_weight_grad
    before = c.num_threads()
    try:
        for direction, operands in enumerate(((x, w, bias), (y, w), (x, y))):
            pointers = [c.ffi.from_buffer(a) for a in operands]
            for threads in (1, 2):
                c.set_num_threads(threads)
                need = c.lib.mg_conv2d_workspace(g, direction)
                assert need >= 0
                work = np.full(need, 255, np.uint8)
                g.work, g.work_bytes = c.ffi.cast("void *", work.ctypes.data), need
                for run_on in {threads, 2}:
                    c.set_num_threads(run_on)
                    result = np.full_like(wanted[direction], np.nan)
                    assert kernels[direction](g, *pointers, c.ffi.from_buffer(result)) == c.lib.MG_OK
                    assert result.tobytes() == wanted[direction].tobytes()
            if need > 0:
                g.work_bytes = 16
                assert kernels[direction](g, *pointers, c.ffi.from_buffer(result)) == c.lib.MG_ENOMEM
    finally:
        c.set_num_threads(before)


@pytest.mark.parametrize("name", [*NAMED, "winograd"])
def test_threads_do_not_change_a_bit(name, isa):
    x, w, *attrs = NAMED.get(name, ((6, 40, 20, 20), (40, 40, 3, 3), ONE, (1, 1, 1, 1), ONE, 1))
    x, w = arrays((4 * x[0], *x[1:]), w, np.float32)
    before, results = c.num_threads(), []
    try:
        for threads in (1, 2, 3):
            c.set_num_threads(threads)
            y = conv.conv2d(x, w, *attrs)
            results.append(
                [
                    y.tobytes(),
                    conv.conv2d_input_grad(y, w, x.shape[2:], *attrs).tobytes(),
                    conv.conv2d_weight_grad(x, y, w.shape[2:], *attrs).tobytes(),
                ]
            )
    finally:
        c.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_winograd_is_not_left_without_reason(isa):
    """Lanes past the last channel once held what was on the stack: where that was Inf, the path was left."""
    x, w, *attrs = (6, 40, 20, 20), (40, 40, 3, 3), ONE, (1, 1, 1, 1), ONE, 1
    x, w = arrays(x, w, np.float32)
    wanted = conv.conv2d(x, w, *attrs, algorithm="winograd").tobytes()
    assert wanted != conv.conv2d(x, w, *attrs, algorithm="direct").tobytes()
    for value in (np.inf, np.nan):
        conv.conv2d(np.full_like(x, value), w, *attrs)  # leaves its traces wherever it can
        assert conv.conv2d(x, w, *attrs, algorithm="winograd").tobytes() == wanted


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_bias_and_relu(algorithm, isa):
    rng = np.random.default_rng(3)
    for channels, groups in ((5, 1), (36, 1), (6, 6)):
        x, w = arrays((2, channels, 9, 21), (channels, channels // groups, 3, 3), np.float32)
        bias = rng.normal(size=channels).astype(np.float32)
        attrs = ONE, (1, 1, 1, 1), ONE, groups
        y = conv.conv2d(x, w, *attrs, algorithm=algorithm)
        want = y + bias[:, None, None]
        np.testing.assert_allclose(
            conv.conv2d(x, w, *attrs, bias, algorithm=algorithm),
            want,
            rtol=1e-6,
            atol=2e-4 if algorithm == "winograd" else 1e-5,
        )
        np.testing.assert_allclose(
            conv.conv2d(x, w, *attrs, bias, True, algorithm),
            np.maximum(want, 0),
            rtol=1e-6,
            atol=2e-4 if algorithm == "winograd" else 1e-5,
        )
    one = conv.conv2d(x[:, :, :1, :1], w[:, :, :1, :1], *attrs[:1], (0, 0, 0, 0), ONE, groups, bias)
    np.testing.assert_allclose(
        one, x[:, :, :1, :1] * w[:, 0, 0, 0, None, None] + bias[:, None, None], rtol=1e-5
    )


def test_layouts_and_read_only_inputs(isa):
    x, w = arrays((2, 3, 8, 9), (4, 3, 3, 3), np.float32)
    attrs = (2, 1), (1, 0, 1, 1), ONE, 1
    y = conv.conv2d(x, w, *attrs)
    for view in (np.asfortranarray(x), np.flip(np.flip(x, 3).copy(), 3), np.repeat(x, 2, 3)[..., ::2]):
        view.flags.writeable = False
        np.testing.assert_array_equal(conv.conv2d(view, w, *attrs), y)
        assert not np.shares_memory(conv.conv2d(view, w, *attrs), view)


def test_unaligned(isa):
    raw = np.zeros(2 * 3 * 8 * 9 * 4 + 1, np.uint8)
    x = raw[1:].view(np.float32).reshape(2, 3, 8, 9)
    x[...], w = arrays((2, 3, 8, 9), (4, 3, 3, 3), np.float32)
    check(x, w, ONE, (0, 0, 0, 0), ONE, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty(dtype, isa):
    attrs = ONE, (1, 1, 1, 1), ONE, 1
    x, w = np.zeros((0, 3, 5, 5), dtype), np.ones((4, 3, 3, 3), dtype)
    y = conv.conv2d(x, w, *attrs)
    assert y.shape == (0, 4, 5, 5)
    assert conv.conv2d_input_grad(y, w, (5, 5), *attrs).shape == x.shape
    np.testing.assert_array_equal(conv.conv2d_weight_grad(x, y, (3, 3), *attrs), np.zeros_like(w))
    x, w = np.zeros((2, 0, 5, 5), dtype), np.ones((4, 0, 3, 3), dtype)
    np.testing.assert_array_equal(conv.conv2d(x, w, *attrs), np.zeros((2, 4, 5, 5), dtype))


def test_other_types_and_wrong_sizes_are_left_to_numpy():
    x, w = np.arange(18).reshape(1, 2, 3, 3), np.ones((1, 2, 2, 2), int)
    np.testing.assert_array_equal(
        conv.conv2d(x, w, ONE, (0, 0, 0, 0), ONE, 1), naive(x, w, ONE, (0, 0, 0, 0), ONE, 1)
    )
    for shapes in (((1, 2, 3, 3), (1, 3, 2, 2)), ((1, 2, 3, 3), (1, 2, 4, 2)), ((2, 3, 3), (1, 2, 2, 2))):
        with pytest.raises(Exception, match=r"."):
            conv.conv2d(*arrays(*shapes, np.float32), ONE, (0, 0, 0, 0), ONE, 1)


def test_the_abi_refuses_what_cannot_be():
    """Sizes that overflow, and sizes that contradict each other, are status codes and touch no memory."""
    g = c.ffi.new("struct mg_conv *")
    g.groups = g.kh = g.kw = 1
    g.stride = g.dilation = ONE
    g.n = g.ci = g.co = g.h = g.w = g.oh = g.ow = 2**31
    null = c.ffi.NULL
    assert c.lib.mg_conv2d(g, null, null, null, null) == c.lib.MG_ESIZE
    g.n = g.ci = g.co = g.h = g.w = 2
    g.oh = g.ow = 3
    assert c.lib.mg_conv2d(g, null, null, null, null) == c.lib.MG_EARG
    g.oh = g.ow = 2
    g.n = -1
    assert c.lib.mg_conv2d_input_grad(g, null, null, null) == c.lib.MG_ESIZE
    g.n, g.groups = 2, 0
    assert c.lib.mg_conv2d_weight_grad(g, null, null, null) == c.lib.MG_EARG


def test_no_memory_is_a_memory_error():
    """Scratch that cannot be had, asked for before an image is touched."""
    g = c.ffi.new("struct mg_conv *")
    g.groups, g.stride, g.dilation = 1, ONE, ONE
    g.n = g.ci = g.co = 1
    g.kh = g.kw = 3
    g.h = g.oh = 1
    g.w = g.ow = 2**28
    g.ci = 2**27
    g.pad = (1, 1, 1, 1)
    status = c.lib.mg_conv2d(g, c.ffi.NULL, c.ffi.NULL, c.ffi.NULL, c.ffi.NULL)
    assert status in (c.lib.MG_ENOMEM, c.lib.MG_ESIZE)
    with pytest.raises(MemoryError):
        c._check(c.lib.MG_ENOMEM)
