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

#: SHA-256 of these files, in the order of PARTS, as public repositories list them that agree (two for Cora
#: and Pubmed, three for Citeseer).
CHECKSUMS = {
    "cora": """
        23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab
        b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a
        9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543
        94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1
        41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad
        2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71
        58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d
        297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875""",
    "citeseer": """
        d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6
        539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21
        2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668
        8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924
        55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce
        f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95
        d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7
        2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4""",
    "pubmed": """
        fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33
        4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d
        508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e
        e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3
        ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd
        0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e
        5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9
        b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5""",
}


def planetoid(name: str, folder: str | os.PathLike[str] | None = None) -> Graph:
    """One of the citation networks, from the raw files ind.NAME.* in `folder`, or downloaded if that is None.

    What is downloaded must have the published checksums; files of one's own need not, only the right sizes.
    The graph has x (a sparse CSR, not normalised), y, train_mask, val_mask, test_mask.  Raises ArgumentError
    for another name, missing or damaged files, and contents that are not those of the data set.
    """
    key = name.lower()
    if key not in PLANETOID:
        raise ArgumentError("planetoid", f"there is no {name!r}", fix=f"use one of {', '.join(PLANETOID)}")
    if folder is None:
        target = cache_folder() / "planetoid"
        files = {
            p: fetch(URL.format(name=key, part=p), target / f"ind.{key}.{p}", checksum)
            for p, checksum in zip(PARTS, CHECKSUMS[key].split(), strict=True)
        }
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
