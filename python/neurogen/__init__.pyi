from typing import Optional, Union

import numpy as np
from numpy.typing import NDArray

__all__ = ["Engine", "MemoryPlan"]

class MemoryPlan:
    @property
    def device_arena(self) -> int: ...
    @property
    def host_arena(self) -> int: ...
    @property
    def overhead(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def budget(self) -> int: ...
    @property
    def minimum(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def json(self) -> str: ...
    def __str__(self) -> str: ...

class Engine:
    def __init__(
        self,
        *,
        arch: str = "auto",
        budget: Union[str, int] = "3200M",
        device: str = "auto",
        batch: Union[str, int] = "32",
        window: int = 256,
        seed: int = 1,
        checkpoint: str = "",
        init: str = "",
        steps: int = 0,
        learning_rate: float = 0.004,
        embedding_rate: float = 0.03,
        decoder_rate: float = 0.001,
        warmup: int = 100,
        overhead: Union[str, int] = "auto",
        compute: str = "auto",
        decoder_storage: str = "auto",
        threads: int = 0,
        document_end: int = -1,
        decoder_tile: int = 1280,
    ) -> None: ...
    @property
    def plan(self) -> MemoryPlan: ...
    @property
    def device(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def embedding_width(self) -> int: ...
    @property
    def modules(self) -> list[str]: ...
    @property
    def steps(self) -> int: ...
    @property
    def allocations_since_construction(self) -> int: ...
    def train_step_batch(self, input_ids: NDArray[np.int32], target_ids: NDArray[np.int32]) -> float: ...
    def evaluate(self, ids: NDArray[np.int32]) -> float: ...
    def generate(
        self,
        prompt: NDArray[np.int32],
        max_tokens: int = 100,
        *,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 1,
    ) -> NDArray[np.int32]: ...
    def embedding_row(self, id: int) -> NDArray[np.float32]: ...
    def output(self, module: str, out: Optional[NDArray[np.float32]] = None) -> NDArray[np.float32]: ...
    def save(self, path: str) -> None: ...
    def load(self, path: str) -> None: ...
