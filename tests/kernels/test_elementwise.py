"""The tile machine and the maths under it: every table against float64 and numpy, at every edge."""

from __future__ import annotations

import gc
import math
import weakref

import numpy as np
import pytest
from laws import checks

from minigrad.backends import c, elementwise, get_backend
from minigrad.formula import VOCABULARY, Formula
from minigrad.ops import OPS

pytestmark = pytest.mark.skipif(not c.available, reason=c.reason)

if c.available:
    from minigrad.backends.tile import Program, Unsupported, compile_formula

TILE = 256

#: The largest error in ulp, as stated in csrc/elementwise/maths.h: (float32, float64).
ULP = {
    "exp": (1, 1),
    "expm1": (1.5, 2),
    "log": (1, 1),
    "log1p": (1.5, 1),
    "tanh": (2.5, 2.5),
    "erf": (1.5, 1.5),
    "sin": (1.5, 2.5),
    "cos": (1.5, 2.5),
    "sqrt": (0.5, 0.5),
    "square": (0.5, 0.5),
    "rint": (0, 0),
    "floor": (0, 0),
    "ceil": (0, 0),
    "trunc": (0, 0),
    "abs": (0, 0),
    "sign": (0, 0),
}


def exact(name, x):
    """The function in a wider type than x has."""
    with np.errstate(all="ignore"):
        if name == "erf":
            return np.vectorize(math.erf, otypes=[np.float64])(x)
        return VOCABULARY[name][1](x.astype(np.float64 if x.dtype == np.float32 else np.longdouble))


def worst(got, wanted):
    """The largest error in ulp of the result's dtype; inf where only one is finite, or NaN."""
    with np.errstate(all="ignore"):
        rounded = wanted.astype(got.dtype)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        finite = np.isfinite(got) & np.isfinite(rounded)
        if not (same | finite).all():
            return np.inf
        error = np.abs(got.astype(wanted.dtype) - wanted) / np.spacing(np.abs(rounded)).astype(wanted.dtype)
    return float(np.where(finite, error, 0).max(initial=0))


EDGES = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    88.72,
    88.73,
    -87.4,
    -103.9,
    -104.1,
    709.7,
    709.8,
    -708.4,
    -745.1,
    -745.2,
    3.9e5,
    4.1e5,
    1e10,
    1e30,
    -1e30,
    8388607.5,
    8388608.5,
    4503599627370495.5,
]


@pytest.mark.parametrize("name", ULP)
def test_float32_over_all_exponents(isa, name):
    x = np.arange(0, 2**32, 5003, dtype=np.uint64).astype(np.uint32).view(np.float32)
    info = np.finfo(np.float32)
    x = np.concatenate(
        [x, np.array([*EDGES, info.max, info.tiny, info.smallest_subnormal, -info.max], np.float32)]
    )
    got = compile_formula(Formula(f"{name}(x)"), np.float32)(x)
    assert got.dtype == np.float32
    assert worst(got, exact(name, x)) <= ULP[name][0] + 1e-6


@pytest.mark.parametrize("name", ULP)
@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no wider type to compare with")
def test_float64(isa, name):
    rng = np.random.default_rng(1)
    info = np.finfo(np.float64)
    x = np.concatenate(
        [
            rng.uniform(-4, 4, 20000),
            rng.uniform(-750, 750, 20000),
            np.ldexp(rng.uniform(-1, 1, 20000), rng.integers(-1074, 1024, 20000)),
            np.array([*EDGES, info.max, info.tiny, info.smallest_subnormal, -info.max]),
        ]
    )
    got = compile_formula(Formula(f"{name}(x)"), np.float64)(x)
    slack = 1.0 if name == "erf" else 0.01  # the reference for erf is itself rounded to float64
    assert worst(got, exact(name, x)) <= ULP[name][1] + slack


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pow(isa, dtype):
    rng = np.random.default_rng(2)
    base = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -3.0, 1e-30, 1e30]
    exponent = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.5, -2.5, 100.0]
    a, b = (v.ravel().astype(dtype) for v in np.meshgrid(base, exponent))
    f = compile_formula(Formula("pow(x, p)"), dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(f(a, b), np.power(a, b), rtol=2 * np.finfo(dtype).eps)
    a, b = rng.uniform(0, 20, 50000).astype(dtype), rng.uniform(-20, 20, 50000).astype(dtype)
    wanted = np.power(a.astype(np.longdouble), b.astype(np.longdouble))
    assert worst(f(a, b), wanted) <= 0.6


def test_numpy_rules_for_nan_and_zero(isa):
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0], np.float32)
    x, y = (v.ravel().copy() for v in np.meshgrid(values, values))
    for text in (
        "maximum(x, y)",
        "minimum(x, y)",
        "x < y",
        "x <= y",
        "x > y",
        "x >= y",
        "x == y",
        "x != y",
        "logical_and(x, y)",
        "logical_or(x, y)",
        "where(x, y, 3.0)",
        "where(x < y, x, y)",
        "x / y",
        "x - y",
    ):
        with np.errstate(all="ignore"):
            wanted = Formula(text).numpy(("x", "y"))(x, y)
            got = compile_formula(Formula(text), np.float32, ("x", "y"))(x, y)
        np.testing.assert_array_equal(got, wanted, err_msg=text)
        assert got.dtype == (bool if wanted.dtype == bool else np.float32), text
    for text in (
        "isnan(x)",
        "isfinite(x)",
        "logical_not(x)",
        "-x",
        "sign(x)",
        "abs(x)",
        "maximum(x, 0)",
        "minimum(x, 0)",
    ):
        np.testing.assert_array_equal(
            compile_formula(Formula(text), np.float32)(values), Formula(text).numpy()(values)
        )
    signs = np.array([-0.0, 0.0, -0.3, 0.3, -0.7], np.float32)
    for name in ("rint", "floor", "ceil", "trunc", "tanh", "erf", "sin", "expm1", "sqrt"):
        with np.errstate(all="ignore"):
            got, wanted = (
                compile_formula(Formula(f"{name}(x)"), np.float32)(signs),
                VOCABULARY[name][1](signs),
            )
        np.testing.assert_array_equal(np.signbit(got[:2]), np.signbit(wanted[:2]), err_msg=name)


SIZES = [0, 1, 3, 4, 5, 15, 16, 17, 31, 33, TILE - 1, TILE, TILE + 1, 3 * TILE + 7, 64 * TILE + 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", SIZES)
def test_sizes_and_alignments(isa, dtype, n):
    rng = np.random.default_rng(n)
    f = compile_formula(Formula("x * y + exp(x)"), dtype)
    for offset in (0, 1, 3):
        x, y = rng.normal(size=(2, n + offset)).astype(dtype)[:, offset:]
        guard = np.full(n + offset + 8, 7, dtype)
        out = guard[offset : offset + n]
        f(x, y, out=[out])
        np.testing.assert_allclose(out, x * y + np.exp(x), rtol=1e-5, atol=1e-6)
        assert (guard[:offset] == 7).all()
        assert (guard[offset + n :] == 7).all()


SHAPES = [
    ((5, 300), (300,)),
    ((5, 300), (5, 1)),
    ((7, 10), (10,)),
    ((1000, 10), (1000, 1)),
    ((4, 3, 1, 50), (3, 70, 1)),
    ((2, 3, 40, 5), (3, 1, 1)),
    ((), (20, 30)),
    ((20, 30), ()),
    ((1, 1), (300, 2)),
    ((0, 5), (5,)),
    ((300,), (1,)),
    ((2, 1, 2, 1, 2, 1, 2), (1, 3, 1, 3, 1, 3, 1)),
    ((2,) * 9, (2, 1) + (2,) * 7),
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_broadcasting(isa, shapes):
    rng = np.random.default_rng(3)
    x, y = (rng.normal(size=s).astype(np.float32) for s in shapes)
    f = compile_formula(Formula("x - y * 2.0"), np.float32)
    got = f(x, y)
    assert got.shape == np.broadcast_shapes(*shapes)
    np.testing.assert_allclose(got, x - y * 2, rtol=1e-6, atol=1e-6)


def test_strides(isa):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(37, 41, 6)).astype(np.float32)
    f = compile_formula(Formula("x + y"), np.float32)
    views = [
        x[::2],
        x[:, ::-1],
        x[::-1, :, ::2],
        x.transpose(2, 0, 1),
        np.asfortranarray(x),
        np.broadcast_to(x[:1], x.shape),
    ]
    for v in views:
        np.testing.assert_array_equal(f(v, v), v + v)
        np.testing.assert_array_equal(f(v, np.ascontiguousarray(v)), v + v)
        np.testing.assert_array_equal(f(np.float32(1) * np.ones(v.shape[-1:], np.float32), v), 1 + v)
    odd = np.zeros(4 * 20 + 1, np.uint8)[1:].view(np.float32)  # not aligned
    np.testing.assert_array_equal(f(odd, odd), odd + odd)
    columns = np.asfortranarray(x[:, :, 0])
    assert f(columns, columns).flags.f_contiguous  # laid out like the input, as numpy does


def test_bools(isa):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 1000)).astype(np.float32)
    mask = rng.uniform(size=1000) < 0.5
    f = compile_formula(
        Formula("where(condition, x, y)"), np.float32, ("condition", "x", "y"), bools=("condition",)
    )
    np.testing.assert_array_equal(f(mask, x, y), np.where(mask, x, y))
    np.testing.assert_array_equal(f(mask[:1], x, y), np.where(mask[:1], x, y))
    np.testing.assert_array_equal(f(mask[::-1], x, y), np.where(mask[::-1], x, y))
    np.testing.assert_array_equal(
        f(mask.reshape(10, 100, 1)[:, :7], x[:1], y[:9]),
        np.where(mask.reshape(10, 100, 1)[:, :7], x[0], y[:9]),
    )
    g = compile_formula(Formula("x * (y > 0.0)"), np.float32)
    np.testing.assert_array_equal(g(x, y), x * (y > 0))
    h = compile_formula(Formula("logical_and(x > 0.0, y > 0.0)"), np.float32)
    assert h(x[:7], y[:7]).dtype == bool
    np.testing.assert_array_equal(h(x, y), (x > 0) & (y > 0))
    for text in ("(x > 0.0) + (y > 0.0)", "-(x > 0.0)"):  # numpy: logical or; an error
        with pytest.raises(Unsupported):
            compile_formula(Formula(text), np.float32)


S = "(1.0 / (1.0 + exp(-(x * (square(x) * 0.07 + 1.6)))))"
RISE = "x * (square(x) * 0.21 + 1.6)"
RISE = f"where({RISE} < -1048576.0, -1048576.0, {RISE})"
SLOPE = f"{S} + {S} * (1.0 - {S}) * where({RISE} > 1048576.0, 1048576.0, {RISE})"


@pytest.mark.parametrize(
    "text",
    [
        "x / (1.0 + exp(-x))",
        "1.0 / (1.0 + exp(-x))",
        "y / (1.0 + exp(x))",
        "0.5 * x * (1.0 + tanh(y))",
        "0.5 * x * (1.0 + tanh(0.79788456 * (x + 0.044715 * x * x * x)))",
        "x * (1.0 / (1.0 + exp(-(x * (square(x) * 0.07 + 1.6))))) + y",
        "exp(x * (square(x) * 0.07 + 1.6)) + 1.0 / (1.0 + exp(-(x * (square(x) * 0.07 + 1.6))))",
        SLOPE,
        SLOPE.replace("1048576.0", "3.0"),  # another limit is not the one of the step
        "where(x < -0.5, -0.5, x) + where(y > 0.5, 0.5, y) + where(x < y, 0.5, x)",
        "x * y + y",
        "x * y - y",
        "y - x * y",
        "x * x + x * x",
        "2.0 * x + y",
        "2.0 * x - y",
        "y - 2.0 * x",
        "3.0 * x + 1.0",
        "x * y + 1.0",
        "1.0 - x",
        "x - 1.0",
        "1.0 / x",
        "x / 3.0",
        "2.0 + 3.0 * 4.0",
        "exp(x) / exp(x)",
        "(x * y) * (x * y) + x * y",
        "exp(-x) + 1.0 / (1.0 + exp(-x))",
        "x + x",
        "x - x",
        "where(1.0 < x, x, 2.0)",
        "maximum(2.0, x)",
        "pow(2.0, x)",
        "minimum(x, 0.5) + maximum(x, 0.5)",
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_patterns_mean_the_same(text, dtype):
    rng = np.random.default_rng(6)
    x, y = rng.uniform(-3, 3, size=(2, 777)).astype(dtype)
    formula = Formula(text)
    wanted = formula.numpy(("x", "y"))(x, y) * np.ones_like(x)
    got = compile_formula(formula, dtype, ("x", "y"))(x, y)
    np.testing.assert_allclose(got, wanted, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


def test_numbers_and_text():
    f = compile_formula(
        Formula("where(input < min, min, input)"), np.float32, ("input",), numbers={"min": 0.25}
    )
    np.testing.assert_array_equal(f(np.array([0.0, 1.0], np.float32)), [0.25, 1.0])
    assert compile_formula(Formula("x * w + b"), np.float32).text() == "v3 = fma(v0, v1, v2)"
    assert compile_formula(Formula("x / (1.0 + exp(-x))"), np.float32).text() == "v1 = silu(v0)"
    assert len(compile_formula(Formula("0.5*x*(1.0+tanh(0.8*(x+0.04*x*x*x)))"), np.float32).code) == 5
    assert [step[0] for step in compile_formula(Formula(SLOPE), np.float32).code] == [
        "CUBIC",
        "SIGMOID",
        "SLOPE",
    ]
    assert compile_formula(Formula("where(x > 0.5, 0.5, x)"), np.float32).text() == "v1 = min_k(v0, 0.5)"


def test_gelu_and_its_gradient_share_their_steps():
    """gelu(u) + x and its gradient: u, s, u s + x, the slope, times g."""
    gelu, slope = OPS["gelu_tanh"].formula, SLOPE
    assert gelu is not None
    cube = 0.044715 * 1.5957691216057308
    for old, new in (("0.07", cube), ("0.21", 3.0 * cube), ("1.6", 1.5957691216057308)):
        slope = slope.replace(old, repr(new))
    p = Program(np.float32, 2)
    x, g = p.inputs
    y = p.step("ADD", p.formula(gelu, {"input": x}), x)
    assert [step[0] for step in p.build(y).code] == ["CUBIC", "GATE", "ADD"]
    both = p.build(y, p.step("MUL", p.formula(Formula(slope), {"x": x}), g))
    assert [step[0] for step in both.code] == ["CUBIC", "SIGMOID", "FMA", "SLOPE", "MUL"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_far_out(isa, dtype):
    """The slope of gelu is 0 or 1 there, whatever overflows on the way; and NaN stays NaN."""
    big = [1e3, 1e10, np.finfo(dtype).max, np.inf]
    x = np.array([-v for v in big] + big + [np.nan] * 8, dtype)
    with np.errstate(all="ignore"):
        got = compile_formula(Formula(SLOPE), dtype)(x)
    np.testing.assert_array_equal(got, [0] * 4 + [1] * 4 + [np.nan] * 8)


def test_programs_with_several_outputs(isa, threads):
    rng = np.random.default_rng(7)
    x, y, w = rng.normal(size=(3, 50, 333)).astype(np.float32)
    p = Program(np.float32, 3)
    a, b, k = p.inputs
    product = p.step("MUL", a, b)
    e = p.step("EXP", product)
    out = (e, p.step("ADD", e, k), p.step("LT", e, k), a, p.step("COPY", 2.0), e)
    run = p.build(*out)
    results = run(x, y, w[:1])
    wanted = [np.exp(x * y), np.exp(x * y) + w[:1], results[0] < w[:1], x, np.full_like(x, 2), np.exp(x * y)]
    for r, expected in zip(results, wanted, strict=True):
        assert r.dtype == expected.dtype
        np.testing.assert_allclose(r, expected, rtol=1e-5, atol=1e-6)
    chain = Program(np.float64, 1)
    value = chain.inputs[0]
    for _ in range(500):  # registers are used again
        value = chain.step("ADD", value, 1.0)
    np.testing.assert_array_equal(chain.build(value)(np.zeros(300)), np.full(300, 500.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(1,), (7,), (5, 3), (300, 10), (3, 400), (2, 3, 5, 7), (900, 1000), (0, 4), (20, 30000)]
)
def test_sums_inside_a_program(isa, threads, dtype, shape):
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, *shape)).astype(dtype)
    results = []
    for n, offset in ((1, 0), (2, 3)):  # neither threads nor addresses change a bit
        threads(n)
        p = Program(dtype, 2)
        product = p.step("MUL", *p.inputs)
        run = p.build(product, product, p.step("EXP", product), sums={1: 0, 2: len(shape) - 1})
        out = [
            np.empty(x.size + 3, dtype)[offset : offset + x.size].reshape(shape),
            np.empty((), dtype),
            np.empty(shape[1:], dtype),
        ]
        results.append(run(x, y, out=out))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    eps = np.finfo(dtype).eps
    wide = x.astype(np.float64) * y
    np.testing.assert_array_equal(results[0][0], x * y)
    np.testing.assert_allclose(results[0][1], wide.sum(), atol=4 * eps * np.abs(wide).sum())
    np.testing.assert_allclose(results[0][2], np.exp(wide).sum(axis=0), rtol=60 * eps)


def test_a_bound_call_keeps_its_program():
    """The steps are in memory of their own, which the program only points to."""
    p = Program(np.float32, 1)
    built = p.build(p.step("EXP", p.inputs[0]))
    y = np.empty(4, np.float32)
    steps = weakref.ref(built._steps)
    call = built.bind(np.zeros(4, np.float32), out=[y])
    del built, p
    gc.collect()
    assert steps() is not None
    call()
    assert y.tolist() == [1.0] * 4


def test_too_large_programs_are_refused():
    p = Program(np.float32, 1)
    values = [p.step("ADD", p.inputs[0], float(i)) for i in range(80)]
    total = values[0]
    for v in values[1:]:
        total = p.step("MUL", total, v)
    many = Program(np.float32, 30)
    with pytest.raises(Unsupported, match="more than the tile machine holds"):
        many.build(many.step("ADD", 0, 1))
    with pytest.raises(Unsupported, match="float32 and float64"):
        Program(np.int32, 1)


def test_bad_outputs_are_refused():
    f = compile_formula(Formula("x + y"), np.float32)
    x = np.ones((4, 100), np.float32)
    frozen = np.empty_like(x)
    frozen.flags.writeable = False
    for out, message in [
        (frozen, "writable"),
        (x, "overlaps"),
        (np.empty((4, 99), np.float32), "shape"),
        (np.empty((4, 100)), "float32"),
        (np.empty((100, 4), np.float32).T, "contiguous"),
    ]:
        with pytest.raises(ValueError, match=message):
            f(x, x, out=[out])
    with pytest.raises(TypeError, match="takes 2 arrays"):
        f(x)
    with pytest.raises(TypeError, match="float32"):
        f(x, x.astype(np.float64))


def test_malformed_programs_are_refused():
    ffi, lib = c.ffi, c.lib
    code = ffi.new("struct mg_step[]", 1)
    program = ffi.new("struct mg_program *")
    data = ffi.new("float[]", 4)
    shape, strides = ffi.new("int64_t[]", [4]), ffi.new("int64_t[]", [1])
    pointers = ffi.new("void *[]", [data])

    def status(**fields):
        program.type, program.inputs, program.outputs, program.values, program.steps, program.code = (
            0,
            1,
            1,
            2,
            1,
            code,
        )
        code[0].op, code[0].dst, code[0].a, code[0].b, code[0].c = lib.MG_OP_COPY, 1, 0, 0, 0
        for name, value in fields.items():
            target = code[0] if name in ("op", "dst", "a", "b", "c") else program
            setattr(target, name, value)
        return lib.mg_run(
            program, 1, shape, pointers, strides, ffi.new("void *[]", [ffi.new("float[]", 4)]), ffi.NULL
        )

    for fields in (
        {"op": lib.MG_OPS},
        {"op": -1},
        {"dst": 0},
        {"dst": 2},
        {"a": 2},
        {"b": -1},
        {"c": 9},
        {"type": 5},
        {"inputs": 99},
        {"outputs": 0},
        {"values": 1000},
        {"steps": 0},
    ):
        assert status(**fields) == lib.MG_EARG, fields


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_formula_of_the_library(isa, monkeypatch, dtype):
    """The kernels that the backend makes from records, on the records' own samples, whatever their size."""
    monkeypatch.setattr(elementwise, "CROSSOVER", dict.fromkeys(elementwise.CROSSOVER, 0))
    numpy, seen = get_backend("numpy"), 0
    for op in OPS.values():
        kernel = elementwise.kernel(op)
        if kernel is None or op.formula is None:
            continue
        seen += 1
        for inputs, attrs in checks.samples(op):
            arrays = checks.as_dtype(inputs, dtype)
            with np.errstate(all="ignore"):
                checks.assert_close(
                    op, kernel(*arrays, *attrs), numpy[op](*arrays, *attrs), arrays, "tile machine", 2.0
                )
    assert seen > 30


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_number_of_threads(threads, dtype):
    rng = np.random.default_rng(8)
    x, b = rng.normal(size=(700, 311)).astype(dtype), rng.normal(size=311).astype(dtype)
    f = compile_formula(Formula("tanh(x) * b + sin(x)"), dtype, ("x", "b"))
    threads(1)
    one = f(x, b)
    threads(2)
    np.testing.assert_array_equal(one, f(x, b))
    np.testing.assert_array_equal(one[1:], f(x[1:], b))  # nor do tiles matter


def test_streamed_outputs():
    x = (
        np.random.default_rng(9).normal(size=(7, 1 << 20)).astype(np.float32)
    )  # beyond the size where stores pass the caches
    p = Program(np.float32, 1)
    doubled = p.step("MUL", p.inputs[0], 2.0)
    a, b = p.build(doubled, p.step("ADD", doubled, p.inputs[0]))(x)
    np.testing.assert_array_equal(a, 2 * x)
    np.testing.assert_allclose(b, 3 * x, rtol=1e-6)
