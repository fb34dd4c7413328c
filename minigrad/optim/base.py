"""The Optimizer: parameters in groups, a state for each, and a step.

    p  <-  p - update(gradient of p, state of p, hyper-parameters of its group)

A subclass names its hyper-parameters (`defaults`) and writes `update`, for one parameter, on numpy
arrays: an optimizer is the one place where tensors are changed in place, nothing of it is to be
recorded, and on a small model the cost of a step is the cost of the calls.  `scratch` gives the
update arrays to compute in, so that a step allocates nothing.  Under a trace the same `update` gets
registers (see `registers`), and what it would have computed becomes part of the graph.

**All parameters at once.**  Where the backend has kernels that step many parameters in one pass over
memory, `together` hands them what they can take.  For the rest, `in_blocks` does what numpy allows: if a
rule is `elementwise`, it cannot tell one long array from many short ones, so small parameters are laid
end to end and updated as one, and large ones are cut into pieces that stay in the cache while the
formulas pass over them.  An optimizer that defines `update` alone has neither: `update` is called for
each parameter.

Hyper-parameters are read from the group at every step, so a schedule only has to write
`optimizer.param_groups[0]["lr"]`.  A learning rate may be a 0-d tensor.  `update` reads the numbers
that may change with `hyper` and settings that decide what is computed with `choice`: a captured step
follows the former, and is traced anew when one of the latter is another.

    >>> import minigrad as mg
    >>> w, b = mg.ones(2, requires_grad=True), mg.ones(1, requires_grad=True)
    >>> optimizer = mg.optim.SGD([{"params": [w]}, {"params": [b], "lr": 0.5}], lr=0.1)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.1, 0.5]

`state_dict` is plain data: numbers, and tensors by the position of their parameter.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Any, ClassVar, Protocol
from weakref import ref

import numpy as np

from ..autograd import enable_grad, no_grad
from ..errors import ArgumentError, DTypeError, GradientError, here
from ..mode import current
from ..tensor import WORLD, Symbol, Tensor, as_array, wrap
from .registers import Register, RegisterState

Array = np.ndarray[Any, Any]


class Group(dict[str, Any]):
    """The settings of some parameters, and how often they were changed (see `tensor.Counted`)."""

    version = 0


def _counting(name: str) -> Any:
    method = getattr(dict, name)

    def change(self: Group, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        finally:
            self.version += 1

    return functools.wraps(method)(change)


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(Group, _name, _counting(_name))

#: A parameter and its gradient.
Pair = tuple[Tensor, Array]

#: Parameters of fewer elements are updated together, so many elements at a time: copying them end to end
#: costs less than the calls that it saves.
SMALL, TOGETHER = 1 << 12, 1 << 15
#: Pieces of large ones are of so many: enough to outweigh the calls, few enough to stay in the cache.
BLOCK = 1 << 17

#: What a group may hold beside the hyper-parameters: the notes of schedules.
NOTES = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr")

#: Settings that PyTorch saves and that only choose between its implementations.
_TORCH_ONLY = ("foreach", "fused", "capturable", "differentiable")


class Stepper(Protocol):
    """Parameters and their state, all stepped by one call, once it was aimed at their gradients."""

    def aim(self, grads: list[Array]) -> bool:
        """Take these gradients for the next step; False if that cannot be."""

    def sgd(
        self,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
    ) -> None:
        """One step of SGD."""

    def adam(
        self,
        step: int,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
        maximize: bool,
    ) -> None:
        """Step number `step`, from 1, of Adam or AdamW."""


#: What a backend offers as `stepper`: (parameters, lists of state) -> Stepper, or None.
Kernels = Callable[..., Stepper | None]


class Optimizer:
    """Base of all optimizers.

    params: tensors, or dictionaries `{"params": tensors, "lr": ...}` with settings of their own.
    defaults: the hyper-parameters and their values for groups that do not set them.
    Raises ArgumentError for no parameters, the same one twice or a setting out of range,
    GradientError for a parameter that is a result.
    """

    #: What errors call it: the name of the class, unless it sets another.
    _name: ClassVar[str] = "Optimizer"

    #: Whether `update` computes each element from the elements at the same place alone.
    elementwise: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls._name = cls.__dict__.get("_name", cls.__name__)
        if "update" in cls.__dict__:  # what held for the rule that it replaces need not hold for it
            cls.elementwise = cls.__dict__.get("elementwise", False)
            if "together" not in cls.__dict__:
                cls.together = Optimizer.together  # type: ignore[method-assign]
            if "begin" not in cls.__dict__:
                cls.begin = Optimizer.begin  # type: ignore[method-assign]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self._scratch: dict[tuple[Any, ...], Array] = {}
        self._steppers: dict[tuple[int, int], tuple[list[Any], Stepper | None]] = {}
        self._generation = 0  # changes when groups or the state are others than before
        self._stepped = False  # which schedules want to know
        self._watch: Watch | None = None
        if isinstance(params, (Tensor, Mapping)):
            raise DTypeError(
                self._name, f"the parameters are one {type(params).__name__}", fix="pass a list: [parameter]"
            )
        groups = list(params)
        if not groups:
            raise ArgumentError(
                self._name,
                "there are no parameters",
                fix="pass model.parameters(), and assign layers to attributes",
            )
        if not any(isinstance(group, Mapping) for group in groups):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    # -- to be defined by subclasses ----------------------------------------------------------------

    def check(self, group: Group) -> None:
        """Raise ArgumentError if a hyper-parameter of the group is out of range."""

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """Change the array `p`, given its gradient `g` (not to be changed), its state and its group."""
        raise ArgumentError(
            self._name, "update is not defined", fix="define update(self, p, g, state, group)"
        )

    def begin(self, params: list[Tensor], group: Group) -> None:
        """Make the state of parameters that have none yet; what it leaves, `update` makes for each."""

    def together(self, kernels: Kernels, pairs: list[Pair], group: Group) -> list[Pair]:
        """Update parameters of a group with the kernels of the backend; returns those that are left."""
        return pairs

    # -- parameters ---------------------------------------------------------------------------------

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Optimize more parameters: `{"params": tensors}` with settings of their own."""
        if not isinstance(param_group, Mapping):
            raise DTypeError(
                self._name,
                f"a group of parameters is a {type(param_group).__name__}",
                fix="do not mix groups (dictionaries) and tensors",
            )
        group = Group(param_group)
        if "params" not in group:
            raise ArgumentError(self._name, "a group has no 'params'", fix='write {"params": tensors, ...}')
        unknown = [key for key in group if key not in ("params", *NOTES, *self.defaults)]
        if unknown:
            raise ArgumentError(
                self._name,
                f"a group sets {unknown[0]!r}, which is not a hyper-parameter",
                fix=f"it has: {', '.join(self.defaults)}",
            )
        params = group["params"]
        if isinstance(params, (set, frozenset)):
            raise DTypeError(self._name, "the parameters are a set, which has no order", fix="pass a list")
        group["params"] = params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                hint = (
                    "pass model.parameters() rather than named_parameters()"
                    if isinstance(p, tuple)
                    else "pass tensors"
                )
                raise DTypeError(self._name, f"parameter {i} is a {type(p).__name__}", fix=hint)
            if not p.is_leaf:
                raise GradientError(
                    self._name,
                    f"parameter {i} of shape {p.shape} is a result ({p.grad_fn!r}), not a leaf",
                    fix="pass the tensor that it was computed from",
                )
            p._writable(self._name)
            if id(p) in known:
                raise ArgumentError(
                    self._name,
                    f"parameter {i} of shape {p.shape} is given twice",
                    fix="list each parameter once",
                )
            known.add(id(p))
        for key, value in self.defaults.items():
            group.setdefault(key, value)
        self.check(group)
        self.param_groups.append(group)
        self.renew()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or fill them with zeros)."""
        for group in self.param_groups:
            for p in group["params"]:
                clear_grad(p, set_to_none)

    # -- the step -------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns the closure's loss, or None.

        closure: clears the gradients, computes the loss, calls backward and returns the loss.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        watch = self._watch
        if watch is not None and watch.look(self._name):
            self._watch = None
        trace = current().trace
        if trace is not None:
            self._stepped = True
            self._trace_step(trace)
            return loss
        where = None
        states, update, kernels = self.state, self.update, current().backend.stepper
        for group in self.param_groups:
            pairs: list[Pair] = []
            for p in group["params"]:
                node = p._node
                if node is None:
                    continue
                grad = node.grad
                if grad is None:
                    continue
                if type(grad._array) is Symbol:
                    grad._concrete(f"{self._name}.step")
                pairs.append((p, grad._array))
            if not pairs:
                continue
            if where is None:
                where = here()
                if not self._stepped:
                    self._stepped, self._watch = True, Watch(pairs[0][0])
            for p, _ in pairs:
                p._touch(where)
            if kernels is not None:
                pairs = self.together(kernels, pairs, group)
            if self.elementwise:
                pairs = self.in_blocks(pairs, group)
            for p, g in pairs:
                update(p._array, g, states[p], group)
        if where is None:
            self._nothing_to_do()
        return loss

    def _nothing_to_do(self) -> None:
        """No parameter has a gradient: say so, once."""
        params = [p for group in self.param_groups for p in group["params"]]
        if params and not any(p.requires_grad for p in params):
            raise GradientError(
                f"{self._name}.step",
                f"none of the {len(params)} parameters requires grad, so nothing would ever change",
                fix="call requires_grad_() on what is to be learned, or make it an nn.Parameter",
            )
        if not self._stepped and self._watch is None:
            self._stepped = True
            warnings.warn(
                f"{self._name}.step: no parameter has a gradient, so nothing changes; call backward() on "
                "the loss first",
                stacklevel=3,
            )

    def in_blocks(self, pairs: list[Pair], group: Group) -> list[Pair]:
        """Update parameters of a group by an elementwise rule, many small ones or a piece of a large
        one at a time; returns those that are left."""
        small: dict[Any, list[Pair]] = {}
        left: list[Pair] = []
        for p, g in pairs:
            array, state = p._array, self.state[p]
            if not array.ndim or SMALL <= array.size <= BLOCK:  # (the moments of 0-d ones are 0-d, too)
                left.append((p, g))
            elif array.size < SMALL:
                numbers = [(name, None if t._array.ndim else t._array.item()) for name, t in state.items()]
                small.setdefault((array.dtype, *numbers), []).append((p, g))
            elif all(x.flags.c_contiguous for x in (array, *(t._array for t in state.values()))):
                self._piecewise(p, g, group)
            else:
                left.append((p, g))
        for part in small.values():
            while part:
                count = size = 0
                while count < len(part) and size < TOGETHER:
                    size += part[count][0]._array.size
                    count += 1
                if count == 1:
                    left.append(part[0])
                else:
                    self._end_to_end(part[:count], size, group)
                del part[:count]
        return left

    def _end_to_end(self, pairs: list[Pair], size: int, group: Group) -> None:
        """Update small parameters of equal numbers in their state as one array."""
        arrays = [p._array for p, _ in pairs]
        dtype = arrays[0].dtype

        def gather(parts: Iterable[Array], name: Any) -> Array:
            key = ((size,), dtype, name)
            found = self._scratch.get(key)
            if found is None:
                found = self._scratch[key] = np.empty(size, dtype)
            return np.concatenate([part.reshape(-1) for part in parts], out=found)

        states = [self.state[p] for p, _ in pairs]
        first, whole = states[0], dict[str, Any]()
        for name, t in first.items():
            if t._array.ndim:
                whole[name] = wrap(gather([state[name]._array for state in states], name))
            else:
                whole[name] = wrap(t._array.copy())
        flat = gather(arrays, "p")
        self.update(flat, gather([g for _, g in pairs], "g"), whole, group)
        stop = 0
        for array, state in zip(arrays, states, strict=True):
            start, stop = stop, stop + array.size
            array[...] = flat[start:stop].reshape(array.shape)
            for name, t in whole.items():
                value = t._array
                part = value if not value.ndim else value[start:stop].reshape(array.shape)
                if name in state:
                    state[name]._array[...] = part
                else:
                    state[name] = wrap(part.copy())

    def _piecewise(self, p: Tensor, g: Array, group: Group) -> None:
        """Update a large parameter piece by piece."""
        array, state = p._array.reshape(-1), self.state[p]
        g = g.reshape(-1)
        before = {
            name: t._array.reshape(-1) if t._array.ndim else t._array.copy() for name, t in state.items()
        }
        for start in range(0, array.size, BLOCK):
            cut = slice(start, start + BLOCK)
            piece = {name: wrap(x[cut] if x.ndim else x.copy()) for name, x in before.items()}
            self.update(array[cut], g[cut], piece, group)
            for name, t in piece.items():
                if name not in state:  # the first piece of the first step
                    shape = p._array.shape if t._array.ndim else ()
                    state[name] = wrap(np.empty(shape, t._array.dtype))
                whole = state[name]._array
                if not whole.ndim:
                    whole[...] = t._array  # the same after each piece
                elif name not in before:
                    whole.reshape(-1)[cut] = t._array

    def descent(self, p: Array, g: Array, group: Group, decoupled: bool = False) -> Array:
        """The gradient to descend along: turned round (maximize), and with the weight decay added or,
        if that is decoupled, taken from `p` at once.  Uses scratch 0 and 1."""
        if self.choice(group, "maximize"):
            g = np.negative(g, out=self.scratch(p, 1))
        if self.choice(group, "weight_decay"):
            decay = self.hyper(group, "weight_decay")
            if decoupled:
                np.multiply(p, 1 - self.hyper(group, "lr") * decay, out=p)
            else:
                g = np.add(np.multiply(p, decay, out=self.scratch(p)), g, out=self.scratch(p, 1))
        return g

    def stepper(
        self, kernels: Kernels, key: tuple[int, int], params: list[Array], *state: list[Array]
    ) -> Stepper | None:
        """What the kernels made of these arrays, which is kept as long as they are the same."""
        arrays: list[Any] = [kernels, *params]
        for values in state:
            arrays += values
        known = self._steppers.get(key)
        if known is None or len(known[0]) != len(arrays) or not all(map(is_, known[0], arrays)):
            known = self._steppers[key] = (arrays, kernels(params, *state))
        return known[1]

    def __getstate__(self) -> dict[str, Any]:
        # copies and pickles make their own
        return {**self.__dict__, "_scratch": {}, "_steppers": {}, "_watch": None}

    def _trace_step(self, trace: Any) -> None:
        """`step`, recorded: each update is given registers for its arrays."""
        me = ref(self, WORLD.changed)
        trace.guard(
            ("optimizer", id(self)), lambda: _generation(me), self._generation, "an optimizer's state", WORLD
        )
        with no_grad():
            for group in self.param_groups:
                nodes = [(p, p._node) for p in group["params"]]
                self.begin([p for p, node in nodes if node is not None and node.grad is not None], group)
                for p in group["params"]:
                    node = p._node
                    if node is None or node.grad is None:
                        continue
                    g, array = Register(node.grad), Register(p.detach(), store=p.assign)
                    self.update(array, g, RegisterState(self.state[p]), group)  # type: ignore[arg-type]
                    trace.consumed(node)

    def hyper(self, group: Group, name: str, index: int | None = None) -> Any:
        """The number group[name] (or group[name][index]), which may be another at the next step."""

        value = group[name] if index is None else group[name][index]
        trace = current().trace
        if trace is None:
            return value if type(value) is float else float(value)

        def read() -> float:
            return float(group[name] if index is None else group[name][index])

        if isinstance(value, Tensor):
            return Register(value.detach(), weak=True)
        self.choice(group, name, _kind)
        source = group if _settled(group[name]) else None
        return Register(trace.live(read, (id(group), name, index), name, source), weak=True)

    def choice(self, group: Group, name: str, of: Callable[[Any], Any] = bool) -> Any:
        """A setting by which `update` decides what to compute: `of` it, by default whether it is nonzero."""
        value = of(group[name])
        trace = current().trace
        if trace is not None:
            key = ("choice", id(group), name, of)
            source = group if _settled(group[name]) else None
            trace.guard(key, lambda: of(group[name]), value, f"the optimizer's {name}", source)
        return value

    def renew(self) -> None:
        """Have captured steps traced anew: `update` will do something else from now on."""
        self._generation += 1
        WORLD.changed()

    def scratch(self, like: Array, number: int = 0) -> Array:
        """An array of the shape and dtype of `like` to compute in, shared by all updates."""
        if isinstance(like, Register):
            return Register(None)
        key = (like.shape, like.dtype, number)
        found = self._scratch.get(key)
        if found is None:
            found = self._scratch[key] = np.empty_like(like, order="C")
        return found

    # -- saving and loading -----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": {position: {name: value}}, "param_groups": [settings and positions]}.

        Tensors share memory with the optimizer, as in PyTorch.
        """
        number: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                number[id(p)] = len(number)
            groups.append(
                {
                    **{k: _plain(v) for k, v in group.items() if k != "params"},
                    "params": [number[id(p)] for p in group["params"]],
                }
            )
        state = {number[id(p)]: dict(values) for p, values in self.state.items() if id(p) in number}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, copied; PyTorch's own is understood too.

        Raises ArgumentError naming everything that does not fit: groups, settings, shapes.
        """
        op = f"{self._name}.load_state_dict"
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            keys = ", ".join(map(repr, state_dict)) if isinstance(state_dict, Mapping) else "no keys"
            raise ArgumentError(
                op,
                f"a {type(state_dict).__name__} with {keys} is not the state of an optimizer",
                fix="pass what optimizer.state_dict() returned",
            )
        groups, saved = state_dict["param_groups"], state_dict["state"]
        groups = [{k: v for k, v in g.items() if k not in _TORCH_ONLY or k in self.defaults} for g in groups]
        problems = []
        sizes, wanted = ([len(g["params"]) for g in gs] for gs in (groups, self.param_groups))
        if sizes != wanted:
            problems.append(f"the state has groups of {sizes} parameters where {wanted} are needed")
        unknown = sorted({k for g in groups for k in g} - {"params", *NOTES, *self.defaults})
        absent = sorted({k for k in self.defaults if any(k not in g for g in groups)})
        if unknown or absent:
            problems.append(f"it has settings {unknown} too many and {absent} too few")
        new: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        mine = [p for group in self.param_groups for p in group["params"]]
        positions = [position for group in groups for position in group["params"]]
        for p, position in zip(mine, positions, strict=False):
            for name, value in saved.get(position, {}).items():
                restored = self._restored(value, p)
                if isinstance(restored, str):
                    problems.append(f"{name!r} of parameter {position} has {restored}")
                else:
                    new[p][name] = restored
        if problems:
            raise ArgumentError(
                op,
                "; ".join(problems),
                fix=f"it must come from {self._name}, made as it was when saved",
            )
        loaded = [
            {k: tuple(v) if isinstance(v, list) else v for k, v in theirs.items() if k != "params"}
            for theirs in groups
        ]
        for group, settings in zip(self.param_groups, loaded, strict=True):
            self.check(Group({**settings, "params": group["params"]}))
        for group, settings in zip(self.param_groups, loaded, strict=True):
            group.update(settings)
        for p, values in new.items():
            self._keep_tensors(self.state.get(p, {}), values)
        self.state = new
        self.renew()

    def _keep_tensors(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Load into the tensors that are there already, so that a captured step goes on with them."""
        for name, value in new.items():
            mine: Any = old.get(name)
            both = isinstance(mine, Tensor) and isinstance(value, Tensor)
            if both and (mine.shape, mine.dtype) == (value.shape, value.dtype):
                new[name] = mine.assign(value)

    def _restored(self, value: Any, p: Tensor) -> Any:
        """A saved value of the state of `p`, copied; or what is wrong with it."""
        if not hasattr(value, "__array__"):
            return value
        array = np.array(value._array if isinstance(value, Tensor) else as_array(np.asarray(value)))
        if array.ndim and array.shape != p.shape:
            return f"shape {array.shape} for a parameter of shape {p.shape}"
        return wrap(array.astype(p.dtype) if array.ndim else array)

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {_plain(group[key])}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


class Watch:
    """Looks, once, whether gradients were added to those that the first step had used already.

    A missing zero_grad gives no error and a wrong model.  So after its first step an optimizer has one
    parameter tell, whenever a gradient arrives for it, whether the used one is still there.
    """

    def __init__(self, p: Tensor) -> None:
        used = p.grad
        assert used is not None
        self._parameter, self._used, self._version = ref(p), ref(used), used.version
        self._added = False
        me = ref(self)

        def arrives(_: Tensor) -> None:
            watch = me()
            if watch is None:
                handle.remove()
            else:
                watch._added = watch._used_still()

        handle = self._handle = p.register_hook(arrives)

    def _used_still(self) -> bool:
        """Whether the gradient of the parameter is what was used, unchanged."""
        p = self._parameter()
        grad = None if p is None else p.grad
        return grad is not None and grad is self._used() and grad.version == self._version

    def look(self, name: str) -> bool:
        """Warn if the gradients of this step contain those of the last; whether that is settled now."""
        p = self._parameter()
        if p is not None and (p.grad is None or self._used_still()):
            return False
        self._handle.remove()
        if self._added:
            warnings.warn(
                f"{name}.step: the gradients contain those that the step before has used already; call "
                "optimizer.zero_grad() before backward()",
                stacklevel=3,
            )
        return True


def clear_grad(p: Tensor, set_to_none: bool) -> None:
    """Forget the gradient of a leaf, or fill it with zeros where it is."""
    node = p._node
    if node is None:
        return
    trace = current().trace
    if trace is not None and (set_to_none or node.grad is None):
        trace.leaf(node)
    if node.grad is None:
        return
    if set_to_none:
        node.grad = None
        return
    grad = node.grad
    if grad._node is not None or isinstance(grad._array, Symbol):
        node.grad = wrap(grad.zeros_like()._array)  # it is part of a graph of its own: leave that alone
    elif trace is not None:
        grad.assign(grad.zeros_like())
    else:
        grad._array[...] = 0
        grad._touch()


def as_number(x: Any) -> Any:
    """A 0-d array as a Python number, for formulas of numbers; under a trace, as a weak register."""
    return Register(x.value, weak=True) if isinstance(x, Register) else x.item()


def _kind(value: Any) -> str:
    """Whether a setting is a number or a tensor: what a captured step reads it from."""
    return "tensor" if isinstance(value, Tensor) else "number"


def _settled(value: Any) -> bool:
    """Whether a setting is a value that cannot change but by setting another."""
    if type(value) is tuple:
        return all(map(_settled, value))
    return value is None or type(value) in (bool, int, float, str)


def _generation(optimizer: ref[Optimizer]) -> int | None:
    """The generation of an optimizer that may be gone."""
    alive = optimizer()
    return None if alive is None else alive._generation


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def number(
    op: str, group: Mapping[str, Any], name: str, *, above: float = -0.0, below: float = float("inf")
) -> None:
    """Raise ArgumentError unless above <= group[name] < below."""
    value = _plain(group[name])
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, np.number))
        or not above <= value < below
    ):
        limit = f"at least {above:g}" + ("" if below == float("inf") else f" and below {below:g}")
        raise ArgumentError(op, f"{name} is {value!r}", fix=f"choose a number of {limit}")


def betas(op: str, group: Group) -> None:
    """Raise ArgumentError unless group["betas"] is a pair of numbers in [0, 1)."""
    pair = group["betas"]
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(0.0 <= _plain(b) < 1.0 for b in pair):
        raise ArgumentError(op, f"betas are {pair!r}", fix="choose two numbers of at least 0 and below 1")


def counter() -> Tensor:
    """A count of steps, from zero."""
    return wrap(np.zeros((), np.int64))


def count(state: Mapping[str, Any]) -> Any:
    """Count a step; its number, from 1."""
    steps = state["step"]._array
    steps += 1
    return as_number(steps)


def average(m: Array, x: Array, beta: Any, s: Array) -> None:
    """m  <-  beta * m + (1 - beta) * x, with `s` to compute in."""
    np.multiply(x, 1 - beta, out=s)
    np.multiply(m, beta, out=m)
    np.add(m, s, out=m)


def average_square(v: Array, x: Array, beta: Any, s: Array) -> None:
    """v  <-  beta * v + (1 - beta) * x^2, with `s` to compute in."""
    np.multiply(x, x, out=s)
    np.multiply(s, 1 - beta, out=s)
    np.multiply(v, beta, out=v)
    np.add(v, s, out=v)


def zeros_together(params: Iterable[Array | Tensor]) -> list[Tensor]:
    """State of several parameters, starting from zero, in one piece of memory: each begins on a cache line.

    `np.empty` asks for huge pages from 4 MB on, which many small arrays would never be given: a step
    that reads all of the state then needs far fewer entries of the table of pages.
    """
    params = list(params)
    sizes = [math.prod(p.shape) * p.dtype.itemsize for p in params]
    starts = [0, *itertools.accumulate(-(-size // 64) * 64 for size in sizes)]
    memory = np.empty(starts[-1] + 64, np.uint8)
    memory.fill(0)
    first = -memory.__array_interface__["data"][0] % 64
    return [
        wrap(memory[first + start : first + start + size].view(p.dtype).reshape(p.shape))
        for p, start, size in zip(params, starts, sizes, strict=False)
    ]


def zeros_for(p: Array) -> Tensor:
    """State of a parameter's shape and dtype, starting from zero."""
    return wrap(np.zeros(p.shape, p.dtype))  # under a trace, too: it is state from now on


__all__ = [
    "NOTES",
    "Array",
    "Group",
    "Kernels",
    "Optimizer",
    "Pair",
    "Stepper",
    "Watch",
    "as_number",
    "average",
    "average_square",
    "betas",
    "clear_grad",
    "count",
    "counter",
    "number",
    "zeros_for",
    "zeros_together",
]
