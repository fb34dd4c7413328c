"""Gradients on request: `backward`, `grad`, custom functions, checks.

    >>> import minigrad as mg
    >>> x = mg.tensor(2.0, requires_grad=True)
    >>> (g,) = grad(x ** 3, x, create_graph=True)        # 3 x^2, itself differentiable
    >>> g.item(), grad(g, x)[0].item()                    # 6 x
    (12.0, 12.0)

How to add an operation of one's own:

* as a **record**, when it is a function of arrays with a shape rule: one declaration, and it is
  traced, tested, documented and runs on every backend (notebook 02 does it);
* as a **Function**, PyTorch's way, when it is a piece of Python with a backward of its own:

      class Exp(Function):
          @staticmethod
          def forward(ctx, x):
              y = x.exp()
              ctx.save_for_backward(y)
              return y

          @staticmethod
          def backward(ctx, g):
              (y,) = ctx.saved_tensors
              return g * y

`gradcheck` tells whether a gradient is right, by random projection.  For y = f(x) and random u, v

    u^T J v   =   u^T (f(x + h v) - f(x - h v)) / 2h   +   O(h^2)

and the left side is one backward pass, whatever the sizes.  Where it fails it says which input
and guesses why.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import tape
from .errors import ArgumentError, DTypeError, GradientError, ShapeError, Where
from .ir import Spec, float64, is_float
from .mode import (
    Setter,
    Switch,
    current,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .ops.movement import stack
from .record import Op
from .tensor import Tensor, wrap

__all__ = [
    "Function",
    "GradcheckError",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]


def _listed(value: Any) -> list[Any]:
    if isinstance(value, Iterator):  # as model.parameters() is
        return list(value)
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _roots(op: str, tensors: Any, grad_tensors: Any) -> list[tuple[tape.Node, Tensor]]:
    outputs = _listed(tensors)
    grads = [None] * len(outputs) if grad_tensors is None else _listed(grad_tensors)
    if len(grads) != len(outputs):
        raise ArgumentError(
            op, f"{len(outputs)} outputs and {len(grads)} cotangents", fix="pass one for each output"
        )
    roots = []
    for y, g in zip(outputs, grads, strict=True):
        if not isinstance(y, Tensor):
            raise DTypeError(op, f"an output is a {type(y).__name__}", fix="pass tensors")
        if y._node is None:
            why = (
                "nothing that it was computed from requires grad"
                if current().grad
                else "gradients are switched off here (no_grad or inference_mode)"
            )
            if not is_float(y.dtype):
                why = f"its dtype is {y.dtype}, and only floating point has a gradient"
            raise GradientError(
                op,
                f"a tensor of shape {y.shape} has no history: {why}",
                fix="set requires_grad=True on an input",
            )
        if g is None:
            if y.numel() != 1:
                raise GradientError(
                    op,
                    f"the output has shape {y.shape}, but only a scalar has a gradient without more ado",
                    fix="reduce it with .sum() or .mean(), or pass its cotangent as the gradient argument",
                )
            g = tape.hooks.ones(y)
        else:
            if not isinstance(g, Tensor):
                g = Tensor(g, y.dtype)
            if g.shape != y.shape:
                raise ShapeError(
                    op,
                    f"a cotangent of shape {g.shape} for an output of shape {y.shape}",
                    fix="give it the shape of the output",
                )
            if g.dtype != y.dtype:
                g = tape.hooks.cast(g, y.dtype)  # type: ignore[attr-defined]
        roots.append((y._node, g))
    return roots


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate the gradient of the outputs into the `.grad` of every leaf (or of `inputs` only).

    grad_tensors: cotangents of outputs that are not scalars.  retain_graph: keep what the tape has
    saved for another pass (default: create_graph).  create_graph: record the pass itself.
    Raises GradientError where there is nothing to differentiate, or for a second pass without
    retain_graph.
    """
    roots = _roots("backward", tensors, grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        tape.sweep(roots, None, retain_graph=keep, create_graph=create_graph)
        return
    wanted = {t._node: t for t in _inputs("backward", inputs)}
    found = tape.sweep(roots, dict.fromkeys(wanted), retain_graph=keep, create_graph=create_graph)  # type: ignore[arg-type]
    for node, g in found.items():
        with Switch(grad=create_graph):
            tape._accumulate(node, g, create_graph)


def _inputs(op: str, inputs: Any) -> list[Tensor]:
    tensors = _listed(inputs)
    for t in tensors:
        if not isinstance(t, Tensor):
            raise DTypeError(op, f"an input is a {type(t).__name__}", fix="pass tensors")
        if t._node is None:
            raise GradientError(
                op,
                f"an input of shape {t.shape} does not require grad",
                fix="call requires_grad_() before computing",
            )
    return tensors


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of the outputs with respect to the inputs, accumulating nothing.

    Returns one tensor an input, each of its input's shape.  An input that the outputs do not
    depend on is a GradientError, or gives None with allow_unused, or zeros with materialize_grads.
    is_grads_batched: grad_outputs have a first dimension more, and so have the results, a gradient a row.
    only_inputs must be True (that is how it is everywhere now; it was an option of PyTorch's once).
    """
    if not only_inputs:
        raise ArgumentError(
            "grad", "only_inputs=False", fix="call backward() to fill the .grad of all leaves"
        )
    inputs = _listed(inputs)
    if is_grads_batched:
        keep = create_graph if retain_graph is None else retain_graph
        return _batched_grad(
            outputs, inputs, grad_outputs, keep, create_graph, allow_unused, materialize_grads
        )
    tensors = _inputs("grad", inputs)
    roots = _roots("grad", outputs, grad_outputs)
    targets: dict[tape.Node, Any] = {t._node: None for t in tensors}  # type: ignore[misc]
    keep = create_graph if retain_graph is None else retain_graph
    found = tape.sweep(roots, targets, retain_graph=keep, create_graph=create_graph)
    result: list[Tensor | None] = []
    for i, t in enumerate(tensors):
        g = found.get(t._node)  # type: ignore[arg-type]
        if g is None:
            if materialize_grads:
                g = t.zeros_like()
            elif not allow_unused:
                raise GradientError(
                    "grad",
                    f"the outputs do not depend on input {i} of shape {t.shape}",
                    fix="pass allow_unused=True to get None for it",
                )
        result.append(g)
    return tuple(result)


def _batched_grad(
    outputs: Any, inputs: Any, grad_outputs: Any, keep: bool, create_graph: bool, *settings: Any
) -> tuple[Tensor | None, ...]:
    """`grad` for each row of grad_outputs, the results stacked."""
    given = _listed(grad_outputs)
    sizes = {g.shape[0] if isinstance(g, Tensor) and g.ndim else -1 for g in given if g is not None}
    if len(sizes) != 1 or -1 in sizes:
        raise ShapeError(
            "grad",
            "is_grads_batched needs grad_outputs with one first dimension",
            fix="stack the cotangents, one a row",
        )
    count = sizes.pop()
    rows = []
    for i in range(count):
        cotangents = [None if g is None else g[i] for g in given]
        retain = keep or i + 1 < count
        rows.append(
            grad(outputs, inputs, cotangents, retain, create_graph, True, settings[0], False, settings[1])
        )
    if not rows:
        return tuple(tape.hooks.wrap(np.zeros((0, *t.shape), t.dtype)) for t in _inputs("grad", inputs))
    return tuple(None if column[0] is None else stack(column) for column in zip(*rows, strict=True))


def _tensor_backward(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate the gradient of this tensor into the `.grad` of every leaf it depends on.

    See `minigrad.autograd.backward`; `gradient` is the cotangent of a tensor that is no scalar.
    """
    backward(self, gradient, retain_graph, create_graph, inputs)


setattr(Tensor, "backward", _tensor_backward)  # noqa: B010 - installed, as operations are


class detect_anomaly(Switch):
    """Find the first operation that makes a NaN or Inf out of finite numbers, forward or backward.

    Inside, every result is looked at (slow), and the error names the operation and the user's line.
    """

    def __init__(self, mode: bool = True) -> None:
        super().__init__(anomaly=bool(mode))


class set_detect_anomaly(Setter):
    """`detect_anomaly` as a statement: from here on, or in a `with` block."""

    def __init__(self, mode: bool) -> None:
        super().__init__(anomaly=bool(mode))


# -- functions of one's own --------------------------------------------------------------------------


class Context:
    """What a Function's forward leaves for its backward."""

    def __init__(self) -> None:
        self._saved: tuple[Tensor | None, ...] | None = ()
        self.needs_input_grad: tuple[bool, ...] = ()
        self._no_grad_outputs: set[int] = set()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (inputs, outputs, or others) for backward; a later change in place is an error."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise DTypeError(
                    "save_for_backward",
                    f"a {type(t).__name__} is no tensor",
                    fix="set it as an attribute of ctx",
                )
        self._saved = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Outputs that get no gradient."""
        self._no_grad_outputs = {id(t) for t in tensors}

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What save_for_backward kept; to be read in backward."""
        if self._saved is None:
            raise GradientError("saved_tensors", "read outside of backward", fix="read them inside backward")
        return self._saved


class _FunctionNode(tape.Node):
    """A node whose rules run a backward written by hand, once, for all inputs."""

    __slots__ = ("pull",)

    pull: Callable[[_FunctionNode, Tensor], list[Tensor | None]]

    def rules(self, g: Tensor) -> tuple[Any, ...]:
        """One constant rule an input, from one call of backward."""

        def constant(gx: Tensor | None) -> Callable[..., Tensor | None]:
            return lambda *_: gx

        return tuple(constant(gx) for gx in self.pull(self, g))


@functools.lru_cache(maxsize=256)
def _function_op(name: str, inputs: int) -> Op:
    return Op(
        name=name,
        kind="opaque",
        inputs=tuple(f"argument{i}" for i in range(inputs)),
        attrs=(),
        kernel=_no_kernel,
        shape=_no_kernel,
        rules=(None,) * inputs,
    )


def _function_node(
    name: str,
    inputs: tuple[tape.Node | None, ...],
    spec: Spec,
    where: Where | None,
    pull: Callable[[_FunctionNode, Tensor], list[Tensor | None]],
) -> _FunctionNode:
    node = object.__new__(_FunctionNode)
    node.op = _function_op(name, len(inputs))
    node.attrs, node.inputs = (), inputs
    node.saved, node.versions, node.y, node.cell = (), None, None, None
    node.shape, node.dtype = spec
    node.where, node.number, node._extra = where, tape._number(), None
    node.pull = pull
    return node


def _no_kernel(*_: Any) -> Any:
    raise ArgumentError("Function", "a recorded Function is not run again", fix="call its apply again")


class Function:
    """A differentiable function with a hand-written backward, as in PyTorch.

    Subclass it with static methods `forward(ctx, *args, **kwargs)`, computing with tensors (nothing
    is recorded inside), and `backward(ctx, *grads)`, returning one cotangent (or None) for each
    positional argument.  Call it with `apply`.  If backward is written in operations, second
    derivatives work.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs; to be overridden."""
        raise ArgumentError("Function", "forward is not defined", fix="define it as a static method")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Where a subclass defines it, `forward` gets no ctx, and this one keeps what backward needs."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Compute cotangents of the inputs; to be overridden."""
        raise ArgumentError("Function", "backward is not defined", fix="define it as a static method")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run forward and leave one node on the tape."""
        ctx = Context()
        nodes = tuple(a._node if isinstance(a, Tensor) else None for a in args)
        ctx.needs_input_grad = tuple(n is not None for n in nodes)
        with no_grad():
            if cls.setup_context is Function.setup_context:
                result = cls.forward(ctx, *args, **kwargs)
            else:
                result = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, result)
        outputs = _listed(result)
        if not current().grad or not any(ctx.needs_input_grad):
            return result
        name = cls.__name__
        for y in outputs:
            if not isinstance(y, Tensor):
                raise DTypeError(name, f"forward returned a {type(y).__name__}", fix="return tensors")
        single = not isinstance(result, (tuple, list))
        parts = _Parts(outputs, single)
        wanted = tuple(
            Spec(a.shape, a.dtype) if isinstance(a, Tensor) and n is not None else None
            for a, n in zip(args, nodes, strict=True)
        )
        saved = ctx._saved or ()
        # Outputs that were saved have a history, this node's, which is not to be lost in a second derivative.
        own = {id(a) for a in args}
        places = {id(y): k for k, y in enumerate(outputs) if id(y) not in own}
        outputs_saved = [(i, places[id(t)]) for i, t in enumerate(saved) if id(t) in places]

        def pull(node: _FunctionNode, g: Tensor) -> list[Tensor | None]:
            kept: list[Tensor | None] = list(node.saved)
            for i, k in outputs_saved:
                y = kept[i]
                assert y is not None
                kept[i] = wrap(y._array, parts.node(node, k), y._version)
            ctx._saved = tuple(kept)
            try:
                given = _listed(cls.backward(ctx, *parts.split(g)))
            finally:
                ctx._saved = None
            return _fitting(name, given, wanted)

        hub = _function_node(name, nodes, parts.spec, tape.user_line(1), pull)
        results = []
        for k, y in enumerate(outputs):
            cell = y._cell()  # an output may share the memory of an input or of what was saved
            differentiable = is_float(y.dtype) and id(y) not in ctx._no_grad_outputs
            results.append(wrap(y._array, parts.node(hub, k) if differentiable else None, cell))
        hub.saved = saved
        hub.versions = tuple(0 if t is None else t.version for t in saved)
        ctx._saved = None
        return results[0] if single else tuple(results)


def _fitting(name: str, given: list[Any], wanted: tuple[Spec | None, ...]) -> list[Tensor | None]:
    """What a backward returned, checked against the arguments, in their dtypes."""
    if len(given) != len(wanted):
        raise GradientError(
            name,
            f"backward returned {len(given)} gradients for {len(wanted)} arguments",
            fix="return one for each",
        )
    result: list[Tensor | None] = []
    for i, (gx, spec) in enumerate(zip(given, wanted, strict=True)):
        if gx is None or spec is None:
            result.append(None)
            continue
        if not isinstance(gx, Tensor):
            raise DTypeError(
                name,
                f"backward returned a {type(gx).__name__} for argument {i}",
                fix="return a tensor or None",
            )
        if gx.shape != spec.shape:
            raise ShapeError(
                name,
                f"backward returned shape {gx.shape} for argument {i} of shape {spec.shape}",
                fix="return the argument's shape",
            )
        result.append(gx.to(spec.dtype))
    return result


class _Parts:
    """Several outputs laid end to end, since a node of the tape has one."""

    def __init__(self, outputs: list[Tensor], single: bool) -> None:
        self.specs = [Spec(y.shape, y.dtype) for y in outputs]
        self.single = single
        sizes = [y.numel() for y in outputs]
        self.starts = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
        floats = [s.dtype for s in self.specs if is_float(s.dtype)]
        dtype = float64 if float64 in floats or not floats else floats[0]
        self.spec = self.specs[0] if single else Spec((self.starts[-1],), dtype)

    def split(self, g: Tensor) -> list[Tensor]:
        """The cotangents of the outputs, from that of the whole."""
        if self.single:
            return [g]
        pieces = []
        for k, spec in enumerate(self.specs):
            piece = g[self.starts[k] : self.starts[k + 1]].reshape(spec.shape)
            pieces.append(piece.to(spec.dtype) if is_float(spec.dtype) else piece)
        return pieces

    def node(self, hub: _FunctionNode, k: int) -> tape.Node:
        """The node of output k: its cotangent, among zeros, is a cotangent of the whole."""
        if self.single:
            return hub
        before, after = self.starts[k], self.starts[-1] - self.starts[k + 1]
        dtype = self.spec.dtype

        def pull(_: _FunctionNode, g: Tensor) -> list[Tensor | None]:
            from .ops.movement import pad_dim

            return [pad_dim(g.reshape(-1).to(dtype), 0, before, after)]

        return _function_node(f"{hub.op.name} output {k}", (hub,), self.specs[k], hub.where, pull)


# -- checks ------------------------------------------------------------------------------------------


class GradcheckError(GradientError, AssertionError):
    """A gradient that does not agree with finite differences; says which and guesses why."""


def _name(function: Any) -> str:
    op = getattr(function, "op", None)
    if op is not None:
        return str(op.name)
    owner = getattr(function, "__self__", None)  # MyFunction.apply
    return str(getattr(owner if isinstance(owner, type) else function, "__name__", type(function).__name__))


def _flat(value: Any) -> list[Tensor]:
    return [y for y in _listed(value) if isinstance(y, Tensor) and is_float(y.dtype)]


def _project(function: Callable[..., Any], inputs: Sequence[Tensor], us: Sequence[Any]) -> float:
    with no_grad():
        outputs = _flat(function(*inputs))
    return float(sum(np.vdot(u, y.detach().numpy()) for u, y in zip(us, outputs, strict=True)))


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    seed: int = 0,
    projections: int = 2,
) -> bool:
    """Whether the gradients of `func` at float64 `inputs` agree with central differences.

    Compares u^T J v with (u^T f(x + eps v) - u^T f(x - eps v)) / (2 eps) for random u, v, for each
    input that requires grad.  Returns True, or raises GradcheckError with a diagnosis (returns False
    if raise_exception is False).
    """
    arguments = _listed(inputs)
    name = _name(func)
    checked = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise GradientError("gradcheck", "no input requires grad", fix="make one with requires_grad=True")
    for i in checked:
        if arguments[i].dtype != float64:
            raise DTypeError(
                "gradcheck",
                f"input {i} is {arguments[i].dtype}, too coarse for finite differences",
                fix="use float64, .double()",
            )
    rng = np.random.default_rng(seed)
    try:
        for _ in range(projections):
            _check_projection(func, name, arguments, checked, rng, eps, atol, rtol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check_projection(
    func: Callable[..., Any],
    name: str,
    arguments: list[Any],
    checked: list[int],
    rng: np.random.Generator,
    eps: float,
    atol: float,
    rtol: float,
) -> None:
    leaves = [a.detach().requires_grad_() if i in checked else a for i, a in enumerate(arguments)]
    outputs = _flat(func(*leaves))
    us = [rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape) for y in outputs]
    connected = [(y, Tensor(u)) for y, u in zip(outputs, us, strict=True) if y.requires_grad]
    targets = [leaves[i] for i in checked]
    if connected:
        found = grad([y for y, _ in connected], targets, [u for _, u in connected], allow_unused=True)
    else:
        found = (None,) * len(targets)
    for i, g in zip(checked, found, strict=True):
        x = arguments[i]
        v = rng.uniform(0.5, 1.5, x.shape) * rng.choice([-1.0, 1.0], x.shape)
        base = x.detach().numpy()
        shifted = [
            [Tensor(base + sign * eps * v) if j == i else _constant(a) for j, a in enumerate(arguments)]
            for sign in (1.0, -1.0)
        ]
        numeric = (_project(func, shifted[0], us) - _project(func, shifted[1], us)) / (2 * eps)
        if g is None:
            analytic = 0.0
        else:
            if g.shape != x.shape:
                raise GradcheckError(
                    f"gradcheck of {name}",
                    f"input {i}: the gradient has shape {g.shape}, the input {x.shape}",
                    fix="the rule does not sum over a broadcast dimension",
                )
            analytic = float(np.vdot(v, g.detach().numpy()))
        scale = max(abs(numeric), abs(analytic))
        if not abs(analytic - numeric) <= atol + rtol * scale:
            raise GradcheckError(
                f"gradcheck of {name}",
                f"input {i} of shape {x.shape}: the rule says {analytic:.6g} along a random direction, "
                f"central differences say {numeric:.6g}",
                fix="guess: " + _diagnose(func, arguments, i, g, us, base, eps, analytic, numeric),
            )


def _constant(a: Any) -> Any:
    return a.detach() if isinstance(a, Tensor) else a


def _diagnose(
    func: Callable[..., Any],
    arguments: list[Any],
    i: int,
    g: Tensor | None,
    us: list[Any],
    base: Any,
    eps: float,
    analytic: float,
    numeric: float,
) -> str:
    """What kind of mistake would give these numbers."""
    if g is None:
        return "the rule is missing: no gradient arrives at this input at all"
    if not np.isfinite(analytic):
        return "the rule makes NaN or Inf here; look for a division by zero or an overflow"
    # Elementwise comparison, on at most 64 elements.
    flat = base.reshape(-1)
    numbers = []
    count = min(64, flat.size)
    chosen: Any = np.unique(np.linspace(0, flat.size - 1, count).astype(int)) if flat.size else []
    for k in chosen:
        values = []
        for sign in (1.0, -1.0):
            moved = flat.copy()
            moved[k] += sign * eps
            point = [
                Tensor(moved.reshape(base.shape)) if j == i else _constant(a) for j, a in enumerate(arguments)
            ]
            values.append(_project(func, point, us))
        numbers.append((values[0] - values[1]) / (2 * eps))
    wanted = np.array(numbers)
    given = g.detach().numpy().reshape(-1)[chosen]
    informative = np.abs(wanted) > 1e-4 * max(1e-30, float(np.abs(wanted).max(initial=0.0)))
    if informative.any():
        ratios = given[informative] / wanted[informative]
        ratio = float(np.median(ratios))
        if np.allclose(ratios, ratio, rtol=1e-3, atol=1e-6):
            if abs(ratio + 1) < 1e-3:
                return "the sign is wrong"
            if abs(ratio) < 1e-6:
                return "the rule gives zero"
            factor = f"{ratio:.6g}"
            if abs(ratio - round(ratio)) < 1e-3 and round(ratio) in base.shape:
                factor += f" (also a size of the shape {base.shape}: perhaps summed over it once too often)"
            return f"wrong by a factor {factor}"
    if base.size > 1 and np.allclose(given, given.flat[0]) and not np.allclose(wanted, wanted.flat[0]):
        return "every element gets the same gradient: a reduction is not undone per element"
    if wanted.size == flat.size and np.allclose(np.sort(given), np.sort(wanted), rtol=1e-3, atol=1e-5):
        return "the right numbers in the wrong places: a transpose or a reshape is missing"
    return "a term of the rule is missing, or a broadcast axis is not summed over"


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    seed: int = 0,
) -> bool:
    """`gradcheck` of the gradient of `func`: whether second derivatives are right."""
    arguments = _listed(inputs)
    rng = np.random.default_rng(seed + 1)
    outputs = _flat(func(*arguments))
    outputs = [y for y in outputs if y.requires_grad]
    if not outputs:
        raise GradientError(
            "gradgradcheck",
            "no output depends on an input that requires grad",
            fix="make one with requires_grad=True",
        )
    if grad_outputs is None:
        grad_outputs = [Tensor(rng.normal(size=y.shape), requires_grad=True) for y in outputs]
    gs = _listed(grad_outputs)
    n = len(arguments)

    def first(*args: Any) -> tuple[Tensor, ...]:
        xs, cotangents = list(args[:n]), args[n:]
        with enable_grad():
            xs = [
                (x if x.requires_grad else x.detach().requires_grad_())
                if isinstance(x, Tensor) and arguments[k].requires_grad
                else x
                for k, x in enumerate(xs)
            ]
            ys = [y for y in _flat(func(*xs)) if y.requires_grad]
            targets = [x for k, x in enumerate(xs) if isinstance(x, Tensor) and arguments[k].requires_grad]
            result = grad(ys, targets, list(cotangents), create_graph=True, materialize_grads=True)
        return tuple(g for g in result if g is not None)

    first.__name__ = f"the gradient of {_name(func)}"
    return gradcheck(
        first, [*arguments, *gs], eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, seed=seed
    )
