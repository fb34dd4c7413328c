"""A forward and a backward pass as compiled programs, with time for something else in between.

`compile` captures a step that goes there and back in one piece.  In a pipeline other things happen before a
gradient comes back: messages, and further forward passes.  So the step is cut where the tape is cut anyway:

    forward program     x            ->  y, and what the rules of the tape have kept
    backward program    kept, g      ->  gx, and the gradients of the parameters, added up

`Halves` makes both of one function.  The forward pass is traced; the operations that it leaves on the tape
have symbols where values will be.  Those that no argument, parameter or constant has become further results
of the forward program.  For the backward program the same operations are swept with new symbols in these
places, so its inputs are the kept values and the cotangents: there is no second autodiff here either.
`Whole` is for whoever gets its cotangent at once, and so needs one program for both.

    >>> import minigrad as mg
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> halves = Halves(lambda x: (x * w).sin(), lambda: [w])
    >>> y, back = halves(mg.tensor([1.0, 2.0]))
    >>> gx = back([mg.ones(2)])
    >>> gx[0].numpy().round(3), w.grad.numpy().round(3)
    (array([-2.97 , -0.582], dtype=float32), array([-0.99 , -0.291], dtype=float32))

What the programs do is what a trace can record; whatever it cannot is refused with a TraceError before
anything has changed, and the caller computes eagerly.  The same cut is made by PyTorch's AOTAutograd
(Ansel et al. 2024, section 3.3), which then decides anew what to keep; left out here: the tape's rules have
decided that already, and programs are small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import tape
from .autograd import _FunctionNode, no_grad
from .compiled import compile
from .errors import DTypeError, TraceError
from .mode import current
from .ops.creation import zeros
from .tape import Leaf, Node
from .tensor import Symbol, Tensor, wrap
from .trace import capture
from .tree import flatten

Parameters = Callable[[], Iterable[Tensor]]


def _points(given: Sequence[Tensor], pull: bool) -> list[Tensor]:
    """Arguments as points where a gradient is wanted, if it is and they can have one."""
    return [t.detach().requires_grad_() if pull and t.dtype.kind == "f" else t for t in given]


def _found(points: Iterable[Node | None], found: dict[Node, Tensor]) -> list[Tensor | None]:
    """The gradients of points; zeros where nothing depends on one."""
    return [
        None if node is None else found[node] if node in found else zeros(node.shape, dtype=node.dtype)
        for node in points
    ]


def _outputs(value: Any) -> tuple[list[Tensor], Any]:
    """The tensors that a function has returned, and the same nest of them without their history."""
    leaves, structure = flatten(value)
    for t in leaves:
        if not isinstance(t, Tensor):
            raise DTypeError("compile", f"the function returned a {type(t).__name__}", fix="return tensors")
    return leaves, structure.build([t.detach() for t in leaves])


def _history(outputs: Iterable[Tensor], known: Iterable[Tensor]) -> list[Node]:
    """The operations behind the outputs.  Raises TraceError for what a program of its own would lose."""
    order = tape.reachable([t._node for t in outputs if t._node is not None])
    mine = {t._node for t in known}
    for node in order:
        if isinstance(node, Leaf):
            if node not in mine:
                raise TraceError(
                    "compile",
                    f"a tensor of shape {node.shape} requires grad and is no parameter of the module",
                    fix="make it an nn.Parameter",
                )
        elif node.retain:
            raise TraceError(
                "compile",
                f"the gradient of a result of {node.name} is to be kept, which is no parameter's",
                where=node.where,
                fix="return the result, or leave out retain_grad()",
            )
    return order


def _add(parameters: Sequence[Tensor], grads: Sequence[Tensor | None]) -> None:
    """Add gradients to those of parameters, one by one."""
    with no_grad():
        for p, g in zip(parameters, grads, strict=True):
            if g is not None:
                p.grad = g if p.grad is None else p.grad + g


def _sums(parameters: Sequence[Tensor]) -> list[Tensor] | None:
    """The gradients so far, if a program can add to all of them."""
    found = [p.grad for p in parameters]
    fit = all(
        g is not None and (g.shape, g.dtype) == (p.shape, p.dtype) and g._node is None
        for p, g in zip(parameters, found, strict=True)
    )
    return found if fit and len({id(g) for g in found}) == len(found) else None  # type: ignore[return-value]


class Whole:
    """Forward and backward pass as one program, for a function whose first result is a single number.

    function(*fixed, *given) -> tensors, the first of them that number.  parameters: a function that lists
    the tensors whose `.grad` the gradients are added to.  fixed: how many arguments come first that need no
    gradient; pull: whether the others do.
    """

    def __init__(
        self, function: Callable[..., Any], parameters: Parameters, fixed: int = 0, pull: bool = True
    ) -> None:
        self._function, self._parameters, self._fixed, self._pull = function, parameters, fixed, pull
        self._first, self._again = compile(self._run), compile(self._run_and_add)

    @property
    def traces(self) -> int:
        """How often it was traced."""
        return int(self._first.traces + self._again.traces)

    def __call__(self, g: Tensor, *args: Tensor) -> tuple[Any, list[Tensor | None]]:
        """The results, and the gradients of `given` for a cotangent g (0-d) of the number; None for integers,
        and without `pull`."""
        known = [p for p in self._parameters() if p.requires_grad]
        sums = _sums(known)
        if sums is None:
            value, grads, own = self._first(g, *args)
            _add(known, own)
        else:
            value, grads, _ = self._again(g, *args, *sums)
        return value, grads

    def _run(self, g: Tensor, *args: Tensor) -> Any:
        points = _points(args[self._fixed :], self._pull)
        known = [p for p in self._parameters() if p.requires_grad]
        outputs, value = _outputs(self._function(*args[: self._fixed], *points))
        _history(outputs[:1], [*points, *known])
        root, found = outputs[0]._node, {}
        if root is not None:
            targets: dict[Node, Any] = {t._node: None for t in (*points, *known) if t._node is not None}
            roots = [(root, g.to(outputs[0].dtype).reshape(outputs[0].shape))]
            found = tape.sweep(roots, targets, retain_graph=False, create_graph=False)
        own = [found.get(p._node) for p in known]  # type: ignore[arg-type]
        return value, _found([t._node for t in points], found), own

    def _run_and_add(self, g: Tensor, *flat: Tensor) -> Any:
        count = len(flat) - sum(p.requires_grad for p in self._parameters())
        value, grads, own = self._run(g, *flat[:count])
        with no_grad():
            for total, part in zip(flat[count:], own, strict=True):
                if part is not None:
                    total.add_(part)
        return value, grads, ()


class Halves:
    """A function whose forward and backward pass are programs of their own.

    function(*tensors) -> a nest of tensors.  parameters, pull: as for `Whole`.
    """

    def __init__(self, function: Callable[..., Any], parameters: Parameters, pull: bool = True) -> None:
        self._function, self._parameters, self._pull = function, parameters, pull
        self._forward = compile(self._trace)

    @property
    def traces(self) -> int:
        """How often the forward pass was traced."""
        return int(self._forward.traces)

    def __call__(self, *given: Tensor) -> tuple[Any, Back]:
        """The result, without a history, and the way back."""
        value, kept, recorded = self._forward(*given)
        return value, Back(recorded, given, kept)

    def _trace(self, *given: Tensor) -> Any:
        points = _points(given, self._pull)
        known = [p for p in self._parameters() if p.requires_grad]
        outputs, value = _outputs(self._function(*points))
        recorded = _Recorded(outputs, points, known)
        kept = recorded.values()
        # What cannot be captured on the way back must be known now, before anything has changed.
        pulled = [t.detach() for t in outputs if t._node is not None]
        capture(recorded.run, (*given, *kept, *pulled), {})
        return value, kept, recorded


class _Recorded:
    """The operations of a traced forward pass, with numbered holes where values were kept."""

    def __init__(self, outputs: list[Tensor], points: list[Tensor], known: list[Tensor]) -> None:
        self.order = _history(outputs, [*points, *known])
        self.roots = [t._node for t in outputs]
        self.wanted = [t._node is not None for t in outputs if t.dtype.kind == "f"]
        self.points = [t._node for t in points]
        reached = set(self.order)
        self.known = [p for p in known if p._node in reached]
        self._active: Any = current().trace
        self._given = len(points)
        self._values: list[Tensor] = []
        self._at: dict[int, int] = {}  # the number of a symbol -> its hole
        self._holes = {node: self._keep(node) for node in self.order if not isinstance(node, Leaf)}
        self._active = None
        self.first, self.again = compile(self.run), compile(self.run_and_add)

    def values(self) -> list[Tensor]:
        """What the forward program returns for the holes; they are numbered after the arguments."""
        values, self._values = self._values, []
        self.count = self._given + len(values)
        return values

    def _keep(self, node: Node) -> tuple[tuple[Any, ...], Any]:
        """What a node has saved and its output: a tensor from outside, the number of a hole, or None."""
        tape._verify(node)
        if node.y is not None and node.cell is not None and node.cell[0]:
            raise tape._stale(node, f"its output of shape {node.shape}", node.cell[1])
        saved = tuple([None if t is None else self._hole(t) for t in node.saved])
        return saved, None if node.y is None else self._hole(wrap(node.y))

    def _hole(self, t: Tensor) -> Any:
        if not isinstance(t._array, Symbol):
            state = self._active.states.get(id(t._array))
            if state is None or not state.updated:
                return t
        number = self._active.symbol(t).number
        if 0 <= number < self._given:
            return number
        if number not in self._at:
            self._at[number] = self._given + len(self._values)
            self._values.append(t.detach())
        return self._at[number]

    def run(self, *flat: Tensor) -> Any:
        """Sweep the operations, for values of the holes and cotangents of the results that have a history."""

        def filled(hole: Any) -> Any:
            return flat[hole] if isinstance(hole, int) else hole

        copies: dict[Node, Node] = {}
        for node in self.order:
            if isinstance(node, Leaf):
                copies[node] = node
                continue
            saved, y = self._holes[node]
            copy = copies[node] = object.__new__(type(node))
            if isinstance(copy, _FunctionNode):
                copy.pull = node.pull  # type: ignore[attr-defined]
            copy.op, copy.attrs, copy.shape, copy.dtype = node.op, node.attrs, node.shape, node.dtype
            copy.inputs = tuple([None if parent is None else copies[parent] for parent in node.inputs])
            copy.saved = tuple([filled(hole) for hole in saved])
            copy.versions = tuple([0 if t is None else t.version for t in copy.saved])
            copy.y = None if y is None else filled(y)._array
            copy.cell = None if y is None else [0, None]
            copy.where, copy.number, copy._extra = node.where, tape._number(), node._extra
        grads = iter(flat[self.count :])
        roots = [(copies[node], next(grads)) for node in self.roots if node is not None]
        ends = [node for node in self.points if node is not None]
        targets: dict[Node, Any] = dict.fromkeys([*ends, *(p._node for p in self.known)])  # type: ignore[list-item]
        found = tape.sweep(roots, targets, retain_graph=False, create_graph=False) if roots else {}
        return _found(self.points, found), [found.get(p._node) for p in self.known]  # type: ignore[arg-type]

    def run_and_add(self, *flat: Tensor) -> Any:
        """The same, and gradients are added to those in the last arguments."""
        count = len(flat) - len(self.known)
        grads, own = self.run(*flat[:count])
        with no_grad():
            for total, part in zip(flat[count:], own, strict=True):
                if part is not None:
                    total.add_(part)
        return grads, ()


class Back:
    """The way back of one call of `Halves`; to be gone once.

    wanted: for each result of floating point, whether it depends on a parameter or on an argument.
    """

    def __init__(self, recorded: _Recorded, given: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
        self._recorded, self._values = recorded, [*given, *kept]
        self.wanted = recorded.wanted

    def __call__(self, grads: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradients of the arguments, from those of the results that are wanted; None for integers, and
        without `pull`.  Those of parameters are added to their `.grad`."""
        recorded, values = self._recorded, self._values
        self._values = []
        sums = _sums(recorded.known)
        if sums is None:
            found, own = recorded.first(*values, *grads)
            _add(recorded.known, own)
        else:
            found, _ = recorded.again(*values, *grads, *sums)
        del values
        return list(found)


__all__ = ["Back", "Halves", "Whole"]
