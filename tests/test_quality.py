"""Quality that a machine can check: lint, types, examples in docstrings, stubs, imports."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad
from minigrad import autograd, func
from minigrad.backends import c
from minigrad.errors import Error
from minigrad.ops import OPS

PACKAGE = Path(minigrad.__file__).parent
ROOT = PACKAGE.parent
FOLDERS = [
    name for name in ("minigrad", "tests", "benchmarks", "examples", "setup.py") if (ROOT / name).exists()
]

MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages([str(PACKAGE)], "minigrad.")
    if not m.name.endswith(("__main__", "_kernels"))
)


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def has(tool):
    return importlib.util.find_spec(tool) is not None


@pytest.mark.skipif(not has("ruff") or not (ROOT / "pyproject.toml").exists(), reason="ruff is not installed")
def test_ruff():
    done = run(sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", *FOLDERS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not has("mypy") or not (ROOT / "pyproject.toml").exists(), reason="mypy is not installed")
def test_types_are_strict():
    done = run(sys.executable, "-m", "mypy", "--no-error-summary")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not has("mypy"), reason="mypy is not installed")
def test_public_face_is_typed(tmp_path):
    """A user's program is checked against real signatures, methods included."""
    program = tmp_path / "program.py"
    program.write_text(
        "import minigrad as mg\n"
        "x = mg.ones(2, requires_grad=True)\n"
        "reveal_type(x.sum(0, keepdim=True))\n"
        "reveal_type(x * 2.0)\n"
        "reveal_type(2.0 - x)\n"
        "reveal_type(x.max(0))\n"
        "reveal_type(x.T)\n"
        "x.backward()\n"
        "x.sum(dimm=3)\n"
        "x.no_such_method()\n"
    )
    done = run(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(program))
    lines = [line.partition(".py:")[2] for line in done.stdout.splitlines()]
    for line in lines:
        assert line[:2] not in ("3:", "4:", "5:", "7:") or "minigrad.tensor.Tensor" in line
    errors = [line for line in lines if "error" in line]
    assert len(errors) == 2, lines
    assert "dimm" in errors[0]
    assert "no_such_method" in errors[1]


@pytest.mark.parametrize("name", ["minigrad", *MODULES])
def test_examples_in_docstrings(name):
    if name.startswith("minigrad.backends.") and not c.available:
        pytest.skip("examples of C kernels need the extension")
    minigrad.manual_seed(0)
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert not failed


@pytest.mark.parametrize("name", ["minigrad", *MODULES])
def test_public_things_have_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for key, value in vars(module).items():
        mine = getattr(value, "__module__", None) == name
        if key.startswith("_") or not mine or not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        assert value.__doc__, f"{name}.{key} has no docstring"


def test_public_names():
    assert sorted(set(minigrad.__all__)) == sorted(minigrad.__all__)
    for name in minigrad.__all__:
        assert getattr(minigrad, name) is not None
    public = {key for key, value in vars(minigrad).items() if not inspect.ismodule(value) and key[0] != "_"}
    public -= {"annotations", "TYPE_CHECKING", "Any"}
    assert public <= set(minigrad.__all__), public - set(minigrad.__all__)
    for name in minigrad.__all__:
        value = getattr(minigrad, name)
        if callable(value) and not isinstance(value, type(minigrad.float32)):
            assert value.__doc__, f"minigrad.{name} has no docstring"
    for module in (autograd, func):
        for name in module.__all__:
            assert getattr(module, name).__doc__


def test_operations_have_a_sentence_and_a_home():
    for op in OPS.values():
        assert len(op.doc.strip()) > 3, op


def test_stub_is_up_to_date():
    """`python -m minigrad.ops.stubs` writes it."""
    code = "from minigrad.ops import stubs; print(stubs.text(), end='')"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert (PACKAGE / "_methods.pyi").read_text() == done.stdout, "run: python -m minigrad.ops.stubs"
    ast.parse(done.stdout)


PARTS = sorted({path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("part", PARTS)
def test_every_error_says_what_to_do(part):
    """Each error that the package raises comes with a fix."""
    kinds = {cls.__name__ for cls in _subclasses(Error)}
    without = []
    whole = PACKAGE / part
    for path in [whole] if whole.is_file() else sorted(whole.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            fix = next((k.value for k in node.keywords if k.arg == "fix"), None)
            if node.func.id == "Refusal" and len(node.args) > 1:
                fix = node.args[1]
            if node.func.id in kinds | {"Refusal"} and not any(isinstance(a, ast.Starred) for a in node.args):
                empty = fix is None or (isinstance(fix, ast.Constant) and not fix.value)
                if empty and path.name != "errors.py":
                    without.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not without, "no fix at " + ", ".join(without)


def _subclasses(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


# -- importing ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imported():
    """Modules that `import minigrad` loads beyond numpy's."""
    code = (
        "import json, sys, numpy; before = set(sys.modules); import minigrad; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_is_light(imported):
    heavy = {
        "numba",
        "llvmlite",
        "torch",
        "scipy",
        "matplotlib",
        "cffi",
        "importlib.metadata",
        "inspect",
        "asyncio",
        "subprocess",
        "multiprocessing",
        "concurrent.futures",
        "unittest",
        "doctest",
        "email",
        "http",
        "ssl",
        "logging",
        "tempfile",
        "shutil",
        "json",
        "zipfile",
        "argparse",
    }
    assert not heavy & set(imported)
    others = [m for m in imported if not m.startswith("minigrad") and m != "_cffi_backend"]
    assert len(others) <= 12, others


def test_import_loads_what_is_used_later_later(imported):
    for name in ("nn", "optim", "keras", "data", "sparse", "cli"):
        assert f"minigrad.{name}" not in imported
    minigrad.nn.Linear(2, 2)


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no_such_thing"):
        minigrad.no_such_thing  # noqa: B018


def test_import_warns_of_nothing():
    done = run(sys.executable, "-W", "error", "-c", "import minigrad")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_bench_import_measures():
    """Three runs only; the real figure is that of `python benchmarks/bench_import.py` on a quiet machine."""
    path = ROOT / "benchmarks" / "bench_import.py"
    if not path.exists():
        pytest.skip("benchmarks are not here")
    spec = importlib.util.spec_from_file_location("bench_import", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    times = bench.measure(3)
    # relative to numpy, as a busy machine slows both
    assert times["minigrad beyond numpy"] < max(bench.TARGET, times["numpy"]), times
    assert bench.slowest(3)
    assert set(bench.installed_size()) >= {"minigrad", "numpy"}
