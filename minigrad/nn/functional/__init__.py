"""Networks as functions, under the names of `torch.nn.functional`.

    >>> import minigrad as mg
    >>> from minigrad.nn import functional as F
    >>> F.softmax(F.linear(mg.ones(1, 2), mg.eye(2)), dim=-1)
    tensor([[0.5, 0.5]])

Convolution, pooling, normalisation, dropout and the common activations are operations
(`minigrad.ops.nn`, `minigrad.ops.convolution`); what is composed of them has a file for each subject:
`activations`, `linear` (with attention), `shapes` (padding, resampling, windows, norms), `losses`.

Left out: sparse gradients, and softmax without a dimension.
"""

from ...ops.indexing import one_hot
from ...ops.nn import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
    batch_norm,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    dropout,
    dropout1d,
    dropout2d,
    embedding,
    group_norm,
    instance_norm,
    layer_norm,
    max_pool1d,
    max_pool2d,
    rms_norm,
)
from . import activations, linear as _linear, losses, shapes
from .activations import *
from .linear import *
from .losses import *
from .shapes import *

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "dropout",
    "dropout1d",
    "dropout2d",
    "embedding",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "max_pool1d",
    "max_pool2d",
    "one_hot",
    "rms_norm",
    *activations.__all__,
    *_linear.__all__,
    *losses.__all__,
    *shapes.__all__,
]
