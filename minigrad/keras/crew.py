"""`fit(..., workers=n)`: the model is trained by n processes, of which this one is the first.

The others are started beside it (`minigrad.distributed.launching.beside`) with a copy of the model and its
data. For each batch all of them

    take their part of it  ->  loss and gradients  ->  reduce gradients  ->  the same step on all

so the weights are those of one process: a batch of 32 on 2 workers is 16 examples each, and the mean over 32.
What people see stays here: callbacks, the progress bar, metrics (of the predictions of all workers, put
together) and the history. What a callback changes, weights or learning rates, the others take over at the
beginning of the next epoch, and whether to go on at all.

Batches that the workers do not divide are right, too: a worker's gradient counts as much as it has examples,
and one that has none takes part with an example that counts nothing. Batch normalisation uses the
statistics of each worker's part, and keeps the mean of them; `synchronized=True` makes it that of the batch.
Each worker draws random numbers of its own.

Left out: data that is not in memory, as in all of `fit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..distributed.crew import Crew, checked_workers
from ..distributed.launching import beside


@contextmanager
def together(model: Any, compiled: Any, workers: int, *data: Any) -> Iterator[Crew]:
    """A crew of this process and others, which do what `follow` does; `data` is for that."""
    compiled.forget_programs()  # they are for one process
    try:
        with beside(follow, workers, (model, *data)):
            yield _joined(model, compiled)
            compiled.crew.go_on(False)
    finally:
        if compiled.crew is not None:
            compiled.crew.close()
        compiled.crew = None
        compiled.forget_programs()


def _joined(model: Any, compiled: Any) -> Crew:
    reduction = "sum" if compiled.loss.reduction == "sum" else "mean"
    crew = compiled.crew = Crew(model, compiled.rule, reduction)
    return crew


def follow(
    model: Any, data: Any, validation: Any, size: int, tests: int, every: int, first: int, measured: bool
) -> None:
    """What the other processes do; validation comes after `every` epochs, in batches of `tests`."""
    compiled = model._need_compile("fit")
    crew = _joined(model, compiled)
    epoch = first
    while crew.go_on():
        model._pass(compiled, data.batches(size, crew.order(None, len(data))), measured)
        epoch += 1
        if validation is not None and epoch % every == 0:
            model._test_parts(compiled, validation, tests, measured)


def warm(compiled: Any, usual: int) -> int:
    """How often a step runs as it is before it is captured: never in a crew, whose programs all have to do
    the same reductions in the same order."""
    return usual if compiled.crew is None else 0


__all__ = ["Crew", "checked_workers", "together", "warm"]
