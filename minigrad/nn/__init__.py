"""Neural networks: modules under PyTorch's names.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> net(mg.zeros(5, 2)).shape
    (5, 1)
    >>> sum(p.numel() for p in net.parameters())
    33

`Module` and `Parameter` are in `module`; layers, containers, activations and losses have a file
each, graph networks a package (`graph`); `functional` has the same things as functions, and `init` the ways
to start.
"""

from . import clip as utils  # PyTorch's name for where these functions are
from . import functional, init
from .activation import GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from .clip import clip_grad_norm_, clip_grad_value_
from .containers import ModuleDict, ModuleList, Sequential
from .graph import (
    APPNP,
    AttentionalAggregation,
    ChebConv,
    DropEdge,
    EdgeConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GlobalAttention,
    GraphConv,
    JumpingKnowledge,
    MessagePassing,
    SAGEConv,
    SGConv,
    TopKPooling,
    dropout_edge,
    global_add_pool,
    global_max_pool,
    global_mean_pool,
)
from .layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    LayerNorm,
    Linear,
    MaxPool2d,
)
from .loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss
from .module import Module, Parameter

__all__ = [
    "APPNP",
    "GELU",
    "AttentionalAggregation",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "ChebConv",
    "Conv2d",
    "CrossEntropyLoss",
    "DropEdge",
    "Dropout",
    "EdgeConv",
    "Embedding",
    "Flatten",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "GlobalAttention",
    "GraphConv",
    "Identity",
    "JumpingKnowledge",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "MessagePassing",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "SAGEConv",
    "SGConv",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "TopKPooling",
    "clip_grad_norm_",
    "clip_grad_value_",
    "dropout_edge",
    "functional",
    "global_add_pool",
    "global_max_pool",
    "global_mean_pool",
    "init",
    "utils",
]
