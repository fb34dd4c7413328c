"""A network that has learned the digits 0 to 4, carried to 5 to 9, of which there are only a few images.

    python examples/transfer_digits.py [--seeds 10] [--shots 5] [--steps 10 50 200]

Six ways, on five images of each new digit, for so many steps:

    from scratch        the same network, nothing carried over
    head alone          all layers stay, a new last layer learns on their features, computed once
    all of it           everything learns from where it was
    rates by depth      each layer at half the rate of the next (Howard & Ruder 2018)
    gradual             one more layer let go every fifth of the run (the same)
    low-rank adapters   rank 2 beside the frozen second and third layer, and the new head (Hu et al. 2021)

Percent of the test images of 5 to 9 read right, mean over seeds (of network and choice of images), and the
share of parameters that learn. What is carried over here is time: 8x8 pixels are so easy that training from
scratch catches up after a while.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from compress import digits, network

import minigrad as mg
from minigrad import data, nn, transfer
from minigrad.data import augmentation as aug
from minigrad.training import Trainer

WIDTHS = (16, 16, 32)


def fit(
    model: nn.Module, groups: list[dict], x: mg.Tensor, y: mg.Tensor, steps: int, **how: object
) -> nn.Module:
    """So many steps on batches of up to 64."""
    rule = mg.optim.AdamW(groups, lr=0.005, weight_decay=0.01)
    loader = data.DataLoader(data.TensorDataset(x, y), min(64, len(x)), shuffle=True, drop_last=True)
    model.train()
    Trainer(model, rule, nn.functional.cross_entropy, **how).fit(loader, steps // len(loader), verbose=0)
    return model


def source(seed: int) -> nn.Sequential:
    """The network that reads 0 to 4."""
    mg.manual_seed(seed)
    model = network(WIDTHS, 0.3)
    affine = aug.RandomAffine(degrees=12, translate=(0.1, 0.1), scale=(0.88, 1.12), shear=10)
    pairs = data.Augmented(data.TensorDataset(*some("train", range(5))), affine, seed=seed)
    loader = data.DataLoader(pairs, 64, shuffle=True, drop_last=True)
    rule = mg.optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.02)
    Trainer(model, rule, nn.functional.cross_entropy).fit(loader, 30, verbose=0)
    return model


def some(part: str, chosen: range, shots: int | None = None, seed: int = 0) -> tuple[mg.Tensor, mg.Tensor]:
    """Images of some digits, labelled from 0; shots: so many of each, drawn at random."""
    x, y = (t.numpy() for t in digits(part).tensors)
    rng = np.random.default_rng(seed)
    places = [rng.permutation(np.flatnonzero(y == d))[:shots] for d in chosen]
    index = np.concatenate(places)
    return mg.tensor(x[index]), mg.tensor(y[index] - chosen[0])


def right(model: nn.Module) -> float:
    x, y = some("test", range(5, 10))
    with mg.no_grad():
        return 100.0 * (model.eval()(x).argmax(1) == y).float().mean().item()


def learning(model: nn.Module) -> float:
    """The percentage of parameters that learn."""
    counts = [(p.numel(), p.numel() * p.requires_grad) for p in model.parameters()]
    return 100.0 * sum(b for _, b in counts) / sum(a for a, _ in counts)


def ways(known: nn.Sequential, seed: int, shots: int, steps: int) -> dict[str, tuple[float, float]]:
    """For each way: percent read right, and the percentage of parameters that learn."""
    x, y = some("train", range(5, 10), shots, seed)
    found = {}

    def prepared(carried: bool = True) -> nn.Sequential:
        mg.manual_seed(seed + 100)
        model = network(WIDTHS)
        if carried:
            transfer.load_partial(model, known.state_dict())
        transfer.replace_head(model, 5)
        return model

    def whole(name: str, model: nn.Module, lr: float, decay: float = 1.0, **how: object) -> None:
        share = learning(model)
        fit(model, transfer.parameter_groups(model, lr, decay), x, y, steps, **how)
        found[name] = (right(model), share)

    whole("from scratch", prepared(carried=False), 0.02)
    model = prepared()
    features, head = transfer.extract(model, x, "11"), model[13]
    transfer.freeze(model)
    transfer.unfreeze(model, "13")
    fit(head, [{"params": list(head.parameters()), "lr": 0.02}], features, y, steps)
    found["head alone"] = (right(model), learning(model))
    whole("all of it", prepared(), 0.005)
    whole("rates by depth", prepared(), 0.02, 0.5)
    gradual = transfer.GradualUnfreezing(every=max(1, steps // 5))
    whole("gradual", prepared(), 0.02, 0.5, callbacks=[gradual])
    model = prepared()
    transfer.add_lora(model, "3", "7", rank=2, alpha=4.0)
    transfer.unfreeze(model, "13")
    whole("low-rank adapters", model, 0.02)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Digits: from 0-4 to 5-9.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 50, 200])
    args = parser.parse_args()
    results: dict[int, list[dict[str, tuple[float, float]]]] = {steps: [] for steps in args.steps}
    for seed in range(args.seeds):
        known = source(seed)
        for steps in args.steps:
            results[steps].append(ways(known, seed, args.shots, steps))
    first = results[args.steps[0]][0]
    heads = "".join(f"{f'{steps} steps':>16}" for steps in args.steps)
    print(f"{args.shots} images of each digit, {args.seeds} seeds: percent of the 5 to 9 of the test set")
    print(f"{'':20}{heads}{'learn':>9}")
    for name in first:
        cells = ""
        for steps in args.steps:
            values = [found[name][0] for found in results[steps]]
            cells += f"{np.mean(values):8.1f} +- {np.std(values):4.1f}"
        print(f"{name:20}{cells}{first[name][1]:8.1f}%")
    return 0


if __name__ == "__main__":
    sys.exit(main())
