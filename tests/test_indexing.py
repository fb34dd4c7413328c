"""Reading and writing parts: every index that numpy takes, with numpy's values and right gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import autograd
from minigrad.errors import DTypeError, OutOfRangeError, ShapeError
from minigrad.execute import interpret
from minigrad.trace import trace

SHAPE = (3, 4, 2)


def integers(size):
    return st.integers(-size, size - 1)


def slices(size):
    bound = st.none() | st.integers(-size - 1, size + 1)
    return st.builds(slice, bound, bound, st.none() | st.sampled_from([1, 2, 3, -1, -2]))


@st.composite
def indices(draw, arrays=True):
    """An index as people write it: for some leading dimensions, with None and Ellipsis strewn in."""
    parts, dim = [], 0
    common = draw(st.sampled_from([(2,), (3,), (2, 2), (1,), ()])) if arrays else ()
    ellipsis = draw(st.booleans())
    dims = draw(st.integers(0, len(SHAPE)))
    while dim < dims:
        kinds = ["integer", "slice", "none"]
        if arrays and common:
            kinds += ["array", "list", "tensor"]
        if arrays and not ellipsis:
            kinds += ["mask"]
        kind = draw(st.sampled_from(kinds))
        size = SHAPE[dim]
        if kind == "none":
            parts.append(None)
            continue
        if kind == "integer":
            parts.append(draw(integers(size)))
        elif kind == "slice":
            parts.append(draw(slices(size)))
        elif kind == "mask":
            # exactly as many places as the other arrays have, so that they broadcast
            mask = np.zeros(size, bool)
            mask[draw(st.integers(0, size - 1))] = True
            parts.append(draw(st.sampled_from([mask, mg.tensor(mask), mask.tolist()])))
        else:
            values = draw(
                st.lists(integers(size), min_size=int(np.prod(common)), max_size=int(np.prod(common)))
            )
            array = np.array(values, dtype=draw(st.sampled_from([np.int64, np.int32]))).reshape(common)
            parts.append({"array": array, "list": array.tolist(), "tensor": mg.tensor(array)}[kind])
        dim += 1
    if ellipsis and not any(part is Ellipsis for part in parts):
        at = len(parts) if dim < len(SHAPE) else draw(st.integers(0, len(parts)))
        parts.insert(at, Ellipsis)
    if len(parts) == 1 and draw(st.booleans()):
        return parts[0]
    return tuple(parts)


def plain(index):
    """The same index for numpy."""
    if isinstance(index, tuple):
        return tuple(plain(part) for part in index)
    return index.numpy() if isinstance(index, mg.Tensor) else index


X = np.arange(24.0).reshape(SHAPE) / 8.0 - 1.3


def numpy_reads(index):
    try:
        return X[plain(index)]
    except IndexError:
        assume(False)


@given(indices())
def test_reading_is_numpys(index):
    wanted = numpy_reads(index)
    got = mg.tensor(X)[index]
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got.numpy(), wanted)


@given(indices(arrays=False))
def test_basic_indices_are_views(index):
    wanted = numpy_reads(index)
    t = mg.tensor(X)
    v = t[index]
    assert np.shares_memory(v.numpy(), t.numpy()) or not wanted.size
    v.fill_(9.0)
    expected = X.copy()
    expected[plain(index)] = 9.0
    np.testing.assert_array_equal(t.numpy(), expected)


@given(indices())
def test_gradient_of_reading(index):
    """x[i] is linear in x, so its transpose can be checked exactly: <u, x[i]> = <scatter(u), x>."""
    wanted = numpy_reads(index)
    x = mg.tensor(X, requires_grad=True)
    u = np.random.default_rng(0).normal(size=wanted.shape)
    (g,) = autograd.grad(x[index], x, mg.tensor(u), create_graph=True)
    expected = np.zeros(SHAPE)
    np.add.at(expected, plain(index), u)
    np.testing.assert_allclose(g.detach().numpy(), expected, atol=1e-12)


@given(indices(), st.sampled_from(["number", "row", "full"]))
def test_writing_is_numpys_and_so_are_its_gradients(index, kind):
    part = numpy_reads(index)
    shape = {"number": (), "row": part.shape[-1:], "full": part.shape}[kind]
    values = np.random.default_rng(1).normal(size=shape)
    expected = X.copy()
    expected[plain(index)] = values
    t = mg.tensor(X)
    t[index] = mg.tensor(values) if kind != "number" else float(values)
    np.testing.assert_array_equal(t.numpy(), expected)

    def program(x, v):
        y = x * 1.0
        y[index] = v
        return y

    inputs = [mg.tensor(X, requires_grad=True), mg.tensor(values, requires_grad=True)]
    assert autograd.gradcheck(program, inputs)


@given(indices())
def test_traced_reading_and_writing(index):
    numpy_reads(index)
    masks = [
        p for p in (index if isinstance(index, tuple) else (index,)) if isinstance(p, (list, np.ndarray))
    ]
    assume(not any(np.asarray(m).dtype == bool and 0 for m in masks))

    def program(x):
        y = x * 1.0
        y[index] = x[index] * 2.0
        return y + 1.0

    (got,) = interpret(trace(program, mg.Spec(SHAPE, mg.float64)))(X)
    np.testing.assert_array_equal(got, program(mg.tensor(X)).numpy())


def test_second_gradient_of_reading_and_writing():
    x = mg.tensor(X, requires_grad=True)
    v = mg.tensor(np.ones((2, 4, 2)), requires_grad=True)

    def program(x, v):
        y = x * x
        y[[0, 2]] = v * y[[1, 1]]
        return y[:, 1:, ::-1] * y[..., :1].sum()

    assert autograd.gradcheck(program, [x, v])
    assert autograd.gradgradcheck(program, [x, v])


def test_masks_of_several_dimensions():
    x = mg.tensor(X, requires_grad=True)
    mask = X > 0.2
    assert x[mask].tolist() == X[mask].tolist()
    assert x[mask[:, :, 0]].shape == X[mask[:, :, 0]].shape
    assert x[..., mask[0, 0]].shape == X[..., mask[0, 0]].shape
    assert x[True].shape == (1, *SHAPE)
    assert x[False].shape == (0, *SHAPE)
    x[mask].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), mask.astype(float))
    y = mg.tensor(X)
    y[y > 0.2] = 0.0
    assert y.numpy().max() <= 0.2
    y[mg.zeros(*SHAPE).bool()] = 5.0
    assert y.numpy().max() <= 0.2


def test_empty_selections():
    x = mg.tensor(X, requires_grad=True)
    assert x[[]].shape == (0, 4, 2)
    assert x[:, []].shape == (3, 0, 2)
    assert x[5:2].shape == (0, 4, 2)
    (x[[]].sum() + x[3:].sum() + x[x > 99].sum()).backward()
    assert not x.grad.numpy().any()
    empty = mg.zeros(0, 3)
    assert empty[[]].shape == (0, 3)
    assert empty[:, [0, 2]].shape == (0, 2)


def test_reading_does_not_keep_the_values():
    x = mg.tensor(X, requires_grad=True)
    y = x[[0, 1]]
    assert y.grad_fn.saved[0] is None
    assert x[1:].grad_fn.saved == ()


def test_last_of_several_writes_wins_also_for_gradients():
    v = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = mg.zeros(2)
    y[[0, 0, 1]] = v
    assert y.tolist() == [2.0, 3.0]
    (y * mg.tensor([10.0, 100.0])).sum().backward()
    assert v.grad.tolist() == [0.0, 10.0, 100.0]


def test_bad_indices():
    x = mg.tensor(X)
    for index in (3, (0, 4), (slice(None), [0, 4]), [-4], (0, 0, 0, 0), [0, 1, 5]):
        with pytest.raises(OutOfRangeError):
            x[index]
        with pytest.raises(OutOfRangeError):
            x[index] = 0.0
    with pytest.raises(OutOfRangeError, match="mask of shape"):
        x[np.ones(4, bool)]
    for index in (1.5, [0.5], "a", mg.tensor([1.0])):
        with pytest.raises(DTypeError):
            x[index]
    with pytest.raises((ShapeError, OutOfRangeError)):
        x[[0, 1], [0, 1, 2]]
    with pytest.raises(ShapeError):
        x[0] = mg.ones(3)
    with pytest.raises(ShapeError):
        x[[0, 1]] = mg.ones(3)
    with pytest.raises(DTypeError):
        mg.ones(3, dtype=mg.int64)[0] = 1.5
    with pytest.raises(DTypeError):
        mg.ones(3, dtype=mg.int64)[[0]] = mg.tensor([1.5])


# -- gather, scatter and the rest ---------------------------------------------------------------------


@given(st.integers(0, 2), st.integers(0, 3), st.integers(0, 2**31))
def test_gather_and_scatter_add(dim, length, seed):
    rng = np.random.default_rng(seed)
    shape = list(SHAPE)
    shape[dim] = length
    index = rng.integers(0, SHAPE[dim], shape)
    got = mg.gather(mg.tensor(X), dim, mg.tensor(index))
    np.testing.assert_array_equal(got.numpy(), np.take_along_axis(X, index, dim))
    source = rng.normal(size=shape)
    expected = X.copy()
    for place in np.ndindex(*shape):
        to = list(place)
        to[dim] = index[place]
        expected[tuple(to)] += source[place]
    summed = mg.tensor(X).scatter_add(dim, mg.tensor(index), mg.tensor(source))
    np.testing.assert_allclose(summed.numpy(), expected, atol=1e-12)


def test_negative_places_are_refused_where_they_are_nearly_always_a_bug():
    x = mg.ones(3, 4)
    minus = mg.tensor([[-1, 0, 0, 0]])
    with pytest.raises(OutOfRangeError, match="-1 is out of range for a dimension of size 3"):
        x.gather(0, minus)
    with pytest.raises(OutOfRangeError):
        x.scatter_add(0, minus, mg.ones(1, 4))
    with pytest.raises(OutOfRangeError):
        x.index_select(0, mg.tensor([-1]))
    with pytest.raises(OutOfRangeError):
        mg.one_hot(mg.tensor([4]), 4)
    with pytest.raises(DTypeError):
        x.gather(0, mg.ones(1, 4))


def test_sort_argsort_topk_one_hot():
    x = mg.tensor([[3.0, 1.0, 2.0, 1.0]], dtype=mg.float64, requires_grad=True)
    values, order = x.sort(descending=True)
    assert values.tolist() == [[3.0, 2.0, 1.0, 1.0]]
    assert order.tolist() == [[0, 2, 1, 3]], "stable"
    (values * mg.tensor([1.0, 2.0, 3.0, 4.0], dtype=mg.float64)).sum().backward()
    assert x.grad.tolist() == [[1.0, 3.0, 2.0, 4.0]]
    top = x.topk(2)
    assert top.values.tolist() == [[3.0, 2.0]]
    assert x.topk(2, largest=False).indices.tolist() == [[1, 3]]
    assert mg.one_hot(mg.tensor([1, 0])).tolist() == [[0, 1], [1, 0]]
    assert x.argsort().tolist() == [[1, 3, 2, 0]]
    assert mg.tensor(2.0).sort().values.item() == 2.0
    assert x.masked_select(x > 1.5).tolist() == [3.0, 2.0]
    assert mg.tensor([[0, 1], [2, 0]]).nonzero().tolist() == [[0, 1], [1, 0]]


def test_a_single_bool():
    x = mg.tensor(5.0, requires_grad=True)
    y = x * 1.0
    assert y[y > 0].tolist() == [5.0]
    assert y[y < 0].tolist() == []
    y[y > 0] = x * 2.0
    y[y < 0] = 99.0
    assert y.item() == 10.0
    y.backward()
    assert x.grad.item() == 2.0
    with pytest.raises(DTypeError, match="single bool"):
        mg.ones(2)[True, 0]
