"""`python -m minigrad.distributed.launch --nproc 2 train.py --epochs 3`: a script, in several processes.

Every rank runs the whole script; in it, `minigrad.distributed.init_process_group()` joins the group. RANK,
LOCAL_RANK and WORLD_SIZE are set as by torchrun. If a rank fails, all others end, and its traceback is what
you see.

With `--max-restarts` they are started again, for a script that goes on from its last checkpoint; with
`--min-nproc` as well, by one fewer for each rank that was killed or stopped answering
(`examples/digits_elastic.py`). RESTART_COUNT says which time it is, from 0."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import Error
from .group import TIMEOUT
from .launching import launch


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m minigrad.distributed.launch", description=__doc__)
    parser.add_argument("--nproc", "--nproc-per-node", type=int, default=2, help="processes (2)")
    parser.add_argument("--threads", type=int, help="threads of each (processors / nproc)")
    parser.add_argument("--seed", type=int, help="rank r starts with manual_seed(seed + r)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        help="seconds that a rank waits for another one (%(default)g)",
    )
    parser.add_argument("--max-restarts", type=int, default=0, help="when a rank fails, start again (0)")
    parser.add_argument(
        "--min-nproc", type=int, help="go on with fewer processes when one is lost, but no fewer than this"
    )
    parser.add_argument("-m", "--module", action="store_true", help="script is a module, as for python -m")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the script")
    options = parser.parse_args(argv)
    try:
        launch(
            options.script,
            options.arguments,
            options.nproc,
            module=options.module,
            seed=options.seed,
            threads=options.threads,
            timeout=options.timeout,
            max_restarts=options.max_restarts,
            min_nprocs=options.min_nproc,
        )
    except Error as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; all ranks have ended", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
