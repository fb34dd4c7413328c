"""Handwritten digits on several processes, each with a part of the model.

    python examples/digits_model_parallel.py [--ranks 2] [--how tensor|pipeline|both] [--epochs 10]

tensor: every layer is cut, and all ranks work on the same batch.  pipeline: each rank has some of the
layers, and batches come in micro-batches.  both: copies of a model that is cut in two, for 4 ranks or
more; every rank has one half of the layers' columns and rows, and a part of each batch.

Whatever the way and the number of ranks, it is the same training: the accuracy on 359 digits stays."""

from __future__ import annotations

import argparse

import numpy as np

import minigrad as mg
from minigrad import distributed as dist
from minigrad import nn, optim


def pixels(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 64) between 0 and 1, and labels (n,)."""
    images, labels = mg.data.load_digits(part)
    return (images.reshape(-1, 64) / 16).astype(np.float32), labels


def batches(epochs: int, size: int) -> list[np.ndarray]:
    """Indices of the examples of each step; the same on all ranks."""
    count, rng = len(pixels("train")[0]), np.random.default_rng(0)
    orders = [rng.permutation(count) for _ in range(epochs)]
    return [order[k : k + size] for order in orders for k in range(0, count, size)]


def model() -> nn.Sequential:
    """Four layers."""
    return nn.Sequential(
        *(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()),
        *(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def tensor(epochs: int, size: int, copies: bool) -> float:
    """Each rank has columns of one layer and rows of the next; with `copies`, there are several of that."""
    world = dist.get_world_size()
    mesh = dist.init_device_mesh(
        "cpu", (world // 2, 2) if copies else (1, world), mesh_dim_names=("data", "model")
    )
    plan = {"[04]": dist.ColwiseParallel(), "[26]": dist.RowwiseParallel()}
    cut = dist.parallelize_module(model(), mesh["model"], plan)
    net = dist.DistributedDataParallel(cut, process_group=mesh.get_group("data"))
    optimizer = optim.AdamW(net.parameters(), lr=2e-3)

    @mg.compile
    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    x, y = pixels("train")
    for chosen in batches(epochs, size):
        mine = np.array_split(chosen, mesh.size("data"))[mesh.get_local_rank("data")]
        step(mg.tensor(x[mine]), mg.tensor(y[mine]))
    x, y = pixels("test")
    with mg.no_grad():
        return float((net.eval()(mg.tensor(x)).argmax(1).numpy() == y).mean())


def pipeline(epochs: int, size: int) -> float:
    """Each rank has some of the layers, as many as cost the same."""
    rank, world = dist.get_rank(), dist.get_world_size()
    stages = dist.split_module(model(), world, example=np.zeros((size // 4, 64), np.float32))
    stage = dist.PipelineStage(stages[rank], rank, world)
    schedule = dist.Schedule1F1B(stage, 4, nn.functional.cross_entropy if stage.is_last else None)
    optimizer = optim.AdamW(stages[rank].parameters(), lr=2e-3)
    x, y = pixels("train")
    for chosen in batches(epochs, size):
        optimizer.zero_grad()
        given = (mg.tensor(x[chosen]),) if stage.is_first else ()
        schedule.step(*given, target=mg.tensor(y[chosen]) if stage.is_last else None)
        optimizer.step()
    x, y = pixels("test")
    shown = schedule.eval(*((mg.tensor(x),) if stage.is_first else ()))
    right = mg.tensor([float((shown.argmax(1).numpy() == y).mean()) if stage.is_last else 0.0])
    return dist.broadcast(right, world - 1).item()


def main() -> None:
    """Start the ranks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--how", choices=("tensor", "pipeline", "both"), default="tensor")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    if options.how == "pipeline":
        results = dist.run(pipeline, options.ranks, (options.epochs, options.batch), seed=0)
    else:
        copies = options.how == "both"
        results = dist.run(tensor, options.ranks, (options.epochs, options.batch, copies), seed=0)
    assert len(set(results)) == 1, "all ranks know the same accuracy"
    print(f"{options.how} parallel on {options.ranks} ranks: accuracy {results[0]:.1%}")


if __name__ == "__main__":
    main()
