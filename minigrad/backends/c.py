"""The C backend: numpy arrays in, numpy arrays out, the work done by the compiled kernels of `csrc/`.

A backend is a table, `KERNELS`, from the name of an op to a function on arrays; what is not in the
table, numpy does. This module only carries pointers across the border, and knows where crossing it
does not pay: `np.matmul` of two 8 x 8 matrices is done before C has been called, so products below
`MATMUL_CROSSOVER` multiply-adds go to numpy.

It imports nothing of minigrad but the extension. Where that is missing (no C compiler when the
package was installed), `available` is False and `reason` says why.

Two environment variables are read once, at import:

`MINIGRAD_ISA`
    the table of kernels to use, one of `isas()`; the default is the best that this processor runs.
    "avx512:plain" is that table without the instructions for integer dot products, see `dots()`.
`MINIGRAD_NUM_THREADS`
    threads that a kernel may use; the default is as many as this process may run on.

>>> import numpy as np
>>> x = np.ones((40, 30), np.float32)
>>> bool(np.allclose(matmul(x, x.T), x @ x.T))
True
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "KERNELS",
    "MATMUL_CROSSOVER",
    "available",
    "copy_bandwidth",
    "dot",
    "dots",
    "isa",
    "isas",
    "ladder",
    "ladder_steps",
    "matmul",
    "num_threads",
    "peak_flops",
    "random_bits",
    "random_uniform",
    "reason",
    "set_dot",
    "set_isa",
    "set_num_threads",
]

Array = np.ndarray[Any, Any]

MATMUL_CROSSOVER = 32 * 32 * 32
"""Multiply-adds below which `np.matmul` is quicker than the call into C, which costs 0.6 us more
(measured by `python benchmarks/bench_gemm.py --crossover`)."""

ffi: Any = None
lib: Any = None
try:
    _kernels = importlib.import_module("minigrad._kernels")
except ModuleNotFoundError as error:
    available = False
    reason = (
        "cffi is not installed: pip install cffi"
        if error.name == "_cffi_backend"
        else "extension not built: no C compiler at install time"
    )
except ImportError as error:
    available, reason = False, f"extension not usable: {error}"
else:
    available, reason = True, ""
    ffi, lib = _kernels.ffi, _kernels.lib
from_buffer: Any = ffi.from_buffer if available else None

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)
_ERRORS = {
    1: (MemoryError, "no memory for the scratch space of a kernel"),
    2: (ValueError, "an array is too large to address"),
    3: (ValueError, "a kernel was called with arguments that it does not support"),
    4: (ValueError, "this processor cannot run that table of kernels"),
    5: (RuntimeError, "another process did not come in time"),
    6: (RuntimeError, "another process has failed or left"),
    7: (RuntimeError, "processes of a group do different things"),
}


def _check(status: int) -> None:
    """Turn a status code of the ABI into an exception."""
    if status:
        kind, message = _ERRORS[status]
        raise kind(f"minigrad kernels: {message}")


def _need() -> None:
    if not available:
        raise RuntimeError(f"the C backend is not available ({reason})")


# --- which table, how many threads ----------------------------------------------------------------


def isa() -> str:
    """The name of the table of kernels in use; `"none"` without the extension."""
    return ffi.string(lib.mg_isa()).decode() if available else "none"


def isas() -> tuple[str, ...]:
    """The tables that this processor can run, best last."""
    names: list[str] = []
    while available and (name := lib.mg_isa_at(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def set_isa(name: str) -> None:
    """Use the table `name` from now on, in all threads."""
    _need()
    if lib.mg_set_isa(name.encode()):
        raise ValueError(f"unknown or unsupported ISA {name!r}: this processor can run {', '.join(isas())}")


def dot() -> str:
    """What integer products are made of within the table in use: "vnni", "dot" (ARM), or "plain" without."""
    return ffi.string(lib.mg_dot()).decode() if available else "none"


def dots() -> tuple[str, ...]:
    """What they can be made of on this processor, best last."""
    names: list[str] = []
    while available and (name := lib.mg_dot_at(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def set_dot(name: str) -> None:
    """Make integer products of `name` from now on, until `set_isa` chooses the best again."""
    _need()
    if lib.mg_set_dot(name.encode()):
        raise ValueError(f"unknown or unsupported product {name!r}: {isa()} has {', '.join(dots())} here")


def num_threads() -> int:
    """How many threads a kernel may use."""
    return int(lib.mg_num_threads()) if available else 1


def set_num_threads(n: int) -> None:
    """Let a kernel use up to `n` threads. Results do not depend on it."""
    _need()
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, not {n}")
    lib.mg_set_num_threads(min(n, 2**31 - 1))


# --- matmul ---------------------------------------------------------------------------------------


def _pointer(x: Array) -> Any:
    """The address of the first element of any array, as a cdata that a kernel takes."""
    try:
        return ffi.from_buffer(x)  # quickest, but only for contiguous arrays
    except ValueError:
        return ffi.cast("char *", x.__array_interface__["data"][0])


def matmul(x: Array, y: Array, out: Array | None = None) -> Array:
    """`np.matmul(x, y)` for float32 and float64; everything else, and tiny products, is left to numpy.

    `out`, if given, must be a writable array of the right shape and type; it may overlap `x` or `y`.
    """
    dtype = x.dtype
    if dtype is _F32:
        kind = 0
    elif dtype is _F64:
        kind = 1
    else:
        return _numpy_matmul(x, y, out)
    if y.dtype is not dtype or not available:
        return _numpy_matmul(x, y, out)
    if x.ndim != 2 or y.ndim != 2 or out is not None:
        return _general_matmul(kind, x, y, out)

    m, k = x.shape
    rows, n = y.shape
    if rows != k or m * n * k < MATMUL_CROSSOVER:
        return _numpy_matmul(x, y, out)  # which also words the error
    size = 8 if kind else 4
    if x.strides == (k * size, size):
        px, rsx, csx = from_buffer(x), k, 1
    elif x.strides == (size, m * size):
        px, rsx, csx = (
            from_buffer(x.T),
            1,
            m,
        )  # from_buffer takes contiguous arrays only, and a transpose is one
    else:
        return _general_matmul(kind, x, y, None)
    if y.strides == (n * size, size):
        py, rsy, csy = from_buffer(y), n, 1
    elif y.strides == (size, k * size):
        py, rsy, csy = from_buffer(y.T), 1, k
    else:
        return _general_matmul(kind, x, y, None)
    result = np.empty((m, n), dtype)
    status = lib.mg_matmul(kind, m, n, k, px, rsx, csx, py, rsy, csy, from_buffer(result))
    if status:
        _check(status)
    return result


def matmul_flags(x: Array, y: Array, transpose_x: bool, transpose_y: bool) -> Array:
    """`matmul` of either operand or its transpose: the kernel of the record, which has flags for that."""
    return matmul(x.swapaxes(-1, -2) if transpose_x else x, y.swapaxes(-1, -2) if transpose_y else y)


def _numpy_matmul(x: Array, y: Array, out: Array | None) -> Array:
    result: Array = np.matmul(x, y) if out is None else np.matmul(x, y, out=out)
    return result


def _general_matmul(kind: int, x: Array, y: Array, out: Array | None) -> Array:
    """Vectors, batches and given outputs: by the rules of `np.matmul`, through the full descriptor."""
    if x.ndim == 0 or y.ndim == 0:
        return _numpy_matmul(x, y, out)
    a = x[None, :] if x.ndim == 1 else x
    b = y[:, None] if y.ndim == 1 else y
    m, k = a.shape[-2:]
    n = b.shape[-1]
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        return _numpy_matmul(x, y, out)
    if (
        b.shape[-2] != k
        or len(batch) > lib.MG_MAX_BATCH_RANK
        or m * n * k * math.prod(batch) < MATMUL_CROSSOVER
        or any(s % v.itemsize for v in (a, b) for s in v.strides)
    ):
        return _numpy_matmul(x, y, out)

    shape = batch + ((m,) if x.ndim > 1 else ()) + ((n,) if y.ndim > 1 else ())
    if out is None:
        result = np.empty(shape, a.dtype)
    else:
        if out.shape != shape or out.dtype != a.dtype:
            raise ValueError(
                f"matmul: out must be {a.dtype} of shape {shape}, not {out.dtype} of shape {out.shape}"
            )
        if not out.flags.writeable:
            raise ValueError("matmul: out is read-only")
        direct = out.flags.c_contiguous and not (np.may_share_memory(out, x) or np.may_share_memory(out, y))
        result = out if direct else np.empty(shape, a.dtype)

    size = a.itemsize
    g = ffi.new("struct mg_gemm *")
    g.type, g.m, g.n, g.k, g.alpha = kind, m, n, k, 1.0
    g.a, g.b, g.c = pa, pb, pc = _pointer(a), _pointer(b), from_buffer(result)
    g.rsa, g.csa = a.strides[-2] // size, a.strides[-1] // size
    g.rsb, g.csb = b.strides[-2] // size, b.strides[-1] // size
    g.rsc, g.csc = n, 1
    g.batch_rank = len(batch)
    below = m * n
    for d in reversed(range(len(batch))):
        g.batch[d] = batch[d]
        g.batch_a[d] = _batch_stride(a, d - len(batch))
        g.batch_b[d] = _batch_stride(b, d - len(batch))
        g.batch_c[d] = below
        below *= batch[d]
    _check(lib.mg_gemm(g))
    del pa, pb, pc  # alive until here: the kernel used them
    if out is not None and result is not out:
        out[...] = result
        return out
    return result


def _batch_stride(x: Array, d: int) -> int:
    """The stride in elements of batch dimension `d`, counted from the end; 0 where it is broadcast."""
    d -= 2
    return x.strides[d] // x.itemsize if -d <= x.ndim and x.shape[d] != 1 else 0


# --- the teaching ladder --------------------------------------------------------------------------


def ladder_steps() -> tuple[str, ...]:
    """The names of the steps of `csrc/gemm/ladder/`, from the definition to the threaded version."""
    names: list[str] = []
    while available and (name := lib.mg_ladder_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def ladder(step: str, x: Array, y: Array, out: Array | None = None) -> Array:
    """The product of two float32 matrices by one step of the ladder, for reading and measuring."""
    _need()
    a, b = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"ladder: cannot multiply shapes {a.shape} and {b.shape}")
    if step not in ladder_steps():
        raise ValueError(f"unknown step {step!r}: the ladder has {', '.join(ladder_steps())}")
    shape = (a.shape[0], b.shape[1])
    c = np.empty(shape, np.float32) if out is None else out
    if c.shape != shape or c.dtype != _F32 or not c.flags.c_contiguous or not c.flags.writeable:
        raise ValueError(f"ladder: out must be a writable, contiguous float32 array of shape {shape}")
    if np.may_share_memory(c, a) or np.may_share_memory(c, b):
        raise ValueError("ladder: out overlaps an input")
    _check(
        lib.mg_ladder(
            ladder_steps().index(step),
            a.shape[0],
            b.shape[1],
            a.shape[1],
            ffi.from_buffer("float[]", a),
            ffi.from_buffer("float[]", b),
            ffi.from_buffer("float[]", c, require_writable=True),
        )
    )
    return c


def peak_flops(dtype: Any = np.float32, seconds: float = 0.05) -> float:
    """Floating-point operations per second of multiply-adds that touch registers only, on all threads.

    No kernel can be faster: the roof of the roofline.
    """
    _need()
    return float(lib.mg_probe_fma(0 if np.dtype(dtype) == _F32 else 1, seconds))


def copy_bandwidth(megabytes: float = 256, repeat: int = 5) -> float:
    """Bytes per second, read plus written, of copying an array of this size, on all threads.

    The default fits into no cache; half a megabyte stays in most L2 caches.
    """
    _need()
    source = np.ones(int(megabytes * 2**18), np.float32)
    target = np.zeros_like(source)
    return float(lib.mg_probe_copy(ffi.from_buffer(target), ffi.from_buffer(source), source.nbytes, repeat))


# --- random numbers -------------------------------------------------------------------------------


def random_bits(key: int, offset: int, n: int) -> Array:
    """`n` words (uint32) of the Philox4x32-10 stream of `key`, from block `offset` on, four words a block.

    Block `i` is the cipher of the counter `(i & 0xffffffff, i >> 32, 0, 0)` under the key
    `(key & 0xffffffff, key >> 32)`.
    """
    _need()
    out = np.empty(n, np.uint32)
    _check(lib.mg_random_bits(key, offset, n, ffi.from_buffer("uint32_t[]", out)))
    return out


def random_uniform(key: int, offset: int, n: int, dtype: Any = np.float32) -> Array:
    """`n` numbers in [0, 1) from the same stream: float32 of one word each, float64 of two."""
    _need()
    out = np.empty(n, dtype)
    if out.dtype == _F32:
        _check(lib.mg_random_uniform_f32(key, offset, n, ffi.from_buffer("float[]", out)))
    elif out.dtype == _F64:
        _check(lib.mg_random_uniform_f64(key, offset, n, ffi.from_buffer("double[]", out)))
    else:
        raise TypeError(f"random_uniform: float32 or float64, not {out.dtype}")
    return out


KERNELS: dict[str, Callable[..., Array]] = (
    {"matmul": matmul_flags, "random_bits": random_bits} if available else {}
)
"""Op name -> function on arrays. An op that is not here runs on numpy."""


def _configure() -> None:
    """Apply MINIGRAD_ISA and MINIGRAD_NUM_THREADS."""
    if name := os.environ.get("MINIGRAD_ISA", ""):
        table, _, product = name.partition(":")
        try:
            set_isa(table)
            if product:
                set_dot(product)
        except ValueError as error:
            raise ValueError(f"MINIGRAD_ISA: {error}") from None
    if count := os.environ.get("MINIGRAD_NUM_THREADS", ""):
        if not count.isdecimal() or int(count) < 1:
            raise ValueError(f"MINIGRAD_NUM_THREADS must be a whole number, at least 1, not {count!r}")
        set_num_threads(int(count))


if available:
    _configure()
