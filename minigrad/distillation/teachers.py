"""Teachers: several as one, and answers that are asked for once and kept in a file.

An ensemble of networks that were trained from different starting points is nearly always better than the
best of them; distillation puts it back into one network (Hinton et al. 2015, section 3).

A teacher is often the expensive part of a step, and gives the same answer for the same example every
time.  `cache_outputs` asks it once for a whole data set and writes a file that is mapped into memory, so
only what is looked at is read, and several processes share it.  The file says which weights and which
data it was made from (SHA-256 of both); it is refused for any other.

    >>> import minigrad as mg, os, tempfile
    >>> from minigrad import data, nn
    >>> _ = mg.manual_seed(0)
    >>> teacher, pairs = nn.Linear(4, 3), data.TensorDataset(mg.randn(10, 4), mg.zeros(10, dtype=mg.int64))
    >>> path = os.path.join(tempfile.mkdtemp(), "teacher.safetensors")
    >>> cached = cache_outputs(teacher, pairs, path)
    >>> x, scores, y = cached[2]
    >>> bool((scores - teacher(x)).abs().max() < 1e-6)
    True
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checkpoint
from ..autograd import no_grad
from ..checkpoint import CheckpointError
from ..compiled import compile
from ..data import Dataset, TensorDataset
from ..errors import ArgumentError, DTypeError, ShapeError
from ..nn import Module, ModuleList
from ..nn.functional import log_softmax
from ..tensor import Tensor, wrap

#: Metadata of a file: which weights and which data it was made from.
_WEIGHTS, _DATA = "minigrad.teacher.weights", "minigrad.teacher.data"


class Ensemble(Module):
    """Several models as one: log of the weighted mean of their probabilities, or the mean of their scores.

    models: of the same inputs and classes.  weights: a share for each, in proportion; None: equal ones.
    of: "probabilities" (the result is log-probabilities, which are scores as good as any) or "logits".
    Raises ArgumentError for weights that do not fit.
    """

    def __init__(
        self, models: Sequence[Module], weights: Sequence[float] | None = None, of: str = "probabilities"
    ) -> None:
        super().__init__()
        if not len(models):
            raise ArgumentError("Ensemble", "there are no models", fix="pass at least one")
        if of not in ("probabilities", "logits"):
            raise ArgumentError("Ensemble", f"of is {of!r}", fix="use 'probabilities' or 'logits'")
        shares = [1.0] * len(models) if weights is None else [float(w) for w in weights]
        if len(shares) != len(models) or min(shares) < 0 or not sum(shares) > 0:
            raise ArgumentError(
                "Ensemble",
                f"weights are {weights!r} for {len(models)} models",
                fix="pass one for each, none negative, not all 0",
            )
        self.models = ModuleList(models)
        self.weights = [w / sum(shares) for w in shares]
        self.of = of

    def forward(self, *inputs: Any) -> Tensor:
        """Scores (n, classes, ...).  Raises ShapeError if the models disagree in classes."""
        scores = [model(*inputs) for model in self.models]
        shapes = {s.shape for s in scores}
        if len(shapes) > 1:
            raise ShapeError(
                "Ensemble", f"the models give {sorted(shapes)}", fix="all must tell the same classes apart"
            )
        if self.of == "probabilities":
            scores = [log_softmax(s, 1).exp() for s in scores]
        total: Tensor = scores[0] * self.weights[0]
        for s, weight in zip(scores[1:], self.weights[1:], strict=True):
            total = total + s * weight
        return total.clamp(min=1e-30).log() if self.of == "probabilities" else total


class CachedDataset(Dataset):
    """The examples (x, ..., y) of a data set as (x, ..., scores of the teacher, y)."""

    batched = True

    def __init__(self, dataset: TensorDataset, scores: np.ndarray[Any, Any]) -> None:
        self.dataset, self.scores = dataset, scores

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        *inputs, target = self.dataset[index]
        return (*inputs, wrap(np.array(self.scores[index])), target)


def cache_outputs(
    teacher: Module, dataset: Any, path: str | os.PathLike[str], *, batch_size: int = 256
) -> CachedDataset:
    """The data set with what `teacher` says of each example, from `path` if it is there, else written to it.

    dataset: a TensorDataset (x, ..., y) (or a tuple of arrays); one whose examples change from pass to pass
    (augmentation) has no answers that could be kept.  The teacher is asked in evaluation mode.

    Raises CheckpointError if the file was made by other weights or from other data, or is damaged:
    it is never reused then, and never overwritten.
    """
    pairs = (
        dataset if isinstance(dataset, Dataset) or not isinstance(dataset, tuple) else TensorDataset(*dataset)
    )
    if not isinstance(pairs, TensorDataset):
        raise DTypeError(
            "cache_outputs",
            f"a {type(dataset).__name__} may give other examples next time",
            fix="pass a TensorDataset, or leave the cache out",
        )
    key = {_WEIGHTS: _weights_key(teacher), _DATA: _data_key(pairs.tensors[:-1])}
    where = os.fspath(path)
    if os.path.exists(where):
        found = checkpoint.read_metadata(where)
        for name, what in ((_WEIGHTS, "another teacher, or by other weights of it"), (_DATA, "other data")):
            if found.get(name) != key[name]:
                made = "by" if name == _WEIGHTS else "from"
                raise CheckpointError(
                    "cache_outputs", f"{where} was made {made} {what}", fix="delete it, or use another path"
                )
    else:
        checkpoint.save_file({"scores": _ask(teacher, pairs, batch_size)}, where, key)
    return CachedDataset(pairs, checkpoint.map_file(where)["scores"])


def _ask(teacher: Module, pairs: TensorDataset, batch_size: int) -> np.ndarray[Any, Any]:
    training = teacher.training
    teacher.eval()
    answers = []
    run = compile(lambda *inputs: teacher(*inputs))
    try:
        with no_grad():
            for start in range(0, len(pairs), batch_size):
                index = np.arange(start, min(start + batch_size, len(pairs)))
                answers.append(run(*pairs[index][:-1]).detach().numpy())
    finally:
        teacher.train(training)
    return np.concatenate(answers)


def _weights_key(model: Module) -> str:
    """Of the layers as they print, and of every parameter and buffer."""
    digest = hashlib.sha256(repr(model).encode())
    for name, tensor in sorted(model.state_dict().items()):
        _add(digest, name, tensor)
    return digest.hexdigest()


def _data_key(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for i, tensor in enumerate(tensors):
        _add(digest, str(i), tensor)
    return digest.hexdigest()


def _add(digest: Any, name: str, tensor: Tensor) -> None:
    array = np.ascontiguousarray(tensor.detach().numpy())
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
