#!/usr/bin/env bash
# Copies the shared libraries that programs need, except the C and C++ library's and our own, and OpenBLAS, which is loaded at run
# time; and the copyright files of their packages.
#   bundle.sh LIBRARIES LICENCES PROGRAM...
set -euo pipefail
to=$1 licences=$2
shift 2
mkdir -p "$to" "$licences"
openblas=$(ldconfig -p | awk '$1 == "libopenblas.so.0" && !found++ { print $NF }')
# Every system has the C++ and compiler libraries, and a process (Python's) must not load two versions of them.
needed=$(ldd "$openblas" "$@" | awk '$2 == "=>" { print $1, $3 }' | sort -u |
  grep -vE '^(libc|libm|libdl|librt|libpthread|ld-linux-x86-64|libstdc\+\+|libgcc_s|libneurogen[a-z-]*)\.so')
while read -r name path; do
  cp -L "$path" "$to/$name"
  package=$(dpkg -S "$(realpath "$path")" 2> /dev/null | sed 's/:.*//') || continue
  cp "/usr/share/doc/$package/copyright" "$licences/$package"
done <<< "$needed
libopenblas.so.0 $openblas"
chmod 644 "$to"/*
