"""Graph convolutions, under PyTorch Geometric's names and with its conventions.

All are called as `conv(x, edge_index)`, some with `edge_weight` (edges,) or `edge_attr` (edges, features);
x is (nodes, in_channels), a sparse `CSR` where a layer starts with a linear map, or a pair (x_source,
x_target) for a graph between two kinds of nodes.  With the neighbours N(i), the sources of edges to i:

    GCNConv      y = D^-1/2 (A + I) D^-1/2 X W + b                       Kipf & Welling 2017 (1609.02907)
    GraphConv    y_i = W1 x_i + W2 sum of e_ji x_j                       Morris et al. 2019 (1810.02244)
    SAGEConv     y_i = W1 x_i + W2 mean of x_j                           Hamilton et al. 2017 (1706.02216)
    GATConv      y_i = sum of a_ij W x_j,
                 a_ij = softmax over j of leaky_relu(s.W x_j + t.W x_i)  Velickovic et al. 2018 (1710.10903)
    GATv2Conv    a_ij = softmax over j of s.leaky_relu(W1 x_j + W2 x_i)  Brody et al. 2022 (2105.14491)
    GINConv      y_i = f((1 + eps) x_i + sum of x_j)                     Xu et al. 2019 (1810.00826)
    ChebConv     y = sum over k of T_k(L) X W_k                          Defferrard et al. 2016 (1606.09375)
    APPNP        y <- (1 - alpha) A y + alpha x, K times                 Gasteiger et al. 2019 (1810.05997)
    SGConv       y = A^K X W + b                                         Wu et al. 2019 (1902.07153)
    EdgeConv     y_i = max over j of f(x_i, x_j - x_i)                   Wang et al. 2019 (1801.07829)

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> edge_index = mg.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> nn.GCNConv(8, 3)(mg.ones(3, 8), edge_index).shape
    (3, 3)

**Order.**  A (X W) and (A X) W are the same, and the cheaper one is computed: products with A cost one
multiplication for each edge and column, so the map to fewer columns comes first.  Where X needs no gradient,
(A X) W also saves the product with A^T on the way back; `_product` counts both.

**What is made once.**  Sorted edges, self loops and normalised matrices are remembered for each edge_index
tensor (see `minigrad.nn.graph.edges`), so the option `cached` of PyTorch Geometric is not needed; where it
means more (SGConv keeps A^K X), it is there.

Weights start as there: uniform by Glorot & Bengio 2010 where a matrix multiplies neighbours, zeros for
biases.
Left out: jittered and hashed variants, and heterogeneous graphs beyond two kinds of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...ops import sparse as ops
from ...ops.creation import zeros
from ...ops.movement import _reshape, cat, unsqueeze
from ...sparse import CSR, dropout, inverse_root, power, spmm
from ...tensor import Tensor, wrap
from .. import functional as F
from .. import init
from ..containers import ModuleList
from ..layers import Linear, positive
from ..module import Module, Parameter
from .edges import Edges, edges, features, gcn_norm, made_once, mean_matrix, nodes, sizes
from .message import MessagePassing, aggregation


def _glorot(out_channels: int, in_channels: int, bias: bool = False) -> Linear:
    """A linear map that starts as graph layers do."""
    lin = Linear(in_channels, out_channels, bias)
    _reset(lin)
    return lin


def _reset(lin: Any) -> None:
    init.xavier_uniform_(lin.weight)
    if lin.bias is not None:
        init.zeros_(lin.bias)


def _restart(part: Any) -> None:
    part.reset_parameters()


def _affine(x: Any, lin: Linear) -> Tensor:
    """The linear map of a dense or sparse x."""
    y = _times(x, lin.weight)
    return y if lin.bias is None else y + lin.bias


def _times(x: Any, weight: Tensor) -> Tensor:
    """x W^T for a dense or sparse x."""
    return spmm(x, weight.T) if isinstance(x, CSR) else F.linear(x, weight)


def _product(a: CSR, x: Any, weight: Tensor) -> Tensor:
    """A x W^T by the cheaper order: multiplications for each edge, forward and backward."""
    inputs, outputs = x.shape[-1], weight.shape[0]
    first = outputs * (2 if weight.requires_grad or x.requires_grad else 1)
    second = inputs * (2 if x.requires_grad else 1)
    if isinstance(x, CSR) or first < second:
        return spmm(a, _times(x, weight))
    return F.linear(spmm(a, x), weight)


class GCNConv(Module):
    """Graph convolution: D^-1/2 (A + I) D^-1/2 X W + b, D being the (weighted) degrees of A + I.

    improved: A + 2 I.  cached: taken for scripts of PyTorch Geometric; the normalised matrix is kept anyway.
    add_self_loops: by default as `normalize`.  Parameters: lin.weight (out, in), bias (out,).
    Reference: Kipf & Welling 2017 (arXiv 1609.02907), eq. 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        improved: bool = False,
        cached: bool = False,
        add_self_loops: bool | None = None,
        normalize: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        positive("GCNConv", in_channels=in_channels, out_channels=out_channels)
        loops = normalize if add_self_loops is None else add_self_loops
        if loops and not normalize:
            raise ArgumentError(
                "GCNConv", "self loops without normalisation", fix="add them to edge_index, or normalize=True"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.improved, self.cached, self.add_self_loops, self.normalize = improved, cached, loops, normalize
        self.lin = _glorot(out_channels, in_channels)
        self.bias = Parameter(zeros(out_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Draw the weight anew; the bias becomes 0."""
        _reset(self.lin)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Any, edge_index: Any, edge_weight: Any = None) -> Tensor:
        """(nodes, in_channels) to (nodes, out_channels).  x may be a sparse CSR."""
        n = nodes("GCNConv", x)
        features("GCNConv", x, self.in_channels)
        e = edges("GCNConv", edge_index, n, n)
        if self.normalize:
            a = gcn_norm(
                "GCNConv",
                e,
                edge_weight,
                x.dtype,
                improved=self.improved,
                add_self_loops=self.add_self_loops,
            )
        else:
            a = CSR.of(e.pattern, e.weights("GCNConv", edge_weight, x.dtype))
        y = _product(a, x, self.lin.weight)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.in_channels}, {self.out_channels}"


class _Neighbours(Module):
    """A root map and a map of aggregated neighbours, as SAGEConv and GraphConv have."""

    aggr: str

    def _aggregated(self, e: Edges, x: Any, weight: Tensor | None, lin: Linear) -> Tensor:
        """lin(aggregate of x_j): before the map or after it, whatever is cheaper and allowed."""
        name = type(self).__name__
        if self.aggr == "mean":
            a = mean_matrix(e, x.dtype)
            if weight is not None:
                a = a.with_values(a.full_values() * weight)
        elif self.aggr in ("add", "sum"):
            a = CSR.of(e.pattern, weight)
        else:
            if isinstance(x, CSR):
                raise ArgumentError(name, f"aggr={self.aggr!r} of sparse features", fix="use x.to_dense()")
            sign = -1.0 if self.aggr == "min" else 1.0
            if weight is None:
                y = ops.spmax(x * sign, e.pattern) * sign
            else:
                messages = ops.spsum(x, e.pattern.by_column.T) * unsqueeze(weight, 1)
                y = ops.spmax(messages * sign, e.pattern.by_row) * sign
            return _affine(y, lin)
        y = _product(a, x, lin.weight)
        return y if lin.bias is None else y + lin.bias


class SAGEConv(_Neighbours):
    """GraphSAGE: W1 x_i + W2 mean of x_j over neighbours, optionally scaled to length 1.

    aggr: "mean", "add", "max" or "min".  normalize: divide by the Euclidean norm.  root_weight: whether W1 is
    there.  project: x_j = relu(P x_j + p) first.  Parameters: lin_l (neighbours, with the bias), lin_r
    (root).
    Reference: Hamilton, Ying & Leskovec 2017 (arXiv 1706.02216).
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        aggr: str = "mean",
        normalize: bool = False,
        root_weight: bool = True,
        project: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        source, target = _pair("SAGEConv", in_channels)
        positive("SAGEConv", out_channels=out_channels)
        self.aggr = aggregation("SAGEConv", aggr)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.normalize, self.root_weight, self.project = normalize, root_weight, project
        if project:
            self.lin = Linear(source, source)
        self.lin_l = Linear(source, out_channels, bias)
        if root_weight:
            self.lin_r = Linear(target, out_channels, False)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in self.children():
            _restart(part)

    def forward(self, x: Any, edge_index: Any, size: Any = None) -> Tensor:
        """(nodes, in_channels) to (nodes, out_channels); x may be (x_source, x_target)."""
        source, target, sources, targets = _checked("SAGEConv", x, self.in_channels, size, self.project)
        e = edges("SAGEConv", edge_index, sources, targets)
        if self.project:
            source = F.relu(self.lin(source))
        y = self._aggregated(e, source, e.weight if self.aggr != "mean" else None, self.lin_l)
        if self.root_weight and target is not None:
            y = y + _times(target, self.lin_r.weight)
        return F.normalize(y, dim=-1) if self.normalize else y

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.in_channels}, {self.out_channels}, aggr={self.aggr}"


class GraphConv(_Neighbours):
    """W1 x_i + W2 sum of e_ji x_j over neighbours, with the bias in W2.

    aggr: "add", "mean", "max" or "min".  Parameters: lin_rel (neighbours), lin_root.
    Reference: Morris et al. 2019 (arXiv 1810.02244).
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        aggr: str = "add",
        bias: bool = True,
    ) -> None:
        super().__init__()
        source, target = _pair("GraphConv", in_channels)
        positive("GraphConv", out_channels=out_channels)
        self.aggr = aggregation("GraphConv", aggr)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.lin_rel = Linear(source, out_channels, bias)
        self.lin_root = Linear(target, out_channels, False)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.lin_rel.reset_parameters()
        self.lin_root.reset_parameters()

    def forward(self, x: Any, edge_index: Any, edge_weight: Any = None, size: Any = None) -> Tensor:
        """(nodes, in_channels) to (nodes, out_channels); x may be (x_source, x_target)."""
        source, target, sources, targets = _checked("GraphConv", x, self.in_channels, size)
        e = edges("GraphConv", edge_index, sources, targets)
        y = self._aggregated(e, source, e.weights("GraphConv", edge_weight, source.dtype), self.lin_rel)
        return y if target is None else y + _times(target, self.lin_root.weight)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.in_channels}, {self.out_channels}, aggr={self.aggr}"


def _pair(op: str, channels: Any) -> tuple[int, int]:
    pair = tuple(channels) if isinstance(channels, (tuple, list)) else (channels, channels)
    if len(pair) != 2:
        raise ArgumentError(op, f"in_channels is {channels!r}", fix="pass a number, or (sources, targets)")
    positive(op, in_channels=pair[0])
    positive(op, in_channels=pair[1])
    return int(pair[0]), int(pair[1])


def _checked(op: str, x: Any, channels: Any, size: Any, dense: bool = False) -> tuple[Any, Any, int, int]:
    """x of sources and targets, and their counts, which `size` gives where x has no targets."""
    source, target, sources, targets = sizes(op, x, dense)
    pair = _pair(op, channels)
    features(op, source, pair[0])
    features(op, target, pair[1])
    if size is not None:
        if size[0] not in (None, sources) or (target is not None and size[1] not in (None, targets)):
            raise ShapeError(
                op, f"size {tuple(size)} for {sources} sources and {targets} targets", fix="leave size out"
            )
        targets = targets if size[1] is None else int(size[1])
    return source, target, sources, targets


class _Attention(Module):
    """What the two attentions share: heads, dropout, attributes of edges, what is done with the scores."""

    heads: int
    out_channels: int
    concat: bool
    dropout: float
    add_self_loops: bool
    edge_dim: int | None
    fill_value: Any
    bias: Parameter | None

    def _settings(
        self,
        name: str,
        channels: Any,
        out_channels: int,
        heads: int,
        concat: bool,
        negative_slope: float,
        dropout: float,
        add_self_loops: bool,
        edge_dim: int | None,
        fill_value: Any,
        bias: bool,
    ) -> None:
        positive(name, out_channels=out_channels, heads=heads)
        if not 0.0 <= dropout <= 1.0:
            raise ArgumentError(name, f"dropout is {dropout}", fix="choose it between 0 and 1")
        if fill_value not in ("mean", "add", "sum") and not isinstance(fill_value, (int, float)):
            raise ArgumentError(name, f"fill_value is {fill_value!r}", fix="use a number, 'mean' or 'add'")
        self.in_channels, self.out_channels, self.heads = channels, out_channels, heads
        self.concat, self.negative_slope, self.dropout = concat, negative_slope, dropout
        self.add_self_loops, self.edge_dim, self.fill_value = add_self_loops, edge_dim, fill_value
        self.bias = Parameter(zeros(heads * out_channels if concat else out_channels)) if bias else None

    def _graph(self, name: str, edge_index: Any, sources: int, targets: int) -> tuple[Edges, Edges]:
        """The edges as they are, and with self loops if those are wanted (instead of any there are)."""
        e = edges(name, edge_index, sources, targets)
        if not self.add_self_loops:
            return e, e
        if sources != targets:
            raise ShapeError(
                name, f"self loops for {sources} sources and {targets} targets", fix="add_self_loops=False"
            )
        return e, e.with_self_loops()

    def _attributes(self, name: str, e: Edges, looped: Edges, edge_attr: Any) -> Tensor | None:
        """Attributes of nonzeros (nonzeros, edge_dim); a self loop gets the mean of those of its node."""
        if edge_attr is None:
            edge_attr = e.weight
        if (edge_attr is None) != (self.edge_dim is None):
            have, want = (
                ("is", "edge_dim=None") if self.edge_dim is None else ("is no", f"edge_dim={self.edge_dim}")
            )
            if self.edge_dim is None and edge_attr is e.weight:
                return None
            raise ArgumentError(name, f"there {have} edge_attr for a layer with {want}", fix="make both fit")
        if edge_attr is None:
            return None
        attr = edge_attr.reshape(-1, 1) if edge_attr.ndim == 1 else edge_attr
        if attr.shape != (e.count, self.edge_dim):
            raise ShapeError(
                name,
                f"edge_attr of shape {attr.shape} for {e.count} edges",
                fix=f"pass ({e.count}, {self.edge_dim})",
            )
        if looped is e:
            return e.in_order(attr)
        if isinstance(self.fill_value, (int, float)):
            plain = _loop_lift(e, looped, "none", attr.dtype)
            is_loop = _is_loop(looped).astype(attr.dtype)[:, None]
            return ops.spsum(attr, plain.pattern) + wrap(is_loop * attr.dtype.type(self.fill_value))
        return spmm(_loop_lift(e, looped, self.fill_value, attr.dtype), attr)

    def _output(
        self, e: Edges, scores: Tensor, x: Tensor, with_attention: bool | None, edge_index: Any
    ) -> Any:
        """Softmax over the neighbours of each node, dropout, and the weighted sum of x (n, heads,
        channels).
        """
        alpha = ops.segment_softmax(scores, e.pattern.by_row)
        alpha = F.dropout(alpha, self.dropout, self.training)
        y = CSR.of(e.pattern, alpha) @ x
        y = _reshape(y, (y.shape[0], self.heads * self.out_channels)) if self.concat else y.mean(1)
        if self.bias is not None:
            y = y + self.bias
        if with_attention is None:
            return y
        if isinstance(edge_index, CSR):
            return y, CSR.of(e.pattern, alpha)
        ends = np.stack([e.pattern.index, e.pattern.rows]).astype(np.int64)
        return y, (wrap(ends), alpha)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.in_channels}, {self.out_channels}, heads={self.heads}"


def _is_loop(e: Edges) -> Any:
    return e.pattern.rows == e.pattern.index


def _loop_lift(e: Edges, looped: Edges, fill: str, dtype: Any) -> CSR:
    """How attributes of nonzeros with self loops come from those of the edges: an edge has its own, a loop
    the mean or the sum of those of other edges to its node, or ("none") nothing."""

    def make() -> CSR:
        p, q = e.pattern, looped.pattern
        edge_of = np.arange(p.nonzeros) if e.lift is None else e.lift.index
        others = np.flatnonzero(p.rows != p.index)  # of these q has each, in the same order, and then loops
        is_loop = _is_loop(looped)
        rows, columns = np.flatnonzero(~is_loop), edge_of[others]
        values = np.ones(len(rows), dtype)
        if fill != "none":
            loop_at = np.flatnonzero(is_loop)  # one in each row, in order
            target = p.rows[others]
            degree = np.bincount(target, minlength=p.shape[0])
            share = 1.0 / degree[target] if fill == "mean" else np.ones(len(target))
            rows = np.concatenate([rows, loop_at[target]])
            columns = np.concatenate([columns, edge_of[others]])
            values = np.concatenate([values, share.astype(dtype)])
        pattern, order = ops.Pattern.of_places(rows, columns, (q.nonzeros, e.count))
        return CSR.of(pattern, wrap(values[order]))

    made: CSR = made_once(looped.pattern, ("lift", fill, dtype, e.lift), make)
    return made


class GATConv(_Attention):
    """Graph attention: the sum of neighbours W x_j, weighted by a softmax of leaky_relu(s.W x_j + t.W x_i).

    heads: attentions side by side, concatenated (or averaged with concat=False).  dropout: of the weights.
    edge_dim: size of edge attributes, which then add u.V e to the score.  Self loops replace those there are;
    fill_value says which attributes they get: a number, or the "mean" or "add" over the edges to the node.
    Parameters: lin.weight (heads * out, in), or lin_src and lin_dst for a pair of in_channels; att_src,
    att_dst (1, heads, out); bias.  Reference: Velickovic et al. 2018 (arXiv 1710.10903).
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        edge_dim: int | None = None,
        fill_value: float | str = "mean",
        bias: bool = True,
    ) -> None:
        super().__init__()
        source, target = _pair("GATConv", in_channels)
        self.att_src = Parameter(zeros(1, heads, out_channels))
        self.att_dst = Parameter(zeros(1, heads, out_channels))
        if edge_dim is not None:
            self.att_edge = Parameter(zeros(1, heads, out_channels))
        self._settings(
            "GATConv",
            in_channels,
            out_channels,
            heads,
            concat,
            negative_slope,
            dropout,
            add_self_loops,
            edge_dim,
            fill_value,
            bias,
        )
        width = heads * out_channels
        if isinstance(in_channels, (tuple, list)):
            self.lin_src = _glorot(width, source)
            self.lin_dst = _glorot(width, target)
        else:
            self.lin = _glorot(width, source)
        if edge_dim is not None:
            self.lin_edge = _glorot(width, edge_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew; the bias becomes 0."""
        for part in self.children():
            _reset(part)
        for name, p in self._own("parameters"):
            if name == "bias":
                init.zeros_(p)
            else:
                _glorot_last(p)

    def forward(
        self,
        x: Any,
        edge_index: Any,
        edge_attr: Any = None,
        size: Any = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """(nodes, in_channels) to (nodes, heads * out_channels), or (nodes, out_channels) without concat.

        return_attention_weights: also return (edge_index, weights) of all edges, self loops included.
        """
        name = "GATConv"
        source, target, sources, targets = _checked(name, x, self.in_channels, size)
        e, looped = self._graph(name, edge_index, sources, targets)
        shape = (-1, self.heads, self.out_channels)
        if isinstance(self.in_channels, int):
            xs = _times(source, self.lin.weight).reshape(*shape)
            xt = (
                xs
                if target is source
                else None
                if target is None
                else _times(target, self.lin.weight).reshape(*shape)
            )
        else:
            xs = _times(source, self.lin_src.weight).reshape(*shape)
            xt = None if target is None else _times(target, self.lin_dst.weight).reshape(*shape)
        scores = ops.spsum((xs * self.att_src).sum(-1), looped.pattern.by_column.T)
        if xt is not None:
            scores = scores + ops.spsum((xt * self.att_dst).sum(-1), looped.pattern.by_row.T)
        attr = self._attributes(name, e, looped, edge_attr)
        if attr is not None:
            lifted = self.lin_edge(attr).reshape(*shape)
            scores = scores + (lifted * self.att_edge).sum(-1)
        scores = F.leaky_relu(scores, self.negative_slope)
        return self._output(looped, scores, xs, return_attention_weights, edge_index)


def _glorot_last(p: Tensor) -> None:
    """Glorot's uniform numbers by the last two sizes."""
    bound = math.sqrt(6.0 / (p.shape[-2] + p.shape[-1]))
    init.uniform_(p, -bound, bound)


class GATv2Conv(_Attention):
    """Attention whose ranking of neighbours depends on the node: a softmax of s.leaky_relu(W1 x_j + W2 x_i).

    Arguments as in `GATConv`; share_weights: W1 = W2.  Parameters: lin_l (sources), lin_r (targets), both
    with a bias, att (1, heads, out), lin_edge, bias.  Reference: Brody, Alon & Yahav 2022 (arXiv
    2105.14491).
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        edge_dim: int | None = None,
        fill_value: float | str = "mean",
        bias: bool = True,
        share_weights: bool = False,
    ) -> None:
        super().__init__()
        source, target = _pair("GATv2Conv", in_channels)
        if share_weights and source != target:
            raise ArgumentError(
                "GATv2Conv", f"shared weights for {source} and {target} features", fix="share_weights=False"
            )
        self.share_weights = share_weights
        self.att = Parameter(zeros(1, heads, out_channels))
        self._settings(
            "GATv2Conv",
            in_channels,
            out_channels,
            heads,
            concat,
            negative_slope,
            dropout,
            add_self_loops,
            edge_dim,
            fill_value,
            bias,
        )
        width = heads * out_channels
        self.lin_l = _glorot(width, source, bias)
        self.lin_r = self.lin_l if share_weights else _glorot(width, target, bias)
        if edge_dim is not None:
            self.lin_edge = _glorot(width, edge_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew; biases become 0."""
        for part in self.children():
            _reset(part)
        _glorot_last(self.att)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(
        self, x: Any, edge_index: Any, edge_attr: Any = None, return_attention_weights: bool | None = None
    ) -> Any:
        """(nodes, in_channels) to (nodes, heads * out_channels), or (nodes, out_channels) without concat."""
        name = "GATv2Conv"
        source, target, sources, targets = _checked(name, x, self.in_channels, None)
        if target is None:
            raise ArgumentError(name, "x has no targets", fix="pass a tensor, or (x_source, x_target)")
        e, looped = self._graph(name, edge_index, sources, targets)
        shape = (-1, self.heads, self.out_channels)
        xs = _affine(source, self.lin_l).reshape(*shape)
        xt = xs if target is source and self.share_weights else _affine(target, self.lin_r).reshape(*shape)
        pattern = looped.pattern
        inner = ops.spsum(xs, pattern.by_column.T) + ops.spsum(xt, pattern.by_row.T)
        attr = self._attributes(name, e, looped, edge_attr)
        if attr is not None:
            inner = inner + self.lin_edge(attr).reshape(*shape)
        scores = (F.leaky_relu(inner, self.negative_slope) * self.att).sum(-1)
        return self._output(looped, scores, xs, return_attention_weights, edge_index)


class GINConv(Module):
    """f((1 + eps) x_i + sum of x_j over neighbours): as strong as the Weisfeiler-Lehman test.

    nn: the module f.  train_eps: learn eps.  Reference: Xu, Hu, Leskovec & Jegelka 2019 (arXiv 1810.00826).
    """

    def __init__(self, nn: Callable[..., Any], eps: float = 0.0, train_eps: bool = False) -> None:
        super().__init__()
        if not callable(nn):
            raise ArgumentError("GINConv", f"nn is {nn!r}", fix="pass a module, such as an MLP")
        self.initial_eps = eps
        start = wrap(np.full(1, eps, np.float32))
        if train_eps:
            self.eps: Tensor = Parameter(start)
        else:
            self.register_buffer("eps", start)
        self.nn = nn

    def reset_parameters(self) -> None:
        """Eps as at first, and the parts of f drawn anew."""
        init.constant_(self.eps, self.initial_eps)
        if isinstance(self.nn, Module):
            for part in self.nn.modules():
                if part is not self.nn and hasattr(part, "reset_parameters"):
                    _restart(part)

    def forward(self, x: Any, edge_index: Any, size: Any = None) -> Any:
        """(nodes, features) to whatever f makes of that; x may be (x_source, x_target)."""
        source, target, sources, targets = sizes("GINConv", x, dense=True)
        targets = targets if size is None or size[1] is None else int(size[1])
        e = edges("GINConv", edge_index, sources, targets)
        y = CSR.of(e.pattern, e.weight) @ source
        if target is not None:
            y = y + (self.eps.to(target.dtype) + 1.0) * target
        return self.nn(y)


class ChebConv(Module):
    """Chebyshev polynomials of the scaled Laplacian: sum over k < K of T_k(L) X W_k + b.

    L = 2 / lambda_max * (I - D^-1/2 A D^-1/2) - I for normalization "sym", D^-1 A instead for "rw", D - A
    (unnormalised) for None, where lambda_max must be given.  T_k = 2 L T_(k-1) - T_(k-2).
    Parameters: lins.k.weight, bias.  Reference: Defferrard, Bresson & Vandergheynst 2016 (arXiv 1606.09375).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int,
        normalization: str | None = "sym",
        bias: bool = True,
    ) -> None:
        super().__init__()
        positive("ChebConv", in_channels=in_channels, out_channels=out_channels, K=K)
        if normalization not in ("sym", "rw", None):
            raise ArgumentError(
                "ChebConv", f"normalization is {normalization!r}", fix="use 'sym', 'rw' or None"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.K, self.normalization = K, normalization
        self.lins = ModuleList([_glorot(out_channels, in_channels) for _ in range(K)])
        self.bias = Parameter(zeros(out_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Draw all weights anew; the bias becomes 0."""
        for lin in self.lins:
            _reset(lin)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _laplacian(self, e: Edges, edge_weight: Any, dtype: Any, lambda_max: float) -> CSR:
        """The scaled Laplacian, with rows for targets; the degree of a node counts the edges from it."""
        weight = e.weights("ChebConv", edge_weight, dtype)

        def make() -> CSR:
            a = CSR.of(e.pattern, weight).to(dtype).remove_self_loops()
            degree = a.sum(0)
            if self.normalization == "sym":
                root = inverse_root("ChebConv", degree)
                a, diagonal = a.scale(root, root), degree * 0.0 + 1.0
            elif self.normalization == "rw":
                a, diagonal = a.scale(None, power(degree, -1.0)), degree * 0.0 + 1.0
            else:
                diagonal = degree
            scaled = a * (-2.0 / lambda_max)
            looped = scaled.add_self_loops(0.0)
            where = looped.pattern.rows == looped.pattern.index
            on = wrap(where.astype(dtype))
            full = ops.spsum(diagonal * (2.0 / lambda_max) - 1.0, looped.pattern.by_row.T) * on
            return looped.with_values(looped.full_values() + full)

        if weight is not None:
            return make()
        key = ("laplacian", dtype, self.normalization, lambda_max)
        made: CSR = made_once(e.pattern, key, make)
        return made

    def forward(
        self, x: Tensor, edge_index: Any, edge_weight: Any = None, batch: Any = None, lambda_max: Any = None
    ) -> Tensor:
        """(nodes, in_channels) to (nodes, out_channels).

        lambda_max: the largest eigenvalue of the Laplacian, one number (2 by default, its bound for "sym" and
        "rw").  batch: not looked at, as one number serves all graphs.
        """
        n = nodes("ChebConv", x, dense=True)
        features("ChebConv", x, self.in_channels)
        if lambda_max is None:
            if self.normalization is None:
                raise ArgumentError(
                    "ChebConv", "the largest eigenvalue of D - A is not known", fix="pass lambda_max"
                )
            lambda_max = 2.0
        if not float(lambda_max) > 0.0:
            raise ArgumentError("ChebConv", f"lambda_max is {float(lambda_max):g}", fix="pass a positive one")
        e = edges("ChebConv", edge_index, n, n)
        laplacian = self._laplacian(e, edge_weight, x.dtype, float(lambda_max))
        before, now = x, x
        y: Tensor = self.lins[0](x)
        for k in range(1, self.K):
            following = laplacian @ now if k == 1 else (laplacian @ now) * 2.0 - before
            before, now = now, following
            y = y + self.lins[k](now)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.in_channels}, {self.out_channels}, K={self.K}, normalization={self.normalization}"


class APPNP(Module):
    """Personalised PageRank: y <- (1 - alpha) A y + alpha x, K times, A normalised as in GCNConv.

    dropout: of the edges, anew in every step.  cached: as in `GCNConv`.
    Reference: Gasteiger, Bojchevski & Guennemann 2019 (arXiv 1810.05997).
    """

    def __init__(
        self,
        K: int,
        alpha: float,
        dropout: float = 0.0,
        cached: bool = False,
        add_self_loops: bool = True,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        positive("APPNP", K=K)
        for what, value in (("alpha", alpha), ("dropout", dropout)):
            if not 0.0 <= value <= 1.0:
                raise ArgumentError("APPNP", f"{what} is {value}", fix="choose it between 0 and 1")
        self.K, self.alpha, self.dropout, self.cached = K, alpha, dropout, cached
        self.add_self_loops, self.normalize = add_self_loops, normalize

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Any = None) -> Tensor:
        """(nodes, features) to the same."""
        n = nodes("APPNP", x, dense=True)
        e = edges("APPNP", edge_index, n, n)
        if self.normalize:
            a = gcn_norm("APPNP", e, edge_weight, x.dtype, add_self_loops=self.add_self_loops)
        else:
            a = CSR.of(e.pattern, e.weights("APPNP", edge_weight, x.dtype))
        y = x
        for _ in range(self.K):
            y = (dropout(a, self.dropout, self.training) @ y) * (1.0 - self.alpha) + x * self.alpha
        return y

    def extra_repr(self) -> str:
        """Settings."""
        return f"K={self.K}, alpha={self.alpha}"


class SGConv(Module):
    """A^K X W + b, A normalised as in GCNConv: a graph convolution without nonlinearities in between.

    cached: keep A^K X of the first call, for training on one graph with the same features.
    Parameters: lin.weight, lin.bias.  Reference: Wu et al. 2019 (arXiv 1902.07153).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int = 1,
        cached: bool = False,
        add_self_loops: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        positive("SGConv", in_channels=in_channels, out_channels=out_channels, K=K)
        self.in_channels, self.out_channels, self.K = in_channels, out_channels, K
        self.cached, self.add_self_loops = cached, add_self_loops
        self.lin = Linear(in_channels, out_channels, bias)
        self._kept: tuple[Tensor] | None = None  # in a tuple, as it is neither a parameter nor a buffer

    def reset_parameters(self) -> None:
        """Draw the weights anew, and forget A^K X."""
        self.lin.reset_parameters()
        self._kept = None

    def forward(self, x: Any, edge_index: Any, edge_weight: Any = None) -> Tensor:
        """(nodes, in_channels) to (nodes, out_channels)."""
        if self.cached and self._kept is not None:
            return _affine(self._kept[0], self.lin)
        n = nodes("SGConv", x)
        features("SGConv", x, self.in_channels)
        e = edges("SGConv", edge_index, n, n)
        a = gcn_norm("SGConv", e, edge_weight, x.dtype, add_self_loops=self.add_self_loops)
        if not self.cached and (isinstance(x, CSR) or self.out_channels < self.in_channels):
            y = _times(x, self.lin.weight)
            for _ in range(self.K):
                y = a @ y
            return y if self.lin.bias is None else y + self.lin.bias
        y = x.to_dense() if isinstance(x, CSR) else x
        for _ in range(self.K):
            y = a @ y
        if self.cached and not hasattr(y._array, "trace"):
            self._kept = (y.detach(),)
        return _affine(y, self.lin)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.in_channels}, {self.out_channels}, K={self.K}"


class EdgeConv(MessagePassing):
    """The maximum over neighbours of f([x_i, x_j - x_i]).

    nn: the module f, from 2 * in_channels.  Reference: Wang et al. 2019 (arXiv 1801.07829).
    """

    def __init__(self, nn: Callable[..., Any], aggr: str = "max") -> None:
        super().__init__(aggr)
        if not callable(nn):
            raise ArgumentError("EdgeConv", f"nn is {nn!r}", fix="pass a module, such as an MLP")
        self.nn = nn

    def forward(self, x: Any, edge_index: Any) -> Any:
        """(nodes, in_channels) to (nodes, what f gives); x may be (x_source, x_target)."""
        return self.propagate(edge_index, x=x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Any:  # type: ignore[override]
        """f of the target and the way to the source."""
        return self.nn(cat([x_i, x_j - x_i], -1))
