"""RMSprop, Adagrad, Adadelta: steps divided by the size that gradients have had.

All three divide the gradient, element by element, by a root of squares; they differ in which.

    RMSprop    v  <-  alpha v + (1 - alpha) g^2            p  <-  p - lr g / (sqrt(v) + eps)
    Adagrad    v  <-  v + g^2                              p  <-  p - lr' g / (sqrt(v) + eps)
               lr' = lr / (1 + (t - 1) lr_decay)
    Adadelta   v  <-  rho v + (1 - rho) g^2
               d  =   sqrt(u + eps) / sqrt(v + eps) g      p  <-  p - lr d
               u  <-  rho u + (1 - rho) d^2

RMSprop forgets old gradients; Adagrad does not, so that its steps shrink like 1 / sqrt(t), which suits
sparse gradients; Adadelta replaces the learning rate by the size u that its own steps have had, so that
a step has the unit of the parameter.  RMSprop may be *centered*: then v is taken minus the square of the
mean gradient, an estimate of the variance.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 1.0], requires_grad=True)
    >>> optimizer = Adagrad([x], lr=0.1)
    >>> for _ in range(2):
    ...     x.grad = mg.tensor([1e-3, 1e3])
    ...     optimizer.step()
    >>> x.detach()                                 # 1 - 0.1 - 0.1 / sqrt(2), whatever the scale
    tensor([0.8293, 0.8293])

References: Tieleman & Hinton 2012 (RMSprop, lecture 6.5 of "Neural Networks for Machine Learning");
Graves 2013 (arXiv 1308.0850, eq. 38-45, centered); Duchi, Hazan & Singer 2011 (Adagrad); Zeiler 2012
(1212.5701, Adadelta).  One difference from PyTorch: the variance of the centered form, a difference of
two roundings, is kept from falling below zero, where PyTorch's root of it is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..tensor import Tensor, wrap
from .base import Array, Group, Optimizer, average, average_square, count, counter, number, zeros_for


class RMSprop(Optimizer):
    """Gradients divided by their running root mean square, with momentum if wanted.

    alpha: how much of the mean square is kept at a step.  Raises ArgumentError for a negative setting.
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "alpha", "eps", "weight_decay", "momentum"):
            number(self._name, group, name)

    def root(self, v: Array, group: Group, s: Array) -> Array:
        """What gradients are divided by, given their mean square."""
        root: Array = np.add(np.sqrt(v, out=s), self.hyper(group, "eps"), out=s)
        return root

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s = self.scratch(p)
        g = self.descent(p, g, group)
        alpha, centered = self.hyper(group, "alpha"), self.choice(group, "centered")
        momentum = self.choice(group, "momentum")
        if not state:
            state["step"], state["square_avg"] = counter(), zeros_for(p)
        if momentum and "momentum_buffer" not in state:
            state["momentum_buffer"] = zeros_for(p)
        if centered and "grad_avg" not in state:
            state["grad_avg"] = zeros_for(p)
        count(state)
        v = state["square_avg"]._array
        average_square(v, g, alpha, s)
        if centered:
            mean = state["grad_avg"]._array
            average(mean, g, alpha, s)
            np.subtract(v, np.multiply(mean, mean, out=s), out=s)
            v = np.maximum(s, 0.0, out=s)
        np.divide(g, self.root(v, group, s), out=s)
        if momentum:
            b = state["momentum_buffer"]._array
            np.multiply(b, self.hyper(group, "momentum"), out=b)
            s = np.multiply(np.add(b, s, out=b), self.hyper(group, "lr"), out=s)
        else:
            np.multiply(s, self.hyper(group, "lr"), out=s)
        np.subtract(p, s, out=p)


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all their squares.

    initial_accumulator_value: what that sum starts from.  Raises ArgumentError for a negative setting.
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            number(self._name, group, name)

    def denominator(self, v: Array, group: Group, s: Array) -> Array:
        """What gradients are divided by, given the sum of their squares."""
        root: Array = np.add(np.sqrt(v, out=s), self.hyper(group, "eps"), out=s)
        return root

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s = self.scratch(p)
        g = self.descent(p, g, group)
        if not state:
            start = float(group["initial_accumulator_value"])
            state["step"], state["sum"] = counter(), wrap(np.full(p.shape, start, p.dtype))
        t = count(state)
        v = state["sum"]._array
        np.add(v, np.multiply(g, g, out=s), out=v)
        lr = self.hyper(group, "lr") / (1 + (t - 1) * self.hyper(group, "lr_decay"))
        np.divide(g, self.denominator(v, group, s), out=s)
        np.subtract(p, np.multiply(s, lr, out=s), out=p)


class Adadelta(Optimizer):
    """Steps as long as steps have been, where gradients are as large as gradients have been.

    Raises ArgumentError for a negative setting, or rho above 1.
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "eps", "weight_decay"):
            number(self._name, group, name)
        number(self._name, group, "rho", below=1.0 + 1e-12)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s, r = self.scratch(p), self.scratch(p, 2)
        g = self.descent(p, g, group)
        rho, eps = self.hyper(group, "rho"), self.hyper(group, "eps")
        if not state:
            state["step"], state["square_avg"], state["acc_delta"] = counter(), zeros_for(p), zeros_for(p)
        count(state)
        v, u = state["square_avg"]._array, state["acc_delta"]._array
        average_square(v, g, rho, s)
        np.sqrt(np.add(v, eps, out=r), out=r)
        np.sqrt(np.add(u, eps, out=s), out=s)
        d = np.multiply(np.divide(s, r, out=s), g, out=s)
        average_square(u, d, rho, r)
        np.subtract(p, np.multiply(d, self.hyper(group, "lr"), out=s), out=p)
