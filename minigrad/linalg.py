"""`mg.linalg`: inverses, solutions, factorisations and norms, under the names of `torch.linalg`.

    >>> import minigrad as mg
    >>> a = mg.tensor([[4.0, 2.0], [2.0, 3.0]])
    >>> mg.linalg.solve(a, mg.tensor([8.0, 7.0]))
    tensor([1.25, 1.5 ])

The lesson, with the derivatives and their sources, is in `minigrad.ops.linalg`.
"""

from .ops.linalg import *  # noqa: F403
from .ops.linalg import __all__ as __all__
