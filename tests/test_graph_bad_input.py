"""Graphs that are not what they should be: the right result, or one sentence that says what is wrong."""

from __future__ import annotations

import io

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, nn, sparse
from minigrad.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError

EDGES = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])
PATH = data.Graph(x=mg.ones(3, 1), edge_index=EDGES)
KARATE = data.karate_club()

LAYERS = {
    "GCNConv": lambda: nn.GCNConv(3, 2),
    "GraphConv": lambda: nn.GraphConv(3, 2),
    "SAGEConv": lambda: nn.SAGEConv(3, 2),
    "GATConv": lambda: nn.GATConv(3, 2, heads=2),
    "GATv2Conv": lambda: nn.GATv2Conv(3, 2),
    "GINConv": lambda: nn.GINConv(nn.Linear(3, 2)),
    "ChebConv": lambda: nn.ChebConv(3, 2, K=3),
    "APPNP": lambda: nn.APPNP(3, 0.1),
    "SGConv": lambda: nn.SGConv(3, 2, K=2),
    "EdgeConv": lambda: nn.EdgeConv(nn.Linear(6, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    layer, x = LAYERS[name](), mg.ones(5, 3)
    for edges, error, text in [
        ([[0, 5], [1, 0]], OutOfRangeError, "source 5, but there are 5 nodes"),
        ([[0, 1], [1, -1]], OutOfRangeError, "target -1"),
        ([[0, 2**32 + 1], [1, 1]], OutOfRangeError, str(2**32 + 1)),  # not taken for node 1
        (np.zeros((2, 3)), DTypeError, "float64"),
        (np.zeros((2, 3), bool), DTypeError, "bool"),
        (EDGES.T, ShapeError, "transpose"),
        (None, DTypeError, "NoneType"),
        (PATH, DTypeError, "Graph"),
    ]:
        with pytest.raises(error, match=text) as caught:
            layer(x, edges)
        assert name in str(caught.value)
    with pytest.raises(DTypeError, match=r"ndarray.*tensor"):
        layer(np.ones((5, 3), np.float32), EDGES)
    if name != "EdgeConv":  # which makes messages of whatever is gathered
        with pytest.raises(DTypeError, match="int64"):
            layer(mg.tensor(np.ones((5, 3), np.int64)), EDGES)
        for shape in ((5,), (5, 2, 3)):  # three dimensions are something else in PyTorch Geometric
            with pytest.raises(ShapeError, match=r"\(nodes, features\)"):
                layer(mg.ones(*shape), EDGES)
    if name not in ("APPNP", "EdgeConv"):
        with pytest.raises(ShapeError, match=r"shape \(5, 4\)|linear"):
            layer(mg.ones(5, 4), EDGES)
    assert layer(mg.ones(0, 3), np.zeros((2, 0), np.int64)).shape[0] == 0


@pytest.mark.parametrize("name", ["GCNConv", "ChebConv", "APPNP", "SGConv"])
def test_layers_between_nodes_of_one_kind(name):
    """Targets are not left out of account without a word."""
    with pytest.raises(ArgumentError, match="x is a pair"):
        LAYERS[name]()((mg.ones(5, 3), mg.ones(2, 3)), [[0, 4], [0, 1]])
    with pytest.raises(ArgumentError, match="no root"):
        LAYERS[name]()(mg.ones(5, 3), EDGES, mg.full((4,), -2.0))
    with pytest.raises(ShapeError, match="4 edges"):
        LAYERS[name]()(mg.ones(5, 3), EDGES, mg.ones(3))


@pytest.mark.parametrize("name", ["GINConv", "ChebConv", "APPNP", "EdgeConv"])
def test_sparse_features_where_there_is_no_linear_map_first(name):
    with pytest.raises(DTypeError, match=r"sparse matrix|CSR"):
        LAYERS[name]()(sparse.eye(3), EDGES)


def test_a_directed_graph_is_followed_in_its_direction():
    """Of 0 -> 1, node 1 hears node 0, and not the other way round; D counts what a node receives."""
    conv = nn.GCNConv(1, 1, bias=False)
    conv.lin.weight.assign(mg.ones(1, 1))
    y = conv(mg.tensor([[1.0], [10.0]]), [[0], [1]]).detach().numpy().ravel()
    np.testing.assert_allclose(y, [1.0, 10 / 2 + 1 / 2**0.5], rtol=1e-6)


def test_duplicate_edges_and_self_loops():
    """An edge that occurs twice counts twice; a loop that is there is not added again."""
    x = mg.tensor([[1.0], [10.0]])
    twice = sparse.from_edge_index([[0, 0], [1, 1]], num_nodes=2).T @ x
    np.testing.assert_array_equal(twice.numpy(), [[0.0], [2.0]])
    conv = nn.GCNConv(1, 1)
    once, again = [[0, 1, 0, 1], [1, 0, 0, 1]], [[0, 1], [1, 0]]
    np.testing.assert_allclose(conv(x, once).detach().numpy(), conv(x, again).detach().numpy(), rtol=1e-6)


def test_construction():
    for make, text in [
        (lambda: nn.GCNConv(0, 2), "in_channels is 0"),
        (lambda: nn.GATConv(3, 2, heads=0), "heads is 0"),
        (lambda: nn.APPNP(3, 2.0), "alpha is 2.0"),
        (lambda: nn.APPNP(3, 0.1, dropout=-1.0), "dropout is -1.0"),
        (lambda: nn.GINConv(3), "nn is 3"),
        (lambda: nn.EdgeConv(None), "nn is None"),
        (lambda: nn.ChebConv(1, 1, K=2)(PATH.x, EDGES, lambda_max=0.0), "lambda_max is 0"),
        (lambda: nn.TopKPooling(0), "in_channels is 0"),
        (lambda: nn.TopKPooling(1, ratio="a"), "ratio is 'a'"),
        (lambda: nn.DropEdge(2), "probability of 2"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            make()


def test_pooling():
    x, top = mg.ones(5, 3), nn.TopKPooling(3)
    for pool in (nn.global_add_pool, nn.global_mean_pool, nn.global_max_pool):
        with pytest.raises(ShapeError, match="3 numbers"):
            pool(x, mg.tensor([0, 0, 1]))
        with pytest.raises(OutOfRangeError, match="-1"):
            pool(x, mg.tensor([0, 0, 1, -1, 1]))
        with pytest.raises(OutOfRangeError, match="2 is out of range for 2"):
            pool(x, mg.tensor([0, 0, 1, 1, 2]), 2)
        with pytest.raises(ArgumentError, match=r"dim_size is 2\.5"):
            pool(x, mg.tensor([0, 0, 1, 1, 1]), 2.5)
        assert pool(x, mg.tensor([0, 0, 3, 3, 3]), 6)[1].tolist() == [0.0] * 3  # a graph without nodes
        assert pool(x[:0]).tolist() == [[0.0] * 3]
    for bad in ([[0, 7], [1, 1]], [[0, -1], [1, 1]]):
        with pytest.raises(OutOfRangeError, match="5 nodes"):
            top(x, bad)
    with pytest.raises(ShapeError, match="batch of shape"):
        top(x, EDGES, None, mg.tensor([0, 0]))
    with pytest.raises(ShapeError, match="edge_attr of shape"):
        top(x, EDGES, mg.ones(2))
    y, edges, attr, batch, kept, _ = top(x, EDGES, np.ones((4, 2)), [0, 0, 0, 1, 1])
    assert (y.shape, batch.tolist()) == ((3, 3), [0, 0, 1])
    assert attr.shape == (edges.shape[1], 2)
    assert kept.shape == (3,)
    join = nn.JumpingKnowledge("max")
    with pytest.raises(ShapeError, match=r"\(5, 1\) and \(5, 3\)"):
        join([x, mg.ones(5, 1)])  # not broadcast
    with pytest.raises(ArgumentError, match="list"):
        join(x)


def test_drop_edge():
    drop = nn.DropEdge(0.5)
    matrix = sparse.from_edge_index(EDGES, mg.full((4,), 3.0), 7)  # 7 columns, 4 edges
    _, weight = drop(matrix)
    assert weight.shape == (4,)
    assert set(weight.tolist()) <= {0.0, 3.0}
    assert drop(EDGES.tolist())[1].shape == (4,)
    with pytest.raises(ShapeError, match="4 edges"):
        drop(EDGES, mg.ones(3))
    with pytest.raises(ShapeError, match="two rows"):
        drop(np.zeros((3, 4), int))


def test_matrices():
    a = sparse.from_edge_index(EDGES, num_nodes=3)
    for make, error, text in [
        (lambda: a @ a, DTypeError, "sparse matrix, too"),
        (lambda: sparse.CSR([0, 2, 1], [0, 1]), ArgumentError, "rise from 0"),
        (lambda: sparse.CSR([0, 1], [4], size=(1, 3)), ArgumentError, "index 4"),
        (lambda: sparse.CSR([0, 1], [0], size=(1, -3)), ArgumentError, "size is"),
        (lambda: sparse.from_coo([-1], [0]), OutOfRangeError, "row -1"),
        (lambda: sparse.eye(-1), ArgumentError, "n is -1"),
        (lambda: sparse.eye(2, "int64"), DTypeError, "int64"),
        (lambda: sparse.gather(mg.ones(3), [3]), OutOfRangeError, "3"),
        (lambda: sparse.gather(mg.tensor(1.0), [0]), ShapeError, "no rows"),
    ]:
        with pytest.raises(error, match=text):
            make()
    picked = sparse.gather(mg.tensor([5, 6, 7]), [2, 0])  # integers stay what they are
    assert (picked.tolist(), picked.dtype) == ([7, 5], mg.int64)


def test_graphs():
    for make, error, text in [
        (lambda: data.Graph(x=mg.ones(2, 1), edge_index=EDGES), OutOfRangeError, "node 2, but there are 2"),
        (lambda: data.Graph(x=mg.ones(3, 1), num_nodes=7), ShapeError, "7 nodes"),
        (lambda: data.Graph(num_nodes=-1), ArgumentError, "num_nodes is -1"),
        (lambda: data.Graph(num_nodes=2.5), ArgumentError, "num_nodes is 2.5"),
        (lambda: data.Graph(x=mg.ones(3, 1), train_mask=[True]), ShapeError, "train_mask"),
        (lambda: data.Graph(edge_index=EDGES, edge_weight=[1.0]), ShapeError, "4 edges"),
        (lambda: PATH.subgraph([5]), OutOfRangeError, "3 that there are"),
        (lambda: PATH.subgraph([0, 0]), ArgumentError, "twice"),
        (lambda: PATH.subgraph([0.5]), ArgumentError, "float64"),
        (lambda: PATH.subgraph(np.array([True])), ArgumentError, r"mask of shape \(3,\)"),
        (lambda: data.GraphBatch.from_graphs([]), ArgumentError, "no graphs"),
        (lambda: data.GraphBatch.from_graphs(["a"]), DTypeError, "str"),
    ]:
        with pytest.raises(error, match=text):
            make()
    assert data.Graph(x=[[1.0], [2.0]], edge_index=[[0], [1]]).x.shape == (2, 1)
    assert PATH.subgraph([]).num_nodes == 0
    sizes = [data.Graph(num_nodes=n) for n in (2, 0, 3)]
    assert data.GraphBatch.from_graphs(sizes).ptr.tolist() == [0, 2, 2, 5]
    batch = data.GraphBatch.from_graphs(sizes)
    with pytest.raises(DTypeError, match="to_graphs"):
        data.GraphBatch.from_graphs([batch])


def test_loader_of_neighbourhoods():
    def loader(*arguments, **options):
        return data.NeighborLoader(KARATE, *arguments, **options)

    for make, error, text in [
        (lambda: loader([], 2), ArgumentError, "num_neighbors is"),
        (lambda: loader(3, 2), ArgumentError, "a list"),
        (lambda: loader([-2], 2), ArgumentError, "-2"),
        (lambda: loader([2.5], 2), ArgumentError, "2.5"),
        (lambda: loader([2], 0), ArgumentError, "batch size of 0"),
        (lambda: loader([2], 2.5), ArgumentError, "batch size of 2.5"),
        (lambda: loader([2], 2, [99]), OutOfRangeError, "34"),
        (lambda: loader([2], 2, [-1]), OutOfRangeError, "34"),
        (lambda: loader([2], 2, [1, 1]), ArgumentError, "twice"),
        (lambda: loader([2], 2, [0.5]), ArgumentError, "float64"),
        (lambda: loader([2], 2, np.ones(3, bool)), ArgumentError, r"mask of shape \(34,\)"),
        (lambda: loader([2], 2, seed="a"), ArgumentError, "seed"),
        (lambda: data.NeighborLoader(EDGES, [2], 2), DTypeError, "ndarray"),
    ]:
        with pytest.raises(error, match=text):
            make()
    assert list(loader([2], 2, [])) == []
    assert list(data.NeighborLoader(data.Graph(num_nodes=0), [2], 2)) == []
    (batch,) = data.NeighborLoader(data.Graph(num_nodes=3), [2], 3)  # isolated nodes
    assert (batch.num_nodes, batch.num_edges) == (3, 0)
    loops = data.Graph(num_nodes=2, edge_index=[[0, 0, 0, 1], [1, 1, 1, 1]])
    (batch,) = data.NeighborLoader(loops, [-1], 1, [1])
    assert sorted(batch.n_id[batch.edge_index[0]].tolist()) == [0, 0, 0, 1]


def test_splits_and_random_graphs():
    for make, error, text in [
        (lambda: data.random_node_split(KARATE, num_val=100), ArgumentError, "100 of 34"),
        (lambda: data.random_node_split(KARATE, num_val=1.5), ArgumentError, "1.5"),
        (lambda: data.random_link_split(KARATE, neg_sampling_ratio=-1), ArgumentError, "ratio is -1"),
        (lambda: data.random_link_split(data.Graph(num_nodes=4)), ArgumentError, "0 edges"),
        (lambda: data.negative_sampling([[0, 5], [1, 0]], 2), OutOfRangeError, "2 that there are"),
        (lambda: data.negative_sampling(EDGES, 5, -1), ArgumentError, "is -1"),
        (lambda: data.erdos_renyi(5, 2.0), ArgumentError, "erdos_renyi: a probability of 2"),
        (lambda: data.erdos_renyi(5.5, 0.5), ArgumentError, "5.5"),
        (lambda: data.stochastic_block_model([-3], [[0.5]]), ArgumentError, "-3"),
        (lambda: data.barabasi_albert(3, 3), ArgumentError, "3 edges"),
    ]:
        with pytest.raises(error, match=text):
            make()


def test_readers(tmp_path):
    def read(text, **options):
        return data.read_edge_list(io.StringIO(text), **options)

    for text, options, error, message in [
        ("0,1\n-1,2", {"names": False}, OutOfRangeError, "line 2 has the node -1"),
        ("0,99999999999", {"names": False}, OutOfRangeError, "names=True"),
        ("0,1\n5,2", {"names": False, "num_nodes": 3}, OutOfRangeError, "node 5"),
        ("0,1\na,b", {"names": False}, ArgumentError, "line 2"),
        ("a,b\nb,c,1", {}, ArgumentError, "another number of columns"),
    ]:
        with pytest.raises(error, match=message):
            read(text, **options)
    assert read('\ufeffa,"b, or c"\r\n')[1] == ["a", "b, or c"]
    for name, arrays, message in [
        ("pickled", {"edge_index": np.array([{}], object)}, "plain arrays"),
        ("half", {"edge_index": EDGES, "x_indptr": np.array([0, 1])}, "x_data"),
        ("train", {"edge_index": EDGES, "train": np.array([99])}, "beyond the 3"),
        ("none", {"x": np.ones(3)}, "no edge_index"),
    ]:
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises((ArgumentError, OutOfRangeError), match=message):
            data.load_graph(tmp_path / f"{name}.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ArgumentError, match="plain arrays"):
        data.load_graph(tmp_path / "text.npz")
    with pytest.raises(DTypeError, match="no graph"):
        data.save_graph(tmp_path / "z.npz", EDGES)


def test_networkx():
    nx = pytest.importorskip("networkx")
    g, _ = data.from_networkx(nx.Graph([(0, 1, {"weight": 2}), (1, 2)]))
    assert g.edge_weight.tolist() == [2.0, 1.0, 2.0, 1.0]
    with pytest.raises(DTypeError, match="no number"):
        data.from_networkx(nx.Graph([(0, 1, {"weight": "a"})]))
    with pytest.raises(DTypeError, match="int is no NetworkX"):
        data.from_networkx(5)
