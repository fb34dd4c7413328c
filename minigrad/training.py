"""A training loop to read, use and take apart: `Trainer`.

    for each epoch, for each batch:
        loss = loss(model(x), y);  backward;  optimizer.step()      one step, captured by mg.compile
        count, call back, perhaps write a checkpoint

    >>> import minigrad as mg
    >>> from minigrad import data, nn
    >>> x = mg.randn(64, 3)
    >>> y = x @ mg.tensor([[1.0], [-2.0], [0.5]])
    >>> loader = data.DataLoader(data.TensorDataset(x, y), batch_size=16, shuffle=True)
    >>> model = nn.Linear(3, 1)
    >>> trainer = Trainer(model, mg.optim.SGD(model.parameters(), lr=0.1), nn.functional.mse_loss)
    >>> history = trainer.fit(loader, epochs=20, verbose=0)
    >>> history["loss"][-1] < 0.01 * history["loss"][0]
    True

There is nothing behind it: a step is `Trainer.train_step`, a batch is what the loader gives, and whatever
is not to one's liking is overridden in a subclass (`loss_of`, `train_step`, `test`) or written by hand.

**Resuming.**  With `directory=` the trainer writes checkpoints that hold everything the next step depends
on: model, optimizer, scheduler, averaged model, the default generator, the loader's position, the sums of
the running epoch, and what is passed as `saved`.  `fit(..., resume=True)` continues from the newest one
that is whole; a run that was killed anywhere and resumed ends with the same bits as one that was not.

**Several processes.**  `fit(..., workers=2)` starts them.  Where they are there already (`mpirun`, or
`minigrad.distributed.run` and `launch`), pass a `DistributedDataParallel` model and a loader with a
`DistributedSampler` to a trainer on each rank: figures are then those of all ranks, rank 0 alone calls back,
prints and writes, and all ranks resume from the file that rank 0 has found, also if they are more or fewer
than those that wrote it.

Left out: several devices, mixed precision.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .autograd import no_grad
from .checkpoint import CheckpointError, Checkpoints, loads
from .checkpoint import load as load_checkpoint
from .compiled import compile
from .errors import AnomalyError, ArgumentError, DTypeError
from .random import get_rng_state, set_rng_state
from .tensor import Tensor, as_array, wrap

#: A figure of outputs and targets, averaged over the examples of an epoch.
Measure = Callable[[Tensor, Any], Any]


class Trainer:
    """Train `model` by `optimizer` on a loss `loss(output, target)`.

    scheduler: a learning-rate schedule, stepped after each epoch, or each step with
    schedule_every="step"; one that watches a figure is given `val_loss` (or `loss`).  averaged: an
    `optim.AveragedModel` of the model, updated after each step (average_every="epoch": each epoch).
    metrics: {name: f(output, target)} giving a mean of a batch.  callbacks: objects with the methods of
    `minigrad.keras.callbacks.Callback`.  saved: {name: anything with state_dict and load_state_dict} that
    goes into checkpoints too, such as preprocessing.  directory: where checkpoints go, every
    `save_every` steps and after each epoch, the last `keep` of them.  clip: largest norm of all
    gradients.  capture: run the step as one compiled program.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        loss: Callable[[Any, Any], Tensor],
        *,
        scheduler: Any = None,
        schedule_every: str = "epoch",
        averaged: Any = None,
        average_every: str = "step",
        metrics: Mapping[str, Measure] | None = None,
        callbacks: Iterable[Any] = (),
        saved: Mapping[str, Any] | None = None,
        directory: str | os.PathLike[str] | None = None,
        save_every: int | None = None,
        keep: int = 3,
        clip: float | None = None,
        capture: bool = True,
    ) -> None:
        for name, value in (("schedule_every", schedule_every), ("average_every", average_every)):
            if value not in ("step", "epoch"):
                raise ArgumentError("Trainer", f"{name} is {value!r}", fix="use 'step' or 'epoch'")
        if save_every is not None and (isinstance(save_every, bool) or save_every < 1 or directory is None):
            raise ArgumentError(
                "Trainer", f"save_every is {save_every!r}", fix="pass at least 1, and a directory to write to"
            )
        for name, thing in (saved or {}).items():
            if not hasattr(thing, "state_dict") or not hasattr(thing, "load_state_dict"):
                raise DTypeError(
                    "Trainer",
                    f"saved[{name!r}] is a {type(thing).__name__} without a state_dict",
                    fix="pass objects with state_dict() and load_state_dict()",
                )
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.scheduler, self.schedule_every = scheduler, schedule_every
        self.averaged, self.average_every = averaged, average_every
        self.metrics = dict(metrics or {})
        self.callbacks = list(callbacks)
        self.saved = dict(saved or {})
        self.checkpoints = None if directory is None else Checkpoints(directory, keep)
        self.save_every, self.clip = save_every, clip
        self.epoch = 0  # finished
        self.step = 0  # finished, in all epochs
        self.stop_training = False
        self.history: dict[str, list[float]] = {}
        self._sums: dict[str, float] = {}  # of the running epoch, over examples
        self._count = 0
        self._capture = bool(capture)
        self._crew: Any = None  # of processes, while these share batches
        self._ranks: Any = None  # the same, or that of a model with copies on other ranks
        self._run: Any = compile(self._update) if capture else self._update

    # -- one step -------------------------------------------------------------------------------------

    def loss_of(self, *batch: Any) -> tuple[Tensor, Any]:
        """The loss of a batch (x, y), a scalar, and the outputs; to be overridden for other batches."""
        x, y = batch
        output = self.model(x)
        return self.loss(output, y), output

    def _update(self, *batch: Any) -> tuple[Tensor, Any]:
        self.optimizer.zero_grad()
        loss, output = self.loss_of(*batch)
        loss.backward()
        return self._updated(loss, output)

    def _update_part(self, *batch: Any, nothing: bool = False) -> tuple[Tensor, Any]:
        """`_update` with a part of a batch; nothing: it counts nothing."""
        crew = self._crew
        self.optimizer.zero_grad()
        with crew.counting(_size(batch), nothing):
            loss, output = self.loss_of(*batch)
            shown = crew.loss(loss)
            loss.backward()
            crew.reducer.average_buffers(self.model)
        return self._updated(shown, output)

    def _updated(self, loss: Tensor, output: Any) -> tuple[Tensor, Any]:
        if self.clip is not None:
            from .nn.clip import clip_grad_norm_

            clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], self.clip)
        self.optimizer.step()
        if self.averaged is not None and self.average_every == "step":
            self.averaged.update_parameters(self.model)
        return loss.detach(), output.detach() if isinstance(output, Tensor) else output

    def train_step(self, batch: Any, nothing: bool = False) -> dict[str, float]:
        """One step on a batch; returns the loss and the metrics.  nothing: see `distributed.crew`.

        Raises AnomalyError for a loss that is NaN or Inf.
        """
        parts = _parts(batch)
        loss, output = self._run(*parts, nothing=True) if nothing else self._run(*parts)
        value = float(loss)
        self.step += 1
        if not math.isfinite(value):
            raise self._not_finite(value, parts)
        if self.scheduler is not None and self.schedule_every == "step":
            self.scheduler.step()
        return {"loss": value, **self._measured(output, parts)}

    def _not_finite(self, loss: float, parts: tuple[Any, ...]) -> AnomalyError:
        where = f"the loss became {loss} in epoch {self.epoch + 1}, step {self.step}"
        for i, part in enumerate(parts):
            array = part._array if isinstance(part, Tensor) else np.zeros(0)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                at = np.argwhere(~np.isfinite(array))[0].tolist()
                return AnomalyError(
                    "Trainer",
                    f"{where}: part {i} of the batch has {array[tuple(at)]} at {at}",
                    fix="remove such examples, or fill them in with data.preprocessing.SimpleImputer",
                )
        return AnomalyError(
            "Trainer", where, fix="lower the learning rate, clip gradients, and scale the inputs to about 1"
        )

    def _measured(self, output: Any, parts: tuple[Any, ...]) -> dict[str, float]:
        with no_grad():
            return {name: float(f(output, parts[-1])) for name, f in self.metrics.items()}

    # -- the loop ---------------------------------------------------------------------------------------

    def fit(
        self,
        loader: Any,
        epochs: int,
        validation: Iterable[Any] | None = None,
        *,
        resume: bool = False,
        verbose: int = 1,
        workers: int = 1,
    ) -> dict[str, list[float]]:
        """Train until `epochs` epochs are finished in all; returns the history.

        workers: processes that share each batch of the loaders (which then must be DataLoaders), of which
        this is the first: it runs the callbacks and writes the checkpoints. The loss must be a mean over
        examples, and so must metrics.

        loader: batches, with a state_dict if the run is to be resumed within an epoch.  validation:
        batches to `test` on after each epoch, as `val_...`.  resume: continue from the newest
        checkpoint, if there is one.  verbose: a line an epoch, or 0.
        """
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
            raise ArgumentError("Trainer.fit", f"epochs is {epochs!r}", fix="pass a non-negative integer")
        if not len(loader):
            raise ArgumentError(
                "Trainer.fit", "the loader has no batches", fix="check how the data is loaded"
            )
        if self.save_every and not hasattr(loader, "state_dict"):
            raise ArgumentError(
                "Trainer.fit",
                f"save_every with a {type(loader).__name__}, which does not know where it is",
                fix="use a DataLoader, or leave save_every out: each epoch is saved",
            )
        if resume:
            self.resume(loader)
        self.stop_training = False
        copies = self._copies()
        if copies is not None and workers != 1:
            raise ArgumentError(
                "Trainer.fit",
                f"workers={workers!r} with a DistributedDataParallel model, whose ranks are there already",
                fix="leave workers out, or pass the bare model in a single process",
            )
        if copies is not None:
            from .distributed.crew import Ranks

            self._ranks = Ranks(self.model, self.optimizer, copies)
            verbose = verbose if self._ranks.first else 0
        self._tell("on_train_begin", {}, epochs, len(loader), verbose)
        try:
            with contextlib.nullcontext() if workers == 1 else self._together(workers, loader, validation):
                while self._another(epochs, copies is not None):
                    self._epoch(loader, epochs, validation, verbose)
            logs = {name: values[-1] for name, values in self.history.items()}
            for callback in self._listeners():
                callback.on_train_end(logs)
            if copies is not None:
                self._ranks.go_on()  # what callbacks have left of the model
        finally:
            if copies is not None:
                self._ranks = None
        self.model.eval()
        return self.history

    def _copies(self) -> Any:
        """The group of the ranks that have copies of the model; None if this is the only one.

        Raises ArgumentError for a directory of checkpoints to which several groups would write."""
        if self._bare() is self.model or self.model.reducer.group.size == 1:
            return None
        engine, world = self.model.reducer.group, sys.modules["minigrad.distributed.group"].group()
        if self.checkpoints is not None and engine.size < world.size:
            raise ArgumentError(
                "Trainer.fit",
                f"a directory for copies on {engine.size} of {world.size} ranks, of which each has a part of "
                "the model",
                fix="write full_state_dict() on rank 0, in a callback or by hand",
            )
        return engine

    def _bare(self) -> Any:
        """The model without the wrapper that averages gradients: what is saved loads into one without."""
        module = sys.modules.get("minigrad.distributed.parallel")  # not imported for those without ranks
        wrapped = module is not None and isinstance(self.model, module.DistributedDataParallel)
        return self.model.module if wrapped else self.model

    def _another(self, epochs: int, ask: bool) -> bool:
        """Whether there is another epoch; ask: the first rank knows, and all have its weights then."""
        another = self.epoch < epochs and not self._stopped()
        return bool(self._ranks.go_on(another)) if ask else another

    def _listeners(self) -> list[Any]:
        """The callbacks, on the rank that calls them."""
        return self.callbacks if self._ranks is None or self._ranks.first else []

    @contextlib.contextmanager
    def _together(self, workers: int, loader: Any, validation: Any) -> Iterator[None]:
        """This process as the first of several (see `distributed.crew`); the others `_follow`."""
        from .distributed.crew import checked_workers
        from .distributed.launching import beside

        for what, given in (("loader", loader), ("validation", validation)):
            if given is not None and not hasattr(given, "share"):
                raise ArgumentError(
                    "Trainer.fit",
                    f"workers with a {what} that is a {type(given).__name__}, whose batches cannot be shared",
                    fix="pass a DataLoader",
                )
        try:
            with beside(_follow, checked_workers(workers), (self, loader, validation)):
                self._join(loader, validation)
                yield
                self._crew.go_on(False)
        finally:
            if self._crew is not None:
                self._crew.close()
            self._crew = self._ranks = loader.share = None
            if validation is not None:
                validation.share = None
            self._run = compile(self._update) if self._capture else self._update

    def _join(self, loader: Any, validation: Any) -> None:
        from .distributed.crew import Crew

        self._crew = self._ranks = crew = Crew(self.model, self.optimizer)
        for given in (loader, validation):
            if given is not None:
                given.share = (crew.group.rank, crew.group.size)
        self._run = compile(self._update_part) if self._capture else self._update_part

    def __getstate__(self) -> dict[str, Any]:
        """For another process: everything but what only the first one does."""
        return {
            **self.__dict__,
            "_run": None,
            "_crew": None,
            "_ranks": None,
            "callbacks": [],
            "checkpoints": None,
        }

    def _begun(self, loader: Any) -> Iterator[tuple[Any, bool]]:
        """The batches of a pass, this process's part of each, and whether that counts nothing."""
        if self._crew is None or getattr(loader, "share", None) is None:
            return ((batch, False) for batch in loader)
        self._crew.same_chance(loader._stream())
        batches = iter(loader)
        self._crew.own_chance()
        given = int(loader.state_dict()["batch"])  # in the pass that is resumed
        return zip(batches, itertools.islice(loader.counts_nothing, given, None), strict=True)

    def _epoch(self, loader: Any, epochs: int, validation: Iterable[Any] | None, verbose: int) -> None:
        start = time.perf_counter()
        if not self._count:
            for callback in self._listeners():
                callback.on_epoch_begin(self.epoch, {})
        self.model.train()
        if self._crew is not None and self._crew.first:
            self._crew.go_on()
        elif self._crew is None and self._ranks is not None:
            self._ranks.same_chance()
            self._ranks.own_chance()
        for given in (loader, validation):
            if hasattr(getattr(given, "sampler", None), "set_epoch"):
                given.sampler.set_epoch(self.epoch)  # type: ignore[union-attr]
        for number, (batch, nothing) in enumerate(self._begun(loader)):
            for callback in self._listeners():
                callback.on_train_batch_begin(number, {})
            # a subclass whose train_step knows of no processes is called as it was written
            figures = self.train_step(batch, True) if nothing else self.train_step(batch)
            self._count_in(figures, 0 if nothing else _size(batch))
            for callback in self._listeners():
                callback.on_train_batch_end(number, self._means())
            if self.save_every and self.step % self.save_every == 0:
                state = loader.state_dict()
                if state["batch"] < state["batches"]:  # after the last one the epoch is not over yet
                    self._collect()
                    if self._ranks is None or self._ranks.first:
                        self.save(loader)
        self._collect(everywhere=True)
        logs = self._means()
        if validation is not None:
            logs |= {f"val_{name}": value for name, value in self.test(validation).items()}
        if self.averaged is not None and self.average_every == "epoch":
            self.averaged.update_parameters(self.model)
        if self.scheduler is not None and self.schedule_every == "epoch":
            watches = type(self.scheduler).__name__ == "ReduceLROnPlateau"
            self.scheduler.step(*([logs.get("val_loss", logs["loss"])] if watches else []))
        self._sums, self._count = {}, 0
        self.epoch += 1
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)
        for callback in self._listeners():
            callback.on_epoch_end(self.epoch - 1, logs)
        if verbose:
            figures_text = " - ".join(f"{name}: {value:.4f}" for name, value in logs.items())
            taken = time.perf_counter() - start
            print(f"Epoch {self.epoch}/{epochs} - {taken:.1f}s - {figures_text}", flush=True)
        if self.checkpoints is not None and (self._ranks is None or self._ranks.first):
            self.save(loader)

    def _count_in(self, figures: dict[str, float], size: int) -> None:
        self._count += size
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * size

    def _collect(self, everywhere: bool = False) -> None:
        """Let the first process have what all have counted, or all of them: at the end of an epoch."""
        if self._ranks is None:
            return
        names = sorted(self._sums)
        *sums, count = self._ranks.sums([*(self._sums[n] for n in names), self._count])
        first = everywhere or self._ranks.first
        self._sums = {n: v if first else 0.0 for n, v in zip(names, sums, strict=True)}
        self._count = int(count) if first else 0

    def _means(self) -> dict[str, float]:
        return {name: total / max(self._count, 1) for name, total in self._sums.items()}

    def _stopped(self) -> bool:
        return self.stop_training or bool(getattr(self.model, "stop_training", False))

    def _tell(self, moment: str, logs: dict[str, float], epochs: int, steps: int, verbose: int) -> None:
        for callback in self._listeners():
            callback.model = self.model
            callback.params = {"epochs": epochs, "steps": steps, "verbose": verbose}
            getattr(callback, moment)(logs)
        if self.callbacks:
            object.__setattr__(self.model, "stop_training", False)

    def test(self, loader: Iterable[Any], model: Any = None) -> dict[str, float]:
        """The mean loss and metrics over batches, in evaluation mode; model: another one (an average)."""
        mine, used = self.model, self.model if model is None else model
        training, count = used.training, 0
        sums: dict[str, float] = {}
        used.eval()
        try:
            self.model = used
            with no_grad():
                for batch, nothing in self._begun(loader):
                    if nothing:
                        continue
                    parts = _parts(batch)
                    loss, output = self.loss_of(*parts)
                    size = _size(batch)
                    count += size
                    for name, value in {"loss": float(loss), **self._measured(output, parts)}.items():
                        sums[name] = sums.get(name, 0.0) + value * size
        finally:
            self.model = mine
            used.train(training)
        if self._ranks is not None and (self._crew is None or getattr(loader, "share", None) is not None):
            names = ["loss", *sorted(self.metrics)]
            *totals, total = self._ranks.sums([*(sums.get(n, 0.0) for n in names), count])
            sums, count = dict(zip(names, totals, strict=True)), int(total)
        if not count:
            raise ArgumentError("Trainer.test", "there are no batches", fix="check how the data is loaded")
        return {name: total / count for name, total in sums.items()}

    # -- checkpoints --------------------------------------------------------------------------------------

    def state_dict(self, loader: Any = None) -> dict[str, Any]:
        """Everything the next step depends on."""
        parts = {
            "model": self._bare(),
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "averaged": self.averaged,
            "loader": loader if hasattr(loader, "state_dict") else None,
        }
        stream = getattr(loader, "generator", None)
        return {
            **{name: thing.state_dict() for name, thing in parts.items() if thing is not None},
            "saved": {name: thing.state_dict() for name, thing in self.saved.items()},
            "callbacks": [c.state_dict() if hasattr(c, "state_dict") else None for c in self.callbacks],
            "rng": get_rng_state(),
            "stream": None if stream is None else stream.get_state(),
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "sums": self._sums,
            "count": self._count,
            "ranks": 1 if (copies := self._copies()) is None else copies.size,
        }

    def load_state_dict(self, state: Mapping[str, Any], loader: Any = None) -> None:
        """Continue from a saved state.

        Raises CheckpointError if it has other parts than this trainer, and what `load_state_dict` of a
        part raises if that does not fit, with the keys and shapes.
        """
        mine = self.state_dict(loader)
        missing = [name for name in mine if name not in state and name != "ranks"]
        unexpected = [name for name in state if name not in mine]
        missing += [f"saved.{n}" for n in mine["saved"] if n not in state.get("saved", {})]
        unexpected += [f"saved.{n}" for n in state.get("saved", {}) if n not in mine["saved"]]
        if missing or unexpected:
            raise CheckpointError(
                "Trainer",
                f"the checkpoint does not fit: missing {missing or 'nothing'}, "
                f"unexpected {unexpected or 'nothing'}",
                fix="make the trainer as it was when the checkpoint was written",
            )
        copies = self._copies()
        self._bare().load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("scheduler", "averaged"):
            if name in mine:
                getattr(self, name).load_state_dict(state[name])
        for name, thing in self.saved.items():
            thing.load_state_dict(state["saved"][name])
        for callback, part in zip(self.callbacks, state["callbacks"], strict=False):
            if part is not None and hasattr(callback, "load_state_dict"):
                callback.load_state_dict(part)
        if "loader" in mine:
            size = 1 if copies is None else copies.size
            loader.load_state_dict(_redistributed(state["loader"], loader, state.get("ranks", 1), size))
        if state["stream"] is not None and getattr(loader, "generator", None) is not None:
            loader.generator.set_state(state["stream"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.history = {name: list(values) for name, values in state["history"].items()}
        self._sums, self._count = dict(state["sums"]), state["count"]
        if copies is not None and copies.rank:  # the first rank has what all have counted
            self._sums, self._count = {}, 0
        set_rng_state(state["rng"])

    def save(self, loader: Any = None) -> str:
        """Write a checkpoint; returns its path.  Of ranks with copies of the model the first one writes."""
        if self.checkpoints is None:
            raise ArgumentError("Trainer.save", "there is no directory", fix="pass directory= to Trainer")
        copies = self._copies()
        if copies is not None and copies.rank:
            return self.checkpoints.path(self.step)
        return self.checkpoints.save(self.step, self.state_dict(loader))

    def resume(self, loader: Any = None) -> bool:
        """Continue from the newest checkpoint that is whole; False if there is none at all.

        Ranks with copies of the model must all call it, and continue from the file that the first one finds:
        the others need not reach it."""
        if self.checkpoints is None:
            raise ArgumentError("Trainer.resume", "there is no directory", fix="pass directory= to Trainer")
        copies = self._copies()
        state = self.checkpoints.latest() if copies is None else _of_first(self.checkpoints, copies)
        if state is None:
            return False
        self.load_state_dict(state, loader)
        return True


def _of_first(checkpoints: Checkpoints, copies: Any) -> Any:
    """The newest state that is whole on the first of several ranks, for all of them."""
    from .distributed.crew import data_of_first

    found: list[bytes] = []

    def read(path: str) -> Any:
        state = load_checkpoint(path)
        with open(path, "rb") as file:
            found[:] = [file.read()]
        return state

    state = checkpoints.latest(read) if copies.rank == 0 else None
    data = data_of_first(copies, found[0] if found else b"")
    return state if not data or copies.rank == 0 else loads(data)


def _redistributed(state: Mapping[str, Any], loader: Any, before: int, now: int) -> Mapping[str, Any]:
    """Where a loader was, for another number of ranks: as far in the order that all of them share."""
    if before == now or not hasattr(getattr(loader, "sampler", None), "set_epoch"):
        return state
    batches, given = len(loader), int(state["batch"])
    done = batches if given >= int(state["batches"]) else min(given * before // now, batches - 1)
    return {**state, "batches": batches, "batch": done}


def _follow(trainer: Trainer, loader: Any, validation: Any) -> None:
    """What the other processes of `fit(..., workers=n)` do."""
    trainer._join(loader, validation)
    trainer._sums, trainer._count = {}, 0
    while trainer._crew.go_on():
        trainer._epoch(loader, 0, validation, 0)


def _parts(batch: Any) -> tuple[Any, ...]:
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    return tuple(p if isinstance(p, (Tensor, dict)) else wrap(as_array(p)) for p in parts)


def _size(batch: Any) -> int:
    first = batch[0] if isinstance(batch, (tuple, list)) else batch
    return len(first)
