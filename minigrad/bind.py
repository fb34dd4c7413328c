"""Calling an operation: the one place that every operation of every program goes through.

    tracing?  record it in the graph  :  run its kernel
    gradients wanted?  leave a node on the tape

`apply` is that, for any record.  `elementwise` and `primitive` declare records and make them
callable; `unary` and `binary` are `apply` unrolled for operators such as `x + y`, whose overhead
is what a training step of a small model consists of.

An operation's Python face (the function people call) deals with names, defaults, Python scalars
and dtype promotion; records only see tensors and static attributes.  Numbers are weak: in
`x * 2.0` the 2.0 takes the dtype of x, unless x is an integer, which then becomes float32
(PyTorch's rule).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from . import tape
from .errors import (
    OURS,
    AnomalyError,
    ArgumentError,
    DTypeError,
    Error,
    GradientError,
    OutOfRangeError,
    Refusal,
    ShapeError,
    TraceError,
    here,
)
from .formula import Formula
from .ir import DType, Shape, Spec, bool_, broadcast_shapes, default_float, int64, promote
from .mode import Mode, current
from .record import Op, Rule, register
from .tensor import WORLD, Symbol, Tensor, View, as_array, wrap, wrap_view

_ndarray = np.ndarray
_asarray = np.asarray
_getframe = sys._getframe
getrefcount = sys.getrefcount
_record = tape.record
_new = object.__new__

F = TypeVar("F", bound=Callable[..., Any])

# Floating-point flags are data here (NaN and Inf propagate; `detect_anomaly` finds their origin),
# so numpy's RuntimeWarnings, raised in the frame that calls the kernel, say nothing new.  The
# filter names these modules and no other: the user's own numpy code still warns.
warnings.filterwarnings(
    "ignore", category=RuntimeWarning, module=r"minigrad\.(bind|tape|formula|ops|execute|backends)\b"
)
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"<formula ")


def apply(op: Op, inputs: tuple[Any, ...], attrs: tuple[Any, ...] = ()) -> Tensor:
    """Run `op` on tensors: the general path.

    Raises the Error that names the op, shapes and user's line if the kernel refuses.
    """
    mode = current()
    if mode.plain:
        try:
            y = mode.backend[op](*[t._array for t in inputs], *attrs)
        except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
            raise explain(op, inputs, attrs, error) from None
        if type(y) is not _ndarray:
            y = _asarray(y)
    else:
        y = _observed(mode, op, inputs, attrs)
    node = None
    if mode.grad and y.dtype.kind == "f":
        for t in inputs:
            if t._node is not None:
                node = _record(op, inputs, attrs, y, tape.user_line(1))
                break
    if op.view:
        if type(y) is Symbol:
            return _traced_view(op, inputs[0], attrs, y, node)
        if _aliases(y, inputs[0]._array):
            return wrap_view(inputs[0], op, attrs, y, node)
    return wrap(y, node, None if node is None else node.cell)


def _aliases(y: Any, x: Any) -> bool:
    """Whether a view op's output shares the memory of its input (reshape sometimes copies)."""
    if type(y) is not _ndarray:
        return False
    return y is x or (y.base is not None and (y.base is x or y.base is x.base))


def _traced_view(op: Op, base: Tensor, attrs: tuple[Any, ...], y: Symbol, node: tape.Node | None) -> Tensor:
    """A view in a trace.  There is no memory to share: a change of the base shows when the view is read
    next (`Trace.symbol`), and a change of the view is a change of the base (`_write_traced`).

    Of an operation that shares memory or does not, as the layout is, nobody knows here what a change
    would do: the result may not be changed, nor used after its base was (`Trace.refresh`).
    """
    if op.traits.get("may_copy"):
        return wrap(y, node, base._cell())
    return wrap_view(base, op, attrs, y, node)


def _observed(mode: Mode, op: Op, inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
    """The kernel's result while a trace or anomaly detection looks on."""
    if mode.trace is not None:
        try:
            return mode.trace.record(op, inputs, attrs)
        except (Refusal, ValueError, TypeError, IndexError) as error:
            if isinstance(error, Error):
                raise
            raise explain(op, inputs, attrs, error) from None
    with_plain = mode.but(anomaly=False)
    try:
        y = _asarray(with_plain.backend[op](*[t._array for t in inputs], *attrs))
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise explain(op, inputs, attrs, error) from None
    if not finite(y) and all(finite(t._array) for t in inputs) and all(_finite_attr(a) for a in attrs):
        shapes = ", ".join(str(Spec(t.shape, t.dtype)) for t in inputs)
        kind = "NaN" if np.isnan(y).any() else "Inf"
        raise AnomalyError(
            op.name,
            f"the first {kind} appears here, out of finite inputs ({shapes})",
            fix="look at the inputs of this line (a zero under log or division, an overflow in exp)",
        )
    return y


def finite(array: Any) -> bool:
    """Whether an array has no NaN and no Inf."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _finite_attr(value: Any) -> bool:
    return not isinstance(value, float) or bool(np.isfinite(value))


def explain(op: Op, inputs: Sequence[Any], attrs: Sequence[Any], error: Exception) -> Exception:
    """Turn whatever a kernel raised into the error the user needs."""
    if isinstance(error, Error):
        return error
    specs = [Spec(t._array.shape, t._array.dtype) for t in inputs]
    given = " and ".join(map(str, specs)) or "no tensors"
    accepted = False
    try:
        op.infer(specs, attrs)
        accepted = True
    except Refusal as refusal:
        error = refusal
    except (ValueError, TypeError, IndexError) as reason:
        error = reason
    if isinstance(error, Refusal):
        return error.kind(op.name, f"{error.problem} (given {given})", fix=error.fix)
    if isinstance(error, AttributeError) or any(isinstance(t._array, Symbol) for t in inputs):
        return TraceError(
            op.name,
            f"a tensor that belongs to a finished trace was used outside of it (given {given})",
            fix="return it from the traced function",
        )
    if isinstance(error, TypeError) and "not supported for the input types" in str(error):
        return DTypeError(op.name, f"is not defined for {given}", fix="convert with .float() or .to(dtype)")
    # where the shape rule is content, it is the values that are wrong
    cls: type[Error] = ArgumentError if accepted else ShapeError
    if isinstance(error, (TypeError, IndexError)):
        cls = DTypeError if isinstance(error, TypeError) else OutOfRangeError
    fix = (
        "count from 0, or from the end with -1"
        if cls is OutOfRangeError
        else "check the arguments of this line"
    )
    return cls(op.name, f"{str(error).rstrip('.')} (given {given})", fix=fix)


# -- scalars and promotion ----------------------------------------------------------------------


def scalar(value: Any, like: DType) -> Any:
    """A Python number as a 0-d array, weak: it takes the dtype `like` if that can hold its kind."""
    kind = type(value)
    if kind is float:
        return np.array(value, like if like.kind == "f" else default_float())
    if kind is bool:
        return np.array(value, bool_)
    if kind is int:
        return np.array(value, int64 if like.kind == "b" else like)
    raise TypeError


def as_tensor(value: Any, like: Tensor | None = None, op: str = "tensor") -> Tensor:
    """A tensor from an operand: a tensor itself, a number, a numpy array or a (nested) list."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (float, int, bool)) and like is not None:
        try:
            return wrap(scalar(value, like.dtype))
        except TypeError:
            value = np.asarray(value)[()]
        except OverflowError:
            raise ArgumentError(
                op, f"{value} does not fit into {like.dtype}", fix="convert the tensor to a wider dtype"
            ) from None
    if isinstance(value, (np.ndarray, np.generic, float, int, bool, list, tuple)):
        return wrap(as_array(value))
    raise DTypeError(
        op, f"cannot use a {type(value).__name__} as a tensor", fix="pass a tensor, a number or an array"
    )


def promoted(op: str, *operands: Any) -> list[Tensor]:
    """Operands as tensors of one dtype, at least one of them being a tensor or an array."""
    like = next((x for x in operands if isinstance(x, Tensor)), None)
    if like is None:
        like = next((wrap(as_array(x)) for x in operands if isinstance(x, np.ndarray)), None)
    if like is None:
        like = wrap(as_array(operands[0]))
    numbers = [type(x) in (float, int, bool) for x in operands]
    tensors = [x if isinstance(x, Tensor) else as_tensor(x, like, op) for x in operands]
    strong = [(t.dtype, t.ndim) for t, number in zip(tensors, numbers, strict=True) if not number]
    target = promote(*strong) if strong else like.dtype
    for t, number in zip(tensors, numbers, strict=True):
        if number and "biuf".index(t.dtype.kind.replace("u", "i")) > "biuf".index(
            target.kind.replace("u", "i")
        ):
            target = t.dtype  # a float beside integers: float32; an integer beside bools: int64
    cast_to = tape.hooks.cast  # type: ignore[attr-defined]
    return [
        wrap(as_array(x, target)) if number else (t if t.dtype == target else cast_to(t, target))
        for x, t, number in zip(operands, tensors, numbers, strict=True)
    ]


def floating(t: Tensor) -> Tensor:
    """The tensor itself if it is floating point, else as float32."""
    return t if t.dtype.kind == "f" else tape.hooks.cast(t, default_float())  # type: ignore[attr-defined]


# -- fast paths -----------------------------------------------------------------------------------


def _convert(op: Op, dtype_rule: str, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Operands of a dtype that the operation is defined for; DTypeError for bools where it is not."""
    if dtype_rule == "float":
        return tuple([floating(t) for t in tensors])
    if dtype_rule == "number" and tensors[0].dtype.kind == "b":
        raise explain(op, tensors, (), TypeError())
    return tensors


def unary(op: Op, dtype_rule: str) -> Callable[[Any], Tensor]:
    """`apply` for one tensor and no attributes, unrolled."""
    keeps_x, keeps_y = op.kept[0][0], op.keeps_y[0]
    strict = dtype_rule in ("float", "number")

    def call(input: Any) -> Tensor:
        mode = current()
        if not mode.plain or not isinstance(input, Tensor) or (strict and input._array.dtype.kind != "f"):
            return apply(op, _convert(op, dtype_rule, (as_tensor(input, None, op.name),)))
        x = input._array
        try:
            y = mode.backend[op](x)
        except (ValueError, TypeError, AttributeError) as error:
            raise explain(op, (input,), (), error) from None
        if type(y) is not _ndarray:
            y = _asarray(y)
        result = _new(Tensor)
        result._array = y
        parent = input._node
        if parent is None or not mode.grad or y.dtype.kind != "f":
            result._node = result._version = None
            return result
        frame = _getframe(1)
        while OURS[frame.f_globals.get("__package__")] and frame.f_back is not None:
            frame = frame.f_back
        result._node = node = _new(tape.Node)
        node.op = op
        node.attrs = ()
        node.inputs = (parent,)
        node.versions = None
        if keeps_x:
            node.saved = (input,)
            version = input._version
            if version is not None and version[0]:
                node.versions = (version[0],)
        else:
            node.saved = ()
        if keeps_y:
            node.y = y
            node.cell = result._version = [0, None]
        else:
            node.y = node.cell = result._version = None
        node.shape = y.shape
        node.dtype = y.dtype
        node.where = (frame.f_code, frame.f_lasti)
        node.number = tape._number()
        node._extra = None
        return result

    return call


def binary(op: Op, dtype_rule: str) -> Callable[[Any, Any], Tensor]:
    """`apply` for two tensors that may be numbers, and no attributes, unrolled."""
    (first_keeps_first, first_keeps_other), (other_keeps_first, other_keeps_other) = op.kept
    first_keeps_y, other_keeps_y = op.keeps_y
    strict = dtype_rule in ("float", "number")

    def slow(input: Any, other: Any) -> Tensor:
        return apply(op, _convert(op, dtype_rule, tuple(promoted(op.name, input, other))))

    def call(input: Any, other: Any) -> Tensor:
        mode = current()
        if not mode.plain:
            return slow(input, other)
        if not isinstance(input, Tensor):
            if type(input) is not float or not isinstance(other, Tensor) or other._array.dtype.kind != "f":
                return slow(input, other)
            x = np.array(input, other._array.dtype)
            input = _new(Tensor)
            input._array = x
            input._node = input._version = None
        else:
            x = input._array
        dtype = x.dtype
        if isinstance(other, Tensor):
            w = other._array
            if w.dtype is not dtype or (strict and dtype.kind != "f"):
                return slow(input, other)
        elif dtype.kind == "f" and (type(other) is float or type(other) is int):
            w = np.array(other, dtype)
            other = _new(Tensor)
            other._array = w
            other._node = other._version = None
        else:
            return slow(input, other)
        try:
            y = mode.backend[op](x, w)
        except (ValueError, TypeError, AttributeError) as error:
            raise explain(op, (input, other), (), error) from None
        if type(y) is not _ndarray:
            y = _asarray(y)
        result = _new(Tensor)
        result._array = y
        node_x, node_w = input._node, other._node
        if (node_x is None and node_w is None) or not mode.grad or y.dtype.kind != "f":
            result._node = result._version = None
            return result
        frame = _getframe(1)
        while OURS[frame.f_globals.get("__package__")] and frame.f_back is not None:
            frame = frame.f_back
        result._node = node = _new(tape.Node)
        node.op = op
        node.attrs = ()
        node.inputs = (node_x, node_w)
        node.versions = None
        keep_first = (first_keeps_first and node_x is not None) or (other_keeps_first and node_w is not None)
        keep_other = (first_keeps_other and node_x is not None) or (other_keeps_other and node_w is not None)
        if keep_first or keep_other:
            node.saved = (input if keep_first else None, other if keep_other else None)
            version_x, version_w = input._version, other._version
            if version_x is not None or version_w is not None:
                node.versions = (version_x[0] if version_x else 0, version_w[0] if version_w else 0)
        else:
            node.saved = ()
        if (first_keeps_y and node_x is not None) or (other_keeps_y and node_w is not None):
            node.y = y
            node.cell = result._version = [0, None]
        else:
            node.y = node.cell = result._version = None
        node.shape = y.shape
        node.dtype = dtype
        node.where = (frame.f_code, frame.f_lasti)
        node.number = tape._number()
        node._extra = None
        return result

    return call


# -- declarations -----------------------------------------------------------------------------------


def install(function: Callable[..., Any], method: str | tuple[str, ...], names: Sequence[str] = ()) -> None:
    """Make a function a method of Tensor, under each of these names."""
    for name in (method,) if isinstance(method, str) else method:
        if name:
            setattr(Tensor, name, function)


def method(*names: str, inplace: bool = False) -> Callable[[F], F]:
    """Decorator: the function is a method of Tensor too (under its own name if none is given).

    inplace: also install `name_`, which writes the result into the tensor.
    """

    def decorate(function: F) -> F:
        for name in names or (function.__name__,):
            setattr(Tensor, name, function)
            METHODS[name] = function
            if inplace:
                changes = f"__i{name[2:]}" if name.startswith("__") else f"{name}_"  # __ipow__, pow_
                changed = in_place(function, changes)
                setattr(Tensor, changes, changed)
                METHODS[changes] = changed
        return function

    return decorate


#: Every method that operations have installed, by name; `_methods.pyi` is generated from it.
METHODS: dict[str, Callable[..., Any]] = {}


def _elementwise_shape(dtype_rule: str) -> Callable[..., Spec]:
    def shape(*args: Any) -> Spec:
        specs = [a for a in args if isinstance(a, Spec)]
        try:
            common = broadcast_shapes(*[s.shape for s in specs])
        except ValueError as error:
            raise Refusal(
                f"shapes {' and '.join(str(s.shape) for s in specs)} do not broadcast: {error}",
                "make the sizes equal, or insert a dimension of size 1 with unsqueeze",
            ) from None
        if dtype_rule == "bool":
            return Spec(common, bool_)
        if dtype_rule == "number" and any(s.dtype.kind == "b" for s in specs):
            raise Refusal("is not defined for bool", "convert with .long() or .float()", DTypeError)
        if dtype_rule == "float" and specs[0].dtype.kind != "f":
            raise Refusal(
                f"is defined for floating point, not {specs[0].dtype}", "convert with .float()", DTypeError
            )
        dtypes = {s.dtype for s in specs if dtype_rule != "select" or s is not specs[0]}
        if len(dtypes) > 1:
            names = " and ".join(sorted(d.name for d in dtypes))
            raise Refusal(f"dtypes {names} differ", "convert one with .to(dtype)", DTypeError)
        dtype = dtypes.pop()
        return Spec(common, dtype)

    return shape


def elementwise(
    formula: str | None = None,
    *,
    kernel: Callable[..., Any] | None = None,
    vjp: tuple[Rule | None, ...] | Rule | None = None,
    dtype: str = "same",
    method: str | tuple[str, ...] = (),
    reflected: str = "",
    inplace: str | tuple[str, ...] = (),
    traits: Mapping[str, Any] | None = None,
    domain: tuple[float, float] = (-3.0, 3.0),
    away_from: tuple[float, ...] = (),
    ufunc: str = "",
    error: float = 4.0,
) -> Callable[[F], F]:
    """Declare an elementwise operation of one or two tensors from its formula (or, lacking one, a kernel).

    The decorated function gives the name, the argument names (those of the formula) and the
    docstring; its body is empty, as the formula is the body.

    vjp        derivative rules, one an argument (see `record`); None: no gradient
    dtype      "same" as the inputs, "number" (the same, but no bools), "float" (integers become
               float32) or "bool"
    method     names under which it is a method of Tensor; `reflected`: with arguments swapped;
               `inplace`: writing into the first argument
    domain     an interval of valid inputs, for samples; `away_from`: points where there is no
               derivative
    ufunc      the numpy ufunc that means the same, if it has another name
    """

    def decorate(face: F) -> F:
        code = face.__code__
        names = code.co_varnames[: code.co_argcount]
        parsed = None if formula is None else Formula(formula)
        by_numpy = kernel if parsed is None else parsed.numpy(names)
        assert by_numpy is not None, f"{face.__name__}: neither a formula nor a kernel"
        rules = vjp if isinstance(vjp, tuple) else (vjp,) * len(names) if vjp is None else (vjp,)
        op = register(
            Op(
                name=face.__name__.lstrip("_"),
                kind="elementwise",
                inputs=names,
                attrs=(),
                kernel=by_numpy,
                shape=_elementwise_shape(dtype),
                rules=rules,
                formula=parsed,
                traits=traits or {},
                samples=_Samples(
                    len(names), domain, away_from, dtype in ("same", "number") and domain == (-3.0, 3.0)
                ),
                error=error,
                doc=face.__doc__ or "",
                origin=face.__module__,
            )
        )
        made = (unary if len(names) == 1 else binary)(op, dtype)
        call = cast(Any, made)
        call.__name__ = face.__name__
        call.__qualname__ = face.__qualname__
        call.__module__ = face.__module__
        call.__doc__ = face.__doc__
        call.__annotations__ = face.__annotations__
        call.op = op
        for name in (method,) if isinstance(method, str) else method:
            setattr(Tensor, name, call)
            METHODS[name] = call
        if reflected:

            def swapped(self: Any, other: Any) -> Tensor:
                return call(other, self)  # type: ignore[no-any-return]

            setattr(Tensor, reflected, swapped)
            METHODS[reflected] = swapped
        for name in (inplace,) if isinstance(inplace, str) else inplace:
            changed = in_place(call, name)
            setattr(Tensor, name, changed)
            METHODS[name] = changed
        numpy_name = ufunc or getattr(op.kernel, "__name__", "")
        if isinstance(op.kernel, np.ufunc) and numpy_name not in tape.hooks.ufuncs:
            tape.hooks.ufuncs[numpy_name] = call
        return cast(F, call)

    return decorate


class _Samples:
    """Arguments for an elementwise operation: several shapes, broadcast, empty, 0-d, strided."""

    def __init__(
        self, arity: int, domain: tuple[float, float], away_from: tuple[float, ...], integers: bool
    ) -> None:
        self.arity, self.domain, self.away_from, self.integers = arity, domain, away_from, integers

    def draw(self, rng: Any, shape: Shape) -> Any:
        """Values of the domain, at least 0.05 away from the points without a derivative."""
        low, high = self.domain
        values = rng.uniform(low, high, shape)
        for point in self.away_from:
            near = np.abs(values - point) < 0.05
            values = np.where(near, point + np.where(values < point, -0.1, 0.1), values)
        return values

    def __call__(self, rng: Any) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        shapes: list[tuple[Shape, ...]] = [((3, 4),), ((),), ((0, 3),), ((2, 1, 5),)]
        if self.arity == 2:
            shapes = [
                ((3, 4), (3, 4)),
                ((3, 4), (4,)),
                ((2, 1, 3), (4, 1)),
                ((), (2, 3)),
                ((), ()),
                ((0, 3), (1, 3)),
            ]
        if self.arity == 3:
            shapes = [((3, 4), (3, 4), (3, 4)), ((3, 1), (4,), ()), ((0, 3), (3,), (1, 3))]
        samples = [(tuple(self.draw(rng, s) for s in group), ()) for group in shapes]
        strided = tuple(self.draw(rng, (4, 6)).T[::2] for _ in range(self.arity))
        return [*samples, (strided, ())]


def primitive(
    name: str,
    *,
    kind: str,
    inputs: tuple[str, ...],
    attrs: tuple[str, ...] = (),
    kernel: Callable[..., Any],
    shape: Callable[..., Spec],
    vjp: tuple[Rule | None, ...],
    formula: str | None = None,
    view: bool = False,
    traits: Mapping[str, Any] | None = None,
    samples: Callable[..., Any],
    reference: Callable[..., Any] | None = None,
    error: float = 16.0,
    doc: str = "",
) -> Callable[..., Tensor]:
    """Declare any operation; returns the function `(*tensors, *attrs) -> Tensor` that runs it.

    The function has the record as its attribute `op`.  See `record.Op` for the arguments.  Its
    Python face, if it needs one, is a function of its own that tidies up the arguments.
    """
    op = register(
        Op(
            name=name,
            kind=kind,
            inputs=inputs,
            attrs=attrs,
            kernel=kernel,
            shape=shape,
            rules=vjp,
            formula=None if formula is None else Formula(formula),
            view=view,
            traits=traits or {},
            samples=samples,
            reference=reference,
            error=error,
            doc=doc,
            origin=_getframe(1).f_globals.get("__name__", ""),
        )
    )
    if op.variadic:

        def call(tensors: Sequence[Tensor], *values: Any) -> Tensor:
            return apply(op, tuple(tensors), values)

    else:
        count = len(inputs)

        def call(*args: Any) -> Tensor:  # type: ignore[misc]
            return apply(op, args[:count], args[count:])

    call.__name__ = call.__qualname__ = name
    call.__doc__ = doc
    call.op = op  # type: ignore[attr-defined]
    return cast(Callable[..., Tensor], call)


# -- in-place changes ----------------------------------------------------------------------------


def in_place(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The method `name` (such as `add_`) that writes `function(self, ...)` into self."""

    def changed(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not current().grad:
            return write(self, function(self, *args, **kwargs), name)
        trace = current().trace
        if trace is not None:
            trace.refresh(self)
        # The function gets a stand-in for the old value.  If a derivative rule keeps that (as in
        # `y *= w`), it is given memory of its own before the old value is written over.
        old = wrap(self._array, self._node, self._cell())
        count = getrefcount(old)
        value = function(old, *[old if a is self else a for a in args], **kwargs)
        if value is old:
            return self
        if getrefcount(old) > count:
            old._version = None
            if type(old._array) is _ndarray:
                old._array = old._array.copy()
        return write(self, value, name)

    changed.__name__ = changed.__qualname__ = name
    changed.__doc__ = f"`{function.__name__}`, writing the result into this tensor; returns it."
    changed.__wrapped__ = function  # type: ignore[attr-defined]
    return changed


def write(target: Tensor, value: Tensor, name: str) -> Tensor:
    """Replace the contents of `target` by `value`, a tensor of its shape, in memory and history.

    Raises GradientError for a leaf that requires grad (its `.grad` would be that of a value which
    is gone), DTypeError if the dtype of `value` does not fit, ShapeError if its shape does not.
    """
    forbid_leaf(target, name)
    if value.shape != target.shape:
        raise ShapeError(
            name,
            f"a result of shape {value.shape} does not fit into a tensor of shape {target.shape}",
            fix="write it out of place",
        )
    if value.dtype != target.dtype:
        if "biuf".index(value.dtype.kind) > "biuf".index(target.dtype.kind):
            raise DTypeError(
                name,
                f"a {value.dtype} result cannot be written into a {target.dtype} tensor",
                fix="convert the tensor first",
            )
        value = tape.hooks.cast(value, target.dtype)  # type: ignore[attr-defined]
    trace = current().trace
    if trace is not None:
        return _write_traced(trace, target, value, name)
    array = target._writable(name)
    commit = rebase(target, value) if current().grad else None
    array[...] = value._array
    target._touch()
    if commit is not None:
        commit()
    return target


def forbid_leaf(target: Tensor, name: str) -> None:
    """Raise if an in-place change would hit a leaf that requires grad, or a view of one."""
    base = target
    while isinstance(base, View):
        base = base._parent
    if current().grad and isinstance(base._node, tape.Leaf):
        raise GradientError(
            name,
            f"a leaf tensor of shape {base.shape} that requires grad cannot be changed in place",
            fix="do it under no_grad() (as an optimizer does), or on a .clone()",
        )


def rebase(target: Tensor, value: Tensor) -> Callable[[], None] | None:
    """Prepare the new history of `target`, to be committed after its memory has changed.

    A change through a view is a change of its base: base' = view_update(base, value).
    """
    while isinstance(target, View):
        parent = target._parent
        if parent._node is None and value._node is None:
            return None
        update = tape.hooks.view_update  # type: ignore[attr-defined]
        node = tape.record(update, (parent, value), (target._viewed_by, target._attrs), parent._array, here())
        target, value = parent, wrap(parent._array, node)
    base, history = target, value._node
    if history is base._node:
        return None

    def commit() -> None:
        base._node = history
        WORLD.changed()

    return commit


def _write_traced(trace: Any, target: Tensor, value: Tensor, name: str) -> Tensor:
    if not isinstance(target._array, Symbol):
        trace.update(target, value, name)
        if current().grad:
            target._node = value._node
        target._touch()
        return target
    if isinstance(target, View):
        update = tape.hooks.view_update  # type: ignore[attr-defined]
        parent = apply(update, (target._parent, value), (target._viewed_by, target._attrs))
        _write_traced(trace, target._parent, parent, name)
        return target
    if target._array.origin is not None:
        raise TraceError(
            name,
            "a reshaped or detached tensor is changed in place inside a trace, where it is not known whether "
            "it shares the memory of what it was made of",
            fix="change that, or a .clone()",
        )
    written = trace.symbol(value)
    if written.origin is not None:  # a view (`fill_` broadcasts): of its values only, not of its memory
        written = Symbol(Spec(written.shape, written.dtype), written.number, trace)
    target._array = written
    target._node = value._node
    target._touch()
    return target


tape.hooks.write_traced = _write_traced  # type: ignore[attr-defined]
