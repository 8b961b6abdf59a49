"""Trains a brain on a text's bytes, inspects it, and generates a continuation:  train.py [FILE [STEPS]]"""

import sys
from pathlib import Path

import numpy as np

import neurogen

file, steps = (sys.argv[1:] + [Path(__file__).parents[1] / "README.md", "200"][len(sys.argv) - 1 :])[:2]
text = np.fromfile(file, np.uint8).astype(np.int32)
train, held_out = np.split(text, [len(text) * 9 // 10])

# All memory is planned and allocated here; settings that do not fit raise ValueError with one sentence.
engine = neurogen.Engine(architecture="tiny", budget="400M", device="cpu", batch=4, window=64, steps=int(steps))
print(engine.memory_plan)
print(f"on {engine.device}; before: {engine.evaluate(held_out):.3f} nats a byte")

# A batch is two int32 arrays of batch x window tokens: inputs, and the tokens that follow them. They are read in place.
draw = np.random.default_rng(1)
for step in range(int(steps)):
    begin = draw.integers(0, len(train) - 65, 4)
    batch = np.stack([train[b : b + 65] for b in begin])
    done = engine.train_step_batch(np.ascontiguousarray(batch[:, :-1]), np.ascontiguousarray(batch[:, 1:]))
    if step % 50 == 49:
        print(f"step {step + 1}  loss {done.loss:.3f}  held out {engine.evaluate(held_out):.3f}")

# The modules' outputs for the latest batch, and the similarity of two letters' embeddings.
for module in engine.modules:
    out = engine.output(module)  # [batch, window, outputs]
    print(f"{module:14} {out.shape}  spread {out.std():.3f}")
a, e = engine.embedding_row(ord("a")), engine.embedding_row(ord("e"))
print(f"cosine of a and e: {a @ e / np.linalg.norm(a) / np.linalg.norm(e):.3f}")

print(bytes(held_out[:20].astype(np.uint8)), "->", end=" ")
for token in engine.generate(held_out[:20], 100, temperature=0.5):
    print(chr(token) if 32 <= token < 127 else "?", end="")
print()
print(f"allocations since construction: {engine.allocations_since_construction}")
