#!/usr/bin/env bash
# Installs the missing packages that building and the demonstration need on Debian 12.
#   setup.sh [tests] [PACKAGE...]   also those that all targets and the tests need, and packages by name
set -euo pipefail

packages=(
  g++ cmake ninja-build                                  # the build
  libcli11-dev libfmt-dev nlohmann-json3-dev             # command lines, text, JSON
  flatbuffers-compiler libflatbuffers-dev libxxhash-dev  # architecture files, checksums
  libmimalloc-dev libopenblas0-pthread                   # the heap, matrix products on the CPU
  libsentencepiece-dev libpcre2-dev libutf8proc-dev      # tokens
  libedit-dev                                            # line editing
  bible-kjv                                              # the demonstration's text
)
if [ "${1:-}" = tests ]; then
  shift
  packages+=(
    libgtest-dev strace binutils zsh fish                # tests
    python3-numpy                                        # the Python module
    dpkg-dev file python3-wheel python3-venv             # the package and the wheel
  )
fi
packages+=("$@")
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "setup: packages are missing: install them as root with: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
