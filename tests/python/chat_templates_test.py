"""Conversations become the tokens that PyPI's transformers gives for them.

NEUROGEN_TEST_TOKENIZERS names more tokenizer.json files beside their tokenizer_config.json, separated by colons."""

import json
import os
import pathlib
import subprocess
import sys
import unittest

try:
    import jinja2  # which apply_chat_template needs
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast
except ImportError:
    sys.exit(print("skipped: PyPI's transformers and jinja2 are not installed for", sys.executable))

from engines import SOURCE, EngineTest, np

from chat_templates import CONVERSATIONS, TEMPLATES

CORPUS = pathlib.Path(os.environ["PYTHONPATH"]).resolve().parent / "bin/corpus"


class ChatTemplates(EngineTest):
    def compare(self, folder):
        config = json.loads((pathlib.Path(folder) / "tokenizer_config.json").read_text())
        theirs = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_file(os.path.join(folder, "tokenizer.json")),
            **{key: config[key] for key in ("bos_token", "eos_token", "chat_template") if key in config},
        )
        expected = []
        with open(self.path("chat.jsonl"), "w") as file:
            for conversation in CONVERSATIONS * 3:
                json.dump({"messages": conversation, "nr": len(expected)}, file)  # no two lines are equal
                file.write("\n")
                expected.append(theirs.apply_chat_template(conversation, return_dict=False))
        command = [CORPUS, "make", "--chat", "chat.jsonl", "--tokenizer", folder, "--out", "c", "--held-out", "0.5"]
        subprocess.run(command, cwd=os.path.dirname(self.path("x")), check=True, capture_output=True)
        manifest = json.loads(pathlib.Path(self.path("c.json")).read_text())
        ours = []
        for part in ("train", "valid"):
            ids = np.fromfile(self.path(f"c-{part}.bin"), np.uint16).tolist()
            while ids:  # the document's end is no part of a conversation
                end = ids.index(manifest["document_end"])
                ours.append(ids[:end])
                ids = ids[end + 1 :]
        self.assertEqual(sorted(ours), sorted(expected))

    def test_templates(self):
        fixture = json.loads((SOURCE / "tests/golden/byte-level.json").read_text())["tokenizer"]
        for name, jinja in TEMPLATES.items():
            with self.subTest(name):
                # The document's end must not be a begin that templates write.
                config = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": jinja}
                for file, contents in ("tokenizer.json", fixture), ("tokenizer_config.json", config):
                    with open(self.path(file), "w") as out:
                        json.dump(contents, out)
                self.compare(os.path.dirname(self.path("x")))

    def test_named_tokenizers(self):
        for path in filter(None, os.environ.get("NEUROGEN_TEST_TOKENIZERS", "").split(":")):
            with self.subTest(path):
                self.compare(os.path.dirname(path))


if __name__ == "__main__":
    unittest.main()
