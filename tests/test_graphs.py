"""Sparse matrices, segments, graph layers and graph data: what is right, and what bad input is told."""

from __future__ import annotations

import io

import numpy as np
import pytest

import minigrad as mg
from minigrad import autograd, data, nn, sparse
from minigrad.data import restricted
from minigrad.data.download import fetch
from minigrad.errors import (
    ArgumentError,
    DTypeError,
    OutOfRangeError,
    ShapeError,
    TraceError,
)

EDGES = np.array([[0, 1, 1, 2, 4, 4, 4], [1, 0, 2, 1, 4, 0, 0]])  # 3 is isolated, 4-4 a loop, 4-0 twice


def dense(edges, n, values=None):
    a = np.zeros((n, n))
    np.add.at(a, (edges[0], edges[1]), 1.0 if values is None else values)
    return a


# -- matrices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_conversions(kind):
    a = sparse.from_edge_index(mg.tensor(EDGES.astype(kind)), num_nodes=5)
    wanted = dense(EDGES, 5)
    np.testing.assert_array_equal(a.to_dense().numpy(), wanted)
    np.testing.assert_array_equal(a.T.to_dense().numpy(), wanted.T)
    assert a.T.T.pattern is a.pattern
    np.testing.assert_array_equal(a.coalesce().to_dense().numpy(), wanted)
    assert a.coalesce().nnz == 6
    np.testing.assert_array_equal(sparse.from_dense(mg.tensor(wanted)).to_dense().numpy(), wanted)
    index, values = a.to_edge_index()
    np.testing.assert_array_equal(sparse.from_edge_index(index, values, 5).to_dense().numpy(), wanted)
    np.testing.assert_array_equal(a[[2, 0, 2]].to_dense().numpy(), wanted[[2, 0, 2]])
    np.testing.assert_array_equal(a[1:4].to_dense().numpy(), wanted[1:4])
    for dim in (None, 0, 1):
        np.testing.assert_array_equal(a.sum(dim).numpy(), wanted.sum(dim))


def test_scipy():
    scipy = pytest.importorskip("scipy.sparse")
    a = scipy.random(7, 5, 0.4, format="coo", random_state=0)
    b = sparse.from_scipy(a)
    np.testing.assert_array_equal(b.to_dense().numpy(), a.toarray())
    assert (b.to_scipy() != a.tocsr()).nnz == 0


def test_normalisation():
    a = sparse.from_edge_index(EDGES, num_nodes=5).to("float64")
    wanted = dense(EDGES, 5)
    np.testing.assert_array_equal(a.remove_self_loops().to_dense().numpy(), wanted - np.diag(np.diag(wanted)))
    looped = wanted + np.diag(np.diag(wanted) == 0)
    np.testing.assert_array_equal(a.add_self_loops().to_dense().numpy(), looped)
    d = wanted.sum(1)
    inverse = np.where(d > 0, 1 / np.maximum(d, 1), 0)
    np.testing.assert_allclose(a.normalize_rows().to_dense().numpy(), inverse[:, None] * wanted)
    root = np.sqrt(inverse)
    np.testing.assert_allclose(a.normalize_symmetric().to_dense().numpy(), root[:, None] * wanted * root)
    with pytest.raises(ArgumentError, match="no root"):
        (a * -1.0).normalize_symmetric()
    one_way = sparse.from_edge_index(
        [[0, 0], [1, 0]], mg.tensor([0.5, 0.5]), 3
    )  # row 1 is empty, column 1 is not
    np.testing.assert_array_equal(
        one_way.normalize_symmetric().to_dense().numpy()[:2, :2], [[0.5, 0], [0, 0]]
    )
    nothing = sparse.from_edge_index([[0, 0], [1, 0]], mg.zeros(2), 2)
    for normalised in (nothing.normalize_rows(), nothing.normalize_symmetric()):
        np.testing.assert_array_equal(normalised.to_dense().numpy(), np.zeros((2, 2)))


def test_gradients_reach_the_values():
    rng = np.random.default_rng(0)
    x = mg.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    w = mg.tensor(rng.uniform(0.5, 2.0, EDGES.shape[1]), requires_grad=True)

    def f(w, x):
        a = sparse.from_edge_index(EDGES, w, 5)
        return a.add_self_loops().normalize_symmetric() @ x + a.T @ (a.normalize_rows() @ x)

    assert autograd.gradcheck(f, [w, x])
    assert autograd.gradgradcheck(f, [w, x])


def test_constant_values_that_change():
    """What was remembered of values, the transposed order, does not outlive a change in place."""
    a = sparse.from_edge_index(EDGES, mg.ones(7), 5)
    x = mg.ones(5, 1, requires_grad=True)

    def gradient():
        return autograd.grad((a @ x).sum(), x)[0].numpy().ravel()

    np.testing.assert_array_equal(gradient(), dense(EDGES, 5).sum(0))
    step = mg.compile(lambda x: autograd.grad((a @ x).sum(), x)[0])
    step(x)
    a.values.mul_(2.0)
    np.testing.assert_array_equal(gradient(), 2 * dense(EDGES, 5).sum(0))
    np.testing.assert_array_equal(step(x).numpy().ravel(), 2 * dense(EDGES, 5).sum(0))


def test_segments():
    rng = np.random.default_rng(1)
    x, index = rng.normal(size=(9, 2)), np.array([3, 0, 3, 1, 1, 0, 3, 3, 0])
    for name, of in [("sum", np.sum), ("mean", np.mean), ("max", np.max), ("min", np.min)]:
        got = getattr(sparse, f"segment_{name}")(mg.tensor(x), mg.tensor(index), 5).numpy()
        wanted = [of(x[index == i], axis=0) if (index == i).any() else np.zeros(2) for i in range(5)]
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    y = sparse.segment_softmax(mg.tensor(x), mg.tensor(index)).numpy()
    for i in (0, 1, 3):
        e = np.exp(x[index == i])
        np.testing.assert_allclose(y[index == i], e / e.sum(0))
    t = mg.tensor(x, requires_grad=True)
    for name in ("sum", "mean", "max", "softmax"):
        assert autograd.gradcheck(lambda t, n=name: getattr(sparse, f"segment_{n}")(t, index), [t])
    assert autograd.gradcheck(lambda t: sparse.gather(t, np.array([2, 2, 0])), [t])


# -- bad input -----------------------------------------------------------------------------------------------


def test_bad_input():
    x = mg.ones(5, 3)
    conv = nn.GCNConv(3, 2)
    for wrong, error, text in [
        (mg.tensor([[0, 5], [1, 0]]), OutOfRangeError, "source 5, but there are 5 nodes"),
        (mg.tensor([[0, 1], [1, -1]]), OutOfRangeError, "target -1"),
        (mg.tensor([[0.0, 1.0], [1.0, 0.0]]), DTypeError, "dtype float32"),
        (mg.tensor([[0, 1], [1, 0], [2, 2]]), ShapeError, r"is a transpose"),
        (mg.tensor([0, 1]), ShapeError, "two rows"),
        (sparse.from_edge_index(EDGES, num_nodes=7), ShapeError, r"\(7, 7\)"),
        ("edges", DTypeError, "str"),
    ]:
        with pytest.raises(error, match=text):
            conv(x, wrong)
    with pytest.raises(ShapeError, match="in_channels=3"):
        conv(mg.ones(5, 4), EDGES)
    with pytest.raises(ShapeError, match="7 edges"):
        conv(x, EDGES, mg.ones(6))
    with pytest.raises(ShapeError, match=r"sparse matrix of shape \(5, 5\)"):
        sparse.from_edge_index(EDGES, num_nodes=5) @ mg.ones(4, 2)
    with pytest.raises(OutOfRangeError):
        sparse.from_edge_index(EDGES, num_nodes=4)
    with pytest.raises(OutOfRangeError):
        sparse.segment_sum(mg.ones(3), mg.tensor([0, 1, 2]), 2)
    with pytest.raises(ShapeError, match="one number for each row"):
        sparse.segment_sum(mg.ones(3), mg.tensor([0, 1]))
    with pytest.raises(ArgumentError, match="undirected"):
        data.random_link_split(data.Graph(edge_index=EDGES), is_undirected=True)
    with pytest.raises(ShapeError, match="edge_weight of shape"):
        data.Graph(edge_index=EDGES, edge_weight=np.ones(3))
    with pytest.raises(OutOfRangeError, match="node 4"):
        data.Graph(x=mg.ones(3, 1), edge_index=EDGES)


LAYERS = {
    "GCNConv": lambda: nn.GCNConv(3, 2),
    "GraphConv": lambda: nn.GraphConv(3, 2),
    "SAGEConv": lambda: nn.SAGEConv(3, 2),
    "SAGEmax": lambda: nn.SAGEConv(3, 2, aggr="max"),
    "GATConv": lambda: nn.GATConv(3, 2, heads=2),
    "GATv2Conv": lambda: nn.GATv2Conv(3, 2),
    "GINConv": lambda: nn.GINConv(nn.Linear(3, 2), train_eps=True),
    "ChebConv": lambda: nn.ChebConv(3, 2, K=3),
    "APPNP": lambda: nn.APPNP(3, 0.1),
    "SGConv": lambda: nn.SGConv(3, 2, K=2),
    "EdgeConv": lambda: nn.EdgeConv(nn.Linear(6, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    """Gradients, integers of both kinds, empty graphs and isolated nodes, compiled as eager."""
    layer = LAYERS[name]().double()
    x = mg.tensor(np.random.default_rng(2).normal(size=(5, 3)), requires_grad=True)
    edges = mg.tensor(EDGES)
    assert autograd.gradcheck(lambda x: layer(x, edges), [x])
    y = layer(x, edges)
    for same in (EDGES, EDGES.astype(np.int32), EDGES.tolist(), mg.tensor(EDGES.astype(np.int32))):
        np.testing.assert_array_equal(layer(x, same).detach().numpy(), y.detach().numpy())
    none = layer(x, np.zeros((2, 0), np.int64))
    assert np.isfinite(none.detach().numpy()).all()
    assert layer(x[:0], np.zeros((2, 0), np.int64)).shape[0] == 0

    def step(x):
        loss = layer(x, edges).square().sum()
        return loss.detach(), autograd.grad(loss, x)[0]

    for got, wanted in zip(mg.compile(step)(x), step(x), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), wanted.detach().numpy(), rtol=1e-11, atol=1e-12)
    with mg.backend("numpy"):
        np.testing.assert_allclose(
            layer(x, edges).detach().numpy(), y.detach().numpy(), rtol=1e-11, atol=1e-12
        )


def test_gcn_by_hand():
    """Equation 2 of the paper, in dense numpy: directed edges count for their targets."""
    edges = np.array([[0, 1, 1, 2, 0, 3], [1, 0, 2, 1, 3, 3]])  # 3 has a loop, 4 nothing
    x = np.random.default_rng(6).normal(size=(5, 3))
    a = dense(edges[::-1], 5)
    a += np.diag(np.diag(a) == 0)
    root = np.diag(a.sum(1) ** -0.5)
    layer = nn.GCNConv(3, 2).double()
    wanted = root @ a @ root @ x @ layer.lin.weight.detach().numpy().T
    got = layer(mg.tensor(x), mg.tensor(edges)).detach().numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_pooling_by_hand():
    x = np.random.default_rng(7).normal(size=(6, 2))
    batch = np.array([0, 0, 2, 2, 2, 3])
    for name, of in (("add", np.sum), ("mean", np.mean), ("max", np.max)):
        got = getattr(nn, f"global_{name}_pool")(mg.tensor(x), mg.tensor(batch), 5).numpy()
        for graph in range(5):
            own = x[batch == graph]
            wanted = of(own, 0) if len(own) else np.zeros(2)
            np.testing.assert_allclose(got[graph], wanted, rtol=1e-12)


def test_sparse_features():
    """A sparse x gives what the same dense x gives, in every layer that starts with a linear map."""
    values = np.random.default_rng(3).normal(size=(5, 3)) * (np.random.default_rng(4).random((5, 3)) < 0.5)
    x, a = mg.tensor(values), sparse.from_dense(values)
    for name in ("GCNConv", "GraphConv", "SAGEConv", "GATConv", "GATv2Conv", "SGConv"):
        layer = LAYERS[name]().double()
        np.testing.assert_allclose(
            layer(a, EDGES).detach().numpy(), layer(x, EDGES).detach().numpy(), rtol=1e-11, atol=1e-12
        )


def test_a_changed_graph_is_seen():
    conv = nn.GCNConv(3, 2)
    edges, x = mg.tensor(EDGES.copy()), mg.randn(5, 3)
    compiled = mg.compile(lambda x: conv(x, edges).detach())
    before = compiled(x).numpy().copy()
    np.testing.assert_allclose(before, conv(x, edges).detach().numpy(), rtol=1e-5, atol=1e-6)
    edges[1, 0] = 3
    after = conv(x, edges).detach().numpy()
    np.testing.assert_array_equal(after, conv(x, edges.numpy().copy()).detach().numpy())
    assert not np.allclose(before, after)
    np.testing.assert_allclose(compiled(x).numpy(), after, rtol=1e-5, atol=1e-6)


def test_a_traced_graph_is_refused():
    conv = nn.GCNConv(3, 2)
    with pytest.raises(TraceError, match="close over it"):
        mg.compile(lambda x, e: conv(x, e))(mg.ones(5, 3), mg.tensor(EDGES))
    adj = sparse.from_edge_index(EDGES, num_nodes=5).T
    f = mg.compile(lambda x, a: conv(x, a).detach())
    np.testing.assert_allclose(
        f(mg.ones(5, 3), adj).numpy(), conv(mg.ones(5, 3), EDGES).detach().numpy(), rtol=1e-6
    )


@pytest.mark.parametrize("model", ["gcn", "gat"])
def test_training_step_compiled(model):
    """Captured steps, dropout of features and attention included, give the losses of eager ones."""
    graph = data.karate_club()
    x = sparse.from_dense(graph.x)
    losses = []
    for compiled in (False, True):
        mg.manual_seed(1)
        first = nn.GCNConv(34, 8) if model == "gcn" else nn.GATConv(34, 4, heads=2, dropout=0.5)
        second = nn.GCNConv(8, 4) if model == "gcn" else nn.GATConv(8, 4, concat=False, dropout=0.5)
        net = nn.ModuleList([first, second])
        optimizer = mg.optim.Adam(net.parameters(), lr=0.01)

        def step(first=first, second=second, optimizer=optimizer):
            optimizer.zero_grad()
            h = nn.functional.relu(first(sparse.dropout(x, 0.5), graph.edge_index))
            loss = nn.functional.cross_entropy(second(h, graph.edge_index), graph.y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = mg.compile(step) if compiled else step
        losses.append([run().item() for _ in range(6)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-5)
    assert losses[0][-1] < losses[0][0]


# -- data ----------------------------------------------------------------------------------------------------


def test_sparse_features_stay_in_c():
    """The map of sparse features multiplies by a transposed weight, which is copied, not sent to numpy."""
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 4), (5, 16), (13, 37), (130, 17)):
        weight = mg.tensor(rng.normal(size=shape).astype(np.float32), requires_grad=True)
        x = sparse.from_dense(mg.tensor((rng.random((9, shape[1])) < 0.5).astype(np.float32)))

        @mg.compile
        def f(weight=weight, x=x):
            return sparse.spmm(x, weight.T)

        np.testing.assert_allclose(
            f().detach().numpy(), x.to_dense().numpy() @ weight.detach().numpy().T, rtol=1e-5, atol=1e-5
        )
        assert "numpy" not in str(f.profile())


def test_jumping_knowledge():
    xs = [mg.randn(4, 3) for _ in range(2)]
    join = nn.JumpingKnowledge("lstm", channels=3, num_layers=2)
    y = join(xs).detach().numpy()
    low, high = (f([x.numpy() for x in xs]) for f in (np.minimum.reduce, np.maximum.reduce))
    assert (y >= low - 1e-6).all()
    assert (y <= high + 1e-6).all()  # a weighted mean of the layers
    for arguments, message in (
        (("lstm",), "channels=None"),
        (("sum",), "'sum'"),
        (("lstm", 1, 1), "hidden_size"),
    ):
        with pytest.raises(mg.errors.ArgumentError, match=message):
            nn.JumpingKnowledge(*arguments)


def test_batches_are_block_diagonal():
    rng = np.random.default_rng(5)
    graphs = []
    for n in (3, 1, 4):
        edges = rng.integers(0, n, (2, 2 * n))
        graphs.append(data.Graph(x=rng.normal(size=(n, 2)), edge_index=edges, y=np.array([n])))
    batch = data.GraphBatch.from_graphs(graphs)
    assert batch.num_graphs == 3
    assert batch.y.tolist() == [3, 1, 4]
    conv = nn.GraphConv(2, 3).double()
    whole = conv(batch.x, batch.edge_index).detach().numpy()
    parts = [conv(g.x, g.edge_index).detach().numpy() for g in graphs]
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-12)
    for a, b in zip(batch.to_graphs(), graphs, strict=True):
        np.testing.assert_array_equal(a.edge_index.numpy(), b.edge_index.numpy())
        np.testing.assert_array_equal(a.x.numpy(), b.x.numpy())
    assert [len(b) for b in data.DataLoader(graphs, 2)] == [2, 1]
    with pytest.raises(ArgumentError, match="graph 1 has"):
        data.GraphBatch.from_graphs([graphs[0], data.Graph(edge_index=EDGES)])


def test_sampling():
    graph = data.stochastic_block_model([60, 60], [[0.2, 0.05], [0.05, 0.2]], seed=3)
    graph.x = mg.randn(120, 4)
    loader = data.NeighborLoader(graph, [4, 3], batch_size=25, shuffle=True, seed=7)
    again = data.NeighborLoader(graph, [4, 3], batch_size=25, shuffle=True, seed=7)
    true = set(map(tuple, graph.edge_index.numpy().T.tolist()))
    seen = []
    for batch, other in zip(loader, again, strict=True):
        np.testing.assert_array_equal(batch.n_id.numpy(), other.n_id.numpy())
        ids = batch.n_id.numpy()
        assert len(np.unique(ids)) == len(ids)
        edges = ids[batch.edge_index.numpy()]
        assert set(map(tuple, edges.T.tolist())) <= true
        np.testing.assert_array_equal(edges, graph.edge_index.numpy()[:, batch.e_id.numpy()])
        np.testing.assert_array_equal(batch.x.numpy(), graph.x.numpy()[ids])
        degree = np.bincount(batch.edge_index.numpy()[1], minlength=len(ids))
        assert (degree[: batch.batch_size] <= 4).all()
        assert (degree <= 4).all()
        seen += ids[: batch.batch_size].tolist()
    assert sorted(seen) == list(range(120))
    # with all neighbours it is the whole computation
    conv1, conv2 = nn.SAGEConv(4, 4), nn.SAGEConv(4, 2)
    full = conv2(conv1(graph.x, graph.edge_index), graph.edge_index).detach().numpy()
    for batch in data.NeighborLoader(graph, [-1, -1], batch_size=50):
        y = conv2(conv1(batch.x, batch.edge_index), batch.edge_index).detach().numpy()
        np.testing.assert_allclose(
            y[: batch.batch_size], full[batch.n_id.numpy()[: batch.batch_size]], rtol=1e-4, atol=1e-5
        )


def test_sampling_in_c_is_sampling_in_python():
    from minigrad.ops.sparse import Pattern, neighbour_sampler

    module = __import__("minigrad.backends.sampling", fromlist=["_python"])
    rng = np.random.default_rng(0)
    p, _ = Pattern.of_places(rng.integers(0, 99, 2000), rng.integers(0, 99, 2000), (99, 99))
    sample = neighbour_sampler(p)
    for seed, fanouts in ((1, [3, 2]), (2**63 + 5, [-1, 4, 1]), (3, [1000])):
        seeds = rng.permutation(99)[:7].astype(np.int32)
        a, b = sample(seeds, fanouts, seed), module._python(p, seeds, fanouts, seed)
        np.testing.assert_array_equal(a.nodes, b.nodes)
        np.testing.assert_array_equal(a.edges, b.edges)
        np.testing.assert_array_equal(a.after, b.after)
        np.testing.assert_array_equal(a.pattern.index, b.pattern.index)
    for wrong in ([0, 0], [99], [-1]):
        with pytest.raises(ValueError, match="distinct"):
            sample(np.array(wrong), [2], 0)
    assert (sample(np.array([5]), [3], 0).nodes == sample(np.array([5]), [3], 0).nodes).all()  # left as found


def test_draws_are_uniform():
    from minigrad.ops.sparse import Pattern, neighbour_sampler

    sample = neighbour_sampler(Pattern([0, 10, *[10] * 9], np.arange(10), 10))
    counts = np.zeros(10)
    for seed in range(4000):
        counts[sample(np.array([0]), [3], seed).edges] += 1
    assert np.abs(counts / 4000 - 0.3).max() < 5 * (0.3 * 0.7 / 4000) ** 0.5


def test_splits():
    graph = data.karate_club()
    split = data.random_node_split(graph, num_val=0.2, num_test=10, generator=mg.Generator(1))
    masks = np.stack([split.train_mask.numpy(), split.val_mask.numpy(), split.test_mask.numpy()])
    np.testing.assert_array_equal(masks.sum(0), 1)
    np.testing.assert_array_equal(masks.sum(1), [17, 7, 10])
    train, val, test = data.random_link_split(graph, is_undirected=True, generator=mg.Generator(2))
    true = set(map(tuple, graph.edge_index.numpy().T.tolist()))
    messages = set(map(tuple, train.edge_index.numpy().T.tolist()))
    for part in (train, val, test):
        for pair, label in zip(
            part.edge_label_index.numpy().T.tolist(), part.edge_label.tolist(), strict=True
        ):
            assert (tuple(pair) in true) == bool(label)
            if part is not train and label:
                assert tuple(pair) not in messages
                assert tuple(pair[::-1]) not in messages


def test_random_graphs():
    g = data.stochastic_block_model([300, 200], [[0.1, 0.01], [0.01, 0.2]], seed=5)
    e, y = g.edge_index.numpy(), g.y.numpy()
    assert g.is_undirected()
    assert not g.has_self_loops()
    assert len(np.unique(e.T, axis=0)) == e.shape[1]
    for a, b, p, pairs in ((0, 0, 0.1, 300 * 299), (1, 1, 0.2, 200 * 199), (0, 1, 0.01, 60000)):
        found = ((y[e[0]] == a) & (y[e[1]] == b)).sum()
        assert abs(found / pairs - p) < 6 * (2 * p * (1 - p) / pairs) ** 0.5
    directed = data.erdos_renyi(200, 0.05, seed=1, is_undirected=False)
    assert not directed.has_self_loops()
    assert abs(directed.num_edges / (200 * 199) - 0.05) < 0.01
    b = data.barabasi_albert(100, 3, seed=2)
    assert b.num_edges == 2 * 3 * 97
    assert b.is_undirected()


def test_files(tmp_path):
    graph, names = data.read_edge_list(io.StringIO("source,target,w\na,b,0.5\nb,c,2\n# no edge\n"))
    assert names == ["a", "b", "c"]
    assert graph.edge_weight.tolist() == [0.5, 2.0]
    with pytest.raises(ArgumentError, match="line 2"):
        data.read_edge_list(io.StringIO("0,1\n0\n"))
    g = data.karate_club()
    g.x = sparse.from_dense(g.x)
    data.save_graph(tmp_path / "g.npz", g)
    h = data.load_graph(tmp_path / "g.npz")
    np.testing.assert_array_equal(h.edge_index.numpy(), g.edge_index.numpy())
    np.testing.assert_array_equal(h.x.to_dense().numpy(), g.x.to_dense().numpy())


def test_networkx():
    nx = pytest.importorskip("networkx")
    graph, nodes = data.from_networkx(nx.karate_club_graph())
    assert len(nodes) == 34
    assert graph.num_edges == 156
    assert data.to_networkx(graph, to_undirected=True).number_of_edges() == 78


def test_restricted_reader(tmp_path):
    """Arrays come out as they went in, at every protocol; nothing else comes in."""
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("this ran",))

    for protocol in range(6):
        for value in [
            {"a": [1, -5, 2**40, 2.5, None, True, "text", (1,), ()]},
            np.arange(6, dtype=np.float32).reshape(2, 3),
            np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            np.arange(3, dtype=">i4"),
        ]:
            got = restricted.load(pickle.dumps(value, protocol))
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(got, value)
            else:
                assert got == value
        for evil in (Evil(), [Evil()], {"x": np.array([Evil()], object)}, print):
            with pytest.raises(ArgumentError, match="asks for"):
                restricted.load(pickle.dumps(evil, protocol))
    with pytest.raises(ArgumentError, match="damaged"):
        restricted.load(pickle.dumps(np.arange(9), 2)[:-20])


def test_planetoid_files(tmp_path, monkeypatch):
    """A small data set in the raw format: test nodes stored out of order, and one of them missing."""
    import collections
    import pickle

    scipy = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    features = (rng.random((12, 5)) < 0.5).astype(np.float32)
    labels = np.eye(3, dtype=np.int32)[rng.integers(0, 3, 12)]
    labels[:3] = np.eye(3)
    listed = [11, 8, 10]  # 9 is missing
    parts = {
        "x": scipy.csr_matrix(features[:3]),
        "y": labels[:3],
        "allx": scipy.csr_matrix(features[:8]),
        "ally": labels[:8],
        "tx": scipy.csr_matrix(features[listed]),
        "ty": labels[listed],
        "graph": collections.defaultdict(list, {0: [1, 1, 0], 1: [0], 7: [11], 9: []}),
    }
    for name, value in parts.items():
        (tmp_path / f"ind.cora.{name}").write_bytes(pickle.dumps(value, 2))
    (tmp_path / "ind.cora.test.index").write_text("\n".join(map(str, listed)))
    from minigrad.data import citation

    with pytest.raises(ArgumentError, match="are"):
        citation.planetoid("cora", tmp_path)
    monkeypatch.setitem(citation.PLANETOID, "cora", (12, 4, 5, 3, 3))
    g = citation.planetoid("cora", tmp_path)
    wanted = features.copy()
    wanted[9] = 0
    np.testing.assert_array_equal(g.x.to_dense().numpy(), wanted)
    kept = [i for i in range(12) if i != 9]
    np.testing.assert_array_equal(g.y.numpy()[kept], labels.argmax(1)[kept])
    assert g.edge_index.tolist() == [[0, 1, 7, 11], [1, 0, 11, 7]]
    assert np.flatnonzero(g.test_mask.numpy()).tolist() == [8, 10, 11]
    with pytest.raises(ArgumentError, match="not found"):
        citation.planetoid("pubmed", tmp_path)
    with pytest.raises(ArgumentError, match="there is no"):
        citation.planetoid("corra", tmp_path)


def _write_citation_network(name, folder):
    """Made-up papers in the raw format, as many as in the real data set; 15 of Citeseer's are missing."""
    import collections
    import pickle

    import scipy.sparse

    from minigrad.data.citation import PLANETOID

    n, edges, words, classes, train = PLANETOID[name]
    rng = np.random.default_rng(0)
    first = n - (1015 if name == "citeseer" else 1000)
    listed = rng.permutation(np.arange(first, n))
    listed = listed[(listed == n - 1) | (np.cumsum(listed != n - 1) < 1000)]  # the last one is there
    y = rng.integers(0, classes, n)
    y[:train] = np.arange(train) % classes
    labels = np.eye(classes, dtype=np.int32)[y]
    columns = (y[:, None] * 7 + rng.integers(0, 12, (n, 9))) % words
    x = scipy.sparse.csr_matrix(
        (np.ones(9 * n, np.float32), columns.ravel(), np.arange(0, 9 * n + 1, 9)), (n, words)
    )
    pairs = np.sort(rng.integers(0, first, (6 * edges, 2)), 1)
    pairs = np.unique(pairs[(pairs[:, 0] != pairs[:, 1]) & (y[pairs[:, 0]] == y[pairs[:, 1]])], axis=0)
    graph = collections.defaultdict(list)
    for a, b in rng.permutation(pairs)[: edges // 2].tolist():
        graph[a].append(b)
        graph[b].append(a)
    parts = {"x": x[:train], "y": labels[:train], "allx": x[:first], "ally": labels[:first]}
    parts |= {"tx": x[listed], "ty": labels[listed], "graph": graph}
    for part, value in parts.items():
        written = pickle.dumps(value, 2)  # with the names of modules that scipy and numpy had at the time
        written = written.replace(b"scipy.sparse._csr\n", b"scipy.sparse.csr\n")
        (folder / f"ind.{name}.{part}").write_bytes(written.replace(b"numpy._core.", b"numpy.core."))
    (folder / f"ind.{name}.test.index").write_text("".join(f"{i}\n" for i in listed))
    return y, listed


@pytest.mark.parametrize("name", ["cora", "citeseer", "pubmed"])
def test_the_experiment_on_citation_networks(name, tmp_path, monkeypatch, capsys):
    """The script of the example, from raw files to an accuracy, on made-up papers of the right sizes."""
    import runpy
    import sys
    from pathlib import Path

    pytest.importorskip("scipy.sparse")
    y, listed = _write_citation_network(name, tmp_path)
    g = data.planetoid(name, tmp_path)
    np.testing.assert_array_equal(np.flatnonzero(g.test_mask.numpy()), np.sort(listed))
    np.testing.assert_array_equal(g.y.numpy()[listed], y[listed])
    missing = np.setdiff1d(np.arange(listed.min(), len(y)), listed)
    assert len(missing) == (15 if name == "citeseer" else 0)
    assert not g.x[missing].to_dense().numpy().any()
    script = Path(__file__).parent.parent / "examples" / "gcn_planetoid.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--name", name, "--folder", str(tmp_path), "--seeds", "1"])
    runpy.run_path(str(script), run_name="__main__")
    found = capsys.readouterr().out.splitlines()[-1]
    assert found.startswith(f"{name} gcn: ")
    assert float(found.split()[2]) > 60.0


def test_a_pickle_of_python_2():
    """As the published files are: an array whose memory is a string of bytes."""
    numbers = np.array([1.5, -2.0, 0.25], np.float32)
    written = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
        b"(K\x01K\x03\x85cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x0c" + numbers.tobytes() + b"tb."
    )
    np.testing.assert_array_equal(restricted.load(written), numbers)


def test_downloaded_citation_networks_are_checked(tmp_path, monkeypatch):
    """Each file is held to the checksum of its own part."""
    import hashlib

    from minigrad.data import citation

    pytest.importorskip("scipy.sparse")
    _write_citation_network("cora", tmp_path)
    monkeypatch.setattr(
        citation, "URL", (tmp_path / "ind.{name}.{part}").as_uri().replace("%7B", "{").replace("%7D", "}")
    )
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "cache"))
    for name, published in citation.CHECKSUMS.items():
        assert [len(c) for c in published.split()] == [64] * len(citation.PARTS), name
    assert len({c for v in citation.CHECKSUMS.values() for c in v.split()}) == 24
    with pytest.raises(ArgumentError, match="another checksum"):
        data.planetoid("cora")
    made = [hashlib.sha256((tmp_path / f"ind.cora.{p}").read_bytes()).hexdigest() for p in citation.PARTS]
    monkeypatch.setitem(citation.CHECKSUMS, "cora", " ".join(made))
    assert data.planetoid("cora").num_nodes == 2708
    (tmp_path / "cache" / "planetoid" / "ind.cora.y").write_bytes(b"other")
    with pytest.raises(ArgumentError, match="not the file"):
        data.planetoid("cora")


def test_downloads_are_checked(tmp_path):
    source = tmp_path / "source"
    source.write_text("right")
    target = fetch(source.as_uri(), tmp_path / "cache" / "file")
    source.write_text("other")
    assert fetch(source.as_uri(), target).read_text() == "right"  # from the cache
    target.write_text("broken")
    with pytest.raises(ArgumentError, match="not the file"):
        fetch(source.as_uri(), target)
    with pytest.raises(ArgumentError, match="another checksum"):
        fetch(source.as_uri(), tmp_path / "new", "0" * 64)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ArgumentError, match="cannot be fetched"):
        fetch((tmp_path / "nothing").as_uri(), tmp_path / "new")
