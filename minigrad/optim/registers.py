"""Registers: an optimizer's numpy formulas, recorded instead of run.

An optimizer's `update` is written once, in numpy calls that write where they are told to:

    np.multiply(g, 1 - beta1, out=s)
    np.add(m, s, out=m)

Under a trace there are no arrays to write to.  But numpy lets a class of one's own answer for its
functions (`__array_ufunc__`, NEP 13), so `update` is handed *registers* in their place: a register
has a tensor as its value, a ufunc on registers is the operation of that name, and `out=` makes the
result the value of another register.  The formulas need not know.

    >>> import minigrad as mg
    >>> r = Register(mg.tensor([1.0, 4.0]))
    >>> r is np.sqrt(r, out=r)
    True
    >>> r *= 10.0                                       # the operators too
    >>> r.value
    tensor([10., 20.])

Two functions of numpy that are no ufuncs are answered for as well (`__array_function__`, NEP 18):
`np.where`, and `np.sum` of all elements.

Numbers that change from step to step (a learning rate under a schedule, the count of steps) are
registers too, `weak` like the Python numbers they stand for: they take the dtype of what they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import numpy as np

from ..errors import TraceError
from ..ir import DType, Shape, is_float
from ..ops.elementwise import where
from ..tape import hooks
from ..tensor import Tensor, wrap


class Register:
    """A place that numpy's functions can read and write, holding a tensor.

    store: called with the value whenever it changes.
    """

    def __init__(
        self, value: Tensor | None, *, weak: bool = False, store: Callable[[Tensor], Any] | None = None
    ) -> None:
        self.value: Any = value
        self.weak = weak
        self._store = store

    @property
    def shape(self) -> Shape:
        """The shape of the value."""
        shape: Shape = self.value.shape
        return shape

    @property
    def dtype(self) -> DType:
        """The dtype of the value."""
        dtype: DType = self.value.dtype
        return dtype

    def copy(self) -> Register:
        """The same value in another place."""
        return Register(self.value)

    def put(self, value: Tensor) -> Register:
        """Make `value` the value, in the dtype that this place has."""
        if self.value is not None and value.dtype != self.value.dtype:
            value = hooks.cast(value, self.value.dtype)  # type: ignore[attr-defined]
        self.value = value
        if self._store is not None:
            self._store(value)
        return self

    def _inplace(self, ufunc: Any, other: Any) -> Any:
        return ufunc(self, other, out=self)

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is not Ellipsis and index != slice(None) and index != ():
            raise TraceError(
                "optimizer",
                f"a part [{index}] of an array is written in a trace",
                fix="write all of it: [...]",
            )
        self.put(value.value if isinstance(value, Register) else wrap(np.asarray(value, self.dtype)))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Record the operation of that name."""
        out = kwargs.pop("out", None)
        function = hooks.ufuncs.get(ufunc.__name__)
        if function is None or method != "__call__" or kwargs:
            raise TraceError(
                f"numpy.{ufunc.__name__}",
                "an optimizer's step cannot be recorded: there is no such operation on tensors",
                fix="write it with numpy functions that minigrad has too, or step outside of the trace",
            )
        like = _float_of(inputs)
        result = function(*[_operand(x, like) for x in inputs])
        if out is None:
            return Register(result, weak=not _strong(inputs))
        target = out[0]
        if not isinstance(target, Register):
            raise TraceError(
                f"numpy.{ufunc.__name__}", "a traced value is written into an array", fix="use scratch(p)"
            )
        return target.put(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Record the function of that name: `np.where(condition, a, b)`, `np.sum(a)`."""
        if kwargs or function not in _FUNCTIONS or len(args) != _FUNCTIONS[function]:
            raise TraceError(
                f"numpy.{function.__name__}",
                "an optimizer's step cannot be recorded: it is not known what this is on tensors",
                fix="write it with numpy's elementwise functions, np.where(c, a, b) and np.sum(a)",
            )
        if function is np.sum:
            return Register(args[0].value.sum(), weak=args[0].weak)
        like = _float_of(args[1:])
        condition, a, b = args
        chosen = where(condition.value, _operand(a, like), _operand(b, like))
        return Register(chosen, weak=not _strong((a, b)))


#: Function -> how many arguments it is given.
_FUNCTIONS: dict[Any, int] = {np.where: 3, np.sum: 1}


def _strong(values: Any) -> list[DType]:
    """The dtypes of those that are no mere numbers."""
    return [x.dtype for x in values if hasattr(x, "dtype") and not getattr(x, "weak", False)]


def _float_of(values: Any) -> DType | None:
    """The dtype that weak numbers take beside these values."""
    return next((d for d in _strong(values) if is_float(d)), None)


def _operators() -> None:
    """Python's operators, as numpy's arrays have them."""
    for name, ufunc in (
        ("add", np.add),
        ("sub", np.subtract),
        ("mul", np.multiply),
        ("truediv", np.true_divide),
        ("pow", np.power),
    ):
        setattr(Register, f"__{name}__", lambda self, other, ufunc=ufunc: ufunc(self, other))
        setattr(Register, f"__r{name}__", lambda self, other, ufunc=ufunc: ufunc(other, self))
        setattr(Register, f"__i{name}__", lambda self, other, ufunc=ufunc: self._inplace(ufunc, other))
    for name, comparison in (
        ("gt", np.greater),
        ("lt", np.less),
        ("ge", np.greater_equal),
        ("le", np.less_equal),
    ):
        setattr(Register, f"__{name}__", lambda self, other, ufunc=comparison: ufunc(self, other))
    setattr(Register, "__neg__", lambda self: np.negative(self))  # noqa: B010


_operators()


def _operand(x: Any, like: DType | None) -> Any:
    if not isinstance(x, Register):
        return wrap(x) if isinstance(x, np.ndarray) else x
    if x.weak and like is not None:
        return hooks.cast(x.value, like)  # type: ignore[attr-defined]
    return x.value


class _Slot:
    """What stands for a tensor of the state: its `_array` is a register that writes through."""

    def __init__(self, tensor: Tensor) -> None:
        self._array = Register(tensor, store=tensor.assign)


class RegisterState(MutableMapping[str, Any]):
    """The state of one parameter, with registers where `update` takes arrays."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    def __getitem__(self, name: str) -> Any:
        value = self._state[name]
        return _Slot(value) if isinstance(value, Tensor) else value

    def __setitem__(self, name: str, value: Any) -> None:
        self._state[name] = value

    def __delitem__(self, name: str) -> None:
        del self._state[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


__all__ = ["Register", "RegisterState"]
