"""Modules against PyTorch's: output, gradients of input and parameters, buffers and state_dict keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

torch = pytest.importorskip("torch")

CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Linear", (5, 3), {}, (4, 5)),
    ("Linear", (5, 3), {"bias": False}, (2, 4, 5)),
    ("ReLU", (), {}, (3, 4)),
    ("LeakyReLU", (0.2,), {}, (3, 4)),
    ("GELU", (), {}, (3, 4)),
    ("GELU", (), {"approximate": "tanh"}, (3, 4)),
    ("SiLU", (), {}, (3, 4)),
    ("Sigmoid", (), {}, (3, 4)),
    ("Tanh", (), {}, (3, 4)),
    ("Softmax", (-1,), {}, (3, 4)),
    ("LogSoftmax", (0,), {}, (3, 4)),
    ("Softplus", (2.0, 1.0), {}, (3, 4)),
    ("Identity", (), {}, (3, 4)),
    ("Flatten", (), {}, (3, 4, 2)),
    ("Conv2d", (4, 6, 3), {}, (2, 4, 7, 6)),
    ("Conv2d", (4, 6, (3, 2)), {"stride": 2, "padding": (1, 0), "groups": 2, "bias": False}, (2, 4, 7, 6)),
    ("Conv2d", (4, 6, 3), {"padding": "same", "dilation": 2}, (2, 4, 7, 6)),
    ("MaxPool2d", (2,), {}, (2, 3, 6, 7)),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, (2, 3, 6, 7)),
    ("AvgPool2d", (2,), {}, (2, 3, 6, 7)),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, (2, 3, 6, 7)),
    ("BatchNorm1d", (4,), {}, (5, 4)),
    ("BatchNorm1d", (4,), {"momentum": None, "affine": False}, (5, 4, 3)),
    ("BatchNorm2d", (4,), {"momentum": 0.3, "eps": 1e-3}, (3, 4, 2, 5)),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, (3, 4, 2, 5)),
    ("LayerNorm", (5,), {}, (4, 5)),
    ("LayerNorm", ((4, 5),), {"bias": False}, (3, 4, 5)),
    ("LayerNorm", (5,), {"elementwise_affine": False}, (4, 5)),
]


def _close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), CASES, ids=lambda v: str(v))
def test_module(name: str, args: Any, kwargs: Any, shape: Any) -> None:
    mine = getattr(nn, name)(*args, **kwargs).double()
    theirs = getattr(torch.nn, name)(*args, **kwargs).double()
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    for training in (True, True, False):
        mine.train(training)
        theirs.train(training)
        data = rng.normal(size=shape)
        x, t = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
        y, u = mine(x), theirs(t)
        _close(y, u)
        g = rng.normal(size=y.shape)
        mine.zero_grad()
        theirs.zero_grad()
        y.backward(mg.tensor(g))
        u.backward(torch.tensor(g))
        _close(x.grad, t.grad)
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            _close(p.grad, q.grad)
        for key, value in theirs.state_dict().items():
            _close(mine.state_dict()[key], value)


@pytest.mark.parametrize("padding", [None, 2, -1])
def test_embedding(padding: int | None) -> None:
    mine, theirs = nn.Embedding(5, 3, padding).double(), torch.nn.Embedding(5, 3, padding).double()
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    index = np.array([[0, 2, 4], [4, 4, 1]])
    y, u = mine(mg.tensor(index)), theirs(torch.tensor(index))
    _close(y, u)
    (y * y).sum().backward()
    (u * u).sum().backward()
    _close(mine.weight.grad, theirs.weight.grad)


CLASSES = np.array([0, 2, 1, 2])
WEIGHT = np.array([0.5, 2.0, 1.5])
LOSSES: list[tuple[str, dict[str, Any], str]] = [
    *[(name, {"reduction": r}, "real") for name in ("MSELoss", "L1Loss") for r in ("mean", "sum", "none")],
    ("CrossEntropyLoss", {}, "classes"),
    ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1, "ignore_index": 1}, "classes"),
    ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}, "soft"),
    ("CrossEntropyLoss", {"reduction": "none"}, "soft"),
    ("NLLLoss", {"weight": WEIGHT, "ignore_index": 0}, "classes"),
    ("BCELoss", {"weight": WEIGHT}, "binary"),
    ("BCEWithLogitsLoss", {"pos_weight": WEIGHT, "reduction": "sum"}, "soft"),
]


@pytest.mark.parametrize(("name", "kwargs", "kind"), LOSSES, ids=lambda v: str(v)[:40])
def test_loss(name: str, kwargs: dict[str, Any], kind: str) -> None:
    rng = np.random.default_rng(1)
    data = rng.uniform(0.1, 0.9, size=(4, 3)) if kind == "binary" else rng.normal(size=(4, 3))
    target: Any = {"real": rng.normal(size=(4, 3)), "classes": CLASSES}.get(
        kind, rng.dirichlet(np.ones(3), 4)
    )
    x, t = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)

    def made(module: Any, tensor: Any) -> Any:
        return getattr(module, name)(
            **{k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
        )

    mine, theirs = made(nn, mg.tensor), made(torch.nn, torch.tensor)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    y, u = mine(x, mg.tensor(target)), theirs(t, torch.tensor(target))
    _close(y, u)
    y.sum().backward()
    u.sum().backward()
    _close(x.grad, t.grad)


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
