"""Whole families of functions beside numpy's, on arguments that hypothesis makes up."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import autograd

SHAPES = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)
WITH_EMPTY = st.lists(st.integers(0, 3), min_size=0, max_size=4).map(tuple)


def data(shape, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return (rng.permutation(int(np.prod(shape))).reshape(shape) + 0.5) / 7.0 - 1.0


@st.composite
def reductions(draw):
    shape = draw(WITH_EMPTY)
    dims = draw(
        st.none() | st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda d: d % len(shape))
        if shape
        else st.none()
    )
    return shape, tuple(dims) if dims else None, draw(st.booleans())


NUMPY = {
    "sum": np.sum,
    "prod": np.prod,
    "mean": np.mean,
    "amax": np.max,
    "amin": np.min,
    "any": lambda x, axis, keepdims: np.any(x > 0, axis=axis, keepdims=keepdims),
    "all": lambda x, axis, keepdims: np.all(x > 0, axis=axis, keepdims=keepdims),
    "var": lambda x, axis, keepdims: np.var(x, axis=axis, keepdims=keepdims, ddof=1),
    "logsumexp": lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)),
}


@given(reductions(), st.sampled_from(sorted(NUMPY)))
def test_reductions(arguments, name):
    shape, dims, keepdim = arguments
    x = data(shape)
    count = np.prod([shape[d] for d in (range(len(shape)) if dims is None else dims)])
    assume(count > 1 or name in ("sum", "prod", "any", "all"))
    with np.errstate(all="ignore"):
        wanted = NUMPY[name](x, axis=dims, keepdims=keepdim)
    function = getattr(mg, name)
    tensor = mg.tensor(x > 0) if name in ("any", "all") else mg.tensor(x)
    got = function(tensor, dims, keepdim=keepdim)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-12, atol=1e-13)
    if name not in ("any", "all"):
        same = function(tensor, list(dims) if dims else None, keepdim=keepdim)
        assert same.tolist() == got.tolist()
        assert autograd.gradcheck(
            lambda t: function(t, dims, keepdim=keepdim), [mg.tensor(x, requires_grad=True)]
        )


@given(SHAPES, st.data())
def test_movement(shape, draw):
    x = data(shape)
    t = mg.tensor(x)
    n = len(shape)
    order = draw.draw(st.permutations(range(n)))
    negative = tuple(d - n if draw.draw(st.booleans()) else d for d in order)
    np.testing.assert_array_equal(t.permute(negative).numpy(), x.transpose(order))
    dims = tuple(draw.draw(st.sets(st.integers(0, n - 1)))) if n else ()
    np.testing.assert_array_equal(t.flip(dims).numpy(), np.flip(x, dims))
    at = draw.draw(st.integers(-n - 1, n))
    np.testing.assert_array_equal(t.unsqueeze(at).numpy(), np.expand_dims(x, at))
    np.testing.assert_array_equal(t.unsqueeze(at).squeeze(at).numpy(), x)
    np.testing.assert_array_equal(t.flatten().numpy(), x.reshape(-1))
    lead = draw.draw(SHAPES)
    np.testing.assert_array_equal(t.expand(*lead, *shape).numpy(), np.broadcast_to(x, (*lead, *shape)))
    if n:
        a, b = draw.draw(st.integers(-n, n - 1)), draw.draw(st.integers(-n, n - 1))
        np.testing.assert_array_equal(t.transpose(a, b).numpy(), np.swapaxes(x, a, b))
        np.testing.assert_array_equal(t.movedim(a, b).numpy(), np.moveaxis(x, a, b))
        np.testing.assert_array_equal(mg.stack([t, t], a).numpy(), np.stack([x, x], a))
        np.testing.assert_array_equal(mg.cat([t, t, t], a).numpy(), np.concatenate([x, x, x], a))
        np.testing.assert_array_equal(t.cumsum(a).numpy(), np.cumsum(x, a))
        size = draw.draw(st.integers(1, 4))
        parts = t.split(size, a)
        assert all(p.shape[a] <= size for p in parts)
        np.testing.assert_array_equal(mg.cat(parts, a).numpy(), x)
        np.testing.assert_array_equal(mg.cat(t.chunk(size, a), a).numpy(), x)
        np.testing.assert_array_equal(mg.stack(t.unbind(a), a).numpy(), x)
        np.testing.assert_array_equal(t.argsort(a).numpy(), np.argsort(x, a, kind="stable"))
        np.testing.assert_array_equal(t.sort(a, descending=True).values.numpy(), np.flip(np.sort(x, a), a))
        np.testing.assert_array_equal(t.argmax(a).numpy(), np.argmax(x, a))
        np.testing.assert_array_equal(t.max(a).values.numpy(), np.max(x, a))


@st.composite
def equations(draw):
    """Einsum equations of one to three operands over few letters."""
    sizes = dict(zip("ijkl", draw(st.lists(st.integers(1, 3), min_size=4, max_size=4)), strict=True))
    terms = draw(st.lists(st.lists(st.sampled_from("ijkl"), min_size=1, max_size=3), min_size=1, max_size=3))
    letters = sorted({c for term in terms for c in term})
    output = draw(st.lists(st.sampled_from(letters), unique=True))
    equation = ",".join("".join(t) for t in terms)
    if draw(st.booleans()):
        equation += "->" + "".join(output)
    return equation, [tuple(sizes[c] for c in term) for term in terms]


@given(equations())
def test_einsum(arguments):
    equation, shapes = arguments
    operands = [data(shape, k) for k, shape in enumerate(shapes)]
    got = mg.einsum(equation, *(mg.tensor(x) for x in operands))
    wanted = np.einsum(equation, *operands)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-11, atol=1e-12)
    inputs = [mg.tensor(x, requires_grad=True) for x in operands]
    assert autograd.gradcheck(lambda *t: mg.einsum(equation, *t), inputs)


MATRIX = st.integers(0, 3)


@given(
    st.lists(st.integers(1, 2), max_size=2), st.lists(st.integers(1, 2), max_size=2), MATRIX, MATRIX, MATRIX
)
def test_matmul(left, right, n, k, m):
    try:
        np.broadcast_shapes(tuple(left), tuple(right))
    except ValueError:
        assume(False)
    for a, b in [
        ((*left, n, k), (*right, k, m)),
        ((k,), (*right, k, m)),
        ((*left, n, k), (k,)),
        ((k,), (k,)),
    ]:
        x, w = data(a), data(b, 1)
        got = mg.tensor(x) @ mg.tensor(w)
        np.testing.assert_allclose(got.numpy(), x @ w, rtol=1e-12, atol=1e-13)
        assert autograd.gradcheck(
            mg.matmul, [mg.tensor(x, requires_grad=True), mg.tensor(w, requires_grad=True)]
        )
