#!/usr/bin/env bash
# The demonstration: trains a small model on the King James Bible inside a budget, compares it with n-grams, and writes text.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build} bin=$build/bin

tools/demo-text.sh demo "$build"
echo
rm -f demo/run.jsonl  # from an earlier demonstration
"$bin/neurogen-engine" train --arch tiny --budget 256M --data demo/train.bin --valid demo/valid.bin \
  --tokenizer demo/tokenizer.model --batch 16 --seq 64 --log demo/run.jsonl --export demo/brain.safetensors
echo
"$bin/neurogen-engine" eval --init demo/brain.safetensors --data demo/valid.bin --ngrams demo/train.bin \
  --batch 16 --seq 64
echo
"$bin/neurogen-engine" generate --init demo/brain.safetensors --seq 64 \
  --prompt "And the LORD said unto" --max-tokens 120 --temperature 0.7
