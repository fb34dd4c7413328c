"""Data: sets of examples, batches of them, and one real set that comes with the package.

>>> from minigrad import data
>>> images, labels = data.load_digits("train")
>>> images.shape, labels.shape
((1259, 8, 8), (1259,))
>>> loader = data.DataLoader(data.TensorDataset(images, labels), batch_size=100, shuffle=True)
>>> len(loader), next(iter(loader))[0].shape
(13, (100, 8, 8))
"""

from . import augmentation, preprocessing
from .augmentation import Augmented
from .digits import load_digits
from .loader import DataLoader, collate
from .readers import (
    DataError,
    ImageFolder,
    cifar10,
    download,
    features,
    mnist,
    open_arrays,
    read_cifar10,
    read_csv,
    read_idx,
    read_image,
)
from .samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .sets import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from .synthetic import make_blobs, make_circles, make_moons, make_regression, make_spirals
from .workers import WorkerError

__all__ = [
    "Augmented",
    "BatchSampler",
    "ConcatDataset",
    "DataError",
    "DataLoader",
    "Dataset",
    "ImageFolder",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "WorkerError",
    "augmentation",
    "cifar10",
    "collate",
    "download",
    "features",
    "load_digits",
    "make_blobs",
    "make_circles",
    "make_moons",
    "make_regression",
    "make_spirals",
    "mnist",
    "open_arrays",
    "preprocessing",
    "random_split",
    "read_cifar10",
    "read_csv",
    "read_idx",
    "read_image",
]
