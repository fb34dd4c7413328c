"""Eight bits on the digits and on Cora: how much accuracy they cost, and how small the files are.

    python examples/digits_int8.py [--seeds 5] [--epochs 30] [--cora cora.npz]

Trains the network of digits_cnn.py in floats and makes three eight-bit models of it: dynamic (linear layers
only), static (calibrated on 256 training images), and one that was trained for a few more epochs with
rounding in view. With --cora, a graph convolutional network on Cora, static. Prints accuracies, sizes of
files, and for the first seed the report of every layer, with this machine's times.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import digits_cnn
import numpy as np

import minigrad as mg
from minigrad import data, nn, optim, quantization

F = nn.functional


def aware(model: nn.Module, seed: int, epochs: int, calibration: mg.Tensor) -> quantization.QuantizedModel:
    """The model trained on with fake quantization, then converted.

    The ranges follow the first half, then they and the batch norms are frozen. The weights are averaged over
    the second half: single steps with a small batch would be a lottery of one or two test images.
    """
    mg.manual_seed(seed)
    images, y = digits_cnn.digits("train")
    x = digits_cnn.shifts(images)
    teacher = model.eval()
    student = quantization.prepare_qat(model).train()
    student.freeze_norms()
    optimizer = optim.SGD(student.parameters(), lr=0.0001, momentum=0.9)
    mean = optim.AveragedModel(student)

    def step(x: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        with mg.no_grad():
            wanted = teacher(x)
        loss = F.mse_loss(student(x), wanted)  # what the float model says, not only who is right
        loss.backward()
        optimizer.step()
        return loss.detach()

    compiled = mg.compile(step)
    half = max(epochs // 2, 1)
    for epoch in range(epochs):
        if epoch == half:
            student.freeze_observers()
            compiled = mg.compile(step)
        for i in mg.randperm(len(y)).split(64):
            if len(i) == 64:
                shift = mg.where(mg.rand(64) < 0.5, mg.randint(0, 9, (64,)), 4)
                compiled(x[shift, i])
        if epoch >= min(half, epochs - 1):
            mean.update_parameters(student)
    return quantization.convert(mean.module, [calibration], measure=False)


def size(model: nn.Module) -> int:
    """Bytes of the file with the weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weights.safetensors")
        if isinstance(model, quantization.QuantizedModel):
            model.save(path)
        else:
            mg.checkpoint.save(path, dict(model.state_dict()))
        return os.path.getsize(path)


class GCN(nn.Module):
    """Two graph convolutions on one graph."""

    def __init__(self, edges: mg.Tensor, features: int, classes: int, hidden: int = 16) -> None:
        super().__init__()
        self.edges = edges
        self.first = nn.GCNConv(features, hidden, bias=False)
        self.second = nn.GCNConv(hidden, classes, bias=False)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        """Scores of all nodes."""
        x = F.relu(self.first(F.dropout(x, 0.5, self.training), self.edges))
        return self.second(F.dropout(x, 0.5, self.training), self.edges)


def cora(path: str, seed: int, epochs: int = 200) -> tuple[float, float, float]:
    """Test accuracy in percent in floats and in eight bits, and the ratio of the files."""
    mg.manual_seed(seed)
    graph = data.load_graph(path)
    x = graph.x.normalize_rows().to_dense()
    model = GCN(graph.edge_index, x.shape[1], graph.num_classes)
    weights = [model.first.lin.weight, model.second.lin.weight]
    optimizer = optim.Adam([{"params": weights[:1], "weight_decay": 5e-4}, {"params": weights[1:]}], lr=0.01)
    nodes = {k: mg.tensor(np.flatnonzero(getattr(graph, f"{k}_mask").numpy())) for k in ("train", "test")}

    @mg.compile
    def step() -> mg.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x)[nodes["train"]], graph.y[nodes["train"]])
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(epochs):
        step()
    small = quantization.quantize_static(model, [x], measure=False)

    def accuracy(model: nn.Module) -> float:
        with mg.no_grad():
            guess = model.eval()(x).argmax(1)
        return 100 * float((guess == graph.y)[nodes["test"]].float().mean().item())

    return accuracy(model), accuracy(small), size(small) / size(model)


def main() -> None:
    """Train, quantize, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--qat-epochs", type=int, default=6)
    parser.add_argument("--cora", help="an .npz file (see minigrad.data.load_graph)")
    options = parser.parse_args()
    images = mg.tensor(digits_cnn.digits("train")[0][:256])
    rows = []
    for seed in range(options.seeds):
        model = digits_cnn.fit(seed, max(options.epochs, 3))
        static = quantization.quantize_static(model, [images], measure=False)
        dynamic = quantization.quantize_dynamic(model, example=images, measure=False)
        trained = aware(model, seed, options.qat_epochs, images)
        rows.append([100 * digits_cnn.accuracy(m) for m in (model, dynamic, static, trained)])
        print(f"seed {seed}: " + "  ".join(f"{a:.2f}" for a in rows[-1]), flush=True)
        if not seed:
            print(static.report(images[:64]))
            print(f"file: {size(static)} bytes, {size(static) / size(model):.1%} of {size(model)}")
    mean = np.mean(rows, axis=0)
    names = ("float", "dynamic", "static", "trained")
    found = "  ".join(f"{name} {a:.2f} %" for name, a in zip(names, mean, strict=True))
    print(f"mean of {len(rows)} seeds: {found}")
    if options.cora:
        runs = np.array([cora(options.cora, seed) for seed in range(options.seeds)])
        before, after, ratio = runs.mean(axis=0)
        print(f"Cora: float {before:.2f} %, static {after:.2f} %, file {ratio:.1%}")


if __name__ == "__main__":
    main()
