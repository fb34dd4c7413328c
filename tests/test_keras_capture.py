"""`fit` replays captured steps: the same numbers, the same errors, and no more traces than needed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import keras
from minigrad.errors import AnomalyError, ArgumentError, TraceError
from minigrad.keras import layers
from minigrad.keras.capturing import WARM, WARM_TESTS, Step

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(70, 6)), RNG.integers(0, 3, 70)
IMAGES = RNG.normal(size=(70, 6, 6, 1))


def dense() -> list[Any]:
    return [layers.Dense(5, "relu", input_shape=(6,)), layers.Dense(3, "softmax")]


def everything() -> list[Any]:
    return [
        layers.Conv2D(3, 3, padding="same", activation="relu", input_shape=(6, 6, 1)),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.4),
        layers.Dense(3),
    ]


def make(make_layers: Any, **compiled: Any) -> keras.Sequential:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(make_layers())
    settings = {"optimizer": keras.optimizers.Adam(0.02), "loss": "sparse_categorical_crossentropy"}
    model.compile(**{**settings, "metrics": ["accuracy"], **compiled})
    return model


def train_step(model: keras.Sequential) -> Any:
    return model._compiled.steps["_train"]


def pairs(make_layers: Any, **compiled: Any) -> Iterator[keras.Sequential]:
    """Twice the same model, one after the other, so that both draw the same random numbers."""
    return (make(make_layers, **compiled, run_eagerly=eager) for eager in (False, True))


def alike(captured: keras.Sequential, eager: keras.Sequential) -> None:
    assert train_step(captured).captured
    assert not train_step(eager).captured
    for a, b in zip(captured.get_weights(), eager.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("make_layers", "x", "compiled", "fitted"),
    [
        (dense, X, {}, {}),
        (dense, X, {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)}, {}),
        (dense, X, {"metrics": ["accuracy", "mse"], "loss": "mse"}, {"sample_weight": RNG.random(70)}),
        (dense, X, {"loss": keras.losses.MeanAbsoluteError("sum")}, {"class_weight": {0: 2.0}}),
        (everything, IMAGES, {"loss": LOGITS}, {"validation_split": 0.2}),
    ],
)
def test_captured_is_eager(make_layers: Any, x: Any, compiled: Any, fitted: Any) -> None:
    y = Y if "loss" not in compiled or compiled["loss"] is LOGITS else np.eye(3)[Y]
    histories = []
    models = []
    for eager in (False, True):
        if "optimizer" in compiled:  # each model has its own
            compiled = {**compiled, "optimizer": copy.deepcopy(compiled["optimizer"])}
        models.append(model := make(make_layers, **compiled, run_eagerly=eager))
        histories.append(model.fit(x, y, batch_size=16, epochs=4, verbose=0, **fitted).history)
    alike(*models)
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_uneven_batches_and_later_fits_do_not_trace_again() -> None:
    model = make(dense)
    model.fit(X, Y, batch_size=16, epochs=1, verbose=0)
    assert train_step(model).compiled.traces == 1  # the batch of 6 came once, and ran as it was
    for _ in range(3):
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0, validation_data=(X[:40], Y[:40]))
        model.evaluate(X, Y, verbose=0)
        model.predict(X, verbose=0)
    assert train_step(model).compiled.traces == 2
    assert not train_step(model).compiled.reasons.keys() - {"other arguments"}


def test_a_learning_rate_that_a_callback_sets_is_seen() -> None:
    def slower(epoch: int, logs: Any) -> None:
        model.optimizer.learning_rate = 0.1 / (epoch + 1)

    models = []
    for model in pairs(dense, optimizer="sgd"):
        models.append(model)
        model.fit(
            X,
            Y,
            batch_size=10,
            epochs=3,
            verbose=0,
            callbacks=keras.callbacks.LambdaCallback(on_epoch_begin=slower),
        )
    alike(*models)
    assert train_step(models[0]).compiled.traces == 1
    before = models[0].get_weights()
    models[0].optimizer.learning_rate = 0.0
    models[0].fit(X, Y, batch_size=10, verbose=0)
    assert all((a == b).all() for a, b in zip(before, models[0].get_weights(), strict=True))


def test_weights_set_from_outside_and_frozen_layers() -> None:
    models = []
    for model in pairs(dense):
        models.append(model)
        model.fit(X, Y, batch_size=10, verbose=0)
        model.set_weights([w * 0.5 for w in model.get_weights()])
        model.fit(X, Y, batch_size=10, verbose=0)
        model.layers[0].trainable = False
        kept = model.layers[0].get_weights()
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=model.run_eagerly)
        model.fit(X, Y, batch_size=10, verbose=0)
        assert all((a == b).all() for a, b in zip(kept, model.layers[0].get_weights(), strict=True))
    alike(*models)


def test_a_step_that_cannot_be_recorded_runs_as_it_is_and_says_so_once() -> None:
    def choosy(y: mg.Tensor, p: mg.Tensor) -> mg.Tensor:
        return ((y - p) ** 2).mean() if p.mean() > 0.5 else (y - p).abs().mean()

    y = np.eye(3)[Y]
    eager = make(dense, loss=choosy, run_eagerly=True)
    for _ in range(2):
        eager.fit(X, y, batch_size=10, verbose=0)
    model = make(dense, loss=choosy)
    with pytest.warns(UserWarning, match=r"uncompiled.*test_keras_capture\.py.*p\.mean\(\) > 0\.5"):
        model.fit(X, y, batch_size=10, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y, batch_size=10, verbose=0)
    for a, b in zip(model.get_weights(), eager.get_weights(), strict=True):
        assert (a == b).all()
    with pytest.raises(TraceError, match=r"p\.mean\(\) > 0\.5"):
        make(dense, loss=choosy, jit_compile=True).fit(X, y, batch_size=10, verbose=0)


def test_nan_in_a_captured_step_changes_nothing() -> None:
    x = X.copy()
    x[65, 2] = np.nan
    model = make(everything, loss=LOGITS)
    images = np.pad(x[:, :, None, None], ((0, 0), (0, 0), (0, 5), (0, 0)))
    before: list[Any] = []
    save = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda step, logs: before.append([p.numpy().copy() for p in learned])
    )
    learned = [p.detach() for p in model.trainable_weights]
    with pytest.raises(
        AnomalyError, match=r"the loss became nan in epoch 1, step 7: x\[65, 2, 0, 0\] is nan"
    ):
        model.fit(images, Y, batch_size=10, shuffle=False, verbose=0, callbacks=save)
    assert train_step(model).captured
    assert all((a == b.numpy()).all() for a, b in zip(before[-1], learned, strict=True))


def test_predictions_that_are_no_probabilities_are_refused_when_captured_too() -> None:
    def scaled(x: mg.Tensor) -> mg.Tensor:
        return mg.sigmoid(x) * 1.2

    model = make(
        lambda: [layers.Dense(3, scaled, input_shape=(6,))], loss="categorical_crossentropy", metrics=None
    )
    x = np.zeros((40, 6))
    x[35:] = 100.0 * np.sign(model.get_weights()[0][:, 0])
    before: list[Any] = []
    save = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda step, logs: before.append(model.get_weights())
    )
    with pytest.raises(ArgumentError, match=r"takes probabilities, predictions run from .* to 1\.2"):
        model.fit(x, np.eye(3)[Y[:40]], batch_size=5, shuffle=False, verbose=0, callbacks=save)
    assert train_step(model).captured
    assert len(before) == 8
    assert all((a == b).all() for a, b in zip(before[-1], model.get_weights(), strict=True))


def test_evaluate_and_predict() -> None:
    results = []
    for model in pairs(everything, loss=LOGITS):
        model.fit(IMAGES, Y, batch_size=10, verbose=0)
        many = np.tile(IMAGES, (3, 1, 1, 1))
        loss, accuracy = model.evaluate(many, np.tile(Y, 3), batch_size=10, verbose=0)
        results.append((loss, accuracy, model.predict(many, batch_size=10, verbose=0)))
        assert model._forward_step.captured != model.run_eagerly
        assert model._compiled.steps["_score"].captured != model.run_eagerly
        assert not model.training
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_train_on_batch() -> None:
    models = list(pairs(dense))
    for k in range(0, 60, 10):
        a, b = (m.train_on_batch(X[k : k + 10], Y[k : k + 10]) for m in models)
        np.testing.assert_allclose(a, b, rtol=1e-4)
    alike(*models)


def test_a_copy_of_a_model_trains_by_itself() -> None:
    model = make(dense)
    model.fit(X, Y, batch_size=10, verbose=0)
    model.predict(np.tile(X, (9, 1)), verbose=0)
    twin = copy.deepcopy(model)
    before = model.get_weights()
    twin.fit(X, Y, batch_size=10, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert any((a != b).any() for a, b in zip(before, twin.get_weights(), strict=True))


def test_layers_added_later_are_trained() -> None:
    models = []
    for model in pairs(dense):
        model.fit(X, Y, batch_size=10, verbose=0)
        model.pop()
        model.add(layers.Dense(4, "tanh", kernel_initializer="ones"))
        model.add(layers.Dense(3, "softmax", kernel_initializer="ones"))
        model.fit(X, Y, batch_size=10, verbose=0)
        models.append(model)
    alike(*models)


@pytest.mark.parametrize("warm", [WARM, WARM_TESTS])
def test_a_step_is_captured_when_it_has_been_called_often(warm: int) -> None:
    calls = []

    def double(x: mg.Tensor) -> mg.Tensor:
        calls.append(x)
        return x * 2.0

    step = Step(double, warm=warm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(warm + 3):
            assert step(mg.full((2,), k)).tolist() == [2.0 * k] * 2
    assert len(calls) == warm + 1
    step(mg.ones(3))
    assert len(calls) == warm + 2
