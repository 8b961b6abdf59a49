"""Trains a brain-shaped language model inside a memory budget that is planned to the byte.

    engine = neurogen.Engine(arch="tiny", budget="400M", device="cpu", batch=8, window=64)
    loss = engine.train_step_batch(ids[:, :-1], ids[:, 1:])
"""

from neurogen._engine import Engine, MemoryPlan

__all__ = ["Engine", "MemoryPlan"]
