"""Views and changes in place: the history follows the memory, or there is an error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import autograd
from minigrad.errors import ArgumentError, DTypeError, GradientError, ShapeError, TraceError
from minigrad.trace import trace


def leaf(data):
    return mg.tensor(data, dtype=mg.float64, requires_grad=True)


VIEWS = {
    "slice": lambda t: t[1:],
    "step": lambda t: t[::-2],
    "integer": lambda t: t[1],
    "none": lambda t: t[None],
    "reshape": lambda t: t.reshape(-1),
    "view": lambda t: t.view(4, 3),
    "transpose": lambda t: t.T,
    "permute": lambda t: t.permute(1, 0),
    "squeeze": lambda t: t.unsqueeze(0).squeeze(0),
    "split": lambda t: t.split(2)[1],
    "unbind": lambda t: t.unbind(1)[2],
    "iteration": lambda t: next(iter(t)),
    "view of a view": lambda t: t[1:].T[2:],
}


@pytest.mark.parametrize("name", VIEWS)
def test_where_numpy_gives_views_so_do_we(name):
    t = mg.tensor(np.arange(12.0).reshape(3, 4))
    v = VIEWS[name](t)
    assert np.shares_memory(v.numpy(), t.numpy())
    v.fill_(77.0)
    assert (t == 77.0).sum().item() == v.numel()
    assert v.version == t.version > 0


@pytest.mark.parametrize("name", VIEWS)
def test_gradient_through_a_change_of_a_view(name):
    """base' = base with the part shown by the view replaced: checked against differences."""

    def program(x, w):
        base = x * 1.0
        view = VIEWS[name](base)
        view.mul_(w)
        return base * base

    def through_view(x, w):
        base = x * 1.0
        view = VIEWS[name](base)
        base.mul_(w).add_(1.0)
        return view.sin()

    x, w = leaf(np.arange(12.0).reshape(3, 4) / 7.0), leaf(1.5)
    assert autograd.gradcheck(program, [x, w])
    assert autograd.gradgradcheck(program, [x, w])
    assert autograd.gradcheck(through_view, [x, w])


def test_views_of_views_of_a_changed_base():
    x = leaf([1.0, 2.0, 3.0, 4.0])
    base = x * 1.0
    middle = base[1:]
    inner = middle[1:]
    base[2] = 10.0
    assert inner.tolist() == [10.0, 4.0]
    inner.sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_overwritten_base_cuts_the_history_of_its_views():
    x = leaf([1.0, 2.0])
    base = x * 1.0
    view = base[:1]
    base.zero_()
    assert not base.requires_grad
    assert not view.requires_grad


def test_view_of_constant_becomes_differentiable():
    base = mg.zeros(3, dtype=mg.float64)
    view = base[1:]
    x = leaf(2.0)
    base[1] = x * 3.0
    assert view.requires_grad
    (view * 2.0).sum().backward()
    assert x.grad.item() == 6.0


def test_deep_views_do_not_recurse():
    x = leaf([1.0, 2.0])
    base = x * 1.0
    view = base
    for _ in range(5000):
        view = view[:]
    view *= 3.0
    base.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    base2 = x * 1.0
    view = base2
    for _ in range(5000):
        view = view[:]
    base2 *= 2.0
    x.grad = None
    view.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


# -- versions --------------------------------------------------------------------------------------------

SAVED = {
    "an input": lambda w: w * w,
    "the other factor": lambda w: mg.tensor([2.0, 3.0], dtype=mg.float64, requires_grad=True) * w,
    "a view of it": lambda w: w[:1].sin(),
    "a view before": lambda w: w.T.sin(),
    "through matmul": lambda w: w @ w,
}


@pytest.mark.parametrize("name", SAVED)
def test_saved_value_changed_names_both_lines(name):
    x = leaf([1.0, 2.0])
    w = x * 1.0
    y = SAVED[name](w)  # saved here
    w.add_(1.0)  # changed here
    with pytest.raises(GradientError) as caught:
        y.sum().backward()
    message = str(caught.value)
    assert "w.add_(1.0)  # changed here" in message
    assert "test_inplace.py" in message
    assert "saved at" in message
    assert ".clone()" in message


def test_saved_output_changed():
    x = leaf([1.0, 2.0])
    y = x.exp()  # keeps its output
    y.mul_(2.0)
    with pytest.raises(GradientError, match=r"its output.*changed in place"):
        y.sum().backward()
    z = x.sin()  # does not
    z.mul_(2.0)
    z.sum().backward()


def test_saved_for_the_second_derivative():
    x = leaf([1.0, 2.0])
    y = x.exp()
    u = leaf([1.0, 1.0])
    (g,) = autograd.grad(y, x, u, create_graph=True)  # g = u * y
    y.mul_(2.0)
    with pytest.raises(GradientError, match="changed in place"):
        autograd.grad(g.sum(), u)


def test_change_before_saving_is_fine():
    x = leaf([1.0, 2.0])
    w = x * 1.0
    w.add_(1.0)
    w.mul_(w)
    (w * w).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 4 * (np.array([1.0, 2.0]) + 1) ** 3)


def test_change_of_a_value_nobody_needs():
    x = leaf([1.0, 2.0])
    w = x * 1.0
    y = w + 1.0
    w.mul_(5.0)
    (y + w).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_detached_tensor_shares_the_version():
    x = leaf([1.0, 2.0])
    w = x * 1.0
    y = w * w
    w.detach().add_(1.0)
    with pytest.raises(GradientError, match="changed in place"):
        y.sum().backward()
    w = x * 1.0
    y = w * w
    w.data.add_(1.0)
    with pytest.raises(GradientError, match="changed in place"):
        y.sum().backward()


def test_saved_parameter_updated_before_backward():
    w = leaf([1.0, 2.0])
    y = (w * w).sum()
    w.assign(mg.zeros(2))
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


# -- what may be changed ----------------------------------------------------------------------------------


def test_leaves_that_require_grad():
    x = leaf([1.0, 2.0])
    for change in (
        lambda: x.add_(1.0),
        lambda: x.__setitem__(0, 1.0),
        lambda: x[:1].mul_(2.0),
        lambda: x.zero_(),
    ):
        with pytest.raises(GradientError, match=r"leaf .*no_grad\(\)"):
            change()
    assert x.tolist() == [1.0, 2.0]
    with mg.no_grad():
        x -= 0.5
        x[0] = 3.0
    assert x.tolist() == [3.0, 1.5]
    assert x.is_leaf
    assert x.requires_grad
    (x * x).sum().backward()
    assert x.grad.tolist() == [6.0, 3.0]


def test_assign_writes_into_memory():
    x = leaf([1.0, 2.0])
    memory = x.detach().numpy()
    assert x.assign([5.0, 6.0]) is x
    assert memory.tolist() == [5.0, 6.0]
    with pytest.raises(ArgumentError, match="shape"):
        x.assign([1.0, 2.0, 3.0])


def test_results_must_fit():
    t = mg.ones(2, dtype=mg.int64)
    with pytest.raises(DTypeError, match="float32 result"):
        t.mul_(1.5)
    with pytest.raises(ShapeError, match="does not fit"):
        mg.ones(2).add_(mg.ones(3, 2))
    with pytest.raises(ArgumentError, match=r"\.clone\(\)"):
        mg.ones(1).expand(3).add_(1.0)
    with pytest.raises(ShapeError):
        mg.ones(3)[:2] = mg.ones(3)
    f = mg.ones(2)
    f += mg.ones(2, dtype=mg.float64)
    assert f.dtype == mg.float32
    u = mg.tensor([250], dtype=mg.uint8)
    u += 10
    assert u.tolist() == [4], "integers wrap, as numpy's do"


def test_operators_in_place():
    t = mg.tensor([7.0, 8.0])
    same = t
    t += 1
    t -= 2
    t *= 3
    t /= 2
    t **= 2
    t //= 1
    t %= 50
    assert t is same
    assert t.tolist() == [31.0, 10.0]
    for name in (
        "exp_",
        "neg_",
        "abs_",
        "sqrt_",
        "sigmoid_",
        "tanh_",
        "round_",
        "clamp_",
        "masked_fill_",
        "uniform_",
    ):
        assert hasattr(t, name)


def test_overlapping_memory():
    t = mg.tensor([1.0, 2.0, 3.0, 4.0])
    t[1:] = t[:-1]
    assert t.tolist() == [1.0, 1.0, 2.0, 3.0]
    t[1:] += t[:-1]
    assert t.tolist() == [1.0, 2.0, 3.0, 5.0]
    t[[1, 2]] = t[1:3].flip(0)
    assert t.tolist() == [1.0, 3.0, 2.0, 5.0]
    t[[0, 1]] = t[1:3]
    assert t.tolist() == [3.0, 2.0, 2.0, 5.0]
    m = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    m += m.T
    assert m.tolist() == [[2.0, 5.0], [5.0, 8.0]]


def test_gradient_of_a_loop_that_fills_a_buffer():
    def program(x):
        out = mg.zeros(4, dtype=mg.float64)
        for i in range(4):
            out[i] = x[i] * out[i - 1].clone() + x[i] if i else x[i]
        return out

    assert autograd.gradcheck(program, [leaf([0.5, 1.5, 2.0, -1.0])])
    assert autograd.gradgradcheck(program, [leaf([0.5, 1.5, 2.0, -1.0])])


# -- random programs of changes ---------------------------------------------------------------------------

CHANGES = {
    "scale": lambda t, x: t.mul_(1.5),
    "add": lambda t, x: t.add_(x),
    "row": lambda t, x: t[1].mul_(x[0]),
    "assign row": lambda t, x: t.__setitem__(0, x[2] * 2.0),
    "assign column": lambda t, x: t.__setitem__((slice(None), 1), x[:, 0].sin()),
    "mask": lambda t, x: t.__setitem__(t.detach() > 1.0371, 0.5),
    "indices": lambda t, x: t.__setitem__([0, 2], x[:2] * t[[1, 2]]),
    "repeated": lambda t, x: t.__setitem__([1, 1], x[:2].cos()),
    "transposed": lambda t, x: t.T[0].add_(x[1, :3]),
    "reversed": lambda t, x: t[::-1, ::2].mul_(x[:, ::2]),
    "fill": lambda t, x: t[1:, 2:].fill_(0.25),
    "copy": lambda t, x: t[0].copy_(t[1] * 0.5),
}


@given(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=6), st.booleans())
def test_programs_of_changes(names, look_early):
    """Any sequence of changes: values as in numpy without a tape, gradients as differences say."""

    def program(x):
        t = x * 1.0
        early = t[1:] if look_early else None
        for name in names:
            CHANGES[name](t, x)
        return (t * 1.0, early * 1.0) if look_early else t * 1.0

    x = leaf(np.array([[0.3, 1.2, -0.7, 0.9], [1.6, -0.2, 0.4, 0.8], [-1.1, 0.6, 1.4, -0.5]]))
    with mg.no_grad():
        plain = program(x.detach())
    recorded = program(x)
    for a, b in zip(plain if look_early else [plain], recorded if look_early else [recorded], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.detach().numpy())
    assert autograd.gradcheck(program, [x])


# -- under a trace ---------------------------------------------------------------------------------------


def test_changes_inside_a_trace_are_recorded_or_refused():
    from minigrad.execute import interpret

    spec = mg.Spec((3,), mg.float32)
    x = np.array([1.0, 2.0, 3.0], np.float32)

    def run(f):
        eager = f(mg.tensor(x)).numpy()
        (got,) = interpret(trace(f, spec))(x)
        np.testing.assert_array_equal(got, eager)

    def add(t):
        t = t * 1.0
        t += 1.0
        t.exp_()
        return t

    def put(t):
        t = t * 1.0
        t[[0, 2]] = t[[1, 1]]
        t[1] = 9.0
        t[t.long()[:0]] = 0.0
        return t

    run(add)
    run(put)

    def through_view(t):
        t = t * 1.0
        t[1:].mul_(2.0)
        return t

    def of_viewed(t):
        t = t * 1.0
        v = t[1:]
        t.mul_(2.0)
        return v

    run(through_view)
    run(of_viewed)

    def of_reshaped(t):
        t = t * 1.0
        t.reshape(1, 3).mul_(2.0)
        return t

    outside = mg.zeros(3)

    def captured(t):
        outside[0] = t[0]
        return t

    def captured_indices(t):
        outside[[0, 1]] = t[:2]
        return t

    def captured_number(t):
        outside.fill_(1.0)
        return t

    def captured_assign(t):
        outside.assign(t)
        return t

    for f in (of_reshaped, captured, captured_indices, captured_number, captured_assign):
        with pytest.raises(TraceError):
            trace(f, spec)
    assert outside.tolist() == [0.0, 0.0, 0.0]
