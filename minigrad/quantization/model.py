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
from functools import partial
from typing import Any, cast

import numpy as np

from .. import checkpoint
from ..autograd import no_grad
from ..compiled import compile as compile_
from ..errors import ArgumentError, notice
from ..ir import is_float
from ..mode import Switch, current
from ..nn import Module
from ..nn.module import IncompatibleKeys, StateDictError
from ..quantizing import Network, Plan, Weights, arguments, constant, demands, read, same_structure
from ..tensor import Tensor, as_array, wrap
from ..tree import flatten
from .observers import Observer, make_observer
from .report import Report, Row, interleaved
from .scheme import quantize_weights, scale_and_zero_point, sqnr
from .training import QATModel

FORMAT, VERSION = "minigrad.quantization", 1


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
        parts = []
        for x in leaves:
            if isinstance(x, Tensor):
                parts.append((x.shape, x.dtype, order.setdefault(id(x), len(order))))
            else:
                parts.append(x)
        key = (structure, tuple(parts))
        found = self._known.get(key)
        if found is None:
            args, kwargs = _stand_ins((args, dict(kwargs)))
            found = read(self.model, args, kwargs)
            if self.first is None:
                self.first = found
            same_structure(self.first, found)
            self._known[key] = found
        return found


class PreparedModel(Module):
    """A model in floats, batch norms folded, whose activations are observed; see `prepare`."""

    def __init__(self, model: Module, observer: Any, keep: Iterable[str]) -> None:
        super().__init__()
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
            _check_names(network, self._keep)
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
        scales = {g: scale_and_zero_point(*o.range()) for g, o in self._observers.items() if o.batches}
        return _pooled(self.network, scales)


def _pooled(network: Network, scales: dict[int, tuple[float, int]]) -> dict[int, tuple[float, int]]:
    """An average keeps the scale of what it is taken of, which saves converting it."""
    for layer in network.layers:
        if layer.kind == "avg_pool" and network.group[layer.inputs[0]] in scales:
            scales[network.group[layer.output]] = scales[network.group[layer.inputs[0]]]
    return scales


def _check_names(network: Network, keep: Iterable[str]) -> None:
    known = [layer.name for layer in network.weighted]
    for name in keep:
        if name not in known and not any(n.startswith(name + ".") for n in known):
            raise ArgumentError(
                "quantization",
                f"keep names {name!r}, which is no layer",
                fix=f"the layers are {', '.join(known) or 'none'}",
            )


def _kept(name: str, keep: Iterable[str]) -> bool:
    return any(name == k or name.startswith(k + ".") for k in keep)


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
        self.training = False

    # -- calling ----------------------------------------------------------------------------------

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
        trace = current().trace
        with no_grad():
            if trace is not None:
                expected = self._version_number
                trace.guard(
                    ("quantized", id(self)), lambda: self._version_number, expected, "weights were loaded"
                )
                return self._replay(*args, **kwargs)
            return self._run(*args, **kwargs)

    def _replay(self, *args: Any, **kwargs: Any) -> Any:
        network = self._networks(args, kwargs)
        return network.run(arguments((args, kwargs)), self._plan())

    def _plan(self) -> Plan:
        return Plan(self._modes, self._weights, self._scales)

    def _changed(self) -> None:
        self._version_number += 1
        self._run = compile_(self._replay)

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
            network = self._networks(args, {})
            rows = _timed(network, self._plan(), self._rows, args, {})
            return Report(rows, self._notes, _whole(network, self._plan(), args))
        network = cast(Network, self._networks.first)
        return Report(self._rows, self._notes, None)

    def extra_repr(self) -> str:
        """How many layers are in eight bits."""
        count = sum(mode != "float" for mode in self._modes.values())
        return f"{self._mode}, {count} of {len(self._weights)} layers in eight bits"


def size(model: Module) -> int:
    """Bytes of a model's state (parameters and saved buffers)."""
    return sum(t._array.dtype.itemsize * math.prod(t.shape) for t in model.state_dict().values())


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


# -- deciding ----------------------------------------------------------------------------------------


def _quantized(
    network: Network, names: Iterable[str], per_channel: bool, search: bool, trained: Mapping[str, Any]
) -> dict[str, Weights]:
    """int8 weights of layers."""
    found = {}
    chosen = set(names)
    for layer in network.weighted:
        if layer.name not in chosen:
            continue
        w, bias = network.folded(layer)
        scale = trained.get(layer.name)
        if scale is not None:
            scale = scale * np.abs(network.factor(layer))
        codes, scale = quantize_weights(w, per_channel, scale, search)
        found[layer.name] = Weights(codes=codes, scale=scale, bias=bias)
    return found


def _results(y: Any) -> Any:
    """All floating point results in one row of float64."""
    parts = [t.numpy().reshape(-1) for t in flatten(y)[0] if isinstance(t, Tensor) and is_float(t.dtype)]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def _sensitivities(
    network: Network, real: Plan, codes: Mapping[str, Weights], scales: Any, mode: str, args: tuple[Any, ...]
) -> dict[str, tuple[float, float]]:
    """For each layer, when it alone is quantized: SQNR at the results in dB, and the largest difference."""
    found = {}
    given = arguments(args)
    with no_grad():
        wanted = _results(network.run(given, real))
        for name, w in codes.items():
            plan = Plan({name: mode}, {**real.weights, name: w}, scales)
            got = _results(network.run(given, plan))
            found[name] = (sqnr(wanted, got), float(np.abs(wanted - got).max(initial=0.0)))
    return found


def _layer_inputs(network: Network, plan: Plan, args: tuple[Any, ...]) -> dict[int, Tensor]:
    """The float inputs of layers with weights."""
    wanted = {layer.inputs[0] for layer in network.weighted}
    found: dict[int, Tensor] = {}

    def watch(v: int, t: Tensor) -> None:
        if v in wanted:
            found[v] = t

    with no_grad():
        network.run(arguments(args), plan, watch)
    return found


def _alone(network: Network, name: str, plan: Plan) -> Callable[[Tensor], Tensor] | None:
    """A compiled function: one layer by a plan, codes in and out where the plan has it so."""
    layer = next(layer for layer in network.weighted if layer.name == name)
    if layer.kind == "embedding":
        return None
    step = network.alone(layer, plan)
    return cast(Callable[[Tensor], Tensor], compile_(step))


def _timed(
    network: Network, plan: Plan, rows: list[Row], args: tuple[Any, ...], modes: Mapping[str, str]
) -> list[Row]:
    """The rows with the times of this moment: each layer in floats and as `modes` or the plan has it."""
    real = Plan({}, {n: Weights(floats=w.real(), bias=w.bias) for n, w in plan.weights.items()}, {})
    inputs = _layer_inputs(network, real, args)
    wanted = {row.name: modes.get(row.name, plan.modes.get(row.name, "float")) for row in rows}
    quick = Plan(wanted, plan.weights, plan.scales)
    _, coded = demands(network, quick)
    found = []
    for row in rows:
        layer = next(layer for layer in network.weighted if layer.name == row.name)
        mode = wanted[row.name]
        x = inputs.get(layer.inputs[0])
        if x is None or mode == "float" or layer.kind == "embedding" or not x._array.size:
            found.append(row)
            continue
        with no_grad():
            f, g = _alone(network, row.name, real), _alone(network, row.name, quick)
            if f is None or g is None:
                found.append(row)
                continue
            form = network.form(layer, quick, x, layer.inputs[0] in coded)
            first, second = interleaved(partial(f, x), partial(g, form))
        found.append(row._replace(float_us=first, int8_us=second))
    return found


def _whole(network: Network, plan: Plan, args: tuple[Any, ...]) -> tuple[float, float]:
    """Microseconds of the compiled network in floats and by the plan."""
    real = Plan({}, {n: Weights(floats=w.real(), bias=w.bias) for n, w in plan.weights.items()}, {})
    f = compile_(lambda *ts: network.run(ts, real))
    g = compile_(lambda *ts: network.run(ts, plan))
    given = arguments(args)
    with no_grad():
        return interleaved(lambda: f(*given), lambda: g(*given))


def _decide(
    made: QuantizedModel,
    network: Network,
    args: tuple[Any, ...],
    scales: dict[int, tuple[float, int]],
    *,
    keep: tuple[str, ...],
    measure: bool,
    min_sqnr: float,
    per_channel: bool,
    search: bool,
    trained: Mapping[str, Any] | None = None,
    evaluate: Callable[[Module], float] | None = None,
    budget: float = 0.0,
) -> None:
    """Fill a quantized model: which layers run how, with their weights, and the report."""
    mode = made._mode
    _check_names(network, keep)
    real = network.in_float()
    able: dict[str, str] = {}  # layer -> why it cannot
    for layer in network.weighted:
        if _kept(layer.name, keep):
            able[layer.name] = "kept by the user"
        elif mode == "dynamic" and layer.kind == "conv":
            able[layer.name] = "dynamic quantization is for linear layers"
        elif mode == "static" and layer.kind != "embedding":
            group = network.group[layer.inputs[0]]
            if group not in scales:
                able[layer.name] = "the range of its input was not observed"
    names = [layer.name for layer in network.weighted if layer.name not in able]
    codes = _quantized(network, names, per_channel, search, trained or {})
    kinds = {layer.name: layer.kind for layer in network.weighted}
    modes = {n: ("weights" if kinds[n] == "embedding" else mode) for n in names}
    errors = {}
    for name in names:
        errors.update(_sensitivities(network, real, {name: codes[name]}, scales, modes[name], args))
    rows = []
    layers = {layer.name: layer for layer in network.weighted}
    for name, layer in layers.items():
        shape = real.weights[name].floats.shape
        row = Row(
            name,
            layer.kind,
            tuple(shape),
            None,
            None,
            *errors.get(name, (math.nan, math.nan)),
            "float",
            able.get(name, ""),
        )
        if name in modes:
            row = row._replace(decision=modes[name], reason="in eight bits")
            if row.sqnr < min_sqnr:
                row = row._replace(
                    decision="float", reason=f"its error is too large: {row.sqnr:.1f} dB < {min_sqnr:g} dB"
                )
        rows.append(row)
    plan = Plan({r.name: r.decision for r in rows}, {**real.weights, **codes}, scales)
    if measure:
        rows = _timed(network, plan, rows, args, {})
        judged = []
        for row in rows:
            judged.append(_judged(row))
        rows = judged
    made._modes = {r.name: r.decision for r in rows}
    made._scales = dict(scales)
    made._weights = {r.name: (real.weights if r.decision == "float" else codes)[r.name] for r in rows}
    if evaluate is not None:
        rows = _within(made, rows, real, evaluate, budget)
    for layer in network.layers:
        if layer.kind == "float":
            made._notes.append(f"{layer.name or 'the model'}: {layer.node.op.name} stays in floats")
    made._notes = list(dict.fromkeys(made._notes))
    if measure and any(r.decision in ("static", "dynamic") for r in rows):
        before, after = _whole(network, made._plan(), args)
        if after > before:
            text = f"the whole model takes {after:.0f} us in eight bits and {before:.0f} us in floats"
            notice("quantization", f"{text}, so it stays in floats", "measure=False quantizes all the same")
            made._notes.append(f"{text}: it stays in floats")
            rows = [
                r
                if r.decision in ("float", "weights")
                else r._replace(decision="float", reason="the whole model would be slower")
                for r in rows
            ]
    made._modes = {r.name: r.decision for r in rows}
    made._weights = {r.name: (real.weights if r.decision == "float" else codes)[r.name] for r in rows}
    used = {network.group[x] for x in demands(network, made._plan())[0]}
    made._scales = {g: s for g, s in scales.items() if g in used}
    values = _values(network)
    made._signature, made._places = _signature(network), [values.index(g) for g in made._scales]
    made._rows = rows
    made._take(network, made._weights)
    made._changed()


def _judged(row: Row) -> Row:
    """The row with what its times say."""
    before, after = row.float_us, row.int8_us
    if row.decision in ("float", "weights") or before is None or after is None:
        return row
    if after > before:
        return row._replace(decision="float", reason="slower in eight bits")
    return row._replace(reason=f"{before / after:.1f} times as fast")


def _within(
    made: QuantizedModel,
    rows: list[Row],
    real: Plan,
    evaluate: Callable[[Module], float],
    budget: float,
) -> list[Row]:
    """Give layers back to floats, the most sensitive first, until the loss of accuracy fits the budget."""
    codes = dict(made._weights)
    modes = dict(made._modes)
    made._modes = {}
    made._weights = dict(real.weights)
    made._changed()
    wanted = float(evaluate(made))
    order = sorted((r for r in rows if r.decision != "float"), key=lambda r: r.sqnr)
    rows = list(rows)
    while True:
        made._modes = {r.name: r.decision for r in rows}
        made._weights = {n: (real.weights[n] if made._modes[n] == "float" else codes[n]) for n in modes}
        made._changed()
        lost = wanted - float(evaluate(made))
        if lost <= budget or not order:
            made._notes.append(
                f"accuracy {wanted:.4f} in floats, {wanted - lost:.4f} now (budget {budget:g})"
            )
            return rows
        worst = order.pop(0)
        at = next(i for i, r in enumerate(rows) if r.name == worst.name)
        rows[at] = rows[at]._replace(
            decision="float", reason=f"over the budget: {lost:.4f} of accuracy were lost"
        )


# -- the public functions ------------------------------------------------------------------------------


def prepare(model: Module, *, observer: Any = "minmax", keep: Iterable[str] = ()) -> PreparedModel:
    """A copy of the model, in evaluation mode, that observes its activations when it is called.

    observer: "minmax", "moving_average", "percentile", "entropy", "mse", or a function that makes an
    `Observer`.  keep: layers that stay in floats.  Batch norms are folded already.
    """
    return PreparedModel(model, observer, keep)


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
        for batch in batches:
            prepared(*_batch(batch, inputs))
        if prepared.example is None:
            raise ArgumentError(
                "convert",
                "a model of prepare_qat needs batches, for the shapes and for what training did not observe",
                fix="convert(model, batches)",
            )
        del qat
    else:
        for batch in batches:
            prepared(*_batch(batch, inputs))
    network = prepared.network
    scales = prepared.scales()
    for layer in network.weighted:
        if layer.name in ranges:
            scales[network.group[layer.inputs[0]]] = ranges[layer.name]
    made = QuantizedModel(copy.deepcopy(prepared._model[0]), "static")
    args = cast(tuple[Any, ...], prepared.example)
    network = made._networks(args, {})
    _decide(
        made,
        network,
        args,
        scales,
        keep=prepared._keep,
        measure=measure,
        min_sqnr=min_sqnr,
        per_channel=per_channel,
        search=search,
        trained=trained,
        evaluate=evaluate,
        budget=budget,
    )
    return made


def quantize_static(
    model: Module,
    batches: Iterable[Any],
    *,
    observer: Any = "minmax",
    keep: Iterable[str] = (),
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
    prepared = prepare(model, observer=observer, keep=keep)
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


def _without_data(
    model: Module, mode: str, keep: Iterable[str], example: Any, settings: dict[str, Any]
) -> QuantizedModel:
    made = QuantizedModel(copy.deepcopy(model), mode)
    names = tuple(keep)

    def settle(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if kwargs:
            raise ArgumentError(
                "quantization", "the first call has keyword arguments", fix="pass them in order"
            )
        with Switch(trace=None, grad=False):
            concrete = tuple(a for a in args)
            network = made._networks(concrete, {})
            _decide(made, network, concrete, {}, keep=names, **settings)

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
    settings = {"measure": measure, "min_sqnr": min_sqnr, "per_channel": per_channel, "search": search}
    return _without_data(model, "dynamic", keep, example, settings)


def quantize_weights_only(
    model: Module,
    *,
    keep: Iterable[str] = (),
    example: Any = None,
    min_sqnr: float = 10.0,
    per_channel: bool = True,
    search: bool = False,
) -> QuantizedModel:
    """The model with int8 weights and arithmetic in floats: a quarter of the memory, hardly any error.

    The weights of convolutions are turned into floats once, when the model is compiled.
    """
    settings = {"measure": False, "min_sqnr": min_sqnr, "per_channel": per_channel, "search": search}
    return _without_data(model, "weights", keep, example, settings)


def sensitivity(
    model: Module, batch: Any, *, observer: Any = "minmax", inputs: int = 1
) -> list[tuple[str, float, float]]:
    """What each layer does to the results when it alone is in eight bits, the most harmful first.

    Returns (layer, SQNR of the results in decibels, largest difference) for one batch, which also calibrates.
    """
    prepared = prepare(model, observer=observer)
    args = _batch(batch, inputs)
    prepared(*args)
    network = prepared.network
    codes = _quantized(network, [layer.name for layer in network.weighted], True, False, {})
    found = []
    for layer in network.weighted:
        mode = "weights" if layer.kind == "embedding" else "static"
        one = {layer.name: codes[layer.name]}
        found.append(
            (
                layer.name,
                *_sensitivities(network, network.in_float(), one, prepared.scales(), mode, args)[layer.name],
            )
        )
    return sorted(found, key=lambda row: row[1])


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
    words = {"f": "float", "s": "static", "d": "dynamic", "w": "weights"}
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
    "constant",
    "convert",
    "load",
    "prepare",
    "quantize_dynamic",
    "quantize_static",
    "quantize_weights_only",
    "sensitivity",
    "size",
]
