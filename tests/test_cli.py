"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import cli, overview


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What a whole demo prints, and its report."""
    report = tmp_path_factory.mktemp("demo") / "report.html"
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert cli.main(["demo", "--epochs", "7", "--report", str(report)]) == 0
    return text.getvalue(), report.read_text()


def test_demo_shows_what_each_stage_gains(shown: tuple[str, str]) -> None:
    text, page = shown
    found = re.search(r"test accuracy  (0\.\d+) \((\d+) of 359 images\)\n$", text)
    assert found
    assert float(found[1]) == round(int(found[2]) / 359, 4)
    for title in overview.TITLES.values():
        said, line = re.findall(rf"^{title}  .*", text, re.M)  # when it was done, and the table's
        accuracy, step, _, image, _, weights, _ = re.split(r"  +", line[17:].strip())
        assert f" {accuracy} of the test images after" in said
        assert f"<td>{accuracy}</td><td>{step}</td>" in page
        assert f"\n{title}: {overview.WHAT[{t: n for n, t in overview.TITLES.items()}[title]][:40]}" in text
        if title == "Two processes" and accuracy == "-":  # one processor, or no kernels
            continue
        assert 95.0 <= float(accuracy.split()[0]) <= 100.0
        assert (step == "-") == (title == "Eight bits")
        assert re.fullmatch(r"[\d.]+ (ms|us)", image)
        assert weights == {"Distilled": "11.1 KB", "Eight bits": "3.0 KB"}.get(title, "121.7 KB")
    assert "Trained on the labels alone" in " ".join(text.split())
    rows = [line.split() for line in text.splitlines() if re.match(r"\d     ", line)]
    assert len(rows) == 10
    assert sum(int(row[-1].split("/")[0]) for row in rows) == int(found[2])
    assert sum(int(row[-1].split("/")[1]) for row in rows) == 359


def test_the_report_needs_nothing_else(shown: tuple[str, str]) -> None:
    _, page = shown
    for title in overview.TITLES.values():
        assert f"</span>{title}</td>" in page
        assert f"<dt>{title}</dt>" in page
        assert f"<title>{title}</title>" in page or title == "Two processes"  # a line in the chart
    assert page.count("<svg") == 5  # the curves; a block and a step, before and after
    inside = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for outside in ("http:", "https:", "src=", "href=", "url(h", "@import", "<link", "<script"):
        assert outside not in inside
    assert "prefers-color-scheme: dark" in page


def test_demo_runs_some_stages_and_repeats_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for seed in ("7", "7", "8"):
        argv = ["demo", "--quiet", "--epochs", "2", "--stages", "int8,optimizer", "--seed", seed]
        cli.main([*argv, "--report", str(tmp_path / "report.html")])
        page = (tmp_path / "report.html").read_text()
        outputs.append((capsys.readouterr().out, page[page.index("<svg") : page.index("</svg>")]))
        assert re.findall(r"<dt>(.*?)</dt>", page) == ["Better optimizer", "Eight bits"]
    assert outputs[0] == outputs[1] != outputs[2]
    assert re.fullmatch(r"test accuracy  0\.\d{4} \(\d+ of 359 images\)\n", outputs[0][0])
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_demo_fails_if_it_has_not_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["demo", "--quiet", "--epochs", "0", "--stages", "baseline,optimizer"]
    assert cli.main([*argv, "--report", str(tmp_path / "report.html")]) == 1
    assert "below 0.95 in: baseline, optimizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--stages", "baseline,pruned"], "there is no stage 'pruned'; use baseline, data,"),
        (["--stages", ""], "there is no stage ''"),
        (["--stages", "int8"], "stage 'int8' has no network to start from; add one of baseline"),
        (["--report", "nowhere/at/all.html"], "nowhere/at is no directory that can be written to"),
        (["--report", "."], "it is a directory"),
    ],
)
def test_mistakes_in_a_demo(
    argv: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "--quiet", *argv]) == 2
    out, error = capsys.readouterr()
    assert text in error
    assert error.count("\n") == 1
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_demo_says_why_processes_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview.os, "sched_getaffinity", lambda _: {0}, raising=False)
    run = overview.Overview(stages=["baseline", "processes", "int8"], epochs=1, say=lambda line: None).run()
    assert [r.accuracy is None for r in run.results] == [False, True, False]
    assert "only one processor" in run.sentences()[1]
    assert run.gains()[1] == ""
    assert "Against the stage before" in run.sentences()[2]  # the one that ran
    assert "Two processes" in overview.page(run)


def test_gains_are_said_as_they_are() -> None:
    a = overview.Result("data", accuracy=0.98, step=4e-3, step_memory=1000, weights=400)
    b = overview.Result("optimizer", accuracy=0.97, step=6e-3, step_memory=500, weights=400)
    assert overview.gain(a, b) == "accuracy -1.00 points, a step 1.5x slower, its memory 2.0x less"
    assert overview.gain(a, a) == "the same accuracy"


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
    table = overview.confusion(np.array([3, 3, 4]), np.array([3, 5, 4])).splitlines()
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
    if mg.distributed.is_available():  # the same, but for the order of sums
        assert (
            cli.main(["train", recipe(tmp_path, train="learning_rate = 0.01\nworkers = 2"), "--quiet"]) == 0
        )
        shared = capsys.readouterr().out
        np.testing.assert_allclose(*(float(t.split()[-1]) for t in (shared, trained)), atol=0.01)
        assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 4
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
        ({"train": "workers = 0"}, "workers is 0; pass a number of processes, at least 1"),
        ({"train": "workers = 2", "augment": "noise = 0.1"}, "[augment] with several workers"),
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


def test_nobody_reads_on() -> None:
    """`minigrad info | true` ends without a traceback."""
    line = f"{sys.executable} -u -c \"from minigrad import cli; cli.main(['info'])\" | true"
    env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(mg.__file__))}
    done = subprocess.run(line, shell=True, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.stderr == ""
