"""Bad input: one sentence with the operation, what was given, the user's line and the fix.

Each row is (what is done wrong, the error class, words that the message must have).  The harness
checks the rest: that the line is the one in this file, and that the sentence ends with a fix.
"""

from __future__ import annotations

import pickle
import re
import runpy

import numpy as np
import pytest

import minigrad as mg
from minigrad import autograd, func
from minigrad.errors import (
    AnomalyError,
    ArgumentError,
    DTypeError,
    Error,
    GradientError,
    OutOfRangeError,
    Refusal,
    ShapeError,
    TraceError,
    describe,
    line_of,
)


def x(*shape, grad=False, dtype="float32"):
    return mg.ones(*shape, dtype=dtype, requires_grad=grad)


def twice():
    t = x(2, grad=True)
    y = (t * t).sum()
    y.backward()
    y.backward()


def stale():
    t = x(2, grad=True) * 1.0
    y = t * t
    t.add_(1.0)
    y.sum().backward()


def nan():
    with autograd.detect_anomaly():
        mg.tensor([0.0]).log()


def nan_backward():
    with autograd.detect_anomaly():
        mg.zeros(2, requires_grad=True).sqrt().sum().backward()


def branch():
    def f(t):
        return t if t.sum() > 0 else -t  # a decision

    mg.trace(f, mg.Spec((2,), mg.float32))


def leaked():
    kept = []
    mg.trace(lambda t: (kept.append(t), t)[1], mg.Spec((2,), mg.float32))
    return kept[0] * 2.0


BAD = [
    # shapes
    ("add", lambda: x(3) + x(4), ShapeError, ["add", "(3,) and (4,)"]),
    ("mul", lambda: x(2, 3) * x(3, 2), ShapeError, ["mul", "(2, 3)", "(3, 2)"]),
    ("where", lambda: mg.where(x(3) > 0, x(4), 0.0), ShapeError, ["where", "(3,)"]),
    ("matmul", lambda: x(2, 3) @ x(2, 3), ShapeError, ["matmul", "(2, 3)", "transpose"]),
    ("matmul of vectors", lambda: x(2) @ x(3), ShapeError, ["matmul", "(2,)", "(3,)"]),
    ("matmul of a number", lambda: x() @ x(3), ShapeError, ["matmul", "()"]),
    ("batches", lambda: x(2, 3, 4) @ x(3, 4, 5), ShapeError, ["matmul", "(2, 3, 4)", "(3, 4, 5)"]),
    ("mm", lambda: mg.mm(x(2), x(2, 2)), ShapeError, ["mm", "(2,)"]),
    ("bmm", lambda: mg.bmm(x(2, 3, 4), x(3, 4, 5)), ShapeError, ["bmm", "(2, 3, 4)"]),
    ("mv", lambda: mg.mv(x(2, 3), x(2, 3)), ShapeError, ["mv"]),
    ("dot", lambda: mg.dot(x(2, 3), x(2, 3)), ShapeError, ["dot"]),
    ("einsum sizes", lambda: mg.einsum("ij,jk->ik", x(2, 3), x(2, 3)), ShapeError, ["einsum"]),
    ("einsum operands", lambda: mg.einsum("ij,jk->ik", x(2, 3)), ArgumentError, ["einsum", "2 operands"]),
    ("einsum rank", lambda: mg.einsum("ijk->ik", x(2, 3)), ShapeError, ["einsum", "(2, 3)"]),
    ("reshape", lambda: x(2, 3).reshape(4, 2), ShapeError, ["reshape", "(2, 3)", "(4, 2)", "6", "8"]),
    ("reshape with -1", lambda: x(2, 3).reshape(4, -1), ShapeError, ["reshape", "(2, 3)"]),
    ("reshape with two -1", lambda: x(2, 3).reshape(-1, -1), ShapeError, ["reshape", "-1"]),
    ("view", lambda: x(2, 3).T.view(6), ShapeError, ["view", "not contiguous", "reshape"]),
    ("expand", lambda: x(2, 3).expand(4, 3), ShapeError, ["(2, 3)", "(4, 3)"]),
    ("broadcast_to", lambda: mg.broadcast_to(x(2, 3), (3,)), ShapeError, ["broadcast_to", "(2, 3)"]),
    ("cat", lambda: mg.cat([x(2, 3), x(2, 4)]), ShapeError, ["cat", "(2, 3)", "(2, 4)"]),
    ("cat of nothing", lambda: mg.cat([]), ArgumentError, ["cat"]),
    ("stack", lambda: mg.stack([x(2), x(3)]), ShapeError, ["stack", "(2,)", "(3,)"]),
    ("split", lambda: x(5).split([2, 2]), ArgumentError, ["split", "[2, 2]", "5"]),
    ("tril", lambda: mg.tril(x(3)), ShapeError, ["tril", "(3,)"]),
    ("amax of nothing", lambda: x(0).amax(), ShapeError, ["amax", "(0,)"]),
    ("argmax of nothing", lambda: x(2, 0).argmax(1), ShapeError, ["argmax", "(2, 0)"]),
    ("gather", lambda: x(2, 3).gather(1, mg.zeros(3, dtype="int64")), ShapeError, ["gather", "(3,)"]),
    ("assignment", lambda: x(3).__setitem__(slice(0, 2), x(3)), ShapeError, ["index assignment", "(3,)"]),
    # dtypes
    ("dtype name", lambda: mg.zeros(2, dtype="float16"), DTypeError, ["float16", "float32"]),
    ("complex data", lambda: mg.tensor([1j]), DTypeError, ["complex128"]),
    ("words", lambda: mg.tensor(["a"]), DTypeError, ["tensor"]),
    ("None", lambda: mg.tensor(None), DTypeError, ["tensor"]),
    ("an operand", lambda: x(2) + "a", DTypeError, ["add", "str"]),
    (
        "matmul dtypes",
        lambda: x(2, 2) @ x(2, 2, dtype="float64"),
        DTypeError,
        ["matmul", "float32", "float64"],
    ),
    ("mean of integers", lambda: mg.arange(3).mean(), DTypeError, ["mean", "int64", "float()"]),
    ("var of integers", lambda: mg.arange(3).var(), DTypeError, ["var", "int64"]),
    ("negative bools", lambda: -(x(2) > 0), DTypeError, ["neg", "bool"]),
    ("a float condition", lambda: mg.where(x(2), 1.0, 0.0), DTypeError, ["where", "float32", "x > 0"]),
    ("a float mask", lambda: x(2).masked_fill(x(2), 0.0), DTypeError, ["masked_fill", "float32"]),
    ("a float index", lambda: x(3)[x(1)], DTypeError, ["index", "float32"]),
    ("in-place dtype", lambda: mg.arange(3).add_(0.5), DTypeError, ["add_", "float32", "int64"]),
    ("write fractions", lambda: mg.arange(3).__setitem__(0, 0.5), DTypeError, ["index assignment", "int64"]),
    ("dim is a word", lambda: x(3).sum("a"), DTypeError, ["sum", "str"]),
    # values
    ("device", lambda: x(2).to("cuda"), ArgumentError, ["to", "cuda", "CPU"]),
    ("device at birth", lambda: mg.zeros(2, device="cuda:0"), ArgumentError, ["zeros", "cuda:0"]),
    ("backend", lambda: mg.backend("tpu"), ArgumentError, ["backend", "tpu", "numpy"]),
    ("ragged", lambda: mg.tensor([[1], [1, 2]]), ArgumentError, ["tensor", "ragged"]),
    ("too large", lambda: mg.tensor(300, dtype="uint8"), ArgumentError, ["300", "uint8"]),
    ("too large an operand", lambda: mg.ones(2, dtype="int8") + 1000, ArgumentError, ["add", "1000", "int8"]),
    ("too large to fill", lambda: mg.full((2,), 300, dtype="int8"), ArgumentError, ["300", "int8"]),
    ("integer division by zero", lambda: mg.arange(3) // 0, ArgumentError, ["floor_divide", "zero"]),
    ("remainder by zero", lambda: mg.arange(3) % mg.tensor([1, 0, 1]), ArgumentError, ["remainder", "zero"]),
    ("integer to a negative power", lambda: mg.arange(3) ** -1, ArgumentError, ["pow", "int64"]),
    ("rounding mode", lambda: mg.div(x(2), 2, rounding_mode="up"), ArgumentError, ["div", "'up'"]),
    ("clamp of nothing", lambda: x(2).clamp(), ArgumentError, ["clamp"]),
    ("dim and axis", lambda: x(2).sum(dim=0, axis=0), ArgumentError, ["sum", "axis"]),
    ("a dim twice", lambda: x(2, 2).sum((0, 0)), ArgumentError, ["sum", "(0, 0)"]),
    ("permute", lambda: x(2, 3).permute(0, 0), ArgumentError, ["permute", "(0, 0)"]),
    ("topk", lambda: x(3).topk(4), ArgumentError, ["topk", "4", "3"]),
    ("negative size", lambda: mg.zeros(-1), ArgumentError, ["zeros", "-1"]),
    ("arange", lambda: mg.arange(0, 5, -1), ArgumentError, ["arange", "-1"]),
    ("randint", lambda: mg.randint(5, 5, (2,)), ArgumentError, ["randint"]),
    ("seed", lambda: mg.manual_seed("a"), ArgumentError, ["manual_seed", "'a'"]),
    ("item", lambda: x(3).item(), ArgumentError, ["item", "(3,)"]),
    ("truth", lambda: bool(x(3)), ArgumentError, ["bool", "(3,)", ".any()"]),
    ("threads", lambda: mg.set_num_threads(0), ArgumentError, ["0"]),
    # ranges
    ("index", lambda: x(3)[3], OutOfRangeError, ["index", "3"]),
    ("index array", lambda: x(3)[[0, 3]], OutOfRangeError, ["index", "3"]),
    ("too many indices", lambda: x(3)[0, 0], OutOfRangeError, ["index"]),
    ("a mask", lambda: x(3)[x(4) > 0], OutOfRangeError, ["mask", "(4,)", "(3,)"]),
    ("write beyond", lambda: x(3).__setitem__([5], 1.0), OutOfRangeError, ["index assignment", "5"]),
    ("dim", lambda: x(2, 3).sum(2), OutOfRangeError, ["sum", "dim 2", "2 dimensions"]),
    ("squeeze", lambda: x(2, 3).squeeze(5), OutOfRangeError, ["squeeze", "dim 5"]),
    ("cat dim", lambda: mg.cat([x(2), x(2)], 1), OutOfRangeError, ["cat", "dim 1"]),
    ("size", lambda: x(2).size(4), OutOfRangeError, ["size", "4"]),
    ("gather beyond", lambda: x(3).gather(0, mg.tensor([3])), OutOfRangeError, ["gather", "3"]),
    ("select beyond", lambda: x(3).index_select(0, mg.tensor([7])), OutOfRangeError, ["index_select", "7"]),
    ("class", lambda: mg.one_hot(mg.tensor([5]), 3), OutOfRangeError, ["one_hot", "5"]),
    # gradients
    ("gradients of integers", lambda: mg.arange(3).requires_grad_(), DTypeError, ["requires_grad_", "int64"]),
    ("integer leaf", lambda: mg.tensor([1], requires_grad=True), DTypeError, ["int64", "float"]),
    ("no history", lambda: x(()).backward(), GradientError, ["backward", "requires_grad=True"]),
    ("no history here", lambda: _without_grad(), GradientError, ["backward", "no_grad"]),
    ("twice", twice, GradientError, ["second time", "retain_graph=True", "y = (t * t).sum()"]),
    ("non-scalar", lambda: (x(2, grad=True) * 2.0).backward(), GradientError, ["(2,)", ".sum()"]),
    ("cotangent", lambda: (x(2, grad=True) * 2.0).backward(x(3)), ShapeError, ["(3,)", "(2,)"]),
    ("stale", stale, GradientError, ["mul", "t.add_(1.0)", "y = t * t", ".clone()"]),
    ("leaf in place", lambda: x(2, grad=True).add_(1.0), GradientError, ["add_", "leaf", "no_grad()"]),
    ("numpy", lambda: x(2, grad=True).numpy(), GradientError, ["numpy", ".detach().numpy()"]),
    ("not a tensor", lambda: autograd.grad(1.0, x(2, grad=True)), DTypeError, ["grad", "float"]),
    (
        "unused",
        lambda: autograd.grad(x(2, grad=True).sum(), x(3, grad=True)),
        GradientError,
        ["(3,)", "allow_unused"],
    ),
    ("expanded in place", lambda: x(1).expand(3).zero_(), ArgumentError, ["(3,)", ".clone()"]),
    ("func of numbers", lambda: func.grad(lambda t: t)(2.0), DTypeError, ["float"]),
    ("func without scalar", lambda: func.grad(lambda t: t)(x(3)), GradientError, ["(3,)", ".sum()"]),
    # NaN
    ("nan", nan, AnomalyError, ["log", "Inf", "float32[1]"]),
    ("nan in backward", nan_backward, AnomalyError, ["gradient of sqrt", "zero under sqrt"]),
    # traces
    ("branch", branch, TraceError, ["bool", "return t if t.sum() > 0", "minigrad.where"]),
    ("leaked", leaked, TraceError, ["mul", "finished trace"]),
    (
        "value in a trace",
        lambda: mg.trace(lambda t: mg.tensor(t.item()), mg.Spec((), mg.float32)),
        TraceError,
        ["item"],
    ),
    (
        "a probability",
        lambda: mg.bernoulli(mg.tensor([0.5, 1.5])),
        ArgumentError,
        ["outside [0, 1]", "sigmoid"],
    ),
    ("what a trace returns", lambda: mg.trace(lambda t: 1.0, mg.Spec((), mg.float32)), TraceError, ["float"]),
]


def _without_grad():
    with mg.no_grad():
        (x(2, grad=True) * 2.0).sum().backward()


@pytest.mark.parametrize(("wrong", "kind", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input(wrong, kind, words):
    with pytest.raises(Error) as caught:
        wrong()
    error = caught.value
    message = str(error)
    assert type(error) is kind, message
    for word in words:
        assert word in message, f"{word!r} is missing: {message}"
    assert "\n" not in message, "one sentence"
    assert re.search(r"\(at test_errors\.py:\d+ `", message), f"the user's line is missing: {message}"
    assert error.fix, f"no fix: {message}"
    assert message.endswith(error.fix)
    name, number = line_of(error.where)
    assert name == __file__
    assert number > 0


def test_errors_are_the_built_in_ones_too():
    for kind, builtin in [
        (ShapeError, ValueError),
        (DTypeError, TypeError),
        (ArgumentError, ValueError),
        (OutOfRangeError, IndexError),
        (GradientError, RuntimeError),
        (TraceError, RuntimeError),
        (AnomalyError, ArithmeticError),
    ]:
        assert issubclass(kind, builtin)
        assert issubclass(kind, mg.Error)
    assert issubclass(Refusal, ValueError)


def test_errors_survive_pickling():
    with pytest.raises(Error) as caught:
        x(3) + x(4)
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert type(again) is type(error)
    assert (again.op, again.fix) == (error.op, error.fix)


def test_errors_do_not_chain_the_engine_into_the_traceback():
    with pytest.raises(ShapeError) as caught:
        x(3) + x(4)
    assert caught.value.__suppress_context__


def test_errors_do_not_keep_the_program_alive():
    """A place is a code object and an offset, not a frame, which would keep all locals alive."""
    import gc
    import weakref

    def wrong():
        big = mg.zeros(10)
        alive.append(weakref.ref(big))
        return big + mg.zeros(3)

    alive = []
    try:
        wrong()
    except Error as error:
        where = error.where
    gc.collect()
    assert alive[0]() is None
    assert "return big + mg.zeros(3)" in describe(where)


def test_numpy_warnings_of_kernels_are_not_the_users():
    import subprocess
    import sys

    code = "import minigrad as mg; mg.tensor([0.0, -1.0]).log(); mg.tensor(1e38) * 1e38; mg.zeros(2) / 0.0"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert np.isnan(mg.tensor(-1.0).log().item())


def test_a_long_line_is_cut(tmp_path):
    script = tmp_path / "long.py"
    script.write_text(f"import minigrad as mg\nmg.ones(2).reshape(3)  # {'on and ' * 30}on\n")
    with pytest.raises(ShapeError) as caught:
        runpy.run_path(str(script))
    assert "`mg.ones(2).reshape(3)  # on and" in str(caught.value)
    assert "...`" in str(caught.value)
    assert len(str(caught.value)) < 330
