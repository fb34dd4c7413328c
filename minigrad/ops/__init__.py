"""The vocabulary: every operation, each declared in one place.

`OPS` maps names to records.  Functions under torch's names are gathered in `minigrad` (and those
of `torch.nn.functional` in `minigrad.nn.functional`).

Modules that are needed less often are imported when a name is asked for that the others do not
have (`LATER`): the import of the package should not pay for them.
"""

from importlib import import_module
from threading import RLock
from typing import Any

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
    "matrices",
    "quantized",
    "recurrent",
    "sampling",
    "statistics",
    "transcendental",
)


_loading = RLock()


def load() -> None:
    """Import the operations that were left for later, so that OPS is complete."""
    global LATER
    with _loading:  # another thread waits until the names are there
        modules, LATER = LATER, ()
        for name in modules:
            import_module(f"{__name__}.{name}")


def array_function(function: Any, args: Any, kwargs: Any) -> Any:
    """What a function of numpy means for tensors; NotImplemented if it has no operation."""
    from .array_functions import FACES, call

    face = FACES.get(function)
    return NotImplemented if face is None else call(function, face, args, kwargs)


hooks.load = load
hooks.array_function = array_function
