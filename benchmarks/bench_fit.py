"""`model.fit` of the overview's example: 10,000 rows of 100 numbers, ten classes, batches of 32, Adam.

    python benchmarks/bench_fit.py [--threads 1 2] [--tensorflow ~/tf/bin/python]

A call is an epoch of 313 steps, the last of 16 rows, in order (no shuffling), with what `fit` does for
people besides: accuracy, a history, callbacks that may look.  Times are per step.  Beside minigrad's
captured and eager `fit` run Keras itself on TensorFlow and on JAX, where they are installed, and the loop
that one writes with torch and its fused optimizer.  All start from the same weights; the losses of the
first three epochs must agree.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from typing import Any

import _harness as harness
import _models
import bench_train_step as train
import numpy as np

ROWS, BATCH, EPOCHS = 10_000, 32, 3
CASES: list[harness.Case] = [
    {"label": "fit", "batch": BATCH, "optimizer": "adam", "steps": -(-ROWS // BATCH), "target": {}}
]
MODEL = _models.MODELS["mlp"]


def data() -> tuple[Any, Any, list[Any]]:
    """Rows, one-hot labels, and weights as Keras has them."""
    rng = np.random.default_rng(3)
    x = rng.random((ROWS, 100), dtype=np.float32)
    y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, ROWS)]
    weights = [np.ascontiguousarray(w.T) for w in MODEL.weights().values()]
    return x, y, weights


class Epochs(harness.Engine):
    """An engine that trains whole epochs: `trainer` gives a function that trains one and returns its loss."""

    def environment(self, threads: int) -> dict[str, str]:
        return train.KEEP_MEMORY

    def prepare(self, case: harness.Case) -> harness.Call:
        epoch = self.trainer(*data())
        losses = np.array([epoch() for _ in range(EPOCHS)])

        def call() -> Any:
            epoch()
            return losses

        return call

    @abstractmethod
    def trainer(self, x: Any, y: Any, weights: list[Any]) -> Any:
        """A function that trains for an epoch and returns its loss."""


class Minigrad(Epochs):
    name = "minigrad"
    ours = True
    eager = False
    start = train.Minigrad.start

    def keras(self) -> Any:
        return importlib.import_module("minigrad.keras")

    def settings(self) -> dict[str, Any]:
        return {"run_eagerly": self.eager}

    def trainer(self, x: Any, y: Any, weights: list[Any]) -> Any:
        keras = self.keras()
        layers = keras.layers
        model = keras.Sequential(
            [
                layers.Dense(64, activation="relu", input_shape=(100,)),
                layers.Dense(10, activation="softmax"),
            ]
        )
        model.set_weights(weights)
        model.compile(
            optimizer=keras.optimizers.Adam(learning_rate=0.001),
            loss=keras.losses.CategoricalCrossentropy(),
            metrics=["accuracy"],
            **self.settings(),
        )
        return lambda: model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0).history["loss"][0]


class MinigradEager(Minigrad):
    name = "minigrad-eager"
    ours = False
    eager = True


class Keras(Minigrad):
    """Keras on TensorFlow, as it decides by itself what to compile."""

    name = "tf"
    ours = False
    environment = train.TensorFlow.environment  # type: ignore[assignment]
    start = train.TensorFlow.start  # type: ignore[assignment]

    @property
    def python(self) -> str:  # type: ignore[override]
        return train.TensorFlow.python

    def keras(self) -> Any:
        return importlib.import_module("keras")

    def settings(self) -> dict[str, Any]:
        return {}


class KerasJax(Keras):
    """Keras on JAX."""

    name = "keras-jax"

    def environment(self, threads: int) -> dict[str, str]:  # type: ignore[override]
        return {**train.TensorFlow.environment(self, threads), "KERAS_BACKEND": "jax"}  # type: ignore[arg-type]

    def start(self, threads: int) -> None:  # type: ignore[override]
        importlib.import_module("jax")
        importlib.import_module("keras")


class Torch(Epochs):
    """The loop one writes, with the fused optimizer, and accuracy counted."""

    name = "torch-fused"
    start = train.Torch.start

    def trainer(self, x: Any, y: Any, weights: list[Any]) -> Any:
        torch = self.torch
        w1, b1, w2, b2 = p = [torch.tensor(w).requires_grad_() for w in weights]
        inputs, labels = torch.tensor(x), torch.tensor(y.argmax(1))
        optimizer = torch.optim.Adam(p, 0.001, eps=1e-7, fused=True)

        def epoch() -> float:
            total = hits = 0.0
            for at in range(0, ROWS, BATCH):
                a, b = inputs[at : at + BATCH], labels[at : at + BATCH]
                optimizer.zero_grad()
                scores = torch.relu(a @ w1 + b1) @ w2 + b2
                loss = torch.nn.functional.cross_entropy(scores, b)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(a)
                hits += (scores.argmax(1) == b).sum().item()
            return total / ROWS

        return epoch


ENGINES: list[Epochs] = [Minigrad(), MinigradEager(), Torch(), Keras(), KerasJax()]

if __name__ == "__main__":
    train.main(__file__, ENGINES, CASES, __doc__ or "", 1e-3)
