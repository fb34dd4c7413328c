"""Convolution in its three directions against torch, in torch's default layout and with channels last.

    python benchmarks/bench_conv.py                 float32, at 1 and 2 threads
    python benchmarks/bench_conv.py --only 3x3      cases whose label contains this
    python benchmarks/bench_conv.py --all           other geometries: 1-d, groups, dilation, strides
    python benchmarks/bench_conv.py --depthwise     one filter for each channel
    python benchmarks/bench_conv.py --pool          pooling, forward and backward
    python benchmarks/bench_conv.py --direct        without Winograd's path
    python benchmarks/bench_conv.py --memory        peak memory of forward + backward
    python benchmarks/bench_conv.py --crossover     where the kernels begin to beat numpy

minigrad's arrays are (batch, channels, height, width), always: whatever it rearranges inside is in its
time. torch's "channels last" engine gets inputs that lie that way already, and its results stay so. All
engines get memory for their results from an allocator that keeps what was freed (glibc, by environment),
so that nobody pays for fresh pages.

"ratio" is to the best of the torch engines; below the table stands the ratio to torch's default layout.
"of peak" counts the multiply-adds of the definition: Winograd's path may pass 100 %.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import timeit
from functools import partial
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "68719476736", "MALLOC_TOP_PAD_": "268435456"}

#: label: batch, channels, size, out channels, kernel, stride, padding, groups
SHAPES = {
    "3x3 64ch 32x32": (32, 64, 32, 64, 3, 1, 1, 1),
    "3x3 256ch 14x14": (32, 256, 14, 256, 3, 1, 1, 1),
    "3x3 1->32 28x28": (64, 1, 28, 32, 3, 1, 1, 1),
    "7x7/2 3->64 112x112": (16, 3, 112, 64, 7, 2, 3, 1),
    "1x1 64->256 32x32": (32, 64, 32, 256, 1, 1, 0, 1),
    "3x3 depthwise 128 28x28": (32, 128, 28, 128, 3, 1, 1, 128),
}
DIRECTIONS = ("forward", "input", "weight")

#: With --all: what nobody must find embarrassingly slow. Dilation stands last where it is not one.
MORE = {
    "1d 5 128ch 512": (16, 128, (1, 512), 128, (1, 5), (1, 1), (0, 2), 1),
    "3x3 32 groups 256ch 14x14": (32, 256, 14, 256, 3, 1, 1, 32),
    "3x3 dilation 2 64ch 32x32": (32, 64, 32, 64, 3, 1, 2, 1, 2),
    "3x3/2 64->128 32x32": (32, 64, 32, 128, 3, 2, 1, 1),
    "1x1/2 64->128 32x32": (32, 64, 32, 128, 1, 2, 0, 1),
    "3x3/2 depthwise 128 28x28": (32, 128, 28, 128, 3, 2, 1, 128),
    "4x4/2 64->32 32x32": (32, 64, 32, 32, 4, 2, 1, 1),  # "input" is a DCGAN's transposed convolution
    "5x5 16->32 28x28": (64, 16, 28, 32, 5, 1, 2, 1),
    "3x3 32->64 14x14": (64, 32, 14, 64, 3, 1, 1, 1),
    "3x3 64ch 32x32 one image": (1, 64, 32, 64, 3, 1, 1, 1),
}

#: With --depthwise: one filter for each channel, in the shapes of the nets that have them.
DEPTHWISE = {
    "3x3 128ch 28x28": (32, 128, 28, 128, 3, 1, 1, 128),
    "3x3/2 128ch 28x28": (32, 128, 28, 128, 3, 2, 1, 128),
    "3x3/2 64ch 112x112": (4, 64, 112, 64, 3, 2, 1, 64),
    "3x3 512ch 7x7": (32, 512, 7, 512, 3, 1, 1, 512),
    "5x5 240ch 14x14": (32, 240, 14, 240, 5, 1, 2, 240),
    "5x5/2 72ch 56x56": (8, 72, 56, 72, 5, 2, 2, 72),
    "7x7 96ch 56x56": (8, 96, 56, 96, 7, 1, 3, 96),
    "7x7 384ch 14x14": (16, 384, 14, 384, 7, 1, 3, 384),
    "3x3 dilation 2 128ch 28x28": (16, 128, 28, 128, 3, 1, 2, 128, 2),
    "3x3 128ch 28x28 multiplier 2": (16, 128, 28, 256, 3, 1, 1, 128),
    "1d 9 256ch 512": (16, 256, (1, 512), 256, (1, 9), (1, 1), (0, 4), 256),
}

#: label: kind, batch, channels, size, kernel, stride, padding
POOLS = {
    "max 2x2 32ch 28x28": ("max", 64, 32, 28, 2, 2, 0),
    "max 3x3/2 64ch 112x112": ("max", 8, 64, 112, 3, 2, 1),
    "max 3x3/1 64ch 28x28": ("max", 32, 64, 28, 3, 1, 1),
    "avg 2x2 64ch 32x32": ("avg", 32, 64, 32, 2, 2, 0),
    "avg 3x3/1 64ch 28x28": ("avg", 32, 64, 28, 3, 1, 1),
    "avg 8x8 256ch 8x8": ("avg", 32, 256, 8, 8, 8, 0),
}


def all_cases() -> list[harness.Case]:
    if "--pool" in sys.argv:
        return [
            {"label": f"{label} {direction}", "pool": pool, "direction": direction}
            for label, pool in POOLS.items()
            for direction in ("forward", "backward")
        ]
    shapes = DEPTHWISE if "--depthwise" in sys.argv else MORE if "--all" in sys.argv else SHAPES
    return [
        {"label": f"{label} {direction}", "shape": shape, "direction": direction}
        for label, shape in shapes.items()
        for direction in DIRECTIONS
    ]


def pair(x: Any) -> tuple[int, int]:
    return (x[0], x[1]) if isinstance(x, tuple | list) else (x, x)  # a list, once it went through JSON


def geometry(shape: Any) -> tuple[Any, Any, Any, Any]:
    """Stride, padding, dilation and groups."""
    _, _, _, _, _, s, p, groups, *d = shape
    return pair(s), pair(p), pair(d[0] if d else 1), groups


def shapes_of(shape: Any) -> tuple[Any, Any, Any]:
    """Of x, w and y."""
    n, c, size, o, kernel, *_ = shape
    s, p, d, groups = geometry(shape)
    places = tuple(
        (m + 2 * q - e * (k - 1) - 1) // t + 1
        for m, k, t, q, e in zip(pair(size), pair(kernel), s, p, d, strict=True)
    )
    return (n, c, *pair(size)), (o, c // groups, *pair(kernel)), (n, o, *places)


def flops(case: harness.Case) -> float:
    if "pool" in case:
        return 0.0
    _, w, y = shapes_of(case["shape"])
    return 2.0 * float(np.prod(y)) * float(np.prod(w[1:]))


def operands(shape: Any) -> tuple[Any, Any, Any]:
    """x, w and a cotangent of y."""
    rng = np.random.default_rng(0)
    x, w, g = (rng.standard_normal(s).astype(np.float32) for s in shapes_of(shape))
    return x, w, g


def pool_operands(pool: Any) -> tuple[Any, Any]:
    """x and a cotangent of y."""
    _, n, c, size, k, s, p = pool
    rng = np.random.default_rng(0)
    places = (size + 2 * p - k) // s + 1
    x, g = (rng.standard_normal((n, c, m, m)).astype(np.float32) for m in (size, places))
    return x, g


class Torch(harness.Torch):
    layout = "contiguous_format"

    def environment(self, threads: int) -> dict[str, str]:
        return KEEP

    def prepare(self, case: harness.Case) -> harness.Call:
        torch = self.torch
        layout = getattr(torch, self.layout)
        if "pool" in case:
            return self.pooling(case, layout)
        s, p, d, groups = geometry(case["shape"])
        x, w, g = (torch.from_numpy(a).contiguous(memory_format=layout) for a in operands(case["shape"]))
        if case["direction"] == "forward":
            return lambda: torch.nn.functional.conv2d(x, w, None, s, p, d, groups)
        mask = [case["direction"] == d for d in ("input", "weight")] + [False]
        which = mask.index(True)
        backward = torch.ops.aten.convolution_backward
        return lambda: backward(g, x, w, None, s, p, d, False, [0, 0], groups, mask)[which]

    def pooling(self, case: harness.Case, layout: Any) -> harness.Call:
        torch, aten = self.torch, self.torch.ops.aten
        kind, _, _, _, k, s, p = case["pool"]
        x, g = (torch.from_numpy(a).contiguous(memory_format=layout) for a in pool_operands(case["pool"]))
        rest = [k, k], [s, s], [p, p]
        if kind == "avg":
            if case["direction"] == "forward":
                return lambda: aten.avg_pool2d(x, *rest)
            return lambda: aten.avg_pool2d_backward(g, x, *rest, False, True, None)
        if case["direction"] == "forward":
            return lambda: aten.max_pool2d_with_indices(x, *rest)[0]
        _, index = aten.max_pool2d_with_indices(x, *rest)
        return lambda: aten.max_pool2d_with_indices_backward(g, x, *rest, [1, 1], False, index)


class TorchChannelsLast(Torch):
    name = "torch-cl"
    layout = "channels_last"


class Minigrad(harness.Minigrad):
    algorithm = "auto"

    def environment(self, threads: int) -> dict[str, str]:
        return KEEP

    def start(self, threads: int) -> None:
        super().start(threads)
        from minigrad.backends import c, conv

        c.set_num_threads(threads)
        self.conv = conv

    def prepare(self, case: harness.Case) -> harness.Call:
        conv, algorithm = self.conv, self.algorithm
        if "pool" in case:
            return self.pooling(case)
        s, p, d, groups = geometry(case["shape"])
        x, w, g = operands(case["shape"])
        rest = s, (p[0], p[0], p[1], p[1]), d, groups
        if case["direction"] == "forward":
            return lambda: conv.conv2d(x, w, *rest, algorithm=algorithm)
        if case["direction"] == "input":
            return lambda: conv.conv2d_input_grad(g, w, x.shape[2:], *rest, algorithm=algorithm)
        return lambda: conv.conv2d_weight_grad(x, g, w.shape[2:], *rest, algorithm=algorithm)

    def pooling(self, case: harness.Case) -> harness.Call:
        conv = self.conv
        kind, _, _, _, k, s, p = case["pool"]
        x, g = pool_operands(case["pool"])
        rest = (k, k), (s, s), (p, p)
        if kind == "avg":
            if case["direction"] == "forward":
                return lambda: conv.avg_pool2d(x, *rest, False, True, None)
            return lambda: conv.avg_pool2d_grad(g, x.shape[2:], *rest, False, True, None)
        if case["direction"] == "forward":
            return lambda: conv.max_pool2d(x, *rest, (1, 1), False)[0]
        _, index = conv.max_pool2d(x, *rest, (1, 1), False)
        return lambda: conv.max_pool2d_grad(g, index, x.shape[2:])


class MinigradDirect(Minigrad):
    algorithm = "direct"


def memory_of(engine: harness.Engine, label: str) -> None:
    """Print by how much forward + backward raised the peak of this process, in bytes."""
    engine.start(2)
    tiny: Any = {"shape": (1, 8, 8, 8, 3, 1, 1, 1)}
    for direction in DIRECTIONS:
        engine.prepare(tiny | {"direction": direction})()  # what the libraries load on first use
    calls = [engine.prepare({"shape": SHAPES[label], "direction": d}) for d in DIRECTIONS]
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not hide what is taken now
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = harness.resident("VmRSS")
    results = [call() for call in calls]
    print(json.dumps(harness.resident("VmHWM") - before))
    del results


def memory(engines: list[harness.Engine]) -> None:
    print(f"{'MB above the operands':<26}" + "".join(f"{e.name:>14}" for e in engines))
    for label in SHAPES:
        row = []
        for engine in engines:
            command = [sys.executable, __file__, "--memory-of", engine.name, "--case", label]
            row.append(
                json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1e6
            )
        print(f"{label:<26}" + "".join(f"{m:>14.1f}" for m in row), flush=True)


def crossover() -> None:
    """Eager convolutions by the C kernel and by numpy, one thread, growing images."""
    from minigrad.backends import c, conv
    from minigrad.record import OPS

    c.set_num_threads(1)
    print(f"{'multiply-adds':>14}{'numpy us':>10}{'C us':>10}")
    for channels, size, k in ((1, 1, 1), (1, 3, 2), (1, 5, 3), (2, 6, 3), (4, 8, 3), (8, 14, 3)):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((1, channels, size, size)).astype(np.float32)
        w = rng.standard_normal((channels, channels, k, k)).astype(np.float32)
        rest = (1, 1), (0, 0, 0, 0), (1, 1), 1
        best = [
            min(timeit.repeat(partial(f, x, w, *rest), number=200, repeat=9)) / 200 * 1e6
            for f in (OPS["conv2d"].kernel, conv.conv2d)
        ]
        print(f"{channels**2 * k**2 * (size - k + 1) ** 2:>14}{best[0]:>10.2f}{best[1]:>10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False
    )
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--depthwise", action="store_true")
    parser.add_argument("--pool", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--crossover", action="store_true")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = harness.early(parser)
    engines: list[harness.Engine] = [
        MinigradDirect() if options.direct else Minigrad(),
        Torch(),
        TorchChannelsLast(),
    ]
    if options.memory_of:
        return memory_of(next(e for e in engines if e.name == options.memory_of), options.case)
    if options.memory or options.crossover:
        harness.alone(parser)
        print(harness.header())
        return memory(engines) if options.memory else crossover()
    with tempfile.TemporaryDirectory() as folder:
        if "--json" not in sys.argv:
            sys.argv += ["--json", str(Path(folder) / "report.json")]
        report = Path(sys.argv[sys.argv.index("--json") + 1])
        harness.main(__file__, engines, all_cases(), parser=parser, tolerance=1e-4, flops=flops)
        if "--worker" in sys.argv or "--show" in sys.argv:
            return
        for run in json.loads(report.read_text())["runs"]:
            ratios = [
                r["seconds"]["torch"] / r["seconds"]["minigrad"]
                for r in run["rows"]
                if "torch" in r["seconds"]
            ]
            if ratios:
                print(
                    f"{run['threads']} thread(s): geometric mean of torch's default layout / minigrad: "
                    f"{harness.geometric_mean(ratios):.2f}x"
                )


if __name__ == "__main__":
    main()
