"""Optimizers: formulas by hand, groups, states, and settings that make no sense."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from itertools import pairwise
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

    settings = {"lr": lr, "betas": (0.9, 0.999), "eps": eps, "weight_decay": 0.0}
    return _AdamRule(params, {**settings, "amsgrad": False, "decoupled_weight_decay": True})


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


# -- equations of papers that PyTorch has not ------------------------------------------------------


def test_lion_is_its_paper() -> None:
    """Chen et al. 2023, algorithm 2."""
    rng = np.random.default_rng(0)
    theta, m = rng.normal(size=(3, 2)), np.zeros((3, 2))
    p = mg.tensor(theta, requires_grad=True)
    optimizer = optim.Lion([p], lr=0.05, betas=(0.8, 0.95), weight_decay=0.3)
    for _ in range(20):
        g = rng.normal(size=(3, 2))
        p.grad = mg.tensor(g)
        optimizer.step()
        theta = theta - 0.05 * (np.sign(0.8 * m + 0.2 * g) + 0.3 * theta)
        m = 0.95 * m + 0.05 * g
        np.testing.assert_allclose(p.detach().numpy(), theta, rtol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_lamb_is_its_paper(decay: float) -> None:
    """You et al. 2020, algorithm 2, layer by layer; a layer of zeros has the ratio 1."""
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(3, 2)), rng.normal(size=4), np.zeros(3)]
    params = [mg.tensor(v, requires_grad=True) for v in x]
    m, v = ([np.zeros_like(a) for a in x] for _ in range(2))
    optimizer = optim.LAMB(params, lr=0.05, betas=(0.8, 0.9), eps=1e-3, weight_decay=decay)
    for t in range(1, 21):
        for i, p in enumerate(params):
            g = rng.normal(size=x[i].shape) * (0.0 if t == 1 and i == 1 else 1.0)
            p.grad = mg.tensor(g)
            m[i], v[i] = 0.8 * m[i] + 0.2 * g, 0.9 * v[i] + 0.1 * g * g
            r = m[i] / (1 - 0.8**t) / (np.sqrt(v[i] / (1 - 0.9**t)) + 1e-3) + decay * x[i]
            lengths = np.linalg.norm(x[i]), np.linalg.norm(r)
            x[i] = x[i] - 0.05 * (lengths[0] / lengths[1] if min(lengths) > 0 else 1.0) * r
        optimizer.step()
        for p, value in zip(params, x, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), value, rtol=1e-11, atol=1e-15)


# -- all parameters at once ------------------------------------------------------------------------

ELEMENTWISE: dict[str, Any] = {
    "SGD": lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.2, weight_decay=0.1),
    "Adam": lambda p: optim.Adam(p, 0.1, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, 0.1, momentum=0.9, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, 0.1, lr_decay=0.1, initial_accumulator_value=0.2),
    "Adadelta": lambda p: optim.Adadelta(p, 0.5),
    "Adamax": lambda p: optim.Adamax(p, 0.1, weight_decay=0.1),
    "NAdam": lambda p: optim.NAdam(p, 0.1),
    "RAdam": lambda p: optim.RAdam(p, 0.1, (0.5, 0.8)),
    "Lion": lambda p: optim.Lion(p, 0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_blocks_change_nothing(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parameters end to end and large ones in pieces give what one parameter at a time gives."""
    monkeypatch.setattr(optim.base, "BLOCK", 1 << 14)  # so that 34,500 elements are a large one
    found = []
    for at_once in (True, False):
        rng = np.random.default_rng(3)
        shapes = [(3, 4), (), (7,), (0, 2), (150, 230), (2, 3, 4), (20_000,)]
        params = [mg.tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes]
        params.append(mg.tensor(rng.normal(size=(200, 150)).astype(dtype)).T.detach().requires_grad_())
        optimizer = ELEMENTWISE[name](params)
        assert optimizer.elementwise
        optimizer.elementwise = at_once
        for step in range(4):
            for i, p in enumerate(params):
                p.grad = None if (i, step) == (2, 1) else mg.tensor(rng.normal(size=p.shape).astype(dtype))
            with mg.backend("numpy"):
                optimizer.step()
            if step == 1:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        found.append((params, optimizer))
    (one, first), (other, second) = found
    for p, q in zip(one, other, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
        assert set(first.state[p]) == set(second.state[q])
        for key, value in first.state[p].items():
            np.testing.assert_array_equal(value.numpy(), second.state[q][key].numpy())
            assert (value.dtype, value.shape) == (second.state[q][key].dtype, second.state[q][key].shape)


def test_lamb_looks_at_whole_parameters() -> None:
    assert not optim.LAMB.elementwise


# -- mistakes --------------------------------------------------------------------------------------


def quadratic(optimizer_of: Any, clear: Any, steps: int = 4) -> list[str]:
    """Messages of the warnings of a training loop."""
    import warnings

    p = leaf(1.0, 2.0)
    optimizer = optimizer_of([p])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(steps):
            clear(optimizer, p)
            (p * p).sum().backward()
            optimizer.step()
    return [str(w.message) for w in seen]


def test_a_missing_zero_grad_is_noticed_once() -> None:
    (message,) = quadratic(lambda p: optim.SGD(p, 0.01), lambda o, p: None)
    assert "call optimizer.zero_grad() before backward()" in message

    def by_hand(optimizer: Any, p: mg.Tensor) -> None:
        p.grad = None

    for clear in (
        lambda o, p: o.zero_grad(),
        lambda o, p: o.zero_grad(set_to_none=False),
        by_hand,
    ):
        assert not quadratic(lambda p: optim.Adam(p, 0.01), clear)


def test_gradients_looked_at_between_steps_are_no_mistake() -> None:
    import warnings

    p = leaf(1.0)
    optimizer = optim.SGD([p], lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            (p * p).sum().backward()
            optimizer.step()
            mg.autograd.grad((p * p).sum(), p)
            optimizer.zero_grad()


def test_a_step_without_backward_is_noticed_once() -> None:
    p = leaf(1.0)
    optimizer = optim.SGD([p], lr=0.1)
    with pytest.warns(UserWarning, match="no parameter has a gradient.*backward"):
        optimizer.step()
    optimizer.step()


def test_parameters_that_cannot_be_learned() -> None:
    optimizer = optim.SGD([mg.ones(2), mg.ones(3)], lr=0.1)
    with pytest.raises(GradientError, match="none of the 2 parameters requires grad"):
        optimizer.step()
    p = leaf(1.0)
    optimizer = optim.SGD([mg.ones(2), p], lr=0.1)  # some frozen: as in fine-tuning
    give(p, 1.0)
    optimizer.step()
    assert p.item() == 0.9


def test_everything_that_does_not_fit_is_listed() -> None:
    p, q = leaf(1.0, 2.0), leaf(1.0, 2.0, 3.0)
    optimizer = optim.Adam([p, q])
    give(p, 1.0, 1.0)
    give(q, 1.0, 1.0, 1.0)
    optimizer.step()
    saved = optimizer.state_dict()
    other = [leaf(1.0), leaf(1.0, 2.0, 3.0, 4.0)]
    wrong = optim.SGD([{"params": other[:1]}, {"params": other[1:]}])
    with pytest.raises(ArgumentError) as caught:
        wrong.load_state_dict(saved)
    text = str(caught.value)
    for part in ("groups of [2] parameters where [1, 1]", "'betas'", "'momentum'", "'exp_avg' of parameter 0",
                 "'exp_avg_sq' of parameter 1 has shape (3,) for a parameter of shape (4,)"):  # fmt: skip
        assert part in text, text
    assert not wrong.state
    for nonsense in ({}, {"state": {}}, [1]):
        with pytest.raises(ArgumentError, match="not the state of an optimizer"):
            wrong.load_state_dict(nonsense)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: optim.GD([p], lr=-1.0), "GD: lr is -1"),
        (lambda p: optim.RMSprop([p], alpha=-0.1), "RMSprop: alpha"),
        (lambda p: optim.Adagrad([p], lr_decay=-0.1), "lr_decay"),
        (lambda p: optim.Adadelta([p], rho=1.5), "rho is 1.5"),
        (lambda p: optim.Adamax([p], betas=(1.0, 0.9)), "Adamax: betas"),
        (lambda p: optim.NAdam([p], momentum_decay=-1), "momentum_decay"),
        (lambda p: optim.RAdam([p], eps=-1), "RAdam: eps"),
        (lambda p: optim.Lion([p], weight_decay=-1), "Lion: weight_decay"),
        (lambda p: optim.LAMB([p], betas=(0.9,)), "LAMB: betas"),
        (lambda p: optim.LBFGS([{"params": [p]}, {"params": [leaf(1.0)]}]), "a second group"),
        (lambda p: optim.LBFGS([p, mg.ones(1, dtype="float32", requires_grad=True)]), "dtypes float32"),
        (lambda p: optim.LBFGS([p], line_search_fn="armijo"), "use strong_wolfe"),
        (lambda p: optim.LBFGS([p]).step(), "no closure is given"),
        (lambda p: optim.swa_utils.get_ema_avg_fn(1.5), "decay is 1.5"),
        (lambda p: optim.accumulate(lambda x: x, [], [p]), "there are no examples"),
        (lambda p: optim.accumulate(lambda x: x, [p], reduction="max"), "no reduction 'max'"),
        (lambda p: optim.find_lr(lambda: 1.0, optim.SGD([p]), [()], start_lr=2.0, end_lr=1.0), "start_lr"),
        (lambda p: optim.find_lr(lambda x: float("nan"), optim.SGD([p]), [(p,)]), "start lower"),
        (lambda p: optim.find_lr(lambda x: 1.0, optim.SGD([p]), []), "no batches"),
        (lambda p: mg.nn.clip_grad_norm_([p], -1.0), "max_norm is -1"),
        (lambda p: mg.nn.clip_grad_value_([p], float("nan")), "clip_value is nan"),
        (lambda p: optim.AveragedModel(mg.nn.ReLU(), avg_fn=max, multi_avg_fn=max), "both given"),  # type: ignore[arg-type]
    ],
)
def test_more_clear_errors(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make(leaf(1.0))


def test_a_loss_that_is_not_finite_is_found_before_it_does_harm() -> None:
    p = leaf(1.0, 1.0)
    give(p, float("nan"), 1.0)
    with pytest.raises(GradientError, match="total norm of the gradients is nan"):
        mg.nn.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad is not None
    assert p.grad[1].item() == 1.0


# -- schedules, clipping, the finder ---------------------------------------------------------------


def test_a_schedule_before_the_optimizer_is_noticed() -> None:
    import warnings

    p = leaf(1.0)
    optimizer = optim.SGD([p], lr=0.1)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match=r"before optimizer.step\(\)"):
        schedule.step()
    give(p, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        schedule.step()
        schedule.step()


SCHEDULES = optim.lr_scheduler


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda o: SCHEDULES.StepLR([o], 1), DTypeError, "the optimizer is a list"),
        (lambda o: SCHEDULES.StepLR(o, 0), ArgumentError, "step_size is 0"),
        (lambda o: SCHEDULES.StepLR(o, 1, last_epoch=3), ArgumentError, "no 'initial_lr'"),
        (lambda o: SCHEDULES.LinearLR(o, start_factor=0.0), ArgumentError, "start_factor"),
        (lambda o: SCHEDULES.ConstantLR(o, 2.0), ArgumentError, "factor is 2"),
        (lambda o: SCHEDULES.LambdaLR(o, [max, min]), ArgumentError, "2 values for 1 groups"),
        (lambda o: SCHEDULES.LambdaLR(o, 0.5), ArgumentError, "lr_lambda is a float"),
        (lambda o: SCHEDULES.CosineAnnealingLR(o, 0), ArgumentError, "T_max"),
        (lambda o: SCHEDULES.CosineAnnealingWarmRestarts(o, 0), ArgumentError, "T_0"),
        (lambda o: SCHEDULES.CyclicLR(o, 0.1, 1.0, mode="square"), ArgumentError, "there is no mode"),
        (lambda o: SCHEDULES.CyclicLR(optim.Adagrad([leaf(1.0)]), 0.1, 1.0), ArgumentError, "no momentum"),
        (lambda o: SCHEDULES.OneCycleLR(o, 0.1), ArgumentError, "how many steps"),
        (lambda o: SCHEDULES.OneCycleLR(o, 0.1, 10, anneal_strategy="sin"), ArgumentError, "no strategy"),
        (lambda o: SCHEDULES.SequentialLR(o, [SCHEDULES.StepLR(o, 1)], [1]), ArgumentError, "milestones"),
        (lambda o: SCHEDULES.ChainedScheduler([]), ArgumentError, "no schedulers"),
        (
            lambda o: SCHEDULES.ChainedScheduler([SCHEDULES.ReduceLROnPlateau(o)]),
            ArgumentError,
            "more than to be stepped",
        ),
        (
            lambda o: SCHEDULES.SequentialLR(
                o, [SCHEDULES.StepLR(o, 1), SCHEDULES.StepLR(optim.SGD([leaf(1.0)]), 1)], [1]
            ),
            ArgumentError,
            "another optimizer",
        ),
        (lambda o: SCHEDULES.ReduceLROnPlateau(o, mode="best"), ArgumentError, "no mode 'best'"),
        (lambda o: SCHEDULES.SWALR(o, 0.1, anneal_epochs=-1), ArgumentError, "anneal_epochs"),
        (lambda o: SCHEDULES.WarmupLR(o, 0), ArgumentError, "warmup_iters"),
        (
            lambda o: SCHEDULES.StepLR(o, 1).load_state_dict({"gama": 1}),
            ArgumentError,
            r"\['gama'\] too many",
        ),
        (lambda o: SCHEDULES.WarmupLR(o, 3).step(3), ArgumentError, "cannot jump"),
        (lambda o: SCHEDULES.LRScheduler(o), ArgumentError, "cannot jump"),
    ],
)
def test_schedules_refuse_nonsense(make: Any, error: Any, text: str) -> None:
    optimizer = optim.SGD([leaf(1.0)], lr=0.1, momentum=0.9)
    with pytest.raises(error, match=text):
        make(optimizer)


def test_one_cycle_knows_its_end() -> None:
    p = leaf(1.0)
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    schedule = SCHEDULES.OneCycleLR(optimizer, 0.1, total_steps=3)
    give(p, 1.0)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    with pytest.raises(ArgumentError, match="step 4 of a schedule of 3 steps"):
        schedule.step()


def test_schedules_of_schedules_start_anew() -> None:
    """A chain that begins in the middle multiplies, as it would from the start (PyTorch cannot do this)."""
    rates = []
    optimizer = optim.SGD([leaf(1.0)], lr=1.0)
    optimizer._stepped = True
    chain = SCHEDULES.ChainedScheduler(
        [SCHEDULES.ExponentialLR(optimizer, 0.5), SCHEDULES.ConstantLR(optimizer, 0.1, 2)]
    )
    schedule = SCHEDULES.WarmupLR(optimizer, 2, chain)
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    np.testing.assert_allclose(rates, [0.5, 0.75, 0.1, 0.05, 0.25, 0.125])


def test_clipping_keeps_the_gradients_memory() -> None:
    p = leaf(3.0, 4.0)
    give(p, 30.0, 40.0)
    grad = p.grad
    mg.nn.clip_grad_norm_([p], 1.0)
    assert p.grad is grad
    np.testing.assert_allclose(grad.numpy(), [0.6, 0.8], rtol=1e-6)
    mg.nn.clip_grad_value_([p], 0.7)
    np.testing.assert_allclose(grad.numpy(), [0.6, 0.7], rtol=1e-6)
    before = grad.version
    mg.nn.clip_grad_norm_([p], 100.0)
    assert grad.version > before


@pytest.mark.parametrize("compiled", [False, True])
def test_finder_puts_everything_back(compiled: bool) -> None:
    mg.manual_seed(1)
    model = mg.nn.Sequential(mg.nn.Linear(4, 8), mg.nn.BatchNorm1d(8), mg.nn.Dropout(0.5), mg.nn.Linear(8, 1))
    optimizer = optim.Adam([{"params": model[0].parameters()}, {"params": model[3].parameters(), "lr": 1e-4}])
    x, y = mg.randn(32, 4), mg.randn(32, 1)

    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    run = mg.compile(step) if compiled else step
    run(x, y)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), mg.get_rng_state()))
    found = optim.find_lr(run, optimizer, [(x, y), (x, y)], model=model, steps=50, end_lr=100.0)
    assert 1e-6 < found.suggestion < 10.0
    assert found.lrs == sorted(found.lrs)
    assert len(found.lrs) == len(found.losses)
    for key, value in before[0].items():
        np.testing.assert_array_equal(model.state_dict()[key].numpy(), value.numpy())
    after = optimizer.state_dict()
    assert after["param_groups"] == before[1]["param_groups"]
    for key, values in before[1]["state"].items():
        for name, value in values.items():
            np.testing.assert_array_equal(after["state"][key][name].numpy(), value.numpy())
    assert mg.get_rng_state() == before[2]


def test_full_batch_from_batches() -> None:
    """Gradient descent as such falls at every step, whatever the batches are that it is added up from."""
    rng = np.random.default_rng(0)
    x, y = mg.tensor(rng.normal(size=(50, 3))), mg.tensor(rng.normal(size=50))
    w = mg.zeros(3, dtype="float64", requires_grad=True)
    descent = optim.GD([w], lr=0.1)

    def loss_of(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        return ((x @ w - y) ** 2).mean()

    losses = []
    for _ in range(30):
        pairs = zip(x.split(16), y.split(16), strict=True)
        losses.append(optim.accumulate(loss_of, pairs, descent).item())
        np.testing.assert_allclose(losses[-1], loss_of(x, y).item(), rtol=1e-12)
        descent.step()
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("make", [partial(mg.optim.SGD, momentum=0.9), mg.optim.Adam])
def test_the_state_of_all_parameters_lies_in_one_piece(make: Any) -> None:
    parameters = [mg.ones(shape, requires_grad=True) for shape in ((3, 5), (), (7,), (0, 2))]
    late = mg.ones(2, requires_grad=True)
    optimizer = make([*parameters, late], lr=0.1)
    optimizer.begin(parameters, optimizer.param_groups[0])
    states = [t.numpy() for p in parameters for t in optimizer.state[p].values()]
    moments = [x for x in states if x.dtype == np.float32]
    assert [x.shape for x in moments[:: len(moments) // 4]] == [p.shape for p in parameters]
    assert len({id(owner(x)) for x in moments}) == 1
    assert all(not x.any() and x.ctypes.data % 64 == 0 for x in moments if x.size)
    spans = sorted((x.ctypes.data, x.nbytes) for x in moments if x.size)
    assert all(start + size <= after for (start, size), (after, _) in pairwise(spans))
    assert not optimizer.state[late]  # it has had no gradient yet


def owner(x: Any) -> Any:
    """The array that owns the memory of a view."""
    while x.base is not None:
        x = x.base
    return x
