"""Every name shared with PyTorch is compared with it, in this folder, or a list here says why not.

What the other files leave over is compared here: names that mean the same, methods that write in place.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import samples_nn

import minigrad as mg
from minigrad import ops
from minigrad.nn import functional

torch = pytest.importorskip("torch")
ops.load()  # methods that come later

RNG = np.random.default_rng(3)
A, B, UNIT = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4)), RNG.uniform(0.1, 0.9, (3, 4))
ABOVE, INTS = RNG.uniform(1.2, 3.0, (3, 4)), RNG.integers(1, 9, (3, 4))
ROWS = {
    "absolute": (lambda m, x: m.absolute(x), A),
    "addmv": (lambda m, x: m.addmv(x[:, 0], x, x[0], beta=0.5, alpha=2.0), A),
    "arccosh": (lambda m, x: m.arccosh(x) + x.arccosh(), ABOVE),
    "arcsinh": (lambda m, x: m.arcsinh(x) + x.arcsinh(), A),
    "arctan": (lambda m, x: m.arctan(x) + x.arctan(), A),
    "arctan2": (lambda m, x: m.arctan2(x, x[0]) + x.arctan2(x[1]), A),
    "argmin": (lambda m, x: m.argmin(x, 1) + x.argmin(1) + m.argmin(x), A),
    "argsort": (lambda m, x: m.argsort(x, 0, descending=True) + x.argsort(0), A),
    "shifts": (lambda m, x: m.bitwise_left_shift(x, 2) + m.bitwise_right_shift(x, 1), INTS),
    "shift methods": (lambda m, x: x.bitwise_left_shift(x % 3) + x.bitwise_right_shift(1), INTS),
    "clip": (lambda m, x: m.clip(x, -0.5, 0.5) + x.clip(max=0.1), A),
    "clone": (lambda m, x: m.clone(x) + x.clone(), A),
    "concat": (lambda m, x: m.concat([x, m.concatenate([x, x], 1)], dim=1), A),
    "empty_like": (lambda m, x: m.empty_like(x) * 0.0, INTS.astype(float) * 0.0),
    "from_numpy": (lambda m, x: m.from_numpy(A) + m.as_tensor(A), A),
    "masked_select": (lambda m, x: m.masked_select(x, x > 0) * x.masked_select(x > 0), A),
    "multiply": (lambda m, x: m.multiply(x, x[0]) + x.multiply(2.0), A),
    "nonzero": (lambda m, x: m.nonzero(x > 0) + (x > 0).nonzero(), A),
    "ones_like": (lambda m, x: m.ones_like(x) + x.new_ones(3, 4) + x.new_full((4,), 2.0), A),
    "new_tensor": (lambda m, x: x.new_tensor([1.0, 2.0]) + x.new_zeros(2), A),
    "result_type": (lambda m, x: m.zeros(2, dtype=m.result_type(x, 1.5)), INTS),
    "subtract": (lambda m, x: m.subtract(x, x[0], alpha=2) + x.subtract(1.0), A),
    "vmap": (lambda m, x: m.vmap(lambda row: row * row.sum())(x), A),
    "matrix_rank": (lambda m, x: m.linalg.matrix_rank(x), np.outer(A[0], A[1])),
    "contiguous": (lambda m, x: x.T.contiguous().view(2, 6), A),
    "expand_as": (lambda m, x: x[0].expand_as(x) + x[1].reshape_as(x[2]) + x[0].view_as(x[1]), A),
    "index_copy": (lambda m, x: x.clone().index_copy_(0, m.tensor([2, 0]), x[:2] * 2.0), A),
    "short": (lambda m, x: x.short() + x.type_as(x.short()), INTS),
    "sgn": (lambda m, x: x.sgn() + x.cpu(), A),
    "sizes": (lambda m, x: m.tensor([x.numel(), x.nelement(), x.ndim, x.nbytes, x.element_size()]), A),
    "facts": (lambda m, x: m.tensor([x.is_contiguous(), x.is_floating_point(), x.is_leaf]), A),
    "legacy": (
        lambda m, x: (
            sum(
                (m.FloatTensor, m.DoubleTensor, m.IntTensor, m.LongTensor, m.ByteTensor)[k]([k])
                for k in range(5)
            )
            + m.BoolTensor([True])
            + m.FloatTensor(2, 3).shape[1]
        ),
        A,
    ),
    "more facts": (
        lambda m, x: m.tensor(
            [x.is_cuda, x.itemsize, x.ndimension(), *x.T.stride(), x.stride(0), m.numel(x)]
        ),
        A,
    ),
    "device": (lambda m, x: m.ones(1, device=m.device("cpu")).to(m.device("cpu", 0), non_blocking=True), A),
    "constants": (lambda m, x: x * m.pi + m.e + m.finfo(m.float32).eps, A),
    "detach_": (lambda m, x: (x * 2).detach_(), A),
    "mode": (lambda m, x: m.mode(x, 0).values + m.is_floating_point(x), INTS),
    "byte": (lambda m, x: x.byte() + 1, INTS),
    "fill": (lambda m, x: x.clone().fill_(2.0) + x.clone().zero_(), A),
}

#: In place: method -> further arguments (arrays become tensors), where it needs any.
ARGUMENTS = {
    **dict.fromkeys(
        [
            "add",
            "div",
            "divide",
            "true_divide",
            "fmod",
            "remainder",
            "floor_divide",
            "pow",
            "mul",
            "multiply",
        ],
        (UNIT,),
    ),
    **dict.fromkeys(["sub", "subtract", "atan2", "arctan2", "hypot", "xlogy"], (UNIT,)),
    "addcdiv": (B, ABOVE),
    "addcmul": (B, UNIT),
    "clamp": (0.2, 0.8),
    "clip": (0.2, 0.8),
    "clamp_max": (0.6,),
    "clamp_min": (0.4,),
    "cumprod": (1,),
    "cumsum": (1,),
    "index_add": (0, np.array([2, 0]), B[:2]),
    "index_copy": (0, np.array([2, 0]), B[:2]),
    "index_fill": (0, np.array([2, 0]), 1.5),
    "index_put": ((np.array([2, 0]), np.array([1, 3])), B[0, :2]),
    "lerp": (B, 0.3),
    "masked_fill": (A > 0, 9.0),
    "masked_scatter": (A > 0, B),
    "scatter": (0, np.array([[0, 1, 2, 0]]), B[:1]),
    "scatter_add": (0, np.array([[0, 1, 2, 0]]), B[:1]),
    "scatter_reduce": (0, np.array([[0, 1, 2, 0]]), B[:1], "amax"),
    "fill": (2.0,),
    "copy": (B,),
    "copysign": (B,),
    "fill_diagonal": (2.0,),
    "heaviside": (B,),
    "requires_grad": (),
    "unsqueeze": (1,),
    "transpose": (0, 1),
}
#: In place, but there is nothing to compare.
NOT_IN_PLACE = {"detach_", "uniform_", "normal_", "random_", "bernoulli_", "exponential_"}
IN_PLACE = sorted(
    name
    for name in dir(mg.Tensor)
    if name.endswith("_") and name[0] != "_" and hasattr(torch.Tensor, name) and name not in NOT_IN_PLACE
)

#: Names that are not compared, and why.
RANDOM = "numbers of another generator"
HERE = "about the library itself"
EXPLAINED = {
    **dict.fromkeys(
        [
            "bernoulli",
            "multinomial",
            "rand",
            "rand_like",
            "randint",
            "randint_like",
            "randn",
            "randn_like",
            "randperm",
            "uniform_",
            "normal_",
        ],
        RANDOM,
    ),
    **dict.fromkeys(["dropout1d", "dropout2d", "gumbel_softmax", "rrelu"], RANDOM),
    **dict.fromkeys(
        ["save", "backends", "compile", "get_rng_state", "set_rng_state", "is_grad_enabled", "is_tensor"],
        HERE,
    ),
    **dict.fromkeys(
        ["grad_fn", "register_hook", "register_post_accumulate_grad_hook", "retain_grad", "cuda"], HERE
    ),
    "trace": "of a matrix; of a function it records a graph",
    "upsample": "deprecated there: interpolate",
}


def words() -> set[str]:
    folder = Path(__file__).parent
    text = "".join(p.read_text() for p in sorted(folder.glob("test_*_torch.py")))
    modules = {s.name.lower() for s in [*samples_nn.MODULES, *samples_nn.LOSSES]}
    return set(re.findall(r"\w+", text)) | {m.removesuffix("loss") for m in modules} | modules | set(IN_PLACE)


def shared() -> dict[str, list[str]]:
    """Functions and methods that both have, by where they are."""
    found = {}
    for where, ours, theirs in (
        ("minigrad", mg, torch),
        ("linalg", mg.linalg, torch.linalg),
        ("functional", functional, torch.nn.functional),
    ):
        values = {n: getattr(ours, n) for n in ours.__all__ if hasattr(theirs, n)}
        found[where] = [n for n, v in values.items() if callable(v) and not inspect.isclass(v)]
    found["methods"] = [n for n in dir(mg.Tensor) if n[0] != "_" and hasattr(torch.Tensor, n)]
    return found


def test_every_shared_name_is_compared():
    known, names = words(), shared()
    left = {
        n
        for group in names.values()
        for n in group
        if n not in known and n not in EXPLAINED and n.replace("_", "").removesuffix("loss") not in known
    }
    assert not left, f"compare them with PyTorch in this folder: {sorted(left)}"
    assert sum(map(len, names.values())) > 650


@pytest.mark.parametrize("name", ROWS)
def test_names_that_were_left_over(name):
    program, array = ROWS[name]
    got, wanted = program(mg, mg.tensor(array)), program(torch, torch.tensor(array))
    assert str(got.dtype) == str(wanted.dtype).removeprefix("torch.")
    assert tuple(got.shape) == tuple(wanted.shape)
    np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name):
    start = {"acosh_": ABOVE}.get(name, UNIT)
    results = []
    for make in (mg.tensor, torch.tensor):

        def of(value, make=make):
            if isinstance(value, tuple):
                return tuple(map(of, value))
            return make(value) if isinstance(value, np.ndarray) else value

        x = make(start)
        y = getattr(x, name)(*map(of, ARGUMENTS.get(name[:-1], ())))
        assert y is x
        results.append(x.detach().numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-9, atol=1e-12)
