"""A model's graph, read as layers that can run in eight bits.

`read(model, args)` traces a model in evaluation mode and rewrites its graph (some fifty primitive
operations) as a `Network`: a list of layers in the sense of a quantized program, each the largest piece
that one integer kernel computes.

    linear, conv     the product, and in the same layer all that follows it channel by channel: the bias, a
                     batch norm (in evaluation an affine map), more such maps, then relu, relu6 or any clamp
    add, cat, max_pool, avg_pool
                     the same, when their inputs are activations
    table            an elementwise function of one activation, with the numbers in it: 256 values
    move             reshape, permute, flip, slice: codes go where numbers went
    embedding        rows of a table
    float            everything else, as it was traced

**Folding.**  With y_j = sum_k W_jk x_k and an affine map a_j y_j + c_j after it, W'_jk = a_j W_jk and
b'_j = c_j is the same function.  Batch norm in evaluation mode is such a map with a = gamma / sqrt(var +
eps), c = beta - mean a (Jacob et al. 2018, section 3.2), but nothing here knows batch norm: whatever is
computed from constants and varies with the channel alone is taken in.  The interpreter of layers, `run`,
then has fewer operations for float models, too.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    >>> network = read(model.eval(), (mg.zeros(1, 1, 4, 4),))
    >>> [(layer.kind, layer.name) for layer in network.layers]
    [('conv', '0'), ('move', '3'), ('linear', '4')]

**Running.**  `Network.run` interprets the layers on tensors, so it can be called eagerly, observed, traced
and compiled.  Every value has up to three forms, made when somebody asks: floats, codes, and codes with
channels last, in which images stay from the first convolution to the last.  A `Plan` says which layers run
on codes and what the scale and zero point of each value are; values whose codes must mean the same (both
ends of a max pooling, all inputs of a concatenation) are one *group*.

Left out: products of two activations (attention's scores stay in floats), transposed convolutions, and
recurrent layers, whose gates are one operation of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from .bind import apply
from .errors import ArgumentError, TraceError
from .ir import Graph, Node, Shape, Spec, float32, is_float
from .mode import Switch, current
from .ops import quantized as q8
from .ops.contraction import matmul
from .ops.convolution import _conv2d
from .ops.elementwise import _contiguous, add, clamp
from .ops.movement import _reshape, permute
from .ops.nn import relu
from .tensor import Tensor, wrap
from .trace import Captured, capture
from .tree import flatten

INF = math.inf
#: Kinds whose inputs and output have codes of one meaning.
SAME = ("move", "max_pool", "cat")
#: Kinds with weights.
WEIGHTED = ("linear", "conv", "embedding")
_MOVES = ("reshape", "permute", "flip", "slice")
_LIMITS = ("relu", "clamp_min", "clamp_max", "hardtanh")
_AFFINE = ("add", "sub", "mul", "true_divide")


@dataclass
class Layer:
    """A piece of a network.  Values are numbers of the traced graph.

    weight     the constant with the weights; `turned` if it is (in, out) and not (out, in)
    affine     what is done channel by channel after the product: (operation, constant, constant first?)
    lo, hi     the clamp after that
    axis       where the channels are in the result: -1, or 1, or 3 for images with channels last
    """

    kind: str
    name: str
    inputs: tuple[int, ...]
    output: int
    spec: Spec
    node: Node
    attrs: tuple[Any, ...] = ()
    weight: int = -1
    turned: bool = False
    affine: list[tuple[str, int, bool]] = field(default_factory=list)
    axis: int = -1
    lo: float = -INF
    hi: float = INF

    @property
    def clamps(self) -> bool:
        """Whether something is cut off."""
        return self.lo != -INF or self.hi != INF


class Weights:
    """What a layer keeps of its weights: int8 codes with a scale for each output, or floats."""

    __slots__ = ("bias", "codes", "floats", "scale")

    def __init__(self, *, bias: Any, codes: Any = None, scale: Any = None, floats: Any = None) -> None:
        self.codes, self.scale, self.bias, self.floats = codes, scale, bias, floats

    def real(self) -> Any:
        """The weights as float32."""
        if self.floats is not None:
            return self.floats
        return self.codes.astype(np.float32) * self.scale.reshape(-1, *(1,) * (self.codes.ndim - 1))


class Plan(NamedTuple):
    """How to run a network.

    modes      layer name -> how it runs: "static" on codes; "dynamic" on rows of codes made from floats;
               "weights" on floats with int8 weights; "expanded", with int8 weights that become floats when
               the model is compiled; "float" (also if it is not there)
    weights    layer name -> its Weights
    scales     group -> (scale, zero point)
    """

    modes: Mapping[str, str]
    weights: Mapping[str, Weights]
    scales: Mapping[int, tuple[float, int]]


# -- reading ---------------------------------------------------------------------------------------


def _named(model: Any, function: Callable[[], Captured]) -> tuple[Captured, list[str]]:
    """What `function` captures, and for each node the path of the module that asked for it."""
    open_: list[tuple[str, int]] = []
    spans: list[tuple[str, int, int]] = []
    handles = []

    def entered(name: str) -> Callable[..., None]:
        return lambda *_: open_.append((name, len(current().trace.nodes)))

    def left(*_: Any) -> None:
        name, start = open_.pop()
        trace = current().trace
        spans.append((name, start, 0 if trace is None else len(trace.nodes)))

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(entered(name), prepend=True))
        handles.append(module.register_forward_hook(left, always_call=True))
    try:
        captured = function()
    finally:
        for handle in handles:
            handle.remove()
    names = [""] * len(captured.graph.nodes)
    for name, start, stop in reversed(spans):  # the innermost ended first, and has the last word
        names[start:stop] = [name] * (stop - start)
    return captured, names


def read(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> Network:
    """The network that `model(*args, **kwargs)` is, for arguments of these shapes.

    Raises TraceError where the model cannot be traced, ArgumentError if it changes its own state (it is in
    training mode).
    """
    with Switch(trace=None, grad=False):
        captured, names = _named(model, lambda: capture(model, args, dict(kwargs or {})))
    if captured.graph.updates:
        raise ArgumentError(
            "quantization",
            "the model changes its own state when it is called",
            fix="call model.eval() first, so that batch norms no longer measure and dropout no longer drops",
        )
    return Network(captured, names)


def _settle_moves(graph: Graph, names: Sequence[str]) -> tuple[Graph, list[str]]:
    """The graph with functions of one value before permutations, and no permutation after its inverse.

    Layers whose images have channels last (Keras's) are traced as permutations around every convolution;
    without this their activations would stand too far from it to be taken in.  Nodes keep their positions.
    """
    nodes, names, first = list(graph.nodes), list(names), graph.first_node
    same: dict[int, int] = {}  # value -> the value that it repeats
    users: dict[int, int] = {}
    for v in [*graph.results, *(v for node in nodes for v in node.inputs)]:
        users[v] = users.get(v, 0) + 1
    for position, old in enumerate(nodes):
        node = Node(old.op, tuple([same.get(v, v) for v in old.inputs]), old.attrs, old.spec, old.where)
        nodes[position] = node
        at = node.inputs[0] - first if node.inputs else -1
        if at < 0 or nodes[at].op.name != "permute":
            continue
        before = nodes[at]
        if node.op.name == "permute":
            if [before.attrs[0][d] for d in node.attrs[0]] == list(range(len(node.attrs[0]))):
                source = same[first + position] = before.inputs[0]
                users[source] = users.get(source, 0) + users.get(first + position, 0)
        elif node.op.kind == "elementwise" and len(node.inputs) == 1 and users[first + at] == 1:
            spec = Spec(graph.spec(before.inputs[0]).shape, node.spec.dtype)
            nodes[at] = Node(node.op, before.inputs, node.attrs, spec, node.where)
            nodes[position] = Node(before.op, (first + at,), before.attrs, node.spec, before.where)
            names[at], names[position] = names[position], names[at]
    outputs = tuple([same.get(v, v) for v in graph.outputs])
    return replace(graph, nodes=tuple(nodes), outputs=outputs), names


class Network:
    """A traced model as layers."""

    def __init__(self, captured: Captured, names: Sequence[str]) -> None:
        self.captured = captured
        self.graph, self.names = _settle_moves(captured.graph, names)
        self.arguments = captured.arguments
        self._arrays: dict[int, Any] = {}
        self._constant = self._constants()
        self._users = self._uses()
        self._covered: set[int] = set()
        self.layers: list[Layer] = list(self._layers())
        _number(self.layers)
        self.group = self._groups()
        self.outputs = self.graph.outputs

    # -- constants ------------------------------------------------------------------------------

    def _constants(self) -> list[bool]:
        """Whether each value depends on no argument."""
        first = self.graph.first_node
        known = [v >= self.arguments for v in range(first)]
        for node in self.graph.nodes:
            known.append(bool(node.inputs) and all(known[v] for v in node.inputs))
        return known

    def constant(self, v: int) -> Any:
        """The array of a value that depends on no argument."""
        found = self._arrays.get(v)
        if found is not None:
            return found
        graph = self.graph
        inputs = len(graph.inputs)
        if v < inputs:
            k = v - self.arguments
            if k < len(self.captured.state):
                state = self.captured.state[k]
                t = None if state.tensor is None else state.tensor()
                return state.array if t is None else t._array
            return np.array(self.captured.live[k - len(self.captured.state)].read())
        if v < graph.first_node:
            return graph.constants[v - inputs]
        node = graph.nodes[v - graph.first_node]
        with Switch(trace=None, grad=False):
            y = apply(node.op, tuple(wrap(self.constant(x)) for x in node.inputs), node.attrs)._array
        self._arrays[v] = y
        return y

    def state_of(self, v: int) -> set[int]:
        """The state inputs that a constant is computed from."""
        if v < len(self.graph.inputs):
            return {v}
        if v < self.graph.first_node:
            return set()
        found: set[int] = set()
        for x in self.graph.nodes[v - self.graph.first_node].inputs:
            found |= self.state_of(x)
        return found

    # -- matching -------------------------------------------------------------------------------

    def _uses(self) -> dict[int, list[int]]:
        """Value -> the nodes that use it and are alive; -1 for the result."""
        graph = self.graph
        alive = set(graph.outputs)
        users: dict[int, list[int]] = {v: [-1] for v in graph.outputs}
        for position in range(len(graph.nodes) - 1, -1, -1):
            v = graph.first_node + position
            if v in alive and not self._constant[v]:
                for x in graph.nodes[position].inputs:
                    alive.add(x)
                    users.setdefault(x, []).append(position)
        return users

    def _layers(self) -> Iterator[Layer]:
        graph = self.graph
        for position, node in enumerate(graph.nodes):
            v = graph.first_node + position
            if self._constant[v] or v not in self._users or position in self._covered:
                continue
            for match in (self._linear, self._conv, self._max_pool, self._avg_pool, self._add, self._cat):
                layer = match(position, node, v)
                if layer is not None:
                    break
            else:
                layer = self._other(position, node, v)
            yield layer

    def _activation(self, *values: int) -> bool:
        return all(not self._constant[v] and self.graph.spec(v).dtype == float32 for v in values)

    def _linear(self, position: int, node: Node, v: int) -> Layer | None:
        if node.op.name != "matmul" or node.attrs[0]:
            return None
        x, w = node.inputs
        if not self._activation(x) or not self._constant[w] or len(self.graph.spec(w).shape) != 2:
            return None
        if not self.state_of(w):  # numbers of the program's own, such as the averages of a pooling
            return None
        if self.graph.spec(w).shape[1 if node.attrs[1] else 0] > q8.LONGEST:
            return None
        layer = Layer("linear", self.names[position], (x,), v, node.spec, node, weight=w)
        layer.turned = not node.attrs[1]
        return self._absorb(layer)

    def _conv(self, position: int, node: Node, v: int) -> Layer | None:
        if node.op.name != "conv2d":
            return None
        x, w = node.inputs
        if not self._activation(x) or not self._constant[w]:
            return None
        if math.prod(self.graph.spec(w).shape[1:]) > q8.LONGEST:
            return None
        layer = Layer("conv", self.names[position], (x,), v, node.spec, node, node.attrs, weight=w, axis=1)
        return self._absorb(layer)

    def _absorb(self, layer: Layer) -> Layer:
        """Take what follows channel by channel into the layer."""
        graph = self.graph
        v, axis = layer.output, layer.axis
        taken: list[int] = []
        while True:
            users = self._users[v]
            if len(users) != 1 or users[0] < 0:
                break
            position = users[0]
            node = graph.nodes[position]
            kind = self._follows(layer, node, v)
            if not kind:
                break
            taken.append(position)
            v = graph.first_node + position
            if kind == "absorbed":
                layer.output, layer.spec, axis = v, node.spec, layer.axis
                self._covered.update(taken)
                taken = []
        layer.axis = axis
        return layer

    def _follows(self, layer: Layer, node: Node, v: int) -> str:
        """Whether a node is "absorbed" by the layer, or "passed": channels go with it."""
        name, shape = node.op.name, self.graph.spec(v).shape
        axis = layer.axis % len(shape) if layer.axis < 0 else layer.axis
        if name == "reshape":
            new = node.spec.shape
            if layer.axis < 0:
                return "passed" if len(new) and new[-1] == shape[-1] else ""
            return "passed" if layer.axis == 1 and new[:2] == shape[:2] and len(new) > 2 else ""
        if name == "permute" and layer.axis == 1 and node.attrs[0] == (0, 2, 3, 1):
            layer.axis = 3
            return "passed"
        if name in _AFFINE and not layer.clamps and len(node.inputs) == 2 and node.inputs.count(v) == 1:
            first = node.inputs[1] == v
            other = node.inputs[0] if first else node.inputs[1]
            if not self._constant[other] or node.spec.shape != shape or (first and name == "true_divide"):
                return ""
            sizes = self.graph.spec(other).shape
            sizes = (1,) * (len(shape) - len(sizes)) + tuple(sizes)
            if all(n == 1 or k == axis for k, n in enumerate(sizes)):
                layer.affine.append((name, other, first))
                return "absorbed"
            return ""
        if name == "relu":
            layer.lo, layer.hi = max(layer.lo, 0.0), max(layer.hi, 0.0)
        elif name == "clamp_min":
            layer.lo, layer.hi = max(layer.lo, node.attrs[0]), max(layer.hi, node.attrs[0])
        elif name == "clamp_max":
            layer.lo, layer.hi = min(layer.lo, node.attrs[0]), min(layer.hi, node.attrs[0])
        elif name == "hardtanh":
            low, high = node.attrs
            layer.lo, layer.hi = (max(low, min(bound, high)) for bound in (layer.lo, layer.hi))
        else:
            return ""
        return "absorbed"

    def _max_pool(self, position: int, node: Node, v: int) -> Layer | None:
        """The index of the maximum and the gather that takes it: six nodes."""
        if node.op.name != "max_pool2d_index" or not self._activation(node.inputs[0]):
            return None
        graph, x = self.graph, node.inputs[0]
        chain = [v]
        for name in ("reshape", "gather", "reshape"):
            users = self._users.get(chain[-1], [])
            if len(users) != 1 or users[0] < 0 or graph.nodes[users[0]].op.name != name:
                return None
            chain.append(graph.first_node + users[0])
        gather = graph.nodes[chain[2] - graph.first_node]
        flat = gather.inputs[0]
        if gather.inputs[1] != chain[1] or flat < graph.first_node or gather.attrs != (2,):
            return None
        source = graph.nodes[flat - graph.first_node]
        if (
            source.op.name != "reshape"
            or source.inputs != (x,)
            or self._users[flat] != [chain[2] - graph.first_node]
        ):
            return None
        last = graph.nodes[chain[3] - graph.first_node]
        if last.spec.shape != node.spec.shape:
            return None
        self._covered.update(c - graph.first_node for c in (*chain[1:], flat))
        return Layer("max_pool", self.names[position], (x,), chain[3], last.spec, node, node.attrs)

    def _avg_pool(self, position: int, node: Node, v: int) -> Layer | None:
        shape = self.graph.spec(node.inputs[0]).shape if node.inputs else ()
        if node.op.name == "avg_pool2d" and self._activation(node.inputs[0]):
            attrs, axis = node.attrs, 1
        elif node.op.name == "mean" and len(shape) == 4 and self._activation(node.inputs[0]):
            dims = tuple(sorted(d % 4 for d in node.attrs[0] or ()))
            if dims not in ((2, 3), (1, 2)):
                return None
            attrs = (tuple([shape[d] for d in dims]), (1, 1), (0, 0), False, True, None)
            axis = 1 if dims == (2, 3) else 3
        else:
            return None
        return Layer(
            "avg_pool", self.names[position], (node.inputs[0],), v, node.spec, node, attrs, axis=axis
        )

    def _add(self, position: int, node: Node, v: int) -> Layer | None:
        shapes = {self.graph.spec(x).shape for x in node.inputs}
        if node.op.name != "add" or shapes != {node.spec.shape} or not self._activation(*node.inputs):
            return None
        layer = Layer("add", self.names[position], node.inputs, v, node.spec, node)
        users = self._users[v]
        while len(users) == 1 and users[0] >= 0:
            after = self.graph.nodes[users[0]]
            if after.op.name not in _LIMITS or not self._follows(layer, after, v):
                break
            self._covered.add(users[0])
            v = self.graph.first_node + users[0]
            layer.output = v
            users = self._users[v]
        return layer

    def _cat(self, position: int, node: Node, v: int) -> Layer | None:
        if node.op.name != "cat" or not self._activation(*node.inputs):
            return None
        return Layer("cat", self.names[position], node.inputs, v, node.spec, node, node.attrs)

    def _other(self, position: int, node: Node, v: int) -> Layer:
        graph = self.graph
        moving = tuple(x for x in node.inputs if not self._constant[x])
        kind, inputs = "float", moving
        if node.op.name in _MOVES and self._activation(*moving):
            kind = "move"
        elif node.op.name == "index_select" and self._constant[node.inputs[0]] and node.attrs == (0,):
            if len(graph.spec(node.inputs[0]).shape) == 2 and is_float(node.spec.dtype):
                layer = Layer("embedding", self.names[position], moving, v, node.spec, node)
                layer.weight = node.inputs[0]
                return layer
        elif (
            node.op.kind == "elementwise"
            and len(set(moving)) == 1
            and self._activation(*moving)
            and graph.spec(moving[0]) == node.spec
            and all(math.prod(graph.spec(x).shape) == 1 for x in node.inputs if self._constant[x])
        ):
            kind, inputs = "table", moving[:1]
        return Layer(kind, self.names[position], inputs, v, node.spec, node)

    def _groups(self) -> dict[int, int]:
        """Value -> the first value of those whose codes mean the same."""
        parent: dict[int, int] = {}

        def find(v: int) -> int:
            while parent.setdefault(v, v) != v:
                v = parent[v]
            return v

        for layer in self.layers:
            find(layer.output)
            for x in layer.inputs:
                find(x)
                if layer.kind in SAME:
                    a, b = find(x), find(layer.output)
                    parent[max(a, b)] = min(a, b)
        return {v: find(v) for v in parent}

    # -- weights ----------------------------------------------------------------------------------

    def folded(self, layer: Layer) -> tuple[Any, Any]:
        """Weights (out, ...) and bias (out,) of a layer in float32, with all that was taken into it.

        An embedding has the table and no bias.
        """
        w = np.asarray(self.constant(layer.weight))
        if layer.kind == "embedding":
            return w.astype(np.float32), None
        w = (w.T if layer.turned else w).astype(np.float64)
        out = len(w)
        bias = np.zeros(out)
        wide = (out, *(1,) * (w.ndim - 1))
        for name, v, first in layer.affine:
            c = np.broadcast_to(np.asarray(self.constant(v), np.float64).reshape(-1), (out,))
            if name == "add":
                bias = bias + c
            elif name == "sub":
                w, bias = (-w, c - bias) if first else (w, bias - c)
            else:
                c = c if name == "mul" else 1.0 / c
                w, bias = w * c.reshape(wide), bias * c
        return w.astype(np.float32), bias.astype(np.float32)

    def factor(self, layer: Layer) -> Any:
        """By what `folded` multiplies the weights of each output, (out,)."""
        factor = np.ones(self.graph.spec(layer.weight).shape[1 if layer.turned else 0])
        for name, v, first in layer.affine:
            if name in ("mul", "true_divide"):
                c = np.asarray(self.constant(v), np.float64).reshape(-1)
                factor = factor * c if name == "mul" else factor / c
            elif name == "sub" and first:
                factor = -factor
        return factor

    @property
    def weighted(self) -> list[Layer]:
        """The layers with weights, in order."""
        return [layer for layer in self.layers if layer.kind in WEIGHTED]

    def in_float(self) -> Plan:
        """The plan that runs everything in floats, with folded weights."""
        weights = {}
        for layer in self.weighted:
            w, bias = self.folded(layer)
            weights[layer.name] = Weights(floats=w, bias=bias)
        return Plan({}, weights, {})

    def kept_state(self) -> set[int]:
        """State inputs that are needed beside the weights of layers: those of float operations."""
        found: set[int] = set()
        for layer in self.layers:
            if layer.kind in ("float", "table"):
                for v in layer.node.inputs:
                    if self._constant[v]:
                        found |= self.state_of(v)
        for v in self.graph.outputs:
            if self._constant[v]:
                found |= self.state_of(v)
        return found

    # -- running ----------------------------------------------------------------------------------

    def run(
        self,
        arguments: Sequence[Tensor],
        plan: Plan,
        watch: Callable[[int, Tensor], None] | None = None,
    ) -> Any:
        """What the model returns for these tensors (see `trace.arguments_of`), by this plan.

        watch(value, tensor) is called with every floating point activation that is there in floats.
        """
        return _Run(self, plan, watch).everything(arguments)

    def activations(self, arguments: Sequence[Tensor], plan: Plan) -> dict[int, Tensor]:
        """All values that are there in floats (or are indices) when the network runs by this plan."""
        run = _Run(self, plan)
        run.everything(arguments)
        return run.floats

    def form(self, layer: Layer, plan: Plan, x: Tensor, on_codes: bool) -> Tensor:
        """The input of a layer as the plan hands it over: codes if they are there already."""
        if not on_codes:
            return x
        codes = q8.quantize(x, *plan.scales[self.group[layer.inputs[0]]])
        return _channels_last(codes) if layer.kind == "conv" else codes

    def alone(self, layer: Layer, plan: Plan) -> Callable[[Tensor], Tensor]:
        """One linear layer or convolution as a function of its input, in floats or in the `form` of codes.

        Its result is in codes if the plan goes on in codes.
        """
        v = layer.inputs[0]

        def step(x: Tensor) -> Tensor:
            run = _Run(self, plan)
            if layer.kind == "embedding" or is_float(x.dtype):
                run.floats[v] = x
            elif layer.kind == "conv":
                run.images[v] = x
            else:
                run.codes[v] = x
            run.layer(layer)
            forms: tuple[dict[int, Tensor], ...] = (run.floats, run.images, run.codes)
            return next(form[layer.output] for form in forms if layer.output in form)

        return step


def _number(layers: list[Layer]) -> None:
    """Names are unique: a module that is called twice is "fc" and then "fc#2"."""
    seen: dict[str, int] = {}
    for layer in layers:
        if layer.kind in WEIGHTED:
            name = layer.name or "model"
            seen[name] = seen.get(name, 0) + 1
            layer.name = name if seen[name] == 1 else f"{name}#{seen[name]}"


# -- running ---------------------------------------------------------------------------------------


def demands(network: Network, plan: Plan) -> tuple[set[int], set[int]]:
    """The values that somebody wants as codes, and the outputs of layers that run on codes."""
    scales, group = plan.scales, network.group
    wanted: set[int] = set()
    for layer in reversed(network.layers):
        known = all(group[x] in scales for x in layer.inputs)
        static = layer.kind in ("linear", "conv") and plan.modes.get(layer.name) == "static"
        out = layer.output in wanted
        if known and (static or (out and (layer.kind in SAME or layer.kind in ("add", "table", "avg_pool")))):
            wanted.update(layer.inputs)
    coded: set[int] = set()
    for layer in network.layers:
        out = layer.output in wanted and group.get(layer.output, -1) in scales
        have = [x in coded for x in layer.inputs]
        if layer.kind in ("linear", "conv"):
            runs = out and plan.modes.get(layer.name) == "static"
        elif layer.kind == "embedding":
            runs = out and plan.modes.get(layer.name, "float") != "float"
        elif layer.kind in SAME or layer.kind == "avg_pool":
            runs = out and all(group[x] in scales for x in layer.inputs)
        elif layer.kind in ("add", "table"):
            runs = out and any(have) and all(group[x] in scales for x in layer.inputs)
        else:
            runs = False
        if runs:
            coded.add(layer.output)
    return wanted, coded


def constant(array: Any) -> Tensor:
    """A tensor that nobody else holds, so that a trace takes it for a constant and kernels can pack it."""
    return wrap(np.array(array))


class _Run:
    """One walk over the layers."""

    def __init__(self, network: Network, plan: Plan, watch: Any = None) -> None:
        self.network, self.plan, self.watch = network, plan, watch
        _, self.coded = demands(network, plan)
        self.floats: dict[int, Tensor] = {}
        self.codes: dict[int, Tensor] = {}
        self.images: dict[int, Tensor] = {}  # codes with channels last
        self.flat: dict[int, tuple[Tensor, int]] = {}  # those as rows, and how many channels they have

    def everything(self, arguments: Sequence[Tensor]) -> Any:
        """All layers; the model's result."""
        network = self.network
        for v, t in enumerate(arguments):
            self.floats[v] = t
            if is_float(t.dtype):
                self._seen(v)
        for layer in network.layers:
            self.layer(layer)
        leaves = []
        for kind, value, _ in network.captured.result:
            leaves.append(self.floating(network.outputs[value]) if kind == "output" else value)
        return network.captured.structure.build(leaves)

    def _seen(self, v: int) -> None:
        if self.watch is not None:
            self.watch(v, self.floats[v])

    def scale(self, v: int) -> tuple[float, int]:
        """Scale and zero point of a value."""
        return self.plan.scales[self.network.group[v]]

    # -- forms of values --------------------------------------------------------------------------

    def floating(self, v: int) -> Tensor:
        """A value in floats (or indices), channels where the model has them."""
        found = self.floats.get(v)
        if found is None:
            if v not in self.codes and v not in self.images:
                found = constant(self.network.constant(v))
            else:
                found = q8.dequantize(self.coded_plainly(v), *self.scale(v))
            self.floats[v] = found
        return found

    def coded_plainly(self, v: int) -> Tensor:
        """A value as codes, channels where the model has them."""
        found = self.codes.get(v)
        if found is None:
            if v in self.images:
                found = _channels_second(self.images[v], self.network.graph.spec(v).shape)
            else:
                found = q8.quantize(self.floating(v), *self.scale(v))
            self.codes[v] = found
        return found

    def coded_image(self, v: int, shape: Shape) -> Tensor:
        """A value as codes with channels last, (batch, height, width, channels) of the shape (n, c, h, w)."""
        n, c, h, w = shape
        found = self.images.get(v)
        if found is None:
            found = self.images[v] = _channels_last(_as_shape(self.coded_plainly(v), shape))
        return found if found.shape == (n, h, w, c) else _reshape(found, (n, h, w, c))

    # -- layers -------------------------------------------------------------------------------------

    def layer(self, layer: Layer) -> None:
        """Run one layer."""
        on_codes = layer.output in self.coded
        method = getattr(self, f"_{layer.kind}")
        if layer.kind in ("linear", "conv"):
            method(layer, self.plan.modes.get(layer.name, "float"), on_codes)
        elif layer.kind == "embedding":
            method(layer)
            if not on_codes:
                self._seen(layer.output)
        elif on_codes:
            method(layer)
        else:
            self._float(layer)

    def _float(self, layer: Layer) -> None:
        network, v = self.network, layer.output
        if layer.kind == "max_pool":
            t = _max_pool(self.floating(layer.inputs[0]), layer.attrs)
        else:
            node = layer.node
            t = apply(node.op, tuple([self._operand(x) for x in node.inputs]), node.attrs)
            if layer.kind == "add":
                t = _clamp(t, layer)
        self.floats[v] = t
        if is_float(network.graph.spec(v).dtype):
            self._seen(v)

    def _operand(self, v: int) -> Tensor:
        return self.floating(v)

    def _linear(self, layer: Layer, mode: str, on_codes: bool) -> None:
        w = self.plan.weights[layer.name]
        x, v = layer.inputs[0], layer.output
        if mode == "static" and self.network.group[x] in self.plan.scales:
            if x in self.flat:
                codes, channels = self.flat[x]
                w = _columns_channels_last(w, channels)
            else:
                codes = self.coded_plainly(x)
            y = linear(codes, w, layer, self.scale(x), self.scale(v) if on_codes else None)
            (self.codes if on_codes else self.floats)[v] = _as_shape(y, layer.spec.shape)
        else:
            y = float_linear(self.floating(x), w, layer, mode)
            self.floats[v] = _as_shape(y, layer.spec.shape)
        if v in self.floats:
            self._seen(v)

    def _conv(self, layer: Layer, mode: str, on_codes: bool) -> None:
        w = self.plan.weights[layer.name]
        x, v = layer.inputs[0], layer.output
        if mode == "static" and self.network.group[x] in self.plan.scales:
            image = self.coded_image(x, self.network.graph.spec(x).shape)
            y = conv(image, w, layer, self.scale(x), self.scale(v) if on_codes else None)
            if layer.axis == 3:
                (self.codes if on_codes else self.floats)[v] = y
            elif on_codes:
                self.images[v] = y
            else:
                self.floats[v] = _channels_second(y, layer.spec.shape)
        else:
            y = float_conv(self.floating(x), w, layer)
            if layer.axis == 3:
                y = permute(y, (0, 2, 3, 1))
            self.floats[v] = _as_shape(y, layer.spec.shape)
        if v in self.floats:
            self._seen(v)

    def _embedding(self, layer: Layer) -> None:
        w, v = self.plan.weights[layer.name], layer.output
        index = self.floating(layer.inputs[0])
        if v in self.coded:  # the table in the codes of its rows' users: looking up is all there is to do
            table = q8.quantize.op.kernel(w.real(), *self.scale(v))  # type: ignore[attr-defined]
            self.codes[v] = apply(layer.node.op, (constant(table), index), layer.node.attrs)
            return
        if w.codes is not None and self.plan.modes.get(layer.name) in ("weights", "static"):
            y = q8.quantized_embedding(index, constant(w.codes), constant(w.scale))
        else:
            y = apply(layer.node.op, (constant(w.real()), index), layer.node.attrs)
        self.floats[v] = y

    def _max_pool(self, layer: Layer) -> None:
        x = layer.inputs[0]
        image = self.coded_image(x, self.network.graph.spec(x).shape)
        self.images[layer.output] = q8.quantized_max_pool2d(image, *layer.attrs)

    def _avg_pool(self, layer: Layer) -> None:
        x = layer.inputs[0]
        if layer.axis == 3:
            image = self.coded_plainly(x)
        else:
            image = self.coded_image(x, self.network.graph.spec(x).shape)
        y = q8.quantized_avg_pool2d(image, *layer.attrs, self.scale(x)[1])
        source, target = self.scale(x), self.scale(layer.output)
        if source != target:
            reals = q8.dequantize.op.kernel(np.arange(256, dtype=np.uint8), *source)  # type: ignore[attr-defined]
            y = q8.quantized_lookup(y, constant(q8.quantize.op.kernel(reals, *target)))  # type: ignore[attr-defined]
        if layer.axis == 3:
            self.codes[layer.output] = _as_shape(y, layer.spec.shape)
            return
        self.images[layer.output] = y

    def _move(self, layer: Layer) -> None:
        x, v, node = layer.inputs[0], layer.output, layer.node
        old, new = self.network.graph.spec(x).shape, layer.spec.shape
        channels_stay = node.op.name == "reshape" and len(old) > 2 and len(new) > 2 and old[:2] == new[:2]
        if x in self.images and channels_stay:
            self.images[v] = self.images[x]  # the pixels of a channel are in the same order before and after
            return
        if node.op.name == "permute" and x in self.images and node.attrs[0] == (0, 2, 3, 1):
            self.codes[v] = self.images[x]
            return
        if node.op.name == "permute" and x not in self.images and node.attrs[0] == (0, 3, 1, 2):
            self.images[v] = self.coded_plainly(x)
            return
        if x in self.images and new == (old[0], math.prod(old[1:])) and self._only_linear(v):
            self.flat[v] = _reshape(self.images[x], new), old[1]
            return
        self.codes[v] = apply(node.op, (self.coded_plainly(x),), node.attrs)

    def _only_linear(self, v: int) -> bool:
        """Whether only integer products use a value: they can have their weights in any order."""
        users = [layer for layer in self.network.layers if v in layer.inputs]
        modes = self.plan.modes
        return v not in self.network.outputs and all(
            layer.kind == "linear" and modes.get(layer.name) == "static" for layer in users
        )

    def _cat(self, layer: Layer) -> None:
        dim, sizes = layer.attrs
        shapes = [self.network.graph.spec(x).shape for x in layer.inputs]
        if all(x in self.images for x in layer.inputs) and len(shapes[0]) == 4:
            parts = [self.coded_image(x, s) for x, s in zip(layer.inputs, shapes, strict=True)]
            self.images[layer.output] = apply(layer.node.op, tuple(parts), ((0, 3, 1, 2)[dim], sizes))
            return
        parts = [self.coded_plainly(x) for x in layer.inputs]
        self.codes[layer.output] = apply(layer.node.op, tuple(parts), layer.attrs)

    def _add(self, layer: Layer) -> None:
        a, b = layer.inputs
        (sa, za), (sb, zb), (sy, zy) = self.scale(a), self.scale(b), self.scale(layer.output)
        attrs = (za, sa / sy, zb, sb / sy, zy, *_code_bounds(layer, sy, zy))
        if a in self.images or b in self.images:
            shape = self.network.graph.spec(a).shape
            shape = shape if len(shape) == 4 else (*shape[:2], 1, math.prod(shape[2:]))
            left, right = self.coded_image(a, shape), self.coded_image(b, shape)
            self.images[layer.output] = q8.quantized_add(left, right, *attrs)
        else:
            self.codes[layer.output] = q8.quantized_add(self.coded_plainly(a), self.coded_plainly(b), *attrs)

    def _table(self, layer: Layer) -> None:
        x, v, node = layer.inputs[0], layer.output, layer.node
        scale, zero = self.scale(x)
        reals = ((np.arange(256) - zero) * np.float32(scale)).astype(np.float32)
        with Switch(trace=None, grad=False):
            given = [
                wrap(reals) if i == x else wrap(np.asarray(self.network.constant(i)).reshape(()))
                for i in node.inputs
            ]
            y = q8.quantize(apply(node.op, tuple(given), node.attrs), *self.scale(v))._array
        form = self.images if x in self.images else self.codes
        codes = self.images[x] if x in self.images else self.coded_plainly(x)
        form[v] = q8.quantized_lookup(codes, constant(y))


def _as_shape(t: Tensor, shape: Shape) -> Tensor:
    return t if t.shape == shape else _reshape(t, shape)


def _channels_last(t: Tensor) -> Tensor:
    n, c, h, w = t.shape
    if c == 1 or h * w == 1:
        return _reshape(t, (n, h, w, c))
    return _contiguous(permute(t, (0, 2, 3, 1)))


def _channels_second(t: Tensor, shape: Shape) -> Tensor:
    _, h, w, c = t.shape
    if c == 1 or h * w == 1:
        return _reshape(t, shape)
    return _reshape(permute(t, (0, 3, 1, 2)), shape)


def _columns_channels_last(w: Weights, channels: int) -> Weights:
    """The weights for rows that were images with channels last, instead of channels first."""
    out, depth = w.codes.shape
    codes = w.codes.reshape(out, channels, depth // channels).transpose(0, 2, 1).reshape(out, depth)
    return Weights(bias=w.bias, codes=codes, scale=w.scale)


def _clamp(t: Tensor, layer: Layer) -> Tensor:
    if layer.lo == 0.0 and layer.hi == INF:
        return relu(t)
    if not layer.clamps:
        return t
    return clamp(t, None if layer.lo == -INF else layer.lo, None if layer.hi == INF else layer.hi)


def _code_bounds(layer: Layer, scale: float, zero: int) -> tuple[int, int]:
    """The clamp of a layer in codes."""

    def code(value: float) -> int:
        return int(min(max(np.rint(value / scale) + zero, 0), 255))

    return (0 if layer.lo == -INF else code(layer.lo)), (255 if layer.hi == INF else code(layer.hi))


def _max_pool(t: Tensor, attrs: tuple[Any, ...]) -> Tensor:
    from .ops.convolution import max_pool2d

    return max_pool2d(t, *attrs)  # type: ignore[no-any-return]


# -- one layer on tensors ----------------------------------------------------------------------------


def integer_bias(w: Weights, scale: float, depth: int) -> Any:
    """The bias in units of scale * w.scale, int32, as large as a sum of `depth` products leaves room for."""
    room = 2**31 - 1 - 255 * 127 * depth
    unit = np.float64(scale) * w.scale.astype(np.float64)
    return np.clip(np.rint(w.bias / unit), -room, room).astype(np.int32)


def _arguments(
    w: Weights, layer: Layer, source: tuple[float, int], target: tuple[float, int] | None
) -> tuple[list[Tensor], tuple[Any, ...], tuple[Any, ...]]:
    """Tensors of an integer product, and its attributes: those of the input, those of the output."""
    scale, zero = source
    product = np.float64(scale) * w.scale.astype(np.float64)
    depth = math.prod(w.codes.shape[1:])
    if target is None:
        tensors = [constant(product.astype(np.float32)), constant(w.bias)]
        return tensors, (zero,), (layer.lo, layer.hi)
    multiplier = (product / target[0]).astype(np.float32)
    tensors = [constant(multiplier), constant(integer_bias(w, scale, depth))]
    return tensors, (zero,), (target[1], *_code_bounds(layer, *target))


def linear(
    x: Tensor, w: Weights, layer: Layer, source: tuple[float, int], target: tuple[float, int] | None
) -> Tensor:
    """A linear layer on codes of scale and zero point `source`, to codes of `target` or (None) floats."""
    tensors, before, after = _arguments(w, layer, source, target)
    op = q8.quantized_linear_float if target is None else q8.quantized_linear
    return op(x, constant(q8.pack_panels(w.codes)), *tensors, *before, *after)


def conv(
    x: Tensor, w: Weights, layer: Layer, source: tuple[float, int], target: tuple[float, int] | None
) -> Tensor:
    """A convolution of channels-last codes; the result has channels last, too."""
    tensors, before, after = _arguments(w, layer, source, target)
    panels = q8.pack_panels(w.codes.transpose(0, 2, 3, 1), layer.attrs[-1])
    op = q8.quantized_conv2d_float if target is None else q8.quantized_conv2d
    return op(x, constant(panels), *tensors, w.codes.shape[2:], *layer.attrs, *before, *after)


def float_linear(x: Tensor, w: Weights, layer: Layer, mode: str = "float") -> Tensor:
    """A linear layer on floats; mode "dynamic" and "weights" use int8 weights."""
    if mode == "dynamic":
        rows = q8.quantize_rows(x)
        arrays = constant(q8.pack_panels(w.codes)), constant(w.scale), constant(w.bias)
        return q8.quantized_rows_linear(rows, *arrays, layer.lo, layer.hi)
    if mode == "weights":
        y = q8.weight_only_linear(x, constant(w.codes), constant(w.scale), constant(w.bias))
    else:
        y = matmul(x, constant(np.ascontiguousarray(w.real().T)))
        if w.bias.any():
            y = add(y, constant(w.bias))
    return _clamp(y, layer)


def float_conv(x: Tensor, w: Weights, layer: Layer) -> Tensor:
    """A convolution of floats."""
    y = _conv2d(x, constant(w.real()), *layer.attrs)
    if w.bias.any():
        y = add(y, constant(w.bias.reshape(1, -1, 1, 1)))
    return _clamp(y, layer)


def arguments(args: Any) -> list[Tensor]:
    """The distinct tensors in a nest of arguments, in order: what `Network.run` takes."""
    return list({id(t): t for t in flatten(args)[0] if isinstance(t, Tensor)}.values())


def same_structure(a: Network, b: Network) -> None:
    """Raise TraceError unless two readings of one model are the same layers, whatever the shapes."""
    left = [(layer.kind, layer.name, layer.output) for layer in a.layers]
    if left != [(layer.kind, layer.name, layer.output) for layer in b.layers]:
        raise TraceError(
            "quantization",
            "for arguments of these shapes the model takes another path than when it was calibrated",
            fix="quantize it for these shapes on its own",
        )


__all__ = [
    "SAME",
    "WEIGHTED",
    "Layer",
    "Network",
    "Plan",
    "Weights",
    "arguments",
    "conv",
    "demands",
    "float_conv",
    "float_linear",
    "linear",
    "read",
    "same_structure",
]
