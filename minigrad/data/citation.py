"""Citation networks: Cora, Citeseer and Pubmed, with the split that papers are compared on.

Nodes are papers, edges citations, features the words of a paper, y its subject.  Of each class 20 papers
are for training, 500 for validation, 1,000 for the test (Yang, Cohen & Salakhutdinov 2016, arXiv
1603.08861).

    graph = planetoid("cora", folder)          # the eight raw files ind.cora.* in a folder
    graph = planetoid("cora")                  # downloaded once, checked, and kept in a cache
    graph = load_graph("cora.npz")             # or from an .npz file, see `load_graph`

The raw files are pickles; they are read by `minigrad.data.restricted`, which runs nothing.  Test nodes are
listed
in another order than they are stored in, and Citeseer lacks some of them altogether: those get no features
and no edges, as in Kipf's code.  Features stay sparse (`graph.x` is a `CSR`).

References: Sen et al. 2008, "Collective classification in network data"; Yang et al. 2016 for the split.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..sparse import CSR, Pattern
from ..tensor import wrap
from . import restricted
from .download import cache_folder, fetch
from .graph import Graph

Array = Any

#: name -> nodes, edges (both directions), features, classes, training nodes.
PLANETOID = {
    "cora": (2708, 10556, 1433, 7, 140),
    "citeseer": (3327, 9104, 3703, 6, 120),
    "pubmed": (19717, 88648, 500, 3, 60),
}
PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
#: Where the authors of the split keep the files.
URL = "https://raw.githubusercontent.com/kimiyoung/planetoid/master/data/ind.{name}.{part}"


def planetoid(name: str, folder: str | os.PathLike[str] | None = None) -> Graph:
    """One of the citation networks, from the raw files ind.NAME.* in `folder`, or downloaded if that is None.

    The graph has x (a sparse CSR, not normalised), y, train_mask, val_mask, test_mask.  Raises ArgumentError
    for another name, missing or damaged files, and contents that are not those of the data set.
    """
    key = name.lower()
    if key not in PLANETOID:
        raise ArgumentError("planetoid", f"there is no {name!r}", fix=f"use one of {', '.join(PLANETOID)}")
    if folder is None:
        target = cache_folder() / "planetoid"
        files = {p: fetch(URL.format(name=key, part=p), target / f"ind.{key}.{p}") for p in PARTS}
    else:
        files = {p: Path(folder) / f"ind.{key}.{p}" for p in PARTS}
    missing = [f.name for f in files.values() if not f.is_file()]
    if missing:
        raise ArgumentError(
            "planetoid", f"{', '.join(missing)} not found in {folder}", fix="put the eight raw files there"
        )
    raw = {p: restricted.load(files[p].read_bytes()) for p in PARTS[:-1]}
    listed = np.array(files["test.index"].read_text().split(), np.int64)
    graph = _assemble(raw, listed)
    _check(key, graph)
    return graph


def _check(name: str, graph: Graph) -> None:
    """Whether it is the data set that it is called; raises ArgumentError if not."""
    train = int(graph.train_mask.sum().item())
    found = (graph.num_nodes, graph.num_edges, graph.x.shape[1], graph.num_classes, train)
    if found != PLANETOID[name]:
        raise ArgumentError(
            "planetoid",
            f"(nodes, edges, features, classes, training nodes) are {found}, not {PLANETOID[name]}",
            fix="download the files again",
        )


def _assemble(raw: dict[str, Any], listed: Array) -> Graph:
    """The graph of the raw parts, and the numbers of test nodes in the order in which those are stored."""
    order = np.sort(listed)
    first, last = int(order[0]), int(order[-1])
    allx, tx = _matrix(raw["allx"]), _matrix(raw["tx"])
    n = len(raw["ally"]) + last - first + 1
    if allx.shape[0] != first or len(raw["ally"]) != first or tx.shape[0] != len(listed):
        raise ArgumentError("planetoid", "the parts do not fit each other", fix="download the files again")
    # rows of allx, then those of tx at the numbers that are listed; numbers that are missing stay empty
    rows = np.concatenate([allx.pattern.rows, listed[tx.pattern.rows]])
    columns = np.concatenate([allx.pattern.index, tx.pattern.index])
    values: Any = np.concatenate([allx.full_values().numpy(), tx.full_values().numpy()])
    by_column = np.lexsort((columns, rows))
    pattern, _ = Pattern.of_places(rows[by_column], columns[by_column], (n, allx.shape[1]))
    x = CSR.of(pattern, wrap(values[by_column].astype(np.float32)))
    labels = np.zeros((n, raw["ally"].shape[1]), np.float32)
    labels[:first], labels[listed] = raw["ally"], raw["ty"]
    y = labels.argmax(1).astype(np.int64)
    sources = np.repeat(
        np.array(list(raw["graph"].keys()), np.int64), [len(v) for v in raw["graph"].values()]
    )
    targets = np.array([t for v in raw["graph"].values() for t in v], np.int64)
    keys = np.concatenate([sources * n + targets, targets * n + sources])
    keys = np.unique(keys[np.concatenate([sources, targets]) != np.concatenate([targets, sources])])
    train = len(raw["y"])
    masks = {k: np.zeros(n, bool) for k in ("train", "val", "test")}
    masks["train"][:train] = True
    masks["val"][train : train + 500] = True
    masks["test"][order] = True
    return Graph(
        x=x,
        edge_index=wrap(np.stack([keys // n, keys % n])),
        y=wrap(y),
        train_mask=wrap(masks["train"]),
        val_mask=wrap(masks["val"]),
        test_mask=wrap(masks["test"]),
    )


def _matrix(a: Any) -> CSR:
    """A matrix of the file, sparse or dense."""
    if isinstance(a, restricted.Sparse):
        return CSR(a.indptr, a.indices, np.asarray(a.data, np.float32), (int(a.shape[0]), int(a.shape[1])))
    rows, columns = np.nonzero(a)
    starts = np.searchsorted(rows, np.arange(len(a) + 1))
    return CSR(starts, columns, np.asarray(a[rows, columns], np.float32), a.shape)
