"""The Keras-style front: the overview's script, the numbers, and the mistakes of beginners."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import keras
from minigrad.errors import AnomalyError, ArgumentError, DTypeError, ShapeError
from minigrad.keras import layers


def model_for(width: int = 4, classes: int = 3, last: Any = "softmax", **compiled: Any) -> keras.Sequential:
    model = keras.Sequential(
        [layers.Dense(8, activation="tanh", input_shape=(width,)), layers.Dense(classes, activation=last)]
    )
    model.compile(
        **{
            "optimizer": "adam",
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
            **compiled,
        }
    )
    return model


def blobs(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three well separated clouds in four dimensions."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return (np.eye(4)[y] * 3 + rng.normal(size=(n, 4)) * 0.3), y


# -- the script of the overview, as written ---------------------------------------------------------


@pytest.mark.parametrize("one_hot", [False, True])
def test_overview(one_hot: bool, capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential(
        [
            layers.Dense(64, activation="relu", input_shape=(100,)),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=0.001),
        loss=keras.losses.CategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    rng = np.random.default_rng(0)
    data, labels = rng.random((1000, 100)), rng.random((1000, 10))
    if one_hot:
        labels = np.eye(10)[labels.argmax(1)]
    history = model.fit(data, labels, epochs=10, batch_size=32)
    assert history.epoch == list(range(10))
    assert history.history["loss"][-1] < history.history["loss"][0]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    pattern = (
        r"Epoch 10/10 - 32 steps - \d+\.\ds - [\d.]+(us|ms)/step - accuracy: 0\.\d{4} - loss: \d+\.\d{4}"
    )
    assert re.fullmatch(pattern, lines[-1])


def test_other_ways_to_import() -> None:
    from minigrad.keras.layers import Dense
    from minigrad.keras.losses import CategoricalCrossentropy
    from minigrad.keras.models import Sequential
    from minigrad.keras.optimizers import Adam

    model = Sequential()
    model.add(Dense(5, input_dim=3))
    model.compile(Adam(), CategoricalCrossentropy(from_logits=True))
    assert model.fit(np.eye(3), np.eye(5)[:3], verbose=0).history.keys() == {"loss"}
    assert keras.models.Sequential is keras.Sequential


def test_it_learns_and_is_reproducible() -> None:
    x, y = blobs()
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        model = model_for(optimizer=keras.optimizers.Adam(0.02))
        history = model.fit(x, y, epochs=15, verbose=0, validation_split=0.2)
        runs.append(history.history)
    assert runs[0] == runs[1]
    assert list(runs[0]) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert runs[0]["val_accuracy"][-1] == 1.0
    p = model.predict(x, verbose=0)
    assert p.shape == (90, 3)
    np.testing.assert_allclose(p.sum(1), 1.0, rtol=1e-5)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(loss, -np.log(p[np.arange(90), y]).mean(), rtol=1e-4)
    assert accuracy == (p.argmax(1) == y).mean()
    assert model.evaluate(x, y, verbose=0, return_dict=True) == {"loss": loss, "accuracy": accuracy}


def test_a_step_is_the_step_of_the_formula() -> None:
    """One batch of SGD on Dense + softmax, computed by hand."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(6, 4)), np.eye(3)[[0, 1, 2, 2, 1, 0]]
    model = keras.Sequential([layers.Dense(3, activation="softmax", input_shape=(4,))])
    model.compile(keras.optimizers.SGD(learning_rate=0.5), "categorical_crossentropy")
    w, b = model.get_weights()
    p = np.exp(x @ w + b)
    p /= p.sum(1, keepdims=True)
    loss = model.train_on_batch(x, y)
    np.testing.assert_allclose(loss, -(y * np.log(p)).sum(1).mean(), rtol=1e-6)
    after = model.get_weights()
    np.testing.assert_allclose(after[0], w - 0.5 * x.T @ (p - y) / 6, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after[1], b - 0.5 * (p - y).mean(0), rtol=1e-5, atol=1e-6)


def test_weights_of_examples_and_classes() -> None:
    x, y = blobs(30)
    model = model_for(metrics=None)
    p = model.predict(x, verbose=0)
    each = -np.log(p[np.arange(30), y])
    w = np.linspace(0, 2, 30)
    np.testing.assert_allclose(model.evaluate(x, y, sample_weight=w, verbose=0), (w * each).mean(), rtol=1e-5)
    a = model_for(metrics=None)
    b = model_for(metrics=None)
    b.set_weights(a.get_weights())
    a.fit(x, y, class_weight={0: 2.0, 2: 0.5}, verbose=0, shuffle=False)
    b.fit(x, y, sample_weight=np.array([2.0, 1.0, 0.5])[y], verbose=0, shuffle=False)
    for u, v in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(u, v)


# -- optimizers: Keras's formulas, not PyTorch's ----------------------------------------------------


def _walk(optimizer: keras.optimizers.Optimizer, gradients: list[float]) -> float:
    p = mg.tensor([1.0], dtype="float64", requires_grad=True)
    rule = optimizer.build([p])
    for g in gradients:
        p.grad = mg.tensor([g], dtype="float64")
        rule.step()
    return float(p.item())


GRADIENTS = [1.0, -0.5, 2.0, 0.25]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov: bool) -> None:
    x, m = 1.0, 0.0
    for g in GRADIENTS:
        m = 0.9 * m - 0.1 * g
        x += 0.9 * m - 0.1 * g if nesterov else m
    found = _walk(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=nesterov), GRADIENTS)
    np.testing.assert_allclose(found, x, rtol=1e-12)


def test_adam_has_keras_epsilon() -> None:
    x, m, v = 1.0, 0.0, 0.0
    for t, g in enumerate(GRADIENTS, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x *= 1 - 0.05 * 0.1
        x -= 0.05 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 0.01)
    found = _walk(keras.optimizers.Adam(0.05, epsilon=0.01, weight_decay=0.1), GRADIENTS)
    np.testing.assert_allclose(found, x, rtol=1e-12)
    assert keras.optimizers.Adam()._settings["eps"] == 1e-7


def test_learning_rate_can_change() -> None:
    model = model_for(optimizer=keras.optimizers.SGD(0.1))
    x, y = blobs(8)
    model.fit(x, y, verbose=0)
    model.optimizer.learning_rate = 0.0
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.optimizer.learning_rate == 0.0
    with pytest.raises(ArgumentError, match="learning_rate is -1"):
        model.optimizer.learning_rate = -1


# -- losses ----------------------------------------------------------------------------------------


P = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
Y = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def test_losses_from_probabilities_and_logits() -> None:
    wanted = -(np.log(0.5) + np.log(0.8)) / 2
    cce, sparse = keras.losses.CategoricalCrossentropy, keras.losses.SparseCategoricalCrossentropy
    for loss, y in ((cce, Y), (sparse, [1, 2]), (sparse, [[1], [2]])):
        np.testing.assert_allclose(loss()(y, P).item(), wanted, rtol=1e-5)
        np.testing.assert_allclose(loss(from_logits=True)(y, np.log(P) + 3).item(), wanted, rtol=1e-5)
    smooth = Y * 0.9 + 0.1 / 3
    np.testing.assert_allclose(
        cce(label_smoothing=0.1)(Y, P).item(), -(smooth * np.log(P)).sum(1).mean(), rtol=1e-5
    )
    assert cce(reduction="none")(Y, P).shape == (2,)
    np.testing.assert_allclose(cce(reduction="sum")(Y, P).item(), 2 * wanted, rtol=1e-5)
    np.testing.assert_allclose(cce()(Y, P, sample_weight=[1, 0]).item(), -np.log(0.5) / 2, rtol=1e-5)
    assert cce()([[1.0, 0.0]], [[0.0, 1.0]]).item() == pytest.approx(-np.log(1e-7), rel=1e-5)


def test_binary_losses() -> None:
    p, y = np.array([[0.2], [0.7]]), np.array([0, 1])
    wanted = -(np.log(0.8) + np.log(0.7)) / 2
    bce = keras.losses.BinaryCrossentropy
    np.testing.assert_allclose(bce()(y, p).item(), wanted, rtol=1e-5)
    np.testing.assert_allclose(bce(from_logits=True)(y, np.log(p / (1 - p))).item(), wanted, rtol=1e-5)
    smooth = y[:, None] * 0.8 + 0.1
    np.testing.assert_allclose(
        bce(label_smoothing=0.2)(y, p).item(),
        -(smooth * np.log(p) + (1 - smooth) * np.log(1 - p)).mean(),
        rtol=1e-5,
    )
    assert keras.losses.MeanSquaredError()([[1.0], [2.0]], [[0.0], [4.0]]).item() == 2.5
    assert keras.losses.MeanAbsoluteError()([1.0, 2.0], [[0.0], [4.0]]).item() == 1.5


@pytest.mark.parametrize(
    ("loss", "last", "y"),
    [
        ("categorical_crossentropy", "softmax", np.eye(3)[:2]),
        ("sparse_categorical_crossentropy", "softmax", np.array([0, 1])),
        ("binary_crossentropy", "sigmoid", np.eye(3)[:2]),
    ],
)
def test_saturated_outputs_still_have_a_gradient(loss: str, last: str, y: np.ndarray) -> None:
    """softmax(+-1000) is 0 or 1 exactly; the loss of logits knows better."""
    model = keras.Sequential([layers.Dense(3, activation=last, input_shape=(2,))])
    model.compile(keras.optimizers.SGD(1e-3), loss)
    model.set_weights([np.array([[-1e3, 1e3, 0.0], [1e3, -1e3, 0.0]], "f4"), np.zeros(3, "f4")])
    x = np.eye(2)
    value = model.evaluate(x, y, verbose=0)
    assert np.isfinite(value)
    assert value > 100
    before = model.get_weights()[0]
    model.fit(x, y, verbose=0)
    assert (model.get_weights()[0] != before).any()


def test_activation_layer_counts_as_the_last_activation() -> None:
    model = keras.Sequential([layers.Dense(3, input_shape=(2,)), layers.Activation("softmax")])
    model.compile("sgd", "categorical_crossentropy")
    model.set_weights([np.full((2, 3), 0.0, "f4"), np.array([-500.0, 500.0, 0.0], "f4")])
    assert model.evaluate(np.zeros((1, 2)), [[1.0, 0.0, 0.0]], verbose=0) == pytest.approx(1000.0)


def test_own_functions() -> None:
    def absolute(y: Any, p: Any) -> Any:
        return (y - p).abs().mean(-1)

    def largest(y: Any, p: Any) -> Any:
        return np.abs(y - p).max(1)

    model = keras.Sequential([layers.Dense(2, input_shape=(3,), activation=mg.tanh)])
    model.compile("sgd", absolute, metrics=[largest, "mae", keras.metrics.MeanSquaredError()])
    x, y = np.random.default_rng(0).normal(size=(2, 10, 3))
    found = model.evaluate(x, y[:, :2], verbose=0, return_dict=True)
    d = np.abs(y[:, :2] - model.predict(x, verbose=0))
    np.testing.assert_allclose(found["loss"], d.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["largest"], d.max(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(found["mae"], d.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["mean_squared_error"], (d**2).mean(), rtol=1e-5)
    model.fit(x, y[:, :2], verbose=0)


def test_accuracy_is_chosen_by_shapes() -> None:
    choose = keras.metrics.accuracy_for
    assert choose((3,), (3,)) is keras.metrics.CategoricalAccuracy
    assert choose((), (3,)) is keras.metrics.SparseCategoricalAccuracy
    assert choose((1,), (3,)) is keras.metrics.SparseCategoricalAccuracy
    assert choose((1,), (1,)) is keras.metrics.BinaryAccuracy
    model = keras.Sequential([layers.Dense(1, activation="sigmoid", input_shape=(1,))])
    model.compile("sgd", "binary_crossentropy", metrics=["acc"])
    model.set_weights([np.ones((1, 1), "f4"), np.zeros(1, "f4")])
    x = np.array([[-2.0], [-1.0], [1.0], [3.0]])
    assert model.evaluate(x, [0, 1, 1, 1], verbose=0)[1] == 0.75
    assert model.fit(x, [0, 1, 1, 1], verbose=0).history["acc"] == [0.75]


# -- layers ----------------------------------------------------------------------------------------


def test_initializers() -> None:
    mg.manual_seed(0)
    for name, limit in (("glorot_uniform", np.sqrt(6 / 500)), ("he_uniform", np.sqrt(6 / 300))):
        w = keras.initializers.get(name)((300, 200)).numpy()
        assert 0.99 * limit < np.abs(w).max() <= limit
    w = keras.initializers.get("he_normal")((300, 200)).numpy()
    np.testing.assert_allclose(w.std(), np.sqrt(2 / 300), rtol=0.02)
    assert np.abs(w).max() < 2 * np.sqrt(2 / 300) / 0.87
    w = keras.initializers.get("lecun_uniform")((3, 3, 8, 64)).numpy()
    np.testing.assert_allclose(np.abs(w).max(), np.sqrt(3 / 72), rtol=0.01)
    dense = layers.Dense(2, kernel_initializer="ones", bias_initializer=lambda shape: np.full(shape, 0.5))
    dense.build((3,))
    assert dense(mg.ones(1, 3)).tolist() == [[3.5, 3.5]]
    assert layers.Dense(2, use_bias=False).build((3,)) == (2,)


def test_convolution_is_channels_last() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 5, 3)).astype("f4")
    for padding, strides in (("valid", (1, 1)), ("same", (1, 1)), ("same", (2, 2)), ("valid", (2, 1))):
        layer = layers.Conv2D(4, (3, 2), strides=strides, padding=padding, activation="relu")
        shape = layer.build((6, 5, 3))
        kernel, bias = layer.get_weights()
        assert kernel.shape == (3, 2, 3, 4)
        y = layer(mg.tensor(x)).detach().numpy()
        assert y.shape == (2, *shape)
        padded = x
        if padding == "same":
            margins = []
            for size, window, stride in zip((6, 5), (3, 2), strides, strict=True):
                total = max((-(-size // stride) - 1) * stride + window - size, 0)
                margins.append((total // 2, total - total // 2))
            padded = np.pad(x, ((0, 0), *margins, (0, 0)))
        wanted = np.zeros_like(y)
        for i in range(shape[0]):
            for j in range(shape[1]):
                a, b = i * strides[0], j * strides[1]
                wanted[:, i, j] = np.einsum("nhwc,hwco->no", padded[:, a : a + 3, b : b + 2], kernel) + bias
        np.testing.assert_allclose(y, np.maximum(wanted, 0), atol=1e-5)


def test_a_convolutional_model() -> None:
    model = keras.Sequential(
        [
            keras.Input(shape=(8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.AveragePooling2D(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    assert model.output_shape == (None, 10)
    assert model.count_params() == 40 + 16 + 170
    images, labels = mg.data.load_digits("validation")
    history = model.fit(images[..., None] / 16.0, labels, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    x = images[:4, ..., None] / 16.0
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(x, verbose=0))
    assert (model(x, training=True).tolist()) != model(x).tolist()
    np.testing.assert_array_equal(model(x).detach().numpy(), model.predict(x, verbose=0))
    pool = layers.MaxPooling2D((2, 1), strides=1)
    assert pool.build((3, 3, 2)) == (2, 3, 2)
    y = np.arange(18.0).reshape(1, 3, 3, 2)
    np.testing.assert_array_equal(pool(mg.tensor(y)).numpy(), np.maximum(y[:, :-1], y[:, 1:]))


def test_batch_normalization() -> None:
    layer = layers.BatchNormalization(momentum=0.9)
    layer.build((2,))
    x = mg.tensor([[1.0, 2.0], [3.0, 6.0]])
    np.testing.assert_allclose(layer(x, training=True).tolist(), [[-1, -1], [1, 1]], atol=1e-3)
    gamma, beta, mean, variance = layer.get_weights()
    np.testing.assert_allclose(mean, [0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(
        variance, [0.9 + 0.1, 0.9 + 0.4], rtol=1e-6
    )  # not corrected for the batch size
    assert (gamma.tolist(), beta.tolist()) == ([1, 1], [0, 0])
    layer.eval()
    np.testing.assert_allclose(
        layer(x).detach().numpy(), (x.numpy() - mean) / np.sqrt(variance + 1e-3), rtol=1e-5
    )


def test_frozen_layers_stay() -> None:
    model = model_for()
    model.layers[0].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = blobs(20)
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    after = model.get_weights()
    assert (before[0] == after[0]).all()
    assert (before[2] != after[2]).any()
    model.layers[0].trainable = True
    with pytest.raises(ArgumentError, match="call compile again"):
        model.fit(x, y, verbose=0)


# -- models ----------------------------------------------------------------------------------------


def test_building_late_and_in_parts() -> None:
    model = keras.Sequential([layers.Dense(3)])
    assert not model.built
    with pytest.raises(ArgumentError, match="input_shape"):
        model.count_params()
    model.compile("sgd", "mse")
    model.fit(np.zeros((4, 5)), np.zeros((4, 3)), verbose=0)
    assert model.input_shape == (None, 5)
    model.add(layers.Dense(2))
    assert model.count_params() == 18 + 8
    assert [layer.name for layer in model.layers] == ["dense", "dense_1"]
    assert model.pop().name == "dense_1"
    assert model.get_layer("dense") is model.layers[0] is model.get_layer(index=0)
    inner = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(3, activation="softmax")])
    outer = keras.Sequential([keras.Input((2,)), inner])
    outer.compile("sgd", "sparse_categorical_crossentropy")
    assert outer.fit(np.zeros((2, 2)), [0, 1], verbose=0).epoch == [0]
    assert outer._last_activation() is keras.activations.softmax


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    model_for().summary()
    text = capsys.readouterr().out
    assert 'Model: "sequential"' in text
    assert re.search(r"dense_1 \(Dense\)\s+\(None, 3\)\s+27\n", text)
    assert "Total params: 67 (268 B)" in text
    assert "Non-trainable params: 0 (0 B)" in text
    lines: list[str] = []
    keras.Sequential([layers.Dense(2)]).summary(print_fn=lines.append)
    assert any("unbuilt" in line for line in lines)


def test_weights_round_trip() -> None:
    a, b = model_for(), model_for()
    b.set_weights(a.get_weights())
    x, _ = blobs(5)
    np.testing.assert_array_equal(a.predict(x, verbose=0), b.predict(x, verbose=0))
    with pytest.raises(ArgumentError, match="3 arrays of shapes"):
        b.set_weights(a.get_weights()[:3])
    assert list(a.state_dict()) == ["dense.kernel", "dense.bias", "dense_1.kernel", "dense_1.bias"]


def test_epochs_batches_and_callbacks() -> None:
    events: list[Any] = []

    class Spy(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any) -> None:
            events.append(("begin", self.params["steps"], self.params["epochs"]))

        def on_train_batch_end(self, batch: int, logs: Any) -> None:
            events.append(("batch", batch, sorted(logs)))

        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            events.append(("epoch", epoch))
            self.model.stop_training = epoch == 3

    x, y = blobs(20)
    model = model_for()
    ends: list[int] = []
    end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(epoch))
    history = model.fit(x, y, epochs=9, initial_epoch=2, batch_size=16, callbacks=[Spy(), end], verbose=0)
    assert history.epoch == [2, 3] == ends
    assert events[0] == ("begin", 2, 9)
    assert events[1:4] == [
        ("batch", 0, ["accuracy", "loss"]),
        ("batch", 1, ["accuracy", "loss"]),
        ("epoch", 2),
    ]
    with pytest.raises(ArgumentError, match="on_epoch_end"):
        keras.callbacks.LambdaCallback(on_epoch=print)


def test_validation_split_takes_the_end() -> None:
    x, y = blobs(10)
    model = model_for(metrics=None, optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(x, y, validation_split=0.3, verbose=0).history
    other = model.fit(x[:7], y[:7], validation_data=(x[7:], y[7:]), verbose=0).history
    np.testing.assert_allclose(history["val_loss"], other["val_loss"], rtol=1e-6)
    np.testing.assert_allclose(history["loss"], other["loss"], rtol=1e-6)


def test_the_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("minigrad.keras.progress._INTERVAL", 0.0)
    x, y = blobs(64)
    model_for().fit(x, y, epochs=1, validation_data=(x, y))
    text = capsys.readouterr().out
    assert text.startswith("Epoch 1/1\n")
    assert "\r1/2 ━━━━━━━━━━──────────" in text
    assert re.search(
        r"\r2/2 ━{20} 0s [\d.]+(us|ms)/step - accuracy: .* - val_accuracy: .* - val_loss: .*\n$", text
    )


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = blobs(8)
    model = model_for()
    model.fit(x, y, verbose=0)
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    assert capsys.readouterr().out == ""
    model.evaluate(x, y)
    assert re.match(r"1 step - .* - accuracy: .* - loss: ", capsys.readouterr().out)


# -- the mistakes of beginners -----------------------------------------------------------------------

X, LABELS = np.zeros((6, 4)), np.array([0, 1, 2, 0, 1, 2])


def uncompiled() -> keras.Sequential:
    return keras.Sequential([layers.Dense(3, input_shape=(4,))])


MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: uncompiled().fit(X, LABELS), ArgumentError, r"fit: .*call model\.compile"),
    (lambda: uncompiled().evaluate(X, LABELS), ArgumentError, r"call model\.compile"),
    (lambda: model_for().fit(X), ArgumentError, "there are no labels"),
    (lambda: model_for().fit(X[:, :3], LABELS), ShapeError, r"shape \(3,\) where the model takes \(4,\)"),
    (lambda: model_for().predict(X[0]), ShapeError, r"x\[None\]"),
    (lambda: model_for().fit(X[:0], LABELS[:0]), ArgumentError, "x is empty"),
    (lambda: model_for().fit(X, LABELS[:5]), ShapeError, "6 examples in x but 5 labels"),
    (lambda: model_for().fit(X, LABELS + 1), ArgumentError, "label 3 of example 2 is outside of 0 to 2"),
    (lambda: model_for().fit(X, LABELS - 1), ArgumentError, "label -1 of example 0"),
    (lambda: model_for().fit(X, LABELS + 0.5), DTypeError, "no class indices"),
    (lambda: model_for().fit(X, np.eye(3)[LABELS]), ShapeError, "CategoricalCrossentropy for one-hot"),
    (
        lambda: model_for(loss="categorical_crossentropy").fit(X, LABELS),
        ShapeError,
        r"to_categorical\(y, 3\)",
    ),
    (lambda: model_for(loss="categorical_crossentropy").fit(X, np.eye(4)[LABELS]), ShapeError, "as wide"),
    (
        lambda: model_for(loss="categorical_crossentropy").fit(X, -np.eye(3)[LABELS]),
        ArgumentError,
        "at least 0",
    ),
    (lambda: model_for(loss="binary_crossentropy", last="sigmoid").fit(X, LABELS), ShapeError, "as wide"),
    (
        lambda: model_for(classes=1, last="sigmoid", loss="binary_crossentropy").fit(X, LABELS),
        ArgumentError,
        "0 to 1",
    ),
    (lambda: model_for(classes=1).fit(X, LABELS), ShapeError, "sigmoid"),
    (
        lambda: model_for(last=None).fit(np.eye(6, 4), LABELS),
        ArgumentError,
        "predictions run from .*activation='softmax'.*from_logits=True",
    ),
    (
        lambda: model_for(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)).fit(X, LABELS),
        ArgumentError,
        "leave one of them out",
    ),
    (lambda: model_for(loss=keras.losses.CategoricalCrossentropy), ArgumentError, r"call it: Cat"),
    (lambda: model_for(optimizer=keras.optimizers.Adam), ArgumentError, r"call it: Adam\(\)"),
    (lambda: model_for(optimizer="newton"), ArgumentError, "use one of 'sgd', 'rmsprop', 'adam'"),
    (lambda: model_for(loss="crossentropy"), ArgumentError, "'categorical_crossentropy'"),
    (lambda: model_for(metrics=["precise"]), ArgumentError, "no metric 'precise'.*'accuracy'"),
    (
        lambda: model_for(steps_per_execution=2),
        ArgumentError,
        "no option 'steps_per_execution'.*optimizer, l",
    ),
    (lambda: model_for(jit_compile="yes"), ArgumentError, "jit_compile is 'yes'.*'auto', True or False"),
    (lambda: model_for(jit_compile=True, run_eagerly=True), ArgumentError, "both True"),
    (lambda: model_for().fit(X, LABELS, processes=4), ArgumentError, "no option 'processes'"),
    (lambda: model_for().fit(X, LABELS, batch_size=0), ArgumentError, "batch_size is 0"),
    (lambda: model_for().fit(X, LABELS, epochs=2.5), ArgumentError, "epochs is 2.5"),
    (lambda: model_for().fit(X, LABELS, verbose=7), ArgumentError, "verbose: it is 7"),
    (lambda: model_for().fit(X, LABELS, validation_split=1.0), ArgumentError, "validation_split"),
    (lambda: model_for().fit(X, LABELS, validation_data=X), ArgumentError, "validation_data"),
    (lambda: model_for().fit(X, LABELS, callbacks=[print]), DTypeError, "no callback"),
    (lambda: model_for().fit(X, LABELS, class_weight={5: 1.0}), ArgumentError, "classes are 0 to 2"),
    (lambda: model_for().fit(X, LABELS, sample_weight=np.ones(3)), ShapeError, "sample_weight"),
    (lambda: model_for().fit(np.array([["a"] * 4] * 6), LABELS), DTypeError, "encode it as numbers"),
    (lambda: layers.Dense(3, activation="rleu"), ArgumentError, "no activation 'rleu'.*'relu'"),
    (
        lambda: layers.Dense(3, kernel_regularizr="l2"),
        ArgumentError,
        "no option 'kernel_regularizr'.*units",
    ),
    (lambda: layers.Dense(0), ArgumentError, "units"),
    (lambda: layers.Dense(3, kernel_initializer="xavier"), ArgumentError, "'glorot_uniform'"),
    (lambda: layers.Dropout(1.0), ArgumentError, "from 0 to below 1"),
    (lambda: layers.Conv2D(3, 3, padding="full"), ArgumentError, "'valid' or 'same'"),
    (lambda: layers.Conv2D(3, 3).build((8, 8)), ShapeError, r"x\[\.\.\., None\]"),
    (lambda: layers.Conv2D(3, 9).build((8, 8, 1)), ShapeError, "does not fit into"),
    (lambda: keras.Sequential([layers.Dense]), DTypeError, r"call it: Dense\("),
    (lambda: keras.Sequential([mg.nn.ReLU()]), DTypeError, "is no layer"),
    (
        lambda: keras.Sequential([layers.Dense(2), keras.Input((3,))]),
        ArgumentError,
        "Input that is not first",
    ),
    (lambda: keras.Sequential([layers.Dense(2, name="a"), layers.Dense(2, name="a")]), ArgumentError, "'a'"),
    (lambda: keras.Sequential().predict(X), ArgumentError, "no layers"),
    (lambda: keras.optimizers.Adam(lr=0.1), ArgumentError, "no option 'lr'.*learning_rate"),
    (lambda: keras.optimizers.Adam(learning_rate=-1), ArgumentError, "lr is -1"),
    (lambda: keras.optimizers.SGD(use_ema=True), ArgumentError, "no option 'use_ema'"),
    (lambda: keras.optimizers.SGD(clipnorm=1.0, clipvalue=2.0), ArgumentError, "clipnorm and clipvalue"),
    (lambda: keras.optimizers.Adam(clipnorm=-1.0), ArgumentError, "clipnorm is -1"),
    (lambda: keras.optimizers.Optimizer(0.1, {}, None, None, None, None, None), ArgumentError, "base class"),
    (lambda: keras.losses.CategoricalCrossentropy(label_smoothing=2), ArgumentError, "from 0 to 1"),
    (lambda: keras.losses.MeanSquaredError(reduction="avg"), ArgumentError, "'sum_over_batch_size'"),
    (
        lambda: model_for(loss=keras.losses.MeanSquaredError("none")).fit(X, X[:, :3]),
        ArgumentError,
        "cannot be trained",
    ),
    (lambda: keras.utils.to_categorical([0, 3], 3), ArgumentError, "label 3"),
]


@pytest.mark.parametrize(("make", "error", "text"), MISTAKES, ids=[m[2][:40] for m in MISTAKES])
def test_mistakes_get_one_helpful_sentence(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def test_nan_is_explained_and_the_weights_survive() -> None:
    x, y = blobs(20)
    model = model_for()
    before = model.get_weights()
    x[7, 2] = np.nan
    with pytest.raises(
        AnomalyError, match=r"the loss became nan in epoch 1, step 1: x\[7, 2\] is nan.*fill in"
    ):
        model.fit(x, y, verbose=0, batch_size=20)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    wild = keras.Sequential([layers.Dense(1, input_shape=(1,))])
    wild.compile(keras.optimizers.SGD(1e6), "mse")
    with pytest.raises(AnomalyError, match="lower the learning rate"):
        wild.fit(np.full((32, 1), 100.0), np.zeros(32), epochs=50, verbose=0)


# -- learning rates that change --------------------------------------------------------------------


def test_schedules_and_callbacks_change_the_learning_rate() -> None:
    x, y = blobs(32)
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=4, decay_rate=0.5)
    model = model_for(optimizer=keras.optimizers.SGD(decay))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert model.optimizer.iterations == 8
    assert model.optimizer.learning_rate == pytest.approx(0.025)
    with pytest.raises(ArgumentError, match="follows a schedule"):
        model.optimizer.learning_rate = 0.1

    model = model_for(optimizer=keras.optimizers.SGD(0.1))
    callback = keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr * 0.5 if epoch else lr)
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[callback])
    assert history.history["learning_rate"] == pytest.approx([0.1, 0.05, 0.025])

    model = model_for(optimizer=keras.optimizers.SGD(0.1))
    rates = []
    plateau = keras.callbacks.ReduceLROnPlateau("watched", 0.5, patience=2, cooldown=1, min_lr=0.03)
    plateau.model = model
    plateau.on_train_begin({})
    for epoch, value in enumerate([3.0, 2.0, 2.0, 2.1, 2.1, 2.1, 2.1, 1.0, 1.0]):
        plateau.on_epoch_end(epoch, {"watched": value})
        rates.append(model.optimizer.learning_rate)
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.1, 0.05, 0.05, 0.03, 0.03, 0.03, 0.03])
    with pytest.raises(ArgumentError, match=r"no measure 'val_loss'.*validation data"):
        model.fit(x, y, epochs=1, verbose=0, callbacks=[keras.callbacks.ReduceLROnPlateau()])


@pytest.mark.parametrize("clip", [{"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"clipvalue": 0.25}])
@pytest.mark.parametrize("compiled", [False, True])
def test_clipping_by_an_optimizer(clip: dict[str, float], compiled: bool) -> None:
    a, b = (mg.zeros(n, dtype="float64", requires_grad=True) for n in (2, 1))
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.5])
    rule = keras.optimizers.SGD(schedule, **clip).build([a, b])  # type: ignore[arg-type]
    g, h = np.array([3.0, 4.0]), np.array([12.0])

    def step(g: mg.Tensor, h: mg.Tensor) -> None:
        rule.zero_grad()
        ((a * g).sum() + (b * h).sum()).backward()
        rule.step()

    run = mg.compile(step) if compiled else step
    for _ in range(3):
        run(mg.tensor(g), mg.tensor(h))
    if "clipnorm" in clip:
        wanted = g * 0.5 / 5, h * 0.5 / 12
    elif "clipvalue" in clip:
        wanted = np.full(2, 0.25), np.full(1, 0.25)
    else:
        wanted = g * 0.5 / 13, h * 0.5 / 13
    np.testing.assert_allclose(a.detach().numpy(), -2.0 * wanted[0], rtol=1e-12)  # 1 + 0.5 + 0.5
    np.testing.assert_allclose(b.detach().numpy(), -2.0 * wanted[1], rtol=1e-12)
    assert rule.iterations.item() == 3
    if compiled:
        assert run.traces == 1
