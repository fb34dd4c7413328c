"""Every optimizer, every schedule, clipping and averages: a compiled step does what the eager one does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.optim import lr_scheduler as schedules

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "GD": lambda p: optim.GD(p, lr=0.05, weight_decay=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "RMSprop all": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
    "Adadelta": lambda p: optim.Adadelta(p, weight_decay=0.01, maximize=True),
    "Adam decoupled": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "Adamax": lambda p: optim.Adamax(p, lr=0.01, weight_decay=0.1),
    "NAdam": lambda p: optim.NAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "RAdam": lambda p: optim.RAdam(p, lr=0.01),
    "RAdam short": lambda p: optim.RAdam(p, lr=0.01, betas=(0.5, 0.6), weight_decay=0.1),
    "Lion": lambda p: optim.Lion(p, lr=0.001, weight_decay=0.1),
    "LAMB": lambda p: optim.LAMB(p, lr=0.01),
    "LAMB plain": lambda p: optim.LAMB(p, lr=0.01, weight_decay=0.0, maximize=True),
}


def make(dtype: str = "float64") -> nn.Module:
    mg.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def batches(count: int = 8, dtype: str = "float64") -> list[tuple[mg.Tensor, mg.Tensor]]:
    rng = np.random.default_rng(1)
    return [
        (mg.tensor(rng.normal(size=(7, 5)).astype(dtype)), mg.tensor(rng.integers(0, 3, 7)))
        for _ in range(count)
    ]


def step_of(model: nn.Module, optimizer: optim.Optimizer, before: Callable[..., Any] = lambda p: None) -> Any:
    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        before(model.parameters())
        optimizer.step()
        return loss

    return step


def agree(one: nn.Module, other: nn.Module, tolerance: float = 1e-10) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str, dtype: str) -> None:
    worlds = []
    for compiled in (False, True):
        model = make(dtype)
        optimizer = OPTIMIZERS[name](model.parameters())
        step: Any = step_of(model, optimizer)
        if compiled:
            step = mg.compile(step)
        for x, y in batches(dtype=dtype):
            step(x, y)
        worlds.append((model, optimizer))
        if compiled:
            assert step.traces == 1
    agree(worlds[0][0], worlds[1][0], 1e-10 if dtype == "float64" else 2e-4 if "RMSprop" in name else 2e-5)
    states = [optimizer.state_dict()["state"] for _, optimizer in worlds]
    for values, others in zip(states[0].values(), states[1].values(), strict=True):
        assert list(values) == list(others)
        for key in values:
            assert values[key].dtype == others[key].dtype
            tolerance = 1e-9 if dtype == "float64" else 1e-3
            got, wanted = values[key].numpy(), others[key].numpy()
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


SCHEDULES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "step": lambda o: schedules.StepLR(o, 2, 0.5),
    "cycle": lambda o: schedules.CyclicLR(o, 0.01, 0.1, 3),
    "one cycle": lambda o: schedules.OneCycleLR(o, 0.1, 8),
    "warm-up": lambda o: schedules.WarmupLR(o, 3, schedules.CosineAnnealingLR(o, 5)),
    "plateau": lambda o: schedules.ReduceLROnPlateau(o, patience=0, threshold=0.5),
}


@pytest.mark.parametrize("kind", ["SGD", "Adam", "SGD tensor"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_need_no_retrace(name: str, kind: str) -> None:
    models = []
    for compiled in (False, True):
        model = make()
        rate = mg.tensor(0.1, dtype="float64") if "tensor" in kind else 0.1
        optimizer = (
            optim.Adam(model.parameters(), lr=rate)
            if kind == "Adam"
            else optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        )
        schedule = SCHEDULES[name](optimizer)
        step: Any = step_of(model, optimizer)
        if compiled:
            step = mg.compile(step)
        for x, y in batches():
            loss = step(x, y)
            schedule.step(loss) if name == "plateau" else schedule.step()
        models.append(model)
        if compiled:
            assert (step.traces, step.cached) == (1, 1), step.reasons
    agree(*models)


CLIPS: dict[str, Callable[..., Any]] = {
    "norm": lambda p: nn.clip_grad_norm_(p, 0.1),
    "largest": lambda p: nn.clip_grad_norm_(p, 0.1, float("inf")),
    "one": lambda p: nn.clip_grad_norm_(p, 0.1, 1.0),
    "value": lambda p: nn.clip_grad_value_(p, 0.01),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clipping(name: str) -> None:
    models = []
    for compiled in (False, True):
        model = make()
        step: Any = step_of(model, optim.SGD(model.parameters(), lr=0.5), CLIPS[name])
        if compiled:
            step = mg.compile(step)
        for x, y in batches():
            step(x, y)
        models.append(model)
    agree(*models)
    plain = make()
    step = step_of(plain, optim.SGD(plain.parameters(), lr=0.5))
    for x, y in batches():
        step(x, y)
    assert abs(plain[0].weight.detach().numpy() - models[0][0].weight.detach().numpy()).max() > 1e-3


def test_a_norm_cannot_be_looked_at_in_a_trace() -> None:
    model = make()
    step = mg.compile(
        step_of(
            model,
            optim.SGD(model.parameters(), lr=0.5),
            lambda p: nn.clip_grad_norm_(p, 1.0, error_if_nonfinite=True),
        )
    )
    with pytest.raises(mg.errors.TraceError):
        step(*batches()[0])


@pytest.mark.parametrize("kind", ["swa", "ema", "buffers"])
def test_averages(kind: str) -> None:
    found = []
    for compiled in (False, True):
        model = nn.Sequential(make(), nn.BatchNorm1d(3).double())
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        averaged = optim.AveragedModel(
            model,
            multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.9) if kind == "ema" else None,
            use_buffers=kind == "buffers",
        )
        inner = step_of(model, optimizer)

        def step(x: Any, y: Any, inner: Any = inner, averaged: Any = averaged, model: Any = model) -> Any:
            loss = inner(x, y)
            averaged.update_parameters(model)
            return loss

        run: Any = mg.compile(step) if compiled else step
        for x, y in batches():
            run(x, y)
        found.append(averaged)
        if compiled:
            assert run.traces == 1
    agree(*found)
    assert found[0].n_averaged.item() == 8


def test_gradients_of_several_batches() -> None:
    """Accumulated eagerly, by a compiled step, and in one pass over all: the same."""
    data = batches(4)
    x, y = (mg.cat([batch[i] for batch in data]) for i in (0, 1))
    models = []
    for way in ("at once", "by hand", "accumulate", "compiled", "compiled accumulate"):
        model = make()
        optimizer = optim.Adam(model.parameters(), lr=0.01)

        def loss_of(x: Any, y: Any, model: Any = model) -> Any:
            return nn.functional.cross_entropy(model(x), y)

        def part(x: Any, y: Any, loss_of: Any = loss_of) -> Any:
            loss = loss_of(x, y) / 4
            loss.backward()
            return loss.detach()

        def update(optimizer: Any = optimizer) -> None:
            optimizer.step()
            optimizer.zero_grad()

        run, finish = part, update
        if way == "compiled":
            run, finish = mg.compile(part), mg.compile(update)
        for _ in range(3):
            if way == "at once":
                loss_of(x, y).backward()
            elif way == "accumulate":
                optim.accumulate(loss_of, data, optimizer)
            elif way == "compiled accumulate":

                @mg.compile
                def whole(*parts: Any, loss_of: Any = loss_of, optimizer: Any = optimizer) -> Any:
                    loss = optim.accumulate(loss_of, list(zip(parts[::2], parts[1::2], strict=True)))
                    optimizer.step()
                    optimizer.zero_grad()
                    return loss

                whole(*[t for batch in data for t in batch])
                continue
            else:
                for batch in data:
                    run(*batch)
            finish()
        models.append(model)
    for model in models[1:]:
        agree(models[0], model)


def test_lbfgs_with_a_compiled_closure() -> None:
    found = []
    for compiled in (False, True):
        model = make()
        optimizer = optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
        (x, y), *_ = batches()

        def closure(model: Any = model, optimizer: Any = optimizer, x: Any = x, y: Any = y) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss.detach()

        run: Any = mg.compile(closure) if compiled else closure
        for _ in range(3):
            optimizer.step(run)
        found.append(model)
        final = closure().item()
        assert final < 0.01
    agree(*found, 1e-6)
    with pytest.raises(mg.errors.TraceError, match="compile the closure"):
        mg.compile(lambda: optimizer.step(closure))()


def test_a_loaded_state_goes_on_without_a_second_trace_of_anything_new() -> None:
    for name in ("RMSprop all", "NAdam", "Lion"):
        model = make()
        optimizer = OPTIMIZERS[name](model.parameters())
        step = mg.compile(step_of(model, optimizer))
        data = batches()
        for x, y in data[:4]:
            step(x, y)
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        for x, y in data[4:]:
            step(x, y)
        wanted = copy.deepcopy(model.state_dict())
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        for x, y in data[4:]:
            step(x, y)
        for key, value in model.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), wanted[key].numpy())


@pytest.mark.skipif("c" not in mg.backends(), reason="no compiled extension")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_instruction_updates_all_parameters(name: str) -> None:
    params = [mg.ones(3 + k % 4, 5, requires_grad=True) for k in range(40)]
    optimizer = OPTIMIZERS[name](params)

    @mg.compile
    def step(*gradients: mg.Tensor) -> None:
        for p, g in zip(params, gradients, strict=True):
            p.grad = g
        optimizer.step()

    step(*[mg.ones(*p.shape) for p in params])
    ((entry,),) = step._cache.values()
    over_all = [d for d in entry.execute.described() if d.kernel == "lanes"]
    assert len(over_all) <= {"Adadelta": 3, "Lion": 2}.get(name, 1)
    assert sum(d.ops.count("sub") for d in over_all) >= len(params)
