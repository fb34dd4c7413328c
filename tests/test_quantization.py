"""Quantization: schemes, observers, whole models, training, files, pruning, and what is refused."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import checkpoint, nn, quantization
from minigrad.errors import ArgumentError
from minigrad.ops import quantized as q8
from minigrad.quantization import scheme, training
from minigrad.quantizing import read

F = nn.functional

# -- the records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "zero", "weight"), [(255, 0, 127), (0, 255, 127), (255, 0, -127)])
def test_the_longest_sum_does_not_overflow(code, zero, weight):
    x = np.full((1, q8.LONGEST), code, np.uint8)
    w = np.full((1, q8.LONGEST), weight, np.int8)
    one, nothing = np.ones(1, np.float32), np.zeros(1, np.float32)
    y = q8.quantized_linear_float(
        *map(mg.as_tensor, (x, q8.pack_panels(w), one, nothing)), zero, -np.inf, np.inf
    )
    exact = (code - zero) * weight * q8.LONGEST
    assert abs(exact) < 2**31
    assert y.numpy().item() == np.float32(exact)


def test_one_product_more_is_refused():
    x, w = np.zeros((1, q8.LONGEST + 1), np.uint8), np.zeros((1, q8.LONGEST + 1), np.int8)
    with pytest.raises(mg.errors.ShapeError, match="32 bits"):
        q8.quantized_linear(
            *map(mg.as_tensor, (x, q8.pack_panels(w), np.ones(1, np.float32), np.zeros(1, np.int32))),
            0,
            0,
            0,
            255,
        )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_linear_is_the_rule_bit_for_bit(data):
    """Against Python's integers and one float32 multiplication."""
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    m, n, k = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 1300)))
    zx, zy = data.draw(st.sampled_from([0, 1, 127, 255])), data.draw(st.sampled_from([0, 128, 255]))
    x = rng.choice([0, 255], (m, k)) if data.draw(st.booleans()) else rng.integers(0, 256, (m, k))
    w = rng.choice([-127, 127], (n, k)) if data.draw(st.booleans()) else rng.integers(-127, 128, (n, k))
    multiplier = (10.0 ** rng.uniform(-9, 1, n)).astype(np.float32)
    bias = rng.integers(-(10**6), 10**6, n)
    lo = zy if data.draw(st.booleans()) else 0
    y = q8.quantized_linear(
        mg.as_tensor(x.astype(np.uint8)),
        mg.as_tensor(q8.pack_panels(w.astype(np.int8))),
        mg.as_tensor(multiplier),
        mg.as_tensor(bias.astype(np.int32)),
        zx,
        zy,
        lo,
        255,
    ).numpy()
    for i in range(m):
        for j in range(n):
            acc = sum((int(a) - zx) * int(b) for a, b in zip(x[i], w[j], strict=True)) + int(bias[j])
            value = np.float32(np.float32(acc) * multiplier[j])
            assert y[i, j] == int(min(max(np.rint(value) + zy, lo), 255))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_rows_carry_what_they_need(seed, k):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(5, k)) * 10.0 ** rng.uniform(-20, 20, (5, 1))).astype(np.float32)
    scale, zero, codes = q8.unpacked_rows(q8.quantize_rows(mg.as_tensor(x)).numpy())
    back = (codes.astype(np.float64) - zero) * scale.astype(np.float64)
    assert (np.abs(back - x) <= 0.5001 * scale + 1e-4 * scale).all()
    alone = q8.quantize_rows(mg.as_tensor(x[2:3])).numpy()
    assert np.array_equal(alone, q8.quantize_rows(mg.as_tensor(x)).numpy()[2:3])  # neighbours do not matter


def test_a_row_with_nan_gives_nan_and_its_neighbours_do_not():
    model = nn.Linear(6, 3)
    small = quantization.quantize_dynamic(model, example=mg.randn(4, 6), measure=False)
    x = mg.randn(4, 6).numpy().copy()
    x[1, 3], x[2, 0] = np.nan, np.inf
    y = small(mg.as_tensor(x)).numpy()
    assert np.isnan(y[1:3]).all()
    assert np.isfinite(y[[0, 3]]).all()


# -- schemes and observers -------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.booleans())
def test_zero_is_exact_and_the_range_is_covered(a, b, symmetric):
    lo, hi = min(a, b), max(a, b)
    scale, zero = scheme.scale_and_zero_point(lo, hi, symmetric)
    assert 0 < scale < np.inf
    assert 0 <= zero <= 255
    assert np.isfinite(np.float32(1) / np.float32(scale))
    x = np.array([min(lo, 0), 0.0, max(hi, 0)], np.float32)
    back = q8.dequantize(q8.quantize(mg.as_tensor(x), scale, zero), scale, zero).numpy()
    assert back[1] == 0.0
    assert (np.abs(back.astype(np.float64) - x) <= 0.5001 * scale + 1e-6 * np.abs(x)).all()


def test_ranges_that_make_no_sense():
    assert scheme.scale_and_zero_point(0.0, 0.0) == (1.0, 0)
    assert scheme.scale_and_zero_point(3.0, 3.0)[1] == 0  # a constant: the range from 0 to it
    for lo, hi in [(np.nan, 1.0), (0.0, np.inf), (2.0, 1.0)]:
        with pytest.raises(ArgumentError, match="a range from"):
            scheme.scale_and_zero_point(lo, hi)


def test_weights_per_channel_and_per_tensor():
    rng = np.random.default_rng(0)
    w = (rng.normal(size=(8, 50)) * 10.0 ** np.arange(-4, 4)[:, None]).astype(np.float32)
    codes, scale = scheme.quantize_weights(w)
    assert np.abs(codes).max(axis=1).tolist() == [127] * 8
    assert (np.abs(codes * scale[:, None] - w) <= 0.501 * scale[:, None]).all()
    _, one = scheme.quantize_weights(w, per_channel=False)
    assert len(set(one.tolist())) == 1
    found, better = scheme.quantize_weights(w, search=True)
    worst = np.square(codes * scale[:, None] - w).sum(1)
    assert (np.square(found * better[:, None] - w).sum(1) <= worst * 1.0001).all()
    zero, ones = scheme.quantize_weights(np.zeros((2, 3), np.float32))
    assert not zero.any()
    assert ones.tolist() == [1.0, 1.0]


def test_sqnr_of_eight_bits_is_what_theory_says():
    x = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    scale, zero = scheme.scale_and_zero_point(-1.0, 1.0)
    y = q8.dequantize(q8.quantize(mg.as_tensor(x), scale, zero), scale, zero).numpy()
    # variance 1/3 against (2/255)^2 / 12: 48.1 dB
    assert scheme.sqnr(x, y) == pytest.approx(48.13, abs=0.2)


def _mse(x, lo, hi):
    scale, zero = scheme.scale_and_zero_point(lo, hi)
    y = q8.dequantize(q8.quantize(mg.as_tensor(x), scale, zero), scale, zero).numpy()
    return float(np.square(x - y).mean())


@pytest.mark.parametrize("kind", ["minmax", "moving_average", "percentile", "entropy", "mse"])
def test_observers_find_a_useful_range(kind):
    rng = np.random.default_rng(1)
    batches = [np.maximum(rng.normal(size=(64, 50)), 0).astype(np.float32) for _ in range(8)]
    observer = quantization.OBSERVERS[kind]()
    for batch in batches:
        observer.observe(batch)
    lo, hi = observer.range()
    assert lo <= 0.01
    assert 2.0 < hi <= max(b.max() for b in batches) + 1e-6
    x = np.concatenate(batches)
    if kind == "mse":
        assert _mse(x, lo, hi) <= 1.02 * _mse(x, float(x.min()), float(x.max()))


def test_a_histogram_grows_to_both_sides_and_loses_nothing():
    observer = quantization.MSE()
    for batch in ([0.1, 0.2], [500.0], [-3000.0, 7.0], [0.0]):
        observer.observe(np.array(batch, np.float32))
    assert observer.counts.sum() == 6
    assert observer.start <= -3000
    assert observer.centres[-1] + observer.width >= 500
    total = 0.1 + 0.2 + 500.0 - 3000.0 + 7.0
    assert abs((observer.counts * observer.centres).sum() - total) <= 6 * observer.width
    constant = quantization.Percentile()
    constant.observe(np.full(100, 2.5, np.float32))
    assert constant.range()[0] == pytest.approx(2.5)


def test_outliers_are_cut_off_by_percentile_and_entropy():
    x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    x[0] = 100.0
    for kind in (quantization.Percentile, quantization.Entropy):
        observer = kind()
        observer.observe(x)
        assert observer.range()[1] < 10


# -- reading a graph -----------------------------------------------------------------------------------


def _settled(model, *x):
    """In evaluation mode, with running statistics that are not those of the beginning."""
    model.train()
    with mg.no_grad():
        for _ in range(3):
            model(*[t * 1.5 + 0.3 for t in x])
    return model.eval()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.c = nn.Conv2d(8, 8, 1, bias=False)
        self.gelu = nn.GELU()
        self.f = nn.Linear(16, 5)

    def forward(self, x):
        y = self.norm(self.a(x)).relu()
        z = (self.c(self.gelu(self.b(y))) + y).relu()
        z = F.max_pool2d(mg.cat([z, y], 1), 2)
        return self.f(z.mean((2, 3)))


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, i):
        y, _ = self.rnn(self.norm(self.words(i)))
        return self.out(y).softmax(-1)


def _image_net():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.Tanh(),
        nn.Linear(16, 4),
    )


def _line_net():
    return nn.Sequential(
        nn.Conv1d(3, 8, 3, padding=1),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(8, 6, 3),
        nn.BatchNorm1d(6),
        nn.LeakyReLU(),
        nn.Flatten(),
        nn.Linear(36, 5),
        nn.BatchNorm1d(5),
    )


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4)), (7, 12)),
    "image": (_image_net, (5, 1, 8, 8)),
    "line": (_line_net, (4, 3, 16)),
    "residual": (Residual, (3, 3, 8, 8)),
}


def made(name):
    mg.manual_seed(3)
    make, shape = MODELS[name]
    x = mg.randn(*shape)
    return _settled(make(), x), x


@pytest.mark.parametrize("name", MODELS)
def test_a_network_in_floats_is_the_model(name):
    model, x = made(name)
    network = read(model, (x,))
    assert not any("norm" in layer.node.op.name or layer.kind == "float" for layer in network.layers)
    got = network.run([x], network.in_float()).numpy()
    np.testing.assert_allclose(got, model(x).detach().numpy(), rtol=2e-5, atol=2e-6)


class Affine(nn.Module):
    """Every affine map that may follow a product."""

    def __init__(self):
        super().__init__()
        self.f, self.g = nn.Linear(6, 8), nn.Conv2d(2, 4, 3)
        self.a, self.b = nn.Parameter(mg.rand(8) + 0.5), nn.Parameter(mg.randn(8))
        self.c = nn.Parameter(mg.rand(4, 1, 1) + 0.5)

    def forward(self, x, image):
        y = (self.b - self.f(x) / self.a) * 2.0 - self.b + 1.0
        z = (self.c - (self.g(image) - self.c) / self.c) * self.c
        return y.relu(), z


def test_affine_maps_are_folded():
    mg.manual_seed(0)
    model, args = Affine(), (mg.randn(5, 6), mg.randn(3, 2, 6, 6))
    network = read(model, args)
    assert [layer.kind for layer in network.layers] == ["linear", "conv"]
    small = quantization.quantize_static(model, [args], inputs=2, measure=False)
    for wanted, got, close in zip(
        model(*args), network.run(list(args), network.in_float()), small(*args), strict=True
    ):
        np.testing.assert_allclose(got.numpy(), wanted.detach().numpy(), rtol=1e-4, atol=1e-5)
        assert scheme.sqnr(wanted.detach().numpy(), close.numpy()) > 30


class Joined(nn.Module):
    def __init__(self, other=False):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(16, 4)
        self.other = other

    def forward(self, x):
        y, z = self.a(x).relu(), self.b(x)
        return self.c(mg.cat([z, y] if self.other else [y, z], 1))


def test_a_relu_whose_codes_are_shared_begins_at_the_code_of_zero():
    mg.manual_seed(0)
    model, x = Joined(), mg.randn(40, 6)
    small = quantization.quantize_static(model, [x], measure=False)
    assert scheme.sqnr(model(x).detach().numpy(), small(x).numpy()) > 30
    nodes = mg.trace(lambda x: small(x), mg.Spec((40, 6), mg.float32)).nodes
    clamps = [n.attrs[1:3] for n in nodes if n.op.name == "quantized_linear"]
    (zero, lo), (same, nothing) = clamps
    assert zero == lo == same > 0 == nothing


def test_batch_norms_and_activations_are_folded():
    model, x = made("image")
    network = read(model, (x,))
    assert [(layer.kind, layer.name) for layer in network.layers] == [
        ("conv", "0"),
        ("avg_pool", "3"),
        ("conv", "4"),
        ("table", "6"),
        ("move", "7"),
        ("linear", "8"),
        ("table", "9"),
        ("linear", "10"),
    ]
    assert (network.layers[0].lo, network.layers[0].hi) == (0.0, 6.0)


@pytest.mark.parametrize("name", MODELS)
def test_static_models_are_close_and_stay_in_codes(name):
    model, x = made(name)
    small = quantization.quantize_static(model, [x], measure=False)
    wanted = model(x).detach().numpy()
    got = small(x).numpy()
    assert scheme.sqnr(wanted, got) > 25
    assert {r.decision for r in small.report().rows} == {"static"}
    graph = mg.trace(lambda x: small(x), mg.Spec(x.shape, mg.float32))
    names = [node.op.name for node in graph.nodes]
    assert names.count("quantize") == 1  # the input, and then codes all the way
    assert "dequantize" not in names
    assert not any(node.op.name in ("conv2d", "matmul") for node in graph.nodes)


@pytest.mark.parametrize("name", MODELS)
def test_other_batch_sizes_give_the_same_rows(name):
    model, x = made(name)
    small = quantization.quantize_static(model, [x], measure=False)
    assert np.array_equal(small(x[:2]).numpy(), small(x).numpy()[:2])


def test_float_weights_are_dropped():
    model, x = made("image")
    small = quantization.quantize_static(model, [x], measure=False, keep=["8"])
    for t in (small._model[0][0].weight, small._model[0][8].weight, small._model[0][1].running_var):
        assert not any(t.detach().numpy().strides)
    assert any(model[0].weight.detach().numpy().strides)


def test_captured_in_a_users_program_and_loaded_anew():
    model, x = made("mlp")
    small = quantization.quantize_static(model, [x], measure=False)
    step = mg.compile(lambda x: small(x) * 2.0)
    first = step(x).numpy()
    assert np.array_equal(first, 2 * small(x).numpy())
    state = {k: v.numpy().copy() for k, v in small.state_dict().items()}
    state["0.weight"] = -state["0.weight"]
    small.load_state_dict(state)
    assert np.array_equal(step(x).numpy(), 2 * small(x).numpy())
    assert not np.array_equal(step(x).numpy(), first)


def test_a_copy_is_another_model():
    model, x = made("residual")
    small = quantization.quantize_static(model, [x], measure=False)
    twin = copy.deepcopy(small)
    assert np.array_equal(twin(x).numpy(), small(x).numpy())
    twin.load_state_dict(
        {k: v.numpy() * 0 for k, v in twin.state_dict().items() if "scale" not in k}, strict=False
    )
    assert not np.array_equal(twin(x).numpy(), small(x).numpy())


def test_batches_of_a_loader_and_other_shapes():
    model, x = made("residual")
    loader = mg.data.DataLoader(mg.data.TensorDataset(x, np.arange(3)), batch_size=2)
    small = quantization.quantize_static(model, loader, measure=False)
    assert scheme.sqnr(model(x).detach().numpy(), small(x).numpy()) > 25
    larger = mg.randn(2, 3, 12, 10)
    assert scheme.sqnr(model(larger).detach().numpy(), small(larger).numpy()) > 15
    assert small(larger[:0]).shape == (0, 5)
    for n in range(1, 20):
        small(mg.randn(n, 3, 8, 8))


@pytest.mark.parametrize("quantize", [quantization.quantize_dynamic, quantization.quantize_weights_only])
def test_dynamic_and_weight_only(quantize):
    model, x = made("mlp")
    settings = {"measure": False}
    small = quantize(model, **settings)
    with pytest.raises(ArgumentError, match="before the first call"):
        small.state_dict()
    assert scheme.sqnr(model(x).detach().numpy(), small(x).numpy()) > 30
    assert small.size < 0.5 * quantization.size(model)
    model, x = made("residual")
    assert scheme.sqnr(model(x).detach().numpy(), quantize(model, **settings)(x).numpy()) > 25


def test_what_is_not_supported_stays_in_floats_and_is_listed():
    mg.manual_seed(0)
    model = Sequence().eval()
    i = mg.randint(0, 11, (4, 6))
    small = quantization.quantize_static(model, [i], measure=False)
    np.testing.assert_allclose(small(i).numpy(), model(i).detach().numpy(), atol=0.02)
    report = small.report()
    assert {r.name: r.decision for r in report.rows}["words"] == "weights"
    text = str(report)
    assert "softmax stays in floats" in text
    assert "norm" in text
    assert any("rnn" in note for note in report.notes)


def test_rows_of_an_embedding_are_codes_for_the_layer_after_it():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(24, 4))
    i = mg.randint(0, 20, (50, 3))
    small = quantization.quantize_static(model, [i], measure=False)
    assert scheme.sqnr(model(i).detach().numpy(), small(i).numpy()) > 30
    names = [node.op.name for node in mg.trace(lambda i: small(i), mg.Spec((5, 3), mg.int64)).nodes]
    assert names == ["index_select", "reshape", "quantized_linear_float"]
    with pytest.raises(mg.errors.OutOfRangeError):
        small(i + 20)


def test_models_with_channels_last_are_not_permuted():
    from minigrad import keras
    from minigrad.keras import layers

    mg.manual_seed(0)
    model = keras.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu", input_shape=(10, 10, 2)),
            layers.MaxPooling2D(2),
            layers.Conv2D(6, 3, activation="gelu"),
            layers.Conv2D(5, 1),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    x = mg.randn(16, 10, 10, 2)
    _settled(model, x)
    wanted = model(x).detach().numpy()
    network = read(model, (x,))
    np.testing.assert_allclose(network.run([x], network.in_float()).numpy(), wanted, rtol=1e-5, atol=1e-6)
    small = quantization.quantize_static(model, [x], measure=False)
    assert scheme.sqnr(wanted, small(x).numpy()) > 30
    names = [node.op.name for node in mg.trace(lambda x: small(x), mg.Spec(x.shape, mg.float32)).nodes]
    assert "permute" not in names
    assert "dequantize" not in names
    assert "mul" not in names
    assert "mean" not in names
    assert names.count("quantized_lookup") == 1  # gelu; relu is part of its convolution


def test_keep_and_reasons():
    model, x = made("image")
    small = quantization.quantize_static(model, [x], measure=False, keep=["4"])
    rows = {r.name: r for r in small.report().rows}
    assert (rows["4"].decision, rows["4"].reason) == ("float", "kept by the user")
    assert small.state_dict()["4.weight"].dtype == mg.float32
    picky = quantization.quantize_static(model, [x], measure=False, min_sqnr=200.0)
    assert all("error is too large" in r.reason for r in picky.report().rows)
    np.testing.assert_allclose(picky(x).numpy(), model(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentError, match="which is no layer"):
        quantization.quantize_static(model, [x], keep=["nothing"])


def test_a_slower_layer_stays_in_floats(monkeypatch):
    model, x = made("mlp")
    times = iter([(10.0, 5.0), (10.0, 20.0), (28.0, 20.0, 30.0, 30.0)])
    monkeypatch.setattr(quantization.deciding, "interleaved", lambda *functions: next(times))
    small = quantization.quantize_static(model, [x])
    rows = small.report().rows
    assert [(r.decision, r.reason) for r in rows] == [
        ("static", "2.0 times as fast"),
        ("float", "slower in eight bits"),
    ]


def test_a_layer_that_is_slower_alone_may_run_on_codes_all_the_same(monkeypatch):
    model, x = made("mlp")
    times = iter([(10.0, 5.0), (10.0, 20.0), (20.0, 28.0, 30.0, 30.0)])
    monkeypatch.setattr(quantization.deciding, "interleaved", lambda *functions: next(times))
    rows = quantization.quantize_static(model, [x]).report().rows
    assert [r.decision for r in rows] == ["static", "static"]
    assert "not with its neighbours" in rows[1].reason


def test_a_slower_model_stays_in_floats_and_says_so(monkeypatch):
    model, x = made("mlp")
    times = iter([(10.0, 5.0), (10.0, 5.5), (30.0, 12.0, 10.0)])
    monkeypatch.setattr(quantization.deciding, "interleaved", lambda *functions: next(times))
    with pytest.warns(UserWarning, match=r"30.0 us in eight bits and 10.0 us in floats"):
        small = quantization.quantize_static(model, [x])
    assert {r.decision for r in small.report().rows} == {"float"}
    assert "stays in floats" in str(small.report())
    np.testing.assert_allclose(small(x).numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_weights_alone_become_floats_where_that_is_faster(monkeypatch, tmp_path):
    model, x = made("mlp")
    times = iter([(10.0, 5.0), (10.0, 20.0)])
    monkeypatch.setattr(quantization.deciding, "interleaved", lambda *functions: next(times))
    small = quantization.quantize_weights_only(model, example=x)
    assert [r.decision for r in small.report().rows] == ["weights", "expanded"]
    assert {small.state_dict()[f"{k}.weight"].dtype for k in (0, 2)} == {mg.int8}
    names = [n.op.name for n in mg.trace(lambda x: small(x), mg.Spec(x.shape, mg.float32)).nodes]
    assert names.count("weight_only_linear") == names.count("matmul") == 1
    small.save(tmp_path / "small.npz")
    again = quantization.load(tmp_path / "small.npz", model)
    assert np.array_equal(again(x).numpy(), small(x).numpy())


def test_sensitivity_and_a_budget_of_accuracy():
    model, x = made("mlp")
    found = quantization.sensitivity(model, x)
    assert [name for name, _, _ in found] == sorted(
        (name for name, _, _ in found), key=lambda n: {a: b for a, b, _ in found}[n]
    )
    worst = found[0][0]
    wanted = model(x).detach().numpy()
    largest = float(np.abs(quantization.quantize_static(model, [x], measure=False)(x).numpy() - wanted).max())

    def score(m):
        return -float(np.abs(m(x).numpy() - wanted).max())

    mixed = quantization.quantize_static(model, [x], measure=False, evaluate=score, budget=largest * 0.9)
    rows = {r.name: r for r in mixed.report().rows}
    assert rows[worst].decision == "float"
    assert "over the budget" in rows[worst].reason
    assert -score(mixed) <= largest * 0.9 + 1e-6
    assert "budget" in str(mixed.report())


# -- state and files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
def test_save_and_load(tmp_path, ending):
    model, x = made("residual")
    small = quantization.quantize_static(model, [x], measure=False, keep=["c"])
    path = tmp_path / f"small.{ending}"
    small.save(path)
    torn = copy.deepcopy(model)
    for p in torn.parameters():
        p.detach().numpy()[...] = 0.0
    again = quantization.load(path, torn)
    assert again.report(x).whole is not None
    assert np.array_equal(again(x).numpy(), small(x).numpy())
    assert again.size == small.size
    assert [r.decision for r in again.report().rows] == [r.decision for r in small.report().rows]


def test_files_of_another_kind(tmp_path):
    model, x = made("mlp")
    small = quantization.quantize_static(model, [x], measure=False)
    small.save(tmp_path / "a.npz")
    held = checkpoint.load(tmp_path / "a.npz")
    checkpoint.save(tmp_path / "b.npz", {**held, "version": 99})
    with pytest.raises(ArgumentError, match="version 99, and this reads 1"):
        quantization.load(tmp_path / "b.npz", model)
    checkpoint.save(tmp_path / "c.npz", {"epoch": 1})
    with pytest.raises(ArgumentError, match="holds no quantized model"):
        quantization.load(tmp_path / "c.npz", model)
    other = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    with pytest.raises(ArgumentError, match="another shape"):
        quantization.load(tmp_path / "a.npz", other)(x)
    deeper = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4), nn.Linear(4, 4))
    with pytest.raises(ArgumentError, match="differ in layer '3'"):
        quantization.load(tmp_path / "a.npz", deeper)(x)
    joined, y = Joined(), mg.randn(4, 6)
    quantization.quantize_static(joined, [y], measure=False).save(tmp_path / "d.npz")
    with pytest.raises(ArgumentError, match="not in the same order or connection"):
        quantization.load(tmp_path / "d.npz", Joined(other=True))(y)
    with pytest.raises(mg.nn.module.StateDictError, match=r"0\.weight is missing"):
        small.load_state_dict({k: v for k, v in small.state_dict().items() if k != "0.weight"})


# -- bad input -----------------------------------------------------------------------------------------


def test_without_calibration_with_nan_and_with_constants():
    model, x = made("mlp")
    with pytest.raises(ArgumentError, match="no batch was seen"):
        quantization.convert(quantization.prepare(model))
    with pytest.raises(ArgumentError, match="no batch was seen"):
        quantization.quantize_static(model, [])
    bad = x.numpy().copy()
    bad[0, 0] = np.nan
    with pytest.raises(ArgumentError, match="1 of 84 values of argument 0 are NaN or Inf"):
        quantization.quantize_static(model, [mg.as_tensor(bad)])
    with pytest.raises(ArgumentError, match="no observer 'median'"):
        quantization.prepare(model, observer="median")
    for value in (0.0, 2.5):
        constant = mg.full((7, 12), value)
        small = quantization.quantize_static(model, [constant], measure=False, min_sqnr=-np.inf)
        np.testing.assert_allclose(small(constant).numpy(), model(constant).detach().numpy(), atol=0.05)


def test_weights_with_nan_and_models_in_training():
    model, x = made("mlp")
    model[0].weight.detach().numpy()[0, 0] = np.inf
    with pytest.raises(ArgumentError, match="NaN or Inf"):
        quantization.quantize_dynamic(model, example=x)
    small = quantization.quantize_dynamic(made("mlp")[0], example=x, measure=False)
    with pytest.raises(ArgumentError, match="cannot be trained"):
        small.train()
    noisy, image = made("image")
    with pytest.raises(ArgumentError, match="changes its own state"):
        read(noisy.train(), (image,))
    lazy = quantization.quantize_dynamic(made("mlp")[0])
    with pytest.raises(ArgumentError, match="inside of a trace"):
        mg.compile(lambda x: lazy(x))(x)


# -- training ------------------------------------------------------------------------------------------


def test_the_straight_through_gradient_and_that_of_the_scale():
    x = mg.tensor([-9.0, 0.4, 0.6, 300.0], requires_grad=True)
    s = mg.tensor(0.5, requires_grad=True)
    y = training.fake_quantize(x, s, 2.0)
    codes = np.clip(np.rint(x.detach().numpy() / 0.5) + 2, 0, 255)
    assert np.array_equal(y.detach().numpy(), (codes - 2) * 0.5)
    y.sum().backward()
    assert x.grad.numpy().tolist() == [0.0, 1.0, 1.0, 0.0]
    v = x.detach().numpy() / 0.5
    inside = (codes > 0) & (codes < 255)
    np.testing.assert_allclose(s.grad.item(), np.where(inside, np.rint(v) - v, codes - 2).sum(), rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e4, 1e4, width=32), st.floats(2**-10, 8, width=32), st.integers(0, 255))
def test_fake_quantization_is_what_the_codes_say(value, scale, zero):
    x = mg.tensor([value])
    fake = training.fake_quantize(x, mg.tensor(scale), float(zero)).numpy()
    real = q8.dequantize(q8.quantize(x, scale, zero), scale, zero).numpy()
    assert abs(fake - real).item() <= 1.001 * scale  # a tie may fall to either side, as x / s rounds once


def _fit(model, x, y, steps, rate=0.05):
    optimizer = mg.optim.SGD(model.parameters(), lr=rate)

    @mg.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return [step(x, y).item() for _ in range(steps)], step


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("name", ["mlp", "image"])
def test_training_with_rounding_in_view(name, learned):
    model, x = made(name)
    y = mg.as_tensor(np.arange(x.shape[0]) % 4)
    aware = quantization.prepare_qat(model.train(), learned=learned)
    losses, step = _fit(aware, x, y, 40)
    assert losses[-1] < 0.7 * losses[0]
    assert step.traces == 1
    aware.freeze_norms()
    aware.freeze_observers()
    before = {
        k: v.numpy().copy() for k, v in aware.state_dict().items() if "running" in k or k.endswith(".hi")
    }
    aware.train()
    _fit(aware, x * 3.0, y, 2, 0.0)
    after = aware.state_dict()
    assert all(np.array_equal(v, after[k].numpy()) for k, v in before.items())
    small = quantization.convert(aware, [x], measure=False)
    aware.eval()
    wanted = aware(x).detach().numpy()
    assert scheme.sqnr(wanted, small(x).numpy()) > 25
    assert {r.decision for r in small.report().rows} == {"static"}
    if learned and name == "mlp":
        scales = dict(zip(aware.names, aware.weights, strict=True))["0"].scale.detach().abs().numpy()
        np.testing.assert_allclose(small.state_dict()["0.weight_scale"].numpy(), scales, rtol=1e-6)
    assert all(
        np.array_equal(a.numpy(), b.numpy())
        for a, b in zip(model.state_dict().values(), made(name)[0].state_dict().values(), strict=True)
    )


def test_a_learned_scale_is_set_by_the_first_batch_only():
    for learned, wanted in ((True, 4.0 / 255), (False, (4.0 + 0.5 * 36.0) / 255)):
        quantizer = quantization.ActivationQuantizer(momentum=0.5, learned=learned)
        quantizer(mg.tensor([0.0, 4.0]))
        quantizer(mg.tensor([0.0, 40.0]))
        assert quantizer.scale.item() == pytest.approx(wanted, rel=1e-6)


def test_before_training_nothing_is_rounded_but_weights():
    model, x = made("mlp")
    aware = quantization.prepare_qat(model)
    with pytest.raises(ArgumentError, match="no batch was seen in training"):
        aware.freeze_observers()
    fine = quantization.quantize_weights_only(model, example=x)
    np.testing.assert_allclose(aware(x).detach().numpy(), fine(x).numpy(), rtol=1e-4, atol=1e-5)


def test_prepare_qat_refuses():
    with pytest.raises(ArgumentError, match="no layer with weights"):
        quantization.prepare_qat(nn.ReLU())
    with pytest.raises(ArgumentError, match="there is no layer 'x'"):
        quantization.prepare_qat(nn.Sequential(nn.Linear(2, 2)), keep=["x"])
    with pytest.raises(ArgumentError, match="needs batches"):
        quantization.convert(quantization.prepare_qat(nn.Sequential(nn.Linear(2, 2))))


# -- graph networks --------------------------------------------------------------------------------------


class Graph(nn.Module):
    def __init__(self, edges):
        super().__init__()
        self.first, self.second = nn.GCNConv(12, 8), nn.GCNConv(8, 3)
        self.edges = edges

    def forward(self, x):
        return self.second(F.relu(self.first(x, self.edges)), self.edges)


def test_graph_networks():
    mg.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Graph(mg.as_tensor(rng.integers(0, 30, (2, 90)))).eval()
    x = mg.randn(30, 12)
    small = quantization.quantize_static(model, [x], measure=False)
    assert scheme.sqnr(model(x).detach().numpy(), small(x).numpy()) > 25
    assert [r.decision for r in small.report().rows] == ["static", "static"]
    assert "spmm stays in floats" in str(small.report())
    with pytest.raises(ArgumentError, match="holds a CSR"):
        quantization.quantize_static(model, [mg.sparse.from_dense(x)], measure=False)
    aware = quantization.prepare_qat(model)
    losses, _ = _fit(aware, x, mg.as_tensor(np.arange(30) % 3), 20, 0.2)
    assert losses[-1] < losses[0]


# -- pruning -------------------------------------------------------------------------------------------


def test_magnitude_pruning_keeps_zeros_zero():
    model, x = made("mlp")
    pruned = quantization.magnitude(model, 0.6)
    assert quantization.sparsity(model) == pytest.approx(0.6, abs=0.01)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        pruned.apply()
    assert quantization.sparsity(model) == pytest.approx(0.6, abs=0.01)
    layers, _ = made("mlp")
    quantization.magnitude(layers, 0.5, per_layer=True, keep=["2"])
    assert (layers[0].weight.detach().numpy() == 0).mean() == pytest.approx(0.5, abs=0.01)
    assert (layers[2].weight.detach().numpy() != 0).all()
    with pytest.raises(ArgumentError, match=r"amount is 1.5"):
        quantization.magnitude(model, 1.5)


def test_channels_that_do_nothing_can_go():
    """Channels of zero weights contribute a constant; taking them out changes nothing but that."""
    model, x = made("image")
    with mg.no_grad():
        model[0].weight.detach().numpy()[::2] = 0.0
        for name in ("weight", "bias"):
            getattr(model[1], name).detach().numpy()[::2] = 0.0
        model[4].weight.detach().numpy()[3:5] = 0.0
        model[5].bias.detach().numpy()[3:5] = 0.0
        model[5].weight.detach().numpy()[3:5] = 0.0
    thin = quantization.channels(model, 0.25, keep=["8"])
    assert thin[4].weight.shape == (6, 5, 3, 3)
    assert thin[8].in_features == 24
    np.testing.assert_allclose(thin(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    small = quantization.quantize_static(thin, [x], measure=False)
    assert scheme.sqnr(thin(x).detach().numpy(), small(x).numpy()) > 25
    with pytest.raises(ArgumentError, match="Softmax stands between"):
        quantization.channels(nn.Sequential(nn.Linear(2, 2), nn.Softmax(1), nn.Linear(2, 2)), 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantization.channels(model, 0.0)
