"""LAMB: Adam whose step is as long as the parameter, layer by layer.

    r  =   m^ / (sqrt(v^) + eps) + weight_decay p           Adam's direction, m^ and v^ as in `adam`
    p  <-  p - lr |p| / |r| r                               1 for |p| / |r| if one of them is zero

A layer moves by the share lr of its norm, whatever the scale of its gradient; that keeps very large
batches (and the large learning rates they call for) from throwing single layers far away.

    >>> import minigrad as mg
    >>> x = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = LAMB([x], lr=0.1, weight_decay=0.0)
    >>> x.grad = mg.tensor([1e-3, 0.0])
    >>> optimizer.step()
    >>> x.detach()                                 # |x| = 5, along the first axis
    tensor([2.5, 4. ])

Reference: You et al. 2020 (arXiv 1904.00962, algorithm 2, with phi the identity).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..tensor import Tensor
from .base import (
    Array,
    Group,
    Optimizer,
    as_number,
    average,
    average_square,
    betas,
    count,
    counter,
    number,
    zeros_for,
)


class LAMB(Optimizer):
    """Adam's direction, scaled to the norm of each parameter.

    Raises ArgumentError for negative lr, eps or weight_decay, and for betas outside [0, 1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 1e-2,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "eps", "weight_decay"):
            number(self._name, group, name)
        betas(self._name, group)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s, r = self.scratch(p), self.scratch(p, 2)
        beta1, beta2 = self.hyper(group, "betas", 0), self.hyper(group, "betas", 1)
        if self.choice(group, "maximize"):
            g = np.negative(g, out=self.scratch(p, 1))
        if not state:
            state["step"], state["exp_avg"], state["exp_avg_sq"] = counter(), zeros_for(p), zeros_for(p)
        t = count(state)
        m, v = state["exp_avg"]._array, state["exp_avg_sq"]._array
        average(m, g, beta1, s)
        average_square(v, g, beta2, s)
        np.sqrt(np.divide(v, 1 - beta2**t, out=s), out=s)
        np.add(s, self.hyper(group, "eps"), out=s)
        np.divide(m, np.multiply(s, 1 - beta1**t, out=s), out=r)
        if self.choice(group, "weight_decay"):
            np.add(r, np.multiply(p, self.hyper(group, "weight_decay"), out=s), out=r)
        length, step = np.sum(np.square(p, out=s)), np.sum(np.square(r, out=s))
        usual = length * step > 0.0
        ratio = as_number(np.where(usual, np.sqrt(length / np.where(step > 0.0, step, 1.0)), 1.0))
        np.multiply(r, self.hyper(group, "lr") * ratio, out=r)
        np.subtract(p, r, out=p)
