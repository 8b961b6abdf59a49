#!/usr/bin/env python3
"""Models of random weights in other programs' files: what this engine computes from them, and what those programs compute from ours.

  oracle_test.py BUILD [TEST...]     needs numpy, torch, transformers, tokenizers and gguf, and for llama.cpp xllamacpp

transformers and llama.cpp are the oracles; logits are compared in float32 on the CPU.
"""
import json
import pathlib
import tempfile
import unittest

from opt_in import SOURCE, engine as run, imported, program

gguf, neurogen, np, _, torch, transformers = imported("gguf", "neurogen", "numpy", "tokenizers", "torch", "transformers")
from llama_cpp import LlamaCpp
from nasty_strings import strings, trained

transformers.logging.set_verbosity_error()

VOCABULARY, LENGTH = 320, 24
GPT2 = dict(vocab_size=VOCABULARY, n_positions=48, n_embd=64, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0,
            resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
LLAMA = dict(vocab_size=VOCABULARY, hidden_size=96, intermediate_size=160, num_hidden_layers=3, num_attention_heads=6,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0)
MODELS = {  # name: class, configuration
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(**GPT2)),
    "gpt2-untied": (transformers.GPT2LMHeadModel, transformers.GPT2Config(**GPT2, tie_word_embeddings=False, n_inner=96)),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**LLAMA)),
    "llama-tied": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True, rope_theta=500.0,
                                                                           rms_norm_eps=1e-3)),
    "llama-biased": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True)),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**LLAMA)),
    "qwen2-tied": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**LLAMA, tie_word_embeddings=True)),
}


def random_model(name):
    torch.manual_seed(sum(map(ord, name)))
    cls, config = MODELS[name]
    model = cls(config).eval()
    with torch.no_grad():  # large enough to tell one computation from another; biases and gains are not zero and one
        for key, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if parameter.ndim == 1 and "bias" not in key else 0.15 * noise)
    return model


def ids(seed, batch=2):
    return np.random.default_rng(seed).integers(0, VOCABULARY, (batch, LENGTH), dtype=np.int32)


def their_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens, dtype=torch.long)).logits.float().numpy()


def our_engine(path, batch=2, window=LENGTH, **settings):
    return neurogen.Engine(init=str(path), device="cpu", batch=batch, window=window, budget="2000M", **settings)


class Oracle(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def saved(self, name, **options):
        model = random_model(name)
        folder = self.directory / name
        model.save_pretrained(folder, **options)
        return model, folder

    def same_logits(self, expected, got, tolerance=1e-4):
        np.testing.assert_allclose(got, expected, atol=tolerance * max(1, np.abs(expected).max()), rtol=0)

    def test_folders_give_their_logits_and_losses(self):
        for name in MODELS:
            with self.subTest(name):
                model, folder = self.saved(name)
                engine, tokens = our_engine(folder), ids(1)
                expected = their_logits(model, tokens)
                self.same_logits(expected, engine.logits(tokens))
                targets = np.roll(tokens, -1, 1)
                wide = expected.astype(np.float64)
                losses = np.log(np.exp(wide).sum(-1)) - np.take_along_axis(wide, targets[..., None], -1)[..., 0]
                np.testing.assert_allclose(engine.losses(tokens, targets), losses, atol=1e-4 * max(1, losses.max()))

    def test_shards_and_halves(self):
        for name in ("llama", "gpt2"):
            for dtype in (torch.float16, torch.bfloat16, torch.float32):
                with self.subTest(name, dtype=dtype):
                    model = random_model(name).to(dtype)
                    folder = self.directory / f"{name}-{dtype}"
                    model.save_pretrained(folder, max_shard_size="100KB")
                    self.assertTrue((folder / "model.safetensors.index.json").exists())
                    model = type(model).from_pretrained(folder, dtype=torch.float32).eval()
                    self.same_logits(their_logits(model, ids(2)), our_engine(folder).logits(ids(2)))

    def test_names_without_prefix(self):
        from safetensors.torch import load_file, save_file
        for name in ("gpt2", "llama-tied"):
            model, folder = self.saved(name)
            file = folder / "model.safetensors"
            tensors = {key.removeprefix("transformer.").removeprefix("model."): value for key, value in load_file(file).items()}
            if name == "gpt2":
                for layer in range(3):  # the masks of older versions
                    tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(48, 48, dtype=torch.bool)).view(1, 1, 48, 48)
                    tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
            save_file(tensors, file, {"format": "pt"})
            self.same_logits(their_logits(model, ids(3)), our_engine(folder).logits(ids(3)))

    def test_folders_of_ours_give_transformers_the_same_logits(self):
        for name in MODELS:
            with self.subTest(name):
                model, folder = self.saved(name)
                out = self.directory / (name + "-out")
                run("export", "--init", folder, "--huggingface", out)
                ours = type(model).from_pretrained(out).eval()
                self.assertTrue(torch.equal(ours(torch.tensor(ids(4), dtype=torch.long)).logits,
                                            model(torch.tensor(ids(4), dtype=torch.long)).logits))
                for key, value in model.state_dict().items():
                    self.assertTrue(torch.equal(value, ours.state_dict()[key]), key)

    def test_trained_weights_go_out(self):
        model, folder = self.saved("llama")
        engine = our_engine(folder)
        tokens = ids(5)
        for _ in range(3):
            engine.train_step_batch(tokens, np.roll(tokens, -1, 1))
        engine.save(str(self.directory / "trained.ngck"))
        run("export", "--checkpoint", self.directory / "trained.ngck", "--huggingface", self.directory / "trained")
        ours = transformers.AutoModelForCausalLM.from_pretrained(self.directory / "trained").eval()
        self.same_logits(engine.logits(tokens), their_logits(ours, tokens))
        self.assertGreater(np.abs(engine.logits(tokens) - their_logits(model, tokens)).max(), 0.01)

    def test_gguf_round_trips(self):
        for name in MODELS:
            for kind, tolerance in (("f32", 0), ("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 2e-2)):
                with self.subTest(name, type=kind):
                    if name == "gpt2-untied" and kind == "q8_0" and MODELS[name][1].n_inner % 32:
                        continue
                    model, folder = self.saved(name)
                    file = self.directory / f"{name}-{kind}.gguf"
                    run("export", "--init", folder, "--gguf", file, "--type", kind)
                    # The official reader finds the same tensors, and dequantises them alike.
                    tensors = {t.name: t for t in gguf.GGUFReader(file).tensors}
                    embedding = gguf.dequantize(tensors["token_embd.weight"].data, tensors["token_embd.weight"].tensor_type)
                    original = model.get_input_embeddings().weight.detach().numpy()
                    self.assertLessEqual(np.abs(embedding - original).max(), max(tolerance, 1e-7) * np.abs(original).max())
                    self.same_logits(their_logits(model, ids(6)), our_engine(file).logits(ids(6)), max(tolerance * 10, 1e-4))

    def test_gguf_of_gguf_is_the_same_bytes(self):
        for name in MODELS:
            _, folder = self.saved(name)
            for kind in ("f32", "bf16"):
                first, second = (self.directory / f"{name}-{kind}-{i}.gguf" for i in (1, 2))
                run("export", "--init", folder, "--gguf", first, "--type", kind)
                run("export", "--init", first, "--gguf", second, "--type", kind)
                self.assertEqual(first.read_bytes(), second.read_bytes(), name)

    def test_llama_cpp_computes_the_same_from_our_files(self):
        for name in MODELS:
            # llama.cpp keeps keys and values in f16, and multiplies by q8_0 with activations in 8 bits.
            for kind, tolerance in (("f32", 5e-3), ("f16", 1e-2), ("bf16", 3e-2), ("q8_0", 8e-2)):
                with self.subTest(name, type=kind):
                    _, folder = self.saved(name)
                    file = self.directory / f"{name}-{kind}.gguf"
                    run("export", "--init", folder, "--gguf", file, "--type", kind)
                    tokens = ids(7, 1)
                    theirs, ours = LlamaCpp(file).logits(tokens[0]), our_engine(file, batch=1).logits(tokens)[0]
                    self.same_logits(theirs, ours, tolerance)
                    first, second = np.sort(theirs, -1)[:, -1], np.sort(theirs, -1)[:, -2]
                    clear = first - second > 2 * tolerance * np.abs(theirs).max()
                    self.assertEqual(ours.argmax(-1)[clear].tolist(), theirs.argmax(-1)[clear].tolist())

    def test_llama_cpp_cuts_text_as_sentencepiece_models_of_ours(self):
        text = "\n".join((SOURCE / "docs" / name).read_text() for name in ("using.md", "performance.md"))
        (self.directory / "text.txt").write_text(text)
        program("corpus", "train-tokenizer", self.directory / "text.txt", "--vocabulary", 1500, "--out", self.directory / "t.model")
        arch = json.loads((SOURCE / "schemas" / "presets" / "smollm2-135m.json").read_text())
        arch.update(name="ours", vocabulary=1510, width=96, layers=2, heads=6, key_value_heads=2, hidden=160)
        (self.directory / "ours.json").write_text(json.dumps(arch))
        weights, file = self.directory / "w.safetensors", self.directory / "w.gguf"
        run("train", "--arch", self.directory / "ours.json", "--data", self.directory / "text.txt", "--tokenizer", self.directory / "t.model",
            "--batch", 2, "--seq", 32, "--steps", 20, "--device", "cpu", "--progress", "none", "--export", weights)
        run("export", "--init", weights, "--gguf", file)
        ours, llama = neurogen.Tokenizer(str(self.directory / "t.model")), LlamaCpp(file)
        lines = [*text.split("\n")[:400], text, *strings(2000), " ", "  a", "\n", "\n\n a\n", "<s></s>", "<0x41>", "[PAD1505]"]
        for line in lines:
            line = line.replace("\u2581", "_")  # SentencePiece's sign for a space
            self.assertEqual(llama.encode(line), list(ours.encode(line)), repr(line))
        prompt = "The file of "
        said = [int(line.split()[1]) for line in run("generate", "--init", weights, "--device", "cpu", "--prompt", prompt, "--temperature", 0,
                                                     "--max-tokens", 20, "--logprobs").splitlines()]
        self.assertEqual(llama.greedy(llama.encode(prompt, True), len(said)), said)

    def test_folders_say_where_generation_ends(self):
        model, folder = self.saved("llama")
        tokenizer = trained("smollm", ["some text to learn from"], VOCABULARY - 10)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>"}))
        run("export", "--init", folder, "--huggingface", self.directory / "out")
        config = transformers.GenerationConfig.from_pretrained(self.directory / "out")
        self.assertEqual([config.bos_token_id, config.eos_token_id],
                         [tokenizer.token_to_id("<|endoftext|>"), [tokenizer.token_to_id("<|im_end|>")]])

    def test_refusals(self):
        cases = [
            ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4}}, "llama3"),
            ("llama", {"hidden_act": "gelu"}, "hidden_act"),
            ("llama", {"model_type": "mistral"}, "model_type"),
            ("qwen2", {"use_sliding_window": True}, "use_sliding_window"),
            ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ]
        for name, change, part in cases:
            with self.subTest(part):
                _, folder = self.saved(name)
                config = json.loads((folder / "config.json").read_text())
                (folder / "config.json").write_text(json.dumps({**config, **change}))
                with self.assertRaisesRegex(neurogen.Refused, part):
                    our_engine(folder)


if __name__ == "__main__":
    unittest.main()
