"""Files from the network: fetched once, checked, kept.

A file goes to the cache folder, `$MINIGRAD_DATA` or `~/.cache/minigrad`, under a temporary name, and gets
its own only when it is whole and has the right checksum; so a broken download is never taken for the data.
What was downloaded has its checksum beside it, and a file that is not what it was is an error, not another
result.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "original").write_text("data")
    >>> fetch((folder / "original").as_uri(), folder / "copy").read_text()
    'data'
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ArgumentError


def cache_folder() -> Path:
    """Where downloads are kept: $MINIGRAD_DATA, or ~/.cache/minigrad."""
    return Path(os.environ.get("MINIGRAD_DATA") or Path.home() / ".cache" / "minigrad")


def sha256(path: Path) -> str:
    """The checksum of a file."""
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(url: str, path: str | os.PathLike[str], checksum: str | None = None) -> Path:
    """The file at `path`, downloaded from `url` if it is not there.

    checksum: its SHA-256, where that is known.  Raises ArgumentError if it cannot be fetched, or is another
    file than is expected (by `checksum`, or by what was downloaded before).
    """
    target = Path(path)
    noted = target.with_name(target.name + ".sha256")
    if not target.exists():
        _download(url, target, checksum)
        noted.write_text(sha256(target) + "\n")
        return target
    wanted = checksum or (noted.read_text().strip() if noted.exists() else None)
    if wanted is not None and sha256(target) != wanted:
        raise ArgumentError(
            "fetch", f"{target} is not the file that was downloaded", fix="delete it, to download it again"
        )
    return target


def _download(url: str, target: Path, checksum: str | None) -> None:
    import urllib.request

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        try:
            with urllib.request.urlopen(url, timeout=60) as source, part.open("wb") as file:
                while block := source.read(1 << 20):
                    file.write(block)
        except OSError as error:
            raise ArgumentError(
                "fetch", f"{url} cannot be fetched ({error})", fix=f"download it by hand to {target}"
            ) from None
        if checksum is not None and sha256(part) != checksum:
            raise ArgumentError("fetch", f"{url} has another checksum", fix="check the address")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
