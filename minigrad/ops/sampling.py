"""Drawing from distributions that are given by numbers.

`multinomial` draws places in proportion to weights w.  One place with replacement is found by turning the
running sums of the weights round: of a uniform u, the first k with w_0 + ... + w_k > u sum(w).  Without
replacement it is a race: runner i needs a time E_i / w_i, E_i exponential, and the order in which they
arrive is that of drawing one after the other, each in proportion to the weights that are left
(Efraimidis & Spirakis 2006, doi 10.1016/j.ipl.2005.11.003).

    >>> import minigrad as mg
    >>> _ = mg.manual_seed(0)
    >>> mg.multinomial(mg.tensor([0.0, 3.0, 0.0]), 4, replacement=True)
    tensor([1, 1, 1, 1])
    >>> mg.multinomial(mg.tensor([[1.0, 2.0, 4.0]]), 3).sort()[0]
    tensor([[0, 1, 2]])

Everything is made of `rand` and other operations, so it can be traced; results are integers or are
written into memory, so there is no gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bind import method
from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir import float64, is_float
from ..mode import no_grad
from ..random import Generator
from ..tensor import Symbol, Tensor
from .creation import bernoulli, copy_, rand, randint
from .elementwise import cast, log, log1p, minimum
from .indexing import topk
from .movement import slice_dim
from .reduction import cumsum

__all__ = ["multinomial", "randint_like"]


@method("multinomial")
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Places drawn in proportion to weights (k,) or (rows, k): int64 (num_samples,) or (rows, num_samples).

    The weights need not sum to 1.  Raises ArgumentError for negative or infinite weights, a row without a
    positive one, and more samples than positive weights unless `replacement` (in a trace, where values are
    not known yet, only for more than k).
    """
    if not is_float(input.dtype):
        raise DTypeError("multinomial", f"weights of dtype {input.dtype}", fix="convert with .float()")
    if input.ndim not in (1, 2):
        raise ShapeError("multinomial", f"weights of shape {input.shape}", fix="pass (k,) or (rows, k)")
    if isinstance(num_samples, bool) or not isinstance(num_samples, (int, np.integer)) or num_samples < 1:
        raise ArgumentError("multinomial", f"num_samples is {num_samples!r}", fix="draw at least one")
    _check_weights(input, int(num_samples), replacement)
    with no_grad():
        weights = cast(input.detach(), float64)
        if not replacement:
            noise = rand(weights.shape, generator=generator, dtype=float64)
            times = 1e-300 - log1p(-noise)  # never 0, which would be NaN for a weight of 0
            return topk(log(weights) - log(times), int(num_samples), -1)[1]
        sums = cumsum(weights, -1)
        total = slice_dim(sums, sums.ndim - 1, sums.shape[-1] - 1, sums.shape[-1])
        shape = (*input.shape[:-1], int(num_samples))
        places = _search(sums, rand(shape, generator=generator, dtype=float64) * total)
        # A product that was rounded up to the total would be beyond the last place.
        return minimum(places, _search(sums, total * (1.0 - 2.0**-52)))


def _search(sums: Tensor, values: Tensor) -> Tensor:
    from .arranging import searchsorted

    return searchsorted(sums, values, right=True)


def _check_weights(weights: Tensor, count: int, replacement: bool) -> None:
    found = weights.shape[-1]
    if not isinstance(weights._array, Symbol):
        array = weights._concrete("multinomial")
        if not (np.isfinite(array) & (array >= 0)).all():
            raise ArgumentError(
                "multinomial",
                "a weight is negative, infinite or NaN",
                fix="pass probabilities, e.g. softmax(x)",
            )
        found = int((array > 0).sum(-1).min(initial=found))
        if not found:
            raise ArgumentError("multinomial", "no weight is positive", fix="check the sum of each row")
    if not replacement and count > found:
        raise ArgumentError(
            "multinomial",
            f"{count} samples of {found} places of positive weight",
            fix="draw fewer, or pass replacement=True",
        )


def randint_like(input: Tensor, low: int, high: int | None = None, *, dtype: Any = None) -> Tensor:
    """`randint` in the shape and, unless another is given, the dtype of a tensor."""
    first, last = (0, low) if high is None else (low, high)
    return cast(randint(first, last, input.shape), dtype or input.dtype)


@method("random_")
def random_(
    self: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Write random integers of [from_, to), or [0, from_) if there is one limit; returns the tensor."""
    if to is None:
        if from_ == 0:
            to = 2**24 if is_float(self.dtype) else int(np.iinfo(self.dtype).max)
        else:
            from_, to = 0, from_
    return copy_(self, randint(from_, to, self.shape, generator=generator))


@method("bernoulli_")
def bernoulli_(self: Tensor, p: float | Tensor = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Write 1 with probability `p`, else 0; returns the tensor."""
    chance = p if isinstance(p, Tensor) else Tensor(float(p)).expand(self.shape)
    return copy_(self, bernoulli(chance, generator=generator))


@method("exponential_")
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Write exponential random numbers of rate `lambd`, -log(1 - u) / lambd; returns the tensor."""
    if not lambd > 0:
        raise ArgumentError("exponential_", f"lambd is {lambd}", fix="pass a positive rate")
    u = rand(self.shape, generator=generator, dtype=self.dtype)
    return copy_(self, -log1p(-u) / lambd)
