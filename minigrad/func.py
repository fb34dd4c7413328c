"""Derivatives as functions of functions.

    grad(f)(x)                 the gradient of a scalar function
    value_and_grad(f)(x)       both, for the price of one
    vjp(f, x)                  f(x), and the function u -> u^T J

    >>> import minigrad as mg
    >>> grad(lambda x: (x ** 3).sum())(mg.tensor([1.0, 2.0]))
    tensor([ 3., 12.])
    >>> grad(grad(lambda x: x ** 3))(mg.tensor(2.0))
    tensor(12.)

They nest: what one of them returns can be differentiated by the next.  Arguments may be tensors or
nests of tensors (see `minigrad.tree`); gradients have the same structure.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import autograd
from .errors import ArgumentError, DTypeError, GradientError
from .mode import current, enable_grad
from .tape import Leaf, reachable
from .tensor import Tensor
from .tree import tree_leaves, tree_map

__all__ = ["grad", "value_and_grad", "vjp"]


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
