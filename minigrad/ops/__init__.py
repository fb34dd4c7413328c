"""The vocabulary: every operation, each declared in one place.

`OPS` maps names to records.  Functions under torch's names are gathered in `minigrad` (and those
of `torch.nn.functional` in `minigrad.nn.functional`).
"""

from ..record import OPS
from . import contraction, creation, elementwise, indexing, movement, nn, reduction, sparse

__all__ = [
    "OPS",
    "contraction",
    "creation",
    "elementwise",
    "indexing",
    "movement",
    "nn",
    "reduction",
    "sparse",
]
