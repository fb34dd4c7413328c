"""Module: a function with parameters.

A layer is a function whose constants are learned, so it needs three things: to be called, to list
its parameters (for the optimizer), and to save and restore them.

**The attributes are the register.**  Whatever attribute holds a `Parameter` is a parameter, and
whatever attribute holds a `Module` is a part of this one; nothing is entered anywhere else, so
nothing can get out of step.  Names are paths: in

    >>> from minigrad import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = nn.Linear(4, 3)
    ...         self.output = nn.Linear(3, 2, bias=False)
    ...     def forward(self, x):
    ...         return self.output(nn.functional.relu(self.hidden(x)))
    >>> [(name, p.shape) for name, p in Net().named_parameters()]
    [('hidden.weight', (3, 4)), ('hidden.bias', (3,)), ('output.weight', (2, 3))]

A *buffer* is state that is saved but not learned, such as the running mean of a batch norm.  As
any tensor could be one, buffers are declared, with `register_buffer`.

Names, shapes and order of `state_dict` are PyTorch's, so weights move between the two:
a module's own parameters, then its own buffers, then its parts, depth first.

Left out on purpose: lazily shaped layers, and hooks on the state.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Lock
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple, TypeVar
from weakref import ref

from ..autograd import Function, no_grad
from ..errors import ArgumentError, DTypeError, Error, GradientError
from ..ir import float32, float64, is_float
from ..mode import current
from ..ops.elementwise import check_device
from ..optim.base import clear_grad
from ..tape import Leaf, Removable, hooks
from ..tensor import WORLD, Tensor, as_array, as_dtype, note_replaced

M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A tensor that a module learns: a leaf that requires grad.

    data: a tensor (its memory is shared) or what `minigrad.tensor` takes.  Raises DTypeError if it
    requires grad and is not floating point, GradientError for the result of a recorded operation.
    """

    __slots__ = ()

    def __init__(self, data: Any = (), requires_grad: bool = True) -> None:
        if isinstance(data, Tensor):
            self._array = data._array
            self._version = data._cell()
        else:
            self._array = as_array(data, copy=True)
            self._version = None
        self._node = None
        if requires_grad:
            self.requires_grad_()

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


def factory(layer: str, device: Any, dtype: Any) -> Any:
    """The dtype that a layer is to be made with, as given; the one device is the CPU.

    Raises ArgumentError for another device, DTypeError unless the dtype is floating point.
    """
    check_device(layer, device)
    if dtype is not None and not is_float(as_dtype(dtype, layer)):
        raise DTypeError(layer, f"parameters of dtype {dtype}", fix="use float32 or float64")
    return dtype


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` could not place."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class StateDictError(ArgumentError, RuntimeError, KeyError):
    """A state that does not fit a module; the message lists every key at fault."""

    __str__ = Error.__str__  # KeyError's would print the message as a quoted literal


_hook_number = iter(range(1 << 62)).__next__


class _Hook(Removable):
    """A handle to take a hook away again, which captured programs notice."""

    def remove(self) -> None:
        """Take the hook away; doing so twice is harmless."""
        super().remove()
        WORLD.changed()


class _Hooks:
    """The hooks of one module: number -> (function, settings), in the order in which they are called."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.after: dict[int, Any] = {}
        self.back_before: dict[int, Any] = {}
        self.back_after: dict[int, Any] = {}
        self.traced: set[int] = set()

    def _keys(self) -> list[int]:
        """The numbers of all that there are, but for those that a traced function has registered itself."""
        tables = (self.before, self.after, self.back_before, self.back_after)
        return [k for table in tables for k in table if k not in self.traced]

    def note(self) -> None:
        """Let a program that is being traced depend on the hooks there are; the first time counts."""
        trace = current().trace
        if trace is not None:
            trace.guard(("hooks", id(self)), self._keys, self._keys(), "the hooks of a module", WORLD)

    def run(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What calling the module does, hooks included."""
        self.note()
        for hook, with_kwargs in list(self.before.values()):
            replaced = hook(module, args, kwargs) if with_kwargs else hook(module, args)
            if replaced is None:
                continue
            if with_kwargs:
                args, kwargs = replaced
            else:
                args = replaced if isinstance(replaced, tuple) else (replaced,)
        try:
            y = self._with_backward(module, args, kwargs)
        except Exception:
            for hook, with_kwargs, always in list(self.after.values()):
                if always:
                    hook(module, args, kwargs, None) if with_kwargs else hook(module, args, None)
            raise
        for hook, with_kwargs, _ in list(self.after.values()):
            replaced = hook(module, args, kwargs, y) if with_kwargs else hook(module, args, y)
            if replaced is not None:
                y = replaced
        return y

    def _with_backward(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Forward, between two identities whose backwards are where the backward hooks are called."""
        if not (self.back_before or self.back_after):
            return module.forward(*args, **kwargs)
        seen: dict[str, tuple[Any, ...]] = {}
        places = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]

        def after(grads: tuple[Any, ...]) -> tuple[Any, ...]:
            everywhere: list[Any] = [None] * len(args)
            for i, g in zip(places, grads, strict=True):
                everywhere[i] = g
            result = tuple(everywhere)
            for (hook,) in list(self.back_after.values()):
                replaced = hook(module, result, seen["grad_output"])
                if replaced is not None:
                    result = replaced if isinstance(replaced, tuple) else (replaced,)
                    if len(result) != len(args):
                        raise ArgumentError(
                            "register_full_backward_hook",
                            f"a hook returned {len(result)} gradients for {len(args)} arguments",
                            fix="return one for each, None where there is none",
                        )
            return tuple(result[i] for i in places)

        def before(grads: tuple[Any, ...]) -> tuple[Any, ...]:
            for (hook,) in list(self.back_before.values()):
                replaced = hook(module, grads)
                if replaced is not None:
                    grads = replaced if isinstance(replaced, tuple) else (replaced,)
            seen["grad_output"] = grads
            if not places:
                after(())
            return grads

        if places:
            passed = _Watched.apply(after, *(args[i] for i in places))
            mixed = list(args)
            for i, t in zip(places, passed, strict=True):
                mixed[i] = t
            args = tuple(mixed)
        y = module.forward(*args, **kwargs)
        outputs = [y] if isinstance(y, Tensor) else list(y) if isinstance(y, (tuple, list)) else None
        if outputs is None or not all(isinstance(t, Tensor) for t in outputs):
            raise ArgumentError(
                "register_full_backward_hook",
                f"{type(module).__name__} returns a {type(y).__name__}",
                fix="backward hooks need modules that return a tensor or a tuple of tensors",
            )
        watched = _Watched.apply(before, *outputs)
        return watched[0] if isinstance(y, Tensor) else type(y)(watched)


class _Watched(Function):
    """The identity of several tensors, whose backward hands all cotangents to a function first."""

    @staticmethod
    def forward(ctx: Any, hook: Callable[..., Any], *tensors: Tensor) -> Any:
        """The tensors themselves."""
        ctx.hook = hook
        return tuple(t.detach() for t in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """What the hook makes of the cotangents."""
        return None, *ctx.hook(grads)


class Module:
    """Base of all layers and models: subclasses define `__init__` and `forward`."""

    # Made on first use, so that a subclass that forgets super().__init__() works all the same.
    _buffers: dict[str, bool] | None = None  # name -> whether it is saved
    _hooks: _Hooks | None = None

    def __init__(self) -> None:
        self.training = True

    @property
    def training(self) -> bool:
        """Whether the module is being trained: dropout drops and batch norm measures."""
        value: bool = self.__dict__.get("_training", True)
        trace = current().trace
        if trace is not None:
            me = ref(self, WORLD.changed)
            trace.guard(("training", id(self)), lambda: _training(me), value, "the mode of a module", WORLD)
        return value

    @training.setter
    def training(self, value: bool) -> None:
        trace = current().trace
        if trace is not None:  # the function decides itself, whatever the mode was before
            trace.guard(("training", id(self)), bool, False, "a mode that was set")
        self.__dict__["_training"] = value
        WORLD.changed()

    # -- calling --------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; to be defined by subclasses."""
        raise ArgumentError(type(self).__name__, "forward is not defined", fix="define forward(self, x)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooks is None:
            return self.forward(*args, **kwargs)
        return self._hooks.run(self, args, kwargs)

    def _hook(self, which: str, hook: Callable[..., Any], first: bool, *settings: bool) -> Removable:
        if self._hooks is None:
            self._hooks = _Hooks()
        self._hooks.note()  # what a function registers itself is its own affair
        table: dict[int, Any] = getattr(self._hooks, which)
        key = _hook_number()
        if current().trace is not None:
            self._hooks.traced.add(key)
        if first:
            others = list(table.items())
            table.clear()
            table[key] = (hook, *settings)
            table.update(others)
        else:
            table[key] = (hook, *settings)
        WORLD.changed()
        return _Hook(table, key)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> Removable:
        """Call `hook(module, args)` before forward; what it returns, if not None, replaces the arguments.

        with_kwargs: call `hook(module, args, kwargs)`, which may return a pair of them.  prepend: before
        the hooks that are there already.
        """
        return self._hook("before", hook, prepend, with_kwargs)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> Removable:
        """Call `hook(module, args, output)` after forward; what it returns, if not None, replaces it.

        with_kwargs: call `hook(module, args, kwargs, output)`.  always_call: also if forward raised, with
        the output None.
        """
        return self._hook("after", hook, prepend, with_kwargs, always_call)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Removable:
        """Call `hook(module, grad_output)` before backward goes through this module.

        grad_output is a tuple, one cotangent for each tensor that forward returned; what the hook returns,
        if not None, replaces it.
        """
        return self._hook("back_before", hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Removable:
        """Call `hook(module, grad_input, grad_output)` when backward has gone through this module.

        Both are tuples: a cotangent (or None) for each positional argument, and for each tensor that forward
        returned.  What the hook returns, if not None, replaces grad_input.  If no argument requires grad,
        grad_input is all None.
        """
        return self._hook("back_after", hook, prepend)

    # -- registering ----------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if old is not None and old is not value and isinstance(old, (Tensor, Module)):
            _replaced(old)
        if old is not None and value is not None:
            if isinstance(old, Parameter) and not isinstance(value, Parameter):
                raise DTypeError(
                    type(self).__name__,
                    f"a {type(value).__name__}, which is not learned, would replace the parameter {name!r}",
                    fix=f"assign an nn.Parameter, or write into it with {name}.assign(value)",
                )
            if self._buffers is not None and name in self._buffers and not isinstance(value, Tensor):
                raise DTypeError(
                    type(self).__name__,
                    f"the buffer {name!r} would be replaced by a {type(value).__name__}",
                    fix="assign a tensor",
                )
        object.__setattr__(self, name, value)
        if old is not value:
            _note_setting(self, name)

    def __delattr__(self, name: str) -> None:
        old = self.__dict__.get(name)
        if isinstance(old, (Tensor, Module)):
            _replaced(old)
        object.__delattr__(self, name)
        _note_setting(self, name)
        if self._buffers is not None:
            self._buffers.pop(name, None)

    def _new_name(self, op: str, name: str, taken_by: type) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError(op, f"{name!r} is no name", fix="use a non-empty string without dots")
        old = self.__dict__.get(name)
        if hasattr(self, name) and not (name in self.__dict__ and (old is None or isinstance(old, taken_by))):
            raise ArgumentError(
                op, f"{type(self).__name__} already has an attribute {name!r}", fix="choose another"
            )

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Make `tensor` an attribute that moves with the module but is not learned; persistent: saved."""
        self._new_name("register_buffer", name, Tensor)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise DTypeError(
                "register_buffer", f"a {type(tensor).__name__} is no tensor", fix="pass a tensor or None"
            )
        if self._buffers is None:
            self._buffers = {}
        self._buffers[name] = bool(persistent)
        object.__setattr__(self, name, tensor)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Make `param` a learned attribute; None reserves the name."""
        self._new_name("register_parameter", name, Parameter)
        if param is not None and not isinstance(param, Parameter):
            raise DTypeError(
                "register_parameter",
                f"a {type(param).__name__} is no Parameter",
                fix="wrap it in nn.Parameter",
            )
        object.__setattr__(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Make `module` a part of this one, under any name."""
        self._new_name("add_module", name, Module)
        if module is not None and not isinstance(module, Module):
            raise DTypeError("add_module", f"a {type(module).__name__} is no Module", fix="pass an nn.Module")
        object.__setattr__(self, name, module)

    register_module = add_module

    # -- walking --------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct parts, each once, with their names."""
        seen = set()
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module) and value not in seen:
                seen.add(value)
                yield name, value

    def children(self) -> Iterator[Module]:
        """The direct parts."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all parts of parts, depth first, with their paths."""
        seen = set() if memo is None else memo
        if self in seen:
            return
        if remove_duplicate:
            seen.add(self)
        yield prefix, self
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module):
                yield from value.named_modules(seen, _join(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all parts of parts."""
        return (module for _, module in self.named_modules())

    def _own(self, what: str) -> Iterator[tuple[str, Tensor]]:
        """Own parameters ("parameters"), buffers ("buffers"), or the buffers that are saved ("saved")."""
        if what == "parameters":
            for name, value in list(self.__dict__.items()):
                if isinstance(value, Parameter):
                    yield name, value
        elif self._buffers is not None:
            for name, saved in list(self._buffers.items()):
                value = self.__dict__.get(name)
                if value is not None and (saved or what == "buffers"):
                    yield name, value

    def _named(
        self, what: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        walk = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in walk:
            for name, tensor in module._own(what):
                if id(tensor) not in seen:
                    if remove_duplicate:
                        seen.add(id(tensor))
                    yield _join(path, name), tensor

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their paths; one that is shared comes once, under its first path."""
        return self._named("parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (p for _, p in self.named_parameters("", recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with their paths."""
        return self._named("buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (b for _, b in self.named_buffers("", recurse))

    def get_submodule(self, target: str) -> Module:
        """The part at a path such as "encoder.0"; ArgumentError if there is none."""
        module = self
        for name in target.split(".") if target else ():
            found = module.__dict__.get(name)
            if not isinstance(found, Module):
                known = ", ".join(n for n, _ in module.named_children()) or "none"
                raise ArgumentError(
                    "get_submodule",
                    f"there is no part {name!r} on the path {target!r}",
                    fix=f"it has: {known}",
                )
            module = found
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as "encoder.0.weight"; ArgumentError if there is none."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path).__dict__.get(name)
        if not isinstance(found, Parameter):
            raise ArgumentError(
                "get_parameter", f"there is no parameter {target!r}", fix="see named_parameters()"
            )
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path such as "norm.running_mean"; ArgumentError if there is none."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        found = module.__dict__.get(name)
        if module._buffers is None or name not in module._buffers or found is None:
            raise ArgumentError("get_buffer", f"there is no buffer {target!r}", fix="see named_buffers()")
        return found  # type: ignore[no-any-return]

    # -- saving and loading ---------------------------------------------------------------------

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> OrderedDict[str, Tensor]:
        """Parameters and saved buffers by path, sharing memory with the module.

        keep_vars: the parameters themselves rather than detached tensors.
        """
        state: OrderedDict[str, Tensor] = OrderedDict()
        for path, module in self.named_modules(None, prefix.removesuffix("."), False):
            for what in ("parameters", "saved"):
                for name, tensor in module._own(what):
                    state[_join(path, name)] = tensor if keep_vars else tensor.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy a state (tensors or arrays by path) into the parameters and buffers.

        strict: every key must be there and no other.  Returns the keys that were not.  Raises
        StateDictError listing all missing, unexpected and mis-shaped keys; nothing is written then.
        """
        own = self.state_dict(keep_vars=True)
        missing = [key for key in own if key not in state_dict]
        unexpected = [key for key in state_dict if key not in own]
        problems = []
        if strict and missing:
            problems.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected: {', '.join(unexpected)}")
        arrays, wrong = [], []
        for key, tensor in own.items():
            if key in state_dict:
                value = state_dict[key]
                array = value._concrete("load_state_dict") if isinstance(value, Tensor) else as_array(value)
                if array.shape != tensor.shape:
                    wrong.append(f"{key} has shape {array.shape} where {tensor.shape} is needed")
                elif array.dtype.kind == "f" and not is_float(tensor.dtype):
                    wrong.append(f"{key} has dtype {array.dtype} where {tensor.dtype} is needed")
                arrays.append((tensor, array))
        if wrong:
            problems.append(f"mis-shaped: {', '.join(wrong)}")
        if problems:
            raise StateDictError(
                "load_state_dict",
                f"the state does not fit {type(self).__name__}: {'; '.join(problems)}",
                fix="build the model it was saved from" + ("" if wrong else ", or pass strict=False"),
            )
        for tensor, array in arrays:
            tensor.assign(array)
        return IncompatibleKeys(missing, unexpected)

    # -- changing everything at once --------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Set `training` here and in all parts."""
        if not isinstance(mode, bool):
            raise DTypeError("train", f"the mode is {mode!r}", fix="pass True or False")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Leave training mode, here and in all parts."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Learn the parameters or freeze them."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or fill them with zeros)."""
        for p in self.parameters():
            clear_grad(p, set_to_none)

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call `fn` on every part, then on this module; the usual way to initialise weights."""
        for child in self.children():
            child.apply(fn)
        with no_grad():
            fn(self)
        return self

    def to(self: M, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> M:
        """Convert floating-point parameters and buffers to another dtype, in place.

        Accepts a dtype, a tensor (for its dtype) or the device "cpu", to which nothing need be transferred.
        """
        for arg in args:
            if isinstance(arg, Tensor):
                dtype = arg.dtype
            elif isinstance(arg, str) and arg.partition(":")[0] not in ("float32", "float64"):
                device = arg
            else:
                dtype = arg
        check_device("to", device)
        if dtype is None:
            return self
        wanted = as_dtype(dtype, "to")
        if not is_float(wanted):
            raise DTypeError("to", f"a module cannot be {wanted}", fix="use float32 or float64")
        for tensors in (self.parameters(), self.buffers()):
            for tensor in tensors:
                if is_float(tensor.dtype) and tensor.dtype != wanted:
                    _convert(tensor, wanted)
        return self

    def cpu(self: M) -> M:
        """The module itself: there is no other device."""
        return self

    def cuda(self: M, device: Any = None) -> M:
        """Raises ArgumentError: there is no such device."""
        check_device("cuda", "cuda")
        return self

    def float(self: M) -> M:
        """Convert to float32."""
        return self.to(float32)

    def double(self: M) -> M:
        """Convert to float64."""
        return self.to(float64)

    # -- showing ----------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The settings that `repr` shows; to be defined by subclasses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        parts = [
            f"({name}): " + repr(value).replace("\n", "\n  ")
            for name, value in self.__dict__.items()
            if isinstance(value, Module)
        ]
        if not parts:
            return f"{type(self).__name__}({extra})"
        lines = ([extra] if extra else []) + parts
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"


def _replaced(old: Tensor | Module) -> None:
    """Note that an attribute holds these no more: captured programs that read them are out of date."""
    for t in (old,) if isinstance(old, Tensor) else (*old.parameters(), *old.buffers()):
        note_replaced(t)


# While a function is traced, plain attributes of modules that Python reads are noted, so that a captured
# program is traced anew when one has another value.  Nobody pays for that at other times: the method that
# notes them is only there as long as something is traced.

#: Types of attributes that are noted: those that cannot change but by being set anew.
_PLAIN = {bool, int, float, str, bytes, type(None), FunctionType, BuiltinFunctionType, type}
_MISSING = object()
_watch_lock = Lock()
_watches = 0


def _noting(self: Module, name: str) -> Any:
    """`__getattribute__`, while something is traced."""
    value = object.__getattribute__(self, name)
    if name[:2] != "__" and _plain(value):
        trace = current().trace
        if trace is not None and _held(self, name) is value:
            key = ("settings", id(self))
            if key not in trace.guards:
                held: dict[str, Any] = {}
                read = partial(_settings, ref(self, WORLD.changed), held)
                trace.guard(key, read, held, "an attribute of a module", WORLD)
            trace.guards[key].expected.setdefault(name, value)
    return value


def _plain(value: Any) -> bool:
    kind = type(value)
    return kind in _PLAIN or (kind is tuple and all(type(v) in _PLAIN for v in value))


def _held(module: Module, name: str) -> Any:
    """An attribute of a module or its class, as it is kept there: not what a property computes."""
    own = object.__getattribute__(module, "__dict__")
    return own[name] if name in own else getattr(type(module), name, _MISSING)


def _settings(module: ref[Module], names: dict[str, Any]) -> dict[str, Any]:
    """What the attributes of a module that may be gone are now."""
    alive = module()
    if alive is None:
        return {}
    values = ((name, _held(alive, name)) for name in names)
    return {name: value if _plain(value) else _MISSING for name, value in values}


def _note_setting(module: Module, name: str) -> None:
    """An attribute was set: programs look again.  (What is set while tracing is Python's own affair.)"""
    trace = current().trace
    guard = None if trace is None else trace.guards.get(("settings", id(module)))
    if guard is not None:
        guard.expected.pop(name, None)
    WORLD.changed()


@contextmanager
def _watch() -> Iterator[None]:
    global _watches
    with _watch_lock:
        _watches += 1
        if _watches == 1:
            Module.__getattribute__ = _noting  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        with _watch_lock:
            _watches -= 1
            if not _watches:
                del Module.__getattribute__


hooks.watch = _watch


def _training(module: ref[Module]) -> bool | None:
    """The mode of a module that may be gone."""
    alive = module()
    return None if alive is None else alive.__dict__.get("_training", True)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _convert(tensor: Tensor, dtype: Any) -> None:
    """Change the dtype of a leaf in place, keeping its identity (an optimizer may hold it)."""
    node = tensor._node
    if node is not None and not isinstance(node, Leaf):
        raise GradientError(
            "to", f"a buffer of shape {tensor.shape} has a history", fix="register it detached"
        )
    tensor._array = tensor._array.astype(dtype)
    if node is not None:
        node.dtype = tensor.dtype
        node.grad = None if node.grad is None else node.grad.detach().to(dtype)
    tensor._touch()  # whoever saved it, or a view of it, for a gradient
    tensor._version = list(tensor._cell())  # its memory is no longer shared
    WORLD.changed()
