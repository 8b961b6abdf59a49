"""Texts that tokenizers tend to disagree about, the same in every run, and byte-level tokenizers as their makers train them."""

import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")  # fmt: skip
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# Marks that Unicode has had since version 10. The normalisation of `tokenizers` does not know that they are marks.
NEW_MARKS = """7fd 898-89f 8ca-8d3 9fe c3c d3b-d3c eba 1715 1abf-1ace 1df6-1dfa a82c 10d24-10d27 10eab-10eac 10efd-10eff 10f46-10f50
10f82-10f85 11070 1133b 1145e 11839-1183a 1193d-1193e 11943 119e0 11a34 11a47 11a99 11d42 11d44-11d45 11d97 11f41-11f42 16ff0-16ff1
1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef"""


def known(text):
    """The text without what the two libraries know from different versions of Unicode: newer letters, and NEW_MARKS."""
    ends = [[int(end, 16) for end in part.split("-")] for part in NEW_MARKS.split()]
    new = {code for end in ends for code in range(end[0], end[-1] + 1)}
    return "".join(c for c in text if unicodedata.category(c) != "Cn" and ord(c) not in new)


def strings(count, seed=7):
    r = random.Random(seed)
    between = lambda first, last: chr(r.randint(first, last))
    one_of = lambda *texts: lambda: r.choice(texts)
    white = ["\u0085", "\u00a0", "\u1680", "\u180e", "\u2000", "\u2003", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"]
    parts = [
        one_of("the", "and", "don't", "I'LL", "we've", "they'RE", "it's", "x'S", "'tis", "HELLO", "naïve", "Ångström", "ﬁ", "Ω", "ǅ"),
        one_of("'s", "'T", "'re", "'VE", "'m", "'ll", "'D", "'x", "'", "''s", "ſ", "'ſ"),
        one_of("e\u0301", "a\u030a\u0327", "\u1100\u1161\u11a8", "nai\u0308ve", "\u0344", "\u212b"),
        lambda: r.choice([" ", "  ", "   ", "    ", "\t", "\n", "\r\n", "\n\n", "\r", "\v", "\f", *white]) * r.randint(1, 4),
        lambda: str(r.randint(0, 10 ** r.randint(1, 9))),
        lambda: r.choice("٣३৪๔①½²Ⅷ〇"),
        lambda: between(0x21, 0x2F) * r.randint(1, 4),
        lambda: between(0x20, 0x7E),
        lambda: between(0xA1, 0x24F),
        lambda: between(0x300, 0x36F) * r.randint(1, 3),
        lambda: between(0x370, 0x52F),  # Greek, Cyrillic
        lambda: between(0x590, 0x6FF),  # Hebrew, Arabic
        lambda: between(0x900, 0xDFF),  # India's
        lambda: between(0xE00, 0xE7F),  # Thai
        lambda: between(0x1100, 0x11FF),
        lambda: between(0x3040, 0x30FF),
        lambda: between(0x4E00, 0x9FFF) * r.randint(1, 2),
        lambda: between(0xAC00, 0xD7A3),
        lambda: between(0xF900, 0xFAFF),
        lambda: between(0x1F300, 0x1FAFF),
        lambda: "👩\u200d👩\u200d👧",
        one_of("\u200b", "\u200c", "\u200d", "\ufeff", "\u2060", "\u00ad"),
        lambda: between(0, 0x1F),
        lambda: chr(r.choice([*range(0xD800), *range(0xE000, 0x110000)])) if r.random() < 0.1 else between(0x10000, 0x10FFFF),
        lambda: b"\xff\xc3\x28".decode("utf8", "replace"),
        one_of(*SPECIAL, "<tool>", "<tool", "<|", "|>", "    "),
    ]
    for _ in range(count):
        some = r.sample(parts, r.randint(1, 6))
        yield known("".join(r.choice(some)() for _ in range(r.randint(0, 40))))


def trained(kind, texts, vocabulary):
    split = lambda pattern: pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    tokenizer.pre_tokenizer = {
        "gpt2": plain,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain]),
        "qwen2": split(QWEN2),
        "llama3": split(LLAMA3),
    }[kind]
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("naïve"), AddedToken("    ")])
    return tokenizer


KINDS = ("gpt2", "smollm", "qwen2", "llama3")
