"""Low-rank adapters: a trained layer W stays as it is, and learns W + (alpha / r) B A beside it.

A is (r, in), B is (out, r), so a layer of in x out numbers learns r (in + out) of them; what a task asks of a
trained layer is mostly of low rank (Hu et al. 2021, section 4.1).  B starts at zero: the adapted model
begins as the one it was.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    >>> add_lora(model, "0", rank=4)
    ['0']
    >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
    512

`merge_lora` adds the product to the weights, after which the layer costs what it did before;
`unmerge_lora` puts back the very bits that were there, as the weights are kept meanwhile.
`lora_state_dict` has the adapters alone, a file of a few kilobytes for each task.

A convolution is adapted likewise, by a convolution to r channels and one of 1x1 from there.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from fnmatch import fnmatchcase
from typing import Any

from ..autograd import no_grad
from ..errors import ArgumentError
from ..nn import Conv2d, Dropout, Identity, Linear, Module, init
from ..nn import functional as F
from ..nn.module import Parameter
from ..ops.creation import zeros
from ..tensor import Tensor
from .freezing import freeze
from .loading import replace_module


class LoRA(Module):
    """A Linear or Conv2d (ungrouped), frozen, with a low-rank adapter beside it.

    rank: r.  alpha: the adapter counts alpha / rank.  dropout: on the adapter's input.
    Raises ArgumentError for other layers, and for a rank not between 1 and the layer's smaller side.
    """

    def __init__(self, base: Module, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> None:
        super().__init__()
        weight: Any = getattr(base, "weight", None)
        if not isinstance(base, (Linear, Conv2d)) or getattr(base, "groups", 1) != 1:
            raise ArgumentError(
                "LoRA", f"a {type(base).__name__} has no such adapter", fix="choose Linear or Conv2d layers"
            )
        out, inner = weight.shape[0], math.prod(weight.shape[1:])
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(out, inner):
            raise ArgumentError(
                "LoRA", f"rank {rank!r} for a layer of {inner} x {out}", fix=f"pass 1 to {min(out, inner)}"
            )
        self.base = base.requires_grad_(False)
        self.rank, self.scale = rank, alpha / rank
        self.down = Parameter(zeros(rank, *weight.shape[1:], dtype=weight.dtype))
        self.up = Parameter(zeros(out, rank, dtype=weight.dtype))
        self.dropout: Module = Dropout(dropout) if dropout else Identity()
        init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self._original: Any = None  # the weights' bits, while merged

    @property
    def merged(self) -> bool:
        """Whether the adapter is part of the weights just now."""
        return self._original is not None

    def forward(self, x: Tensor) -> Tensor:
        """base(x) + (alpha / r) B A x; after `merge` base(x) alone."""
        y: Tensor = self.base(x)
        if self.merged:
            return y
        x = self.dropout(x)
        if isinstance(self.base, Linear):
            return y + F.linear(F.linear(x, self.down), self.up) * self.scale
        base: Any = self.base
        inner = F.conv2d(x, self.down, None, base.stride, base.padding, base.dilation)
        return y + F.conv2d(inner, self.up.unsqueeze(-1).unsqueeze(-1)) * self.scale

    def merge(self) -> None:
        """Add the adapter to the weights.  Nothing happens if it is merged already."""
        if not self.merged:
            weight: Any = self.base.weight
            with no_grad():
                self._original = weight.detach().numpy().copy()
                delta = (self.up @ self.down.flatten(1)).reshape(weight.shape) * self.scale
                weight.assign(weight.detach() + delta.detach())

    def unmerge(self) -> None:
        """Put the weights back, bit for bit."""
        if self.merged:
            weight: Any = self.base.weight
            with no_grad():
                weight.assign(self._original)
            self._original = None

    def extra_repr(self) -> str:
        """Settings."""
        return f"rank={self.rank}, scale={self.scale:g}, merged={self.merged}"


def add_lora(
    model: Module, *patterns: str, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0
) -> list[str]:
    """Freeze a model and put adapters beside its layers that match; returns their names.

    patterns: names of modules or shell patterns of them; none: every Linear and ungrouped Conv2d that the
    rank fits.  A head that shall learn in full is unfrozen afterwards.
    Raises ArgumentError for a pattern that matches no such layer, and what `LoRA` raises.
    """
    layers = {
        name: m
        for name, m in model.named_modules()
        if name
        and isinstance(m, (Linear, Conv2d))
        and not any(isinstance(model.get_submodule(p), LoRA) for p in _parents(name))
    }
    chosen: list[str] = []
    for pattern in patterns:
        found = [n for n in layers if fnmatchcase(n, pattern) or n.startswith(pattern + ".")]
        if not found:
            raise ArgumentError(
                "add_lora", f"{pattern!r} matches no Linear or Conv2d", fix=f"there are {', '.join(layers)}"
            )
        chosen += [n for n in found if n not in chosen]
    if not patterns:
        chosen = [n for n, m in layers.items() if getattr(m, "groups", 1) == 1 and _fits(m, rank)]
        if not chosen:
            raise ArgumentError("add_lora", f"no layer takes rank {rank}", fix="lower the rank")
    made = {name: LoRA(layers[name], rank, alpha, dropout) for name in chosen}
    freeze(model)
    for name, adapter in made.items():
        replace_module(model, name, adapter)
    return chosen


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _fits(module: Any, rank: int) -> bool:
    shape = module.weight.shape
    return bool(rank <= min(shape[0], math.prod(shape[1:])))


def _adapters(op: str, model: Module) -> dict[str, LoRA]:
    found = {name: m for name, m in model.named_modules() if isinstance(m, LoRA)}
    if not found:
        raise ArgumentError(op, f"{type(model).__name__} has no adapters", fix="call add_lora first")
    return found


def merge_lora(model: Module) -> None:
    """Add all adapters to their weights.  Raises ArgumentError if there are none."""
    for adapter in _adapters("merge_lora", model).values():
        adapter.merge()


def unmerge_lora(model: Module) -> None:
    """Put the weights of all adapted layers back, bit for bit.  Raises ArgumentError if there are none."""
    for adapter in _adapters("unmerge_lora", model).values():
        adapter.unmerge()


def lora_state_dict(model: Module) -> OrderedDict[str, Tensor]:
    """The adapters alone, for `load_state_dict(..., strict=False)` of a model that has such adapters."""
    names = _adapters("lora_state_dict", model)
    return OrderedDict(
        (f"{name}.{part}", getattr(adapter, part).detach())
        for name, adapter in names.items()
        for part in ("down", "up")
    )
