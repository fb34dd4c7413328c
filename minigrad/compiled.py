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
tracing: the modes and plain attributes (numbers, strings, flags) of modules, and plain variables around
the function and the functions that it names.  `step.reasons` counts why a function was traced again.
Programs are kept in a cache of `cache_size` entries, the least recently used go first.

**What is the same as without `compile`**: every number, every change to state, the random numbers,
the `.grad` that `backward` leaves.  An exception leaves all state as it was.  Two threads may call;
they take turns.

**What is not**: Python's own side effects (print, list.append) happen while tracing only, and what is in
other objects of Python (a list, a dict, an attribute of one's own class) is as it was then.  Results
have no history, so `backward` belongs inside; it is refused outside, not silently wrong.  Gradients
that an optimizer inside has used, after the function itself had cleared them, are not kept.

**Frozen.**  A function that only infers may be compiled with `freeze=True`: then what it reads and does not
change is a constant of the program, folded and packed once as the kernels like it.  An operation, an
optimizer or `load_state_dict` that changes such a tensor makes a new program at the next call; a write into
a numpy array that shares its memory is not seen (`cache_clear()` makes it seen).

    >>> predict = compile(lambda x: w.detach() * x, freeze=True)
    >>> predict(mg.ones(2))
    tensor([0.8, 1.8])
    >>> _ = w.detach().zero_()
    >>> predict(mg.ones(2)), predict.reasons
    (tensor([0., 0.]), {'a frozen tensor that was changed': 1})

Called inside of another trace a compiled function simply becomes part of that.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import getitem, is_
from sys import _getframe, getrefcount
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from numpy import empty

from .autograd import _function_node
from .backends.c import from_buffer, lib
from .errors import OURS, ArgumentError, DTypeError, GradientError, TraceError, here, user_frame
from .execute import Run, get_executor
from .ir import Graph, Spec, check
from .mode import Mode, current
from .passes import PIPELINE, resolve, run
from .tape import Leaf
from .tensor import REPLACED, WORLD, Symbol, Tensor, Together, View, wrap
from .trace import Captured, Guard, capture
from .tree import LEAF, flatten

_new = object.__new__
_call: Any = getattr(lib, "mg_program_call", None)

#: All compiled functions that exist, for `show_config`.
_ALL: weakref.WeakSet[Compiled] = weakref.WeakSet()


class Entry:
    """One program in the cache."""

    __slots__ = (
        "_arrays",
        "_changed",
        "_memory",
        "_numbers",
        "_together",
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
        self._together = Together()

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

    def cells(self, tensors: Sequence[Tensor | None]) -> list[list[Any]]:
        """The version cells of the state that is updated.

        Tensors that have none yet, or one that nobody else knows, get one together: the program changes them
        together, so counting for one is counting for all. It goes on above what any of them has counted, and
        a tensor leaves it as soon as it is saved, viewed or changed alone (`tensor.Together`).
        """
        changed = [t for k in self.updated_state if (t := tensors[k]) is not None]
        together = self._together
        for t in changed:
            if t._version is None:
                t._version = together
            elif t._version is not together and getrefcount(t._version) == 2:  # that of `t`, and the argument
                together[0] = max(together[0], t._version[0] + 1)
                t._version = together
        cells = (t._version for t in changed)
        return list({id(cell): cell for cell in cells if cell is not None}.values())

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
        for number, live in zip(self._numbers, captured.live, strict=True):
            number[()] = live.read()
        outputs = self.execute(*given, *self._arrays, *self._numbers)
        if self.updated_arguments or self.updated_state:
            where = here()
            for k in self.updated_arguments:
                arguments[k]._touch(where)
            for cell in self.cells(tensors):
                cell[0] += 1
                cell[1] = where
        for leaf, index in captured.grads:
            leaf.grad = None if index is None else wrap(outputs[index])
        for k, index in captured.argument_grads:
            arguments[k].grad = None if index is None else wrap(outputs[index])
        leaves = []
        parents = self.parents(arguments) if self.history else ()
        for kind, value, history in captured.result:
            if kind == "value":
                leaves.append(value)
            else:
                y = wrap(outputs[value])
                if history:
                    y._node = _no_history(y, parents, here())
                leaves.append(y)
        return leaves[0] if captured.structure is LEAF else captured.structure.build(leaves)

    def parents(self, arguments: Sequence[Tensor]) -> tuple[Any, ...]:
        """The nodes of what goes into the program and may have a gradient."""
        nodes = [t._node for t in arguments] + [s.leaf for s in self.captured.state]
        return tuple([node for node in nodes if node is not None])

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


class _Nest:
    """Arguments that are more than tensors in a row: their structure, and what the others of them were."""

    def __init__(self, structure: Any, leaves: Sequence[Any]) -> None:
        self.structure = structure
        self.leaves = [Tensor if isinstance(leaf, Tensor) else _constant(leaf) for leaf in leaves]

    def tensors(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any] | None:
        """The tensors among the arguments of a call; None if anything else in them is another."""
        leaves, structure = flatten((args, kwargs) if kwargs else args)
        if structure != self.structure:
            return None
        found = []
        for leaf, before in zip(leaves, self.leaves, strict=True):
            if before is Tensor:
                found.append(leaf)
            elif isinstance(leaf, Tensor) or _constant(leaf) != before:
                return None
        return found


def _constant(leaf: Any) -> tuple[Any, Any]:
    """What an argument that is no tensor is compared by: of floats, every bit."""
    return type(leaf), leaf.hex() if type(leaf) is float else leaf


class Replay:
    """The quick way through a call that is like the one before: same mode, kinds of arguments, and state.

    It has to find out no less, only quicker: by comparing with what was there the last time instead of
    looking up, without asking for a pointer twice, and without looking again at what counts its changes
    (`tensor.Counted`) while the count is the same. Whatever is not as before sends the call the long way
    round, which knows why, and makes a new Replay. For programs that are C throughout and take plain tensors.
    """

    __slots__ = (
        "_arguments",
        "_box",
        "_cells",
        "_changed",
        "_checks",
        "_code",
        "_copied",
        "_counts",
        "_entry",
        "_generation",
        "_grads",
        "_guards",
        "_known",
        "_left",
        "_live",
        "_mode",
        "_nest",
        "_outputs",
        "_parents",
        "_program",
        "_result",
        "_sources",
        "_structure",
        "_views",
        "key",
    )

    def __init__(
        self,
        key: Any,
        entry: Entry,
        mode: Mode,
        arguments: Sequence[Any],
        tensors: Sequence[Any],
        nest: _Nest | None,
    ) -> None:
        self.key, self._nest = key, nest
        program: Any = entry.execute
        captured = entry.captured
        self._entry, self._mode, self._program, self._code = entry, mode, program, program.code
        self._generation = mode.backend.generation
        self._arguments = [
            (a.shape, a.dtype, k, a.nbytes <= KNOWN) for k, a in enumerate(t._array for t in arguments)
        ]
        self._known: list[Any] = [None] * len(arguments)  # arrays that the program points to already
        self._checks = [
            (weakref.ref(t, WORLD.changed), array, t._node)
            for array, t in zip(entry._arrays, tensors, strict=True)
            if t is not None
        ]
        self._views = [check for check in self._checks if isinstance(check[0](), View)]
        self._cells = entry.cells(tensors)
        self._left = self._left_together()
        self._changed = entry._changed
        # [what counts changes, its count when it was looked at, guards and numbers that depend on it]
        sources: dict[int, list[Any]] = {id(WORLD): [WORLD, None, [], []]}
        self._guards: list[Any] = []
        self._live: list[Any] = []
        self._counts = [(g.source, g.expected) for g in captured.guards if type(g.source) is list]
        for guard in captured.guards:
            where = self._guards
            if type(guard.source) is list:
                continue
            if guard.source is not None:
                where = sources.setdefault(id(guard.source), [guard.source, None, [], []])[2]
            where.append((guard.read, guard.expected))
        for number, live in zip(entry._numbers, captured.live, strict=True):
            where = self._live
            if live.source is not None:
                where = sources.setdefault(id(live.source), [live.source, None, [], []])[3]
            where.append([number, live.read, None])
        self._sources = list(sources.values())
        self._grads = [leaf for leaf, _ in captured.grads]
        self._outputs = [
            (program.first_output + k, spec.shape, spec.dtype, _box(spec))
            for k, spec in enumerate(program.output_specs)
        ]
        self._copied = [k for k, (*_, box) in enumerate(self._outputs) if box is not None]
        self._structure = None if captured.structure is LEAF else captured.structure
        self._result = captured.result
        self._parents = entry.parents(arguments) if entry.history else ()
        # a loss, as most training steps return it: one small output, and nothing else
        alone = self._structure is None and self._result[0][0] != "value" and len(self._outputs) == 1
        self._box = self._outputs[0][3] if alone else None
        program.point([*([None] * len(arguments)), *entry._arrays, *entry._numbers])
        for at, _, _, box in self._outputs:
            if box is not None:
                program.memory[at] = from_buffer(box)
        program.owner = self

    @staticmethod
    def fits(entry: Entry, leaves: Sequence[Any], arguments: Sequence[Any]) -> bool:
        """Whether calls of this kind can go the quick way."""
        whole = getattr(entry.execute, "whole", False)
        given = [x for x in leaves if isinstance(x, Tensor)]
        plain = len(given) == len(arguments) and all(
            type(x) in (Tensor, View) and x is y and x._node is None
            for x, y in zip(given, arguments, strict=True)
        )
        simple = not (entry.updated_arguments or entry.captured.argument_grads)
        no_grads = all(index is None for _, index in entry.captured.grads)
        dense = all(a.flags.c_contiguous and a.flags.aligned for a in entry._arrays)
        writable = all(
            entry._arrays[k].flags.writeable for k in entry.updated_state if k < len(entry._arrays)
        )
        return whole and plain and simple and no_grads and dense and writable

    def again(self, args: Sequence[Any], kwargs: dict[str, Any], mode: Mode) -> Any:
        """The result of the call, or `self` if it has to go the long way (then nothing has happened)."""
        program = self._program
        if self._nest is not None:
            tensors = self._nest.tensors(args, kwargs)
            if tensors is None:
                return self
            args = tensors
        elif kwargs:
            return self
        if mode is not self._mode:
            if not mode.same(self._mode):
                return self
            self._mode = mode
        if mode.backend.generation != self._generation:
            return self
        if program.owner is not self or len(args) != len(self._arguments):
            return self
        memory, changed, known = program.memory, self._changed, self._known
        try:
            for x, (shape, dtype, k, small) in zip(args, self._arguments):  # noqa: B905 - as many: strict costs
                if (type(x) is not Tensor and type(x) is not View) or x._node is not None:
                    return self
                array = x._array
                if array is known[k] and array.shape == shape:
                    continue
                if array.shape != shape or array.dtype is not dtype:
                    return self
                if changed and (id(array) if array.base is None else _base(array)) in changed:
                    return self
                memory[k] = from_buffer(array)
                if small:
                    known[k] = array
        except (AttributeError, ValueError, BufferError):  # a symbol; an array with gaps
            return self
        if len(args) > 1 and (args[0] is args[1] if len(args) == 2 else len({*map(id, args)}) < len(args)):
            return self
        for source in self._sources:
            if source[0].version != source[1] and not self._as_before(source):
                return self
        for cell, count in self._counts:
            if cell[0] != count:
                return self
        if self._views or self._guards or self._live:
            if not (_are(self._views) and _hold(self._guards)):
                return self
            _renew(self._live)
        box = self._box
        outputs = []
        if box is None:
            for at, shape, dtype, y in self._outputs:
                if y is None:
                    y = empty(shape, dtype)
                    memory[at] = from_buffer(y)
                outputs.append(y)
        status = _call(self._code)
        if status:
            program.fail(status, outputs if box is None else [box])
        where = None
        if self._cells or self._parents:
            frame = _getframe(2)
            if OURS[frame.f_globals.get("__package__")]:
                frame = user_frame(frame)  # type: ignore[assignment]
            where = None if frame is None else (frame.f_code, frame.f_lasti)
            for cell in self._cells:
                cell[0] += 1
                cell[1] = where
        for leaf in self._grads:
            if leaf.grad is not None:
                leaf.grad = None
        if box is not None:
            y = _new(Tensor)  # `wrap`, without a call
            y._array, y._node, y._version = box.copy(), None, None
            if self._parents:
                y._node = _no_history(y, self._parents, where)
            return y
        for k in self._copied:
            outputs[k] = outputs[k].copy()
        leaves = []
        for kind, value, history in self._result:
            if kind == "value":
                leaves.append(value)
            else:
                y = wrap(outputs[value])
                if history:
                    y._node = _no_history(y, self._parents, where)
                leaves.append(y)
        return leaves[0] if self._structure is None else self._structure.build(leaves)

    def _left_together(self) -> int:
        """How many tensors have left the cells that this counts in."""
        return sum(cell.left for cell in self._cells if type(cell) is Together)

    def _as_before(self, source: list[Any]) -> bool:
        """Whether all that depends on a source of changes is as it was; then it is not looked at again."""
        counted, _, guards, live = source
        version = counted.version
        if counted is WORLD and (REPLACED or not _are(self._checks) or self._left != self._left_together()):
            return False
        if not _hold(guards):
            return False
        _renew(live)
        source[1] = version
        return True


#: Outputs of up to so many bytes are computed in one place and copied, quicker than pointing at new memory.
BOXED = 4096
#: Arguments of up to so many bytes are kept until the next call, which may bring them again.
KNOWN = 1 << 16


def _box(spec: Spec) -> Any:
    """The place of a small output; None for a large one."""
    box = empty(spec.shape, spec.dtype)
    return box if 0 < box.nbytes <= BOXED else None


def _are(checks: list[Any]) -> bool:
    """Whether tensors have the arrays and nodes that they had."""
    for ref, array, node in checks:
        t = ref()
        if t is None or t._array is not array or t._node is not node:
            return False
    return True


def _hold(guards: list[Any]) -> bool:
    return all(read() == expected for read, expected in guards)


def _renew(live: list[Any]) -> None:
    """Read numbers again."""
    for one in live:
        value = one[1]()
        if value != one[2]:
            one[0][()] = one[2] = value


def _base(array: Any) -> int:
    while array.base is not None and hasattr(array.base, "base"):
        array = array.base
    return id(array)


def _refuse(*_: Any) -> Any:
    raise GradientError(
        "compile",
        "backward through a result of a compiled function, which keeps no history",
        fix="call backward (or autograd.grad) inside of the compiled function, or .detach() the result",
    )


def _no_history(y: Tensor, parents: tuple[Any, ...], where: Any) -> Any:
    """A node for a result that would have had a history: differentiating through it is refused."""
    return _function_node("compiled", parents, Spec(y.shape, y.dtype), where, _refuse)


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
        freeze: bool = False,
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
        self.freeze = bool(freeze)
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
        if replay is not None:
            with self._lock:
                result = replay.again(args, kwargs, mode)
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
            fits = Replay.fits(entry, leaves, arguments)
            row = not kwargs and len(args) == len(arguments) and all(map(is_, args, arguments))
            nest = None if row else _Nest(structure, leaves)
            self._replay = Replay((structure, key), entry, mode, arguments, tensors, nest) if fits else None
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
        captured = self._capture(args, kwargs)
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
        return self._capture(args, kwargs)

    def _capture(self, args: Any, kwargs: Any) -> Captured:
        captured = capture(self.function, args, kwargs)
        seen = _variables(self.function)
        if seen:
            guard = Guard(functools.partial(_unchanged, seen), True, "a variable of the program")
            captured = captured._replace(guards=(*captured.guards, guard))
        return frozen(captured) if self.freeze else captured

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


#: Types of variables that are compared at every call.
_PLAIN = frozenset([bool, int, float, str, bytes, type(None)])
_MISSING = object()


def _variables(function: Any) -> list[tuple[Callable[[], Any], Any]]:
    """How to read the plain variables that a function reads, and what they are now.

    Globals and variables of enclosing functions, of the function and of all functions that it finds in these;
    but what one of them writes is its own affair.
    """
    import dis

    places: dict[Any, tuple[Callable[[], Any], Any]] = {}
    written: set[Any] = set()
    functions: list[Any] = [function]
    codes: set[CodeType] = set()
    while functions:
        found = functions.pop()
        found = getattr(found, "__wrapped__", found)  # of a decorator such as no_grad
        if not isinstance(found, FunctionType):  # a bound method, a module
            found = getattr(getattr(found, "forward", found), "__func__", None)
        if found is None or (found.__module__ or "").startswith("minigrad."):
            continue
        cells = dict(zip(found.__code__.co_freevars, found.__closure__ or (), strict=True))
        pending = [found.__code__]
        while pending:
            code = pending.pop()
            if code in codes:
                continue
            codes.add(code)
            pending += [c for c in code.co_consts if isinstance(c, CodeType)]
            for instruction in dis.get_instructions(code):
                name, kind = instruction.argval, instruction.opname
                if kind.endswith("_GLOBAL") and name in found.__globals__:
                    key: Any = (id(found.__globals__), name)
                    read = functools.partial(found.__globals__.get, name, _MISSING)
                elif kind.endswith("_DEREF") and name in cells:
                    key = id(cells[name])
                    read = functools.partial(_content, cells[name])
                else:
                    continue
                if not kind.startswith("LOAD"):
                    written.add(key)
                value = read()
                if type(value) in _PLAIN:
                    places[key] = (read, value)
                elif isinstance(value, FunctionType):
                    functions.append(value)
    return [place for key, place in places.items() if key not in written]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is not set yet, or no more
        return _MISSING


def _unchanged(variables: list[tuple[Callable[[], Any], Any]]) -> bool:
    for read, before in variables:
        now = read()
        if now is not before and (type(now) is not type(before) or now != before):
            return False
    return True


def frozen(captured: Captured) -> Captured:
    """The same with the state that is only read as constants, as it is now; guards see when it is changed.

    Arrays that belong to no tensor stay state, as nobody counts what is written into them.
    """
    graph, first = captured.graph, captured.arguments
    updated = {target for target, _ in graph.updates}
    fixed, stays = [], []
    for k, state in enumerate(captured.state):
        t = None if state.tensor is None or first + k in updated else state.tensor()
        if t is None:
            stays.append(k)
        else:
            fixed.append((k, t, t._array, t._node))
    if not fixed:
        return captured
    inputs = [*range(first), *(first + k for k in stays)]
    inputs += range(first + len(captured.state), len(graph.inputs))
    old = [*inputs, *(first + k for k, *_ in fixed), *range(len(graph.inputs), graph.first_node)]
    new = {v: i for i, v in enumerate(old)}  # nodes keep their numbers
    constants = [np.array(array) for _, _, array, _ in fixed]
    rewritten = replace(
        graph,
        inputs=tuple([graph.inputs[v] for v in inputs]),
        constants=(*constants, *graph.constants),
        nodes=tuple([replace(n, inputs=tuple([new.get(v, v) for v in n.inputs])) for n in graph.nodes]),
        outputs=tuple([new.get(v, v) for v in graph.outputs]),
        updates=tuple([(new[t], new.get(v, v)) for t, v in graph.updates]),
    )
    checks = [(weakref.ref(t, WORLD.changed), array, node) for _, t, array, node in fixed]
    cells = list({id(cell): cell for _, t, _, _ in fixed if (cell := t._cell())}.values())
    ids = [id(t) for _, t, *_ in fixed]
    for key in ids:
        REPLACED.pop(key, None)  # in use, wherever it is now
    text = "a frozen tensor that was changed"
    return captured._replace(
        graph=check(rewritten),
        state=tuple([captured.state[k] for k in stays]),
        guards=(
            *captured.guards,
            Guard(
                lambda: _are(checks) and REPLACED.keys().isdisjoint(ids),
                True,
                "state that was replaced",
                WORLD,
            ),
            *[Guard(functools.partial(getitem, cell, 0), cell[0], text, cell) for cell in cells],
        ),
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
            parts.append(_constant(leaf))
    return tuple(parts), arguments + grads


def compile(
    f: Callable[..., Any] | None = None,
    *,
    passes: Sequence[Any] | None = None,
    executor: Any = None,
    cache_size: int = 16,
    without: Sequence[str] = (),
    freeze: bool = False,
) -> Any:
    """Trace `f` at its first call for each kind of arguments, and replay it afterwards.

    A decorator, with or without arguments.  passes: the rewriting passes, by name or as functions
    Graph -> Graph (default: `minigrad.passes.PIPELINE`); without: names of passes to leave out.
    executor: "interpret", or a function Graph -> callable.  cache_size: how many programs are kept.
    freeze: take what is only read for constant, see the module.
    Raises TraceError where the function needs a value that is not known while it is traced.
    """

    def decorate(function: Callable[..., Any]) -> Compiled:
        return Compiled(
            function,
            passes=passes,
            executor=executor,
            cache_size=cache_size,
            without=without,
            freeze=freeze,
        )

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
