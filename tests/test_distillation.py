"""Distillation: losses beside plain formulas, the loop, caches, families, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, distillation, nn
from minigrad.distillation import Cosine, Distiller, Ensemble, Linear, Match, cache_outputs, distill
from minigrad.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(0)


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def problem(count=192, features=6):
    mg.manual_seed(0)
    x = mg.randn(count, features)
    return x, (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()


def network(width, seed=0, images=False):
    mg.manual_seed(seed)
    if images:
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * 16, 3),
        )
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


# -- losses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_soft_targets_are_the_formula(temperature):
    s, t = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4))
    p, q = log_softmax(t / temperature), log_softmax(s / temperature)
    wanted = temperature**2 * (np.exp(p) * (p - q)).sum(1).mean()
    x = mg.tensor(s, requires_grad=True)
    loss = distillation.soft_target_loss(x, mg.tensor(t), temperature)
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    loss.backward()
    gradient = temperature * (np.exp(q) - np.exp(p)) / 5  # Hinton et al. 2015, equation 2, times T^2
    np.testing.assert_allclose(x.grad.numpy(), gradient, rtol=1e-10, atol=1e-14)


def test_hot_soft_targets_match_scores():
    """Hinton et al. 2015, equation 4: for large T the gradient is that of |s - t|^2 / 2C, centred."""
    s, t = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
    s, t = s - s.mean(1, keepdims=True), t - t.mean(1, keepdims=True)
    loss = distillation.soft_target_loss(mg.tensor(s), mg.tensor(t), 1e4).item()
    assert loss == pytest.approx(((s - t) ** 2).sum(1).mean() / 8, rel=1e-3)


def test_losses_inside():
    s, t = RNG.normal(size=(4, 3, 2, 2)), RNG.normal(size=(4, 5, 2, 2))
    maps = [(x**2).sum(1).reshape(4, -1) for x in (s, t)]
    maps = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in maps]
    wanted = ((maps[0] - maps[1]) ** 2).sum(1).mean()
    got = distillation.attention_transfer_loss(mg.tensor(s), mg.tensor(t))
    assert got.item() == pytest.approx(wanted, rel=1e-10)
    assert distillation.hint_loss(mg.tensor(s), mg.tensor(s) + 2.0).item() == pytest.approx(2.0)

    def huber(d):
        return np.where(np.abs(d) < 1, 0.5 * d * d, np.abs(d) - 0.5).mean()

    flat = [x.reshape(4, -1) for x in (s, t)]
    between = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in flat]
    between = [d / (d.sum() / 12) for d in between]
    got = distillation.relational_distance_loss(mg.tensor(s), mg.tensor(t))
    assert got.item() == pytest.approx(huber(between[0] - between[1]), abs=1e-6)
    angles = []
    for x in flat:
        e = x[None] - x[:, None]
        e = e / np.maximum(np.linalg.norm(e, axis=2, keepdims=True), 1e-12)
        angles.append(np.einsum("jid,jkd->jik", e, e))
    got = distillation.relational_angle_loss(mg.tensor(s), mg.tensor(t))
    assert got.item() == pytest.approx(huber(angles[0] - angles[1]), rel=1e-9)


@pytest.mark.parametrize(
    "loss",
    [
        distillation.soft_target_loss,
        distillation.hint_loss,
        lambda s, t: distillation.attention_transfer_loss(s.reshape(4, 1, 3), t.reshape(4, 1, 3)),
        distillation.relational_distance_loss,
        distillation.relational_angle_loss,
    ],
)
def test_gradients_of_losses(loss):
    t = mg.tensor(RNG.normal(size=(4, 3)), requires_grad=True)
    s = mg.tensor(RNG.normal(size=(4, 3)), requires_grad=True)
    assert mg.autograd.gradcheck(lambda x: loss(x, t), [s])
    loss(s, t).backward()
    assert t.grad is None, "the teacher gets no gradient"


# -- the loop --------------------------------------------------------------------------------------


def trained(width=48, epochs=40, seed=0):
    x, y = problem()
    model = network(width, seed)
    adam = mg.optim.Adam(model.parameters(), lr=0.01)

    @mg.compile
    def step():
        adam.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

    for _ in range(epochs):
        step()
    return model


def test_the_student_comes_near_the_teacher():
    x, y = problem()
    teacher, student = trained(), network(8, seed=1)
    before = {k: v.numpy().copy() for k, v in teacher.state_dict().items()}
    start = distillation.soft_target_loss(student(x), teacher(x), 2.0).item()
    history = distill(teacher, student, (x, y), epochs=60, lr=0.02, temperature=2.0)
    end = distillation.soft_target_loss(student(x), teacher(x), 2.0).item()
    assert end < 0.2 * start
    assert len(history["loss"]) == 60
    for name, value in teacher.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    assert not student.training


def test_captured_steps_equal_eager_ones_with_schedules():
    x, y = problem()
    results = []
    for capture in (True, False):
        student = network(8, seed=1)
        mg.manual_seed(5)
        distill(
            trained(epochs=5),
            student,
            (x, y),
            epochs=3,
            temperature=Linear(8.0, 1.0),
            alpha=Cosine(0.9, 0.1),
            capture=capture,
        )
        results.append(student[0].weight.detach().numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_schedules_reach_their_ends():
    assert (Cosine(4.0, 1.0)(0.0), Cosine(4.0, 1.0)(1.0), Cosine(4.0, 2.0)(0.5)) == (4.0, 1.0, 3.0)
    x, y = problem(64)
    student = network(4)
    seen = []

    class Look:
        model = params = None

        def on_train_batch_end(self, number, logs):
            seen.append((distiller.temperature.item(), distiller.alpha.item()))

        def __getattr__(self, name):
            return lambda *args: None

    distiller = Distiller(
        network(8),
        student,
        mg.optim.SGD(student.parameters(), lr=0.1),
        temperature=Linear(5.0, 1.0),
        alpha=Linear(0.0, 1.0),
        callbacks=[Look()],
    )
    distiller.fit(data.DataLoader(data.TensorDataset(x, y), batch_size=16), 2, verbose=0)
    assert seen[0] == (5.0, 0.0)
    assert seen[-1] == (1.0, 1.0)
    assert len(set(seen)) == 8


@pytest.mark.parametrize("kind", ["hint", "attention", "distance", "angle"])
def test_layers_inside_come_near(kind):
    x = mg.tensor(RNG.normal(size=(48, 1, 8, 8)).astype("float32"))
    y = (x.mean((1, 2, 3)) > 0).long()
    teacher, student = network(6, images=True), network(4, seed=1, images=True)
    match = Match("2", "2", kind, weight=2.0)
    adam = mg.optim.Adam(student.parameters(), lr=0.01)
    distiller = Distiller(teacher, student, adam, matches=[match], example=x[:2])
    assert len(list(distiller.adapters.parameters())) == (2 if kind == "hint" else 0)
    loader = data.DataLoader(data.TensorDataset(x, y), batch_size=16)
    first = distiller.fit_matches(loader, 15)
    assert first["loss"][-1] < 0.8 * first["loss"][0]
    distiller.fit(loader, 2, verbose=0)
    distiller.close()
    student(x)
    assert not distiller.matches


def test_hints_between_images_of_different_size():
    x = mg.tensor(RNG.normal(size=(8, 1, 8, 8)).astype("float32"))
    y = mg.zeros(8, dtype=mg.int64)
    history = distill(
        network(6, images=True),
        network(4, seed=1, images=True),
        (x, y),
        epochs=1,
        hint_epochs=1,
        matches=[Match("2", "0"), Match("0", "2", "attention")],
    )
    assert np.isfinite(history["loss"][0])


# -- teachers --------------------------------------------------------------------------------------


def test_an_ensemble_is_the_mean_of_probabilities():
    x, _ = problem(7)
    models = [network(4, seed) for seed in range(3)]
    p = np.mean([np.exp(log_softmax(m(x).detach().numpy())) for m in models], axis=0)
    np.testing.assert_allclose(Ensemble(models)(x).exp().detach().numpy(), p, rtol=1e-5)
    weighted = Ensemble(models[:2], [1, 3], of="logits")(x).detach().numpy()
    a, b = (m(x).detach().numpy() for m in models[:2])
    np.testing.assert_allclose(weighted, 0.25 * a + 0.75 * b, rtol=1e-5, atol=1e-7)


def test_cached_scores_give_the_same_run(tmp_path):
    x, y = problem()
    path = tmp_path / "teacher.safetensors"
    results = []
    for cache in (None, path, path):
        student = network(8, seed=1)
        mg.manual_seed(3)
        distill(trained(epochs=5), student, (x, y), epochs=2, cache=cache, validation=(x, y))
        results.append(student[2].weight.detach().numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(results[1], results[2])


def test_a_cache_of_something_else_is_refused(tmp_path):
    x, y = problem()
    path = tmp_path / "teacher.safetensors"
    teacher = network(8)
    cached = cache_outputs(teacher, (x, y), path)
    np.testing.assert_allclose(
        cached[np.arange(5)][1].numpy(), teacher(x[:5]).detach().numpy(), rtol=1e-4, atol=1e-6
    )
    written = path.read_bytes()
    with pytest.raises(mg.checkpoint.CheckpointError, match="other weights"):
        cache_outputs(network(8, seed=1), (x, y), path)
    with pytest.raises(mg.checkpoint.CheckpointError, match="other data"):
        cache_outputs(teacher, (x + 1.0, y), path)
    assert path.read_bytes() == written
    path.write_bytes(written[: len(written) // 2])
    with pytest.raises(mg.checkpoint.CheckpointError):
        cache_outputs(teacher, (x, y), path)
    assert os.listdir(tmp_path) == ["teacher.safetensors"]
    with pytest.raises(DTypeError, match="other examples next time"):
        cache_outputs(teacher, data.Subset(data.TensorDataset(x, y), [0, 1]), tmp_path / "b")


# -- families --------------------------------------------------------------------------------------


def test_mutual_learning_is_the_formula():
    x, y = problem(32)
    models = [network(4, seed) for seed in range(3)]
    trainer = distillation.MutualTrainer(models, mg.optim.SGD(models[0].parameters(), lr=0.1))
    total, _ = trainer.loss_of(x, y)
    logs = [log_softmax(m(x).detach().numpy().astype(float)) for m in models]
    wanted = sum(-q[np.arange(32), y.numpy()].mean() for q in logs)
    wanted += sum(
        (np.exp(p) * (p - q)).sum(1).mean() / 2
        for i, p in enumerate(logs)
        for j, q in enumerate(logs)
        if i != j
    )
    assert total.item() == pytest.approx(wanted, rel=1e-5)
    total.backward()
    assert all(p.grad is not None for m in models for p in m.parameters())


def test_generations():
    x, y = problem(64)
    family = distillation.born_again(network(6), lambda: network(6, 7), (x, y), generations=2, epochs=1)
    assert len(family) == 2
    assert not np.array_equal(*(m[0].weight.detach().numpy() for m in family))


# -- what is refused -------------------------------------------------------------------------------


def test_bad_input():
    x, y = problem(16)
    teacher, student = network(8), network(4)
    other = nn.Linear(6, 5)
    with pytest.raises(ShapeError, match="same classes"):
        distill(teacher, other, (x, y), epochs=1)
    with pytest.raises(ArgumentError, match="temperature is 0"):
        distill(teacher, student, (x, y), epochs=1, temperature=0.0)
    with pytest.raises(ArgumentError, match="alpha is 2"):
        distill(teacher, student, (x, y), epochs=1, alpha=Linear(0.0, 2.0))
    with pytest.raises(ArgumentError, match="no module 'nine'"):
        distill(teacher, student, (x, y), epochs=1, matches=[Match("nine", "0")])
    with pytest.raises(ArgumentError, match="kind is 'hunt'"):
        Match("0", "0", "hunt")
    with pytest.raises(ArgumentError, match="hint_epochs without matches"):
        distill(teacher, student, (x, y), epochs=1, hint_epochs=2)
    with pytest.raises(ArgumentError, match="leave cache or matches out"):
        distill(teacher, student, (x, y), epochs=1, matches=[Match("0", "0")], cache="nowhere")
    wide = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Flatten(), nn.Linear(6, 3))
    with pytest.raises(ShapeError, match="same number of dimensions"):
        distill(teacher, wide, (x, y), epochs=1, matches=[Match("0", "0")])
    with pytest.raises(ArgumentError, match="weights are"):
        Ensemble([teacher, student], [1.0])
    with pytest.raises(ShapeError, match="same classes"):
        Ensemble([teacher, other])(x)
    with pytest.raises(ArgumentError, match="two or more"):
        distillation.mutual([student], (x, y), epochs=1)
    with pytest.raises(ArgumentError, match="holds no scores"):
        Distiller(None, student, mg.optim.SGD(student.parameters(), lr=0.1)).train_step((x, y))
