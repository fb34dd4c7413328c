"""The tests of graph networks are tested: wrong derivatives, normalisations and samples must be noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import test_graphs
from laws import checks

import minigrad as mg
from minigrad import sparse
from minigrad.backends import sampling
from minigrad.nn.graph import conv, edges, pool
from minigrad.ops import OPS
from minigrad.ops import sparse as ops

WRONG_RULES = {
    "every node gets the mean": (
        "spmm",
        2,
        lambda g, values, turned, pattern: ops.spmm(turned * 0.0, values * 0.0, g, pattern.T) + g.mean(),
    ),
    "values get nothing": ("spmm", 0, lambda g, input, pattern: ops.sddmm(g, input, pattern) * 0.0),
    "values are not turned": (
        "spmm",
        2,
        lambda g, values, turned, pattern: ops.spmm(values, turned, g, pattern.T),
    ),
    "sides swapped": ("sddmm", 0, lambda g, right, pattern: ops.sddmm(right, right, pattern)),
    "a sum counted twice": ("spsum", 0, lambda g, pattern: ops.spsum(g, pattern.T) * 2.0),
    "the sum over the row is missing": ("segment_softmax", 0, lambda g, y, pattern: y * g),
    "all neighbours count as the largest": (
        "spmax",
        0,
        lambda g, y, input, pattern: ops.spsum(g, pattern.T),
    ),
}


@pytest.mark.parametrize("bug", WRONG_RULES)
def test_wrong_rule(bug):
    name, position, rule = WRONG_RULES[bug]
    rules = list(OPS[name].rules)
    rules[position] = rule
    with pytest.raises((AssertionError, mg.Error)) as caught:
        checks.gradient_is_right(replace(OPS[name], rules=tuple(rules)))
    assert name in str(caught.value)


def no_root(op, degree):
    return sparse.power(degree, -1.0)


def without_loops(self):
    return self


PLANTED = {
    "D^-1 on both sides": (sparse, "inverse_root", no_root, test_graphs.test_normalisation),
    "1 / 0 of a node without edges": (
        sparse,
        "power",
        lambda degree, exponent: degree**exponent,
        test_graphs.test_normalisation,
    ),
    "loops added where there are some": (
        sparse,
        "with_diagonal",
        lambda pattern: (pattern, pattern.turn),
        test_graphs.test_normalisation,
    ),
    "a changed graph is not seen": (
        sparse._Known,
        "get",
        lambda self, index, key, make, made={}: made.setdefault((id(index), key), make()),
        test_graphs.test_a_changed_graph_is_seen,
    ),
    "samples that ignore the seed": (
        sampling.Sampler,
        "__call__",
        lambda self, seeds, fanouts, seed, right=sampling.Sampler.__call__: right(self, seeds, fanouts, 0),
        test_graphs.test_draws_are_uniform,
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_planted(bug, monkeypatch):
    owner, name, wrong, test = PLANTED[bug]
    test()
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises((AssertionError, mg.Error)):
        test()


def test_wrong_layers_against_their_definition(monkeypatch):
    """What GCNConv computes is compared with D^-1/2 (A + I) D^-1/2 X W in dense numpy."""
    test_graphs.test_gcn_by_hand()
    for owner, name, wrong in (
        (edges.CSR, "add_self_loops", lambda self, fill=1.0: self),
        (edges.CSR, "normalize_symmetric", edges.CSR.normalize_rows),
        (conv, "spmm", lambda a, x: sparse.spmm(a.T, x)),
    ):
        with monkeypatch.context() as planted:
            planted.setattr(owner, name, wrong)
            with pytest.raises(AssertionError):
                test_graphs.test_gcn_by_hand()


def test_pooling_that_mixes_graphs(monkeypatch):
    with monkeypatch.context() as planted:
        planted.setattr(pool, "segment_sum", lambda x, batch, size: sparse.segment_sum(x, batch, size) * 0.0)
        with pytest.raises(AssertionError):
            test_graphs.test_pooling_by_hand()
    test_graphs.test_pooling_by_hand()
