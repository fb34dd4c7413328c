"""The embedded data set: 1,797 handwritten digits of 8 x 8 pixels.

E. Alpaydin and C. Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49; licensed CC BY 4.0 (see DIGITS.md beside this file).

Small enough to travel with the package (45 kB) and to train on in a second, yet real: people wrote
it, and a linear model does not solve it.  The split into parts is stored with the images, so that
a test accuracy quoted today can be compared with one of next year.

    >>> images, labels = load_digits("test")
    >>> for row in images[labels == 0][0]:
    ...     print("".join(" .:-=+*#%@"[v * 9 // 16] for v in row).rstrip())
      .**.
      +@@+
     .@@=%.
     -@- #=
     =@: %=
     :@=*@-
      %@@%.
      .#*.

Left out on purpose: scaling.  Pixels are 0 to 16, as published; dividing by 16 is one visible line
of the program that trains.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError

PARTS = ("train", "validation", "test")

Array = np.ndarray[Any, Any]


def load_digits(split: str | None = None) -> tuple[Array, Array]:
    """The images, uint8 (n, 8, 8) with values 0 to 16, and their labels, int64 (n,).

    split: "train" (1,259 images), "validation" (179) or "test" (359); None for all 1,797 in the
    published order.  The split is stratified by digit and fixed.  Raises ArgumentError for
    another name.
    """
    from importlib.resources import files

    if split is not None and split not in PARTS:
        raise ArgumentError(
            "load_digits", f"there is no part {split!r}", fix=f"use one of {', '.join(PARTS)}, or None"
        )
    with files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
        images, labels, part = stored["images"], stored["labels"].astype(np.int64), stored["split"]
    if split is None:
        return images, labels
    chosen = part == PARTS.index(split)
    return images[chosen], labels[chosen]
