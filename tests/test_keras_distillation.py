"""`keras.Distiller`: the formula, captured and eager, what it leaves alone, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import keras
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.keras import Distiller, layers, losses

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 6))
Y = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 0.5)
LOGITS = {"student_loss_fn": losses.SparseCategoricalCrossentropy(from_logits=True)}


def network(width: int, seed: int = 1, last: Any = "softmax", classes: int = 3) -> keras.Sequential:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [layers.Dense(width, "relu", input_shape=(6,)), layers.Dropout(0.1), layers.Dense(classes, last)]
    )


def made(student: keras.Sequential, teacher: keras.Sequential, **settings: Any) -> Distiller:
    distiller = Distiller(student=student, teacher=teacher)
    usual = {
        "optimizer": keras.optimizers.Adam(0.02),
        "metrics": ["accuracy"],
        "student_loss_fn": losses.SparseCategoricalCrossentropy(),
        "distillation_loss_fn": losses.KLDivergence(),
    }
    distiller.compile(**{**usual, **settings})
    return distiller


def trained(epochs: int = 40) -> keras.Sequential:
    teacher = network(48, seed=2)
    teacher.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    teacher.fit(X, Y, epochs=epochs, verbose=0)
    return teacher


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def scores(model: keras.Sequential) -> Any:
    hidden, _, last = model.layers
    (w, b), (v, c) = hidden.get_weights(), last.get_weights()
    return np.maximum(X @ w + b, 0) @ v + c


def own_loss(student: keras.Sequential) -> Any:
    return -np.log(softmax(scores(student))[np.arange(len(Y)), Y])


def soft_loss(student: keras.Sequential, teacher: keras.Sequential, temperature: float) -> Any:
    p, q = (softmax(scores(model) / temperature) for model in (teacher, student))
    return temperature**2 * (p * np.log(p / q)).sum(1)


@pytest.mark.parametrize("last", ["softmax", None])
@pytest.mark.parametrize(("alpha", "temperature"), [(0.1, 3), (0.7, 10.0), (0, 1), (1, 5)])
def test_the_loss_is_the_formula(last: Any, alpha: float, temperature: float) -> None:
    student, teacher = network(5, last=last), network(9, seed=2, last=last)
    settings: dict[str, Any] = {} if last else LOGITS
    distiller = made(student, teacher, alpha=alpha, temperature=temperature, **settings)
    assert (distiller.alpha, distiller.temperature) == (alpha, temperature)
    wanted = alpha * own_loss(student) + (1 - alpha) * soft_loss(student, teacher, temperature)
    found, accuracy = distiller.evaluate(X, Y, verbose=0)
    assert found == pytest.approx(wanted.mean(), rel=1e-5)
    assert accuracy == pytest.approx((scores(student).argmax(1) == Y).mean())
    weights = RNG.uniform(size=len(X))
    found, _ = distiller.evaluate(X, Y, sample_weight=weights, verbose=0)
    assert found == pytest.approx((wanted * weights).mean(), rel=1e-5)


def test_other_losses_are_the_formula() -> None:
    """A soft loss that wants probabilities, and an own loss that wants what softmax gives."""
    student, teacher = network(5), network(9, seed=2, last=None)
    distiller = made(student, teacher, student_loss_fn="mse", distillation_loss_fn="mse", temperature=2)
    p, q = (softmax(scores(model) / 2) for model in (teacher, student))
    one_hot = np.eye(3)[Y]
    own = ((softmax(scores(student)) - one_hot) ** 2).mean()
    found, _ = distiller.evaluate(X, one_hot, verbose=0)
    assert found == pytest.approx(0.1 * own + 0.9 * 4 * ((p - q) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("last", ["softmax", None])
def test_captured_is_eager_and_the_teacher_stays(last: Any) -> None:
    teacher = network(9, seed=2, last=last)
    before = teacher.get_weights()
    runs = []
    for eager in (False, True):
        student = network(5, last=last)
        settings: dict[str, Any] = {"run_eagerly": eager, **({} if last else LOGITS)}
        distiller = made(student, teacher, **settings)
        keras.utils.set_random_seed(4)
        history = distiller.fit(X, Y, epochs=3, batch_size=50, validation_data=(X, Y), verbose=0).history
        assert distiller._compiled.steps["_train"].captured is not eager
        runs.append((student.get_weights(), history))
    assert set(history) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    for a, b in zip(*(weights for weights, _ in runs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(runs[0][1]["loss"], runs[1][1]["loss"], rtol=1e-4)
    for a, b in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(distiller.trainable_weights) == 4, "the student's alone"


def test_a_batch_norm_of_the_teacher_is_not_moved() -> None:
    teacher = keras.Sequential(
        [layers.BatchNormalization(input_shape=(6,)), layers.Dropout(0.5), layers.Dense(3)]
    )
    distiller = made(network(5), teacher)
    teacher.train()
    before = teacher.get_weights()
    distiller.fit(X, Y, epochs=2, verbose=0)
    for a, b in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_student_of_a_good_teacher_comes_near_it() -> None:
    teacher, student = trained(), network(14)
    distiller = made(student, teacher)
    start = soft_loss(student, teacher, 3.0).mean()
    first = distiller.evaluate(X, Y, verbose=0, return_dict=True)["accuracy"]
    distiller.fit(X, Y, epochs=40, verbose=0)
    assert soft_loss(student, teacher, 3.0).mean() < 0.3 * start
    assert distiller.evaluate(X, Y, verbose=0, return_dict=True)["accuracy"] > max(first + 0.2, 0.8)


def test_what_is_saved_is_the_student(tmp_path: Any) -> None:
    student = network(5)
    distiller = made(student, network(9, seed=2))
    distiller.fit(X, Y, epochs=1, verbose=0)
    distiller.save(tmp_path / "student.safetensors")
    again = keras.models.load_model(tmp_path / "student.safetensors")
    np.testing.assert_array_equal(again.predict(X, verbose=0), distiller.predict(X, verbose=0))
    distiller.save_weights(tmp_path / "weights.safetensors")
    other = network(5, seed=9)
    other.load_weights(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(other.predict(X, verbose=0), student.predict(X, verbose=0))


def test_a_student_may_be_built_by_the_data() -> None:
    student = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(3, "softmax")])
    distiller = made(student, network(9, seed=2))
    distiller.fit(X, Y, epochs=1, verbose=0)
    assert student.count_params() == 4 * 7 + 3 * 5
    unlike = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(2, "softmax")])
    with pytest.raises(ShapeError, match="same classes"):
        made(unlike, network(9, seed=2)).fit(X, Y, verbose=0)


def test_bad_models() -> None:
    teacher = network(9)
    with pytest.raises(ShapeError, match=r"gives \(4,\) an example, the teacher \(3,\).*same classes"):
        Distiller(network(5, classes=4), teacher)
    with pytest.raises(ArgumentError, match=r"teacher has no weights yet .*; train it first"):
        Distiller(network(5), keras.Sequential([layers.Dense(3, "softmax")]))
    with pytest.raises(ArgumentError, match="student is the teacher itself"):
        Distiller(teacher, teacher)
    with pytest.raises(ArgumentError, match="the student ends in sigmoid"):
        Distiller(network(5, last="sigmoid"), teacher)
    with pytest.raises(ShapeError, match=r"student takes \(5,\), the teacher \(6,\)"):
        Distiller(keras.Sequential([layers.Dense(3, "softmax", input_shape=(5,))]), teacher)
    with pytest.raises(ShapeError, match="no choice"):
        Distiller(network(5, last=None, classes=1), network(9, last=None, classes=1))
    with pytest.raises(DTypeError, match="the teacher is a Dense"):
        Distiller(network(5), layers.Dense(3))
    with pytest.raises(ArgumentError, match="the student has no layers"):
        Distiller(keras.Sequential(), teacher)
    with pytest.raises(ArgumentError, match=r"call student\.add"):
        Distiller(network(5), teacher).add(layers.Dense(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, r"alpha is 1\.5"),
        ({"alpha": -0.1}, r"alpha is -0\.1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": "0.1"}, "alpha is '0.1'"),
        ({"temperature": 0}, "temperature is 0"),
        ({"temperature": -3.0}, r"temperature is -3\.0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"student_loss_fn": None}, "there is no student_loss_fn"),
        ({"distillation_loss_fn": None}, "there is no distillation_loss_fn"),
        ({"distillation_loss_fn": "sparse_categorical_crossentropy"}, "does not take a teacher's"),
        ({"distillation_loss_fn": "hinge"}, "does not take a teacher's"),
        (
            {"distillation_loss_fn": losses.CategoricalCrossentropy(label_smoothing=0.1)},
            "does not take a teacher's",
        ),
        ({"distillation_loss_fn": losses.CategoricalCrossentropy(from_logits=True)}, "given probabilities"),
        ({"distillation_loss_fn": losses.KLDivergence(reduction="none")}, "reduction 'none'"),
        ({"loss": "mse"}, "no option 'loss'"),
    ],
)
def test_bad_settings(settings: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        made(network(5), network(9), **settings)


def test_a_student_that_grew_is_looked_at_again() -> None:
    student = network(5, last=None)
    distiller = made(student, network(9), **LOGITS)
    distiller.fit(X, Y, verbose=0)
    student.add(layers.Dense(4))
    with pytest.raises(ArgumentError, match="call compile again"):
        distiller.fit(X, Y, verbose=0)
    with pytest.raises(ShapeError, match="same classes"):
        distiller.compile("adam", None, "mse", "kld")


def test_two_workers_train_as_one() -> None:
    runs = []
    for workers in (1, 2):
        keras.utils.set_random_seed(1)
        student = keras.Sequential([layers.Dense(5, "relu", input_shape=(6,)), layers.Dense(3, "softmax")])
        distiller = made(student, network(9, seed=2))
        keras.utils.set_random_seed(4)
        distiller.fit(X, Y, epochs=2, batch_size=50, verbose=0, workers=workers)
        runs.append(student.get_weights())
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    distiller = made(student, network(9), distillation_loss_fn=losses.KLDivergence(reduction="sum"))
    with pytest.raises(ArgumentError, match="give both losses the same reduction"):
        distiller.fit(X, Y, verbose=0, workers=2)


def test_fit_before_compile() -> None:
    distiller = Distiller(network(5), network(9))
    for call in (lambda: distiller.fit(X, Y), lambda: distiller.alpha):
        with pytest.raises(ArgumentError, match="losses and optimizer yet"):
            call()
