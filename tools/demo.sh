#!/usr/bin/env bash
# The demonstration: trains a brain and a transformer inside a budget, one pass over the King James Bible each, has both write text
# and compares them with each other and with n-grams.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build} engine=${1:-build}/bin/neurogen-engine
models=(tiny transformer-tiny)

# heading TEXT: begins a part of the output.
heading() {
  printf '\n== %s\n\n' "$1"
}

heading "the text"
tools/demo-text.sh demo "$build"
for model in "${models[@]}"; do
  heading "one pass: $model"
  rm -f "demo/$model.jsonl"  # from an earlier demonstration
  "$engine" train --arch "$model" --device cpu --budget 256M --data demo/train.bin --valid demo/valid.bin \
    --tokenizer demo/tokenizer.model --batch 16 --seq 64 --log "demo/$model.jsonl" --export "demo/$model.safetensors" |
    tee "demo/$model.txt"
done
heading "the held-out text"
counted=(--ngrams demo/train.bin)  # once
for model in "${models[@]}"; do
  "$engine" eval --init "demo/$model.safetensors" --device cpu --data demo/valid.bin --batch 16 --seq 64 "${counted[@]}" |
    tee -a "demo/$model.txt"
  counted=()
done
for model in "${models[@]}"; do
  heading "$model writes"
  "$engine" generate --init "demo/$model.safetensors" --device cpu --seq 64 --prompt "And the LORD said unto" --max-tokens 120 \
    --temperature 0.7
done
heading "side by side"
cd demo && awk -f ../tools/demo-table.awk "${models[@]/%/.txt}"
