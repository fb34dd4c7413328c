"""Whole models beside Keras's: one script on either side, the same weights before, the same numbers after."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minigrad import keras as mine

theirs = pytest.importorskip("keras")

Found = dict[str, Any]
SCRIPTS: list[Callable[..., Found]] = []


def script(function: Callable[..., Found]) -> Callable[..., Found]:
    SCRIPTS.append(function)
    return function


def given(model: Any) -> Any:
    """The model with weights that depend on their shapes alone; variances stay 1."""
    rng = np.random.default_rng(5)
    weights = [w if np.all(w == 1.0) else 0.3 * rng.normal(size=w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    return model


def trained(model: Any, *data: Any, **options: Any) -> Found:
    history = model.fit(*data, shuffle=False, verbose=0, **options).history
    return {"history": history, "weights": [np.asarray(w) for w in model.get_weights()]}


@script
def several_inputs_and_outputs(keras: Any, rng: Any, tmp: str) -> Found:
    layers = keras.layers
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    h = layers.Dense(5, activation="relu", kernel_regularizer=keras.regularizers.l2(0.01))(a)
    h = layers.Concatenate()([h, b])
    outputs = [
        layers.Dense(1, name="p", activation="sigmoid")(h),
        layers.Dense(3, name="q", activation="softmax")(h),
    ]
    model = given(keras.Model(inputs=[a, b], outputs=outputs))
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        loss={"p": "binary_crossentropy", "q": "sparse_categorical_crossentropy"},
        metrics={"p": ["accuracy"], "q": ["accuracy"]},
        loss_weights={"p": 1.0, "q": 0.5},
    )
    x = {"a": rng.random((40, 4)), "b": rng.random((40, 3))}
    y = {"p": rng.integers(0, 2, 40), "q": rng.integers(0, 3, 40)}
    found = trained(model, x, y, epochs=4, batch_size=10, validation_split=0.25)
    part = keras.Model(model.inputs, model.get_layer("p").output)
    return found | {
        "predicted": model.predict([x["a"], x["b"]], verbose=0),
        "part": part.predict(x, verbose=0),
        "evaluated": model.evaluate(x, y, verbose=0, batch_size=40, return_dict=True),
        "count": model.count_params(),
    }


@script
def a_residual_image_model(keras: Any, rng: Any, tmp: str) -> Found:
    layers = keras.layers
    i = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(i)))
    y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(4, 3, padding="same")(x))
    x = layers.Activation("relu")(layers.add([x, y]))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.SeparableConv2D(6, 3, activation="relu")(layers.DepthwiseConv2D(3, padding="same")(x))
    model = given(keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return trained(model, rng.random((24, 8, 8, 3)), rng.integers(0, 3, 24), epochs=3, batch_size=8)


@script
def recurrent_models(keras: Any, rng: Any, tmp: str) -> Found:
    layers = keras.layers
    i = keras.Input((7, 2))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(i)
    x = layers.GRU(5, return_sequences=True, activation="relu")(x)
    x = layers.TimeDistributed(layers.Dense(4, activation="elu"))(x)
    y, h = layers.GRU(3, return_state=True)(x)
    model = given(keras.Model(i, layers.Dense(2)(layers.concatenate([y, h]))))
    optimizer = keras.optimizers.Adam(1e-2, clipnorm=1.0)
    model.compile(optimizer, "huber", metrics=["mae", "mse", "cosine_similarity"])
    x, y, weights = rng.random((20, 7, 2)), rng.random((20, 2)), np.linspace(0, 2, 20)
    return trained(model, x, y, epochs=3, batch_size=7, sample_weight=weights)


@script
def a_class_of_ones_own(keras: Any, rng: Any, tmp: str) -> Found:
    class Scale(keras.layers.Layer):  # type: ignore[name-defined,misc]
        def build(self, input_shape: Any) -> None:
            self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

        def call(self, x: Any) -> Any:
            return x * self.gain

    class Net(keras.Model):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.blocks = []
            for _ in range(2):
                self.blocks.append(keras.layers.Dense(6, activation="tanh"))
            self.scale = Scale()
            self.norm = keras.layers.BatchNormalization()
            self.out = keras.layers.Dense(1)

        def call(self, x: Any, training: bool = False) -> Any:
            for block in self.blocks:
                x = block(x)
            return self.out(self.norm(self.scale(x), training=training))

    model, x, y = Net(), rng.random((16, 3)).astype("f4"), rng.random((16, 1)).astype("f4")
    model(x)
    given(model).compile("adam", "mse", metrics=["mae"])
    return trained(model, x, y, epochs=3, batch_size=5, validation_data=(x, y))


@script
def batches_from_somewhere(keras: Any, rng: Any, tmp: str) -> Found:
    layers = keras.layers
    constraint = keras.constraints.MaxNorm(0.5)
    dense = layers.Dense(2, activation="softmax", kernel_constraint=constraint)
    model = given(keras.Sequential([keras.Input((3,)), dense]))
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.9)
    model.compile(keras.optimizers.SGD(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = rng.random((12, 3)).astype("f4"), rng.integers(0, 2, 12)

    def endless() -> Any:
        while True:
            for k in range(0, 12, 4):
                yield x[k : k + 4], y[k : k + 4]

    class Parts(keras.utils.PyDataset):  # type: ignore[name-defined,misc]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> Any:
            return x[4 * i : 4 * i + 4], y[4 * i : 4 * i + 4]

    found = trained(model, endless(), steps_per_epoch=3, epochs=2, validation_data=(x, y))
    more = trained(model, Parts(), epochs=2)
    evaluated = model.evaluate(Parts(), verbose=0)
    return found | {"more": more, "evaluated": evaluated, "predicted": model.predict(Parts(), verbose=0)}


@script
def attention(keras: Any, rng: Any, tmp: str) -> Found:
    layers = keras.layers
    i = keras.Input((5, 6))
    x = layers.LayerNormalization(epsilon=1e-6)(layers.MultiHeadAttention(2, 3)(i, i) + i)
    model = given(keras.Model(i, layers.Dense(2, activation="softmax")(layers.Flatten()(x))))
    model.compile("adamw", "categorical_crossentropy", metrics=["accuracy", "Precision", "AUC"])
    y = np.eye(2)[rng.integers(0, 2, 9)]
    found = trained(model, rng.random((9, 5, 6)), y, epochs=2, batch_size=9)
    found["weights"] = [w for w in found["weights"] if w.shape != (2, 3)]  # a key's bias has no gradient
    return found


@script
def from_small_to_large_images(keras: Any, rng: Any, tmp: str) -> Found:
    layers = keras.layers
    i = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(i)
    x = layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Cropping2D(8)(layers.Conv2DTranspose(2, 2, strides=3)(x))
    o = layers.Conv2D(1, 3, padding="same", activation="sigmoid", dilation_rate=2)(x)
    model = given(keras.Model(i, o))
    model.compile("nadam", "binary_crossentropy")
    images = rng.random((6, 8, 8, 1))
    return trained(model, images, images, epochs=2, batch_size=4)


@script
def callbacks(keras: Any, rng: Any, tmp: str) -> Found:
    layers = keras.layers
    model = given(keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="relu"), layers.Dense(1)]))
    model.compile("adam", "mse", metrics=[keras.metrics.RootMeanSquaredError()])
    c = keras.callbacks
    path = os.path.join(tmp, "log.csv")
    found = trained(
        model,
        rng.random((30, 3)),
        rng.random((30, 1)),
        epochs=30,
        batch_size=10,
        validation_split=0.2,
        callbacks=[
            c.EarlyStopping(patience=2, min_delta=0.01, restore_best_weights=True),
            c.ReduceLROnPlateau(patience=1, factor=0.5),
            c.CSVLogger(path),
        ],
    )
    with open(path) as file:
        return found | {"columns": sorted(file.readline().strip().split(",")), "lines": len(file.readlines())}


def same(ours: Any, other: Any, path: str) -> None:
    if isinstance(other, dict):
        assert set(ours) == set(other), path
        for key in other:  # Keras's losses of single outputs are means of batches, those here of examples
            same(ours[key], other[key], f"{path}.{key}")
    elif isinstance(other, (list, tuple)) and not (other and isinstance(other[0], (int, float))):
        assert len(ours) == len(other), path
        for i, (one, two) in enumerate(zip(ours, other, strict=True)):
            same(one, two, f"{path}[{i}]")
    elif isinstance(other, str):
        assert ours == other, path
    else:
        np.testing.assert_allclose(ours, other, rtol=2e-4, atol=2e-5, err_msg=path)


@pytest.mark.parametrize("function", SCRIPTS, ids=lambda f: f.__name__)
def test_the_same_script(function: Callable[..., Found], tmp_path: Any) -> None:
    found = [function(keras, np.random.default_rng(7), str(tmp_path)) for keras in (mine, theirs)]
    same(*found, function.__name__)


def test_figures_of_the_same_predictions() -> None:
    y = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]], "f4")
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1]], "f4")
    kinds: list[tuple[str, dict[str, Any]]] = [
        *(
            (name, options)
            for name in ("Precision", "Recall")
            for options in ({}, {"class_id": 1}, {"top_k": 1})
        ),
        ("Precision", {"thresholds": 0.2}),
        *(
            (name, {})
            for name in ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives", "AUC")
        ),
        *((name, {}) for name in ("R2Score", "RootMeanSquaredError", "CosineSimilarity", "KLDivergence")),
        *(
            (name, {})
            for name in ("CategoricalCrossentropy", "BinaryCrossentropy", "LogCoshError", "Poisson")
        ),
        *(
            (name, {})
            for name in ("Hinge", "SquaredHinge", "CategoricalHinge", "MeanAbsolutePercentageError")
        ),
    ]
    for name, options in kinds:
        pair = [getattr(keras.metrics, name)(**options) for keras in (mine, theirs)]
        assert pair[1].name.startswith(pair[0].name)
        for metric in pair:
            metric.update_state(y, p)
        np.testing.assert_allclose(pair[0].result(), pair[1].result(), rtol=1e-5, err_msg=f"{name} {options}")
    for name in ("BinaryFocalCrossentropy", "CategoricalFocalCrossentropy", "Dice"):
        ours, other = (float(getattr(keras.losses, name)()(y, p)) for keras in (mine, theirs))
        assert ours == pytest.approx(other, rel=1e-5), name


def test_functions_of_arrays_and_in_graphs() -> None:
    x = np.random.default_rng(3).random((2, 3, 4)).astype("f4")
    calls: list[tuple[str, dict[str, Any]]] = [
        *(
            (name, {"axis": axis})
            for name in ("sum", "mean", "max", "min", "var", "std")
            for axis in (None, 1, -1)
        ),
        *((name, {"axis": axis}) for name in ("argmax", "argmin", "logsumexp", "prod") for axis in (None, 1)),
        *((name, {}) for name in ("abs", "exp", "log", "log1p", "sqrt", "rsqrt", "square", "sign", "tanh")),
        *(
            (name, {})
            for name in ("sigmoid", "relu", "softplus", "silu", "negative", "softmax", "log_softmax")
        ),
        ("clip", {"x_min": 0.2, "x_max": 0.6}),
        ("expand_dims", {"axis": 1}),
        ("transpose", {}),
        ("transpose", {"axes": (0, 2, 1)}),
        ("reshape", {"newshape": (2, -1)}),
        ("one_hot", {"num_classes": 3}),
    ]
    for name, options in calls:
        ours, other = (
            np.asarray(k.ops.convert_to_numpy(getattr(k.ops, name)(x, **options))) for k in (mine, theirs)
        )
        assert ours.shape == other.shape, name
        np.testing.assert_allclose(ours, other, rtol=2e-5, atol=1e-6, err_msg=f"{name} {options}")
    for name in (
        "add",
        "subtract",
        "multiply",
        "divide",
        "power",
        "maximum",
        "minimum",
        "less",
        "greater_equal",
    ):
        ours, other = (
            np.asarray(k.ops.convert_to_numpy(getattr(k.ops, name)(x, 0.5))) for k in (mine, theirs)
        )
        np.testing.assert_allclose(ours, other, rtol=2e-5, err_msg=name)
    found = []
    for k in (mine, theirs):
        i = k.Input((3, 4))
        h = k.ops.concatenate([k.ops.mean(i, axis=1), k.ops.max(i, axis=1) * 2.0], axis=-1)
        found.append(
            k.Model(i, k.ops.where(h > 0.5, h, 0.0) if k is theirs else k.ops.relu(h)).predict(x, verbose=0)
        )
    assert found[0].shape == found[1].shape == (2, 8)
