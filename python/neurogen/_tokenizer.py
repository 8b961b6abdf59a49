"""Text to token ids and back."""

import ctypes
import weakref

import numpy as np
from numpy.typing import NDArray

from neurogen._library import PathLike, check, contiguous, encoded, library


class Tokenizer:
    """Text to token ids and back with a SentencePiece model or a byte-level tokenizer.json: the ids that the program corpus writes.

    With a model from corpus train-tokenizer any text round-trips unchanged, and SentencePiece's own encode gives the same ids. With a
    tokenizer.json PyPI's tokenizers gives the same ids; special pieces in a text, such as <|im_end|>, are letters."""

    def __init__(self, path: PathLike) -> None:
        """Reads a SentencePiece model, a tokenizer.json or the folder that has it."""
        self._handle = ctypes.c_void_p()
        check(library.neurogen_create_tokenizer(ctypes.byref(self._handle), encoded("path", path)))
        weakref.finalize(self, library.neurogen_destroy_tokenizer, self._handle)

    @property
    def vocabulary(self) -> int:
        """Ids are below it."""
        return int(library.neurogen_tokenizer_vocabulary(self._handle))

    @property
    def line_end(self) -> int:
        """The id of a line end."""
        return int(library.neurogen_line_end(self._handle))

    @property
    def document_end(self) -> int:
        """The id that ends a document and decodes to no text, for Engine's document_end; -1: none."""
        return int(library.neurogen_document_end(self._handle))

    def encode(self, text: str, special: bool = False) -> NDArray[np.int32]:
        """Returns the ids of a text, int32. `special`: special pieces in it are themselves, not letters."""
        written = str.encode(text)
        first, count = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_int64()
        check(library.neurogen_encode(self._handle, written, len(written), special, ctypes.byref(first), ctypes.byref(count)))
        return np.ctypeslib.as_array(first, (count.value,)).copy() if count.value else np.empty(0, np.int32)

    def decode(self, ids: NDArray[np.int32]) -> str:
        """Returns the text of ids, int32; U+FFFD for bytes that are not UTF-8."""
        wanted = contiguous("ids", ids, "int32")
        text, count = ctypes.c_void_p(), ctypes.c_int64()
        check(library.neurogen_decode(self._handle, wanted.ctypes.data, wanted.size, ctypes.byref(text), ctypes.byref(count)))
        return ctypes.string_at(text, count.value).decode(errors="replace")
