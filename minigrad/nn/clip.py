"""Clipping: gradients that are too long are shortened before the optimizer sees them.

    by norm     g  <-  g * min(1, max_norm / (|g| + 1e-6)),   |g| over all parameters together
    by value    g  <-  min(max(g, -clip_value), clip_value)   for each element

The first keeps the direction, and is what recurrent networks need: their gradients grow exponentially with
the length of the sequence where the loss has a cliff.  Call it between `backward()` and `step()`; it works
in a compiled step too.

    >>> import minigrad as mg
    >>> p = mg.zeros(2, requires_grad=True)
    >>> (p * mg.tensor([30.0, 40.0])).sum().backward()
    >>> clip_grad_norm_([p], max_norm=1.0), p.grad
    (tensor(50.), tensor([0.6, 0.8]))

`torch.nn.utils` has these functions, so `minigrad.nn.utils` is another name for this module.

References: Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..errors import ArgumentError, DTypeError, GradientError, ShapeError
from ..mode import current
from ..ops.elementwise import abs as abs_
from ..ops.elementwise import clamp
from ..ops.movement import cat, stack
from ..ops.reduction import amax, amin
from ..ops.reduction import sum as sum_
from ..tensor import Symbol, Tensor


def _listed(op: str, tensors: Any) -> list[Tensor]:
    found = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    for t in found:
        if not isinstance(t, Tensor):
            raise DTypeError(op, f"a parameter is a {type(t).__name__}", fix="pass model.parameters()")
    return found


def get_total_norm(
    tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """The norm of all elements of all tensors together, 0-d; norm_type may be infinite.

    Raises GradientError for a norm that is NaN or infinite, if error_if_nonfinite.
    """
    kind = float(norm_type)
    if math.isnan(kind):
        raise ArgumentError("get_total_norm", f"norm_type is {norm_type!r}", fix="choose a number, or inf")
    with no_grad():
        norms = [_norm(t.detach(), kind) for t in _listed("get_total_norm", tensors)]
        total = Tensor(0.0) if not norms else norms[0] if len(norms) == 1 else _norm(stack(norms), kind)
        if error_if_nonfinite:
            value = total.item()
            if not math.isfinite(value):
                raise GradientError(
                    "clip_grad_norm_",
                    f"the total norm of the gradients is {value}, so they cannot be clipped",
                    fix="look for the loss that is not finite (autograd.detect_anomaly finds the operation), "
                    "or pass error_if_nonfinite=False",
                )
    return total


def _norm(x: Tensor, kind: float) -> Tensor:
    if kind == 2.0:
        return sum_(x * x).sqrt()
    sizes = abs_(x)
    if math.isinf(kind):
        return amax(sizes) if kind > 0 else amin(sizes)
    if kind == 0.0:
        return sum_((sizes != 0.0).to(x.dtype))
    if kind == 1.0:
        return sum_(sizes)
    return sum_(sizes**kind) ** (1.0 / kind)


def _norm_of_parameters(parameters: list[Any], norm_type: float, error_if_nonfinite: bool) -> Tensor:
    """The norm of their gradients; of a parameter that is a part (see `distributed.tensor_parallel`), with
    those of all other parts, which other processes have."""
    groups: dict[int, tuple[Any, list[Any]]] = {}
    grads: list[Any] = []
    for p in parameters:
        shard = getattr(p, "shard", None)
        if shard is None:
            grads.append(p.grad)
        else:
            groups.setdefault(id(shard.group), (shard.group, []))[1].append(p.grad)
    for group, parts in groups.values():
        from ..ops.collective import gather_from

        own = get_total_norm(parts, norm_type).reshape(1)
        grads.append(gather_from(own, group, 0))
    return get_total_norm(grads, norm_type, error_if_nonfinite)


def clip_grads_with_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor) -> None:
    """Scale gradients so that a norm of `total_norm` becomes at most `max_norm`."""
    _limit("clip_grads_with_norm_", "max_norm", max_norm)
    with no_grad():
        factor = clamp(float(max_norm) / (total_norm + 1e-6), max=1.0)
        for p in _listed("clip_grads_with_norm_", parameters):
            if p.grad is not None:
                _replace(p, p.grad.detach() * factor.to(p.dtype))


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale the gradients of all parameters together to a norm of at most `max_norm`, in place.

    Returns the norm before, 0-d.  Parameters without a gradient are passed over.  A norm that is not
    finite makes every gradient NaN or zero, as in PyTorch, or with error_if_nonfinite raises GradientError
    and changes nothing; in a compiled step, where the norm is not known yet, that option is a TraceError.
    """
    _limit("clip_grad_norm_", "max_norm", max_norm)
    found = [p for p in _listed("clip_grad_norm_", parameters) if p.grad is not None]
    total = _norm_of_parameters(found, norm_type, error_if_nonfinite)
    clip_grads_with_norm_(found, max_norm, total)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Keep every element of the gradients between -clip_value and clip_value, in place."""
    _limit("clip_grad_value_", "clip_value", clip_value)
    with no_grad():
        for p in _listed("clip_grad_value_", parameters):
            if p.grad is not None:
                _replace(p, clamp(p.grad.detach(), -float(clip_value), float(clip_value)))


def _limit(op: str, name: str, value: Any) -> None:
    if isinstance(value, (bool, Tensor)) or not isinstance(value, (int, float, np.number)) or not value >= 0:
        raise ArgumentError(op, f"{name} is {value!r}", fix="choose a number of at least 0")


def _replace(p: Tensor, value: Tensor) -> None:
    """Make `value` the gradient: in the memory of the old one where that has nothing to do with a graph."""
    grad = p.grad
    if (
        grad is None
        or current().trace is not None
        or isinstance(grad._array, Symbol)
        or grad._node is not None
    ):
        p.grad = value
    else:
        grad._array[...] = value._array
        grad._touch()


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened and laid end to end; differentiable."""
    return cat([p.reshape(-1) for p in _listed("parameters_to_vector", parameters)])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write such a vector back.  Raises ShapeError if it is of another length."""
    found = _listed("vector_to_parameters", parameters)
    count = sum(p.numel() for p in found)
    if vec.shape != (count,):
        raise ShapeError(
            "vector_to_parameters",
            f"a vector of shape {vec.shape} for {count} elements",
            fix="make it with parameters_to_vector",
        )
    stop = 0
    with no_grad():
        for p in found:
            start, stop = stop, stop + p.numel()
            p.assign(vec.detach()[start:stop].reshape(p.shape))


__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
    "parameters_to_vector",
    "vector_to_parameters",
]
