"""Values, dtypes and gradients beside PyTorch's, function by function, over shapes and dtypes.

A row is a name and a program of (module, tensors): the same program runs with `minigrad` and with
`torch` in the place of the module.
"""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

RNG = np.random.default_rng(0)
SHAPES = [(3, 4), (), (0, 3), (2, 1, 5), (7,)]
DTYPES = ["float64", "float32"]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}


def wide(shape, rng):
    return rng.normal(size=shape) * 2.0


def positive(shape, rng):
    return rng.uniform(0.3, 3.0, shape)


def distinct(shape, rng):
    n = int(np.prod(shape))
    return (rng.permutation(n).reshape(shape) - n / 2.0) / 3.0 + 0.1


UNARY = {
    "abs": (lambda m, x: m.abs(x), wide),
    "neg": (lambda m, x: -x, wide),
    "exp": (lambda m, x: x.exp(), wide),
    "log": (lambda m, x: m.log(x), positive),
    "log1p": (lambda m, x: x.log1p(), positive),
    "expm1": (lambda m, x: x.expm1(), wide),
    "sqrt": (lambda m, x: x.sqrt(), positive),
    "rsqrt": (lambda m, x: m.rsqrt(x), positive),
    "square": (lambda m, x: m.square(x), wide),
    "reciprocal": (lambda m, x: m.reciprocal(x), positive),
    "sin": (lambda m, x: x.sin(), wide),
    "cos": (lambda m, x: x.cos(), wide),
    "tanh": (lambda m, x: x.tanh(), wide),
    "sigmoid": (lambda m, x: m.sigmoid(x), wide),
    "erf": (lambda m, x: m.erf(x), wide),
    "floor": (lambda m, x: x.floor(), wide),
    "ceil": (lambda m, x: x.ceil(), wide),
    "trunc": (lambda m, x: m.trunc(x), wide),
    "round": (lambda m, x: x.round(), wide),
    "round decimals": (lambda m, x: m.round(x, decimals=1), wide),
    "sign": (lambda m, x: m.sign(x), wide),
    "clamp": (lambda m, x: x.clamp(-0.5, 1.0), wide),
    "clamp min": (lambda m, x: m.clamp(x, min=0.3), wide),
    "clamp max": (lambda m, x: m.clamp(x, max=0.3), wide),
    "relu": (lambda m, x: x.relu(), wide),
    "pow 2": (lambda m, x: x**2, wide),
    "pow 3": (lambda m, x: x**3, wide),
    "pow -1": (lambda m, x: x**-1, positive),
    "pow 0.5": (lambda m, x: x**0.5, positive),
    "pow 0": (lambda m, x: x**0, wide),
    "pow 1.7": (lambda m, x: m.pow(x, 1.7), positive),
    "rpow": (lambda m, x: 2.0**x, wide),
    "radd": (lambda m, x: 3 + x, wide),
    "rsub": (lambda m, x: 3.5 - x, wide),
    "rdiv": (lambda m, x: 3.5 / x, positive),
    "floor division": (lambda m, x: x.detach() // 0.7, wide),
    "remainder": (lambda m, x: x % 0.7, wide),
    "div floor": (lambda m, x: m.div(x, 0.7, rounding_mode="floor"), wide),
    "div trunc": (lambda m, x: m.div(x, 0.7, rounding_mode="trunc"), wide),
    "add alpha": (lambda m, x: m.add(x, x, alpha=2), wide),
    "sub alpha": (lambda m, x: x.sub(x, alpha=3), wide),
    "sum": (lambda m, x: x.sum(), wide),
    "sum last": (lambda m, x: x.sum(-1), wide),
    "sum keep": (lambda m, x: m.sum(x, dim=0, keepdim=True), wide),
    "mean": (lambda m, x: x.mean(), wide),
    "mean last": (lambda m, x: m.mean(x, -1), wide),
    "prod": (lambda m, x: x.prod(), wide),
    "cumsum": (lambda m, x: x.cumsum(-1), wide),
    "logsumexp": (lambda m, x: x.logsumexp(-1), wide),
    "flatten": (lambda m, x: x.flatten(), wide),
    "reshape": (lambda m, x: x.reshape(-1), wide),
    "unsqueeze": (lambda m, x: x.unsqueeze(-1), wide),
    "squeeze": (lambda m, x: x.squeeze(), wide),
    "stack": (lambda m, x: m.stack([x, x * 2], 0), wide),
    "where": (lambda m, x: m.where(x > 0, x * x, -x), wide),
    "where number": (lambda m, x: m.where(x > 0, x, 0.0), wide),
    "masked_fill": (lambda m, x: x.masked_fill(x > 0, 3.0), wide),
    "ellipsis": (lambda m, x: x[..., None], wide),
    "softmax": (lambda m, x: m.softmax(x, -1), wide),
    "log_softmax": (lambda m, x: m.log_softmax(x, -1), wide),
    "double": (lambda m, x: x.double() * 2.0, wide),
    "detached product": (lambda m, x: x.detach() * x, wide),
}

BINARY = {
    "add": (lambda m, x, w: x + w, wide),
    "sub": (lambda m, x, w: m.sub(x, w), wide),
    "mul": (lambda m, x, w: x * w, wide),
    "true_divide": (lambda m, x, w: m.true_divide(x, w), positive),
    "pow": (lambda m, x, w: x**w, positive),
    "maximum": (lambda m, x, w: m.maximum(x, w), wide),
    "minimum": (lambda m, x, w: m.minimum(x, w), wide),
    "maximum of equals": (lambda m, x, w: m.maximum(x, x.detach() + 0.0 * w), wide),
    "remainder": (lambda m, x, w: m.remainder(x, w), positive),
    "where": (lambda m, x, w: m.where(x > w, x, w), wide),
    "floor_divide": (lambda m, x, w: m.floor_divide(x.detach(), w.detach()) + 0.0 * x, positive),
}
BROADCAST = [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 3), (4, 1)), ((), (2, 3)), ((0, 3), (1, 3))]

#: Programs of two or three tensors of given shapes.
SHAPED = {
    "matmul": (lambda m, a, b: a @ b, [(3, 4), (4, 2)]),
    "matmul batched": (lambda m, a, b: m.matmul(a, b), [(2, 3, 4), (4, 2)]),
    "matmul broadcast": (lambda m, a, b: a @ b, [(2, 1, 3, 4), (5, 4, 2)]),
    "matrix vector": (lambda m, a, b: a @ b, [(3, 4), (4,)]),
    "vector matrix": (lambda m, a, b: a @ b, [(4,), (4, 3)]),
    "vector batch": (lambda m, a, b: a @ b, [(4,), (2, 4, 3)]),
    "batch vector": (lambda m, a, b: a @ b, [(2, 3, 4), (4,)]),
    "empty matmul": (lambda m, a, b: a @ b, [(3, 0), (0, 2)]),
    "mm": (lambda m, a, b: m.mm(a, b), [(3, 4), (4, 2)]),
    "bmm": (lambda m, a, b: m.bmm(a, b), [(2, 3, 4), (2, 4, 5)]),
    "mv": (lambda m, a, b: m.mv(a, b), [(3, 4), (4,)]),
    "dot": (lambda m, a, b: m.dot(a, b), [(4,), (4,)]),
    "outer": (lambda m, a, b: m.outer(a, b), [(4,), (3,)]),
    "einsum": (lambda m, a, b: m.einsum("bij,bkj->bik", a, b), [(2, 3, 4), (2, 5, 4)]),
    "einsum trace": (lambda m, a: m.einsum("ii->", a), [(3, 3)]),
    "einsum implicit": (lambda m, a, b: m.einsum("ij,jk", a, b), [(3, 4), (4, 2)]),
    "einsum ellipsis": (lambda m, a, b: m.einsum("...ij,jk->...ki", a, b), [(2, 3, 4), (4, 5)]),
    "einsum three": (lambda m, a, b, c: m.einsum("ij,jk,kl->il", a, b, c), [(2, 3), (3, 4), (4, 2)]),
    "cat": (lambda m, a, b: m.cat([a, b, a], 1), [(2, 3), (2, 4)]),
    "split": (lambda m, a: m.cat([p * i for i, p in enumerate(a.split(2, 1))], 1), [(3, 5)]),
    "chunk": (lambda m, a: m.cat([p * i for i, p in enumerate(a.chunk(3, 1))], 1), [(3, 7)]),
    "transpose": (lambda m, a: a.transpose(0, 2) * 2.0, [(2, 3, 4)]),
    "permute": (lambda m, a: a.permute(1, 2, 0).reshape(4, -1), [(2, 3, 4)]),
    "T": (lambda m, a: a.T @ a, [(3, 4)]),
    "expand": (lambda m, a: a.expand(5, -1, 4), [(3, 1)]),
    "broadcast_to": (lambda m, a: m.broadcast_to(a, (2, 3, 4)), [(3, 1)]),
    "flip": (lambda m, a: a.flip(0, 2), [(2, 3, 4)]),
    "tril": (lambda m, a: m.tril(a, -1), [(2, 4, 4)]),
    "triu": (lambda m, a: m.triu(a, 1), [(3, 5)]),
    "var": (lambda m, a: m.var(a, 1), [(3, 5)]),
    "var biased": (lambda m, a: a.var(1, unbiased=False), [(3, 5)]),
    "std": (lambda m, a: a.std(dim=0, keepdim=True), [(3, 5)]),
    "std of all": (lambda m, a: m.std(a), [(3, 5)]),
    "var correction": (lambda m, a: m.var(a, dim=(0, 1), correction=2), [(3, 5)]),
    "prod dim": (lambda m, a: a.prod(1), [(3, 5)]),
    "amax": (lambda m, a: a.amax((0, 2)), [(2, 3, 4)]),
    "amin": (lambda m, a: m.amin(a, 1, keepdim=True), [(2, 3, 4)]),
    "max": (lambda m, a: a.max(), [(3, 4)]),
    "max dim": (lambda m, a: m.max(a, 1)[0], [(3, 4)]),
    "min dim": (lambda m, a: a.min(dim=0, keepdim=True).values, [(3, 4)]),
    "max pair": (lambda m, a, b: m.max(a, b), [(3, 4), (3, 4)]),
    "logsumexp dims": (lambda m, a: m.logsumexp(a, (0, 1), keepdim=True), [(3, 4)]),
    "sort": (lambda m, a: a.sort(1, descending=True)[0], [(3, 4)]),
    "topk": (lambda m, a: m.topk(a, 2).values, [(3, 4)]),
    "slices": (lambda m, a: a[1:, ::2] * a[:1, 1], [(3, 4)]),
    "diagonal": (lambda m, a: a.diagonal(1, 0, 1), [(3, 4)]),
    "unbind": (lambda m, a: a.unbind(1)[2] * a.unbind(1)[0], [(3, 4)]),
    "in place": (lambda m, a: (a * 2.0).add_(1.0).mul_(3.0).exp_(), [(3,)]),
    "view assignment": (lambda m, a, b: _assigned(a * 1.0, b), [(3, 4), (4,)]),
    "movedim": (lambda m, a: m.movedim(a, 0, -1) * 1.0, [(2, 3, 4)]),
    "unflatten": (lambda m, a: a.unflatten(1, (2, -1)), [(3, 4)]),
}


def _assigned(y, b):
    y[1] = b * 2.0
    y[:, 0] *= 3.0
    y[0, 1:].add_(b[1:])
    return y


def compare(program, arrays, dtype):
    """Values, dtype and first gradients of one program in both libraries."""
    ours = [mg.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=True) for a in arrays]
    y, z = program(mg, *ours), program(torch, *theirs)
    assert y.shape == tuple(z.shape)
    assert str(z.dtype) == f"torch.{y.dtype.name}"
    tolerance = TOLERANCE[dtype]
    got, wanted = y.detach().numpy(), z.detach().numpy()
    scale = 1.0 + np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale)
    if not z.requires_grad:
        assert not y.requires_grad
        return
    u = RNG.normal(size=y.shape).astype(dtype if y.dtype.name == dtype else "float64")
    y.backward(mg.tensor(u))
    z.backward(torch.tensor(u))
    for t, s in zip(ours, theirs, strict=True):
        wanted = np.zeros(t.shape) if s.grad is None else s.grad.numpy()
        got = np.zeros(t.shape) if t.grad is None else t.grad.numpy()
        scale = 1.0 + np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
        np.testing.assert_allclose(got, wanted, rtol=tolerance * 20, atol=tolerance * 20 * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, dtype):
    program, draw = UNARY[name]
    for shape in SHAPES:
        rng = np.random.default_rng(len(shape))
        compare(program, [draw(shape, rng).astype(dtype)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, dtype):
    program, draw = BINARY[name]
    for shapes in BROADCAST:
        rng = np.random.default_rng(len(shapes[0]))
        compare(program, [draw(s, rng).astype(dtype) for s in shapes], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHAPED)
def test_shaped(name, dtype):
    program, shapes = SHAPED[name]
    rng = np.random.default_rng(3)
    compare(program, [distinct(s, rng).astype(dtype) for s in shapes], dtype)


INTEGERS = {
    "add": lambda m, x, w: x + w,
    "mul": lambda m, x, w: x * w,
    "divide": lambda m, x, w: x / w,
    "floor divide": lambda m, x, w: x // w,
    "trunc": lambda m, x, w: m.div(x, w, rounding_mode="trunc"),
    "remainder": lambda m, x, w: x % w,
    "maximum": lambda m, x, w: m.maximum(x, w),
    "less": lambda m, x, w: x < w,
    "equal": lambda m, x, w: m.eq(x, w),
    "and": lambda m, x, w: m.logical_and(x, w),
    "not": lambda m, x, w: m.logical_not(x - x % 2),
    "sum": lambda m, x, w: x.sum(),
    "prod": lambda m, x, w: (x % 3).prod(),
    "cumsum": lambda m, x, w: x.cumsum(0),
    "exp": lambda m, x, w: (x * 1.0 / 50).exp(),
    "sqrt of integers": lambda m, x, w: w.sqrt(),
    "abs": lambda m, x, w: x.abs(),
    "square": lambda m, x, w: (x % 5) ** 2,
    "clamp": lambda m, x, w: x.clamp(2, 5),
    "where": lambda m, x, w: m.where(x > w, x, w),
    "argmax": lambda m, x, w: x.argmax(),
    "any": lambda m, x, w: (x > 100).any(),
    "all": lambda m, x, w: (x < 100).all(0),
    "sort": lambda m, x, w: x.sort()[0],
    "float": lambda m, x, w: x * 0.5,
    "mixed": lambda m, x, w: x.long() + w,
    "isfinite": lambda m, x, w: m.isfinite(x * 1.0),
}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name, dtype):
    rng = np.random.default_rng(2)
    low = 0 if dtype == "uint8" else -9
    x, w = rng.integers(low, 10, 7).astype(dtype), rng.integers(1, 5, 7).astype(dtype)
    program = INTEGERS[name]
    y = program(mg, mg.tensor(x), mg.tensor(w))
    z = program(torch, torch.tensor(x), torch.tensor(w))
    assert str(z.dtype) == f"torch.{y.dtype.name}"
    np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-6)


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -0.5, 100.0, -100.0, 1e30])


# sign(nan) is NaN, as in numpy and C's formulas, where torch says 0; the others are no elementwise functions.
ELEMENTWISE = [n for n in UNARY if n not in ("sign", "cumsum", "logsumexp", "softmax", "log_softmax")]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_special_values(name):
    """NaN, Inf, zeros and halves, elementwise: values only."""
    program, _ = UNARY[name]
    for value in SPECIAL:
        y = program(mg, mg.tensor([value], dtype="float64"))
        z = program(torch, torch.tensor([value], dtype=torch.float64))
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-12, atol=1e-14, err_msg=f"{name}({value})")


@pytest.mark.parametrize(
    "name", ["gather", "scatter_add", "index_select", "index_add", "advanced", "one_hot"]
)
def test_indexing(name):
    rng = np.random.default_rng(4)
    a, s = rng.normal(size=(4, 3)), rng.normal(size=(2, 3))
    index, rows = rng.integers(0, 4, (2, 3)), np.array([2, 0])
    programs = {
        "gather": lambda m, x, v: x.gather(0, m.tensor(index)) * v,
        "scatter_add": lambda m, x, v: m.scatter_add(x, 0, m.tensor(index), v),
        "index_select": lambda m, x, v: m.index_select(x, 0, m.tensor(rows)) * v,
        "index_add": lambda m, x, v: m.index_add(x, 0, m.tensor(rows), v),
        "advanced": lambda m, x, v: x[m.tensor(rows)] * v + x[1, m.tensor([0, 1, 1])],
        "one_hot": lambda m, x, v: (
            x.T
            @ (m.one_hot if m is mg else m.nn.functional.one_hot)(m.tensor([0, 2, 1, 1]), 3).double()
            * v.sum()
        ),
    }
    compare(programs[name], [a, s], "float64")


def test_creation():
    for program in (
        lambda m: m.zeros(2, 3),
        lambda m: m.ones((2,)),
        lambda m: m.full((2,), 1.5),
        lambda m: m.full((2,), 3),
        lambda m: m.full((2,), True),
        lambda m: m.eye(3, 4),
        lambda m: m.arange(5),
        lambda m: m.arange(1, 9, 2),
        lambda m: m.arange(0, 1, 0.1),
        lambda m: m.arange(5.0),
        lambda m: m.linspace(-1, 1, 7),
        lambda m: m.linspace(0, 1, 1),
        lambda m: m.tensor([[1, 2], [3, 4]]),
        lambda m: m.tensor([1.5]),
        lambda m: m.tensor(True),
        lambda m: m.tensor([]),
        lambda m: m.zeros_like(m.ones(2, dtype=m.int32)),
        lambda m: m.full_like(m.ones(2), 7),
        lambda m: m.arange(10, 0, -3),
        lambda m: m.empty(0, 3),
    ):
        y, z = program(mg), program(torch)
        assert y.shape == tuple(z.shape)
        assert str(z.dtype) == f"torch.{y.dtype.name}"
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-6, atol=1e-7)


def test_second_gradients():
    def program(m, x):
        h = (
            m.tanh(x @ x.T) * m.sigmoid(x.sum(1, keepdim=True))
            + (x**3).mean()
            + x.var()
            + x.logsumexp(0).sum()
        )
        return (h / (1.0 + m.exp(-h * h))).sum()

    a = RNG.normal(size=(3, 3))
    x, s = mg.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    (g,) = mg.autograd.grad(program(mg, x), x, create_graph=True)
    (h,) = torch.autograd.grad(program(torch, s), s, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), h.detach().numpy(), rtol=1e-10)
    (g2,) = mg.autograd.grad((g * g).sum(), x)
    (h2,) = torch.autograd.grad((h * h).sum(), s)
    np.testing.assert_allclose(g2.numpy(), h2.numpy(), rtol=1e-9)
