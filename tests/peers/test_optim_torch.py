"""Optimizers walk exactly where PyTorch's walk: 20 steps in float64, every keyword argument varied."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim

torch = pytest.importorskip("torch")

SHAPES = [(3, 4), (4,), (), (2, 1, 3)]

SGD = [
    {"lr": 0.05},
    {"lr": 0.05, "momentum": 0.9},
    {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
    {"lr": 0.05, "momentum": 0.8, "nesterov": True},
    {"lr": 0.05, "weight_decay": 0.1},
    {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
]
ADAM: list[dict[str, Any]] = [
    {"lr": 0.05, "betas": b, "eps": e, "weight_decay": w, "amsgrad": a, "maximize": m}
    for b, e, w, a, m in itertools.product(
        [(0.9, 0.999), (0.5, 0.8)], [1e-8, 1e-3], [0.0, 0.1], [False, True], [False, True]
    )
]


def _grid(base: dict[str, Any], **choices: list[Any]) -> list[dict[str, Any]]:
    """Every combination of the choices, on top of the defaults alone."""
    rows = [dict(zip(choices, row, strict=True)) for row in itertools.product(*choices.values())]
    return [{}, *({**base, **row} for row in rows)]


BOTH: list[Any] = [False, True]
OTHERS = {
    "RMSprop": _grid(
        {"lr": 0.02},
        alpha=[0.99, 0.5],
        eps=[1e-8, 1e-2],
        weight_decay=[0.0, 0.1],
        momentum=[0.0, 0.8],
        centered=BOTH,
        maximize=BOTH,
    ),
    "Adagrad": _grid(
        {"lr": 0.1},
        lr_decay=[0.0, 0.2],
        weight_decay=[0.0, 0.1],
        initial_accumulator_value=[0.0, 0.5],
        eps=[1e-10, 1e-2],
        maximize=BOTH,
    ),
    "Adadelta": _grid(
        {"lr": 0.5}, rho=[0.9, 0.5, 1.0], eps=[1e-6, 1e-2], weight_decay=[0.0, 0.1], maximize=BOTH
    ),
    "Adamax": _grid(
        {"lr": 0.05},
        betas=[(0.9, 0.999), (0.5, 0.8)],
        eps=[1e-8, 1e-2],
        weight_decay=[0.0, 0.1],
        maximize=BOTH,
    ),
    "NAdam": _grid(
        {"lr": 0.05},
        betas=[(0.9, 0.999), (0.5, 0.8)],
        eps=[1e-8, 1e-2],
        weight_decay=[0.0, 0.1],
        momentum_decay=[4e-3, 0.3],
        decoupled_weight_decay=BOTH,
        maximize=BOTH,
    ),
    "RAdam": _grid(
        {"lr": 0.05},
        betas=[(0.9, 0.999), (0.5, 0.8), (0.9, 0.6), (0.5, 0.0)],
        eps=[1e-8, 1e-2],
        weight_decay=[0.0, 0.1],
        decoupled_weight_decay=BOTH,
        maximize=BOTH,
    ),
}
CASES: dict[str, list[dict[str, Any]]] = {
    "SGD": SGD,
    "Adam": [{}, *ADAM, {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}],
    "AdamW": [{}, *ADAM],
    **OTHERS,
}


@pytest.fixture(autouse=True)
def _double():
    """NAdam keeps the product of its momenta in PyTorch's default dtype: in float64 here, as ours is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def _problem(seed: int) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    rng = np.random.default_rng(seed)
    start = [np.asarray(rng.normal(size=s)) for s in SHAPES]
    targets = [[np.asarray(rng.normal(size=s)) for s in SHAPES] for _ in range(20)]
    return start, targets


def _agree(mine: list[Any], theirs: list[Any], tolerance: float = 1e-12) -> None:
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(
            a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance / 100
        )


@pytest.mark.parametrize("backend", ["numpy", "default"])
@pytest.mark.parametrize("name", CASES)
def test_trajectory(name: str, backend: str) -> None:
    cases = CASES[name] if backend == "numpy" else CASES[name][::3]
    with mg.backend("numpy") if backend == "numpy" else contextlib.nullcontext():
        for kwargs in cases:
            _walk(name, kwargs)


def _walk(name: str, kwargs: dict[str, Any]) -> None:
    start, targets = _problem(1)
    mine = [mg.tensor(a, requires_grad=True) for a in start]
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    a = getattr(optim, name)(mine, **kwargs)
    b = getattr(torch.optim, name)(theirs, **kwargs)
    for step, row in enumerate(targets):
        for group_a, group_b in zip(a.param_groups, b.param_groups, strict=True):
            if step == 10:  # what a schedule does
                group_a["lr"] *= 0.5
                group_b["lr"] *= 0.5
        a.zero_grad()
        b.zero_grad()
        sum((p - mg.tensor(t)).tanh().sum() for p, t in zip(mine, row, strict=True)).backward()
        sum((p - torch.tensor(t)).tanh().sum() for p, t in zip(theirs, row, strict=True)).backward()
        if step == 5:  # no gradient: neither value nor step count may move
            mine[1].grad = theirs[1].grad = None
        a.step()
        b.step()
        for p, q in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(
                p.detach().numpy(), q.detach().numpy(), rtol=1e-10, atol=1e-12, err_msg=f"{name} {kwargs}"
            )


def test_groups_and_continuation() -> None:
    start, targets = _problem(2)
    mine = [mg.tensor(a, requires_grad=True) for a in start]
    theirs = [torch.tensor(a, requires_grad=True) for a in start]

    def make(module: Any, params: list[Any]) -> Any:
        return module.AdamW(
            [{"params": params[:2]}, {"params": params[2:], "lr": 0.2, "betas": (0.5, 0.9)}], lr=0.1
        )

    a, b = make(optim, mine), make(torch.optim, theirs)
    for step, row in enumerate(targets):
        if step == 7:  # through a saved state
            old, a, b_state = a, make(optim, mine), b.state_dict()
            a.load_state_dict(old.state_dict())
            b = make(torch.optim, theirs)
            b.load_state_dict(b_state)
        for p, q, t in zip(mine, theirs, row, strict=True):
            p.grad, q.grad = mg.tensor(t), torch.tensor(t)
        a.step()
        b.step()
        _agree(mine, theirs)
    ours, torchs = a.state_dict(), b.state_dict()
    assert [g["params"] for g in ours["param_groups"]] == [g["params"] for g in torchs["param_groups"]]
    assert {k: set(v) for k, v in ours["state"].items()} == {k: set(v) for k, v in torchs["state"].items()}


def _to_torch(value: Any) -> Any:
    """A state of ours as PyTorch's."""
    if isinstance(value, mg.Tensor):
        return torch.tensor(value.detach().numpy()).to(torch.float64)
    if isinstance(value, dict):
        return {k: _to_torch(v) for k, v in value.items()}
    return [_to_torch(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", [*CASES, "amsgrad", "momentum"])
def test_states_travel_both_ways(name: str) -> None:
    """Ten steps here, ten there, ten here: the state is loaded from the other library each time."""
    kind = {"amsgrad": "Adam", "momentum": "SGD"}.get(name, name)
    kwargs = {"amsgrad": {"amsgrad": True}, "momentum": {"momentum": 0.9}}.get(name, {})
    start, targets = _problem(4)
    mine = [mg.tensor(a, requires_grad=True) for a in start]
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    alone = [torch.tensor(a, requires_grad=True) for a in start]
    a = getattr(optim, kind)(mine, lr=0.02, **kwargs)
    b = getattr(torch.optim, kind)(theirs, lr=0.02, **kwargs)
    c = getattr(torch.optim, kind)(alone, lr=0.02, **kwargs)
    here = True
    for step, row in enumerate(targets):
        if step in (7, 14):
            here = not here
            if here:
                a.load_state_dict(b.state_dict())
                for p, q in zip(mine, theirs, strict=True):
                    p.assign(q.detach().numpy())
            else:
                b.load_state_dict(_to_torch(a.state_dict()))
                with torch.no_grad():
                    for p, q in zip(mine, theirs, strict=True):
                        q.copy_(torch.tensor(p.detach().numpy()))
        for p, q, r, t in zip(mine, theirs, alone, row, strict=True):
            p.grad, q.grad, r.grad = mg.tensor(t), torch.tensor(t), torch.tensor(t)
        (a if here else b).step()
        c.step()
        _agree(mine if here else theirs, alone, 1e-9)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"lr": 0.1},
        {"lr": 0.05, "max_iter": 4, "history_size": 2},
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "max_iter": 3, "history_size": 3, "lr": 0.7},
        {"line_search_fn": "strong_wolfe", "max_iter": 7, "max_eval": 5},
        {"line_search_fn": "strong_wolfe", "tolerance_grad": 1e-2},
        {"line_search_fn": "strong_wolfe", "tolerance_change": 1e-3},
    ],
)
@pytest.mark.parametrize("problem", ["rosenbrock", "wells", "regression"])
def test_lbfgs(problem: str, kwargs: dict[str, Any]) -> None:
    rng = np.random.default_rng(7)
    start = [rng.normal(size=(3,)), rng.normal(size=(2, 2)), np.asarray(0.3)]
    design, target = rng.normal(size=(30, 3)), rng.normal(size=30)

    def loss_of(library: Any, p: Any) -> Any:
        a, b, c = p
        if problem == "rosenbrock":
            x = library.cat([a, b.reshape(-1), c.reshape(1)])
            return ((1 - x[:-1]) ** 2).sum() + 10 * ((x[1:] - x[:-1] ** 2) ** 2).sum()
        if problem == "wells":
            return sum((q**4 - 3 * q**2 + q).sum() for q in p) + (3 * a).sin().sum()
        return ((library.tensor(design) @ a + c - library.tensor(target)) ** 2).mean() + (b**2).sum()

    losses: list[list[float]] = []
    worlds = []
    for library, made in ((mg, optim.LBFGS), (torch, torch.optim.LBFGS)):
        p = [library.tensor(v, requires_grad=True) for v in start]
        optimizer = made(p, **kwargs)
        losses.append([])

        def closure(library: Any = library, p: Any = p, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = loss_of(library, p)
            loss.backward()
            losses[-1].append(loss.item())
            return loss

        for step in range(5):
            if step == 3:  # through a saved state
                saved = optimizer.state_dict()
                optimizer = made(p, **kwargs)
                optimizer.load_state_dict(saved)
                closure.__defaults__ = (library, p, optimizer)
            optimizer.step(closure)
        worlds.append((p, optimizer.state_dict()["state"][0]))
    if not np.isfinite(losses[1]).all() or max(losses[1]) > 1e6:
        pytest.skip("diverges in both")
    assert len(losses[0]) == len(losses[1])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9, atol=1e-13)
    (p, mine), (q, theirs) = worlds
    _agree(p, q, 1e-7)
    assert {*mine, "al"} == set(theirs)  # PyTorch's scratch
    assert (mine["func_evals"], mine["n_iter"]) == (theirs["func_evals"], theirs["n_iter"])
    assert len(mine["old_dirs"]) == len(theirs["old_dirs"])
