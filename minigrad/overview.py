"""The whole library as one run on handwritten digits: what each idea gains, measured while it runs.

`minigrad demo` trains one task (1,259 images of 8x8 pixels to learn from, 359 to be tested on) again and
again, each time with one idea more, from the same first weights and in the same order of examples:

===========  ================================================================================
baseline     a small CNN, 30,890 parameters, by gradient descent with one learning rate, eagerly
data         each image is turned, sheared, scaled and shifted a little, anew in every epoch
optimizer    AdamW, one cycle of its learning rate, and an average of the weights to read with
graph        the same step, recorded once by `mg.compile`, rewritten and planned
processes    the same step on two processes: half a batch each, gradients averaged
distilled    a network of 2,776 parameters that learns from what the large one says
int8         the same network in eight bits, weights and activations
===========  ================================================================================

The first three change what is learned, the next two how fast, the last two how much remains:

    w <- w - lr dL/dw                                          gradient descent
    L = alpha T^2 KL(softmax(t/T) || softmax(s/T)) + (1 - alpha) CE(s, y)      distillation
    x ~ scale (q - zero_point),  q in -128 .. 127              eight bits

Four figures are measured for each, in this run and on this machine:

accuracy    the share of the test images that are read right.  One image is 0.28 points: differences of
            one or two of them are chance.
a step      the time from asking for a batch of 64 to the updated weights; and the memory that it needs beside
            weights, gradients and state of the optimizer
one image   the time to read a single image; and the memory of that.  From `graph` on compiled.
weights     the bytes of the state that would be saved

Times are medians, taken when all networks are trained, by turns: a few steps of each stage, then the next few
of each, so that whatever else the machine does meanwhile meets all of them.  Only the two processes are timed
while they train, as they are gone afterwards.

The memory of an eager step is the peak that `tracemalloc` sees, as numpy tells it of every array; that of
a compiled one is the arena of its plan, if it runs in C.  With two processes it is that of each.

Each gain is against the stage before and may be a loss: augmentation costs time, a graph changes nothing
but rounding, two processes pay for talking to each other, which a network this small hardly repays.
Without the C kernels (no compiler at install) the program is interpreted by numpy: then `graph` gains next
to nothing, int8 is small but slow, and fewer epochs are trained by default.

    >>> STAGES
    ('baseline', 'data', 'optimizer', 'graph', 'processes', 'distilled', 'int8')
    >>> gain(Result("a", accuracy=0.975, step=8e-3), Result("b", accuracy=0.99, step=2e-3))
    'accuracy +1.50 points, a step 4.0x faster'

References: Smith & Topin 2018 (one cycle); Loshchilov & Hutter 2019 (AdamW); Hinton, Vinyals & Dean 2015
(distillation); Jacob et al. 2018 (integer arithmetic).  Left out: pruning between the last two stages, and
repeats over seeds (`examples/compress.py` has both).
"""

from __future__ import annotations

import html
import math
import os
import re
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from . import compile as compile_
from . import (
    data,
    distillation,
    distributed,
    draw,
    explain,
    manual_seed,
    minimum,
    nn,
    no_grad,
    optim,
    quantization,
)
from .backends import config
from .checkpoint import atomic
from .compiled import Compiled
from .data.augmentation import RandomAffine
from .errors import ArgumentError, Error
from .mode import current
from .plan import plan, size_text
from .tensor import Tensor

#: Widths of the three convolutions.
LARGE, SMALL = (32, 32, 64), (8, 8, 18)
BATCH = 64
#: Epochs of each stage, with the C kernels and without.
EPOCHS, EPOCHS_NUMPY = 20, 6
#: Distillation: temperature, and the share of the teacher's say.
TEMPERATURE, ALPHA = 4.0, 0.9


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; each stage turns one more of these on."""

    augmented: bool = False
    adaptive: bool = False
    compiled: bool = False
    processes: int = 1


RECIPES: dict[str, Recipe] = {
    "baseline": Recipe(),
    "data": Recipe(augmented=True),
    "optimizer": Recipe(augmented=True, adaptive=True),
    "graph": Recipe(augmented=True, adaptive=True, compiled=True),
    "processes": Recipe(augmented=True, adaptive=True, compiled=True, processes=2),
}
STAGES: tuple[str, ...] = (*RECIPES, "distilled", "int8")

TITLES: dict[str, str] = {
    "baseline": "Baseline",
    "data": "Better data",
    "optimizer": "Better optimizer",
    "graph": "Optimised graph",
    "processes": "Two processes",
    "distilled": "Distilled",
    "int8": "Eight bits",
}

WHAT: dict[str, str] = {
    "baseline": "A CNN of three convolutions, trained by plain gradient descent, operation by operation.",
    "data": "Every epoch sees other variants of each image: turned, sheared, scaled and shifted a little.",
    "optimizer": "AdamW with one cycle of the learning rate; an average of the weights does the reading.",
    "graph": "The same step, recorded once, rewritten and replayed as one program.",
    "processes": "Two processes, half of each batch on either; gradients are averaged as they appear.",
    "distilled": "A network with a tenth of the parameters learns what the large one thinks of each image.",
    "int8": "Weights and activations of the small network in eight bits, ranges from 1,024 training images.",
}


@dataclass
class Result:
    """What a stage came to: seconds, bytes, and shares; None where there is nothing to measure."""

    name: str
    accuracy: float | None = None
    hits: int = 0
    step: float | None = None
    step_memory: int | None = None
    image: float | None = None
    image_memory: int | None = None
    weights: int | None = None
    curve: list[float] = field(default_factory=list)  # loss on the validation images after each epoch
    taken: float = 0.0
    remark: str = ""


@dataclass
class Trained:
    """A network after training, and what was seen on the way."""

    model: nn.Sequential
    curve: list[float]
    seconds: list[float]
    memory: int | None
    step: Callable[..., Tensor]
    batch: tuple[Tensor, ...]
    again: Iterator[None]  # trains on, a step each time


def network(widths: tuple[int, int, int], dropout: float = 0.0) -> nn.Sequential:
    """Images (n, 1, 8, 8) to scores (n, 10)."""
    a, b, c = widths
    return nn.Sequential(
        nn.Conv2d(1, a, 3, padding=1),
        nn.BatchNorm2d(a),
        nn.ReLU(),
        nn.Conv2d(a, b, 3, padding=1),
        nn.BatchNorm2d(b),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(b, c, 3, padding=1),
        nn.BatchNorm2d(c),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * c, 10),
    )


def has_kernels() -> bool:
    """Whether compiled programs run in C, in the memory that was planned for them."""
    return bool(current().backend.name == "c")


def digits(part: str) -> data.TensorDataset:
    """Images (n, 1, 8, 8) of float32 in 0 to 1, and labels (n,)."""
    images, labels = data.load_digits(part)
    return data.TensorDataset((images[:, None] / 16.0).astype(np.float32), labels)


def train(
    recipe: Recipe,
    seed: int,
    epochs: int,
    widths: tuple[int, int, int] = LARGE,
    teacher: nn.Module | None = None,
) -> Trained:
    """Train a network; in a group of processes, this rank's part of it.

    Global batches have the same examples whatever the number of processes: ranks take turns in one order.
    """
    size, rank = distributed.get_world_size(), distributed.get_rank()
    small = widths != LARGE
    manual_seed(seed)
    model = network(widths, 0.0 if small else 0.3)
    manual_seed(1000 + seed + rank)  # dropout: other units on each rank
    net = model if size == 1 else distributed.DistributedDataParallel(model)
    images: data.Dataset = digits("train")
    if recipe.augmented:
        varied = RandomAffine(degrees=12, translate=(0.1, 0.1), scale=(0.88, 1.12), shear=10)
        images = data.Augmented(images, varied, seed=seed)
    sampler = distributed.DistributedSampler(images, seed=seed)
    loader = data.DataLoader(images, BATCH // size, sampler=sampler, drop_last=True)
    average = schedule = None
    rule: optim.Optimizer
    if recipe.adaptive:
        peak = 0.02 if small else 0.006
        rule = optim.AdamW(model.parameters(), lr=peak, weight_decay=0.02)
        schedule = optim.lr_scheduler.OneCycleLR(rule, max_lr=peak, total_steps=max(epochs * len(loader), 1))
        average = optim.AveragedModel(model, avg_fn=_recent, use_buffers=True)
    else:
        rule = optim.SGD(model.parameters(), lr=0.05)
    reader = model if average is None else cast(nn.Sequential, average.module)

    def step(x: Tensor, y: Tensor) -> Tensor:
        rule.zero_grad()
        scores = net(x)
        loss = nn.functional.cross_entropy(scores, y)
        if teacher is not None:
            soft = distillation.soft_target_loss(scores, teacher(x), TEMPERATURE)
            loss = ALPHA * soft + (1 - ALPHA) * loss
        loss.backward()
        rule.step()
        if average is not None:
            average.update_parameters(model)
        return loss.detach()

    run: Any = compile_(step) if recipe.compiled else step
    planned = recipe.compiled and has_kernels()
    tested = digits("validation").tensors
    curve: list[float] = []
    seconds: list[float] = []
    memory: int | None = None
    batch: tuple[Tensor, ...] = next(iter(loader))
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        model.train()
        begin = time.perf_counter()
        for x, y in loader:
            if len(seconds) == 1 and not planned:  # the second step: by now all state exists
                memory = _peak(partial(run, x, y))
            else:
                run(x, y)
            if schedule is not None:
                schedule.step()
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
        reader.eval()
        with no_grad():
            curve.append(float(nn.functional.cross_entropy(reader(tested[0]), tested[1])))
    if planned and epochs:
        model.train()
        memory = _arena(run, *batch)
    reader.eval()

    def on() -> Iterator[None]:
        while True:
            model.train()
            for x, y in loader:
                run(x, y)
                yield

    return Trained(reader, curve, seconds, memory, run, batch, on())


def _recent(average: Tensor, parameter: Tensor, count: Tensor) -> Tensor:
    """A moving average over the last fifty steps, or, at first, over a good part of those there were."""
    done = count.to(average.dtype)
    decay = minimum((1.0 + done) / (10.0 + done), 0.98)
    return average * decay + parameter * (1.0 - decay)


def train_rank(recipe: Recipe, seed: int, epochs: int) -> tuple[dict[str, Any], Any]:
    """What each process does: train, and tell the weights and what was seen."""
    found = train(recipe, seed, epochs)
    state = {name: t.numpy() for name, t in found.model.state_dict().items()}
    return state, (found.curve, found.seconds, found.memory)


def _peak(call: Callable[[], Any]) -> int:
    """Bytes that a call allocates at most at one time, beside what there was before."""
    if tracemalloc.is_tracing():  # somebody else is measuring
        return 0
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        return max(tracemalloc.get_traced_memory()[1] - before, 0)
    finally:
        tracemalloc.stop()


def _arena(compiled: Compiled, *args: Any) -> int:
    return plan(compiled.graph(*args)).peak


def _by_turns(calls: dict[str, Callable[[], Any]], turns: int, patience: float) -> dict[str, float]:
    """Seconds of each call: medians over turns of a few calls each, for `patience` seconds at most.

    The first call of a turn is not counted: it finds the caches as the call before left them.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + patience
    for number in range(turns):
        for name, call in calls.items():
            call()
            for _ in range(4):
                begin = time.perf_counter()
                call()
                taken[name].append(time.perf_counter() - begin)
        if number >= 2 and time.perf_counter() > end:
            break
    return {name: float(np.median(times)) for name, times in taken.items()}


# -- the run ------------------------------------------------------------------------------------------------


class Overview:
    """The stages, one after the other; what each found is in `results`.

    stages: names out of `STAGES`, in any order (they run in theirs).  epochs: of each training, None is what
    suits the kernels.  say: called with each line of the table.  Raises ArgumentError for names that are
    none, and for `distilled` or `int8` without a stage before that trains the network they start from.
    """

    def __init__(
        self,
        *,
        stages: Iterable[str] = STAGES,
        seed: int = 0,
        epochs: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        wanted = list(stages)
        for name in wanted:
            if name not in STAGES:
                raise ArgumentError("demo", f"there is no stage {name!r}", fix=f"use {', '.join(STAGES)}")
        self.stages = [name for name in STAGES if name in wanted]
        if not self.stages or self.stages[0] not in RECIPES:
            problem = f"stage {self.stages[0]!r} has no network to start from" if self.stages else "no stages"
            raise ArgumentError("demo", problem, fix=f"add one of {', '.join(RECIPES)}")
        self.kernels = has_kernels()
        self.epochs = (EPOCHS if self.kernels else EPOCHS_NUMPY) if epochs is None else epochs
        self.seed, self.say = seed, say
        self.results: list[Result] = []
        self.pictures: list[tuple[str, str]] = []  # caption, SVG
        self.passes: tuple[tuple[str, ...], list[tuple[str, ...]]] | None = None  # what `explain` says
        self.model: nn.Module | None = None  # the last one
        self.taken = 0.0
        self.confusion = ""  # how the last network read the test images
        self._steps: dict[str, Callable[[], Any]] = {}  # what is timed in the end
        self._images: dict[str, Callable[[], Any]] = {}
        self.test = digits("test").tensors

    def run(self) -> Overview:
        """All stages; returns itself."""
        begin = time.perf_counter()
        for name in self.stages:
            start = time.perf_counter()
            result = Result(name)
            stage = {"distilled": self._distilled, "int8": self._int8, "processes": self._processes}.get(name)
            if stage is None:
                self._trained(result)
            else:
                stage(result)
            result.taken = time.perf_counter() - start
            self.results.append(result)
            self.say(f"{TITLES[name]:17} {cells(result)[1]:>8} of the test images after {result.taken:.1f} s")
        assert self.model is not None
        with no_grad():
            read = self.model(self.test[0]).argmax(1).numpy()
        self.confusion = confusion(self.test[1].numpy(), read)
        self._timed()
        self.taken = time.perf_counter() - begin
        self.say("")
        self.say(_line(HEAD))
        self.say("-" * len(_line(HEAD)))
        for result in self.results:
            self.say(_line(cells(result)))
        return self

    def _timed(self) -> None:
        """Time all stages by turns."""
        with no_grad():
            images = _by_turns(self._images, 50, 3.0)
        steps = _by_turns(self._steps, 15, 6.0)
        for result in self.results:
            result.image = images.get(result.name)
            result.step = steps.get(result.name, result.step)

    def _trained(self, result: Result) -> None:
        found = train(RECIPES[result.name], self.seed, self.epochs)
        self._told(result, found)
        self._read(result, found.model, RECIPES[result.name].compiled)
        if result.name == "graph":
            self._graphs(result, found)

    def _told(self, result: Result, found: Trained) -> None:
        result.curve, result.step_memory = found.curve, found.memory
        if found.seconds:
            self._steps[result.name] = partial(next, found.again)

    def _read(self, result: Result, model: nn.Module, compiled: bool) -> None:
        """Accuracy on the test images, and what one of them takes."""
        x, y = self.test
        self.model = model
        with no_grad():
            result.hits = int((model(x).argmax(1) == y).sum())
            result.accuracy = result.hits / len(x)
            result.weights = quantization.size(model)
            one = x[:1]
            captured = compile_(model)
            # a quantized model has a compiled program of its own
            call = captured if compiled and not isinstance(model, quantization.QuantizedModel) else model
            call(one)
            planned = compiled and self.kernels
            result.image_memory = _arena(captured, one) if planned else _peak(partial(call, one))
            self._images[result.name] = partial(call, one)

    def _graphs(self, result: Result, found: Trained) -> None:
        """What the passes made of the step: a table and pictures."""
        made = explain(found.step, *found.batch, repeats=10)
        first, last = made.stages[0], made.stages[-1]
        self.passes = made.HEAD, made.rows()
        result.remark = (
            f"{'The passes turn' if self.kernels else 'In C the passes would turn'} "
            f"{len(first.graph.nodes)} operations into {last.steps} loops and calls, which "
            f"move {size_text(last.bytes)} of memory rather than {size_text(first.bytes)}."
        )
        eager = next((r for r in self.results if r.name == "optimizer"), None)
        if eager is not None and eager.curve:
            if eager.curve == result.curve:
                result.remark += " Its losses are those of the eager run, bit for bit."
            else:
                result.remark += (
                    f" After the first epoch the loss is within {abs(eager.curve[0] - result.curve[0]):.0e} "
                    "of the eager one, as sums are rounded in another order; training makes such differences "
                    "larger, so that the accuracy is another draw."
                )
        if not self.kernels:
            result.remark += " Without the C kernels numpy runs it, one operation after the other: no gain."
        images = self.test[0][:BATCH]
        block = found.model[:3]
        with no_grad():
            for stage, caption in ((None, "after the passes, as it runs"), ("trace", "as recorded")):
                self.pictures.insert(
                    0, (f"The first block: {caption}", _plain(draw(block, images, stage=stage)))
                )
        for stage, caption in (("trace", "as recorded"), (last.name, "after the passes, as it runs")):
            self.pictures.append((f"A whole training step: {caption}", _plain(made.picture(stage))))

    def _processes(self, result: Result) -> None:
        recipe = RECIPES["processes"]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if cores < recipe.processes:
            result.remark = "Not run: there is only one processor here."
            return
        try:
            ranks = distributed.run(train_rank, recipe.processes, (recipe, self.seed, self.epochs))
        except (Error, OSError) as error:
            result.remark = f"Not run: {error.problem if isinstance(error, Error) else error}."
            return
        state, (curve, seconds, memory) = ranks[0]
        model = network(LARGE)
        model.load_state_dict(state)
        result.curve, result.step_memory = curve, memory
        result.step = float(np.median(seconds)) if seconds else None
        self._read(result, model.eval(), True)
        same = all(np.array_equal(state[name], other[name]) for other, _ in ranks[1:] for name in state)
        result.remark = (
            f"Both processes end with {'the same' if same else 'DIFFERENT'} weights; each has "
            f"{max(1, cores // recipe.processes)} of {cores} processors, where the stage before had all."
        )

    def _distilled(self, result: Result) -> None:
        recipe, teacher = RECIPES["graph"], self.model
        assert teacher is not None  # the constructor saw to it
        alone = train(recipe, self.seed, self.epochs, SMALL)
        found = train(recipe, self.seed, self.epochs, SMALL, teacher)
        self._read(result, alone.model, True)
        by_itself = result.accuracy
        self._read(result, found.model, True)
        self._told(result, found)
        count, whole = (sum(p.numel() for p in m.parameters()) for m in (found.model, teacher))
        result.remark = (
            f"{count:,} parameters instead of {whole:,}. Trained on the labels alone, as long and from the "
            f"same weights, it reads {100 * (by_itself or 0):.2f} %."
        )

    def _int8(self, result: Result) -> None:
        model = self.model
        assert model is not None
        x = digits("train").tensors[0]
        batches = [x[i : i + 128] for i in range(0, 1024, 128)]
        made = quantization.quantize_static(model, batches, measure=False)
        self._read(result, made, True)
        with no_grad():
            tested = digits("validation").tensors
            result.curve = [float(nn.functional.cross_entropy(made(tested[0]), tested[1]))]
        report = made.report(self.test[0][:BATCH])
        kinds = [row.decision for row in report.rows]
        result.remark = f"{sum(k != 'float' for k in kinds)} of {len(kinds)} layers run in eight bits."
        if report.whole is not None:
            before, after = report.whole
            result.remark += f" A batch of {BATCH} takes {after:.0f} us, {before:.0f} us in floats, in turns."
        if not self.kernels:
            result.remark += " Without the C kernels numpy computes with the integers, which is slow."

    # -- what it came to ----------------------------------------------------------------------------------

    def gains(self) -> list[str]:
        """Of each stage against the one before that ran, in words."""
        found: list[str] = []
        before: Result | None = None
        for result in self.results:
            found.append("" if before is None or result.accuracy is None else gain(before, result))
            before = result if result.accuracy is not None else before
        return found

    def sentences(self) -> list[str]:
        """Of each stage: what it is, what it gained, and what else there is to say."""
        found = []
        for result, gained in zip(self.results, self.gains(), strict=True):
            parts = [
                WHAT[result.name],
                f"Against the stage before: {gained}." if gained else "",
                result.remark,
            ]
            found.append(" ".join(part for part in parts if part))
        return found


def _plain(picture: str) -> str:
    """A drawing without the lines of the program at its boxes: here they are all the one that called us."""
    return re.sub(r'<text[^>]*font-size="9"[^>]*>[^<]*:\d+</text>', "", picture)


def gain(before: Result, after: Result) -> str:
    """What changed, in words; what changed by less than a tenth is left out."""
    words = []
    if before.accuracy is not None and after.accuracy is not None:
        points = 100 * (after.accuracy - before.accuracy)
        words.append("the same accuracy" if not points else f"accuracy {points:+.2f} points")
    for what, name, better, worse in (
        ("a step", "step", "faster", "slower"),
        ("its memory", "step_memory", "less", "more"),
        ("one image", "image", "faster", "slower"),
        ("its memory", "image_memory", "less", "more"),
        ("weights", "weights", "smaller", "larger"),
    ):
        a, b = getattr(before, name), getattr(after, name)
        if a and b and max(a, b) >= 1.1 * min(a, b):
            words.append(f"{what} {max(a, b) / min(a, b):.1f}x {better if b < a else worse}")
    return ", ".join(words)


def confusion(labels: Any, predicted: Any) -> str:
    """A table of how often a digit (row) was read as another (column).

    >>> print(confusion(np.array([0, 1, 1]), np.array([0, 1, 0])).splitlines()[3])
    1       1   1   .   .   .   .   .   .   .   .     1/2
    """
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    lines = ["digit  read as", "     " + "".join(f"{d:>4}" for d in range(10)) + "   right"]
    for digit, row in enumerate(counts):
        shown = "".join(f"{c if c else '.':>4}" for c in row)
        lines.append(f"{digit:<5}{shown}{f'{row[digit]}/{row.sum()}':>8}")
    return "\n".join(lines)


HEAD = ("stage", "accuracy", "a step", "memory", "one image", "memory", "weights", "took")


def cells(result: Result) -> tuple[str, ...]:
    """A row of the table."""
    return (
        TITLES[result.name],
        "-" if result.accuracy is None else f"{100 * result.accuracy:.2f} %",
        _time(result.step),
        _bytes(result.step_memory),
        _time(result.image),
        _bytes(result.image_memory),
        _bytes(result.weights),
        f"{result.taken:.1f} s",
    )


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1e3 * seconds:.2f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} us"


def _bytes(count: int | None) -> str:
    return "-" if count is None else size_text(count)


def _line(row: Sequence[str]) -> str:
    first, *rest = row
    return f"{first:17}" + "".join(f"{c:>11}" for c in rest)


# -- the report ---------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark;
  --paper: #fcfcfb; --ink: #1d1d1b; --soft: #6b6b66; --line: #dcdcd6; --s0: #8a8a85; --s1: #1baf7a;
  --s2: #2a78d6; --s3: #b07800; --s4: #7a3fc2; --s5: #e0467c; --s6: #e34948; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #191918; --ink: #ecece8; --soft: #a3a39c; --line: #3a3a37; --s0: #a3a39c; --s1: #2fd49a;
  --s2: #5b9ff0; --s3: #e8b13c; --s4: #b08bf0; --s5: #f07ba4; --s6: #ff7a70; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; }
.soft, figcaption, summary { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: .9rem; }
th:first-child, td:first-child, .passes th:last-child, .passes td:last-child { text-align: left; }
.passes { font-size: .85rem; }
.passes td:last-child { white-space: normal; }
dt { font-weight: 600; margin-top: .8rem; }
dd { margin: 0; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .5em; }
.chart { width: 100%; height: auto; }
.chart text { fill: var(--soft); font-size: 12px; }
figure { margin: 0 0 1rem; }
.picture { overflow: auto; max-height: 36rem; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; }
.picture svg { display: block; margin: auto; }
.fits svg { max-width: 100%; height: auto; }
summary { cursor: pointer; margin: .8rem 0; }
pre { overflow-x: auto; }
"""


def chart(results: Sequence[Result]) -> str:
    """Loss on the validation images over epochs, a line for each stage, logarithmic upwards: SVG.

    A stage with one value only (eight bits: nothing is trained) is a dashed line across.
    """
    drawn = [r for r in results if r.curve]
    values = [v for r in drawn for v in r.curve if v > 0 and math.isfinite(v)]
    if not values:
        return ""
    width, height, left, right, top, bottom = 860.0, 340.0, 52.0, 130.0, 14.0, 40.0
    epochs = max(2, *(len(r.curve) for r in drawn))
    low, high = math.log10(min(values)) - 0.05, math.log10(max(values)) + 0.05

    def across(epoch: float) -> float:
        return left + (epoch - 1) / (epochs - 1) * (width - left - right)

    def up(value: float) -> float:
        share = (math.log10(max(value, 1e-12)) - low) / (high - low)
        return height - bottom - share * (height - top - bottom)

    parts = [
        f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="loss curves">'
    ]
    for power in range(math.floor(low), math.ceil(high) + 1):
        for digit in (1, 2, 5):
            value = digit * 10.0**power
            if low <= math.log10(value) <= high:
                parts.append(
                    f'<path d="M{left} {up(value):.1f}H{width - right}" stroke="var(--line)"/>'
                    f'<text x="{left - 8}" y="{up(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
                )
    every = max(1, epochs // 10)
    for epoch in range(every, epochs + 1, every):
        parts.append(
            f'<text x="{across(epoch):.1f}" y="{height - bottom + 18}" text-anchor="middle">{epoch}</text>'
        )
    middle = (left + width - right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{height - 4}" text-anchor="middle">epoch</text>')
    ends: list[tuple[float, Result]] = []
    for r in drawn:
        single = len(r.curve) == 1
        curve = r.curve * epochs if single else r.curve
        points = "L".join(f"{across(k):.1f} {up(v):.1f}" for k, v in enumerate(curve, 1) if math.isfinite(v))
        dashed = ' stroke-dasharray="5 4"' if single else ""
        parts.append(
            f'<path d="M{points}" fill="none" stroke="{_colour(r)}" stroke-width="2" '
            f'stroke-linejoin="round"{dashed}><title>{TITLES[r.name]}</title></path>'
        )
        ends.append((up(curve[-1]), r))
    ends.sort(key=lambda end: end[0])
    places = [y for y, _ in ends]  # labels, 15 apart at least, none below the axis
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + 15)
    floor = height - bottom
    for k in range(len(places) - 1, -1, -1):
        places[k] = min(places[k], floor)
        floor = places[k] - 15
    for y, (end, r) in zip(places, ends, strict=True):
        x = width - right
        parts.append(
            f'<path d="M{x} {end:.1f}L{x + 16} {y:.1f}" stroke="{_colour(r)}" fill="none"/>'
            f'<text x="{x + 20}" y="{y + 4:.1f}" style="fill:{_colour(r)}">{TITLES[r.name]}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def _colour(result: Result) -> str:
    return f"var(--s{STAGES.index(result.name)})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Cells are HTML already."""
    lines = ["<tr>" + "".join(f"<th>{c}</th>" for c in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows]
    return f'<div class="wide"><table class="{kind}">' + "\n".join(lines) + "</table></div>"


def page(overview: Overview) -> str:
    """The report: one file of HTML that needs nothing else, readable in light and dark."""
    rows = []
    for r in overview.results:
        first, *rest = map(html.escape, cells(r))
        rows.append([f'<span class="swatch" style="background:{_colour(r)}"></span>{first}', *rest])
    facts = config()
    about = (
        f"seed {overview.seed}, {overview.epochs} epochs a training, {overview.taken:.0f} s in all; "
        f"backend {facts['backend']}, {facts['isa']}, threads: {facts['threads']}"
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>minigrad on handwritten digits</title><style>{_STYLE}</style></head><body>",
        "<h1>minigrad on handwritten digits</h1>",
        f'<p class="soft">{html.escape(about)}</p>',
        "<h2>What each stage came to</h2>",
        _table(HEAD, rows),
        '<p class="soft">Accuracy on 359 test images (one of them is 0.28 points). A step: a batch of 64, '
        "loading included; one image: reading it; medians by turns of all stages, but for the two processes, "
        "which were timed while they trained. Memory beside weights and "
        "optimizer: the peak that tracemalloc saw for eager stages, the planned arena for programs that run "
        "in C. Weights: bytes of the state.</p>",
        "<h2>Loss on the 179 validation images</h2>",
        chart(overview.results),
        "<h2>The stages</h2><dl>",
    ]
    for r, sentence in zip(overview.results, overview.sentences(), strict=True):
        parts.append(f"<dt>{TITLES[r.name]}</dt><dd>{html.escape(sentence)}</dd>")
    parts.append("</dl>")
    if overview.passes is not None:
        head, found = overview.passes
        parts.append("<h2>What the passes do to a training step</h2>")
        parts.append(_table([*map(html.escape, head)], [[*map(html.escape, row)] for row in found], "passes"))
    if overview.pictures:
        parts.append("<h2>The graph before and after</h2>")
        block, whole = overview.pictures[:2], overview.pictures[2:]
        parts.append(f'<div class="fits">{"".join(_figure(*p) for p in block)}</div>')
        for caption, picture in whole:
            parts.append(
                f"<details><summary>{html.escape(caption)}</summary>{_figure('', picture)}</details>"
            )
    parts.append(f"<h2>How the last network read the digits</h2><pre>{overview.confusion}</pre>")
    return "\n".join([*parts, "</body></html>"])


def _figure(caption: str, picture: str) -> str:
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure>{text}<div class="picture">{picture}</div></figure>'


def check_path(path: str | os.PathLike[str]) -> Path:
    """The path of a report, before minutes are spent on it.

    Raises ArgumentError if no file can be written there.
    """
    target = Path(path)
    folder = target.absolute().parent
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        what = "it is a directory" if target.is_dir() else f"{folder} is no directory that can be written to"
        raise ArgumentError(
            "demo", f"the report {target} cannot be written: {what}", fix="pass --report PATH"
        )
    return target


def save(overview: Overview, path: Path) -> None:
    """Write the report, whole or not at all."""
    with atomic(path) as file:
        file.write(page(overview).encode())


__all__ = [
    "RECIPES",
    "STAGES",
    "Overview",
    "Recipe",
    "Result",
    "Trained",
    "cells",
    "chart",
    "check_path",
    "confusion",
    "digits",
    "gain",
    "network",
    "page",
    "save",
    "train",
    "train_rank",
]
