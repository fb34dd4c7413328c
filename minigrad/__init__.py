"""minigrad: a from-scratch autograd engine on numpy with C-accelerated kernels.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> loss = (x * x).sum()
    >>> loss.backward()
    >>> x.grad
    tensor([2., 4., 6.])

The names are PyTorch's.  `minigrad.nn`, `optim`, `keras`, `data` and others are loaded when first used,
so that importing the engine costs little more than importing numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import autograd, func
from ._version import __version__
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .backends import backend, backends
from .backends.user import Registration, register_kernel
from .errors import Error
from .ir import Spec, bool_, float32, float64, int8, int32, int64, uint8
from .ops.contraction import (
    addmm,
    addmv,
    baddbmm,
    bmm,
    cdist,
    cross,
    dot,
    einsum,
    inner,
    kron,
    matmul,
    mm,
    mv,
    outer,
    tensordot,
)
from .ops.creation import (
    arange,
    as_tensor,
    bernoulli,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    tensor,
    zeros,
    zeros_like,
)
from .ops.elementwise import (
    abs,
    absolute,
    add,
    ceil,
    clamp,
    clip,
    clone,
    cos,
    div,
    divide,
    eq,
    erf,
    exp,
    expm1,
    floor,
    floor_divide,
    ge,
    gt,
    isfinite,
    isnan,
    le,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    lt,
    masked_fill,
    maximum,
    minimum,
    mul,
    multiply,
    ne,
    neg,
    negative,
    positive,
    pow,
    reciprocal,
    remainder,
    result_type,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sqrt,
    square,
    sub,
    subtract,
    tanh,
    true_divide,
    trunc,
    where,
)
from .ops.indexing import (
    argsort,
    diagonal,
    gather,
    index_add,
    index_select,
    masked_select,
    nonzero,
    one_hot,
    scatter_add,
    sort,
    topk,
)
from .ops.movement import (
    broadcast_to,
    cat,
    chunk,
    concat,
    concatenate,
    flatten,
    flip,
    movedim,
    permute,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    t,
    transpose,
    tril,
    triu,
    unbind,
    unflatten,
    unsqueeze,
)
from .ops.nn import log_softmax, relu, softmax
from .ops.reduction import all_ as all
from .ops.reduction import (
    amax,
    amin,
    argmax,
    argmin,
    cumsum,
    logsumexp,
    mean,
    norm,
    prod,
    std,
    sum,
    var,
    vector_norm,
)
from .ops.reduction import any_ as any
from .ops.reduction import max_ as max
from .ops.reduction import min_ as min
from .random import Generator, get_rng_state, manual_seed, set_rng_state
from .tensor import Tensor
from .trace import trace

if TYPE_CHECKING:
    from . import data, keras, linalg, nn, optim, sparse
    from .batching import vmap
    from .compiled import compile
    from .drawing import draw
    from .explaining import explain
    from .ops.arranging import (
        atleast_1d,
        atleast_2d,
        atleast_3d,
        bincount,
        block_diag,
        broadcast_tensors,
        bucketize,
        column_stack,
        diag,
        diag_embed,
        dstack,
        fliplr,
        flipud,
        hstack,
        index_copy,
        index_fill,
        index_put,
        meshgrid,
        narrow,
        normal,
        ravel,
        repeat_interleave,
        roll,
        rot90,
        scatter,
        scatter_reduce,
        searchsorted,
        select,
        take,
        take_along_dim,
        tensor_split,
        tile,
        unfold,
        unique,
        vstack,
    )
    from .ops.statistics import (
        count_nonzero,
        cummax,
        cummin,
        cumprod,
        diff,
        logcumsumexp,
        median,
        nanmedian,
        quantile,
        std_mean,
        var_mean,
    )
    from .ops.transcendental import (
        acos,
        acosh,
        addcdiv,
        addcmul,
        allclose,
        arccos,
        arccosh,
        arcsin,
        arcsinh,
        arctan,
        arctan2,
        arctanh,
        asin,
        asinh,
        atan,
        atan2,
        atanh,
        clamp_max,
        clamp_min,
        cosh,
        digamma,
        equal,
        erfc,
        erfinv,
        exp2,
        fmod,
        hypot,
        isclose,
        isinf,
        lerp,
        lgamma,
        log2,
        log10,
        logaddexp,
        logical_xor,
        logit,
        nan_to_num,
        polygamma,
        sinc,
        sinh,
        tan,
        xlogy,
    )
    from .profiling import profile
    from .recompute import checkpoint

__all__ = [
    "Error",
    "Generator",
    "Registration",
    "Spec",
    "Tensor",
    "__version__",
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "addcdiv",
    "addcmul",
    "addmm",
    "addmv",
    "all",
    "allclose",
    "amax",
    "amin",
    "any",
    "arange",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "argsort",
    "as_tensor",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "autograd",
    "backend",
    "backends",
    "baddbmm",
    "bernoulli",
    "bincount",
    "block_diag",
    "bmm",
    "bool",
    "bool_",
    "broadcast_tensors",
    "broadcast_to",
    "bucketize",
    "cat",
    "cdist",
    "ceil",
    "checkpoint",
    "chunk",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "column_stack",
    "compile",
    "concat",
    "concatenate",
    "cos",
    "cosh",
    "count_nonzero",
    "cross",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "data",
    "diag",
    "diag_embed",
    "diagonal",
    "diff",
    "digamma",
    "div",
    "divide",
    "dot",
    "double",
    "draw",
    "dstack",
    "einsum",
    "empty",
    "empty_like",
    "enable_grad",
    "eq",
    "equal",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "exp2",
    "explain",
    "expm1",
    "eye",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "float",
    "float32",
    "float64",
    "floor",
    "floor_divide",
    "fmod",
    "from_numpy",
    "full",
    "full_like",
    "func",
    "gather",
    "ge",
    "get_num_threads",
    "get_rng_state",
    "gt",
    "hstack",
    "hypot",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_select",
    "inference_mode",
    "inner",
    "int",
    "int8",
    "int32",
    "int64",
    "is_grad_enabled",
    "is_tensor",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "keras",
    "kron",
    "le",
    "lerp",
    "lgamma",
    "linalg",
    "linspace",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logaddexp",
    "logcumsumexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logit",
    "logsumexp",
    "long",
    "lt",
    "manual_seed",
    "masked_fill",
    "masked_select",
    "matmul",
    "max",
    "maximum",
    "mean",
    "median",
    "meshgrid",
    "min",
    "minimum",
    "mm",
    "movedim",
    "mul",
    "multiply",
    "mv",
    "nan_to_num",
    "nanmedian",
    "narrow",
    "ne",
    "neg",
    "negative",
    "nn",
    "no_grad",
    "nonzero",
    "norm",
    "normal",
    "one_hot",
    "ones",
    "ones_like",
    "optim",
    "outer",
    "permute",
    "polygamma",
    "positive",
    "pow",
    "prod",
    "profile",
    "quantile",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "ravel",
    "reciprocal",
    "register_kernel",
    "relu",
    "remainder",
    "repeat_interleave",
    "reshape",
    "result_type",
    "roll",
    "rot90",
    "round",
    "rsqrt",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "searchsorted",
    "select",
    "set_grad_enabled",
    "set_num_threads",
    "set_rng_state",
    "show_config",
    "sigmoid",
    "sign",
    "sin",
    "sinc",
    "sinh",
    "softmax",
    "sort",
    "sparse",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "std_mean",
    "sub",
    "subtract",
    "sum",
    "swapaxes",
    "t",
    "take",
    "take_along_dim",
    "tan",
    "tanh",
    "tensor",
    "tensor_split",
    "tensordot",
    "tile",
    "topk",
    "trace",
    "transpose",
    "tril",
    "triu",
    "true_divide",
    "trunc",
    "uint8",
    "unbind",
    "unflatten",
    "unfold",
    "unique",
    "unsqueeze",
    "var",
    "var_mean",
    "vector_norm",
    "vmap",
    "vstack",
    "where",
    "xlogy",
    "zeros",
    "zeros_like",
]

bool = bool_
float = float32
double = float64
int = int32
long = int64

_LAZY = ("cli", "data", "distributed", "keras", "linalg", "nn", "optim", "sparse")
#: Functions of modules that are loaded when first used.
_LAZY_FUNCTIONS = {
    "checkpoint": "recompute",
    "vmap": "batching",
    "compile": "compiled",
    "draw": "drawing",
    "explain": "explaining",
    "profile": "profiling",
}

#: Modules whose operations are functions here, but are not imported until one is asked for.
_LATER = ("transcendental", "arranging", "statistics")


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY_FUNCTIONS:
        value = globals()[name] = getattr(
            importlib.import_module(f"{__name__}.{_LAZY_FUNCTIONS[name]}"), name
        )
        return value
    if name[0] != "_":
        for later in _LATER:
            module = importlib.import_module(f"{__name__}.ops.{later}")
            if name in module.__all__:
                value = globals()[name] = getattr(module, name)
                return value
    raise AttributeError(f"module 'minigrad' has no attribute {name!r}")


def is_tensor(value: Any) -> Any:
    """Whether a value is a Tensor."""
    return isinstance(value, Tensor)


def show_config(*, file: Any = None) -> None:
    """Print which backend, instruction set and number of threads are in use, and why."""
    import sys

    from .backends import config

    facts = {"minigrad": __version__, **config()}
    if f"{__name__}.compiled" in sys.modules:
        from .compiled import config as of_compiled

        facts["compiled"] = of_compiled()
    for key, value in facts.items():
        print(f"{key:10} {value}", file=file or sys.stdout)


def set_num_threads(count: Any) -> None:
    """How many threads the C kernels may use.  Raises ArgumentError unless it is at least 1."""
    from .backends import set_num_threads as set_

    set_(count)


def get_num_threads() -> Any:
    """How many threads the C kernels may use."""
    from .backends import get_num_threads as get

    return get()
