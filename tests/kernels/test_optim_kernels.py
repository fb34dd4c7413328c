"""Optimizer kernels against their formulas in float64, over lists of tensors, for every table."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.backends import c, update

pytestmark = pytest.mark.skipif(not c.available, reason=c.reason)

SIZES = [(5,), (), (0,), (300, 7), (1, 33), (8192,), (20001,), (16,)]


def tensors(rng, dtype):
    return [np.asarray(rng.normal(size=s).astype(dtype)) for s in SIZES]


def sgd64(p, g, m, first, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    g = (-g if maximize else g) + weight_decay * p
    if momentum:
        m = g if first else momentum * m + (1 - dampening) * g
        g = g + momentum * m if nesterov else m
    return p - lr * g, m


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
        {"momentum": 0.8, "nesterov": True},
        {"momentum": 0.8, "nesterov": True, "maximize": True},
    ],
)
def test_sgd(isa, dtype, options):
    rng = np.random.default_rng(1)
    params = tensors(rng, dtype)
    momenta = [np.zeros_like(p) for p in params] if "momentum" in options else None
    exact = [p.astype(np.float64) for p in params]
    buffers = [np.zeros(p.shape) for p in params]
    for step in range(3):
        grads = tensors(rng, dtype)
        update.sgd(params, grads, momenta, lr=0.1, first=step == 0, **options)
        for i, g in enumerate(grads):
            exact[i], buffers[i] = sgd64(
                exact[i], g.astype(np.float64), buffers[i], step == 0, 0.1, **options
            )
    eps = np.finfo(dtype).eps
    for p, e in zip(params, exact, strict=True):
        np.testing.assert_allclose(p, e, rtol=20 * eps, atol=20 * eps)


def adam64(p, g, m, v, top, t, lr, betas, eps, weight_decay, decoupled, maximize):
    g = -g if maximize else g
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    m = m + (g - m) * (1 - betas[0])
    v = betas[1] * v + (1 - betas[1]) * g * g
    top = np.maximum(top, v)
    return p, m, v, top, lr / (1 - betas[0] ** t), np.sqrt(1 - betas[1] ** t)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled": True},
        {"betas": (0.5, 0.9), "eps": 1e-3, "maximize": True},
        {"betas": (0.0, 0.0)},
    ],
)
def test_adam(isa, dtype, options, amsgrad):
    rng = np.random.default_rng(2)
    full = {
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "decoupled": False,
        "maximize": False,
    } | options
    params = tensors(rng, dtype)
    m, v = ([np.zeros_like(p) for p in params] for _ in range(2))
    top = [np.zeros_like(p) for p in params] if amsgrad else None
    exact = [[p.astype(np.float64), np.zeros(p.shape), np.zeros(p.shape), np.zeros(p.shape)] for p in params]
    for t in range(1, 5):
        grads = tensors(rng, dtype)
        update.adam(params, grads, m, v, t, top, lr=0.01, **options)
        for e, g in zip(exact, grads, strict=True):
            *e[:], step, root = adam64(e[0], g.astype(np.float64), *e[1:], t, 0.01, **full)
            e[0] = e[0] - step * e[1] / (np.sqrt(e[3] if amsgrad else e[2]) / root + full["eps"])
    eps = np.finfo(dtype).eps
    for p, e in zip(params, exact, strict=True):
        np.testing.assert_allclose(p, e[0], rtol=50 * eps, atol=500 * eps)  # m may cancel


def test_against_torch(isa):
    torch = pytest.importorskip("torch")
    for make, options in [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
        (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    ]:
        rng = np.random.default_rng(3)
        mine = tensors(rng, np.float32)
        theirs = [torch.from_numpy(p.copy()).requires_grad_() for p in mine]
        optimizer = make(theirs, **options)
        m, v, top = ([np.zeros_like(p) for p in mine] for _ in range(3))
        o = dict(options)
        amsgrad = o.pop("amsgrad", False)
        for t in range(1, 4):
            grads = tensors(rng, np.float32)
            for p, g in zip(theirs, grads, strict=True):
                p.grad = torch.from_numpy(g.copy())
            optimizer.step()
            if make is torch.optim.SGD:
                update.sgd(mine, grads, m, first=t == 1, **o)
            else:
                update.adam(
                    mine, grads, m, v, t, top if amsgrad else None, decoupled=make is torch.optim.AdamW, **o
                )
        for p, q in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(p, q.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_nan_and_infinity_stay(isa):
    p, g = np.ones(40, np.float32), np.zeros(40, np.float32)
    g[3], g[20] = np.nan, np.inf
    m, v = np.zeros_like(p), np.zeros_like(p)
    update.adam([p], [g], [m], [v], 1)
    assert np.isnan(p[[3, 20]]).all()
    assert np.isfinite(np.delete(p, [3, 20])).all()
    assert (np.delete(p, [3, 20]) == 1).all()  # no gradient, no change


def test_unaligned_and_guarded(isa):
    for n in (1, 15, 16, 17, 8191, 8193):
        for offset in (0, 1, 3):
            buffers = [np.full(n + 8, 7, np.float32) for _ in range(4)]
            p, g, m, v = (b[offset : offset + n] for b in buffers)
            m[:], v[:] = 0, 0
            update.adam([p], [g], [m], [v], 1, lr=0.5)
            np.testing.assert_allclose(p, 6.5, rtol=1e-6)
            for b in buffers:
                assert (b[:offset] == 7).all()
                assert (b[offset + n :] == 7).all()


def test_same_bits_for_any_number_of_threads(threads):
    results = []
    for n in (1, 2):
        threads(n)
        rng = np.random.default_rng(4)
        params, grads = tensors(rng, np.float32), tensors(rng, np.float32)
        m, v = ([np.zeros_like(p) for p in params] for _ in range(2))
        for t in range(1, 4):
            update.adam(params, grads, m, v, t)
        results.append(params)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_refused():
    p, g = np.ones(10, np.float32), np.ones(10, np.float32)
    frozen = p.copy()
    frozen.flags.writeable = False
    for arguments in ([frozen], [g]), ([p], [g.astype(np.float64)]), ([p], [g[:5]]), ([p[::2]], [g[::2]]):
        assert not update.usable(*arguments)
        with pytest.raises(ValueError, match="writable, contiguous"):
            update.sgd(*arguments, lr=0.1)
    with pytest.raises(ValueError, match="overlap"):
        update.sgd([p, p], [g, g], lr=0.1)
    with pytest.raises(ValueError, match="arguments that it does not support"):
        update.sgd([p], [g], lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match="arguments that it does not support"):
        update.adam([p], [g], [p.copy()], [p.copy()], 0)
    update.sgd([], [], lr=0.1)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_bits_do_not_depend_on_where_the_arrays_lie(isa, decay, amsgrad):
    rng = np.random.default_rng(6)
    values = rng.normal(size=(5, 77)).astype(np.float32)
    values[3:] **= 2
    found = []
    for shift in range(16):
        memory = np.zeros((5, 77 + 32), np.float32)
        p, g, m, v, top = (row[shift : shift + 77] for row in memory)
        for row, value in zip((p, g, m, v, top), values, strict=True):
            row[...] = value
        update.adam([p], [g], [m], [v], 3, [top] if amsgrad else None, lr=0.1, weight_decay=decay)
        results = [p.copy(), m.copy(), v.copy()]
        for nesterov in (False, True):
            for first in (False, True):
                update.sgd(
                    [p], [g], [m], lr=0.1, momentum=0.9, weight_decay=decay, nesterov=nesterov, first=first
                )
                results += [p.copy(), m.copy()]
        found.append(results)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
