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

`Optimizer` is in `base`; `SGD`, `Adam` and `AdamW` have a file a family.
"""

from .adam import Adam, AdamW
from .base import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
