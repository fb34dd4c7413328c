"""Elementwise groups become programs for the machines in C.

There are three, and the first that can do it is taken:

    lanes    one program over tensors that lie flat, several of them if need be; numbers that change from call
             to call (a learning rate) become immediates of the code: csrc/program/lanes.c
    tile     operands that broadcast, or lie with gaps; results may be summed: csrc/elementwise/program.c
    mixed    numbers of several types: labels, masks, counters, single numbers: csrc/program/mixed.c

    >>> import minigrad as mg
    >>> from minigrad.passes import run
    >>> x, k = mg.Spec((2, 3), mg.float32), mg.Spec((), mg.float32)
    >>> graph = run(mg.trace(lambda x, k: (x * k + 1.0).tanh(), x, k))
    >>> made = flat(graph, [range(3)], [2])
    >>> print(made.code.text())                    # the large number stands for k
    v2 = affine(v0, 1.29807e+33, 1)
    v1 = tanh(v2)
    >>> made.inputs, made.scalars, made.patches    # k (here number 0) goes to step 0, as its first number
    ([(0,)], [(1,)], [(0, 0, 0, 1)])
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends import c as _c
from ..backends import tile
from ..backends.tile import Unsupported
from ..formula import Formula
from ..ir import DType, Graph, Node, Shape, bool_, is_float, promote
from ..passes.rewrite import one_value

Values = tuple[int, ...]  # one value of the graph for each lane

#: Numbers that stand for scalars until the program runs: so large that nobody means them, and float32.
_FIRST_STAND_IN = 2.0**110
_STAND_IN_STEP = 2.0**94


@dataclass
class Flat:
    """A program for `lanes` or `tile`, and what it takes of the graph (each with a value for every lane)."""

    code: Any
    inputs: list[Values]
    scalars: list[Values] = field(default_factory=list)
    patches: list[tuple[int, int, int, int]] = field(default_factory=list)


def _operands(graph: Graph, lanes: Sequence[Sequence[int]]) -> list[list[Any]]:
    """For each node of a lane, its operands: the index of an earlier node, or values, one for each lane."""
    first = graph.first_node
    index = {first + p: i for i, p in enumerate(lanes[0])}
    table: list[list[Any]] = []
    for i in range(len(lanes[0])):
        rows = [graph.nodes[lane[i]].inputs for lane in lanes]
        row: list[Any] = []
        for slot in range(len(rows[0])):
            values = tuple([r[slot] for r in rows])
            row.append(index.get(values[0], values))
        table.append(row)
    return table


def number(graph: Graph, values: Sequence[int]) -> Any:
    """The one number that constants, one for each lane, consist of; None if there is none."""
    found: Any = None
    for v in values:
        k = v - len(graph.inputs)
        if not 0 <= k < len(graph.constants):
            return None
        constant = graph.constants[k]
        one = one_value(constant) if constant.size == 1 or not any(constant.strides) else None
        if one is None or (found is not None and one.tobytes() != found.tobytes()):
            return None
        found = one
    return found


def machine_dtype(graph: Graph, node: Node) -> DType | None:
    """The float dtype that a tile machine computes a node in; bool if any will do; None if it cannot."""
    if node.op.formula is None and node.op.name not in ("cast", "clone", "contiguous"):
        return None
    if any(type(a) not in (int, float) and not isinstance(a, np.dtype) for a in node.attrs):
        return None
    dtypes = {graph.spec(v).dtype for v in node.inputs} | {node.spec.dtype}
    floats = {d for d in dtypes if is_float(d)}
    if len(floats) > 1 or dtypes - floats - {bool_}:
        return None
    return floats.pop() if floats else bool_


def _append(program: tile.Program, node: Node, operands: Sequence[tile.Operand]) -> int:
    """Add what a node does to a program of the tile machine."""
    if node.op.formula is not None:
        names: dict[str, tile.Operand] = dict(zip(node.op.inputs, operands, strict=True))
        names.update({name: float(a) for name, a in zip(node.op.attrs, node.attrs, strict=True)})
        return program.formula(node.op.formula, names)
    (x,) = operands
    if isinstance(x, float):
        return program.step("COPY", x)
    if node.op.name != "cast" or program.is_bool(x) == (node.spec.dtype == bool_):
        return program.step("COPY", x)
    return program.step("NE", x, 0.0) if node.spec.dtype == bool_ else program.step("MUL", x, 1.0)


def _takes_scalar(formula: Formula | None) -> bool:
    """Whether a formula is one operation of two names, so that a number stays itself in the program."""
    return (
        formula is not None
        and isinstance(formula.tree, ast.BinOp)
        and isinstance(formula.tree.left, ast.Name)
        and isinstance(formula.tree.right, ast.Name)
    )


def flat(
    graph: Graph,
    lanes: Sequence[Sequence[int]],
    outputs: Sequence[int],
    *,
    scalars: bool = True,
    sums: Mapping[int, int] | None = None,
    scales: Mapping[int, float] | None = None,
) -> Flat:
    """The program of these nodes (as many for each lane), with the results of nodes `outputs` of a lane.

    scalars: 0-d operands become immediates.  sums: outputs (by position) that are summed over all but so many
    dimensions, scales: times a number before.  An output may also be the operand of a reduction.
    Raises Unsupported where the machine cannot do it.
    """
    nodes = [graph.nodes[p] for p in lanes[0]]
    found = {machine_dtype(graph, n) for n in nodes} - {bool_}
    if None in found or len(found) > 1:
        raise Unsupported("other types than one of floats, and truth values")
    dtype = found.pop() if found else np.dtype(np.float32)
    table = _operands(graph, lanes)
    inputs: list[Values] = []
    wanted: list[Values] = []
    for node, row in zip(nodes, table, strict=True):
        for x in row:
            if isinstance(x, int) or number(graph, x) is not None:
                continue
            single = scalars and graph.spec(x[0]).shape == () and node.spec.shape != ()
            if single and not (_takes_scalar(node.op.formula) and graph.spec(x[0]).dtype == dtype):
                raise Unsupported("a number in a formula of its own")
            if single and x not in wanted:
                wanted.append(x)
            elif not single and x not in inputs:
                inputs.append(x)
    program = tile.Program(dtype, [graph.spec(x[0]).dtype == bool_ for x in inputs])
    place = {x: program.inputs[i] for i, x in enumerate(inputs)}
    stand_in = {x: _FIRST_STAND_IN + i * _STAND_IN_STEP for i, x in enumerate(wanted)}
    results: list[int] = []
    large = False
    for node, row in zip(nodes, table, strict=True):
        operands: list[tile.Operand] = []
        for x in row:
            if isinstance(x, int):
                operands.append(results[x])
            elif x in place and not (x in stand_in and node.spec.shape != ()):
                operands.append(place[x])
            elif x in stand_in:
                operands.append(stand_in[x])
            else:
                operands.append(float(number(graph, x)))
                large = large or not abs(operands[-1]) < _FIRST_STAND_IN / 2
        large = large or any(type(a) is float and not abs(a) < _FIRST_STAND_IN / 2 for a in node.attrs)
        if stand_in and large:
            raise Unsupported("a number as large as those that stand for others")
        if stand_in and all(isinstance(x, float) for x in operands):
            raise Unsupported("a number made of numbers alone")
        results.append(_append(program, node, operands))
    chosen = [results[o] for o in outputs]
    for position, scale in (scales or {}).items():
        chosen[position] = program.step("MUL", chosen[position], scale)
    patched = sum(k in stand_in.values() for _, _, k, _ in program.steps)
    compiled = program.build(*chosen, sums=dict(sums or {}))
    patches = []
    for at, (name, _, _, k, k2) in enumerate(compiled.code):
        for second, value in ((0, k), (1, k2)):
            if abs(value) < _FIRST_STAND_IN / 2:
                continue
            index = next((i for i, s in enumerate(stand_in.values()) if s == abs(value)), None)
            if index is None or name in ("MAX_K", "MIN_K"):
                if stand_in:
                    raise Unsupported("a number that cannot be told from one that is made later")
                continue
            patches.append((at, second, index, 1 if value > 0 else -1))
    if len(patches) != patched:
        raise Unsupported("a number that was computed with")
    return Flat(compiled, inputs, wanted, patches)


def in_place_safe(made: Flat, pairs: Sequence[tuple[int, int]]) -> Flat:
    """The program for pairs (input, output) that lie in one place: written when it has been read for the last
    time."""
    code = list(made.code.code)
    inputs = made.code.count
    top = max((dst for _, dst, *_ in code), default=inputs) + 1
    late = []
    for source, output in pairs:
        register = inputs + output
        writes = [at for at, (_, dst, *_) in enumerate(code) if dst == register]
        reads = [at for at, (_, _, args, *_) in enumerate(code) if source in args]
        if writes and reads and max(reads) > min(writes):
            late.append((register, top))
            top += 1
    if not late:
        return made
    renamed = dict(late)
    moved = [
        (name, renamed.get(dst, dst), tuple([renamed.get(a, a) for a in args]), k, k2)
        for name, dst, args, k, k2 in code
    ]
    moved += [("COPY", register, (register_now,), 0.0, 0.0) for register, register_now in late]
    old = made.code
    bools = [d == bool_ for d in (*old.in_types, *old.out_types)]
    new = tile.Compiled(old.dtype, inputs, len(old.out_types), top, moved, bools, old.sums)
    return Flat(new, made.inputs, made.scalars, made.patches)


# -- several types -----------------------------------------------------------------------------------------

#: Names of the types in C, by dtype.
TYPES = {"float32": 0, "float64": 1, "bool": 2, "uint8": 3, "int8": 4, "int32": 5, "int64": 6, "int16": 7}
_INTEGER_STEPS = frozenset(
    [
        "NEG",
        "ABS",
        "SIGN",
        "SQUARE",
        "ADD",
        "SUB",
        "MUL",
        "MAX",
        "MIN",
        "LT",
        "LE",
        "EQ",
        "NE",
        "NOT",
        "AND",
        "OR",
    ]
)  # what mixed.c has for integers
_COMPARES = frozenset(["LT", "LE", "EQ", "NE", "GT", "GE"])
_LOGIC = frozenset(["AND", "OR", "NOT", "ISNAN", "ISFINITE"])


@dataclass
class Mixed:
    """A program for `mixed`."""

    inputs: list[Values]
    types: list[DType]  # of all values
    steps: list[tuple[str, int, tuple[int, ...], Any]]  # step, value it makes, operands, constant
    outputs: list[int]


@dataclass(frozen=True)
class Number:
    """A number in a formula (values are plain ints: their indices)."""

    value: float


class _Typed:
    """A program of typed values in the making."""

    def __init__(self, types: list[DType]) -> None:
        self.types = types
        self.steps: list[tuple[str, int, tuple[int, ...], Any]] = []

    def step(self, name: str, dtype: DType, *operands: int, constant: Any = None) -> int:
        self.types.append(dtype)
        self.steps.append((name, len(self.types) - 1, operands, constant))
        return len(self.types) - 1

    def cast(self, value: int, dtype: DType) -> int:
        return value if self.types[value] == dtype else self.step("COPY", dtype, value)

    def constant(self, value: float, dtype: DType) -> int:
        if not is_float(dtype) and float(value) != int(value):
            raise Unsupported("a fraction among integers")
        return self.step("CONST", dtype, constant=value)

    def walk(self, tree: ast.expr, names: Mapping[str, Any], dtype: DType) -> Any:
        """Append a formula that is computed in `dtype`."""
        match tree:
            case ast.Name(id=name):
                return names[name]
            case ast.Constant(value=value):
                return Number(float(value))  # type: ignore[arg-type]
            case ast.UnaryOp(operand=operand):
                return self.apply("NEG", [self.walk(operand, names, dtype)], dtype)
            case ast.BinOp(left=left, op=operator, right=right):
                operands = [self.walk(left, names, dtype), self.walk(right, names, dtype)]
                return self.apply(tile._OPERATORS[type(operator)], operands, dtype)
            case ast.Compare(left=left, ops=[compare], comparators=[right]):
                operands = [self.walk(left, names, dtype), self.walk(right, names, dtype)]
                return self.apply(tile._OPERATORS[type(compare)], operands, dtype)
            case ast.Call(func=ast.Name(id=name), args=args):
                return self.apply(tile._CALLS[name], [self.walk(a, names, dtype) for a in args], dtype)
        raise Unsupported(ast.unparse(tree))

    def apply(self, name: str, operands: list[Any], dtype: DType) -> int:
        # Numbers of Python in a formula are floats; values are ints here: their numbers.
        if name in ("GT", "GE"):
            name, operands = {"GT": "LT", "GE": "LE"}[name], operands[::-1]
        if name == "WHERE":
            condition = self.as_value(operands[0], bool_)
            branches = [self.as_value(x, dtype) for x in operands[1:]]
            return self.step("WHERE", dtype, condition, *branches)
        if name in ("AND", "OR", "NOT"):
            return self.step(name, bool_, *[self.as_value(x, bool_) for x in operands])
        if not is_float(dtype) and name not in _INTEGER_STEPS:
            raise Unsupported(f"{name} of integers")
        if dtype == bool_ and name not in _COMPARES:
            raise Unsupported(f"{name} of truth values")
        truth = name in _COMPARES or name in _LOGIC
        return self.step(name, bool_ if truth else dtype, *[self.as_value(x, dtype) for x in operands])

    def as_value(self, x: Any, dtype: DType) -> int:
        if isinstance(x, Number):
            return self.constant(x.value, dtype)
        return self.cast(int(x), dtype)


def mixed(graph: Graph, lanes: Sequence[Sequence[int]], outputs: Sequence[int]) -> Mixed:
    """The program of these nodes for the machine of several types; see `flat`.

    Raises Unsupported where it cannot do it.
    """
    nodes = [graph.nodes[p] for p in lanes[0]]
    table = _operands(graph, lanes)
    inputs: list[Values] = []
    for row in table:
        for x in row:
            if not isinstance(x, int) and number(graph, x) is None and x not in inputs:
                inputs.append(x)
    program = _Typed([graph.spec(x[0]).dtype for x in inputs])
    results: list[int] = []
    for node, row in zip(nodes, table, strict=True):
        operands = []
        specs = []
        for x in row:
            if isinstance(x, int):
                operands.append(results[x])
                specs.append(nodes[x].spec)
                continue
            spec = graph.spec(x[0])
            specs.append(spec)
            one = number(graph, x)
            if one is None:
                operands.append(inputs.index(x))
            else:
                operands.append(program.step("CONST", spec.dtype, constant=one.item()))
        op = node.op
        if op.name == "cast":
            to, of = node.spec.dtype, program.types[operands[0]]
            if is_float(of) and not is_float(to) and to not in (bool_, np.dtype(np.int64)):
                raise Unsupported("floats to short integers")
            results.append(program.cast(operands[0], to))
            if results[-1] == operands[0]:
                results[-1] = program.step("COPY", to, operands[0])
            continue
        if op.name in ("clone", "contiguous"):
            results.append(program.step("COPY", node.spec.dtype, operands[0]))
            continue
        if op.formula is None:
            raise Unsupported(op.name)
        meeting = [(s.dtype, len(s.shape)) for s in (specs[1:] if op.name == "where" else specs)]
        dtype = promote(*meeting)
        if node.spec.dtype != bool_ and node.spec.dtype != dtype:
            dtype = node.spec.dtype
        names: dict[str, Any] = dict(zip(op.inputs, operands, strict=True))
        for name, a in zip(op.attrs, node.attrs, strict=True):
            if type(a) not in (int, float):
                raise Unsupported(f"{name} is {a!r}")
            names[name] = Number(float(a))
        result = program.walk(op.formula.tree, names, dtype)
        value = program.as_value(result, node.spec.dtype)
        if value < len(inputs):
            value = program.step("COPY", node.spec.dtype, value)
        results.append(value)
    return _numbered(program, inputs, [results[o] for o in outputs])


def _numbered(program: _Typed, inputs: list[Values], outputs: list[int]) -> Mixed:
    """The program with its outputs right behind its inputs, as C wants them."""
    steps = list(program.steps)
    types = list(program.types)
    ends = []
    for value in outputs:
        if value < len(inputs) or value in ends:
            types.append(types[value])
            steps.append(("COPY", len(types) - 1, (value,), None))
            value = len(types) - 1
        ends.append(value)
    order = [*range(len(inputs)), *ends, *(v for v in range(len(inputs), len(types)) if v not in ends)]
    to = {v: i for i, v in enumerate(order)}
    moved = [(name, to[dst], tuple([to[a] for a in args]), constant) for name, dst, args, constant in steps]
    count = len(order)
    if count > _c.lib.MG_MAX_VALUES:
        raise Unsupported(f"{count} values")
    return Mixed(inputs, [types[v] for v in order], moved, [len(inputs) + i for i in range(len(ends))])


def space_of(graph: Graph, node: Node) -> Shape:
    """The shape that the loop of a node runs over."""
    return node.spec.shape if node.op.kind == "elementwise" else graph.spec(node.inputs[0]).shape


def count_of(shape: Shape) -> int:
    """How many elements."""
    return math.prod(shape)
