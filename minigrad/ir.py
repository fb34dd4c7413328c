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
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)

#: Every dtype that a tensor may have, by name.
DTYPES: dict[str, DType] = {d.name: d for d in (float32, float64, int8, uint8, int32, int64, bool_)}
#: The dtype of Python floats and of integer inputs to functions such as `exp`.
DEFAULT_FLOAT = float32


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

    Within a category the wider one wins; int8 with uint8 gives int32, since int16 is no dtype of
    a tensor here.
    """
    if a == b:
        return a
    rank_a, rank_b = _RANK[a.kind], _RANK[b.kind]
    if rank_a != rank_b:
        return a if rank_a > rank_b else b
    wide = np.promote_types(a, b)
    return wide if wide.name in DTYPES else int32


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


@dataclass(frozen=True, slots=True)
class Graph:
    """A straight-line program: inputs, constants, nodes, outputs.

    Value numbers run through `inputs`, then `constants`, then `nodes`; `outputs` lists value
    numbers.  Graphs are immutable: a pass returns a new one.
    """

    inputs: tuple[Spec, ...]
    constants: tuple[np.ndarray[Any, Any], ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

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
    return graph


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
    for i, node in enumerate(graph.nodes, graph.first_node):
        arguments = [f"%{v}" for v in node.inputs]
        arguments += [
            f"{name}={_shown(value)}" for name, value in zip(node.op.attrs, node.attrs, strict=True)
        ]
        where = f"    # {node.where}" if node.where else ""
        lines.append(f"%{i}: {node.spec} = {node.op.name}({', '.join(arguments)}){where}")
    lines.append(f"return {_listing(graph.outputs)}")
    return "\n".join(lines)
