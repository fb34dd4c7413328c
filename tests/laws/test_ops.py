"""Every operation obeys every law."""

from __future__ import annotations

import pytest

import minigrad as mg
from laws import checks
from minigrad.ops import OPS, load

load()

RECORDS = list(OPS.values())


def _pairs(laws):
    return [
        pytest.param(law, op, id=f"{law.__name__}-{op.name}")
        for law, about in laws
        for op in RECORDS
        if about(op)
    ]


@pytest.mark.parametrize(("law", "op"), _pairs(checks.EVERY))
def test_law(law, op):
    law(op)


@pytest.mark.parametrize("backend", mg.backends())
@pytest.mark.parametrize(("law", "op"), _pairs(checks.EVERY_BACKEND))
def test_backend_law(law, op, backend):
    law(op, backend)


@pytest.mark.parametrize("dtype", checks.ALL_DTYPES, ids=str)
@pytest.mark.parametrize("op", RECORDS, ids=lambda op: op.name)
def test_shape_rule(op, dtype):
    checks.shape_rule_holds(op, dtype)
