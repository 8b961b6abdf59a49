#!/usr/bin/env bash
# Packs programs, tests, their files and the libraries that a bare Linux machine lacks into dist/, as a folder and as a .tar.xz:
# it runs on x86-64 with a glibc as new as this machine's; a GPU needs its driver and cuBLAS, nothing else.
#   dist.sh BUILD VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 name=neurogen-engine-$2
to=dist/$name
rm -rf "$to" "$to.tar.xz"
mkdir -p "$to"/{bin,lib,source/{schemas,tests/{golden,hostile},tools}}

# Left behind: tests that need a second build of the engine, strace, or hours.
programs=(neurogen-engine plan corpus)
for test in "$build"/bin/test_*; do
  case ${test##*/} in test_allocation | test_disk | test_exhaustive) ;; *) programs+=("${test##*/}") ;; esac
done
for program in "${programs[@]}"; do strip -o "$to/bin/$program" "$build/bin/$program"; done

# All libraries but the C library's; OpenBLAS is loaded at run time.
openblas=$(ldconfig -p | awk '$1 == "libopenblas.so.0" && !found++ { print $NF }')
ldd "$openblas" "$to"/bin/* | awk '$2 == "=>" { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux-x86-64)\.so' | xargs cp -Lt "$to/lib"
cp -L "$openblas" "$to/lib/libopenblas.so.0"

cp tests/golden/*.safetensors "$to/source/tests/golden/"
cp tests/hostile/*.ngck "$to/source/tests/hostile/"
cp -r schemas/presets schemas/cards.json "$to/source/schemas/"
cp tools/budget-page.sh "$to/source/tools/"
cp budget.md "$to/source/"
cp README.md LICENSE THIRD_PARTY.md "$to/"
cp tools/run-tests.sh "$to/run-tests"
cp tools/test-gpu-sanitizers.sh "$to/run-sanitizers"

env -i "$to/bin/neurogen-engine" --version
tar -C dist -c --sort=name --owner=0 --group=0 "$name" | xz -T0 --lzma2=preset=6,dict=64MiB > "$to.tar.xz"
du -sh "$to" "$to.tar.xz"
