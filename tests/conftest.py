"""What the whole suite shares: one hypothesis profile, one seed, no leaking state."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import minigrad as mg
from minigrad.mode import current

# A fixed profile: no deadline (a shared machine stalls), and in CI the same examples every time.
settings.register_profile(
    "minigrad",
    deadline=None,
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "60")),
    derandomize=bool(os.environ.get("CI")) or "HYPOTHESIS_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    database=None,
)
settings.load_profile("minigrad")


@pytest.fixture(autouse=True)
def _same_start():
    """Every test starts from the same random numbers and must leave the switches as it found them."""
    mg.manual_seed(0)
    before = current()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        yield
    assert current() is before, "a test left a mode (no_grad, backend, trace) switched on"


@pytest.fixture
def rng():
    """A numpy generator with a fixed seed."""
    return np.random.default_rng(0)
