"""The Tensor itself: dtypes and promotion, Python's and numpy's protocols, copies."""

from __future__ import annotations

import contextvars
import copy
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, GradientError
from minigrad.ir import DTYPES, promote_types

try:
    import torch
except ImportError:
    torch = None


def names(dtypes):
    return " ".join(d.name for d in dtypes)


# -- making them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        (1, "int64"),
        (True, "bool"),
        ([1.0, 2], "float32"),
        ([1, 2], "int64"),
        ([True, False], "bool"),
        ([], "float32"),
        (np.ones(2), "float64"),
        (np.float64(1.0), "float64"),
        (np.ones(2, np.int8), "int8"),
        ([np.ones(2), np.ones(2)], "float64"),
        ([np.float32(1), 2.0], "float32"),
        (range(3), "int64"),
        (mg.ones(2, dtype=mg.uint8), "uint8"),
        ([mg.ones(2), mg.ones(2)], "float32"),
        (np.ones(2, ">f4"), "float32"),
    ],
)
def test_dtype_of_data(data, dtype):
    t = mg.tensor(data)
    assert t.dtype == np.dtype(dtype)
    assert t.dtype.isnative


@pytest.mark.parametrize("dtype", [*DTYPES.values(), "float64", np.int32, float, int, bool, "bool"])
def test_dtype_given(dtype):
    assert mg.tensor([0, 1], dtype=dtype).dtype.name in DTYPES
    assert mg.zeros(2, dtype=dtype).shape == (2,)


def test_data_is_copied_or_shared_as_named():
    a = np.ones(3, np.float32)
    t, s, n = mg.tensor(a), mg.as_tensor(a), mg.from_numpy(a)
    a[0] = 5.0
    assert t[0].item() == 1.0
    assert s[0].item() == n[0].item() == 5.0
    assert mg.as_tensor(s) is s


def test_creation():
    assert mg.zeros(2, 3).shape == mg.zeros((2, 3)).shape == mg.zeros([2, 3]).shape == (2, 3)
    assert mg.ones(()).shape == ()
    assert mg.full((2,), 3).dtype == mg.int64
    assert mg.full((2,), 3.0).dtype == mg.float32
    assert mg.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert mg.arange(3).tolist() == [0, 1, 2]
    assert mg.arange(1, 2, 0.25).tolist() == [1.0, 1.25, 1.5, 1.75]
    assert mg.arange(5, 0, -2).tolist() == [5, 3, 1]
    assert mg.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    x = mg.ones(2, 3, dtype=mg.float64)
    for like in (
        x.zeros_like(),
        mg.ones_like(x),
        mg.full_like(x, 2),
        mg.rand_like(x),
        mg.randn_like(x),
        mg.empty_like(x),
    ):
        assert (like.shape, like.dtype) == (x.shape, x.dtype)
    assert x.new_zeros(4).dtype == x.new_tensor([1]).dtype == mg.float64
    assert mg.ones(2, requires_grad=True).requires_grad


def test_random_numbers():
    mg.manual_seed(3)
    a = [mg.rand(5), mg.randn(5), mg.randint(0, 9, (5,)), mg.randperm(6), mg.bernoulli(mg.full((9,), 0.5))]
    mg.manual_seed(3)
    b = [mg.rand(5), mg.randn(5), mg.randint(0, 9, (5,)), mg.randperm(6), mg.bernoulli(mg.full((9,), 0.5))]
    for x, y in zip(a, b, strict=True):
        assert x.tolist() == y.tolist()
    assert sorted(a[3].tolist()) == list(range(6))
    state = mg.get_rng_state()
    first = mg.rand(3).tolist()
    mg.set_rng_state(state)
    assert mg.rand(3).tolist() == first
    big = mg.randn(20_000, dtype=mg.float64)
    assert abs(big.mean().item()) < 0.05
    assert abs(big.std().item() - 1.0) < 0.05
    uniform = mg.rand(20_000)
    assert 0.0 <= uniform.min().item() <= uniform.max().item() < 1.0
    own = mg.Generator(7) if hasattr(mg, "Generator") else None
    if own is not None:
        assert mg.rand(2, generator=own).tolist() == mg.rand(2, generator=mg.Generator(7)).tolist()


# -- promotion -----------------------------------------------------------------------------------------

PROMOTED = {
    ("bool", "uint8"): "uint8",
    ("bool", "float32"): "float32",
    ("int8", "uint8"): "int16",
    ("uint8", "int32"): "int32",
    ("int32", "int64"): "int64",
    ("int64", "float32"): "float32",
    ("float32", "float64"): "float64",
    ("int64", "float64"): "float64",
}


@pytest.mark.parametrize(("a", "b"), PROMOTED)
def test_promotion_of_tensors(a, b):
    x, y = mg.ones(2, dtype=a), mg.ones(2, dtype=b)
    for result in (x * y, y * x, mg.where(x > 0, x, y), mg.cat([x, y]), mg.stack([y, x])):
        assert result.dtype == np.dtype(PROMOTED[a, b])
    assert mg.result_type(x, y) == np.dtype(PROMOTED[a, b])


@pytest.mark.parametrize(
    ("dtype", "number", "expected"),
    [
        ("float32", 2.5, "float32"),
        ("float32", 2, "float32"),
        ("float32", True, "float32"),
        ("float64", 2.5, "float64"),
        ("int8", 2, "int8"),
        ("uint8", 2, "uint8"),
        ("int32", 2.5, "float32"),
        ("int64", 2.5, "float32"),
        ("int64", True, "int64"),
        ("bool", 2, "int64"),
        ("bool", 2.5, "float32"),
        ("bool", True, "bool"),
    ],
)
def test_python_numbers_are_weak(dtype, number, expected):
    t = mg.ones(2, dtype=dtype)
    for result in (t * number, number * t, t + number, mg.maximum(t, mg.tensor(number)) * 1):
        if result.dtype.kind != "i" or expected != "bool":
            assert result.dtype == np.dtype(expected)


def test_float32_stays_float32():
    x = mg.rand(3, 4)
    results = [
        x * 2.0,
        2.0 / x,
        x**2,
        x**0.3,
        2.0**x,
        x.exp(),
        x.mean(),
        x.var(),
        x.std(),
        x.sum(0),
        x @ x.T,
        x.softmax(0),
        mg.where(x > 0, x, 0.0),
        x.clamp(0, 1),
        x.cumsum(0),
        x - x.mean(),
        x / 3,
        x // 2,
        x % 2,
        x.logsumexp(0),
        mg.einsum("ij,kj->ik", x, x),
        x.sort().values,
        x.topk(2).values,
        x.prod(),
        x.erf(),
        x.round(decimals=1),
        x * mg.tensor(2.0, dtype=mg.float64),
        x + np.float64(1.0),
        mg.linspace(0, 1, 3),
    ]
    assert {r.dtype.name for r in results} == {"float32"}


def test_0d_tensors_do_not_widen():
    assert (mg.ones(2) * mg.tensor(1.0, dtype=mg.float64)).dtype == mg.float32
    assert (mg.ones(2, dtype=mg.int8) + mg.tensor(1)).dtype == mg.int8
    assert (mg.ones(2, dtype=mg.int8) + mg.tensor(1.0)).dtype == mg.float32
    assert (mg.tensor(1.0) * mg.tensor(1.0, dtype=mg.float64)).dtype == mg.float64


@pytest.mark.skipif(torch is None, reason="torch is not installed")
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((), (2,)), ((2,), ()), ((), ())], ids=str)
def test_promotion_table_is_torchs(shapes):
    for a, b in itertools.product(DTYPES, DTYPES):
        x, y = mg.ones(shapes[0], dtype=a), mg.ones(shapes[1], dtype=b)
        p, q = torch.ones(shapes[0], dtype=getattr(torch, a)), torch.ones(shapes[1], dtype=getattr(torch, b))
        expected = str(torch.result_type(p, q)).removeprefix("torch.")
        assert (x * y).dtype.name == expected, (a, b)
        for number in (2, 2.5, True):
            expected = str(torch.result_type(p, number)).removeprefix("torch.")
            assert (x * number).dtype.name == (number * x).dtype.name == expected, (a, number)


def test_promotion_is_a_lattice():
    kinds = list(DTYPES.values())
    for a, b in itertools.product(kinds, kinds):
        assert promote_types(a, b) == promote_types(b, a)
        assert promote_types(a, a) == a
        assert promote_types(promote_types(a, b), b) == promote_types(a, b)


def test_integer_sums_do_not_wrap_and_divisions_are_float():
    u = mg.full((4,), 200, dtype=mg.uint8)
    assert u.sum().item() == 800
    assert u.sum().dtype == mg.int64
    assert u.cumsum(0).tolist() == [200, 400, 600, 800]
    assert (u / 3).dtype == mg.float32
    assert (u // 3).dtype == mg.uint8
    assert mg.tensor([True, True]).sum().item() == 2
    assert mg.tensor([7, -7]).div(2, rounding_mode="trunc").tolist() == [3, -3]
    assert mg.tensor([7, -7]).div(2, rounding_mode="floor").tolist() == [3, -4]
    assert (mg.tensor([7, -7]) % 4).tolist() == [3, 1]
    with pytest.raises(ArgumentError, match="divided by zero"):
        mg.tensor([1, 2]) // 0


def test_conversions():
    t = mg.tensor([1.7, -1.7])
    assert (
        names(
            x.dtype
            for x in (
                t.float(),
                t.double(),
                t.int(),
                t.long(),
                t.bool(),
                t.to(mg.int8),
                t.to("uint8"),
                t.type_as(t.long()),
            )
        )
        == "float32 float64 int32 int64 bool int8 uint8 int64"
    )
    assert t.to("cpu") is t
    assert t.to(mg.float32) is t
    assert t.to(mg.float32, copy=True) is not t
    assert t.to(t.double()).dtype == mg.float64
    assert t.long().tolist() == [1, -1]


# -- surface -------------------------------------------------------------------------------------------


def test_what_it_is():
    t = mg.ones(2, 3)
    assert t.shape == t.size() == (2, 3)
    assert t.size(-1) == 3
    assert t.ndim == t.dim() == 2
    assert t.numel() == t.nelement() == 6
    assert t.nbytes == 24
    assert t.element_size() == 4
    assert t.device == "cpu"
    assert t.is_floating_point()
    assert t.is_contiguous()
    assert not t.T.is_contiguous()
    assert t.T.contiguous().is_contiguous()
    assert t.mT.shape == t.T.shape == t.t().shape == (3, 2)
    assert mg.is_tensor(t)
    assert not mg.is_tensor(1)
    assert len({t, mg.ones(2, 3)}) == 2, "hashed by identity"


@pytest.mark.parametrize(
    ("t", "text"),
    [
        (mg.tensor([1.0, 2.0]), "tensor([1., 2.])"),
        (mg.tensor(1.5), "tensor(1.5)"),
        (mg.tensor([1, 2]), "tensor([1, 2])"),
        (mg.tensor([True]), "tensor([ True])"),
        (mg.tensor([1.0], dtype=mg.float64), "tensor([1.], dtype=float64)"),
        (mg.tensor([1], dtype=mg.int8), "tensor([1], dtype=int8)"),
        (mg.zeros(0), "tensor([], dtype=float32)"),
        (mg.zeros(2, 0), "tensor([], dtype=float32, size=(2, 0))"),
        (mg.ones(2, requires_grad=True), "tensor([1., 1.], requires_grad=True)"),
        (mg.ones(2, requires_grad=True).exp(), "tensor([2.7183, 2.7183], grad_fn=<exp>)"),
        (mg.tensor([[1.0, 2.0], [3.0, 4.0]]), "tensor([[1., 2.],\n        [3., 4.]])"),
        (mg.tensor([float("nan"), float("inf")]), "tensor([nan, inf])"),
    ],
)
def test_repr(t, text):
    assert repr(t) == str(t) == text


def test_repr_of_large_and_traced_tensors():
    assert "..." in repr(mg.zeros(5000))
    seen = []
    mg.trace(lambda x: (seen.append(repr(x)), x)[1], mg.Spec((2,), mg.float32))
    assert seen == ["tensor(%0: float32[2], traced)"]


def test_python_protocols():
    t = mg.tensor([1.0, 2.0, 3.0])
    assert len(t) == 3
    assert [x.item() for x in t] == [1.0, 2.0, 3.0]
    assert 2.0 in t
    assert 5.0 not in t
    assert float(t[1]) == 2.0
    assert int(t[1]) == 2
    assert bool(t[1])
    assert not mg.tensor(0.0)
    assert [10, 20, 30][mg.tensor(1)] == 20
    assert t[1].item() == 2.0
    assert isinstance(mg.tensor(2).item(), int)
    assert t.tolist() == [1.0, 2.0, 3.0]
    assert f"{t[0]:.2f}" == "1.00"
    assert f"{t}" == str(t)
    a, b, c = t
    assert (a + b + c).item() == 6.0
    for bad in (lambda: bool(t), lambda: float(t), lambda: t.item(), lambda: int(t)):
        with pytest.raises(ArgumentError, match=r"shape \(3,\)"):
            bad()
    for bad in (lambda: len(t[0]), lambda: list(t[0]), lambda: [1, 2][t[0]]):
        with pytest.raises(DTypeError):
            bad()


def test_operators_with_reflection():
    t = mg.tensor([2.0, 4.0])
    for operator, expected in [
        (lambda a, b: a + b, 10.0),
        (lambda a, b: a - b, 6.0),
        (lambda a, b: a * b, 16.0),
        (lambda a, b: a / b, 4.0),
        (lambda a, b: a**b, 64.0),
        (lambda a, b: a // b, 4.0),
        (lambda a, b: a % b, 0.0),
    ]:
        for other in (8, 8.0, np.float32(8), np.array(8.0, np.float32), mg.tensor(8.0)):
            result = operator(other, t)
            assert isinstance(result, mg.Tensor), (other, result)
            assert result[0].item() == expected
            assert result.dtype == mg.float32
    assert (8 - t).tolist() == [6.0, 4.0]
    assert (+t).tolist() == [2.0, 4.0]
    assert abs(-t).tolist() == [2.0, 4.0]
    flags = t > 3
    assert (~flags).tolist() == [True, False]
    assert (flags & True).tolist() == (flags | False).tolist() == (flags ^ False).tolist() == [False, True]
    with pytest.raises(DTypeError, match="bool"):
        t & t
    for comparison in (t == 2, t != 4, t < 3, t <= 2, t < 3, t <= 2):
        assert comparison.tolist() == [True, False]
        assert comparison.dtype == mg.bool_


# -- numpy ---------------------------------------------------------------------------------------------


def test_numpy_arrays_and_tensors_mix():
    a = np.array([1.0, 2.0])
    t = mg.tensor([3.0, 4.0], dtype=mg.float64, requires_grad=True)
    for result in (a * t, t * a, a + t, a / t, a - t, a**t, a // t.detach(), a % t, np.maximum(a, t), a @ t):
        assert isinstance(result, mg.Tensor)
    assert (a * t).tolist() == [3.0, 8.0]
    (a * t).sum().backward()
    assert t.grad.tolist() == [1.0, 2.0]
    assert (a < t).tolist() == [True, True]
    assert (np.float64(2.0) * t).tolist() == [6.0, 8.0]
    assert (np.ones((2, 2)) @ mg.ones(2, 2, dtype=mg.float64)).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_ufuncs_and_functions():
    t = mg.tensor([1.0, 4.0])
    for function in (
        np.exp,
        np.log,
        np.sqrt,
        np.sin,
        np.tanh,
        np.abs,
        np.negative,
        np.square,
        np.floor,
        np.isnan,
    ):
        result = function(t)
        assert isinstance(result, mg.Tensor)
        np.testing.assert_allclose(result.numpy(), function(t.numpy()), rtol=1e-6)
    assert np.exp(mg.ones(2, requires_grad=True)).requires_grad
    assert float(np.sum(t)) == 5.0
    assert np.concatenate([t, t]).shape == (4,)
    assert np.allclose(t, [1.0, 4.0])
    with pytest.raises(DTypeError, match=r"numpy\.copysign"):
        np.copysign(t, t)
    a = np.ones(2)
    with pytest.raises(DTypeError, match="with out"):
        a += t
    with pytest.raises(GradientError, match="detach"):
        np.median(mg.ones(2, requires_grad=True))


def test_arrays_out():
    t = mg.tensor([1.0, 2.0])
    assert np.shares_memory(t.numpy(), np.asarray(t))
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(t), t.numpy())
    r = mg.ones(2, requires_grad=True)
    for bad in (lambda: r.numpy(), lambda: np.asarray(r)):
        with pytest.raises(GradientError, match=r"detach\(\)"):
            bad()
    with mg.no_grad():
        assert r.numpy().tolist() == [1.0, 1.0]
    assert r.tolist() == [1.0, 1.0]
    assert r.sum().item() == 2.0


# -- copies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies(duplicate):
    t = mg.tensor([[1.0, 2.0]], requires_grad=True)
    (t * t).sum().backward()
    d = duplicate(t)
    assert d.tolist() == t.tolist()
    assert d.requires_grad
    assert d.is_leaf
    assert not np.shares_memory(d.detach().numpy(), t.detach().numpy())
    (d * 3.0).sum().backward()
    assert t.grad.tolist() == [[2.0, 4.0]]
    view = duplicate(t.detach()[:, 1:])
    assert view.tolist() == [[2.0]]
    assert type(view) is mg.Tensor
    with pytest.raises(GradientError):
        duplicate(t * 2.0)


def test_deepcopy_keeps_sharing_within_one_copy():
    t = mg.ones(2)
    a, b = copy.deepcopy([t, t])
    assert a is b
    assert a is not t


def test_grad_setter():
    t = mg.ones(2, requires_grad=True)
    t.grad = mg.zeros(2)
    assert t.grad.tolist() == [0.0, 0.0]
    for bad in (mg.ones(3), mg.ones(2, dtype=mg.float64)):
        with pytest.raises(ArgumentError, match="does not fit"):
            t.grad = bad
    with pytest.raises(GradientError):
        mg.ones(2).grad = mg.ones(2)
    assert mg.ones(2).grad is None


# -- movement, as far as it is not a law ------------------------------------------------------------------


def test_shapes():
    x = mg.arange(24).reshape(2, 3, 4)
    assert x.view(-1, 4).shape == (6, 4)
    assert x.flatten().shape == (24,)
    assert x.flatten(1).shape == (2, 12)
    assert x.flatten(0, 1).shape == (6, 4)
    assert x.unflatten(2, (2, -1)).shape == (2, 3, 2, 2)
    assert x.permute(2, 0, 1).shape == (4, 2, 3)
    assert x.transpose(0, -1).shape == (4, 3, 2)
    assert x.movedim(0, -1).shape == (3, 4, 2)
    assert x.unsqueeze(0).unsqueeze(-1).shape == (1, 2, 3, 4, 1)
    assert x.unsqueeze(0).squeeze().shape == (2, 3, 4)
    assert x[:, :1].squeeze(1).shape == (2, 4)
    assert x[:1].expand(5, -1, -1).shape == (5, 3, 4)
    assert mg.broadcast_to(mg.ones(4), (2, 4)).shape == (2, 4)
    assert [p.shape[0] for p in mg.arange(10).split(4)] == [4, 4, 2]
    assert [p.shape[0] for p in mg.arange(10).split([1, 9])] == [1, 9]
    assert [p.shape[0] for p in mg.arange(10).chunk(3)] == [4, 4, 2]
    assert len(x.unbind(2)) == 4
    assert mg.stack([x, x], 1).shape == (2, 2, 3, 4)
    assert mg.cat([x, x], -1).shape == (2, 3, 8)
    assert x.flip(0, 2)[0, 0, 0].item() == 15
    assert x.sum(axis=0, keepdims=True).shape == (1, 3, 4)
    assert x.amax((0, 2)).tolist() == [15, 19, 23]
    assert x.max(1).values.shape == x.max(dim=1, keepdim=False).indices.shape == (2, 4)
    assert x.float().std(unbiased=False).item() == pytest.approx(np.arange(24).std())


def test_einsum_is_numpys():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 4)), rng.normal(size=(4, 5)), rng.normal(size=(2, 3, 4))
    for equation, operands in [
        ("ij,jk->ik", (a, b)),
        ("ij,jk", (a, b)),
        ("ij->ji", (a,)),
        ("ij->", (a,)),
        ("ii->i", (a[:, :3],)),
        ("ii", (a[:, :3],)),
        ("bij,jk->bik", (c, b)),
        ("...ij,jk->...ik", (c, b)),
        ("ij,ij->i", (a, a)),
        ("i,j->ij", (a[0], b[0])),
        ("bij,bij->b", (c, c)),
        ("ij,jk,kl->il", (a, b, b.T)),
        ("...i->...", (c,)),
        ("bij,kj->bki", (c, a)),
        ("i,i", (a[0], a[1])),
    ]:
        got = mg.einsum(equation, *(mg.tensor(x) for x in operands))
        np.testing.assert_allclose(got.numpy(), np.einsum(equation, *operands), atol=1e-12, err_msg=equation)


def test_methods_that_come_later_come_once_for_all_threads():
    code = (
        "import threading, minigrad as mg\n"
        "x, errors = mg.ones(2), []\n"
        "def use():\n"
        "    try: x.tan()\n"
        "    except AttributeError as error: errors.append(error)\n"
        "threads = [threading.Thread(target=use) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert not errors, errors\n"
        "assert not hasattr(x, 'no_such_method')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_default_dtype() -> None:
    integers, step = mg.arange(3), mg.compile(lambda x: x.sqrt() * 0.5 + mg.arange(0.0, 3.0))
    assert step(integers).dtype == mg.get_default_dtype() == mg.float32
    mg.set_default_dtype(mg.float64)
    try:
        made = [mg.tensor(1.5), mg.zeros(2), mg.rand(2), integers / 2, integers * 1.5, integers.exp()]
        made += [mg.nn.Linear(2, 2).weight, mg.nn.BatchNorm1d(2).running_var, step(integers)]
        assert {t.dtype for t in made} == {mg.get_default_dtype()} == {mg.float64}
        assert (mg.zeros(2, dtype=mg.float32) * 1.5).dtype == mg.float32
        assert repr(mg.tensor(1.5)) == "tensor(1.5)"
    finally:
        mg.set_default_dtype(mg.float32)
    assert step(integers).dtype == mg.float32
    with pytest.raises(DTypeError, match="float32 or float64"):
        mg.set_default_dtype(mg.int64)
    assert mg.zeros(1, dtype=float).dtype == mg.float64  # Python's float, as in numpy and PyTorch


def test_devices() -> None:
    x = mg.ones(2, device=mg.device("cuda" if mg.cuda.is_available() else "cpu"))
    assert x.device == mg.device("cpu") == "cpu"
    assert (x.device.type, x.device.index, mg.device("cuda", 1).index) == ("cpu", None, 1)
    assert repr(mg.device("cuda:0")) == "device(type='cuda', index=0)"
    with pytest.raises(ArgumentError, match="no device 'cuda'"):
        x.to(mg.device("cuda"))
    with pytest.raises(ArgumentError, match="no device"):
        mg.nn.Linear(1, 1).cpu().cuda()


def test_switches_as_statements() -> None:
    w = mg.ones(1, requires_grad=True)

    def statements() -> None:
        mg.set_grad_enabled(False)
        assert not (w * 2).requires_grad
        with mg.set_grad_enabled(True):
            assert (w * 2).requires_grad
        assert not (w * 2).requires_grad

    contextvars.copy_context().run(statements)
    assert not mg.set_grad_enabled(False)(lambda: w * 2)().requires_grad
    assert (w * 2).requires_grad
    with mg.autograd.set_detect_anomaly(True), pytest.raises(mg.Error, match="NaN"):
        (w - w) / (w - w)


def test_multinomial() -> None:
    mg.manual_seed(0)
    weights = mg.tensor([[1.0, 0.0, 3.0, 6.0], [0.0, 0.0, 5.0, 0.0]])
    draws = mg.multinomial(weights, 4000, replacement=True)
    assert draws.dtype == mg.int64
    assert draws[0].bincount(minlength=4).tolist() == pytest.approx([400, 0, 1200, 2400], abs=120)
    assert set(draws[1].tolist()) == {2}
    orders = mg.multinomial(weights[:1].expand(4000, 4), 3)
    assert (orders.sort(1)[0] == mg.tensor([0, 2, 3])).all()
    assert orders[:, 0].bincount().tolist() == pytest.approx([400, 0, 1200, 2400], abs=120)
    later = orders[orders[:, 0] == 3, 1]  # of what is left, 1 and 3, a quarter
    assert (later == 0).float().mean().item() == pytest.approx(0.25, abs=0.04)
    again = mg.compile(lambda p: mg.multinomial(p, 4000, replacement=True))
    mg.manual_seed(0)
    assert (again(weights) == draws).all()
    for wrong, count, message in (
        (weights, 2, "2 samples of 1 places"),
        (-weights, 1, "negative"),
        (weights * 0, 1, "no weight is positive"),
        (weights.long(), 1, "dtype int64"),
        (weights, 0, "num_samples is 0"),
    ):
        with pytest.raises(mg.Error, match=message):
            mg.multinomial(wrong, count)


def test_draws_in_place() -> None:
    mg.manual_seed(0)
    x = mg.zeros(4000)
    assert x.exponential_(2.0).mean().item() == pytest.approx(0.5, abs=0.03)
    assert x.bernoulli_(0.3).mean().item() == pytest.approx(0.3, abs=0.03)
    assert {*x.random_(1, 4).tolist()} == {1, 2, 3}
    assert {*mg.randint_like(x, 2).tolist()} == {0, 1}
