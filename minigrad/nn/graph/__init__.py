"""Graph neural networks: layers, pooling, and a base for layers of one's own.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> class GCN(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first, self.second = nn.GCNConv(4, 8), nn.GCNConv(8, 2)
    ...     def forward(self, x, edge_index):
    ...         return self.second(nn.functional.relu(self.first(x, edge_index)), edge_index)
    >>> GCN()(mg.ones(3, 4), mg.tensor([[0, 1], [1, 2]])).shape
    (3, 2)

`conv` has the convolutions and their formulas, `message` the form they share, `pool` what leads from nodes to
graphs, `edges` what is made of a graph once.  Names and conventions are PyTorch Geometric's (Fey & Lenssen
2019, arXiv 1903.02428); data is in `minigrad.data`, matrices in `minigrad.sparse`.
"""

from .conv import (
    APPNP,
    ChebConv,
    EdgeConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GraphConv,
    SAGEConv,
    SGConv,
)
from .message import MessagePassing
from .pool import (
    AttentionalAggregation,
    DropEdge,
    GlobalAttention,
    JumpingKnowledge,
    TopKPooling,
    dropout_edge,
    global_add_pool,
    global_max_pool,
    global_mean_pool,
)

__all__ = [
    "APPNP",
    "AttentionalAggregation",
    "ChebConv",
    "DropEdge",
    "EdgeConv",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "GlobalAttention",
    "GraphConv",
    "JumpingKnowledge",
    "MessagePassing",
    "SAGEConv",
    "SGConv",
    "TopKPooling",
    "dropout_edge",
    "global_add_pool",
    "global_max_pool",
    "global_mean_pool",
]
