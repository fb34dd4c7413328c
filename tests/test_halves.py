"""A forward and a backward program of their own give what the tape gives, in any order of calls."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import samples_nn

import minigrad as mg
from minigrad import nn
from minigrad.halves import Halves, Whole

pytestmark = pytest.mark.filterwarnings("ignore")


def close(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got.detach().numpy(), wanted.detach().numpy(), rtol=1e-10, atol=1e-12)


def same(module: Any, other: Any) -> None:
    """The same buffers, and gradients of parameters."""
    for a, b in zip(other.buffers(), module.buffers(), strict=True):
        close(a, b)
    for p, q in zip(other.parameters(), module.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            close(p.grad, q.grad)


@pytest.mark.parametrize("sample", samples_nn.MODULES, ids=str)
def test_halves_are_the_tape(sample: samples_nn.Sample) -> None:
    """Two micro-batches there, then both back, twice: results, gradients and buffers; one trace."""
    module = sample.make(mg, mg.tensor)
    other = copy.deepcopy(module)
    split = Halves(lambda *xs: sample.run(mg, other, list(xs), mg.tensor), other.parameters)
    rng = np.random.default_rng(0)
    for step in range(2):
        batches = [[mg.tensor(x) for x in sample.draw(rng)] for _ in range(2)]
        cotangents, wanted, backs = [], [], []
        mg.manual_seed(step)
        for batch in batches:
            xs = [x.detach() for x in batch]
            for x in xs:
                x.requires_grad_(x.dtype.kind == "f")
            ys = sample.run(mg, module, xs, mg.tensor)
            cotangents.append(
                [None if y.dtype.kind != "f" else mg.tensor(rng.normal(size=y.shape)) for y in ys]
            )
            wanted.append((xs, ys))
        mg.manual_seed(step)
        for batch, (_, ys) in zip(batches, wanted, strict=True):
            got, back = split(*batch)
            backs.append(back)
            for a, b in zip(got, ys, strict=True):
                close(a, b)
        for (xs, ys), gs, back in zip(wanted, cotangents, backs, strict=True):
            pairs = [(y, g) for y, g in zip(ys, gs, strict=True) if y.requires_grad]
            if pairs:
                mg.autograd.backward([y for y, _ in pairs], [g for _, g in pairs])
            floats = [g for g in gs if g is not None]
            found = back([g for g, wanted in zip(floats, back.wanted, strict=True) if wanted])
            for x, gx in zip(xs, found, strict=True):
                if gx is not None:
                    close(gx, mg.zeros(*x.shape) if x.grad is None else x.grad)
        same(module, other)
        if step == 0:  # into gradients that are there, and into none
            module.zero_grad()
            other.zero_grad()
    assert split.traces == 1


def test_a_whole_step_is_one_program() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    other = copy.deepcopy(module)

    def loss(target: Any, x: Any) -> Any:
        y = other(x)
        return nn.functional.mse_loss(y, target), y

    whole = Whole(loss, other.parameters, fixed=1)
    for k in range(4):
        rng = np.random.default_rng(k)
        x, target = (mg.tensor(rng.normal(size=(5, n))) for n in (3, 2))
        point = x.detach().requires_grad_()
        y = module(point)
        (nn.functional.mse_loss(y, target) * 0.25).backward()
        (value, shown), (gx,) = whole(mg.tensor(0.25), target, x)
        close(shown, y)
        close(value, nn.functional.mse_loss(y, target))
        close(gx, point.grad)
        same(module, other)
    assert whole.traces == 2  # without gradients that are there, and with


def test_what_a_program_would_lose_is_refused() -> None:
    secret = mg.ones(2, requires_grad=True)
    kept: list[Any] = []

    def keeps(x: Any) -> Any:
        y = x * 2.0
        y.retain_grad()
        kept.append(y)
        return y

    class Own(mg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.x = x  # and not by save_for_backward
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 2.0 * g * ctx.x

    def changes(x: Any) -> Any:
        y = x * 1.0
        z = y.exp() * y
        y.add_(1.0)
        return z

    for function, error, match in (
        (lambda x: x * secret, mg.errors.TraceError, "is no parameter of the module"),
        (keeps, mg.errors.TraceError, "is to be kept"),
        (Own.apply, mg.errors.TraceError, "another trace"),
        (changes, mg.errors.GradientError, "was changed in place"),
        (lambda x: (x, "text"), mg.errors.DTypeError, "returned a str"),
    ):
        with pytest.raises(error, match=match):
            Halves(function, list)(mg.ones(2))


def test_state_that_a_forward_pass_changes_is_kept_as_it_was() -> None:
    """A buffer that grows with every micro-batch: the way back needs the value that it had."""

    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", mg.ones(2))
            self.weight = nn.Parameter(mg.ones(2))

        def forward(self, x: mg.Tensor) -> mg.Tensor:
            with mg.no_grad():
                self.scale.assign(self.scale * 2.0)
            return x * self.weight * self.scale

    model = Growing()
    split = Halves(model, model.parameters)
    backs = [split(mg.ones(2))[1] for _ in range(3)]
    assert [back([mg.ones(2)])[0].tolist() for back in backs] == [[2, 2], [4, 4], [8, 8]]
    assert model.weight.grad.tolist() == [14, 14]
