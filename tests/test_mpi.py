"""The engine on MPI: the same programs and the same bits as on shared memory; faults."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import distributed_workers as work
import mpi_workers
import numpy as np
import pytest

import minigrad as mg
from minigrad import distributed as dist
from minigrad.distributed import launching, mpi
from minigrad.distributed.engine import DistributedError

ROOT = Path(__file__).parent.parent
WORKERS = Path(__file__).with_name("mpi_workers.py")
MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

with_mpi = pytest.mark.skipif(
    MPIRUN is None or importlib.util.find_spec("mpi4py") is None, reason="mpirun and mpi4py are not both here"
)

#: As root, and with more ranks than processors: Open MPI 4, then 5. Others do not ask.
ALLOWED = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def mpirun(*command, ranks=2, timeout=60):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, **ALLOWED, "PYTHONPATH": path, "MINIGRAD_NUM_THREADS": "1"}
    return subprocess.run(
        [MPIRUN, "-n", str(ranks), sys.executable, *map(str, command)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@with_mpi
def test_the_same_bits_as_on_shared_memory(tmp_path):
    """Every collective; a captured reduction; 50 steps of training, eager and compiled, uneven batches."""
    done = mpirun(WORKERS, "everything", tmp_path / "found.npz")
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    assert found["wrong"].tolist() == []
    assert found["groups"].tolist() == [[3.0, -1.0], [23.0, 0.0]]
    assert found["captured"].tolist() == [[[2.0 * (2 * k + 1) + 1] * 3 for k in range(3)]] * 2
    batch, dtype, optimizer = mpi_workers.TRAINED
    for compiled in (False, True):
        shared = dist.run(work.train, 2, (batch, compiled, dtype, optimizer))
        for rank in range(2):
            for name, expected in shared[rank].items():
                got = found[f"{compiled}.{rank}.{name}"]
                np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)
                assert (got == found[f"{compiled}.0.{name}"]).all()


@with_mpi
@pytest.mark.parametrize(
    ("how", "matches"),
    [
        ("raise", [r"(?s)rank 1 of 2 raised:.*KeyError: 'planted'"]),
        ("kill", [r"(?s)rank 1\b.*(signal\s9|KILLED)"]),
        ("stop", [r"rank 1 of 2 has stopped answering for 3 s, says rank 0, which was last in all_reduce"]),
        (
            "hang",
            [
                r"(?s)rank 1, for which rank 0 waits, is here:.*in fail\n.*time\.sleep",
                r"(?s)rank 0 of 2 raised:.*rank 0 waited 1 s for rank 1, which did not come",
            ],
        ),
        ("leave", [r"rank 1 has left the group"]),
        ("differ", [r"calls all_reduce\(sum\) of [34] float32 while rank . calls all_reduce\(sum\) of [34]"]),
    ],
)
def test_a_rank_that_fails_ends_the_job(how, matches):
    began = time.monotonic()
    done = mpirun(WORKERS, "fail", how)
    assert time.monotonic() - began < 15
    assert done.returncode != 0
    for match in matches:
        assert re.search(match, done.stderr), done.stderr


@with_mpi
def test_a_script_that_starts_processes_uses_those_of_mpirun():
    script = ROOT / "examples" / "digits_parallel.py"
    done = mpirun(script, "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 ranks: accuracy") == 1, done.stdout


@pytest.mark.skipif(not dist.is_available(), reason="the C kernels are not built")
@pytest.mark.parametrize("size", [2, 3])
def test_reductions_have_the_bits_of_the_c_side(size):
    parts = np.stack([work.normal(rank) for rank in range(size)])
    for found in dist.run(work.reduce_normal, size):
        for op, y in found.items():
            assert (y == mpi.combine(parts, op, [1.0] * size)).all(), op


def test_a_weighted_mean():
    parts = np.array([[1.0, 2.0], [3.0, 8.0]])
    assert mpi.combine(parts, "mean", [3.0, 1.0]).tolist() == [1.5, 3.5]


def test_without_mpi4py_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(DistributedError, match=r"pip install 'minigrad\[mpi\]'"):
        dist.init_process_group("mpi")


def test_another_backend_than_the_process_was_started_for(monkeypatch):
    for name in mpi._STARTED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MINIGRAD_GROUP_FD", raising=False)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(mg.Error, match=r"backend 'shm' in a process that was started for 'mpi'"):
        dist.init_process_group("shm")
    with (
        pytest.raises(DistributedError, match="that mpirun has started"),
        launching.beside(work.collectives, 2),
    ):
        pass
