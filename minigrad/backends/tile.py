"""Elementwise programs in C without a compiler: formulas become steps of the tile machine.

`csrc/elementwise/program.c` runs a straight list of steps, each over a block of 256 numbers that
lies in the L1 cache.  This module writes such lists.  A `Formula` was parsed and checked when its
operation was declared; here its tree is walked once, at first use, and every node becomes a step:

    x / (1.0 + exp(-x))   ->   v1 = silu(v0)
    a * b + c             ->   v3 = fma(v0, v1, v2)

So the formulas that users write run in C like those of the library, and no compiler is needed,
neither when the package is installed nor later.

A program may have several outputs and share values between them:

    >>> import numpy as np
    >>> p = Program(np.float32, inputs=2)
    >>> x, y = p.inputs
    >>> product = p.step("MUL", x, y)
    >>> both = p.build(p.step("EXP", product), p.step("ADD", product, 1.0))
    >>> [r.tolist() for r in both(np.zeros(2, np.float32), np.ones(2, np.float32))]
    [[1.0, 1.0], [1.0, 1.0]]

What happens on the way: equal steps are computed once; numbers become immediate operands; a product
that is only added to something becomes one fused multiply-add (rounded once, so the last bit may
differ from numpy's); 1 / (1 + exp(-x)) and x / (1 + exp(-x)) become steps of their own, which
measured 1.3x.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..formula import Formula
from . import c as _c

Array = Any
Operand = int | float  # the number of a value, or a number itself

_F32, _F64, _BOOL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool_)
_KIND = {_F32: 0, _F64: 1}

#: Vocabulary of formulas -> step.
_CALLS = {
    "abs": "ABS",
    "ceil": "CEIL",
    "cos": "COS",
    "erf": "ERF",
    "exp": "EXP",
    "expm1": "EXPM1",
    "floor": "FLOOR",
    "isfinite": "ISFINITE",
    "isnan": "ISNAN",
    "log": "LOG",
    "log1p": "LOG1P",
    "logical_and": "AND",
    "logical_not": "NOT",
    "logical_or": "OR",
    "maximum": "MAX",
    "minimum": "MIN",
    "pow": "POW",
    "rint": "RINT",
    "sign": "SIGN",
    "sin": "SIN",
    "sqrt": "SQRT",
    "square": "SQUARE",
    "tanh": "TANH",
    "trunc": "TRUNC",
    "where": "WHERE",
}
_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "ADD",
    ast.Sub: "SUB",
    ast.Mult: "MUL",
    ast.Div: "DIV",
    ast.Lt: "LT",
    ast.LtE: "LE",
    ast.Gt: "GT",
    ast.GtE: "GE",
    ast.Eq: "EQ",
    ast.NotEq: "NE",
}

#: Steps whose last operand may be a number, and what becomes of them; likewise for the first.
_LAST = {
    "ADD": "ADD_K",
    "MUL": "MUL_K",
    "DIV": "DIV_K",
    "MAX": "MAX_K",
    "MIN": "MIN_K",
    "POW": "POW_K",
    "LT": "LT_K",
    "LE": "LE_K",
    "GT": "GT_K",
    "GE": "GE_K",
    "EQ": "EQ_K",
    "NE": "NE_K",
}
_FIRST = {
    "ADD": "ADD_K",
    "MUL": "MUL_K",
    "SUB": "RSUB_K",
    "DIV": "RDIV_K",
    "LT": "GT_K",
    "LE": "GE_K",
    "GT": "LT_K",
    "GE": "LE_K",
    "EQ": "EQ_K",
    "NE": "NE_K",
}
_TRUTH = frozenset(
    [
        "LT",
        "LE",
        "GT",
        "GE",
        "EQ",
        "NE",
        "AND",
        "OR",
        "NOT",
        "ISNAN",
        "ISFINITE",
        "LT_K",
        "LE_K",
        "GT_K",
        "GE_K",
        "EQ_K",
        "NE_K",
    ]
)
_COMMUTES = frozenset(["ADD", "MUL", "EQ", "NE", "AND", "OR"])


class Unsupported(ValueError):
    """The program cannot run on the tile machine; numpy has to do it."""


class Program:
    """A straight list of steps, written value by value; every step gives the number of a new value.

    `inputs` is how many arrays the program takes, or their kinds: False for numbers of `dtype`,
    True for bools.
    """

    def __init__(self, dtype: Any, inputs: int | Sequence[bool]) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in _KIND:
            raise Unsupported(f"the tile machine computes in float32 and float64, not {self.dtype}")
        self.bools = [False] * inputs if isinstance(inputs, int) else list(inputs)
        self.inputs = tuple(range(len(self.bools)))
        #: for each value that is not an input: (step, operands, immediates)
        self.steps: list[_Step] = []
        self._known: dict[tuple[str, tuple[int, ...], str], int] = {}

    def is_bool(self, value: int) -> bool:
        """Whether a value is a truth value."""
        return self.bools[value]

    def step(self, name: str, *operands: Operand) -> int:
        """Append a step, named as in minigrad.h without MG_OP_; floats are numbers, ints are values."""
        if name == "COPY" and isinstance(operands[0], float):
            return self._append("CONST", (), operands[0])
        if len(operands) == 2:
            a, b = operands
            if isinstance(b, float) and not isinstance(a, float):
                if name == "SUB":
                    return self._append("ADD_K", (a,), -b)
                if name in _LAST and not (b != b and name in ("MAX", "MIN")):
                    return self._append(_LAST[name], (a,), b)
            elif isinstance(a, float) and not isinstance(b, float) and name in _FIRST:
                return self._append(_FIRST[name], (b,), a)
        if name == "WHERE" and (limited := self._limited(*operands)) is not None:
            return limited
        values = tuple(self._append("CONST", (), o) if isinstance(o, float) else o for o in operands)
        if name in ("GT", "GE"):
            name, values = {"GT": "LT", "GE": "LE"}[name], values[::-1]
        if name in _COMMUTES:
            values = tuple(sorted(values))
        return self._append(name, values, 0.0)

    def _limited(self, condition: Operand, k: Operand, x: Operand) -> int | None:
        """x < k ? k : x and x > k ? k : x, which is how a clamp is written, as one step."""
        if not isinstance(k, float) or k != k or isinstance(x, float) or condition in self.inputs:
            return None
        step = self.steps[int(condition) - len(self.inputs)]
        for name, limit in (("LT_K", "MAX_K"), ("GT_K", "MIN_K")):
            if step == (name, (x,), self._number(k), 0.0):
                return self._append(limit, (x,), k)
        return None

    def _number(self, k: float) -> float:
        """A number as the machine has it."""
        if self.dtype != _F32:
            return k
        with np.errstate(over="ignore"):
            return float(np.float32(k))

    def _append(self, name: str, operands: tuple[int, ...], k: float) -> int:
        k = self._number(k)
        key = (name, operands, k.hex())
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.bools)
            self.steps.append((name, operands, k, 0.0))
            truth = name in _TRUTH or (name == "COPY" and self.bools[operands[0]])
            self.bools.append(
                truth or (name == "WHERE" and self.bools[operands[1]] and self.bools[operands[2]])
            )
        return found

    def formula(self, formula: Formula, arguments: Mapping[str, Operand]) -> int:
        """Append a formula; `arguments` gives a value or a number for each of its names."""
        result = self._walk(formula.tree, arguments)
        return self.step("COPY", result) if isinstance(result, float) else result

    def _walk(self, node: ast.expr, names: Mapping[str, Operand]) -> Operand:
        match node:
            case ast.Name(id=name):
                return names[name]
            case ast.Constant(value=value):
                return float(value)  # type: ignore[arg-type]
            case ast.UnaryOp(operand=operand):
                inner = self._walk(operand, names)
                if isinstance(inner, float):
                    return -inner
                self._numbers("-", inner)
                return self.step("NEG", inner)
            case ast.BinOp(left=left, op=operator, right=right):
                a, b = self._walk(left, names), self._walk(right, names)
                if isinstance(a, float) and isinstance(b, float):
                    return _fold(type(operator), a, b)
                if not isinstance(a, float) and not isinstance(b, float) and self.bools[a] and self.bools[b]:
                    self._numbers("arithmetic", a)
                return self.step(_OPERATORS[type(operator)], a, b)
            case ast.Compare(left=left, ops=[compare], comparators=[right]):
                return self.step(_OPERATORS[type(compare)], self._walk(left, names), self._walk(right, names))
            case ast.Call(func=ast.Name(id=name), args=args):
                values = [self._walk(a, names) for a in args]
                if _CALLS[name] not in _TRUTH and name != "where":
                    for v in values:
                        if not isinstance(v, float):
                            self._numbers(name, v)
                return self.step(_CALLS[name], *values)
        raise Unsupported(f"{ast.unparse(node)!r} has no step")

    def _numbers(self, what: str, value: int) -> None:
        if self.bools[value]:
            raise Unsupported(f"{what} of a truth value")

    def build(self, *outputs: int, sums: Mapping[int, int] | None = None) -> Compiled:
        """The program as something that runs; calling it returns one array for each of `outputs`.

        Outputs whose position is in `sums` are summed over all but that many of their last
        dimensions: with `sums={1: 0}` the second output is one number, with `{1: 1}` it is a row,
        such as the gradient of a bias.

            >>> p = Program(np.float32, inputs=1)
            >>> squares = p.step("SQUARE", p.inputs[0])
            >>> both = p.build(squares, squares, sums={0: 0, 1: 1})
            >>> [r.tolist() for r in both(np.ones((4, 2), np.float32))]
            [8.0, [4.0, 4.0]]
        """
        return _build(self, outputs, sums or {})


def _fold(operator: type[ast.AST], a: float, b: float) -> float:
    with np.errstate(all="ignore"):
        functions: dict[type[ast.AST], Any] = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply}
        return float(functions.get(operator, np.true_divide)(a, b))


# -- from values to registers ----------------------------------------------------------------------

_Step = tuple[str, tuple[int, ...], float, float]  # name, operands, immediates
_Code = tuple[str, int, tuple[int, ...], float, float]  # name, destination, operands, immediates


def _fuse(program: Program, outputs: Sequence[int]) -> dict[int, _Step]:
    """The steps that are needed, by value, after small patterns were replaced by one step."""
    count = len(program.inputs)
    steps = {count + i: s for i, s in enumerate(program.steps)}
    uses = dict.fromkeys(steps, 0)

    def needed(value: int) -> None:
        todo = [value]
        while todo:
            v = todo.pop()
            if v in uses:
                uses[v] += 1
                if uses[v] == 1:
                    todo.extend(steps[v][1])

    for value in outputs:
        needed(value)
    for value in list(steps):
        if not uses[value]:
            del steps[value]

    def once(value: int, name: str) -> _Step | None:
        """The step of a value that is used nowhere else, if it is of this name."""
        found = steps.get(value)
        return (
            found
            if found is not None and uses[value] == 1 and found[0] == name and value not in outputs
            else None
        )

    def replace(
        value: int, name: str, args: tuple[int, ...], gone: Sequence[int], k: float = 0.0, k2: float = 0.0
    ) -> None:
        steps[value] = (name, args, k, k2)
        for g in gone:
            del steps[g]

    def logistic(value: int) -> tuple[int, list[int]] | None:
        """If a value is 1 + exp(z), used nowhere else: z, and the values that are not needed any more."""
        plus = once(value, "ADD_K")
        power = once(plus[1][0], "EXP") if plus and plus[2] == 1.0 else None
        return (power[1][0], [value, plus[1][0]]) if plus and power else None

    def ratio(value: int) -> tuple[int, list[int], float] | None:
        """If a value is sqrt(z) + k, used nowhere else: z, the values that are not needed any more, and k."""
        plus = once(value, "ADD_K")
        root = once(plus[1][0], "SQRT") if plus else None
        return (root[1][0], [value, plus[1][0]], plus[2]) if plus and root else None

    def slope(value: int, s: int) -> tuple[tuple[int, ...], list[int], float, float] | None:
        """If a value is s (1 - s) q, q a cubic of u in limits: u, what is not needed any more, k, k2."""
        product = once(value, "MUL")
        for bell, q in (product[1], product[1][::-1]) if product else ():
            factors = once(bell, "MUL")
            rest = next((a for a in factors[1] if a != s), s) if factors and s in factors[1] else s
            minus, below = once(rest, "RSUB_K"), once(q, "MIN_K")
            above = once(below[1][0], "MAX_K") if below and below[2] == _c.lib.MG_SLOPE_LIMIT else None
            cubic = once(above[1][0], "CUBIC") if above and above[2] == -_c.lib.MG_SLOPE_LIMIT else None
            if minus and minus[1:3] == ((s,), 1.0) and below and above and cubic:
                return cubic[1], [value, bell, rest, q, below[1][0], above[1][0]], cubic[2], cubic[3]
        return None

    for value in list(steps):
        if value not in steps:
            continue
        name, args, k, _ = steps[value]
        if name == "ADD" and args[0] != args[1]:
            for x, y in (args, args[::-1]):
                if found_slope := slope(x, y):
                    us, gone, k, k2 = found_slope
                    replace(value, "SLOPE", (y, *us), gone, k, k2)
                    break
                if once(x, "MUL"):
                    replace(value, "FMA", (*steps[x][1], y), [x])
                    break
                if once(x, "MUL_K"):
                    replace(value, "FMA_K", (steps[x][1][0], y), [x], steps[x][2])
                    break
        elif name == "SUB" and args[0] != args[1]:
            x, y = args
            if once(x, "MUL"):
                replace(value, "FMS", (*steps[x][1], y), [x])
            elif once(y, "MUL"):
                replace(value, "FNMA", (*steps[y][1], x), [y])
            elif once(x, "MUL_K"):
                replace(value, "FMS_K", (steps[x][1][0], y), [x], steps[x][2])
            elif once(y, "MUL_K"):
                replace(value, "FMA_K", (steps[y][1][0], x), [y], -steps[y][2])
        elif name == "ADD_K" and once(args[0], "MUL"):
            replace(value, "FMAK", steps[args[0]][1], [args[0]], k)
        elif name == "ADD_K" and once(args[0], "MUL_K"):
            replace(value, "AFFINE", steps[args[0]][1], [args[0]], steps[args[0]][2], k)
        elif name == "MUL_K" and once(args[0], "FMA_K"):  # k (u + c u^3) -> u (k c u^2 + k)
            _, (cube, u), c, _ = steps[args[0]]
            product = once(cube, "MUL")
            square = (
                steps.get(next((a for a in product[1] if a != u), u)) if product and u in product[1] else None
            )
            if product and square and square[0] == "MUL" and square[1] == (u, u):
                at = next(a for a in product[1] if a != u)
                uses[at] -= 1
                replace(value, "CUBIC", (u,), [args[0], cube] + ([at] if uses[at] == 0 else []), k * c, k)
        elif name == "MUL":
            for x, y in (args, args[::-1]):  # u (k u^2 + k2)
                affine = once(y, "AFFINE")
                square = steps.get(affine[1][0]) if affine else None
                if affine and square and square[1] in ((x, x), (x,)) and square[0] in ("MUL", "SQUARE"):
                    at = affine[1][0]
                    uses[at] -= 1
                    replace(value, "CUBIC", (x,), [y] + ([at] if uses[at] == 0 else []), affine[2], affine[3])
                    break
            for x, y in (args, args[::-1]):  # x times the logistic function of a cubic
                curve = once(y, "SIGMOID") if steps[value][0] == "MUL" else None
                cubic = once(curve[1][0], "CUBIC") if curve else None
                if curve and cubic:
                    steps[curve[1][0]] = ("CUBIC", cubic[1], -cubic[2], -cubic[3])
                    replace(value, "GATE", (x, curve[1][0]), [y])
            if steps[value][0] != "MUL":
                continue
            for x, y in (args, args[::-1]):  # (x/2) (1 + tanh u) = x / (1 + exp(-2u))
                half, plus = once(x, "MUL_K"), once(y, "ADD_K")
                curve = (
                    once(plus[1][0], "TANH") if plus and plus[2] == 1.0 and half and half[2] == 0.5 else None
                )
                if half and plus and curve:
                    u, inner = curve[1][0], plus[1][0]
                    scaled = once(u, "MUL_K")
                    cubic = once(u, "CUBIC")
                    if cubic:
                        steps[u] = ("CUBIC", cubic[1], cubic[2] * -2.0, cubic[3] * -2.0)
                        scaled = cubic
                    elif scaled:
                        steps[u] = ("MUL_K", scaled[1], scaled[2] * -2.0, 0.0)
                    else:
                        steps[inner] = ("MUL_K", (u,), -2.0, 0.0)
                    replace(
                        value,
                        "GATE",
                        (half[1][0], u if scaled else inner),
                        [x, y] + ([inner] if scaled else []),
                    )
                    break
        elif name == "DIV" and (root := ratio(args[1])) is not None:
            replace(value, "RATIO", (args[0], root[0]), root[1], root[2])
        elif name == "DIV" or (name == "RDIV_K" and k == 1.0):
            found = logistic(args[-1])
            if found:
                z, gone = found
                minus = steps.get(z)
                negated = minus[1][0] if minus and minus[0] == "NEG" else None
                single = [z] if uses.get(z) == 1 and z not in outputs else []
                if name == "RDIV_K" and negated is not None:
                    replace(value, "SIGMOID", (negated,), gone + single)
                elif name == "DIV" and negated is not None and negated == args[0]:
                    replace(value, "SILU", (negated,), gone + single)
                elif name == "DIV":
                    replace(value, "GATE", (args[0], z), gone)
    return steps


def _build(program: Program, outputs: Sequence[int], sums: Mapping[int, int]) -> Compiled:
    inputs = len(program.inputs)
    chosen = list(outputs)
    copies: list[
        tuple[int, int]
    ] = []  # (output position, value): outputs that are inputs, constants or repeated
    steps = _fuse(program, chosen)
    register: dict[int, int] = {i: i for i in range(inputs)}
    for position, value in enumerate(chosen):
        if value in register or steps[value][0] == "CONST":
            copies.append((position, value))
        else:
            register[value] = inputs + position
    last: dict[int, int] = {}
    for value, (_, args, _, _) in steps.items():
        for a in args:
            last[a] = value
    for _, value in copies:
        last[value] = len(program.bools)

    free: list[int] = []
    top = inputs + len(chosen)
    code: list[_Code] = []
    constants = [v for v, s in steps.items() if s[0] == "CONST"]
    for (
        value
    ) in constants:  # first in the program, so that they are set once; their registers are theirs alone
        register[value] = top
        top += 1
        code.append(("CONST", register[value], (), steps[value][2], 0.0))
    keep = set(register.values())
    for value, (name, args, k, k2) in steps.items():
        if name == "CONST":
            continue
        sources = tuple(register[a] for a in args)
        for a in set(args):
            if last[a] == value and register[a] not in keep:
                free.append(register[a])
        if value not in register:
            if free:
                register[value] = free.pop()
            else:
                register[value] = top
                top += 1
        code.append((name, register[value], sources, k, k2))
    for position, value in copies:
        code.append(("COPY", inputs + position, (register[value],), 0.0, 0.0))
    bools = program.bools[:inputs] + [program.bools[v] for v in chosen]
    return Compiled(program.dtype, inputs, len(chosen), top, code, bools, sums)


class Compiled:
    """A program for the tile machine; call it with arrays that broadcast.

    Returns one array, or a tuple if there are several outputs.  `out` may give the outputs:
    writable, of the right shape and dtype, overlapping none of the inputs.  `text()` lists the
    steps.
    """

    def __init__(
        self,
        dtype: Any,
        inputs: int,
        outputs: int,
        values: int,
        code: Sequence[_Code],
        bools: Sequence[bool],
        sums: Mapping[int, int],
    ) -> None:
        lib, ffi = _c.lib, _c.ffi
        if inputs > lib.MG_MAX_INPUTS or outputs > lib.MG_MAX_OUTPUTS or values > lib.MG_MAX_VALUES:
            raise Unsupported(
                f"{inputs} inputs, {outputs} outputs, {values} values are more than the tile machine holds"
            )
        self.dtype, self.count = dtype, inputs
        self.code = tuple(code)
        self.in_types = [_BOOL if b else dtype for b in bools[:inputs]]
        self.out_types = [_BOOL if b else dtype for b in bools[inputs:]]
        self.sums = dict(sums)
        if any(not 0 <= o < outputs or bools[inputs + o] or keep < 0 for o, keep in sums.items()):
            raise Unsupported(f"sums {self.sums} of {outputs} outputs; truth values cannot be summed")
        self._kept = ffi.new("int[]", [sums.get(o, -1) for o in range(outputs)]) if sums else ffi.NULL
        steps = ffi.new("struct mg_step[]", max(len(code), 1))
        for step, (name, dst, sources, k, k2) in zip(steps, code, strict=False):
            step.op, step.dst, step.k, step.k2 = getattr(lib, "MG_OP_" + name), dst, k, k2
            step.a, step.b, step.c = (*sources, 0, 0, 0)[:3]
        self._steps = steps  # kept alive: the program points to it
        program = ffi.new("struct mg_program *")
        program.type, program.inputs, program.outputs = _KIND[dtype], inputs, outputs
        program.values, program.steps, program.code = values, len(code), steps
        for i, b in enumerate(bools):
            program.is_bool[i] = b
        self._program = program
        self._one = ffi.new("int64_t[]", [1] * max(inputs, 1))
        self._in = f"void *[{max(inputs, 1)}]"
        self._out = f"void *[{outputs}]"

    def text(self) -> str:
        """The steps, one to a line."""
        lines = []
        for name, dst, sources, k, k2 in self.code:
            operands = [f"v{s}" for s in sources]
            if name.endswith("_K") or name in ("CONST", "FMAK", "AFFINE", "CUBIC", "RATIO", "SLOPE"):
                operands.append(f"{k:g}")
            if name in ("AFFINE", "CUBIC", "SLOPE"):
                operands.append(f"{k2:g}")
            lines.append(f"v{dst} = {name.lower()}({', '.join(operands)})")
        return "\n".join(lines)

    def __call__(self, *arrays: Array, out: Sequence[Array] | None = None) -> Any:
        first = arrays[0]
        if len(arrays) != self.count:
            raise TypeError(f"the program takes {self.count} arrays, not {len(arrays)}")
        shape = first.shape
        for x, dtype in zip(arrays, self.in_types, strict=True):
            if x.dtype is not dtype and x.dtype != dtype:
                raise TypeError(f"the program takes {', '.join(map(str, self.in_types))}, not {x.dtype}")
            if x.shape != shape or not x.flags.c_contiguous or not x.flags.aligned:
                return self._general(arrays, out)
        if self.sums:
            return self._general(arrays, out)
        return self._flat(arrays, shape, out)

    def _outputs(
        self, full: tuple[int, ...], out: Sequence[Array] | None, arrays: Sequence[Array]
    ) -> list[Array]:
        shapes = [full] * len(self.out_types)
        for o, keep in self.sums.items():
            if keep > len(full):
                raise ValueError(f"the last {keep} dimensions of shape {full}")
            shapes[o] = full[len(full) - keep :]
        if out is None:
            return [np.empty(shape, dtype) for shape, dtype in zip(shapes, self.out_types, strict=True)]
        for i, (x, shape, dtype) in enumerate(zip(out, shapes, self.out_types, strict=True)):
            if x.shape != shape or x.dtype != dtype:
                raise ValueError(f"out must be {dtype} of shape {shape}, not {x.dtype} of shape {x.shape}")
            if not x.flags.writeable or not x.flags.c_contiguous:
                raise ValueError("out must be writable and contiguous")
            if any(np.may_share_memory(x, y) for y in [*arrays, *out[:i]]):
                raise ValueError("out overlaps another array of the call")
        return list(out)

    def _flat(self, arrays: Sequence[Array], shape: tuple[int, ...], out: Sequence[Array] | None) -> Any:
        results = self._outputs(shape, out, arrays)
        buffers = [_c.from_buffer(x) for x in arrays]
        targets = [_c.from_buffer(x) for x in results]
        size = _c.ffi.new("int64_t *", results[0].size)
        _c._check(
            _c.lib.mg_run(
                self._program,
                1,
                size,
                _c.ffi.new(self._in, buffers),
                self._one,
                _c.ffi.new(self._out, targets),
                _c.ffi.NULL,
            )
        )
        return results[0] if len(results) == 1 else tuple(results)

    def flat(self, *arrays: Array) -> Array:
        """A call, for at most three inputs and one output, on arrays that the caller has looked at.

        They have the program's dtype and one shape, are contiguous and aligned, and not empty.
        """
        first = arrays[0]
        y = np.empty(first.shape, self.out_types[0])
        buffers = [_c.from_buffer(x) for x in arrays]
        buffers += [_c.ffi.NULL] * (3 - len(buffers))
        _c._check(_c.lib.mg_run_flat(self._program, first.size, *buffers, _c.from_buffer(y)))
        return y

    def bind(self, *arrays: Array, out: Sequence[Array]) -> Callable[[], None]:
        """A call on these very arrays, for plans: all checks are done now, running it is one foreign call.

        The inputs must have strides that are whole numbers of elements; the outputs are as for a call.
        """
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        for x, dtype in zip(arrays, self.in_types, strict=True):
            if x.dtype != dtype or not x.flags.aligned or any(s % x.itemsize for s in x.strides):
                raise ValueError(f"the program takes aligned {dtype}, not {x.dtype} with strides {x.strides}")
        if 0 in shape or len(shape) > _c.lib.MG_MAX_RANK:
            raise ValueError(f"a program cannot be bound to shape {shape}")
        results = self._outputs(shape, out, arrays)
        arguments = self._arguments([np.broadcast_to(x, shape) for x in arrays], shape, results)
        run, check, keep = _c.lib.mg_run, _c._check, (self._steps, arrays, results)  # freed with the call

        def call() -> None:
            check(run(*arguments))

        call.keep = keep  # type: ignore[attr-defined]
        return call

    def _arguments(
        self, views: Sequence[Array], shape: tuple[int, ...], results: Sequence[Array]
    ) -> tuple[Any, ...]:
        """What mg_run takes, for inputs of one shape."""
        ffi = _c.ffi
        strides = [
            s // v.itemsize if n != 1 else 0 for v in views for n, s in zip(v.shape, v.strides, strict=True)
        ]
        return (
            self._program,
            len(shape),
            ffi.new("int64_t[]", shape),
            ffi.new(self._in, [ffi.cast("void *", v.__array_interface__["data"][0]) for v in views]),
            ffi.new("int64_t[]", strides),
            ffi.new(self._out, [ffi.cast("void *", r.__array_interface__["data"][0]) for r in results]),
            self._kept,
        )

    def _general(self, arrays: Sequence[Array], out: Sequence[Array] | None) -> Any:
        """Broadcast and strided inputs.  The output is laid out like the inputs, as numpy's would be."""
        arrays = [
            x if x.flags.aligned and all(s % x.itemsize == 0 for s in x.strides) else x.copy() for x in arrays
        ]
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        if self.sums and 0 in shape:
            results = self._outputs(shape, out, arrays)
            for o in self.sums:
                results[o][...] = 0
            return results[0] if len(results) == 1 else tuple(results)
        if len(shape) > _c.lib.MG_MAX_RANK:
            if self.sums:
                raise Unsupported(f"a sum over {len(shape)} dimensions")
            arrays = [np.broadcast_to(x, shape).reshape(-1) for x in arrays]
            flat = None if out is None else [x.reshape(-1) for x in out]
            found = self._general(arrays, flat)
            shaped = tuple(r.reshape(shape) for r in (found if isinstance(found, tuple) else (found,)))
            return shaped[0] if len(shaped) == 1 else shaped
        views = [np.broadcast_to(x, shape) for x in arrays]
        order = tuple(range(len(shape)))
        if out is None and len(shape) > 1 and not self.sums:
            for x in arrays:
                if x.shape == shape and not x.flags.c_contiguous:
                    order = tuple(sorted(order, key=lambda d, x=x: -abs(x.strides[d])))  # type: ignore[misc]
                    break
        ordered = order == tuple(range(len(shape)))
        if not ordered:
            views = [v.transpose(order) for v in views]
        shape = tuple(shape[d] for d in order)
        results = self._outputs(shape, out, arrays)
        _c._check(_c.lib.mg_run(*self._arguments(views, shape, results)))
        if not ordered:
            back = tuple(order.index(d) for d in range(len(shape)))
            results = [r.transpose(back) for r in results]
        return results[0] if len(results) == 1 else tuple(results)


@lru_cache(maxsize=1024)
def _compiled(
    formula: Formula,
    dtype: Any,
    parameters: tuple[str, ...],
    bools: tuple[bool, ...],
    numbers: tuple[tuple[str, str], ...],
) -> Compiled:
    program = Program(dtype, bools)
    arguments: dict[str, Operand] = dict(zip(parameters, program.inputs, strict=True))
    arguments.update((name, float.fromhex(value)) for name, value in numbers)
    return program.build(program.formula(formula, arguments))


def compile_formula(
    formula: Formula,
    dtype: Any,
    parameters: tuple[str, ...] | None = None,
    *,
    bools: Sequence[str] = (),
    numbers: Mapping[str, float] | None = None,
) -> Compiled:
    """A formula as a function of arrays, run by the tile machine.

    Its arguments come in the order of `parameters` (default: of first use); those named in `bools`
    are bool arrays, all others have `dtype`.  `numbers` fixes names to numbers.  Raises Unsupported
    where the machine cannot follow numpy.

        >>> f = compile_formula(Formula("x * w + b"), np.float32)
        >>> f(*np.ones((3, 2), np.float32)).tolist()
        [2.0, 2.0]
    """
    numbers = numbers or {}
    names = tuple(n for n in (formula.names if parameters is None else parameters) if n not in numbers)
    fixed = tuple((n, float(v).hex()) for n, v in numbers.items())
    return _compiled(formula, np.dtype(dtype), names, tuple(n in bools for n in names), fixed)
