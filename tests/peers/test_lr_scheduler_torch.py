"""Schedules go where PyTorch's go: learning rates and momenta of two groups over 40 steps."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim

torch = pytest.importorskip("torch")


def one(name: str, **kwargs: Any) -> Any:
    return lambda library, optimizer: getattr(library, name)(optimizer, **kwargs)


def several(name: str, *parts: Any, **kwargs: Any) -> Any:
    def make(library: Any, optimizer: Any) -> Any:
        schedules = [part(library, optimizer) for part in parts]
        if name == "SequentialLR":
            return library.SequentialLR(optimizer, schedules, **kwargs)
        return library.ChainedScheduler(schedules, **kwargs)

    return make


CASES = {
    "StepLR": one("StepLR", step_size=3),
    "StepLR gamma": one("StepLR", step_size=1, gamma=0.9),
    "MultiStepLR": one("MultiStepLR", milestones=[2, 9, 9, 20], gamma=0.5),
    "ExponentialLR": one("ExponentialLR", gamma=0.95),
    "ConstantLR": one("ConstantLR"),
    "ConstantLR all": one("ConstantLR", factor=0.25, total_iters=12),
    "LinearLR": one("LinearLR"),
    "LinearLR all": one("LinearLR", start_factor=0.1, end_factor=0.7, total_iters=13),
    "PolynomialLR": one("PolynomialLR"),
    "PolynomialLR all": one("PolynomialLR", total_iters=17, power=2.5),
    "LambdaLR": one("LambdaLR", lr_lambda=lambda e: 0.9**e),
    "LambdaLR each": one("LambdaLR", lr_lambda=[lambda e: 0.9**e, lambda e: 1 / (1 + e)]),
    "MultiplicativeLR": one("MultiplicativeLR", lr_lambda=lambda e: 1 - 0.01 * e),
    "CosineAnnealingLR": one("CosineAnnealingLR", T_max=7),
    "CosineAnnealingLR all": one("CosineAnnealingLR", T_max=16, eta_min=0.003),
    "WarmRestarts": one("CosineAnnealingWarmRestarts", T_0=4),
    "WarmRestarts all": one("CosineAnnealingWarmRestarts", T_0=3, T_mult=2, eta_min=0.01),
    "CyclicLR": one("CyclicLR", base_lr=0.01, max_lr=0.2, step_size_up=5),
    "CyclicLR 2": one("CyclicLR", base_lr=0.01, max_lr=[0.2, 0.4], step_size_up=3, step_size_down=6,
                      mode="triangular2", base_momentum=0.5, max_momentum=0.8),
    "CyclicLR exp": one("CyclicLR", base_lr=[0.01, 0.02], max_lr=0.2, step_size_up=4, mode="exp_range",
                        gamma=0.97, cycle_momentum=False),
    "CyclicLR own": one("CyclicLR", base_lr=0.01, max_lr=0.2, step_size_up=4, scale_fn=lambda x: 1 / x,
                        scale_mode="cycle"),
    "OneCycleLR": one("OneCycleLR", max_lr=0.3, total_steps=41),
    "OneCycleLR all": one("OneCycleLR", max_lr=[0.3, 0.5], epochs=6, steps_per_epoch=8, pct_start=0.4,
                          anneal_strategy="linear", base_momentum=0.6, max_momentum=0.9, div_factor=10.0,
                          final_div_factor=50.0),
    "OneCycleLR three": one("OneCycleLR", max_lr=0.3, total_steps=45, three_phase=True),
    "OneCycleLR plain": one("OneCycleLR", max_lr=0.3, total_steps=45, cycle_momentum=False),
    "Sequential": several("SequentialLR", one("LinearLR", total_iters=6), one("ExponentialLR", gamma=0.9),
                          milestones=[6]),
    "Sequential three": several("SequentialLR", one("ConstantLR", total_iters=4),
                                one("CosineAnnealingLR", T_max=9), one("StepLR", step_size=5),
                                milestones=[5, 14]),
    "Sequential restarts": several("SequentialLR", one("LinearLR", start_factor=0.01, total_iters=5),
                                   one("CosineAnnealingWarmRestarts", T_0=4, T_mult=2), milestones=[5]),
    "Sequential polynomial": several("SequentialLR", one("MultiStepLR", milestones=[2, 3]),
                                     one("PolynomialLR", total_iters=20, power=2.0), milestones=[7]),
    "Chained": several("ChainedScheduler", one("ConstantLR", factor=0.1, total_iters=5),
                       one("ExponentialLR", gamma=0.9)),
    "Chained cosine": several("ChainedScheduler", one("LinearLR", total_iters=9),
                              one("CosineAnnealingLR", T_max=11), one("StepLR", step_size=8, gamma=0.5)),
}  # fmt: skip


def worlds(kind: str = "SGD") -> list[tuple[Any, Any, Any]]:
    result = []
    for library, tensor in ((optim, mg.tensor), (torch.optim, torch.tensor)):
        params = [tensor([1.0], requires_grad=True), tensor([2.0], requires_grad=True)]
        for p in params:
            p.grad = tensor([0.5])
        kwargs = {"momentum": 0.7} if kind == "SGD" else {}
        groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.02}]
        optimizer = getattr(library, kind)(groups, lr=0.1, **kwargs)
        result.append((library.lr_scheduler, optimizer, params))
    return result


def seen(optimizer: Any) -> list[float]:
    """Learning rate and momentum of each group."""
    values = []
    for group in optimizer.param_groups:
        values += [float(group["lr"]), group["betas"][0] if "betas" in group else group["momentum"]]
    return values


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name", CASES)
def test_schedule(name: str, kind: str) -> None:
    (ours, mine, _), (theirs, other, _) = worlds(kind)
    a, b = CASES[name](ours, mine), CASES[name](theirs, other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(40):
            np.testing.assert_allclose(seen(mine), seen(other), rtol=1e-9, atol=1e-15, err_msg=f"step {step}")
            np.testing.assert_allclose(a.get_last_lr(), [float(v) for v in b.get_last_lr()], rtol=1e-9)
            mine.step()
            other.step()
            a.step()
            b.step()
            if step == 12:  # through saved states, into new objects
                saved, state = copy.deepcopy(a.state_dict()), copy.deepcopy(mine.state_dict())
                (ours, mine, _) = worlds(kind)[0]
                a = CASES[name](ours, mine)
                a.load_state_dict(saved)
                mine.load_state_dict(state)


@pytest.mark.parametrize("kwargs", [
    {},
    {"patience": 1, "factor": 0.5, "cooldown": 2},
    {"mode": "max", "patience": 0, "threshold": 0.05, "threshold_mode": "abs"},
    {"mode": "max", "patience": 2, "threshold": 0.1},
    {"patience": 1, "threshold_mode": "abs", "threshold": 0.01, "min_lr": [0.01, 0.001]},
    {"patience": 0, "factor": 0.9, "eps": 0.005, "min_lr": 0.002},
])  # fmt: skip
def test_plateau(kwargs: dict[str, Any]) -> None:
    (ours, mine, _), (theirs, other, _) = worlds()
    a, b = ours.ReduceLROnPlateau(mine, **kwargs), theirs.ReduceLROnPlateau(other, **kwargs)
    rng = np.random.default_rng(3)
    for step in range(60):
        value = 1.0 / (1 + step) + 0.05 * rng.normal() if step != 7 else float("nan")
        a.step(mg.tensor(value))
        b.step(torch.tensor(value))
        np.testing.assert_allclose(seen(mine), seen(other), rtol=1e-12)
        if step == 20:
            state = a.state_dict()
            a = ours.ReduceLROnPlateau(mine, **kwargs)
            a.load_state_dict(state)


@pytest.mark.parametrize("kwargs", [
    {}, {"anneal_epochs": 5, "anneal_strategy": "linear"}, {"anneal_epochs": 0}, {"anneal_epochs": 1},
])  # fmt: skip
def test_swalr(kwargs: dict[str, Any]) -> None:
    (_, mine, _), (_, other, _) = worlds()
    a = optim.lr_scheduler.SWALR(mine, 0.004, **kwargs)
    b = torch.optim.swa_utils.SWALR(other, 0.004, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(15):
            np.testing.assert_allclose(seen(mine), seen(other), rtol=1e-9)
            a.step()
            b.step()


def test_fractions_of_epochs() -> None:
    (ours, mine, _), (theirs, other, _) = worlds()
    for kwargs in ({"T_0": 3}, {"T_0": 2, "T_mult": 3, "eta_min": 0.01}):
        a = ours.CosineAnnealingWarmRestarts(mine, **kwargs)
        b = theirs.CosineAnnealingWarmRestarts(other, **kwargs)
        for i in range(60):
            a.step(i / 4 + 0.1)
            b.step(i / 4 + 0.1)
            np.testing.assert_allclose(seen(mine), seen(other), rtol=1e-9)


def test_going_on_from_an_epoch() -> None:
    for name in ("StepLR", "ExponentialLR", "CosineAnnealingLR", "LambdaLR", "LinearLR", "PolynomialLR"):
        (ours, mine, _), (theirs, other, _) = worlds()
        for optimizer in (mine, other):
            for group in optimizer.param_groups:
                group["initial_lr"] = 0.4
        kwargs: dict[str, Any] = {
            "StepLR": {"step_size": 3}, "ExponentialLR": {"gamma": 0.9}, "CosineAnnealingLR": {"T_max": 8},
            "LambdaLR": {"lr_lambda": lambda e: 0.9**e}, "LinearLR": {}, "PolynomialLR": {"total_iters": 9},
        }[name]  # fmt: skip
        a = getattr(ours, name)(mine, last_epoch=3, **kwargs)
        b = getattr(theirs, name)(other, last_epoch=3, **kwargs)
        mine.step()
        other.step()
        for _ in range(9):
            np.testing.assert_allclose(seen(mine), seen(other), rtol=1e-9, atol=1e-16, err_msg=name)
            a.step()
            b.step()


def test_a_learning_rate_that_is_a_tensor() -> None:
    rate = mg.tensor(0.1, dtype="float64")
    p = mg.ones(1, requires_grad=True)
    optimizer = optim.SGD([p], lr=rate)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    p.grad = mg.ones(1)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.05
