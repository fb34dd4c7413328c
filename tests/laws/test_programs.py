"""Laws for whole programs: hypothesis writes them, out of operations of many kinds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import autograd
from minigrad.execute import interpret
from minigrad.ir import check, float32, float64
from minigrad.tensor import Tensor
from minigrad.trace import trace

# Functions that are smooth and bounded, so that long programs neither overflow nor lose all digits.
UNARY = {
    "tanh": lambda x: x.tanh(),
    "sin": lambda x: x.sin(),
    "sigmoid": lambda x: x.sigmoid(),
    "neg": lambda x: -x,
    "scale": lambda x: x * 0.7 + 0.1,
    "log1p": lambda x: (x * x).log1p(),
    "softish": lambda x: x / (1.0 + x.square()),
    "rsqrt": lambda x: (1.0 + x * x).rsqrt(),
    "exp": lambda x: (-(x * x)).exp(),
    "clone": lambda x: x.clone(),
    "transpose": lambda x: x.T.tanh().T,
    "flip": lambda x: x.flip(0),
    "reshape": lambda x: x.reshape(-1).sin().reshape(x.shape),
    "rows": lambda x: x - x.mean(0, keepdim=True),
    "columns": lambda x: x * x.sum(1, keepdim=True).tanh(),
    "logsumexp": lambda x: x - x.logsumexp(1, keepdim=True),
    "cumsum": lambda x: x.cumsum(1).tanh(),
    "index": lambda x: x[[2, 0, 0]],
    "slice": lambda x: mg.cat([x[:, 1:], x[:, :1]], 1),
    "tril": lambda x: mg.tril(x),
    "std": lambda x: x / (1.0 + x.var()),
}
BINARY = {
    "add": lambda x, w: x + w,
    "sub": lambda x, w: x - w,
    "mul": lambda x, w: x * w,
    "div": lambda x, w: x / (2.0 + w.sin()),
    "matmul": lambda x, w: (x @ w.T @ x).tanh(),
    "row": lambda x, w: x + w[0],
    "outer": lambda x, w: (x[:, :1] * w[:1]).tanh(),
    "stack": lambda x, w: mg.stack([x, w]).mean(0),
    "einsum": lambda x, w: mg.einsum("ij,kj->ik", x, w).sum(1, keepdim=True).tanh() + x,
}


@st.composite
def programs(draw):
    """A list of (function name, operand numbers): straight-line code over a growing list of values."""
    steps = []
    for position in range(draw(st.integers(1, 8))):
        last = position + 1  # values: the two inputs, then one a step; prefer recent ones
        pick = st.integers(max(0, last - 3), last)
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(sorted(UNARY))), draw(pick)))
        else:
            steps.append((draw(st.sampled_from(sorted(BINARY))), draw(pick), draw(st.integers(0, last))))
    return steps


def run(steps, x, w):
    values = [x, w]
    for name, *operands in steps:
        table = UNARY if len(operands) == 1 else BINARY
        values.append(table[name](*(values[i] for i in operands)))
    return values[-1]


def arrays(seed, dtype):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, 4)).astype(dtype), rng.normal(size=(3, 4)).astype(dtype)


@given(programs(), st.sampled_from([float32, float64]))
def test_traced_program_is_eager(steps, dtype):
    x, w = arrays(1, dtype)
    graph = trace(lambda a, b: run(steps, a, b), mg.Spec(x.shape, dtype), mg.Spec(w.shape, dtype))
    (got,) = interpret(check(graph))(x, w)
    wanted = run(steps, Tensor(x), Tensor(w)).numpy()
    assert got.dtype == wanted.dtype == dtype
    np.testing.assert_array_equal(got, wanted)


@given(programs())
def test_gradient_of_program(steps):
    x, w = arrays(2, float64)
    inputs = [Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)]

    def program(a, b):
        return run(steps, a, b) + 0.0 * (a + b)  # so that it depends on both

    assert autograd.gradcheck(program, inputs, atol=1e-4)


@given(programs())
def test_traced_training_step_is_eager(steps):
    """Forward, backward and the update, recorded as one graph, give what the eager step gives."""
    x, w = arrays(3, float64)

    def step(a, b):
        loss = (run(steps, a, b).square() + a * b).mean()
        ga, gb = autograd.grad(loss, [a, b])
        return loss, a - 0.1 * ga, b - 0.1 * gb

    specs = mg.Spec(x.shape, float64), mg.Spec(w.shape, float64)
    got = interpret(trace(step, *specs, requires_grad=True))(x, w)
    eager = step(Tensor(x, requires_grad=True), Tensor(w, requires_grad=True))
    for a, b in zip(got, eager, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-9, atol=1e-12)


@given(programs())
def test_backward_accumulates_what_grad_returns(steps):
    x, w = arrays(4, float64)
    a, b = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
    ga, gb = autograd.grad(run(steps, a, b).sum(), [a, b], allow_unused=True)
    for _ in range(2):
        run(steps, a, b).sum().backward()
    for t, g in ((a, ga), (b, gb)):
        if g is None:
            assert t.grad is None
        else:
            np.testing.assert_allclose(t.grad.numpy(), 2.0 * g.numpy(), rtol=1e-12, atol=1e-14)


@given(programs())
def test_gradients_do_not_depend_on_how_they_are_asked_for(steps):
    """With the graph of the backward pass recorded, kept, or neither: the same numbers."""
    x, w = arrays(5, float64)
    results = []
    for options in ({}, {"create_graph": True}, {"retain_graph": True}):
        a, b = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
        y = (run(steps, a, b) + a + b).sum()
        results.append([g.detach().numpy() for g in autograd.grad(y, [a, b], **options)])
    for other in results[1:]:
        for g, h in zip(results[0], other, strict=True):
            np.testing.assert_allclose(g, h, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", mg.backends())
@given(steps=programs())
def test_programs_agree_on_backends(backend, steps):
    x, w = arrays(6, float64)
    with mg.backend("numpy"):
        wanted = run(steps, Tensor(x), Tensor(w)).numpy()
    with mg.backend(backend):
        got = run(steps, Tensor(x), Tensor(w)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-11)


@given(programs())
def test_second_gradient_of_program(steps):
    """A Hessian-vector product against central differences of the gradient."""
    x, w = arrays(7, float64)
    v = np.random.default_rng(8).normal(size=x.shape)

    def gradient(point):
        a = Tensor(point, requires_grad=True)
        y = (run(steps, a, Tensor(w)).square() + a * a).sum()
        (g,) = autograd.grad(y, a, create_graph=True)
        return a, g

    a, g = gradient(x)
    (hv,) = autograd.grad((g * Tensor(v)).sum(), a)
    h = 1e-5
    numeric = (gradient(x + h * v)[1].detach().numpy() - gradient(x - h * v)[1].detach().numpy()) / (2 * h)
    scale = 1.0 + np.abs(numeric).max()
    np.testing.assert_allclose(hv.numpy() / scale, numeric / scale, atol=2e-5)
