"""vmap: a function of one example becomes a function of a batch of them, with no loop over examples.

    vmap(f)(xs)[i] == f(xs[i])

`f` is called once, with tensors that have the shape of one example; whatever is done to them is done
to the whole batch.  As in tracing (`minigrad.trace`) the tensors hold symbols, and every operation
passes here; but nothing is recorded: the operation is carried out at once on the batches, whose
first dimension is the one that `f` does not see.  How, follows from the record:

==============================  =============================================================
elementwise                     shapes are aligned: (B, 3) beside (2, 3) becomes (B, 1, 3)
products of matrices            the same for the dimensions before the last two
reductions, movement, scans     attributes called `dim` and `dims` move up by one, `shape` gets B
the trait `batched`             True: as above; "examples": the first dimension of an operand is
                                itself one of examples, and B joins it; a function: new attributes
anything else                   a loop over the batch, with one notice an operation
==============================  =============================================================

    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> vmap(lambda row: row / row.sum())(x)
    tensor([[0.3333, 0.6667],
            [0.4286, 0.5714]])
    >>> per_example = vmap(mg.func.grad(lambda row: (row * row).sum()))
    >>> per_example(x)
    tensor([[2., 4.],
            [6., 8.]])

It nests with itself, with `grad`, `jvp` and `compile` in either order, because the batches are
ordinary tensors of whatever is outside.

Reference: Bradbury et al. 2018 (JAX), `vmap`.  Left out: branches on values inside (an error: an
example has no value of its own there) and random numbers that differ between examples.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .bind import apply
from .errors import ArgumentError, DTypeError, ShapeError, TraceError
from .ir import Spec
from .mode import Mode, current, using
from .ops.movement import _reshape, broadcast_to, movedim, one_dim, stack
from .record import Op
from .tensor import Symbol, Tensor, wrap
from .tree import tree_leaves, tree_map

__all__ = ["vmap"]

#: Operations of which a notice was given that they loop.
_noticed: set[str] = set()


class Batch:
    """What a mode's `trace` is inside `vmap`: it carries operations out on whole batches.

    size: of the batch; outside: the mode around it; randomness: "error" or "same".
    """

    def __init__(self, size: int, outside: Mode, randomness: str) -> None:
        self.size, self.outside, self.randomness = size, outside, randomness
        self.closed = False
        self._values: list[tuple[Tensor, bool]] = []  # by number of the symbol: tensor, whether a batch

    def enter(self, value: Tensor, batched: bool) -> Symbol:
        """The symbol of one example of a batch, or of a tensor that is the same for all."""
        self._values.append((value, batched))
        shape = value.shape[1:] if batched else value.shape
        return Symbol(Spec(shape, value.dtype), len(self._values) - 1, self)

    def value(self, t: Tensor) -> tuple[Tensor, bool]:
        """The tensor outside that stands behind one inside, and whether it is a batch."""
        array = t._array
        if not isinstance(array, Symbol) or array.trace is not self:
            return t, False
        self.refresh(t)
        now: Any = t._array
        value, batched = self._values[now.number]
        return value, batched

    def batch(self, t: Tensor) -> Tensor:
        """The same as a batch, whatever it is."""
        value, batched = self.value(t)
        return value if batched else broadcast_to(value, (self.size, *value.shape))

    def record(self, op: Op, inputs: tuple[Tensor, ...], attrs: tuple[Any, ...]) -> Symbol:
        """Carry out an operation on batches."""
        if self.closed:
            raise TraceError(
                op.name,
                "a tensor of one example is used after vmap has ended",
                fix="return it from the function",
            )
        if op.kind == "creation" and op.inputs == ("state",) and self.randomness == "error":
            raise TraceError(
                op.name,
                "random numbers inside vmap: are they to be the same for all examples?",
                fix="pass randomness='same', or make them outside, one for each example, and pass them in",
            )
        with using(self.outside):
            values = [self.value(t) for t in inputs]
            if not any(batched for _, batched in values):
                y, batched = apply(op, tuple(v for v, _ in values), attrs), False
            else:
                y, batched = _carry_out(op, values, attrs, self.size), True
        symbol = self.enter(y, batched)
        if op.view:
            symbol.origin = inputs[0].version
        return symbol

    # -- what the rest of the library asks of a trace ------------------------------------------------

    def symbol(self, t: Tensor) -> Symbol:
        """The symbol of a tensor; one from outside is the same for all examples."""
        array = t._array
        if isinstance(array, Symbol) and array.trace is self:
            self.refresh(t)
            array = t._array
            assert isinstance(array, Symbol)
            return array
        return self.enter(t, False)

    def alias(self, t: Tensor) -> Symbol:
        """A symbol for another tensor of the same values, without their history."""
        value, batched = self.value(t)
        with using(self.outside):
            symbol = self.enter(value.detach(), batched)
        symbol.origin = t.version
        return symbol

    def point(self, t: Tensor) -> Tensor:
        """A new tensor of the same values, to differentiate by; what is outside stays connected."""
        return wrap(self.enter(*self.value(t)))

    def refresh(self, t: Tensor) -> None:
        """Let a view show what its base is now, if that was changed since."""
        array = t._array
        if isinstance(array, Symbol) and array.origin is not None and array.origin != t.version:
            viewed_by = getattr(t, "_viewed_by", None)
            if viewed_by is None:
                raise TraceError(
                    "vmap",
                    f"a reshaped or detached tensor of shape {t.shape} is used after its base was changed",
                    fix="make it again after the change, or take a .clone() before",
                )
            t._array = self.record(viewed_by, (t._parent,), t._attrs)  # type: ignore[attr-defined]

    def update(self, target: Tensor, value: Tensor, op: str) -> None:
        """A tensor from outside is changed in place: possible if the value is the same for all."""
        new, batched = self.value(value)
        if batched:
            raise TraceError(
                op,
                f"a tensor of shape {target.shape} from outside would get another value from each example",
                fix="return the values, and combine them outside",
            )
        with using(self.outside):
            target.assign(new)

    def read(self, t: Tensor, what: str) -> None:
        """Python may look at tensors from outside."""

    def meet(self, t: Tensor) -> None:
        """Nothing is noted."""

    def guard(self, *_: Any) -> None:
        """Nothing is kept, so nothing can become wrong."""

    def leaf(self, leaf: Any, *, read: bool = False) -> None:
        """Gradients of one example have no place in `.grad`."""
        if not read:
            raise TraceError(
                "backward",
                "it would write gradients of single examples into .grad",
                fix="use func.grad inside vmap",
            )

    def consumed(self, leaf: Any) -> None:
        raise TraceError("step", "an optimizer's step inside vmap", fix="take the step outside")

    def live(self, read: Callable[[], Any], key: Any, name: str) -> Tensor:
        """A number that is read from outside."""
        return wrap(np.array(float(read()), np.float64))


def _aligned(values: Sequence[tuple[Tensor, bool]], inner: int) -> list[Tensor]:
    """Batches with dimensions of size 1 after the first, so that the others align from the right."""
    rank = max(v.ndim - batched for v, batched in values)
    rank = max(rank, inner)
    aligned = []
    for v, batched in values:
        missing = rank - (v.ndim - 1)
        if batched and missing:
            v = _reshape(v, (v.shape[0], *(1,) * missing, *v.shape[1:]))
        aligned.append(v)
    return aligned


def _moved(op: Op, attrs: tuple[Any, ...], size: int) -> tuple[Any, ...] | None:
    """Attributes for batches, from the names of what they are; None if that cannot be said."""
    moved = []
    for name, value in zip(op.attrs, attrs, strict=True):
        if name == "dim":
            if value is None:
                return None
            value = value + 1
        elif name == "dims":
            value = tuple(d + 1 for d in value)
        elif name == "shape":
            value = (size, *value)
        moved.append(value)
    return tuple(moved)


_BY_NAMES = ("reduction", "movement", "scan")


def _carry_out(op: Op, values: list[tuple[Tensor, bool]], attrs: tuple[Any, ...], size: int) -> Tensor:
    """One operation on operands of which at least one is a batch."""
    how = op.traits.get("batched")
    if op.kind == "elementwise" and how is None:
        return apply(op, tuple(_aligned(values, 0)), attrs)
    if "transposes" in op.traits:
        return apply(op, tuple(_aligned(values, 2)), attrs)
    if isinstance(how, str):
        folded = _folded(op, how, values, attrs, size)
        return _loop(op, values, attrs, size) if folded is None else folded
    named = op.kind in _BY_NAMES and any(name in ("dim", "dims", "shape") for name in op.attrs)
    scalars = any(v.ndim - batched == 0 for v, batched in values)
    specs = [Spec(v.shape[1:] if b else v.shape, v.dtype) for v, b in values]
    if callable(how):
        new = how(size, specs, *attrs)
    elif (how or named) and not (scalars and "dim" in op.attrs):  # of a 0-d tensor dim 0 means the whole
        new = _moved(op, attrs, size)
    else:
        new = None
    if new is None:
        return _loop(op, values, attrs, size)
    shape = (size, *op.infer(specs, attrs).shape)
    whole = [(v if b else broadcast_to(v, (size, *v.shape)), True) for v, b in values]
    if op.kind == "opaque" or "broadcast" in op.traits:  # dimensions of operands may differ in number
        return apply(op, tuple(_aligned(whole, len(shape) - 1 if "broadcast" in op.traits else 0)), new)
    y = apply(op, tuple(v for v, _ in whole), new)
    return y if y.shape == shape else _reshape(y, shape)


def _folded(
    op: Op, which: str, values: list[tuple[Tensor, bool]], attrs: tuple[Any, ...], size: int
) -> Tensor | None:
    """Operands named in `which` have examples of their own along the first dimension; the batch joins."""
    names = which.split()
    folded = []
    for name, (v, batched) in zip(op.inputs, values, strict=True):
        if name in names:
            v = v if batched else broadcast_to(v, (size, *v.shape))
            folded.append(_reshape(v, (size * v.shape[1], *v.shape[2:])))
        elif batched:
            return None
        else:
            folded.append(v)
    first = next(v for name, (v, b) in zip(op.inputs, values, strict=True) if name in names and b)
    y = apply(op, tuple(folded), attrs)
    return _reshape(y, (size, first.shape[1], *y.shape[1:]))


def _loop(op: Op, values: list[tuple[Tensor, bool]], attrs: tuple[Any, ...], size: int) -> Tensor:
    if op.name not in _noticed:
        _noticed.add(op.name)
        warnings.warn(
            f"vmap runs {op.name} once for each of {size} examples, as its record has no rule for batches",
            stacklevel=2,
        )
    if not size:
        specs = [Spec(v.shape[1:] if b else v.shape, v.dtype) for v, b in values]
        spec = op.infer(specs, attrs)
        from .ops.creation import zeros

        return zeros(0, *spec.shape, dtype=spec.dtype)
    return stack([apply(op, tuple(v[i] if b else v for v, b in values), attrs) for i in range(size)])


def _axes(in_dims: Any, args: tuple[Any, ...]) -> list[tuple[Any, int | None]]:
    """The leaves of the arguments, each with the dimension that is mapped over."""
    if not isinstance(in_dims, tuple):
        in_dims = (in_dims,) * len(args)
    if len(in_dims) != len(args):
        raise ArgumentError(
            "vmap", f"{len(in_dims)} in_dims for {len(args)} arguments", fix="give one for each"
        )
    pairs: list[tuple[Any, int | None]] = []
    for dims, arg in zip(in_dims, args, strict=True):
        leaves = tree_leaves(arg)
        if dims is None or isinstance(dims, int):
            pairs += [(leaf, dims) for leaf in leaves]
            continue
        given = _spread(dims, arg)
        pairs += list(zip(leaves, given, strict=True))
    return pairs


def _spread(dims: Any, arg: Any) -> list[int | None]:
    """A nest of dimensions of the structure of an argument, as a list; None stands for a whole branch."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(tree_leaves(arg))
    if isinstance(dims, (tuple, list)) and isinstance(arg, (tuple, list)) and len(dims) == len(arg):
        return [d for inner, a in zip(dims, arg, strict=True) for d in _spread(inner, a)]
    if isinstance(dims, dict) and isinstance(arg, dict) and dims.keys() == arg.keys():
        return [d for key in arg for d in _spread(dims[key], arg[key])]
    raise ArgumentError(
        "vmap", f"in_dims {dims!r} for an argument of another structure", fix="make them alike"
    )


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
) -> Callable[..., Any]:
    """A function that maps `func` over a dimension of its arguments, without a loop.

    in_dims: the dimension of each tensor that is mapped over: one for all, or a tuple with one for each
    positional argument (an int, None for what is the same for all examples, or a nest of these of the
    structure of the argument).  out_dims: where the dimension is in the results.  randomness: "error", or
    "same" for random numbers that all examples share.  Keyword arguments are mapped over dimension 0.

    Raises ShapeError if the sizes differ, ArgumentError if there is nothing to map over.
    """
    if randomness not in ("error", "same"):
        raise ArgumentError(
            "vmap",
            f"randomness {randomness!r}",
            fix="use 'error' or 'same'; for different numbers make them outside and pass them in",
        )

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        pairs = _axes(in_dims, args) + [(leaf, 0) for leaf in tree_leaves(kwargs)]
        size: int | None = None
        moved = []
        for leaf, dim in pairs:
            if dim is None or not isinstance(leaf, Tensor):
                if dim is not None and not (isinstance(in_dims, int) or in_dims is None):
                    raise DTypeError(
                        "vmap", f"a {type(leaf).__name__} to map over", fix="pass tensors, or in_dims None"
                    )
                moved.append((leaf, False))
                continue
            at = one_dim("vmap", dim, leaf.ndim)
            if not leaf.ndim:
                raise ShapeError(
                    "vmap", "a 0-d tensor has no dimension to map over", fix="give it in_dims None"
                )
            if size is not None and leaf.shape[at] != size:
                raise ShapeError(
                    "vmap",
                    f"sizes {size} and {leaf.shape[at]} of the dimensions to map over differ",
                    fix="make them equal, or give in_dims",
                )
            size = leaf.shape[at]
            moved.append((movedim(leaf, at, 0) if at else leaf, True))
        if size is None:
            raise ArgumentError(
                "vmap", "there is no tensor to map over", fix="pass one, with an in_dims of its own"
            )
        batch = Batch(size, current(), randomness)
        inside = iter([wrap(batch.enter(leaf, True)) if batched else leaf for leaf, batched in moved])
        inner_args, inner_kwargs = tree_map(lambda _: next(inside), (args, kwargs))
        with using(current().but(trace=batch)):
            result = func(*inner_args, **inner_kwargs)
        leaves = tree_leaves(result)
        dims = _spread(out_dims, result) if not isinstance(out_dims, int) else [out_dims] * len(leaves)
        outputs = []
        for leaf, dim in zip(leaves, dims, strict=True):
            if not isinstance(leaf, Tensor):
                raise DTypeError(
                    "vmap", f"the function returned a {type(leaf).__name__}", fix="return tensors"
                )
            if dim is None:
                value, batched = batch.value(leaf)
                if batched:
                    raise ArgumentError(
                        "vmap", "out_dims None of a result that differs", fix="give a dimension"
                    )
            else:
                value = batch.batch(leaf)
                if dim:
                    value = movedim(value, 0, dim)
            outputs.append(value)
        batch.closed = True
        remaining = iter(outputs)
        return tree_map(lambda _: next(remaining), result)

    return wrapped
