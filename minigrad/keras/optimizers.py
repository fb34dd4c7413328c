"""Optimizers, by Keras's names, defaults and formulas.

Keras adds epsilon to sqrt(v) *before* v is corrected for its start from zero (the "epsilon hat" of
Kingma & Ba 2015, section 2), and its epsilon is 1e-7; its momentum accumulates steps rather than
gradients.  Both differ from PyTorch's, and both are kept:

    Adam   p  <-  p - lr sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)
    SGD    m  <-  momentum * m - lr * g;    p  <-  p + m      Nesterov: p + momentum * m - lr * g

    >>> Adam(learning_rate=0.01).learning_rate
    0.01
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import optim
from ..errors import ArgumentError
from ..optim.base import Array, Group, number, zeros_for
from ..tensor import Tensor
from .options import Checked, pick


class _AdamRule(optim.AdamW):
    """Adam with epsilon hat and decoupled weight decay."""

    _name = "Adam"

    def scaled_eps(self, eps: float, c2: float) -> float:
        """epsilon as it is"""
        return eps


class _SGDRule(optim.Optimizer):
    """Momentum of steps, and decoupled weight decay."""

    _name = "SGD"

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "weight_decay"):
            number("SGD", group, name)
        number("SGD", group, "momentum", below=1.0)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formula at the top of this file."""
        s = self.scratch(p)
        lr = self.hyper(group, "lr")
        if self.choice(group, "weight_decay"):
            np.multiply(p, 1.0 - lr * self.hyper(group, "weight_decay"), out=p)
        np.multiply(g, -lr, out=s)
        if self.choice(group, "momentum"):
            momentum = self.hyper(group, "momentum")
            if not state:
                state["momentum"] = zeros_for(p)
            m = state["momentum"]._array
            np.multiply(m, momentum, out=m)
            np.add(m, s, out=m)
            if self.choice(group, "nesterov"):
                np.add(p, s, out=p)
                np.multiply(m, momentum, out=s)
            else:
                s = m
        np.add(p, s, out=p)


class Optimizer(Checked):
    """Base of optimizers: settings now, parameters when the model is built."""

    def __init__(self, learning_rate: float, settings: dict[str, Any]) -> None:
        self._settings = {"lr": learning_rate, **settings}
        self._rule: optim.Optimizer | None = None
        self._make([Tensor(0.0)])  # settings out of range are an error here and now

    def _make(self, parameters: Iterable[Tensor]) -> optim.Optimizer:
        raise ArgumentError(type(self).__name__, "is a base class", fix="use SGD or Adam")

    def build(self, parameters: Iterable[Tensor]) -> optim.Optimizer:
        """Take these parameters on, forgetting all state."""
        self._rule = self._make(list(parameters))
        return self._rule

    @property
    def learning_rate(self) -> float:
        """The step size; may be set at any time."""
        source = self._settings if self._rule is None else self._rule.param_groups[0]
        return float(source["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        number(type(self).__name__, {"learning_rate": value}, "learning_rate")
        self._settings["lr"] = value
        if self._rule is not None:
            for group in self._rule.param_groups:
                group["lr"] = value


class SGD(Optimizer):
    """Gradient descent with momentum, as Keras's."""

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            {"momentum": momentum, "nesterov": bool(nesterov), "weight_decay": weight_decay or 0.0},
        )

    def _make(self, parameters: Iterable[Tensor]) -> optim.Optimizer:
        return _SGDRule(parameters, self._settings)


class Adam(Optimizer):
    """Adam, as Keras's."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            {
                "betas": (beta_1, beta_2),
                "eps": epsilon,
                "weight_decay": weight_decay or 0.0,
                "amsgrad": bool(amsgrad),
            },
        )

    def _make(self, parameters: Iterable[Tensor]) -> optim.Optimizer:
        return _AdamRule(parameters, **self._settings)


class AdamW(Adam):
    """Adam with decoupled weight decay of 0.004 by default, as Keras's."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def get(optimizer: Any) -> Optimizer:
    """The optimizer of this name with its defaults, or the one that was given."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise ArgumentError(
            "compile", f"the optimizer is the class {optimizer.__name__}", fix="call it: Adam()"
        )
    return pick("optimizer", optimizer, OPTIMIZERS)()  # type: ignore[call-arg]
