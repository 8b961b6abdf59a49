"""The functions of python/functions.cpp, and what is passed to them."""

import ctypes
import operator
import os
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

PathLike = Union[str, "os.PathLike[str]"]

library = ctypes.CDLL(str(Path(__file__).with_name("_functions.so")))

_types = {"ptr": ctypes.c_void_p, "int": ctypes.c_int, "i64": ctypes.c_int64, "str": ctypes.c_char_p, "f64": ctypes.c_double}


def _declare(result: Optional[str], name: str, arguments: str) -> None:
    function = getattr(library, "neurogen_" + name)
    function.restype = _types[result] if result else None
    function.argtypes = [_types[argument] for argument in arguments.split()]


_declare("str", "text", "")
_declare("int", "create", "ptr str str str str i64 i64 str str i64 f64 f64 f64 f64 i64 str str str str i64 ptr i64")
_declare(None, "destroy", "ptr")
_declare(None, "plan", "ptr ptr")
for _name in ("plan_json", "plan_table", "device", "modules"):
    _declare("str", _name, "ptr")
for _name in ("vocabulary", "embedding_width", "steps", "allocations", "tokenizer_vocabulary", "line_end", "document_end"):
    _declare("i64", _name, "ptr")
_declare("int", "train", "ptr ptr i64 ptr i64 ptr")
_declare("int", "evaluate", "ptr ptr i64 ptr")
_declare("int", "generate", "ptr ptr i64 ptr i64 f64 i64 f64 f64 f64 i64 ptr")
_declare("int", "embedding_row", "ptr i64 ptr")
_declare("int", "read_embedding_row", "ptr i64 ptr i64")
_declare("int", "outputs", "ptr str ptr")
_declare("int", "read_output", "ptr str ptr i64")
_declare("int", "save", "ptr str")
_declare("int", "load", "ptr str")
_declare("int", "create_tokenizer", "ptr str")
_declare(None, "destroy_tokenizer", "ptr")
_declare("int", "encode", "ptr str i64 ptr ptr")
_declare("int", "decode", "ptr ptr i64 ptr ptr")


def check(outcome: int) -> None:
    """Raises ValueError for a refusal, in which nothing was done, and RuntimeError for a failure, with their sentence."""
    if outcome:
        raise (ValueError if outcome == 2 else RuntimeError)(library.neurogen_text().decode(errors="replace"))


def encoded(text: PathLike) -> bytes:
    """A path or another text without NUL."""
    found = os.fsencode(text)
    if b"\0" in found:
        raise ValueError(f"{text!r} has a NUL character: leave it out")
    return found


def whole(name: str, number: int) -> int:
    """A number of 64 bits: ctypes would cut a longer one."""
    found = operator.index(number)
    if not -(2**63) <= found < 2**63:
        raise ValueError(f"{name} is {found}: use a number of 64 bits")
    return found


def contiguous(name: str, values: Any, kind: str, writable: bool = False) -> NDArray[Any]:
    """The caller's array, in place: any object with a buffer of these numbers, contiguous, in any shape."""
    try:
        array = np.asarray(memoryview(values))
    except TypeError:
        array = np.empty(0, np.void)
    if array.dtype != kind or not array.flags.c_contiguous:
        raise TypeError(f"{name} is not a contiguous array of {kind}: make one with numpy.ascontiguousarray({name}, numpy.{kind})")
    if writable and not array.flags.writeable:
        raise ValueError(f"{name} is read-only: give an array that can be written")
    return array
