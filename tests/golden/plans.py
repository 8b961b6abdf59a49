#!/usr/bin/env python3
"""Compares every plan and the first losses of training with their record, plans.txt beside this file.

  plans.py BIN            compare; exit status 1 and the lines that differ if any does
  plans.py BIN --exact    compare losses and trained weights to the last bit: for a change that must not change arithmetic, on one machine
  plans.py BIN --record   write the record, after a change that is meant to change plans or losses

BIN is the folder of the built programs. A plan's line has preset, device, types and total bytes, and a hash of all of `plan --json`.
The plans of one preset, device and types are those of every schedule: each budget is one byte less than the plan before needed.
Other processors may add in another order, so that without --exact losses are compared to 1e-5 of their value.
"""
import hashlib
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

RECORD = pathlib.Path(__file__).with_name("plans.txt")
PRESETS = ("full", "small", "tiny")
TYPES = [("cpu", "fp32", "fp32")] + [("cuda", c, d) for c in ("fp32", "bf16", "fp16") for d in ("fp32", "16bit")]
RUNS = {"tiny": "--batch 4 --seq 64", "small": "--batch 1 --seq 32"}  # full takes a minute and four gigabytes


def plans(programs):
    for preset in PRESETS:
        for device, compute, decoder in TYPES:
            budget, minimum = 10**12, 0
            while budget >= minimum:
                command = f"plan --arch {preset} --device {device} --compute {compute} --decoder-storage {decoder} --threads 2"
                text = subprocess.run([f"{programs}/{command.split()[0]}", *command.split()[1:], "--overhead", "100M", "--budget",
                                       str(budget), "--json"], check=True, capture_output=True).stdout
                plan = json.loads(text)
                # The budget is in the JSON and differs with the plan before, but plans are compared by what they place.
                del plan["budget_bytes"]
                digest = hashlib.sha256(json.dumps(plan).encode()).hexdigest()[:16]
                yield f"plan {preset} {device} {compute} {decoder} {plan['total_bytes']} {digest}"
                budget, minimum = plan["total_bytes"] - 1, plan["minimum_budget_bytes"]


def losses(programs):
    numbers = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        for preset, size in RUNS.items():
            ids = [numbers.randrange(4096) for _ in range(8000)]
            data, log = f"{folder}/{preset}.bin", f"{folder}/{preset}.jsonl"
            pathlib.Path(data).write_bytes(struct.pack(f"<{len(ids)}H", *ids))
            command = f"train --arch {preset} --device cpu {size} --steps 10 --budget 4G --progress none"
            subprocess.run([f"{programs}/neurogen-engine", *command.split(), "--data", data, "--log", log, "--export",
                            f"{folder}/{preset}.safetensors"], check=True, capture_output=True, cwd=folder)
            for line in open(log):
                event = json.loads(line)
                if event["event"] == "step":
                    yield f"loss {preset} {event['step']} {event['loss']!r} {event['grad_norm']!r}"
            weights = pathlib.Path(f"{folder}/{preset}.safetensors").read_bytes()
            yield f"weights {preset} {hashlib.sha256(weights).hexdigest()[:16]}"


def same(line, recorded, exact):
    a, b = line.split(), recorded.split()
    if exact or a[0] == "plan":
        return line == recorded
    if a[0] == "weights":
        return a[:2] == b[:2]
    return a[:3] == b[:3] and all(abs(float(x) - float(y)) <= 1e-5 * abs(float(y)) for x, y in zip(a[3:], b[3:]))


programs, *how = pathlib.Path(sys.argv[1]).resolve(), *sys.argv[2:]
lines = [*plans(programs), *losses(programs)]
if how == ["--record"]:
    RECORD.write_text("\n".join(lines) + "\n")
    sys.exit()
recorded = RECORD.read_text().splitlines()
wrong = [(line, old) for line, old in zip(lines, recorded) if not same(line, old, how == ["--exact"])]
for line, old in wrong:
    print(f"was {old}\nis  {line}")
if len(lines) != len(recorded):
    print(f"{len(lines)} lines, the record has {len(recorded)}")
print(f"{len(recorded) - len(wrong)} of {len(recorded)} lines as recorded")
sys.exit(bool(wrong) or len(lines) != len(recorded))
