"""Instructions for arithmetic in eight bits: what `ops/quantized.py` defines, one kernel each.

The weights of products lie in panels already, as data, so nothing is packed here or at a call.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import quantized as _quantized
from ..backends.tile import Unsupported
from ..ir import Node
from .lower import Assembler, rule
from .places import Place

_HEADER = 8  # bytes of a row of `quantize_rows` before its codes


def _dense(asm: Assembler, node: Node, value: int) -> list[Place]:
    """Inputs and output, row by row, floats in float32."""
    places = [*[asm.dense(v) for v in node.inputs], asm.place(value)]
    if any(p.dtype.kind == "f" and p.dtype != np.float32 for p in places):
        raise Unsupported("float64")
    return places


def _made(asm: Assembler, descriptor: Any) -> Any:
    asm.keep.append(descriptor)
    return descriptor


@rule("quantize", "dequantize")
def _quantize(asm: Assembler, node: Node, value: int) -> None:
    x, y = _dense(asm, node, value)
    scale, zero_point = node.attrs
    factor = _quantized.reciprocal(scale) if node.op.name == "quantize" else scale
    asm.add(node.op.name, x, y, which=zero_point, n=(y.size,), k=factor)


@rule("quantize_rows")
def _quantize_rows(asm: Assembler, node: Node, value: int) -> None:
    x, y = _dense(asm, node, value)
    asm.add("quantize_rows", x, y, n=(math.prod(x.shape[:-1]), x.shape[-1]))


@rule("quantized_linear", "quantized_linear_float", "quantized_rows_linear")
def _linear(asm: Assembler, node: Node, value: int) -> None:
    places = _dense(asm, node, value)
    x, y = places[0], places[-1]
    header = _HEADER if node.op.name == "quantized_rows_linear" else 0
    lo, hi = node.attrs[-2:]
    zero_point = 0 if header else node.attrs[0]
    out_zero_point = node.attrs[1] if node.op.name == "quantized_linear" else None
    rows, n, k = math.prod(x.shape[:-1]), y.shape[-1], x.shape[-1] - header
    g = _quantized.product(rows, n, k, zero_point, out_zero_point, lo, hi, header)
    asm.add("quantized_gemm", *places, attributes=_made(asm, g))


@rule("quantized_conv2d", "quantized_conv2d_float")
def _conv(asm: Assembler, node: Node, value: int) -> None:
    places = _dense(asm, node, value)
    then = node.attrs[6:] if node.op.name == "quantized_conv2d" else (None, *node.attrs[6:])
    c = _quantized.convolution(places[0].shape, places[-1].shape, *node.attrs[:6], then=then)
    asm.add("quantized_conv", *places, attributes=_made(asm, c))


@rule("quantized_add")
def _add(asm: Assembler, node: Node, value: int) -> None:
    places = _dense(asm, node, value)
    q = _made(asm, _quantized.added(*node.attrs))
    asm.add("quantized_add", *places, attributes=q, n=(places[-1].size,))


@rule("quantized_lookup")
def _lookup(asm: Assembler, node: Node, value: int) -> None:
    places = _dense(asm, node, value)
    asm.add("quantized_lookup", *places, n=(places[-1].size,))


@rule("quantized_max_pool2d")
def _max_pool(asm: Assembler, node: Node, value: int) -> None:
    x, y = _dense(asm, node, value)
    p = _quantized.pooling(x.shape, y.shape, *node.attrs[:4])
    asm.add("quantized_max_pool", x, y, attributes=_made(asm, p))


@rule("quantized_avg_pool2d")
def _avg_pool(asm: Assembler, node: Node, value: int) -> None:
    x, y = _dense(asm, node, value)
    kernel, stride, padding, _, *rest = node.attrs
    p = _quantized.pooling(x.shape, y.shape, kernel, stride, padding, (1, 1), *rest)
    asm.add("quantized_avg_pool", x, y, attributes=_made(asm, p))


@rule("quantized_embedding")
def _embedding(asm: Assembler, node: Node, value: int) -> None:
    index, weight, scale, y = _dense(asm, node, value)
    if index.dtype != np.int64:
        raise Unsupported("indices of another type")
    asm.add("quantized_embedding", index, weight, scale, y, n=(index.size, *weight.shape))


@rule("weight_only_linear")
def _weight_only(asm: Assembler, node: Node, value: int) -> None:
    places = _dense(asm, node, value)
    g = asm.new("struct mg_weight_only *")
    g.m, g.n, g.k = math.prod(places[0].shape[:-1]), *places[1].shape
    asm.add("weight_only", *places, attributes=g)
