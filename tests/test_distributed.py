"""Groups of processes: collectives, data parallel training, faults."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed_workers as work
import numpy as np
import pytest

import minigrad as mg
from minigrad import distributed as dist
from minigrad import nn
from minigrad.distributed.engine import Alone, Segment, Shared

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="the C kernels are not built")
ROOT = Path(__file__).parent.parent


def children():
    """Processes that this one has started and that have not ended."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    ).stdout
    return [line for line in listed.splitlines() if "launching._child" in line]


@pytest.fixture(autouse=True)
def nothing_is_left():
    shm = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    fds = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    yield
    assert not children()
    if os.path.isdir("/dev/shm"):
        assert set(os.listdir("/dev/shm")) <= shm or not [
            f for f in os.listdir("/dev/shm") if "minigrad" in f
        ]
    if fds:
        assert len(os.listdir("/proc/self/fd")) <= fds


# -- collectives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4])
def test_collectives(size):
    assert dist.run(work.collectives, size) == [[]] * size


@pytest.mark.parametrize("size", [2, 3])
def test_further_collectives(size):
    assert dist.run(work.more_collectives, size) == [[]] * size


def test_ranks_that_gather_differently_are_told():
    for message in dist.run(work.differing_gathers, 2):
        assert "calls gather (root, bytes: [0, 8]) while rank" in message or "[1, 8]) while rank" in message


def test_what_torch_has_and_this_has_not_says_why():
    with pytest.raises(AttributeError, match=r"has no isend: .* use send and recv"):
        dist.isend  # noqa: B018
    assert not hasattr(dist, "nothing_of_the_kind")


def test_nan_is_kept_in_max():
    assert np.isnan(dist.run(work.nan_is_kept, 2)).all()


def test_a_captured_program_reduces():
    expected = [[2.0 * (2 * k + 1) + 1] * 3 for k in range(3)]
    assert dist.run(work.captured_all_reduce, 2) == [expected] * 2


def test_in_a_program_a_reduction_is_an_instruction():
    """And when the group has been left, the program says so and touches no memory."""
    from minigrad.execute.program import Program
    from minigrad.ops import collective

    group = Shared(Segment.create(1, slot=4096, mail=256), 0, timeout=1.0)
    graph = mg.trace(
        lambda x: collective.all_reduce(x * 2.0, group, "mean", 5.0) + 1.0, mg.Spec((3,), mg.float32)
    )
    program = Program(graph)
    assert [i.kernel for i in program.instructions] == ["lanes", "all_reduce", "lanes"]
    assert program.whole
    x = np.ones(3, np.float32)
    assert program(x)[0].tolist() == [3.0, 3.0, 3.0]
    group.close()
    with pytest.raises(dist.DistributedError, match="the group was left"):
        program(x)


def test_what_is_reduced_lies_where_others_reach_it():
    """Large values only; the result takes the place of what nobody else reads; and memory comes back."""
    from minigrad.execute.program import Program
    from minigrad.ops import collective

    group = Shared(Segment.create(1, slot=4096, mail=256), 0, timeout=1.0)

    def f(x):
        y = collective.all_reduce(x * 2.0, group) + 1.0
        z = x.sin()
        return y, collective.all_reduce(z, group) * z, collective.all_reduce(x[:3].exp(), group) * 2.0

    def program():
        return Program(mg.trace(f, mg.Spec((10_000,), mg.float32)))

    first = program()
    reduced = first._bases["reduced"]
    places = [p.operands for p in first.instructions if p.kernel == "all_reduce"]
    assert [[place.base == reduced for place in pair] for pair in places] == [
        [True] * 2,
        [True] * 2,
        [False] * 2,
    ]
    assert places[0][0].offset == places[0][1].offset
    assert places[1][0].offset != places[1][1].offset
    x = np.linspace(0, 1, 10_000, dtype=np.float32)
    np.testing.assert_allclose(first(x)[0], x * 2 + 1, rtol=1e-6)
    np.testing.assert_allclose(first(x)[1], np.sin(x) ** 2, rtol=1e-6)
    second = program()
    where = [p._reduced.memory.__array_interface__["data"][0] for p in (first, second)]
    assert where[1] - where[0] >= first._reduced.memory.size
    del first
    third = program()
    assert third._reduced.memory.__array_interface__["data"][0] == where[0]
    assert group.shared(1 << 40) is None
    group.close()
    with pytest.raises(dist.DistributedError, match="the group was left") as caught:
        second(x)
    del second, third, caught  # the last users of the memory
    gc.collect()


def test_backward_writes_large_gradients_where_they_are_reduced():
    """Into memory that all ranks reach, where the sum takes their place and the optimizer reads it: nothing
    is copied but small gradients, which are laid end to end."""
    for found, copies in dist.run(work.way_of_gradients, 2):
        large, (small,) = found[:2], found[2:]
        assert large == [("gemm", True, True, ["lanes"])] * 2
        assert small[1] is False
        assert copies == 4  # three biases and the last weight


def test_without_a_group_a_process_is_one_of_one():
    x = mg.tensor([1.0, 2.0])
    assert dist.all_reduce(x) is x
    assert x.tolist() == [1.0, 2.0]
    assert dist.get_rank() == 0
    assert dist.get_world_size() == 1
    assert not dist.is_initialized()
    everyone = [mg.zeros(2)]
    dist.all_gather(everyone, x)
    assert everyone[0].tolist() == [1.0, 2.0]
    assert dist.average(3.0) == 3.0
    with pytest.raises(mg.Error, match="group of one"):
        Alone().send(x.numpy(), 0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: dist.all_reduce(x, "median"), "no reduction 'median'; use one of sum"),
        (lambda x: dist.all_reduce(x.long(), "mean"), "mean of int64"),
        (lambda x: dist.all_reduce([1.0]), "a list is no tensor"),
        (lambda x: dist.broadcast(x, 1), "rank 1 of a group of 1"),
        (lambda x: dist.all_gather([x, x], x), "2 tensors for a group of 1"),
        (lambda x: dist.all_gather([mg.zeros(3)], x), "make all of them alike"),
        (lambda x: dist.init_process_group("nccl"), "no backend 'nccl'"),
        (lambda x: dist.run(work.collectives, 0), "0 processes"),
        (lambda x: dist.run(lambda: 0, 2), "cannot be sent"),
        (lambda x: dist.run(3, 2), "3 is no function"),
        (lambda x: dist.run(work.collectives, 2, timeout=0), "a timeout of 0"),
    ],
)
def test_wrong_calls_say_so(call, match):
    with pytest.raises(mg.Error, match=match):
        call(mg.tensor([1.0, 2.0]))


def test_a_wait_ends_in_this_process_too():
    """Who comes alone gives up at its deadline, and at once if another one has failed."""
    segment = Segment.create(2, slot=4096, mail=256)
    mine = Shared(segment, 0, timeout=0.2)
    began = time.monotonic()
    with pytest.raises(dist.DistributedError, match=r"rank 0 waited 0.2 s for rank 1"):
        mine.barrier()
    assert time.monotonic() - began < 2
    began = time.monotonic()
    with pytest.raises(dist.DistributedError, match=r"rank 0 waited 0.2 s for rank 1"):
        mine.all_reduce(np.ones(3), "sum", 1.0)  # nobody knows any more how far the others are
    assert time.monotonic() - began < 0.1
    mine.close()
    other = Shared(Segment.create(2, slot=4096, mail=256), 1, timeout=20.0)
    other.segment.abort(0)
    with pytest.raises(dist.DistributedError, match="rank 0 has failed"):
        other.barrier()
    other.close()


# -- data parallel -----------------------------------------------------------------------------------------


def difference(a, b):
    return max(float(np.abs(a[k] - b[k]).max() / np.abs(b[k]).max()) for k in a)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("compiled", [False, True])
def test_ranks_equal_one_process(compiled, optimizer):
    """After 50 steps with last batches that are uneven; and all ranks have the same bits."""
    (one,) = dist.run(work.train, 1, (12, compiled, "float64", optimizer))
    for size in (2, 4):
        ranks = dist.run(work.train, size, (12, compiled, "float64", optimizer))
        assert difference(ranks[0], one) <= 1e-12
        for other in ranks[1:]:
            assert all((other[k] == ranks[0][k]).all() for k in one)


def test_the_same_bits_from_run_to_run():
    first, second = (dist.run(work.train, 2, (16, True, "float32"), {"steps": 20})[1] for _ in range(2))
    assert all((first[k] == second[k]).all() for k in first)


def test_an_unused_parameter_is_named():
    with pytest.raises(dist.DistributedError, match=r"did not reach extra\.bias, extra\.weight"):
        dist.run(work.train, 2, (12, False, "float64"), {"steps": 1, "unused": True})


def test_unused_parameters_if_allowed():
    options = {"steps": 10, "unused": True, "find": True}
    (one,) = dist.run(work.train, 1, (12, False, "float64"), options)
    two = dist.run(work.train, 2, (12, False, "float64"), options)
    assert difference(two[1], one) <= 1e-12


def test_running_means_are_those_of_all_ranks():
    options = {"steps": 6, "norm": True}
    for compiled in (False, True):
        a, b = dist.run(work.train, 2, (12, compiled, "float64"), options)
        assert all((a[k] == b[k]).all() for k in a)


def test_gradients_accumulate_without_averaging():
    (alone0, both0), (alone1, both1) = dist.run(work.accumulate, 2)
    assert (both0 == both1).all()
    assert not (alone0 == alone1).all()
    model = nn.Linear(3, 2)
    with mg.no_grad():
        for p in model.parameters():
            p.assign(mg.ones(*p.shape))
    model(mg.tensor(np.arange(24.0, dtype=np.float32).reshape(8, 3))).square().mean().backward()
    np.testing.assert_allclose(both0, model.weight.grad.numpy(), rtol=1e-6)


def test_ranks_may_have_different_numbers_of_batches():
    """join(): each step is that of the examples that there are; in the end all have the last ones' model."""
    ranks = dist.run(work.uneven_batches, 2)
    start, found, errors = ranks[1]
    inner = nn.Sequential(nn.Linear(70, 256), nn.BatchNorm1d(256), nn.Tanh(), nn.Linear(256, 2)).double()
    inner.load_state_dict({n: mg.tensor(v) for n, v in start.items()})
    inner[1].eval()
    sgd = mg.optim.SGD(inner.parameters(), lr=0.1, momentum=0.9)
    for k in range(5):
        parts = [work.uneven_batch(r, k, c[k]) for r, c in enumerate(work.UNEVEN) if k < len(c)]
        x, y = (mg.tensor(np.concatenate([p[i].numpy() for p in parts])) for i in range(2))
        sgd.zero_grad()
        nn.functional.mse_loss(inner(x), y).backward()
        sgd.step()
    for name, expected in inner.state_dict().items():
        np.testing.assert_allclose(found[name], expected.detach().numpy(), rtol=1e-11, atol=1e-14)
        assert (ranks[0][1][name] == found[name]).all()
    assert "some ranks have no more batches" in errors[0]
    assert "some ranks have no more batches" in ranks[0][2][0]
    assert "a captured step does the same reductions each time" in errors[1]
    model = dist.DistributedDataParallel(nn.Linear(2, 2))
    with model.join():
        model(mg.ones(1, 2))
    with pytest.raises(mg.Error, match="there are processors only"):
        dist.DistributedDataParallel(nn.Linear(2, 2), device_ids=[0])


def test_models_that_differ_are_refused():
    with pytest.raises(
        dist.DistributedError, match=r"rank [01] has weight float32.* where rank [01] has weight"
    ):
        dist.run(work.another_model, 2)


def test_a_leaf_is_complete_before_the_walk_ends():
    """The hook of a parameter runs when its gradient is there, the last layer's first."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    seen = []
    for k, layer in enumerate(model.children()):
        layer.weight.register_post_accumulate_grad_hook(lambda p, k=k: seen.append(k))
    x = mg.ones(3, 2, requires_grad=True)
    x.register_hook(lambda g: seen.append("input"))
    y = model(x)
    y.sum().backward()
    assert seen[:3] == [2, 1, 0]


# -- sampler -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size"), [(10, 2), (11, 2), (3, 4), (7, 3)])
def test_a_sampler_deals_out_all_examples(count, size):
    dealt = [list(dist.DistributedSampler(range(count), size, r)) for r in range(size)]
    assert {len(d) for d in dealt} == {-(-count // size)}
    assert {i for d in dealt for i in d} == set(range(count))
    dropped = [list(dist.DistributedSampler(range(count), size, r, drop_last=True)) for r in range(size)]
    assert {len(d) for d in dropped} == {count // size}
    assert len({i for d in dropped for i in d}) == count // size * size


def test_epochs_have_orders_of_their_own():
    sampler = dist.DistributedSampler(range(50), 2, 0)
    first = list(sampler)
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert first != list(sampler)
    with pytest.raises(mg.Error, match="rank 2 of 2"):
        dist.DistributedSampler(range(5), 2, 2)


# -- starting and faults ------------------------------------------------------------------------------------


def test_threads_are_shared_out_and_seeds_differ():
    found = dist.run(work.threads_and_seed, 2, seed=5)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    expected = max(1, processors // 2)
    assert [f[:2] for f in found] == [(expected, str(expected))] * 2
    mg.manual_seed(6)
    assert found[1][2] == mg.rand(2).tolist()
    assert found[0][2] != found[1][2]


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("raise", r"(?s)rank 1 of 2 raised.*KeyError: 'planted'"),
        ("kill", "rank 1 of 2 was killed by SIGKILL"),
        ("stop", "rank 1 of 2 has stopped answering"),
        ("hang", r"(?s)rank 0 waited 2 s for rank 1, which did not come.*rank 1 was here:.*in fail"),
        ("exit", "rank 1 of 2 ended with exit code 7"),
        ("leave", "rank 1 has left the group"),
        ("differ", r"calls all_reduce\(sum\) of [34] float32 while rank . calls all_reduce\(sum\) of [34]"),
    ],
)
def test_a_rank_that_fails_is_reported(how, match):
    began = time.monotonic()
    with pytest.raises(dist.DistributedError, match=match) as caught:
        dist.run(work.fail, 2, (how,), timeout=2 if how == "hang" else 30)
    assert time.monotonic() - began < 10
    assert caught.value.rank == (1 if how in ("raise", "kill", "stop", "exit") else caught.value.rank)


@pytest.mark.soak
def test_soak():
    """Launches with a fault at a random moment: each is reported, in time, and leaves nothing."""
    rng = np.random.default_rng(int(os.environ.get("SOAK_SEED", "0")))
    slowest = 0.0
    for _ in range(int(os.environ.get("SOAK_LAUNCHES", "200"))):
        how = str(rng.choice(["raise", "kill", "stop", "hang", "exit"]))
        size, after = int(rng.choice([2, 3, 4])), float(rng.uniform(0, 0.3))
        culprit = int(rng.integers(size))
        began = time.monotonic()
        with pytest.raises(dist.DistributedError) as caught:
            dist.run(work.fail_later, size, (how, culprit, after), timeout=3)
        taken = time.monotonic() - began
        slowest = max(slowest, taken)
        assert f"rank {culprit}" in str(caught.value), (how, caught.value)
        assert taken < 10, (how, taken)
        assert not children()
    print(f"slowest {slowest:.1f} s")


def test_a_result_that_cannot_travel():
    with pytest.raises(dist.DistributedError, match="result cannot be sent"):
        dist.run(work.return_a_function, 2)


def script(tmp_path, text):
    path = tmp_path / "train.py"
    path.write_text(text)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return path, environment


def test_the_guard_may_be_missing(tmp_path):
    """What stands above the call is there in all processes; what stands below is not reached."""
    path, environment = script(
        tmp_path,
        "import minigrad as mg\nfrom minigrad import distributed as dist\ndef f(): return dist.get_rank()\n"
        "print(dist.run(f, 2))\ndist.run(g, 2)\n",
    )
    done = subprocess.run(
        [sys.executable, path], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode
    assert done.stdout == "[0, 1]\n"
    assert done.stderr.count('put that under `if __name__ == "__main__":`') == 1
    assert "NameError: name 'g' is not defined" in done.stderr


@pytest.mark.parametrize("how", ["-c", "-", "-i"])
def test_an_interactive_session_is_told_what_to_do(how):
    """Functions of modules run from there; those of the session cannot be imported by others."""
    text = (
        "from minigrad import distributed as d\ndef f(): return 1\n\nprint(d.run(len, 2, ([1],)))\n"
        "d.run(f, 2)\n"
    )
    done = subprocess.run(
        [sys.executable, how, *([text] if how == "-c" else [])],
        input=None if how == "-c" else text,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "[1, 1]" in done.stdout
    assert done.stderr.count("was defined in an interactive session or by python -c") == 1
    assert "%%writefile work.py" in done.stderr


def test_ctrl_c_ends_everything(tmp_path):
    path, environment = script(
        tmp_path,
        "import distributed_workers as w, minigrad as mg\n"
        "if __name__ == '__main__':\n    mg.distributed.run(w.sleep, 2)\n",
    )
    process = subprocess.Popen([sys.executable, path], env=environment, stderr=subprocess.PIPE, text=True)
    ranks = []
    for _ in range(200):
        time.sleep(0.05)
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
        )
        ranks = listed.stdout.split()
        if len(ranks) == 2:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=10)[1]
    assert len(ranks) == 2
    assert not any(os.path.exists(f"/proc/{pid}") for pid in ranks)


def test_a_script_is_launched(tmp_path):
    path, environment = script(
        tmp_path,
        "import sys, minigrad as mg\nfrom minigrad import distributed as dist\n"
        "dist.init_process_group()\nx = dist.all_reduce(mg.tensor([dist.get_rank() + 1.0]))\n"
        "if dist.get_rank() == 0: print(sys.argv[1:], x.item(), __name__)\n"
        "if '--fail' in sys.argv and dist.get_rank() == 1: raise ValueError('planted')\n"
        "dist.barrier()\n",
    )
    command = [sys.executable, "-m", "minigrad.distributed.launch", "--nproc", "2", path]
    done = subprocess.run(
        [*command, "--lr", "1"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("['--lr', '1'] 3.0 __main__\n", 0)
    failed = subprocess.run(
        [*command, "--fail"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert failed.returncode == 1
    assert "rank 1 of 2 raised" in failed.stderr
    assert "ValueError: planted" in failed.stderr


# -- going on after a fault ---------------------------------------------------------------------------------


def test_errors_of_a_launched_script_name_its_line(tmp_path):
    """And nothing of what starts it."""
    path, environment = script(
        tmp_path, "import minigrad as mg\nmg.distributed.init_process_group()\nmg.zeros(2) @ mg.zeros(3)\n"
    )
    for given, expected in (
        (path, "of 2 raised at train.py:3; the traceback of that rank is below\n"),
        (tmp_path / "none.py", "none.py'; pass the path of a script, or -m\n"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "minigrad.distributed.launch", "--nproc", "2", given],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert expected in done.stderr
        assert "runpy" not in done.stderr


def environment_ranks(tmp_path, text, size, ranks=None, **more):
    """Processes as torchrun would start them; what they wrote."""
    path, environment = script(tmp_path, text)
    environment |= {"WORLD_SIZE": str(size), "MASTER_PORT": str(20000 + os.getpid() % 10000), **more}
    processes = [
        subprocess.Popen(
            [sys.executable, path],
            env=environment | {"RANK": str(r)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in (range(size) if ranks is None else ranks)
    ]
    return [(p.wait(30), p.stdout.read(), p.stderr.read()) for p in processes]


@pytest.mark.skipif(sys.platform != "linux", reason="sockets without a file")
def test_ranks_meet_by_environment_variables(tmp_path):
    """As torchrun starts them: they compute together; one that is killed ends the others' waits."""
    text = (
        "import os, signal, minigrad as mg\nfrom minigrad import distributed as dist\n"
        "dist.init_process_group('gloo')\nx = mg.tensor([dist.get_rank() + 1.0])\ndist.all_reduce(x)\n"
        "print(x.item(), dist.get_backend())\n"
        "if 'FAULT' in os.environ and dist.get_rank() == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "dist.barrier()\ndist.destroy_process_group()\n"
    )
    for code, out, err in environment_ranks(tmp_path, text, 3):
        assert (code, out) == (0, "6.0 shm\n"), err
    began = time.monotonic()
    (code, _, err), (killed, _, _) = environment_ranks(tmp_path, text, 2, FAULT="1")
    assert code == 1
    assert "rank 1 has failed" in err
    assert killed == -signal.SIGKILL
    assert time.monotonic() - began < 8
    late = text.replace("'gloo'", "timeout=1.0")
    ((code, _, err),) = environment_ranks(tmp_path, late, 2, ranks=[0])
    assert code == 1
    assert "rank 1 of 2 did not come (MASTER_ADDR=127.0.0.1" in err
    ((code, _, err),) = environment_ranks(tmp_path, late, 2, ranks=[1])
    assert "rank 0 did not come for rank 1 of 2" in err
    ((code, _, err),) = environment_ranks(tmp_path, late, 4, ranks=[1], LOCAL_WORLD_SIZE="2")
    assert "4 ranks of which 2 are on this host" in err
    assert "mpirun" in err


def test_training_goes_on_with_fewer_ranks(tmp_path, capfd):
    """A rank is killed in step 12; two of three go on from step 10, and end where one process would."""
    ((_, alone),) = dist.run(work.elastic, 1, (str(tmp_path / "one"), 20, None))
    found = dist.run(work.elastic, 3, (str(tmp_path / "three"), 20, 12), max_restarts=2, min_nprocs=1)
    said = capfd.readouterr()
    assert [size for size, _ in found] == [2, 2]
    assert "rank 2 of 3 was killed by SIGKILL" in said.err
    assert "restart 1 of 2, with 2 ranks" in said.err
    assert "2 ranks begin with step 10" in said.out
    for name, expected in alone.items():
        np.testing.assert_allclose(found[0][1][name], expected, rtol=1e-4, atol=1e-5)


def test_restarts_come_to_an_end(capfd):
    with pytest.raises(dist.DistributedError, match="rank 1 of 2 raised"):
        dist.run(work.fail, 2, ("raise",), max_restarts=1, min_nprocs=1)
    assert "restart 1 of 1, with 2 ranks" in capfd.readouterr().err  # who raised was not lost
    for options in ({"max_restarts": -1}, {"min_nprocs": 3}):
        with pytest.raises(mg.Error, match=r"max_restarts is -1|min_nprocs is 3 of 2"):
            dist.run(work.fail, 2, ("raise",), **options)
