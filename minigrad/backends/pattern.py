"""Where a sparse matrix has its nonzeros: the static part of every sparse operation.

A matrix in compressed sparse row form (CSR) has in row r the nonzeros

    starts[r] <= k < starts[r + 1],    nonzero k being in column index[k]

and a value for each of them.  Values are tensors, may be traced and have gradients; the *pattern* is
plain data that never changes, so it is an attribute of operations, like the axis of a sum: checked
once when it is made, trusted by every kernel, and captured with a program.

    >>> p = Pattern([0, 2, 3], [0, 2, 1], columns=3)       # [[a, 0, b], [0, c, 0]]
    >>> p
    <pattern 2x3, 3 nonzeros>
    >>> p.T.starts.tolist(), p.T.index.tolist()
    ([0, 1, 2, 3], [0, 1, 0])

The transposed pattern lists the same nonzeros in another order: values of `p` in the order of `p.T` are
`values[p.order]`.  Three matrices of ones come from it, each with one nonzero in every row, so that
multiplying by it picks rows, and by its transpose adds them up:

    by_row.T      picks, for each nonzero, the row of its row            (nonzeros x rows)
    by_column.T   picks, for each nonzero, the row of its column         (nonzeros x columns)
    turn          puts values into the order of `p.T`                    (nonzeros x nonzeros)

    >>> p.by_row.T.index.tolist(), p.by_column.T.index.tolist(), p.turn.index.tolist()
    ([0, 0, 1], [0, 2, 1], [0, 2, 1])

Indices are int32: half the memory to read; a matrix of 2^31 nonzeros does not fit where this runs.
References: Gustavson 1978 (ACM TOMS 4), for the format and its transpose in linear time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import c as _c

Array = Any

#: What fits into an index.
LIMIT = 2**31 - 1


class Pattern:
    """Rows, columns and the places of nonzeros.  Immutable; compared and hashed by identity.

    starts: (rows + 1,) integers rising from 0 to the number of nonzeros.  index: the column of each.
    Raises ValueError for arrays that are none of this.
    """

    __slots__ = (
        "__weakref__",
        "_by_column",
        "_by_row",
        "_order",
        "_single",
        "_turn",
        "_turned",
        "index",
        "made",
        "shape",
        "starts",
    )

    def __init__(self, starts: Array, index: Array, columns: int) -> None:
        starts, index = np.asarray(starts), np.asarray(index)
        for name, a in (("starts", starts), ("index", index)):
            if a.ndim != 1 or (a.dtype.kind not in "iu" and a.size):
                raise ValueError(f"{name} must be one-dimensional integers, not {a.dtype} of shape {a.shape}")
        if not 0 <= columns < LIMIT or len(starts) > LIMIT or len(index) > LIMIT:
            raise ValueError(f"a matrix with {columns} columns and {len(index)} nonzeros is too large")
        if len(starts) < 1 or starts[0] != 0 or starts[-1] != len(index) or (starts[1:] < starts[:-1]).any():
            raise ValueError(f"starts must rise from 0 to the number of nonzeros, {len(index)}")
        if index.size and not 0 <= index.min() <= index.max() < columns:
            bad = index.max() if index.max() >= columns else index.min()
            raise ValueError(f"index {bad} is out of range for {columns} columns")
        self._set(starts.astype(np.int32), index.astype(np.int32), int(columns))

    def _set(self, starts: Array, index: Array, columns: int) -> None:
        for a in (starts, index):
            a.flags.writeable = False
        self.starts, self.index = starts, index
        self.shape: tuple[int, int] = (len(starts) - 1, columns)
        self._order: Array | None = None
        self._turned: Pattern | None = None
        self._by_row: Pattern | None = None
        self._by_column: Pattern | None = None
        self._turn: Pattern | None = None
        self._single: bool | None = None
        #: What others have made of this pattern and want to find again.
        self.made: dict[Any, Any] = {}

    @classmethod
    def trusted(cls, starts: Array, index: Array, columns: int) -> Pattern:
        """A pattern of int32 arrays that are known to be right; they must never change again."""
        self = cls.__new__(cls)
        self._set(starts, index, columns)
        return self

    @classmethod
    def of_places(cls, rows: Array, columns: Array, shape: tuple[int, int]) -> tuple[Pattern, Array]:
        """The pattern of nonzeros at (rows[i], columns[i]), and which i each of its nonzeros is.

        Those of one row keep their order; a place may occur more than once.  Raises ValueError for
        a place outside of the shape.
        """
        for name, a, bound in (("row", rows, shape[0]), ("column", columns, shape[1])):
            if a.size and not 0 <= a.min() <= a.max() < bound:
                bad = a.max() if a.max() >= bound else a.min()
                raise ValueError(f"{name} {bad} is out of range for {bound}")
        if len(rows) > LIMIT or max(shape) >= LIMIT:
            raise ValueError(f"a matrix of shape {shape} with {len(rows)} nonzeros is too large")
        starts, order = group(np.ascontiguousarray(rows, np.int32), shape[0])
        index = np.ascontiguousarray(columns, np.int32)[order]
        return cls.trusted(starts, index, shape[1]), order

    @property
    def nonzeros(self) -> int:
        """How many there are."""
        return len(self.index)

    @property
    def rows(self) -> Array:
        """The row of each nonzero, int32."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.starts))

    @property
    def T(self) -> Pattern:
        """The transposed pattern, made once; its own transpose is this one."""
        if self._turned is None:
            starts, order = group(self.index, self.shape[1])
            turned = Pattern.trusted(starts, self.rows[order], self.shape[0])
            back = np.empty_like(order)
            back[order] = np.arange(len(order), dtype=np.int32)
            self._link(turned, order, back)
        return self._turned  # type: ignore[return-value]

    def _link(self, turned: Pattern, order: Array, back: Array) -> None:
        for a in (order, back):
            a.flags.writeable = False
        turned._turned, turned._order = self, back
        self._order, self._turned = order, turned

    @property
    def order(self) -> Array:
        """Which nonzero of this pattern each nonzero of the transposed one is, int32."""
        _ = self.T
        return self._order

    @property
    def single(self) -> bool:
        """Whether every row has exactly one nonzero, so that multiplying picks rows."""
        if self._single is None:
            self._single = self.shape[0] == self.nonzeros and bool((np.diff(self.starts) == 1).all())
        return self._single

    def _ones(self, starts: Array, index: Array, back: Array) -> Pattern:
        """The matrix with column k in the row that `starts` and `index` say, and its transpose; `back`
        is the row of each column."""
        places = np.arange(self.nonzeros + 1, dtype=np.int32)
        down = Pattern.trusted(starts, index, self.nonzeros)
        up = Pattern.trusted(places, back, len(starts) - 1)
        inverse = np.empty_like(index)
        inverse[index] = places[:-1]
        down._link(up, inverse, index)
        return down

    @property
    def by_row(self) -> Pattern:
        """Nonzeros added up by row, (rows x nonzeros)."""
        if self._by_row is None:
            self._by_row = self._ones(self.starts, np.arange(self.nonzeros, dtype=np.int32), self.rows)
        return self._by_row

    @property
    def by_column(self) -> Pattern:
        """Nonzeros added up by column, (columns x nonzeros)."""
        if self._by_column is None:
            self._by_column = self._ones(self.T.starts, self.order, self.index)
        return self._by_column

    @property
    def turn(self) -> Pattern:
        """The permutation that puts values into the order of the transposed pattern."""
        if self._turn is None:
            places = np.arange(self.nonzeros + 1, dtype=np.int32)
            self._turn = Pattern.trusted(places, self.order, self.nonzeros)
            inverse = Pattern.trusted(places, self.T.order, self.nonzeros)
            self._turn._link(inverse, self.T.order, self.order)
            self.T._turn = inverse
        return self._turn

    def __repr__(self) -> str:
        return f"<pattern {self.shape[0]}x{self.shape[1]}, {self.nonzeros} nonzeros>"


def group(keys: Array, bound: int) -> tuple[Array, Array]:
    """Where each of the groups 0 .. bound - 1 starts, and the positions of int32 keys in them, in order."""
    if not _c.available:
        counts = np.bincount(keys, minlength=bound)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return starts, np.argsort(keys, kind="stable").astype(np.int32)
    starts, order = np.empty(bound + 1, np.int32), np.empty(len(keys), np.int32)
    int32s = "int32_t[]"
    of = _c.ffi.from_buffer
    _c._check(_c.lib.mg_group(len(keys), bound, of(int32s, keys), of(int32s, starts), of(int32s, order)))
    return starts, order
