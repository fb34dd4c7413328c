"""Sparse matrices whose values are tensors, and operations on groups of rows.

    >>> import minigrad as mg
    >>> from minigrad import sparse
    >>> edge_index = mg.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])        # 0 - 1 - 2, each edge both ways
    >>> a = sparse.from_edge_index(edge_index)
    >>> a
    CSR(3x3, 4 nonzeros, float32)
    >>> a @ mg.tensor([[1.0], [2.0], [4.0]])                        # what the neighbours have, added up
    tensor([[2.],
            [5.],
            [2.]])

A `CSR` is a pattern (where the nonzeros are, fixed for ever) and a tensor with a value for each of them,
which may need a gradient; None stands for ones.  Everything that a graph network does with
an adjacency matrix A is here:

    self loops           A + I                    where a node has none yet
    row normalisation    D^-1 A                   the mean over neighbours
    symmetric            D^-1/2 A D^-1/2          Kipf & Welling 2017, with D the sums of rows
    segments             the sum, mean, maximum or softmax over rows that belong together

A row without nonzeros has the sum 0, and its 1 / 0 counts as 0: an isolated node receives nothing.

    >>> sparse.segment_mean(mg.tensor([1.0, 2.0, 9.0]), mg.tensor([0, 0, 2]))
    tensor([1.5, 0. , 9. ])

**In a captured program** the pattern is a constant, so index arrays must be known while tracing: close
over them, or pass the CSR (or a `minigrad.data.Graph`) itself; a traced index is a TraceError.

References: Kipf & Welling 2017 (arXiv 1609.02907), eq. 2; Gustavson 1978 (ACM TOMS 4).
Left out: products of two sparse matrices, and COO as a format of its own (edge lists are converted).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .bind import floating
from .errors import ArgumentError, DTypeError, MissingExtraError, OutOfRangeError, ShapeError, TraceError
from .ir import Shape, default_float, is_float
from .mode import Switch, current, no_grad
from .ops import sparse as ops
from .ops.elementwise import cast, where
from .ops.elementwise import pow as pow_
from .ops.movement import _reshape
from .ops.nn import dropout as ops_dropout
from .ops.sparse import Pattern
from .tensor import Symbol, Tensor, as_array, as_dtype, wrap

__all__ = [
    "CSR",
    "Pattern",
    "dropout",
    "eye",
    "from_coo",
    "from_dense",
    "from_edge_index",
    "from_scipy",
    "gather",
    "sddmm",
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_softmax",
    "segment_sum",
    "spmm",
]

Array = Any


# -- index arrays --------------------------------------------------------------------------------------


def integers(op: str, name: str, index: Any) -> Array:
    """An index (a tensor, array or list) as an array of integers that Python may look at.

    Inside a trace, what is read here becomes part of the program, which is traced anew when the tensor
    has been changed.  Raises DTypeError for other dtypes, TraceError for a value of the trace itself.
    """
    if isinstance(index, Tensor):
        array = index._array
        if isinstance(array, Symbol):
            raise TraceError(
                op,
                f"{name} belongs to the traced function, and the structure of a graph must be known before",
                fix="close over it, or pass a minigrad.data.Graph or sparse.CSR as the argument",
            )
        watch(index, f"{name} that was changed")
    else:
        array = as_array(index)
    if array.dtype.kind not in "iu":
        if array.size:
            raise DTypeError(op, f"{name} has dtype {array.dtype}", fix="use integers, .long()")
        array = array.astype(np.int64)
    return array


def constant(t: Tensor) -> bool:
    """Whether a tensor has values, now and as long as a trace lasts, that no gradient is wanted of."""
    if t.requires_grad or isinstance(t._array, Symbol):
        return False
    trace = current().trace
    state = None if trace is None else trace.states.get(id(t._array))
    return state is None or not state.updated


def watch(t: Tensor, text: str) -> None:
    """Inside a trace: what is computed from the values of `t` now is a constant of the program, which is
    traced anew when they were changed."""
    trace = current().trace
    if trace is None:
        return
    ref, array, version = weakref.ref(t), t._array, t.version

    def same() -> bool:
        now = ref()
        return now is not None and now._array is array and now.version == version

    trace.guard(("watched", id(t)), same, True, text)


class _Known:
    """What was made of an index tensor, as long as that exists and is not changed."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any, int, dict[Any, Any]]] = {}

    def get(self, index: Any, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, run outside of any trace and remembered for this tensor and key.  What is made of
        arrays and lists, which may change unseen, is not remembered."""
        if not isinstance(index, Tensor):
            return make()
        number, version = id(index), index.version
        entry = self._made.get(number)
        if entry is None or entry[0]() is not index or entry[1] is not index._array or entry[2] != version:
            made = self._made
            ref = weakref.ref(index, lambda _: made.pop(number, None))
            entry = made[number] = (ref, index._array, version, {})
        if key not in entry[3]:
            with Switch(trace=None, grad=False):
                entry[3][key] = make()
        return entry[3][key]


#: Patterns of index tensors; layers keep theirs here too.
known = _Known()


def grouped(edge_index: Any, array: Array, shape: tuple[int, int]) -> tuple[Pattern, Array]:
    """Edges by target: a (targets x sources) pattern, and which edge each of its nonzeros is."""
    made: tuple[Pattern, Array] = known.get(
        edge_index, ("grouped", shape), lambda: Pattern.of_places(array[1], array[0], shape)
    )
    return made


def _refused(op: str, error: ValueError) -> Exception:
    return OutOfRangeError(op, str(error), fix="count nodes from 0, and pass how many there are")


def segments(op: str, index: Any, dim_size: int | None) -> Pattern:
    """The pattern (dim_size x len(index)) with element k in row index[k]."""
    array = integers(op, "the index", index)
    if dim_size is not None and (
        isinstance(dim_size, bool) or not hasattr(dim_size, "__index__") or dim_size < 0
    ):
        raise ArgumentError(op, f"dim_size is {dim_size!r}", fix="pass how many rows there are to be")
    if array.ndim != 1:
        raise ShapeError(op, f"an index of shape {array.shape}", fix="use a 1-d index, one number a row")
    size = dim_size

    def make() -> Pattern:
        rows = (int(array.max()) + 1 if array.size else 0) if size is None else int(size)
        try:
            places = np.arange(len(array), dtype=np.int32)
            return Pattern.of_places(array, places, (rows, len(array)))[0]
        except ValueError as error:
            raise _refused(op, error) from None

    result: Pattern = known.get(index, ("segments", size), make)
    return result


def edge_array(op: str, edge_index: Any) -> Array:
    """An edge_index as an array of shape (2, number of edges)."""
    array = integers(op, "edge_index", edge_index)
    if array.ndim != 2 or array.shape[0] != 2:
        fix = "pass two rows, the sources and the targets of edges"
        if array.ndim == 2 and array.shape[1] == 2:
            fix += "; is a transpose (.T) missing?"
        raise ShapeError(op, f"an edge_index of shape {array.shape}", fix=fix)
    return array


def _size(op: str, array: Array, num_nodes: Any) -> tuple[int, int]:
    """Rows and columns, from one number, two, or the largest node."""
    if num_nodes is None:
        found = int(array.max()) + 1 if array.size else 0
        return found, found
    sizes = tuple(num_nodes) if isinstance(num_nodes, (tuple, list)) else (num_nodes, num_nodes)
    if len(sizes) != 2 or any(isinstance(n, bool) or not hasattr(n, "__index__") or n < 0 for n in sizes):
        raise ArgumentError(op, f"num_nodes is {num_nodes!r}", fix="pass how many nodes there are")
    return int(sizes[0]), int(sizes[1])


# -- the matrix ----------------------------------------------------------------------------------------


class CSR:
    """A sparse matrix in compressed sparse row form, with tensors for values.

    crow_indices: (rows + 1,), where each row starts.  col_indices: (nonzeros,), the column of each.
    values: (nonzeros,), or (nonzeros, heads); None: all ones.  size: (rows, columns).  A place that
    occurs twice counts with the sum of its values.  Raises ArgumentError for indices that make no
    matrix, ShapeError for values of another number.
    """

    __slots__ = ("__weakref__", "_turned", "_version", "pattern", "values")

    def __init__(
        self, crow_indices: Any, col_indices: Any, values: Any = None, size: tuple[int, int] | None = None
    ) -> None:
        starts = integers("CSR", "crow_indices", crow_indices)
        index = integers("CSR", "col_indices", col_indices)
        columns = size[1] if size is not None else int(index.max()) + 1 if index.size else 0
        if size is not None and min(size) < 0:
            raise ArgumentError("CSR", f"size is {tuple(size)}", fix="pass (rows, columns)")
        try:
            pattern = Pattern(starts, index, columns)
        except ValueError as error:
            raise ArgumentError("CSR", str(error), fix="check crow_indices, col_indices and size") from None
        if size is not None and pattern.shape[0] != size[0]:
            raise ShapeError(
                "CSR",
                f"crow_indices of {pattern.shape[0]} rows for a size of {tuple(size)}",
                fix="give it one number more than there are rows",
            )
        self._set(pattern, values)

    def _set(self, pattern: Pattern, values: Any) -> None:
        if values is not None:
            values = floating(values if isinstance(values, Tensor) else wrap(as_array(values)))
            if values.ndim not in (1, 2) or values.shape[0] != pattern.nonzeros:
                raise ShapeError(
                    "CSR",
                    f"values of shape {values.shape} for {pattern.nonzeros} nonzeros",
                    fix="pass one value (or one a head) for each",
                )
        self.pattern = pattern
        self.values: Tensor | None = values
        self._turned: Tensor | None = None
        self._version = -1

    @classmethod
    def of(cls, pattern: Pattern, values: Any = None) -> CSR:
        """The matrix with this pattern and these values, in the order of the pattern."""
        self = cls.__new__(cls)
        self._set(pattern, values)
        return self

    # -- what it is --------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """Rows and columns."""
        return self.pattern.shape

    @property
    def dtype(self) -> Any:
        """The dtype of its values; float32 where they are ones."""
        return default_float() if self.values is None else self.values.dtype

    @property
    def nnz(self) -> int:
        """The number of nonzeros."""
        return self.pattern.nonzeros

    @property
    def requires_grad(self) -> bool:
        """Whether gradients of the values are wanted."""
        return self.values is not None and self.values.requires_grad

    def crow_indices(self) -> Tensor:
        """Where each row starts, int32 (rows + 1,)."""
        return wrap(self.pattern.starts.copy())

    def col_indices(self) -> Tensor:
        """The column of each nonzero, int32."""
        return wrap(self.pattern.index.copy())

    def __repr__(self) -> str:
        heads = "" if self.values is None or self.values.ndim == 1 else f", {self.values.shape[1]} heads"
        return f"CSR({self.shape[0]}x{self.shape[1]}, {self.nnz} nonzeros{heads}, {self.dtype.name})"

    # -- with other values ----------------------------------------------------------------------------

    def with_values(self, values: Any) -> CSR:
        """The same places with other values, in the order of nonzeros; None: ones."""
        return CSR.of(self.pattern, values)

    def full_values(self) -> Tensor:
        """The values, also where they are ones."""
        if self.values is None:
            return wrap(np.ones(self.nnz, default_float()))
        return self.values

    def to(self, dtype: Any) -> CSR:
        """Values of another floating-point dtype."""
        wanted = as_dtype(dtype, "to")
        if not is_float(wanted):
            raise DTypeError("CSR.to", f"values cannot be {wanted}", fix="use float32 or float64")
        if self.dtype == wanted:
            return self
        return self.with_values(cast(self.full_values(), wanted))

    def detach(self) -> CSR:
        """The same without a history."""
        return self if self.values is None else self.with_values(self.values.detach())

    # -- products ---------------------------------------------------------------------------------------

    @property
    def turned(self) -> Tensor:
        """Values in the order of the transposed matrix, made once if they are constant."""
        values = self.values
        assert values is not None
        if not constant(values):
            return ops.turned(values, self.pattern)
        # what is remembered must not outlive a change of the values
        if self._turned is None or self._version != values.version:
            self._turned = wrap(values._array.take(self.pattern.order, 0))
            self._version = values.version
        watch(values, "values of a sparse matrix that were changed")
        return self._turned

    @property
    def T(self) -> CSR:
        """The transposed matrix; its pattern is made once."""
        if self.values is None:
            return CSR.of(self.pattern.T)
        result = CSR.of(self.pattern.T, self.turned)
        if (
            not result.requires_grad
            and not isinstance(self.values._array, Symbol)
            and result.values is not None
        ):
            result._turned, result._version = self.values, result.values.version
        return result

    def t(self) -> CSR:
        """The transposed matrix."""
        return self.T

    def __matmul__(self, x: Any) -> Tensor:
        return spmm(self, x)

    def matmul(self, x: Any) -> Tensor:
        """The product with a dense matrix (columns, features) or vector (columns,)."""
        return spmm(self, x)

    def __mul__(self, factor: Any) -> CSR:
        return self.with_values(self.full_values() * factor)

    __rmul__ = __mul__

    def sum(self, dim: int | None = None) -> Tensor:
        """The sum of all values, of each column (dim 0) or of each row (dim 1)."""
        values = self.full_values()
        if dim is None:
            return values.sum()
        if dim not in (0, 1, -1, -2):
            raise OutOfRangeError("CSR.sum", f"dim {dim} of a matrix", fix="use 0 or 1")
        return ops.spsum(values, self.pattern.by_column if dim % 2 == 0 else self.pattern.by_row)

    # -- self loops and normalisation -----------------------------------------------------------------------

    def _square(self, op: str) -> int:
        if self.shape[0] != self.shape[1]:
            raise ShapeError(op, f"a matrix of shape {self.shape} has no diagonal", fix="use a square one")
        return self.shape[0]

    def add_self_loops(self, fill_value: float = 1.0) -> CSR:
        """A value on the diagonal for every node that has none; those that are there stay."""
        n = self._square("add_self_loops")
        pattern, lift = with_diagonal(self.pattern)
        values = ops.spsum(self.full_values(), lift)
        missing = np.diff(lift.starts) == 0
        if missing.any():
            fill = (missing * fill_value).astype(values.dtype)
            values = values + wrap(fill.reshape(-1, *(1,) * (values.ndim - 1)))
        assert pattern.shape == (n, n)
        return CSR.of(pattern, values)

    def remove_self_loops(self) -> CSR:
        """The matrix without its diagonal."""
        self._square("remove_self_loops")
        p = self.pattern
        kept = np.flatnonzero(p.rows != p.index)
        return _chosen(self, p.rows[kept], kept)

    def normalize_rows(self) -> CSR:
        """D^-1 A, D being the sums of rows: the mean over neighbours.  A row of sum 0 stays 0."""
        return self.scale(power(self.sum(1), -1.0), None)

    def normalize_symmetric(self) -> CSR:
        """D^-1/2 A D^-1/2, D being the sums of rows.  Where that is 0, rows and columns become 0.

        Raises ArgumentError for a negative sum, which has no root.
        """
        self._square("normalize_symmetric")
        root = inverse_root("normalize_symmetric", self.sum(1))
        return self.scale(root, root)

    def scale(self, left: Tensor | None, right: Tensor | None) -> CSR:
        """diag(left) A diag(right), either being None for ones."""
        values = self.full_values()
        if left is not None:
            values = values * ops.spsum(left, self.pattern.by_row.T)
        if right is not None:
            values = values * ops.spsum(right, self.pattern.by_column.T)
        return self.with_values(values)

    def coalesce(self) -> CSR:
        """Columns in rising order within each row, places that occur more than once added up."""
        p = self.pattern
        rows = p.rows
        order = np.lexsort((p.index, rows))
        keys = rows[order].astype(np.int64) * max(p.shape[1], 1) + p.index[order]
        fresh = np.ones(len(keys), bool)
        fresh[1:] = keys[1:] != keys[:-1]
        pattern, _ = Pattern.of_places(rows[order][fresh], p.index[order][fresh], p.shape)
        starts = np.append(np.flatnonzero(fresh), len(keys)).astype(np.int32)
        merge = Pattern.trusted(starts, order.astype(np.int32), p.nonzeros)
        return CSR.of(pattern, ops.spsum(self.full_values(), merge))

    def is_symmetric(self) -> bool:
        """Whether the matrix is its own transpose, to the last bit."""
        if self.shape[0] != self.shape[1]:
            return False
        with no_grad():
            a, b = self.coalesce(), self.T.coalesce()
        same = np.array_equal(a.pattern.starts, b.pattern.starts)
        same = same and np.array_equal(a.pattern.index, b.pattern.index)
        return bool(same and np.array_equal(a.full_values()._array, b.full_values()._array))

    def __getitem__(self, rows: Any) -> CSR:
        """The rows of an integer index (array, tensor, list), a mask or a slice, in that order."""
        if isinstance(rows, slice):
            chosen: Array = np.arange(self.shape[0])[rows]
        else:
            chosen = rows._concrete("CSR index") if isinstance(rows, Tensor) else np.asarray(rows)
            if chosen.dtype.kind == "b" and chosen.shape == (self.shape[0],):
                chosen = np.flatnonzero(chosen)
            if chosen.ndim != 1 or (chosen.dtype.kind not in "iu" and chosen.size):
                raise ArgumentError(
                    "CSR index", f"{rows!r} names no rows", fix="use a slice, or 1-d integers or bools"
                )
        chosen = chosen.astype(np.int64)
        if chosen.size and not -self.shape[0] <= chosen.min() <= chosen.max() < self.shape[0]:
            raise OutOfRangeError(
                "CSR index", f"a row beyond the {self.shape[0]} that there are", fix="count from 0"
            )
        chosen = chosen % max(self.shape[0], 1)
        starts = self.pattern.starts
        counts = starts[chosen + 1] - starts[chosen]
        ends = np.cumsum(counts)
        kept = np.arange(ends[-1] if ends.size else 0) + np.repeat(starts[chosen] - (ends - counts), counts)
        new = np.concatenate([[0], ends]).astype(np.int32)
        pattern = Pattern.trusted(new, self.pattern.index[kept], self.shape[1])
        return CSR.of(pattern, self._picked(kept))

    def _picked(self, kept: Array) -> Tensor | None:
        if self.values is None:
            return None
        places = np.arange(len(kept) + 1, dtype=np.int32)
        return ops.spsum(self.values, Pattern.trusted(places, kept.astype(np.int32), self.nnz))

    # -- out to other forms -------------------------------------------------------------------------------

    def to_dense(self) -> Tensor:
        """The matrix with its zeros, (rows, columns)."""
        values = self.full_values()
        if values.ndim != 1:
            raise ShapeError("to_dense", f"values of shape {values.shape}", fix="convert one head at a time")
        rows, columns = self.shape
        flat = self.pattern.rows.astype(np.int64) * columns + self.pattern.index
        y = wrap(np.zeros(rows * columns, values.dtype)).index_add(0, wrap(flat), values)
        return _reshape(y, (rows, columns))

    def to_edge_index(self) -> tuple[Tensor, Tensor]:
        """(2, nonzeros) int64 with the row and the column of each nonzero, and the values."""
        p = self.pattern
        return wrap(np.stack([p.rows, p.index]).astype(np.int64)), self.full_values()

    def to_scipy(self) -> Any:
        """The same as a `scipy.sparse.csr_array`.  Raises MissingExtraError without scipy."""
        try:
            import scipy.sparse
        except ImportError:
            raise MissingExtraError("to_scipy", "scipy is not installed", fix="pip install scipy") from None
        values = self.full_values().detach().numpy().copy()
        return scipy.sparse.csr_array(
            (values, self.pattern.index.copy(), self.pattern.starts.copy()), self.shape
        )


def power(degree: Tensor, exponent: float) -> Tensor:
    """degree ** exponent, and 0 where the degree is 0; the gradient is 0 there too."""
    empty = degree == 0.0
    return where(empty, 0.0, pow_(where(empty, 1.0, degree), exponent))


def inverse_root(op: str, degree: Tensor) -> Tensor:
    """degree ** -0.5, and 0 where the degree is 0.  ArgumentError for a negative one, if known."""
    if not isinstance(degree._array, Symbol) and degree._array.size and degree._array.min() < 0:
        raise ArgumentError(
            op,
            f"the weights of a node's edges add up to {degree._array.min():g}, which has no root",
            fix="use weights that are not negative, or normalise by rows",
        )
    return power(degree, -0.5)


def _chosen(a: CSR, rows: Array, kept: Array) -> CSR:
    pattern, _ = Pattern.of_places(rows, a.pattern.index[kept], a.pattern.shape)
    return CSR.of(pattern, a._picked(kept))


def with_diagonal(pattern: Pattern) -> tuple[Pattern, Pattern]:
    """A square pattern with each place of the diagonal once, and how its values come from those of the old.

    The second pattern is (new nonzeros x old nonzeros): the row of a diagonal place names the last of
    those that were there before, or is empty.  Diagonal places come last in their rows.
    """
    if "diagonal" in pattern.made:
        found: tuple[Pattern, Pattern] = pattern.made["diagonal"]
        return found
    n = pattern.shape[0]
    rows, index = pattern.rows, pattern.index
    other, there = np.flatnonzero(rows != index), np.flatnonzero(rows == index)
    loops = np.arange(n)
    new, order = Pattern.of_places(
        np.concatenate([rows[other], loops]), np.concatenate([index[other], loops]), (n, n)
    )
    source = np.full(len(other) + n, -1, np.int64)
    source[: len(other)] = other
    source[len(other) + rows[there]] = there  # of several, the last
    source = source[order]
    counts = source >= 0
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    lift = Pattern.trusted(starts, source[counts].astype(np.int32), pattern.nonzeros)
    pattern.made["diagonal"] = new, lift
    return new, lift


# -- making one ----------------------------------------------------------------------------------------


def from_edge_index(edge_index: Any, values: Any = None, num_nodes: Any = None) -> CSR:
    """The adjacency matrix of an edge list: a value in row edge_index[0][e] and column edge_index[1][e].

    Message passing along the edges is a product with its transpose: `from_edge_index(e).t() @ x`.
    num_nodes: how many there are, or (rows, columns); by default the largest number plus one.
    Duplicate edges stay, and add up.  Raises OutOfRangeError for an edge of a node that is not there.
    """
    array = edge_array("from_edge_index", edge_index)
    return from_coo(array[0], array[1], values, _size("from_edge_index", array, num_nodes))


def from_coo(rows: Any, columns: Any, values: Any = None, size: tuple[int, int] | None = None) -> CSR:
    """The matrix with values[k] in row rows[k] and column columns[k]; what falls on one place adds up."""
    r, c = integers("from_coo", "rows", rows), integers("from_coo", "columns", columns)
    if r.shape != c.shape or r.ndim != 1:
        raise ShapeError(
            "from_coo",
            f"rows of shape {r.shape} and columns of shape {c.shape}",
            fix="pass one of each a value",
        )
    if size is None:
        size = (int(r.max()) + 1 if r.size else 0, int(c.max()) + 1 if c.size else 0)
    try:
        pattern, order = Pattern.of_places(r, c, size)
    except ValueError as error:
        raise _refused("from_coo", error) from None
    if values is None:
        return CSR.of(pattern)
    values = floating(values if isinstance(values, Tensor) else wrap(as_array(values)))
    if not values.ndim or values.shape[0] != len(order):
        raise ShapeError(
            "from_coo",
            f"values of shape {values.shape} for {len(order)} places",
            fix="pass one value for each",
        )
    places = np.arange(len(order) + 1, dtype=np.int32)
    return CSR.of(pattern, ops.spsum(values, Pattern.trusted(places, order, len(order))))


def from_dense(x: Any) -> CSR:
    """The nonzeros of a dense matrix; gradients flow back to them."""
    t = floating(x if isinstance(x, Tensor) else wrap(as_array(x)))
    if t.ndim != 2:
        raise ShapeError("from_dense", f"a tensor of shape {t.shape} is no matrix", fix="use two dimensions")
    rows, columns = np.nonzero(t._concrete("from_dense"))
    places = wrap(rows * t.shape[1] + columns)
    return from_coo(rows, columns, _reshape(t, (t.numel(),)).index_select(0, places), t.shape)  # type: ignore[arg-type]


def from_scipy(matrix: Any) -> CSR:
    """A scipy sparse matrix or array of any format; its memory is copied."""
    if not hasattr(matrix, "tocsr"):
        raise DTypeError(
            "from_scipy",
            f"a {type(matrix).__name__} is no scipy sparse matrix",
            fix="use from_dense for arrays",
        )
    a = matrix.tocsr()
    values = np.array(a.data if a.data.dtype.kind == "f" else a.data.astype(np.float32))
    return CSR(
        a.indptr,
        a.indices,
        values.astype(values.dtype if values.dtype.name in ("float32", "float64") else np.float32),
        a.shape,
    )


def eye(n: int, dtype: Any = None) -> CSR:
    """The identity matrix; as features, it gives every node a vector of its own."""
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 0:
        raise ArgumentError("eye", f"n is {n!r}", fix="pass how many rows there are to be")
    wanted = default_float() if dtype is None else as_dtype(dtype, "eye")
    if not is_float(wanted):
        raise DTypeError("eye", f"values cannot be {wanted}", fix="use float32 or float64")
    places = np.arange(n + 1, dtype=np.int32)
    return CSR.of(Pattern.trusted(places, places[:-1].copy(), n), wrap(np.ones(n, wanted)))


# -- operations ----------------------------------------------------------------------------------------


def spmm(a: CSR, x: Any) -> Tensor:
    """The product of a sparse matrix with a dense one, (columns, features) or (columns,).

    With values of several heads, x is (columns, heads, features).  Gradients flow to values and x.
    Raises ShapeError where sizes do not fit.
    """
    if isinstance(a, CSR) and isinstance(x, CSR):
        raise DTypeError("spmm", "the second factor is a sparse matrix, too", fix="use its to_dense()")
    if not isinstance(a, CSR):
        raise DTypeError("spmm", f"a {type(a).__name__} is no sparse matrix", fix="pass a sparse.CSR first")
    t = floating(x if isinstance(x, Tensor) else wrap(as_array(x)))
    if not t.ndim or t.shape[0] != a.shape[1]:
        raise ShapeError(
            "spmm",
            f"a sparse matrix of shape {a.shape} times a tensor of shape {t.shape}",
            fix="the first size of the tensor must be the number of columns; is a transpose (.T) missing?",
        )
    if a.values is None:
        return ops.spsum(t, a.pattern)
    values = a.values
    turned = a.turned if t.requires_grad else values  # only the gradient of t looks at it
    if values.dtype != t.dtype:  # the wider one, as everywhere
        wide = np.promote_types(values.dtype, t.dtype)
        values, turned, t = cast(values, wide), cast(turned, wide), cast(t, wide)
    if t.ndim == values.ndim:
        return _reshape(
            ops.spmm(values, turned, _reshape(t, (*t.shape, 1)), a.pattern), (a.shape[0], *t.shape[1:])
        )
    return ops.spmm(values, turned, t, a.pattern)


def sddmm(a: CSR, left: Tensor, right: Tensor) -> CSR:
    """left @ right.T where `a` has nonzeros, as a matrix with the places of `a` (its values play no part).

    left: (rows, features), right: (columns, features); or both with heads in between.
    """
    return a.with_values(ops.sddmm(left, right, a.pattern))


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Dropout of a tensor, or of the nonzeros of a CSR: its zeros stay zeros either way."""
    if isinstance(x, CSR):
        if not training or p == 0:
            return x
        return x.with_values(ops_dropout(x.full_values(), p, training))
    return ops_dropout(x, p, training)


def gather(x: Tensor, index: Any) -> Tensor:
    """x[index] for a 1-d index; its gradient adds up rows without a search, whatever the order."""
    t = x if isinstance(x, Tensor) else wrap(as_array(x))
    if not t.ndim:
        raise ShapeError("gather", "a tensor of shape () has no rows", fix="pass (n, ...)")
    pattern = segments("gather", index, t.shape[0])
    if not is_float(t.dtype):
        return t.index_select(0, wrap(integers("gather", "the index", index).astype(np.int64)))
    return ops.spsum(t, pattern.T)


def segment_sum(src: Any, index: Any, dim_size: int | None = None) -> Tensor:
    """y[i] = the sum of the rows of `src` (n, ...) whose index (n,) is i; 0 where there are none.

    dim_size: the number of rows of y, by default the largest index plus one.  Gradients flow to src.
    Raises OutOfRangeError for an index that is negative or too large.
    """
    return _segment("segment_sum", ops.spsum, src, index, dim_size)[0]


def segment_mean(src: Any, index: Any, dim_size: int | None = None) -> Tensor:
    """y[i] = the mean of the rows of `src` whose index is i; 0 where there are none."""
    y, pattern = _segment("segment_mean", ops.spsum, src, index, dim_size)
    counts = np.maximum(np.diff(pattern.starts), 1).astype(y.dtype)
    return y / wrap(counts.reshape(-1, *(1,) * (y.ndim - 1)))


def segment_max(src: Any, index: Any, dim_size: int | None = None) -> Tensor:
    """y[i] = the maximum over the rows of `src` whose index is i; 0 where there are none.

    Rows that attain it share the gradient.
    """
    return _segment("segment_max", ops.spmax, src, index, dim_size)[0]


def segment_min(src: Any, index: Any, dim_size: int | None = None) -> Tensor:
    """y[i] = the minimum over the rows of `src` whose index is i; 0 where there are none."""
    return -_segment("segment_min", lambda x, p: ops.spmax(-x, p), src, index, dim_size)[0]


def segment_softmax(src: Any, index: Any, dim_size: int | None = None) -> Tensor:
    """The softmax over the rows of `src` that have the same index, for each of their elements."""
    return _segment("segment_softmax", ops.segment_softmax, src, index, dim_size)[0]


def _segment(
    op: str, function: Callable[..., Tensor], src: Any, index: Any, dim_size: int | None
) -> tuple[Tensor, Pattern]:
    t = floating(src if isinstance(src, Tensor) else wrap(as_array(src)))
    pattern = segments(op, index, dim_size)
    if not t.ndim or t.shape[0] != pattern.shape[1]:
        raise ShapeError(
            op,
            f"an index of {pattern.shape[1]} numbers for a tensor of shape {t.shape}",
            fix="pass one number for each row",
        )
    return function(t, pattern), pattern
