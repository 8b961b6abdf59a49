"""What is given to an engine and what it reports."""

import ctypes
import dataclasses
from typing import Any, Mapping, Optional, TypedDict, Union

from neurogen._errors import Refused
from neurogen._library import NOT_SET, NativeOptions, NativeSampling, PathLike, encoded, library, one_of, real, size_in_bytes, whole


class Options(TypedDict, total=False):
    """Options of an engine, with their defaults.

    architecture ("auto"): "full", "small", "tiny" or a file; "auto": that of the weights, else full on a GPU, tiny on a CPU.
    budget ("3200M"): limit on all memory, such as "2.98Gi", or a number of bytes.
    overhead ("auto"): the part of it for libraries and heap; "auto": by the device.
    device ("auto"): "cpu", "cuda" or "cuda:K"; "auto": the first GPU if there is one.
    batch (32): sequences at once; "auto": as many of 32 as fit.
    accumulate (1): batches per step: their gradients are averaged before the update.
    window (256): tokens in a sequence.
    compute ("auto"): type of matrix products: "fp32", "bf16" or "fp16"; "auto": fp32 on a CPU, bf16 or fp16 on a GPU.
    decoder_storage ("auto"): type of the stored decoder: "fp32" or "16bit"; "auto": fp32 on a CPU, 16bit on a GPU.
    optimizer ("auto"): "muon" or "adamw"; "auto": as the weights were trained, else the model's own.
    logits ("auto"): products that give the logits in training: "compute", as all others, or "int8"; "auto": as trained, else int8 where it is faster.
    weights ("auto"): with adamw, matrices and tables stored as "fp32" or "16bit"; "auto": as they were trained, else fp32.
    moments ("auto"): likewise AdamW's moments, "fp32" or "8bit".
    updates ("auto"): likewise at the "end" of a step, or "backward", block by block, so that one block's gradients live at a time.
    threads (0): CPU threads; 0: one per core.
    document_end (None): token that ends a document; -1: none; None: as the weights were trained, else none.
    decoder_tile (1280): rows of the decoder updated together.
    checkpoint (""): resume from this file, or the newest in this directory.
    init (""): or take initial weights from this safetensors file or checkpoint.
    steps (0): length of the run; the rates decline after half of it. 0: the checkpoint's, else they never decline.
    seed (1): for initial weights and wiring.
    learning_rate (None): of vectors: biases, taps, gains, time constants; of everything under AdamW. None: the model's own.
    synapse_rate (None): of matrices, by Muon. None: the model's own.
    table_rate (0.25): of the embedding and its pairs.
    decoder_rate (1e-3): of the decoder.
    warmup (100): steps in which the rates rise."""

    architecture: PathLike
    budget: Union[str, int]
    overhead: Union[str, int]
    device: str
    batch: Union[str, int]
    accumulate: int
    window: int
    compute: str
    decoder_storage: str
    optimizer: str
    logits: str
    weights: str
    moments: str
    updates: str
    threads: int
    document_end: Optional[int]
    decoder_tile: int
    checkpoint: PathLike
    init: PathLike
    steps: int
    seed: int
    learning_rate: Optional[float]
    synapse_rate: Optional[float]
    table_rate: float
    decoder_rate: float
    warmup: int


class Sampling(TypedDict, total=False):
    """How tokens are drawn, with defaults.

    temperature (0.8): 0 takes the likeliest token, higher is bolder.
    top_k (0): draw from the K likeliest tokens; 0: all.
    top_p (1.0): draw from the likeliest tokens that together hold this share.
    min_p (0.0): draw from tokens at least this likely relative to the likeliest.
    repetition_penalty (1.0): above 1 discourages tokens that the text already has.
    seed (1): equal seeds give equal tokens."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Memory by purpose: sizes in bytes, exact. As text it is a table of all buffers.

    device_arena: the model, in GPU memory or ordinary memory. host_arena: batches and results. overhead: reserved for what no plan
    can place: libraries, heap, a GPU's context. total: sum of the three. budget: limit on the total. minimum: the smallest budget
    with which these settings run. batch, window: sequences at once, and tokens in each. accumulate: batches per step. fits: whether
    total is within the budget. json: every buffer. refusal: if it does not fit, a page with what is alive at the peak and settings that would fit."""

    device_arena: int
    host_arena: int
    overhead: int
    total: int
    budget: int
    minimum: int
    batch: int
    window: int
    accumulate: int
    fits: bool
    json: str = dataclasses.field(repr=False)
    refusal: str = dataclasses.field(repr=False)
    _table: str = dataclasses.field(repr=False)

    def __str__(self) -> str:
        """A table of all buffers."""
        return self._table


@dataclasses.dataclass(frozen=True)
class TrainingStepReport:
    """One training step.

    loss: mean nats per target, of the weights before the step. gradient_norm: before clipping, without the decoder. learning_rate:
    with warm-up and decline. skipped: with fp16, a gradient overflowed, and not everything was updated."""

    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: bool


def memory_plan(pointer: Optional[int]) -> MemoryPlan:
    """Copies a MemoryPlan of the library."""
    numbers = (ctypes.c_uint64 * 10)()
    library.neurogen_plan_numbers(pointer, numbers)
    json, refusal, table = (getattr(library, f"neurogen_plan_{text}")(pointer).decode() for text in ("json", "refusal", "table"))
    device, host, overhead, total, budget, minimum, batch, window, accumulate, fits = numbers
    return MemoryPlan(device, host, overhead, total, budget, minimum, batch, window, accumulate, bool(fits), json, refusal, table)


_OPTIONAL_CHOICES = {
    "optimizer": ("muon", "adamw"),
    "logits": ("compute", "int8"),
    "weights": ("fp32", "16bit"),
    "moments": ("fp32", "8bit"),
    "updates": ("end", "backward"),
}  # beside "auto"
_CHOICES = {"compute": ("auto", "fp32", "bf16", "fp16"), "decoder_storage": ("auto", "fp32", "16bit")}


def _check_names(values: Mapping[str, Any], known: Any) -> None:
    for name in values:
        if name not in known.__annotations__:
            raise TypeError(f"got an unexpected keyword argument '{name}'")


def _put(native: ctypes.Structure, values: Mapping[str, Any]) -> None:
    """Sets fields by name, each checked for its type."""
    kinds = {field[0]: field[1] for field in native._fields_}
    for name, value in values.items():
        if kinds[name] is ctypes.c_char_p:
            setattr(native, name, encoded(name, value))
        else:
            setattr(native, name, (real if kinds[name] is ctypes.c_double else whole)(name, value))


def native_sampling(sampling: Mapping[str, Any]) -> NativeSampling:
    """Sampling for the library."""
    _check_names(sampling, Sampling)
    native = NativeSampling()
    library.neurogen_default_sampling(ctypes.byref(native))
    _put(native, sampling)
    return native


def native_options(options: Mapping[str, Any]) -> NativeOptions:
    """Options for the library: texts become numbers."""
    _check_names(options, Options)
    native, given = NativeOptions(), dict(options)
    library.neurogen_default_options(ctypes.byref(native))
    if "budget" in given:
        native.budget = size_in_bytes("budget", given.pop("budget"))
    if given.get("overhead", "auto") == "auto":
        given.pop("overhead", None)
    else:
        given["overhead"] = size_in_bytes("overhead", given["overhead"])
    for name in ("document_end", "learning_rate", "synapse_rate"):
        if given.get(name, NOT_SET) is None:
            del given[name]
    for name in _OPTIONAL_CHOICES.keys() & given.keys():
        if given[name] == "auto":
            del given[name]
        else:
            given[name] = one_of(name, given[name], _OPTIONAL_CHOICES[name])
    if given.get("batch") == "auto":
        given["batch"] = 0
    if "device" in given:
        kind, colon, gpu = str(given["device"]).partition(":")
        if colon and not (kind == "cuda" and gpu.isdecimal()):
            raise Refused(f'device is "{kind}:{gpu}": use auto, cpu, cuda or cuda:K', "device")
        given["device"], given["gpu"] = one_of("device", kind, ("auto", "cpu", "cuda")), int(gpu or 0)
    for name in _CHOICES.keys() & given.keys():
        given[name] = one_of(name, given[name], _CHOICES[name])
    _put(native, given)
    return native
