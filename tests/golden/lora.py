#!/usr/bin/env python3
"""Makes lora.start, lora.gradients and lora.changes.safetensors of this folder with PyTorch (torch, safetensors and numpy, from PyPI), in
float64: adapters of rank 3 beside every matrix of the blocks of the golden llama, whose weights are in llama.start.safetensors.

  lora.py FOLDER

y = x W^T + b + alpha / rank (x A^T) B^T; neither A nor B is zero. Three steps of torch.optim.AdamW without decay repeat one batch at a
constant rate, the gradient's norm limited to 1. Values and gradients are float32, changes float16, scaled by each tensor's largest.
"""
import json
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).resolve().parent
RANK, ALPHA, RATE, LIMIT = 3, 7.5, 1e-3, 1.0
MATRICES = ("query", "key", "value", "attention_output", "gate", "up", "down")

with safe_open(FOLDER / "llama.start.safetensors", "pt") as file:
    shape = json.loads(file.metadata()["architecture"])
    frozen = {name[len("param."):]: file.get_tensor(name).double() for name in file.keys() if name.startswith("param.")}
    ids, targets = file.get_tensor("ids"), file.get_tensor("targets")
HEADS, GROUPS = shape["heads"], shape["kv_heads"]
WIDTH = shape["width"] // HEADS


def drawn(generator, *size):
    return (0.2 * torch.randn(size, generator=generator)).double().requires_grad_()


def first_adapters():
    generator, adapters = torch.Generator().manual_seed(11), {}
    for layer in range(shape["layers"]):
        for matrix in MATRICES:
            name = f"layers.{layer}.{matrix}.weight"
            out, into = frozen[name].shape
            adapters[name + ".lora_a"], adapters[name + ".lora_b"] = drawn(generator, RANK, into), drawn(generator, out, RANK)
    return adapters


def turned(x):  # [B, H, T, d]: rotary positions, pairs (i, i + d / 2)
    angle = torch.arange(x.shape[2])[:, None] * shape["theta"] ** (-2 * torch.arange(WIDTH // 2).double() / WIDTH)
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def features_of(adapters):
    def linear(name, x):
        name += ".weight"
        low = x @ adapters[name + ".lora_a"].T @ adapters[name + ".lora_b"].T
        return F.linear(x, frozen[name], frozen.get(name.replace(".weight", ".bias"))) + ALPHA / RANK * low

    def norm(name, x):
        return F.rms_norm(x, x.shape[-1:], frozen[name + ".gain"], shape["eps"])

    x = frozen["embedding.weight"][ids.long()]
    for layer in range(shape["layers"]):
        block = f"layers.{layer}."
        y = norm(block + "attention_norm", x)
        q, k, v = (linear(block + name, y).unflatten(-1, (-1, WIDTH)).transpose(1, 2) for name in ("query", "key", "value"))
        k, v = (each.repeat_interleave(HEADS // GROUPS, 1) for each in (turned(k), v))
        mixed = F.scaled_dot_product_attention(turned(q), k, v, is_causal=True)
        x = x + linear(block + "attention_output", mixed.transpose(1, 2).flatten(2))
        y = norm(block + "mlp_norm", x)
        x = x + linear(block + "down", F.silu(linear(block + "gate", y)) * linear(block + "up", y))
    return norm("final_norm", x)


adapters = first_adapters()
start = {"param." + name: value.detach().clone() for name, value in adapters.items()}
optimizer = torch.optim.AdamW(adapters.values(), lr=RATE, betas=(0.9, 0.98), eps=1e-8, weight_decay=0)
gradients, losses, norms = {}, [], []
for step in range(3):
    optimizer.zero_grad()
    features = features_of(adapters)
    loss = F.cross_entropy((features @ frozen["decoder.weight"].T).flatten(0, 1), targets.flatten().long())
    loss.backward()
    losses.append(loss.item())
    if step == 0:
        start["features"] = features.detach()
        gradients = {name: value.grad.float() for name, value in adapters.items()}
    norms.append(torch.nn.utils.clip_grad_norm_(adapters.values(), LIMIT).item())
    optimizer.step()

start = {name: value.float().contiguous() for name, value in start.items()} | {"ids": ids, "targets": targets}
changes, scales = {}, {}
for name, value in adapters.items():
    change = value.detach() - start["param." + name].double()
    scales[name] = repr(change.abs().max().item())
    changes[name] = (change / float(scales[name])).half()
out = pathlib.Path(sys.argv[1])
facts = {"architecture": shape, "losses": losses, "grad_norms": norms, "adam": RATE, "base": "llama", "rank": RANK, "alpha": ALPHA}
facts = {name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()}
save_file(start, out / "lora.start.safetensors", facts)
save_file(gradients, out / "lora.gradients.safetensors")
save_file(changes, out / "lora.changes.safetensors", scales)
