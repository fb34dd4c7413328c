"""Memory that begins where caches like it.

numpy's large arrays begin 16 bytes after a cache line, so every vector of 64 bytes that is read from them
lies in two lines.  A kernel that does little else than read its weights takes a third longer for that.

    >>> import numpy as np
    >>> x = aligned(np.arange(5000.0))
    >>> x.__array_interface__["data"][0] % LINE, float(x[7])
    (0, 7.0)
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Bytes of a cache line.
LINE = 64


def room(size: int, line: int = LINE) -> Any:
    """That many bytes, as they come, which begin at a multiple of `line`."""
    raw = np.empty(size + line, np.uint8)
    shift = -raw.__array_interface__["data"][0] % line
    return raw[shift : shift + size]


def aligned(array: Any) -> Any:
    """A copy of an array, row by row, which begins at a cache line."""
    copy = room(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


__all__ = ["LINE", "aligned", "room"]
