"""Inference: the models of `bench_train_step.py`, batch 1 and 64, beside ONNX Runtime and others.

    python benchmarks/bench_infer.py                           every model, 1 and 2 threads: minutes
    python benchmarks/bench_infer.py --case cnn-1 --threads 1 --engine minigrad onnxruntime

Every engine has the same weights (running statistics included) and gets the same input; their scores
must agree within 1e-4 of the norm.  The ONNX graph is built here, layer by layer, with the operators
that ONNX Runtime has kernels for; it writes into an output that is bound once, and its threads are not
pinned.  minigrad and torch.compile freeze the weights, so they may pack them; jax has them as constants.

The promise is 1.2 times ONNX Runtime.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from typing import Any

import _harness as harness
import _models
import bench_train_step as train
import numpy as np

TOLERANCE = 1e-4
CASES: list[harness.Case] = [
    {"label": f"{name}-{batch}", "model": name, "batch": batch, "target": {"onnxruntime": 1.2}}
    for name in _models.MODELS
    for batch in (1, 64)
]


class Onnx:
    """The layers, as the nodes of an ONNX graph."""

    def __init__(self, weights: dict[str, Any], buffers: dict[str, Any]) -> None:
        self.onnx: Any = importlib.import_module("onnx")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.p, self.b = weights, buffers
        self.names: set[str] = set()

    def constant(self, name: str, array: Any) -> str:
        if name not in self.names:
            self.names.add(name)
            self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.p[name] if name in self.p else self.b[name])

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def dense(self, x: str, name: str) -> str:
        w, b = f"{name}.weight", self.weight(f"{name}.bias")
        if self.flat:
            return self.node("Gemm", x, self.weight(w), b, transB=1)
        return self.node("Add", self.node("MatMul", x, self.constant(f"{w}.T", self.p[w].T)), b)

    flat = True

    def conv(self, x: str, name: str) -> str:
        inputs = [x, self.weight(f"{name}.weight")]
        if f"{name}.bias" in self.p:
            inputs.append(self.weight(f"{name}.bias"))
        return self.node("Conv", *inputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def pool(self, x: str) -> str:
        return self.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def gelu(self, x: str) -> str:
        return self.node("Gelu", x)

    def add(self, x: str, y: str) -> str:
        return self.node("Add", x, y)

    def flatten(self, x: str) -> str:
        return self.node("Flatten", x)

    def mean(self, x: str) -> str:
        return self.node("Flatten", self.node("GlobalAveragePool", x))

    def batch_norm(self, x: str, name: str) -> str:
        inputs = [self.weight(f"{name}.{part}") for part in ("scale", "bias", "mean", "var")]
        return self.node("BatchNormalization", x, *inputs, epsilon=_models.EPS)

    def layer_norm(self, x: str, name: str) -> str:
        scale, bias = self.weight(f"{name}.scale"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=_models.EPS)

    def embed(self, tokens: str, letters: str, places: str) -> str:
        self.flat = False
        return self.add(self.node("Gather", self.weight(letters), tokens), self.weight(places))

    def attention(self, qkv: str) -> str:
        width = self.p["places.table"].shape[1]
        cuts = self.constant("cuts", np.array([width] * 3, np.int64))
        parts = ["q", "k", "v"]
        self.nodes.append(self.onnx.helper.make_node("Split", [qkv, cuts], parts, axis=-1))
        heads = _models.HEADS
        return self.node("Attention", *parts, is_causal=1, q_num_heads=heads, kv_num_heads=heads)

    def model(self, forward: Any, x: Any, classes: int) -> bytes:
        """The serialised model."""
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        y = forward(self, "x")
        kind = kinds.FLOAT if x.dtype == np.float32 else kinds.INT64
        shape = [len(x), classes] if self.flat else [*x.shape, classes]
        graph = helper.make_graph(
            self.nodes,
            "model",
            [helper.make_tensor_value_info("x", kind, list(x.shape))],
            [helper.make_tensor_value_info(y, kinds.FLOAT, shape)],
            self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
        self.onnx.checker.check_model(made)
        data: bytes = made.SerializeToString()
        return data


class Engine(harness.Engine):
    """An engine that computes scores: subclasses give `call` for weights, buffers and an input."""

    def environment(self, threads: int) -> dict[str, str]:
        return train.KEEP_MEMORY

    def prepare(self, case: harness.Case) -> harness.Call:
        self.case = case
        self.model = _models.MODELS[case["model"]]
        x = self.model.data(1, case["batch"])[0][0]
        return self.call(self.model.weights(), self.model.buffers(), x)

    @abstractmethod
    def call(self, weights: Any, buffers: Any, x: Any) -> harness.Call:
        """The prediction for one batch, its weights in place."""


class Minigrad(Engine):
    name = "minigrad"
    ours = True
    start = train.Minigrad.start
    compiles = True
    freeze = True

    def call(self, weights: Any, buffers: Any, x: Any) -> harness.Call:
        mg = self.mg
        made = [{k: mg.tensor(w) for k, w in part.items()} for part in (weights, buffers)]
        layers = _models.Minigrad(*made, False)
        step = mg.compile(lambda x: self.model.forward(layers, x), freeze=self.freeze)
        given = mg.tensor(x)

        def call() -> Any:
            return step(given)._array

        return call


class MinigradUnfrozen(Minigrad):
    """Weights that are read anew at every call, so that whoever writes into them is seen."""

    name = "minigrad-unfrozen"
    ours = False
    freeze = False


class OnnxRuntime(Engine):
    name = "onnxruntime"

    def start(self, threads: int) -> None:
        importlib.import_module("onnx")
        self.ort = importlib.import_module("onnxruntime")
        self.threads = threads

    def call(self, weights: Any, buffers: Any, x: Any) -> harness.Call:
        ort = self.ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        data = Onnx(weights, buffers).model(self.model.forward, x, self.model.classes)
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        output, given = session.get_outputs()[0], np.ascontiguousarray(x)
        y = np.zeros(output.shape, np.float32)
        binding.bind_input("x", "cpu", 0, given.dtype, given.shape, given.ctypes.data)
        binding.bind_output(output.name, "cpu", 0, y.dtype, y.shape, y.ctypes.data)
        self.kept = given  # as long as its address is bound

        def call() -> Any:
            session.run_with_iobinding(binding)
            return y

        return call


class Torch(Engine):
    """Eager, channels last for images."""

    name = "torch"
    start = train.Torch.start

    def compile(self, function: Any) -> Any:
        return function

    def call(self, weights: Any, buffers: Any, x: Any) -> harness.Call:
        torch = self.torch

        def tensor(a: Any) -> Any:
            t = torch.tensor(a)
            return t.to(memory_format=torch.channels_last) if t.ndim == 4 else t

        forward, functional = self.model.forward, torch.nn.functional
        names = {k: k.replace(".", "_") for k in [*weights, *buffers]}

        class Net(torch.nn.Module):  # type: ignore[misc,name-defined]
            """The weights as parameters, which torch.compile may freeze."""

            def __init__(self) -> None:
                super().__init__()
                for k, w in weights.items():
                    self.register_parameter(names[k], torch.nn.Parameter(tensor(w), requires_grad=False))
                for k, b in buffers.items():
                    self.register_buffer(names[k], tensor(b))

            def forward(self, x: Any) -> Any:
                p = {k: getattr(self, names[k]) for k in weights}
                b = {k: getattr(self, names[k]) for k in buffers}
                return forward(_models.Torch(functional, p, b, False), x)

        run, given = self.compile(Net().eval()), tensor(x)

        def call() -> Any:
            with torch.inference_mode():
                return run(given)

        return call


class TorchCompile(Torch):
    name = "torch-compile"

    def compile(self, function: Any) -> Any:
        return self.torch.compile(function, options={"cpp_wrapper": True, "freezing": True})


class Jax(Engine):
    name = "jax"
    environment = train.Jax.environment
    start = train.Jax.start

    def call(self, weights: Any, buffers: Any, x: Any) -> harness.Call:
        jnp = self.jax.numpy
        p = {k: jnp.asarray(_models.by_channels_last(k, w, self.model)) for k, w in weights.items()}
        layers = _models.Jax(p, {k: jnp.asarray(b) for k, b in buffers.items()}, False)
        run = self.jax.jit(lambda x: self.model.forward(layers, x))
        given = jnp.asarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)
        return lambda: run(given).block_until_ready()


ENGINES: list[Engine] = [Minigrad(), MinigradUnfrozen(), OnnxRuntime(), Torch(), TorchCompile(), Jax()]

if __name__ == "__main__":
    train.main(__file__, ENGINES, CASES, __doc__ or "", TOLERANCE)
