"""`mg.linalg`: inverses, solutions, factorisations and norms, under the names of `torch.linalg`.

    >>> import minigrad as mg
    >>> a = mg.tensor([[4.0, 2.0], [2.0, 3.0]])
    >>> mg.linalg.solve(a, mg.tensor([8.0, 7.0]))
    tensor([1.25, 1.5 ])

The lesson, with the derivatives and their sources, is in `minigrad.ops.linalg`; what is made of them is in
`minigrad.ops.matrices`.
"""

from .ops import linalg
from .ops.contraction import matmul
from .ops.indexing import diagonal
from .ops.linalg import *  # noqa: F403
from .ops.matrices import cond, lstsq, matrix_exp, multi_dot

__all__ = [*linalg.__all__, "cond", "diagonal", "lstsq", "matmul", "matrix_exp", "multi_dot"]
