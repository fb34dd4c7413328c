"""Data: sets of examples, batches of them, and one real set that comes with the package.

    >>> from minigrad import data
    >>> images, labels = data.load_digits("train")
    >>> images.shape, labels.shape
    ((1259, 8, 8), (1259,))
    >>> loader = data.DataLoader(data.TensorDataset(images, labels), batch_size=100, shuffle=True)
    >>> len(loader), next(iter(loader))[0].shape
    (13, (100, 8, 8))
"""

from .digits import load_digits
from .loader import DataLoader, collate
from .samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .sets import ConcatDataset, Dataset, Subset, TensorDataset, random_split

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "collate",
    "load_digits",
    "random_split",
]
