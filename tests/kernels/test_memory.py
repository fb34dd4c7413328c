"""No memory is a MemoryError wherever it runs out, and the process goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends import c

if not c.available:
    pytest.skip(c.reason, allow_module_level=True)

# Each operation is repeated under a limit of address space that grows from nothing until the operation
# succeeds, so that every allocation on its way fails once. A thread of its own for each try gives the
# kernels fresh scratch memory.
SWEEP = """
import resource, sys, threading
import numpy as np
import minigrad as mg
from minigrad.backends import get_backend, set_num_threads
from minigrad.ops import OPS

rng = np.random.default_rng(0)
def f(*shape): return rng.standard_normal(shape, np.float32)
SAME = ((1, 1), (1, 1, 1, 1), (1, 1), 1)
CASES = {
    "product": ("matmul", f(150, 700), f(700, 900), False, False),
    "transposed product": ("matmul", f(700, 150), f(900, 700), True, True),
    "winograd": ("conv2d", f(4, 32, 32, 32), f(32, 32, 3, 3), *SAME),
    "convolution": ("conv2d", f(4, 8, 40, 40), f(24, 8, 5, 5), *SAME),
    "input gradient": ("conv2d_input_grad", f(4, 24, 38, 38), f(24, 8, 5, 5), (40, 40), *SAME),
    "weight gradient": ("conv2d_weight_grad", f(4, 8, 40, 40), f(4, 24, 38, 38), (5, 5), *SAME),
    "sum of all": ("sum", f(500, 900), (0, 1), False),
    "sum of columns": ("sum", f(500, 900), (0,), False),
    "softmax of columns": ("softmax", f(500, 900), 0),
    "normalization": ("standardize", f(8, 16, 30, 30), (0, 2, 3), 1e-5),
    "formula": ("gelu", f(500, 900)),
}
set_num_threads(2)
kernels = get_backend("c")

def limited(case, extra):
    op, *args = CASES[case]
    kernel, result = kernels[OPS[op]], []
    def attempt():
        if extra is not None:
            pages = int(open("/proc/self/statm").read().split()[0])
            limit = pages * resource.getpagesize() + extra
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try: result.append(kernel(*args))
        except MemoryError: result.append(None)
        finally: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return result[0]

for case in CASES:
    refused, extra = 0, 0
    while (y := limited(case, extra)) is None:
        refused, extra = refused + 1, extra + 2**18
        assert extra < 2**28, case
    assert np.array_equal(y, limited(case, None)), case
    print(case, refused, sep=":")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_every_allocation_may_fail() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWEEP],
        # glibc reserves 64 MB for each arena but the first, and keeps what was freed below the threshold
        env=os.environ | {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refusals = dict(line.split(":") for line in done.stdout.splitlines())
    assert len(refusals) == 11
    # Which ones are refused how often depends on what memory the process has left over from before.
    assert refusals["product"] != "0"
    assert sum(map(int, refusals.values())) >= 10, refusals


def test_sizes_that_no_address_can_hold() -> None:
    tall, flat = (np.broadcast_to(np.float32(1), shape) for shape in ((2**30, 1), (1, 2**30)))
    with pytest.raises((MemoryError, ValueError)):
        c.matmul(tall, flat)  # 4 EiB
    with pytest.raises((MemoryError, ValueError)):
        mg.ones(1, 1).expand(2**31, 1) @ mg.ones(1, 1).expand(1, 2**31)
