"""Activations as modules, for use in `Sequential`; the functions are in `minigrad.nn.functional`.

>>> import minigrad as mg
>>> from minigrad import nn
>>> nn.LeakyReLU(0.1)(mg.tensor([-1.0, 2.0]))
tensor([-0.1,  2. ])
"""

from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from .module import Module


class ReLU(Module):
    """max(x, 0); with inplace=True written into the input."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return input.relu_() if self.inplace else F.relu(input)

    def extra_repr(self) -> str:
        """Settings."""
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """x where positive, negative_slope * x elsewhere."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """Settings."""
        return f"negative_slope={self.negative_slope}"


class GELU(Module):
    """x times the normal distribution function of x (approximate: "none" or "tanh")."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        """Settings."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x * sigmoid(x)."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.silu(input)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return input.sigmoid()


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return input.tanh()


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, which is x beyond beta x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Settings."""
        return f"beta={self.beta}, threshold={self.threshold}"


class _AlongDim(Module):
    """Without `dim`, torch guesses: 0 for 0, 1 and 3 dimensions, else 1."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def _dim(self, input: Tensor) -> int:
        return (0 if input.ndim in (0, 1, 3) else 1) if self.dim is None else self.dim

    def extra_repr(self) -> str:
        """Settings."""
        return f"dim={self.dim}"


class Softmax(_AlongDim):
    """exp(x) / sum(exp(x)) along a dimension."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.softmax(input, self._dim(input))


class LogSoftmax(_AlongDim):
    """log(softmax(x)) along a dimension, computed without overflow."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return F.log_softmax(input, self._dim(input))
