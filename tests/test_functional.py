"""nn.functional and nn.init without any other library: gradients, limits, edge cases, errors.

Gradients are checked against central differences, and operations with a slow, obvious `reference`
against that.  `tests/peers/test_functional_torch.py` compares the same functions with PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd import gradcheck, gradgradcheck
from minigrad.bind import apply
from minigrad.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from minigrad.ir import Spec
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.record import OPS

#: Edge cases here are what the losses warn of, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*(is NaN|log-probabilities)")

RECORDS = [
    name
    for name, op in OPS.items()
    if op.kernel.__module__ in ("minigrad.ops.nn", "minigrad.ops.convolution")
    or name
    in ("relu", "relu_grad", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "softplus", "logsigmoid")
    or name in ("rstd", "binary_cross_entropy")
]


def numbers(*shape: int, seed: int = 0, away: float = 0.0) -> mg.Tensor:
    """Normal float64 numbers that require grad, at least `away` from 0."""
    x = np.random.default_rng(seed + len(shape)).normal(size=shape)
    return mg.tensor(np.where(np.abs(x) < away, np.copysign(away, x), x), requires_grad=True)


# -- records ---------------------------------------------------------------------------------------


def test_the_records_are_there() -> None:
    assert {"conv2d", "max_pool2d_index", "avg_pool2d", "standardize", "softmax", "gelu"} <= set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_record(name: str) -> None:
    """Shape rule, reference, gradient and second gradient on the record's own samples."""
    op = OPS[name]
    assert op.samples is not None
    for inputs, attrs in op.samples(np.random.default_rng(0)):
        for dtype in (np.float32, np.float64):
            arrays = [np.asarray(x, dtype if np.asarray(x).dtype.kind == "f" else None) for x in inputs]
            y = np.asarray(op.kernel(*arrays, *attrs))
            assert op.infer([Spec(a.shape, a.dtype) for a in arrays], attrs) == Spec(y.shape, y.dtype)
            if op.reference is not None and y.size:
                expected = np.asarray(op.reference(*arrays, *attrs))
                limit = op.error * np.finfo(dtype).eps * np.abs(expected).max()
                assert np.abs(y - expected).max() <= limit
        xs = [
            mg.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f" and rule is not None)
            for x, rule in zip(inputs, op.rules, strict=True)
        ]
        if any(x.requires_grad and x.numel() for x in xs):

            def run(*args: mg.Tensor, attrs: Any = attrs) -> mg.Tensor:
                return apply(op, args, attrs)

            assert gradcheck(run, xs)
            assert gradgradcheck(run, xs)


@pytest.mark.parametrize("name", ["conv2d", "conv2d_input_grad", "conv2d_weight_grad", "avg_pool2d"])
def test_blocks_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels go through the batch in blocks; with blocks of one image the result is the same."""
    op = OPS[name]
    assert op.samples is not None
    samples = op.samples(np.random.default_rng(0))
    before = [op.kernel(*inputs, *attrs) for inputs, attrs in samples]
    monkeypatch.setattr("minigrad.ops.convolution.BLOCK", 1)
    for (inputs, attrs), y in zip(samples, before, strict=True):
        assert np.allclose(op.kernel(*inputs, *attrs), y, rtol=1e-12, atol=1e-12)


# -- composites ------------------------------------------------------------------------------------

_LABELS = mg.tensor([0, 2, 1])
_PROBABILITIES = mg.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8]], dtype=mg.float64)

COMPOSITES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "linear": (F.linear, (numbers(2, 3, 4), numbers(5, 4), numbers(5))),
    "layer_norm": (partial(F.layer_norm, normalized_shape=(4,)), (numbers(3, 4),)),
    "rms_norm": (lambda x, w: F.rms_norm(x, (4,), w), (numbers(3, 4), numbers(4))),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        (numbers(4, 3, 2), numbers(3), numbers(3, seed=1)),
    ),
    "batch_norm eval": (
        lambda x: F.batch_norm(x, mg.zeros(3).double(), mg.full((3,), 2.0).double()),
        (numbers(4, 3),),
    ),
    "group_norm": (lambda x, w: F.group_norm(x, 2, w), (numbers(2, 4, 3), numbers(4))),
    "instance_norm": (F.instance_norm, (numbers(2, 2, 4),)),
    "embedding": (lambda w: F.embedding(_LABELS, w), (numbers(4, 3),)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2, 1, 1), (numbers(1, 2, 4, 4),)),
    "conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1),
        (numbers(1, 2, 3, 3), numbers(2, 3, 3, 3), numbers(3)),
    ),
    "conv1d": (lambda x, w: F.conv1d(x, w, padding="same"), (numbers(2, 2, 5), numbers(3, 2, 3))),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, 2), (numbers(1, 2, 5, 3),)),
    "pad": (lambda x: F.pad(x, (1, 2, -1, 1), value=3.0), (numbers(2, 3, 4),)),
    "pad reflect": (lambda x: F.pad(x, (2, 1), "reflect"), (numbers(2, 4),)),
    "normalize": (F.normalize, (numbers(3, 4, away=0.1),)),
    "cosine_similarity": (F.cosine_similarity, (numbers(3, 4), numbers(3, 4, seed=1))),
    "attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        (numbers(2, 3, 4), numbers(2, 3, 4, seed=1), numbers(2, 3, 2, seed=2)),
    ),
    "glu": (F.glu, (numbers(3, 4),)),
    "mish": (F.mish, (numbers(3, 4),)),
    "mse_loss": (F.mse_loss, (numbers(3, 4), numbers(3, 4, seed=1))),
    "huber_loss": (partial(F.huber_loss, delta=0.5), (numbers(3, 4), numbers(3, 4, seed=1))),
    "smooth_l1_loss": (partial(F.smooth_l1_loss, beta=0.5), (numbers(3, 4), numbers(3, 4, seed=1))),
    "nll_loss": (lambda x: F.nll_loss(x, _LABELS, ignore_index=2), (numbers(3, 3),)),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, _LABELS, mg.tensor([1.0, 2.0, 0.5]).double(), label_smoothing=0.1),
        (numbers(3, 3),),
    ),
    "cross_entropy of probabilities": (lambda x: F.cross_entropy(x, _PROBABILITIES), (numbers(3, 3),)),
    "binary_cross_entropy_with_logits": (
        lambda x: F.binary_cross_entropy_with_logits(x, _PROBABILITIES, pos_weight=mg.tensor(2.0).double()),
        (numbers(3, 3),),
    ),
    "kl_div": (lambda x: F.kl_div(x, _PROBABILITIES, reduction="batchmean"), (numbers(3, 3),)),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_gradients(name: str) -> None:
    function, inputs = COMPOSITES[name]
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("name", COMPOSITES)
def test_float32_stays(name: str) -> None:
    function, inputs = COMPOSITES[name]
    if name in ("cross_entropy of probabilities", "kl_div", "binary_cross_entropy_with_logits"):
        pytest.skip("its target is float64")
    if name in ("batch_norm eval",):
        pytest.skip("its statistics are float64")
    assert function(*(x.detach().float() for x in inputs)).dtype == mg.float32


# -- limits ----------------------------------------------------------------------------------------

EVERYWHERE = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "softmax": partial(F.softmax, dim=0),
    "log_softmax": partial(F.log_softmax, dim=0),
    "with_logits": lambda x: F.binary_cross_entropy_with_logits(x, mg.ones_like(x) * 0.3, reduction="none"),
}


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_finite_everywhere(name: str, dtype: Any) -> None:
    """Values, gradients and second gradients of huge inputs are numbers."""
    x = mg.tensor([-1e38, -1e4, -90.0, -20.0, 0.0, 20.0, 90.0, 1e4, 1e38], dtype=dtype, requires_grad=True)
    y = EVERYWHERE[name](x)
    (g,) = mg.autograd.grad(y, x, mg.ones_like(y), create_graph=True)
    assert np.isfinite(y.detach().numpy()).all()
    assert np.isfinite(g.detach().numpy()).all()
    if g.requires_grad:
        (h,) = mg.autograd.grad(g, x, mg.ones_like(g), materialize_grads=True)
        assert np.isfinite(h.numpy()).all()


def test_relu() -> None:
    x = mg.tensor([-1.0, 0.0, 2.0, math.nan], requires_grad=True)
    F.relu(x).backward(mg.tensor([1.0, 1.0, 1.0, 1.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert math.isnan(F.relu(x).tolist()[3])
    x = mg.tensor([-1.0, 4.0], requires_grad=True)
    F.relu(x).sqrt().sum().backward()  # Inf at 0 must not become NaN
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.25]


def test_softmax_of_masked_scores() -> None:
    x = mg.tensor([[0.0, -math.inf, 0.0], [-math.inf, 1.0, -math.inf]], requires_grad=True)
    y = F.softmax(x, dim=1)
    assert y.tolist() == [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]
    y[:, 0].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.25, 0.0, -0.25], [0.0, 0.0, 0.0]]


def test_probability_of_all_classes_is_one() -> None:
    x = numbers(4, 7).detach() * 50.0
    assert np.allclose(F.softmax(x, dim=1).sum(1).numpy(), 1.0, atol=1e-12)
    assert np.allclose(F.log_softmax(x, dim=1).exp().numpy(), F.softmax(x, dim=1).numpy(), atol=1e-12)


def test_standardized_is_standard() -> None:
    y = F.layer_norm(numbers(5, 100).detach() * 7.0 + 1000.0, (100,), eps=0.0).numpy()
    assert np.allclose(y.mean(1), 0.0, atol=1e-10)
    assert np.allclose(y.std(1), 1.0, atol=1e-10)


def test_batch_norm_statistics() -> None:
    x = mg.tensor([[1.0], [3.0]], requires_grad=True)
    mean, var = mg.zeros(1), mg.ones(1)
    F.batch_norm(x, mean, var, training=True, momentum=0.5)
    assert mean.tolist() == [1.0]
    assert var.tolist() == [1.5]  # the variance without bias is 2
    F.batch_norm(x, mean, var, training=False)
    assert mean.tolist() == [1.0]
    assert not mean.requires_grad


def test_embedding_rows_without_gradient() -> None:
    w = mg.ones(3, 2, requires_grad=True)
    F.embedding(mg.tensor([[0, 1], [1, 1]]), w, padding_idx=1).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


def test_max_pool_routes_to_the_first_maximum() -> None:
    x = mg.ones(1, 1, 2, 2, requires_grad=True)
    y, index = F.max_pool2d(x, 2, return_indices=True)
    y.sum().backward()
    assert index.item() == 0
    assert x.grad is not None
    assert x.grad.tolist() == [[[[1.0, 0.0], [0.0, 0.0]]]]


def test_empty_batches() -> None:
    x = mg.zeros(0, 2, 4, 4)
    assert F.conv2d(x, mg.ones(3, 2, 2, 2)).shape == (0, 3, 3, 3)
    assert F.max_pool2d(x, 2).shape == (0, 2, 2, 2)
    assert F.avg_pool2d(x, 2).shape == (0, 2, 2, 2)
    assert F.layer_norm(mg.zeros(0, 3), (3,)).shape == (0, 3)
    assert F.cross_entropy(mg.zeros(0, 3), mg.zeros(0, dtype=mg.int64), reduction="sum").item() == 0.0


# -- dropout ---------------------------------------------------------------------------------------


def test_dropout() -> None:
    mg.manual_seed(0)
    x = mg.ones(10_000, requires_grad=True)
    y = F.dropout(x, 0.25)
    values = set(np.unique(y.detach().numpy()).tolist())
    assert values == {0.0, np.float32(1.0 / 0.75).item()}
    assert abs(y.mean().item() - 1.0) < 0.03
    y.sum().backward()
    assert x.grad is not None
    assert np.array_equal(x.grad.numpy(), y.detach().numpy())  # the same mask both ways
    mg.manual_seed(0)
    assert np.array_equal(F.dropout(x, 0.25).detach().numpy(), y.detach().numpy())


def test_dropout_edges() -> None:
    x = mg.ones(5, requires_grad=True)
    assert F.dropout(x, 0.9, training=False) is x
    assert F.dropout(x, 0.0) is x
    y = F.dropout(x, 1.0)
    assert y.tolist() == [0.0] * 5
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0] * 5
    z = mg.ones(1000)
    assert F.dropout(z, 0.5, inplace=True) is z
    assert 0.0 in z.tolist()
    assert F.dropout(mg.ones(3).double(), 0.5).dtype == mg.float64
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ArgumentError, match=r"dropout: p is .* from 0 to 1"):
            F.dropout(x, p)


def test_dropout_of_channels() -> None:
    mg.manual_seed(1)
    y = F.dropout2d(mg.ones(8, 16, 3, 3)).numpy()
    assert np.array_equal(y.min((2, 3)), y.max((2, 3)))
    assert len(np.unique(y)) == 2


def test_inplace_activations() -> None:
    for function in (F.relu, F.leaky_relu, F.elu, F.silu, F.relu6, F.selu, F.mish):
        x = mg.tensor([-1.0, 0.5, 7.0])
        expected = function(x).tolist()
        y = function(x, inplace=True)
        assert y is x
        assert x.tolist() == expected


@pytest.mark.parametrize(
    "function", [F.relu, F.leaky_relu, F.elu, F.celu, F.silu, F.relu6, F.hardswish, F.selu, F.mish]
)
@pytest.mark.parametrize("compiled", [False, True])
def test_inplace_activations_differentiate(function, compiled) -> None:
    def gradient(x, inplace):
        y = x * 1.0
        function(y, inplace=inplace).sum().backward()
        return x.grad

    run = mg.compile(gradient) if compiled else gradient
    points = [mg.tensor([-1.0, 0.5, 7.0], requires_grad=True) for _ in range(2)]
    assert run(points[0], True).tolist() == pytest.approx(gradient(points[1], False).tolist(), rel=1e-6)


# -- losses ----------------------------------------------------------------------------------------


def test_cross_entropy_by_hand() -> None:
    x = mg.tensor([[1.0, 2.0], [3.0, 0.0]], dtype=mg.float64)
    t = mg.tensor([0, 1])
    each = [math.log(math.exp(1) + math.exp(2)) - 1.0, math.log(math.exp(3) + 1.0)]
    assert F.cross_entropy(x, t, reduction="none").tolist() == pytest.approx(each)
    assert F.cross_entropy(x, t).item() == pytest.approx(sum(each) / 2)
    weight = mg.tensor([1.0, 3.0]).double()
    assert F.cross_entropy(x, t, weight).item() == pytest.approx((each[0] + 3 * each[1]) / 4)
    assert F.cross_entropy(x, t, ignore_index=0).item() == pytest.approx(each[1])
    assert F.cross_entropy(x, F.one_hot(t, 2).double()).item() == pytest.approx(sum(each) / 2)
    assert F.cross_entropy(x, t, reduce=False).tolist() == pytest.approx(each)
    assert F.cross_entropy(x, t, size_average=False).item() == pytest.approx(sum(each))


def test_labels_of_other_integers() -> None:
    x = numbers(2, 3).detach()
    expected = F.cross_entropy(x, mg.tensor([2, 0])).item()
    for dtype in (mg.int32, mg.uint8, mg.int8):
        assert F.cross_entropy(x, mg.tensor([2, 0], dtype=dtype)).item() == expected


def test_logits_agree_with_probabilities() -> None:
    x, t = numbers(3, 4).detach(), mg.rand(3, 4, dtype=mg.float64)
    a = F.binary_cross_entropy_with_logits(x, t)
    b = F.binary_cross_entropy(x.sigmoid(), t)
    assert a.item() == pytest.approx(b.item(), rel=1e-12)


def test_losses_are_traceable() -> None:
    """Labels whose values are not known yet take the general path."""
    from minigrad.execute import interpret
    from minigrad.trace import trace

    x, t = numbers(4, 3).detach(), mg.tensor([0, 2, -100, 1])
    for function in (F.cross_entropy, F.nll_loss, partial(F.cross_entropy, label_smoothing=0.1)):
        graph = trace(function, x, t)
        (y,) = interpret(graph)(x.numpy(), t.numpy())
        assert float(y) == pytest.approx(function(x, t).item(), rel=1e-12)


# -- bad input -------------------------------------------------------------------------------------

X = mg.ones(1, 3, 4, 4)
BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: F.softmax(mg.ones(3)), ArgumentError, r"softmax: no dim is given .*pass the dimension"),
    (lambda: F.softmax(mg.ones(3), 1), OutOfRangeError, "softmax: dim 1"),
    (lambda: F.gelu(mg.ones(3), "fast"), ArgumentError, "approximate is 'fast'"),
    (lambda: F.softplus(mg.ones(3), beta=0), ArgumentError, "beta is 0"),
    (lambda: F.glu(mg.ones(3)), ShapeError, "cannot be halved"),
    (lambda: F.linear(mg.ones(2, 3), mg.ones(5, 4)), ShapeError, r"linear: .*\(2, 3\).*\(5, 4\)"),
    (lambda: F.linear(mg.ones(2, 3), mg.ones(5, 3), mg.ones(3)), ShapeError, r"bias of shape \(3,\)"),
    (lambda: F.conv2d(X, mg.ones(2, 4, 3, 3)), ShapeError, "conv2d: an input with 3 channels"),
    (lambda: F.conv2d(X, mg.ones(2, 3, 5, 5)), ShapeError, "spans 5x5 does not fit .* of 4x4"),
    (lambda: F.conv2d(X, mg.ones(2, 3, 3, 3), mg.ones(3)), ShapeError, r"bias of shape \(3,\)"),
    (lambda: F.conv2d(X, mg.ones(2, 3, 3, 3).double()), DTypeError, "float32 and float64"),
    (lambda: F.conv2d(X, mg.ones(2, 3, 3, 3), stride=0), ArgumentError, "stride is 0"),
    (lambda: F.conv2d(X, mg.ones(2, 3, 3, 3), padding=(1, 2, 3)), ArgumentError, "padding is"),
    (lambda: F.conv2d(X, mg.ones(2, 3, 3, 3), padding="full"), ArgumentError, "padding is 'full'"),
    (lambda: F.conv2d(X, mg.ones(2, 3, 3, 3), stride=2, padding="same"), ArgumentError, "'same' with stride"),
    (lambda: F.conv2d(X, mg.ones(4, 1, 3, 3), groups=3), ShapeError, "cannot be divided into 3 groups"),
    (lambda: F.conv2d(X, mg.ones(4, 1, 3, 3), groups=0), ArgumentError, "groups is 0"),
    (lambda: F.conv2d(mg.ones(4, 4), mg.ones(1, 1, 3, 3)), ShapeError, r"an input of shape \(4, 4\)"),
    (lambda: F.conv_transpose2d(X, mg.ones(3, 1, 2, 2), output_padding=1), ArgumentError, "output_padding"),
    (lambda: F.max_pool2d(X, 5), ShapeError, "a window of 5x5 does not fit into an image of 4x4"),
    (lambda: F.max_pool2d(X, 2, padding=2), ArgumentError, "more than half"),
    (
        lambda: F.max_pool2d(mg.ones(1, 1, 2, 2), 2, padding=1, dilation=3),
        ArgumentError,
        "nothing but padding",
    ),
    (lambda: F.avg_pool2d(X, 2, divisor_override=0), ArgumentError, "divisor_override is 0"),
    (lambda: F.avg_pool2d(X.long(), 2), DTypeError, "floating point"),
    (lambda: F.layer_norm(mg.ones(2, 3), (4,)), ShapeError, r"normalized_shape \(4,\)"),
    (lambda: F.layer_norm(mg.ones(2, 3), 3, mg.ones(2)), ShapeError, r"weight of shape \(2,\)"),
    (lambda: F.batch_norm(mg.ones(1, 3), None, None, training=True), ArgumentError, "one value a channel"),
    (lambda: F.batch_norm(mg.ones(2, 3), None, None), ArgumentError, "no running statistics"),
    (lambda: F.batch_norm(mg.ones(2, 3), mg.ones(2), mg.ones(2)), ShapeError, "for 3 channels"),
    (lambda: F.group_norm(mg.ones(2, 3), 2), ArgumentError, "3 channels cannot be divided into 2 groups"),
    (lambda: F.embedding(mg.tensor([5]), mg.ones(5, 2)), OutOfRangeError, "index 5"),
    (lambda: F.embedding(mg.tensor([-1]), mg.ones(5, 2)), OutOfRangeError, "index -1"),
    (lambda: F.embedding(mg.tensor([0.5]), mg.ones(5, 2)), DTypeError, "float32"),
    (lambda: F.embedding(mg.tensor([0]), mg.ones(5, 2), sparse=True), ArgumentError, "sparse=True"),
    (lambda: F.pad(mg.ones(2, 3), (1,)), ArgumentError, "1 sizes"),
    (lambda: F.pad(mg.ones(2, 3), (3, 0), "reflect"), ArgumentError, "at most 2"),
    (lambda: F.pad(mg.ones(2, 3), (-2, -2)), ArgumentError, "remove more"),
    (lambda: F.mse_loss(mg.ones(3, 1), mg.ones(3)), ShapeError, r"\(3, 1\).*\(3,\).*target.reshape\(3, 1\)"),
    (lambda: F.l1_loss(mg.ones(3, 2), mg.ones(2)), ShapeError, r"\(3, 2\).*\(2,\)"),
    (lambda: F.mse_loss(mg.ones(3), mg.ones(3), reduction="avg"), ArgumentError, "reduction is 'avg'"),
    (
        lambda: F.cross_entropy(mg.ones(2, 3), mg.tensor([0, 3])),
        OutOfRangeError,
        "class label 3 .* 3 classes",
    ),
    (lambda: F.cross_entropy(mg.ones(2, 3), mg.tensor([0, -1])), OutOfRangeError, "class label -1"),
    (lambda: F.cross_entropy(mg.ones(2, 3), mg.tensor([0.0, 1.0])), DTypeError, r"class labels.*\.long\(\)"),
    (lambda: F.cross_entropy(mg.ones(2, 3), mg.ones(2, 2)), ShapeError, r"float target of shape \(2, 2\)"),
    (lambda: F.cross_entropy(mg.ones(2, 3), mg.ones(2, 3).long()), DTypeError, "probabilities are floats"),
    (lambda: F.cross_entropy(mg.ones(2, 3), mg.tensor([0, 1, 2])), ShapeError, r"labels of shape \(3,\)"),
    (lambda: F.cross_entropy(mg.ones(2, 3), mg.tensor([[0], [1]])), ShapeError, r"target.reshape\(2\)"),
    (lambda: F.cross_entropy(mg.ones(2, 3), mg.tensor([0, 1]), mg.ones(2)), ShapeError, "for 3 classes"),
    (
        lambda: F.cross_entropy(mg.ones(2, 3), mg.tensor([0, 1]), label_smoothing=2.0),
        ArgumentError,
        "label_sm",
    ),
    (lambda: F.binary_cross_entropy(mg.tensor([1.5]), mg.ones(1)), ArgumentError, "1.5 is no probability"),
    (lambda: F.binary_cross_entropy_with_logits(mg.ones(3, 1), mg.ones(3)), ShapeError, "target.reshape"),
    (lambda: F.binary_cross_entropy_with_logits(mg.ones(3), mg.ones(3), mg.ones(2)), ShapeError, "weight"),
    (lambda: init.xavier_uniform_(mg.ones(3)), ShapeError, "no fan"),
    (lambda: init.kaiming_normal_(mg.ones(3, 3), mode="both"), ArgumentError, "mode is 'both'"),
    (lambda: init.calculate_gain("swish"), ArgumentError, "nonlinearity is 'swish'"),
    (lambda: init.eye_(mg.ones(3)), ShapeError, "no matrix"),
    (lambda: init.trunc_normal_(mg.ones(3), a=1.0, b=0.0), ArgumentError, "a must be below b"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_input(case: int) -> None:
    function, kind, message = BAD[case]
    with pytest.raises(kind, match=message) as caught:
        function()
    assert "test_functional.py" in str(caught.value), "the error names the user's line"
    assert "\n" not in str(caught.value)


# -- init ------------------------------------------------------------------------------------------


def test_init_constants() -> None:
    assert init.constant_(mg.empty(2, 2), 3.0).tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert init.ones_(mg.empty(2)).tolist() == [1.0, 1.0]
    assert init.zeros_(mg.ones(2)).tolist() == [0.0, 0.0]
    assert init.eye_(mg.empty(2, 3)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def test_init_leaves_no_history() -> None:
    w = mg.ones(4, 4, requires_grad=True)
    for function in (init.uniform_, init.normal_, init.trunc_normal_, init.orthogonal_, init.xavier_normal_):
        assert function(w) is w
        assert w.is_leaf
        assert w.requires_grad


def test_init_distributions() -> None:
    mg.manual_seed(0)
    w = mg.empty(100_000)
    values = init.uniform_(w, -2.0, 4.0).numpy()
    assert -2.0 <= values.min() < -1.99
    assert 3.99 < values.max() < 4.0
    values = init.normal_(w, 1.0, 2.0).numpy()
    assert values.mean() == pytest.approx(1.0, abs=0.03)
    assert values.std() == pytest.approx(2.0, rel=0.02)
    w = mg.empty(200, 100)
    assert init.kaiming_normal_(w, nonlinearity="relu").numpy().std() == pytest.approx(
        (2 / 100) ** 0.5, rel=0.03
    )
    std = init.kaiming_normal_(w, mode="fan_out", nonlinearity="linear").numpy().std()
    assert std == pytest.approx((1 / 200) ** 0.5, rel=0.03)
    assert init.xavier_uniform_(w).numpy().std() == pytest.approx((2 / 300) ** 0.5, rel=0.03)


@pytest.mark.parametrize(("a", "b"), [(-2.0, 2.0), (-0.5, 3.0), (3.0, 4.0), (-0.1, 0.1)])
def test_truncated_normal(a: float, b: float) -> None:
    """The mean of the truncated distribution is (phi(a) - phi(b)) / (Phi(b) - Phi(a))."""
    mg.manual_seed(0)
    values = init.trunc_normal_(mg.empty(40_000, dtype=mg.float64), a=a, b=b).numpy()
    assert a <= values.min()
    assert values.max() <= b

    def density(x: float) -> float:
        return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)

    def below(x: float) -> float:
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    mean = (density(a) - density(b)) / (below(b) - below(a))
    assert values.mean() == pytest.approx(mean, abs=5 * values.std() / 200)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal_(mg.empty(*shape, dtype=mg.float64), gain=2.0).numpy().reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    assert np.allclose(product, 4.0 * np.eye(len(product)), atol=1e-12)


@pytest.mark.parametrize("backend", mg.backends())
@pytest.mark.parametrize("shape", [(3, 4), (200, 130)])
def test_cross_entropy_of_labels_is_that_of_log_softmax(backend: str, shape: tuple[int, int]) -> None:
    """One operation, or log_softmax and a look-up: the same numbers and gradients, NaN and Inf included."""
    rng = np.random.default_rng(8)
    logits = rng.normal(size=shape) * 5.0
    logits[0, 1], logits[1, 2], logits[2, 0] = np.nan, np.inf, -np.inf
    labels = mg.tensor(rng.integers(0, shape[1], shape[0]))
    weight = mg.tensor(rng.uniform(0.5, 2.0, shape[1]))
    for options in ({}, {"weight": weight}, {"ignore_index": int(labels[0])}, {"reduction": "none"}):
        with mg.backend(backend):
            x, z = (mg.tensor(logits, requires_grad=True) for _ in range(2))
            got = F.cross_entropy(x, labels, **options)  # type: ignore[arg-type]
            wanted = F.nll_loss(F.log_softmax(z, 1), labels, **options)  # type: ignore[arg-type]
            got.sum().backward()
            wanted.sum().backward()
        np.testing.assert_allclose(got.detach().numpy(), wanted.detach().numpy(), rtol=1e-12)
        assert x.grad is not None
        assert z.grad is not None
        np.testing.assert_allclose(x.grad.numpy(), z.grad.numpy(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("backend", mg.backends())
@pytest.mark.parametrize("bad", [64, -1, -(2**63), 2**63 - 1])
def test_labels_that_are_no_class_are_refused_at_any_size(backend: str, bad: int) -> None:
    labels = np.arange(100) % 64
    labels[50] = bad
    with mg.backend(backend):
        for dtype in ("float32", "float64"):
            with pytest.raises(OutOfRangeError, match=rf"cross_entropy: .*class label {bad} "):
                F.cross_entropy(mg.zeros(100, 64, dtype=dtype), mg.tensor(labels))
        small = mg.tensor((np.arange(100) % 64).astype(np.uint8))
        assert F.cross_entropy(mg.zeros(100, 64), small).item() == pytest.approx(np.log(64.0))


def test_functional_call_refuses() -> None:
    net = mg.nn.Linear(2, 2)
    held = dict(vars(net))
    for arguments, settings, message in (
        (({"w": net.weight}, mg.zeros(1, 2)), {}, "has no w"),
        (({"weight": net.weight}, mg.zeros(1, 2)), {"strict": True}, "bias not given"),
        ((({"bias": net.bias}, {"bias": net.bias}), mg.zeros(1, 2)), {}, "two of the dicts"),
        (({"weight": mg.zeros(3, 3)}, mg.zeros(1, 2)), {}, "linear"),
    ):
        with pytest.raises(mg.Error, match=message):
            mg.func.functional_call(net, *arguments, **settings)
        assert all(vars(net)[k] is v for k, v in held.items())
