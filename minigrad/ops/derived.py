"""Second derivatives of large kernels, derived and not written.

A kernel that runs a whole recurrence (an LSTM over time, the alignments of a sequence) has a gradient that
is another such kernel, and a rule for *that* one is wanted only by those who differentiate twice.  Such a
rule need not be fast, only right: write what the gradient kernel computes as a composition of ordinary
operations, and let the tape differentiate it.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0])
    >>> partial(lambda x: x * x * x, (x,), mg.ones(2), 0).detach()
    tensor([ 3., 12.])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..mode import Switch, current
from ..tape import Leaf, sweep
from ..tensor import Tensor, wrap
from .movement import _reshape


def partial(function: Callable[..., Tensor], inputs: Sequence[Tensor], g: Tensor, i: int) -> Tensor:
    """The cotangent of input i of `function(*inputs)`, the other inputs held still; g: that of its output.

    Where gradients are being recorded, the result has a history, and can be differentiated again.
    """
    create_graph = current().grad
    with Switch(grad=True):
        # copies: an input that is computed from another one must not pass a gradient on to it here
        copies = [t if t._node is None else _reshape(t, t.shape) for t in inputs]
        if copies[i]._node is None:
            copies[i] = wrap(copies[i]._array, Leaf(copies[i].shape, copies[i].dtype))
        y = function(*copies)
    target = copies[i]._node
    assert target is not None
    found = {}
    if y._node is not None:
        found = sweep([(y._node, g)], {target: None}, retain_graph=True, create_graph=create_graph)
    return found[target] if target in found else copies[i].detach() * 0.0
