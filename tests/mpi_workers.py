"""What each rank of the tests in test_mpi.py does: `mpirun -n 2 python mpi_workers.py NAME ...`."""

import sys
import time

import distributed_workers as work
import numpy as np

import minigrad as mg
from minigrad import distributed as dist

TRAINED = (12, "float64", "adam")


def everything(path):
    """All collectives, captured and data parallel training; what came out goes to a file."""
    found = {"wrong": np.array([w for part in dist.run(work.collectives, 2) for w in part], np.str_)}
    found["captured"] = np.array(dist.run(work.captured_all_reduce, 2))
    for compiled in (False, True):
        batch, dtype, optimizer = TRAINED
        ranks = dist.run(work.train, 2, (batch, compiled, dtype, optimizer))
        for rank, parameters in enumerate(ranks):
            found |= {f"{compiled}.{rank}.{name}": p for name, p in parameters.items()}
    if dist.get_rank() == 0:
        np.savez(path, **found)


def fail(how):
    """A fault of rank 1."""
    dist.init_process_group(timeout=1.0)
    dist.barrier()
    if dist.get_rank() == 1:
        if how == "raise":
            raise KeyError("planted")
        if how == "hang":
            time.sleep(60)
        if how == "leave":
            return
    dist.all_reduce(mg.zeros(4 if how == "differ" and dist.get_rank() else 3))
    time.sleep(60)


if __name__ == "__main__":
    {"everything": everything, "fail": fail}[sys.argv[1]](*sys.argv[2:])
