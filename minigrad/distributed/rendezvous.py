"""Ranks that somebody else has started: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment.

    torchrun --nproc-per-node 2 train.py
    RANK=0 WORLD_SIZE=2 python train.py & RANK=1 WORLD_SIZE=2 python train.py

Rank 0 makes the memory of the group, and hands its descriptor to the others through a socket whose name is
made of address, port and user. The name is in the abstract namespace of Linux: it is in no directory, and is
gone with the socket. Nobody watches over these processes, so each watches all: a rank that was killed or
has stopped ends the waits of the others. Ranks on several hosts share no memory; they need mpirun.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time

from ..errors import ArgumentError
from .engine import DistributedError, Segment, Shared, share_processors

#: What PyTorch takes if nothing is said.
ADDRESS, PORT = "127.0.0.1", "29500"


def asked() -> bool:
    """Whether the environment says that this process is one of several."""
    return "RANK" in os.environ and _number("WORLD_SIZE", 1) > 1


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise ArgumentError(
            "init_process_group", f"{name} is {text!r} in the environment", fix="set a number"
        )
    return int(text)


def join(timeout: float, rank: int | None = None, size: int | None = None) -> Shared:
    """Meet the others.  Raises ArgumentError for numbers that make no sense, DistributedError if the others
    are on other hosts, or do not come within `timeout` seconds."""
    rank = _number("RANK", 0) if rank is None else rank
    size = _number("WORLD_SIZE", 1) if size is None else size
    if not 0 <= rank < size:
        raise ArgumentError("init_process_group", f"rank {rank} of {size}", fix=f"ranks are 0 to {size - 1}")
    if sys.platform != "linux":
        raise DistributedError(
            "init_process_group",
            f"ranks cannot meet by environment variables on {sys.platform}",
            fix="start them with python -m minigrad.distributed.launch",
        )
    local = _number("LOCAL_WORLD_SIZE", size)
    if local != size:
        raise DistributedError(
            "init_process_group",
            f"{size} ranks of which {local} are on this host, and shared memory reaches no further",
            fix="start them with mpirun, and pip install 'minigrad[mpi]'",
        )
    place = os.environ.get("MASTER_ADDR", ADDRESS), os.environ.get("MASTER_PORT", PORT)
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    name = f"\0minigrad-{os.getuid()}-{place[0]}-{place[1]}-{restart}"
    what = f"MASTER_ADDR={place[0]}, MASTER_PORT={place[1]}"
    end = time.monotonic() + timeout
    segment = _hand_out(name, what, size, end) if rank == 0 else _fetch(name, what, rank, size, end)
    share_processors(size)
    return Shared(segment, rank, timeout, watching=True)


def _hand_out(name: str, what: str, size: int, end: float) -> Segment:
    """Rank 0: make the memory, and give it to all others."""
    segment = Segment.create(size)
    come = {0}
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.bind(name)
        except OSError:
            raise DistributedError(
                "init_process_group", f"another job meets at {what}", fix="choose another MASTER_PORT"
            ) from None
        server.listen(size)
        while len(come) < size:
            server.settimeout(max(end - time.monotonic(), 0.001))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = ", ".join(str(r) for r in range(size) if r not in come)
                raise _late(what, f"rank {missing} of {size} did not come") from None
            with connection, contextlib.suppress(OSError, ValueError):
                rank, theirs = (int(t) for t in connection.recv(64).split())
                known = rank in come or not 0 < rank < size or theirs != size
                connection.sendall(f"{'no' if known else 'ok'} {size}".encode())
                if known:
                    continue
                connection.recv(8)  # the answer has been read: what comes now is the descriptor
                socket.send_fds(connection, [b"fd"], [segment.fd])
                come.add(rank)
    return segment


def _fetch(name: str, what: str, rank: int, size: int, end: float) -> Segment:
    """Any other rank: get the memory from rank 0, as soon as that is there."""
    while True:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(name)
                client.settimeout(max(end - time.monotonic(), 0.001))
                client.sendall(f"{rank} {size}".encode())
                said = client.recv(64).split()
                if said[:1] == [b"no"]:
                    raise DistributedError(
                        "init_process_group",
                        f"rank {rank} of {size} where {what} waits for ranks of {int(said[1])}, each once",
                        fix="give every process its own RANK, and all of them the same WORLD_SIZE",
                    )
                client.sendall(b"go")
                _, fds, _, _ = socket.recv_fds(client, 8, 1)
                if fds:
                    return Segment(fds[0], os.fstat(fds[0]).st_size)
            except OSError:  # nobody there yet, or no more
                pass
        if time.monotonic() > end:
            raise _late(what, f"rank 0 did not come for rank {rank} of {size}")
        time.sleep(0.02)


def _late(what: str, who: str) -> DistributedError:
    return DistributedError(
        "init_process_group",
        f"{who} ({what})",
        fix="start all ranks on this host, with the same address and port; on several hosts use mpirun",
    )


__all__ = ["asked", "join"]
