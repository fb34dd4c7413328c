"""The index of operations, `minigrad/ops/INDEX.md`: written from the records, so it says what runs.

    python -m minigrad.ops.index

For every record: what it computes (the formula, where it has one), the derivative by each input as
it stands in the source, an example of its shape rule (the first of its samples), where kernels of its
own exist, how far they may be from numpy's, and what it promises to the passes.  A test compares the
page with what this module would write, so it cannot fall behind.  It takes the C extension and Numba
to know their kernels.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..ir import Spec
from ..record import KINDS, OPS, Op
from . import load

PAGE = Path(__file__).with_name("INDEX.md")

HEADER = """# The operations of minigrad

{count} records, written from the source by `python -m minigrad.ops.index`. Functions and methods of the
package (`minigrad.mean`, `Tensor.std`) are made of these. Each has a kernel on numpy; *C* and *Numba* say
that there is one of that backend, too, *formula* that it is made from the formula (and fuses with its
neighbours), and *step* that a captured step runs it in C, without going back to Python. *ulp* is how far
kernels may be from numpy's (0: the same bits), *samples* how many sets of arguments the laws in
`tests/laws` run it on. `g` is the cotangent of the result `y`; `-` stands for no gradient.
"""

TITLES = {
    "elementwise": "Elementwise",
    "reduction": "Reductions",
    "movement": "Shapes",
    "contraction": "Contractions",
    "index": "Indexing",
    "scan": "Scans",
    "creation": "Creation",
    "opaque": "Operations with a structure of their own",
}


@functools.cache
def _lambdas(file: str) -> dict[int, list[ast.Lambda]]:
    """Where the lambdas of a file begin."""
    found: dict[int, list[ast.Lambda]] = {}
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.Lambda):
            found.setdefault(node.lineno, []).append(node)
    return found


def derivative(rule: Callable[..., Any] | None) -> str:
    """A rule as text: what a lambda returns, or the name of a function."""
    if rule is None:
        return "-"
    code = rule.__code__
    given = ", ".join(inspect.signature(rule).parameters)
    if code.co_filename == "<string>":  # written by the program itself: it calls one function
        return f"{code.co_names[0]}({given})"
    if rule.__name__ != "<lambda>":
        return "0" if rule.__name__ == "_zero" else f"{rule.__name__.strip('_')}({given})"
    names = code.co_varnames[: code.co_argcount]
    places = [(line, column) for line, _, column, _ in code.co_positions() if line and column]
    for node in _lambdas(code.co_filename).get(code.co_firstlineno, ()):
        body = node.body
        begin, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
        if tuple(a.arg for a in node.args.args) == names and all(begin <= at <= end for at in places):
            return ast.unparse(body)
    raise LookupError(f"{code.co_filename}:{code.co_firstlineno}: no such lambda")


def derivatives(op: Op) -> str:
    """The derivative by each input."""
    texts = [derivative(rule) for rule in op.rules]
    if set(texts) == {"-"}:
        return "-"
    if len(texts) == 1:
        return _code(texts[0])
    return "<br>".join(f"{name}: {_code(text)}" for name, text in zip(op.inputs, texts, strict=True))


def example(op: Op) -> str:
    """What the shape rule says of the first sample."""
    inputs, attrs = _samples(op)[0]
    specs = [Spec(np.shape(x), np.asarray(x).dtype) for x in inputs]
    given = ", ".join([*(_short(s) for s in specs), *map(_attribute, attrs)])
    return f"{given} → {_short(op.infer(specs, attrs))}"


def kernels(op: Op) -> str:
    """Where the operation has a kernel of its own."""
    from ..backends import get_backend

    made = "formula" if op.formula is not None else ""
    found = [made] if made else []
    for name, label in (("c", "C"), ("numba", "Numba")):
        backend = get_backend(name)
        own = backend.kernels.get(op.name) or backend.make(op)
        if own is not None and own is not op.kernel and not made:
            found.append(label)
    if _in_a_step(op):
        found.append("step")
    return ", ".join(found) or "numpy"


def _in_a_step(op: Op) -> bool:
    """Whether the C program runs the first sample of an operation without numpy."""
    from ..execute.program import Program
    from ..ir import Graph, Node
    from ..passes import run

    inputs, attrs = _samples(op)[0]
    specs = tuple(Spec(np.shape(x), np.asarray(x).dtype) for x in inputs)
    node = Node(op, tuple(range(len(specs))), tuple(attrs), op.infer(specs, attrs))
    graph = Graph(inputs=specs, constants=(), nodes=(node,), outputs=(len(specs),))
    return Program(run(graph)).one_call


def _samples(op: Op) -> Sequence[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    assert op.samples is not None, op
    return op.samples(np.random.default_rng(0))


def _short(spec: Spec) -> str:
    kind = {"float64": "", "float32": ""}.get(spec.dtype.name, f"{spec.dtype.name} ")
    return f"{kind}({', '.join(map(str, spec.shape))})"


def _attribute(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 30 else f"{type(value).__name__}"


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def rows(kind: str) -> Iterator[str]:
    """The table of one kind."""
    for op in sorted(OPS.values(), key=lambda op: op.name):
        if op.kind != kind or not op.origin.startswith("minigrad."):
            continue
        call = f"{op.name}({', '.join((*op.inputs, *op.attrs))})"
        computes = (
            _code(op.formula.text) if op.formula is not None else op.doc.replace("|", "\\|").splitlines()[0]
        )
        yield " | ".join(
            (
                f"| {_code(call)}",
                computes,
                derivatives(op),
                example(op),
                kernels(op),
                f"{op.error:g}",
                ", ".join(sorted(op.traits)) or "",
                f"{len(_samples(op))} |",
            )
        )


def text() -> str:
    """The whole page."""
    load()
    count = sum(op.origin.startswith("minigrad.") for op in OPS.values())
    parts = [HEADER.format(count=count)]
    for kind in KINDS:
        parts.append(f"\n## {TITLES[kind]}\n")
        parts.append("| operation | computes | gradient | example | kernels | ulp | promises | samples |")
        parts.append("|---|---|---|---|---|---|---|---|")
        parts.extend(rows(kind))
    return "\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(text())


if __name__ == "__main__":
    main()
