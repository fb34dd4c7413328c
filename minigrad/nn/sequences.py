"""Sequences of different lengths in one batch: padded to the longest, or packed without the padding.

Three sequences a, b, c of 3, 1 and 2 steps, padded (time, batch), and packed: the same numbers time by time,
the longest sequence first, so that those still running at a time are the first `batch_sizes[time]`:

    a0 b0 c0                a0 c0 b0 | a1 c1 | a2
    a1 .  c1        ->      batch_sizes   3, 2, 1
    a2 .  .                 sorted_indices 0, 2, 1

The recurrent layers take a `PackedSequence` and give one: no step is computed on padding, each sequence's
last state is that of its own last step, and the reverse direction starts at its own end.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> texts = [mg.ones(3, 4), mg.ones(1, 4), mg.ones(2, 4)]
    >>> packed = pack_sequence(texts, enforce_sorted=False)
    >>> packed.batch_sizes.tolist(), packed.data.shape
    ([3, 2, 1], (6, 4))
    >>> y, h = nn.GRU(4, 5)(packed)
    >>> padded, lengths = pad_packed_sequence(y)
    >>> padded.shape, lengths
    ((3, 3, 5), tensor([3, 1, 2]))

`torch.nn.utils.rnn` has these functions, so this module is `minigrad.nn.utils.rnn`, too.

Lengths decide shapes, so inside a compiled function they must be known: a list of numbers (each is a program
of its own), or a tensor that the function does not get as an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ops.creation import full
from ..ops.movement import _reshape, cat, stack, transpose
from ..tensor import Tensor, wrap

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class PackedSequence(NamedTuple):
    """Sequences without padding; made by `pack_padded_sequence` and `pack_sequence`.

    data: (sum of lengths, ...), the steps in order of time.  batch_sizes: (longest,) int64, how many
    sequences are that long.  sorted_indices: (n,) int64, the order from the longest to the shortest, and
    unsorted_indices the way back; None if they came in that order.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """With the data converted as `Tensor.to` does."""
        return self._replace(data=self.data.to(*args, **kwargs))

    def cpu(self) -> PackedSequence:
        """Itself: there is no other device."""
        return self

    def double(self) -> PackedSequence:
        """With the data as float64."""
        return self._replace(data=self.data.double())

    def float(self) -> PackedSequence:
        """With the data as float32."""
        return self._replace(data=self.data.float())


def sizes_of(packed: PackedSequence) -> list[int]:
    """The batch sizes as numbers."""
    return [int(b) for b in packed.batch_sizes._concrete("PackedSequence")]


def _order(t: Tensor | None) -> Any:
    return None if t is None else t._concrete("PackedSequence")


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The order that undoes an order; None stays None."""
    if permutation is None:
        return None
    order = _order(permutation)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return wrap(back)


def _lengths(op: str, lengths: Any, batch: int, longest: int) -> Any:
    given = lengths._concrete(op) if isinstance(lengths, Tensor) else np.asarray(lengths)
    if given.dtype.kind not in "iu":
        raise DTypeError(op, f"lengths of dtype {given.dtype}", fix="pass integers")
    if given.shape != (batch,):
        raise ShapeError(
            op, f"lengths of shape {given.shape} for a batch of {batch}", fix="pass one a sequence"
        )
    if not batch or given.min() < 1 or given.max() > longest:
        raise ArgumentError(
            op, f"lengths {given.tolist()} in {longest} steps", fix=f"each must be from 1 to {longest}"
        )
    return given.astype(np.int64)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack a padded batch (time, n, ...), or (n, time, ...) with batch_first, of sequences of these lengths.

    enforce_sorted: the lengths must descend already; else they are sorted here.  Steps beyond the longest
    length are dropped.  Raises ArgumentError and ShapeError for lengths that do not fit.
    """
    op = "pack_padded_sequence"
    if input.ndim < 2:
        raise ShapeError(op, f"an input of shape {input.shape}", fix="pass (time, batch, ...)")
    x = transpose(input, 0, 1) if batch_first else input
    batch = x.shape[1]
    sizes = _lengths(op, lengths, batch, x.shape[0])
    order = None
    if not enforce_sorted:
        order = np.argsort(-sizes, kind="stable")
        sizes = sizes[order]
    elif (np.diff(sizes) > 0).any():
        raise ArgumentError(
            op, f"lengths {sizes.tolist()} are not in descending order", fix="pass enforce_sorted=False"
        )
    batch_sizes = (sizes[None, :] > np.arange(sizes[0])[:, None]).sum(1)
    columns = np.arange(batch) if order is None else order
    places = [t * batch + columns[:b] for t, b in enumerate(batch_sizes)]
    flat = _reshape(x, (x.shape[0] * batch, *x.shape[2:]))
    data = flat.index_select(0, wrap(np.concatenate(places)))
    kept = None if order is None else wrap(order)
    return PackedSequence(data, wrap(batch_sizes), kept, invert_permutation(kept))


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The padded batch (time, n, ...), or (n, time, ...) with batch_first, and the lengths (n,), int64.

    Both in the order of before packing.  total_length: how many steps to pad to, at least the longest.
    """
    op = "pad_packed_sequence"
    sizes = np.array(sizes_of(sequence))
    data, longest, batch = sequence.data, len(sizes), int(sizes[0])
    steps = longest if total_length is None else total_length
    if steps < longest:
        raise ArgumentError(
            op, f"total_length {steps} for {longest} steps", fix="it must not be below the longest length"
        )
    places = np.full((steps, batch), len(data), np.int64)  # the padding, which is put at the end
    starts = np.cumsum(sizes) - sizes
    for t, b in enumerate(sizes):
        places[t, :b] = starts[t] + np.arange(b)
    lengths = (sizes[:, None] > np.arange(batch)).sum(0)
    back = _order(sequence.unsorted_indices)
    if back is not None:
        places, lengths = places[:, back], lengths[back]
    if batch_first:
        places = places.T
    padding = full((1, *data.shape[1:]), padding_value, dtype=data.dtype)
    y = cat([data, padding]).index_select(0, wrap(places.reshape(-1).copy()))
    return _reshape(y, (*places.shape, *data.shape[1:])), wrap(lengths.astype(np.int64))


def pad_sequence(
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Tensors (length, ...) as one (longest, n, ...), or (n, longest, ...), with a value where they end.

    padding_side: "right", or "left", where the sequences then end together.
    """
    op = "pad_sequence"
    if isinstance(sequences, Tensor):
        sequences = list(sequences)
    if not sequences:
        raise ArgumentError(op, "there are no sequences", fix="pass a list of tensors")
    if padding_side not in ("left", "right"):
        raise ArgumentError(op, f"padding_side is {padding_side!r}", fix="use 'left' or 'right'")
    rest = sequences[0].shape[1:]
    for s in sequences:
        if not s.ndim or s.shape[1:] != rest:
            raise ShapeError(
                op, f"shapes {sequences[0].shape} and {s.shape}", fix="they may only differ in the first size"
            )
    longest = max(s.shape[0] for s in sequences)
    rows = []
    for s in sequences:
        parts = [s]
        if s.shape[0] < longest:
            padding = full((longest - s.shape[0], *rest), padding_value, dtype=s.dtype)
            parts = [s, padding] if padding_side == "right" else [padding, s]
        rows.append(parts[0] if len(parts) == 1 else cat(parts))
    return stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch, each of its own length."""
    x = padded_sequences if batch_first else transpose(padded_sequences, 0, 1)
    sizes = _lengths("unpad_sequence", lengths, *x.shape[:2])
    return [x[i, : int(n)] for i, n in enumerate(sizes)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack tensors (length, ...): see `pack_padded_sequence`."""
    lengths = [len(s) for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that were packed."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))
