"""The page of all operations says what the records say."""

from __future__ import annotations

import pytest

import minigrad as mg
from minigrad.ops import index

needs_all = pytest.mark.skipif(
    not {"c", "numba"} <= set(mg.backends()), reason="the page names kernels of C and Numba"
)


@needs_all
def test_the_page_is_what_the_records_say():
    assert index.PAGE.read_text() == index.text(), "run python -m minigrad.ops.index"


def test_derivatives_are_read_from_the_source():
    assert index.derivatives(index.OPS["mul"]) == "input: `g * other`<br>other: `g * input`"
    assert index.derivatives(index.OPS["eq"]) == "-"
    assert index.example(index.OPS["matmul"]) == "(3, 4), (4, 2), False, False → (3, 2)"
