"""Data: sets of examples, batches of them, graphs, and real sets that come with the package.

    >>> from minigrad import data
    >>> images, labels = data.load_digits("train")
    >>> images.shape, labels.shape
    ((1259, 8, 8), (1259,))
    >>> loader = data.DataLoader(data.TensorDataset(images, labels), batch_size=100, shuffle=True)
    >>> len(loader), next(iter(loader))[0].shape
    (13, (100, 8, 8))

Graphs are in `graph` (containers and batches), `neighbors` (sampling), `splits`, `random_graphs`, `citation`
(citation networks) and `graph_files`; files in `readers`, what is learned from data before a model is in
`preprocessing`, random changes in `augmentation`, worker processes in `workers`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .digits import load_digits
from .loader import DataLoader, collate
from .loader import collate as default_collate
from .samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .sets import ConcatDataset, Dataset, Subset, TensorDataset, random_split

if TYPE_CHECKING:
    from . import augmentation, preprocessing
    from .augmentation import Augmented
    from .citation import planetoid
    from .graph import Graph, GraphBatch, GraphLoader
    from .graph_files import from_networkx, load_graph, read_edge_list, save_graph, to_networkx
    from .neighbors import NeighborLoader
    from .random_graphs import barabasi_albert, erdos_renyi, karate_club, stochastic_block_model
    from .readers import (
        DataError,
        ImageFolder,
        cifar10,
        features,
        mnist,
        open_arrays,
        read_cifar10,
        read_csv,
        read_idx,
        read_image,
    )
    from .splits import negative_sampling, random_link_split, random_node_split
    from .synthetic import make_blobs, make_circles, make_moons, make_regression, make_spirals
    from .workers import WorkerError

#: Where the rest is; loaded when first used.
_LAZY = {
    "Augmented": "augmentation",
    "DataError": "readers",
    "Graph": "graph",
    "GraphBatch": "graph",
    "GraphLoader": "graph",
    "ImageFolder": "readers",
    "NeighborLoader": "neighbors",
    "WorkerError": "workers",
    "barabasi_albert": "random_graphs",
    "cifar10": "readers",
    "erdos_renyi": "random_graphs",
    "features": "readers",
    "from_networkx": "graph_files",
    "karate_club": "random_graphs",
    "load_graph": "graph_files",
    "make_blobs": "synthetic",
    "make_circles": "synthetic",
    "make_moons": "synthetic",
    "make_regression": "synthetic",
    "make_spirals": "synthetic",
    "mnist": "readers",
    "negative_sampling": "splits",
    "open_arrays": "readers",
    "planetoid": "citation",
    "random_link_split": "splits",
    "random_node_split": "splits",
    "read_cifar10": "readers",
    "read_csv": "readers",
    "read_edge_list": "graph_files",
    "read_idx": "readers",
    "read_image": "readers",
    "save_graph": "graph_files",
    "stochastic_block_model": "random_graphs",
    "to_networkx": "graph_files",
}

__all__ = [
    "Augmented",
    "BatchSampler",
    "ConcatDataset",
    "DataError",
    "DataLoader",
    "Dataset",
    "Graph",
    "GraphBatch",
    "GraphLoader",
    "ImageFolder",
    "NeighborLoader",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "WorkerError",
    "augmentation",
    "barabasi_albert",
    "cifar10",
    "collate",
    "default_collate",
    "erdos_renyi",
    "features",
    "from_networkx",
    "karate_club",
    "load_digits",
    "load_graph",
    "make_blobs",
    "make_circles",
    "make_moons",
    "make_regression",
    "make_spirals",
    "mnist",
    "negative_sampling",
    "open_arrays",
    "planetoid",
    "preprocessing",
    "random_link_split",
    "random_node_split",
    "random_split",
    "read_cifar10",
    "read_csv",
    "read_edge_list",
    "read_idx",
    "read_image",
    "save_graph",
    "stochastic_block_model",
    "to_networkx",
]


def __getattr__(name: str) -> Any:
    if name in ("augmentation", "preprocessing"):
        return import_module(f"{__name__}.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
