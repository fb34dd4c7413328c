"""What surrounds the loop: metrics, callbacks, saving, progress."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, data, keras
from minigrad.errors import AnomalyError, ArgumentError, DTypeError, MissingExtraError, ShapeError
from minigrad.keras import callbacks, layers, metrics


def model_for(optimizer: Any = "adam", **options: Any) -> keras.Sequential:
    model = keras.Sequential([layers.Dense(8, "tanh", input_shape=(4,)), layers.Dense(3, "softmax")])
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"], **options)
    return model


def blobs(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    return (np.eye(4)[y] * 3 + rng.normal(size=(n, 4)) * 0.3).astype(np.float32), y


# -- metrics ---------------------------------------------------------------------------------


def streamed(metric: metrics.Metric, y: np.ndarray, p: np.ndarray) -> Any:
    metric.reset_state()
    for start in range(0, len(y), 7):
        metric.update_state(y[start : start + 7], p[start : start + 7])
    return metric.result()


def test_metrics_agree_with_sklearn() -> None:
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 4, 100), rng.random((100, 4))
    p[np.arange(100), y] += 0.3
    guess = p.argmax(1)
    rows = np.eye(4)[y]
    for labels in (y, rows):
        np.testing.assert_array_equal(
            streamed(metrics.ConfusionMatrix(), labels, p), theirs.confusion_matrix(y, guess)
        )
        for average in ("macro", "micro"):
            for mine, peer in (
                (metrics.Precision, theirs.precision_score),
                (metrics.Recall, theirs.recall_score),
                (metrics.F1Score, theirs.f1_score),
            ):
                found = streamed(mine(average=average), labels, p)
                assert found == pytest.approx(peer(y, guess, average=average))
        one = streamed(metrics.Recall(class_id=2, average="macro"), labels, p)
        assert one == pytest.approx(theirs.recall_score(y, guess, labels=[2], average="macro"))
        top = streamed(metrics.TopKCategoricalAccuracy(2), labels, p)
        assert top == pytest.approx(theirs.top_k_accuracy_score(y, p, k=2))
    binary, scores = rng.integers(0, 2, 500), rng.random(500)
    scores = np.clip(scores + 0.2 * binary, 0, 1)
    for shape in ((500,), (500, 1)):
        b, s = binary.reshape(shape), scores.reshape(shape)
        assert streamed(metrics.Precision(), b, s) == pytest.approx(
            theirs.precision_score(binary, scores > 0.5)
        )
        # the bins are 1/199 wide
        assert streamed(metrics.AUC(), b, s) == pytest.approx(theirs.roc_auc_score(binary, scores), abs=5e-3)
        assert streamed(metrics.AUC(5001), b, s) == pytest.approx(
            theirs.roc_auc_score(binary, scores), abs=2e-4
        )
    value = rng.normal(1e4, 1.0, (60, 2))
    near = value + rng.normal(size=(60, 2)) * 0.3
    whole = theirs.r2_score(value, near)  # the mean over outputs
    assert streamed(metrics.R2Score(), value, near) == pytest.approx(whole, rel=1e-9)
    assert streamed(metrics.MeanAbsoluteError(), value, near) == pytest.approx(np.abs(value - near).mean())


def test_metrics_of_nothing_and_of_wrong_things() -> None:
    for kind in (metrics.Precision, metrics.AUC, metrics.R2Score, metrics.TopKCategoricalAccuracy):
        assert kind().result() == 0.0
    with pytest.raises(TypeError, match="abstract"):
        metrics.Metric("m")  # type: ignore[abstract]
    with pytest.raises(ArgumentError, match="sigmoid"):
        metrics.AUC().update_state([0, 1], [-3.0, 4.0])
    with pytest.raises(ShapeError, match="one-hot"):
        metrics.AUC().update_state([0, 1], [[0.1, 0.9], [0.2, 0.8]])
    with pytest.raises(ArgumentError, match="num_classes is 2"):
        metrics.ConfusionMatrix(2).update_state([2], [[0.1, 0.2, 0.7]])
    for bad in (
        lambda: metrics.TopKCategoricalAccuracy(0),
        lambda: metrics.Precision(average="weighted"),
        lambda: metrics.AUC(1),
    ):
        with pytest.raises(ArgumentError):
            bad()


def test_metrics_by_name_in_fit() -> None:
    x, y = blobs()
    model = keras.Sequential([layers.Dense(3, "softmax", input_shape=(4,))])
    names = ["precision", "recall", "f1_score", "top_k_categorical_accuracy"]
    model.compile("adam", "sparse_categorical_crossentropy", names)
    history = model.fit(x, y, epochs=1, verbose=0, validation_split=0.2)
    assert set(history.history) == {"loss", "val_loss", *names, *(f"val_{n}" for n in names)}
    assert history.history["top_k_categorical_accuracy"] == [1.0]


# -- callbacks ---------------------------------------------------------------------------------


class Scripted(callbacks.Callback):
    """Gives the measures of a script."""

    def __init__(self, **values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs.update({name: values[epoch] for name, values in self.values.items()})


def test_early_stopping() -> None:
    x, y = blobs()
    losses = [5.0, 3.0, 3.1, 2.95, 3.5, 3.6, 1.0]
    for options, epochs in (
        ({"patience": 2}, 6),
        ({"patience": 2, "min_delta": 0.2}, 4),
        ({"patience": 1}, 3),
        ({"patience": 2, "baseline": 1.5}, 2),
        ({"patience": 2, "min_delta": 0.2, "start_from_epoch": 3}, 6),
        ({"patience": 2, "mode": "max"}, 3),
    ):
        stop = callbacks.EarlyStopping("m", **options)
        history = model_for().fit(x, y, epochs=7, verbose=0, callbacks=[Scripted(m=losses), stop])
        assert len(history.epoch) == epochs, options
    model, seen = model_for(), []
    keep = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(model.get_weights()))
    stop = callbacks.EarlyStopping("m", patience=2, restore_best_weights=True)
    model.fit(x, y, epochs=7, verbose=0, callbacks=[Scripted(m=losses), keep, stop])
    assert stop.best_epoch == 3
    assert all((a == b).all() for a, b in zip(model.get_weights(), seen[3], strict=True))
    with pytest.raises(ArgumentError, match=r"val_loss.*pass validation data"):
        model_for().fit(x, y, verbose=0, callbacks=callbacks.EarlyStopping())


def test_model_checkpoint(tmp_path: Path) -> None:
    x, y = blobs()
    script = Scripted(m=[3.0, 1.0, 2.0, 0.5])
    best = callbacks.ModelCheckpoint(
        tmp_path / "best-{epoch:02d}-{m:.1f}.safetensors", "m", save_best_only=True
    )
    light = callbacks.ModelCheckpoint(tmp_path / "last.npz", save_weights_only=True)
    model = model_for()
    model.fit(x, y, epochs=4, verbose=0, callbacks=[script, best, light])
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [
        "best-01-3.0.safetensors",
        "best-02-1.0.safetensors",
        "best-04-0.5.safetensors",
        "last.npz",
    ]
    other = model_for()
    other.load_weights(tmp_path / "last.npz")
    np.testing.assert_array_equal(other.predict(x, verbose=0), model.predict(x, verbose=0))
    with pytest.raises(ArgumentError, match=r"filepath has \{val_loss\}"):
        model.fit(x, y, verbose=0, callbacks=callbacks.ModelCheckpoint(str(tmp_path / "{val_loss}")))


def test_csv_logger(tmp_path: Path) -> None:
    x, y = blobs()
    path = tmp_path / "log.csv"
    model = model_for()
    model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks.CSVLogger(path))
    history = model.fit(
        x, y, epochs=3, initial_epoch=2, verbose=0, callbacks=callbacks.CSVLogger(path, append=True)
    )
    rows = list(csv.DictReader(path.open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[2]["loss"]) == history.history["loss"][0]


def test_nan_ends_training_quietly_or_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = blobs()
    x[40] = np.nan
    with pytest.raises(AnomalyError, match=r"x\[40, 0\] is nan"):
        model_for().fit(x, y, verbose=0, shuffle=False)
    model = model_for()
    history = model.fit(x, y, epochs=5, verbose=0, shuffle=False, callbacks=callbacks.TerminateOnNaN())
    assert len(history.epoch) == 1
    assert "Batch 1: the loss is nan" in capsys.readouterr().out
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            self.part = Path(folder).name

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((self.part, name, step))

        def close(self) -> None:
            written.append((self.part, "closed"))

    class Module:
        pass

    module: Any = Module()
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    x, y = blobs()
    model_for().fit(x, y, verbose=0, validation_split=0.2, callbacks=callbacks.TensorBoard(tmp_path))
    assert ("validation", "epoch_loss", 0) in written
    assert ("train", "closed") in written
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtraError, match="tensorboard"):
        callbacks.TensorBoard(tmp_path)


def test_live_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    display = pytest.importorskip("IPython.display")
    drawn: list[Any] = []

    class Handle:
        def update(self, figure: Any) -> None:
            drawn.append(figure)

    def show(figure: Any, display_id: bool) -> Handle:
        drawn.append(figure)
        return Handle()

    monkeypatch.setattr(display, "display", show)
    x, y = blobs()
    model_for().fit(x, y, epochs=3, verbose=0, validation_split=0.2, callbacks=callbacks.LivePlot())
    assert [len(f.axes) for f in drawn] == [2, 2, 2]


# -- saving ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.safetensors", "m.npz"])
def test_a_loaded_model_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    x, y = blobs()

    def fit(model: Any, epochs: int, start: int = 0) -> None:
        model.fit(x, y, epochs=epochs, initial_epoch=start, verbose=0)

    mg.manual_seed(3)
    whole = model_for(keras.optimizers.Adam(0.01, clipnorm=1.0))
    fit(whole, 4)
    mg.manual_seed(3)
    half = model_for(keras.optimizers.Adam(0.01, clipnorm=1.0))
    fit(half, 2)
    half.save(tmp_path / name)
    state = mg.get_rng_state()
    loaded = keras.models.load_model(tmp_path / name)
    mg.set_rng_state(state)
    fit(loaded, 4, 2)
    for a, b in zip(loaded.get_weights(), whole.get_weights(), strict=True):
        assert (a == b).all()
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in half.layers]
    assert loaded.optimizer.learning_rate == 0.01
    assert loaded.evaluate(x, y, verbose=0) == whole.evaluate(x, y, verbose=0)


def test_many_layers_are_saved(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            layers.Conv2D(4, (3, 3), padding="same", input_shape=(8, 8, 1), name="first"),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(5, kernel_initializer="he_normal", trainable=False),
        ]
    )
    x = np.random.default_rng(0).random((3, 8, 8, 1))
    model.save(tmp_path / "m")
    loaded = keras.models.load_model(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    assert loaded.get_layer("first").count_params() == 40


def test_what_cannot_be_saved_or_loaded(tmp_path: Path) -> None:
    own = keras.Sequential([layers.Dense(2, activation=lambda x: x * 2, input_shape=(4,))])
    with pytest.raises(DTypeError, match="is code and cannot be stored"):
        own.save(tmp_path / "m")
    own.save_weights(tmp_path / "w")
    with pytest.raises(checkpoint.CheckpointError, match="no saved model"):
        keras.models.load_model(tmp_path / "w")
    with pytest.raises(mg.Error, match=r"missing: .*dense_1"):
        model_for().load_weights(tmp_path / "w")
    with pytest.raises(ArgumentError, match="no weights yet"):
        keras.Sequential([layers.Dense(2)]).save(tmp_path / "m")


# -- progress ---------------------------------------------------------------------------------


def test_tqdm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    x, y = blobs()
    model_for().fit(x, y, epochs=1, verbose="tqdm")
    assert "Epoch 1/1: 100%" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(MissingExtraError, match="progress"):
        model_for().fit(x, y, verbose="tqdm")


def test_class_weights_and_sample_weights_say_the_same() -> None:
    x, y = blobs()
    found = []
    for options in ({"class_weight": {0: 2.0, 2: 0.5}}, {"sample_weight": np.array([2.0, 1.0, 0.5])[y]}):
        mg.manual_seed(4)
        model = model_for()
        model.fit(x, y, verbose=0, **options)
        found.append(model.get_weights())
    assert all((a == b).all() for a, b in zip(*found, strict=True))


def test_callbacks_in_a_trainer(tmp_path: Path) -> None:
    x, y = blobs()
    model = mg.nn.Linear(4, 3)
    stop = callbacks.EarlyStopping("loss", patience=1, min_delta=10.0)
    trainer = mg.training.Trainer(
        model,
        mg.optim.Adam(model.parameters()),
        mg.nn.functional.cross_entropy,
        callbacks=[stop, callbacks.CSVLogger(tmp_path / "log.csv")],
        directory=tmp_path / "run",
    )
    history = trainer.fit(data.DataLoader(data.TensorDataset(x, y), 30), 5, verbose=0)
    assert len(history["loss"]) == 2
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
