"""Linear algebra beside torch.linalg: values and gradients in float64, factors up to their free signs."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(3)


def well(*shape):
    u, s, v = np.linalg.svd(RNG.normal(size=shape), full_matrices=False)
    return (u * (np.arange(s.shape[-1])[::-1] + 1.0)) @ v


def spd(*shape):
    a = RNG.normal(size=shape)
    return a @ a.swapaxes(-1, -2) + np.eye(shape[-1]) * shape[-1]


def gauge_free(svd):
    u, s, vh = svd
    return (u * s.sqrt().unsqueeze(-2)) @ vh


def sym(m, x):
    return (x + x.mT) / 2


ROWS = {
    "inv": (lambda m, a: m.linalg.inv(a), [well(3, 3)]),
    "inv batch": (lambda m, a: m.linalg.inv(a), [well(2, 3, 3)]),
    "solve": (lambda m, a, b: m.linalg.solve(a, b), [well(3, 3), RNG.normal(size=(3, 2))]),
    "solve vector": (lambda m, a, b: m.linalg.solve(a, b), [well(2, 3, 3), RNG.normal(size=(2, 3))]),
    "solve right": (lambda m, a, b: m.linalg.solve(a, b, left=False), [well(3, 3), RNG.normal(size=(2, 3))]),
    "solve_triangular": (
        lambda m, a, b: m.linalg.solve_triangular(a, b, upper=True),
        [well(3, 3) + 4 * np.eye(3), RNG.normal(size=(3, 2))],
    ),
    "solve_triangular unit right": (
        lambda m, a, b: m.linalg.solve_triangular(a, b, upper=False, left=False, unitriangular=True),
        [well(3, 3), RNG.normal(size=(2, 3))],
    ),
    "det": (lambda m, a: m.linalg.det(a), [well(2, 3, 3)]),
    "slogdet": (lambda m, a: m.linalg.slogdet(a)[1], [well(2, 3, 3)]),
    "cholesky": (lambda m, a: m.linalg.cholesky(sym(m, a)), [spd(3, 3)]),
    "cholesky upper": (lambda m, a: m.linalg.cholesky(sym(m, a), upper=True), [spd(2, 3, 3)]),
    "qr": (lambda m, a: m.linalg.qr(a)[0] ** 2 @ m.linalg.qr(a)[1] ** 2, [well(4, 3)]),
    "qr wide": (lambda m, a: m.linalg.qr(a)[1] ** 2, [well(3, 5)]),
    "eigvalsh": (lambda m, a: m.linalg.eigvalsh(sym(m, a)), [spd(4, 4)]),
    "eigh": (lambda m, a: m.linalg.eigh(sym(m, a))[1] ** 2, [spd(4, 4)]),
    "svdvals": (lambda m, a: m.linalg.svdvals(a), [well(3, 5)]),
    "svd": (lambda m, a: gauge_free(m.linalg.svd(a, full_matrices=False)), [well(2, 4, 3)]),
    "pinv": (lambda m, a: m.linalg.pinv(a), [well(4, 3)]),
    "matrix_power": (lambda m, a: m.linalg.matrix_power(a, 5), [well(3, 3) / 3]),
    "matrix_power negative": (lambda m, a: m.linalg.matrix_power(a, -3), [well(3, 3)]),
    "matrix_power 0": (lambda m, a: m.linalg.matrix_power(a, 0), [well(2, 3, 3)]),
    "norm": (lambda m, a: m.linalg.norm(a), [well(2, 4, 3)]),
    "norm matrix": (lambda m, a: m.linalg.norm(a, "nuc"), [well(4, 3)]),
    "norm vector": (lambda m, a: m.linalg.norm(a, 3, dim=0), [well(4, 3)]),
    "Tensor.norm": (lambda m, a: a.norm(p=1.5, dim=(0, 1), keepdim=True), [well(4, 3)]),
    "addmm": (
        lambda m, c, a, b: m.addmm(c, a, b, beta=0.5, alpha=2),
        [RNG.normal(size=3), RNG.normal(size=(2, 4)), RNG.normal(size=(4, 3))],
    ),
    "baddbmm": (
        lambda m, c, a, b: m.baddbmm(c, a, b, beta=0, alpha=-1.5),
        [RNG.normal(size=(2, 2, 3)), RNG.normal(size=(2, 2, 4)), RNG.normal(size=(2, 4, 3))],
    ),
    "inner": (lambda m, a, b: m.inner(a, b), [RNG.normal(size=(2, 4)), RNG.normal(size=(3, 2, 4))]),
    "tensordot": (
        lambda m, a, b: m.tensordot(a, b, 2),
        [RNG.normal(size=(2, 3, 4)), RNG.normal(size=(3, 4, 2))],
    ),
    "tensordot dims": (
        lambda m, a, b: m.tensordot(a, b, ([0, 2], [2, 0])),
        [RNG.normal(size=(2, 3, 4)), RNG.normal(size=(4, 5, 2))],
    ),
    "tensordot 0": (lambda m, a, b: m.tensordot(a, b, 0), [RNG.normal(size=(2,)), RNG.normal(size=(3,))]),
    "kron": (lambda m, a, b: m.kron(a, b), [RNG.normal(size=(2, 3)), RNG.normal(size=(2, 1, 4))]),
    "cross": (lambda m, a, b: m.cross(a, b, 1), [RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3, 4))]),
    "linalg.cross": (
        lambda m, a, b: m.linalg.cross(a, b),
        [RNG.normal(size=(2, 1, 3)), RNG.normal(size=(1, 4, 3))],
    ),
}
ROWS |= {
    "logdet": (lambda m, a: m.logdet(a) + a.logdet(), [spd(2, 3, 3)]),
    "top level": (lambda m, a: m.det(a) * m.slogdet(a)[1] + m.inverse(a).sum((-1, -2)), [well(2, 3, 3)]),
    "cholesky_solve": (
        lambda m, a, b: m.cholesky_solve(b, m.cholesky(sym(m, a))),
        [spd(2, 3, 3), RNG.normal(size=(2, 3, 2))],
    ),
    "cholesky_solve upper": (
        lambda m, a, b: m.cholesky_solve(b, m.linalg.cholesky(sym(m, a), upper=True), upper=True),
        [spd(3, 3), RNG.normal(size=(3, 2))],
    ),
    "cholesky_inverse": (lambda m, a: m.cholesky_inverse(m.linalg.cholesky(sym(m, a))), [spd(3, 3)]),
    "pinverse": (lambda m, a: m.pinverse(a) + m.qr(a)[1].sum() * 0, [well(4, 3)]),
    "torch.svd": (lambda m, a: m.svd(a)[1].sum() + (m.svd(a)[2] ** 2), [well(4, 3)]),
    "matrix_exp": (lambda m, a: m.matrix_exp(a * 3) + m.linalg.matrix_exp(a), [RNG.normal(size=(2, 3, 3))]),
    "top matrix_power": (lambda m, a: m.matrix_power(a, 3), [well(3, 3)]),
    "multi_dot": (
        lambda m, a, b, c, d: m.linalg.multi_dot([a, b, c, d]),
        [RNG.normal(size=s) for s in ((2, 5), (5, 3), (3, 6), (6,))],
    ),
    "chain_matmul": (
        lambda m, a, b, c: m.chain_matmul(a, b, c),
        [RNG.normal(size=s) for s in ((9, 2), (2, 8), (8, 3))],
    ),
    "cond": (lambda m, a: m.linalg.cond(a) + m.linalg.cond(a.detach(), "fro"), [well(2, 3, 3)]),
    "lstsq": (
        lambda m, a, b: m.linalg.lstsq(a, b)[0],
        [well(5, 3), RNG.normal(size=(5, 2))],
    ),
    "lstsq wide": (lambda m, a, b: m.linalg.lstsq(a, b)[0], [well(2, 4), RNG.normal(size=(2, 2))]),
    "linalg.matmul": (lambda m, a: m.linalg.matmul(a, a) + m.linalg.diagonal(a), [well(3, 3)]),
    "pdist": (
        lambda m, a: m.nn.functional.pdist(a) + m.nn.functional.pdist(a, 3.0),
        [RNG.normal(size=(5, 3))],
    ),
}
for p in (0.0, 0.7, 1.0, 2.0, 3.5, math.inf, -math.inf):
    ROWS[f"vector_norm {p}"] = (lambda m, a, p=p: m.linalg.vector_norm(a, p, dim=1), [well(4, 3)])
for p in (1.0, 2.0, 3.0, math.inf):
    for n in (4, 30):
        ROWS[f"cdist {p} {n}"] = (
            lambda m, a, b, p=p: m.cdist(a, b, p),
            [RNG.normal(size=(2, n, 3)), RNG.normal(size=(n + 1, 3))],
        )
for ord in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
    ROWS[f"matrix_norm {ord}"] = (
        lambda m, a, ord=ord: m.linalg.matrix_norm(a, ord, keepdim=True),
        [well(2, 4, 3)],
    )


@pytest.mark.parametrize("name", ROWS)
def test_value_and_gradients(name):
    program, arrays = ROWS[name]
    ours = [mg.tensor(x, dtype=mg.float64, requires_grad=True) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = program(mg, *ours), program(torch, *theirs)
    assert tuple(y.shape) == tuple(z.shape)
    assert np.allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-9)
    if not z.requires_grad:
        return
    u = RNG.normal(size=y.shape)
    y.backward(mg.tensor(u, dtype=mg.float64))
    z.backward(torch.tensor(u))
    for a, b in zip(ours, theirs, strict=True):
        if b.grad is not None and a.grad is not None:
            assert np.allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-8, atol=1e-8)
        else:
            assert b.grad is None or not b.grad.any()
