"""Pieces: the steps of a graph, cut into what one instruction can do.

`passes.fuse` says which nodes could share a loop; what the kernels at hand really do in one go is less. Here
each group is cut into pieces, a range of nodes each, so that a piece is one instruction, or (a node that no
kernel knows) one call of numpy. Only ranges change, no node, so the result is a graph with other groups, to
be planned like any other.

A piece is found by trying: a run of elementwise nodes is compiled for the machines of `loops`, and cut in two
where they refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..backends import c as _c
from ..backends.tile import Unsupported
from ..ir import Graph, Group, Node, Shape, bool_
from . import loops
from .places import Layout, is_dense

#: Products with fewer rows or columns have kernels of their own, which do nothing behind them.
NARROW = 16
#: Elements that a sum inside of a loop may keep side by side.
MOST_KEPT = 1 << 12


@dataclass
class Piece:
    """A range of nodes that is one step: `kind` says what makes an instruction of it."""

    group: Group
    kind: str
    made: Any = None
    outputs: tuple[int, ...] = ()  # positions within a lane


class Cutter:
    """Cuts the groups of a graph; see the module."""

    def __init__(self, graph: Graph, layouts: Sequence[Layout | None], numpy: Callable[[Node], bool]) -> None:
        self.graph = graph
        self.layouts = layouts
        self.numpy = numpy  # nodes that only numpy may compute
        first = graph.first_node
        self.users: list[list[int]] = [[] for _ in graph.nodes]
        for position, node in enumerate(graph.nodes):
            for v in node.inputs:
                if v >= first:
                    self.users[v - first].append(position)
        self.results = set(graph.results)

    def cut(self) -> tuple[Graph, dict[int, Piece]]:
        """The graph with its new groups, and the piece of each step by the position of its first node."""
        pieces: list[Piece] = []
        start = 0
        for group in (*self.graph.groups, Group(len(self.graph.nodes), len(self.graph.nodes))):
            pieces += self.run(start, group.start, alone=True)
            if group.lanes > 1:
                pieces += self.lanes(group)
            else:
                pieces += self.run(group.start, group.stop)
            start = group.stop
        groups = tuple([p.group for p in pieces if p.group.stop - p.group.start > 1])
        return replace(self.graph, groups=groups), {p.group.start: p for p in pieces}

    # -- facts -----------------------------------------------------------------------------------------

    def outside(self, position: int, start: int, stop: int) -> bool:
        """Whether somebody outside of a range uses a node."""
        if self.graph.first_node + position in self.results:
            return True
        return any(not start <= u < stop for u in self.users[position])

    def stored(self, start: int, stop: int, lanes: int = 1) -> tuple[int, ...]:
        """Which nodes of a range are used outside, counted from its start."""
        if lanes == 1 and stop - start == 1:  # has a place, even if nobody uses it
            return (0,)
        return tuple([p - start for p in range(start, stop) if self.outside(p, start, stop)])

    def dense(self, v: int) -> bool:
        """Whether a value lies row by row."""
        layout = self.layouts[v]
        return layout is None or is_dense(self.graph.spec(v).shape, layout.strides)

    # -- lanes -----------------------------------------------------------------------------------------

    def lanes(self, group: Group) -> list[Piece]:
        """Copies of one program over several tensors."""
        length = (group.stop - group.start) // group.lanes
        ranges = [range(s, s + length) for s in range(group.start, group.stop, length)]
        outputs = {self.stored(r.start, r.stop, group.lanes) for r in ranges}
        if len(outputs) == 1 and not self.overlapping(ranges):
            (chosen,) = outputs
            piece = self.elementwise(ranges, chosen)
            if piece is not None:
                return [piece]
        return [piece for r in ranges for piece in self.run(r.start, r.stop)]

    def overlapping(self, ranges: Sequence[range]) -> bool:
        """Whether a lane may write over what another one reads: updates go right into the state."""
        targets = {v: target for target, v in self.graph.updates}
        first = self.graph.first_node
        writes: dict[int, int] = {}
        for k, r in enumerate(ranges):
            for p in r:
                target = targets.get(first + p)
                if target is not None:
                    writes[target] = k
        for k, r in enumerate(ranges):
            for p in r:
                for v in self.graph.nodes[p].inputs:
                    if writes.get(v, k) != k:
                        return True
        return False

    def elementwise(self, ranges: Sequence[range], outputs: Sequence[int]) -> Piece | None:
        """One instruction for elementwise nodes, in one lane or several."""
        graph = self.graph
        nodes = [graph.nodes[p] for p in ranges[0]]
        if any(
            n.op.kind != "elementwise" or self.numpy(n)
            for r in ranges
            for n in map(graph.nodes.__getitem__, r)
        ):
            return None
        group = Group(ranges[0].start, ranges[-1].stop, len(ranges))
        if not outputs:
            return Piece(group, "dead")
        sizes = [loops.count_of(graph.nodes[r[0]].spec.shape) for r in ranges]
        if 0 in sizes or len(outputs) > _c.lib.MG_MAX_OUTPUTS:
            return None
        if max(sizes) > 1:
            try:
                made = loops.flat(graph, ranges, outputs)
                if len(made.code.code) <= _c.lib.MG_MAX_PATCHED and self.lies_flat(made, ranges):
                    return Piece(group, "lanes", made, tuple(outputs))
            except Unsupported:
                pass
            if len(ranges) == 1:
                try:
                    made = loops.flat(graph, ranges, outputs, scalars=False)
                    if len(nodes[0].spec.shape) <= _c.lib.MG_MAX_RANK:
                        return Piece(group, "tile", made, tuple(outputs))
                except Unsupported:
                    pass
        try:
            typed = loops.mixed(graph, ranges, outputs)
        except Unsupported:
            return None
        for values in typed.inputs:
            for v, r in zip(values, ranges, strict=True):
                n = loops.count_of(graph.spec(v).shape)
                if n not in (1, loops.count_of(graph.nodes[r[0]].spec.shape)) or not self.dense(v):
                    return None
        if len(set(sizes)) > 1:
            return None
        return Piece(group, "mixed", typed, tuple(outputs))

    def lies_flat(self, made: loops.Flat, ranges: Sequence[range]) -> bool:
        """Whether every operand of every lane has the shape of its loop, row by row."""
        for values in made.inputs:
            for v, r in zip(values, ranges, strict=True):
                if self.graph.spec(v).shape != self.graph.nodes[r[0]].spec.shape or not self.dense(v):
                    return False
        return True

    # -- one lane --------------------------------------------------------------------------------------

    def run(self, start: int, stop: int, *, alone: bool = False) -> list[Piece]:
        """The pieces of a range; alone: of nodes that are no group."""
        graph = self.graph
        pieces: list[Piece] = []
        at = start
        while at < stop:
            node = graph.nodes[at]
            if self.numpy(node):
                pieces.append(Piece(Group(at, at + 1), "numpy"))
                at += 1
            elif node.op.kind == "contraction":
                piece = self.contraction(at, at + 1 if alone else stop)
                pieces.append(piece)
                at = piece.group.stop
            elif (pair := self.pair(at, stop)) is not None:
                pieces.append(pair)
                at = pair.group.stop
            elif node.op.kind == "elementwise" or self.summed(at, (), ()) is not None:
                end = at
                while end < (at + 1 if alone else stop) and self.loops(at, end):
                    end += 1
                found = self.longest(at, end) if end > at else Piece(Group(at, at + 1), "node")
                pieces.append(found)
                at = found.group.stop
            else:
                pieces.append(Piece(Group(at, at + 1), "node"))
                at += 1
        return pieces

    def pair(self, start: int, stop: int) -> Piece | None:
        """Several nodes that one kernel of its own computes."""
        return self.pooling(start, stop) or self.loss(start, stop) or self.squares(start, stop)

    def pooling(self, start: int, stop: int) -> Piece | None:
        """The places of the maxima, and the picking of the values there: the kernel has both at once."""
        graph, first = self.graph, self.graph.first_node
        node = graph.nodes[start]
        if node.op.name != "max_pool2d_index":
            return None
        shaped = {node.inputs[0]: node.inputs[0], first + start: first + start}  # a reshape -> what of
        for end in range(start + 1, min(start + 4, stop)):
            other = graph.nodes[end]
            if other.op.name == "reshape" and other.inputs[0] in shaped:
                shaped[first + end] = shaped[other.inputs[0]]
            elif other.op.name == "gather" and other.attrs[0] == len(other.spec.shape) - 1 == 2:
                if [shaped.get(v) for v in other.inputs] == [node.inputs[0], first + start]:
                    return Piece(Group(start, end + 1), "node", (first + end,))
                return None
            else:
                return None
        return None

    def loss(self, start: int, stop: int) -> Piece | None:
        """A cross-entropy with its gradient right behind it."""
        if start + 1 >= stop:
            return None
        node, other = self.graph.nodes[start : start + 2]
        if node.op.name != "softmax_cross_entropy" or other.op.name != "softmax_cross_entropy_grad":
            return None
        if other.inputs[1:] != node.inputs or self.graph.first_node + start == other.inputs[0]:
            return None
        return Piece(Group(start, start + 2), "node", (self.graph.first_node + start + 1,))

    def squares(self, start: int, stop: int) -> Piece | None:
        """The sum of squared deviations from a mean: x - mean, square, sum; one pass over x knows it."""
        graph, first = self.graph, self.graph.first_node
        if start + 3 > stop:
            return None
        minus, square, total = graph.nodes[start : start + 3]
        if [n.op.name for n in (minus, square, total)] != ["sub", "square", "sum"]:
            return None
        if square.inputs != (first + start,) or total.inputs != (first + start + 1,):
            return None
        if self.outside(start, start, start + 2) or self.outside(start + 1, start, start + 3):
            return None
        x, m = minus.inputs
        made = graph.nodes[m - first] if m >= first else None
        shape = graph.spec(x).shape
        if made is None or made.op.name != "mean" or made.inputs != (x,) or minus.spec.shape != shape:
            return None
        if reduced_dims(made, shape) != reduced_dims(total, shape) or not made.attrs[1]:
            return None
        if any(map(self.numpy, (minus, square, total))) or 0 in shape:
            return None
        return Piece(Group(start, start + 3), "squares")

    def loops(self, start: int, position: int) -> bool:
        """Whether a node may go on in the loop that began at `start`."""
        graph, first = self.graph, self.graph.first_node
        node = graph.nodes[position]
        if self.numpy(node) or 0 in node.spec.shape:
            return False
        space = loops.space_of(graph, graph.nodes[start])
        if any(
            graph.nodes[v - first].op.kind == "reduction"
            for v in node.inputs
            if first + start <= v < first + position
        ):
            return False  # a sum is there when the loop has ended
        if node.op.kind == "elementwise":
            if node.spec.shape != space:
                return False
            mine, theirs = loops.machine_dtype(graph, node), None
            for p in range(start, position):
                theirs = self.dtype_of(p)
                if theirs != bool_:
                    break
            return position == start or mine in (theirs, bool_) or theirs == bool_
        return self.summed(position, range(start, position), space) is not None

    def dtype_of(self, position: int) -> Any:
        node = self.graph.nodes[position]
        if node.op.kind == "elementwise":
            return loops.machine_dtype(self.graph, node)
        return self.graph.spec(node.inputs[0]).dtype

    def summed(self, position: int, inside: Any, space: Any) -> tuple[int, float | None] | None:
        """If a node is a sum over leading dimensions: how many it keeps, and what it is scaled by."""
        graph = self.graph
        node = graph.nodes[position]
        if node.op.name not in ("sum", "mean", "sum_to") or node.spec.dtype.kind != "f" or self.numpy(node):
            return None
        shape = graph.spec(node.inputs[0]).shape
        if 0 in shape or len(shape) > _c.lib.MG_MAX_RANK or (space != () and shape != space):
            return None
        dims = reduced_dims(node, shape)
        gone = [d for d in range(len(shape)) if d in dims or shape[d] == 1]
        kept = [d for d in range(len(shape)) if d not in gone]
        first_kept = kept[0] if kept else len(shape)
        if any(d > first_kept and shape[d] != 1 for d in dims) or (not any(shape[d] > 1 for d in dims)):
            return None
        if loops.count_of(tuple([shape[d] for d in kept])) > MOST_KEPT:
            return None
        scale = 1.0 / loops.count_of(tuple([shape[d] for d in dims])) if node.op.name == "mean" else None
        return len(shape) - first_kept, scale

    def longest(self, start: int, stop: int) -> Piece:
        """The longest piece from `start` on that the machines take."""
        while stop > start:
            piece = self.loop(start, stop)
            if piece is not None:
                return piece
            stop = start + (stop - start) // 2
        return Piece(Group(start, start + 1), "node")

    def loop(self, start: int, stop: int) -> Piece | None:
        """One instruction for a range of elementwise nodes and sums."""
        graph, first = self.graph, self.graph.first_node
        outputs = self.stored(start, stop)
        sums: dict[int, int] = {}
        scales: dict[int, float] = {}
        plain: list[int] = []  # the nodes of the loop proper
        for p in range(start, stop):
            if graph.nodes[p].op.kind != "reduction":
                plain.append(p)
        if len(plain) == stop - start:
            return self.elementwise([range(start, stop)], outputs)
        if (
            any(self.numpy(graph.nodes[p]) for p in range(start, stop))
            or len(outputs) > _c.lib.MG_MAX_OUTPUTS
        ):
            return None
        if not outputs:
            return Piece(Group(start, stop), "dead")
        # Sums stand between the nodes: the program is that of the others, and gives the sums' operands.
        kept_outputs: list[int] = []
        for position, o in enumerate(outputs):
            node = graph.nodes[start + o]
            if node.op.kind != "reduction":
                kept_outputs.append(start + o)
                continue
            found = self.summed(start + o, (), ())
            if found is None:
                return None
            sums[position] = found[0]
            if found[1] is not None:
                scales[position] = found[1]
            kept_outputs.append(node.inputs[0] - first)
        if not plain or any(p not in plain for p in kept_outputs):
            return None  # a sum of something outside is left to the reductions, which are made for it
        index = {p: i for i, p in enumerate(plain)}
        try:
            made = loops.flat(
                graph, [plain], [index[p] for p in kept_outputs], scalars=False, sums=sums, scales=scales
            )
        except Unsupported:
            return None
        return Piece(Group(start, stop), "tile", made, outputs)

    def contraction(self, start: int, stop: int) -> Piece:
        """A product with its epilogue: a bias for each column (or channel), and relu."""
        graph, first = self.graph, self.graph.first_node
        node = graph.nodes[start]
        end = start + 1
        bias = None
        activation = False
        forward = node.op.name in ("matmul", "conv2d")
        while forward and end < stop and not self.numpy(graph.nodes[end]) and not activation:
            step, before = graph.nodes[end], first + end - 1
            if before not in step.inputs or self.outside(end - 1, start, end + 1) or step.spec != node.spec:
                break
            if step.op.name == "add" and bias is None:
                other = step.inputs[1] if step.inputs[0] == before else step.inputs[0]
                if other == before or not self.is_bias(other, node):
                    break
                bias = other
            elif step.op.name == "relu":
                activation = True
            else:
                break
            end += 1
        if node.op.name == "matmul" and not activation:
            found = self.behind(start, end, stop, bias)
            if found is not None:
                return found
        return Piece(Group(start, end), "node", (bias, activation))

    def behind(self, start: int, end: int, stop: int, bias: int | None) -> Piece | None:
        """A product of few terms, and the elementwise nodes behind it, done while its rows are in cache."""
        graph, last = self.graph, end - 1
        node = graph.nodes[start]
        a, b = (graph.spec(v).shape for v in node.inputs)
        terms = a[-2 if node.attrs[0] else -1] if len(a) == 2 else 0
        if len(b) != 2 or not 0 < terms * node.spec.dtype.itemsize <= _c.lib.MG_SHALLOW:
            return None
        if min(node.spec.shape) < NARROW or self.numpy(node):
            return None
        while end < stop and graph.nodes[end].op.kind == "elementwise" and graph.nodes[end].spec == node.spec:
            end += 1
        if end == last + 1 or self.outside(last, start, end):
            return None
        inner = range(last + 1, end)
        outputs = tuple([p - inner.start for p in inner if self.outside(p, start, end)])
        if not outputs or len(outputs) > _c.lib.MG_MAX_OUTPUTS:
            return None
        if any(self.numpy(graph.nodes[p]) for p in inner):
            return None
        try:
            made = loops.flat(graph, [inner], outputs)
        except Unsupported:
            return None
        if len(made.code.code) > _c.lib.MG_MAX_PATCHED or not self.lies_flat(made, [inner]):
            return None
        product = (graph.first_node + last,)
        if product not in made.inputs:
            return None
        return Piece(Group(start, end), "product", (bias, last + 1 - start, made), outputs)

    def is_bias(self, v: int, node: Node) -> bool:
        """Whether a value has one number for each column of a product, or each channel of an image."""
        spec = self.graph.spec(v)
        if spec.dtype != node.spec.dtype or not self.dense(v) or not node.spec.shape:
            return False
        shape = node.spec.shape
        channel = len(shape) - 1 if node.op.name == "matmul" else 1
        full: Shape = (1,) * (len(shape) - len(spec.shape)) + spec.shape
        if node.op.name == "matmul" and len(self.graph.spec(node.inputs[1]).shape) < 2:
            return False
        return len(full) == len(shape) and all(
            n == (shape[d] if d == channel else 1) for d, n in enumerate(full)
        )


def reduced_dims(node: Node, shape: Shape) -> tuple[int, ...]:
    """The dimensions that a reduction is taken over."""
    for name in ("dims", "dim"):
        if name in node.op.attrs:
            dims = node.attrs[node.op.attrs.index(name)]
            if dims is None:
                return tuple(range(len(shape)))
            dims = (dims,) if isinstance(dims, int) else dims
            return tuple(sorted(d % max(len(shape), 1) for d in dims))
    out = node.spec.shape  # sum_to: to a shape that broadcasts to this one
    new = len(shape) - len(out)
    return tuple([d for d in range(len(shape)) if d < new or (out[d - new] == 1 and shape[d] != 1)])


__all__ = ["Cutter", "Piece", "reduced_dims"]
