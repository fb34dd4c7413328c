"""The data: specs, promotion, broadcasting, graphs and their checker, formulas, modes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import ShapeError
from minigrad.execute import interpret
from minigrad.formula import VOCABULARY, Formula
from minigrad.ir import (
    Graph,
    GraphError,
    Node,
    Spec,
    broadcast_shapes,
    check,
    float32,
    int64,
    promote,
    text,
)
from minigrad.ops import OPS
from minigrad.philox import philox
from minigrad.record import register
from minigrad.trace import trace

SPEC = Spec((2, 3), float32)


def graph():
    w = mg.tensor([[1.0], [2.0], [3.0]])
    return trace(lambda x: ((x * 2.0) @ w).sum(), SPEC)


def test_text_shows_everything():
    lines = text(graph()).splitlines()
    assert lines[0] == "%0: float32[2,3] = input"
    assert lines[1] == "%1: float32[] = constant 2.0"
    assert lines[2] == "%2: float32[3,1] = constant"
    assert lines[3].startswith("%3: float32[2,3] = mul(%0, %1)    # test_ir.py:")
    assert "sum(%4, dims=(0, 1), keepdim=False)" in lines[5]
    assert lines[-1] == "return %5"
    assert str(graph()) == text(graph())


def test_graphs_are_immutable():
    g = graph()
    with pytest.raises(FrozenInstanceError):
        g.outputs = ()
    with pytest.raises(FrozenInstanceError):
        g.nodes[0].attrs = ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda g: replace(g, outputs=(99,)), "output %99"),
        (lambda g: replace(g, outputs=(-1,)), "output %-1"),
        (lambda g: _node(g, 0, inputs=(0, 4)), "%4, which is not computed before it"),
        (lambda g: _node(g, 0, inputs=(0,)), "1 inputs"),
        (lambda g: _node(g, 0, spec=Spec((3, 2), float32)), "its shape rule says float32"),
        (lambda g: _node(g, 0, spec=Spec((2, 3), int64)), "says int64"),
        (lambda g: _node(g, 1, inputs=(2, 3)), "refuses the operands"),
        (lambda g: replace(g, nodes=g.nodes[::-1]), "not computed before"),
    ],
)
def test_checker_refuses_what_makes_no_sense(change, complaint):
    assert check(graph()) is not None
    with pytest.raises(GraphError, match=complaint):
        check(change(graph()))


def _node(g: Graph, position: int, **changes: object) -> Graph:
    nodes = list(g.nodes)
    nodes[position] = replace(nodes[position], **changes)
    return replace(g, nodes=tuple(nodes))


def test_empty_graphs_are_fine():
    g = check(Graph((SPEC,), (), (), (0,)))
    x = np.ones((2, 3), np.float32)
    (y,) = interpret(g)(x)
    assert np.array_equal(y, x)
    assert not np.shares_memory(y, x)  # what comes out belongs to the caller
    assert g.first_node == 1


def test_interpreter_refuses_other_specs():
    run = interpret(graph())
    for wrong in (np.ones((2, 4), np.float32), np.ones((2, 3))):
        with pytest.raises(ShapeError, match="for a graph of float32"):
            run(wrong)


def test_node_defaults():
    node = Node(OPS["neg"], (0,), (), SPEC)
    assert node.where == ""
    assert node == Node(OPS["neg"], (0,), (), SPEC)


# -- shapes and dtypes ---------------------------------------------------------------------------------

SHAPES = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@given(st.lists(SHAPES, min_size=1, max_size=3))
def test_broadcasting_is_numpys(shapes):
    try:
        wanted = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ValueError, match="neither is 1"):
            broadcast_shapes(*shapes)
    else:
        assert broadcast_shapes(*shapes) == wanted


def test_promotion_of_specs():
    assert promote((float32, 0), (int64, 3)) == float32
    assert promote((int64, 0), (float32, 1)) == float32
    assert promote((int64, 0), (mg.int8, 1)) == mg.int8
    assert promote((mg.float64, 0), (float32, 0)) == mg.float64
    assert str(Spec((), mg.bool_)) == "bool[]"


# -- formulas -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        "x ** 2",
        "x.y",
        "x[0]",
        "foo(x)",
        "exp(x, y)",
        "x if y else z",
        "x and y",
        "not x",
        "x < y < z",
        "lambda: x",
        "x // y",
        "x % y",
        "True",
        "'a'",
        "exp(x, out=y)",
        "__import__('os')",
        "x +",
        "",
    ],
)
def test_formulas_outside_of_the_vocabulary(bad):
    with pytest.raises(ValueError, match="formula"):
        Formula(bad)


def test_formulas_compute():
    x = np.linspace(-2.0, 2.0, 9)
    assert Formula("exp(x)").numpy() is np.exp, "one ufunc is that ufunc itself"
    assert Formula("x + y").numpy(("x", "y")) is np.add
    assert Formula("y - x").numpy(("x", "y"))(1.0, 3.0) == 2.0, "arguments in the order asked for"
    assert Formula("1.0 / x").numpy()(4.0) == 0.25, "numbers are not lost"
    assert Formula("maximum(x, 0)").numpy()(x).tolist() == np.maximum(x, 0).tolist()
    assert Formula("x * x").numpy()(3.0) == 9.0
    assert Formula("-x").numpy() is np.negative
    elu = Formula("where(x > 0, x, exp(x) - 1.0)").numpy()
    np.testing.assert_allclose(elu(x), np.where(x > 0, x, np.expm1(x)))
    with pytest.raises(ValueError, match="'y' is not a parameter"):
        Formula("x + y").numpy(("x",))


def test_vocabulary_is_what_it_says():
    import math

    for name, (arity, function) in VOCABULARY.items():
        arguments = [np.float64(v) for v in (0.7, 1.3, 2.0)[:arity]]
        got = float(function(*(np.asarray(a) for a in arguments)))
        if hasattr(math, name) and name not in ("sign",):
            assert got == pytest.approx(float(getattr(math, name)(*arguments)), rel=1e-15), name


def test_erf_is_accurate():
    import math

    special = [0.0, 1e-300, -1e-12, 2.5, np.nextafter(2.5, 0), 26.0, 1e300]
    x = np.concatenate([np.linspace(-7, 7, 2001), special])
    wanted = np.array([math.erf(v) for v in x])
    got = VOCABULARY["erf"][1](x)
    np.testing.assert_array_less(np.abs(got - wanted), 4 * np.finfo(float).eps * np.abs(wanted) + 1e-320)
    specials = VOCABULARY["erf"][1](np.array([np.nan, np.inf, -np.inf]))
    assert np.isnan(specials[0])
    assert specials[1:].tolist() == [1.0, -1.0]


# -- records --------------------------------------------------------------------------------------------


def test_names_are_unique():
    with pytest.raises(ValueError, match="already registered"):
        register(OPS["add"])
    assert repr(OPS["add"]) == "<op add>"


# -- random words ------------------------------------------------------------------------------------------


def test_philox_streams_are_windows_of_one_sequence():
    whole = philox(5, 0, 64)
    assert philox(5, 4, 12).tolist() == whole[16:28].tolist()
    assert philox(5, 0, 3).tolist() == whole[:3].tolist()
    assert philox(6, 0, 64).tolist() != whole.tolist()
    assert philox(5, 2**64 - 1, 8).dtype == np.uint32
    assert philox(5, 0, 0).size == 0
