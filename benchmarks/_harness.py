"""Timing several engines against each other, so that the ratio means something.

How it measures, and why:

- **One process per engine, taking turns.** Engines that share a process fight: the idle threads of
  one spin on the cores that the other one needs. Here each engine lives in a worker process,
  prepares all of a case, and then the parent lets them run in turn, round after round. Whatever the
  neighbours or the clock of the machine do, they do it to all.
- **Medians of interleaved rounds.** A run repeats the call often enough to last RUN seconds, and
  every round runs each engine once. What the others left in the caches, and threads that have gone
  to sleep, cost the first calls after a pause several times what they cost in a training loop: so
  each run begins with WARM seconds that are not counted. A run that had to share its cores with
  another process is repeated, up to `PATIENCE` times: without that, a median says how unlucky an
  engine was. The figure of an engine is the median over the rounds, the ratio is the ratio of two
  medians; `--json` also has the best run and every round.
- **Right before fast.** Before a case is timed, the engines' results must agree with the first
  one's (two fixed random projections in float64). An engine that gives something else is an error,
  not a row in the table.
- **The machine's limits are measured in the same run**, by our own kernels: multiply-adds on
  registers, and copying.

A benchmark script defines cases and engines and calls `main`:

>>> class Numpy(Engine):
...     name = "numpy"
...     def prepare(self, case):
...         x = np.full(case["n"], 2.0)
...         return lambda: x + 1.0
>>> Numpy().prepare({"n": 3})().tolist()
[3.0, 3.0, 3.0]

The file is then run twice: by you, as the parent, and by the parent with `--worker`, once per engine.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Case = dict[str, Any]
Call = Callable[[], Any]

ROOT = Path(__file__).parent.parent
SETTLE = 0.02  # seconds between turns: other engines' threads spin for a while after their work
LONGEST_WAIT = 0.5  # seconds to wait for neighbours on the machine to be quiet
PATIENCE = 3  # times that a run is repeated if another process took a core away from it
RUN = 0.01  # seconds that one run should last
WARM = 0.006  # seconds of calls before it


def c_backend() -> Any:
    """`minigrad.backends.c`, without the rest of the package."""
    if (
        importlib.util.find_spec("minigrad") is None
    ):  # not installed: the extension may have been built in place
        sys.path.insert(0, str(ROOT))
    path = ROOT / "minigrad" / "backends" / "c.py"
    spec = importlib.util.spec_from_file_location("minigrad_backend_c", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not module.available:
        raise ImportError(module.reason)
    return module


class Engine(ABC):
    """One contender. Subclasses say what to import (in `start`) and how to prepare a case."""

    name = ""
    ours = False
    #: The interpreter that has the engine, if that is another one.
    python = sys.executable

    def environment(self, threads: int) -> dict[str, str]:
        """Variables of the worker process, beyond those that set the number of threads."""
        return {}

    def start(self, threads: int) -> None:  # noqa: B027  (most engines need nothing)
        """Import and configure the engine, in the worker. An ImportError leaves the engine out."""

    @abstractmethod
    def prepare(self, case: Case) -> Call:
        """The call to be timed, its data made and warm; it returns the result, as an array of any kind."""

    def skips(self, case: Case) -> bool:
        """Whether the engine cannot do this case."""
        return False

    def facts(self) -> dict[str, float]:
        """What else is worth knowing of the case that was prepared last."""
        return {}


class Numpy(Engine):
    name = "numpy"


class NumpyAVX512(Engine):
    """numpy whose OpenBLAS is told to use AVX-512: some builds do not recognise some processors."""

    name = "numpy-avx512"

    def environment(self, threads: int) -> dict[str, str]:
        return {"OPENBLAS_CORETYPE": "SkylakeX"}

    def start(self, threads: int) -> None:
        if "avx512" not in c_backend().isas():
            raise ImportError("no AVX-512 here")


class Torch(Engine):
    name = "torch"

    def start(self, threads: int) -> None:
        torch = importlib.import_module("torch")
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.torch = torch


class Minigrad(Engine):
    name = "minigrad"
    ours = True

    def start(self, threads: int) -> None:
        self.c = c_backend()
        self.c.set_num_threads(threads)


# --- worker ---------------------------------------------------------------------------------------


def fingerprint(result: Any) -> list[float]:
    """A short result as it is, two random projections of a long one; and the norm."""
    x = np.asarray(result, np.float64).ravel()
    if x.size <= 64:
        return [*x.tolist(), float(np.linalg.norm(x))]
    rng = np.random.default_rng(1)
    return [
        float(x @ rng.standard_normal(x.size)) if x.size < 10**7 else float(x.sum()) for _ in range(2)
    ] + [float(np.linalg.norm(x))]


def serve(engine: Engine, threads: int) -> None:
    """Answer the parent: one line of JSON in, one out."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an engine prints must not get between
    try:
        engine.start(threads)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=answers)
        return
    print(json.dumps({"ready": True}), file=answers)
    call: Call = lambda: None  # noqa: E731
    case: Case = {}
    count = 1
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "prepare":
            case = order["case"]
            if engine.skips(case):
                print(json.dumps({"skipped": True}), file=answers)
                continue
            call = engine.prepare(case)
            proof = fingerprint(call())
            begin = time.perf_counter()
            call()
            once = time.perf_counter() - begin
            count = max(1, int(RUN / max(once, 1e-7)))
            begin = time.perf_counter()
            for _ in range(count):
                call()
            count = max(1, min(100_000, int(count * RUN / max(time.perf_counter() - begin, 1e-7))))
            print(json.dumps({"fingerprint": proof}), file=answers)
        elif order["do"] == "run":
            begin = time.perf_counter()
            call()
            while time.perf_counter() - begin < WARM:
                call()
            preempted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            begin = time.perf_counter()
            for _ in range(count):
                call()
            seconds = (time.perf_counter() - begin) / count / case.get("steps", 1)
            preempted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - preempted
            print(json.dumps({"seconds": seconds, "preempted": preempted}), file=answers)
        elif order["do"] == "forget":  # the peak starts again from what is held now
            Path("/proc/self/clear_refs").write_text("5")
            print(json.dumps({}), file=answers)
        elif order["do"] == "facts":
            print(json.dumps({"peak memory": resident("VmHWM"), **engine.facts()}), file=answers)
        elif order["do"] == "probe":
            print(json.dumps(probe(engine)), file=answers)


def resident(field: str) -> float:
    """Bytes of memory that this process holds (VmRSS), or the most it has held (VmHWM).

    Not getrusage's: that begins with what the process held that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def probe(engine: Any) -> dict[str, float]:
    """FLOP/s in float32 and float64 and copy bandwidth in bytes/s, out of cache."""
    lib, ffi = engine.c.lib, engine.c.ffi
    source, target = np.ones(1 << 27, np.uint8), np.zeros(1 << 27, np.uint8)
    return {
        "fma_f32": lib.mg_probe_fma(lib.MG_F32, 0.2),
        "fma_f64": lib.mg_probe_fma(lib.MG_F64, 0.2),
        "copy": lib.mg_probe_copy(ffi.from_buffer(target), ffi.from_buffer(source), source.nbytes, 5),
    }


# --- parent ---------------------------------------------------------------------------------------

#: Whose versions are shown where they are installed.
PEERS = (
    *("numpy", "scipy", "numba", "numexpr", "torch", "torch-geometric", "jax", "onnxruntime"),
    *("openvino", "tensorflow", "keras", "autograd"),
)


def positive(text: str) -> int:
    """A count, for `argparse`."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def machine() -> dict[str, Any]:
    """Where figures come from: processor, cores, Python, and the versions of what takes part."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    isa = "none"
    with contextlib.suppress(ImportError):
        isa = c_backend().isa()
    versions = {}
    for package in PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "minigrad": next(
            iter(re.findall(r'__version__ = "(.+)"', (ROOT / "minigrad" / "_version.py").read_text())), "?"
        ),
        "isa": isa,
        **versions,
    }


def header(facts: Any = None) -> str:
    """One line that says what `machine` says, or what a file of figures says of its machine."""
    facts = machine() if facts is None else facts
    if not isinstance(facts, dict):
        return f"# {facts}"
    rest = [f"{k} {v}" for k, v in facts.items() if k not in ("processor", "cores", "system")]
    return f"# {facts['processor']}, {facts['cores']} core(s), {facts['system']}; {', '.join(rest)}"


def early(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """A script's own options (of a parser with add_help=False), before `main` adds the others."""
    return parser.parse_known_args()[0]


def alone(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The same for what a script does without `main`: another option is an error."""
    helpful(parser)
    return parser.parse_args()


def helpful(parser: argparse.ArgumentParser) -> None:
    """Let a parser that did without know --help."""
    if not parser.add_help:
        parser.add_argument("-h", "--help", action="help", help="show this help message and exit")


def kept(parser: argparse.ArgumentParser, path: str) -> Any:
    """The figures of a file of --json; one sentence for what is none."""
    try:
        report = json.loads(Path(path).read_text())
        return report if "runs" in report else parser.error(f"{path} has no figures of a benchmark")
    except OSError as error:
        return parser.error(f"{path} cannot be read: {error.strerror}")
    except ValueError:
        return parser.error(f"{path} is no JSON")


def draws(parser: argparse.ArgumentParser, path: str | None) -> None:
    """Refuse a picture that is no SVG."""
    if path and not path.endswith(".svg"):
        parser.error(f"--plot draws SVG: name the file {Path(path).stem}.svg")


class Worker:
    """An engine in its own process."""

    def __init__(self, script: str, engine: Engine, threads: int) -> None:
        self.engine = engine
        count = str(threads)
        names = (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "NUMEXPR_NUM_THREADS",
            "NUMBA_NUM_THREADS",
            "MINIGRAD_NUM_THREADS",
        )
        environment = os.environ | dict.fromkeys(names, count) | engine.environment(threads)
        self.process = subprocess.Popen(
            [engine.python, script, *sys.argv[1:], "--worker", engine.name, "--threads", count],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.missing = self._answer().get("missing")

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.engine.name} ended with code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do} | order) + "\n")
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def wait_for_quiet() -> None:
    """Return when no other process has wanted to run for SETTLE seconds; or after LONGEST_WAIT, anyway."""
    begin = quiet_since = time.monotonic()
    while (now := time.monotonic()) < quiet_since + SETTLE and now < begin + LONGEST_WAIT:
        time.sleep(SETTLE / 5)
        try:
            running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
        except OSError:  # not Linux
            running = 1
        if running > 1:  # one is this process
            quiet_since = time.monotonic()


def touch_memory(size: int = 1 << 29) -> None:
    """Have the machine itself own memory that the next process will ask for.

    A virtual machine that gives unused memory back is given it again page by page: 0.7 to 2 ms a megabyte
    were seen, at times, which the first call of whoever comes next would pay for.
    """
    np.empty(size, np.uint8)[::4096] = 1


def compare(workers: list[Worker], case: Case, rounds: int, tolerance: float) -> dict[str, list[float]]:
    """Seconds per call of every engine that can do the case, in each round."""
    entered: list[Worker] = []
    truth: list[float] = []
    for worker in workers:
        touch_memory()
        answer = worker.ask("prepare", case=case)
        if "skipped" in answer:
            continue
        proof = answer["fingerprint"]
        truth = truth or proof
        scale = max(abs(truth[-1]), 1e-30)
        if not all(abs(p - t) <= tolerance * scale for p, t in zip(proof, truth, strict=True)):
            raise AssertionError(f"{worker.engine.name} disagrees on {case}: {proof} is not {truth}")
        entered.append(worker)
    seconds: dict[str, list[float]] = {w.engine.name: [] for w in entered}
    for _ in range(rounds):
        for worker in entered:
            tries = []
            for _ in range(PATIENCE):
                wait_for_quiet()
                answer = worker.ask("run")
                tries.append((answer["preempted"] > 0, answer["seconds"]))
                if not answer["preempted"]:
                    break
            seconds[worker.engine.name].append(min(tries)[1])  # the quiet one; without any, the best
    return seconds


def main(
    script: str,
    engines: list[Engine],
    cases: list[Case],
    *,
    tolerance: float = 1e-4,
    flops: Callable[[Case], float] | None = None,
    moved: Callable[[Case], float] | None = None,
    parser: argparse.ArgumentParser | None = None,
) -> None:
    """Run a benchmark. `flops` or `moved` (bytes) of a case turn times into shares of the machine's limit.

    A case needs a "label"; "steps" are those that one call takes (1). Ratios are best peer / minigrad:
    above 1 minigrad is faster.
    """
    parser = parser or argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    helpful(parser)
    parser.add_argument(
        "--threads", type=positive, nargs="+", default=None, help="thread counts to measure (default: 1 2)"
    )
    parser.add_argument("--rounds", type=positive, default=7, help="of each engine (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose label contains one of these")
    names = [e.name for e in engines]
    parser.add_argument("--engine", nargs="+", choices=names, default=names, help="who takes part (all)")
    parser.add_argument("--part", metavar="I/N", default="1/1", help="every N-th case, from the I-th on")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--resume", action="store_true", help="measure only what FILE does not have yet")
    parser.add_argument("--show", metavar="FILE", help="print the table of a file of --json, run nothing")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios into FILE, an SVG picture")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    draws(parser, options.plot)
    if options.worker:
        serve(next(e for e in engines if e.name == options.worker), options.threads[0])
        return

    if options.show:
        report = kept(parser, options.show)
        print(header(report.get("machine", "an unknown machine")))
        show(report["runs"])
        if options.plot:
            Path(options.plot).write_text(picture(Path(script).stem, report["runs"]))
        return
    if options.resume and not options.json:
        parser.error("--resume needs --json FILE, the file to go on with")
    try:
        first, step = map(int, options.part.split("/"))
        if not 1 <= first <= step:
            parser.error(f"--part {options.part}: the first number counts from 1 to the second")
        chosen = [c for c in cases if any(words in c["label"] for words in options.only)][first - 1 :: step]
    except ValueError:
        parser.error(f"--part {options.part}: write two numbers, as in 1/3")
    if not chosen:
        parser.error(f"no case is called {' or '.join(options.only)}: {', '.join(c['label'] for c in cases)}")
    report: dict[str, Any] = {"machine": machine(), "runs": []}
    print(header(report["machine"]))
    if options.resume and Path(options.json).is_file():
        report = kept(parser, options.json)
    for threads in options.threads or [1, 2]:
        workers = [Worker(script, e, threads) for e in engines if e.name in options.engine]
        for worker in workers:
            if worker.missing:
                print(f"# {worker.engine.name} is left out: {worker.missing}")
        workers = [w for w in workers if not w.missing]
        run = next((run for run in report["runs"] if run["threads"] == threads), None)
        if run is None:
            run = {"threads": threads, "rows": []}
            report["runs"].append(run)
        have = [row["case"]["label"] for row in run["rows"]]
        rest = [case for case in chosen if case["label"] not in have]
        for _ in _measure(run, workers, rest, options.rounds, tolerance, flops, moved):
            if options.json:  # after each case: what was measured stays if the rest is cut short
                Path(options.json).write_text(json.dumps(report, indent=1))
        for worker in workers:
            worker.close()
    if options.plot:
        Path(options.plot).write_text(picture(Path(script).stem, report["runs"]))


def _measure(
    run: dict[str, Any],
    workers: list[Worker],
    cases: list[Case],
    rounds: int,
    tolerance: float,
    flops: Callable[[Case], float] | None,
    moved: Callable[[Case], float] | None,
) -> Iterator[Case]:
    """Print the rows of a table as they are measured, and put each into `run["rows"]`."""
    ours = next((w for w in workers if w.engine.ours), None)
    limits = run["limits"] = ours.ask("probe") if ours else {}
    if limits:
        print(
            f"\n{run['threads']} thread(s): FMA peak {limits['fma_f32'] / 1e9:.0f} GFLOP/s float32, "
            f"{limits['fma_f64'] / 1e9:.0f} float64; copy {limits['copy'] / 1e9:.1f} GB/s"
        )
    names = [w.engine.name for w in workers]
    # shares are of multiply-adds on registers, or of copying beyond the caches, which small data surpasses
    run["limit"] = "peak" if flops else "copy" if moved else ""
    _print_head(names, run["limit"])
    rows = []
    for case in cases:
        runs = compare(workers, case, rounds, tolerance)
        seconds = {name: statistics.median(times) for name, times in runs.items()}
        mine = min(
            (seconds[w.engine.name] for w in workers if w.engine.ours and w.engine.name in seconds),
            default=math.nan,
        )
        best = min(
            (seconds[w.engine.name] for w in workers if not w.engine.ours and w.engine.name in seconds),
            default=math.nan,
        )
        peak = limits.get("fma_f64" if case.get("dtype") == "float64" else "fma_f32", math.nan)
        share = (
            flops(case) / mine / peak
            if flops
            else moved(case) / mine / limits.get("copy", math.nan)
            if moved
            else math.nan
        )
        rows.append(
            {
                "case": case,
                "seconds": seconds,
                "best": {name: min(times) for name, times in runs.items()},
                "rounds": runs,
                "ratio": best / mine,
                "share": share,
            }
        )
        run["rows"].append(rows[-1])
        _print_row(rows[-1], names)
        yield case
    _print_summary(rows)


def _print_head(names: list[str], limit: str) -> None:
    print(f"{'':<26}" + "".join(f"{n:>14}" for n in names) + f"{'ratio':>8}{limit and 'of ' + limit:>9}")


def _print_row(row: dict[str, Any], names: list[str]) -> None:
    seconds, share = row["seconds"], row.get("share", math.nan)
    print(
        f"{row['case']['label']:<26}"
        + "".join(f"{seconds[n] * 1e6:>12.2f}us" if n in seconds else f"{'-':>14}" for n in names)
        + (f"{row['ratio']:>8.2f}" if math.isfinite(row["ratio"]) else f"{'-':>8}")
        + (f"{share:>9.0%}" if math.isfinite(share) else ""),
        flush=True,
    )


def _print_summary(rows: list[dict[str, Any]]) -> None:
    known = [r for r in rows if r["ratio"] == r["ratio"]]
    if known:
        worst = min(known, key=lambda r: float(r["ratio"]))
        print(
            f"geometric mean of best peer / minigrad: {geometric_mean(r['ratio'] for r in known):.2f}x; "
            f"worst {worst['ratio']:.2f}x at {worst['case']['label']}"
        )


def show(runs: list[dict[str, Any]]) -> None:
    """Print the tables of figures that were kept, of several runs put together with `--resume`."""
    for run in runs:
        print(f"\n{run['threads']} thread(s)")
        names = list(dict.fromkeys(name for row in run["rows"] for name in row["seconds"]))
        _print_head(names, run.get("limit", ""))
        for row in run["rows"]:
            _print_row(row, names)
        _print_summary(run["rows"])


# --- a picture ------------------------------------------------------------------------------------


def picture(title: str, runs: list[dict[str, Any]]) -> str:
    """Bars of the ratios on a logarithmic axis, one for each case and number of threads, as SVG.

    Right of the line at 1 minigrad is faster than the best peer, left of it slower.

    >>> row = {"case": {"label": "a & b"}, "ratio": 2.0}
    >>> svg = picture("bench", [{"threads": 1, "rows": [row]}])
    >>> svg.startswith("<svg") and "a &amp; b" in svg and "2.00" in svg
    True
    """
    ratios: dict[str, dict[int, float]] = {}
    for run in runs:
        for row in run["rows"]:
            if math.isfinite(row["ratio"]) and row["ratio"] > 0:
                ratios.setdefault(row["case"]["label"], {})[run["threads"]] = row["ratio"]
    threads = [run["threads"] for run in runs]
    colours = dict(zip(threads, itertools.cycle(("#3b6ea5", "#e08a3c", "#5a9e6f", "#8d6ab8")), strict=False))
    powers = [math.log2(v) for group in ratios.values() for v in group.values()]
    low, high = min(powers, default=0) - 0.2, max([1.0, *powers])
    thick, left, width = 9, 190, 460
    pitch = thick * len(threads) + 5
    bottom = 44 + pitch * len(ratios)
    body: list[str] = []

    def at(ratio: float) -> float:
        return left + (math.log2(ratio) - low) / (high - low) * width

    def text(x: float, y: float, words: str, more: str = "") -> None:
        body.append(f'<text x="{x:.1f}" y="{y:.1f}" {more}>{html.escape(words)}</text>')

    def box(x: float, y: float, wide: float, tall: float, colour: str) -> None:
        body.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall}" fill="{colour}"/>')

    text(8, 16, f"{title}: time of the best peer / time of minigrad", 'font-size="13"')
    for i, n in enumerate(threads):
        box(8 + 90 * i, 23, 9, 9, colours[n])
        text(21 + 90 * i, 31, f"{n} thread{'s' if n > 1 else ''}")
    for power in range(math.ceil(low), math.floor(high) + 1):
        box(at(2.0**power), 40, 1.5 if power == 0 else 0.4, bottom - 40, "#555")
        text(at(2.0**power), bottom + 13, f"{2.0**power:g}x", 'text-anchor="middle"')
    for i, (label, group) in enumerate(ratios.items()):
        top = 42 + pitch * i
        text(left - 8, top + pitch / 2 + 1, label, 'text-anchor="end"')
        for n, ratio in group.items():
            y = top + thick * threads.index(n)
            box(min(at(1), at(ratio)), y, abs(at(ratio) - at(1)), thick - 1, colours[n])
            text(left + width + 8, y + 8, f"{ratio:.2f}", f'fill="{colours[n]}"')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 50}" height="{bottom + 22}" '
        'font-family="sans-serif" font-size="10">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )
