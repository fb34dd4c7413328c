"""Creation: tensors from nothing, from numbers, from chance.

    >>> import minigrad as mg
    >>> mg.arange(4), mg.linspace(0, 1, 3)
    (tensor([0, 1, 2, 3]), tensor([0. , 0.5, 1. ]))

Random tensors come from records whose one input is the generator's state (see
`minigrad.random`), so they can be recorded in a graph like everything else.  Normal numbers use
the Box-Muller transform (1958): two uniform numbers u, v give sqrt(-2 log u) * (cos, sin)(2 pi v).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import forget_programs
from ..bind import method, primitive, promoted
from ..errors import ArgumentError, DTypeError
from ..ir import (
    DType,
    Shape,
    Spec,
    bool_,
    default_float,
    float32,
    float64,
    int32,
    int64,
    is_float,
    set_default_float,
    uint8,
)
from ..mode import current
from ..random import Generator, default_generator
from ..tape import hooks
from ..tensor import Symbol, Tensor, as_array, as_dtype, as_value, wrap
from .elementwise import check_device
from .movement import as_shape, broadcast_to

_fill = primitive(
    "fill",
    kind="creation",
    inputs=(),
    attrs=("shape", "value", "dtype"),
    kernel=lambda shape, value, dtype: np.full(shape, value, dtype),
    shape=lambda shape, value, dtype: Spec(shape, dtype),
    vjp=(),
    samples=lambda rng: [((), ((2, 3), 1.5, float32)), ((), ((0,), 2, int64))],
    traits={"filled": "value"},
    doc="a tensor of one value",
    error=0.0,
)


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor holding a copy of the data: numbers, nested lists, arrays or tensors.

    Python floats become float32, integers int64, bools bool; numpy arrays keep their dtype.
    Raises DTypeError for data that is not numeric, ArgumentError for ragged lists.
    """
    check_device("tensor", device)
    return Tensor(data, dtype, requires_grad=requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of the data, sharing memory where possible."""
    check_device("as_tensor", device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    return wrap(as_array(data, dtype))


def from_numpy(array: Any) -> Tensor:
    """A tensor that shares the memory of a numpy array."""
    if not isinstance(array, np.ndarray):
        raise DTypeError("from_numpy", f"got a {type(array).__name__}", fix="use minigrad.tensor(...)")
    return wrap(as_array(array))


def _made(op: str, array_or_tensor: Tensor, requires_grad: bool, device: Any) -> Tensor:
    check_device(op, device)
    return array_or_tensor.requires_grad_() if requires_grad else array_or_tensor


def _full(op: str, shape: Shape, value: Any, dtype: DType) -> Tensor:
    if any(s < 0 for s in shape):
        raise ArgumentError(op, f"shape {shape} has a negative size", fix="sizes are at least 0")
    return _fill(shape, value, dtype) if current().trace is not None else wrap(np.full(shape, value, dtype))


def set_default_dtype(d: Any) -> None:
    """Make Python floats, integers in functions such as `exp`, and parameters float32 or float64.

    Tensors keep their dtype; compiled functions are traced again.  Raises DTypeError for any other dtype.
    """
    dtype = as_dtype(d, "set_default_dtype")
    if not is_float(dtype):
        raise DTypeError("set_default_dtype", f"dtype {dtype}", fix="use float32 or float64")
    set_default_float(dtype)
    forget_programs()


def get_default_dtype() -> DType:
    """The dtype of Python floats: see `set_default_dtype`."""
    return default_float()


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape, float32 by default."""
    shape = as_shape("zeros", size)
    return _made("zeros", _full("zeros", shape, 0, as_dtype(dtype or default_float())), requires_grad, device)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of a shape, float32 by default."""
    shape = as_shape("ones", size)
    return _made("ones", _full("ones", shape, 1, as_dtype(dtype or default_float())), requires_grad, device)


def full(
    size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """One value in a shape; the dtype is that of the value unless given."""
    shape = as_shape("full", (size,))
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    kind = as_dtype(dtype) if dtype is not None else as_array(fill_value).dtype
    fill_value = as_array(fill_value, kind).item()
    return _made("full", _full("full", shape, fill_value, kind), requires_grad, device)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor to be overwritten; it holds zeros here, so that a forgotten write is reproducible."""
    return zeros(*size, dtype=dtype, device=device, requires_grad=requires_grad)


def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The identity matrix (n, m)."""
    return _made("eye", wrap(np.eye(n, m, dtype=as_dtype(dtype or default_float()))), requires_grad, device)


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... below end; int64 for integers, float32 if any is a float."""
    if end is None:
        start, end = 0, start
    if step == 0 or (end - start) * step < 0:
        raise ArgumentError(
            "arange", f"from {start} to {end} in steps of {step}", fix="give step the right sign"
        )
    count = max(0, math.ceil((end - start) / step))
    kind = (
        as_dtype(dtype)
        if dtype is not None
        else int64
        if all(isinstance(v, int) for v in (start, end, step))
        else default_float()
    )
    values = start + np.arange(count) * step
    return _made("arange", wrap(values.astype(kind)), requires_grad, device)


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers from start to end, both included."""
    if steps < 0:
        raise ArgumentError("linspace", f"{steps} steps", fix="use at least 0 steps")
    kind = as_dtype(dtype or default_float())
    return _made("linspace", wrap(np.linspace(start, end, steps).astype(kind)), requires_grad, device)


def _legacy(name: str, dtype: DType) -> Any:
    def make(*data: Any) -> Tensor:
        if len(data) == 1 and not isinstance(data[0], int):
            return tensor(data[0], dtype=dtype)
        return zeros(*data, dtype=dtype) if data else zeros(0, dtype=dtype)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = (
        f"A tensor of {dtype} from data, or (zeros) of given sizes: `tensor(data, dtype)` of old scripts."
    )
    return make


FloatTensor = _legacy("FloatTensor", float32)
DoubleTensor = _legacy("DoubleTensor", float64)
ByteTensor = _legacy("ByteTensor", uint8)
IntTensor = _legacy("IntTensor", int32)
LongTensor = _legacy("LongTensor", int64)
BoolTensor = _legacy("BoolTensor", bool_)


def logspace(
    start: float,
    end: float,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers from base**start to base**end, both included, evenly spaced in their logarithms."""
    if steps < 0:
        raise ArgumentError("logspace", f"{steps} steps", fix="use at least 0 steps")
    values = base ** np.linspace(start, end, steps)
    made = wrap(values.astype(as_dtype(dtype or default_float())))
    return _made("logspace", made, requires_grad, device)


@method("zeros_like")
def zeros_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Zeros of the shape and dtype of another tensor."""
    kind = input.dtype if dtype is None else as_dtype(dtype)
    return _made("zeros_like", _full("zeros_like", input.shape, 0, kind), requires_grad, device)


@method("ones_like")
def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape and dtype of another tensor."""
    kind = input.dtype if dtype is None else as_dtype(dtype)
    return _made("ones_like", _full("ones_like", input.shape, 1, kind), requires_grad, device)


@method("full_like")
def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """One value in the shape and dtype of another tensor."""
    kind = input.dtype if dtype is None else as_dtype(dtype)
    return _made("full_like", _full("full_like", input.shape, fill_value, kind), requires_grad, device)


empty_like = zeros_like
hooks.ones = ones_like


@method("new_zeros")
def new_zeros(input: Tensor, *size: Any, dtype: Any = None) -> Tensor:
    """Zeros of the dtype of this tensor."""
    return zeros(*size, dtype=dtype or input.dtype)


@method("new_ones")
def new_ones(input: Tensor, *size: Any, dtype: Any = None) -> Tensor:
    """Ones of the dtype of this tensor."""
    return ones(*size, dtype=dtype or input.dtype)


@method("new_full")
def new_full(input: Tensor, size: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """One value, of the dtype of this tensor."""
    return full(size, fill_value, dtype=dtype or input.dtype)


@method("new_tensor")
def new_tensor(input: Tensor, data: Any, dtype: Any = None) -> Tensor:
    """A tensor of the data, of the dtype of this one."""
    return Tensor(data, dtype or input.dtype)


# -- chance ------------------------------------------------------------------------------------------


def _random_shape(state: Spec, shape: Shape, dtype: DType, *rest: Any) -> Spec:
    return Spec(shape, dtype)


def _state_words(state: Any, count: int) -> Any:
    seed, offset = (int(v) & 0xFFFFFFFFFFFFFFFF for v in state)
    return current().backend.random_bits(seed, offset, count)


def _unit(words: Any, dtype: DType) -> Any:
    """Uniform in [0, 1): 24 bits for float32; 53 bits, from two words, for float64."""
    if dtype == float32:
        return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    high, low = words[0::2].astype(np.uint64), words[1::2].astype(np.uint64)
    return ((high >> np.uint64(5)) * np.uint64(1 << 26) + (low >> np.uint64(6))).astype(np.float64) * 2.0**-53


def words_needed(count: int, dtype: DType) -> int:
    """32-bit words that `count` uniform numbers take."""
    return count if dtype == float32 else 2 * count


def _uniform_kernel(state: Any, shape: Shape, dtype: DType) -> Any:
    count = math.prod(shape)
    return _unit(_state_words(state, words_needed(count, dtype)), dtype).reshape(shape)


_seeds = [((np.array([7, 3]),), ((3, 4), d)) for d in (float32, float64)]

_uniform = primitive(
    "uniform",
    kind="creation",
    inputs=("state",),
    attrs=("shape", "dtype"),
    kernel=_uniform_kernel,
    shape=_random_shape,
    vjp=(None,),
    samples=lambda rng: _seeds,
    doc="uniform random numbers in [0, 1) from a generator's state",
    error=0.0,
)


def _normal_kernel(state: Any, shape: Shape, dtype: DType) -> Any:
    count = math.prod(shape)
    pairs = -(-count // 2)
    unit = _unit(_state_words(state, words_needed(2 * pairs, dtype)), dtype)
    radius = np.sqrt(-2.0 * np.log(1.0 - unit[:pairs]))  # 1 - u is in (0, 1]
    angle = unit[pairs:] * dtype.type(2.0 * math.pi)
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return both[:count].astype(dtype, copy=False).reshape(shape)


_normal = primitive(
    "normal",
    kind="creation",
    inputs=("state",),
    attrs=("shape", "dtype"),
    kernel=_normal_kernel,
    shape=_random_shape,
    vjp=(None,),
    samples=lambda rng: _seeds,
    doc="normal random numbers of mean 0 and deviation 1 from a generator's state",
    error=8.0,
)


def _integers_kernel(state: Any, shape: Shape, low: int, high: int, dtype: DType) -> Any:
    count = math.prod(shape)
    words = _state_words(state, 2 * count).astype(np.uint64)
    wide = (words[0::2] << np.uint64(32)) | words[1::2]
    # 64 random bits modulo the range: the bias is below range / 2^64
    return (wide % np.uint64(high - low)).astype(np.int64).reshape(shape).__add__(low).astype(dtype)


_integers = primitive(
    "random_integers",
    kind="creation",
    inputs=("state",),
    attrs=("shape", "low", "high", "dtype"),
    kernel=_integers_kernel,
    shape=lambda state, shape, low, high, dtype: Spec(shape, dtype),
    vjp=(None,),
    samples=lambda rng: [((np.array([7, 3]),), ((3, 4), -2, 5, int64))],
    doc="random integers in [low, high) from a generator's state",
    error=0.0,
)

_permutation = primitive(
    "random_permutation",
    kind="creation",
    inputs=("state",),
    attrs=("n",),
    kernel=lambda state, n: np.argsort(_state_words(state, 2 * n).view(np.uint64), kind="stable").astype(
        np.int64
    ),
    shape=lambda state, n: Spec((n,), int64),
    vjp=(None,),
    samples=lambda rng: [((np.array([7, 3]),), (n,)) for n in (0, 1, 9)],
    doc="0..n-1 in a random order from a generator's state",
    error=0.0,
)


def _float(op: str, dtype: Any) -> DType:
    kind = as_dtype(dtype or default_float())
    if not is_float(kind):
        raise DTypeError(op, f"dtype {kind}", fix="use float32 or float64, or randint")
    return kind


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform random numbers in [0, 1)."""
    shape, kind = as_shape("rand", size), _float("rand", dtype)
    state = (generator or default_generator).take(words_needed(math.prod(shape), kind))
    return _made("rand", _uniform(state, shape, kind), requires_grad, device)


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal random numbers of mean 0 and standard deviation 1."""
    shape, kind = as_shape("randn", size), _float("randn", dtype)
    count = math.prod(shape)
    state = (generator or default_generator).take(words_needed(count + count % 2, kind))
    return _made("randn", _normal(state, shape, kind), requires_grad, device)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Random integers in [low, high), as `randint(high, size)` or `randint(low, high, size)`."""
    if size is None:
        low, high, size = 0, low, high
    if not isinstance(size, (tuple, list)):
        raise ArgumentError("randint", f"the size is {size!r}", fix="pass a tuple")
    if high <= low:
        raise ArgumentError(
            "randint", f"there is no integer in [{low}, {high})", fix="make high larger than low"
        )
    shape = as_shape("randint", (size,))
    state = (generator or default_generator).take(2 * math.prod(shape))
    return _made("randint", _integers(state, shape, low, high, as_dtype(dtype or int64)), False, device)


def randperm(n: int, *, generator: Generator | None = None, device: Any = None) -> Tensor:
    """The integers 0..n-1 in a random order."""
    return _made("randperm", _permutation((generator or default_generator).take(2 * n), n), False, device)


def rand_like(input: Tensor, *, dtype: Any = None) -> Tensor:
    """`rand` in the shape and dtype of another tensor."""
    return rand(input.shape, dtype=dtype or input.dtype)


def randn_like(input: Tensor, *, dtype: Any = None) -> Tensor:
    """`randn` in the shape and dtype of another tensor."""
    return randn(input.shape, dtype=dtype or input.dtype)


@method("bernoulli")
def bernoulli(input: Tensor, *, generator: Generator | None = None) -> Tensor:
    """0 or 1 in the input's dtype, 1 with the probability that each element gives.

    Raises ArgumentError for a probability outside [0, 1] (while tracing, the values are not known yet).
    """
    if not isinstance(input._array, Symbol) and not bool(((input._array >= 0) & (input._array <= 1)).all()):
        raise ArgumentError(
            "bernoulli", "a probability outside [0, 1]", fix="pass logits through sigmoid first"
        )
    return (rand(input.shape, generator=generator, dtype=input.dtype) < input).to(input.dtype)


@method("fill_")
def fill_(self: Tensor, value: Any) -> Tensor:
    """Write one value into every element; returns the tensor."""
    from ..bind import write

    new = value if isinstance(value, Tensor) else wrap(as_value(value, self.dtype, "fill_"))
    return write(self, broadcast_to(new, self.shape), "fill_")


@method("zero_")
def zero_(self: Tensor) -> Tensor:
    """Write zeros into every element; returns the tensor."""
    return fill_(self, 0)


@method("copy_")
def copy_(self: Tensor, src: Tensor) -> Tensor:
    """Write the elements of another tensor, broadcast, into this one; returns it."""
    from ..bind import write

    src = promoted("copy_", self, src)[1] if not isinstance(src, Tensor) else src
    return write(self, broadcast_to(src.to(self.dtype), self.shape), "copy_")


@method("uniform_")
def uniform_(
    self: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Write uniform random numbers in [low, high); returns the tensor."""
    return copy_(self, rand(self.shape, generator=generator, dtype=self.dtype) * (high - low) + low)


@method("normal_")
def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Write normal random numbers; returns the tensor."""
    return copy_(self, randn(self.shape, generator=generator, dtype=self.dtype) * std + mean)


hooks.wrap = wrap
hooks.tensor = Tensor
