"""Gradient checkpointing: forget what a piece of the forward pass computed, and compute it again in backward.

A network of n layers keeps n layers' results for its backward pass.  Cut into pieces that are
checkpointed, it keeps the inputs of the pieces only, and while backward is in a piece the results of
that piece: about 2 sqrt(n) for sqrt(n) pieces, at the price of a second forward pass (Chen et al. 2016,
arXiv 1604.06174).

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> y = checkpoint(lambda x: (x * w).exp(), x)
    >>> y.sum().backward()
    >>> w.grad.numpy().round(2)
    array([  20.09, 5961.92], dtype=float32)

The piece is any function of tensors.  What it closes over, such as the parameters of a layer, gets its
gradient too: it is found by looking at what the results depend on.  Random numbers are the same the
second time, as the generator is set back for the while.

Left out: PyTorch's reentrant variant, which cannot see what a function closes over.  Inside a trace the
function is simply called: there, lifetimes are planned, and `cse` would find the second forward pass
to be the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import autograd, tape
from .errors import ArgumentError
from .mode import current, enable_grad
from .random import get_rng_state, set_rng_state
from .tensor import Tensor, wrap

__all__ = ["checkpoint"]


class _Piece:
    """A function with its arguments, of which the tensors are given anew each time."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.function, self.kwargs = function, kwargs
        self.template = [None if isinstance(a, Tensor) else (a,) for a in args]
        self.outputs: list[Tensor] = []
        self.single = True

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        remaining = iter(tensors)
        args = [next(remaining) if t is None else t[0] for t in self.template]
        result = self.function(*args, **self.kwargs)
        self.single = not isinstance(result, (tuple, list))
        outputs = [result] if self.single else list(result)
        if not all(isinstance(y, Tensor) for y in outputs):
            kinds = ", ".join(type(y).__name__ for y in outputs)
            raise ArgumentError(
                "checkpoint", f"the function returned {kinds}", fix="return tensors, or a tuple of them"
            )
        return outputs


def _fresh(tensors: list[Tensor]) -> list[Tensor]:
    """The same values as points of their own, where gradients are wanted."""
    return [t.detach().requires_grad_() if t.requires_grad else t for t in tensors]


def _closed_over(outputs: list[Tensor], own: list[Tensor], start: int) -> list[tape.Node]:
    """Where the history of the outputs leaves the piece: nodes older than `start`, and leaves."""
    mine = {t._node for t in own}
    stack = [y._node for y in outputs if y._node is not None]
    seen = set(stack)
    found = []
    while stack:
        node = stack.pop()
        if node in mine:
            continue
        if node.number < start:  # the number of a leaf is 0
            found.append(node)
            continue
        for parent in node.inputs:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(found, key=lambda node: node.number)


def _handle(node: tape.Node) -> Tensor:
    """A tensor to ask for the gradient of a node; it has no values of its own."""
    return wrap(np.broadcast_to(np.zeros((), node.dtype), node.shape), node)


class _Checkpoint(autograd.Function):
    """The piece as one node of the tape."""

    @staticmethod
    def forward(ctx: Any, piece: _Piece, count: int, state: Any, *tensors: Tensor) -> Any:
        ctx.piece, ctx.count, ctx.state = piece, count, state
        ctx.save_for_backward(*tensors)
        outputs, piece.outputs = [y.detach() for y in piece.outputs], []
        return outputs[0] if piece.single else tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        again = current().grad  # a derivative of the derivative is wanted: stay connected
        tensors = list(ctx.saved_tensors)
        own, handles = tensors[: ctx.count], tensors[ctx.count :]
        points = own if again else _fresh(own)
        now = get_rng_state()
        if ctx.state is not None:
            set_rng_state(ctx.state)
        try:
            with enable_grad():
                outputs = ctx.piece(points)
        finally:
            set_rng_state(now)
        pairs = [(y, g) for y, g in zip(outputs, grads, strict=True) if y.requires_grad]
        wanted = [t for t in (*points, *handles) if t.requires_grad]
        roots = autograd._roots("checkpoint", [y for y, _ in pairs], [g for _, g in pairs])
        targets: dict[tape.Node, Any] = {t._node: None for t in wanted}
        # What lies beyond is the outer sweep's: it must not be counted, or freed, here.
        found = tape.sweep(roots, targets, retain_graph=again, create_graph=again, stop=True)
        gradients = (found.get(t._node) if t._node is not None else None for t in (*points, *handles))
        return (None, None, None, *gradients)


def checkpoint(
    function: Callable[..., Any], *args: Any, preserve_rng_state: bool = True, **kwargs: Any
) -> Any:
    """`function(*args, **kwargs)`, of which backward computes the intermediate results again.

    The function returns a tensor or a tuple of tensors and must compute the same the second time; random
    numbers of the default generator are the same unless `preserve_rng_state` is False.  Gradients flow to
    the arguments and to everything that the function closes over, of any order.
    Raises ArgumentError if it returns something else.
    """
    mode = current()
    if mode.trace is not None or not mode.grad:
        return function(*args, **kwargs)
    own = [a for a in args if isinstance(a, Tensor)]
    piece = _Piece(function, args, kwargs)
    state = get_rng_state() if preserve_rng_state else None
    start = tape._number()
    points = _fresh(own)
    piece.outputs = piece(points)
    handles = [_handle(node) for node in _closed_over(piece.outputs, points, start)]
    if not any(t.requires_grad for t in (*own, *handles)):
        return piece.outputs[0] if piece.single else tuple(piece.outputs)
    del points
    return _Checkpoint.apply(piece, len(own), state, *own, *handles)
