"""Graph layers against PyTorch Geometric's: the same weights by the same names, results and gradients."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, sparse

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pyg = pytest.importorskip("torch_geometric.nn")

NODES, EDGES, FEATURES = 12, 40, 6
GRAPHS = {}


def graph(kind):
    """Edges and weights; "wild": directed, with self loops, duplicates and isolated nodes."""
    rng = np.random.default_rng(3)
    if kind == "wild":
        edges = rng.integers(0, NODES - 2, (2, EDGES))
        edges[:, :3] = edges[:, 3:6]
        loops = edges[0] == edges[1]
        edges[1, loops] = (edges[0, loops] + 1) % (NODES - 2)
        edges[:, 10:13] = np.arange(3)  # one loop a node: of several, torch gives gradients to all
    else:
        a, b = np.nonzero(np.triu(rng.random((NODES, NODES)) < 0.3, 1))
        edges = np.concatenate([[a, b], [b, a]], 1)
    return edges, rng.uniform(0.2, 2.0, edges.shape[1])


def mlp(torch_side, width):
    if torch_side:
        return torch.nn.Sequential(torch.nn.Linear(width, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    return nn.Sequential(nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 4))


#: name, arguments, the same of PyG if others, whether a weight of edges is passed
LAYERS = [
    ("GCNConv", lambda t: ((FEATURES, 4), {}), True),
    ("GCNConv", lambda t: ((FEATURES, 9), {"improved": True}), True),
    ("GCNConv", lambda t: ((FEATURES, 4), {"add_self_loops": False, "bias": False}), True),
    ("GCNConv", lambda t: ((FEATURES, 4), {"normalize": False}), True),
    ("GraphConv", lambda t: ((FEATURES, 4), {}), True),
    ("GraphConv", lambda t: ((FEATURES, 4), {"aggr": "mean"}), True),
    ("GraphConv", lambda t: ((FEATURES, 9), {"aggr": "max"}), True),
    ("SAGEConv", lambda t: ((FEATURES, 4), {}), False),
    ("SAGEConv", lambda t: ((FEATURES, 4), {"aggr": "max", "project": True}), False),
    ("SAGEConv", lambda t: ((FEATURES, 8), {"aggr": "add", "normalize": True, "root_weight": False}), False),
    ("GATConv", lambda t: ((FEATURES, 4), {"heads": 3}), False),
    ("GATConv", lambda t: ((FEATURES, 4), {"heads": 2, "concat": False, "edge_dim": 1}), True),
    ("GATConv", lambda t: ((FEATURES, 4), {"edge_dim": 1, "fill_value": 0.5, "add_self_loops": True}), True),
    ("GATConv", lambda t: ((FEATURES, 4), {"edge_dim": 1, "fill_value": "add"}), True),
    ("GATConv", lambda t: ((FEATURES, 4), {"heads": 2, "edge_dim": 1, "add_self_loops": False}), True),
    ("GATv2Conv", lambda t: ((FEATURES, 4), {"heads": 3}), False),
    ("GATv2Conv", lambda t: ((FEATURES, 4), {"heads": 2, "concat": False, "share_weights": True}), False),
    ("GATv2Conv", lambda t: ((FEATURES, 4), {"heads": 2, "edge_dim": 1}), True),
    ("GINConv", lambda t: ((mlp(t, FEATURES),), {"eps": 0.3, "train_eps": True}), False),
    ("ChebConv", lambda t: ((FEATURES, 4), {"K": 3}), True),
    ("ChebConv", lambda t: ((FEATURES, 4), {"K": 4, "normalization": "rw"}), True),
    ("APPNP", lambda t: ((), {"K": 4, "alpha": 0.2}), True),
    ("SGConv", lambda t: ((FEATURES, 4), {"K": 3}), True),
    ("SGConv", lambda t: ((FEATURES, 9), {"K": 2, "bias": False}), True),
    ("EdgeConv", lambda t: ((mlp(t, 2 * FEATURES),), {}), False),
    ("EdgeConv", lambda t: ((mlp(t, 2 * FEATURES),), {"aggr": "add"}), False),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["wild", "undirected"])
@pytest.mark.parametrize(("name", "arguments", "takes_weight"), LAYERS)
def test_layer(name, arguments, takes_weight, kind, weighted):
    edges, weight = graph(kind)
    attr = arguments(True)[1].get("edge_dim")
    if weighted != takes_weight and (weighted or attr):
        pytest.skip("this layer has no weights, or must have them")
    if not weighted and arguments(True)[1].get("improved"):
        pytest.skip("without weights, torch_geometric 2.8 takes A + I")
    args, kwargs = arguments(True)
    theirs = getattr(pyg, name)(*args, **kwargs).double()
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.5)
    args, kwargs = arguments(False)
    ours = getattr(nn, name)(*args, **kwargs).double()
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    shapes = {k: v.shape for k, v in ours.state_dict().items()}
    assert ours.load_state_dict({k: v.reshape(shapes[k]) for k, v in state.items()}) == ([], [])

    x = np.random.default_rng(0).normal(size=(NODES, FEATURES))
    tx = torch.tensor(x, requires_grad=True)
    mx = mg.tensor(x, requires_grad=True)
    te, me = [torch.tensor(edges)], [mg.tensor(edges)]
    weights = []
    if weighted:
        w = weight[:, None] if attr else weight
        weights = [torch.tensor(w, requires_grad=True), mg.tensor(w, requires_grad=True)]
        te.append(weights[0])
        me.append(weights[1])
    ty, my = theirs(tx, *te), ours(mx, *me)
    np.testing.assert_allclose(my.detach().numpy(), ty.detach().numpy(), rtol=1e-9, atol=1e-9)
    g = np.random.default_rng(1).normal(size=ty.shape)
    (ty * torch.tensor(g)).sum().backward()
    (my * mg.tensor(g)).sum().backward()
    pairs = [(mx, tx), *([weights[::-1]] if weighted else [])]
    pairs += [(dict(ours.named_parameters())[k], p) for k, p in theirs.named_parameters()]
    for mine, its in pairs:
        np.testing.assert_allclose(mine.grad.numpy(), its.grad.numpy(), rtol=1e-8, atol=1e-8)
    # a matrix with a row for each target is the same graph
    if not (attr and kwargs.get("add_self_loops", True)):
        values = None if not weighted else weight
        adj = sparse.from_edge_index(mg.tensor(edges), values, num_nodes=NODES).t()
        if name not in ("SAGEConv", "GATConv", "GATv2Conv", "EdgeConv") or not weighted:
            np.testing.assert_allclose(
                ours(mx, adj).detach().numpy(), ty.detach().numpy(), rtol=1e-9, atol=1e-9
            )


@pytest.mark.parametrize("name", ["SAGEConv", "GraphConv", "GATConv", "GATv2Conv"])
def test_two_kinds_of_nodes(name):
    rng = np.random.default_rng(5)
    edges = np.stack([rng.integers(0, 7, 20), rng.integers(0, 4, 20)])
    extra = {"add_self_loops": False} if name.startswith("GAT") else {}
    theirs = getattr(pyg, name)((3, 5), 4, **extra).double()
    ours = getattr(nn, name)((3, 5), 4, **extra).double()
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = rng.normal(size=(7, 3)), rng.normal(size=(4, 5))
    ty = theirs(tuple(map(torch.tensor, x)), torch.tensor(edges))
    my = ours(tuple(map(mg.tensor, x)), mg.tensor(edges))
    np.testing.assert_allclose(my.detach().numpy(), ty.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_attention_weights():
    edges, _ = graph("wild")
    theirs, ours = pyg.GATConv(FEATURES, 4, heads=2).double(), nn.GATConv(FEATURES, 4, heads=2).double()
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(NODES, FEATURES))
    _, (te, ta) = theirs(torch.tensor(x), torch.tensor(edges), return_attention_weights=True)
    _, (me, ma) = ours(mg.tensor(x), mg.tensor(edges), return_attention_weights=True)
    order = np.lexsort((ta.detach().numpy()[:, 0], *te.numpy()))
    mine = np.lexsort((ma.detach().numpy()[:, 0], *me.numpy()))
    np.testing.assert_array_equal(me.numpy()[:, mine], te.numpy()[:, order])
    np.testing.assert_allclose(ma.detach().numpy()[mine], ta.detach().numpy()[order], rtol=1e-9)


def test_pooling():
    x = np.random.default_rng(0).normal(size=(NODES, FEATURES))
    batch = np.repeat([0, 1, 3], [5, 4, 3])
    for name in ("global_add_pool", "global_mean_pool", "global_max_pool"):
        for b in (batch, None):
            theirs = getattr(pyg, name)(torch.tensor(x), None if b is None else torch.tensor(b))
            ours = getattr(nn, name)(mg.tensor(x), None if b is None else mg.tensor(b))
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12)
    edges, _ = graph("wild")
    for options in ({"ratio": 0.5}, {"ratio": 2}, {"min_score": 0.3}, {"ratio": 0.7, "multiplier": 2.0}):
        theirs, ours = (
            pyg.TopKPooling(FEATURES, **options).double(),
            nn.TopKPooling(FEATURES, **options).double(),
        )
        ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
        t = theirs(torch.tensor(x), torch.tensor(edges), None, torch.tensor(batch))
        m = ours(mg.tensor(x), mg.tensor(edges), None, mg.tensor(batch))
        order, mine = np.argsort(t[4].numpy()), np.argsort(m[4].numpy())
        np.testing.assert_array_equal(m[4].numpy()[mine], t[4].numpy()[order])
        np.testing.assert_allclose(m[0].detach().numpy()[mine], t[0].detach().numpy()[order], rtol=1e-9)
        ours_edges, their_edges = m[4].numpy()[m[1].numpy()], t[4].numpy()[t[1].numpy()]
        np.testing.assert_array_equal(
            ours_edges[:, np.lexsort(ours_edges)], their_edges[:, np.lexsort(their_edges)]
        )


@pytest.mark.parametrize("mode", ["cat", "max", "lstm"])
def test_jumping_knowledge(mode):
    xs = list(np.random.default_rng(2).normal(size=(3, NODES, 5)))
    theirs, ours = pyg.JumpingKnowledge(mode, 5, 3).double(), nn.JumpingKnowledge(mode, 5, 3).double()
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    assert ours.load_state_dict(state) == ([], [])
    tx = [torch.tensor(x, requires_grad=True) for x in xs]
    mx = [mg.tensor(x, requires_grad=True) for x in xs]
    ty, my = theirs(tx), ours(mx)
    np.testing.assert_allclose(my.detach().numpy(), ty.detach().numpy(), rtol=1e-9, atol=1e-12)
    (ty**2).sum().backward()
    (my**2).sum().backward()
    pairs = [*zip(mx, tx, strict=True)]
    pairs += [(dict(ours.named_parameters())[k], p) for k, p in theirs.named_parameters()]
    for mine, its in pairs:
        np.testing.assert_allclose(mine.grad.numpy(), its.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_message_passing_of_ones_own():
    """A layer written against PyG's base runs with its import changed."""

    def make(base):
        class Conv(base):
            def __init__(self):
                super().__init__(aggr="mean")

            def forward(self, x, edge_index, edge_weight, names):
                return self.propagate(edge_index, x=x, edge_weight=edge_weight, names=names)

            def message(self, x_i, x_j, edge_weight, names_j):
                return (x_j - x_i * names_j) * edge_weight.reshape(-1, 1)

            def update(self, inputs):
                return inputs * 2.0

        return Conv()

    edges, weight = graph("wild")
    x = np.random.default_rng(0).normal(size=(NODES, FEATURES))
    names = x[:, :1] + 1.0
    theirs = make(pyg.MessagePassing)(*map(torch.tensor, (x, edges, weight, names)))
    ours = make(nn.MessagePassing)(*map(mg.tensor, (x, edges, weight, names)))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-12)
