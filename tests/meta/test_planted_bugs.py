"""The tests are tested: break a record on purpose, and the law that is responsible must object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from laws import checks

import minigrad as mg
from minigrad.autograd import GradcheckError
from minigrad.backends import Backend
from minigrad.ir import Spec, float32, int64
from minigrad.ops import OPS
from minigrad.tape import hooks


def broken(name, **changes):
    """A record with one thing wrong; the table itself stays as it is."""
    return replace(OPS[name], **changes)


def with_rule(name, position, rule):
    rules = list(OPS[name].rules)
    rules[position] = rule
    return broken(name, rules=tuple(rules))


def objects(law, op, *args):
    """The message with which a law objects; fails if it is content."""
    with pytest.raises((AssertionError, mg.Error)) as caught:
        law(op, *args)
    return str(caught.value)


def test_the_laws_accept_the_records_as_they_are():
    for name in ("mul", "exp", "sum", "matmul", "cat", "gather", "basic_index", "where"):
        for law, about in checks.EVERY:
            if about(OPS[name]):
                law(replace(OPS[name]))


# -- wrong derivatives, and what the diagnosis says -------------------------------------------------

WRONG_RULES = {
    "factor": ("exp", 0, lambda g, y: g * y * 2.0, "wrong by a factor 2"),
    "half": ("square", 0, lambda g, input: g * input, "wrong by a factor 0.5"),
    "sign": ("cos", 0, lambda g, input: g * mg.sin(input), "the sign is wrong"),
    "sign of one side": ("sub", 1, lambda g: g * 1.0, "the sign is wrong"),
    "zero": ("tanh", 0, lambda g, y: g * 0.0, "the rule gives zero"),
    "missing": ("log", 0, None, "missing"),
    "missing on one side": ("true_divide", 1, None, "missing"),
    "inputs swapped": ("mul", 0, lambda g, input: g * input, "guess"),
    "mean without 1/n": (
        "mean",
        0,
        lambda g, x_shape, dims: OPS_call("broadcast_to", g.reshape(keep(x_shape, dims)), x_shape),
        "summed over it once too often",
    ),
    "sum of the cotangent": (
        "sum",
        0,
        lambda g, x_shape, dims: OPS_call("broadcast_to", g.sum().reshape((1,) * len(x_shape)), x_shape),
        "every element gets the same gradient",
    ),
    "transpose forgotten": ("permute", 0, lambda g, x_shape: g.reshape(x_shape), "a transpose or a reshape"),
    "flip forgotten": ("cumsum", 0, lambda g, dim: g.cumsum(dim), "guess"),
    "indices ignored": ("gather", 0, lambda g, x_shape: g.new_zeros(x_shape), "the rule gives zero"),
    "term missing": ("sigmoid", 0, lambda g, y: g * y, "a term of the rule is missing"),
    "NaN": ("sqrt", 0, lambda g, y: g / (y - y), "NaN or Inf"),
    "other not transposed": (
        "matmul",
        0,
        lambda g, other: g @ other.reshape((*other.shape[:-2], other.shape[-1], other.shape[-2])),
        "guess",
    ),
}


def keep(shape, dims):
    return tuple(1 if i in dims else s for i, s in enumerate(shape))


def OPS_call(name, *args):
    from minigrad.bind import apply

    op = OPS[name]
    return apply(op, args[: len(op.inputs)], args[len(op.inputs) :])


@pytest.mark.parametrize("bug", WRONG_RULES)
def test_wrong_rule(bug):
    name, position, rule, diagnosis = WRONG_RULES[bug]
    op = with_rule(name, position, rule)
    if rule is None:
        assert "has no rule" in objects(checks.every_dependence_has_a_rule, op)
        tensors = [mg.tensor(x, dtype=mg.float64, requires_grad=True) for x in checks.samples(op)[0][0]]
        with pytest.raises(GradcheckError) as caught:
            mg.autograd.gradcheck(checks.function(op, ()), tensors)
        message = str(caught.value)
    else:
        message = objects(checks.gradient_is_right, op)
    assert name in message, "the diagnosis names the operation"
    assert "input" in message, "and the input"
    assert diagnosis in message


def test_wrong_only_when_another_input_is_constant():
    """A rule that reads what is kept only for the other input: one-by-one checking finds it."""
    op = with_rule("mul", 1, lambda g, y, other: g * y / other)  # right, but
    checks.gradient_is_right(op)
    assert "keep" in objects(checks.keeps_only_what_it_needs, _keeping_too_much("add"))


def _keeping_too_much(name):
    op = replace(OPS[name])
    object.__setattr__(op, "kept", ((True, True), (True, True)))
    return op


def test_not_summed_over_a_broadcast_axis(monkeypatch):
    """The walker undoes broadcasting; when it does not, the gradient has the wrong shape."""
    monkeypatch.setattr(hooks, "sum_to", lambda g, shape: g)
    assert "broadcast" in objects(checks.gradient_is_right, OPS["add"])


def test_broadcast_axis_summed_but_not_placed(monkeypatch):
    """Right shape, wrong numbers: one element is taken where all should be summed."""

    def first(g, shape):
        value = g._array
        while value.ndim > len(shape):
            value = value[0]
        for i, size in enumerate(shape):
            if size == 1:
                value = value.take([0], axis=i) if value.shape[i] else np.zeros((*value.shape[:i], 1))
        return mg.tensor(value.reshape(shape))

    monkeypatch.setattr(hooks, "sum_to", first)
    assert "broadcast axis is not summed over" in objects(checks.gradient_is_right, OPS["mul"])


def test_wrong_second_derivative():
    """A rule with the right value whose own derivative is wrong, because it left the tape."""
    op = with_rule("sin", 0, lambda g, input: g * mg.cos(input.detach()))
    checks.gradient_is_right(op)
    assert "gradient of sin" in objects(checks.second_gradient_is_right, op)


def test_output_of_a_rule_in_the_wrong_dtype():
    op = with_rule("neg", 0, lambda g: -g.double())
    assert "float64" in objects(checks.gradient_keeps_dtype, op)


def test_transpose_that_is_none():
    op = with_rule("cumsum", 0, lambda g, dim: g.cumsum(dim))
    assert "not the transpose" in objects(checks.transpose_is_adjoint, op)


# -- wrong shape rules ---------------------------------------------------------------------------------

WRONG_SHAPES = {
    "dimension lost": ("sum", lambda input, dims, keepdim: Spec(input.shape, input.dtype), "float64"),
    "dtype promised": ("argmax", lambda input, dim, keepdim: Spec((), int64), "float64"),
    "broadcast ignored": ("add", lambda input, other: input, "float64"),
    "always float32": ("exp", lambda input: Spec(input.shape, float32), "float64"),
    "bool forgotten": ("isnan", lambda input: input, "float32"),
    "integers are floats": (
        "mul",
        lambda a, b: Spec(np.broadcast_shapes(a.shape, b.shape), float32),
        "int32",
    ),
    "transposed": ("permute", lambda input, dims: input, "float32"),
}


@pytest.mark.parametrize("bug", WRONG_SHAPES)
def test_wrong_shape_rule(bug):
    name, rule, dtype = WRONG_SHAPES[bug]
    message = objects(checks.shape_rule_holds, broken(name, shape=rule), np.dtype(dtype))
    assert name in message
    assert "shape rule says" in message


def test_wrong_shape_rule_is_refused_by_the_trace_too():
    op = broken("permute", shape=lambda input, dims: input)
    objects(checks.traced_gradient_is_eager, op)


# -- wrong kernels ---------------------------------------------------------------------------------------

WRONG_KERNELS = {
    "another function": ("exp", np.exp2),
    "off by an ulp too many": ("exp", lambda x: np.exp(x) * (1 + 16 * np.finfo(x.dtype).eps)),
    "float64 for float32": ("sin", lambda x: np.sin(x.astype(np.float64))),
    "last element forgotten": ("add", lambda a, b: _spoil_last(np.add(a, b))),
    "strides ignored": ("neg", lambda x: -np.frombuffer(x.tobytes("A"), x.dtype).reshape(x.shape)),
    "axes mixed up": (
        "sum",
        lambda x, dims, keepdim: np.sum(x, axis=tuple(x.ndim - 1 - d for d in dims), keepdims=keepdim),
    ),
    "NaN swallowed": ("maximum", np.fmax),
    "empty refused": ("mul", lambda a, b: np.multiply(a, b) if a.size and b.size else np.zeros(1, a.dtype)),
}


def _spoil_last(y):
    if y.size > 7:
        y.reshape(-1)[-1] += 1
    return y


@pytest.mark.parametrize("bug", WRONG_KERNELS)
def test_wrong_kernel(bug):
    name, kernel = WRONG_KERNELS[bug]
    backend = Backend("broken", {name: kernel})
    law = checks.special_values_agree if bug == "NaN swallowed" else checks.backend_agrees
    assert name in objects(law, OPS[name], backend)


def test_kernel_that_writes_into_its_input():
    def kernel(x):
        x += 0.0 if x.size < 2 else 1.0
        return np.exp(x)

    message = objects(checks.leaves_inputs_alone, OPS["exp"], Backend("broken", {"exp": kernel}))
    assert "changes an input" in message


def test_kernel_that_returns_its_input():
    message = objects(checks.leaves_inputs_alone, OPS["clone"], Backend("broken", {"clone": lambda x: x}))
    assert "memory of an input" in message


def test_view_flag_wrong():
    assert "view is False" in objects(checks.leaves_inputs_alone, broken("reshape", view=False), "numpy")
    assert "no sample shares memory" in objects(
        checks.leaves_inputs_alone, broken("flip", view=True), "numpy"
    )


def test_reference_disagrees():
    op = broken("sum", reference=lambda x, dims, keepdim: np.mean(x, axis=dims, keepdims=keepdim))
    assert "reference" in objects(checks.agrees_with_reference, op)


def test_untrue_traits():
    assert "not commutative" in objects(checks.traits_are_true, broken("sub", traits={"commutative": True}))
    assert "no unit" in objects(checks.traits_are_true, broken("add", traits={"unit": 1.0}))
    assert "no involution" in objects(checks.traits_are_true, broken("exp", traits={"involution": True}))
    assert "not idempotent" in objects(checks.traits_are_true, broken("exp", traits={"idempotent": True}))
    # 1 / (1 / x) is x up to rounding only, which is not enough
    rounded = broken("reciprocal", traits={"involution": True})
    assert "no involution" in objects(checks.traits_are_true, rounded)
    for name, trait, rule, complaint in (
        ("flip", "identity", lambda x, dims: True, "no identity"),
        ("permute", "compose", lambda inner, outer: outer, "does not compose"),
        ("spread", "broadcast", lambda x, shape, dims: True, "no broadcast"),
        ("permute", "transposition", lambda x, dims: True, "no transposition"),
        ("matmul", "transposed", lambda a, b: ((0, 1), (a, b)), "transposed"),
        ("matmul", "transposes", ("transpose_other", "transpose_input"), "transpose"),
        ("exp", "no such trait", True, "unknown traits"),
    ):
        assert complaint in objects(checks.traits_are_true, broken(name, traits={trait: rule})), name


def test_formula_that_says_something_else():
    from minigrad.formula import Formula

    op = broken("sigmoid", formula=Formula("1.0 / (1.0 + exp(input))"))
    assert "formula" in objects(checks.special_values_agree, op, "numpy")


# -- what the tape keeps -----------------------------------------------------------------------------------


def test_stale_value_is_an_error_and_not_a_wrong_number():
    """If a rule did not say that it needs its input, a change in place would go unnoticed."""
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    w = x.clone()
    y = w.square()
    w.mul_(10.0)
    with pytest.raises(mg.Error, match="changed in place"):
        y.sum().backward()


def test_record_that_does_not_keep_what_its_rule_reads():
    op = replace(OPS["square"])
    object.__setattr__(op, "kept", ((False,),))
    assert objects(checks.keeps_only_what_it_needs, op)


def test_incomplete_records():
    assert "no samples" in objects(checks.record_is_complete, broken("exp", samples=lambda rng: []))
    assert "no doc" in objects(checks.record_is_complete, broken("exp", doc=" "))
    bad = broken("exp", samples=lambda rng: [((np.ones(2),), (1,))])
    assert "attributes" in objects(checks.record_is_complete, bad)
    with pytest.raises(ValueError, match="asks for"):
        with_rule("exp", 0, lambda g, nonsense: g)
    with pytest.raises(ValueError, match="rules for"):
        broken("exp", rules=())
    with pytest.raises(ValueError, match="kind"):
        broken("exp", kind="magic")


def test_planted_bug_in_a_program_is_found():
    """The random programs, too: spoil one kernel and run them."""
    from laws.test_programs import arrays, run

    from minigrad.execute import interpret
    from minigrad.ir import float64
    from minigrad.mode import Switch
    from minigrad.trace import trace

    x, w = arrays(1, float64)
    steps = [("tanh", 0), ("matmul", 2, 1), ("rows", 3)]
    graph = trace(lambda a, b: run(steps, a, b), mg.Spec(x.shape, float64), mg.Spec(w.shape, float64))
    (wanted,) = interpret(graph)(x, w)
    with Switch(backend=Backend("broken", {"tanh": np.arctan})):
        (got,) = interpret(graph)(x, w)
    assert not np.allclose(got, wanted)
