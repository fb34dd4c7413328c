"""Pruning: weights that hardly matter become zero, or channels that hardly matter disappear.

*Magnitude* pruning (Han et al. 2015) sets the smallest weights to zero, over the whole model or layer by
layer; training goes on with the mask (`Pruned.apply` after each step) and wins most of the loss back.
Zeros make a file that compresses well; dense kernels are no faster for them, and this says so.

*Structured* pruning (Li et al. 2017) removes whole output channels, those with the smallest sum of |w|, and
what reads them in the next layer: the model becomes smaller and every kernel faster.

    >>> from minigrad import nn
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> pruned = magnitude(model, 0.5)
    >>> round(sparsity(model), 2)
    0.5
    >>> thin = channels(model, 0.25)
    >>> thin[0].weight.shape, thin[2].weight.shape
    ((12, 8), (2, 12))

References: Han et al. 2015 (arXiv 1506.02626); Li et al. 2017 (arXiv 1608.08710).  Left out: structured
pruning across residual sums and concatenations, where channels of several layers are tied.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .. import nn
from ..errors import ArgumentError
from ..tensor import Tensor, wrap

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
#: Modules that treat every channel alike, so that channels can be taken out before and after.
_PASSING = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.LeakyReLU,
    nn.ELU,
    nn.Hardswish,
    nn.Dropout,
    nn.Dropout2d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.Identity,
)


def _amount(op: str, amount: float) -> float:
    if not 0.0 <= amount < 1.0:
        raise ArgumentError(op, f"amount is {amount}", fix="pass the share to remove, from 0 to below 1")
    return float(amount)


class Pruned:
    """Masks of pruned weights: call `apply()` after each step of an optimizer to keep them zero."""

    def __init__(self, masks: Mapping[str, tuple[nn.Parameter, Tensor]]) -> None:
        self.masks = dict(masks)

    def apply(self) -> None:
        """Set what was pruned to zero again; may be part of a compiled step."""
        for weight, mask in self.masks.values():
            weight.assign(weight.detach() * mask)


def magnitude(
    model: nn.Module, amount: float, *, per_layer: bool = False, keep: Iterable[str] = ()
) -> Pruned:
    """Set the share `amount` of the smallest weights of linear layers, convolutions and embeddings to zero.

    per_layer: that share of each layer, rather than of all together.  keep: names of modules to leave alone.
    """
    share, kept = _amount("magnitude", amount), set(keep)
    found: dict[str, nn.Parameter] = {
        name: m.weight for name, m in model.named_modules() if isinstance(m, _WEIGHTED) and name not in kept
    }
    sizes = {name: np.abs(w.detach().numpy()) for name, w in found.items()}
    every = np.concatenate([a.reshape(-1) for a in sizes.values()]) if sizes else np.zeros(0)
    masks = {}
    for name, w in found.items():
        limit = _limit(sizes[name] if per_layer else every, share)
        masks[name] = (w, wrap((sizes[name] > limit).astype(w.dtype)))
    pruned = Pruned(masks)
    pruned.apply()
    return pruned


def _limit(sizes: Any, share: float) -> float:
    """What the share of smallest sizes does not exceed; below all of them for none."""
    count = int(share * sizes.size)
    return float(np.partition(sizes.reshape(-1), count - 1)[count - 1]) if count else -1.0


def sparsity(model: nn.Module) -> float:
    """The share of zeros among the weights of linear layers, convolutions and embeddings."""
    arrays = [m.weight.detach().numpy() for m in model.modules() if isinstance(m, _WEIGHTED)]
    total = sum(a.size for a in arrays)
    return sum(int((a == 0).sum()) for a in arrays) / total if total else 0.0


def channels(model: nn.Sequential, amount: float, *, keep: Iterable[str] = ()) -> nn.Sequential:
    """A smaller copy of a Sequential: each layer but the last loses the share `amount` of its outputs.

    Those with the smallest sum of |w| go, with their part of a batch norm and of the layer that reads them.
    keep: names of layers that keep all outputs.  Raises ArgumentError where a module stands between two
    layers that is not known to treat channels alike.
    """
    share, kept = _amount("channels", amount), set(keep)
    if not isinstance(model, nn.Sequential):
        raise ArgumentError("channels", f"a {type(model).__name__}", fix="pass an nn.Sequential")
    thin = copy.deepcopy(model)
    parts = list(thin.named_children())
    layers = [i for i, (_, m) in enumerate(parts) if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    for here, after in itertools.pairwise(layers):
        name, layer = parts[here]
        between = [m for _, m in parts[here + 1 : after]]
        wrong = next((m for m in between if not isinstance(m, (*_PASSING, *_NORMS, nn.Flatten))), None)
        if wrong is not None:
            raise ArgumentError(
                "channels",
                f"{type(wrong).__name__} stands between {name!r} and {parts[after][0]!r}",
                fix="between layers there may be activations, poolings, batch norms, dropout and Flatten",
            )
        if name in kept:
            continue
        _thin(layer, between, parts[after][1], share)
    return thin


def _thin(layer: Any, between: list[Any], after: Any, share: float) -> None:
    if getattr(layer, "groups", 1) != 1 or getattr(after, "groups", 1) != 1:
        return  # channels of a grouped convolution are tied
    w = layer.weight.detach().numpy()
    out = len(w)
    strength = np.abs(w).reshape(out, -1).sum(axis=1)
    stay = np.sort(np.argsort(-strength, kind="stable")[: max(1, out - int(share * out))])
    _replace(layer, "weight", w[stay])
    _replace(layer, "bias", None if layer.bias is None else layer.bias.detach().numpy()[stay])
    _count(layer, ("out_features", "out_channels"), len(stay))
    for norm in between:
        if isinstance(norm, _NORMS):
            for name in ("weight", "bias", "running_mean", "running_var"):
                t = getattr(norm, name)
                _replace(norm, name, None if t is None else t.detach().numpy()[stay])
            _count(norm, ("num_features",), len(stay))
    read = after.weight.detach().numpy()
    each = read.shape[1] // out  # after a Flatten every channel is so many columns
    columns = (stay[:, None] * each + np.arange(each)).reshape(-1)
    _replace(after, "weight", read[:, columns])
    _count(after, ("in_features", "in_channels"), len(columns))


def _replace(module: Any, name: str, array: Any) -> None:
    if array is None:
        return
    old = getattr(module, name)
    t = wrap(np.ascontiguousarray(array))
    setattr(module, name, nn.Parameter(t, old.requires_grad) if isinstance(old, nn.Parameter) else t)


def _count(module: Any, names: tuple[str, ...], value: int) -> None:
    for name in names:
        if hasattr(module, name):
            setattr(module, name, value)


__all__ = ["Pruned", "channels", "magnitude", "sparsity"]
