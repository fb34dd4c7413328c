"""Modules against PyTorch's: outputs, gradients of inputs and parameters, buffers, states, signatures.

The samples are those of `samples_nn`, in float64, to 1e-9.  What differs on purpose:

- CTCLoss: the gradient by the log-probabilities is that of the formula; torch's is right only under a
  log_softmax, so the comparison goes through one.
- MultiheadAttention: a place that may look nowhere gives zeros; torch gives NaN.
- Hardsigmoid and CELU: torch multiplies by a constant of float32 also in float64, so they agree to 1e-7 only.
- PoissonNLLLoss: full=True and a count of 0 gives torch's gradient of the count a NaN, not ours.
- SoftMarginLoss: torch has no gradient for the target.
- `device` is accepted and must be the CPU.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import samples_nn

import minigrad as mg
from minigrad import nn

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")


ROUNDED_BY_TORCH = ("Hardsigmoid", "CELU")


def _close(a: Any, b: Any, what: str, rtol: float = 1e-9) -> None:
    a, b = a.detach().numpy(), b.detach().numpy()
    assert a.shape == b.shape, what
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12, err_msg=what)


def _pair(sample: samples_nn.Sample) -> tuple[Any, Any]:
    mine, theirs = sample.make(mg, mg.tensor), sample.make(torch, torch.tensor)
    state = theirs.state_dict()
    assert list(mine.state_dict()) == list(state)
    assert [tuple(v.shape) for v in mine.state_dict().values()] == [tuple(v.shape) for v in state.values()]
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    mine.load_state_dict({k: v.numpy() for k, v in state.items()})
    return mine, theirs


@pytest.mark.parametrize("sample", [*samples_nn.MODULES, *samples_nn.LOSSES], ids=str)
def test_module(sample: samples_nn.Sample) -> None:
    mine, theirs = _pair(sample)
    rng = np.random.default_rng(0)
    for training in (False,) if sample.random else (True, True, False):
        mine.train(training)
        theirs.train(training)
        data = sample.draw(rng)
        learn = [d.dtype.kind == "f" and not np.all(np.abs(d) == 1) for d in data]  # signs are labels
        rtol = 1e-7 if sample.name in ROUNDED_BY_TORCH else 1e-9
        xs = [mg.tensor(d, requires_grad=k) for d, k in zip(data, learn, strict=True)]
        ts = [torch.tensor(d, requires_grad=k) for d, k in zip(data, learn, strict=True)]
        ys, us = sample.run(mg, mine, xs, mg.tensor), sample.run(torch, theirs, ts, torch.tensor)
        assert len(ys) == len(us)
        mine.zero_grad()
        theirs.zero_grad()
        total, theirs_total = None, None
        for y, u in zip(ys, us, strict=True):
            _close(y, u, "output", rtol)
            if u.requires_grad:
                g = rng.normal(size=y.shape)
                part, their_part = (y * mg.tensor(g)).sum(), (u * torch.tensor(g)).sum()
                total = part if total is None else total + part
                theirs_total = their_part if theirs_total is None else theirs_total + their_part
        if total is not None:
            total.backward()
            theirs_total.backward()
        for x, t in zip(xs, ts, strict=True):
            if t.grad is not None and x.requires_grad:
                _close(x.grad, t.grad, "gradient of an input", rtol)
        for (name, p), q in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            if q.grad is not None and q.requires_grad:
                _close(p.grad, q.grad, f"gradient of {name}")
        for key, value in theirs.state_dict().items():
            _close(mine.state_dict()[key], value, key)


@pytest.mark.parametrize("sample", [*samples_nn.MODULES, *samples_nn.LOSSES], ids=str)
def test_state_goes_back(sample: samples_nn.Sample) -> None:
    mine, theirs = sample.make(mg, mg.tensor), sample.make(torch, torch.tensor)
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})
    for key, value in mine.state_dict().items():
        _close(value, theirs.state_dict()[key], key)


@pytest.mark.parametrize("name", sorted({s.name for s in [*samples_nn.MODULES, *samples_nn.LOSSES]}))
def test_same_words(name: str) -> None:
    """Argument names, their order and their defaults are torch's, for making a module and for calling it."""
    mine, theirs = getattr(nn, name), getattr(torch.nn, name)
    for what in ("__init__", "forward"):
        given = _parameters(getattr(theirs, what))
        if given is not None:
            assert _parameters(getattr(mine, what)) == given, f"{name}.{what}"


def _parameters(function: Any) -> list[tuple[str, Any]] | None:
    found = []
    for p in list(inspect.signature(function).parameters.values())[1:]:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            return None  # torch's recurrent layers and Identity take anything
        default = p.default
        if callable(default) and default is not p.empty:
            default = default.__name__
        found.append((p.name, default))
    return found


def test_every_module_has_a_sample() -> None:
    sampled = {s.name for s in [*samples_nn.MODULES, *samples_nn.LOSSES]}
    others = {
        "Module",
        "Parameter",
        "ParameterList",
        "ParameterDict",
        "ModuleList",
        "ModuleDict",
        "Sequential",
    }
    others |= {"TransformerEncoder", "TransformerDecoder"}  # tested below, and as parts of Transformer
    others |= {"SyncBatchNorm"}  # of several processes: tests/test_fit_workers.py
    classes = {n for n in nn.__all__ if inspect.isclass(getattr(nn, n))}
    classes = {n for n in classes if not getattr(nn, n).__module__.startswith("minigrad.nn.graph")}
    assert classes - sampled - others == set()


LENGTHS = [3, 6, 1, 3]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_packed_sequences(name: str, given: bool) -> None:
    """Values and gradients of a packed batch in two layers and directions, with and without given states."""
    settings: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    if name == "LSTM" and given:
        settings["proj_size"] = 2
    mine, theirs = (getattr(m.nn, name)(3, 4, **settings).double() for m in (mg, torch))
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    rng, found = np.random.default_rng(0), []
    data, out = rng.normal(size=(4, 7, 3)), settings.get("proj_size", 4)
    states = [rng.normal(size=(4, 4, size)) for size in (out, 4)]
    for library, module in ((mg, mine), (torch, theirs)):
        rnn = library.nn.utils.rnn
        x, *hx = (library.tensor(d, requires_grad=True) for d in (data, *states))
        packed = rnn.pack_padded_sequence(x, library.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
        state = (tuple(hx) if name == "LSTM" else hx[0]) if given else None
        y, last = module(packed, state)
        h = list(last) if name == "LSTM" else [last]
        padded, lengths = rnn.pad_packed_sequence(y, batch_first=True, padding_value=-1.0, total_length=8)
        (sum((t**2).sum() for t in h) + (padded**3).sum()).backward()
        used = (hx if name == "LSTM" else hx[:1]) if given else []
        found.append([padded, lengths, *h, packed.data, packed.batch_sizes, packed.sorted_indices, x.grad])
        found[-1] += [t.grad for t in used] + [p.grad for p in module.parameters()]
    for a, b in zip(*found, strict=True):
        _close(a, b, name)


def test_padding() -> None:
    rows = [np.arange(n * 2.0).reshape(n, 2) for n in (4, 2, 1)]
    for settings in ({}, {"batch_first": True, "padding_value": 9.0}, {"padding_side": "left"}):
        found = []
        for m in (mg, torch):
            rnn, sequences = m.nn.utils.rnn, [m.tensor(r, requires_grad=True) for r in rows]
            padded = rnn.pad_sequence(sequences, **settings)
            (padded**2).sum().backward()
            packed = rnn.pack_sequence(sequences)
            found.append([padded, packed.data, packed.batch_sizes, *rnn.unpack_sequence(packed)])
            first = "batch_first" in settings
            found[-1] += [s.grad for s in sequences]
            if "padding_side" not in settings:
                found[-1] += rnn.unpad_sequence(
                    padded * 1, m.tensor([4, 2, 1]), first
                )  # theirs turns it round
        for a, b in zip(*found, strict=True):
            _close(a, b, str(settings))
    assert mg.nn.utils.rnn.pack_sequence([mg.ones(2), mg.ones(1)]).sorted_indices is None


def test_lstm_with_a_state() -> None:
    mine, theirs = nn.LSTM(3, 4, 2).double(), torch.nn.LSTM(3, 4, 2).double()
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    data = [rng.normal(size=s) for s in ((5, 2, 3), (2, 2, 4), (2, 2, 4))]
    x, h, c = (mg.tensor(d, requires_grad=True) for d in data)
    u, v, w = (torch.tensor(d, requires_grad=True) for d in data)
    y, (hn, cn) = mine(x, (h, c))
    z, (kn, dn) = theirs(u, (v, w))
    (y.sum() + (hn * hn).sum() + (cn * cn * cn).sum()).backward()
    (z.sum() + (kn * kn).sum() + (dn * dn * dn).sum()).backward()
    for a, b in ((y, z), (hn, kn), (cn, dn), (x.grad, u.grad), (h.grad, v.grad), (c.grad, w.grad)):
        _close(a, b, "LSTM with a state")
    for (name, p), q in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        _close(p.grad, q.grad, name)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_second_derivatives_of_recurrences(name: str) -> None:
    mine, theirs = getattr(nn, name)(2, 3).double(), getattr(torch.nn, name)(2, 3).double()
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    data = np.random.default_rng(0).normal(size=(4, 2, 2))
    found = []
    for library, module in ((mg, mine), (torch, theirs)):
        x = library.tensor(data, requires_grad=True)
        y, _ = module(x)
        (g,) = library.autograd.grad((y * y).sum(), [x], create_graph=True)
        module.zero_grad()
        (g * g).sum().backward()
        found.append([x.grad, *(p.grad for p in module.parameters())])
    for a, b in zip(*found, strict=True):
        _close(a, b, name)


def test_transformer_encoder() -> None:
    def build(m: Any, **kwargs: Any) -> Any:
        layer = m.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
        return m.TransformerEncoder(layer, 3, norm=m.LayerNorm(8), **kwargs).double()

    mine, theirs = build(nn), build(torch.nn, enable_nested_tensor=False)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    data = np.random.default_rng(0).normal(size=(2, 5, 8))
    masks = {"mask": samples_nn._CAUSAL, "src_key_padding_mask": samples_nn._PADDING}
    x, t = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    y = mine(x, **{k: mg.tensor(v) for k, v in masks.items()})
    u = theirs(t, **{k: torch.tensor(v) for k, v in masks.items()})
    _close(y, u, "output")
    (y * y).sum().backward()
    (u * u).sum().backward()
    _close(x.grad, t.grad, "gradient of the input")
    for (name, p), q in zip(mine.named_parameters(), theirs.named_parameters(), strict=True):
        _close(p.grad, q[1].grad, name)
    size, kind = 4, "float64"
    _close(
        nn.Transformer.generate_square_subsequent_mask(size, dtype=kind),
        torch.nn.Transformer.generate_square_subsequent_mask(size, dtype=torch.float64),
        "mask",
    )


def test_full_backward_hooks() -> None:
    """The same calls with the same cotangents, and the same effect of what they return."""
    data = np.random.default_rng(0).normal(size=(3, 4))
    found = []
    for library in (mg, torch):
        layer = library.nn.Linear(4, 2).double()
        layer.load_state_dict(
            {"weight": library.tensor(np.arange(8.0).reshape(2, 4)), "bias": library.tensor(np.zeros(2))}
        )
        seen: list[Any] = []

        def after(module: Any, gx: Any, g: Any, seen: list[Any] = seen) -> Any:
            seen.extend([gx[0], g[0]])
            return (gx[0] * 3,)

        layer.register_full_backward_pre_hook(lambda m, g: (g[0] * 2,))
        layer.register_full_backward_hook(after)
        x = library.tensor(data, requires_grad=True)
        (layer(x) ** 2).sum().backward()
        found.append([*seen, x.grad, layer.weight.grad])
    for a, b in zip(*found, strict=True):
        _close(a, b, "hook")


def test_a_whole_model_moves_over() -> None:
    def build(m: Any) -> Any:
        return m.Sequential(
            m.Conv2d(1, 4, 3, padding=1),
            m.BatchNorm2d(4),
            m.ReLU(),
            m.MaxPool2d(2),
            m.Flatten(),
            m.Linear(64, 10),
        )

    mine, theirs = build(nn), build(torch.nn)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(
        mine.eval()(mg.tensor(x)).detach().numpy(), theirs.eval()(torch.tensor(x)).detach().numpy(), atol=1e-5
    )
    shown = repr(theirs).replace(", bias=True, track", ", track")  # an argument that newer versions have
    assert repr(mine) == shown


RESAMPLED: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 9), {"size": 4, "mode": "area"}),
    ((2, 3, 7, 5), {"scale_factor": 0.6, "mode": "area"}),
    *[
        ((2, 3, 9, 7), {"size": (4, 11), "mode": mode, "antialias": True, "align_corners": aligned})
        for mode in ("bilinear", "bicubic")
        for aligned in (False, True)
    ],
    ((2, 3, 9, 7), {"scale_factor": (0.4, 0.7), "mode": "bilinear", "antialias": True}),
    ((1, 2, 5, 4, 3), {"scale_factor": (1.5, 2.0, 0.7), "mode": "nearest"}),
    ((1, 2, 50), {"scale_factor": 1.0 / 3.0, "mode": "nearest"}),
]


@pytest.mark.parametrize(("shape", "options"), RESAMPLED, ids=str)
def test_interpolate(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    data = np.random.default_rng(0).normal(size=shape)
    x, t = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    y, u = nn.functional.interpolate(x, **options), torch.nn.functional.interpolate(t, **options)
    _close(y, u, "output", 1e-8)
    (y * y).sum().backward()
    (u * u).sum().backward()
    _close(x.grad, t.grad, "gradient", 1e-8)


@pytest.mark.parametrize("name", sorted(nn.functional.__all__))
def test_functions_have_torch_s_words(name: str) -> None:
    theirs = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    try:
        given = [p for p in inspect.signature(theirs).parameters if p not in ("_stacklevel", "out")]
    except ValueError:
        return  # written in C++, without a signature
    if given in (["args", "kwargs"], ["input", "args", "kwargs"]):
        return
    mine = list(inspect.signature(getattr(nn.functional, name)).parameters)
    assert mine[: len(given)] == given or [p for p in given if p not in mine] == []
