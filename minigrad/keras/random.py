"""Random tensors by Keras's names, `keras.random`; a seed is that of `keras.utils.set_random_seed`.

>>> normal((2, 3)).shape, bool((uniform((4,), 1.0, 2.0) >= 1.0).all())
((2, 3), True)
"""

from __future__ import annotations

from typing import Any

from ..nn import functional as F
from ..ops import creation
from ..tensor import Tensor


def normal(shape: Any, mean: float = 0.0, stddev: float = 1.0) -> Tensor:
    """Normal numbers"""
    result: Tensor = creation.randn(*shape) * stddev + mean
    return result


def uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0) -> Tensor:
    """Numbers from minval to maxval"""
    result: Tensor = creation.rand(*shape) * (maxval - minval) + minval
    return result


def dropout(inputs: Tensor, rate: float) -> Tensor:
    """Zero with probability `rate`, the others scaled by 1 / (1 - rate)"""
    return F.dropout(inputs, rate, True)
