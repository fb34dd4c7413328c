"""The Numba backend: every kernel against numpy, the same bits for any number of threads, users' kernels.

The laws run over this backend like over any other, but their arrays are small, and small arrays go
to numpy.  Here the limits are taken away, so that the laws meet the compiled kernels.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from laws import checks

import minigrad as mg
from minigrad.backends import get_backend
from minigrad.errors import MissingExtraError
from minigrad.formula import VOCABULARY, Formula
from minigrad.ops import OPS

# What is compiled here is compiled once for all runs, next to the package or in NUMBA_CACHE_DIR.
numba = pytest.importorskip("numba")
BACKEND = get_backend("numba")
kernels = importlib.import_module("minigrad.backends.numba")

#: Formulas that differ in what they call; each costs most of a second to compile, for each dtype.
FORMULAS = ("add", "relu", "gelu", "where", "sign", "isfinite", "pow_number", "softplus")
OTHERS = tuple(name for name, op in OPS.items() if BACKEND.make(op) is not None and op.formula is None)


@pytest.fixture(autouse=True)
def everything(monkeypatch):
    """No array is too small to compile for, or to split."""
    for what in kernels.SMALL:
        monkeypatch.setitem(kernels.SMALL, what, 0)
    monkeypatch.setattr(kernels, "SERIAL", 0)
    before = kernels.num_threads()
    kernels.set_num_threads(2)
    yield
    kernels.set_num_threads(before)


@pytest.mark.parametrize("name", [*FORMULAS, *OTHERS])
def test_laws(name):
    op = OPS[name]
    for law, about in checks.EVERY_BACKEND:
        if about(op):
            law(op, BACKEND)


# -- elementwise -----------------------------------------------------------------------------------


def test_vocabulary():
    """Each word of the vocabulary, in float32, means what it means in numpy, NaN and Inf included."""
    x = checks.SPECIAL.astype(np.float32)
    a, b = (np.tile(g.ravel(), len(VOCABULARY)) for g in np.meshgrid(x, x))
    which = np.repeat(np.arange(len(VOCABULARY), dtype=np.float32), x.size**2)
    texts, wanted = [], []
    for i, (name, (count, _)) in enumerate(VOCABULARY.items()):
        text = f"{name}({', '.join('ab'[:count])})" if name != "where" else "where(a > 0.5, b, a)"
        formula = Formula(text)
        texts.append(f"where({text}, 1.0, 0.0)" if "is" in name or "logical" in name else text)
        here = which == i
        wanted.append(
            np.broadcast_to(
                formula.numpy(("a", "b")[: len(formula.names)])(
                    *(v[here] for v in (a, b)[: len(formula.names)])
                ),
                x.size**2,
            )
        )
    # All of them in one formula, which costs one compilation: word i where `which` is i.
    everything = "0.0"
    for i, text in enumerate(texts):
        everything = f"where(which == {i}, {text}, {everything})"
    got = kernels.Elementwise(Formula(everything), ("which", "a", "b"))(which, a, b)
    assert got.dtype == np.float32
    for name, given, right in zip(VOCABULARY, np.split(got, len(VOCABULARY)), wanted, strict=True):
        np.testing.assert_allclose(given, right, rtol=1e-6, atol=1e-37, err_msg=name)


def test_constants_do_not_promote():
    f = kernels.Elementwise(Formula("0.1 * x + 3 * maximum(x, 0)"))
    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    assert f(x).dtype == np.float32
    np.testing.assert_array_equal(f(x), f.fallback(x))


@pytest.mark.parametrize(
    "shapes",
    [
        ((700, 33), (33,)),
        ((700, 33), (700, 1)),
        ((4, 5, 6, 70), (5, 1, 1)),
        ((3, 1, 4, 1, 5, 1, 6), (3, 2, 1, 2, 1, 2, 1)),  # more dimensions than the loop has
        ((900,), ()),
        ((50, 3), (3,)),  # rows that are too short
    ],
)
def test_broadcasting(shapes, rng):
    op = OPS["sub"]
    x, w = (rng.normal(size=s) for s in shapes)
    for a, b in ((x, w), (w, x), (np.asfortranarray(x), w), (x[..., ::-1], w)):
        np.testing.assert_array_equal(BACKEND[op](a, b), op.kernel(a, b))


def test_other_dtypes_are_numpys(rng):
    x = rng.integers(0, 9, 1000)
    np.testing.assert_array_equal(BACKEND[OPS["add"]](x, x), x + x)


# -- contractions, whose own samples are too small for the compiled loops -------------------------------


def close(name, arrays, attrs=(), limit=64.0):
    """Against numpy in float64, and the same bits on three threads."""
    op = OPS[name]
    for dtype in (np.float32, np.float64):
        given = tuple(x.astype(dtype) for x in arrays)
        for placed in (given, tuple(map(np.asfortranarray, given))):
            got = BACKEND[op](*placed, *attrs)
            wanted = op.kernel(*(x.astype(np.float64) for x in placed), *attrs)
            assert (got.shape, got.dtype) == (wanted.shape, dtype)
            error = np.abs(got - wanted).max() / np.abs(wanted).max() / np.finfo(dtype).eps
            assert error < limit, f"{name} {[x.shape for x in arrays]} {attrs}: {error:.3g} ulp"
            kernels.set_num_threads(1)
            one = BACKEND[op](*placed, *attrs)
            kernels.set_num_threads(3)
            np.testing.assert_array_equal(got, one)
            np.testing.assert_array_equal(got, BACKEND[op](*placed, *attrs))
            kernels.set_num_threads(2)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((4, 1), (1, 8)),
        ((5, kernels.KC + 1), (kernels.KC + 1, kernels.NC + 1)),
        ((kernels.MC + 3, 7), (7, 9)),
        ((2, 3, 20, 30), (3, 30, 40)),
        ((7, 1, 9, 60), (2, 60, 12)),
    ],
)
def test_matmul(left, right, rng):
    x, w = rng.normal(size=left), rng.normal(size=right)
    close("matmul", (x, w), (False, False))
    close("matmul", (x.swapaxes(-1, -2), w.swapaxes(-1, -2)), (True, True))


def test_matmul_of_views(rng):
    x, w = rng.normal(size=(40, 60)), rng.normal(size=(50, 60))
    for a, b in ((x[::-1, ::2], w.T[::2, ::-1]), (x, w.T), (x.T[::3], x)):
        if a.shape[-1] == b.shape[0]:
            np.testing.assert_allclose(kernels.matmul(a, b), a @ b, rtol=1e-12, atol=1e-12)
    frozen = x.copy()
    frozen.flags.writeable = False
    np.testing.assert_allclose(kernels.matmul(frozen, w.T), x @ w.T, rtol=1e-12, atol=1e-12)


def test_matmul_propagates_nan_and_inf(rng):
    x, w = rng.normal(size=(9, 7)), rng.normal(size=(7, 10))
    x[2, 3], x[4, 1] = np.nan, np.inf
    np.testing.assert_allclose(kernels.matmul(x, w), x @ w)


#: Shapes of x and w, stride, padding, dilation, groups.
CONVOLUTIONS = [
    ((2, 3, 12, 13), (16, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 8, 15, 14), (16, 4, 3, 2), (2, 1), (1, 0, 2, 1), (1, 2), 2),
    ((3, 16, 20, 21), (8, 16, 5, 5), (3, 2), (2, 2, 2, 2), (1, 1), 1),
    ((2, 12, 9, 9), (12, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 12),
    ((1, 600, 6, 6), (9, 600, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((2, 4, 8, 8), (600, 4, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    ((2, 4, 8, 8), (9, 4, 2, 2), (1, 1), (3, 3, 3, 3), (1, 1), 1),  # more padding than kernel
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution(case, rng):
    x, w, *attrs = case
    images, weights = rng.normal(size=x), rng.normal(size=w)
    g = rng.normal(size=OPS["conv2d"].kernel(images, weights, *attrs).shape)
    close("conv2d", (images, weights), tuple(attrs))
    close("conv2d_input_grad", (g, weights), (x[2:], *attrs))
    close("conv2d_weight_grad", (images, g), (w[2:], *attrs))


# -- reductions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin"])
def test_reductions(name, rng):
    x = rng.normal(size=(3, 40, 5, 70))
    for dims in ((3,), (0,), (1, 2), (0, 2, 3), (1, 3), (0, 1, 2, 3), (0, 3)):
        close(name, (x,), (dims, False), 32.0)
    close(name, (rng.normal(size=300_001),), ((0,), False), 32.0)  # in parts


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("softmax", (0,)),
        ("log_softmax", (1,)),
        ("logsumexp", ((0, 1), False)),
        ("standardize", ((1,), 1e-5)),
        ("rstd", ((1,), 1e-5)),
    ],
)
def test_rows(name, attrs, rng):
    op, x = OPS[name], rng.normal(size=(70, 333))
    for dtype in (np.float32, np.float64):
        got, wanted = BACKEND[op](x.astype(dtype), *attrs), op.kernel(x.astype(dtype), *attrs)
        checks.assert_close(op, got, wanted, (x,), "against numpy", 2.0)


@pytest.mark.parametrize("name", ["amax", "amin", "sum", "mean"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_in_reductions(name, bad, rng):
    op, x = OPS[name], rng.normal(size=(200, 90)).astype(np.float32)
    x[3, 70] = x[50, 2] = x[50, 80] = bad
    for dim in (0, 1):
        attrs = (dim, False) if name.startswith("arg") else ((dim,), False)
        np.testing.assert_allclose(BACKEND[op](x, *attrs), op.kernel(x, *attrs), rtol=1e-4, atol=1e-4)


def test_cancellation_in_a_sum():
    x = np.array([1e16, 1.0, -1e16] * 30_000)
    assert BACKEND[OPS["sum"]](np.sort(x)[::-1].copy(), (0,), False) == pytest.approx(30_000, abs=1e4)
    ones = np.full(1_000_000, 0.1, np.float32)
    assert BACKEND[OPS["sum"]](ones, (0,), False) == np.float32(np.sum(ones.astype(np.float64)))


# -- programs, threads, processes ------------------------------------------------------------------------


def test_a_training_step_agrees_with_numpy(rng):
    x, y = rng.normal(size=(64, 20)), rng.normal(size=(64, 3))

    def step(backend):
        with mg.backend(backend):
            w = mg.tensor(np.linspace(-1, 1, 60).reshape(20, 3), requires_grad=True)
            loss = ((mg.tensor(x) @ w).relu() - mg.tensor(y)).square().mean()
            loss.backward()
            return loss.item(), w.grad.numpy()

    (a, ga), (b, gb) = step("numba"), step("numpy")
    assert a == pytest.approx(b, rel=1e-12)
    np.testing.assert_allclose(ga, gb, rtol=1e-10)


def test_several_threads_at_once(rng):
    x = rng.normal(size=(300, 200)).astype(np.float32)
    wanted, wrong = kernels.matmul(x, x.T), []

    def work():
        for _ in range(20):
            if not np.array_equal(kernels.matmul(x, x.T), wanted):
                wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_work_in_a_forked_child(rng):
    x = rng.normal(size=(300, 200)).astype(np.float32)
    wanted = kernels.matmul(x, x.T)  # starts the pool
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(kernels.matmul(x, x.T), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_error_in_a_piece_reaches_the_caller():
    def run(start, stop):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kernels.split(run, 100, 1e9)


def test_small_arrays_are_not_worth_compiling(monkeypatch):
    monkeypatch.setitem(kernels.SMALL, "elementwise", 8192)
    f = kernels.Elementwise(Formula("x * 3.25"))
    assert f(np.ones(10)).tolist() == [3.25] * 10
    assert not f.loops


# -- choosing the backend ----------------------------------------------------------------------------------


def run(*lines, **environment):
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def test_numba_is_imported_when_it_is_chosen_and_not_before():
    said = run(
        "import sys, minigrad as mg",
        "print('numba' in mg.backends(), 'numba' in sys.modules)",
        "mg.backend('numba')",
        "print('numba' in sys.modules)",
    )
    assert said.split() == ["True", "False", "True"]


def test_chosen_by_the_environment():
    said = run("import minigrad as mg; mg.show_config()", MINIGRAD_BACKEND="numba")
    assert "numba (MINIGRAD_BACKEND)" in said


def test_numba_missing():
    said = run(
        "import sys, importlib.util",
        "sys.modules['numba'] = None",  # as if it were not installed
        "import minigrad as mg",
        "try: mg.backend('numba')",
        "except ImportError as error: print(type(error).__name__, error)",
        "print(mg.backends())",
        "try: mg.backend('nunba')",
        "except ValueError as error: print(error)",
    )
    assert "MissingExtraError" in said
    assert "pip install minigrad[numba]" in said
    assert "'numba'" not in said.splitlines()[1]
    assert "use one of numpy" in said.splitlines()[2]
    assert issubclass(MissingExtraError, ImportError)


# -- users' kernels ----------------------------------------------------------------------------------------


def test_register_a_compiled_kernel():
    @numba.njit
    def relu(x):
        y = np.empty_like(x)
        for i in range(x.size):
            y.flat[i] = 7.0 if x.flat[i] > 0 else 0.0
        return y

    x = mg.tensor([-1.0, 2.0], requires_grad=True)
    with mg.backend("numba"):
        handle = mg.register_kernel("relu", relu)
        assert repr(handle) == "<kernel 'relu' for relu on numba>"
        y = mg.relu(x)
        assert y.tolist() == [0.0, 7.0]
        assert mg.trace(mg.relu, mg.Spec((2,), mg.float32)) is not None
        handle.unregister()
        handle.unregister()
        assert mg.relu(x).tolist() == [0.0, 2.0]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0]


def test_registered_for_one_backend_only():
    with mg.register_kernel("exp", lambda x: x * 0, backend="numba"):
        with mg.backend("numpy"):
            assert mg.exp(mg.zeros(2)).tolist() == [1.0, 1.0]
        with mg.backend("numba"):
            assert mg.exp(mg.zeros(2)).tolist() == [0.0, 0.0]


def test_registrations_undone_in_any_order():
    def constant(value):
        return lambda x: np.full_like(x, value)

    with mg.backend("numpy"):
        first, second = (mg.register_kernel("exp", constant(v)) for v in (5.0, 6.0))
        assert mg.exp(mg.zeros(1)).item() == 6.0
        first.unregister()
        assert mg.exp(mg.zeros(1)).item() == 6.0
        second.unregister()
        assert mg.exp(mg.zeros(1)).item() == 1.0


def test_attributes_come_after_arrays():
    def leaky(x, slope):
        return np.where(x > 0, x, x * x.dtype.type(slope + 1))

    with mg.register_kernel("leaky_relu", leaky, backend="numpy"), mg.backend("numpy"):
        assert mg.nn.functional.leaky_relu(mg.tensor([-1.0]), 0.5).item() == -1.5


@pytest.mark.parametrize(
    ("kernel", "error", "words"),
    [
        (
            lambda x: x.astype(np.float64),
            TypeError,
            r"returned float64\[3\] for float32\[3\].*must return float32",
        ),
        (lambda x: x[:2] * 1, ValueError, r"returned float32\[2\]"),
        (lambda x: x, ValueError, "memory of its input"),
        (lambda x: [1.0, 2.0, 3.0], TypeError, "returned a list"),
        (lambda x: x.nothing, ValueError, "failed on float32.*AttributeError.*nothing"),
        (lambda x, y: x, ValueError, "failed on float32.*TypeError"),
    ],
)
def test_wrong_kernels_are_named(kernel, error, words):
    with mg.register_kernel("exp", kernel, backend="numpy"), mg.backend("numpy"):
        for _ in range(2):
            with pytest.raises(error, match=rf"(?s)^exp: the kernel '<lambda>' .*{words}"):
                mg.exp(mg.ones(3))


def test_a_kernel_that_goes_wrong_later_is_caught():
    answers = [np.ones(3, np.float32), np.ones(4, np.float32)]
    with mg.register_kernel("exp", lambda x: answers.pop(0), backend="numpy"), mg.backend("numpy"):
        mg.exp(mg.ones(3))
        with pytest.raises(mg.Error, match=r"returned float32\[4\]"):
            mg.exp(mg.ones(3))


def test_a_numba_typing_error_is_one_sentence():
    @numba.njit
    def wrong(x):
        return x.nothing_of_the_kind

    with mg.register_kernel("exp", wrong, backend="numpy"), mg.backend("numpy"):
        with pytest.raises(mg.Error, match="kernel 'wrong' registered for it failed on float32") as caught:
            mg.exp(mg.ones(3))
        assert len(str(caught.value).splitlines()) == 1


def test_unknown_names():
    with pytest.raises(mg.Error, match="did you mean 'sigmoid'"):
        mg.register_kernel("sigmiod", np.tanh)
    with pytest.raises(mg.Error, match="use one of numpy"):
        mg.register_kernel("exp", np.exp, backend="numbat")
    with pytest.raises(mg.Error, match="the kernel is a int"):
        mg.register_kernel("exp", 3)
