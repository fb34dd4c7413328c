"""Keras's optimizers and schedules, number by number (float64, 20 steps)."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
real = pytest.importorskip("keras")


@pytest.fixture(autouse=True)
def _double():
    before = real.backend.floatx()
    real.backend.set_floatx("float64")
    yield
    real.backend.set_floatx(before)


def grid(**choices: list[Any]) -> list[dict[str, Any]]:
    return [{}, *(dict(zip(choices, row, strict=True)) for row in itertools.product(*choices.values()))]


BETAS: dict[str, list[Any]] = {
    "learning_rate": [0.05],
    "beta_1": [0.9, 0.5],
    "beta_2": [0.8],
    "weight_decay": [None, 0.1],
}
CLIPS: list[dict[str, Any]] = [{"clipnorm": 0.5}, {"clipvalue": 0.3}, {"global_clipnorm": 0.7}]
CASES = {
    "SGD": grid(learning_rate=[0.1], momentum=[0.0, 0.9], nesterov=[False, True], weight_decay=[None, 0.1])
    + CLIPS,
    "RMSprop": grid(
        learning_rate=[0.05],
        rho=[0.9, 0.5],
        momentum=[0.0, 0.8],
        epsilon=[1e-3],
        centered=[False, True],
        weight_decay=[None, 0.1],
    ),
    "Adam": [*grid(**BETAS, epsilon=[1e-3], amsgrad=[False, True]), *CLIPS],
    "AdamW": grid(learning_rate=[0.05], weight_decay=[0.1]),
    "Adagrad": grid(
        learning_rate=[0.1], initial_accumulator_value=[0.1, 1.0], epsilon=[1e-2], weight_decay=[None, 0.1]
    ),
    "Adadelta": grid(learning_rate=[0.5], rho=[0.95, 0.6], epsilon=[1e-3], weight_decay=[None, 0.1]),
    "Adamax": grid(**BETAS, epsilon=[1e-3]),
    "Nadam": grid(**BETAS, epsilon=[1e-3]),
    "Lion": grid(**BETAS),
    "Lamb": grid(**BETAS, epsilon=[1e-3]),
}


def walk(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(3, 2)), rng.normal(size=(4,))]
    p = [mg.tensor(v, requires_grad=True) for v in start]
    q = [real.Variable(v, dtype="float64") for v in start]
    mine, other = getattr(keras.optimizers, name)(**ours), getattr(real.optimizers, name)(**theirs)
    rule = mine.build(p)
    other.build(q)
    for _ in range(20):
        grads = [rng.normal(size=v.shape) for v in start]
        for t, g in zip(p, grads, strict=True):
            t.grad = mg.tensor(g)
        rule.step()
        other.apply([real.ops.convert_to_tensor(g) for g in grads], q)
        np.testing.assert_allclose(mine.learning_rate, float(other.learning_rate), rtol=2e-5, atol=1e-8)
        for t, v in zip(p, q, strict=True):
            # Keras rounds learning rates and betas to float32: 1 - beta_2^t is then off by 1e-5
            np.testing.assert_allclose(
                t.detach().numpy(), v.numpy(), rtol=1e-5, atol=1e-5, err_msg=f"{name} {ours}"
            )


@pytest.mark.parametrize("name", CASES)
def test_optimizer(name: str) -> None:
    for kwargs in CASES[name]:
        walk(name, kwargs, kwargs)


SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("ExponentialDecay", {"decay_steps": 7, "decay_rate": 0.5}),
    ("ExponentialDecay", {"decay_steps": 7, "decay_rate": 0.5, "staircase": True}),
    ("InverseTimeDecay", {"decay_steps": 7, "decay_rate": 0.5}),
    ("InverseTimeDecay", {"decay_steps": 7, "decay_rate": 0.5, "staircase": True}),
    ("PolynomialDecay", {"decay_steps": 11, "power": 2.0, "end_learning_rate": 0.01}),
    ("PolynomialDecay", {"decay_steps": 11, "cycle": True}),
    ("CosineDecay", {"decay_steps": 15, "alpha": 0.1}),
    ("CosineDecay", {"decay_steps": 15, "warmup_target": 0.5, "warmup_steps": 5}),
    ("CosineDecayRestarts", {"first_decay_steps": 4, "m_mul": 0.8, "alpha": 0.05}),
    ("CosineDecayRestarts", {"first_decay_steps": 6, "t_mul": 1.0, "m_mul": 0.5}),
    ("CosineDecayRestarts", {"first_decay_steps": 3, "t_mul": 1.5}),
]


@pytest.mark.parametrize(("name", "kwargs"), SCHEDULES)
def test_schedule(name: str, kwargs: dict[str, Any]) -> None:
    mine = getattr(keras.optimizers.schedules, name)(0.2, **kwargs)
    other = getattr(real.optimizers.schedules, name)(0.2, **kwargs)
    for step in range(60):
        np.testing.assert_allclose(mine(step), float(other(step)), rtol=2e-5, atol=1e-7, err_msg=str(step))
    walk("SGD", {"learning_rate": mine}, {"learning_rate": other})


def test_piecewise() -> None:
    mine = keras.optimizers.schedules.PiecewiseConstantDecay([3, 9], [0.5, 0.2, 0.1])
    other = real.optimizers.schedules.PiecewiseConstantDecay([3, 9], [0.5, 0.2, 0.1])
    for step in range(15):
        np.testing.assert_allclose(mine(step), float(other(step)), rtol=1e-6)
