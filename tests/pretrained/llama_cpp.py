import ctypes
import importlib.util
import pathlib
import unittest

import numpy as np


class LlamaCpp:
    """A model in llama.cpp, by the C interface that xllamacpp's library exports. Its structures of parameters differ between versions:
    they are taken as it makes them, with room to spare."""

    library = None

    class Parameters(ctypes.Structure):
        _fields_ = [("bytes", ctypes.c_uint8 * 1024)]

    def __init__(self, path):
        if not LlamaCpp.library:
            found = importlib.util.find_spec("xllamacpp")
            if not found:
                raise unittest.SkipTest("there is no xllamacpp")
            c = LlamaCpp.library = ctypes.CDLL(str(next(pathlib.Path(found.origin).parent.glob("xllamacpp*.so"))))
            for name in ("llama_model_default_params", "llama_context_default_params", "llama_batch_get_one"):
                getattr(c, name).restype = self.Parameters
            c.llama_model_load_from_file.restype = c.llama_init_from_model.restype = c.llama_model_get_vocab.restype = ctypes.c_void_p
            c.llama_model_load_from_file.argtypes = [ctypes.c_char_p, self.Parameters]
            c.llama_init_from_model.argtypes = c.llama_decode.argtypes = [ctypes.c_void_p, self.Parameters]
            c.llama_get_logits.argtypes = c.llama_free.argtypes = c.llama_model_free.argtypes = [ctypes.c_void_p]
            c.llama_model_get_vocab.argtypes = c.llama_vocab_n_tokens.argtypes = [ctypes.c_void_p]
            c.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool,
                                         ctypes.c_bool]
            c.llama_get_logits.restype = ctypes.POINTER(ctypes.c_float)
            LlamaCpp.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
            c.llama_log_set(LlamaCpp.quiet, None)
            c.llama_backend_init()
        c = LlamaCpp.library
        self.model = c.llama_model_load_from_file(str(path).encode(), c.llama_model_default_params())
        if not self.model:
            raise AssertionError(f"llama.cpp does not load {path}")
        self.pieces = c.llama_model_get_vocab(self.model)
        self.vocabulary = c.llama_vocab_n_tokens(self.pieces)

    def encode(self, text, begins=False):
        text = text.encode()
        room = (ctypes.c_int32 * (len(text) + 1))()
        count = LlamaCpp.library.llama_tokenize(self.pieces, text, len(text), room, len(room), begins, False)
        return list(room[:count])

    def rows(self, tokens):
        """The logits behind each token, which may be given when those before are known."""
        c = LlamaCpp.library
        context = c.llama_init_from_model(self.model, c.llama_context_default_params())
        for token in tokens:
            assert c.llama_decode(context, c.llama_batch_get_one((ctypes.c_int32 * 1)(token), 1)) == 0
            yield np.ctypeslib.as_array(c.llama_get_logits(context), (self.vocabulary,)).copy()
        c.llama_free(context)

    def logits(self, tokens):
        return np.array(list(self.rows(tokens)))

    def greedy(self, prompt, count):
        """The most probable tokens behind a prompt, each behind those before."""
        made = []

        def read():
            yield from prompt
            for i in range(count - 1):
                yield made[i]

        for place, row in enumerate(self.rows(read()), 1):
            if place >= len(prompt):
                made.append(int(row.argmax()))
        return made
