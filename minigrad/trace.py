"""Tracing: record a program as a graph by running it once on symbols.

`trace(f, *specs)` calls `f` with tensors that have a shape and a dtype but no values.  Every
operation asks its record's shape rule what would come out, and appends a node; nothing is
computed.  Since backward passes and optimizers are programs made of the same operations, a traced
training step contains all of them, and there is no second autodiff for graphs.

    >>> import minigrad as mg
    >>> graph = trace(lambda x: (x * 2.0).exp(), mg.Spec((3,), mg.float32))
    >>> [node.op.name for node in graph.nodes]
    ['mul', 'exp']

Tensors that the function closes over become constants of the graph: it is their value at the time
of tracing that counts.  Left out here, and to come with `compile`: state that is updated, random
generators whose counter advances, and structured arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import Refusal, TraceError, here, short_line
from .ir import Graph, Node, Spec, check
from .mode import current, using
from .record import Op
from .tensor import Symbol, Tensor, wrap


class Trace:
    """A graph in the making."""

    def __init__(self) -> None:
        self.inputs: list[Spec] = []
        self.constants: list[np.ndarray[Any, Any]] = []
        self.nodes: list[tuple[Op, tuple[Symbol, ...], tuple[Any, ...], Spec, str]] = []
        self.symbols: list[Symbol] = []  # of nodes, in order
        self._constant_symbols: dict[int, tuple[Any, Symbol]] = {}
        self.closed = False

    def input(self, spec: Spec) -> Symbol:
        """A new input."""
        self.inputs.append(spec)
        return Symbol(spec, len(self.inputs) - 1, self)

    def symbol(self, array: Any) -> Symbol:
        """The symbol of a value: itself, or that of a constant."""
        if isinstance(array, Symbol):
            if array.trace is not self:
                raise Refusal(
                    "a tensor of another trace is used here",
                    "return it from the function it belongs to",
                    TraceError,
                )
            return array
        known = self._constant_symbols.get(id(array))
        if known is None:
            number = -1 - len(self.constants)  # numbered at the end
            self.constants.append(array)
            known = self._constant_symbols[id(array)] = (
                array,
                Symbol(Spec(array.shape, array.dtype), number, self),
            )
        return known[1]

    def record(self, op: Op, inputs: tuple[Tensor, ...], attrs: tuple[Any, ...]) -> Symbol:
        """Append a node; its Symbol is what the operation returns."""
        if self.closed:
            raise Refusal("this trace has ended", "compute inside the traced function", TraceError)
        symbols = tuple(self.symbol(t._array) for t in inputs)
        spec = op.infer([Spec(s.shape, s.dtype) for s in symbols], attrs)
        self.nodes.append((op, symbols, attrs, spec, short_line(here())))
        symbol = Symbol(spec, 0, self)
        self.symbols.append(symbol)
        return symbol

    def finish(self, outputs: list[Tensor]) -> Graph:
        """The finished, checked graph."""
        results = [self.symbol(t._array) for t in outputs]
        self.closed = True
        first = len(self.inputs) + len(self.constants)
        for i, symbol in enumerate(self.symbols):
            symbol.number = first + i

        def number(symbol: Symbol) -> int:
            return symbol.number if symbol.number >= 0 else len(self.inputs) - 1 - symbol.number

        nodes = tuple(
            Node(op, tuple(number(s) for s in symbols), attrs, spec, where)
            for op, symbols, attrs, spec, where in self.nodes
        )
        constants = tuple(np.array(c) for c in self.constants)
        return check(Graph(tuple(self.inputs), constants, nodes, tuple(number(s) for s in results)))


def trace(function: Callable[..., Any], *specs: Spec | Tensor, requires_grad: bool = False) -> Graph:
    """Record `function` on inputs of these specs (or like these tensors) as a graph.

    The function takes as many tensors and returns a tensor or a sequence of tensors.
    Raises TraceError, with the user's line, where a value is needed that is not known yet.
    """
    active = Trace()
    tensors = []
    for spec in specs:
        if isinstance(spec, Tensor):
            requires = spec.requires_grad
            spec = Spec(spec.shape, spec.dtype)
        else:
            requires = requires_grad and spec.dtype.kind == "f"
        t = wrap(active.input(Spec(*spec)))
        tensors.append(t.requires_grad_() if requires else t)
    with using(current().but(trace=active)):
        result = function(*tensors)
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    for value in outputs:
        if not isinstance(value, Tensor):
            raise TraceError("trace", f"the function returned a {type(value).__name__}", fix="return tensors")
    return active.finish(outputs)
