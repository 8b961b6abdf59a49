#!/usr/bin/env bash
# The engine is installed into a prefix; the example is built against that alone, outside of this tree, and learns.
#   library.sh BUILD SOURCE
set -euo pipefail
build=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "library: $*" >&2; exit 1; }

cmake --install "$build" --prefix "$work/prefix" > "$work/log" || { cat "$work/log"; exit 1; }
"$work/prefix/bin/neurogen-engine" --version > /dev/null
cp -r "$source/examples" "$work/examples"  # nothing of the tree is near
mv "$work/prefix" "$work/elsewhere"        # and a prefix may be moved
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
# A program without the matrix library's name, the allocator's or a signal handler: none of that is the library's to bring.
symbols=$(nm -D --undefined-only "$work"/elsewhere/lib*/libneurogen.so)
grep -qE ' (sigaction|signal|mi_)' <<< "$symbols" && fail "the library handles signals or brings an allocator"
visible=$(nm -DC --defined-only "$work"/elsewhere/lib*/libneurogen.so | cut -d' ' -f3- | grep -v '^neurogen::Engine::' || true)
[ -z "$visible" ] || fail "the library shows more than its interface: $visible"
