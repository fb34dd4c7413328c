"""Eight bits: products, an MLP and a CNN, beside ONNX Runtime, OpenVINO and torch, and beside float32.

    python benchmarks/bench_int8.py                            everything, 1 and 2 threads: minutes
    python benchmarks/bench_int8.py --only mlp-1 --threads 1

`gemm-n`: codes (n, n) times an int8 matrix with a scale for each column, requantized to codes.  All engines
have the same operands, packed beforehand; `minigrad-fp32` multiplies the numbers that the codes stand for.

`mlp-b`, `cnn-b`: from floats to floats, b rows or images.  The same weights everywhere; each engine
calibrates for itself (by the batch) and quantizes weights per channel where it can, so scores agree within
the error of eight bits, TOLERANCE of the norm.  "dynamic" finds the ranges of activations at run time.  ONNX
Runtime gets models of its own quantizer (QDQ for static ones), and writes into bound outputs; OpenVINO reads
the same static model; torch runs its eager quantization on the engine it takes by itself.

Ratios are best peer / the better one of minigrad's; float32 is in the table to be seen.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import tempfile
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

TOLERANCE = 0.06
CLASSES = 10
CASES: list[harness.Case] = [
    *({"label": f"gemm-{n}", "kind": "gemm", "n": n} for n in (256, 512, 1024, 2048)),
    *({"label": f"mlp-{b}", "kind": "mlp", "batch": b} for b in (1, 256)),
    *({"label": f"cnn-{b}", "kind": "cnn", "batch": b} for b in (1, 64)),
]

# -- what is computed ----------------------------------------------------------------------------------


class Product:
    """Operands of a product whose results fill the range of codes."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(n)
        self.x = rng.integers(0, 256, (n, n)).astype(np.uint8)
        self.w = rng.integers(-127, 128, (n, n)).astype(np.int8)  # (in, out)
        self.x_scale, self.x_zero, self.y_zero = 0.02, 128, 128
        self.y_scale = 1.0
        self.w_scale = (rng.uniform(0.5, 1.0, n) * 30 / (0.02 * 74 * 73 * np.sqrt(n))).astype(np.float32)

    def floats(self) -> tuple[Any, Any]:
        x = (self.x.astype(np.float32) - self.x_zero) * np.float32(self.x_scale)
        return x, self.w.astype(np.float32) * self.w_scale


def layers(kind: str) -> list[tuple[str, Any]]:
    """The layers of a model, and weights and biases: "dense" (out, in), "conv" (out, in, 3, 3)."""
    rng = np.random.default_rng(3)

    def made(name: str, *shape: int) -> tuple[str, Any]:
        scale = np.sqrt(2.0 / np.prod(shape[1:]))
        w = (rng.standard_normal(shape) * scale).astype(np.float32)
        return name, (w, (rng.standard_normal(shape[0]) * 0.1).astype(np.float32))

    def dense(*sizes: int) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        for k, n in itertools.pairwise(sizes):
            found += [made("dense", n, k), ("relu", None)]
        return found[:-1]

    if kind == "mlp":
        return dense(784, 512, 256, CLASSES)
    convs = [made("conv", 32, 1, 3, 3), ("relu", None), ("pool", None)]
    convs += [made("conv", 64, 32, 3, 3), ("relu", None), ("pool", None), ("flatten", None)]
    return [*convs, *dense(3136, 128, CLASSES)]


def batch(case: harness.Case) -> Any:
    shape = (784,) if case["kind"] == "mlp" else (1, 28, 28)
    return np.random.default_rng(5).standard_normal((case["batch"], *shape)).astype(np.float32)


def flops(case: harness.Case) -> float:
    if case["kind"] == "gemm":
        return 2.0 * case["n"] ** 3
    places = iter((28 * 28, 14 * 14))
    total = 0.0
    for name, parts in layers(case["kind"]):
        if parts is not None:
            total += 2.0 * parts[0].size * (next(places) if name == "conv" else 1)
    return total * case["batch"]


class Engine(harness.Engine):
    def prepare(self, case: harness.Case) -> harness.Call:
        if case["kind"] == "gemm":
            return self.gemm(Product(case["n"]))
        return self.model(case["kind"], batch(case))

    @abstractmethod
    def gemm(self, p: Product) -> harness.Call:
        """The product, as codes."""

    @abstractmethod
    def model(self, kind: str, x: Any) -> harness.Call:
        """The scores of a batch."""


# -- minigrad ------------------------------------------------------------------------------------------


class Minigrad(Engine):
    name = "minigrad"
    ours = True

    def start(self, threads: int) -> None:
        self.mg = importlib.import_module("minigrad")
        self.c = importlib.import_module("minigrad.backends.c")
        self.mg.set_num_threads(threads)

    def network(self, kind: str) -> Any:
        mg, nn = self.mg, self.mg.nn
        found = []
        for name, parts in layers(kind):
            if parts is not None:
                w, b = parts
                layer = (
                    nn.Linear(*w.shape[::-1])
                    if name == "dense"
                    else nn.Conv2d(w.shape[1], len(w), 3, padding=1)
                )
                with mg.no_grad():
                    layer.weight.assign(mg.tensor(w))
                    layer.bias.assign(mg.tensor(b))
                found.append(layer)
            else:
                found.append({"relu": nn.ReLU, "flatten": nn.Flatten}.get(name, lambda: nn.MaxPool2d(2))())
        return nn.Sequential(*found).eval()

    def quantized(self, model: Any, x: Any) -> Any:
        return self.mg.quantization.quantize_static(model, [x], measure=False)

    def model(self, kind: str, x: Any) -> harness.Call:
        given = self.mg.tensor(x)
        made = self.quantized(self.network(kind), given)
        made(given)
        return self.call(made, given)

    def call(self, f: Any, given: Any) -> harness.Call:
        step = self.mg.compile(f)
        no_grad = self.mg.no_grad

        def call() -> Any:
            with no_grad():
                return step(given)._array

        return call

    def gemm(self, p: Product) -> harness.Call:
        ops = importlib.import_module("minigrad.ops.quantized")
        tensor = self.mg.tensor
        m = (np.float32(p.x_scale) * p.w_scale / np.float32(p.y_scale)).astype(np.float32)
        panels, m, bias = map(tensor, (ops.pack_panels(p.w.T), m, np.zeros(len(m), np.int32)))
        return self.call(
            lambda x: ops.quantized_linear(x, panels, m, bias, p.x_zero, p.y_zero, 0, 255), tensor(p.x)
        )


class Dynamic(Minigrad):
    name = "minigrad-dynamic"

    def quantized(self, model: Any, x: Any) -> Any:
        return self.mg.quantization.quantize_dynamic(model)

    def skips(self, case: harness.Case) -> bool:
        return case["kind"] != "mlp"


class Floats(Minigrad):
    """The same in float32: no contender, but what eight bits have to beat."""

    name = "minigrad-fp32"
    ours = False

    def quantized(self, model: Any, x: Any) -> Any:
        return model

    def gemm(self, p: Product) -> harness.Call:
        x, w = map(self.mg.tensor, p.floats())
        zero = self.mg.tensor(np.full(len(p.w), p.y_zero, np.float32))
        return self.call(lambda x: x @ w + zero, x)


# -- ONNX Runtime and OpenVINO ---------------------------------------------------------------------------


class Onnx(Engine):
    """Builds the ONNX models."""

    def start(self, threads: int) -> None:
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)  # advice of the quantizer, once a model
        self.onnx = importlib.import_module("onnx")
        self.ort = importlib.import_module("onnxruntime")
        self.threads = threads
        self.load()

    def load(self) -> None:
        """What else the engine imports."""

    def finished(
        self, nodes: Any, x: Any, y: tuple[str, list[int]], kind: Any, constants: dict[str, Any]
    ) -> bytes:
        helper = self.onnx.helper
        graph = helper.make_graph(
            nodes,
            "model",
            [helper.make_tensor_value_info("x", kind, list(x.shape))],
            [helper.make_tensor_value_info(y[0], kind, y[1])],
            [self.onnx.numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        self.onnx.checker.check_model(made)
        data: bytes = made.SerializeToString()
        return data

    def floats(self, kind: str, x: Any) -> bytes:
        nodes, constants, last = [], {}, "x"
        for i, (name, parts) in enumerate(layers(kind)):
            inputs, more = [last], {}
            if parts is not None:
                constants |= {f"w{i}": parts[0], f"b{i}": parts[1]}
                inputs += [f"w{i}", f"b{i}"]
                more = {"transB": 1} if name == "dense" else {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
            elif name == "pool":
                more = {"kernel_shape": [2, 2], "strides": [2, 2]}
            op = {"dense": "Gemm", "conv": "Conv", "relu": "Relu", "pool": "MaxPool", "flatten": "Flatten"}[
                name
            ]
            last = f"v{i}"
            nodes.append(self.onnx.helper.make_node(op, inputs, [last], **more))
        return self.finished(nodes, x, (last, [len(x), CLASSES]), self.onnx.TensorProto.FLOAT, constants)

    def static(self, kind: str, x: Any) -> bytes:
        """Quantized by ONNX Runtime's tools: QDQ, weights int8 per channel, activations uint8."""
        q = importlib.import_module("onnxruntime.quantization")

        class Reader(q.CalibrationDataReader):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                self.left = [{"x": x}]

            def get_next(self) -> Any:
                return self.left.pop() if self.left else None

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
            source.write_bytes(self.floats(kind, x))
            q.quantize_static(
                source,
                target,
                Reader(),
                quant_format=q.QuantFormat.QDQ,
                per_channel=True,
                activation_type=q.QuantType.QUInt8,
                weight_type=q.QuantType.QInt8,
            )
            return target.read_bytes()

    def dynamic(self, kind: str, x: Any) -> bytes:
        q = importlib.import_module("onnxruntime.quantization")
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
            source.write_bytes(self.floats(kind, x))
            q.quantize_dynamic(source, target, per_channel=True, weight_type=q.QuantType.QInt8)
            return target.read_bytes()

    def product(self, p: Product) -> bytes:
        """Codes in, codes out: dequantize, multiply, quantize, which the engines fuse."""
        node = self.onnx.helper.make_node
        nodes = [
            node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
            node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=1),
            node("MatMul", ["xf", "wf"], ["yf"]),
            node("QuantizeLinear", ["yf", "ys", "yz"], ["y"]),
        ]
        constants = {
            "xs": np.float32(p.x_scale),
            "xz": np.uint8(p.x_zero),
            "w": p.w,
            "ws": p.w_scale,
            "wz": np.zeros(len(p.w_scale), np.int8),
            "ys": np.float32(p.y_scale),
            "yz": np.uint8(p.y_zero),
        }
        return self.finished(nodes, p.x, ("y", list(p.x.shape)), self.onnx.TensorProto.UINT8, constants)


class OnnxRuntime(Onnx):
    name = "onnxruntime"

    def session(self, data: bytes, x: Any, shape: tuple[int, ...]) -> harness.Call:
        options = self.ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        session = self.ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        y = np.zeros(shape, x.dtype)
        name = session.get_outputs()[0].name
        binding.bind_input("x", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
        binding.bind_output(name, "cpu", 0, y.dtype, y.shape, y.ctypes.data)
        self.kept = x  # as long as its address is bound

        def call() -> Any:
            session.run_with_iobinding(binding)
            return y

        return call

    def gemm(self, p: Product) -> harness.Call:
        return self.session(self.product(p), p.x, p.x.shape)

    def model(self, kind: str, x: Any) -> harness.Call:
        return self.session(self.static(kind, x), x, (len(x), CLASSES))


class OnnxRuntimeDynamic(OnnxRuntime):
    name = "onnxruntime-dynamic"

    def model(self, kind: str, x: Any) -> harness.Call:
        return self.session(self.dynamic(kind, x), x, (len(x), CLASSES))

    def skips(self, case: harness.Case) -> bool:
        return case["kind"] != "mlp"  # its convolutions have no kernel


class OpenVINO(Onnx):
    name = "openvino"

    def load(self) -> None:
        self.ov = importlib.import_module("openvino")

    def compiled(self, data: bytes, x: Any) -> harness.Call:
        core = self.ov.Core()
        options = {"INFERENCE_NUM_THREADS": self.threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        request = core.compile_model(core.read_model(data), "CPU", options).create_infer_request()
        request.set_input_tensor(self.ov.Tensor(x, shared_memory=True))
        self.kept = x  # as long as its memory is shared

        def call() -> Any:
            request.infer()
            return request.get_output_tensor().data

        return call

    def gemm(self, p: Product) -> harness.Call:
        return self.compiled(self.product(p), p.x)

    def model(self, kind: str, x: Any) -> harness.Call:
        return self.compiled(self.static(kind, x), x)


# -- torch -------------------------------------------------------------------------------------------------


class Codes:
    """A quantized tensor that becomes an array when somebody looks."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.tensor.int_repr().numpy().astype(dtype)


class Torch(Engine):
    """Eager static quantization, with the default qconfig of the default engine."""

    name = "torch"

    def start(self, threads: int) -> None:
        warnings.simplefilter("ignore")
        self.torch = torch = importlib.import_module("torch")
        self.q = importlib.import_module("torch.ao.quantization")
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def network(self, kind: str) -> Any:
        nn = self.torch.nn
        found: list[Any] = []
        for name, parts in layers(kind):
            if parts is not None:
                w, b = map(self.torch.from_numpy, parts)
                layer = (
                    nn.Linear(w.shape[1], len(w))
                    if name == "dense"
                    else nn.Conv2d(w.shape[1], len(w), 3, padding=1)
                )
                layer.weight.copy_(w)
                layer.bias.copy_(b)
                found.append(layer)
            else:
                found.append({"relu": nn.ReLU, "flatten": nn.Flatten}.get(name, lambda: nn.MaxPool2d(2))())
        return nn.Sequential(*found).eval()

    def model(self, kind: str, x: Any) -> harness.Call:
        q, nn = self.q, self.torch.nn
        given = self.torch.from_numpy(x)
        network = self.network(kind)
        names = [n for n, m in network.named_children() if isinstance(m, nn.Linear | nn.Conv2d)]
        pairs = [[n, str(int(n) + 1)] for n in names[:-1]]
        model = nn.Sequential(q.QuantStub(), q.fuse_modules(network, pairs), q.DeQuantStub())
        model.qconfig = q.get_default_qconfig(self.torch.backends.quantized.engine)
        q.prepare(model, inplace=True)
        model(given)
        q.convert(model, inplace=True)
        if kind == "cnn":
            given = given.contiguous(memory_format=self.torch.channels_last)
        return lambda: model(given).numpy()

    def gemm(self, p: Product) -> harness.Call:
        torch = self.torch
        n = len(p.w_scale)
        scales = torch.from_numpy(p.w_scale).double()
        w = torch._make_per_channel_quantized_tensor(
            torch.from_numpy(np.ascontiguousarray(p.w.T)), scales, torch.zeros(n, dtype=torch.long), 0
        )
        x = torch._make_per_tensor_quantized_tensor(torch.from_numpy(p.x), p.x_scale, p.x_zero)
        packed = torch.ops.quantized.linear_prepack(w, None)
        multiply = torch.ops.quantized.linear
        return lambda: Codes(multiply(x, packed, p.y_scale, p.y_zero))


class TorchDynamic(Torch):
    name = "torch-dynamic"

    def skips(self, case: harness.Case) -> bool:
        return case["kind"] != "mlp"

    def model(self, kind: str, x: Any) -> harness.Call:
        model = self.q.quantize_dynamic(self.network(kind), {self.torch.nn.Linear}, dtype=self.torch.qint8)
        given = self.torch.from_numpy(x)
        return lambda: model(given).numpy()


ENGINES = [
    Floats(),
    Minigrad(),
    Dynamic(),
    OnnxRuntime(),
    OnnxRuntimeDynamic(),
    OpenVINO(),
    Torch(),
    TorchDynamic(),
]

if __name__ == "__main__":
    harness.main(__file__, ENGINES, CASES, tolerance=TOLERANCE, flops=flops)
