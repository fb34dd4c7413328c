"""The models of `bench_train_step.py` and `bench_infer.py`, each written once for all engines.

A model is a function of `m`, a vocabulary of about a dozen layers, and of its input.  Every engine
brings a vocabulary of its own (`minigrad`'s, `torch`'s, `jax`'s and TensorFlow's are here), so all of
them compute the same from the same weights, each in the layout and with the functions that suit it.

Weights are numpy arrays under PyTorch's conventions: dense (out, in), convolutions (out, in, height,
width), images as channels before places.  A vocabulary that keeps channels last turns them round once.

    >>> model = MODELS["mlp"]
    >>> sorted(model.weights()), sum(w.size for w in model.weights().values())
    (['0.bias', '0.weight', '1.bias', '1.weight'], 7114)
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any
EPS = 1e-5  # of both norms
MOMENTUM = 0.1  # of running statistics
HEADS = 4


class Model(NamedTuple):
    """A model: `forward(m, x)` gives scores (..., classes); `shapes` are those of its weights."""

    forward: Callable[[Any, Any], Any]
    shapes: dict[str, tuple[int, ...]]
    inputs: tuple[int, ...]  # of one example; of token numbers if `tokens`
    classes: int
    tokens: bool = False

    def weights(self, seed: int = 0) -> dict[str, Array]:
        """Weights to start from: normal with variance 2 / fan-in, norms 1, biases small."""
        rng = np.random.default_rng(seed)
        made = {}
        for name, shape in self.shapes.items():
            w = rng.standard_normal(shape, dtype=np.float32)
            if name.endswith("scale"):
                w = np.float32(1) + np.float32(0.1) * w
            elif name.endswith(("bias", "table")):
                w *= np.float32(0.02 if name.endswith("bias") else 0.5)
            else:
                w *= np.float32(math.sqrt(2 / math.prod(shape[1:])))
            made[name] = w
        return made

    def buffers(self, seed: int = 1) -> dict[str, Array]:
        """Running statistics of batch norm: means and variances."""
        rng = np.random.default_rng(seed)
        made = {}
        for name, shape in self.shapes.items():
            if name.startswith("bn") and name.endswith("scale"):
                base = name.removesuffix("scale")
                made[base + "mean"] = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.1)
                made[base + "var"] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        return made

    def data(self, batches: int, size: int, seed: int = 2) -> tuple[Array, Array]:
        """Inputs (batches, size, ...) and labels: noise, so that nothing is learned by heart soon."""
        rng = np.random.default_rng(seed)
        shape = (batches, size, *self.inputs)
        if self.tokens:
            return rng.integers(0, self.classes, shape), rng.integers(0, self.classes, shape)
        return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, self.classes, shape[:2])


def _norm(shapes: dict[str, tuple[int, ...]], name: str, size: int) -> None:
    shapes[f"{name}.scale"] = shapes[f"{name}.bias"] = (size,)


def _dense(shapes: dict[str, tuple[int, ...]], name: str, size: int, out: int) -> None:
    shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, size), (out,)


def mlp(*sizes: int) -> Model:
    """Dense layers with relu between them."""
    last = len(sizes) - 2

    def forward(m: Any, x: Any) -> Any:
        for k in range(last):
            x = m.relu(m.dense(x, str(k)))
        return m.dense(x, str(last))

    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(last + 1):
        _dense(shapes, str(k), sizes[k], sizes[k + 1])
    return Model(forward, shapes, sizes[:1], sizes[-1])


def cnn(side: int = 28, channels: tuple[int, int] = (32, 64), width: int = 128) -> Model:
    """conv pool conv pool dense dense, with relu; 3x3 kernels that keep the size."""
    a, b = channels

    def forward(m: Any, x: Any) -> Any:
        x = m.pool(m.relu(m.conv(x, "conv1")))
        x = m.pool(m.relu(m.conv(x, "conv2")))
        return m.dense(m.relu(m.dense(m.flatten(x), "flat")), "out")

    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (a, 1, 3, 3),
        "conv1.bias": (a,),
        "conv2.weight": (b, a, 3, 3),
        "conv2.bias": (b,),
    }
    _dense(shapes, "flat", b * (side // 4) ** 2, width)
    _dense(shapes, "out", width, 10)
    return Model(forward, shapes, (1, side, side), 10)


def resnet(side: int = 32, channels: int = 64, blocks: int = 2) -> Model:
    """A convolution and residual blocks of two (He et al. 2016), all 3x3 with batch norm, and a mean."""

    def forward(m: Any, x: Any) -> Any:
        x = m.relu(m.batch_norm(m.conv(x, "stem"), "bn"))
        for k in range(blocks):
            y = m.relu(m.batch_norm(m.conv(x, f"conv{k}a"), f"bn{k}a"))
            y = m.batch_norm(m.conv(y, f"conv{k}b"), f"bn{k}b")
            x = m.relu(m.add(y, x))
        return m.dense(m.mean(x), "out")

    shapes: dict[str, tuple[int, ...]] = {"stem.weight": (channels, 3, 3, 3)}
    _norm(shapes, "bn", channels)
    for k in range(blocks):
        for part in "ab":
            shapes[f"conv{k}{part}.weight"] = (channels, channels, 3, 3)
            _norm(shapes, f"bn{k}{part}", channels)
    _dense(shapes, "out", channels, 10)
    return Model(forward, shapes, (3, side, side), 10)


def transformer(width: int = 128, length: int = 64, letters: int = 256) -> Model:
    """One causal block before which its input is normalised (Radford et al. 2019), over bytes."""

    def forward(m: Any, tokens: Any) -> Any:
        x = m.embed(tokens, "letters.table", "places.table")
        x = m.add(x, m.dense(m.attention(m.dense(m.layer_norm(x, "ln1"), "qkv")), "project"))
        x = m.add(x, m.dense(m.gelu(m.dense(m.layer_norm(x, "ln2"), "up")), "down"))
        return m.dense(m.layer_norm(x, "ln3"), "head")

    shapes: dict[str, tuple[int, ...]] = {"letters.table": (letters, width), "places.table": (length, width)}
    _norm(shapes, "ln1", width)
    _dense(shapes, "qkv", width, 3 * width)
    _dense(shapes, "project", width, width)
    _norm(shapes, "ln2", width)
    _dense(shapes, "up", width, 4 * width)
    _dense(shapes, "down", 4 * width, width)
    _norm(shapes, "ln3", width)
    _dense(shapes, "head", width, letters)
    return Model(forward, shapes, (length,), letters, tokens=True)


MODELS = {
    "mlp": mlp(100, 64, 10),
    "mlp784": mlp(784, 512, 256, 10),
    "cnn": cnn(),
    "resnet": resnet(),
    "transformer": transformer(),
}
#: The same models, as small as they can be without losing anything: for tests.
SMALL = {
    "mlp": mlp(12, 8, 10),
    "mlp784": mlp(20, 16, 12, 10),
    "cnn": cnn(8, (4, 6), 12),
    "resnet": resnet(8, 4),
    "transformer": transformer(16, 8, 20),
}


def by_channels_last(name: str, w: Array, model: Model) -> Array:
    """A weight for an engine that keeps channels last: dense (in, out), convolution (h, w, in, out)."""
    if name == "flat.weight":  # its input is an image laid flat
        channels = model.shapes["conv2.weight"][0]
        side = math.isqrt(w.shape[1] // channels)
        w = w.reshape(-1, channels, side, side).transpose(2, 3, 1, 0).reshape(w.shape[1], -1)
    elif name.endswith("weight"):
        w = w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T
    return np.ascontiguousarray(w)


class Minigrad:
    """The layers, in minigrad."""

    def __init__(self, weights: dict[str, Any], buffers: dict[str, Any], training: bool) -> None:
        self.f: Any = importlib.import_module("minigrad.nn.functional")
        self.p, self.b, self.training = weights, buffers, training

    def dense(self, x: Any, name: str) -> Any:
        return self.f.linear(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"])

    def conv(self, x: Any, name: str) -> Any:
        return self.f.conv2d(x, self.p[f"{name}.weight"], self.p.get(f"{name}.bias"), padding=1)

    def pool(self, x: Any) -> Any:
        return self.f.max_pool2d(x, 2)

    def relu(self, x: Any) -> Any:
        return self.f.relu(x)

    def gelu(self, x: Any) -> Any:
        return self.f.gelu(x)

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def flatten(self, x: Any) -> Any:
        return x.flatten(1)

    def mean(self, x: Any) -> Any:
        return x.mean((2, 3))

    def batch_norm(self, x: Any, name: str) -> Any:
        p, b = self.p, self.b
        return self.f.batch_norm(
            x,
            b[f"{name}.mean"],
            b[f"{name}.var"],
            p[f"{name}.scale"],
            p[f"{name}.bias"],
            self.training,
            MOMENTUM,
            EPS,
        )

    def layer_norm(self, x: Any, name: str) -> Any:
        p = self.p
        return self.f.layer_norm(x, (x.shape[-1],), p[f"{name}.scale"], p[f"{name}.bias"], EPS)

    def embed(self, tokens: Any, letters: str, places: str) -> Any:
        return self.f.embedding(tokens, self.p[letters]) + self.p[places]

    def attention(self, qkv: Any) -> Any:
        n, length, width = qkv.shape
        qkv = qkv.reshape(n, length, 3, HEADS, width // 3 // HEADS).permute(2, 0, 3, 1, 4)
        y = self.f.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        return y.transpose(1, 2).reshape(n, length, width // 3)

    def loss(self, scores: Any, labels: Any) -> Any:
        return self.f.cross_entropy(scores.reshape(-1, scores.shape[-1]), labels.reshape(-1))


class Torch(Minigrad):
    """The layers, in torch: the names are the same.  functional: `torch.nn.functional`."""

    def __init__(
        self, functional: Any, weights: dict[str, Any], buffers: dict[str, Any], training: bool
    ) -> None:
        self.f, self.p, self.b, self.training = functional, weights, buffers, training


class Jax:
    """The layers, in jax, channels last."""

    def __init__(self, weights: dict[str, Any], buffers: dict[str, Any], training: bool) -> None:
        self.jax: Any = importlib.import_module("jax")
        self.p, self.b, self.training = weights, buffers, training
        self.changed = dict(buffers)

    def dense(self, x: Any, name: str) -> Any:
        return x @ self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def conv(self, x: Any, name: str) -> Any:
        y = self.jax.lax.conv_general_dilated(
            x, self.p[f"{name}.weight"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        bias = self.p.get(f"{name}.bias")
        return y if bias is None else y + bias

    def pool(self, x: Any) -> Any:
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))

    def relu(self, x: Any) -> Any:
        return self.jax.nn.relu(x)

    def gelu(self, x: Any) -> Any:
        return self.jax.nn.gelu(x, approximate=False)

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def flatten(self, x: Any) -> Any:
        return x.reshape(x.shape[0], -1)

    def mean(self, x: Any) -> Any:
        return x.mean((1, 2))

    def _scaled(self, x: Any, mean: Any, var: Any, name: str) -> Any:
        inverse = self.jax.lax.rsqrt(var + EPS) * self.p[f"{name}.scale"]
        return (x - mean) * inverse + self.p[f"{name}.bias"]

    def batch_norm(self, x: Any, name: str) -> Any:
        mean, var = self.b[f"{name}.mean"], self.b[f"{name}.var"]
        if self.training:
            now, spread = x.mean((0, 1, 2)), x.var((0, 1, 2))
            count = x.size // x.shape[-1]
            self.changed[f"{name}.mean"] = (1 - MOMENTUM) * mean + MOMENTUM * now
            self.changed[f"{name}.var"] = (1 - MOMENTUM) * var + MOMENTUM * spread * (count / (count - 1))
            mean, var = now, spread
        return self._scaled(x, mean, var, name)

    def layer_norm(self, x: Any, name: str) -> Any:
        return self._scaled(x, x.mean(-1, keepdims=True), x.var(-1, keepdims=True), name)

    def embed(self, tokens: Any, letters: str, places: str) -> Any:
        return self.p[letters][tokens] + self.p[places]

    def attention(self, qkv: Any) -> Any:
        n, length, width = qkv.shape
        q, k, v = self.jax.numpy.split(qkv.reshape(n, length, 3, HEADS, -1), 3, axis=2)
        y = self.jax.nn.dot_product_attention(q[:, :, 0], k[:, :, 0], v[:, :, 0], is_causal=True)
        return y.reshape(n, length, width // 3)

    def loss(self, scores: Any, labels: Any) -> Any:
        scores, labels = scores.reshape(-1, scores.shape[-1]), labels.reshape(-1)
        logs = self.jax.nn.log_softmax(scores)
        return -self.jax.numpy.take_along_axis(logs, labels[:, None], 1).mean()


class TensorFlow:
    """The layers, in TensorFlow, channels last."""

    def __init__(self, weights: dict[str, Any], buffers: dict[str, Any], training: bool) -> None:
        self.tf: Any = importlib.import_module("tensorflow")
        self.p, self.b, self.training = weights, buffers, training

    def dense(self, x: Any, name: str) -> Any:
        w = self.p[f"{name}.weight"]
        y = self.tf.matmul(self.tf.reshape(x, (-1, x.shape[-1])), w)
        y = self.tf.nn.bias_add(y, self.p[f"{name}.bias"])
        return y if len(x.shape) == 2 else self.tf.reshape(y, (*x.shape[:-1], w.shape[-1]))

    def conv(self, x: Any, name: str) -> Any:
        y = self.tf.nn.conv2d(x, self.p[f"{name}.weight"], 1, "SAME")
        bias = self.p.get(f"{name}.bias")
        return y if bias is None else self.tf.nn.bias_add(y, bias)

    def pool(self, x: Any) -> Any:
        return self.tf.nn.max_pool2d(x, 2, 2, "VALID")

    def relu(self, x: Any) -> Any:
        return self.tf.nn.relu(x)

    def gelu(self, x: Any) -> Any:
        return self.tf.nn.gelu(x)

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def flatten(self, x: Any) -> Any:
        return self.tf.reshape(x, (x.shape[0], -1))

    def mean(self, x: Any) -> Any:
        return self.tf.reduce_mean(x, (1, 2))

    def batch_norm(self, x: Any, name: str) -> Any:
        mean, var = self.b[f"{name}.mean"], self.b[f"{name}.var"]
        y, mean_, var_, *_ = self.tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=self.p[f"{name}.scale"],
            offset=self.p[f"{name}.bias"],
            mean=mean,
            variance=var,
            epsilon=EPS,
            exponential_avg_factor=MOMENTUM,
            is_training=self.training,
        )
        if self.training:
            mean.assign(mean_)
            var.assign(var_)
        return y

    def layer_norm(self, x: Any, name: str) -> Any:
        mean, var = self.tf.nn.moments(x, -1, keepdims=True)
        scale, bias = self.p[f"{name}.scale"], self.p[f"{name}.bias"]
        return self.tf.nn.batch_normalization(x, mean, var, bias, scale, EPS)

    def embed(self, tokens: Any, letters: str, places: str) -> Any:
        return self.tf.gather(self.p[letters], tokens) + self.p[places]

    def attention(self, qkv: Any) -> Any:
        tf = self.tf
        n, length, width = qkv.shape
        size = width // 3 // HEADS
        q, k, v = tf.unstack(tf.transpose(tf.reshape(qkv, (n, length, 3, HEADS, size)), (2, 0, 3, 1, 4)))
        scores = tf.matmul(q, k, transpose_b=True) * (1 / math.sqrt(size))
        weights = tf.nn.softmax(scores + np.triu(np.full((length, length), -1e30, np.float32), 1))
        return tf.reshape(tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3)), (n, length, width // 3))

    def loss(self, scores: Any, labels: Any) -> Any:
        tf = self.tf
        scores, labels = tf.reshape(scores, (-1, scores.shape[-1])), tf.reshape(labels, (-1,))
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=scores))
