#!/usr/bin/env bash
# Tests the GPU generations that cmake/cuda.cmake chooses, with a fake nvidia-smi that invents GPUs.
#   cuda.sh BUILD SOURCE
set -euo pipefail
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "cuda: $*" >&2; exit 1; }

expect() {  # ANSWER WANTED [CAPABILITY...]: what is chosen where GPUs have these capabilities
  local answer=$1 wanted=$2 got
  shift 2
  { echo '#!/bin/sh'; printf 'echo %s\n' "$@"; } > "$work/nvidia-smi"
  chmod +x "$work/nvidia-smi"
  got=$(PATH=$work:$PATH cmake -DWANTED="$wanted" -P "$source/cmake/cuda.cmake" 2>&1) || true
  [[ "$got" == *$answer* ]] || fail "CUDA=$wanted with ${*:-no GPU}: $got"
}
all='75-real;80-real;86-real;89-real;90: '
expect "$all" all
expect ': as asked' off 8.6
expect '86: as asked' 86 9.0
expect '75-real;90: as asked' '75-real;90'
[ -e /dev/nvidia0 ] || expect ': this machine has no NVIDIA GPU' native ''
expect '75-real: this machine' native 7.5
expect '86-real;90: ' native 8.6 9.0 8.6
expect '86-real: ' native 8.7  # machine code for 8.6 runs there
expect '90: ' native 12.0      # and from the newest generation's PTX, newer ones
expect ': this machine'"'"'s GPU has compute capability 6.1, and 7.5 is the oldest supported' native 6.1
expect 'use native, all, off, or generations such as 86' /usr/local/cuda
