"""Optimizer steps on the C kernels: a list of tensors, one call, one pass over memory.

    >>> import numpy as np
    >>> p, g = np.ones(3, np.float32), np.full(3, 0.5, np.float32)
    >>> sgd([p], [g], lr=0.1)
    >>> p.tolist()
    [0.949999988079071, 0.949999988079071, 0.949999988079071]

The arrays are changed in place, so they must be writable, contiguous, of one dtype (float32 or
float64) and must not overlap; `usable` says whether they are.  The formulas and their names are
those of torch.optim.

`Update` is for training loops: it looks at the arrays once and is then a single foreign call per step,
before which `aim` points it at the gradients of that step.  `prepare` makes one for `optim`.  There is no
crossover to numpy: for Adam the call is quicker from one tensor of one element on, and for SGD it costs
at most 2 us more than numpy's two to four passes, up to some thousand elements.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import c as _c

Array = Any
Arrays = Sequence[Array]

_TYPE = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}


def usable(*lists: Arrays | None) -> bool:
    """Whether the kernels can take these lists of arrays; the first is that of the parameters."""
    first = lists[0]
    if not _c.available or not first or first[0].dtype not in _TYPE:
        return False
    for arrays in lists:
        for x, p in zip(arrays or (), first, strict=bool(arrays)):
            if (
                x.dtype != first[0].dtype
                or x.shape != p.shape
                or not (x.flags.c_contiguous and x.flags.aligned)
            ):
                return False
    return all(x.flags.writeable for i, arrays in enumerate(lists) if i != 1 for x in arrays or ())


def _address(x: Array) -> Any:
    return _c.ffi.cast("void *", x.__array_interface__["data"][0])


class Update:
    """The tensors of one optimizer: parameters, gradients, and the state that the update uses.

    Without gradients it must be aimed before each step.
    """

    def __init__(
        self,
        params: Arrays,
        grads: Arrays | None = None,
        m: Arrays | None = None,
        v: Arrays | None = None,
        top: Arrays | None = None,
    ) -> None:
        if not usable(params, grads, m, v, top):
            raise ValueError(
                "parameters, gradients and state must be writable, contiguous arrays of equal shapes "
                "and of one dtype, float32 or float64"
            )
        self._keep = (params, grads, m, v, top)
        written = [x for arrays in (params, m, v, top) for x in arrays or ()]
        self._copies: list[Array] = []
        self._starts, self._ends = _spans(written)
        _spans([*written, *(grads or ())])
        self.dtype = params[0].dtype
        self.type = _TYPE[self.dtype]
        self.count = len(params)
        self.list = _c.ffi.new("struct mg_parameter[]", self.count)
        self._entries = [(self.list[i], p.shape, p.nbytes) for i, p in enumerate(params)]
        for i, entry in enumerate(self.list):
            entry.p, entry.n = _address(params[i]), params[i].size
            for name, arrays in (("g", grads), ("m", m), ("v", v), ("top", top)):
                if arrays:
                    setattr(entry, name, _address(arrays[i]))

    def aim(self, grads: Arrays) -> bool:
        """Take these gradients, which the caller keeps alive, for the next step; False if that cannot be.

        They may be read-only and share memory with each other, but not with what the step writes to.
        """
        dtype, starts, ends = self.dtype, self._starts, self._ends
        self._copies.clear()
        for (entry, shape, size), g in zip(self._entries, grads, strict=True):
            if g.dtype is not dtype or g.shape != shape:
                return False
            if not g.flags.c_contiguous:
                self._copies.append(g := np.array(g, order="C"))
            address = int(_c.ffi.cast("uintptr_t", pointer := _c.from_buffer(g)))
            before = bisect_left(starts, address + size)
            if address % dtype.itemsize or (before and ends[before - 1] > address):
                return False
            entry.g = pointer
        return True

    def sgd(
        self,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        first: bool = False,
    ) -> None:
        """One step of SGD; `first` says that the momentum begins here, as the gradient itself."""
        o = _c.ffi.new("struct mg_sgd *", (lr, momentum, dampening, weight_decay, nesterov, maximize, first))
        _c._check(_c.lib.mg_sgd(self.type, self.count, self.list, o))

    def adam(
        self,
        step: int,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        maximize: bool = False,
    ) -> None:
        """Step number `step` (from 1) of Adam, or of AdamW if the weight decay is `decoupled`."""
        o = _c.ffi.new(
            "struct mg_adam *", (lr, betas[0], betas[1], eps, weight_decay, step, decoupled, maximize)
        )
        _c._check(_c.lib.mg_adam(self.type, self.count, self.list, o))


def prepare(
    params: Arrays, m: Arrays | None = None, v: Arrays | None = None, top: Arrays | None = None
) -> Update | None:
    """What steps these parameters, once aimed at their gradients; None for arrays that it cannot take."""
    if not usable(params, None, m, v, top):
        return None
    try:
        return Update(params, None, m, v, top)
    except ValueError:  # two of the arrays overlap: one after the other, then
        return None


def _spans(arrays: Arrays) -> tuple[list[int], list[int]]:
    """Where arrays begin and end in memory, in order; ValueError if two overlap."""
    spans = sorted((a := x.__array_interface__["data"][0], a + x.nbytes) for x in arrays if x.nbytes)
    if any(end > start for (_, end), (start, _) in itertools.pairwise(spans)):
        raise ValueError("two of the arrays overlap")
    return [start for start, _ in spans], [end for _, end in spans]


def sgd(params: Arrays, grads: Arrays, momenta: Arrays | None = None, **options: Any) -> None:
    """One step of SGD for a list of tensors; see `Update.sgd`."""
    if params:
        Update(params, grads, momenta).sgd(**options)


def adam(
    params: Arrays, grads: Arrays, m: Arrays, v: Arrays, step: int, top: Arrays | None = None, **options: Any
) -> None:
    """One step of Adam or AdamW for a list of tensors; see `Update.adam`.  With `top`, AMSGrad."""
    if params:
        Update(params, grads, m, v, top).adam(step, **options)
