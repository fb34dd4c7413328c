"""What a layer makes of the graph it is given, once for each graph.

A layer is called with `edge_index` (2, edges), row 0 the sources and row 1 the targets, or with the
matrix that messages are multiplied by, a `sparse.CSR` whose rows are targets (what PyTorch Geometric
calls `adj_t`).  Either becomes `Edges`: a pattern with one row a target, so that the messages to a
node lie side by side and adding them up is a loop over memory.

    >>> import minigrad as mg
    >>> edge_index = mg.tensor([[0, 2, 1], [1, 1, 0]])
    >>> e = edges("example", edge_index, 3, 3)
    >>> e.pattern.starts.tolist(), e.pattern.index.tolist()
    ([0, 1, 3, 3], [1, 0, 2])
    >>> e.in_order(mg.tensor([10.0, 20.0, 30.0]))          # values of edges, in the order of the pattern
    tensor([30., 10., 20.])

All of it is remembered for an edge_index tensor, normalised matrices included, until the tensor is
changed: a layer that is called a thousand times with one graph sorts and normalises it once.  (Arrays and
lists may change unseen, so they are converted at every call.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ...ir import is_float
from ...mode import Switch
from ...ops import sparse as ops
from ...ops.sparse import Pattern
from ...sparse import CSR, constant, edge_array, grouped, inverse_root, known, watch, with_diagonal
from ...tensor import Tensor, as_array, wrap


class Edges:
    """The edges of a graph, grouped by target.

    pattern: (targets x sources).  lift: (nonzeros x edges), which edge each nonzero is; None where they are
    the same, or more than the edges (see `with_self_loops`).  weight: values that came with the graph.
    """

    def __init__(self, pattern: Pattern, lift: Pattern | None, weight: Tensor | None = None) -> None:
        self.pattern, self.lift, self.weight = pattern, lift, weight
        self.count = pattern.nonzeros if lift is None else lift.shape[1]
        #: Sources and targets of edges, as tensors that stay the same.
        self.ends: tuple[Tensor, Tensor] | None = None
        self._loops: Edges | None = None

    def in_order(self, values: Tensor) -> Tensor:
        """Values of edges (edges, ...) in the order of nonzeros; 0 for self loops that were added."""
        return values if self.lift is None else ops.spsum(values, self.lift)

    def weights(self, op: str, edge_weight: Any, dtype: Any) -> Tensor | None:
        """The weight of each nonzero, from an argument or from the graph; None: ones.

        Raises ShapeError unless there is one for each edge.
        """
        if edge_weight is None:
            return self.weight
        weight = edge_weight if isinstance(edge_weight, Tensor) else wrap(as_array(edge_weight, dtype))
        if weight.ndim == 2 and weight.shape[1] == 1:
            weight = weight.squeeze(1)
        if weight.shape != (self.count,):
            raise ShapeError(
                op,
                f"edge_weight of shape {weight.shape} for {self.count} edges",
                fix="pass one number for each edge",
            )
        return self.in_order(weight if weight.dtype == dtype else weight.to(dtype))

    def with_self_loops(self) -> Edges:
        """Exactly one self loop at every node, the others as they are.

        The new nonzeros are lifted from the edges; those of a loop that was not there from none.
        """
        if self._loops is None:
            pattern, lift = with_diagonal(self.pattern)
            if self.lift is not None:  # through the nonzeros of the old pattern to its edges
                lift = Pattern.trusted(lift.starts, self.lift.index[lift.index], self.count)
            self._loops = Edges(pattern, lift)
        return self._loops

    def __repr__(self) -> str:
        return f"<edges {self.pattern.shape[1]} -> {self.pattern.shape[0]}, {self.pattern.nonzeros}>"


def edges(op: str, edge_index: Any, sources: int, targets: int) -> Edges:
    """The edges that a layer works on; see the module.

    Raises OutOfRangeError for an edge of a node that has no features, ShapeError for a matrix of
    another size, DTypeError for what is neither.
    """
    if isinstance(edge_index, CSR):
        if edge_index.shape != (targets, sources):
            raise ShapeError(
                op,
                f"a matrix of shape {edge_index.shape} for {sources} sources and {targets} targets",
                fix="pass (targets, sources), the transposed adjacency matrix adj.t()",
            )
        if edge_index.values is not None and edge_index.values.ndim != 1:
            raise ShapeError(op, "a matrix with several heads", fix="pass one value for each edge")
        weight = edge_index.values
        return _of_matrix(edge_index.pattern, weight)
    if not isinstance(edge_index, (Tensor, np.ndarray, list, tuple)):
        raise DTypeError(
            op,
            f"edge_index is a {type(edge_index).__name__}",
            fix="pass a (2, edges) tensor, or a sparse.CSR with a row for each target",
        )
    array = edge_array(op, edge_index)

    def make() -> Edges:
        bounds = (("source", array[0], sources), ("target", array[1], targets))
        for name, nodes, count in bounds:
            if nodes.size and not 0 <= nodes.min() <= nodes.max() < count:
                bad = int(nodes.max() if nodes.max() >= count else nodes.min())
                raise OutOfRangeError(
                    op,
                    f"an edge has the {name} {bad}, but there are {count} nodes with features",
                    fix="count nodes from 0, and give x a row for each",
                )
        pattern, order = grouped(edge_index, array, (targets, sources))
        places = np.arange(len(order) + 1, dtype=np.int32)
        return Edges(pattern, Pattern.trusted(places, order, len(order)))

    made: Edges = known.get(edge_index, ("edges", sources, targets), make)
    return made


def _of_matrix(pattern: Pattern, weight: Tensor | None) -> Edges:
    """Of one pattern there is one structure, so that what hangs on it (self loops) is made once."""
    bare: Edges = made_once(pattern, "edges", lambda: Edges(pattern, None))
    if weight is None:
        return bare
    weighted = Edges(pattern, None, weight)
    weighted._loops = bare.with_self_loops() if pattern.shape[0] == pattern.shape[1] else None
    return weighted


def sizes(op: str, x: Any, dense: bool = False) -> tuple[Any, Any, int, int]:
    """x, or (x of sources, x of targets), and how many of each there are.

    Raises ShapeError unless each is (nodes, features), DTypeError unless it is a tensor of floats, or a CSR
    where the layer takes one (not `dense`).
    """
    pair = x if isinstance(x, tuple) else (x, x)
    if len(pair) != 2 or pair[0] is None:
        raise ArgumentError(op, f"x has {len(pair)} parts", fix="pass a tensor, or (x_source, x_target)")
    for part in pair:
        if part is None:
            continue
        if not isinstance(part, (Tensor, CSR)):
            raise DTypeError(op, f"x is a {type(part).__name__}", fix="pass a tensor, mg.tensor(x)")
        if dense and isinstance(part, CSR):
            raise DTypeError(op, "x is a sparse matrix", fix="use x.to_dense()")
        if len(part.shape) != 2:
            raise ShapeError(op, f"x of shape {tuple(part.shape)}", fix="pass a (nodes, features) tensor")
        if not is_float(part.dtype):
            raise DTypeError(op, f"x has dtype {part.dtype}", fix="use floating point, x.float()")
    source, target = pair
    return source, target, source.shape[0], source.shape[0] if target is None else target.shape[0]


def nodes(op: str, x: Any, dense: bool = False) -> int:
    """How many nodes there are, for a layer between nodes of one kind; raises as `sizes`."""
    if isinstance(x, tuple):
        raise ArgumentError(
            op, "x is a pair, of sources and targets", fix="pass one tensor, or use SAGEConv or GATConv"
        )
    return sizes(op, x, dense)[2]


def features(op: str, x: Any, wanted: int, name: str = "in_channels") -> None:
    """Raise ShapeError if the nodes do not have as many features as the layer was made for."""
    if x is not None and x.shape[-1] != wanted:
        raise ShapeError(
            op,
            f"x of shape {tuple(x.shape)} for a layer with {name}={wanted}",
            fix="make the layer with the number of features that the nodes have",
        )


def gcn_norm(
    op: str,
    e: Edges,
    edge_weight: Any,
    dtype: Any,
    *,
    improved: bool = False,
    add_self_loops: bool = True,
) -> CSR:
    """D^-1/2 (A + I) D^-1/2, with 2 I if `improved`; made once unless the weights are being learned."""
    if add_self_loops and e.pattern.shape[0] != e.pattern.shape[1]:
        raise ShapeError(
            op, f"self loops for {e.pattern.shape} targets and sources", fix="pass add_self_loops=False"
        )
    weight = edge_weight if edge_weight is not None else e.weight
    fill = 2.0 if improved else 1.0

    def make() -> CSR:
        values = e.weights(op, edge_weight, dtype)
        a = CSR.of(e.pattern, values).to(dtype)
        if add_self_loops:
            a = a.add_self_loops(fill)
        return a.normalize_symmetric() if a.shape[0] == a.shape[1] else _both_sides(a, op)

    key = ("gcn_norm", dtype, fill, add_self_loops)
    if weight is None:
        made: CSR = made_once(e.pattern, key, make)
    elif isinstance(weight, Tensor) and constant(weight):
        watch(weight, "edge weights that were changed")
        made = known.get(weight, (e.pattern, e.lift, *key), make)
    else:
        made = make()
    return made


def _both_sides(a: CSR, op: str) -> CSR:
    """Of a matrix that is not square, by the sums of rows and of columns."""
    return a.scale(inverse_root(op, a.sum(1)), inverse_root(op, a.sum(0)))


def made_once(pattern: Pattern, key: Any, make: Callable[[], Any]) -> Any:
    """`make()`, run outside of any trace, remembered with the pattern."""
    if key not in pattern.made:
        with Switch(trace=None, grad=False):
            pattern.made[key] = make()
    return pattern.made[key]


def mean_matrix(e: Edges, dtype: Any) -> CSR:
    """D^-1 A of a graph without weights: the mean over neighbours."""
    made: CSR = made_once(e.pattern, ("mean", dtype), lambda: CSR.of(e.pattern).to(dtype).normalize_rows())
    return made
