"""The stub file `minigrad/_methods.pyi`: what type checkers and editors know of Tensor's methods.

Operations install their methods when they are declared, which no type checker can see.  This
script writes them down, from the signatures of the functions themselves:

    python -m minigrad.ops.stubs

A test compares the file with what this module would write, so it cannot fall behind.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..bind import METHODS
from ..tensor import Tensor
from . import load

HEADER = '''"""Methods that operations install on Tensor.  Written by `python -m minigrad.ops.stubs`."""

import builtins
from collections.abc import Sequence
from typing import Any

from .ops.elementwise import Number, Operand
from .ops.linalg import QR, SLogDet
from .ops.matrices import USV
from .ops.reduction import Dims, ValuesIndices
from .ops.statistics import Histogram, MinMax
from .random import Generator
from .tensor import Tensor

class TensorMethods:
'''

#: Comparisons return tensors, which `object` does not expect.
_OVERRIDES = ("__eq__", "__ne__")
#: Tensor has methods of these names, so inside the class they no longer mean the types.
_SHADOWED = re.compile(r"(?<![\w.])(float|int|bool|type)(?!\w)")


def _default(value: Any) -> str:
    plain = value is None or isinstance(value, (bool, int, float, str))
    return repr(value) if plain else "..."


def _annotation(value: Any) -> str:
    text = value if isinstance(value, str) else getattr(value, "__name__", "Any")
    return "Any" if value is inspect.Parameter.empty else _SHADOWED.sub(r"builtins.\1", text)


def signature(name: str, function: Callable[..., Any]) -> str:
    """One method as a line of the stub."""
    given = inspect.signature(inspect.unwrap(function))
    parts, star = ["self"], False
    for parameter in list(given.parameters.values())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        star = star or parameter.kind is parameter.VAR_POSITIONAL
        prefix = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
        text = f"{prefix}{parameter.name}: {_annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {_default(parameter.default)}"
        parts.append(text)
    ignore = "  # type: ignore[override]" if name in _OVERRIDES else ""
    line = f"    def {name}({', '.join(parts)}) -> {_annotation(given.return_annotation)}: ...{ignore}"
    if len(line) <= 110:
        return line
    arguments = "".join(f"        {part},\n" for part in parts)
    return f"    def {name}(\n{arguments}    ) -> {_annotation(given.return_annotation)}: ...{ignore}"


def text() -> str:
    """The whole stub."""
    load()
    lines = [
        f"    @property\n    def {name}(self) -> Tensor: ..."
        for name in sorted(vars(Tensor))
        if isinstance(vars(Tensor)[name], property) and vars(Tensor)[name].fget.__name__ == "<lambda>"
    ]
    methods = {**METHODS, "backward": vars(Tensor)["backward"]}
    lines += [signature(name, methods[name]) for name in sorted(methods)]
    return HEADER + "\n".join(lines) + "\n"


def main() -> None:
    """Write the stub beside the package's modules."""
    Path(__file__).parent.parent.joinpath("_methods.pyi").write_text(text())


if __name__ == "__main__":
    main()
