"""Linear maps of one and two inputs, and attention."""

from __future__ import annotations

import math

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...mode import current
from ...ops.contraction import matmul, matmul_transposed
from ...ops.elementwise import cast, clamp, where
from ...ops.movement import _reshape, broadcast_to, transpose, unsqueeze
from ...ops.nn import dropout, softmax
from ...ops.reduction import amax
from ...tensor import Tensor, wrap

__all__ = ["bilinear", "linear", "scaled_dot_product_attention"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias, over the last dimension: weight (out, in), bias (out).

    Raises ShapeError if the last size of the input is not `in`.
    """
    if weight.ndim not in (1, 2):
        raise ShapeError("linear", f"a weight of shape {weight.shape}", fix="it must be (out, in)")
    if not input.ndim or input.shape[-1] != weight.shape[-1]:
        raise ShapeError(
            "linear",
            f"an input of shape {input.shape} and a weight of shape {weight.shape} do not fit",
            fix=f"the last size of the input must be {weight.shape[-1]}, the last size of the weight",
        )
    if bias is not None and bias.shape not in (weight.shape[:-1], ()):
        raise ShapeError(
            "linear",
            f"a bias of shape {bias.shape} where {weight.shape[:-1]} is needed",
            fix="make one bias an output",
        )
    if weight.ndim == 1:
        y = matmul(input, weight)
    elif input.ndim <= 2:
        y = matmul_transposed(input if input.ndim == 2 else unsqueeze(input, 0), weight)
        if input.ndim == 1:
            y = _reshape(y, weight.shape[:1])
    else:  # one large product instead of many small ones, also for the gradient of the weight
        flat = _reshape(input, (math.prod(input.shape[:-1]), input.shape[-1]))
        y = matmul_transposed(flat, weight)
        if bias is not None:  # before the reshape: then it is part of the product in a captured program
            y = y + bias
        return _reshape(y, (*input.shape[:-1], weight.shape[0]))
    if bias is not None:
        y = y + bias
    return y


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_k = input1 W_k input2 + bias_k: inputs (..., in1) and (..., in2), weight (out, in1, in2), bias (out).

    Raises ShapeError unless the inputs have the same leading sizes and end in those of the weight.
    """
    if (
        weight.ndim != 3
        or not input1.ndim
        or not input2.ndim
        or input1.shape[:-1] != input2.shape[:-1]
        or (input1.shape[-1], input2.shape[-1]) != weight.shape[1:]
    ):
        raise ShapeError(
            "bilinear",
            f"inputs of shapes {input1.shape} and {input2.shape} and a weight of shape {weight.shape}",
            fix="they must be (..., in1), (..., in2) and (out, in1, in2)",
        )
    out, one, two = weight.shape
    batch = math.prod(input1.shape[:-1])
    a = matmul(_reshape(input1, (batch, one)), _reshape(transpose(weight, 0, 1), (one, out * two)))
    y = matmul(_reshape(a, (batch, out, two)), _reshape(input2, (batch, two, 1)))
    y = _reshape(y, (*input1.shape[:-1], out))
    if bias is not None:
        if bias.shape != (out,):
            raise ShapeError(
                "bilinear", f"a bias of shape {bias.shape} for {out} outputs", fix="give one each"
            )
        y = y + bias
    return y


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value, scale being 1 / sqrt(size) (Vaswani et al. 2017).

    query (..., L, E), key (..., S, E), value (..., S, F).  attn_mask: True where a query may look, or
    numbers to add; is_causal: only at earlier places.  A query that may look nowhere gives zeros.
    enable_gqa: fewer heads of key and value (dimension -3), each shared by several of the query.
    """
    op = "scaled_dot_product_attention"
    if min(query.ndim, key.ndim, value.ndim) < 2 or query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            op,
            f"query {query.shape}, key {key.shape} and value {value.shape} do not fit",
            fix="they are (..., length, size), with one size for query and key",
        )
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(op, f"{key.shape[-2]} keys and {value.shape[-2]} values", fix="give one value a key")
    if is_causal and attn_mask is not None:
        raise ArgumentError(op, "both attn_mask and is_causal are given", fix="pass one of them")
    if enable_gqa:
        key, value = _shared_heads(op, key, query), _shared_heads(op, value, query)
    weights = attention_weights(query, key, attn_mask, is_causal, scale)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return matmul(weights, value)


def attention_weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query @ key.T * scale + mask), of shape (..., L, S); the arguments are those of the attention.

    The scale goes to the smaller of the two factors, and a mask is added before the softmax, at its own
    (usually smaller) shape: nothing of the size of the scores is made beyond these.
    """
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    length, places = query.shape[-2], key.shape[-2]
    if query.shape[-1] <= places:
        scores = matmul_transposed(query * scale, key)
    else:
        scores = matmul_transposed(query, key) * scale
    if is_causal:
        allowed = np.tri(length, places, dtype=bool)
        return softmax(scores + wrap(np.where(allowed, 0.0, -np.inf).astype(scores.dtype)), -1)
    if attn_mask is None:
        return softmax(scores, -1)
    low = -0.5 * float(np.finfo(scores.dtype).max)  # and not -Inf, for the sake of rows without any place
    if attn_mask.dtype.kind == "b":
        bias = where(attn_mask, Tensor(0.0, scores.dtype), Tensor(low, scores.dtype))
    else:
        bias = clamp(cast(attn_mask, scores.dtype), min=low)
    weights = softmax(scores + bias, -1)
    if (
        current().trace is None
        and bias._array.max(-1, initial=0.0 if not places else low).min(initial=0.0) > low
    ):
        return weights
    return where(amax(bias, -1, True) > low, weights, 0.0) if places else weights


def _shared_heads(op: str, x: Tensor, query: Tensor) -> Tensor:
    """Each head of key or value repeated for the heads of the query that share it."""
    if x.ndim < 3 or query.ndim < 3 or not x.shape[-3] or query.shape[-3] % x.shape[-3]:
        raise ShapeError(
            op,
            f"the heads of shape {query.shape} are no multiple of those of {x.shape}",
            fix="choose numbers of heads that divide",
        )
    *batch, heads, length, size = x.shape
    times = query.shape[-3] // heads
    y = broadcast_to(unsqueeze(x, -3), (*batch, heads, times, length, size))
    return _reshape(y, (*batch, heads * times, length, size))
