"""Tracing: what is an input, a constant, a guard; and what is left behind, which is nothing."""

from __future__ import annotations

from collections import defaultdict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import TraceError
from minigrad.execute import interpret
from minigrad.ir import Spec, float32
from minigrad.optim.registers import Register
from minigrad.trace import capture, trace
from minigrad.tree import flatten, tree_leaves, tree_map

SPEC = Spec((2,), float32)


def captured(f, *args, **kwargs):
    return capture(f, args, kwargs)


# -- state and constants -------------------------------------------------------------------------------------


def test_what_is_state():
    w, box = mg.ones(2), [mg.ones(2)]
    c = captured(lambda x: x * w + box[0] * 2.0 + mg.tensor([1.0, 1.0]), mg.ones(2))
    assert [s.tensor() for s in c.state] == [w, box[0]]
    assert sorted(k.size for k in c.graph.constants) == [1, 2]


def test_what_a_saved_value_is():
    """Numbers that the tape keeps while the function runs are constants all the same."""
    w = mg.ones(2, requires_grad=True)

    def f(x):
        loss = (w * 3.0 * x).sum()
        loss.backward()
        return loss

    c = captured(f, mg.ones(2))
    assert len(c.state) == 1
    assert w.grad is None


def test_state_made_inside_is_state():
    cache = {}

    def f(x):
        if "sum" not in cache:
            cache["sum"] = mg.tensor([0.0, 0.0])
        cache["sum"].add_(x)
        return cache["sum"] * 1.0

    g = mg.compile(f)
    assert g(mg.ones(2)).tolist() == [1.0, 1.0]
    assert g(mg.ones(2)).tolist() == [2.0, 2.0]
    assert cache["sum"].tolist() == [2.0, 2.0]


def test_detached_and_shared_memory_is_one_state():
    w = mg.ones(2, requires_grad=True)

    def f(x):
        w.detach().mul_(2.0)
        with mg.no_grad():
            w.data.add_(x)
        return w.detach() * 1.0

    c = captured(f, mg.ones(2))
    assert len(c.state) == 1
    assert mg.compile(f)(mg.ones(2)).tolist() == [3.0, 3.0]
    assert w.tolist() == [3.0, 3.0]
    assert w.requires_grad


def test_simple_traces_take_state_as_constants():
    w = mg.ones(2)
    graph = trace(lambda x: x * w, SPEC)
    assert len(graph.inputs) == 1
    w.fill_(5.0)
    assert interpret(graph)(np.ones(2, np.float32))[0].tolist() == [1.0, 1.0]
    for f in (lambda x: w.assign(x), lambda x: w.add_(x), lambda x: mg.rand(2) * x):
        with pytest.raises(TraceError, match=r"minigrad\.compile"):
            trace(f, SPEC)
    assert w.tolist() == [5.0, 5.0]


def test_nothing_is_left_behind():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    model(mg.ones(4, 2)).sum().backward()
    grads = [p.grad for p in model.parameters()]
    values = [v.numpy().copy() for v in model.state_dict().values()]
    versions = [p.version for p in model.parameters()]
    state = mg.get_rng_state()
    captured(step, mg.ones(4, 2))
    assert [p.grad for p in model.parameters()] == grads
    assert [p.version for p in model.parameters()] == versions
    assert mg.get_rng_state() == state
    for v, before in zip(model.state_dict().values(), values, strict=True):
        np.testing.assert_array_equal(v.numpy(), before)
    for p in model.parameters():
        assert isinstance(p._array, np.ndarray)
        assert isinstance(p.grad._array, np.ndarray)


def test_lines_are_the_users():
    w = mg.ones(2, requires_grad=True)
    sgd = optim.SGD([w], lr=0.1)

    def step(x):
        sgd.zero_grad()
        (w * x).sum().backward()
        sgd.step()

    graph = captured(step, mg.ones(2)).graph
    assert {node.where.partition(":")[0] for node in graph.nodes} == {"test_trace.py"}


# -- what cannot be recorded ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * x.sum().item(),
        lambda x: x * float(x.sum()),
        lambda x: mg.tensor(x.numpy()),
        lambda x: x[int(x.argmax())],
        lambda x: [y for y in range(3) if y in x],
        lambda x: x[x > 0],
        lambda x: mg.nonzero(x),
        lambda x: np.asarray(x),
    ],
)
def test_decisions_on_values_are_refused(f):
    with pytest.raises(TraceError, match=r"test_trace\.py.*;") as info:
        captured(f, mg.ones(2))
    assert len(str(info.value).split("; ")[-1]) > 10


def test_values_of_changed_state_are_refused():
    count = mg.zeros(())

    def f(x):
        count.add_(1.0)
        return x * count.item()

    with pytest.raises(TraceError, match="changed in this trace"):
        captured(f, mg.ones(2))
    assert count.item() == 0.0


def test_tensors_of_other_traces_are_refused():
    kept = []

    def leak(x):
        kept.append(x * 2.0)
        return x

    captured(leak, mg.ones(2))
    with pytest.raises(TraceError):
        captured(lambda x: x + kept[0], mg.ones(2))
    with pytest.raises(TraceError):
        kept[0] + 1.0
    with pytest.raises(TraceError):
        mg.compile(lambda x: x)(kept[0])


# -- guards --------------------------------------------------------------------------------------------------


def test_guards():
    model = nn.Dropout(0.5)
    c = captured(lambda x: model(x), mg.ones(2))
    assert all(g.holds() for g in c.guards)
    model.eval()
    assert not all(g.holds() for g in c.guards)
    model.train()
    assert all(g.holds() for g in c.guards)


# -- registers -----------------------------------------------------------------------------------------------


def test_registers_are_weak_like_numbers():
    p = Register(mg.ones(3))
    lr = Register(mg.tensor(0.5, dtype="float64"), weak=True)
    assert (p * lr).dtype == float32
    assert (1 - lr).weak
    assert (1 - lr * 2.0).dtype == mg.float64
    assert (lr**2 / 3.0 - 1.0 + lr).weak
    assert not (p - lr).weak
    p -= lr
    assert p.value.tolist() == [0.5] * 3
    p[...] = np.zeros(3)
    assert p.value.tolist() == [0.0] * 3
    assert (-p).shape == (3,)
    assert p.copy() is not p


def test_registers_refuse_what_cannot_be_recorded():
    p = Register(mg.ones(3))
    for bad in (lambda: np.add.reduce(p), lambda: np.copysign(p, p), lambda: np.add(p, p, out=np.ones(3))):
        with pytest.raises(TraceError):
            bad()
    with pytest.raises(TraceError, match="part"):
        p[0] = 1.0


def test_optimizers_of_ones_own():
    class Signs(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def update(self, p, g, state, group):
            s = np.sign(g, out=self.scratch(p))
            s *= self.hyper(group, "lr")
            p -= s

    results = []
    for wrap in (lambda f: f, mg.compile):
        w = mg.tensor([1.0, -2.0], requires_grad=True)
        optimizer = Signs([w], 0.25)

        def step(w=w, optimizer=optimizer):
            optimizer.zero_grad()
            (w * w).sum().backward()
            optimizer.step()

        step = wrap(step)
        step(), step()
        results.append(w.tolist())
    assert results[0] == results[1] == [0.5, -1.5]


# -- nests ---------------------------------------------------------------------------------------------------

Point = namedtuple("Point", "x y")


@dataclass
class Data:
    a: object
    b: object = 2


class Table(dict):
    pass


def test_trees():
    tree = {"p": Point(1, [2, (3,)]), "d": Data(4, None), "t": Table(k=5), "e": ()}
    leaves, structure = flatten(tree)
    assert leaves == [1, 2, 3, 4, None, 5]
    again = structure.build(leaves)
    assert again == tree
    assert isinstance(again["t"], Table)
    assert isinstance(again["d"], Data)
    assert hash(structure) == hash(flatten(again)[1])
    assert flatten(Data(1))[1] != flatten(Point(1, 2))[1]
    assert tree_map(str, Point(1, 2)) == Point("1", "2")
    assert tree_leaves([[], 3]) == [3]
    assert tree_map(lambda x: x, defaultdict(int, a=1)) == {"a": 1}


def test_a_tensor_filled_twice_in_a_trace() -> None:
    """What `fill_` writes is broadcast, a view of one number; the tensor is none."""

    def targets(x):
        label = mg.full((3,), 1.0)
        y = (x - label).sum()
        label.fill_(0.5)
        y = y * (x - label).sum()
        label.fill_(2.0)
        return y + label.sum()

    x = mg.arange(3.0)
    assert mg.compile(targets)(x).item() == targets(x).item() == 6.0


def test_a_mask_in_a_trace_gets_one_value() -> None:
    def f(x, v):
        y = x * 1.0
        y[y < 0] = 0.0
        y[y.sum(1) > 2] = v
        y[x > 1.5] = mg.tensor(9.0)
        return (y * y).sum(), y

    def step(x, v):
        loss, y = f(x, v)
        return (y.detach(), *mg.autograd.grad(loss, (x, v)))

    x = mg.randn(5, 3, requires_grad=True)
    v = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for a, b in zip(mg.compile(step)(x, v), step(x, v), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    with pytest.raises(TraceError, match="depends on values"):
        mg.compile(lambda x: x[x > 0])(x.detach())
    with pytest.raises(TraceError, match="depends on values"):
        mg.compile(lambda x: x.__setitem__(x > 0, mg.ones(4)))(mg.ones(3))
