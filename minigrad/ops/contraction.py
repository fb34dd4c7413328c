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
from .elementwise import mul
from .movement import _permute, _reshape, unsqueeze
from .reduction import _sum


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
