"""Checkpoints: files that hold all there is to know about a run, and that are whole or not there.

    >>> import minigrad as mg, os, tempfile
    >>> model = mg.nn.Linear(2, 1)
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> save(path, {"model": model.state_dict(), "epoch": 3, "seen": [0.5, None, (1, 2)]})
    >>> state = load(path)
    >>> state["epoch"], state["seen"], state["model"]["weight"].shape
    (3, [0.5, None, (1, 2)], (1, 2))
    >>> model.load_state_dict(state["model"])
    <All keys matched successfully>

**Format.**  safetensors: eight bytes with the length of a header, the header in JSON (name -> dtype,
shape, place), then the arrays one after the other in little-endian order.  There is nothing in it that
could be run, unlike in a pickle.  A name that ends in `.npz` makes numpy's zip archive of arrays instead.
What is no array (numbers, strings, the nesting itself) is JSON too, in the header's metadata; numbers
keep all their bits.  A CRC-32 over the arrays and that text tells a damaged file.

**Atomic.**  A file is written under another name in the same directory, flushed to the disk (fsync) and
then renamed, which the file system does entirely or not at all.  A process that is killed, a machine that
stops or a disk that is full leaves the file that was there before.

`Checkpoints` keeps the last few of a run in a directory, and finds the newest that is whole.

References: the safetensors format, https://huggingface.co/docs/safetensors; Pillai et al. 2014, "All file
systems are not created equal" (why fsync of file and directory).  Left out: sharded files, and dtypes that
numpy does not have (bfloat16 is read, as float32).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import mmap
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from .errors import ArgumentError, DTypeError, Error
from .tensor import Tensor

Array = np.ndarray[Any, Any]
Path = str | os.PathLike[str]

_DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_STATE = "minigrad.state"  # metadata: the nest
_CRC = "minigrad.crc32"  # metadata: of the arrays, then the nest
_LONGEST_HEADER = 100_000_000


class CheckpointError(Error, OSError):
    """A file that cannot be written, or that is damaged or something else than a checkpoint."""


# -- files that are whole or not there -------------------------------------------------------------


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write; it takes the place of `path` when the block ends well, and only then.

    Raises CheckpointError if it cannot be written (a full disk, no such directory); what was there stays.
    """
    target = os.path.abspath(os.fspath(path))
    folder, name = os.path.split(target)
    partial = os.path.join(folder, f".{name}.{os.getpid()}.partial")
    try:
        _remove_stale(folder, name)
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
        _sync_folder(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        if isinstance(error, OSError) and not isinstance(error, Error):
            raise CheckpointError(
                "checkpoint",
                f"{target} was not written: {error.strerror or error}",
                fix="make room or choose another directory; a file that was there is unchanged",
            ) from error
        raise


def _remove_stale(folder: str, name: str) -> None:
    """Remove what processes that are no more left half written."""
    pattern = re.compile(re.escape(f".{name}.") + r"(\d+)\.partial")
    for other in os.listdir(folder):
        found = pattern.fullmatch(other)
        if found and not _alive(int(found[1])):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, other))


def _alive(process: int) -> bool:
    if os.name != "posix":
        return process == os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: str) -> None:
    """The rename itself must reach the disk; not every system lets a directory be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# -- safetensors -------------------------------------------------------------------------------------


def _plain(name: str, value: Any) -> Array:
    """A little-endian, contiguous array that the format knows."""
    array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if little.dtype not in _NAMES:
        raise DTypeError(
            "save",
            f"{name} has dtype {array.dtype}",
            fix=f"convert it to one of {', '.join(_NAMES.values())}",
        )
    return np.ascontiguousarray(little).reshape(array.shape)


def save_file(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays or tensors by name as a safetensors file, atomically."""
    _write_safetensors({name: _plain(name, t) for name, t in tensors.items()}, path, dict(metadata or {}))


def _write_safetensors(arrays: dict[str, Array], path: Path, metadata: dict[str, str]) -> None:
    pieces = _pieces(arrays, metadata)
    with atomic(path) as file:
        for piece in pieces:
            file.write(piece)


def _pieces(arrays: dict[str, Array], metadata: dict[str, str]) -> list[Any]:
    """What a safetensors file is made of, one after the other."""
    # widest first, as the format's own writer does: then each array begins at a multiple of its item
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *(_bytes(arrays[name]) for name in order)]


def _bytes(array: Array) -> Any:
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def load_file(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file, by name.  Raises CheckpointError for one that is damaged."""
    return _read_safetensors(path)[0]


def map_file(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file as read-only views: what is not looked at is not read either."""
    return _read_safetensors(path, mapped=True)[0]


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    return _read_safetensors(path)[1]


def _read_safetensors(path: Path, mapped: bool = False) -> tuple[dict[str, Array], dict[str, str]]:
    with _opened(path) as file:
        whole = mapped and os.fstat(file.fileno()).st_size > 0
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if whole else file.read()
    return _parse(data, path, mapped)


def _parse(data: Any, path: Path, mapped: bool = False) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata in the bytes of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, _LONGEST_HEADER):
        raise _damaged(path, f"it is {len(data)} bytes long, and its header would be {size}")
    try:
        header = json.loads(data[8 : 8 + size])
        if not isinstance(header, dict):
            raise ValueError("its header is no table")
    except ValueError as error:
        raise _damaged(path, f"its header cannot be read ({error})") from None
    metadata = header.pop("__metadata__", {})
    arrays: dict[str, Array] = {}
    start = 8 + size
    try:
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            dtype = np.dtype("<u2" if code == "BF16" else _DTYPES[code])
            count = math.prod(shape)
            if begin < 0 or end > len(data) - start or end - begin != count * dtype.itemsize:
                raise _damaged(path, f"{name!r} {code} {shape} is not at bytes {begin} to {end}")
            array = np.frombuffer(data, dtype, count, start + begin) if count else np.zeros(0, dtype)
            if code == "BF16":  # the upper half of a float32
                array = (array.astype(np.uint32) << 16).view(np.float32)
            arrays[name] = array.reshape(shape) if mapped else array.reshape(shape).copy()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"its header makes no sense ({type(error).__name__}: {error})") from None
    return arrays, metadata


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise CheckpointError(
            "load", f"{os.fspath(path)} cannot be read: {error.strerror}", fix="check the path"
        ) from error


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        "load", f"{os.fspath(path)} is damaged: {why}", fix="use an older checkpoint; nothing was loaded"
    )


# -- nests ---------------------------------------------------------------------------------------------


def _take_apart(state: Any, name: str, arrays: dict[str, Array]) -> Any:
    """JSON for a nest, its arrays put into `arrays` under readable names."""
    if state is None or isinstance(state, (bool, str)):
        return state
    if isinstance(state, (int, float)) and not isinstance(state, np.generic):
        return {"float": state.hex()} if isinstance(state, float) and not math.isfinite(state) else state
    if isinstance(state, (Tensor, np.ndarray, np.generic)):
        key = name or "value"
        while key in arrays or key == "__metadata__":
            key += "'"
        arrays[key] = _plain(key, state)
        kind = (
            "tensor" if isinstance(state, Tensor) else "array" if isinstance(state, np.ndarray) else "scalar"
        )
        return {kind: key}
    if isinstance(state, Mapping):
        pairs = [
            [_key(name, key), _take_apart(value, f"{name}.{key}" if name else str(key), arrays)]
            for key, value in state.items()
        ]
        return {"dict": pairs}
    if isinstance(state, (list, tuple)):
        parts = [
            _take_apart(value, f"{name}.{i}" if name else str(i), arrays) for i, value in enumerate(state)
        ]
        return {"tuple": parts} if isinstance(state, tuple) else parts
    raise DTypeError(
        "save",
        f"{name or 'the state'} is a {type(state).__name__}, which cannot be stored without pickling",
        fix="store tensors, arrays, numbers, strings, and lists, tuples and dicts of them",
    )


def _key(name: str, key: Any) -> Any:
    if isinstance(key, (bool, int, str)) or key is None:
        return key
    raise DTypeError(
        "save", f"{name or 'the state'} has a key of type {type(key).__name__}", fix="use strings or integers"
    )


def _put_together(node: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(node, list):
        return [_put_together(part, arrays) for part in node]
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    if kind == "dict":
        return {key: _put_together(part, arrays) for key, part in value}
    if kind == "tuple":
        return tuple(_put_together(part, arrays) for part in value)
    if kind == "float":
        return float.fromhex(value)
    array = arrays[value]
    return Tensor(array) if kind == "tensor" else array if kind == "array" else array[()]


def _crc(arrays: Mapping[str, Array], text: str) -> str:
    crc = 0
    for name in sorted(arrays):
        array = arrays[name]
        crc = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), crc)
        crc = zlib.crc32(_bytes(array), crc)
    return f"{zlib.crc32(text.encode(), crc):08x}"


def save(path: Path, state: Any) -> None:
    """Write a nest of dicts, lists and tuples of tensors, arrays, numbers, strings and None, atomically.

    path: what ends in `.npz` becomes numpy's archive, anything else a safetensors file.  Raises DTypeError
    for a value that is none of these, CheckpointError if the file cannot be written.
    """
    arrays, text, crc = _stored(state)
    if os.fspath(path).endswith(".npz"):
        packed = io.BytesIO()
        extra = {_STATE: np.array(text), _CRC: np.array(crc)}
        np.savez(packed, **{**arrays, **extra})  # type: ignore[arg-type]
        with atomic(path) as file:
            file.write(packed.getbuffer())
    else:
        _write_safetensors(arrays, path, {_STATE: text, _CRC: crc})


def _stored(state: Any) -> tuple[dict[str, Array], str, str]:
    """The arrays of a nest, the nest without them, and the checksum of both."""
    arrays: dict[str, Array] = {}
    text = json.dumps(_take_apart(state, "", arrays), separators=(",", ":"))
    return arrays, text, _crc(arrays, text)


def dumps(state: Any) -> bytes:
    """What `save` would write to a safetensors file.

    >>> loads(dumps({"a": [1, None, "text"]}))
    {'a': [1, None, 'text']}
    """
    arrays, text, crc = _stored(state)
    return b"".join(_pieces(arrays, {_STATE: text, _CRC: crc}))


def loads(data: bytes) -> Any:
    """The nest in what `dumps` gave, or in the bytes of a safetensors file that `save` wrote."""
    return _restored(*_parse(data, "the message"), "the message")


def load(path: Path) -> Any:
    """The nest that `save` wrote.

    Runs no code from the file.  Raises CheckpointError for one that is missing, damaged or of another
    program (whose arrays `load_file` or `numpy.load` give).
    """
    arrays, metadata = (_read_npz if os.fspath(path).endswith(".npz") else _read_safetensors)(path)
    return _restored(arrays, metadata, path)


def _restored(arrays: dict[str, Array], metadata: dict[str, str], path: Path) -> Any:
    text = metadata.get(_STATE)
    if text is None:
        raise CheckpointError(
            "load",
            f"{os.fspath(path)} is damaged, or was not written by checkpoint.save",
            fix="use load_file (or numpy.load) for the arrays of another program",
        )
    if metadata.get(_CRC) != _crc(arrays, text):
        raise _damaged(path, "its checksum is wrong")
    try:
        return _put_together(json.loads(text), arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(path, f"its state cannot be put together ({error!r})") from None


def _read_npz(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    with _opened(path) as file:
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except Exception as error:  # zipfile has a dozen ways to say so (encrypted, unknown compression, ...)
            raise _damaged(path, str(error)) from None
    return arrays, {name: str(arrays.pop(name)) for name in (_STATE, _CRC) if name in arrays}


# -- the last few of a run -------------------------------------------------------------------------------


class Checkpoints:
    """The newest `keep` checkpoints of a run, `step-00000120.safetensors`, in a directory.

    >>> import tempfile
    >>> kept = Checkpoints(tempfile.mkdtemp(), keep=2)
    >>> for step in (1, 2, 3):
    ...     _ = kept.save(step, {"step": step})
    >>> kept.steps(), kept.latest()
    ([2, 3], {'step': 3})
    """

    def __init__(self, directory: Path, keep: int = 3, format: str = "safetensors") -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ArgumentError("Checkpoints", f"keep is {keep!r}", fix="pass an integer of at least 1")
        if format not in ("safetensors", "npz"):
            raise ArgumentError("Checkpoints", f"format is {format!r}", fix="use 'safetensors' or 'npz'")
        self.directory = os.path.abspath(os.fspath(directory))
        self.keep, self.format = keep, format
        try:
            os.makedirs(self.directory, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                "Checkpoints", f"{self.directory} cannot be made: {error.strerror}", fix="choose another"
            ) from error

    def path(self, step: int) -> str:
        """Where the checkpoint of a step is."""
        return os.path.join(self.directory, f"step-{step:08d}.{self.format}")

    def steps(self) -> list[int]:
        """The steps that have one, in order."""
        names = (re.fullmatch(rf"step-(\d+)\.{self.format}", n) for n in os.listdir(self.directory))
        return sorted(int(found[1]) for found in names if found)

    def save(self, step: int, state: Any) -> str:
        """Write a checkpoint, then remove those beyond `keep`; returns its path."""
        path = self.path(step)
        save(path, state)
        for old in self.steps()[: -self.keep]:
            with contextlib.suppress(OSError):
                os.unlink(self.path(old))
        return path

    def latest(self, load: Callable[[str], Any] = load) -> Any:
        """The newest state that is whole, None if there is none at all.

        Warns of each damaged file that is newer.  Raises CheckpointError if all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return load(self.path(step))
            except CheckpointError as error:
                warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        if steps:
            raise CheckpointError(
                "Checkpoints", f"all {len(steps)} in {self.directory} are damaged", fix="begin anew elsewhere"
            )
        return None
