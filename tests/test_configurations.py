"""The laws hold in every configuration: without the extension, and on every table of kernels.

The other tests run in the default configuration (the best table); each of these runs the laws again,
in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad.backends import c

ROOT = Path(__file__).parent.parent
WITHOUT = "import sys; sys.modules['minigrad._kernels'] = None\n"
RUN = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"


def laws(setup: str, expected: str, **environment: str) -> None:
    """Run the laws in a fresh interpreter, and check that it ran in the configuration meant."""
    check = f"from minigrad.backends import c; assert c.isa() == {expected!r}, c.isa()\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + check + RUN, "-o", "addopts=", "-q", "-x", "tests/laws/test_ops.py"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_without_the_extension() -> None:
    laws(WITHOUT, "none")


@pytest.mark.parametrize("isa", c.isas()[:-1])
def test_other_tables(isa: str) -> None:
    laws("", isa, MINIGRAD_ISA=isa)


def test_without_cffi_it_says_so(tmp_path: Path) -> None:
    """The extension is there and cffi is not: that is the reason that is given."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['_cffi_backend'] = None\n")
    code = "import minigrad as mg; print((mg.ones(2, 2) @ mg.ones(2, 2)).sum().item()); mg.show_config()"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8.0")
    if c.available:
        assert "cffi is not installed: pip install cffi" in done.stdout
