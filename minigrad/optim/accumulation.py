"""Gradients of more than fits into memory: added up batch by batch.

The mean loss over N examples, cut into batches B_1, ..., B_k, is a weighted mean of the batches' mean
losses, and so is its gradient:

    grad L  =  sum over i of  |B_i| / N  grad L_i

`backward` adds to what is there, so that is a loop, and all it takes is the right weights.  PyTorch's
idiom, `(loss / k).backward()` k times before one `step()`, is the case of equal batches.

    >>> import minigrad as mg
    >>> w = mg.zeros(1, requires_grad=True)
    >>> x = mg.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> loss = accumulate(lambda x: ((w - x) ** 2).mean(), x.split(2), [w])
    >>> loss.item(), w.grad                            # as in one pass: mean(x^2) and -2 mean(x)
    (11.0, tensor([-6.]))

In a compiled program the same works: a step that only calls `backward` leaves its gradients, and the call
after it adds to them.  (It is traced twice: once with gradients to add to, once without.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ArgumentError, GradientError
from ..tensor import Tensor
from .base import Optimizer, clear_grad


def accumulate(
    loss_fn: Callable[..., Tensor],
    batches: Iterable[Any],
    parameters: Iterable[Tensor] | Optimizer | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Leave the gradient of the loss over all batches in `.grad`, and return that loss, 0-d.

    loss_fn: called with a batch (the parts of a tuple or list as arguments), returns the mean loss over
    its examples, 0-d, or their sum with reduction "sum".  batches: an iterable of tensors, or of tuples of
    tensors with the examples along the first dimension.  parameters: whose gradients to clear first (or an
    optimizer, for all of its); None to add to what is there.

    What depends on the whole batch in other ways (batch norm) is measured batch by batch.
    Raises ArgumentError if there are no batches, GradientError if the loss is not 0-d.
    """
    if reduction not in ("mean", "sum"):
        raise ArgumentError("accumulate", f"there is no reduction {reduction!r}", fix="use mean or sum")
    if isinstance(parameters, Optimizer):
        parameters = [p for group in parameters.param_groups for p in group["params"]]
    found = [] if parameters is None else list(parameters)
    for p in found:
        clear_grad(p, True)
    listed = [batch if isinstance(batch, (tuple, list)) else (batch,) for batch in batches]
    sizes = [len(batch[0]) for batch in listed]
    if not sum(sizes):
        raise ArgumentError("accumulate", "there are no examples", fix="an iterator can be used up only once")
    total: Tensor | None = None
    for batch, size in zip(listed, sizes, strict=True):
        loss = loss_fn(*batch)
        if loss.ndim:
            raise GradientError(
                "accumulate", f"the loss has shape {loss.shape}", fix="return its mean over the batch"
            )
        part = loss * (size / sum(sizes)) if reduction == "mean" else loss
        part.backward()
        total = part.detach() if total is None else total + part.detach()
    assert total is not None
    return total


__all__ = ["accumulate"]
