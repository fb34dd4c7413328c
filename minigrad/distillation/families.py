"""Students that teach each other, and generations that teach the next.

**Deep mutual learning** (Zhang et al. 2018, equations 3 and 4): K networks that start differently learn
together; each minimises its own cross-entropy and the divergence from what the others say,

    loss_k = cross_entropy_k + 1/(K-1) sum_{j != k} KL(p_j || p_k).

No one knows anything in advance, and yet all of them end up better than alone, as the others' second
choices say where the wide minima are.

**Born-again networks** (Furlanello et al. 2018): the teacher is the same architecture, trained before; the
student often passes it, and becomes the teacher of the next generation.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> _ = mg.manual_seed(0)
    >>> x = mg.randn(128, 4)
    >>> y = (x[:, 0] > 0).long()
    >>> pair = [nn.Linear(4, 2), nn.Linear(4, 2)]
    >>> history = mutual(pair, (x, y), epochs=20, lr=0.05)
    >>> [bool((m(x).argmax(1) == y).float().mean() > 0.9) for m in pair]
    [True, True]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..nn import Module, ModuleList
from ..nn.functional import cross_entropy
from ..optim import AdamW
from ..tensor import Tensor
from ..training import Trainer
from .distiller import _loader, distill
from .losses import soft_target_loss


class MutualTrainer(Trainer):
    """Train several models on one loss each, and on each other's scores; one optimizer has them all.

    Its model is a `ModuleList` of them, its output the scores of the first, the loss the sum over models.
    Raises ArgumentError for less than two models, ShapeError if they disagree in classes.
    """

    def __init__(
        self,
        models: Sequence[Module],
        optimizer: Any,
        loss: Callable[[Any, Any], Tensor] = cross_entropy,
        *,
        temperature: float = 1.0,
        weight: float = 1.0,
        **settings: Any,
    ) -> None:
        if len(models) < 2:
            raise ArgumentError("MutualTrainer", f"{len(models)} models", fix="pass two or more")
        super().__init__(ModuleList(models), optimizer, loss, **settings)
        self.temperature, self.weight = temperature, weight

    def loss_of(self, *batch: Any) -> tuple[Tensor, Any]:
        """The sum of all models' losses, and the scores of the first."""
        *inputs, y = batch
        scores = [model(*inputs) for model in self.model]
        if len({s.shape for s in scores}) > 1:
            raise ShapeError(
                "MutualTrainer",
                f"the models give {[s.shape for s in scores]}",
                fix="all must tell the same classes apart",
            )
        share = self.weight / (len(scores) - 1)
        total: Tensor | None = None
        for k, mine in enumerate(scores):
            loss = self.loss(mine, y)
            for j, other in enumerate(scores):
                if j != k:
                    loss = loss + soft_target_loss(mine, other, self.temperature) * share
            total = loss if total is None else total + loss
        assert total is not None
        return total, scores[0]


def mutual(
    models: Sequence[Module],
    data: Any,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    optimizer: Any = None,
    verbose: int = 0,
    **settings: Any,
) -> dict[str, list[float]]:
    """Let models learn together; returns the history.  data and optimizer are as in `distill`."""
    rule = AdamW([p for m in models for p in m.parameters()], lr=lr) if optimizer is None else optimizer
    loader, _ = _loader(data, batch_size, None, None)
    history = MutualTrainer(models, rule, **settings).fit(loader, epochs, verbose=verbose)
    for model in models:
        model.eval()
    return history


def born_again(
    first: Module, make: Callable[[], Module], data: Any, *, generations: int = 2, **settings: Any
) -> list[Module]:
    """Generations of `make()`, each distilled from the one before; `first` is trained already.

    settings: of `distill`.  Returns the new models, the last generation last (an `Ensemble` of all of
    them is often better still).
    """
    if isinstance(generations, bool) or generations < 1:
        raise ArgumentError("born_again", f"generations is {generations!r}", fix="pass at least 1")
    teacher, family = first, []
    for _ in range(generations):
        student = make()
        distill(teacher, student, data, **settings)
        family.append(student)
        teacher = student
    return family
