"""Optimizers: ways to walk downhill, under PyTorch's names and with its formulas.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> x = mg.tensor([4.0], requires_grad=True)
    >>> descent = optim.SGD([x], lr=0.25)
    >>> for _ in range(3):
    ...     descent.zero_grad()
    ...     ((x - 1) ** 2).sum().backward()
    ...     descent.step()
    >>> x.detach()
    tensor([1.375])

`Optimizer` is in `base`; each family has a file: `sgd` (GD, SGD), `adam` (Adam, AdamW), `adaptive`
(Adamax, NAdam, RAdam), `rms` (RMSprop, Adagrad, Adadelta), `lion`, `lamb`, `lbfgs`.  `lr_scheduler`
has the schedules, `lr_finder` looks for a learning rate, `averaging` has averages of weights (SWA, EMA), and
`accumulation` the gradients of more than fits into memory.  Clipping is in `minigrad.nn.clip`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import lr_scheduler
from .accumulation import accumulate
from .adam import Adam, AdamW
from .adaptive import Adamax, NAdam, RAdam
from .base import Optimizer
from .lamb import LAMB
from .lbfgs import LBFGS
from .lion import Lion
from .lr_finder import find_lr
from .rms import Adadelta, Adagrad, RMSprop
from .sgd import GD, SGD

if TYPE_CHECKING:
    from . import averaging as swa_utils
    from .averaging import AveragedModel, update_bn

__all__ = [
    "GD",
    "LAMB",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "AveragedModel",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "accumulate",
    "find_lr",
    "lr_scheduler",
    "swa_utils",
    "update_bn",
]


def __getattr__(name: str) -> Any:
    """What needs `minigrad.nn`, which needs this package; `swa_utils` is PyTorch's name for `averaging`."""
    import importlib

    if name in ("AveragedModel", "swa_utils", "update_bn"):
        averaging = importlib.import_module(".averaging", __name__)
        return averaging if name == "swa_utils" else getattr(averaging, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
