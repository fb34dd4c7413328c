"""Readers: data sets from files.

    read_csv            columns by name, numbers or text, missing fields as NaN
    open_arrays         .npy and .npz; .npy files are mapped, so that more than the memory can be read
    ImageFolder         one directory a class (Pillow)
    read_idx            the format of MNIST (LeCun et al. 1998), gzipped or not;  mnist(directory)
    read_cifar10        the binary version of CIFAR-10 (Krizhevsky 2009);  cifar10(directory)
    download            a file from the network, kept, and checked by its SHA-256

    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "iris.csv")
    >>> _ = open(path, "w").write("width,length,kind\\n0.2,1.4,setosa\\n1.3,,virginica\\n")
    >>> table = read_csv(path)
    >>> list(table), table["length"].tolist(), table["kind"]
    (['width', 'length', 'kind'], [1.4, nan], ['setosa', 'virginica'])
    >>> features(table, ["width", "length"]).shape
    (2, 2)

Nothing here reads pickles; CIFAR-10's other version is one.  Left out: parquet, archives of images.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from ..checkpoint import CheckpointError, atomic
from ..errors import ArgumentError, DTypeError, Error, MissingExtraError, OutOfRangeError, ShapeError
from .sets import Dataset, TensorDataset

Array = np.ndarray[Any, Any]
Path = str | os.PathLike[str]


class DataError(Error, ValueError):
    """A data file that is missing, damaged, or not in the format that was asked for."""


def _open(op: str, path: Path, mode: str = "rb", **options: Any) -> Any:
    try:
        return open(path, mode, **options)
    except OSError as error:
        raise DataError(
            op, f"{os.fspath(path)} cannot be read: {error.strerror}", fix="check the path"
        ) from None


# -- tables ---------------------------------------------------------------------------------------------


def read_csv(
    path: Path,
    *,
    delimiter: str = ",",
    header: bool = True,
    columns: Sequence[str] | None = None,
    missing: Iterable[str] = ("", "NA", "N/A", "nan", "NaN", "null", "?"),
    encoding: str = "utf-8",
) -> dict[str, Any]:
    """The columns of a table, by name: float64 arrays where all fields are numbers, lists of str elsewhere.

    header: the first line has the names (otherwise they are "0", "1", ...).  columns: only these.
    missing: fields that become NaN (or "" in a column of text).  Raises DataError for lines of several
    lengths, naming the line, ArgumentError for a column that does not exist, naming the nearest.
    """
    absent = set(missing)
    with _open("read_csv", path, "r", newline="", encoding=encoding) as file:
        try:
            rows = [
                (reader.line_num, row) for reader in [csv.reader(file, delimiter=delimiter)] for row in reader
            ]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError("read_csv", f"{os.fspath(path)}: {error}", fix="check encoding=") from None
    rows = [(number, row) for number, row in rows if row]
    if not rows or (header and len(rows) == 1):
        raise DataError("read_csv", f"{os.fspath(path)} has no rows", fix="check the file")
    names = [name.strip() for name in rows.pop(0)[1]] if header else [str(i) for i in range(len(rows[0][1]))]
    if len(set(names)) < len(names):
        raise DataError("read_csv", f"two columns have one name: {names}", fix="rename one, or header=False")
    for number, row in rows:
        if len(row) != len(names):
            raise DataError(
                "read_csv",
                f"line {number} of {os.fspath(path)} has {len(row)} fields, others have {len(names)}",
                fix="quote fields that contain the delimiter, or pass delimiter=",
            )
    wanted = names if columns is None else list(columns)
    for name in wanted:
        _known_column("read_csv", name, names)
    return {
        name: _column([row[i] for _, row in rows], absent) for name in wanted for i in [names.index(name)]
    }


def _known_column(op: str, name: str, names: Iterable[str]) -> None:
    known = list(names)
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known[:20])}"
        raise ArgumentError(op, f"there is no column {name!r}", fix=hint)


def _column(fields: list[str], absent: set[str]) -> Any:
    stripped = [field.strip() for field in fields]
    try:
        return np.array([np.nan if field in absent else float(field) for field in stripped])
    except ValueError:
        return ["" if field in absent else field for field in stripped]


def features(table: Mapping[str, Any], columns: Sequence[str], dtype: Any = "float32") -> Array:
    """Columns of numbers side by side, (n, columns).  Raises DTypeError naming a column of text."""
    for name in columns:
        _known_column("features", name, table)
        if not isinstance(table[name], np.ndarray):
            raise DTypeError(
                "features", f"column {name!r} is text, as {table[name][0]!r}", fix="encode it: OneHotEncoder"
            )
    return np.stack([table[name] for name in columns], axis=1).astype(dtype)


# -- arrays ---------------------------------------------------------------------------------------------


def open_arrays(*paths: Path, names: Sequence[str] | None = None) -> TensorDataset:
    """A data set of .npy files, one a part (mapped, not read: a batch reads what it needs), or of the
    arrays `names` (by default all) of one .npz file, which are read."""
    if not paths:
        raise ArgumentError("open_arrays", "no files were given", fix="pass .npy files, or an .npz file")
    arrays: list[Array] = []
    for path in paths:
        with _open("open_arrays", path):
            pass
        try:
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(
                "open_arrays", f"{os.fspath(path)}: {error}", fix="save it with numpy.save"
            ) from None
        if isinstance(stored, np.ndarray):
            arrays.append(stored)
            continue
        with stored:
            for name in names if names is not None else stored.files:
                _known_column("open_arrays", name, stored.files)
                arrays.append(stored[name])
    return TensorDataset(*arrays)


# -- images ---------------------------------------------------------------------------------------------

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


class ImageFolder(Dataset):
    """Images below `root/class/`, as (image (channels, height, width) float32 in 0 to 1, class index).

    size: (height, width) they are resized to; without it they are as they are.  mode: "RGB" or "L" (one
    channel).  transform: applied to each image.  Classes are the directories in sorted order.

    Raises DataError for a root without images and for one that cannot be read, naming it, and
    MissingExtraError without Pillow.
    """

    def __init__(
        self,
        root: Path,
        size: tuple[int, int] | None = None,
        mode: str = "RGB",
        transform: Callable[[Array], Any] | None = None,
    ) -> None:
        _pillow()
        if mode not in ("RGB", "L"):
            raise ArgumentError("ImageFolder", f"mode is {mode!r}", fix="use 'RGB' or 'L'")
        self.root, self.size, self.mode, self.transform = os.fspath(root), size, mode, transform
        try:
            self.classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        except OSError as error:
            raise DataError("ImageFolder", f"{self.root}: {error.strerror}", fix="check the path") from None
        self.samples = [
            (os.path.join(folder, name), label)
            for label, kind in enumerate(self.classes)
            for folder, _, files in sorted(os.walk(os.path.join(self.root, kind)))
            for name in sorted(files)
            if name.lower().endswith(_IMAGES)
        ]
        if not self.samples:
            raise DataError(
                "ImageFolder",
                f"no images below {self.root}/<class>/",
                fix="make one directory for each class",
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if not -len(self) <= index < len(self):
            raise OutOfRangeError(
                "ImageFolder", f"index {index} of {len(self)} images", fix="choose a smaller"
            )
        path, label = self.samples[index]
        image = read_image(path, self.size, self.mode)
        return (image if self.transform is None else self.transform(image)), label


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError(
            "ImageFolder", "Pillow is not installed", fix="pip install 'minigrad[images]'"
        ) from None
    return Image


def read_image(path: Path, size: tuple[int, int] | None = None, mode: str = "RGB") -> Array:
    """An image as (channels, height, width) float32 in 0 to 1, resized if `size` is given."""
    Image = _pillow()
    try:
        with Image.open(path) as file:
            image = file.convert(mode)
            if size is not None:
                image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.float32) / np.float32(255.0)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            "read_image",
            f"{os.fspath(path)} is no image that can be read ({error})",
            fix="remove or replace it",
        ) from None
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


# -- MNIST and CIFAR-10 ------------------------------------------------------------------------------------

_IDX = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path) -> Array:
    """An array in the idx format: 0, 0, type, dimensions, then sizes and values, big-endian."""
    with _open("read_idx", path) as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise DataError("read_idx", f"{os.fspath(path)}: {error}", fix="download it again") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX or len(data) < 4 + 4 * data[3]:
        raise DataError(
            "read_idx", f"{os.fspath(path)} is not in the idx format", fix="check which file it is"
        )
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    dtype = np.dtype(_IDX[data[2]])
    start = 4 + 4 * data[3]
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) - start != count * dtype.itemsize:
        raise DataError(
            "read_idx",
            f"{os.fspath(path)} has {len(data) - start} bytes for {shape} of {dtype.itemsize} bytes",
            fix="download it again",
        )
    return np.frombuffer(data, dtype, count, start).reshape(shape).astype(dtype.newbyteorder("="))


def read_cifar10(*paths: Path) -> tuple[Array, Array]:
    """Images (n, 3, 32, 32) uint8 and labels (n,) int64 of binary batches
    (records of a label and 3072 bytes)."""
    images, labels = [], []
    for path in paths:
        with _open("read_cifar10", path) as file:
            data = np.frombuffer(file.read(), np.uint8)
        if not len(data) or len(data) % 3073 or data[::3073].max() > 9:
            raise DataError(
                "read_cifar10", f"{os.fspath(path)} is no binary CIFAR-10 batch", fix="use the binary version"
            )
        records = data.reshape(-1, 3073)
        labels.append(records[:, 0].astype(np.int64))
        images.append(records[:, 1:].reshape(-1, 3, 32, 32))
    if not images:
        raise ArgumentError("read_cifar10", "no files were given", fix="pass data_batch_1.bin, ...")
    return np.concatenate(images), np.concatenate(labels)


def mnist(directory: Path, split: str = "train") -> tuple[Array, Array]:
    """MNIST's (or Fashion-MNIST's) images (n, 28, 28) uint8 and labels (n,) int64 from its four files,
    gzipped or not, in a directory; split is "train" or "test"."""
    if split not in ("train", "test"):
        raise ArgumentError("mnist", f"split is {split!r}", fix="use 'train' or 'test'")
    prefix = "train" if split == "train" else "t10k"
    images = read_idx(_found("mnist", directory, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_found("mnist", directory, f"{prefix}-labels-idx1-ubyte")).astype(np.int64)
    if len(images) != len(labels):
        raise ShapeError("mnist", f"{len(images)} images, {len(labels)} labels", fix="files of one set only")
    return images, labels


def cifar10(directory: Path, split: str = "train") -> tuple[Array, Array]:
    """CIFAR-10's images (n, 3, 32, 32) uint8 and labels (n,) int64 from its binary batches."""
    if split not in ("train", "test"):
        raise ArgumentError("cifar10", f"split is {split!r}", fix="use 'train' or 'test'")
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    return read_cifar10(*(_found("cifar10", directory, name) for name in names))


def _found(op: str, directory: Path, name: str) -> str:
    base = os.path.join(os.fspath(directory), name)
    dotted = base.replace("-idx", ".idx")
    for path in (base, base + ".gz", dotted, dotted + ".gz"):
        if os.path.exists(path):
            return path
    raise DataError(op, f"there is no {name} in {os.fspath(directory)}", fix="download the set there first")


# -- downloads ---------------------------------------------------------------------------------------------


def cache_directory() -> str:
    """Where downloads are kept: MINIGRAD_DATA, or minigrad in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("MINIGRAD_DATA") or os.path.join(base, "minigrad")


def download(url: str, sha256: str, directory: Path | None = None, *, fetch: Any = None) -> str:
    """The path of a file from `url`, taken from the cache if it is there, with the SHA-256 that is expected.

    fetch: a function from a url to bytes, by default urllib's.  Raises DataError if it cannot be had or
    its hash is another; a damaged file in the cache is fetched again.
    """
    folder = cache_directory() if directory is None else os.fspath(directory)
    path = os.path.join(folder, os.path.basename(url.partition("?")[0]) or "download")
    if os.path.exists(path) and _hash(path) == sha256.lower():
        return path
    try:
        os.makedirs(folder, exist_ok=True)
        content = (_fetch if fetch is None else fetch)(url)
    except OSError as error:
        raise DataError(
            "download", f"{url}: {error}", fix=f"get it by other means and put it at {path}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256.lower():
        raise DataError(
            "download",
            f"{url} has the SHA-256 {found}, not {sha256}",
            fix="it was changed or cut off: do not use it",
        )
    try:
        with atomic(path) as file:
            file.write(content)
    except CheckpointError as error:
        raise DataError("download", error.problem, fix="make room, or set MINIGRAD_DATA") from error
    return path


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url: str) -> bytes:
    from urllib.request import urlopen

    with urlopen(url, timeout=60) as answer:
        content: bytes = answer.read()
    return content
