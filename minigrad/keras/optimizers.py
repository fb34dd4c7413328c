"""Optimizers, by Keras's names, defaults and formulas.

They differ from PyTorch's in details, and the details are kept.  With m and v Adam's averages:

    Adam      p  <-  p - lr sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)
    SGD       m  <-  momentum * m - lr * g;    p  <-  p + m      Nesterov: p + momentum * m - lr * g
    RMSprop   m  <-  momentum * m + lr * g / sqrt(v + epsilon);  p  <-  p - m
    Adagrad   p  <-  p - lr * g / sqrt(v + epsilon),             v the sum of g^2, from 0.1
    Adamax    p  <-  p - lr / (1 - beta_1^t) * m / (u + epsilon), u  <-  max(beta_2 u, |g|)
    Nadam     the momentum of NAdam with momentum_decay 1

Adam adds epsilon to sqrt(v) *before* v is corrected for its start from zero (the "epsilon hat" of Kingma &
Ba 2015, section 2); momentum accumulates steps rather than gradients; weight decay is always decoupled:
p <- p - lr * weight_decay * p.  epsilon is 1e-7.

Every optimizer takes clipnorm (each gradient to that norm), global_clipnorm (all together) or clipvalue
(each element), and for its learning rate a number or one of `schedules`.

    >>> Adam(learning_rate=0.01).learning_rate
    0.01

Left out, and refused: use_ema, gradient_accumulation_steps, loss_scale_factor.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import optim
from ..autograd import no_grad
from ..errors import ArgumentError
from ..nn.clip import _replace, clip_grad_value_, get_total_norm
from ..ops.elementwise import minimum
from ..optim.base import Array, Group, average, average_square, count, counter, number, zeros_for
from ..tensor import Tensor
from . import schedules
from .options import Checked, pick


class _Rule(optim.Optimizer):
    """What Keras's optimizers do besides their formulas: clip, count, and decay apart from the gradient."""

    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None

    def __init__(self, params: Iterable[Any], settings: dict[str, Any]) -> None:
        self.iterations = Tensor(0, "int64")
        optim.Optimizer.__init__(self, params, {**settings, "maximize": False})

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        for name in ("lr", "weight_decay", "eps", "momentum", "rho", "alpha"):
            if name in group:
                number(self._name, group, name)
        if "betas" in group:
            optim.base.betas(self._name, group)

    def descent(self, p: Array, g: Array, group: Group, decoupled: bool = True) -> Array:
        """The gradient, once the weight decay has been taken from `p`."""
        return super().descent(p, g, group, True)

    def step(self, closure: Any = None) -> Any:
        """Clip, update, count."""
        loss = None if closure is None else closure()
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if params:
            self._clip(params)
        super().step()
        self.iterations.assign(self.iterations + 1)
        return loss

    def _clip(self, params: list[Tensor]) -> None:
        together = [params] if self.global_clipnorm is not None else [[p] for p in params]
        limit = self.clipnorm if self.global_clipnorm is None else self.global_clipnorm
        if limit is not None:
            with no_grad():
                for group in together:
                    grads = [p.grad.detach() for p in group if p.grad is not None]
                    factor = limit * minimum(1.0 / get_total_norm(grads), 1.0 / limit)
                    for p, g in zip(group, grads, strict=True):
                        _replace(p, g * factor.to(p.dtype))
        if self.clipvalue is not None:
            clip_grad_value_(params, self.clipvalue)


class _SGDRule(_Rule):
    """Momentum of steps."""

    _name = "SGD"
    elementwise = True

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter is out of range."""
        super().check(group)
        number("SGD", group, "momentum", below=1.0)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formula at the top of this file."""
        s = self.scratch(p)
        g = self.descent(p, g, group)
        np.multiply(g, -self.hyper(group, "lr"), out=s)
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


class _AdamRule(_Rule, optim.AdamW):
    """Adam with epsilon hat."""

    _name = "Adam"

    def scaled_eps(self, eps: float, c2: float) -> float:
        """epsilon as it is"""
        return eps


class _RMSpropRule(_Rule):
    """Momentum of steps, epsilon under the root."""

    _name = "RMSprop"
    elementwise = True

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formula at the top of this file."""
        s = self.scratch(p)
        g = self.descent(p, g, group)
        rho, centered = self.hyper(group, "rho"), self.choice(group, "centered")
        momentum = self.choice(group, "momentum")
        if not state:
            state["velocity"] = zeros_for(p)
            if momentum:
                state["momentum"] = zeros_for(p)
            if centered:
                state["average_gradient"] = zeros_for(p)
        v = state["velocity"]._array
        average_square(v, g, rho, s)
        if centered:
            mean = state["average_gradient"]._array
            average(mean, g, rho, s)
            v = np.subtract(v, np.multiply(mean, mean, out=s), out=s)
        np.sqrt(np.add(v, self.hyper(group, "eps"), out=s), out=s)
        np.multiply(np.divide(g, s, out=s), self.hyper(group, "lr"), out=s)
        if momentum:
            m = state["momentum"]._array
            np.multiply(m, self.hyper(group, "momentum"), out=m)
            s = np.add(m, s, out=m)
        np.subtract(p, s, out=p)


class _AdagradRule(_Rule, optim.Adagrad):
    """Epsilon under the root."""

    _name = "Adagrad"

    def denominator(self, v: Array, group: Group, s: Array) -> Array:
        """sqrt(v + epsilon)"""
        root: Array = np.sqrt(np.add(v, self.hyper(group, "eps"), out=s), out=s)
        return root


class _AdadeltaRule(_Rule, optim.Adadelta):
    """Adadelta with decoupled weight decay."""

    _name = "Adadelta"


class _AdamaxRule(_Rule):
    """Epsilon beside the largest gradient, not in it."""

    _name = "Adamax"
    elementwise = True

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formula at the top of this file."""
        s = self.scratch(p)
        beta1, beta2 = self.hyper(group, "betas", 0), self.hyper(group, "betas", 1)
        g = self.descent(p, g, group)
        if not state:
            state["step"], state["m"], state["u"] = counter(), zeros_for(p), zeros_for(p)
        t = count(state)
        m, u = state["m"]._array, state["u"]._array
        average(m, g, beta1, s)
        np.maximum(np.multiply(u, beta2, out=u), np.abs(g, out=s), out=u)
        np.divide(m, np.add(u, self.hyper(group, "eps"), out=s), out=s)
        np.multiply(s, self.hyper(group, "lr") / (1 - beta1**t), out=s)
        np.subtract(p, s, out=p)


class _NadamRule(_Rule, optim.NAdam):
    """NAdam with decoupled weight decay."""

    _name = "Nadam"


class _LionRule(_Rule, optim.Lion):
    """Lion."""

    _name = "Lion"


class _LambRule(_Rule, optim.LAMB):
    """LAMB, with the weight decay apart from its direction."""

    _name = "Lamb"

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """The formula of `optim.lamb` without weight decay."""
        if self.choice(group, "decay"):
            np.multiply(p, 1 - self.hyper(group, "lr") * self.hyper(group, "decay"), out=p)
        optim.LAMB.update(self, p, g, state, group)


class _Scheduled:
    """A learning rate that is read at each step; what a rule has in place of a number."""

    def __init__(self, schedule: schedules.LearningRateSchedule, iterations: Tensor) -> None:
        self.schedule, self.iterations = schedule, iterations

    def __float__(self) -> float:
        return float(self.schedule(int(self.iterations._array)))

    def __repr__(self) -> str:
        return repr(self.schedule)


class Optimizer(Checked):
    """Base of optimizers: settings now, parameters when the model is built.

    learning_rate: a number, or a schedule.  Raises ArgumentError for settings out of range.
    """

    _rule_type: type[_Rule] = _Rule

    def __init__(
        self,
        learning_rate: Any,
        settings: dict[str, Any],
        weight_decay: float | None,
        clipnorm: float | None,
        clipvalue: float | None,
        global_clipnorm: float | None,
        name: str | None,
    ) -> None:
        if type(self)._rule_type is _Rule:
            raise ArgumentError(type(self).__name__, "is a base class", fix="use SGD, Adam, ...")
        self.name = name or type(self).__name__.lower()
        self._schedule = learning_rate if isinstance(learning_rate, schedules.LearningRateSchedule) else None
        rate = self._schedule(0) if self._schedule is not None else learning_rate
        self._settings = {"lr": rate, "weight_decay": weight_decay or 0.0, **settings}
        self._clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = [key for key, value in self._clips.items() if value is not None]
        if len(given) > 1:
            raise ArgumentError(
                type(self).__name__, f"{' and '.join(given)} are all given", fix="choose one way to clip"
            )
        for key in given:
            number(type(self).__name__, self._clips, key, above=1e-300)
        self._rule: _Rule | None = None
        self._make([Tensor(0.0)])  # settings out of range are an error here and now

    def _make(self, parameters: Iterable[Tensor]) -> _Rule:
        rule = self._rule_type(parameters, self._settings)
        for key, value in self._clips.items():
            setattr(rule, key, value)
        return rule

    def build(self, parameters: Iterable[Tensor]) -> optim.Optimizer:
        """Take these parameters on, forgetting all state."""
        rule = self._rule = self._make(list(parameters))
        if self._schedule is not None:
            rule.param_groups[0]["lr"] = _Scheduled(self._schedule, rule.iterations)
        return rule

    @property
    def iterations(self) -> int:
        """How many updates have been made."""
        return 0 if self._rule is None else int(self._rule.iterations.item())

    @property
    def learning_rate(self) -> float:
        """The step size; a number may be set at any time, a schedule may not be changed."""
        source = self._settings if self._rule is None else self._rule.param_groups[0]
        return float(source["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if self._schedule is not None:
            raise ArgumentError(
                type(self).__name__,
                "the learning rate follows a schedule",
                fix="make the optimizer with a number to set it by hand",
            )
        number(type(self).__name__, {"learning_rate": value}, "learning_rate")
        self._settings["lr"] = value
        if self._rule is not None:
            for group in self._rule.param_groups:
                group["lr"] = value


class SGD(Optimizer):
    """Gradient descent with momentum, as Keras's."""

    _rule_type = _SGDRule

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "SGD",
    ) -> None:
        settings = {"momentum": momentum, "nesterov": bool(nesterov)}
        super().__init__(learning_rate, settings, weight_decay, clipnorm, clipvalue, global_clipnorm, name)


class RMSprop(Optimizer):
    """Gradients divided by their running root mean square, as Keras's."""

    _rule_type = _RMSpropRule

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "rmsprop",
    ) -> None:
        settings = {"rho": rho, "momentum": momentum, "eps": epsilon, "centered": bool(centered)}
        super().__init__(learning_rate, settings, weight_decay, clipnorm, clipvalue, global_clipnorm, name)


class Adam(Optimizer):
    """Adam, as Keras's."""

    _rule_type = _AdamRule

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "adam",
    ) -> None:
        settings = {
            "betas": (beta_1, beta_2),
            "eps": epsilon,
            "amsgrad": bool(amsgrad),
            "decoupled_weight_decay": True,
        }
        super().__init__(learning_rate, settings, weight_decay, clipnorm, clipvalue, global_clipnorm, name)


class AdamW(Adam):
    """Adam with a weight decay of 0.004 by default, as Keras's."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "adamw",
    ) -> None:
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            name,
        )


class Adadelta(Optimizer):
    """Steps as long as steps have been, as Keras's."""

    _rule_type = _AdadeltaRule

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "adadelta",
    ) -> None:
        settings = {"rho": rho, "eps": epsilon}
        super().__init__(learning_rate, settings, weight_decay, clipnorm, clipvalue, global_clipnorm, name)


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of their squares, as Keras's."""

    _rule_type = _AdagradRule

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "adagrad",
    ) -> None:
        settings = {"initial_accumulator_value": initial_accumulator_value, "eps": epsilon, "lr_decay": 0.0}
        super().__init__(learning_rate, settings, weight_decay, clipnorm, clipvalue, global_clipnorm, name)


class _WithBetas(Optimizer):
    """Settings of Adamax, Nadam and Lamb."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        settings = {"betas": (beta_1, beta_2), "eps": epsilon, **self._more(weight_decay or 0.0)}
        super().__init__(learning_rate, settings, weight_decay, clipnorm, clipvalue, global_clipnorm, name)

    def _more(self, decay: float) -> dict[str, Any]:
        return {}


class Adamax(_WithBetas):
    """Adam with the largest gradient for the root mean square, as Keras's."""

    _rule_type = _AdamaxRule


class Nadam(_WithBetas):
    """Adam with Nesterov's momentum, as Keras's."""

    _rule_type = _NadamRule

    def _more(self, decay: float) -> dict[str, Any]:
        return {"momentum_decay": 1.0, "decoupled_weight_decay": True}


class Lamb(_WithBetas):
    """Adam's direction scaled to the norm of each weight, as Keras's."""

    _rule_type = _LambRule

    def _more(self, decay: float) -> dict[str, Any]:
        return {"decay": decay, "weight_decay": 0.0}


class Lion(Optimizer):
    """Sign descent, as Keras's."""

    _rule_type = _LionRule

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "lion",
    ) -> None:
        settings = {"betas": (beta_1, beta_2)}
        super().__init__(learning_rate, settings, weight_decay, clipnorm, clipvalue, global_clipnorm, name)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls
    for cls in (SGD, RMSprop, Adam, AdamW, Adadelta, Adagrad, Adamax, Nadam, Lion, Lamb)
}


def get(optimizer: Any) -> Optimizer:
    """The optimizer of this name with its defaults, or the one that was given."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise ArgumentError(
            "compile", f"the optimizer is the class {optimizer.__name__}", fix="call it: Adam()"
        )
    return pick("optimizer", optimizer, OPTIMIZERS)()  # type: ignore[call-arg]
