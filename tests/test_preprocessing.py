"""Preprocessing and augmentation: what they compute, and that it depends on nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, data
from minigrad.data import augmentation as aug
from minigrad.data import preprocessing as pre
from minigrad.errors import ArgumentError, DTypeError, ShapeError

# -- preprocessing ------------------------------------------------------------------------------------------

TEXTS = ["The cat's hat.", "the dog", "a DOG, the cat's"]


def fitted() -> list[tuple[pre.Preprocessor, Any]]:
    x = np.random.default_rng(0).normal(3.0, 2.0, (50, 4))
    x[:, 2] = 7.0
    holes = x.copy()
    holes[3, 1] = holes[4, 1] = holes[7, 0] = np.nan
    labels = ["b", "a", "c", "a"]
    return [
        (pre.StandardScaler(), x),
        (pre.MinMaxScaler((-1, 1)), x),
        (pre.RobustScaler((10.0, 90.0)), x),
        (pre.SimpleImputer("median"), holes),
        (pre.LabelEncoder(), labels),
        (pre.OneHotEncoder("ignore"), labels),
        (pre.Tokenizer(num_words=3, length=4), TEXTS),
        (pre.Tokenizer(level="char", lower=False), TEXTS),
        (pre.Pipeline(pre.SimpleImputer(), pre.StandardScaler()), holes),
    ]


@pytest.mark.parametrize("which", range(9))
def test_state_goes_through_a_file(which: int, tmp_path: Path) -> None:
    step, x = fitted()[which]
    expected = step.fit_transform(x)
    checkpoint.save(tmp_path / "f", step.state_dict())
    again = fitted()[which][0]
    with pytest.raises(ArgumentError, match="fit"):
        again.transform(x)
    again.load_state_dict(checkpoint.load(tmp_path / "f"))
    np.testing.assert_array_equal(again.transform(x), expected)
    with pytest.raises(ArgumentError, match="load_state_dict"):
        step.load_state_dict({"kind": "Other"})


@pytest.mark.parametrize("which", [0, 1, 2])
def test_scalers_go_back_and_agree_with_sklearn(which: int) -> None:
    step, x = fitted()[which]
    z = step.fit_transform(x)
    np.testing.assert_allclose(step.inverse_transform(z), x, rtol=1e-12)
    assert step.transform(x.astype(np.float32)).dtype == np.float32
    theirs = pytest.importorskip("sklearn.preprocessing")
    peer = [
        theirs.StandardScaler(),
        theirs.MinMaxScaler((-1, 1)),
        theirs.RobustScaler(quantile_range=(10.0, 90.0)),
    ][which]
    np.testing.assert_allclose(z, peer.fit_transform(x), rtol=1e-10, atol=1e-12)


def test_images_are_scaled_by_pixel() -> None:
    images, _ = data.load_digits("train")
    z = pre.StandardScaler().fit_transform(images)
    assert z.shape == images.shape
    assert z.dtype == np.float32
    assert abs(z.mean()) < 1e-5


def test_imputer() -> None:
    x = [[1.0, np.nan, np.nan], [1.0, 2.0, np.nan], [4.0, 5.0, np.nan]]
    for strategy, value in (("mean", 3.5), ("median", 3.5), ("most_frequent", 2.0), ("constant", -1.0)):
        filled = pre.SimpleImputer(strategy, fill_value=-1.0).fit_transform(x)
        assert filled[0].tolist() == [1.0, value, -1.0]
    with pytest.raises(ArgumentError, match="strategy"):
        pre.SimpleImputer("mode")


def test_labels_and_rows() -> None:
    encoder = pre.LabelEncoder().fit(["b", "a", "b"])
    assert encoder.transform(["a", "b"]).tolist() == [0, 1]
    assert encoder.inverse_transform(mg.tensor([1, 0])) == ["b", "a"]
    with pytest.raises(ArgumentError, match="not seen: c, d"):
        encoder.transform(["c", "a", "d"])
    with pytest.raises(ArgumentError, match="0 to 1"):
        encoder.inverse_transform([2])
    with pytest.raises(DTypeError, match="strings or integers"):
        encoder.fit([0.5, 1.0])
    rows = pre.OneHotEncoder(handle_unknown="ignore").fit([3, 7])
    assert rows.transform([7, 5]).tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert rows.inverse_transform(rows.transform([7, 5])) == [7, None]
    with pytest.raises(ArgumentError, match="not seen: 5"):
        pre.OneHotEncoder().fit([3, 7]).transform([5])


def test_tokens() -> None:
    words = pre.Tokenizer().fit(TEXTS)
    assert words.words_[:4] == ["<pad>", "<unk>", "the", "cat's"]
    assert words.inverse_transform(words.transform(TEXTS)) == [
        "the cat's hat .",
        "the dog",
        "a dog , the cat's",
    ]
    characters = pre.Tokenizer(level="char", lower=False).fit(TEXTS)
    assert characters.inverse_transform(characters.transform(TEXTS)) == TEXTS
    assert words.transform(["the zebra"]).tolist() == [[2, 1]]
    for bad in ("text", [b"x"]):
        with pytest.raises(DTypeError):
            words.fit(bad)  # type: ignore[arg-type]


def test_bad_data() -> None:
    for bad, error, text in (
        ([[1.0, np.nan]], ArgumentError, r"x\[0, 1\] is nan.*SimpleImputer"),
        ([["a"]], DTypeError, "encode categories"),
        (np.zeros((0, 2)), ShapeError, "n >= 1"),
    ):
        with pytest.raises(error, match=text):
            pre.StandardScaler().fit(bad)
    with pytest.raises(ShapeError, match="same columns"):
        pre.StandardScaler().fit([[1.0, 2.0]]).transform([[1.0]])


# -- augmentation -------------------------------------------------------------------------------------------

ALL: list[aug.Transform] = [
    aug.RandomHorizontalFlip(),
    aug.RandomVerticalFlip(),
    aug.RandomCrop(9, padding=2),
    aug.RandomRotation(20),
    aug.RandomTranslation(0.2, 0.1),
    aug.RandomScale((0.8, 1.2)),
    aug.RandomShear(15),
    aug.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), 5, fill=1.0, p=0.5),
    aug.RandomBrightness(0.3),
    aug.RandomContrast(0.3),
    aug.GaussianNoise(5.0),
    aug.Cutout(4),
    aug.RandomErasing(1.0),
    aug.RandomErasing(1.0, value="random"),
    aug.ElasticTransform(20.0, 2.0),
    aug.Compose([aug.RandomRotation(5), aug.RandomRotation(5)]),
]
NAMES = [f"{type(t).__name__}{i}" for i, t in enumerate(ALL)]


def images(n: int = 12, dtype: Any = np.uint8) -> np.ndarray:
    return (np.random.default_rng(0).random((n, 2, 9, 9)) * 250).astype(dtype)


@pytest.mark.parametrize("transform", ALL, ids=NAMES)
def test_an_example_is_changed_alike_in_any_company(transform: aug.Transform) -> None:
    for dtype in (np.uint8, np.float32):
        x = images(dtype=dtype)
        before = x.copy()
        whole = transform(x, seed=4, epoch=2)
        assert whole.shape == x.shape
        assert whole.dtype == dtype
        assert (x == before).all()
        assert (whole != x).any()
        some = np.array([7, 2, 11])
        # BLAS may round the blur of another batch otherwise
        np.testing.assert_allclose(transform(x[some], seed=4, epoch=2, index=some), whole[some], atol=1e-4)
        for other in ({"seed": 5, "epoch": 2}, {"seed": 4, "epoch": 3}):
            assert (transform(x, **other) != whole).any()
    gray = x[:, 0]
    assert transform(gray).shape == gray.shape


def test_layouts_agree() -> None:
    x = images(dtype=np.float32)
    for kind in (aug.RandomRotation, aug.RandomTranslation):
        options: tuple[Any, ...] = (30,) if kind is aug.RandomRotation else (0.3, 0.2)
        first = kind(*options)(x)
        last = kind(*options, channels_last=True)(np.moveaxis(x, 1, 3))
        np.testing.assert_array_equal(first, np.moveaxis(last, 3, 1))


def test_geometry_is_right() -> None:
    x = images(dtype=np.float32)
    np.testing.assert_allclose(aug.RandomRotation((90, 90))(x), np.rot90(x, 1, (2, 3)), atol=1e-3)
    np.testing.assert_allclose(aug.RandomAffine()(x), x, atol=1e-4)
    shift = aug.sample(
        x,
        np.arange(9).reshape(1, -1, 1) - np.full((12, 1, 9), 2.0),
        np.tile(np.arange(9.0), (12, 9, 1)),
        -1.0,
    )
    np.testing.assert_array_equal(shift[:, :, 2:], x[:, :, :-2])
    assert (shift[:, :, :2] == -1.0).all()
    # twice as large: the centre stays, and its neighbour is where its neighbour's neighbour was
    big = aug.RandomScale((2.0, 2.0))(x)
    np.testing.assert_allclose(big[:, :, 4, 4], x[:, :, 4, 4], atol=1e-3)
    np.testing.assert_allclose(big[:, :, 6, 2], x[:, :, 5, 3], atol=1e-3)
    np.testing.assert_allclose(big[:, :, 5, 4], (x[:, :, 4, 4] + x[:, :, 5, 4]) / 2, atol=1e-3)


def test_interpolation_agrees_with_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x = images(3, np.float32)
    where = np.random.default_rng(1).uniform(-3, 12, (2, 3, 5, 7))
    mine = aug.sample(x, where[0], where[1], 40.0)
    for i in range(3):
        for c in range(2):
            theirs = ndimage.map_coordinates(x[i, c], where[:, i], order=1, mode="grid-constant", cval=40.0)
            np.testing.assert_allclose(mine[i, c], theirs, atol=2e-3)


def test_crops_flips_and_holes() -> None:
    x = images(40, np.float32) + 1
    flipped = aug.RandomHorizontalFlip(0.5)(x)
    turned = [(f == a[..., ::-1]).all() for f, a in zip(flipped, x, strict=True)]
    assert all(t or (f == a).all() for t, f, a in zip(turned, flipped, x, strict=True))
    assert 8 < sum(turned) < 32
    crop = aug.RandomCrop((5, 6), padding=1)(x)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    places = {
        (r, c)
        for i in range(40)
        for r in range(7)
        for c in range(6)
        if (padded[i, :, r : r + 5, c : c + 6] == crop[i]).all()
    }
    assert len(places) > 15
    holes = (aug.Cutout(3)(x) == 0).sum((1, 2, 3)) // 2
    assert holes.max() == 9
    assert holes.min() >= 1
    erased = (aug.RandomErasing(1.0, (0.2, 0.2), (1.0, 1.0))(x) == 0).sum((1, 2, 3))
    assert (erased == 2 * 16).all()
    brighter = aug.RandomBrightness((0.5, 0.5))(x)
    np.testing.assert_allclose(brighter, 1.5 * x, rtol=1e-6)
    flat = aug.RandomContrast((-1.0, -1.0))(x)
    np.testing.assert_allclose(flat, np.broadcast_to(x.mean((1, 2, 3), keepdims=True), x.shape), rtol=1e-5)
    assert aug.GaussianNoise(0.5)(np.zeros((200, 50))).std() == pytest.approx(0.5, rel=0.03)


def test_mixing() -> None:
    x = np.arange(200, dtype=np.float32).reshape(200, 1, 1, 1) * np.ones((1, 1, 8, 8), np.float32)
    y = np.arange(200) % 5
    for transform in (aug.Mixup(0.4, num_classes=5), aug.CutMix(1.0, num_classes=5)):
        mixed, rows = transform(x, y)
        assert rows.shape == (200, 5)
        np.testing.assert_allclose(rows.sum(1), 1.0, rtol=1e-6)
        again, same = transform(mg.tensor(x), mg.tensor(y))
        assert (again.numpy() == mixed).all()
        assert (same.numpy() == rows).all()
    pasted, rows = aug.CutMix(1.0, 200)(x, np.arange(200))
    for i in range(200):
        share = (pasted[i] == i).mean()
        assert rows[i, i] == pytest.approx(share)
    assert (aug.Mixup(1.0, 5, p=0.0)(x, y)[0] == x).all()
    with pytest.raises(ArgumentError, match="num_classes"):
        aug.Mixup()(x, y)
    with pytest.raises(ArgumentError, match="labels from 0 to 4"):
        aug.Mixup(num_classes=3)(x, y)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0])
def test_beta_quantiles(alpha: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    mine = aug._beta_quantiles(alpha)
    theirs = stats.beta(alpha, alpha).ppf(np.linspace(0, 1, len(mine)))
    np.testing.assert_allclose(mine, theirs, atol=2e-4)


def test_series() -> None:
    t = np.linspace(0, 1, 60, dtype=np.float32)
    series = np.stack([t, t**2], axis=-1)[None].repeat(30, 0)
    warped = aug.TimeWarp(0.5)(series)
    np.testing.assert_allclose(warped[:, [0, -1]], series[:, [0, -1]], atol=1e-5)
    assert (np.diff(warped[..., 0]) > 0).all()
    np.testing.assert_allclose(warped[..., 1], warped[..., 0] ** 2, atol=1e-3)  # both see the same time
    assert np.abs(warped - series).max() > 0.05
    assert aug.Jitter(0.1)(series).shape == series.shape
    np.testing.assert_array_equal(aug.TimeWarp(0.0)(series).shape, series.shape)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_same_augmentation_whatever_the_number_of_workers() -> None:
    x, y = images(20, np.float32), np.arange(20)
    steps = aug.Compose([aug.RandomRotation(10), aug.Cutout(3), aug.Mixup(0.4, 20)])
    plain = aug.Compose(steps.transforms[:2])
    for whole in (
        data.Augmented(data.TensorDataset(x, y), steps),
        data.Augmented(data.Subset(data.TensorDataset(x, y), range(3, 19)), plain),
        data.Augmented([(a, b) for a, b in zip(x, y, strict=True)], plain),
    ):
        runs = []
        for workers in (0, 2):
            mg.manual_seed(1)
            loader = data.DataLoader(whole, 6, shuffle=True, num_workers=workers)
            runs.append([(a.numpy().tobytes(), b.numpy().tobytes()) for _ in range(2) for a, b in loader])
        assert runs[0] == runs[1]
        assert len(set(runs[0])) == len(runs[0])
    with pytest.raises(ArgumentError, match="whole batches"):
        data.Augmented([(x[0], 1)], steps)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: aug.RandomHorizontalFlip(1.5),
        lambda: aug.RandomCrop(0),
        lambda: aug.RandomScale((1.2, 0.8)),
        lambda: aug.RandomScale((0.0, 1.0)),
        lambda: aug.GaussianNoise(-1.0),
        lambda: aug.ElasticTransform(sigma=0),
        lambda: aug.RandomErasing(value="white"),
        lambda: aug.Mixup(0.0),
        lambda: aug.TimeWarp(knots=0),
        lambda: aug.Mixup(num_classes=3)(np.zeros((2, 2))),
    ],
)
def test_settings_that_make_no_sense(bad: Any) -> None:
    with pytest.raises(ArgumentError):
        bad()


def test_shapes_that_make_no_sense() -> None:
    for bad in (
        lambda: aug.RandomRotation(5)(np.zeros((3, 4))),
        lambda: aug.RandomCrop(10)(images()),
        lambda: aug.TimeWarp()(np.zeros(4)),
        lambda: aug.Cutout(2)(3.0),
    ):
        with pytest.raises(ShapeError):
            bad()
    for wrong in (lambda: aug.Compose([3]), lambda: data.Augmented([1], 3)):  # type: ignore[list-item,arg-type]
        with pytest.raises(DTypeError):
            wrong()
