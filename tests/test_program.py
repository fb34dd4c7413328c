"""The executor in C: whole training runs, what numpy does in between, errors, results, threads, profiles."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.backends import c
from minigrad.errors import Error, GradientError
from minigrad.execute import interpret
from minigrad.ir import Spec
from minigrad.nn import functional as F
from minigrad.passes import run
from minigrad.trace import trace

if not c.available:
    pytest.skip("needs the compiled extension", allow_module_level=True)

from minigrad.execute.program import Program

f32, f64, i64 = mg.float32, mg.float64, mg.int64


def made(f, *specs, passes=None):
    graph = trace(f, *specs)
    return Program(run(graph) if passes is None else run(graph, passes))


def like_the_interpreter(f, *arrays, tolerance=1e-6):
    """The program of a function, after its results were compared with the interpreter's on these arrays."""
    specs = [Spec(a.shape, a.dtype) for a in arrays]
    program = made(f, *specs)
    wanted = interpret(trace(f, *specs))(*[a.copy() for a in arrays])
    for _ in range(2):
        for a, b in zip(program(*[a.copy() for a in arrays]), wanted, strict=True):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    return program


def kernels(program):
    return [d.kernel for d in program.described()]


# -- training runs -------------------------------------------------------------------------------------


def mlp():
    return nn.Sequential(nn.Linear(20, 33), nn.ReLU(), nn.Linear(33, 5)), (20,)


def cnn():
    layers = [nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * 36, 5)), (2, 12, 12)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        # no bias: that of the keys has a gradient of zero but for rounding, which Adam turns into whole steps
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48, bias=False), nn.Linear(16, 5)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
        return self.out(F.gelu(x + y).mean(1))


def transformer():
    return Attention(), (7, 16)


MODELS = [mlp, cnn, transformer]
OPTIMIZERS = {
    mlp: lambda p: optim.Adam(p, lr=0.01),
    cnn: lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    transformer: lambda p: optim.AdamW(p, lr=0.01),
}


def trained(make, wrap, steps=50):
    """Losses and parameters after some steps; the compiled step, if it is one."""
    mg.manual_seed(3)
    rng = np.random.default_rng(0)
    model, shape = make()
    optimizer = OPTIMIZERS[make](model.parameters())

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    step = wrap(step)
    losses = []
    for _ in range(steps):
        x = mg.tensor(rng.normal(size=(9, *shape)).astype(np.float32))
        losses.append(step(x, mg.tensor(rng.integers(0, 5, 9))).item())
    return losses, [p.detach().numpy().copy() for p in model.parameters()], step


@pytest.mark.parametrize("make", MODELS)
def test_whole_training_runs(make):
    losses, parameters, step = trained(make, mg.compile)
    assert step.traces == 1
    for wrap in (lambda f: f, lambda f: mg.compile(f, executor="interpret")):
        others, theirs, _ = trained(make, wrap)
        # float32 rounds at 6e-8; 50 steps, each through the ones before, let that grow
        np.testing.assert_allclose(losses, others, rtol=2e-3)
        for a, b in zip(parameters, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3)
    assert losses[0] != losses[-1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("rows", "classes"), [(7, 5), (8, 1), (9, 5), (33, 10), (64, 32), (70, 33), (99, 17)]
)
def test_a_loss_and_its_gradient_in_one_instruction(rows, classes, dtype):
    rng = np.random.default_rng(rows)
    scores = (30 * rng.normal(size=(rows, classes))).astype(dtype)
    target = rng.integers(0, classes, rows)
    x, t = mg.tensor(scores, requires_grad=True), mg.tensor(target)

    @mg.compile
    def both():
        loss = F.cross_entropy(x, t)
        return loss.detach(), mg.autograd.grad(loss, [x])[0]

    loss, gradient = both()
    (entries,) = both._cache.values()
    assert "cross_entropy_both" in [i.kernel for i in entries[0].execute.instructions]
    shifted = scores.astype(np.float64) - scores.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    each = np.arange(rows)
    expected = np.exp(logs)
    expected[each, target] -= 1
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(loss.item(), -logs[each, target].mean(), rtol=8 * eps, atol=eps)
    np.testing.assert_allclose(gradient.numpy(), expected / rows, rtol=0, atol=4 * eps / rows)

    for bad in (np.inf, -np.inf, np.nan):  # one bad row leaves the others alone
        scores[2] = bad
        x.assign(mg.tensor(scores))
        _, gradient = both()
        assert np.isnan(gradient.numpy()[2]).all()
        assert np.isfinite(np.delete(gradient.numpy(), 2, 0)).all()


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
@pytest.mark.parametrize("shape", [(1,), (5, 7), (3, 4096)])
def test_random_numbers_are_an_instruction(shape, dtype):
    draw = mg.compile(lambda: (mg.rand(*shape, dtype=dtype), mg.rand(*shape, dtype=dtype)))
    mg.manual_seed(2**40 + 5)
    eager = [mg.rand(*shape, dtype=dtype).numpy() for _ in range(6)]
    mg.manual_seed(2**40 + 5)
    captured = [y.numpy() for _ in range(3) for y in draw()]
    assert [y.tobytes() for y in captured] == [y.tobytes() for y in eager]
    (entries,) = draw._cache.values()
    assert entries[0].execute.whole


def test_a_step_with_dropout_is_one_call():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    adam = optim.Adam(model.parameters(), lr=0.01)

    @mg.compile
    def step(x):
        adam.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        adam.step()
        return loss.detach()

    for _ in range(3):
        step(mg.ones(4, 6))
    assert step._replay is not None
    assert "uniform" in [i.kernel for i in step._replay._program.instructions]


@pytest.mark.parametrize("make", MODELS)
def test_the_same_bits_for_any_number_of_threads(make):
    before = mg.get_num_threads()
    runs = []
    try:
        for threads in (1, 2):
            mg.set_num_threads(threads)
            runs.append(trained(make, mg.compile, steps=10))
    finally:
        mg.set_num_threads(before)
    assert runs[0][0] == runs[1][0]
    for a, b in zip(runs[0][1], runs[1][1], strict=True):
        assert a.tobytes() == b.tobytes()


# -- what is one instruction ---------------------------------------------------------------------------


def test_epilogues_losses_and_pools_are_single_instructions(rng):
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((5, 8), (3, 8), (3,)))
    assert kernels(like_the_interpreter(lambda x, w, b: F.linear(x, w, b).relu(), x, w, b)) == ["gemm"]
    image = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    program = like_the_interpreter(lambda x: F.max_pool2d(x, 2), image)
    assert kernels(program) == ["max_pool", "copy"]  # a reshaped result is copied out
    assert kernels(like_the_interpreter(lambda x: (x * 2.0).exp().sum(0), x)) == ["loop"]
    deviations = like_the_interpreter(
        lambda x: (x - x.mean(1, keepdim=True)).square().sum(1), x, tolerance=1e-5
    )
    assert kernels(deviations)[-1] == "squares"
    deviations = like_the_interpreter(
        lambda x: (x - x.mean((0, 2, 3), keepdim=True)).square().sum((0, 2, 3)), image
    )


def two_layers(dtype, hidden, after):
    """A function of two layers and its gradients, captured, and the arrays for its graph."""
    rng = np.random.default_rng(0)
    x, w, v = (mg.tensor(rng.normal(size=s).astype(dtype)) for s in ((40, 30), (hidden, 30), (20, hidden)))
    w.requires_grad = v.requires_grad = True

    def f(x):
        y = after(x @ w.T) @ v.T
        return mg.autograd.grad((y * y).sum(), [w, v])

    captured = mg.compile(f).captured(x)
    state = [s.array if s.tensor is None else s.tensor()._array for s in captured.state]
    return captured.graph, [x.numpy(), *state]


@pytest.mark.parametrize("isa", c.isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("hidden", [16, 300])
@pytest.mark.parametrize("after", [F.relu, mg.tanh, F.gelu])
def test_what_is_behind_a_product_is_part_of_it(isa, dtype, hidden, after):
    before, threads_before = c.isa(), mg.get_num_threads()
    try:
        c.set_isa(isa)
        graph, arrays = two_layers(dtype, hidden, after)
        program = Program(run(graph))
        assert "product" in [i.kernel for i in program.instructions]
        wanted = interpret(graph)(*arrays)
        eps = 50 * np.finfo(dtype).eps
        results = []
        for threads in (1, 2, 3):
            mg.set_num_threads(threads)
            results.append(program(*arrays))
            for a, b in zip(results[-1], wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=eps, atol=eps * np.abs(b).max())
        for other in results[1:]:
            assert [a.tobytes() for a in other] == [a.tobytes() for a in results[0]]
    finally:
        c.set_isa(before)
        mg.set_num_threads(threads_before)


def test_a_product_that_is_kept_or_has_many_terms_is_an_instruction_of_its_own(rng):
    x, w, b, long, tall, batch = (
        rng.normal(size=s).astype(np.float32)
        for s in ((32, 40), (40, 24), (24,), (32, 400), (400, 24), (3, 32, 40))
    )

    def of(f, *arrays):  # sums of 400 terms in float32
        return kernels(like_the_interpreter(f, *arrays, tolerance=1e-4))

    assert of(lambda x, w: (x @ w).tanh(), x, w) == ["product"]
    assert of(lambda x, w, b: (x @ w + b).tanh(), x, w, b) == ["product"]
    assert of(lambda x, w: [y := x @ w, y.tanh()], x, w) == ["gemm", "lanes"]
    assert of(lambda x, w: (x @ w).tanh(), long, tall) == ["gemm", "lanes"]
    assert of(lambda x, w: (x[:1] @ w).tanh(), x, w) == ["gemm", "lanes"]
    assert of(lambda x, w: (x @ w).tanh(), batch, w) == ["gemm", "lanes"]


def test_updates_of_all_parameters_are_one_instruction():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = optim.Adam(model.parameters())

    def step(x):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    graph = mg.compile(step).graph(mg.ones(2, 3))
    lanes = [i for i in Program(graph).instructions if i.kernel == "lanes" and len(i.nodes) > 20]
    assert len(lanes) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layouts(rng, dtype):
    x = rng.normal(size=(4, 6)).astype(dtype)
    like_the_interpreter(lambda x: x.T.reshape(-1) * 2.0, x)
    like_the_interpreter(
        lambda x: (x.flip(0) + 1.0, mg.cat([x, x[1:]]), x[::2].T @ x[::2]), x, tolerance=1e-5
    )
    like_the_interpreter(lambda x: x[:, 1].exp() + x[:4, :4].T[0], x)
    like_the_interpreter(lambda x: x.reshape(2, 2, 6).permute(2, 0, 1) @ x[:2, :3], x, tolerance=1e-5)
    like_the_interpreter(lambda x: F.pad(x, (1, 2)).sum(1), x)
    like_the_interpreter(lambda x: x.expand(3, 4, 6).mean((0, 2)), x)


def test_integers_and_truth_values(rng):
    x, k = rng.normal(size=(3, 50)).astype(np.float32), rng.integers(-9, 9, (3, 50))
    like_the_interpreter(lambda k: (k * 3 - 1, (k > 2) & (k != 4), k.float() / 3.0, -k.to(mg.int32)), k)
    like_the_interpreter(lambda x, k: mg.where(k > 0, x, -x) + k, x, k)
    like_the_interpreter(lambda x: ((x > 0).to(mg.int64), (x * 10).to(mg.int64), x.isnan()), x)
    small = rng.integers(0, 255, (7,)).astype(np.uint8)
    like_the_interpreter(lambda a: (a + a, a * 2, a.float().sqrt()), small)


def test_single_numbers_and_nothing_at_all():
    like_the_interpreter(
        lambda a, b: (a * b + 1.0).sqrt() / b, np.float64(2.0).reshape(()), np.float64(3.0).reshape(())
    )
    nothing = np.zeros((0, 3), np.float32)
    like_the_interpreter(lambda x: (x * 2.0, x.sum(), x @ x.T, x.T @ x, x.reshape(3, 0)), nothing)


def test_what_numpy_does_in_between(rng):
    x = rng.normal(size=(5, 6)).astype(np.float32)
    program = like_the_interpreter(lambda x: (x * 2.0).cumsum(1).tanh() @ x.T, x, tolerance=1e-5)
    assert "numpy" in kernels(program)
    assert not program.whole
    like_the_interpreter(lambda x: x[[3, 0, 0]].sort(1)[0].prod(1) + 1.0, x)


def test_numbers_of_a_user_that_look_like_stand_ins():
    x = np.ones(300, np.float32)
    for k in (2.0**110, 2.0**110 + 2.0**94, -(2.0**111), float("inf")):
        like_the_interpreter(lambda x, s, k=k: (x * s + k) * k, x, np.array(2.0, np.float32))


# -- memory --------------------------------------------------------------------------------------------


def test_results_belong_to_the_caller_unless_given():
    program = made(lambda x: (x + 1.0, x), Spec((3,), f32))
    x = np.zeros(3, np.float32)
    first, same = program(x)
    second, _ = program(x + 1)
    assert first.tolist() == [1.0] * 3
    assert second.tolist() == [2.0] * 3
    assert not np.shares_memory(same, x)
    out = [np.empty(3, np.float32), np.empty(3, np.float32)]
    assert program(x, out=out)[0] is out[0]
    assert out[0].tolist() == [1.0] * 3


def test_the_quick_way_is_for_every_block_without_gradients():
    step = mg.compile(lambda x: x * 2.0)
    x = mg.ones(3)
    with mg.no_grad():
        step(x)
    quick = step._replay
    with mg.no_grad():  # another block, the same switches
        assert step(x).tolist() == [2.0, 2.0, 2.0]
    assert quick is not None
    assert step._replay is quick
    with mg.inference_mode():
        assert step(x).tolist() == [2.0, 2.0, 2.0]
    assert step._replay is not quick


def test_replay_creates_nothing_that_stays():
    step = trained(mlp, mg.compile, steps=2)[2]
    x, y = mg.zeros(9, 20), mg.zeros(9, dtype=mg.int64)
    for _ in range(3):
        step(x, y)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(50):
        step(x, y)
    gc.collect()
    assert len(gc.get_objects()) <= before + 5


def test_arguments_that_do_not_lie_row_by_row(rng):
    f = mg.compile(lambda x: (x * 2.0).sum(0))
    for x in (rng.normal(size=(4, 3)), rng.normal(size=(3, 4)).T, rng.normal(size=(8, 3))[::2]):
        for _ in range(3):  # the quick way, too
            np.testing.assert_allclose(f(mg.as_tensor(x)).numpy(), (x * 2).sum(0))


def test_the_quick_way_sees_what_has_changed():
    w = mg.ones(3)
    scale = mg.ones(3)
    f = mg.compile(lambda x: w.assign(w + x) * scale)
    x = mg.ones(3)
    for k in range(4):
        assert f(x).tolist() == [k + 2.0] * 3
    w.zero_()
    assert f(x).tolist() == [1.0] * 3
    w.data = mg.full((3,), 5.0)
    assert f(x).tolist() == [6.0] * 3
    assert f(mg.full((3,), 2.0)).tolist() == [8.0] * 3
    with mg.no_grad():
        assert f(x).tolist() == [9.0] * 3
    with mg.backend("numpy"):
        assert f(x).tolist() == [10.0] * 3
    assert f(x).tolist() == [11.0] * 3
    with pytest.raises(Error, match="memory"):
        f(w)
    assert w.tolist() == [11.0] * 3


def test_kernels_of_the_user_are_used():
    f = mg.compile(lambda x: (x * 2.0).tanh() + 1.0)
    x = mg.ones(3)
    usual = f(x).tolist()
    for _ in range(2):
        assert f(x).tolist() == usual
        with mg.register_kernel("tanh", lambda x: x * 0):
            assert f(x).tolist() == [1.0] * 3
            assert f(x).tolist() == [1.0] * 3
        assert f(x).tolist() == usual


# -- errors --------------------------------------------------------------------------------------------


def test_refusals_in_c_name_the_line_and_change_nothing():
    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @mg.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    x, good, bad = mg.ones(2, 4), mg.tensor([0, 1]), mg.tensor([0, 7])
    for _ in range(3):
        step(x, good)
    before = [p.detach().numpy().copy() for p in model.parameters()]
    with pytest.raises(Error, match=r"test_program\.py"):
        step(x, bad)
    for a, p in zip(before, model.parameters(), strict=True):
        np.testing.assert_array_equal(a, p.detach().numpy())
    step(x, good)


def test_wrong_arrays_are_refused():
    program = made(lambda x: x + 1.0, Spec((3,), f32))
    with pytest.raises(Error, match=r"float32\[4\]"):
        program(np.zeros(4, np.float32))


# -- profiles ------------------------------------------------------------------------------------------


def test_timed_run_describes_every_step(rng):
    x, w = rng.normal(size=(64, 32)).astype(np.float32), rng.normal(size=(32, 16)).astype(np.float32)
    program = made(
        lambda x, w: ((x @ w).relu().cumsum(0) * 2.0).sum(), Spec(x.shape, f32), Spec(w.shape, f32)
    )
    outputs, seconds = program.timed_run(x, w)
    rows = program.described()
    assert len(rows) == len(seconds)
    assert all(s > 0 for s in seconds)
    assert rows[0].kernel == "gemm"
    assert rows[0].flops >= 2 * 64 * 32 * 16
    assert rows[0].bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert rows[0].where[0].startswith("test_program.py:")
    np.testing.assert_allclose(outputs[0], ((np.maximum(x @ w, 0)).cumsum(0) * 2).sum(), rtol=1e-4)


def test_the_quick_way_sees_every_setting_of_an_optimizer():
    def steps(wrap):
        w = mg.ones(2, requires_grad=True)
        adam = optim.Adam([w], lr=0.1, betas=[0.9, 0.99])  # a list may change without being set
        group = adam.param_groups[0]

        @wrap
        def step(x):
            adam.zero_grad()
            (w * x).sum().backward()
            adam.step()
            return w.detach().clone()

        changes = [
            lambda: None,
            lambda: group.__setitem__("lr", 0.2),
            lambda: group.update(lr=0.3),
            lambda: group["betas"].__setitem__(0, 0.5),
            lambda: group.__ior__({"eps": 0.1}),
            lambda: group.__setitem__("maximize", True),
            lambda: group.pop("lr") and group.setdefault("lr", 0.7),
            lambda: group.__setitem__("weight_decay", 0.1),
        ]
        found = []
        for change in changes:
            change()
            found += [step(mg.full((2,), k + 1.0)).tolist() for k in range(3)]
        return found

    np.testing.assert_allclose(steps(mg.compile), steps(lambda f: f), rtol=2e-6)


def test_the_quick_way_sees_modes_and_the_end_of_things():
    module = nn.Dropout(0.5)
    f = mg.compile(lambda x: module(x))
    x = mg.ones(64)
    mg.manual_seed(0)
    for _ in range(3):
        assert f(x).tolist() != x.tolist()
    module.eval()
    for _ in range(3):
        assert f(x).tolist() == x.tolist()
    assert f._replay is not None

    w = mg.ones(3)
    held = [w]
    f = mg.compile(lambda x: held[0] * x)
    for _ in range(3):
        f(mg.ones(3))
    held[0] = mg.full((3,), 2.0)
    del w
    gc.collect()
    assert f(mg.ones(3)).tolist() == [2.0] * 3


def test_what_a_program_changes_is_not_differentiated_through():
    w = mg.ones(3, requires_grad=True)
    adam = optim.Adam([w], lr=0.1)

    @mg.compile
    def step(x):
        adam.zero_grad()
        (w * x).sum().backward()
        adam.step()
        return w.sum().detach()

    x = mg.ones(3)
    moment = lambda: adam.state[w]["exp_avg"]  # noqa: E731
    step(x)
    for calls in (1, 3):  # the long way, and the quick one
        for saved in (w, moment()):
            late = (mg.ones(3, requires_grad=True) * saved).sum()
            for _ in range(calls):
                step(x)
            with pytest.raises(GradientError, match=r"changed in place at test_program.py:\d+ `step\(x\)`"):
                late.backward()


@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_changes_are_counted_together_and_none_is_missed(before):
    """However often a tensor was changed before a program took over its count, what was recorded is stale."""
    w, v = (mg.ones(3, requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([w, v], lr=0.5)

    @mg.compile
    def step(x):
        optimizer.zero_grad()
        (w * v * x).sum().backward()
        optimizer.step()

    with mg.no_grad():
        for _ in range(before):
            w.mul_(1.0)
    x = mg.ones(3)
    for _ in range(4):
        losses = (w * w).sum(), (v * v).sum()
        step(x)
        for loss in losses:
            with pytest.raises(GradientError, match="changed"):
                loss.backward()
    assert w._version is v._version


def test_small_results_belong_to_the_caller():
    f = mg.compile(lambda x: (x + 1.0, x.sum()))
    results = [f(mg.full((4,), float(k))) for k in range(5)]
    assert f._replay is not None
    for k, (y, total) in enumerate(results):
        assert y.tolist() == [k + 1.0] * 4
        assert total.item() == 4.0 * k


@pytest.mark.parametrize(
    "make",
    [
        optim.Adam,
        optim.AdamW,
        lambda p, lr: optim.SGD(p, lr, momentum=0.9),
        lambda p, lr: optim.SGD(p, lr, momentum=0.9, weight_decay=0.01),
        lambda p, lr: optim.SGD(p, lr, momentum=0.9, nesterov=True),
        lambda p, lr: optim.SGD(p, lr, momentum=0.9, nesterov=True, weight_decay=0.01),
    ],
)
@pytest.mark.parametrize("dtype", [f32, f64])
def test_loops_of_their_own_compute_what_the_steps_do(make, dtype, rng):
    sizes = [1, 15, 16, 37, 300, 9001]
    params = [mg.tensor(rng.normal(size=n), dtype=dtype, requires_grad=True) for n in sizes]
    grads = [mg.tensor(rng.normal(size=n) * 10.0 ** rng.integers(-12, 12), dtype=dtype) for n in sizes]
    optimizer = make(params, lr=0.1)

    def step(*grads):
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        optimizer.step()

    captured = mg.compile(step).captured(*grads)
    program = Program(run(captured.graph))
    lanes = [i.attributes for i in program.instructions if i.kernel == "lanes"]
    assert [a.lanes for a in lanes if a.chain] == [len(sizes)]
    arrays = [g.numpy() for g in grads]
    arrays += [s.array if s.tensor is None else s.tensor()._array for s in captured.state]
    arrays += [np.array(n.read(), np.float64) for n in captured.live]
    results = []
    for chained in (True, False):
        for a in lanes:
            a.chain = a.chain if chained else 0
        results.append([a.copy() for a in arrays])
        for _ in range(3):
            program(*results[-1])
    for before, one, other in zip(arrays, *results, strict=True):
        eps = (
            np.finfo(one.dtype).eps if one.dtype.kind == "f" else 0
        )  # both round once a step, on the way of p
        np.testing.assert_allclose(one, other, rtol=8 * eps, atol=8 * eps * 0.3 if one is not before else 0)
    changed = [not np.array_equal(a, b) for a, b in zip(arrays, results[0], strict=True)]
    if isinstance(optimizer, optim.Adam):
        assert sum(changed) == 4 * len(sizes)  # parameter, two moments and the count of steps
    else:  # the momentum, and parameters whose gradient is not too small to change them
        assert len(sizes) < sum(changed) <= 2 * len(sizes)


def test_constant_weights_are_packed_once(rng):
    w, b = rng.normal(size=(40, 70)).astype(np.float32), rng.normal(size=70).astype(np.float32)
    kernel = rng.normal(size=(32, 32, 3, 3)).astype(np.float32)
    image = rng.normal(size=(2, 32, 16, 16)).astype(np.float32)
    for f, x in (
        (lambda x: (x @ mg.tensor(w) + mg.tensor(b)).relu(), rng.normal(size=(9, 40)).astype(np.float32)),
        (lambda x: (x @ mg.tensor(w) + mg.tensor(b)).tanh(), rng.normal(size=(33, 40)).astype(np.float32)),
        (lambda x: x @ mg.tensor(w.T.copy()).T, rng.normal(size=(3, 5, 40)).astype(np.float32)),
        (lambda x: x @ mg.tensor(w[:, 10:30].copy()), rng.normal(size=(2, 40)).astype(np.float32)),
        (lambda x: F.conv2d(x, mg.tensor(kernel), padding=1), image),
    ):
        program = like_the_interpreter(f, x, tolerance=2e-5)
        assert program._packed.size > 0
        for i in program.instructions:
            assert i.kernel != "gemm" or i.attributes.packed_b
            assert i.kernel != "product" or i.attributes.gemm.packed_b
    assert (
        made(lambda x: x @ mg.tensor(w), Spec((1, 40), f32))._packed.size == 0
    )  # a single row gains nothing


@pytest.mark.parametrize("dtype", [f32, f64, i64])
def test_rows_by_number_are_instructions(dtype, rng):
    table = rng.normal(size=(11, 3, 2)).astype(dtype)
    index = rng.integers(0, 11, size=(4, 5))
    program = like_the_interpreter(lambda t, i: F.embedding(i, t.reshape(11, 6)), table, index)
    assert "gather_rows" in kernels(program)
    if dtype != i64:
        g = rng.normal(size=(20, 6)).astype(dtype)
        base = rng.normal(size=(11, 6)).astype(dtype)
        program = like_the_interpreter(lambda b, i, g: b.index_add(0, i.reshape(-1), g), base, index, g)
        assert "scatter_add_rows" in kernels(program)
        with pytest.raises(Error, match="index_add"):
            program(base, index + 8, g)
    with pytest.raises(Error, match="index_select"):
        made(lambda t, i: t.index_select(0, i), Spec((11, 3), dtype), Spec((2,), i64))(
            table[:, :, 0].copy(), np.array([3, 11])
        )


def test_results_with_a_history_take_the_quick_way_and_refuse_backward():
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.compile
    def step(x):
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        with mg.no_grad():
            w.sub_(w.grad)
        w.grad = None
        return loss, loss * 2, loss.detach(), 3

    x = mg.tensor([1.0, -1.0])
    for k in range(4):
        quick = step._replay
        loss, double, plain, three = step(x)
        assert k < 2 or step._replay is quick is not None
        assert (loss.item(), double.item(), plain.item(), three) == (-1 - 2 * k, -2 - 4 * k, -1 - 2 * k, 3)
        assert (loss.requires_grad, double.requires_grad, plain.requires_grad) == (True, True, False)
        with pytest.raises(GradientError, match="keeps no history"):
            (double + 1).backward()
        assert "test_program.py" in str(loss._node.where)


def test_the_quick_way_takes_nests_numbers_and_views():
    f = mg.compile(lambda x, *, pair, scale=1.0, name="sum": (x * pair["a"] + scale * pair["b"][0]).sum())
    base = mg.arange(12.0).reshape(4, 3)

    def call(row, scale, **more):
        pair = {"a": base[row], "b": (base[row + 1], None)}
        y = f(base[0], pair=pair, scale=scale, **more)
        return y.item(), (base[0] * base[row] + scale * base[row + 1]).sum().item()

    for scale, traces in ((1.0, 1), (2.0, 2), (0.0, 3), (-0.0, 4), (2, 5), (1.0, 5)):
        for row in (1, 2, 1):
            got, wanted = call(row, scale)
            assert got == wanted
        assert f._replay is not None
        assert f.traces == traces
    assert call(1, 1.0, name="other")[0] == call(1, 1.0)[0]
    assert f.traces == 6
    quick = f._replay
    x = base[0]
    assert f(x, pair={"a": x, "b": (x, None)}).item() == (x * x + x).sum().item()  # one tensor three times
    assert f.traces == 7
    with pytest.raises(Error, match="ndarray"):
        f(base[0].numpy(), pair={"a": base[1], "b": (base[2], None)})
    assert f(base[0], pair={"a": base[1], "b": (base[2], None)}).item() == call(1, 1.0)[1]
    assert quick is not f._replay is not None
