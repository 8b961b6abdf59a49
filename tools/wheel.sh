#!/usr/bin/env bash
# Packs a build as a wheel for every Python: programs, library and module, with the shared libraries that a bare system lacks. pip
# accepts it on systems whose C library is at least as new as this one's.
#   wheel.sh BUILD [FOLDER]   into dist/, or that folder
set -euo pipefail
build=$(realpath "$1") to=$(realpath -m "${2:-dist}")
cd "$(dirname "$0")/.."
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
version=$(cached CMAKE_PROJECT_VERSION)
glibc=$(getconf GNU_LIBC_VERSION | sed 's/glibc //; s/\./_/')

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
for component in Unspecified bundle python; do
  cmake --install "$build" --strip --prefix "$stage/neurogen" --component $component > /dev/null
done
info=$stage/neurogen-$version.dist-info
mkdir "$info"
cat > "$info/METADATA" << METADATA
Metadata-Version: 2.1
Name: neurogen
Version: $version
Summary: $(sed -n 's/^description = "\(.*\)"/\1/p' pyproject.toml)
License: MIT
Requires-Python: >=3.9
Requires-Dist: numpy
METADATA
cat > "$info/WHEEL" << WHEEL
Wheel-Version: 1.0
Generator: neurogen
Root-Is-Purelib: false
Tag: py3-none-manylinux_${glibc}_$(uname -m)
WHEEL
{ echo '[console_scripts]'; sed -n '/^\[project.scripts\]/,/^$/s/^\(neurogen-[a-z]*\) = "\(.*\)"/\1 = \2/p' pyproject.toml; } > "$info/entry_points.txt"
mkdir -p "$to"
/usr/bin/python3 -m wheel pack --dest-dir "$to" "$stage"  # Debian's Python has the package wheel
