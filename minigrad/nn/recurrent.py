"""Recurrent layers: RNN, LSTM and GRU, over sequences (time, batch, features) or with batch_first.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> lstm = nn.LSTM(input_size=4, hidden_size=3, num_layers=2, bidirectional=True)
    >>> y, (h, c) = lstm(mg.zeros(7, 5, 4))
    >>> y.shape, h.shape, c.shape
    ((7, 5, 6), (4, 5, 3), (4, 5, 3))

Each layer and direction is two steps: one product of all times with W_ih, and one operation that walks
through time (see `minigrad.ops.recurrent`), which leaves one node on the tape however long the sequence is.
Names and shapes of parameters are torch's: weight_ih_l0 (gates hidden, input), weight_hh_l0 (gates hidden,
hidden), bias_ih_l0, bias_hh_l0, then _reverse, then the next layer.  Gates are in torch's order, i f g o for
the LSTM and r z n for the GRU.

Sequences of different lengths in one batch come as a `PackedSequence` (`nn.utils.rnn.pack_padded_sequence`):
then output and states are those of each sequence alone, and nothing is computed on padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any, ClassVar

from ..autograd import Function
from ..errors import ArgumentError, ShapeError, notice
from ..ops import recurrent as ops
from ..ops.creation import zeros
from ..ops.elementwise import sigmoid, tanh
from ..ops.movement import _reshape, cat, slice_dim, stack, transpose, unsqueeze
from ..tensor import Tensor
from . import functional as F
from . import init
from .layers import positive
from .module import Module, Parameter, factory
from .sequences import PackedSequence, sizes_of


class _Walk(Function):
    """A recurrence as one node whose cotangents come from one walk back.

    The first two arguments are (record, pull) and the record's attributes; then its inputs.
    """

    @staticmethod
    def forward(ctx: Any, what: Any, attrs: Any, *inputs: Tensor) -> Tensor:
        """Run the record."""
        run, ctx.pull = what
        ctx.attrs = attrs
        y: Tensor = run(*inputs, *attrs)
        ctx.save_for_backward(y, *inputs[1:])
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Run the walk back."""
        y, *held = ctx.saved_tensors
        return None, None, *ctx.pull(g, y, *held, *ctx.attrs)


_RNN, _LSTM, _GRU = (ops.rnn, ops.pull_rnn), (ops.lstm, ops.pull_lstm), (ops.gru, ops.pull_gru)


class _Recurrent(Module):
    """What the three share: parameters, layers, directions."""

    gates: ClassVar[int]
    proj_size: int = 0
    nonlinearity: str = "tanh"

    def _build(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: Any,
        dtype: Any,
    ) -> None:
        layer = type(self).__name__
        dtype = factory(layer, device, dtype)
        positive(layer, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if isinstance(dropout, bool) or not 0.0 <= dropout <= 1.0:
            raise ArgumentError(layer, f"dropout is {dropout!r}", fix="pass a probability, from 0 to 1")
        if dropout and num_layers == 1:
            notice(
                layer,
                "dropout with one layer does nothing: it is between layers",
                "use num_layers=2 or more, or nn.Dropout on the output",
            )
        if not 0 <= proj_size < hidden_size:
            raise ArgumentError(layer, f"proj_size is {proj_size}", fix="it must be smaller than hidden_size")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        rows, out = self.gates * hidden_size, proj_size or hidden_size
        for k in range(num_layers):
            wide = input_size if k == 0 else out * self._directions
            for suffix in self._suffixes(k):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, wide), "weight_hh": (rows, out)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    self.register_parameter(name + suffix, Parameter(zeros(*shape, dtype=dtype)))
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    def reset_parameters(self) -> None:
        """Draw all weights anew, uniform in +-1/sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        own = dict(self.named_parameters())
        return [
            [p for name, p in own.items() if name.endswith(suffix)]
            for k in range(self.num_layers)
            for suffix in self._suffixes(k)
        ]

    def flatten_parameters(self) -> None:
        """Nothing: torch's hint to its GPU kernels, accepted so that scripts run unchanged."""

    def _check(self, input: Tensor) -> None:
        layer = type(self).__name__
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            order = "batch, time" if self.batch_first else "time, batch"
            raise ShapeError(
                layer,
                f"an input of shape {input.shape}",
                fix=f"it must be ({order}, {self.input_size}), or (time, {self.input_size}) without a batch",
            )
        if not input.shape[1 if self.batch_first and input.ndim == 3 else 0]:
            raise ShapeError(layer, "a sequence of no steps", fix="give it at least one")

    def _state(
        self, given: Tensor | None, batch: int, dtype: Any, size: int, what: str, batched: bool
    ) -> Tensor:
        """The initial state (layers * directions, batch, size)."""
        shape = (self.num_layers * self._directions, batch, size)
        if given is None:
            return zeros(*shape, dtype=dtype)
        state = given if batched else unsqueeze(given, 1) if given.ndim == 2 else given
        if state.shape != shape:
            wanted = shape if batched else (shape[0], size)
            raise ShapeError(
                type(self).__name__,
                f"{what} of shape {given.shape}",
                fix=f"it must be {wanted}: layers times directions first, also with batch_first",
            )
        return state

    def _run(self, input: Any, states: tuple[Tensor | None, ...]) -> tuple[Any, list[Tensor]]:
        """The output and the last states, stacked, of all layers."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, states)
        self._check(input)
        batched = input.ndim == 3
        x = input if batched else unsqueeze(input, 1)
        if self.batch_first and batched:
            x = transpose(x, 0, 1)
        first = self._first(states, x.shape[1], x.dtype, batched)
        x, stacked = self._layers(x, first, self._walk)
        if not batched:
            return x.squeeze(1), [s.squeeze(1) for s in stacked]
        return (transpose(x, 0, 1) if self.batch_first else x), stacked

    def _run_packed(
        self, packed: PackedSequence, states: tuple[Tensor | None, ...]
    ) -> tuple[Any, list[Tensor]]:
        """`_run` of a packed sequence, whose states are in the order of before packing."""
        data, sizes = packed.data, sizes_of(packed)
        if data.ndim != 2 or data.shape[1] != self.input_size:
            raise ShapeError(
                type(self).__name__,
                f"packed steps of shape {data.shape}",
                fix=f"pack sequences of shape (time, {self.input_size})",
            )
        first = self._first(states, sizes[0], data.dtype, True)
        if packed.sorted_indices is not None:
            first = [s.index_select(1, packed.sorted_indices) for s in first]

        def walk(x: Tensor, states: list[Tensor], suffix: str, reverse: bool) -> Any:
            return self._walk_packed(x, states, suffix, reverse, sizes)

        y, last = self._layers(data, first, walk)
        if packed.unsorted_indices is not None:
            last = [s.index_select(1, packed.unsorted_indices) for s in last]
        return packed._replace(data=y), last

    def _first(
        self, states: tuple[Tensor | None, ...], batch: int, dtype: Any, batched: bool
    ) -> list[Tensor]:
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        return [
            self._state(s, batch, dtype, size, what, batched)
            for s, size, what in zip(states, sizes, ("h_0", "c_0"), strict=False)
        ]

    def _layers(
        self, x: Tensor, first: list[Tensor], walk: Callable[..., Any]
    ) -> tuple[Tensor, list[Tensor]]:
        """All layers and directions, each walked by `walk`: the output and the last states, stacked."""
        finals: list[list[Tensor]] = [[] for _ in first]
        for k in range(self.num_layers):
            if k and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            ways = []
            for d, suffix in enumerate(self._suffixes(k)):
                at = k * self._directions + d
                y, last = walk(x, [s[at] for s in first], suffix, d == 1)
                ways.append(y)
                for table, state in zip(finals, last, strict=True):
                    table.append(state)
            x = ways[0] if len(ways) == 1 else cat(ways, -1)
        return x, [stack(table, 0) for table in finals]

    def _walk_packed(
        self, data: Tensor, states: list[Tensor], suffix: str, reverse: bool, sizes: list[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """`_walk` of a packed sequence: one walk for each run of times with the same number of sequences."""
        runs, stop = [], 0  # (sequences, first row, last row)
        for size, times in groupby(sizes):
            start, stop = stop, stop + size * len(list(times))
            runs.append((size, start, stop))
        made: list[Any] = [None] * len(runs)
        ended: list[list[Tensor]] = []
        size = runs[-1][0] if reverse else runs[0][0]
        now = [slice_dim(s, 0, 0, size) for s in states]
        for r in reversed(range(len(runs))) if reverse else range(len(runs)):
            wanted, start, stop = runs[r]
            if wanted < size:  # some have ended
                ended.append([slice_dim(s, 0, wanted, size) for s in now])
                now = [slice_dim(s, 0, 0, wanted) for s in now]
            elif wanted > size:  # some begin
                more = [slice_dim(s, 0, size, wanted) for s in states]
                now = [cat(pair, 0) for pair in zip(now, more, strict=True)]
            size = wanted
            x = _reshape(slice_dim(data, 0, start, stop), ((stop - start) // size, size, data.shape[1]))
            y, now = self._walk(x, now, suffix, reverse)
            made[r] = _reshape(y, (stop - start, y.shape[2]))
        last = [cat(parts, 0) for parts in zip(now, *reversed(ended), strict=True)]
        return cat(made, 0), last

    def _walk(
        self, x: Tensor, states: list[Tensor], suffix: str, reverse: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """One layer in one direction: its output (time, batch, out) and last states."""
        raise ArgumentError(type(self).__name__, "_walk is not defined", fix="use nn.RNN, nn.LSTM or nn.GRU")

    def _weights(self, suffix: str) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        own = self.__dict__
        return (
            own["weight_ih" + suffix],
            own["weight_hh" + suffix],
            own.get("bias_ih" + suffix),
            own.get("bias_hh" + suffix),
        )

    def extra_repr(self) -> str:
        """Settings, those that are not the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if not self.bias:
            text += f", bias={self.bias}"
        if self.batch_first:
            text += f", batch_first={self.batch_first}"
        if self.dropout:
            text += f", dropout={self.dropout}"
        return text + (f", bidirectional={self.bidirectional}" if self.bidirectional else "")


def _last(y: Tensor, reverse: bool) -> Tensor:
    """The state after the last step that was walked."""
    last: Tensor = y[0 if reverse else y.shape[0] - 1]
    return last


class RNN(_Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu (Elman 1990); see the module for shapes.

    dropout: after each layer but the last.  forward(input, h_0=None) returns (output, h_n).
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError("RNN", f"nonlinearity is {nonlinearity!r}", fix="use 'tanh' or 'relu'")
        self.nonlinearity = nonlinearity
        self._build(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """The last layer's h of each time (packed, if the input is), and each layer's last h."""
        y, (h,) = self._run(input, (hx,))
        return y, h

    def _walk(
        self, x: Tensor, states: list[Tensor], suffix: str, reverse: bool
    ) -> tuple[Tensor, list[Tensor]]:
        w_ih, w_hh, b_ih, b_hh = self._weights(suffix)
        a = F.linear(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh)
        y = walk_rnn(a, states[0], w_hh, self.nonlinearity == "relu", reverse)
        return y, [_last(y, reverse)]


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); see the module for shapes.

    dropout: after each layer but the last.  proj_size: h is multiplied by weight_hr (proj_size, hidden_size)
    (Sak et al. 2014, arXiv 1402.1128).  forward(input, (h_0, c_0)=None) returns (output, (h_n, c_n)).
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._build(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    def forward(
        self, input: Any, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """The last layer's h of each time (packed, if the input is), and each layer's last h and c."""
        y, (h, c) = self._run(input, _pair("LSTM", hx))
        return y, (h, c)

    def _walk(
        self, x: Tensor, states: list[Tensor], suffix: str, reverse: bool
    ) -> tuple[Tensor, list[Tensor]]:
        w_ih, w_hh, b_ih, b_hh = self._weights(suffix)
        a = F.linear(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh)
        if self.proj_size:
            return _projected(a, states, w_hh, self.__dict__["weight_hr" + suffix], reverse)
        y, h, c = walk_lstm(a, states[0], states[1], w_hh, reverse)
        return y, [h, c]


def _projected(
    a: Tensor, states: list[Tensor], w_hh: Tensor, w_hr: Tensor, reverse: bool
) -> tuple[Tensor, list[Tensor]]:
    """An LSTM whose h is projected, step by step."""
    h, c = states
    size = c.shape[1]
    made: list[Any] = [None] * a.shape[0]
    for t in reversed(range(len(made))) if reverse else range(len(made)):
        gates = a[t] + F.linear(h, w_hh)
        i, f, g, o = (slice_dim(gates, 1, k * size, (k + 1) * size) for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = F.linear(sigmoid(o) * tanh(c), w_hr)
        made[t] = h
    return stack(made, 0), [h, c]


def _pair(layer: str, hx: Any) -> tuple[Tensor | None, Tensor | None]:
    if hx is None:
        return None, None
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise ShapeError(layer, f"a state that is a {type(hx).__name__}", fix="pass the pair (h_0, c_0)")
    return hx[0], hx[1]


class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078); see the module for shapes.

    dropout: after each layer but the last.  forward(input, h_0=None) returns (output, h_n).
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._build(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """The last layer's h of each time (packed, if the input is), and each layer's last h."""
        y, (h,) = self._run(input, (hx,))
        return y, h

    def _walk(
        self, x: Tensor, states: list[Tensor], suffix: str, reverse: bool
    ) -> tuple[Tensor, list[Tensor]]:
        w_ih, w_hh, b_ih, b_hh = self._weights(suffix)
        y = walk_gru(F.linear(x, w_ih, b_ih), states[0], w_hh, b_hh, reverse)
        return y, [_last(y, reverse)]


def walk_rnn(a: Tensor, h: Tensor, w: Tensor, relu: bool = False, reverse: bool = False) -> Tensor:
    """The h of each time, from what goes into each step (time, batch, hidden), h (batch, hidden) and W_hh."""
    y: Tensor = _Walk.apply(_RNN, (relu, reverse), a, h, w)
    return y


def walk_lstm(
    a: Tensor, h: Tensor, c: Tensor, w: Tensor, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The h of each time, and the last h and c; a is (time, batch, 4 hidden), gates i f g o."""
    y = _Walk.apply(_LSTM, (reverse,), a, h, c, w)
    size, last = h.shape[1], _last(y, reverse)
    return (
        slice_dim(y, 2, 5 * size, 6 * size),
        slice_dim(last, 1, 5 * size, 6 * size),
        slice_dim(last, 1, 4 * size, 5 * size),
    )


def walk_gru(a: Tensor, h: Tensor, w: Tensor, b: Tensor | None, reverse: bool = False) -> Tensor:
    """The h of each time; a is (time, batch, 3 hidden), gates r z n; b is added to W_hh h."""
    size = h.shape[1]
    bias = zeros(3 * size, dtype=a.dtype) if b is None else b
    return slice_dim(_Walk.apply(_GRU, (reverse,), a, h, w, bias), 2, 4 * size, 5 * size)


# -- single steps ---------------------------------------------------------------------------------------


class _Cell(Module):
    gates: ClassVar[int]
    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def _build(self, input_size: int, hidden_size: int, bias: bool, device: Any, dtype: Any) -> None:
        layer = type(self).__name__
        dtype = factory(layer, device, dtype)
        positive(layer, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(zeros(rows, input_size, dtype=dtype))
        self.weight_hh = Parameter(zeros(rows, hidden_size, dtype=dtype))
        self.bias_ih = Parameter(zeros(rows, dtype=dtype)) if bias else None
        self.bias_hh = Parameter(zeros(rows, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, uniform in +-1/sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def _ready(self, input: Tensor, *states: Tensor | None) -> tuple[bool, Tensor, list[Tensor]]:
        """Whether there is a batch, the input as a sequence of one step, and the states."""
        layer = type(self).__name__
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                layer, f"an input of shape {input.shape}", fix=f"it must be (batch, {self.input_size})"
            )
        batched = input.ndim == 2
        x = input if batched else unsqueeze(input, 0)
        made = []
        for s in states:
            if s is None:
                s = zeros(x.shape[0], self.hidden_size, dtype=x.dtype)
            elif not batched:
                s = unsqueeze(s, 0)
            if s.shape != (x.shape[0], self.hidden_size):
                raise ShapeError(
                    layer,
                    f"a state of shape {s.shape}",
                    fix=f"it must be {(x.shape[0], self.hidden_size)}, one row an example",
                )
            made.append(s)
        return batched, unsqueeze(x, 0), made

    def _into(self, x: Tensor) -> Tensor:
        if self.bias_ih is None or self.bias_hh is None:
            return F.linear(x, self.weight_ih)
        return F.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias_ih is not None else ", bias=False")


class RNNCell(_Cell):
    """One step of `RNN`: (batch, input_size) and h (batch, hidden_size) to the next h."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError("RNNCell", f"nonlinearity is {nonlinearity!r}", fix="use 'tanh' or 'relu'")
        self.nonlinearity = nonlinearity
        self._build(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next h."""
        batched, x, (h,) = self._ready(input, hx)
        y = walk_rnn(self._into(x), h, self.weight_hh, self.nonlinearity == "relu")
        return y.squeeze(0) if batched else y.reshape(self.hidden_size)


class LSTMCell(_Cell):
    """One step of `LSTM`: (batch, input_size) and (h, c) to the next (h, c)."""

    gates = 4

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self._build(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The next h and c."""
        batched, x, (h, c) = self._ready(input, *_pair("LSTMCell", hx))
        _, h, c = walk_lstm(self._into(x), h, c, self.weight_hh)
        return (h, c) if batched else (h.squeeze(0), c.squeeze(0))


class GRUCell(_Cell):
    """One step of `GRU`: (batch, input_size) and h (batch, hidden_size) to the next h."""

    gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self._build(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next h."""
        batched, x, (h,) = self._ready(input, hx)
        y = walk_gru(F.linear(x, self.weight_ih, self.bias_ih), h, self.weight_hh, self.bias_hh)
        return y.squeeze(0) if batched else y.reshape(self.hidden_size)
