"""The functions of python/functions.cpp, and what is passed to them."""

import ctypes
import operator
import os
from pathlib import Path
from typing import Any, Optional, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from neurogen._errors import Failed, Refused

PathLike = Union[str, "os.PathLike[str]"]

library = ctypes.CDLL(str(Path(__file__).with_name("_functions.so")))

NOT_SET = -(2**63)  # of an optional number


class NativeOptions(ctypes.Structure):
    """struct NativeOptions of python/functions.cpp."""

    _fields_ = [(name, ctypes.c_char_p) for name in ("architecture", "checkpoint", "init")]
    _fields_ += [("budget", ctypes.c_uint64)]
    _fields_ += [(name, ctypes.c_int64) for name in ("overhead", "batch", "window", "accumulate", "device", "gpu")]
    _fields_ += [(name, ctypes.c_int64) for name in ("compute", "decoder_storage")]
    _fields_ += [(name, ctypes.c_int64) for name in ("optimizer", "weights", "moments", "updates")]
    _fields_ += [(name, ctypes.c_int64) for name in ("threads", "document_end", "decoder_tile", "steps", "seed")]
    _fields_ += [(name, ctypes.c_double) for name in ("learning_rate", "synapse_rate", "table_rate", "decoder_rate")]
    _fields_ += [("warmup", ctypes.c_int64)]


class NativeSampling(ctypes.Structure):
    """struct Sampling of neurogen/recipe.h."""

    _fields_ = [
        ("temperature", ctypes.c_double),
        ("top_k", ctypes.c_int64),
        ("top_p", ctypes.c_double),
        ("min_p", ctypes.c_double),
        ("repetition_penalty", ctypes.c_double),
        ("seed", ctypes.c_int64),
    ]


_types = {"ptr": ctypes.c_void_p, "int": ctypes.c_int, "i64": ctypes.c_int64, "str": ctypes.c_char_p}


def _declare(result: Optional[str], name: str, arguments: str) -> None:
    function = getattr(library, "neurogen_" + name)
    function.restype = _types[result] if result else None
    function.argtypes = [_types[argument] for argument in arguments.split()]


for _name in ("text", "field", "version"):
    _declare("str", _name, "")
_declare("int", "parse_bytes", "str str ptr")
_declare(None, "default_options", "ptr")
_declare(None, "default_sampling", "ptr")
for _name in ("create", "create_plan"):
    _declare("int", _name, "ptr ptr")
for _name in ("destroy", "destroy_plan", "destroy_tokenizer"):
    _declare(None, _name, "ptr")
_declare("ptr", "plan", "ptr")
_declare(None, "plan_numbers", "ptr ptr")
for _name in ("plan_json", "plan_table", "plan_refusal", "device", "modules", "parameters"):
    _declare("str", _name, "ptr")
for _name in ("vocabulary", "embedding_width", "steps", "allocations", "tokenizer_vocabulary", "line_end", "document_end"):
    _declare("i64", _name, "ptr")
_declare("int", "train", "ptr ptr i64 ptr i64 ptr ptr")
_declare("int", "evaluate", "ptr ptr i64 ptr")
_declare("int", "losses", "ptr ptr i64 ptr i64 ptr i64")
_declare("int", "logits", "ptr ptr i64 ptr i64")
_declare("int", "begin", "ptr ptr i64 ptr")
_declare("int", "next", "ptr ptr")
_declare("int", "embedding_row", "ptr i64 ptr")
_declare("int", "read_embedding_row", "ptr i64 ptr i64")
_declare("int", "outputs", "ptr str ptr")
for _name in ("read_output", "read_parameter", "write_parameter"):
    _declare("int", _name, "ptr str ptr i64")
for _name in ("save", "export", "load", "create_tokenizer"):
    _declare("int", _name, "ptr str")
_declare("int", "encode", "ptr str i64 ptr ptr")
_declare("int", "decode", "ptr ptr i64 ptr ptr")


def check(outcome: int) -> None:
    """Raises Refused for a refusal, in which nothing was done, and Failed for a failure, with their sentence and field."""
    if outcome:
        sentence, field = library.neurogen_text().decode(errors="replace"), library.neurogen_field().decode()
        raise (Refused if outcome == 2 else Failed)(sentence, field)


def encoded(name: str, text: PathLike) -> bytes:
    """A path or another text without NUL."""
    found = os.fsencode(text)
    if b"\0" in found:
        raise Refused(f"{name} has a NUL character: leave it out", name)
    return found


def whole(name: str, number: int) -> int:
    """A number of 64 bits: ctypes would cut a longer one."""
    found = operator.index(number)
    if not -(2**63) <= found < 2**63:
        raise Refused(f"{name} is {found}: use a number of 64 bits", name)
    return found


def real(name: str, number: float) -> float:
    """A number, not a text that looks like one."""
    if isinstance(number, str):
        raise TypeError(f'{name} is "{number}": use a number')
    return float(number)


def size_in_bytes(name: str, size: Union[str, int]) -> int:
    """A number of bytes, or a text such as "3200M"."""
    parsed = ctypes.c_uint64()
    check(library.neurogen_parse_bytes(encoded(name, str(size)), name.encode(), ctypes.byref(parsed)))
    return parsed.value


def one_of(name: str, text: str, names: Tuple[str, ...]) -> int:
    """The place of a text among names."""
    if text not in names:
        raise Refused(f'{name} is "{text}": use {", ".join(names[:-1])} or {names[-1]}', name)
    return names.index(text)


def contiguous(name: str, values: Any, kind: str, writable: bool = False) -> NDArray[Any]:
    """The caller's array, in place: any object with a buffer of these numbers, contiguous, in any shape."""
    try:
        array = np.asarray(memoryview(values))
    except TypeError:
        array = np.empty(0, np.void)
    if array.dtype != kind or not array.flags.c_contiguous:
        raise TypeError(f"{name} is not a contiguous array of {kind}: make one with numpy.ascontiguousarray({name}, numpy.{kind})")
    if writable and not array.flags.writeable:
        raise Refused(f"{name} is read-only: give an array that can be written", name)
    return array
