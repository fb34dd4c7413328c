"""Recurrences over time, each one operation: plain RNN, LSTM and GRU.

What goes *into* a step from the outside (W_ih x_t and the biases) does not depend on the step before, so it
is one large product for all times; what is left for the loop is h W_hh^T and the gates:

    rnn    h' = tanh(a)                                    or relu, with a = x_t + W h
    lstm   i, f, o = sigmoid,  g = tanh of the four parts of a
           c' = f c + i g,  h' = o tanh(c')                (Hochreiter & Schmidhuber 1997; Gers et al. 2000)
    gru    r, z = sigmoid of two parts of a, n = tanh(x_n + r q) with q = W_n h + b_n
           h' = (1 - z) n + z h                            (Cho et al. 2014, arXiv 1406.1078)

As an operation a step, a sequence of 100 would leave 1,000 nodes on the tape.  Here it is one: the output
holds everything the way back needs, the gates of each time and the states,

    lstm (T, N, 6H): i f g o c h        gru (T, N, 5H): r z n q h        rnn (T, N, H): h

of which callers slice what they want.  The way back, with dh and dc the cotangents that flow along time,

    lstm   dc += dh o (1 - tanh(c)^2);  di = dc g i (1 - i);  df = dc c_before f (1 - f);
           dg = dc i (1 - g^2);  do = dh tanh(c) o (1 - o);   then dc <- dc f, dh <- (di df dg do) W

is an operation of the same kind, whose output holds the cotangent of a at each time.  Everything else is a
product: gx is that cotangent, gW = sum over t of da_t^T h_{t-1}.

The gradient kernels compute what does not depend on the way for many times at once, so that their loops only
multiply.  Their own derivatives are derived from a composition of operations (see `minigrad.ops.derived`).

`pull_rnn`, `pull_lstm` and `pull_gru` give the cotangents of all inputs from one such walk.  A rule of a
record answers for one input only, so `minigrad.nn` puts a recurrence on the tape as one function and walks
once; the rules below are for those who use the records alone.

    >>> import minigrad as mg
    >>> x, h, w = mg.ones(3, 1, 2), mg.zeros(1, 2), mg.zeros(2, 2)
    >>> rnn(x, h, w, False, False)[-1]                     # tanh(1), three times
    tensor([[0.7616, 0.7616]])

Sigmoids are computed as (1 + tanh(x / 2)) / 2, so that one tanh serves all gates of a step.
Left out: projections of h (`minigrad.nn.LSTM` composes them), and sequences of different lengths in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..bind import primitive
from ..errors import DTypeError, Refusal
from ..ir import Spec, is_float
from ..mode import current
from ..tensor import Tensor
from .contraction import _matmul_op
from .derived import partial
from .elementwise import tanh, where
from .movement import _reshape, cat, slice_dim, stack
from .reduction import _sum

__all__ = ["gru", "lstm", "pull_gru", "pull_lstm", "pull_rnn", "rnn"]


def _times(count: int, reverse: bool) -> range:
    return range(count - 1, -1, -1) if reverse else range(count)


def _shape(gates: int, parts: int, states: int) -> Callable[..., Spec]:
    """The shape rule: x (T, N, gates H), `states` initial states (N, H), w (gates H, H), then vectors."""

    def shape(x: Spec, *rest: Any) -> Spec:
        specs = [s for s in rest if isinstance(s, Spec)]
        if not is_float(x.dtype) or any(s.dtype != x.dtype for s in specs):
            names = " and ".join(sorted({s.dtype.name for s in (x, *specs)}))
            raise Refusal(f"dtypes {names}", "give all inputs one floating point dtype", DTypeError)
        hidden = specs[0].shape[-1] if specs[0].shape else 0
        wanted = [(x.shape[1:2][0] if len(x.shape) == 3 else -1, hidden)] * states + [
            (gates * hidden, hidden)
        ]
        wanted += [(gates * hidden,)] * (len(specs) - len(wanted))  # type: ignore[list-item]
        if len(x.shape) != 3 or x.shape[2] != gates * hidden or [s.shape for s in specs] != wanted:
            raise Refusal(
                f"inputs of shape {x.shape} with {', '.join(str(s.shape) for s in specs)}",
                f"they must be (time, batch, {gates} h), states (batch, h), weight ({gates} h, h)",
            )
        if not x.shape[0]:
            raise Refusal("a sequence of no steps", "give it at least one")
        return Spec((*x.shape[:2], parts * hidden), x.dtype)

    return shape


def _halved(hidden: int, dtype: Any, sigmoids: Sequence[bool]) -> tuple[Any, Any]:
    """Rows a, b with sigmoid(x) = a tanh(a x) + b for the gates that are sigmoids, tanh(x) for the others."""
    a = np.concatenate([np.full(hidden, 0.5 if s else 1.0, dtype) for s in sigmoids])
    return a, np.asarray(1.0, dtype) - a


# -- plain ----------------------------------------------------------------------------------------------


def _rnn_kernel(x: Any, h: Any, w: Any, relu: bool, reverse: bool) -> Any:
    _RNN_SHAPE(*_specs(x, h, w))
    y = np.empty(x.shape, x.dtype)
    wt, product = np.ascontiguousarray(w.T), _product()
    for t in _times(len(x), reverse):
        now = np.add(product(h, wt), x[t], out=y[t])
        h = np.maximum(now, 0, out=now) if relu else np.tanh(now, out=now)
    return y


def _rnn_grad_kernel(g: Any, y: Any, w: Any, relu: bool, reverse: bool) -> Any:
    """The cotangents of a at each time."""
    slope = (y > 0).astype(y.dtype) if relu else 1.0 - y * y  # of all times at once; the loop only multiplies
    da = np.empty(y.shape, y.dtype)
    dh, product = np.zeros(y.shape[1:], y.dtype), _product()
    for t in _times(len(g), not reverse):
        dh += g[t]
        np.multiply(dh, slope[t], out=da[t])
        dh = product(da[t], w)
    return da


def _rnn_grad_composed(g: Tensor, y: Tensor, w: Tensor, relu: bool, reverse: bool) -> Tensor:
    da: list[Any] = [None] * g.shape[0]
    dh = None
    for t in _times(g.shape[0], not reverse):
        dh = g[t] if dh is None else g[t] + dh
        da[t] = where(y[t] > 0.0, dh, 0.0) if relu else dh * (1.0 - y[t] * y[t])
        dh = da[t] @ w
    return stack(da, 0)


def pull_rnn(g: Tensor, y: Tensor, h: Tensor, w: Tensor, relu: bool, reverse: bool) -> tuple[Tensor, ...]:
    """Cotangents of x, h and w, from that of the output."""
    da = _rnn_grad(g, y, w, relu, reverse)
    first = da[da.shape[0] - 1 if reverse else 0]
    return da, first @ w, _weight_grad(da, y, h, reverse)


# -- LSTM -----------------------------------------------------------------------------------------------


def _lstm_kernel(x: Any, h: Any, c: Any, w: Any, reverse: bool) -> Any:
    _LSTM_SHAPE(*_specs(x, h, c, w))
    n, size = h.shape
    product = _product()
    a, b = _halved(size, x.dtype, (True, True, False, True))
    wt = np.ascontiguousarray((w * a[:, None]).T)
    y = np.empty((len(x), n, 6 * size), x.dtype)
    scratch, given = np.empty((n, size), x.dtype), np.empty((n, 4 * size), x.dtype)
    for t in _times(len(x), reverse):
        gates = product(h, wt)
        gates += np.multiply(x[t], a, out=given)
        np.tanh(gates, out=gates)
        gates *= a
        gates += b
        now = y[t]
        now[:, : 4 * size] = gates
        c_now, h_now = now[:, 4 * size : 5 * size], now[:, 5 * size :]
        np.multiply(gates[:, size : 2 * size], c, out=c_now)
        c_now += np.multiply(gates[:, :size], gates[:, 2 * size : 3 * size], out=scratch)
        np.tanh(c_now, out=scratch)
        h = np.multiply(gates[:, 3 * size :], scratch, out=scratch)
        h_now[...] = h
        c = c_now
    return y


def _lstm_grad_kernel(g: Any, y: Any, c0: Any, w: Any, reverse: bool) -> Any:
    """(di, df, dg, do, what flows to the c before) at each time."""
    count, n, size = len(y), y.shape[1], w.shape[1]
    parts, given = y.reshape(count, n, 6, size), g.reshape(count, n, 6, size)
    own_too = bool(g[:, :, : 4 * size].any())
    out = np.empty((count, n, 5 * size), y.dtype)
    da, dh, dc = np.empty((n, 4, size), y.dtype), np.zeros((n, size), y.dtype), np.zeros((n, size), y.dtype)
    flat, scratch, product = da.reshape(n, 4 * size), np.empty((n, size), y.dtype), _product()
    for block in _blocks(count, n * size, not reverse):
        # What does not depend on the way is computed for a block of times at once.
        now = parts[block]
        f, gg, o = (now[:, :, k] for k in (1, 2, 3))
        tc = np.tanh(now[:, :, 4])
        slopes = now[:, :, :4] * (1.0 - now[:, :, :4])  # how each gate's a moves the gate
        slopes[:, :, 2] = 1.0 - gg * gg
        own = given[block, :, :4] * slopes if own_too else None
        slopes[:, :, 0] *= gg
        slopes[:, :, 2] *= now[:, :, 0]
        slopes[:, :, 3] *= tc
        to_c = o * (1.0 - tc * tc)
        times = range(block.start, block.stop)
        for t in times if reverse else reversed(times):
            k, last = t - block.start, t + 1 if reverse else t - 1
            slopes[k, :, 1] *= parts[last, :, 4] if 0 <= last < count else c0
            dh += given[t, :, 5]
            dc += given[t, :, 4]
            dc += np.multiply(dh, to_c[k], out=scratch)
            np.multiply(slopes[k, :, :3], dc[:, None], out=da[:, :3])
            np.multiply(slopes[k, :, 3], dh, out=da[:, 3])
            if own is not None:
                da += own[k]
            dc *= f[k]
            out[t, :, : 4 * size] = flat
            out[t, :, 4 * size :] = dc
            dh = product(flat, w)
    return out


def _lstm_grad_composed(g: Tensor, y: Tensor, c0: Tensor, w: Tensor, reverse: bool) -> Tensor:
    count, size = g.shape[0], w.shape[1]
    order = list(_times(count, not reverse))
    out: list[Any] = [None] * count
    dh = dc = None
    for k, t in enumerate(order):
        i, f, gg, o, c = _columns(y[t], size, 5)
        before = _columns(y[order[k + 1]], size, 5)[4] if k + 1 < count else c0
        gi, gf, ggg, go, gc, gh = _columns(g[t], size, 6)
        dh = gh if dh is None else gh + dh
        dc = gc if dc is None else gc + dc
        tc = tanh(c)
        dc = dc + dh * o * (1.0 - tc * tc)
        di = (dc * gg + gi) * i * (1.0 - i)
        df = (dc * before + gf) * f * (1.0 - f)
        dg = (dc * i + ggg) * (1.0 - gg * gg)
        do = (dh * tc + go) * o * (1.0 - o)
        da = cat([di, df, dg, do], 1)
        dc = dc * f
        out[t] = cat([da, dc], 1)
        dh = da @ w
    return stack(out, 0)


def pull_lstm(
    g: Tensor, y: Tensor, h: Tensor, c: Tensor, w: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cotangents of x, h, c and w, from that of the output."""
    size = w.shape[1]
    d = _lstm_grad(g, y, c, w, reverse)
    da = slice_dim(d, 2, 0, 4 * size)
    last = d.shape[0] - 1 if reverse else 0
    dc = slice_dim(d[last], 1, 4 * size, 5 * size)
    return da, da[last] @ w, dc, _weight_grad(da, slice_dim(y, 2, 5 * size, 6 * size), h, reverse)


# -- GRU ------------------------------------------------------------------------------------------------


def _gru_kernel(x: Any, h: Any, w: Any, b: Any, reverse: bool) -> Any:
    _GRU_SHAPE(*_specs(x, h, w, b))
    count, (n, size) = len(x), h.shape
    scale, _ = _halved(size, x.dtype, (True, True, False))
    wt = np.ascontiguousarray((w * scale[:, None]).T)
    half = x[:, :, : 2 * size] * x.dtype.type(0.5)
    b = b * scale
    product = _product()
    y = np.empty((count, n, 5 * size), x.dtype)
    for t in _times(count, reverse):
        a = product(h, wt)
        a += b
        rz, q = a[:, : 2 * size], a[:, 2 * size :]
        rz += half[t]
        np.tanh(rz, out=rz)
        rz *= 0.5
        rz += 0.5
        now = y[t]
        now[:, : 2 * size] = rz
        now[:, 3 * size : 4 * size] = q
        m, h_now = now[:, 2 * size : 3 * size], now[:, 4 * size :]
        np.multiply(rz[:, :size], q, out=m)
        m += x[t, :, 2 * size :]
        np.tanh(m, out=m)
        np.subtract(h, m, out=h_now)  # h' = n + z (h - n)
        h_now *= rz[:, size:]
        h_now += m
        h = h_now
    return y


def _gru_grad_kernel(g: Any, y: Any, h0: Any, w: Any, reverse: bool) -> Any:
    """(dr, dz, dn, dq, what flows to the h before) at each time."""
    count, n, size = len(y), y.shape[1], w.shape[1]
    parts, given = y.reshape(count, n, 5, size), g.reshape(count, n, 5, size)
    r, z, m, q, h = (parts[:, :, k] for k in range(5))
    before = np.concatenate([h[1:], h0[None]] if reverse else [h0[None], h[:-1]])
    # What does not depend on the way is computed for all times at once: the loop only multiplies.
    to_r, to_z, to_n = r * (1.0 - r), z * (1.0 - z), 1.0 - m * m
    own = None
    if g[:, :, : 4 * size].any():
        own = np.stack([given[:, :, 0] * to_r, given[:, :, 1] * to_z, given[:, :, 2] * to_n], 2)
    to_r, to_z, to_n = to_r * q, to_z * (before - m), to_n * (1.0 - z)
    out = np.empty((count, n, 5, size), y.dtype)
    da, dh = np.empty((n, 3, size), y.dtype), np.zeros((n, size), y.dtype)
    dr, dz, dq = da[:, 0], da[:, 1], da[:, 2]
    flat, product = da.reshape(n, 3 * size), _product()
    for t in _times(count, not reverse):
        dh += given[t, :, 4]
        dn = np.multiply(dh, to_n[t], out=out[t, :, 2])
        np.multiply(dh, to_z[t], out=dz)
        if own is not None:
            dn += own[t, :, 2]
            dz += own[t, :, 1]
        np.multiply(dn, to_r[t], out=dr)
        np.multiply(dn, r[t], out=dq)
        if own is not None:
            dr += own[t, :, 0]
            dq += given[t, :, 3]
        dh *= z[t]
        dh += product(flat, w)
        out[t, :, :2] = da[:, :2]
        out[t, :, 3] = dq
        out[t, :, 4] = dh
    return out.reshape(count, n, 5 * size)


def _gru_grad_composed(g: Tensor, y: Tensor, h0: Tensor, w: Tensor, reverse: bool) -> Tensor:
    count, size = g.shape[0], w.shape[1]
    order = list(_times(count, not reverse))
    out: list[Any] = [None] * count
    dh = None
    for k, t in enumerate(order):
        r, z, n, q = _columns(y[t], size, 4)
        before = _columns(y[order[k + 1]], size, 5)[4] if k + 1 < count else h0
        gr, gz, gn, gq, gh = _columns(g[t], size, 5)
        dh = gh if dh is None else gh + dh
        dn = (dh * (1.0 - z) + gn) * (1.0 - n * n)
        dz = (dh * (before - n) + gz) * z * (1.0 - z)
        dr = (dn * q + gr) * r * (1.0 - r)
        dq = dn * r + gq
        dh = cat([dr, dz, dq], 1) @ w + dh * z
        out[t] = cat([dr, dz, dn, dq, dh], 1)
    return stack(out, 0)


def pull_gru(
    g: Tensor, y: Tensor, h: Tensor, w: Tensor, b: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cotangents of x, h, w and b, from that of the output."""
    size = w.shape[1]
    d = _gru_grad(g, y, h, w, reverse)
    da = cat([slice_dim(d, 2, 0, 2 * size), slice_dim(d, 2, 3 * size, 4 * size)], 2)
    last = d.shape[0] - 1 if reverse else 0
    dh = slice_dim(d[last], 1, 4 * size, 5 * size)
    gw = _weight_grad(da, slice_dim(y, 2, 4 * size, 5 * size), h, reverse)
    return slice_dim(d, 2, 0, 3 * size), dh, gw, _sum(da, (0, 1), False)


# -- shared ---------------------------------------------------------------------------------------------


def _product() -> Callable[[Any, Any], Any]:
    """The matrix product of the backend in use: a step is mostly that."""
    kernel = current().backend[_matmul_op.op]  # type: ignore[attr-defined]
    return lambda a, b: kernel(a, b, False, False)


def _blocks(count: int, row: int, backwards: bool) -> list[slice]:
    """Blocks of times whose temporaries stay in the cache, and are not given back to the system."""
    step = max(1, 16384 // max(row, 1))
    blocks = [slice(k, min(k + step, count)) for k in range(0, count, step)]
    return blocks[::-1] if backwards else blocks


def _columns(x: Tensor, size: int, count: int) -> list[Tensor]:
    """The first `count` blocks of `size` columns."""
    return [slice_dim(x, 1, k * size, (k + 1) * size) for k in range(count)]


def _specs(*arrays: Any) -> list[Spec]:
    return [Spec(a.shape, a.dtype) for a in arrays]


def _weight_grad(da: Tensor, states: Tensor, h: Tensor, reverse: bool) -> Tensor:
    """sum over t of da_t^T h_{t-1}, as one product."""
    count, n, size = states.shape
    first = _reshape(h, (1, n, size))
    before = (
        cat([slice_dim(states, 0, 1, count), first], 0)
        if reverse
        else cat([first, slice_dim(states, 0, 0, count - 1)], 0)
    )
    rows = count * n
    return _matmul_op(_reshape(da, (rows, da.shape[2])), _reshape(before, (rows, size)), True, False)


def _grad_shape(forward: Callable[..., Spec], parts: int) -> Callable[..., Spec]:
    """g and y of the output's spec (T, N, m H), a state (N, H) or none, w (k H, H)."""

    def shape(g: Spec, y: Spec, *rest: Any) -> Spec:
        specs = [s for s in rest if isinstance(s, Spec)]
        w = specs[-1]
        if len(w.shape) != 2 or g != y or any(s.dtype != g.dtype for s in specs) or len(g.shape) != 3:
            raise Refusal(f"a cotangent {g} of an output {y}", "they must be alike")
        if not is_float(g.dtype):
            raise Refusal(f"a cotangent {g}", "give floating point numbers", DTypeError)
        return Spec((*g.shape[:2], parts * w.shape[1]), g.dtype)

    return shape


def _derived_rules(composed: Callable[..., Any], names: Sequence[str]) -> tuple[Callable[..., Tensor], ...]:
    """A rule for each tensor of `composed`, derived from it; the last names are attributes."""
    tensors = [n for n in names if n not in ("relu", "reverse")]
    rest = [n for n in names if n not in tensors]
    rules = []
    for i in range(len(tensors)):
        # the names of the parameters say what the tape keeps
        source = (
            f"lambda g, {', '.join(names)}: derive(({', '.join(tensors)},), ({', '.join(rest)},), g, {i})"
        )

        def derive(inputs: Any, attrs: Any, g: Tensor, i: int) -> Tensor:
            return partial(lambda *t: composed(*t, *attrs), inputs, g, i)

        rules.append(eval(source, {"derive": derive}))  # only names from this file can occur in it
    return tuple(rules)


def _recurrence(
    name: str,
    inputs: tuple[str, ...],
    attrs: tuple[str, ...],
    kernel: Callable[..., Any],
    shape: Callable[..., Spec],
    pull: Callable[..., tuple[Tensor, ...]],
    back: Callable[..., Any],
    composed: Callable[..., Any],
    back_inputs: tuple[str, ...],
    back_parts: int,
    samples: Callable[[Any], list[Any]],
    gates: int,
    doc: str,
) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The record of a recurrence and that of its way back."""
    held = inputs[1:]
    rules = []
    for i in range(len(inputs)):
        source = f"lambda g, y, {', '.join((*held, *attrs))}: pull(g, y, {', '.join((*held, *attrs))})[{i}]"
        rules.append(eval(source, {"pull": pull}))  # only names from this file can occur in it
    forward = primitive(
        name,
        kind="opaque",
        inputs=inputs,
        attrs=attrs,
        kernel=kernel,
        shape=shape,
        vjp=tuple(rules),
        samples=samples,
        error=64.0,
        traits={"flops": lambda x, *rest: _flops(x, gates)},
        doc=doc,
    )

    def back_samples(rng: Any) -> list[Any]:
        made = []
        for arrays, values in samples(rng):
            y = kernel(*arrays, *values)
            known = dict(zip(inputs, arrays, strict=True))
            # relu has no derivative at 0, where its gradient's dependence on the output jumps
            known |= {"grad": rng.normal(size=y.shape), "output": np.where(y == 0.0, -0.3, y)}
            made.append((tuple(known[n] for n in back_inputs), values))
        return made

    backward = primitive(
        name + "_grad",
        kind="opaque",
        inputs=back_inputs,
        attrs=attrs,
        kernel=back,
        shape=_grad_shape(shape, back_parts),
        vjp=_derived_rules(composed, (*back_inputs, *attrs)),
        samples=back_samples,
        error=256.0,
        traits={"flops": lambda x, *rest: _flops(x, gates)},
        doc=f"the gradient of {name}: cotangents of the gates of each time",
    )
    return forward, backward


def _flops(x: Spec, gates: int) -> int:
    time, n, wide = x.shape
    return 2 * time * n * wide * (wide // gates) + 10 * time * n * wide


def _sample_maker(gates: int, states: int, vectors: int, attrs: Sequence[Any]) -> Callable[[Any], list[Any]]:
    def samples(rng: Any) -> list[Any]:
        def draw(*shape: int) -> Any:
            return rng.normal(size=shape) * 0.7

        made = []
        for (time, n, size), values in zip(((3, 2, 2), (2, 1, 3), (1, 2, 1)), attrs, strict=True):
            arrays = [draw(time, n, gates * size), *(draw(n, size) for _ in range(states))]
            arrays += [draw(gates * size, size), *(draw(gates * size) for _ in range(vectors))]
            made.append((tuple(arrays), values))
        return made

    return samples


_RNN_SHAPE, _LSTM_SHAPE, _GRU_SHAPE = _shape(1, 1, 1), _shape(4, 6, 2), _shape(3, 5, 1)

rnn, _rnn_grad = _recurrence(
    "rnn",
    ("x", "h", "w"),
    ("relu", "reverse"),
    _rnn_kernel,
    _RNN_SHAPE,
    pull_rnn,
    _rnn_grad_kernel,
    _rnn_grad_composed,
    ("grad", "output", "w"),
    1,
    _sample_maker(1, 1, 0, ((False, False), (False, True), (True, False))),
    1,
    "h' = tanh(x_t + w h), or relu, over time",
)
lstm, _lstm_grad = _recurrence(
    "lstm",
    ("x", "h", "c", "w"),
    ("reverse",),
    _lstm_kernel,
    _LSTM_SHAPE,
    pull_lstm,
    _lstm_grad_kernel,
    _lstm_grad_composed,
    ("grad", "output", "c", "w"),
    5,
    _sample_maker(4, 2, 0, ((False,), (True,), (False,))),
    4,
    "gates, cell and hidden state of an LSTM at each time",
)
gru, _gru_grad = _recurrence(
    "gru",
    ("x", "h", "w", "b"),
    ("reverse",),
    _gru_kernel,
    _GRU_SHAPE,
    pull_gru,
    _gru_grad_kernel,
    _gru_grad_composed,
    ("grad", "output", "h", "w"),
    5,
    _sample_maker(3, 1, 1, ((False,), (True,), (False,))),
    3,
    "gates and hidden state of a GRU at each time",
)
