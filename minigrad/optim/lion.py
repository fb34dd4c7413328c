"""Lion: only the sign of the momentum counts.

    c  =   beta1 m + (1 - beta1) g
    p  <-  p - lr (sign(c) + weight_decay p)
    m  <-  beta2 m + (1 - beta2) g

Every element moves by lr, so the step is as long as sqrt(number of elements) lr: choose lr three to ten
times smaller than for Adam, and weight_decay as much larger.  One array of state instead of Adam's two.
An algorithm that was found by a search over programs, not derived.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 1.0], requires_grad=True)
    >>> optimizer = Lion([x], lr=0.1)
    >>> x.grad = mg.tensor([1e-3, -1e3])
    >>> optimizer.step()
    >>> x.detach()
    tensor([0.9, 1.1])

Reference: Chen et al. 2023 (arXiv 2302.06675, algorithm 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..tensor import Tensor
from .base import Array, Group, Optimizer, average, betas, number, zeros_for


class Lion(Optimizer):
    """Sign descent with two momenta; weight decay is decoupled.

    Raises ArgumentError for a negative lr or weight_decay, and for betas outside [0, 1).
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        )

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "weight_decay"):
            number(self._name, group, name)
        betas(self._name, group)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s, c = self.scratch(p), self.scratch(p, 2)
        beta1, beta2 = self.hyper(group, "betas", 0), self.hyper(group, "betas", 1)
        g = self.descent(p, g, group, True)
        if not state:
            state["exp_avg"] = zeros_for(p)
        m = state["exp_avg"]._array
        np.multiply(m, beta1, out=c)
        np.add(c, np.multiply(g, 1 - beta1, out=s), out=c)
        np.multiply(np.sign(c, out=c), self.hyper(group, "lr"), out=c)
        np.subtract(p, c, out=p)
        average(m, g, beta2, s)
