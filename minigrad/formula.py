"""Elementwise formulas: one string that numpy, numba and C all understand.

The forward of an elementwise operation is written once, as in

    "x / (1.0 + exp(-x))"

and means the same thing to each backend, because only what all of them have is allowed: names,
numbers, `+ - * /`, comparisons and calls from a small vocabulary.

    >>> silu = Formula("x / (1.0 + exp(-x))")
    >>> silu.names
    ('x',)
    >>> float(silu.numpy()(np.float64(0.0)))
    0.0
    >>> Formula("x ** 2")
    Traceback (most recent call last):
        ...
    ValueError: formula 'x ** 2': '**' is not in the vocabulary; write square(x) or pow(x, y)

Why not plain Python functions?  Because a function can only be called, while a string can be
read: checked here, printed in the documentation, and turned into C at build time.

`erf` is the one function of the vocabulary that numpy lacks; see `minigrad.special`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from .special import erf

Array = Any  # numpy arrays and scalars alike

#: The vocabulary: name -> (number of arguments, numpy function).  C and numba have the same names.
VOCABULARY: dict[str, tuple[int, Callable[..., Array]]] = {
    "abs": (1, np.absolute),
    "ceil": (1, np.ceil),
    "cos": (1, np.cos),
    "erf": (1, erf),
    "exp": (1, np.exp),
    "expm1": (1, np.expm1),
    "floor": (1, np.floor),
    "isfinite": (1, np.isfinite),
    "isnan": (1, np.isnan),
    "log": (1, np.log),
    "log1p": (1, np.log1p),
    "logical_and": (2, np.logical_and),
    "logical_not": (1, np.logical_not),
    "logical_or": (2, np.logical_or),
    "maximum": (2, np.maximum),
    "minimum": (2, np.minimum),
    "pow": (2, np.power),
    "rint": (1, np.rint),
    "sign": (1, np.sign),
    "sin": (1, np.sin),
    "sqrt": (1, np.sqrt),
    "square": (1, np.square),
    "tanh": (1, np.tanh),
    "trunc": (1, np.trunc),
    "where": (3, np.where),
}

_OPERATORS: dict[type[ast.AST], Callable[..., Array]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.USub: np.negative,
}

_NAMESPACE = {name: function for name, (_, function) in VOCABULARY.items()}


class Formula:
    """A checked elementwise formula.

    `text` is the source, `names` its free variables in order of first use.  Raises ValueError,
    naming the piece at fault, if the text is not in the vocabulary.
    """

    __slots__ = ("names", "text", "tree")

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self.tree = ast.parse(text, mode="eval").body
        except SyntaxError as error:
            raise ValueError(f"formula {text!r}: {error.msg}") from None
        names: dict[str, None] = {}
        self._check(self.tree, names)
        self.names = tuple(names)

    def _refuse(self, why: str) -> ValueError:
        return ValueError(f"formula {self.text!r}: {why}")

    def _check(self, node: ast.expr, names: dict[str, None]) -> None:
        match node:
            case ast.Name(id=name):
                names[name] = None
            case ast.Constant(value=float() | int() as value) if not isinstance(value, bool):
                pass
            case ast.BinOp(left=left, op=ast.Pow(), right=_):
                raise self._refuse("'**' is not in the vocabulary; write square(x) or pow(x, y)")
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
                self._check(left, names)
                self._check(right, names)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                self._check(operand, names)
            case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _OPERATORS:
                self._check(left, names)
                self._check(right, names)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                if name not in VOCABULARY:
                    raise self._refuse(f"{name!r} is not in the vocabulary ({', '.join(VOCABULARY)})")
                if len(args) != VOCABULARY[name][0]:
                    raise self._refuse(f"{name} takes {VOCABULARY[name][0]} arguments, not {len(args)}")
                for arg in args:
                    self._check(arg, names)
            case _:
                raise self._refuse(f"{ast.unparse(node)!r} is not in the vocabulary")

    def numpy(self, parameters: tuple[str, ...] | None = None) -> Callable[..., Array]:
        """The formula as a function of arrays, its arguments in the order of `parameters`.

        A formula that is one numpy ufunc becomes that ufunc itself: no Python frame in between.
        """
        parameters = self.names if parameters is None else parameters
        unknown = set(self.names) - set(parameters)
        if unknown:
            raise self._refuse(f"{sorted(unknown)[0]!r} is not a parameter ({', '.join(parameters)})")
        tree = self.tree
        operands: list[ast.expr] = []
        ufunc: Callable[..., Array] | None = None
        match tree:
            case ast.BinOp(left=left, op=operator, right=right):
                ufunc, operands = _OPERATORS[type(operator)], [left, right]
            case ast.Compare(left=left, ops=[compare], comparators=[right]):
                ufunc, operands = _OPERATORS[type(compare)], [left, right]
            case ast.UnaryOp(op=sign, operand=operand):
                ufunc, operands = _OPERATORS[type(sign)], [operand]
            case ast.Call(func=ast.Name(id=name), args=args):
                ufunc, operands = VOCABULARY[name][1], list(args)
        if ufunc is not None and [getattr(o, "id", None) for o in operands] == list(parameters):
            return ufunc
        function: Callable[..., Array] = eval(  # the tree was checked, so this runs arithmetic only
            compile(f"lambda {', '.join(parameters)}: {self.text}", f"<formula {self.text}>", "eval"),
            {"__name__": __name__, "__package__": __package__, **_NAMESPACE},
        )
        return function
