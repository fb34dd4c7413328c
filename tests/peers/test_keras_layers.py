"""Keras layers and losses against Keras's: outputs with the same weights, and weights of the same shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import keras as mine

theirs = pytest.importorskip("keras")

LAYERS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("LeakyReLU", {}, (3, 4)),
    ("LeakyReLU", {"negative_slope": 0.1}, (3, 4)),
    ("ELU", {"alpha": 0.7}, (3, 4)),
    ("PReLU", {}, (3, 4, 5)),
    ("PReLU", {"shared_axes": [1]}, (3, 4, 5)),
    ("Reshape", {"target_shape": (2, -1)}, (3, 4, 5)),
    ("Permute", {"dims": (2, 1)}, (3, 4, 5)),
    ("RepeatVector", {"n": 3}, (3, 4)),
    ("Rescaling", {"scale": 0.5, "offset": 1.0}, (3, 4)),
    ("LayerNormalization", {}, (3, 4, 5)),
    ("LayerNormalization", {"axis": [1, 2], "epsilon": 0.1, "scale": False}, (3, 4, 5)),
    ("GlobalAveragePooling1D", {}, (3, 4, 5)),
    ("GlobalAveragePooling2D", {"keepdims": True}, (3, 4, 5, 2)),
    ("GlobalMaxPooling1D", {}, (3, 4, 5)),
    ("GlobalMaxPooling2D", {}, (3, 4, 5, 2)),
    *[
        ("Conv1D", {"filters": 3, "kernel_size": 4, "padding": p}, (2, 9, 5))
        for p in ("valid", "same", "causal")
    ],
    ("Conv1D", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}, (2, 8, 5)),
    ("Conv1D", {"filters": 3, "kernel_size": 3, "dilation_rate": 2, "padding": "causal"}, (2, 8, 5)),
    ("UpSampling2D", {}, (2, 3, 4, 2)),
    ("UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"}, (2, 3, 4, 2)),
    ("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}, (2, 3, 4, 2)),
    *[
        (name, {"units": 4, **options}, (2, 5, 3))
        for name in ("SimpleRNN", "LSTM", "GRU")
        for options in ({}, {"return_sequences": True}, {"go_backwards": True, "use_bias": False})
    ],
]


@pytest.mark.parametrize(("name", "options", "shape"), LAYERS, ids=str)
def test_layer(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype("float32")
    layer = getattr(mine.layers, name)(**options)
    model = mine.Sequential([mine.Input(shape[1:]), layer])
    other = getattr(theirs.layers, name)(**options)
    other.build(shape)
    weights = [rng.normal(size=w.shape).astype("float32") for w in other.get_weights()]
    assert [w.shape for w in layer.get_weights()] == [w.shape for w in weights]
    layer.set_weights(weights)
    other.set_weights(weights)
    wanted = np.asarray(other(x))
    got = model(x).detach().numpy()
    assert model.output_shape[1:] == wanted.shape[1:]
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6)


def test_embedding_and_how_layers_start() -> None:
    layer = mine.layers.Embedding(5, 3)
    layer.build(())
    assert layer(mine.layers.zeros(2, 4).long()).shape == (2, 4, 3)
    for name in ("LSTM", "GRU", "SimpleRNN"):
        a, b = getattr(mine.layers, name)(4), getattr(theirs.layers, name)(4)
        a.build((5, 3))
        b.build((None, 5, 3))
        np.testing.assert_allclose(a.get_weights()[2], b.get_weights()[2])  # biases are not random


REAL = ("Huber", "LogCosh", "MeanAbsolutePercentageError", "MeanSquaredLogarithmicError", "Poisson")
LOSSES: list[tuple[str, dict[str, Any], str]] = [
    *[(name, {"reduction": r}, "positive") for name in REAL for r in ("sum_over_batch_size", "sum", "none")],
    ("Huber", {"delta": 0.2}, "positive"),
    *[(name, {}, kind) for name in ("Hinge", "SquaredHinge") for kind in ("signs", "bits")],
    ("CategoricalHinge", {}, "one-hot"),
    ("KLDivergence", {}, "simplex"),
    ("CosineSimilarity", {}, "positive"),
    ("CosineSimilarity", {"axis": 1, "reduction": "none"}, "positive"),
]


@pytest.mark.parametrize(("name", "options", "kind"), LOSSES, ids=str)
def test_loss(name: str, options: dict[str, Any], kind: str) -> None:
    rng = np.random.default_rng(0)
    y = {
        "positive": rng.uniform(0.1, 2.0, size=(4, 3)),
        "signs": np.where(rng.random((4, 3)) < 0.5, -1.0, 1.0),
        "bits": np.where(rng.random((4, 3)) < 0.5, 0.0, 1.0),
        "one-hot": np.eye(3)[[0, 2, 1, 1]],
        "simplex": rng.dirichlet(np.ones(3), 4),
    }[kind].astype("float32")
    p = (rng.dirichlet(np.ones(3), 4) if kind == "simplex" else rng.uniform(0.1, 2.0, (4, 3))).astype(
        "float32"
    )
    got = getattr(mine.losses, name)(**options)(y, p)
    wanted = np.asarray(getattr(theirs.losses, name)(**options)(y, p))
    np.testing.assert_allclose(got.numpy(), wanted, rtol=2e-5, atol=1e-6)
    assert getattr(mine.losses, name)().name == getattr(theirs.losses, name)().name
