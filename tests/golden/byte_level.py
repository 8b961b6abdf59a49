#!/usr/bin/env python3
"""Writes tests/golden/byte-level.json: a small tokenizer.json, trained here, and the ids that PyPI's `tokenizers` gives with it for
each way to cut words: {"tokenizer": ..., "kinds": {kind: {"pre_tokenizer", "normalizer", "ignore_merges", "plain", "special"}},
"texts": [...]}. "plain": special pieces in the text are letters.

  byte_level.py SOURCE     needs Python's tokenizers
"""
import json
import pathlib
import sys

source = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(source / "tests/python"))
from nasty_strings import KINDS, strings, trained
from tokenizers import Tokenizer

learned = ["".join(strings(300, seed=2)), "the tokenizer don't we'll they've 2024 naïve "] * 3
base = json.loads(trained("gpt2", [*learned, "Text is learned from the words of a text, the more the better.\n"] * 4, 500).to_str())
texts = [text for text in strings(400, seed=3) if 0 < len(text.encode()) < 40][:90]
texts += ["", "it's 1234 o'CLOCK,  don't\n\n\tgo  <|im_start|>user\nHi   there 7!<|im_end|>\r\n", "  \n x \n\n"]
kinds = {}
for kind in KINDS:
    made = json.loads(trained(kind, ["x"], 300).to_str())
    parts = {"pre_tokenizer": made["pre_tokenizer"], "normalizer": made["normalizer"]}
    ignore_merges = made["model"]["ignore_merges"]
    tokenizer = Tokenizer.from_str(json.dumps({**base, **parts, "model": {**base["model"], "ignore_merges": ignore_merges}}))
    kinds[kind] = {**parts, "ignore_merges": ignore_merges}
    for special in (False, True):
        tokenizer.encode_special_tokens = not special
        kinds[kind]["special" if special else "plain"] = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
out = {"tokenizer": base, "texts": texts, "kinds": kinds}
path = source / "tests/golden/byte-level.json"
path.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n")
print(path, path.stat().st_size)
