"""Nests: tuples, lists, dicts, named tuples and dataclasses whose leaves are what counts.

A function of a model's parameters rarely takes one tensor; it takes a dict of lists of them.
`flatten` takes such a nest apart into its leaves and a *structure*, which is hashable and can put
other leaves in their places:

    >>> leaves, structure = flatten({"w": [1, 2], "b": (3,)})
    >>> leaves
    [1, 2, 3]
    >>> structure.build([x * 10 for x in leaves])
    {'w': [10, 20], 'b': (30,)}
    >>> structure == flatten({"w": [5, 5], "b": (5,)})[1]
    True

Order is that of the nest (a dict's is its order of insertion).  Left out: sets, which have no order,
and registering further kinds of nodes; make them dataclasses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Structure(NamedTuple):
    """The shape of a nest: `kind` None is a leaf; else the type, its keys and the parts."""

    kind: Any = None
    keys: tuple[Any, ...] = ()
    parts: tuple[Any, ...] = ()

    def build(self, leaves: Any) -> Any:
        """The nest of this structure with these leaves."""
        return _build(self, iter(leaves))


LEAF = Structure()


def _fields(tree: Any) -> tuple[str, ...] | None:
    """Names of a dataclass instance's fields, None for anything else."""
    fields = getattr(type(tree), "__dataclass_fields__", None)
    return None if fields is None else tuple(fields)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a nest, in order, and its structure."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    if isinstance(tree, (tuple, list)):
        return Structure(type(tree), (), tuple([_flatten(value, leaves) for value in tree]))
    if isinstance(tree, dict):
        return Structure(type(tree), tuple(tree), tuple([_flatten(value, leaves) for value in tree.values()]))
    fields = _fields(tree)
    if fields is not None:
        parts = tuple([_flatten(getattr(tree, name), leaves) for name in fields])
        return Structure(type(tree), fields, parts)
    leaves.append(tree)
    return LEAF


def _build(structure: Structure, leaves: Iterator[Any]) -> Any:
    kind = structure.kind
    if kind is None:
        return next(leaves)
    values = [_build(part, leaves) for part in structure.parts]
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return kind(*values)
    if issubclass(kind, (tuple, list)):
        return kind(values)
    if issubclass(kind, dict):
        pairs = zip(structure.keys, values, strict=True)
        return dict(pairs) if kind is dict else _filled(kind, pairs)
    return _instance(kind, structure.keys, values)


def _filled(kind: Any, pairs: Any) -> Any:
    made = kind()
    made.update(pairs)
    return made


def _instance(kind: Any, names: tuple[str, ...], values: list[Any]) -> Any:
    """A dataclass with these fields, made without running its __init__ again."""
    made = object.__new__(kind)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(made, name, value)
    return made


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to every leaf of a nest, in order, and return the nest of the results."""
    leaves, structure = flatten(tree)
    return structure.build([function(leaf) for leaf in leaves])


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of a nest, in the order of `tree_map`."""
    return flatten(tree)[0]


__all__ = ["LEAF", "Structure", "flatten", "tree_leaves", "tree_map"]
