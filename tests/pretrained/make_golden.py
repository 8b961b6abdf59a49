#!/usr/bin/env python3
"""Makes the small models of this folder, of random weights: needs numpy, torch, transformers and gguf (all on PyPI).

  make_golden.py FOLDER

For gpt2, llama and qwen2: a folder as transformers saves it (in float16), and logits.safetensors with tokens, and the float32 logits
that transformers computes for them. llama-q4_1.gguf: the weights of llama as llama.cpp's tools quantise them, matrices in Q4_1, Q4_0
and Q8_0 by layers, in llama.cpp's order of rows; quantised.safetensors has the logits that its numbers give in transformers.
"""
import json
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

FOLDER = pathlib.Path(sys.argv[1])
VOCABULARY = 32
SMALL = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=32, rope_theta=300.0, bos_token_id=0, eos_token_id=[0, 1])
MODELS = {
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(vocab_size=VOCABULARY, n_positions=16, n_embd=16, n_layer=2,
                                                                   n_head=2, bos_token_id=0, eos_token_id=0)),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**SMALL, rms_norm_eps=1e-4)),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**{**SMALL, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1,
                                                                         "num_hidden_layers": 1}, tie_word_embeddings=True)),
}
TOKENS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 30, 8, 9], dtype=np.int32)


def random_model(name):
    cls, config = MODELS[name]
    torch.manual_seed(len(name))
    model = cls(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if parameter.ndim == 1 and "bias" not in key else 0.2 * noise)
            parameter.copy_(parameter.half().float())
    return model


def save_logits(model, file):
    with torch.no_grad():
        logits = model(torch.tensor(TOKENS[None], dtype=torch.long)).logits[0].numpy()
    save_file({"tokens": TOKENS, "logits": logits}, file)


def turned(rows, heads):  # llama.cpp's order: the halves of a head alternate
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def straight(rows, heads):
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def save_gguf(model, file, logits):
    """Writes the quantised weights, and puts them back into the model."""
    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("a llama of random weights")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(300.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(VOCABULARY)])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    types = [gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0]
    for i, (key, value) in enumerate(state.items()):
        values, name = value.numpy(), names.get_name(key, try_suffixes=(".weight", ".bias"))
        heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads if "k_proj" in key else 0
        if heads:
            values = turned(values, heads)
        kind = gguf.GGMLQuantizationType.F32
        if values.ndim > 1:
            kind = types[int(key.split(".")[2]) if "layers" in key else 2]
            packed = gguf.quants.quantize(values, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
            values = gguf.quants.dequantize(packed, kind)
        else:
            writer.add_tensor(name, values)
        state[key] = torch.from_numpy(straight(values, heads) if heads else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.load_state_dict(state)
    save_logits(model, logits)


for name in MODELS:
    model = random_model(name)
    save_logits(model, FOLDER / f"{name}.logits.safetensors")
    if name == "llama":
        save_gguf(random_model(name), FOLDER / "llama.gguf", FOLDER / "llama-gguf.logits.safetensors")
    folder = FOLDER / name
    model.half().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
