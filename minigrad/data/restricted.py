"""Reading arrays out of a pickle without running it.

A pickle is a program for a stack machine, and `pickle.load` runs it: a file can call any function of any
module. Data sets of graphs were published as pickles of numpy and scipy arrays all the same.  This reader
knows the part of that language that says what arrays, lists, dictionaries, numbers and strings are, and a
list of eight names it gives a meaning to; it imports nothing, calls nothing, and refuses the rest by name.

    >>> load(b"(lp0\\nI1\\naI2\\na.")                      # [1, 2] in protocol 0
    [1, 2]
    >>> load(b"cos\\nsystem\\n(S'true'\\ntR.")
    Traceback (most recent call last):
        ...
    minigrad.errors.ArgumentError: pickle: the file asks for os.system ...

Strings of Python 2 come out as latin-1 text.  Reference: the comments of CPython's `pickletools`, for what
each opcode does.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ..errors import ArgumentError

Array = Any

_MARK = object()

#: Names that mean something, and what they are called here; everything else is refused.
NAMES = {
    **dict.fromkeys([f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")], "new array"),
    **dict.fromkeys([f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")], "scalar"),
    **dict.fromkeys([f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")], "buffer"),
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    **dict.fromkeys(
        [f"scipy.sparse.{m}.{c}" for m in ("csr", "_csr") for c in ("csr_matrix", "csr_array")], "csr"
    ),
    **dict.fromkeys(["copy_reg._reconstructor", "copyreg._reconstructor"], "new object"),
    **dict.fromkeys(["__builtin__.object", "builtins.object"], "object"),
    **dict.fromkeys(["__builtin__.list", "builtins.list"], "list"),
    "collections.defaultdict": "defaultdict",
    "_codecs.encode": "encode",
}
_KINDS = "biuf"


class _Name(str):
    """One of the values of NAMES."""


class _Array:
    """An array in the making."""

    value: Array = None


class _DType:
    """A dtype in the making: its code, and then its byte order."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "<"

    def dtype(self) -> Any:
        """As numpy's, if it is of plain numbers."""
        try:
            found = np.dtype((self.order if self.order in "<>" else "=") + self.code.lstrip("<>=|"))
        except (TypeError, ValueError):
            raise _refused(f"an array of {self.code!r}") from None
        if found.kind not in _KINDS:
            raise _refused(f"an array of {self.code!r}")
        return found


class Sparse:
    """A scipy CSR matrix, as the arrays that it consists of."""

    data: Array
    indices: Array
    indptr: Array
    shape: tuple[int, int]


def _refused(what: str) -> ArgumentError:
    return ArgumentError(
        "pickle", f"the file asks for {what}", fix="convert it with a program that you trust, to .npz"
    )


def load(data: bytes) -> Any:
    """What a pickle describes: numbers, text, lists, tuples, dicts, numpy arrays, `Sparse` matrices.

    Raises ArgumentError for anything else in the file, and for a file that is damaged.
    """
    try:
        return _finished(_Machine(data).run())
    except (
        IndexError,
        KeyError,
        struct.error,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
    ) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            "pickle", f"the file is damaged ({type(error).__name__}: {error})", fix="download it again"
        ) from None


def _finished(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, list):
        return [_finished(v) for v in value]
    if isinstance(value, tuple):
        return tuple(_finished(v) for v in value)
    if isinstance(value, dict):
        return {k: _finished(v) for k, v in value.items()}
    if isinstance(value, (_Name, _DType)):
        raise _refused(f"{value!r} as a value")
    if isinstance(value, Sparse):
        for name in ("data", "indices", "indptr"):
            setattr(value, name, _finished(getattr(value, name)))
    return value


class _Machine:
    """The stack machine, as far as arrays need it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if n < 0 or self.at + n > len(self.data):
            raise ValueError(f"it ends at byte {len(self.data)}")
        part = self.data[self.at : self.at + n]
        self.at += n
        return part

    def number(self, form: str) -> Any:
        """The next number in this form."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """Text up to the end of the line."""
        end = self.data.index(b"\n", self.at)
        text = self.data[self.at : end].decode("latin-1")
        self.at = end + 1
        return text

    def marked(self) -> list[Any]:
        """What lies above the last mark."""
        for k in range(len(self.stack) - 1, -1, -1):
            if self.stack[k] is _MARK:
                items = self.stack[k + 1 :]
                del self.stack[k:]
                return items
        raise ValueError("a mark is missing")

    def run(self) -> Any:
        """Follow the program to its end."""
        while True:
            code = chr(self.take(1)[0])
            if code == ".":
                return self.stack.pop()
            step = _STEPS.get(code)
            if step is None:
                raise _refused(f"opcode {code!r}")
            step(self)

    # -- steps ---------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        """Lay a value on the stack."""
        self.stack.append(value)

    def name(self, module: str, what: str) -> None:
        """A name, if it is one of ours."""
        full = f"{module}.{what}"
        if full not in NAMES:
            raise _refused(full)
        self.push(_Name(NAMES[full]))

    def stack_name(self) -> None:
        """A name from the stack."""
        what, module = self.stack.pop(), self.stack.pop()
        self.name(str(module), str(what))

    def quoted(self) -> None:
        """A string of protocol 0, in quotes, with escapes."""
        text = self.line().strip()
        if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
            raise ValueError("a string without quotes")
        self.push(text[1:-1].encode("latin-1").decode("unicode_escape"))

    def integer(self) -> None:
        """A number of protocol 0; 00 and 01 are bools."""
        text = self.line()
        self.push(text == "01" if text in ("00", "01") else int(text.rstrip("L")))

    def append(self, items: list[Any]) -> None:
        """Onto the list on the stack."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError("append to what is no list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Into the dictionary on the stack."""
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError("an item of what is no dictionary")
        target.update(zip(items[::2], items[1::2], strict=True))

    def dictionary(self) -> None:
        """Of what lies above the mark."""
        items = self.marked()
        self.push(dict(zip(items[::2], items[1::2], strict=True)))

    def call(self) -> None:
        """Where a pickle calls a function, one of ours is meant."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _refused(f"a call of {function!r}")
        if function == "new array":
            self.push(_Array())
        elif function == "dtype":
            self.push(_DType(str(arguments[0])))
        elif (function == "new object" and arguments[0] == "csr") or function == "csr":
            self.push(Sparse())
        elif function == "defaultdict":
            self.push({})
        elif function == "list" and not arguments:
            self.push([])
        elif function == "encode" and arguments[1:] == ("latin1",):
            self.push(arguments[0].encode("latin-1"))
        elif function == "buffer":
            raw, kind, shape, order = arguments
            array = _Array()
            array.value = _native(raw, kind.dtype(), shape, order)
            self.push(array)
        elif function == "scalar":
            raw = arguments[1] if isinstance(arguments[1], bytes) else arguments[1].encode("latin-1")
            self.push(np.frombuffer(raw, arguments[0].dtype())[0].item())
        else:
            raise _refused(f"a call of {function!r}")

    def new(self) -> None:
        """An empty object of a class."""
        _, cls = self.stack.pop(), self.stack.pop()
        if cls != "csr":
            raise _refused(f"an object of {cls!r}")
        self.push(Sparse())

    def build(self) -> None:
        """Give an object its state."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _DType):
            target.order = str(state[1])
        elif isinstance(target, _Array):
            _, shape, kind, fortran, raw = state
            raw = raw if isinstance(raw, bytes) else raw.encode("latin-1")
            target.value = _native(raw, kind.dtype(), shape, "F" if fortran else "C")
        elif isinstance(target, Sparse):
            attributes = state[0] if isinstance(state, tuple) else state
            for name, value in attributes.items():
                short = str(name).lstrip("_")
                if short in ("data", "indices", "indptr", "shape"):
                    setattr(target, short, value)
        else:
            raise _refused(f"the state of a {type(target).__name__}")


def _native(raw: bytes, dtype: Any, shape: tuple[int, ...], order: Any) -> Array:
    """An array of these bytes, in this machine's byte order."""
    return np.frombuffer(raw, dtype).reshape(shape, order=order).astype(dtype.newbyteorder("="))


def _long(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _tuple_of(n: int) -> Any:
    def step(m: _Machine) -> None:
        items = tuple(m.stack[-n:])
        del m.stack[-n:]
        m.push(items)

    return step


#: opcode -> what it does.
_STEPS: dict[str, Any] = {
    "\x80": lambda m: m.take(1),  # the protocol
    "\x95": lambda m: m.take(8),  # a frame
    "(": lambda m: m.push(_MARK),
    "0": lambda m: m.stack.pop(),
    "1": lambda m: m.marked(),
    "2": lambda m: m.push(m.stack[-1]),
    "N": lambda m: m.push(None),
    "\x88": lambda m: m.push(True),
    "\x89": lambda m: m.push(False),
    "I": _Machine.integer,
    "L": _Machine.integer,
    "J": lambda m: m.push(m.number("<i")),
    "K": lambda m: m.push(m.number("<B")),
    "M": lambda m: m.push(m.number("<H")),
    "\x8a": lambda m: m.push(_long(m.take(m.number("<B")))),
    "\x8b": lambda m: m.push(_long(m.take(m.number("<i")))),
    "F": lambda m: m.push(float(m.line())),
    "G": lambda m: m.push(m.number(">d")),
    "S": _Machine.quoted,
    "U": lambda m: m.push(m.take(m.number("<B")).decode("latin-1")),
    "T": lambda m: m.push(m.take(m.number("<i")).decode("latin-1")),
    "V": lambda m: m.push(m.line().encode("latin-1").decode("raw_unicode_escape")),
    "X": lambda m: m.push(m.take(m.number("<I")).decode()),
    "\x8c": lambda m: m.push(m.take(m.number("<B")).decode()),
    "\x8d": lambda m: m.push(m.take(m.number("<Q")).decode()),
    "C": lambda m: m.push(m.take(m.number("<B"))),
    "B": lambda m: m.push(m.take(m.number("<I"))),
    "\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    "\x96": lambda m: m.push(m.take(m.number("<Q"))),
    "]": lambda m: m.push([]),
    "l": lambda m: m.push(m.marked()),
    "a": lambda m: m.append([m.stack.pop()]),
    "e": lambda m: m.append(m.marked()),
    ")": lambda m: m.push(()),
    "t": lambda m: m.push(tuple(m.marked())),
    "\x85": _tuple_of(1),
    "\x86": _tuple_of(2),
    "\x87": _tuple_of(3),
    "}": lambda m: m.push({}),
    "d": _Machine.dictionary,
    "s": lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "u": lambda m: m.set_items(m.marked()),
    "p": lambda m: m.memo.__setitem__(int(m.line()), m.stack[-1]),
    "q": lambda m: m.memo.__setitem__(m.number("<B"), m.stack[-1]),
    "r": lambda m: m.memo.__setitem__(m.number("<I"), m.stack[-1]),
    "\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "g": lambda m: m.push(m.memo[int(m.line())]),
    "h": lambda m: m.push(m.memo[m.number("<B")]),
    "j": lambda m: m.push(m.memo[m.number("<I")]),
    "c": lambda m: m.name(m.line(), m.line()),
    "\x93": _Machine.stack_name,
    "R": _Machine.call,
    "\x81": _Machine.new,
    "b": _Machine.build,
}
