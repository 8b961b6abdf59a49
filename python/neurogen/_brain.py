"""A model in planned memory."""

import ctypes
import dataclasses
import threading
import weakref
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from neurogen._library import PathLike, check, contiguous, encoded, library, whole


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Memory by purpose: sizes in bytes, exact. As text it is a table of all buffers.

    device_arena: the model, in GPU memory or ordinary memory. host_arena: batches and results. overhead: reserved for what no plan
    can place: libraries, heap, a GPU's context. total: sum of the three. budget: limit on the total. minimum: the smallest budget
    with which these settings run. batch, window: sequences per step, and tokens in each. json: every buffer."""

    device_arena: int
    host_arena: int
    overhead: int
    total: int
    budget: int
    minimum: int
    batch: int
    window: int
    json: str = dataclasses.field(repr=False)
    _table: str = dataclasses.field(repr=False)

    def __str__(self) -> str:
        """A table of all buffers."""
        return self._table


class Engine:
    """A model in planned memory.

    The constructor allocates everything. It raises ValueError, with one sentence, for settings that are invalid or do not fit into
    the budget. Ids are contiguous int32 arrays, read in place. An invalid argument raises ValueError or TypeError and changes
    nothing; a failure at run time (a full disk, a loss that is not finite) raises RuntimeError. Threads may share an engine: calls
    run one at a time, while other threads run Python."""

    def __init__(
        self,
        *,
        arch: PathLike = "auto",
        budget: Union[str, int] = "3200M",
        device: str = "auto",
        batch: Union[str, int] = "32",
        window: int = 256,
        seed: int = 1,
        checkpoint: PathLike = "",
        init: PathLike = "",
        steps: int = 0,
        learning_rate: Optional[float] = None,
        synapse_rate: Optional[float] = None,
        table_rate: float = 0.25,
        decoder_rate: float = 1e-3,
        warmup: int = 100,
        overhead: Union[str, int] = "auto",
        compute: str = "auto",
        decoder_storage: str = "auto",
        optimizer: str = "auto",
        threads: int = 0,
        document_end: Optional[int] = None,
        decoder_tile: int = 1280,
    ) -> None:
        """Plans, allocates and initializes.

        arch: a preset, such as "tiny", or an architecture file; "auto": full on a GPU, tiny on a CPU, or that of the weights.
        budget: limit on all memory, such as "3200M" or a number of bytes; overhead: the part of it for libraries and heap.
        device: "auto", "cpu" or "cuda[:K]". batch, window: sequences per step and tokens in each; batch "auto" takes as many of 32
        as fit. checkpoint: a file, or a directory (its newest), to resume from. init: initial weights, from a safetensors file or a
        checkpoint. steps: the run's length; the rates decline after half of it. 0: the checkpoint's, else they never decline.
        optimizer: "auto", "muon" or "adamw" (a transformer's); learning_rate, synapse_rate: None for the model's own."""
        self._handle = ctypes.c_void_p()
        self._busy = threading.Lock()
        end = None if document_end is None else ctypes.byref(ctypes.c_int64(whole("document_end", document_end)))
        texts = [encoded(str(text)) for text in (budget, device, batch)]
        run = whole("window", window), whole("seed", seed), encoded(checkpoint), encoded(init), whole("steps", steps)
        usual = [float("nan") if rate is None else float(rate) for rate in (learning_rate, synapse_rate)]
        rates = *usual, float(table_rate), float(decoder_rate), whole("warmup", warmup)
        types = [encoded(str(text)) for text in (overhead, compute, decoder_storage, optimizer)]
        rest = whole("threads", threads), end, whole("decoder_tile", decoder_tile)
        check(library.neurogen_create(ctypes.byref(self._handle), encoded(arch), *texts, *run, *rates, *types, *rest))
        weakref.finalize(self, library.neurogen_destroy, self._handle)

    def _call(self, function: Any, *arguments: Any) -> None:
        with self._busy:
            check(function(self._handle, *arguments))

    @property
    def plan(self) -> MemoryPlan:
        """Memory by purpose; print it for the table."""
        numbers = (ctypes.c_int64 * 8)()
        library.neurogen_plan(self._handle, numbers)
        texts = [function(self._handle).decode() for function in (library.neurogen_plan_json, library.neurogen_plan_table)]
        return MemoryPlan(*numbers, *texts)

    @property
    def device(self) -> str:
        """Such as "cpu, 2 threads" or "NVIDIA H200"."""
        return str(library.neurogen_device(self._handle).decode())

    @property
    def vocabulary(self) -> int:
        """Ids are below it."""
        return int(library.neurogen_vocabulary(self._handle))

    @property
    def embedding_width(self) -> int:
        """Elements of an embedding_row."""
        return int(library.neurogen_embedding_width(self._handle))

    @property
    def modules(self) -> list[str]:
        """The modules whose outputs can be read, in order of computation."""
        return [str(name) for name in library.neurogen_modules(self._handle).decode().split(",")[:-1]]

    @property
    def steps(self) -> int:
        """Number of steps done."""
        with self._busy:
            return int(library.neurogen_steps(self._handle))

    @property
    def allocations_since_construction(self) -> int:
        """Number of allocations by the engine's own code since construction; only load and errors allocate."""
        return int(library.neurogen_allocations(self._handle))

    def train_step_batch(self, input_ids: NDArray[np.int32], target_ids: NDArray[np.int32]) -> float:
        """Trains one step on int32 [batch, window].

        Targets are the tokens that follow; -1 is not counted. Returns the mean loss in nats per target, of the weights before the
        step."""
        inputs, targets = contiguous("input_ids", input_ids, "int32"), contiguous("target_ids", target_ids, "int32")
        loss = ctypes.c_double()
        self._call(library.neurogen_train, inputs.ctypes.data, inputs.size, targets.ctypes.data, targets.size, ctypes.byref(loss))
        return loss.value

    def evaluate(self, ids: NDArray[np.int32]) -> float:
        """Returns a text's mean loss in nats per token; every token but the first is predicted once."""
        text = contiguous("ids", ids, "int32")
        loss = ctypes.c_double()
        self._call(library.neurogen_evaluate, text.ctypes.data, text.size, ctypes.byref(loss))
        return loss.value

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
    ) -> NDArray[np.int32]:
        """Continues a prompt, int32 [tokens], and returns int32 [generated].

        Stops after max_tokens or after document_end. temperature 0 takes the likeliest token; top_k 0, top_p 1, min_p 0 and
        repetition_penalty 1 have no effect. Equal weights, prompts and settings give equal tokens."""
        most = whole("max_tokens", max_tokens)
        if not 0 <= most <= 1_000_000_000:
            raise ValueError(f"max_tokens is {most}: use 0 to 1000000000")
        before, said, made = contiguous("prompt", prompt, "int32"), np.empty(most, np.int32), ctypes.c_int64()
        shares = float(top_p), float(min_p), float(repetition_penalty)
        sampling = float(temperature), whole("top_k", top_k), *shares, whole("seed", seed)
        arrays = before.ctypes.data, before.size, said.ctypes.data, said.size
        self._call(library.neurogen_generate, *arrays, *sampling, ctypes.byref(made))
        return said[: made.value]

    def embedding_row(self, id: int) -> NDArray[np.float32]:
        """Returns a read-only view of a token's embedding row, float32; it changes with every step.

        Raises ValueError on a GPU, whose memory the host cannot read: see read_embedding_row."""
        row = ctypes.c_void_p()
        self._call(library.neurogen_embedding_row, whole("id", id), ctypes.byref(row))
        memory = (ctypes.c_float * self.embedding_width).from_address(row.value or 0)
        memory.engine = self  # kept alive by the view
        view = np.frombuffer(memory, np.float32)
        view.flags.writeable = False
        return view

    def read_embedding_row(self, id: int, out: Optional[NDArray[np.float32]] = None) -> NDArray[np.float32]:
        """Returns a copy of a token's embedding row, float32 [embedding_width], on a CPU or a GPU.

        Writes into `out` if given."""
        to = np.empty(self.embedding_width, np.float32) if out is None else out
        memory = contiguous("out", to, "float32", writable=True)
        self._call(library.neurogen_read_embedding_row, whole("id", id), memory.ctypes.data, memory.size)
        return to

    def output(self, module: str, out: Optional[NDArray[np.float32]] = None) -> NDArray[np.float32]:
        """Returns a module's outputs, float32 [batch, window, outputs].

        Computed for the latest batch with the current weights. Writes into `out` if given."""
        name, outputs = encoded(module), ctypes.c_int64()
        self._call(library.neurogen_outputs, name, ctypes.byref(outputs))
        plan = self.plan
        to = np.empty((plan.batch, plan.window, outputs.value), np.float32) if out is None else out
        memory = contiguous("out", to, "float32", writable=True)
        self._call(library.neurogen_read_output, name, memory.ctypes.data, memory.size)
        return to

    def save(self, path: PathLike) -> None:
        """Writes a checkpoint atomically: if it fails, an existing file stays."""
        self._call(library.neurogen_save, encoded(path))

    def load(self, path: PathLike) -> None:
        """Resumes from a checkpoint of this architecture, or from the newest in a directory."""
        self._call(library.neurogen_load, encoded(path))
