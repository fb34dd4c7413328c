"""Models that are no sequence, and what feeds them; `tests/peers` compares the numbers with Keras's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import keras
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.keras import layers

RNG = np.random.default_rng(0)
A, B = RNG.random((24, 4)).astype("f4"), RNG.random((24, 3)).astype("f4")
SIZE, KIND = A.sum(1, keepdims=True), RNG.integers(0, 3, 24)


def two_by_two(**options: Any) -> keras.Model:
    """A shared layer, a skip, arithmetic, two inputs and two outputs."""
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    shared = layers.Dense(4, "tanh")
    h = layers.concatenate([shared(shared(a)) * 2.0 + a, layers.Dropout(0.2)(b)])
    h = layers.BatchNormalization()(h)
    size = layers.Dense(1, kernel_regularizer="l2", name="size")(h)
    model = keras.Model([a, b], [size, layers.Dense(3, "softmax", name="kind")(h)])
    losses = {"size": "mse", "kind": "sparse_categorical_crossentropy"}
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, losses, {"kind": "accuracy"}, loss_weights={"size": 0.5}, **options)
    return model


def test_several_inputs_and_outputs_learn() -> None:
    model = two_by_two()
    history = model.fit({"b": B, "a": A}, [SIZE, KIND], epochs=30, batch_size=8, verbose=0).history
    assert set(history) == {"loss", "size_loss", "kind_loss", "kind_accuracy"}
    assert history["size_loss"][-1] < 0.3 * history["size_loss"][0]
    found = model.evaluate([A, B], {"size": SIZE, "kind": KIND}, verbose=0, return_dict=True)
    assert model.metrics_names == list(found)
    kernel = model.get_layer("size").get_weights()[0]
    parts = 0.5 * found["size_loss"] + found["kind_loss"] + 0.01 * float((kernel**2).sum())
    assert found["loss"] == pytest.approx(parts, rel=1e-5)
    size, kind = model.predict([A, B], verbose=0)
    assert (size.shape, kind.shape) == ((24, 1), (24, 3))
    np.testing.assert_allclose(kind.sum(1), 1.0, rtol=1e-5)
    assert model.count_params() == sum(w.size for w in model.get_weights()) == 20 + 28 + 8 + 24


def test_captured_eager_and_two_workers_agree() -> None:
    found = []
    for options, fit in (({}, {}), ({"run_eagerly": True}, {}), ({}, {"workers": 2})):
        model = two_by_two(**options)
        for layer in model.layers:  # every process draws for itself, and has statistics of its own
            if isinstance(layer, layers.Dropout):
                layer.rate = 0.0
            if isinstance(layer, layers.BatchNormalization):
                layer.trainable = False
        model.compile(model.optimizer, {"size": "mse", "kind": "sparse_categorical_crossentropy"}, **options)
        history = model.fit([A, B], [SIZE, KIND], epochs=3, batch_size=7, verbose=0, shuffle=False, **fit)
        found.append((history.history, model.get_weights()))
    for history, weights in found[1:]:
        for name, values in found[0][0].items():
            np.testing.assert_allclose(history[name], values, rtol=1e-4)
        for one, other in zip(weights, found[0][1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_saved_copied_and_cloned(tmp_path: Any) -> None:
    model = two_by_two()
    model.fit([A, B], [SIZE, KIND], epochs=2, verbose=0)
    model.save(tmp_path / "model.safetensors")
    again = keras.models.load_model(tmp_path / "model.safetensors")
    twin = copy.deepcopy(model)
    wanted = model.predict([A, B], verbose=0)
    for other in (again, twin):
        for one, two in zip(other.predict({"a": A, "b": B}, verbose=0), wanted, strict=True):
            np.testing.assert_array_equal(one, two)
    histories = [
        m.fit([A, B], [SIZE, KIND], epochs=1, verbose=0, shuffle=False).history for m in (again, twin)
    ]
    assert histories[0].keys() == histories[1].keys()
    clone = keras.models.clone_model(model)
    assert [w.shape for w in clone.get_weights()] == [w.shape for w in model.get_weights()]
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(1))]
    )
    i = keras.Input((4,))
    outer = keras.Model(i, layers.Lambda(lambda x: x * 2.0)(inner(i)))
    with pytest.raises(DTypeError, match="is code"):
        outer.save(tmp_path / "outer.safetensors")
    nested = keras.Model(i, inner(i))
    nested.save(tmp_path / "nested.safetensors")
    other = keras.models.load_model(tmp_path / "nested.safetensors")
    np.testing.assert_array_equal(other.predict(A, verbose=0), inner.predict(A, verbose=0))


class Net(keras.Model):
    """Layers in a list, one that is told the mode, and a loss of its own."""

    def __init__(self, penalty: float = 0.0) -> None:
        super().__init__()
        self.blocks: list[layers.Layer] = []
        for _ in range(2):
            self.blocks.append(layers.Dense(5, activation="relu"))
        self.drop, self.out = layers.Dropout(0.5), layers.Dense(1)
        self.penalty = penalty

    def call(self, x: Any, training: bool = False) -> Any:
        for block in self.blocks:
            x = block(x)
        if self.penalty:
            self.add_loss(mg.square(x).mean() * self.penalty)
        return self.out(self.drop(x, training=training))


def test_a_class_of_ones_own() -> None:
    model = Net()
    assert len(model.layers) == 4
    model.compile("adam", "mse")
    model.fit(A, SIZE, epochs=2, verbose=0)
    assert model.count_params() == 25 + 30 + 6 == sum(p.numel() for p in model.parameters())
    first = model(A)
    assert (model(A) == first).all()  # no dropout: it is not being trained
    assert (model(A, training=True) != first).any()
    plain, heavy = Net(), Net(2.0)
    for m in (plain, heavy):
        m(A)
        m.set_weights(model.get_weights())
        m.compile("sgd", "mse")
    inner = plain.blocks[1](plain.blocks[0](A))
    added = heavy.evaluate(A, SIZE, verbose=0, batch_size=24) - plain.evaluate(
        A, SIZE, verbose=0, batch_size=24
    )
    assert added == pytest.approx(2.0 * float(mg.square(inner).mean()), rel=1e-4)
    with pytest.raises(DTypeError, match="class of your own"):
        model.save("never.safetensors")


def test_what_would_be_ignored_is_refused() -> None:
    class Foreign(Net):
        def train_step(self, data: Any) -> Any:
            return {}

    model = Foreign()
    model.compile("adam", "mse")
    with pytest.raises(ArgumentError, match="defines train_step, which would not be called"):
        model.fit(A, SIZE)
    plain = Net()
    plain.compile("adam")
    with pytest.raises(ArgumentError, match="nothing to minimise"):
        plain.fit(A, verbose=0)
    both = two_by_two()
    with pytest.raises(ArgumentError, match="pass a list or a dictionary of a, b"):
        both.predict(A)
    with pytest.raises(ArgumentError, match="outputs are 'size', 'kind'"):
        both.fit([A, B], {"size": SIZE, "sort": KIND})
    with pytest.raises(ArgumentError, match="no loss for 'kind'"):
        both.compile("sgd", {"size": "mse"})
    with pytest.raises(ArgumentError, match="metrics is"):
        both.compile("sgd", "mse", ["mae"])
    with pytest.raises(ShapeError, match="of different length"):
        both.predict([A, B[:5]])
    other, i = keras.Input((2,)), keras.Input((2,), name="i")
    with pytest.raises(ArgumentError, match="not among the inputs"):
        keras.Model(other, layers.Dense(1)(i))
    with pytest.raises(ShapeError, match="Concatenate"):
        layers.Concatenate(axis=1)([keras.Input((2, 3)), keras.Input((2, 4))])


def test_batches_from_somewhere() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    start = model.get_weights()
    wanted = model.fit(A, SIZE, epochs=2, batch_size=8, shuffle=False, verbose=0).history
    loader = mg.data.DataLoader(mg.data.TensorDataset(A, SIZE), batch_size=8)
    for source in (loader, ((A[k : k + 8], SIZE[k : k + 8]) for _ in range(2) for k in (0, 8, 16))):
        model.set_weights(start)
        steps = None if source is loader else 3
        found = model.fit(source, epochs=2, steps_per_epoch=steps, verbose=0, validation_data=loader)
        np.testing.assert_allclose(found.history["loss"], wanted["loss"], rtol=1e-5)
        assert found.history["val_mae"][-1] == pytest.approx(model.evaluate(A, SIZE, verbose=0)[1], rel=1e-5)
    with pytest.raises(ArgumentError, match="ended after 1 batches"):
        model.fit(((A, SIZE) for _ in range(1)), steps_per_epoch=2, verbose=0)
    with pytest.raises(ArgumentError, match="batch_size beside"):
        model.fit(loader, batch_size=4)
    with pytest.raises(ShapeError, match="examples of shape"):
        model.fit([(B, SIZE)].__iter__(), verbose=0)


def test_constraints_hold_in_captured_steps() -> None:
    dense = layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(0.3), use_bias=False)
    model = keras.Sequential([keras.Input((4,)), dense])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    for _ in range(5):
        model.fit(A, np.ones((24, 3)), verbose=0)
        assert (np.linalg.norm(dense.get_weights()[0], axis=0) < 0.3001).all()


def test_features_of_a_part_of_a_model() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), layers.Dense(2, "softmax")])
    part = keras.Model(model.inputs, model.layers[0].output)
    np.testing.assert_allclose(part.predict(A, verbose=0), model.layers[0](A).detach().numpy(), rtol=1e-6)
    frozen = keras.Sequential([part, layers.Dense(1)])
    part.trainable = False
    frozen.compile("sgd", "mse")
    before = part.get_weights()
    frozen.fit(A, SIZE, verbose=0)
    for one, other in zip(part.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_recurrent_layers_step_by_step_are_the_walk() -> None:
    x = RNG.random((3, 6, 2)).astype("f4")
    for kind in (layers.SimpleRNN, layers.LSTM, layers.GRU):
        fast, slow = kind(4, return_sequences=True), kind(4, return_sequences=True, activation=mg.tanh)
        wanted = fast(x)
        slow.build((6, 2))
        slow.set_weights(fast.get_weights())
        np.testing.assert_allclose(slow(x).detach().numpy(), wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
        out, *state = kind(4, return_state=True, go_backwards=True)(x)
        assert [s.shape for s in (out, *state)] == [(3, 4)] * (3 if kind is layers.LSTM else 2)
        first = (
            layers.LSTM(4)(x, initial_state=[mg.ones(3, 4), mg.zeros(3, 4)]) if kind is layers.LSTM else out
        )
        assert first.shape == (3, 4)
    with pytest.raises(ShapeError, match="initial_state"):
        layers.GRU(4)(x, initial_state=mg.ones(3, 5))


def test_summary_of_a_graph() -> None:
    lines: list[str] = []
    two_by_two().summary(print_fn=lines.append)
    text = "\n".join(lines)
    for part in ("Connected to", "kind (Dense)", "(None, 3)", "Total params: 80"):
        assert part in text, text


def test_functions_in_graphs_losses_and_layers(tmp_path: Any) -> None:
    ops = keras.ops
    i = keras.Input((3, 4))
    h = ops.concatenate([ops.mean(i, axis=1), ops.max(i, axis=1)], axis=-1)
    model = keras.Model(i, layers.Dense(1)(ops.clip(h, 0.0, 1.0)))

    def distance(y: Any, p: Any) -> Any:
        return ops.mean(ops.abs(y - p), axis=-1)

    x = RNG.random((8, 3, 4)).astype("f4")
    model.compile("adam", distance)
    loss = model.evaluate(x, SIZE[:8], verbose=0)
    np.testing.assert_allclose(loss, np.abs(SIZE[:8] - model.predict(x, verbose=0)).mean(), rtol=1e-5)
    model.fit(x, SIZE[:8], epochs=4, verbose=0)
    model.compile("adam", "mae")
    model.save(tmp_path / "model.safetensors")
    again = keras.models.load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_losses_and_metrics_of_ones_own() -> None:
    class Distance(keras.losses.Loss):
        def call(self, y: Any, p: Any) -> Any:
            return keras.ops.mean(keras.ops.square(y - p), axis=-1)

    class Largest(keras.metrics.Metric):
        def __init__(self, name: str = "largest") -> None:
            super().__init__(name=name)
            self.total, self.count = self.add_weight(name="total"), self.add_weight(name="count")

        def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
            self.total.assign_add(keras.ops.sum(p))
            self.count.assign_add(len(p))

        def result(self) -> Any:
            return self.total / self.count

    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile("sgd", Distance(), metrics=[Largest(), "mse"])
    history = model.fit(A, SIZE, epochs=2, batch_size=10, verbose=0).history
    np.testing.assert_allclose(history["loss"], history["mse"], rtol=1e-5)
    found = model.evaluate(A, SIZE, verbose=0, return_dict=True)
    assert found["largest"] == pytest.approx(model.predict(A, verbose=0).mean(), rel=1e-5)


def test_a_layer_again_from_its_configuration() -> None:
    class Times(layers.Layer):
        def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x: Any) -> Any:
            return x * self.factor

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "factor": self.factor}

    for layer in (
        layers.Dense(3, "relu", name="d", trainable=False),
        layers.Dropout(0.3),
        Times(3.0, name="t"),
    ):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        assert again.name == layer.name


def test_shapes_with_and_without_the_batch() -> None:
    for shape in ((None, 8, 8, 1), (8, 8, 1)):
        conv = layers.Conv2D(2, 3)
        conv.build(shape)
        assert conv.kernel.shape == (3, 3, 1, 2)

    class Mine(layers.Dense):
        def build(self, input_shape: Any) -> None:
            super().build(input_shape)

    model = keras.Sequential([keras.Input((4,)), Mine(3)])
    assert model.output_shape == (None, 3)
    assert Mine(2)(keras.Input((4,))).shape == (None, 2)
