"""Checkpointing: the same gradients, less memory, the same random numbers."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import autograd, nn
from minigrad.errors import ArgumentError, GradientError
from minigrad.recompute import checkpoint


def both(build):
    """Gradients with and without checkpoints."""
    results = []
    for wrap in (lambda f, *a: f(*a), checkpoint):
        mg.manual_seed(0)
        leaves, loss = build(wrap)
        results.append((loss.item(), [g.numpy() for g in autograd.grad(loss, leaves)]))
    (a, first), (b, second) = results
    assert a == b
    for g, h in zip(first, second, strict=True):
        assert np.array_equal(g, h)


def test_layers_give_the_same_gradients():
    def build(wrap):
        net = nn.Sequential(
            nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)
        )
        x = mg.randn(5, 4, requires_grad=True)
        y = wrap(lambda x: net[2](net[1](net[0](x))), x)
        return [x, *net.parameters()], wrap(lambda y: net[5](net[4](net[3](y))), y * 2.0).square().sum()

    both(build)


def test_what_is_closed_over_and_several_outputs():
    def build(wrap):
        w = mg.randn(3, requires_grad=True)
        scaled = w * 2.0  # not a leaf
        x = mg.randn(3, requires_grad=True)
        a, b, c = wrap(lambda x, k: (x * scaled * k, (x + w).exp(), x.detach()), x, 3.0)
        return [x, w], (a * b + c).sum() + a.sum()

    both(build)


def test_backward_accumulates_and_second_derivatives_flow():
    x, w = mg.tensor(2.0, requires_grad=True), mg.tensor(3.0, requires_grad=True)
    y = checkpoint(lambda x: w * x**3, x)
    (g,) = autograd.grad(y, x, create_graph=True)
    assert g.item() == 36.0
    assert [d.item() for d in autograd.grad(g, [x, w], retain_graph=True)] == [36.0, 12.0]
    y = checkpoint(lambda x: w * x**3, x)
    y.backward()
    assert (x.grad.item(), w.grad.item()) == (36.0, 8.0)


def test_intermediate_results_are_forgotten():
    seen = []

    def piece(x):
        y = x.exp()
        seen.append(weakref.ref(y))
        return y.sin()

    x = mg.ones(3, requires_grad=True)
    z = checkpoint(piece, x)
    gc.collect()
    assert seen[0]() is None
    z.sum().backward()
    assert len(seen) == 2


def test_an_argument_changed_in_place_is_an_error():
    x = mg.ones(3, requires_grad=True)
    h = x * 1.0
    y = checkpoint(lambda h: h * h, h)
    h += 1.0
    with pytest.raises(GradientError):
        y.sum().backward()


def test_without_gradients_it_is_a_call():
    with mg.no_grad():
        assert checkpoint(lambda x: x * 2.0, mg.ones(2)).tolist() == [2.0, 2.0]
    assert not checkpoint(lambda x: x * 2.0, mg.ones(2)).requires_grad
    with pytest.raises(ArgumentError, match="returned float"):
        checkpoint(lambda x: 1.0, mg.ones(2, requires_grad=True))


def test_inside_compile_it_is_what_it_was():
    w = mg.randn(3, requires_grad=True)
    f = mg.compile(lambda x: autograd.grad(checkpoint(lambda x: (x * w).exp(), x).sum(), w)[0])
    for _ in range(3):
        x = mg.randn(3)
        assert np.allclose(f(x).numpy(), (x * (x * w.detach()).exp()).numpy(), rtol=1e-5)
