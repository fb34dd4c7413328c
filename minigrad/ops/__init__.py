"""The vocabulary: every operation, each declared in one place.

`OPS` maps names to records.  Functions under torch's names are gathered in `minigrad` (and those
of `torch.nn.functional` in `minigrad.nn.functional`).  What only networks need (`activation`, `recurrent`,
`ctc`) is declared when `minigrad.nn` is first used, so that importing the package stays quick.
"""

from ..record import OPS
from . import contraction, creation, elementwise, indexing, movement, nn, reduction

__all__ = ["OPS", "contraction", "creation", "elementwise", "indexing", "movement", "nn", "reduction"]
