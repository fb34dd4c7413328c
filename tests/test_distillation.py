"""Distillation: losses beside plain formulas, the loop, caches, families, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, distillation, nn, quantization
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


def test_two_workers_train_as_one():
    x, y = problem(48)
    runs = []
    for workers in (1, 2):
        student, teacher = network(4), network(8, seed=1)
        sgd = mg.optim.SGD(student.parameters(), lr=0.1)
        loader = data.DataLoader(data.TensorDataset(x, y), batch_size=16)
        Distiller(teacher, student, sgd, temperature=Linear(4.0, 1.0)).fit(
            loader, 2, verbose=0, workers=workers
        )
        runs.append(student[0].weight.detach().numpy())
    np.testing.assert_allclose(*runs, rtol=1e-4, atol=1e-5)
    distiller = Distiller(teacher, student, sgd, matches=[Match("0", "0")], example=x[:2])
    with pytest.raises(ArgumentError, match="leave workers or matches out"):
        distiller.fit(loader, 1, workers=2)


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
    assert not os.path.exists("nowhere"), "refused before anything is written"
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


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (lambda x, y: ((x, y) for _ in range(2)), DTypeError, "a generator can be gone through once"),
        (lambda x, y: [x, y], DTypeError, "a batch is a Tensor"),
        (lambda x, y: [{"x": x, "y": y}], DTypeError, "a batch is a dict"),
        (lambda x, y: (x,), ArgumentError, "no labels"),
        (lambda x, y: (x[:0], y[:0]), ArgumentError, "no examples"),
        (lambda x, y: [], ArgumentError, "no data"),
        (lambda x, y: (x, y[:3]), ShapeError, "16, 3 examples"),
    ],
)
def test_data_that_is_refused(data, error, message):
    x, y = problem(16)
    with pytest.raises(error, match=message):
        distill(network(8), network(4), data(x, y), epochs=1)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"temperature": None}, ArgumentError, "temperature is None"),
        ({"temperature": float("inf")}, ArgumentError, "temperature is inf"),
        ({"alpha": "0.5"}, ArgumentError, "alpha is '0.5'"),
        ({"alpha": float("nan")}, ArgumentError, "alpha is nan"),
        ({"matches": Match("0", "0")}, DTypeError, "pass a list"),
        ({"matches": [("0", "0")]}, DTypeError, "pass a list"),
        ({"optimizer": mg.optim.SGD(network(4).parameters(), lr=0.1)}, ArgumentError, "no parameter of the"),
    ],
)
def test_settings_that_are_refused(settings, error, message):
    x, y = problem(16)
    with pytest.raises(error, match=message):
        distill(network(8), network(4), (x, y), epochs=1, **settings)


def test_models_that_are_refused():
    x, y = problem(16)
    model = network(4)
    with pytest.raises(ArgumentError, match="student is the teacher itself"):
        distill(model, model, (x, y), epochs=1)
    with pytest.raises(DTypeError, match="the teacher is a function"):
        distill(lambda x: x[:, :3], model, (x, y), epochs=1)
    with pytest.raises(DTypeError, match="no teacher"):
        distill(None, model, (x, y), epochs=1)
    with pytest.raises(ArgumentError, match="probabilities, not scores"):
        distill(nn.Sequential(network(8), nn.Softmax(1)), model, (x, y), epochs=1)
    with pytest.raises(ArgumentError, match="1 different models"):
        distillation.mutual([model, model], (x, y), epochs=1)
    with pytest.raises(ArgumentError, match="student is the teacher itself"):
        distillation.born_again(network(8), lambda: model, (x, y), epochs=1)
    for settings in ({"weight": -1.0}, {"weight": float("nan")}, {"dim": 2}):
        with pytest.raises(ArgumentError, match=next(iter(settings))):
            Match("0", "0", **settings)


def test_a_cache_is_not_reused_where_only_code_or_shares_differ(tmp_path):
    x, y = problem(16)
    a, b = network(8), network(8, seed=1)
    cache_outputs(Ensemble([a, b], [1, 3]), (x, y), tmp_path / "ensemble")
    with pytest.raises(mg.checkpoint.CheckpointError, match="another teacher"):
        cache_outputs(Ensemble([a, b], [3, 1]), (x, y), tmp_path / "ensemble")

    class Scaled(nn.Module):
        scale = 1.0

        def __init__(self):
            super().__init__()
            self.inner = a

        def forward(self, x):
            return self.inner(x) * self.scale

    cache_outputs(Scaled(), (x, y), tmp_path / "scaled")
    cache_outputs(Scaled(), (x, y), tmp_path / "scaled")
    Scaled.scale = 2.0
    with pytest.raises(mg.checkpoint.CheckpointError, match="other answers"):
        cache_outputs(Scaled(), (x, y), tmp_path / "scaled")
    with pytest.raises(ArgumentError, match="0 examples of 2 tensors"):
        cache_outputs(a, (x[:0], y[:0]), tmp_path / "empty")
    with pytest.raises(ArgumentError, match="batch_size is 0"):
        cache_outputs(a, (x, y), tmp_path / "none", batch_size=0)
    assert sorted(os.listdir(tmp_path)) == ["ensemble", "scaled"]


# -- students and teachers of other kinds ------------------------------------------------------------


def test_into_a_quantization_aware_student():
    """The student learns with rounding in view, and its integers then say what it says."""
    x, y = problem()
    teacher = trained()
    student = network(16, seed=1)
    distill(teacher, student, (x, y), epochs=20, lr=0.02, temperature=2.0)
    aware = quantization.prepare_qat(student)
    weight = aware.get_submodule("model.0").weight.detach().numpy().copy()
    start = distillation.soft_target_loss(aware.train()(x), teacher(x), 2.0).item()
    match = Match("model.0", "0", weight=0.01)
    distill(teacher, aware, (x, y), epochs=20, lr=0.01, temperature=2.0, matches=[match])
    assert distillation.soft_target_loss(aware(x), teacher(x), 2.0).item() < 0.7 * start
    assert not np.array_equal(aware.get_submodule("model.0").weight.detach().numpy(), weight)
    small = quantization.convert(aware, [x], measure=False)
    assert (small(x).argmax(1) == aware(x).argmax(1)).float().mean().item() > 0.98
    assert (small(x).argmax(1) == teacher(x).argmax(1)).float().mean().item() > 0.85


def test_doubles_and_mixed_dtypes():
    x, y = problem(32)
    student = network(4).double()
    match = Match("0", "0")
    distill(network(8).double(), student, (x.double(), y), epochs=1, matches=[match])
    assert student[0].weight.dtype == mg.float64
    scores = network(8)(x).detach()
    single, double = (distillation.soft_target_loss(network(4)(x), s) for s in (scores, scores.double()))
    assert single.dtype == double.dtype == mg.float32
    assert single.item() == double.item()


def test_the_teacher_is_asked_in_evaluation_mode_whatever_happens_to_it():
    x, y = problem(32)
    teacher = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    student = network(4)
    distiller = Distiller(teacher, student, mg.optim.SGD(student.parameters(), lr=0.1))
    teacher.train()
    before = teacher[1].running_mean.numpy().copy()
    distiller.fit([(x, y)] * 3, 1, verbose=0)
    np.testing.assert_array_equal(teacher[1].running_mean.numpy(), before)
    assert not teacher.training


def transformer(width, seed):
    mg.manual_seed(seed)
    return nn.Sequential(
        nn.Embedding(7, width),
        nn.TransformerEncoderLayer(width, 2, width, batch_first=True, dropout=0.0),
        nn.Flatten(),
        nn.Linear(5 * width, 3),
    )


@pytest.mark.parametrize("kind", ["hint", "attention"])
def test_layers_of_transformers(kind):
    """Features (n, l, c): channels are last, and an adapter maps them, token by token."""
    tokens, y = mg.tensor(RNG.integers(0, 7, (24, 5))), mg.tensor(RNG.integers(0, 3, 24))
    teacher, student = transformer(8, 0), transformer(4, 1)
    with pytest.raises(ArgumentError, match="dim=1 or dim=-1"):
        distill(teacher, student, (tokens, y), epochs=1, matches=[Match("1", "1", kind)])
    adam = mg.optim.Adam(student.parameters(), lr=0.01)
    match = Match("1", "1", kind, dim=-1)
    distiller = Distiller(teacher, student, adam, matches=[match], example=tokens[:2])
    assert [tuple(p.shape) for p in distiller.adapters.parameters()] == (
        [(8, 4, 1), (8,)] if kind == "hint" else []
    )
    total, _ = distiller.matched_loss_of(tokens, y)
    ours, theirs = (model[1](model[0](tokens)).detach().numpy() for model in (student, teacher))
    if kind == "hint":
        w, b = (p.detach().numpy() for p in distiller.adapters.parameters())
        wanted = 0.5 * ((ours @ w[:, :, 0].T + b - theirs) ** 2).mean()
    else:
        maps = [(a**2).mean(2) for a in (ours, theirs)]
        maps = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in maps]
        wanted = ((maps[0] - maps[1]) ** 2).sum(1).mean()
    assert total.item() == pytest.approx(wanted, rel=1e-4)
    history = distiller.fit_matches(data.DataLoader(data.TensorDataset(tokens, y), batch_size=8), 8)
    assert history["loss"][-1] < history["loss"][0]
    distiller.close()


def test_relations_leave_a_last_batch_of_one_out():
    x, y = problem(17)
    history = distill(
        network(8), network(4), (x, y), epochs=1, batch_size=8, matches=[Match("0", "0", "angle")]
    )
    assert np.isfinite(history["loss"][0])
