"""Gradient descent, with momentum if wanted.

    b  <-  momentum * b + (1 - dampening) * g          b starts as g
    p  <-  p - lr * b                                  Nesterov: p - lr * (g + momentum * b)

Momentum averages gradients over about 1 / (1 - momentum) steps: zigzags cancel, the common
direction adds up.  Nesterov looks one step ahead.  "Stochastic" is what the caller makes it, by
handing over the gradient of a batch.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([x], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     x.grad = mg.tensor([1.0])
    ...     optimizer.step()
    >>> x.detach()                                 # 1 - 0.1 - 0.1 * 1.9
    tensor([0.71])

References: Polyak 1964; Nesterov 1983; Sutskever et al. 2013 for the form above.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..tensor import Tensor
from .base import Array, Group, Kernels, Optimizer, Pair, number, zeros_for, zeros_together


class SGD(Optimizer):
    """Gradient descent with momentum, Nesterov's variant, weight decay (L2), or upwards (maximize).

    Raises ArgumentError for a negative lr, momentum or weight_decay, and for nesterov without
    momentum or with dampening.
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "momentum", "weight_decay"):
            number(self._name, group, name)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ArgumentError(
                self._name,
                f"nesterov with momentum {group['momentum']} and dampening {group['dampening']}",
                fix="it needs a momentum above 0 and no dampening",
            )

    def begin(self, params: list[Tensor], group: Group) -> None:
        """The momentum of all parameters, side by side; with dampening it begins as the gradient instead."""
        if not group["momentum"] or group["dampening"]:
            return
        new = [p for p in params if "momentum_buffer" not in self.state[p]]
        for p, buffer in zip(new, zeros_together(new), strict=True):
            self.state[p]["momentum_buffer"] = buffer

    def together(self, kernels: Kernels, pairs: list[Pair], group: Group) -> list[Pair]:
        """All parameters of a dtype in one call, but those whose momentum begins with dampening."""
        momentum, dampening = float(group["momentum"]), float(group["dampening"])
        left: list[Pair] = []
        parts: dict[Any, list[Any]] = {}
        for p, g in pairs:
            array, state = p._array, self.state[p]
            buffer: tuple[Array, ...] = ()
            if momentum:
                if "momentum_buffer" not in state:
                    if dampening:  # which the first gradient is spared
                        left.append((p, g))
                        continue
                    self.begin([p for p, _ in pairs], group)
                buffer = (state["momentum_buffer"]._array,)
            parts.setdefault(array.dtype, []).append((p, g, array, *buffer))
        for i, part in enumerate(parts.values()):
            params, grads, *arrays = map(list, zip(*part, strict=True))
            stepper = self.stepper(kernels, (id(group), i), *arrays)
            if stepper is None or not stepper.aim(grads):
                left += zip(params, grads, strict=True)
                continue
            lr, decay = float(group["lr"]), float(group["weight_decay"])
            stepper.sgd(lr, momentum, dampening, decay, bool(group["nesterov"]), bool(group["maximize"]))
        return left

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formulas at the top of this file."""
        s = self.scratch(p)
        g = self.descent(p, g, group)
        if self.choice(group, "momentum"):
            momentum = self.hyper(group, "momentum")
            first = "momentum_buffer" not in state
            if first:
                state["momentum_buffer"] = zeros_for(p)
                if self.choice(group, "dampening"):
                    self.renew()  # what is computed at the next step is another thing
            b = state["momentum_buffer"]._array
            np.multiply(b, momentum, out=b)
            if first or not self.choice(group, "dampening"):
                np.add(b, g, out=b)
            else:
                np.add(b, np.multiply(g, 1 - self.hyper(group, "dampening"), out=s), out=b)
            if self.choice(group, "nesterov"):
                np.multiply(b, momentum, out=s)
                g = np.add(g, s, out=s)
            else:
                g = b
        np.multiply(g, self.hyper(group, "lr"), out=s)
        np.subtract(p, s, out=p)


class GD(SGD):
    """Gradient descent as such: p <- p - lr * g, with the gradient of the whole training set.

    What makes it "full batch" is the gradient that it is handed.  Where the set fits into memory that is
    one backward pass over all of it; where it does not, `minigrad.optim.accumulate` adds it up batch by
    batch.  There is nothing random in it: for lr < 2 / L, where L bounds the curvature, the loss falls at
    every step.

        >>> import minigrad as mg
        >>> x, y = mg.tensor([1.0, 2.0, 3.0]), mg.tensor([2.0, 4.0, 6.0])
        >>> w = mg.zeros((), requires_grad=True)
        >>> descent = GD([w], lr=0.05)
        >>> for _ in range(20):
        ...     descent.zero_grad()
        ...     ((w * x - y) ** 2).mean().backward()
        ...     descent.step()
        >>> round(w.item(), 4)
        2.0

    Raises ArgumentError for a negative lr or weight_decay.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, maximize=maximize)
