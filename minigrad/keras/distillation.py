"""A model that trains a student on labels and on what a teacher says: the `Distiller` of Keras's example.

    loss = alpha student_loss_fn(y, student(x))
           + (1 - alpha) T^2 distillation_loss_fn(softmax(z_teacher / T), softmax(z_student / T))

z are the scores before the last softmax.  Note where alpha stands: here, as in that example, it weighs the
*labels*; in `minigrad.distillation`, as in most papers, it weighs the teacher.  T^2 keeps the gradients
of the soft part in proportion, as they shrink by 1 / T^2 (Hinton et al. 2015, section 2).

    >>> import numpy as np
    >>> from minigrad import keras
    >>> from minigrad.keras import layers
    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.normal(size=(256, 4))
    >>> y = (x[:, 0] > 0).astype(int)
    >>> def network(width):
    ...     return keras.Sequential([
    ...         layers.Dense(width, "relu", input_shape=(4,)), layers.Dense(2, "softmax")
    ...     ])
    >>> teacher = network(32)
    >>> teacher.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    >>> _ = teacher.fit(x, y, epochs=10, verbose=0)
    >>> distiller = Distiller(student=network(4), teacher=teacher)
    >>> distiller.compile(
    ...     optimizer=keras.optimizers.Adam(0.01),
    ...     metrics=["accuracy"],
    ...     student_loss_fn=keras.losses.SparseCategoricalCrossentropy(),
    ...     distillation_loss_fn=keras.losses.KLDivergence(),
    ...     alpha=0.1,
    ...     temperature=3,
    ... )
    >>> history = distiller.fit(x, y, epochs=10, verbose=0)
    >>> distiller.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.9
    True

`fit` is that of `Sequential`, captured in the same way; the teacher is asked in evaluation mode, gets no
gradients and is none of the model's weights.

References: Hinton, Vinyals & Dean 2015 (arXiv:1503.02531); K. Borup, "Knowledge distillation", keras.io
code examples, 2020, for the names and their meaning.  Left out: teachers of several labels (sigmoid), and all
that `minigrad.distillation` has beyond soft targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import no_grad
from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir import Shape
from ..ops.nn import softmax
from ..tensor import Tensor
from . import activations, losses
from .base import Layer, running
from .losses import Loss
from .models import Sequential
from .options import checked
from .symbolic import KerasTensor
from .training import Compiled


class Distiller(Sequential):
    """A model that is its `student`, trained on labels and on the probabilities of `teacher`.

    Both are `Sequential` and tell the same classes apart, with a softmax at the end or without an
    activation (scores).  The teacher has its weights; the student may get them from the first data.

    `predict` and `evaluate` ask the student; `save`, `save_weights` and `load_weights` are those of the
    student, so that what `keras.models.load_model` reads is the student alone.

    Raises DTypeError for other models, ArgumentError for a teacher without weights, a teacher that is
    the student, or another last activation, ShapeError if inputs or classes differ.
    """

    def __init__(self, student: Sequential, teacher: Sequential, name: str | None = None) -> None:
        for what, model in (("student", student), ("teacher", teacher)):
            if not isinstance(model, Sequential):
                raise DTypeError(
                    "Distiller",
                    f"the {what} is a {type(model).__name__}",
                    fix="pass keras.Sequential models (minigrad.distillation takes nn.Module)",
                )
            if not model.layers:
                raise ArgumentError("Distiller", f"the {what} has no layers", fix="add some")
            last = model._last_activation()
            if last not in (activations.softmax, activations.linear):
                raise ArgumentError(
                    "Distiller",
                    f"the {what} ends in {last.__name__}",
                    fix="end it in softmax, or without an activation",
                )
        if student is teacher:
            raise ArgumentError(
                "Distiller", "the student is the teacher itself", fix="make another model for the student"
            )
        if not teacher.built:
            raise ArgumentError(
                "Distiller", "the teacher has no weights yet", fix="train it first, or load its weights"
            )
        self._teacher = (teacher,)  # in a tuple, as it is no part of this model
        self._soft: tuple[Loss, float, float] | None = None
        super().__init__(name="distiller" if name is None else name)
        super().add(student)
        if student.built and not self.built:
            self.build(student.input_shape[1:])

    @property
    def student(self) -> Sequential:
        """The model that learns."""
        found: Sequential = getattr(self, self._order[0])
        return found

    @property
    def teacher(self) -> Sequential:
        """The model that is asked."""
        return self._teacher[0]

    @property
    def alpha(self) -> float:
        """The share of the student's own loss.  Raises ArgumentError before `compile`."""
        return self._distilled("alpha")[1]

    @property
    def temperature(self) -> float:
        """What scores are divided by.  Raises ArgumentError before `compile`."""
        return self._distilled("temperature")[2]

    @property
    def distillation_loss(self) -> Loss:
        """The loss between the two models' soft probabilities.  Raises ArgumentError before `compile`."""
        return self._distilled("distillation_loss")[0]

    def _distilled(self, op: str) -> tuple[Loss, float, float]:
        self._need_compile(op)
        assert self._soft is not None
        return self._soft

    def _need_compile(self, op: str) -> Compiled:
        if self._compiled is None:
            raise ArgumentError(
                op,
                "the distiller does not know its losses and optimizer yet",
                fix="call compile(optimizer, metrics, student_loss_fn, distillation_loss_fn) first",
            )
        return self._compiled

    def add(self, layer: Layer | KerasTensor) -> None:
        """Raises ArgumentError: layers are added to the student."""
        raise ArgumentError("add", "a Distiller has a student and no other layer", fix="call student.add")

    def pop(self) -> Layer:
        """Raises ArgumentError: layers are taken from the student."""
        raise ArgumentError("pop", "a Distiller has a student and no other layer", fix="call student.pop")

    def build(self, shape: Any = None) -> Shape:
        """Make the student's weights; raises ShapeError if they do not go with the teacher."""
        ours = super().build(shape)
        theirs = self.teacher._outputs
        if self._require_shape() != self.teacher._require_shape():
            raise ShapeError(
                "Distiller",
                f"the student takes {self._require_shape()}, the teacher {self.teacher._require_shape()}",
                fix="both are shown the same examples; begin the student with a layer that makes them fit",
            )
        if ours != theirs:
            raise ShapeError(
                "Distiller",
                f"the student gives {ours} an example, the teacher {theirs}",
                fix="both must tell the same classes apart; give the student's last layer as many units",
            )
        if not ours or ours[-1] < 2:
            raise ShapeError(
                "Distiller", f"one score an example, {ours}, is no choice", fix="use one unit for each class"
            )
        return ours

    @checked
    def compile(  # type: ignore[override]
        self,
        optimizer: Any,
        metrics: Any = None,
        student_loss_fn: Any = None,
        distillation_loss_fn: Any = None,
        alpha: float = 0.1,
        temperature: float = 3,
        run_eagerly: bool = False,
        jit_compile: bool | str = "auto",
    ) -> None:
        """Say how to train.

        student_loss_fn: of labels and the student's predictions.  distillation_loss_fn: of the teacher's
        and the student's probabilities at `temperature`; what it gives counts temperature^2.  alpha: the
        share of the first, 1 - alpha that of the second.  The rest is as in `Sequential.compile`.

        Raises ArgumentError for a loss that is missing or takes no probabilities, an alpha outside 0 to
        1 and a temperature that is not positive and finite.
        """
        if self.built:
            self.build(self._require_shape())  # the student may have been given layers since
        for what, loss in (
            ("student_loss_fn", student_loss_fn),
            ("distillation_loss_fn", distillation_loss_fn),
        ):
            if loss is None:
                raise ArgumentError("compile", f"there is no {what}", fix=f"pass {what}=...")
        if not _number(alpha) or not 0.0 <= alpha <= 1.0:
            raise ArgumentError("compile", f"alpha is {alpha!r}", fix="pass a share from 0 to 1")
        if not _number(temperature) or not 0.0 < temperature < float("inf"):
            raise ArgumentError("compile", f"temperature is {temperature!r}", fix="pass a positive number")
        soft = losses.get(distillation_loss_fn)
        self._check(soft)
        super().compile(optimizer, student_loss_fn, metrics, run_eagerly, jit_compile)
        self._soft = soft, float(alpha), float(temperature)

    def _check(self, loss: Loss) -> None:
        """Refuse a loss that would not take probabilities as they are."""
        name = type(loss).__name__
        if loss.from_logits:
            raise ArgumentError(
                "compile",
                f"{name} with from_logits=True is given probabilities",
                fix="leave from_logits out of distillation_loss_fn: the softmax at a temperature is applied",
            )
        if loss.reduction not in ("sum_over_batch_size", "sum"):
            raise ArgumentError(
                "compile",
                f"a distillation_loss_fn with reduction {loss.reduction!r} cannot be trained",
                fix="leave reduction out, or use 'sum'",
            )
        shape = self.teacher._outputs
        share = np.linspace(0.2, 0.8, shape[-1], dtype=np.float32)
        sample = np.broadcast_to(share / share.sum(), (1, *shape))
        try:
            kept = np.array_equal(loss.labels("compile", sample, shape), sample)
        except (ArgumentError, DTypeError, ShapeError):
            kept = False
        if not kept:  # class indices, +-1 instead of 0 and 1, label smoothing
            raise ArgumentError(
                "compile",
                f"{name} as it is does not take a teacher's probabilities for labels",
                fix="use keras.losses.KLDivergence() as distillation_loss_fn",
            )

    def _loss_of(
        self,
        compiled: Compiled,
        xs: tuple[Tensor, ...],
        ys: tuple[Tensor, ...],
        weights: tuple[Tensor, ...],
    ) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
        """The weighted loss of a batch, and what the student's own loss was given as predictions."""
        (x,), (y,), weight = xs, ys, weights[0] if weights else None
        self._forget_losses()
        assert self._soft is not None
        soft, alpha, temperature = self._soft
        if compiled.crew is not None and soft.reduction != compiled.loss.reduction:
            raise ArgumentError(
                "fit",
                f"several workers with reductions {compiled.loss.reduction!r} and {soft.reduction!r}",
                fix="give both losses the same reduction",
            )
        with running():
            scores = self.pre(x)
        logits = compiled.loss.from_logits or self._takes_logits(compiled)[0]
        p = scores if logits else self._last_activation()(scores)
        own = self._loss_at(compiled.loss, p, logits, y, weight)
        for added in self.losses:
            own = own + added
        self._forget_losses()
        with no_grad():
            self.teacher.eval()
            wanted = softmax(self.teacher.pre(x) / temperature, -1)
        found = scores / temperature
        # a loss that knows softmax takes the logarithm of it without rounding
        known = soft.activation is activations.softmax
        apart = soft.value(wanted, found if known else softmax(found, -1), known, weight)
        apart = apart.mean() if apart.ndim else apart
        return own * alpha + apart * ((1.0 - alpha) * temperature**2), [], (p,)

    def save(self, filepath: Any) -> None:
        """Write the student, with layers and weights, as `Sequential.save` does."""
        self.student.save(filepath)

    def save_weights(self, filepath: Any) -> None:
        """Write the student's weights alone: `.safetensors`, or `.npz`."""
        self.student.save_weights(filepath)

    def load_weights(self, filepath: Any) -> None:
        """Read the student's weights."""
        self.student.load_weights(filepath)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
