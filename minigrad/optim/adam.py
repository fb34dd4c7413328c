"""Adam and AdamW: every weight with a step size of its own.

    m  <-  beta1 * m + (1 - beta1) * g                 the mean gradient, and
    v  <-  beta2 * v + (1 - beta2) * g^2               its mean square, as running averages
    m^  =  m / (1 - beta1^t)                           that started from zero, so corrected
    v^  =  v / (1 - beta2^t)
    p  <-  p - lr * m^ / (sqrt(v^) + eps)

The step is about lr whatever the scale of the gradient: where its sign keeps changing, m is small
beside sqrt(v).  AMSGrad replaces v by the largest v so far.  AdamW takes weight decay out of the
gradient, where Adam's division would undo it: p <- p - lr * weight_decay * p.

As computed, with c1 = 1 - beta1^t and c2 = sqrt(1 - beta2^t):

    p  <-  p - (lr * c2 / c1) * m / (sqrt(v) + eps * c2)

which is the same with fewer passes over memory.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, -1.0], requires_grad=True)
    >>> optimizer = Adam([x], lr=0.1)
    >>> (x * mg.tensor([1e-3, 1e3])).sum().backward()
    >>> optimizer.step()
    >>> x.detach()                                 # the first step is lr for every scale
    tensor([ 0.9, -1.1])

References: Kingma & Ba 2015 (arXiv 1412.6980); Reddi et al. 2018 (AMSGrad); Loshchilov & Hutter
2019 (1711.05101).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..tensor import Tensor
from .base import (
    Array,
    Group,
    Kernels,
    Optimizer,
    Pair,
    average,
    average_square,
    betas,
    count,
    counter,
    number,
    zeros_for,
    zeros_together,
)


class Adam(Optimizer):
    """Adam; weight_decay is added to the gradient (L2), or shrinks the weights if it is decoupled.

    Raises ArgumentError for negative lr, eps or weight_decay, and for betas outside [0, 1).
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "eps", "weight_decay"):
            number(self._name, group, name)
        betas(self._name, group)

    def scaled_eps(self, eps: float, c2: float) -> float:
        """What is added to sqrt(v)."""
        return eps * c2

    def begin(self, params: list[Tensor], group: Group) -> None:
        """The moments of all parameters, side by side."""
        new = [p for p in params if not self.state[p]]
        moments = zeros_together(new + new)
        for p, m, v in zip(new, moments[: len(new)], moments[len(new) :], strict=True):
            self.state[p].update(step=counter(), exp_avg=m, exp_avg_sq=v)

    def together(self, kernels: Kernels, pairs: list[Pair], group: Group) -> list[Pair]:
        """Parameters that have come equally far, in one call."""
        amsgrad, parts = group["amsgrad"], dict[Any, list[Any]]()
        for p, g in pairs:
            array, state = p._array, self.state[p]
            if not state:
                self.begin([p for p, _ in pairs], group)
            if amsgrad and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = zeros_for(array)
            taken = state["step"]._array
            top = (state["max_exp_avg_sq"]._array,) if amsgrad else ()
            entry = (p, g, taken, array, state["exp_avg"]._array, state["exp_avg_sq"]._array, *top)
            parts.setdefault((array.dtype, int(taken) + 1), []).append(entry)
        beta1, beta2 = map(float, group["betas"])
        left: list[Pair] = []
        for i, ((_, t), part) in enumerate(parts.items()):
            params, grads, counts, *arrays = map(list, zip(*part, strict=True))
            stepper = self.stepper(kernels, (id(group), i), *arrays)
            if stepper is None or not stepper.aim(grads):
                left += zip(params, grads, strict=True)
                continue
            c2 = (1 - beta2**t) ** 0.5
            eps = self.scaled_eps(float(group["eps"]), c2) / c2  # the kernel divides sqrt(v) by c2
            lr, decay = float(group["lr"]), float(group["weight_decay"])
            decoupled, maximize = bool(group["decoupled_weight_decay"]), bool(group["maximize"])
            stepper.adam(t, lr, (beta1, beta2), eps, decay, decoupled, maximize)
            for taken in counts:
                taken += 1
        return left

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s = self.scratch(p)
        lr = self.hyper(group, "lr")
        beta1, beta2 = self.hyper(group, "betas", 0), self.hyper(group, "betas", 1)
        g = self.descent(p, g, group, self.choice(group, "decoupled_weight_decay"))
        if not state:
            _begin(p, state)
        t = count(state)
        m, v = state["exp_avg"]._array, state["exp_avg_sq"]._array
        average(m, g, beta1, s)
        average_square(v, g, beta2, s)
        if self.choice(group, "amsgrad"):
            if "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = zeros_for(p)
            largest = state["max_exp_avg_sq"]._array
            v = np.maximum(largest, v, out=largest)
        c1 = 1 - beta1**t
        c2 = (1 - beta2**t) ** 0.5
        np.sqrt(v, out=s)
        np.add(s, self.scaled_eps(self.hyper(group, "eps"), c2), out=s)
        np.divide(m, s, out=s)
        np.multiply(s, lr * c2 / c1, out=s)
        np.subtract(p, s, out=p)


def _begin(p: Array, state: dict[str, Any]) -> None:
    """The state before the first step."""
    state["step"] = counter()
    state["exp_avg"] = zeros_for(p)
    state["exp_avg_sq"] = zeros_for(p)


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
        )

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        super().check(group)
        if not group["decoupled_weight_decay"]:
            raise ArgumentError(self._name, "the weight decay is not decoupled", fix="use Adam for that")
