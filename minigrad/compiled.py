"""`compile`: a function is traced once and then replayed.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> sgd = mg.optim.SGD([w], lr=0.1)
    >>> @compile
    ... def step(x):
    ...     sgd.zero_grad()
    ...     loss = (w * x).sum()
    ...     loss.backward()
    ...     sgd.step()
    ...     return loss.detach()
    >>> step(mg.ones(2)), step(mg.ones(2))
    (tensor(3.), tensor(2.8))
    >>> step
    <compiled step: 1 trace, 0 retraces, 1 in the cache>

The first call with arguments of given shapes and dtypes traces the function (`minigrad.trace`),
rewrites the graph (`minigrad.passes`) and makes something that runs of it (`minigrad.execute`).
Every later call only looks up the program, reads the state, runs, and writes the state.

**What makes a program another one**: shapes, dtypes and `requires_grad` of tensor arguments; the
values of all other arguments; whether gradients are on; and the guards, that is what Python saw while
tracing.  `step.reasons` counts why a function was traced again.  Programs are kept in a cache of
`cache_size` entries, the least recently used go first.

**What is the same as without `compile`**: every number, every change to state, the random numbers,
the `.grad` that `backward` leaves.  An exception leaves all state as it was.  Two threads may call;
they take turns.

**What is not**: Python's own side effects (print, list.append) happen while tracing only, and what a
Python number or variable is made to hold later is not seen (an attribute of a module is).  Results
have no history, so `backward` belongs inside; it is refused outside, not silently wrong.  Gradients
that an optimizer inside has used, after the function itself had cleared them, are not kept.

Called inside of another trace a compiled function simply becomes part of that.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import numpy as np
from numpy import empty

from .autograd import _function_node
from .backends.c import from_buffer
from .errors import ArgumentError, DTypeError, GradientError, TraceError, here
from .execute import Run, get_executor
from .ir import Graph, Spec
from .mode import Mode, current
from .passes import PIPELINE, resolve, run
from .tape import Leaf
from .tensor import REPLACED, Symbol, Tensor, wrap
from .trace import Captured, capture
from .tree import LEAF, flatten

#: All compiled functions that exist, for `show_config`.
_ALL: weakref.WeakSet[Compiled] = weakref.WeakSet()


class Entry:
    """One program in the cache."""

    __slots__ = (
        "_arrays",
        "_changed",
        "_memory",
        "_numbers",
        "_readers",
        "captured",
        "execute",
        "graph",
        "history",
        "updated_arguments",
        "updated_state",
    )

    def __init__(self, captured: Captured, graph: Graph, execute: Run) -> None:
        self.captured, self.graph, self.execute = captured, graph, execute
        first = captured.arguments
        targets = [target for target, _ in graph.updates]
        self.updated_arguments = [t for t in targets if t < first]
        self.updated_state = [t - first for t in targets if t >= first]
        self.history = any(history for _, _, history in captured.result)
        self._arrays: list[Any] = []  # of the state, as they were at the last call
        self._memory: frozenset[int] = frozenset()  # whose memory they are
        self._changed: frozenset[int] = frozenset()  # of those that are updated
        self._numbers = [np.zeros((), np.float64) for _ in captured.live]
        self._readers = [number.read for number in captured.live]

    def alive(self) -> bool:
        """Whether all of the state still exists."""
        return all(s.tensor is None or s.tensor() is not None for s in self.captured.state)

    def ready(self) -> list[Tensor | None] | str:
        """The tensors of the state, or the reason why the program does not fit the world as it is."""
        tensors: list[Tensor | None] = []
        arrays: list[Any] = []
        for ref, leaf, array, spec in self.captured.state:
            t = None
            if ref is not None:
                t = ref()
                if t is None or (REPLACED and id(t) in REPLACED):
                    return "state that was replaced"
                array = t._array
                if array.shape != spec.shape or array.dtype != spec.dtype:
                    return "state of another shape or dtype"
                if leaf is not t._node and (leaf is not None or t.requires_grad):
                    return "state that requires grad, or no longer does"
            tensors.append(t)
            arrays.append(array)
        for guard in self.captured.guards:
            if not guard.holds():
                return guard.text
        self.remember(arrays)
        return tensors

    def remember(self, arrays: list[Any]) -> None:
        """Note the arrays of the state, and whose memory they are if they are others than before."""
        old = self._arrays
        if len(old) == len(arrays) and all(map(is_, old, arrays)):
            return
        bases = [_base(a) for a in arrays]
        self._arrays = arrays
        self._memory = frozenset(bases)
        self._changed = frozenset(bases[k] for k in self.updated_state if k < len(bases))

    def run(self, arguments: list[Tensor], tensors: list[Tensor | None]) -> Any:
        """Run the program on these arguments and do what it does to the world."""
        captured = self.captured
        given = [t._array for t in arguments]
        if self.updated_arguments or self.updated_state:
            self._check_aliases(arguments, given)
        for t in arguments:
            if t._node is not None and any(t is s for s in tensors):
                raise ArgumentError(
                    "compile",
                    "an argument that requires grad is also used from outside of its arguments",
                    fix="use it in one way: as an argument, or closed over",
                )
        for number, read in zip(self._numbers, self._readers, strict=True):
            number[()] = read()
        outputs = self.execute(*given, *self._arrays, *self._numbers)
        if self.updated_arguments or self.updated_state:
            where = here()
            changed = [arguments[k] for k in self.updated_arguments]
            for state in (*changed, *[tensors[k] for k in self.updated_state]):
                if state is not None:
                    cell = state._version
                    if cell is None:
                        cell = state._cell()
                    cell[0] += 1
                    cell[1] = where
        for leaf, index in captured.grads:
            leaf.grad = None if index is None else wrap(outputs[index])
        for k, index in captured.argument_grads:
            arguments[k].grad = None if index is None else wrap(outputs[index])
        leaves = []
        parents: tuple[Any, ...] = ()
        if self.history:
            nodes = [t._node for t in arguments] + [s.leaf for s in captured.state]
            parents = tuple([node for node in nodes if node is not None])
        for kind, value, history in captured.result:
            if kind == "value":
                leaves.append(value)
            else:
                y = wrap(outputs[value])
                if history:
                    y._node = _no_history(y, parents)
                leaves.append(y)
        return leaves[0] if captured.structure is LEAF else captured.structure.build(leaves)

    def _check_aliases(self, arguments: list[Tensor], arrays: list[Any]) -> None:
        """Raise if an argument shares memory with another input, one of them being changed."""
        bases = [_base(a) for a in arrays]
        for k in self.updated_arguments:
            arguments[k]._writable("compile")
        for k, base in enumerate(bases):
            changed = base in self._changed
            if self.updated_arguments and not changed:
                among = [j for j, other in enumerate(bases) if other == base]
                changed = any(j in self.updated_arguments for j in among) and (
                    len(among) > 1 or base in self._memory
                )
            if changed:
                raise ArgumentError(
                    "compile",
                    f"argument {k} of shape {arguments[k].shape} shares memory with another input, and one "
                    "of them is changed",
                    fix="pass a .clone()",
                )


class Replay:
    """The quick way through a call that is like the one before: same mode, kinds of arguments, and state.

    It has to find out no less, only quicker: by comparing with what was there the last time instead of
    looking up, and without asking for a pointer twice. Whatever is not as before sends the call the long way
    round, which knows why, and makes a new Replay. For programs that are C throughout and take plain tensors.
    """

    __slots__ = (
        "_arguments",
        "_cells",
        "_changed",
        "_checks",
        "_distinct",
        "_entry",
        "_generation",
        "_grads",
        "_guards",
        "_live",
        "_mode",
        "_outputs",
        "_program",
        "_result",
        "_structure",
        "key",
    )

    def __init__(
        self, key: Any, entry: Entry, mode: Mode, arguments: Sequence[Any], tensors: Sequence[Any]
    ) -> None:
        self.key = key
        program: Any = entry.execute
        captured = entry.captured
        self._entry, self._mode, self._program = entry, mode, program
        self._generation = mode.backend.generation
        self._arguments = [(t._array.shape, t._array.dtype, k) for k, t in enumerate(arguments)]
        self._checks = [
            (s.tensor, array, None if t is None else t._node)
            for s, array, t in zip(captured.state, entry._arrays, tensors, strict=True)
            if s.tensor is not None
        ]
        self._cells = [t._cell() for k in entry.updated_state if (t := tensors[k]) is not None]
        self._changed = entry._changed
        self._guards = [(g.read, g.expected) for g in captured.guards]
        self._live = [[n, r, None] for n, r in zip(entry._numbers, entry._readers, strict=True)]
        self._grads = [leaf for leaf, _ in captured.grads]
        self._outputs = [
            (k, program.first_output + k, spec.shape, spec.dtype)
            for k, spec in enumerate(program.output_specs)
        ]
        self._structure = None if captured.structure is LEAF else captured.structure
        self._result = [(kind == "value", value) for kind, value, _ in captured.result]
        program.point([*([None] * len(arguments)), *entry._arrays, *entry._numbers])
        program.owner = self

    @staticmethod
    def fits(entry: Entry, args: tuple[Any, ...], arguments: Sequence[Any]) -> bool:
        """Whether calls of this kind can go the quick way."""
        whole = getattr(entry.execute, "whole", False)
        plain = len(args) == len(arguments) and all(
            type(x) is Tensor and x is y and x._node is None for x, y in zip(args, arguments, strict=True)
        )
        simple = not (entry.history or entry.updated_arguments or entry.captured.argument_grads)
        no_grads = all(index is None for _, index in entry.captured.grads)
        dense = all(a.flags.c_contiguous and a.flags.aligned for a in entry._arrays)
        writable = all(
            entry._arrays[k].flags.writeable for k in entry.updated_state if k < len(entry._arrays)
        )
        return whole and plain and simple and no_grads and dense and writable

    def __call__(self, args: tuple[Any, ...], mode: Mode) -> Any:
        """The result of the call, or `self` if it has to go the long way (then nothing has happened)."""
        program = self._program
        if mode is not self._mode:
            if not mode.same(self._mode):
                return self
            self._mode = mode
        if mode.backend.generation != self._generation or REPLACED:
            return self
        if program.owner is not self or len(args) != len(self._arguments):
            return self
        memory, changed = program.memory, self._changed
        try:
            for x, (shape, dtype, k) in zip(args, self._arguments):  # noqa: B905 - as many: strict costs
                if type(x) is not Tensor or x._node is not None:
                    return self
                array = x._array
                if array.shape != shape or array.dtype is not dtype:
                    return self
                if changed and (id(array) if array.base is None else _base(array)) in changed:
                    return self
                memory[k] = from_buffer(array)
            if len(args) == 2:
                if args[0] is args[1]:
                    return self
            elif len({*map(id, args)}) < len(args):
                return self
            for ref, array, node in self._checks:
                t = ref()
                if t._array is not array or t._node is not node:
                    return self
        except (AttributeError, ValueError, BufferError):  # a tensor that is gone; an array with gaps
            return self
        for read, expected in self._guards:
            if read() != expected:
                return self
        for live in self._live:
            value = live[1]()
            if value != live[2]:
                live[0][()] = live[2] = value
        outputs = []
        for _, at, shape, dtype in self._outputs:
            y = empty(shape, dtype)
            memory[at] = from_buffer(y)
            outputs.append(y)
        program.fast(outputs)
        where = here()
        for cell in self._cells:
            cell[0] += 1
            cell[1] = where
        for leaf in self._grads:
            if leaf.grad is not None:
                leaf.grad = None
        if self._structure is None:
            is_value, value = self._result[0]
            return value if is_value else wrap(outputs[value])
        return self._structure.build([v if is_value else wrap(outputs[v]) for is_value, v in self._result])


def _base(array: Any) -> int:
    while array.base is not None and hasattr(array.base, "base"):
        array = array.base
    return id(array)


def _no_history(y: Tensor, parents: tuple[Any, ...]) -> Any:
    """A node for a result that would have had a history: differentiating through it is refused."""

    def pull(*_: Any) -> Any:
        raise GradientError(
            "compile",
            "backward through a result of a compiled function, which keeps no history",
            fix="call backward (or autograd.grad) inside of the compiled function, or .detach() the result",
        )

    return _function_node("compiled", parents, Spec(y.shape, y.dtype), here(), pull)


class Compiled:
    """A function that is traced at its first call and replayed afterwards; see `compile`."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        passes: Sequence[Any] | None = None,
        executor: Any = None,
        cache_size: int = 16,
        without: Sequence[str] = (),
    ) -> None:
        if not callable(function):
            raise DTypeError(
                "compile", f"a {type(function).__name__} cannot be called", fix="pass a function"
            )
        if not isinstance(cache_size, int) or cache_size < 1:
            raise ArgumentError("compile", f"cache_size is {cache_size!r}", fix="pass at least 1")
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.passes = resolve(PIPELINE if passes is None else passes, without)
        self._executor = get_executor(executor)
        self._cache: OrderedDict[Any, list[Entry]] = OrderedDict()
        self.cache_size = cache_size
        self.traces = 0
        #: Why it was traced again: what was not as before, and how often.
        self.reasons: dict[str, int] = {}
        self._lock = threading.RLock()
        self._replay: Replay | None = None
        _ALL.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replay the program for these arguments, after tracing it if there is none."""
        mode = current()
        replay = self._replay
        if replay is not None and not kwargs:
            with self._lock:
                result = replay(args, mode)
            if result is not replay:
                return result
        if mode.trace is not None or mode.anomaly:
            return self.function(*args, **kwargs)
        if kwargs:
            leaves, structure = flatten((args, kwargs))
        else:
            leaves, structure = flatten(args)
        key, arguments = _key(leaves, mode)
        with self._lock:
            if self._replay is not None:  # it has been used since the cache last heard of it
                self._cache.move_to_end(self._replay.key)
            entry, tensors = self._find((structure, key), args, kwargs)
            result = entry.run(arguments, tensors)
            fits = not kwargs and Replay.fits(entry, args, arguments)
            self._replay = Replay((structure, key), entry, mode, arguments, tensors) if fits else None
            return result

    def _find(self, key: Any, args: Any, kwargs: Any) -> tuple[Entry, list[Tensor | None]]:
        try:
            entries = self._cache.get(key)
        except TypeError:
            raise ArgumentError(
                "compile",
                "an argument is neither a tensor nor hashable, so programs for it cannot be told apart",
                fix="pass tensors, numbers, strings, or nests of these",
            ) from None
        reason = "other arguments"
        if entries is not None:
            for i, entry in enumerate(entries):
                tensors = entry.ready()
                if isinstance(tensors, str):
                    reason = reason if i else tensors
                else:
                    if i:
                        entries.insert(0, entries.pop(i))
                    self._cache.move_to_end(key)
                    return entry, tensors
        captured = capture(self.function, args, kwargs)
        graph = run(captured.graph, self.passes)
        entry = Entry(captured, graph, self._executor(graph))
        if self.traces:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        self.traces += 1
        entries = self._cache.setdefault(key, [])
        entries[:] = [entry, *(e for e in entries if e.alive())]
        self._cache.move_to_end(key)
        self._evict()
        tensors = [None if s.tensor is None else s.tensor() for s in captured.state]
        if REPLACED:
            for t in tensors:
                REPLACED.pop(id(t), None)  # in use, wherever it is now
        arrays = [s.array if t is None else t._array for s, t in zip(captured.state, tensors, strict=True)]
        entry.remember(arrays)  # no guards: what the function itself has changed counts from the next call on
        return entry, tensors

    def _evict(self) -> None:
        while sum(map(len, self._cache.values())) > self.cache_size:
            oldest = next(iter(self._cache))
            entries = self._cache[oldest]
            entries.pop()
            if not entries:
                del self._cache[oldest]

    def captured(self, *args: Any, **kwargs: Any) -> Captured:
        """A new trace for these arguments, neither rewritten nor kept."""
        leaves, _ = flatten((args, kwargs))
        _key(leaves, current())
        return capture(self.function, args, kwargs)

    def graph(self, *args: Any, **kwargs: Any) -> Graph:
        """The rewritten graph that a call with these arguments runs."""
        return self.rewrite(self.captured(*args, **kwargs).graph)

    def rewrite(self, graph: Graph) -> Graph:
        """A graph after this function's passes."""
        return run(graph, self.passes)

    def profile(self, *args: Any, repeats: int = 20, **kwargs: Any) -> Any:
        """Where a call with these arguments spends its time, see `minigrad.profile`; nothing changes."""
        from .profiling import profile_compiled

        return profile_compiled(self, args, kwargs, repeats)

    def cache_clear(self) -> None:
        """Forget all programs; the next call traces."""
        with self._lock:
            self._cache.clear()
            self._replay = None

    @property
    def cached(self) -> int:
        """How many programs there are."""
        return sum(map(len, self._cache.values()))

    def __getattr__(self, name: str) -> Any:
        """What the function has, for a compiled module: `compiled.parameters()`."""
        if name.startswith("__") or "function" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.function, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method, `self` is an argument like others."""
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        again = max(self.traces - 1, 0)
        return (
            f"<compiled {getattr(self.function, '__name__', type(self.function).__name__)}: "
            f"{self.traces} trace{'s' if self.traces != 1 else ''}, "
            f"{again} retrace{'s' if again != 1 else ''}, {self.cached} in the cache>"
        )


def _key(leaves: list[Any], mode: Mode) -> tuple[Any, list[Tensor]]:
    """What a program depends on besides the structure of the arguments; and `trace.arguments_of`."""
    arguments: list[Tensor] = []
    grads: list[Tensor] = []
    parts: list[Any] = [mode.grad, mode.inference, mode.backend.name, mode.backend.generation]
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            array = leaf._array
            if isinstance(array, Symbol):
                raise TraceError(
                    "compile", "an argument belongs to a finished trace", fix="return it from its function"
                )
            same = next((i for i, t in enumerate(arguments) if t is leaf), None)
            if same is None:
                arguments.append(leaf)
                node = leaf._node
                if node is None:
                    parts.append((array.shape, array.dtype))
                elif isinstance(node, Leaf):
                    parts.append((array.shape, array.dtype, node.grad is not None))
                    if node.grad is not None:
                        grads.append(node.grad)
                else:
                    parts.append((array.shape, array.dtype, "result"))
            else:
                parts.append(same)
        elif hasattr(leaf, "__array_interface__"):
            raise DTypeError(
                "compile",
                f"an argument is a {type(leaf).__name__}, which would be taken for a constant",
                fix="pass minigrad.as_tensor(array), which shares its memory",
            )
        else:
            parts.append((type(leaf), leaf.hex() if type(leaf) is float else leaf))
    return tuple(parts), arguments + grads


def compile(
    f: Callable[..., Any] | None = None,
    *,
    passes: Sequence[Any] | None = None,
    executor: Any = None,
    cache_size: int = 16,
    without: Sequence[str] = (),
) -> Any:
    """Trace `f` at its first call for each kind of arguments, and replay it afterwards.

    A decorator, with or without arguments.  passes: the rewriting passes, by name or as functions
    Graph -> Graph (default: `minigrad.passes.PIPELINE`); without: names of passes to leave out.
    executor: "interpret", or a function Graph -> callable.  cache_size: how many programs are kept.
    Raises TraceError where the function needs a value that is not known while it is traced.
    """

    def decorate(function: Callable[..., Any]) -> Compiled:
        return Compiled(function, passes=passes, executor=executor, cache_size=cache_size, without=without)

    return decorate if f is None else decorate(f)


def config() -> str:
    """What `show_config` prints of all compiled functions."""
    functions = list(_ALL)
    traces = sum(c.traces for c in functions)
    again = sum(max(c.traces - 1, 0) for c in functions)
    return f"{len(functions)} functions, {traces} traces, {again} of them retraces"


def _after_fork() -> None:
    """In a child, no other thread holds a lock any more."""
    for c in list(_ALL):
        c._lock = threading.RLock()
        for entries in c._cache.values():
            for entry in entries:
                if hasattr(entry.execute, "after_fork"):
                    entry.execute.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

__all__ = ["Captured", "Compiled", "compile", "config"]
