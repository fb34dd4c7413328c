"""What kernel tests ask for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from minigrad.backends import c


@pytest.fixture(params=c.isas() or ("none",))
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs once with each table of instructions that this processor has."""
    before = c.isa()
    c.set_isa(request.param)
    yield request.param
    c.set_isa(before)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, for this test."""
    before = c.num_threads()
    yield c.set_num_threads
    c.set_num_threads(before)
