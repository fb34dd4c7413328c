"""Models that train themselves: `compile`, `fit`, `evaluate`, `predict`.

What `fit` does is the loop that one writes by hand with `minigrad.nn` and `minigrad.optim`:

    for each epoch, for each batch of a random order:
        forget the gradients
        loss = loss(labels, model(x)), of all outputs, with what weights add
        backward
        step

It takes two liberties.  Where the loss expects the output of a softmax or sigmoid and the last layer
has exactly that, the loss is given what goes into it (see `losses`).  And these four lines are captured
and replayed as one program (see `capturing`), which changes nothing but the time they take.  What Python
did in them is done once: a loss or layer of one's own that draws numbers from numpy, or prints, wants
`compile(..., run_eagerly=True)`.

A model of one's own keeps its layers as attributes and defines `call`:

    >>> import numpy as np
    >>> from minigrad import keras
    >>> class Net(keras.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = keras.layers.Dense(8, activation="relu")
    ...         self.scores = keras.layers.Dense(3, activation="softmax")
    ...     def call(self, x, training=False):
    ...         return self.scores(self.hidden(x))
    >>> model = Net()
    >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> history = model.fit(np.eye(4, dtype="float32"), np.array([0, 1, 2, 0]), verbose=0)
    >>> sorted(history.history), model.count_params()
    (['accuracy', 'loss'], 67)

Left out, and refused: metrics with weights, and `train_step` and its like, which are written for another
library's gradients.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
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
from ..tree import flatten
from . import activations, losses, metrics, optimizers
from .base import _CONTEXT, Layer, running
from .callbacks import Callback, History, TerminateOnNaN
from .capturing import WARM, WARM_TESTS, Step
from .crew import Crew, checked_workers, together
from .crew import warm as started
from .feeding import Data, Stream, is_stream
from .losses import Array, Loss, array_of, as_float, class_indices
from .options import checked
from .progress import Progress
from .symbolic import is_symbolic

#: Methods of Keras's models that are written for the gradients of another library.
_FOREIGN = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")


class Model(Layer):
    """Layers with a training loop.

    `Model(inputs, outputs)` is the model between symbolic tensors (see `models.Functional`); a subclass keeps
    layers as attributes and defines `call`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A `Functional`, if there are inputs and outputs."""
        if cls is Model and (args or "inputs" in kwargs or "outputs" in kwargs):
            from .models import Functional

            return object.__new__(Functional)
        return object.__new__(cls)

    def __init__(self, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(_snake(type(self).__name__) if name is None else name, None, trainable)
        self._compiled: Compiled | None = None
        self._forward_step: Step | None = None  # of `predict`
        self.stop_training = False
        # of the inputs and outputs: names, shapes of examples, and what nest they come in
        self.input_names: list[str] = []
        self.output_names: list[str] = []
        self._input_sizes: list[Shape] | None = None
        self._output_sizes: list[Shape] = []
        self._input_nest: Any = None
        self._output_nest: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Layer) and value is not self and value.name is None:
            value.name = name
        super().__setattr__(name, value)

    # -- what it consists of --------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order."""
        found: list[Layer] = []
        for name, value in self.__dict__.items():
            parts = value if isinstance(value, (list, tuple)) and name[0] != "_" else [value]
            found += [p for p in parts if isinstance(p, Layer) and not any(p is f for f in found)]
        return found

    @property
    def _label(self) -> str:
        return self.name or _snake(type(self).__name__)

    @property
    def _outputs(self) -> Shape:
        """The shape of an example of the only output."""
        return self._output_sizes[0]

    def _require_built(self, op: str) -> None:
        if not self.built:
            raise ArgumentError(
                op,
                "the model has no weights yet",
                fix="give the first layer input_shape=, or call build or fit",
            )

    @property
    def input_shape(self) -> Any:
        """The shape of a batch of inputs, None for its size; a list, if there are several."""
        self._require_built("input_shape")
        shapes = [(None, *size) for size in self._input_sizes or ()]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Any:
        """The shape of a batch of outputs, None for its size; a list, if there are several."""
        self._require_built("output_shape")
        shapes = [(None, *size) for size in self._output_sizes]
        return shapes[0] if len(shapes) == 1 else shapes

    def build(self, shape: Any = None) -> Any:
        """Make all weights, for batches of this shape, None for their size; or a list or dict of shapes."""
        if shape is None:
            raise ArgumentError(
                self._label, "the shape of its input is not known", fix="pass it: build((None, 4))"
            )
        if not self.by_call:
            raise ArgumentError(
                self._label,
                "call is not defined",
                fix="define call(self, x), or use Sequential or Functional",
            )
        many = isinstance(shape, dict) or isinstance(shape[0], (list, tuple))
        given = {"": shape} if not many else shape if isinstance(shape, dict) else dict(enumerate(shape))
        zeros = {k: np.zeros((1, *(s[1:] if s[0] is None else s)), np.float32) for k, s in given.items()}
        first = zeros[""] if not many else zeros if isinstance(shape, dict) else list(zeros.values())
        self._first_seen(first)

    def _first_seen(self, x: Any) -> None:
        """Take note of what goes in, and, by running it on one example, of what comes out."""
        arrays, nest = flatten(x)
        self._input_nest = nest
        self._input_sizes = [tuple(np.shape(a)[1:]) for a in arrays]
        keys = list(nest.keys) if nest.keys else [f"input_{i}" for i in range(len(arrays))]
        self.input_names = [str(k) for k in keys]
        self.built = True
        before = self.training
        self.train(False)
        try:
            with no_grad(), running():
                y = Module.__call__(
                    self, nest.build([wrap(np.zeros((1, *s), np.float32)) for s in self._input_sizes])
                )
        except BaseException:
            self.built = False
            raise
        finally:
            self.train(before)
            self._forget_losses()
        outputs, self._output_nest = flatten(y)
        self._output_sizes = [tuple(t.shape[1:]) for t in outputs]
        names = self._output_nest.keys or [f"output_{i}" for i in range(len(outputs))]
        self.output_names = [str(n) for n in names]
        self._forget_optimizer()

    # -- running ----------------------------------------------------------------------------------

    def _run(self, xs: tuple[Tensor, ...], before: Sequence[bool] = ()) -> tuple[Tensor, ...]:
        """All outputs; `before`: for which of them to give what goes into the last activation."""
        with running():
            y = Module.__call__(self, self._input_nest.build(xs))
        return tuple(flatten(y)[0])

    def _ends(self) -> list[Callable[[Tensor], Tensor]]:
        """The last activation of each output, where that is known to be one."""
        return [activations.linear] * len(self._output_sizes)

    def __call__(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The outputs for a batch; training: whether dropout and batch norm behave as in training."""
        if is_symbolic(args):
            return super().__call__(*args, training=training, **kwargs)
        if len(args) == 1 and not kwargs:
            arrays = self._arrays(self._label, args[0])
            args = (self._input_nest.build([a if isinstance(a, Tensor) else wrap(a) for a in arrays]),)
        if training is None and not _CONTEXT.running:
            training = False
        return super().__call__(*args, training=training, **kwargs)

    def _arrays(self, op: str, x: Any) -> list[Any]:
        """The inputs in order, as tensors or float32 arrays, checked; builds the model if need be."""
        given = self._inputs_in_order(op, x)
        arrays = [
            a if isinstance(a, Tensor) and op == self._label else as_float(op, "x", array_of(a))
            for a in given
        ]
        if any(not a.shape for a in arrays):
            raise ShapeError(op, "x is a single number", fix="pass an array of examples")
        if not self.built:
            self._build_on(x, arrays)
        for name, array, wanted in zip(self.input_names, arrays, self._input_sizes or (), strict=True):
            shape = tuple(array.shape)
            if shape[1:] != wanted:
                hint = (
                    "add a dimension for the batch: x[None]"
                    if shape == wanted
                    else "check the data, or input_shape"
                )
                of = f" of {name!r}" if len(arrays) > 1 else ""
                raise ShapeError(
                    op, f"examples{of} of shape {shape[1:]} where the model takes {wanted}", fix=hint
                )
        if len({len(a) for a in arrays}) > 1:
            sizes = ", ".join(f"{n} {len(a)}" for n, a in zip(self.input_names, arrays, strict=True))
            raise ShapeError(op, f"inputs of different length: {sizes}", fix="give each as many examples")
        return arrays

    def _build_on(self, x: Any, arrays: list[Any]) -> None:
        """Make the weights, for data like this."""
        nested = isinstance(x, dict) or (isinstance(x, (list, tuple)) and len(arrays) > 1)
        nest = flatten(x)[1] if nested else flatten(0)[1]
        self._first_seen(nest.build([a.numpy() if isinstance(a, Tensor) else a for a in arrays]))

    def _inputs_in_order(self, op: str, x: Any) -> list[Any]:
        """The inputs as a list, from an array, a list or a dictionary of them."""
        names = self.input_names
        if isinstance(x, dict):
            if not names:
                return list(x.values())
            missing = [n for n in names if n not in x]
            if missing or len(x) != len(names):
                raise ArgumentError(
                    op,
                    f"x has {', '.join(map(repr, x))}",
                    fix=f"the model's inputs are {', '.join(map(repr, names))}",
                )
            return [x[n] for n in names]
        several = isinstance(x, (list, tuple)) and any(isinstance(v, (np.ndarray, Tensor)) for v in x)
        if len(names) > 1:
            if not isinstance(x, (list, tuple)) or len(x) != len(names):
                raise ArgumentError(
                    op,
                    f"{len(x) if several else 1} input{'s' if several and len(x) != 1 else ''}"
                    f" for a model of {len(names)}",
                    fix=f"pass a list or a dictionary of {', '.join(names)}",
                )
            return list(x)
        if several and names and len(x) == 1:
            size = (self._input_sizes or [()])[0]
            return [x[0]] if np.ndim(array_of(x[0])) == len(size) + 1 else [x]
        return list(x) if several and not names and self.by_call else [x]

    # -- training: preparation ----------------------------------------------------------------------

    @checked
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        run_eagerly: bool = False,
        jit_compile: bool | str = "auto",
        loss_weights: Any = None,
    ) -> None:
        """Say how to train: an optimizer, a loss and metrics, by name or as objects.

        With several outputs, loss, loss_weights and metrics are lists, or dictionaries by the names of the
        outputs; one loss is for all.  Without a loss, `fit` minimises what the layers add (`add_loss`).
        run_eagerly: run every step as it is, never captured.  jit_compile: "auto" captures steps and
        falls back, with a warning, for those that cannot be; True makes these an error; False is the
        same as run_eagerly.

        Raises ArgumentError with the valid names for one that is not known.
        """
        if jit_compile not in (True, False, "auto"):
            raise ArgumentError("compile", f"jit_compile is {jit_compile!r}", fix="use 'auto', True or False")
        if run_eagerly and jit_compile is True:
            raise ArgumentError("compile", "run_eagerly and jit_compile are both True", fix="choose one")
        mode = False if run_eagerly else jit_compile
        found = Compiled(optimizers.get(optimizer), loss, loss_weights, metrics, mode)
        if self.built:
            found.assign(self.output_names)
        self._compiled = found
        self._forward_step = None

    @property
    def metrics_names(self) -> list[str]:
        """What the numbers of `evaluate` are.  Raises ArgumentError before the model has seen labels."""
        compiled = self._need_compile("metrics_names")
        if len(compiled.label_shapes) != len(compiled.losses):
            raise ArgumentError(
                "metrics_names",
                "the model has seen no labels yet",
                fix="ask after fit, evaluate or train_on_batch",
            )
        return ["loss", *self._part_names(), *(meter.name for meter in self._meters())]

    @property
    def run_eagerly(self) -> bool:
        """Whether steps are never captured.  Raises ArgumentError before `compile`."""
        return self._need_compile("run_eagerly").mode is False

    def _forget_optimizer(self) -> None:
        self._forward_step = None
        if self._compiled is not None:
            self._compiled.rule = None
            self._compiled.steps = {}
            self._compiled.assigned = None

    @property
    def optimizer(self) -> optimizers.Optimizer:
        """The optimizer.  Raises ArgumentError before `compile`."""
        return self._need_compile("optimizer").optimizer

    @property
    def loss(self) -> Any:
        """The loss, or those of several outputs.  Raises ArgumentError before `compile`."""
        return self._need_compile("loss").shown_loss

    def _need_compile(self, op: str) -> Compiled:
        if self._compiled is None:
            raise ArgumentError(
                op,
                "the model does not know its loss and optimizer yet",
                fix="call model.compile(optimizer='adam', loss=...) first",
            )
        return self._compiled

    def _data(self, op: str, x: Any, y: Any, weights: Any, class_weight: Any) -> Data:
        """Examples, labels and weights, all checked."""
        compiled = self._need_compile(op)
        inputs = [np.ascontiguousarray(a) for a in self._arrays(op, x)]
        compiled.assign(self.output_names)
        if not len(inputs[0]):
            raise ArgumentError(op, "there are no examples: x is empty", fix="check how the data is loaded")
        if not compiled.losses:
            if y is not None:
                raise ArgumentError(op, "labels, and no loss", fix="pass loss= to compile, or leave y out")
            return Data(tuple(inputs), (), ())
        if y is None:
            raise ArgumentError(op, "there are no labels", fix=f"pass y: model.{op}(x, y)")
        count = len(inputs[0])
        ends = self._ends()
        labels = []
        for i, (loss, raw) in enumerate(zip(compiled.losses, self._by_output(op, "y", y), strict=True)):
            of = f" of {self.output_names[i]!r}" if len(compiled.losses) > 1 else ""
            array = array_of(raw)
            if not array.ndim or len(array) != count:
                raise ShapeError(
                    op,
                    f"{count} examples in x but {len(array) if array.ndim else 1} labels{of} in y",
                    fix="they must be as many",
                )
            if loss.reduction not in ("sum_over_batch_size", "sum"):
                raise ArgumentError(
                    op, f"a loss with reduction {loss.reduction!r} cannot be trained", fix="use 'sum'"
                )
            if loss.from_logits and ends[i] is loss.activation:
                raise ArgumentError(
                    op,
                    f"the last layer applies {ends[i].__name__}, and so would the loss with from_logits=True",
                    fix="leave one of them out",
                )
            labels.append(np.ascontiguousarray(loss.labels(op, array, self._output_sizes[i])))
        return Data(tuple(inputs), tuple(labels), self._weights(op, count, labels, weights, class_weight))

    def _weights(
        self, op: str, count: int, labels: list[Array], weights: Any, class_weight: Any
    ) -> tuple[Array, ...]:
        """One weight an example for each output, or nothing."""
        found: list[Array | None] = [None] * len(labels)
        if weights is not None:
            single = len(labels) > 1 and not isinstance(weights, (dict, list, tuple))
            parts = [weights] * len(labels) if single else self._by_output(op, "sample_weight", weights)
            for i, part in enumerate(parts):
                if part is not None:
                    array = as_float(op, "sample_weight", array_of(part))
                    array = array[:, 0] if array.shape == (count, 1) else array
                    if array.shape != (count,):
                        raise ShapeError(op, f"sample_weight has shape {array.shape}", fix=f"pass {(count,)}")
                    found[i] = array
        if class_weight is not None:
            if len(labels) > 1:
                raise ArgumentError(op, "class_weight for several outputs", fix="use sample_weight")
            by_class = self._class_weights(op, labels[0], class_weight)
            found = [by_class if found[0] is None else found[0] * by_class]
        if all(part is None for part in found):
            return ()
        return tuple(np.ones(count, np.float32) if part is None else part for part in found)

    def _by_output(self, op: str, what: str, given: Any) -> list[Any]:
        """A part for each output, from a list or a dictionary of them, or the one that there is."""
        names = self.output_names
        if isinstance(given, dict):
            unknown = [n for n in given if n not in names]
            missing = [n for n in names if n not in given and what == "y"]
            if unknown or missing:
                raise ArgumentError(
                    op,
                    f"{what} has {', '.join(map(repr, given))}",
                    fix=f"the model's outputs are {', '.join(map(repr, names))}",
                )
            return [given.get(n) for n in names]
        if len(names) == 1:
            wrapped = (
                isinstance(given, (list, tuple))
                and len(given) == 1
                and isinstance(given[0], (np.ndarray, Tensor))
            )
            return [given[0] if wrapped and np.ndim(array_of(given[0])) else given]
        if not isinstance(given, (list, tuple)) or len(given) != len(names):
            raise ArgumentError(
                op,
                f"{what} for a model of {len(names)} outputs is a {type(given).__name__}"
                + (f" of {len(given)}" if isinstance(given, (list, tuple)) else ""),
                fix=f"pass a list or a dictionary of {', '.join(names)}",
            )
        return list(given)

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

    def _meters(self) -> list[Meter]:
        """The metrics of all outputs; those of several are named after them."""
        compiled = self._need_compile("fit")
        found = []
        for i, listed in enumerate(compiled.metrics):
            before = f"{self.output_names[i]}_" if len(self.output_names) > 1 else ""
            for metric in listed:
                shape = compiled.label_shapes[i]
                made = metrics.get(metric, shape, self._output_sizes[i])
                found.append(Meter(before + made.name, made, i))
        return found

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
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> History:
        """Train for epochs `initial_epoch` to `epochs` - 1.

        x, y: arrays (n, ...), or lists or dictionaries of them for several inputs or outputs; or x alone is
        what gives batches (x, y) or (x, y, sample_weight): a DataLoader, a PyDataset, a generator, which
        says itself how large and in what order they are.  steps_per_epoch: how many of these are an epoch.
        batch_size: 32 by default.  validation_data: (x, y) or (x, y, sample_weight), or what gives batches;
        or validation_split: this share of the data, taken from its end.  validation_freq: every so many
        epochs.  verbose: 0 quiet, 1 a bar (a line an epoch if not on a terminal), 2 a line an epoch.
        workers: processes that share each batch, of which this is the first (see `crew`).  Returns the
        History.

        Raises ArgumentError, ShapeError or DTypeError for data that does not fit the model and the
        loss, AnomalyError if the loss becomes NaN or Inf; the weights then are those before that step;
        DistributedError if a worker fails.
        """
        compiled = self._need_compile("fit")
        self._refuse_foreign()
        size = _batch_size("fit", batch_size)
        data = self._source("fit", x, y, sample_weight, class_weight, steps_per_epoch, batch_size)
        validation: Data | Stream | None = None
        if is_stream(validation_data):
            validation = self._source("fit", validation_data, None, None, None, validation_steps, None)
        elif validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ArgumentError(
                    "fit", "validation_data is no (x, y)", fix="pass a tuple of two or three arrays"
                )
            weights = validation_data[2] if len(validation_data) == 3 else None
            validation = self._data("fit", validation_data[0], validation_data[1], weights, None)
        elif validation_split:
            if isinstance(data, Stream):
                raise ArgumentError(
                    "fit", "validation_split of data that comes in batches", fix="pass validation_data"
                )
            data, validation = data.cut(validation_split)
        if validation_steps is not None and not isinstance(validation, Stream):
            raise ArgumentError(
                "fit", "validation_steps for arrays", fix="leave it out, or pass fewer examples"
            )
        for name, value, least in (
            ("epochs", epochs, 0),
            ("initial_epoch", initial_epoch, 0),
            ("validation_freq", validation_freq, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                what = "a positive" if least else "a non-negative"
                raise ArgumentError("fit", f"{name} is {value!r}", fix=f"pass {what} integer")
        history = History()
        listeners: list[Any] = [
            *([callbacks] if isinstance(callbacks, Callback) else callbacks or ()),
            history,
        ]
        steps = data.steps(size)
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
        count = checked_workers(workers)
        if count > 1 and (isinstance(data, Stream) or isinstance(validation, Stream)):
            raise ArgumentError("fit", "workers share arrays, not streams", fix="pass arrays, or workers=1")
        if isinstance(data, Data):
            self._rule(compiled)
        alone: Any = contextlib.nullcontext()
        logs: dict[str, float] = {}
        tests = size if validation_batch_size is None else _batch_size("fit", validation_batch_size)
        measured = any(compiled.metrics)
        plan = _Plan(data, validation, size, tests, shuffle, initial_epoch, validation_freq)
        with (
            alone
            if count == 1
            else together(
                self, compiled, count, data, validation, size, tests, validation_freq, initial_epoch, measured
            )
        ):
            logs = self._epochs(compiled, plan, listeners)
        for callback in listeners:
            callback.on_train_end(logs)
        return history

    def _refuse_foreign(self) -> None:
        for name in _FOREIGN:
            if hasattr(type(self), name):
                raise ArgumentError(
                    "fit",
                    f"{type(self).__name__} defines {name}, which would not be called",
                    fix="use add_loss and compile(loss=...), or write the loop with model(x, training=True), "
                    "loss.backward() and minigrad.optim",
                )

    def _source(
        self, op: str, x: Any, y: Any, weights: Any, class_weight: Any, limit: int | None, batch_size: Any
    ) -> Data | Stream:
        """Arrays, or what gives batches."""
        if not is_stream(x):
            if limit is not None:
                raise ArgumentError(
                    op, "steps for arrays", fix="leave it out: the number of examples and batch_size say it"
                )
            return self._data(op, x, y, weights, class_weight)
        for name, value in (("y", y), ("sample_weight", weights), ("batch_size", batch_size)):
            if value is not None:
                raise ArgumentError(
                    op, f"{name} beside data that comes in batches", fix="let the batches have it"
                )
        return Stream(x, lambda x, y, w: self._data(op, x, y, w, class_weight), limit)

    def _epochs(self, compiled: Compiled, plan: _Plan, listeners: list[Any]) -> dict[str, float]:
        """What `fit` does once everything is checked; returns the logs of the last epoch."""
        epochs, verbose, steps = (listeners[0].params[name] for name in ("epochs", "verbose", "steps"))
        each_batch = [c for c in listeners if _listens_to_batches(c)]
        crew, data, size = compiled.crew, plan.data, plan.size
        for callback in listeners:
            callback.on_train_begin({})
        logs: dict[str, float] = {}
        meters: list[Meter] | None = None
        try:
            for epoch in range(plan.initial_epoch, epochs):
                bar = Progress(verbose, steps or 0, f"Epoch {epoch + 1}/{epochs}")
                for callback in listeners:
                    callback.on_epoch_begin(epoch, {})
                order = randperm(len(data))._array if plan.shuffle and isinstance(data, Data) else None
                if crew is not None:
                    crew.go_on()
                    crew.order(order, len(data))  # type: ignore[arg-type]
                self.train()
                seen = _Seen(self._part_names())
                for meter in meters or ():
                    meter.metric.reset_state()
                for step, batch in enumerate(data.batches(size, order)):
                    for callback in each_batch:
                        callback.on_train_batch_begin(step, {})
                    if meters is None:
                        self._rule(compiled)
                        meters = self._measuring(compiled, batch)
                        seen = _Seen(self._part_names())
                    found = self._train_step(compiled, batch, meters)
                    loss = found[0]
                    if not math.isfinite(loss):
                        enders = [c for c in each_batch if isinstance(c, TerminateOnNaN)]
                        for callback in enders:
                            callback.on_train_batch_end(step, {"loss": loss})
                        if not enders:
                            raise self._not_finite(
                                loss, data if isinstance(data, Data) else batch, epoch, step
                            )
                        seen.only(loss)
                        break
                    seen.add(found, len(batch))
                    if each_batch or bar.due():
                        logs = seen.logs(meters)
                        if bar.due():
                            bar.draw(step + 1, logs)
                        for callback in each_batch:
                            callback.on_train_batch_end(step, logs)
                    if self.stop_training and each_batch:
                        break
                bar.lap(seen.steps)
                logs = seen.logs(meters or [])
                if plan.validation is not None and (epoch + 1) % plan.validation_freq == 0:
                    tested = self._test(compiled, plan.validation, plan.tests)
                    logs |= {f"val_{name}": value for name, value in tested.items()}
                for callback in listeners:
                    callback.on_epoch_end(epoch, logs)
                bar.end(logs)
                if self.stop_training:
                    break
        finally:
            self.eval()
        return logs

    def _part_names(self) -> list[str]:
        """Under which names the loss of each output is shown, if there are several."""
        several = self._compiled is not None and len(self._compiled.losses) > 1
        return [f"{name}_loss" for name in self.output_names] if several else []

    def _measuring(self, compiled: Compiled, batch: Data) -> list[Meter]:
        """The metrics, now that labels have been seen."""
        compiled.label_shapes = [a.shape[1:] for a in batch.y]
        return self._meters() if batch.y else []

    def _pass(self, compiled: Compiled, batches: Iterator[Data], measured: bool) -> None:
        """What a worker does of an epoch."""
        self.train()
        for batch in batches:
            if not math.isfinite(self._train_step(compiled, batch, [], measured)[0]):
                break

    def _rule(self, compiled: Compiled) -> Any:
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

    def _takes_logits(self, compiled: Compiled) -> list[bool]:
        """For each output, whether the loss is given what goes into the last activation."""
        return [
            not loss.from_logits and loss.activation is not None and end is loss.activation
            for loss, end in zip(compiled.losses, self._ends(), strict=True)
        ]

    def _loss_of(
        self,
        compiled: Compiled,
        xs: tuple[Tensor, ...],
        ys: tuple[Tensor, ...],
        weights: tuple[Tensor, ...],
    ) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
        """The loss of a batch, those of its outputs, and what these were given as predictions."""
        self._forget_losses()
        if not compiled.losses:
            ps, each = self._run(xs), []
        else:
            inside = self._takes_logits(compiled)
            ps = self._run(xs, inside)
            each = [
                self._loss_at(loss, p, logits or loss.from_logits, y, weights[i] if weights else None)
                for i, (loss, p, logits, y) in enumerate(zip(compiled.losses, ps, inside, ys, strict=True))
            ]
        terms = [e if w == 1.0 else e * w for e, w in zip(each, compiled.loss_weights, strict=False)]
        added = self.losses
        self._forget_losses()
        if compiled.crew is not None and added and any(loss.reduction == "sum" for loss in compiled.losses):
            raise ArgumentError(
                "fit",
                "several workers, a sum as the loss, and a regularizer",
                fix="use the mean, or one worker",
            )
        terms += added
        if not terms:
            raise ArgumentError(
                "fit",
                "there is nothing to minimise",
                fix="pass loss= to compile, or call add_loss in a layer",
            )
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total, each, ps

    def _loss_at(self, loss: Loss, p: Tensor, logits: bool, y: Tensor, weights: Tensor | None) -> Tensor:
        """The loss of predictions or logits; what cannot be a prediction is refused."""
        traced = current().trace is not None
        if not logits and not traced:
            loss.check("fit", p._array)
        value = loss.value(y, p, logits, weights)
        value = value if not value.ndim else value.mean()
        if traced and not logits and loss.activation is not None:
            value = where(((p >= 0.0) & (p <= 1.0 + 1e-5)).all(), value, math.nan)
        return value

    def _measure(
        self, compiled: Compiled, meters: list[Meter], ys: tuple[Array, ...], ps: Sequence[Array]
    ) -> None:
        """Show metrics a batch: predictions, or logits where the loss was given them."""
        inside = self._takes_logits(compiled)
        outputs: dict[int, Array] = {}
        for _, metric, i in meters:
            if metric.by_order or not inside[i]:
                metric.add(ys[i], ps[i])
            else:
                if i not in outputs:
                    with no_grad():
                        outputs[i] = self._ends()[i](wrap(ps[i]))._array
                metric.add(ys[i], outputs[i])

    def _step_of(self, compiled: Compiled, function: Callable[..., Any], warm: int = WARM) -> Step:
        """The captured form of a function, made once a `compile`."""
        step = compiled.steps.get(function.__name__)
        if step is None:
            step = compiled.steps[function.__name__] = Step(function, compiled.mode, started(compiled, warm))
        return step

    def _train_step(
        self, compiled: Compiled, batch: Data, meters: list[Meter], measured: bool = False
    ) -> tuple[float, ...]:
        """One step; its loss, and those of several outputs.  One that is not finite has changed nothing.

        measured: whether some other process has metrics, for which it needs the predictions."""
        crew = compiled.crew
        try:
            if crew is None:
                found = self._step_of(compiled, self._train)(*batch.tensors())
            else:
                rows, nothing = crew.rows(len(batch))
                part = batch.rows(rows)
                step = self._step_of(compiled, self._train_nothing if nothing else self._train)
                found = step(*part.tensors())
        except _NotFinite as error:  # eager: the values are at hand
            return (error.loss,)
        return self._told(compiled, batch, found, meters, measured)

    def _told(
        self, compiled: Compiled, batch: Data, found: tuple[Tensor, ...], meters: list[Meter], measured: bool
    ) -> tuple[float, ...]:
        """Losses as numbers, once metrics have been shown the predictions."""
        outs = len(self.output_names)
        if meters or measured:
            ps = [p._array for p in found[len(found) - outs :]]
            if compiled.crew is not None:
                ps = [compiled.crew.predictions(p, len(batch)) for p in ps]
            self._measure(compiled, meters, batch.y, ps)
        return tuple([float(t._array) for t in found[: len(found) - outs]])

    def _split(
        self, tensors: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Inputs, labels and weights."""
        compiled = self._need_compile("fit")
        a = len(self.input_names)
        b = a + len(compiled.losses)
        return tensors[:a], tensors[a:b], tensors[b:]

    def _train(self, *tensors: Tensor, nothing: bool = False) -> tuple[Tensor, ...]:
        """What is captured: the losses of a batch, and its predictions, after a step down its gradient.

        nothing: the examples count nothing, see `crew`."""
        compiled = self._need_compile("fit")
        crew = compiled.crew
        compiled.rule.zero_grad()
        xs, ys, weights = self._split(tensors)
        with contextlib.nullcontext() if crew is None else crew.counting(xs[0].shape[0], nothing):
            loss, each, ps = self._loss_of(compiled, xs, ys, weights)
            if nothing:
                loss, each = loss * 0.0, [e * 0.0 for e in each]
            parts = each if len(self.output_names) > 1 else []
            shown = loss if crew is None else crew.loss(loss)
            if crew is not None:
                parts = [crew.loss(part) for part in parts]
            if current().trace is not None:
                shown = finite(shown)
            elif not math.isfinite(shown._array):
                raise _NotFinite(float(shown._array))
            (shown if crew is None else loss).backward()
            if crew is not None:
                crew.reducer.average_buffers(self)
        compiled.rule.step()
        self._constrain()
        return tuple([t.detach() for t in (shown, *parts, *ps)])

    def _train_nothing(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """`_train` by a process that has no example of a batch."""
        return self._train(*tensors, nothing=True)

    def _score(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What `evaluate` captures: the losses of a batch, and its predictions."""
        loss, each, ps = self._loss_of(self._need_compile("evaluate"), *self._split(tensors))
        return (loss, *(each if len(self.output_names) > 1 else ()), *ps)

    def _not_finite(self, loss: float, data: Data, epoch: int, step: int) -> AnomalyError:
        where = f"the loss became {loss} in epoch {epoch + 1}, step {step + 1}"
        for what, arrays in (("x", data.x), ("y", data.y)):
            for array in arrays:
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    at = np.argwhere(~np.isfinite(array))[0].tolist()
                    return AnomalyError(
                        "fit",
                        f"{where}: {what}{at} is {array[tuple(at)]}",
                        fix="remove or fill in such values",
                    )
        largest = max(float(np.abs(array).max()) for array in data.x)
        return AnomalyError(
            "fit",
            f"{where} (the largest input is {largest:.3g})",
            fix="lower the learning rate, and scale the inputs to about -1 to 1",
        )

    def _test(
        self, compiled: Compiled, data: Data | Stream, size: int, bar: Progress | None = None
    ) -> dict[str, float]:
        self.eval()
        meters: list[Meter] | None = None
        seen = _Seen(self._part_names())
        with no_grad():
            for step, batch in enumerate(data.batches(size, None)):
                if meters is None:
                    meters = self._measuring(compiled, batch)
                    for meter in meters:
                        meter.metric.reset_state()
                    seen = _Seen(self._part_names())
                seen.add(self._test_step(compiled, batch, meters), len(batch))
                if bar is not None and bar.due():
                    bar.draw(step + 1, {"loss": seen.logs([])["loss"]})
        if bar is not None:
            bar.lap(seen.steps)
        return seen.logs(meters or [])

    def _test_step(
        self, compiled: Compiled, batch: Data, meters: list[Meter], measured: bool = False
    ) -> tuple[float, ...]:
        """The losses of a batch; measured: as in `_train_step`."""
        crew = compiled.crew
        score = self._step_of(compiled, self._score, WARM_TESTS)
        if crew is None:
            found = score(*batch.tensors())
        else:
            rows, nothing = crew.rows(len(batch))
            part = batch.rows(rows)
            found = score(*part.tensors())
            count = len(found) - len(self.output_names)
            with crew.counting(len(part), nothing):
                losses = [crew.loss(t * 0.0 if nothing else t) for t in found[:count]]
            found = (*losses, *found[count:])
        return self._told(compiled, batch, found, meters, measured)

    def _test_parts(self, compiled: Compiled, data: Data, size: int, measured: bool) -> None:
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
        steps: int | None = None,
    ) -> Any:
        """The loss, after it those of several outputs and the metrics: a number, a list, or a dictionary."""
        compiled = self._need_compile("evaluate")
        self._refuse_foreign()
        data = self._source("evaluate", x, y, sample_weight, None, steps, batch_size)
        size = _batch_size("evaluate", batch_size)
        bar = Progress(verbose, data.steps(size) or 0)
        logs = self._test(compiled, data, size, bar)
        bar.end(logs)
        if return_dict:
            return logs
        values = list(logs.values())
        return values if len(values) > 1 else values[0]

    @checked
    def predict(
        self, x: Any, batch_size: int | None = None, verbose: int | str = "auto", steps: int | None = None
    ) -> Any:
        """The outputs for many examples, as an array, or as a nest of them as the model gives."""
        size = _batch_size("predict", batch_size)
        if is_stream(x):
            source: Data | Stream = Stream(
                x, lambda x, y, w: Data(tuple(self._arrays("predict", x)), (), ()), steps
            )
        elif steps is not None:
            raise ArgumentError("predict", "steps for arrays", fix="leave it out: batch_size says it")
        else:
            source = Data(tuple(self._arrays("predict", x)), (), ())
        bar = Progress(verbose, source.steps(size) or 0)
        before = self.training
        self.eval()
        forward = self._forward_step
        if forward is None:
            mode: bool | str = "auto" if self._compiled is None else self._compiled.mode
            forward = self._forward_step = Step(self._run_all, mode, warm=WARM_TESTS)
        results: list[list[Array]] = []
        with no_grad():
            for step, batch in enumerate(source.batches(size, None)):
                results.append([t._array for t in forward(*batch.tensors())])
                if bar.due():
                    bar.draw(step + 1, {})
        self._forget_losses()
        if before:
            self.train()
        bar.lap(len(results))
        bar.end({})
        whole = [np.concatenate(parts) for parts in zip(*results, strict=True)] or [
            np.zeros((0, *size), np.float32) for size in self._output_sizes
        ]
        return self._output_nest.build(whole)

    def _run_all(self, *xs: Tensor) -> tuple[Tensor, ...]:
        """What `predict` captures."""
        return self._run(xs)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as arrays."""
        count = len(self._arrays("predict_on_batch", x)[0])
        return self.predict(x, batch_size=max(count, 1), verbose=0)

    @checked
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """One step on one batch; returns the loss, and after it the metrics if there are any."""
        compiled = self._need_compile("train_on_batch")
        self._refuse_foreign()
        batch = self._data("train_on_batch", x, y, sample_weight, class_weight)
        meters = self._measuring(compiled, batch)
        self.train()
        try:
            self._rule(compiled)
            found = self._train_step(compiled, batch, meters)
        finally:
            self.eval()
        if not math.isfinite(found[0]):
            raise self._not_finite(found[0], batch, 0, 0)
        return self._numbers(found, meters, len(batch), return_dict)

    @checked
    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """The loss of one batch, and after it the metrics if there are any."""
        compiled = self._need_compile("test_on_batch")
        batch = self._data("test_on_batch", x, y, sample_weight, None)
        meters = self._measuring(compiled, batch)
        self.eval()
        with no_grad():
            found = self._test_step(compiled, batch, meters)
        return self._numbers(found, meters, len(batch), return_dict)

    def _numbers(self, found: tuple[float, ...], meters: list[Meter], count: int, as_dict: bool) -> Any:
        seen = _Seen(self._part_names())
        seen.add(found, count)
        logs = seen.logs(meters)
        if as_dict:
            return logs
        return list(logs.values()) if len(logs) > 1 else found[0]

    @property
    def weights(self) -> list[Tensor]:
        """Parameters and other state, layer by layer."""
        found: dict[int, Tensor] = {}
        for layer in self.layers:
            found |= {id(w): w for w in layer.weights if id(w) not in found}
        found |= {id(w): w for w in super().weights if id(w) not in found}
        return list(found.values())

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

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or position.  Raises ArgumentError if there is none."""
        layers = self.layers
        for layer in layers:
            if name is not None and layer.name == name:
                return layer
        if name is None and index is not None and -len(layers) <= index < len(layers):
            return layers[index]
        raise ArgumentError(
            "get_layer",
            f"there is no layer {index if name is None else name!r}",
            fix=f"it has: {', '.join(str(layer.name) for layer in layers)}",
        )

    def _rows(self) -> list[tuple[Layer, str, str]]:
        """Of each layer the shape of its results, and what it is connected to."""
        return [(layer, "?", "") for layer in self.layers]

    @checked
    def summary(self, line_length: int | None = None, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print layers, shapes of their outputs, and numbers of weights."""
        emit = print if print_fn is None else print_fn
        rows = self._rows()
        connected = any(sources for _, _, sources in rows)
        length = (85 if connected else 65) if line_length is None else line_length
        shares = (35, 25, 14, 26) if connected else (45, 35, 20)
        widths = tuple(length * share // 100 for share in shares)

        def row(*cells: str) -> str:
            pairs = zip(cells, widths, strict=False)
            return "".join(cell[: w - 1].ljust(w) for cell, w in pairs).rstrip()

        emit(f'Model: "{self._label}"')
        emit("─" * length)
        emit(row("Layer (type)", "Output Shape", "Param #", "Connected to"))
        emit("━" * length)
        for layer, shape, sources in rows:
            count = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
            emit(row(f"{layer.name} ({type(layer).__name__})", shape, count, sources))
        emit("─" * length)
        weights = self.weights
        trainable = self.trainable_weights
        for label, group in (
            ("Total", weights),
            ("Trainable", trainable),
            ("Non-trainable", [w for w in weights if not any(w is t for t in trainable)]),
        ):
            total = sum(w.numel() for w in group)
            emit(f"{label} params: {total:,} ({_bytes(sum(w.nbytes for w in group))})")


class Meter:
    """A metric of an output, and the name that it is shown under."""

    __slots__ = ("metric", "name", "output")

    def __init__(self, name: str, metric: metrics.Metric, output: int) -> None:
        self.name, self.metric, self.output = name, metric, output

    def __iter__(self) -> Iterator[Any]:
        return iter((self.name, self.metric, self.output))


class _Seen:
    """Means, over the examples so far, of the loss and of its parts."""

    def __init__(self, parts: list[str]) -> None:
        self.names = ["loss", *parts]
        self.totals = [0.0] * len(self.names)
        self.count = self.steps = 0

    def add(self, losses: tuple[float, ...], examples: int) -> None:
        """Take a batch into account."""
        for i, loss in enumerate(losses):
            self.totals[i] += loss * examples
        self.count += examples
        self.steps += 1

    def only(self, loss: float) -> None:
        """Show this loss, whatever was before."""
        self.totals, self.names, self.count = [loss], ["loss"], 1

    def logs(self, meters: list[Meter]) -> dict[str, float]:
        """The means, and what metrics say."""
        count = max(self.count, 1)
        means = {name: total / count for name, total in zip(self.names, self.totals, strict=True)}
        return means | {meter.name: _plain(meter.metric.result()) for meter in meters}


def _plain(value: Any) -> Any:
    """A number of a metric's tensor."""
    return float(value._array) if isinstance(value, Tensor) and not value.ndim else value


class _Plan:
    """What `fit` was told about its data."""

    def __init__(
        self,
        data: Data | Stream,
        validation: Data | Stream | None,
        size: int,
        tests: int,
        shuffle: bool,
        initial_epoch: int,
        validation_freq: int,
    ) -> None:
        self.data, self.validation, self.size, self.tests = data, validation, size, tests
        self.shuffle, self.initial_epoch, self.validation_freq = shuffle, initial_epoch, validation_freq


class Compiled:
    """What `compile` was told, and the optimizer's rule once there are weights."""

    def __init__(
        self, optimizer: optimizers.Optimizer, loss: Any, loss_weights: Any, given: Any, mode: bool | str
    ) -> None:
        self.optimizer = optimizer
        self.given_loss, self.given_weights, self.given_metrics = loss, loss_weights, given
        self.mode = mode  # of `capturing.Step`
        self.assigned: list[str] | None = None  # the outputs that losses and metrics are for
        self.losses: list[Loss] = []
        self.loss_weights: list[float] = []
        self.metrics: list[list[Any]] = []
        self.label_shapes: list[Shape] = []
        self.steps: dict[str, Step] = {}
        self.rule: Any = None
        self.frozen: tuple[bool, ...] = ()
        self.crew: Crew | None = None  # of processes, while these train together
        # names that are not known are an error here, not in fit
        nested = isinstance(loss, (dict, list, tuple))
        self.shown_loss = loss if loss is None or nested else losses.get(loss)
        if nested:
            kind = type(loss)
            pairs = loss.items() if isinstance(loss, dict) else enumerate(loss)
            made = {key: losses.get(part) for key, part in pairs}
            self.shown_loss = made if kind is dict else list(made.values())
        for metric in flatten(given)[0]:
            if metric is not None and not isinstance(metric, metrics.Metric):
                metrics.get(metric, (), (1,))

    @property
    def loss(self) -> Loss:
        """The loss of the only output."""
        return self.losses[0] if self.losses else self.shown_loss

    def assign(self, names: list[str]) -> None:
        """Give each output its loss and metrics."""
        if self.assigned == names:
            return
        if self.shown_loss is None:
            self.losses, self.loss_weights = [], []
            if self.given_metrics:
                raise ArgumentError("compile", "metrics without a loss", fix="pass loss=")
        else:
            single = isinstance(self.shown_loss, Loss)
            self.losses = [self.shown_loss] * len(names) if single else _dealt("loss", self.shown_loss, names)
            shares = (
                [1.0] * len(names)
                if self.given_weights is None
                else _dealt("loss_weights", self.given_weights, names)
            )
            for share in shares:
                if isinstance(share, bool) or not isinstance(share, (int, float, np.number)):
                    raise ArgumentError("compile", f"loss_weights has {share!r}", fix="pass numbers")
            self.loss_weights = [float(share) for share in shares]
        given = self.given_metrics
        if given is None:
            listed: list[Any] = [None] * len(names)
        elif isinstance(given, dict):
            _known("metrics", given, names)
            listed = [given.get(name) for name in names]
        elif len(names) == 1:
            nested = (
                isinstance(given, (list, tuple)) and len(given) == 1 and isinstance(given[0], (list, tuple))
            )
            listed = [given[0] if nested else given]
        else:
            listed = _dealt("metrics", given, names)
        self.metrics = [
            [] if m is None else [x for x in m if x is not None] if isinstance(m, (list, tuple)) else [m]
            for m in listed
        ]
        self.assigned = list(names)

    def forget_programs(self) -> None:
        """Let every step be captured anew."""
        self.steps = {}


def _known(what: str, given: dict[str, Any], names: list[str]) -> None:
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ArgumentError(
            "compile",
            f"{what} has {unknown[0]!r}",
            fix=f"the model's outputs are {', '.join(map(repr, names))}",
        )


def _dealt(what: str, given: Any, names: list[str]) -> list[Any]:
    """A part for each output, from a list or a dictionary."""
    if isinstance(given, dict):
        _known(what, given, names)
        missing = [name for name in names if name not in given]
        if missing and what == "loss":
            raise ArgumentError(
                "compile", f"there is no loss for {missing[0]!r}", fix="give every output one"
            )
        return [given.get(name, 1.0) for name in names]
    if not isinstance(given, (list, tuple)) or len(given) != len(names):
        raise ArgumentError(
            "compile",
            f"{what} is {given!r} for {len(names)} outputs",
            fix=f"pass a list or a dictionary for {', '.join(map(repr, names))}",
        )
    return list(given)


class _NotFinite(ArithmeticError):
    """The loss of a batch is NaN or infinite."""

    def __init__(self, loss: float) -> None:
        super().__init__(loss)
        self.loss = loss


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


__all__ = ["Compiled", "Meter", "Model"]
