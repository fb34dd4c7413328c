"""Functions of numpy that are handed tensors: the operation of the same meaning, with numpy's arguments."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, GradientError, TraceError
from minigrad.ops.array_functions import FACES

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(3, 3)), RNG.normal(size=(2, 3, 4))
S = A @ A.T + 3 * np.eye(3)
CASES = {
    np.sum: [((B,), {}), ((B, 1), {}), ((B,), {"axis": (0, 2), "keepdims": True})],
    np.prod: [((B,), {}), ((B,), {"axis": 1})],
    np.mean: [((B,), {}), ((B, 0), {})],
    np.max: [((B,), {}), ((B, -1), {})],
    np.min: [((B,), {"axis": (0, 1)})],
    np.amax: [((B,), {})],
    np.amin: [((B, 0), {})],
    np.any: [((B > 0,), {}), ((B > 0, 1), {})],
    np.all: [((B > 0, 1), {"keepdims": True})],
    np.argmax: [((B,), {}), ((B, 1), {})],
    np.argmin: [((B,), {"axis": -1})],
    np.var: [((B,), {}), ((B, 1), {}), ((B,), {"axis": 0, "ddof": 1})],
    np.std: [((B,), {})],
    np.cumsum: [((B,), {}), ((B, 1), {})],
    np.cumprod: [((B,), {}), ((B,), {"axis": -1})],
    np.concatenate: [(([B, B],), {}), (([B, B], 1), {}), (([B, A],), {"axis": None})],
    np.stack: [(([B, B],), {}), (([B, B], -1), {})],
    np.hstack: [(([A, A],), {})],
    np.vstack: [(([A, A],), {})],
    np.dstack: [(([A, A],), {})],
    np.where: [((A > 0, A, 0.0), {})],
    np.dot: [
        ((A, A), {}),
        ((A[0], A[1]), {}),
        ((B, RNG.normal(size=(4, 5))), {}),
        ((A, np.float64(2.0)), {}),
        ((RNG.normal(size=(2, 3)), RNG.normal(size=(5, 3, 4))), {}),
    ],
    np.inner: [((A, A), {}), ((A[0], A[0]), {})],
    np.outer: [((A[0], A[1]), {}), ((A, A), {})],
    np.kron: [((A, A), {})],
    np.tensordot: [((A, A), {}), ((B, B, ([0, 1], [0, 1])), {}), ((A, A, 1), {}), ((B, A, (1, 0)), {})],
    np.transpose: [((B,), {}), ((B, (1, 0, 2)), {})],
    np.swapaxes: [((B, 0, 2), {})],
    np.moveaxis: [((B, 0, -1), {})],
    np.reshape: [((B, (6, 4)), {}), ((B, -1), {}), ((B, (2, -1)), {})],
    np.ravel: [((B,), {})],
    np.squeeze: [((B[:1],), {}), ((B[:1], 0), {})],
    np.expand_dims: [((B, 1), {}), ((B, (0, -1)), {}), ((B, -1), {})],
    np.broadcast_to: [((A, (2, 3, 3)), {})],
    np.tile: [((A, 2), {}), ((A, (2, 1, 3)), {})],
    np.repeat: [((A, 2), {}), ((A, 2, 1), {})],
    np.flip: [((B,), {}), ((B, 1), {}), ((B, (0, 2)), {})],
    np.roll: [((B, 2), {}), ((B, 1, 0), {})],
    np.clip: [((A, -0.5, 0.5), {}), ((A, None, 0.1), {})],
    np.sort: [((B,), {}), ((B, 0), {}), ((B, None), {})],
    np.take_along_axis: [((A, np.argsort(A, 1), 1), {})],
    np.diag: [((A,), {}), ((A[0], 1), {})],
    np.diagonal: [((B,), {}), ((B, 1, 1, 2), {})],
    np.trace: [((A,), {})],
    np.tril: [((A,), {}), ((A, 1), {})],
    np.triu: [((A, -1), {})],
    np.zeros_like: [((A,), {})],
    np.ones_like: [((A,), {})],
    np.linalg.norm: [
        ((A,), {}),
        ((A[0],), {}),
        ((A, 1), {}),
        ((A, "fro"), {}),
        ((A, 2), {}),
        ((B,), {}),
        ((B, None, 1), {}),
        ((A, np.inf), {}),
        ((A, None, 1, True), {}),
    ],
    np.linalg.inv: [((A,), {})],
    np.linalg.det: [((A,), {})],
    np.linalg.solve: [((A, A), {}), ((A, A[0]), {})],
    np.linalg.cholesky: [((S,), {})],
    np.linalg.pinv: [((A,), {})],
}


def tensors(value):
    if isinstance(value, np.ndarray):
        return mg.tensor(value)
    return list(map(tensors, value)) if type(value) is list else value


def test_every_function_has_cases():
    assert set(CASES) == set(FACES)


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_like_numpy(function):
    for args, options in CASES[function]:
        wanted = function(*args, **options)
        got = function(*map(tensors, args), **options)
        assert isinstance(got, mg.Tensor)
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-10, atol=1e-12)


def test_gradients_flow():
    x = mg.tensor(B, requires_grad=True)
    np.sum(np.concatenate([x, B], axis=1) * 2.0).backward()
    assert (x.grad.numpy() == 2.0).all()
    step = mg.compile(lambda t: np.mean(np.transpose(t), axis=0))
    np.testing.assert_allclose(step(x.detach()).numpy(), B.T.mean(0), rtol=1e-12)


def test_what_cannot_be():
    x = mg.ones(2, 2, requires_grad=True)
    with pytest.raises(GradientError, match=r"numpy\.percentile.*detach"):
        np.percentile(x, 50)
    assert np.percentile(x.detach(), 50) == 1.0
    with pytest.raises(DTypeError, match=r"numpy\.sum with out"):
        np.sum(x, out=np.zeros(()))
    with pytest.raises(DTypeError, match=r"numpy\.max with initial"):
        np.max(x, initial=3.0)
    with pytest.raises(ArgumentError, match="nonzero"):
        np.where(x > 0)
    with pytest.raises(TraceError, match=r"numpy\.percentile"):
        mg.compile(lambda t: mg.tensor(np.percentile(t, 50)))(x)


def test_trace_of_a_matrix():
    assert mg.trace(mg.tensor(A)).item() == pytest.approx(np.trace(A))
