"""Reading byte arrays out of a pickle without running it.

A pickle is a program, and loading one may run any code. CIFAR-10 is published as pickles, so here is a reader for what
they hold and no more: dictionaries, lists, numbers, text, bytes and NumPy arrays of bytes. Three fences, each enough to
keep foreign code out:

1. Before anything is loaded, every opcode is read and held against a short list; what could call something unlisted or
   ask for absurd memory is refused.
2. The unpickler resolves only the few names by which NumPy rebuilds an array.
3. Even these names resolve to the harmless stand-ins below, never to NumPy's or anybody's functions.
"""

import io
import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atodds.errors import DataError

# fmt: off
OPCODES = frozenset([
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
])
# fmt: on

MOST_TUPLES = 1000
"""Tuples serve only as shapes and arguments; nested a million deep they would overflow the interpreter's stack."""

MALFORMED = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)


class _Refused(pickle.UnpicklingError):
    """Something in the pickle that arrays of bytes do not need."""


@dataclass
class _Type:
    """Stands in for numpy.dtype: remembers its code, lets no state in."""

    code: object = None

    def __setstate__(self, state: object) -> None:
        """NumPy's state of a one-byte type says nothing more."""


@dataclass
class _Array:
    """Stands in for an array: shape, type and raw bytes, checked only when `as_bytes` asks."""

    shape: object = None
    type: object = None
    column_major: object = False
    raw: object = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("an array in no known form")
        _, self.shape, self.type, self.column_major, self.raw = state


class _Named:
    """A name that was resolved: can be called with what a pickle gives it, and changed by nothing."""

    __slots__ = ("_stand_in",)

    def __init__(self, stand_in: Callable[..., object]) -> None:
        self._stand_in = stand_in

    def __call__(self, *arguments: object) -> object:
        return self._stand_in(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _Refused("a change to a function")


def _ndarray(*_arguments: object) -> object:
    raise _Refused("a call of numpy.ndarray")


def _dtype(code: object, *_rest: object) -> _Type:
    return _Type(code)


def _reconstruct(*_arguments: object) -> _Array:
    return _Array()


def _frombuffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    return _Array(shape, dtype, order == "F", raw)


def _encode(text: object, encoding: object = None) -> bytes:
    """Protocol 2 of Python 3 writes bytes as text in latin-1."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("text in no known encoding")
    return text.encode("latin-1")


NAMES: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _ndarray,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Callable[..., object]:
        if (module, name) not in NAMES:
            raise _Refused(f"the name {module}.{name}")
        return _Named(NAMES[module, name])


def read_pickle(data: bytes, where: Path) -> dict[str, object]:
    """The dictionary in a pickle, its keys as text. No code of the pickle runs.

    Raises:
        DataError: it is damaged, holds something else than a dictionary, or anything that arrays of bytes do not need.
    """
    try:
        _scan(data)
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except _Refused as problem:
        raise DataError(
            f"{where}: this pickle holds {problem}, which could run code, so it is not opened. "
            "Save the arrays to .npz instead."
        ) from None
    except MALFORMED as problem:
        raise DataError(f"{where}: a damaged pickle ({problem}). Download it again.") from None
    if not isinstance(content, dict):
        raise DataError(f"{where}: a pickle of something else than a dictionary. Check what the file is.")
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def as_bytes(value: object, where: Path) -> npt.NDArray[np.uint8]:
    """An array of bytes that `read_pickle` found.

    Raises:
        DataError: it is none, or its shape does not fit its bytes.
    """
    match value:
        case _Array(
            shape=tuple(shape), type=_Type(code=("u1" | b"u1" | "|u1" | b"|u1")), raw=bytes() | bytearray() as raw
        ):
            sides = [side for side in shape if type(side) is int and side >= 0]
            count = 1
            for side in sides:
                count *= side
            if len(sides) == len(shape) and count == len(raw):
                return np.frombuffer(raw, np.uint8).reshape(sides, order="F" if value.column_major else "C")
            raise DataError(f"{where}: an array of shape {tuple(sides)} with {len(raw)} bytes. Download it again.")
    raise DataError(f"{where}: no array of bytes where one should be. Check what the file is.")


def _scan(data: bytes) -> None:
    """Read every opcode without running any; refuse what is not needed, and memo numbers that only serve to fill "
    "the memory."""
    stored = tuples = 0
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name not in OPCODES:
            raise _Refused(f"the opcode {opcode.name} at byte {position}")
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            stored += 1
            if not isinstance(argument, int) or argument > 2 * stored + 256:
                raise _Refused(f"an absurd memo number at byte {position}")
        tuples += opcode.name.startswith("TUPLE")
        if tuples > MOST_TUPLES:
            raise _Refused("a pile of tuples")
        if opcode.name == "GLOBAL" and tuple(str(argument).split(" ", 1)) not in NAMES:
            raise _Refused(f"the name {str(argument).replace(' ', '.')}")
