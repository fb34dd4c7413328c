"""What a teacher's probabilities carry: a class that is never shown, generations, students among themselves.

    python examples/dark_knowledge.py [--seeds 5] [--epochs 25] [--only omitted]

omitted      a student learns from a teacher alone, without labels and without a single image of one digit
             (Hinton et al. 2015, section 3, did this with the 3 of MNIST). It reads that digit all the
             same, once the bias of that output is raised, by a value found on validation images: every
             other class was taught to be likelier than in truth. A student of labels reads none.
generations  born-again networks (Furlanello et al. 2018): each learns from the one before
mutual       two students that learn from labels and from each other (Zhang et al. 2018)

Networks, images and training are those of compress.py; percent of 359 test images read right.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from compress import STUDENT, TEACHER, accuracy, digits, network, train

import minigrad as mg
from minigrad import data, distillation, nn
from minigrad.data import augmentation as aug


def varied(dataset: data.Dataset, seed: int) -> data.DataLoader:
    affine = aug.RandomAffine(degrees=12, translate=(0.1, 0.1), scale=(0.88, 1.12), shear=10)
    return data.DataLoader(data.Augmented(dataset, affine, seed=seed), 64, shuffle=True, drop_last=True)


def scores(model: nn.Module, part: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = digits(part).tensors
    with mg.no_grad():
        return model.eval()(x).numpy(), y.numpy()


def share(found: np.ndarray, labels: np.ndarray) -> float:
    return 100.0 * float((found.argmax(1) == labels).mean())


def omitted(seed: int, epochs: int, digit: int) -> tuple[float, ...]:
    """Percent of the test images of `digit`, and of all, that students read which never saw one."""
    mg.manual_seed(seed)
    teacher = train(network(TEACHER, 0.3), seed, 40, 0.006)
    x, y = digits("train").tensors
    kept = data.TensorDataset(x[y != digit], y[y != digit])
    figures: list[float] = []
    for alpha in (0.0, 1.0):  # labels alone, the teacher alone
        mg.manual_seed(seed)
        student = network(STUDENT)
        rule = mg.optim.AdamW(student.parameters(), lr=0.02, weight_decay=0.02)
        loader = varied(kept, seed)
        distillation.Distiller(
            teacher,
            student,
            rule,
            temperature=4.0,
            alpha=alpha,
            scheduler=mg.optim.lr_scheduler.OneCycleLR(rule, max_lr=0.02, total_steps=epochs * len(loader)),
            schedule_every="step",
        ).fit(loader, epochs, verbose=0)
        found, labels = scores(student, "validation")
        raised = np.zeros(10, np.float32)
        values = np.arange(0.0, 12.1, 0.25)
        raised[digit] = values[int(np.argmax([share(found + v * np.eye(10)[digit], labels) for v in values]))]
        found, labels = scores(student, "test")
        for bias in (np.zeros(10, np.float32), raised):
            mine = labels == digit
            figures += [share(found[mine] + bias, labels[mine]), share(found + bias, labels)]
    return tuple(figures)


def generations(seed: int, epochs: int) -> tuple[float, ...]:
    """Accuracy of a student of labels, of three generations after it, and of all four as an ensemble."""
    mg.manual_seed(seed)
    family: list[nn.Module] = [train(network(STUDENT), seed, epochs, 0.02)]
    for generation in range(1, 4):
        mg.manual_seed(seed + 100 * generation)
        student = network(STUDENT)
        family.append(train(student, seed, epochs, 0.02, family[-1], temperature=2.0, alpha=0.5))
    return (*map(accuracy, family), accuracy(distillation.Ensemble(family).eval()))


def mutual(seed: int, epochs: int) -> tuple[float, ...]:
    """Mean accuracy of two students that learn alone, and of two that learn together."""
    mg.manual_seed(seed)
    alone = [train(network(STUDENT), seed + 50 * k, epochs, 0.02) for k in range(2)]
    mg.manual_seed(seed)
    pair = [network(STUDENT) for _ in range(2)]
    rule = mg.optim.AdamW([p for m in pair for p in m.parameters()], lr=0.02, weight_decay=0.02)
    loader = varied(digits("train"), seed)
    schedule = mg.optim.lr_scheduler.OneCycleLR(rule, max_lr=0.02, total_steps=epochs * len(loader))
    together = distillation.MutualTrainer(pair, rule, scheduler=schedule, schedule_every="step")
    together.fit(loader, epochs, verbose=0)
    return tuple(float(np.mean([accuracy(m.eval()) for m in models])) for models in (alone, pair))


def show(names: list[str], rows: list[tuple[float, ...]]) -> None:
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        print(f"  {name:58}{np.mean(column):7.2f} +- {np.std(column):.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Digits: what a teacher's probabilities carry.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--digit", type=int, default=3)
    parser.add_argument("--only", choices=["omitted", "generations", "mutual"])
    args = parser.parse_args()
    seeds = range(args.seeds)
    if args.only in (None, "omitted"):
        print(f"no image of a {args.digit} in training: percent read right")
        what = [f"of the {args.digit}s", "of all"]
        how = [f"{who}, {bias}" for who in ("labels", "teacher") for bias in ("as it is", "bias raised")]
        show([f"{h}: {w}" for h in how for w in what], [omitted(s, args.epochs, args.digit) for s in seeds])
    if args.only in (None, "generations"):
        print("generations")
        names = ["labels", "first", "second", "third", "all four as one"]
        show(names, [generations(s, args.epochs) for s in seeds])
    if args.only in (None, "mutual"):
        print("two students")
        show(["each alone", "together"], [mutual(s, args.epochs) for s in seeds])
    return 0


if __name__ == "__main__":
    sys.exit(main())
