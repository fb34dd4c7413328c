"""The tape: reverse-mode automatic differentiation.

**The problem.**  A loss is a composition of thousands of simple functions; its derivative with
respect to every parameter is wanted, at the price of about one more evaluation.

**The idea.**  Write the program as y1 = f1(x), y2 = f2(y1), ..., L = fn(...).  By the chain rule
the *cotangent* of a value v, g_v = dL/dv, is the sum over its users u = f(..., v, ...) of

    g_v += J_f(v)^T g_u                                           (one vector-Jacobian product)

so walking the program backwards once, from g_L = 1, visits every operation a single time
(Griewank & Walther 2008, ch. 3; Baydin et al. 2018, section 3.2).

**The data.**  While the program runs, each operation leaves a `Node`: which nodes its inputs came
from, what its derivative rule needs (and nothing else, see `record.keeps`), where the user wrote
it.  A tensor that asks for a gradient has a `Leaf`.  Nodes point to nodes and never to results,
so no reference cycle keeps memory alive.

**The walk** (`sweep`).  Nodes are numbered as they are made, and an operation is always made
after its inputs: going down the numbers is a topological order.  Rules are written in operations,
so with `create_graph` the walk itself is recorded and can be differentiated again.  There is no
recursion: a chain of 100,000 operations is as good as a chain of ten.  What a node has kept is
dropped as soon as its rule has run.

    >>> import minigrad as mg
    >>> x = mg.tensor([3.0], requires_grad=True)
    >>> y = x * x
    >>> y.backward()
    >>> x.grad
    tensor([6.])

Left out on purpose: forward mode as a second engine (it follows from two reverse sweeps, see
`minigrad.func`), and edges that merge several outputs (each node has one output).
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .errors import OURS, AnomalyError, GradientError, Where, describe
from .ir import DType, Shape, Spec
from .mode import current, using
from .record import IDENTITY, Op

if TYPE_CHECKING:
    from .tensor import Tensor


class Hooks:
    """What the engine needs from the layers above it, set by them when they are imported."""

    add: Callable[[Any, Any], Any]
    sum_to: Callable[[Any, Shape], Any]
    ones: Callable[[Any], Any]
    wrap: Callable[..., Any]
    tensor: type[Any]
    load: Callable[[], None]
    array_function: Callable[[Any, Any, Any], Any]
    ufuncs: ClassVar[dict[str, Callable[..., Any]]] = {}
    #: Makes what is entered while a function is traced, so that what Python looks at can be noted.
    watch: Callable[[], AbstractContextManager[Any]] = nullcontext


hooks = Hooks()
_number = itertools.count(1).__next__
_getframe = sys._getframe
getrefcount = sys.getrefcount

_asarray = np.asarray
_new = object.__new__

#: Cotangents of up to this many elements take the short cut of `record._is_arithmetic`: below it a
#: tensor costs more than its arithmetic, above it the backend's kernels are worth their call.
SMALL = 4096

#: What a node's `saved` becomes once its rule has run.
FREED: Any = ("freed",)


def recording() -> bool:
    """Whether the tape is on in this thread."""
    return current().grad


class Removable:
    """A handle to take a hook away again."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """Take the hook away; doing so twice is harmless."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> Removable:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Node:
    """One recorded operation.

    op, attrs        the record and its static arguments
    inputs           the node of each input, None where no gradient is wanted
    saved            the inputs its rules need (None for those they do not), or FREED
    versions         their version counts when they were saved, None if all were 0
    y, cell          the output array if a rule needs it, and its version cell
    shape, dtype     of the output
    where            the user's line
    number           position in the order of creation
    """

    __slots__ = (
        "_extra",
        "attrs",
        "cell",
        "dtype",
        "inputs",
        "number",
        "op",
        "saved",
        "shape",
        "versions",
        "where",
        "y",
    )

    op: Op
    attrs: tuple[Any, ...]
    number: int
    inputs: tuple[Node | None, ...]
    saved: Any
    versions: tuple[int, ...] | None
    y: Any
    cell: list[Any] | None
    shape: Shape
    dtype: DType
    where: Where | None
    _extra: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The operation's name, for people."""
        return self.op.name

    # Rarely used state lives in one dictionary, so that making a node stays cheap.

    @property
    def grad(self) -> Any:
        """The gradient, for a result with `retain_grad`."""
        return None if self._extra is None else self._extra.get("grad")

    @grad.setter
    def grad(self, value: Any) -> None:
        self._set("grad", value)

    @property
    def retain(self) -> bool:
        """Whether `backward` shall keep the gradient of this result."""
        return self._extra is not None and self._extra.get("retain", False)

    @retain.setter
    def retain(self, value: bool) -> None:
        self._set("retain", value)

    def _set(self, key: str, value: Any) -> None:
        if self._extra is None:
            self._extra = {}
        self._extra[key] = value

    def add_hook(self, hook: Callable[[Any], Any]) -> Removable:
        """Register a function of the cotangent."""
        if self._extra is None:
            self._extra = {}
        table = self._extra.setdefault("hooks", {})
        key = _number()
        table[key] = hook
        return Removable(table, key)

    def __repr__(self) -> str:
        return f"<{self.name} node of {Spec(self.shape, self.dtype)}, at {describe(self.where)}>"


class Leaf(Node):
    """The end of the tape: where the gradient of a parameter accumulates."""

    __slots__ = ("_grad",)

    def __init__(self, shape: Shape, dtype: DType) -> None:
        self.inputs = ()
        self.number = 0
        self.shape, self.dtype = shape, dtype
        self.where = None
        self._extra = None
        self._grad = None

    @property
    def name(self) -> str:
        """For people."""
        return "leaf"

    @property
    def grad(self) -> Any:
        """The accumulated gradient."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        self._grad = value

    def add_post_hook(self, hook: Callable[[Any], None], tensor: Any) -> Removable:
        """Register a function called with the tensor after accumulation."""
        if self._extra is None:
            self._extra = {}
        table = self._extra.setdefault("post", {})
        key = _number()
        alive = weakref.ref(tensor)  # the tensor has this leaf: no cycle

        def call() -> None:
            found = alive()
            if found is not None:
                hook(found)

        table[key] = call
        return Removable(table, key)


def record(op: Op, inputs: tuple[Any, ...], attrs: tuple[Any, ...], y: Any, where: Where | None) -> Node:
    """Leave a node for an operation whose output is the array `y`.

    `inputs` are Tensors.  The returned node is to become the `_node` of the result.
    """
    node = _new(Node)
    node.op = op
    node.attrs = attrs
    node.inputs = nodes = tuple([t._node for t in inputs])
    keep_y = False
    if op.variadic:
        node.saved = inputs if any(op.kept[0]) else ()
        if op.only_indices:
            node.saved = tuple([None if t._array.dtype.kind == "f" else t for t in inputs])
        keep_y = op.keeps_y[0]
    elif len(nodes) == 1:
        node.saved = inputs if op.kept[0][0] else ()
        keep_y = op.keeps_y[0]
    else:
        keep = [False] * len(nodes)
        for i, parent in enumerate(nodes):
            if parent is not None:
                for j, kept in enumerate(op.kept[i]):
                    if kept:
                        keep[j] = True
                if op.keeps_y[i]:
                    keep_y = True
        if all(keep):
            node.saved = inputs
        elif any(keep):
            node.saved = tuple([t if kept else None for t, kept in zip(inputs, keep, strict=True)])
        else:
            node.saved = ()
    node.versions = None
    for t in node.saved:
        if t is not None and t._version is not None and t._version[0]:
            node.versions = tuple(
                [0 if s is None or s._version is None else s._version[0] for s in node.saved]
            )
            break
    if keep_y:
        node.y = y
        node.cell = [0, None]
    else:
        node.y = node.cell = None
    node.shape = y.shape
    node.dtype = y.dtype
    node.where = where
    node.number = _number()
    node._extra = None
    return node


def _stale(node: Node, what: str, place: Where | None) -> GradientError:
    changed = f"was changed in place at {describe(place)}" if place else "was changed in place"
    return GradientError(
        node.name,
        f"{what}, needed for the gradient, {changed} after it was saved at {describe(node.where)}",
        fix="write the change out of place, or do it on a .clone()",
    )


def _freed(node: Node) -> GradientError:
    return GradientError(
        node.name,
        f"backward through the operation at {describe(node.where)} a second time, "
        "but what it had saved was freed by the first",
        fix="pass retain_graph=True to the first backward",
        where=node.where,
    )


def _verify(node: Node) -> None:
    """Raise if a saved tensor was changed in place since it was saved."""
    versions = node.versions
    for i, t in enumerate(node.saved):
        if t is None or t._version is None:
            continue
        if t._version[0] != (versions[i] if versions else 0):
            named = type(node) is Node and not node.op.variadic
            name = f"its input {node.op.inputs[i]!r}" if named else "a saved tensor"
            raise _stale(node, f"{name} of shape {t.shape}", t._version[1])


def reachable(roots: Iterable[Node]) -> list[Node]:
    """All nodes that the roots depend on, the roots included, in the order of creation."""
    seen = set(roots)
    stack = list(seen)
    order = list(seen)
    while stack:
        for parent in stack.pop().inputs:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
                order.append(parent)
    order.sort(key=_by_number)
    return order


def _by_number(node: Node) -> int:
    return node.number


def sweep(
    roots: list[tuple[Node, Tensor]],
    targets: dict[Node, Any] | None,
    *,
    retain_graph: bool,
    create_graph: bool,
    stop: bool = False,
) -> dict[Node, Tensor]:
    """Walk the tape backwards from `roots`, given with the cotangents of their outputs.

    targets None: accumulate into the `.grad` of every leaf that is reached.
    targets given: return the cotangents of these nodes, visit only what lies between, and
    accumulate nothing; with `stop`, not beyond any of them either.

    Raises GradientError if something needed was freed or changed in place.
    """
    order = reachable([node for node, _ in roots])
    if targets is not None:
        needed = set(targets)
        for node in order:
            for parent in node.inputs:
                if parent in needed:
                    needed.add(node)
                    break
        order = [node for node in order if node in needed]
    else:
        for node in order:  # the leaves come first
            if node.number:
                break
            if node._extra is not None and "post" in node._extra:
                order = _leaves_early(order)
                break
    outer = _queued.pop(get_ident(), None) if _queued else None
    grads: dict[Node, Any] = {}
    found: dict[Node, Tensor] = {}
    add, sum_to, wrap, tensor = hooks.add, hooks.sum_to, hooks.wrap, hooks.tensor
    mode = current()
    anomaly = mode.anomaly
    fast = mode.plain and not create_graph
    with using(mode.but(grad=create_graph, anomaly=False)):  # results are looked at here, rule by rule
        for node, g in roots:
            grads[node] = add(grads[node], g) if node in grads else g
        roots.clear()  # the caller's list would keep the first cotangents alive
        array: Any = None
        gx: Any = None
        part: Any = None
        previous: Any = None
        while order:
            node = order.pop()
            g = grads.pop(node, None)
            if g is None:
                continue
            if node._extra is not None:
                g = _run_hooks(node, g)
            if targets is not None and node in targets:
                found[node] = g
                if stop:
                    continue
            nodes = node.inputs
            if not nodes:
                if targets is None:
                    array = gx = part = previous = None  # of the last rule; see `_alone`
                    _accumulate(node, g, create_graph)
                continue
            saved = node.saved
            if saved:
                if saved is FREED:
                    raise _freed(node)
                for t in saved:
                    if t is not None and t._version is not None:
                        _verify(node)
                        break
            y = node.y
            if y is not None and node.cell[0]:  # type: ignore[index]
                raise _stale(node, f"its output of shape {node.shape}", node.cell[1])  # type: ignore[index]
            array = g._array
            op = node.op
            raw = bound = op.bound
            if type(node) is not Node:
                raw = bound = node.rules(g)  # type: ignore[attr-defined]
            elif fast and array.size <= SMALL:
                raw = op.raw
            attrs = node.attrs
            i = -1
            for parent in nodes:
                i += 1
                if parent is None or (targets is not None and parent not in needed):
                    continue
                shape = parent.shape
                k = 0 if op.variadic else i
                rule = raw[k]
                if rule is None:
                    continue
                gx = g
                if rule is IDENTITY:
                    part = array
                elif rule is not bound[k]:  # arithmetic, on the arrays themselves
                    gx = _new(tensor)
                    gx._array = part = _asarray(rule(array, y, saved, attrs, i, shape, parent.dtype))
                    gx._node = gx._version = None
                else:
                    kept = None if y is None else wrap(y, node if create_graph else None, node.cell)
                    gx = rule(g, kept, saved, attrs, i, shape, parent.dtype)
                    if gx is None:
                        continue
                    part = gx._array
                if part.shape != shape:
                    gx = sum_to(gx, shape)
                if anomaly:
                    _check_finite(node, i, g, gx)
                previous = grads.get(parent)
                if previous is None:
                    grads[parent] = gx
                elif fast:
                    grads[parent] = wrap(_asarray(previous._array + gx._array))
                else:
                    grads[parent] = add(previous, gx)
            if not retain_graph and (saved or y is not None):
                node.saved = FREED
                node.y = None
    if _queued:
        for call in _queued.pop(get_ident(), ()):
            call()
    if outer is not None:
        _queued[get_ident()] = outer
    return found


def _leaves_early(order: list[Node]) -> list[Node]:
    """The same order, but each leaf that somebody waits for right before the first node that uses it: so,
    going backwards, it comes as soon as its gradient is complete."""
    waiting = {node for node in order if not node.number and node._extra and "post" in node._extra}
    early: list[Node] = []
    for node in order:
        if node in waiting:
            continue
        for parent in node.inputs:
            if parent in waiting:
                waiting.discard(parent)
                early.append(parent)
        early.append(node)
    return [*waiting, *early]  # what is left is a root itself


#: Functions to call when the running `backward` of a thread has ended.
_queued: dict[int, list[Callable[[], None]]] = {}


def queue_callback(call: Callable[[], None]) -> None:
    """Call `call()` when the `backward` that is running in this thread has ended; for hooks."""
    _queued.setdefault(get_ident(), []).append(call)


def _run_hooks(node: Node, g: Any) -> Any:
    extra = node._extra
    assert extra is not None
    for hook in list(extra.get("hooks", {}).values()):
        replaced: Any = hook(g)
        if replaced is not None:
            if not isinstance(replaced, hooks.tensor) or (replaced.shape, replaced.dtype) != (
                g.shape,
                g.dtype,
            ):
                spec = (
                    Spec(replaced.shape, replaced.dtype) if isinstance(replaced, hooks.tensor) else replaced
                )
                raise GradientError(
                    f"hook of {node.name}",
                    f"returned {spec} for a gradient of {Spec(g.shape, g.dtype)}",
                    fix="keep the spec",
                )
            g = replaced
    if extra.get("retain") and node.inputs:
        previous = node.grad
        if previous is not None:
            node.grad = hooks.add(previous, g)
        else:  # `g` may be handed to others too; see `_accumulate`
            node.grad = g if current().grad or _traced(g) else hooks.wrap(g._array.copy())
    return g


def _check_finite(node: Node, i: int, g: Any, gx: Any) -> None:
    if np.isfinite(g._array).all() and not np.isfinite(gx._array).all():
        raise AnomalyError(
            f"gradient of {node.name}",
            f"the first NaN or Inf of the backward pass appears in the gradient of input {i} "
            f"of the operation recorded at {describe(node.where)}",
            where=node.where,
            fix="check the inputs of that line (a zero under sqrt or division, an overflow in exp)",
        )


def _accumulate(leaf: Node, g: Tensor, create_graph: bool) -> None:
    """leaf.grad += g, never sharing memory with anything else."""
    trace = current().trace
    if trace is not None:
        trace.leaf(leaf, read=True)
    previous = leaf.grad
    if previous is not None:
        leaf.grad = hooks.add(previous, g)
    elif create_graph or trace is not None:
        leaf.grad = g
    else:
        array = g._array
        # `g` may be another leaf's gradient too (x + y hands out one cotangent twice), or a view, or
        # something that a rule or a hook has kept: whatever it is, somebody then refers to it.
        alone = getrefcount(g) <= _alone[0] and getrefcount(array) <= _alone[1]
        flags = array.flags
        if not (alone and flags.owndata and flags.c_contiguous and flags.writeable):
            array = array.copy()
        leaf.grad = hooks.wrap(array)
    if leaf._extra is not None:
        for hook in list(leaf._extra.get("post", {}).values()):
            hook()


def _count_alone() -> tuple[int, int]:
    """What `getrefcount` says in `_accumulate` of a cotangent, and of its array, that nobody else has.

    Counted rather than known: interpreters differ in what they count of the arguments of a call.
    """

    class Holder:
        _array: Any

    def accumulate(leaf: Any, g: Any, create_graph: bool) -> tuple[int, int]:
        array = g._array
        return getrefcount(g), getrefcount(array)

    g = Holder()
    g._array = np.zeros(1)
    return accumulate(None, g, False)


_alone = _count_alone()


def _traced(g: Any) -> bool:
    return current().trace is not None


def user_line(depth: int) -> Where | None:
    """The user's line, from the frame `depth` above the caller's."""
    frame = _getframe(depth + 1)
    while OURS[frame.f_globals.get("__package__")]:
        outer = frame.f_back
        if outer is None:
            break
        frame = outer
    return (frame.f_code, frame.f_lasti)
