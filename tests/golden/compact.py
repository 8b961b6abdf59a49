#!/usr/bin/env python3
"""Makes the golden files of this folder from the float64 fixtures that the reference models in PyTorch write. Their three steps repeat
one batch at constant rates: 4e-3 by AdamW, 0.01 by Muon for a brain's synapses (kernels/muon.h, in float64) and 0.02 for the matrices of
`modern`, 0.02 for tables, 1e-3 for the decoder; `gpt2` and `llama` by AdamW alone, at 1e-3 with a decay of 0.1.

  compact.py fixture5.safetensors fixture5

writes fixture5.start.safetensors (parameters, wiring, batch: float32), fixture5.gradients.safetensors (every gradient of the
first step: float32) and fixture5.changes.safetensors (the changes of three steps: float16, scaled by each tensor's largest).
"""
import json
import struct
import sys

import numpy as np

TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I32": np.int32}
NAMES = {np.dtype(v): k for k, v in TYPES.items()}


def read(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + size])
    meta = head.pop("__metadata__")
    body = data[8 + size:]
    tensors = {k: np.frombuffer(body[t["data_offsets"][0]:t["data_offsets"][1]], TYPES[t["dtype"]]).reshape(t["shape"])
               for k, t in head.items()}
    return tensors, meta


def write(path, tensors, meta):
    head, blobs, offset = {"__metadata__": meta}, [], 0
    for name, t in tensors.items():
        t = np.ascontiguousarray(t)
        head[name] = {"dtype": NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + t.nbytes]}
        offset += t.nbytes
        blobs.append(t.tobytes())
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


source, name = sys.argv[1:]
tensors, meta = read(source)
parameters = [k[len("param."):] for k in tensors if k.startswith("param.")]
start = {k: t.astype(np.float32) if t.dtype == np.float64 else t for k, t in tensors.items()
         if k.startswith(("param.", "wiring.")) or k in ("ids", "targets", "features")}
write(f"{name}.start.safetensors", start, meta)
write(f"{name}.gradients.safetensors", {k: tensors["grad." + k].astype(np.float32) for k in parameters}, {})
changes, scales = {}, {}
for k in parameters:
    change = tensors["after3." + k] - tensors["param." + k]
    scale = float(np.abs(change).max()) or 1.0
    changes[k], scales[k] = (change / scale).astype(np.float16), repr(scale)
write(f"{name}.changes.safetensors", changes, scales)
