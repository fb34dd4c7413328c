"""Connectionist temporal classification: the probability of a label sequence, however it is aligned.

A network says, at each of T times, how probable each class is, one class being *blank*.  A path (one class
a time) spells a sequence: repeated classes count once, then blanks go.  The probability of a sequence l is
the sum over all paths that spell it, and there are exponentially many; but they can be summed from left to
right (Graves et al. 2006, section 4.1).  Put blanks between and around the labels, l' = (-, l1, -, l2, -).
With p_t(k) the log-probability of class k and alpha_t(s) that of all beginnings that end in l'_s,

    alpha_t(s) = p_t(l'_s) + log(exp alpha_{t-1}(s) + exp alpha_{t-1}(s-1) + exp alpha_{t-1}(s-2))

where the last term, which skips a blank, is there only if l'_s is a label other than l'_{s-2}.  The loss is

    L = -log(exp alpha_T(S) + exp alpha_T(S-1))

With beta the same from the right, alpha_t(s) + beta_t(s) - p_t(l'_s) + L is the log-probability that a path
which spells l is at s at time t, and summed over all s of one class it is the gradient:

    dL / dp_t(k) = - sum over s with l'_s = k of exp(alpha_t(s) + beta_t(s) - p_t(k) + L)

Everything is in logarithms, so nothing underflows, and runs over all s and the whole batch at once: only
time is a loop.

    >>> import math
    >>> import minigrad as mg
    >>> p = mg.full((2, 1, 2), math.log(0.5))              # two times, a blank and one label: 4 paths
    >>> loss = ctc(p, mg.tensor([[1]]), mg.tensor([2]), mg.tensor([1]), 0)
    >>> round(math.exp(-loss.item()), 6)                   # -a, a-, aa spell "a"
    0.75

This is the derivative by the log-probabilities as they stand.  torch's is the one by the logits under a
log_softmax, written to the log-probabilities; under a log_softmax both give the same.  A sequence that is
impossible (more labels than times) has the loss Inf and the gradient 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..bind import primitive
from ..errors import ArgumentError, DTypeError, OutOfRangeError, Refusal
from ..ir import Spec, is_float
from ..tensor import Tensor, wrap
from .creation import ones
from .derived import partial
from .elementwise import where
from .indexing import gather, getitem
from .movement import _reshape, broadcast_to, cat, slice_dim, stack
from .reduction import _sum, logsumexp


def _ctc_shape(log_probs: Spec, targets: Spec, input_lengths: Spec, target_lengths: Spec, blank: int) -> Spec:
    if not is_float(log_probs.dtype):
        raise Refusal(f"log-probabilities of {log_probs.dtype}", "convert with .float()", DTypeError)
    if any(s.dtype.kind not in "iu" for s in (targets, input_lengths, target_lengths)):
        raise Refusal("targets and lengths that are no integers", "use .long()", DTypeError)
    if len(log_probs.shape) != 3 or len(targets.shape) != 2:
        raise Refusal(
            f"shapes {log_probs.shape} and {targets.shape}",
            "they are (time, batch, classes), (batch, labels)",
        )
    batch = log_probs.shape[1:2]
    if not batch == targets.shape[:1] == input_lengths.shape == target_lengths.shape:
        raise Refusal(
            f"targets {targets.shape} and lengths {input_lengths.shape}, {target_lengths.shape} "
            f"for a batch of {batch[0]}",
            "give each sequence its own",
        )
    if not 0 <= blank < log_probs.shape[2]:
        raise Refusal(f"blank {blank} of {log_probs.shape[2]} classes", "use one of them", OutOfRangeError)
    return Spec(batch, log_probs.dtype)


def _extended(p: Any, targets: Any, times: Any, counts: Any, blank: int) -> tuple[Any, Any]:
    """The labels with blanks (batch, S), and where a path may skip the blank before."""
    time, _, classes = p.shape
    longest = targets.shape[1]
    if times.size and (times.min() < 0 or times.max() > time):
        raise Refusal(f"input_lengths {times.tolist()} of {time} times", f"use 0 to {time}", ArgumentError)
    if counts.size and (counts.min() < 0 or counts.max() > longest):
        raise Refusal(
            f"target_lengths {counts.tolist()} of {longest} labels", f"use 0 to {longest}", ArgumentError
        )
    used = np.arange(longest) < counts[:, None]
    wrong = used & ((targets < 0) | (targets >= classes))
    if wrong.any():
        raise Refusal(
            f"the label {targets[wrong].flat[0]} of {classes} classes",
            f"use 0 to {classes - 1}",
            OutOfRangeError,
        )
    labels = np.full((len(targets), 2 * longest + 1), blank, np.int64)
    labels[:, 1::2] = np.where(used, targets, blank)
    skips = np.zeros(labels.shape, bool)
    skips[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return labels, skips


def _forward(p: Any, labels: Any, skips: Any, times: Any, counts: Any) -> tuple[Any, Any, Any]:
    """(p at the labels, alpha, loss); alpha is (time, batch, S)."""
    time, batch, _ = p.shape
    at = np.take_along_axis(p, np.broadcast_to(labels, (time, *labels.shape)), 2) if time else p[:, :, :0]
    alpha = np.full((time, *labels.shape), -np.inf, p.dtype)
    if time:
        alpha[0, :, :2] = at[0, :, :2]
    no_skip = np.where(skips, p.dtype.type(0), p.dtype.type(-np.inf))
    for t in range(1, time):
        before, now = alpha[t - 1], alpha[t]
        now[...] = before
        np.logaddexp(now[:, 1:], before[:, :-1], out=now[:, 1:])
        np.logaddexp(now[:, 2:], before[:, :-2] + no_skip[:, 2:], out=now[:, 2:])
        now += at[t]
    rows = np.arange(batch)
    if time:
        last = alpha[np.maximum(times - 1, 0), rows]
        final = last[rows, 2 * counts]
        before = np.where(counts > 0, last[rows, np.maximum(2 * counts - 1, 0)], -np.inf)
        total = np.logaddexp(final, before.astype(p.dtype))
    else:
        total = np.zeros(batch, p.dtype)
    nothing = np.where(counts == 0, 0.0, -np.inf).astype(p.dtype)  # no time at all spells nothing
    return at, alpha, -np.where(times == 0, nothing, total)


def _ctc_kernel(p: Any, targets: Any, times: Any, counts: Any, blank: int) -> Any:
    labels, skips = _extended(p, targets, times, counts, blank)
    return _forward(p, labels, skips, times, counts)[2]


def _ctc_grad_kernel(grad: Any, p: Any, targets: Any, times: Any, counts: Any, blank: int) -> Any:
    labels, skips = _extended(p, targets, times, counts, blank)
    at, alpha, loss = _forward(p, labels, skips, times, counts)
    time, batch, _ = p.shape
    gx = np.zeros(p.shape, p.dtype)
    if not time or not batch:
        return gx
    rows = np.arange(batch)
    start = np.full(labels.shape, -np.inf, p.dtype)
    start[rows, 2 * counts] = 0.0
    start[rows, np.maximum(2 * counts - 1, 0)] = 0.0
    no_skip = np.where(skips, p.dtype.type(0), p.dtype.type(-np.inf))
    offset = np.where(np.isfinite(loss), loss, -np.inf)[:, None].astype(p.dtype)
    beta = np.full(labels.shape, -np.inf, p.dtype)  # without p at its own time: alpha has that
    places = (rows[:, None], labels)
    for t in range(time - 1, -1, -1):
        if t < time - 1:
            after = beta + at[t + 1]
            beta = after.copy()
            np.logaddexp(beta[:, :-1], after[:, 1:], out=beta[:, :-1])
            np.logaddexp(beta[:, :-2], after[:, 2:] + no_skip[:, 2:], out=beta[:, :-2])
        beta = np.where((times - 1 == t)[:, None], start, beta)
        np.add.at(gx[t], places, -np.exp(alpha[t] + beta + offset))
    gx *= grad[:, None]
    return gx


# -- the rule of the gradient -------------------------------------------------------------------------

_NEVER = -1e30  # a logarithm of nothing that can be added and subtracted


def _composed(p: Tensor, targets: Tensor, times: Tensor, counts: Tensor, blank: int) -> Tensor:
    """The loss of every sequence, written in operations."""
    time, batch, _ = p.shape
    longest = targets.shape[1]
    used = wrap(np.arange(longest)[None, :]) < _reshape(counts, (batch, 1))
    plain = where(used, targets, Tensor(blank, targets.dtype))
    blanks = Tensor(np.full((batch, longest), blank, np.int64))
    labels = _reshape(stack([blanks, plain], 2), (batch, 2 * longest))
    labels = cat([labels, Tensor(np.full((batch, 1), blank, np.int64))], 1)
    size = 2 * longest + 1
    at = gather(p, 2, broadcast_to(labels, (time, batch, size)))

    def column(width: int) -> Tensor:
        return Tensor(np.full((batch, width), _NEVER, p.dtype))

    first = Tensor(np.where(np.arange(size) < 2, 0.0, _NEVER).astype(p.dtype))
    alpha = [at[0] + first]
    if size > 2:
        own, other = slice_dim(labels, 1, 2, size), slice_dim(labels, 1, 0, size - 2)
        skips = where((own != blank) & (own != other), Tensor(0.0, p.dtype), Tensor(_NEVER, p.dtype))
    for t in range(1, time):
        before = alpha[-1]
        ways = [before, cat([column(1), slice_dim(before, 1, 0, size - 1)], 1)]
        if size > 2:
            ways.append(cat([column(2), slice_dim(before, 1, 0, size - 2) + skips], 1))
        alpha.append(logsumexp(stack(ways, 0), 0) + at[t])
    rows = Tensor(np.arange(batch))
    last = getitem(stack(alpha, 0), (where(times > 0, times - 1, 0), rows))
    places = Tensor(np.arange(size)[None, :])
    ends = _reshape(counts * 2, (batch, 1))
    final = (places == ends) | (places == ends - 1)
    total = logsumexp(where(final, last, _NEVER), 1)
    possible = (total > 0.5 * _NEVER) & (times > 0)
    return where(possible, -total, 0.0)


def _first(p: Tensor, targets: Tensor, times: Tensor, counts: Tensor, blank: int) -> Tensor:
    """The gradient of the sum of the losses: that of each sequence, as none depends on another's."""
    g = ones(p.shape[1], dtype=p.dtype)
    return partial(lambda q: _composed(q, targets, times, counts, blank), (p,), g, 0)


def _ctc_second(
    g: Tensor,
    grad: Tensor,
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
) -> Tensor:
    cotangent = g * _reshape(grad, (1, grad.shape[0], 1))
    return partial(
        lambda p: _first(p, targets, input_lengths, target_lengths, blank), (log_probs,), cotangent, 0
    )


def _samples(rng: Any) -> list[Any]:
    def case(time: int, classes: int, targets: Any, times: Any, counts: Any, blank: int) -> Any:
        p = rng.normal(size=(time, len(targets), classes))
        return (p, np.array(targets, np.int64), np.array(times), np.array(counts)), (blank,)

    return [
        case(5, 4, [[1, 2], [3, 3], [2, 0]], [5, 4, 3], [2, 2, 1], 0),
        case(4, 3, [[0, 1]], [4], [2], 2),
        case(3, 3, [[], []], [3, 2], [0, 0], 0),
    ]


def _reference(p: Any, targets: Any, times: Any, counts: Any, blank: int) -> Any:
    """All paths, one by one."""
    import itertools

    losses = []
    for n in range(p.shape[1]):
        total, wanted = 0.0, tuple(targets[n][: counts[n]])
        for path in itertools.product(range(p.shape[2]), repeat=int(times[n])):
            spelled = tuple(k for i, k in enumerate(path) if k != blank and (i == 0 or path[i - 1] != k))
            if spelled == wanted:
                total += np.exp(sum(p[t, n, k] for t, k in enumerate(path)))
        losses.append(-np.log(total))
    return np.array(losses)


ctc: Callable[..., Tensor] = primitive(
    "ctc",
    kind="opaque",
    inputs=("log_probs", "targets", "input_lengths", "target_lengths"),
    attrs=("blank",),
    kernel=_ctc_kernel,
    shape=_ctc_shape,
    vjp=(
        lambda g, log_probs, targets, input_lengths, target_lengths, blank: _ctc_grad(
            g, log_probs, targets, input_lengths, target_lengths, blank
        ),
        None,
        None,
        None,
    ),
    samples=_samples,
    reference=_reference,
    error=64.0,
    traits={"refuses": True},
    doc="-log of the probability of all paths that spell the targets",
)


def _grad_shape(grad: Spec, log_probs: Spec, *rest: Any) -> Spec:
    if grad != _ctc_shape(log_probs, *rest):
        raise Refusal(f"a cotangent {grad}", "give one number a sequence")
    return log_probs


_ctc_grad: Callable[..., Tensor] = primitive(
    "ctc_grad",
    kind="opaque",
    inputs=("grad", "log_probs", "targets", "input_lengths", "target_lengths"),
    attrs=("blank",),
    kernel=_ctc_grad_kernel,
    shape=_grad_shape,
    vjp=(
        lambda g, log_probs, targets, input_lengths, target_lengths, blank: _sum(
            g
            * _ctc_grad(
                ones(log_probs.shape[1], dtype=log_probs.dtype),
                log_probs,
                targets,
                input_lengths,
                target_lengths,
                blank,
            ),
            (0, 2),
            False,
        ),
        _ctc_second,
        None,
        None,
        None,
    ),
    samples=lambda rng: [
        ((rng.normal(size=inputs[0].shape[1]), *inputs), attrs) for inputs, attrs in _samples(rng)
    ],
    error=64.0,
    traits={"refuses": True},
    doc="the gradient of ctc: minus how probable each class is at each time, given the targets",
)

__all__ = ["ctc"]
