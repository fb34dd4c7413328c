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

from math import e, inf, nan, pi
from typing import TYPE_CHECKING, Any

from numpy import finfo, iinfo

from . import autograd, func
from ._version import __version__
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .backends import backend, backends
from .backends.user import Registration, register_kernel
from .errors import Error
from .ir import Spec, bool_, float32, float64, int8, int16, int32, int64, uint8
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
    BoolTensor,
    ByteTensor,
    DoubleTensor,
    FloatTensor,
    IntTensor,
    LongTensor,
    arange,
    as_tensor,
    bernoulli,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    get_default_dtype,
    linspace,
    logspace,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    set_default_dtype,
    tensor,
    zeros,
    zeros_like,
)
from .ops.elementwise import (
    abs,
    absolute,
    add,
    bitwise_and,
    bitwise_left_shift,
    bitwise_not,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
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
from .tensor import Device as device
from .tensor import Tensor
from .trace import trace

if TYPE_CHECKING:
    from . import (
        checkpoint,
        cuda,
        data,
        distillation,
        distributed,
        keras,
        linalg,
        nn,
        optim,
        recompute,
        sparse,
        training,
        transfer,
    )
    from .batching import vmap
    from .compiled import compile
    from .drawing import draw
    from .explaining import explain
    from .ops.arranging import (
        argwhere,
        atleast_1d,
        atleast_2d,
        atleast_3d,
        bincount,
        block_diag,
        broadcast_shapes,
        broadcast_tensors,
        bucketize,
        cartesian_prod,
        column_stack,
        combinations,
        diag,
        diag_embed,
        diagflat,
        dstack,
        fliplr,
        flipud,
        hstack,
        index_copy,
        index_fill,
        index_put,
        isin,
        masked_scatter,
        meshgrid,
        moveaxis,
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
        tril_indices,
        triu_indices,
        unfold,
        unique,
        unique_consecutive,
        unravel_index,
        vstack,
    )
    from .ops.matrices import (
        chain_matmul,
        cholesky,
        cholesky_inverse,
        cholesky_solve,
        det,
        inverse,
        logdet,
        matrix_exp,
        matrix_power,
        pdist,
        pinverse,
        qr,
        slogdet,
        svd,
    )
    from .ops.sampling import (
        multinomial,
        randint_like,
    )
    from .ops.statistics import (
        aminmax,
        corrcoef,
        count_nonzero,
        cov,
        cummax,
        cummin,
        cumprod,
        cumulative_trapezoid,
        diff,
        histc,
        histogram,
        kthvalue,
        logcumsumexp,
        median,
        msort,
        nanmean,
        nanmedian,
        nansum,
        quantile,
        std_mean,
        trapezoid,
        trapz,
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
        copysign,
        cosh,
        deg2rad,
        digamma,
        dist,
        equal,
        erfc,
        erfinv,
        exp2,
        float_power,
        fmax,
        fmin,
        fmod,
        frac,
        heaviside,
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
        rad2deg,
        signbit,
        sinc,
        sinh,
        tan,
        xlogy,
    )
    from .profiling import profile

__all__ = [
    "BoolTensor",
    "ByteTensor",
    "DoubleTensor",
    "Error",
    "FloatTensor",
    "Generator",
    "IntTensor",
    "LongTensor",
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
    "aminmax",
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
    "argwhere",
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
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "block_diag",
    "bmm",
    "bool",
    "bool_",
    "broadcast_shapes",
    "broadcast_tensors",
    "broadcast_to",
    "bucketize",
    "cartesian_prod",
    "cat",
    "cdist",
    "ceil",
    "chain_matmul",
    "checkpoint",
    "cholesky",
    "cholesky_inverse",
    "cholesky_solve",
    "chunk",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "column_stack",
    "combinations",
    "compile",
    "concat",
    "concatenate",
    "copysign",
    "corrcoef",
    "cos",
    "cosh",
    "count_nonzero",
    "cov",
    "cross",
    "cuda",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "cumulative_trapezoid",
    "data",
    "deg2rad",
    "det",
    "device",
    "diag",
    "diag_embed",
    "diagflat",
    "diagonal",
    "diff",
    "digamma",
    "dist",
    "distillation",
    "distributed",
    "div",
    "divide",
    "dot",
    "double",
    "draw",
    "dstack",
    "e",
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
    "finfo",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "float",
    "float32",
    "float64",
    "float_power",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "frac",
    "from_numpy",
    "full",
    "full_like",
    "func",
    "gather",
    "ge",
    "get_default_dtype",
    "get_num_threads",
    "get_rng_state",
    "gt",
    "heaviside",
    "histc",
    "histogram",
    "hstack",
    "hypot",
    "iinfo",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_select",
    "inf",
    "inference_mode",
    "inner",
    "int",
    "int8",
    "int16",
    "int32",
    "int64",
    "inverse",
    "is_floating_point",
    "is_grad_enabled",
    "is_tensor",
    "isclose",
    "isfinite",
    "isin",
    "isinf",
    "isnan",
    "keras",
    "kron",
    "kthvalue",
    "le",
    "lerp",
    "lgamma",
    "linalg",
    "linspace",
    "load",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logaddexp",
    "logcumsumexp",
    "logdet",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logit",
    "logspace",
    "logsumexp",
    "long",
    "lt",
    "manual_seed",
    "masked_fill",
    "masked_scatter",
    "masked_select",
    "matmul",
    "matrix_exp",
    "matrix_power",
    "max",
    "maximum",
    "mean",
    "median",
    "meshgrid",
    "min",
    "minimum",
    "mm",
    "mode",
    "moveaxis",
    "movedim",
    "msort",
    "mul",
    "multinomial",
    "multiply",
    "mv",
    "nan",
    "nan_to_num",
    "nanmean",
    "nanmedian",
    "nansum",
    "narrow",
    "ne",
    "neg",
    "negative",
    "nn",
    "no_grad",
    "nonzero",
    "norm",
    "normal",
    "numel",
    "one_hot",
    "ones",
    "ones_like",
    "optim",
    "outer",
    "pdist",
    "permute",
    "pi",
    "pinverse",
    "polygamma",
    "positive",
    "pow",
    "prod",
    "profile",
    "qr",
    "quantile",
    "quantization",
    "rad2deg",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "ravel",
    "reciprocal",
    "recompute",
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
    "save",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "searchsorted",
    "select",
    "set_default_dtype",
    "set_grad_enabled",
    "set_num_threads",
    "set_rng_state",
    "short",
    "show_config",
    "sigmoid",
    "sign",
    "signbit",
    "sin",
    "sinc",
    "sinh",
    "slogdet",
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
    "svd",
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
    "training",
    "transfer",
    "transpose",
    "trapezoid",
    "trapz",
    "tril",
    "tril_indices",
    "triu",
    "triu_indices",
    "true_divide",
    "trunc",
    "uint8",
    "unbind",
    "unflatten",
    "unfold",
    "unique",
    "unique_consecutive",
    "unravel_index",
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
short = int16
int = int32
long = int64

_LAZY = (
    "checkpoint",
    "cli",
    "cuda",
    "data",
    "distillation",
    "distributed",
    "keras",
    "linalg",
    "nn",
    "optim",
    "quantization",
    "recompute",
    "sparse",
    "training",
    "transfer",
)
#: Functions of modules that are loaded when first used.
_LAZY_FUNCTIONS = {
    "vmap": "batching",
    "compile": "compiled",
    "draw": "drawing",
    "explain": "explaining",
    "profile": "profiling",
}

#: Modules whose operations are functions here, but are not imported until one is asked for.
_LATER = ("transcendental", "arranging", "statistics", "sampling", "matrices")


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


def is_floating_point(input: Tensor) -> Any:
    """Whether the dtype is float32 or float64."""
    return input.is_floating_point()


def numel(input: Tensor) -> Any:
    """The number of elements."""
    return input.numel()


def mode(input: Tensor, dim: Any = -1, keepdim: Any = False) -> Any:
    """The most frequent element along a dimension, and the last place where it is."""
    return input.mode(dim, keepdim)


def save(obj: Any, f: Any) -> None:
    """Write a tree of dicts, lists, numbers, strings and tensors to a file: see `checkpoint.save`."""
    from .checkpoint import save as save_

    save_(f, obj)


def load(f: Any, map_location: Any = None, *, weights_only: Any = True) -> Any:
    """What `save` wrote: see `checkpoint.load`.

    Tensors come to the CPU, the one place that map_location may name.  A file holds no code, whatever
    weights_only says.  Raises ArgumentError for another device, CheckpointError for a file that is damaged.
    """
    from .checkpoint import load as load_
    from .ops.elementwise import check_device

    check_device("load", map_location)
    return load_(f)


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
