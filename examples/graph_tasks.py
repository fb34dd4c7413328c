"""Three more tasks on graphs, on data that is made on the spot: each in a few seconds.

    python examples/graph_tasks.py classify      which random process made a graph? (graph classification)
    python examples/graph_tasks.py links         which pairs of nodes are edges? (link prediction)
    python examples/graph_tasks.py sample        nodes of a larger graph, trained on sampled neighbourhoods

Node classification, on citation networks, is `gcn_planetoid.py`.
"""

from __future__ import annotations

import argparse

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim, sparse

F = nn.functional


class Classifier(nn.Module):
    """GIN layers, the sum over the nodes of each graph, and a linear map (Xu et al. 2019)."""

    def __init__(self, hidden=16):
        super().__init__()
        self.first, self.second = (
            nn.GINConv(nn.Sequential(nn.Linear(n, hidden), nn.ReLU(), nn.Linear(hidden, hidden)))
            for n in (1, hidden)
        )
        self.out = nn.Linear(hidden, 2)

    def forward(self, g):
        x = F.relu(self.second(F.relu(self.first(g.x, g.edge_index)), g.edge_index))
        return self.out(nn.global_mean_pool(x, g.batch, g.num_graphs))


def classify():
    """Random graphs, against graphs in which the rich get richer, of the same size and number of edges."""
    graphs = []
    for seed in range(200):
        n = 20 + seed % 10
        share = 4 * (n - 2) / n / (n - 1)  # as many edges as the other kind has
        g = data.barabasi_albert(n, 2, seed) if seed % 2 else data.erdos_renyi(n, share, seed)
        graphs.append(data.Graph(x=mg.ones(n, 1), edge_index=g.edge_index, y=mg.tensor([seed % 2])))
    model = Classifier()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    loader = data.GraphLoader(graphs[:150], 25, shuffle=True)
    for _ in range(30):
        for batch in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(batch), batch.y).backward()
            optimizer.step()
    test = data.GraphBatch.from_graphs(graphs[150:])
    right = (model(test).argmax(1) == test.y).float().mean().item()
    print(f"graph classification: {right:.0%} of 50 unseen graphs are right")
    return right


def links():
    """An encoder of nodes; an edge is likely where two are alike (Kipf & Welling 2016, arXiv 1611.07308)."""
    graph = data.stochastic_block_model([60, 60, 60], 0.02 + 0.2 * np.eye(3), seed=1)
    train, _, test = data.random_link_split(graph, 0.05, 0.1, is_undirected=True, generator=mg.Generator(0))
    x = sparse.eye(graph.num_nodes)
    first, second = nn.GCNConv(180, 32), nn.GCNConv(32, 16)
    optimizer = optim.Adam([*first.parameters(), *second.parameters()], lr=0.01)

    ends = {id(part): (part.edge_label_index[0], part.edge_label_index[1]) for part in (train, test)}

    def scores(part):
        z = second(F.relu(first(x, part.edge_index)), part.edge_index)
        a, b = ends[id(part)]
        return (sparse.gather(z, a) * sparse.gather(z, b)).sum(1)

    @mg.compile
    def step():
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(scores(train), train.edge_label)
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(60):
        step()
    s, label = scores(test).detach().numpy(), test.edge_label.numpy() > 0.5
    auc = (s[label][:, None] > s[~label][None]).mean()
    print(f"link prediction: area under the curve {auc:.3f}")
    return auc


def sample():
    """Communities from noisy features, by GraphSAGE on batches of 512 nodes with sampled neighbours."""
    graph = data.stochastic_block_model([4000] * 4, 0.0002 + 0.003 * np.eye(4), seed=2)
    mg.manual_seed(0)
    graph.x = F.one_hot(graph.y, 4).float() + mg.randn(graph.num_nodes, 4) * 2.0
    first, second = nn.SAGEConv(4, 32), nn.SAGEConv(32, 4)
    optimizer = optim.Adam([*first.parameters(), *second.parameters()], lr=0.01)

    def model(g):
        return second(F.relu(first(g.x, g.edge_index)), g.edge_index)

    for batch in data.NeighborLoader(graph, [8, 8], 512, np.arange(0, 16000, 2), shuffle=True):
        optimizer.zero_grad()
        n = batch.batch_size
        F.cross_entropy(model(batch)[:n], batch.y[:n]).backward()
        optimizer.step()
    with mg.no_grad():
        right = (model(graph).argmax(1) == graph.y)[1::2].float().mean().item()
    own = (graph.x.argmax(1) == graph.y).float().mean().item()
    print(f"sampling: {right:.0%} of 8,000 unseen nodes are right; {own:.0%} by their own features alone")
    return right


if __name__ == "__main__":
    tasks = {"classify": classify, "links": links, "sample": sample}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", choices=[*tasks, "all"], default="all")
    chosen = parser.parse_args().task
    mg.manual_seed(0)
    for name, task in tasks.items():
        if chosen in (name, "all"):
            task()
