"""A network that has learned the digits 0 to 4, carried to 5 to 9, of which there are only a few images.

    python examples/transfer_digits.py [--seeds 5] [--shots 2 5 20]

For a few images of each new digit, five ways, each for the same number of steps:

    from scratch        the same network, nothing carried over
    head alone          all layers stay, a new last layer learns on their features, computed once
    rates by depth      everything learns, each layer at half the rate of the next (Howard & Ruder 2018)
    gradual             one more layer let go every fifth of the run (the same)
    low-rank adapters   rank 2 beside each frozen layer, and the new head (Hu et al. 2021)

Percent of the test images of 5 to 9 read right, mean over seeds (of network and choice of images), and the
share of parameters that learn.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from compress import digits, network

import minigrad as mg
from minigrad import data, nn, transfer
from minigrad.training import Trainer

WIDTHS, STEPS = (16, 16, 32), 200


def fit(
    model: nn.Module, groups: list[dict], x: mg.Tensor, y: mg.Tensor, steps: int = STEPS, **how: object
) -> None:
    """So many steps on batches of up to 64."""
    rule = mg.optim.AdamW(groups, lr=0.005, weight_decay=0.01)
    loader = data.DataLoader(data.TensorDataset(x, y), min(64, len(x)), shuffle=True, drop_last=True)
    model.train()
    Trainer(model, rule, nn.functional.cross_entropy, **how).fit(loader, steps // len(loader), verbose=0)


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


def ways(seed: int, shots: int) -> dict[str, tuple[float, float]]:
    """For each way: percent read right, and the percentage of parameters that learn."""
    mg.manual_seed(seed)
    source = network(WIDTHS)
    fit(source, transfer.parameter_groups(source, 0.005), *some("train", range(5)), steps=600)
    x, y = some("train", range(5, 10), shots, seed)
    found = {}

    def prepared(carried: bool = True) -> nn.Sequential:
        mg.manual_seed(seed + 100)
        model = network(WIDTHS)
        if carried:
            transfer.load_partial(model, source.state_dict())
        transfer.replace_head(model, 5)
        return model

    def note(name: str, model: nn.Module, learned: int) -> None:
        total = sum(p.numel() for p in model.parameters())
        found[name] = (right(model), 100.0 * learned / total)

    def learning(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    model = prepared(carried=False)
    fit(model, transfer.parameter_groups(model, 0.005), x, y)
    note("from scratch", model, learning(model))
    model = prepared()
    features, head = transfer.extract(model, x, "11"), model[13]
    fit(head, [{"params": list(head.parameters()), "lr": 0.02}], features, y)
    note("head alone", model, learning(head))
    model = prepared()
    fit(model, transfer.parameter_groups(model, 0.01, decay=0.5), x, y)
    note("rates by depth", model, learning(model))
    model = prepared()
    epochs = STEPS // max(1, len(x) // min(64, len(x)))
    gradual = transfer.GradualUnfreezing(every=max(1, epochs // 5))
    fit(model, transfer.parameter_groups(model, 0.01, decay=0.5), x, y, callbacks=[gradual])
    note("gradual", model, learning(model))
    model = prepared()
    transfer.add_lora(model, "3", "7", rank=2, alpha=4.0)
    transfer.unfreeze(model, "13")
    count = learning(model)
    fit(model, transfer.parameter_groups(model, 0.02), x, y)
    transfer.merge_lora(model)
    note("low-rank adapters", model, count)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Digits: from 0-4 to 5-9.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--shots", type=int, nargs="+", default=[2, 5, 20])
    args = parser.parse_args()
    results = {shots: [ways(seed, shots) for seed in range(args.seeds)] for shots in args.shots}
    heads = "".join(f"{f'{shots} of each':>18}" for shots in args.shots)
    print(f"{'':20}{heads}{'learn':>9}")
    for name in results[args.shots[0]][0]:
        cells = ""
        for shots in args.shots:
            values = [found[name][0] for found in results[shots]]
            cells += f"{np.mean(values):10.1f} +- {np.std(values):4.1f}"
        print(f"{name:20}{cells}{results[args.shots[0]][0][name][1]:8.1f}%")
    return 0


if __name__ == "__main__":
    sys.exit(main())
