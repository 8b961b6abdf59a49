#!/usr/bin/env bash
# Installs the engine into a prefix and builds the example against only that, outside of this tree: it learns.
#   library.sh BUILD SOURCE
set -euo pipefail
build=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "library: $*" >&2; exit 1; }

cmake --install "$build" --prefix "$work/prefix" > "$work/log" || { cat "$work/log"; exit 1; }
"$work/prefix/bin/neurogen-engine" --version > /dev/null
for program in plan corpus; do  # under their long names, which they also answer with
  "$work/prefix/bin/neurogen-$program" --version | grep -q "^neurogen-$program " || fail "neurogen-$program calls itself something else"
done
# The code of programs and library is installed once, and the documents' links are valid.
[ "$(find "$work/prefix" -type f -size +2M | wc -l)" -eq 1 ] || fail "more than one large file: $(find "$work/prefix" -type f -size +2M)"
documents=$work/prefix/share/doc/neurogen-engine
grep -oE '\]\([A-Za-z0-9_./-]+' "$documents/README.md" | sed 's/^](//' | sort -u | while read -r link; do
  [ -e "$documents/$link" ] || fail "README names $link, which is not installed"
done
[ -e "$documents/schemas/presets/tiny.json" ] && [ -e "$documents/examples/train.cpp" ] || fail "presets or examples are missing"
cp -r "$source/examples" "$work/examples"  # nothing of the tree is near
mv "$work/prefix" "$work/elsewhere"        # and a prefix may be moved
"$work/elsewhere/bin/neurogen-engine" --version > /dev/null || fail "the programs do not find their library where they were moved"
cmake -S "$work/examples" -B "$work/example" -DCMAKE_PREFIX_PATH="$work/elsewhere" -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror" > "$work/log" &&
  cmake --build "$work/example" >> "$work/log" || { cat "$work/log"; exit 1; }
grep -rqF "$source" "$work/elsewhere"/lib*/cmake && fail "the package names the source tree"
"$work/example/train" "$source/LICENSE" 40 > "$work/out"
cat "$work/out"
grep -qx "allocations since construction: 0" "$work/out" || fail "the example's engine allocates"
first=$(awk '/^step 10 / { print $4 }' "$work/out") last=$(awk '/^step 40 / { print $4 }' "$work/out")
awk "BEGIN { exit !($last < $first - 1) }" || fail "the example does not learn"

status=0
sentence=$("$work/example/train" /dev/null 2>&1) || status=$?
[ $status -eq 2 ] && [ "$(wc -l <<< "$sentence")" -eq 1 ] || fail "an empty text is answered with status $status: $sentence"
# The library must bring no matrix library, allocator or signal handler into a program.
symbols=$(nm -D --undefined-only "$work"/elsewhere/lib*/libneurogen.so)
grep -qE ' (sigaction|signal|mi_)' <<< "$symbols" && fail "the library handles signals or brings an allocator"
visible=$(nm -DC --defined-only "$work"/elsewhere/lib*/libneurogen.so | cut -d' ' -f3- | grep -vE '^neurogen::((Engine|TextTokenizer)::|(version|parse_bytes)\()' || true)
[ -z "$visible" ] || fail "the library shows more than its interface: $visible"
