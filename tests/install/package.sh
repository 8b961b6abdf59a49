#!/usr/bin/env bash
# Tests the .deb: its control file and contents, that its program runs from the unpacked folder, and that nothing in it needs a CPU
# newer than the oldest x86-64 without checking for it.
#   package.sh BUILD
set -euo pipefail
build=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "package: $*" >&2; exit 1; }

(cd "$work" && cpack --config "$build/CPackConfig.cmake" -B "$work/made") > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
package=$(echo "$work"/made/neurogen-engine_*_"$(dpkg --print-architecture)".deb)
[ -f "$package" ] || fail "no package was made: $(ls "$work/made")"

# Other libraries are inside: their packages have other names in other releases, such as Ubuntu's.
depends=$(dpkg-deb -f "$package" Depends)
[[ "$depends" =~ ^libc6\ \(\>=\ [0-9.]+\),\ libstdc\+\+6\ \(\>=\ [0-9]+\),\ libgcc-s1$ ]] || fail "Depends is $depends"
for field in Package Version Architecture Maintainer Description Section; do
  [ -n "$(dpkg-deb -f "$package" $field)" ] || fail "the control file has no $field"
done
[ "$(dpkg-deb -f "$package" Version)" = "$("$build/bin/neurogen-engine" --version | awk '{ print $2 }')" ] || fail "its version differs from the program's"

dpkg-deb -x "$package" "$work/root"
for file in bin/neurogen-{engine,plan,corpus} include/neurogen/engine.h lib/libneurogen.so lib/cmake/neurogen/neurogenConfig.cmake \
            share/man/man1/neurogen-{engine,corpus,plan}.1 share/bash-completion/completions/neurogen-{engine,corpus,plan} \
            share/zsh/site-functions/_neurogen-{engine,corpus,plan} share/fish/vendor_completions.d/neurogen-{engine,corpus,plan}.fish \
            share/doc/neurogen-engine/copyright share/doc/neurogen-engine/licences/libfmt9; do
  [ -e "$work/root/usr/$file" ] || fail "it lacks $file"
done
if dpkg-deb -c "$package" | grep -v ' root/root '; then fail "some files do not belong to root"; fi
engine=$work/root/usr/bin/neurogen-engine
for file in "$work"/root/usr/bin/* "$work"/root/usr/lib/libneurogen.so "$work"/root/usr/lib/neurogen/libneurogen-engine.so; do
  readelf -d "$file" | sed -n 's/.*R\(UN\)*PATH.*\[\(.*\)\]/\2/p' | tr : '\n' | grep -v '^\$ORIGIN' && fail "$file looks for libraries where it was built"
  # Every library that it loads is in the package or in the three packages that it depends on.
  LD_LIBRARY_PATH='' ldd "$file" | awk -v root="$work/root" '$2 == "=>" && index($3, root) != 1 { print $1 }' |
    grep -vE '^(libc|libm|libdl|libpthread|libstdc\+\+|libgcc_s)\.so' && fail "$file needs libraries of other packages"
done
perl -e 'print pack("v*", map { $_ % 50 } 1 .. 200)' > "$work/text.bin"
"$engine" train --arch tiny --device cpu --batch 2 --seq 32 --steps 2 --data "$work/text.bin" --export "$work/model.safetensors" --progress none > "$work/out" || { cat "$work/out"; exit 1; }
grep -q "trained 2 steps" "$work/out" || fail "the program does not train"

# Only functions chosen at run time hold code for newer CPUs; their names end in the architecture.
for program in "$build"/lib*/neurogen/libneurogen-engine.so; do
  objdump -d --no-show-raw-insn "$program" | awk '
    /^[0-9a-f]+ <.*>:$/ { name = $2; newer = name ~ /\.arch_x86_64_v[34]/ }
    /[%][yz]mm|%xmm(1[6-9]|2[0-9]|3[01])|\tv[a-z0-9]+ +.*%xmm/ { if (newer) ++chosen; else { print name ": " $0; exit 1 } }
    END { if (!chosen) exit 1 }' > "$work/newer" || fail "$program would not run on an older CPU, or has nothing for newer ones: $(cat "$work/newer")"
done
echo "$depends"
