"""The intermediate representation: what a program *is*, as plain immutable data.

A program is a list of nodes in an order in which they can be computed.  A node says which
operation, on which earlier values, with which static attributes, and what comes out (its
`Spec`: shape and dtype).  Nothing here can run: executing is the business of `execute`, and
recording that of `trace`.  This is the representation that every pass rewrites, so it is kept
dumb, and `check` can tell at any moment whether it still makes sense.

    >>> spec = Spec((2, 3), float32)
    >>> str(spec)
    'float32[2,3]'
    >>> promote((float32, 2), (float64, 0)).name          # a 0-d tensor does not widen a matrix
    'float32'
    >>> promote((int64, 1), (float32, 1)).name            # and an integer never widens a float
    'float32'

Values are numbered: `Graph.inputs` come first, then `Graph.constants`, then one value a node.
Nodes refer to values by these numbers, so that a graph is compared, printed and rewritten
without following pointers.

Two things are said *about* the nodes and change nothing of what is computed:

* `updates` are pairs (input, value): after everything has been computed, the value is written into
  the memory of that input.  This is how a training step, which changes its parameters, is a pure
  function all the same: reading comes first, writing last.
* `groups` are ranges of nodes that run as one loop over memory.  The nodes stay what they are, one
  operation and one output each; of a group only the values that somebody outside uses are ever
  stored.  A group may therefore have several outputs without the graph having to know of such
  nodes, and as a group is a *range* of a list that is in computable order, it cannot be cyclic.
  `lanes` says that the range is so many copies of one program over different values, such as the
  update of every parameter by one optimizer.

References: the A-normal form of Flanagan et al. 1993 (one operation a line, every result named);
JAX's jaxpr, for a type-checked IR that fits on one screen.
Left out on purpose: control flow.  A captured program is one straight line; a Python loop is
unrolled while it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]
DType = np.dtype[Any]

bool_ = np.dtype(np.bool_)
uint8 = np.dtype(np.uint8)
int8 = np.dtype(np.int8)
int16 = np.dtype(np.int16)
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)

#: Every dtype that a tensor may have, by name.
DTYPES: dict[str, DType] = {d.name: d for d in (float32, float64, int8, uint8, int16, int32, int64, bool_)}
_default_float = float32


def default_float() -> DType:
    """The dtype of Python floats, of integer inputs to functions such as `exp`, and where none is named."""
    return _default_float


def set_default_float(dtype: DType) -> None:
    """Choose it, for all threads.  (Programs that were traced before must go: see `set_default_dtype`.)"""
    global _default_float
    _default_float = dtype


class Spec(NamedTuple):
    """What is known of a value without computing it: its shape and its dtype."""

    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


def is_float(dtype: DType) -> bool:
    """Whether values of this dtype have a gradient."""
    return dtype.kind == "f"


_RANK = {"b": 0, "u": 1, "i": 1, "f": 2}


def promote_types(a: DType, b: DType) -> DType:
    """The dtype that two tensors of these dtypes meet in: bool < integers < floats.

    Within a category the wider one wins; int8 with uint8 gives int16, which holds both.
    """
    if a == b:
        return a
    rank_a, rank_b = _RANK[a.kind], _RANK[b.kind]
    if rank_a != rank_b:
        return a if rank_a > rank_b else b
    return np.promote_types(a, b)


def promote(*operands: tuple[DType, int]) -> DType:
    """The common dtype of operands given as (dtype, ndim), by PyTorch's rule.

    Tensors with dimensions decide; a 0-d tensor only counts where its category (bool, integer,
    float) is higher than theirs.  Python numbers are weaker still and are dealt with before.
    """
    result: DType | None = None
    scalar: DType | None = None
    for dtype, ndim in operands:
        if ndim:
            result = dtype if result is None else promote_types(result, dtype)
        else:
            scalar = dtype if scalar is None else promote_types(scalar, dtype)
    if result is None:
        assert scalar is not None, "promote needs an operand"
        return scalar
    if scalar is not None and _RANK[scalar.kind] > _RANK[result.kind]:
        return scalar
    return result


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that all of these broadcast to; ValueError where there is none."""
    if len(shapes) == 2 and shapes[0] == shapes[1]:
        return shapes[0]
    ndim = max(map(len, shapes), default=0)
    result = [1] * ndim
    for shape in shapes:
        for axis, size in enumerate(shape, ndim - len(shape)):
            if size != 1:
                if result[axis] not in (1, size):
                    raise ValueError(
                        f"sizes {result[axis]} and {size} meet in dimension {axis - ndim} and neither is 1"
                    )
                result[axis] = size
    return tuple(result)


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a graph.

    `inputs` are value numbers, `attrs` the static arguments in the order of `op.attrs`, `spec`
    what comes out, `where` the line of the user's program that asked for it ("file:line").
    """

    op: Any  # a record; Any, because the IR knows nothing of what it names
    inputs: tuple[int, ...]
    attrs: tuple[Any, ...]
    spec: Spec
    where: str = ""


class Group(NamedTuple):
    """Nodes start..stop (positions, not value numbers) that run as one loop, in `lanes` equal programs."""

    start: int
    stop: int
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Graph:
    """A straight-line program: inputs, constants, nodes, outputs.

    Value numbers run through `inputs`, then `constants`, then `nodes`; `outputs` lists value
    numbers, `updates` pairs of an input and the value to be written into it at the end, `groups`
    which nodes run together.  Graphs are immutable: a pass returns a new one.
    """

    inputs: tuple[Spec, ...]
    constants: tuple[np.ndarray[Any, Any], ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    updates: tuple[tuple[int, int], ...] = ()
    groups: tuple[Group, ...] = ()

    @property
    def first_node(self) -> int:
        """The value number of the first node."""
        return len(self.inputs) + len(self.constants)

    def spec(self, value: int) -> Spec:
        """The spec of a value, by its number."""
        if value < len(self.inputs):
            return self.inputs[value]
        if value < self.first_node:
            constant = self.constants[value - len(self.inputs)]
            return Spec(constant.shape, constant.dtype)
        return self.nodes[value - self.first_node].spec

    @property
    def results(self) -> tuple[int, ...]:
        """The values that leave the graph: its outputs, then what is written by updates."""
        return (*self.outputs, *(value for _, value in self.updates))

    def steps(self) -> list[Group]:
        """What runs one after the other: the groups, and each other node as a group of its own."""
        steps: list[Group] = []
        position = 0
        for group in (*self.groups, Group(len(self.nodes), len(self.nodes))):
            steps += [Group(i, i + 1) for i in range(position, group.start)]
            if group.stop > group.start:
                steps.append(group)
            position = group.stop
        return steps

    def __str__(self) -> str:
        return text(self)


class GraphError(ValueError):
    """A graph that `check` refuses; the message names the node."""


def check(graph: Graph) -> Graph:
    """Return the graph if it is well formed, raise GraphError with the node at fault if not.

    Well formed means: every operand is computed before it is used, every node has as many
    operands as its record says, and its spec is what the record's shape rule predicts.
    """
    for position, node in enumerate(graph.nodes):
        number = graph.first_node + position
        label = f"%{number} = {node.op.name}"
        late = [v for v in node.inputs if not 0 <= v < number]
        if late:
            raise GraphError(f"{label}: uses %{late[0]}, which is not computed before it")
        arity: Callable[[int], bool] = node.op.accepts
        if not arity(len(node.inputs)):
            raise GraphError(f"{label}: has {len(node.inputs)} inputs")
        try:
            predicted = node.op.infer([graph.spec(v) for v in node.inputs], node.attrs)
        except (ValueError, TypeError, IndexError) as error:
            raise GraphError(f"{label}: its shape rule refuses the operands: {error}") from error
        if predicted != node.spec:
            raise GraphError(f"{label}: says {node.spec}, but its shape rule says {predicted}")
    last = graph.first_node + len(graph.nodes)
    for value in graph.outputs:
        if not 0 <= value < last:
            raise GraphError(f"output %{value} is not a value of the graph")
    _check_updates(graph, last)
    _check_groups(graph)
    return graph


def _check_updates(graph: Graph, last: int) -> None:
    written = set()
    for target, value in graph.updates:
        if not 0 <= target < len(graph.inputs) or target in written:
            again = "a second time" if target in written else ", which is no input"
            raise GraphError(f"an update writes %{target} {again}")
        if not 0 <= value < last:
            raise GraphError(f"the update of %{target} takes %{value}, which is not a value of the graph")
        if graph.spec(value) != graph.inputs[target]:
            raise GraphError(
                f"the update of %{target} takes {graph.spec(value)}, but it is {graph.inputs[target]}"
            )
        written.add(target)


def _check_groups(graph: Graph) -> None:
    position = 0
    for group in graph.groups:
        if not position <= group.start < group.stop <= len(graph.nodes):
            raise GraphError(f"group {tuple(group)} overlaps another, or is no range of the nodes")
        position = group.stop
        length, rest = divmod(group.stop - group.start, group.lanes)
        if group.lanes < 1 or rest:
            raise GraphError(f"group {tuple(group)} cannot be divided into its lanes")
        base = graph.first_node + group.start
        program = [_in_lane(graph, p, base) for p in range(group.start, group.start + length)]
        for lane in range(1, group.lanes):
            start = group.start + lane * length
            for step, p in zip(program, range(start, start + length), strict=True):
                if _in_lane(graph, p, base + lane * length) != step:
                    raise GraphError(f"group {tuple(group)}: lane {lane} is another program than the first")
                if any(base <= v < base + lane * length for v in graph.nodes[p].inputs):
                    raise GraphError(f"group {tuple(group)}: lane {lane} uses a value of another lane")


def _in_lane(graph: Graph, position: int, start: int) -> Any:
    """What a node does, with its operands counted from the start of its lane (None: from outside)."""
    node = graph.nodes[position]
    return node.op, node.attrs, tuple([v - start if v >= start else None for v in node.inputs])


class Builder:
    """A graph in the making: what tracing and every pass write into.

    While it grows, nobody knows how many inputs and constants there will be, so values are named by
    *references*: input k is k, constant k is -1 - k, and node k is `NODE` + k.  `finish` numbers them.
    """

    #: Where references to nodes begin.
    NODE = 1 << 40

    def __init__(self, inputs: Sequence[Spec] = ()) -> None:
        self.inputs: list[Spec] = list(inputs)
        self.constants: list[np.ndarray[Any, Any]] = []
        self.nodes: list[Node] = []  # their inputs are references
        self._small: dict[Any, int] = {}

    def constant(self, array: Any) -> int:
        """A reference to a constant; small equal ones are one."""
        key = None
        if array.size <= 16:
            key = (array.dtype, array.shape, array.tobytes())
            if key in self._small:
                return self._small[key]
        self.constants.append(array)
        reference = -len(self.constants)
        if key is not None:
            self._small[key] = reference
        return reference

    def node(
        self, op: Any, inputs: Sequence[int], attrs: tuple[Any, ...], spec: Spec, where: Any = ""
    ) -> int:
        """A reference to a new node."""
        self.nodes.append(Node(op, tuple(inputs), attrs, spec, where))
        return self.NODE + len(self.nodes) - 1

    def spec(self, reference: int) -> Spec:
        """The spec of a reference."""
        if reference >= self.NODE:
            return self.nodes[reference - self.NODE].spec
        if reference >= 0:
            return self.inputs[reference]
        constant = self.constants[-1 - reference]
        return Spec(constant.shape, constant.dtype)

    def maker(self, reference: int) -> Node | None:
        """The node that makes a value, None for an input or a constant."""
        return self.nodes[reference - self.NODE] if reference >= self.NODE else None

    def finish(
        self,
        outputs: Sequence[int],
        updates: Sequence[tuple[int, int]] = (),
        groups: Sequence[Group] = (),
    ) -> Graph:
        """The graph; constants that nothing uses are left out."""
        used = {v for node in self.nodes for v in node.inputs}
        used.update(outputs, (value for _, value in updates))
        kept = [k for k in range(len(self.constants)) if -1 - k in used]
        number = {-1 - k: len(self.inputs) + i for i, k in enumerate(kept)}
        shift = len(self.inputs) + len(kept) - self.NODE

        def of(reference: int) -> int:
            if reference >= self.NODE:
                return reference + shift
            return reference if reference >= 0 else number[reference]

        nodes = tuple(
            Node(n.op, tuple([of(v) for v in n.inputs]), n.attrs, n.spec, n.where) for n in self.nodes
        )
        return Graph(
            tuple(self.inputs),
            tuple(self.constants[k] for k in kept),
            nodes,
            tuple(of(v) for v in outputs),
            tuple((target, of(value)) for target, value in updates),
            tuple(groups),
        )


def _shown(value: Any) -> str:
    return value.name if isinstance(value, np.dtype) else repr(value)


def _listing(values: Sequence[int]) -> str:
    return ", ".join(f"%{v}" for v in values)


def text(graph: Graph) -> str:
    """The graph as readable lines, one value each."""
    lines = [f"%{i}: {spec} = input" for i, spec in enumerate(graph.inputs)]
    for i, constant in enumerate(graph.constants, len(graph.inputs)):
        shown = f" {constant.item()!r}" if constant.ndim == 0 else ""
        lines.append(f"%{i}: {graph.spec(i)} = constant{shown}")
    begins = {g.start: g for g in graph.groups}
    inside = 0
    for position, node in enumerate(graph.nodes):
        i = graph.first_node + position
        if position in begins:
            inside = begins[position].stop
            lanes = begins[position].lanes
            lines.append("group" + (f" of {lanes} lanes" if lanes > 1 else "") + ":")
        indent = "    " if position < inside else ""
        arguments = [f"%{v}" for v in node.inputs]
        arguments += [
            f"{name}={_shown(value)}" for name, value in zip(node.op.attrs, node.attrs, strict=True)
        ]
        where = f"    # {node.where}" if node.where else ""
        lines.append(f"{indent}%{i}: {node.spec} = {node.op.name}({', '.join(arguments)}){where}")
    lines += [f"update %{target} = %{value}" for target, value in graph.updates]
    lines.append(f"return {_listing(graph.outputs)}")
    return "\n".join(lines)
