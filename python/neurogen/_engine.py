"""A language model in planned memory."""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from neurogen._errors import Refused
from neurogen._library import PathLike, check, contiguous, encoded, library, whole
from neurogen._records import MemoryPlan, Options, Sampling, TrainingStepReport, memory_plan, native_options, native_sampling

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Memory:
    """The library's engine: freed with the last that holds this."""

    def __init__(self, options: Options) -> None:
        self.pointer = ctypes.c_void_p()
        check(library.neurogen_create(ctypes.byref(self.pointer), ctypes.byref(native_options(options))))
        weakref.finalize(self, library.neurogen_destroy, self.pointer)


class Engine:
    """A language model in planned memory.

    The constructor allocates everything. It raises Refused, a ValueError with one sentence, for options that are invalid or do not
    fit into the budget. Ids are contiguous int32 arrays, read in place. An invalid argument raises Refused or TypeError and changes
    nothing; a failure at run time (a full disk, a loss that is not finite) raises Failed, a RuntimeError. Threads may share an
    engine: calls run one at a time, while other threads run Python."""

    def __init__(self, **options: Unpack[Options]) -> None:
        """Plans, allocates and initializes. neurogen.Options explains the options."""
        self._busy = threading.Lock()
        self._texts = 0  # begun by generate
        self._memory: Optional[_Memory] = None  # while open
        self._memory = _Memory(options)
        self._plan = memory_plan(library.neurogen_plan(self._memory.pointer))

    @staticmethod
    def plan(**options: Unpack[Options]) -> MemoryPlan:
        """What an engine would take, without taking it. The device need not be present."""
        made = ctypes.c_void_p()
        check(library.neurogen_create_plan(ctypes.byref(made), ctypes.byref(native_options(options))))
        try:
            return memory_plan(made.value)
        finally:
            library.neurogen_destroy_plan(made)

    def close(self) -> None:
        """Frees the memory, once no view of an embedding row is left. Any other call then raises Refused."""
        with self._busy:
            self._memory = None

    def __enter__(self) -> Engine:
        """Returns the engine."""
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the engine."""
        self.close()

    def __repr__(self) -> str:
        """Device, step size and memory."""
        if self._memory is None:
            return "<neurogen.Engine, closed>"
        plan = self._plan
        batches = f"{plan.accumulate} x " if plan.accumulate > 1 else ""
        step = f"{batches}{plan.batch} x {plan.window} tokens a step"
        return f"<neurogen.Engine on {self.device}: {step}, {self._plan.total} bytes, step {self.steps}>"

    def _ask(self, function: Any, *arguments: Any) -> Any:
        with self._busy:
            return function(self._open().pointer, *arguments)

    def _call(self, function: Any, *arguments: Any) -> None:
        check(self._ask(function, *arguments))

    def _open(self) -> _Memory:
        if self._memory is None:
            raise Refused("the engine is closed: make another")
        return self._memory

    def _of_batch(self, *values: int) -> NDArray[np.float32]:
        """Room for values of every token of a batch."""
        return np.empty((self._plan.batch, self._plan.window, *values), np.float32)

    @property
    def memory_plan(self) -> MemoryPlan:
        """Memory by purpose; print it for the table."""
        self._open()
        return self._plan

    @property
    def device(self) -> str:
        """Such as "cpu, 2 threads" or "NVIDIA H200"."""
        return str(self._ask(library.neurogen_device).decode())

    @property
    def vocabulary(self) -> int:
        """Ids are below it."""
        return int(self._ask(library.neurogen_vocabulary))

    @property
    def embedding_width(self) -> int:
        """Elements of an embedding_row."""
        return int(self._ask(library.neurogen_embedding_width))

    @property
    def modules(self) -> list[str]:
        """The modules whose outputs can be read, in order of computation."""
        return [str(name) for name in self._ask(library.neurogen_modules).decode().split(",")[:-1]]

    @property
    def steps(self) -> int:
        """Number of steps done."""
        return int(self._ask(library.neurogen_steps))

    @property
    def allocations_since_construction(self) -> int:
        """Allocations by the engine's own code since construction: only load, writing parameters, export and errors allocate."""
        return int(self._ask(library.neurogen_allocations))

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters by name, in canonical order."""
        lines = self._ask(library.neurogen_parameters).decode().splitlines()
        found = [(name, tuple(int(size) for size in shape)) for name, *shape in map(str.split, lines)]
        return {name: Parameter(self, name, shape) for name, shape in found}

    def train_step_batch(self, input_ids: NDArray[np.int32], target_ids: NDArray[np.int32]) -> TrainingStepReport:
        """Trains one step on int32 [accumulate * batch, window].

        Targets are the tokens that follow; -1 is not counted."""
        inputs, targets = contiguous("input_ids", input_ids, "int32"), contiguous("target_ids", target_ids, "int32")
        numbers, skipped = (ctypes.c_double * 3)(), ctypes.c_int()
        batch = inputs.ctypes.data, inputs.size, targets.ctypes.data, targets.size
        self._call(library.neurogen_train, *batch, numbers, ctypes.byref(skipped))
        loss, norm, rate = numbers
        return TrainingStepReport(loss, norm, rate, bool(skipped.value))

    def evaluate(self, ids: NDArray[np.int32]) -> float:
        """Returns a text's mean loss in nats per token; every token but the first is predicted once."""
        text = contiguous("ids", ids, "int32")
        loss = ctypes.c_double()
        self._call(library.neurogen_evaluate, text.ctypes.data, text.size, ctypes.byref(loss))
        return loss.value

    def losses(
        self, input_ids: NDArray[np.int32], target_ids: NDArray[np.int32], out: Optional[NDArray[np.float32]] = None
    ) -> NDArray[np.float32]:
        """Returns the loss of every target in nats, float32 [batch, window], 0 where it is -1. Does not train.

        Writes into `out` if given."""
        inputs, targets = contiguous("input_ids", input_ids, "int32"), contiguous("target_ids", target_ids, "int32")
        to = self._of_batch() if out is None else out
        memory = contiguous("out", to, "float32", writable=True)
        batch = inputs.ctypes.data, inputs.size, targets.ctypes.data, targets.size
        self._call(library.neurogen_losses, *batch, memory.ctypes.data, memory.size)
        return to

    def logits(self, input_ids: NDArray[np.int32], out: Optional[NDArray[np.float32]] = None) -> NDArray[np.float32]:
        """Returns the logits of the token after each input, float32 [batch, window, vocabulary].

        Writes into `out` if given."""
        inputs = contiguous("input_ids", input_ids, "int32")
        to = self._of_batch(self.vocabulary) if out is None else out
        memory = contiguous("out", to, "float32", writable=True)
        self._call(library.neurogen_logits, inputs.ctypes.data, inputs.size, memory.ctypes.data, memory.size)
        return to

    def generate(self, prompt: NDArray[np.int32], max_tokens: int = 100, **sampling: Unpack[Sampling]) -> Iterator[int]:
        """Continues a prompt, int32 [tokens], and returns an iterator of tokens, each drawn when it is asked for.

        neurogen.Sampling explains the other arguments. Ends after max_tokens or after document_end. Equal weights, prompts and
        settings give equal tokens. Other calls may come between, but an engine generates one text at a time: an iterator raises
        Refused once another has been begun."""
        most = whole("max_tokens", max_tokens)
        if most < 0:
            raise Refused(f"max_tokens is {most}: use 0 or more", "max_tokens")
        before, native = contiguous("prompt", prompt, "int32"), native_sampling(sampling)
        with self._busy:
            check(library.neurogen_begin(self._open().pointer, before.ctypes.data, before.size, ctypes.byref(native)))
            self._texts += 1
            return self._tokens(self._texts, most)

    def generate_many(
        self, prompts: Iterable[NDArray[np.int32]], max_tokens: int = 100, **sampling: Unpack[Sampling]
    ) -> Iterator[Tuple[int, int]]:
        """Continues several prompts, one after the other, and yields each token with the index of its prompt.

        Every prompt gets the tokens that it would get alone. A prompt is checked when its turn comes."""
        for index, prompt in enumerate(prompts):
            for token in self.generate(prompt, max_tokens, **sampling):
                yield index, token

    def _tokens(self, text: int, most: int) -> Iterator[int]:
        token = ctypes.c_int32()
        for _ in range(most):
            with self._busy:
                if text != self._texts:
                    raise Refused("another text has been begun on this engine: read a text to its end before the next")
                check(library.neurogen_next(self._open().pointer, ctypes.byref(token)))
            if token.value < 0:
                return
            yield token.value

    def embedding_row(self, id: int) -> NDArray[np.float32]:
        """Returns a read-only view of a token's embedding row, float32; it changes with every step.

        Raises Refused on a GPU, whose memory the host cannot read: see read_embedding_row."""
        row, width = ctypes.c_void_p(), self.embedding_width
        with self._busy:
            held = self._open()
            check(library.neurogen_embedding_row(held.pointer, whole("id", id), ctypes.byref(row)))
        memory: Any = (ctypes.c_float * width).from_address(row.value or 0)
        memory.held = held  # kept alive by the view
        view: NDArray[np.float32] = np.frombuffer(memory, np.float32)
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
        name, outputs = encoded("module", module), ctypes.c_int64()
        self._call(library.neurogen_outputs, name, ctypes.byref(outputs))
        to = self._of_batch(outputs.value) if out is None else out
        memory = contiguous("out", to, "float32", writable=True)
        self._call(library.neurogen_read_output, name, memory.ctypes.data, memory.size)
        return to

    def save(self, path: PathLike) -> None:
        """Writes a checkpoint atomically: if it fails, an existing file stays."""
        self._call(library.neurogen_save, encoded("path", path))

    def export_weights(self, path: PathLike) -> None:
        """Writes parameters, wiring and the weights' tokenizer as a safetensors file, atomically."""
        self._call(library.neurogen_export, encoded("path", path))

    def load(self, path: PathLike) -> None:
        """Resumes from a checkpoint of this architecture, or from the newest in a directory."""
        self._call(library.neurogen_load, encoded("path", path))


class Parameter:
    """A parameter of an engine: name, shape and values.

    Writing rounds to the stored type and keeps the optimizer's state."""

    def __init__(self, engine: Engine, name: str, shape: Tuple[int, ...]) -> None:
        """Engine.parameters makes them."""
        self.name, self.shape = name, shape
        self._engine = engine

    def __repr__(self) -> str:
        """Name and shape."""
        return f"<neurogen.Parameter {self.name} {list(self.shape)}>"

    def read(self, out: Optional[NDArray[np.float32]] = None) -> NDArray[np.float32]:
        """Returns a copy of the values, float32. Writes into `out` if given."""
        to = np.empty(self.shape, np.float32) if out is None else out
        memory = contiguous("out", to, "float32", writable=True)
        self._engine._call(library.neurogen_read_parameter, self.name.encode(), memory.ctypes.data, memory.size)
        return to

    def write(self, values: NDArray[np.float32]) -> None:
        """Replaces the values: float32, contiguous, finite."""
        memory = contiguous("values", values, "float32")
        self._engine._call(library.neurogen_write_parameter, self.name.encode(), memory.ctypes.data, memory.size)
