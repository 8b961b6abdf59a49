#!/usr/bin/env bash
# Prepares the demonstration's text: the King James Bible (public domain), one verse per line, split, with its own tokenizer.
# Makes DIR/{bible,train,valid}.txt, DIR/tokenizer.model and DIR/{train,valid}.bin, unless they are up to date.
set -euo pipefail

if [ $# -ne 1 ] && [ $# -ne 2 ]; then
  echo "demo-text.sh: no directory given: use tools/demo-text.sh DIR [BUILD]" >&2
  exit 2
fi
dir=$1
corpus=$(dirname "$0")/../${2:-build}/bin/corpus
verses=31102
mkdir -p "$dir"

# stale FILE SOURCE...: succeeds if FILE is missing or older than a source.
stale() {
  local file=$1 source
  shift
  [ -e "$file" ] || return 0
  for source in "$@"; do
    [ "$source" -nt "$file" ] && return 0
  done
  return 1
}

if stale "$dir/bible.txt"; then
  if ! command -v bible >/dev/null; then
    echo "demo-text.sh: the program bible is missing: apt-get install bible-kjv" >&2
    exit 1
  fi
  trap 'rm -f "$dir/bible.txt.part"' EXIT
  # "Ge1:1 In the beginning ...": the verse follows the first space.
  bible -f 'gen1:1-rev22:21' | cut -d ' ' -f 2- > "$dir/bible.txt.part"
  found=$(wc -l < "$dir/bible.txt.part")
  if [ "$found" -ne "$verses" ]; then
    echo "demo-text.sh: bible printed $found verses instead of $verses: is it Debian's bible-kjv?" >&2
    exit 1
  fi
  mv "$dir/bible.txt.part" "$dir/bible.txt"
fi

if [ ! -x "$corpus" ]; then
  echo "demo-text.sh: $corpus is missing: build it first (ninja -C build corpus)" >&2
  exit 1
fi
if stale "$dir/train.txt" "$dir/bible.txt" || stale "$dir/valid.txt" "$dir/bible.txt"; then
  "$corpus" split "$dir/bible.txt" --held-out 0.1 --train "$dir/train.txt" --valid "$dir/valid.txt"
fi
if stale "$dir/tokenizer.model" "$dir/train.txt" "$corpus"; then
  "$corpus" train-tokenizer "$dir/train.txt" --vocabulary 4096 --out "$dir/tokenizer.model"
fi
for part in train valid; do
  if stale "$dir/$part.bin" "$dir/$part.txt" "$dir/tokenizer.model"; then
    "$corpus" tokenize "$dir/$part.txt" --tokenizer "$dir/tokenizer.model" --out "$dir/$part.bin"
  fi
done
