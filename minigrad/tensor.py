"""The Tensor: an array, and the node of the tape that made it.

That is all a tensor is.  Three slots carry it:

    _array    the numpy array; while a function is traced, a `Symbol` that has only a spec
    _node     the tape node that made the value (or a `Leaf`), None if no gradient is wanted
    _version  a cell counting in-place changes, made when somebody first cares

Operators and methods are not defined here: each operation installs its own (`method=` in its
declaration), so that this file imports nothing above it.

A *view* shares memory with its base, and so it shares the version cell, and its place in the
history follows the base: after `x[0] = 5`, a view taken from `x` before shows the new value, and
differentiating through it must go through the assignment.  `View` re-derives its node when the
cell has moved on (the same contract as PyTorch's, see "In-place operations with autograd").
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import tape
from .errors import ArgumentError, DTypeError, Error, GradientError, OutOfRangeError, TraceError, Where, here
from .ir import DTYPES, DType, Shape, Spec, default_float, int64, is_float
from .mode import current, using
from .record import Op

if TYPE_CHECKING:
    from ._methods import TensorMethods
else:

    class TensorMethods:
        """Where operations install their methods; `_methods.pyi` lists them for type checkers."""

        __slots__ = ()


_new = object.__new__


class Device(str):
    """Where tensors are: there is one place, the CPU.  It equals its name.

    As in PyTorch a script may name others; using one is an ArgumentError that says so.

    >>> Device("cpu"), Device("cpu") == "cpu", Device("cuda:1").index
    (device(type='cpu'), True, 1)
    """

    __slots__ = ()

    def __new__(cls, type: str, index: int | None = None) -> Device:
        if not isinstance(type, str):
            raise ArgumentError("device", f"a device named {type!r}", fix="pass 'cpu'")
        return super().__new__(cls, type if index is None else f"{type}:{index}")

    @property
    def type(self) -> str:
        """The kind of device: 'cpu'."""
        return str(self).partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override]  # what str calls index has no meaning here
        """Which one of that kind, None if not said."""
        number = self.partition(":")[2]
        return int(number) if number else None

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{index})"


CPU = Device("cpu")


class Counted:
    """Something whose changes are counted: as long as the count is the same, nobody need look again."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 0

    def changed(self, *_: Any) -> None:
        """Count a change, after it was made.  (Also as the callback of a weak reference.)"""
        self.version += 1


#: Counts whatever may make captured programs unfit for the world: a tensor that has another array or history
#: than before, another mode of a module, other parameters of an optimizer, the end of one of these.  What is
#: *written* into a tensor does not count: programs read it at every call.
WORLD = Counted()

#: Tensors, by id, that a module held and holds no more: programs that read them are to be traced anew.
REPLACED: dict[int, weakref.ref[Tensor]] = {}


def note_replaced(t: Tensor) -> None:
    """Enter a tensor into REPLACED, as long as it exists."""
    key = id(t)
    REPLACED[key] = weakref.ref(t, lambda _: REPLACED.pop(key, None))
    WORLD.changed()


class Together(list[Any]):
    """One version cell of several tensors, which a captured program changes together.

    left: how many have a cell of their own again, because a change or a view of one must not be taken for one
    of another.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        super().__init__([0, None])
        self.left = 0


class Symbol:
    """What a traced tensor has instead of an array: a spec, and its number in the graph."""

    __slots__ = ("dtype", "ndim", "number", "origin", "shape", "size", "trace")

    def __init__(self, spec: Spec, number: int, trace: Any) -> None:
        self.shape, self.dtype = spec
        self.ndim = len(spec.shape)
        self.size = int(np.prod(spec.shape, dtype=np.int64))
        self.number = number
        self.trace = trace
        self.origin: int | None = None  # of a view: the version of its base when it was taken

    # numpy must not take a symbol for an object to put into an array: that would be a wrong number.
    __array_ufunc__ = None

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a traced tensor has no values")


class Tensor(TensorMethods):
    """An n-dimensional array that can remember how it was computed.

    data: anything numpy can make an array of.  dtype: one of `minigrad.float32`, `float64`,
    `int8`, `uint8`, `int16`, `int32`, `int64`, `bool`; by default that of the data, with Python floats
    becoming float32.  requires_grad: record operations on it, so that `backward` fills `.grad`.

    Raises DTypeError for data of another dtype or gradients of integers.
    """

    __slots__ = ("__weakref__", "_array", "_node", "_version")

    _array: Any
    _node: tape.Node | None
    _version: list[Any] | None

    __hash__ = object.__hash__
    # numpy must hand `array * tensor` to Tensor.__rmul__ rather than loop over elements.
    __array_priority__ = 1000

    def __init__(self, data: Any = (), dtype: Any = None, *, requires_grad: bool = False) -> None:
        self._array = as_array(data, dtype, copy=True)
        self._version = None
        self._node = None
        if requires_grad:
            self.requires_grad_()

    if not TYPE_CHECKING:  # which would take any name then

        def __getattr__(self, name: str) -> Any:
            """Methods of operations that are imported when one of them is first asked for; see `ops.load`."""
            if name[0] != "_":
                tape.hooks.load()
                if hasattr(type(self), name):
                    return object.__getattribute__(self, name)
            raise AttributeError(f"'Tensor' object has no attribute {name!r}", name=name, obj=self)

    # -- what it is ---------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """The size of each dimension."""
        shape: Shape = self._array.shape
        return shape

    @property
    def dtype(self) -> DType:
        """The element type, a numpy dtype."""
        dtype: DType = self._array.dtype
        return dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        ndim: int = self._array.ndim
        return ndim

    def dim(self) -> int:
        """The number of dimensions."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        if dim is None:
            return self.shape
        if not -self.ndim <= dim < self.ndim:
            raise OutOfRangeError(
                "size",
                f"dimension {dim} of a tensor of shape {self.shape}",
                fix="count from 0, or from the end with -1",
            )
        return self.shape[dim]

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return int(self._array.size)

    nelement = numel

    def element_size(self) -> int:
        """Bytes an element takes."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes all elements take."""
        return self.numel() * self.dtype.itemsize

    @property
    def device(self) -> Device:
        """Always the CPU."""
        return CPU

    @property
    def is_cuda(self) -> bool:
        """Always False."""
        return False

    @property
    def itemsize(self) -> int:
        """Bytes an element takes."""
        return self.dtype.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """How many elements lie between neighbours along each dimension, or one of them."""
        array = self._concrete("stride")
        strides = tuple(s // array.itemsize for s in array.strides)
        return strides if dim is None else strides[dim]

    def is_floating_point(self) -> bool:
        """Whether the dtype is float32 or float64."""
        return is_float(self.dtype)

    def is_contiguous(self) -> bool:
        """Whether the elements lie in memory in row-major order without gaps."""
        return isinstance(self._array, Symbol) or bool(self._array.flags.c_contiguous)

    # -- out to numpy and Python -----------------------------------------------------------------

    def _concrete(self, what: str) -> Any:
        array = self._array
        if isinstance(array, Symbol):
            raise TraceError(
                what,
                f"a traced tensor of spec {Spec(array.shape, array.dtype)} has no value yet",
                fix="keep the decision inside the graph (minigrad.where, masks), or compute it outside the "
                "traced function and pass it in",
            )
        trace = current().trace
        if trace is not None:
            trace.read(self, what)
        return array

    def numpy(self) -> np.ndarray[Any, Any]:
        """The array itself, sharing memory.  Raises GradientError if the tensor requires grad."""
        if self._node is None and type(self._array) is np.ndarray and current().trace is None:
            return self._array
        array = self._concrete("numpy")
        if self._node is not None and tape.recording():
            raise GradientError(
                "numpy",
                f"a tensor of shape {self.shape} that requires grad would lose its history",
                fix="call .detach().numpy()",
            )
        result: np.ndarray[Any, Any] = array
        return result

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number.  Raises ArgumentError otherwise."""
        array = self._concrete("item")
        if array.size != 1:
            raise ArgumentError(
                "item",
                f"a tensor of shape {self.shape} has {array.size} elements, not one",
                fix="use tolist()",
            )
        return array.item()

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return self._concrete("tolist").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(_unrecorded(self, "numpy.asarray"), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """`numpy.exp(tensor)` and `array * tensor` run the operation of that ufunc."""
        function = tape.hooks.ufuncs.get(ufunc.__name__)
        if function is None or method != "__call__" or kwargs:
            what = f" with {', '.join(kwargs)}" if kwargs else "" if method == "__call__" else f".{method}"
            raise DTypeError(
                f"numpy.{ufunc.__name__}{what}",
                "there is no such operation on tensors",
                fix="apply it to tensor.detach().numpy()",
            )
        return function(*(wrap(as_array(x)) if isinstance(x, np.ndarray) else x for x in inputs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """`numpy.sum(tensor)` runs the operation that means the same (`minigrad.ops.array_functions`).

        Functions that have none take the tensor for the array that it holds.
        """
        result = tape.hooks.array_function(func, args, kwargs)
        if result is not NotImplemented:
            return result
        what = f"numpy.{func.__name__}"
        return func(
            *_as_arrays(args, what), **{name: _as_arrays(value, what) for name, value in kwargs.items()}
        )

    def __float__(self) -> float:
        return float(self._scalar("float"))

    def __int__(self) -> int:
        return int(self._scalar("int"))

    def __index__(self) -> int:
        value = self._scalar("index")
        if is_float(self.dtype):
            raise DTypeError("index", f"a {self.dtype} tensor is no index", fix="use an integer tensor")
        return int(value)

    def __bool__(self) -> bool:
        array = self._concrete("bool")
        if array.size != 1:
            raise ArgumentError(
                "bool",
                f"the truth of a tensor of shape {self.shape} is ambiguous",
                fix="use .any() or .all()",
            )
        return bool(array)

    def _scalar(self, what: str) -> Any:
        array = self._concrete(what)
        if array.size != 1:
            raise ArgumentError(
                what, f"a tensor of shape {self.shape} is not a single number", fix="use .item()"
            )
        return array.item()

    def __len__(self) -> int:
        if not self.ndim:
            raise DTypeError("len", "a 0-d tensor has no length", fix="use .item() for its value")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise DTypeError("iter", "a 0-d tensor cannot be iterated over", fix="use .item() for its value")
        return (self[i] for i in range(self.shape[0]))

    def __contains__(self, value: Any) -> bool:
        return bool((self._concrete("in") == (value._array if isinstance(value, Tensor) else value)).any())

    def __repr__(self) -> str:
        array = self._array
        if isinstance(array, Symbol):
            number = array.number if array.number < 1 << 40 else f"n{array.number - (1 << 40)}"
            return f"tensor(%{number}: {Spec(array.shape, array.dtype)}, traced)"
        body = np.array2string(array, separator=", ", prefix="tensor(", precision=4, threshold=1000)
        notes = []
        usual = array.dtype in (default_float(), int64) or array.dtype.kind == "b"
        if not usual or array.size == 0:
            notes.append(f"dtype={array.dtype}")
        if array.size == 0 and array.shape != (0,):
            notes.append(f"size={array.shape}")
        if isinstance(self._node, tape.Leaf):
            notes.append("requires_grad=True")
        elif self._node is not None:
            notes.append(f"grad_fn=<{self._node.name}>")
        return f"tensor({', '.join([body, *notes])})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.numel() == 1 else format(str(self), spec)

    # -- the tape ---------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Turn recording on or off for a leaf, in place, and return it.

        Raises DTypeError for an integer tensor, GradientError when turned off on a result.
        """
        if requires_grad:
            if self._node is None:
                if not is_float(self.dtype):
                    raise DTypeError(
                        "requires_grad_",
                        f"a tensor of dtype {self.dtype} has no gradient",
                        fix="make it float32 or float64 with .float() or .double()",
                    )
                self._node = tape.Leaf(self.shape, self.dtype)
                WORLD.changed()
        elif isinstance(self._node, tape.Leaf):
            self._node = None
            WORLD.changed()
        elif self._node is not None:
            raise GradientError(
                "requires_grad_",
                f"a result of {self._node.name} cannot be turned into a constant",
                fix="use .detach() to get one that shares its memory",
            )
        return self

    @property
    def is_leaf(self) -> bool:
        """True for tensors that were made by the user, not by a recorded operation."""
        return self._node is None or isinstance(self._node, tape.Leaf)

    @property
    def grad_fn(self) -> tape.Node | None:
        """The tape node that made this value, None for a leaf."""
        return None if self.is_leaf else self._node

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient, of the tensor's own shape; None before `backward`.

        A result (not a leaf) has one only after `retain_grad()`.
        """
        node = self._node
        return None if node is None else node.grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        node = self._node
        if node is None:
            if value is None:
                return
            raise GradientError(
                "grad",
                "this tensor does not require grad, so it cannot hold one",
                fix="call requires_grad_() first",
            )
        if value is not None and (value.shape != self.shape or value.dtype != self.dtype):
            raise ArgumentError(
                "grad",
                f"a gradient of {Spec(value.shape, value.dtype)} does not fit a tensor of "
                f"{Spec(self.shape, self.dtype)}",
                fix="make its shape and dtype those of the tensor",
            )
        trace = current().trace
        if trace is not None and isinstance(node, tape.Leaf):
            trace.leaf(node)
        node.grad = value

    def retain_grad(self) -> None:
        """Make `backward` fill `.grad` of this result too."""
        if self._node is None:
            raise GradientError(
                "retain_grad",
                "this tensor does not require grad",
                fix="call requires_grad_() before computing",
            )
        self._node.retain = True

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> tape.Removable:
        """Call `hook(grad)` whenever the gradient of this tensor is computed; what it returns, if
        not None, replaces the gradient.  Returns a handle with `remove()`."""
        if self._node is None:
            raise GradientError(
                "register_hook",
                "this tensor does not require grad",
                fix="call requires_grad_() before computing",
            )
        return self._node.add_hook(hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> tape.Removable:
        """Call `hook(tensor)` right after `.grad` of this leaf has been accumulated."""
        if not isinstance(self._node, tape.Leaf):
            raise GradientError(
                "register_post_accumulate_grad_hook",
                "only leaves that require grad accumulate",
                fix="call it on a tensor made with requires_grad=True",
            )
        return self._node.add_post_hook(hook, self)

    def detach_(self) -> Tensor:
        """Forget the history, in place; returns the tensor.  Raises GradientError for a view."""
        if isinstance(self, View):
            raise GradientError("detach_", "a view follows its base's history", fix="use .detach()")
        self._node = None
        WORLD.changed()
        return self

    def detach(self) -> Tensor:
        """The same memory without the history."""
        trace = current().trace
        if trace is not None:
            if isinstance(self._array, Symbol):
                trace.refresh(self)
                return wrap(trace.alias(self), None, self._cell())
            trace.meet(self)
        return wrap(self._array, None, self._cell())

    @property
    def data(self) -> Tensor:
        """The same memory without the history (PyTorch's name; prefer `detach`)."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        self.assign(value)

    # -- in-place changes -----------------------------------------------------------------------

    def _cell(self) -> list[Any]:
        """The version cell [count, place of the last change], made on demand."""
        cell = self._version
        if cell is None:
            cell = self._version = [0, None]
        elif type(cell) is Together:  # somebody else cares for this tensor alone
            cell.left += 1
            cell = self._version = [cell[0], cell[1]]
            WORLD.changed()
        return cell

    def _touch(self, where: Where | None = None) -> None:
        """Note that the buffer has changed."""
        cell = self._cell()
        cell[0] += 1
        cell[1] = where or here()

    @property
    def version(self) -> int:
        """How often the buffer has been changed in place."""
        return 0 if self._version is None else int(self._version[0])

    def _writable(self, op: str) -> Any:
        array = self._array
        if not isinstance(array, Symbol) and not array.flags.writeable:
            raise ArgumentError(
                op,
                f"a tensor of shape {self.shape} that is an expanded or read-only view",
                fix="call .clone() first",
            )
        return array

    def assign(self, value: Any) -> Tensor:
        """Write `value` (same shape) into this tensor's memory, outside of the history.

        This is how optimizers and buffers update their state.  Returns self.
        """
        trace = current().trace
        if trace is not None and not isinstance(value, Tensor):
            value = wrap(as_value(value, self.dtype, "assign"))
        source = value._array if isinstance(value, Tensor) else as_value(value, self.dtype, "assign")
        if source.shape != self.shape:
            raise ArgumentError(
                "assign",
                f"a value of shape {source.shape} into a tensor of shape {self.shape}",
                fix="make the shapes equal",
            )
        if trace is not None:
            return self._assign_traced(trace, value)
        if isinstance(source, Symbol):
            raise TraceError(
                "assign",
                "a value that belongs to a finished trace",
                fix="assign inside of the traced function",
            )
        self._writable("assign")[...] = source
        self._touch()
        return self

    def _assign_traced(self, trace: Any, value: Tensor) -> Tensor:
        node = None if isinstance(self, View) else self._node
        with using(current().but(grad=False)):
            value = tape.hooks.cast(value, self.dtype)  # type: ignore[attr-defined]
            tape.hooks.write_traced(trace, self, value, "assign")  # type: ignore[attr-defined]
        if not isinstance(self, View):
            self._node = node
        return self

    # -- copies ---------------------------------------------------------------------------------

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise GradientError(
                "deepcopy",
                "only leaves can be copied with copy.deepcopy",
                fix="use .detach().clone() or .clone()",
            )
        copy: Tensor = _new(type(self) if not isinstance(self, View) else Tensor)
        copy._array = self._concrete("deepcopy").copy()
        copy._version = None
        copy._node = None
        memo[id(self)] = copy
        if self._node is not None:
            copy._node = tape.Leaf(self.shape, self.dtype)
            if self._node.grad is not None:
                copy._node.grad = self._node.grad.__deepcopy__(memo)
        return copy

    def __reduce__(self) -> Any:
        if not self.is_leaf:
            raise GradientError("pickle", "a result of a recorded operation", fix="use .detach()")
        return _unpickle, (
            type(self) if not isinstance(self, View) else Tensor,
            self._array,
            self.requires_grad,
        )


def _unrecorded(tensor: Tensor, what: str) -> Any:
    """The array of a tensor, for a function of numpy that no gradient goes through."""
    array = tensor._concrete(what)
    if tensor._node is not None and tape.recording():
        raise GradientError(
            what,
            f"a tensor of shape {tensor.shape} that requires grad would lose its history",
            fix="pass tensor.detach(), or use a function of minigrad",
        )
    return array


def _as_arrays(value: Any, what: str) -> Any:
    if isinstance(value, Tensor):
        return _unrecorded(value, what)
    return type(value)([_as_arrays(x, what) for x in value]) if type(value) in (tuple, list) else value


def _unpickle(cls: type[Tensor], array: Any, requires_grad: bool) -> Tensor:
    tensor: Tensor = _new(cls)
    tensor._array, tensor._version, tensor._node = array, None, None
    return tensor.requires_grad_() if requires_grad else tensor


class View(Tensor):
    """A tensor that shares the memory of another one, its base (see the module's docstring)."""

    __slots__ = ("_attrs", "_own", "_parent", "_seen", "_viewed_by")

    _own: tape.Node | None
    _parent: Tensor
    _viewed_by: Op
    _attrs: tuple[Any, ...]
    _seen: int

    @property
    def _node(self) -> tape.Node | None:
        cell = self._version
        assert cell is not None
        if self._seen != cell[0]:
            stale: list[View] = []
            tensor: Tensor = self
            while isinstance(tensor, View) and tensor._seen != cell[0]:
                stale.append(tensor)
                tensor = tensor._parent
            for view in reversed(stale):  # from the base outwards: no recursion
                view._seen = cell[0]
                if view._parent._node is not None:
                    view._own = tape.record(
                        view._viewed_by, (view._parent,), view._attrs, view._array, here()
                    )
                elif not isinstance(view._own, tape.Leaf):
                    view._own = None
        return self._own

    @_node.setter
    def _node(self, node: tape.Node | None) -> None:
        self._own = node


def wrap(array: Any, node: tape.Node | None = None, version: list[Any] | None = None) -> Tensor:
    """A Tensor around an array (or Symbol), unchecked: the engine's own constructor."""
    tensor: Tensor = _new(Tensor)
    tensor._array = array
    tensor._node = node
    tensor._version = version
    return tensor


def wrap_view(parent: Tensor, op: Op, attrs: tuple[Any, ...], array: Any, node: tape.Node | None) -> View:
    """A View of `parent` by `op`."""
    view: View = _new(View)
    cell = parent._cell()
    view._array = array
    view._own = node
    view._version = cell
    view._parent = parent
    view._viewed_by = op
    view._attrs = attrs
    view._seen = cell[0]
    return view


def as_dtype(dtype: Any, op: str = "dtype") -> DType:
    """A supported dtype from a name, a numpy dtype or a Python type; DTypeError otherwise."""
    try:
        found = DTYPES.get(np.dtype(dtype).name)
    except TypeError:
        found = None
    if found is None:
        raise DTypeError(
            op,
            f"dtype {getattr(dtype, 'name', dtype)} is not supported",
            fix=f"use one of {', '.join(DTYPES)}",
        )
    return found


def as_array(data: Any, dtype: Any = None, *, copy: bool | None = None) -> Any:
    """A numpy array of a supported dtype.  Python floats become float32, and so do their lists."""
    if isinstance(data, Tensor):
        data = data._concrete("tensor")
    wanted = None if dtype is None else as_dtype(dtype, "tensor")
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.array(data, copy=copy)
    else:
        if isinstance(data, (list, tuple)):
            data = _plain(data)
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise ArgumentError(
                "tensor", f"the data is ragged: {error}", fix="make all rows equally long, or pad them"
            ) from None
        if wanted is None and array.dtype == np.float64 and not _has_float64(data):
            wanted = default_float()
        if array.size == 0 and array.dtype == np.float64 and wanted is None:
            wanted = default_float()
    if wanted is None:
        wanted = DTYPES.get(array.dtype.name)
        if wanted is None:
            hint = {"float16": "float32", "uint16": "int32", "uint32": "int64"}.get(array.dtype.name)
            raise DTypeError(
                "tensor",
                f"data of dtype {array.dtype} is not supported",
                fix=f"pass dtype={hint or 'one of ' + ', '.join(DTYPES)}",
            )
    if array.dtype.kind in "OSUMmVc":
        raise DTypeError(
            "tensor",
            f"data of dtype {array.dtype} is not numeric",
            fix="encode it as numbers first (e.g. class indices)",
        )
    if array.dtype != wanted or not array.dtype.isnative:
        if array is not data and array.size and array.dtype.kind in "iu" and wanted.kind in "iu":
            least, most = np.iinfo(wanted).min, np.iinfo(wanted).max
            if array.min() < least or array.max() > most:
                bad = array.min() if array.min() < least else array.max()
                raise ArgumentError("tensor", f"{bad} does not fit into {wanted}", fix="use a wider dtype")
        array = array.astype(wanted)
    return array


def as_value(value: Any, dtype: DType, op: str) -> Any:
    """An array of this dtype to be written into a tensor; DTypeError if fractions would be lost."""
    if dtype.kind != "f":
        given = as_array(value).dtype
        if given.kind == "f":
            raise DTypeError(op, f"{given} values into a {dtype} tensor", fix="convert one of them")
    return as_array(value, dtype)


def _plain(data: Any) -> Any:
    """Nested lists that may hold tensors, as nested lists of arrays."""
    if isinstance(data, Tensor):
        return data._concrete("tensor")
    if isinstance(data, (list, tuple)) and any(isinstance(x, (Tensor, list, tuple)) for x in data):
        return [_plain(x) for x in data]
    return data


def _has_float64(data: Any) -> bool:
    """Whether a nest of lists holds a float64 array or numpy scalar, which keeps its precision."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic)) and data.dtype == np.float64


__all__ = [
    "Device",
    "Error",
    "Symbol",
    "Tensor",
    "View",
    "as_array",
    "as_dtype",
    "as_value",
    "wrap",
    "wrap_view",
]
