#!/usr/bin/env bash
# Packs programs, tests, their files and the libraries that a bare Linux machine lacks into dist/, as a folder and as a .tar.xz.
# The result runs on x86-64 with a glibc as new as this machine's. A GPU also needs its driver, cuBLAS and a build with CUDA=all.
#   dist.sh BUILD VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 name=neurogen-engine-$2
to=dist/$name
rm -rf "$to" "$to.tar.xz"
mkdir -p "$to"/{bin,source/{schemas,tests/{golden,hostile},tools}}

# Leaves out tests that need a second build of the engine, strace, or hours.
programs=(neurogen-engine plan corpus)
for test in "$build"/bin/test_*; do
  case ${test##*/} in test_allocation | test_disk | test_exhaustive) ;; *) programs+=("${test##*/}") ;; esac
done
for program in "${programs[@]}"; do strip -o "$to/bin/$program" "$build/bin/$program"; done

# Packs our shared libraries and all others except the C library's. The C++ library is packed too: a bare machine's may be missing or too old.
mkdir -p "$to/lib/neurogen"
strip -o "$to/lib/neurogen/libneurogen-engine.so" "$build"/lib*/neurogen/libneurogen-engine.so
cp -P "$build"/lib*/libneurogen.so* "$to/lib/"
tools/bundle.sh "$to/lib/neurogen" "$to/licences" "$build"/bin/{neurogen-engine,plan,corpus,test_*}
ldd "$build/bin/neurogen-engine" | awk '/libstdc|libgcc_s/ { print $3 }' | xargs cp -Lt "$to/lib/neurogen"

cp tests/golden/*.safetensors "$to/source/tests/golden/"
cp tests/hostile/*.ngck "$to/source/tests/hostile/"
cp -r tests/pretrained "$to/source/tests/"
cp -r schemas/presets schemas/cards.json "$to/source/schemas/"
cp tools/budget-page.sh tools/demo* "$to/source/tools/"
cp budget.md "$to/source/"
cp README.md LICENSE THIRD_PARTY.md "$to/"
cp tools/run-tests.sh "$to/run-tests"
cp tools/test-gpus.sh "$to/test-gpus"
cp tools/test-gpu-sanitizers.sh "$to/run-sanitizers"

env -i "$to/bin/neurogen-engine" --version
tar -C dist -c --sort=name --owner=0 --group=0 "$name" | xz -T0 --lzma2=preset=6,dict=64MiB > "$to.tar.xz"
du -sh "$to" "$to.tar.xz"
