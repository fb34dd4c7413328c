"""An LSTM that forecasts a chaotic series, against the two forecasts that cost nothing to make.

    python examples/lstm_series.py [--steps N] [--seed N]

The series is that of Mackey and Glass (1977, "Oscillation and chaos in physiological control systems"),

    dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x(t)

sampled once a unit of time: never periodic, and predictable for a while.  The model reads it value by value
and says, at each time, what it will be 6 units later.  Reported is the root mean square error on the last
quarter, which it has not seen, relative to the spread of the series (1 is what the mean would give), for

    as now       the value 6 units later is the one now
    linear       the best linear function of the last 24 values, by least squares
    LSTM         64 cells and a linear map
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

AHEAD, WINDOW, BATCH, PAST = 6, 80, 32, 24


def mackey_glass(count: int, delay: int = 17, fine: int = 10) -> Any:
    """`count` values, one a unit of time, by Runge-Kutta steps of 1 / fine, after 500 units of settling."""
    total = (count + 500) * fine
    x = np.empty(total + delay * fine)
    x[: delay * fine + 1] = 1.2

    def slope(now: float, before: float) -> float:
        return 0.2 * before / (1.0 + before**10) - 0.1 * now

    for i in range(delay * fine, len(x) - 1):
        now, before, after = x[i], x[i - delay * fine], x[i - delay * fine + 1]
        middle = 0.5 * (before + after)
        a = slope(now, before)
        b = slope(now + 0.5 * a / fine, middle)
        c = slope(now + 0.5 * b / fine, middle)
        d = slope(now + c / fine, after)
        x[i + 1] = now + (a + 2 * b + 2 * c + d) / (6 * fine)
    return x[-count * fine :: fine]


class Forecaster(nn.Module):
    """(n, time, 1) to forecasts (n, time)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 64, batch_first=True)
        self.head = nn.Linear(64, 1)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        """What each value will be AHEAD times later."""
        y, _ = self.lstm(x)
        return self.head(y).squeeze(-1)


def linear_forecast(learn: Any, test: Any) -> Any:
    """The least squares forecast from the last PAST values, at each place of `test` that has them."""

    def rows(series: Any) -> Any:
        past = np.lib.stride_tricks.sliding_window_view(series[:-AHEAD], PAST)
        return np.concatenate([past, np.ones((len(past), 1))], axis=1)

    weights, *_ = np.linalg.lstsq(rows(learn), learn[PAST - 1 + AHEAD :], rcond=None)
    return rows(test) @ weights


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train and report; returns the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    series = mackey_glass(4000)
    cut = len(series) * 3 // 4
    centre, spread = series[:cut].mean(), series[:cut].std()
    series = ((series - centre) / spread).astype(np.float32)
    learn, test = series[:cut], series[cut:]
    mg.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    model = Forecaster()
    optimizer = optim.Adam(model.parameters(), lr=5e-3)

    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    begin, running = time.perf_counter(), 0.0
    for k in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * 0.5 * (1.0 + math.cos(math.pi * k / options.steps))
        starts = rng.integers(0, len(learn) - WINDOW - AHEAD, size=(BATCH, 1))
        x = learn[starts + np.arange(WINDOW)]
        y = learn[starts + np.arange(WINDOW) + AHEAD]
        loss = step(mg.tensor(x[..., None]), mg.tensor(y)).item()
        running = loss if k == 0 else 0.98 * running + 0.02 * loss
        if (k + 1) % max(options.steps // 6, 1) == 0:
            print(f"step {k + 1:5}  error {running**0.5:.3f}  {time.perf_counter() - begin:5.1f} s")
    with mg.no_grad():
        forecast = model(mg.tensor(test[None, :-AHEAD, None]))[0].numpy()
    wanted = test[PAST - 1 + AHEAD :]
    found = {
        "as now": test[PAST - 1 : -AHEAD],
        "linear": linear_forecast(learn, test),
        "LSTM": forecast[PAST - 1 :],
    }
    errors = {name: float(np.sqrt(np.mean((f - wanted) ** 2))) for name, f in found.items()}
    for name, error in errors.items():
        print(f"{name:8} {error:.3f}")
    return errors


if __name__ == "__main__":
    main()
