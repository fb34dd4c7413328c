"""Whole training steps: forward, backward and optimizer, on the models that people put on a CPU.

    python benchmarks/bench_train_step.py                      every model, 1 and 2 threads: minutes
    python benchmarks/bench_train_step.py --case mlp --threads 1 --engine minigrad jax-scan
    python benchmarks/bench_train_step.py --tensorflow ~/tf/bin/python      TensorFlow, from where it is

Every engine trains the same model (`_models.py`) from the same weights on the same twenty batches,
and its losses of the first twenty steps must be those of the first engine: each within 2e-4 of the
norm of all twenty (about 1e-3 of a loss; rounding differs from engine to engine and training
magnifies it).  The peers are at their best: data in place, losses not read back between steps, an
allocator that keeps its memory (`KEEP_MEMORY`; without it most are slower), fused optimizers, layouts
that suit them, donated buffers.

A call runs a few steps, as a program does between two looks at the loss; `jax-scan` compiles these
into one program.  Times are per step.  Compile time is that of the first call less that of later
ones; peak memory is that of the whole process, its libraries included.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import math
import os
import statistics
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _harness as harness
import _models
import numpy as np
from bench_elementwise import KEEP_MEMORY

BATCHES = 20
TOLERANCE = 2e-4
BETA1, BETA2, ADAM_EPS, DECAY, MOMENTUM = 0.9, 0.999, 1e-8, 0.01, 0.9

#: optimizer, its learning rate, steps a call: a few milliseconds of work.  target: what the project
#: promises, as ratios to engines ("best": to the best of all peers).
CASES: list[harness.Case] = [
    {
        "label": "mlp",
        "model": "mlp",
        "batch": 32,
        "optimizer": "adam",
        "lr": 1e-3,
        "steps": 20,
        "target": {"jax": 3.5, "jax-scan": 1.5, "torch": 12, "torch-fused": 12, "torch-compile": 5},
    },
    {
        "label": "mlp1024",
        "model": "mlp",
        "batch": 1024,
        "optimizer": "adam",
        "lr": 1e-3,
        "steps": 20,
        "target": {"best": 1.6},
    },
    {
        "label": "mlp784",
        "model": "mlp784",
        "batch": 128,
        "optimizer": "momentum",
        "lr": 0.01,
        "steps": 4,
        "target": {"best": 1.2},
    },
    {
        "label": "cnn",
        "model": "cnn",
        "batch": 64,
        "optimizer": "adam",
        "lr": 1e-3,
        "steps": 1,
        "target": {"best": 1.3},
    },
    {
        "label": "resnet",
        "model": "resnet",
        "batch": 32,
        "optimizer": "momentum",
        "lr": 0.01,
        "steps": 1,
        "target": {"best": 1.1},
    },
    {
        "label": "transformer",
        "model": "transformer",
        "batch": 16,
        "optimizer": "adamw",
        "lr": 1e-3,
        "steps": 1,
        "target": {"torch-compile": 1.3},
    },
]


def on_images(case: harness.Case) -> bool:
    return len(_models.MODELS[case["model"]].inputs) == 3


class Trainer(harness.Engine):
    """An engine that trains: subclasses give `step`, and the losses of several steps as an array."""

    def environment(self, threads: int) -> dict[str, str]:
        return KEEP_MEMORY

    def prepare(self, case: harness.Case) -> harness.Call:
        """Train twenty steps; their losses are the result that is compared."""
        self.case = case
        self.model = _models.MODELS[case["model"]]
        xs, ys = self.model.data(BATCHES, case["batch"])
        if on_images(case) and self.channels_last:
            xs = np.ascontiguousarray(xs.transpose(0, 1, 3, 4, 2))
        run = self.training(self.model.weights(), self.model.buffers(), xs, ys)
        steps = case["steps"]
        chunks = [range(k, k + steps) for k in range(0, BATCHES, steps)]
        cycle = itertools.cycle(chunks)
        begin = time.perf_counter()
        losses = [run(next(cycle))]
        first = time.perf_counter() - begin
        later = []
        while not later or len(losses) * steps < case["check"]:
            begin = time.perf_counter()
            losses.append(run(next(cycle)))
            later.append(time.perf_counter() - begin)
        self.compile_seconds = max(first - min(later), 0.0)
        proof = np.concatenate(losses)[: case["check"]]

        def call() -> Any:
            run(next(cycle))
            return proof

        return call

    channels_last = False
    compiles = False

    @abstractmethod
    def training(self, weights: Any, buffers: Any, xs: Any, ys: Any) -> Callable[[range], Any]:
        """A function that takes steps on these batches and gives their losses."""

    def facts(self) -> dict[str, float]:
        return {"compile": self.compile_seconds} if self.compiles else {}


class Minigrad(Trainer):
    name = "minigrad"
    ours = True
    compiles = True

    def start(self, threads: int) -> None:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        self.mg = importlib.import_module("minigrad")
        self.c = importlib.import_module("minigrad.backends.c")
        importlib.import_module("minigrad.execute.program")  # imported when it is first wanted, else
        self.mg.set_num_threads(threads)

    def wrap(self, step: Any) -> Any:
        return self.mg.compile(step)

    def training(self, weights: Any, buffers: Any, xs: Any, ys: Any) -> Callable[[range], Any]:
        mg, case = self.mg, self.case
        p = {k: mg.nn.Parameter(mg.tensor(w)) for k, w in weights.items()}
        m = _models.Minigrad(p, {k: mg.tensor(b) for k, b in buffers.items()}, True)
        optimizer = {
            "adam": lambda: mg.optim.Adam(p.values(), case["lr"]),
            "adamw": lambda: mg.optim.AdamW(p.values(), case["lr"], weight_decay=DECAY),
            "momentum": lambda: mg.optim.SGD(p.values(), case["lr"], momentum=MOMENTUM),
        }[case["optimizer"]]()

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = m.loss(self.model.forward(m, x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = self.step = self.wrap(step)
        inputs, labels = [mg.tensor(x) for x in xs], [mg.tensor(y) for y in ys]
        self.example = inputs[0], labels[0]
        return lambda chunk: np.array([run(inputs[k], labels[k]).numpy() for k in chunk])

    def facts(self) -> dict[str, float]:
        plan = importlib.import_module("minigrad.plan").plan(self.step.graph(*self.example))
        return super().facts() | {"arena": plan.peak, "side by side": plan.naive}


class MinigradEager(Minigrad):
    """The same step, uncompiled."""

    name = "minigrad-eager"
    compiles = False
    ours = False

    def wrap(self, step: Any) -> Any:
        return step

    def facts(self) -> dict[str, float]:
        return {}


class Numpy(Trainer):
    """By hand: every array made beforehand, all parameters in one, so that the update is one pass."""

    name = "numpy"

    def skips(self, case: harness.Case) -> bool:
        return not case["model"].startswith("mlp")

    def training(self, weights: Any, buffers: Any, xs: Any, ys: Any) -> Callable[[range], Any]:
        case = self.case
        count = sum(w.size for w in weights.values())
        flat, grad, m, v, s = (np.zeros(count, np.float32) for _ in range(5))
        places = np.cumsum([0, *(w.size for w in weights.values())])
        p, g = [], []
        for w, low, high in zip(weights.values(), places, places[1:], strict=False):
            w = w.T
            flat[low:high] = w.ravel()
            p.append(flat[low:high].reshape(w.shape))
            g.append(grad[low:high].reshape(w.shape))
        layers = [(p[k], p[k + 1], g[k], g[k + 1]) for k in range(0, len(p), 2)]
        n = case["batch"]
        outs = [np.empty((n, w.shape[1]), np.float32) for w, *_ in layers]
        back = [np.empty((n, w.shape[0]), np.float32) for w, *_ in layers]
        masks = [np.empty((n, w.shape[1]), bool) for w, *_ in layers]
        rows, time_ = np.arange(n), [0]
        lr = np.float32(case["lr"])

        def step(x: Any, y: Any) -> Any:
            h = x
            for (w, b, _, _), out in zip(layers, outs, strict=True):
                np.dot(h, w, out=out)
                out += b
                if out is not outs[-1]:
                    np.maximum(out, 0, out=out)
                h = out
            h -= h.max(1, keepdims=True)
            right = h[rows, y]
            np.exp(h, out=h)
            total = h.sum(1, keepdims=True)
            loss = (np.log(total[:, 0]) - right).mean()
            h /= total
            h[rows, y] -= 1
            h *= np.float32(1 / n)
            for k in range(len(layers) - 1, -1, -1):
                w, _, gw, gb = layers[k]
                np.dot((outs[k - 1] if k else x).T, h, out=gw)
                h.sum(0, out=gb)
                if k:
                    np.dot(h, w.T, out=back[k])
                    np.greater(outs[k - 1], 0, out=masks[k - 1])
                    h = np.multiply(back[k], masks[k - 1], out=back[k])
            if case["optimizer"] == "momentum":
                np.multiply(m, np.float32(MOMENTUM), out=m)
                np.add(m, grad, out=m)
                np.multiply(m, lr, out=s)
            else:
                time_[0] += 1
                c1, c2 = 1 - BETA1 ** time_[0], (1 - BETA2 ** time_[0]) ** 0.5
                np.multiply(m, np.float32(BETA1), out=m)
                np.multiply(grad, np.float32(1 - BETA1), out=s)
                np.add(m, s, out=m)
                np.multiply(grad, grad, out=grad)
                np.multiply(grad, np.float32(1 - BETA2), out=grad)
                np.multiply(v, np.float32(BETA2), out=v)
                np.add(v, grad, out=v)
                np.sqrt(v, out=s)
                np.add(s, np.float32(ADAM_EPS * c2), out=s)
                np.divide(m, s, out=s)
                np.multiply(s, np.float32(case["lr"] * c2 / c1), out=s)
            np.subtract(flat, s, out=flat)
            return loss

        return lambda chunk: np.array([step(xs[k], ys[k]) for k in chunk])


class Torch(Trainer):
    """torch as one writes it, eager."""

    name = "torch"
    fused = False
    memory_format = "contiguous_format"

    def start(self, threads: int) -> None:
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(threads)

    def tensors(self, arrays: dict[str, Any]) -> dict[str, Any]:
        torch = self.torch
        form = getattr(torch, self.memory_format)
        made = {k: torch.tensor(a) for k, a in arrays.items()}
        return {k: t.to(memory_format=form) if t.ndim == 4 else t for k, t in made.items()}

    def batches(self, xs: Any) -> list[Any]:
        return list(self.tensors({str(k): x for k, x in enumerate(xs)}).values())

    def optimizer(self, p: Any) -> Any:
        optim, lr, fused = self.torch.optim, self.case["lr"], self.fused or None
        return {
            "adam": lambda: optim.Adam(p, lr, fused=fused),
            "adamw": lambda: optim.AdamW(p, lr, weight_decay=DECAY, fused=fused),
            "momentum": lambda: optim.SGD(p, lr, momentum=MOMENTUM, fused=fused),
        }[self.case["optimizer"]]()

    def compile(self, function: Any) -> Any:
        return function

    def training(self, weights: Any, buffers: Any, xs: Any, ys: Any) -> Callable[[range], Any]:
        p = {k: t.requires_grad_() for k, t in self.tensors(weights).items()}
        m = _models.Torch(self.torch.nn.functional, p, self.tensors(buffers), True)
        optimizer = self.optimizer(list(p.values()))
        forward = self.compile(lambda x, y: m.loss(self.model.forward(m, x), y))
        inputs, labels = self.batches(xs), self.batches(ys)

        def run(chunk: range) -> Any:
            losses = []
            for k in chunk:
                optimizer.zero_grad()
                loss = forward(inputs[k], labels[k])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            return np.array([loss.numpy() for loss in losses])

        return run


class TorchFused(Torch):
    """Its fused optimizer."""

    name = "torch-fused"
    fused = True


class TorchChannelsLast(TorchFused):
    """And channels last, for images."""

    name = "torch-nhwc"
    memory_format = "channels_last"

    def skips(self, case: harness.Case) -> bool:
        return not on_images(case)


class TorchCompile(TorchFused):
    """The whole step compiled as one function; where there are running statistics, all but the optimizer."""

    name = "torch-compile"
    memory_format = "channels_last"
    compiles = True

    def compile(self, function: Any) -> Any:
        return self.torch.compile(function, options={"cpp_wrapper": True})

    def training(self, weights: Any, buffers: Any, xs: Any, ys: Any) -> Callable[[range], Any]:
        if buffers:
            return super().training(weights, buffers, xs, ys)
        torch, case = self.torch, self.case
        lr, kind = case["lr"], case["optimizer"]
        state = (
            self.tensors(weights),
            *({k: torch.zeros_like(t) for k, t in self.tensors(weights).items()} for _ in range(2)),
        )
        count = torch.zeros(())

        def loss_of(p: Any, x: Any, y: Any) -> Any:
            m = _models.Torch(torch.nn.functional, p, {}, True)
            return m.loss(self.model.forward(m, x), y)

        def step(p: Any, m: Any, v: Any, count: Any, x: Any, y: Any) -> Any:
            grads, loss = torch.func.grad_and_value(loss_of)(p, x, y)
            if kind == "momentum":
                for k, g in grads.items():
                    m[k].mul_(MOMENTUM).add_(g)
                    p[k].sub_(m[k], alpha=lr)
                return loss
            count.add_(1)
            c1, c2 = 1 - BETA1**count, (1 - BETA2**count).sqrt()
            for k, g in grads.items():
                if kind == "adamw":
                    p[k].mul_(1 - lr * DECAY)
                m[k].lerp_(g, 1 - BETA1)
                v[k].mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
                p[k].sub_(lr / c1 * m[k] / (v[k].sqrt() / c2 + ADAM_EPS))
            return loss

        compiled = self.compile(step)
        inputs, labels = self.batches(xs), self.batches(ys)

        def run(chunk: range) -> Any:
            with torch.no_grad():
                losses = [compiled(*state, count, inputs[k], labels[k]) for k in chunk]
            return np.array([loss.numpy() for loss in losses])

        return run


class Jax(Trainer):
    """A jitted step with donated buffers."""

    name = "jax"
    channels_last = True
    compiles = True

    def environment(self, threads: int) -> dict[str, str]:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" if threads == 1 else ""
        return {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | KEEP_MEMORY

    def start(self, threads: int) -> None:
        if threads == 1 and hasattr(os, "sched_setaffinity"):  # it takes a thread for every processor
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
        self.jax = importlib.import_module("jax")

    def step(self, state: Any, x: Any, y: Any) -> Any:
        """(new state, loss)"""
        jax, jnp, case = self.jax, self.jax.numpy, self.case
        p, b, m, v, count = state
        lr, kind = case["lr"], case["optimizer"]
        tree = jax.tree_util.tree_map

        def loss_of(p: Any) -> Any:
            layers = _models.Jax(p, b, True)
            return layers.loss(self.model.forward(layers, x), y), layers.changed

        (loss, b), g = jax.value_and_grad(loss_of, has_aux=True)(p)
        if kind == "momentum":
            m = tree(lambda m, g: MOMENTUM * m + g, m, g)
            return (tree(lambda p, m: p - lr * m, p, m), b, m, v, count), loss
        count = count + 1
        c1, c2 = 1 - BETA1**count, jnp.sqrt(1 - BETA2**count)
        keep = 1 - lr * DECAY if kind == "adamw" else 1.0
        m = tree(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = tree(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        p = tree(lambda p, m, v: p * keep - lr / c1 * m / (jnp.sqrt(v) / c2 + ADAM_EPS), p, m, v)
        return (p, b, m, v, count), loss

    def begin(self, weights: Any, buffers: Any) -> Any:
        jnp = self.jax.numpy
        p = {k: jnp.asarray(_models.by_channels_last(k, w, self.model)) for k, w in weights.items()}
        zeros = [{k: jnp.zeros_like(w) for k, w in p.items()} for _ in range(2)]
        return p, {k: jnp.asarray(b) for k, b in buffers.items()}, *zeros, jnp.zeros(())

    def training(self, weights: Any, buffers: Any, xs: Any, ys: Any) -> Callable[[range], Any]:
        state = [self.begin(weights, buffers)]
        compiled = self.jax.jit(self.step, donate_argnums=0)
        inputs, labels = ([self.jax.numpy.asarray(a) for a in part] for part in (xs, ys.astype(np.int32)))

        def run(chunk: range) -> Any:
            losses = []
            for k in chunk:
                state[0], loss = compiled(state[0], inputs[k], labels[k])
                losses.append(loss)
            self.jax.block_until_ready(state[0])
            return np.array(losses)

        return run


class JaxScan(Jax):
    """All steps of a call in one program."""

    name = "jax-scan"

    def skips(self, case: harness.Case) -> bool:
        return bool(case["steps"] == 1)

    def training(self, weights: Any, buffers: Any, xs: Any, ys: Any) -> Callable[[range], Any]:
        jax, steps = self.jax, self.case["steps"]
        state = [self.begin(weights, buffers)]

        def several(state: Any, xs: Any, ys: Any) -> Any:
            return jax.lax.scan(lambda s, batch: self.step(s, *batch), state, (xs, ys))

        compiled = jax.jit(several, donate_argnums=0)
        chunks = {
            k: (jax.numpy.asarray(xs[k : k + steps]), jax.numpy.asarray(ys[k : k + steps].astype(np.int32)))
            for k in range(0, BATCHES, steps)
        }

        def run(chunk: range) -> Any:
            state[0], losses = compiled(state[0], *chunks[chunk.start])
            self.jax.block_until_ready(state[0])
            return np.array(losses)

        return run


class TensorFlow(Trainer):
    """A tf.function of the whole step, with the fused updates of its own optimizers."""

    name = "tf"
    channels_last = True
    compiles = True
    jit = False

    def environment(self, threads: int) -> dict[str, str]:
        return KEEP_MEMORY | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

    def start(self, threads: int) -> None:
        self.tf = tf = importlib.import_module("tensorflow")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def training(self, weights: Any, buffers: Any, xs: Any, ys: Any) -> Callable[[range], Any]:
        tf, case = self.tf, self.case
        p = {k: tf.Variable(_models.by_channels_last(k, w, self.model)) for k, w in weights.items()}
        layers = _models.TensorFlow(p, {k: tf.Variable(b) for k, b in buffers.items()}, True)
        m, v = ({k: tf.Variable(tf.zeros_like(w)) for k, w in p.items()} for _ in range(2))
        power1, power2 = tf.Variable(1.0), tf.Variable(1.0)
        lr, kind, raw = case["lr"], case["optimizer"], tf.raw_ops

        @tf.function(jit_compile=self.jit)  # type: ignore[untyped-decorator]
        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = layers.loss(self.model.forward(layers, x), y)
            grads = tape.gradient(loss, p)
            if kind != "momentum":
                power1.assign(power1 * BETA1)
                power2.assign(power2 * BETA2)
            for k, g in grads.items():
                g = tf.convert_to_tensor(g)
                if kind == "momentum":
                    raw.ResourceApplyMomentum(
                        var=p[k].handle, accum=m[k].handle, lr=lr, grad=g, momentum=MOMENTUM
                    )
                    continue
                if kind == "adamw":
                    p[k].assign(p[k] * (1 - lr * DECAY))
                raw.ResourceApplyAdam(
                    var=p[k].handle,
                    m=m[k].handle,
                    v=v[k].handle,
                    beta1_power=power1,
                    beta2_power=power2,
                    lr=lr,
                    beta1=BETA1,
                    beta2=BETA2,
                    epsilon=ADAM_EPS * tf.sqrt(1 - power2),
                    grad=g,
                )
            return loss

        inputs, labels = [tf.constant(x) for x in xs], [tf.constant(y) for y in ys]

        def run(chunk: range) -> Any:
            losses = [step(inputs[k], labels[k]) for k in chunk]
            return np.array([loss.numpy() for loss in losses])

        return run


ENGINES: list[Trainer] = [
    Minigrad(),
    MinigradEager(),
    Numpy(),
    Torch(),
    TorchFused(),
    TorchChannelsLast(),
    TorchCompile(),
    Jax(),
    JaxScan(),
    TensorFlow(),
]


@contextlib.contextmanager
def workers_of(script: str, engines: list[Any], threads: int) -> Iterator[list[harness.Worker]]:
    """A process for each engine that is installed."""
    workers = [harness.Worker(script, e, threads) for e in engines]
    for worker in workers:
        if worker.missing:
            print(f"# {worker.engine.name} is left out: {worker.missing}")
    try:
        yield [w for w in workers if not w.missing]
    finally:
        for worker in workers:
            worker.close()


def measure(
    script: str, case: harness.Case, engines: list[Any], threads: int, rounds: int, tolerance: float
) -> dict[str, Any]:
    """Times of a case, printed as a table."""
    with workers_of(script, [e for e in engines if not e.skips(case)], threads) as workers:
        runs = harness.compare(workers, case, rounds, tolerance)
        facts = {w.engine.name: w.ask("facts") for w in workers}
    seconds = {name: statistics.median(times) for name, times in runs.items()}
    ours = seconds.get("minigrad")
    peers = {n: s for n, s in seconds.items() if not n.startswith("minigrad")}
    how = f", {case['optimizer']}" if "optimizer" in case else ""
    print(f"\n{case['label']}: batch {case['batch']}{how}, {threads} thread(s)")
    print(f"  {'':<15}{'us':>11}{'ratio':>8}{'target':>8}{'compile ms':>12}{'peak MB':>9}")
    for name, value in seconds.items():
        ratio = f"{value / ours:>8.2f}" if ours else f"{'':>8}"
        target = case["target"].get(name) or (
            case["target"].get("best") if peers and value == min(peers.values()) else None
        )
        note = f"{target:>8.1f}" if target and ours else f"{'':>8}"
        met = "" if not target or not ours else "  met" if value / ours >= target else "  missed"
        fact = facts[name]
        compiled = f"{1e3 * fact['compile']:>12.0f}" if "compile" in fact else f"{'':>12}"
        peak = fact["peak memory"] / 2**20
        print(f"  {name:<15}{1e6 * value:>11.1f}{ratio}{note}{compiled}{peak:>9.0f}{met}")
    plan = facts.get("minigrad", {})
    if "arena" in plan:
        print(
            f"  planned memory {plan['arena'] / 2**20:.2f} MB of {plan['side by side'] / 2**20:.2f} MB side "
            f"by side ({plan['arena'] / max(plan['side by side'], 1):.0%})"
        )
    sys.stdout.flush()
    ratio = min(peers.values()) / ours if peers and ours else math.nan
    return {
        "case": case,
        "threads": threads,
        "seconds": seconds,
        "rounds": runs,
        "facts": facts,
        "ratio": ratio,
    }


def main(
    script: str, engines: list[Any], cases: list[harness.Case], description: str, tolerance: float
) -> None:
    """Run the cases that are asked for, each with processes of its own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    labels, names = [c["label"] for c in cases], [e.name for e in engines]
    parser.add_argument("--case", nargs="+", default=labels, help=f"of {', '.join(labels)} (all)")
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose label contains one of these")
    parser.add_argument("--engine", nargs="+", default=names, help=f"of {', '.join(names)} (all)")
    parser.add_argument("--threads", type=harness.positive, nargs="+", default=[1, 2], help="(1 2)")
    parser.add_argument("--rounds", type=harness.positive, default=15, help="of each engine (%(default)s)")
    parser.add_argument(
        "--check", type=harness.positive, default=BATCHES, help="losses that are compared (20)"
    )
    parser.add_argument("--tensorflow", metavar="PYTHON", help="an interpreter that has TensorFlow")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--resume", action="store_true", help="measure only what FILE does not have yet")
    parser.add_argument("--show", metavar="FILE", help="print the table of a file of --json, run nothing")
    parser.add_argument("--plot", metavar="FILE", help="draw ratios to the best peer into FILE (SVG)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tensorflow:
        TensorFlow.python = options.tensorflow
    if options.worker:
        harness.serve(next(e for e in engines if e.name == options.worker), options.threads[0])
        return
    unknown = ({*options.case} - {*labels}) | ({*options.engine} - {*names})
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    harness.draws(parser, options.plot)
    if options.resume and not options.json:
        parser.error("--resume needs --json FILE, the file to go on with")
    wanted = [c for c in cases if c["label"] in options.case and any(w in c["label"] for w in options.only)]
    if not wanted:
        parser.error(f"no case is called {' or '.join(options.only)}: {', '.join(labels)}")
    report: dict[str, Any] = {"machine": harness.machine(), "runs": []}
    if options.show or (options.resume and Path(options.json).is_file()):
        report = harness.kept(parser, options.show or options.json)
    print(harness.header(report["machine"]))
    rows = report["runs"]
    if options.show:
        harness.show(_by_threads(rows))
    else:
        have = [(row["case"]["label"], row["threads"]) for row in rows]
        chosen = [e for e in engines if e.name in options.engine]
        for case in wanted:
            for threads in options.threads:
                if (case["label"], threads) in have:
                    continue
                given = case | {"check": options.check}
                rows.append(measure(script, given, chosen, threads, options.rounds, tolerance))
                if options.json:  # after each case: what was measured stays if the rest is cut short
                    Path(options.json).write_text(json.dumps(report, indent=1))
    if options.plot:
        Path(options.plot).write_text(harness.picture(Path(script).stem, _by_threads(rows)))


def _by_threads(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as `harness.show` and `harness.picture` take them."""
    threads = sorted({row["threads"] for row in rows})
    return [{"threads": n, "rows": [row for row in rows if row["threads"] == n]} for n in threads]


if __name__ == "__main__":
    main(__file__, ENGINES, CASES, __doc__ or "", TOLERANCE)
