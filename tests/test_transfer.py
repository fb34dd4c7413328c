"""Transfer: freezing by name, partial loading, rates by depth, low-rank adapters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, nn, transfer
from minigrad.errors import ArgumentError
from minigrad.training import Trainer
from minigrad.transfer import GradualUnfreezing, LoRA


def convolutional():
    mg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.Flatten(),
        nn.Linear(6 * 9, 3),
    )


def images(count=12):
    rng = np.random.default_rng(0)
    x = mg.tensor(rng.normal(size=(count, 1, 8, 8)).astype("float32"))
    return x, mg.tensor(rng.integers(0, 3, count))


def state(model):
    return {k: v.detach().numpy().copy() for k, v in model.state_dict().items()}


def step_of(model, optimizer):
    @mg.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


# -- freezing --------------------------------------------------------------------------------------


def test_what_is_frozen_stays_and_so_do_its_statistics():
    model, (x, y) = convolutional(), images()
    assert transfer.freeze(model, "0", "1") == ["0.weight", "0.bias", "1.weight", "1.bias"]
    before = state(model)
    step = step_of(model, mg.optim.SGD(model.parameters(), lr=0.5))
    model.train()
    for _ in range(2):
        step(x, y)
    after = state(model)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"3.weight", "3.bias", "5.weight", "5.bias"}
    assert transfer.unfreeze(model, "1.*") == ["1.weight", "1.bias"]
    model.train()
    step(x, y)
    assert not np.array_equal(state(model)["1.running_mean"], after["1.running_mean"])
    assert not np.array_equal(state(model)["1.weight"], after["1.weight"])
    assert transfer.frozen(model) == ["0.weight", "0.bias"]
    assert len(transfer.unfreeze(model)) == 8


def test_patterns():
    model = convolutional()
    assert transfer.freeze(model, "*.bias") == ["0.bias", "1.bias", "3.bias", "5.bias"]
    with pytest.raises(ArgumentError, match=r"'encoder' matches no parameter of Sequential.*0\.weight"):
        transfer.freeze(model, "0", "encoder")


def test_rates_by_depth():
    model = convolutional()
    groups = transfer.parameter_groups(model, 0.1, decay=0.5)
    assert [(g["lr"], len(g["params"])) for g in groups] == [(0.0125, 2), (0.025, 2), (0.05, 2), (0.1, 2)]
    assert [p is q for p, q in zip(groups[-1]["params"], model[5].parameters(), strict=True)] == [True, True]
    groups = transfer.parameter_groups(model, 0.1, rates={"5": 1.0, "*.bias": 0.2})
    assert sorted((g["lr"], len(g["params"])) for g in groups) == [(0.1, 3), (0.2, 3), (1.0, 2)]
    optimizer = mg.optim.AdamW(groups, lr=0.1)
    assert {g["lr"] for g in optimizer.param_groups} == {0.1, 0.2, 1.0}
    with pytest.raises(ArgumentError, match="decay"):
        transfer.parameter_groups(model, 0.1, decay=0.0)
    transfer.freeze(model)
    with pytest.raises(ArgumentError, match="every parameter is frozen"):
        transfer.parameter_groups(model, 0.1)


@pytest.mark.parametrize("capture", [True, False])
def test_gradual_unfreezing(capture):
    model, (x, y) = convolutional(), images()
    seen = []

    class Look(GradualUnfreezing):
        def on_epoch_end(self, epoch, logs):
            seen.append(state(model))

    seen.append(state(model))
    trainer = Trainer(
        model,
        mg.optim.SGD(model.parameters(), lr=0.1),
        nn.functional.cross_entropy,
        callbacks=[Look()],
        capture=capture,
    )
    trainer.fit(data.DataLoader(data.TensorDataset(x, y), batch_size=6), 3, verbose=0)
    changed = [
        {n.split(".")[0] for n in a if n.endswith("weight") and not np.array_equal(a[n], b[n])}
        for a, b in itertools.pairwise(seen)
    ]
    assert changed == [{"5"}, {"3", "5"}, {"1", "3", "5"}]


# -- loading ---------------------------------------------------------------------------------------


def test_partial_loading_reports(tmp_path):
    old, new = convolutional(), convolutional()
    transfer.replace_head(new, 7)
    given = dict(old.state_dict())
    given["extra"] = mg.ones(2)
    given["0.bias"] = given["0.bias"].reshape(1, 4)
    del given["3.bias"]
    for p in new.parameters():
        p.assign(p.detach() * 0.0)
    report = transfer.load_partial(new, given)
    assert report.reshaped == ["0.bias"]
    assert report.missing == ["3.bias"]
    assert report.unexpected == ["extra"]
    assert report.differing == {"5.weight": ((7, 54), (3, 54)), "5.bias": ((7,), (3,))}
    assert "3.weight" in report.matched
    np.testing.assert_array_equal(new[3].weight.detach().numpy(), old[3].weight.detach().numpy())
    np.testing.assert_array_equal(new[0].bias.detach().numpy(), old[0].bias.detach().numpy())
    assert not new[5].weight.detach().numpy().any()
    path = tmp_path / "run.safetensors"
    mg.checkpoint.save(path, {"model": {f"net.{k}": v for k, v in old.state_dict().items()}, "epoch": 3})
    report = transfer.load_partial(convolutional(), path, rename=lambda n: n.removeprefix("net."))
    assert [report.missing, report.unexpected, report.differing] == [[], [], {}]
    with pytest.raises(ArgumentError, match="nothing fits"):
        transfer.load_partial(convolutional(), {"a": mg.ones(2)})


def test_heads_and_features():
    model, (x, _) = convolutional(), images()
    features = transfer.extract(model, x, "4", batch_size=5)
    model.eval()
    np.testing.assert_allclose(features.numpy(), model[:5](x).detach().numpy(), rtol=1e-5, atol=1e-6)
    head = transfer.replace_head(model, 5)
    assert model[5] is head
    assert model(x).shape == (12, 5)
    transfer.replace_head(model, 8, "3")
    assert model[3].weight.shape == (8, 4, 3, 3)
    assert model[3].stride == (2, 2)
    with pytest.raises(ArgumentError, match="no Linear or convolution"):
        transfer.replace_head(nn.ReLU(), 3)
    with pytest.raises(ArgumentError, match="'1' is no Linear"):
        transfer.replace_head(model, 3, "1")


# -- LoRA ------------------------------------------------------------------------------------------


def test_lora_starts_as_the_model_and_learns_alone():
    model, (x, y) = convolutional(), images()
    model.eval()
    before, output = state(model), model(x).detach().numpy()
    assert transfer.add_lora(model, "3", "5", rank=2, alpha=4.0, dropout=0.1) == ["3", "5"]
    np.testing.assert_array_equal(model(x).detach().numpy(), output)
    learn = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learn == {"3.down", "3.up", "5.down", "5.up"}
    step = step_of(model, mg.optim.Adam(model.parameters(), lr=0.05))
    model.train()
    losses = [float(step(x, y)) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    for name, value in state(model).items():
        old = name.replace(".base", "")
        if old in before:
            np.testing.assert_array_equal(value, before[old])


def test_merging_and_back():
    model, (x, _) = convolutional(), images()
    model.eval()
    transfer.add_lora(model, rank=2)
    for m in model.modules():
        if isinstance(m, LoRA):
            m.up.assign(mg.randn(*m.up.shape))
    before, output = state(model), model(x).detach().numpy()
    transfer.merge_lora(model)
    transfer.merge_lora(model)
    np.testing.assert_allclose(model(x).detach().numpy(), output, rtol=1e-4, atol=1e-4)
    assert not np.array_equal(state(model)["5.base.weight"], before["5.base.weight"])
    transfer.unmerge_lora(model)
    for name, value in state(model).items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(model(x).detach().numpy(), output)
    small = transfer.lora_state_dict(model)
    assert set(small) == {f"{i}.{part}" for i in "035" for part in ("down", "up")}
    other = convolutional().eval()
    transfer.add_lora(other, rank=2)
    other.load_state_dict(small, strict=False)
    np.testing.assert_array_equal(other(x).detach().numpy(), output)


def test_lora_refuses():
    model = convolutional()
    with pytest.raises(ArgumentError, match="rank 5"):
        transfer.add_lora(model, "5", rank=5)
    with pytest.raises(ArgumentError, match="'1' matches no Linear or Conv2d"):
        transfer.add_lora(model, "1")
    with pytest.raises(ArgumentError, match="no adapters"):
        transfer.merge_lora(model)
    with pytest.raises(ArgumentError, match="a ReLU has no such adapter"):
        LoRA(nn.ReLU())
