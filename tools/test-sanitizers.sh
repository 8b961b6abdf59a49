#!/usr/bin/env bash
# Trains, evaluates and speaks with `tiny` under each sanitizer; any finding ends the program with an error.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
perl -e 'srand 1; print pack("v*", map { int rand 4096 } 1 .. 2000)' > "$work/tokens.bin"
for sanitizer in address,undefined thread; do
  build=build-${sanitizer%%,*}
  cmake -S . -B "$build" -G Ninja -DNEUROGEN_SANITIZE="$sanitizer" -DCMAKE_CXX_FLAGS_RELEASE=-O1 > "$work/log"
  cmake --build "$build" --target neurogen-engine > "$work/log" || { cat "$work/log"; exit 1; }
  "$build/bin/neurogen-engine" train --arch tiny --batch 3 --seq 96 --steps 4 --threads 3 --overhead 3G --budget 4G --eval-every 2 \
    --data "$work/tokens.bin" --valid "$work/tokens.bin" --log "$work/log.jsonl" --export "$work/brain.safetensors" --progress none |
    tail -n 4
  "$build/bin/neurogen-engine" eval --init "$work/brain.safetensors" --data "$work/tokens.bin" --overhead 3G --budget 4G | tail -n 1
  echo "$sanitizer: clean"
done
