"""Quantized models: from a model in floats to one with the same interface that computes in eight bits.

Three ways lead here.  *Dynamic*: weights are int8, the range of an activation is found when it is there; no
data is needed, and linear layers gain.  *Static*: ranges are found once, on calibration data, so that codes
flow from layer to layer.  *Weight-only*: weights are int8 and the arithmetic stays in floats.

    prepare(model)      runs as before, while observers watch
    convert(prepared)   the integer model
    quantize_static     both in one call

**It must earn its place.**  Every layer is measured in floats and in integers, on this machine with this
backend, and goes on in floats if that is faster (`measure=False` takes that on trust), if its output would
have an SQNR below `min_sqnr` decibels, if a budget of accuracy is overdrawn, or if `keep` names it.  If all
of it together is slower than the compiled float model, the whole model stays in floats, with a warning.
`report()` has the figures and the reasons.
"""

from __future__ import annotations

import copy
import math
import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np

from .. import checkpoint
from ..autograd import no_grad
from ..compiled import compile as compile_
from ..errors import ArgumentError
from ..mode import current
from ..nn import Module
from ..nn.module import IncompatibleKeys, StateDictError
from ..quantizing import Network, Plan, Weights, arguments, demands, read, same_structure
from ..tensor import Tensor, as_array, wrap
from ..tree import flatten
from .deciding import Settings, check_names, decide, quantized, sensitivities, timed, whole
from .observers import Observer, make_observer
from .report import Report, Row
from .scheme import scale_and_zero_point
from .training import QATModel

FORMAT, VERSION = "minigrad.quantization", 1
#: Arguments that are no tensors.
PLAIN = (bool, int, float, complex, str, bytes, np.generic, np.dtype)
#: For how many kinds of arguments a model remembers its layers.
KINDS = 16


def _batches(batches: Any) -> Iterable[Any]:
    """Batches; a single tensor or array is one batch."""
    return [batches] if isinstance(batches, (Tensor, np.ndarray)) else batches


def _batch(batch: Any, count: int) -> tuple[Any, ...]:
    """The arguments that a batch stands for."""
    given = tuple(batch)[:count] if isinstance(batch, (tuple, list)) else (batch,)
    return tuple(wrap(as_array(x)) if isinstance(x, np.ndarray) else x for x in given)


def _stand_ins(args: Any) -> Any:
    """The same nest, with tensors of the same shapes that have no memory and no history."""
    leaves, structure = flatten(args)
    known: dict[int, Tensor] = {}
    for t in leaves:
        if isinstance(t, Tensor) and id(t) not in known:
            known[id(t)] = wrap(np.broadcast_to(np.zeros((), t.dtype), t.shape))
    return structure.build([known[id(t)] if isinstance(t, Tensor) else t for t in leaves])


def _values(network: Network) -> list[int]:
    """The values that codes can stand for, in an order that does not depend on how they were traced."""
    return [*range(network.arguments), *(layer.output for layer in network.layers)]


def _signature(network: Network) -> int:
    """A number that networks of the same layers and connections share."""
    values = _values(network)
    parts = [
        (layer.kind, layer.name, [values.index(x) if x in values else -1 for x in layer.inputs])
        for layer in network.layers
    ]
    return zlib.crc32(repr(parts).encode())


class _Networks:
    """A model's networks, one for each kind of arguments."""

    def __init__(self, model: Module) -> None:
        self.model = model
        self.first: Network | None = None
        self._known: dict[Any, Network] = {}

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Network:
        """The network for these arguments."""
        leaves, structure = flatten((args, dict(kwargs)))
        order: dict[int, int] = {}
        parts: list[Any] = []
        for x in leaves:
            if isinstance(x, Tensor):
                parts.append((x.shape, x.dtype, order.setdefault(id(x), len(order))))
            elif x is None or isinstance(x, PLAIN):
                parts.append((type(x), x))
            else:
                raise ArgumentError(
                    "quantization",
                    f"an argument holds a {type(x).__name__}, whose contents would be taken for constants",
                    fix="pass dense tensors, numbers and strings; the model may hold the rest",
                )
        key = (structure, tuple(parts))
        found = self._known.get(key)
        if found is None:
            args, kwargs = _stand_ins((args, dict(kwargs)))
            found = read(self.model, args, kwargs)
            if self.first is None:
                self.first = found
            same_structure(self.first, found)
            if len(self._known) == KINDS:
                del self._known[next(iter(self._known))]
            self._known[key] = found
        return found


class PreparedModel(Module):
    """A model in floats, batch norms folded, whose activations are observed; see `prepare`."""

    def __init__(self, model: Module, observer: Any, keep: Iterable[str], symmetric: bool = False) -> None:
        super().__init__()
        self._symmetric = symmetric
        make_observer(observer)
        self._model = [copy.deepcopy(model).eval()]  # in a list: it is no part of this one
        self._networks = _Networks(self._model[0])
        self._kind, self._keep = observer, tuple(keep)
        self._observers: dict[int, Observer] = {}
        self._plan: Plan | None = None
        self.example: tuple[Any, ...] | None = None
        self.training = False

    def forward(self, *args: Any) -> Any:
        """What the model returns, in evaluation mode; the activations are observed."""
        network = self._networks(args, {})
        if self._plan is None:
            check_names(network, self._keep)
            self._plan = network.in_float()
        names = {layer.output: layer.name or layer.kind for layer in network.layers}

        def watch(v: int, t: Tensor) -> None:
            group = network.group.get(v)
            if group is not None:
                if group not in self._observers:
                    self._observers[group] = make_observer(self._kind)
                what = f"the output of {names[v]!r}" if v in names else f"argument {v}"
                self._observers[group].observe(t._concrete("quantization"), what)

        with no_grad():
            y = network.run(arguments(args), self._plan, watch)
        if self.example is None:
            self.example = args
        return y

    @property
    def network(self) -> Network:
        """The layers.  Raises ArgumentError if no batch was seen."""
        if self._networks.first is None:
            raise ArgumentError(
                "convert",
                "no batch was seen, so the ranges of activations are not known",
                fix="call the prepared model on some batches, or use quantize_static(model, batches)",
            )
        return self._networks.first

    def scales(self) -> dict[int, tuple[float, int]]:
        """Group -> scale and zero point, as observed."""
        scales = {
            g: scale_and_zero_point(*o.range(), self._symmetric)
            for g, o in self._observers.items()
            if o.batches
        }
        return _pooled(self.network, scales)


def _pooled(network: Network, scales: dict[int, tuple[float, int]]) -> dict[int, tuple[float, int]]:
    """An average keeps the scale of what it is taken of, which saves converting it."""
    for layer in network.layers:
        if layer.kind == "avg_pool" and network.group[layer.inputs[0]] in scales:
            scales[network.group[layer.output]] = scales[network.group[layer.inputs[0]]]
    return scales


class QuantizedModel(Module):
    """A model that computes in eight bits where that pays; called like the model it was made of.

    It has no parameters and no gradients.  `state_dict` has int8 weights ("conv.weight"), their scales
    ("conv.weight_scale"), biases, scales and zero points of activations, and what stayed in floats.
    """

    def __init__(self, model: Module, mode: str) -> None:
        super().__init__()
        self._mode = mode
        self._model = [model.eval()]
        self._networks = _Networks(model)
        self._modes: dict[str, str] = {}
        self._weights: dict[str, Weights] = {}
        self._scales: dict[int, tuple[float, int]] = {}
        self._float: tuple[str, ...] = ()  # names of state that float operations use
        self._signature = 0
        self._places: list[int] = []  # of the values that have a scale, see `_values`
        self._rows: list[Row] = []
        self._notes: list[str] = []
        self._pending: Callable[[tuple[Any, ...], Mapping[str, Any]], None] | None = None
        self._version_number = 0
        self._run = compile_(self._replay)
        self._quick: Any = None  # what a call is when there is nothing to decide and nobody to tell
        self.training = False

    # -- calling ----------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._quick is not None and self._hooks is None:
            return self._quick(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns.  Results have no history."""
        if self._pending is not None:
            if current().trace is not None:
                raise ArgumentError(
                    "quantization",
                    "the first call of a model, which decides about its layers, is inside of a trace",
                    fix="call it once before, or pass example= to quantize_dynamic",
                )
            pending, self._pending = self._pending, None
            try:
                pending(args, kwargs)
            except BaseException:
                self._pending = pending
                raise
        self._quick = self._run
        return self._run(*args, **kwargs)

    def _replay(self, *args: Any, **kwargs: Any) -> Any:
        network = self._networks(args, kwargs)
        trace, expected = current().trace, self._version_number
        if trace is not None:
            trace.guard(
                ("quantized", id(self)), lambda: self._version_number, expected, "weights were loaded"
            )
        with no_grad():
            return network.run(arguments((args, kwargs)), self._plan())

    def _plan(self) -> Plan:
        return Plan(self._modes, self._weights, self._scales)

    def __deepcopy__(self, memo: dict[int, Any]) -> QuantizedModel:
        if self._pending is not None:
            raise ArgumentError(
                "copy.deepcopy", "a quantized model that was not called yet", fix="call it once before"
            )
        twin = QuantizedModel(copy.deepcopy(self._model[0], memo), self._mode)
        twin._modes, twin._scales = dict(self._modes), dict(self._scales)
        twin._weights = {
            n: Weights(codes=w.codes, scale=w.scale, bias=w.bias, floats=w.floats)
            for n, w in self._weights.items()
        }
        twin._float, twin._signature, twin._places = self._float, self._signature, list(self._places)
        twin._rows, twin._notes = list(self._rows), list(self._notes)
        return twin

    def _changed(self) -> None:
        self._version_number += 1
        self._run, self._quick = compile_(self._replay), None

    def train(self, mode: bool = True) -> QuantizedModel:
        """Evaluation mode is the only one."""
        if mode:
            raise ArgumentError(
                "QuantizedModel.train",
                "integer weights cannot be trained",
                fix="train the float model, or use prepare_qat and convert",
            )
        return self

    # -- making -----------------------------------------------------------------------------------

    def _take(self, network: Network, weights: Mapping[str, Weights]) -> None:
        """Keep these weights, and drop those of the model that nothing needs any more."""
        self._weights = dict(weights)
        kept = network.kept_state()
        names = {}
        for name, held in (*self._model[0].named_parameters(), *self._model[0].named_buffers()):
            names[id(held._array)] = name
        used = []
        for k, state in enumerate(network.captured.state):
            t = None if state.tensor is None else state.tensor()
            array = state.array if t is None else t._array
            if network.arguments + k in kept:
                if id(array) in names:
                    used.append(names[id(array)])
            elif t is not None and id(array) in names:
                t._array = np.broadcast_to(np.zeros((), array.dtype), array.shape)
        self._float = tuple(used)

    def _named_state(self) -> dict[str, Tensor]:
        model = self._model[0]
        return {**dict(model.named_parameters()), **dict(model.named_buffers())}

    def _settle(
        self,
        network: Network,
        args: tuple[Any, ...],
        scales: dict[int, tuple[float, int]],
        settings: Settings,
    ) -> None:
        """Decide about all layers, and become the result."""

        def trial(plan: Plan) -> QuantizedModel:
            self._modes, self._weights = dict(plan.modes), dict(plan.weights)
            self._scales = dict(plan.scales)
            self._changed()
            return self

        decision = decide(network, self._model[0], self._mode, args, scales, settings, trial)
        self._rows, self._notes = list(decision.rows), list(decision.notes)
        self._modes = dict(decision.plan.modes)
        used = {network.group[x] for x in demands(network, decision.plan)[0]}
        self._scales = {g: s for g, s in scales.items() if g in used}
        values = _values(network)
        self._signature, self._places = _signature(network), [values.index(g) for g in self._scales]
        self._take(network, decision.plan.weights)
        self._changed()

    # -- state ------------------------------------------------------------------------------------

    def _settled(self, what: str) -> None:
        if self._pending is not None and not self._weights:
            raise ArgumentError(
                f"QuantizedModel.{what}",
                "the layers are not known before the first call",
                fix="call the model once, or pass example= to quantize_dynamic",
            )

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> OrderedDict[str, Tensor]:
        """Everything that is needed to run, by name."""
        self._settled("state_dict")
        state: OrderedDict[str, Tensor] = OrderedDict()
        for name, w in self._weights.items():
            if w.codes is not None:
                state[f"{prefix}{name}.weight"] = wrap(w.codes)
                state[f"{prefix}{name}.weight_scale"] = wrap(w.scale)
            else:
                state[f"{prefix}{name}.weight"] = wrap(w.floats)
            if w.bias is not None:
                state[f"{prefix}{name}.bias"] = wrap(w.bias)
        named = self._named_state()
        for name in self._float:
            state[f"{prefix}{name}"] = named[name].detach()
        if self._scales:
            state[f"{prefix}activation.scale"] = wrap(
                np.array([s for s, _ in self._scales.values()], np.float32)
            )
            state[f"{prefix}activation.zero_point"] = wrap(
                np.array([z for _, z in self._scales.values()], np.uint8)
            )
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Take the state of a model that was quantized in the same way.

        Raises StateDictError, naming every key at fault, if shapes or dtypes differ or keys are missing.
        """
        own = self.state_dict()
        missing = [k for k in own if k not in state_dict]
        unexpected = [k for k in state_dict if k not in own]
        arrays = {
            k: np.asarray(v.detach().numpy() if isinstance(v, Tensor) else v) for k, v in state_dict.items()
        }
        wrong = [
            f"{k} is {arrays[k].dtype}{arrays[k].shape}, not {t.dtype}{t.shape}"
            for k, t in own.items()
            if k in arrays and (arrays[k].shape, arrays[k].dtype) != (t.shape, t.dtype)
        ]
        if strict:
            wrong += [f"{k} is missing" for k in missing] + [f"{k} is unknown" for k in unexpected]
        if wrong:
            raise StateDictError(
                "QuantizedModel.load_state_dict",
                "; ".join(wrong),
                fix="load it into a model quantized with the same settings, or use quantization.load",
            )
        for name, w in self._weights.items():
            for part, key in (
                ("codes" if w.codes is not None else "floats", "weight"),
                ("scale", "weight_scale"),
                ("bias", "bias"),
            ):
                if f"{name}.{key}" in arrays:
                    setattr(w, part, arrays[f"{name}.{key}"].copy())
        named = self._named_state()
        for name in self._float:
            if name in arrays:
                named[name]._array[...] = arrays[name]
        if "activation.scale" in arrays and "activation.zero_point" in arrays:
            pairs = zip(arrays["activation.scale"], arrays["activation.zero_point"], strict=True)
            self._scales = {g: (float(s), int(z)) for g, (s, z) in zip(self._scales, pairs, strict=True)}
        self._changed()
        return IncompatibleKeys(missing, unexpected)

    @property
    def size(self) -> int:
        """Bytes of the state."""
        return size(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file for `load`: safetensors (or .npz), no pickle.

        Scales and bias of a layer are one array, as every name costs some hundred bytes.
        """
        self._settled("save")
        layers = list(self._weights)
        named = self._named_state()
        arrays: dict[str, Any] = {name: named[name] for name in self._float}
        for name, w in self._weights.items():
            arrays[f"{name}.weight"] = w.real() if w.codes is None else w.codes
            beside = [a for a in (w.scale, w.bias) if a is not None]
            if beside:
                arrays[f"{name}.beside"] = np.stack(beside)
        if self._scales:
            arrays["activation"] = np.array(list(self._scales.values()), np.float32).T
        checkpoint.save(
            path,
            {
                "format": FORMAT,
                "version": VERSION,
                "mode": self._mode,
                "layers": " ".join(layers),
                "modes": " ".join(self._modes.get(name, "float")[0] for name in layers),
                "signature": self._signature,
                "groups": self._places,
                "float": list(self._float),
                "state": arrays,
            },
        )

    # -- what it earned ---------------------------------------------------------------------------

    def report(self, *args: Any) -> Report:
        """The decision for each layer, its reason, times and errors; with arguments: times are measured
        for these (otherwise those of the conversion)."""
        self._settled("report")
        if args:
            self(*args)  # a model that was loaded does not know its layers before
            network = self._networks(args, {})
            rows = timed(network, self._plan(), self._rows, args)
            return Report(rows, self._notes, whole(network, self._plan(), args))
        return Report(self._rows, self._notes, None)

    def extra_repr(self) -> str:
        """How many layers are in eight bits."""
        count = sum(mode != "float" for mode in self._modes.values())
        return f"{self._mode}, {count} of {len(self._weights)} layers in eight bits"


def size(model: Module) -> int:
    """Bytes of a model's state (parameters and saved buffers)."""
    return sum(t._array.dtype.itemsize * math.prod(t.shape) for t in model.state_dict().values())


# -- the public functions ------------------------------------------------------------------------------


def prepare(
    model: Module, *, observer: Any = "minmax", keep: Iterable[str] = (), symmetric: bool = False
) -> PreparedModel:
    """A copy of the model, in evaluation mode, that observes its activations when it is called.

    observer: "minmax", "moving_average", "percentile", "entropy", "mse", or a function that makes an
    `Observer`.  keep: layers that stay in floats.  symmetric: the code of 0 is 128 for every activation,
    which wastes half of the codes after a relu.  Batch norms are folded already.
    """
    return PreparedModel(model, observer, keep, symmetric)


def convert(
    prepared: PreparedModel | QATModel,
    batches: Iterable[Any] = (),
    *,
    measure: bool = True,
    min_sqnr: float = 10.0,
    per_channel: bool = True,
    search: bool = False,
    evaluate: Callable[[Module], float] | None = None,
    budget: float = 0.0,
    inputs: int = 1,
) -> QuantizedModel:
    """The integer model of a prepared model that has seen batches, or of one trained by `prepare_qat`.

    batches: for a model of `prepare_qat`, at least one, to learn the shapes and what training did not
    observe.  measure: leave layers in floats that are slower in eight bits.  min_sqnr: and those whose
    output would be further off, in decibels.  per_channel: weights have a scale for each output.  search:
    weight scales with the least squared error.  evaluate, budget: a function of a model that gives its
    accuracy, and how much of it may be lost; sensitive layers go back to floats until that holds.
    inputs: how many elements of a batch that is a tuple are arguments of the model.
    Raises ArgumentError if no batch was seen.
    """
    trained: dict[str, Any] = {}
    ranges: dict[str, tuple[float, int]] = {}
    if isinstance(prepared, QATModel):
        trained, ranges = prepared.weight_scales(), prepared.ranges()
        qat, prepared = prepared, PreparedModel(prepared.model, "minmax", prepared.keep)
        for batch in _batches(batches):
            prepared(*_batch(batch, inputs))
        if prepared.example is None:
            raise ArgumentError(
                "convert",
                "a model of prepare_qat needs batches, for the shapes and for what training did not observe",
                fix="convert(model, batches)",
            )
        del qat
    else:
        for batch in _batches(batches):
            prepared(*_batch(batch, inputs))
    network = prepared.network
    scales = prepared.scales()
    for layer in network.weighted:
        if layer.name in ranges:
            scales[network.group[layer.inputs[0]]] = ranges[layer.name]
    made = QuantizedModel(copy.deepcopy(prepared._model[0]), "static")
    args = cast(tuple[Any, ...], prepared.example)
    network = made._networks(args, {})
    settings = Settings(prepared._keep, measure, min_sqnr, per_channel, search, trained, evaluate, budget)
    made._settle(network, args, scales, settings)
    return made


def quantize_static(
    model: Module,
    batches: Iterable[Any],
    *,
    observer: Any = "minmax",
    keep: Iterable[str] = (),
    symmetric: bool = False,
    measure: bool = True,
    min_sqnr: float = 10.0,
    per_channel: bool = True,
    search: bool = False,
    evaluate: Callable[[Module], float] | None = None,
    budget: float = 0.0,
    inputs: int = 1,
) -> QuantizedModel:
    """The model in eight bits: weights and activations, ranges from calibration batches.

    batches: tensors, arrays, or tuples such as a DataLoader gives, of which the first `inputs` elements are
    the model's arguments.  The other arguments are those of `prepare` and `convert`.
    Raises ArgumentError if there are no batches, or NaN or Inf in them or in what the model makes of them.
    """
    prepared = prepare(model, observer=observer, keep=keep, symmetric=symmetric)
    return convert(
        prepared,
        batches,
        measure=measure,
        min_sqnr=min_sqnr,
        per_channel=per_channel,
        search=search,
        evaluate=evaluate,
        budget=budget,
        inputs=inputs,
    )


def _without_data(model: Module, mode: str, example: Any, settings: Settings) -> QuantizedModel:
    made = QuantizedModel(copy.deepcopy(model), mode)

    def settle(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if kwargs:
            raise ArgumentError(
                "quantization", "the first call has keyword arguments", fix="pass them in order"
            )
        made._settle(made._networks(args, {}), args, {}, settings)

    if example is None:
        made._pending = settle
    else:
        settle(_batch(example, 1 if not isinstance(example, tuple) else len(example)), {})
    return made


def quantize_dynamic(
    model: Module,
    *,
    keep: Iterable[str] = (),
    example: Any = None,
    measure: bool = True,
    min_sqnr: float = 10.0,
    per_channel: bool = True,
    search: bool = False,
) -> QuantizedModel:
    """The model with int8 linear layers and embeddings; ranges of activations are found when they are there.

    No calibration: each row of an activation has a scale of its own, so the result for an example does not
    depend on its batch.  example: arguments to decide on; without, the first call decides.
    """
    settings = Settings(tuple(keep), measure, min_sqnr, per_channel, search)
    return _without_data(model, "dynamic", example, settings)


def quantize_weights_only(
    model: Module,
    *,
    keep: Iterable[str] = (),
    example: Any = None,
    measure: bool = True,
    min_sqnr: float = 10.0,
    per_channel: bool = True,
    search: bool = False,
) -> QuantizedModel:
    """The model with int8 weights and arithmetic in floats: a quarter of the size, hardly any error.

    Where that is slower than floats (measure=False: nowhere), and for convolutions, the weights become floats
    when the model is compiled; what is stored stays int8.
    """
    settings = Settings(tuple(keep), measure, min_sqnr, per_channel, search)
    return _without_data(model, "weights", example, settings)


def sensitivity(
    model: Module, batch: Any, *, observer: Any = "minmax", inputs: int = 1
) -> list[tuple[str, float, float]]:
    """What each layer does to the results when it alone is in eight bits, the most harmful first.

    Returns (layer, SQNR of the results in decibels, largest difference) for one batch, which also calibrates.
    """
    prepared = prepare(model, observer=observer)
    args = _batch(batch, inputs)
    prepared(*args)
    network, scales = prepared.network, prepared.scales()
    codes = quantized(network, [layer.name for layer in network.weighted], Settings())
    modes = {layer.name: "weights" if layer.kind == "embedding" else "static" for layer in network.weighted}
    found = sensitivities(network, network.in_float(), codes, scales, modes, args)
    return sorted(((name, *errors) for name, errors in found.items()), key=lambda row: row[1])


def load(path: str | os.PathLike[str], model: Module) -> QuantizedModel:
    """The quantized model of a file that `save` wrote; `model` is of the same architecture, with any weights.

    Raises ArgumentError for a file of another kind or version, CheckpointError for a damaged one.
    """
    held = checkpoint.load(path)
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise ArgumentError(
            "quantization.load",
            f"{os.fspath(path)} holds no quantized model",
            fix="write it with model.save(path)",
        )
    if held.get("version") != VERSION:
        raise ArgumentError(
            "quantization.load",
            f"{os.fspath(path)} has version {held.get('version')}, and this reads {VERSION}",
            fix="quantize the float model again, or use the release that wrote the file",
        )
    made = QuantizedModel(copy.deepcopy(model), held["mode"])
    arrays = {k: np.asarray(v) for k, v in held["state"].items()}
    names = held["layers"].split()
    words = {"f": "float", "s": "static", "d": "dynamic", "w": "weights", "e": "expanded"}
    made._modes = {n: words[m] for n, m in zip(names, held["modes"].split(), strict=True)}
    weights = {}
    for name in names:
        w, beside = arrays[f"{name}.weight"], list(arrays.get(f"{name}.beside", ()))
        if w.dtype == np.int8:
            weights[name] = Weights(codes=w, scale=beside[0], bias=beside[1] if len(beside) > 1 else None)
        else:
            weights[name] = Weights(floats=w, bias=beside[0] if beside else None)
    made._float = tuple(held["float"])
    made._signature, made._places = held["signature"], list(held["groups"])
    if made._places:
        pairs = zip(*arrays["activation"], strict=True)
        made._scales = {g: (float(s), int(z)) for g, (s, z) in zip(made._places, pairs, strict=True)}
    named = made._named_state()
    for name in made._float:
        if name not in named or named[name].shape != arrays[name].shape:
            raise ArgumentError(
                "quantization.load",
                f"the model has no {name!r} of that shape",
                fix="pass a model of the same architecture",
            )
        named[name]._array[...] = arrays[name]
    made._weights = weights
    made._rows = [
        Row(n, "", tuple(w.real().shape), None, None, math.nan, math.nan, made._modes[n], "loaded")
        for n, w in weights.items()
    ]

    def settle(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        network = made._networks(args, kwargs)
        shapes = {layer.name: network.graph.spec(layer.weight).shape for layer in network.weighted}
        if set(shapes) != set(weights):
            different = sorted(set(shapes) ^ set(weights))[0]
            raise ArgumentError(
                "quantization.load",
                f"the file and the model differ in layer {different!r}",
                fix="pass a model of the same architecture",
            )
        for layer in network.weighted:
            shape = shapes[layer.name]
            if tuple(weights[layer.name].real().shape) != (
                tuple(shape[::-1]) if layer.turned else tuple(shape)
            ):
                raise ArgumentError(
                    "quantization.load",
                    f"layer {layer.name!r} has weights of another shape in the file",
                    fix="pass a model of the same architecture",
                )
        if _signature(network) != made._signature:
            raise ArgumentError(
                "quantization.load",
                "the model has the same layers as that of the file, but not in the same order or connection",
                fix="pass a model of the same architecture",
            )
        values = _values(network)
        made._scales = {values[p]: s for p, s in zip(made._places, made._scales.values(), strict=True)}
        made._take(network, weights)

    made._pending = settle
    return made


__all__ = [
    "PreparedModel",
    "QuantizedModel",
    "convert",
    "load",
    "prepare",
    "quantize_dynamic",
    "quantize_static",
    "quantize_weights_only",
    "sensitivity",
    "size",
]
