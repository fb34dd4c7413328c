"""Attention and the transformer (Vaswani et al. 2017, arXiv 1706.03762).

Attention looks up values by comparing a query with keys, softly: every value counts, in proportion to

    softmax(q k^T / sqrt(d))

*Multi-head* attention does so with several projections of the same input, each of a part of the size:

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> attention = nn.MultiheadAttention(embed_dim=8, num_heads=2, batch_first=True)
    >>> x = mg.zeros(3, 5, 8)
    >>> y, weights = attention(x, x, x)
    >>> y.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))

For self-attention the three projections are one product, and the heads are views of its result: the only
copies are the one that puts the heads side by side again.

Masks are torch's: in `attn_mask` and `key_padding_mask` True means *may not look* (the opposite of
`functional.scaled_dot_product_attention`), and numbers are added to the scores.  A place that may look
nowhere gets zeros, where torch gives NaN.

The encoder layer is attention and a two-layer network, each with dropout, a residual and a layer norm:

    norm_first=False    x = norm(x + f(x))              (the paper's)
    norm_first=True     x = x + f(norm(x))              (Xiong et al. 2020, arXiv 2002.04745)

The decoder layer has a third part between the two, attention to what the encoder made of the source.

Left out: nested tensors (`enable_nested_tensor` is torch's way of skipping padding; results
are the same without).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir import default_float
from ..ops.contraction import matmul
from ..ops.creation import zeros
from ..ops.elementwise import logical_or, where
from ..ops.movement import _permute, _reshape, broadcast_to, cat, pad_dim, transpose, unbind, unsqueeze
from ..tensor import Tensor
from . import functional as F
from . import init
from .containers import ModuleList
from .functional.linear import attention_weights
from .layers import Dropout, Linear, positive
from .module import Module, Parameter, factory
from .norm import LayerNorm


class MultiheadAttention(Module):
    """Attention with num_heads heads, between learned projections in and out.

    in_proj_weight: (3 embed_dim, embed_dim), those of query, key and value one below the other; or, where
    kdim or vdim differ from embed_dim, q_proj_weight, k_proj_weight (embed_dim, kdim) and v_proj_weight
    (embed_dim, vdim).  in_proj_bias: (3 embed_dim,).  out_proj: a `Linear`.  add_bias_kv: one learned key and
    value more; add_zero_attn: one of zeros.
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        layer = "MultiheadAttention"
        dtype = factory(layer, device, dtype)
        positive(layer, embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise ArgumentError(
                layer, f"embed_dim {embed_dim} in {num_heads} heads", fix="it must be divisible by num_heads"
            )
        if not 0.0 <= dropout <= 1.0:
            raise ArgumentError(layer, f"dropout is {dropout!r}", fix="pass a probability, from 0 to 1")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self._size = embed_dim  # of all heads that are computed here
        self.dropout = dropout
        self.add_zero_attn = add_zero_attn
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        together = self.kdim == embed_dim and self.vdim == embed_dim

        def weight(*shape: int, there: bool = True) -> Parameter | None:
            return Parameter(zeros(*shape, dtype=dtype)) if there else None

        self.in_proj_weight = weight(3 * embed_dim, embed_dim, there=together)
        self.q_proj_weight = weight(embed_dim, embed_dim, there=not together)
        self.k_proj_weight = weight(embed_dim, self.kdim, there=not together)
        self.v_proj_weight = weight(embed_dim, self.vdim, there=not together)
        self.in_proj_bias = weight(3 * embed_dim, there=bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=dtype)
        self.bias_k = weight(1, 1, embed_dim, there=add_bias_kv)
        self.bias_v = weight(1, 1, embed_dim, there=add_bias_kv)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Draw the projections anew: Xavier uniform, biases 0, the extra key and value Xavier normal."""
        for p in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if p is not None:
                init.xavier_uniform_(p)
        for p in (self.in_proj_bias, self.out_proj.bias):
            if p is not None:
                init.zeros_(p)
        for p in (self.bias_k, self.bias_v):
            if p is not None:
                init.xavier_normal_(p)

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
        """Look up: (output, weights), the weights None without need_weights.

        query (L, n, embed_dim), key (S, n, kdim), value (S, n, vdim); n first with batch_first; or no n.
        key_padding_mask (n, S); attn_mask (L, S) or (n num_heads, L, S).  weights: (n, L, S), the mean over
        heads, or (n, num_heads, L, S) with average_attn_weights=False.  is_causal says that attn_mask is the
        causal one; without it, attn_mask must be given.  Raises ShapeError and DTypeError.
        """
        layer = "MultiheadAttention"
        batched = query.ndim == 3
        if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
            raise ShapeError(
                layer,
                f"query {query.shape}, key {key.shape}, value {value.shape}",
                fix="they must all have three dimensions, or two without a batch",
            )
        if is_causal and attn_mask is None:
            raise ArgumentError(
                layer, "is_causal without attn_mask", fix="pass the mask too: it is a hint about that mask"
            )
        same_kv, same = key is value, query is key and key is value
        if not batched:
            query, key, value = (unsqueeze(t, 0) for t in (query, key, value))
        elif not self.batch_first:
            query = transpose(query, 0, 1)
            key, value = (query, query) if same else (transpose(key, 0, 1), transpose(value, 0, 1))
        n, length, _ = query.shape
        places = key.shape[1]
        wanted = (self.embed_dim, self.kdim, self.vdim)
        if (query.shape[2], key.shape[2], value.shape[2]) != wanted:
            raise ShapeError(
                layer,
                f"sizes {(query.shape[2], key.shape[2], value.shape[2])} of query, key and value",
                fix=f"the last sizes must be {wanted}",
            )
        if key.shape[0] != n or value.shape[:2] != key.shape[:2]:
            raise ShapeError(
                layer,
                f"query {query.shape[:2]}, key {key.shape[:2]}, value {value.shape[:2]} in batch and length",
                fix="batches must be equal, and so must the lengths of key and value",
            )
        q, k, v = self._project(query, key, value, same or (same_kv and query is key))
        mask, extra = self._mask(attn_mask, key_padding_mask, n, length, places, q.dtype), 0
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (self._with_one_more(t, b) for t, b in ((k, self.bias_k), (v, self.bias_v)))
            extra += 1
        if self.add_zero_attn:
            k, v = (pad_dim(t, 2, 0, 1) for t in (k, v))
            extra += 1
        if mask is not None and extra:
            mask = pad_dim(mask, mask.ndim - 1, 0, extra)
        weights = attention_weights(q, k, mask)
        dropped = self._drop(weights) if self.dropout else weights
        y = _reshape(transpose(matmul(dropped, v), 1, 2), (n, length, self._size))
        y = self.out_proj(y)
        shown: Tensor | None = None
        if need_weights:
            shown = self._show(dropped, average_attn_weights)
            shown = shown if batched else shown.squeeze(0)
        if not batched:
            y = y.squeeze(0)
        elif not self.batch_first:
            y = transpose(y, 0, 1)
        return y, shown

    def _drop(self, weights: Tensor) -> Tensor:
        return F.dropout(weights, self.dropout, self.training)

    def _show(self, weights: Tensor, average: bool) -> Tensor:
        return weights.mean(1) if average else weights

    def _heads(self, x: Tensor) -> Tensor:
        """(n, length, size of all heads) as heads (n, num_heads, length, size), a view."""
        n, length, size = x.shape
        return transpose(_reshape(x, (n, length, self.num_heads, size // self.num_heads)), 1, 2)

    def _project(self, query: Tensor, key: Tensor, value: Tensor, same: bool) -> tuple[Tensor, ...]:
        """Query, key and value as heads (n, num_heads, length, size)."""
        w, b, size = self.in_proj_weight, self.in_proj_bias, self._size
        if same and w is not None:
            n, length, _ = query.shape
            y = _reshape(F.linear(query, w, b), (n, length, 3, self.num_heads, size // self.num_heads))
            return unbind(_permute(y, (2, 0, 3, 1, 4)), 0)
        if w is not None:
            ws: Any = w.split(size, 0)
        else:
            ws = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        bs: Any = (None, None, None) if b is None else b.split(size, 0)
        given = (query, key, value)
        return tuple(self._heads(F.linear(x, w, b)) for x, w, b in zip(given, ws, bs, strict=True))

    def _with_one_more(self, x: Tensor, one: Tensor) -> Tensor:
        n, heads, _, size = x.shape
        return cat([x, broadcast_to(_reshape(one, (1, heads, 1, size)), (n, heads, 1, size))], 2)

    def _mask(
        self, attn: Tensor | None, padding: Tensor | None, n: int, length: int, places: int, dtype: Any
    ) -> Tensor | None:
        """What is added to the scores, in a shape that broadcasts to (n, num_heads, length, places)."""
        layer = "MultiheadAttention"
        if attn is not None:
            shapes = ((length, places), (n * self.num_heads, length, places))
            if attn.shape not in shapes:
                raise ShapeError(
                    layer, f"an attn_mask of shape {attn.shape}", fix=f"it must be {shapes[0]} or {shapes[1]}"
                )
            if attn.ndim == 3:
                attn = _reshape(attn, (n, self.num_heads, length, places))
        if padding is not None:
            if padding.ndim == 1:
                padding = unsqueeze(padding, 0)
            if padding.shape != (n, places):
                raise ShapeError(
                    layer, f"a key_padding_mask of shape {padding.shape}", fix=f"it must be {(n, places)}"
                )
            padding = _reshape(padding, (n, 1, 1, places))
        for mask in (attn, padding):
            if mask is not None and mask.dtype.kind not in "bf":
                raise DTypeError(layer, f"a mask of dtype {mask.dtype}", fix="use bools or floats")
        if attn is None or padding is None:
            one = attn if padding is None else padding
            return None if one is None else _additive(one, dtype)
        if attn.dtype.kind == padding.dtype.kind == "b":
            return _additive(logical_or(attn, padding), dtype)
        return _additive(attn, dtype) + _additive(padding, dtype)

    def extra_repr(self) -> str:
        """Settings: none, as in torch."""
        return ""


def _additive(mask: Tensor, dtype: Any) -> Tensor:
    """A mask as numbers to add: -Inf where it is True."""
    if mask.dtype.kind == "b":
        return where(mask, Tensor(-math.inf, dtype), Tensor(0.0, dtype))
    return mask.to(dtype)


def _activation(layer: str, given: Any) -> Callable[[Tensor], Tensor]:
    if isinstance(given, str):
        if given not in ("relu", "gelu"):
            raise ArgumentError(layer, f"activation is {given!r}", fix="use 'relu', 'gelu' or a function")
        return F.relu if given == "relu" else F.gelu
    if not callable(given):
        raise ArgumentError(layer, f"activation is {given!r}", fix="use 'relu', 'gelu' or a function")
    function: Callable[[Tensor], Tensor] = given
    return function


class TransformerEncoderLayer(Module):
    """Self-attention and a two-layer network, with residuals and layer norms.

    norm_first: the norms before the two parts instead of after the residuals.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = factory("TransformerEncoderLayer", device, dtype)
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = _activation("TransformerEncoderLayer", activation)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The layer; src (length, n, d_model), n first with batch_first, or no n; masks as for attention."""
        masks = (src_mask, src_key_padding_mask, is_causal)
        if self.norm_first:
            x = src + self._attend(self.norm1(src), *masks)
            return x + self._feed(self.norm2(x))
        x = self.norm1(src + self._attend(src, *masks))
        y: Tensor = self.norm2(x + self._feed(x))
        return y

    def _attend(self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool) -> Tensor:
        y, _ = self.self_attn(
            x, x, x, key_padding_mask=padding, need_weights=False, attn_mask=mask, is_causal=is_causal
        )
        dropped: Tensor = self.dropout1(y)
        return dropped

    def _feed(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
        return y


class TransformerEncoder(Module):
    """num_layers copies of an encoder layer, one after the other, and a norm at the end if one is given.

    The copies start with the same weights, as in torch.  enable_nested_tensor and mask_check choose among
    torch's ways of computing the same result; here there is one.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        positive("TransformerEncoder", num_layers=num_layers)
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """All layers.  is_causal None or False: the mask says it; True: mask is the causal one."""
        x = src
        for layer in self.layers:
            x = layer(
                x,
                src_mask=mask,
                src_key_padding_mask=src_key_padding_mask,
                is_causal=bool(is_causal),
            )
        return x if self.norm is None else self.norm(x)


class TransformerDecoderLayer(Module):
    """Self-attention, attention to an encoder's output, and a two-layer network, with residuals and norms.

    norm_first: the norms before the three parts instead of after the residuals.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = factory("TransformerDecoderLayer", device, dtype)
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
        )
        self.multihead_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)
        self.activation = _activation("TransformerDecoderLayer", activation)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The layer; tgt (length, n, d_model), memory (places, n, d_model); n first if batch_first, or no n.

        tgt_ masks are for the attention of tgt to itself, memory_ masks for that to memory: as for attention.
        """
        own = (tgt_mask, tgt_key_padding_mask, tgt_is_causal)
        other = (memory_mask, memory_key_padding_mask, memory_is_causal)
        if self.norm_first:
            x = tgt + self._attend(self.norm1(tgt), *own)
            x = x + self._look_up(self.norm2(x), memory, *other)
            return x + self._feed(self.norm3(x))
        x = self.norm1(tgt + self._attend(tgt, *own))
        x = self.norm2(x + self._look_up(x, memory, *other))
        y: Tensor = self.norm3(x + self._feed(x))
        return y

    def _attend(self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool) -> Tensor:
        y, _ = self.self_attn(x, x, x, padding, False, mask, is_causal=is_causal)
        dropped: Tensor = self.dropout1(y)
        return dropped

    def _look_up(
        self, x: Tensor, memory: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool
    ) -> Tensor:
        y, _ = self.multihead_attn(x, memory, memory, padding, False, mask, is_causal=is_causal)
        dropped: Tensor = self.dropout2(y)
        return dropped

    def _feed(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout3(self.linear2(self.dropout(self.activation(self.linear1(x)))))
        return y


class TransformerDecoder(Module):
    """num_layers copies of a decoder layer, one after the other, and a norm at the end if one is given."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        positive("TransformerDecoder", num_layers=num_layers)
        self.layers = ModuleList([copy.deepcopy(decoder_layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """All layers, each given the same memory; arguments as for the layer."""
        x = tgt
        for layer in self.layers:
            x = layer(
                x,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
            )
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """Encoder and decoder, each with a norm at the end (Vaswani et al. 2017): sequences to sequences.

    custom_encoder, custom_decoder: modules to use instead of those that the settings describe.  Matrices
    start Xavier uniform.  Embeddings, positions and the last projection are the user's.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = factory("Transformer", device, dtype)
        settings: dict[str, Any] = {
            "d_model": d_model,
            "nhead": nhead,
            "dim_feedforward": dim_feedforward,
            "dropout": dropout,
            "activation": activation,
            "layer_norm_eps": layer_norm_eps,
            "batch_first": batch_first,
            "norm_first": norm_first,
            "bias": bias,
            "dtype": dtype,
        }

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        self.encoder: Module = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(**settings), num_encoder_layers, norm()
        )
        self.decoder: Module = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(**settings), num_decoder_layers, norm()
        )
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Draw all matrices anew, Xavier uniform."""
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoder's output for tgt (length, n, d_model), given the encoder's of src (places, n, d_model).

        n first with batch_first, or no n.  Masks and hints as for `TransformerEncoder` and
        `TransformerDecoder`.  Raises ShapeError for another d_model or batch.
        """
        sizes, at = (src.shape, tgt.shape), 0 if self.batch_first else 1
        unlike = src.ndim != tgt.ndim or src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model
        if unlike or (src.ndim == 3 and src.shape[at] != tgt.shape[at]):
            raise ShapeError(
                "Transformer",
                f"src {sizes[0]} and tgt {sizes[1]}",
                fix=f"both need the same batch, and last sizes of {self.d_model}",
            )
        memory = self.encoder(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        y: Tensor = self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )
        return y

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """The (sz, sz) mask to add to scores so that no place sees later ones: -Inf above the diagonal."""
        kind = factory("Transformer", device, dtype)
        rows = np.triu(np.full((sz, sz), -np.inf), 1)
        return Tensor(rows, default_float() if kind is None else kind)
