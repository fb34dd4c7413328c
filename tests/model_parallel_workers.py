"""What the processes of test_model_parallel.py do; one launch does all that its number of ranks can."""

import warnings

import numpy as np

import minigrad as mg
from minigrad import distributed as dist
from minigrad import nn

STEPS, BATCH = 50, 10


def numbers(state):
    return {name: t.detach().numpy().copy() for name, t in state.items()}


def rows(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def mlp(dtype="float64"):
    mg.manual_seed(3 + 50 * dist.get_rank())  # the weights of rank 0 are the ones that count
    return nn.Sequential(
        nn.Linear(6, 16),
        nn.Tanh(),
        nn.Linear(16, 12),
        nn.ReLU(),
        nn.Linear(12, 8),
        nn.Tanh(),
        nn.Linear(8, 4),
    ).to(dtype)


MLP_PLAN = {
    "0": dist.ColwiseParallel(),
    "2": dist.RowwiseParallel(),
    "4": dist.ColwiseParallel(gather_output=True),
    "6": dist.RowwiseParallel(input_is_parallel=False),
}


class Tagger(nn.Module):
    """Words in, one class a sentence out: everything that is cut by `parallelize_module` without a plan."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=3)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 4, 16, dropout=0.1, batch_first=True), 2
        )
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True, add_bias_kv=True)
        self.out = nn.Linear(8, 5)

    def forward(self, x):
        mask = x == 3
        y = self.encoder(self.words(x), src_key_padding_mask=mask)
        z, weights = self.attention(y, y, y, attn_mask=nn.Transformer.generate_square_subsequent_mask(7))
        return self.out((y + z + weights.mean()).mean(1))


def stepper(model, loss_fn, compiled=False, clip=None, lr=0.1):
    sgd = mg.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def step(x, y):
        sgd.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        if clip is not None:
            nn.clip_grad_norm_(model.parameters(), clip)
        sgd.step()
        return loss.detach()

    return mg.compile(step) if compiled else step


def tensor_mlp(dtype="float64", compiled=False, group=None, copies=None, steps=STEPS):
    """Tensor parallel, and copies of that if there is a group for them."""
    model = dist.parallelize_module(mlp(dtype), group, MLP_PLAN)
    wrapped = model if copies is None else dist.DistributedDataParallel(model, process_group=copies)
    step = stepper(wrapped, nn.functional.mse_loss, compiled, clip=0.5 if copies is None else None)
    for k in range(steps):
        x, y = (rows([k, i], BATCH, n).astype(dtype) for i, n in enumerate((6, 4)))
        if copies is not None:
            mine = slice(*(BATCH * r // copies.size for r in (copies.rank, copies.rank + 1)))
            x, y = x[mine], y[mine]
        step(mg.tensor(x), mg.tensor(y))
    return numbers(dist.full_state_dict(model))


def tensor_transformer(compiled=False, steps=STEPS):
    mg.manual_seed(5 + dist.get_rank())
    model = Tagger().double()
    if dist.get_world_size() > 1:
        model = dist.parallelize_module(model)
    step = stepper(model, nn.functional.cross_entropy, compiled, lr=0.02)
    for k in range(steps):
        rng = np.random.default_rng(k)
        words = rng.integers(0, 20, (BATCH, 7))
        words[:, 0] = 1  # a sentence has at least one word
        step(mg.tensor(words), mg.tensor(rng.integers(0, 5, BATCH)))
    return numbers(dist.full_state_dict(model))


def pipeline(schedule, dtype="float64", group=None, copies=None, steps=STEPS, micro=4, compiled=True):
    """Pipeline parallel, and copies of that if there is a group for them; micro-batches of 2 and 3."""
    size, rank = dist.get_world_size(group), dist.get_rank(group)
    stages = dist.split_module(mlp(dtype), size, group=group, at={1: [], 2: ["4"], 4: [2, 4, 6]}[size])
    module = stages[rank]
    if copies is not None:
        module = dist.DistributedDataParallel(module, process_group=copies)
    stage = dist.PipelineStage(module, rank, size, group, compiled=compiled)
    run = getattr(dist, schedule)(stage, micro, nn.functional.mse_loss if stage.is_last else None)
    sgd = mg.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    total = []
    for k in range(steps):
        x, y = (rows([k, i], BATCH, n).astype(dtype) for i, n in enumerate((6, 4)))
        if copies is not None:  # uneven on purpose
            cut = [0, 6, BATCH]
            mine = slice(cut[copies.rank], cut[copies.rank + 1] if copies.size > 1 else BATCH)
            x, y = x[mine], y[mine]
        sgd.zero_grad()
        losses = []
        given = (mg.tensor(x),) if stage.is_first else ()
        run.step(*given, target=mg.tensor(y) if stage.is_last else None, losses=losses)
        if copies is None:
            stage.clip_grad_norm_(0.5)
        sgd.step()
        total += [float(t) for t in losses]
    shown = run.eval(*((mg.tensor(x),) if stage.is_first else ()))
    programs = run._whole.traces if stage.is_last else stage._halves.traces
    assert (stage.compiled, programs > 0) == (compiled, compiled), programs
    state = numbers(stages[rank].state_dict())
    return state, None if shown is None else shown.numpy(), total


class Odd(nn.Module):
    """Takes and gives two tensors, one of them of words, and decides by a value."""

    def __init__(self, branch):
        super().__init__()
        self.table, self.branch = nn.Embedding(9, 5), branch
        self.norm = nn.BatchNorm1d(5)

    def forward(self, words, *rest):
        y = self.table(words) + (rest[0] if rest else 0.0)
        if self.branch and float(y.detach().sum()) > 1e9:
            return words, y
        return words, (self.norm(y) + y).sin()


def odd_stages():
    """Integers between stages; and, on rank 0, what cannot be captured: (gradients, notices, compiled)."""
    size, rank = dist.get_world_size(), dist.get_rank()
    found = []
    for branch in (False, rank == 0):
        mg.manual_seed(rank)
        module = Odd(branch).double()
        stage = dist.PipelineStage(module, rank, size)
        run = dist.Schedule1F1B(stage, 3, lambda out, t: nn.functional.mse_loss(out[1], t))
        words, target = mg.tensor(np.arange(12) % 9), mg.tensor(rows(1, 12, 5))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(2):
                run.step(*((words,) if stage.is_first else ()), target=target if stage.is_last else None)
        grads = {n: p.grad.numpy() for n, p in module.named_parameters()}
        found.append((grads, [str(w.message) for w in seen], stage.compiled))
    return found


def large_messages():
    """Activations that no mailbox holds, in both directions at once."""
    size, rank = dist.get_world_size(), dist.get_rank()
    mg.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(96, 96) for _ in range(size)]).double()
    stage = dist.PipelineStage(dist.split_module(model, size)[rank], rank, size)
    run = dist.Schedule1F1B(stage, 5, nn.functional.mse_loss if stage.is_last else None)
    x = mg.tensor(rows(1, 5 * 600, 96))
    run.step(*((x,) if stage.is_first else ()), target=x if stage.is_last else None)
    return {name: p.grad.numpy() for name, p in stage.submodule.named_parameters()}


def plainly(dtype="float64", clip=None):
    """One process, the whole batch, no schedule."""
    model = mlp(dtype)
    step = stepper(model, nn.functional.mse_loss, clip=clip)
    for k in range(STEPS):
        step(*(mg.tensor(rows([k, i], BATCH, n).astype(dtype)) for i, n in enumerate((6, 4))))
    return numbers(model.state_dict())


def synchronised(compiled=False):
    """Batch norm over parts of uneven sizes: 7 and 3 rows, or 3, 3, 3 and 1."""
    size, rank = dist.get_world_size(), dist.get_rank()
    mg.manual_seed(11)
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model.double())
    step = stepper(dist.DistributedDataParallel(model), nn.functional.mse_loss, compiled)
    ends = {1: [0, BATCH], 2: [0, 7, BATCH], 4: [0, 3, 6, 9, BATCH]}[size]
    for k in range(STEPS):
        x, y = (
            rows([k, i], BATCH, *shape)[slice(*ends[rank : rank + 2])]
            for i, shape in enumerate(((2, 5), (2,)))
        )
        step(mg.tensor(x), mg.tensor(y))
    return numbers(model.state_dict())


def gradients():
    """f and g, and gather and scatter, beside what one process would compute."""
    group = dist.group.group()
    from minigrad.ops import collective as c

    n, r = group.size, group.rank
    whole = rows(1, 3, 4 * n)
    weights = rows(2, n, 3, 4 * n)
    found = {}
    x = mg.tensor(whole, requires_grad=True)  # whole -> a different use on each rank -> sum
    c.reduce_from((c.copy_to(x, group) * mg.tensor(weights[r])).sin(), group).sum().backward()
    y = mg.tensor(whole, requires_grad=True)
    sum((y * mg.tensor(w)).sin().sum() for w in weights).backward()
    found["f, g"] = np.allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12)
    x = mg.tensor(whole, requires_grad=True)  # whole -> part -> whole
    z = c.gather_from(c.scatter_to(x, group, 1).sin(), group, 1)
    (z * mg.tensor(weights[0])).sum().backward()
    found["value"] = np.allclose(z.detach().numpy(), np.sin(whole))
    found["scatter, gather"] = np.allclose(x.grad.numpy(), np.cos(whole) * weights[0], rtol=1e-12)
    x = mg.tensor(rows([3, r], 2), requires_grad=True)  # a weighted mean, of the losses as well
    mean = c.all_reduce(x, group, "mean", 1.0 + r)
    (mean * mean * (r + 1.0)).sum().backward()
    every = [rows([3, k], 2) for k in range(n)]
    share = np.arange(1, n + 1) / sum(range(1, n + 1))
    average = sum(s * e for s, e in zip(share, every, strict=True))
    factor = sum(s * (k + 1) for k, s in enumerate(share))
    found["weighted mean"] = np.allclose(x.grad.numpy(), 2 * average * factor, rtol=1e-12)
    return [name for name, right in found.items() if not right]


def groups():
    """Groups of some of the ranks, and a table of them."""
    size, rank = dist.get_world_size(), dist.get_rank()
    found = {}
    mesh = dist.init_device_mesh("cpu", (size // 2, 2), mesh_dim_names=("data", "model"))
    total = dist.all_reduce(mg.tensor([float(rank)]), group=mesh.get_group("model")).item()
    found["row"] = total == 2 * (rank // 2 * 2) + 1
    found["place"] = mesh.get_coordinate() == [rank // 2, rank % 2] and mesh["model"].size() == 2
    last = dist.new_group([size - 1])
    found["outside"] = dist.get_rank(last) == (0 if rank == size - 1 else -1)
    if rank == size - 1:
        found["alone"] = dist.all_reduce(mg.tensor([2.0]), group=last).item() == 2.0
    else:
        try:
            dist.all_reduce(mg.tensor([2.0]), group=last)
            found["refused"] = False
        except dist.DistributedError as error:
            found["refused"] = "none of the ranks" in str(error)
    ends = dist.new_group([0, size - 1])
    if dist.get_rank(ends) >= 0:
        x = dist.broadcast(mg.tensor([float(rank)]), size - 1, group=ends)
        found["global numbers"] = x.item() == size - 1
        found["ranks"] = dist.get_process_group_ranks(ends) == [0, size - 1]
        found["numbers"] = (
            dist.get_group_rank(ends, size - 1) == 1 and dist.get_global_rank(ends, 1) == size - 1
        )
        if rank == 0:
            dist.send(mg.tensor([7.0]), size - 1, group=ends)
        else:
            found["sent"] = dist.recv(mg.zeros(1), 0, group=ends).item() == 7.0
    dist.barrier()
    if dist.get_rank(ends) >= 0:
        dist.destroy_process_group(ends)
    return [name for name, right in found.items() if not right]


def reload():
    """What was saved by all ranks together is loaded by them, and by one process."""
    model = dist.parallelize_module(mlp(), None, MLP_PLAN)
    state = dist.full_state_dict(model)
    other = dist.parallelize_module(mlp(), None, MLP_PLAN)
    for p in other.parameters():
        p.assign(p.detach() * 0.0)
    dist.load_full_state_dict(other, state)
    alone = mlp()
    alone.load_state_dict(state)
    x = mg.tensor(rows(0, 5, 6))
    outputs = [m(x).detach().numpy() for m in (model, other, alone)]
    return float(np.abs(outputs[0] - outputs[1]).max()), float(np.abs(outputs[0] - outputs[2]).max())


def everything():
    size = dist.get_world_size()
    found = {
        "wrong": gradients() + (groups() if size > 1 else []),
        "reload": reload(),
        "tensor": tensor_mlp(),
        "tensor captured": tensor_mlp(compiled=True),
        "tensor float32": tensor_mlp("float32"),
        "tensor float32 captured": tensor_mlp("float32", compiled=True),
        "tensor and data": plainly(),
        "transformer": tensor_transformer(),
        "transformer captured": tensor_transformer(compiled=True),
        "gpipe": pipeline("ScheduleGPipe"),
        "1f1b": pipeline("Schedule1F1B"),
        "1f1b op by op": pipeline("Schedule1F1B", compiled=False),
        "odd stages": odd_stages(),
        "1f1b float32": pipeline("Schedule1F1B", "float32"),
        "one micro-batch": pipeline("Schedule1F1B", micro=1, steps=5),
        "large": large_messages(),
        "split": measured_split() if size < 4 else None,
        "batch norm": synchronised(),
        "batch norm captured": synchronised(compiled=True),
    }
    if size > 1:
        mesh = dist.init_device_mesh("cpu", (size // 2, 2), mesh_dim_names=("copies", "parts"))
        both = {"group": mesh.get_group("parts"), "copies": mesh.get_group("copies")}
        found["tensor and data"] = tensor_mlp(**both)
        found["pipeline and data"] = pipeline("Schedule1F1B", **both, micro=3)
    return found


def again():
    return tensor_mlp("float32", compiled=True), pipeline("Schedule1F1B", "float32")


def measured_split():
    """Rank 0 measures, and all cut alike."""
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.Linear(256, 8))
    return [list(s.state_dict()) for s in dist.split_module(model, 2, example=mg.zeros(32, 64))]


def mistakes():
    """What ranks may do differently, one after the other; the messages."""
    rank = dist.get_rank()

    def micro_batches():
        stage = dist.PipelineStage(nn.Linear(2, 2), rank, 2)
        run = dist.ScheduleGPipe(stage, 4, nn.functional.mse_loss if stage.is_last else None)
        x = mg.zeros(3, 2)
        run.step(*((x,) if stage.is_first else ()), target=x if stage.is_last else None)

    def sides():
        stage = dist.PipelineStage(nn.Linear(2, 2), rank, 2)
        dist.ScheduleGPipe(stage, 1, nn.functional.mse_loss).step(
            *(() if stage.is_first else (mg.zeros(1, 2),))
        )

    wrong = {
        "models": lambda: dist.parallelize_module(
            nn.Linear(4, 6 + 2 * rank), None, {"": dist.ColwiseParallel()}
        ),
        "groups": lambda: dist.new_group([rank]),
        "order": lambda: dist.PipelineStage(nn.Linear(2, 2), 1 - rank, 2),
        "counts": lambda: dist.ScheduleGPipe(dist.PipelineStage(nn.Linear(2, 2), rank, 2), 2 + rank),
        "micro-batches": micro_batches,
        "sides": sides,
    }
    found = {}
    for name, call in wrong.items():
        try:
            call()
        except mg.Error as error:
            found[name] = str(error)
    return found


def fail_in_a_part():
    """A rank raises while others wait in a group that it is not in."""
    pair = dist.new_group([0, 1])
    if dist.get_rank() == 2:
        raise KeyError("planted")
    if dist.get_rank() == 0:
        dist.barrier(pair)
    dist.barrier()
