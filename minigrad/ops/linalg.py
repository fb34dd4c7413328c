"""Linear algebra: inverses, factorisations and what is made of them, with their derivatives.

The values come from numpy's LAPACK; the derivatives are ours.  Each is found the same way: take
differentials of the equation that defines the output, solve for dY, and read the cotangent off
<g, dY>.  For the inverse, A Y = I gives dA Y + A dY = 0, so

    dY = -Y dA Y          and          gA = -Y^T g Y^T

An operation has one output, so a factorisation gives its factors in one vector, one after the
other; the faces cut it up with views.  One node, one call of LAPACK, and a cotangent for all
factors at once:

    >>> import minigrad as mg
    >>> a = mg.tensor([[2.0, 1.0], [1.0, 2.0]], requires_grad=True)
    >>> values, vectors = mg.linalg.eigh(a)
    >>> values
    tensor([1., 3.], grad_fn=<reshape>)
    >>> values[1].backward()               # d lambda = v^T dA v
    >>> a.grad
    tensor([[0.5, 0.5],
            [0.5, 0.5]])

**Degenerate cases.**  Eigenvectors of equal eigenvalues may be turned into each other freely: they are
no function of the matrix.  A loss of the eigenvalues alone still has its gradient; one that reads
such vectors gets NaN where the gap divides, never a number that looks right.  The same holds for
equal singular values.  Matrices that must be symmetric are checked to be (PyTorch reads one
triangle and says nothing).

References: Giles 2008, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation"; Murray 2016 (arXiv 1602.07527) for Cholesky; Walter & Lehmann 2018
(doi 10.1007/s00200-018-0354-6) for QR; Townsend 2016, "Differentiating the singular value
decomposition"; Golub & Pereyra 1973 (doi 10.1137/0710036) for the pseudo-inverse.

Left out: non-symmetric eigenvalues (`eig`), which are complex in general; complex numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..bind import primitive
from ..errors import ArgumentError, DTypeError, Refusal, ShapeError
from ..ir import Spec, is_float
from ..tensor import Tensor
from . import elementwise as _e
from .contraction import _matmul
from .contraction import cross as _cross
from .creation import eye as _eye
from .movement import _reshape, broadcast_to, cat, one_dim, slice_dim, tril, triu, unsqueeze
from .reduction import all_dims, vector_norm

__all__ = [
    "cholesky",
    "cross",
    "det",
    "eigh",
    "eigvalsh",
    "inv",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "vector_norm",
]


# -- arguments -------------------------------------------------------------------------------------


def _matrix(op: str, a: Any) -> Tensor:
    if not isinstance(a, Tensor):
        raise DTypeError(op, f"given a {type(a).__name__}", fix="pass a Tensor: mg.tensor(...)")
    if a.ndim < 2:
        raise ShapeError(op, f"shape {a.shape} is not a matrix", fix="pass (..., rows, columns)")
    if not is_float(a.dtype):
        raise DTypeError(op, f"is defined for floating point, not {a.dtype}", fix="convert with .float()")
    return a


def _square_shape(a: Spec) -> Spec:
    if len(a.shape) < 2 or a.shape[-1] != a.shape[-2]:
        raise Refusal(f"shape {a.shape} is not that of square matrices", "pass (..., n, n)")
    if not is_float(a.dtype):
        raise Refusal(f"is defined for floating point, not {a.dtype}", "convert with .float()", DTypeError)
    return a


def _rows_columns(a: Spec) -> tuple[int, int]:
    if len(a.shape) < 2:
        raise Refusal(f"shape {a.shape} is not that of matrices", "pass (..., rows, columns)")
    if not is_float(a.dtype):
        raise Refusal(f"is defined for floating point, not {a.dtype}", "convert with .float()", DTypeError)
    return a.shape[-2], a.shape[-1]


#: How far a matrix may be from symmetric, as a share of its largest element, before it is refused.
#: Rounding in float32 stays far below it, and a forgotten transpose far above.
ASYMMETRY = 1e-3


def _symmetric(a: Any) -> Any:
    """(A + A^T) / 2, and a Refusal if A is not symmetric."""
    t = a.swapaxes(-1, -2)
    gap = np.abs(a - t).max(initial=0.0)
    if gap > ASYMMETRY * np.abs(a).max(initial=0.0):
        raise Refusal(
            f"the matrix is not symmetric: elements differ by up to {gap:.3g} from their mirror images",
            "pass (a + a.mT) / 2, or say which triangle holds (UPLO='L' of eigh)",
            ArgumentError,
        )
    return 0.5 * (a + t)


def _finite(a: Any) -> Any:
    if not np.isfinite(a).all():
        raise Refusal(
            "the matrix has NaN or Inf",
            "look for the first one with autograd.detect_anomaly()",
            ArgumentError,
        )
    return a


def _lapack(function: Any, a: Any, *rest: Any, problem: str, fix: str) -> Any:
    """Call LAPACK; what it cannot do becomes a sentence that says which matrix of a batch it was."""
    try:
        return function(a, *rest)
    except np.linalg.LinAlgError:
        which = ""
        if a.ndim > 2:
            for index in np.ndindex(a.shape[:-2]):
                try:
                    function(a[index], *(r[index] if r.ndim > 2 else r for r in rest))
                except np.linalg.LinAlgError:
                    which = f" (number {index[0] if len(index) == 1 else index} of the batch)"
                    break
        raise Refusal(f"the matrix{which} is {problem}", fix, ArgumentError) from None


def _well(rng: Any, *shape: int) -> Any:
    """Random matrices far from singular, with well separated singular values."""
    a = rng.normal(size=shape)
    u, s, v = np.linalg.svd(a, full_matrices=False)
    return (u * np.broadcast_to(np.arange(1.0, s.shape[-1] + 1)[::-1], s.shape)[..., None, :]) @ v


def _spd(rng: Any, *shape: int) -> Any:
    """Symmetric positive definite matrices with well separated eigenvalues."""
    u = np.linalg.qr(rng.normal(size=shape))[0]
    a = (u * np.arange(1.0, shape[-1] + 1)) @ u.swapaxes(-1, -2)
    return (a + a.swapaxes(-1, -2)) / 2


def _identity(like: Tensor) -> Tensor:
    return _eye(like.shape[-1], dtype=like.dtype)


# -- inverse, solve, determinant ----------------------------------------------------------------------

_SINGULAR = "singular: it has no inverse"
_SINGULAR_FIX = "use linalg.pinv for a least-squares solution, or add a small multiple of the identity"


def _square_samples(rng: Any) -> list[Any]:
    shapes = ((3, 3), (2, 2, 2), (1, 1), (0, 0), (2, 0, 0))
    return [((_well(rng, *s) if math.prod(s) else np.zeros(s),), ()) for s in shapes] + [
        ((_well(rng, 4, 4).T,), ())
    ]


_inv = primitive(
    "inv",
    kind="opaque",
    inputs=("input",),
    kernel=lambda a: _lapack(np.linalg.inv, a, problem=_SINGULAR, fix=_SINGULAR_FIX),
    shape=_square_shape,
    vjp=(lambda g, y: -_matmul(_matmul(y.mT, g), y.mT),),
    traits={"batched": True, "refuses": True},
    samples=_square_samples,
    reference=lambda a: np.linalg.solve(a, np.broadcast_to(np.eye(a.shape[-1]), a.shape)),
    doc="the inverses of square matrices",
)


def inv(A: Tensor) -> Tensor:
    """The inverses of square matrices (..., n, n).

    To solve a system use `solve`, which is faster and more accurate than a product with the inverse.
    Raises ArgumentError for an exactly singular matrix.  Source of the gradient: Giles 2008, 2.2.3.
    """
    return _inv(_matrix("inv", A))


def _solve_shape(a: Spec, b: Spec, *attrs: Any) -> Spec:
    _square_shape(a)
    _rows_columns(b)
    if a.shape[-1] != b.shape[-2]:
        raise Refusal(
            f"shapes {a.shape} and {b.shape}: {a.shape[-1]} unknowns, but {b.shape[-2]} rows on the right",
            "the right side is (..., n, k), or (n,) for one system",
        )
    if a.dtype != b.dtype:
        raise Refusal(f"dtypes {a.dtype} and {b.dtype} differ", "convert one with .to(dtype)", DTypeError)
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise Refusal(
            f"batch sizes of shapes {a.shape} and {b.shape} do not broadcast",
            "sizes of leading dimensions must be equal or 1",
        ) from None
    return Spec((*batch, *b.shape[-2:]), b.dtype)


def _solve_samples(rng: Any) -> list[Any]:
    shapes = (((3, 3), (3, 2)), ((2, 3, 3), (3, 1)), ((2, 2), (2, 2, 3)), ((1, 1), (1, 1)), ((2, 2), (2, 0)))
    return [((_well(rng, *a), rng.normal(size=b)), ()) for a, b in shapes]


_solve = primitive(
    "solve",
    kind="opaque",
    inputs=("input", "other"),
    kernel=lambda a, b: _lapack(np.linalg.solve, a, b, problem=_SINGULAR, fix=_SINGULAR_FIX),
    shape=_solve_shape,
    vjp=(
        lambda g, y, input: -_matmul(_solve(input.mT, g), y.mT),
        lambda g, input: _solve(input.mT, g),
    ),
    traits={"batched": True, "refuses": True},
    samples=_solve_samples,
    reference=lambda a, b: np.linalg.inv(a) @ b,
    error=256.0,  # the reference multiplies by the inverse; samples have condition numbers of up to 3
    doc="X with A X = B",
)


def _is_vector(a: Tensor, b: Tensor) -> bool:
    """PyTorch's rule: B is a batch of vectors if it is 1-d or has the shape of A without one dimension."""
    return b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A X = B, for A (..., n, n) and B (..., n, k) or (..., n); X A = B if not `left`.

    Batches broadcast.  gB = A^-T g and gA = -gB X^T (Giles 2008, 2.3.1).
    Raises ArgumentError for an exactly singular matrix, ShapeError for sizes that do not fit.
    """
    A = _matrix("solve", A)
    if not isinstance(B, Tensor):
        raise DTypeError(
            "solve", f"the right side is a {type(B).__name__}", fix="pass a Tensor: mg.tensor(...)"
        )
    if not left:
        return _solve(A.mT, _matrix("solve", B).mT).mT
    if _is_vector(A, B):
        return _solve(A, unsqueeze(B, -1)).squeeze(-1)
    return _solve(A, B)


def _mask(upper: bool, unitriangular: bool, a: Any) -> Any:
    """The triangle that is read, as arrays or as tensors."""
    if isinstance(a, Tensor):
        if unitriangular:
            return (triu(a, 1) if upper else tril(a, -1)) + _identity(a)
        return triu(a) if upper else tril(a)
    if unitriangular:
        return (np.triu(a, 1) if upper else np.tril(a, -1)) + np.eye(a.shape[-1], dtype=a.dtype)
    return np.triu(a) if upper else np.tril(a)


def _substitute(a: Any, b: Any, upper: bool, unitriangular: bool) -> Any:
    """Forward or backward substitution, a column of A at a time, all systems of a batch at once.

    LAPACK's general solver exchanges rows, which for a triangle costs accuracy and time.
    """
    n = a.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x = np.array(np.broadcast_to(b, (*batch, *b.shape[-2:])))
    diagonal = np.ones(n, a.dtype) if unitriangular else np.diagonal(a, axis1=-2, axis2=-1)
    if not np.all(diagonal):
        raise Refusal(
            "the triangular matrix has a zero on its diagonal: it is singular", _SINGULAR_FIX, ArgumentError
        )
    for k in reversed(range(n)) if upper else range(n):
        x[..., k, :] /= diagonal[..., k, None]
        rest = slice(0, k) if upper else slice(k + 1, n)
        x[..., rest, :] -= a[..., rest, k, None] * x[..., None, k, :]
    return x


_solve_triangular = primitive(
    "solve_triangular",
    kind="opaque",
    inputs=("input", "other"),
    attrs=("upper", "unitriangular"),
    kernel=_substitute,
    shape=_solve_shape,
    vjp=(
        lambda g, y, input, upper, unitriangular: _only_triangle(
            -_matmul(_solve_triangular(input.mT, g, not upper, unitriangular), y.mT), upper, unitriangular
        ),
        lambda g, input, upper, unitriangular: _solve_triangular(input.mT, g, not upper, unitriangular),
    ),
    traits={"batched": True, "refuses": True},
    samples=lambda rng: [
        ((rng.uniform(1.0, 2.0, size=a), rng.normal(size=b)), (upper, unit))
        for a, b in (((3, 3), (3, 2)), ((2, 3, 3), (3, 1)), ((0, 0), (0, 2)))
        for upper in (False, True)
        for unit in (False, True)
    ],
    reference=lambda a, b, upper, unit: np.linalg.solve(_mask(upper, unit, a), b),
    error=64.0,
    doc="X with A X = B, where only one triangle of A is read",
)


def _only_triangle(g: Tensor, upper: bool, unitriangular: bool) -> Tensor:
    skip = 1 if unitriangular else 0
    return triu(g, skip) if upper else tril(g, -skip)


def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X with A X = B (X A = B if not `left`) for a triangular A (..., n, n) and B (..., n, k).

    Only the upper or lower triangle of A is read, without its diagonal if `unitriangular`, which is
    then taken to be ones.  Raises ArgumentError if the diagonal has a zero.
    """
    A, B = _matrix("solve_triangular", A), _matrix("solve_triangular", B)
    if not left:
        return _solve_triangular(A.mT, B.mT, not upper, bool(unitriangular)).mT
    return _solve_triangular(A, B, bool(upper), bool(unitriangular))


def _cofactors(a: Any) -> Any:
    """det(A) A^-T without a division: det(U V) U S' V^T for A = U S V^T, s'_i the product of the other s."""
    u, s, v = np.linalg.svd(_finite(a))
    n = s.shape[-1]
    others = np.stack([np.prod(np.delete(s, i, -1), -1) for i in range(n)], -1) if n else s
    sign = np.linalg.det(u) * np.linalg.det(v)
    return ((u * others[..., None, :]) @ v) * np.rint(sign)[..., None, None].astype(a.dtype)


def _cofactor_rule(g: Tensor, y: Tensor, input: Tensor) -> Tensor:
    inverse = _inv(input).mT
    along = (g * y).sum((-2, -1), keepdim=True) * inverse
    return along - _matmul(_matmul(inverse, g.mT), y)


_cofactor = primitive(
    "cofactor",
    kind="opaque",
    inputs=("input",),
    kernel=_cofactors,
    shape=_square_shape,
    vjp=(_cofactor_rule,),
    traits={"batched": True, "refuses": True},
    samples=lambda rng: [((_well(rng, *s),), ()) for s in ((3, 3), (2, 2, 2), (1, 1))],
    reference=lambda a: np.linalg.det(a)[..., None, None] * np.linalg.inv(a).swapaxes(-1, -2),
    error=64.0,
    doc="the matrix of cofactors, the derivative of the determinant; singular matrices have one too",
)


def _batch_shape(a: Spec) -> Spec:
    return Spec(_square_shape(a).shape[:-2], a.dtype)


_det = primitive(
    "det",
    kind="opaque",
    inputs=("input",),
    kernel=lambda a: np.asarray(np.linalg.det(a), a.dtype),
    shape=_batch_shape,
    vjp=(lambda g, input: unsqueeze(unsqueeze(g, -1), -1) * _cofactor(input),),
    traits={"batched": True},
    samples=_square_samples,
    error=64.0,
    doc="determinants",
)


def det(A: Tensor) -> Tensor:
    """The determinants of square matrices (..., n, n), of shape (...).

    The gradient is the matrix of cofactors, so it exists for singular matrices as well (Jacobi's
    formula, without its division); a second derivative needs the inverse.
    """
    return _det(_matrix("det", A))


class SLogDet(NamedTuple):
    """Sign (-1, 0 or 1) and logarithm of the absolute value of a determinant."""

    sign: Tensor
    logabsdet: Tensor


def _slogdet_kernel(a: Any) -> Any:
    sign, logarithm = np.linalg.slogdet(a)
    return np.stack([sign, logarithm], -1).astype(a.dtype)


_slogdet = primitive(
    "slogdet",
    kind="opaque",
    inputs=("input",),
    kernel=_slogdet_kernel,
    shape=lambda a: Spec((*_square_shape(a).shape[:-2], 2), a.dtype),
    vjp=(lambda g, input: unsqueeze(slice_dim(g, g.ndim - 1, 1, 2), -1) * _inv(input).mT,),
    traits={"batched": True},
    samples=_square_samples,
    error=64.0,
    doc="sign and logarithm of the absolute value of determinants",
)


def slogdet(A: Tensor) -> SLogDet:
    """Sign and log |det| of square matrices (..., n, n), where the determinant itself would overflow.

    A singular matrix gives (0, -inf) and has no gradient (ArgumentError).
    """
    packed = _slogdet(_matrix("slogdet", A))
    return SLogDet(packed[..., 0], packed[..., 1])


# -- factorisations -------------------------------------------------------------------------------


def _cholesky_kernel(a: Any) -> Any:
    return _lapack(
        np.linalg.cholesky,
        _symmetric(_finite(a)),
        problem="not positive definite",
        fix="add a small multiple of the identity, or use linalg.eigh to see its eigenvalues",
    )


def _cholesky_rule(g: Tensor, y: Tensor) -> Tensor:
    # Murray 2016, eq. 10: gA = L^-T sym(phi(L^T gL)) L^-1, phi: lower triangle with half the diagonal.
    p = tril(_matmul(y.mT, g))
    p = p - 0.5 * (p * _identity(y))
    inner = _solve_triangular(y.mT, p + p.mT, True, False)
    return 0.5 * _solve_triangular(y.mT, inner.mT, True, False)


_cholesky = primitive(
    "cholesky",
    kind="opaque",
    inputs=("input",),
    kernel=_cholesky_kernel,
    shape=_square_shape,
    vjp=(_cholesky_rule,),
    traits={"batched": True, "refuses": True},
    samples=lambda rng: [((_spd(rng, *s),), ()) for s in ((3, 3), (2, 2, 2), (1, 1))],
    doc="L with A = L L^T, L lower triangular with a positive diagonal",
)


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """L with A = L L^T for symmetric positive definite matrices (..., n, n); L^T if `upper`.

    The gradient is symmetric: half of it belongs to each of two mirrored elements.
    Raises ArgumentError if A is not symmetric or not positive definite.
    """
    low = _cholesky(_matrix("cholesky", A))
    return low.mT if upper else low


def _pack(parts: list[Any]) -> Any:
    batch = parts[0][0].shape[: parts[0][0].ndim - parts[0][1]]
    return np.concatenate([p.reshape(*batch, -1) for p, _ in parts], -1)


def _cut(packed: Tensor, *shapes: tuple[int, ...]) -> list[Tensor]:
    """The factors that were packed one after the other, as views."""
    batch, start, parts = packed.shape[:-1], 0, []
    for shape in shapes:
        size = math.prod(shape)
        parts.append(_reshape(slice_dim(packed, len(batch), start, start + size), (*batch, *shape)))
        start += size
    return parts


class QR(NamedTuple):
    """A = Q R."""

    Q: Tensor
    R: Tensor


def _qr_kernel(a: Any) -> Any:
    q, r = np.linalg.qr(_finite(a))
    return _pack([(q, 2), (r, 2)])


def _qr_spec(a: Spec) -> Spec:
    m, n = _rows_columns(a)
    k = min(m, n)
    return Spec((*a.shape[:-2], m * k + k * n), a.dtype)


def _qr_square(q: Tensor, r: Tensor, gq: Tensor, gr: Tensor) -> Tensor:
    """Walter & Lehmann 2018: gA = (gQ + Q copyltu(M)) R^-T, M = R gR^T - gQ^T Q."""
    m = _matmul(r, gr.mT) - _matmul(gq.mT, q)
    low = tril(m, -1)
    mirrored = low + low.mT + m * _identity(m)
    return _solve_triangular(r, (gq + _matmul(q, mirrored)).mT, True, False).mT


def _qr_rule(g: Tensor, y: Tensor, input: Tensor) -> Tensor:
    m, n = input.shape[-2:]
    k = min(m, n)
    q, r = _cut(y, (m, k), (k, n))
    gq, gr = _cut(g, (m, k), (k, n))
    gr = triu(gr)  # the zeros below the diagonal do not depend on A
    if m >= n:
        return _qr_square(q, r, gq, gr)
    # Wide: A = [X | Y] = Q [U | V], so V = Q^T Y.
    last = input.ndim - 1
    right, gv = slice_dim(input, last, k, n), slice_dim(gr, last, k, n)
    gx = _qr_square(q, slice_dim(r, last, 0, k), gq + _matmul(right, gv.mT), slice_dim(gr, last, 0, k))
    return cat((gx, _matmul(q, gv)), last)


_qr = primitive(
    "qr",
    kind="opaque",
    inputs=("input",),
    kernel=_qr_kernel,
    shape=_qr_spec,
    vjp=(_qr_rule,),
    traits={"batched": True, "refuses": True},
    samples=lambda rng: [((_well(rng, *s),), ()) for s in ((3, 3), (4, 2), (2, 3), (2, 3, 2), (1, 1))],
    doc="Q and R of A = Q R in one vector",
)

_complete = primitive(
    "complete_basis",
    kind="opaque",
    inputs=("input",),
    kernel=lambda q: np.linalg.qr(q, mode="complete")[0][..., q.shape[-1] :].copy(),
    shape=lambda q: Spec((*q.shape[:-1], _rows_columns(q)[0] - q.shape[-1]), q.dtype),
    vjp=(None,),
    traits={"batched": True},
    samples=lambda rng: [((np.eye(4)[:, :2],), ()), ((np.stack([np.eye(3)[:, :2]] * 2),), ())],
    doc="columns that complete orthonormal columns to a basis; any will do, so there is no gradient",
)


def _completed(q: Tensor) -> Tensor:
    return cat((q, _complete(q.detach())), q.ndim - 1) if q.shape[-2] > q.shape[-1] else q


def qr(A: Tensor, mode: str = "reduced") -> QR:
    """Q (..., m, k) with orthonormal columns and R (..., k, n), upper triangular, with A = Q R.

    `mode` is "reduced" (k = min(m, n)), "complete" (k = m; the columns of Q beyond min(m, n) are any
    basis of the rest and carry no gradient) or "r" (Q is empty).  The gradient needs the first
    min(m, n) columns of A to be independent.  Source: Walter & Lehmann 2018.
    """
    A = _matrix("qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise ArgumentError("qr", f"mode {mode!r}", fix="use 'reduced', 'complete' or 'r'")
    m, n = A.shape[-2:]
    k = min(m, n)
    q, r = _cut(_qr(A), (m, k), (k, n))
    if mode == "r":
        return QR(q.new_zeros((0,)), r)
    if mode == "complete" and m > n:
        bottom = r.new_zeros((*r.shape[:-2], m - n, n))
        return QR(_completed(q), cat((r, bottom), r.ndim - 2))
    return QR(q, r)


class Eigh(NamedTuple):
    """A = V diag(w) V^T."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def _eigh_kernel(a: Any) -> Any:
    w, v = np.linalg.eigh(_symmetric(_finite(a)))
    return _pack([(w, 1), (v, 2)])


def _over_gaps(values: Tensor, m: Tensor) -> Tensor:
    """m_ij / (values_j - values_i), 0 on the diagonal.

    Where two values are equal, the vectors are arbitrary: 0 if nothing depends on them (m_ij = 0), and
    NaN otherwise.
    """
    difference = unsqueeze(values, -2) - unsqueeze(values, -1)
    equal = difference == 0.0
    quotient = _e.where(equal, 0.0, m / _e.where(equal, 1.0, difference))
    undefined = equal.logical_and(m != 0.0).logical_and(_identity(m) == 0.0)
    return _e.where(undefined, math.nan, quotient)


def _eigh_rule(g: Tensor, y: Tensor) -> Tensor:
    # Giles 2008, 3.1: gA = V (diag(gw) + F * (V^T gV)) V^T, F_ij = 1 / (w_j - w_i).
    n = math.isqrt(y.shape[-1])
    w, v = _cut(y, (n,), (n, n))
    gw, gv = _cut(g, (n,), (n, n))
    inner = unsqueeze(gw, -1) * _identity(v) + _over_gaps(w, _matmul(v.mT, gv))
    ga = _matmul(_matmul(v, inner), v.mT)
    return 0.5 * (ga + ga.mT)


_eigh = primitive(
    "eigh",
    kind="opaque",
    inputs=("input",),
    kernel=_eigh_kernel,
    shape=lambda a: Spec((*_square_shape(a).shape[:-2], a.shape[-1] * (a.shape[-1] + 1)), a.dtype),
    vjp=(_eigh_rule,),
    traits={"batched": True, "refuses": True},
    samples=lambda rng: [((_spd(rng, *s),), ()) for s in ((3, 3), (2, 2, 2), (1, 1))],
    doc="eigenvalues and eigenvectors of symmetric matrices in one vector",
)


def _triangle(op: str, a: Tensor, UPLO: str | None) -> Tensor:
    if UPLO is None:
        return a
    if UPLO not in ("L", "U"):
        raise ArgumentError(
            op, f"UPLO {UPLO!r}", fix="use 'L' or 'U', or leave it out for a symmetric matrix"
        )
    if UPLO == "L":
        return tril(a) + tril(a, -1).mT
    return triu(a) + triu(a, 1).mT


def eigh(A: Tensor, UPLO: str | None = None) -> Eigh:
    """Eigenvalues (..., n), ascending, and orthonormal eigenvectors (..., n, n), as columns.

    A must be symmetric; with UPLO "L" or "U" only that triangle is read, as PyTorch does.  The sign of
    an eigenvector is arbitrary, and vectors of equal eigenvalues are any basis of their space: a loss
    must not depend on either (where it does on the latter, the gradient is NaN).  Source: Giles 2008, 3.1.
    """
    A = _triangle("eigh", _matrix("eigh", A), UPLO)
    n = A.shape[-1]
    values, vectors = _cut(_eigh(A), (n,), (n, n))
    return Eigh(values, vectors)


def eigvalsh(A: Tensor, UPLO: str | None = None) -> Tensor:
    """The eigenvalues (..., n) of symmetric matrices, ascending; see `eigh`."""
    return eigh(A, UPLO).eigenvalues


class SVD(NamedTuple):
    """A = U diag(S) Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def _svd_kernel(a: Any) -> Any:
    u, s, vh = _lapack(
        lambda x: np.linalg.svd(x, full_matrices=False),
        _finite(a),
        problem="one whose singular values did not converge",
        fix="scale it, or look for extreme values",
    )
    return _pack([(u, 2), (s, 1), (vh, 2)])


def _svd_spec(a: Spec) -> Spec:
    m, n = _rows_columns(a)
    k = min(m, n)
    return Spec((*a.shape[:-2], m * k + k + k * n), a.dtype)


def _svd_rule(g: Tensor, y: Tensor, input: Tensor) -> Tensor:
    # Townsend 2016: with F_ij = 1 / (s_j^2 - s_i^2),
    # gA = [U (F * (U^T gU - gU^T U)) S + (I - U U^T) gU S^-1] V^T + U gS V^T
    #      + U [S (F * (V^T gV - gV^T V)) V^T + S^-1 gV^T (I - V V^T)]
    m, n = input.shape[-2:]
    k = min(m, n)
    u, s, vh = _cut(y, (m, k), (k,), (k, n))
    gu, gs, gvh = _cut(g, (m, k), (k,), (k, n))
    squares = s * s
    skew_u = _over_gaps(squares, _matmul(u.mT, gu))
    skew_v = _over_gaps(squares, _matmul(vh, gvh.mT))
    inner = (skew_u + skew_u.mT) * unsqueeze(s, -2) + unsqueeze(s, -1) * (skew_v + skew_v.mT)
    inner = inner + unsqueeze(gs, -1) * _identity(inner)
    ga = _matmul(_matmul(u, inner), vh)
    if m == n:
        return ga
    zero = s == 0.0
    inverse = _e.where(zero, 0.0, 1.0 / _e.where(zero, 1.0, s))
    if m > k:
        outside = gu - _matmul(u, _matmul(u.mT, gu))
        ga = ga + _matmul(outside * unsqueeze(inverse, -2), vh)
    if n > k:
        outside = gvh - _matmul(_matmul(gvh, vh.mT), vh)
        ga = ga + _matmul(u * unsqueeze(inverse, -2), outside)
    return ga


_svd = primitive(
    "svd",
    kind="opaque",
    inputs=("input",),
    kernel=_svd_kernel,
    shape=_svd_spec,
    vjp=(_svd_rule,),
    traits={"batched": True, "refuses": True},
    samples=lambda rng: [((_well(rng, *s),), ()) for s in ((3, 3), (4, 2), (2, 3), (2, 3, 2), (1, 1))],
    doc="U, S and V^T of A = U diag(S) V^T in one vector",
)


def svd(A: Tensor, full_matrices: bool = True) -> SVD:
    """U (..., m, m), S (..., k) descending, Vh (..., n, n) with A = U[:, :k] diag(S) Vh[:k], k = min(m, n).

    With `full_matrices=False` U is (..., m, k) and Vh (..., k, n).  The vectors that are only there in
    full are any basis of the rest and carry no gradient (as in PyTorch).  Signs of the vectors are
    arbitrary, and so are those of equal singular values; a loss must not depend on them.  Only the
    vectors' gradients divide by gaps between singular values: for S alone use `svdvals`.
    """
    A = _matrix("svd", A)
    m, n = A.shape[-2:]
    k = min(m, n)
    u, s, vh = _cut(_svd(A), (m, k), (k,), (k, n))
    if full_matrices:
        u, vh = _completed(u), _completed(vh.mT).mT
    return SVD(u, s, vh)


def svdvals(A: Tensor) -> Tensor:
    """The singular values (..., min(m, n)) of matrices (..., m, n), descending."""
    return svd(A, full_matrices=False).S


# -- pseudo-inverse, powers, rank --------------------------------------------------------------------


def _pinv_kernel(a: Any, rtol: float) -> Any:
    return np.linalg.pinv(_finite(a), rcond=rtol)


def _pinv_rule(g: Tensor, y: Tensor, input: Tensor) -> Tensor:
    # Golub & Pereyra 1973: dP = -P dA P + P P^T dA^T (I - A P) + (I - P A) dA^T P^T P
    gt = g.mT
    first = -_matmul(_matmul(y.mT, g), y.mT)
    right = _matmul(gt, _matmul(y, y.mT))
    left = _matmul(_matmul(y.mT, y), gt)
    second = right - _matmul(input, _matmul(y, right))
    third = left - _matmul(_matmul(left, y), input)
    return first + second + third


_pinv = primitive(
    "pinv",
    kind="opaque",
    inputs=("input",),
    attrs=("rtol",),
    kernel=_pinv_kernel,
    shape=lambda a, rtol: Spec((*a.shape[:-2], *_rows_columns(a)[::-1]), a.dtype),
    vjp=(_pinv_rule,),
    traits={"batched": True, "refuses": True},
    samples=lambda rng: [((_well(rng, *s),), (1e-6,)) for s in ((3, 3), (4, 2), (2, 3), (2, 3, 2))],
    error=64.0,
    doc="Moore-Penrose pseudo-inverses",
)


def pinv(A: Tensor, *, rtol: float | None = None) -> Tensor:
    """The Moore-Penrose pseudo-inverses (..., n, m) of matrices (..., m, n).

    Singular values up to `rtol` times the largest (max(m, n) eps unless given) count as zero.  The
    gradient holds as long as the rank does not change.  Source: Golub & Pereyra 1973.
    """
    A = _matrix("pinv", A)
    if rtol is None:
        rtol = max(A.shape[-2:]) * float(np.finfo(A.dtype).eps)
    if not rtol >= 0:
        raise ArgumentError("pinv", f"rtol {rtol}", fix="give a number of at least 0")
    return _pinv(A, float(rtol))


def matrix_power(A: Tensor, n: int) -> Tensor:
    """A multiplied by itself n times, by repeated squaring; negative n inverts first, 0 is the identity."""
    A = _matrix("matrix_power", A)
    if A.shape[-1] != A.shape[-2]:
        raise ShapeError(
            "matrix_power", f"shape {A.shape} is not that of square matrices", fix="pass (..., n, n)"
        )
    if isinstance(n, bool) or not isinstance(n, int):
        raise DTypeError("matrix_power", f"the power is a {type(n).__name__}", fix="pass an int")
    if n == 0:
        return broadcast_to(_identity(A), A.shape) + A * 0.0
    if n < 0:
        A, n = _inv(A), -n
    result: Tensor | None = None
    while n:
        if n & 1:
            result = A if result is None else _matmul(result, A)
        n >>= 1
        if n:
            A = _matmul(A, A)
    assert result is not None
    return result


def matrix_rank(A: Tensor, *, tol: float | None = None) -> Tensor:
    """How many singular values exceed `tol` (max(m, n) eps times the largest unless given), as int64."""
    A = _matrix("matrix_rank", A).detach()
    s = svdvals(A)
    if tol is not None or not s.numel():
        return (s > (tol or 0.0)).sum(-1)
    return (s > s.amax(-1, keepdim=True) * (max(A.shape[-2:]) * float(np.finfo(A.dtype).eps))).sum(-1)


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """Cross products of vectors of size 3 along `dim`; shapes broadcast."""
    return _cross(input, other, dim)


# -- norms -------------------------------------------------------------------------------------------


def _two(op: str, dim: Any) -> tuple[int, int]:
    if not isinstance(dim, (tuple, list)) or len(dim) != 2 or dim[0] == dim[1]:
        raise ArgumentError(op, f"dim {dim!r}", fix="name two different dimensions, as (-2, -1)")
    return dim[0], dim[1]


def matrix_norm(
    A: Tensor, ord: str | float = "fro", dim: tuple[int, int] = (-2, -1), keepdim: bool = False
) -> Tensor:
    """A norm of matrices: "fro", "nuc", 2, -2 (by singular values), 1, -1, inf, -inf (by sums).

    Raises ArgumentError for another `ord`.
    """
    A = _matrix("matrix_norm", A)
    rows, columns = (one_dim("matrix_norm", d, A.ndim) for d in _two("matrix_norm", dim))
    if ord == "fro":
        return vector_norm(A, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        s = svdvals(A.movedim((rows, columns), (-2, -1)))
        y = s.sum(-1) if ord == "nuc" else s.amax(-1) if ord == 2 else s.amin(-1)
        if keepdim:
            for d in sorted((rows, columns)):
                y = unsqueeze(y, d)
        return y
    if ord in (1, -1, math.inf, -math.inf):
        summed, chosen = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = vector_norm(A, 1, summed, True)
        y = sums.amax(chosen, keepdim=True) if ord > 0 else sums.amin(chosen, keepdim=True)
        return y if keepdim else y.squeeze((rows, columns))
    raise ArgumentError("matrix_norm", f"ord {ord!r}", fix="use 'fro', 'nuc', 1, -1, 2, -2, inf or -inf")


def norm(
    A: Tensor,
    ord: str | float | None = None,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
) -> Tensor:
    """`vector_norm` or `matrix_norm`, as PyTorch's and numpy's `linalg.norm` choose.

    Without `ord` it is the 2-norm of all elements of `dim`.  With it, one dimension makes vectors and
    two make matrices; without `dim`, the number of dimensions of A decides.
    """
    if ord is None:
        return vector_norm(A, 2, dim, keepdim)
    dims = all_dims("norm", dim, A.ndim)
    if len(dims) == 2:
        return matrix_norm(A, ord, dim if isinstance(dim, tuple) else (-2, -1), keepdim)  # type: ignore[arg-type]
    if len(dims) == 1 and not isinstance(ord, str):
        return vector_norm(A, ord, dim, keepdim)
    raise ArgumentError(
        "norm",
        f"ord {ord!r} over {len(dims)} dimensions",
        fix="give `dim`: one for vectors, two for matrices",
    )
