"""Matrix multiplication in C: every table, every layout, awkward sizes, against numpy in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from minigrad.backends import c

if not c.available:
    pytest.skip(c.reason, allow_module_level=True)

DTYPES = (np.float32, np.float64)


@pytest.fixture(params=c.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each table that this processor runs, on two threads."""
    before, threads = c.isa(), c.num_threads()
    c.set_isa(request.param)
    c.set_num_threads(2)
    yield request.param
    c.set_isa(before)
    c.set_num_threads(threads)


@pytest.fixture(autouse=True)
def always_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send tiny products to C too."""
    monkeypatch.setattr(c, "MATMUL_CROSSOVER", 0)


def block(dtype: type, which: str) -> int:
    return int(c.lib.mg_block(int(dtype is np.float64), which.encode()))


def assert_product(result: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """|error| <= a few eps * |x| |y|, the bound that holds for any order of summation."""
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    exact, size = np.matmul(x64, y64), np.matmul(abs(x64), abs(y64))
    assert result.shape == exact.shape
    assert result.dtype == x.dtype
    k = x.shape[-1]
    np.testing.assert_array_less(
        abs(result - exact), (4 + np.sqrt(k)) * np.finfo(x.dtype).eps * size + 1e-300
    )


def layouts(rng: np.random.Generator, m: int, n: int, dtype: type) -> dict[str, np.ndarray]:
    """An m x n matrix, stored in every way that numpy can store one."""
    return {
        "rows": rng.standard_normal((m, n)).astype(dtype),
        "columns": rng.standard_normal((n, m)).astype(dtype).T,
        "gaps": rng.standard_normal((m, n + 3)).astype(dtype)[:, 1 : n + 1],
        "strided": rng.standard_normal((2 * m, 3 * n)).astype(dtype)[::2, ::3],
        "backwards": rng.standard_normal((m, n)).astype(dtype)[::-1, ::-1],
        "unaligned": np.frombuffer(b"x" + rng.standard_normal((m, n)).astype(dtype).tobytes(), np.uint8)[1:]
        .view(dtype)
        .reshape(m, n),
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges_of_a_tile(isa: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    mr, nr, kc = (block(dtype, b) for b in ("mr", "nr", "kc"))
    for m in (1, 2, mr - 1, mr, mr + 1, 3 * mr + 1):
        for n in (1, nr // 2 - 1, nr // 2 + 1, nr - 1, nr, nr + 1, 4 * nr + 3):
            for k in (0, 1, 2, 31):
                x, y = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
                assert_product(c.matmul(x, y), x, y)
    for k in (kc - 1, kc, kc + 1, 2 * kc + 1):
        for m, n in ((mr + 1, nr + 1), (1, 9 * nr + 1), (2 * mr + 1, 1), (1, 1)):
            x, y = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
            assert_product(c.matmul(x, y), x, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), [(17, 35, 19), (1, 70, 33), (33, 1, 20), (1, 1, 40), (60, 150, 23)])
def test_every_layout(isa: str, dtype: type, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(1)
    for x in layouts(rng, m, k, dtype).values():
        for y in layouts(rng, k, n, dtype).values():
            assert_product(c.matmul(x, y), x, y)


def test_long_rows_take_the_packed_path(isa: str) -> None:
    rng = np.random.default_rng(2)
    x, y = (
        rng.standard_normal((40, 1100)).astype(np.float32),
        rng.standard_normal((1100, 300)).astype(np.float32),
    )
    assert_product(c.matmul(x, y), x, y)
    x = np.asfortranarray(rng.standard_normal((1100, 40)).astype(np.float32))
    y = rng.standard_normal((40, 1100)).astype(np.float32)
    assert_product(c.matmul(x, y), x, y)
    x, y = np.ascontiguousarray(x.T).T, np.ascontiguousarray(y.T).T
    assert_product(c.matmul(x, y), x, y)
    assert_product(c.matmul(y, x), y, x)
    x = rng.standard_normal((70, 1100)).astype(np.float32).T  # several groups of packed tiles, and a rest
    y = rng.standard_normal((70, 130)).astype(np.float32)
    assert_product(c.matmul(x, y), x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty(isa: str, dtype: type) -> None:
    for shape_x, shape_y in [
        ((3, 0), (0, 4)),
        ((0, 3), (3, 4)),
        ((3, 4), (4, 0)),
        ((2, 3, 0), (0, 4)),
        ((0,), (0,)),
        ((0, 3, 4), (4, 5)),
    ]:
        x, y = np.ones(shape_x, dtype), np.ones(shape_y, dtype)
        result = c.matmul(x, y)
        np.testing.assert_array_equal(result, np.matmul(x, y))
        assert np.asarray(result).dtype == dtype


SHAPES = [
    ((5,), (5,)),
    ((5,), (5, 7)),
    ((7, 5), (5,)),
    ((3, 7, 5), (5,)),
    ((5,), (3, 5, 7)),
    ((3, 7, 5), (5, 9)),
    ((3, 7, 5), (3, 5, 9)),
    ((2, 1, 7, 5), (3, 5, 9)),
    ((2, 3, 7, 5), (2, 1, 5, 9)),
    ((7, 5), (4, 5, 9)),
    ((1, 7, 5), (6, 5, 9)),
    ((64, 3, 5), (64, 5, 2)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_and_batches(isa: str, dtype: type, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(3)
    x, y = (rng.standard_normal(s).astype(dtype) for s in shapes)
    result = c.matmul(x, y)
    assert type(result) is type(np.matmul(x, y)) or result.shape == ()
    assert_product(np.asarray(result), x, y)


def test_batches_that_are_views(isa: str) -> None:
    rng = np.random.default_rng(4)
    base = rng.standard_normal((6, 7, 8, 9)).astype(np.float32)
    heads = base.transpose(0, 2, 1, 3)  # (6, 8, 7, 9), as attention does
    assert_product(c.matmul(heads, heads.swapaxes(-1, -2)), heads, heads.swapaxes(-1, -2))
    repeated = np.broadcast_to(base[:1], base.shape)
    assert_product(c.matmul(repeated, base.swapaxes(-1, -2)), repeated, base.swapaxes(-1, -2))
    rows = as_strided(base[0, 0], (5, 8, 9), (0, *base[0, 0].strides))
    assert_product(c.matmul(rows, base[0, 0].T), rows, base[0, 0].T)


@given(
    st.integers(1, 40),
    st.integers(1, 70),
    st.integers(0, 40),
    st.sampled_from(DTYPES),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_any_shape(m: int, n: int, k: int, dtype: type, i: int, j: int) -> None:
    rng = np.random.default_rng(5)
    x, y = list(layouts(rng, m, k, dtype).values())[i], list(layouts(rng, k, n, dtype).values())[j]
    assert_product(c.matmul(x, y), x, y)


def descriptor(
    x: np.ndarray, y: np.ndarray, out: np.ndarray, **fields: object
) -> tuple[object, list[object]]:
    """A `struct mg_gemm` for two matrices, and what must stay alive with it."""
    g = c.ffi.new("struct mg_gemm *")
    size, keep = x.itemsize, [c._pointer(v) for v in (x, y, out)]
    g.type, g.m, g.n, g.k, g.alpha = int(x.dtype == np.float64), x.shape[0], y.shape[1], x.shape[1], 1
    g.a, g.b, g.c = keep
    g.rsa, g.csa = (s // size for s in x.strides)
    g.rsb, g.csb = (s // size for s in y.strides)
    g.rsc, g.csc = (s // size for s in out.strides)
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            keep.append(value := c.ffi.from_buffer(value))
        setattr(g, name, value)
    return g, keep


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), [(20, 70, 15), (1, 300, 9), (3, 10, 700), (5, 6, 0)])
def test_epilogue(isa: str, dtype: type, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    bias, start = rng.standard_normal(n).astype(dtype), rng.standard_normal((m, n)).astype(dtype)
    tolerance = 200 * np.finfo(dtype).eps
    for alpha, beta in ((1, 0), (1, 1), (0.5, -2), (0, 1)):
        out = start.copy() if beta else np.full((m, n), np.nan, dtype)
        g, keep = descriptor(x, y, out, alpha=alpha, beta=beta, bias=bias, act=c.lib.MG_RELU)
        assert c.lib.mg_gemm(g) == 0
        del keep
        want = np.maximum(
            alpha * (x.astype(float) @ y) + (beta * start.astype(float) if beta else 0) + bias, 0
        )
        np.testing.assert_allclose(out, want, rtol=tolerance, atol=tolerance)


def packed(y: np.ndarray) -> np.ndarray:
    """`y` as mg_gemm_pack_b lays it out."""
    kind, size = int(y.dtype == np.float64), y.itemsize
    k, n = y.shape
    room = np.full(c.lib.mg_gemm_pack_bytes(kind, k, n), 255, np.uint8)
    status = c.lib.mg_gemm_pack_b(
        kind, k, n, c._pointer(y), y.strides[0] // size, y.strides[1] // size, c.ffi.from_buffer(room)
    )
    assert status == 0
    return room


@pytest.mark.parametrize("dtype", DTYPES)
def test_packed_operand(isa: str, dtype: type) -> None:
    rng = np.random.default_rng(12)
    mr, nr, kc = (block(dtype, b) for b in ("mr", "nr", "kc"))
    tolerance = 200 * np.finfo(dtype).eps
    for m in (1, mr, 2 * mr + 1):
        for n in (1, nr - 1, nr + 1, 9 * nr + 3):
            for k in (0, 1, 7, kc, kc + 1):
                x, bias = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal(n).astype(dtype)
                for name in ("rows", "columns", "strided"):
                    y = layouts(rng, k, n, dtype)[name]
                    out = np.full((m, n), np.nan, dtype)
                    g, keep = descriptor(x, y, out, b=packed(y), packed_b=1, rsb=-77, csb=-77)
                    assert c.lib.mg_gemm(g) == 0
                    assert_product(out, x, y)
                    g.beta, g.alpha, g.act = 1.0, -0.5, c.lib.MG_RELU
                    keep.append(at := c.ffi.from_buffer(bias))
                    g.bias, want = at, np.maximum(out - 0.5 * (x.astype(float) @ y) + bias, 0)
                    assert c.lib.mg_gemm(g) == 0
                    np.testing.assert_allclose(out, want, rtol=tolerance, atol=tolerance * (1 + k**0.5))


def test_packed_operand_on_any_number_of_threads(isa: str) -> None:
    rng = np.random.default_rng(13)
    y = rng.standard_normal((600, 2100)).astype(np.float32)
    for m in (1, 3, 40):
        x, results = rng.standard_normal((m, 600)).astype(np.float32), set()
        for threads in (1, 2, 5):
            c.set_num_threads(threads)
            out = np.empty((m, 2100), np.float32)
            g, keep = descriptor(x, y, out, b=packed(y), packed_b=1)
            assert c.lib.mg_gemm(g) == 0
            del keep
            results.add(out.tobytes())
        assert len(results) == 1
        assert_product(out, x, y)


def test_packed_operand_that_does_not_fit() -> None:
    x, y, out = (np.ones((40, 40), np.float32) for _ in range(3))
    lib, room = c.lib, packed(y)
    for fields in ({"k": 39}, {"n": 39}, {"type": 1}, {"csc": 40, "rsc": 1}, {"b": np.zeros(9999, np.uint8)}):
        g, keep = descriptor(x, y, out, **({"b": room, "packed_b": 1} | fields))
        assert lib.mg_gemm(g) == lib.MG_EARG, fields
        del keep
    g, keep = descriptor(x, y, out, b=room, packed_b=1, batch_rank=1)
    g.batch[0], g.batch_b[0] = 2, 1600
    assert lib.mg_gemm(g) == lib.MG_EARG
    del keep
    before = c.isa()
    for name in c.isas():  # the layout is that of the table which packed it
        c.set_isa(name)
        g, keep = descriptor(x, y, out, b=room, packed_b=1)
        assert (lib.mg_gemm(g) == 0) == (name == before)
        del keep
    c.set_isa(before)
    assert lib.mg_gemm_pack_bytes(0, 2**40, 2**40) == lib.mg_gemm_pack_bytes(0, -1, 5) == 0
    assert lib.mg_gemm_pack_bytes(5, 3, 3) == 0
    assert lib.mg_gemm_pack_b(0, 2**40, 2**40, c.ffi.NULL, 1, 1, c.ffi.NULL) == lib.MG_ESIZE
    assert lib.mg_gemm_pack_b(9, 4, 4, c.ffi.NULL, 1, 1, c.ffi.NULL) == lib.MG_EARG


def test_output_by_columns(isa: str) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((20, 15)).astype(np.float32), rng.standard_normal((15, 33)).astype(np.float32)
    out = np.full((33, 20), np.nan, np.float32)
    g, keep = descriptor(x, y, out, rsc=1, csc=20)
    assert c.lib.mg_gemm(g) == 0
    del keep
    assert_product(out.T, x, y)


def test_bad_descriptors() -> None:
    x = np.ones((4, 4), np.float32)
    out = np.zeros((4, 4), np.float32)
    lib = c.lib
    for status, fields in [
        (lib.MG_EARG, {"type": 7}),
        (lib.MG_EARG, {"act": 9}),
        (lib.MG_EARG, {"batch_rank": 7}),
        (lib.MG_EARG, {"rsc": 8, "csc": 2}),
        (lib.MG_ESIZE, {"m": -1}),
        (lib.MG_ESIZE, {"m": 2**62, "n": 2**20}),
        (lib.MG_ESIZE, {"k": 2**62}),
    ]:
        g, keep = descriptor(x, x, out, **fields)
        assert lib.mg_gemm(g) == status
        del keep
    np.testing.assert_array_equal(out, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_reach_the_result_as_in_numpy(isa: str, bad: float) -> None:
    rng = np.random.default_rng(8)
    for m, n, k in ((30, 40, 20), (1, 200, 20), (20, 1, 50)):
        for where in (0, 1):
            x, y = (
                rng.standard_normal((m, k)).astype(np.float32),
                rng.standard_normal((k, n)).astype(np.float32),
            )
            (x, y)[where][-1, -1] = bad
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(np.isfinite(c.matmul(x, y)), np.isfinite(np.matmul(x, y)))
                np.testing.assert_array_equal(np.isnan(c.matmul(x, y)), np.isnan(np.matmul(x, y)))
    x = np.array([[np.nan, 1], [1, 1]], np.float32)
    out = np.zeros((2, 2), np.float32)
    g, keep = descriptor(x, np.eye(2, dtype=np.float32), out, act=c.lib.MG_RELU)
    assert c.lib.mg_gemm(g) == 0
    del keep
    assert np.isnan(out[0]).all()  # relu(nan) is nan


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(150, 90, 70), (90, 500, 64), (1, 9000, 40), (9000, 1, 40), (700, 10, 50)]
)
def test_same_bits_on_any_number_of_threads(isa: str, dtype: type, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(9)
    for x in list(layouts(rng, m, k, dtype).values())[:4]:
        for y in list(layouts(rng, k, n, dtype).values())[:4]:
            results = []
            for threads in (1, 2, 3, 7):
                c.set_num_threads(threads)
                results.append(c.matmul(x, y).tobytes())
            assert len(set(results)) == 1


def test_out() -> None:
    rng = np.random.default_rng(10)
    x, y = rng.standard_normal((20, 20)).astype(np.float32), rng.standard_normal((20, 20)).astype(np.float32)
    exact = x.copy() @ y
    out = np.empty((20, 20), np.float32)
    assert c.matmul(x, y, out=out) is out
    assert_product(out, x, y)
    columns = np.empty((20, 20), np.float32).T
    assert_product(c.matmul(x, y, out=columns), x, y)
    overlapping = x.copy()
    c.matmul(overlapping, y, out=overlapping)
    np.testing.assert_allclose(overlapping, exact, rtol=1e-4, atol=1e-4)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        c.matmul(x, y, out=out)
    with pytest.raises(ValueError, match="out must be"):
        c.matmul(x, y, out=np.empty((20, 21), np.float32))


def test_what_numpy_does() -> None:
    for x, y in [
        (np.ones((3, 4), int), np.ones((4, 5), int)),
        (np.ones((3, 4), np.float32), np.ones((4, 5))),
        (np.ones((3, 4), ">f4"), np.ones((4, 5), ">f4")),
        (np.ones((3, 4), complex), np.ones((4, 5))),
    ]:
        np.testing.assert_array_equal(c.matmul(x, y), np.matmul(x, y))
    for x, y in [
        (np.ones((3, 4)), np.ones((3, 4))),
        (np.ones((2, 3, 4)), np.ones((3, 4, 2))),
        (np.ones(()), np.ones(3)),
    ]:
        with pytest.raises(ValueError, match=r"matmul|broadcast"):
            c.matmul(x, y)
    field = np.zeros((4, 4), [("pad", "u1"), ("v", "f4")])["v"]  # strides that are no multiple of the item
    field[...] = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(c.matmul(field, field), field @ field)


def test_ladder(isa: str) -> None:
    rng = np.random.default_rng(11)
    for m, n, k in ((37, 41, 530), (1, 1, 1), (3, 5, 0), (0, 5, 4)):
        x, y = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
        for step in c.ladder_steps():
            result = c.ladder(step, x, y)
            np.testing.assert_allclose(result, x.astype(float) @ y, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="naive"):
        c.ladder("top", x, y)
    with pytest.raises(ValueError, match="multiply shapes"):
        c.ladder("naive", np.ones((2, 3)), np.ones((2, 3)))


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_environment() -> None:
    code = "from minigrad.backends import c; print(c.isa(), c.num_threads())"
    assert run(code, MINIGRAD_ISA="generic", MINIGRAD_NUM_THREADS="3").stdout.split() == ["generic", "3"]
    wrong = run(code, MINIGRAD_ISA="sse9")
    assert wrong.returncode != 0
    assert "MINIGRAD_ISA" in wrong.stderr
    assert "sse9" in wrong.stderr
    assert ", ".join(c.isas()) in wrong.stderr
    for count in ("0", "many", "-1"):
        assert "MINIGRAD_NUM_THREADS" in run(code, MINIGRAD_NUM_THREADS=count).stderr


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="generic"):
        c.set_isa("nonsense")
    with pytest.raises(ValueError, match="at least 1"):
        c.set_num_threads(0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_out_of_memory_is_a_memory_error() -> None:
    code = """
import resource
import numpy as np
from minigrad.backends import c
c.set_num_threads(1)
x, y, out = np.ones((40, 700), "f4"), np.ones((700, 1500), "f4"), np.empty((40, 1500), "f4")
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**18, resource.RLIM_INFINITY))
try: c.matmul(x, y, out=out)
except MemoryError as error: print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print((c.matmul(x, y, out=out) == 700).all())
"""
    result = run(code)
    assert "scratch" in result.stdout, result.stderr
    assert "True" in result.stdout


def test_without_the_extension() -> None:
    code = """
import sys
sys.modules["minigrad._kernels"] = None
import numpy as np
from minigrad.backends import c
assert not c.available and 'not built' in c.reason
assert c.KERNELS == {} and c.isas() == () and c.num_threads() == 1
assert (c.matmul(np.eye(40, dtype="f4"), np.ones((40, 40), "f4")) == 1).all()
try: c.set_isa("generic")
except RuntimeError as error: print(error)
"""
    result = run(code)
    assert "not available" in result.stdout, result.stderr
