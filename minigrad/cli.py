"""The command line: `minigrad demo`, `train`, `eval`, `bench`, `simulate`, `info`.

`demo` is the overview as one run (`minigrad.overview`): a small network on real handwriting, with one idea
more at a time, each measured; a table, and a report of HTML.  If a stage reads less than 95 % of the test
images right the command fails, so that it can serve as a smoke test.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._version import __version__
from .errors import Error

#: Below this test accuracy of any stage `minigrad demo` fails.
WANTED = 0.95


def _demo(args: argparse.Namespace) -> int:
    from . import overview

    say = (lambda *lines: None) if args.quiet else print
    path = overview.check_path(args.report)
    stages = overview.STAGES if args.stages is None else args.stages.split(",")
    run = overview.Overview(stages=stages, seed=args.seed, epochs=args.epochs, say=say)
    say("UCI handwritten digits, 8x8 pixels (Alpaydin & Kaynak 1998, CC BY 4.0): 1,259 to train on, 179 to")
    say("validate, 359 to test. A step: 64 images, loading included; memory: beside weights and optimizer.\n")
    run.run()
    overview.save(run, path)
    for result, sentence in zip(run.results, run.sentences(), strict=True):
        say()
        say(textwrap.fill(f"{overview.TITLES[result.name]}: {sentence}", 100, subsequent_indent="  "))
    say(f"\n{run.confusion}\n\n{_used()}")
    say(f"{'report':14} {path} ({run.taken:.0f} s in all)")
    done = [r for r in run.results if r.accuracy is not None]
    print(f"test accuracy  {done[-1].accuracy:.4f} ({done[-1].hits} of {len(run.test[1])} images)")
    low = [r.name for r in done if not (r.accuracy or 0.0) >= WANTED]
    if low:
        print(f"minigrad demo: the accuracy is below {WANTED} in: {', '.join(low)}", file=sys.stderr)
    return 1 if low else 0


def _used() -> str:
    from .backends import config

    facts = config()
    return "\n".join(f"{name:14} {facts[name]}" for name in ("backend", "isa", "threads"))


def _info(args: argparse.Namespace) -> int:
    from . import show_config

    show_config()
    print(f"{'python':10} {sys.version.split()[0]}")
    print(f"{'numpy':10} {np.__version__}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from . import recipe

    _, found = recipe.train(recipe.read(args.recipe), 0 if args.quiet else "auto")
    print(_figures(found))
    return 0


def _eval(args: argparse.Namespace) -> int:
    from . import recipe

    print(_figures(recipe.evaluate(recipe.read(args.recipe))))
    return 0


def _figures(found: dict[str, float]) -> str:
    return "\n".join(f"test {name:14} {value:.4f}" for name, value in found.items())


def _bench(args: argparse.Namespace) -> int:
    """A few kernels beside numpy, in turns; whole benchmarks are the scripts of the repository."""
    import statistics

    from . import nn, no_grad, randn

    a, b, v = randn(512, 512), randn(512, 512), randn(1_000_000)
    image, layer = randn(16, 32, 28, 28), nn.Conv2d(32, 32, 3, padding=1)
    x, y, w = a.numpy(), b.numpy(), v.numpy()
    cases: list[tuple[str, Any, Any, float]] = [
        ("matmul 512 x 512", lambda: a @ b, lambda: x @ y, 2 * 512**3),
        ("tanh(v) * v + 1, 1M", lambda: v.tanh() * v + 1.0, lambda: np.tanh(w) * w + 1.0, 0),
        ("softmax 1000 x 1000", lambda: v.reshape(1000, 1000).softmax(1), lambda: _softmax(w), 0),
        ("conv 32 x 3 x 3, 16 images", lambda: layer(image), None, 2 * 16 * 32 * 32 * 9 * 28 * 28),
    ]
    print(_used())
    print(f"{'':28}{'minigrad':>12}{'numpy':>12}")
    with no_grad():
        for name, mine, theirs, work in cases:
            times: list[list[float]] = [[], []]
            for i in range(args.rounds + 1):
                for which, run in enumerate((mine, theirs)):
                    if run is not None:
                        start = time.perf_counter()
                        run()
                        if i:
                            times[which].append(time.perf_counter() - start)
            medians = [statistics.median(t) if t else None for t in times]
            cells = "".join(f"{'':>12}" if m is None else f"{m * 1e3:>9.3f} ms" for m in medians)
            rate = f"   {work / medians[0] / 1e9:.0f} Gflop/s" if work and medians[0] else ""
            print(f"{name:28}{cells}{rate}")
    return 0


def _softmax(w: Any) -> Any:
    rows = w.reshape(1000, 1000)
    e = np.exp(rows - rows.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _simulate(args: argparse.Namespace) -> int:
    from . import distributed

    print(
        distributed.simulate(
            args.ranks,
            args.size,
            compute=args.compute,
            algorithms=args.algorithms,
            latency=args.latency,
            bandwidth=args.bandwidth,
            per_host=args.per_host,
            local_latency=args.local_latency,
            local_bandwidth=args.local_bandwidth,
            split=args.split,
        )
    )
    return 0


#: What `minigrad train --help` shows.
_RECIPE = """\
a recipe is a TOML file; every key has a default except the layers:

  [data]
  source = "digits"         digits, csv, npz, images, mnist or cifar10
  path = ""                 the file or directory, for all but digits
  target = "label"          csv: the column to predict
  scale = "standard"        standard, minmax, robust or none

  [augment]                 degrees, translate, scale, shear, flip, noise, cutout
  degrees = 10

  [model]
  layers = [
      { type = "Conv2D", filters = 16, kernel_size = 3, activation = "relu" },
      { type = "Flatten" },
      { type = "Dense", units = 10, activation = "softmax" },
  ]

  [train]                   also: loss, metrics, patience, class_weight, seed, workers (processes)
  epochs = 10
  batch_size = 32
  optimizer = "adam"
  learning_rate = 0.001

  [output]
  directory = "run"         model.safetensors, prepare.safetensors and log.csv go there
"""


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def _positive(text: str) -> int:
    value = _count(text)
    if not value:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return value


def parser() -> argparse.ArgumentParser:
    """What the command line understands."""
    top = argparse.ArgumentParser(
        prog="minigrad",
        description="A from-scratch autograd engine on numpy with C-accelerated kernels.",
        epilog="Start with `minigrad demo`; `minigrad <command> --help` explains a command.",
    )
    top.add_argument("--version", action="version", version=f"minigrad {__version__}")
    commands = top.add_subparsers(dest="command", metavar="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="the library as one run on real handwritten digits: what each idea gains",
        description="Train a small network on 1,259 handwritten digits that come with the package, with "
        "one idea more at a time (better data, a better optimizer, a compiled graph, two processes, "
        "distillation, eight bits), and measure accuracy, time, memory and size of each on 359 digits that "
        "it has not seen. Needs no download and less than a minute.",
        epilog=f"The exit code is 1 if the test accuracy of a stage is below {WANTED:.0%}.",
    )
    demo.add_argument(
        "--epochs",
        type=_count,
        metavar="N",
        help="passes over the images in each training (default: 20, or 6 without the C kernels)",
    )
    demo.add_argument(
        "--seed",
        type=_count,
        default=0,
        metavar="N",
        help="the same seed gives the same networks (default: 0)",
    )
    demo.add_argument(
        "--stages",
        metavar="NAMES",
        help="some of baseline,data,optimizer,graph,processes,distilled,int8 (default: all)",
    )
    demo.add_argument(
        "--report",
        default="minigrad-demo.html",
        metavar="PATH",
        help="where the report goes (default: minigrad-demo.html)",
    )
    demo.add_argument("--quiet", action="store_true", help="print nothing but the test accuracy")
    demo.set_defaults(run=_demo)
    for name, run, what in (
        ("train", _train, "train a model described by a TOML file, save it and test it"),
        ("eval", _eval, "test the model that `train` saved"),
    ):
        command = commands.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=_RECIPE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("recipe", help="the TOML file")
        if name == "train":
            command.add_argument("--quiet", action="store_true", help="print the test figures only")
        command.set_defaults(run=run)
    bench = commands.add_parser(
        "bench",
        help="time a few kernels beside numpy on this machine",
        description="Time a few kernels beside numpy, in turns: medians of some rounds after a warm-up.",
        epilog="The benchmarks/ directory of the repository has whole benchmarks against other libraries.",
    )
    bench.add_argument("--rounds", type=_positive, default=15, metavar="N", help="default: 15")
    bench.set_defaults(run=_bench)
    plan = commands.add_parser(
        "simulate",
        help="how long a data parallel step would take on many machines",
        description="Carry out an all-reduce message by message with a clock for every rank, and print the "
        "step, speedup and efficiency for each number of ranks and algorithm.",
        epilog="Example: minigrad simulate --ranks 8 64 512 --size 100e6 --compute 0.1 --per-host 8",
    )
    plan.add_argument(
        "--ranks", type=_positive, nargs="+", required=True, metavar="N", help="how many, in all"
    )
    for name, default, what in (
        ("size", None, "bytes of the gradients"),
        ("compute", 0.0, "seconds of one rank's step, without a reduction"),
        ("latency", 50e-6, "between hosts, seconds"),
        ("bandwidth", 1.25e9, "between hosts, bytes a second"),
        ("local-latency", 2e-6, "inside of a host, seconds"),
        ("local-bandwidth", 5e9, "inside of a host, bytes a second"),
    ):
        text = what if default is None else f"{what} (default: {default:g})"
        plan.add_argument(
            f"--{name}", type=float, default=default, required=default is None, metavar="X", help=text
        )
    plan.add_argument(
        "--per-host", type=_positive, default=1, metavar="N", help="ranks on a host (default: 1)"
    )
    plan.add_argument(
        "--algorithms", nargs="+", metavar="NAME", help="ring, tree, doubling, halving, hierarchical"
    )
    plan.add_argument(
        "--split", action="store_true", help="one batch, shared out; else each rank has its own"
    )
    plan.set_defaults(run=_simulate)
    info = commands.add_parser(
        "info",
        help="show version, backend, instruction set and threads, and why",
        description="Show what is in use and why: version, backend, instruction set, number of threads.",
        epilog="MINIGRAD_BACKEND, MINIGRAD_ISA and MINIGRAD_NUM_THREADS choose others.",
    )
    info.set_defaults(run=_info)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `minigrad demo | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Error as error:  # of what the user wrote: a sentence, not a traceback
        print(
            f"minigrad: {error.op}: {error.problem}" + (f"; {error.fix}" if error.fix else ""),
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\nminigrad: interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
