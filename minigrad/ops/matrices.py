"""Linear algebra under the names that PyTorch has outside of `linalg`, and what is made of factorisations.

Given A = L L^T, a system A x = b is two substitutions, L z = b and L^T x = z (`cholesky_solve`); its
determinant is the product of the squares on the diagonal, and so on: nothing here has a record of its own.

    >>> import minigrad as mg
    >>> a = mg.tensor([[4.0, 2.0], [2.0, 3.0]])
    >>> mg.cholesky_solve(mg.tensor([[8.0], [7.0]]), mg.linalg.cholesky(a))
    tensor([[1.25],
            [1.5 ]])

The matrix exponential is scaling and squaring with a Taylor polynomial, exp(A) = exp(A / 2^s)^(2^s), whose
terms past the 18th are below the rounding of float64 once |A / 2^s| <= 1 (1 / 19! = 8e-18): Moler & Van Loan
2003, "Nineteen dubious ways to compute the exponential of a matrix", method 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..bind import method
from ..errors import ArgumentError, ShapeError
from ..tensor import Symbol, Tensor
from . import linalg
from .contraction import matmul
from .creation import zeros
from .elementwise import where
from .indexing import getitem
from .linalg import QR
from .movement import broadcast_to
from .reduction import sum as _sum
from .reduction import vector_norm

__all__ = [
    "chain_matmul",
    "cholesky",
    "cholesky_inverse",
    "cholesky_solve",
    "det",
    "inverse",
    "logdet",
    "matrix_exp",
    "matrix_power",
    "pdist",
    "pinverse",
    "qr",
    "slogdet",
    "svd",
]

det = method("det")(linalg.det)
slogdet = method("slogdet")(linalg.slogdet)
matrix_power = method("matrix_power")(linalg.matrix_power)


@method("inverse")
def inverse(input: Tensor) -> Tensor:
    """`linalg.inv`: the inverses of square matrices (..., n, n)."""
    return linalg.inv(input)


@method("pinverse")
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """`linalg.pinv`: the pseudo-inverses; singular values up to rcond times the largest count as zero."""
    return linalg.pinv(input, rtol=rcond)


@method("logdet")
def logdet(input: Tensor) -> Tensor:
    """log det of square matrices (..., n, n): NaN where it is negative, -inf where it is 0."""
    sign, logarithm = linalg.slogdet(input)
    return where(sign < 0, math.nan, logarithm)


@method("cholesky")
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """`linalg.cholesky`: L with input = L L^T; L^T if `upper`."""
    return linalg.cholesky(input, upper=upper)


@method("cholesky_solve")
def cholesky_solve(input: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """x with A x = input (..., n, k), given the factor L of A = L L^T (or U of A = U^T U if `upper`)."""
    low = L.mT if upper else L
    return linalg.solve_triangular(low.mT, linalg.solve_triangular(low, input, upper=False), upper=True)


@method("cholesky_inverse")
def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A, given its Cholesky factor (see `cholesky_solve`)."""
    return cholesky_solve(broadcast_to(linalg._identity(L), L.shape), L, upper)


@method("qr")
def qr(input: Tensor, some: bool = True) -> QR:
    """`linalg.qr`, reduced if `some`, else complete."""
    return linalg.qr(input, "reduced" if some else "complete")


class USV(NamedTuple):
    """A = U diag(S) V^T."""

    U: Tensor
    S: Tensor
    V: Tensor


@method("svd")
def svd(input: Tensor, some: bool = True) -> USV:
    """U, S and V (not its transpose, which `linalg.svd` gives); reduced if `some`."""
    u, s, vh = linalg.svd(input, full_matrices=not some)
    return USV(u, s, vh.mT)


@method("matrix_exp")
def matrix_exp(input: Tensor) -> Tensor:
    """The exponentials of square matrices (..., n, n).

    Raises ShapeError for others.  How often to halve depends on the largest column sum; in a trace, where
    it is not known, 16 halvings are made, enough for sums of up to 65,536.
    """
    a = linalg._matrix("matrix_exp", input)
    if a.shape[-1] != a.shape[-2]:
        raise ShapeError(
            "matrix_exp", f"shape {a.shape} is not that of square matrices", fix="pass (..., n, n)"
        )
    halvings = 16
    if not isinstance(a._array, Symbol):
        most = float(np.abs(a._array).sum(-2).max(initial=0.0))
        halvings = math.ceil(math.log2(most)) if 1.0 < most < math.inf else 0
    a = a / 2.0**halvings
    one = broadcast_to(linalg._identity(a), a.shape)
    y = one
    for k in range(18, 0, -1):  # Horner's rule
        y = one + matmul(a, y) / k
    for _ in range(halvings):
        y = matmul(y, y)
    return y


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of matrices, in the order that needs the fewest multiplications."""
    return multi_dot(matrices)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of two or more matrices (the first and the last may be vectors), in the cheapest order.

    The order is found by dynamic programming over all ways to put parentheses (Cormen et al., chapter 15.2).
    Raises ShapeError if neighbours do not fit.
    """
    given = list(tensors)
    if len(given) < 2:
        raise ArgumentError("multi_dot", f"{len(given)} tensors", fix="pass at least two")
    row, column = given[0].ndim == 1, given[-1].ndim == 1
    if row:
        given[0] = given[0].unsqueeze(0)
    if column:
        given[-1] = given[-1].unsqueeze(1)
    for a, b in pairwise(given):
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
            raise ShapeError(
                "multi_dot",
                f"shapes {a.shape} and {b.shape} do not fit",
                fix="columns must be rows of the next",
            )
    sizes = [given[0].shape[0], *(t.shape[1] for t in given)]
    best: dict[tuple[int, int], tuple[int, Tensor | int]] = {(i, i): (0, -1) for i in range(len(given))}
    for length in range(1, len(given)):
        for i in range(len(given) - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )

    def product(i: int, j: int) -> Tensor:
        if i == j:
            return given[i]
        k: Any = best[i, j][1]
        return matmul(product(i, k), product(k + 1, j))

    y = product(0, len(given) - 1)
    if row:
        y = y.squeeze(0)
    return y.squeeze(-1) if column else y


def cond(A: Tensor, p: str | float | None = None) -> Tensor:
    """The condition numbers |A| |A^-1| of matrices (..., n, n), for a norm of `linalg.matrix_norm`.

    p None is the 2-norm, the largest singular value over the smallest; it and -2 take (..., m, n) as well.
    """
    if p is None or p in (2, -2):
        s = linalg.svdvals(A)
        last = s.shape[-1] - 1
        largest, smallest = getitem(s, (..., 0)), getitem(s, (..., last))
        return smallest / largest if p == -2 else largest / smallest
    return linalg.matrix_norm(A, p) * linalg.matrix_norm(linalg.inv(A), p)


class LeastSquares(NamedTuple):
    """x that makes |A x - b| smallest, the squares left over, the rank of A; the fourth is empty."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def lstsq(A: Tensor, B: Tensor, rcond: float | None = None) -> LeastSquares:
    """x (..., n, k) with |A x - B| smallest, of several the shortest; A (..., m, n), B (..., m, k) or (m,).

    Singular values up to rcond times the largest count as zero.  residuals: the sums of squares (..., k), if
    A has more rows than columns and full rank, else empty.
    """
    a = linalg._matrix("lstsq", A)
    vector = B.ndim == 1 or (B.ndim == a.ndim - 1 and B.shape == a.shape[:-1])
    b = B.unsqueeze(-1) if vector else B
    if b.ndim != a.ndim or b.shape[-2] != a.shape[-2]:
        raise ShapeError("lstsq", f"shapes {A.shape} and {B.shape}", fix="both need the same number of rows")
    x = matmul(linalg.pinv(a, rtol=rcond), b)
    rank = linalg.matrix_rank(a)
    none = zeros(0, dtype=a.dtype)
    residuals = none
    full = a.shape[-2] > a.shape[-1] and (
        isinstance(rank._array, Symbol) or bool((rank._array == a.shape[-1]).all())
    )
    if full:
        residuals = _sum((matmul(a, x) - b) ** 2, -2)
        residuals = residuals.squeeze(-1) if vector else residuals
    return LeastSquares(x.squeeze(-1) if vector else x, residuals, rank, none)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-distances of all pairs of rows i < j of (n, m), as a vector (n (n - 1) / 2,)."""
    if input.ndim != 2:
        raise ShapeError("pdist", f"shape {input.shape}", fix="pass a matrix of points, one a row")
    i, j = (Tensor(k.astype(np.int64)) for k in np.triu_indices(input.shape[0], 1))
    return vector_norm(input.index_select(0, i) - input.index_select(0, j), p, 1)
