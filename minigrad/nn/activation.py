"""Activations as modules, for use in `Sequential`; the functions are in `minigrad.nn.functional`.

>>> import minigrad as mg
>>> from minigrad import nn
>>> nn.LeakyReLU(0.1)(mg.tensor([-1.0, 2.0]))
tensor([-0.1,  2. ])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import ArgumentError, ShapeError
from ..ops.creation import full
from ..tensor import Tensor
from . import functional as F
from .module import Module, Parameter, factory


class _Activation(Module):
    """A function of the input and of the settings named in `settings`, which are its arguments too."""

    function: ClassVar[Callable[..., Tensor]]
    settings: ClassVar[tuple[str, ...]] = ()

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return type(self).function(input, *[getattr(self, name) for name in self.settings])

    def extra_repr(self) -> str:
        """Settings; inplace only where it is on."""
        shown = [n for n in self.settings if n != "inplace" or getattr(self, n)]
        return ", ".join(f"{n}={getattr(self, n)!r}" for n in shown)


class _Inplace(_Activation):
    settings = ("inplace",)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


class ReLU(_Inplace):
    """max(x, 0); with inplace=True written into the input."""

    function = staticmethod(F.relu)


class ReLU6(_Inplace):
    """x limited to [0, 6]."""

    function = staticmethod(F.relu6)


class SELU(_Inplace):
    """scale * elu(x, alpha), with the constants that keep mean 0 and variance 1."""

    function = staticmethod(F.selu)


class SiLU(_Inplace):
    """x * sigmoid(x)."""

    function = staticmethod(F.silu)


class Mish(_Inplace):
    """x * tanh(softplus(x))."""

    function = staticmethod(F.mish)


class Hardswish(_Inplace):
    """x * hardsigmoid(x)."""

    function = staticmethod(F.hardswish)


class Hardsigmoid(_Inplace):
    """(x + 3) / 6, limited to [0, 1]."""

    function = staticmethod(F.hardsigmoid)


class Hardtanh(_Activation):
    """x limited to [min_val, max_val]."""

    function = staticmethod(F.hardtanh)
    settings = ("min_val", "max_val", "inplace")

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__()
        min_val = min_val if min_value is None else min_value  # the names of old programs
        max_val = max_val if max_value is None else max_value
        if min_val >= max_val:
            raise ArgumentError("Hardtanh", f"min_val {min_val} and max_val {max_val}", fix="exchange them")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace


class LeakyReLU(_Activation):
    """x where positive, negative_slope * x elsewhere."""

    function = staticmethod(F.leaky_relu)
    settings = ("negative_slope", "inplace")

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace


class ELU(_Activation):
    """x where positive, alpha * (exp(x) - 1) elsewhere."""

    function = staticmethod(F.elu)
    settings = ("alpha", "inplace")

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace


class CELU(_Activation):
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere."""

    function = staticmethod(F.celu)
    settings = ("alpha", "inplace")

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace


class Threshold(_Activation):
    """x where it is above threshold, value elsewhere."""

    function = staticmethod(F.threshold)
    settings = ("threshold", "value", "inplace")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = threshold
        self.value = value
        self.inplace = inplace


class GELU(_Activation):
    """x times the normal distribution function of x (approximate: "none" or "tanh")."""

    settings = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.gelu(input, approximate=self.approximate)


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)


class LogSigmoid(_Activation):
    """log(sigmoid(x)), without underflow."""

    function = staticmethod(F.logsigmoid)


class Tanh(_Activation):
    """The hyperbolic tangent."""

    function = staticmethod(F.tanh)


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    function = staticmethod(F.tanhshrink)


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)


class Softshrink(_Activation):
    """x moved towards 0 by lambd, 0 within lambd of it."""

    function = staticmethod(F.softshrink)
    settings = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd


class Hardshrink(_Activation):
    """x, 0 within lambd of it."""

    function = staticmethod(F.hardshrink)
    settings = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd


class Softplus(_Activation):
    """log(1 + exp(beta x)) / beta, which is x beyond beta x > threshold."""

    function = staticmethod(F.softplus)
    settings = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold


class GLU(_Activation):
    """The first half along dim times the sigmoid of the second."""

    function = staticmethod(F.glu)
    settings = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim


class PReLU(Module):
    """x where positive, a learned slope times x elsewhere: one slope, or one a channel (dimension 1).

    weight: (num_parameters,).
    """

    weight: Parameter

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        if isinstance(num_parameters, bool) or not isinstance(num_parameters, int) or num_parameters < 1:
            raise ArgumentError(
                "PReLU", f"num_parameters is {num_parameters!r}", fix="pass 1 or the channels"
            )
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(full((num_parameters,), init, dtype=factory("PReLU", device, dtype)))

    def reset_parameters(self) -> None:
        """Set all slopes to `init`."""
        from . import init

        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it.  Raises ShapeError unless there is one slope, or one a channel."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """Settings."""
        return f"num_parameters={self.num_parameters}"


class RReLU(Module):
    """Leaky relu with a random slope in [lower, upper] in training, the mean of these afterwards."""

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        """Settings."""
        return f"lower={self.lower}, upper={self.upper}" + (", inplace=True" if self.inplace else "")


class _AlongDim(Module):
    """Without `dim`, torch guesses: 0 for 0, 1 and 3 dimensions, else 1."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        dim = (0 if input.ndim in (0, 1, 3) else 1) if self.dim is None else self.dim
        return type(self).function(input, dim)

    def extra_repr(self) -> str:
        """Settings."""
        return f"dim={self.dim}"


class Softmax(_AlongDim):
    """exp(x) / sum(exp(x)) along a dimension."""

    function = staticmethod(F.softmax)


class Softmin(_AlongDim):
    """softmax of -x."""

    function = staticmethod(F.softmin)


class LogSoftmax(_AlongDim):
    """log(softmax(x)) along a dimension, computed without overflow."""

    function = staticmethod(F.log_softmax)


class Softmax2d(Module):
    """softmax over the channels of images (n, channels, h, w), or without the batch."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        if input.ndim not in (3, 4):
            raise ShapeError(
                "Softmax2d", f"an input of shape {input.shape}", fix="pass (n, channels, h, w) or without n"
            )
        return F.softmax(input, -3)
