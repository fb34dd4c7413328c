"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import cli


def test_demo_reads_handwriting(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo"]) == 0
    text = capsys.readouterr().out
    found = re.search(r"test accuracy  (0\.\d+) \((\d+) of 359 images\)\n$", text)
    assert found
    assert float(found[1]) >= 0.95
    assert text.count("val_accuracy") == 10  # a line an epoch, as this is no terminal
    assert "\r" not in text
    assert "ms a step" in text
    assert "backend" in text
    rows = [line.split() for line in text.splitlines() if re.match(r"\d     ", line)]
    assert len(rows) == 10
    right = sum(int(row[-1].split("/")[0]) for row in rows)
    assert right == int(found[2])
    assert sum(int(row[-1].split("/")[1]) for row in rows) == 359


@pytest.mark.parametrize("seed", range(1, 6))
def test_demo_does_so_from_other_seeds(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--quiet", "--seed", str(seed)]) == 0
    assert re.fullmatch(r"test accuracy  0\.\d{4} \(\d+ of 359 images\)\n", capsys.readouterr().out)


def test_demo_is_reproducible(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = set()
    for _ in range(2):
        cli.main(["demo", "--quiet", "--epochs", "1", "--seed", "7"])
        outputs.add(capsys.readouterr().out)
    assert len(outputs) == 1


def test_demo_fails_if_it_has_not_learned(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--quiet", "--epochs", "0"]) == 1
    assert "below 0.95" in capsys.readouterr().err


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("minigrad", "backend", "isa", "threads", "numpy"):
        assert word in text


def test_help_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, code in (
        (["--version"], 0),
        (["--help"], 0),
        (["demo", "--help"], 0),
        ([], 2),
        (["demos"], 2),
        (["demo", "--epochs", "-1"], 2),
        (["demo", "--epochs", "many"], 2),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        assert caught.value.code == code
    out, err = capsys.readouterr()
    assert f"minigrad {mg.__version__}" in out
    assert "demo" in out
    assert "-1 is negative" in err


def test_it_is_a_program() -> None:
    root = os.path.dirname(os.path.dirname(mg.__file__))
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-m", "minigrad", "--version"], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout == f"minigrad {mg.__version__}\n"


def test_confusion() -> None:
    table = cli.confusion(np.array([3, 3, 4]), np.array([3, 5, 4])).splitlines()
    assert table[5].split() == ["3", ".", ".", ".", "1", ".", "1", ".", ".", ".", ".", "1/2"]
