"""nn.functional against PyTorch: values, gradients and second gradients, in float64.

Skipped where torch is not installed.  `agree` runs one function in both libraries on the same
numbers and compares y, the gradient of <u, y>, and the gradient of <v, that gradient>.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import minigrad as mg  # noqa: E402
from minigrad.nn import functional as F  # noqa: E402
from minigrad.nn import init  # noqa: E402

#: Edge cases here are what the losses warn of, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*(is NaN|log-probabilities)")

TF = torch.nn.functional
TOLERANCE = 1e-9


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def close(ours: Any, theirs: Any, what: str, tolerance: float = TOLERANCE) -> None:
    a = ours.detach().numpy() if isinstance(ours, mg.Tensor) else np.asarray(ours)
    b = theirs.detach().numpy(force=True)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, torch has {b.shape}"
    if a.dtype.kind != "f":
        assert np.array_equal(a, b), what
        return
    assert np.array_equal(np.isnan(a), np.isnan(b)), f"{what}: NaN at different places"
    finite = np.isfinite(b)
    assert np.array_equal(a[~finite & ~np.isnan(b)], b[~finite & ~np.isnan(b)]), what
    scale = 1.0 + (np.abs(b[finite]).max() if finite.any() else 0.0)
    assert not finite.any() or np.abs(a[finite] - b[finite]).max() <= tolerance * scale, what


def agree(
    ours: Any, theirs: Any, *arrays: Any, seed: int = 0, second: bool = True, tolerance: float = TOLERANCE
) -> None:
    """Compare two functions of the same arrays; float64 arrays are differentiated by."""
    rng = np.random.default_rng(seed)
    moving = [isinstance(a, np.ndarray) and a.dtype == np.float64 for a in arrays]
    xs = [
        mg.tensor(a, requires_grad=m) if isinstance(a, np.ndarray) else a
        for a, m in zip(arrays, moving, strict=True)
    ]
    ts = [
        torch.tensor(a, requires_grad=m) if isinstance(a, np.ndarray) else a
        for a, m in zip(arrays, moving, strict=True)
    ]
    y, t = ours(*xs), theirs(*ts)
    close(y, t, "value", tolerance)
    x_leaves = [x for x, m in zip(xs, moving, strict=True) if m]
    t_leaves = [x for x, m in zip(ts, moving, strict=True) if m]
    if not y.requires_grad:
        assert not t.requires_grad
        return
    u = rng.normal(size=y.shape)
    gx = mg.autograd.grad(y, x_leaves, mg.tensor(u), create_graph=True, materialize_grads=True)
    gt = torch.autograd.grad(
        t, t_leaves, torch.tensor(u).reshape(t.shape), create_graph=second, materialize_grads=True
    )
    for i, (a, b) in enumerate(zip(gx, gt, strict=True)):
        close(a, b, f"gradient of input {i}", tolerance)
    if not second or not any(b.requires_grad for b in gt):
        return
    vs = [rng.normal(size=a.shape) for a in gx]
    inner = sum((a * mg.tensor(v)).sum() for a, v in zip(gx, vs, strict=True))
    outer = sum((b * torch.tensor(v)).sum() for b, v in zip(gt, vs, strict=True))
    if not inner.requires_grad:
        zero = torch.autograd.grad(outer, t_leaves, materialize_grads=True)
        assert all(not z.any() for z in zero), "torch has a second gradient"
        return
    hx = mg.autograd.grad(inner, x_leaves, materialize_grads=True)
    ht = torch.autograd.grad(outer, t_leaves, materialize_grads=True)
    for i, (a, b) in enumerate(zip(hx, ht, strict=True)):
        close(a, b, f"second gradient of input {i}", tolerance)


def numbers(*shape: int, seed: int = 0, away: float = 0.0) -> Any:
    """Normal numbers, at least `away` from 0."""
    x = np.random.default_rng(seed + 100 * len(shape)).normal(size=shape)
    return np.where(np.abs(x) < away, np.copysign(away, x), x)


few = settings(max_examples=100, deadline=None, derandomize=True)

# -- activations -----------------------------------------------------------------------------------

ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "relu": (F.relu, TF.relu),
    "leaky_relu": (F.leaky_relu, TF.leaky_relu),
    "leaky_relu 0.3": (lambda x: F.leaky_relu(x, 0.3), lambda x: TF.leaky_relu(x, 0.3)),
    "elu": (lambda x: F.elu(x, 0.7), lambda x: TF.elu(x, 0.7)),
    "selu": (F.selu, TF.selu),
    "gelu": (F.gelu, TF.gelu),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), lambda x: TF.gelu(x, approximate="tanh")),
    "silu": (F.silu, TF.silu),
    "softplus": (F.softplus, TF.softplus),
    "softplus 3, 2": (lambda x: F.softplus(x, 3.0, 2.0), lambda x: TF.softplus(x, 3.0, 2.0)),
    "logsigmoid": (F.logsigmoid, TF.logsigmoid),
    "sigmoid": (F.sigmoid, torch.sigmoid),
    "tanh": (F.tanh, torch.tanh),
    "softsign": (F.softsign, TF.softsign),
    "mish": (F.mish, TF.mish),
    "relu6": (F.relu6, TF.relu6),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 0.7), lambda x: TF.hardtanh(x, -0.5, 0.7)),
    "glu": (lambda x: F.glu(x, 1), lambda x: TF.glu(x, 1)),
    "softmax": (lambda x: F.softmax(x, dim=1), lambda x: TF.softmax(x, dim=1)),
    "softmin": (lambda x: F.softmin(x, dim=0), lambda x: TF.softmin(x, dim=0)),
    "log_softmax": (lambda x: F.log_softmax(x, dim=-2), lambda x: TF.log_softmax(x, dim=-2)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    agree(*ACTIVATIONS[name], numbers(3, 4, 2, away=0.01) * 3.0)


# Where torch itself is not finite: Inf times 0 in its derivatives.
_LIMITS = [x for x in ACTIVATIONS if x not in ("glu", "mish")]


@pytest.mark.parametrize("name", _LIMITS)
def test_activation_extremes(name: str) -> None:
    x = np.array([[-1e30, -1e3], [-50.0, -20.0], [20.0, 50.0], [1e3, 1e30]])
    agree(*ACTIVATIONS[name], x, second=False)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu", "silu", "softplus", "softmax", "relu6"])
def test_nan_stays(name: str) -> None:
    ours, theirs = ACTIVATIONS[name]
    close(ours(mg.tensor([[1.0, np.nan]])), theirs(torch.tensor([[1.0, float("nan")]])), name, 1e-6)


def test_relu_at_zero_and_nan() -> None:
    x = np.array([0.0, -0.0, np.nan, 1.0])
    agree(F.relu, TF.relu, x, second=False)


def test_softmax_of_a_scalar_and_dtype() -> None:
    agree(lambda x: F.softmax(x, 0), lambda x: TF.softmax(x, 0), np.array(2.0), second=False)
    ours = F.softmax(mg.arange(4), dim=0, dtype=mg.float64)
    close(ours, TF.softmax(torch.arange(4), dim=0, dtype=torch.float64), "dtype")


# -- linear, convolution ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 0, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    args = [numbers(*shape), numbers(4, 5, seed=1), numbers(4, seed=2) if bias else None]
    agree(F.linear, TF.linear, *args)


@pytest.mark.filterwarnings("ignore:Using padding")
@few
@given(st.data())
def test_conv2d(data: st.DataObject) -> None:
    draw = data.draw
    small = st.integers(1, 3)
    groups, each, out = draw(st.integers(1, 3)), draw(small), draw(small)
    kernel, stride = (draw(small), draw(small)), (draw(small), draw(small))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding: Any = draw(
        st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from(["valid", "same"]))
    )
    if padding == "same":
        stride = (1, 1)
    size = draw(st.integers(5, 8)), draw(st.integers(5, 8))
    x = numbers(draw(small), groups * each, *size)
    w = numbers(groups * out, each, *kernel, seed=1)
    b = numbers(groups * out, seed=2) if draw(st.booleans()) else None
    rest = (stride, padding, dilation, groups)
    agree(lambda *a: F.conv2d(*a, *rest), lambda *a: TF.conv2d(*a, *rest), x, w, b)


@pytest.mark.filterwarnings("ignore:Using padding")
@few
@given(st.data())
def test_conv1d(data: st.DataObject) -> None:
    draw = data.draw
    groups, k = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    padding: Any = draw(st.sampled_from([0, 1, 2, "same", "valid"]))
    rest = (1 if padding == "same" else draw(st.integers(1, 3)), padding, draw(st.integers(1, 2)), groups)
    x, w, b = numbers(2, 2 * groups, 7), numbers(3 * groups, 2, k, seed=1), numbers(3 * groups, seed=2)
    agree(lambda *a: F.conv1d(*a, *rest), lambda *a: TF.conv1d(*a, *rest), x, w, b)


@few
@given(st.data())
def test_conv_transpose2d(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.integers(1, 2))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(pair), draw(pair), draw(pair)
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    padding = draw(st.tuples(st.integers(0, 1), st.integers(0, 1)))
    rest = (stride, padding, extra, groups, dilation)
    x, w = numbers(2, 2 * groups, 4, 3), numbers(2 * groups, 2, *kernel, seed=1)
    b = numbers(2 * groups, seed=2)
    agree(lambda *a: F.conv_transpose2d(*a, *rest), lambda *a: TF.conv_transpose2d(*a, *rest), x, w, b)


def test_convolution_without_batch() -> None:
    agree(F.conv2d, TF.conv2d, numbers(2, 5, 5), numbers(3, 2, 2, 2, seed=1))
    agree(F.conv1d, TF.conv1d, numbers(2, 5), numbers(3, 2, 2, seed=1))
    agree(F.conv_transpose1d, TF.conv_transpose1d, numbers(2, 5), numbers(2, 3, 2, seed=1))


# -- pooling ---------------------------------------------------------------------------------------


def _pool_options(draw: Any) -> tuple[Any, Any, Any]:
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride = draw(st.one_of(st.none(), st.tuples(st.integers(1, 3), st.integers(1, 3))))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    return kernel, stride, padding


@few
@given(st.data())
def test_max_pool2d(data: st.DataObject) -> None:
    kernel, stride, padding = _pool_options(data.draw)
    dilation = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    rest = (kernel, stride, padding, dilation, data.draw(st.booleans()))
    x = numbers(2, 2, 7, 6)
    if data.draw(st.booleans()):  # equal elements: the first counts
        x = np.round(x)
    agree(lambda a: F.max_pool2d(a, *rest), lambda a: TF.max_pool2d(a, *rest), x)
    ours = F.max_pool2d(mg.tensor(x), *rest, return_indices=True)
    theirs = TF.max_pool2d(torch.tensor(x), *rest, return_indices=True)
    close(ours[0], theirs[0], "values")
    close(ours[1], theirs[1], "indices")


def test_max_pool2d_of_nan_and_inf() -> None:
    x = numbers(1, 1, 6, 6)
    x[0, 0, 1, 1] = x[0, 0, 1, 0] = np.nan
    x[0, 0, 4:, 4:] = -np.inf
    for padding in (0, 1):
        ours = F.max_pool2d(mg.tensor(x), 2, 2, padding, return_indices=True)
        theirs = TF.max_pool2d(torch.tensor(x), 2, 2, padding, return_indices=True)
        close(ours[0], theirs[0], "values")
        close(ours[1], theirs[1], "indices")


@few
@given(st.data())
def test_avg_pool2d(data: st.DataObject) -> None:
    kernel, stride, padding = _pool_options(data.draw)
    divisor = data.draw(st.sampled_from([None, 1, 5]))
    rest = (kernel, stride, padding, data.draw(st.booleans()), data.draw(st.booleans()), divisor)
    agree(lambda a: F.avg_pool2d(a, *rest), lambda a: TF.avg_pool2d(a, *rest), numbers(2, 2, 7, 6))


@pytest.mark.parametrize("size", [1, 3, (2, 4), (None, 5), (7, 9)])
def test_adaptive_avg_pool2d(size: Any) -> None:
    agree(
        lambda x: F.adaptive_avg_pool2d(x, size),
        lambda x: TF.adaptive_avg_pool2d(x, size),
        numbers(2, 3, 7, 6),
    )


def test_pooling_in_one_dimension() -> None:
    for shape in ((2, 3, 9), (3, 9)):
        x = numbers(*shape)
        agree(lambda a: F.max_pool1d(a, 3, 2, 1), lambda a: TF.max_pool1d(a, 3, 2, 1), x)
        agree(lambda a: F.avg_pool1d(a, 3, 2, 1), lambda a: TF.avg_pool1d(a, 3, 2, 1), x)
        agree(lambda a: F.adaptive_avg_pool1d(a, 4), lambda a: TF.adaptive_avg_pool1d(a, 4), x)


# -- normalisation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4,), (3, 4)])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(sizes: tuple[int, ...], affine: bool) -> None:
    w, b = (numbers(*sizes, seed=1), numbers(*sizes, seed=2)) if affine else (None, None)
    agree(
        lambda x, w, b: F.layer_norm(x, sizes, w, b, 1e-3),
        lambda x, w, b: TF.layer_norm(x, sizes, w, b, 1e-3),
        numbers(2, 3, 4),
        w,
        b,
    )
    agree(lambda x, w: F.rms_norm(x, sizes, w), lambda x, w: TF.rms_norm(x, sizes, w), numbers(2, 3, 4), w)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (2, 3, 2, 3)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape: tuple[int, ...], training: bool, affine: bool) -> None:
    w, b = (numbers(3, seed=1), numbers(3, seed=2)) if affine else (None, None)
    mean, var = numbers(3, seed=3), numbers(3, seed=4) ** 2 + 0.5
    ours, theirs = [mg.tensor(mean), mg.tensor(var)], [torch.tensor(mean), torch.tensor(var)]
    agree(
        lambda x, w, b: F.batch_norm(x, *ours, w, b, training, 0.3, 1e-3),
        lambda x, w, b: TF.batch_norm(x, *theirs, w, b, training, 0.3, 1e-3),
        numbers(*shape) * 2.0 + 1.0,
        w,
        b,
    )
    close(ours[0], theirs[0], "running mean")
    close(ours[1], theirs[1], "running variance")
    if training:
        agree(
            lambda x: F.batch_norm(x, None, None, training=True),
            lambda x: TF.batch_norm(x, None, None, training=True),
            numbers(*shape),
        )


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_and_instance_norm(groups: int) -> None:
    x, w, b = numbers(2, 4, 3, 2), numbers(4, seed=1), numbers(4, seed=2)
    agree(
        lambda *a: F.group_norm(a[0], groups, *a[1:]), lambda *a: TF.group_norm(a[0], groups, *a[1:]), x, w, b
    )
    agree(
        lambda x, w, b: F.instance_norm(x, None, None, w, b),
        lambda x, w, b: TF.instance_norm(x, None, None, w, b),
        x,
        w,
        b,
    )
    ours, theirs = (
        [mg.zeros(4).double(), mg.ones(4).double()],
        [torch.zeros(4).double(), torch.ones(4).double()],
    )
    agree(lambda x: F.instance_norm(x, *ours), lambda x: TF.instance_norm(x, *theirs), x)
    close(ours[0], theirs[0], "running mean")
    close(ours[1], theirs[1], "running variance")
    agree(
        lambda x: F.instance_norm(x, *ours, use_input_stats=False),
        lambda x: TF.instance_norm(x, *theirs, use_input_stats=False),
        x,
    )


# -- embedding, padding, distances, attention --------------------------------------------------------


@pytest.mark.parametrize("padding_idx", [None, 1, -1])
def test_embedding(padding_idx: int | None) -> None:
    index = np.array([[0, 1, 1], [4, 3, 1]])
    agree(
        lambda i, w: F.embedding(i, w, padding_idx),
        lambda i, w: TF.embedding(i, w, padding_idx),
        index,
        numbers(5, 3),
    )


def test_embedding_max_norm() -> None:
    index, weight = np.array([0, 2, 2]), numbers(4, 3) * 2.0
    ours, theirs = mg.tensor(weight), torch.tensor(weight)
    y = F.embedding(mg.tensor(index), ours, max_norm=1.0)
    close(y, TF.embedding(torch.tensor(index), theirs, max_norm=1.0), "value")
    close(ours, theirs, "weight")


@pytest.mark.parametrize(
    ("sizes", "mode", "value"),
    [
        ((1, 2), "constant", None),
        ((1, 2, 0, 3), "constant", 1.5),
        ((-1, 2, 1, -2), "constant", float("inf")),
        ((1, 2), "reflect", None),
        ((1, 3, 2, 1), "reflect", None),
        ((3, 2), "replicate", None),
        ((1, 2, 2, 1), "circular", None),
    ],
)
def test_pad(sizes: Any, mode: str, value: Any) -> None:
    x = numbers(2, 3, 4) if len(sizes) == 2 else numbers(2, 3, 4, 4)
    agree(lambda a: F.pad(a, sizes, mode, value), lambda a: TF.pad(a, sizes, mode, value), x)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_normalize(p: float, dim: int) -> None:
    x = numbers(3, 4, 2, away=0.05)
    agree(lambda a: F.normalize(a, p, dim), lambda a: TF.normalize(a, p, dim), x)


def test_normalize_zero() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    agree(F.normalize, TF.normalize, x, second=False)


def test_cosine_similarity() -> None:
    agree(F.cosine_similarity, TF.cosine_similarity, numbers(3, 4), numbers(3, 4, seed=1))
    last = {"dim": -1}
    x, y = numbers(2, 3, 4), numbers(4, seed=1)
    agree(partial(F.cosine_similarity, **last), partial(TF.cosine_similarity, **last), x, y)


def test_one_hot() -> None:
    index = np.array([[0, 2], [1, 0]])
    for n in (-1, 5):
        close(F.one_hot(mg.tensor(index), n), TF.one_hot(torch.tensor(index), n), "one_hot")


@pytest.mark.parametrize("mask", [None, "causal", "bool", "float", "nowhere"])
def test_attention(mask: str | None) -> None:
    q, k, v = numbers(2, 3, 4, 5), numbers(2, 3, 6, 5, seed=1), numbers(2, 3, 6, 2, seed=2)
    m: Any = None
    if mask in ("bool", "nowhere"):
        m = numbers(4, 6, seed=3) > 0.0
        m[1] = mask == "bool"
    if mask == "float":
        m = numbers(4, 6, seed=3)
    agree(
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, is_causal=mask == "causal"),
        lambda q, k, v, m: TF.scaled_dot_product_attention(q, k, v, m, is_causal=mask == "causal"),
        q,
        k,
        v,
        m,
        second=mask != "nowhere",
    )


def test_attention_with_shared_heads() -> None:
    agree(
        lambda *a: F.scaled_dot_product_attention(*a, scale=0.3, enable_gqa=True),
        lambda *a: TF.scaled_dot_product_attention(*a, scale=0.3, enable_gqa=True),
        numbers(2, 4, 3, 5),
        numbers(2, 2, 6, 5, seed=1),
        numbers(2, 2, 6, 5, seed=2),
        second=False,  # torch's fused kernel has none
    )


# -- losses ----------------------------------------------------------------------------------------

REDUCTIONS = ("mean", "sum", "none")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.0}),
        ("smooth_l1_loss", {"beta": 0.3}),
        ("huber_loss", {}),
        ("huber_loss", {"delta": 0.4}),
    ],
)
def test_loss_of_numbers(name: str, options: dict[str, float], reduction: str) -> None:
    options = {**options, "reduction": reduction}  # type: ignore[dict-item]
    x, t = numbers(3, 4) * 2.0, numbers(3, 4, seed=1)
    agree(partial(getattr(F, name), **options), partial(getattr(TF, name), **options), x, t)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weighted_loss_of_numbers(name: str, reduction: str) -> None:
    x, t, w = numbers(3, 4) * 2.0, numbers(3, 4, seed=1), numbers(3, 4, seed=2) ** 2
    try:
        theirs = getattr(TF, name)(
            torch.tensor(x), torch.tensor(t), weight=torch.tensor(w), reduction=reduction
        )
    except TypeError:
        pytest.skip("this torch has no weight here")
    ours = getattr(F, name)(mg.tensor(x), mg.tensor(t), weight=mg.tensor(w), reduction=reduction)
    close(ours, theirs, "value")


@few
@given(st.data())
def test_classes(data: st.DataObject) -> None:
    draw = data.draw
    rest = draw(st.sampled_from([(), (2,), (2, 3)]))
    n, classes = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if not rest and draw(st.booleans()):
        x, target = rng.normal(size=(classes,)), np.array(rng.integers(0, classes))
    else:
        x, target = rng.normal(size=(n, classes, *rest)), rng.integers(0, classes, (n, *rest))
    ignore = draw(st.sampled_from([-100, 0, 1]))
    if ignore == -100 and draw(st.booleans()) and target.size > 1:
        target.flat[0] = -100
    options: Any = {
        "reduction": draw(st.sampled_from(REDUCTIONS)),
        "ignore_index": ignore,
        "weight": rng.uniform(0.5, 2.0, classes) if draw(st.booleans()) else None,
    }
    assume(options["reduction"] != "mean" or (target != ignore).any())

    def both(ours: Any, theirs: Any, more: Any) -> None:
        w = options["weight"]
        mine = {**options, **more, "weight": None if w is None else mg.tensor(w)}
        torchs = {**options, **more, "weight": None if w is None else torch.tensor(w)}
        agree(lambda a, t: ours(a, t, **mine), lambda a, t: theirs(a, t, **torchs), x, target)

    both(F.nll_loss, TF.nll_loss, {})
    both(F.cross_entropy, TF.cross_entropy, {"label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0]))})


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 4, 3)])
def test_cross_entropy_of_probabilities(
    reduction: str, smoothing: float, weighted: bool, shape: tuple[int, ...]
) -> None:
    x, t = numbers(*shape), np.abs(numbers(*shape, seed=1))
    w = np.array([0.5, 1.0, 2.0, 1.5])
    options: Any = {"reduction": reduction, "label_smoothing": smoothing}
    agree(
        lambda a, t: F.cross_entropy(a, t, mg.tensor(w) if weighted else None, **options),
        lambda a, t: TF.cross_entropy(a, t, torch.tensor(w) if weighted else None, **options),
        x,
        t,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_all_labels_ignored(reduction: str) -> None:
    x, t = numbers(2, 3), np.array([-100, -100])
    options = {"reduction": reduction}
    agree(partial(F.cross_entropy, **options), partial(TF.cross_entropy, **options), x, t, second=False)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pos_weighted", [False, True])
def test_two_outcomes(reduction: str, weighted: bool, pos_weighted: bool) -> None:
    rng = np.random.default_rng(0)
    t = rng.uniform(0.0, 1.0, (3, 4))
    w, p = (rng.uniform(0.5, 2.0, 4) if wanted else None for wanted in (weighted, pos_weighted))
    ours: Any = {"reduction": reduction, "weight": None if w is None else mg.tensor(w)}
    theirs: Any = {"reduction": reduction, "weight": None if w is None else torch.tensor(w)}
    if p is None:
        x = rng.uniform(0.05, 0.95, (3, 4))
        agree(partial(F.binary_cross_entropy, **ours), partial(TF.binary_cross_entropy, **theirs), x, t)
    else:
        ours["pos_weight"], theirs["pos_weight"] = mg.tensor(p), torch.tensor(p)
    agree(
        partial(F.binary_cross_entropy_with_logits, **ours),
        partial(TF.binary_cross_entropy_with_logits, **theirs),
        rng.normal(size=(3, 4)) * 3.0,
        t,
    )


def test_two_outcomes_at_the_limits() -> None:
    p, t = np.array([0.0, 1.0, 0.0, 1.0, 1e-50]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    x, y = mg.tensor(p, requires_grad=True), torch.tensor(p, requires_grad=True)
    a, b = F.binary_cross_entropy(x, mg.tensor(t)), TF.binary_cross_entropy(y, torch.tensor(t))
    close(a, b, "value")
    a.backward()
    b.backward()
    close(x.grad, y.grad, "gradient", 1e-8)  # torch rounds its 1e-12 to float32
    agree(
        lambda a: F.binary_cross_entropy_with_logits(a, mg.tensor(t)),
        lambda a: TF.binary_cross_entropy_with_logits(a, torch.tensor(t)),
        np.array([-800.0, 800.0, -800.0, 800.0, 0.0]),
        second=False,
    )


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.filterwarnings("ignore:reduction")
def test_kl_div(reduction: str, log_target: bool) -> None:
    x = numbers(3, 4)
    t = numbers(3, 4, seed=1) if log_target else np.abs(numbers(3, 4, seed=1)) + 0.1
    options: Any = {"reduction": reduction, "log_target": log_target}
    agree(lambda a, b: F.kl_div(a, b, **options), lambda a, b: TF.kl_div(a, b, **options), x, t)
    if not log_target:
        zero = np.array([0.0, 0.5])
        close(
            F.kl_div(mg.tensor(zero), mg.tensor(zero), reduction="none"),
            TF.kl_div(torch.tensor(zero), torch.tensor(zero), reduction="none"),
            "target 0",
        )


# -- init ------------------------------------------------------------------------------------------


def test_gains() -> None:
    names = ["linear", "conv2d", "conv_transpose1d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"]
    for name in names:
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(
        torch.nn.init.calculate_gain("leaky_relu", 0.3)
    )


@pytest.mark.parametrize("name", ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"])
def test_spread_of_weights(name: str) -> None:
    """The same standard deviation as torch's, within the error of 100,000 numbers."""
    mg.manual_seed(0)
    torch.manual_seed(0)
    for shape in ((400, 250), (50, 80, 5, 5)):
        ours = getattr(init, name)(mg.empty(*shape)).numpy()
        theirs = getattr(torch.nn.init, name)(torch.empty(*shape)).numpy()
        assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
        assert abs(ours.mean()) < 0.02 * ours.std()
        if "uniform" in name:
            assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=1e-3)
