#!/usr/bin/env python3
"""Adapters of a real model: PEFT (PyPI) computes from our adapter folder what this engine computes, and 20 steps of PyTorch from the same
first adapters, on the same tokens, give the same held-out loss. Prints both programs' tokens/s.

  peft_test.py BUILD FOLDER     FOLDER as in real_model.py; needs numpy, peft, torch and transformers
"""
import json
import os
import pathlib
import sys
import tempfile
import time

from fetch_model import fetched
from opt_in import SOURCE, engine, imported

neurogen, np, peft, torch, transformers = imported("neurogen", "numpy", "peft", "torch", "transformers")

BATCH, WINDOW, STEPS, RATE, WARMUP = 4, 128, 20, 1e-3, 5
torch.set_num_threads(2)


def trained(run, steps, rate):
    """Trains adapters in run/, with their folder in run.peft; returns the log's events."""
    engine("train", "--init", model, "--lora", 8, "--lr", rate, "--warmup", WARMUP, "--steps", steps, "--eval-every", 0, "--device", "cpu",
           "--threads", 2, "--batch", BATCH, "--seq", WINDOW, "--data", "train.bin", "--valid", "valid.bin", "--progress", "none",
           "--checkpoint-dir", run, "--log", f"{run}.jsonl")
    engine("export", "--checkpoint", run, "--adapter", f"{run}.peft")
    return [json.loads(line) for line in pathlib.Path(f"{run}.jsonl").read_text().splitlines()]


def with_adapter(run, trainable=False):
    base = transformers.AutoModelForCausalLM.from_pretrained("base", dtype=torch.float32)
    return peft.PeftModel.from_pretrained(base, f"{run}.peft", is_trainable=trainable)


def token_losses(torch_model, ids):
    """Nats of each token of whole windows, from the tokens before it in its window."""
    rows = [(ids[i:i + WINDOW], ids[i + 1:i + WINDOW + 1]) for i in range(0, len(ids) - WINDOW, WINDOW)]
    inputs, targets = (torch.tensor(np.array(part), dtype=torch.long) for part in zip(*rows))
    return torch.nn.functional.cross_entropy(torch_model(inputs).logits.flatten(0, 1), targets.flatten(), reduction="none")


def trained_by_torch(ids):
    """The recipe of docs/using.md: AdamW without decay, the gradient's norm limited to 1, warm-up, constant, linear decay."""
    torch_model = with_adapter("first", trainable=True).train()
    parameters = [p for p in torch_model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), eps=1e-8, weight_decay=0)
    begin = time.perf_counter()
    for step in range(STEPS):
        factor = min(1, (step + 1) / WARMUP) * (1 if step < STEPS / 2 else max(0.05, 2 - 2 * step / STEPS))
        optimizer.param_groups[0]["lr"] = RATE * factor
        optimizer.zero_grad()
        token_losses(torch_model, ids).mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1)
        optimizer.step()
    return torch_model.eval(), BATCH * WINDOW * STEPS / (time.perf_counter() - begin)


model = fetched(pathlib.Path(sys.argv[1]).resolve())
with tempfile.TemporaryDirectory() as name:
    os.chdir(name)
    engine("export", "--init", model, "--huggingface", "base")
    text = (SOURCE / "docs" / "using.md").read_text()
    ids = np.array(list(neurogen.Tokenizer(str(model)).encode(text)))
    train, valid = ids[:BATCH * WINDOW + 1], ids[BATCH * WINDOW + 1:3 * BATCH * WINDOW + 2]  # each step reads all of train
    for file, part in (("train.bin", train), ("valid.bin", valid)):
        part.astype("<u2").tofile(file)
    trained("first", 1, 0)  # changes nothing
    events = trained("run", STEPS, RATE)
    evaluations = [event["valid_loss"] for event in events if event["event"] == "eval"]
    ours, our_speed = evaluations[-1], events[-1]["tokens_per_s"]
    with torch.no_grad():
        loaded = token_losses(with_adapter("run").eval(), valid).numpy()
    engine("export", "--checkpoint", "run", "--merge", "--safetensors", "merged.safetensors")
    merged = neurogen.Engine(init="merged.safetensors", device="cpu", batch=2 * BATCH, window=WINDOW, budget="4G")
    own = merged.losses(valid[:-1].astype(np.int32), valid[1:].astype(np.int32)).reshape(-1)
    print(f"held-out loss {evaluations[0]:.6f} before, {ours:.6f} after {STEPS} steps, {loaded.mean():.6f} by PEFT from our folder; the "
          f"largest difference of a token is {np.abs(loaded - own).max():.6f}")
    torch_model, their_speed = trained_by_torch(train)
    with torch.no_grad():
        theirs = token_losses(torch_model, valid).mean().item()
    print(f"{theirs:.6f} after {STEPS} steps of PyTorch from the same first adapters")
    print(f"{our_speed:.0f} tokens/s by this engine, {their_speed:.0f} by PyTorch, 2 threads each")
    sys.exit(not (abs(ours - evaluations[0]) > 0.05 and np.abs(loaded - own).max() < 1e-3 and abs(loaded.mean() - ours) < 1e-4
                  and abs(theirs - ours) < 1e-2))
