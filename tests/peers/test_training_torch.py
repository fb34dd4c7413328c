"""Clipping and averages of weights, beside PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _double():
    """PyTorch takes shares such as 1 / (n + 1) in its default dtype: in float64 here, as ours are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def pairs(seed: int = 0) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(seed)
    mine, theirs = [], []
    for shape in [(3, 4), (5,), (), (2, 1, 2)]:
        value, g = rng.normal(size=shape), rng.normal(size=shape)
        p, q = mg.tensor(value, requires_grad=True), torch.tensor(value, requires_grad=True)
        if shape != (5,):
            p.grad, q.grad = mg.tensor(g), torch.tensor(g)
        mine.append(p)
        theirs.append(q)
    return mine, theirs


@pytest.mark.parametrize("kind", [2.0, 1.0, 3.0, 0.5, math.inf, -math.inf, 0.0])
@pytest.mark.parametrize("limit", [0.0, 0.1, 3.0, 1e4])
def test_clip_by_norm(kind: float, limit: float) -> None:
    mine, theirs = pairs()
    a = nn.utils.clip_grad_norm_(mine, limit, norm_type=kind)
    b = torch.nn.utils.clip_grad_norm_(theirs, limit, norm_type=kind)
    np.testing.assert_allclose(a.item(), b.item(), rtol=1e-12)
    for p, q in zip(mine, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-11)


def test_clip_by_value_and_one_tensor() -> None:
    mine, theirs = pairs()
    nn.utils.clip_grad_value_(mine, 0.4)
    torch.nn.utils.clip_grad_value_(theirs, 0.4)
    nn.utils.clip_grad_norm_(mine[0], 0.7)
    torch.nn.utils.clip_grad_norm_(theirs[0], 0.7)
    for p, q in zip(mine, theirs, strict=True):
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(
        nn.utils.parameters_to_vector(mine).detach().numpy(),
        torch.nn.utils.parameters_to_vector(theirs).detach().numpy(),
    )


def test_nothing_to_clip() -> None:
    p = mg.ones(2, requires_grad=True)
    assert nn.utils.clip_grad_norm_([p], 1.0).item() == 0.0
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0.0


def test_infinite_gradients() -> None:
    for bad in (math.inf, math.nan):
        p, q = mg.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        p.grad, q.grad = mg.tensor([bad, 1.0]), torch.tensor([bad, 1.0])
        nn.utils.clip_grad_norm_([p], 1.0)
        torch.nn.utils.clip_grad_norm_([q], 1.0)
        np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())


def models() -> tuple[Any, Any]:
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double()
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    ).double()
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    return ours, theirs


AVERAGES: dict[str, Any] = {
    "swa": lambda u: {},
    "swa buffers": lambda u: {"use_buffers": True},
    "ema": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.9)},
    "ema one by one": lambda u: {"avg_fn": u.get_ema_avg_fn(0.8)},
    "swa by name": lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()},
    "own": lambda u: {"avg_fn": lambda a, p, n: 0.3 * a + 0.7 * p},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages(name: str) -> None:
    ours, theirs = models()
    a = optim.swa_utils.AveragedModel(ours, **AVERAGES[name](optim.swa_utils))
    b = torch.optim.swa_utils.AveragedModel(theirs, **AVERAGES[name](torch.optim.swa_utils))
    one, other = optim.SGD(ours.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
    rng = np.random.default_rng(5)
    batches = [rng.normal(size=(6, 3)) for _ in range(5)]
    for x in batches:
        one.zero_grad()
        other.zero_grad()
        (ours(mg.tensor(x)) ** 2).mean().backward()
        (theirs(torch.tensor(x)) ** 2).mean().backward()
        one.step()
        other.step()
        a.update_parameters(ours)
        b.update_parameters(theirs)
    mine, wanted = a.state_dict(), b.state_dict()
    assert set(mine) == set(wanted)
    for key, value in wanted.items():
        if name == "swa buffers" and value.dtype == torch.int64:
            continue  # PyTorch averages even counts of batches, in integers; ours are copied
        np.testing.assert_allclose(mine[key].numpy(), value.numpy(), rtol=1e-10, err_msg=key)
    optim.update_bn([(mg.tensor(x), 1) for x in batches], a)
    torch.optim.swa_utils.update_bn([(torch.tensor(x), 1) for x in batches], b)
    for key, value in b.state_dict().items():
        np.testing.assert_allclose(a.state_dict()[key].numpy(), value.numpy(), rtol=1e-10, err_msg=key)


def test_functional_call_and_its_derivatives() -> None:
    """MAML's inner step, gradients of each example, an ensemble; with a shared weight, and buffers."""
    data = np.random.default_rng(0).normal(size=(5, 3))
    found = []
    for m in (mg, torch):
        net = m.nn.Sequential(m.nn.Linear(3, 3), m.nn.Tanh(), m.nn.Linear(3, 3), m.nn.BatchNorm1d(3)).double()
        with m.no_grad():
            for k, p in enumerate(net.parameters()):
                p.copy_(m.tensor(np.sin(np.arange(p.numel()).reshape(p.shape) + k)))
        net[2].weight = net[0].weight
        net.eval()
        x, func = m.tensor(data), m.func
        parameters = dict(net.named_parameters())

        def loss(p, x, net=net, func=func):
            return func.functional_call(net, p, (x,)).square().sum()

        inner = m.autograd.grad(loss(parameters, x), tuple(parameters.values()), create_graph=True)
        fast = {n: p - 0.1 * g for (n, p), g in zip(parameters.items(), inner, strict=True)}
        loss(fast, x).backward()
        plain = {n: p.detach() for n, p in parameters.items()}
        gradient, value = func.grad_and_value(loss)(plain, x)
        rows = func.vmap(func.grad(loss), in_dims=(None, 0))(plain, x.unsqueeze(1))
        stacked, buffers = func.stack_module_state([net, net])
        both = func.vmap(lambda p, b, net=net, x=x, func=func: func.functional_call(net, (p, b), (x,)))(
            stacked, buffers
        )
        found.append([value, both, *gradient.values(), *rows.values(), *(p.grad for p in net.parameters())])
        assert net[2].weight is net[0].weight is parameters["0.weight"]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-10)
