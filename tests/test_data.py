"""The embedded digits, data sets and loaders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import data
from minigrad.errors import ArgumentError, DTypeError, ShapeError


def test_digits() -> None:
    images, labels = data.load_digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 16)
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert int(images.astype(np.int64).sum()) == 561718  # as published


def test_the_split_is_fixed_stratified_and_complete() -> None:
    parts = [data.load_digits(name) for name in ("train", "validation", "test")]
    assert [len(x) for x, _ in parts] == [1259, 179, 359]
    everything = np.concatenate([x.reshape(len(x), -1) for x, _ in parts])
    whole = data.load_digits()[0].reshape(1797, -1)
    assert sorted(map(bytes, everything)) == sorted(map(bytes, whole))
    for (_, labels), share in zip(parts, (0.7, 0.1, 0.2), strict=True):
        np.testing.assert_allclose(np.bincount(labels) / np.bincount(data.load_digits()[1]), share, atol=0.01)
    assert parts[2][1][:8].tolist() == data.load_digits("test")[1][:8].tolist()
    with pytest.raises(ArgumentError, match="use one of train, validation, test"):
        data.load_digits("training")


def test_the_archive_is_small() -> None:
    from importlib.resources import files

    assert len(files("minigrad.data").joinpath("digits.npz").read_bytes()) < 100_000


def test_tensor_dataset() -> None:
    pairs = data.TensorDataset(np.arange(6).reshape(3, 2), mg.tensor([1.0, 2.0, 3.0]))
    assert len(pairs) == 3
    x, y = pairs[1]
    assert (x.tolist(), y.item()) == ([2, 3], 2.0)
    assert pairs[np.array([2, 0])][1].tolist() == [3.0, 1.0]
    with pytest.raises(ShapeError, match="3, 2 examples"):
        data.TensorDataset(mg.zeros(3), mg.zeros(2))
    with pytest.raises(ShapeError, match="0-d"):
        data.TensorDataset(mg.tensor(1.0))
    with pytest.raises(ArgumentError, match="no tensors"):
        data.TensorDataset()


def test_loader() -> None:
    pairs = data.TensorDataset(np.arange(7), np.arange(7) * 2.0)
    loader = data.DataLoader(pairs, batch_size=3)
    assert len(loader) == 3
    assert [x.tolist() for x, _ in loader] == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(data.DataLoader(pairs, 3, drop_last=True)) == 2
    assert [len(x) for x, _ in data.DataLoader(pairs, 3, drop_last=True)] == [3, 3]
    mixed = data.DataLoader(pairs, 2, shuffle=True)
    mg.manual_seed(1)
    first, second = ([x.tolist() for x, _ in mixed] for _ in range(2))
    assert first != second
    assert sorted(i for batch in first for i in batch) == list(range(7))
    mg.manual_seed(1)
    assert [x.tolist() for x, _ in mixed] == first
    assert all((2 * x == y).all() for x, y in mixed)
    assert list(data.DataLoader(mg.zeros(0, 2), 4)) == []


def test_loader_of_examples_one_by_one() -> None:
    class Squares(data.Dataset):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"x": mg.tensor([float(index)]), "pair": (index, np.float32(index) ** 2)}

    batch = next(iter(data.DataLoader(Squares(), 3)))
    assert batch["x"].shape == (3, 1)
    assert batch["pair"][0].tolist() == [0, 1, 2]
    assert batch["pair"][1].tolist() == [0.0, 1.0, 4.0]


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "2"])
def test_batch_sizes_that_make_no_sense(size: Any) -> None:
    with pytest.raises(ArgumentError, match="batch size"):
        data.DataLoader(mg.zeros(3), size)


def test_what_is_no_data_set() -> None:
    with pytest.raises(DTypeError, match="no data set"):
        data.DataLoader(3)
    with pytest.raises(TypeError):
        data.DataLoader(mg.zeros(3), pin_memories=True)  # type: ignore[call-arg]
    assert len(data.DataLoader(mg.zeros(3), pin_memory=True)) == 3
    with pytest.raises(ArgumentError, match="__len__"):
        len(data.Dataset())
    with pytest.raises(DTypeError, match="cannot be stacked"):
        next(iter(data.DataLoader([object()])))
