"""Byte-level tokenizers give the ids of PyPI's `tokenizers`, for nasty strings and whole texts.

NEUROGEN_TEST_TOKENIZERS names more tokenizer.json files to compare, separated by colons."""

import os
import sys
import unittest

try:
    import tokenizers
except ImportError:
    sys.exit(print("skipped: PyPI's tokenizers are not installed for", sys.executable))

from engines import SOURCE, EngineTest, neurogen

from nasty_strings import KINDS, strings, trained


class Tokenizers(EngineTest):
    @classmethod
    def setUpClass(cls):
        pages = sorted(SOURCE.glob("docs/*.md")) + sorted(SOURCE.glob("engine/*/*.cpp"))
        cls.whole = "".join(page.read_text() for page in pages)
        cls.texts = [*strings(10_000), cls.whole, cls.whole.replace("\n", "\r\n"), "a" * 1_000_000, " " * 100_000 + "x", "一" * 100_000]

    def compare(self, path):
        ours, theirs = neurogen.Tokenizer(path), tokenizers.Tokenizer.from_file(path)
        for special in (False, True):
            theirs.encode_special_tokens = not special
            for text, encoding in zip(self.texts, theirs.encode_batch(self.texts, add_special_tokens=False)):
                self.assertEqual(ours.encode(text, special).tolist(), encoding.ids, ascii(text[:200]))

    def test_all_kinds(self):
        for kind in KINDS:
            with self.subTest(kind):
                path = self.path(kind + ".json")
                trained(kind, [*self.whole.splitlines(keepends=True), *strings(2000, seed=1)], 3000).save(path)
                self.compare(path)

    def test_named_tokenizers(self):
        for path in filter(None, os.environ.get("NEUROGEN_TEST_TOKENIZERS", "").split(":")):
            with self.subTest(path):
                self.compare(path)


if __name__ == "__main__":
    unittest.main()
