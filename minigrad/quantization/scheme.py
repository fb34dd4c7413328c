"""What a scale is: from a range of real numbers to eight bits, and what that costs.

    r = s (q - z)

*Affine* (activations): the range lo..hi, widened to contain 0, is laid on the codes 0..255; s = (hi - lo) /
255, z the code of 0, which is exact.  *Symmetric*: z is fixed (128 for uint8 activations, 0 for int8
weights), s = max(|lo|, |hi|) / 127.  Rounding errs by at most s / 2 inside of the range, uniformly if the
numbers are spread out, hence with variance s^2 / 12; outside of it the error is whatever was cut off.

    >>> scale_and_zero_point(-1.0, 3.0)
    (0.01568627543747425, 64)
    >>> codes, scale = quantize_weights(np.array([[1.0, -0.5], [0.01, 0.03]], np.float32))
    >>> codes
    array([[127, -64],
           [ 42, 127]], dtype=int8)

*Per channel*: each output has a scale of its own, as rows of one matrix differ by orders of magnitude
(Krishnamoorthi 2018, section 3.1); per tensor, the second row above would be [1, 4].

Reference: Jacob et al. 2018 (arXiv 1712.05877), section 2.1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError

#: Scales are at least this, so that their reciprocals are finite.
LEAST = float(np.finfo(np.float32).tiny)


def scale_and_zero_point(lo: float, hi: float, symmetric: bool = False) -> tuple[float, int]:
    """Scale and zero point of uint8 codes for real numbers from lo to hi.

    The range is widened to contain 0.  One of width zero (all activations were 0) has the scale 1.
    Raises ArgumentError if lo or hi is NaN or Inf, or lo > hi.
    """
    if not (math.isfinite(lo) and math.isfinite(hi)) or lo > hi:
        raise ArgumentError(
            "quantization",
            f"a range from {lo} to {hi}",
            fix="look for NaN or Inf in the model or the batches (autograd.detect_anomaly finds the first)",
        )
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if symmetric:
        scale = np.float32(max(-lo, hi) / 127)
        return (max(float(scale), LEAST), 128) if scale else (1.0, 128)
    scale = np.float32((hi - lo) / 255)
    if not scale:
        return 1.0, 0
    real = max(float(scale), LEAST)
    return real, int(min(np.rint(-lo / real), 255))


def quantize_weights(
    w: Any, per_channel: bool = True, scale: Any = None, search: bool = False
) -> tuple[Any, Any]:
    """int8 codes in -127..127 of weights (out, ...), and their float32 scales (out,).

    scale: use these (from training).  search: choose, for each channel, the scale of the least squared
    error among those that cut off up to half of the range.  Raises ArgumentError for NaN or Inf.
    """
    w = np.asarray(w)
    if not np.isfinite(w).all():
        raise ArgumentError("quantization", "weights with NaN or Inf", fix="train the model anew")
    flat = w.reshape(len(w), -1).astype(np.float64)
    if scale is None:
        top = np.abs(flat).max(axis=1, initial=0.0)
        if not per_channel:
            top = np.full(len(w), top.max(initial=0.0))
        scale = top / 127
        if search and flat.size:
            scale = _least_error(flat, scale, per_channel)
    scale = np.asarray(scale, np.float64)
    scale = np.where(scale > 0, np.maximum(scale, LEAST), 1.0).astype(np.float32)
    codes = np.clip(np.rint(flat / scale[:, None].astype(np.float64)), -127, 127)
    return codes.astype(np.int8).reshape(w.shape), scale


def _least_error(flat: Any, scale: Any, per_channel: bool) -> Any:
    best, least = scale, np.full(len(flat), np.inf)
    for part in np.linspace(1.0, 0.5, 26):
        s = np.where(scale > 0, scale * part, 1.0)[:, None]
        error = np.square(np.clip(np.rint(flat / s), -127, 127) * s - flat).sum(axis=1)
        if not per_channel:
            error = np.full(len(flat), error.sum())
        best = np.where(error < least, scale * part, best)
        least = np.minimum(error, least)
    return best


def sqnr(real: Any, quantized: Any) -> float:
    """Signal to quantization noise in decibels, 10 log10(sum of squares / sum of squared errors)."""
    real, quantized = np.asarray(real, np.float64), np.asarray(quantized, np.float64)
    noise = float(np.square(real - quantized).sum())
    signal = float(np.square(real).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


__all__ = ["quantize_weights", "scale_and_zero_point", "sqnr"]
