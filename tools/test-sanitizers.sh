#!/usr/bin/env bash
# Trains and evaluates `tiny` and `transformer-tiny` under each sanitizer; any finding ends the program with an error. Under
# AddressSanitizer also tests the fences around buffers, hostile files, and failing allocations, which must end in one sentence
# without leaks.
#   test-sanitizers.sh [SANITIZER...]   only those, and fuzzes hostile files for only ten seconds instead of ten minutes
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/lib/llvm-16/bin  # for the line numbers of findings
export ASAN_OPTIONS=detect_leaks=1:verify_asan_link_order=0  # permits a preloaded library

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
perl -e 'srand 1; print pack("v*", map { int rand 4096 } 1 .. 2000)' > "$work/tokens.bin"
# Their constructors leak if an allocation inside fails.
printf 'leak:%s\n' nlohmann flatbuffers::Parser > "$work/suppressions"
export LSAN_OPTIONS=suppressions=$work/suppressions:print_suppressions=0

chosen=$#  # 0: all sanitizers, with all tests
for sanitizer in ${@:-address,undefined thread}; do
  build=build-${sanitizer%%,*}
  targets=neurogen-engine
  [ "$build" = build-thread ] || targets="neurogen-engine test_sanitizer allocation_counter fuzz_checkpoint fuzz_gguf fuzz_tokenizer"
  [ "$build" = build-thread ] || [ $chosen -gt 0 ] || targets+=" test_hostile"
  { cmake -S . -B "$build" -G Ninja -DNEUROGEN_SANITIZE="$sanitizer" -DCMAKE_CXX_COMPILER=clang++-16 && cmake --build "$build" --target $targets; } > "$work/log" ||
    { cat "$work/log"; exit 1; }
  engine="$build/bin/neurogen-engine"
  room="--overhead 3G --budget 4G"
  for arch in tiny transformer-tiny; do
    "$engine" train --arch $arch --batch 3 --seq 96 --steps 4 --threads 3 $room --eval-every 2 \
      --data "$work/tokens.bin" --valid "$work/tokens.bin" --log "$work/log.jsonl" --export "$work/$arch.safetensors" --progress none \
      --checkpoint-dir "$work/saved-$build-$arch" --save-every 1 --snapshot |
      tail -n 4
    "$engine" eval --init "$work/$arch.safetensors" --data "$work/tokens.bin" $room | tail -n 1
  done
  "$engine" train --gpus 2 --device cpu --arch tiny --batch 2 --seq 32 --steps 4 --threads 2 $room --data "$work/tokens.bin" \
    --valid "$work/tokens.bin" --log "$work/ranks.jsonl" --progress none --checkpoint-dir "$work/saved-$build-ranks" | tail -n 3
  echo "$sanitizer: clean"
  [ "$build" = build-address ] || continue

  "$build/bin/test_sanitizer" --gtest_brief=1
  [ $chosen -gt 0 ] || "$build/bin/test_hostile" --gtest_brief=1 --gtest_filter='Hostile.*:Version2.*'
  seconds=$([ $chosen -gt 0 ] && echo 10 || echo 600)
  for format in checkpoint gguf tokenizer; do
    mkdir "$work/$format"
    case $format in
      checkpoint) cp tests/hostile/version-2.ngck "$work/$format" ;;
      gguf) cp tests/pretrained/llama.gguf "$work/$format" ;;
      tokenizer) python3 -c 'import json; print(json.dumps(json.load(open("tests/golden/byte-level.json"))["tokenizer"]))' > "$work/$format/seed" ;;
    esac
    "$build/bin/fuzz_$format" -max_total_time="$seconds" -verbosity=0 -print_final_stats=1 -artifact_prefix="$build/" "$work/$format" \
      2> "$work/log" || { cat "$work/log"; exit 1; }
    echo "hostile files ($format): $(awk '/executed_units/ {print $2}' "$work/log") inputs in $seconds s, no finding"
  done
  # Names of findings come from a program of its own, whose allocations must not fail.
  printf '#!/bin/sh\nexec env -u LD_PRELOAD %s "$@"\n' "$(command -v llvm-symbolizer)" > "$work/llvm-symbolizer"
  chmod +x "$work/llvm-symbolizer"
  for failure in new\ {2,500,1000,2000,4000,8000,12000,16000,20000,24000,28000,32000,36000} pages\ {1,2,3}; do
    status=0
    env ASAN_SYMBOLIZER_PATH="$work/llvm-symbolizer" LD_PRELOAD="$build/liballocation_counter.so" NEUROGEN_FAIL="$failure" \
      "$engine" train --arch tiny --batch 1 --seq 20 --steps 1 --threads 2 $room --data "$work/tokens.bin" --export "$work/failing.safetensors" --progress none \
      > "$work/out" 2> "$work/error" || status=$?
    if [ $status -ne 1 ] || [ "$(wc -l < "$work/error")" -ne 1 ]; then
      echo "allocation $failure fails: status $status" && cat "$work/error" && exit 1
    fi
  done
  echo "failing allocations: sentences, no leaks"
done
