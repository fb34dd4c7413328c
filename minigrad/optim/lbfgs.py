"""L-BFGS: Newton's method from gradients alone, for full batches.

Newton's step is -H g with H the inverse of the second derivatives.  BFGS builds H from how the gradient has
changed: after a step s the gradient changed by y, so H y = s must hold.  Limited memory means that H is
never formed, only applied, from the last pairs (s_i, y_i) with rho_i = 1 / y_i.s_i (the two-loop recursion,
Nocedal & Wright 2006, algorithm 7.4):

    q = -g
    for i from the newest to the oldest:   a_i = rho_i s_i.q;      q <- q - a_i y_i
    d = gamma q,                           gamma = s.y / y.y of the newest
    for i from the oldest to the newest:   b = rho_i y_i.d;        d <- d + (a_i - b) s_i

How far to go along d is for a line search to say.  "strong_wolfe" looks for a t at which the loss f has
fallen enough, and its slope f' has flattened enough:

    f(t) <= f(0) + 1e-4 t f'(0)            |f'(t)| <= 0.9 |f'(0)|

by stepping out until such a point is bracketed, and cutting the bracket where the cubic through its ends has
its minimum (Nocedal & Wright, algorithms 3.5 and 3.6).  Without a line search the step is lr itself, the
first of all min(1, 1 / |g|_1) lr.

The loss is evaluated several times a step, so it comes as a closure:

    >>> import minigrad as mg
    >>> p = mg.tensor([-1.2, 1.0], dtype="float64", requires_grad=True)
    >>> optimizer = LBFGS([p], max_iter=60, line_search_fn="strong_wolfe")
    >>> def rosenbrock():
    ...     optimizer.zero_grad()
    ...     loss = 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2
    ...     loss.backward()
    ...     return loss
    >>> loss = optimizer.step(rosenbrock)
    >>> p.detach(), optimizer.state[p]["func_evals"] < 60
    (tensor([1., 1.], dtype=float64), True)

The steps depend on the values that the closure returns, so `step` cannot be part of a compiled program; the
closure can be one, and that is where the time goes.

References: Liu & Nocedal 1989; Nocedal & Wright 2006.  Settings, defaults, tolerances and the safeguards of
the line search are PyTorch's (which has them from M. Schmidt's minFunc), and the iterates are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..autograd import enable_grad
from ..errors import ArgumentError, TraceError, here
from ..mode import current
from ..tensor import Tensor, wrap
from .base import Array, Group, Optimizer, number

#: (step length) -> (loss, gradient) there
Along = Callable[[float], tuple[float, Array]]


class LBFGS(Optimizer):
    """L-BFGS, one call of `step(closure)` making up to max_iter iterations.

    max_eval: evaluations a call at most (default: 1.25 max_iter).  tolerance_grad: stop when no element of
    the gradient is larger; tolerance_change: when a step or the change of the loss is smaller.
    history_size: pairs that are kept.  line_search_fn: None or "strong_wolfe".
    Takes one group of parameters.  Raises ArgumentError for more, or for settings out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: Any) -> None:
        """The one group of parameters; ArgumentError for a second, or for parameters of two dtypes."""
        if self.param_groups:
            raise ArgumentError("LBFGS", "a second group of parameters", fix="give all in one list")
        super().add_param_group(param_group)
        dtypes = {p.dtype for p in self.param_groups[0]["params"]}
        if len(dtypes) > 1:
            names = ", ".join(sorted(map(str, dtypes)))
            raise ArgumentError("LBFGS", f"parameters of dtypes {names}", fix="convert them to one")

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a setting is out of range."""
        for name in ("lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change", "history_size"):
            number("LBFGS", group, name)
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ArgumentError(
                "LBFGS",
                f"there is no line search {group['line_search_fn']!r}",
                fix="use strong_wolfe or None",
            )

    def _restored(self, value: Any, p: Tensor) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._restored(v, p) for v in value]
        if not hasattr(value, "__array__"):
            return value
        return wrap(np.array(value._array if isinstance(value, Tensor) else value))

    def _keep_tensors(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """No compiled program reads this state."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Iterate; returns the loss at the beginning.

        closure: clears the gradients, computes the loss, calls backward and returns the loss.
        """
        if closure is None:
            raise ArgumentError(
                "LBFGS.step",
                "no closure is given, but the loss must be evaluated several times",
                fix="pass a function that clears gradients, calls backward and returns the loss",
            )
        if current().trace is not None:
            raise TraceError(
                "LBFGS.step",
                "its steps depend on the values of the loss, which are not known in a trace",
                fix="compile the closure, and call step outside",
            )
        self._stepped = True
        group = self.param_groups[0]
        params: list[Tensor] = group["params"]
        state = self.state[params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        with enable_grad():
            first = closure()
        loss, g = float(first), self._gradient()
        state["func_evals"] += 1
        evaluations = 1
        if np.abs(g).max(initial=0.0) <= group["tolerance_grad"]:
            return first

        d: Any = state["d"]._array if "d" in state else None
        t = float(state.get("t", 0.0))
        ss, ys = ([x._array for x in state.get(name, [])] for name in ("old_stps", "old_dirs"))
        rhos, gamma = list(map(float, state.get("ro", []))), float(state.get("H_diag", 1.0))
        before = state["prev_flat_grad"]._array if "prev_flat_grad" in state else None
        previous = loss

        for iteration in range(1, int(group["max_iter"]) + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                d, gamma, ss, ys, rhos = -g, 1.0, [], [], []
            else:
                s, y = d * t, g - before
                curvature = float(y @ s)
                if curvature > 1e-10:  # otherwise H would not stay positive definite
                    if len(ss) == group["history_size"]:
                        for old in (ss, ys, rhos):
                            del old[0]
                    ss.append(s)
                    ys.append(y)
                    rhos.append(1.0 / curvature)
                    gamma = curvature / float(y @ y)
                d = _direction(g, ss, ys, rhos, gamma)
            before, previous = g.copy(), loss
            lr = float(group["lr"])
            t = min(1.0, 1.0 / float(np.abs(g).sum())) * lr if state["n_iter"] == 1 else lr
            slope = float(g @ d)
            if slope > -group["tolerance_change"]:
                break

            spent = 0
            if group["line_search_fn"] is None:
                self._move(d, t)
                if iteration != group["max_iter"]:
                    with enable_grad():
                        loss = float(closure())
                    g, spent = self._gradient(), 1
            else:
                start = [p._array.copy() for p in params]

                def along(t: float, d: Array = d, start: list[Array] = start) -> tuple[float, Array]:
                    self._move(d, t)
                    with enable_grad():
                        value = float(closure())
                    g = self._gradient()
                    self._put_back(start)
                    return value, g

                loss, g, t, spent = strong_wolfe(
                    along, t, d, loss, g, slope, tolerance_change=group["tolerance_change"]
                )
                self._move(d, t)
            evaluations += spent
            state["func_evals"] += spent
            if (
                iteration == group["max_iter"]
                or evaluations >= group["max_eval"]
                or np.abs(g).max(initial=0.0) <= group["tolerance_grad"]
                or np.abs(d * t).max(initial=0.0) <= group["tolerance_change"]
                or abs(loss - previous) < group["tolerance_change"]
            ):
                break

        state["d"], state["t"] = wrap(d), t
        state["old_stps"], state["old_dirs"] = [wrap(s) for s in ss], [wrap(y) for y in ys]
        state["ro"], state["H_diag"] = rhos, gamma
        state["prev_flat_grad"], state["prev_loss"] = wrap(before), previous
        return first

    def _gradient(self) -> Array:
        """The gradients of all parameters, end to end."""
        parts = []
        for p in self.param_groups[0]["params"]:
            grad = p.grad
            parts.append(np.zeros(p.numel(), p.dtype) if grad is None else grad._array.reshape(-1))
        return np.concatenate(parts)

    def _move(self, d: Array, t: float) -> None:
        """Go t along d."""
        where, stop = here(), 0
        for p in self.param_groups[0]["params"]:
            start, stop = stop, stop + p.numel()
            p._touch(where)
            array = p._array
            array += t * d[start:stop].reshape(array.shape)

    def _put_back(self, arrays: list[Array]) -> None:
        where = here()
        for p, array in zip(self.param_groups[0]["params"], arrays, strict=True):
            p._touch(where)
            p._array[...] = array


def _direction(g: Array, ss: list[Array], ys: list[Array], rhos: list[float], gamma: float) -> Array:
    """-H g, by the two loops at the top of this file."""
    q = -g
    shares = [0.0] * len(ss)
    for i in reversed(range(len(ss))):
        shares[i] = float(ss[i] @ q) * rhos[i]
        q -= shares[i] * ys[i]
    d: Array = q * g.dtype.type(gamma)
    for i in range(len(ss)):
        d += ss[i] * (shares[i] - float(ys[i] @ d) * rhos[i])
    return d


def _cubic(
    x1: float,
    f1: float,
    g1: float,
    x2: float,
    f2: float,
    g2: float,
    bounds: tuple[float, float] | None = None,
) -> float:
    """Where the cubic with values f and slopes g at x1 and x2 has its minimum, within the bounds.

    Nocedal & Wright, equation 3.59; the middle of the bounds if there is none.
    """
    low, high = bounds or (min(x1, x2), max(x1, x2))
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    if x1 <= x2:
        found = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    else:
        found = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(found, low), high)


def strong_wolfe(
    along: Along,
    t: float,
    d: Array,
    f0: float,
    g0: Array,
    slope0: float,
    c1: float = 1e-4,
    c2: float = 0.9,
    tolerance_change: float = 1e-9,
    max_ls: int = 25,
) -> tuple[float, Array, float, int]:
    """A step length for which the strong Wolfe conditions hold: (loss, gradient, length, evaluations).

    along: the loss and its gradient at a length.  t: the first length to try.  f0, g0, slope0: loss,
    gradient and slope at 0.  The best point known is returned if none is found in max_ls tries.
    """
    size = float(np.abs(d).max())

    def point(t: float) -> tuple[float, float, Array, float]:
        f, g = along(t)
        return t, f, g, float(g @ d)

    def too_high(p: tuple[float, float, Array, float]) -> bool:
        return p[1] > f0 + c1 * p[0] * slope0

    def good(p: tuple[float, float, Array, float]) -> bool:
        return abs(p[3]) <= -c2 * slope0

    now, before = point(t), (0.0, f0, g0, slope0)
    evaluations = 1
    bracket: list[tuple[float, float, Array, float]] = []
    tries = 0
    while tries < max_ls:  # step out until a minimum lies between two points
        if too_high(now) or (tries > 1 and now[1] >= before[1]):
            bracket = [before, now]
        elif good(now):
            return now[1], now[2], now[0], evaluations
        elif now[3] >= 0:
            bracket = [before, now]
        if bracket:
            break
        bounds = (now[0] + 0.01 * (now[0] - before[0]), now[0] * 10)
        t = _cubic(before[0], before[1], before[3], now[0], now[1], now[3], bounds)
        before, now = now, point(t)
        evaluations += 1
        tries += 1
    if not bracket:
        bracket = [(0.0, f0, g0, slope0), now]

    low, high = (0, 1) if bracket[0][1] <= bracket[1][1] else (1, 0)
    slow = False  # whether the last cut was close to an end
    while tries < max_ls:  # cut the bracket
        (t0, f_0, _, s0), (t1, f_1, _, s1) = bracket
        if abs(t1 - t0) * size < tolerance_change:
            break
        t = _cubic(t0, f_0, s0, t1, f_1, s1)
        left, right = min(t0, t1), max(t0, t1)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:  # too close to an end twice in a row: well inside, then
            if slow or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                slow = False
            else:
                slow = True
        else:
            slow = False
        new = point(t)
        evaluations += 1
        tries += 1
        if too_high(new) or new[1] >= bracket[low][1]:
            bracket[high] = new
            low, high = (0, 1) if bracket[0][1] <= bracket[1][1] else (1, 0)
        else:
            if good(new):
                bracket[low] = new
                break
            if new[3] * (bracket[high][0] - bracket[low][0]) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = new
    t, f, g, _ = bracket[low]
    return f, g, t, evaluations


__all__ = ["LBFGS", "strong_wolfe"]
