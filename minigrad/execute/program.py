"""The executor in C: a graph becomes a list of instructions, and a call of it one call of C.

When a graph is compiled, everything is decided that can be: what is one instruction (`pieces`), where every
value lies (`places`, `plan`), which kernel with which sizes (`lower`). What is left for a call is a table of
pointers, one for each input and output, and `mg_program_run`.

    >>> import minigrad as mg
    >>> from minigrad.passes import run
    >>> two = mg.Spec((2, 2), mg.float32)
    >>> compiled = Program(run(mg.trace(lambda x, w: (x @ w + 1.0).relu().sum(), two, two)))
    >>> x = mg.ones(2, 2).numpy()
    >>> compiled(x, x)
    [array(12., dtype=float32)]
    >>> [i.kernel for i in compiled.instructions]
    ['gemm', 'loop']

**Memory.** All values that live inside lie in one arena, which is allocated here and never again. Results are
new arrays at each call, unless the caller gives them (`out`). State is written where it lies.

**numpy** computes what no kernel does, between the calls into C, from and to the same arena.

**Errors.** What can refuse its operands (a class that is none, an index) stands before everything that writes
to state, as `plan` arranges it; so nothing has changed when a program raises. The message comes from the
record of the operation, which is asked again, in numpy, what it does not like.

**Threads.** One program runs in one thread at a time, as it has one arena. A call that finds it busy waits; a
call from within itself (by a kernel of the user's) is interpreted.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backends import c as _c
from ..backends.tile import Unsupported
from ..errors import ShapeError
from ..ir import Graph, Node, Spec
from ..memory import room
from ..mode import current
from ..passes.cost import node_flops
from ..plan import ALIGN, Plan, plan
from . import edges as _edges  # noqa: F401  (its rules)
from . import failure, interpret, roots
from . import quantized as _quantized  # noqa: F401  (its rules)
from .lower import WORKSPACE, Assembler, Instruction
from .pieces import Cutter
from .places import Layout, Place, layouts, row_major

#: From this size on, the arena asks for huge pages.
HUGE = 4 << 20
#: From this size on, what is reduced over processes lies where all of them reach it.
SHARED = 1 << 14


class NumpyStep(NamedTuple):
    """Nodes that numpy computes, and where their results go."""

    nodes: range
    stored: tuple[int, ...]  # values that have a place


class Described(NamedTuple):
    """An instruction for tables: its name, what it computes, for which lines, and what that costs."""

    kernel: str
    ops: tuple[str, ...]
    where: tuple[str, ...]
    shape: tuple[int, ...]
    flops: int
    bytes: int


class Program:
    """A compiled graph; call it with arrays of the graph's inputs. See the module."""

    def __init__(self, graph: Graph) -> None:
        self.backend = current().backend
        found = layouts(graph)
        cutter = Cutter(graph, found, self._only_numpy)
        self.graph, self.pieces = cutter.cut()
        graph = self.graph
        self._copied = frozenset(v for v, layout in enumerate(found) if layout is None)
        workspace = {}
        for start in self.pieces:
            node = graph.nodes[start]
            needs = WORKSPACE.get(node.op.name)
            if needs is not None and self.pieces[start].kind == "node":
                workspace[start] = needs(graph, node)
        self.plan: Plan = plan(graph, self._copied, workspace)
        self._build(found)
        #: Who has put the pointers into `memory` that lie there; None: a call that is over.
        self.owner: Any = None
        self.first_output = self._bases["outputs"]
        self._lock = threading.RLock()
        self._running = False
        self._interpreted: Any = None

    @property
    def one_call(self) -> bool:
        """Whether all of it runs in a single call of C: nothing is left to numpy."""
        return not any(isinstance(step, NumpyStep) for step in self._schedule)

    def _only_numpy(self, node: Node) -> bool:
        """Whether a node has a kernel of the user's own."""
        return type(self.backend[node.op]).__name__ == "Checked"

    # -- compiling -------------------------------------------------------------------------------------

    def _build(self, found: list[Layout | None]) -> None:
        graph, made = self.graph, self.plan
        first = graph.first_node
        self._constants = [
            c if not any(c.strides) or c.flags.c_contiguous else np.ascontiguousarray(c)
            for c in graph.constants
        ]
        staged = self._staged()
        stage = made.peak
        stages: dict[int, int] = {}
        for v in staged:
            stages[v] = stage
            spec = graph.spec(v)
            stage += -(-math.prod(spec.shape) * spec.dtype.itemsize // ALIGN) * ALIGN
        self.arena = room(stage, HUGE // 2 if stage >= HUGE else ALIGN)  # large: from a huge page on
        self._bases = {"arena": first, "zeros": first + 1, "reduced": first + 2, "outputs": first + 3}
        self._reduced = reduced_apart(graph, made)
        self._zeros = np.zeros(64, np.uint8)
        copied = borrowed_outputs(graph, made)
        self.output_specs = [graph.spec(v) for v in graph.outputs]
        places = self._places(found)
        asm = Assembler(
            graph,
            places,
            lambda start: made.offset.get(-1 - start, 0),
            self._bases["arena"],
            self._bases["zeros"],
            self._constants,
        )
        self._schedule: list[tuple[int, int] | NumpyStep] = []
        begin = 0
        for group in made.steps:
            piece = self.pieces[group.start]
            node = graph.nodes[group.start]
            if node.op.view and first + group.start not in self._copied:
                continue
            mark = len(asm.instructions)
            try:
                if piece.kind == "numpy":
                    raise Unsupported("a kernel of the user's")
                asm.piece(piece)
            except Unsupported:
                del asm.instructions[mark:]
                if mark > begin:
                    self._schedule.append((begin, mark))
                begin = mark
                values = tuple(
                    [
                        first + p
                        for p in range(group.start, group.stop)
                        if places[first + p] is not None and self._has_memory(first + p)
                    ]
                )
                self._schedule.append(NumpyStep(range(group.start, group.stop), values))
        asm.nodes = range(0)
        for k, v in enumerate(graph.outputs):
            if copied[k]:
                self._append_copy(asm, places[v], self._output_place(k))
        late = [(t, v) for t, v in graph.updates if made.direct.get(v) != t]
        staging: dict[int, Place] = {}
        for _, v in late:
            if v in stages and v not in staging:
                spec = graph.spec(v)
                staging[v] = Place(
                    self._bases["arena"], stages[v], spec.shape, row_major(spec.shape), spec.dtype
                )
                self._append_copy(asm, places[v], staging[v])
        for t, v in late:
            self._append_copy(asm, staging.get(v, places[v]), places[t])
        if len(asm.instructions) > begin:
            self._schedule.append((begin, len(asm.instructions)))
        self.places = places
        self._assemble(asm)

    def _staged(self) -> list[int]:
        """Values of late updates that lie in the memory of an input which is itself updated."""
        graph = self.graph
        root = roots(graph, self._copied)
        targets = {t for t, _ in graph.updates}
        return [
            v
            for v in dict.fromkeys(v for _, v in graph.updates)
            if root[v] in targets and v not in self.plan.direct
        ]

    def _append_copy(self, asm: Assembler, source: Place | None, target: Place | None) -> None:
        assert source is not None
        assert target is not None
        if source.size and (source.base, source.offset) != (target.base, target.offset):
            asm.copy(source, target)

    def _has_memory(self, v: int) -> bool:
        return v in self.plan.offset or v in self.plan.direct or v in self.plan.outputs

    def _output_place(self, k: int) -> Place:
        spec = self.output_specs[k]
        return Place(self._bases["outputs"] + k, 0, spec.shape, row_major(spec.shape), spec.dtype)

    def _places(self, found: list[Layout | None]) -> list[Place | None]:
        graph, made = self.graph, self.plan
        inputs, first = len(graph.inputs), graph.first_node
        output_of = {v: graph.outputs.index(v) for v in made.outputs}
        places: list[Place | None] = []
        for v in range(first + len(graph.nodes)):
            spec = graph.spec(v)
            dense = row_major(spec.shape)
            if v < inputs:
                place: Place | None = Place(v, 0, spec.shape, dense, spec.dtype)
            elif v < first:
                strides = tuple([s // spec.dtype.itemsize for s in self._constants[v - inputs].strides])
                place = Place(v, 0, spec.shape, strides, spec.dtype)
            elif v in made.direct:
                place = Place(made.direct[v], 0, spec.shape, dense, spec.dtype)
            elif v in output_of:
                place = self._output_place(output_of[v])
            elif v in made.views:
                layout, root = found[v], places[made.views[v]]
                assert layout is not None
                assert root is not None
                base = found[made.views[v]]
                assert base is None or base.offset == 0
                place = Place(root.base, root.offset + layout.offset, spec.shape, layout.strides, spec.dtype)
            elif v in self._reduced.offset:
                at = self._reduced.offset[v]
                place = Place(self._bases["reduced"], at, spec.shape, dense, spec.dtype)
            elif v in made.offset:
                place = Place(self._bases["arena"], made.offset[v], spec.shape, dense, spec.dtype)
            else:
                place = None
            places.append(place)
        return places

    def _assemble(self, asm: Assembler) -> None:
        """The C side: instructions, operands, and the table of pointers."""
        ffi, lib = _c.ffi, _c.lib
        self._packed, at = room(sum(-(-size // ALIGN) * ALIGN for size, _ in asm.packings), ALIGN), 0
        for size, pack in asm.packings:
            pack(_pointer(self._packed[at:]))
            at += -(-size // ALIGN) * ALIGN
        self.instructions: tuple[Instruction, ...] = tuple(asm.instructions)
        operands = ffi.new("struct mg_operand[]", max(sum(len(i.operands) for i in self.instructions), 1))
        code = ffi.new("struct mg_instruction[]", max(len(self.instructions), 1))
        at = 0
        for c, i in zip(code, self.instructions, strict=False):
            c.kernel, c.operands, c.operand = (
                getattr(lib, "MG_DO_" + i.kernel.upper()),
                len(i.operands),
                operands + at,
            )
            for place in i.operands:
                operands[at].base, operands[at].offset = place.base, place.offset
                at += 1
            c.attributes = ffi.NULL if i.attributes is None else ffi.cast("void *", i.attributes)
            c.type, c.which, c.n, c.k = i.type, i.which, i.n, i.k
        self.memory = ffi.new("void *[]", self._bases["outputs"] + len(self.output_specs))
        self._failed = ffi.new("int *")
        #: What `mg_program_call` takes, see `fast`.
        self.code = ffi.new("struct mg_code *", (code, len(self.instructions), self.memory, self._failed))
        self._keep = (asm.keep, code, operands)
        inputs = len(self.graph.inputs)
        for k, constant in enumerate(self._constants):
            self.memory[inputs + k] = ffi.cast("void *", constant.__array_interface__["data"][0])
        self.memory[self._bases["arena"]] = _pointer(self.arena)
        self.memory[self._bases["reduced"]] = _pointer(self._reduced.memory)
        self.memory[self._bases["zeros"]] = _pointer(self._zeros)
        #: Whether a call is one call of C, without numpy in between.
        self.whole = not any(isinstance(item, NumpyStep) for item in self._schedule)

    # -- running ---------------------------------------------------------------------------------------

    def __call__(self, *arrays: Any, out: Sequence[Any] | None = None) -> list[Any]:
        """The outputs; updates are written into the arrays given. out: arrays to write the outputs into."""
        given = tuple([Spec(a.shape, a.dtype) for a in arrays])
        if given != self.graph.inputs:
            raise ShapeError(
                "program",
                f"given {', '.join(map(str, given))} for a graph of {', '.join(map(str, self.graph.inputs))}",
                fix="pass arrays of those specs, or trace again",
            )
        with self._lock:
            if self._running:
                return self._by_hand(arrays)
            return self._run(list(arrays), out, None)

    def _by_hand(self, arrays: Sequence[Any]) -> list[Any]:
        if self._interpreted is None:
            self._interpreted = interpret(self.graph)
        return list(self._interpreted(*arrays))

    def timed_run(self, *arrays: Any) -> tuple[list[Any], list[float]]:
        """The outputs, and the seconds that each of `described()` took."""
        with self._lock:
            times = _c.ffi.new("int64_t[]", max(len(self.instructions), 1))
            steps: dict[int, float] = {}
            outputs = self._run(list(arrays), None, (times, steps))
        seconds = []
        for part in self._parts():
            seconds.append(steps[id(part)] if isinstance(part, NumpyStep) else times[part] * 1e-9)
        return outputs, seconds

    def _parts(self) -> list[int | NumpyStep]:
        """Instructions (their positions) and numpy steps, in order."""
        parts: list[int | NumpyStep] = []
        for item in self._schedule:
            if isinstance(item, NumpyStep):
                parts.append(item)
            else:
                parts += range(*item)
        return parts

    def described(self) -> list[Described]:
        """All that a call does, in order, as rows of a table."""
        graph = self.graph
        rows = []
        for part in self._parts():
            nodes = part.nodes if isinstance(part, NumpyStep) else self.instructions[part].nodes
            chosen = [graph.nodes[p] for p in nodes]
            if isinstance(part, NumpyStep):
                operands = [p for p in (self.places[v] for v in self._reads(nodes)) if p is not None]
                operands += [p for v in part.stored if (p := self.places[v]) is not None]
            else:
                operands = list(self.instructions[part].operands)
            moved = {(p.base, p.offset, p.size): _touched(p) for p in operands}
            rows.append(
                Described(
                    "numpy" if isinstance(part, NumpyStep) else self.instructions[part].kernel,
                    tuple([n.op.name for n in chosen]) or ("copy",),
                    tuple(dict.fromkeys(n.where for n in chosen if n.where)),
                    operands[-1].shape if operands else (),
                    sum(node_flops(graph, n) for n in chosen),
                    sum(moved.values()),
                )
            )
        return rows

    def _reads(self, nodes: range) -> list[int]:
        first = self.graph.first_node
        inside = range(first + nodes.start, first + nodes.stop)
        return list(dict.fromkeys(v for p in nodes for v in self.graph.nodes[p].inputs if v not in inside))

    def _run(self, arrays: list[Any], out: Sequence[Any] | None, timing: Any) -> list[Any]:
        graph, memory = self.graph, self.memory
        self.owner = None
        back: list[tuple[Any, Any]] = []
        updated = {t for t, _ in graph.updates}
        for k, a in enumerate(arrays):
            if type(a) is not np.ndarray:  # a scalar of numpy's, whose memory moves
                arrays[k] = a = np.asarray(a)
            if k in updated and not a.flags.writeable:
                raise ValueError("assignment destination is read-only")
            if not (a.flags.c_contiguous and a.flags.aligned):
                arrays[k] = b = (
                    np.ascontiguousarray(a).copy() if not a.flags.aligned else np.ascontiguousarray(a)
                )
                if k in updated:
                    back.append((a, b))
            memory[k] = _pointer(arrays[k])
        outputs = self.outputs() if out is None else list(out)
        at = self._bases["outputs"]
        for k, y in enumerate(outputs):
            memory[at + k] = _pointer(y)
        self._running = True
        try:
            for item in self._schedule:
                if isinstance(item, NumpyStep):
                    start = time.perf_counter()
                    self._numpy(item, arrays, outputs)
                    if timing is not None:
                        timing[1][id(item)] = time.perf_counter() - start
                else:
                    times = _c.ffi.NULL if timing is None else timing[0]
                    status = _c.lib.mg_program_run(self.code, *item, memory, self._failed, times)
                    if status:
                        self._fail(status, arrays, outputs)
        finally:
            self._running = False
        for a, b in back:
            a[...] = b
        return outputs

    def after_fork(self) -> None:
        """In a child process: whoever was running this program is not here."""
        self._lock = threading.RLock()
        self._running = False

    def outputs(self) -> list[Any]:
        """New arrays for the outputs."""
        return [np.empty(shape, dtype) for shape, dtype in self.output_specs]

    def point(self, arrays: Sequence[Any]) -> None:
        """Let the inputs be these dense arrays; the caller keeps them alive. None leaves one as it is."""
        for k, a in enumerate(arrays):
            if a is not None:
                self.memory[k] = _pointer(a)

    def fast(self, outputs: list[Any]) -> None:
        """One call, for callers that have put all pointers of inputs and outputs into `memory` themselves.

        Only for programs that are `whole`. (Those who count nanoseconds call `mg_program_call` on `code`.)
        """
        status = _c.lib.mg_program_call(self.code)
        if status:
            self.fail(status, outputs)

    def fail(self, status: int, outputs: list[Any]) -> None:
        """Raise what the status of a call means that was made with `code`."""
        self._fail(status, None, outputs)

    def _array(self, v: int, arrays: list[Any] | None, outputs: list[Any]) -> Any:
        """A value as an array, where it lies now."""
        place = self.places[v]
        assert place is not None
        size = place.dtype.itemsize
        if not place.size:
            return np.empty(place.shape, place.dtype)
        base = place.base
        if base < len(self.graph.inputs):
            buffer = (
                arrays[base] if arrays is not None else _buffer(self.memory[base], self.graph.inputs[base])
            )
        elif base < self.graph.first_node:
            return self._constants[base - len(self.graph.inputs)]
        elif base == self._bases["arena"]:
            buffer = self.arena
        elif base == self._bases["reduced"]:
            buffer = self._reduced.memory
        else:
            buffer = outputs[base - self._bases["outputs"]]
        return np.ndarray(
            place.shape, place.dtype, buffer, place.offset, tuple([s * size for s in place.strides])
        )

    def _numpy(self, step: NumpyStep, arrays: list[Any], outputs: list[Any]) -> None:
        graph, first = self.graph, self.graph.first_node
        local: dict[int, Any] = {}
        for p in step.nodes:
            node = graph.nodes[p]
            inputs = [local[v] if v in local else self._array(v, arrays, outputs) for v in node.inputs]
            try:
                y = self.backend[node.op](*inputs, *node.attrs)
            except (ValueError, TypeError, IndexError, OverflowError) as error:
                raise failure(node, error, inputs) from None
            local[first + p] = y = y if type(y) is np.ndarray else np.asarray(y)
            if first + p in step.stored:
                target = self._array(first + p, arrays, outputs)
                target[...] = y
                local[first + p] = target

    def _fail(self, status: int, arrays: list[Any] | None, outputs: list[Any]) -> None:
        """Raise what a failed instruction means: the words are those of the record."""
        instruction = self.instructions[self._failed[0]]
        for p in instruction.nodes:
            node = self.graph.nodes[p]
            if any(self.places[v] is None for v in node.inputs):
                continue
            inputs = [self._array(v, arrays, outputs) for v in node.inputs]
            try:
                node.op.kernel(*inputs, *node.attrs)
            except (ValueError, TypeError, IndexError, OverflowError) as error:
                raise failure(node, error, inputs) from None
        _c._check(status)


class Reduced(NamedTuple):
    """Memory apart from the arena, and the values that lie there."""

    memory: Any
    offset: dict[int, int]


def reduced_apart(graph: Graph, made: Plan) -> Reduced:
    """Places for values that a group of processes reduces, in memory that it offers (`shared`): others read
    and write them there, and nobody has to copy. A value that only the reduction reads is replaced by the
    result."""
    first = graph.first_node
    readers: dict[int, int] = {}
    for node in graph.nodes:
        for v in set(node.inputs):
            readers[v] = readers.get(v, 0) + 1
    offset: dict[int, int] = {}
    size, lender = 0, None
    for position, node in enumerate(graph.nodes):
        if node.op.name not in ("all_reduce", "reduce_from"):
            continue
        lend = getattr(node.attrs[0], "shared", None)
        if lend is None or lender not in (None, lend):
            continue
        lender = lend
        x, y = node.inputs[0], first + position
        alone = x in made.offset and readers[x] == 1 and x not in graph.results
        for v in (x, y):
            length = math.prod(node.spec.shape) * node.spec.dtype.itemsize
            if v not in made.offset or v in offset or length < SHARED:
                continue
            if v == y and alone and x in offset:
                offset[v] = offset[x]
                continue
            offset[v] = size
            size += -(-length // ALIGN) * ALIGN
    memory = lender(size) if lender is not None and size else None
    return Reduced(np.zeros(0, np.uint8), {}) if memory is None else Reduced(memory, offset)


def borrowed_outputs(graph: Graph, made: Plan) -> list[bool]:
    """For each output, whether it is copied at the end rather than computed where it is wanted."""
    first: dict[int, int] = {}
    copied = []
    for k, v in enumerate(graph.outputs):
        copied.append(v not in made.outputs or v in first)
        first.setdefault(v, k)
    return copied


def _pointer(x: Any) -> Any:
    """The address of an array's memory."""
    return _c.ffi.cast("void *", x.__array_interface__["data"][0])


def _buffer(pointer: Any, spec: Spec) -> Any:
    size = math.prod(spec.shape) * spec.dtype.itemsize
    return _c.ffi.buffer(_c.ffi.cast("char *", pointer), size)


def _touched(place: Place) -> int:
    """Bytes that a place has, repeated elements counted once."""
    count = place.dtype.itemsize
    for n, s in zip(place.shape, place.strides, strict=True):
        count *= n if s else 1
    return count


__all__ = ["Described", "NumpyStep", "Program"]
