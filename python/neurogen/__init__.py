"""Trains a language model, a brain or a transformer, inside a memory budget that is planned to the byte.

    with neurogen.Engine(architecture="tiny", budget="400M", device="cpu", batch=8, window=64) as engine:
        loss = engine.train_step_batch(ids, next_ids).loss  # int32 arrays of [8, 64], contiguous

    ids = neurogen.Tokenizer("my.model").encode(text)
"""

from neurogen._engine import Engine, Parameter
from neurogen._errors import Failed, Refused
from neurogen._library import library as _library
from neurogen._records import MemoryPlan, Options, Sampling, TrainingStepReport
from neurogen._tokenizer import Tokenizer

__all__ = ["Engine", "Failed", "MemoryPlan", "Options", "Parameter", "Refused", "Sampling", "Tokenizer", "TrainingStepReport"]
__version__ = str(_library.neurogen_version().decode())
