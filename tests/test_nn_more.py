"""Modules beyond the samples: hooks, summaries, initial values, states, and what beginners do wrong."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from minigrad.nn import functional as F
from minigrad.ops import recurrent

# -- mistakes --------------------------------------------------------------------------------------


def logits(**settings: Any) -> mg.Tensor:
    """Some, at random."""
    return mg.randn(4, 3, dtype="float64", **settings)


LABELS = mg.tensor([0, 2, 1, 2])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: F.cross_entropy(F.softmax(logits(requires_grad=True), 1), LABELS), "result of a softmax"),
        (lambda: F.cross_entropy(F.softmax(logits(requires_grad=True), 1).view(4, 3), LABELS), "softmax"),
        (
            lambda: F.binary_cross_entropy_with_logits(F.sigmoid(logits(requires_grad=True)), mg.ones(4, 3)),
            "result of a sigmoid",
        ),
        (lambda: F.nll_loss(mg.ones(4, 3), LABELS), "log-probabilities"),
        (lambda: nn.NLLLoss()(F.softmax(logits(), 1), LABELS), "give the logits to cross_entropy"),
        (lambda: F.kl_div(mg.ones(4, 3), mg.ones(4, 3) / 3), "log-probabilities"),
        (
            lambda: F.mse_loss(mg.tensor([np.nan]), mg.zeros(1)),
            "the input has a NaN.*lower the learning rate",
        ),
        (lambda: F.mse_loss(mg.zeros(1), mg.tensor([np.nan])), "the target has a NaN.*clean the data"),
        (lambda: F.cross_entropy(logits(), LABELS * 0 + 1, ignore_index=1), "nothing counts"),
        (lambda: F.cross_entropy(mg.full((2, 3), np.inf), LABELS[:2]), "the loss is NaN"),
        (lambda: nn.LSTM(2, 3, dropout=0.5), "dropout with one layer"),
    ],
)
def test_mistakes_that_are_legal_are_noticed_once_a_line(call: Any, words: str) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            call()
    assert len(seen) == 1
    assert "test_nn_more.py" in str(seen[0].filename)
    with pytest.warns(UserWarning, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nn.BCELoss()(logits() * 9, mg.ones(4, 3).double()), ArgumentError, "with_logits"),
        (lambda: nn.MSELoss()(mg.zeros(4, 1), mg.zeros(4)), ShapeError, r"target.reshape\(4, 1\)"),
        (lambda: nn.MSELoss()(mg.zeros(4, 3), mg.zeros(5, 3)), ShapeError, r"\(4, 3\).*\(5, 3\)"),
        (lambda: nn.CrossEntropyLoss()(logits(), LABELS[:3]), ShapeError, r"\(4, 3\).*\(3,\)"),
        (lambda: nn.CrossEntropyLoss()(logits(), LABELS + 1), OutOfRangeError, "the class label 3"),
        (lambda: nn.CrossEntropyLoss(weight=[1.0, 2.0]), DTypeError, r"mg.tensor"),  # type: ignore[arg-type]
        (lambda: nn.CosineEmbeddingLoss()(logits(), logits(), LABELS), ArgumentError, "neither 1 nor -1"),
        (lambda: nn.CTCLoss()(logits(), [5], [4], [1]), OutOfRangeError, "the label 5"),
        (lambda: nn.CTCLoss()(logits(), [1], [9], [1]), ArgumentError, "input_lengths"),
        (lambda: nn.MultiheadAttention(7, 2), ArgumentError, "divisible"),
        (lambda: nn.MultiheadAttention(4, 2)(*[mg.zeros(3, 2, 5)] * 3), ShapeError, "last sizes"),
        (lambda: nn.LSTM(3, 4)(mg.zeros(5, 2, 2)), ShapeError, r"time, batch, 3"),
        (lambda: nn.LSTM(3, 4)(mg.zeros(5, 2, 3), mg.zeros(1, 2, 4)), ShapeError, r"pair \(h_0, c_0\)"),
        (lambda: nn.GRU(3, 4)(mg.zeros(5, 2, 3), mg.zeros(2, 2, 4)), ShapeError, "h_0 of shape"),
        (lambda: nn.GRU(3, 4)(mg.zeros(0, 2, 3)), ShapeError, "no steps"),
        (lambda: nn.RNN(3, 4, nonlinearity="gelu"), ArgumentError, "'tanh' or 'relu'"),
        (lambda: nn.Linear(2, 2, device="cuda"), ArgumentError, "cuda"),
        (lambda: nn.Linear(2, 2, dtype="int64"), DTypeError, "float32 or float64"),
        (lambda: nn.Embedding(3, 2, sparse=True), ArgumentError, "sparse=True is not supported"),
        (lambda: nn.Upsample(size=3, mode="cubic")(mg.zeros(1, 1, 2)), ArgumentError, "mode is 'cubic'"),
        (lambda: nn.Upsample(size=3, scale_factor=2)(mg.zeros(1, 1, 2)), ArgumentError, "exactly one"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="mirror"), ArgumentError, "padding_mode"),
        (lambda: nn.GroupNorm(3, 4), ArgumentError, "divides"),
        (lambda: nn.PReLU(3)(mg.zeros(2, 4)), ShapeError, "one a channel"),
        (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), ArgumentError, "'relu', 'gelu'"),
    ],
)
def test_mistakes_that_are_errors(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_no_notice_without_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = logits(requires_grad=True)
        F.cross_entropy(x, LABELS).backward()
        F.cross_entropy(F.relu(x), LABELS)
        F.nll_loss(F.log_softmax(x, 1), LABELS)
        F.kl_div(F.log_softmax(x, 1), mg.ones(4, 3).double() / 3)
        F.binary_cross_entropy(F.sigmoid(x), mg.ones(4, 3).double())


# -- hooks -----------------------------------------------------------------------------------------


def test_hooks_with_keywords_and_order() -> None:
    calls: list[str] = []

    class Twice(nn.Module):
        def forward(self, x: mg.Tensor, *, factor: float = 1.0) -> mg.Tensor:
            return x * factor

    m = Twice()
    m.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": 3.0}), with_kwargs=True)
    m.register_forward_hook(lambda m, args, y: calls.append("second"))
    m.register_forward_hook(lambda m, args, y: calls.append("first"), prepend=True)
    m.register_forward_hook(
        lambda m, args, kwargs, y: calls.append(f"{kwargs} {y is None}"), with_kwargs=True, always_call=True
    )
    assert m(mg.ones(1), factor=2.0).item() == 3.0
    assert calls == ["first", "second", "{'factor': 3.0} False"]
    calls.clear()
    m.register_forward_pre_hook(lambda m, args: ())
    with pytest.raises(TypeError):
        m(mg.ones(1))
    assert calls == ["{'factor': 3.0} True"]


def test_backward_hooks_see_and_change() -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.assign([[2.0, 3.0]])
    seen: list[Any] = []
    with layer.register_full_backward_hook(lambda m, gx, g: seen.append((gx[0], g[0].tolist()))):
        x = mg.ones(1, 2, requires_grad=True)
        layer(x).sum().backward()
        layer(mg.ones(1, 2)).sum().backward()  # no input wants a gradient
    assert seen[0][0].tolist() == [[2.0, 3.0]]
    assert [g for _, g in seen] == [[[1.0]], [[1.0]]]
    assert seen[1][0] is None
    with layer.register_full_backward_hook(lambda m, gx, g: (gx[0] * 10.0,)):
        x = mg.ones(1, 2, requires_grad=True)
        layer(x).sum().backward()
        assert x.grad.tolist() == [[20.0, 30.0]]
    pair = nn.Bilinear(2, 2, 1)
    with pair.register_full_backward_hook(lambda m, gx, g: (gx[0], gx[1] * 0.0)):
        a, b = mg.ones(1, 2, requires_grad=True), mg.ones(1, 2, requires_grad=True)
        pair(a, b).sum().backward()
        assert b.grad.tolist() == [[0.0, 0.0]]
        assert a.grad.abs().sum().item() > 0


# -- summary ---------------------------------------------------------------------------------------


def test_summary_counts_what_is_computed() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2, bias=False))
    net[3].weight.requires_grad_(False)
    before = mg.random.get_rng_state()
    found = nn.summary(net, (32, 4))
    assert mg.random.get_rng_state() == before
    assert net.training
    assert [row.kind for row in found.rows] == ["Sequential", "Linear", "ReLU", "Dropout", "Linear"]
    assert [row.output for row in found.rows] == [(32, 2), (32, 8), (32, 8), (32, 8), (32, 2)]
    assert [row.parameters for row in found.rows] == [0, 40, 0, 0, 16]
    assert (found.parameters, found.trainable, found.parameter_bytes) == (56, 40, 224)
    assert [row.flops for row in found.rows] == [0, 2 * 32 * 4 * 8 + 32 * 8, 32 * 8, 0, 2 * 32 * 8 * 2]
    product = 4 * (32 * 4 + 4 * 8 + 32 * 8)
    assert found.rows[1].bytes == product + 4 * (32 * 8 + 8 + 32 * 8)
    assert "total" in str(found)
    assert "trainable 40" in str(found)
    with pytest.raises(ArgumentError, match="exactly one"):
        nn.summary(net)


def test_summary_leaves_the_model_alone() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Embedding(5, 2)).train()
    net[1].eval()
    state = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    nn.summary(net[0], (4, 3))
    assert nn.summary(net[1], input_data=mg.tensor([1, 2])).rows[0].output == (2, 2)
    assert (net[0].training, net[1].training) == (True, False)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), state[k])
    assert net[0]._hooks is not None
    assert not net[0]._hooks.before
    shared = nn.ModuleList([nn.Linear(2, 2)] * 2)
    assert sum(p.numel() for p in shared.parameters()) == 6


# -- the rest --------------------------------------------------------------------------------------


def test_initial_values() -> None:
    kernel = nn.init.dirac_(mg.empty(4, 2, 3, 3), groups=2)
    x = mg.randn(1, 4, 5, 5)
    np.testing.assert_array_equal(F.conv2d(x, kernel, padding=1, groups=2).numpy(), x.numpy())
    w = nn.init.sparse_(mg.empty(10, 7), 0.25, std=2.0).numpy()
    assert ((w == 0).sum(0) == 3).all()
    assert 0.5 < w[w != 0].std() < 4.0
    for call in (
        lambda: nn.init.dirac_(mg.empty(2, 2)),
        lambda: nn.init.sparse_(mg.empty(2), 0.1),
        lambda: nn.init.sparse_(mg.empty(2, 2), 1.1),
    ):
        with pytest.raises((ShapeError, ArgumentError)):
            call()


def test_lists_of_parameters() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.many = nn.ParameterList([mg.ones(2), nn.Parameter(mg.zeros(3))])
            self.named = nn.ParameterDict({"a": mg.ones(1)})

    m = Mixed()
    assert list(m.state_dict()) == ["many.0", "many.1", "named.a"]
    m.many.append(mg.ones(4))
    m.many[0] = nn.Parameter(mg.zeros(2))
    m.named["b"] = mg.ones(1)
    assert len(m.many) == 3
    assert [p.shape for p in m.many[1:]] == [(3,), (4,)]
    assert m.named.pop("a").shape == (1,)
    assert list(m.named) == ["b"]
    assert all(p.requires_grad for p in m.parameters())
    with pytest.raises(OutOfRangeError):
        m.many[3]
    with pytest.raises(ArgumentError, match="it has: b"):
        m.named["c"]
    with pytest.raises(ArgumentError):
        m.many(1)


def test_state_names_everything_that_does_not_fit() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = dict(net.state_dict())
    state["0.weight"] = mg.zeros(1, 1)
    del state["1.running_mean"], state["0.bias"]
    state["extra"] = mg.zeros(1)
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    with pytest.raises(RuntimeError) as raised:
        net.load_state_dict(state)
    for word in ("0.bias", "1.running_mean", "extra", "0.weight has shape (1, 1) where (3, 2) is needed"):
        assert word in str(raised.value)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])
    assert net.get_buffer("1.running_var").shape == (3,)
    with pytest.raises(ArgumentError, match="no buffer"):
        net.get_buffer("1.weight")


def test_copies_are_apart() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8)
    encoder = nn.TransformerEncoder(layer, 2)
    first, second = (dict(m.named_parameters()) for m in encoder.layers)
    for name, p in first.items():
        np.testing.assert_array_equal(p.detach().numpy(), second[name].detach().numpy())
        assert p is not second[name]
    other = copy.deepcopy(encoder)
    other.layers[0].linear1.weight.assign(mg.zeros(8, 4))
    assert encoder.layers[0].linear1.weight.abs().sum().item() > 0


def test_random_layers_in_training() -> None:
    x = -mg.ones(2000)
    y = nn.RReLU(0.1, 0.3)(x).numpy()
    assert -0.3 <= y.min() < -0.29
    assert -0.11 < y.max() <= -0.1
    p = F.gumbel_softmax(mg.tensor([[0.0, np.log(3.0)]]).expand(4000, 2), hard=True)
    assert 0.72 < p.numpy()[:, 1].mean() < 0.78
    weights = nn.MultiheadAttention(4, 2, dropout=0.5)(*[mg.ones(6, 1, 4)] * 3)[1]
    assert len(np.unique(weights.detach().numpy().round(6))) > 1
    soft = mg.randn(3, 4, requires_grad=True)
    (F.gumbel_softmax(soft, tau=0.5, hard=True) * mg.arange(4.0)).sum().backward()
    assert soft.grad.abs().sum().item() > 0


def test_a_place_that_may_look_nowhere() -> None:
    x = mg.randn(3, 1, 4, requires_grad=True)
    blind = mg.tensor([[True] * 3, [False] * 3, [False] * 3])
    y, weights = nn.MultiheadAttention(4, 2)(x, x, x, attn_mask=blind)
    assert weights.tolist()[0][0] == [0.0, 0.0, 0.0]
    y.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("gates", [False, True])
def test_gradients_of_long_and_wide_recurrences(gates: bool, reverse: bool) -> None:
    """The kernels, which work in blocks of times, against the composition that they are derived from."""
    rng = np.random.default_rng(0)
    time, n, size = 7, 60, 96

    def draw(*shape: int) -> Any:
        return rng.normal(size=shape) * 0.3

    h, c = draw(n, size), draw(n, size)
    for parts, kernel, composed, forward in (
        (
            6,
            lambda g, y, w: recurrent._lstm_grad_kernel(g, y, c, w, reverse),
            lambda g, y, w: recurrent._lstm_grad_composed(g, y, mg.tensor(c), w, reverse),
            lambda w: recurrent._lstm_kernel(draw(time, n, 4 * size), h, c, w, reverse),
        ),
        (
            5,
            lambda g, y, w: recurrent._gru_grad_kernel(g, y, h, w, reverse),
            lambda g, y, w: recurrent._gru_grad_composed(g, y, mg.tensor(h), w, reverse),
            lambda w: recurrent._gru_kernel(draw(time, n, 3 * size), h, w, draw(3 * size), reverse),
        ),
        (
            1,
            lambda g, y, w: recurrent._rnn_grad_kernel(g, y, w, gates, reverse),
            lambda g, y, w: recurrent._rnn_grad_composed(g, y, w, gates, reverse),
            lambda w: recurrent._rnn_kernel(draw(time, n, size), h, w, gates, reverse),
        ),
    ):
        w = draw({6: 4, 5: 3, 1: 1}[parts] * size, size)
        y = forward(w)
        g = draw(time, n, parts * size)
        if not gates:
            g[:, :, : (parts - 2) * size if parts == 6 else (parts - 1) * size] = 0.0
        wanted = composed(mg.tensor(g), mg.tensor(y), mg.tensor(w)).numpy()
        np.testing.assert_allclose(kernel(g, y, w), wanted, rtol=1e-10, atol=1e-12)


def test_folding_undoes_unfolding() -> None:
    x = mg.randn(1, 2, 5, 6, dtype="float64")
    columns = F.unfold(x, (2, 3), padding=1)
    counts = F.fold(
        F.unfold(mg.ones(1, 2, 5, 6, dtype="float64"), (2, 3), padding=1), (5, 6), (2, 3), padding=1
    )
    np.testing.assert_allclose((F.fold(columns, (5, 6), (2, 3), padding=1) / counts).numpy(), x.numpy())
    np.testing.assert_array_equal(
        F.pixel_unshuffle(F.pixel_shuffle(mg.arange(24.0).reshape(1, 4, 2, 3), 2), 2).numpy().ravel(),
        np.arange(24.0),
    )


def test_the_examples_run() -> None:
    """A few steps of each; what they reach is for a quiet machine."""
    for name, options, check in (
        ("lstm_series", ["--steps", "3"], lambda found: found["linear"] < found["as now"]),
        ("char_transformer", ["--steps", "2"], lambda bits: 3.0 < bits < 8.0),
    ):
        path = Path(__file__).parent.parent / "examples" / f"{name}.py"
        if not path.exists():
            pytest.skip("examples are not here")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert check(module.main(options))


def test_lengths_that_do_not_fit() -> None:
    pack, x = nn.utils.rnn.pack_padded_sequence, mg.zeros(4, 2, 3)
    for lengths, message in (
        ([2, 4], "descending"),
        ([4, 0], "from 1 to 4"),
        ([5, 1], "from 1 to 4"),
        ([1], "for a batch of 2"),
        ([1.0, 2.0], "dtype float64"),
    ):
        with pytest.raises(mg.Error, match=message):
            pack(x, lengths)
    with pytest.raises(ShapeError, match="packed steps"):
        nn.GRU(2, 3)(pack(x, [4, 1]))
    with pytest.raises(ArgumentError, match="is_causal without attn_mask"):
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 1)(mg.zeros(2, 1, 4), is_causal=True)


def test_packed_in_a_compiled_step() -> None:
    gru, x = nn.GRU(3, 4, 2), mg.randn(4, 2, 3)

    def step(x, lengths):
        y, h = gru(nn.utils.rnn.pack_padded_sequence(x, lengths))
        gru.zero_grad()
        (y.data.square().sum() + h.sum()).backward()
        return gru.weight_hh_l1.grad

    compiled = mg.compile(step)
    for lengths in ([4, 2], [3, 3], [4, 2]):
        np.testing.assert_allclose(
            compiled(x, lengths).numpy(), step(x, lengths).numpy(), rtol=1e-5, atol=1e-6
        )
    assert compiled.traces == 2
