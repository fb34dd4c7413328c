"""Adamax, NAdam, RAdam: three second thoughts about Adam.

With m and v Adam's averages of g and g^2 (see `adam`), and m^ and v^ corrected for their start:

    Adamax   u  <-  max(beta2 u, |g| + eps)                    the largest gradient, fading, for sqrt(v^)
             p  <-  p - lr / (1 - beta1^t) * m / u

    NAdam    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)    Nesterov's look ahead for m^, with a momentum
             p  <-  p - lr ( (1 - mu_t) / (1 - mu_1 ... mu_t) g        that grows to beta1
                           + mu_{t+1} / (1 - mu_1 ... mu_{t+1}) m ) / (sqrt(v^) + eps)

    RAdam    rho = rho_inf - 2 t beta2^t / (1 - beta2^t),      rho_inf = 2 / (1 - beta2) - 1
             if rho > 5:   p  <-  p - lr r m^ sqrt(1 - beta2^t) / (sqrt(v) + eps)
                           r^2 = (rho - 4)(rho - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho)
             otherwise:    p  <-  p - lr m^

RAdam asks how many gradients v was averaged from: for the first few its variance is infinite, so there is
no division at all, and then less of a step, by r.  That is the warm-up other programs write by hand.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = RAdam([x], lr=0.1)
    >>> x.grad = mg.tensor([0.01])
    >>> optimizer.step()
    >>> x.detach()                                 # as gradient descent; Adam would step by 0.1
    tensor([0.999])

References: Kingma & Ba 2015 (arXiv 1412.6980, section 7.1, Adamax; eps as in PyTorch); Dozat 2016 (NAdam);
Liu et al. 2020 (1908.03265, RAdam).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..tensor import Tensor, wrap
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


class _Adaptive(Optimizer):
    """What the three have in common."""

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "eps", "weight_decay", "momentum_decay"):
            if name in group:
                number(self._name, group, name)
        betas(self._name, group)


class Adamax(_Adaptive):
    """Adam with the largest gradient in place of the root mean square.

    Raises ArgumentError for negative lr, eps or weight_decay, and for betas outside [0, 1).
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s = self.scratch(p)
        beta1, beta2 = self.hyper(group, "betas", 0), self.hyper(group, "betas", 1)
        g = self.descent(p, g, group)
        if not state:
            state["step"], state["exp_avg"], state["exp_inf"] = counter(), zeros_for(p), zeros_for(p)
        t = count(state)
        m, u = state["exp_avg"]._array, state["exp_inf"]._array
        average(m, g, beta1, s)
        np.add(np.abs(g, out=s), self.hyper(group, "eps"), out=s)
        np.maximum(np.multiply(u, beta2, out=u), s, out=u)
        np.divide(m, u, out=s)
        np.multiply(s, self.hyper(group, "lr") / (1 - beta1**t), out=s)
        np.subtract(p, s, out=p)


class NAdam(_Adaptive):
    """Adam with Nesterov's momentum.

    momentum_decay: how fast the momentum grows to betas[0].  Raises ArgumentError for a negative lr, eps,
    weight_decay or momentum_decay, and for betas outside [0, 1).
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s, r = self.scratch(p), self.scratch(p, 2)
        lr, decay = self.hyper(group, "lr"), self.hyper(group, "momentum_decay")
        beta1, beta2 = self.hyper(group, "betas", 0), self.hyper(group, "betas", 1)
        g = self.descent(p, g, group, self.choice(group, "decoupled_weight_decay"))
        if not state:
            state["step"], state["mu_product"] = counter(), wrap(np.ones((), np.float64))
            state["exp_avg"], state["exp_avg_sq"] = zeros_for(p), zeros_for(p)
        t = count(state)
        m, v = state["exp_avg"]._array, state["exp_avg_sq"]._array
        mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * decay))
        following = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * decay))
        products = state["mu_product"]._array
        products *= mu
        product = as_number(products)
        average(m, g, beta1, s)
        average_square(v, g, beta2, s)
        np.sqrt(np.divide(v, 1 - beta2**t, out=r), out=r)
        np.add(r, self.hyper(group, "eps"), out=r)
        np.divide(g, r, out=s)
        np.multiply(s, lr * (1 - mu) / (1 - product), out=s)
        np.subtract(p, s, out=p)
        np.divide(m, r, out=s)
        np.multiply(s, lr * following / (1 - product * following), out=s)
        np.subtract(p, s, out=p)


class RAdam(_Adaptive):
    """Adam rectified for how little is known of the variance at first.

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
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s = self.scratch(p)
        lr = self.hyper(group, "lr")
        beta1, beta2 = self.hyper(group, "betas", 0), self.hyper(group, "betas", 1)
        g = self.descent(p, g, group, self.choice(group, "decoupled_weight_decay"))
        if not state:
            state["step"], state["exp_avg"], state["exp_avg_sq"] = counter(), zeros_for(p), zeros_for(p)
        t = count(state)
        m, v = state["exp_avg"]._array, state["exp_avg_sq"]._array
        average(m, g, beta1, s)
        average_square(v, g, beta2, s)
        most = 2 / (1 - beta2) - 1
        left = 1 - beta2**t
        rho = most - 2 * t * beta2**t / left
        # Both cases at once, as which one it is depends on t: with r = 0, what remains is m^.
        known = np.sign(np.maximum(rho - 5, 0.0))
        rho, most = np.maximum(rho, 5.0), np.maximum(most, 5.0)
        r = as_number(known * np.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho) * left))
        whole = as_number(1.0 - known)
        np.sqrt(v, out=s)
        np.add(s, self.hyper(group, "eps") + whole, out=s)
        np.divide(r, s, out=s)
        np.add(s, whole, out=s)
        np.multiply(s, m, out=s)
        np.multiply(s, lr / (1 - beta1**t), out=s)
        np.subtract(p, s, out=p)
