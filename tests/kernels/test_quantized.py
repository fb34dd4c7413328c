"""Arithmetic in eight bits in C: the bits of the numpy rule, for every table, product and thread count."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.backends import c
from minigrad.errors import Error
from minigrad.ops.quantized import LONGEST, pack_panels, unpack_panels
from minigrad.record import OPS

if not c.available:
    pytest.skip(c.reason, allow_module_level=True)

from minigrad.backends.quantized import KERNELS


def settings_of_kernels() -> list[tuple[str, str]]:
    """Every table with every kind of product that this processor has."""
    before = c.isa()
    found = []
    for isa in c.isas():
        c.set_isa(isa)
        found += [(isa, dot) for dot in c.dots()]
    c.set_isa(before)
    return found


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    isa, threads = c.isa(), c.num_threads()
    yield
    c.set_isa(isa)
    c.set_num_threads(threads)


def everywhere(name: str, *args: Any) -> np.ndarray:
    """The record's result, after a comparison with that of every kernel, bit by bit."""
    expected = np.asarray(OPS[name].kernel(*args))
    for isa, dot in settings_of_kernels():
        c.set_isa(isa)
        c.set_dot(dot)
        for threads in (1, 2):
            c.set_num_threads(threads)
            y = KERNELS[name](*args)
            assert y.dtype == expected.dtype
            assert y.shape == expected.shape
            same = y.tobytes() == expected.tobytes()
            assert same, f"{name} on {isa} with {dot}, {threads} threads: {y} is not {expected}"
    return expected


def codes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape).astype(np.uint8)


def weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-127, 128, shape).astype(np.int8)


def scales(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Multipliers that spread sums of k products over the codes."""
    return (rng.uniform(0.3, 2.0, n) * 50 / (74 * 73 * math.sqrt(max(k, 1)))).astype(np.float32)


@pytest.mark.parametrize("name", [name for name in KERNELS if name != "weight_only_linear"])
def test_samples_of_the_records(name: str) -> None:
    for inputs, attrs in OPS[name].samples(np.random.default_rng(0)):
        args = [np.asarray(x) for x in inputs]
        everywhere(name, *[x.astype(np.float32) if x.dtype == np.float64 else x for x in args], *attrs)


extreme = st.sampled_from([0, 1, 127, 128, 254, 255])


@settings(max_examples=25, deadline=None)
@given(
    m=st.sampled_from([1, 2, 3, 13, 14, 15, 29]),
    n=st.sampled_from([1, 8, 15, 16, 17, 31, 33, 48, 100]),
    k=st.integers(0, 140),
    zero=extreme,
    out=extreme,
    bounds=st.tuples(extreme, extreme).map(sorted),
    seed=st.integers(0, 2**32),
)
def test_products(m: int, n: int, k: int, zero: int, out: int, bounds: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = codes(rng, m, k), pack_panels(weights(rng, n, k))
    scale, bias = scales(rng, n, k), rng.integers(-30000, 30000, n).astype(np.int32)
    everywhere("quantized_linear", x, w, scale, bias, zero, out, *bounds)
    lo, hi = sorted(rng.normal(size=2))
    offset = rng.normal(size=n).astype(np.float32)
    everywhere("quantized_linear_float", x, w, scale, offset, zero, lo, hi)
    rows = OPS["quantize_rows"].kernel(rng.normal(size=(m, k)).astype(np.float32))
    everywhere("quantized_rows_linear", rows, w, scale, offset, lo, math.inf)


@pytest.mark.parametrize(("x", "w"), [(255, 127), (255, -127), (0, 127), (0, -127)])
@pytest.mark.parametrize("zero", [0, 255])
def test_the_longest_sums(x: int, w: int, zero: int) -> None:
    """65,536 products as large as can be: the sum is exact, and its result saturates."""
    n = 17
    panels = pack_panels(np.full((n, LONGEST), w, np.int8))
    given = np.full((2, LONGEST), x, np.uint8)
    total = LONGEST * (x - zero) * w
    for rows in (given[:1], given):
        y = everywhere(
            "quantized_linear_float", rows, panels, np.ones(n, np.float32), np.zeros(n, np.float32), zero,
            -math.inf, math.inf,
        )  # fmt: skip
        assert (y == np.float32(total)).all()
        attrs = (zero, 7, 3, 250)
        y = everywhere(
            "quantized_linear", rows, panels, np.ones(n, np.float32), np.zeros(n, np.int32), *attrs
        )
        assert (y == (250 if total > 0 else 3 if total < 0 else 7)).all()


def test_products_over_several_threads_and_blocks() -> None:
    rng = np.random.default_rng(1)
    for m, n, k in ((200, 300, 257), (3, 900, 1500), (1, 3000, 1000)):
        w, scale = pack_panels(weights(rng, n, k)), scales(rng, n, k)
        everywhere("quantized_linear", codes(rng, m, k), w, scale, np.zeros(n, np.int32), 3, 100, 0, 255)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([1, 2, 3, 4, 16, 17, 40]),
    out=st.sampled_from([1, 5, 16, 33]),
    kind=st.sampled_from(["whole", "whole", "groups", "depthwise"]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    size=st.tuples(st.integers(7, 10), st.integers(7, 10)),
    zero=extreme,
    seed=st.integers(0, 2**32),
)
def test_convolutions(
    channels: int,
    out: int,
    kind: str,
    kernel: Any,
    stride: Any,
    dilation: Any,
    padding: Any,
    size: Any,
    zero: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    groups = {"whole": 1, "groups": 2, "depthwise": channels}[kind]
    if kind == "groups":
        channels, out = 2 * channels, 2 * out
    if kind == "depthwise":
        out = channels
    x = codes(rng, 2, *size, channels)
    w = pack_panels(weights(rng, out, *kernel, channels // groups), groups)
    scale = scales(rng, out, math.prod(kernel) * channels // groups)
    geometry = (kernel, stride, padding, dilation, groups, zero)
    bias = rng.integers(-999, 999, out).astype(np.int32)
    everywhere("quantized_conv2d", x, w, scale, bias, *geometry, 128, 128, 255)
    offset = rng.normal(size=out).astype(np.float32)
    everywhere("quantized_conv2d_float", x, w, scale, offset, *geometry, 0.0, math.inf)


@settings(max_examples=15, deadline=None)
@given(channels=st.sampled_from([1, 3, 16, 37, 64, 100]), ceil=st.booleans(), seed=st.integers(0, 2**32))
def test_pooling_and_codes(channels: int, ceil: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = codes(rng, 2, 9, 8, channels)
    everywhere("quantized_max_pool2d", x, (3, 2), (2, 2), (1, 1), (1, 1), ceil)
    everywhere("quantized_avg_pool2d", x, (3, 2), (2, 2), (1, 1), ceil, bool(seed % 2), None, 77)
    everywhere("quantized_add", x, codes(rng, *x.shape), 3, 0.7, 255, 1.3, 128, 20, 250)
    everywhere("quantized_lookup", x, codes(rng, 256))
    everywhere("dequantize", x, 0.3, 9)
    floats = (rng.normal(size=x.shape) * 100).astype(np.float32)
    floats.flat[:4] = np.nan, np.inf, -np.inf, 1e-40
    everywhere("quantize", floats, 0.7, 5)
    everywhere("quantize_rows", floats)


def test_halves_go_to_even() -> None:
    x = (np.arange(-8, 8) + np.float32(0.5)).astype(np.float32)
    y = everywhere("quantize", x, 1.0, 101)
    assert y.tolist() == [101 + round(float(v)) for v in x]


def test_float_products_with_int8_weights() -> None:
    rng = np.random.default_rng(2)
    for m, n, k in ((1, 5, 0), (1, 33, 70), (6, 9, 37), (64, 200, 300)):
        x, w = rng.normal(size=(m, k)).astype(np.float32), weights(rng, n, k)
        scale, bias = rng.normal(size=(2, n)).astype(np.float32)
        exact = (x.astype(np.float64) @ w.T.astype(np.float64)) * scale + bias
        size = (abs(x).astype(np.float64) @ abs(w.T).astype(np.float64)) * abs(scale) + abs(bias)
        for isa, dot in settings_of_kernels():
            c.set_isa(isa)
            c.set_dot(dot)
            y = KERNELS["weight_only_linear"](x, w, scale, bias)
            assert (abs(y - exact) <= (4 + math.sqrt(k)) * 2.0**-23 * size + 1e-30).all()


def test_panels_are_those_of_c() -> None:
    rng = np.random.default_rng(3)
    for n, k in ((1, 1), (16, 8), (35, 30), (2, 0)):
        w = weights(rng, n, k)
        panels = pack_panels(w)
        assert panels.nbytes == c.lib.mg_quantized_pack_bytes(k, n)
        made = np.empty_like(panels)
        pointers = [c.ffi.cast("int8_t *", c.ffi.from_buffer(a)) for a in (w, made)]
        assert c.lib.mg_quantized_pack(k, n, pointers[0], 1, k, pointers[1]) == c.lib.MG_OK
        np.testing.assert_array_equal(panels, made)
        np.testing.assert_array_equal(unpack_panels(panels, n, k), w)
        assert panels.__array_interface__["data"][0] % 64 == 0


def test_a_program_is_one_call() -> None:
    """Quantize, convolve, pool, multiply: instructions of C throughout, and the bits of the interpreter."""
    from minigrad.execute import interpret
    from minigrad.execute.program import Program
    from minigrad.passes import run

    rng = np.random.default_rng(4)
    op = mg.ops.quantized

    def parts(n: int, *shape: int) -> list[Any]:
        k = math.prod(shape)
        added = rng.integers(-99, 99, n).astype(np.int32)
        return [mg.tensor(a) for a in (pack_panels(weights(rng, n, *shape)), scales(rng, n, k), added)]

    conv, first, last = parts(20, 3, 3, 2), parts(30, 320), parts(5, 30)
    last[2] = mg.tensor(rng.normal(size=5).astype(np.float32))
    table = mg.tensor(codes(rng, 256))

    def model(x: Any) -> Any:
        q = op.quantize(x, 0.03, 120)
        q = op.quantized_conv2d(q, *conv, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 120, 100, 100, 255)
        q = op.quantized_add(q, op.quantized_lookup(q, table), 100, 0.5, 90, 0.5, 100, 0, 255)
        q = op.quantized_avg_pool2d(
            op.quantized_max_pool2d(q, (2, 2), (2, 2), (0, 0), (1, 1), False),
            (1, 1), (1, 1), (0, 0), False, True, None, 100,
        ).reshape(3, 320)  # fmt: skip
        q = op.quantized_linear(q, *first, 100, 90, 90, 255)
        y = op.quantized_linear_float(q, *last, 90, -math.inf, math.inf)
        return op.quantized_rows_linear(op.quantize_rows(y), *few, 0.0, math.inf)

    few = [mg.tensor(pack_panels(weights(rng, 4, 5))), *[mg.tensor(scales(rng, 4, 5)) for _ in range(2)]]
    graph = run(mg.trace(model, mg.Spec((3, 8, 8, 2), mg.float32)))
    program = Program(graph)
    assert program.whole
    assert {"quantized_conv", "quantized_gemm", "quantize"} <= {i.kernel for i in program.instructions}
    x = rng.normal(size=(3, 8, 8, 2)).astype(np.float32)
    with mg.backend("numpy"):
        expected = interpret(graph)(x)[0]
    for isa, dot in settings_of_kernels():
        c.set_isa(isa)
        c.set_dot(dot)
        assert program(x)[0].tobytes() == expected.tobytes()


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(5)
    x, w = codes(rng, 3, 10), pack_panels(weights(rng, 4, 10))
    m, bias = np.ones(4, np.float32), np.zeros(4, np.int32)
    for wrong in (
        (x, w[:, :2], m, bias, 0, 0, 0, 255),
        (x, w, np.ones(20, np.float32), np.zeros(20, np.int32), 0, 0, 0, 255),
        (x.astype(np.int8), w, m, bias, 0, 0, 0, 255),
        (x, w, m, bias.astype(np.int64), 0, 0, 0, 255),
        (x, w, m, bias, 256, 0, 0, 255),
        (x, w, m, bias, 0, 0, 9, 3),
    ):
        with pytest.raises((Error, ValueError)):
            KERNELS["quantized_linear"](*wrong)


def test_the_environment_chooses_the_product() -> None:
    isa = c.isa()
    if len(c.dots()) < 2:
        pytest.skip("one kind of product")
    code = "from minigrad.backends import c; print(c.isa(), c.dot())"
    for wanted, expected in ((f"{isa}:plain", f"{isa} plain"), (isa, f"{isa} vnni")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "MINIGRAD_ISA": wanted},
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == expected
    with pytest.raises(ValueError, match="plain"):
        c.set_dot("nonsense")
