"""Keras layers beyond the first ones, in models that train; `tests/peers` compares them with Keras's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import keras
from minigrad.errors import ArgumentError, ShapeError
from minigrad.keras import layers


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_a_recurrent_model_learns(name: str) -> None:
    """Whether the first element of a sequence is a 3: it has to be remembered."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, size=(256, 6))
    y = (x[:, 0] == 3).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Embedding(4, 8),
            getattr(layers, name)(16),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.02), loss="binary_crossentropy")
    history = model.fit(x, y, epochs=25, batch_size=32, verbose=0).history["loss"]
    assert history[-1] < 0.1 * history[0]


def test_an_image_model_has_the_shapes_it_says() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 6, 2)),
            layers.Rescaling(0.5),
            layers.ZeroPadding2D(1),
            layers.Conv2D(4, 3),
            layers.LeakyReLU(),
            layers.SpatialDropout2D(0.2),
            layers.UpSampling2D(2),
            layers.GaussianNoise(0.1),
            layers.LayerNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Reshape((2, 2)),
            layers.Permute((2, 1)),
            layers.GlobalMaxPooling1D(),
            layers.PReLU(),
            layers.RepeatVector(3),
            layers.Conv1D(2, 2, padding="causal"),
            layers.LSTM(5, return_sequences=True),
            layers.ELU(),
        ]
    )
    y = model(np.ones((2, 8, 6, 2), "float32"), training=True)
    assert y.shape == (2, *model.output_shape[1:]) == (2, 3, 5)
    model.compile(optimizer="adam", loss="huber")
    model.fit(np.ones((4, 8, 6, 2)), np.zeros((4, 3, 5)), verbose=0)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: layers.LSTM(4, activation="rely"), ArgumentError),
        (lambda: layers.LSTM(4).build((3,)), ShapeError),
        (lambda: layers.Conv1D(3, 2, padding="full"), ArgumentError),
        (lambda: layers.Conv1D(3, 9).build((4, 2)), ShapeError),
        (lambda: layers.Permute((0, 1)), ArgumentError),
        (lambda: layers.UpSampling2D(2, interpolation="cubic"), ArgumentError),
        (lambda: layers.GaussianNoise(-1.0), ArgumentError),
        (lambda: layers.LayerNormalization(axis=5).build((3,)), ArgumentError),
        (lambda: keras.losses.Huber(delta=0.0), ArgumentError),
        (lambda: keras.losses.Hinge()(np.full((2, 1), 3.0), np.zeros((2, 1))), ArgumentError),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_losses_by_name() -> None:
    y, p = np.array([[0.5, 1.5]]), np.array([[1.0, 1.0]])
    for name in ("mape", "msle", "huber", "log_cosh", "poisson", "cosine_similarity"):
        assert np.isfinite(keras.losses.get(name)(y, p).item())
    far = keras.losses.LogCosh()(np.zeros((1, 1)), np.array([[-500.0]]))
    np.testing.assert_allclose(far.item(), 500.0 - np.log(2.0), rtol=1e-6)
