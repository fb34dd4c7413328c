"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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


# -- recipes ------------------------------------------------------------------------------------------------

RECIPE = """
[data]
source = "{source}"
path = "{path}"
target = "kind"
[augment]
{augment}
[model]
layers = [
    {{ type = "Flatten" }},
    {{ type = "Dense", units = 16, activation = "relu" }},
    {{ type = "Dense", units = {units}, activation = "softmax" }},
]
[train]
epochs = 3
{train}
[output]
directory = "{folder}"
"""


def recipe(folder: Path, **options: object) -> str:
    settings = {"source": "digits", "path": "", "augment": "", "units": 10, "folder": folder / "run"}
    settings["train"] = "learning_rate = 0.01"
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(**{**settings, **options}))
    return str(path)


def test_train_and_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path)
    assert cli.main(["train", path, "--quiet"]) == 0
    trained = capsys.readouterr().out
    assert float(trained.split()[-1]) > 0.8
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "log.csv",
        "model.safetensors",
        "prepare.safetensors",
    ]
    assert cli.main(["eval", path]) == 0
    assert capsys.readouterr().out == trained
    assert cli.main(["train", path]) == 0
    assert "Epoch 3/3" in capsys.readouterr().out
    # varied images give other weights, and the same ones again from the same seed
    found = set()
    for augment in ("", "degrees = 10\ntranslate = 0.1", "degrees = 10\ntranslate = 0.1"):
        cli.main(["train", recipe(tmp_path, augment=augment), "--quiet"])
        found.add(capsys.readouterr().out)
    assert len(found) == 2
    assert trained in found


def test_train_on_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{x:.3f},{y:.3f},{'left' if x < 0 else 'right'}" for x, y in rng.normal(size=(200, 2))]
    (tmp_path / "table.csv").write_text("\n".join(["x,y,kind", *rows]))
    options = {"source": "csv", "path": tmp_path / "table.csv", "units": 2, "train": "learning_rate = 0.03"}
    assert cli.main(["train", recipe(tmp_path, **options), "--quiet"]) == 0
    assert float(capsys.readouterr().out.split()[-1]) > 0.8


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"train": "bach_size = 3"}, "there is no key 'bach_size' in [train]; did you mean 'batch_size'?"),
        ({"train": "[trian]"}, "there is no section 'trian'; did you mean 'train'?"),
        ({"train": 'batch_size = "3"'}, "batch_size in [train] is '3'; it must be of type int"),
        ({"train": 'optimizer = "adamm"'}, "there is no optimizer 'adamm'"),
        ({"source": "digit"}, "did you mean 'digits'?"),
        ({"source": "csv"}, "has no path"),
        ({"source": "npz", "path": "none.npz"}, "none.npz cannot be read"),
        ({"train": "epochs = "}, "is no TOML"),
    ],
)
def test_mistakes_in_a_recipe(
    options: dict[str, str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", recipe(tmp_path, **options)]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_more_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(recipe(tmp_path))
    for old, new, text in (
        ('type = "Dense"', 'type = "Dens"', "did you mean 'Dense'?"),
        ("units = 16", "unit = 16", "there is no option 'unit'"),
    ):
        path.write_text(Path(recipe(tmp_path)).read_text().replace(old, new))
        assert cli.main(["train", str(path)]) == 2
        assert text in capsys.readouterr().err
    assert cli.main(["eval", recipe(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert cli.main(["train", str(tmp_path / "none.toml")]) == 2


def test_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--rounds", "1"]) == 0
    assert "Gflop/s" in capsys.readouterr().out
