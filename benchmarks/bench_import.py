"""How long `import minigrad` takes, beyond `import numpy`, and what an installation weighs.

    python benchmarks/bench_import.py [WHEEL]

Each number is the median of 9 fresh interpreters run with `-X importtime`, the two imports taking
turns, after one run that fills the byte-code cache.  With the path of a wheel its size is printed too.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 9
#: `import minigrad` may cost this many milliseconds more than `import numpy`.
TARGET = 25.0


#: Byte code is cached, as in any installation, but in a place of its own.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT["PYTHONPYCACHEPREFIX"] = os.path.join(tempfile.gettempdir(), "minigrad-bench-import")


def importtime(statement: str) -> list[tuple[str, float, float]]:
    """(module, own ms, cumulative ms) of each import of a fresh interpreter, in the order of finishing."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    rows = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \| +(\S+)", done.stderr)
    return [(name, int(own) / 1000, int(total) / 1000) for own, total, name in rows]


def measure(runs: int = RUNS) -> dict[str, float]:
    """Medians in milliseconds: numpy, minigrad, what minigrad costs beyond numpy."""
    subprocess.run([sys.executable, "-c", "import minigrad"], check=True, env=ENVIRONMENT)
    alone, whole, beyond = [], [], []
    for _ in range(runs):
        alone.append(importtime("import numpy")[-1][2])
        rows = importtime("import numpy; import minigrad")
        totals = {name: total for name, _, total in rows}
        whole.append(totals["numpy"] + totals["minigrad"])
        beyond.append(totals["minigrad"])
    return {
        "numpy": statistics.median(alone),
        "numpy and minigrad": statistics.median(whole),
        "minigrad beyond numpy": statistics.median(beyond),
    }


def slowest(count: int = 12) -> list[tuple[str, float]]:
    """The modules beyond numpy that take longest by themselves."""
    rows = importtime("import numpy; import minigrad")
    after = next(i for i, row in enumerate(rows) if row[0] == "numpy") + 1
    return sorted(((name, own) for name, own, _ in rows[after:]), key=lambda row: -row[1])[:count]


def installed_size() -> dict[str, float]:
    """Megabytes of this package and of what it needs at run time."""
    import importlib.util

    sizes = {}
    for name in ("minigrad", "numpy", "cffi"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            files = [p for p in Path(spec.origin).parent.rglob("*") if p.is_file() and p.suffix != ".pyc"]
            libraries = Path(spec.origin).parent.with_name(f"{name}.libs")
            files += [p for p in libraries.rglob("*") if p.is_file()] if libraries.is_dir() else []
            sizes[name] = sum(p.stat().st_size for p in files) / 1e6
    return sizes


def main() -> None:
    """Print the table."""
    import _harness as harness

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", nargs="*", type=Path, help="wheels whose sizes to print")
    wheels = parser.parse_args().wheel
    for wheel in wheels:
        if not wheel.is_file():
            parser.error(f"there is no file {wheel}")
    print(harness.header())
    for name, value in measure().items():
        print(f"{name:24} {value:8.1f} ms")
    print("by module, own time:")
    for name, own in slowest():
        print(f"    {name:36} {own:6.1f} ms")
    for name, size in installed_size().items():
        print(f"installed {name:14} {size:8.2f} MB")
    for wheel in wheels:
        print(f"wheel {wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
