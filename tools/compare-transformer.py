#!/usr/bin/env python3
"""Trains a small modern transformer in PyTorch for some minutes, for comparison with the engine in equal time on equal cores.

  compare-transformer.py TRAIN.bin VALID.bin MINUTES [--vocabulary V --width D --layers L --heads H --batch B --window T --threads N]

Token files are raw 16-bit tokens. The model: RMS norm, rotary positions (Su et al. 2021), normalised queries and keys, squared ReLU (So et
al. 2021), an untied head. Muon (Jordan et al. 2024) trains the matrices, AdamW the rest; the rates rise for 100 steps, stay, and fall to
5 % over the second half of the time. Prints the loss on the whole held-out text, in nats per token, and the number of steps.
"""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def rotate(x):
    """Rotary positions: x [B, H, T, d], pairs (i, i + d/2)."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2])[:, None] * 10000.0 ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.mixed = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        for back in (self.out, self.down):
            nn.init.zeros_(back.weight)

    def forward(self, x):  # [B, T, D]
        batch, window, width = x.shape
        heads = lambda y: y.view(batch, window, self.heads, -1).transpose(1, 2)
        q, k, v = (heads(y) for y in self.mixed(F.rms_norm(x, (width,))).chunk(3, -1))
        q, k = (rotate(F.rms_norm(y, (y.shape[-1],))) for y in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, window, width))
        return x + self.down(F.relu(self.up(F.rms_norm(x, (width,)))).square())


class Transformer(nn.Module):
    def __init__(self, vocabulary, width, layers, heads):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, ids, targets):  # [B, T] each, targets of -1 do not count
        x = F.rms_norm(self.embedding(ids), (self.embedding.embedding_dim,))
        for block in self.blocks:
            x = block(x)
        logits = self.head(F.rms_norm(x, (x.shape[-1],)))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by five Newton-Schulz iterations (https://kellerjordan.github.io/posts/muon)."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                x = p.grad.lerp(momentum, 0.95)
                x = x / (x.norm() + 1e-7)
                wide = x if x.shape[0] <= x.shape[1] else x.T
                for _ in range(5):
                    square = wide @ wide.T
                    wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
                x = wide if x.shape[0] <= x.shape[1] else wide.T
                p.add_(x, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def held_out_loss(model, ids, batch, window):
    total = 0.0
    with torch.no_grad():
        windows = [ids[i : i + window + 1] for i in range(0, len(ids) - 1, window)]
        for i in range(0, len(windows), batch):
            rows = [F.pad(w, (0, window + 1 - len(w)), value=-1) for w in windows[i : i + batch]]
            tokens = torch.stack(rows)
            total += model(tokens[:, :-1].clamp(min=0), tokens[:, 1:]).item()
    return total / (len(ids) - 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("train"), parser.add_argument("valid"), parser.add_argument("minutes", type=float)
    for name, value in (("vocabulary", 4096), ("width", 192), ("layers", 6), ("heads", 3), ("batch", 16), ("window", 64), ("threads", 2)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--muon", type=float, default=0.02)
    parser.add_argument("--adam", type=float, default=4e-3)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    train, valid = (torch.from_numpy(np.fromfile(file, np.uint16).astype(np.int64)) for file in (o.train, o.valid))
    model = Transformer(o.vocabulary, o.width, o.layers, o.heads)
    matrices = [p for p in model.blocks.parameters()]
    optimizers = [Muon(matrices, o.muon), torch.optim.AdamW([model.embedding.weight, model.head.weight], o.adam, (0.9, 0.98), weight_decay=0)]
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    windows = (len(train) - 1) // o.window
    order, steps, begin, losses = [], 0, time.time(), []
    while (done := (time.time() - begin) / (60 * o.minutes)) < 1:
        if len(order) < o.batch:
            order = np.random.default_rng(steps).permutation(windows).tolist()
        starts = [order.pop() * o.window for _ in range(o.batch)]
        tokens = torch.stack([train[s : s + o.window + 1] for s in starts])
        loss = model(tokens[:, :-1], tokens[:, 1:]) / (o.batch * o.window)
        loss.backward()
        for optimizer, rate in zip(optimizers, rates):
            optimizer.param_groups[0]["lr"] = rate * min(1, (steps + 1) / 100) * (1 if done < 0.5 else max(0.05, 2 - 2 * done))
            optimizer.step()
            optimizer.zero_grad()
        steps += 1
        losses.append(loss.item())
        if steps % 200 == 0:
            print(f"step {steps}  loss {np.mean(losses[-200:]):.4f}  {steps * o.batch * o.window / (time.time() - begin):.0f} tokens/s", flush=True)
    seconds = time.time() - begin
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {steps} steps, {steps * o.batch * o.window:,} tokens in {seconds:.0f} s")
    print(f"held-out loss {held_out_loss(model, valid, o.batch, o.window):.4f} nats per token")


if __name__ == "__main__":
    main()
