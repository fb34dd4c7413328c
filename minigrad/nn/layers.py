"""Layers: linear maps, look-up tables, dropout, and changes of shape.

Convolutions, pooling, normalisation, recurrence and attention have files of their own.  Features come last
for `Linear` and `Embedding`, and weights are (out, in), as in PyTorch.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.Linear(4, 3)(mg.zeros(2, 5, 4)).shape
    (2, 5, 3)

Weights start uniform in +-1/sqrt(fan_in), PyTorch's choice (He et al. 2015 with a = sqrt(5));
`minigrad.nn.init` has the others.  Reference: Srivastava et al. 2014 for dropout.
Left out: layers that learn their sizes from the first input, and sparse gradients of embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import ArgumentError, ShapeError
from ..mode import no_grad
from ..ops.creation import randn, zeros
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, Parameter, factory


def positive(layer: str, **sizes: Any) -> None:
    """Raise ArgumentError for a size that is no integer of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
            raise ArgumentError(layer, f"{name} is {size!r}", fix="pass an integer of at least 1")


class Identity(Module):
    """x; takes and ignores any arguments, so that it can stand in for another module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """The input itself."""
        return input


class Flatten(Module):
    """Dimensions start_dim to end_dim as one; the batch dimension stays by default."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Settings."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One dimension as several: `Unflatten(1, (2, 3))` makes (n, 6) to (n, 2, 3); one size may be -1."""

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        if not isinstance(dim, int) or not isinstance(unflattened_size, (tuple, list)):
            raise ArgumentError(
                "Unflatten",
                f"dim {dim!r} to {unflattened_size!r}",
                fix="pass a dimension and a tuple of sizes",
            )
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """Settings."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class _Dropout(Module):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ArgumentError(type(self).__name__, f"a probability of {p}", fix="choose p between 0 and 1")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        if not self.training or not self.p:
            return input
        return type(self).function(input, self.p, True, self.inplace)

    def extra_repr(self) -> str:
        """Settings."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training, zero each element with probability p and scale the others by 1 / (1 - p)."""

    function = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """`Dropout` of whole channels of sequences (n, channels, length)."""

    function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """`Dropout` of whole channels of images (n, channels, h, w)."""

    function = staticmethod(F.dropout2d)


class Linear(Module):
    """x W^T + b, from (..., in_features) to (..., out_features).

    weight: (out_features, in_features); bias: (out_features,) or None.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        dtype = factory("Linear", device, dtype)
        positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(zeros(out_features, in_features, dtype=dtype))
        self.bias = Parameter(zeros(out_features, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform in +-1/sqrt(in_features)."""
        uniform_by_fan_in(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it.  Raises ShapeError if the last size is not in_features."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Settings."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Bilinear(Module):
    """y_k = x1 W_k x2 + b_k, from (..., in1) and (..., in2) to (..., out).

    weight: (out_features, in1_features, in2_features); bias: (out_features,) or None.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = factory("Bilinear", device, dtype)
        positive("Bilinear", in1_features=in1_features, in2_features=in2_features, out_features=out_features)
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.weight = Parameter(zeros(out_features, in1_features, in2_features, dtype=dtype))
        self.bias = Parameter(zeros(out_features, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform in +-1/sqrt(in1_features)."""
        bound = 1.0 / math.sqrt(self.in1_features)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Apply it.  Raises ShapeError unless the inputs fit the weight and each other."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Settings."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


def uniform_by_fan_in(weight: Parameter, bias: Parameter | None) -> None:
    """Draw weight and bias, uniform in +-1/sqrt(fan_in)."""
    init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1.0 / math.sqrt(weight.numel() // weight.shape[0])
        init.uniform_(bias, -bound, bound)


class Embedding(Module):
    """A table of vectors, looked up by integers: (...) to (..., embedding_dim).

    padding_idx: an index whose vector starts as zeros and is not learned.  max_norm: vectors that are used
    and longer (in the norm_type-norm) are first shortened to it, in place.  Gradients are dense:
    scale_grad_by_freq and sparse are refused.
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = factory("Embedding", device, dtype)
        positive("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(
                "Embedding",
                f"padding_idx {padding_idx} of {num_embeddings} embeddings",
                fix="use the number of a row",
            )
        if scale_grad_by_freq or sparse:
            name = "sparse" if sparse else "scale_grad_by_freq"
            raise ArgumentError(
                "Embedding", f"{name}=True is not supported", fix=f"leave {name} out: gradients are dense"
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm = max_norm
        self.norm_type = norm_type
        if _weight is not None:
            if _weight.shape != (num_embeddings, embedding_dim):
                raise ShapeError(
                    "Embedding",
                    f"a weight of shape {_weight.shape}",
                    fix=f"it must be ({num_embeddings}, {embedding_dim})",
                )
            self.weight = Parameter(_weight.detach(), requires_grad=not _freeze)
            return
        self.weight = Parameter(zeros(num_embeddings, embedding_dim, dtype=dtype), requires_grad=not _freeze)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew, normal; the row padding_idx is 0."""
        self.weight.assign(randn(self.num_embeddings, self.embedding_dim, dtype=self.weight.dtype))
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An embedding with these vectors (n, dim), not learned further if `freeze`."""
        if embeddings.ndim != 2:
            raise ShapeError(
                "Embedding", f"embeddings of shape {embeddings.shape}", fix="pass a (n, dim) tensor"
            )
        return cls(
            embeddings.shape[0],
            embeddings.shape[1],
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight=embeddings,
            _freeze=freeze,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Look the indices up.  Raises OutOfRangeError for one that does not exist."""
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type)

    def extra_repr(self) -> str:
        """Settings."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        return text if self.max_norm is None else f"{text}, max_norm={self.max_norm}"
