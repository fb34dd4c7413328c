"""The laws, as functions of a record; each raises AssertionError where it does not hold.

They read nothing but the record: a new operation is tested the moment it exists.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import autograd
from minigrad.backends import get_backend
from minigrad.bind import apply
from minigrad.errors import ArgumentError, Error, OutOfRangeError, Refusal
from minigrad.execute import interpret
from minigrad.ir import DTYPES, Spec, float32, float64
from minigrad.mode import Switch, current
from minigrad.record import OPS, Op
from minigrad.tensor import Tensor, wrap
from minigrad.trace import trace

Sample = tuple[tuple[Any, ...], tuple[Any, ...]]

#: Values where formulas go wrong.
SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-30, -1e-30, 80.0, -80.0, 1e30, -1e30]
)


# -- samples ---------------------------------------------------------------------------------------


def samples(op: Op) -> list[Sample]:
    """The record's own samples, the same in every run, with inputs as arrays."""
    assert op.samples is not None, f"op {op.name!r} has no samples"
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    drawn = op.samples(rng)
    return [(tuple(np.asarray(x) for x in inputs), tuple(attrs)) for inputs, attrs in drawn]


def rule_of(op: Op, i: int) -> Any:
    """The derivative rule for input i."""
    return op.rules[0] if op.variadic else op.rules[i]


def as_dtype(inputs: tuple[Any, ...], dtype: Any) -> tuple[Any, ...]:
    """The floating point inputs in another dtype; indices and masks stay what they are."""
    return tuple(x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs)


def layouts(inputs: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The same values in other places: column-major, with gaps, backwards, broadcast, read-only."""

    def gaps(x: Any) -> Any:
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7, x.dtype) if x.ndim else x
        if x.ndim:
            wide[..., : 2 * x.shape[-1] : 2] = x
            return wide[..., : 2 * x.shape[-1] : 2]
        return wide

    def backwards(x: Any) -> Any:
        return np.flip(np.flip(x).copy())

    def frozen(x: Any) -> Any:
        y = x.copy()
        y.flags.writeable = False
        return y

    yield "column-major", tuple(np.array(x, order="F") for x in inputs)
    yield "with gaps", tuple(gaps(x) for x in inputs)
    yield "backwards", tuple(backwards(x) for x in inputs)
    yield "read-only", tuple(frozen(x) for x in inputs)


def on(backend: Any) -> Switch:
    """Run on a backend, given by name or as the object."""
    return Switch(backend=get_backend(backend) if isinstance(backend, str) else backend)


def compute(op: Op, inputs: tuple[Any, ...], attrs: tuple[Any, ...], backend: Any = "numpy") -> Any:
    """The array that an operation gives for arrays."""
    with on(backend):
        return apply(op, tuple(wrap(x) for x in inputs), attrs)._array


def leaves(op: Op, inputs: tuple[Any, ...], only: int | None = None) -> list[Tensor]:
    """Tensors of the arrays; those with a rule (or one of them) require grad."""
    return [
        Tensor(
            x,
            requires_grad=x.dtype.kind == "f" and rule_of(op, i) is not None and only in (None, i),
        )
        for i, x in enumerate(inputs)
    ]


def function(op: Op, attrs: tuple[Any, ...]) -> Callable[..., Tensor]:
    """The operation as a function of tensors."""

    def run(*tensors: Tensor) -> Tensor:
        return apply(op, tensors, attrs)

    run.op = op  # type: ignore[attr-defined]
    return run


def differentiable(op: Op, inputs: tuple[Any, ...]) -> list[int]:
    """Positions that have a gradient."""
    return [i for i, x in enumerate(inputs) if x.dtype.kind == "f" and rule_of(op, i) is not None]


# -- comparing -------------------------------------------------------------------------------------


def ulps(op: Op, got: Any, wanted: Any, inputs: tuple[Any, ...]) -> float:
    """The largest distance of two results in units in the last place.

    Elementwise operations are measured element by element.  Where terms are added up, the unit is
    that of the largest number that took part: cancellation is in the problem, not in the kernel.
    """
    got, wanted = np.asarray(got), np.asarray(wanted)
    if not got.size:
        return 0.0
    if got.dtype.kind != "f":
        return 0.0 if np.array_equal(got, wanted) else np.inf
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    if same.all():
        return 0.0
    finite = np.isfinite(got) & np.isfinite(wanted)
    if not (finite | same).all():
        return np.inf
    a, b = got.astype(np.longdouble), wanted.astype(np.longdouble)
    size = np.maximum(np.abs(np.where(finite, a, 0)), np.abs(np.where(finite, b, 0)))
    if op.kind != "elementwise":
        took_part = [np.abs(x[np.isfinite(x)]).max(initial=0) for x in inputs if x.dtype.kind == "f"]
        size = np.maximum(size.max(), max(took_part, default=0))
    unit = np.maximum(size * np.finfo(got.dtype).eps, np.finfo(got.dtype).smallest_subnormal)
    return float(np.max(np.where(same, 0, np.abs(a - b)) / unit))


def assert_close(
    op: Op, got: Any, wanted: Any, inputs: tuple[Any, ...], what: str, factor: float = 1.0
) -> None:
    """Equal shape and dtype, and values within the record's stated error."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"{op.name}: {what}: shape {got.shape}, not {wanted.shape}"
    assert got.dtype == wanted.dtype, f"{op.name}: {what}: dtype {got.dtype}, not {wanted.dtype}"
    distance = ulps(op, got, wanted, inputs)
    assert distance <= op.error * factor, (
        f"{op.name}: {what}: {distance:.3g} ulp apart, {op.error} are stated"
    )


# -- the laws --------------------------------------------------------------------------------------


def record_is_complete(op: Op) -> None:
    """A record has samples, a sentence that says what it computes, and a formula over its names."""
    assert samples(op), f"{op.name}: no samples"
    assert len(op.doc.strip()) > 3, f"{op.name}: no doc"
    if op.formula is not None:
        assert set(op.formula.names) <= {*op.inputs, *op.attrs}, f"{op.name}: unknown names in the formula"
    for inputs, attrs in samples(op):
        assert op.accepts(len(inputs)), f"{op.name}: a sample with {len(inputs)} inputs"
        assert len(attrs) == len(op.attrs), f"{op.name}: a sample with {len(attrs)} attributes"
        hash(attrs)  # attributes are static: they are compared and looked up


def backend_agrees(op: Op, backend: Any) -> None:
    """Law 1: a backend computes what numpy computes, within the stated error, from any layout."""
    for dtype in (float64, float32):
        for inputs, attrs in samples(op):
            arrays = as_dtype(inputs, dtype)
            wanted = compute(op, arrays, attrs)
            assert_close(op, compute(op, arrays, attrs, backend), wanted, arrays, f"{dtype} {backend}")
            for layout, placed in layouts(arrays):
                got = compute(op, placed, attrs, backend)
                # numpy itself adds up in another order when the layout differs
                assert_close(op, got, wanted, arrays, f"{dtype} {backend}, {layout} input", factor=2.0)


def agrees_with_reference(op: Op) -> None:
    """Law 1: numpy's kernel computes what the slow and obvious reference computes."""
    assert op.reference is not None
    for dtype in (float64, float32):
        for inputs, attrs in samples(op):
            arrays = as_dtype(inputs, dtype)
            wide = as_dtype(arrays, float64)
            wanted = np.asarray(op.reference(*wide, *attrs))
            got = compute(op, arrays, attrs)
            if got.dtype.kind == "f":
                wanted = wanted.astype(got.dtype)
            assert_close(op, got, wanted, arrays, f"{dtype} against the reference")


def leaves_inputs_alone(op: Op, backend: Any) -> None:
    """A kernel writes to its output only, and shares memory with an input only if `view` says so."""
    shared = False
    for inputs, attrs in samples(op):
        placed = tuple(x.copy() for x in inputs)
        y = compute(op, placed, attrs, backend)
        for before, after in zip(inputs, placed, strict=True):
            assert np.array_equal(before, after, equal_nan=before.dtype.kind == "f"), (
                f"{op.name}: its kernel changes an input"
            )
        for x in placed:
            if y.size and np.may_share_memory(x, y):
                assert op.view, f"{op.name}: its kernel returns the memory of an input, but view is False"
                shared = True
    assert shared == op.view, f"{op.name}: view is True, but no sample shares memory"


def shape_rule_holds(op: Op, dtype: Any) -> None:
    """Law 2: the shape rule predicts what comes out.  If a kernel refuses, the error is one of ours."""
    for inputs, attrs in samples(op):
        arrays = as_dtype(inputs, dtype)
        specs = [Spec(x.shape, x.dtype) for x in arrays]
        try:
            predicted = op.infer(specs, attrs)
        except Refusal:
            predicted = None
        try:
            y = compute(op, arrays, attrs)
        except Error as error:
            assert dtype not in (float32, float64), f"{op.name}: refuses its own sample in {dtype}"
            if predicted is not None and not isinstance(error, (ArgumentError, OutOfRangeError)):
                raise AssertionError(f"{op.name}: accepted by the shape rule, then {error}") from error
            continue
        if predicted is None:
            assert dtype not in (float32, float64), f"{op.name}: its shape rule refuses its own sample"
            continue  # the face converts before it gets here
        assert (y.shape, y.dtype) == predicted, (
            f"{op.name}: the shape rule says {predicted}, the kernel gives {Spec(y.shape, y.dtype)}"
        )


def gradient_is_right(op: Op) -> None:
    """Law 3: <u, J v> is what central differences say, for all inputs at once and one by one.

    One by one matters: what the tape keeps depends on which inputs want a gradient.
    """
    for inputs, attrs in samples(op):
        arrays = as_dtype(inputs, float64)
        wanted = differentiable(op, arrays)
        if not wanted or not _gives_floats(op, arrays, attrs):
            continue
        mg.autograd.gradcheck(function(op, attrs), leaves(op, arrays))
        if len(wanted) > 1:
            for i in wanted:
                mg.autograd.gradcheck(function(op, attrs), leaves(op, arrays, i))


def every_dependence_has_a_rule(op: Op) -> None:
    """Law 3: where there is no rule, the (floating point) output does not depend on the input."""
    for inputs, attrs in samples(op):
        arrays = as_dtype(inputs, float64)
        if not _gives_floats(op, arrays, attrs):
            continue
        y = compute(op, arrays, attrs)
        for i, x in enumerate(arrays):
            if x.dtype.kind == "f" and rule_of(op, i) is None:
                moved = compute(op, (*arrays[:i], x * 1.01, *arrays[i + 1 :]), attrs)
                assert np.array_equal(moved, y), f"{op.name}: input {i} matters, but has no rule"


def second_gradient_is_right(op: Op) -> None:
    """Law 3 again, for the gradient's own gradient."""
    for inputs, attrs in samples(op):
        arrays = as_dtype(inputs, float64)
        if differentiable(op, arrays) and _gives_floats(op, arrays, attrs):
            mg.autograd.gradgradcheck(function(op, attrs), leaves(op, arrays))


def _gives_floats(op: Op, arrays: tuple[Any, ...], attrs: tuple[Any, ...]) -> bool:
    y = compute(op, arrays, attrs)
    return bool(y.dtype.kind == "f" and np.isfinite(y).all())


def gradient_keeps_dtype(op: Op) -> None:
    """First and second gradients have the shape and dtype of their input: float32 stays float32."""
    for dtype in (float32, float64):
        for inputs, attrs in samples(op):
            tensors = leaves(op, as_dtype(inputs, dtype))
            wanted = [t for t in tensors if t.requires_grad]
            y = apply(op, tuple(tensors), attrs)
            if not wanted or not y.requires_grad:
                continue
            u = Tensor(np.ones(y.shape), y.dtype, requires_grad=True)
            first = autograd.grad(y, wanted, u, create_graph=True, allow_unused=True)
            _specs_match(op, "first gradient", wanted, first)
            again = [g for g in first if g is not None and g.requires_grad]
            if again:
                ones = [Tensor(np.ones(g.shape), g.dtype) for g in again]
                second = autograd.grad(again, [*wanted, u], ones, allow_unused=True)
                _specs_match(op, "second gradient", [*wanted, u], second)
            plain = autograd.grad(apply(op, tuple(tensors), attrs), wanted, u.detach(), allow_unused=True)
            _specs_match(op, "gradient without create_graph", wanted, plain)
            for a, b in zip(first, plain, strict=True):
                if a is not None and b is not None:
                    assert_close(
                        op, b._array, a._array, (), "gradient with and without create_graph", factor=4
                    )


def _specs_match(op: Op, what: str, inputs: list[Tensor], grads: Any) -> None:
    for i, (x, g) in enumerate(zip(inputs, grads, strict=True)):
        if g is not None:
            assert (g.shape, g.dtype) == (x.shape, x.dtype), (
                f"{op.name}: the {what} of input {i} is {Spec(g.shape, g.dtype)}, "
                f"the input {Spec(x.shape, x.dtype)}"
            )


def traced_is_eager(op: Op) -> None:
    """Law 4: the recorded operation, run by the interpreter, gives the same bits as the eager one."""
    for dtype in (float64, float32):
        for inputs, attrs in samples(op):
            arrays = as_dtype(inputs, dtype)
            graph = trace(function(op, attrs), *(Spec(x.shape, x.dtype) for x in arrays))
            assert len(graph.nodes) == 1, f"{op.name}: recorded as {len(graph.nodes)} nodes"
            (got,) = interpret(graph)(*arrays)
            wanted = compute(op, arrays, attrs, current().backend)
            assert np.array_equal(got, wanted, equal_nan=got.dtype.kind == "f"), f"{op.name}: traced != eager"


def traced_gradient_is_eager(op: Op) -> None:
    """Law 4: a gradient is a program like any other: recorded and interpreted it gives the same."""
    for inputs, attrs in samples(op):
        arrays = as_dtype(inputs, float64)
        wanted = differentiable(op, arrays)
        if not wanted or not _gives_floats(op, arrays, attrs):
            continue
        cotangent = np.random.default_rng(1).normal(size=compute(op, arrays, attrs).shape)

        def program(
            *tensors: Tensor, attrs: tuple[Any, ...] = attrs, wanted: list[int] = wanted
        ) -> list[Tensor]:
            y = apply(op, tensors[:-1], attrs)
            if not y.requires_grad:
                return [y]
            grads = autograd.grad(y, [tensors[i] for i in wanted], tensors[-1], materialize_grads=True)
            return [y, *(g for g in grads if g is not None)]

        specs = [Spec(x.shape, x.dtype) for x in (*arrays, cotangent)]
        got = interpret(trace(program, *specs, requires_grad=True))(*arrays, cotangent)
        tensors = [*leaves(op, arrays), Tensor(cotangent)]
        eager = [t._array for t in program(*tensors)]
        for a, b in zip(got, eager, strict=True):
            assert_close(op, a, b, arrays, "traced gradient against the eager one", factor=4)


def keeps_only_what_it_needs(op: Op) -> None:
    """A rule that does not ask for an input or the output does not make the tape keep it."""
    for inputs, attrs in samples(op):
        arrays = as_dtype(inputs, float32)
        for only in [None, *differentiable(op, arrays)]:
            tensors = leaves(op, arrays, only)
            y = apply(op, tuple(tensors), attrs)
            node = y.grad_fn
            if node is None:
                continue
            asked: set[str] = set()
            for i, t in enumerate(tensors):
                if t.requires_grad:
                    asked |= set(inspect.signature(rule_of(op, i)).parameters)
            assert (node.y is not None) == ("y" in asked), f"{op.name}: keeps its output without need"
            for i, t in enumerate(node.saved):
                name = op.inputs[0][1:] if op.variadic else op.inputs[i]
                needed = name in asked or (
                    op.variadic and "indices" in asked and t is not None and t.dtype.kind != "f"
                )
                assert t is None or needed, f"{op.name}: keeps input {name!r} without need"
            if not op.variadic:
                for i, name in enumerate(op.inputs):
                    kept = bool(node.saved) and node.saved[i] is not None
                    assert kept or name not in asked, (
                        f"{op.name}: does not keep {name!r}, which a rule asks for"
                    )


def is_linear(op: Op, i: int, inputs: tuple[Any, ...]) -> bool:
    """Whether the rule for input i depends on no floating point value, as for a linear map."""
    rule = rule_of(op, i)
    if rule is None or inputs[i].dtype.kind != "f":
        return False
    names = set(inspect.signature(rule).parameters)
    kept = [x for j, x in enumerate(inputs) if (op.inputs[0][1:] if op.variadic else op.inputs[j]) in names]
    return "y" not in names and (op.variadic or not any(x.dtype.kind == "f" for x in kept))


def transpose_is_adjoint(op: Op) -> None:
    """Law 3, to the last digits: for a linear map A, <u, A v> = <A^T u, v>."""
    rng = np.random.default_rng(5)
    for inputs, attrs in samples(op):
        arrays = as_dtype(inputs, float64)
        for i, x in enumerate(arrays):
            if not is_linear(op, i, arrays):
                continue

            def at(z: Any, arrays: Any = arrays, i: int = i, attrs: Any = attrs) -> Any:
                return compute(op, (*arrays[:i], np.asarray(z), *arrays[i + 1 :]), attrs)

            origin = at(np.zeros_like(x))
            if origin.dtype.kind != "f" or not np.isfinite(origin).all():
                continue
            v = rng.normal(size=x.shape)
            image = at(v) - origin
            if not np.allclose(at(2.7 * v) - origin, 2.7 * image, rtol=1e-9, atol=1e-9):
                assert op.kind not in ("movement", "contraction"), f"{op.name}: not linear in input {i}"
                continue
            u = rng.normal(size=image.shape)
            tensors = leaves(op, arrays, i)
            y = apply(op, tuple(tensors), attrs)
            (pulled,) = autograd.grad(y, [tensors[i]], Tensor(u), materialize_grads=True)
            left, right = np.vdot(u, image), np.vdot(pulled.numpy(), v)
            assert abs(left - right) <= 1e-10 * (1 + abs(left)), (
                f"{op.name}: the rule of input {i} is not the transpose: {left} != {right}"
            )


def broadcasting_is_repeating(op: Op) -> None:
    """Elementwise: inputs that broadcast, and inputs repeated to full size, give the same."""
    for inputs, attrs in samples(op):
        full = tuple(np.array(x) for x in np.broadcast_arrays(*inputs))
        wanted = compute(op, full, attrs)
        assert_close(op, compute(op, inputs, attrs), wanted, inputs, "broadcast inputs", factor=2)
        for backend in mg.backends():
            single = tuple(x.reshape(-1)[0] if x.size else x for x in full)  # 0-d
            one = compute(op, tuple(np.asarray(x) for x in single), attrs, backend)
            if wanted.size:
                assert one.shape == (), f"{op.name}: 0-d inputs give shape {one.shape}"
                assert_close(op, one, wanted.reshape(-1)[0], inputs, f"0-d inputs on {backend}", factor=2)
            none = compute(op, tuple(x.reshape(-1)[:0] for x in full), attrs, backend)
            assert none.shape == (0,), f"{op.name}: empty inputs give shape {none.shape}"


def special_values_agree(op: Op, backend: Any) -> None:
    """Elementwise: NaN, Inf, signed zeros and huge numbers give what numpy's formula gives."""
    first, attrs = next(s for s in samples(op) if all(x.size for x in s[0]))
    for dtype in (float32, float64):
        value = SPECIAL.astype(dtype)
        columns: list[Any] = []
        free = [i for i, x in enumerate(first) if x.dtype.kind == "f"]
        for i, x in enumerate(first):
            if x.dtype.kind != "f":
                columns.append(np.array([True, False])[:, None, None])
            else:
                columns.append(value[:, None] if i == free[0] else value[None, :])
        arrays = tuple(np.ascontiguousarray(c) for c in columns)
        wanted = np.asarray(op.kernel(*arrays, *attrs))
        assert_close(op, compute(op, arrays, attrs, backend), wanted, arrays, f"special values in {dtype}")
        if op.formula is not None:
            formula = op.formula.numpy((*op.inputs, *op.attrs))
            given = np.asarray(formula(*arrays, *(dtype.type(a) for a in attrs)))
            assert_close(op, np.broadcast_to(given, wanted.shape), wanted, arrays, f"formula in {dtype}")


def traits_are_true(op: Op) -> None:
    """The algebra that passes rely on is the algebra of the kernel."""
    known = {"commutative", "unit", "involution", "idempotent"}
    known |= {"identity", "compose", "broadcast", "filled", "may_copy", "refuses"}
    known |= {"transposition", "transposes", "transposed", "flops", "flat", "masks", "spreads"}
    known |= {"batched"}  # what vmap makes of it is tested in test_vmap
    assert set(op.traits) <= known, f"{op.name}: unknown traits {set(op.traits) - known}"
    if not op.traits:
        return
    for inputs, attrs in samples(op):
        y = compute(op, inputs, attrs)
        if op.traits.get("flat"):
            assert y.tobytes() == inputs[0].tobytes(), f"{op.name}: the elements are in another order"
        if op.traits.get("masks"):
            g, output = inputs
            stays = compute(op, (np.ones_like(g), output), attrs) != 0.0
            assert (y == np.where(stays, g, 0.0)).all(), f"{op.name}: not what its second input lets through"
        if "spreads" in op.traits:
            base, places, src = (np.zeros_like(inputs[0]), *inputs[1:])
            numbers = np.arange(base.size).reshape(base.shape)
            picked = compute(OPS[op.traits["spreads"]], (numbers, places), attrs)
            wanted, src = base.copy(), src[tuple(slice(n) for n in places.shape)]
            np.add.at(wanted.reshape(-1), picked.reshape(-1), src.reshape(-1))
            assert np.allclose(compute(op, (base, places, inputs[2]), attrs), wanted), f"{op.name}: elsewhere"
        if "filled" in op.traits:
            assert (y == attrs[op.attrs.index(op.traits["filled"])]).all(), f"{op.name}: not filled with it"
        if not inputs:
            continue
        x = inputs[0]
        if "identity" in op.traits and op.traits["identity"](Spec(x.shape, x.dtype), *attrs):
            assert (y.shape, y.dtype) != (x.shape, x.dtype) or np.array_equal(x, y), f"{op.name}: no identity"
        if "broadcast" in op.traits and op.traits["broadcast"](Spec(x.shape, x.dtype), *attrs):
            assert _broadcasts(x, y), f"{op.name}: no broadcast"
            assert np.array_equal(y, np.broadcast_to(x, y.shape)), f"{op.name}: no broadcast"
        if "transposition" in op.traits and op.traits["transposition"](Spec(x.shape, x.dtype), *attrs):
            assert x.ndim > 1 and _same(y, np.swapaxes(x, -1, -2)), f"{op.name}: no transposition"  # noqa: PT018
        _transposes(op, inputs, attrs, y)
        if "compose" in op.traits:
            _composes(op, inputs, attrs, y)
        if op.traits.get("commutative"):
            assert np.array_equal(y, compute(op, inputs[::-1], attrs)), f"{op.name}: not commutative"
        if "unit" in op.traits:
            unit = np.asarray(op.traits["unit"], x.dtype)
            assert np.array_equal(compute(op, (x, unit), attrs), x), f"{op.name}: {unit} is no unit"
            if op.traits.get("commutative"):
                assert np.array_equal(compute(op, (unit, x), attrs), x), f"{op.name}: {unit} is no left unit"
        if op.traits.get("involution"):
            assert np.array_equal(compute(op, (y,), attrs), x), f"{op.name}: no involution"
        if op.traits.get("idempotent"):
            twice = compute(op, (x, x), attrs) if len(inputs) == 2 else compute(op, (y,), attrs)
            assert np.array_equal(twice, x if len(inputs) == 2 else y), f"{op.name}: not idempotent"


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-12)


def _transposes(op: Op, inputs: tuple[Any, ...], attrs: tuple[Any, ...], y: Any) -> None:
    """A contraction's attributes say which operands are transposed, and how to get the transposed result."""
    for k, name in enumerate(op.traits.get("transposes", ())):
        at = op.attrs.index(name)
        turned = (*inputs[:k], np.swapaxes(inputs[k], -1, -2), *inputs[k + 1 :])
        specs = [Spec(x.shape, x.dtype) for x in turned]
        flipped = (*attrs[:at], not attrs[at], *attrs[at + 1 :])
        try:
            op.infer(specs, flipped)
        except Refusal:
            raise AssertionError(f"{op.name}: {name} does not transpose") from None
        assert _same(compute(op, turned, flipped), y), f"{op.name}: {name} does not transpose"
    if "transposed" in op.traits:
        order, turned_attrs = op.traits["transposed"](*attrs)
        other = tuple(inputs[i] for i in order)
        try:
            op.infer([Spec(x.shape, x.dtype) for x in other], turned_attrs)
        except Refusal:
            raise AssertionError(f"{op.name}: not transposed") from None
        assert _same(compute(op, other, turned_attrs), np.swapaxes(y, -1, -2)), f"{op.name}: not transposed"


def _broadcasts(x: Any, y: Any) -> bool:
    try:
        np.broadcast_to(x, y.shape)
    except ValueError:
        return False
    return True


def _composes(op: Op, inputs: tuple[Any, ...], attrs: tuple[Any, ...], y: Any) -> None:
    """One operation with composed attributes does what two do, with any sample's attributes as the second."""
    for _, outer in samples(op):
        try:
            op.infer([Spec(y.shape, y.dtype)], outer)
            twice = compute(op, (y,), outer)
        except (ValueError, IndexError):
            continue
        once = compute(op, inputs, op.traits["compose"](attrs, outer))
        assert np.array_equal(once, twice), f"{op.name}: does not compose"


def symbols_stay_in_their_trace(op: Op) -> None:
    """A traced tensor that leaked out of its trace gives an error, never a number."""
    inputs, attrs = next((s for s in samples(op) if s[0]), ((), ()))
    if not inputs:
        return
    leaked: list[Tensor] = []

    def leak(*tensors: Tensor) -> Tensor:
        leaked.extend(tensors)
        return tensors[0]

    trace(leak, *(Spec(x.shape, x.dtype) for x in inputs))
    try:
        y = apply(op, (leaked[0], *(wrap(x) for x in inputs[1:])), attrs)
    except Error:
        return
    raise AssertionError(f"{op.name}: computed {y!r} from a value that does not exist")


#: (law, which records it is about)
EVERY: list[tuple[Callable[[Op], None], Callable[[Op], bool]]] = [
    (record_is_complete, lambda op: True),
    (agrees_with_reference, lambda op: op.reference is not None),
    (gradient_is_right, lambda op: any(op.rules)),
    (every_dependence_has_a_rule, lambda op: True),
    (second_gradient_is_right, lambda op: any(op.rules)),
    (gradient_keeps_dtype, lambda op: any(op.rules)),
    (traced_is_eager, lambda op: True),
    (traced_gradient_is_eager, lambda op: any(op.rules)),
    (keeps_only_what_it_needs, lambda op: any(op.rules)),
    (transpose_is_adjoint, lambda op: any(op.rules)),
    (broadcasting_is_repeating, lambda op: op.kind == "elementwise"),
    (traits_are_true, lambda op: True),
    (symbols_stay_in_their_trace, lambda op: True),
]

#: Laws that hold for each backend.
EVERY_BACKEND: list[tuple[Callable[[Op, Any], None], Callable[[Op], bool]]] = [
    (backend_agrees, lambda op: True),
    (leaves_inputs_alone, lambda op: True),
    (special_values_agree, lambda op: op.kind == "elementwise"),
]

ALL_DTYPES = list(DTYPES.values())
