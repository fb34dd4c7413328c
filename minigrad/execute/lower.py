"""Lowering: pieces of a planned graph become instructions of `csrc/program/program.c`.

`Assembler` knows the places of all values and collects instructions; `RULES` has, for each operation that a
kernel of its own computes, the function that appends them, under the name of its record. A rule may refuse
(layouts or types that the kernel does not take): then numpy computes the node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backends import c as _c
from ..backends import conv as _conv
from ..backends import reduce as _reduce
from ..backends import tile
from ..backends.tile import Unsupported
from ..ir import Graph, Node, Shape
from . import loops
from .pieces import Piece, reduced_dims
from .places import Place, row_major

_TYPE = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}
_INT64 = np.dtype(np.int64)


class Instruction(NamedTuple):
    """One instruction, as Python sees it: for tables, profiles and tests.

    kernel   what runs, in lower case:  gemm, lanes, tile, conv, ...
    nodes    positions of the nodes of the graph that it computes
    """

    kernel: str
    operands: tuple[Place, ...]
    attributes: Any
    type: int
    which: int
    n: tuple[int, int, int]
    k: float
    nodes: range


class Assembler:
    """Collects the instructions of a program."""

    def __init__(
        self,
        graph: Graph,
        places: Sequence[Place | None],
        workspace: Callable[[int], int],
        arena: int,
        zeros: int,
        constants: Sequence[Any],
    ) -> None:
        self.graph = graph
        self.places = places
        self.workspace = workspace  # position of a piece -> where its workspace begins in the arena
        self.arena, self.zeros = arena, zeros  # bases: of the arena, of a few zero bytes
        self.constants = constants  # those of the graph, as they lie in memory
        #: Weights that are laid out once, as the kernels read them: bytes, and who writes them to an address.
        self.packings: list[tuple[int, Callable[[Any], None]]] = []
        self.instructions: list[Instruction] = []
        self.keep: list[Any] = []  # what the descriptors point to
        self.nodes = range(0)

    def place(self, v: int) -> Place:
        """Where a value is."""
        found = self.places[v]
        if found is None:  # nobody outside of its group uses it
            raise Unsupported("a value without a place")
        return found

    def add(
        self,
        kernel: str,
        *operands: Place,
        attributes: Any = None,
        type: int = 0,
        which: int = 0,
        n: tuple[int, ...] = (),
        k: float = 0.0,
    ) -> None:
        """Append an instruction."""
        sizes = (*n, 0, 0, 0)[:3]
        self.instructions.append(
            Instruction(kernel, operands, attributes, type, which, sizes, k, self.nodes)  # type: ignore[arg-type]
        )

    def new(self, kind: str, *args: Any) -> Any:
        """A C object that lives as long as the program."""
        made = _c.ffi.new(kind, *args)
        self.keep.append(made)
        return made

    def constant(self, place: Place) -> Any:
        """The address of what lies at a place, if it is the same at every call; else None."""
        inputs = len(self.graph.inputs)
        if not inputs <= place.base < self.graph.first_node:
            return None
        array = self.constants[place.base - inputs]
        return _c.ffi.cast("char *", array.__array_interface__["data"][0]) + place.offset

    # -- general instructions --------------------------------------------------------------------------

    def copy(self, source: Place, target: Place) -> None:
        """Copy between places of one shape."""
        dims = [
            (n, a, b) for n, a, b in zip(source.shape, source.strides, target.strides, strict=True) if n != 1
        ]
        merged: list[tuple[int, int, int]] = []
        for n, a, b in dims:
            if merged and merged[-1][1] == a * n and merged[-1][2] == b * n:
                merged[-1] = (merged[-1][0] * n, a, b)
            else:
                merged.append((n, a, b))
        if len(merged) > 8:
            raise Unsupported("a copy in more than eight dimensions")
        c = self.new("struct mg_copy *")
        c.size, c.rank = source.dtype.itemsize, len(merged)
        for d, (n, a, b) in enumerate(merged):
            c.shape[d], c.to[d] = n, b
            getattr(c, "from")[d] = a
        self.add("copy", source, target, attributes=c)

    def dense(self, v: int) -> Place:
        """Where a value is, row by row; Unsupported if it does not lie so."""
        place = self.place(v)
        if not place.dense:
            raise Unsupported("an operand with gaps")
        return place

    def piece(self, piece: Piece) -> None:
        """Append what a piece does; Unsupported if no kernel does it."""
        group = piece.group
        self.nodes = range(group.start, group.stop)
        if piece.kind == "dead":  # nobody uses what it makes
            return
        if piece.kind == "lanes":
            self.lanes(piece)
        elif piece.kind == "tile":
            self.tile(piece)
        elif piece.kind == "mixed":
            self.mixed(piece)
        elif piece.kind == "product":
            self.product(piece)
        elif piece.kind == "squares":
            self.squares(group.start)
        else:
            self.node(piece)

    def squares(self, start: int) -> None:
        """The sum of squared deviations of x from its mean."""
        nodes = self.graph.nodes
        x, y = self.dense(nodes[start].inputs[0]), self.place(self.graph.first_node + start + 2)
        _kind(x)
        groups = self.groups(x, reduced_dims(nodes[start + 2], x.shape))
        self.add("squares", x, y, attributes=groups)

    def groups(self, x: Place, dims: Sequence[int]) -> Any:
        """How the elements that are standardised together lie; Unsupported if the kernel cannot follow."""
        found = _reduce._groups(np.broadcast_to(np.empty((), x.dtype), x.shape), tuple(dims))
        if found is None:
            raise Unsupported("groups that the kernel cannot follow")
        self.keep.append(found)
        return found

    def node(self, piece: Piece) -> None:
        """A node, perhaps with an epilogue."""
        position = piece.group.start
        node = self.graph.nodes[position]
        value = self.graph.first_node + position
        if node.op.view:
            self.copy(*self.unviewed(node, value))
            return
        rule = RULES.get(node.op.name)
        if rule is None:
            if node.op.kind == "movement" and len(node.inputs) == 1:
                self.moved(node, value)
                return
            raise Unsupported(node.op.name)
        if piece.made is not None:
            rule(self, node, self.graph.first_node + piece.group.stop - 1, *piece.made)
        else:
            rule(self, node, value)

    def unviewed(self, node: Node, value: int) -> tuple[Place, Place]:
        """Source and target of a view that has to copy: a reshape of what has gaps."""
        source, target = self.place(node.inputs[0]), self.place(value)
        if source.size != target.size:
            raise Unsupported("a view that copies a part")
        return source, target._replace(shape=source.shape, strides=row_major(source.shape))

    def moved(self, node: Node, value: int) -> None:
        """A movement whose numpy kernel gives a view, such as a flip: copied as it lies."""
        x, y = self.place(node.inputs[0]), self.place(value)
        size = x.dtype.itemsize
        if any(s < 0 for s in x.strides):
            raise Unsupported("negative strides")
        room = np.empty(
            (sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True)) + 1) * size, np.uint8
        )
        array = np.ndarray(x.shape, x.dtype, room, 0, tuple([s * size for s in x.strides]))
        moved = np.asarray(node.op.kernel(array, *node.attrs))
        if not np.may_share_memory(moved, room) or moved.dtype != x.dtype or moved.shape != y.shape:
            raise Unsupported("it copies")
        offset = moved.__array_interface__["data"][0] - room.__array_interface__["data"][0]
        strides = tuple([s // size for s in moved.strides])
        self.copy(Place(x.base, x.offset + offset, moved.shape, strides, x.dtype), y)

    # -- loops ------------------------------------------------------------------------------------------

    def lanes(self, piece: Piece) -> None:
        """An elementwise program over several tensors."""
        made: loops.Flat = piece.made
        group = piece.group
        length = (group.stop - group.start) // group.lanes
        first = self.graph.first_node
        lanes = []
        for lane in range(group.lanes):
            start = group.start + lane * length
            inputs = [self.place(v[lane]) for v in made.inputs]
            outputs = [self.place(first + start + o) for o in piece.outputs]
            lanes.append((inputs, outputs, [self.place(v[lane]) for v in made.scalars]))
        pairs = {
            (i, o)
            for inputs, outputs, _ in lanes
            for i, x in enumerate(inputs)
            for o, y in enumerate(outputs)
            if (x.base, x.offset) == (y.base, y.offset)
        }
        made = loops.in_place_safe(made, sorted(pairs))
        if len(made.code.code) > _c.lib.MG_MAX_PATCHED:
            raise Unsupported("too long for lanes")
        self.keep.append(made)
        written = {(y.base, y.offset): k for k, (_, outputs, _) in enumerate(lanes) for y in outputs}
        mixed_up = any(
            written.get((x.base, x.offset), k) != k for k, (inputs, _, _) in enumerate(lanes) for x in inputs
        )
        # Lanes run in any order; where one writes over what an earlier one reads, each is an instruction.
        for some in [[lane] for lane in lanes] if mixed_up else [lanes]:
            self.emit_lanes(made, some)

    def describe_gemm(self, g: Any, node: Node, a: Place, b: Place, y: Place) -> None:
        """Fill in what a product is; a constant b is packed."""
        kind = _kind(y)
        if not a.size or not b.size:
            raise Unsupported("empty")
        turn_a, turn_b = node.attrs

        def matrix(p: Place, row: bool, turn: bool) -> tuple[Shape, tuple[int, ...]]:
            shape, strides = p.shape, p.strides
            if len(shape) == 1:
                return ((1, *shape), (0, *strides)) if row else ((*shape, 1), (*strides, 0))
            if turn:
                return (*shape[:-2], shape[-1], shape[-2]), (*strides[:-2], strides[-1], strides[-2])
            return shape, strides

        a_shape, a_strides = matrix(a, True, turn_a)
        b_shape, b_strides = matrix(b, False, turn_b)
        g.type, g.alpha = kind, 1.0
        g.m, g.k, g.n = a_shape[-2], a_shape[-1], b_shape[-1]
        g.rsa, g.csa = a_strides[-2:]
        g.rsb, g.csb = b_strides[-2:]
        g.rsc, g.csc = g.n, 1
        batch = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
        if len(batch) > _c.lib.MG_MAX_BATCH_RANK:
            raise Unsupported("too many dimensions of a batch")
        g.batch_rank = len(batch)
        below = g.m * g.n
        for d in reversed(range(len(batch))):
            g.batch[d] = batch[d]
            for shape, strides, to in ((a_shape, a_strides, g.batch_a), (b_shape, b_strides, g.batch_b)):
                at = d - len(batch) + len(shape) - 2
                to[d] = strides[at] if at >= 0 and shape[at] != 1 else 0
            g.batch_c[d] = below
            below *= batch[d]
        _pack(self, g, b, y.size // g.n)

    def product(self, piece: Piece) -> None:
        """A product, and an elementwise program that has it as an input."""
        graph, start = self.graph, piece.group.start
        bias, length, made = piece.made
        first = graph.first_node + start + length
        at = made.inputs.index((first - 1,))
        a, b = (self.place(v) for v in graph.nodes[start].inputs)
        places = [a if k == at else self.place(v) for k, (v,) in enumerate(made.inputs)]  # it has no place
        outputs = [self.place(first + o) for o in piece.outputs]
        scalars = [self.place(v) for (v,) in made.scalars]
        pairs = [
            (i, o)
            for i, x in enumerate(places)
            for o, y in enumerate(outputs)
            if i != at and (x.base, x.offset) == (y.base, y.offset)
        ]
        made = loops.in_place_safe(made, pairs)
        if len(made.code.code) > _c.lib.MG_MAX_PATCHED:
            raise Unsupported("too long for lanes")
        self.keep.append(made)
        p = self.new("struct mg_product *")
        self.describe_lanes(p.lanes, made, [outputs[0].size])
        self.describe_gemm(p.gemm, graph.nodes[start], a, b, outputs[0])
        p.input, p.has_bias = at, bias is not None
        extra = () if bias is None else (self.dense(bias),)
        self.add("product", a, b, *extra, *places, *outputs, *scalars, attributes=p)

    def emit_lanes(
        self, made: loops.Flat, lanes: Sequence[tuple[list[Place], list[Place], list[Place]]]
    ) -> None:
        """One instruction for these lanes, each with its inputs, outputs and scalars."""
        a = self.new("struct mg_lanes *")
        self.describe_lanes(a, made, [outputs[0].size for _, outputs, _ in lanes])
        self.add("lanes", *[place for lane in lanes for part in lane for place in part], attributes=a)

    def describe_lanes(self, a: Any, made: loops.Flat, sizes: Sequence[int]) -> None:
        """Fill in what a program over tensors of these sizes is."""
        firsts = [0]
        for n in sizes:
            firsts.append(firsts[-1] + -(-n // _c.lib.MG_LANE_CHUNK))
        patches = self.new("struct mg_patch[]", max(len(made.patches), 1))
        for patch, values in zip(patches, made.patches, strict=False):
            patch.step, patch.second, patch.scalar, patch.sign = values
        a.program, a.lanes, a.scalars = made.code._program, len(sizes), len(made.scalars)
        a.patches, a.patch = len(made.patches), patches
        a.n, a.first = self.new("int64_t[]", sizes), self.new("int64_t[]", firsts)
        a.chain = _c.lib.mg_lanes_chain(a.program, a.array, a.immediate)

    def tile(self, piece: Piece) -> None:
        """An elementwise program with broadcasting, strides and sums."""
        made: loops.Flat = piece.made
        graph, first, start = self.graph, self.graph.first_node, piece.group.start
        space = loops.space_of(graph, graph.nodes[start])
        inputs = [self.place(values[0]) for values in made.inputs]
        outputs = [self.place(first + start + o) for o in piece.outputs]
        pairs = [
            (i, o)
            for i, x in enumerate(inputs)
            for o, y in enumerate(outputs)
            if (x.base, x.offset) == (y.base, y.offset)
        ]
        made = loops.in_place_safe(made, pairs)
        self.keep.append(made)
        strides = []
        for x in inputs:
            new = len(space) - len(x.shape)
            for d, n in enumerate(space):
                repeated = d < new or x.shape[d - new] != n or n == 1
                strides.append(0 if repeated else x.strides[d - new])
        a = self.new("struct mg_loop *")
        a.program, a.rank, a.kept = made.code._program, len(space), made.code._kept
        a.shape = self.new("int64_t[]", list(space) or 1)
        a.strides = self.new("int64_t[]", strides or 1)
        self.add("loop", *inputs, *outputs, attributes=a)

    def scaled(self, x: Place, y: Place, factor: float) -> None:
        """y = factor x, both dense."""
        program = tile.Program(y.dtype, 1)
        made = program.build(program.step("MUL", 0, factor))
        self.keep.append(made)
        a = self.new("struct mg_lanes *")
        a.program, a.lanes, a.n = made._program, 1, self.new("int64_t[]", [y.size])
        a.first = self.new("int64_t[]", [0, -(-y.size // _c.lib.MG_LANE_CHUNK)])
        self.add("lanes", x, y, attributes=a)

    def mixed(self, piece: Piece) -> None:
        """An elementwise program on several types."""
        made: loops.Mixed = piece.made
        group, graph = piece.group, self.graph
        length = (group.stop - group.start) // group.lanes
        count = loops.count_of(graph.nodes[group.start].spec.shape)
        operands: list[Place] = []
        for lane in range(group.lanes):
            start = graph.first_node + group.start + lane * length
            operands += [self.place(v[lane]) for v in made.inputs]
            operands += [self.place(start + o) for o in piece.outputs]
        code = self.new("struct mg_mixed_step[]", max(len(made.steps), 1))
        for step, (name, dst, args, constant) in zip(code, made.steps, strict=False):
            dtype = made.types[dst]
            step.op, step.type, step.dst = getattr(_c.lib, "MG_OP_" + name), loops.TYPES[dtype.name], dst
            step.a, step.b, step.c = (*args, 0, 0, 0)[:3]
            if constant is not None:
                if dtype.kind == "f":
                    step.k = float(constant)
                else:
                    step.i = int(constant)
        a = self.new("struct mg_mixed *")
        a.lanes, a.inputs, a.outputs = group.lanes, len(made.inputs), len(made.outputs)
        a.values, a.steps, a.code, a.n = len(made.types), len(made.steps), code, count
        a.type = self.new("int32_t[]", [loops.TYPES[t.name] for t in made.types])
        a.apart = self.new(
            "int32_t[]", [int(loops.count_of(graph.spec(v[0]).shape) == count) for v in made.inputs] or 1
        )
        self.add("mixed", *operands, attributes=a)


# -- operations with kernels of their own ---------------------------------------------------------------

Rule = Callable[..., None]
RULES: dict[str, Rule] = {}
#: Bytes that a node needs while it runs: (graph, node) -> bytes.
WORKSPACE: dict[str, Callable[[Graph, Node], int]] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter a function into `RULES`."""

    def enter(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return enter


def _kind(place: Place) -> int:
    kind = _TYPE.get(place.dtype)
    if kind is None or not place.size:
        raise Unsupported("no float, or nothing at all")
    return kind


@rule("matmul")
def _matmul(asm: Assembler, node: Node, value: int, bias: int | None = None, relu: bool = False) -> None:
    a, b = (asm.place(v) for v in node.inputs)
    y = asm.place(value)
    g = asm.new("struct mg_gemm *")
    asm.describe_gemm(g, node, a, b, y)
    g.act = int(relu)
    extra = () if bias is None else (asm.dense(bias),)
    asm.add("gemm", a, b, y, *extra, attributes=g)


def _pack(asm: Assembler, g: Any, b: Place, rows: int) -> None:
    """Have constant weights packed, where several rows are multiplied by them."""
    weights = asm.constant(b)
    size = _c.lib.mg_gemm_pack_bytes(g.type, g.k, g.n)
    if weights is None or rows == 1 or g.n == 1 or not size or any(g.batch_b[0 : g.batch_rank]):
        return
    rsb, csb = g.rsb, g.csb

    def pack(to: Any) -> None:
        _c._check(_c.lib.mg_gemm_pack_b(g.type, g.k, g.n, weights, rsb, csb, to))
        g.b, g.packed_b = to, 1  # the descriptor's pointer goes before the operand

    asm.packings.append((size, pack))


def _geometry(asm: Assembler, x: Shape, w: Shape, y: Shape, dtype: Any, attrs: tuple[Any, ...]) -> Any:
    stride, padding, dilation, groups = attrs
    c = _conv._geometry(x, w, y, dtype, stride, padding, dilation, groups, None)
    if c is None:
        raise Unsupported("a convolution that numpy has to answer")
    asm.keep.append(c)
    return c


@rule("conv2d")
def _conv2d(asm: Assembler, node: Node, value: int, bias: int | None = None, relu: bool = False) -> None:
    x, w = (asm.dense(v) for v in node.inputs)
    y = asm.place(value)
    c = _geometry(asm, x.shape, w.shape, y.shape, y.dtype, node.attrs)
    c.act = int(relu)
    weights, size = asm.constant(w), _c.lib.mg_conv2d_pack_bytes(c)
    if weights is not None and size:

        def pack(to: Any) -> None:
            _c._check(_c.lib.mg_conv2d_pack(c, weights, to))
            c.packed = to

        asm.packings.append((size, pack))
    extra = () if bias is None else (asm.dense(bias),)
    asm.add("conv", x, w, y, *extra, attributes=c)


@rule("conv2d_input_grad")
def _conv2d_input_grad(asm: Assembler, node: Node, value: int, *_: Any) -> None:
    g, w = (asm.dense(v) for v in node.inputs)
    x = asm.place(value)
    asm.add(
        "conv_input_grad",
        g,
        w,
        x,
        attributes=_geometry(asm, x.shape, w.shape, g.shape, x.dtype, node.attrs[1:]),
    )


@rule("conv2d_weight_grad")
def _conv2d_weight_grad(asm: Assembler, node: Node, value: int, *_: Any) -> None:
    x, g = (asm.dense(v) for v in node.inputs)
    w = asm.place(value)
    asm.add(
        "conv_weight_grad",
        x,
        g,
        w,
        attributes=_geometry(asm, x.shape, w.shape, g.shape, w.dtype, node.attrs[1:]),
    )


@rule("max_pool2d_index")
def _max_pool2d_index(asm: Assembler, node: Node, value: int, picked: int | None = None) -> None:
    value = asm.graph.first_node + asm.nodes.start
    x, index = asm.dense(node.inputs[0]), asm.places[value]
    c = _conv._pooling(x.shape, x.dtype, *node.attrs)
    if c is None:
        raise Unsupported("a pooling that numpy has to answer")
    asm.keep.append(c)
    values = () if picked is None else (asm.place(picked),)
    places = () if index is None else (index,)
    asm.add("max_pool", x, *values, *places, attributes=c, n=(len(values), len(places)))


@rule("scatter_add")
def _scatter_add(asm: Assembler, node: Node, value: int) -> None:
    """Into zeros, at the places of maxima: the gradient of pooling. Those places need no check."""
    graph = asm.graph
    maker = node.inputs[1]
    while maker >= graph.first_node and (made := graph.nodes[maker - graph.first_node]).op.view:
        maker = made.inputs[0]
    index, g, y = asm.dense(node.inputs[1]), asm.dense(node.inputs[2]), asm.place(value)
    kind, dim = _kind(y), node.attrs[0]
    base = loops.number(graph, node.inputs[:1])
    pool = graph.nodes[maker - graph.first_node] if maker >= graph.first_node else None
    if pool is None or pool.op.name != "max_pool2d_index":
        raise Unsupported("places that may not exist")
    if math.prod(graph.spec(pool.inputs[0]).shape[2:]) > y.shape[-1]:
        raise Unsupported("places of a larger image")
    if base is None or base != 0 or index.shape != g.shape or dim != len(y.shape) - 1:
        raise Unsupported("no gradient of pooling")
    n, k = y.shape[-1], g.shape[-1]
    c = asm.new("struct mg_pool2d *")
    c.type, c.n, c.h, c.w, c.oh, c.ow, c.kh, c.kw = kind, y.size // n, 1, n, 1, k, 1, 1
    c.stride, c.dilation, c.pad = (1, 1), (1, 1), (0, max(0, k - n))
    asm.add("max_pool_grad", g, index, y, attributes=c)


@rule("avg_pool2d", "avg_pool2d_grad")
def _avg_pool2d(asm: Assembler, node: Node, value: int) -> None:
    x, y = asm.dense(node.inputs[0]), asm.place(value)
    forward = node.op.name == "avg_pool2d"
    kernel, stride, padding, ceil_mode, include, divisor = node.attrs if forward else node.attrs[1:]
    image, result = (x, y) if forward else (y, x)
    c = _conv._pooling(image.shape, x.dtype, kernel, stride, padding, (1, 1), ceil_mode)
    if c is None or (c.oh, c.ow) != result.shape[2:]:
        raise Unsupported("a pooling that numpy has to answer")
    c.count_include_pad, c.divisor = include, divisor or 0
    asm.keep.append(c)
    asm.add("avg_pool" if forward else "avg_pool_grad", x, y, attributes=c)


# -- reductions ---------------------------------------------------------------------------------------------


def _groups_of(shape: Shape, dims: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbouring dimensions that are reduced together, as (first, last), the last group first."""
    groups: list[tuple[int, int]] = []
    todo = sorted(d for d in dims if shape[d] != 1)
    while todo:
        last = first = todo.pop()
        while todo and all(shape[d] == 1 for d in range(todo[-1] + 1, first)):
            first = todo.pop()
        groups.append((first, last))
    return groups


def _needed(graph: Graph, node: Node) -> int:
    """Workspace of a reduction: what the first group leaves, and again the second."""
    shape = graph.spec(node.inputs[0]).shape
    size = node.spec.dtype.itemsize
    total = 0
    for first, last in _groups_of(shape, reduced_dims(node, shape)):
        shape = tuple(1 if first <= d <= last else n for d, n in enumerate(shape))
        total += -(-math.prod(shape) * size // 64) * 64
    return total


@rule("sum", "mean", "sum_to", "amax", "amin")
def _reduction(asm: Assembler, node: Node, value: int) -> None:
    x, y = asm.dense(node.inputs[0]), asm.place(value)
    kind = _kind(x)
    shape = x.shape
    which = {"amax": 1, "amin": 2}.get(node.op.name, 0)
    groups = _groups_of(shape, reduced_dims(node, shape))
    if x.dtype != y.dtype or not groups:
        raise Unsupported("nothing to reduce")
    at = asm.workspace(asm.nodes.start)
    mean = node.op.name == "mean"
    count = x.size // max(y.size, 1)
    for k, (first, last) in enumerate(groups):
        shape = tuple(1 if first <= d <= last else n for d, n in enumerate(shape))
        if k == len(groups) - 1 and not mean:
            target = y
        else:
            target = Place(asm.arena, at, shape, row_major(shape), x.dtype)
            at += -(-target.size * x.dtype.itemsize // 64) * 64
        outer, n, inner = _reduce._three(x.shape, first, last)
        asm.add("reduce", x, target, type=kind, which=which, n=(outer, n, inner))
        x = target
    if mean:
        asm.scaled(x, y, 1.0 / count)


for _name in ("sum", "mean", "sum_to", "amax", "amin"):
    WORKSPACE[_name] = _needed


@rule("argmax", "argmin")
def _position(asm: Assembler, node: Node, value: int) -> None:
    x, y = asm.dense(node.inputs[0]), asm.place(value)
    kind = _kind(x)
    dim = node.attrs[0]
    if not x.shape:
        raise Unsupported("a single number")
    first, last = (0, len(x.shape) - 1) if dim is None else (dim % len(x.shape),) * 2
    outer, n, inner = _reduce._three(x.shape, first, last)
    asm.add("arg", x, y, type=kind, which=1 if node.op.name == "argmax" else 2, n=(outer, n, inner))


@rule("softmax", "log_softmax")
def _softmax(asm: Assembler, node: Node, value: int) -> None:
    x, y = asm.dense(node.inputs[0]), asm.place(value)
    kind = _kind(x)
    if not x.shape:
        raise Unsupported("a single number")
    dim = node.attrs[0] % len(x.shape)
    asm.add(
        "softmax",
        x,
        y,
        type=kind,
        which=int(node.op.name == "log_softmax"),
        n=_reduce._three(x.shape, dim, dim),
    )


@rule("logsumexp")
def _logsumexp(asm: Assembler, node: Node, value: int) -> None:
    x, y = asm.dense(node.inputs[0]), asm.place(value)
    kind = _kind(x)
    dims = reduced_dims(node, x.shape)
    if not dims or dims != tuple(range(dims[0], dims[-1] + 1)):
        raise Unsupported("dimensions that are not neighbours")
    asm.add("logsumexp", x, y, type=kind, n=_reduce._three(x.shape, dims[0], dims[-1]))


def _labels(asm: Assembler, v: int) -> Place:
    labels = asm.dense(v)
    if labels.dtype != _INT64:
        raise Unsupported("labels of another type")
    return labels


@rule("softmax_cross_entropy")
def _cross_entropy(asm: Assembler, node: Node, value: int, gradient: int | None = None) -> None:
    value = asm.graph.first_node + asm.nodes.start
    x, labels, y = asm.dense(node.inputs[0]), _labels(asm, node.inputs[1]), asm.place(value)
    if len(x.shape) != 2:
        raise Unsupported("more dimensions")
    if gradient is None:
        asm.add("cross_entropy", x, labels, y, type=_kind(x), n=x.shape)
        return
    g = asm.dense(asm.graph.nodes[gradient - asm.graph.first_node].inputs[0])
    if g.dtype != x.dtype:
        raise Unsupported("a cotangent of another type")
    asm.add("cross_entropy_both", g, x, labels, y, asm.place(gradient), type=_kind(x), n=x.shape)


@rule("softmax_cross_entropy_grad")
def _cross_entropy_grad(asm: Assembler, node: Node, value: int) -> None:
    g, x, labels = asm.dense(node.inputs[0]), asm.dense(node.inputs[1]), _labels(asm, node.inputs[2])
    if len(x.shape) != 2 or g.dtype != x.dtype:
        raise Unsupported("more dimensions")
    asm.add("cross_entropy_grad", g, x, labels, asm.place(value), type=_kind(x), n=x.shape)


@rule("standardize", "rstd")
def _standardize(asm: Assembler, node: Node, value: int) -> None:
    x, y = asm.dense(node.inputs[0]), asm.place(value)
    _kind(x)
    dims, eps = node.attrs
    dims = tuple(d % len(x.shape) for d in dims)
    groups = asm.groups(x, dims)
    if node.op.name == "standardize":
        asm.add("standardize", x, y, attributes=groups, n=(0, 1, 0), k=eps)
    else:
        asm.add("standardize", x, y, y, attributes=groups, n=(0, 0, 1), k=eps)


@rule("finite")
def _finite(asm: Assembler, node: Node, value: int) -> None:
    x = asm.dense(node.inputs[0])
    asm.add("finite", x, asm.place(value), type=_kind(x), n=(x.size,))


# -- movement ------------------------------------------------------------------------------------------------


@rule("cat")
def _cat(asm: Assembler, node: Node, value: int) -> None:
    y = asm.place(value)
    dim = node.attrs[0] % len(y.shape)
    at = 0
    for v in node.inputs:
        x = asm.place(v)
        if x.dtype != y.dtype or len(x.shape) != len(y.shape):
            raise Unsupported("another type")
        if x.size:
            offset = y.offset + at * y.strides[dim] * y.dtype.itemsize
            asm.copy(x, Place(y.base, offset, x.shape, y.strides, y.dtype))
        at += x.shape[dim]


@rule("pad_dim")
def _pad_dim(asm: Assembler, node: Node, value: int) -> None:
    x, y = asm.place(node.inputs[0]), asm.place(value)
    dim, before, after = node.attrs
    dim %= len(y.shape)
    for at, n, source in ((0, before, None), (before, x.shape[dim], x), (before + x.shape[dim], after, None)):
        if n:
            shape = (*x.shape[:dim], n, *x.shape[dim + 1 :])
            target = Place(
                y.base, y.offset + at * y.strides[dim] * y.dtype.itemsize, shape, y.strides, y.dtype
            )
            origin = Place(asm.zeros, 0, shape, (0,) * len(shape), y.dtype)
            asm.copy(origin if source is None else source, target)


@rule("index_select")
def _index_select(asm: Assembler, node: Node, value: int) -> None:
    """Rows by their numbers, as an embedding has them."""
    x, index, y = asm.dense(node.inputs[0]), asm.dense(node.inputs[1]), asm.place(value)
    if node.attrs[0] != 0 or index.dtype != _INT64 or not x.shape or not index.size:
        raise Unsupported("other slices than rows")
    row = math.prod(x.shape[1:]) * x.dtype.itemsize
    asm.add("gather_rows", x, index, y, n=(index.size, x.shape[0], row))


@rule("index_add")
def _index_add(asm: Assembler, node: Node, value: int) -> None:
    """Rows added at their numbers: the gradient of an embedding."""
    x, y = asm.place(node.inputs[0]), asm.place(value)
    index, src = asm.dense(node.inputs[1]), asm.dense(node.inputs[2])
    kind, width = _kind(y), math.prod(y.shape[1:])
    if (
        node.attrs[0] != 0
        or index.dtype != _INT64
        or src.dtype != y.dtype
        or x.dtype != y.dtype
        or not src.size
    ):
        raise Unsupported("other slices than rows")
    if y.base < len(asm.graph.inputs):  # the copy would come before an index is refused
        raise Unsupported("state that is written directly")
    if (x.base, x.offset) != (y.base, y.offset):
        asm.copy(x, y)
    asm.add("scatter_add_rows", index, src, y, type=kind, n=(index.size, y.shape[0], width))


@rule("uniform")
def _uniform(asm: Assembler, node: Node, value: int) -> None:
    """The same numbers as the kernel in numpy, of the same words."""
    state, y = asm.dense(node.inputs[0]), asm.dense(value)
    if state.size != 2 or state.dtype.kind not in "iu" or state.dtype.itemsize != 8:
        raise Unsupported("another state than that of Philox")
    asm.add("uniform", state, y, type=_kind(y), n=(y.size,))


__all__ = ["RULES", "WORKSPACE", "Assembler", "Instruction"]


@rule("all_reduce", "reduce_from")
def _all_reduce(asm: Assembler, node: Node, value: int) -> None:
    group, reduction, weight, tag = (*node.attrs, "sum", 1.0, 0)[:4]
    describe = getattr(group, "instruction", None)
    if describe is None:
        raise Unsupported("a group that C does not know")
    x, y = asm.dense(node.inputs[0]), asm.place(value)
    member, kind, which = describe(x.dtype, reduction)
    asm.add(
        "all_reduce",
        x,
        y,
        attributes=member,
        type=kind,
        which=which,
        n=(math.prod(x.shape), tag, 0),
        k=weight,
    )
