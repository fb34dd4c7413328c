"""The vocabulary: every operation, each declared in one place.

`OPS` maps names to records.  Functions under torch's names are gathered in `minigrad` (and those
of `torch.nn.functional` in `minigrad.nn.functional`).

Modules that are needed less often are imported when a name is asked for that the others do not
have (`LATER`): the import of the package should not pay for them.
"""

from importlib import import_module

from ..record import OPS
from ..tape import hooks
from . import contraction, creation, elementwise, indexing, movement, nn, reduction, sparse

__all__ = [
    "OPS",
    "contraction",
    "creation",
    "elementwise",
    "indexing",
    "load",
    "movement",
    "nn",
    "reduction",
    "sparse",
]

#: Modules of operations that are not imported with the package.
LATER: tuple[str, ...] = (
    "activation",
    "arranging",
    "collective",
    "ctc",
    "linalg",
    "recurrent",
    "statistics",
    "transcendental",
)


def load() -> bool:
    """Import the operations that were left for later, so that OPS is complete; False if it was already."""
    global LATER
    modules, LATER = LATER, ()
    for name in modules:
        import_module(f"{__name__}.{name}")
    return bool(modules)


hooks.load = load
