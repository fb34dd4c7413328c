"""Linear algebra: faces, degenerate cases and refusals (values and derivatives are the laws' business)."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import linalg
from minigrad.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(7)


def tensor(*shape, **options):
    return mg.tensor(RNG.normal(size=shape), dtype=mg.float64, **options)


def spd(n):
    a = RNG.normal(size=(n, n))
    return mg.tensor(a @ a.T + n * np.eye(n), dtype=mg.float64)


def test_solve_takes_vectors_matrices_batches_and_both_sides():
    a, b = tensor(2, 3, 3), tensor(2, 3)
    assert np.allclose((a @ linalg.solve(a, b).unsqueeze(-1)).squeeze(-1).numpy(), b.numpy())
    single = tensor(3, 3)
    assert np.allclose((single @ linalg.solve(single, b[0])).numpy(), b[0].numpy())
    wide = tensor(4, 3)
    assert np.allclose((linalg.solve(single, wide, left=False) @ single).numpy(), wide.numpy())
    upper = single.triu() + 3.0 * mg.eye(3, dtype=mg.float64)
    assert np.allclose(
        (linalg.solve_triangular(upper, wide, upper=True, left=False) @ upper).numpy(), wide.numpy()
    )


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3)])
def test_factors_multiply_to_the_matrix(shape):
    a = tensor(*shape)
    for mode in ("reduced", "complete"):
        q, r = linalg.qr(a, mode)
        assert np.allclose((q @ r).numpy(), a.numpy())
        assert np.allclose((q.mT @ q).numpy(), np.eye(q.shape[-1]))
    for full in (False, True):
        u, s, vh = linalg.svd(a, full_matrices=full)
        k = min(shape[-2:])
        assert np.allclose((u[..., :k] * s.unsqueeze(-2) @ vh[..., :k, :]).numpy(), a.numpy())
        assert np.allclose((u.mT @ u).numpy(), np.eye(u.shape[-1]))
        assert np.allclose((vh @ vh.mT).numpy(), np.eye(vh.shape[-2]))
    assert np.allclose((a @ linalg.pinv(a) @ a).numpy(), a.numpy())


def test_one_triangle_may_hold_the_matrix():
    a = spd(4)
    for uplo, half in (("L", a.tril()), ("U", a.triu())):
        assert np.allclose(linalg.eigvalsh(half, UPLO=uplo).numpy(), np.linalg.eigvalsh(a.numpy()))
    with pytest.raises(ArgumentError, match="UPLO 'X'"):
        linalg.eigh(a, UPLO="X")


def test_determinant_of_a_singular_matrix_has_a_gradient():
    a = mg.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    linalg.det(a).backward()
    assert np.allclose(a.grad.numpy(), [[4.0, -2.0], [-2.0, 1.0]], atol=1e-5)
    with pytest.raises(ArgumentError, match="singular"):
        linalg.slogdet(a).logabsdet.backward()


def test_equal_eigenvalues_have_a_gradient_as_long_as_their_vectors_are_not_read():
    a = mg.eye(3, dtype=mg.float64).requires_grad_()
    linalg.eigvalsh(a).square().sum().backward()  # the sum of the squares of the elements
    assert np.allclose(a.grad.numpy(), 2.0 * np.eye(3))
    b = mg.eye(3, dtype=mg.float64).requires_grad_()
    linalg.svdvals(b).sum().backward()
    assert np.allclose(b.grad.numpy(), np.eye(3))
    c = mg.eye(3, dtype=mg.float64).requires_grad_()
    linalg.eigh(c).eigenvectors.sum().backward()
    assert np.isnan(c.grad.numpy()).any()


def test_powers_and_rank():
    a = spd(3) * 0.1
    for n in (-2, -1, 0, 1, 2, 5):
        assert np.allclose(linalg.matrix_power(a, n).numpy(), np.linalg.matrix_power(a.numpy(), n))
    low = tensor(4, 1) @ tensor(1, 4)
    assert linalg.matrix_rank(mg.stack([low, tensor(4, 4)])).tolist() == [1, 4]


@pytest.mark.parametrize("ord", ["fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf])
@pytest.mark.parametrize("keepdim", [False, True])
def test_matrix_norms_are_numpys(ord, keepdim):
    a = tensor(2, 3, 4)
    got = linalg.matrix_norm(a, ord, keepdim=keepdim).numpy()
    assert np.allclose(got, np.linalg.norm(a.numpy(), ord, (-2, -1), keepdims=keepdim))
    assert got.shape == ((2, 1, 1) if keepdim else (2,))
    moved = linalg.matrix_norm(a, ord, dim=(2, 0), keepdim=keepdim).numpy()
    assert np.allclose(moved, np.linalg.norm(a.numpy(), ord, (2, 0), keepdims=keepdim))


def test_the_norm_of_zero_has_gradient_zero():
    x = mg.zeros(3, requires_grad=True)
    for p in (2, 3, 1.5, 0.5):
        x.grad = None
        x.norm(p).backward()
        assert x.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("program", "error", "says"),
    [
        (lambda: linalg.inv(mg.ones(2, 2)), ArgumentError, ["inv", "singular", "pinv", "test_linalg.py"]),
        (lambda: linalg.inv(mg.stack([mg.eye(2), mg.ones(2, 2)])), ArgumentError, ["number 1 of the batch"]),
        (lambda: linalg.inv(mg.ones(2, 3)), ShapeError, ["(2, 3)", "square"]),
        (lambda: linalg.inv(mg.ones(2, 2).long()), DTypeError, ["int64", ".float()"]),
        (lambda: linalg.inv([[1.0]]), DTypeError, ["a list", "mg.tensor"]),
        (lambda: linalg.solve(mg.eye(3), mg.ones(2)), ShapeError, ["3 unknowns", "2 rows"]),
        (
            lambda: linalg.solve_triangular(mg.ones(2, 2).tril(-1), mg.ones(2, 1), upper=False),
            ArgumentError,
            ["zero on its diagonal"],
        ),
        (
            lambda: linalg.cholesky(mg.tensor([[1.0, 2.0], [0.0, 1.0]])),
            ArgumentError,
            ["not symmetric", "(a + a.mT) / 2"],
        ),
        (lambda: linalg.cholesky(-mg.eye(2)), ArgumentError, ["not positive definite"]),
        (lambda: linalg.eigh(mg.tensor([[1.0, 2.0], [0.0, 1.0]])), ArgumentError, ["not symmetric", "UPLO"]),
        (lambda: linalg.svd(mg.tensor([[1.0, math.nan]])), ArgumentError, ["NaN or Inf"]),
        (lambda: linalg.qr(mg.eye(2), "full"), ArgumentError, ["mode 'full'", "complete"]),
        (lambda: linalg.matrix_norm(mg.eye(2), 3), ArgumentError, ["ord 3", "nuc"]),
        (lambda: linalg.norm(mg.ones(2, 2, 2), 1), ArgumentError, ["3 dimensions"]),
        (lambda: mg.norm(mg.ones(3), "l2"), ArgumentError, ["'l2'"]),
        (lambda: linalg.cross(mg.ones(2), mg.ones(2)), ShapeError, ["size 3"]),
        (lambda: mg.inner(mg.ones(2), mg.ones(3)), ShapeError, ["(2,) and (3,)"]),
        (lambda: mg.tensordot(mg.ones(2, 3), mg.ones(2, 3), 1), ShapeError, ["do not pair up"]),
        (lambda: mg.addmm(mg.ones(5), mg.eye(2), mg.eye(2)), ShapeError, ["(5,)", "(2, 2)"]),
        (lambda: mg.cdist(mg.ones(2, 3), mg.ones(2, 4)), ShapeError, ["(2, 3)", "(2, 4)"]),
    ],
)
def test_refusals_say_what_to_do(program, error, says):
    with pytest.raises(error) as caught:
        program()
    for piece in says:
        assert piece in str(caught.value)


def test_a_compiled_function_takes_factorisations_along():
    f = mg.compile(lambda a: linalg.eigh(a @ a.mT + mg.eye(3)).eigenvalues.log().sum())
    for _ in range(3):
        a = mg.randn(3, 3)
        assert np.allclose(
            f(a).item(), np.log(np.linalg.eigvalsh(a.numpy() @ a.numpy().T + np.eye(3))).sum(), rtol=1e-4
        )
