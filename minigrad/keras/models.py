"""Models that train themselves: `compile`, `fit`, `evaluate`, `predict`.

What `fit` does is the loop that one writes by hand with `minigrad.nn` and `minigrad.optim`:

    for each epoch, for each batch of a random order:
        forget the gradients
        loss = loss(labels, model(x))
        backward
        step

It takes two liberties.  Where the loss expects the output of a softmax or sigmoid and the last layer
has exactly that, the loss is given what goes into it (see `losses`).  And these four lines are captured
and replayed as one program (see `capturing`), which changes nothing but the time they take.  What Python
did in them is done once: a loss or layer of one's own that draws numbers from numpy, or prints, wants
`compile(..., run_eagerly=True)`.

    >>> import numpy as np
    >>> from minigrad.keras import Input, layers
    >>> model = Sequential([Input((4,)), layers.Dense(8, "relu"), layers.Dense(3, "softmax")])
    >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> x, y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 0])
    >>> sorted(model.fit(x, y, epochs=2, verbose=0).history)
    ['accuracy', 'loss']
    >>> model.predict(x, verbose=0).shape, model.count_params()
    ((4, 3), 67)

Left out: models that are not sequences of layers, metrics with weights, and data that is not in
memory.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import checkpoint
from ..autograd import no_grad
from ..errors import AnomalyError, ArgumentError, DTypeError, ShapeError
from ..ir import Shape
from ..mode import current
from ..nn.module import Module
from ..ops.creation import randperm
from ..ops.elementwise import finite, where
from ..tensor import Tensor, wrap
from . import activations, losses, metrics, optimizers
from .callbacks import Callback, History, TerminateOnNaN
from .capturing import WARM, WARM_TESTS, Step
from .crew import Crew, checked_workers, together
from .crew import warm as started
from .layers import InputLayer, Layer
from .losses import Array, Loss, array_of, as_float, class_indices
from .options import checked
from .progress import Progress


class Sequential(Layer):
    """Layers applied one after the other, with a training loop.

    The first layer may say what the examples look like (`input_shape=` or an `Input`); otherwise
    the model is built when it first sees data.
    """

    def __init__(self, layers: Iterable[Layer] | None = None, name: str | None = None) -> None:
        super().__init__("sequential" if name is None else name)
        self._order: list[str] = []
        self._shapes: list[Shape] = []  # of the results of each layer
        self._compiled: _Compiled | None = None
        self._forward_step: Step | None = None  # of `predict`
        self.stop_training = False
        for layer in layers or ():
            self.add(layer)

    # -- layers -----------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers in order."""
        return [getattr(self, name) for name in self._order]

    def add(self, layer: Layer) -> None:
        """Append a layer.  Raises DTypeError for anything else, ArgumentError for a name that is taken."""
        if isinstance(layer, type):
            raise DTypeError(
                "Sequential", f"the class {layer.__name__} is no layer", fix=f"call it: {layer.__name__}(...)"
            )
        if not isinstance(layer, Layer):
            raise DTypeError(
                "Sequential",
                f"a {type(layer).__name__} is no layer",
                fix="use those of minigrad.keras.layers",
            )
        if isinstance(layer, InputLayer):
            if self._order or self._input_shape is not None:
                raise ArgumentError("Sequential", "an Input that is not first", fix="put it at the beginning")
            self._input_shape = layer._input_shape
            return
        if any(layer is other for other in self.layers):
            raise ArgumentError(
                "Sequential", f"the layer {layer.name!r} is in the model already", fix="make another"
            )
        if layer.name is None:
            layer.name = self._free_name(_snake(type(layer).__name__))
        elif isinstance(layer, Sequential) and layer.name in self._order:
            layer.name = self._free_name(layer.name)
        elif layer.name in self._order:
            raise ArgumentError(
                "Sequential", f"two layers are named {layer.name!r}", fix="give each its own name"
            )
        if not self._order and self._input_shape is None:
            self._input_shape = layer._input_shape
        self.add_module(layer.name, layer)
        self._order.append(layer.name)
        if self.built:
            self._shapes.append(layer.build(self._shapes[-1] if self._shapes else self._require_shape()))
        elif self._input_shape is not None:
            self.build(self._input_shape)
        self._forget_optimizer()

    def pop(self) -> Layer:
        """Take the last layer out and return it."""
        if not self._order:
            raise ArgumentError("pop", "the model has no layers", fix="add a layer first")
        layer: Layer = getattr(self, self._order[-1])
        delattr(self, self._order.pop())
        del self._shapes[len(self._order) :]
        self._forget_optimizer()
        return layer

    def _free_name(self, base: str) -> str:
        name, number = base, 0
        while name in self._order or hasattr(self, name):
            number += 1
            name = f"{base}_{number}"
        return name

    def _require_shape(self) -> Shape:
        if self._input_shape is None:
            raise ArgumentError(
                self._label,
                "the model does not know the shape of its input",
                fix="give the first layer input_shape=",
            )
        return self._input_shape

    @property
    def _label(self) -> str:
        return self.name or "sequential"

    def build(self, shape: Any = None) -> Shape:
        """Make all weights, for examples of this shape (without the batch; a leading None is left out)."""
        given = tuple(shape) if shape is not None else self._require_shape()
        current: Shape = given[1:] if given[:1] == (None,) else given
        self._input_shape = current
        self._shapes = []
        for layer in self.layers:
            if not layer.built:
                current = layer.build(current)
            else:
                current = layer.build(current) if not layer.weights else _built_shape(layer, current)
            self._shapes.append(current)
        self.built = True
        self._forget_optimizer()
        return current

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of a batch of inputs, None for its size."""
        return (None, *self._require_shape())

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of a batch of outputs, None for its size."""
        self._require_built("output_shape")
        return (None, *self._outputs)

    @property
    def _outputs(self) -> Shape:
        return self._shapes[-1] if self._shapes else self._require_shape()

    def _require_built(self, op: str) -> None:
        if not self.built:
            raise ArgumentError(
                op,
                "the model has no weights yet",
                fix="give the first layer input_shape=, or call build or fit",
            )

    # -- running ----------------------------------------------------------------------------------

    def pre(self, x: Tensor) -> Tensor:
        """All layers but the activation of the last one."""
        order = self._order
        for name in order[:-1]:
            x = self.__dict__[name].forward(x)
        return self.__dict__[order[-1]].pre(x) if order else x

    def forward(self, x: Tensor) -> Tensor:
        """All layers."""
        for name in self._order:
            x = Module.__call__(self.__dict__[name], x)
        return x

    def __call__(self, x: Any, training: bool | None = None) -> Tensor:
        """The output for a batch; training: whether dropout and batch norm behave as in training."""
        if isinstance(x, Tensor):
            self._expect(self._label, x.shape)
        batch = x if isinstance(x, Tensor) else wrap(self._inputs(self._label, x))
        before = self.training
        wanted = bool(training)
        if before != wanted:
            self.train(wanted)
        try:
            y: Tensor = Module.__call__(self, batch)
        finally:
            if before != wanted:
                self.train(before)
        return y

    def _last_activation(self) -> Callable[[Tensor], Tensor]:
        """The activation of the last layer (of the last layer, if that is a model)."""
        layer: Layer = self
        while isinstance(layer, Sequential):
            if not layer._order:
                return activations.linear
            layer = layer.layers[-1]
        return layer.activation

    # -- training: preparation ----------------------------------------------------------------------

    @checked
    def compile(
        self,
        optimizer: Any,
        loss: Any,
        metrics: Any = None,
        run_eagerly: bool = False,
        jit_compile: bool | str = "auto",
    ) -> None:
        """Say how to train: an optimizer, a loss and metrics, by name or as objects.

        run_eagerly: run every step as it is, never captured.  jit_compile: "auto" captures steps and
        falls back, with a warning, for those that cannot be; True makes these an error; False is the
        same as run_eagerly.

        Raises ArgumentError with the valid names for one that is not known.
        """
        listed = [] if metrics is None else list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
        if jit_compile not in (True, False, "auto"):
            raise ArgumentError("compile", f"jit_compile is {jit_compile!r}", fix="use 'auto', True or False")
        if run_eagerly and jit_compile is True:
            raise ArgumentError("compile", "run_eagerly and jit_compile are both True", fix="choose one")
        mode = False if run_eagerly else jit_compile
        self._compiled = _Compiled(optimizers.get(optimizer), losses.get(loss), listed, mode)
        self._forward_step = None
        for metric in listed:  # names that are not known are an error here, not in fit
            _known_metric(metric)

    @property
    def run_eagerly(self) -> bool:
        """Whether steps are never captured.  Raises ArgumentError before `compile`."""
        return self._need_compile("run_eagerly").mode is False

    def _forget_optimizer(self) -> None:
        self._forward_step = None
        if self._compiled is not None:
            self._compiled.rule = None
            self._compiled.steps = {}

    @property
    def optimizer(self) -> optimizers.Optimizer:
        """The optimizer.  Raises ArgumentError before `compile`."""
        return self._need_compile("optimizer").optimizer

    @property
    def loss(self) -> Loss:
        """The loss.  Raises ArgumentError before `compile`."""
        return self._need_compile("loss").loss

    def _need_compile(self, op: str) -> _Compiled:
        if self._compiled is None:
            raise ArgumentError(
                op,
                "the model does not know its loss and optimizer yet",
                fix="call model.compile(optimizer='adam', loss=...) first",
            )
        return self._compiled

    def _inputs(self, op: str, x: Any) -> Array:
        """x as float32, checked against the first layer; builds the model if need be."""
        array = as_float(op, "x", array_of(x))
        self._expect(op, array.shape)
        return array

    def _expect(self, op: str, shape: Shape) -> None:
        """Raise ShapeError if a batch of this shape does not fit; build the model if need be."""
        if not shape:
            raise ShapeError(op, "x is a single number", fix="pass an array of examples")
        if not self._order:
            raise ArgumentError(op, "the model has no layers", fix="add some")
        if not self.built:
            self.build(shape[1:])
        wanted = self._require_shape()
        if shape[1:] != wanted:
            hint = (
                "add a dimension for the batch: x[None]"
                if shape == wanted
                else "check the data, or input_shape"
            )
            raise ShapeError(op, f"examples of shape {shape[1:]} where the model takes {wanted}", fix=hint)

    def _data(self, op: str, x: Any, y: Any, weights: Any, class_weight: Any) -> _Data:
        """Examples, labels and weights, all checked."""
        compiled = self._need_compile(op)
        if y is None:
            raise ArgumentError(op, "there are no labels", fix=f"pass y: model.{op}(x, y)")
        inputs = self._inputs(op, x)
        raw = array_of(y)
        if not len(inputs):
            raise ArgumentError(op, "there are no examples: x is empty", fix="check how the data is loaded")
        if not raw.ndim or len(raw) != len(inputs):
            raise ShapeError(
                op,
                f"{len(inputs)} examples in x but {len(raw) if raw.ndim else 1} labels in y",
                fix="they must be as many",
            )
        loss = compiled.loss
        if loss.reduction not in ("sum_over_batch_size", "sum"):
            raise ArgumentError(
                op, f"a loss with reduction {loss.reduction!r} cannot be trained", fix="use 'sum'"
            )
        last = self._last_activation()
        if loss.from_logits and last is loss.activation:
            raise ArgumentError(
                op,
                f"the last layer applies {last.__name__}, and so would the loss with from_logits=True",
                fix="leave one of them out",
            )
        labels = loss.labels(op, raw, self._outputs)
        example_weights = None
        if weights is not None:
            example_weights = as_float(op, "sample_weight", array_of(weights))
            if example_weights.shape != (len(inputs),):
                raise ShapeError(
                    op, f"sample_weight has shape {example_weights.shape}", fix=f"pass {(len(inputs),)}"
                )
        if class_weight is not None:
            by_class = self._class_weights(op, labels, class_weight)
            example_weights = by_class if example_weights is None else example_weights * by_class
        return _Data(np.ascontiguousarray(inputs), np.ascontiguousarray(labels), example_weights)

    def _class_weights(self, op: str, labels: Array, class_weight: dict[Any, float]) -> Array:
        if not isinstance(class_weight, dict):
            raise DTypeError(
                op, f"class_weight is a {type(class_weight).__name__}", fix="pass {class: weight}"
            )
        width = self._outputs[-1] if self._outputs else 1
        classes = 2 if width == 1 else width
        if labels.ndim == 1:
            index = class_indices(op, labels, classes)
        elif labels.ndim == 2:
            index = labels[:, 0].astype(np.int64) if labels.shape[1] == 1 else labels.argmax(1)
        else:
            raise ShapeError(op, f"class_weight with labels of shape {labels.shape}", fix="use sample_weight")
        table = np.ones(classes, np.float32)
        for key, weight in class_weight.items():
            if key not in range(classes):
                raise ArgumentError(
                    op, f"class_weight has a class {key!r}", fix=f"classes are 0 to {classes - 1}"
                )
            table[int(key)] = weight
        weights: Array = table[index]
        return weights

    def _meters(self, data: _Data) -> list[metrics.Metric]:
        compiled = self._need_compile("fit")
        return [metrics.get(m, data.y.shape[1:], self._outputs) for m in compiled.metrics]

    # -- training: the loop ---------------------------------------------------------------------------

    @checked
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Callback] | Callback | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[Any, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        workers: int = 1,
    ) -> History:
        """Train on arrays x (n, ...) and y (n, ...) for epochs `initial_epoch` to `epochs` - 1.

        batch_size: 32 by default.  validation_data: (x, y) or (x, y, sample_weight); or
        validation_split: this share of the data, taken from its end.  verbose: 0 quiet, 1 a bar (a
        line an epoch if not on a terminal), 2 a line an epoch.  workers: processes that share each
        batch, of which this is the first (see `crew`).  Returns the History.

        Raises ArgumentError, ShapeError or DTypeError for data that does not fit the model and the
        loss, AnomalyError if the loss becomes NaN or Inf; the weights then are those before that step;
        DistributedError if a worker fails.
        """
        compiled = self._need_compile("fit")
        data = self._data("fit", x, y, sample_weight, class_weight)
        size = _batch_size("fit", batch_size)
        validation: _Data | None = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ArgumentError(
                    "fit", "validation_data is no (x, y)", fix="pass a tuple of two or three arrays"
                )
            weights = validation_data[2] if len(validation_data) == 3 else None
            validation = self._data("fit", validation_data[0], validation_data[1], weights, None)
        elif validation_split:
            data, validation = data.cut(validation_split)
        for name, value in (("epochs", epochs), ("initial_epoch", initial_epoch)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
                raise ArgumentError("fit", f"{name} is {value!r}", fix="pass a non-negative integer")
        meters = self._meters(data)
        steps = -(-len(data) // size)
        history = History()
        listeners: list[Any] = [
            *([callbacks] if isinstance(callbacks, Callback) else callbacks or ()),
            history,
        ]
        for callback in listeners:
            if not isinstance(callback, Callback):
                raise DTypeError(
                    "fit",
                    f"a {type(callback).__name__} is no callback",
                    fix="derive it from keras.callbacks.Callback",
                )
            callback.model = self
            callback.params = {"epochs": epochs, "steps": steps, "verbose": verbose}
        self.stop_training = False
        self._rule(compiled)
        count = checked_workers(workers)
        alone: Any = contextlib.nullcontext()
        logs: dict[str, float] = {}
        with alone if count == 1 else together(self, compiled, count, data, validation, size, bool(meters)):
            logs = self._epochs(compiled, data, validation, size, meters, listeners, shuffle, initial_epoch)
        for callback in listeners:
            callback.on_train_end(logs)
        return history

    def _epochs(
        self,
        compiled: _Compiled,
        data: _Data,
        validation: _Data | None,
        size: int,
        meters: list[metrics.Metric],
        listeners: list[Any],
        shuffle: bool,
        initial_epoch: int,
    ) -> dict[str, float]:
        """What `fit` does once everything is checked; returns the logs of the last epoch."""
        epochs, verbose, steps = (listeners[0].params[name] for name in ("epochs", "verbose", "steps"))
        each_batch = [c for c in listeners if _listens_to_batches(c)]
        crew = compiled.crew
        for callback in listeners:
            callback.on_train_begin({})
        logs: dict[str, float] = {}
        try:
            for epoch in range(initial_epoch, epochs):
                bar = Progress(verbose, steps, f"Epoch {epoch + 1}/{epochs}")
                for callback in listeners:
                    callback.on_epoch_begin(epoch, {})
                order = randperm(len(data))._array if shuffle else None
                if crew is not None:
                    crew.go_on()
                    crew.order(order, len(data))
                self.train()
                total = 0.0
                for meter in meters:
                    meter.reset_state()
                for step, batch in enumerate(data.batches(size, order)):
                    for callback in each_batch:
                        callback.on_train_batch_begin(step, {})
                    loss = self._train_step(compiled, batch, meters)
                    if not math.isfinite(loss):
                        enders = [c for c in each_batch if isinstance(c, TerminateOnNaN)]
                        for callback in enders:
                            callback.on_train_batch_end(step, {"loss": loss})
                        if not enders:
                            raise self._not_finite(loss, data, epoch, step)
                        total = loss
                        break
                    total += loss * len(batch)
                    if each_batch or bar.due():
                        seen = min((step + 1) * size, len(data))
                        logs = {"loss": total / seen, **{m.name: m.result() for m in meters}}
                        if bar.due():
                            bar.draw(step + 1, logs)
                        for callback in each_batch:
                            callback.on_train_batch_end(step, logs)
                bar.lap()
                logs = {"loss": total / len(data), **{m.name: m.result() for m in meters}}
                if validation is not None:
                    tested = self._test(compiled, validation, size, meters)
                    logs |= {f"val_{name}": value for name, value in tested.items()}
                for callback in listeners:
                    callback.on_epoch_end(epoch, logs)
                bar.end(logs)
                if self.stop_training:
                    break
        finally:
            self.eval()
        return logs

    def _pass(self, compiled: _Compiled, batches: Iterator[_Data], measured: bool) -> None:
        """What a worker does of an epoch."""
        self.train()
        for batch in batches:
            if not math.isfinite(self._train_step(compiled, batch, [], measured)):
                break

    def _rule(self, compiled: _Compiled) -> Any:
        if compiled.rule is None:
            parameters = [p for p in self.parameters() if p.requires_grad]
            if not parameters:
                raise ArgumentError(
                    "fit", "no weight of the model is trainable", fix="set layer.trainable = True"
                )
            compiled.rule = compiled.optimizer.build(parameters)
            compiled.frozen = self._frozen()
            compiled.steps = {}
        elif compiled.frozen != self._frozen():
            raise ArgumentError("fit", "layers were frozen or thawed since compile", fix="call compile again")
        return compiled.rule

    def _frozen(self) -> tuple[bool, ...]:
        return tuple(p.requires_grad for p in self.parameters())

    def _takes_logits(self, compiled: _Compiled) -> bool:
        """Whether the loss is given what goes into the last activation."""
        loss = compiled.loss
        return loss.activation is not None and self._last_activation() is loss.activation

    def _scores(self, compiled: _Compiled, x: Tensor) -> tuple[Tensor, bool]:
        """What the loss is given, and whether that is logits."""
        if compiled.loss.from_logits:
            return self.forward(x), True
        if self._takes_logits(compiled):
            return self.pre(x), True
        return self.forward(x), False

    def _loss_of(
        self, compiled: _Compiled, x: Tensor, y: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and what it was given as predictions."""
        p, logits = self._scores(compiled, x)
        traced = current().trace is not None
        if not logits and not traced:
            compiled.loss.check("fit", p._array)
        loss = compiled.loss.value(y, p, logits, weights)
        loss = loss if not loss.ndim else loss.mean()
        if traced and not logits and compiled.loss.activation is not None:
            loss = where(((p >= 0.0) & (p <= 1.0 + 1e-5)).all(), loss, math.nan)
        return loss, p

    def _measure(self, compiled: _Compiled, meters: list[metrics.Metric], y: Array, p: Array) -> None:
        """Show metrics a batch: predictions, or logits where the loss was given them."""
        outputs: Array | None = None
        logits = not compiled.loss.from_logits and self._takes_logits(compiled)
        for meter in meters:
            if meter.by_order or not logits:
                meter.add(y, p)
            else:
                if outputs is None:
                    with no_grad():
                        outputs = self._last_activation()(wrap(p))._array
                meter.add(y, outputs)

    def _step_of(self, compiled: _Compiled, function: Callable[..., Any], warm: int = WARM) -> Step:
        """The captured form of a function, made once a `compile`."""
        step = compiled.steps.get(function.__name__)
        if step is None:
            step = compiled.steps[function.__name__] = Step(function, compiled.mode, started(compiled, warm))
        return step

    def _train_step(
        self, compiled: _Compiled, batch: _Data, meters: list[metrics.Metric], measured: bool = False
    ) -> float:
        """One step; a loss that is not finite is returned, and has changed nothing.

        measured: whether some other process has metrics, for which it needs the predictions."""
        crew = compiled.crew
        try:
            if crew is None:
                loss, p = self._step_of(compiled, self._train)(*batch.tensors())
            else:
                rows, nothing = crew.rows(len(batch))
                part = batch.rows(rows)
                step = self._step_of(compiled, self._train_nothing if nothing else self._train)
                loss, p = step(*part.tensors())
        except _NotFinite as error:
            return error.loss
        if meters or measured:
            predictions = p._array if crew is None else crew.predictions(p._array, len(batch))
            self._measure(compiled, meters, batch.y, predictions)
        return float(loss._array)

    def _train(
        self, x: Tensor, y: Tensor, weights: Tensor | None = None, nothing: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What is captured: the loss of a batch, and its predictions, after a step down its gradient.

        nothing: the examples count nothing, see `crew`."""
        compiled = self._need_compile("fit")
        crew = compiled.crew
        compiled.rule.zero_grad()
        with contextlib.nullcontext() if crew is None else crew.counting(x.shape[0], nothing):
            loss, p = self._loss_of(compiled, x, y, weights)
            if nothing:
                loss = loss * 0.0
            shown = loss if crew is None else crew.loss(loss)
            if current().trace is not None:
                shown = finite(shown)
            elif not math.isfinite(shown._array):
                raise _NotFinite(float(shown._array))
            (shown if crew is None else loss).backward()
            if crew is not None:
                crew.reducer.average_buffers(self)
        compiled.rule.step()
        return shown.detach(), p.detach()

    def _train_nothing(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """`_train` by a process that has no example of a batch."""
        x, y, *weights = tensors
        return self._train(x, y, weights[0] if weights else None, nothing=True)

    def _score(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `evaluate` captures: the loss of a batch, and its predictions."""
        loss, p = self._loss_of(self._need_compile("evaluate"), x, y, weights)
        return loss, p

    def _not_finite(self, loss: float, data: _Data, epoch: int, step: int) -> AnomalyError:
        where = f"the loss became {loss} in epoch {epoch + 1}, step {step + 1}"
        for what, array in (("x", data.x), ("y", data.y)):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                at = np.argwhere(~np.isfinite(array))[0].tolist()
                return AnomalyError(
                    "fit", f"{where}: {what}{at} is {array[tuple(at)]}", fix="remove or fill in such values"
                )
        largest = float(np.abs(data.x).max())
        return AnomalyError(
            "fit",
            f"{where} (the largest input is {largest:.3g})",
            fix="lower the learning rate, and scale the inputs to about -1 to 1",
        )

    def _test(
        self,
        compiled: _Compiled,
        data: _Data,
        size: int,
        meters: list[metrics.Metric],
        bar: Progress | None = None,
    ) -> dict[str, float]:
        self.eval()
        for meter in meters:
            meter.reset_state()
        total = 0.0
        with no_grad():
            for step, batch in enumerate(data.batches(size, None)):
                total += self._test_step(compiled, batch, meters) * len(batch)
                if bar is not None and bar.due():
                    bar.draw(step + 1, {"loss": total / min((step + 1) * size, len(data))})
        return {"loss": total / len(data), **{m.name: m.result() for m in meters}}

    def _test_step(
        self, compiled: _Compiled, batch: _Data, meters: list[metrics.Metric], measured: bool = False
    ) -> float:
        """The loss of a batch; measured: as in `_train_step`."""
        crew = compiled.crew
        score = self._step_of(compiled, self._score, WARM_TESTS)
        if crew is None:
            loss, p = score(*batch.tensors())
        else:
            rows, nothing = crew.rows(len(batch))
            part = batch.rows(rows)
            loss, p = score(*part.tensors())
            with crew.counting(len(part), nothing):
                loss = crew.loss(loss * 0.0 if nothing else loss)
        if meters or measured:
            predictions = p._array if crew is None else crew.predictions(p._array, len(batch))
            self._measure(compiled, meters, batch.y, predictions)
        return float(loss._array)

    def _test_parts(self, compiled: _Compiled, data: _Data, size: int, measured: bool) -> None:
        """What a worker does of a test."""
        self.eval()
        with no_grad():
            for batch in data.batches(size, None):
                self._test_step(compiled, batch, [], measured)

    # -- using --------------------------------------------------------------------------------------

    @checked
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss, and after it the metrics if there are any: a number, a list, or a dictionary."""
        compiled = self._need_compile("evaluate")
        data = self._data("evaluate", x, y, sample_weight, None)
        size = _batch_size("evaluate", batch_size)
        bar = Progress(verbose, -(-len(data) // size))
        logs = self._test(compiled, data, size, self._meters(data), bar)
        bar.lap()
        bar.end(logs)
        if return_dict:
            return logs
        values = list(logs.values())
        return values if len(values) > 1 else values[0]

    @checked
    def predict(self, x: Any, batch_size: int | None = None, verbose: int | str = "auto") -> Array:
        """The outputs for many examples, as an array."""
        inputs = self._inputs("predict", x)
        size = _batch_size("predict", batch_size)
        bar = Progress(verbose, -(-len(inputs) // size))
        before = self.training
        self.eval()
        forward = self._forward_step
        if forward is None:
            mode: bool | str = "auto" if self._compiled is None else self._compiled.mode
            forward = self._forward_step = Step(self.forward, mode, warm=WARM_TESTS)
        results = []
        with no_grad():
            for step, start in enumerate(range(0, len(inputs), size)):
                results.append(forward(wrap(inputs[start : start + size]))._array)
                if bar.due():
                    bar.draw(step + 1, {})
        if before:
            self.train()
        bar.lap()
        bar.end({})
        return np.concatenate(results) if results else np.zeros((0, *self._outputs), np.float32)

    @checked
    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None) -> Any:
        """One step on one batch; returns the loss, and after it the metrics if there are any."""
        compiled = self._need_compile("train_on_batch")
        batch = self._data("train_on_batch", x, y, sample_weight, class_weight)
        meters = self._meters(batch)
        self.train()
        self._rule(compiled)
        loss = self._train_step(compiled, batch, meters)
        if not math.isfinite(loss):
            raise self._not_finite(loss, batch, 0, 0)
        return [loss, *(m.result() for m in meters)] if meters else loss

    @property
    def weights(self) -> list[Tensor]:
        """Parameters and other state, layer by layer."""
        return [w for layer in self.layers for w in layer.weights]

    def save(self, filepath: Any) -> None:
        """Write layers, weights, and optimizer with its state to one file, atomically (see `saving`)."""
        from .saving import save_model

        self._require_built("save")
        save_model(self, filepath, self._compiled)

    def save_weights(self, filepath: Any) -> None:
        """Write the weights alone: `.safetensors`, or `.npz`."""
        self._require_built("save_weights")
        checkpoint.save(filepath, dict(self.state_dict()))

    def load_weights(self, filepath: Any) -> None:
        """Read weights; raises an error that lists keys and shapes if they are not those of this model."""
        self._require_built("load_weights")
        self.load_state_dict(checkpoint.load(filepath))

    @property
    def trainable_weights(self) -> list[Tensor]:
        """The weights that `fit` changes."""
        return [p for p in self.parameters() if p.requires_grad]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or position.  Raises ArgumentError if there is none."""
        if name in self._order:
            found: Layer = getattr(self, str(name))
            return found
        if index is not None and -len(self._order) <= index < len(self._order):
            return self.layers[index]
        raise ArgumentError(
            "get_layer",
            f"there is no layer {name if index is None else index!r}",
            fix=f"it has: {', '.join(self._order)}",
        )

    @checked
    def summary(self, line_length: int = 65, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print layers, shapes of their outputs, and numbers of weights."""
        emit = print if print_fn is None else print_fn
        widths = (line_length * 45 // 100, line_length * 35 // 100, line_length * 20 // 100)

        def row(*cells: str) -> str:
            return "".join(cell[: w - 1].ljust(w) for cell, w in zip(cells, widths, strict=True)).rstrip()

        emit(f'Model: "{self._label}"')
        emit("─" * line_length)
        emit(row("Layer (type)", "Output Shape", "Param #"))
        emit("━" * line_length)
        for i, layer in enumerate(self.layers):
            shape = str((None, *self._shapes[i])) if self.built else "?"
            count = f"{layer.count_params():,}" if self.built else "0 (unbuilt)"
            emit(row(f"{layer.name} ({type(layer).__name__})", shape, count))
        emit("─" * line_length)
        weights = self.weights
        trainable = self.trainable_weights
        for label, group in (
            ("Total", weights),
            ("Trainable", trainable),
            ("Non-trainable", [w for w in weights if not any(w is t for t in trainable)]),
        ):
            total = sum(w.numel() for w in group)
            emit(f"{label} params: {total:,} ({_bytes(sum(w.nbytes for w in group))})")


def load_model(filepath: Any) -> Any:
    """The model that `Sequential.save` wrote (see `saving`)."""
    from .saving import load_model

    return load_model(filepath)


class _Compiled:
    """What `compile` was told, and the optimizer's rule once there are weights."""

    def __init__(
        self, optimizer: optimizers.Optimizer, loss: Loss, metrics: list[Any], mode: bool | str
    ) -> None:
        self.optimizer = optimizer
        self.loss = loss
        self.metrics = metrics
        self.mode = mode  # of `capturing.Step`
        self.steps: dict[str, Step] = {}
        self.rule: Any = None
        self.frozen: tuple[bool, ...] = ()
        self.crew: Crew | None = None  # of processes, while these train together

    def forget_programs(self) -> None:
        """Let every step be captured anew."""
        self.steps = {}


class _NotFinite(ArithmeticError):
    """The loss of a batch is NaN or infinite."""

    def __init__(self, loss: float) -> None:
        super().__init__(loss)
        self.loss = loss


class _Data:
    """Examples, labels and weights, ready for the loss."""

    __slots__ = ("weights", "x", "y")

    def __init__(self, x: Array, y: Array, weights: Array | None) -> None:
        self.x, self.y, self.weights = x, y, weights

    def __len__(self) -> int:
        return len(self.x)

    def tensors(self) -> tuple[Tensor, ...]:
        """The same as tensors: two of them, or three if there are weights."""
        both = wrap(self.x), wrap(self.y)
        return both if self.weights is None else (*both, wrap(self.weights))

    def rows(self, index: Any) -> _Data:
        """Some of the examples."""
        if isinstance(index, slice):
            parts = [None if a is None else a[index] for a in (self.x, self.y, self.weights)]
        else:  # `take` is several times faster than indexing by an array, where rows lie in order
            parts = [None if a is None else a.take(index, 0) for a in (self.x, self.y, self.weights)]
        return _Data(*parts)  # type: ignore[arg-type]

    def batches(self, size: int, order: Array | None) -> Iterator[_Data]:
        """Consecutive batches, of the examples as they are or in an order."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size) if order is None else order[start : start + size])

    def cut(self, share: float) -> tuple[_Data, _Data]:
        """All but the last share of the examples, and those."""
        if not 0.0 < share < 1.0:
            raise ArgumentError("fit", f"validation_split is {share!r}", fix="choose it above 0 and below 1")
        at = math.floor(len(self) * (1.0 - share))
        if not 0 < at < len(self):
            raise ArgumentError(
                "fit",
                f"validation_split {share} of {len(self)} examples leaves a part empty",
                fix="use another share, or pass validation_data",
            )
        return self.rows(slice(0, at)), self.rows(slice(at, None))


def _batch_size(op: str, size: Any) -> int:
    if size is None:
        return 32
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
        raise ArgumentError(op, f"batch_size is {size!r}", fix="pass an integer of at least 1")
    return int(size)


def _listens_to_batches(callback: Any) -> bool:
    names = ("on_train_batch_begin", "on_train_batch_end")
    return any(
        name in vars(callback) or getattr(type(callback), name, None) is not getattr(Callback, name)
        for name in names
    )


def _known_metric(metric: Any) -> None:
    if not isinstance(metric, metrics.Metric):
        metrics.get(metric, (), (1,))


def _built_shape(layer: Layer, shape: Shape) -> Shape:
    """The output shape of a layer that has its weights already, which must fit."""
    if isinstance(layer, Sequential):
        if layer._input_shape != shape:
            raise ShapeError(
                layer._label,
                f"it was built for {layer._input_shape} and is given {shape}",
                fix="make a new layer for the new shape",
            )
        return layer._outputs
    kept = layer.get_weights()
    shapes = [w.shape for w in layer.weights]
    result = layer.build(shape)
    if [w.shape for w in layer.weights] != shapes:
        raise ShapeError(
            layer.name or "layer", f"it was built for another shape than {shape}", fix="make a new layer"
        )
    layer.set_weights(kept)
    return result


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _bytes(count: int) -> str:
    return (
        f"{count} B"
        if count < 1024
        else f"{count / 1024:.2f} KB"
        if count < 1 << 20
        else f"{count / (1 << 20):.2f} MB"
    )
