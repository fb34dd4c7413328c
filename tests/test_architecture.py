"""The layers: an arrow may only point down.

The table is the diagram of the README.  Every import of every module is read from its source, at the
top or inside a function alike; what stands under `if TYPE_CHECKING:` is for type checkers only and
does not count.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import minigrad

ROOT = Path(minigrad.__file__).parent

#: From the bottom up: (layer, its modules or packages).
LAYERS: list[tuple[str, list[str]]] = [
    (
        "data",
        [
            "_version",
            "errors",
            "ir",
            "special",
            "formula",
            "memory",
            "mode",
            "philox",
            "record",
            "flops",
            "tree",
        ],
    ),
    ("engine", ["tape", "tensor", "bind", "random"]),
    ("compiler", ["trace", "passes", "plan", "execute", "backends"]),
    ("vocabulary", ["ops"]),
    (
        "gradients",
        [
            "autograd",
            "batching",
            "func",
            "recompute",
            "halves",
            "compiled",
            "profiling",
            "explaining",
            "drawing",
            "quantizing",
        ],
    ),
    (
        "library",
        [
            "linalg",
            "sparse",
            "nn",
            "optim",
            "checkpoint",
            "cuda",
            "data",
            "training",
            "quantization",
            "distillation",
            "transfer",
            "distributed",
            "interpret",
            "export",
        ],
    ),
    ("package", ["__init__"]),  # gathers the public names; loads the faces only when they are used
    ("faces", ["keras", "recipe", "overview", "cli", "__main__"]),
]
RANK = {name: rank for rank, (_, names) in enumerate(LAYERS) for name in names}
LAYER = {name: layer for layer, names in LAYERS for name in names}

#: Inside the engine and the data, too, each file only knows the ones before it.
ORDERED = ["errors", "ir", "special", "formula", "mode", "record", "tape", "tensor", "bind"]

#: The library is tensor code: it knows nothing of how programs are traced, rewritten and run.
LIBRARY_MAY_NOT = {"trace", "passes", "plan", "execute", "backends"}


def module_name(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


def imports(source: str, module: tuple[str, ...], package: bool) -> list[tuple[str, int]]:
    """(imported module, line) for each import: first part below `minigrad`, or '/name' for others."""
    tree = ast.parse(source)
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for child in branch.body
        for node in ast.walk(child)
    }
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "minigrad":
                    found.append((parts[1] if len(parts) > 1 else "__init__", node.lineno))
                else:
                    found.append((f"/{parts[0]}", node.lineno))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                here = module if package else module[:-1]
                base = here[: len(here) - node.level + 1]
                target = (*base, *(node.module.split(".") if node.module else ()))
            else:
                parts = tuple(node.module.split("."))
                if parts[0] != "minigrad":
                    found.append((f"/{parts[0]}", node.lineno))
                    continue
                target = parts[1:]
            if target:
                found.append((target[0], node.lineno))
            else:  # from . import name
                for alias in node.names:
                    known = (ROOT / alias.name).is_dir() or (ROOT / f"{alias.name}.py").is_file()
                    found.append((alias.name if known else "__init__", node.lineno))
    return found


def upward(source: str, module: tuple[str, ...], package: bool = False) -> list[str]:
    """Arrows that point up, as sentences."""
    me = module[0]
    complaints = []
    for target, line in imports(source, module, package):
        if target.startswith("/") or target in ("_kernels", me):
            continue
        if target not in RANK:
            complaints.append(f"{'/'.join(module)}:{line} imports {target}, which is in no layer")
        elif RANK[target] > RANK[me]:
            complaints.append(
                f"{'/'.join(module)}:{line} ({LAYER[me]}) imports {target} ({LAYER[target]}), "
                "which is above it"
            )
        elif me in ORDERED and target in ORDERED and ORDERED.index(target) > ORDERED.index(me):
            complaints.append(f"{'/'.join(module)}:{line} imports {target}, which comes after it")
        elif LAYER[me] == "library" and target in LIBRARY_MAY_NOT:
            complaints.append(f"{'/'.join(module)}:{line} is library code and imports {target}")
    return complaints


SOURCES = sorted(ROOT.rglob("*.py"))


def test_every_module_is_in_a_layer():
    unknown = {module_name(path)[0] for path in SOURCES} - set(RANK)
    assert not unknown, f"not in the table: {unknown}"


def test_arrows_point_down():
    complaints = []
    for path in SOURCES:
        complaints += upward(path.read_text(), module_name(path), path.name == "__init__.py")
    assert not complaints, "\n".join(complaints)


def test_only_numpy_and_the_standard_library_are_imported():
    """cffi comes in through the extension itself; numba and matplotlib are optional, so never at the top.

    The Numba backend is the exception: nothing imports it until it is chosen, which has its own test.
    """
    for path in SOURCES:
        allowed = set(sys.stdlib_module_names) | {"numpy"}
        if path.parent.name == "backends" and path.name == "numba.py":
            allowed.add("numba")
        source = path.read_text()
        for target, line in imports(source, module_name(path), path.name == "__init__.py"):
            if target.startswith("/") and target[1:] not in allowed:
                top = any(
                    isinstance(node, (ast.Import, ast.ImportFrom)) and node.lineno == line
                    for node in ast.parse(source).body
                )
                assert not top, f"{path.name}:{line} imports {target[1:]} at the top"


def test_graphs_know_nothing_of_operations():
    """`ir` and `record` never name an operation; passes read traits and kinds."""
    from minigrad.ops import OPS

    for name in ("ir", "tape", "trace"):
        strings = {
            node.value
            for node in ast.walk(ast.parse((ROOT / f"{name}.py").read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        named = {s for s in strings if s in OPS} - {"index", "input", "where"}
        assert not named, f"{name}.py names operations: {named}"


@pytest.mark.parametrize(
    ("source", "module", "expected"),
    [
        ("from .tensor import Tensor", ("tape",), "tape:1 imports tensor"),
        ("def f():\n    from .ops import OPS", ("bind",), "bind:2 (engine) imports ops (vocabulary)"),
        ("import minigrad.keras", ("nn", "layers"), "nn/layers:1 (library) imports keras"),
        ("from .. import autograd", ("ops", "nn"), "ops/nn:1 (vocabulary) imports autograd"),
        ("from ..backends import get_backend", ("nn", "module"), "library code and imports backends"),
        ("from . import tensor", ("ir",), "ir:1 (data) imports tensor (engine)"),
        ("from .nonsense import x", ("nn",), "in no layer"),
        ("from minigrad import zeros", ("nn", "init"), "imports __init__"),
    ],
)
def test_planted_arrows_are_found(source, module, expected):
    (complaint,) = upward(source, module)
    assert expected in complaint


def test_what_does_not_count():
    assert not upward("if TYPE_CHECKING:\n    from .tensor import Tensor", ("tape",))
    assert not upward("import numpy\nfrom ..ops.creation import zeros\nfrom . import layers", ("nn", "x"))
