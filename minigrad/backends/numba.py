"""The Numba backend: the same operations, compiled by LLVM from Python while the program runs.

What it is for: somebody who wants a fast kernel for an operation of their own and no C compiler
(`minigrad.register_kernel`), and somebody who wants to compare.  It is optional (`pip install
minigrad[numba]`), chosen by `mg.backend("numba")` or `MINIGRAD_BACKEND=numba`, and this module,
which imports numba, is itself imported only then.

    >>> import numpy as np
    >>> import minigrad as mg
    >>> with mg.backend("numba"):                                                # doctest: +SKIP
    ...     mg.ones(300, 300) @ mg.ones(300, 300)

**Elementwise.**  A record's formula is a Python expression already: `kernel_source` writes the loop
around it, with every constant in the dtype of the arrays, so that float32 stays float32.  All
layouts meet in one loop over tiles: an operand that is contiguous is read where it is, one that is
broadcast or strided is first spread over a tile of 512 elements that stays in L1.

**Matrix products and convolutions** have one inner loop, `_rows4`: four rows of A times a packed
block of B, held in a tile of 4 x 512 sums.  Four products for each load and store of a sum make it
bound by arithmetic, and LLVM turns the loop over columns into vectors; there is nothing to
reassociate.  A is read through two tables, `a[row[i] + column[k]]`: for a matrix these are multiples
of its strides, and for a convolution they say where patch element k of place i lies in the padded
image, so that patches are never laid out (implicit GEMM).

**Threads.**  Kernels release the interpreter lock, and each call is cut into pieces by *outputs*,
in a way that does not depend on the number of threads: the same bits for any number.  The pool is
Python's; a thread claims piece after piece, and the caller waits only for pieces that were claimed.
A forked child starts a pool of its own.

**Small arrays** go to numpy: below the sizes in `SMALL` a call costs more than it saves, and nothing
is compiled either.  What has no kernel here at all runs on numpy as well: pooling and
argmax, for instance, where compiled loops were measured to be slower than numpy's.

References: Lam, Pitrou & Seibert 2015, Numba; Goto & van de Geijn 2008; Cho & Brand 2017 (arXiv
1706.06873), on convolution without im2col.
Left out: numba's own `prange` (it compiles each kernel twice, its portable thread pool aborts the
process when two Python threads meet in it, and GNU OpenMP aborts a forked child); matrices with fewer
than four rows or eight columns, which are numpy's.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from ..formula import VOCABULARY, Formula
from ..record import OPS, Op

Array = Any
Kernel = Callable[..., Array]
F = TypeVar("F", bound=Callable[..., Any])

#: Sizes below which numpy computes: elements of an output (elementwise) or an input (reductions),
#: multiply-adds (contractions).  As `benchmarks/bench_crossover.py --backend numba` measures on one thread,
#: formulas of several steps break even at 65,536 elements (single steps hardly ever do) and the median
#: reduction at 262,144.  A product of matrices is never quicker than numpy's BLAS, which takes a third to a
#: half of the time from 2**18 on and a tenth below.
SMALL = {"elementwise": 65_536, "reduction": 262_144, "contraction": 1 << 18}
#: Work, in about a nanosecond each, below which a call stays on one thread.
SERIAL = 200_000

TILE = 512  # elements of an operand that is spread out
NC = 512  # columns of a packed block
KC = 256  # rows of a packed block
MC = 128  # rows of A that share a packed block

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)


# -- compiling -------------------------------------------------------------------------------------


def jit(function: F) -> F:
    """Compile at the first call with each combination of types; IEEE arithmetic, to the last bit."""
    return cast(F, numba.njit(nogil=True, error_model="numpy", cache=True)(function))


def fused(function: F) -> F:
    """The same, where a product and a sum may be rounded once (and in no other order)."""
    return cast(F, numba.njit(nogil=True, error_model="numpy", cache=True, fastmath={"contract"})(function))


def _pointer(typing: Any, address: Any, like: Any) -> Any:
    """The memory at an address, as elements of the type of `like`.

    Kernels get addresses and strides, not arrays: one compilation serves every layout, contiguous or
    not, writable or not, and `p[i]` is a load without a look whether i is negative.
    """
    result = cast(Any, types).CPointer(like)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return result(address, like), generate


pointer: Any = intrinsic(_pointer)


def address(x: Array) -> int:
    """Where the first element of an array is; the array must outlive its use."""
    return cast(int, x.__array_interface__["data"][0])


# -- threads ---------------------------------------------------------------------------------------


def _default_threads() -> int:
    count = os.environ.get("MINIGRAD_NUM_THREADS", "")
    if count.isdecimal() and int(count) > 0:
        return int(count)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_threads = _default_threads()
_pool: ThreadPoolExecutor | None = None


def set_num_threads(count: int) -> None:
    """How many threads a kernel may use.  The results do not depend on it."""
    global _threads, _pool
    if _pool is not None and count > _threads:
        _pool.shutdown(wait=False)
        _pool = None
    _threads = count


def num_threads() -> int:
    """How many threads a kernel may use."""
    return _threads


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def split(run: Callable[[int, int], Any], units: int, work: float, step: int = 1) -> None:
    """run(start, stop) over 0 .. units, on several threads if the work, in nanoseconds, is worth it.

    Pieces begin at multiples of `step`.  What a unit computes must not depend on its piece.
    """
    global _pool
    steps = -(-units // step)
    threads = min(_threads, steps) if work >= SERIAL else 1
    if threads <= 1:
        if units:
            run(0, units)
        return
    pieces = min(steps, 8 * threads)
    claims = itertools.count()  # next() is one step under the interpreter lock

    def labour() -> None:
        for piece in claims:
            if piece >= pieces:
                return
            start, stop = steps * piece // pieces * step, steps * (piece + 1) // pieces * step
            run(start, min(stop, units))

    if _pool is None:
        _pool = ThreadPoolExecutor(max(_threads - 1, 1), "minigrad")
    helpers = [_pool.submit(labour) for _ in range(threads - 1)]
    try:
        labour()
    finally:
        for helper in helpers:
            if not helper.cancel():  # it has begun, so it has claimed
                helper.result()


# -- elementwise: the vocabulary -------------------------------------------------------------------


@jit
def maximum(x: Any, y: Any) -> Any:
    """The larger one, NaN if either is."""
    return x if x > y or x != x else y


@jit
def minimum(x: Any, y: Any) -> Any:
    """The smaller one, NaN if either is."""
    return x if x < y or x != x else y


@jit
def sign(x: Any, one: Any) -> Any:
    """-1, 0, 1 or NaN; `one` has the type of x."""
    return one if x > 0 else -one if x < 0 else x


@jit
def where(condition: Any, x: Any, y: Any) -> Any:
    """One or the other."""
    return x if condition else y


@jit
def logical_and(x: Any, y: Any) -> Any:
    """Whether both are nonzero."""
    return (x != 0) & (y != 0)


@jit
def logical_or(x: Any, y: Any) -> Any:
    """Whether one is nonzero."""
    return (x != 0) | (y != 0)


@jit
def logical_not(x: Any) -> Any:
    """Whether it is zero."""
    return x == 0


@jit
def isnan(x: Any) -> Any:
    """Whether it is NaN."""
    return x != x


@jit
def isfinite(x: Any) -> Any:
    """Whether it is neither NaN nor Inf."""
    return x - x == 0


@jit
def square(x: Any) -> Any:
    """x times x."""
    return x * x


@jit
def power(x: Any, y: Any) -> Any:
    """x to the power of y, in their type."""
    return x**y


# libm's functions take one number at a time, so a loop that calls them stays scalar.  These are
# polynomials without branches, which LLVM turns into vectors, within 2 ulp: exp and tanh with the
# coefficients of Moshier's Cephes library (1989), erf with our own.  The rest is libm's.


def _from_bits(typing: Any, bits: Any) -> Any:
    result = types.float32 if bits == types.int32 else types.float64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return result(bits), generate


#: The float with these bits: of an int32 a float32, of an int64 a float64.
from_bits: Any = intrinsic(_from_bits)


def _exp32(x: Any) -> Any:
    f = np.float32
    x = minimum(maximum(x, f(-105.0)), f(90.0))
    k = (x * f(1.44269504) + f(12582912.0)) - f(12582912.0)  # to an integer, by pushing the fraction out
    r = (x - k * f(0.693359375)) + k * f(2.12194440e-4)  # log 2, in two pieces
    p = f(1.9875691500e-4) * r + f(1.3981999507e-3)
    p = ((p * r + f(8.3334519073e-3)) * r + f(4.1665795894e-2)) * r + f(1.6666665459e-1)
    y = (p * r + f(5.0000001201e-1)) * (r * r) + r + f(1.0)
    n: Any = np.int32(k)
    half: Any = np.int32(n >> 1)  # two powers of two of half the size: neither overflows
    return y * from_bits(np.int32((half + 127) << 23)) * from_bits(np.int32((n - half + 127) << 23))


def _exp64(x: Any) -> Any:
    x = minimum(maximum(x, -746.0), 710.0)
    k = (x * 1.4426950408889634073599 + 6755399441055744.0) - 6755399441055744.0
    r = (x - k * 6.93145751953125e-1) - k * 1.42860682030941723212e-6
    z = r * r
    p = r * ((1.26177193074810590878e-4 * z + 3.02994407707441961300e-2) * z + 9.99999999999999999910e-1)
    q = (3.00198505138664455042e-6 * z + 2.52448340349684104192e-3) * z + 2.27265548208155028766e-1
    y = 1.0 + 2.0 * p / (q * z + 2.0 - p)
    n: Any = np.int64(k)
    half = n >> 1
    return y * from_bits((half + 1023) << 52) * from_bits((n - half + 1023) << 52)


def exp(x: Any) -> Any:
    """e to the power of x."""
    return math.exp(x)


@overload(exp)
def _exp_of(x: Any) -> Any:
    return _exp32 if x == types.float32 else _exp64


def _tanh32(x: Any) -> Any:
    f = np.float32
    z = x * x
    p = (f(-5.70498872745e-3) * z + f(2.06390887954e-2)) * z - f(5.37397155531e-2)
    small = ((p * z + f(1.33314422036e-1)) * z - f(3.33332819422e-1)) * z * x + x
    large = f(1.0) - f(2.0) / (exp(f(2.0) * abs(x)) + f(1.0))
    return where(abs(x) < f(0.625), small, where(x > f(0.0), large, -large))


def _tanh64(x: Any) -> Any:
    z = x * x
    p = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z - 1.61468768441708447952e3
    q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z + 4.84406305325125486048e3
    small = x + x * z * (p / q)
    large = 1.0 - 2.0 / (exp(2.0 * abs(x)) + 1.0)
    return where(abs(x) < 0.625, small, where(x > 0.0, large, -large))


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return math.tanh(x)


@overload(tanh)
def _tanh_of(x: Any) -> Any:
    return _tanh32 if x == types.float32 else _tanh64


def _erf32(x: Any) -> Any:
    """x P(x^2) up to 1, then 1 - exp(-Q(x)): least squares over Chebyshev points, 1.5 ulp."""
    f = np.float32
    z, s = x * x, minimum(abs(x), f(4.0))
    p = (f(7.8824974e-05) * z - f(0.00080188555)) * z + f(0.0051893122)
    p = ((p * z - f(0.026854329)) * z + f(0.112835974)) * z - f(0.37612626)
    small = (p * z + f(1.1283791)) * x
    q = ((f(1.3309391e-05) * s - f(0.00031757203)) * s + f(0.0034368676)) * s - f(0.022621986)
    q = (((q * s + f(0.10331898)) * s + f(0.63909334)) * s + f(1.1259259)) * s + f(0.00075696863)
    large = f(1.0) - exp(-q)
    return where(abs(x) < f(1.0), small, where(x > f(0.0), large, -large))


def _erf64(x: Any) -> Any:
    return math.erf(x)


def erf(x: Any) -> Any:
    """The error function."""
    return math.erf(x)


@overload(erf)
def _erf_of(x: Any) -> Any:
    return _erf32 if x == types.float32 else _erf64


#: What the names of the vocabulary mean in compiled code.
_MEANING: dict[str, Any] = {
    "abs": abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "rint": np.rint,
    "trunc": np.trunc,
    "pow": power,
    "exp": exp,
    "tanh": tanh,
    "erf": erf,
    **{name: getattr(math, name) for name in ("cos", "expm1", "log", "log1p", "sin", "sqrt")},
    **{
        f.__name__: f
        for f in (
            maximum,
            minimum,
            sign,
            where,
            logical_and,
            logical_or,
            logical_not,
            isnan,
            isfinite,
            square,
        )
    },
}
assert set(_MEANING) == set(VOCABULARY), "the vocabulary of formulas has changed"


# -- elementwise: the loop around a formula --------------------------------------------------------


@jit
def spread(tile: Any, x: Any, stride: int, n: int) -> None:
    """tile[i] = x[i * stride]."""
    if stride == 0:
        value = x[0]
        for i in range(n):
            tile[i] = value
    else:
        for i in range(n):
            tile[i] = x[i * stride]


class _Typed(ast.NodeTransformer):
    """A formula with its constants in one dtype and its names marked, so that they clash with nothing."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.parse(f"T({node.value!r})", mode="eval").body

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(f"e_{node.id}")

    def visit_Call(self, node: ast.Call) -> ast.expr:
        node.args = [self.visit(a) for a in node.args]
        if cast(ast.Name, node.func).id == "sign":
            node.args.append(ast.Name("one"))
        return node


def _is_bool(node: ast.expr) -> bool:
    """Whether a formula gives truth values."""
    match node:
        case ast.Compare():
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in ("isnan", "isfinite") or name.startswith("logical_")
    return False


def kernel_source(
    name: str, formula: Formula, inputs: tuple[str, ...], attrs: tuple[str, ...], bools: tuple[bool, ...]
) -> str:
    """The Python source of the loop over elements start .. stop of the output.

    The output is contiguous; an input has an address and four strides, the output's shape is
    (.., d1, d2, d3).  `bools` says which inputs are truth values, which are stored as bytes.
    """
    parameters = ["y"]
    for x in inputs:
        parameters += [f"a_{x}", *(f"s{d}_{x}" for d in range(4))]
    parameters += [*(f"f_{a}" for a in attrs), "d1", "d2", "d3", "start", "stop", "tiles"]
    lines = [f"def {name}({', '.join(parameters)}):"]
    lines += [f"    e_{a} = T(f_{a})" for a in attrs]
    lines += ["    one = T(1)", "    p = start", "    while p < stop:"]
    lines += [
        "        q, i3 = p // d3, p % d3",
        "        r, i2 = q // d2, q % d2",
        "        i0, i1 = r // d1, r % d1",
    ]
    lines += ["        n = min(TILE, d3 - i3, stop - p)"]
    for i, (x, boolean) in enumerate(zip(inputs, bools, strict=True)):
        like, size = ("BYTE", 1) if boolean else ("ZERO", "SIZE")
        lines += [
            f"        o = i0 * s0_{x} + i1 * s1_{x} + i2 * s2_{x} + i3 * s3_{x}",
            f"        v_{x} = pointer(a_{x} + o * {size}, {like})",
            f"        if s3_{x} != 1:",
            f"            tile = pointer(tiles + {i} * TILE * 8, {like})",
            f"            spread(tile, v_{x}, s3_{x}, n)",
            f"            v_{x} = tile",
        ]
    out = "BYTE" if _is_bool(formula.tree) else "ZERO"
    lines += [
        f"        v = pointer(y + p * {'1' if out == 'BYTE' else 'SIZE'}, {out})",
        "        for i in range(n):",
    ]
    lines += [
        f"            e_{x} = v_{x}[i]" + (" != 0" if b else "") for x, b in zip(inputs, bools, strict=True)
    ]
    text = ast.unparse(ast.fix_missing_locations(_Typed().visit(ast.parse(formula.text, mode="eval"))))
    lines += [f"            v[i] = {'np.uint8' if out == 'BYTE' else 'T'}({text})", "        p += n"]
    return "\n".join(lines) + "\n"


class Elementwise:
    """A formula as a kernel: `Elementwise(Formula("x * w + b"), ("x", "w", "b"))(x, w, b)`.

    One loop is compiled for each combination of dtypes, when it is first met.  Arrays must be
    float32 or float64, all the same, or bool; anything else, and anything small, goes to `fallback`.
    """

    def __init__(
        self,
        formula: Formula,
        inputs: tuple[str, ...] | None = None,
        attrs: tuple[str, ...] = (),
        fallback: Kernel | None = None,
    ) -> None:
        self.formula = formula
        self.inputs = formula.names if inputs is None else inputs
        self.attrs = attrs
        self.fallback = fallback or formula.numpy((*self.inputs, *attrs))
        self.bool = _is_bool(formula.tree)
        self.loops: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def compiled(self, dtypes: tuple[Any, ...]) -> tuple[Any, Any]:
        """The loop for arrays of these dtypes and the dtype it writes; (None, None) for other dtypes."""
        floats = {d for d in dtypes if d.kind != "b"}
        if len(floats) != 1 or not floats <= {_F32, _F64}:
            return None, None
        dtype = floats.pop()
        bools = tuple(d.kind == "b" for d in dtypes)
        # The cache on disk goes by file and name: the name says all that the loop depends on.
        text = f"{self.formula.text} {self.inputs} {self.attrs} {dtypes}"
        name = f"loop_{hashlib.sha1(text.encode()).hexdigest()[:16]}"
        source = kernel_source(name, self.formula, self.inputs, self.attrs, bools)
        namespace = {
            **_MEANING,
            "np": np,
            "pointer": pointer,
            "spread": spread,
            "T": dtype.type,
            "ZERO": dtype.type(0),
            "BYTE": np.uint8(0),
            "SIZE": dtype.itemsize,
            "TILE": TILE,
            "__name__": __name__,
        }
        exec(compile(source, __file__, "exec"), namespace)  # a checked formula, and the lines above
        return jit(namespace[name]), np.dtype(np.bool_) if self.bool else dtype

    def __call__(self, *args: Any) -> Array:
        count = len(self.inputs)
        arrays = args[:count]
        shape = arrays[0].shape
        for x in arrays:
            if x.shape != shape:
                shape = np.broadcast_shapes(*(x.shape for x in arrays))
                break
        size = math.prod(shape)
        if size < SMALL["elementwise"] or not size:
            return self.fallback(*args)
        dtypes = tuple(x.dtype for x in arrays)
        found = self.loops.get(dtypes)
        if found is None:
            found = self.loops[dtypes] = self.compiled(dtypes)
        loop, dtype = found
        if loop is None:
            return self.fallback(*args)
        arrays, dims, strides = collapse(tuple(map(np.asarray, arrays)), shape)
        y = np.empty(shape, dtype)
        operands: list[int] = []
        for x, stride in zip(arrays, strides, strict=True):
            operands += (address(x), *stride)
        here, attrs = address(y), args[count:]

        def run(start: int, stop: int) -> None:
            tiles = np.empty(count * TILE)
            loop(here, *operands, *map(float, attrs), *dims, start, stop, address(tiles))

        split(run, size, size * 2.0, TILE)
        return y


def collapse(
    arrays: tuple[Array, ...], shape: tuple[int, ...]
) -> tuple[tuple[Array, ...], tuple[int, int, int], list[tuple[int, ...]]]:
    """The arrays, the last three of four sizes, and four strides (in elements) each.

    Neighbouring dimensions that all arrays walk through evenly become one.  Arrays that are still
    more than four-dimensional, run backwards or have short rows are laid out anew.
    """
    size = math.prod(shape)
    if all(x.size == 1 or (x.shape == shape and x.flags.c_contiguous) for x in arrays):
        return arrays, (1, 1, size), [(0, 0, 0, 0 if x.size == 1 and size > 1 else 1) for x in arrays]
    arrays = tuple(
        np.ascontiguousarray(x) if any(s < 0 or s % x.itemsize for s in x.strides) else x for x in arrays
    )
    steps = []
    for x in arrays:
        s = [0 if n == 1 else b // x.itemsize for n, b in zip(x.shape, x.strides, strict=True)]
        steps.append([0] * (len(shape) - len(s)) + s)
    sizes: list[int] = []
    walks: list[list[int]] = []  # a dimension's stride in each array
    for d, n in enumerate(shape):
        walk = [s[d] for s in steps]
        if n == 1:
            continue
        if sizes and walks[-1] == [w * n for w in walk]:
            sizes[-1] *= n
            walks[-1] = walk
        else:
            sizes.append(n)
            walks.append(walk)
    if len(sizes) > 4 or (sizes and sizes[-1] < 16):
        full = tuple(np.ascontiguousarray(np.broadcast_to(x, shape)) for x in arrays)
        return full, (1, 1, size), [(0, 0, 0, 1)] * len(arrays)
    missing = 4 - len(sizes)
    sizes = [1] * missing + sizes
    walks = [[0] * len(arrays)] * missing + walks
    return arrays, (sizes[1], sizes[2], sizes[3]), [tuple(w[i] for w in walks) for i in range(len(arrays))]


# -- contractions: the inner loop ------------------------------------------------------------------


@jit
def _wide(n: int) -> int:
    """n, rounded up to whole vectors: a packed block is filled up with zeros."""
    return (n + 15) // 16 * 16


@fused
def _rows4(
    t: Any, a: Any, r0: int, r1: int, r2: int, r3: int, column: Any, k0: int, k1: int, b: Any, n: int
) -> None:
    """t[i, :n] += sum over k of a[r_i + column[k]] * b[k - k0, :n], for four rows i.

    Each sum is taken over k from left to right.  For one load and one store of a sum there are four
    multiply-adds, and each of four elements of b serves four rows.
    """
    k = k0
    while k + 4 <= k1:
        c0, c1, c2, c3 = column[k], column[k + 1], column[k + 2], column[k + 3]
        a00, a01, a02, a03 = a[r0 + c0], a[r0 + c1], a[r0 + c2], a[r0 + c3]
        a10, a11, a12, a13 = a[r1 + c0], a[r1 + c1], a[r1 + c2], a[r1 + c3]
        a20, a21, a22, a23 = a[r2 + c0], a[r2 + c1], a[r2 + c2], a[r2 + c3]
        a30, a31, a32, a33 = a[r3 + c0], a[r3 + c1], a[r3 + c2], a[r3 + c3]
        p = (k - k0) * NC
        for j in range(n):
            b0, b1, b2, b3 = b[p + j], b[p + NC + j], b[p + 2 * NC + j], b[p + 3 * NC + j]
            t[j] = t[j] + a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
            t[NC + j] = t[NC + j] + a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
            t[2 * NC + j] = t[2 * NC + j] + a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
            t[3 * NC + j] = t[3 * NC + j] + a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3
        k += 4
    while k < k1:
        c0, p = column[k], (k - k0) * NC
        a00, a10, a20, a30 = a[r0 + c0], a[r1 + c0], a[r2 + c0], a[r3 + c0]
        for j in range(n):
            b0 = b[p + j]
            t[j] = t[j] + a00 * b0
            t[NC + j] = t[NC + j] + a10 * b0
            t[2 * NC + j] = t[2 * NC + j] + a20 * b0
            t[3 * NC + j] = t[3 * NC + j] + a30 * b0
        k += 1


@fused
def _rows1(t: Any, a: Any, r0: int, column: Any, k0: int, k1: int, b: Any, n: int) -> None:
    """`_rows4` for one row."""
    k = k0
    while k + 4 <= k1:
        a0, a1 = a[r0 + column[k]], a[r0 + column[k + 1]]
        a2, a3 = a[r0 + column[k + 2]], a[r0 + column[k + 3]]
        p = (k - k0) * NC
        for j in range(n):
            t[j] = t[j] + a0 * b[p + j] + a1 * b[p + NC + j] + a2 * b[p + 2 * NC + j] + a3 * b[p + 3 * NC + j]
        k += 4
    while k < k1:
        a0, p = a[r0 + column[k]], (k - k0) * NC
        for j in range(n):
            t[j] = t[j] + a0 * b[p + j]
        k += 1


@fused
def _rows(
    t: Any, a: Any, row: Any, i: int, count: int, column: Any, k0: int, k1: int, b: Any, n: int
) -> None:
    """`_rows4` for one to four rows i, i + 1, ..., whose offsets are in `row`."""
    if count == 4:
        _rows4(t, a, row[i], row[i + 1], row[i + 2], row[i + 3], column, k0, k1, b, n)
    elif count == 3:  # the third row twice
        _rows4(t, a, row[i], row[i + 1], row[i + 2], row[i + 2], column, k0, k1, b, n)
    else:
        for r in range(count):
            _rows1(pointer_at(t, r * NC), a, row[i + r], column, k0, k1, b, n)


def _pointer_at(typing: Any, base: Any, offset: Any) -> Any:
    """The address of base[offset]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return base(base, offset), generate


pointer_at: Any = intrinsic(_pointer_at)


@fused
def _block(
    c: Any,
    stride: int,
    t: Any,
    a: Any,
    row: Any,
    i0: int,
    i1: int,
    column: Any,
    k0: int,
    k1: int,
    b: Any,
    n: int,
    fresh: bool,
) -> None:
    """c[i, :n] += a[i, k0:k1] b for rows i0 .. i1, whose rows in c are `stride` apart; = if fresh."""
    for i in range(i0, i1, 4):
        count = min(4, i1 - i)
        for r in range(count):
            line = pointer_at(c, (i + r) * stride)
            if fresh:
                for j in range(n):
                    t[r * NC + j] = 0
            else:
                for j in range(n):
                    t[r * NC + j] = line[j]
        _rows(t, a, row, i, count, column, k0, k1, b, _wide(n))
        for r in range(count):
            line = pointer_at(c, (i + r) * stride)
            for j in range(n):
                line[j] = t[r * NC + j]


@jit
def _pack(p: Any, b: Any, down: int, right: int, rows: int, n: int) -> None:
    """p[k, j] = b[k * down + j * right], p being NC wide."""
    if right == 1:
        for k in range(rows):
            for j in range(n):
                p[k * NC + j] = b[k * down + j]
    else:
        for first in range(0, rows, 16):
            last = min(first + 16, rows)
            for j in range(n):
                for k in range(first, last):
                    p[k * NC + j] = b[k * down + j * right]
    for k in range(rows):
        for j in range(n, _wide(n)):
            p[k * NC + j] = 0


_kept = threading.local()


def _scratch(dtype: Any) -> Array:
    """This thread's room for a tile of four rows, zero at first, and a packed block; kept for the next call.

    It begins with a cache line: vectors as long as one would otherwise each touch two of them, at half
    the speed.  Taken anew, its half a megabyte would be given back to the system after every call of a
    helper thread, and its pages cleared at the next: a third of a product of 256 on two threads.
    """
    name = dtype.char
    if not hasattr(_kept, name):
        size, line = (4 + KC) * NC * dtype.itemsize, 64
        room = np.empty(size + line, np.uint8)
        start = -address(room) % line
        setattr(_kept, name, room[start : start + size].view(dtype))
    scratch = getattr(_kept, name)
    scratch[: 4 * NC] = 0
    return scratch


# -- matrix products -------------------------------------------------------------------------------


@fused
def _matmul(
    start: int, stop: int, y: int, a: int, b: int, of_a: Any, of_b: Any, row: Any, column: Any,
    m: int, n: int, k: int, down: int, right: int, scratch: int, like: Any,
) -> None:  # fmt: skip
    """Units are (matrix of the batch, MC rows, NC columns)."""
    t, packed = pointer(scratch, like), pointer_at(pointer(scratch, like), 4 * NC)
    highs, wides = (m + MC - 1) // MC, (n + NC - 1) // NC
    for unit in range(start, stop):
        batch, place = unit // (highs * wides), unit % (highs * wides)
        i0, j0 = place // wides * MC, place % wides * NC
        i1, width = min(i0 + MC, m), min(NC, n - j0)
        left = pointer_at(pointer(a, like), of_a[batch])
        other = pointer_at(pointer(b, like), of_b[batch] + j0 * right)
        result = pointer_at(pointer(y, like), batch * m * n + j0)
        for k0 in range(0, k, KC):
            k1 = min(k0 + KC, k)
            _pack(packed, pointer_at(other, k0 * down), down, right, k1 - k0, width)
            _block(result, n, t, left, row, i0, i1, column, k0, k1, packed, width, k0 == 0)


def _plain(x: Array) -> Array:
    """The array itself, or a copy if it runs backwards or its strides are no multiples of elements."""
    return np.ascontiguousarray(x) if any(s < 0 or s % x.itemsize for s in x.strides) else x


def _offsets(x: Array, batch: tuple[int, ...]) -> Array:
    """Where each matrix of a batch, to which x is broadcast, begins."""
    x = x[..., 0, 0]
    total = np.zeros(batch, np.int64)
    for d, (n, stride) in enumerate(zip(x.shape, x.strides, strict=True), len(batch) - x.ndim):
        if n > 1:
            along = np.arange(n, dtype=np.int64) * (stride // x.itemsize)
            total += along.reshape((n, *(1,) * (len(batch) - d - 1)))
    return total.reshape(-1)


def matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """np.matmul of a or its transpose and b or its transpose, in float32 and float64; else numpy's."""
    if transpose_a:
        a = a.swapaxes(-1, -2)
    if transpose_b:
        b = b.swapaxes(-1, -2)
    dtype = a.dtype
    if dtype.char not in "fd" or b.dtype != dtype or a.ndim < 2 or b.ndim < 2:
        return np.matmul(a, b)
    m, k = a.shape[-2:]
    n = b.shape[-1]
    if m < 4 or n < 8 or b.shape[-2] != k:
        return np.matmul(a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    count = math.prod(batch)
    if m * n * k * count < max(SMALL["contraction"], 1):
        return np.matmul(a, b)
    a, b = _plain(a), _plain(b)
    down, right = (s // b.itemsize for s in b.strides[-2:])
    row, column = (
        np.arange(s, dtype=np.int64) * (t // a.itemsize) for s, t in zip((m, k), a.strides[-2:], strict=True)
    )
    y = np.empty((*batch, m, n), dtype)
    of_a, of_b = _offsets(a, batch), _offsets(b, batch)
    like = dtype.type(0)

    def run(start: int, stop: int) -> None:
        scratch = _scratch(dtype)
        _matmul(
            start, stop, address(y), address(a), address(b), of_a, of_b, row, column,
            m, n, k, down, right, address(scratch), like,
        )  # fmt: skip

    split(run, count * -(-m // MC) * -(-n // NC), m * n * k * count / 40)
    return y


# -- convolution -----------------------------------------------------------------------------------

Pair = tuple[int, int]
Borders = tuple[int, int, int, int]


@jit
def _copy(target: Any, source: Any, n: int) -> None:
    """target[:n] = source[:n], eight at a time: rows of images are short."""
    full = n // 8 * 8
    for e in range(0, full, 8):
        v0, v1, v2, v3 = source[e], source[e + 1], source[e + 2], source[e + 3]
        v4, v5, v6, v7 = source[e + 4], source[e + 5], source[e + 6], source[e + 7]
        target[e], target[e + 1], target[e + 2], target[e + 3] = v0, v1, v2, v3
        target[e + 4], target[e + 5], target[e + 6], target[e + 7] = v4, v5, v6, v7
    for e in range(full, n):
        target[e] = source[e]


@jit
def _pack_image(
    p: Any, x: Any, column: Any, k0: int, k1: int, j0: int, n: int, ow: int, down: int, right: int
) -> None:
    """p[k, j] = the element of patch j0 + j at offset column[k0 + k], patches going along rows of ow."""
    for k in range(k0, k1):
        line = pointer_at(p, (k - k0) * NC)
        i, q, j = j0 // ow, j0 % ow, 0
        while j < n:
            run = min(ow - q, n - j)
            at = pointer_at(x, column[k] + i * down + q * right)
            if right == 1:
                _copy(pointer_at(line, j), at, run)
            else:
                for e in range(run):
                    line[j + e] = at[e * right]
            i, q, j = i + 1, 0, j + run
        for j in range(n, _wide(n)):
            line[j] = 0


@fused
def _conv(
    start: int, stop: int, y: int, x: int, w: int, row: Any, flat: Any, column: Any, groups: int,
    image: int, group: int, ow: int, places: int, down: int, right: int, scratch: int, like: Any,
) -> None:  # fmt: skip
    """Units are (image, group, MC output channels, NC places)."""
    t, packed = pointer(scratch, like), pointer_at(pointer(scratch, like), 4 * NC)
    out, depth = len(row), len(column)
    highs, wides = (out + MC - 1) // MC, (places + NC - 1) // NC
    for unit in range(start, stop):
        whole, place = unit // (highs * wides), unit % (highs * wides)
        i0, j0 = place // wides * MC, place % wides * NC
        i1, n = min(i0 + MC, out), min(NC, places - j0)
        source = pointer_at(pointer(x, like), whole // groups * image + whole % groups * group)
        weights = pointer_at(pointer(w, like), whole % groups * out * depth)
        result = pointer_at(pointer(y, like), whole * out * places + j0)
        for k0 in range(0, depth, KC):
            k1 = min(k0 + KC, depth)
            _pack_image(packed, source, column, k0, k1, j0, n, ow, down, right)
            _block(result, places, t, weights, row, i0, i1, flat, k0, k1, packed, n, k0 == 0)


@fused
def _conv_weight_grad(
    start: int, stop: int, y: int, x: int, g: int, row: Any, column: Any, groups: int, images: int,
    image: int, group: int, out: int, scratch: int, like: Any,
) -> None:  # fmt: skip
    """y[group, (c, u, v), o] += patches times g; units are (group, MC rows of y, NC output channels)."""
    t, packed = pointer(scratch, like), pointer_at(pointer(scratch, like), 4 * NC)
    depth, places = len(row), len(column)
    highs, wides = (depth + MC - 1) // MC, (out + NC - 1) // NC
    for unit in range(start, stop):
        part, place = unit // (highs * wides), unit % (highs * wides)
        i0, j0 = place // wides * MC, place % wides * NC
        i1, n = min(i0 + MC, depth), min(NC, out - j0)
        result = pointer_at(pointer(y, like), part * depth * out + j0)
        for number in range(images):
            source = pointer_at(pointer(x, like), number * image + part * group)
            other = pointer_at(pointer(g, like), number * places * groups * out + part * out + j0)
            for k0 in range(0, places, KC):
                k1 = min(k0 + KC, places)
                _pack(packed, pointer_at(other, k0 * groups * out), groups * out, 1, k1 - k0, n)
                fresh = number == 0 and k0 == 0
                _block(result, out, t, source, row, i0, i1, column, k0, k1, packed, n, fresh)


@fused
def _conv_paint(
    start: int, stop: int, x: int, g: int, w: int, row: Any, target: Any, column: Any, groups: int,
    channels: int, window: int, image: int, ow: int, places: int, down: int, right: int,
    scratch: int, like: Any,
) -> None:  # fmt: skip
    """x[c, .. + u, .. + v] += sum over o of w[o, c, u, v] g[o]; units are (image, group, channel)."""
    t, packed = pointer(scratch, like), pointer_at(pointer(scratch, like), 4 * NC)
    out = len(column)
    for unit in range(start, stop):
        whole, channel = unit // channels, unit % channels
        source = pointer_at(pointer(g, like), whole * out * places)
        weights = pointer_at(pointer(w, like), whole % groups * out * channels * window)
        result = pointer_at(pointer(x, like), unit * image)
        for j0 in range(0, places, NC):
            n = min(NC, places - j0)
            for k0 in range(0, out, KC):
                k1 = min(k0 + KC, out)
                _pack(packed, pointer_at(source, k0 * places + j0), places, 1, k1 - k0, n)
                for first in range(0, window, 4):
                    count = min(4, window - first)
                    for j in range(4 * NC):
                        t[j] = 0
                    _rows(t, weights, row, channel * window + first, count, column, k0, k1, packed, _wide(n))
                    for r in range(count):
                        i, q, j = j0 // ow, j0 % ow, 0
                        while j < n:
                            run = min(ow - q, n - j)
                            line = pointer_at(result, target[first + r] + i * down + q * right)
                            values = pointer_at(t, r * NC + j)
                            for e in range(run):
                                line[e * right] += values[e]
                            i, q, j = i + 1, 0, j + run


def _padded(x: Array, padding: Borders) -> Array:
    """Images with zeros around them, contiguous."""
    if not any(padding):
        return np.ascontiguousarray(x)
    top, bottom, left, right = padding
    n, c, h, w = x.shape
    y = np.zeros((n, c, h + top + bottom, w + left + right), x.dtype)
    y[:, :, top : top + h, left : left + w] = x
    return y


def _patch(channels: int, kernel: Pair, dilation: Pair, height: int, width: int) -> Array:
    """Where the elements (c, u, v) of a patch lie, relative to its corner."""
    c = np.arange(channels, dtype=np.int64)[:, None, None] * (height * width)
    u = np.arange(kernel[0], dtype=np.int64)[:, None] * (dilation[0] * width)
    return (c + u + np.arange(kernel[1], dtype=np.int64) * dilation[1]).reshape(-1)


def _corners(out: Pair, stride: Pair, width: int) -> Array:
    """Where the patches of an image begin."""
    rows = np.arange(out[0], dtype=np.int64)[:, None] * (stride[0] * width)
    return (rows + np.arange(out[1], dtype=np.int64) * stride[1]).reshape(-1)


def _convolvable(x: Array, w: Array, work: int) -> bool:
    return x.dtype.char in "fd" and w.dtype == x.dtype and work >= max(SMALL["contraction"], 1)


def make_conv2d(op: Op) -> Kernel:
    """conv2d: weights times packed patches."""

    def kernel(x: Array, w: Array, stride: Pair, padding: Borders, dilation: Pair, groups: int) -> Array:
        shape, dtype = op.infer((x, w), (stride, padding, dilation, groups))
        n, o, oh, ow = shape
        depth = math.prod(w.shape[1:])
        work = math.prod(shape) * depth
        if not _convolvable(x, w, work):
            return op.kernel(x, w, stride, padding, dilation, groups)
        x, w = _padded(x, padding), np.ascontiguousarray(w)
        c, height, width = x.shape[1:]
        column = _patch(w.shape[1], w.shape[2:], dilation, height, width)
        row, flat = np.arange(o // groups, dtype=np.int64) * depth, np.arange(depth, dtype=np.int64)
        y, like = np.empty(shape, dtype), dtype.type(0)
        plane = height * width

        def run(start: int, stop: int) -> None:
            scratch = _scratch(dtype)
            _conv(
                start, stop, address(y), address(x), address(w), row, flat, column, groups,
                c * plane, w.shape[1] * plane, ow, oh * ow, stride[0] * width, stride[1],
                address(scratch), like,
            )  # fmt: skip

        split(run, n * groups * -(-(o // groups) // MC) * -(-oh * ow // NC), work / 30)
        return y

    return kernel


def make_conv2d_input_grad(op: Op, conv2d: Kernel) -> Kernel:
    """Its transpose in x: for stride 1 a convolution with the kernel turned round, else painting."""

    def kernel(
        g: Array, w: Array, size: Pair, stride: Pair, padding: Borders, dilation: Pair, groups: int
    ) -> Array:
        shape, dtype = op.infer((g, w), (size, stride, padding, dilation, groups))
        n, c = shape[:2]
        o, each, kh, kw = w.shape
        work = math.prod(g.shape) * math.prod(w.shape[1:])
        if not _convolvable(g, w, work):
            return op.kernel(g, w, size, stride, padding, dilation, groups)
        down, across = dilation[0] * (kh - 1), dilation[1] * (kw - 1)
        top, bottom, left, right = padding
        turned = (down - top, down - bottom, across - left, across - right)
        if stride == (1, 1) and min(turned) >= 0:
            w = w.reshape(groups, o // groups, each, kh, kw)[..., ::-1, ::-1].swapaxes(1, 2)
            return conv2d(g, w.reshape(c, o // groups, kh, kw), stride, turned, dilation, groups)
        g, w = np.ascontiguousarray(g), np.ascontiguousarray(w)
        oh, ow = g.shape[2:]
        x = np.zeros((n, c, size[0] + top + bottom, size[1] + left + right), dtype)
        height, width = x.shape[2:]
        window = kh * kw
        row = np.arange(each * window, dtype=np.int64)
        column = np.arange(o // groups, dtype=np.int64) * (each * window)
        target, like = _patch(1, (kh, kw), dilation, height, width), dtype.type(0)

        def run(start: int, stop: int) -> None:
            scratch = _scratch(dtype)
            _conv_paint(
                start, stop, address(x), address(g), address(w), row, target, column, groups, each,
                window, height * width, ow, oh * ow, stride[0] * width, stride[1], address(scratch), like,
            )  # fmt: skip

        split(run, n * c, work / 20)
        return x[:, :, top : top + size[0], left : left + size[1]]

    return kernel


def make_conv2d_weight_grad(op: Op) -> Kernel:
    """Its transpose in w: patches, read in place, times g with its channels last."""

    def kernel(
        x: Array, g: Array, window: Pair, stride: Pair, padding: Borders, dilation: Pair, groups: int
    ) -> Array:
        shape, dtype = op.infer((x, g), (window, stride, padding, dilation, groups))
        n, o, oh, ow = g.shape
        out, depth = o // groups, math.prod(shape[1:])
        work = math.prod(g.shape) * depth
        if out < 8 or not _convolvable(x, g, work):  # a row of less than a vector is numpy's
            return op.kernel(x, g, window, stride, padding, dilation, groups)
        x = _padded(x, padding)
        c, height, width = x.shape[1:]
        plane = height * width
        g = np.ascontiguousarray(g.transpose(0, 2, 3, 1))
        row, column = _patch(shape[1], window, dilation, height, width), _corners((oh, ow), stride, width)
        y, like = np.empty((groups, depth, out), dtype), dtype.type(0)

        def run(start: int, stop: int) -> None:
            scratch = _scratch(dtype)
            _conv_weight_grad(
                start, stop, address(y), address(x), address(g), row, column, groups, n,
                c * plane, shape[1] * plane, out, address(scratch), like,
            )  # fmt: skip

        split(run, groups * -(-depth // MC) * -(-out // NC), work / 20)
        return np.ascontiguousarray(y.swapaxes(1, 2)).reshape(shape)

    return kernel


# -- reductions ------------------------------------------------------------------------------------
#
# An array that is reduced is seen as (k0, r0, k1, r1): over r0 and r1 it is reduced, k0 and k1 stay.
# Sums are taken in float64, 64 of them side by side over a row; those of float64 are added up in
# blocks, and the sums of blocks with the rounding errors carried along (Neumaier 1974).

LANES = 64
ROW = 4096  # elements that the lanes add up before they are emptied
PART = 1 << 16  # elements of a part, where a single number is computed by several threads


@jit
def _add(total: float, error: float, value: float) -> tuple[float, float]:
    """total + value, and what rounding has lost so far."""
    s = total + value
    if s - s != 0:  # Inf or NaN: there is no error to speak of
        return s, 0.0
    if abs(total) >= abs(value):
        return s, error + ((total - s) + value)
    return s, error + ((value - s) + total)


@jit
def _sum_row(x: Any, n: int, shift: float, squares: bool, t: Any) -> float:
    """The sum of x[i] - shift, or of its square, over a contiguous row."""
    total, error = 0.0, 0.0
    for first in range(0, n, ROW):
        count = min(ROW, n - first)
        full = count // LANES * LANES
        row = pointer_at(x, first)
        for j in range(LANES):
            t[j] = 0.0
        if squares:
            for i in range(0, full, LANES):
                for j in range(LANES):
                    d = float(row[i + j]) - shift
                    t[j] += d * d
            for i in range(full, count):
                d = float(row[i]) - shift
                t[i - full] += d * d
        else:
            for i in range(0, full, LANES):
                for j in range(LANES):
                    t[j] += float(row[i + j])
            for i in range(full, count):
                t[i - full] += float(row[i])
        width = LANES
        while width > 1:
            width //= 2
            for j in range(width):
                t[j] += t[j + width]
        total, error = _add(total, error, t[0])
    return total + error


@jit
def _top_row(x: Any, n: int, sign: Any, t: Any) -> Any:
    """The largest sign * x[i] of a contiguous row, NaN if there is one."""
    top = sign * x[0]
    full = n // LANES * LANES
    if full:
        for j in range(LANES):
            t[j] = sign * x[j]
        for i in range(LANES, full, LANES):
            for j in range(LANES):
                t[j] = maximum(t[j], sign * x[i + j])
        for j in range(LANES):
            top = maximum(top, t[j])
    for i in range(full, n):
        top = maximum(top, sign * x[i])
    return top


@jit
def _sums(
    start: int, stop: int, y: Any, x: int, r0: int, k1: int, r1: int, size: int, scratch: int, like: Any
) -> None:
    """y = sums; units are outputs.  The last row ends where the array does."""
    t = pointer(scratch, 0.0)
    for unit in range(start, stop):
        total, error = 0.0, 0.0
        for r in range(r0):
            o = ((unit // k1 * r0 + r) * k1 + unit % k1) * r1
            row = pointer_at(pointer(x, like), o)
            total, error = _add(total, error, _sum_row(row, min(r1, size - o), 0.0, False, t))
        y[unit] = total + error


@jit
def _tops(
    start: int, stop: int, y: Any, x: int, r0: int, k1: int, r1: int, size: int, scratch: int, sign: Any
) -> None:
    """y = maxima (sign 1) or minima (sign -1)."""
    t = pointer(scratch, sign)
    for unit in range(start, stop):
        for r in range(r0):
            o = ((unit // k1 * r0 + r) * k1 + unit % k1) * r1
            top = _top_row(pointer_at(pointer(x, sign), o), min(r1, size - o), sign, t)
            y[unit] = sign * top if r == 0 else sign * maximum(sign * y[unit], top)


@jit
def _sum_columns(start: int, stop: int, y: Any, x: int, r0: int, k1: int, like: Any) -> None:
    """y[k0, k1] = sums of x[k0, r0, k1] over r0; units are elements of y."""
    t = np.empty(TILE)
    p = start
    while p < stop:
        n = min(TILE, k1 - p % k1, stop - p)
        column = pointer_at(pointer(x, like), p // k1 * r0 * k1 + p % k1)
        for j in range(n):
            y[p + j] = 0.0
        for first in range(0, r0, 64):
            for j in range(n):
                t[j] = 0.0
            for r in range(first, min(first + 64, r0)):
                row = pointer_at(column, r * k1)
                for j in range(n):
                    t[j] += float(row[j])
            for j in range(n):
                y[p + j] += t[j]
        p += n


@jit
def _top_columns(start: int, stop: int, y: Any, x: int, r0: int, k1: int, sign: Any) -> None:
    """y[k0, k1] = maxima (sign 1) or minima of x[k0, r0, k1] over r0."""
    p = start
    while p < stop:
        n = min(TILE, k1 - p % k1, stop - p)
        column = pointer_at(pointer(x, sign), p // k1 * r0 * k1 + p % k1)
        for j in range(n):
            y[p + j] = column[j]
        for r in range(1, r0):
            row = pointer_at(column, r * k1)
            for j in range(n):
                y[p + j] = sign * maximum(sign * y[p + j], sign * row[j])
        p += n


@jit
def _softmax(start: int, stop: int, y: int, x: int, n: int, log: bool, scratch: int, one: Any) -> None:
    """Softmax, or its logarithm, of each row of n."""
    t, tops = pointer(scratch, 0.0), pointer(scratch + 8 * LANES, one)
    for unit in range(start, stop):
        source = pointer_at(pointer(x, one), unit * n)
        target = pointer_at(pointer(y, one), unit * n)
        top = _top_row(source, n, one, tops)
        if log:
            for i in range(n):
                target[i] = exp(source[i] - top)
            shift = math.log(_sum_row(target, n, 0.0, False, t))
            for i in range(n):
                target[i] = (source[i] - top) - shift
        else:
            for i in range(n):
                target[i] = exp(source[i] - top)
            total = _sum_row(target, n, 0.0, False, t)
            scale = 1.0 / total
            for i in range(n):
                target[i] *= scale


@jit
def _logsumexp(start: int, stop: int, y: Any, x: int, n: int, scratch: int, one: Any) -> None:
    """log(sum(exp(row))) of each row of n."""
    t, tops = pointer(scratch, 0.0), pointer(scratch + 8 * LANES, one)
    tile = pointer(scratch + 16 * LANES, one)
    for unit in range(start, stop):
        row = pointer_at(pointer(x, one), unit * n)
        top = _top_row(row, n, one, tops)
        if top - top != 0:
            top = one - one
        total, error = 0.0, 0.0
        for first in range(0, n, TILE):
            count = min(TILE, n - first)
            for i in range(count):
                tile[i] = exp(row[first + i] - top)
            total, error = _add(total, error, _sum_row(tile, count, 0.0, False, t))
        y[unit] = math.log(total + error) + top


@jit
def _standardize(
    start: int,
    stop: int,
    y: int,
    rstd: Any,
    x: int,
    r0: int,
    k1: int,
    r1: int,
    eps: float,
    write: bool,
    scratch: int,
    like: Any,
) -> None:
    """rstd = (variance + eps)^(-1/2) over r0 and r1; y = (x - mean) * rstd, if it is wanted."""
    t = pointer(scratch, 0.0)
    count = float(r0 * r1)
    for unit in range(start, stop):
        o = (unit // k1 * r0 * k1 + unit % k1) * r1
        mean, variance = 0.0, 0.0
        for r in range(r0):
            mean += _sum_row(pointer_at(pointer(x, like), o + r * k1 * r1), r1, 0.0, False, t)
        mean /= count
        for r in range(r0):
            variance += _sum_row(pointer_at(pointer(x, like), o + r * k1 * r1), r1, mean, True, t)
        scale = 1.0 / math.sqrt(variance / count + eps)
        rstd[unit] = scale
        if write:
            for r in range(r0):
                source = pointer_at(pointer(x, like), o + r * k1 * r1)
                target = pointer_at(pointer(y, like), o + r * k1 * r1)
                for i in range(r1):
                    target[i] = (float(source[i]) - mean) * scale


def arranged(x: Array, dims: tuple[int, ...]) -> tuple[Array, tuple[int, int, int, int]]:
    """A contiguous array with the elements of x, and its sizes as (k0, r0, k1, r1)."""
    x = np.ascontiguousarray(x)
    groups: list[tuple[bool, int]] = [(False, 1)]  # (reduced?, size), in turns
    for d, n in enumerate(x.shape):
        if n == 1:
            continue
        if groups[-1][0] == (d in dims):
            groups[-1] = (groups[-1][0], groups[-1][1] * n)
        else:
            groups.append((d in dims, n))
    if len(groups) > 4:
        kept = [d for d in range(x.ndim) if d not in dims]
        x = np.ascontiguousarray(x.transpose((*kept, *dims)))
        return x, (math.prod(x.shape[: len(kept)]), 1, 1, math.prod(x.shape[len(kept) :]))
    sizes = [n for _, n in groups]
    if len(sizes) == 2:
        return x, (sizes[0], 1, 1, sizes[1])
    k0, r0, k1, r1 = [*sizes, 1, 1, 1][:4]
    return x, (k0, r0, k1, r1)


def _reducible(x: Array) -> bool:
    return x.dtype.char in "fd" and x.size >= max(SMALL["reduction"], 1)


def _left(x: Array, dims: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    if keepdim:
        return tuple(1 if d in dims else n for d, n in enumerate(x.shape))
    return tuple(n for d, n in enumerate(x.shape) if d not in dims)


def _reduced(x: Array, form: tuple[int, int, int, int], sign: int) -> Array:
    """Sums (sign 0, in float64), maxima (1) or minima (-1) of an array in that form, flat."""
    k0, r0, k1, r1 = form
    y = np.empty(k0 * k1, x.dtype if sign else _F64)
    at, like, size = address(x), x.dtype.type(sign), x.size

    def run(start: int, stop: int) -> None:
        scratch = np.empty(2 * LANES)
        if r1 == 1 and sign:
            _top_columns(start, stop, y, at, r0, k1, like)
        elif r1 == 1:
            _sum_columns(start, stop, y, at, r0, k1, like)
        elif sign:
            _tops(start, stop, y, at, r0, k1, r1, size, address(scratch), like)
        else:
            _sums(start, stop, y, at, r0, k1, r1, size, address(scratch), like)

    split(run, y.size, size / 2, TILE if r1 == 1 else 1)
    return y


def _reduce(x: Array, dims: tuple[int, ...], sign: int) -> Array:
    """`_reduced` over dims; a single number by way of its parts."""
    if not x.flags.c_contiguous:  # perhaps it is, in another order
        order = sorted(range(x.ndim), key=lambda d: -abs(x.strides[d]))
        turned = x.transpose(order)
        if turned.flags.c_contiguous:
            y = _reduce(turned, tuple(i for i, d in enumerate(order) if d in dims), sign)
            kept = [d for d in order if d not in dims]
            return y.reshape([x.shape[d] for d in kept]).transpose(np.argsort(kept)).reshape(-1)
    x, form = arranged(x, dims)
    if form[0] * form[2] == 1 and x.size > 2 * PART:
        x = _reduced(x, (1, 1, -(-x.size // PART), PART), sign)
        form = (1, 1, 1, x.size)
    return _reduced(x, form, sign)


def make_sum(op: Op) -> Kernel:
    """Sums and means, taken in float64."""
    mean = op.name == "mean"

    def kernel(x: Array, dims: tuple[int, ...], keepdim: bool) -> Array:
        if not _reducible(x) or (x.flags.c_contiguous and x.ndim - 1 not in dims):
            return op.kernel(x, dims, keepdim)  # of columns numpy's sum is three times as fast
        y = _reduce(x, dims, 0)
        if mean:
            y /= x.size // y.size
        return y.astype(x.dtype, copy=False).reshape(_left(x, dims, keepdim))

    return kernel


def make_top(sign: int) -> Callable[[Op], Kernel]:
    """Maxima (sign 1) and minima (sign -1)."""

    def make_it(op: Op) -> Kernel:
        def kernel(x: Array, dims: tuple[int, ...], keepdim: bool) -> Array:
            if not _reducible(x):
                return op.kernel(x, dims, keepdim)
            return _reduce(x, dims, sign).reshape(_left(x, dims, keepdim))

        return kernel

    return make_it


def _as_rows(x: Array, dim: int) -> Array:
    """The array, contiguous, with one dimension last."""
    return np.ascontiguousarray(np.moveaxis(x, dim, -1))


def make_softmax(op: Op) -> Kernel:
    """softmax and log_softmax, a row at a time."""
    log = op.name == "log_softmax"

    def kernel(x: Array, dim: int) -> Array:
        if not _reducible(x):
            return op.kernel(x, dim)
        rows = _as_rows(x, dim)
        n = rows.shape[-1]
        y, one = np.empty(rows.shape, x.dtype), x.dtype.type(1)

        def run(start: int, stop: int) -> None:
            scratch = np.empty(2 * LANES)
            _softmax(start, stop, address(y), address(rows), n, log, address(scratch), one)

        split(run, x.size // n, x.size * 5.0)
        return np.ascontiguousarray(np.moveaxis(y, -1, dim))

    return kernel


def make_logsumexp(op: Op) -> Kernel:
    """log(sum(exp)), a row at a time."""

    def kernel(x: Array, dims: tuple[int, ...], keepdim: bool) -> Array:
        if not _reducible(x) or not dims:
            return op.kernel(x, dims, keepdim)
        kept = [d for d in range(x.ndim) if d not in dims]
        rows = np.ascontiguousarray(x.transpose((*kept, *dims)))
        n = math.prod(x.shape[d] for d in dims)
        y, one = np.empty(x.size // n, x.dtype), x.dtype.type(1)

        def run(start: int, stop: int) -> None:
            scratch = np.empty(2 * LANES + TILE)
            _logsumexp(start, stop, y, address(rows), n, address(scratch), one)

        split(run, y.size, x.size * 5.0)
        return y.reshape(_left(x, dims, keepdim))

    return kernel


def make_standardize(op: Op) -> Kernel:
    """standardize and rstd, with statistics in float64."""
    write = op.name == "standardize"

    def kernel(x: Array, dims: tuple[int, ...], eps: float) -> Array:
        if not _reducible(x):
            return op.kernel(x, dims, eps)
        rows, (k0, r0, k1, r1) = arranged(x, dims)
        if rows.shape != x.shape or r1 < 8 < r0:  # short rows, or a transpose anyway: numpy's
            return op.kernel(x, dims, eps)
        y = np.empty(x.shape if write else (), x.dtype)
        rstd, like = np.empty(k0 * k1, x.dtype), x.dtype.type(1)

        def run(start: int, stop: int) -> None:
            scratch = np.empty(2 * LANES)
            _standardize(
                start, stop, address(y), rstd, address(rows), r0, k1, r1, float(eps), write,
                address(scratch), like,
            )  # fmt: skip

        split(run, k0 * k1, x.size * 2.0)
        return y if write else rstd.reshape(_left(x, dims, True))

    return kernel


def make(op: Op) -> Kernel | None:
    """The kernel of this backend for an operation; None where there is none."""
    maker = _MAKERS.get(op.name)
    if maker is not None:
        return maker(op)
    if op.formula is not None and op.kind == "elementwise":
        return Elementwise(op.formula, op.inputs, op.attrs, op.kernel)
    return None


_MAKERS: dict[str, Callable[[Op], Kernel]] = {
    "matmul": lambda op: matmul,
    "conv2d": make_conv2d,
    "conv2d_input_grad": lambda op: make_conv2d_input_grad(op, make_conv2d(OPS["conv2d"])),
    "conv2d_weight_grad": make_conv2d_weight_grad,
    "sum": make_sum,
    "mean": make_sum,
    "amax": make_top(1),
    "amin": make_top(-1),
    "softmax": make_softmax,
    "log_softmax": make_softmax,
    "logsumexp": make_logsumexp,
    "standardize": make_standardize,
    "rstd": make_standardize,
}
