"""Trains a language model, a brain or a transformer, inside a memory budget that is planned to the byte.

    engine = neurogen.Engine(arch="tiny", budget="400M", device="cpu", batch=8, window=64)
    loss = engine.train_step_batch(ids, next_ids)  # int32 arrays of [8, 64], contiguous

    ids = neurogen.Tokenizer("my.model").encode(text)
"""

from neurogen._brain import Engine, MemoryPlan
from neurogen._tokenizer import Tokenizer

__all__ = ["Engine", "MemoryPlan", "Tokenizer"]
