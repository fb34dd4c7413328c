"""Readers of files, synthetic sets and downloads (from memory, never from the network)."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import data
from minigrad.data import DataError
from minigrad.errors import ArgumentError, DTypeError, MissingExtraError, ShapeError
from minigrad.random import Generator


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'x,"the name",y\n1,"a, b",\n\n2.5,c,-3e2\n')
    table = data.read_csv(path)
    assert list(table) == ["x", "the name", "y"]
    assert table["x"].tolist() == [1.0, 2.5]
    assert table["the name"] == ["a, b", "c"]
    np.testing.assert_array_equal(table["y"], [np.nan, -300.0])
    assert data.features(table, ["y", "x"]).dtype == np.float32
    assert list(data.read_csv(path, columns=["y"])) == ["y"]
    plain = data.read_csv(write(tmp_path / "b.csv", "1;2\n3;4\n"), delimiter=";", header=False)
    assert plain["1"].tolist() == [2.0, 4.0]


def test_bad_tables(tmp_path: Path) -> None:
    ragged = write(tmp_path / "a.csv", "x,y\n1,2\n3\n")
    with pytest.raises(DataError, match=r"line 3 of .* has 1 fields, others have 2"):
        data.read_csv(ragged)
    for text in ("", "x,y\n"):
        with pytest.raises(DataError, match="no rows"):
            data.read_csv(write(tmp_path / "b.csv", text))
    with pytest.raises(DataError, match="one name"):
        data.read_csv(write(tmp_path / "b.csv", "x,x\n1,2\n"))
    good = write(tmp_path / "c.csv", "width,kind\n1,a\n")
    with pytest.raises(ArgumentError, match="did you mean 'width'"):
        data.read_csv(good, columns=["widht"])
    with pytest.raises(DTypeError, match="'kind' is text"):
        data.features(data.read_csv(good), ["kind"])
    with pytest.raises(DataError, match="cannot be read: No such file"):
        data.read_csv(tmp_path / "none.csv")
    (tmp_path / "d.csv").write_bytes(b"x\n\xff\xfe\n")
    with pytest.raises(DataError, match="encoding"):
        data.read_csv(tmp_path / "d.csv")


def test_arrays_are_mapped(tmp_path: Path) -> None:
    x, y = np.arange(20.0, dtype=np.float32).reshape(10, 2), np.arange(10)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "both.npz", x=x, y=y)
    mapped = data.open_arrays(tmp_path / "x.npy", tmp_path / "y.npy")
    base = mapped.tensors[0]._array
    while not isinstance(base, np.memmap) and getattr(base, "base", None) is not None:
        base = base.base
    assert isinstance(base, np.memmap)
    for sets in (mapped, data.open_arrays(tmp_path / "both.npz", names=["x", "y"])):
        a, b = next(iter(data.DataLoader(sets, 4, sampler=[3, 1, 9, 0])))
        assert a.tolist() == x[[3, 1, 9, 0]].tolist()
        assert b.tolist() == [3, 1, 9, 0]
    with pytest.raises(ArgumentError, match="there are x, y"):
        data.open_arrays(tmp_path / "both.npz", names=["labels"])
    np.save(tmp_path / "o.npy", np.array([print], object))
    for bad in ("o.npy", "none.npy"):
        with pytest.raises(DataError):
            data.open_arrays(tmp_path / bad)


def test_image_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image = pytest.importorskip("PIL.Image")
    for kind, color in (("dog", (255, 0, 51)), ("cat", (0, 102, 0))):
        (tmp_path / kind).mkdir()
        for i in range(3):
            Image.new("RGB", (6, 4), color).save(tmp_path / kind / f"{i}.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    images = data.ImageFolder(tmp_path)
    assert images.classes == ["cat", "dog"]
    assert len(images) == 6
    x, y = next(iter(data.DataLoader(images, 6)))
    assert x.shape == (6, 3, 4, 6)
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(x[5, :, 0, 0].numpy(), [1.0, 0.0, 0.2], rtol=1e-6)
    small = data.ImageFolder(tmp_path, size=(2, 3), mode="L", transform=lambda image: image * 2)
    assert small[0][0].shape == (1, 2, 3)
    (tmp_path / "dog" / "1.png").write_bytes(b"not a png")
    with pytest.raises(DataError, match=r"1\.png is no image"):
        list(data.DataLoader(images, 6))
    (tmp_path / "empty").mkdir()
    for bad in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(DataError):
            data.ImageFolder(bad)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'minigrad\[images\]'"):
        data.ImageFolder(tmp_path)


def idx(array: np.ndarray) -> bytes:
    kind = {"u1": 8, "i2": 11, "f4": 13}[array.dtype.str[1:]]
    head = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def test_mnist(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (5, 28, 28), np.uint8), np.arange(5, dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx(labels))
    x, y = data.mnist(tmp_path)
    assert (x == images).all()
    assert y.tolist() == [0, 1, 2, 3, 4]
    assert y.dtype == np.int64
    for array in (np.array([[1, -2]], np.int16), np.array([1.5], np.float32)):
        (tmp_path / "f").write_bytes(idx(array))
        assert data.read_idx(tmp_path / "f").tolist() == array.tolist()
    with pytest.raises(DataError, match="no t10k-images"):
        data.mnist(tmp_path, "test")
    for bad in (b"", b"\0\0\x63\x01", idx(images)[:-1], gzip.compress(idx(images))[:-9]):
        (tmp_path / "f").write_bytes(bad)
        with pytest.raises(DataError):
            data.read_idx(tmp_path / "f")
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx(labels[:4]))
    with pytest.raises(ShapeError, match="5 images, 4 labels"):
        data.mnist(tmp_path)


def test_cifar10(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (4, 3, 32, 32), np.uint8), np.array([9, 0, 3, 3], np.uint8)
    records = np.concatenate([labels[:, None], images.reshape(4, -1)], axis=1)
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    x, y = data.cifar10(tmp_path, "test")
    assert (x == images).all()
    assert (y == labels).all()
    for bad in (b"", records.tobytes()[1:], bytes([10]) + records.tobytes()[1:]):
        (tmp_path / "test_batch.bin").write_bytes(bad)
        with pytest.raises(DataError, match="no binary"):
            data.cifar10(tmp_path, "test")
    with pytest.raises(DataError, match="data_batch_1"):
        data.cifar10(tmp_path)


def test_downloads_are_checked_and_kept(tmp_path: Path) -> None:
    content, asked = b"the data", []
    good = hashlib.sha256(content).hexdigest()

    def fetch(url: str) -> bytes:
        asked.append(url)
        return content

    def get(sha: str = good, fetch: Any = fetch) -> str:
        return data.download("https://example.org/set.bin?v=1", sha, tmp_path / "cache", fetch=fetch)

    path = get()
    assert Path(path).name == "set.bin"
    assert get() == path
    assert len(asked) == 1
    Path(path).write_bytes(b"damaged")
    assert Path(get()).read_bytes() == content
    assert len(asked) == 2
    os.unlink(path)
    with pytest.raises(DataError, match="do not use it"):
        get("0" * 64)
    assert not os.listdir(tmp_path / "cache")

    def offline(url: str) -> bytes:
        raise OSError("no route to host")

    with pytest.raises(DataError, match=r"no route to host.*put it at"):
        get(fetch=offline)


def test_synthetic_sets() -> None:
    for make in (data.make_moons, data.make_circles, data.make_blobs, data.make_spirals):
        x, y = make(90, generator=Generator(3))
        assert x.shape == (90, 2)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert (x == make(90, generator=Generator(3))[0]).all()
    x, y = data.make_circles(40)
    np.testing.assert_allclose(np.hypot(*x.T), np.where(y == 0, 1.0, 0.5), rtol=1e-6)
    assert np.bincount(data.make_spirals(90)[1]).tolist() == [30, 30, 30]
    x, y, w = data.make_regression(20, 3)
    np.testing.assert_allclose(x @ w, y, rtol=1e-5, atol=1e-6)
    mg.manual_seed(1)
    first = data.make_moons(10, 0.1)[0]
    mg.manual_seed(1)
    assert (data.make_moons(10, 0.1)[0] == first).all()
    with pytest.raises(ArgumentError):
        data.make_moons(1)
    with pytest.raises(ArgumentError):
        data.make_moons(10, -1.0)
