"""Two hosts on one machine (`make hosts`): two network namespaces with a cable between them, and an mpirun
that starts one rank in each.

    namespace mg-a                    namespace mg-b
    10.77.0.1  mg-a0  ------------- mg-b0  10.77.0.2

The ranks share no memory and no loopback: all that they say goes over TCP through the cable. What ssh would
do is done by a script of a few lines, with `ip netns exec`. The programs are those of test_mpi.py, and have
to give the same bits as two ranks on one host; then all_reduce is timed. Needs root, `ip`, Open MPI 4 and
mpi4py; without them it says so and ends well."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
WORKERS = Path(__file__).with_name("mpi_workers.py")
NAMES, ADDRESSES, CABLE = ("mg-a", "mg-b"), ("10.77.0.1", "10.77.0.2"), ("mg-a0", "mg-b0")
NET = "10.77.0.0/24"


def open_mpi_4() -> str | None:
    """The first mpirun on the path that is Open MPI's, version 4."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        tool = shutil.which("mpirun", path=folder)
        if tool:
            said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout
            if "(Open MPI) 4" in said:
                return tool
    return None


def missing() -> str | None:
    """Why this cannot run here; None if it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "namespaces need root"
    for tool in ("ip", "unshare"):
        if shutil.which(tool) is None:
            return f"there is no `{tool}`"
    if open_mpi_4() is None:
        return "there is no mpirun of Open MPI 4 (that of 5 waits for ever for its daemon across namespaces)"
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no namespace can be made: {tried.stderr.strip()}"


def ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextlib.contextmanager
def hosts() -> Iterator[None]:
    """Both namespaces and the cable, for as long as the block runs."""
    try:
        for name in NAMES:
            ip("netns", "add", name)
        ip("link", "add", CABLE[0], "type", "veth", "peer", "name", CABLE[1])
        for name, end, address in zip(NAMES, CABLE, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES:  # whoever is still there, after an error
            listed = subprocess.run(
                ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
            )
            for process in listed.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            ip("netns", "del", name, check=False)


def mpirun(folder: Path, *command: object, ranks: int = 2) -> str:
    """Run a command on both hosts, from host a."""
    agent = folder / "agent"
    # mpirun calls it like ssh: options, host, command in one string
    agent.write_text(
        "#!/bin/sh\n"
        'while [ "${1#-}" != "$1" ]; do shift; done\n'
        f'case "$1" in {ADDRESSES[0]}) n={NAMES[0]};; *) n={NAMES[1]};; esac\n'
        'shift; exec ip netns exec "$n" sh -c "$*"\n'
    )
    agent.chmod(0o755)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    slots = -(-ranks // 2)
    words = [
        *("ip", "netns", "exec", NAMES[0], str(open_mpi_4()), "--allow-run-as-root", "-n", str(ranks)),
        *("--host", ",".join(f"{a}:{slots}" for a in ADDRESSES)),
        *("--mca", "btl", "tcp,self", "--mca", "pml", "ob1", "--mca", "btl_tcp_if_include", NET),
        *("--mca", "plm_rsh_agent", str(agent), "--mca", "oob_tcp_if_include", NET),
        *("--mca", "orte_keep_fqdn_hostnames", "1"),
        *("-x", f"PYTHONPATH={path}", "-x", "MINIGRAD_NUM_THREADS=1", "-x", "OMP_NUM_THREADS=1"),
        *(sys.executable, *map(str, command)),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise SystemExit(f"mpirun ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    reason = missing()
    if reason is not None:
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory() as name, hosts():
        folder = Path(name)
        print(mpirun(folder, WORKERS, "where"), end="")
        mpirun(folder, WORKERS, "everything", folder / "two.npz")
        alone = [sys.executable, str(WORKERS), "shared", str(folder / "one.npz")]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        subprocess.run(alone, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=300)
        two, one = np.load(folder / "two.npz"), np.load(folder / "one.npz")
        assert two["wrong"].tolist() == [], two["wrong"]
        for key in one.files:
            np.testing.assert_allclose(two[key], one[key], rtol=1e-12, atol=1e-15, err_msg=key)
        same = sum(bool((two[key] == one[key]).all()) for key in one.files)
        print(f"all collectives are right; {len(one.files)} arrays after 50 steps, eager and compiled, equal")
        print(f"those of shared memory on one host ({same} of them bit for bit)")
        print(mpirun(folder, WORKERS, "time"), end="")


if __name__ == "__main__":
    main()
