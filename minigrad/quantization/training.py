"""Training with the errors of eight bits in view.

*Fake quantization* rounds numbers to what their codes could say, and stays in floats:

    fq(x) = s (clamp(rint(x / s) + z, 0, 255) - z)

Rounding has derivative zero almost everywhere, so nothing could be learned through it.  The *straight-
through* estimator (Bengio et al. 2013) takes rint for the identity in the backward pass: the gradient is 1
inside of the range and 0 where the clamp cuts off.  Written in operations that is `x + (x.round() -
x).detach()`, exact to the last bit, and everything else (second derivatives, capture, fusion) follows.

The same expression differentiated by s gives the gradient of *learned step sizes* (LSQ, Esser et al. 2020,
equation 3) for nothing,

    d fq / d s = rint(x / s) - x / s  inside,  the code of the end  outside

and their advice to scale it by 1 / sqrt(number of values * largest code) is `grad_scaled`.

`prepare_qat(model)` wraps a copy of a model: the weights of its layers are fake-quantized whenever they are
used, and so are the inputs of these layers, by a range that follows the training.  It trains with any
optimizer, eagerly or compiled, and `convert` makes the integer model of it.  Batch norms need no folding
while training: a channel's scale absorbs its factor, as |a| s quantizes a w where s quantizes w.

    >>> import minigrad as mg
    >>> x = mg.tensor([-9.0, 0.4, 0.6, 300.0], requires_grad=True)
    >>> y = fake_quantize(x, mg.tensor(1.0), mg.tensor(2.0))
    >>> y.detach()
    tensor([ -2.,   0.,   1., 253.])
    >>> y.sum().backward()
    >>> x.grad
    tensor([0., 1., 1., 0.])

References: Bengio, Leonard & Courville 2013 (arXiv 1308.3432); Jacob et al. 2018 (arXiv 1712.05877), section
3; Esser et al. 2020 (arXiv 1902.08153).  Left out: training of zero points (LSQ+).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from .. import nn
from ..autograd import no_grad
from ..errors import ArgumentError
from ..ir import is_float
from ..ops.creation import ones, zeros
from ..ops.elementwise import clamp, maximum, minimum, where
from ..tensor import Tensor

#: Modules whose weights become int8 codes.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.GCNConv)


def round_through(x: Tensor) -> Tensor:
    """rint(x), with the gradient of x."""
    return x + (x.round() - x).detach()


def grad_scaled(x: Tensor, factor: float) -> Tensor:
    """x, with `factor` times its gradient."""
    return x * factor + (x - x * factor).detach()


def _positive(scale: Tensor) -> Tensor:
    """A learned scale may be pushed below zero by a large step; its sign means nothing."""
    return clamp(scale.abs(), 1e-12)


def fake_quantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | float = 0.0, lo: int = 0, hi: int = 255
) -> Tensor:
    """Numbers rounded to what codes from lo to hi can say; the gradient goes straight through.

    scale and zero_point (a whole number) broadcast against the input; gradients flow to the scale, too.
    """
    codes = clamp(round_through(input / scale) + zero_point, lo, hi)
    return (codes - zero_point) * scale


class ActivationQuantizer(nn.Module):
    """Fake quantization of an activation to uint8, by a moving average of its range.

    momentum: how much a batch counts.  learned: after the first batch the scale is a parameter (LSQ).
    """

    lo: Tensor
    hi: Tensor
    seen: Tensor
    zero_point: Tensor

    def __init__(self, momentum: float = 0.05, learned: bool = False) -> None:
        super().__init__()
        self.momentum, self.learned = momentum, learned
        self.register_buffer("lo", zeros(()))
        self.register_buffer("hi", zeros(()))
        self.register_buffer("seen", zeros(()))
        self.register_buffer("zero_point", zeros(()))
        self.scale = nn.Parameter(ones(()), requires_grad=learned)

    def _follow(self, x: Tensor) -> None:
        first = self.seen == 0.0
        part = where(first, 1.0, self.momentum)
        with no_grad():
            x = x.detach()
            lo = self.lo + part * (minimum(x.amin(), zeros(())) - self.lo)
            hi = self.hi + part * (maximum(x.amax(), zeros(())) - self.hi)
            width = (hi - lo) / 255.0
            scale = where(width > 0.0, width, 1.0)
            zero = clamp((-lo / scale).round(), 0.0, 255.0)
            if self.learned:  # only the first batch decides
                scale, zero = where(first, scale, self.scale.detach()), where(first, zero, self.zero_point)
            for target, value in (
                (self.lo, lo),
                (self.hi, hi),
                (self.scale, scale),
                (self.zero_point, zero),
                (self.seen, self.seen + 1.0),
            ):
                target.assign(value)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; the input itself as long as no batch was seen in training."""
        if self.training:
            self._follow(x)
        elif not float(self.seen.item()):
            return x
        scale: Tensor = self.scale
        if self.learned:
            scale = grad_scaled(_positive(scale), 1.0 / math.sqrt(max(math.prod(x.shape), 1) * 255))
        return fake_quantize(x, scale, self.zero_point)

    def extra_repr(self) -> str:
        """Settings."""
        return f"momentum={self.momentum}, learned={self.learned}"


class WeightQuantizer(nn.Module):
    """Fake quantization of weights (out, ...) to int8, symmetric, a scale for each output.

    learned: the scales are parameters, which begin at 2 mean |w| / sqrt(127) as LSQ does; else they follow
    the largest weight.
    """

    def __init__(self, weight: Tensor, learned: bool = False) -> None:
        super().__init__()
        self.learned = learned
        self.scale: nn.Parameter | None = None
        if learned:
            with no_grad():
                w = weight.detach().reshape(weight.shape[0], -1)
                start = w.abs().amax(1) / 127.0
                self.scale = nn.Parameter(where(start > 0.0, start, 1.0))

    def scales(self, weight: Tensor) -> Tensor:
        """One for each output, shaped to broadcast."""
        wide = (weight.shape[0], *(1,) * (weight.ndim - 1))
        if self.scale is not None:
            count = math.prod(weight.shape[1:])
            return grad_scaled(_positive(self.scale), 1.0 / math.sqrt(count * 127)).reshape(wide)
        with no_grad():
            top = weight.detach().abs().reshape(weight.shape[0], -1).amax(1) / 127.0
            return where(top > 0.0, top, 1.0).reshape(wide)

    def forward(self, weight: Tensor) -> Tensor:
        """The same shape."""
        return fake_quantize(weight, self.scales(weight), 0.0, -127, 127)


def _quantizable(model: nn.Module, keep: Iterable[str]) -> list[tuple[str, nn.Module]]:
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, LAYERS)]
    inner = {id(m.lin) for _, m in found if isinstance(m, nn.GCNConv)}
    known = {name for name, _ in found}
    kept = set(keep)
    if kept - known:
        raise ArgumentError(
            "prepare_qat",
            f"there is no layer {sorted(kept - known)[0]!r}",
            fix=f"the layers are {', '.join(sorted(known)) or 'none'}",
        )
    return [(name, m) for name, m in found if name not in kept and id(m) not in inner]


class QATModel(nn.Module):
    """A copy of a model that sees the errors of eight bits while it is trained; see `prepare_qat`."""

    def __init__(self, model: nn.Module, keep: Iterable[str], momentum: float, learned: bool) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.keep = tuple(keep)
        found = _quantizable(self.model, self.keep)
        if not found:
            raise ArgumentError(
                "prepare_qat",
                f"{type(model).__name__} has no layer with weights to quantize",
                fix="layers are nn.Linear, Conv1d, Conv2d and GCNConv",
            )
        self.names = [name for name, _ in found]
        self.weights = nn.ModuleList([WeightQuantizer(self._holder(m).weight, learned) for _, m in found])
        self.inputs = nn.ModuleList([ActivationQuantizer(momentum, learned) for _ in found])
        self._frozen: set[str] = set()
        self.train(model.training)

    @staticmethod
    def _holder(module: Any) -> Any:
        """The module that owns the weight."""
        return module.lin if isinstance(module, nn.GCNConv) else module

    @contextmanager
    def _quantized(self) -> Iterator[None]:
        """Inside, layers have fake-quantized weights and take fake-quantized inputs."""
        handles, replaced = [], []
        try:
            for name, weights, inputs in zip(self.names, self.weights, self.inputs, strict=True):
                module: Any = self.model.get_submodule(name)
                holder = self._holder(module)
                real = holder.__dict__["weight"]
                replaced.append((holder, real))
                holder.__dict__["weight"] = weights(real)  # for this call only: nothing is registered

                def before(_: Any, args: tuple[Any, ...], quantizer: Any = inputs) -> Any:
                    x = args[0]
                    return (quantizer(x), *args[1:]) if isinstance(x, Tensor) and is_float(x.dtype) else args

                handles.append(module.register_forward_pre_hook(before))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for holder, real in replaced:
                holder.__dict__["weight"] = real

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns, computed with rounded weights and activations."""
        with self._quantized():
            return self.model(*args, **kwargs)

    def train(self, mode: bool = True) -> QATModel:
        """As of any module; what was frozen stays in evaluation mode."""
        super().train(mode)
        self._freeze(*getattr(self, "_frozen", ()))
        return self

    def freeze_observers(self) -> None:
        """From now on ranges of activations stay as they are.  Raises ArgumentError if there are none yet."""
        if not any(float(part.seen.item()) for part in cast(Any, self.inputs)):
            raise ArgumentError(
                "freeze_observers", "no batch was seen in training", fix="train for some steps before"
            )
        self._freeze("observers")

    def freeze_norms(self) -> None:
        """From now on batch norms use their running statistics, in training, too."""
        self._freeze("norms")

    def _freeze(self, *what: str) -> None:
        for name in what:
            self._frozen.add(name)
            for module in self.inputs if name == "observers" else self.model.modules():
                if name == "observers" or isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    module.eval()

    def ranges(self) -> dict[str, tuple[float, int]]:
        """Layer -> scale and zero point of its input, for those that have seen a batch."""
        found = {}
        for name, part in zip(self.names, self.inputs, strict=True):
            quantizer: Any = part
            if float(quantizer.seen.item()):
                scale, zero = _positive(quantizer.scale.detach()).item(), int(quantizer.zero_point.item())
                found[name] = (float(scale), zero)
        return found

    def weight_scales(self) -> dict[str, Any]:
        """Layer -> the scales (out,) that its weights were trained with."""
        found = {}
        with no_grad():
            for name, part in zip(self.names, self.weights, strict=True):
                quantizer: Any = part
                weight = self._holder(self.model.get_submodule(name)).weight
                found[name] = quantizer.scales(weight).numpy().reshape(-1).copy()
        return found


def prepare_qat(
    model: nn.Module, *, keep: Iterable[str] = (), momentum: float = 0.05, learned: bool = False
) -> QATModel:
    """A copy of the model to train on, with the same interface, that feels the errors of eight bits.

    keep: layers that stay in floats.  momentum: how much a batch counts for the ranges of activations.
    learned: scales are learned (LSQ) rather than observed.  Ends with `convert`.
    Raises ArgumentError if a name in `keep` is no layer, or there is nothing to quantize.
    """
    return QATModel(model, keep, momentum, learned)


__all__ = [
    "ActivationQuantizer",
    "QATModel",
    "WeightQuantizer",
    "fake_quantize",
    "grad_scaled",
    "prepare_qat",
    "round_through",
]
