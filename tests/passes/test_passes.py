"""Each pass on graphs written for it; the runner; planted mistakes."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import minigrad as mg
from minigrad import autograd
from minigrad.errors import ArgumentError
from minigrad.execute import interpret
from minigrad.ir import Builder, Graph, GraphError, Group, Spec, check, float32
from minigrad.nn import functional as F
from minigrad.ops import OPS
from minigrad.passes import PASSES, PIPELINE, cse, fold, fuse, prune, run, simplify
from minigrad.passes.cost import bytes_moved, flops
from minigrad.passes.fuse import programs, stored
from minigrad.record import KINDS
from minigrad.trace import trace

SPEC = Spec((3, 4), float32)


def names(graph):
    return [node.op.name for node in graph.nodes]


def after(f, *passes, specs=(SPEC,)):
    graph = run(trace(f, *specs), passes)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s.shape).astype(s.dtype) for s in specs]
    wanted = f(*(mg.tensor(a) for a in arrays))
    wanted = wanted if isinstance(wanted, (tuple, list)) else [wanted]
    for a, b in zip(interpret(graph)(*arrays), wanted, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-6)
    return graph


# -- fold ----------------------------------------------------------------------------------------------------


def test_fold_computes_constants():
    assert names(after(lambda x: x * (mg.tensor(2.0).exp() + 1.0).sqrt(), fold)) == ["mul"]


def test_fold_keeps_uniform_values_small():
    graph = after(lambda x: x + mg.ones(3, 4) * 2.0, fold)
    assert names(graph) == ["add"]
    assert after(lambda x: mg.zeros(1000, 1000) + x.sum(), fold).constants[0].strides == (0, 0)


def test_fold_does_not_blow_up():
    assert "flip" in names(after(lambda x: mg.tensor([1.0]).expand(300, 300).flip(0) + x.sum(), fold))


def test_fold_leaves_errors_to_run_time():
    graph = fold(trace(lambda x: x + mg.tensor([1, 2]) // mg.tensor(0), Spec((2,), float32)))
    assert "floor_divide" in names(graph)
    with pytest.raises(ArgumentError, match=r"integer divided by zero.*test_passes\.py"):
        interpret(graph)(np.ones(2, np.float32))


# -- simplify ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "left"),
    [
        (lambda x: x * 1.0, []),
        (lambda x: 1.0 * x, []),
        (lambda x: x / 1.0, []),
        (lambda x: x - 0.0, []),
        (lambda x: x + 0.0, ["add"]),
        (lambda x: 0.0 - x, ["sub"]),
        (lambda x: x * 0.0, ["mul"]),
        (lambda x: x.neg().neg(), []),
        (lambda x: x.relu().relu(), ["relu"]),
        (lambda x: x.abs().abs(), ["abs"]),
        (lambda x: mg.maximum(x, x), []),
        (lambda x: x.reciprocal().reciprocal(), ["reciprocal", "reciprocal"]),
        (lambda x: x.flip(0).flip(0), []),
        (lambda x: x.flip(0).flip(1), ["flip", "flip"]),
        (lambda x: mg.tril(mg.tril(x)), ["tril"]),
        (lambda x: mg.tril(mg.tril(x), 1), ["tril", "tril"]),
        (lambda x: x.clone().contiguous(), []),
        (lambda x: x.reshape(12).reshape(2, 6).reshape(4, 3), ["reshape"]),
        (lambda x: x.reshape(12).reshape(3, 4), []),
        (lambda x: x.T.T, []),
        (lambda x: x.unsqueeze(0).permute(1, 0, 2).permute(2, 1, 0), ["reshape", "permute"]),
        (lambda x: x + x.sum(0, keepdim=True).expand(3, 4), ["sum", "add"]),
        (lambda x: x.sum(0).expand(3, 4) * 2.0, ["sum", "broadcast_to", "mul"]),
        (lambda x: x * mg.ones(3, 4), []),
        (lambda x: x @ x.T, ["matmul"]),
        (lambda x: (x.T @ x).T, ["matmul"]),
        (lambda x: x.to(mg.float64).to(mg.float32), ["cast", "cast"]),
        (lambda x: x.pow(mg.tensor(1.0)), []),
    ],
)
def test_simplify(f, left):
    assert names(after(f, fold, simplify, prune)) == left


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1)])
def test_a_mask_after_pooling_is_applied_to_what_was_pooled(kernel, stride):
    """The gradient of max_pool(relu(x)) to the bit, with NaN, Inf, zeros and windows that overlap; and the
    large value is not needed any more on the way back."""

    def f(x, g):
        y = F.max_pool2d(F.relu(x), kernel, stride)
        return autograd.grad([y], [x], [g])[0]

    x = np.random.default_rng(0).normal(size=(2, 3, 9, 9)).astype(np.float32)
    x[0, 0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    shape = F.max_pool2d(mg.tensor(x), kernel, stride).shape
    g = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    g[0, 1, 0, :3] = np.inf, np.nan, -0.0
    graph = trace(lambda x, g: f(x.detach().requires_grad_(), g), *(Spec(a.shape, float32) for a in (x, g)))
    after = prune(simplify(fold(graph)))
    (wanted,), (got,) = (interpret(one)(x, g) for one in (graph, after))
    assert got.tobytes() == wanted.tobytes()
    masks = [node for node in after.nodes if node.op.traits.get("masks")]
    assert [node.spec.shape for node in masks] == [(2, 3, shape[2] * shape[3])]


def test_a_mask_of_something_else_stays():
    """Another value decides, or what is masked is used elsewhere as well."""

    def other(x, y):
        z = F.max_pool2d(F.relu(x), 2)
        return F.relu(autograd.grad([z.sum()], [x])[0]) * y

    def both(x, y):
        z = F.relu(x)
        g = autograd.grad([F.max_pool2d(z, 2).sum()], [z, x])
        return g[0] * y, g[1]

    for f in (other, both):
        graph = trace(lambda x, y, f=f: f(x.detach().requires_grad_(), y), *[Spec((1, 2, 4, 4), float32)] * 2)
        x = np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(np.float32)
        for a, b in zip(interpret(graph)(x, x), interpret(prune(simplify(fold(graph))))(x, x), strict=True):
            assert a.tobytes() == b.tobytes()


def test_simplify_keeps_signed_zeros_and_nan():
    x = np.array([-0.0, 0.0, np.nan, np.inf], np.float32)
    for f in (
        lambda t: t + 0.0,
        lambda t: t - 0.0,
        lambda t: t * 0.0,
        lambda t: t.neg().neg(),
        lambda t: t * 1.0,
    ):
        graph = run(trace(f, Spec((4,), float32)))
        (got,) = interpret(graph)(x)
        wanted = f(mg.tensor(x)).numpy()
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(wanted))


def test_a_unit_that_widens_stays():
    graph = after(lambda x: x[0] * mg.ones(3, 4), fold, simplify, prune)
    assert names(graph) == ["basic_index", "mul"]


# -- cse and prune -------------------------------------------------------------------------------------------


def test_cse_merges_what_is_the_same():
    assert names(after(lambda x: (x * 2.0 + 1.0) * (2.0 * x + 1.0), cse)) == ["mul", "add", "mul"]
    assert names(after(lambda x: x - 2.0 + (2.0 - x), cse)) == ["sub", "sub", "add"]


def test_cse_tells_attributes_apart():
    def f(x):
        return x.clamp(min=0.0) / x.clamp(min=-0.0), x.sum(0), x.sum(1)

    assert names(trace(f, SPEC)) == names(cse(trace(f, SPEC)))


def test_random_numbers_are_not_merged_unless_they_are_the_same():
    f = mg.compile(lambda: mg.rand(3) - mg.rand(3))
    assert names(f.graph()).count("uniform") == 2
    assert f().abs().max().item() > 0.0


def test_prune_keeps_updates():
    w = mg.zeros(2)

    @mg.compile(passes=("prune",))
    def f(x):
        x.exp()
        w.assign(x * 2.0)
        return x + 1.0

    assert names(f.graph(mg.ones(2))) == ["mul", "add"]
    f(mg.ones(2))
    assert w.tolist() == [2.0, 2.0]


# -- fuse ----------------------------------------------------------------------------------------------------


def groups(graph):
    return [[n.op.name for n in graph.nodes[g.start : g.stop]] for g in graph.groups]


def test_chains_with_broadcasting_are_one_group():
    graph = after(lambda x: ((x * 2.0 + x[0]).tanh() - x[:, :1]).exp(), fuse)
    assert ["mul", "add", "tanh", "sub", "exp"] in groups(graph)


def test_epilogue_of_a_product():
    graph = after(lambda x, w: (x @ w + 1.0).relu(), fuse, specs=(SPEC, Spec((4, 5), float32)))
    assert groups(graph) == [["matmul", "add", "relu"]]
    (program,) = programs(graph, graph.groups[0])
    assert program.space == Spec((3, 5), float32)
    assert [s.output is None for s in program.steps] == [True, True, False]


def test_a_product_that_is_used_twice_is_an_output_of_its_group():
    def f(x, w):
        y = x @ w
        return y.relu(), y.T @ y

    graph = after(f, fuse, specs=(SPEC, Spec((4, 5), float32)))
    (group,) = graph.groups
    assert len(stored(graph, group)) == 2


def test_elementwise_into_a_reduction():
    assert groups(after(lambda x: (x.square() + 1.0).sum(), fuse)) == [["square", "add", "sum"]]
    assert groups(after(lambda x: (x * 2.0).sum(0), fuse)) == [["mul", "sum"]]


def test_rows():
    def softmax(x):
        e = (x - x.amax(1, keepdim=True)).exp()
        return e / (x - x.amax(1, keepdim=True)).exp().sum(1, keepdim=True)

    graph = after(softmax, cse, fuse)
    assert groups(graph) == [["amax", "sub", "exp", "sum", "true_divide"]]
    assert groups(after(lambda x: (x * 2.0).softmax(1) + 1.0, fuse)) == [["mul", "softmax", "add"]]
    columns = after(lambda x: x - x.mean(0, keepdim=True), fuse)
    assert not columns.groups  # columns are not contiguous
    both = after(lambda x: x - x.mean(1, keepdim=True) - x.sum((0, 1), keepdim=True), fuse)
    assert all("mean" not in g or "sum" not in g for g in groups(both))


def test_siblings_share_a_loop():
    def f(x):
        d = x - 1.0
        return d.square().sum(), (d + d) * 0.5

    assert groups(after(f, fuse)) == [["sub", "square", "sum", "add", "mul"]]


def test_no_cycles():
    """A value that leaves a group and comes back through a product cannot be inside."""

    def f(x):
        y = x.tanh()
        z = y @ y.T @ x
        return y * z

    graph = after(f, simplify, fuse)
    for group in groups(graph):
        assert not {"tanh", "mul"} <= set(group)


def test_updates_are_lanes_of_one_group():
    parameters = [mg.zeros(n, 3) for n in (2, 3, 4)]
    moments = [mg.zeros(n, 3) for n in (2, 3, 4)]

    @mg.compile
    def f(x):
        for p, m in zip(parameters, moments, strict=True):
            g = p * 0.0 + x.sum()
            m.assign(m * 0.9 + g)
            p.assign(p - 0.1 * m)

    graph = f.graph(mg.ones(3))
    (group,) = [g for g in graph.groups if g.lanes > 1]
    assert group.lanes == 3
    assert len({str(p).split(":")[1].count("mul") for p in programs(graph, group)}) == 1
    f(mg.ones(3))
    for p, m in zip(parameters, moments, strict=True):
        np.testing.assert_allclose(m.numpy(), 3.0)
        np.testing.assert_allclose(p.numpy(), -0.3, rtol=1e-6)


def test_a_training_step_is_few_steps():
    from minigrad import nn, optim

    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = optim.Adam(model.parameters())

    @mg.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    graph = step.graph(mg.ones(5, 8), mg.ones(5, 4))
    assert len(graph.nodes) < 130
    assert len(graph.steps()) <= 16
    assert bytes_moved(graph) < 0.6 * bytes_moved(replace(graph, groups=()))


def test_costs():
    graph = trace(lambda x: x @ x.T, SPEC)
    assert flops(graph) == 2 * 3 * 4 * 3
    conv = trace(lambda x, w: F.conv2d(x, w), Spec((2, 3, 8, 8), float32), Spec((5, 3, 3, 3), float32))
    assert flops(conv) == 2 * (2 * 5 * 6 * 6) * (3 * 3 * 3)


# -- the runner ----------------------------------------------------------------------------------------------


def test_user_passes_and_leaving_out():
    seen = []

    def mine(graph):
        seen.append(len(graph.nodes))
        return graph

    f = mg.compile(lambda x: x * 1.0 + 2.0, passes=("simplify", mine), without=("simplify",))
    f(mg.ones(2))
    assert seen == [2]
    assert mg.compile(lambda x: x, without=("fuse", "cse")).passes == (fold, simplify, prune)
    with pytest.raises(ArgumentError, match="no pass 'fuze'"):
        run(trace(lambda x: x, SPEC), ("fuze",))
    with pytest.raises(ArgumentError, match="no pass"):
        mg.compile(lambda x: x, without=("fuze",))


def test_observer_sees_every_pass():
    seen = []
    run(trace(lambda x: x.exp(), SPEC), observer=lambda name, before, after: seen.append(name))
    assert tuple(seen) == PIPELINE == tuple(PASSES)


def test_passes_name_no_operation():
    import ast
    from pathlib import Path

    import minigrad.passes

    for path in Path(minigrad.passes.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        docs = {
            id(n.body[0].value)
            for n in ast.walk(tree)
            if hasattr(n, "body") and isinstance(n.body, list) and n.body and isinstance(n.body[0], ast.Expr)
        }
        strings = {
            n.value
            for n in ast.walk(tree)
            if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs
        }
        named = (strings & set(OPS)) - set(KINDS)
        assert not named, f"{path.name} names {named}"


# -- planted mistakes ------------------------------------------------------------------------------------


def graph():
    return trace(lambda x: ((x * 2.0).exp().sum(0), x + 1.0), SPEC)


def swapped(g: Graph) -> Graph:
    return replace(g, nodes=g.nodes[::-1])


def wrong_spec(g: Graph) -> Graph:
    return replace(g, nodes=(replace(g.nodes[0], spec=Spec((3, 4), mg.float64)), *g.nodes[1:]))


def dropped_output(g: Graph) -> Graph:
    return replace(g, outputs=g.outputs[:1])


def other_output(g: Graph) -> Graph:
    return replace(g, outputs=g.outputs[::-1])


def other_input(g: Graph) -> Graph:
    return replace(g, inputs=(*g.inputs, SPEC))


def forgotten_node(g: Graph) -> Graph:
    return replace(g, nodes=g.nodes[1:])


def new_update(g: Graph) -> Graph:
    return replace(g, updates=((0, g.outputs[1]),))


def overlapping_groups(g: Graph) -> Graph:
    return replace(g, groups=(Group(0, 2), Group(1, 3)))


def endless_group(g: Graph) -> Graph:
    return replace(g, groups=(Group(0, 99),))


def false_lanes(g: Graph) -> Graph:
    return replace(g, groups=(Group(0, 2, 2),))


def odd_lanes(g: Graph) -> Graph:
    return replace(g, groups=(Group(0, 3, 2),))


@pytest.mark.parametrize(
    "broken",
    [
        swapped, wrong_spec, dropped_output, other_output, other_input, forgotten_node, new_update,
        overlapping_groups, endless_group, false_lanes, odd_lanes,
    ],
)  # fmt: skip
def test_a_broken_pass_is_caught_where_it_is_broken(broken):
    with pytest.raises(GraphError, match=f"after the pass '{broken.__name__}'"):
        run(graph(), ("fold", broken, "prune"))


def test_checker_of_updates():
    x = Builder([SPEC, SPEC])
    y = x.node(OPS["neg"], [0], (), SPEC)
    assert check(x.finish([y], [(0, y), (1, 0)])).updates
    for updates, complaint in (
        ([(0, y), (0, y)], "second time"),
        ([(y, y)], "no input"),
        ([(0, y + 7)], "not a value"),
    ):
        with pytest.raises(GraphError, match=complaint):
            check(x.finish([y], updates))
    z = Builder([SPEC])
    v = z.node(OPS["sum"], [0], ((0,), False), Spec((4,), float32))
    with pytest.raises(GraphError, match="takes float32"):
        check(z.finish([v], [(0, v)]))


def test_lanes_may_not_feed_each_other():
    x = Builder([SPEC])
    a = x.node(OPS["neg"], [0], (), SPEC)
    b = x.node(OPS["neg"], [a], (), SPEC)
    with pytest.raises(GraphError, match="lane"):
        check(x.finish([b], (), [Group(0, 2, 2)]))
    check(x.finish([b], (), [Group(0, 2)]))


def test_text_shows_groups_and_updates():
    w = mg.ones(3)
    f = mg.compile(lambda x: w.assign((w * x + 1.0).exp()))
    text = str(f.graph(mg.ones(3)))
    assert "group:" in text
    assert "    %" in text
    assert "update %1 = %" in text


def test_gradients_of_many_layers_stay_linear():
    """Compile work, counted in calls, grows with the program and not with its square."""

    def work(layers):
        def f(x):
            y = x
            for _ in range(layers):
                y = (y * 1.1 + 0.1).tanh()
            return autograd.grad(y.sum(), x)[0]

        calls = 0

        def count(frame, event, argument):
            nonlocal calls
            calls += event == "call"

        x = mg.ones(4, 4, requires_grad=True)
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            graph = mg.compile(f).graph(x)
        finally:
            sys.setprofile(before)
        assert len(graph.steps()) < 10
        return calls

    work(10)  # what is done once per process
    assert work(160) < 2.5 * work(80)
