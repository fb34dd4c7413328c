"""Optimizers: formulas by hand, groups, states, and settings that make no sense."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.errors import ArgumentError, DTypeError, GradientError


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(list(values), dtype="float64", requires_grad=True)


def give(p: mg.Tensor, *values: float) -> None:
    p.grad = mg.tensor(list(values), dtype="float64")


def test_sgd_by_hand() -> None:
    p = leaf(1.0)
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.5)
    give(p, 2.0)
    optimizer.step()  # g = 2 + 0.5 = 2.5; b = 2.5; p = 1 - 0.25
    np.testing.assert_allclose(p.detach().numpy(), [0.75])
    give(p, 2.0)
    optimizer.step()  # g = 2 + 0.375; b = 2.25 + 2.375; p = 0.75 - 0.4625
    np.testing.assert_allclose(p.detach().numpy(), [0.2875])


def test_nesterov_by_hand() -> None:
    p = leaf(0.0)
    optimizer = optim.SGD([p], lr=1.0, momentum=0.5, nesterov=True)
    for wanted in (-1.5, -1.5 - 1.75):  # b = 1, then 1.5; each step 1 + 0.5 b
        give(p, 1.0)
        optimizer.step()
        np.testing.assert_allclose(p.detach().numpy(), [wanted])


def test_adam_by_hand() -> None:
    p = leaf(1.0, -2.0)
    optimizer = optim.Adam([p], lr=0.1, betas=(0.5, 0.75), eps=1e-3, weight_decay=0.1)
    m = v = np.zeros(2)
    x = np.array([1.0, -2.0])
    for t, g in enumerate(([1.0, 2.0], [-3.0, 0.5], [0.0, 1.0]), 1):
        give(p, *g)
        optimizer.step()
        grad = np.array(g) + 0.1 * x
        m = 0.5 * m + 0.5 * grad
        v = 0.75 * v + 0.25 * grad**2
        x = x - 0.1 * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - 0.75**t)) + 1e-3)
        np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-12)


def test_adamw_shrinks_apart_from_the_gradient() -> None:
    p = leaf(2.0)
    give(p, 0.0)
    optim.AdamW([p], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(p.detach().numpy(), [2.0 * 0.95])


def test_gradients_and_other_arrays_are_left_alone() -> None:
    for kwargs in (
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
        {"momentum": 0.9},
    ):
        p = leaf(1.0)
        give(p, 2.0)
        optimizer = optim.SGD([p], lr=0.1, **kwargs)  # type: ignore[arg-type]
        optimizer.step()
        optimizer.step()
        assert p.grad is not None
        assert p.grad.tolist() == [2.0]
    p = leaf(1.0)
    give(p, 2.0)
    optim.AdamW([p], maximize=True, weight_decay=0.1, amsgrad=True).step()
    assert p.grad is not None
    assert p.grad.tolist() == [2.0]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_and_dtypes(shape: Any, dtype: str) -> None:
    p = mg.ones(shape, dtype=dtype, requires_grad=True)
    strided = mg.ones(3, 2, dtype=dtype).T.detach().requires_grad_()
    for optimizer in (optim.SGD([p, strided], lr=0.5, momentum=0.5), optim.Adam([p, strided])):
        for t in (p, strided):
            t.grad = t.detach() * 0 + 1
        optimizer.step()
        assert p.dtype.name == dtype
        assert p.shape == shape
        assert bool((p < 1).all())
        assert bool((strided < 1).all())


def test_a_step_in_place_is_noticed_by_the_tape() -> None:
    p = leaf(1.0)
    loss = (p * p).sum()
    give(p, 1.0)
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(GradientError, match="changed in place"):
        loss.backward()


def test_groups_and_schedules() -> None:
    a, b, c = leaf(1.0), leaf(1.0), leaf(1.0)
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": mg.tensor(0.25)})
    for p in (a, b, c):
        give(p, 1.0)
    optimizer.step()
    assert [p.item() for p in (a, b, c)] == [0.9, 0.5, 0.75]
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    optimizer.step()
    np.testing.assert_allclose([p.item() for p in (a, b, c)], [-0.1, -0.5, -0.25])
    assert "Parameter Group 2" in repr(optimizer)


def test_closure_and_zero_grad() -> None:
    p = leaf(2.0)
    optimizer = optim.SGD([p], lr=0.25)

    def closure() -> mg.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with mg.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert p.item() == 1.0
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is not None
    assert p.grad.item() == 0.0
    optimizer.zero_grad()
    assert p.grad is None
    assert optimizer.step() is None  # no gradient, no step
    assert p.item() == 1.0


def test_state_round_trip_is_exact() -> None:
    def make(seed: int) -> tuple[list[mg.Tensor], optim.Optimizer]:
        mg.manual_seed(seed)
        params = [mg.randn(3, 2, requires_grad=True), mg.randn(2, requires_grad=True)]
        return params, optim.Adam(params, lr=0.1, amsgrad=True)

    def walk(params: list[mg.Tensor], optimizer: optim.Optimizer, steps: range) -> None:
        for i in steps:
            for p in params:
                p.grad = p.detach() * float(i) + 1.0
            optimizer.step()

    params, optimizer = make(0)
    walk(params, optimizer, range(5))
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    values = [p.detach().clone() for p in params]
    walk(params, optimizer, range(5, 9))
    others, fresh = make(1)
    for p, v in zip(others, values, strict=True):
        p.assign(v)
    fresh.load_state_dict(saved)
    fresh.param_groups[0]["lr"] = 0.1
    walk(others, fresh, range(5, 9))
    for p, q in zip(params, others, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
    assert set(saved["state"][0]) == {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
    assert saved["param_groups"][0]["params"] == [0, 1]


def test_states_that_do_not_fit() -> None:
    p, q = leaf(1.0, 2.0), leaf(1.0)
    optimizer = optim.Adam([p])
    give(p, 1.0, 1.0)
    optimizer.step()
    saved = optimizer.state_dict()
    with pytest.raises(ArgumentError, match=r"groups of \[1\] parameters where \[2\]"):
        optim.Adam([p, q]).load_state_dict(saved)
    with pytest.raises(ArgumentError, match=r"shape \(2,\) for a parameter of shape \(1,\)"):
        optim.Adam([q]).load_state_dict(saved)
    with pytest.raises(ArgumentError, match="it must come from SGD"):
        optim.SGD([p]).load_state_dict(saved)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda p: optim.SGD([], lr=0.1), ArgumentError, "there are no parameters"),
        (lambda p: optim.SGD(iter([])), ArgumentError, "there are no parameters"),
        (lambda p: optim.SGD(p), DTypeError, "pass a list"),
        (lambda p: optim.SGD([p, p]), ArgumentError, "parameter 1 of shape .* twice"),
        (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}]), ArgumentError, "twice"),
        (lambda p: optim.SGD([p * 2]), GradientError, "not a leaf"),
        (lambda p: optim.SGD([p, 3.0]), DTypeError, "parameter 1 is a float"),
        (lambda p: optim.SGD([("w", p)]), DTypeError, r"model\.parameters"),
        (lambda p: optim.SGD([{"params": {p}}]), DTypeError, "no order"),
        (lambda p: optim.SGD([{"lr": 0.1}]), ArgumentError, "no 'params'"),
        (lambda p: optim.SGD([{"params": [p], "learning_rate": 1}]), ArgumentError, "it has: lr, momentum"),
        (lambda p: optim.SGD([p], lr=-1.0), ArgumentError, "SGD: lr is -1.0"),
        (lambda p: optim.SGD([p], lr=float("nan")), ArgumentError, "lr is nan"),
        (lambda p: optim.SGD([p], lr="fast"), ArgumentError, "lr is 'fast'"),
        (lambda p: optim.SGD([{"params": [p], "lr": -1}]), ArgumentError, "lr is -1"),
        (lambda p: optim.SGD([p], momentum=-0.1), ArgumentError, "momentum"),
        (lambda p: optim.SGD([p], nesterov=True), ArgumentError, "momentum above 0"),
        (lambda p: optim.SGD([p], momentum=0.9, dampening=0.1, nesterov=True), ArgumentError, "no dampening"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ArgumentError, "betas"),
        (lambda p: optim.Adam([p], betas=0.9), ArgumentError, "betas"),
        (lambda p: optim.Adam([p], eps=-1e-8), ArgumentError, "eps"),
        (lambda p: optim.AdamW([p], weight_decay=-1), ArgumentError, "AdamW: weight_decay"),
        (lambda p: optim.Optimizer([p], {}).update(*[None] * 4), ArgumentError, "define update"),
    ],
)
def test_clear_errors(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make(leaf(1.0))


def test_an_optimizer_of_ones_own() -> None:
    class Sign(optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        def update(self, p: Any, g: Any, state: Any, group: Any) -> None:
            p -= group["lr"] * np.sign(g)

    p = leaf(1.0, 1.0)
    give(p, 5.0, -3.0)
    Sign([p], lr=0.5).step()
    assert p.tolist() == [0.5, 1.5]


# -- with the backend's kernels --------------------------------------------------------------------

with_kernels = pytest.mark.skipif("c" not in mg.backends(), reason="no compiled extension")


def mixed(dtype: str) -> list[mg.Tensor]:
    """Parameters of several shapes, one of them column-major, one empty, one of another dtype."""
    rng = np.random.default_rng(5)
    other = "float32" if dtype == "float64" else "float64"
    params = [mg.tensor(rng.normal(size=s).astype(dtype)) for s in [(300, 7), (), (5,), (0, 3), (9000,)]]
    params.append(mg.tensor(rng.normal(size=(4, 3)).astype(dtype)).T.detach())
    params.append(mg.tensor(rng.normal(size=6).astype(other)))
    return [p.requires_grad_() for p in params]


def walk(make: Any, backend: str, dtype: str) -> tuple[list[mg.Tensor], optim.Optimizer]:
    """Five steps; one parameter misses one of them, and one gradient is column-major."""
    params = mixed(dtype)
    optimizer = make([{"params": params[:3]}, {"params": params[3:], "lr": 0.05}])
    rng = np.random.default_rng(6)
    with mg.backend(backend):
        for step in range(5):
            for i, p in enumerate(params):
                g = mg.tensor(np.asarray(rng.normal(size=p.shape), p.dtype, order="F" if step == 3 else "C"))
                p.grad = None if (i, step) == (1, 2) else g
            optimizer.step()
    return params, optimizer


@with_kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, 0.1),
        lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        lambda p: optim.SGD(p, mg.tensor(0.125), momentum=0.9, nesterov=True, maximize=True),
        lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.3),
        lambda p: optim.Adam(p, 0.1),
        lambda p: optim.Adam(p, 0.1, (0.5, 0.75), 1e-3, weight_decay=0.1, maximize=True),
        lambda p: optim.Adam(p, 0.1, (0.0, 0.0), amsgrad=True),
        lambda p: optim.AdamW(p, 0.1, weight_decay=0.1, amsgrad=True),
        lambda p: keras_adam(p, 0.1, eps=1e-2),
    ],
)
def test_kernels_and_formulas_agree(make: Any, dtype: str) -> None:
    ours, with_c = walk(make, "c", dtype)
    plain, with_numpy = walk(make, "numpy", dtype)
    assert any(stepper is not None for _, stepper in with_c._steppers.values())
    assert not with_numpy._steppers

    def agree(a: Any, b: Any) -> None:
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        tolerance = 1e-12 if a.dtype == mg.float64 else 1e-5
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance)

    for p, q in zip(ours, plain, strict=True):
        agree(p, q)
        assert p.version == q.version
        assert set(with_c.state[p]) == set(with_numpy.state[q])
        for name, value in with_c.state[p].items():
            agree(value, with_numpy.state[q][name])


def keras_adam(params: Any, lr: float, eps: float) -> optim.Optimizer:
    from minigrad.keras.optimizers import _AdamRule

    return _AdamRule(params, lr, eps=eps)


@with_kernels
@pytest.mark.parametrize("make", [optim.SGD, lambda p: optim.SGD(p, momentum=0.5), optim.Adam])
def test_gradients_that_share_memory(make: Any) -> None:
    """Gradients may be each other, or even a parameter: then the order of updates counts."""
    found = []
    for backend in ("c", "numpy"):
        a, b, c = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
        optimizer = make([a, b, c])
        with mg.backend(backend):
            for _ in range(2):
                a.grad = b.grad = mg.tensor([1.0, -1.0], dtype="float64")
                c.grad = a.detach()
                optimizer.step()
        found.append([p.tolist() for p in (a, b, c)])
    np.testing.assert_allclose(*found, rtol=1e-12)


@with_kernels
def test_states_and_parameters_may_be_exchanged() -> None:
    found = []
    for backend in ("c", "numpy"):
        p = leaf(1.0, 2.0)
        optimizer = optim.Adam([p], lr=0.1)
        with mg.backend(backend):
            for i in range(6):
                if i == 2:
                    saved = optimizer.state_dict()
                    optimizer.load_state_dict(pickle.loads(pickle.dumps(saved)))
                if i == 4:
                    p.data = mg.tensor([7.0, 8.0], dtype="float64")
                    optimizer.param_groups[0]["amsgrad"] = True
                give(p, 1.0 + i, -2.0)
                optimizer.step()
            give(p, 1.0, 1.0)
            (other,) = (twin := copy.deepcopy(optimizer)).param_groups[0]["params"]
            before = p.tolist()
            twin.step()
            assert p.tolist() == before
            optimizer.step()
        np.testing.assert_allclose(other.tolist(), p.tolist(), rtol=1e-12)
        found.append(p.tolist())
    np.testing.assert_allclose(*found, rtol=1e-12)


@with_kernels
def test_infinite_parameters_stay_infinite() -> None:
    with mg.backend("c"):
        for make in (optim.SGD, optim.Adam):
            p = leaf(float("inf"), 1.0)
            give(p, 1.0, 1.0)
            make([p], lr=0.5).step()
            assert p.tolist() == pytest.approx([float("inf"), 0.5])


def test_a_rule_of_ones_own_is_not_passed_over() -> None:
    class Lazy(optim.Adam):
        def update(self, p: Any, g: Any, state: Any, group: Any) -> None:
            p += 1

    class Lazier(Lazy):
        pass

    for make in (Lazy, Lazier):
        p = leaf(1.0)
        give(p, 5.0)
        make([p]).step()
        assert p.tolist() == [2.0]
