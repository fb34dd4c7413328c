"""Ops that are imported on demand, beside PyTorch's: values, dtypes, shapes, gradients, every option."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

RNG = np.random.default_rng(11)


def normal(*shape):
    return RNG.normal(size=shape)


def uniform(low, high, *shape):
    return RNG.uniform(low, high, size=shape)


def distinct(*shape):
    return (RNG.permutation(math.prod(shape)).reshape(shape) - 4.0) / 3.0 + 0.1


def tied(*shape):
    return RNG.integers(0, 3, shape).astype(float)


def flags(*shape):
    return RNG.integers(0, 2, shape).astype(bool)


def ints(high, *shape, low=0):
    return RNG.integers(low, high, shape)


UNIT, ABOVE, POSITIVE = uniform(-0.9, 0.9, 3, 4), uniform(1.2, 4.0, 3, 4), uniform(0.3, 3.0, 3, 4)
ANY, SMALL = normal(3, 4), uniform(-1.2, 1.2, 3, 4)
HOLES = np.array([[1.0, np.nan, np.inf], [-np.inf, 2.0, np.nan]])

ROWS = {}
for name in ["exp2", "atan", "sinh", "cosh", "asinh", "erfc", "sinc"]:
    ROWS[name] = (lambda m, x, name=name: getattr(m, name)(x), [ANY])
for name in ["log2", "log10", "lgamma", "digamma"]:
    ROWS[name] = (lambda m, x, name=name: getattr(m, name)(x), [POSITIVE])
for name in ["asin", "acos", "atanh", "erfinv", "arcsin", "arccos", "arctanh"]:
    ROWS[name] = (lambda m, x, name=name: getattr(m, name)(x), [UNIT])
ROWS |= {
    "tan": (lambda m, x: x.tan(), [SMALL]),
    "acosh": (lambda m, x: m.acosh(x), [ABOVE]),
    "polygamma": (lambda m, x: m.polygamma(2, x), [POSITIVE]),
    "lgamma negative": (lambda m, x: m.lgamma(x), [uniform(-4.9, 0.0, 9)]),
    "digamma negative": (lambda m, x: m.digamma(x), [uniform(-4.9, 0.0, 9)]),
    "logit": (lambda m, x: m.logit(x), [uniform(0.1, 0.9, 5)]),
    "logit eps": (lambda m, x: m.logit(x, eps=0.2), [uniform(0.0, 1.0, 9)]),
    "logaddexp": (lambda m, x, y: m.logaddexp(x, y), [ANY, normal(4)]),
    "xlogy": (lambda m, x, y: m.xlogy(x, y), [ANY, POSITIVE]),
    "xlogy 0": (lambda m, x, y: m.xlogy(x, y), [np.zeros(3), np.array([0.0, 1.0, 2.0])]),
    "atan2": (lambda m, x, y: m.atan2(x, y), [ANY, normal(4)]),
    "hypot": (lambda m, x, y: m.hypot(x, y), [ANY, normal(4)]),
    "fmod": (lambda m, x, y: m.fmod(x, y), [ANY * 3, POSITIVE]),
    "fmod ints": (lambda m, x, y: m.fmod(x, y), [ints(9, 3, 4, low=-9), ints(5, 4, low=1)]),
    "isinf": (lambda m, x: m.isinf(x), [HOLES]),
    "nan_to_num": (lambda m, x: m.nan_to_num(x), [HOLES]),
    "nan_to_num values": (lambda m, x: x.nan_to_num(1.0, posinf=2.0, neginf=-3.0), [HOLES]),
    "logical_xor": (lambda m, x, y: m.logical_xor(x, y), [flags(3, 4), flags(4)]),
    "bitwise_and": (lambda m, x, y: x & y, [ints(99, 3, 4), ints(99, 4)]),
    "bitwise_or bools": (lambda m, x, y: x | y, [flags(3, 4), flags(4)]),
    "bitwise_xor": (lambda m, x, y: x ^ y, [ints(99, 3, 4), ints(99, 4)]),
    "bitwise number": (lambda m, x: (x & 6) + (5 | x) + (x ^ 3), [ints(99, 3, 4)]),
    "bitwise_not": (lambda m, x: ~x, [ints(99, 3, 4)]),
    "shifts": (lambda m, x, y: (x << y) + (x >> y) + (1 << y), [ints(99, 3, 4), ints(5, 4)]),
    "isclose": (lambda m, x, y: m.isclose(x, y, rtol=0.1, atol=0.5), [ANY, normal(3, 4)]),
    "isclose nan": (lambda m, x, y: m.isclose(x, y, equal_nan=True), [HOLES, HOLES + 1e-9]),
    "isclose ints": (lambda m, x, y: m.isclose(x, y, rtol=0.3), [ints(9, 5), ints(9, 5)]),
    "clamp_min": (lambda m, x: m.clamp_min(x, 0.3), [ANY]),
    "clamp_max tensor": (lambda m, x, y: m.clamp_max(x, y), [ANY, normal(4)]),
    "lerp": (lambda m, x, y: m.lerp(x, y, 0.3), [ANY, normal(3, 4)]),
    "lerp tensor": (lambda m, x, y, w: m.lerp(x, y, w), [ANY, normal(3, 4), uniform(0, 1, 4)]),
    "addcmul": (lambda m, x, y, z: m.addcmul(x, y, z, value=0.5), [ANY, normal(4), normal(3, 1)]),
    "addcdiv": (lambda m, x, y, z: x.addcdiv(y, z, value=-2), [ANY, normal(4), POSITIVE]),
    # scans and statistics
    "cumprod": (lambda m, x: m.cumprod(x, 1), [ANY]),
    "cumprod zeros": (lambda m, x: m.cumprod(x, 0), [tied(4, 3)]),
    "cumprod ints": (lambda m, x: m.cumprod(x, 0), [ints(4, 4, 3)]),
    "logcumsumexp": (lambda m, x: m.logcumsumexp(x, 0), [ANY * 9]),
    "cummax": (lambda m, x: m.cummax(x, 1)[0], [ANY]),
    "cummax ties": (lambda m, x: m.cummax(x, 0)[1], [tied(5, 3)]),
    "cummin ties": (lambda m, x: m.cummin(x, 0)[1], [tied(5, 3)]),
    "cummin": (lambda m, x: m.cummin(x, -1)[0], [ANY]),
    "cummax nan": (lambda m, x: m.cummax(x, 0)[1], [np.array([1.0, np.nan, 3.0, np.nan])]),
    "diff": (lambda m, x: m.diff(x), [ANY]),
    "diff 2": (lambda m, x, a, b: m.diff(x, 2, 0, a, b), [ANY, normal(1, 4), normal(2, 4)]),
    "diff bools": (lambda m, x: m.diff(x), [flags(9)]),
    "var_mean": (lambda m, x: m.var_mean(x, dim=1, correction=0)[0], [ANY]),
    "std_mean": (lambda m, x: m.std_mean(x, dim=(0, 1), keepdim=True)[0], [ANY]),
    "count_nonzero": (lambda m, x: m.count_nonzero(x, dim=1), [tied(3, 4)]),
    "median": (lambda m, x: m.median(x), [distinct(3, 4)]),
    "median ties": (lambda m, x: m.median(x), [np.array([2.0, 1.0, 2.0, 5.0, 2.0])]),
    "std of equal": (lambda m, x: m.std(x, 1) + x.std(), [np.array([[2.0, 2.0], [1.0, 3.0]])]),
    "std of one value": (lambda m, x: x.std(), [np.ones(3)]),
    "hardtanh at its bounds": (
        lambda m, x: m.nn.functional.hardtanh(x, -1.0, 2.0) + m.nn.functional.relu6(x * 3),
        [np.array([-1.0, 0.0, 1.0, 2.0, 3.0])],
    ),
    "median dim": (lambda m, x: m.median(x, 1)[0], [distinct(3, 4)]),
    "median keepdim": (lambda m, x: m.median(x, 0, True)[1], [distinct(3, 4)]),
    "median nan": (lambda m, x: m.median(x, 1)[1], [HOLES]),
    "nanmedian": (lambda m, x: m.nanmedian(x, 1)[0], [HOLES]),
    "nanmedian all": (lambda m, x: m.nanmedian(x), [HOLES]),
    "norm": (lambda m, x: m.norm(x, dim=0), [ANY]),
}
for how in ("linear", "lower", "higher", "nearest", "midpoint"):
    ROWS[f"quantile {how}"] = (lambda m, x, h=how: m.quantile(x, 0.3, interpolation=h), [distinct(3, 4)])
    ROWS[f"quantile dim {how}"] = (
        lambda m, x, h=how: m.quantile(
            x, m.tensor([0.0, 0.35, 1.0], dtype=x.dtype), 1, True, interpolation=h
        ),
        [distinct(3, 5)],
    )
ROWS["quantile nan"] = (lambda m, x: m.quantile(x, 0.5, 1), [HOLES])
ROWS |= {
    # shapes
    "tile": (lambda m, x: m.tile(x, (2,)), [ANY]),
    "tile more": (lambda m, x: x.tile(2, 1, 3), [ANY]),
    "repeat": (lambda m, x: x.repeat(2, 1, 3), [ANY]),
    "repeat 0": (lambda m, x: x.repeat(0, 2), [ANY]),
    "repeat_interleave": (lambda m, x: m.repeat_interleave(x, 2), [ANY]),
    "repeat_interleave dim": (
        lambda m, x: m.repeat_interleave(x, m.tensor([1, 0, 3]), 0),
        [ANY],
    ),
    "hstack": (lambda m, x, y: m.hstack([x, y]), [ANY, normal(3, 2)]),
    "hstack 1d": (lambda m, x, y: m.hstack([x, y]), [normal(2), normal(3)]),
    "vstack": (lambda m, x, y: m.vstack([x, y]), [normal(3), normal(2, 3)]),
    "dstack": (lambda m, x, y: m.dstack([x, y]), [normal(3), normal(3)]),
    "column_stack": (lambda m, x, y: m.column_stack([x, y]), [normal(3), normal(3, 2)]),
    "atleast": (lambda m, x: m.atleast_3d(x) + m.atleast_2d(x) + m.atleast_1d(x), [normal(4)]),
    "tensor_split": (lambda m, x: m.tensor_split(x, 3, 1)[1], [ANY]),
    "tensor_split at": (lambda m, x: m.tensor_split(x, (1, -1), 1)[1], [ANY]),
    "tensor_split beyond": (lambda m, x: m.tensor_split(x, (2, 9), 0)[2], [ANY]),
    "roll": (lambda m, x: m.roll(x, 2), [ANY]),
    "roll dims": (lambda m, x: m.roll(x, (1, -1), (0, 1)), [ANY]),
    "rot90": (lambda m, x: m.rot90(x) @ m.rot90(x, -1, (0, 1)).T + m.rot90(x, 2).sum(), [ANY]),
    "flips": (lambda m, x: m.fliplr(x) + m.flipud(x), [ANY]),
    "narrow": (lambda m, x: m.narrow(x, 1, -2, 2), [ANY]),
    "select": (lambda m, x: m.select(x, 1, -1), [ANY]),
    "ravel": (lambda m, x: m.ravel(x), [ANY]),
    "unfold": (lambda m, x: x.unfold(1, 2, 1), [normal(3, 5, 2)]),
    "unfold step": (lambda m, x: x.unfold(-1, 3, 2), [normal(3, 8)]),
    "broadcast_tensors": (lambda m, x, y: m.broadcast_tensors(x, y)[1], [ANY, normal(4)]),
    "meshgrid": (lambda m, x, y: m.meshgrid(x, y, indexing="ij")[1], [normal(3), normal(2)]),
    "meshgrid xy": (lambda m, x, y: m.meshgrid(x, y, indexing="xy")[0], [normal(3), normal(2)]),
    "diag": (lambda m, x: m.diag(x, 1), [normal(3)]),
    "diag of": (lambda m, x: m.diag(x, -1), [ANY]),
    "diag_embed": (lambda m, x: m.diag_embed(x, -2), [ANY]),
    "trace": (lambda m, x: x.trace(), [ANY]),
    "block_diag": (lambda m, x, y, z: m.block_diag(x, y, z), [ANY, normal(2), normal(2, 1)]),
    # places
    "scatter": (lambda m, x, y: m.scatter(x, 1, m.tensor([[0, 2], [1, 3]]), y), [ANY, normal(2, 2)]),
    "scatter number": (lambda m, x: x.scatter(0, m.tensor([[0, 2, 1]]), 1.5), [ANY]),
    "scatter add": (lambda m, x: x.detach().scatter(1, m.tensor([[0, 0], [1, 3]]), 2.0, reduce="add"), [ANY]),
    "index_fill": (lambda m, x: m.index_fill(x, 1, m.tensor([0, 3]), -1.0), [ANY]),
    "index_copy": (lambda m, x, y: m.index_copy(x, 1, m.tensor([3, 0]), y), [ANY, normal(3, 2)]),
    "index_put": (
        lambda m, x, y: m.index_put(x, (m.tensor([0, 2]), m.tensor([1, 1])), y),
        [ANY, normal(2)],
    ),
    "index_put accumulate": (
        lambda m, x, y: m.index_put(x, (m.tensor([0, 0]),), y, accumulate=True),
        [ANY, normal(2, 4)],
    ),
    "take": (lambda m, x: m.take(x, m.tensor([[0, 5], [-1, 2]])), [ANY]),
    "take_along_dim": (lambda m, x: m.take_along_dim(x, m.tensor([[1], [0], [3]]), 1), [ANY]),
    "take_along_dim broadcast": (lambda m, x: m.take_along_dim(x, m.tensor([[1, 0]]), 1), [ANY]),
    "take_along_dim flat": (lambda m, x: m.take_along_dim(x, m.tensor([[1, 7]])), [ANY]),
    "unique": (lambda m, x: m.unique(x.detach()), [tied(3, 4)]),
    "unique inverse": (lambda m, x: m.unique(x, return_inverse=True)[1], [tied(3, 4)]),
    "unique counts": (lambda m, x: m.unique(x, return_counts=True, dim=0)[1], [tied(5, 1)]),
    "searchsorted": (lambda m, x, y: m.searchsorted(x, y, right=True), [np.arange(5.0), normal(3) * 3]),
    "searchsorted rows": (
        lambda m, x, y: m.searchsorted(x, y, side="left", out_int32=True),
        [np.sort(normal(2, 5)), normal(2, 3)],
    ),
    "bucketize": (lambda m, x, y: m.bucketize(x, y), [normal(3, 2), np.arange(-2.0, 3.0)]),
    "bincount": (lambda m, x: m.bincount(x, minlength=8), [ints(6, 9)]),
}
for how in ("sum", "prod", "mean", "amax", "amin"):
    for own in (True, False):
        ROWS[f"scatter_reduce {how} {own}"] = (
            lambda m, x, y, how=how, own=own: m.scatter_reduce(
                x, 1, m.tensor([[0, 2, 0], [1, 3, 3], [2, 2, 2]]), y, how, include_self=own
            ),
            [uniform(0.5, 2, 3, 4), uniform(0.5, 2, 3, 3)],
        )
ROWS["scatter_reduce ties"] = (
    lambda m, x, y: m.scatter_reduce(x, 0, m.tensor([0, 0, 1, 1]), y, "amax"),
    [np.array([1.0, 3.0]), np.array([1.0, 1.0, 2.0, 3.0])],
)
ROWS["scatter_reduce zeros"] = (
    lambda m, x, y: m.scatter_reduce(x, 0, m.tensor([0, 0, 1, 1]), y, "prod"),
    [np.array([2.0, 3.0]), np.array([0.0, 5.0, 0.0, 0.0])],
)
ROWS |= {
    "nansum": (lambda m, x: m.nansum(x, 1), [HOLES[:, :2]]),
    "nanmean": (lambda m, x: m.nanmean(x, 0, True), [HOLES[:, :2]]),
    "kthvalue": (lambda m, x: m.kthvalue(x, 2, 1, True)[0] + x.kthvalue(3, 1)[1], [distinct(4, 4)]),
    "mode": (lambda m, x: m.mode(x, 1)[0], [tied(4, 6)]),
    "aminmax": (lambda m, x: m.aminmax(x, dim=1)[0] - m.aminmax(x)[1], [distinct(3, 4)]),
    "msort": (lambda m, x: m.msort(x), [distinct(3, 4)]),
    "cov": (lambda m, x: m.cov(x) + m.cov(x[0], correction=0), [ANY]),
    "cov weights": (
        lambda m, x, a: m.cov(x, fweights=m.tensor([1, 2, 0, 3]), aweights=a),
        [ANY, uniform(0.5, 1.0, 4)],
    ),
    "corrcoef": (lambda m, x: m.corrcoef(x), [ANY]),
    "histc": (lambda m, x: m.histc(x.detach(), 5) + m.histc(x.detach(), 5, -1, 1), [ANY]),
    "histogram": (lambda m, x: m.cat(list(m.histogram(x.detach(), 4, density=True))), [ANY]),
    "trapezoid": (lambda m, x: m.trapezoid(x, dx=0.5) + m.trapz(x, x[0] ** 3), [ANY]),
    "cumulative_trapezoid": (lambda m, x: m.cumulative_trapezoid(x, dim=0), [ANY]),
    "argwhere": (lambda m, x: m.argwhere(x > 0), [ANY]),
    "nonzero": (lambda m, x: x[(x > 0).nonzero(as_tuple=True)] + x[m.where(x > 0)], [ANY]),
    "broadcast_shapes": (lambda m, x: x.expand(m.broadcast_shapes((3, 1), x.shape, (1,))), [normal(4)]),
    "indices": (
        lambda m, x: x[tuple(m.tril_indices(3, 4, 1))].sum() + x[tuple(m.triu_indices(3, 4, -1))],
        [ANY],
    ),
    "unravel_index": (lambda m, x: m.stack(m.unravel_index(x, (3, 4))), [ints(12, 5)]),
    "cartesian_prod": (lambda m, x, y: m.cartesian_prod(x, y), [normal(3), normal(2)]),
    "combinations": (lambda m, x: m.combinations(x, 3) @ m.combinations(x, 3, True)[:3, :], [normal(4)]),
    "diagflat": (lambda m, x: m.diagflat(x, 1), [normal(2, 2)]),
    "isin": (lambda m, x, y: m.isin(x, y) != m.isin(x, y, invert=True)[0], [ints(9, 3, 4), ints(9, 3)]),
    "masked_scatter": (lambda m, x, y: m.masked_scatter(x, x > 0, y), [ANY, normal(3, 5)]),
    "unique_consecutive": (
        lambda m, x: m.cat(m.unique_consecutive(x, True, True)),
        [ints(2, 12)],
    ),
    "unique_consecutive dim": (lambda m, x: m.unique_consecutive(x.detach(), dim=1), [tied(1, 9)]),
    "fill_diagonal_": (
        lambda m, x: (x * 1).fill_diagonal_(2.0) + x.T.contiguous().fill_diagonal_(3.0, wrap=True).T,
        [normal(2, 7)],
    ),
    "moveaxis": (lambda m, x: m.moveaxis(x, 0, -1), [ANY]),
    "signbit": (lambda m, x: m.signbit(x), [ANY]),
    "copysign": (lambda m, x, y: m.copysign(x, y.detach()) + x.copysign(-1.0), [ANY, normal(3, 4)]),
    "frac": (lambda m, x: m.frac(x * 3), [ANY]),
    "heaviside": (lambda m, x: m.heaviside(x.detach(), x.detach() + 0.5), [tied(3, 4) - 1]),
    "fmax": (lambda m, x, y: m.fmax(x, y) + m.fmin(x, y), [HOLES[:, :2], normal(2, 2)]),
    "degrees": (lambda m, x: m.deg2rad(x) + m.rad2deg(x), [ANY]),
    "float_power": (
        lambda m, x: m.float_power(x, 2).to(x.dtype) + m.float_power(2, x).to(x.dtype),
        [POSITIVE],
    ),
    "dist": (lambda m, x, y: m.dist(x, y, 3.0), [ANY, normal(3, 4)]),
    "logspace": (lambda m, x: x * m.logspace(-1, 2, 4, dtype=x.dtype), [ANY]),
    "logspace base": (lambda m, x: x * m.logspace(0, 3, 4, 2, dtype=x.dtype), [ANY]),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ROWS)
def test_value_and_gradients(name, dtype):
    program, arrays = ROWS[name]
    arrays = [x.astype(dtype) if x.dtype.kind == "f" else x for x in map(np.asarray, arrays)]
    real = [x.dtype.kind == "f" for x in arrays]
    ours = [mg.tensor(x, requires_grad=f) for x, f in zip(arrays, real, strict=True)]
    theirs = [torch.tensor(x, requires_grad=f) for x, f in zip(arrays, real, strict=True)]
    y, z = program(mg, *ours), program(torch, *theirs)
    tolerance = 1e-9 if dtype == "float64" else 2e-5
    assert tuple(y.shape) == tuple(z.shape)
    assert str(y.dtype) == str(z.dtype).removeprefix("torch.")
    got, wanted = y.detach().numpy(), z.detach().numpy()
    assert np.allclose(got, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not z.requires_grad:
        return
    u = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
    y.backward(mg.tensor(u))
    z.backward(torch.tensor(u))
    for a, b in zip(ours, theirs, strict=True):
        if b.grad is not None:
            assert np.allclose(a.grad.numpy(), b.grad.numpy(), rtol=tolerance, atol=tolerance, equal_nan=True)


def test_python_answers():
    x = mg.tensor([1.0, 2.0])
    assert x.equal(mg.tensor([1.0, 2.0]))
    assert not x.equal(mg.tensor([[1.0, 2.0]]))
    assert x.allclose(x + 1e-9)
    assert not mg.allclose(x, x + 1.0)
    assert mg.bincount(mg.tensor([0, 2, 2]), mg.tensor([0.5, 1.0, 2.0])).tolist() == [0.5, 0.0, 3.0]


def test_normal_numbers_have_their_moments():
    mg.manual_seed(0)
    x = mg.normal(mg.full((20000,), 3.0), 0.5)
    assert abs(x.mean().item() - 3.0) < 0.02
    assert abs(x.std().item() - 0.5) < 0.02
    assert mg.normal(1.0, 2.0, (2, 3)).shape == (2, 3)
