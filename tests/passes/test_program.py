"""Law 5: the program in C does what the interpreter does, for random programs and with any pass left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.backends import c
from minigrad.execute import interpret
from minigrad.ir import float32, float64
from minigrad.passes import PIPELINE, run
from minigrad.plan import verify

from .programs import Case, close, programs

pytestmark = pytest.mark.skipif(not c.available, reason="needs the compiled extension")


@given(programs(), st.sampled_from([float32, float64]), st.sampled_from([None, *PIPELINE]))
def test_programs_are_right(program, dtype, without):
    from minigrad.execute.program import Program

    case = Case(program, dtype)
    captured = case.captured()
    graph = run(captured.graph, [p for p in PIPELINE if p != without])
    made = Program(graph)
    verify(made.graph, made.plan)
    arrays, others = case.inputs(captured), case.inputs(captured)
    for _ in range(2):  # again, in the same arena
        wanted = interpret(graph)(*arrays)
        got = made(*others)
        for a, b in zip((*got, *others), (*wanted, *arrays), strict=True):
            assert a.dtype == b.dtype
            close(a, b, dtype)
        for a in got:
            a[...] = 7  # results are the caller's
