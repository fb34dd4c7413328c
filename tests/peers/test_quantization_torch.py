"""Codes, ranges and straight-through gradients are PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import quantization
from minigrad.ops import quantized as q8

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")

CASES = [(0.1, 0, 0), (0.037, 128, 1), (1.5, 255, 2), (3.0e-3, 7, 3)]


@pytest.mark.parametrize(("scale", "zero", "seed"), CASES)
def test_codes(scale, zero, seed):
    x = (np.random.default_rng(seed).normal(size=(40, 50)) * 200 * scale).astype(np.float32)
    ours = q8.quantize(mg.as_tensor(x), float(np.float32(scale)), zero)
    theirs = torch.quantize_per_tensor(torch.from_numpy(x), scale, zero, torch.quint8)
    # they divide by a double; a code may differ where a value is halfway
    differ = ours.numpy().astype(int) - theirs.int_repr().numpy().astype(int)
    assert np.abs(differ).max() <= 1
    assert (differ != 0).mean() < 0.002
    same = q8.dequantize(mg.as_tensor(theirs.int_repr().numpy()), float(np.float32(scale)), zero)
    np.testing.assert_allclose(same.numpy(), theirs.dequantize().numpy(), rtol=1e-6)


@pytest.mark.parametrize(("scale", "zero", "seed"), CASES)
def test_fake_quantization_and_its_gradient(scale, zero, seed):
    x = (np.random.default_rng(seed).normal(size=(30, 20)) * 200 * scale).astype(np.float32)
    ours = mg.tensor(x, requires_grad=True)
    y = quantization.fake_quantize(ours, mg.tensor(scale), float(zero))
    y.sum().backward()
    theirs = torch.from_numpy(x).requires_grad_()
    wanted = torch.fake_quantize_per_tensor_affine(theirs, scale, zero, 0, 255)
    wanted.sum().backward()
    near = np.abs(y.detach().numpy() - wanted.detach().numpy()) < 0.5 * scale
    assert near.mean() > 0.998
    assert (ours.grad.numpy() == theirs.grad.numpy()).mean() > 0.998


def test_learned_scale():
    x = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    s = np.random.default_rng(1).uniform(0.01, 0.02, 8).astype(np.float32)
    g = np.random.default_rng(2).normal(size=(8, 16)).astype(np.float32)
    ours, scale = mg.tensor(x, requires_grad=True), mg.tensor(s, requires_grad=True)
    (quantization.fake_quantize(ours, scale.reshape(8, 1), 0.0, -127, 127) * mg.tensor(g)).sum().backward()
    theirs, their_scale = torch.from_numpy(x).requires_grad_(), torch.from_numpy(s).requires_grad_()
    learnable = torch._fake_quantize_learnable_per_channel_affine
    y = learnable(theirs, their_scale, torch.zeros(8), 0, -127, 127, 1.0)
    (y * torch.from_numpy(g)).sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)
    np.testing.assert_allclose(scale.grad.numpy(), their_scale.grad.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_ranges(seed):
    from torch.ao.quantization import observer

    rng = np.random.default_rng(seed)
    batches = [(rng.normal(size=(9, 9)) * 3 + seed).astype(np.float32) for _ in range(3)]
    ours, theirs = quantization.MinMax(), observer.MinMaxObserver(dtype=torch.quint8)
    for batch in batches:
        ours.observe(batch)
        theirs(torch.from_numpy(batch))
    scale, zero = theirs.calculate_qparams()
    mine = quantization.scale_and_zero_point(*ours.range())
    assert mine[0] == pytest.approx(scale.item(), rel=1e-6)
    assert mine[1] == zero.item()


def test_channels():
    from torch.ao.quantization import observer

    w = np.random.default_rng(0).normal(size=(6, 30)).astype(np.float32)
    theirs = observer.PerChannelMinMaxObserver(
        dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-127, quant_max=127
    )
    theirs(torch.from_numpy(w))
    scale, _ = theirs.calculate_qparams()
    codes, mine = quantization.quantize_weights(w)
    np.testing.assert_allclose(mine, scale.numpy(), rtol=1e-6)
    wanted = torch.quantize_per_channel(torch.from_numpy(w), scale, torch.zeros(6), 0, torch.qint8)
    assert np.array_equal(codes, wanted.int_repr().numpy())
