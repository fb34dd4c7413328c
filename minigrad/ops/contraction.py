"""Contractions: products summed over shared dimensions.

Everything is `matmul`.  For Y = X W,

    gX = g W^T                gW = X^T g

both again matrix products; a product only keeps the other factor.  A transpose is a flag of the
product, not a step of its own: the kernels read either operand in either order.  Batches broadcast
as in numpy; 1-d operands are given a dimension and lose it again in the face, so the record sees
matrices only.

    >>> import minigrad as mg
    >>> x, w = mg.ones(2, 3), mg.full((3, 1), 2.0)
    >>> x @ w
    tensor([[6.],
            [6.]])

`einsum` plans an expression as permutations, one matmul and a sum, pair by pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..bind import method, primitive
from ..errors import ArgumentError, DTypeError, Refusal, ShapeError
from ..ir import Shape, Spec, broadcast_shapes
from ..tape import hooks
from ..tensor import Tensor
from .elementwise import mul, where
from .movement import _fits, _permute, _reshape, one_dim, stack, unsqueeze
from .reduction import _sum, vector_norm


def _matmul_shape(input: Spec, other: Spec, transpose_input: bool, transpose_other: bool) -> Spec:
    if min(len(input.shape), len(other.shape)) >= 2:
        input = Spec((*input.shape[:-2], *input.shape[:-3:-1]), input.dtype) if transpose_input else input
        other = Spec((*other.shape[:-2], *other.shape[:-3:-1]), other.dtype) if transpose_other else other
    if len(input.shape) < 2 or len(other.shape) < 2:
        raise Refusal(
            f"shapes {input.shape} and {other.shape} are not both matrices", "add a dimension with unsqueeze"
        )
    if input.shape[-1] != other.shape[-2]:
        raise Refusal(
            f"inner sizes {input.shape[-1]} and {other.shape[-2]} "
            f"of shapes {input.shape} and {other.shape} differ",
            "the columns of the first must be the rows of the second; is a transpose (.mT) missing?",
        )
    if input.dtype != other.dtype:
        raise Refusal(
            f"dtypes {input.dtype} and {other.dtype} differ", "convert one with .to(dtype)", DTypeError
        )
    try:
        batch = broadcast_shapes(input.shape[:-2], other.shape[:-2])
    except ValueError as error:
        raise Refusal(
            f"batch sizes of shapes {input.shape} and {other.shape} do not broadcast: {error}",
            "sizes of leading dimensions must be equal or 1",
        ) from None
    return Spec((*batch, input.shape[-2], other.shape[-1]), input.dtype)


def _matmul_kernel(input: Any, other: Any, transpose_input: bool, transpose_other: bool) -> Any:
    return np.matmul(
        input.swapaxes(-1, -2) if transpose_input else input,
        other.swapaxes(-1, -2) if transpose_other else other,
    )


def _input_grad(g: Tensor, other: Tensor, transpose_input: bool, transpose_other: bool) -> Tensor:
    if transpose_input:
        return _matmul_op(other, g, transpose_other, True)
    return _matmul_op(g, other, False, not transpose_other)


def _other_grad(g: Tensor, input: Tensor, transpose_input: bool, transpose_other: bool) -> Tensor:
    if transpose_other:
        return _matmul_op(g, input, True, transpose_input)
    return _matmul_op(input, g, not transpose_input, False)


def _matmul_samples(rng: Any) -> list[Any]:
    shapes = [
        ((3, 4), (4, 2)),
        ((2, 3, 4), (4, 2)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((3, 0), (0, 2)),
        ((0, 4), (4, 2)),
        ((1, 1), (1, 1)),
    ]
    samples = [((rng.normal(size=s), rng.normal(size=t)), (False, False)) for s, t in shapes]
    for ta, tb in ((False, True), (True, False), (True, True)):
        a = rng.normal(size=(2, 4, 3) if ta else (2, 3, 4))
        b = rng.normal(size=(2, 4) if tb else (4, 2))
        samples.append(((a, b), (ta, tb)))
    strided = (rng.normal(size=(4, 3)).T, rng.normal(size=(2, 4)).T)
    return [*samples, (strided, (False, False))]


_matmul_op: Callable[..., Tensor] = primitive(
    "matmul",
    kind="contraction",
    inputs=("input", "other"),
    attrs=("transpose_input", "transpose_other"),
    traits={
        "transposes": ("transpose_input", "transpose_other"),
        "transposed": lambda ta, tb: ((1, 0), (not tb, not ta)),
        "flops": lambda a, b, y, ta, tb: 2 * math.prod(y.shape) * a.shape[-2 if ta else -1],
    },
    kernel=_matmul_kernel,
    shape=_matmul_shape,
    vjp=(_input_grad, _other_grad),
    samples=_matmul_samples,
    reference=lambda input, other, transpose_input, transpose_other: np.einsum(
        f"...{'ji' if transpose_input else 'ij'},...{'kj' if transpose_other else 'jk'}->...ik", input, other
    ),
    doc="matrix products, batched over leading dimensions that broadcast, of either operand or its transpose",
)


def _matmul(input: Tensor, other: Tensor) -> Tensor:
    return _matmul_op(input, other, False, False)


def matmul_transposed(input: Tensor, other: Tensor) -> Tensor:
    """input @ other.mT for operands of at least two dimensions, without a step for the transpose."""
    return _matmul_op(input, other, False, True)


@method("matmul", "__matmul__")
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product, as numpy's: batches broadcast, and 1-d operands are rows or columns.

    Raises ShapeError if the inner sizes differ, DTypeError if the dtypes do.
    """
    if not isinstance(input, Tensor) or not isinstance(other, Tensor):
        wrong = other if isinstance(input, Tensor) else input
        if not isinstance(wrong, np.ndarray):
            raise DTypeError("matmul", f"an operand is a {type(wrong).__name__}", fix="pass tensors")
        input, other = Tensor(input), Tensor(other)
    if input._array.dtype != other._array.dtype:
        raise DTypeError(
            "matmul", f"dtypes {input.dtype} and {other.dtype} differ", fix="convert one with .to(dtype)"
        )
    left, right = input._array.ndim, other._array.ndim
    if left >= 2 and right >= 2:
        return _matmul(input, other)
    if not left or not right:
        raise ShapeError(
            "matmul", f"shapes {input.shape} and {other.shape}: a 0-d operand", fix="use * to scale"
        )
    if input.shape[-1] != other.shape[0 if right == 1 else -2]:
        raise ShapeError(
            "matmul",
            f"inner sizes of shapes {input.shape} and {other.shape} differ",
            fix="the last size of the first must be the size of the second that it is summed with",
        )
    x = unsqueeze(input, 0) if left == 1 else input
    w = unsqueeze(other, 1) if right == 1 else other
    y = _matmul(x, w)
    shape = y.shape
    if right == 1:
        shape = shape[:-1]
    if left == 1:
        shape = shape[:-1] if right == 1 else (*shape[:-2], shape[-1])
    return _reshape(y, shape)


hooks.ufuncs["matmul"] = matmul


@method("__rmatmul__")
def _rmatmul(self: Tensor, other: Any) -> Tensor:
    return matmul(other, self)


def _exactly(op: str, input: Tensor, other: Tensor, dims: tuple[int, int]) -> None:
    if (input.ndim, other.ndim) != dims:
        raise ShapeError(
            op,
            f"shapes {input.shape} and {other.shape} have {input.ndim} and {other.ndim} dimensions, "
            f"not {dims[0]} and {dims[1]}",
            fix="use matmul for other shapes",
        )


@method("mm")
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    _exactly("mm", input, mat2, (2, 2))
    return matmul(input, mat2)


@method("bmm")
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, (b, n, m) and (b, m, p), without broadcasting."""
    _exactly("bmm", input, mat2, (3, 3))
    if input.shape[0] != mat2.shape[0]:
        raise ShapeError(
            "bmm",
            f"batch sizes of shapes {input.shape} and {mat2.shape} differ",
            fix="use matmul to broadcast",
        )
    return matmul(input, mat2)


@method("mv")
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector."""
    _exactly("mv", input, vec, (2, 1))
    return matmul(input, vec)


@method("dot")
def dot(input: Tensor, other: Tensor) -> Tensor:
    """The inner product of two vectors."""
    _exactly("dot", input, other, (1, 1))
    return matmul(input, other)


@method("outer")
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The products of all pairs of elements of two vectors, as a matrix."""
    _exactly("outer", input, vec2, (1, 1))
    return mul(unsqueeze(input, 1), unsqueeze(vec2, 0))


# -- einsum ----------------------------------------------------------------------------------------


def _parse(equation: str, operands: Sequence[Tensor]) -> tuple[list[str], str]:
    """Subscripts of each operand and of the output, with '...' written out as capital letters."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ArgumentError(
            "einsum",
            f"{equation!r} names {len(terms)} operands but {len(operands)} were given",
            fix="give each operand a term, separated by commas",
        )
    letters = set(left.replace(",", "").replace("...", "")) | set(right.replace("...", ""))
    bad = [c for c in letters if not c.isalpha()]
    if bad:
        raise ArgumentError(
            "einsum", f"{equation!r} contains {sorted(bad)[0]!r}", fix="use letters, ',', '->' and '...'"
        )
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in letters]
    longest = 0
    for term, operand in zip(terms, operands, strict=True):
        named = len(term.replace("...", ""))
        if "..." in term:
            longest = max(longest, operand.ndim - named)
        if (operand.ndim != named and "..." not in term) or operand.ndim < named:
            raise ShapeError(
                "einsum",
                f"{term!r} names {named} dimensions of an operand of shape {operand.shape}",
                fix="write a letter for each dimension, or '...'",
            )
    ellipsis = "".join(spare[:longest])
    full = []
    for term, operand in zip(terms, operands, strict=True):
        used = operand.ndim - len(term.replace("...", ""))
        full.append(term.replace("...", ellipsis[longest - used :] if used else ""))
    if arrow:
        output = right.replace("...", ellipsis)
    else:
        counts: dict[str, int] = {}
        for c in "".join(t.replace("...", "") for t in terms):
            counts[c] = counts.get(c, 0) + 1
        output = (ellipsis if "..." in left else "") + "".join(sorted(c for c, n in counts.items() if n == 1))
    for c in output:
        if output.count(c) > 1 or not any(c in t for t in full):
            raise ArgumentError(
                "einsum",
                f"output index {c!r} of {equation!r} is repeated or unknown",
                fix="name each output index once, from those of the operands",
            )
    return full, output


def _diagonals(x: Tensor, term: str) -> tuple[Tensor, str]:
    """Repeated letters within one operand: keep the diagonal."""
    from .indexing import diagonal

    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            a = term.index(c)
            b = term.index(c, a + 1)
            if x.shape[a] != x.shape[b]:
                raise ShapeError(
                    "einsum",
                    f"index {c!r} has sizes {x.shape[a]} and {x.shape[b]}",
                    fix="one letter stands for one size",
                )
            x = diagonal(x, 0, a, b)  # goes last
            term = term[:a] + term[a + 1 : b] + term[b + 1 :] + c
    return x, term


def _order(x: Tensor, term: str, wanted: str) -> Tensor:
    dims = tuple(term.index(c) for c in wanted)
    return x if dims == tuple(range(x.ndim)) else _permute(x, dims)


def _sum_out(x: Tensor, term: str, keep: set[str]) -> tuple[Tensor, str]:
    gone = tuple(i for i, c in enumerate(term) if c not in keep)
    if gone:
        x = _sum(x, gone, False)
        term = "".join(c for c in term if c in keep)
    return x, term


def _pair(a: Tensor, ta: str, b: Tensor, tb: str, keep: set[str]) -> tuple[Tensor, str]:
    """Contract two operands over the letters that nothing else needs."""
    a, ta = _sum_out(a, ta, keep | set(tb))
    b, tb = _sum_out(b, tb, keep | set(ta))
    shared = [c for c in ta if c in tb]
    batch = "".join(c for c in shared if c in keep)
    inner = "".join(c for c in shared if c not in keep)
    rows = "".join(c for c in ta if c not in tb)
    columns = "".join(c for c in tb if c not in ta)

    def sizes(x: Tensor, term: str, of: str) -> Shape:
        return tuple(x.shape[term.index(c)] for c in of)

    if any(x != y and 1 not in (x, y) for x, y in zip(sizes(a, ta, batch), sizes(b, tb, batch), strict=True)):
        raise ShapeError(
            "einsum",
            f"sizes of {batch!r} differ between shapes {a.shape} and {b.shape}",
            fix="one letter stands for one size",
        )
    left_inner, right_inner = sizes(a, ta, inner), sizes(b, tb, inner)
    if left_inner != right_inner:
        raise ShapeError(
            "einsum",
            f"sizes {left_inner} and {right_inner} of {inner!r} differ",
            fix="one letter stands for one size",
        )
    if not inner:
        x = _order(a, ta, batch + rows)
        w = _order(b, tb, batch + columns)
        x = _reshape(x, (*x.shape, *(1,) * len(columns)))
        w = _reshape(w, (*w.shape[: len(batch)], *(1,) * len(rows), *w.shape[len(batch) :]))
        return mul(x, w), batch + rows + columns
    x = _order(a, ta, batch + rows + inner)
    w = _order(b, tb, batch + inner + columns)
    k = math.prod(left_inner)
    batch_a, batch_b = sizes(a, ta, batch), sizes(b, tb, batch)
    m, n = sizes(a, ta, rows), sizes(b, tb, columns)
    x = _reshape(x, (*batch_a, math.prod(m), k))
    w = _reshape(w, (*batch_b, k, math.prod(n)))
    y = matmul(x, w)
    return _reshape(y, (*y.shape[: len(batch)], *m, *n)), batch + rows + columns


def einsum(equation: str, *operands: Any) -> Tensor:
    """Einstein summation, e.g. `einsum("bij,bjk->bik", a, b)`; implicit outputs and '...' as in numpy.

    Operands are contracted from left to right.  Raises ArgumentError for an equation that does not
    parse, ShapeError where sizes disagree.
    """
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or not operands:
        raise ArgumentError(
            "einsum", "an equation and at least one operand are needed", fix="write einsum('ij,jk->ik', a, b)"
        )
    from ..bind import promoted

    tensors = promoted("einsum", *operands)
    terms, output = _parse(equation, tensors)
    pairs = [_diagonals(x, term) for x, term in zip(tensors, terms, strict=True)]
    x, term = pairs[0]
    for i, (other, other_term) in enumerate(pairs[1:], 1):
        later = set("".join(t for _, t in pairs[i + 1 :]))
        x, term = _pair(x, term, other, other_term, set(output) | later)
    x, term = _sum_out(x, term, set(output))
    return _order(x, term, output)


# -- built on matmul ---------------------------------------------------------------------------------


def _scaled(op: str, input: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    for name, value in (("beta", beta), ("alpha", alpha)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DTypeError(op, f"{name} is a {type(value).__name__}", fix="pass a Python number")
    if not _fits(input.shape, product.shape):
        raise ShapeError(
            op,
            f"shape {input.shape} of the first operand does not broadcast to {product.shape}, "
            "the shape of the product",
            fix="its sizes must be those of the product, or 1",
        )
    scaled = product if alpha == 1 else product * alpha
    if beta == 0:  # NaN and Inf of an input that is not wanted do not spread
        return scaled
    return (input if beta == 1 else input * beta) + scaled


@method("addmm")
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * input + alpha * mat1 @ mat2, for matrices (n, k) and (k, m) and an input that broadcasts.

    With beta = 0 the input is not read, so its NaN do not spread.
    Raises ShapeError if the shapes do not fit.
    """
    return _scaled("addmm", input, mm(mat1, mat2), beta, alpha)


@method("addmv")
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * input + alpha * mat @ vec, for (n, k) and (k,); see `addmm`."""
    return _scaled("addmv", input, mv(mat, vec), beta, alpha)


@method("baddbmm")
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * input + alpha * batch1 @ batch2, for (b, n, k) and (b, k, m); see `addmm`."""
    return _scaled("baddbmm", input, bmm(batch1, batch2), beta, alpha)


@method("inner")
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Products summed over the last dimensions: shape input.shape[:-1] + other.shape[:-1].

    A 0-d operand scales the other.  Raises ShapeError if the last sizes differ.
    """
    if not input.ndim or not other.ndim:
        return mul(input, other)
    if input.shape[-1] != other.shape[-1]:
        raise ShapeError(
            "inner",
            f"the last sizes of shapes {input.shape} and {other.shape} differ",
            fix="the last dimensions are summed over together: make them equal",
        )
    return tensordot(input, other, ([-1], [-1]))


def tensordot(a: Tensor, b: Tensor, dims: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Products summed over pairs of dimensions: the last `dims` of a with the first of b, or those named.

    `dims` is a number, or two lists of equally many dimensions.  What is left of a comes first, then
    what is left of b.  Raises ShapeError if sizes of a pair differ.
    """
    if isinstance(dims, int) and not isinstance(dims, bool):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise ArgumentError(
                "tensordot",
                f"dims {dims} for shapes {a.shape} and {b.shape}",
                fix="give at most their number",
            )
        first, second = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    elif isinstance(dims, (tuple, list)) and len(dims) == 2:
        first = [one_dim("tensordot", d, a.ndim) for d in dims[0]]
        second = [one_dim("tensordot", d, b.ndim) for d in dims[1]]
    else:
        raise ArgumentError("tensordot", f"dims {dims!r}", fix="give a number or two lists of dimensions")
    sizes = [a.shape[d] for d in first], [b.shape[d] for d in second]
    if sizes[0] != sizes[1] or len({*first}) != len(first) or len({*second}) != len(second):
        raise ShapeError(
            "tensordot",
            f"sizes {tuple(sizes[0])} of dims {first} and {tuple(sizes[1])} of dims {second} do not pair up "
            f"in shapes {a.shape} and {b.shape}",
            fix="name each dimension once, in pairs of equal size",
        )
    rest_a = [d for d in range(a.ndim) if d not in first]
    rest_b = [d for d in range(b.ndim) if d not in second]
    shape = [a.shape[d] for d in rest_a] + [b.shape[d] for d in rest_b]
    summed = math.prod(sizes[0])
    rows = math.prod(a.shape[d] for d in rest_a)
    columns = math.prod(b.shape[d] for d in rest_b)
    x = _reshape(_permute(a, (*rest_a, *first)), (rows, summed))
    y = _reshape(_permute(b, (*second, *rest_b)), (summed, columns))
    return _reshape(_matmul(x, y), tuple(shape))


@method("kron")
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of input times the whole of other, as numpy's."""
    ndim = max(input.ndim, other.ndim)
    a = (1,) * (ndim - input.ndim) + input.shape
    b = (1,) * (ndim - other.ndim) + other.shape
    x = _reshape(input, tuple(s for size in a for s in (size, 1)))
    y = _reshape(other, tuple(s for size in b for s in (1, size)))
    return _reshape(mul(x, y), tuple(p * q for p, q in zip(a, b, strict=True)))


@method("cross")
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """Cross products of vectors of size 3 along `dim`: unless given, the first dimension of that size.

    Shapes broadcast.  (`linalg.cross` takes the last dimension by default, which is the safer choice.)
    Raises ShapeError if there is no such dimension.
    """
    at = dim
    if at is None:
        at = next((i - input.ndim for i, size in enumerate(input.shape) if size == 3), -1)
    for x in (input, other):
        if not x.ndim or x.shape[one_dim("cross", at, x.ndim)] != 3:
            raise ShapeError(
                "cross", f"shape {x.shape} has not size 3 along dim {at}", fix="name the dimension of size 3"
            )
    a, b = ([part.squeeze(at) for part in x.split(1, at)] for x in (input, other))
    y = [a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3] for i in range(3)]
    return stack(y, at)


#: From this many rows on each side, distances come from a matrix product (as in PyTorch).
_ROWS_FOR_A_PRODUCT = 25


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm distances (..., n, m) of all rows of x1 (..., n, d) from all rows of x2 (..., m, d).

    For p = 2 and more than 25 rows on each side, |a|^2 + |b|^2 - 2 a.b, which is fast and needs no array
    of n * m * d, but loses digits where distances are small beside the vectors; otherwise from the
    differences.  The gradient of a distance of 0 is 0.
    """
    if min(x1.ndim, x2.ndim) < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(
            "cdist",
            f"shapes {x1.shape} and {x2.shape}",
            fix="pass (..., n, d) and (..., m, d) with the same d",
        )
    if not p >= 0:
        raise ArgumentError("cdist", f"p {p}", fix="give a number of at least 0, or inf")
    if p == 2 and min(x1.shape[-2], x2.shape[-2]) > _ROWS_FOR_A_PRODUCT:
        squares = (x1 * x1).sum(-1, keepdim=True) + (x2 * x2).sum(-1).unsqueeze(-2)
        rest = squares - 2.0 * matmul_transposed(x1, x2)
        far = rest > 0.0
        return where(far, where(far, rest, 1.0).sqrt(), 0.0)
    return vector_norm(unsqueeze(x1, -2) - unsqueeze(x2, -3), p, -1)
