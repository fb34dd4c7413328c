"""Synthetic sets: small problems whose answer is known.

    >>> from minigrad.random import Generator
    >>> x, y = make_moons(100, noise=0.1, generator=Generator(0))
    >>> x.shape, x.dtype, y.shape
    ((100, 2), dtype('float32'), (100,))

All are (n, features) float32 arrays, and int64 labels or float32 targets, drawn from `generator` or the
default one, so `manual_seed` fixes them.  Names are those of `sklearn.datasets`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..ops.creation import randint, randn
from ..random import Generator
from .samplers import positive

Array = np.ndarray[Any, Any]


def _noisy(x: Array, noise: float, generator: Generator | None) -> Array:
    if noise < 0:
        raise ArgumentError("synthetic", f"noise is {noise!r}", fix="choose it at least 0")
    changed: Array = x + noise * randn(*x.shape, generator=generator)._array
    return changed.astype(np.float32)


def make_moons(
    n_samples: int = 100, noise: float = 0.0, generator: Generator | None = None
) -> tuple[Array, Array]:
    """Two interleaving half circles."""
    n = positive("make_moons", "n_samples", n_samples, 2)
    upper = np.linspace(0, np.pi, n - n // 2)
    lower = np.linspace(0, np.pi, n // 2)
    x = np.concatenate(
        [np.stack([np.cos(upper), np.sin(upper)], 1), np.stack([1 - np.cos(lower), 0.5 - np.sin(lower)], 1)]
    )
    return _noisy(x, noise, generator), np.repeat([0, 1], [len(upper), len(lower)])


def make_circles(
    n_samples: int = 100, noise: float = 0.0, factor: float = 0.5, generator: Generator | None = None
) -> tuple[Array, Array]:
    """A circle of radius `factor` in one of radius 1."""
    n = positive("make_circles", "n_samples", n_samples, 2)
    angles = [np.linspace(0, 2 * np.pi, count, endpoint=False) for count in (n - n // 2, n // 2)]
    x = np.concatenate(
        [r * np.stack([np.cos(a), np.sin(a)], 1) for r, a in zip((1.0, factor), angles, strict=True)]
    )
    return _noisy(x, noise, generator), np.repeat([0, 1], [len(a) for a in angles])


def make_blobs(
    n_samples: int = 100,
    n_features: int = 2,
    centers: int = 3,
    cluster_std: float = 1.0,
    spread: float = 5.0,
    generator: Generator | None = None,
) -> tuple[Array, Array]:
    """Normal clouds about random centres, which are `spread` times a standard normal."""
    n = positive("make_blobs", "n_samples", n_samples)
    k = positive("make_blobs", "centers", centers)
    middle = spread * randn(k, positive("make_blobs", "n_features", n_features), generator=generator)._array
    y: Array = randint(0, k, (n,), generator=generator)._array
    return _noisy(middle[y], cluster_std, generator), y


def make_spirals(
    n_samples: int = 300, classes: int = 3, noise: float = 0.05, generator: Generator | None = None
) -> tuple[Array, Array]:
    """Arms of a spiral, one a class."""
    n = positive("make_spirals", "n_samples", n_samples)
    k = positive("make_spirals", "classes", classes)
    y = np.arange(n) * k // n
    along = (np.arange(n) * k % n) / n
    angle = 4.0 * along + 2 * np.pi * y / k
    x = np.stack([along * np.sin(angle), along * np.cos(angle)], axis=1)
    return _noisy(x, noise, generator), y


def make_regression(
    n_samples: int = 100, n_features: int = 10, noise: float = 0.0, generator: Generator | None = None
) -> tuple[Array, Array, Array]:
    """x, y (n, 1) and the coefficients w (features, 1):  y = x w + noise."""
    n = positive("make_regression", "n_samples", n_samples)
    x: Array = randn(n, positive("make_regression", "n_features", n_features), generator=generator)._array
    w: Array = randn(n_features, 1, generator=generator)._array
    return x, _noisy(x @ w, noise, generator), w
