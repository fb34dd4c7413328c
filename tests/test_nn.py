"""Modules: registering, walking, saving, converting, hooks, and what they compute."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DTypeError, GradientError, OutOfRangeError, ShapeError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.scale = nn.Parameter(mg.ones(1))
        self.register_buffer("count", mg.zeros(()))
        self.register_buffer("cache", mg.zeros(2), persistent=False)

    def forward(self, x: Any) -> Any:
        return self.norm(self.first(x)) * self.scale


KEYS = [
    "scale",
    "count",
    "first.weight",
    "first.bias",
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
    "norm.num_batches_tracked",
]


# -- the register ----------------------------------------------------------------------------------


def test_names_and_order() -> None:
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "scale",
        "first.weight",
        "first.bias",
        "norm.weight",
        "norm.bias",
    ]
    assert [n for n, _ in net.named_buffers()] == [
        "count",
        "cache",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    ]
    assert [n for n, _ in net.named_modules()] == ["", "first", "norm"]
    assert [n for n, _ in net.named_children()] == ["first", "norm"]
    assert [n for n, _ in net.named_parameters("net", recurse=False)] == ["net.scale"]
    state = net.state_dict()
    assert isinstance(state, OrderedDict)
    assert list(state) == KEYS
    assert not any(t.requires_grad for t in state.values())
    assert next(iter(net.state_dict(prefix="a."))) == "a.scale"


def test_a_shared_part_is_learned_once() -> None:
    net = nn.Module()
    net.a = net.b = nn.Linear(2, 2)
    assert len(list(net.parameters())) == 2
    assert [n for n, _ in net.named_modules()] == ["", "a"]
    assert list(net.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]


def test_forgetting_super_init_is_harmless() -> None:
    class Short(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 2)

    net = Short()
    assert len(list(net.parameters())) == 2
    assert net.eval().layer.training is False


def test_what_cannot_be_registered() -> None:
    net = Net()
    with pytest.raises(DTypeError, match=r"would replace the parameter 'scale'.*nn\.Parameter"):
        net.scale = mg.zeros(1)
    with pytest.raises(DTypeError, match="the buffer 'count'"):
        net.count = 3
    net.scale = None  # torch allows that, and so does this
    assert "scale" not in net.state_dict()
    for name in ("", "a.b", "forward"):
        with pytest.raises(ArgumentError):
            net.add_module(name, nn.Identity())
    with pytest.raises(DTypeError, match="register_buffer"):
        net.register_buffer("x", 3)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match=r"wrap it in nn\.Parameter"):
        net.register_parameter("x", mg.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="has no gradient"):
        nn.Parameter(mg.tensor([1, 2]))
    assert not nn.Parameter(mg.tensor([1, 2]), requires_grad=False).requires_grad
    with pytest.raises(ArgumentError, match="define forward"):
        nn.Module()(1)
    assert net.get_submodule("first") is net.first
    assert net.get_parameter("first.bias") is net.first.bias
    with pytest.raises(ArgumentError, match="it has: first, norm"):
        net.get_submodule("second")


def test_modes_and_freezing() -> None:
    net = Net()
    assert net.training
    net.eval()
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_zero_grad() -> None:
    layer = nn.Linear(2, 1)
    layer(mg.ones(3, 2)).sum().backward()
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[0.0, 0.0]]
    layer.zero_grad()
    assert layer.weight.grad is None


def test_apply_reaches_every_part_first() -> None:
    seen: list[str] = []
    nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU())).apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]

    def ones(m: nn.Module) -> None:
        if isinstance(m, nn.Linear):
            m.weight.fill_(1.0)

    assert nn.Linear(2, 2).apply(ones).weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


# -- saving ----------------------------------------------------------------------------------------


def test_round_trip() -> None:
    a, b = Net(), Net()
    x = mg.randn(5, 4)
    a(x)
    assert b.load_state_dict(a.state_dict()) == ([], [])
    for key, value in a.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), b.state_dict()[key].numpy())
    np.testing.assert_array_equal(a.eval()(x).tolist(), b.eval()(x).tolist())
    plain = {k: v.numpy() for k, v in pickle.loads(pickle.dumps(a.state_dict())).items()}
    b.load_state_dict(plain)


def test_every_key_at_fault_is_listed_and_nothing_written() -> None:
    net = Net()
    state = net.state_dict()
    before = net.first.weight.tolist()
    bad: dict[str, Any] = {**{k: v * 0 for k, v in state.items()}, "more": mg.zeros(1), "extra": mg.zeros(1)}
    del bad["scale"], bad["norm.bias"]
    bad["first.bias"] = mg.zeros(7)
    bad["norm.weight"] = mg.zeros(3, 1)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(bad)
    text = str(caught.value)
    assert "missing: scale, norm.bias" in text
    assert "unexpected: more, extra" in text
    assert "first.bias has shape (7,) where (3,) is needed" in text
    assert "norm.weight has shape (3, 1)" in text
    assert net.first.weight.tolist() == before
    with pytest.raises(ValueError, match="mis-shaped"):
        net.load_state_dict(bad, strict=False)
    del bad["first.bias"], bad["norm.weight"]
    missing, unexpected = net.load_state_dict(bad, strict=False)
    assert missing == ["scale", "first.bias", "norm.weight", "norm.bias"]
    assert unexpected == ["more", "extra"]


def test_copies_and_pickles() -> None:
    net = Net()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert list(twin.state_dict()) == KEYS
        assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in twin.parameters())
        twin.first.weight.assign(mg.zeros(3, 4))
        assert net.first.weight.tolist() != twin.first.weight.tolist()


def test_dtypes() -> None:
    net = Net()
    optimizer = mg.optim.SGD(net.parameters(), lr=0.1)
    net(mg.randn(5, 4)).sum().backward()
    net.double()
    assert {p.dtype.name for p in net.parameters()} == {"float64"}
    assert net.norm.num_batches_tracked is not None
    assert net.norm.num_batches_tracked.dtype.name == "int64"
    assert net.first.weight.grad is not None
    assert net.first.weight.grad.dtype.name == "float64"
    net.zero_grad()
    before = net.scale.item()
    net(mg.randn(5, 4, dtype="float64")).square().sum().backward()
    optimizer.step()  # it holds the same parameters
    assert net.scale.item() != before
    assert net.float().scale.dtype.name == "float32"
    assert net.to("cpu").to(mg.float64).scale.dtype.name == "float64"
    with pytest.raises(DTypeError, match="cannot be int64"):
        net.to(mg.int64)
    with pytest.raises(ArgumentError, match="cuda"):
        net.to("cuda")


def test_converting_between_forward_and_backward_is_noticed() -> None:
    layer = nn.Linear(2, 2)
    y = layer(mg.randn(3, 2, requires_grad=True)).sum()
    layer.double()
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


# -- hooks -----------------------------------------------------------------------------------------


def test_hooks() -> None:
    layer = nn.Linear(2, 2)
    seen: list[str] = []
    x = mg.ones(1, 2)
    pre = layer.register_forward_pre_hook(lambda m, args: (args[0] * 0,))
    post = layer.register_forward_hook(lambda m, args, y: seen.append("after"))
    assert layer.bias is not None
    np.testing.assert_array_equal(layer(x).tolist(), [layer.bias.tolist()])
    assert seen == ["after"]
    pre.remove()
    with layer.register_forward_hook(lambda m, args, y: y * 0):
        assert layer(x).tolist() == [[0.0, 0.0]]
    post.remove()
    assert layer(x).tolist() != [layer.bias.tolist()]
    assert seen == ["after"] * 2


# -- containers ------------------------------------------------------------------------------------


def test_sequential() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert isinstance(net[-1], nn.Linear)
    assert list(net[1:].state_dict()) == ["2.weight", "2.bias"]
    net[1] = nn.Tanh()
    assert isinstance(net[1], nn.Tanh)
    del net[0]
    assert list(net.state_dict()) == ["1.weight", "1.bias"]
    net.insert(0, nn.Linear(5, 3)).append(nn.Identity())
    assert len(net) == 4
    assert net(mg.zeros(2, 5)).shape == (2, 1)
    named = nn.Sequential(OrderedDict(first=nn.Linear(2, 2), act=nn.ReLU()))
    assert list(named.state_dict()) == ["first.weight", "first.bias"]
    assert named.first is named[0]
    with pytest.raises(OutOfRangeError, match="index 5 of 2"):
        named[5]
    with pytest.raises(DTypeError, match=r"Sequential\(\*modules\)"):
        nn.Sequential([nn.ReLU()])


def test_lists_and_dictionaries() -> None:
    many = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    many.extend([nn.ReLU()])
    assert len(list(many.parameters())) == 6
    assert many[0] in many
    assert len(many[1:]) == 3
    with pytest.raises(ArgumentError, match="loop over it"):
        many(1)
    table = nn.ModuleDict({"a": nn.Linear(2, 2)})
    table["b"] = nn.ReLU()
    assert list(table) == ["a", "b"]
    assert "a" in table
    table.pop("a")
    assert next(iter(table)) == "b"
    with pytest.raises(ArgumentError, match="it has: b"):
        table["c"]
    with pytest.raises(ArgumentError, match="already has an attribute"):
        table["keys"] = nn.ReLU()


def test_repr() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Dropout(0.2)))
    assert repr(net) == (
        "Sequential(\n  (0): Linear(in_features=2, out_features=3, bias=True)\n  (1): Sequential(\n"
        "    (0): ReLU()\n    (1): Dropout(p=0.2, inplace=False)\n  )\n)"
    )


# -- what layers compute, and how they start -------------------------------------------------------


def test_linear_starts_uniform_by_fan_in() -> None:
    layer = nn.Linear(400, 300)
    bound = 1 / np.sqrt(400)
    w = layer.weight.detach().numpy()
    assert np.abs(w).max() <= bound
    assert np.abs(w).max() > 0.99 * bound
    assert abs(w.mean()) < 0.01 * bound
    assert abs(w.std() / (bound / np.sqrt(3)) - 1) < 0.01
    assert layer.bias is not None
    assert 0.9 * bound < np.abs(layer.bias.detach().numpy()).max() <= bound
    mg.manual_seed(3)
    a = nn.Linear(3, 2).weight.tolist()
    mg.manual_seed(3)
    assert nn.Linear(3, 2).weight.tolist() == a


def test_linear_and_conv_agree_with_sums() -> None:
    layer = nn.Linear(3, 2).double()
    x = mg.randn(4, 3, dtype="float64")
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()  # type: ignore[union-attr]
    np.testing.assert_allclose(layer(x).detach().numpy(), np.einsum("ni,oi->no", x.numpy(), w) + b)
    conv = nn.Conv2d(2, 3, 2, stride=2).double()
    x = mg.randn(1, 2, 4, 4, dtype="float64")
    w, b = conv.weight.detach().numpy(), conv.bias.detach().numpy()  # type: ignore[union-attr]
    wanted = (
        np.einsum("cihjw,ocij->ohw".replace("ihjw", "hiwj"), x.numpy().reshape(2, 2, 2, 2, 2), w)
        + b[:, None, None]
    )
    np.testing.assert_allclose(conv(x).detach().numpy()[0], wanted)
    with pytest.raises(ShapeError, match="last size of the input must be 3"):
        layer(mg.zeros(4, 2, dtype="float64"))


def test_batch_norm_counts_and_refuses() -> None:
    norm = nn.BatchNorm1d(2).double()
    x = mg.tensor([[1.0, 2.0], [3.0, 6.0]], dtype="float64")
    y = norm(x)
    np.testing.assert_allclose(y.detach().numpy(), [[-1, -1], [1, 1]], atol=1e-4)
    state = norm.state_dict()
    np.testing.assert_allclose(state["running_mean"].numpy(), [0.2, 0.4])
    np.testing.assert_allclose(state["running_var"].numpy(), [0.9 + 0.2, 0.9 + 0.8])
    assert state["num_batches_tracked"].item() == 1
    norm.reset_running_stats()
    assert norm.state_dict()["num_batches_tracked"].item() == 0
    with pytest.raises(ShapeError, match="2 channels in dimension 1"):
        norm(mg.zeros(2, 3))


def test_dropout_only_in_training() -> None:
    layer = nn.Dropout(0.5)
    x = mg.ones(1000)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0.0, 2.0}
    assert 400 < (y == 0).sum() < 600
    assert layer.eval()(x) is x
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        nn.Dropout(1.5)


def test_embedding() -> None:
    table = nn.Embedding(4, 2, padding_idx=0)
    assert table.weight.tolist()[0] == [0.0, 0.0]
    y = table(mg.tensor([[0, 3], [3, 1]]))
    assert y.shape == (2, 2, 2)
    y.sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.tolist() == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]
    fixed = nn.Embedding.from_pretrained(mg.eye(3))
    assert not fixed.weight.requires_grad
    with pytest.raises(IndexError):
        table(mg.tensor([4]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(0, 2),
        lambda: nn.Linear(2, 2.5),  # type: ignore[arg-type]
        lambda: nn.Conv2d(3, 4, 0),
        lambda: nn.Conv2d(3, 4, 3, groups=2),
        lambda: nn.Conv2d(3, 4, 3, padding="full"),
        lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"),
        lambda: nn.MSELoss(reduction="avg"),
        lambda: nn.Embedding(3, 2, padding_idx=3),
        lambda: nn.BatchNorm2d(0),
    ],
)
def test_settings_that_make_no_sense(make: Any) -> None:
    with pytest.raises(ArgumentError):
        make()


def test_losses_hold_their_settings() -> None:
    logits = mg.tensor([[2.0, 0.0], [0.0, 1.0]])
    weighted = nn.CrossEntropyLoss(mg.tensor([1.0, 3.0]))
    assert list(weighted.state_dict()) == ["weight"]
    a, b = np.log(1 + np.exp(-2.0)), np.log(1 + np.exp(-1.0))
    np.testing.assert_allclose(weighted(logits, mg.tensor([0, 1])).item(), (a + 3 * b) / 4, rtol=1e-6)
    assert nn.MSELoss(reduction="none")(logits, logits).shape == (2, 2)
    np.testing.assert_allclose(nn.L1Loss()(logits, logits * 0).item(), 0.75)
    p = mg.tensor([0.2, 0.7])
    t = mg.tensor([0.0, 1.0])
    wanted = -(np.log(0.8) + np.log(0.7)) / 2
    np.testing.assert_allclose(nn.BCELoss()(p, t).item(), wanted, rtol=1e-6)
    np.testing.assert_allclose(nn.BCEWithLogitsLoss()((p / (1.0 - p)).log(), t).item(), wanted, rtol=1e-5)


def test_a_module_learns() -> None:
    mg.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = mg.optim.Adam(net.parameters(), lr=0.05)
    x, y = mg.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), mg.tensor([0, 1, 1, 0])
    criterion = nn.CrossEntropyLoss()
    for _ in range(150):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
    assert net(x).argmax(1).tolist() == [0, 1, 1, 0]
    assert loss.item() < 0.05
