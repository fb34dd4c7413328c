"""A table of ranks: which of them work together, and at what.

With 4 ranks, two copies of a model, each of them split in two, are a table of 2 x 2:

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))

                  model 0   model 1
        data 0    rank 0    rank 1        mesh.get_group("model"): the other parts of my copy
        data 1    rank 2    rank 3        mesh.get_group("data"): my part, in the other copies

    >>> mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("data", "model"))
    >>> mesh.shape, mesh.get_local_rank("data"), mesh["model"].size()
    ((1, 1), 0, 1)

Ranks that talk most go last: they are neighbours. Left out: tensors that know their place in a mesh
(PyTorch's DTensor); here, a module does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError
from .engine import Engine
from .group import get_rank, get_world_size, new_group


class DeviceMesh:
    """The ranks of the world as a table, and this process's group along each of its dimensions."""

    def __init__(
        self, ranks: np.ndarray, groups: Sequence[Engine], names: tuple[str, ...] | None = None
    ) -> None:
        self.mesh, self.mesh_dim_names = ranks, names
        self._groups = list(groups)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the table."""
        return self.mesh.shape

    @property
    def ndim(self) -> int:
        """Number of its dimensions."""
        return self.mesh.ndim

    def _dim(self, dim: int | str | None) -> int:
        if dim is None and self.ndim == 1:
            return 0
        names = self.mesh_dim_names or ()
        if isinstance(dim, str) and dim in names:
            return names.index(dim)
        if isinstance(dim, int) and -self.ndim <= dim < self.ndim:
            return dim % self.ndim
        known = ", ".join(map(repr, names)) if names else f"0 to {self.ndim - 1}"
        raise ArgumentError("DeviceMesh", f"there is no dimension {dim!r}", fix=f"use one of {known}")

    def size(self, dim: int | str | None = None) -> int:
        """Ranks along a dimension, or in all."""
        return int(self.mesh.size if dim is None else self.shape[self._dim(dim)])

    def get_group(self, dim: int | str | None = None) -> Engine:
        """The group of this process along a dimension."""
        return self._groups[self._dim(dim)]

    def get_local_rank(self, dim: int | str | None = None) -> int:
        """This process's place along a dimension."""
        return self.get_group(dim).rank

    def get_coordinate(self) -> list[int]:
        """This process's place in the table."""
        return [g.rank for g in self._groups]

    def __getitem__(self, name: str) -> DeviceMesh:
        dim = self._dim(name)
        group = self._groups[dim]
        return DeviceMesh(np.array(group.ranks), [group], (name,))

    def __repr__(self) -> str:
        names = f", mesh_dim_names={self.mesh_dim_names}" if self.mesh_dim_names else ""
        return f"DeviceMesh({self.mesh.tolist()}{names})"


def init_device_mesh(
    device_type: str, mesh_shape: Sequence[int], *, mesh_dim_names: Sequence[str] | None = None
) -> DeviceMesh:
    """The world as a table of this shape; all processes must call it.

    device_type: "cpu".  mesh_dim_names: a name for each dimension.  Raises ArgumentError unless the shape
    has as many places as the world has ranks.
    """
    shape, size = tuple(mesh_shape), get_world_size()
    if device_type != "cpu":
        raise ArgumentError("init_device_mesh", f"a device {device_type!r}", fix="there is 'cpu' only")
    if not shape or any(n < 1 for n in shape) or math.prod(shape) != size:
        raise ArgumentError(
            "init_device_mesh",
            f"a table of {' x '.join(map(str, shape))} for {size} ranks",
            fix="choose sizes whose product is the number of ranks",
        )
    names = None if mesh_dim_names is None else tuple(mesh_dim_names)
    if names is not None and (len(names) != len(shape) or len(set(names)) < len(names)):
        raise ArgumentError(
            "init_device_mesh",
            f"names {names} for {len(shape)} dimensions",
            fix="give each its own name",
        )
    ranks = np.arange(size).reshape(shape)
    groups: list[Engine] = []
    for dim in range(len(shape)):
        rows = np.moveaxis(ranks, dim, -1).reshape(-1, shape[dim])
        mine = [new_group(row.tolist()) for row in rows]  # everybody makes all of them
        groups.append(next(g for g in mine if g.rank >= 0 and get_rank() in g.ranks))
    return DeviceMesh(ranks, groups, names)


__all__ = ["DeviceMesh", "init_device_mesh"]
