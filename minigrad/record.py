"""The record of an operation: everything the library knows about it, in one frozen object.

Dispatch, the tape, tracing, the passes, the tests, the benchmarks and the documentation all
*read* records; none of them keeps a list of operations of its own.  That is why adding an
operation touches one place.

A derivative rule is a function of values, written in operations, one rule per input; **the names
of its parameters say what the tape keeps**:

=============  =====================================================================
parameter      what the rule gets
=============  =====================================================================
`g`            the cotangent of the output
`y`            the output (kept)
an input       that input (kept), by the name it has in the record
an attribute   its value, by the name it has in the record
`x_shape`      the shape of the input this rule is for (nothing is kept)
`x_dtype`      its dtype
`i`            its position, for operations with any number of inputs
`indices`      there, all inputs with None for the floating point ones (these are not kept)
=============  =====================================================================

    >>> keeps(lambda g, other: g * other, ("input", "other"))
    (('other',), False)
    >>> keeps(lambda g, y: g * y, ("input",))
    ((), True)

So `mul` keeps the other factor, `exp` its output, `add` and `sum` nothing at all, and there is
no second declaration that could disagree with the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .formula import Formula
from .ir import Spec

_LIBRARY = __name__.partition(".")[0] + "."

#: What a record can be; passes read this and never a name.
KINDS = ("elementwise", "reduction", "movement", "contraction", "index", "scan", "creation", "opaque")

Rule = Callable[..., Any]
#: How the tape calls a rule: (g, y, kept inputs, attrs, position, shape and dtype of the input).
BoundRule = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Op:
    """One operation.

    name      its name everywhere: graphs, pictures, errors, C
    kind      one of KINDS
    inputs    names of the tensor inputs; ("*tensors",) for any number
    attrs     names of the static arguments, in order
    kernel    the numpy reference: (*arrays, *attrs) -> array
    shape     the shape rule: (*specs, *attrs) -> Spec; raises Refusal
    rules     one derivative rule an input, None where there is no gradient
    formula   the forward as text, for elementwise operations
    view      whether the kernel may return a view of its input
    traits    algebra the passes may use, exact to the last bit: commutative, unit (x op unit
              == x), involution, idempotent; identity ((spec of x, *attrs) -> whether the
              result, if it has that spec, is x), compose ((inner attrs, outer attrs) -> attrs
              of one operation that does both), broadcast ((spec of x, *attrs) -> whether the
              result is x repeated as numpy broadcasts), filled (the attribute that all elements are
              equal to),
              transposition ((spec of x, *attrs) -> whether only the last two dimensions are
              exchanged), transposes (names of the attributes by which the inputs of a
              contraction are transposed first), transposed ((*attrs) -> order of inputs, attrs
              that give the transposed result), flops ((*specs of inputs, spec, *attrs) ->
              floating point operations), refuses (the kernel refuses some values), may_copy (of a
              view op: whether memory is shared depends on its layout), batched (how `vmap` carries it
              out on batches; see `minigrad.batching`), masks (f(g, y) is g or 0.0, whichever y says),
              spreads (adds at places of its first input; the name of what picks there), flat (keeps
              the elements in order)
    samples   (rng) -> [(inputs, attrs), ...]: arguments for tests, benchmarks and documentation
    reference an independent, slow and obvious computation of the same values, for tests
    error     how far from numpy a kernel may be, in units in the last place
    doc       what it computes, for the op index
    origin    the module that declared it
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    attrs: tuple[str, ...]
    kernel: Callable[..., Any]
    shape: Callable[..., Spec]
    rules: tuple[Rule | None, ...]
    formula: Formula | None = None
    view: bool = False
    traits: Mapping[str, Any] = field(default_factory=dict)
    samples: Callable[..., Sequence[tuple[tuple[Any, ...], tuple[Any, ...]]]] | None = None
    reference: Callable[..., Any] | None = None
    error: float = 4.0
    doc: str = ""
    origin: str = ""
    # Derived from the above, once.
    variadic: bool = field(init=False)
    bound: tuple[BoundRule | None, ...] = field(init=False)
    raw: tuple[BoundRule | None, ...] = field(init=False)  # `bound`, but on arrays where that is the same
    kept: tuple[tuple[bool, ...], ...] = field(init=False)  # rule -> input -> kept?
    keeps_y: tuple[bool, ...] = field(init=False)
    only_indices: bool = field(init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"op {self.name!r}: kind {self.kind!r} is none of {', '.join(KINDS)}")
        variadic = len(self.inputs) == 1 and self.inputs[0].startswith("*")
        names = (self.inputs[0][1:],) if variadic else self.inputs
        if len(self.rules) != len(self.inputs):
            raise ValueError(f"op {self.name!r}: {len(self.rules)} rules for {len(self.inputs)} inputs")
        bound: list[BoundRule | None] = []
        raw: list[BoundRule | None] = []
        kept, keeps_y = [], []
        only_indices = False
        for rule in self.rules:
            if rule is None:
                bound.append(None)
                raw.append(None)
                kept.append((False,) * len(names))
                keeps_y.append(False)
                continue
            inputs, output = keeps(rule, names)
            only_indices = variadic and "indices" in parameters(rule)
            kept.append(tuple(name in inputs or only_indices for name in names))
            keeps_y.append(output)
            if rule.__code__.co_code == _THE_SAME and parameters(rule) == ("g",):
                bound.append(IDENTITY)
                raw.append(IDENTITY)
                continue
            bound.append(_bind_rule(self.name, rule, names, self.attrs, variadic, ""))
            plain = not variadic and _is_arithmetic(rule)
            raw.append(
                _bind_rule(self.name, rule, names, self.attrs, False, "._array") if plain else bound[-1]
            )
        set_ = object.__setattr__
        set_(self, "variadic", variadic)
        set_(self, "bound", tuple(bound))
        set_(self, "raw", tuple(raw))
        set_(self, "kept", tuple(kept))
        set_(self, "keeps_y", tuple(keeps_y))
        set_(self, "only_indices", only_indices)

    def accepts(self, count: int) -> bool:
        """Whether the operation can have this many inputs."""
        return self.variadic or count == len(self.inputs)

    def infer(self, specs: Sequence[Spec], attrs: Sequence[Any]) -> Spec:
        """Shape and dtype of the output, from those of the inputs."""
        return self.shape(specs, *attrs) if self.variadic else self.shape(*specs, *attrs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


#: Every record, by name.
OPS: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Enter a record into the table; two operations of one name are an error.

    A record may replace one of the same `origin` (a module run again, a notebook cell edited), but
    never one of the library's.
    """
    known = OPS.get(op.name)
    if known is not None and (known.origin != op.origin or known.origin.startswith(_LIBRARY)):
        raise ValueError(f"op {op.name!r} is already registered by {known.origin}; choose another name")
    OPS[op.name] = op
    return op


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's positional parameters."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


def keeps(rule: Rule, inputs: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Which inputs a rule needs, and whether it needs the output."""
    names = parameters(rule)
    return tuple(name for name in inputs if name in names), "y" in names


def IDENTITY(g: Any, *_: Any) -> Any:
    """What `lambda g: g` becomes: the tape hands the cotangent on without a call."""
    return g


_THE_SAME = (lambda g: g).__code__.co_code


def _is_arithmetic(rule: Rule) -> bool:
    """Whether a rule consists of operators alone: it names no function and no method.

    Such a rule means the same on arrays as on tensors, so the tape may skip the tensors.
    """
    code = rule.__code__
    return not code.co_names and not code.co_freevars


_binders: dict[str, Callable[[Rule], BoundRule]] = {}


def _bind_rule(
    op: str, rule: Rule, inputs: tuple[str, ...], attrs: tuple[str, ...], variadic: bool, suffix: str
) -> BoundRule:
    """Give a rule the one signature that the tape calls: (g, y, x, a, i, x_shape, x_dtype).

    `x` and `a` are the tuples of kept inputs and of attributes; `suffix` is what to take of a kept
    input.  One small lambda per pattern of parameters is built and shared.
    """
    arguments = []
    for name in parameters(rule):
        if name in ("g", "y", "i", "x_shape", "x_dtype"):
            arguments.append(name)
        elif name == "indices" and variadic:
            arguments.append("x")
        elif name in inputs:
            arguments.append("x" if variadic else f"x[{inputs.index(name)}]{suffix}")
        elif name in attrs:
            arguments.append(f"a[{attrs.index(name)}]")
        else:
            known = ", ".join(("g", "y", "x_shape", "x_dtype", "i", *inputs, *attrs))
            raise ValueError(f"op {op!r}: a derivative rule asks for {name!r}; it can ask for {known}")
    pattern = f"lambda rule: lambda g, y, x, a, i, x_shape, x_dtype: rule({', '.join(arguments)})"
    binder = _binders.get(pattern)
    if binder is None:
        binder = _binders[pattern] = eval(pattern)  # only names from the list above can occur in it
    return binder(rule)
