"""The scripts on the digits run; briefly here, their figures are quoted where they were run in full."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "wanted"),
    [
        ("digits_mlp.py", ["--seeds", "2", "--epochs", "40"], 0.97),
        ("digits_cnn.py", ["--seeds", "1", "--epochs", "10"], 0.97),
    ],
)
def test_accuracy(script: str, arguments: list[str], wanted: float) -> None:
    found = re.search(r"mean of \d seeds: (\S+)", run(script, *arguments))
    assert found is not None
    assert float(found[1]) >= wanted


def test_eight_bits() -> None:
    text = run("digits_int8.py", "--seeds", "1", "--epochs", "6", "--qat-epochs", "1")
    found = re.search(r"float (\S+) %  dynamic (\S+) %  static (\S+) %  trained (\S+) %", text)
    assert found is not None
    float_, dynamic, static, trained = map(float, found.groups())
    assert float_ > 95
    assert max(abs(float_ - a) for a in (dynamic, static, trained)) < 0.6  # two of 359 images
    size = re.search(r"file: \d+ bytes, (\S+)%", text)
    assert size is not None
    assert float(size[1]) <= 27


def test_comparison(tmp_path: Path) -> None:
    picture = tmp_path / "optimizers.svg"
    names = ["Adam", "LAMB", "L-BFGS (full batch)"]
    text = run("optimizers.py", "--steps", "30", "--seeds", "1", "--picture", str(picture), "--only", *names)
    for name in names:
        assert re.search(rf"^{re.escape(name)} .*%", text, re.MULTILINE), text
        assert name in picture.read_text()
