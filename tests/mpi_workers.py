"""What each rank of the tests in test_mpi.py does: `mpirun -n 2 python mpi_workers.py NAME ...`."""

import os
import signal
import subprocess
import sys
import time

import distributed_workers as work
import numpy as np

import minigrad as mg
from minigrad import distributed as dist

TRAINED = (12, "float64", "adam")


def everything(path):
    """All collectives, captured and data parallel training; what came out goes to a file."""
    wrong = [w for f in (work.collectives, work.more_collectives) for part in dist.run(f, 2) for w in part]
    found = {"wrong": np.array(wrong, np.str_)}
    found["groups"] = np.array(dist.run(groups, 2))
    found["captured"] = np.array(dist.run(work.captured_all_reduce, 2))
    for compiled in (False, True):
        batch, dtype, optimizer = TRAINED
        ranks = dist.run(work.train, 2, (batch, compiled, dtype, optimizer))
        for rank, parameters in enumerate(ranks):
            found |= {f"{compiled}.{rank}.{name}": p for name, p in parameters.items()}
    if dist.get_rank() == 0:
        np.savez(path, **found)


def groups():
    """A group of both ranks, and one of the second alone: sums, and who is in it."""
    both, second = dist.new_group([0, 1]), dist.new_group([1])
    x = mg.tensor([dist.get_rank() + 1.0])
    mine = dist.all_reduce(x.clone(), group=both).item()
    if dist.get_rank() == 1:
        mine += 10 * dist.all_reduce(x.clone(), group=second).item()
    return mine, float(dist.get_rank(second))


def where():
    """Which host every rank is on: its addresses."""
    done = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    mine = [line.split()[3] for line in done.splitlines() if " lo " not in line]
    for rank, found in enumerate(dist.run(list, 2, (mine,))):
        if dist.get_rank() == 0:
            print(f"rank {rank} is at {', '.join(found)}")


def shared(path):
    """What `everything` finds, by two ranks on shared memory."""
    found = {}
    for compiled in (False, True):
        batch, dtype, optimizer = TRAINED
        for rank, parameters in enumerate(dist.run(work.train, 2, (batch, compiled, dtype, optimizer))):
            found |= {f"{compiled}.{rank}.{name}": p for name, p in parameters.items()}
    np.savez(path, **found)


def timed():
    """Print the time of all_reduce."""
    dist.init_process_group()
    for size in (1 << 10, 1 << 20, 64 << 20):
        x, times = mg.ones(size // 4), []
        for _ in range(7 if size > 1 << 20 else 50):
            dist.barrier()
            begin = time.perf_counter()
            dist.all_reduce(x, "max")
            times.append(time.perf_counter() - begin)
        median = sorted(times)[len(times) // 2]
        if dist.get_rank() == 0:
            print(
                f"all_reduce of {size >> 10:>6} KB: {1e6 * median:>9.0f} us, {size / median / 1e9:.2f} GB/s"
            )


def fail(how):
    """A fault of rank 1."""
    dist.init_process_group(timeout=1.0 if how == "hang" else 30.0)
    dist.barrier()
    if dist.get_rank() == 1:
        if how == "raise":
            raise KeyError("planted")
        if how in ("hang", "late"):
            time.sleep(60 if how == "hang" else 5)
        if how in ("kill", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        if how == "leave":
            return
    dist.all_reduce(mg.zeros(4 if how == "differ" and dist.get_rank() else 3))
    time.sleep(60 if how != "late" else 0)


if __name__ == "__main__":
    jobs = {"everything": everything, "where": where, "shared": shared, "time": timed, "fail": fail}
    jobs[sys.argv[1]](*sys.argv[2:])
