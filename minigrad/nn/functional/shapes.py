"""Padding, resampling, windows, pooling to a size, norms and distances: composed of existing operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...bind import floating, promoted
from ...errors import ArgumentError, ShapeError
from ...ir import broadcast_shapes
from ...ops.contraction import matmul, matmul_transposed
from ...ops.convolution import _averages, _batched, _pair, _single, _unbatched, conv2d
from ...ops.creation import ones, zeros
from ...ops.elementwise import abs as abs_
from ...ops.elementwise import cast, clamp, pow, sqrt, square, where
from ...ops.indexing import _index_select, gather, index_add
from ...ops.movement import _permute, _reshape, broadcast_to, pad_dim, slice_dim, squeeze, unsqueeze
from ...ops.reduction import amax
from ...ops.reduction import sum as sum_
from ...tensor import Tensor, wrap


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements added (or, if negative, removed) before and after dimensions, the last one first.

    pad: (left, right, top, bottom, ...).  mode: "constant" (of `value`, 0 by default), "reflect",
    "replicate" or "circular".  Raises ArgumentError for another mode or an odd number of sizes.
    """
    sizes = tuple(int(p) for p in pad)
    if len(sizes) % 2 or len(sizes) > 2 * input.ndim:
        raise ArgumentError(
            "pad",
            f"{len(sizes)} sizes for an input of shape {input.shape}",
            fix="give two for each dimension",
        )
    modes = {"constant": "", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode not in modes:
        raise ArgumentError("pad", f"mode is {mode!r}", fix=f"use one of {', '.join(modes)}")
    pairs = [(input.ndim - 1 - i // 2, sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)]
    for dim, before, after in pairs:
        if input.shape[dim] + min(before, 0) + min(after, 0) < 0:
            raise ArgumentError(
                "pad",
                f"sizes {(before, after)} remove more than dim {dim} of {input.shape} has",
                fix="remove less",
            )
    if mode != "constant":
        return _pad_by_index(input, pairs, mode, modes[mode])
    for dim, before, after in pairs:
        if before < 0 or after < 0:
            input = slice_dim(input, dim, max(-before, 0), input.shape[dim] - max(-after, 0))
    y = _pad_zeros(input, pairs)
    if not value:
        return y
    return where(cast(_pad_zeros(ones(input.shape), pairs), "bool"), y, Tensor(value, input.dtype))


def _pad_zeros(x: Tensor, pairs: list[tuple[int, int, int]]) -> Tensor:
    for dim, before, after in pairs:
        if before > 0 or after > 0:
            x = pad_dim(x, dim, max(before, 0), max(after, 0))
    return x


def _pad_by_index(x: Tensor, pairs: list[tuple[int, int, int]], mode: str, numpy_mode: Any) -> Tensor:
    """Padding by copies: the same look-up along each dimension."""
    for dim, before, after in pairs:
        size = x.shape[dim]
        limit = size - 1 if mode == "reflect" else size
        if size == 0 or (mode != "replicate" and max(before, after) > limit):
            raise ArgumentError(
                "pad",
                f"{mode} padding {(before, after)} of a size of {size}",
                fix=f"use at most {max(limit, 0)}",
            )
        places = np.pad(np.arange(size), (max(before, 0), max(after, 0)), numpy_mode)
        places = places[max(-before, 0) : len(places) - max(-after, 0)]
        x = _index_select(x, wrap(places.astype(np.int64)), dim)
    return x


def _limited_norm(x: Tensor, p: float, dim: Any, eps: float) -> Tensor:
    """max(eps, the p-norm over dim), with a gradient of 0 where the limit counts: also at zero."""
    if p == 2.0:
        return sqrt(clamp(sum_(square(x), dim, True), min=eps * eps))
    if p == 1.0:
        return clamp(sum_(abs_(x), dim, True), min=eps)
    if p == math.inf:
        return clamp(amax(abs_(x), dim, True), min=eps)
    if p <= 0.0:
        raise ArgumentError("normalize", f"p is {p}", fix="pass a positive number")
    least = max(eps**p, float(np.finfo(x.dtype).tiny))
    return clamp(pow(clamp(sum_(pow(abs_(x), p), dim, True), min=least), 1.0 / p), min=eps)


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    """The input divided by its p-norm along `dim`, or by eps where that is larger."""
    x = floating(input)
    y: Tensor = x / _limited_norm(x, float(p), dim, eps)
    return y


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along `dim`; norms count as at least eps."""
    a, b = (floating(x) for x in promoted("cosine_similarity", x1, x2))
    try:
        shape = broadcast_shapes(a.shape, b.shape)
    except ValueError as error:
        raise ShapeError(
            "cosine_similarity",
            f"shapes {a.shape} and {b.shape} do not broadcast: {error}",
            fix="make the sizes equal or 1",
        ) from None
    a, b = broadcast_to(a, shape), broadcast_to(b, shape)
    norms = _limited_norm(a, 2.0, dim, eps) * _limited_norm(b, 2.0, dim, eps)
    y: Tensor = sum_(a * b, dim) / squeeze(norms, dim)
    return y


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last dimension.

    The eps, added to each element as in torch, keeps the gradient finite where the two are equal.
    """
    a, b = (floating(x) for x in promoted("pairwise_distance", x1, x2))
    d = a - b + eps
    if p == 2.0:
        return sqrt(sum_(square(d), -1, keepdim))
    if p == 1.0:
        return sum_(abs_(d), -1, keepdim)
    if p == math.inf:
        return amax(abs_(d), -1, keepdim)
    if p <= 0.0:
        raise ArgumentError("pairwise_distance", f"p is {p}", fix="pass a positive number")
    return pow(sum_(pow(abs_(d), p), -1, keepdim), 1.0 / p)


# -- resampling ------------------------------------------------------------------------------------

_DIMS = {"linear": (3,), "bilinear": (4,), "bicubic": (4,), "trilinear": (5,)}


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """The input (n, channels, ...) resampled to `size`, or to its size times `scale_factor`.

    mode: "nearest" (as torch's: the left neighbour), "nearest-exact", "linear", "bilinear", "trilinear",
    "bicubic" (Keys 1981, a = -0.75), or "area" (adaptive average pooling).  Every mode is a product of
    one small matrix a dimension, so a look-up and a contraction are all it takes, forward and backward.

    align_corners: whether the first and last elements stay where they are; only for the interpolating
    modes.  antialias: the kernel widened to the step when the result is smaller, for "bilinear" and
    "bicubic".  Raises ArgumentError for settings that do not go together, ShapeError for sizes that do not.
    """
    op = "interpolate"
    known = ("nearest", "nearest-exact", "area", *_DIMS)
    if mode not in known:
        raise ArgumentError(op, f"mode is {mode!r}", fix=f"use one of {', '.join(known)}")
    x = floating(input)
    space = x.shape[2:]
    if x.ndim not in _DIMS.get(mode, (3, 4, 5)):
        wanted = " or ".join(map(str, _DIMS.get(mode, (3, 4, 5))))
        raise ShapeError(
            op,
            f"mode {mode!r} of an input of shape {input.shape}",
            fix=f"it must have {wanted} dimensions, (batch, channels, ...)",
        )
    if align_corners is not None and mode not in _DIMS:
        raise ArgumentError(
            op, f"align_corners with mode {mode!r}", fix="leave it out: nothing is interpolated"
        )
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ArgumentError(op, f"antialias with mode {mode!r}", fix="use 'bilinear' or 'bicubic'")
    if (size is None) == (scale_factor is None):
        raise ArgumentError(op, "size or scale_factor", fix="pass exactly one of them")
    scales: list[float | None] = [None] * len(space)
    if size is not None:
        if recompute_scale_factor:
            raise ArgumentError(op, "recompute_scale_factor without scale_factor", fix="leave it out")
        sizes = [int(s) for s in _each_dim(size, len(space))]
    else:
        factors = [float(f) for f in _each_dim(scale_factor, len(space))]
        sizes = [math.floor(n * f) for n, f in zip(space, factors, strict=False)]
        if not recompute_scale_factor:
            scales = list(factors)
        if len(factors) != len(space):
            sizes = []
    if len(sizes) != len(space) or min(sizes) < 1 or min(space) < 1:
        raise ShapeError(
            op,
            f"an input of shape {input.shape} to sizes {tuple(sizes)}",
            fix=f"give {len(space)} sizes of at least 1",
        )
    for i, (n, m, s) in enumerate(zip(space, sizes, scales, strict=True)):
        dim = i + 2
        if mode in ("nearest", "nearest-exact"):
            step, half = n / m if s is None else 1.0 / s, 0.5 if mode == "nearest-exact" else 0.0
            # float32, as in torch: the place where a factor such as 1/3 rounds to decides
            places = np.floor((np.arange(m, dtype=np.float32) + np.float32(half)) * np.float32(step))
            index = np.minimum(places.astype(np.int64), n - 1)
            if n != m or not np.array_equal(index, np.arange(n)):
                x = _index_select(x, wrap(index), dim)
            continue
        if mode == "area":
            matrix = _averages(n, m, x).numpy().T
        else:
            matrix = _interpolation(n, m, s, mode == "bicubic", bool(align_corners), antialias)
        if n != m or not np.array_equal(matrix, np.eye(n)):
            x = _along(x, matrix, dim)
    return x


def _each_dim(value: Any, count: int) -> Sequence[Any]:
    return value if isinstance(value, (tuple, list)) else [value] * count


def _along(x: Tensor, matrix: Any, dim: int) -> Tensor:
    """The (m, n) matrix applied to dimension `dim`, of size n."""
    weight = wrap(np.ascontiguousarray(matrix, x.dtype))
    if dim == x.ndim - 1:
        return matmul_transposed(x, weight)
    shape = x.shape
    y = matmul(weight, _reshape(x, (*shape[:dim], shape[dim], math.prod(shape[dim + 1 :]))))
    return _reshape(y, (*shape[:dim], weight.shape[0], *shape[dim + 1 :]))


def _keys(d: Any, a: float) -> Any:
    """The cubic convolution kernel at distance d (Keys 1981, eq. 4)."""
    d = np.abs(d)
    near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    far = ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    return np.where(d <= 1.0, near, np.where(d < 2.0, far, 0.0))


def _interpolation(n: int, m: int, scale: float | None, cubic: bool, aligned: bool, antialias: bool) -> Any:
    """The (m, n) matrix whose rows hold the weights of the elements around each place."""
    at = np.arange(m, dtype=np.float64)
    matrix = np.zeros((m, n))
    if aligned:
        step = (n - 1) / (m - 1) if m > 1 else 0.0
        places = at * step
    else:
        step = n / m if scale is None else 1.0 / scale
        places = (at + 0.5) * step - 0.5
    if antialias:
        wide = max(step, 1.0)
        radius = (2.0 if cubic else 1.0) * wide
        for i in range(m):
            centre = step * (i + 0.5)  # with align_corners too, as in torch
            low, high = max(int(centre - radius + 0.5), 0), min(int(centre + radius + 0.5), n)
            d = (np.arange(low, high) - centre + 0.5) / wide
            w = _keys(d, -0.5) if cubic else np.maximum(1.0 - np.abs(d), 0.0)
            matrix[i, low:high] = w / w.sum()
        return matrix
    if not cubic:
        places = np.maximum(places, 0.0)
    first = np.floor(places).astype(np.int64)
    t = places - first
    rows = np.arange(m)
    for k in range(-1, 3) if cubic else range(2):
        weights = _keys(t - k, -0.75) if cubic else (1.0 - t if k == 0 else t)
        np.add.at(matrix, (rows, np.clip(first + k, 0, n - 1)), weights)
    return matrix


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate` under its old name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., c r r, h, w) to (..., c, h r, w r): channels become pixels (arXiv 1609.05158)."""
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise ShapeError(
            "pixel_shuffle",
            f"an input of shape {input.shape} with upscale_factor {r}",
            fix="the channels, dimension -3, must be divisible by its square",
        )
    *batch, c, h, w = input.shape
    b = len(batch)
    y = _reshape(input, (*batch, c // (r * r), r, r, h, w))
    y = _permute(y, (*range(b), b, b + 3, b + 1, b + 4, b + 2))
    return _reshape(y, (*batch, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., c, h r, w r) to (..., c r r, h, w): the inverse of `pixel_shuffle`."""
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-1] % r or input.shape[-2] % r:
        raise ShapeError(
            "pixel_unshuffle",
            f"an input of shape {input.shape} with downscale_factor {r}",
            fix="height and width must be divisible by it",
        )
    *batch, c, h, w = input.shape
    b = len(batch)
    y = _reshape(input, (*batch, c, h // r, r, w // r, r))
    y = _permute(y, (*range(b), b, b + 2, b + 4, b + 1, b + 3))
    return _reshape(y, (*batch, c * r * r, h // r, w // r))


# -- windows ---------------------------------------------------------------------------------------


def _window_index(op: str, size: int, kernel: int, stride: int, padding: int, dilation: int) -> Any:
    """Positions (kernel, places) of a padded dimension that each window covers."""
    places = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if places < 1:
        raise ShapeError(
            op, f"a window of {kernel} does not fit into a size of {size}", fix="use a smaller one"
        )
    return np.arange(kernel)[:, None] * dilation + np.arange(places)[None, :] * stride


def _four_pairs(op: str, **values: Any) -> list[tuple[int, int]]:
    return [_pair(op, name, v, 0 if name == "padding" else 1) for name, v in values.items()]


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The patches of images (n, c, h, w) as columns: (n, c kh kw, places); without the batch too.

    Raises ShapeError if the window does not fit.
    """
    op = "unfold"
    x, batched = _batched(op, input, 4)
    k, d, p, s = _four_pairs(op, kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)
    rows = _window_index(op, x.shape[2], k[0], s[0], p[0], d[0])
    columns = _window_index(op, x.shape[3], k[1], s[1], p[1], d[1])
    n, c = x.shape[:2]
    x = _pad_zeros(x, [(2, p[0], p[0]), (3, p[1], p[1])])
    y = _index_select(_index_select(x, wrap(rows.reshape(-1)), 2), wrap(columns.reshape(-1)), 3)
    y = _permute(_reshape(y, (n, c, *rows.shape, *columns.shape)), (0, 1, 2, 4, 3, 5))
    y = _reshape(y, (n, c * k[0] * k[1], rows.shape[1] * columns.shape[1]))
    return _unbatched(y, batched)


def fold(
    input: Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Columns (n, c kh kw, places) added up into images (n, c, h, w): the transpose of `unfold`."""
    op = "fold"
    x, batched = _batched(op, input, 3)
    size = _pair(op, "output_size", output_size, 1)
    k, d, p, s = _four_pairs(op, kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)
    rows = _window_index(op, size[0], k[0], s[0], p[0], d[0])
    columns = _window_index(op, size[1], k[1], s[1], p[1], d[1])
    oh, ow = rows.shape[1], columns.shape[1]
    if x.shape[1] % (k[0] * k[1]) or x.shape[2] != oh * ow:
        raise ShapeError(
            op,
            f"columns of shape {input.shape} for an image of {size[0]}x{size[1]}",
            fix=f"they must be (batch, channels * {k[0] * k[1]}, {oh * ow})",
        )
    n, c = x.shape[0], x.shape[1] // (k[0] * k[1])
    y = _permute(_reshape(x, (n, c, k[0], k[1], oh, ow)), (0, 1, 2, 4, 3, 5))
    y = _reshape(y, (n, c, k[0] * oh, k[1] * ow))
    h, w = size[0] + 2 * p[0], size[1] + 2 * p[1]
    for dim, extent, index in ((2, h, rows), (3, w, columns)):
        shape = list(y.shape)
        shape[dim] = extent
        y = index_add(zeros(*shape, dtype=y.dtype), dim, wrap(index.reshape(-1)), y)
    y = slice_dim(slice_dim(y, 2, p[0], p[0] + size[0]), 3, p[1], p[1] + size[1])
    return _unbatched(y, batched)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation in three dimensions: input (n, c, depth, h, w), weight (out, c / groups, kd, kh, kw).

    The slices under a kernel's depth are laid side by side as channels, and `conv2d` does the rest.
    padding: integers, 'valid' or 'same'.  Raises ShapeError if channels disagree or the kernel does not fit.
    """
    op = "conv3d"
    x, batched = _batched(op, input, 5)
    if weight.ndim != 5 or x.shape[1] != weight.shape[1] * groups:
        raise ShapeError(
            op,
            f"an input of shape {input.shape} and a weight of shape {weight.shape} in {groups} groups",
            fix="the weight must be (out, channels / groups, kd, kh, kw)",
        )
    s, d = _triple(op, "stride", stride, 1), _triple(op, "dilation", dilation, 1)
    kernel = weight.shape[2:]
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise ArgumentError(op, f"padding is {padding!r}", fix="use 'valid', 'same' or integers")
        if padding == "same" and s != (1, 1, 1):
            raise ArgumentError(op, "padding 'same' with a stride", fix="pass the padding as integers")
        total = [dil * (k - 1) if padding == "same" else 0 for dil, k in zip(d, kernel, strict=True)]
        borders = [(t // 2, t - t // 2) for t in total]
    else:
        borders = [(p, p) for p in _triple(op, "padding", padding, 0)]
    x = _pad_zeros(x, [(i + 2, *b) for i, b in enumerate(borders)])
    depth = _window_index(op, x.shape[2], kernel[0], s[0], 0, d[0])  # (kd, places)
    n, c, _, h, w = x.shape
    places = depth.shape[1]
    y = _reshape(_index_select(x, wrap(depth.reshape(-1)), 2), (n, c, kernel[0], places, h, w))
    y = _reshape(_permute(y, (0, 3, 1, 2, 4, 5)), (n * places, c * kernel[0], h, w))
    flat = _reshape(weight, (weight.shape[0], weight.shape[1] * kernel[0], *kernel[1:]))
    y = conv2d(y, flat, bias, s[1:], 0, d[1:], groups)
    y = _permute(_reshape(y, (n, places, *y.shape[1:])), (0, 2, 1, 3, 4))
    return _unbatched(y, batched)


def _triple(op: str, name: str, value: Any, least: int) -> tuple[int, int, int]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * 3
    if len(values) != 3 or any(
        isinstance(v, bool) or not hasattr(v, "__index__") or v < least for v in values
    ):
        raise ArgumentError(op, f"{name} is {value!r}", fix=f"pass an integer of at least {least}, or three")
    return int(values[0]), int(values[1]), int(values[2])


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of as many windows of about equal size as are wanted: n, (n, m) or (n, None).

    With return_indices a pair (values, positions in the flattened image).
    """
    op = "adaptive_max_pool2d"
    x, batched = _batched(op, input, 4)
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    sizes = tuple(n if wanted is None else wanted for wanted, n in zip(sizes, x.shape[2:], strict=True))
    oh, ow = _pair(op, "output_size", sizes, 1)
    n, c, h, w = x.shape
    if min(h, w) < 1:
        raise ShapeError(op, f"an image of shape {x.shape}", fix="it must not be empty")
    rows, columns = _adaptive_windows(h, oh), _adaptive_windows(w, ow)  # (out, longest window)
    y = _index_select(_index_select(x, wrap(rows.reshape(-1)), 2), wrap(columns.reshape(-1)), 3)
    y = _permute(_reshape(y, (n, c, *rows.shape, *columns.shape)), (0, 1, 2, 4, 3, 5))
    y = _reshape(y, (n, c, oh, ow, rows.shape[1] * columns.shape[1]))
    best = unsqueeze(y.argmax(-1), -1)
    values = squeeze(gather(y, 4, best), -1)
    if not return_indices:
        return _unbatched(values, batched)
    at = rows[:, None, :, None] * w + columns[None, :, None, :]
    where_ = broadcast_to(wrap(at.reshape(oh, ow, -1)), y.shape)
    return _unbatched(values, batched), _unbatched(squeeze(gather(where_, 4, best), -1), batched)


def _adaptive_windows(size: int, out: int) -> Any:
    """Positions (out, longest) that each window covers, the last one repeated in shorter windows."""
    starts = np.arange(out) * size // out
    stops = -(-(np.arange(out) + 1) * size // out)
    longest = int((stops - starts).max())
    return np.minimum(starts[:, None] + np.arange(longest)[None, :], stops[:, None] - 1)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """`adaptive_max_pool2d` in one dimension."""
    x, batched = _batched("adaptive_max_pool1d", input, 3)
    result = adaptive_max_pool2d(
        unsqueeze(x, 2), (1, _single("adaptive_max_pool1d", "output_size", output_size)), return_indices
    )
    if return_indices:
        return tuple(_unbatched(squeeze(t, 2), batched) for t in result)
    return _unbatched(squeeze(result, 2), batched)


__all__ = [
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "conv3d",
    "cosine_similarity",
    "fold",
    "interpolate",
    "normalize",
    "pad",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "unfold",
    "upsample",
]
