#!/usr/bin/env python3
"""Writes tests/golden/chat-templates.json: what PyPI's transformers makes of conversations under chat templates.

  chat_templates.py SOURCE     needs Python's transformers and jinja2
"""
import json
import pathlib
import sys

source = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(source / "tests/python"))
from chat_templates import CONVERSATIONS, TEMPLATES
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

base = json.loads((source / "tests/golden/byte-level.json").read_text())["tokenizer"]
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(base)), bos_token="<|endoftext|>", eos_token="<|im_end|>")
texts = {
    name: [
        [tokenizer.apply_chat_template(c, chat_template=jinja, tokenize=False, add_generation_prompt=ask) for ask in (False, True)]
        for c in CONVERSATIONS
    ]
    for name, jinja in TEMPLATES.items()
}
out = {"templates": TEMPLATES, "conversations": CONVERSATIONS, "texts": texts}
(source / "tests/golden/chat-templates.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n")
