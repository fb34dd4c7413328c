"""Starting the processes of a group, watching over them, and ending them all when one fails.

    results = minigrad.distributed.run(train, nprocs=2, args=(config,))

Each rank is a fresh interpreter (a fork would copy threads that hold locks). The one that starts them, the
parent, does no work of its own: it waits for results, and a few times a second it looks at the seats of the
group (see `csrc/distributed/group.c`):

==============================  =========================================================================
a rank raised                   its traceback came through its pipe
a rank was killed               its process ended without a result
a rank stopped answering        its heartbeat, a thread of its own, is SILENT seconds old
a rank does not come            others have waited SLOW seconds for it: its stack is printed, once; after
                                `timeout` seconds the others raise
Ctrl-C, or the parent fails     the `finally` below; a rank whose parent is gone ends itself
==============================  =========================================================================

In each case the group is aborted, which ends every wait with an error, then whoever is left is asked to
end, and then killed, within three seconds. Nothing can be left behind, as the shared memory has no name
(`engine.Segment`)."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import io
import json
import os
import pickle
import runpy
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import reduction, spawn
from typing import Any

from ..errors import ArgumentError, raised_at, short_line
from ..random import manual_seed
from . import group, mpi
from .engine import SILENT, DistributedError, Engine, Segment, Shared, processors

#: Seconds of waiting that are worth a word.
SLOW = 4.0
#: Seconds between being asked to end and being killed.
GRACE = 1.0

_THREADS = (
    "MINIGRAD_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from minigrad.distributed import launching; launching._child()"
)
_importing_main = False


def run(
    fn: Callable[..., Any],
    nprocs: int = 2,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    threads: int | None = None,
    timeout: float = group.TIMEOUT,
    max_restarts: int = 0,
    min_nprocs: int | None = None,
) -> list[Any]:
    """Call `fn(*args, **kwargs)` in `nprocs` processes that form a group; what they return, in the order of
    ranks.

    fn: a function that the processes can import: at the top level of a module or of the script.
    seed: rank r starts with `manual_seed(seed + r)`.  threads: of each process (processors / nprocs).
    timeout: seconds that a rank waits for another one.
    max_restarts: how often to start all of them again when one fails; fn then goes on from its last
    checkpoint (`examples/digits_elastic.py`), and RESTART_COUNT in the environment says which time it is.
    min_nprocs: with it, a rank that is lost is not replaced as long as so many are left.
    Raises DistributedError, with the rank and its traceback, if one of them fails; then all others have
    ended.

    In a script that mpirun has started there are processes already: each of them calls fn, and gets all
    results; how many they are, and with how many threads, is for mpirun to say."""
    if _importing_main:
        raise _Reached
    if not callable(fn):
        raise ArgumentError("run", f"{fn!r} is no function", fix="pass the function and its args separately")
    if mpi.started() and "MINIGRAD_GROUP_FD" not in os.environ:
        return _run_here(fn, args, kwargs or {}, seed, timeout)
    payload = _pack(_preparation(), seed, "call", (fn, tuple(args), dict(kwargs or {})))
    return _attempts(nprocs, payload, threads, timeout, max_restarts, min_nprocs)


def _run_here(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], seed: int | None, timeout: float
) -> list[Any]:
    """`run` in a process that is one of several already."""
    group.init_process_group("mpi", timeout=timeout)
    engine = group.group()
    if seed is not None:
        manual_seed(seed + engine.rank)
    result = fn(*args, **kwargs)
    return engine.gather_objects(result) if isinstance(engine, mpi.MPI) else [result]


@contextlib.contextmanager
def beside(
    fn: Callable[..., Any],
    nprocs: int,
    args: Sequence[Any] = (),
    *,
    threads: int | None = None,
    timeout: float = group.TIMEOUT,
) -> Iterator[Engine]:
    """This process as rank 0 of a group, beside fresh ones that call `fn(*args)` as ranks 1, 2, ...

    For what is begun in the middle of a program, and goes on in it: inside of the context the group is there,
    and this process does its share; at its end the others are waited for.  threads: of each process, this
    one included (processors / nprocs).  Raises DistributedError, with the rank and its traceback, if one
    of them fails; an exception here ends all of them.
    """
    if _importing_main:
        raise _Reached
    if group.is_initialized():
        raise DistributedError(
            "run",
            "this process is in a group already",
            fix="start processes once: outside of those that run or launch has started",
        )
    if mpi.started():
        raise DistributedError(
            "run",
            "this process is one of several that mpirun has started",
            fix="train with DistributedDataParallel in them, or start the script without mpirun",
        )
    payload = _pack(_preparation(), None, "call", (fn, tuple(args), {}))
    parent = _Beside(nprocs, payload, threads, timeout)
    with parent.joined() as engine:
        yield engine


def launch(
    script: str,
    argv: Sequence[str],
    nprocs: int,
    *,
    module: bool = False,
    seed: int | None = None,
    threads: int | None = None,
    timeout: float = group.TIMEOUT,
    max_restarts: int = 0,
    min_nprocs: int | None = None,
) -> None:
    """Run a script (or a module, as `python -m` does) in `nprocs` processes; see
    `minigrad.distributed.launch`."""
    if not module and not os.path.isfile(script):
        raise ArgumentError("launch", f"there is no file {script!r}", fix="pass the path of a script, or -m")
    payload = _pack(None, seed, "module" if module else "script", (script, list(argv)))
    _attempts(nprocs, payload, threads, timeout, max_restarts, min_nprocs)


def _attempts(
    nprocs: int, payload: bytes, threads: int | None, timeout: float, restarts: int, least: int | None
) -> list[Any]:
    """What the ranks return, after at most so many restarts."""
    if isinstance(restarts, bool) or not isinstance(restarts, int) or restarts < 0:
        raise ArgumentError("run", f"max_restarts is {restarts!r}", fix="pass 0 or more")
    if least is not None and not 1 <= least <= nprocs:
        raise ArgumentError("run", f"min_nprocs is {least!r} of {nprocs}", fix=f"pass 1 to {nprocs}")
    size = nprocs
    for count in range(restarts + 1):
        try:
            return _Parent(size, payload, threads, timeout, count).results()
        except DistributedError as error:
            if count == restarts:
                raise
            if error.lost and least is not None:
                size = max(least, size - 1)
            print(
                f"{error}\nminigrad.distributed: restart {count + 1} of {restarts}, with {size} ranks",
                file=sys.stderr,
                flush=True,
            )
    raise AssertionError("the last attempt returns or raises")


def _pack(preparation: Any, seed: int | None, kind: str, what: Any) -> bytes:
    """What a child is told; what it is to do is packed by itself, as it needs the script to be understood."""
    try:
        packed = bytes(reduction.ForkingPickler.dumps(what))
        if preparation is not None and b"__main__" not in packed:  # then the script is not needed, nor run
            preparation = {k: v for k, v in preparation.items() if not k.startswith("init_main")}
        elif preparation is not None and not _has_main(preparation):
            raise ArgumentError(
                "run",
                "the function, or something that it is given, was defined in an interactive session or by "
                "python -c, where other processes cannot import it",
                fix="write it to a file (in a notebook: %%writefile work.py), import it from there, and pass "
                "work.train",
            )
        return pickle.dumps((preparation, seed, kind, packed))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ArgumentError(
            "run",
            f"the function and its arguments cannot be sent to another process ({error})",
            fix="define the function at the top level of a module or script",
        ) from None


def _has_main(preparation: Mapping[str, Any]) -> bool:
    """Whether there is a file to import `__main__` from."""
    path = preparation.get("init_main_from_path")
    return "init_main_from_name" in preparation or (path is not None and os.path.isfile(path))


def _preparation() -> dict[str, Any]:
    """What a fresh interpreter needs to import the functions of this one's script."""
    data = spawn.get_preparation_data("rank")
    data.pop("authkey", None)  # not for this pickle, and not needed
    return data


class _Reached(BaseException):
    """A script that is being imported by a rank has come to the line that starts the ranks: what they need of
    it is above."""


class _Parent:
    """Whoever started the ranks."""

    def __init__(
        self, nprocs: int, payload: bytes, threads: int | None, timeout: float, restarts: int = 0
    ) -> None:
        if isinstance(nprocs, bool) or not isinstance(nprocs, int) or nprocs < 1:
            raise ArgumentError("run", f"{nprocs!r} processes", fix="pass an integer of at least 1")
        if not timeout > 0:
            raise ArgumentError("run", f"a timeout of {timeout!r}", fix="pass seconds, above 0")
        self.size, self.timeout, self.restarts = nprocs, timeout, restarts
        self.threads = max(1, processors() // nprocs) if threads is None else threads
        self.segment = Segment.create(nprocs)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.said: list[io.BytesIO] = []
        self.stacks: list[Any] = []
        self.selector = selectors.DefaultSelector()
        self.warned: set[tuple[int, int]] = set()
        self.payload = payload

    def results(self) -> list[Any]:
        """Wait for all ranks."""
        try:
            for rank in range(self.size):
                self._start(rank)
            return self._watch()
        finally:
            self._end()

    def _start(self, rank: int) -> None:
        read, write = os.pipe()
        payload, stack = _nameless(self.payload), _nameless(b"")
        environment = dict(os.environ) | dict.fromkeys(_THREADS, str(self.threads))
        environment |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.size),
            "RESTART_COUNT": str(self.restarts),
            "MINIGRAD_GROUP_FD": str(self.segment.fd),
            "MINIGRAD_GROUP_TIMEOUT": str(self.timeout),
        }
        fds = {"payload": payload.fileno(), "answer": write, "stack": stack.fileno(), "parent": os.getpid()}
        path = [p or os.getcwd() for p in sys.path]
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(path), json.dumps(fds)],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(self.segment.fd, fds["payload"], write, fds["stack"]),
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
            payload.close()
        self.processes.append(process)
        self.said.append(io.BytesIO())
        self.stacks.append(stack)
        self.selector.register(read, selectors.EVENT_READ, rank)

    def _watch(self, answers: dict[int, Any] | None = None) -> list[Any]:
        """Until all have answered, or one has failed.  answers: of those that need not be waited for."""
        answers = {} if answers is None else answers
        last_look = time.monotonic()
        while len(answers) < self.size:
            self._notice_interrupts()
            for key, _ in self.selector.select(timeout=0.1):
                rank = key.data
                data = os.read(key.fd, 1 << 20)
                if data:
                    self.said[rank].write(data)
                    continue
                self.selector.unregister(key.fd)
                os.close(key.fd)
                answers[rank] = self._answer(rank)
                if answers[rank][0] != "result":
                    self._fail(self._cause(rank, answers))
            if time.monotonic() > last_look + 0.25:
                last_look = time.monotonic()
                self._look(answers)
        return [answers[rank][1] for rank in range(self.size)]

    def _notice_interrupts(self) -> None:
        """Nothing: Python raises KeyboardInterrupt here."""

    def _answer(self, rank: int) -> Any:
        """What a rank said before it closed its pipe; how it ended, if that was nothing."""
        said = self.said[rank].getvalue()
        if said:
            with contextlib.suppress(Exception):
                return pickle.loads(said)  # what our own child has written
        try:
            code = self.processes[rank].wait(GRACE)
        except subprocess.TimeoutExpired:
            return "died", "closed its pipe without an answer", False
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return "died", how, False

    def _cause(self, rank: int, answers: dict[int, Any]) -> int:
        """Of the ranks that have failed so far, the one that is not only a consequence."""
        if not answers[rank][2]:
            return rank
        stop = time.monotonic() + GRACE / 2  # the culprit's own answer may be on its way
        while time.monotonic() < stop:
            for key, _ in self.selector.select(timeout=0.05):
                data = os.read(key.fd, 1 << 20)
                if data:
                    self.said[key.data].write(data)
                    continue
                self.selector.unregister(key.fd)
                os.close(key.fd)
                answer = self._answer(key.data)
                if answer[0] != "result" and not answer[2]:
                    answers[key.data] = answer
                    return int(key.data)
        return rank

    def _fail(self, rank: int, answer: Any = None) -> None:
        """Raise what rank `rank` is to blame for."""
        kind, text, _, *place = answer or self._answer(rank)
        self.segment.abort(rank)
        if kind == "error":
            at = f" at {place[0]}" if place[0] else ""
            problem, fix = f"rank {rank} of {self.size} raised{at}", "the traceback of that rank is below"
            if "which did not come" in text:
                late = [r for r in range(self.size) if r != rank and self._alive(r)]
                text += "".join(f"\nrank {r} was here:\n{self._stack(r)}" for r in late)
        else:
            problem, fix = f"rank {rank} of {self.size} {text}", f"it was last in {self.segment.doing(rank)}"
            text = ""
            self.processes[rank].kill()  # if it is still there, it does not answer
        error = DistributedError("run", problem, fix=fix)
        error.rank, error.lost = rank, kind != "error"
        if text:
            error.args = (f"{error}\n\n{text.rstrip()}",)
        raise error

    def _alive(self, rank: int) -> bool:
        return self.processes[rank].poll() is None

    def _stack(self, rank: int) -> str:
        """Where a rank is: the tracebacks of its threads."""
        stack = self.stacks[rank]
        before = os.fstat(stack.fileno()).st_size
        self.processes[rank].send_signal(signal.SIGUSR1)
        stop = time.monotonic() + 0.5
        while time.monotonic() < stop and os.fstat(stack.fileno()).st_size == before:
            time.sleep(0.02)
        time.sleep(0.02)
        text = os.pread(stack.fileno(), 1 << 16, before).decode(errors="replace")
        threads = text.split("\n\n")
        return threads[-1].strip() or "  (it does not answer)"

    def _look(self, answers: dict[int, Any]) -> None:
        """Heartbeats and waits."""
        seen = {
            rank: self.segment.watch(rank)
            for rank in range(self.size)
            if rank not in answers and self._alive(rank)
        }
        for rank, state in seen.items():
            if state.joined and not state.left and state.silent > SILENT:
                how = f"has stopped answering for {state.silent:.0f} s\n{self._stack(rank)}"
                self._fail(rank, ("died", how, False))
        waiting = [rank for rank, state in seen.items() if state.waiting > SLOW]
        late = [rank for rank, state in seen.items() if not state.waiting]
        for rank in late:
            turn = max((int(seen[w].turn) for w in waiting), default=0)
            if waiting and (rank, turn) not in self.warned:
                self.warned.add((rank, turn))
                names = " and ".join(map(str, waiting))
                print(
                    f"minigrad.distributed: rank {names} has waited {SLOW:g} s in "
                    f"{self.segment.doing(waiting[0])} for rank {rank}, which is here:\n{self._stack(rank)}",
                    file=sys.stderr,
                    flush=True,
                )

    def _end(self) -> None:
        """Whatever has happened: no process, descriptor or memory stays."""
        if any(self._alive(rank) for rank in range(len(self.processes))):
            failed = sys.exc_info()[0] is not None
            if failed:
                self.segment.abort(0)
            self._wait(GRACE / 2 if failed else GRACE)
            for stop in (subprocess.Popen.terminate, subprocess.Popen.kill):
                for process in self.processes:
                    if process.poll() is None:
                        stop(process)
                self._wait(GRACE)
        for key in list(self.selector.get_map().values()):
            os.close(int(key.fd))
        self.selector.close()
        for stack in self.stacks:
            stack.close()
        self.segment.close()

    def _wait(self, seconds: float) -> None:
        stop = time.monotonic() + seconds
        while time.monotonic() < stop and any(p.poll() is None for p in self.processes):
            time.sleep(0.01)


class _Myself:
    """The process that is rank 0 and parent at once, as if it were a child."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self.code: int | None = None

    def poll(self) -> int | None:
        """None while it takes part."""
        return self.code

    def send_signal(self, number: int) -> None:
        """Say where it is."""
        faulthandler.dump_traceback(self.stack, all_threads=True)

    def kill(self) -> None:
        """Not this one."""

    terminate = kill


class _Beside(_Parent):
    """The parent as rank 0: a thread watches over the others."""

    def __init__(self, nprocs: int, payload: bytes, threads: int | None, timeout: float) -> None:
        super().__init__(nprocs, payload, threads, timeout)
        stack = _nameless(b"")
        self.stacks.append(stack)
        self.me = _Myself(stack)
        self.processes.append(self.me)  # type: ignore[arg-type]
        self.said.append(io.BytesIO())
        self.failure: BaseException | None = None
        self.interrupts = -1

    @contextlib.contextmanager
    def joined(self) -> Iterator[Engine]:
        """Rank 0 inside."""
        watcher = threading.Thread(target=self._guard, name="minigrad watcher", daemon=True)
        lib = self.segment.lib
        before = lib.mg_num_threads()
        lib.mg_set_num_threads(self.threads)
        try:
            for rank in range(1, self.size):
                self._start(rank)
            segment = Segment(os.dup(self.segment.fd), self.segment.length)
            engine = Shared(segment, 0, self.timeout)
            group.join(engine)
            watcher.start()
            with self._interrupted():
                try:
                    yield engine
                    group.destroy_process_group()
                    self.me.code = 0
                    watcher.join()
                except BaseException:
                    self.segment.abort(0)
                    raise
            if self.failure is not None:
                raise self.failure
        except DistributedError as error:
            if watcher.is_alive():
                watcher.join(2 * GRACE)
            if self.failure is not None and "has failed" in error.problem:
                raise self.failure from None
            raise
        finally:
            group.destroy_process_group()
            lib.mg_set_num_threads(before)
            if watcher.is_alive():  # it ends when all others have
                watcher.join(GRACE / 2)
                for process in self.processes[1:]:
                    process.kill()
                watcher.join()
            self.me.code = 0
            self._end()

    def _guard(self) -> None:
        """The life of the watcher."""
        try:
            self._watch({0: ("result", None)})
        except BaseException as error:
            self.failure = error

    def _notice_interrupts(self) -> None:
        if self.interrupts >= 0 and select.select([self.interrupts], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                if signal.SIGINT in os.read(self.interrupts, 64):
                    self.segment.abort(0)

    @contextlib.contextmanager
    def _interrupted(self) -> Iterator[None]:
        """Ctrl-C ends a wait for another rank: Python itself would notice it only afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self.interrupts = read
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            self.interrupts = -1
            os.close(write)
            os.close(read)


def _nameless(content: bytes) -> Any:
    """An open file without a name."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (who asked for it closes it)
    file.write(content)
    file.flush()
    return file


# -- the other side
# ------------------------------------------------------------------------------------------------------


def _child() -> None:
    """The life of a rank; see `_BOOT`."""
    global _importing_main
    fds = json.loads(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, too, and ends us in good order
    faulthandler.register(signal.SIGUSR1, file=fds["stack"], all_threads=True)
    threading.Thread(target=_outlive_nobody, args=(fds["parent"],), daemon=True).start()
    rank = int(os.environ["RANK"])
    code = 0
    answer: tuple[Any, ...]
    try:
        payload = os.pread(fds["payload"], os.fstat(fds["payload"]).st_size, 0)
        preparation, seed, kind, what = pickle.loads(payload)  # from our own parent
        if seed is not None:
            manual_seed(seed + rank)
        if kind == "call":
            prepare = _Preparation(preparation)
            fn, args, kwargs = prepare.loads(what)
            group.init_process_group()
            answer = "result", fn(*args, **kwargs)
        else:
            script, argv = pickle.loads(what)
            sys.argv[:] = [script, *argv]
            if kind == "module":
                runpy.run_module(script, run_name="__main__", alter_sys=True)
            else:
                sys.path[0] = os.path.dirname(os.path.abspath(script))
                runpy.run_path(script, run_name="__main__")
            answer = "result", None
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        text = f"ended with {error.code!r}"
        answer = ("result", None) if code == 0 else ("died", text, False)
    except BaseException as error:
        code = 1
        secondary = isinstance(error, DistributedError) and "has failed" in error.problem
        place = short_line(raised_at(error))
        answer = "error", _traceback(error), secondary, place
    try:
        packed = bytes(reduction.ForkingPickler.dumps(answer))
    except Exception as error:
        code = 1
        text = f"its result cannot be sent to the parent: {error!r}; return numbers, arrays or tensors"
        packed = pickle.dumps(("error", text, False, ""))
    if answer[0] == "result":
        group.destroy_process_group()
    with contextlib.suppress(BrokenPipeError), os.fdopen(fds["answer"], "wb") as pipe:
        pipe.write(packed)
    sys.stdout.flush()
    sys.stderr.flush()
    if answer[0] != "result":
        os._exit(code or 1)
    sys.exit(code)


class _Preparation:
    """The state of the parent's interpreter, as far as a rank needs it.

    The script is imported only if the function or its arguments refer to it, up to the line where it starts
    processes: the guard `if __name__ == "__main__":` may be missing."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.name, self.path = data.pop("init_main_from_name", None), data.pop("init_main_from_path", None)
        self.imported = self.name is None and self.path is None
        spawn.prepare(data)

    def loads(self, packed: bytes) -> Any:
        """What the parent has packed."""

        class Unpickler(pickle.Unpickler):
            def find_class(_, module: str, name: str) -> Any:
                if module == "__main__":
                    self.import_main()
                return super().find_class(module, name)

        return Unpickler(io.BytesIO(packed)).load()  # what our own parent has written

    def import_main(self) -> None:
        """The parent's script, as the module `__main__`."""
        global _importing_main
        if self.imported:
            return
        self.imported = True
        module = types.ModuleType("__mp_main__")
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module
        path = self.path
        if self.name is not None:
            found = importlib.util.find_spec(self.name)
            assert found is not None
            path, module.__package__, module.__spec__ = found.origin, found.parent, found
        module.__file__ = path
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec")
        _importing_main = True
        try:
            exec(code, module.__dict__)
        except _Reached:
            if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
                print(
                    f"minigrad.distributed: each process runs {path} as far as the call that starts them; "
                    'put that under `if __name__ == "__main__":` to have only definitions run',
                    file=sys.stderr,
                    flush=True,
                )
        finally:
            _importing_main = False


def _outlive_nobody(parent: int) -> None:
    """End this process when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)


def _traceback(error: BaseException) -> str:
    """A traceback that begins at the user's code."""
    frames = error.__traceback__
    ours = (__file__, "<string>", "<frozen runpy>")
    while frames is not None and frames.tb_frame.f_code.co_filename in ours:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))
