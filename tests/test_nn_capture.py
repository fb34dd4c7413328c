"""Every module and every loss inside `mg.compile` gives what it gives outside.

One law over the samples of `samples_nn`: outputs, gradients of inputs and parameters, buffers and random
numbers, for the recording and for replays with other values.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import samples_nn

import minigrad as mg
from minigrad import nn

pytestmark = pytest.mark.filterwarnings("ignore")


def _step(sample: samples_nn.Sample, module: Any) -> Any:
    """Forward and backward as a function of the inputs: outputs and gradients."""

    def step(*inputs: Any) -> Any:
        xs = [x.detach() for x in inputs]
        learn = [x for x in xs if x.dtype.kind == "f"]
        for x in learn:
            x.requires_grad_()
        ys = sample.run(mg, module, xs, mg.tensor)
        total = mg.tensor(0.0, dtype="float64")
        for y in ys:
            if y.requires_grad:
                total = total + (y * y).sum()
        wanted = [*learn, *module.parameters()]
        if not total.requires_grad:
            return [y.detach() for y in ys]
        grads = mg.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        return [*(y.detach() for y in ys), *grads]

    return step


@pytest.mark.parametrize("sample", [*samples_nn.MODULES, *samples_nn.LOSSES], ids=str)
def test_captured_is_eager(sample: samples_nn.Sample) -> None:
    module = sample.make(mg, mg.tensor)
    other = copy.deepcopy(module)
    eager, captured = _step(sample, module), mg.compile(_step(sample, other))
    rng = np.random.default_rng(0)
    for k in range(3):
        inputs = [mg.tensor(x) for x in sample.draw(rng)]
        mg.manual_seed(k)
        wanted = eager(*inputs)
        after = mg.random.get_rng_state()
        mg.manual_seed(k)
        got = captured(*inputs)
        assert mg.random.get_rng_state() == after
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)
        for a, b in zip(other.buffers(), module.buffers(), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)
    assert captured.traces == 1


def test_the_law_objects() -> None:
    """A module that keeps a count in Python, which capture bakes in, is found."""

    class Counts(nn.Module):
        count = 0.0

        def forward(self, x: mg.Tensor) -> mg.Tensor:
            type(self).count += 1.0
            return x * type(self).count

    class Planted(samples_nn.Sample):
        def make(self, library: Any, tensor: Any) -> Any:
            return Counts()

    with pytest.raises(AssertionError):
        test_captured_is_eager(Planted("Counts", inputs=((3, 4),)))
