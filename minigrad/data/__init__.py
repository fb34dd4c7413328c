"""Data: sets of examples, batches of them, graphs, and real sets that come with the package.

    >>> from minigrad import data
    >>> images, labels = data.load_digits("train")
    >>> images.shape, labels.shape
    ((1259, 8, 8), (1259,))
    >>> loader = data.DataLoader(data.TensorDataset(images, labels), batch_size=100, shuffle=True)
    >>> len(loader), next(iter(loader))[0].shape
    (13, (100, 8, 8))

Graphs are in `graph` (containers and batches), `neighbors` (sampling), `splits`, `random_graphs`, `citation`
(citation networks) and `graph_files`.  Left out for now: worker processes, samplers and augmentation.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .digits import load_digits
from .loader import DataLoader
from .sets import Dataset, TensorDataset

if TYPE_CHECKING:
    from .citation import planetoid
    from .graph import Graph, GraphBatch, GraphLoader
    from .graph_files import from_networkx, load_graph, read_edge_list, save_graph, to_networkx
    from .neighbors import NeighborLoader
    from .random_graphs import barabasi_albert, erdos_renyi, karate_club, stochastic_block_model
    from .splits import negative_sampling, random_link_split, random_node_split

#: Where graphs and their kin are; loaded when first used.
_LAZY = {
    "Graph": "graph",
    "GraphBatch": "graph",
    "GraphLoader": "graph",
    "NeighborLoader": "neighbors",
    "barabasi_albert": "random_graphs",
    "erdos_renyi": "random_graphs",
    "from_networkx": "graph_files",
    "karate_club": "random_graphs",
    "load_graph": "graph_files",
    "negative_sampling": "splits",
    "planetoid": "citation",
    "random_link_split": "splits",
    "random_node_split": "splits",
    "read_edge_list": "graph_files",
    "save_graph": "graph_files",
    "stochastic_block_model": "random_graphs",
    "to_networkx": "graph_files",
}

__all__ = [
    "DataLoader",
    "Dataset",
    "Graph",
    "GraphBatch",
    "GraphLoader",
    "NeighborLoader",
    "TensorDataset",
    "barabasi_albert",
    "erdos_renyi",
    "from_networkx",
    "karate_club",
    "load_digits",
    "load_graph",
    "negative_sampling",
    "planetoid",
    "random_link_split",
    "random_node_split",
    "read_edge_list",
    "save_graph",
    "stochastic_block_model",
    "to_networkx",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
