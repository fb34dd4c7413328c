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
(Adamax, NAdam, RAdam), `rms` (RMSprop, Adagrad, Adadelta), `lion`, `lamb`.  `lr_scheduler` has the
schedules.
"""

from . import lr_scheduler
from .adam import Adam, AdamW
from .adaptive import Adamax, NAdam, RAdam
from .base import Optimizer
from .lamb import LAMB
from .lion import Lion
from .rms import Adadelta, Adagrad, RMSprop
from .sgd import GD, SGD

__all__ = [
    "GD",
    "LAMB",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "lr_scheduler",
]
