#!/usr/bin/env bash
# Installs the wheel by pip into a fresh environment without a compiler and without the libraries that the build took from this
# system: its programs train and its module learns.
#   wheel.sh BUILD SOURCE PYTHON
set -euo pipefail
build=$(realpath "$1") source=$(realpath "$2") python=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "wheel: $*" >&2; exit 1; }

"$python" -m venv "$work/venv" > "$work/log" 2>&1 || { echo "skipped: python -m venv does not work here"; exit 0; }
/usr/bin/python3 -c 'import wheel' 2> /dev/null || { echo "skipped: python3-wheel is missing"; exit 0; }
"$source/tools/wheel.sh" "$build" "$work" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
wheel=$(echo "$work"/neurogen-*-manylinux_*_x86_64.whl)
cd "$work"  # nothing of the tree is near
PATH=/nowhere venv/bin/python -m pip install "$wheel" > log 2>&1 || {
  grep -q 'No matching distribution found for numpy\|Failed to establish' log && { echo "skipped: no package index can be reached"; exit 0; }
  cat log
  exit 1
}
bin=$work/venv/bin
for program in engine plan corpus; do
  PATH=/nowhere "$bin/neurogen-$program" --version | grep -q "^neurogen-$program " || fail "neurogen-$program does not run"
done
perl -e 'print pack("v*", map { $_ % 50 } 1 .. 200)' > text.bin
"$bin/neurogen-engine" train --arch tiny --device cpu --batch 2 --seq 32 --steps 3 --data text.bin --progress none > out || { cat out; exit 1; }
grep -q "trained 3 steps" out || fail "the program does not train: $(cat out)"
package=$("$bin/python" -c 'import neurogen, os; print(os.path.dirname(neurogen.__file__))')
"$bin/python" -c 'import neurogen, numpy
print(*neurogen.Engine(architecture="tiny", device="cpu", budget="400M", batch=1, window=8).generate(numpy.array([1, 2], numpy.int32), 3))' ||
  fail "the module does not work"

# Every library is either in the wheel or among those that manylinux expects of a system.
for file in "$package"/bin/* "$package"/_functions.so "$package"/lib/libneurogen.so "$package"/lib/neurogen/*; do
  readelf -d "$file" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p'
done | sort -u | grep -vE '^(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|ld-linux-x86-64)\.so' | while read -r needed; do
  [ -e "$package/lib/neurogen/$needed" ] || [ -e "$package/lib/$needed" ] || fail "$needed is needed, and missing"
done
du -h "$wheel" | cut -f1
