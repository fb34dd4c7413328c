"""Tensor parallel: each rank has a part of every large matrix, and all work on the same batch.

A two-layer network y = f(x A) B needs no communication between its layers if A is cut by columns and B
by rows (Shoeybi et al. 2019, Megatron-LM, 1909.08053):

    A = [A_1 A_2]        y_r = f(x A_r) B_r        y = y_1 + y_2
    B = [B_1; B_2]

since f works element by element: one sum over ranks going forward (of y), one going backward (of the
gradient of x). Attention is the same with heads for columns; a table of vectors is cut by rows, and a
rank that does not have an index gives zeros:

==============================  ===================================================================
`ColumnParallelLinear`          rows of the weight (out, in), as PyTorch stores it; its output is a part
`RowParallelLinear`             columns of the weight; takes a part, gives the sum
`ParallelMultiheadAttention`    some of the heads
`VocabParallelEmbedding`        some of the rows
`ParallelDropout`               own part of the mask that one process would have drawn
`parallelize_module`            puts these into a model, by a plan
==============================  ===================================================================

Everything else (norms, residuals, the loss) is computed by all ranks alike, so they need the same batch and
the same random numbers: `parallelize_module` takes weights and the state of the generator from rank 0.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = parallelize_module(net, plan={"0": ColwiseParallel(), "2": RowwiseParallel()})
    >>> net[2]
    RowParallelLinear(in_features=8, out_features=2, bias=True, ranks=1)
    >>> list(full_state_dict(net))
    ['0.weight', '0.bias', '2.weight', '2.bias']

`full_state_dict` has the names and shapes of the model before, so a run continues with any other number of
ranks.  `nn.clip_grad_norm_` knows parts.  With data parallelism: `DistributedDataParallel(model,
process_group=mesh.get_group("data"))`.

Left out: sequence parallelism (norms and dropouts cut along the sequence, Korthikanti et al. 2022) and the
cross entropy of logits that stay in parts; optimizers that take norms of parameters (LAMB) see parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ..mode import current
from ..nn import functional as F
from ..nn.attention import MultiheadAttention, TransformerEncoderLayer
from ..nn.layers import Dropout, Embedding, Linear
from ..nn.module import Module, Parameter
from ..ops.collective import copy_to, gather_from, reduce_from, scatter_to
from ..ops.creation import ones
from ..ops.elementwise import logical_and, where
from ..ops.movement import unsqueeze
from ..random import get_rng_state, set_rng_state
from ..tensor import Tensor, wrap
from .engine import Engine
from .group import of
from .mesh import DeviceMesh
from .parallel import make_alike


class Shard(NamedTuple):
    """How a parameter is cut: along `dim`, each of `blocks` equal blocks for itself, for a group's ranks."""

    group: Engine
    dim: int
    blocks: int = 1

    def cut(self, whole: Any) -> Any:
        """The part of this rank."""
        size = self.group.size
        blocks = np.split(whole, self.blocks, self.dim)
        parts = [np.split(b, size, self.dim)[self.group.rank] for b in blocks]
        return np.ascontiguousarray(np.concatenate(parts, self.dim))

    def join(self, part: Any) -> Any:
        """The whole, from the parts of all ranks."""
        parts = [
            np.split(p, self.blocks, self.dim) for p in self.group.all_gather(np.ascontiguousarray(part))
        ]
        return np.concatenate([p[b] for b in range(self.blocks) for p in parts], self.dim)


class PartialParameter(Parameter):
    """A parameter of which this rank has a part; `shard` says which."""

    __slots__ = ("shard",)

    shard: Shard


def _part(whole: Parameter | None, group: Engine, dim: int, blocks: int = 1) -> Any:
    if whole is None:
        return None
    shard = Shard(group, dim, blocks)
    part = PartialParameter(wrap(shard.cut(whole._array)), whole.requires_grad)
    part.shard = shard
    return part


def _divides(layer: str, what: str, size: int, group: Engine) -> None:
    if size % group.size:
        raise ArgumentError(
            layer,
            f"{what} is {size}, which {group.size} ranks do not divide",
            fix=f"choose a multiple of {group.size}, or another number of ranks",
        )


class ColumnParallelLinear(Module):
    """x W^T + b where each rank computes some of the outputs.

    in_features, out_features: of all ranks together.  gather_output: put the parts together, so that the
    output is whole; False leaves this rank's part, for a `RowParallelLinear`.  group: the ranks.  The weight
    is drawn by rank 0 as one `Linear`.  Raises ArgumentError if the ranks do not divide out_features.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        gather_output: bool = True,
        *,
        group: Engine | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _divides("ColumnParallelLinear", "out_features", out_features, of(group))
        whole = Linear(in_features, out_features, bias, dtype=dtype)
        make_alike("ColumnParallelLinear", whole, of(group))
        self._take(whole, gather_output, of(group))

    @classmethod
    def from_linear(
        cls, linear: Linear, gather_output: bool = True, group: Engine | None = None
    ) -> ColumnParallelLinear:
        """The parts of a layer that all ranks have alike."""
        made = cls.__new__(cls)
        Module.__init__(made)
        _divides("ColumnParallelLinear", "out_features", linear.out_features, of(group))
        made._take(linear, gather_output, of(group))
        return made

    def _take(self, whole: Linear, gather_output: bool, group: Engine) -> None:
        self.in_features, self.out_features = whole.in_features, whole.out_features
        self.gather_output, self.group = gather_output, group
        self.weight = _part(whole.weight, group, 0)
        self.bias = _part(whole.bias, group, 0)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it to an input that is whole."""
        y = F.linear(copy_to(input, self.group), self.weight, self.bias)
        return gather_from(y, self.group, -1) if self.gather_output else y

    def extra_repr(self) -> str:
        """Settings."""
        return _describe(self)


class RowParallelLinear(Module):
    """x W^T + b where each rank has some of the inputs; the output is whole.

    in_features, out_features: of all ranks together.  input_is_parallel: the input is this rank's part, as a
    `ColumnParallelLinear` leaves it; False takes it out of a whole one.  The bias is added once, after the
    sum.  Raises ArgumentError if the ranks do not divide in_features.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        input_is_parallel: bool = False,
        *,
        group: Engine | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _divides("RowParallelLinear", "in_features", in_features, of(group))
        whole = Linear(in_features, out_features, bias, dtype=dtype)
        make_alike("RowParallelLinear", whole, of(group))
        self._take(whole, input_is_parallel, of(group))

    @classmethod
    def from_linear(
        cls, linear: Linear, input_is_parallel: bool = False, group: Engine | None = None
    ) -> RowParallelLinear:
        """The parts of a layer that all ranks have alike."""
        made = cls.__new__(cls)
        Module.__init__(made)
        _divides("RowParallelLinear", "in_features", linear.in_features, of(group))
        made._take(linear, input_is_parallel, of(group))
        return made

    def _take(self, whole: Linear, input_is_parallel: bool, group: Engine) -> None:
        self.in_features, self.out_features = whole.in_features, whole.out_features
        self.input_is_parallel, self.group = input_is_parallel, group
        self.weight = _part(whole.weight, group, 1)
        self.bias = whole.bias

    def forward(self, input: Tensor) -> Tensor:
        """Apply it.  Raises ShapeError for a whole input where a part is expected, or the reverse."""
        wanted = self.in_features // self.group.size if self.input_is_parallel else self.in_features
        if input.shape[-1] != wanted:
            raise ShapeError(
                "RowParallelLinear",
                f"an input of shape {input.shape} where the last size is to be {wanted}",
                fix="its input is " + ("a part" if self.input_is_parallel else "whole"),
            )
        part = input if self.input_is_parallel else scatter_to(input, self.group, -1)
        y = reduce_from(F.linear(part, self.weight), self.group)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Settings."""
        return _describe(self)


def _describe(layer: Any) -> str:
    return (
        f"in_features={layer.in_features}, out_features={layer.out_features}, "
        f"bias={layer.bias is not None}, ranks={layer.group.size}"
    )


class VocabParallelEmbedding(Module):
    """A table of vectors of which each rank has some rows: (...) to (..., embedding_dim), whole.

    num_embeddings, embedding_dim: of all ranks together.  padding_idx: as for `Embedding`.  Raises
    ArgumentError if the ranks do not divide num_embeddings.
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        group: Engine | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        whole = Embedding(num_embeddings, embedding_dim, padding_idx, dtype=dtype)
        make_alike("VocabParallelEmbedding", whole, of(group))
        self._take(whole, of(group))

    @classmethod
    def from_embedding(cls, embedding: Embedding, group: Engine | None = None) -> VocabParallelEmbedding:
        """The parts of a table that all ranks have alike."""
        made = cls.__new__(cls)
        Module.__init__(made)
        made._take(embedding, of(group))
        return made

    def _take(self, whole: Embedding, group: Engine) -> None:
        layer = type(self).__name__
        _divides(layer, "num_embeddings", whole.num_embeddings, group)
        if whole.max_norm is not None:
            raise ArgumentError(
                layer, "max_norm, which is not supported here", fix="normalise the output, or leave it out"
            )
        self.num_embeddings, self.embedding_dim = whole.num_embeddings, whole.embedding_dim
        self.padding_idx, self.group = whole.padding_idx, group
        self._rows = whole.num_embeddings // group.size
        self._start = group.rank * self._rows
        self.weight = _part(whole.weight, group, 0)

    def forward(self, input: Tensor) -> Tensor:
        """Look the indices up.  Raises OutOfRangeError for one that does not exist."""
        total, rows, start = self.num_embeddings, self._rows, self._start
        if current().trace is None and input.numel():
            low, high = int(input._array.min()), int(input._array.max())
            if low < 0 or high >= total:
                raise OutOfRangeError(
                    type(self).__name__,
                    f"index {low if low < 0 else high} of {total} embeddings",
                    fix=f"use 0 to {total - 1}",
                )
        inside = logical_and(input >= start, input < start + rows)
        there = logical_and(input >= 0, input < total)
        own = where(inside, input - start, where(there, 0, rows))  # one that is none is refused below
        pad = None if self.padding_idx is None else self.padding_idx - start
        y = F.embedding(own, self.weight, pad if pad is not None and 0 <= pad < rows else None)
        return reduce_from(where(unsqueeze(inside, -1), y, 0.0), self.group)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.num_embeddings}, {self.embedding_dim}, ranks={self.group.size}"


class ParallelDropout(Module):
    """Dropout of a part: of the mask that one process would draw for the whole, this rank's part along `dim`.

    So the results of any number of ranks are the same, and their generators stay in step.
    """

    def __init__(self, p: float = 0.5, dim: int = -1, *, group: Engine | None = None) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ArgumentError("ParallelDropout", f"a probability of {p}", fix="choose p between 0 and 1")
        self.p, self.dim, self.group = p, dim, of(group)

    def forward(self, input: Tensor) -> Tensor:
        """Apply it to this rank's part."""
        if not self.training or not self.p:
            return input
        dim = self.dim % input.ndim
        shape = [n * self.group.size if d == dim else n for d, n in enumerate(input.shape)]
        mask = F.dropout(ones(*shape, dtype=input.dtype), self.p, True)
        return input * scatter_to(mask, self.group, dim)

    def extra_repr(self) -> str:
        """Settings."""
        return f"p={self.p}"


class ParallelMultiheadAttention(MultiheadAttention):
    """`MultiheadAttention` where each rank has some of the heads; inputs and outputs are whole.

    The arguments are those of `MultiheadAttention`, of all ranks together.  Raises ArgumentError if the ranks
    do not divide num_heads.
    """

    def __init__(self, *args: Any, group: Engine | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        make_alike("ParallelMultiheadAttention", self, of(group))
        self._take(of(group))

    @classmethod
    def from_attention(
        cls, attention: MultiheadAttention, group: Engine | None = None
    ) -> ParallelMultiheadAttention:
        """The parts of an attention that all ranks have alike."""
        made = cls.__new__(cls)
        made.__dict__.update(attention.__dict__)
        made._take(of(group))
        return made

    def _take(self, group: Engine) -> None:
        _divides("ParallelMultiheadAttention", "num_heads", self.num_heads, group)
        self.group = group
        self.num_heads //= group.size
        self._size = self.embed_dim // group.size
        self.in_proj_weight = _part(self.in_proj_weight, group, 0, 3)
        self.in_proj_bias = _part(self.in_proj_bias, group, 0, 3)
        self.q_proj_weight = _part(self.q_proj_weight, group, 0)
        self.k_proj_weight = _part(self.k_proj_weight, group, 0)
        self.v_proj_weight = _part(self.v_proj_weight, group, 0)
        self.bias_k = _part(self.bias_k, group, 2)
        self.bias_v = _part(self.bias_v, group, 2)
        self.out_proj: Any = RowParallelLinear.from_linear(self.out_proj, True, group)
        self._dropout = ParallelDropout(self.dropout, 1, group=group)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Look up; see `MultiheadAttention`."""
        whole: dict[int, Tensor] = {}
        for t in (query, key, value):  # the same tensor stays the same, for one product and one sum
            if id(t) not in whole:
                whole[id(t)] = copy_to(t, self.group)
        if attn_mask is not None and attn_mask.ndim == 3:
            heads, length, places = self.num_heads * self.group.size, *attn_mask.shape[1:]
            if attn_mask.shape[0] % heads == 0:
                own = scatter_to(attn_mask.reshape(-1, heads, length, places), self.group, 1)
                attn_mask = own.reshape(-1, length, places)
        return super().forward(
            whole[id(query)],
            whole[id(key)],
            whole[id(value)],
            key_padding_mask,
            need_weights,
            attn_mask,
            average_attn_weights,
            is_causal,
        )

    def _drop(self, weights: Tensor) -> Tensor:
        y: Tensor = self._dropout(weights)
        return y

    def _show(self, weights: Tensor, average: bool) -> Tensor:
        every = gather_from(weights, self.group, 1)
        return every.mean(1) if average else every

    def extra_repr(self) -> str:
        """Settings."""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads} of {self.num_heads * self.group.size}"


# -- whole models ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColwiseParallel:
    """For `parallelize_module`: a Linear cut by its outputs.  gather_output: see `ColumnParallelLinear`."""

    gather_output: bool = False


@dataclass(frozen=True)
class RowwiseParallel:
    """For `parallelize_module`: a Linear cut by its inputs, or an Embedding by its rows.

    input_is_parallel: see `RowParallelLinear`."""

    input_is_parallel: bool = True


@dataclass(frozen=True)
class HeadwiseParallel:
    """For `parallelize_module`: a MultiheadAttention cut by its heads, a TransformerEncoderLayer with all of
    its parts."""


def parallelize_module(
    module: Module,
    group: Engine | DeviceMesh | None = None,
    plan: Mapping[str, Any] | None = None,
) -> Module:
    """`module` with the layers of a plan in parts, one for each rank of the group.

    group: the ranks, or a mesh of one dimension.  plan: {name: how}, where a name may have wildcards ("*.up")
    and `how` is a ColwiseParallel, RowwiseParallel or HeadwiseParallel; None: every transformer encoder
    layer, other attention and embedding.  The ranks get the weights and the random numbers of rank 0.
    The module is changed, and returned (another one, if it is itself in the plan, under the name "").
    Raises ArgumentError for a name that is none, a layer that cannot be cut so, or sizes that the ranks
    do not divide; before anything is changed.
    """
    ranks = group.get_group() if isinstance(group, DeviceMesh) else of(group)
    make_alike("parallelize_module", module, ranks)
    state = np.array(get_rng_state(), np.uint64)
    ranks.broadcast(state, 0)
    set_rng_state((int(state[0]), int(state[1])))
    found = _planned(module, plan)
    made = [(name, _cut(old, how, ranks, name)) for name, (old, how) in found.items()]
    for name, new in made:
        if not name:
            return new
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, new)
    return module


def _planned(module: Module, plan: Mapping[str, Any] | None) -> dict[str, tuple[Module, Any]]:
    """Which modules are to be cut, by their names, and how."""
    names = dict(module.named_modules())
    found: dict[str, tuple[Module, Any]] = {}
    if plan is None:
        for name, m in names.items():
            inside = any(name.startswith(f"{other}.") or not other for other in found)
            if not inside and isinstance(m, (TransformerEncoderLayer, MultiheadAttention, Embedding)):
                found[name] = (m, RowwiseParallel() if isinstance(m, Embedding) else HeadwiseParallel())
        if not found:
            raise ArgumentError(
                "parallelize_module",
                "the model has no transformer layer, attention or embedding, so it does not split by itself",
                fix='pass a plan, such as {"0": ColwiseParallel(), "2": RowwiseParallel()}',
            )
        return found
    for pattern, how in plan.items():
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            raise ArgumentError(
                "parallelize_module",
                f"the plan names {pattern!r}, which is no module of the model",
                fix=f"it has {', '.join(n for n in names if n)}",
            )
        for name in matching:
            found[name] = (names[name], how)
    return found


def _cut(module: Any, how: Any, group: Engine, name: str) -> Module:
    """A module in parts."""
    if isinstance(how, ColwiseParallel) and isinstance(module, Linear):
        return ColumnParallelLinear.from_linear(module, how.gather_output, group)
    if isinstance(how, RowwiseParallel) and isinstance(module, Linear):
        return RowParallelLinear.from_linear(module, how.input_is_parallel, group)
    if isinstance(how, RowwiseParallel) and isinstance(module, Embedding):
        return VocabParallelEmbedding.from_embedding(module, group)
    if isinstance(how, HeadwiseParallel) and isinstance(module, MultiheadAttention):
        return ParallelMultiheadAttention.from_attention(module, group)
    if isinstance(how, HeadwiseParallel) and isinstance(module, TransformerEncoderLayer):
        attention = ParallelMultiheadAttention.from_attention(module.self_attn, group)
        first = ColumnParallelLinear.from_linear(module.linear1, False, group)
        second = RowParallelLinear.from_linear(module.linear2, True, group)
        for part, new in (("self_attn", attention), ("linear1", first), ("linear2", second)):
            setattr(module, part, new)
        if isinstance(module.dropout, Dropout):
            module.dropout = ParallelDropout(module.dropout.p, group=group)  # type: ignore[assignment]
        return module
    if not isinstance(how, (ColwiseParallel, RowwiseParallel, HeadwiseParallel)):
        raise DTypeError(
            "parallelize_module",
            f"the plan of {name!r} is a {type(how).__name__}",
            fix="pass ColwiseParallel(), RowwiseParallel() or HeadwiseParallel()",
        )
    raise ArgumentError(
        "parallelize_module",
        f"{name or 'the model'} is a {type(module).__name__}, which cannot be cut by {type(how).__name__}",
        fix="Linear is cut by columns or rows, Embedding by rows, attention and encoder layers by heads",
    )


def _entries(module: Module) -> Iterator[tuple[str, Tensor]]:
    """What `state_dict` has, as the tensors themselves."""
    yield from module.named_parameters(remove_duplicate=False)
    persistent = module.state_dict()
    yield from ((name, b) for name, b in module.named_buffers() if name in persistent)


def full_state_dict(module: Module) -> dict[str, Tensor]:
    """`state_dict` with parts put together: the names and shapes of the model before it was cut.

    All ranks must call it, and all get it."""
    known = dict(_entries(module))
    found = {}
    for name, t in module.state_dict().items():
        shard = getattr(known.get(name), "shard", None)
        found[name] = t if shard is None else wrap(shard.join(t._array))
    return found


def load_full_state_dict(module: Module, state: Mapping[str, Any]) -> None:
    """Load what `full_state_dict` gave, with any number of ranks; each takes its parts.

    Raises what `load_state_dict` raises for names and shapes that do not fit."""
    known = dict(_entries(module))
    parts = {}
    for name, t in state.items():
        p: Any = known.get(name)
        shard = getattr(p, "shard", None)
        array = t._array if isinstance(t, Tensor) else np.asarray(t)
        if shard is not None:
            whole = list(p.shape)
            whole[shard.dim] *= shard.group.size
            if array.shape == tuple(whole):
                array = shard.cut(array)
        parts[name] = wrap(np.array(array))
    module.load_state_dict(parts)


__all__ = [
    "ColumnParallelLinear",
    "ColwiseParallel",
    "HeadwiseParallel",
    "ParallelDropout",
    "ParallelMultiheadAttention",
    "RowParallelLinear",
    "RowwiseParallel",
    "VocabParallelEmbedding",
    "full_state_dict",
    "load_full_state_dict",
    "parallelize_module",
]
