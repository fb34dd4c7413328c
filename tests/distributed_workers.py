"""What the processes of the tests in test_distributed.py do; each is a function that a rank imports and
calls."""

import os
import signal
import sys
import time

import numpy as np

import minigrad as mg
from minigrad import distributed as dist
from minigrad import nn


def collectives():
    """Every collective once, in sizes that take one buffer, both ways to reduce, and several buffers."""
    rank, size = dist.get_rank(), dist.get_world_size()
    found = {}
    for n in (1, 1000, 20_011, 2_100_003):
        for dtype in ("float32", "float64", "int64") if n < 10**6 else ("float64",):
            parts = [np.random.default_rng([n, r]).normal(size=n).astype(dtype) * 3 for r in range(size)]
            for op, expected in (
                ("sum", sum(parts[1:], parts[0])),
                ("max", np.maximum.reduce(parts)),
                ("min", np.minimum.reduce(parts)),
            ):
                y = dist.all_reduce(mg.tensor(parts[rank].copy()), op).numpy()
                found[n, dtype, op] = bool((y == expected).all())
    x = mg.tensor([float(rank + 1)] * 3)
    found["mean"] = dist.all_reduce(x.clone(), "mean").tolist() == [(size + 1) / 2] * 3
    found["prod"] = (
        dist.all_reduce(x.clone(), "prod").tolist() == [float(np.prod(np.arange(1, size + 1)))] * 3
    )
    found["bool"] = dist.all_reduce(mg.tensor([rank == 0, False])).tolist() == [True, False]
    found["reduce"] = dist.reduce(x.clone(), size - 1).tolist() == (
        [size * (size + 1) / 2] * 3 if rank == size - 1 else x.tolist()
    )
    found["broadcast"] = dist.broadcast(x.clone(), size - 1).tolist() == [float(size)] * 3
    everyone = [mg.zeros(3) for _ in range(size)]
    dist.all_gather(everyone, x)
    found["all_gather"] = [t[0].item() for t in everyone] == [r + 1.0 for r in range(size)]
    parts = [mg.full((2,), 10.0 * r + rank) for r in range(size)]
    scattered = dist.reduce_scatter(mg.zeros(2), parts)
    found["reduce_scatter"] = scattered.tolist() == [10.0 * rank * size + size * (size - 1) / 2] * 2
    strided = mg.tensor(np.full((4, 6), rank + 1.0))[:, ::2]
    found["strided"] = bool((dist.all_reduce(strided).numpy() == size * (size + 1) / 2).all())
    if size > 1:  # a message larger than a mailbox, in a circle
        message, got = mg.full((100_000,), float(rank)), mg.zeros(100_000)
        if rank == 0:
            dist.send(message, 1)
            dist.recv(got, size - 1)
        else:
            dist.recv(got, rank - 1)
            dist.send(message, (rank + 1) % size)
        found["ring"] = set(got.tolist()) == {float((rank - 1) % size)}
    dist.barrier()
    return [str(key) for key, right in found.items() if not right]


def normal(rank):
    return np.random.default_rng([9, rank]).normal(size=5000).astype(np.float32)


def reduce_normal():
    x = mg.tensor(normal(dist.get_rank()))
    return {op: dist.all_reduce(x.clone(), op).numpy() for op in ("sum", "mean", "prod", "max", "min")}


def nan_is_kept():
    x = mg.tensor([float("nan"), 1.0] if dist.get_rank() else [1.0, float("nan")])
    return dist.all_reduce(x, "max").tolist()


class Net(nn.Module):
    def __init__(self, norm, unused=False):
        super().__init__()
        self.first = nn.Linear(6, 150)
        self.norm = nn.BatchNorm1d(150) if norm else nn.Tanh()
        self.second = nn.Linear(150, 140)
        self.last = nn.Linear(140, 3)
        if unused:
            self.extra = nn.Linear(2, 2)

    def forward(self, x):
        return self.last(self.second(self.norm(self.first(x))).relu())


def train(batch, compiled, dtype, optimizer="sgd", steps=50, unused=False, find=False, norm=False):
    """Parameters after some steps, each on `batch` examples that the ranks share as evenly as they can."""
    rank, size = dist.get_rank(), dist.get_world_size()
    mg.manual_seed(7 + 100 * rank)  # the model of rank 0 is the one that counts
    inner = Net(norm, unused).to(dtype)
    model = dist.DistributedDataParallel(inner, find_unused_parameters=find)
    make = {
        "sgd": lambda p: mg.optim.SGD(p, lr=0.05, momentum=0.9),
        "adam": lambda p: mg.optim.Adam(p, lr=1e-3),
    }
    stepper = make[optimizer](model.parameters())

    def step(x, t):
        stepper.zero_grad()
        loss = nn.functional.mse_loss(model(x), t)
        loss.backward()
        stepper.step()
        return loss.detach()

    run = mg.compile(step) if compiled else step
    rng = np.random.default_rng(3)
    cut = [batch * r // size for r in range(size + 1)]
    for k in range(steps):
        n = batch if k % 5 else batch - 1  # a last batch that is smaller, and not the same on all ranks
        x, t = rng.normal(size=(batch, 6)).astype(dtype), rng.normal(size=(batch, 3)).astype(dtype)
        mine = slice(cut[rank], min(cut[rank + 1], n))
        run(mg.tensor(x[mine]), mg.tensor(t[mine]))
    return {name: p.detach().numpy() for name, p in inner.state_dict().items()}


def accumulate():
    """Two halves of a batch under no_sync, then averaged at once."""
    rank = dist.get_rank()
    model = nn.Linear(3, 2)
    with mg.no_grad():
        for p in model.parameters():
            p.assign(mg.ones(*p.shape))
    model = dist.DistributedDataParallel(model)
    x = mg.tensor(np.arange(24.0, dtype=np.float32).reshape(8, 3))[4 * rank : 4 * rank + 4]
    with model.no_sync():
        (model(x[:2]).square().mean() / 2).backward()
    alone = model.module.weight.grad.numpy().copy()
    (model(x[2:]).square().mean() / 2).backward()
    return alone, model.module.weight.grad.numpy()


def way_of_gradients():
    """Of a captured step: (who wrote what is reduced, is it in shared memory, is the sum in its place, does
    the optimizer read it there), for each reduction; and how many copies there are."""
    model = nn.Sequential(nn.Linear(70, 300), nn.ReLU(), nn.Linear(300, 60), nn.ReLU(), nn.Linear(60, 2))
    model = dist.DistributedDataParallel(model)
    sgd = mg.optim.SGD(model.parameters(), lr=0.1)

    @mg.compile
    def step(x, y):
        sgd.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        sgd.step()

    step(mg.ones(8, 70), mg.ones(8, 2))
    ((entry,),) = step._cache.values()
    program, found = entry.execute, []
    for at, instruction in enumerate(program.instructions):
        if instruction.kernel != "all_reduce":
            continue
        x, y = [(place.base, place.offset) for place in instruction.operands]
        before = [i for i in program.instructions[:at] if (i.operands[-1].base, i.operands[-1].offset) == x]
        after = [
            i.kernel
            for i in program.instructions[at + 1 :]
            if any((place.base, place.offset) == y for place in i.operands)
        ]
        writer = before[-1].kernel if before else ""
        found.append((writer, x[0] == program._bases["reduced"], x == y, after[:1]))
    return found, sum(i.kernel == "copy" for i in program.instructions)


UNEVEN = ([4, 3, 2], [5, 1, 3, 2, 4])  # examples in the batches of each rank


def uneven_batches():
    """Three batches on rank 0, five on rank 1; with buffers, accumulation, and what is refused."""
    rank, size = dist.get_rank(), dist.get_world_size()
    mg.manual_seed(rank)
    inner = nn.Sequential(nn.Linear(70, 256), nn.BatchNorm1d(256), nn.Tanh(), nn.Linear(256, 2)).double()
    model = dist.DistributedDataParallel(inner)
    inner[1].eval()  # uses its statistics, which are averaged all the same
    start = {n: p.detach().numpy().copy() for n, p in inner.state_dict().items()}
    sgd = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with model.join():
        for k, count in enumerate(UNEVEN[rank] if size > 1 else ()):
            x, y = uneven_batch(rank, k, count)
            sgd.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            sgd.step()
    found = {n: p.detach().numpy().copy() for n, p in inner.state_dict().items()}
    errors = []
    try:
        with model.join(throw_on_early_termination=True):
            for k in range(rank + 1):
                model(uneven_batch(rank, k, 2)[0]).sum().backward()
    except mg.Error as error:
        errors.append(str(error))
    try:
        with model.join():
            mg.compile(model)(uneven_batch(rank, 0, 2)[0])
    except mg.Error as error:
        errors.append(str(error))
    return start, found, errors


def uneven_batch(rank, k, count):
    rng = np.random.default_rng([rank, k])
    return mg.tensor(rng.normal(size=(count, 70))), mg.tensor(rng.normal(size=(count, 2)))


def captured_all_reduce():
    @mg.compile
    def f(x):
        y = x * 2.0
        dist.all_reduce(y)
        return y + 1.0

    rank = dist.get_rank()
    return [f(mg.full((3,), float(rank + k))).tolist() for k in range(3)]


def threads_and_seed():
    from minigrad.backends import c

    return c.num_threads(), os.environ["OMP_NUM_THREADS"], mg.rand(2).tolist()


def fail(how):
    if dist.get_rank() == 1:
        if how == "raise":
            raise KeyError("planted")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if how == "hang":
            time.sleep(60)
        if how == "exit":
            os._exit(7)
        if how == "leave":
            return
    x = mg.zeros(3 if dist.get_rank() == 0 or how != "differ" else 4)
    for _ in range(100):
        dist.all_reduce(x)
        time.sleep(0.02)


def fail_later(how, culprit, after):
    """Reduce until rank `culprit` has its fault, `after` seconds from now."""
    x, stop = mg.zeros(5000), time.monotonic() + after
    while True:
        if dist.get_rank() == culprit and time.monotonic() > stop:
            if how == "raise":
                raise KeyError("planted")
            if how == "exit":
                os._exit(3)
            if how == "hang":
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        dist.all_reduce(x)


def another_model():
    dist.DistributedDataParallel(nn.Linear(3, 2 + dist.get_rank()))


def sleep():
    dist.barrier()
    time.sleep(60)


def return_a_function():
    return lambda: 0


def trainer(directory, epochs, workers_seed=3, batch=6, **options):
    """A Trainer on each rank, its model wrapped, its loader's sampler that of the ranks."""
    from minigrad import data, optim
    from minigrad.keras.callbacks import CSVLogger
    from minigrad.training import Trainer

    rank, size = dist.get_rank(), dist.get_world_size()
    mg.manual_seed(workers_seed)
    inner = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)).double()
    model = dist.DistributedDataParallel(inner)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(72, 5)), rng.integers(0, 3, 72)
    dataset = data.TensorDataset(mg.tensor(x), mg.tensor(y))
    sampler = dist.DistributedSampler(dataset, seed=1)

    def hits(output, target):
        if fail and rank and trainer.step == 11:
            os._exit(9)
        return (output.argmax(1) == target).double().mean()

    loader = data.DataLoader(dataset, batch_size=batch * 2 // size, sampler=sampler)
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        nn.functional.cross_entropy,
        metrics={"hits": hits},
        callbacks=[CSVLogger(os.path.join(directory, "log.csv"), append=True)],
        directory=os.path.join(directory, "kept") if rank == 0 else os.path.join(directory, f"own-{rank}"),
        save_every=4,
    )
    fail = options.pop("fail", False)
    history = trainer.fit(loader, epochs, loader, verbose=1, **options)
    written = sorted(os.listdir(trainer.checkpoints.directory))
    return history, {n: p.detach().numpy() for n, p in inner.named_parameters()}, written, mg.rand(2).tolist()


def more_collectives():
    """What is wrong of gather, scatter, all-to-all, long tensors and objects."""
    size, rank = dist.get_world_size(), dist.get_rank()
    wrong = []

    def check(name, right):
        if not right:
            wrong.append(name)

    def row(r, n=3):
        return mg.tensor(np.arange(n) + 10.0 * r)

    every = np.stack([row(r).numpy() for r in range(size)])
    for shape in ((size, 3), (3 * size,)):
        y = mg.zeros(*shape, dtype="float64")
        work = dist.all_gather_into_tensor(y, row(rank), async_op=True)
        check("all_gather_into_tensor", work.wait() and work.is_completed())
        check("all_gather_into_tensor", (y.numpy() == every.reshape(shape)).all())
        y = mg.zeros(3, dtype="float64")
        dist.reduce_scatter_tensor(y, mg.tensor(every.reshape(shape) + rank))
        check("reduce_scatter_tensor", (y.numpy() == size * every[rank] + sum(range(size))).all())
    places = [mg.zeros(3, dtype="float64") for _ in range(size)] if rank == size - 1 else None
    dist.gather(row(rank), places, dst=size - 1)
    check("gather", places is None or (np.stack([p.numpy() for p in places]) == every).all())
    y = mg.zeros(3, dtype="float64")
    dist.scatter(y, [row(r + 5) for r in range(size)] if rank == 0 else None)
    check("scatter", (y.numpy() == every[0] + 10 * (rank + 5)).all())
    got = [mg.zeros(rank + 1, dtype="float64") for _ in range(size)]  # part for rank r has r + 1 numbers
    dist.all_to_all(got, [row(10 * rank + r, r + 1) for r in range(size)])
    check("all_to_all", all(g.tolist() == row(10 * r + rank, rank + 1).tolist() for r, g in enumerate(got)))
    y = mg.zeros(size * 70000)  # longer than a mailbox
    dist.all_to_all_single(y, mg.arange(size * 70000.0) + rank)
    expected = [70000 * rank + r for r in range(size)]
    check("all_to_all_single", (y.numpy().reshape(size, -1)[:, 0] == expected).all())
    splits = [r + 1 for r in range(size)]
    y = mg.zeros(size * (rank + 1))
    dist.all_to_all_single(y, mg.full((sum(splits),), float(rank)), [rank + 1] * size, splits)
    check("splits", y.tolist() == [float(r) for r in range(size) for _ in range(rank + 1)])
    objects = [None] * size
    dist.all_gather_object(objects, {"rank": rank, "text": "x" * 1000 * rank, "t": row(rank)})
    check("all_gather_object", [o["rank"] for o in objects] == list(range(size)))
    check("all_gather_object", (objects[-1]["t"].numpy() == every[-1]).all())
    listed = [rank, ("a", None)] if rank == 1 else [0, 0]
    dist.broadcast_object_list(listed, src=1)
    check("broadcast_object_list", listed == [1, ("a", None)])
    objects = [None] * size if rank == 0 else None
    dist.gather_object(rank * 2, objects)
    check("gather_object", rank or objects == [2 * r for r in range(size)])
    one = [None]
    dist.scatter_object_list(one, [str(r) for r in range(size)] if rank == 0 else None)
    check("scatter_object_list", one == [str(rank)])
    for op, value in (("sum", 1.0 * sum(range(1, size + 1))), ("prod", float(np.prod(range(1, size + 1))))):
        work = dist.all_reduce(x := mg.tensor([rank + 1.0]), op, async_op=True)
        check(op, work.wait() and x.item() == value)
    dist.monitored_barrier(timeout=20)
    if rank == 0:
        try:
            dist.all_gather_object([None] * size, dist.run)
            check("refused", False)
        except mg.errors.DTypeError as error:
            check("refused", "without pickling" in str(error))
    return wrong


def differing_gathers():
    """Ranks that name another root."""
    rank = dist.get_rank()
    try:
        dist.gather(mg.zeros(2), [mg.zeros(2), mg.zeros(2)], dst=rank)
    except mg.Error as error:
        return str(error)
    return ""


def perform_all():
    """Whether each algorithm of `schedules` gives the sum."""
    from minigrad.distributed.group import group
    from minigrad.distributed.schedules import ALGORITHMS, perform

    rank, size = dist.get_rank(), dist.get_world_size()
    parts = np.random.default_rng(0).integers(0, 9, (size, 200_001)).astype(np.float32)
    hosts = 2 if size % 2 == 0 else 1
    expected = parts.sum(0)
    return {a: bool((perform(a, group(), parts[rank].copy(), hosts) == expected).all()) for a in ALGORITHMS}


def late(compiled, path):
    """(seconds, rank 1's computing, its collectives), and (rank 0's wait, rank 1's wait, collectives)."""

    def add(x):
        return dist.all_reduce(x.clone())

    f, x = mg.compile(add) if compiled else add, mg.ones(1000)
    f(x)
    with dist.timeline() as seen:
        for k in range(6):
            if dist.get_rank() == 1 and k % 2:
                time.sleep(0.03)
            f(x)
    if dist.get_rank() == 0:
        seen.save(path)
        seen.save(path.replace(".json", ".txt"))
    zero, one = seen.ranks
    return (seen.seconds, one.compute, one.collectives), (zero.wait, one.wait, zero.collectives)


def elastic(directory, steps, fail_at):
    """The example that goes on from its last checkpoint: how many ranks there were, parameters at the end."""
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "examples"))
    import digits_elastic

    digits_elastic.train(directory, steps, batch=24, every=5, fail_at=fail_at)
    state = mg.checkpoint.Checkpoints(directory).latest() if dist.get_rank() == 0 else None
    return dist.get_world_size(), state and {k: v.numpy() for k, v in state["model"].items()}
