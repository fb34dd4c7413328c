"""vmap and the derivatives built on it: by the records' own samples, nested, and what they refuse."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from laws import checks

import minigrad as mg
from minigrad import func
from minigrad.bind import apply
from minigrad.errors import ArgumentError, DTypeError, ShapeError, TraceError
from minigrad.func import vmap
from minigrad.ir import float64
from minigrad.ops import OPS, load

load()
RNG = np.random.default_rng(5)


def tensor(*shape):
    return mg.tensor(RNG.normal(size=shape), dtype=float64)


def close(a, b):
    assert a.shape == b.shape
    assert np.allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.kind != "creation"])
@pytest.mark.filterwarnings("ignore:vmap runs")
def test_every_operation_on_a_batch_is_the_operation_on_each(name):
    op = OPS[name]
    for inputs, attrs in checks.samples(op):
        arrays = checks.as_dtype(inputs, float64)
        every = range(len(arrays))
        for which in [set(every), *({i} for i in every if len(arrays) > 1)]:
            xs = [
                mg.tensor(np.stack([x * (1 + 0.01 * k) if x.dtype.kind == "f" else x for k in range(3)]))
                if i in which
                else mg.tensor(x)
                for i, x in enumerate(arrays)
            ]
            dims = tuple(0 if i in which else None for i in every)
            y = vmap(lambda *t, op=op, attrs=attrs: apply(op, t, attrs), in_dims=dims)(*xs)
            each = [
                apply(op, tuple(x[k] if d == 0 else x for x, d in zip(xs, dims, strict=True)), attrs)
                for k in range(3)
            ]
            close(y, mg.stack(each))


def test_the_kinds_that_have_a_rule_do_not_loop():
    def f(x, w):
        h = (x @ w).tanh().unsqueeze(0)
        return mg.nn.functional.log_softmax(h.permute(1, 0).sum(-1), 0).cumsum(0)[1:].max()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = vmap(f, in_dims=(0, None))(tensor(5, 3), tensor(3, 4))
    assert y.shape == (5,)


def net(params, x):
    return ((x @ params["w"] + params["b"]).tanh() ** 2).sum()


def test_gradients_of_single_examples():
    params, x = {"w": tensor(3, 2), "b": tensor(2)}, tensor(4, 3)
    each = vmap(func.grad(net), in_dims=(None, 0))(params, x)
    for i in range(4):
        one = func.grad(net)(params, x[i])
        close(each["w"][i], one["w"])
        close(each["b"][i], one["b"])
    whole = func.grad(lambda p: vmap(net, in_dims=(None, 0))(p, x).sum())(params)
    close(whole["w"], each["w"].sum(0))
    compiled = mg.compile(lambda x: vmap(func.grad(net), in_dims=(None, 0))(params, x)["w"])
    for _ in range(3):
        x = tensor(4, 3)
        close(compiled(x), vmap(func.grad(net), in_dims=(None, 0))(params, x)["w"])


def test_maps_nest_and_move_dimensions():
    a, b = tensor(3, 4), tensor(5, 4)
    close(vmap(vmap(lambda x, y: x @ y, (None, 0)), (0, None))(a, b), a @ b.T)
    close(vmap(lambda c: c * 2.0, in_dims=1, out_dims=1)(a), a * 2.0)
    close(vmap(lambda pair: pair[0] - pair[1], in_dims=((0, None),))((a, a[0])), a - a[0])
    first, second = vmap(lambda x: (x.sum(), x * 2.0))(a)
    close(first, a.sum(1))
    close(second, a * 2.0)


def test_changes_in_place_and_constants_inside():
    def f(x):
        y = x.clone()
        y += 1.0
        y[0] = 5.0
        return y * mg.ones(3, dtype=float64)

    x = tensor(4, 3)
    want = x + 1.0
    want[:, 0] = 5.0
    close(vmap(f)(x), want)


def test_layers_by_the_batch():
    conv = mg.nn.Conv2d(2, 3, 3, padding=1)
    x = mg.randn(4, 5, 2, 6, 6)
    y = vmap(conv)(x)
    assert np.allclose(y.detach().numpy()[2], conv(x[2]).detach().numpy(), atol=1e-5)


def test_randomness_is_asked_for():
    with pytest.raises(TraceError, match="randomness='same'"):
        vmap(lambda x: x + mg.rand(2))(mg.zeros(3, 2))
    y = vmap(lambda x: x + mg.rand(2), randomness="same")(mg.zeros(3, 2)).numpy()
    assert (y[0] == y[1]).all()
    with pytest.raises(ArgumentError, match="'different'"):
        vmap(lambda x: x, randomness="different")


@pytest.mark.parametrize(
    ("program", "error", "says"),
    [
        (lambda: vmap(lambda x, y: x + y)(mg.ones(2), mg.ones(3)), ShapeError, "2 and 3"),
        (lambda: vmap(lambda x: x)(mg.tensor(1.0)), (ShapeError, IndexError), ""),
        (lambda: vmap(lambda x: x, in_dims=None)(mg.ones(2)), ArgumentError, "no tensor to map over"),
        (lambda: vmap(lambda x: 3.0)(mg.ones(2)), DTypeError, "returned a float"),
        (lambda: vmap(lambda x: x if x > 0 else -x)(mg.ones(2)), TraceError, "test_vmap.py"),
        (lambda: vmap(lambda x: x.item())(mg.ones(2)), TraceError, "item"),
        (lambda: vmap(lambda x: x, in_dims=(0, 0))(mg.ones(2)), ArgumentError, "2 in_dims for 1"),
    ],
)
def test_refusals(program, error, says):
    with pytest.raises(error) as caught:
        program()
    assert says in str(caught.value)


# -- derivatives ---------------------------------------------------------------------------------------------


def curve(x):
    return mg.stack([(x * x).sum(), x[0] * x[1].exp(), x[2].sin()])


def numerical(f, x, eps=1e-6):
    columns = []
    for i in range(x.numel()):
        d = np.zeros(x.numel())
        d[i] = eps
        d = mg.tensor(d.reshape(x.shape), dtype=float64)
        columns.append(((f(x + d) - f(x - d)) / (2 * eps)).numpy().reshape(-1))
    return np.stack(columns, -1)


def test_jacobians_agree_with_each_other_and_with_differences():
    x = tensor(3)
    j = func.jacrev(curve)(x)
    close(j, func.jacfwd(curve)(x))
    assert np.allclose(j.numpy(), numerical(curve, x), atol=1e-7)
    v = tensor(3)
    y, tangent = func.jvp(curve, (x,), (v,))
    close(y, curve(x))
    close(tangent, j @ v)
    (pulled,) = func.vjp(curve, x)[1](v)
    close(pulled, v @ j)


def test_hessian_and_its_product():
    a = tensor(3, 3)

    def f(x):
        return (x @ a @ x) + (x**3).sum()

    x, v = tensor(3), tensor(3)
    h = func.hessian(f)(x)
    assert np.allclose(h.numpy(), (a + a.T).numpy() + np.diag(6 * x.numpy()))
    value, product = func.hvp(f, (x,), (v,))
    close(value, f(x))
    close(product[0], h @ v)


def test_nests_of_arguments_and_results():
    def f(p, x):
        return {"y": p["w"] * x.sum(), "z": x}

    p, x = {"w": tensor(2)}, tensor(3)
    for jacobian in (func.jacrev, func.jacfwd):
        j = jacobian(f, argnums=(0, 1))(p, x)
        assert j["y"][0]["w"].shape == (2, 2)
        assert j["y"][1].shape == (2, 3)
        close(j["z"][1], mg.eye(3, dtype=float64))
        j, aux = jacobian(lambda x: (x * 2.0, x.sum()), has_aux=True)(x)
        close(j, 2.0 * mg.eye(3, dtype=float64))
        close(aux, x.sum())


def test_third_derivatives_by_composition():
    f = func.grad(func.grad(func.grad(lambda x: x**4)))
    close(vmap(f)(mg.tensor([1.0, 2.0], dtype=float64)), mg.tensor([24.0, 48.0], dtype=float64))
    third = func.jacfwd(func.hessian(lambda x: (x**4).sum()))(mg.tensor([1.0, 2.0], dtype=float64))
    close(third[1, 1, 1], mg.tensor(48.0, dtype=float64))


def test_tangents_must_fit():
    with pytest.raises(ArgumentError, match="tuples"):
        func.jvp(curve, tensor(3), tensor(3))
    with pytest.raises(ArgumentError, match="own shape"):
        func.jvp(curve, (tensor(3),), (tensor(2),))
