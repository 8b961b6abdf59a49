#!/usr/bin/env python3
"""A real model, left to itself: generate --temperature 0 makes from a GGUF file the tokens that llama.cpp makes from it, 64 from each of
three prompts. Up to two tokens whose logits differ by less than LIMIT, either may be taken. llama.cpp also rounds what it multiplies to
the type of the weights, q8_0 most: where that decides, llama.cpp must take this engine's tokens from the same numbers in f32.

  greedy_test.py BUILD FOLDER     FOLDER as in real_model.py; needs numpy, neurogen's module and xllamacpp
"""
import pathlib
import sys
import tempfile

from fetch_model import fetched
from opt_in import engine, imported

neurogen, np, _ = imported("neurogen", "numpy", "xllamacpp")
from llama_cpp import LlamaCpp

COUNT, LIMIT = 64, 1e-2
PROMPTS = ("The history of Paris begins", "Once upon a time there was a", "To sort a list of numbers, one can")


def ours(file, prompt):
    lines = engine("generate", "--init", file, "--device", "cpu", "--prompt", prompt, "--temperature", 0, "--max-tokens", COUNT, "--logprobs")
    return [int(line.split()[1]) for line in lines.splitlines()]


def difference(file, ids, tokens):
    """Of this engine's logits of two tokens behind ids."""
    logits = neurogen.Engine(init=str(file), device="cpu", batch=1, window=len(ids), budget="4G").logits(np.array([ids], dtype=np.int32))
    return abs(np.subtract(*logits.reshape(len(ids), -1)[-1, tokens]))


def same(made, theirs):
    return next((i for i, pair in enumerate(zip(made, theirs)) if pair[0] != pair[1]), len(made))


def agree(file, ids, made, theirs):
    """Whether these are the same tokens, but for a choice between two of almost equal logits; and in words."""
    at = same(made, theirs)
    if at == len(made):
        return True, f"{at} of {at}"
    apart = difference(file, ids + made[:at], [made[at], theirs[at]])
    words = [neurogen.Tokenizer(str(file)).decode(np.array([tokens[at]], dtype=np.int32)) for tokens in (made, theirs)]
    return apart < LIMIT, f"{at} of {len(made)} (then {words[0]!r}, not {words[1]!r}: the logits differ by {apart:.6f})"


model, right = fetched(pathlib.Path(sys.argv[1]).resolve()), True
with tempfile.TemporaryDirectory() as directory:
    for kind in ("f16", "bf16", "q8_0"):
        file, wide = (pathlib.Path(directory) / f"{name}.gguf" for name in (kind, kind + "-f32"))
        engine("export", "--init", model, "--gguf", file, "--type", kind)
        engine("export", "--init", file, "--gguf", wide)
        llama, llama_wide, tokenizer = LlamaCpp(file), LlamaCpp(wide), neurogen.Tokenizer(str(file))
        for prompt in PROMPTS:
            ids = list(tokenizer.encode(prompt))
            assert llama.encode(prompt) == ids
            made = ours(file, prompt)
            alike, told = agree(file, ids, made, llama.greedy(ids, COUNT))
            if not alike:
                alike, told_wide = agree(file, ids, made, llama_wide.greedy(ids, COUNT))
                told += f"; from the same numbers in f32 {told_wide}"
            print(f"{kind}: tokens that llama.cpp makes as well behind \"{prompt}\": {told}")
            right = right and alike and len(made) == COUNT
sys.exit(not right)
