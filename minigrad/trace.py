"""Tracing: record a program as a graph by running it once on symbols.

`trace(f, *specs)` calls `f` with tensors that have a shape and a dtype but no values.  Every
operation asks its record's shape rule what would come out, and appends a node; nothing is
computed.  Since backward passes and optimizers are programs made of the same operations, a traced
training step contains all of them, and there is no second autodiff for graphs.

    >>> import minigrad as mg
    >>> graph = trace(lambda x: (x * 2.0).exp(), mg.Spec((3,), mg.float32))
    >>> [node.op.name for node in graph.nodes]
    ['mul', 'exp']

**State.**  A function also uses tensors that are no arguments: parameters, running means, moments of
an optimizer, the counter of a random generator.  Nobody has to declare them.  The trace notes every
array with values that it meets; when the function has returned, those that somebody else still
holds are *state*, and the rest, such as the 2.0 above, were made in passing and are *constants*.
State becomes an input of the graph, read at each call; a mistake in this direction costs a little
time and never a wrong number.

Writing to state (`assign`, `add_`, `x[...] = v`, an optimizer's step) computes nothing either: from
then on the trace takes the new value for the tensor, and at the end it is an *update* of the graph.
The tensor itself is not touched.

**What Python saw.**  A decision that Python took while it was traced is baked into the graph, so what
it was based on becomes a *guard*: `module.training`, whether a gradient was there, the value of a
closed-over number that `.item()` read.  Where a guard no longer holds, the function is traced anew.
A decision on a *traced* value cannot be recorded at all and is a TraceError at the user's line.

`capture` does all this and returns what `minigrad.compiled` needs; `trace` is the simple face, for
functions without state of their own: what they close over is a constant.

References: tracing by operator overloading as in Autograd (Maclaurin 2016) and JAX (Frostig, Johnson
& Leary 2018).  Left out on purpose: control flow as nodes; and Python side effects, which happen once.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .errors import Refusal, TraceError, Where, here, short_line
from .ir import Builder, Graph, Spec, check
from .memory import aligned
from .mode import current, using
from .record import Op
from .tape import Leaf, hooks
from .tensor import WORLD, Symbol, Tensor, View, wrap
from .tree import Structure, flatten

#: Closed-over arrays of at most this many elements may be read by Python inside a trace: their
#: contents are compared at every call.
READABLE = 4096


class State:
    """An array with values that a trace has met, and what stands for it there."""

    __slots__ = ("array", "first", "guarded", "symbol", "tensors", "updated", "where")

    def __init__(self, array: Any, symbol: Symbol) -> None:
        self.array = array
        self.first = self.symbol = symbol  # at the beginning, and now
        self.tensors: list[weakref.ref[Tensor]] = []
        self.updated = False
        self.guarded: Any = None  # the values that Python read
        self.where: Where | None = None

    def seen(self, t: Tensor) -> None:
        """Note a tensor of this array."""
        if not self.tensors or self.tensors[-1]() is not t:
            self.tensors.append(weakref.ref(t))

    def references(self) -> tuple[int, int]:
        """How many hold the array, and the array that it is a view of; this object and the call included."""
        return sys.getrefcount(self.array), sys.getrefcount(self.array.base)

    def held(self, unheld: tuple[int, int]) -> bool:
        """Whether somebody else holds the array or its memory."""
        array, base = self.references()
        return array > unheld[0] or (self.array.base is not None and base > unheld[1])

    def owner(self) -> weakref.ref[Tensor] | None:
        """A tensor of this array that still exists."""
        for ref in self.tensors:
            t = ref()
            if t is not None and t._array is self.array:
                return ref
        return None


def _unheld() -> tuple[int, int]:
    """What `State.references` says of a view that nobody else holds."""
    return State(np.empty(2)[1:], Symbol(Spec((1,), np.dtype(np.float64)), 0, None)).references()


class Guard(NamedTuple):
    """Something that Python saw while it was traced: `read()` gave `expected`.

    source: what counts everything that may change this, if there is such a thing; a version cell, if its
    count is what is read.
    """

    read: Callable[[], Any]
    expected: Any
    text: str
    source: Any = None

    def holds(self) -> bool:
        """Whether it would see the same again."""
        return bool(self.read() == self.expected)


class StateInput(NamedTuple):
    """Where the value of a state input comes from: a tensor, or an array that no tensor owns."""

    tensor: weakref.ref[Tensor] | None
    leaf: Leaf | None
    array: Any
    spec: Spec


class Live(NamedTuple):
    """A number that is read anew at every call, and what it is called; source: as of a Guard."""

    read: Callable[[], Any]
    name: str
    source: Any = None


class GradEffect(NamedTuple):
    """What a call does to the `.grad` of a leaf: output `output` becomes it, or (None) it is dropped."""

    leaf: Leaf
    output: int | None


class Captured(NamedTuple):
    """A traced function: its graph, and how its inputs and outputs hang together with the program.

    The graph's inputs are the arguments, then `state`, then `live` (numbers read by calling).  Its
    outputs are the tensors of the result, then those of `grads`, then those of `argument_grads`.
    """

    graph: Graph
    arguments: int
    state: tuple[StateInput, ...]
    live: tuple[Live, ...]
    guards: tuple[Guard, ...]
    structure: Structure
    result: tuple[Any, ...]  # ("output", number, whether it would have a history) or ("value", value)
    grads: tuple[GradEffect, ...]
    argument_grads: tuple[tuple[int, int | None], ...]  # argument, output


class Trace:
    """A graph in the making."""

    def __init__(self, *, frozen: bool = False) -> None:
        self.frozen = frozen  # closed-over tensors are constants
        self.arguments: list[Spec] = []
        self.states: dict[int, State] = {}
        self.live_numbers: list[tuple[Symbol, Live]] = []
        self.guards: dict[Any, Guard] = {}
        self.nodes: list[tuple[Op, tuple[int, ...], tuple[Any, ...], Spec, Where | None]] = []
        self.closed = False
        self._touched: dict[int, tuple[Tensor, Any, Any, list[Any] | None]] = {}
        self._live: dict[Any, Symbol] = {}
        self._leaves: dict[Leaf, tuple[Any, list[bool]]] = {}  # its gradient at first, and was that read?
        self._consumed: set[Leaf] = set()

    # -- values ---------------------------------------------------------------------------------
    # Symbols are numbered as in `ir.Builder`: arguments 0.., nodes NODE.., and both states and live
    # numbers below zero, as it turns out at the end what they are.

    def input(self, spec: Spec) -> Symbol:
        """A new argument."""
        self.arguments.append(spec)
        return Symbol(spec, len(self.arguments) - 1, self)

    def _below(self) -> int:
        return -1 - len(self.states) - len(self.live_numbers)

    def live(self, read: Callable[[], Any], key: Any, name: str, source: Any = None) -> Tensor:
        """A float64 number whose value is read by calling `read` whenever the graph is run (see `Live`)."""
        if self.frozen:
            return wrap(np.array(float(read()), np.float64))
        if key not in self._live:
            symbol = self._live[key] = Symbol(Spec((), np.dtype(np.float64)), self._below(), self)
            self.live_numbers.append((symbol, Live(read, name, source)))
        return wrap(self._live[key])

    def state(self, t: Tensor) -> State:
        """What is known of a tensor with values."""
        array = t._array
        known = self.states.get(id(array))
        if known is None:
            known = State(array, Symbol(Spec(array.shape, array.dtype), self._below(), self))
            self.states[id(array)] = known
        known.seen(t)
        return known

    def meet(self, t: Tensor) -> None:
        """Note that the function has used a tensor, through another one of the same memory."""
        if not isinstance(t._array, Symbol):
            self.state(t)

    def symbol(self, t: Tensor) -> Symbol:
        """The symbol that stands for a tensor now."""
        array = t._array
        if not isinstance(array, Symbol):
            return self.state(t).symbol
        if array.trace is not self:
            raise Refusal(
                "a tensor of another trace is used here",
                "return it from the function it belongs to",
                TraceError,
            )
        self.refresh(t)
        symbol: Symbol = t._array
        return symbol

    def alias(self, t: Tensor) -> Symbol:
        """A symbol for another tensor that shares the memory of a traced one."""
        first = t._array
        symbol = Symbol(Spec(first.shape, first.dtype), first.number, first.trace)
        symbol.origin = t.version
        return symbol

    def refresh(self, t: Tensor) -> None:
        """Let a traced view show what its base is now, if that has changed since."""
        array = t._array
        if not isinstance(array, Symbol) or array.origin is None or array.origin == t.version:
            return
        if array.trace is not self or self.closed:
            return
        if not isinstance(t, View):
            raise TraceError(
                "trace",
                f"a reshaped or detached tensor of shape {t.shape} is used after a change in place of what "
                "it was made of; whether it shares that memory is not known in a trace",
                fix="make it again after the change, or take a .clone() before",
            )
        t._array = self.record(t._viewed_by, (t._parent,), t._attrs)

    # -- recording ------------------------------------------------------------------------------

    def record(self, op: Op, inputs: tuple[Tensor, ...], attrs: tuple[Any, ...]) -> Symbol:
        """Append a node; its Symbol is what the operation returns."""
        if self.closed:
            raise Refusal("this trace has ended", "compute inside the traced function", TraceError)
        symbols = [self.symbol(t) for t in inputs]
        spec = op.infer([Spec(s.shape, s.dtype) for s in symbols], attrs)
        self.nodes.append((op, tuple([s.number for s in symbols]), attrs, spec, here()))
        symbol = Symbol(spec, Builder.NODE + len(self.nodes) - 1, self)
        if op.view:
            symbol.origin = inputs[0].version
        return symbol

    def update(self, target: Tensor, value: Tensor, op: str) -> None:
        """From now on `target`, a tensor with values, has the value of another tensor of its spec."""
        if self.frozen:
            raise TraceError(
                op,
                "a tensor from outside is changed in place inside a trace",
                fix="return the new value instead, or use minigrad.compile, which records updates",
            )
        if isinstance(target, View):
            raise TraceError(
                op,
                "a view that was taken outside of the trace is changed in place inside of it",
                fix="take the view inside, or change the tensor that it is a view of",
            )
        target._writable(op)
        self.touch(target)
        state, symbol = self.state(target), self.symbol(value)
        state.symbol = symbol
        state.updated = True

    def touch(self, t: Tensor) -> None:
        """Note how a tensor is now, so that it is found the same when the trace has ended."""
        if id(t) not in self._touched:
            cell = t._version
            self._touched[id(t)] = (t, t._node, cell, None if cell is None else list(cell))

    def leaf(self, leaf: Leaf, *, read: bool = False) -> None:
        """Note that the gradient of a leaf is about to be read, or (if not `read`) replaced."""
        if leaf not in self._leaves:
            self._leaves[leaf] = (leaf.grad, [read])

    def consumed(self, leaf: Leaf) -> None:
        """Note that an optimizer has used the gradient of a leaf."""
        self._consumed.add(leaf)

    # -- what Python saw --------------------------------------------------------------------------

    def guard(self, key: Any, read: Callable[[], Any], expected: Any, text: str, source: Any = None) -> None:
        """Trace anew when `read()` no longer gives `expected` (see `Guard`)."""
        self.guards.setdefault(key, Guard(read, expected, text, source))

    def read(self, t: Tensor, what: str) -> None:
        """Note that Python looks at the values of a tensor that has some."""
        state = self.state(t)
        if state.updated:
            raise TraceError(
                what,
                f"a tensor of shape {t.shape} that was changed in this trace has no value yet",
                fix="keep the decision inside the graph (minigrad.where, masks), or read it outside of the "
                "traced function",
            )
        if state.guarded is None:
            state.guarded = state.array.copy() if state.array.size <= READABLE else ()
            state.where = here()

    def _guard_reading(self, state: State) -> None:
        if isinstance(state.guarded, tuple):
            raise TraceError(
                "trace",
                f"the values of a tensor of shape {state.array.shape} from outside are read by Python",
                where=state.where,
                fix="keep it inside the graph, or pass what is needed of it as an argument (at most "
                f"{READABLE} elements are compared at every call)",
            )
        ref, before, array = state.owner(), state.guarded, state.array

        def same() -> bool:
            t = ref() if ref is not None else None
            now = array if t is None else t._array
            return bool(now.dtype == before.dtype and now.tobytes() == before.tobytes())

        self.guard(("values", id(array)), same, True, f"a value read at {short_line(state.where)}")

    # -- the end ----------------------------------------------------------------------------------

    def restore(self) -> None:
        """Close the trace and leave every tensor and gradient as it was before."""
        self.closed = True
        for t, node, cell, count in self._touched.values():
            if cell is None:
                t._version = None
            else:
                t._version = cell
                cell[:] = count or []
            t._node = node
        WORLD.changed()
        for leaf, (grad, _) in self._leaves.items():
            leaf.grad = grad
        self._touched.clear()  # what was made in passing must not be kept alive by this
        self._leaves.clear()

    def grad_changes(self) -> list[tuple[Leaf, Any, Any, bool]]:
        """(leaf, gradient at first, gradient now, whether the first was read) where they differ."""
        return [
            (leaf, before, leaf.grad, read[0])
            for leaf, (before, read) in self._leaves.items()
            if leaf.grad is not before
        ]

    def check_memory(self, alive: list[State]) -> None:
        """Refuse state that is changed and shares memory with other state."""
        if not any(s.updated for s in alive):
            return
        bounds = sorted(
            ((*np.lib.array_utils.byte_bounds(s.array), s) for s in alive if s.array.size),
            key=lambda b: b[0],
        )
        open_: list[tuple[int, State]] = []
        for low, end, state in bounds:
            open_ = [(e, s) for e, s in open_ if e > low]
            for _, other in open_:
                if (state.updated or other.updated) and np.shares_memory(state.array, other.array):
                    raise TraceError(
                        "trace",
                        f"tensors of shapes {other.array.shape} and {state.array.shape} from outside share "
                        "memory, and one of them is changed",
                        fix="use one of the two inside the traced function",
                    )
            open_.append((end, state))

    def finish(self, outputs: Sequence[int], updates: Sequence[tuple[int, int]], alive: list[State]) -> Graph:
        """The checked graph.  Updates of arguments are given; those of state are added."""
        builder = Builder(self.arguments)
        reference: dict[int, int] = {}
        states = {id(s) for s in alive}
        for state in alive:
            reference[state.first.number] = len(builder.inputs)
            builder.inputs.append(Spec(state.first.shape, state.first.dtype))
        for symbol, _ in self.live_numbers:
            reference[symbol.number] = len(builder.inputs)
            builder.inputs.append(Spec(symbol.shape, symbol.dtype))
        constants = {s.first.number: s for s in self.states.values() if id(s) not in states}

        def of(number: int) -> int:
            if number >= 0:
                return number
            known = reference.get(number)
            if known is None:
                known = reference[number] = builder.constant(aligned(constants[number].array))
            return known

        lines: dict[Where | None, str] = {}
        for op, inputs, attrs, spec, where in self.nodes:
            line = lines.get(where)
            if line is None:
                line = lines[where] = short_line(where)
            builder.node(op, [of(v) for v in inputs], attrs, spec, line)
        changed = [(of(s.first.number), of(s.symbol.number)) for s in alive if s.updated]
        return check(builder.finish([of(v) for v in outputs], [*((t, of(v)) for t, v in updates), *changed]))


def _start(active: Trace, leaf: Tensor | Spec, requires_grad: bool) -> Tensor:
    """The traced stand-in of an argument."""
    t = wrap(active.input(Spec(leaf.shape, leaf.dtype)))
    return t.requires_grad_() if requires_grad else t


def capture(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Captured:
    """Trace `function(*args, **kwargs)`, with the tensors in the arguments as inputs.

    Arguments are nests (see `minigrad.tree`); leaves that are no tensors are static.  The inputs are the
    distinct tensors in order, and then the gradients that they have already (see `arguments_of`).  Nothing is
    computed, and every tensor is left as it was, whether this succeeds or not.
    Raises TraceError, with the user's line, where a value is needed that is not known yet.
    """
    active = Trace()
    try:
        with hooks.watch():
            seen = _run(active, function, args, kwargs)
    finally:
        active.restore()
    # Of this run only the numbers are left, so whoever still holds an array is part of the program.
    unheld = _unheld()
    alive = [s for s in active.states.values() if s.held(unheld)]
    active.check_memory(alive)
    for state in alive:
        if state.guarded is not None:
            active._guard_reading(state)
    outputs = list(seen.outputs)
    effects = []
    for leaf, number in seen.grads:
        effects.append(GradEffect(leaf, None if number is None else len(outputs)))
        if number is not None:
            outputs.append(number)
    pulled = []
    for k, number in seen.argument_grads:
        pulled.append((k, None if number is None else len(outputs)))
        if number is not None:
            outputs.append(number)
    graph = active.finish(outputs, seen.updates, alive)
    return Captured(
        graph,
        len(active.arguments),
        tuple(_state_input(s) for s in alive),
        tuple(live for _, live in active.live_numbers),
        tuple(active.guards.values()),
        seen.structure,
        tuple(seen.result),
        tuple(effects),
        tuple(pulled),
    )


def arguments_of(leaves: Sequence[Any]) -> list[Tensor]:
    """The tensors that are inputs of a captured function, from the leaves of its arguments: each once,
    and then the gradients of those that have one."""
    distinct = list({id(x): x for x in leaves if isinstance(x, Tensor)}.values())
    return distinct + [
        t._node.grad for t in distinct if isinstance(t._node, Leaf) and t._node.grad is not None
    ]


class _Seen(NamedTuple):
    """What a traced run came to, in numbers of the trace."""

    structure: Structure
    result: list[Any]
    outputs: list[int]
    updates: list[tuple[int, int]]
    grads: list[tuple[Leaf, int | None]]
    argument_grads: list[tuple[int, int | None]]


def _run(active: Trace, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Seen:
    """Run the function on symbols."""
    leaves, structure = flatten((args, kwargs))
    stand_ins: dict[int, Tensor] = {}
    for leaf in leaves:
        if isinstance(leaf, Tensor) and id(leaf) not in stand_ins:
            stand_ins[id(leaf)] = _start(active, leaf, leaf.requires_grad)
    inputs = [(t, t._array) for t in stand_ins.values()]
    given = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
    owned: list[Tensor | None] = []  # gradients that leaves among the arguments have already: arguments too
    for (t, _), key in zip(inputs, stand_ins, strict=True):
        grad = given[key].grad if isinstance(given[key]._node, Leaf) else None
        owned.append(None if grad is None else wrap(active.input(Spec(grad.shape, grad.dtype))))
        if grad is not None:
            t.grad = owned[-1]
    first_grads = [None if g is None else g._array for g in owned]
    traced_args, traced_kwargs = structure.build(
        [stand_ins[id(x)] if isinstance(x, Tensor) else x for x in leaves]
    )
    with using(current().but(trace=active)):
        value = function(*traced_args, **traced_kwargs)
    result_leaves, result_structure = flatten(value)
    outputs: list[int] = []
    result: list[Any] = []
    for leaf in result_leaves:
        if isinstance(leaf, Tensor):
            result.append(("output", len(outputs), leaf._node is not None))
            outputs.append(_number(active, leaf))
        else:
            result.append(("value", leaf, False))
    updates = []
    argument_grads: list[tuple[int, int | None]] = []
    for k, ((t, symbol), key) in enumerate(zip(inputs, stand_ins, strict=True)):
        if t._array is not symbol:
            updates.append((symbol.number, _number(active, t)))
        if not isinstance(t._node, Leaf):
            continue
        before, first, now = owned[k], first_grads[k], t._node.grad
        if now is None:
            if before is not None:
                argument_grads.append((k, None))
        elif not given[key].is_leaf:
            raise TraceError(
                "compile",
                f"backward reaches argument {k}, a result of recorded operations, whose history is outside",
                fix="compute it inside, pass it with .detach(), or use autograd.grad for its gradient",
            )
        elif first is None:
            argument_grads.append((k, _number(active, now)))
        elif now._array is not first:
            updates.append((first.number, _number(active, now)))
    own = {t._node for t, _ in inputs}
    grads: list[tuple[Leaf, int | None]] = []
    for node, before, after, read in active.grad_changes():
        if node in own:
            continue
        if after is None or (node in active._consumed and not read):
            grads.append((node, None))
        elif isinstance(before, Tensor) and read:
            active.update(before, after, "backward")
        else:
            grads.append((node, _number(active, after)))
    for node, (before, was_read) in active._leaves.items():
        if was_read[0] and node not in own:
            _guard_grad(active, node, before)
    return _Seen(result_structure, result, outputs, updates, grads, argument_grads)


def _number(active: Trace, t: Tensor) -> int:
    try:
        return active.symbol(t).number
    except Refusal as refusal:
        raise TraceError("trace", refusal.problem, fix=refusal.fix) from None


def _guard_grad(active: Trace, leaf: Leaf, before: Any) -> None:
    if before is None:
        active.guard(("grad", leaf), lambda: leaf.grad is None, True, "a gradient that was None")
        return
    ref = weakref.ref(before)
    active.guard(("grad", leaf), lambda: leaf.grad is ref(), True, "a gradient that was there")


def _state_input(state: State) -> StateInput:
    ref = state.owner()
    t = None if ref is None else ref()
    leaf = t._node if t is not None and isinstance(t._node, Leaf) else None
    spec = Spec(state.array.shape, state.array.dtype)
    return StateInput(ref, leaf, state.array if ref is None else None, spec)


def trace(function: Callable[..., Any], *specs: Spec | Tensor, requires_grad: bool = False) -> Graph:
    """Record `function` on inputs of these specs (or like these tensors) as a graph.

    The function takes as many tensors and returns a tensor or a nest of tensors.  What it closes over
    becomes a constant; `minigrad.compile` treats it as state.
    Of a matrix alone, `trace(matrix)` is the sum of its diagonal, as `torch.trace`.
    Raises TraceError, with the user's line, where a value is needed that is not known yet.
    """
    if isinstance(function, Tensor) and not specs:
        return function.trace()
    active = Trace(frozen=True)
    tensors = []
    for spec in specs:
        wanted = spec.requires_grad if isinstance(spec, Tensor) else requires_grad
        tensors.append(_start(active, spec, wanted and spec.dtype.kind == "f"))
    try:
        with using(current().but(trace=active)):
            result = function(*tensors)
        outputs = []
        for value in flatten(result)[0]:
            if not isinstance(value, Tensor):
                raise TraceError(
                    "trace", f"the function returned a {type(value).__name__}", fix="return tensors"
                )
            outputs.append(_number(active, value))
    finally:
        active.restore()
    return active.finish(outputs, (), [])
