"""Derivatives as functions of functions.

    grad(f)(x)                 the gradient of a scalar function
    value_and_grad(f)(x)       both, for the price of one
    vjp(f, x)                  f(x), and the function u -> u^T J
    jvp(f, (x,), (v,))         f(x) and J v, by two reverse sweeps: u -> u^T J is linear, so its own
                               gradient by u is v -> J v, whatever u is
    jacobian(f)(x)             J, a sweep for all rows at once (`vmap`); jacfwd: for all columns
    hessian(f)(x)              the jacobian of the gradient; hvp(f, (x,), (v,)): its product with v
    vmap(f)                    f for every example of a batch; see `minigrad.batching`
    functional_call(m, p, x)   what a module computes with other parameters

    >>> import minigrad as mg
    >>> grad(lambda x: (x ** 3).sum())(mg.tensor([1.0, 2.0]))
    tensor([ 3., 12.])
    >>> grad(grad(lambda x: x ** 3))(mg.tensor(2.0))
    tensor(12.)

They nest: what one of them returns can be differentiated by the next.  Arguments may be tensors or
nests of tensors (see `minigrad.tree`); gradients have the same structure.

    >>> x = mg.tensor([1.0, 2.0])
    >>> hessian(lambda x: (x ** 3).sum())(x)
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    >>> jvp(lambda x: x * x, (x,), (mg.ones(2),))[1]
    tensor([2., 4.])

Reference for J v by two reverse sweeps: Townsend 2017, "A new trick for calculating Jacobian vector
products".  Left out: a forward mode of its own, which would save the first sweep's memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import autograd
from .batching import vmap
from .errors import ArgumentError, DTypeError, GradientError
from .mode import current, enable_grad
from .tape import Leaf, reachable
from .tensor import Tensor, wrap
from .tree import tree_leaves, tree_map

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "stack_module_state",
    "value_and_grad",
    "vjp",
    "vmap",
]


def _fresh(tree: Any, op: str) -> tuple[Any, list[Tensor]]:
    """The nest with every tensor made a point of its own on the tape, and the list of these.

    A tensor that is being differentiated by an outer function stays connected to it.
    """
    points: list[Tensor] = []

    def point(x: Any) -> Any:
        if not isinstance(x, Tensor):
            raise DTypeError(
                op, f"an argument to differentiate by is a {type(x).__name__}", fix="pass tensors"
            )
        inside_vmap = getattr(current().trace, "point", None)
        if x.requires_grad:
            new = x.view_as(x)
        else:
            new = (inside_vmap(x) if inside_vmap else x.detach()).requires_grad_()
        points.append(new)
        return new

    return tree_map(point, tree), points


def _has_outer(outputs: list[Tensor], points: list[Tensor]) -> bool:
    """Whether outputs depend on anything that requires grad besides the points themselves.

    If so, an outer function or a later `backward` is interested too, and results stay connected:
    in grad(lambda x: grad(lambda y: x * y)(w))(v) the inner gradient depends on x, which is no
    argument of the inner function.
    """
    own = {p._node for p in points}
    roots = [y._node for y in outputs if y._node is not None]
    return any(isinstance(node, Leaf) and node not in own for node in reachable(roots))


def _pull(
    outputs: list[Tensor],
    cotangents: list[Any],
    points: list[Tensor],
    *,
    create_graph: bool,
    retain_graph: bool = False,
) -> tuple[Tensor, ...]:
    """Gradients of the outputs by the points, zeros where there is no dependence."""
    connected = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not connected:
        return tuple(p.detach().zeros_like() for p in points)
    grads = autograd.grad(
        [y for y, _ in connected],
        points,
        [g for _, g in connected],
        retain_graph=retain_graph or create_graph,
        create_graph=create_graph,
        materialize_grads=True,
    )
    return tuple(g for g in grads if g is not None)


def value_and_grad(
    func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns (func(*args), gradient by the arguments numbered `argnums`).

    func returns a scalar tensor, or (scalar, anything) with has_aux.  Raises GradientError if the
    output is no scalar.
    """

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        if not args or max(numbers) >= len(args) or min(numbers) < -len(args):
            raise ArgumentError(
                "value_and_grad",
                f"argnums {argnums} with {len(args)} positional arguments",
                fix="number the positional arguments from 0",
            )
        trees = list(args)
        points: list[Tensor] = []
        recording = current().grad
        with enable_grad():
            for number in numbers:
                trees[number], new = _fresh(args[number], "value_and_grad")
                points += new
            result = func(*trees, **kwargs)
            value, aux = result if has_aux else (result, None)
            if not isinstance(value, Tensor) or value.numel() != 1:
                shape = value.shape if isinstance(value, Tensor) else type(value).__name__
                raise GradientError(
                    "grad",
                    f"the function returned {shape}, not a scalar",
                    fix="reduce it with .sum() or .mean()",
                )
            outer = recording and _has_outer([value], points)
            grads = _pull([value], [None], points, create_graph=outer)
        if not outer:
            value = value.detach()
        remaining = iter(grads)
        shaped = tuple(tree_map(lambda _: next(remaining), args[number]) for number in numbers)
        gradient = shaped[0] if isinstance(argnums, int) else shaped
        return ((value, aux), gradient) if has_aux else (value, gradient)

    return wrapped


def grad(
    func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the gradient of the scalar function `func` by its arguments `argnums`.

    With has_aux it returns (gradient, aux).
    """
    both = value_and_grad(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(func(*primals), pull): `pull(cotangent)` gives the cotangents of the primals, as a tuple.

    The cotangent has the structure of the output.  With has_aux, (output, pull, aux).
    """
    recording = current().grad
    with enable_grad():
        trees, points = _fresh(primals, "vjp")
        result = func(*trees)
    output, aux = result if has_aux else (result, None)
    outputs = [y for y in tree_leaves(output) if isinstance(y, Tensor)]
    outer = recording and _has_outer(outputs, points)

    def pull(
        *cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None
    ) -> tuple[Any, ...]:
        given = tree_leaves(cotangents[0] if len(cotangents) == 1 else cotangents)
        if len(given) != len(outputs):
            raise ArgumentError(
                "vjp", f"{len(given)} cotangents for {len(outputs)} outputs", fix="pass one for each output"
            )
        if create_graph is None:
            wanted = any(isinstance(g, Tensor) and g.requires_grad for g in given)
            create_graph = current().grad and (outer or wanted)
        grads = _pull(
            outputs, given, points, create_graph=create_graph, retain_graph=retain_graph or create_graph
        )
        remaining = iter(grads)
        shaped: tuple[Any, ...] = tree_map(lambda _: next(remaining), primals)
        return shaped

    shown = output if outer else tree_map(lambda y: y.detach() if isinstance(y, Tensor) else y, output)
    return (shown, pull, aux) if has_aux else (shown, pull)


def jvp(
    func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], *, has_aux: bool = False
) -> tuple[Any, ...]:
    """(func(*primals), J v): the derivative of the output in the direction of the tangents.

    The tangents have the structure and the shapes of the primals.  With has_aux, (output, J v, aux).
    Raises ArgumentError if they do not fit.
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise ArgumentError("jvp", "primals and tangents must be tuples", fix="write jvp(f, (x,), (v,))")
    recording = current().grad
    with enable_grad():
        trees, points = _fresh(primals, "jvp")
        directions = [v for v in tree_leaves(tangents) if isinstance(v, Tensor)]
        shapes = [p.shape for p in points], [v.shape for v in directions]
        if shapes[0] != shapes[1]:
            raise ArgumentError(
                "jvp",
                f"tangents of shapes {shapes[1]} for primals of {shapes[0]}",
                fix="give each its own shape",
            )
        result = func(*trees)
        output, aux = result if has_aux else (result, None)
        outputs = [y for y in tree_leaves(output) if isinstance(y, Tensor)]
        outer = recording and (_has_outer(outputs, points) or any(v.requires_grad for v in directions))
        us = [y.detach().zeros_like().requires_grad_() for y in outputs]
        pulled = _pull(outputs, us, points, create_graph=True)
        pushed = _pull(list(pulled), directions, us, create_graph=outer)
    remaining = iter(pushed)
    tangent = tree_map(lambda y: next(remaining) if isinstance(y, Tensor) else y, output)
    shown = output if outer else tree_map(lambda y: y.detach() if isinstance(y, Tensor) else y, output)
    return (shown, tangent, aux) if has_aux else (shown, tangent)


def _basis(t: Tensor) -> Tensor:
    """One unit vector for each element, in the shape of the tensor: (n, *shape)."""
    return wrap(np.eye(t.numel(), dtype=t.dtype).reshape(t.numel(), *t.shape))


def _floats(op: str, output: Any) -> list[Tensor]:
    tensors = tree_leaves(output)
    for y in tensors:
        if not isinstance(y, Tensor):
            raise DTypeError(op, f"the function returned a {type(y).__name__}", fix="return tensors")
    return tensors


def jacrev(
    func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the Jacobian by the arguments `argnums`: shape (*output.shape, *input.shape).

    Nests of outputs and inputs give a nest of outputs, each a nest of inputs.  One reverse sweep computes
    all rows: best where the outputs are fewer than the inputs.  With has_aux it returns (jacobian, aux).
    """

    @functools.wraps(func)
    def wrapped(*args: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        chosen = tuple(args[i] for i in numbers)

        def of_chosen(*given: Any) -> Any:
            full = list(args)
            for i, x in zip(numbers, given, strict=True):
                full[i] = x
            return func(*full)

        output, pull, *aux = vjp(of_chosen, *chosen, has_aux=has_aux)
        ys = _floats("jacobian", output)
        rows: list[Any] = []
        for k, y in enumerate(ys):
            zeros = [other.zeros_like() for other in ys]

            def row(u: Tensor, k: int = k, zeros: list[Tensor] = zeros) -> Any:
                cotangents = [u if i == k else zero for i, zero in enumerate(zeros)]
                remaining = iter(cotangents)
                return pull(tree_map(lambda _: next(remaining), output))

            rows.append(_unfolded(vmap(row)(_basis(y)), y, isinstance(argnums, int)))
        if not any(y.requires_grad for y in ys):  # the sweep is connected to the point that vjp made
            rows = tree_map(lambda row: row.detach(), rows)
        remaining = iter(rows)
        jacobian = tree_map(lambda _: next(remaining), output)
        return (jacobian, aux[0]) if has_aux else jacobian

    return wrapped


def _unfolded(grads: tuple[Any, ...], y: Tensor, single: bool) -> Any:
    """Gradients of all elements of y, whose first dimension becomes those of y."""
    shaped = tree_map(lambda g: g.reshape(*y.shape, *g.shape[1:]), grads)
    return shaped[0] if single else shaped


def jacfwd(
    func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """`jacrev` by columns, J times each unit vector: best where the inputs are fewer than the outputs."""

    @functools.wraps(func)
    def wrapped(*args: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        chosen = tuple(args[i] for i in numbers)
        xs = _floats("jacobian", chosen)
        aux: list[Any] = []

        def of_chosen(*given: Any) -> Any:
            full = list(args)
            for i, x in zip(numbers, given, strict=True):
                full[i] = x
            result = func(*full)
            if has_aux:
                aux[:] = [result[1]]
                return result[0]
            return result

        columns: list[list[Tensor]] = []  # by input, by output
        output: Any = None
        for k, x in enumerate(xs):

            def column(v: Tensor, k: int = k) -> Any:
                directions = iter([v if i == k else other.zeros_like() for i, other in enumerate(xs)])
                return jvp(of_chosen, chosen, tree_map(lambda _: next(directions), chosen))[1]

            output = vmap(column, out_dims=-1)(_basis(x))
            columns.append([c.reshape(*c.shape[:-1], *x.shape) for c in _floats("jacobian", output)])

        def of_output(j: int) -> Any:
            own = iter([parts[j] for parts in columns])
            nest: Any = tree_map(lambda _: next(own), chosen)
            return nest[0] if isinstance(argnums, int) else nest

        counter = iter(range(len(columns[0])))
        jacobian = tree_map(lambda _: of_output(next(counter)), output)
        if not has_aux:
            return jacobian
        with_values = func(*args)  # those seen inside vmap belong to examples that are over
        return jacobian, with_values[1]

    return wrapped


jacobian = jacrev


def hessian(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns the second derivatives of a scalar function: (*input.shape, *input.shape)."""
    return jacfwd(jacrev(func, argnums), argnums)


def hvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """(func(*primals), H v) for a scalar function, at the price of about four evaluations, without H.

    H v has the structure of the primals.  Reference: Pearlmutter 1994, "Fast exact multiplication by the
    Hessian"; here as the gradient of <gradient, v>.
    """
    numbers = tuple(range(len(primals)))

    def along(*xs: Any) -> Tensor:
        gradient = grad(func, numbers)(*xs)
        pairs = zip(tree_leaves(gradient), tree_leaves(tangents), strict=True)
        total: Any = 0.0
        for g, v in pairs:
            total = total + (g * v).sum()
        return total  # type: ignore[no-any-return]

    product = grad(along, numbers)(*primals)
    value = func(*primals)
    return (value.detach() if not current().grad else value), product


def grad_and_value(
    func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """`value_and_grad` in PyTorch's order: (gradient, value), or (gradient, (value, aux)) with has_aux."""
    both = value_and_grad(func, argnums, has_aux)

    @functools.wraps(func)
    def exchanged(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return gradient, value

    return exchanged


@contextmanager
def _swapped(module: Any, tensors: dict[str, Tensor], tie_weights: bool, strict: bool) -> Iterator[None]:
    own: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    own |= dict(module.named_buffers(remove_duplicate=False))
    unknown = sorted(set(tensors) - set(own))
    if unknown:
        raise ArgumentError(
            "functional_call",
            f"the module has no {', '.join(unknown)}",
            fix="use names of named_parameters()",
        )
    if strict and set(own) - set(tensors):
        missing = sorted(set(own) - set(tensors))
        raise ArgumentError("functional_call", f"{', '.join(missing)} not given", fix="pass strict=False")
    places = dict(tensors)
    if tie_weights:  # one tensor under several names is replaced under all of them
        for name, value in tensors.items():
            for other, held in own.items():
                if held is own[name] and other not in tensors:
                    places[other] = value
    before = []
    try:
        for name, value in places.items():
            path, _, last = name.rpartition(".")
            holder = vars(module.get_submodule(path))
            before.append((holder, last, holder[last]))
            holder[last] = value
        yield
    finally:
        for holder, last, value in reversed(before):
            holder[last] = value


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """What a module computes with other tensors in the place of (some of) its parameters and buffers.

    args: a tuple of arguments, or a single one.  tie_weights: a tensor that the module holds under several
    names is replaced under all of them.  strict: every name must be given.  The module is as before when this
    returns; what its forward writes into a buffer is written into the tensor given for it.  Raises
    ArgumentError for names that it does not have.

    With `grad` and `vmap` that gives gradients with respect to parameters, of each example, or of a step:

        >>> import minigrad as mg
        >>> net = mg.nn.Linear(2, 1)
        >>> parameters = dict(net.named_parameters())
        >>> loss = lambda p, x: functional_call(net, p, (x,)).sum()
        >>> vmap(grad(loss), in_dims=(None, 0))(parameters, mg.ones(3, 2))["weight"].shape
        (3, 1, 2)
    """
    given = parameter_and_buffer_dicts
    dicts = [given] if isinstance(given, dict) else list(given)
    tensors = {name: t for d in dicts for name, t in d.items()}
    if sum(map(len, dicts)) != len(tensors):
        raise ArgumentError("functional_call", "a name is in two of the dicts", fix="give each name once")
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    with _swapped(module, tensors, tie_weights, strict):
        return module(*arguments, **(kwargs or {}))


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of models of one architecture, each stacked: an ensemble for `vmap`."""
    from .ops.movement import stack

    if not models:
        raise ArgumentError("stack_module_state", "there are no models", fix="pass at least one")
    tables = []
    for what in ("named_parameters", "named_buffers"):
        each = [dict(getattr(m, what)()) for m in models]
        if any(e.keys() != each[0].keys() for e in each):
            raise ArgumentError("stack_module_state", "the models differ", fix="pass models of one class")
        grads = what == "named_parameters"
        tables.append(
            {
                k: stack([e[k].detach() for e in each]).requires_grad_(grads and each[0][k].requires_grad)
                for k in each[0]
            }
        )
    return tables[0], tables[1]
