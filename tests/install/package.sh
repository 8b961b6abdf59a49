#!/usr/bin/env bash
# The .deb: what its control file says, what it holds, that its program runs from where it was unpacked, and that nothing in it
# needs a CPU newer than the oldest x86-64 unless it has asked for it.
#   package.sh BUILD
set -euo pipefail
build=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "package: $*" >&2; exit 1; }

(cd "$work" && cpack --config "$build/CPackConfig.cmake" -B "$work/made") > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
package=$(echo "$work"/made/neurogen-engine_*_"$(dpkg --print-architecture)".deb)
[ -f "$package" ] || fail "there is none: $(ls "$work/made")"

depends=$(dpkg-deb -f "$package" Depends)
for needed in libopenblas0-pthread libc6 libstdc++6 libfmt9 libmimalloc2.0 libedit2 libsentencepiece0 libflatbuffers2; do
  [[ ", $depends," =~ ", $needed"[\ ,] ]] || fail "Depends lacks $needed: $depends"
done
IFS=, read -ra packages <<< "$depends"
for one in "${packages[@]}"; do
  name=$(awk '{ print $1 }' <<< "$one")
  dpkg-query -W "$name" > /dev/null || fail "Depends names $name, which is not what was built with"
done
for field in Package Version Architecture Maintainer Description Section; do
  [ -n "$(dpkg-deb -f "$package" $field)" ] || fail "the control file has no $field"
done
[ "$(dpkg-deb -f "$package" Version)" = "$("$build/bin/neurogen-engine" --version | awk '{ print $2 }')" ] || fail "its version is another"

dpkg-deb -x "$package" "$work/root"
for file in bin/neurogen-engine bin/plan bin/corpus include/neurogen/engine.h lib/libneurogen.so lib/cmake/neurogen/neurogenConfig.cmake \
            share/man/man1/{neurogen-engine,corpus,plan}.1 share/bash-completion/completions/{neurogen-engine,corpus,plan} share/doc/neurogen-engine/copyright; do
  [ -e "$work/root/usr/$file" ] || fail "it lacks $file"
done
if dpkg-deb -c "$package" | grep -v ' root/root '; then fail "files belong to others than root"; fi
engine=$work/root/usr/bin/neurogen-engine
readelf -d "$engine" | grep -qE 'R(UN)?PATH' && fail "the program looks for libraries where it was built"
perl -e 'print pack("v*", map { $_ % 50 } 1 .. 200)' > "$work/text.bin"
"$engine" train --arch tiny --device cpu --batch 2 --seq 32 --steps 2 --data "$work/text.bin" --progress none > "$work/out" || { cat "$work/out"; exit 1; }
grep -q "trained 2 steps" "$work/out" || fail "the program does not train"

# Code for newer CPUs stands in functions that are chosen at run time, whose names end in their architecture.
for program in "$build/bin/neurogen-engine" "$build/libneurogen.so"; do
  objdump -d --no-show-raw-insn "$program" | awk '
    /^[0-9a-f]+ <.*>:$/ { name = $2; newer = name ~ /\.arch_x86_64_v[34]/ }
    /[%][yz]mm|%xmm(1[6-9]|2[0-9]|3[01])|\tv[a-z0-9]+ +.*%xmm/ { if (newer) ++chosen; else { print name ": " $0; exit 1 } }
    END { if (!chosen) exit 1 }' > "$work/newer" || fail "$program would not run on an older CPU, or has nothing for newer ones: $(cat "$work/newer")"
done
echo "$depends"
