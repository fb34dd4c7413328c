"""What a model is made of and what it costs, layer by layer.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> print(summary(net, (32, 4)))                                       # doctest: +SKIP
    layer                output     parameters    FLOPs   bytes
    Sequential           (32, 2)
      0: Linear          (32, 8)            40    2,304   1,696
      1: ReLU            (32, 8)             0      256   2,048
      2: Linear          (32, 2)            18    1,088   1,352
    total                                   58    3,648   5,096

The model is run once, under `no_grad` and as it is in `eval`, through a backend that counts: every operation
adds what it computes (see `minigrad.flops`) and what it reads and writes to the module that called it.  So
whatever a `forward` does is counted, not only what known layers would do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentError, DTypeError
from ..flops import flops
from ..ir import Spec
from ..mode import Switch, current, no_grad
from ..ops.creation import randn
from ..record import Op
from ..tensor import Tensor
from .module import Module


@dataclass
class Row:
    """One module: its path and class, how deep it is, and what it costs without its parts.

    output    the shape of what it returned (a list of shapes for several), None if it was not called
    parameters, trainable   numbers in its own parameters, each counted where it comes first
    flops     floating point operations of its own forward
    bytes     what these read and wrote, in bytes; views are free
    """

    path: str
    kind: str
    depth: int
    parameters: int = 0
    trainable: int = 0
    output: Any = None
    flops: int = 0
    bytes: int = 0
    calls: int = 0


@dataclass
class Summary:
    """The rows, and totals; `str` makes the table."""

    rows: list[Row] = field(default_factory=list)
    parameter_bytes: int = 0
    buffer_bytes: int = 0

    @property
    def parameters(self) -> int:
        """All numbers that are parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Those that require grad."""
        return sum(row.trainable for row in self.rows)

    @property
    def flops(self) -> int:
        """Floating point operations of one forward."""
        return sum(row.flops for row in self.rows)

    @property
    def bytes(self) -> int:
        """What one forward reads and writes."""
        return sum(row.bytes for row in self.rows)

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [("layer", "output", "parameters", "FLOPs", "bytes")]
        for row in self.rows:
            name = row.path.rpartition(".")[2]
            label = "  " * row.depth + (f"{name}: {row.kind}" if name else row.kind)
            shape = "" if row.output is None else str(row.output)
            empty = row.calls and not (row.parameters or row.flops or row.bytes)
            numbers = ("",) * 3 if empty else tuple(f"{n:,}" for n in (row.parameters, row.flops, row.bytes))
            lines.append((label, shape, *numbers))
        lines.append(("total", "", f"{self.parameters:,}", f"{self.flops:,}", f"{self.bytes:,}"))
        widths = [max(len(line[k]) for line in lines) for k in range(5)]
        made = [
            "  ".join([line[0].ljust(widths[0]), line[1].ljust(widths[1])])
            + "".join("  " + line[k].rjust(widths[k]) for k in range(2, 5))
            for line in lines
        ]
        made.append(
            f"trainable {self.trainable:,}; parameters {_size(self.parameter_bytes)}, "
            f"buffers {_size(self.buffer_bytes)}"
        )
        return "\n".join(line.rstrip() for line in made)

    __repr__ = __str__


def _size(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000 or unit == "MB":
            return f"{count:,} bytes" if unit == "bytes" else f"{count:,.1f} {unit}"
        count = count // 100 / 10 if unit != "bytes" else count / 1000  # type: ignore[assignment]
    return str(count)


def summary(model: Module, input_size: Any = None, *, input_data: Any = None) -> Summary:
    """Run a model once and say what each of its modules returns and costs.

    input_size: the shape of the input, the batch included, or a list of shapes of several; normal numbers of
    the dtype of the parameters are drawn.  input_data: the input itself, or a tuple of inputs, where numbers
    will not do (class indices).  The model is left as it was, its mode, buffers and random state included.
    """
    if not isinstance(model, Module):
        raise DTypeError("summary", f"a {type(model).__name__} is no Module", fix="pass an nn.Module")
    if (input_size is None) == (input_data is None):
        raise ArgumentError("summary", "input_size or input_data", fix="pass exactly one of them")
    if current().trace is not None:
        raise ArgumentError(
            "summary", "it counts what is computed, not what is traced", fix="call it outside of the trace"
        )
    if input_data is None:
        dtype = next((p.dtype for p in model.parameters()), None)
        shapes = [input_size] if all(isinstance(s, int) for s in input_size) else list(input_size)
        from ..random import get_rng_state, set_rng_state

        state = get_rng_state()
        inputs: tuple[Any, ...] = tuple(randn(*shape, dtype=dtype) for shape in shapes)
        set_rng_state(state)
    else:
        inputs = input_data if isinstance(input_data, tuple) else (input_data,)
    result = Summary()
    rows: dict[int, Row] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        own = [p for _, p in module._own("parameters") if id(p) not in seen]
        seen.update(map(id, own))
        depth = path.count(".") + 1 if path else 0
        row = Row(path, type(module).__name__, depth, sum(p.numel() for p in own))
        row.trainable = sum(p.numel() for p in own if p.requires_grad)
        rows[id(module)] = row
        result.rows.append(row)
    result.parameter_bytes = sum(p.numel() * p.dtype.itemsize for p in model.parameters())
    result.buffer_bytes = sum(b.numel() * b.dtype.itemsize for b in model.buffers())
    _count(model, inputs, rows)
    return result


def _count(model: Module, inputs: tuple[Any, ...], rows: dict[int, Row]) -> None:
    """Run the model in eval mode, with hooks that say whose turn it is and a backend that counts."""
    stack: list[Row] = []

    def enter(module: Module, _: Any) -> None:
        stack.append(rows[id(module)])

    def leave(module: Module, _: Any, y: Any) -> None:
        row = stack.pop()
        row.output, row.calls = _shapes(y), row.calls + 1

    modes = [(module, module.training) for module in model.modules()]
    handles = []
    try:
        model.eval()
        for module, _ in modes:
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        with no_grad(), Switch(backend=_Counting(current().backend, stack)):
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training


def _shapes(y: Any) -> Any:
    if isinstance(y, Tensor):
        return y.shape
    if isinstance(y, (tuple, list)):
        return [_shapes(part) for part in y]
    return None


class _Counting:
    """A backend that hands every kernel on and adds what it costs to the module whose turn it is."""

    def __init__(self, backend: Any, stack: list[Row]) -> None:
        self.backend, self.stack = backend, stack

    def __getitem__(self, op: Op) -> Callable[..., Any]:
        kernel = self.backend[op]

        def run(*args: Any) -> Any:
            y = kernel(*args)
            if self.stack and hasattr(y, "dtype"):
                arrays = [a for a in args if hasattr(a, "dtype") and hasattr(a, "nbytes")]
                row = self.stack[-1]
                specs = [Spec(a.shape, a.dtype) for a in arrays]
                row.flops += flops(op, specs, Spec(y.shape, y.dtype), args[len(arrays) :])
                if not op.view:
                    row.bytes += sum(a.nbytes for a in arrays) + y.nbytes
            return y

        return run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)
