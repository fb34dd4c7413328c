"""The loop: a student learns from labels, from a teacher's scores, and from layers inside it.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> _ = mg.manual_seed(0)
    >>> x = mg.randn(256, 8)
    >>> y = (x[:, :2].sum(1) > 0).long()
    >>> teacher = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    >>> student = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> adam = mg.optim.Adam(teacher.parameters(), lr=0.01)
    >>> for _ in range(100):
    ...     adam.zero_grad()
    ...     nn.functional.cross_entropy(teacher(x), y).backward()
    ...     adam.step()
    >>> history = distill(teacher, student, (x, y), epochs=40, lr=0.02, temperature=2.0)
    >>> bool((student(x).argmax(1) == y).float().mean() > 0.95)
    True

A step (forward passes of both networks, backward through the student, the update) is captured as one
program.  The teacher runs in evaluation mode and gets no gradients; its weights are state of that
program, so a teacher that changes (an average of the student, say) is seen.

Layers inside are matched by `Match(student="0", teacher="2", kind="hint")`.  Where a hint's shapes
differ, an adapter is learned along: a 1x1 convolution from the student's channels to the teacher's (a
linear layer for features (n, c)), after the larger image is averaged down to the size of the smaller.
FitNets trains the hint first, alone, and the rest afterwards: `distill(..., hint_epochs=5)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..autograd import no_grad
from ..data import DataLoader, Dataset, TensorDataset
from ..errors import ArgumentError, DTypeError, ShapeError
from ..nn import Conv1d, Conv2d, Identity, Linear, Module, ModuleList
from ..nn.features import Features
from ..nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, cross_entropy
from ..ops.creation import tensor
from ..optim import AdamW
from ..tensor import Tensor
from ..training import Trainer
from .losses import (
    attention_transfer_loss,
    hint_loss,
    relational_angle_loss,
    relational_distance_loss,
    soft_target_loss,
)
from .teachers import cache_outputs

Setting = float | Callable[[float], float]

#: kind of match -> its loss
_KINDS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hint": hint_loss,
    "attention": attention_transfer_loss,
    "distance": relational_distance_loss,
    "angle": relational_angle_loss,
}


@dataclass(frozen=True)
class Match:
    """A module of the student (by name) that shall be like one of the teacher's.

    kind: "hint" (values, through an adapter where shapes differ), "attention" (places), "distance" or
    "angle" (relations between the examples of a batch).  weight: how much it counts.
    """

    student: str
    teacher: str
    kind: str = "hint"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ArgumentError("Match", f"kind is {self.kind!r}", fix=f"use one of {', '.join(_KINDS)}")


class _Adapter(Module):
    """From the student's features to the shape of the teacher's."""

    def __init__(self, student: Tensor, teacher: Tensor, name: str) -> None:
        super().__init__()
        if student.ndim != teacher.ndim or not 2 <= student.ndim <= 4:
            raise ShapeError(
                "Match",
                f"a hint from {name}: the student gives {student.shape}, the teacher {teacher.shape}",
                fix="match layers with the same number of dimensions: (n, c), (n, c, l) or (n, c, h, w)",
            )
        c, d = student.shape[1], teacher.shape[1]
        layer = {2: Linear, 3: Conv1d, 4: Conv2d}[student.ndim]
        self.map: Module = Identity() if c == d else layer(c, d, *(() if student.ndim == 2 else (1,)))
        self.size = tuple(map(min, student.shape[2:], teacher.shape[2:]))

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both, in one shape."""
        return self.map(_resized(student, self.size)), _resized(teacher, self.size)


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if x.shape[2:] == size:
        return x
    return adaptive_avg_pool2d(x, size) if len(size) == 2 else adaptive_avg_pool1d(x, size[0])


class Distiller(Trainer):
    """A `Trainer` of `student` that is also told what `teacher` thinks.

    teacher: a module, an `Ensemble`, or None if the batches hold its scores, (x, scores, y), as those of
    `cache_outputs` do.  loss: of scores and labels.  soft_loss: of student scores, teacher scores and
    temperature.  temperature, alpha: numbers, or functions of the share of the run that is done (`Linear`,
    `Cosine`); alpha is the share of the soft loss, 1 - alpha that of the labels.  matches: layers that
    shall be alike; their adapters are made for `example`, some inputs, and are a group of their own in the
    optimizer.  Everything else is as in `Trainer`.

    Raises ShapeError if teacher and student disagree in classes, ArgumentError for settings out of range
    and names that the models do not have.
    """

    def __init__(
        self,
        teacher: Module | None,
        student: Module,
        optimizer: Any,
        loss: Callable[[Any, Any], Tensor] = cross_entropy,
        *,
        soft_loss: Callable[[Tensor, Tensor, Any], Tensor] = soft_target_loss,
        temperature: Setting = 4.0,
        alpha: Setting = 0.9,
        matches: Sequence[Match] = (),
        example: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__(student, optimizer, loss, **settings)
        self.capture = bool(settings.get("capture", True))
        self.teacher, self.soft_loss = teacher, soft_loss
        self.schedules = {"temperature": temperature, "alpha": alpha}
        for name in self.schedules:
            self._setting(name, 0.0)
            self._setting(name, 1.0)
        self.temperature, self.alpha = tensor(4.0), tensor(0.5)
        self.matches = tuple(matches)
        self.steps: int | None = None  # of the whole run, for schedules; `fit` knows
        self.adapters = ModuleList()
        self._inside: tuple[Features, Features] | None = None
        if teacher is not None:
            teacher.eval()
        if self.matches:
            self._connect(example)
        self._schedule()

    def _setting(self, name: str, done: float) -> float:
        given = self.schedules[name]
        value = float(given(done) if callable(given) else given)
        if not (value > 0 if name == "temperature" else 0 <= value <= 1):
            raise ArgumentError(
                "Distiller",
                f"{name} is {value!r}",
                fix="pass a positive number" if name == "temperature" else "pass a share from 0 to 1",
            )
        return value

    def _connect(self, example: Any) -> None:
        """Find the layers that are matched, and make the adapters."""
        if self.teacher is None:
            raise ArgumentError(
                "Distiller", "matches need a teacher to look into", fix="pass the teacher, not cached scores"
            )
        if example is None:
            raise ArgumentError(
                "Distiller", "matches need an example", fix="pass some inputs, such as example=x[:2]"
            )
        inside = (
            Features(self.model, [m.student for m in self.matches]),
            Features(self.teacher, [m.teacher for m in self.matches]),
        )
        training = self.model.training
        self.model.eval()
        inputs = example if isinstance(example, (tuple, list)) else (example,)
        try:
            with no_grad():
                inside[0](*inputs)
                inside[1](*inputs)
        finally:
            self.model.train(training)
        made = []
        for match in self.matches:
            ours, theirs = inside[0][match.student], inside[1][match.teacher]
            if match.kind in ("hint", "attention"):
                adapter = _Adapter(ours, theirs, f"{match.student!r} to {match.teacher!r}")
                if match.kind == "attention":
                    adapter.map = Identity()
                made.append(adapter)
        self.adapters = ModuleList(made)
        learned = list(self.adapters.parameters())
        if learned:
            self.optimizer.add_param_group({"params": learned})
        self._inside = inside

    # -- one step -------------------------------------------------------------------------------------

    def loss_of(self, *batch: Any) -> tuple[Tensor, Any]:
        """The loss of a batch, and the student's scores.

        A batch is (x, ..., y), or without a teacher (x, ..., scores, y).
        """
        *inputs, y = batch
        scores, wanted = self._both(inputs)
        if self.soft_loss is soft_target_loss and scores.shape != wanted.shape:
            raise ShapeError(
                "Distiller",
                f"the student's scores are {scores.shape}, the teacher's {wanted.shape}",
                fix="both must tell the same classes apart; give the student's last layer as many outputs",
            )
        soft = self.soft_loss(scores, wanted, self.temperature)
        total = soft * self.alpha + self.loss(scores, y) * (1.0 - self.alpha)
        return total + self._inner_loss() if self.matches else total, scores

    def matched_loss_of(self, *batch: Any) -> tuple[Tensor, Any]:
        """The loss of the matched layers alone, and the student's scores."""
        scores, _ = self._both(batch[:-1])
        return self._inner_loss(), scores

    def _both(self, inputs: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Scores of the student and of the teacher; their layers are in `_inside` then."""
        if self.teacher is None:
            if len(inputs) < 2:
                raise ArgumentError(
                    "Distiller",
                    f"a batch of {len(inputs) + 1} parts holds no scores of a teacher",
                    fix="pass the teacher, or batches (x, scores, y)",
                )
            *inputs, wanted = inputs
        else:
            with no_grad():
                wanted = (self._inside[1] if self._inside else self.teacher)(*inputs)
        scores = (self._inside[0] if self._inside else self.model)(*inputs)
        if not isinstance(scores, Tensor) or not isinstance(wanted, Tensor):
            raise DTypeError(
                "Distiller",
                f"the student gives a {type(scores).__name__}, the teacher a {type(wanted).__name__}",
                fix="wrap them in modules that return scores",
            )
        return scores, wanted

    def _inner_loss(self) -> Tensor:
        """The weighted sum over matched layers."""
        if self._inside is None:
            raise ArgumentError("Distiller", "no layers are matched", fix="pass matches=[Match(...)]")
        student, teacher = self._inside
        adapters = iter(self.adapters)
        losses = []
        for match in self.matches:
            ours, theirs = student[match.student], teacher[match.teacher].detach()
            if match.kind in ("hint", "attention"):
                ours, theirs = next(adapters)(ours, theirs)
            losses.append(_KINDS[match.kind](ours, theirs) * match.weight)
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total

    def train_step(self, batch: Any, nothing: bool = False) -> dict[str, float]:
        """One step; temperature and alpha are those of this point of the run."""
        self._schedule()
        return super().train_step(batch, nothing)

    def _schedule(self) -> None:
        done = min(self.step / max(self.steps - 1, 1), 1.0) if self.steps else 0.0
        for name, value in (("temperature", self.temperature), ("alpha", self.alpha)):
            value.fill_(self._setting(name, done))

    def fit(self, loader: Any, epochs: int, *args: Any, **kwargs: Any) -> dict[str, list[float]]:
        """As `Trainer.fit`; the student's matched layers are let go of only by `close`."""
        self.steps = len(loader) * epochs
        return super().fit(loader, epochs, *args, **kwargs)

    def fit_matches(self, loader: Any, epochs: int, *, verbose: int = 0) -> dict[str, list[float]]:
        """Train the student up to its matched layers alone, before `fit`: the first stage of FitNets."""
        return _Inside(self).fit(loader, epochs, verbose=verbose)

    def close(self) -> None:
        """Take the hooks off both models."""
        for features in self._inside or ():
            features.close()
        self._inside = None
        self.matches = ()


class _Inside(Trainer):
    """Trains a distiller's student on its matched layers."""

    def __init__(self, distiller: Distiller) -> None:
        super().__init__(distiller.model, distiller.optimizer, distiller.loss, capture=distiller.capture)
        self.distiller = distiller

    def loss_of(self, *batch: Any) -> tuple[Tensor, Any]:
        return self.distiller.matched_loss_of(*batch)


def distill(
    teacher: Module,
    student: Module,
    data: Any,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    optimizer: Any = None,
    temperature: Setting = 4.0,
    alpha: Setting = 0.9,
    matches: Sequence[Match] = (),
    hint_epochs: int = 0,
    cache: str | os.PathLike[str] | None = None,
    validation: Any = None,
    verbose: int = 0,
    **settings: Any,
) -> dict[str, list[float]]:
    """Train `student` on what `teacher` says of `data`; returns the history.

    data: (x, y), arrays or tensors, or a data set or DataLoader of such pairs.  optimizer: of the student's
    parameters; None is AdamW with `lr`.  hint_epochs: so many epochs on `matches` alone first (FitNets).
    cache: a file to keep the teacher's answers in, see `cache_outputs`.  validation: like data, tested
    on after each epoch.  The other settings are those of `Distiller` and `Trainer`.  Both models are in
    evaluation mode afterwards, and the hooks are off.
    """
    loader, example = _loader(data, batch_size, cache, teacher)
    if hint_epochs and not matches:
        raise ArgumentError(
            "distill", "hint_epochs without matches", fix="say which layers: matches=[Match(...)]"
        )
    if cache is not None and matches:
        raise ArgumentError(
            "distill", "a cache holds the teacher's scores, not its layers", fix="leave cache or matches out"
        )
    rule = AdamW(student.parameters(), lr=lr) if optimizer is None else optimizer
    distiller = Distiller(
        None if cache is not None else teacher,
        student,
        rule,
        temperature=temperature,
        alpha=alpha,
        matches=matches,
        example=example,
        **settings,
    )
    tested = None if validation is None else _loader(validation, 256, None, None, shuffle=False)[0]
    try:
        if hint_epochs:
            distiller.fit_matches(loader, hint_epochs, verbose=verbose)
        if cache is not None and tested is not None:
            return _tested_with(distiller, teacher, loader, epochs, tested, verbose)
        return distiller.fit(loader, epochs, tested, verbose=verbose)
    finally:
        distiller.close()


def _tested_with(
    distiller: Distiller, teacher: Module, loader: Any, epochs: int, tested: Any, verbose: int
) -> dict[str, list[float]]:
    """Cached scores to train on; the teacher itself for what is tested on."""
    pairs = [(*b[:-1], _scores(teacher, b[:-1]), b[-1]) for b in tested]
    return distiller.fit(loader, epochs, pairs, verbose=verbose)


def _scores(teacher: Module, inputs: Any) -> Tensor:
    with no_grad():
        found: Tensor = teacher(*inputs)
    return found


def _loader(data: Any, batch_size: int, cache: Any, teacher: Any, shuffle: bool = True) -> tuple[Any, Any]:
    """Batches of the data, and two examples' inputs."""
    if isinstance(data, DataLoader) or (hasattr(data, "__iter__") and not isinstance(data, (tuple, Dataset))):
        if cache is not None:
            raise DTypeError(
                "distill", "a cache needs the data set, not its batches", fix="pass (x, y) or a TensorDataset"
            )
        source = getattr(data, "dataset", None)
        if source is None:
            first = next(iter(data))
            return data, tuple(part[:2] for part in first[:-1])
        return data, _inputs(source)
    pairs = TensorDataset(*data) if isinstance(data, tuple) else data
    example = _inputs(pairs)
    if cache is not None:
        pairs = cache_outputs(teacher, pairs, cache)
    return DataLoader(pairs, batch_size=batch_size, shuffle=shuffle), example


def _inputs(dataset: Any) -> tuple[Tensor, ...]:
    """The inputs of two examples of a data set, as a batch."""
    batch = next(iter(DataLoader(dataset, batch_size=min(2, len(dataset)))))
    return tuple(batch[:-1])
